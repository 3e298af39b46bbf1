/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what the list of heavy keys says, against exact counts of the same events:
 *   1. while everything is counted (few events) each count is at least the truth and at most its error above it, the
 *      error is at most total / MR_HOT_KEYS, every key above that is there, and the total is exact: zipfian and uniform
 *      keys, partials of one event and of many;
 *   2. with many events, where only samples are, the shares of heavy keys are right to within the noise, also when the
 *      keys come in the same order again and again, and a partial that is many steps long counts in full;
 *   3. halving: counts, total and error halve, what is nothing goes, a long silence empties the list, and what comes
 *      later overtakes what was;
 *   4. a new key takes over the least counter, its count becomes the error; long keys and empty ones are kept whole;
 *   5. combine feeds it with what its rows have: keys, the overflow group, nothing of what was dropped;
 *   6. memory that runs out leaves the total right.
 */
#include "aggregate/hot.h"
#include "base/alloc.h"
#include "base/key.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { KEYS = 1000 };

static uint64_t hash_of(uint32_t key) {
    return mr_hash64(mr_bytes_of(&key, sizeof key), 42);
}

static void add(struct mr_hot *hot, uint32_t key, uint64_t events) {
    mr_hot_add(hot, hash_of(key), mr_bytes_of(&key, sizeof key), events);
}

static const struct mr_hot_counter *counter_of(const struct mr_hot *hot, uint32_t key) {
    for (uint32_t i = 0; i < hot->used; i++) {
        if (hot->counters[i].hash == hash_of(key)) {
            assert_int_equal(hot->counters[i].key_len, sizeof key);
            assert_memory_equal(hot->counters[i].key, &key, sizeof key);
            return &hot->counters[i];
        }
    }
    return NULL;
}

static uint64_t count_of(const struct mr_hot *hot, uint32_t key) {
    const struct mr_hot_counter *c = counter_of(hot, key);
    return c == NULL ? 0 : c->count;
}

/* Keys with shares as 1/rank, or all the same. */
static uint32_t pick(struct kit_random *random, bool zipf) {
    static double upto[KEYS];
    if (!zipf) {
        return kit_below(random, KEYS);
    }
    for (uint32_t i = 0; upto[KEYS - 1] == 0 && i < KEYS; i++) {
        upto[i] = (i == 0 ? 0 : upto[i - 1]) + 1.0 / (i + 1);
    }
    double at = (double)kit_below(random, 1 << 30) / (1 << 30) * upto[KEYS - 1];
    uint32_t key = 0;
    while (key + 1 < KEYS && upto[key] < at) {
        key++;
    }
    return key;
}

static void expect_bounds(const struct mr_hot *hot, const uint64_t *exact, uint64_t total) {
    assert_int_equal(hot->step, 1);
    assert_int_equal(hot->total, total);
    for (uint32_t k = 0; k < KEYS; k++) {
        const struct mr_hot_counter *c = counter_of(hot, k);
        if (c == NULL) {
            assert_true(exact[k] <= total / MR_HOT_KEYS);
            continue;
        }
        assert_true(c->count >= exact[k]);
        assert_true(c->count - c->error <= exact[k]);
        assert_true(c->error <= total / MR_HOT_KEYS);
    }
}

static void test_bounds(void **state) {
    (void)state;
    struct kit_random random = {20261122};
    for (uint32_t round = 0; round < 60; round++) {
        struct mr_hot hot;
        uint64_t exact[KEYS] = {0};
        uint64_t total = 0;
        assert_int_equal(mr_hot_init(&hot), MR_OK);
        uint32_t most = round % 3 == 0 ? 1 : 5;
        for (;;) {
            uint32_t key = pick(&random, round % 2 == 0);
            uint64_t events = 1 + kit_below(&random, most);
            if (total + events >= MR_HOT_SAMPLES) {
                break;
            }
            add(&hot, key, events);
            exact[key] += events;
            total += events;
            mr_hot_check(&hot);
        }
        expect_bounds(&hot, exact, total);
        mr_hot_finish(&hot);
    }
}

static double share(const struct mr_hot *hot, uint32_t key) {
    return (double)count_of(hot, key) / (double)hot->total;
}

/* Space-Saving may give each counter total / MR_HOT_KEYS too much; the noise of MR_HOT_SAMPLES / 2 samples and more is
 * 0.022 at most (a standard deviation), of which five are allowed for. */
static void expect_share(const struct mr_hot *hot, uint32_t key, double truth) {
    const struct mr_hot_counter *c = counter_of(hot, key);
    double over = c == NULL ? 0 : (double)c->error / (double)hot->total;
    assert_true(share(hot, key) > truth - 0.11);
    assert_true(share(hot, key) - over < truth + 0.11);
}

static void test_samples(void **state) {
    (void)state;
    struct kit_random random = {7};
    for (uint32_t round = 0; round < 6; round++) {
        struct mr_hot hot;
        uint64_t exact[KEYS] = {0};
        uint64_t total = 0;
        assert_int_equal(mr_hot_init(&hot), MR_OK);
        while (total < 300000) {
            uint32_t key = pick(&random, round % 2 == 0);
            uint64_t events = 1 + kit_below(&random, round < 4 ? 2 : 500);
            add(&hot, key, events);
            exact[key] += events;
            total += events;
        }
        mr_hot_check(&hot);
        assert_true(hot.step >= 128);
        uint64_t apart = hot.total > total ? hot.total - total : total - hot.total;
        assert_true(apart <= hot.step);
        for (uint32_t k = 0; k < 8; k++) {
            expect_share(&hot, k, (double)exact[k] / (double)total);
        }
        mr_hot_finish(&hot);
    }
}

/* As bundles do it: the same keys in the same order, as many as a step has events. */
static void test_keys_in_step(void **state) {
    (void)state;
    for (uint32_t keys = 16; keys <= 64; keys *= 2) {
        struct mr_hot hot;
        assert_int_equal(mr_hot_init(&hot), MR_OK);
        for (uint32_t n = 0; n < 500000; n++) {
            add(&hot, n % keys, 1);
        }
        mr_hot_check(&hot);
        for (uint32_t k = 0; k < keys; k++) {
            assert_true(share(&hot, k) < 1.0 / keys + 0.06);
            assert_true(share(&hot, k) > 0);
        }
        mr_hot_finish(&hot);
    }
}

/* What a key with nine tenths of the events looks like: one partial of many events, and many of one. */
static void test_heavy_partial(void **state) {
    (void)state;
    struct mr_hot hot;
    uint32_t other = 1;
    assert_int_equal(mr_hot_init(&hot), MR_OK);
    for (uint32_t bundle = 0; bundle < 500; bundle++) {
        add(&hot, 0, 3600);
        for (uint32_t n = 0; n < 400; n++) {
            add(&hot, 1 + other++ % (KEYS - 1), 1);
        }
    }
    mr_hot_check(&hot);
    assert_true(share(&hot, 0) > 0.88 && share(&hot, 0) < 0.92);
    assert_int_equal(hot.heaviest, count_of(&hot, 0));
    add(&hot, 5, 1000000000000);
    mr_hot_check(&hot);
    assert_true(count_of(&hot, 5) >= 999999990000);
    mr_hot_finish(&hot);
}

static void test_halving(void **state) {
    (void)state;
    struct mr_hot hot;
    const int64_t t0 = 1700000000000;
    assert_int_equal(mr_hot_init(&hot), MR_OK);
    assert_true(mr_hot_since_ms(&hot) == INT64_MIN);
    mr_hot_advance(&hot, t0);
    add(&hot, 1, 101);
    add(&hot, 2, 1);
    mr_hot_advance(&hot, t0 + MR_HOT_PERIOD_MS - 1);
    assert_int_equal(count_of(&hot, 1), 101);
    assert_true(mr_hot_since_ms(&hot) == t0);
    mr_hot_advance(&hot, t0 + MR_HOT_PERIOD_MS);
    mr_hot_check(&hot);
    assert_int_equal(count_of(&hot, 1), 50);
    assert_null(counter_of(&hot, 2));
    assert_int_equal(hot.total, 51);
    assert_int_equal(hot.heaviest, 50);
    assert_true(mr_hot_since_ms(&hot) == t0);
    add(&hot, 3, 60);
    mr_hot_advance(&hot, t0 + 3 * MR_HOT_PERIOD_MS + 5); /* twice */
    mr_hot_check(&hot);
    assert_int_equal(count_of(&hot, 1), 12);
    assert_int_equal(count_of(&hot, 3), 15);
    assert_true(mr_hot_since_ms(&hot) == t0 + 2 * MR_HOT_PERIOD_MS);
    mr_hot_advance(&hot, t0 + 1000 * MR_HOT_PERIOD_MS);
    mr_hot_check(&hot);
    assert_int_equal(hot.used, 0);
    assert_int_equal(hot.total, 0);
    mr_hot_finish(&hot);
}

/* The step follows a rule that has become quiet, and old keys give way. */
static void test_quiet_again(void **state) {
    (void)state;
    struct kit_random random = {3};
    struct mr_hot hot;
    assert_int_equal(mr_hot_init(&hot), MR_OK);
    for (uint32_t n = 0; n < 200000; n++) {
        add(&hot, kit_below(&random, 4), 1 + kit_below(&random, 3));
    }
    assert_true(hot.step >= 128);
    for (int64_t at = 0; at < 20 * MR_HOT_PERIOD_MS; at += MR_HOT_PERIOD_MS / 100) {
        mr_hot_advance(&hot, at);
        add(&hot, 77, 1);
        mr_hot_check(&hot);
    }
    assert_int_equal(hot.step, 1);
    assert_true(share(&hot, 77) > 0.95);
    mr_hot_finish(&hot);
}

static void test_eviction(void **state) {
    (void)state;
    struct mr_hot hot;
    assert_int_equal(mr_hot_init(&hot), MR_OK);
    for (uint32_t k = 0; k < MR_HOT_KEYS; k++) {
        add(&hot, k, k == 9 ? 3 : 4 + k % 2);
    }
    assert_int_equal(hot.used, MR_HOT_KEYS);
    add(&hot, 1000, 1);
    mr_hot_check(&hot);
    assert_null(counter_of(&hot, 9));
    assert_int_equal(counter_of(&hot, 1000)->count, 4);
    assert_int_equal(counter_of(&hot, 1000)->error, 3);
    add(&hot, 9, 2); /* it comes back, over one of those with 4 */
    mr_hot_check(&hot);
    assert_int_equal(counter_of(&hot, 9)->count, 6);
    assert_int_equal(counter_of(&hot, 9)->error, 4);
    mr_hot_finish(&hot);
}

static void test_keys(void **state) {
    (void)state;
    struct mr_hot hot;
    uint8_t key[MR_KEY_LEN_MAX];
    struct mr_buf buf;
    struct mr_row row;
    assert_int_equal(mr_hot_init(&hot), MR_OK);
    memset(key, 'k', sizeof key);
    mr_hot_add(&hot, 1, mr_bytes_of(key, sizeof key), 7);
    mr_hot_add(&hot, 2, mr_bytes_of(NULL, 0), 5);
    mr_buf_init(&buf, 1 << 20);
    mr_hot_append(&hot, &buf);
    struct mr_bytes rest = mr_buf_bytes(&buf);
    assert_true(mr_row_next(&rest, &row));
    assert_int_equal(row.events, 12);
    assert_int_equal(row.key.len, 0);
    assert_true(mr_row_next(&rest, &row));
    assert_int_equal(row.events, 7);
    assert_true(mr_bytes_equal(row.key, mr_bytes_of(key, sizeof key)));
    assert_true(mr_row_next(&rest, &row));
    assert_int_equal(row.events, 5);
    assert_int_equal(row.key.len, 0);
    assert_false(mr_row_next(&rest, &row));
    mr_buf_finish(&buf);
    mr_hot_finish(&hot);
}

static void merge_one(struct mr_combine *combine, uint64_t seq, const struct mr_rule *rule, int64_t start_ms,
                      uint32_t key, uint32_t events) {
    const int64_t values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct mr_parcel *parcel = mr_parcel_open(seq, 0);
    assert_non_null(parcel);
    kit_partial(parcel, rule, start_ms, key, values, events);
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
}

static uint64_t count_in(const struct mr_hot *hot, struct mr_bytes key) {
    for (uint32_t i = 0; i < hot->used; i++) {
        if (mr_bytes_equal(mr_bytes_of(hot->counters[i].key, hot->counters[i].key_len), key)) {
            return hot->counters[i].count;
        }
    }
    return 0;
}

static void fed_by_combine(enum mr_groups_full when_full) {
    struct mr_rule rule = kit_rule(0, 0, 1, 1000, 0);
    rule.groups_max = 2;
    rule.when_full = when_full;
    struct mr_combine *combine = kit_open(&rule, 1, 3);
    const struct mr_combine_rule_stats *stats = mr_combine_stats(combine, 0);
    const uint8_t other[2] = {MR_KEY_OTHER, 3};
    for (uint64_t seq = 1; seq <= 4; seq++) { /* keys 0 and 1 have groups; 2 and 3 come too late */
        merge_one(combine, seq, &rule, 0, (uint32_t)seq - 1, 8);
        kit_advance(combine, seq, INT64_MIN);
    }
    const struct mr_hot *hot = mr_combine_hot(combine, 0);
    struct mr_buf key;
    mr_buf_init(&key, 100);
    bool drop = when_full == MR_GROUPS_DROP;
    for (uint32_t k = 0; k < 4; k++) {
        mr_buf_clear(&key);
        kit_key(&rule, k, &key);
        assert_int_equal(count_in(hot, mr_buf_bytes(&key)), k < 2 ? 8 : 0);
    }
    assert_int_equal(count_in(hot, mr_bytes_of(other, sizeof other)), drop ? 0 : 16);
    assert_int_equal(mr_counter_read(&stats->hot_events), drop ? 16 : 32);
    assert_int_equal(mr_counter_read(&stats->hot_heaviest), drop ? 8 : 16);
    assert_int_equal(mr_counter_read(&stats->hot_events), mr_counter_read(&stats->applied));
    mr_buf_finish(&key);
    mr_combine_close(combine);
}

static void test_combine(void **state) {
    (void)state;
    fed_by_combine(MR_GROUPS_OTHER);
    fed_by_combine(MR_GROUPS_DROP);
}

static void test_no_memory(void **state) {
    (void)state;
    struct mr_hot hot;
    uint8_t key[100] = {0};
    for (size_t nth = 1; nth <= 2; nth++) {
        mr_alloc_fail_at(nth, 0);
        assert_int_equal(mr_hot_init(&hot), MR_NO_MEMORY);
        mr_hot_finish(&hot);
    }
    assert_int_equal(mr_hot_init(&hot), MR_OK);
    mr_alloc_fail_at(1, 1);
    add(&hot, 1, 5);
    mr_alloc_fail_at(0, 0);
    mr_hot_check(&hot);
    assert_int_equal(hot.used, 0);
    assert_int_equal(hot.total, 5);
    for (uint32_t k = 0; k < MR_HOT_KEYS; k++) {
        add(&hot, k, 2);
    }
    mr_alloc_fail_at(1, 1); /* a longer key than the one that would give way */
    mr_hot_add(&hot, 4711, mr_bytes_of(key, sizeof key), 3);
    mr_alloc_fail_at(0, 0);
    mr_hot_check(&hot);
    assert_int_equal(hot.total, 5 + 2 * MR_HOT_KEYS + 3);
    for (uint32_t k = 0; k < MR_HOT_KEYS; k++) {
        assert_int_equal(count_of(&hot, k), 2);
    }
    mr_hot_finish(&hot);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),   cmocka_unit_test(test_samples),   cmocka_unit_test(test_keys_in_step),
        cmocka_unit_test(test_heavy_partial), cmocka_unit_test(test_halving), cmocka_unit_test(test_quiet_again),
        cmocka_unit_test(test_eviction), cmocka_unit_test(test_keys),      cmocka_unit_test(test_combine),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("hot", tests, NULL, NULL);
}
