/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/timeline.h"

#include "base/alloc.h"
#include "base/check.h"

#include <string.h>

enum { TIMELINE_CHUNK = 64, HEADS_FIRST = 4 };

struct mr_timeline_chunk {
    uint32_t len;
    int64_t times[TIMELINE_CHUNK];
    void *items[TIMELINE_CHUNK];
};

void mr_timeline_init(struct mr_timeline *timeline) {
    *timeline = (struct mr_timeline){0};
}

void mr_timeline_finish(struct mr_timeline *timeline) {
    for (uint32_t c = 0; c < timeline->head_count; c++) {
        mr_free(timeline->heads[c].chunk);
    }
    mr_free(timeline->heads);
    mr_timeline_init(timeline);
}

/* The last chunk that begins at or before time, else the first one. There must be one. */
static uint32_t chunk_for(const struct mr_timeline *timeline, int64_t time) {
    uint32_t low = 0;
    uint32_t high = timeline->head_count;
    MR_ASSERT(high > 0);
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (timeline->heads[middle].first <= time) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* How many of the chunk's times are below time. */
static uint32_t rank_in(const struct mr_timeline_chunk *chunk, int64_t time) {
    uint32_t low = 0;
    uint32_t high = chunk->len;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (chunk->times[middle] < time) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void *mr_timeline_ceil(const struct mr_timeline *timeline, int64_t time) {
    if (timeline->len == 0) {
        return NULL;
    }
    uint32_t c = chunk_for(timeline, time);
    const struct mr_timeline_chunk *chunk = timeline->heads[c].chunk;
    uint32_t i = rank_in(chunk, time);
    if (i < chunk->len) {
        return chunk->items[i];
    }
    return c + 1 < timeline->head_count ? timeline->heads[c + 1].chunk->items[0] : NULL;
}

void *mr_timeline_floor(const struct mr_timeline *timeline, int64_t time) {
    if (timeline->len == 0 || timeline->heads[0].first > time) {
        return NULL;
    }
    const struct mr_timeline_chunk *chunk = timeline->heads[chunk_for(timeline, time)].chunk;
    uint32_t i = rank_in(chunk, time);
    if (i == chunk->len || chunk->times[i] != time) {
        MR_ASSERT(i > 0);
        i--;
    }
    return chunk->items[i];
}

void *mr_timeline_find(const struct mr_timeline *timeline, int64_t time) {
    if (timeline->len == 0) {
        return NULL;
    }
    const struct mr_timeline_chunk *chunk = timeline->heads[chunk_for(timeline, time)].chunk;
    uint32_t i = rank_in(chunk, time);
    return i < chunk->len && chunk->times[i] == time ? chunk->items[i] : NULL;
}

/* Puts an empty chunk at position c; its head's first time is the caller's to set. */
static struct mr_timeline_chunk *open_chunk(struct mr_timeline *timeline, uint32_t c) {
    if (timeline->head_count == timeline->head_cap) {
        uint32_t cap = timeline->head_cap == 0 ? HEADS_FIRST : timeline->head_cap * 2;
        struct mr_timeline_head *heads = mr_realloc(timeline->heads, cap * sizeof *heads);
        if (heads == NULL) {
            return NULL;
        }
        timeline->heads = heads;
        timeline->head_cap = cap;
    }
    struct mr_timeline_chunk *chunk = mr_alloc_zero(1, sizeof *chunk);
    if (chunk == NULL) {
        return NULL;
    }
    struct mr_timeline_head *at = timeline->heads + c;
    memmove(at + 1, at, (timeline->head_count - c) * sizeof *at);
    *at = (struct mr_timeline_head){.chunk = chunk};
    timeline->head_count++;
    return chunk;
}

/* Chunk c is full and time belongs into it: makes room, returns where time belongs now. Times that
 * come in order leave full chunks behind them instead of half-full ones. */
static bool split_chunk(struct mr_timeline *timeline, uint32_t c, int64_t time, uint32_t *ret) {
    struct mr_timeline_chunk *right = open_chunk(timeline, c + 1);
    if (right == NULL) {
        return false;
    }
    struct mr_timeline_chunk *left = timeline->heads[c].chunk;
    bool append = time > left->times[left->len - 1];
    uint32_t kept = append ? left->len : left->len / 2;
    right->len = left->len - kept;
    memcpy(right->times, left->times + kept, right->len * sizeof right->times[0]);
    memcpy(right->items, left->items + kept, right->len * sizeof right->items[0]);
    left->len = kept;
    timeline->heads[c + 1].first = append ? time : right->times[0];
    *ret = time >= timeline->heads[c + 1].first ? c + 1 : c;
    return true;
}

enum mr_status mr_timeline_insert(struct mr_timeline *timeline, int64_t time, void *item) {
    MR_ASSERT(item != NULL);
    uint32_t c = 0;
    if (timeline->head_count == 0) {
        if (open_chunk(timeline, 0) == NULL) {
            return MR_NO_MEMORY;
        }
    } else {
        c = chunk_for(timeline, time);
        if (timeline->heads[c].chunk->len == TIMELINE_CHUNK &&
            !split_chunk(timeline, c, time, &c)) {
            return MR_NO_MEMORY;
        }
    }
    struct mr_timeline_chunk *chunk = timeline->heads[c].chunk;
    uint32_t i = rank_in(chunk, time);
    MR_ASSERT(i == chunk->len || chunk->times[i] != time);
    memmove(chunk->times + i + 1, chunk->times + i, (chunk->len - i) * sizeof chunk->times[0]);
    memmove(chunk->items + i + 1, chunk->items + i, (chunk->len - i) * sizeof chunk->items[0]);
    chunk->times[i] = time;
    chunk->items[i] = item;
    chunk->len++;
    timeline->heads[c].first = chunk->times[0];
    timeline->len++;
    return MR_OK;
}

void mr_timeline_remove(struct mr_timeline *timeline, int64_t time) {
    uint32_t c = chunk_for(timeline, time);
    struct mr_timeline_chunk *chunk = timeline->heads[c].chunk;
    uint32_t i = rank_in(chunk, time);
    MR_ASSERT(i < chunk->len && chunk->times[i] == time);
    chunk->len--;
    timeline->len--;
    memmove(chunk->times + i, chunk->times + i + 1, (chunk->len - i) * sizeof chunk->times[0]);
    memmove(chunk->items + i, chunk->items + i + 1, (chunk->len - i) * sizeof chunk->items[0]);
    if (chunk->len > 0) {
        timeline->heads[c].first = chunk->times[0];
        return;
    }
    mr_free(chunk);
    timeline->head_count--;
    struct mr_timeline_head *at = timeline->heads + c;
    memmove(at, at + 1, (timeline->head_count - c) * sizeof *at);
}

void mr_timeline_check_scan(const struct mr_timeline *timeline) {
    uint64_t len = 0;
    int64_t last = INT64_MIN;
    for (uint32_t c = 0; c < timeline->head_count; c++) {
        const struct mr_timeline_chunk *chunk = timeline->heads[c].chunk;
        MR_ASSERT(chunk->len > 0 && chunk->len <= TIMELINE_CHUNK); /* I2 */
        MR_ASSERT(timeline->heads[c].first == chunk->times[0]);    /* I3 */
        for (uint32_t i = 0; i < chunk->len; i++) {
            MR_ASSERT(len == 0 || chunk->times[i] > last); /* I1 */
            MR_ASSERT(chunk->items[i] != NULL);
            last = chunk->times[i];
            len++;
        }
    }
    MR_ASSERT(len == timeline->len);
}
