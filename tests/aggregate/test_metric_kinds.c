/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the metrics of fixed size, and first, last and collect, are exact in any grouping:
 *   1. small cases by hand: what is taken, what is skipped, what the results look like;
 *   2. random events of all kinds of values, dealt to random blocks that are merged in random order through
 *      their encoded forms, against a sort by (time, place) and plain loops;
 *   3. variance against exact integers, and where a plain sum of squares has nothing left.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/json.h"
#include "tests/aggregate/metric_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* All events into one block; the number of metrics[index]. */
static struct mr_number number_of(struct mr_metric *metrics, uint32_t count, uint32_t index,
                                  const struct metric_events *events) {
    mr_metric_layout(metrics, count, 0);
    uint8_t *block = metric_block(metrics, count);
    metric_add_range(metrics, count, events, 0, events->count, block);
    struct mr_bytes bytes = metric_encode(metrics, count, block);
    struct mr_number ret = mr_metric_finish(metrics, index, bytes, &metric_scratch);
    metric_block_close(metrics, count, block);
    metric_free(bytes);
    return ret;
}

static void expect_text(struct mr_metric metric, const struct metric_events *events, enum mr_number_kind kind,
                        const char *want) {
    struct mr_number got = number_of(&metric, 1, 0, events);
    assert_int_equal(got.kind, kind);
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.text, want, got.len);
}

static void first_and_last_take_any_scalar(void **state) {
    (void)state;
    struct metric_events events = {.count = 0};
    struct mr_metric first = {.kind = MR_METRIC_FIRST};
    struct mr_metric last = {.kind = MR_METRIC_LAST};
    assert_int_equal(number_of(&first, 1, 0, &events).kind, MR_NUMBER_NULL);
    metric_event(&events, 0, MR_VALUE_NULL, (union mr_value){.i = 1});
    metric_event(&events, 0, MR_VALUE_MISSING, (union mr_value){.i = 1});
    metric_event(&events, 9, 200, (union mr_value){.i = 1}); /* a kind of tomorrow */
    assert_int_equal(number_of(&first, 1, 0, &events).kind, MR_NUMBER_NULL);
    assert_int_equal(number_of(&last, 1, 0, &events).kind, MR_NUMBER_NULL);
    metric_event(&events, 5, MR_VALUE_TRUE, (union mr_value){.i = 0});
    struct mr_number got = number_of(&first, 1, 0, &events);
    assert_true(got.kind == MR_NUMBER_BOOL && got.i == 1);
    metric_event_int(&events, 4, -7);
    got = number_of(&first, 1, 0, &events);
    assert_true(got.kind == MR_NUMBER_INT && got.i == -7);
    metric_event_double(&events, 3, 2.5);
    got = number_of(&first, 1, 0, &events);
    assert_true(got.kind == MR_NUMBER_DOUBLE && got.d == 2.5);
    metric_event_text(&events, 2, MR_VALUE_STRING, MR_BYTES("zwei"));
    expect_text(first, &events, MR_NUMBER_TEXT, "zwei");
    metric_event_text(&events, 1, MR_VALUE_STRING, MR_BYTES(""));
    expect_text(first, &events, MR_NUMBER_TEXT, "");
    metric_event(&events, 0, MR_VALUE_FALSE, (union mr_value){.i = 0});
    got = number_of(&first, 1, 0, &events);
    assert_true(got.kind == MR_NUMBER_BOOL && got.i == 0);
    got = number_of(&last, 1, 0, &events);
    assert_true(got.kind == MR_NUMBER_BOOL && got.i == 1);
    metric_event_text(&events, 8, MR_VALUE_STRING, MR_BYTES("a"));
    metric_event_text(&events, 8, MR_VALUE_STRING, MR_BYTES("b")); /* the same time: the later one in the log */
    expect_text(last, &events, MR_NUMBER_TEXT, "b");
    metric_events_finish(&events);
}

static void digits_are_numbers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum mr_number_kind kind;
        int64_t i;
        double d;
    } cases[] = {
        {"12", MR_NUMBER_INT, 12, 0},
        {"-0", MR_NUMBER_INT, 0, 0},
        {"9223372036854775807", MR_NUMBER_INT, INT64_MAX, 0},
        {"-9223372036854775808", MR_NUMBER_INT, INT64_MIN, 0},
        {"9223372036854775808", MR_NUMBER_DOUBLE, 0, 0x1p63},
        {"1.5e3", MR_NUMBER_DOUBLE, 0, 1500},
        {"1e999", MR_NUMBER_NULL, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct metric_events events = {.count = 0};
        struct mr_metric first = {.kind = MR_METRIC_FIRST};
        metric_event_text(&events, 0, MR_VALUE_DIGITS, mr_bytes_text(cases[i].text));
        struct mr_number got = number_of(&first, 1, 0, &events);
        assert_int_equal(got.kind, cases[i].kind);
        if (got.kind == MR_NUMBER_INT) {
            assert_int_equal(got.i, cases[i].i);
        } else if (got.kind == MR_NUMBER_DOUBLE) {
            assert_true(got.d == cases[i].d);
        }
        metric_events_finish(&events);
    }
}

static void long_texts_are_cut_at_a_character(void **state) {
    (void)state;
    struct metric_events events = {.count = 0};
    char text[MR_KEY_TEXT_MAX + 20];
    memset(text, 'x', sizeof text);
    memcpy(text + MR_KEY_TEXT_MAX - 2, "\xE2\x82\xAC", 3); /* one byte of it would be over */
    metric_event_text(&events, 0, MR_VALUE_STRING, mr_bytes_of(text, sizeof text));
    struct mr_metric last = {.kind = MR_METRIC_LAST};
    struct mr_number got = number_of(&last, 1, 0, &events);
    assert_int_equal(got.len, MR_KEY_TEXT_MAX - 2);
    metric_events_finish(&events);
}

static void histogram_and_ratio_by_hand(void **state) {
    (void)state;
    static const double bounds[] = {-1.5, 0, 10};
    struct metric_events events = {.count = 0};
    struct mr_metric metrics[] = {
        {.kind = MR_METRIC_HISTOGRAM, .params = bounds, .param_count = 3},
        {.kind = MR_METRIC_SUM},
        {.kind = MR_METRIC_COUNT},
        {.kind = MR_METRIC_RATIO, .over = {1, 2}},
        {.kind = MR_METRIC_RATIO, .over = {2, 0}}, /* a histogram is no number */
    };
    assert_int_equal(number_of(metrics, 5, 3, &events).kind, MR_NUMBER_NULL);
    expect_text(metrics[0], &events, MR_NUMBER_JSON, "{\"bounds\":[-1.5,0,10],\"counts\":[0,0,0,0]}");
    metric_event_int(&events, 0, -2);
    metric_event_double(&events, 0, -1.5);
    metric_event_int(&events, 0, 0);
    metric_event_double(&events, 0, 9.5);
    metric_event_int(&events, 0, 10);
    metric_event_int(&events, 0, INT64_MAX);
    metric_event_text(&events, 0, MR_VALUE_STRING, MR_BYTES("5"));
    expect_text(metrics[0], &events, MR_NUMBER_JSON, "{\"bounds\":[-1.5,0,10],\"counts\":[1,1,2,2]}");
    events.count = 5;
    struct mr_number got = number_of(metrics, 5, 3, &events);
    assert_true(got.kind == MR_NUMBER_DOUBLE && got.d == 16.0 / 5);
    assert_int_equal(number_of(metrics, 5, 4, &events).kind, MR_NUMBER_NULL);
    metric_events_finish(&events);
    struct mr_metric over_zero[] = {
        {.kind = MR_METRIC_COUNT}, {.kind = MR_METRIC_SUM}, {.kind = MR_METRIC_RATIO, .over = {0, 1}}};
    metric_event_int(&events, 0, 0);
    assert_int_equal(number_of(over_zero, 3, 2, &events).kind, MR_NUMBER_NULL);
    metric_events_finish(&events);
}

static void collect_by_hand(void **state) {
    (void)state;
    struct metric_events events = {.count = 0};
    struct mr_metric collect = {.kind = MR_METRIC_COLLECT, .limit = 3};
    expect_text(collect, &events, MR_NUMBER_JSON, "{\"values\":[],\"count\":0}");
    metric_event_text(&events, 7, MR_VALUE_STRING, MR_BYTES("a\"b"));
    metric_event_int(&events, 5, 1);
    metric_event(&events, 6, MR_VALUE_NULL, (union mr_value){.i = 0});
    expect_text(collect, &events, MR_NUMBER_JSON, "{\"values\":[1,\"a\\\"b\"],\"count\":2}");
    metric_event(&events, 6, MR_VALUE_TRUE, (union mr_value){.i = 0});
    metric_event_double(&events, 9, 1);
    expect_text(collect, &events, MR_NUMBER_JSON, "{\"values\":[1,true,\"a\\\"b\"],\"count\":4}");
    metric_event_double(&events, 1, 0.5);
    expect_text(collect, &events, MR_NUMBER_JSON, "{\"values\":[0.5,1,true],\"count\":5}");
    metric_events_finish(&events);
}

/* Random. */

static void random_events(struct metric_events *events, uint32_t count, uint32_t text_max,
                          struct kit_random *random) {
    char text[2000];
    MR_ASSERT(text_max < sizeof text);
    for (uint32_t i = 0; i < count; i++) {
        int64_t time_ms = kit_below(random, count / 2 + 1); /* many at the same time */
        switch (kit_below(random, 7)) {
        case 0:
            metric_event(events, time_ms, (uint8_t)kit_below(random, MR_VALUE_INT), (union mr_value){.i = 0});
            break;
        case 1:
            metric_event(events, time_ms, 100, (union mr_value){.i = 0});
            break;
        case 2:
            metric_event_double(events, time_ms, (double)kit_below(random, 1000) / 8);
            break;
        case 3:
            metric_event_int(events, time_ms, (int64_t)kit_below(random, 1000) - 500);
            break;
        default: {
            uint32_t len = kit_below(random, text_max + 1);
            memset(text, 'a' + (int)kit_below(random, 26), len);
            metric_event_text(events, time_ms, MR_VALUE_STRING, mr_bytes_of(text, len));
        }
        }
    }
}

static const struct metric_events *sorted_events;

static int compare_places(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    const int64_t *times_ms = sorted_events->batch.times_ms;
    if (times_ms[x] != times_ms[y]) {
        return times_ms[x] < times_ms[y] ? -1 : 1;
    }
    return (x > y) - (x < y);
}

/* The JSON of event i's value; false if it is none. */
static bool value_json(const struct metric_events *events, uint32_t i, struct mr_json *json, uint32_t *ret_len) {
    union mr_value value = events->column.values[i];
    *ret_len = 0;
    switch (events->column.kinds[i]) {
    case MR_VALUE_TRUE:
    case MR_VALUE_FALSE:
        mr_json_bool(json, events->column.kinds[i] == MR_VALUE_TRUE);
        return true;
    case MR_VALUE_INT:
        mr_json_int(json, value.i);
        return true;
    case MR_VALUE_DOUBLE:
        mr_json_double(json, value.d);
        return true;
    case MR_VALUE_STRING: {
        struct mr_bytes text = mr_batch_text(&events->batch, value);
        text.len = text.len > MR_KEY_TEXT_MAX ? MR_KEY_TEXT_MAX : text.len; /* ASCII */
        mr_json_string(json, text);
        *ret_len = (uint32_t)text.len;
        return true;
    }
    default:
        return false;
    }
}

/* What collect, first and last must say. */
static void model_collect(const struct metric_events *events, uint32_t limit, struct mr_buf *collect,
                          struct mr_buf *first, struct mr_buf *last) {
    uint32_t *order = mr_alloc(events->count * sizeof order[0] + 1);
    for (uint32_t i = 0; i < events->count; i++) {
        order[i] = i;
    }
    sorted_events = events;
    qsort(order, events->count, sizeof order[0], compare_places);
    struct mr_json json;
    uint64_t total = 0;
    uint32_t kept = 0;
    uint32_t bytes = 0;
    bool full = false;
    mr_buf_append_text(collect, "{\"values\":[");
    for (uint32_t k = 0; k < events->count; k++) {
        uint32_t len;
        struct mr_buf one;
        mr_buf_init(&one, 1 << 20);
        mr_json_init(&json, &one);
        if (value_json(events, order[k], &json, &len)) {
            total++;
            full = full || kept == limit || bytes + 32 + len > MR_METRIC_COLLECT_BYTES;
            if (!full) {
                mr_buf_append_text(collect, kept++ > 0 ? "," : "");
                mr_buf_append_bytes(collect, mr_buf_bytes(&one));
                bytes += 32 + len;
            }
            if (total == 1) {
                mr_buf_append_bytes(first, mr_buf_bytes(&one));
            }
            mr_buf_clear(last);
            mr_buf_append_bytes(last, mr_buf_bytes(&one));
        }
        mr_buf_finish(&one);
    }
    mr_buf_printf(collect, "],\"count\":%llu}", (unsigned long long)total);
    mr_free(order);
}

static void expect_number(struct mr_number got, const struct mr_buf *want) {
    struct mr_buf buf;
    struct mr_json json;
    mr_buf_init(&buf, 1 << 20);
    mr_json_init(&json, &buf);
    switch (got.kind) {
    case MR_NUMBER_BOOL:
        mr_json_bool(&json, got.i != 0);
        break;
    case MR_NUMBER_INT:
        mr_json_int(&json, got.i);
        break;
    case MR_NUMBER_DOUBLE:
        mr_json_double(&json, got.d);
        break;
    case MR_NUMBER_TEXT:
        mr_json_string(&json, mr_bytes_of(got.text, got.len));
        break;
    default:
        assert_int_equal(got.kind, MR_NUMBER_NULL);
    }
    assert_int_equal(buf.len, want->len);
    assert_true(mr_bytes_equal(mr_buf_bytes(&buf), mr_buf_bytes(want)));
    mr_buf_finish(&buf);
}

static void any_grouping_collects_the_same(void **state) {
    (void)state;
    struct kit_random random = {7};
    for (int round = 0; round < 150; round++) {
        struct metric_events events = {.count = 0};
        struct mr_buf want[3];
        uint32_t limit = 1 + kit_below(&random, round % 9 == 0 ? MR_METRIC_COLLECT_MAX : 400);
        uint32_t count = kit_below(&random, round % 3 == 1 ? 20 : round % 9 == 0 ? 5000 : 1200);
        struct mr_metric metrics[] = {{.kind = MR_METRIC_COLLECT, .limit = limit},
                                      {.kind = MR_METRIC_COUNT},
                                      {.kind = MR_METRIC_FIRST},
                                      {.kind = MR_METRIC_LAST}};
        mr_metric_layout(metrics, 4, 8);
        random_events(&events, count, round % 2 == 0 ? 5 : 1500, &random);
        for (int i = 0; i < 3; i++) {
            mr_buf_init(&want[i], 1 << 20);
        }
        model_collect(&events, metrics[0].limit, &want[0], &want[1], &want[2]);
        mr_buf_append_char(&want[0], 0);
        struct mr_bytes bytes = metric_deal(metrics, 4, &events, 1 + kit_below(&random, 9), &random);
        assert_string_equal(metric_text(metrics, 0, bytes, &metric_scratch), (const char *)want[0].ptr);
        expect_number(mr_metric_finish(metrics, 2, bytes, &metric_scratch), &want[1]);
        expect_number(mr_metric_finish(metrics, 3, bytes, NULL), &want[2]);
        struct mr_bytes again = metric_deal(metrics, 4, &events, 1 + kit_below(&random, 9), &random);
        assert_true(mr_bytes_equal(bytes, again));
        metric_free(again);
        metric_free(bytes);
        for (int i = 0; i < 3; i++) {
            mr_buf_finish(&want[i]);
        }
        metric_events_finish(&events);
        mr_arena_reset(&metric_scratch);
    }
}

static void any_grouping_gives_the_same_histogram(void **state) {
    (void)state;
    struct kit_random random = {8};
    double bounds[MR_METRIC_PARAMS_MAX];
    for (int round = 0; round < 100; round++) {
        struct metric_events events = {.count = 0};
        uint64_t want[MR_METRIC_PARAMS_MAX + 1] = {0};
        uint32_t count = 1 + kit_below(&random, MR_METRIC_PARAMS_MAX);
        for (uint32_t i = 0; i < count; i++) {
            bounds[i] = -500 + (double)i * 12.5;
        }
        struct mr_metric metric = {.kind = MR_METRIC_HISTOGRAM, .params = bounds, .param_count = count};
        mr_metric_layout(&metric, 1, 0);
        random_events(&events, kit_below(&random, 1000), 3, &random);
        for (uint32_t i = 0; i < events.count; i++) {
            uint8_t kind = events.column.kinds[i];
            double x = kind == MR_VALUE_INT ? (double)events.column.values[i].i : events.column.values[i].d;
            uint32_t bucket = 0;
            while (bucket < count && x >= bounds[bucket]) {
                bucket++;
            }
            want[bucket] += kind == MR_VALUE_INT || kind == MR_VALUE_DOUBLE;
        }
        struct mr_bytes bytes = metric_deal(&metric, 1, &events, 5, &random);
        assert_int_equal(bytes.len, (count + 1) * sizeof want[0]);
        assert_memory_equal(bytes.ptr, want, bytes.len);
        metric_free(bytes);
        metric_events_finish(&events);
    }
}

/* Variance. */

static double variance_of(const struct metric_events *events, uint32_t parts, struct kit_random *random) {
    struct mr_metric metrics[] = {{.kind = MR_METRIC_VARIANCE}, {.kind = MR_METRIC_STDDEV}};
    mr_metric_layout(metrics, 2, 0);
    struct mr_bytes bytes = metric_deal(metrics, 2, events, parts, random);
    struct mr_number variance = mr_metric_finish(metrics, 0, bytes, NULL);
    struct mr_number stddev = mr_metric_finish(metrics, 1, bytes, NULL);
    assert_int_equal(variance.kind, MR_NUMBER_DOUBLE);
    assert_true(stddev.d == sqrt(variance.d));
    metric_free(bytes);
    return variance.d;
}

/* The events' values minus base are ints: n sum d^2 - (sum d)^2 is exact in 128 bits. */
static double exact_variance(const struct metric_events *events, double unit, double base) {
    __int128_t sum = 0;
    __int128_t squares = 0;
    __int128_t n = events->count;
    for (uint32_t i = 0; i < events->count; i++) {
        bool is_int = events->column.kinds[i] == MR_VALUE_INT;
        double x = is_int ? (double)(events->column.values[i].i - (int64_t)base) : events->column.values[i].d - base;
        __int128_t d = (__int128_t)(x / unit);
        sum += d;
        squares += d * d;
    }
    long double above = (long double)(n * squares - sum * sum);
    return (double)(above / (long double)(n * n)) * unit * unit;
}

static void variance_is_exact_in_any_order(void **state) {
    (void)state;
    struct kit_random random = {9};
    static const double bases[] = {0, 1e9, -1e12, 1.7e15, 0x1p62};
    for (int round = 0; round < 300; round++) {
        struct metric_events events = {.count = 0};
        double base = bases[round % 5];
        uint32_t n = 1 + kit_below(&random, 500);
        bool ints = round % 5 == 4 || kit_below(&random, 2) == 0;
        double unit = ints || round % 5 == 3 ? 1 : 0x1p-10;
        for (uint32_t i = 0; i < n; i++) {
            int64_t d = kit_below(&random, round % 7 == 0 ? 2 : 1 << 20);
            if (ints) {
                metric_event_int(&events, 0, (int64_t)base + d);
            } else {
                metric_event_double(&events, 0, base + (double)d * unit);
            }
        }
        double want = exact_variance(&events, unit, base);
        for (int order = 0; order < 3; order++) {
            double got = variance_of(&events, 1 + kit_below(&random, 20), &random);
            assert_true(fabs(got - want) <= 1e-14 * want);
        }
        metric_events_finish(&events);
    }
}

/* Differences that are no doubles; the oracle has 64 bits and two passes. */
static void variance_of_any_doubles_is_right(void **state) {
    (void)state;
    struct kit_random random = {21};
    for (int round = 0; round < 200; round++) {
        struct metric_events events = {.count = 0};
        uint32_t n = 2 + kit_below(&random, round % 2 == 0 ? 3 : 300);
        long double sum = 0;
        long double squares = 0;
        for (uint32_t i = 0; i < n; i++) {
            double x = (double)(int64_t)kit_random(&random) * pow(10, -(double)kit_below(&random, round % 20 + 1));
            metric_event_double(&events, 0, x);
            sum += x;
        }
        for (uint32_t i = 0; i < n; i++) {
            long double d = events.column.values[i].d - sum / n;
            squares += d * d;
        }
        double got = variance_of(&events, 1 + kit_below(&random, n), &random);
        assert_true(fabsl(got - squares / n) <= 1.2e-16L * squares / n);
        metric_events_finish(&events);
    }
}

static void variance_at_the_edges(void **state) {
    (void)state;
    struct kit_random random = {10};
    struct metric_events events = {.count = 0};
    struct mr_metric metric = {.kind = MR_METRIC_VARIANCE};
    assert_int_equal(number_of(&metric, 1, 0, &events).kind, MR_NUMBER_NULL);
    metric_event_double(&events, 0, 0.1);
    assert_true(variance_of(&events, 1, &random) == 0);
    for (int i = 0; i < 1000; i++) {
        metric_event_double(&events, 0, 0.1);
    }
    assert_true(variance_of(&events, 7, &random) == 0);
    metric_events_clear(&events);
    metric_event_int(&events, 0, INT64_MAX); /* neighbours that are one double */
    metric_event_int(&events, 0, INT64_MAX - 1);
    assert_true(variance_of(&events, 2, &random) == 0.25);
    metric_event_int(&events, 0, INT64_MIN);
    assert_true(variance_of(&events, 3, &random) > 1e37);
    metric_events_clear(&events);
    metric_event_double(&events, 0, 0); /* an outlier comes first, or not */
    for (int i = 0; i < 100; i++) {
        metric_event_double(&events, 0, 1e12 + i % 2);
    }
    double want = variance_of(&events, 1, &random);
    for (int i = 0; i < 50; i++) {
        assert_true(fabs(variance_of(&events, 1 + kit_below(&random, 9), &random) - want) <= 1e-15 * want);
    }
    metric_event_double(&events, 0, 1e200);
    struct mr_number got = number_of(&metric, 1, 0, &events);
    assert_true(got.kind == MR_NUMBER_OVERFLOW && got.d == INFINITY);
    metric_events_finish(&events);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_and_last_take_any_scalar),
        cmocka_unit_test(digits_are_numbers),
        cmocka_unit_test(long_texts_are_cut_at_a_character),
        cmocka_unit_test(histogram_and_ratio_by_hand),
        cmocka_unit_test(collect_by_hand),
        cmocka_unit_test(any_grouping_collects_the_same),
        cmocka_unit_test(any_grouping_gives_the_same_histogram),
        cmocka_unit_test(variance_is_exact_in_any_order),
        cmocka_unit_test(variance_of_any_doubles_is_right),
        cmocka_unit_test(variance_at_the_edges),
    };
    return cmocka_run_group_tests(tests, metric_set_up, metric_tear_down);
}
