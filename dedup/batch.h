/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Batch: the arguments of one mr_dedup_judge, handed to the loop of its mode.
 *
 * Idea        The caller branches, the leaf loops. A leaf judges ids in order for as long as the
 *             newest generation has room for new ones, and stops before the first new id without
 *             room; the caller makes room (or evicts) and calls it again from there. So the leaf
 *             knows nothing of time, and nothing is evicted for an id that turns out to be a
 *             duplicate.
 * Owner       The pointers are the caller's, for the call.
 */
#include "dedup/dedup.h"

struct mr_dedup_batch {
    const struct mr_fingerprint *fps;
    const uint32_t *order;
    uint32_t count;
    uint8_t *duplicate;       /* by k, as order */
    const uint64_t *contents; /* by k; of a table with contents, else NULL */
};

/* How many ids before its turn an id's memory is asked for: enough for the misses to overlap (a
 * core has 10 to 16 line fill buffers), few enough to be still in the cache when its turn comes. */
#define MR_DEDUP_AHEAD 16u
