/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves which panes fire, for every cell of windows x triggers x accumulation, against a model that keeps every group of
 * every window and looks at all of them after each bundle:
 *   1. tumbling with an offset, sliding, sliding kept as slices, and the global window; early by count, by time, by
 *      both, not at all; late on arrival or once at the end; accumulating, discarding, retracting: in each bundle
 *      exactly the model's panes, with their timing, index, finality, revision and values;
 *   2. the same when the state is saved and loaded into another combine at random places, and its hash is the same;
 *   3. scans show what has not been said: of discarding rules the part since the last pane, under the next pane's key.
 */
#include "aggregate/window.h"
#include "base/key.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 3, STARTS_MAX = 4096, BUNDLES = 40, EVENTS_MAX = 12, PANES_MAX = 4096, T0 = 1000 };

/* A group of one window. */
struct cell {
    bool exists;
    bool changed; /* in this bundle */
    bool unsaid;  /* changed since the window's end */
    uint32_t fired;
    uint64_t events; /* all; since the last pane */
    uint64_t events_since;
    int64_t sum;
    int64_t sum_since;
    int64_t waiting_ms; /* 0: not */
    uint64_t revision;
};

struct window {
    int64_t start_ms;
    int64_t end_ms;
    struct cell cells[KEYS];
};

struct said {
    int64_t start_ms;
    uint32_t key;
    uint32_t index;
    enum mr_timing timing;
    bool final;
    uint64_t events;
    int64_t sum;
};

struct world {
    struct kit_random random;
    struct mr_rule rule;
    struct mr_combine *combine;
    struct window windows[STARTS_MAX];
    uint32_t window_count;
    int64_t watermark_ms;
    int64_t recorded_ms;
    uint64_t seq;
    struct said wanted[PANES_MAX];
    uint32_t wanted_count;
};

static bool holds(const struct mr_rule *rule, int64_t start_ms, int64_t time_ms) {
    if (rule->window.kind == MR_WINDOW_GLOBAL) {
        return start_ms == MR_TIME_MIN_MS;
    }
    int64_t step = rule->window.kind == MR_WINDOW_SLIDING ? rule->window.every_ms : rule->window.size_ms;
    return (start_ms - rule->window.offset_ms) % step == 0 && start_ms <= time_ms &&
           time_ms < start_ms + rule->window.size_ms;
}

static bool is_final(const struct world *w, int64_t end_ms, int64_t watermark_ms) {
    return watermark_ms != INT64_MIN && end_ms + w->rule.allowed_lateness_ms <= watermark_ms;
}

static struct window *find_or_add(struct world *w, int64_t start_ms) {
    for (uint32_t i = 0; i < w->window_count; i++) {
        if (w->windows[i].start_ms == start_ms) {
            return &w->windows[i];
        }
    }
    assert_true(w->window_count < STARTS_MAX);
    bool global = w->rule.window.kind == MR_WINDOW_GLOBAL;
    struct window *window = &w->windows[w->window_count++];
    *window = (struct window){start_ms, global ? MR_TIME_MAX_MS : start_ms + w->rule.window.size_ms, {{0}}};
    return window;
}

/* true: some window takes it. */
static bool model_event(struct world *w, int64_t time_ms, uint32_t key, int64_t value) {
    bool taken = false;
    bool global = w->rule.window.kind == MR_WINDOW_GLOBAL;
    int64_t first = global ? MR_TIME_MIN_MS : time_ms - w->rule.window.size_ms;
    int64_t last = global ? MR_TIME_MIN_MS : time_ms;
    for (int64_t start_ms = first; start_ms <= last; start_ms++) {
        int64_t end_ms = global ? MR_TIME_MAX_MS : start_ms + w->rule.window.size_ms;
        if (!holds(&w->rule, start_ms, time_ms) || is_final(w, end_ms, w->watermark_ms)) {
            continue;
        }
        taken = true;
        struct cell *cell = &find_or_add(w, start_ms)->cells[key];
        cell->exists = true;
        cell->changed = true;
        cell->events++;
        cell->events_since++;
        cell->sum += value;
        cell->sum_since += value;
    }
    return taken;
}

static void say(struct world *w, const struct window *window, uint32_t key, enum mr_timing timing, int64_t watermark_ms) {
    struct cell *cell = (struct cell *)&window->cells[key];
    bool discards = w->rule.trigger.panes == MR_DISCARDING;
    assert_true(w->wanted_count < PANES_MAX);
    w->wanted[w->wanted_count++] = (struct said){
        .start_ms = window->start_ms,
        .key = key,
        .index = cell->fired++,
        .timing = timing,
        .final = is_final(w, window->end_ms, watermark_ms),
        .events = discards ? cell->events_since : cell->events,
        .sum = discards ? cell->sum_since : cell->sum,
    };
    cell->events_since = 0;
    cell->sum_since = 0;
    cell->waiting_ms = 0;
    cell->unsaid = false;
}

static void model_cell(struct world *w, struct window *window, uint32_t key, int64_t watermark_ms) {
    const struct mr_trigger *t = &w->rule.trigger;
    struct cell *cell = &window->cells[key];
    bool was_closed = w->watermark_ms >= window->end_ms;
    if (!cell->exists) {
        return;
    }
    if (was_closed && cell->changed && t->late) {
        say(w, window, key, MR_TIMING_LATE, watermark_ms);
    } else if (was_closed) {
        cell->unsaid = cell->unsaid || cell->changed;
        if (cell->unsaid && is_final(w, window->end_ms, watermark_ms)) {
            say(w, window, key, MR_TIMING_LATE, watermark_ms);
        }
    } else if (watermark_ms >= window->end_ms) {
        say(w, window, key, MR_TIMING_ON_TIME, watermark_ms);
    } else if (cell->changed && t->early_count > 0 && cell->events_since >= t->early_count) {
        say(w, window, key, MR_TIMING_EARLY, watermark_ms);
    } else if (cell->waiting_ms != 0 && cell->waiting_ms + t->early_ms <= w->recorded_ms) {
        say(w, window, key, MR_TIMING_EARLY, watermark_ms);
    } else if (cell->changed && t->early_ms > 0 && cell->waiting_ms == 0) {
        cell->waiting_ms = w->recorded_ms;
    }
    cell->changed = false;
}

static void model_advance_all(struct world *w, int64_t watermark_ms) {
    w->wanted_count = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->window_count; i++) {
        struct window *window = &w->windows[i];
        for (uint32_t key = 0; key < KEYS; key++) {
            model_cell(w, window, key, watermark_ms);
        }
        if (!is_final(w, window->end_ms, watermark_ms)) {
            w->windows[kept++] = *window;
        }
    }
    w->window_count = kept;
    w->watermark_ms = watermark_ms;
}

static int compare_said(const void *left, const void *right) {
    const struct said *a = left;
    const struct said *b = right;
    if (a->start_ms != b->start_ms) {
        return a->start_ms < b->start_ms ? -1 : 1;
    }
    return a->key != b->key ? (a->key < b->key ? -1 : 1) : 0;
}

/* "k<n>" of the first column. */
static uint32_t key_of(const struct mr_rule *rule, struct mr_bytes key, bool *ret_pane, uint32_t *ret_index) {
    struct mr_key_value value = {.tag = MR_KEY_NULL};
    assert_true(mr_key_next(&key, &value));
    uint32_t n = (uint32_t)(value.text.ptr[1] - '0');
    for (uint32_t c = 1; c < rule->key_count; c++) {
        assert_true(mr_key_next(&key, &value));
    }
    *ret_pane = key.len > 0;
    if (*ret_pane) {
        assert_true(mr_key_next(&key, &value));
        assert_int_equal(value.tag, MR_KEY_PANE);
        *ret_index = mr_key_read_pane(value.text);
    }
    assert_int_equal(key.len, 0);
    return n;
}

static void expect_panes(struct world *w, struct mr_flush *flush) {
    struct said had[PANES_MAX];
    uint32_t count = 0;
    struct mr_bytes rest = mr_buf_bytes(&flush->panes);
    struct mr_pane pane;
    while (mr_pane_next(&rest, &pane)) {
        bool has_index;
        uint32_t index = pane.index;
        had[count] = (struct said){
            .start_ms = pane.window_start_ms,
            .key = key_of(&w->rule, pane.key, &has_index, &index),
            .index = pane.index,
            .timing = pane.timing,
            .final = pane.final,
            .events = pane.events,
            .sum = mr_metric_finish(w->rule.metrics, MR_METRIC_SUM, pane.state, NULL).i,
        };
        assert_int_equal(has_index, w->rule.trigger.panes == MR_DISCARDING);
        assert_int_equal(index, pane.index);
        assert_int_equal(pane.revision, w->seq);
        assert_false(pane.retraction);
        assert_true(++count < PANES_MAX);
    }
    assert_int_equal(count, w->wanted_count);
    qsort(had, count, sizeof had[0], compare_said);
    qsort(w->wanted, count, sizeof had[0], compare_said);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(had[i].start_ms, w->wanted[i].start_ms);
        assert_int_equal(had[i].key, w->wanted[i].key);
        assert_int_equal(had[i].index, w->wanted[i].index);
        assert_int_equal(had[i].timing, w->wanted[i].timing);
        assert_int_equal(had[i].final, w->wanted[i].final);
        assert_int_equal(had[i].events, w->wanted[i].events);
        assert_int_equal(had[i].sum, w->wanted[i].sum);
    }
}

/* Partials of one bundle; those of one slice and key are not put together, as those of several shards are not. */
static void merge_bundle(struct world *w) {
    struct mr_parcel *parcel = mr_parcel_open(w->seq, 0);
    assert_non_null(parcel);
    uint32_t events = kit_below(&w->random, EVENTS_MAX + 1);
    for (uint32_t i = 0; i < events; i++) {
        bool far = kit_below(&w->random, 4) == 0;
        int64_t from = w->watermark_ms == INT64_MIN ? T0 : w->watermark_ms - 20;
        int64_t time_ms = from + kit_below(&w->random, far ? 60 : 25);
        int64_t value = (int64_t)kit_below(&w->random, 100) - 50;
        uint32_t key = kit_below(&w->random, KEYS);
        if (time_ms > 100 && model_event(w, time_ms, key, value)) {
            int64_t slice_ms;
            int64_t slice_end_ms;
            mr_window_slice(&w->rule, time_ms, &slice_ms, &slice_end_ms);
            assert_true(w->rule.window.kind == MR_WINDOW_GLOBAL || (slice_ms <= time_ms && time_ms < slice_end_ms));
            kit_partial(parcel, &w->rule, slice_ms, key, &value, 1);
        }
    }
    assert_int_equal(mr_combine_merge(w->combine, parcel), MR_OK);
    mr_parcel_close(parcel);
}

static void fire_all(struct world *w) {
    struct mr_flush *flush = mr_flush_open(w->seq);
    assert_non_null(flush);
    for (bool done = false; !done;) {
        assert_int_equal(mr_combine_fire(w->combine, 1 + kit_below(&w->random, 5), flush, &done), MR_OK);
    }
    expect_panes(w, flush);
    mr_flush_close(flush);
    while (mr_combine_release(w->combine, w->seq, 3)) {
    }
    mr_combine_check_scan(w->combine);
}

/* Into another one, which goes on. */
static void move_state(struct world *w) {
    struct kit_slices slices = {0};
    struct mr_error error;
    uint64_t dropped;
    kit_save(w->combine, w->seq, 1 + kit_below(&w->random, 9), &slices);
    uint64_t hash = mr_combine_state_hash_scan(w->combine);
    mr_combine_close(w->combine);
    w->combine = kit_open(&w->rule, 1, 0);
    uint32_t map = 0;
    struct mr_combine_load how = {w->seq, &w->watermark_ms, &map, 1, 1};
    assert_int_equal(kit_load(w->combine, &how, &slices, 1, &dropped, &error), MR_OK);
    assert_true(mr_combine_state_hash_scan(w->combine) == hash);
    mr_combine_check_scan(w->combine);
    kit_slices_finish(&slices);
}

static void expect_row(const struct world *w, const struct mr_row *row, uint32_t *ret_seen) {
    bool discards = w->rule.trigger.panes == MR_DISCARDING;
    bool has_index;
    uint32_t index = 0;
    uint32_t key = key_of(&w->rule, row->key, &has_index, &index);
    for (uint32_t i = 0; i < w->window_count; i++) {
        const struct cell *cell = &w->windows[i].cells[key];
        if (w->windows[i].start_ms == row->window_start_ms) {
            assert_true(cell->exists);
            assert_int_equal(row->events, discards ? cell->events_since : cell->events);
            int64_t sum = mr_metric_finish(w->rule.metrics, MR_METRIC_SUM, row->state, NULL).i;
            assert_int_equal(sum, discards ? cell->sum_since : cell->sum);
            assert_int_equal(row->window_end_ms, w->windows[i].end_ms);
            assert_int_equal(has_index, discards);
            assert_true(!discards || index == cell->fired);
            (*ret_seen)++;
            return;
        }
    }
    fail();
}

static void expect_scan(struct world *w) {
    struct mr_scan scan = {.to_ms = INT64_MAX, .from_ms = INT64_MIN, .order = MR_SCAN_ORDER_WINDOW, .limit = UINT32_MAX};
    struct mr_scan_cursor cursor = {0};
    struct mr_scan_result result;
    while (!mr_combine_scan(w->combine, &scan, &cursor, 3, &result)) {
    }
    assert_int_equal(result.status, MR_OK);
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < w->window_count; i++) {
        for (uint32_t key = 0; key < KEYS; key++) {
            const struct cell *cell = &w->windows[i].cells[key];
            wanted += w->rule.trigger.panes == MR_DISCARDING ? cell->events_since > 0 : cell->exists;
        }
    }
    uint32_t seen = 0;
    struct mr_bytes rest = mr_buf_bytes(&result.rows);
    struct mr_row row;
    while (mr_row_next(&rest, &row)) {
        expect_row(w, &row, &seen);
    }
    assert_int_equal(seen, wanted);
    mr_buf_finish(&result.rows);
}

static void run_walk(struct world *w, uint64_t seed) {
    w->random = (struct kit_random){seed * 7919 + 1};
    w->watermark_ms = INT64_MIN;
    w->recorded_ms = 5000;
    w->window_count = 0;
    w->combine = kit_open(&w->rule, 1, 0);
    for (w->seq = 1; w->seq <= BUNDLES; w->seq++) {
        merge_bundle(w);
        int64_t ahead = kit_below(&w->random, 3) == 0 ? kit_below(&w->random, 30) : kit_below(&w->random, 4);
        int64_t watermark_ms = w->watermark_ms == INT64_MIN ? T0 + ahead : w->watermark_ms + ahead;
        watermark_ms = w->seq < 3 ? INT64_MIN : watermark_ms;
        watermark_ms = w->seq == BUNDLES ? INT64_MAX : watermark_ms;
        w->recorded_ms += kit_below(&w->random, 8);
        mr_combine_advance(w->combine, w->seq, &watermark_ms, w->recorded_ms);
        model_advance_all(w, watermark_ms);
        fire_all(w);
        if (kit_below(&w->random, 4) == 0) {
            move_state(w);
        }
        expect_scan(w);
    }
    assert_int_equal(w->window_count, 0);
    mr_combine_close(w->combine);
}

/* How a window is kept: of early panes there are none where it is as slices. */
struct kind {
    enum mr_window_kind kind;
    bool sliced;
};

static struct mr_rule make_rule(struct kind kept, uint32_t early, bool late, enum mr_accumulation panes) {
    enum mr_window_kind kind = kept.kind;
    struct mr_rule rule = kit_rule(0, 0, 2, 10, 12);
    rule.window.kind = kind;
    rule.window.offset_ms = kind == MR_WINDOW_GLOBAL ? 0 : 3;
    if (kind == MR_WINDOW_SLIDING) {
        rule.window.every_ms = 4;
        rule.window.slice_ms = 2;
        rule.window.sliced = kept.sliced;
    }
    rule.trigger = (struct mr_trigger){
        .early_ms = (early & 1) != 0 ? 9 : 0,
        .early_count = (early & 2) != 0 ? 4 : 0,
        .late = late,
        .panes = panes,
    };
    rule.state_len = mr_metric_layout(rule.metrics, rule.metric_count, mr_rule_prefix(&rule));
    return rule;
}

static void every_cell(void **state) {
    (void)state;
    static const struct kind kinds[] = {
        {MR_WINDOW_TUMBLING, false}, {MR_WINDOW_SLIDING, false}, {MR_WINDOW_SLIDING, true}, {MR_WINDOW_GLOBAL, false}};
    static const enum mr_accumulation panes[] = {MR_ACCUMULATING, MR_DISCARDING, MR_ACCUMULATING_RETRACTING};
    static struct world w;
    for (uint32_t cell = 0; cell < 4 * 4 * 2 * 3; cell++) {
        w.rule = make_rule(kinds[cell % 4], cell / 4 % 4, cell / 16 % 2 == 0, panes[cell / 32]);
        if (w.rule.window.sliced && cell / 4 % 4 != 0) {
            continue;
        }
        for (uint64_t seed = 0; seed < 12; seed++) {
            run_walk(&w, cell * 100 + seed);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_cell)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
