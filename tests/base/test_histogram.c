/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a histogram keeps every value to within 1/32:
 *   1. values below 64 exactly; every power of two and its neighbours up to 2^64 - 1 to within a
 * bucket;
 *   2. random values of all magnitudes against a sorted array, for every quantile, count_below and
 * merge, with check() after each step.
 */
#include "base/histogram.h"

#include "base/alloc.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct mr_histogram *open_histogram(void) {
    struct mr_histogram *h = mr_alloc_zero(1, sizeof *h);
    assert_non_null(h);
    return h;
}

static void small_values_are_exact(void **state) {
    (void)state;
    struct mr_histogram *h = open_histogram();
    assert_int_equal(mr_histogram_quantile(h, 0.5), 0);
    mr_histogram_check(h);
    for (uint64_t v = 0; v < 64; v++) {
        mr_histogram_add_many(h, v, v + 1);
        mr_histogram_check(h);
    }
    uint64_t below = 0;
    for (uint64_t v = 0; v < 64; v++) {
        below += v + 1;
        assert_int_equal(mr_histogram_count_below(h, v), below);
        assert_int_equal(mr_histogram_quantile(h, (double)below / 2080), v);
    }
    assert_int_equal(mr_histogram_count(h), 2080);
    assert_int_equal(mr_histogram_sum(h), 64 * 63 * 127 / 6 + 2016);
    mr_histogram_add_many(h, 1000, 0); /* nothing */
    assert_int_equal(mr_histogram_max(h), 63);
    mr_free(h);
}

/* One value alone, and a greater one behind it so that max does not give the answer away. */
static void check_value(struct mr_histogram *h, uint64_t value) {
    *h = (struct mr_histogram){.count = 0};
    mr_histogram_add(h, value);
    mr_histogram_check(h);
    assert_int_equal(mr_histogram_quantile(h, 1), value);
    assert_int_equal(mr_histogram_max(h), value);
    mr_histogram_add_many(h, UINT64_MAX, 2);
    mr_histogram_check(h);
    uint64_t bound = mr_histogram_quantile(h, 0.1);
    assert_true(bound >= value);
    assert_true(bound - value <= value / 32);
    assert_true(mr_histogram_count_below(h, value) >= 1);
    assert_true(value < 64 || mr_histogram_count_below(h, value - value / 16) == 0);
    assert_int_equal(mr_histogram_count_below(h, UINT64_MAX), 3);
}

static void every_power_of_two(void **state) {
    (void)state;
    struct mr_histogram *h = open_histogram();
    for (unsigned e = 0; e < 64; e++) {
        uint64_t power = UINT64_C(1) << e;
        check_value(h, power);
        check_value(h, power - 1);
        check_value(h, power + 1);
        check_value(h, power + power / 2);
        check_value(h, power + (power - 1));
    }
    mr_free(h);
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool near(uint64_t bound, uint64_t value) {
    return bound >= value && bound - value <= value / 32;
}

enum { VALUES = 3000 };

static void random_values_against_a_sorted_array(void **state) {
    (void)state;
    static uint64_t values[VALUES];
    struct mr_histogram *h = open_histogram();
    struct mr_histogram *half = open_histogram();
    uint64_t seed = 7;
    uint64_t sum = 0;
    for (size_t i = 0; i < VALUES; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        values[i] = (seed >> 8) >> (seed >> 58) % 56;
        mr_histogram_add(i % 2 == 0 ? h : half, values[i]);
        mr_histogram_check(i % 2 == 0 ? h : half);
        sum += values[i];
    }
    mr_histogram_merge(h, half);
    mr_histogram_check(h);
    mr_histogram_check(half);
    qsort(values, VALUES, sizeof values[0], by_value);
    assert_int_equal(mr_histogram_count(h), VALUES);
    assert_int_equal(mr_histogram_sum(h), sum);
    assert_int_equal(mr_histogram_max(h), values[VALUES - 1]);
    assert_true(near(mr_histogram_quantile(h, 0), values[0]));
    for (size_t rank = 1; rank <= VALUES;
         rank += 7) { /* the middle of a step, where ceil has one answer */
        double share = ((double)rank - 0.5) / VALUES;
        assert_true(near(mr_histogram_quantile(h, share), values[rank - 1]));
    }
    assert_int_equal(mr_histogram_quantile(h, 1), values[VALUES - 1]);
    uint64_t before = 0;
    for (size_t i = 0; i < VALUES; i += 7) {
        uint64_t count = mr_histogram_count_below(h, values[i]);
        assert_true(count >= i + 1 && count >= before);
        assert_true(count == VALUES || values[count] > values[i]);
        assert_true(values[count - 1] <= values[i] + values[i] / 32);
        before = count;
    }
    mr_free(h);
    mr_free(half);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(every_power_of_two),
        cmocka_unit_test(random_values_against_a_sorted_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
