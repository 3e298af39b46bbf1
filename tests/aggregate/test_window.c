/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the arithmetic of windows and watermarks:
 *   1. small numbers exhaustively against definitions written with loops, without a floor below
 *      which everything is final and with any;
 *   2. the edges of int64: nothing wraps, every time has one window, the questions agree with each
 *      other;
 *   3. random walks of a watermark against the sentence that defines it;
 *   4. windows of all kinds, with offsets: which hold a time, when they close and are final, which events are late and
 *      when something is due, against definitions that look at every window.
 */
#include "aggregate/watermark.h"
#include "aggregate/window.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static int64_t naive_start(int64_t time, int64_t size) {
    int64_t start = -1000 * size;
    while (start + size <= time) {
        start += size;
    }
    return start;
}

static int64_t naive_due(const struct mr_rule *rule, int64_t watermark, int64_t time_max) {
    int64_t last = naive_start(time_max, rule->window.size_ms);
    for (int64_t w = watermark + 1; w <= last + rule->window.size_ms + rule->allowed_lateness_ms;
         w++) {
        for (int64_t start = last; start > last - 60; start -= rule->window.size_ms) {
            int64_t end = start + rule->window.size_ms;
            if (end <= rule->final_floor_ms) {
                break;
            }
            if (w == end || w == end + rule->allowed_lateness_ms) {
                return w;
            }
        }
    }
    return INT64_MAX;
}

static void check_small(const struct mr_rule *rule, int64_t time, int64_t watermark) {
    int64_t size = rule->window.size_ms;
    int64_t lateness = rule->allowed_lateness_ms;
    int64_t start = naive_start(time, size);
    assert_int_equal(mr_window_start(rule, time), start);
    assert_int_equal(mr_window_end(rule, start), start + size);
    assert_int_equal(mr_window_end(rule, time), start + size);
    bool below = start + size <= rule->final_floor_ms;
    assert_int_equal(mr_window_closed(rule, start, watermark), below || watermark >= start + size);
    assert_int_equal(mr_window_final(rule, start, watermark),
                     below || watermark >= start + size + lateness);
    int64_t final_end = mr_window_final_end(rule, watermark);
    assert_int_equal(mr_window_final(rule, start, watermark), start + size <= final_end);
    assert_int_equal(mr_window_final(rule, start, watermark), time < final_end);
    assert_int_equal(mr_window_next_due(rule, watermark, time), naive_due(rule, watermark, time));
}

static void check_rule(const struct mr_rule *rule) {
    for (int64_t time = -11; time <= 11; time++) {
        for (int64_t watermark = -12; watermark <= 20; watermark++) {
            check_small(rule, time, watermark);
        }
    }
}

static void small_windows(void **state) {
    (void)state;
    for (int64_t size = 1; size <= 5; size++) {
        for (int64_t lateness = 0; lateness <= 7; lateness += lateness < 2 ? 1 : 5) {
            struct mr_rule rule = kit_rule(0, 0, 1, size, lateness);
            check_rule(&rule);
            for (rule.final_floor_ms = -6; rule.final_floor_ms <= 22; rule.final_floor_ms++) {
                check_rule(&rule);
            }
        }
    }
}

static void boundaries(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 10000, 3000);
    assert_int_equal(mr_window_start(&rule, -1), -10000);
    assert_int_equal(mr_window_start(&rule, 9999), 0);
    assert_int_equal(mr_window_start(&rule, 10000), 10000);
    assert_false(mr_window_closed(&rule, 0, 9999));
    assert_true(mr_window_closed(&rule, 0, 10000));
    assert_false(mr_window_final(&rule, 0, 12999));
    assert_true(mr_window_final(&rule, 0, 13000));
    assert_int_equal(mr_window_final_end(&rule, 12999), 0);
    assert_int_equal(mr_window_final_end(&rule, 13000), 10000);
    assert_int_equal(mr_window_next_due(&rule, 9999, 5), 10000);
    assert_int_equal(mr_window_next_due(&rule, 10000, 5), 13000);
    assert_int_equal(mr_window_next_due(&rule, 13000, 5), INT64_MAX);
    assert_int_equal(mr_window_next_due(&rule, 0, INT64_MIN), INT64_MAX);
}

static void check_edges(int64_t floor_ms) {
    const int64_t times[] = {INT64_MIN, INT64_MIN + 1,     INT64_MIN + 9999, -1,       0,
                             1,         INT64_MAX - 10000, INT64_MAX - 1,    INT64_MAX};
    const int64_t sizes[] = {1, 3, 10000, INT64_MAX / 2, INT64_MAX};
    const int64_t latenesses[] = {0, 1, INT64_MAX};
    enum { TIMES = sizeof times / sizeof times[0] };
    for (int s = 0; s < 5; s++) {
        for (int l = 0; l < 3; l++) {
            struct mr_rule rule = kit_rule(0, 0, 1, sizes[s], latenesses[l]);
            rule.final_floor_ms = floor_ms;
            for (int t = 0; t < TIMES; t++) {
                int64_t start = mr_window_start(&rule, times[t]);
                int64_t end = mr_window_end(&rule, start);
                assert_true(start <= times[t] && (start < end || end == INT64_MAX));
                assert_true(times[t] < end || end == INT64_MAX);
                assert_int_equal(mr_window_start(&rule, start), start);
                assert_int_equal(mr_window_end(&rule, times[t]), end);
                assert_true(mr_window_closed(&rule, start, INT64_MAX));
                assert_true(mr_window_final(&rule, start, INT64_MAX));
                assert_int_equal(mr_window_closed(&rule, start, INT64_MIN), end <= floor_ms);
                for (int w = 0; w < TIMES; w++) {
                    bool final = mr_window_final(&rule, start, times[w]);
                    assert_int_equal(final, end <= mr_window_final_end(&rule, times[w]));
                    assert_true(!final || mr_window_closed(&rule, start, times[w]));
                    int64_t due = mr_window_next_due(&rule, times[w], times[t]);
                    assert_true(due > times[w] || due == INT64_MAX);
                }
            }
        }
    }
}

static void edges_of_int64(void **state) {
    (void)state;
    check_edges(INT64_MIN);
    check_edges(INT64_MIN + 1);
    check_edges(-1);
    check_edges(20000);
    check_edges(INT64_MAX - 1);
    check_edges(INT64_MAX);
    struct mr_rule rule = kit_rule(0, 0, 1, 10000, 5000);
    assert_int_equal(mr_window_final_end(&rule, INT64_MIN), INT64_MIN);
    assert_int_equal(mr_window_final_end(&rule, INT64_MIN + 4000), INT64_MIN);
    assert_int_equal(mr_window_final_end(&rule, INT64_MAX), INT64_MAX);
}

static void watermark_walks(void **state) {
    (void)state;
    struct kit_random random = {5};
    for (int round = 0; round < 200; round++) {
        struct mr_watermark_options o = {
            .out_of_orderness_ms = kit_below(&random, 50),
            .idle_timeout_ms = kit_below(&random, 4) == 0 ? INT64_MAX : kit_below(&random, 100),
            .max_future_ms = kit_below(&random, 30),
        };
        struct mr_watermark w;
        mr_watermark_init(&w);
        int64_t recorded = 1000;
        int64_t last_event = INT64_MIN;
        int64_t want = INT64_MIN;
        for (int step = 0; step < 200; step++) {
            recorded += kit_below(&random, 40);
            if (kit_below(&random, 2) == 0) {
                int64_t time = recorded + o.max_future_ms - kit_below(&random, 200);
                mr_watermark_observe(&w, &o, time, recorded);
                want = time - o.out_of_orderness_ms > want ? time - o.out_of_orderness_ms : want;
                last_event = recorded;
            } else {
                mr_watermark_observe(&w, &o, INT64_MIN, recorded); /* changes nothing */
            }
            bool idle = last_event != INT64_MIN && o.idle_timeout_ms != INT64_MAX &&
                        recorded - last_event >= o.idle_timeout_ms;
            if (idle && recorded - o.out_of_orderness_ms > want) {
                want = recorded - o.out_of_orderness_ms;
            }
            assert_int_equal(mr_watermark_at(&w, &o, recorded), want);
            mr_watermark_tick(&w, &o, recorded);
            assert_int_equal(w.watermark_ms, want);
        }
        mr_watermark_end(&w);
        mr_watermark_tick(&w, &o, recorded);
        assert_int_equal(w.watermark_ms, INT64_MAX);
    }
}

static void bounded_input_waits_for_its_end(void **state) {
    (void)state;
    struct mr_watermark_options o = {.idle_timeout_ms = 1, .max_future_ms = 10, .bounded = true};
    struct mr_watermark w;
    mr_watermark_init(&w);
    mr_watermark_observe(&w, &o, 500, 1000);
    mr_watermark_tick(&w, &o, 100000);
    assert_int_equal(w.watermark_ms, INT64_MIN);
    assert_int_equal(w.time_max_ms, 500);
    mr_watermark_end(&w);
    assert_int_equal(w.watermark_ms, INT64_MAX);
}

static void watermark_edges(void **state) {
    (void)state;
    struct mr_watermark_options o = {
        .out_of_orderness_ms = 100, .idle_timeout_ms = 10, .max_future_ms = 1000};
    assert_int_equal(mr_watermark_limit(&o, 5), 1005);
    assert_int_equal(mr_watermark_limit(&o, INT64_MAX - 999), INT64_MAX);
    struct mr_watermark w;
    mr_watermark_init(&w);
    mr_watermark_observe(&w, &o, INT64_MIN + 1, 0);
    assert_int_equal(w.watermark_ms, INT64_MIN); /* saturated, not wrapped */
    mr_watermark_init(&w);
    mr_watermark_tick(&w, &o, 1000000);
    assert_int_equal(w.watermark_ms, INT64_MIN); /* nothing seen, nothing to close */
}

/* ---- all kinds ---- */

enum { AROUND = 40 };

/* Whether a window of the rule begins here. */
static bool begins(const struct mr_rule *rule, int64_t start) {
    const struct mr_window *w = &rule->window;
    int64_t step = w->kind == MR_WINDOW_SLIDING ? w->every_ms : w->size_ms;
    return ((start - w->offset_ms) % step + step) % step == 0;
}

static void check_kind(const struct mr_rule *rule, int64_t time, int64_t watermark) {
    int64_t size = rule->window.size_ms;
    int64_t latest = INT64_MIN;
    bool late = true;
    int64_t final_end = INT64_MIN;
    int64_t first_after = INT64_MAX;
    for (int64_t start = time - AROUND; start <= time + AROUND; start++) {
        if (!begins(rule, start)) {
            continue;
        }
        int64_t end = start + size;
        bool floor = end <= rule->final_floor_ms;
        bool final = floor || watermark >= end + rule->allowed_lateness_ms;
        assert_int_equal(mr_window_end(rule, start), end);
        assert_int_equal(mr_window_closed(rule, start, watermark), floor || watermark >= end);
        assert_int_equal(mr_window_final(rule, start, watermark), final);
        if (start <= time && time < end) {
            latest = start > latest ? start : latest;
            late = late && final;
        }
        final_end = final && end > final_end ? end : final_end;
        first_after = end > time && start < first_after ? start : first_after;
    }
    assert_int_equal(mr_window_start(rule, time), latest);
    assert_int_equal(mr_window_first_after(rule, time), first_after);
    assert_int_equal(time < mr_window_late_before(rule, watermark), late);
    if (final_end != INT64_MIN && final_end < time + AROUND - 20) {
        assert_int_equal(mr_window_final_end(rule, watermark), final_end);
    }
    int64_t start;
    int64_t end;
    mr_window_slice(rule, time, &start, &end);
    assert_true(start <= time && time < end);
    for (int64_t other = start; other < end; other++) { /* in the same windows */
        for (int64_t w = time - AROUND; w <= time + AROUND; w++) {
            assert_true(!begins(rule, w) || (w <= time && time < w + size) == (w <= other && other < w + size));
        }
    }
}

/* The least watermark at which a window with a time up to time_max closes or is final, by trying all. */
static int64_t due_by_trying(const struct mr_rule *rule, int64_t watermark, int64_t time_max) {
    for (int64_t w = watermark + 1; w < time_max + 2 * AROUND; w++) {
        for (int64_t start = watermark - 2 * AROUND; start <= time_max; start++) {
            int64_t end = start + rule->window.size_ms;
            bool floor = end <= rule->final_floor_ms;
            if (begins(rule, start) && !floor && (w == end || w == end + rule->allowed_lateness_ms)) {
                return w;
            }
        }
    }
    return INT64_MAX;
}

static void windows_of_all_kinds(void **state) {
    (void)state;
    struct kit_random random = {4};
    for (int round = 0; round < 400; round++) {
        struct mr_rule rule = kit_rule(0, 0, 1, 1 + kit_below(&random, 12), kit_below(&random, 8));
        bool sliding = round % 2 == 0;
        int64_t every = 1 + kit_below(&random, (uint32_t)rule.window.size_ms);
        int64_t a = rule.window.size_ms;
        int64_t b = every;
        while (b != 0) {
            int64_t rest = a % b;
            a = b;
            b = rest;
        }
        rule.window.kind = sliding ? MR_WINDOW_SLIDING : MR_WINDOW_TUMBLING;
        rule.window.every_ms = every;
        rule.window.slice_ms = a;
        rule.window.offset_ms = kit_below(&random, (uint32_t)(sliding ? every : rule.window.size_ms));
        rule.final_floor_ms = round % 3 == 0 ? (int64_t)kit_below(&random, 30) - 10 : INT64_MIN;
        for (int64_t time = -9; time <= 9; time++) {
            for (int64_t watermark = time - 15; watermark <= time + 15; watermark += 3) {
                check_kind(&rule, time, watermark);
                if (round % 20 < 2) {
                    assert_int_equal(mr_window_next_due(&rule, watermark, time), due_by_trying(&rule, watermark, time));
                }
            }
        }
    }
}

static void global_and_session(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 1, 5);
    rule.window = (struct mr_window){.kind = MR_WINDOW_GLOBAL};
    const int64_t time = INT64_C(1700000000000);
    assert_int_equal(mr_window_start(&rule, time), MR_TIME_MIN_MS);
    assert_int_equal(mr_window_end(&rule, time), MR_TIME_MAX_MS);
    assert_int_equal(mr_window_final_end(&rule, time), INT64_MIN);
    assert_int_equal(mr_window_late_before(&rule, time), INT64_MIN);
    assert_int_equal(mr_window_late_before(&rule, INT64_MAX), INT64_MAX);
    assert_int_equal(mr_window_next_due(&rule, time, time), MR_TIME_MAX_MS);
    rule.window = (struct mr_window){.kind = MR_WINDOW_SESSION, .gap_ms = 10, .size_ms = INT64_MAX};
    for (int64_t t = 50; t < 80; t++) { /* an event at t is late when [t, t + gap) is final */
        assert_int_equal(t < mr_window_late_before(&rule, 75), t + 10 + 5 <= 75);
    }
    assert_int_equal(mr_window_late_before(&rule, INT64_MIN), INT64_MIN);
    assert_int_equal(mr_window_next_due(&rule, 74, 60), 75); /* [60, 70) is final then, and nothing is left */
    assert_int_equal(mr_window_next_due(&rule, 75, 60), INT64_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_windows),
        cmocka_unit_test(boundaries),
        cmocka_unit_test(edges_of_int64),
        cmocka_unit_test(watermark_walks),
        cmocka_unit_test(bounded_input_waits_for_its_end),
        cmocka_unit_test(watermark_edges),
        cmocka_unit_test(windows_of_all_kinds),
        cmocka_unit_test(global_and_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
