/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Blooming: rotating split-block filters, one a generation.
 *
 * Idea        An id is tested in each live filter and set in the newest. Forgetting a generation
 *             frees its filter; clearing it is background work.
 *
 *                 filters:  | live 7 | live 9 | clean | live 8 | being cleared |  …  (FILTERS)
 *
 * Shape       4 full filters hold ids_max; a generation ends early when its filter
 *             is full. At most 4 full ones are live, and one not full in each of the 5 slots of
 *             time that are live at once (4 cuts of the horizon and the current one): 9 filters,
 *             allocated at open. Pages are taken from the machine when first written; the lowest
 *             clean filter is taken first, so an even load uses 5 or 6 of them for good.
 *
 * Apart       Filters that a start with other options found (dedup.h, Loading) are apart: the 9 come
 *             on top of them, and they are freed when they are forgotten. At most 8 are: the ids
 *             are put together into at most 5 spans of time (dedup/layout.h), each with full
 *             filters and one that is not; with one of those there are at most 3 full ones.
 *
 * Error       Each filter is made for ids_max / 4 ids and a quarter of the error. The
 *             false-positive share of a filter grows faster than its ids, so filters with fewer ids
 *             give less than their part: for any arrival pattern the sum over live filters of
 *             error(ids_i) <= sum of (error / 4) * ids_i / (ids_max / 4) <= error.
 * Owner       The caller's struct.
 * Threads     One owner.
 * Errors      open: MR_NO_MEMORY, MR_INVALID (the error is out of bounds for mr_bloom_open).
 * Cost        A line an id and live filter, prefetched. Bytes an id of ids_max: 3.3 at error 1e-2,
 *             5.5 at 1e-3, 10 at 1e-4, 16 at 1e-5; below 1e-6 the exact table is smaller.
 * Invariants  I1 a filter is live, clean, or cleared up to clean_blocks.   I2 live ones are in the
 *             ring.
 */
#include "bloom/bloom.h"
#include "dedup/batch.h"
#include "dedup/generations.h"

enum {
    MR_BLOOMING_CUTS = 4,
    MR_BLOOMING_FULL = 4,
    MR_BLOOMING_FILTERS = MR_BLOOMING_FULL + MR_BLOOMING_CUTS + 1,
    MR_BLOOMING_SPANS = 5,
    MR_BLOOMING_APART_MAX = MR_BLOOMING_FULL - 1 + MR_BLOOMING_SPANS,
    MR_BLOOMING_FILTERS_MAX = MR_BLOOMING_FILTERS + MR_BLOOMING_APART_MAX,
};

struct mr_blooming_filter {
    struct mr_bloom *bloom;  /* NULL: no filter here, all is 0 */
    uint64_t clean_blocks; /* when not live: blocks [0, clean_blocks) are cleared */
    double error;          /* as last measured */
    double fill;
    bool live;
};

struct mr_blooming {
    struct mr_blooming_filter filters[MR_BLOOMING_FILTERS_MAX];
    uint32_t live[MR_BLOOMING_FILTERS_MAX]; /* indexes, oldest first */
    uint32_t live_count;
    uint32_t apart;        /* of these the oldest are */
    uint64_t ids_each;     /* of one filter, when full */
    double error_each;     /* then */
    uint64_t blocks;       /* of one filter */
    uint64_t ids_measured; /* new ids since the newest filter was measured */
};

/* How many ids a generation takes, for mr_generations_init. */
uint64_t mr_blooming_ids_each(uint64_t ids_max);
uint64_t mr_blooming_bytes_planned(uint64_t ids_max, double error);

enum mr_status mr_blooming_open(struct mr_blooming *blooming, uint64_t ids_max,
                                double error) MR_MUST_CHECK;
void mr_blooming_close(struct mr_blooming *blooming);

/* A new newest generation, empty. Clears what the background work has not. */
void mr_blooming_push(struct mr_blooming *blooming);
/* Forgets the oldest generation. */
void mr_blooming_pop_oldest(struct mr_blooming *blooming);

/* As mr_exact_judge; new ids go into the newest filter (new_max 0: none does). */
uint32_t mr_blooming_judge(struct mr_blooming *blooming, const struct mr_dedup_batch *batch,
                           uint32_t from, uint64_t new_max, uint64_t *ret_new);
/* The oldest live generation that has it, 0 for the oldest there is; live_count when none has. */
uint32_t mr_blooming_find(const struct mr_blooming *blooming, struct mr_fingerprint fp);

/* Clears up to `blocks` blocks of filters that are not live. Returns whether more is left. */
bool mr_blooming_sweep(struct mr_blooming *blooming, uint64_t blocks);

/* The false-positive share of all live filters together, and the fill of the fullest. The newest
 * filter is measured now and then while it fills (at most 16 times, at least when it ends). */
double mr_blooming_error(const struct mr_blooming *blooming);
double mr_blooming_fill(const struct mr_blooming *blooming);
/* What the filters apart take, on top of bytes_planned. */
uint64_t mr_blooming_bytes_apart(const struct mr_blooming *blooming);

/* For loading: a filter, empty, that is taken until load_drop or load_end; ids of one generation
 * for it, at most ids_each. MR_NO_MEMORY. */
enum mr_status mr_blooming_load_take(struct mr_blooming *blooming,
                                     uint32_t *ret_filter) MR_MUST_CHECK;
void mr_blooming_load_ids(struct mr_blooming *blooming, uint32_t filter,
                          const struct mr_fingerprint *ids, uint32_t count);
void mr_blooming_load_drop(struct mr_blooming *blooming, uint32_t filter);
/* filters[0 .. count) are all that are taken, oldest first; they are live from now on, and the
 * first `apart` of them are apart. MR_NO_MEMORY: only close. */
enum mr_status mr_blooming_load_end(struct mr_blooming *blooming, const uint32_t *filters,
                                    uint32_t count, uint32_t apart) MR_MUST_CHECK;

/* A hash of the bits of live generation i, 0 for the oldest. O(bytes). */
uint64_t mr_blooming_hash_scan(const struct mr_blooming *blooming, uint32_t i);
void mr_blooming_check_scan(const struct mr_blooming *blooming);
