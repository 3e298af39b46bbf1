/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the results stores serve every kind of window and pane, with random ones (test_event_time_rows.c has them by
 * hand):
 *   1. panes and retractions for rules with overlapping windows, windows whose ends change, one window for all time,
 *      discarding keys and retracting rules, of old, equal and new revisions; finalize; transactions that are rolled back,
 *      broken off, or committed and repeated; rewinds: the SQLite store and the one in memory hold the same rows, outbox,
 *      and panes of each rule; no row is open before the place that the file names;
 *   2. without rewinds, who follows the outbox of a rule and takes back what a retraction says, has the rule's rows:
 *      each retraction says what was said last, of retracting rules a pane follows nothing or what it repeats.
 */
#include "tests/sink/event_time_rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { TRANSACTIONS = 250, STEPS_MAX = 12, PLACES_MAX = 512 };

static bool keep_pane(void *ctx, uint64_t id, const struct mr_pane *pane) {
    struct rig_read *read = ctx;
    mr_buf_append(&read->rows, &id, sizeof id);
    mr_pane_append(&read->rows, pane);
    read->count++;
    return read->count != read->stop;
}

static void read_rule(struct mr_results *results, uint32_t rule, uint64_t after_id, struct rig_read *read) {
    struct mr_results_reader *reader = NULL;
    uint64_t id = 0;
    mr_buf_clear(&read->rows);
    read->count = 0;
    assert_int_equal(mr_results_reader_open(results, &reader), MR_OK);
    assert_int_equal(mr_results_read_outbox_rule(reader, rule, after_id, keep_pane, read, &id, NULL), MR_OK);
    mr_results_reader_close(reader);
    mr_buf_append(&read->rows, &id, sizeof id); /* compared, too */
}

/* The store in memory looks at every row; the file may name an earlier place. */
static void check_open_from(struct event_stores *p, uint32_t rule) {
    int64_t from_ms[2];
    for (int i = 0; i < 2; i++) {
        struct mr_results_reader *reader = NULL;
        assert_int_equal(mr_results_reader_open(p->stores[i], &reader), MR_OK);
        assert_int_equal(mr_results_read_open_from(reader, rule, &from_ms[i], NULL), MR_OK);
        mr_results_reader_close(reader);
    }
    assert_true(from_ms[0] <= from_ms[1]);
}

static void compare(struct event_stores *p) {
    assert_int_equal(mr_results_flushed_seq(p->stores[0]), mr_results_flushed_seq(p->stores[1]));
    uint64_t after = rig_below(&p->random, 2) == 0 ? 0 : rig_below(&p->random, 1000);
    uint64_t stop = rig_below(&p->random, 10);
    for (uint32_t rule = 0; rule < EVENT_RULES; rule++) {
        for (int i = 0; i < 2; i++) {
            struct mr_results_query query = rig_query_all(rule, &p->reads[i]);
            query.open_only = after % 2 == 1;
            query.order = (int32_t)(after % 3 == 1) - 1;
            p->reads[i].stop = 0;
            rig_read(p->stores[i], query, &p->reads[i]);
        }
        rig_assert_same(&p->reads[0], &p->reads[1]);
        for (int i = 0; i < 2; i++) {
            p->reads[i].stop = stop;
            read_rule(p->stores[i], rule, after, &p->reads[i]);
        }
        rig_assert_same(&p->reads[0], &p->reads[1]);
        check_open_from(p, rule);
    }
    for (int i = 0; i < 2; i++) {
        p->reads[i].stop = 0;
        rig_read_outbox(p->stores[i], after, &p->reads[i]);
    }
    rig_assert_same(&p->reads[0], &p->reads[1]);
}

/* ---- transactions ---- */

struct script {
    struct event_pane panes[STEPS_MAX];
    uint64_t count;
    uint32_t final_rule; /* EVENT_RULES: none */
    int64_t final_ms;
};

static void write_script(struct event_stores *p, struct script *script) {
    script->count = rig_below(&p->random, STEPS_MAX);
    for (uint64_t i = 0; i < script->count; i++) {
        event_pane_random(&script->panes[i], &p->random, p->seq);
    }
    script->final_rule = (uint32_t)rig_below(&p->random, 2 * EVENT_RULES);
    script->final_ms = (int64_t)rig_below(&p->random, (EVENT_STARTS + 4) * 1000);
}

static void follow(struct mr_results *results, const struct script *script) {
    assert_int_equal(mr_results_begin(results), MR_OK);
    for (uint64_t i = 0; i < script->count; i++) {
        struct event_pane pane = script->panes[i];
        pane.pane.key.ptr = pane.bytes;
        pane.pane.state.ptr = pane.pane.retraction ? NULL : pane.state;
        pane.pane.numbers = pane.pane.retraction ? NULL : &pane.number;
        assert_int_equal(mr_results_put(results, &pane.pane), MR_OK);
    }
    if (script->final_rule < EVENT_RULES) {
        assert_int_equal(mr_results_finalize(results, script->final_rule, script->final_ms), MR_OK);
    }
}

static void follow_both(struct event_stores *p, const struct script *script) {
    follow(p->stores[0], script);
    follow(p->stores[1], script);
}

static void commit_both(struct event_stores *p) {
    assert_int_equal(mr_results_commit(p->stores[0], p->seq), MR_OK);
    assert_int_equal(mr_results_commit(p->stores[1], p->seq), MR_OK);
}

static void transact(struct event_stores *p) {
    struct script script;
    write_script(p, &script);
    follow_both(p, &script);
    switch (rig_below(&p->random, 8)) {
    case 0:
        compare(p); /* nothing of the open transaction is seen */
        mr_results_rollback(p->stores[0]);
        mr_results_rollback(p->stores[1]);
        follow_both(p, &script); /* and again */
        commit_both(p);
        break;
    case 1:
        mr_results_close(p->stores[0]);
        event_stores_open_file(p);
        mr_memory_results_crash(p->stores[1]);
        break;
    case 2: /* a commit of which nobody knows: everything once more */
        commit_both(p);
        follow_both(p, &script);
        commit_both(p);
        break;
    default:
        commit_both(p);
        break;
    }
}

static void rewind_both(struct event_stores *p) {
    uint64_t flushed = mr_results_flushed_seq(p->stores[0]);
    uint64_t back = rig_below(&p->random, 8) == 0 ? flushed : rig_below(&p->random, 10);
    uint64_t seq = back < flushed ? flushed - back : 0;
    assert_int_equal(mr_results_rewind(p->stores[0], seq), MR_OK);
    assert_int_equal(mr_results_rewind(p->stores[1], seq), MR_OK);
    p->seq = seq + 1;
}

static void both_hold_the_same(void **state) {
    (void)state;
    struct event_stores p;
    event_stores_open(&p, 150, 20240617);
    uint64_t most = 0;
    for (int i = 0; i < TRANSACTIONS; i++) {
        transact(&p);
        mr_memory_results_check(p.stores[1]);
        compare(&p);
        for (uint32_t rule = 0; rule < EVENT_RULES; rule++) {
            uint64_t rows = mr_memory_results_count(p.stores[1], rule);
            most = rows > most ? rows : most;
        }
        p.seq += rig_below(&p.random, 3);
        if (rig_below(&p.random, 12) == 0) {
            rewind_both(&p);
            compare(&p);
        }
    }
    assert_true(most > EVENT_STARTS * EVENT_KEYS); /* of the discarding one */
    event_stores_close(&p);
}

/* ---- who follows the outbox ---- */

struct said {
    uint32_t rule;
    int64_t start_ms;
    int64_t end_ms;
    uint8_t key[16];
    size_t key_len;
    uint64_t events;
    uint8_t state[8];
    uint64_t revision;
    bool there;
};

struct follower {
    struct said places[PLACES_MAX];
    size_t count;
    uint64_t retractions;
    uint64_t repeated;
};

static struct said *find_place(struct follower *f, const struct mr_pane *pane) {
    for (size_t i = 0; i < f->count; i++) {
        struct said *s = &f->places[i];
        if (s->rule == pane->rule && s->start_ms == pane->window_start_ms &&
            mr_bytes_equal(mr_bytes_of(s->key, s->key_len), pane->key)) {
            return s;
        }
    }
    assert_true(f->count < PLACES_MAX);
    struct said *s = &f->places[f->count++];
    *s = (struct said){.rule = pane->rule, .start_ms = pane->window_start_ms, .key_len = pane->key.len};
    memcpy(s->key, pane->key.ptr, pane->key.len);
    return s;
}

static bool says(const struct said *s, const struct mr_pane *pane) {
    return s->there && s->end_ms == pane->window_end_ms && s->events == pane->events &&
           mr_bytes_equal(mr_bytes_of(s->state, sizeof s->state), pane->state);
}

static bool follow_pane(void *ctx, uint64_t id, const struct mr_pane *pane) {
    struct follower *f = ctx;
    struct said *s = find_place(f, pane);
    (void)id;
    if (pane->retraction) {
        assert_true(says(s, pane) && s->revision == pane->revision);
        s->there = false;
        f->retractions++;
        return true;
    }
    assert_true(!event_rules[pane->rule].retracting || !s->there || says(s, pane));
    f->repeated += s->there && event_rules[pane->rule].retracting;
    s->there = true;
    s->end_ms = pane->window_end_ms;
    s->events = pane->events;
    assert_int_equal(pane->state.len, sizeof s->state);
    memcpy(s->state, pane->state.ptr, sizeof s->state);
    s->revision = pane->revision;
    return true;
}

static bool match_row(void *ctx, const struct mr_pane *row) {
    struct said *s = find_place(ctx, row);
    assert_true(says(s, row) && s->revision == row->revision);
    s->there = false; /* each once */
    return true;
}

static void who_follows_has_the_rows(void **state) {
    (void)state;
    struct event_stores p;
    event_stores_open(&p, 1 << 20, 42);
    for (int i = 0; i < TRANSACTIONS; i++) {
        transact(&p);
        p.seq += 1 + rig_below(&p.random, 2);
    }
    compare(&p);
    static struct follower f;
    struct mr_results_reader *reader = NULL;
    assert_int_equal(mr_results_reader_open(p.stores[0], &reader), MR_OK);
    for (uint32_t rule = 0; rule < EVENT_RULES; rule++) {
        uint64_t id = 0;
        assert_int_equal(mr_results_read_outbox_rule(reader, rule, 0, follow_pane, &f, &id, NULL), MR_OK);
        struct mr_results_query query = rig_query_all(rule, NULL);
        query.visit = match_row;
        query.ctx = &f;
        assert_int_equal(mr_results_read(reader, &query, NULL), MR_OK);
    }
    mr_results_reader_close(reader);
    for (size_t i = 0; i < f.count; i++) {
        assert_false(f.places[i].there);
    }
    assert_true(f.retractions > 100 && f.repeated > 3); /* about something */
    event_stores_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_follows_has_the_rows),
        cmocka_unit_test(both_hold_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
