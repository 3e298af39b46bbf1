/* SPDX-License-Identifier: Apache-2.0 */
#include "event/text.h"

#include "base/check.h"

bool mr_utf8_valid(struct mr_bytes text) {
    const uint8_t *p = text.ptr;
    size_t left = text.len;
    while (left > 0) {
        if (*p < 0x80) {
            p++;
            left--;
            continue;
        }
        uint8_t window[4] = {0}; /* the text may end anywhere and has no padding */
        memcpy(window, p, left < 4 ? left : 4);
        const uint8_t *next = mr_utf8_next(window);
        if (next == NULL) {
            return false;
        }
        MR_ASSERT((size_t)(next - window) <= left);
        left -= (size_t)(next - window);
        p += next - window;
    }
    return true;
}

size_t mr_utf8_cut(const uint8_t *text, size_t len) {
    while (len > 0 && (text[len] & 0xC0) == 0x80) {
        len--;
    }
    return len;
}

int32_t mr_hex4(const uint8_t *p) {
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int32_t digit = mr_hex_digit(p[i]);
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

static size_t put_utf8(uint32_t c, uint8_t *ret) {
    if (c < 0x80) {
        ret[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        ret[0] = (uint8_t)(0xC0 | c >> 6);
        ret[1] = (uint8_t)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        ret[0] = (uint8_t)(0xE0 | c >> 12);
        ret[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        ret[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    MR_ASSERT(c <= 0x10FFFF);
    ret[0] = (uint8_t)(0xF0 | c >> 18);
    ret[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    ret[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    ret[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

/* p is behind \u; *ret_used: hex digits, and those of a second escape of a surrogate pair. */
static uint32_t code_point(const uint8_t *p, size_t *ret_used) {
    int32_t first = mr_hex4(p);
    MR_ASSERT(first >= 0);
    *ret_used = 4;
    if (first < 0xD800 || first > 0xDFFF) {
        return (uint32_t)first;
    }
    int32_t second = mr_hex4(p + 6); /* \uD83D\uDE00: the second escape's digits */
    MR_ASSERT(first <= 0xDBFF && second >= 0xDC00 && second <= 0xDFFF);
    *ret_used = 10;
    return 0x10000u + ((uint32_t)(first - 0xD800) << 10) + (uint32_t)(second - 0xDC00);
}

static uint8_t short_escape(uint8_t c) {
    switch (c) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return c; /* the quote, the backslash, the slash */
    }
}

size_t mr_unescape(const uint8_t *raw, size_t len, uint8_t *ret) {
    size_t at = 0;
    size_t out = 0;
    while (at < len) {
        if (raw[at] != '\\') {
            ret[out++] = raw[at++];
            continue;
        }
        uint8_t c = raw[at + 1];
        at += 2;
        if (c == 'u') {
            size_t used = 0;
            uint32_t code = code_point(raw + at, &used);
            out += put_utf8(code, ret + out);
            at += used;
        } else {
            ret[out++] = short_escape(c);
        }
    }
    MR_ASSERT(at == len && out <= len);
    return out;
}

void mr_line_init(struct mr_line *line, char *text, size_t cap) {
    MR_ASSERT(cap >= 8); /* room for the ellipsis */
    *line = (struct mr_line){.text = text, .cap = cap};
    text[0] = 0;
}

static const char ELLIPSIS[] = "\xE2\x80\xA6";

void mr_line_add(struct mr_line *line, const void *piece, size_t len) {
    if (line->cut || len == 0) {
        return;
    }
    size_t room = line->cap - 1 - line->len;
    if (len > room) {
        line->cut = true;
        size_t keep = 0;
        if (room >= sizeof ELLIPSIS - 1) {
            keep = mr_utf8_cut(piece, room - (sizeof ELLIPSIS - 1));
        } else { /* the ellipsis takes the place of text that is already there */
            line->len = mr_utf8_cut((const uint8_t *)line->text, line->cap - sizeof ELLIPSIS);
        }
        memcpy(line->text + line->len, piece, keep);
        memcpy(line->text + line->len + keep, ELLIPSIS, sizeof ELLIPSIS);
        line->len += keep + sizeof ELLIPSIS - 1;
        MR_ASSERT(line->len < line->cap);
        return;
    }
    memcpy(line->text + line->len, piece, len);
    line->len += len;
    line->text[line->len] = 0;
}

void mr_line_add_text(struct mr_line *line, const char *piece) {
    mr_line_add(line, piece, strlen(piece));
}
