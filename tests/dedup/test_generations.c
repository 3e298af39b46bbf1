/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the bookkeeping of time against what the header says of every single id:
 *   1. horizons next to each rounding: an id seen at t is remembered at t + horizon, and forgotten
 *      at t + horizon + generation, for each t of some generations;
 *   2. a generation ends when it is full, and the next one carries on within the same time; none begins before it is
 *      opened, whatever the horizon was before;
 *   3. a jump of recorded time to the end of time forgets everything, at once, and goes on working.
 */
#include "dedup/generations.h"

#include "base/hash.h"
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* What holds of all generations that no start has found. */
static void check(const struct mr_generations *gens) {
    mr_generations_check(gens);
    for (uint64_t i = gens->first; i < gens->end; i++) {
        const struct mr_generation *gen = mr_generations_at(gens, i);
        assert_true(gen->to_ms - gen->from_ms <= gens->generation_ms);
        assert_true(gen->ids <= gens->ids_each_max);
        assert_int_equal(mr_generations_name(gens, i), i);
    }
}

static uint64_t add_one(struct mr_generations *gens) {
    if (mr_generations_room(gens) == 0) {
        (void)mr_generations_open_next(gens);
    }
    mr_generations_add(gens, 1);
    check(gens);
    return gens->end - 1;
}

static void advance(struct mr_generations *gens, int64_t now_ms) {
    uint64_t expected = mr_generations_live_ids_at(gens, now_ms);
    mr_generations_advance(gens, now_ms);
    while (mr_generations_oldest_expired(gens)) {
        (void)mr_generations_pop_oldest(gens);
    }
    assert_int_equal(gens->live_ids, expected);
    check(gens);
}

static void remembers_for_the_horizon_and_not_longer(void **state) {
    (void)state;
    static const int64_t horizons[] = {1, 2, 15, 16, 17, 31, 32, 33, 160, 161, 175, 1000};
    for (size_t h = 0; h < sizeof horizons / sizeof horizons[0]; h++) {
        for (int64_t t = 0; t < 40; t++) {
            struct mr_generations gens;
            mr_generations_init(&gens, horizons[h], 16, UINT64_MAX);
            assert_in_range(gens.generation_ms * 16, horizons[h], horizons[h] + 15);
            advance(&gens, t);
            (void)add_one(&gens);
            const struct mr_generation *gen = mr_generations_at(&gens, 0);
            assert_true(gen->from_ms == t && t < gen->to_ms);
            assert_int_equal(gen->to_ms % gens.generation_ms, 0);
            int64_t until_ms = mr_generations_until_ms(&gens, 0);
            assert_true(until_ms > t + horizons[h]);
            assert_true(until_ms <= t + horizons[h] + gens.generation_ms);
            assert_int_equal(mr_generations_live_ids_at(&gens, until_ms), 0);
            advance(&gens, until_ms - 1);
            assert_int_equal(gens.live_ids, 1);
            advance(&gens, until_ms);
            assert_int_equal(gens.live_ids, 0);
        }
    }
}

static void never_moves_back(void **state) {
    (void)state;
    struct mr_generations gens;
    mr_generations_init(&gens, 100, 4, 10);
    advance(&gens, 1000);
    (void)add_one(&gens);
    advance(&gens, 10);
    advance(&gens, INT64_MIN);
    assert_int_equal(gens.recorded_ms, 1000);
    assert_int_equal(gens.live_ids, 1);
    assert_int_equal(mr_generations_room(&gens), 9);
}

/* Who asks whether a claim is older than a moment (a redrive) must not take one that came after it for it. */
static void begins_behind_what_was_forgotten(void **state) {
    (void)state;
    struct mr_generations gens;
    mr_generations_init(&gens, 40, 4, 10);
    advance(&gens, 101000);
    (void)add_one(&gens);
    advance(&gens, 101900);
    assert_int_equal(gens.live_ids, 0);
    mr_generations_set_horizons(&gens, 400000, 0, 0); /* slots of 100 s: this one began at 100 000 */
    (void)add_one(&gens);
    assert_true(mr_generations_at(&gens, gens.end - 1)->from_ms > 101000);
    assert_int_equal(mr_generations_at(&gens, gens.end - 1)->to_ms, 200000);
}

static void ends_when_full(void **state) {
    (void)state;
    struct mr_generations gens;
    mr_generations_init(&gens, 400, 4, 3);
    advance(&gens, 1040);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(add_one(&gens), i / 3);
    }
    assert_int_equal(mr_generations_at(&gens, 0)->from_ms, 1040);
    assert_int_equal(mr_generations_at(&gens, 0)->to_ms, 1041);
    assert_int_equal(mr_generations_at(&gens, 1)->from_ms, 1040);
    assert_int_equal(mr_generations_at(&gens, 2)->to_ms, 1100);
    advance(&gens, 1440);
    assert_int_equal(gens.live_ids, 8);
    advance(&gens, 1441); /* full ones are forgotten to the millisecond */
    assert_int_equal(gens.live_ids, 2);
    assert_int_equal(add_one(&gens), 3);
    advance(&gens, 1500);
    assert_int_equal(gens.live_ids, 1);
}

static void jumps_to_the_end_of_time(void **state) {
    (void)state;
    struct mr_generations gens;
    mr_generations_init(&gens, 86400000, 16, 2);
    (void)add_one(&gens);
    advance(&gens, INT64_MAX);
    assert_int_equal(gens.live_ids, 0);
    for (uint32_t i = 0; i < 7; i++) {
        (void)add_one(&gens);
    }
    assert_int_equal(gens.live_ids, 7);
    assert_int_equal(mr_generations_until_ms(&gens, gens.end - 1), INT64_MAX);
    advance(&gens, INT64_MAX);
    assert_int_equal(gens.live_ids, 7);
}

/* Random steps; the list of first sights is the oracle. */
static void agrees_with_a_list(void **state) {
    (void)state;
    enum { IDS = 4000 };
    static int64_t seen_ms[IDS];
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rng rng = {seed};
        struct mr_generations gens;
        int64_t horizon_ms = (int64_t)(1 + rng_below(&rng, 300));
        mr_generations_init(&gens, horizon_ms, 16, UINT64_MAX);
        int64_t now_ms = 0;
        uint32_t count = 0;
        while (count < IDS) {
            now_ms += (int64_t)rng_below(&rng, rng_below(&rng, 50) == 0 ? 1000 : 4);
            advance(&gens, now_ms);
            for (uint64_t n = rng_below(&rng, 8); n > 0 && count < IDS; n--) {
                (void)add_one(&gens);
                seen_ms[count++] = now_ms;
            }
            uint64_t surely = 0;
            uint64_t perhaps = 0;
            for (uint32_t i = 0; i < count; i++) {
                surely += now_ms - seen_ms[i] <= horizon_ms;
                perhaps += now_ms - seen_ms[i] < horizon_ms + gens.generation_ms;
            }
            assert_in_range(gens.live_ids, surely, perhaps);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remembers_for_the_horizon_and_not_longer),
        cmocka_unit_test(never_moves_back),
        cmocka_unit_test(begins_behind_what_was_forgotten),
        cmocka_unit_test(ends_when_full),
        cmocka_unit_test(jumps_to_the_end_of_time),
        cmocka_unit_test(agrees_with_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
