/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a break cannot be seen:
 *   1. random traffic over one to three shards; a save of each whose slices fall anywhere between
 *      parcels, advances and slices of firing; the slices, shuffled, into combines just opened:
 *      their state is that of the barrier, and later traffic gives the same panes, dead letters,
 *      finals, counters, bounds, scans and state as without the break; of sliding windows kept as
 *      slices, too;
 *   2. what waits is bounded by what is taken, in slices of bounded size;
 *   3. a save holds released windows back, can be given up, and begun again;
 *   4. no memory for what waits fails the save and nothing else.
 */
#include "aggregate/saved.h"
#include "aggregate/window.h"
#include "base/alloc.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { RULES = 5, STREAMS = 2, SHARDS = 3, BUNDLES = 60, KEYS = 14 };

static const struct mr_bytes stream_names[] = {{(const uint8_t *)"clicks", 6},
                                               {(const uint8_t *)"orders", 6}};

/* What one shard does with one bundle, and how it is afterwards. */
struct trace {
    struct mr_buf panes;
    struct mr_buf dead;
    struct mr_buf finals;
    struct mr_buf rows; /* of a scan */
    uint64_t hash;
    uint64_t stats[RULES][7];
};

struct bundle {
    uint64_t seq;
    struct mr_parcel *parcels[SHARDS][SHARDS]; /* from, to */
    int64_t watermarks_ms[STREAMS];
};

struct world {
    struct kit_random random;
    struct mr_rule rules[RULES];
    uint32_t shards;
    struct bundle bundles[BUNDLES];
    struct trace traces[BUNDLES][SHARDS];
    struct kit_slices slices[SHARDS];
    uint64_t waited; /* times that something did */
};

static void make_rules(struct world *w) {
    w->rules[0] = kit_rule(0, 0, 1, 10, 0);
    w->rules[0].groups_max = 30;
    w->rules[1] = kit_rule(1, 0, 2, 25, 30);
    w->rules[1].groups_max = 25;
    w->rules[1].when_full = MR_GROUPS_DROP;
    w->rules[2] = kit_rule(2, 0, 0, 7, 100);
    w->rules[3] = kit_rule(3, 1, 1, 10, 50);
    w->rules[3].groups_bytes = 9000;
    w->rules[4] = kit_rule(0, 0, 1, 24, 20);
    w->rules[4].index = 4;
    w->rules[4].window = (struct mr_window){
        .kind = MR_WINDOW_SLIDING, .sliced = true, .size_ms = 24, .every_ms = 4, .slice_ms = 2, .offset_ms = 2};
    w->rules[4].groups_max = 90;
}

/* A window start that is not final for the rule. */
static int64_t random_start(struct world *w, const struct mr_rule *rule, int64_t watermark) {
    int64_t newest = watermark == INT64_MIN ? -50 : watermark;
    int64_t time = newest + (int64_t)kit_below(&w->random, 160) - 110;
    if (rule->window.sliced) { /* of the slice: in order, mostly, and after 1970 */
        int64_t late_ms = mr_window_late_before(rule, watermark);
        int64_t end_ms;
        time = kit_below(&w->random, 3) > 0 ? newest + (int64_t)kit_below(&w->random, 6) : time;
        time = time < 0 ? 0 : time;
        mr_window_slice(rule, time < late_ms ? late_ms : time, &time, &end_ms);
        return time;
    }
    int64_t size = rule->window.size_ms;
    int64_t start = time - ((time % size) + size) % size;
    while (watermark != INT64_MIN && start + size + rule->allowed_lateness_ms <= watermark) {
        start += size;
    }
    return start;
}

static void fill_parcels(struct world *w, struct bundle *b, uint32_t from,
                         const int64_t *watermarks) {
    for (uint32_t to = 0; to < w->shards; to++) {
        b->parcels[from][to] = mr_parcel_open(b->seq, from);
    }
    uint32_t partials = kit_below(&w->random, 50);
    for (uint32_t k = 0; k < partials; k++) {
        const struct mr_rule *rule = &w->rules[kit_below(&w->random, RULES)];
        int64_t start = random_start(w, rule, watermarks[rule->inputs[0].stream]);
        uint32_t key = rule->key_count == 0 ? 0 : kit_below(&w->random, KEYS);
        int64_t values[4];
        uint32_t count = 1 + kit_below(&w->random, 4);
        for (uint32_t i = 0; i < count; i++) {
            values[i] = (int64_t)kit_below(&w->random, 1000) - 500;
        }
        kit_partial(b->parcels[from][kit_owner(rule, key, w->shards)], rule, start, key, values,
                    count);
    }
}

/* gap: a seq is skipped before bundle number `barrier`, as a restart or a question does. */
static void make_bundles(struct world *w, uint32_t barrier, bool gap) {
    int64_t watermarks[STREAMS] = {INT64_MIN, INT64_MIN};
    for (uint32_t n = 0; n < BUNDLES; n++) {
        struct bundle *b = &w->bundles[n];
        b->seq = 10 + 2 * n + (n >= barrier && gap);
        for (uint32_t from = 0; from < w->shards; from++) {
            fill_parcels(w, b, from, watermarks);
        }
        for (uint32_t s = 0; s < STREAMS; s++) {
            if (n > 2 && kit_below(&w->random, 3) > 0) {
                int64_t before = watermarks[s] == INT64_MIN ? -40 : watermarks[s];
                watermarks[s] = before + kit_below(&w->random, s == 0 ? 25 : 60);
            }
            b->watermarks_ms[s] = watermarks[s];
        }
    }
}

static void init_trace(struct trace *trace) {
    *trace = (struct trace){0};
    mr_buf_init(&trace->panes, 1 << 24);
    mr_buf_init(&trace->dead, 1 << 24);
    mr_buf_init(&trace->finals, 1 << 24);
    mr_buf_init(&trace->rows, 1 << 24);
}

static void finish_trace(struct trace *trace) {
    mr_buf_finish(&trace->panes);
    mr_buf_finish(&trace->dead);
    mr_buf_finish(&trace->finals);
    mr_buf_finish(&trace->rows);
}

/* Of what is not final: how long final windows stay is the flusher's affair. */
static void scan(const struct mr_rule *rules, struct mr_combine *combine, uint64_t seq,
                 struct mr_buf *ret) {
    uint32_t rule = (uint32_t)(seq % RULES);
    bool by_metric = seq % 3 == 0;
    struct mr_scan question = {.rule = rule,
                               .from_ms = INT64_MIN,
                               .to_ms = INT64_MAX,
                               .state = MR_SCAN_OPEN,
                               .order = by_metric ? MR_METRIC_SUM : MR_SCAN_ORDER_WINDOW,
                               .descending = seq % 2 == 0,
                               .limit = by_metric ? 9 : 1000};
    assert_true(rules[rule].metric_count > MR_METRIC_SUM);
    struct mr_scan_cursor cursor = {0};
    struct mr_scan_result result;
    while (!mr_combine_scan(combine, &question, &cursor, 50, &result)) {
    }
    assert_int_equal(result.status, MR_OK);
    mr_buf_append_bytes(ret, mr_buf_bytes(&result.rows));
    mr_buf_finish(&result.rows);
}

static void look(const struct world *w, struct mr_combine *combine, uint64_t seq,
                 struct trace *ret) {
    mr_combine_check_scan(combine);
    ret->hash = mr_combine_state_hash_scan(combine);
    for (uint32_t r = 0; r < RULES; r++) {
        const struct mr_combine_rule_stats *stats = mr_combine_stats(combine, r);
        const uint64_t seen[7] = {
            mr_counter_read(&stats->applied),  mr_counter_read(&stats->dropped),
            mr_counter_read(&stats->overflow), mr_counter_read(&stats->windows),
            mr_counter_read(&stats->groups),   mr_counter_read(&stats->bytes),
            mr_counter_read(&stats->panes)};
        memcpy(ret->stats[r], seen, sizeof seen);
    }
    scan(w->rules, combine, seq, &ret->rows);
}

/* A slice of the save, if one is under way, about every other time. */
static void save_a_little(struct world *w, uint32_t shard, struct mr_combine *combine) {
    if (mr_combine_saving(combine) && kit_below(&w->random, 2) == 0) {
        w->waited += mr_combine_save_waiting(combine) > 0;
        (void)kit_save_slice(combine, 1 + kit_below(&w->random, 12), &w->slices[shard]);
        assert_int_equal(mr_combine_save_waiting(combine), 0);
    }
}

static void run_bundle(struct world *w, const struct bundle *b, uint32_t shard,
                       struct mr_combine *combine, struct trace *ret) {
    init_trace(ret);
    for (uint32_t from = 0; from < w->shards; from++) {
        save_a_little(w, shard, combine);
        struct mr_parcel *parcel = b->parcels[from][shard];
        assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    }
    save_a_little(w, shard, combine);
    mr_combine_advance(combine, b->seq, b->watermarks_ms, 0);
    for (bool done = false; !done;) {
        struct mr_flush *flush = mr_flush_open(b->seq);
        save_a_little(w, shard, combine);
        assert_int_equal(mr_combine_fire(combine, 1 + kit_below(&w->random, 20), flush, &done),
                         MR_OK);
        mr_buf_append_bytes(&ret->panes, mr_buf_bytes(&flush->panes));
        mr_buf_append_bytes(&ret->dead, mr_buf_bytes(&flush->dead));
        mr_buf_append(&ret->finals, flush->finals, flush->final_count * sizeof *flush->finals);
        mr_flush_close(flush);
    }
    save_a_little(w, shard, combine);
    while (mr_combine_release(combine, b->seq - kit_below(&w->random, 6), 3)) {
    }
    look(w, combine, b->seq, ret);
}

static void expect_equal(const struct mr_buf *a, const struct mr_buf *b) {
    assert_true(mr_bytes_equal(mr_buf_bytes(a), mr_buf_bytes(b)));
}

static void expect_trace(const struct trace *have, const struct trace *want) {
    expect_equal(&have->panes, &want->panes);
    expect_equal(&have->dead, &want->dead);
    expect_equal(&have->finals, &want->finals);
    expect_equal(&have->rows, &want->rows);
    assert_memory_equal(have->stats, want->stats, sizeof have->stats);
    assert_true(have->hash == want->hash);
}

static struct mr_combine *open_combine(struct world *w, uint32_t shard) {
    struct mr_combine *combine;
    assert_int_equal(mr_combine_open(w->rules, RULES, STREAMS, stream_names, shard, &combine),
                     MR_OK);
    return combine;
}

static void shuffle(struct world *w, uint32_t *order, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t j = kit_below(&w->random, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}

/* Every shard is given the slices of all of them. */
static struct mr_combine *load(struct world *w, uint32_t shard, uint64_t seq,
                               const int64_t *watermarks_ms) {
    static uint32_t order[1 << 16];
    static const uint32_t rule_map[RULES] = {0, 1, 2, 3, 4};
    struct mr_combine *combine = open_combine(w, shard);
    struct mr_combine_load how = {seq, watermarks_ms, rule_map, RULES, w->shards};
    struct mr_error error = {.text = ""};
    assert_int_equal(mr_combine_load_begin(combine, &how, &error), MR_OK);
    for (uint32_t from = 0; from < w->shards; from++) {
        assert_true(w->slices[from].count <= sizeof order / sizeof order[0]);
        shuffle(w, order, w->slices[from].count);
        for (uint32_t i = 0; i < w->slices[from].count; i++) {
            uint64_t dropped = 1;
            struct mr_bytes slice = mr_buf_bytes(&w->slices[from].items[order[i]]);
            enum mr_status status =
                mr_combine_load_slice(combine, slice, from == shard, &dropped, &error);
            if (status != MR_OK) {
                fail_msg("%s", error.text);
            }
            assert_int_equal(dropped, 0);
        }
    }
    if (mr_combine_load_end(combine, &error) != MR_OK) {
        fail_msg("%s", error.text);
    }
    return combine;
}

static void run_shard(struct world *w, uint32_t shard, uint32_t barrier, uint64_t seq,
                      struct trace *ret_at_barrier) {
    struct mr_combine *combine = open_combine(w, shard);
    for (uint32_t n = 0; n < BUNDLES; n++) {
        if (n == barrier) {
            init_trace(ret_at_barrier);
            look(w, combine, seq, ret_at_barrier);
            mr_combine_save_begin(combine, seq);
        }
        run_bundle(w, &w->bundles[n], shard, combine, &w->traces[n][shard]);
    }
    while (mr_combine_saving(combine)) {
        save_a_little(w, shard, combine);
    }
    mr_combine_close(combine);
}

static void check_world(struct world *w, uint32_t barrier, bool gap) {
    static const int64_t nothing_seen[STREAMS] = {INT64_MIN, INT64_MIN};
    uint64_t last = barrier == 0 ? 0 : w->bundles[barrier - 1].seq;
    uint64_t seq = last + gap;
    const int64_t *watermarks = barrier == 0 ? nothing_seen : w->bundles[barrier - 1].watermarks_ms;
    struct trace at_barrier[SHARDS];
    for (uint32_t shard = 0; shard < w->shards; shard++) {
        run_shard(w, shard, barrier, seq, &at_barrier[shard]);
    }
    for (uint32_t shard = 0; shard < w->shards; shard++) {
        struct mr_combine *combine = load(w, shard, seq, watermarks);
        struct trace trace;
        init_trace(&trace);
        look(w, combine, seq, &trace);
        expect_trace(&trace, &at_barrier[shard]);
        finish_trace(&trace);
        for (uint32_t n = barrier; n < BUNDLES; n++) {
            run_bundle(w, &w->bundles[n], shard, combine, &trace);
            expect_trace(&trace, &w->traces[n][shard]);
            finish_trace(&trace);
        }
        mr_combine_close(combine);
        finish_trace(&at_barrier[shard]);
    }
}

static void close_world(struct world *w) {
    for (uint32_t n = 0; n < BUNDLES; n++) {
        for (uint32_t shard = 0; shard < w->shards; shard++) {
            finish_trace(&w->traces[n][shard]);
            for (uint32_t to = 0; to < w->shards; to++) {
                mr_parcel_close(w->bundles[n].parcels[shard][to]);
            }
        }
    }
    for (uint32_t shard = 0; shard < w->shards; shard++) {
        kit_slices_finish(&w->slices[shard]);
    }
}

static void a_break_cannot_be_seen(void **state) {
    (void)state;
    static struct world w;
    uint64_t waited = 0;
    uint64_t dropped = 0;
    uint64_t overflowed = 0;
    uint64_t sliced = 0; /* that overflowed, and fired */
    for (uint64_t seed = 1; seed <= 24; seed++) {
        w = (struct world){.random = {seed}};
        w.shards = 1 + (uint32_t)(seed % SHARDS);
        uint32_t barrier = kit_below(&w.random, 50);
        bool gap = seed % 4 == 0;
        make_rules(&w);
        make_bundles(&w, barrier, gap);
        check_world(&w, barrier, gap);
        waited += w.waited;
        for (uint32_t shard = 0; shard < w.shards; shard++) {
            dropped += w.traces[BUNDLES - 1][shard].stats[1][1];
            overflowed += w.traces[BUNDLES - 1][shard].stats[3][2];
            sliced += w.traces[BUNDLES - 1][shard].stats[4][2] > 0 && w.traces[BUNDLES - 1][shard].stats[4][6] > 100;
        }
        close_world(&w);
    }
    assert_true(waited > 50 && dropped > 80 && overflowed > 100 && sliced > 10); /* it was about something */
}

static void merge(struct mr_combine *combine, const struct mr_rule *rule, uint64_t seq,
                  int64_t start, uint32_t keys) {
    struct mr_parcel *parcel = mr_parcel_open(seq, 0);
    for (uint32_t key = 0; key < keys; key++) {
        kit_partial(parcel, rule, start, key, (const int64_t[]){(int64_t)seq}, 1);
    }
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
}

static struct mr_combine *load_one(const struct mr_rule *rule, uint64_t seq, int64_t watermark,
                                   const struct kit_slices *slices) {
    struct mr_combine *combine = kit_open(rule, 1, 0);
    const uint32_t rule_map[1] = {0};
    struct mr_combine_load how = {seq, &watermark, rule_map, 1, 1};
    struct mr_error error;
    uint64_t dropped;
    assert_int_equal(kit_load(combine, &how, slices, 1, &dropped, &error), MR_OK);
    mr_combine_check_scan(combine);
    return combine;
}

/* Merge writes down some MiB before the walk has begun; all slices stay near 1 MiB, and while some of
 * it waits, merge may go on without the buffer growing beyond what is not taken. */
static void what_waits_is_bounded(void **state) {
    (void)state;
    enum { KEYS_MANY = 40000, SLICE_MAX = (1 << 20) + (128 << 10) };
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 0);
    struct mr_combine *combine = kit_open(&rule, 1, 0);
    struct kit_slices slices = {0};
    for (int64_t window = 0; window < 4; window++) {
        merge(combine, &rule, 1, window * 10, KEYS_MANY / 4);
    }
    kit_advance(combine, 1, 0);
    uint64_t hash = mr_combine_state_hash_scan(combine);
    mr_combine_save_begin(combine, 1);
    assert_int_equal(mr_combine_save_waiting(combine), 0);
    for (uint64_t seq = 2; seq < 6; seq++) {
        merge(combine, &rule, seq, (int64_t)(seq - 2) * 10, KEYS_MANY / 4);
        size_t waited = mr_combine_save_waiting(combine);
        assert_true(waited >= KEYS_MANY / 4 * 140);
        assert_false(kit_save_slice(combine, 1, &slices));
        assert_true(mr_combine_save_waiting(combine) < waited);
        mr_combine_check_scan(combine);
        kit_advance(combine, seq, 0);
    }
    assert_true(mr_combine_save_waiting(combine) > 0);
    merge(combine, &rule, 6, 30, KEYS_MANY / 4); /* already written down: nothing new waits */
    kit_advance(combine, 6, 0);
    while (!kit_save_slice(combine, UINT32_MAX, &slices)) {
    }
    for (uint32_t i = 0; i < slices.count; i++) {
        assert_true(slices.items[i].len <= SLICE_MAX);
    }
    struct mr_combine *again = load_one(&rule, 1, 0, &slices);
    assert_true(mr_combine_state_hash_scan(again) == hash);
    mr_combine_close(again);
    kit_slices_finish(&slices);
    mr_combine_close(combine);
}

/* A group that the walk has passed is not written down again. */
static void nothing_is_written_twice(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 0);
    struct mr_combine *combine = kit_open(&rule, 1, 0);
    struct kit_slices slices = {0};
    merge(combine, &rule, 1, 0, 10);
    merge(combine, &rule, 1, 10, 10);
    kit_advance(combine, 1, 0);
    mr_combine_save_begin(combine, 1);
    assert_false(kit_save_slice(combine, 4, &slices));
    merge(combine, &rule, 2, 0, 4);
    assert_int_equal(mr_combine_save_waiting(combine), 0);
    merge(combine, &rule, 2, 0, 5);
    size_t one = mr_combine_save_waiting(combine);
    assert_true(one > 0);
    merge(combine, &rule, 2, 10, 1);
    assert_true(mr_combine_save_waiting(combine) > one);
    mr_combine_close(combine); /* in the middle of a save */
    kit_slices_finish(&slices);
}

/* Final windows are not part of it: what is left is a slice's head and counters. */
static void final_windows_are_left_out(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 0);
    struct mr_combine *combine = kit_open(&rule, 1, 0);
    struct kit_slices slices = {0};
    merge(combine, &rule, 1, 0, 3);
    kit_advance(combine, 1, 10);
    kit_save(combine, 1, 100, &slices);
    assert_int_equal(slices.count, 1);
    assert_int_equal(slices.items[0].len,
                     sizeof(struct mr_saved_slice) + sizeof(struct mr_saved_counters));
    kit_slices_finish(&slices);
    mr_combine_close(combine);
}

static void a_save_holds_windows(void **state) {
    (void)state;
    struct mr_rule rule = kit_rule(0, 0, 1, 10, 0);
    struct mr_combine *combine = kit_open(&rule, 1, 0);
    struct kit_slices given_up = {0};
    struct kit_slices slices = {0};
    mr_combine_save_stop(combine); /* none is under way */
    merge(combine, &rule, 1, 0, 3);
    merge(combine, &rule, 1, 10, 3);
    kit_advance(combine, 1, 10); /* the first window is final: not part of the save */
    uint64_t hash = mr_combine_state_hash_scan(combine);
    mr_combine_save_begin(combine, 1);
    assert_false(mr_combine_release(combine, 1, 10));
    merge(combine, &rule, 2, 10, 3);
    kit_advance(combine, 2, 20);
    assert_false(mr_combine_release(combine, 2, 10));
    assert_false(kit_save_slice(combine, 2, &given_up));
    mr_combine_save_stop(combine);
    assert_false(mr_combine_saving(combine));
    assert_int_equal(mr_combine_save_waiting(combine), 0);
    assert_true(mr_combine_release(combine, 2, 1));
    assert_false(mr_combine_release(combine, 2, 1));
    kit_slices_finish(&given_up);
    merge(combine, &rule, 3, 20, 3);
    kit_advance(combine, 3, 20);
    hash = mr_combine_state_hash_scan(combine);
    kit_save(combine, 3, 2, &slices);
    struct mr_combine *again = load_one(&rule, 3, 20, &slices);
    assert_true(mr_combine_state_hash_scan(again) == hash);
    assert_int_equal(mr_counter_read(&mr_combine_stats(again, 0)->windows), 1);
    assert_int_equal(mr_counter_read(&mr_combine_stats(again, 0)->applied), 12);
    mr_combine_close(again);
    kit_slices_finish(&slices);
    mr_combine_close(combine);
}

/* The k-th allocation of merge and save fails, once: merge may not (in windows that are there
 * already it needs none), and the save either fails or is whole. */
static void out_of_memory(void **state) {
    (void)state;
    uint32_t failures = 0;
    for (size_t nth = 1; nth <= 30; nth++) {
        struct mr_rule rule = kit_rule(0, 0, 1, 10, 0);
        struct mr_combine *combine = kit_open(&rule, 1, 0);
        struct mr_buf slices;
        mr_buf_init(&slices, 1 << 20);
        merge(combine, &rule, 1, 0, 40);
        kit_advance(combine, 1, 0);
        uint64_t hash = mr_combine_state_hash_scan(combine);
        struct mr_parcel *parcel = mr_parcel_open(2, 0);
        for (uint32_t key = 30; key-- > 0;) {
            kit_partial(parcel, &rule, 0, key, (const int64_t[]){9}, 1);
        }
        mr_combine_save_begin(combine, 1);
        mr_alloc_fail_at(nth, 0);
        assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
        enum mr_status status = MR_OK;
        for (bool done = false; status == MR_OK && !done;) {
            status = mr_combine_save(combine, 7, &slices, &done);
        }
        mr_alloc_fail_at(0, 0);
        mr_parcel_close(parcel);
        assert_true(mr_combine_saving(combine) == (status != MR_OK));
        if (status != MR_OK) {
            failures++;
            struct mr_buf more;
            bool done;
            mr_buf_init(&more, 1 << 20);
            assert_int_equal(status, MR_NO_MEMORY);
            assert_int_equal(mr_combine_save(combine, 7, &more, &done), MR_NO_MEMORY);
            mr_buf_finish(&more);
            mr_combine_save_stop(combine);
        } else {
            struct kit_slices all = {&slices, 1}; /* one behind the other */
            struct mr_combine *again = load_one(&rule, 1, 0, &all);
            assert_true(mr_combine_state_hash_scan(again) == hash);
            mr_combine_close(again);
        }
        assert_int_equal(mr_counter_read(&mr_combine_stats(combine, 0)->applied), 70);
        mr_combine_check_scan(combine);
        mr_combine_close(combine);
        mr_buf_finish(&slices);
    }
    assert_in_range(failures, 4, 29);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_break_cannot_be_seen),     cmocka_unit_test(what_waits_is_bounded),
        cmocka_unit_test(nothing_is_written_twice),   cmocka_unit_test(a_save_holds_windows),
        cmocka_unit_test(final_windows_are_left_out), cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
