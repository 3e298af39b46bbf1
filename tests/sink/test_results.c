/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the two results stores are one: the SQLite store and the one in memory, which is
 * simple enough to be believed, get the same random operations, and every read of both gives the
 * same bytes:
 *   1. transactions of random puts (new, newer, equal and older revisions) and finalizes, ended by
 *      commit, rollback, or a new open of the file in the middle; now and then a rewind, and revisions go on from
 *      there;
 *   2. after each end, and inside open transactions: all rows, random queries in all orders, the
 *      outbox, its ends, from where on rows are open, and that the epoch is another after a rewind only.
 */
#include "tests/sink/memory_results.h"
#include "tests/sink/results_rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { TRANSACTIONS = 200, STEPS_MAX = 30, QUERIES = 6, OUTBOX_MAX = 100 };

struct pair {
    struct rig_dir dir;
    struct mr_results *sqlite;
    struct mr_results *memory;
    struct rig_read from_sqlite;
    struct rig_read from_memory;
    uint64_t random;
    uint64_t seq;
    uint64_t epochs[2];
};

static void open_sqlite(struct pair *p) {
    struct mr_results_sqlite_options options = rig_options(&p->dir);
    options.outbox_panes_max = OUTBOX_MAX;
    p->sqlite = rig_open(&options);
}

static void compare_query(struct pair *p, struct mr_results_query query) {
    rig_read(p->sqlite, query, &p->from_sqlite);
    rig_read(p->memory, query, &p->from_memory);
    rig_assert_same(&p->from_sqlite, &p->from_memory);
}

/* What whoever follows the outbox asks. The epochs are other numbers, which change at the same times. */
static void compare_state(struct pair *p) {
    struct mr_results *stores[] = {p->sqlite, p->memory};
    struct mr_results_state states[2];
    int64_t open_from_ms[2][RIG_RULES];
    for (int i = 0; i < 2; i++) {
        struct mr_results_reader *reader = NULL;
        assert_int_equal(mr_results_reader_open(stores[i], &reader), MR_OK);
        assert_int_equal(mr_results_read_state(reader, &states[i], NULL), MR_OK);
        for (uint32_t rule = 0; rule < RIG_RULES; rule++) {
            assert_int_equal(mr_results_read_open_from(reader, rule, &open_from_ms[i][rule], NULL), MR_OK);
        }
        mr_results_reader_close(reader);
    }
    assert_int_equal(states[0].oldest_id, states[1].oldest_id);
    assert_int_equal(states[0].newest_id, states[1].newest_id);
    for (uint32_t rule = 0; rule < RIG_RULES; rule++) { /* a file may know of less that is final: it looks at no row */
        assert_true(open_from_ms[0][rule] <= open_from_ms[1][rule]);
    }
    bool later = states[0].epoch != p->epochs[0];
    assert_int_equal(later, states[1].epoch != p->epochs[1]);
    assert_true(states[0].epoch >= p->epochs[0]);
    p->epochs[0] = states[0].epoch;
    p->epochs[1] = states[1].epoch;
}

static struct mr_results_query random_query(struct pair *p, struct mr_buf *after_key) {
    uint32_t rule = (uint32_t)rig_below(&p->random, RIG_RULES);
    const struct mr_results_rule *r = &rig_rules[rule];
    struct mr_results_query query = rig_query_all(rule, &p->from_sqlite);
    query.from_ms = rig_window_ms(rule, rig_below(&p->random, RIG_WINDOWS));
    query.to_ms = rig_window_ms(rule, rig_below(&p->random, RIG_WINDOWS + 1));
    query.descending = rig_below(&p->random, 2) == 0;
    query.final_only = rig_below(&p->random, 3) == 0;
    query.open_only = !query.final_only && rig_below(&p->random, 3) == 0;
    query.order = (int32_t)rig_below(&p->random, r->metric_count + 2) - 1;
    query.order = query.order == (int32_t)r->metric_count ? -1 : query.order;
    if (query.order < 0 && rig_below(&p->random, 2) == 0) {
        query.has_after = true;
        query.after_start_ms = rig_window_ms(rule, rig_below(&p->random, RIG_WINDOWS + 1));
        rig_key(after_key, r->key_count, rig_below(&p->random, RIG_KEYS));
        query.after_key = mr_buf_bytes(after_key);
    }
    uint64_t stop = rig_below(&p->random, 8);
    p->from_sqlite.stop = stop;
    p->from_memory.stop = stop;
    return query;
}

static void compare_all(struct pair *p) {
    assert_int_equal(mr_results_flushed_seq(p->sqlite), mr_results_flushed_seq(p->memory));
    p->from_sqlite.stop = 0;
    p->from_memory.stop = 0;
    for (uint32_t rule = 0; rule < RIG_RULES; rule++) {
        compare_query(p, rig_query_all(rule, &p->from_sqlite));
    }
    uint64_t after = rig_below(&p->random, 2) == 0 ? 0 : rig_below(&p->random, 2000);
    rig_read_outbox(p->sqlite, after, &p->from_sqlite);
    rig_read_outbox(p->memory, after, &p->from_memory);
    rig_assert_same(&p->from_sqlite, &p->from_memory);
    for (int i = 0; i < QUERIES; i++) {
        struct mr_buf after_key;
        mr_buf_init(&after_key, 4096);
        compare_query(p, random_query(p, &after_key));
        mr_buf_finish(&after_key);
    }
    compare_state(p);
}

static void put_both(struct pair *p) {
    uint64_t older = rig_below(&p->random, 4) == 0 ? rig_below(&p->random, p->seq) : 0;
    struct rig_pane pane;
    rig_pane_random(&pane, &p->random, p->seq - older);
    assert_int_equal(mr_results_put(p->sqlite, &pane.pane), MR_OK);
    assert_int_equal(mr_results_put(p->memory, &pane.pane), MR_OK);
    rig_pane_finish(&pane);
}

static void finalize_both(struct pair *p) {
    uint32_t rule = (uint32_t)rig_below(&p->random, RIG_RULES);
    int64_t end_ms = rig_window_ms(rule, rig_below(&p->random, RIG_WINDOWS + 1)) +
                     (int64_t)rig_below(&p->random, 3) - 1;
    assert_int_equal(mr_results_finalize(p->sqlite, rule, end_ms), MR_OK);
    assert_int_equal(mr_results_finalize(p->memory, rule, end_ms), MR_OK);
}

static void transact(struct pair *p) {
    assert_int_equal(mr_results_begin(p->sqlite), MR_OK);
    assert_int_equal(mr_results_begin(p->memory), MR_OK);
    for (uint64_t steps = rig_below(&p->random, STEPS_MAX); steps > 0; steps--) {
        if (rig_below(&p->random, 16) == 0) {
            finalize_both(p);
        } else {
            put_both(p);
        }
    }
    switch (rig_below(&p->random, 8)) {
    case 0:
        compare_all(p); /* nothing of the open transaction is seen */
        mr_results_rollback(p->sqlite);
        mr_results_rollback(p->memory);
        break;
    case 1:
        mr_results_close(p->sqlite);
        open_sqlite(p);
        mr_memory_results_crash(p->memory);
        break;
    default:
        assert_int_equal(mr_results_commit(p->sqlite, p->seq), MR_OK);
        assert_int_equal(mr_results_commit(p->memory, p->seq), MR_OK);
        break;
    }
}

/* Mostly a little, sometimes all the way. */
static void rewind_both(struct pair *p) {
    uint64_t flushed = mr_results_flushed_seq(p->sqlite);
    uint64_t back = rig_below(&p->random, 8) == 0 ? flushed : rig_below(&p->random, 12);
    uint64_t seq = back < flushed ? flushed - back : 0;
    assert_int_equal(mr_results_rewind(p->sqlite, seq), MR_OK);
    assert_int_equal(mr_results_rewind(p->memory, seq), MR_OK);
    if (rig_below(&p->random, 2) == 0) {
        mr_results_close(p->sqlite);
        open_sqlite(p);
    }
    p->seq = seq + 1;
}

static void both_give_the_same(void **state) {
    (void)state;
    struct pair p = {.random = 20240229, .seq = 1};
    rig_dir_init(&p.dir);
    rig_read_init(&p.from_sqlite);
    rig_read_init(&p.from_memory);
    open_sqlite(&p);
    p.memory = mr_memory_results_open(&(struct mr_memory_results_options){
        .rules = rig_rules, .rule_count = RIG_RULES, .outbox_panes_max = OUTBOX_MAX});
    compare_all(&p);
    uint64_t most = 0;
    for (int i = 0; i < TRANSACTIONS; i++) {
        transact(&p);
        mr_memory_results_check(p.memory);
        compare_all(&p);
        most = mr_memory_results_count(p.memory, 0) > most ? mr_memory_results_count(p.memory, 0)
                                                           : most;
        p.seq += rig_below(&p.random, 3);
        if (rig_below(&p.random, 8) == 0) {
            rewind_both(&p);
            mr_memory_results_check(p.memory);
            compare_all(&p);
        }
    }
    assert_true(most >= 3 * RIG_WINDOWS); /* it was about something */
    mr_results_close(p.sqlite);
    mr_results_close(p.memory);
    rig_read_finish(&p.from_sqlite);
    rig_read_finish(&p.from_memory);
    rig_dir_finish(&p.dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_give_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
