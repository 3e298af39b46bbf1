/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that scans answer what a sorted list of all rows would:
 *   1. random questions (range, state, filters, either order and direction, limits) in slices of
 *      random budgets against rows made from the model and sorted with a comparison of the test's
 *      own; window order also paged through cursors: the pages joined are the whole;
 *   2. rows packed and unpacked;
 *   3. matching of filters, value by value;
 *   4. bounds: the answer's bytes, memory that runs out, a large window looked at in slices.
 */
#include "base/alloc.h"
#include "base/key.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RULES = 2, ROWS_MAX = 4000 };

static const struct mr_bytes stream_names[] = {{(const uint8_t *)"clicks", 6}};

/* A row as the model has it. */
struct want {
    const struct model_window *window;
    const struct model_group *group;
    struct mr_buf key;
};

struct world {
    struct mr_rule rules[RULES];
    struct mr_combine *combine;
    struct model model;
    struct kit_random random;
    struct want rows[ROWS_MAX];
    uint32_t row_count;
};

static void ignore_pane(void *ctx, const struct model_window *window,
                        const struct model_group *group, enum mr_timing timing) {
    (void)window, (void)group, (void)timing;
    (*(uint32_t *)ctx)++;
}

static void fire_all(struct world *w, uint64_t seq) {
    struct mr_flush *flush = mr_flush_open(seq);
    bool done = false;
    assert_int_equal(mr_combine_fire(w->combine, UINT32_MAX, flush, &done), MR_OK);
    assert_true(done);
    mr_flush_close(flush);
}

static void fill_world(struct world *w, uint64_t seed) {
    memset(w, 0, sizeof *w);
    w->random.state = seed;
    w->rules[0] = kit_rule(0, 0, 1, 10, 40);
    w->rules[1] = kit_rule(1, 0, 2, 30, 0);
    assert_int_equal(mr_combine_open(w->rules, RULES, 1, stream_names, 0, &w->combine), MR_OK);
    w->model.rules = w->rules;
    w->model.rule_count = RULES;
    w->model.watermark_ms = INT64_MIN;
    int64_t watermark = -100;
    for (uint64_t seq = 1; seq <= 8; seq++) {
        struct mr_parcel *parcel = mr_parcel_open(seq, 0);
        for (uint32_t k = 0; k < 120; k++) {
            uint32_t r = kit_below(&w->random, RULES);
            int64_t size = w->rules[r].window.size_ms;
            int64_t start = (kit_below(&w->random, 200) + watermark + 30) / size * size;
            uint32_t key = kit_below(&w->random, 30);
            int64_t value = (int64_t)kit_below(&w->random, 12) - 6; /* equal numbers are common */
            kit_partial(parcel, &w->rules[r], start, key, &value, 1);
            model_merge(&w->model, seq, r, start, key, &value, 1);
        }
        assert_int_equal(mr_combine_merge(w->combine, parcel), MR_OK);
        mr_parcel_close(parcel);
        watermark += 20;
        uint32_t panes = 0;
        mr_combine_advance(w->combine, seq, &watermark, 0);
        model_advance(&w->model, seq, watermark, ignore_pane, &panes);
        if (seq < 8 || seed % 2 == 0) {
            fire_all(w, seq); /* of odd seeds the scan meets panes that are not fired yet */
        }
        if (seq == 5) {
            (void)mr_combine_release(w->combine, 3, 1000);
            model_release(&w->model, 3);
        }
    }
}

static bool matches(const struct world *w, const struct mr_scan *scan, const struct want *row) {
    bool final = row->window->final;
    if (row->window->rule != scan->rule || row->window->start_ms < scan->from_ms ||
        row->window->start_ms >= scan->to_ms || (scan->state == MR_SCAN_OPEN && final) ||
        (scan->state == MR_SCAN_FINAL && !final)) {
        return false;
    }
    for (uint32_t f = 0; f < scan->filter_count; f++) {
        struct mr_bytes rest = mr_buf_bytes(&row->key);
        struct mr_key_value value = {0};
        for (uint32_t c = 0; c <= scan->filters[f].key; c++) {
            assert_true(mr_key_next(&rest, &value));
        }
        if (!mr_bytes_equal(value.text, scan->filters[f].text)) {
            return false;
        }
    }
    (void)w;
    return true;
}

static void want_rows(struct world *w, const struct mr_scan *scan) {
    w->row_count = 0;
    for (uint32_t i = 0; i < w->model.window_count; i++) {
        const struct model_window *window = &w->model.windows[i];
        for (uint32_t g = 0; g < window->group_count; g++) {
            struct want *row = &w->rows[w->row_count];
            assert_true(w->row_count < ROWS_MAX);
            *row = (struct want){window, &window->groups[g], {0}};
            mr_buf_init(&row->key, 256);
            kit_key(&w->rules[window->rule], row->group->key, &row->key);
            if (matches(w, scan, row)) {
                w->row_count++;
            } else {
                mr_buf_finish(&row->key);
            }
        }
    }
}

static void forget_rows(struct world *w) {
    for (uint32_t i = 0; i < w->row_count; i++) {
        mr_buf_finish(&w->rows[i].key);
    }
}

static double metric_of(const struct model_group *group, int32_t metric) {
    switch (metric) {
    case MR_METRIC_COUNT:
        return (double)group->events;
    case MR_METRIC_SUM:
        return (double)group->sum;
    case MR_METRIC_MIN:
        return (double)group->min;
    case MR_METRIC_MAX:
        return (double)group->max;
    default:
        return (double)group->sum / (double)group->events;
    }
}

static bool want_before(const struct mr_scan *scan, const struct want *a, const struct want *b) {
    bool down = scan->descending;
    if (scan->order != MR_SCAN_ORDER_WINDOW) {
        double x = metric_of(a->group, scan->order);
        double y = metric_of(b->group, scan->order);
        if (x != y) {
            return down ? x > y : x < y;
        }
        down = false;
    }
    if (a->window->start_ms != b->window->start_ms) {
        return (a->window->start_ms < b->window->start_ms) != down;
    }
    return (mr_bytes_compare(mr_buf_bytes(&a->key), mr_buf_bytes(&b->key)) < 0) != down;
}

static void sort_rows(struct world *w, const struct mr_scan *scan) {
    for (uint32_t i = 1; i < w->row_count; i++) {
        struct want row = w->rows[i];
        uint32_t at = i;
        for (; at > 0 && want_before(scan, &row, &w->rows[at - 1]); at--) {
            w->rows[at] = w->rows[at - 1];
        }
        w->rows[at] = row;
    }
}

static void run(struct world *w, const struct mr_scan *scan, struct mr_scan_result *result) {
    struct mr_scan_cursor cursor = {0};
    uint32_t budget = 1 + kit_below(&w->random, 60);
    while (!mr_combine_scan(w->combine, scan, &cursor, budget, result)) {
    }
    assert_null(cursor.work);
    assert_int_equal(result->status, MR_OK);
    assert_int_equal(result->watermark_ms, w->model.watermark_ms);
}

static void expect_row(const struct world *w, const struct mr_row *row, const struct want *want) {
    const struct mr_rule *rule = &w->rules[want->window->rule];
    assert_int_equal(row->window_start_ms, want->window->start_ms);
    assert_int_equal(row->window_end_ms, want->window->start_ms + rule->window.size_ms);
    assert_true(mr_bytes_equal(row->key, mr_buf_bytes(&want->key)));
    assert_int_equal(row->events, want->group->events);
    assert_int_equal(row->final, want->window->final);
    uint64_t revision = want->group->revision;
    revision = want->window->closed_seq > revision ? want->window->closed_seq : revision;
    assert_int_equal(row->revision, revision);
    assert_int_equal(row->state.len, rule->state_len);
    model_expect_state(rule, want->group, row->state.ptr);
}

/* Rows [from, …) of the answer; returns how many there were. */
static uint32_t expect_rows(const struct world *w, const struct mr_scan_result *result,
                            const struct mr_scan *scan, uint32_t from, struct mr_row *ret_last) {
    struct mr_bytes rest = mr_buf_bytes(&result->rows);
    uint32_t left = w->row_count - from;
    assert_int_equal(result->count, left < scan->limit ? left : scan->limit);
    struct mr_row before;
    for (uint32_t i = 0; i < result->count; i++) {
        assert_true(mr_row_next(&rest, ret_last));
        expect_row(w, ret_last, &w->rows[from + i]);
        if (i > 0) {
            assert_true(mr_scan_compare(scan, &w->rules[scan->rule], &before, ret_last) < 0);
            assert_true(mr_scan_compare(scan, &w->rules[scan->rule], ret_last, &before) > 0);
        }
        before = *ret_last;
    }
    assert_int_equal(rest.len, 0);
    return result->count;
}

static struct mr_scan random_scan(struct world *w) {
    static const char *const texts[] = {"k3", "k17", "0", "1", "nothing"};
    struct mr_scan scan = {
        .rule = kit_below(&w->random, RULES),
        .from_ms =
            kit_below(&w->random, 3) == 0 ? INT64_MIN : (int64_t)kit_below(&w->random, 300) - 100,
        .to_ms =
            kit_below(&w->random, 3) == 0 ? INT64_MAX : (int64_t)kit_below(&w->random, 300) - 50,
        .state = (enum mr_scan_state)kit_below(&w->random, 3),
        .order = (int32_t)kit_below(&w->random, KIT_METRICS + 3) - 3,
        .descending = kit_below(&w->random, 2) == 0,
        .limit = 1 + kit_below(&w->random, kit_below(&w->random, 2) == 0 ? 10 : 500),
    };
    scan.order = scan.order < 0 ? MR_SCAN_ORDER_WINDOW : scan.order;
    if (kit_below(&w->random, 3) == 0) {
        uint32_t key = kit_below(&w->random, w->rules[scan.rule].key_count);
        uint32_t text = kit_below(&w->random, 5);
        scan.filters[0] = (struct mr_scan_filter){key, mr_bytes_text(texts[text])};
        scan.filter_count = 1;
    }
    return scan;
}

/* Follows the pages of a window-order scan to the end. */
static uint32_t follow_pages(struct world *w, struct mr_scan scan) {
    uint32_t from = 0;
    struct mr_buf after;
    mr_buf_init(&after, 256);
    for (;;) {
        struct mr_scan_result result;
        struct mr_row last;
        run(w, &scan, &result);
        uint32_t count = expect_rows(w, &result, &scan, from, &last);
        from += count;
        if (count < scan.limit) {
            mr_buf_finish(&result.rows);
            break;
        }
        mr_buf_clear(&after);
        mr_buf_append_bytes(&after, last.key);
        scan.has_after = true;
        scan.after_start_ms = last.window_start_ms;
        scan.after_key = mr_buf_bytes(&after);
        mr_buf_finish(&result.rows);
    }
    mr_buf_finish(&after);
    return from;
}

static void random_questions(void **state) {
    (void)state;
    static struct world w;
    uint64_t rows = 0;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        fill_world(&w, seed);
        for (int question = 0; question < 120; question++) {
            struct mr_scan scan = random_scan(&w);
            want_rows(&w, &scan);
            sort_rows(&w, &scan);
            if (scan.order == MR_SCAN_ORDER_WINDOW) {
                assert_int_equal(follow_pages(&w, scan), w.row_count);
            } else {
                struct mr_scan_result result;
                struct mr_row last;
                run(&w, &scan, &result);
                (void)expect_rows(&w, &result, &scan, 0, &last);
                mr_buf_finish(&result.rows);
            }
            rows += w.row_count;
            forget_rows(&w);
        }
        if (seed % 2 != 0) {
            fire_all(&w, 8);
        }
        mr_combine_check_scan(w.combine);
        mr_combine_close(w.combine);
    }
    assert_true(rows > 20000);
}

static void rows_are_packed(void **state) {
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 1 << 20);
    uint64_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (uint32_t key_len = 0; key_len < 20; key_len++) {
        struct mr_row row = {-5,
                             5,
                             key_len,
                             9,
                             key_len % 2 == 0,
                             mr_bytes_of(bytes, key_len),
                             mr_bytes_of(bytes, 8 * (key_len % 3))};
        mr_row_append(&buf, &row);
        assert_int_equal(buf.len % 8, 0);
    }
    struct mr_bytes rest = mr_buf_bytes(&buf);
    struct mr_row row;
    for (uint32_t key_len = 0; key_len < 20; key_len++) {
        assert_true(mr_row_next(&rest, &row));
        assert_int_equal(row.window_start_ms, -5);
        assert_int_equal(row.window_end_ms, 5);
        assert_int_equal(row.events, key_len);
        assert_int_equal(row.revision, 9);
        assert_int_equal(row.final, key_len % 2 == 0);
        assert_true(mr_bytes_equal(row.key, mr_bytes_of(bytes, key_len)));
        assert_true(mr_bytes_equal(row.state, mr_bytes_of(bytes, 8 * (key_len % 3))));
    }
    assert_false(mr_row_next(&rest, &row));
    mr_buf_finish(&buf);
}

static bool filter(struct mr_bytes key, uint32_t column, const char *text) {
    struct mr_scan scan = {.filter_count = 1, .filters = {{column, mr_bytes_text(text)}}};
    return mr_scan_matches(&scan, key);
}

static void filters_match(void **state) {
    (void)state;
    struct mr_bytes key = MR_BYTES("z"
                                   "t"
                                   "f"
                                   "n\0\00217"
                                   "s\0\002DE");
    const char *const texts[] = {"null", "true", "false", "17", "DE"};
    for (uint32_t column = 0; column < 5; column++) {
        for (uint32_t t = 0; t < 5; t++) {
            assert_int_equal(filter(key, column, texts[t]), t == column);
        }
        assert_false(filter(key, column, ""));
        assert_false(filter(key, column, MR_KEY_OTHER_TEXT));
    }
    struct mr_bytes other = MR_BYTES("o\005");
    assert_true(filter(other, 0, MR_KEY_OTHER_TEXT));
    assert_true(filter(other, 3, MR_KEY_OTHER_TEXT));
    assert_false(filter(other, 0, "DE"));
    struct mr_scan both = {.filter_count = 2,
                           .filters = {{4, MR_BYTES("DE")}, {3, MR_BYTES("18")}}};
    assert_false(mr_scan_matches(&both, key));
    both.filters[1].text = MR_BYTES("17");
    assert_true(mr_scan_matches(&both, key));
    assert_true(mr_scan_matches(&(struct mr_scan){0}, key));
}

/* One window of that many groups of a rule with one count. */
static struct mr_combine *one_large_window(struct mr_rule *rule, uint32_t groups) {
    struct mr_combine *combine;
    *rule = kit_rule(0, 0, 1, 10, 0);
    rule->metric_count = 1;
    rule->state_len = mr_metric_layout(rule->metrics, 1, 0);
    assert_int_equal(mr_combine_open(rule, 1, 1, stream_names, 0, &combine), MR_OK);
    struct mr_parcel *parcel = mr_parcel_open(1, 0);
    for (uint32_t key = 0; key < groups; key++) {
        kit_partial(parcel, rule, 0, key, (const int64_t[]){1, 1, 1}, 1 + key % 3);
    }
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
    mr_combine_advance(combine, 1, (const int64_t[]){0}, 0);
    struct mr_flush *flush = mr_flush_open(1);
    bool done;
    assert_int_equal(mr_combine_fire(combine, 1, flush, &done), MR_OK);
    mr_flush_close(flush);
    return combine;
}

static void slices_bound_the_work(void **state) {
    (void)state;
    enum { GROUPS = 20000, BUDGET = 400, LIMIT = 20 };
    struct mr_rule rule;
    struct mr_combine *combine = one_large_window(&rule, GROUPS);
    for (int32_t order = MR_SCAN_ORDER_WINDOW; order <= 0; order++) {
        struct mr_scan scan = {.to_ms = 1, .order = order, .descending = true, .limit = LIMIT};
        struct mr_scan_cursor cursor = {0};
        struct mr_scan_result result;
        uint32_t slices = 1;
        uint64_t at = 0;
        while (!mr_combine_scan(combine, &scan, &cursor, BUDGET, &result)) {
            slices++;
            at = cursor.group;
        }
        assert_true(at > 0);
        assert_in_range(slices, GROUPS / BUDGET, GROUPS / BUDGET + 2);
        assert_int_equal(result.count, LIMIT);
        assert_true(result.rows.cap <= 1 << 14);
        mr_buf_finish(&result.rows);
    }
    mr_combine_close(combine);
}

static void scans_run_out_of_memory(void **state) {
    (void)state;
    struct mr_rule rule;
    struct mr_combine *combine = one_large_window(&rule, 3000);
    uint32_t failed = 0;
    for (size_t nth = 1; nth <= 24; nth++) {
        struct mr_scan scan = {.to_ms = 1, .order = MR_SCAN_ORDER_WINDOW, .limit = UINT32_MAX};
        struct mr_scan_cursor cursor = {0};
        struct mr_scan_result result;
        mr_alloc_fail_at(nth, 0);
        while (!mr_combine_scan(combine, &scan, &cursor, 500, &result)) {
        }
        mr_alloc_fail_at(0, 0);
        assert_true(result.status == MR_OK || result.status == MR_NO_MEMORY);
        assert_int_equal(result.status == MR_OK, result.count == 3000);
        failed += result.status != MR_OK;
        mr_buf_finish(&result.rows);
    }
    assert_in_range(failed, 5, 23);
    mr_combine_close(combine);
}

/* A group of a key of len bytes; the number n makes it its own. */
static void long_partial(struct mr_parcel *parcel, const struct mr_rule *rule, uint32_t n,
                         uint16_t len) {
    uint8_t bytes[MR_KEY_LEN_MAX];
    uint64_t one = 1;
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes, (const uint8_t[3]){MR_KEY_STRING, (uint8_t)((len - 3) >> 8), (uint8_t)(len - 3)},
           3);
    memcpy(bytes + 3, &n, sizeof n);
    struct mr_partial p = {
        .key_hash = mr_hash64(mr_bytes_of(bytes, len), rule->key_seed),
        .events = 1,
        .key_len = len,
        .state_len = rule->state_len,
        .size = (uint32_t)sizeof p + rule->state_len + len,
    };
    assert_int_equal(p.size % 8, 0);
    mr_buf_append(&parcel->bytes, &p, sizeof p);
    mr_buf_append(&parcel->bytes, &one, sizeof one);
    mr_buf_append(&parcel->bytes, bytes, len);
    parcel->count++;
}

static void answers_are_bounded(void **state) {
    (void)state;
    enum { LEN = 4096, GROUPS = 17000, ROW = 48 + 8 + LEN };
    struct mr_rule rule;
    struct mr_combine *combine = one_large_window(&rule, 1);
    struct mr_parcel *parcel = mr_parcel_open(2, 0);
    for (uint32_t n = 0; n < GROUPS; n++) {
        long_partial(parcel, &rule, n, LEN);
    }
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
    mr_combine_advance(combine, 2, (const int64_t[]){0}, 0);
    struct mr_scan scan = {.to_ms = 1, .order = MR_SCAN_ORDER_WINDOW, .limit = UINT32_MAX};
    struct mr_scan_cursor cursor = {0};
    struct mr_scan_result result;
    while (!mr_combine_scan(combine, &scan, &cursor, 1000, &result)) {
    }
    assert_int_equal(result.status, MR_LIMIT);
    assert_in_range(result.count, MR_SCAN_BYTES_MAX / ROW, MR_SCAN_BYTES_MAX / ROW + 1);
    assert_true(result.rows.cap <= MR_SCAN_BYTES_MAX);
    mr_buf_finish(&result.rows);
    mr_combine_close(combine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_questions),        cmocka_unit_test(rows_are_packed),
        cmocka_unit_test(filters_match),           cmocka_unit_test(slices_bound_the_work),
        cmocka_unit_test(scans_run_out_of_memory), cmocka_unit_test(answers_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
