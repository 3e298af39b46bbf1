/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * State: what is inside a mr_dedup, for the files that it is made of (dedup.c, saved.c, load.c,
 * layout.c). The contract is dedup/dedup.h.
 */
#include "dedup/blooming.h"
#include "dedup/dedup.h"
#include "dedup/exact.h"
#include "dedup/generations.h"
#include "dedup/journal.h"

enum { MR_DEDUP_TAGS_IN_CYCLE = 255 };

#define MR_DEDUP_IDS_MAX_MAX    (UINT64_C(1) << 40)
#define MR_DEDUP_HORIZON_MAX_MS (INT64_C(100) * 366 * 86400 * 1000)

struct mr_loading;

struct mr_dedup {
    /* constant after open */
    struct mr_dedup_options options;
    uint64_t ids_cap; /* ids_max and the headroom */
    uint64_t bytes_planned;
    /* state; exact or blooming by options.mode */
    struct mr_generations gens;
    struct mr_exact exact;
    struct mr_blooming blooming;
    struct mr_journal journal;
    struct mr_loading *loading; /* between load_begin and load_end, else NULL */
    /* written by the owner, read by any thread */
    struct mr_dedup_stats stats;
};

/* Tags go around 1 to 255; at most MR_GENERATIONS_LIVE_MAX ordinals are live, so theirs differ. */
static inline uint8_t mr_dedup_tag_of(uint64_t ordinal) {
    return (uint8_t)(1 + ordinal % MR_DEDUP_TAGS_IN_CYCLE);
}

/* Forgets what recorded time has left behind. */
void mr_dedup_forget_expired(struct mr_dedup *dedup);
void mr_dedup_update_stats(struct mr_dedup *dedup);
