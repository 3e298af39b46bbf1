/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that sliding windows kept as slices are the windows they stand for:
 *   1. random traffic, dense and sparse keys, out of order and late, jumps of the watermark: a combine that holds every
 *      window whole, and shards that hold slices, are saved and loaded at random places and change their number; in each
 *      bundle the same panes with the same numbers of all kinds of metrics, and the same rows in scans of either order;
 *   2. a window costs O(log n) merges of values, a late change as well, and what is not needed any more is freed;
 *   3. bounds: (window, key)s are not more than groups_max and the overflow group's, also in the panes of a jump; each
 *      partial is applied or dropped once;
 *   4. no memory, at any allocation: merge, fire and scan say so, and nothing is lost.
 */
#include "aggregate/slices.h"
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/key.h"
#include "tests/aggregate/metric_kit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 6, SHARDS = 3, BUNDLES = 40, ROWS_MAX = 20000, SLICE_MS = 100000, SHARED_MAX = 9 };

static const double quantiles[] = {0.1, 0.5, 0.99};
static const double bounds[] = {-10, 10};

static struct mr_rule make_rule(struct kit_random *random, int64_t size, int64_t every) {
    struct mr_rule rule = kit_rule(0, 0, 1, size * SLICE_MS, 0);
    static const enum mr_metric_kind kinds[] = {
        MR_METRIC_COUNT, MR_METRIC_SUM,      MR_METRIC_MIN,       MR_METRIC_MAX,     MR_METRIC_AVG, MR_METRIC_STDDEV,
        MR_METRIC_FIRST, MR_METRIC_LAST,     MR_METRIC_DISTINCT,  MR_METRIC_QUANTILES, MR_METRIC_TOP,
        MR_METRIC_COLLECT, MR_METRIC_HISTOGRAM};
    bool sketches = kit_below(random, 3) > 0; /* rules without have other inner nodes */
    rule.metric_count = sketches ? sizeof kinds / sizeof kinds[0] : 6;
    for (uint32_t m = 0; m < rule.metric_count; m++) {
        rule.metrics[m] = (struct mr_metric){.kind = kinds[m], .name = rule.name};
        if (kinds[m] == MR_METRIC_QUANTILES) {
            rule.metrics[m].params = quantiles;
            rule.metrics[m].param_count = 3;
        } else if (kinds[m] == MR_METRIC_HISTOGRAM) {
            rule.metrics[m].params = bounds;
            rule.metrics[m].param_count = 2;
        } else if (kinds[m] == MR_METRIC_COLLECT) {
            rule.metrics[m].limit = 7;
        }
    }
    int64_t slice = size;
    for (int64_t b = every; b != 0;) {
        int64_t rest = slice % b;
        slice = b;
        b = rest;
    }
    rule.window = (struct mr_window){
        .kind = MR_WINDOW_SLIDING, .size_ms = size * SLICE_MS, .every_ms = every * SLICE_MS};
    rule.window.slice_ms = slice * SLICE_MS;
    rule.window.offset_ms = kit_below(random, (uint32_t)rule.window.every_ms);
    rule.allowed_lateness_ms = kit_below(random, 3) * (int64_t)kit_below(random, 9) * SLICE_MS;
    rule.trigger.late = kit_below(random, 2) == 0;
    rule.trigger.panes = (enum mr_accumulation)kit_below(random, 3);
    rule.state_len = mr_metric_layout(rule.metrics, rule.metric_count, 0);
    rule.grows = mr_metrics_grow(rule.metrics, rule.metric_count);
    return rule;
}

struct world {
    struct kit_random random;
    struct mr_rule whole;
    struct mr_rule sliced;
    struct mr_combine *one; /* holds windows */
    struct mr_combine *many[SHARDS];
    uint32_t shards;
    int64_t watermark_ms;
    int64_t newest_ms;
    uint64_t seq;
    uint64_t partials;
    struct metric_events events;
};

static void append_partial(struct mr_parcel *parcel, const struct mr_rule *rule, int64_t slice_ms, struct mr_bytes key,
                           const struct metric_events *events) {
    uint8_t *block = metric_block(rule->metrics, rule->metric_count);
    metric_add_range(rule->metrics, rule->metric_count, events, 0, events->count, block);
    struct mr_bytes state = metric_encode(rule->metrics, rule->metric_count, block);
    size_t used = sizeof(struct mr_partial) + state.len + key.len;
    struct mr_partial p = {
        .key_hash = mr_hash64(key, rule->key_seed),
        .window_start_ms = slice_ms,
        .events = events->count,
        .key_len = (uint32_t)key.len,
        .state_len = (uint32_t)state.len,
        .size = (uint32_t)((used + 7) & ~(size_t)7),
    };
    mr_buf_append(&parcel->bytes, &p, sizeof p);
    mr_buf_append_bytes(&parcel->bytes, state);
    mr_buf_append_bytes(&parcel->bytes, key);
    mr_buf_append(&parcel->bytes, (const uint8_t[8]){0}, p.size - used);
    parcel->count++;
    metric_free(state);
    metric_block_close(rule->metrics, rule->metric_count, block);
}

/* A few values at times of one slice, no two of them at the same time. */
static void make_events(struct world *w, int64_t time_ms) {
    metric_events_clear(&w->events);
    for (uint32_t n = 1 + kit_below(&w->random, 3); n > 0; n--) {
        static int64_t unique;
        int64_t at = time_ms / 1000 * 1000 + unique++ % 1000;
        if (kit_below(&w->random, 4) == 0) {
            metric_event_double(&w->events, at, kit_below(&w->random, SHARED_MAX) / 4.0);
        } else {
            metric_event_int(&w->events, at, (int64_t)kit_below(&w->random, 2 * SHARED_MAX) - SHARED_MAX);
        }
    }
}

static void merge_bundle(struct world *w) {
    struct mr_parcel *all = mr_parcel_open(w->seq, 0);
    struct mr_parcel *parts[SHARDS];
    for (uint32_t s = 0; s < w->shards; s++) {
        parts[s] = mr_parcel_open(w->seq, 0);
    }
    int64_t late_before_ms = mr_window_late_before(&w->whole, w->watermark_ms);
    for (uint32_t k = kit_below(&w->random, 12); k > 0; k--) {
        uint32_t key = kit_below(&w->random, 3) == 0 ? kit_below(&w->random, KEYS) : 0; /* one is dense */
        int64_t time_ms = w->newest_ms + ((int64_t)kit_below(&w->random, 40) - 36) * SLICE_MS / 4;
        if (kit_below(&w->random, 6) == 0) {
            time_ms = w->newest_ms - (int64_t)kit_below(&w->random, 100) * SLICE_MS;
        }
        int64_t slice_ms;
        int64_t end_ms;
        mr_window_slice(&w->whole, time_ms, &slice_ms, &end_ms);
        if (slice_ms < late_before_ms || slice_ms < 0) {
            continue;
        }
        make_events(w, slice_ms + 1000);
        struct mr_buf bytes;
        mr_buf_init(&bytes, 4096);
        kit_key(&w->whole, key, &bytes);
        append_partial(all, &w->whole, slice_ms, mr_buf_bytes(&bytes), &w->events);
        append_partial(parts[kit_owner(&w->whole, key, w->shards)], &w->whole, slice_ms, mr_buf_bytes(&bytes),
                       &w->events);
        mr_buf_finish(&bytes);
        w->partials++;
    }
    assert_int_equal(mr_combine_merge(w->one, all), MR_OK);
    mr_parcel_close(all);
    for (uint32_t s = 0; s < w->shards; s++) {
        assert_int_equal(mr_combine_merge(w->many[s], parts[s]), MR_OK);
        mr_parcel_close(parts[s]);
    }
}

/* Panes and rows, in order of window and key: no two are of the same. */
static int compare_panes(const void *left, const void *right) {
    const struct mr_pane *a = left;
    const struct mr_pane *b = right;
    if (a->window_start_ms != b->window_start_ms) {
        return a->window_start_ms < b->window_start_ms ? -1 : 1;
    }
    return mr_bytes_compare(a->key, b->key);
}

static uint32_t read_panes(const struct mr_flush *flush, struct mr_pane *ret) {
    uint32_t count = 0;
    struct mr_bytes rest = mr_buf_bytes(&flush->panes);
    while (mr_pane_next(&rest, &ret[count])) {
        assert_true(++count < ROWS_MAX);
    }
    return count;
}

static void expect_numbers(const struct mr_rule *rule, struct mr_bytes have, struct mr_bytes want) {
    for (uint32_t m = 0; m < rule->metric_count; m++) {
        struct mr_number a = mr_metric_finish(rule->metrics, m, have, &metric_scratch);
        struct mr_number b = mr_metric_finish(rule->metrics, m, want, &metric_scratch);
        if (rule->metrics[m].kind == MR_METRIC_STDDEV && a.kind == MR_NUMBER_DOUBLE) {
            assert_true(fabs(a.d - b.d) <= 1e-9 * (1 + fabs(b.d)));
        } else if (mr_number_compare(a, b) != 0) {
            fail_msg("metric %u of kind %s differs", m, mr_metric_kind_name(rule->metrics[m].kind));
        }
    }
    mr_arena_reset(&metric_scratch);
}

static void fire_into(struct world *w, struct mr_combine *combine, struct mr_flush *flush) {
    mr_combine_advance(combine, w->seq, &w->watermark_ms, 0);
    for (bool done = false; !done;) {
        assert_int_equal(mr_combine_fire(combine, 1 + kit_below(&w->random, 40), flush, &done), MR_OK);
    }
    while (mr_combine_release(combine, w->seq, 3)) {
    }
    mr_combine_check_scan(combine);
}

static void expect_same_panes(struct world *w) {
    static struct mr_pane want[ROWS_MAX];
    static struct mr_pane have[ROWS_MAX];
    struct mr_flush *one = mr_flush_open(w->seq);
    struct mr_flush *many = mr_flush_open(w->seq);
    fire_into(w, w->one, one);
    for (uint32_t s = 0; s < w->shards; s++) {
        fire_into(w, w->many[s], many);
    }
    uint32_t count = read_panes(one, want);
    assert_int_equal(read_panes(many, have), count);
    qsort(want, count, sizeof want[0], compare_panes);
    qsort(have, count, sizeof have[0], compare_panes);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(compare_panes(&want[i], &have[i]), 0);
        assert_int_equal(have[i].window_end_ms, want[i].window_end_ms);
        assert_int_equal(have[i].timing, want[i].timing);
        assert_int_equal(have[i].final, want[i].final);
        assert_int_equal(have[i].index, want[i].index);
        assert_int_equal(have[i].events, want[i].events);
        assert_int_equal(have[i].revision, want[i].revision);
        expect_numbers(&w->whole, have[i].state, want[i].state);
    }
    mr_flush_close(one);
    mr_flush_close(many);
}

static struct mr_scan_result ask(struct world *w, struct mr_combine *combine, const struct mr_scan *scan) {
    struct mr_scan_cursor cursor = {0};
    struct mr_scan_result result;
    uint32_t budget = 1 + kit_below(&w->random, 50);
    while (!mr_combine_scan(combine, scan, &cursor, budget, &result)) {
    }
    assert_int_equal(result.status, MR_OK);
    return result;
}

/* Of one shard: the same rows in the same order, page by page. */
static void expect_same_rows(struct world *w) {
    struct mr_scan scan = {.order = MR_SCAN_ORDER_WINDOW, .descending = kit_below(&w->random, 2) == 0};
    scan.state = (enum mr_scan_state)kit_below(&w->random, 3);
    scan.from_ms = kit_below(&w->random, 2) == 0 ? INT64_MIN : w->newest_ms - 20 * (int64_t)SLICE_MS;
    scan.to_ms = kit_below(&w->random, 2) == 0 ? INT64_MAX : w->newest_ms + 5 * (int64_t)SLICE_MS;
    scan.limit = 1 + kit_below(&w->random, 60);
    if (kit_below(&w->random, 3) == 0) {
        scan.order = MR_METRIC_SUM;
    }
    struct mr_buf after;
    mr_buf_init(&after, 4096);
    for (uint32_t rows = scan.limit; rows == scan.limit;) {
        struct mr_scan_result want = ask(w, w->one, &scan);
        struct mr_scan_result have = ask(w, w->many[0], &scan);
        struct mr_bytes want_rest = mr_buf_bytes(&want.rows);
        struct mr_bytes have_rest = mr_buf_bytes(&have.rows);
        struct mr_row a;
        struct mr_row b;
        rows = 0;
        for (; mr_row_next(&want_rest, &a); rows++) {
            assert_true(mr_row_next(&have_rest, &b));
            assert_int_equal(b.window_start_ms, a.window_start_ms);
            assert_int_equal(b.window_end_ms, a.window_end_ms);
            assert_int_equal(b.events, a.events);
            assert_int_equal(b.revision, a.revision);
            assert_int_equal(b.final, a.final);
            assert_true(mr_bytes_equal(b.key, a.key));
            expect_numbers(&w->whole, b.state, a.state);
            mr_buf_clear(&after);
            mr_buf_append_bytes(&after, a.key);
            scan.after_start_ms = a.window_start_ms;
        }
        assert_int_equal(have_rest.len, 0);
        mr_buf_finish(&want.rows);
        mr_buf_finish(&have.rows);
        scan.has_after = true;
        scan.after_key = mr_buf_bytes(&after);
        rows = scan.order == MR_SCAN_ORDER_WINDOW ? rows : 0; /* the other has no pages */
    }
    mr_buf_finish(&after);
}

/* Into another number of shards. */
static void move_state(struct world *w) {
    struct kit_slices slices[SHARDS] = {{0}};
    uint32_t before = w->shards;
    for (uint32_t s = 0; s < before; s++) {
        kit_save(w->many[s], w->seq, 1 + kit_below(&w->random, 9), &slices[s]);
        mr_combine_close(w->many[s]);
    }
    w->shards = 1 + kit_below(&w->random, SHARDS);
    for (uint32_t s = 0; s < w->shards; s++) {
        const uint32_t map = 0;
        struct mr_combine_load how = {w->seq, &w->watermark_ms, &map, 1, w->shards};
        struct mr_error error;
        uint64_t dropped;
        w->many[s] = kit_open(&w->sliced, 1, s);
        assert_int_equal(kit_load(w->many[s], &how, slices, before, &dropped, &error), MR_OK);
        mr_combine_check_scan(w->many[s]);
    }
    for (uint32_t s = 0; s < before; s++) {
        kit_slices_finish(&slices[s]);
    }
}

static void run_walk(uint64_t seed) {
    static struct world w;
    w = (struct world){.random = {seed}, .watermark_ms = INT64_MIN, .newest_ms = 300 * (int64_t)SLICE_MS};
    int64_t every = 1 + kit_below(&w.random, 4);
    int64_t size = every + kit_below(&w.random, 40);
    w.whole = make_rule(&w.random, size, every);
    w.sliced = w.whole;
    w.sliced.window.sliced = true;
    w.shards = 1 + kit_below(&w.random, SHARDS);
    w.one = kit_open(&w.whole, 1, 0);
    for (uint32_t s = 0; s < w.shards; s++) {
        w.many[s] = kit_open(&w.sliced, 1, s);
    }
    for (w.seq = 1; w.seq <= BUNDLES; w.seq++) {
        w.newest_ms += kit_below(&w.random, 15) == 0 ? 90 * (int64_t)SLICE_MS : kit_below(&w.random, SLICE_MS);
        merge_bundle(&w);
        int64_t to_ms = w.newest_ms - (int64_t)kit_below(&w.random, 8) * SLICE_MS;
        to_ms = w.seq == BUNDLES ? INT64_MAX : to_ms;
        w.watermark_ms = w.seq > 2 && to_ms > w.watermark_ms ? to_ms : w.watermark_ms;
        expect_same_panes(&w);
        if (kit_below(&w.random, 4) == 0) {
            move_state(&w);
        }
        if (w.shards == 1) {
            expect_same_rows(&w);
        }
    }
    assert_true(w.partials > BUNDLES);
    mr_combine_close(w.one);
    for (uint32_t s = 0; s < w.shards; s++) {
        assert_int_equal(mr_counter_read(&mr_combine_stats(w.many[s], 0)->groups), 0);
        mr_combine_close(w.many[s]);
    }
    metric_events_finish(&w.events);
}

static void same_as_whole_windows(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        run_walk(seed);
    }
}

enum { MANY = 4096, LOG_MANY = 12 };

/* A rule of count and so on over windows of MANY slices of 1 ms. */
static struct mr_rule many_windows(void) {
    struct mr_rule rule = kit_rule(0, 0, 1, MANY, 0);
    rule.window = (struct mr_window){
        .kind = MR_WINDOW_SLIDING, .sliced = true, .size_ms = MANY, .every_ms = 1, .slice_ms = 1};
    return rule;
}

static void put(struct mr_slices *slices, const struct mr_rule *rule, int64_t slice_ms, uint32_t key) {
    struct mr_parcel *parcel = mr_parcel_open(1, 0);
    const int64_t value = slice_ms;
    kit_partial(parcel, rule, slice_ms, key, &value, 1);
    struct mr_partial *p = (struct mr_partial *)(void *)parcel->bytes.ptr;
    assert_int_equal(mr_slices_merge(slices, 1, p, p->key_hash, mr_partial_key(p)), MR_OK);
    mr_parcel_close(parcel);
}

static struct mr_slices_value value_of(struct mr_slices *slices, const struct mr_rule *rule, int64_t start_ms) {
    uint64_t live[64] = {0};
    struct mr_slices_value value;
    assert_true(rule->state_len <= sizeof live);
    const struct mr_sliced_key *key = mr_slices_first_key(slices);
    assert_int_equal(mr_slices_add(slices, key, start_ms, (uint8_t *)live, &value), MR_OK);
    struct mr_number sum =
        mr_metric_finish(rule->metrics, MR_METRIC_SUM, mr_bytes_of(live, rule->state_len), NULL);
    int64_t n = (int64_t)value.events;
    int64_t last = start_ms + MANY - 1;
    assert_int_equal(sum.i, n * last - n * (n - 1) / 2); /* the last n slices of the window */
    return value;
}

static void windows_cost_their_logarithm(void **state) {
    (void)state;
    const struct mr_rule rule = many_windows();
    struct mr_slices *slices;
    assert_int_equal(mr_slices_open(&rule, &slices), MR_OK);
    uint64_t merges = 0;
    const int64_t first_ms = 10 * MANY;
    for (int64_t at = first_ms; at < first_ms + 3 * MANY; at++) {
        put(slices, &rule, at, 0);
        int64_t start_ms = at - MANY + 1; /* closes now */
        struct mr_slices_value value = value_of(slices, &rule, start_ms);
        assert_int_equal(value.events, at - first_ms + 1 < MANY ? at - first_ms + 1 : MANY);
        merges += value.merges;
        uint32_t budget = 10;
        mr_slices_advance(slices, start_ms + 1);
        mr_slices_group_closed(slices, true);
        assert_true(mr_slices_retire(slices, &budget));
        assert_int_equal(budget, start_ms >= first_ms ? 9 : 10);
        assert_true(mr_slices_usage(slices)->leaves < MANY + 1);
    }
    assert_true(merges < 3 * MANY * 2 * LOG_MANY);
    assert_int_equal(mr_slices_usage(slices)->groups, MANY - 1);
    assert_int_equal(mr_slices_usage(slices)->windows, MANY - 1);
    int64_t start_ms = first_ms + 2 * MANY;
    uint64_t live[64] = {0};
    struct mr_slices_value value;
    const struct mr_sliced_key *key = mr_slices_first_key(slices);
    assert_int_equal(mr_slices_add(slices, key, start_ms + 5, (uint8_t *)live, &value), MR_OK);
    put(slices, &rule, start_ms + MANY / 2 + 7, 0); /* late */
    assert_int_equal(mr_slices_add(slices, key, start_ms + 5, (uint8_t *)live, &value), MR_OK);
    assert_in_range(value.merges, 2, 4 * LOG_MANY);
    put(slices, &rule, start_ms, 1);
    assert_int_equal(mr_slices_usage(slices)->keys, 2);
    uint32_t budget = UINT32_MAX;
    mr_slices_advance(slices, INT64_MAX / 4);
    assert_true(mr_slices_retire(slices, &budget));
    const struct mr_slices_usage *usage = mr_slices_usage(slices);
    assert_true(usage->leaves + usage->keys + usage->slices + usage->bytes + usage->heap + usage->cached == 0);
    mr_slices_close(slices);
}

/* One event of each of `keys` keys, then time jumps over all windows. Returns the panes of the jump. */
static uint32_t jump(struct mr_rule rule, uint32_t keys, uint64_t *ret_dropped, uint64_t *ret_other) {
    struct mr_combine *combine = kit_open(&rule, 1, 0);
    const struct mr_combine_rule_stats *stats = mr_combine_stats(combine, 0);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        struct mr_parcel *parcel = mr_parcel_open(seq, 0);
        for (uint32_t key = 0; key < keys; key++) {
            kit_partial(parcel, &rule, 20 * MANY + (int64_t)(key % 5), key, (const int64_t[]){1}, 1);
        }
        assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
        mr_parcel_close(parcel);
        assert_true(mr_counter_read(&stats->groups) >= MANY);
        assert_true(rule.groups_max == UINT64_MAX || mr_counter_read(&stats->groups) <= rule.groups_max + MANY + 4);
        if (seq == 1) {
            kit_advance(combine, seq, 20 * MANY); /* the windows that end there had nothing */
        }
    }
    struct mr_flush *flush = mr_flush_open(2);
    bool done = false;
    const int64_t far_ms = 30 * MANY;
    mr_combine_advance(combine, 2, &far_ms, 0);
    while (!done) {
        assert_int_equal(mr_combine_fire(combine, 1000, flush, &done), MR_OK);
    }
    mr_combine_check_scan(combine);
    uint32_t panes = flush->pane_count;
    *ret_dropped = mr_counter_read(&stats->dropped);
    *ret_other = mr_counter_read(&stats->overflow);
    assert_int_equal(mr_counter_read(&stats->applied) + *ret_dropped, 2 * keys);
    assert_int_equal(mr_counter_read(&stats->groups), 0);
    assert_true((flush->dead_count > 0) == (*ret_dropped > 0) && flush->dead_count <= *ret_dropped); /* of bundle 2 */
    mr_flush_close(flush);
    mr_combine_close(combine);
    return panes;
}

static void bounds_are_those_of_windows(void **state) {
    (void)state;
    struct mr_rule rule = many_windows();
    uint64_t dropped;
    uint64_t other;
    assert_int_equal(jump(rule, 3, &dropped, &other), 3 * MANY);
    assert_int_equal(dropped + other, 0);
    rule.groups_max = 5 * MANY + 100;
    assert_in_range(jump(rule, 40, &dropped, &other), 5 * MANY, 6 * MANY + 10); /* five, and the overflow group */
    assert_int_equal(other, 2 * 35);
    rule.when_full = MR_GROUPS_DROP;
    assert_int_equal(jump(rule, 40, &dropped, &other), 5 * MANY);
    assert_int_equal(dropped, 2 * 35);
    rule.groups_max = UINT64_MAX;
    rule.groups_bytes = 4000; /* a (slice, key) takes some 300 */
    assert_in_range(jump(rule, 40, &dropped, &other), 2 * MANY, 20 * MANY);
    assert_in_range(dropped, 2 * 20, 2 * 38);
}

/* What a small combine does in all, with the nth allocation failing. */
static enum mr_status try_all(const struct mr_rule *rule, size_t nth, bool *ret_failed) {
    struct mr_combine *combine = kit_open(rule, 1, 0);
    struct mr_parcel *parcel = mr_parcel_open(1, 0);
    struct mr_flush *flush = mr_flush_open(1);
    struct world w = {.random = {5}};
    for (uint32_t k = 0; k < 6; k++) {
        struct mr_buf bytes;
        mr_buf_init(&bytes, 4096);
        kit_key(rule, k % 2, &bytes);
        make_events(&w, (20 + k) * (int64_t)SLICE_MS);
        append_partial(parcel, rule, (20 + k) * (int64_t)SLICE_MS, mr_buf_bytes(&bytes), &w.events);
        mr_buf_finish(&bytes);
    }
    mr_alloc_fail_at(nth, 0);
    enum mr_status status = mr_combine_merge(combine, parcel);
    const int64_t watermark_ms = 24 * (int64_t)SLICE_MS;
    if (status == MR_OK) {
        mr_combine_advance(combine, 1, &watermark_ms, 0);
    }
    for (bool done = false; status == MR_OK && !done;) {
        status = mr_combine_fire(combine, 3, flush, &done);
    }
    if (status == MR_OK) {
        struct mr_scan scan = {.from_ms = INT64_MIN, .to_ms = INT64_MAX, .order = MR_METRIC_SUM, .limit = 50};
        struct mr_scan_cursor cursor = {0};
        struct mr_scan_result result;
        while (!mr_combine_scan(combine, &scan, &cursor, 5, &result)) {
        }
        status = result.status;
        mr_buf_finish(&result.rows);
    }
    *ret_failed = mr_alloc_failed();
    mr_alloc_fail_at(0, 0);
    if (status == MR_OK) {
        mr_combine_check_scan(combine);
    }
    mr_flush_close(flush);
    mr_parcel_close(parcel);
    mr_combine_close(combine);
    metric_events_finish(&w.events);
    return status;
}

static void memory_may_end_anywhere(void **state) {
    (void)state;
    struct kit_random random = {1};
    uint32_t failures = 0;
    for (uint32_t r = 0; r < 8; r++) {
        struct mr_rule rule = make_rule(&random, 5, 1);
        rule.window.offset_ms = 0;
        rule.window.sliced = true;
        bool failed = true;
        for (size_t nth = 1; failed; nth++) {
            enum mr_status status = try_all(&rule, nth, &failed);
            assert_true(status == MR_OK || (failed && status == MR_NO_MEMORY));
            failures += status != MR_OK;
        }
    }
    assert_true(failures > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(same_as_whole_windows, metric_set_up, metric_tear_down),
        cmocka_unit_test(windows_cost_their_logarithm),
        cmocka_unit_test(bounds_are_those_of_windows),
        cmocka_unit_test(memory_may_end_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
