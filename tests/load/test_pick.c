/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that keys are drawn with the probabilities asked for:
 *   1. the table itself: what its columns give each key is the exact probability, to within rounding;
 *   2. a million draws of a fixed seed pass a chi-square test against them (and fail it against others);
 *   3. an allocation that fails is told.
 */
#include "bench/load/pick.h"

#include "base/alloc.h"
#include "bench/load/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 1000, DRAWS = 1000000 };

static void exact_zipf(double *p, uint32_t count, double theta) {
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        p[i] = 1 / pow(i + 1.0, theta);
        sum += p[i];
    }
    for (uint32_t i = 0; i < count; i++) {
        p[i] /= sum;
    }
}

static void exact_hot(double *p, uint32_t count, double share) {
    for (uint32_t i = 0; i < count; i++) {
        p[i] = i == 0 ? share : (1 - share) / (count - 1);
    }
}

static void check_table(const struct mr_load_pick *pick, const double *p) {
    double *mass = calloc(pick->count, sizeof *mass);
    assert_non_null(mass);
    for (uint32_t i = 0; i < pick->count; i++) {
        double own = (double)pick->columns[i].cut / 4294967296.0;
        mass[i] += own / pick->count;
        mass[pick->columns[i].alias] += (1 - own) / pick->count;
    }
    for (uint32_t i = 0; i < pick->count; i++) {
        assert_true(fabs(mass[i] - p[i]) < 1e-8);
    }
    free(mass);
}

static double chi_square(const struct mr_load_pick *pick, const double *p) {
    double counts[KEYS] = {0};
    uint64_t seed = mr_load_seed(42, MR_LOAD_KEY);
    for (uint64_t n = 0; n < DRAWS; n++) {
        counts[mr_load_pick_draw(pick, mr_load_random(seed, n))]++;
    }
    double sum = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        double expected = p[i] * DRAWS;
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    return sum;
}

/* 999 degrees of freedom: mean 999, deviation 45; 5 deviations are one in three million. */
static bool is_likely(double chi) {
    return chi > 999 - 5 * 45 && chi < 999 + 5 * 45;
}

static void draws_what_was_asked(void **state) {
    (void)state;
    double zipf[KEYS];
    double near[KEYS];
    double uniform[KEYS];
    double hot[KEYS];
    struct mr_load_pick pick;
    exact_zipf(zipf, KEYS, 0.99);
    exact_zipf(near, KEYS, 0.97);
    exact_zipf(uniform, KEYS, 0);
    exact_hot(hot, KEYS, 0.9);
    assert_int_equal(mr_load_pick_open_zipf(&pick, KEYS, 0.99), MR_OK);
    check_table(&pick, zipf);
    assert_true(is_likely(chi_square(&pick, zipf)));
    assert_false(is_likely(chi_square(&pick, near)));
    mr_load_pick_close(&pick);
    assert_int_equal(mr_load_pick_open_zipf(&pick, KEYS, 0), MR_OK);
    check_table(&pick, uniform);
    assert_true(is_likely(chi_square(&pick, uniform)));
    mr_load_pick_close(&pick);
    assert_int_equal(mr_load_pick_open_hot(&pick, KEYS, 0.9), MR_OK);
    check_table(&pick, hot);
    assert_true(is_likely(chi_square(&pick, hot)));
    mr_load_pick_close(&pick);
}

static void any_number_of_keys(void **state) {
    (void)state;
    for (uint32_t count = 1; count < 70; count++) {
        double p[70];
        struct mr_load_pick pick;
        exact_zipf(p, count, 1.5);
        assert_int_equal(mr_load_pick_open_zipf(&pick, count, 1.5), MR_OK);
        check_table(&pick, p);
        assert_true(mr_load_pick_draw(&pick, UINT64_MAX) < count);
        mr_load_pick_close(&pick);
        for (uint32_t share = 0; count > 1 && share <= 4; share++) {
            exact_hot(p, count, share / 4.0);
            assert_int_equal(mr_load_pick_open_hot(&pick, count, share / 4.0), MR_OK);
            check_table(&pick, p);
            mr_load_pick_close(&pick);
        }
    }
}

static void tells_no_memory(void **state) {
    (void)state;
    for (size_t nth = 1; nth <= 3; nth++) {
        struct mr_load_pick pick = {0};
        mr_alloc_fail_at(nth, 0);
        assert_int_equal(mr_load_pick_open_zipf(&pick, 10, 1), MR_NO_MEMORY);
        assert_true(mr_alloc_failed());
        mr_alloc_fail_at(0, 0);
        assert_null(pick.columns);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_what_was_asked),
        cmocka_unit_test(any_number_of_keys),
        cmocka_unit_test(tells_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
