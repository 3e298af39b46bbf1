/* SPDX-License-Identifier: Apache-2.0 */
#include "config/value.h"

#include "base/check.h"
#include "base/json.h"
#include "base/limits.h"

#include <arpa/inet.h>
#include <math.h>
#include <stdlib.h>

enum {
    DISTANCE_LEN_MAX = 64,
    ADDRESS_LEN_MAX = 64,
    DEFAULT_PORT = 8080,
    WORD_LEN_MAX = 256,
    HOST_LEN_MAX = 253
};

static bool digit(uint8_t c) {
    return c >= '0' && c <= '9';
}

/* The length of the UTF-8 character at p, 0 when it is none (also for surrogates and overlong
 * forms). */
static size_t utf8_len(const uint8_t *p, size_t len) {
    if (p[0] < 0x80) {
        return 1;
    }
    size_t need = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || need > len) {
        return 0;
    }
    for (size_t i = 1; i < need; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool beyond = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
    return overlong || beyond ? 0 : need;
}

bool mr_value_utf8(struct mr_bytes text) {
    for (size_t i = 0; i < text.len;) {
        size_t len = utf8_len(text.ptr + i, text.len - i);
        if (len == 0) {
            return false;
        }
        i += len;
    }
    return true;
}

bool mr_value_count(struct mr_bytes text, uint64_t *ret) {
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (!digit(text.ptr[i]) || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text.ptr[i] - '0'), &value)) {
            return false;
        }
    }
    if (text.len == 0) {
        return false;
    }
    *ret = value;
    return true;
}

/* Largest first, so that the first that divides is the shortest text; the powers of 1,000 are only
 * read. */
static const struct {
    const char *unit;
    uint64_t bytes;
} sizes[] = {{"TiB", UINT64_C(1) << 40},
             {"GiB", 1u << 30},
             {"MiB", 1u << 20},
             {"KiB", 1u << 10},
             {"TB", UINT64_C(1000000000000)},
             {"GB", 1000000000u},
             {"MB", 1000000u},
             {"KB", 1000u},
             {"B", 1u}};

bool mr_value_bytes(struct mr_bytes text, uint64_t *ret) {
    size_t digits = 0;
    while (digits < text.len && digit(text.ptr[digits])) {
        digits++;
    }
    uint64_t value;
    if (!mr_value_count(mr_bytes_of(text.ptr, digits), &value)) {
        return false;
    }
    struct mr_bytes unit = mr_bytes_of(text.ptr + digits, text.len - digits);
    if (unit.len == 0) {
        *ret = value;
        return true;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (mr_bytes_equal(unit, mr_bytes_text(sizes[i].unit))) {
            return !__builtin_mul_overflow(value, sizes[i].bytes, ret);
        }
    }
    return false;
}

bool mr_value_rate(struct mr_bytes text, double *ret) {
    char copy[40];
    if (text.len == 0 || text.len >= sizeof copy || !digit(text.ptr[0])) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) { /* strtod would also read 0x1p3 and 1nan */
        if (!digit(text.ptr[i]) && memchr(".eE+-", text.ptr[i], 5) == NULL) {
            return false;
        }
    }
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    char *end;
    double value = strtod(copy, &end);
    if (*end != 0 || !isfinite(value)) {
        return false;
    }
    *ret = value;
    return true;
}

bool mr_value_number(struct mr_bytes text, double *ret) {
    bool minus = text.len > 0 && text.ptr[0] == '-';
    double value;
    if (!mr_value_rate(mr_bytes_of(text.ptr + minus, text.len - minus), &value)) {
        return false;
    }
    *ret = minus && value > 0 ? -value : value;
    return true;
}

bool mr_value_identifier(struct mr_bytes text) {
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        bool start = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!start && (i == 0 || !digit(c))) {
            return false;
        }
    }
    return text.len > 0 && text.len <= MR_NAME_MAX;
}

bool mr_value_column(struct mr_bytes text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < ' ' || text.ptr[i] == 0x7f) {
            return false;
        }
    }
    return text.len > 0 && text.len <= WORD_LEN_MAX;
}

bool mr_value_name(struct mr_bytes text) {
    if (text.len == 0 || text.len > MR_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        bool start = (c >= 'a' && c <= 'z') || c == '_';
        if (!start && (i == 0 || (!digit(c) && c != '-'))) {
            return false;
        }
    }
    return true;
}

bool mr_value_word(struct mr_bytes text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] <= ' ' || text.ptr[i] == 0x7f) {
            return false;
        }
    }
    return text.len > 0 && text.len <= WORD_LEN_MAX;
}

bool mr_value_path(struct mr_bytes text) {
    if (text.len == 0 || text.len > MR_PATH_LEN_MAX) {
        return false;
    }
    size_t depth = 1;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        bool dot = c == '.';
        bool empty = dot && (i == 0 || i + 1 == text.len || text.ptr[i - 1] == '.');
        if (c < 0x20 || c == 0x7f || empty) {
            return false;
        }
        depth += dot;
    }
    return depth <= MR_PATH_DEPTH_MAX;
}

bool mr_value_sha256(struct mr_bytes text, uint8_t ret[32]) {
    while (text.len > 0 && strchr(" \t\r\n", text.ptr[0]) != NULL && text.ptr[0] != 0) {
        text = mr_bytes_of(text.ptr + 1, text.len - 1);
    }
    while (text.len > 0 && strchr(" \t\r\n", text.ptr[text.len - 1]) != NULL &&
           text.ptr[text.len - 1] != 0) {
        text.len--;
    }
    uint8_t value[32];
    if (text.len != 2 * sizeof value) {
        return false;
    }
    for (size_t i = 0; i < sizeof value; i++) {
        int byte = mr_hex_byte(text.ptr + 2 * i);
        if (byte < 0) {
            return false;
        }
        value[i] = (uint8_t)byte;
    }
    memcpy(ret, value, sizeof value);
    return true;
}

/* An address as binary; AF_UNSPEC when it is none. */
static int read_address(struct mr_bytes text, uint8_t ret[16]) {
    char copy[ADDRESS_LEN_MAX];
    if (text.len == 0 || text.len >= sizeof copy || memchr(text.ptr, 0, text.len) != NULL) {
        return AF_UNSPEC;
    }
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    if (inet_pton(AF_INET, copy, ret) == 1) {
        return AF_INET;
    }
    return inet_pton(AF_INET6, copy, ret) == 1 ? AF_INET6 : AF_UNSPEC;
}

static bool read_host(struct mr_bytes text, struct mr_bytes *ret) {
    uint8_t address[16];
    if (mr_bytes_equal(text, MR_BYTES("localhost"))) {
        *ret = MR_BYTES(
            "127.0.0.1"); /* never looked up: what we listen on must not depend on a resolver */
        return true;
    }
    bool brackets = text.len > 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']';
    struct mr_bytes host = brackets ? mr_bytes_of(text.ptr + 1, text.len - 2) : text;
    if (read_address(host, address) != (brackets ? AF_INET6 : AF_INET)) {
        return false;
    }
    *ret = host;
    return true;
}

bool mr_value_listen(struct mr_bytes text, struct mr_bytes *ret_host, uint16_t *ret_port) {
    struct mr_bytes host = text;
    uint64_t port = DEFAULT_PORT;
    struct mr_bytes port_text = text;
    const uint8_t *colon = text.len == 0 ? NULL : memrchr(text.ptr, ':', text.len);
    bool bracket_last = text.len > 0 && text.ptr[text.len - 1] == ']';
    if (colon != NULL && !bracket_last) {
        host.len = (size_t)(colon - text.ptr);
        port_text = mr_bytes_of(colon + 1, text.len - host.len - 1);
        if (!mr_value_count(port_text, &port)) {
            return false;
        }
    } else if (mr_value_count(port_text, &port)) {
        host = MR_BYTES("127.0.0.1");
    }
    if (port > UINT16_MAX || !read_host(host, &host)) {
        return false;
    }
    *ret_host = host;
    *ret_port = (uint16_t)port;
    return true;
}

/* A name for a resolver, or an IPv4 address: 10.0.0.300 is a mistake and no name. */
static bool host_name(struct mr_bytes text) {
    bool number = true;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        bool inside = (c == '-' || c == '.') && i > 0 && text.ptr[i - 1] != '.';
        if (!letter && !digit(c) && !inside) {
            return false;
        }
        number = number && (digit(c) || c == '.');
    }
    uint8_t address[16];
    return text.len > 0 && text.len <= HOST_LEN_MAX &&
           (!number || read_address(text, address) == AF_INET);
}

bool mr_value_node(struct mr_bytes text, uint16_t default_port, struct mr_bytes *ret_host,
                   uint16_t *ret_port) {
    bool v6 = text.len > 0 && text.ptr[0] == '[';
    const uint8_t *end = text.len == 0 ? NULL : memchr(text.ptr, v6 ? ']' : ':', text.len);
    if (v6 && end == NULL) {
        return false;
    }
    size_t host_len = end == NULL ? text.len : (size_t)(end - text.ptr) + v6;
    struct mr_bytes host = mr_bytes_of(text.ptr, host_len);
    uint64_t port = default_port;
    bool with_port = host_len < text.len;
    if (with_port &&
        (text.ptr[host_len] != ':' ||
         !mr_value_count(mr_bytes_of(text.ptr + host_len + 1, text.len - host_len - 1), &port))) {
        return false;
    }
    uint8_t address[16];
    bool valid = v6 ? read_address(mr_bytes_of(host.ptr + 1, host.len - 2), address) == AF_INET6
                    : host_name(host);
    if (!valid || port == 0 || port > UINT16_MAX) {
        return false;
    }
    *ret_host = host;
    *ret_port = (uint16_t)port;
    return true;
}

bool mr_value_loopback(struct mr_bytes host) {
    static const uint8_t one[16] = {[15] = 1};
    uint8_t address[16];
    int family = read_address(host, address);
    MR_ASSERT(family != AF_UNSPEC);
    return family == AF_INET ? address[0] == 127 : memcmp(address, one, sizeof one) == 0;
}

void mr_value_show_duration(int64_t ms, struct mr_buf *ret) {
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}};
    MR_ASSERT(ms >= 0);
    if (ms == 0) {
        mr_buf_append_text(ret, "0s");
        return;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (ms % units[i].ms == 0) {
            mr_buf_printf(ret, "%lld%s", (long long)(ms / units[i].ms), units[i].unit);
            return;
        }
    }
    mr_buf_printf(ret, "%lldms", (long long)ms);
}

void mr_value_show_bytes(uint64_t bytes, struct mr_buf *ret) {
    for (size_t i = 0; bytes != 0 && strlen(sizes[i].unit) == 3; i++) {
        if (bytes % sizes[i].bytes == 0) {
            mr_buf_printf(ret, "%llu%s", (unsigned long long)(bytes / sizes[i].bytes),
                          sizes[i].unit);
            return;
        }
    }
    mr_buf_printf(ret, "%llu", (unsigned long long)bytes);
}

void mr_value_show_rate(double rate, struct mr_buf *ret) {
    char text[32];
    mr_buf_append(ret, text, mr_double_text(rate, text));
}

uint32_t mr_value_distance(struct mr_bytes a, struct mr_bytes b) {
    if (a.len > DISTANCE_LEN_MAX || b.len > DISTANCE_LEN_MAX) {
        return UINT32_MAX;
    }
    size_t shorter = a.len < b.len ? a.len : b.len;
    if (shorter >= 3 && a.len != b.len && memcmp(a.ptr, b.ptr, shorter) == 0) {
        return 1;
    }
    uint32_t rows[3][DISTANCE_LEN_MAX + 1]; /* of i - 2, i - 1 and i, in turn */
    for (uint32_t j = 0; j <= b.len; j++) {
        rows[0][j] = j;
    }
    for (uint32_t i = 1; i <= a.len; i++) {
        uint32_t *now = rows[i % 3];
        const uint32_t *last = rows[(i + 2) % 3];
        const uint32_t *before = rows[(i + 1) % 3];
        now[0] = i;
        for (uint32_t j = 1; j <= b.len; j++) {
            uint32_t best = last[j - 1] + (a.ptr[i - 1] != b.ptr[j - 1]);
            best = last[j] + 1 < best ? last[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            bool swapped =
                i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1];
            if (swapped && before[j - 2] + 1 < best) {
                best = before[j - 2] + 1;
            }
            now[j] = best;
        }
    }
    return rows[a.len % 3][b.len];
}

bool mr_value_near(uint32_t distance, struct mr_bytes typed) {
    return distance < typed.len && (distance <= 1 || distance <= typed.len / 3);
}
