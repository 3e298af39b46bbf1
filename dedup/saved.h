/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Saved: what mr_dedup_save writes, read back and checked.
 *
 * Shape       base/pack.h: format u32, mode u32, count u32 (of generations), apart u32; horizon_ms,
 *             next_horizon_ms, next_at, ids_each_max, recorded_ms, evicted_ids, expired_ids, first,
 *             each 8 bytes; then for each generation, oldest first: name, from_ms, to_ms, ids. The
 *             fields are those of mr_generations and mr_blooming.
 * Errors      MR_CORRUPT with a text. What is read keeps the invariants of dedup/generations.h,
 *             whatever the bytes are; how many ids there really are the caller compares.
 */
#include "dedup/dedup.h"
#include "dedup/generations.h"

struct mr_saved {
    enum mr_dedup_mode mode;
    uint32_t count;
    uint32_t apart;
    int64_t horizon_ms;
    int64_t next_horizon_ms;
    uint64_t next_at;
    uint64_t ids_each_max;
    int64_t recorded_ms;
    uint64_t evicted_ids;
    uint64_t expired_ids;
    uint64_t first;
    struct mr_generation gens[MR_GENERATIONS_LIVE_MAX];
    uint64_t names[MR_GENERATIONS_LIVE_MAX];
};

enum mr_status mr_saved_read(struct mr_bytes bytes, struct mr_saved *ret,
                             struct mr_error *error) MR_MUST_CHECK;
