/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Text: UTF-8 and JSON escapes, inside event/ only.
 *
 * Cost        O(n), a byte at a time: the decoder comes here only for strings that are not plain
 * ASCII.
 */
#include "base/bytes.h"

/* The byte behind the well-formed UTF-8 sequence at p, whose first byte is >= 0x80; NULL if it is
 * not one (RFC 3629: no overlong forms, no surrogates, nothing over U+10FFFF). Reads up to 3 bytes
 * on. */
static inline const uint8_t *mr_utf8_next(const uint8_t *p) {
    uint8_t a = p[0];
    if (a < 0xC2 || a > 0xF4 || (p[1] & 0xC0) != 0x80) {
        return NULL;
    }
    if (a < 0xE0) {
        return p + 2;
    }
    if ((p[2] & 0xC0) != 0x80 || (a == 0xE0 && p[1] < 0xA0) || (a == 0xED && p[1] > 0x9F)) {
        return NULL;
    }
    if (a < 0xF0) {
        return p + 3;
    }
    if ((p[3] & 0xC0) != 0x80 || (a == 0xF0 && p[1] < 0x90) || (a == 0xF4 && p[1] > 0x8F)) {
        return NULL;
    }
    return p + 4;
}

bool mr_utf8_valid(struct mr_bytes text);

/* The greatest cut <= len that does not fall into a character of the valid UTF-8 text. */
size_t mr_utf8_cut(const uint8_t *text, size_t len);

/* The four hex digits at p, or -1. */
int32_t mr_hex4(const uint8_t *p);

/* Writes a JSON string's content without its escapes; the content was checked before. Returns the
 * length, which is at most len; ret has room for len. */
size_t mr_unescape(const uint8_t *raw, size_t len, uint8_t *ret);

/* A text of at most cap - 1 bytes, built from pieces; cut at a character with an ellipsis. */
struct mr_line {
    char *text;
    size_t cap;
    size_t len;
    bool cut;
};

void mr_line_init(struct mr_line *line, char *text, size_t cap);
/* piece is valid UTF-8. */
void mr_line_add(struct mr_line *line, const void *piece, size_t len);
void mr_line_add_text(struct mr_line *line, const char *piece);
