/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that sessions are found when there are many:
 *   1. thousands of keys that come and go: the index grows and shrinks with them, one bucket at a time, and what
 *   closes does so
 *      in order;
 *   2. thousands of sessions of one key, begun in any order: each overlap is what a look at all of them would find,
 *   the tree
 *      stays shallow; sessions that bridge them swallow as many as they should.
 */
#include "aggregate/sessions_state.h"
#include "tests/aggregate/test_sessions_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { GAP = 10, MANY = 5000 };

/* A proto-session [start, end) of key number k. */
static void merge(struct mr_sessions *s, uint64_t seq, uint32_t key, int64_t start_ms, int64_t end_ms) {
    struct mr_parcel *parcel = mr_parcel_open(seq, 0);
    int64_t value = 1;
    kit_partial(parcel, s->rule, start_ms, key, &value, 1);
    struct mr_partial *p = (struct mr_partial *)(void *)parcel->bytes.ptr;
    struct mr_session_extent extent = {end_ms, start_ms};
    memcpy(mr_partial_state(p), &extent, sizeof extent);
    assert_int_equal(mr_sessions_merge(s, seq, 0, p, p->key_hash, mr_partial_key(p)), MR_OK);
    mr_parcel_close(parcel);
}

/* Ends a bundle; returns how many panes and retractions it fired, at most `budget` a slice. */
static uint32_t end_bundle(struct mr_sessions *s, uint64_t seq, int64_t watermark_ms, uint32_t budget) {
    struct mr_flush *flush = mr_flush_open(seq);
    bool done = false;
    mr_sessions_advance(s, seq, watermark_ms, 0);
    while (!done) {
        uint32_t left = budget;
        uint32_t before = flush->pane_count;
        assert_int_equal(mr_sessions_fire(s, &left, flush, &done), MR_OK);
        assert_true(flush->pane_count - before <= budget - left);
    }
    int64_t last_ms = INT64_MIN;
    struct mr_bytes rest = mr_buf_bytes(&flush->panes);
    struct mr_pane pane;
    while (mr_pane_next(&rest, &pane)) {
        if (pane.timing == MR_TIMING_ON_TIME) {
            assert_true(pane.window_end_ms >= last_ms);
            last_ms = pane.window_end_ms;
        }
    }
    uint32_t count = flush->pane_count;
    mr_flush_close(flush);
    return count;
}

static void test_many_keys(void **state) {
    (void)state;
    struct kit_random random = {1};
    struct mr_rule rule = sk_rule(GAP, INT64_MAX, 0);
    struct mr_sessions *s;
    assert_int_equal(mr_sessions_open(&rule, 0, &s), MR_OK);
    uint64_t seq = 1;
    for (uint32_t round = 0; round < 3; round++) {
        int64_t base = 100000 * (int64_t)round;
        for (uint32_t k = 0; k < MANY; k++) {
            int64_t start = base + kit_below(&random, 50000);
            merge(s, seq, (k * 7919) % MANY + round * 1000, start, start + GAP);
            if (k % 1000 == 0) {
                mr_sessions_check_scan(s);
            }
        }
        mr_sessions_check_scan(s);
        assert_int_equal(s->keys, MANY);
        assert_in_range(s->by_key.buckets.count, MANY - 1, 2 * MANY);
        uint32_t fired = end_bundle(s, seq++, base, 1000);
        for (int64_t watermark = base; watermark <= base + 51000; watermark += 3000) {
            fired += end_bundle(s, seq++, watermark, 7);
            mr_sessions_check_scan(s);
            uint32_t budget = 300;
            (void)mr_sessions_release(s, seq, &budget);
        }
        assert_int_equal(fired, MANY);
        assert_int_equal(s->count, 0);
        assert_int_equal(s->bytes, 0);
        uint32_t budget = UINT32_MAX;
        assert_false(mr_sessions_release(s, seq, &budget));
        mr_sessions_check_scan(s);
        assert_true(s->by_key.buckets.count <= 18 && s->by_key.count == 0);
        assert_true(s->clocks[MR_SESSION_EVENT].block_count <= 2);
    }
    mr_sessions_close(s);
}

static uint32_t depth_of(const struct mr_session *root) {
    if (root == NULL) {
        return 0;
    }
    uint32_t left = depth_of(root->left);
    uint32_t right = depth_of(root->right);
    return 1 + (left > right ? left : right);
}

/* The same question to all of them. */
static const struct mr_session *naive_overlap(const struct mr_sessions *s, int64_t from, int64_t start, int64_t end) {
    const struct mr_session *best = NULL;
    for (const struct mr_session *at = s->live.first; at != NULL; at = at->links[MR_SESSION_HOME].next) {
        bool overlaps = at->start_ms >= from && at->start_ms < end && at->end_ms > start;
        best = overlaps && (best == NULL || at->start_ms < best->start_ms) ? at : best;
    }
    return best;
}

static void run_one_key(int64_t longest_ms) {
    struct kit_random random = {(uint64_t)longest_ms};
    struct mr_rule rule = sk_rule(GAP, longest_ms, 0);
    struct mr_sessions *s;
    assert_int_equal(mr_sessions_open(&rule, 0, &s), MR_OK);
    for (uint32_t n = 0; n < MANY; n++) {
        int64_t start = 3 * (int64_t)kit_below(&random, 40000);
        merge(s, 1, 0, start, start + GAP + kit_below(&random, 25));
        const struct mr_key_entry *key = s->live.first->key;
        int64_t from = kit_below(&random, 3) ? INT64_MIN : start - 100 + kit_below(&random, 200);
        int64_t first = (int64_t)kit_below(&random, 120000);
        int64_t last = first + 1 + kit_below(&random, 200);
        assert_ptr_equal(mr_session_tree_overlap(key, from, first, last), naive_overlap(s, from, first, last));
    }
    mr_sessions_check_scan(s);
    assert_true(s->count > 1000);
    assert_in_range(depth_of(s->live.first->key->root), 10, 45);
    (void)end_bundle(s, 1, 60000, 100); /* half of them are gone */
    for (uint32_t n = 0; n < 200; n++) {
        int64_t start = 60000 + (int64_t)kit_below(&random, 60000);
        int64_t len = longest_ms == INT64_MAX ? GAP + kit_below(&random, 1000) : longest_ms;
        uint64_t before = s->count;
        uint64_t overlapped = 0;
        for (const struct mr_session *at = s->live.first; at != NULL; at = at->links[MR_SESSION_HOME].next) {
            overlapped += at->start_ms < start + len && at->end_ms > start;
        }
        merge(s, 2, 0, start, start + len);
        if (longest_ms == INT64_MAX) {
            assert_int_equal(s->count, before - overlapped + 1);
        }
        assert_true(s->count <= before + 1);
    }
    mr_sessions_check_scan(s);
    uint64_t left = s->count;
    assert_int_equal(end_bundle(s, 2, INT64_MAX, 13), left);
    assert_int_equal(s->count, 0);
    mr_sessions_check_scan(s);
    mr_sessions_close(s);
}

static void test_one_key(void **state) {
    (void)state;
    run_one_key(INT64_MAX);
    run_one_key(60);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_one_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
