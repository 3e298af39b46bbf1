/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Timeline: things in order of a time, found by it: the windows of one rule.
 *
 * Idea        A sorted array cut into chunks, so that an insertion in the middle moves at most one
 *             chunk, and the chunks' first times lie together for the binary search. Times come
 *             nearly in order, so chunks are full.
 *
 *                 heads   | 0 | 70 | 150 |
 *                           │    │     └▶ 150 160 …
 *                           │    └▶ 70 80 … 140
 *                           └▶ 0 10 … 60                     at most TIMELINE_CHUNK each
 *
 * Owner       The caller owns the struct and the items.
 * Threads     One owner.
 * Errors      insert: MR_NO_MEMORY, nothing changed.
 * Cost        find, ceil, floor: O(log n). insert and remove: O(log n) and a move of at most one
 *             chunk; once in 32 insertions or more also of the heads behind it.
 * Invariants  I1 times ascend strictly.  I2 no chunk is empty.  I3 heads[c].first is chunk c's
 *             first time.
 */
#include "base/status.h"

#include <stdint.h>

struct mr_timeline_chunk;

struct mr_timeline_head {
    int64_t first;
    struct mr_timeline_chunk *chunk;
};

struct mr_timeline {
    struct mr_timeline_head *heads;
    uint32_t head_count;
    uint32_t head_cap;
    uint64_t len;
};

void mr_timeline_init(struct mr_timeline *timeline);
/* Forgets the items. */
void mr_timeline_finish(struct mr_timeline *timeline);

/* The item at exactly this time, or NULL. */
void *mr_timeline_find(const struct mr_timeline *timeline, int64_t time);
/* The item with the least time >= this one, or NULL. */
void *mr_timeline_ceil(const struct mr_timeline *timeline, int64_t time);
/* The item with the greatest time <= this one, or NULL. */
void *mr_timeline_floor(const struct mr_timeline *timeline, int64_t time);

/* There must be none at this time (asserted). */
enum mr_status mr_timeline_insert(struct mr_timeline *timeline, int64_t time,
                                  void *item) MR_MUST_CHECK;
/* There must be one at this time (asserted). */
void mr_timeline_remove(struct mr_timeline *timeline, int64_t time);

void mr_timeline_check_scan(const struct mr_timeline *timeline);
