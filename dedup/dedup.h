/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Dedup: which events were seen before: verdicts = f(state, fingerprints), for one stream on one shard.
 *
 * Idea        Batches: all slots are computed and prefetched before the first is probed, so that cache
 *             misses overlap. Time is cut into generations; an id carries the generation of its first
 *             sight; forgetting is moving the oldest live generation on, and a sweep cleans up behind.
 *
 *                  generation:   5   6   7   8  …  21
 *                                └ oldest live     └ current        (MR_DEDUP_GENERATIONS + 1 live)
 *
 * Units       recorded_ms: the recorded time of bundles (never event time). A generation is
 *             horizon_ms / MR_DEDUP_GENERATIONS long, at least 1 ms, rounded up.
 * Semantics   First sight counts: a duplicate does not extend the horizon. An id is remembered for at
 *             least horizon_ms and at most one generation more of recorded time. Deterministic: a
 *             function of the sequence of calls alone.
 * Owner       One shard thread. mr_dedup_stats may be read from any thread.
 * Errors      open: MR_NO_MEMORY, MR_INVALID with a text. judge cannot fail: the caller has made sure of
 *             room (mr_dedup_room) before the records were appended; without room in mode `reject` it
 *             asserts. when_full evict_oldest: the oldest generation is forgotten early, and counted.
 * Cost        exact: at most 24 bytes per id of ids_max, all in; judge <= 40 ns an id at 64 M ids.
 * Invariants  I1 live ids <= ids_max (+ 5 % headroom).   I2 an id is live in one generation only.
 */
#include "base/counters.h"
#include "base/hash.h"

#define MR_DEDUP_GENERATIONS 16 /* live beside the current one; 1/16 of the horizon is the imprecision */

enum mr_dedup_mode {
    MR_DEDUP_EXACT,
    MR_DEDUP_BLOOM,
    MR_DEDUP_NONE,
};

enum mr_when_full { MR_WHEN_FULL_REJECT, MR_WHEN_FULL_EVICT_OLDEST };

struct mr_dedup_options {
    enum mr_dedup_mode mode;
    enum mr_when_full when_full;
    int64_t horizon_ms;
    uint64_t ids_max; /* of this shard */
    double error;     /* bloom: false-positive share at ids_max, over all live generations together */
};

struct mr_dedup_stats {
    mr_counter live_ids; /* bloom: inserted ids of live generations */
    mr_counter bytes;
    mr_counter evicted_ids;
    mr_counter expired_ids;
    mr_counter generation;        /* number of the current generation, from 0 */
    mr_counter error_ppb;         /* bloom: estimated false positives in 10^-9 */
    mr_counter fill_ppm;          /* exact: occupied share of slots; bloom: fill of the fullest filter */
};

struct mr_dedup;

enum mr_status mr_dedup_open(const struct mr_dedup_options *options, struct mr_dedup **ret,
                             struct mr_error *error) MR_MUST_CHECK;
void mr_dedup_close(struct mr_dedup *dedup);

/* Moves recorded time to now (never back: a smaller value changes nothing). Called before judge. */
void mr_dedup_advance(struct mr_dedup *dedup, int64_t recorded_ms);

/* Judges fps[order[0]], fps[order[1]], … in this order and remembers the new ones. duplicate[k] becomes
 * 1 when the id was live already (also through an earlier k of this call), else 0. */
void mr_dedup_judge(struct mr_dedup *dedup, const struct mr_fingerprint *fps, const uint32_t *order,
                    uint32_t count, uint8_t *duplicate);

/* How many more new ids fit for certain at recorded time recorded_ms; UINT64_MAX where there is no bound
 * (none, evict_oldest). Owner only. */
uint64_t mr_dedup_room(const struct mr_dedup *dedup, int64_t recorded_ms);

/* Whether moving recorded time to recorded_ms would forget at least one id (a TICK is worth it). */
bool mr_dedup_due(const struct mr_dedup *dedup, int64_t recorded_ms);

/* Was this id seen? Reads only. Times are those of the id's generation: [*ret_from_ms, *ret_to_ms) holds
 * its first sight; it is remembered until *ret_until_ms at least. */
bool mr_dedup_seen(const struct mr_dedup *dedup, struct mr_fingerprint fp, int64_t *ret_from_ms,
                   int64_t *ret_to_ms, int64_t *ret_until_ms);

/* A little of the background sweep; judge does its share by itself. Returns whether more is left. */
bool mr_dedup_sweep(struct mr_dedup *dedup, uint32_t slots);

const struct mr_dedup_stats *mr_dedup_stats(const struct mr_dedup *dedup);
/* A hash of everything remembered, independent of slot order: for tests and replay comparison. O(n). */
uint64_t mr_dedup_state_hash_scan(const struct mr_dedup *dedup);
void mr_dedup_check_scan(const struct mr_dedup *dedup);

/* Bytes that open will take for these options: for `millrace check`. */
uint64_t mr_dedup_bytes_planned(const struct mr_dedup_options *options);
