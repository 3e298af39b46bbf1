/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the approximate metrics keep their promises:
 *   1. distinct: exact while small, equal values are one; over 200 seeds the error's root mean square is within the
 *      promised one at 10^3, 10^5 and 10^6 values; the bytes are the same in any grouping;
 *   2. quantiles: each rank within the relative error of a sorted list, over 52 powers of two of both signs; the bytes
 *      are the same in any grouping, also where buckets are folded;
 *   3. top: exact while the values fit, in any grouping; else count - error <= true <= count, nothing frequent is
 *      missing.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/json.h"
#include "tests/aggregate/metric_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static int64_t count_of(const struct mr_metric *metric, const uint8_t *block) {
    struct mr_bytes bytes = metric_encode(metric, 1, block);
    struct mr_number number = mr_metric_finish(metric, 0, bytes, NULL);
    assert_int_equal(number.kind, MR_NUMBER_INT);
    metric_free(bytes);
    return number.i;
}

/* Distinct. */

static void equal_values_are_one(void **state) {
    (void)state;
    struct mr_metric metric = {.kind = MR_METRIC_DISTINCT};
    struct metric_events events = {.count = 0};
    mr_metric_layout(&metric, 1, 0);
    uint8_t *block = metric_block(&metric, 1);
    assert_int_equal(count_of(&metric, block), 0);
    metric_event_int(&events, 0, 1);
    metric_event_double(&events, 0, 1.0);
    metric_event_text(&events, 0, MR_VALUE_DIGITS, MR_BYTES("1"));
    metric_event_text(&events, 0, MR_VALUE_DIGITS, MR_BYTES("1.0"));
    metric_event(&events, 0, MR_VALUE_NULL, (union mr_value){.i = 0});
    metric_event(&events, 0, MR_VALUE_MISSING, (union mr_value){.i = 0});
    metric_event(&events, 0, 77, (union mr_value){.i = 0});
    metric_add_range(&metric, 1, &events, 0, events.count, block);
    assert_int_equal(count_of(&metric, block), 1);
    metric_events_clear(&events);
    metric_event_text(&events, 0, MR_VALUE_STRING, MR_BYTES("1"));
    metric_event_text(&events, 0, MR_VALUE_STRING, MR_BYTES(""));
    metric_event_text(&events, 0, MR_VALUE_STRING, MR_BYTES("\1\0\0\0\0\0\0\0"));
    metric_event(&events, 0, MR_VALUE_TRUE, (union mr_value){.i = 5});
    metric_event(&events, 0, MR_VALUE_TRUE, (union mr_value){.i = 6});
    metric_event(&events, 0, MR_VALUE_FALSE, (union mr_value){.i = 5});
    metric_event_double(&events, 0, 0.0);
    metric_event_double(&events, 0, -0.0);
    metric_event_double(&events, 0, 1.5);
    metric_event_double(&events, 0, 0x1p63);
    metric_event_int(&events, 0, INT64_MAX);
    metric_add_range(&metric, 1, &events, 0, events.count, block);
    assert_int_equal(count_of(&metric, block), 1 + 9);
    metric_block_close(&metric, 1, block);
    metric_events_finish(&events);
}

/* Values seed * 2^32 + [begin, end), some twice. */
static void add_numbers(const struct mr_metric *metric, uint64_t seed, uint64_t begin, uint64_t end, uint8_t *block) {
    struct metric_events events = {.count = 0};
    for (uint64_t at = begin; at < end;) {
        metric_events_clear(&events);
        for (uint32_t i = 0; i < 4096 && at < end; i++, at++) {
            metric_event_int(&events, 0, (int64_t)(seed << 32 | at));
        }
        metric_add_range(metric, 1, &events, 0, events.count, block);
        metric_add_range(metric, 1, &events, 0, events.count / 64, block);
    }
    metric_events_finish(&events);
}

static void few_are_counted_exactly(void **state) {
    (void)state;
    static const double errors[] = {0.25, 0.05, 0.01, 0.0025};
    static const int64_t exact[] = {16, 24 * 2, 1536, 24576}; /* p = 5, 9, 14, 18: max(16, 3/32 2^p) */
    for (int i = 0; i < 4; i++) {
        struct mr_metric metric = {.kind = MR_METRIC_DISTINCT, .error = errors[i]};
        mr_metric_layout(&metric, 1, 0);
        uint8_t *block = metric_block(&metric, 1);
        int64_t step = exact[i] / 16;
        for (int64_t n = 0; n < exact[i]; n += step) {
            add_numbers(&metric, 1, (uint64_t)n, (uint64_t)(n + step), block);
            assert_int_equal(count_of(&metric, block), n + step);
        }
        metric_block_close(&metric, 1, block);
    }
}

static void many_are_counted_within_the_error(void **state) {
    (void)state;
    enum { SEEDS = 200 };
    static const uint64_t counts[] = {1000, 100000, 1000000};
    double squares[3] = {0};
    double sum[3] = {0};
    struct mr_metric metric = {.kind = MR_METRIC_DISTINCT};
    mr_metric_layout(&metric, 1, 0);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint8_t *block = metric_block(&metric, 1);
        uint64_t done = 0;
        for (int i = 0; i < 3; i++) {
            add_numbers(&metric, seed, done, counts[i], block);
            done = counts[i];
            double error = (double)count_of(&metric, block) / (double)counts[i] - 1;
            squares[i] += error * error;
            sum[i] += error;
        }
        metric_block_close(&metric, 1, block);
    }
    assert_true(squares[0] == 0);
    for (int i = 1; i < 3; i++) {
        assert_true(sqrt(squares[i] / SEEDS) <= 0.01);
        assert_true(fabs(sum[i] / SEEDS) <= 3 * 0.0081 / sqrt(SEEDS)); /* no bias */
    }
}

static void the_set_alone_decides_the_bytes(void **state) {
    (void)state;
    struct kit_random random = {11};
    static const double errors[] = {0.25, 0.1, 0.01};
    for (int round = 0; round < 60; round++) {
        struct metric_events events = {.count = 0};
        struct mr_metric metric = {.kind = MR_METRIC_DISTINCT, .error = errors[round % 3]};
        mr_metric_layout(&metric, 1, 0);
        uint32_t most = round % 2 == 0 ? 50 : 4000;
        uint32_t n = kit_below(&random, most);
        uint32_t values = 1 + kit_below(&random, most);
        for (uint32_t i = 0; i < n; i++) {
            metric_event_int(&events, 0, kit_below(&random, values));
        }
        struct mr_bytes a = metric_deal(&metric, 1, &events, 1, &random);
        for (uint32_t parts = 2; parts < 40; parts *= 3) {
            struct mr_bytes b = metric_deal(&metric, 1, &events, parts, &random);
            assert_true(mr_bytes_equal(a, b));
            metric_free(b);
        }
        metric_free(a);
        metric_events_finish(&events);
    }
}

/* Quantiles. */

enum { RANKS = 41 };

static double ranks[RANKS];

static struct mr_metric quantiles_metric(double error) {
    for (int i = 0; i < RANKS; i++) {
        ranks[i] = (double)i / (RANKS - 1);
    }
    struct mr_metric metric = {.kind = MR_METRIC_QUANTILES, .params = ranks, .param_count = RANKS, .error = error};
    mr_metric_layout(&metric, 1, 0);
    return metric;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Reads {"0":1,"0.025":2,…} and compares each rank with the sorted values; the lowest `skip` ranks may be off. */
static void expect_quantiles(const struct mr_metric *metric, struct mr_bytes bytes, double *values, uint32_t n,
                             double error, int skip) {
    qsort(values, n, sizeof values[0], compare_doubles);
    const char *at = metric_text(metric, 0, bytes, &metric_scratch);
    for (int i = 0; i < RANKS; i++) {
        char name[32];
        char want_name[40];
        (void)mr_double_text(ranks[i], name);
        (void)snprintf(want_name, sizeof want_name, "%c\"%s\":", i == 0 ? '{' : ',', name);
        assert_true(strncmp(at, want_name, strlen(want_name)) == 0);
        char *end;
        double got = strtod(at + strlen(want_name), &end);
        at = end;
        double want = values[(uint32_t)(ranks[i] * (n - 1))];
        if (i >= skip) {
            assert_true(fabs(got - want) <= error * 1.0000001 * fabs(want));
        }
    }
    assert_string_equal(at, "}");
    mr_arena_reset(&metric_scratch);
}

static double random_number(struct kit_random *random, int shape) {
    double uniform = (double)(kit_random(random) >> 11) * 0x1p-53;
    switch (shape) {
    case 0: /* latencies */
        return exp(uniform * 8) / 10;
    case 1: /* both signs, 52 powers of two, and zero */
        uniform = (kit_below(random, 2) == 0 ? -1 : 1) * ldexp(1 + uniform, (int)kit_below(random, 26) - 13);
        return kit_below(random, 10) == 0 ? 0 : uniform;
    case 2: /* next to powers of two */
        return ldexp(1, (int)kit_below(random, 40)) * (1 + ((double)kit_below(random, 3) - 1) * 0x1p-52);
    default: /* few values */
        return kit_below(random, 5);
    }
}

static void ranks_are_within_the_error(void **state) {
    (void)state;
    struct kit_random random = {12};
    static const double errors[] = {0.01, 0.001, 0.05, 0.25};
    for (int round = 0; round < 120; round++) {
        double error = errors[round % 4];
        struct mr_metric metric = quantiles_metric(error);
        struct metric_events events = {.count = 0};
        uint32_t n = 1 + kit_below(&random, round % 5 == 0 ? 5 : 4000);
        double *values = mr_alloc(n * sizeof values[0]);
        for (uint32_t i = 0; i < n; i++) {
            values[i] = random_number(&random, round / 4 % 4);
            if (values[i] == floor(values[i]) && kit_below(&random, 2) == 0) {
                metric_event_int(&events, 0, (int64_t)values[i]);
            } else {
                metric_event_double(&events, 0, values[i]);
            }
            metric_event(&events, 0, MR_VALUE_NULL, (union mr_value){.i = 3});
        }
        struct mr_bytes a = metric_deal(&metric, 1, &events, 1, &random);
        struct mr_bytes b = metric_deal(&metric, 1, &events, 1 + kit_below(&random, 30), &random);
        assert_true(mr_bytes_equal(a, b));
        expect_quantiles(&metric, b, values, n, error, 0);
        metric_free(a);
        metric_free(b);
        mr_free(values);
        metric_events_finish(&events);
    }
}

/* 2100 powers of two do not fit: the highest stay right, and the order still does not show. */
static void folding_keeps_the_highest(void **state) {
    (void)state;
    struct kit_random random = {13};
    struct mr_metric metric = quantiles_metric(0.25);
    for (int round = 0; round < 20; round++) {
        struct metric_events events = {.count = 0};
        enum { N = 3000 };
        static double values[N];
        bool negative = round % 2 == 1;
        for (uint32_t i = 0; i < N; i++) {
            values[i] = ldexp(1 + (double)kit_below(&random, 1000) / 1000, (int)kit_below(&random, 1500) - 750);
            values[i] *= negative && kit_below(&random, 3) == 0 ? -1 : 1;
            metric_event_double(&events, 0, values[i]);
        }
        struct mr_bytes a = metric_deal(&metric, 1, &events, 1, &random);
        struct mr_bytes b = metric_deal(&metric, 1, &events, 20, &random);
        assert_true(mr_bytes_equal(a, b));
        assert_int_equal(a.len, mr_metric_encoded_max(&metric, 1)); /* 82 buckets of more than 1000 */
        expect_quantiles(&metric, b, values, N, 0.25, RANKS - 2);
        metric_free(a);
        metric_free(b);
        metric_events_finish(&events);
    }
}

static void quantiles_at_the_edges(void **state) {
    (void)state;
    static const double half[] = {0.5, 0.999};
    struct kit_random random = {14};
    struct mr_metric metric = {.kind = MR_METRIC_QUANTILES, .params = half, .param_count = 2};
    struct metric_events events = {.count = 0};
    mr_metric_layout(&metric, 1, 0);
    struct mr_bytes bytes = metric_deal(&metric, 1, &events, 2, &random);
    assert_string_equal(metric_text(&metric, 0, bytes, &metric_scratch), "NULL");
    metric_free(bytes);
    metric_event_double(&events, 0, 12.125);
    bytes = metric_deal(&metric, 1, &events, 1, &random);
    assert_string_equal(metric_text(&metric, 0, bytes, &metric_scratch), "{\"0.5\":12.125,\"0.999\":12.125}");
    metric_free(bytes);
    metric_events_clear(&events);
    static const double extremes[] = {-1.7976931348623157e308, -2.2250738585072014e-308, -5e-324, 0,
                                      5e-324, 2.2250738585072014e-308, 1.7976931348623157e308};
    for (int i = 0; i < 7; i++) {
        for (int k = 0; k < 100; k++) {
            metric_event_double(&events, 0, extremes[i]);
        }
    }
    for (int i = 0; i < 7; i++) {
        double at = ((double)i * 100 + 50) / 699;
        struct mr_metric one = {.kind = MR_METRIC_QUANTILES, .params = &at, .param_count = 1};
        mr_metric_layout(&one, 1, 0);
        bytes = metric_deal(&one, 1, &events, 3, &random);
        const char *text = metric_text(&one, 0, bytes, &metric_scratch);
        double got = strtod(strchr(text, ':') + 1, NULL);
        assert_true(fabs(got - extremes[i]) <= 0.0100001 * fabs(extremes[i]) + 1e-323);
        metric_free(bytes);
    }
    metric_events_finish(&events);
}

/* Top. */

struct counted {
    uint32_t value;
    uint64_t count;
    uint64_t error;
};

/* Reads [{"value":"v12","count":3,"error":0},…]. */
static uint32_t read_top(const char *text, struct counted *ret) {
    uint32_t n = 0;
    assert_int_equal(*text++, '[');
    while (*text == '{') {
        unsigned value;
        unsigned long long count;
        unsigned long long error;
        int len = 0;
        int read = sscanf(text, "{\"value\":\"v%u\",\"count\":%llu,\"error\":%llu}%n", &value, &count, &error, &len);
        assert_int_equal(read, 3);
        ret[n++] = (struct counted){value, count, error};
        text += len;
        text += *text == ',';
    }
    assert_string_equal(text, "]");
    return n;
}

static void add_named(struct metric_events *events, uint32_t value) {
    char text[600];
    int len = snprintf(text, sizeof text, "v%05u", (unsigned)value);
    metric_event_text(events, 0, MR_VALUE_STRING, mr_bytes_of(text, (size_t)len));
}

static uint32_t skewed(struct kit_random *random, uint32_t values) {
    double uniform = (double)(kit_random(random) >> 11) * 0x1p-53;
    return (uint32_t)(pow(values, uniform)) - 1; /* like Zipf */
}

static void few_values_are_exact(void **state) {
    (void)state;
    struct kit_random random = {15};
    for (int round = 0; round < 60; round++) {
        struct metric_events events = {.count = 0};
        uint64_t truth[100] = {0};
        struct counted got[MR_METRIC_TOP_MAX];
        struct mr_metric metric = {.kind = MR_METRIC_TOP, .limit = 1 + kit_below(&random, 20)};
        mr_metric_layout(&metric, 1, 0);
        uint32_t values = 1 + kit_below(&random, 100);
        uint32_t n = kit_below(&random, 2000);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t value = skewed(&random, values);
            truth[value]++;
            add_named(&events, value);
        }
        struct mr_bytes bytes = metric_deal(&metric, 1, &events, 1 + kit_below(&random, 9), &random);
        uint32_t count = read_top(metric_text(&metric, 0, bytes, &metric_scratch), got);
        struct mr_bytes again = metric_deal(&metric, 1, &events, 1, &random);
        assert_true(mr_bytes_equal(bytes, again));
        for (uint32_t i = 0; i < count; i++) { /* the greatest left, the least value among equals */
            uint32_t best = 0;
            for (uint32_t v = 1; v < values; v++) {
                best = truth[v] > truth[best] ? v : best;
            }
            assert_int_equal(got[i].value, best);
            assert_int_equal(got[i].count, truth[best]);
            assert_int_equal(got[i].error, 0);
            truth[best] = 0;
        }
        uint32_t left = 0;
        for (uint32_t v = 0; v < values; v++) {
            left += truth[v] > 0;
        }
        assert_true(count == metric.limit || left == 0);
        metric_free(bytes);
        metric_free(again);
        metric_events_finish(&events);
        mr_arena_reset(&metric_scratch);
    }
}

static void many_values_keep_the_bounds(void **state) {
    (void)state;
    enum { VALUES = 20000, N = 40000 };
    struct kit_random random = {16};
    static uint64_t truth[VALUES];
    for (int round = 0; round < 24; round++) {
        struct metric_events events = {.count = 0};
        struct counted got[MR_METRIC_TOP_MAX];
        static const uint32_t limits[] = {10, 100, MR_METRIC_TOP_MAX};
        struct mr_metric metric = {.kind = MR_METRIC_TOP, .limit = limits[round / 4 % 3]};
        mr_metric_layout(&metric, 1, 0);
        memset(truth, 0, sizeof truth);
        for (uint32_t i = 0; i < N; i++) {
            uint32_t value = round % 3 == 0 ? kit_below(&random, VALUES) : skewed(&random, VALUES);
            truth[value]++;
            add_named(&events, value);
        }
        uint32_t parts = round % 4 == 0 ? 1 : 1 + kit_below(&random, 50);
        struct mr_bytes bytes = metric_deal(&metric, 1, &events, parts, &random);
        uint32_t count = read_top(metric_text(&metric, 0, bytes, &metric_scratch), got);
        assert_int_equal(count, metric.limit);
        uint64_t worst = N / metric.capacity;
        static bool is_in[VALUES];
        memset(is_in, 0, sizeof is_in);
        for (uint32_t i = 0; i < count; i++) {
            assert_true(got[i].count - got[i].error <= truth[got[i].value]);
            assert_true(truth[got[i].value] <= got[i].count);
            assert_true(got[i].error <= worst);
            assert_true(i == 0 || got[i].count <= got[i - 1].count);
            is_in[got[i].value] = true;
        }
        for (uint32_t v = 0; v < VALUES; v++) { /* who is not in it has no more than the last, or was never kept */
            assert_true(is_in[v] || truth[v] <= got[count - 1].count || truth[v] <= worst);
        }
        metric_free(bytes);
        metric_events_finish(&events);
        mr_arena_reset(&metric_scratch);
    }
}

static void top_by_hand(void **state) {
    (void)state;
    struct kit_random random = {17};
    struct mr_metric metric = {.kind = MR_METRIC_TOP, .limit = 9};
    struct metric_events events = {.count = 0};
    mr_metric_layout(&metric, 1, 0);
    struct mr_bytes bytes = metric_deal(&metric, 1, &events, 2, &random);
    assert_string_equal(metric_text(&metric, 0, bytes, &metric_scratch), "[]");
    metric_free(bytes);
    metric_event_int(&events, 0, 2);
    metric_event_double(&events, 0, 2);
    metric_event_double(&events, 0, 1.5);
    metric_event_text(&events, 0, MR_VALUE_STRING, MR_BYTES("2"));
    metric_event_text(&events, 0, MR_VALUE_STRING, MR_BYTES(""));
    metric_event_text(&events, 0, MR_VALUE_STRING, MR_BYTES("2a"));
    metric_event(&events, 0, MR_VALUE_TRUE, (union mr_value){.i = 9});
    metric_event(&events, 0, MR_VALUE_NULL, (union mr_value){.i = 9});
    bytes = metric_deal(&metric, 1, &events, 3, &random);
    assert_string_equal(metric_text(&metric, 0, bytes, &metric_scratch),
                        "[{\"value\":2,\"count\":2,\"error\":0},{\"value\":true,\"count\":1,\"error\":0},"
                        "{\"value\":1.5,\"count\":1,\"error\":0},{\"value\":\"\",\"count\":1,\"error\":0},"
                        "{\"value\":\"2\",\"count\":1,\"error\":0},{\"value\":\"2a\",\"count\":1,\"error\":0}]");
    metric_free(bytes);
    metric_events_finish(&events);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_values_are_one),
        cmocka_unit_test(few_are_counted_exactly),
        cmocka_unit_test(many_are_counted_within_the_error),
        cmocka_unit_test(the_set_alone_decides_the_bytes),
        cmocka_unit_test(ranks_are_within_the_error),
        cmocka_unit_test(folding_keeps_the_highest),
        cmocka_unit_test(quantiles_at_the_edges),
        cmocka_unit_test(few_values_are_exact),
        cmocka_unit_test(many_values_keep_the_bounds),
        cmocka_unit_test(top_by_hand),
    };
    return cmocka_run_group_tests(tests, metric_set_up, metric_tear_down);
}
