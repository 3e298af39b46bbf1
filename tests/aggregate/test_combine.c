/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that panes are a function of the partials and watermarks alone, and the right one:
 *   1. random bundles from three shards, three rules, random watermarks: every pane
 *      (order, timing, revision, values, final) is the model's; firing in slices of any size, scans
 *      in between and releases at any time change nothing; invariants hold after each step;
 *   2. windows stay readable until they are confirmed, and are gone then;
 *   3. finals: said by shard 0 only, once per boundary;
 *   4. bounds: other and drop keep within groups_max and groups_bytes and account for every event;
 *   5. an allocation that fails leaves the state as it was.
 */
#include "base/alloc.h"
#include "base/dead.h"
#include "base/key.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SHARDS = 3, RULES = 3, BUNDLES = 60, STREAMS = 1 };

static const struct mr_bytes stream_names[] = {{(const uint8_t *)"clicks", 6}};

struct world {
    struct mr_rule rules[RULES];
    struct mr_combine *whole;  /* fires each bundle at once */
    struct mr_combine *sliced; /* fires, scans and releases in pieces */
    struct model model;
    struct mr_flush *expected; /* of the bundle, in order */
    struct mr_bytes got;       /* what is left of the panes to compare */
    struct kit_random random;
    uint64_t seq;
    int64_t watermark_ms;
    uint64_t merged[RULES];
    uint64_t fired;
};

static void open_world(struct world *w, uint64_t seed) {
    memset(w, 0, sizeof *w);
    w->random.state = seed;
    w->rules[0] = kit_rule(0, 0, 1, 10, 0);
    w->rules[1] = kit_rule(1, 0, 2, 25, 30);
    w->rules[2] = kit_rule(2, 0, 0, 7, 100);
    assert_int_equal(mr_combine_open(w->rules, RULES, STREAMS, stream_names, 0, &w->whole), MR_OK);
    assert_int_equal(mr_combine_open(w->rules, RULES, STREAMS, stream_names, 0, &w->sliced), MR_OK);
    w->model.rules = w->rules;
    w->model.rule_count = RULES;
    w->model.watermark_ms = INT64_MIN;
    w->watermark_ms = INT64_MIN;
}

static void close_world(struct world *w) {
    mr_combine_close(w->whole);
    mr_combine_close(w->sliced);
}

/* A window start that is not final for the rule. */
static int64_t random_start(struct world *w, const struct mr_rule *rule) {
    int64_t newest = w->watermark_ms == INT64_MIN ? -50 : w->watermark_ms;
    int64_t time = newest + (int64_t)kit_below(&w->random, 160) - 110;
    int64_t size = rule->window.size_ms;
    int64_t start = time - ((time % size) + size) % size;
    while (w->watermark_ms != INT64_MIN &&
           start + size + rule->allowed_lateness_ms <= w->watermark_ms) {
        start += size;
    }
    return start;
}

static void merge_bundle(struct world *w) {
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        struct mr_parcel *parcel = mr_parcel_open(w->seq, shard);
        uint32_t partials = kit_below(&w->random, 30);
        for (uint32_t k = 0; k < partials; k++) {
            uint32_t r = kit_below(&w->random, RULES);
            int64_t start = random_start(w, &w->rules[r]);
            uint32_t key = w->rules[r].key_count == 0 ? 0 : kit_below(&w->random, 12);
            int64_t values[8];
            uint32_t count = 1 + kit_below(&w->random, 8);
            for (uint32_t i = 0; i < count; i++) {
                values[i] = (int64_t)kit_below(&w->random, 1000) - 500;
            }
            kit_partial(parcel, &w->rules[r], start, key, values, count);
            model_merge(&w->model, w->seq, r, start, key, values, count);
            w->merged[r] += count;
        }
        assert_int_equal(mr_combine_merge(w->whole, parcel), MR_OK);
        assert_int_equal(mr_combine_merge(w->sliced, parcel), MR_OK);
        mr_parcel_close(parcel);
    }
}

/* Takes the next pane and compares it with the model's. */
static void expect_pane(void *ctx, const struct model_window *window,
                        const struct model_group *group, enum mr_timing timing) {
    struct world *w = ctx;
    const struct mr_rule *rule = &w->rules[window->rule];
    struct mr_pane pane;
    assert_true(mr_pane_next(&w->got, &pane));
    assert_int_equal(pane.rule, window->rule);
    assert_int_equal(pane.timing, timing);
    assert_int_equal(pane.final, window->final);
    assert_int_equal(pane.window_start_ms, window->start_ms);
    assert_int_equal(pane.window_end_ms, window->start_ms + rule->window.size_ms);
    assert_int_equal(pane.revision, w->seq);
    assert_int_equal(pane.events, group->events);
    struct mr_buf key;
    mr_buf_init(&key, 256);
    kit_key(rule, group->key, &key);
    assert_true(mr_bytes_equal(pane.key, mr_buf_bytes(&key)));
    mr_buf_finish(&key);
    model_expect_state(rule, group, pane.state.ptr);
    assert_null(pane.numbers);
    w->fired++;
}

static void scan_a_little(struct world *w) {
    struct mr_scan scan = {.rule = kit_below(&w->random, RULES),
                           .from_ms = INT64_MIN,
                           .to_ms = INT64_MAX,
                           .order = MR_SCAN_ORDER_WINDOW,
                           .limit = 50};
    struct mr_scan_cursor cursor = {0};
    struct mr_scan_result result = {0};
    bool done = false;
    for (int slice = 0; slice < 3 && !done; slice++) {
        done = mr_combine_scan(w->sliced, &scan, &cursor, 1 + kit_below(&w->random, 40), &result);
    }
    mr_combine_scan_stop(w->sliced, &cursor);
    mr_buf_finish(&result.rows);
}

static void fire_sliced(struct world *w, struct mr_flush *flush) {
    for (bool done = false; !done;) {
        uint32_t before = flush->pane_count;
        uint32_t budget = 1 + kit_below(&w->random, 9);
        assert_int_equal(mr_combine_fire(w->sliced, budget, flush, &done), MR_OK);
        assert_true(done || flush->pane_count - before <= budget);
        if (kit_below(&w->random, 4) == 0) {
            scan_a_little(w);
        }
        if (kit_below(&w->random, 4) == 0) {
            (void)mr_combine_release(w->sliced, w->seq - 1, 2);
        }
    }
}

static void step(struct world *w, int64_t watermark) {
    w->seq++;
    merge_bundle(w);
    w->watermark_ms = watermark > w->watermark_ms ? watermark : w->watermark_ms;
    mr_combine_advance(w->whole, w->seq, &w->watermark_ms, 0);
    mr_combine_advance(w->sliced, w->seq, &w->watermark_ms, 0);
    struct mr_flush *whole = mr_flush_open(w->seq);
    struct mr_flush *sliced = mr_flush_open(w->seq);
    bool done = false;
    assert_int_equal(mr_combine_fire(w->whole, UINT32_MAX, whole, &done), MR_OK);
    assert_true(done);
    fire_sliced(w, sliced);
    assert_true(mr_bytes_equal(mr_buf_bytes(&whole->panes), mr_buf_bytes(&sliced->panes)));
    assert_int_equal(whole->final_count, sliced->final_count);
    w->got = mr_buf_bytes(&whole->panes);
    model_advance(&w->model, w->seq, w->watermark_ms, expect_pane, w);
    assert_int_equal(w->got.len, 0);
    mr_flush_close(whole);
    mr_flush_close(sliced);
    mr_combine_check_scan(w->whole);
    mr_combine_check_scan(w->sliced);
    assert_int_equal(mr_combine_state_hash_scan(w->whole), mr_combine_state_hash_scan(w->sliced));
}

static void panes_are_the_models(void **state) {
    (void)state;
    static struct world w;
    uint64_t fired = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        open_world(&w, seed);
        for (int bundle = 0; bundle < BUNDLES; bundle++) {
            int64_t move = kit_below(&w.random, 3) == 0 ? 0 : kit_below(&w.random, 60);
            int64_t from = w.watermark_ms == INT64_MIN ? -40 : w.watermark_ms;
            step(&w, bundle < 3 ? INT64_MIN : from + move);
            uint64_t confirmed = w.seq - kit_below(&w.random, 4);
            while (mr_combine_release(w.whole, confirmed, 1)) {
            }
            model_release(&w.model, confirmed);
            mr_combine_check_scan(w.whole);
        }
        step(&w, INT64_MAX); /* the end of bounded input: everything closes and is final */
        for (uint32_t r = 0; r < RULES; r++) {
            const struct mr_combine_rule_stats *stats = mr_combine_stats(w.sliced, r);
            assert_int_equal(mr_counter_read(&stats->applied), w.merged[r]);
            assert_int_equal(mr_counter_read(&stats->dropped), 0);
            assert_int_equal(mr_counter_read(&stats->windows), 0);
            assert_int_equal(mr_counter_read(&stats->groups), 0);
            assert_int_equal(mr_counter_read(&stats->bytes), 0);
        }
        fired += w.fired;
        close_world(&w);
    }
    assert_true(fired > 5000);
}

static uint32_t count_rows(struct mr_combine *combine, enum mr_scan_state which) {
    struct mr_scan scan = {.rule = 0,
                           .from_ms = INT64_MIN,
                           .to_ms = INT64_MAX,
                           .state = which,
                           .order = MR_SCAN_ORDER_WINDOW,
                           .limit = UINT32_MAX};
    struct mr_scan_cursor cursor = {0};
    struct mr_scan_result result;
    while (!mr_combine_scan(combine, &scan, &cursor, 100, &result)) {
    }
    assert_int_equal(result.status, MR_OK);
    mr_buf_finish(&result.rows);
    return result.count;
}

static void merge_one(struct mr_combine *combine, const struct mr_rule *rule, uint64_t seq,
                      int64_t start, uint32_t key) {
    struct mr_parcel *parcel = mr_parcel_open(seq, 0);
    kit_partial(parcel, rule, start, key, (const int64_t[]){(int64_t)key}, 1);
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
}

static struct mr_flush *advance(struct mr_combine *combine, uint64_t seq, int64_t watermark) {
    struct mr_flush *flush = mr_flush_open(seq);
    bool done = false;
    mr_combine_advance(combine, seq, &watermark, 0);
    assert_int_equal(mr_combine_fire(combine, UINT32_MAX, flush, &done), MR_OK);
    assert_true(done);
    return flush;
}

static void final_windows_wait_for_the_flusher(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 5);
    struct mr_combine *combine;
    assert_int_equal(mr_combine_open(&rule, 1, 1, stream_names, 0, &combine), MR_OK);
    for (int64_t window = 0; window < 3; window++) {
        merge_one(combine, &rule, 1, window * 10, 7);
    }
    mr_flush_close(advance(combine, 1, 15)); /* the first window is closed and final at once */
    assert_int_equal(count_rows(combine, MR_SCAN_FINAL), 1);
    assert_int_equal(count_rows(combine, MR_SCAN_OPEN), 2);
    assert_false(mr_combine_release(combine, 0, 10));
    assert_int_equal(count_rows(combine, MR_SCAN_ALL), 3);
    mr_flush_close(advance(combine, 2, 100));
    assert_int_equal(count_rows(combine, MR_SCAN_FINAL), 3);
    assert_false(mr_combine_release(combine, 1, 10));
    assert_int_equal(count_rows(combine, MR_SCAN_FINAL), 2);
    assert_true(mr_combine_release(combine, 2, 1));
    assert_false(mr_combine_release(combine, 2, 1));
    assert_int_equal(count_rows(combine, MR_SCAN_ALL), 0);
    mr_combine_check_scan(combine);
    mr_combine_close(combine);
}

static void a_scan_keeps_windows(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 0);
    struct mr_combine *combine;
    assert_int_equal(mr_combine_open(&rule, 1, 1, stream_names, 0, &combine), MR_OK);
    merge_one(combine, &rule, 1, 0, 7);
    mr_flush_close(advance(combine, 1, 100));
    struct mr_scan scan = {.from_ms = 0, .to_ms = 100, .order = MR_METRIC_SUM, .limit = 5};
    struct mr_scan_cursor cursor = {0};
    struct mr_scan_result result;
    assert_false(mr_combine_scan(combine, &scan, &cursor, 2, &result));
    assert_false(mr_combine_release(combine, 1, 10)); /* the scan holds a pointer to its group */
    while (!mr_combine_scan(combine, &scan, &cursor, 2, &result)) {
    }
    assert_int_equal(result.count, 1);
    mr_buf_finish(&result.rows);
    assert_false(mr_combine_release(combine, 1, 10));
    assert_int_equal(count_rows(combine, MR_SCAN_ALL), 0);
    mr_combine_close(combine);
}

static void sessions_end_with_it(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 5);
    rule.window = (struct mr_window){.kind = MR_WINDOW_SESSION, .size_ms = INT64_MAX, .gap_ms = 10};
    rule.state_len = mr_metric_layout(rule.metrics, rule.metric_count, mr_rule_prefix(&rule));
    struct mr_combine *combine;
    assert_int_equal(mr_combine_open(&rule, 1, 1, stream_names, 0, &combine), MR_OK);
    mr_flush_close(advance(combine, 1, 100));
    mr_combine_close(combine); /* ASan: the save that is stopped is also the sessions' */
}

static void expect_final(struct mr_flush *flush, int64_t end) {
    assert_int_equal(flush->final_count, end == INT64_MIN ? 0 : 1);
    if (flush->final_count > 0) {
        assert_int_equal(flush->finals[0].rule, 0);
        assert_int_equal(flush->finals[0].end_ms, end);
    }
    mr_flush_close(flush);
}

static void finals_are_said_once(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 5);
    struct mr_combine *zero;
    struct mr_combine *one;
    assert_int_equal(mr_combine_open(&rule, 1, 1, stream_names, 0, &zero), MR_OK);
    assert_int_equal(mr_combine_open(&rule, 1, 1, stream_names, 1, &one), MR_OK);
    expect_final(advance(zero, 1, INT64_MIN), INT64_MIN);
    expect_final(advance(zero, 2, -20), -30);
    expect_final(advance(zero, 3, -16), INT64_MIN);
    expect_final(advance(zero, 4, 14), 0);
    expect_final(advance(zero, 5, 15), 10);
    expect_final(advance(zero, 6, 15), INT64_MIN);
    expect_final(advance(zero, 7, INT64_MAX), INT64_MAX);
    expect_final(advance(one, 1, 15), INT64_MIN);
    mr_combine_close(zero);
    mr_combine_close(one);
}

static void late_panes_of_a_final_window_are_final(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 5);
    struct mr_combine *combine;
    assert_int_equal(mr_combine_open(&rule, 1, 1, stream_names, 0, &combine), MR_OK);
    mr_flush_close(advance(combine, 1, 12));
    merge_one(combine, &rule, 2, 0, 3); /* late, in a window that never fired */
    struct mr_flush *flush = advance(combine, 2, 14);
    struct mr_bytes rest = mr_buf_bytes(&flush->panes);
    struct mr_pane pane;
    assert_true(mr_pane_next(&rest, &pane));
    assert_int_equal(pane.timing, MR_TIMING_LATE);
    assert_false(pane.final);
    mr_flush_close(flush);
    merge_one(combine, &rule, 3, 0, 3);
    flush = advance(combine, 3, 15);
    rest = mr_buf_bytes(&flush->panes);
    assert_true(mr_pane_next(&rest, &pane));
    assert_true(pane.final);
    assert_int_equal(pane.events, 2);
    assert_false(mr_pane_next(&rest, &pane));
    mr_flush_close(flush);
    flush = advance(combine, 4, 99); /* state only: no pane says it again */
    assert_int_equal(flush->pane_count, 0);
    mr_flush_close(flush);
    mr_combine_close(combine);
}

static uint64_t dead_events(struct mr_flush *flush) {
    struct mr_bytes rest = mr_buf_bytes(&flush->dead);
    struct mr_dead dead;
    uint64_t events = 0;
    uint32_t count = 0;
    while (mr_dead_next(&rest, &dead)) {
        char text[512];
        assert_int_equal(dead.reason, MR_DEAD_GROUPS);
        assert_true(dead.json.len < sizeof text);
        memcpy(text, dead.json.ptr, dead.json.len);
        text[dead.json.len] = 0;
        assert_non_null(strstr(text, "\"reason\":\"groups\",\"stream\":\"clicks\""));
        assert_non_null(strstr(text, "\"rules\":[\"first\"],\"group\":{\"country\":\"k"));
        const char *n = strstr(text, "\"events\":");
        assert_non_null(n);
        events += strtoull(n + 9, NULL, 10);
        count++;
    }
    assert_int_equal(rest.len, 0);
    assert_int_equal(count, flush->dead_count);
    return events;
}

static void check_bounds(struct mr_rule *rule, uint64_t seed) {
    enum { MAX_WINDOWS = 12 };
    struct mr_combine *combine;
    struct kit_random random = {seed};
    assert_int_equal(mr_combine_open(rule, 1, 1, stream_names, 5, &combine), MR_OK);
    const struct mr_combine_rule_stats *stats = mr_combine_stats(combine, 0);
    uint64_t merged = 0;
    uint64_t dropped = 0;
    uint64_t overflow_fired = 0;
    for (uint64_t seq = 1; seq <= 40; seq++) {
        struct mr_parcel *parcel = mr_parcel_open(seq, 0);
        for (uint32_t k = kit_below(&random, 60); k > 0; k--) {
            int64_t start = ((int64_t)seq / 4 + kit_below(&random, MAX_WINDOWS - 2)) * 10;
            kit_partial(parcel, rule, start, kit_below(&random, 40), (const int64_t[]){1, 2}, 2);
            merged += 2;
        }
        assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
        mr_parcel_close(parcel);
        mr_combine_check_scan(combine);
        uint64_t groups = mr_counter_read(&stats->groups);
        uint64_t windows = mr_counter_read(&stats->windows);
        assert_true(groups <= rule->groups_max + windows);
        struct mr_flush *flush = advance(combine, seq, (int64_t)seq / 4 * 10);
        dropped += dead_events(flush);
        struct mr_bytes rest = mr_buf_bytes(&flush->panes);
        struct mr_pane pane;
        while (mr_pane_next(&rest, &pane)) {
            if (mr_key_is_other(pane.key)) {
                assert_int_equal(pane.key.ptr[1], 5);
                overflow_fired += pane.timing == MR_TIMING_ON_TIME ? pane.events : 0;
            }
        }
        mr_flush_close(flush);
        while (mr_combine_release(combine, seq, 10)) {
        }
    }
    struct mr_flush *flush = advance(combine, 41, INT64_MAX);
    struct mr_bytes rest = mr_buf_bytes(&flush->panes);
    struct mr_pane pane;
    while (mr_pane_next(&rest, &pane)) {
        overflow_fired += mr_key_is_other(pane.key) ? pane.events : 0;
    }
    mr_flush_close(flush);
    assert_int_equal(mr_counter_read(&stats->applied) + mr_counter_read(&stats->dropped), merged);
    assert_int_equal(mr_counter_read(&stats->dropped), dropped);
    assert_int_equal(mr_counter_read(&stats->overflow), overflow_fired);
    assert_int_equal(dropped > 0, rule->when_full == MR_GROUPS_DROP);
    assert_int_equal(overflow_fired > 0, rule->when_full == MR_GROUPS_OTHER);
    mr_combine_close(combine);
}

static void bounds_are_kept(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct mr_rule rule = kit_rule(0, 0, 1, 10, 0);
        rule.when_full = seed % 2 == 0 ? MR_GROUPS_OTHER : MR_GROUPS_DROP;
        rule.groups_max = 50;
        check_bounds(&rule, seed);
        rule.groups_max = 100000;
        rule.groups_bytes = 20000;
        check_bounds(&rule, seed);
    }
}

static void bytes_are_bounded(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 0);
    rule.groups_bytes = 2 << 20;
    struct mr_combine *combine;
    assert_int_equal(mr_combine_open(&rule, 1, 1, stream_names, 0, &combine), MR_OK);
    const struct mr_combine_rule_stats *stats = mr_combine_stats(combine, 0);
    struct mr_parcel *parcel = mr_parcel_open(1, 0);
    for (uint32_t key = 0; key < 20000; key++) {
        kit_partial(parcel, &rule, 0, key, (const int64_t[]){1}, 1);
    }
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
    /* Over it by one step of growth at most: a block and a segment's split. */
    assert_in_range(mr_counter_read(&stats->bytes), 3 << 19, (2 << 20) + (96 << 10));
    assert_true(mr_counter_read(&stats->overflow) > 0);
    assert_int_equal(mr_counter_read(&stats->applied), 20000);
    mr_combine_check_scan(combine);
    mr_combine_close(combine);
}

/* Merging one partial at a time, a failing one leaves the state hash as it was and works the second
 * time. */
static void out_of_memory(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 50);
    for (size_t nth = 1; nth <= 40; nth++) {
        struct mr_combine *combine;
        struct kit_random random = {nth};
        assert_int_equal(mr_combine_open(&rule, 1, 1, stream_names, 0, &combine), MR_OK);
        mr_flush_close(advance(combine, 1, 40));
        for (uint32_t k = 0; k < 60; k++) {
            struct mr_parcel *parcel = mr_parcel_open(2, 0);
            kit_partial(parcel, &rule, kit_below(&random, 7) * 10, kit_below(&random, 30),
                        (const int64_t[]){1}, 1);
            uint64_t hash = mr_combine_state_hash_scan(combine);
            mr_alloc_fail_at(k % 5 + 1, 1); /* for ever, until it is switched off */
            enum mr_status status = mr_combine_merge(combine, parcel);
            mr_alloc_fail_at(0, 0);
            mr_combine_check_scan(combine);
            if (status != MR_OK) {
                assert_int_equal(status, MR_NO_MEMORY);
                assert_int_equal(mr_combine_state_hash_scan(combine), hash);
                assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
            }
            mr_parcel_close(parcel);
        }
        assert_int_equal(mr_counter_read(&mr_combine_stats(combine, 0)->applied), 60);
        mr_combine_close(combine);
    }
}

static void many_small_windows_are_cheap(void **state) {
    (void)state;
    enum { WINDOWS = 8000, GROUPS = 5 };
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 0);
    rule.metric_count = 2; /* count and sum */
    rule.state_len = mr_metric_layout(rule.metrics, 2, 0);
    struct mr_combine *combine;
    assert_int_equal(mr_combine_open(&rule, 1, 1, stream_names, 0, &combine), MR_OK);
    struct mr_parcel *parcel = mr_parcel_open(1, 0);
    for (uint32_t n = 0; n < WINDOWS * GROUPS; n++) {
        int64_t start =
            (int64_t)(n * UINT64_C(7919) % WINDOWS) * 10; /* 7919 is prime: all windows */
        kit_partial(parcel, &rule, start, n / WINDOWS, (const int64_t[]){1}, 1);
    }
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
    const struct mr_combine_rule_stats *stats = mr_combine_stats(combine, 0);
    assert_int_equal(mr_counter_read(&stats->windows), WINDOWS);
    assert_int_equal(mr_counter_read(&stats->groups), WINDOWS * GROUPS);
    assert_true(mr_counter_read(&stats->bytes) <= WINDOWS * 800);
    struct mr_flush *flush = advance(combine, 1, WINDOWS * 10 / 2);
    assert_int_equal(flush->pane_count, WINDOWS / 2 * GROUPS);
    mr_flush_close(flush);
    assert_int_equal(mr_counter_read(&stats->windows), WINDOWS / 2);
    mr_combine_check_scan(combine);
    mr_combine_close(combine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(panes_are_the_models),
        cmocka_unit_test(final_windows_wait_for_the_flusher),
        cmocka_unit_test(a_scan_keeps_windows),
        cmocka_unit_test(sessions_end_with_it),
        cmocka_unit_test(finals_are_said_once),
        cmocka_unit_test(late_panes_of_a_final_window_are_final),
        cmocka_unit_test(bounds_are_kept),
        cmocka_unit_test(bytes_are_bounded),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(many_small_windows_are_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
