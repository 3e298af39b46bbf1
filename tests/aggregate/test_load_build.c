/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a load puts everything where it belongs:
 *   1. groups and overflow groups divided anew among any number of shards: all there, each where
 *      it belongs, in an order that is the same each time;
 *   2. changed rules: found by the map, dropped with a count; a shorter lateness leaves out what is
 *      final now, the floor keeps final what was;
 *   3. every allocation failing once: MR_NO_MEMORY, and nothing leaks.
 */
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/key.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RULES = 3, SHARDS_MOST = 7, KEYS = 40 };

static const uint32_t same_rules[RULES] = {0, 1, 2};

static void make_rules(struct mr_rule *rules) {
    rules[0] = kit_rule(0, 0, 1, 10, 0);
    rules[1] = kit_rule(1, 0, 2, 25, 40);
    rules[2] = kit_rule(2, 0, 0, 10, 20);
}

/* Bundle seq: some partials of each rule, those of the keys this shard owns. */
static void merge(struct mr_combine *combine, const struct mr_rule *rules, uint64_t seq,
                  uint32_t shard, uint32_t shards, uint32_t partials) {
    struct kit_random random = {seq};
    struct mr_parcel *parcel = mr_parcel_open(seq, 0);
    for (uint32_t k = 0; k < partials; k++) {
        uint32_t r = kit_below(&random, RULES);
        int64_t start = (int64_t)kit_below(&random, 4) * rules[r].window.size_ms;
        uint32_t key = rules[r].key_count == 0 ? 0 : kit_below(&random, KEYS);
        const int64_t value = (int64_t)kit_below(&random, 100);
        if (kit_owner(&rules[r], key, shards) == shard) {
            kit_partial(parcel, &rules[r], start, key, &value, 1);
        }
    }
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
}

/* One event in window 0. */
static void merge_key(struct mr_combine *combine, const struct mr_rule *rule, uint64_t seq,
                      uint32_t key) {
    struct mr_parcel *parcel = mr_parcel_open(seq, 0);
    kit_partial(parcel, rule, 0, key, (const int64_t[]){1}, 1);
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
}

/* Rows of one rule of many combines, in order of window and key. */
struct rows {
    struct mr_scan_result results[SHARDS_MOST];
    struct mr_row items[4096];
    uint32_t count;
};

static int compare_rows(const void *a, const void *b) {
    static const struct mr_scan place = {.order = MR_SCAN_ORDER_WINDOW};
    return mr_scan_compare(&place, NULL, a, b);
}

static void collect(struct mr_combine *const *combines, uint32_t count, uint32_t rule,
                    struct rows *ret) {
    struct mr_scan scan = {.rule = rule,
                           .from_ms = INT64_MIN,
                           .to_ms = INT64_MAX,
                           .state = MR_SCAN_OPEN,
                           .order = MR_SCAN_ORDER_WINDOW,
                           .limit = UINT32_MAX};
    memset(ret, 0, sizeof *ret);
    for (uint32_t s = 0; s < count; s++) {
        struct mr_scan_cursor cursor = {0};
        while (!mr_combine_scan(combines[s], &scan, &cursor, 1000, &ret->results[s])) {
        }
        assert_int_equal(ret->results[s].status, MR_OK);
        struct mr_bytes rest = mr_buf_bytes(&ret->results[s].rows);
        while (mr_row_next(&rest, &ret->items[ret->count])) {
            ret->count++;
            assert_true(ret->count < 4096);
        }
    }
    qsort(ret->items, ret->count, sizeof ret->items[0], compare_rows);
}

static void finish_rows(struct rows *rows) {
    for (uint32_t s = 0; s < SHARDS_MOST; s++) {
        mr_buf_finish(&rows->results[s].rows);
    }
}

static void expect_same_rows(const struct rows *a, const struct rows *b) {
    assert_int_equal(a->count, b->count);
    for (uint32_t i = 0; i < a->count; i++) {
        const struct mr_row *x = &a->items[i];
        const struct mr_row *y = &b->items[i];
        assert_int_equal(compare_rows(x, y), 0);
        assert_int_equal(x->events, y->events);
        assert_int_equal(x->revision, y->revision);
        assert_true(mr_bytes_equal(x->state, y->state));
    }
}

struct division {
    struct mr_rule rules[RULES];
    struct mr_combine *before[SHARDS_MOST];
    struct mr_combine *after[SHARDS_MOST];
    struct kit_slices slices[SHARDS_MOST];
    uint32_t old_shards;
    uint32_t new_shards;
};

/* Rule 1 overflows on each old shard; some windows are closed, some of these late. */
static void make_division(struct division *d, uint32_t old_shards, uint32_t new_shards) {
    static const int64_t watermark = 15;
    *d = (struct division){.old_shards = old_shards, .new_shards = new_shards};
    make_rules(d->rules);
    d->rules[1].groups_max = 5;
    for (uint32_t s = 0; s < old_shards; s++) {
        d->before[s] = kit_open(d->rules, RULES, s);
        merge(d->before[s], d->rules, 1, s, old_shards, 60);
        kit_advance(d->before[s], 1, 5);
        merge(d->before[s], d->rules, 2, s, old_shards, 200);
        kit_advance(d->before[s], 2, watermark);
        kit_save(d->before[s], 2, 13, &d->slices[s]);
    }
    d->rules[1].groups_max = 10;
    for (uint32_t s = 0; s < new_shards; s++) {
        struct mr_combine_load how = {2, &watermark, same_rules, RULES, new_shards};
        struct mr_error error;
        uint64_t dropped;
        d->after[s] = kit_open(d->rules, RULES, s);
        assert_int_equal(kit_load(d->after[s], &how, d->slices, old_shards, &dropped, &error),
                         MR_OK);
        mr_combine_check_scan(d->after[s]);
    }
}

static void close_division(struct division *d) {
    for (uint32_t s = 0; s < SHARDS_MOST; s++) {
        mr_combine_close(d->before[s]);
        mr_combine_close(d->after[s]);
        kit_slices_finish(&d->slices[s]);
    }
}

static uint32_t owner_of(const struct mr_rule *rule, struct mr_bytes key, uint32_t shards) {
    return mr_key_is_other(key) ? key.ptr[1] % shards
                                : mr_rule_shard(mr_hash64(key, rule->key_seed), shards);
}

static void divided_anew(void **state) {
    (void)state;
    static struct rows before;
    static struct rows after;
    uint32_t others = 0;
    for (uint32_t from = 1; from <= SHARDS_MOST; from += 2) {
        for (uint32_t to = 1; to <= SHARDS_MOST; to++) {
            struct division d;
            make_division(&d, from, to);
            for (uint32_t r = 0; r < RULES; r++) {
                collect(d.before, from, r, &before);
                collect(d.after, to, r, &after);
                expect_same_rows(&before, &after);
                finish_rows(&after);
                for (uint32_t s = 0; s < to; s++) {
                    collect(&d.after[s], 1, r, &after);
                    for (uint32_t i = 0; i < after.count; i++) {
                        assert_int_equal(owner_of(&d.rules[r], after.items[i].key, to), s);
                        others += mr_key_is_other(after.items[i].key);
                    }
                    finish_rows(&after);
                }
                finish_rows(&before);
            }
            if (from == to) {
                for (uint32_t s = 0; s < to; s++) {
                    assert_true(mr_combine_state_hash_scan(d.before[s]) ==
                                mr_combine_state_hash_scan(d.after[s]));
                }
            }
            close_division(&d);
        }
    }
    assert_true(others > 100);
}

static struct mr_flush *fire_all(struct mr_combine *combine) {
    struct mr_flush *flush = mr_flush_open(3);
    bool done = false;
    mr_combine_advance(combine, 3, (const int64_t[]){INT64_MAX}, 0);
    assert_int_equal(mr_combine_fire(combine, UINT32_MAX, flush, &done), MR_OK);
    return flush;
}

/* All shards become one: a window's groups are those of shard 0 in their order, then those of shard
 * 1 … */
static void order_is_by_old_shard(void **state) {
    (void)state;
    struct division d;
    make_division(&d, 4, 1);
    struct mr_flush *one = fire_all(d.after[0]);
    struct mr_flush *old[4];
    struct mr_bytes rests[4];
    struct mr_pane next[4];
    bool more[4];
    for (uint32_t s = 0; s < 4; s++) {
        old[s] = fire_all(d.before[s]);
        rests[s] = mr_buf_bytes(&old[s]->panes);
        more[s] = mr_pane_next(&rests[s], &next[s]);
    }
    struct mr_bytes rest = mr_buf_bytes(&one->panes);
    struct mr_pane pane;
    uint32_t panes = 0;
    uint32_t s = 0;
    int64_t start = INT64_MIN;
    for (; mr_pane_next(&rest, &pane); panes++) {
        if (pane.window_start_ms != start) {
            s = 0;
            start = pane.window_start_ms;
        }
        while (!more[s] || next[s].rule != pane.rule || next[s].window_start_ms != start) {
            s++;
            assert_true(s < 4);
        }
        assert_true(mr_bytes_equal(next[s].key, pane.key));
        assert_int_equal(next[s].events, pane.events);
        more[s] = mr_pane_next(&rests[s], &next[s]);
    }
    assert_true(panes > 40);
    for (s = 0; s < 4; s++) {
        assert_false(more[s]);
        mr_flush_close(old[s]);
    }
    mr_flush_close(one);
    close_division(&d);
}

static uint64_t other_events(struct mr_combine *combine, uint8_t number) {
    static struct rows rows;
    uint64_t events = 0;
    collect(&combine, 1, 1, &rows);
    for (uint32_t i = 0; i < rows.count; i++) {
        const struct mr_row *row = &rows.items[i];
        if (row->window_start_ms == 75 && mr_key_is_other(row->key) && row->key.ptr[1] == number) {
            assert_int_equal(events, 0);
            events = row->events;
        }
    }
    finish_rows(&rows);
    return events;
}

/* What overflows goes on going into the shard's own overflow group, and into no other. */
static void overflow_goes_on(void **state) {
    (void)state;
    struct division d;
    make_division(&d, 3, 2);
    uint64_t own = other_events(d.after[0], 0);
    uint64_t foreign = other_events(d.after[0], 2);
    assert_true(own > 0 && foreign > 0);
    struct mr_parcel *parcel = mr_parcel_open(3, 0);
    for (uint32_t key = 1000; key < 1010; key++) {
        kit_partial(parcel, &d.rules[1], 75, key, (const int64_t[]){1}, 1);
    }
    assert_int_equal(mr_combine_merge(d.after[0], parcel), MR_OK);
    mr_parcel_close(parcel);
    kit_advance(d.after[0], 3, 15);
    assert_int_equal(other_events(d.after[0], 0), own + 10);
    assert_int_equal(other_events(d.after[0], 2), foreign);
    mr_combine_check_scan(d.after[0]);
    close_division(&d);
}

static uint64_t events_of(const struct rows *rows) {
    uint64_t events = 0;
    for (uint32_t i = 0; i < rows->count; i++) {
        events += rows->items[i].events;
    }
    return events;
}

static void expect_counters(const struct mr_combine_rule_stats *a,
                            const struct mr_combine_rule_stats *b) {
    assert_int_equal(mr_counter_read(&a->applied), mr_counter_read(&b->applied));
    assert_int_equal(mr_counter_read(&a->dropped), mr_counter_read(&b->dropped));
    assert_int_equal(mr_counter_read(&a->overflow), mr_counter_read(&b->overflow));
    assert_int_equal(mr_counter_read(&a->panes), mr_counter_read(&b->panes));
    assert_true(mr_counter_read(&a->applied) > 0 && mr_counter_read(&a->panes) > 0);
}

/* Rule 0 has moved to place 2, rule 1 is gone, rule 2 is at 1 now, and a new one is at 0. */
static void changed_rules(void **state) {
    (void)state;
    static const int64_t watermark = 15;
    static const uint32_t map[RULES] = {2, UINT32_MAX, 1};
    static struct rows before;
    static struct rows after;
    struct division d;
    make_division(&d, 1, 1);
    struct mr_rule rules[RULES] = {kit_rule(0, 0, 2, 25, 0), kit_rule(1, 0, 0, 10, 20),
                                   kit_rule(2, 0, 1, 10, 0)};
    struct mr_combine *combine = kit_open(rules, RULES, 0);
    struct mr_combine_load how = {2, &watermark, map, RULES, 1};
    struct mr_error error;
    uint64_t dropped;
    assert_int_equal(kit_load(combine, &how, d.slices, 1, &dropped, &error), MR_OK);
    mr_combine_check_scan(combine);
    collect(d.before, 1, 1, &before);
    assert_int_equal(dropped, events_of(&before));
    assert_true(dropped > 0);
    finish_rows(&before);
    collect(&combine, 1, 0, &after);
    assert_int_equal(after.count, 0);
    finish_rows(&after);
    for (uint32_t r = 0; r < RULES; r += 2) {
        collect(d.before, 1, r, &before);
        collect(&combine, 1, map[r], &after);
        assert_true(before.count > 0);
        expect_same_rows(&before, &after);
        expect_counters(mr_combine_stats(d.before[0], r), mr_combine_stats(combine, map[r]));
        finish_rows(&before);
        finish_rows(&after);
    }
    assert_int_equal(mr_counter_read(&mr_combine_stats(combine, 0)->applied), 0);
    mr_combine_close(combine);
    close_division(&d);
}

/* A window that closed on one shard and was first seen late on another: its groups keep the
 * revision they fired with, whichever shard's slices come first. */
static void a_window_seen_late_elsewhere(void **state) {
    (void)state;
    static const int64_t watermark = 12;
    static struct rows before;
    static struct rows after;
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 50);
    struct mr_combine *old[2] = {kit_open(&rule, 1, 0), kit_open(&rule, 1, 1)};
    struct kit_slices slices[2] = {{0}};
    uint32_t keys[2] = {0, 0};
    for (uint32_t s = 0; s < 2; s++) {
        while (kit_owner(&rule, keys[s], 2) != s) {
            keys[s]++;
        }
    }
    merge_key(old[0], &rule, 1, keys[0]);
    for (uint32_t s = 0; s < 2; s++) {
        kit_advance(old[s], 1, 5);
        kit_advance(old[s], 2, watermark);
    }
    merge_key(old[1], &rule, 3, keys[1]);
    for (uint32_t s = 0; s < 2; s++) {
        kit_advance(old[s], 3, watermark);
        kit_save(old[s], 3, 100, &slices[s]);
    }
    collect(old, 2, 0, &before);
    assert_int_equal(before.count, 2);
    for (uint32_t turn = 0; turn < 2; turn++) {
        struct kit_slices turned[2] = {slices[turn], slices[1 - turn]};
        struct mr_combine *combine = kit_open(&rule, 1, 0);
        struct mr_combine_load how = {3, &watermark, same_rules, 1, 1};
        struct mr_error error;
        uint64_t dropped;
        assert_int_equal(kit_load(combine, &how, turned, 2, &dropped, &error), MR_OK);
        collect(&combine, 1, 0, &after);
        expect_same_rows(&before, &after);
        finish_rows(&after);
        mr_combine_close(combine);
    }
    finish_rows(&before);
    for (uint32_t s = 0; s < 2; s++) {
        mr_combine_close(old[s]);
        kit_slices_finish(&slices[s]);
    }
}

/* Loads one rule of 10 ms windows 0 to 9 that was saved at watermark 65 under `saved`. */
static struct mr_combine *load_changed(const struct mr_rule *saved, const struct mr_rule *now,
                                       uint64_t *ret_events) {
    static const int64_t watermark = 65;
    static struct rows rows;
    struct kit_slices slices = {0};
    struct mr_combine *combine = kit_open(saved, 1, 0);
    struct mr_parcel *parcel = mr_parcel_open(1, 0);
    for (int64_t window = 0; window < 10; window++) {
        kit_partial(parcel, saved, window * 10, 3, (const int64_t[]){1}, 1);
    }
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
    kit_advance(combine, 1, watermark);
    kit_save(combine, 1, 3, &slices);
    mr_combine_close(combine);
    combine = kit_open(now, 1, 0);
    struct mr_combine_load how = {1, &watermark, same_rules, 1, 1};
    struct mr_error error;
    uint64_t dropped;
    assert_int_equal(kit_load(combine, &how, &slices, 1, &dropped, &error), MR_OK);
    assert_int_equal(dropped, 0);
    mr_combine_check_scan(combine);
    collect(&combine, 1, 0, &rows);
    *ret_events = events_of(&rows);
    finish_rows(&rows);
    kit_slices_finish(&slices);
    return combine;
}

static int64_t next_final(struct mr_combine *combine, uint64_t seq, int64_t watermark) {
    struct mr_flush *flush = mr_flush_open(seq);
    bool done = false;
    mr_combine_advance(combine, seq, &watermark, 0);
    assert_int_equal(mr_combine_fire(combine, UINT32_MAX, flush, &done), MR_OK);
    int64_t end = flush->final_count == 0 ? INT64_MIN : flush->finals[0].end_ms;
    mr_flush_close(flush);
    mr_combine_check_scan(combine);
    return end;
}

static void changed_lateness(void **state) {
    (void)state;
    struct mr_rule late = kit_rule(0, 0, 1, 10, 30);
    struct mr_rule prompt = kit_rule(0, 0, 1, 10, 0);
    uint64_t events;
    struct mr_combine *combine = load_changed(&late, &late, &events);
    assert_int_equal(events, 7); /* ends up to 30 are final */
    assert_int_equal(next_final(combine, 2, 65), INT64_MIN);
    assert_int_equal(next_final(combine, 3, 70), 40);
    mr_combine_close(combine);
    combine = load_changed(&late, &prompt, &events);
    assert_int_equal(events, 4); /* ends up to 60 are: said by whoever loads */
    assert_int_equal(next_final(combine, 2, 65), INT64_MIN);
    assert_int_equal(next_final(combine, 3, 70), 70);
    mr_combine_close(combine);
    struct mr_rule later = late;
    later.final_floor_ms = mr_window_final_end(&prompt, 65);
    assert_int_equal(later.final_floor_ms, 60);
    combine = load_changed(&prompt, &later, &events);
    assert_int_equal(events, 4);
    assert_int_equal(next_final(combine, 2, 65), INT64_MIN);
    assert_int_equal(next_final(combine, 3, 99), INT64_MIN); /* 60 is, by the floor */
    assert_int_equal(next_final(combine, 4, 100), 70);
    mr_combine_close(combine);
}

static void out_of_memory(void **state) {
    (void)state;
    static const int64_t watermark = 15;
    struct division d;
    uint32_t failures = 0;
    make_division(&d, 3, 2);
    uint64_t hash = mr_combine_state_hash_scan(d.after[1]);
    for (size_t nth = 1; nth <= 400; nth++) {
        struct mr_combine *combine = kit_open(d.rules, RULES, 1);
        struct mr_combine_load how = {2, &watermark, same_rules, RULES, 2};
        struct mr_error error = {.text = ""};
        uint64_t dropped;
        mr_alloc_fail_at(nth, 0);
        enum mr_status status = kit_load(combine, &how, d.slices, 3, &dropped, &error);
        mr_alloc_fail_at(0, 0);
        if (status == MR_OK) { /* a piece that could not be made shorter is fine too */
            mr_combine_check_scan(combine);
            assert_true(mr_combine_state_hash_scan(combine) == hash);
        } else {
            failures++;
            assert_int_equal(status, MR_NO_MEMORY);
            assert_non_null(strstr(error.text, "out of memory"));
        }
        assert_true(nth < 400 || status == MR_OK);
        mr_combine_close(combine);
    }
    assert_true(failures > 50);
    close_division(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divided_anew),     cmocka_unit_test(order_is_by_old_shard),
        cmocka_unit_test(overflow_goes_on), cmocka_unit_test(a_window_seen_late_elsewhere),
        cmocka_unit_test(changed_rules),    cmocka_unit_test(changed_lateness),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
