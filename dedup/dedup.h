/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Dedup: which events were seen before: verdicts = f(state, fingerprints), for one stream on one
 * shard.
 *
 * Idea        Batches: all slots are computed and prefetched before the first is probed, so that
 *             cache misses overlap. Time is cut into generations; an id carries the generation of
 *             its first sight; forgetting is moving the oldest live generation on, and a sweep
 *             cleans up behind.
 *
 *                  generation:   5   6   7   8  …  21
 *                                └ oldest live     └ current        (MR_DEDUP_GENERATIONS + 1 live)
 *
 * Units       recorded_ms: the recorded time of bundles (never event time), not negative. A
 *             generation is horizon_ms / MR_DEDUP_GENERATIONS long, at least 1 ms, rounded up; its
 *             cuts are multiples of that length since the epoch. A generation ends early, and the
 *             next begins within the same time, when it is full: 1/32 of the room in exact with
 *             evict_oldest, 1/4 in bloom.
 * Semantics   First sight counts: a duplicate does not extend the horizon. An id is remembered for
 *             at least horizon_ms and at most one generation more of recorded time. Deterministic:
 *             a function of the sequence of calls alone; neither how ids are cut into calls of
 *             judge nor the sweep matters.
 *             bloom: a generation is 1/MR_DEDUP_BLOOM_GENERATIONS of the horizon, because each
 *             lookup tests all live filters. An id seen within the horizon is never taken for new;
 *             a new id is taken for seen with a share of at most `error`, whatever the pattern of
 *             arrival.
 * Contents    exact may keep a hash of the content that came first with each id (options.contents), so that a duplicate
 *             says whether it is a copy or a conflict: the same id with another content. What came first stays what
 *             it is compared with. Of ids that were loaded without a content none is known, and nothing conflicts.
 * Owner       One shard thread. mr_dedup_stats may be read from any thread.
 * Errors      open: MR_NO_MEMORY, MR_INVALID with a text. judge cannot fail: the caller has made
 *             sure of room (mr_dedup_room) before the records were appended; without room in mode
 *             `reject` it asserts. when_full evict_oldest: when the room is full and a new id
 *             comes, the oldest generation is forgotten early, and counted. exact: the newest
 *             ids_max ids within the horizon are remembered even so; bloom: the newest 3/4 of
 *             ids_max.
 * Cost        exact: at most 24 bytes per id of ids_max, all in (36 with contents); judge <= 40 ns an id at 64 M ids.
 *             bloom: dedup/blooming.h says how many bytes.
 * Invariants  I1 live ids <= ids_max (+ 5 % headroom, + 1).   I2 an id is live in one generation
 *             only.
 */
#include "base/counters.h"
#include "base/hash.h"

/* Live beside the current one: 1/16 of the horizon is the imprecision. bloom has fewer. */
#define MR_DEDUP_GENERATIONS       16
#define MR_DEDUP_BLOOM_GENERATIONS 4

enum mr_dedup_mode {
    MR_DEDUP_EXACT,
    MR_DEDUP_BLOOM,
    MR_DEDUP_NONE,
};

/* What judge says of an id. */
enum mr_dedup_found {
    MR_DEDUP_NEW,
    MR_DEDUP_DUPLICATE,
    MR_DEDUP_CONFLICT, /* a duplicate with another content; only where contents are kept */
};

enum mr_when_full { MR_WHEN_FULL_REJECT, MR_WHEN_FULL_EVICT_OLDEST };

struct mr_dedup_options {
    enum mr_dedup_mode mode;
    enum mr_when_full when_full;
    int64_t horizon_ms;
    uint64_t ids_max; /* of this shard, 1 to 2^40 */
    double error;     /* bloom: false-positive share at ids_max, over all live generations together;
                       * 1e-7 to 0.5 */
    bool contents;    /* exact: hashes of contents are kept, and judge_contents is called instead of judge */
};

struct mr_dedup_stats {
    mr_counter live_ids; /* bloom: inserted ids of live generations */
    mr_counter bytes;
    mr_counter evicted_ids;
    mr_counter expired_ids;
    mr_counter generation; /* number of the current generation, from 0 */
    mr_counter error_ppb;  /* bloom: estimated false positives in 10^-9 */
    mr_counter fill_ppm;   /* exact: occupied share of slots; bloom: fill of the fullest filter */
};

struct mr_dedup;

enum mr_status mr_dedup_open(const struct mr_dedup_options *options, struct mr_dedup **ret,
                             struct mr_error *error) MR_MUST_CHECK;
void mr_dedup_close(struct mr_dedup *dedup);

/* Moves recorded time to now (never back: a smaller value changes nothing). Called before judge. */
void mr_dedup_advance(struct mr_dedup *dedup, int64_t recorded_ms);

/* Judges fps[order[0]], fps[order[1]], … in this order and remembers the new ones. duplicate[k]
 * becomes 1 when the id was live already (also through an earlier k of this call), else 0. */
void mr_dedup_judge(struct mr_dedup *dedup, const struct mr_fingerprint *fps, const uint32_t *order,
                    uint32_t count, uint8_t *duplicate);

/* The same where contents are kept: contents[k] is a hash of what came with fps[order[k]], 0 when that is not known;
 * duplicate[k] becomes an enum mr_dedup_found. */
void mr_dedup_judge_contents(struct mr_dedup *dedup, const struct mr_fingerprint *fps, const uint64_t *contents,
                             const uint32_t *order, uint32_t count, uint8_t *duplicate);

/* How many more new ids fit for certain at recorded time recorded_ms; UINT64_MAX where there is no
 * bound (none, evict_oldest). Owner only. */
uint64_t mr_dedup_room(const struct mr_dedup *dedup, int64_t recorded_ms);

/* Whether moving recorded time to recorded_ms would forget at least one id (a TICK is worth it). */
bool mr_dedup_due(const struct mr_dedup *dedup, int64_t recorded_ms);

/* Was this id seen? Reads only. Times are those of the id's generation: [*ret_from_ms, *ret_to_ms)
 * holds its first sight; it is remembered until *ret_until_ms at least (when its generation is not
 * evicted, and does not end early because it is full). The times are written only when it was. bloom: perhaps by mistake. */
bool mr_dedup_seen(const struct mr_dedup *dedup, struct mr_fingerprint fp, int64_t *ret_from_ms,
                   int64_t *ret_to_ms, int64_t *ret_until_ms);

/* A little of the background sweep; judge does its share by itself. Returns whether more is left.
 * For idle moments: no answer depends on it. slots: of the table, or blocks of 32 bytes of a
 * filter. */
bool mr_dedup_sweep(struct mr_dedup *dedup, uint32_t slots);

const struct mr_dedup_stats *mr_dedup_stats(const struct mr_dedup *dedup);
/* A hash of everything remembered, independent of slot order: for tests and replay comparison.
 * O(n). */
uint64_t mr_dedup_state_hash_scan(const struct mr_dedup *dedup);
void mr_dedup_check_scan(const struct mr_dedup *dedup);

/* Bytes that open will take for these options: for `millrace check`. */
uint64_t mr_dedup_bytes_planned(const struct mr_dedup_options *options);

/*
 * Journal: the ids that were new, for a checkpoint. While it is on, each id that judge remembers is
 * also written into chunks, in order; a checkpoint's part files hold these chunks, and a start
 * rebuilds the table from them.
 *
 *     judge ──▶ | chunk: generation 7 | chunk: generation 7 | chunk: generation 8, being filled |
 *                 └──────── mr_dedup_take(all = false) ───┘
 *
 * A chunk holds ids of one generation, with their contents where these are kept; generations never decrease, except
 * while loading. With the
 * journal on, mr_dedup_reserve must be called before judge with at least its count, or the count of
 * several calls with no advance between them; judge then cannot fail.
 */
#define MR_DEDUP_CHUNK_IDS 4096u

struct mr_dedup_chunk {
    struct mr_dedup_chunk *next;
    uint64_t generation; /* ordinal */
    uint32_t count;
    uint32_t cap;
    bool contents;
    struct mr_fingerprint ids[]; /* count; with contents, count times 8 bytes of them lie directly behind these */
};

/* Of a chunk that was taken: NULL without contents; and its ids (and contents) in bytes, from ids on. */
static inline const uint64_t *mr_dedup_chunk_contents(const struct mr_dedup_chunk *chunk) {
    return chunk->contents ? (const uint64_t *)(const void *)(chunk->ids + chunk->count) : NULL;
}
static inline size_t mr_dedup_chunk_bytes(const struct mr_dedup_chunk *chunk) {
    return chunk->count * (sizeof chunk->ids[0] + (chunk->contents ? sizeof(uint64_t) : 0));
}

void mr_dedup_journal(struct mr_dedup *dedup, bool on);
enum mr_status mr_dedup_reserve(struct mr_dedup *dedup, uint32_t count) MR_MUST_CHECK;
/* The chunks that are complete, oldest first, or (all) also the one being filled. The caller frees
 * each with mr_free. NULL: none. */
struct mr_dedup_chunk *mr_dedup_take(struct mr_dedup *dedup, bool all);

/* What a checkpoint needs besides the ids, in base/pack.h: mode, horizon, generations and how many
 * ids each has, recorded time, counters. Complete when ret has not failed. */
void mr_dedup_save(const struct mr_dedup *dedup, struct mr_buf *ret);

/*
 * Loading, into a dedup just opened: begin, then ids of each saved chunk (any order; those of
 * generations that were forgotten since they were written are skipped), then end. Afterwards every
 * answer is as if there had been no break.
 *
 * Changed options: dedup.ids may grow, and shrink as long as the live ids fit (MR_FULL with a text
 * otherwise: with evict_oldest the oldest generations are evicted instead). A longer horizon holds
 * at once for all that is still remembered. A shorter one readmits nothing: the old horizon and its
 * generations stay in force until every generation begun under it has been forgotten; then the new
 * one begins. when_full may change. exact and bloom cannot become each other (MR_MISMATCH with a
 * text that says how to go on); none can become either and the reverse: nothing is remembered from
 * before. Contents may be kept from now on, or no more. Generations from before stay as large as they
 * were: until they are forgotten, evict_oldest forgets as many ids at once.
 *
 * Another number of shards: `saved` are the blobs of all old shards. The ids that the caller passes
 * are those of this new shard, tagged with old shard and generation; generations of equal [from,
 * to) become one, and if there are too many (evict_oldest, bloom; also after changes of options)
 * neighbours are joined: an id is then remembered longer, never shorter. The journal is to be switched on between begin and the
 * first ids: what is loaded is then written into chunks as well, under the generations that this
 * new shard has, in the order in which it comes; take between the calls. Chunks of before are then
 * of no use any more.
 *
 * Errors: MR_CORRUPT with a text: the blob cannot be read, or (same number of shards) a generation
 * did not get as many ids as it had. MR_NO_MEMORY. After an error only close.
 */
enum mr_status mr_dedup_load_begin(struct mr_dedup *dedup, const struct mr_bytes *saved,
                                   uint32_t saved_count, struct mr_error *error) MR_MUST_CHECK;
/* contents: NULL, or by id; 0 is one that is not known. */
enum mr_status mr_dedup_load_ids(struct mr_dedup *dedup, uint32_t saved, uint64_t generation,
                                 const struct mr_fingerprint *ids, const uint64_t *contents, uint32_t count,
                                 struct mr_error *error) MR_MUST_CHECK;
/* moved: the ids were divided anew, so counts of generations are not compared; counters begin
 * anew. */
enum mr_status mr_dedup_load_end(struct mr_dedup *dedup, bool moved,
                                 struct mr_error *error) MR_MUST_CHECK;
/* The oldest generation that is still live in a saved blob: chunks of older ones need not be kept;
 * UINT64_MAX: nothing is remembered. MR_CORRUPT. */
enum mr_status mr_dedup_saved_first(struct mr_bytes saved, uint64_t *ret_first) MR_MUST_CHECK;
/* The same of a living one. Owner only. */
uint64_t mr_dedup_first_generation(const struct mr_dedup *dedup);
