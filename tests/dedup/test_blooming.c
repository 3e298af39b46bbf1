/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what mode bloom promises, against a list of first sights:
 *   1. random calls: within the horizon a duplicate is never taken for new (unless evicted), and an
 *      id that is taken for seen by mistake is a rare one; other cuts of the calls and no sweep
 *      give the same verdicts and state hash;
 *   2. the share of mistakes at ids_max is at most the configured one, whether the ids come all in
 *      one generation, evenly, or in bursts; memory does not grow;
 *   3. ids are forgotten after horizon + generation, and filters are clean when they come around.
 */
#include "dedup/dedup.h"

#include "dedup/blooming.h"
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { POOL = 3000, BATCH_MAX = 64 };

static struct mr_dedup *open_bloom(uint64_t ids_max, double error, int64_t horizon_ms,
                                   enum mr_when_full when_full) {
    struct mr_dedup_options options = {.mode = MR_DEDUP_BLOOM,
                                       .when_full = when_full,
                                       .horizon_ms = horizon_ms,
                                       .ids_max = ids_max,
                                       .error = error};
    struct mr_dedup *dedup = NULL;
    struct mr_error text;
    assert_int_equal(mr_dedup_open(&options, &dedup, &text), MR_OK);
    mr_dedup_check_scan(dedup);
    return dedup;
}

static bool judge_one(struct mr_dedup *dedup, uint64_t id) {
    struct mr_fingerprint fp = fp_of(id, FP_RANDOM);
    uint32_t order = 0;
    uint8_t duplicate = 2;
    mr_dedup_judge(dedup, &fp, &order, 1, &duplicate);
    return duplicate == 1;
}

struct run {
    struct rng rng;
    struct mr_dedup *dedup;
    struct mr_dedup *twin;
    int64_t horizon_ms;
    int64_t now_ms;
    int64_t first_ms[POOL]; /* when it was last taken for new; -1: never */
    uint64_t new_ids;
    uint64_t mistakes;
};

static void judge(struct run *run, bool evicts) {
    uint32_t ids[BATCH_MAX];
    struct mr_fingerprint fps[BATCH_MAX];
    uint32_t order[BATCH_MAX];
    uint8_t duplicate[BATCH_MAX];
    uint8_t twin[BATCH_MAX];
    uint64_t room = mr_dedup_room(run->dedup, run->now_ms);
    uint64_t most = room < BATCH_MAX ? room : BATCH_MAX;
    uint32_t count = (uint32_t)rng_below(&run->rng, most + 1);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = (uint32_t)rng_below(&run->rng, POOL);
        fps[i] = fp_of(ids[i], FP_RANDOM);
        order[i] = count - 1 - i;
    }
    mr_dedup_judge(run->dedup, fps, order, count, duplicate);
    for (uint32_t from = 0; from < count;) {
        uint32_t n = (uint32_t)(1 + rng_below(&run->rng, count - from));
        mr_dedup_judge(run->twin, fps, order + from, n, twin + from);
        from += n;
    }
    for (uint32_t k = 0; k < count; k++) {
        uint32_t id = ids[order[k]];
        int64_t generation_ms = (run->horizon_ms + 3) / 4;
        assert_int_equal(duplicate[k], twin[k]);
        bool ever = run->first_ms[id] >= 0;
        int64_t age_ms = run->now_ms - run->first_ms[id];
        if (duplicate[k] == 0) {
            assert_true(evicts || !ever || age_ms > run->horizon_ms);
            run->first_ms[id] = run->now_ms;
            run->new_ids++;
        } else {
            run->mistakes += !ever || age_ms >= run->horizon_ms + generation_ms;
        }
    }
}

static void run_random(uint64_t seed, uint64_t ids_max, bool evicts) {
    static struct run run;
    int64_t horizon_ms = (int64_t)(1 + seed * 37 % 400);
    enum mr_when_full when_full = evicts ? MR_WHEN_FULL_EVICT_OLDEST : MR_WHEN_FULL_REJECT;
    run = (struct run){.rng = {seed}, .horizon_ms = horizon_ms};
    run.dedup = open_bloom(ids_max, 1e-3, horizon_ms, when_full);
    run.twin = open_bloom(ids_max, 1e-3, horizon_ms, when_full);
    for (uint32_t i = 0; i < POOL; i++) {
        run.first_ms[i] = -1;
    }
    for (uint32_t step = 0; step < 400; step++) {
        uint64_t kind = rng_below(&run.rng, 40);
        if (kind < 10) {
            uint64_t most = kind == 0 ? 3 : 1;
            run.now_ms += (int64_t)rng_below(&run.rng, most * (uint64_t)horizon_ms / 8 + 2);
            run.now_ms += kind == 1 && rng_below(&run.rng, 9) == 0 ? INT64_C(1) << 45 : 0;
            mr_dedup_advance(run.dedup, run.now_ms);
            mr_dedup_advance(run.twin, run.now_ms);
        } else if (kind < 14) {
            (void)mr_dedup_sweep(run.dedup, (uint32_t)rng_below(&run.rng, 9));
        } else {
            judge(&run, evicts);
        }
        mr_dedup_check_scan(run.dedup);
        assert_int_equal(mr_dedup_state_hash_scan(run.dedup), mr_dedup_state_hash_scan(run.twin));
    }
    mr_dedup_check_scan(run.twin);
    assert_true(run.new_ids > 100);
    assert_true(run.mistakes <= 5 + run.new_ids / 200);
    mr_dedup_close(run.dedup);
    mr_dedup_close(run.twin);
}

static void never_takes_a_duplicate_for_new(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        run_random(seed, seed % 3 == 0 ? 60 : 900, seed % 2 == 0);
    }
}

/* How the ids_max ids arrive over the horizon. */
enum arrival { ALL_AT_ONCE, EVENLY, BURSTS, ARRIVALS };

static int64_t arrival_ms(enum arrival arrival, uint64_t n, uint64_t ids, int64_t horizon_ms) {
    switch (arrival) {
    case EVENLY:
        return (int64_t)(n * (uint64_t)horizon_ms / ids);
    case BURSTS: /* most in the second quarter, little in the others */
        return n < ids / 10 ? 0 : n < ids * 9 / 10 ? horizon_ms / 3 : horizon_ms - 1;
    case ALL_AT_ONCE:
    case ARRIVALS:
        break;
    }
    return 0;
}

static void keeps_its_error_whatever_the_arrival(void **state) {
    (void)state;
    static const double errors[] = {1e-2, 1e-3};
    const uint64_t ids = 40000;
    const int64_t horizon_ms = 4000;
    for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
        for (enum arrival arrival = 0; arrival < ARRIVALS; arrival++) {
            struct mr_dedup *dedup = open_bloom(ids, errors[e], horizon_ms, MR_WHEN_FULL_REJECT);
            uint64_t n = 0;
            for (; mr_counter_read(&mr_dedup_stats(dedup)->live_ids) < ids; n++) {
                mr_dedup_advance(dedup, arrival_ms(arrival, n, ids, horizon_ms));
                (void)judge_one(dedup, n); /* a mistake or not: the next loop measures */
            }
            uint64_t wrong = 0;
            const uint64_t queries = 200000;
            int64_t ms[3];
            for (uint64_t q = 0; q < queries; q++) {
                struct mr_fingerprint fp = fp_of(UINT64_C(1) << 40 | q, FP_RANDOM);
                wrong += mr_dedup_seen(dedup, fp, &ms[0], &ms[1], &ms[2]);
            }
            double measured = (double)wrong / (double)queries;
            double told = (double)mr_counter_read(&mr_dedup_stats(dedup)->error_ppb) / 1e9;
            print_message("error %g, arrival %d: measured %.3g, told %.3g\n", errors[e],
                          (int)arrival, measured, told);
            assert_true(measured <= 1.1 * errors[e]);
            assert_true(told <= 1.3 * errors[e] && told >= 0.5 * measured);
            mr_dedup_close(dedup);
        }
    }
}

static void forgets_after_a_generation_more(void **state) {
    (void)state;
    struct mr_dedup *dedup = open_bloom(1000, 1e-6, 400, MR_WHEN_FULL_REJECT);
    for (int64_t t = 0; t < 20000; t += 50) {
        mr_dedup_advance(dedup, t);
        uint64_t n = (uint64_t)t / 50;
        assert_false(judge_one(dedup, n));
        assert_true(n < 8 || judge_one(dedup, n - 8)); /* 400 ms old */
        int64_t ms[3] = {-1, -1, -1};
        if (n >= 8) {
            assert_true(mr_dedup_seen(dedup, fp_of(n - 8, FP_RANDOM), &ms[0], &ms[1], &ms[2]));
            assert_true(ms[0] <= t - 400 && t - 400 < ms[1]);
            assert_int_equal(ms[2], ms[1] + 400);
        }
        assert_false(n >= 10 && /* 500 ms old */
                     mr_dedup_seen(dedup, fp_of(n - 10, FP_RANDOM), &ms[0], &ms[1], &ms[2]));
        mr_dedup_check_scan(dedup);
    }
    mr_dedup_close(dedup);
}

static void clears_in_the_background(void **state) {
    (void)state;
    struct mr_blooming blooming;
    assert_int_equal(mr_blooming_open(&blooming, 1000, 1e-2), MR_OK);
    assert_false(mr_blooming_sweep(&blooming, 1));
    mr_blooming_push(&blooming);
    struct mr_fingerprint fp = fp_of(3, FP_RANDOM);
    uint32_t order = 0;
    uint8_t duplicate;
    uint64_t new_ids;
    struct mr_dedup_batch batch = {&fp, &order, 1, &duplicate, NULL};
    assert_int_equal(mr_blooming_judge(&blooming, &batch, 0, 1, &new_ids), 1);
    assert_int_equal(mr_blooming_find(&blooming, fp), 0);
    mr_blooming_pop_oldest(&blooming);
    uint64_t steps = 1;
    while (mr_blooming_sweep(&blooming, 1)) {
        mr_blooming_check_scan(&blooming);
        steps++;
    }
    assert_int_equal(steps, mr_bloom_blocks(blooming.filters[0].bloom));
    mr_blooming_check_scan(&blooming);
    mr_blooming_close(&blooming);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_takes_a_duplicate_for_new),
        cmocka_unit_test(keeps_its_error_whatever_the_arrival),
        cmocka_unit_test(forgets_after_a_generation_more),
        cmocka_unit_test(clears_in_the_background),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
