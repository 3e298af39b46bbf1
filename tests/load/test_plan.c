/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the plan's kinds are what a server that remembers everything would find, walking over the slots in order
 * and keeping what was seen; that shares are about what was asked for; that times stay within their bounds.
 */
#include "bench/load/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BATCH = 50, REQUESTS = 2000, SLOTS = BATCH * REQUESTS };

static struct mr_load_plan_options some_options(uint64_t seed) {
    return (struct mr_load_plan_options){
        .seed = seed, .batch = BATCH, .repeat_events = 0.1, .repeat_requests = 0.05, .repeat_beyond = 0.02, .late = 0.03,
        .repeat_delay = 700, .beyond_slots = 20000, .late_from = 4 * BATCH, .disorder_ms = 2000, .timed = true,
        .start_ms = INT64_C(1767225600000), .ms_per_event = 0.7,
    };
}

static void kinds_are_a_servers(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct mr_load_plan plan;
        struct mr_load_plan_options options = some_options(seed);
        assert_int_equal(mr_load_plan_init(&plan, &options), MR_OK);
        uint64_t *counted_at = calloc(SLOTS, sizeof *counted_at); /* slot + 1 where a source was last counted */
        assert_non_null(counted_at);
        uint32_t kinds[3] = {0};
        for (uint64_t n = 0; n < SLOTS; n++) {
            struct mr_load_slot slot = mr_load_plan_slot(&plan, n);
            uint64_t before = counted_at[slot.source];
            kinds[slot.kind]++;
            if (slot.kind == MR_LOAD_FRESH) {
                assert_int_equal(before, 0);
                assert_int_equal(slot.source, n);
            } else if (slot.kind == MR_LOAD_REPEATED) {
                /* Seen, and lately: far within the horizon, which is half of beyond_slots. */
                assert_true(before > 0 && n - (before - 1) < options.beyond_slots / 2);
            } else {
                assert_true(before > 0 && n - (before - 1) >= options.beyond_slots);
            }
            if (slot.kind != MR_LOAD_REPEATED) {
                counted_at[slot.source] = n + 1;
            }
        }
        assert_true(fabs((double)kinds[MR_LOAD_REPEATED] / SLOTS - (0.05 + 0.95 * 0.1)) < 0.02);
        assert_true(kinds[MR_LOAD_BEYOND] > SLOTS * 0.8 * 0.02 * 0.5);
        free(counted_at);
        mr_load_plan_finish(&plan);
    }
}

static void repeated_requests_are_whole(void **state) {
    (void)state;
    struct mr_load_plan plan;
    struct mr_load_plan_options options = some_options(9);
    assert_int_equal(mr_load_plan_init(&plan, &options), MR_OK);
    uint32_t repeated = 0;
    for (uint64_t k = 0; k < REQUESTS; k++) {
        uint64_t source = mr_load_plan_request(&plan, k);
        assert_true(source <= k && mr_load_plan_request(&plan, source) == source);
        repeated += source != k;
        for (uint64_t i = 0; i < BATCH && source != k; i++) {
            assert_int_equal(mr_load_plan_slot(&plan, k * BATCH + i).source,
                             mr_load_plan_slot(&plan, source * BATCH + i).source);
            assert_int_equal(mr_load_plan_slot(&plan, k * BATCH + i).kind, MR_LOAD_REPEATED);
        }
    }
    assert_true(repeated > REQUESTS * 0.03 && repeated < REQUESTS * 0.07);
    mr_load_plan_finish(&plan);
}

static void times_stay_within_bounds(void **state) {
    (void)state;
    for (int disorder = MR_LOAD_DISORDER_UNIFORM; disorder <= MR_LOAD_DISORDER_YAHOO; disorder++) {
        struct mr_load_plan plan;
        struct mr_load_plan_options options = some_options(3);
        options.disorder = (enum mr_load_disorder)disorder;
        assert_int_equal(mr_load_plan_init(&plan, &options), MR_OK);
        uint32_t late = 0;
        double sum = 0;
        for (uint64_t n = 0; n < SLOTS; n++) {
            int64_t base = options.start_ms + (int64_t)((double)n * 0.7);
            int64_t behind = base - mr_load_plan_time(&plan, n);
            bool is_late = mr_load_plan_is_late(&plan, n);
            behind -= is_late ? MR_LOAD_LATE_MS : 0;
            late += is_late;
            sum += (double)behind;
            assert_true(n >= options.late_from || !is_late);
            assert_true(disorder == MR_LOAD_DISORDER_YAHOO ? behind >= -50 && behind < 60000 : behind >= 0 && behind <= 2000);
        }
        double mean = sum / SLOTS;
        assert_true(fabs((double)late / SLOTS - 0.03) < 0.005);
        assert_true(disorder == MR_LOAD_DISORDER_UNIFORM       ? fabs(mean - 1000) < 20
                    : disorder == MR_LOAD_DISORDER_EXPONENTIAL ? fabs(mean - 250) < 10
                                                               : fabs(mean) < 5);
        mr_load_plan_finish(&plan);
    }
}

static void none_is_late_before_its_time(void **state) {
    (void)state;
    uint32_t late = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct mr_load_plan plan;
        struct mr_load_plan_options options = some_options(seed);
        options.late = 0.9;
        assert_int_equal(mr_load_plan_init(&plan, &options), MR_OK);
        assert_false(mr_load_plan_is_late(&plan, options.late_from - 1));
        late += mr_load_plan_is_late(&plan, options.late_from);
        mr_load_plan_finish(&plan);
    }
    assert_true(late > 30);
}

static void live_times_are_their_requests(void **state) {
    (void)state;
    struct mr_load_plan plan;
    struct mr_load_plan_options options = {.seed = 1, .batch = 10, .repeat_delay = 1};
    assert_int_equal(mr_load_plan_init(&plan, &options), MR_OK);
    plan.bases[3] = 12345;
    assert_int_equal(mr_load_plan_time(&plan, 30), 12345);
    assert_int_equal(mr_load_plan_time(&plan, 39), 12345);
    assert_int_equal(mr_load_plan_base(&plan, 3), 12345);
    assert_int_equal(mr_load_plan_time(&plan, 40), 0);
    mr_load_plan_finish(&plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_are_a_servers),
        cmocka_unit_test(repeated_requests_are_whole),
        cmocka_unit_test(times_stay_within_bounds),
        cmocka_unit_test(none_is_late_before_its_time),
        cmocka_unit_test(live_times_are_their_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
