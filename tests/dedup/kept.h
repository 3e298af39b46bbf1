/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Kept: what a checkpoint would have on disk: the chunks of one dedup in the order in which they
 * were taken, and how many of them counted when its state was saved.
 */
#include "dedup/dedup.h"

#include "base/alloc.h"
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct kept {
    struct mr_dedup_chunk **chunks;
    uint32_t count;
    uint32_t cap;
};

struct snapshot {
    struct mr_buf blob;
    uint32_t chunks; /* of kept */
};

static inline void kept_free(struct kept *kept) {
    for (uint32_t i = 0; i < kept->count; i++) {
        mr_free(kept->chunks[i]);
    }
    mr_free(kept->chunks);
    *kept = (struct kept){0};
}

static inline void kept_take(struct kept *kept, struct mr_dedup *dedup, bool all) {
    struct mr_dedup_chunk *chunk = mr_dedup_take(dedup, all);
    while (chunk != NULL) {
        if (kept->count == kept->cap) {
            kept->cap = kept->cap * 2 + 16;
            kept->chunks = mr_realloc(kept->chunks, kept->cap * sizeof kept->chunks[0]);
            assert_non_null(kept->chunks);
        }
        struct mr_dedup_chunk *next = chunk->next;
        assert_true(chunk->count > 0 && chunk->count <= chunk->cap);
        assert_true(chunk->cap <= MR_DEDUP_CHUNK_IDS);
        chunk->next = NULL;
        kept->chunks[kept->count++] = chunk;
        chunk = next;
    }
}

/* Forgets those behind the first `count`: they were written after the save. */
static inline void kept_cut(struct kept *kept, uint32_t count) {
    while (kept->count > count) {
        mr_free(kept->chunks[--kept->count]);
    }
}

/* Removes some of those that nobody needs any more. */
static inline void kept_prune(struct kept *kept, uint64_t first_generation, struct rng *rng) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < kept->count; i++) {
        bool needed = kept->chunks[i]->generation >= first_generation;
        if (needed || rng_below(rng, 2) == 0) {
            kept->chunks[left++] = kept->chunks[i];
        } else {
            mr_free(kept->chunks[i]);
        }
    }
    kept->count = left;
}

static inline void kept_shuffle(struct kept *kept, struct rng *rng) {
    for (uint32_t i = kept->count; i > 1; i--) {
        uint32_t k = (uint32_t)rng_below(rng, i);
        struct mr_dedup_chunk *chunk = kept->chunks[i - 1];
        kept->chunks[i - 1] = kept->chunks[k];
        kept->chunks[k] = chunk;
    }
}

static inline struct mr_dedup *dedup_open(const struct mr_dedup_options *options) {
    struct mr_dedup *dedup = NULL;
    struct mr_error error;
    assert_int_equal(mr_dedup_open(options, &dedup, &error), MR_OK);
    return dedup;
}

static inline struct mr_bytes snapshot_save(struct snapshot *snapshot, struct kept *kept,
                                            struct mr_dedup *dedup) {
    kept_take(kept, dedup, true);
    snapshot->chunks = kept->count;
    mr_buf_init(&snapshot->blob, 1 << 20);
    mr_dedup_save(dedup, &snapshot->blob);
    assert_false(snapshot->blob.failed);
    uint64_t first = 0;
    assert_int_equal(mr_dedup_saved_first(mr_buf_bytes(&snapshot->blob), &first), MR_OK);
    assert_true(first == mr_dedup_first_generation(dedup));
    return mr_buf_bytes(&snapshot->blob);
}

/* Gives all chunks, each in pieces. */
static inline enum mr_status kept_load_ids(const struct kept *kept, struct mr_dedup *dedup,
                                           struct rng *rng, struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; i < kept->count && status == MR_OK; i++) {
        const struct mr_dedup_chunk *chunk = kept->chunks[i];
        const uint64_t *contents = mr_dedup_chunk_contents(chunk);
        for (uint32_t from = 0; from < chunk->count && status == MR_OK;) {
            uint32_t n = (uint32_t)(1 + rng_below(rng, chunk->count - from));
            status = mr_dedup_load_ids(dedup, 0, chunk->generation, chunk->ids + from,
                                       contents == NULL ? NULL : contents + from, n, error);
            from += n;
        }
    }
    return status;
}

static inline enum mr_status kept_load(const struct kept *kept, struct mr_dedup *dedup,
                                       struct mr_bytes blob, struct rng *rng,
                                       struct mr_error *error) {
    enum mr_status status = mr_dedup_load_begin(dedup, &blob, 1, error);
    if (status == MR_OK) {
        status = kept_load_ids(kept, dedup, rng, error);
    }
    return status == MR_OK ? mr_dedup_load_end(dedup, false, error) : status;
}

/* As a process that ends and another that starts: a new dedup with these options. */
static inline struct mr_dedup *kept_restart(struct kept *kept, struct mr_dedup *dedup,
                                            const struct mr_dedup_options *options,
                                            struct rng *rng) {
    struct snapshot snapshot;
    struct mr_bytes blob = snapshot_save(&snapshot, kept, dedup);
    mr_dedup_close(dedup);
    struct mr_dedup *next = dedup_open(options);
    struct mr_error error;
    assert_int_equal(kept_load(kept, next, blob, rng, &error), MR_OK);
    mr_buf_finish(&snapshot.blob);
    mr_dedup_check_scan(next);
    mr_dedup_journal(next, true);
    return next;
}

static inline void judge_ids(struct mr_dedup *dedup, const uint32_t *ids, uint32_t count,
                             uint8_t *duplicate) {
    enum { MOST = 128 };
    struct mr_fingerprint fps[MOST];
    uint32_t order[MOST];
    assert_true(count <= MOST);
    for (uint32_t i = 0; i < count; i++) {
        fps[i] = fp_of(ids[i], FP_RANDOM);
        order[i] = i;
    }
    assert_int_equal(mr_dedup_reserve(dedup, count), MR_OK);
    mr_dedup_judge(dedup, fps, order, count, duplicate);
}

static inline bool judge_id(struct mr_dedup *dedup, uint32_t id) {
    uint8_t duplicate = 2;
    judge_ids(dedup, &id, 1, &duplicate);
    assert_in_range(duplicate, 0, 1);
    return duplicate == 1;
}

static inline bool seen_id(const struct mr_dedup *dedup, uint32_t id) {
    int64_t ms[3];
    return mr_dedup_seen(dedup, fp_of(id, FP_RANDOM), &ms[0], &ms[1], &ms[2]);
}

/* Everything that can be asked is the same of both. */
static inline void assert_same(const struct mr_dedup *a, const struct mr_dedup *b, struct rng *rng,
                               int64_t now_ms, int64_t span_ms, uint32_t pool) {
    mr_dedup_check_scan(a);
    mr_dedup_check_scan(b);
    assert_true(mr_dedup_state_hash_scan(a) == mr_dedup_state_hash_scan(b));
    const struct mr_dedup_stats *x = mr_dedup_stats(a);
    const struct mr_dedup_stats *y = mr_dedup_stats(b);
    assert_int_equal(mr_counter_read(&x->live_ids), mr_counter_read(&y->live_ids));
    assert_int_equal(mr_counter_read(&x->evicted_ids), mr_counter_read(&y->evicted_ids));
    assert_int_equal(mr_counter_read(&x->expired_ids), mr_counter_read(&y->expired_ids));
    assert_int_equal(mr_counter_read(&x->generation), mr_counter_read(&y->generation));
    assert_int_equal(mr_counter_read(&x->bytes), mr_counter_read(&y->bytes));
    assert_true(mr_dedup_first_generation(a) == mr_dedup_first_generation(b));
    for (uint32_t i = 0; i < 3; i++) {
        int64_t ms = now_ms + (int64_t)rng_below(rng, (uint64_t)span_ms * 2 + 2);
        assert_true(mr_dedup_room(a, ms) == mr_dedup_room(b, ms));
        assert_true(mr_dedup_due(a, ms) == mr_dedup_due(b, ms));
        struct mr_fingerprint fp = fp_of(rng_below(rng, pool), FP_RANDOM);
        int64_t s[3] = {-1, -1, -1};
        int64_t t[3] = {-1, -1, -1};
        assert_true(mr_dedup_seen(a, fp, &s[0], &s[1], &s[2]) ==
                    mr_dedup_seen(b, fp, &t[0], &t[1], &t[2]));
        assert_memory_equal(s, t, sizeof s);
    }
}
