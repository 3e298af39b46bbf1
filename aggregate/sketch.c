/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/sketch.h"

#include "base/alloc.h"
#include "base/check.h"

enum { TEXTS_FIRST = 64, TEXTS_WORTH = 1024 };

struct mr_number mr_sketch_json(struct mr_buf *buf, struct mr_arena *scratch) {
    struct mr_number ret = {.kind = MR_NUMBER_NULL};
    if (!buf->failed) {
        struct mr_bytes copy = mr_arena_copy(scratch, mr_buf_bytes(buf));
        if (copy.ptr != NULL) {
            ret = (struct mr_number){.kind = MR_NUMBER_JSON, .len = (uint32_t)copy.len, .text = copy.ptr};
        }
    }
    mr_buf_finish(buf);
    return ret;
}

bool mr_texts_append(struct mr_texts *texts, struct mr_bytes text, uint32_t *ret_off) {
    MR_ASSERT(text.len < UINT32_MAX / 4 && texts->len < UINT32_MAX / 4);
    if (text.len > texts->cap - texts->len) {
        uint32_t cap = texts->cap == 0 ? TEXTS_FIRST : texts->cap * 2;
        while (text.len > cap - texts->len) {
            cap *= 2;
        }
        uint8_t *ptr = mr_realloc(texts->ptr, cap);
        if (ptr == NULL) {
            return false;
        }
        texts->ptr = ptr;
        texts->cap = cap;
    }
    if (text.len > 0) {
        memcpy(texts->ptr + texts->len, text.ptr, text.len);
    }
    *ret_off = texts->len;
    texts->len += (uint32_t)text.len;
    return true;
}

bool mr_texts_wasteful(const struct mr_texts *texts) {
    return texts->len > TEXTS_WORTH && texts->forgotten > texts->len / 2;
}

void mr_texts_finish(struct mr_texts *texts) {
    mr_free(texts->ptr);
    *texts = (struct mr_texts){.ptr = NULL};
}
