/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that pages made from many sources are those of one sorted list:
 *   1. random rows are spread over fake shards and a fake store, which holds older and equal versions
 *      of some of them; an oracle that has all rows in one array keeps the newest version of each,
 *      adds up the overflow groups of a window, and sorts. Reading page by page, in both directions,
 *      every source giving a limited number of rows behind the cursor, gives exactly the oracle's
 *      rows: none twice, none left out;
 *   2. the same when sources give fewer rows than they were asked for (a byte bound);
 *   3. in the order of a metric, with the overflow groups apart, the first `limit` are the oracle's;
 *   4. a row that appears between two pages never makes another one appear twice;
 *   5. visit is obeyed when it says stop.
 */
#include "server/merge.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    SHARDS = 3,
    SOURCES = SHARDS + 1,
    STORE = SHARDS,
    ROWS_MAX = 256,
    WINDOW_MS = 1000,
    SLACK = SHARDS + 1
};

struct item {
    struct mr_row row;
    uint8_t key[4];
    uint64_t state;
    uint32_t source;
};

struct world {
    struct mr_rule rule;
    struct item items[ROWS_MAX];
    uint32_t count;
    struct item truth[ROWS_MAX]; /* the oracle's, sorted */
    uint32_t truth_count;
    uint64_t seed;
    const struct mr_scan *sorting;
};

static uint32_t rnd(struct world *w, uint32_t below) {
    w->seed = w->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(w->seed >> 33) % below;
}

static void fix(struct item *item) {
    item->row.key.ptr = item->key;
    item->row.state = mr_bytes_of(&item->state, sizeof item->state);
}

/* The state of a count is the count. */
static void add(struct world *w, uint32_t source, int64_t window, struct mr_bytes key,
                uint64_t value, uint64_t revision) {
    MR_ASSERT(w->count < ROWS_MAX && key.len <= sizeof w->items[0].key);
    struct item *item = &w->items[w->count++];
    *item = (struct item){.source = source, .state = value};
    item->row = (struct mr_row){
        .window_start_ms = window * WINDOW_MS,
        .window_end_ms = (window + 1) * WINDOW_MS,
        .events = value,
        .revision = revision,
        .final = source == STORE,
        .key = mr_bytes_of(NULL, key.len),
    };
    memcpy(item->key, key.ptr, key.len);
    fix(item);
}

static void init(struct world *w, uint64_t seed) {
    *w = (struct world){.seed = seed * 2 + 1};
    w->rule.key_count = 1;
    w->rule.final_floor_ms = INT64_MIN;
    w->rule.metrics[0] = (struct mr_metric){
        .name = MR_BYTES("n"), .kind = MR_METRIC_COUNT};
    w->rule.metric_count = 1;
    w->rule.state_len = mr_metric_layout(w->rule.metrics, 1, 0);
    assert_int_equal(w->rule.state_len, sizeof(uint64_t));
    uint64_t probe;
    const uint32_t event = 0;
    uint8_t *at = (uint8_t *)&probe;
    memset(at, 0, w->rule.state_len);
    assert_int_equal(mr_metric_add(&w->rule.metrics[0], NULL, NULL, &event, &at, 1), MR_OK);
    assert_int_equal(probe, 1);
}

/* A row in the shard that owns it, in the store, or in both with the store's not newer. */
static void spread(struct world *w, int64_t window, struct mr_bytes key, uint32_t owner,
                   bool stale) {
    uint64_t value = 1 + rnd(w, 9);
    uint64_t revision = 10 + rnd(w, 5);
    uint32_t where = rnd(w, 3);
    if (where != 1) {
        add(w, owner, window, key, value, revision);
    }
    if (where != 0) {
        bool older = stale && where == 2 && rnd(w, 2) == 0;
        add(w, STORE, window, key, older ? value - 1 : value, older ? revision - 1 : revision);
    }
}

static void fill(struct world *w, bool stale) {
    uint32_t windows = 1 + rnd(w, 8);
    for (uint32_t window = 0; window < windows; window++) {
        for (uint32_t key = 0; key < 10; key++) {
            if (rnd(w, 3) > 0) {
                uint8_t bytes[4] = {key % 2 == 0 ? 'n' : 's', 0, 1, (uint8_t)('0' + key)};
                spread(w, window, mr_bytes_of(bytes, 4), rnd(w, SHARDS), stale);
            }
        }
        for (uint32_t shard = 0; shard < SHARDS; shard++) {
            if (rnd(w, 3) == 0) {
                uint8_t bytes[2] = {'o', (uint8_t)shard};
                spread(w, window, mr_bytes_of(bytes, 2), shard, stale);
            }
        }
    }
}

static int compare(const void *a, const void *b, void *ctx) {
    const struct world *w = ctx;
    const struct item *x = a;
    const struct item *y = b;
    struct mr_row row_x = x->row;
    struct mr_row row_y = y->row;
    row_x.key.ptr = x->key;
    row_y.key.ptr = y->key;
    row_x.state.ptr = (const uint8_t *)&x->state;
    row_y.state.ptr = (const uint8_t *)&y->state;
    return mr_scan_compare(w->sorting, &w->rule, &row_x, &row_y);
}

static void sort(struct world *w, struct item *items, uint32_t count, const struct mr_scan *scan) {
    w->sorting = scan;
    qsort_r(items, count, sizeof *items, compare, w);
    for (uint32_t i = 0; i < count; i++) {
        fix(&items[i]);
    }
}

static void tell_truth(struct world *w, const struct mr_scan *scan) {
    w->truth_count = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        struct item newest = w->items[i];
        bool first = true;
        for (uint32_t j = 0; j < w->count; j++) {
            const struct item *other = &w->items[j];
            if (other->row.window_start_ms == newest.row.window_start_ms &&
                mr_bytes_equal(other->row.key, w->items[i].row.key)) {
                first = first && j >= i;
                newest = other->row.revision > newest.row.revision ? *other : newest;
            }
        }
        struct item *same = NULL;
        for (uint32_t t = 0; first && t < w->truth_count; t++) {
            bool both_other = mr_key_is_other(w->truth[t].row.key) && newest.key[0] == 'o';
            if (both_other && w->truth[t].row.window_start_ms == newest.row.window_start_ms) {
                same = &w->truth[t];
            }
        }
        if (same != NULL) {
            same->state += newest.state;
            same->row.events += newest.row.events;
        } else if (first) {
            w->truth[w->truth_count] = newest;
            fix(&w->truth[w->truth_count++]);
        }
    }
    sort(w, w->truth, w->truth_count, scan);
}

/* A source's rows behind the cursor, at most `most`. */
static struct mr_merge_source ask(struct world *w, const struct mr_scan *scan, uint32_t source,
                                  uint32_t most, bool only_others, struct mr_buf *buf) {
    struct item items[ROWS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        struct mr_row after = {.window_start_ms = scan->after_start_ms, .key = scan->after_key};
        bool wanted =
            w->items[i].source == source &&
            (!only_others || mr_key_is_other(w->items[i].row.key)) &&
            (!scan->has_after || mr_scan_compare(scan, &w->rule, &w->items[i].row, &after) > 0);
        if (wanted) {
            items[count++] = w->items[i];
        }
    }
    sort(w, items, count, scan);
    mr_buf_init(buf, 1 << 20);
    for (uint32_t i = 0; i < count && i < most; i++) {
        mr_row_append(buf, &items[i].row);
    }
    return (struct mr_merge_source){.rows = mr_buf_bytes(buf), .more = count >= most};
}

struct reader {
    struct world *w;
    uint32_t at;   /* in truth */
    uint32_t stop; /* say false at this row of the page; 0: never */
    uint32_t seen;
    int64_t last_start_ms;
    uint8_t last_key[4];
    size_t last_len;
};

static bool visit(void *ctx, const struct mr_row *row) {
    struct reader *r = ctx;
    assert_true(r->at < r->w->truth_count);
    const struct item *truth = &r->w->truth[r->at++];
    assert_int_equal(row->window_start_ms, truth->row.window_start_ms);
    assert_int_equal(mr_key_is_other(row->key), mr_key_is_other(truth->row.key));
    assert_true(mr_key_is_other(row->key) || mr_bytes_equal(row->key, truth->row.key));
    assert_int_equal(row->events, truth->row.events);
    assert_int_equal(mr_metric_finish(r->w->rule.metrics, 0, row->state, NULL).i, truth->state);
    r->last_start_ms = row->window_start_ms;
    r->last_len = row->key.len;
    memcpy(r->last_key, row->key.ptr, row->key.len);
    return ++r->seen != r->stop;
}

/* One page; `given`: rows that a source gives. */
static void read_page(struct reader *r, const struct mr_scan *scan, uint32_t limit, uint32_t given,
                      struct mr_merge *m) {
    struct mr_merge_source sources[SOURCES];
    struct mr_buf bufs[SOURCES];
    for (uint32_t i = 0; i < SOURCES; i++) {
        sources[i] = ask(r->w, scan, i, given, false, &bufs[i]);
    }
    *m = (struct mr_merge){
        .scan = scan, .rule = &r->w->rule, .limit = limit, .visit = visit, .ctx = r};
    assert_int_equal(mr_merge_run(m, sources, SOURCES), MR_OK);
    assert_true(m->count <= limit);
    for (uint32_t i = 0; i < SOURCES; i++) {
        mr_buf_finish(&bufs[i]);
    }
}

static void go_on(struct reader *r, struct mr_scan *scan) {
    scan->has_after = true;
    scan->after_start_ms = r->last_start_ms;
    scan->after_key = mr_merge_place(scan, mr_bytes_of(r->last_key, r->last_len));
}

static void read_all(struct world *w, bool descending, uint32_t limit, uint32_t given, bool exact) {
    struct mr_scan scan = {.order = MR_SCAN_ORDER_WINDOW, .descending = descending};
    struct reader r = {.w = w};
    struct mr_merge m = {.more = true};
    tell_truth(w, &scan);
    for (uint32_t pages = 0; m.more; pages++) {
        assert_true(pages <= w->truth_count);
        uint32_t before = r.at;
        read_page(&r, &scan, limit, given, &m);
        assert_int_equal(m.count, r.at - before);
        assert_true(m.count > 0 || !m.more); /* there is always a way on */
        assert_true(!exact || !m.more || m.count + SHARDS * 8 >= limit);
        go_on(&r, &scan);
    }
    assert_int_equal(r.at, w->truth_count);
}

static void pages(void **state) {
    (void)state;
    static struct world w;
    for (uint64_t round = 0; round < 300; round++) {
        init(&w, round);
        fill(&w, true);
        uint32_t limit = 1 + rnd(&w, 12);
        read_all(&w, round % 2 == 0, limit, limit + SLACK, true);
    }
}

static void short_sources(void **state) {
    (void)state;
    static struct world w;
    for (uint64_t round = 0; round < 300; round++) {
        init(&w, round + 1000);
        fill(&w, true);
        read_all(&w, round % 2 == 0, 1 + rnd(&w, 12), SLACK + rnd(&w, 3), false);
    }
}

static void empty(void **state) {
    (void)state;
    static struct world w;
    init(&w, 1);
    read_all(&w, false, 10, 10 + SLACK, true);
}

/* The overflow groups, merged, in the scan's order: a source of its own. */
static struct mr_merge_source others_of(struct world *w, struct mr_buf *buf) {
    mr_buf_init(buf, 1 << 20);
    for (uint32_t i = 0; i < w->truth_count; i++) {
        if (mr_key_is_other(w->truth[i].row.key)) {
            mr_row_append(buf, &w->truth[i].row);
        }
    }
    return (struct mr_merge_source){.rows = mr_buf_bytes(buf), .others = true};
}

static void metric_order(void **state) {
    (void)state;
    static struct world w;
    for (uint64_t round = 0; round < 300; round++) {
        struct mr_scan scan = {.order = 0, .descending = round % 3 != 0};
        init(&w, round + 2000);
        fill(&w, false);
        tell_truth(&w, &scan);
        uint32_t limit = 1 + rnd(&w, 20);
        uint32_t raw = 0;
        for (uint32_t i = 0; i < w.count; i++) {
            raw += mr_key_is_other(w.items[i].row.key);
        }
        struct mr_merge_source sources[SOURCES + 1];
        struct mr_buf bufs[SOURCES + 1];
        for (uint32_t i = 0; i < SOURCES; i++) {
            sources[i] = ask(&w, &scan, i, limit + raw, false, &bufs[i]);
        }
        sources[SOURCES] = others_of(&w, &bufs[SOURCES]);
        struct reader r = {.w = &w};
        struct mr_merge m = {
            .scan = &scan, .rule = &w.rule, .limit = limit, .visit = visit, .ctx = &r};
        assert_int_equal(mr_merge_run(&m, sources, SOURCES + 1), MR_OK);
        assert_false(m.cut);
        assert_int_equal(r.at, limit < w.truth_count ? limit : w.truth_count);
        assert_true(m.more || r.at == w.truth_count);
        for (uint32_t i = 0; i <= SOURCES; i++) {
            mr_buf_finish(&bufs[i]);
        }
    }
}

/* With too few rows from a source the answer says that it is not whole. */
static void metric_order_cut(void **state) {
    (void)state;
    static struct world w;
    struct mr_scan scan = {.order = 0, .descending = true};
    init(&w, 5);
    add(&w, 0, 0, MR_BYTES("s\0\1a"), 9, 1);
    add(&w, 0, 0, MR_BYTES("s\0\1b"), 7, 1);
    add(&w, 1, 0, MR_BYTES("s\0\1c"), 8, 1);
    tell_truth(&w, &scan);
    for (uint32_t given = 1; given <= 3; given++) {
        struct reader r = {.w = &w};
        struct mr_merge m;
        read_page(&r, &scan, 3, given, &m);
        assert_int_equal(m.cut, given == 1);
        assert_int_equal(r.at, given == 1 ? 1 : 3);
    }
}

static void appearing(void **state) {
    (void)state;
    static struct world w;
    for (uint32_t descending = 0; descending < 2; descending++) {
        struct mr_scan scan = {.order = MR_SCAN_ORDER_WINDOW, .descending = descending == 1};
        init(&w, 9);
        add(&w, 1, 0, MR_BYTES("o\1"), 3, 1);
        add(&w, 0, 0, MR_BYTES("n\0\0011"), 1, 1);
        add(&w, 0, 0, MR_BYTES("s\0\0012"), 2, 1);
        tell_truth(&w, &scan);
        struct reader r = {.w = &w};
        struct mr_merge m;
        read_page(&r, &scan, 2, 2 + SLACK, &m);
        assert_int_equal(m.count, 2);
        assert_true(m.more);
        go_on(&r, &scan);
        /* More overflow groups of a window that was given out already. */
        add(&w, 0, 0, MR_BYTES("o\0"), 5, 2);
        add(&w, 2, 0, MR_BYTES("o\2"), 5, 2);
        read_page(&r, &scan, 2, 2 + SLACK, &m);
        assert_int_equal(m.count, 1);
        assert_false(m.more);
        assert_int_equal(r.at, 3);
    }
}

static void stopping(void **state) {
    (void)state;
    static struct world w;
    struct mr_scan scan = {.order = MR_SCAN_ORDER_WINDOW};
    init(&w, 3);
    fill(&w, true);
    tell_truth(&w, &scan);
    for (uint32_t stop = 1; stop < w.truth_count; stop++) {
        struct reader r = {.w = &w, .stop = stop};
        struct mr_merge m;
        read_page(&r, &scan, 100, 200, &m);
        assert_int_equal(r.seen, stop);
        assert_int_equal(m.count, stop);
        assert_true(m.more);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages),
        cmocka_unit_test(short_sources),
        cmocka_unit_test(empty),
        cmocka_unit_test(metric_order),
        cmocka_unit_test(metric_order_cut),
        cmocka_unit_test(appearing),
        cmocka_unit_test(stopping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
