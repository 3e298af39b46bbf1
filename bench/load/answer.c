/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/answer.h"

#include "bench/load/reader.h"

#include <strings.h>

enum { HEAD_MAX = 64 << 10, STATUS_LINE_MIN = 12, DETAIL_MAX = 300 };

struct head {
    struct mr_bytes line; /* what is left of the head, from the next line on */
    bool chunked;
    bool has_length;
    uint64_t length;
};

static bool name_is(struct mr_bytes name, const char *wanted) {
    return name.len == strlen(wanted) && strncasecmp((const char *)name.ptr, wanted, name.len) == 0;
}

/* Leading digits of base 10 or 16; false when there are none, or too many. */
static bool read_number(struct mr_bytes text, uint32_t base, uint64_t *ret) {
    uint64_t value = 0;
    size_t i = 0;
    for (; i < text.len && i < 15; i++) {
        int digit = mr_hex_digit(text.ptr[i]);
        if (digit < 0 || (uint32_t)digit >= base) {
            break;
        }
        value = value * base + (uint64_t)digit;
    }
    *ret = value;
    return i > 0 && i < 15;
}

/* Moves over one line; false at the end. */
static bool next_line(struct mr_bytes *rest, struct mr_bytes *ret_line) {
    const uint8_t *newline = rest->len == 0 ? NULL : memchr(rest->ptr, '\n', rest->len);
    if (newline == NULL) {
        return false;
    }
    size_t len = (size_t)(newline - rest->ptr);
    *ret_line = mr_bytes_of(rest->ptr, len > 0 && rest->ptr[len - 1] == '\r' ? len - 1 : len);
    *rest = mr_bytes_of(newline + 1, rest->len - len - 1);
    return true;
}

static void take_header(struct mr_bytes line, struct head *head, struct mr_load_answer *ret) {
    const uint8_t *colon = memchr(line.ptr, ':', line.len);
    if (colon == NULL) {
        return;
    }
    struct mr_bytes name = mr_bytes_of(line.ptr, (size_t)(colon - line.ptr));
    struct mr_bytes value = mr_bytes_of(colon + 1, line.len - name.len - 1);
    while (value.len > 0 && value.ptr[0] == ' ') {
        value = mr_bytes_of(value.ptr + 1, value.len - 1);
    }
    uint64_t number;
    if (name_is(name, "content-length")) {
        head->has_length = read_number(value, 10, &head->length);
    } else if (name_is(name, "transfer-encoding")) {
        head->chunked = name_is(value, "chunked");
    } else if (name_is(name, "connection")) {
        ret->close = name_is(value, "close");
    } else if (name_is(name, "retry-after") && read_number(value, 10, &number) && number < 86400) {
        ret->retry_after_s = (uint32_t)number;
    } else if (name_is(name, "x-next-cursor")) {
        ret->cursor = value;
    }
}

/* MR_OK: rest is behind the last chunk. */
static enum mr_status read_chunks(struct mr_bytes *rest, struct mr_buf *chunks) {
    for (;;) {
        struct mr_bytes line;
        uint64_t len;
        if (!next_line(rest, &line)) {
            return MR_AGAIN;
        }
        if (!read_number(line, 16, &len)) {
            return MR_INVALID;
        }
        if (len == 0) {
            break;
        }
        if (rest->len < len + 2) {
            return MR_AGAIN;
        }
        mr_buf_append(chunks, rest->ptr, len);
        *rest = mr_bytes_of(rest->ptr + len + 2, rest->len - len - 2);
    }
    struct mr_bytes trailer;
    do {
        if (!next_line(rest, &trailer)) {
            return MR_AGAIN;
        }
    } while (trailer.len > 0);
    return chunks->failed ? MR_NO_MEMORY : MR_OK;
}

static enum mr_status read_body(struct mr_bytes rest, const struct head *head, struct mr_buf *chunks,
                                struct mr_bytes all, struct mr_load_answer *ret) {
    if (head->chunked) {
        mr_buf_clear(chunks);
        enum mr_status status = read_chunks(&rest, chunks);
        ret->body = mr_buf_bytes(chunks);
        ret->len = (size_t)(rest.ptr - all.ptr);
        return status;
    }
    if (!head->has_length && ret->status != 204 && ret->status != 304) {
        return MR_INVALID;
    }
    if (rest.len < head->length) {
        return MR_AGAIN;
    }
    ret->body = mr_bytes_of(rest.ptr, head->length);
    ret->len = (size_t)(rest.ptr - all.ptr) + head->length;
    return MR_OK;
}

enum mr_status mr_load_answer_read(struct mr_bytes bytes, struct mr_buf *chunks,
                                   struct mr_load_answer *ret) {
    struct mr_load_answer answer = {0};
    struct head head = {0};
    struct mr_bytes rest = bytes;
    struct mr_bytes line;
    uint64_t status;
    if (!next_line(&rest, &line)) {
        return bytes.len > HEAD_MAX ? MR_INVALID : MR_AGAIN;
    }
    if (line.len < STATUS_LINE_MIN || memcmp(line.ptr, "HTTP/1.", 7) != 0 ||
        !read_number(mr_bytes_of(line.ptr + 9, line.len - 9), 10, &status)) {
        return MR_INVALID;
    }
    answer.status = (uint32_t)status;
    do {
        if (!next_line(&rest, &line)) {
            return bytes.len > HEAD_MAX ? MR_INVALID : MR_AGAIN;
        }
        take_header(line, &head, &answer);
    } while (line.len > 0);
    enum mr_status read = read_body(rest, &head, chunks, bytes, &answer);
    if (read == MR_OK) {
        *ret = answer;
    }
    return read;
}

struct mr_bytes mr_load_answer_detail(const struct mr_load_answer *answer) {
    struct mr_bytes detail;
    if (mr_load_member(answer->body, "detail", &detail)) {
        return mr_load_unquoted(detail);
    }
    return mr_bytes_of(answer->body.ptr, answer->body.len < DETAIL_MAX ? answer->body.len : DETAIL_MAX);
}
