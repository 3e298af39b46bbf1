/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdarg.h>
#include <stdio.h>

enum { CAP_FIRST = 256 };

int mr_bytes_compare(struct mr_bytes a, struct mr_bytes b) {
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common == 0 ? 0 : memcmp(a.ptr, b.ptr, common);
    if (order != 0) {
        return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

void mr_buf_init(struct mr_buf *buf, size_t cap_max) {
    *buf = (struct mr_buf){.cap_max = cap_max};
}

void mr_buf_finish(struct mr_buf *buf) {
    mr_free(buf->ptr == NULL ? NULL : buf->ptr - buf->head);
    mr_buf_init(buf, buf->cap_max);
}

void mr_buf_clear(struct mr_buf *buf) {
    buf->len = 0;
    buf->failed = false;
}

void mr_buf_drop(struct mr_buf *buf, size_t len) {
    MR_ASSERT(len <= buf->len);
    buf->ptr += len; /* of NULL only 0, which it stays */
    buf->head += len;
    buf->len -= len;
    buf->cap -= len;
}

static bool grow(struct mr_buf *buf, size_t need) {
    size_t cap = buf->cap == 0 ? CAP_FIRST : buf->cap;
    while (cap < need) {
        cap *= 2;
    }
    cap = cap > buf->cap_max ? buf->cap_max : cap;
    uint8_t *ptr = buf->head == 0 ? mr_realloc(buf->ptr, cap) : mr_alloc(cap);
    if (ptr == NULL) {
        return false;
    }
    if (buf->head > 0) {
        memcpy(ptr, buf->ptr, buf->len);
        mr_free(buf->ptr - buf->head);
        buf->head = 0;
    }
    buf->ptr = ptr;
    buf->cap = cap;
    return true;
}

uint8_t *mr_buf_reserve(struct mr_buf *buf, size_t len) {
    if (buf->failed) {
        return NULL;
    }
    if (len > buf->cap_max - buf->len) {
        buf->failed = true;
        return NULL;
    }
    if (buf->len + len > buf->cap || buf->ptr == NULL) {
        if (!grow(buf, buf->len + len)) {
            buf->failed = true;
            return NULL;
        }
    }
    return buf->ptr + buf->len;
}

void mr_buf_append(struct mr_buf *buf, const void *ptr, size_t len) {
    if (len == 0) {
        return;
    }
    uint8_t *room = mr_buf_reserve(buf, len);
    if (room != NULL) {
        memcpy(room, ptr, len);
        buf->len += len;
    }
}

void mr_buf_append_bytes(struct mr_buf *buf, struct mr_bytes bytes) {
    mr_buf_append(buf, bytes.ptr, bytes.len);
}

void mr_buf_append_text(struct mr_buf *buf, const char *text) {
    mr_buf_append(buf, text, strlen(text));
}

void mr_buf_append_char(struct mr_buf *buf, char c) {
    mr_buf_append(buf, &c, 1);
}

void mr_buf_printf(struct mr_buf *buf, const char *format, ...) {
    va_list args;
    va_list again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    MR_ASSERT(len >= 0);
    uint8_t *room = mr_buf_reserve(buf, (size_t)len + 1); /* vsnprintf writes a NUL behind the text */
    if (room != NULL) {
        (void)vsnprintf((char *)room, (size_t)len + 1, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
    va_end(args);
}

void mr_buf_check(const struct mr_buf *buf) {
    MR_ASSERT(buf->len <= buf->cap);
    MR_ASSERT(buf->cap <= buf->cap_max);
    MR_ASSERT(buf->ptr != NULL || (buf->cap == 0 && buf->head == 0));
}
