/* SPDX-License-Identifier: Apache-2.0 */
#include "server/guard.h"

#include "base/check.h"

/* Headers that may come once only: two of them would be two meanings. */
enum single {
    SINGLE_CONTENT_LENGTH,
    SINGLE_TRANSFER_ENCODING,
    SINGLE_HOST,
    SINGLE_AUTHORIZATION,
    SINGLE_CONTENT_TYPE,
    SINGLE_CONTENT_ENCODING,
    SINGLE_EXPECT,
    SINGLE_COUNT
};

#define NAME(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

static const struct {
    struct mr_bytes name;
    const char *twice;
} singles[SINGLE_COUNT] = {
    [SINGLE_CONTENT_LENGTH] = {NAME("content-length"), "more than one Content-Length header"},
    [SINGLE_TRANSFER_ENCODING] = {NAME("transfer-encoding"), "more than one Transfer-Encoding header"},
    [SINGLE_HOST] = {NAME("host"), "more than one Host header"},
    [SINGLE_AUTHORIZATION] = {NAME("authorization"), "more than one Authorization header"},
    [SINGLE_CONTENT_TYPE] = {NAME("content-type"), "more than one Content-Type header"},
    [SINGLE_CONTENT_ENCODING] = {NAME("content-encoding"), "more than one Content-Encoding header"},
    [SINGLE_EXPECT] = {NAME("expect"), "more than one Expect header"},
};

static const struct {
    const char *name;
    enum mr_method method;
} methods[] = {
    {"POST", MR_METHOD_POST},     {"GET", MR_METHOD_GET},       {"HEAD", MR_METHOD_HEAD},
    {"DELETE", MR_METHOD_DELETE}, {"PUT", MR_METHOD_COUNT},     {"PATCH", MR_METHOD_COUNT},
    {"OPTIONS", MR_METHOD_COUNT}, {"CONNECT", MR_METHOD_COUNT}, {"TRACE", MR_METHOD_COUNT},
};

static bool is_token_byte(uint8_t c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-') {
        return true; /* what names are made of; the rest is rare */
    }
    return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_token(struct mr_bytes text) {
    for (size_t i = 0; i < text.len; i++) {
        if (!is_token_byte(text.ptr[i])) {
            return false;
        }
    }
    return text.len > 0;
}

static uint8_t lower(uint8_t c) {
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

static bool is_name(struct mr_bytes given, struct mr_bytes name) {
    if (given.len != name.len) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        if (lower(given.ptr[i]) != name.ptr[i]) {
            return false;
        }
    }
    return true;
}

bool mr_header_is(struct mr_bytes given, const char *name) {
    return is_name(given, mr_bytes_text(name));
}

bool mr_percent_decode(struct mr_bytes text, struct mr_buf *ret) {
    size_t at = 0;
    while (at < text.len) {
        const uint8_t *escape = memchr(text.ptr + at, '%', text.len - at);
        size_t plain = escape == NULL ? text.len - at : (size_t)(escape - (text.ptr + at));
        mr_buf_append(ret, text.ptr + at, plain);
        at += plain;
        if (at == text.len) {
            break;
        }
        int byte = text.len - at < 3 ? -1 : mr_hex_byte(text.ptr + at + 1);
        if (byte < 0) {
            return false;
        }
        mr_buf_append_char(ret, (char)(unsigned char)byte);
        at += 3;
    }
    return true;
}

static bool refuse(struct mr_guard_refusal *ret, unsigned int status, const char *detail) {
    MR_ASSERT(status >= 400 && detail != NULL);
    *ret = (struct mr_guard_refusal){status, detail};
    return false;
}

static bool check_method(struct mr_bytes method, struct mr_guard_facts *ret,
                         struct mr_guard_refusal *ret_refusal) {
    if (!is_token(method)) {
        return refuse(ret_refusal, 400, "the method is not a token");
    }
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (mr_bytes_equal(method, mr_bytes_text(methods[i].name))) {
            ret->method = methods[i].method;
            return true;
        }
    }
    return refuse(ret_refusal, 501, "unknown method; expected GET, HEAD, POST or DELETE");
}

/* "." and ".." with each dot as itself or as %2e:  /a/.%2E/b
 *                                                     ^^^^       */
static bool is_dots(struct mr_bytes segment) {
    uint32_t dots = 0;
    size_t at = 0;
    while (at < segment.len) {
        if (segment.ptr[at] == '.') {
            at++;
        } else if (segment.len - at >= 3 && memcmp(segment.ptr + at, "%2", 2) == 0 &&
                   lower(segment.ptr[at + 2]) == 'e') {
            at += 3;
        } else {
            return false;
        }
        dots++;
    }
    return dots == 1 || dots == 2;
}

static bool has_escape_twice(const uint8_t *ptr, size_t left) {
    return left >= 6 && memcmp(ptr, "%2", 2) == 0 && lower(ptr[2]) == 'e' &&
           memcmp(ptr + 3, "%2", 2) == 0 && lower(ptr[5]) == 'e';
}

static const char *path_fault(struct mr_bytes path) {
    MR_ASSERT(path.len > 0 && path.ptr[0] == '/');
    size_t start = 1;
    for (size_t i = 1; i <= path.len; i++) {
        if (i == path.len || path.ptr[i] == '/') {
            if (i == start && i < path.len) {
                return "an empty segment (//) in the path";
            }
            if (is_dots(mr_bytes_of(path.ptr + start, i - start))) {
                return "a dot segment in the path";
            }
            start = i + 1;
        } else if (path.len - i >= 3 && memcmp(path.ptr + i, "%00", 3) == 0) {
            return "a NUL (%00) in the path";
        } else if (has_escape_twice(path.ptr + i, path.len - i)) {
            return "encoded dots (%2e%2e) in the path";
        }
    }
    return NULL;
}

static bool check_uri(struct mr_bytes uri, struct mr_guard_facts *ret,
                      struct mr_guard_refusal *ret_refusal) {
    if (uri.len > MR_GUARD_URI_MAX) {
        return refuse(ret_refusal, 414, "the URI is longer than 8192 bytes");
    }
    if (uri.len == 0 || uri.ptr[0] != '/') {
        return refuse(ret_refusal, 400, "the request target is not a path; expected /...");
    }
    size_t path_len = uri.len;
    for (size_t i = 0; i < uri.len; i++) {
        uint8_t c = uri.ptr[i];
        if (c <= ' ' || c >= 0x7f || c == '#') {
            return refuse(ret_refusal, 400, "a byte in the URI that must be percent-encoded");
        }
        if (c == '%' && (uri.len - i < 3 || mr_hex_byte(uri.ptr + i + 1) < 0)) {
            return refuse(ret_refusal, 400, "a percent sign in the URI without two hex digits");
        }
        if (c == '?' && path_len == uri.len) {
            path_len = i;
        }
    }
    ret->path = mr_bytes_of(uri.ptr, path_len);
    bool has_query = path_len < uri.len;
    ret->query = has_query ? mr_bytes_of(uri.ptr + path_len + 1, uri.len - path_len - 1)
                           : mr_bytes_of(uri.ptr + uri.len, 0);
    const char *fault = path_fault(ret->path);
    return fault == NULL || refuse(ret_refusal, 400, fault);
}

static bool is_clean_value(struct mr_bytes value) {
    for (size_t i = 0; i < value.len; i++) {
        if ((value.ptr[i] < ' ' && value.ptr[i] != '\t') || value.ptr[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool parse_length(struct mr_bytes text, uint64_t *ret) {
    uint64_t value = 0;
    if (text.len == 0 || text.len > 18) { /* 18 digits cannot overflow */
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    *ret = value;
    return true;
}

/* Sorts out the headers that may come once: found[s] is the value, its ptr NULL when absent. */
static bool collect_headers(const struct mr_guard_input *input, struct mr_bytes found[SINGLE_COUNT],
                            struct mr_guard_refusal *ret_refusal) {
    size_t bytes = 0;
    if (input->header_count > MR_GUARD_HEADERS_MAX) {
        return refuse(ret_refusal, 431, "more than 64 header fields");
    }
    for (uint32_t i = 0; i < input->header_count; i++) {
        const struct mr_header *header = &input->headers[i];
        bytes += header->name.len + header->value.len;
        if (bytes > MR_GUARD_HEADER_BYTES_MAX) {
            return refuse(ret_refusal, 431, "header fields of more than 16384 bytes");
        }
        if (!is_token(header->name)) {
            return refuse(ret_refusal, 400, "a header name that is not a token");
        }
        if (!is_clean_value(header->value)) {
            return refuse(ret_refusal, 400, "a control byte in a header value");
        }
        for (int s = 0; s < SINGLE_COUNT; s++) {
            if (!is_name(header->name, singles[s].name)) {
                continue;
            }
            if (found[s].ptr != NULL) {
                return refuse(ret_refusal, 400, singles[s].twice);
            }
            found[s] = header->value.ptr != NULL ? header->value : MR_BYTES("");
        }
    }
    return true;
}

static bool check_framing(const struct mr_bytes found[SINGLE_COUNT], bool http10,
                          struct mr_guard_facts *ret, struct mr_guard_refusal *ret_refusal) {
    struct mr_bytes length = found[SINGLE_CONTENT_LENGTH];
    struct mr_bytes encoding = found[SINGLE_TRANSFER_ENCODING];
    if (length.ptr != NULL && !parse_length(length, &ret->content_length)) {
        return refuse(ret_refusal, 400, "Content-Length is not a number of bytes");
    }
    if (encoding.ptr != NULL && (http10 || !mr_header_is(encoding, "chunked"))) {
        return refuse(ret_refusal, 400, "Transfer-Encoding other than chunked");
    }
    if (length.ptr != NULL && encoding.ptr != NULL) {
        return refuse(ret_refusal, 400, "both Content-Length and Transfer-Encoding");
    }
    ret->has_length = length.ptr != NULL;
    ret->chunked = encoding.ptr != NULL;
    return true;
}

bool mr_guard_passes(const struct mr_guard_input *input, struct mr_guard_facts *ret,
                     struct mr_guard_refusal *ret_refusal) {
    struct mr_bytes found[SINGLE_COUNT] = {{0}};
    struct mr_guard_facts facts = {.method = MR_METHOD_COUNT};
    bool http10 = mr_bytes_equal(input->version, MR_BYTES("HTTP/1.0"));
    if (!http10 && !mr_bytes_equal(input->version, MR_BYTES("HTTP/1.1"))) {
        return refuse(ret_refusal, 505, "expected HTTP/1.1 or HTTP/1.0");
    }
    if (!check_method(input->method, &facts, ret_refusal) ||
        !check_uri(input->uri, &facts, ret_refusal) ||
        !collect_headers(input, found, ret_refusal) ||
        !check_framing(found, http10, &facts, ret_refusal)) {
        return false;
    }
    if (!http10 && found[SINGLE_HOST].ptr == NULL) {
        return refuse(ret_refusal, 400, "no Host header");
    }
    if (found[SINGLE_HOST].ptr != NULL &&
        memchr(found[SINGLE_HOST].ptr, ' ', found[SINGLE_HOST].len)) {
        return refuse(ret_refusal, 400, "a space in the Host header");
    }
    if (found[SINGLE_EXPECT].ptr != NULL) {
        if (!mr_header_is(found[SINGLE_EXPECT], "100-continue")) {
            return refuse(ret_refusal, 417, "Expect other than 100-continue");
        }
        facts.expect_continue = !http10;
    }
    MR_ASSERT(!(facts.has_length && facts.chunked));
    *ret = facts;
    return true;
}
