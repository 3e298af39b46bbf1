/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that metrics are exact and that grouping and order do not show:
 *   1. a table of small cases with their numbers (no values, overflow, -0.0, 5 and 5.0, mixed
 *      kinds);
 *   2. random ints and doubles with 20 binary places, dealt to random accumulators that are merged
 *      in random order: the state has the same bytes as a plain loop's, and the numbers are those
 *      of 128-bit integer arithmetic in units of 2^-20, rounded once;
 *   3. the order of numbers: total, exact between ints and doubles, NULL first.
 */
#include "base/check.h"
#include "event/batch.h"
#include "tests/aggregate/kit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { VALUES_MAX = 300, STATE_MAX = 64 };

static const double UNIT = 0x1p-20;

struct value {
    uint8_t kind;
    union mr_value value;
};

static struct value of_int(int64_t i) {
    return (struct value){MR_VALUE_INT, {.i = i}};
}

static struct value of_double(double d) {
    return (struct value){MR_VALUE_DOUBLE, {.d = d}};
}

/* Adds value k to states[owner[k]]. */
static void add_all(const struct mr_metric *metrics, uint32_t count, const struct value *values,
                    uint32_t n, uint64_t (*states)[STATE_MAX], const uint32_t *owner) {
    union mr_value column_values[VALUES_MAX];
    uint8_t kinds[VALUES_MAX];
    uint32_t events[VALUES_MAX];
    uint8_t *at[VALUES_MAX];
    for (uint32_t k = 0; k < n; k++) {
        column_values[k] = values[k].value;
        kinds[k] = values[k].kind;
        events[k] = k;
        at[k] = (uint8_t *)states[owner[k]];
    }
    struct mr_column column = {column_values, kinds};
    for (uint32_t m = 0; m < count; m++) {
        bool counts = metrics[m].kind == MR_METRIC_COUNT;
        assert_int_equal(mr_metric_add(&metrics[m], NULL, counts ? NULL : &column, events, at, n),
                         MR_OK);
    }
}

static struct mr_number finish(const struct mr_metric *metrics, uint32_t index, const uint8_t *state) {
    return mr_metric_finish(metrics, index, mr_bytes_of(state, STATE_MAX * sizeof(uint64_t)), NULL);
}

static struct mr_number result_of(enum mr_metric_kind kind, const struct value *values,
                                  uint32_t n) {
    struct mr_metric metric = {.kind = kind};
    uint64_t state[1][STATE_MAX];
    uint32_t owner[VALUES_MAX] = {0};
    mr_metric_layout(&metric, 1, 0);
    memset(state, 0, sizeof state);
    add_all(&metric, 1, values, n, state, owner);
    return finish(&metric, 0, (uint8_t *)state[0]);
}

static void expect(enum mr_metric_kind kind, struct value a, struct value b,
                   enum mr_number_kind want, int64_t i, double d) {
    struct value both[2] = {a, b};
    struct value turned[2] = {b, a};
    struct mr_number forth = result_of(kind, both, 2);
    struct mr_number back = result_of(kind, turned, 2);
    assert_int_equal(forth.kind, want);
    assert_int_equal(back.kind, want);
    if (want == MR_NUMBER_INT) {
        assert_int_equal(forth.i, i);
    } else if (want != MR_NUMBER_NULL) {
        assert_true(forth.d == d);
        assert_int_equal(signbit(forth.d) != 0, signbit(d) != 0);
    }
    assert_int_equal(forth.i, back.i);
}

static void small_cases(void **state) {
    (void)state;
    struct value none = {.kind = MR_VALUE_NULL};
    struct value missing = {.kind = MR_VALUE_MISSING};
    expect(MR_METRIC_COUNT, none, missing, MR_NUMBER_INT, 2, 0); /* of events, not of values */
    expect(MR_METRIC_SUM, none, missing, MR_NUMBER_INT, 0, 0);
    expect(MR_METRIC_MIN, none, missing, MR_NUMBER_NULL, 0, 0);
    expect(MR_METRIC_MAX, none, missing, MR_NUMBER_NULL, 0, 0);
    expect(MR_METRIC_AVG, none, missing, MR_NUMBER_NULL, 0, 0);
    expect(MR_METRIC_AVG, of_int(1), of_int(2), MR_NUMBER_DOUBLE, 0, 1.5);
    expect(MR_METRIC_AVG, of_int(7), none, MR_NUMBER_DOUBLE, 0, 7);
    expect(MR_METRIC_SUM, of_int(INT64_MAX), of_int(1), MR_NUMBER_OVERFLOW, 0, 0x1p63);
    expect(MR_METRIC_SUM, of_int(INT64_MIN), of_int(-1), MR_NUMBER_OVERFLOW, 0, -0x1p63);
    expect(MR_METRIC_SUM, of_int(INT64_MAX), of_int(INT64_MIN), MR_NUMBER_INT, -1, 0);
    expect(MR_METRIC_SUM, of_int(INT64_MAX), of_double(0.5), MR_NUMBER_DOUBLE, 0, 0x1p63);
    expect(MR_METRIC_SUM, of_double(1e100), of_double(-1e100), MR_NUMBER_DOUBLE, 0, 0);
    expect(MR_METRIC_SUM, of_double(0.1), of_double(0.2), MR_NUMBER_DOUBLE, 0, 0.1 + 0.2);
    expect(MR_METRIC_SUM, of_double(1e308), of_double(1e308), MR_NUMBER_OVERFLOW, 0, INFINITY);
    expect(MR_METRIC_MIN, of_int(5), of_double(5.0), MR_NUMBER_INT, 5, 0);
    expect(MR_METRIC_MAX, of_double(5.0), of_int(5), MR_NUMBER_INT, 5, 0);
    expect(MR_METRIC_MIN, of_double(-0.0), of_double(0.0), MR_NUMBER_DOUBLE, 0, 0.0);
    expect(MR_METRIC_MAX, of_double(-0.0), of_double(0.0), MR_NUMBER_DOUBLE, 0, 0.0);
    /* 2^53 + 1 as a double would be 2^53. */
    expect(MR_METRIC_MAX, of_int((INT64_C(1) << 53) + 1), of_double(0x1p53), MR_NUMBER_INT,
           (INT64_C(1) << 53) + 1, 0);
    expect(MR_METRIC_MIN, of_int(INT64_MAX), of_double(0x1p63), MR_NUMBER_INT, INT64_MAX, 0);
    expect(MR_METRIC_MAX, of_int(INT64_MIN), of_double(-0x1p63), MR_NUMBER_INT, INT64_MIN, 0);
    expect(MR_METRIC_MIN, of_int(-3), of_double(-3.5), MR_NUMBER_DOUBLE, 0, -3.5);
}

static void small_differences_survive_large_sums(void **state) {
    (void)state;
    struct value values[] = {of_double(1e16), of_double(1.0), of_double(-1e16), of_double(0x1p-40)};
    for (uint32_t first = 0; first < 4; first++) {
        struct value turned[4];
        for (uint32_t k = 0; k < 4; k++) {
            turned[k] = values[(first + k) % 4];
        }
        assert_true(result_of(MR_METRIC_SUM, turned, 4).d == 1.0 + 0x1p-40);
    }
}

static void metric_names(void **state) {
    (void)state;
    assert_string_equal(mr_metric_kind_name(MR_METRIC_COUNT), "count");
    assert_string_equal(mr_metric_kind_name(MR_METRIC_AVG), "avg");
}

/* The value in units of 2^-20. */
static __int128_t units_of(struct value value) {
    if (value.kind == MR_VALUE_INT) {
        return (__int128_t)value.value.i * (1 << 20);
    }
    return (__int128_t)(value.value.d / UNIT);
}

static struct value random_value(struct kit_random *random) {
    switch (kit_below(random, 8)) {
    case 0:
        return (struct value){.kind = MR_VALUE_NULL};
    case 1:
        return (struct value){.kind = MR_VALUE_MISSING};
    case 2:
        return of_int((int64_t)kit_random(random));
    case 3:
        return of_int(kit_below(random, 5) == 0 ? INT64_MIN : INT64_MAX);
    case 4:
        return of_double((double)((int64_t)kit_random(random) >> 12) * UNIT);
    case 5: /* prices */
        return of_double((double)kit_below(random, 1 << 28) * UNIT);
    default: /* small ones, ints and doubles that are equal among them */
        return kit_below(random, 2) == 0 ? of_int(kit_below(random, 9))
                                         : of_double(kit_below(random, 9));
    }
}

static bool is_value(struct value v) {
    return v.kind == MR_VALUE_INT || v.kind == MR_VALUE_DOUBLE;
}

static void expect_exact(const struct mr_metric *metrics, const uint8_t *state,
                         const struct value *values, uint32_t n) {
    __int128_t sum = 0;
    uint64_t count = 0;
    bool doubles = false;
    __int128_t min = 0;
    __int128_t max = 0;
    for (uint32_t k = 0; k < n; k++) {
        if (is_value(values[k])) {
            __int128_t units = units_of(values[k]);
            min = count == 0 || units < min ? units : min;
            max = count == 0 || units > max ? units : max;
            sum += units;
            doubles |= values[k].kind == MR_VALUE_DOUBLE;
            count++;
        }
    }
    assert_int_equal(finish(metrics, MR_METRIC_COUNT, state).i, n);
    struct mr_number total = finish(metrics, MR_METRIC_SUM, state);
    __int128_t whole = sum / (1 << 20);
    bool fits = whole >= INT64_MIN && whole <= INT64_MAX;
    if (doubles) {
        assert_int_equal(total.kind, MR_NUMBER_DOUBLE);
        assert_true(total.d == (double)sum * UNIT);
    } else if (fits) {
        assert_int_equal(total.kind, MR_NUMBER_INT);
        assert_int_equal(total.i, (int64_t)whole);
    } else {
        assert_int_equal(total.kind, MR_NUMBER_OVERFLOW);
        assert_true(total.d == (double)whole);
    }
    struct mr_number low = finish(metrics, MR_METRIC_MIN, state);
    struct mr_number high = finish(metrics, MR_METRIC_MAX, state);
    struct mr_number mean = finish(metrics, MR_METRIC_AVG, state);
    if (count == 0) {
        assert_int_equal(low.kind + high.kind + mean.kind, 3 * MR_NUMBER_NULL);
        return;
    }
    struct value got = low.kind == MR_NUMBER_INT ? of_int(low.i) : of_double(low.d);
    assert_true(units_of(got) == min);
    got = high.kind == MR_NUMBER_INT ? of_int(high.i) : of_double(high.d);
    assert_true(units_of(got) == max);
    long double exact = (long double)sum / count * UNIT;
    double ulp = nextafter(fabs(mean.d), INFINITY) - fabs(mean.d);
    assert_true(fabsl(exact - mean.d) <= 0.51L * ulp);
}

static void any_grouping_gives_the_same_bytes(void **state) {
    (void)state;
    enum { ACCUMULATORS = 6 };
    struct kit_random random = {1};
    struct mr_rule rule = kit_rule(0, 0, 1, 1000, 0);
    for (int round = 0; round < 600; round++) {
        struct value values[VALUES_MAX];
        uint32_t owner[VALUES_MAX];
        uint32_t alone[VALUES_MAX] = {0};
        uint64_t states[ACCUMULATORS][STATE_MAX];
        uint64_t plain[1][STATE_MAX];
        uint32_t n = kit_below(&random, round % 2 == 0 ? 5 : VALUES_MAX);
        for (uint32_t k = 0; k < n; k++) {
            values[k] = random_value(&random);
            owner[k] = kit_below(&random, ACCUMULATORS);
        }
        memset(plain, 0, sizeof plain);
        memset(states, 0, sizeof states);
        add_all(rule.metrics, KIT_METRICS, values, n, plain, alone);
        add_all(rule.metrics, KIT_METRICS, values, n, states, owner);
        for (uint32_t left = ACCUMULATORS; left > 1; left--) {
            uint32_t into = kit_below(&random, left - 1);
            enum mr_status status =
                mr_metric_merge(rule.metrics, KIT_METRICS, (uint8_t *)states[into],
                                mr_bytes_of(states[left - 1], rule.state_len));
            assert_int_equal(status, MR_OK);
        }
        assert_memory_equal(plain[0], states[0], rule.state_len);
        expect_exact(rule.metrics, (uint8_t *)states[0], values, n);
    }
}

static void numbers_are_in_order(void **state) {
    (void)state;
    const struct mr_number ascending[] = {
        {.kind = MR_NUMBER_NULL, .i = 9},
        {.kind = MR_NUMBER_OVERFLOW, .d = -INFINITY},
        {.kind = MR_NUMBER_OVERFLOW, .d = -0x1p64},
        {.kind = MR_NUMBER_INT, .i = INT64_MIN},
        {.kind = MR_NUMBER_DOUBLE, .d = -1.5},
        {.kind = MR_NUMBER_INT, .i = -1},
        {.kind = MR_NUMBER_INT, .i = 0},
        {.kind = MR_NUMBER_DOUBLE, .d = 0x1p-1074},
        {.kind = MR_NUMBER_INT, .i = INT64_C(1) << 53},
        {.kind = MR_NUMBER_INT, .i = (INT64_C(1) << 53) + 1},
        {.kind = MR_NUMBER_DOUBLE, .d = 0x1p53 + 2},
        {.kind = MR_NUMBER_INT, .i = INT64_MAX},
        {.kind = MR_NUMBER_OVERFLOW, .d = 0x1p63},
    };
    int count = sizeof ascending / sizeof ascending[0];
    for (int a = 0; a < count; a++) {
        for (int b = 0; b < count; b++) {
            int order = mr_number_compare(ascending[a], ascending[b]);
            assert_int_equal((order > 0) - (order < 0), (a > b) - (a < b));
        }
    }
    struct mr_number zero = {.kind = MR_NUMBER_INT, .i = 0};
    struct mr_number minus = {.kind = MR_NUMBER_DOUBLE, .d = -0.0};
    assert_int_equal(mr_number_compare(zero, minus), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_cases),
        cmocka_unit_test(small_differences_survive_large_sums),
        cmocka_unit_test(metric_names),
        cmocka_unit_test(any_grouping_gives_the_same_bytes),
        cmocka_unit_test(numbers_are_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
