/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that windows added up over steps are what adding them up by hand gives:
 *   1. random rows lie in fake shards and a fake store, some in both with the store's not newer; an oracle takes the
 *      newest version of each, and adds up by (step, key) with loops over one array. Pages of any size, in both
 *      directions, read in slices of any size from sources that give less than they could, are the oracle's rows:
 *      numbers, events, revision, windows, final; none twice, none left out. So are the pages when only so many rows
 *      may be read for one;
 *   2. the n greatest by a metric, of the whole range or of each step, are the first n of the oracle's rows sorted;
 *   3. rows that come between two pages make no row appear twice, nor another disappear;
 *   4. panes that are rows of their own are added up, and count one window;
 *   5. each bound is met with its error, and so is every allocation that fails; visit is obeyed when it says stop;
 *   6. steps around zero and at the ends of time; which step is the first that is not final, also where windows do not
 *      begin with steps.
 */
#include "server/roll_up.h"

#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/key.h"
#include "event/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SHARDS = 3, SOURCES = SHARDS + 1, STORE = SHARDS, ROWS_MAX = 1024 };
enum { SIZE_MS = 1000, STATE_MAX = 128, KEY_MAX = 16 };

struct item {
    struct mr_row row;
    uint8_t key[KEY_MAX];
    uint64_t state[STATE_MAX / 8];
    uint32_t source;
    int64_t value;
};

/* A row of the oracle. */
struct truth {
    int64_t step;
    uint8_t key[KEY_MAX];
    size_t key_len;
    int64_t sum;
    int64_t most;
    uint64_t events;
    uint64_t revision;
    uint64_t windows;
    bool final;
};

struct world {
    struct mr_rule rule;
    struct item items[ROWS_MAX];
    uint32_t count;
    struct truth truths[ROWS_MAX];
    uint32_t truth_count;
    int64_t step_ms;
    int64_t final_end_ms;
    uint64_t seed;
    const struct mr_scan *sorting;
    bool descending;
    /* read */
    struct mr_buf bufs[SOURCES];
    struct mr_merge_source sources[SOURCES];
    uint32_t reads;
    /* visit */
    struct truth seen[ROWS_MAX];
    uint32_t seen_count;
    uint32_t stop_at; /* 0: never */
};

static struct world w;

static uint32_t rnd(uint32_t below) {
    w.seed = w.seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(w.seed >> 33) % below;
}

static void init(uint64_t seed) {
    memset(&w, 0, sizeof w);
    w.seed = seed * 2 + 1;
    w.step_ms = SIZE_MS * (1 + (int64_t)rnd(7));
    w.rule = (struct mr_rule){.key_count = 1, .final_floor_ms = INT64_MIN, .metric_count = 3, .key_seed = seed};
    w.rule.window.size_ms = SIZE_MS;
    w.rule.metrics[0] = (struct mr_metric){.name = MR_BYTES("n"), .kind = MR_METRIC_COUNT};
    w.rule.metrics[1] = (struct mr_metric){.name = MR_BYTES("spend"), .kind = MR_METRIC_SUM};
    w.rule.metrics[2] = (struct mr_metric){.name = MR_BYTES("most"), .kind = MR_METRIC_MAX};
    w.rule.state_len = mr_metric_layout(w.rule.metrics, 3, 0);
    assert_true(w.rule.state_len <= STATE_MAX);
    for (uint32_t i = 0; i < SOURCES; i++) {
        mr_buf_init(&w.bufs[i], 1 << 22);
    }
}

static void finish(void) {
    for (uint32_t i = 0; i < SOURCES; i++) {
        mr_buf_finish(&w.bufs[i]);
    }
}

static void fix(struct item *item) {
    item->row.key.ptr = item->key;
    item->row.state = mr_bytes_of(item->state, w.rule.state_len);
}

/* A row of one event of this value. */
static void add(uint32_t source, int64_t window, const void *key, size_t key_len, int64_t value, uint64_t revision) {
    MR_ASSERT(w.count < ROWS_MAX && key_len <= KEY_MAX);
    struct item *item = &w.items[w.count++];
    *item = (struct item){.source = source, .value = value};
    item->row = (struct mr_row){
        .window_start_ms = window * SIZE_MS,
        .window_end_ms = (window + 1) * SIZE_MS,
        .events = 1 + (uint64_t)(value & 7),
        .revision = revision,
        .final = (window + 1) * SIZE_MS <= w.final_end_ms && rnd(20) != 0, /* a row says so, too */
        .key = mr_bytes_of(NULL, key_len),
    };
    memcpy(item->key, key, key_len);
    fix(item);
    union mr_value of = {.i = value};
    uint8_t kind = MR_VALUE_INT;
    struct mr_column column = {.values = &of, .kinds = &kind};
    const uint32_t event = 0;
    uint8_t *state = (uint8_t *)item->state;
    for (uint32_t m = 0; m < 3; m++) {
        const struct mr_column *from = m == 0 ? NULL : &column;
        assert_int_equal(mr_metric_add(&w.rule.metrics[m], NULL, from, &event, &state, 1), MR_OK);
    }
}

static void spread(int64_t window, const void *key, size_t key_len, uint32_t owner) {
    int64_t value = (int64_t)rnd(200) - 100;
    uint64_t revision = 10 + rnd(50);
    uint32_t where = rnd(3);
    if (where != 1) {
        add(owner, window, key, key_len, value, revision);
    }
    if (where != 0) {
        bool older = where == 2 && rnd(2) == 0;
        add(STORE, window, key, key_len, older ? value + 7 : value, older ? revision - 1 : revision);
    }
}

static void add_random(int64_t window) {
    uint32_t key = rnd(14);
    if (key >= 11) {
        uint8_t other[2] = {MR_KEY_OTHER, (uint8_t)(key - 11)};
        spread(window, other, 2, key - 11);
    } else {
        uint8_t bytes[4] = {key % 2 == 0 ? 'n' : 's', 0, 1, (uint8_t)('0' + key)};
        spread(window, bytes, 4, rnd(SHARDS));
    }
}

static bool has(int64_t window, const struct item *like) {
    for (uint32_t i = 0; i < w.count; i++) {
        if (&w.items[i] != like && w.items[i].row.window_start_ms == window * SIZE_MS &&
            w.items[i].row.key.len == like->row.key.len &&
            memcmp(w.items[i].key, like->key, like->row.key.len) == 0) {
            return true;
        }
    }
    return false;
}

/* A row that is there already is not added again: versions come in pairs only. */
static void add_new(int64_t window) {
    uint32_t before = w.count;
    add_random(window);
    if (before < w.count) {
        struct item first = w.items[before];
        uint32_t count = w.count;
        w.count = before;
        bool had = has(window, &first);
        w.count = had ? before : count;
    }
}

static void fill(void) {
    int64_t windows = 1 + rnd(40);
    int64_t begin = (int64_t)rnd(30) - 25;
    w.final_end_ms = (begin + (int64_t)rnd((uint32_t)windows + 4)) * SIZE_MS;
    uint32_t rows = rnd(ROWS_MAX / 3);
    for (uint32_t i = 0; i < rows; i++) {
        add_new(begin + (int64_t)rnd((uint32_t)windows));
    }
}

/* Slow and plain. */
static int64_t floor_of(int64_t ms, int64_t step) {
    int64_t k = ms / step - 2;
    while ((k + 1) * step <= ms) {
        k++;
    }
    return k * step;
}

static bool step_final(int64_t step) {
    for (int64_t start = step + w.rule.window.offset_ms; start < step + w.step_ms; start += SIZE_MS) {
        if (start + SIZE_MS > w.final_end_ms) {
            return false;
        }
    }
    return true;
}

static struct truth *truth_of(int64_t step, const struct item *item) {
    static const uint8_t other[2] = {MR_KEY_OTHER, 0};
    bool is_other = item->key[0] == MR_KEY_OTHER;
    const uint8_t *key = is_other ? other : item->key;
    size_t len = is_other                                 ? sizeof other
                 : w.rule.trigger.panes == MR_DISCARDING ? item->row.key.len - MR_KEY_PANE_LEN
                                                          : item->row.key.len;
    for (uint32_t i = 0; i < w.truth_count; i++) {
        struct truth *t = &w.truths[i];
        if (t->step == step && t->key_len == len && memcmp(t->key, key, len) == 0) {
            return t;
        }
    }
    struct truth *t = &w.truths[w.truth_count++];
    *t = (struct truth){.step = step, .key_len = len, .most = INT64_MIN, .final = w.step_ms > 0 && step_final(step)};
    memcpy(t->key, key, len);
    return t;
}

/* Of several windows: another item of this truth's key in the same window came before. */
static bool window_counted(uint32_t index, const struct truth *t, int64_t step) {
    for (uint32_t i = 0; i < index; i++) {
        if (w.items[i].row.window_start_ms == w.items[index].row.window_start_ms && truth_of(step, &w.items[i]) == t) {
            return true;
        }
    }
    return false;
}

static int compare_truths(const void *a, const void *b) {
    const struct truth *x = a;
    const struct truth *y = b;
    int order = x->step < y->step ? -1 : x->step > y->step;
    if (order == 0) {
        order = mr_bytes_compare(mr_bytes_of(x->key, x->key_len), mr_bytes_of(y->key, y->key_len));
    }
    return w.descending ? -order : order;
}

static void tell_truth(const struct mr_scan *scan, bool descending) {
    w.truth_count = 0;
    w.descending = descending;
    for (uint32_t i = 0; i < w.count; i++) {
        const struct item *item = &w.items[i];
        if (item->row.window_start_ms < scan->from_ms || item->row.window_start_ms >= scan->to_ms) {
            continue;
        }
        bool newest = true;
        for (uint32_t j = 0; j < w.count; j++) {
            const struct item *other = &w.items[j];
            bool same = other->row.window_start_ms == item->row.window_start_ms &&
                        other->row.key.len == item->row.key.len &&
                        memcmp(other->key, item->key, item->row.key.len) == 0;
            newest = newest && !(same && (other->row.revision > item->row.revision ||
                                          (other->row.revision == item->row.revision && j < i)));
        }
        if (!newest) {
            continue;
        }
        int64_t step = w.step_ms == 0 ? 0 : floor_of(item->row.window_start_ms, w.step_ms);
        struct truth *t = truth_of(step, item);
        t->windows += !window_counted(i, t, step);
        t->final = t->final && item->row.final;
        t->sum += item->value;
        t->most = item->value > t->most ? item->value : t->most;
        t->events += item->row.events;
        t->revision = item->row.revision > t->revision ? item->row.revision : t->revision;
    }
    qsort(w.truths, w.truth_count, sizeof w.truths[0], compare_truths);
}

static int compare_items(const void *a, const void *b) {
    struct item x = *(const struct item *)a;
    struct item y = *(const struct item *)b;
    fix(&x);
    fix(&y);
    return mr_scan_compare(w.sorting, &w.rule, &x.row, &y.row);
}

/* Every source's first rows behind the cursor; sometimes fewer than it may give. */
static enum mr_status read_items(void *ctx, const struct mr_scan *scan, struct mr_merge_source **ret_sources,
                                 uint32_t *ret_count) {
    (void)ctx;
    static struct item items[ROWS_MAX];
    w.reads++;
    for (uint32_t source = 0; source < SOURCES; source++) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < w.count; i++) {
            struct mr_row after = {.window_start_ms = scan->after_start_ms, .key = scan->after_key};
            const struct mr_row *row = &w.items[i].row;
            if (w.items[i].source == source && row->window_start_ms >= scan->from_ms &&
                row->window_start_ms < scan->to_ms &&
                (!scan->has_after || mr_scan_compare(scan, &w.rule, row, &after) > 0)) {
                items[count++] = w.items[i];
            }
        }
        w.sorting = scan;
        qsort(items, count, sizeof items[0], compare_items);
        uint32_t most = rnd(4) == 0 ? MR_MERGE_SLACK + rnd(40) : scan->limit;
        most = most < scan->limit ? most : scan->limit;
        mr_buf_clear(&w.bufs[source]);
        for (uint32_t i = 0; i < count && i < most; i++) {
            fix(&items[i]);
            mr_row_append(&w.bufs[source], &items[i].row);
        }
        w.sources[source] = (struct mr_merge_source){.rows = mr_buf_bytes(&w.bufs[source]), .more = count > most};
        if (w.bufs[source].failed) {
            return MR_NO_MEMORY;
        }
    }
    *ret_sources = w.sources;
    *ret_count = SOURCES;
    return MR_OK;
}

static bool visit(void *ctx, const struct mr_row *row, uint64_t windows) {
    const struct mr_roll_up *r = ctx;
    MR_ASSERT(w.seen_count < ROWS_MAX && row->key.len <= KEY_MAX);
    struct truth *seen = &w.seen[w.seen_count++];
    *seen = (struct truth){.step = w.step_ms == 0 ? 0 : row->window_start_ms,
                           .key_len = row->key.len,
                           .events = row->events,
                           .revision = row->revision,
                           .windows = windows,
                           .final = row->final};
    if (w.step_ms > 0) {
        assert_int_equal(row->window_end_ms, row->window_start_ms + w.step_ms);
    } else {
        assert_true(row->window_start_ms == r->scan.from_ms && row->window_end_ms == r->scan.to_ms);
    }
    if (row->key.len > 0) {
        memcpy(seen->key, row->key.ptr, row->key.len);
    }
    seen->sum = mr_metric_finish(w.rule.metrics, 1, row->state, NULL).i;
    seen->most = mr_metric_finish(w.rule.metrics, 2, row->state, NULL).i;
    return w.seen_count != w.stop_at;
}

static void assert_same(const struct truth *a, const struct truth *b) {
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->key_len, b->key_len);
    assert_memory_equal(a->key, b->key, a->key_len);
    assert_int_equal(a->sum, b->sum);
    assert_int_equal(a->most, b->most);
    assert_int_equal(a->events, b->events);
    assert_int_equal(a->revision, b->revision);
    assert_int_equal(a->windows, b->windows);
    assert_int_equal(a->final, b->final);
}

static void begin(struct mr_roll_up *r, const struct mr_scan *scan) {
    mr_roll_up_init(r, &w.rule, w.step_ms);
    r->scan = *scan;
    r->slice = 1 + rnd(60);
    r->read = read_items;
    r->visit = visit;
    r->ctx = r;
    if (w.step_ms > 0) {
        r->open_from_ms = mr_roll_up_open_from(&w.rule, w.step_ms, w.final_end_ms);
    }
}

static struct mr_scan random_scan(void) {
    struct mr_scan scan = {.from_ms = INT64_MIN, .to_ms = INT64_MAX, .order = MR_SCAN_ORDER_WINDOW};
    if (rnd(2) == 0) {
        scan.from_ms = w.step_ms * ((int64_t)rnd(20) - 10);
        scan.to_ms = scan.from_ms + w.step_ms * (int64_t)rnd(20);
    }
    scan.descending = rnd(2) == 0;
    return scan;
}

/* Reads all pages into w.seen. between: called between two. */
static void read_pages(const struct mr_scan *scan, uint64_t rows_max, void (*between)(void)) {
    struct mr_roll_up r;
    struct mr_error error;
    uint8_t key[KEY_MAX];
    bool more = true;
    bool resumed = false;
    bool has_key = false;
    size_t key_len = 0;
    int64_t step = 0;
    w.seen_count = 0;
    while (more) {
        begin(&r, scan);
        r.limit = 1 + rnd(12);
        r.rows_max = rows_max;
        r.resumed = resumed;
        r.resume_step_ms = step;
        r.resume_has_key = has_key;
        r.resume_key = mr_bytes_of(key, key_len);
        if (mr_roll_up_run(&r, &error) != MR_OK) {
            fail_msg("%s", error.text);
        }
        assert_true(r.count <= r.limit && (r.count > 0 || !r.more || rows_max < ROWS_MAX));
        more = r.more;
        resumed = true;
        step = r.next_step_ms;
        has_key = r.next_has_key;
        key_len = r.next_key.len;
        memcpy(key, key_len == 0 ? key : r.next_key.ptr, key_len);
        mr_roll_up_finish(&r);
        if (more && between != NULL) {
            between();
        }
    }
}

static void pages_are_those_of_the_oracle(void **state) {
    (void)state;
    uint32_t rows = 0;
    for (uint64_t seed = 0; seed < 400; seed++) {
        init(seed);
        fill();
        struct mr_scan scan = random_scan();
        tell_truth(&scan, scan.descending);
        /* A step has up to 7 windows of 14 rows. */
        read_pages(&scan, seed % 2 == 0 ? ROWS_MAX : 7 * 14, NULL);
        assert_int_equal(w.seen_count, w.truth_count);
        for (uint32_t i = 0; i < w.truth_count; i++) {
            assert_same(&w.seen[i], &w.truths[i]);
        }
        rows += w.truth_count;
        finish();
    }
    assert_true(rows > 5000);
}

static uint32_t by_metric;

static int compare_greatest(const void *a, const void *b) {
    const struct truth *x = a;
    const struct truth *y = b;
    if (x->step != y->step) {
        return (x->step < y->step ? -1 : 1) * (w.descending ? -1 : 1);
    }
    int64_t of_x = by_metric == 1 ? x->sum : x->most;
    int64_t of_y = by_metric == 1 ? y->sum : y->most;
    if (of_x != of_y) {
        return of_x > of_y ? -1 : 1;
    }
    return mr_bytes_compare(mr_bytes_of(x->key, x->key_len), mr_bytes_of(y->key, y->key_len));
}

static void the_greatest_are_those_of_the_oracle(void **state) {
    (void)state;
    for (uint64_t seed = 1000; seed < 1300; seed++) {
        init(seed);
        fill();
        struct mr_scan scan = random_scan();
        if (seed % 2 == 0) {
            w.step_ms = 0;
        }
        by_metric = 1 + rnd(2);
        tell_truth(&scan, scan.descending);
        qsort(w.truths, w.truth_count, sizeof w.truths[0], compare_greatest);
        struct mr_roll_up r;
        struct mr_error error;
        begin(&r, &scan);
        r.by_metric = true;
        r.metric = by_metric;
        r.each = 1 + rnd(8);
        r.limit = ROWS_MAX;
        assert_int_equal(mr_roll_up_run(&r, &error), MR_OK);
        assert_false(r.more);
        uint32_t at = 0;
        uint32_t of_step = 0;
        for (uint32_t i = 0; i < w.truth_count; i++) {
            of_step = i > 0 && w.truths[i].step == w.truths[i - 1].step ? of_step + 1 : 0;
            if (of_step < r.each) {
                assert_true(at < w.seen_count);
                assert_same(&w.seen[at++], &w.truths[i]);
            }
        }
        assert_int_equal(at, w.seen_count);
        mr_roll_up_finish(&r);
        finish();
    }
}

static void another_row(void) {
    if (w.count < ROWS_MAX - 2) {
        add_new((int64_t)rnd(40) - 25);
    }
}

static void pages_are_stable_while_rows_come(void **state) {
    (void)state;
    static struct truth before[ROWS_MAX];
    for (uint64_t seed = 2000; seed < 2200; seed++) {
        init(seed);
        fill();
        struct mr_scan scan = {.from_ms = INT64_MIN, .to_ms = INT64_MAX, .order = MR_SCAN_ORDER_WINDOW};
        scan.descending = rnd(2) == 0;
        tell_truth(&scan, scan.descending);
        uint32_t before_count = w.truth_count;
        memcpy(before, w.truths, sizeof before);
        read_pages(&scan, ROWS_MAX, another_row);
        uint32_t at = 0;
        for (uint32_t i = 0; i < w.seen_count; i++) {
            assert_true(i == 0 || compare_truths(&w.seen[i - 1], &w.seen[i]) < 0);
            at += at < before_count && compare_truths(&before[at], &w.seen[i]) == 0;
        }
        assert_int_equal(at, before_count);
        finish();
    }
}

static void panes_are_added_up(void **state) {
    (void)state;
    for (uint64_t seed = 3000; seed < 3100; seed++) {
        init(seed);
        w.rule.trigger.panes = MR_DISCARDING;
        w.final_end_ms = 10 * SIZE_MS;
        for (uint32_t i = 0; i < 200; i++) {
            uint8_t key[4 + MR_KEY_PANE_LEN] = {'s', 0, 1, (uint8_t)('a' + rnd(4))};
            bool other = rnd(4) == 0;
            uint8_t shard = (uint8_t)rnd(SHARDS);
            size_t len = other ? 2 : 4;
            if (other) {
                key[0] = MR_KEY_OTHER;
                key[1] = shard;
            }
            mr_key_write_pane(key + len, rnd(4));
            struct item like = {.row.key.len = len + MR_KEY_PANE_LEN};
            memcpy(like.key, key, like.row.key.len);
            int64_t window = rnd(20);
            if (!has(window, &like)) {
                spread(window, key, len + MR_KEY_PANE_LEN, shard);
            }
        }
        struct mr_scan scan = random_scan();
        tell_truth(&scan, scan.descending);
        read_pages(&scan, ROWS_MAX, NULL);
        assert_int_equal(w.seen_count, w.truth_count);
        for (uint32_t i = 0; i < w.truth_count; i++) {
            assert_same(&w.seen[i], &w.truths[i]);
        }
        finish();
    }
}

/* 200 windows of 5 keys in one shard. */
static void begin_many(struct mr_roll_up *r, int64_t step_ms) {
    init(7);
    w.step_ms = step_ms;
    for (int64_t i = 0; i < 1000; i++) {
        uint8_t key[4] = {'s', 0, 1, (uint8_t)('a' + i % 5)};
        add(0, i / 5, key, 4, i, 10);
    }
    struct mr_scan scan = {.from_ms = 0, .to_ms = 200 * SIZE_MS, .order = MR_SCAN_ORDER_WINDOW};
    begin(r, &scan);
    r->slice = 64;
    r->limit = 100;
}

static void must_meet(struct mr_roll_up *r, enum mr_status status, const char *text) {
    struct mr_error error = {0};
    assert_int_equal(mr_roll_up_run(r, &error), status);
    if (strstr(error.text, text) == NULL) {
        fail_msg("%s", error.text);
    }
    mr_roll_up_finish(r);
    finish();
}

static void bounds_are_met(void **state) {
    (void)state;
    struct mr_roll_up r;
    begin_many(&r, 200 * SIZE_MS);
    r.groups_max = 4;
    must_meet(&r, MR_LIMIT, "too many groups to add up at a time (more than 4)");
    begin_many(&r, 200 * SIZE_MS);
    r.bytes_max = 500;
    must_meet(&r, MR_LIMIT,
              "too many bytes to add up at a time (more than 500); narrow the question with `from` and `to` or a key, "
              "or ask for fewer rows");
    begin_many(&r, 200 * SIZE_MS);
    r.rows_max = 999;
    must_meet(&r, MR_LIMIT, "too many rows to add up (more than 999)");
    begin_many(&r, 0);
    r.by_metric = true;
    r.rows_max = 999;
    must_meet(&r, MR_LIMIT, "too many rows to add up (more than 999)");
    begin_many(&r, 10 * SIZE_MS);
    r.by_metric = true;
    r.each = 2;
    r.limit = 39;
    must_meet(&r, MR_LIMIT, "more than 39 rows; expected a smaller `n`");
    begin_many(&r, 10 * SIZE_MS);
    w.stop_at = 7;
    struct mr_error error;
    assert_int_equal(mr_roll_up_run(&r, &error), MR_OK);
    assert_int_equal(w.seen_count, 7);
    assert_false(r.more);
    mr_roll_up_finish(&r);
    finish();
}

static void memory_that_is_refused(void **state) {
    (void)state;
    struct mr_roll_up r;
    struct mr_error error;
    uint32_t refused = 0;
    for (size_t nth = 1;; nth++) {
        begin_many(&r, 20 * SIZE_MS);
        r.by_metric = nth % 2 == 0;
        r.each = 3;
        mr_alloc_fail_at(nth / 2 + 1, 1);
        enum mr_status status = mr_roll_up_run(&r, &error);
        bool failed = mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        mr_roll_up_finish(&r);
        finish();
        assert_int_equal(status, failed ? MR_NO_MEMORY : MR_OK);
        refused += failed;
        if (!failed) {
            break;
        }
    }
    assert_true(refused > 20);
}

static void steps_and_the_first_that_is_open(void **state) {
    (void)state;
    assert_int_equal(mr_step_floor(-1, 1000), -1000);
    assert_int_equal(mr_step_floor(-1000, 1000), -1000);
    assert_int_equal(mr_step_floor(999, 1000), 0);
    assert_int_equal(mr_step_ceil(1, 1000), 1000);
    assert_int_equal(mr_step_ceil(-1, 1000), 0);
    assert_int_equal(mr_step_ceil(3000, 1000), 3000);
    assert_true(mr_step_floor(INT64_MIN, 7) == INT64_MIN && mr_step_ceil(INT64_MAX, 7) == INT64_MAX);
    assert_true(mr_step_floor(INT64_MIN + 1, 1000) == INT64_MIN && mr_step_ceil(INT64_MAX - 1, 1000) == INT64_MAX);
    init(1);
    for (uint32_t i = 0; i < 20000; i++) {
        w.step_ms = SIZE_MS * (1 + (int64_t)rnd(50));
        w.final_end_ms = (int64_t)rnd(400000) - 200000;
        w.rule.window.offset_ms = rnd(2) == 0 ? 0 : rnd(SIZE_MS);
        int64_t open = mr_roll_up_open_from(&w.rule, w.step_ms, w.final_end_ms);
        assert_int_equal(floor_of(open, w.step_ms), open);
        assert_true(!step_final(open) && step_final(open - w.step_ms));
    }
    assert_true(mr_roll_up_open_from(&w.rule, 5000, INT64_MIN) == INT64_MIN);
    assert_true(mr_roll_up_open_from(&w.rule, 5000, INT64_MAX) == INT64_MAX);
    finish();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_those_of_the_oracle),
        cmocka_unit_test(the_greatest_are_those_of_the_oracle),
        cmocka_unit_test(pages_are_stable_while_rows_come),
        cmocka_unit_test(panes_are_added_up),
        cmocka_unit_test(bounds_are_met),
        cmocka_unit_test(memory_that_is_refused),
        cmocka_unit_test(steps_and_the_first_that_is_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
