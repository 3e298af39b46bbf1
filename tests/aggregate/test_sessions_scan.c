/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a scan in slices of any size answers what sorting all rows of the model would: order, direction, times,
 * state, filters, place to go on from, limit; page by page; and that it survives an allocation that fails, whichever.
 */
#include "base/alloc.h"
#include "base/key.h"
#include "tests/aggregate/test_sessions_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct wanted {
    struct mr_row row;
    int64_t sum;
    uint8_t key[64];
};

static const struct mr_scan *sorting;

static int compare(const void *a, const void *b) {
    const struct wanted *left = a;
    const struct wanted *right = b;
    int sign = sorting->descending ? -1 : 1;
    if (sorting->order != MR_SCAN_ORDER_WINDOW) {
        if (left->sum != right->sum) {
            return left->sum < right->sum ? -sign : sign;
        }
        sign = 1;
    }
    if (left->row.window_start_ms != right->row.window_start_ms) {
        return left->row.window_start_ms < right->row.window_start_ms ? -sign : sign;
    }
    return sign * mr_bytes_compare(left->row.key, right->row.key);
}

static bool is_wanted(const struct mr_scan *scan, const struct wanted *want, uint32_t key) {
    char text[16];
    int len = snprintf(text, sizeof text, "k%u", key);
    bool in = want->row.window_start_ms >= scan->from_ms && want->row.window_start_ms < scan->to_ms;
    bool state = scan->state == MR_SCAN_ALL || want->row.final == (scan->state == MR_SCAN_FINAL);
    bool filter = scan->filter_count == 0 || mr_bytes_equal(scan->filters[0].text, mr_bytes_of(text, (size_t)len));
    if (!scan->has_after) {
        return in && state && filter;
    }
    struct wanted after = {.row = {.window_start_ms = scan->after_start_ms, .key = scan->after_key}};
    return in && state && filter && compare(want, &after) > 0;
}

/* From the model, sorted. */
static uint32_t make_wanted(const struct sk_world *w, const struct mr_scan *scan, struct wanted *ret) {
    uint32_t count = 0;
    bool discarding = w->rule.trigger.panes == MR_DISCARDING;
    sorting = scan;
    for (uint32_t i = 0; i < w->model.session_count; i++) {
        const struct sk_session *s = &w->model.sessions[i];
        struct wanted *want = &ret[count];
        *want = (struct wanted){
            .row = {.window_start_ms = s->start_ms, .window_end_ms = s->end_ms, .final = s->final}};
        sk_sum_of(w, i, discarding, &want->row.events, &want->sum);
        struct mr_buf key;
        mr_buf_init(&key, 64);
        sk_key(&w->rule, s->key, &key);
        memcpy(want->key, key.ptr, key.len);
        size_t len = key.len;
        mr_buf_finish(&key);
        if (discarding) {
            mr_key_write_pane(want->key + len, s->index);
            len += MR_KEY_PANE_LEN;
        }
        want->row.key = mr_bytes_of(want->key, len);
        count += !s->gone && want->row.events > 0 && is_wanted(scan, want, s->key);
    }
    for (uint32_t i = 0; i < count; i++) {
        ret[i].row.key.ptr = ret[i].key;
    }
    /* Insertion sort: the keys lie in what is moved. */
    for (uint32_t i = 1; i < count; i++) {
        for (uint32_t j = i; j > 0 && compare(&ret[j], &ret[j - 1]) < 0; j--) {
            struct wanted moved = ret[j];
            ret[j] = ret[j - 1];
            ret[j - 1] = moved;
            ret[j].row.key.ptr = ret[j].key;
            ret[j - 1].row.key.ptr = ret[j - 1].key;
        }
    }
    return count;
}

static void expect_rows(const struct sk_world *w, const struct mr_scan *scan, const struct mr_scan_result *result,
                        struct wanted *scratch) {
    uint32_t count = make_wanted(w, scan, scratch);
    count = count < scan->limit ? count : scan->limit;
    assert_int_equal(result->status, MR_OK);
    assert_int_equal(result->watermark_ms, w->watermark_ms);
    assert_int_equal(result->count, count);
    struct mr_bytes rest = mr_buf_bytes(&result->rows);
    struct mr_row row;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(mr_row_next(&rest, &row));
        assert_int_equal(row.window_start_ms, scratch[i].row.window_start_ms);
        assert_int_equal(row.window_end_ms, scratch[i].row.window_end_ms);
        assert_int_equal(row.events, scratch[i].row.events);
        assert_int_equal(row.final, scratch[i].row.final);
        assert_true(mr_bytes_equal(row.key, scratch[i].row.key));
        assert_int_equal(mr_metric_finish(w->rule.metrics, MR_METRIC_SUM, row.state, NULL).i, scratch[i].sum);
    }
    assert_false(mr_row_next(&rest, &row));
}

static void run(struct sk_world *w, const struct mr_scan *scan, uint32_t budget, struct mr_scan_result *ret) {
    struct mr_scan_cursor cursor = {0};
    while (!mr_sessions_scan(w->sessions[0], scan, &cursor, budget, ret)) {
    }
    assert_null(cursor.work);
}

static void random_scan(struct sk_world *w, struct kit_random *random, char *text, struct mr_scan *ret) {
    *ret = (struct mr_scan){
        .from_ms = kit_below(random, 2) ? INT64_MIN : w->watermark_ms - kit_below(random, 200),
        .to_ms = kit_below(random, 2) ? INT64_MAX : w->watermark_ms + 40 - kit_below(random, 100),
        .state = (enum mr_scan_state)kit_below(random, 3),
        .filter_count = kit_below(random, 3) == 0,
        .order = kit_below(random, 2) ? MR_METRIC_SUM : MR_SCAN_ORDER_WINDOW,
        .descending = kit_below(random, 2),
        .limit = kit_below(random, 3) ? kit_below(random, 20) : UINT32_MAX,
    };
    int len = snprintf(text, 16, "k%u", kit_below(random, SK_KEYS));
    ret->filters[0].text = mr_bytes_of(text, (size_t)len);
}

static void make_world(struct sk_world *w, uint64_t seed) {
    struct kit_random random = {seed};
    struct mr_rule rule = sk_rule(5 + kit_below(&random, 10), seed % 2 ? INT64_MAX : 30, 40);
    rule.trigger.early_ms = 30;
    rule.trigger.late = seed % 4 > 1;
    rule.trigger.panes = (enum mr_accumulation)(seed % 3);
    if (seed % 5 == 0) {
        sk_rule_grow(&rule, true);
    }
    sk_open(w, &rule, 1, seed);
    struct sk_bundle b;
    for (uint32_t n = 0; n < 30; n++) {
        sk_make_bundle(w, &b);
        sk_step(w, &b, NULL);
    }
}

static void test_scans(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    struct wanted *scratch = malloc(SK_SESSIONS * sizeof *scratch);
    assert_true(w != NULL && scratch != NULL);
    uint64_t rows = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct kit_random random = {seed};
        make_world(w, seed);
        for (uint32_t n = 0; n < 60; n++) {
            char text[16];
            struct mr_scan scan;
            struct mr_scan_result result;
            random_scan(w, &random, text, &scan);
            run(w, &scan, 1 + kit_below(&random, 50), &result);
            expect_rows(w, &scan, &result, scratch);
            rows += result.count;
            mr_buf_finish(&result.rows);
        }
        sk_close(w);
    }
    assert_true(rows > 5000);
    free(scratch);
    free(w);
}

/* Page by page, each from where the last one ended. */
static void test_pages(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    struct wanted *scratch = malloc(SK_SESSIONS * sizeof *scratch);
    assert_true(w != NULL && scratch != NULL);
    for (uint64_t seed = 1; seed <= 6; seed++) {
        make_world(w, seed);
        struct mr_scan scan = {.from_ms = INT64_MIN,
                               .to_ms = INT64_MAX,
                               .order = MR_SCAN_ORDER_WINDOW,
                               .descending = seed % 2,
                               .limit = 7};
        uint8_t after[64];
        uint32_t total = 0;
        struct mr_scan_result result;
        do {
            run(w, &scan, 13, &result);
            expect_rows(w, &scan, &result, scratch);
            struct mr_bytes rest = mr_buf_bytes(&result.rows);
            struct mr_row row;
            while (mr_row_next(&rest, &row)) {
                scan.has_after = true;
                scan.after_start_ms = row.window_start_ms;
                memcpy(after, row.key.ptr, row.key.len);
                scan.after_key = mr_bytes_of(after, row.key.len);
            }
            total += result.count;
            mr_buf_finish(&result.rows);
        } while (result.count == scan.limit);
        struct mr_scan all = {.from_ms = INT64_MIN, .to_ms = INT64_MAX, .order = MR_SCAN_ORDER_WINDOW};
        assert_int_equal(total, make_wanted(w, &all, scratch));
        sk_close(w);
    }
    free(scratch);
    free(w);
}

/* Texts that numbers borrow are kept: by the last value, some of which are texts, each row comes before the next. */
static void test_order_of_texts(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    struct wanted *scratch = malloc(SK_SESSIONS * sizeof *scratch);
    assert_true(w != NULL && scratch != NULL);
    make_world(w, 5);
    struct mr_scan all = {.from_ms = INT64_MIN, .to_ms = INT64_MAX, .order = MR_SCAN_ORDER_WINDOW};
    uint32_t count = make_wanted(w, &all, scratch);
    uint32_t texts = 0;
    for (uint32_t limit = 1; limit < 2 * count; limit = limit * 2 + 1) {
        struct mr_scan scan = {.from_ms = INT64_MIN, .to_ms = INT64_MAX, .order = SK_LAST, .descending = true};
        scan.limit = limit;
        struct mr_scan_result result;
        run(w, &scan, 5, &result);
        assert_int_equal(result.count, limit < count ? limit : count);
        struct mr_bytes rest = mr_buf_bytes(&result.rows);
        struct mr_row row;
        struct mr_row before;
        for (uint32_t i = 0; mr_row_next(&rest, &row); i++) {
            assert_true(i == 0 || mr_scan_compare(&scan, &w->rule, &before, &row) < 0);
            texts += mr_metric_finish(w->rule.metrics, SK_LAST, row.state, NULL).kind == MR_NUMBER_TEXT;
            before = row;
        }
        mr_buf_finish(&result.rows);
    }
    assert_true(texts > 10);
    sk_close(w);
    free(scratch);
    free(w);
}

static void test_no_memory(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    assert_non_null(w);
    make_world(w, 5);
    struct mr_scan scan = {
        .from_ms = INT64_MIN, .to_ms = INT64_MAX, .order = SK_LAST, .limit = UINT32_MAX};
    bool failed = true;
    for (uint32_t nth = 1; failed; nth++) {
        struct mr_scan_result result;
        mr_alloc_fail_at(nth, 0);
        run(w, &scan, 10, &result);
        failed = mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        assert_int_equal(result.status, failed ? MR_NO_MEMORY : MR_OK);
        mr_buf_finish(&result.rows);
    }
    struct mr_scan_cursor cursor = {0}; /* given up: what it holds is freed, and release may go on */
    struct mr_scan_result result;
    uint32_t budget = 1;
    assert_false(mr_sessions_scan(w->sessions[0], &scan, &cursor, 1, &result));
    assert_false(mr_sessions_release(w->sessions[0], UINT64_MAX, &budget));
    assert_int_equal(budget, 1);
    mr_sessions_scan_stop(w->sessions[0], &cursor);
    mr_buf_finish(&result.rows);
    (void)mr_sessions_release(w->sessions[0], UINT64_MAX, &budget);
    assert_int_equal(budget, 0);
    sk_close(w);
    free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scans),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_order_of_texts),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
