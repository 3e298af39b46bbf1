/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include "base/check.h"

enum { DEPTH_MAX = 63, INT_TEXT_MAX = 20 };

void mr_json_init(struct mr_json *json, struct mr_buf *buf) {
    *json = (struct mr_json){.buf = buf};
}

/* Called before every value and key: the comma if one is due. */
static void item_begin(struct mr_json *json) {
    uint64_t bit = UINT64_C(1) << json->depth;
    if (json->has_item & bit) {
        MR_ASSERT(json->depth > 0); /* a text has one outermost value */
        mr_buf_append_char(json->buf, ',');
    }
    json->has_item |= bit;
}

static void value_begin(struct mr_json *json) {
    if (json->after_key) {
        json->after_key = false;
    } else {
        item_begin(json);
    }
}

static void nest_begin(struct mr_json *json, char bracket) {
    value_begin(json);
    mr_buf_append_char(json->buf, bracket);
    MR_ASSERT(json->depth < DEPTH_MAX);
    json->depth++;
    json->has_item &= ~(UINT64_C(1) << json->depth);
}

static void nest_end(struct mr_json *json, char bracket) {
    MR_ASSERT(json->depth > 0);
    MR_ASSERT(!json->after_key);
    json->depth--;
    mr_buf_append_char(json->buf, bracket);
}

void mr_json_object_begin(struct mr_json *json) {
    nest_begin(json, '{');
}

void mr_json_object_end(struct mr_json *json) {
    nest_end(json, '}');
}

void mr_json_array_begin(struct mr_json *json) {
    nest_begin(json, '[');
}

void mr_json_array_end(struct mr_json *json) {
    nest_end(json, ']');
}

static bool is_plain(uint8_t c) {
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* Whether some byte of x is below n (1 to 128); bytes >= 128 count as not below. */
static uint64_t any_below(uint64_t x, uint8_t n) {
    return (x - UINT64_MAX / 255 * n) & ~x & UINT64_MAX / 255 * 0x80;
}

/* How many bytes at the front need no escape, by eights while there are eight. */
static size_t plain_run(const uint8_t *at, size_t len) {
    const uint64_t ones = UINT64_MAX / 255;
    size_t run = 0;
    for (; len - run >= 8; run += 8) {
        uint64_t x;
        memcpy(&x, at + run, sizeof x);
        if ((x & ones * 0x80) | any_below(x, 0x20) | any_below(x ^ ones * '"', 1) |
            any_below(x ^ ones * '\\', 1)) {
            break;
        }
    }
    while (run < len && is_plain(at[run])) {
        run++;
    }
    return run;
}

static bool is_continuation(uint8_t c, uint8_t least, uint8_t most) {
    return c >= least && c <= most;
}

/* The length of the sequence at the front of text, whose first byte is >= 0x80; *ret_valid false
 * when it is not UTF-8: then the length is that of the longest beginning of a valid sequence, at
 * least 1, so that each becomes one U+FFFD (Unicode 15, table 3-7 and "substitution of maximal
 * subparts"). */
static size_t utf8_sequence(struct mr_bytes text, bool *ret_valid) {
    uint8_t first = text.ptr[0];
    size_t len = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    uint8_t least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    uint8_t most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    *ret_valid = false;
    if (first < 0xC2 || first > 0xF4) {
        return 1;
    }
    for (size_t i = 1; i < len; i++) {
        if (i == text.len || !is_continuation(text.ptr[i], least, most)) {
            return i;
        }
        least = 0x80;
        most = 0xBF;
    }
    *ret_valid = true;
    return len;
}

static void append_escape(struct mr_buf *buf, uint8_t c) {
    static const char shorts[128] = {['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
                                     ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't'};
    static const char hex[] = "0123456789abcdef";
    MR_ASSERT(c < 0x80);
    if (shorts[c] != 0) {
        char text[2] = {'\\', shorts[c]};
        mr_buf_append(buf, text, sizeof text);
    } else {
        char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        mr_buf_append(buf, text, sizeof text);
    }
}

static void append_string(struct mr_buf *buf, struct mr_bytes text) {
    mr_buf_append_char(buf, '"');
    size_t run = 0; /* where the bytes begin that are appended as they are */
    size_t at = 0;
    while (at < text.len) {
        at += plain_run(text.ptr + at, text.len - at);
        if (at == text.len) {
            break;
        }
        uint8_t c = text.ptr[at];
        bool valid = false;
        size_t len = 1;
        if (c >= 0x80) {
            len = utf8_sequence(mr_bytes_of(text.ptr + at, text.len - at), &valid);
        }
        if (!valid) {
            mr_buf_append(buf, text.ptr + run, at - run);
            run = at + len;
            if (c >= 0x80) {
                mr_buf_append(buf, "\xEF\xBF\xBD", 3);
            } else {
                append_escape(buf, c);
            }
        }
        at += len;
    }
    if (run < at) {
        mr_buf_append(buf, text.ptr + run, at - run);
    }
    mr_buf_append_char(buf, '"');
}

void mr_json_key_bytes(struct mr_json *json, struct mr_bytes key) {
    MR_ASSERT(json->depth > 0);
    MR_ASSERT(!json->after_key);
    item_begin(json);
    append_string(json->buf, key);
    mr_buf_append_char(json->buf, ':');
    json->after_key = true;
}

void mr_json_key(struct mr_json *json, const char *key) {
    mr_json_key_bytes(json, mr_bytes_text(key));
}

void mr_json_string(struct mr_json *json, struct mr_bytes text) {
    value_begin(json);
    append_string(json->buf, text);
}

void mr_json_text(struct mr_json *json, const char *text) {
    mr_json_string(json, mr_bytes_text(text));
}

/* Writes to the end of ret; returns where the digits begin. */
static char *uint_text(uint64_t value, char ret[INT_TEXT_MAX]) {
    char *at = ret + INT_TEXT_MAX;
    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return at;
}

void mr_json_uint(struct mr_json *json, uint64_t value) {
    char text[INT_TEXT_MAX];
    char *at = uint_text(value, text);
    value_begin(json);
    mr_buf_append(json->buf, at, (size_t)(text + INT_TEXT_MAX - at));
}

void mr_json_int(struct mr_json *json, int64_t value) {
    char text[INT_TEXT_MAX];
    char *at = uint_text(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, text);
    if (value < 0) {
        MR_ASSERT(at > text); /* the magnitude of an int64 has at most 19 digits */
        *--at = '-';
    }
    value_begin(json);
    mr_buf_append(json->buf, at, (size_t)(text + INT_TEXT_MAX - at));
}

void mr_json_double(struct mr_json *json, double value) {
    char text[32];
    size_t len = mr_double_text(value, text);
    value_begin(json);
    mr_buf_append(json->buf, text, len);
}

void mr_json_bool(struct mr_json *json, bool value) {
    value_begin(json);
    mr_buf_append_text(json->buf, value ? "true" : "false");
}

void mr_json_null(struct mr_json *json) {
    value_begin(json);
    mr_buf_append_text(json->buf, "null");
}

void mr_json_raw(struct mr_json *json, struct mr_bytes text) {
    MR_ASSERT(text.len > 0);
    value_begin(json);
    mr_buf_append_bytes(json->buf, text);
}
