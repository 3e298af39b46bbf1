/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Bytes: a pointer and a length; and a buffer that grows up to a bound.
 *
 * Idea        Event bytes may hold NUL, so no string functions touch them. A writer appends many small
 *             pieces and asks once, at the end, whether all of them fitted.
 * Owner       mr_bytes borrows. mr_buf owns its memory (mr_alloc) from init to finish.
 * Threads     One owner at a time.
 * Errors      mr_buf: over cap_max or out of memory sets `failed` for good; what was written before
 *             stays, and every later append does nothing.
 * Invariants  I1 len <= cap <= cap_max.   I2 ptr is NULL only while cap is 0.   I3 the memory that is owned begins at
 *             ptr - head.
 */
#include "base/status.h"

#include <stdint.h>
#include <string.h>

struct mr_bytes {
    const uint8_t *ptr;
    size_t len;
};

#define MR_BYTES(literal) ((struct mr_bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline struct mr_bytes mr_bytes_of(const void *ptr, size_t len) {
    return (struct mr_bytes){ptr, len};
}

static inline struct mr_bytes mr_bytes_text(const char *text) {
    return (struct mr_bytes){(const uint8_t *)text, strlen(text)};
}

static inline bool mr_bytes_equal(struct mr_bytes a, struct mr_bytes b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* The value of a hexadecimal digit of either case; -1 for anything else. */
static inline int mr_hex_digit(uint8_t c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20; /* to lower case */
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of two hexadecimal digits; -1 when one of them is none. */
static inline int mr_hex_byte(const uint8_t *p) {
    int high = mr_hex_digit(p[0]);
    int low = high < 0 ? -1 : mr_hex_digit(p[1]);
    return low < 0 ? -1 : high << 4 | low;
}

/* <0, 0, >0 like memcmp; a proper prefix sorts first. */
int mr_bytes_compare(struct mr_bytes a, struct mr_bytes b);

struct mr_buf {
    uint8_t *ptr;
    size_t len;
    size_t cap;
    size_t cap_max;
    size_t head; /* bytes given up in front of ptr: mr_buf_drop */
    bool failed;
};

/* An empty buffer that may grow to cap_max bytes; allocates nothing yet. */
void mr_buf_init(struct mr_buf *buf, size_t cap_max);
/* Frees the memory; the buffer is empty and usable again. */
void mr_buf_finish(struct mr_buf *buf);
/* Forgets the content and the failure, keeps the memory. */
void mr_buf_clear(struct mr_buf *buf);

/* Forgets the first len bytes; those behind stay where they are, and len bytes of the capacity are gone. */
void mr_buf_drop(struct mr_buf *buf, size_t len);

/* Room for len more bytes, to be filled by the caller, who then adds to buf->len; NULL when failed. */
uint8_t *mr_buf_reserve(struct mr_buf *buf, size_t len);
void mr_buf_append(struct mr_buf *buf, const void *ptr, size_t len);
void mr_buf_append_bytes(struct mr_buf *buf, struct mr_bytes bytes);
void mr_buf_append_text(struct mr_buf *buf, const char *text);
void mr_buf_append_char(struct mr_buf *buf, char c);
void mr_buf_printf(struct mr_buf *buf, const char *format, ...) MR_PRINTF(2, 3);

static inline struct mr_bytes mr_buf_bytes(const struct mr_buf *buf) {
    return (struct mr_bytes){buf->ptr, buf->len};
}

void mr_buf_check(const struct mr_buf *buf);
