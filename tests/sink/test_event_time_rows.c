/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what the results stores do with every kind of window and pane, by hand:
 *   1. a retraction takes what the row says, once, unless that is of a later revision; a window's end changes with its row;
 *   2. a retracting rule takes back before it says something else, also over a rewind; without an outbox rows go as well;
 *   3. finalize goes by the window's end, also where a window that began earlier ends later; where ends do not vary;
 *   4. columns of metrics of every kind;
 *   5. the panes of one rule are read in bounded steps, past those of others and pruned ones.
 */
#include "tests/sink/event_time_rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void a_retraction_takes_what_the_row_said(void **state) {
    (void)state;
    struct event_stores p;
    event_stores_open(&p, 1000, 1);
    struct event_pane pane;
    static const char rows[] = "SELECT k,n,revision,pane,timing,window_end_ms FROM session";
    static const char panes[] = "SELECT id,window_end_ms,events,revision,pane,timing,retraction FROM panes";
    event_pane_make(&pane, EVENT_SESSION, 4, 1, 3, 30);
    event_store_put(p.stores[0], &pane, 3);
    event_pane_make(&pane, EVENT_SESSION, 4, 1, 5, 50); /* it grew */
    pane.pane.window_end_ms = 9000;
    pane.pane.index = 1;
    pane.pane.timing = MR_TIMING_LATE;
    event_store_put(p.stores[0], &pane, 5);
    rig_assert_query(&p.dir, rows, "1|50|5|1|LATE|9000\n");
    event_pane_make(&pane, EVENT_SESSION, 4, 1, 4, 0);
    event_pane_retract(&pane);
    event_store_put(p.stores[0], &pane, 5); /* of an older revision */
    event_pane_make(&pane, EVENT_SESSION, 4, 0, 6, 0);
    event_pane_retract(&pane);
    event_store_put(p.stores[0], &pane, 6); /* of another key */
    rig_assert_query(&p.dir, rows, "1|50|5|1|LATE|9000\n");
    for (uint64_t i = 0; i < 2; i++) { /* once is enough */
        event_pane_make(&pane, EVENT_SESSION, 4, 1, 7, 0);
        event_pane_retract(&pane);
        event_store_put(p.stores[0], &pane, 7);
        rig_assert_query(&p.dir, rows, "");
        rig_assert_query(&p.dir, panes, "1|7000|30|3|0|ON_TIME|0\n2|9000|50|5|1|LATE|0\n3|9000|50|5|1|LATE|1\n");
    }
    event_stores_close(&p);
}

static void a_retracting_rule_takes_back_first(void **state) {
    (void)state;
    struct event_stores p;
    event_stores_open(&p, 1000, 1);
    struct event_pane pane;
    for (uint64_t revision = 1; revision <= 4; revision++) {
        event_pane_make(&pane, EVENT_RETRACTING, 0, 0, revision, revision == 3 ? 20 : 10 * revision); /* 3 says what 2 said */
        pane.pane.index = (uint32_t)revision - 1;
        event_store_put(p.stores[0], &pane, revision);
    }
    event_pane_make(&pane, EVENT_RETRACTING, 0, 0, 2, 99);
    event_store_put(p.stores[0], &pane, 4);
    rig_assert_query(&p.dir, "SELECT events,revision,retraction,pane FROM panes ORDER BY id",
                     "10|1|0|0\n10|1|1|0\n20|2|0|1\n20|3|0|2\n20|3|1|2\n40|4|0|3\n");
    rig_assert_query(&p.dir, "SELECT n,revision FROM retracting", "40|4\n");
    assert_int_equal(mr_results_rewind(p.stores[0], 3), MR_OK); /* what 3 said was taken back: that stays */
    rig_assert_query(&p.dir, "SELECT events,revision,retraction FROM panes ORDER BY id",
                     "10|1|0\n10|1|1\n20|2|0\n20|3|0\n20|3|1\n");
    event_pane_make(&pane, EVENT_RETRACTING, 0, 0, 4, 40);
    event_store_put(p.stores[0], &pane, 4);
    rig_assert_query(&p.dir, "SELECT events,revision,retraction FROM panes ORDER BY id LIMIT 9 OFFSET 4",
                     "20|3|1\n40|4|0\n");
    event_stores_close(&p);
}

static void rows_go_without_an_outbox(void **state) {
    (void)state;
    struct event_stores p;
    event_stores_open(&p, 0, 1);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        struct event_pane pane;
        event_pane_make(&pane, EVENT_RETRACTING, 0, 0, seq, seq);
        event_store_put(p.stores[0], &pane, seq);
    }
    struct event_pane pane;
    event_pane_make(&pane, EVENT_RETRACTING, 0, 0, 3, 0);
    event_pane_retract(&pane);
    event_store_put(p.stores[0], &pane, 3);
    rig_assert_query(&p.dir, "SELECT count(*) FROM retracting UNION ALL SELECT count(*) FROM panes", "0\n0\n");
    event_stores_close(&p);
}

static void finalize_goes_by_the_end(void **state) {
    (void)state;
    struct event_stores p;
    event_stores_open(&p, 1000, 1);
    static const int64_t ends_ms[] = {9000, 2000, 3000, 4000}; /* the first one is long */
    static const char finals[] = "SELECT group_concat(final,'') FROM session";
    static const char open_from[] = "SELECT value FROM millrace_meta WHERE name='open_from_ms:session'";
    for (uint64_t i = 0; i < 4; i++) {
        struct event_pane pane;
        event_pane_make(&pane, EVENT_SESSION, i, 0, i + 1, i);
        pane.pane.window_end_ms = ends_ms[i];
        event_store_put(p.stores[0], &pane, i + 1);
    }
    static const struct {
        int64_t end_ms;
        const char *finals;
        const char *open_from;
    } steps[] = {
        {1999, "0000\n", "0\n"}, {2000, "0100\n", "0\n"},   {3500, "0110\n", "0\n"},
        {8999, "0111\n", "0\n"}, {9000, "1111\n", "9223372036854775807\n"},
    };
    for (uint64_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        assert_int_equal(mr_results_begin(p.stores[0]), MR_OK);
        assert_int_equal(mr_results_finalize(p.stores[0], EVENT_SESSION, steps[i].end_ms), MR_OK);
        assert_int_equal(mr_results_commit(p.stores[0], 5 + i), MR_OK);
        rig_assert_query(&p.dir, finals, steps[i].finals);
        rig_assert_query(&p.dir, open_from, steps[i].open_from);
    }
    struct event_pane pane;
    event_pane_make(&pane, EVENT_SESSION, 1, 0, 20, 7); /* a window that is final stays so */
    event_store_put(p.stores[0], &pane, 20);
    rig_assert_query(&p.dir, "SELECT final,n FROM session WHERE window_start_ms=1000", "1|7\n");
    event_stores_close(&p);
}

/* One start after the other, from where the first is open: rows that are final, and new ones among them. */
static void finalize_goes_start_by_start(void **state) {
    (void)state;
    struct event_stores p;
    event_stores_open(&p, 1000, 1);
    static const char finals[] = "SELECT group_concat(final,'') FROM sliding";
    static const char open_from[] = "SELECT value FROM millrace_meta WHERE name='open_from_ms:sliding'";
    struct event_pane pane;
    for (uint64_t i = 0; i < 4; i++) { /* [0, 3 s) … [6, 9 s), two keys each */
        for (uint64_t k = 0; k < 2; k++) {
            event_pane_make(&pane, EVENT_SLIDING, 2 * i, k, i + 1, i);
            event_store_put(p.stores[0], &pane, i + 1);
        }
    }
    static const struct {
        int64_t end_ms;
        const char *finals;
        const char *open_from;
    } steps[] = {
        {2999, "00000000\n", "0\n"},    {3000, "11000000\n", "2000\n"}, {6999, "11110000\n", "4000\n"},
        {7000, "11111100\n", "6000\n"}, {INT64_MAX, "11111111\n", "9223372036854775807\n"},
    };
    for (uint64_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        assert_int_equal(mr_results_begin(p.stores[0]), MR_OK);
        assert_int_equal(mr_results_finalize(p.stores[0], EVENT_SLIDING, steps[i].end_ms), MR_OK);
        assert_int_equal(mr_results_commit(p.stores[0], 5 + i), MR_OK);
        rig_assert_query(&p.dir, finals, steps[i].finals);
        rig_assert_query(&p.dir, open_from, steps[i].open_from);
    }
    event_pane_make(&pane, EVENT_SLIDING, 2, 2, 20, 7); /* a new group of an old window */
    event_store_put(p.stores[0], &pane, 20);
    rig_assert_query(&p.dir, open_from, "2000\n");
    assert_int_equal(mr_results_begin(p.stores[0]), MR_OK);
    assert_int_equal(mr_results_finalize(p.stores[0], EVENT_SLIDING, 5000), MR_OK);
    assert_int_equal(mr_results_commit(p.stores[0], 21), MR_OK);
    rig_assert_query(&p.dir, finals, "111111111\n");
    rig_assert_query(&p.dir, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'open:%'", "3\n");
    event_stores_close(&p);
}

static void metric_columns_have_the_kind_of_the_number(void **state) {
    (void)state;
    static const struct {
        struct mr_number number;
        const char *seen; /* typeof, value */
    } cases[] = {
        {{.kind = MR_NUMBER_NULL}, "null|NULL\n"},
        {{.kind = MR_NUMBER_INT, .i = -5}, "integer|-5\n"},
        {{.kind = MR_NUMBER_DOUBLE, .d = 1.0}, "real|1.0\n"},
        {{.kind = MR_NUMBER_BOOL, .i = 1}, "integer|1\n"},
        {{.kind = MR_NUMBER_BOOL, .i = 0}, "integer|0\n"},
        {{.kind = MR_NUMBER_TEXT, .len = 2, .text = (const uint8_t *)"17"}, "text|17\n"},
        {{.kind = MR_NUMBER_TEXT, .len = 0, .text = (const uint8_t *)""}, "text|\n"},
        {{.kind = MR_NUMBER_JSON, .len = 7, .text = (const uint8_t *)"{\"a\":1}"}, "text|{\"a\":1}\n"},
    };
    struct event_stores p;
    event_stores_open(&p, 1000, 1);
    for (uint64_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct event_pane pane;
        event_pane_make(&pane, EVENT_SESSION, 0, 0, i + 1, i);
        pane.number = cases[i].number;
        event_store_put(p.stores[0], &pane, i + 1);
        rig_assert_query(&p.dir, "SELECT typeof(n),n FROM session", cases[i].seen);
    }
    rig_assert_query(&p.dir, "SELECT json_extract(n,'$.a') FROM session", "1\n");
    event_stores_close(&p);
}

static bool count_pane(void *ctx, uint64_t id, const struct mr_pane *pane) {
    uint64_t *count = ctx;
    (void)id;
    (void)pane;
    ++*count;
    return true;
}

static uint64_t look(struct mr_results *results, uint64_t after_id, uint64_t *ret_count) {
    struct mr_results_reader *reader = NULL;
    uint64_t id = 0;
    *ret_count = 0;
    assert_int_equal(mr_results_reader_open(results, &reader), MR_OK);
    assert_int_equal(mr_results_read_outbox_rule(reader, EVENT_SESSION, after_id, count_pane, ret_count, &id, NULL), MR_OK);
    mr_results_reader_close(reader);
    return id;
}

static void a_rule_is_read_in_bounded_steps(void **state) {
    (void)state;
    enum { OTHERS = MR_RESULTS_LOOK_MAX + 1000 };
    struct event_stores p;
    event_stores_open(&p, 1 << 20, 1);
    for (int s = 0; s < 2; s++) {
        struct mr_results *results = p.stores[s];
        struct event_pane pane;
        uint64_t count = 0;
        assert_int_equal(look(results, 0, &count), 0);
        event_pane_make(&pane, EVENT_SESSION, 0, 0, 1, 1);
        event_store_put(results, &pane, 1);
        assert_int_equal(mr_results_begin(results), MR_OK);
        for (uint64_t i = 0; i < OTHERS; i++) { /* upwards: the store in memory sorts by insertion */
            event_pane_make(&pane, EVENT_SLIDING, i, 0, 2, i);
            assert_int_equal(mr_results_put(results, &pane.pane), MR_OK);
        }
        event_pane_make(&pane, EVENT_SESSION, 1, 0, 2, 1);
        assert_int_equal(mr_results_put(results, &pane.pane), MR_OK);
        assert_int_equal(mr_results_commit(results, 2), MR_OK);
        assert_int_equal(look(results, 0, &count), MR_RESULTS_LOOK_MAX);
        assert_int_equal(count, 1);
        assert_int_equal(look(results, MR_RESULTS_LOOK_MAX, &count), OTHERS + 2);
        assert_int_equal(count, 1);
        assert_int_equal(look(results, OTHERS + 2, &count), OTHERS + 2);
        assert_int_equal(look(results, OTHERS + 9, &count), OTHERS + 9); /* of another store, perhaps */
        assert_int_equal(count, 0);
    }
    event_stores_close(&p);
    event_stores_open(&p, 10, 1); /* what is pruned is passed over at once */
    for (uint64_t seq = 1; seq <= 30; seq++) {
        struct event_pane pane;
        uint64_t count = 0;
        event_pane_make(&pane, EVENT_SESSION, 0, 0, seq, seq);
        event_store_put(p.stores[0], &pane, seq);
        assert_int_equal(look(p.stores[0], 0, &count), seq);
        assert_int_equal(count, seq < 10 ? seq : 10);
    }
    event_stores_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_retraction_takes_what_the_row_said),
        cmocka_unit_test(a_retracting_rule_takes_back_first),
        cmocka_unit_test(rows_go_without_an_outbox),
        cmocka_unit_test(finalize_goes_by_the_end),
        cmocka_unit_test(finalize_goes_start_by_start),
        cmocka_unit_test(metric_columns_have_the_kind_of_the_number),
        cmocka_unit_test(a_rule_is_read_in_bounded_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
