/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a store goes back to a bundle and nothing else (test_results.c has random rewinds of both stores):
 *   1. for every bundle of a run, in both stores: go back there, replay the rest; rows and outbox are those of a run
 *      without a break, and the ids of the panes made again are new ones;
 *   2. no row is final any more, none is passed over by what makes rows final, also after a new open; panes keep their
 *      marks;
 *   3. the outbox keeps as many panes as it should, though ids are missing between them;
 *   4. a read under way keeps its snapshot; what belongs to rules that are gone stays;
 *   5. with a write failing, or the process killed in the middle of one, at every 7001st byte: all or nothing is
 *      there, and going back again works; allocations, a busy file, a failure by plan.
 */
#include "tests/sink/memory_results.h"
#include "tests/sink/results_rig.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { BUNDLES = 12, PANES = 8, OUTBOX_MAX = 1000 };

static struct mr_results *open_memory(void) {
    return mr_memory_results_open(&(struct mr_memory_results_options){
        .rules = rig_rules, .rule_count = RIG_RULES, .outbox_panes_max = OUTBOX_MAX});
}

/* One bundle as the shards would make it: it fires windows that are open, those that end by it for the last time. */
static void flush_bundle(struct mr_results *results, uint64_t seq) {
    uint64_t random = seq * 77;
    uint64_t open_from = seq / 2;
    uint64_t open_from_next = (seq + 1) / 2;
    assert_int_equal(mr_results_begin(results), MR_OK);
    for (int i = 0; i < PANES; i++) {
        struct rig_pane pane;
        rig_pane_random(&pane, &random, seq);
        uint64_t window = open_from + rig_below(&random, 3);
        pane.pane.window_start_ms = rig_window_ms(pane.pane.rule, window);
        pane.pane.window_end_ms = rig_window_ms(pane.pane.rule, window + 1);
        pane.pane.final = window < open_from_next;
        assert_int_equal(mr_results_put(results, &pane.pane), MR_OK);
        rig_pane_finish(&pane);
    }
    for (uint32_t rule = 0; rule < RIG_RULES; rule++) {
        int64_t end_ms = rig_window_ms(rule, open_from_next);
        assert_int_equal(mr_results_finalize(results, rule, end_ms), MR_OK);
    }
    assert_int_equal(mr_results_commit(results, seq), MR_OK);
}

static void flush_bundles(struct mr_results *results, uint64_t first, uint64_t last) {
    for (uint64_t seq = first; seq <= last; seq++) {
        flush_bundle(results, seq);
    }
}

/* The outbox: panes without their ids, and what the ids are. */
struct trace {
    struct mr_buf panes;
    uint64_t revisions[BUNDLES * PANES];
    uint64_t ids[BUNDLES * PANES];
    size_t count;
};

static bool trace_pane(void *ctx, uint64_t id, const struct mr_pane *pane) {
    struct trace *trace = ctx;
    mr_pane_append(&trace->panes, pane);
    trace->revisions[trace->count] = pane->revision;
    trace->ids[trace->count] = id;
    trace->count++;
    return true;
}

static void trace_init(struct trace *trace, struct mr_results *results) {
    struct mr_results_reader *reader = NULL;
    trace->count = 0;
    mr_buf_init(&trace->panes, 1 << 20);
    assert_int_equal(mr_results_reader_open(results, &reader), MR_OK);
    assert_int_equal(mr_results_read_outbox(reader, 0, trace_pane, trace, NULL), MR_OK);
    mr_results_reader_close(reader);
}

/* What a start does when it has gone back. */
static void finalize_again(struct mr_results *results, uint64_t seq) {
    assert_int_equal(mr_results_begin(results), MR_OK);
    for (uint32_t rule = 0; rule < RIG_RULES; rule++) {
        int64_t end_ms = rig_window_ms(rule, (seq + 1) / 2);
        assert_int_equal(mr_results_finalize(results, rule, end_ms), MR_OK);
    }
    assert_int_equal(mr_results_commit(results, seq), MR_OK);
}

static void assert_all_open(struct mr_results *results) {
    struct rig_read read;
    rig_read_init(&read);
    for (uint32_t rule = 0; rule < RIG_RULES; rule++) {
        struct mr_results_query query = rig_query_all(rule, &read);
        query.final_only = true;
        rig_read(results, query, &read);
        assert_int_equal(read.count, 0);
    }
    rig_read_finish(&read);
}

/* Panes up to seq have kept their ids, later ones have ids that nobody had. */
static void assert_replayed(const struct trace *before, const struct trace *now, uint64_t seq) {
    assert_true(mr_bytes_equal(mr_buf_bytes(&before->panes), mr_buf_bytes(&now->panes)));
    assert_int_equal(before->count, now->count);
    uint64_t last = before->ids[before->count - 1];
    for (size_t i = 0; i < now->count; i++) {
        if (now->revisions[i] <= seq) {
            assert_int_equal(now->ids[i], before->ids[i]);
        } else {
            assert_true(now->ids[i] > last);
            last = now->ids[i];
        }
    }
}

static void same_rows(struct mr_results *a, struct mr_results *b) {
    struct rig_read from_a;
    struct rig_read from_b;
    rig_read_init(&from_a);
    rig_read_init(&from_b);
    for (uint32_t rule = 0; rule < RIG_RULES; rule++) {
        rig_read(a, rig_query_all(rule, &from_a), &from_a);
        rig_read(b, rig_query_all(rule, &from_b), &from_b);
        rig_assert_same(&from_a, &from_b);
    }
    rig_read_finish(&from_a);
    rig_read_finish(&from_b);
}

static void go_back_and_replay(struct mr_results *results, struct mr_results *unbroken,
                               uint64_t seq) {
    struct trace before;
    struct trace back;
    struct trace after;
    flush_bundles(results, 1, BUNDLES);
    trace_init(&before, results);
    assert_int_equal(mr_results_rewind(results, seq), MR_OK);
    assert_int_equal(mr_results_flushed_seq(results), seq);
    assert_all_open(results);
    finalize_again(results, seq);
    trace_init(&back, results);
    for (size_t i = 0; i < back.count; i++) {
        assert_true(back.revisions[i] <= seq && back.ids[i] == before.ids[i]);
    }
    assert_true(back.count == before.count || before.revisions[back.count] > seq);
    flush_bundles(results, seq + 1, BUNDLES);
    trace_init(&after, results);
    assert_replayed(&before, &after, seq);
    same_rows(results, unbroken);
    mr_buf_finish(&before.panes);
    mr_buf_finish(&back.panes);
    mr_buf_finish(&after.panes);
}

static void replay_makes_the_rest_again(void **state) {
    (void)state;
    struct mr_results *unbroken = open_memory();
    flush_bundles(unbroken, 1, BUNDLES);
    for (uint64_t seq = 0; seq <= BUNDLES; seq++) {
        struct mr_results *memory = open_memory();
        go_back_and_replay(memory, unbroken, seq);
        mr_results_close(memory);

        struct rig_dir dir;
        rig_dir_init(&dir);
        const struct mr_results_sqlite_options options = rig_options(&dir);
        struct mr_results *sqlite = rig_open(&options);
        go_back_and_replay(sqlite, unbroken, seq);
        mr_results_close(sqlite);
        rig_dir_finish(&dir);
    }
    mr_results_close(unbroken);
}

static void what_is_left_survives_an_open(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    struct rig_pane early;
    struct rig_pane late;
    rig_pane_simple(&early, 0, 3, 1, 10);
    rig_pane_simple(&late, 0, 4, 2, 20);
    early.pane.final = true;
    struct mr_results *results = rig_open(&options);
    rig_store(results, &early.pane, 1, 1);
    rig_store(results, &late.pane, 1, 2);
    assert_int_equal(mr_results_begin(results), MR_OK);
    assert_int_equal(mr_results_finalize(results, 0, INT64_MAX), MR_OK);
    assert_int_equal(mr_results_commit(results, 3), MR_OK);
    assert_int_equal(mr_results_rewind(results, 1), MR_OK);
    mr_results_close(results);
    static const char rows[] = "SELECT views,revision,final FROM ad_views ORDER BY views";
    static const char ids[] = "SELECT id,revision,final FROM panes";
    static const char open_from[] =
        "SELECT value FROM millrace_meta WHERE name='open_from_ms:ad_views'";
    rig_assert_query(&dir, rows, "10|1|0\n");
    rig_assert_query(&dir, ids, "1|1|1\n"); /* as it was fired */
    rig_assert_query(&dir, open_from, "1700000040000\n");

    results = rig_open(&options);
    assert_int_equal(mr_results_flushed_seq(results), 1);
    rig_store(results, &late.pane, 1, 2);
    rig_assert_query(&dir, rows, "10|1|0\n20|2|0\n");
    rig_assert_query(&dir, ids, "1|1|1\n3|2|0\n"); /* 2 was used */
    mr_results_close(results);
    results = rig_open(&options);
    assert_int_equal(mr_results_begin(results), MR_OK);
    assert_int_equal(mr_results_finalize(results, 0, INT64_MAX), MR_OK);
    assert_int_equal(mr_results_commit(results, 3), MR_OK);
    rig_assert_query(&dir, rows, "10|1|1\n20|2|1\n");

    assert_int_equal(mr_results_rewind(results, 0), MR_OK); /* nothing is left */
    rig_assert_query(&dir, rows, "");
    rig_assert_query(&dir, ids, "");
    rig_assert_query(&dir, open_from, "9223372036854775807\n");
    mr_results_close(results);
    results = rig_open(&options);
    assert_int_equal(mr_results_flushed_seq(results), 0);
    rig_store(results, &early.pane, 1, 1);
    rig_assert_query(&dir, ids, "4|1|1\n");
    mr_results_close(results);
    rig_pane_finish(&early);
    rig_pane_finish(&late);
    rig_dir_finish(&dir);
}

/* Ids 1 to 10; 6 to 10 go; then the bound of 7 is met again by 11 to 12, and passed by 13. */
static void missing_ids_are_not_counted(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_results_sqlite_options options = rig_options(&dir);
    options.outbox_panes_max = 10;
    struct mr_results *results = rig_open(&options);
    struct rig_pane pane;
    for (uint64_t seq = 1; seq <= 10; seq++) {
        rig_pane_simple(&pane, 2, 0, seq, (int64_t)seq);
        rig_store(results, &pane.pane, 1, seq);
        rig_pane_finish(&pane);
    }
    assert_int_equal(mr_results_rewind(results, 5), MR_OK);
    static const char *const want[] = {"1\n2\n3\n4\n5\n11\n", "1\n2\n3\n4\n5\n11\n12\n",
                                       "2\n3\n4\n5\n11\n12\n13\n", "3\n4\n5\n11\n12\n13\n14\n"};
    mr_results_close(results);
    options.outbox_panes_max = 7;
    for (uint64_t i = 0; i < 4; i++) {
        results = rig_open(&options);
        rig_pane_simple(&pane, 2, 0, 6 + i, (int64_t)(6 + i));
        rig_store(results, &pane.pane, 1, 6 + i);
        rig_pane_finish(&pane);
        mr_results_close(results);
        rig_assert_query(&dir, "SELECT id FROM panes", want[i]);
    }
    rig_dir_finish(&dir);
}

struct reading {
    struct mr_results *results;
    uint64_t rows;
};

static bool rewind_at_the_first(void *ctx, const struct mr_pane *row) {
    struct reading *reading = ctx;
    (void)row;
    if (reading->rows == 0) {
        assert_int_equal(mr_results_rewind(reading->results, 0), MR_OK);
    }
    reading->rows++;
    return true;
}

static void a_read_keeps_its_snapshot(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    struct mr_results *results = rig_open(&options);
    struct rig_pane panes[3];
    for (uint64_t i = 0; i < 3; i++) {
        rig_pane_simple(&panes[i], 0, 3 + i, i + 1, 1);
        rig_store(results, &panes[i].pane, 1, i + 1);
        rig_pane_finish(&panes[i]);
    }
    struct mr_results_reader *reader = NULL;
    struct reading reading = {.results = results};
    struct mr_results_query query = rig_query_all(0, NULL);
    query.visit = rewind_at_the_first;
    query.ctx = &reading;
    assert_int_equal(mr_results_reader_open(results, &reader), MR_OK);
    assert_int_equal(mr_results_read(reader, &query, NULL), MR_OK);
    assert_int_equal(reading.rows, 3);
    reading.rows = 1; /* no more rewinding */
    assert_int_equal(mr_results_read(reader, &query, NULL), MR_OK);
    assert_int_equal(reading.rows, 1);
    mr_results_reader_close(reader);
    mr_results_close(results);
    rig_dir_finish(&dir);
}

static void rules_that_are_gone_stay(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_results_sqlite_options options = rig_options(&dir);
    struct mr_results *results = rig_open(&options);
    struct rig_pane panes[2];
    struct mr_pane list[2];
    for (uint32_t i = 0; i < 2; i++) {
        rig_pane_simple(&panes[i], i, 3, 5, 1);
        list[i] = panes[i].pane;
    }
    rig_store(results, list, 2, 5);
    mr_results_close(results);
    options.rule_count = 1;
    results = rig_open(&options);
    assert_int_equal(mr_results_rewind(results, 4), MR_OK);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT count(*) FROM ad_views", "0\n");
    rig_assert_query(&dir, "SELECT count(*) FROM \"rule:panes\"", "1\n");
    rig_assert_query(&dir, "SELECT id,rule FROM panes", "2|panes\n");
    for (int i = 0; i < 2; i++) {
        rig_pane_finish(&panes[i]);
    }
    rig_dir_finish(&dir);
}

/* Failures. A store of many pages: going back to HALF takes every other row of each, all final marks, and a generation
 * of another rule that is aside. */

enum { ROWS = 36, HALF = ROWS / 2, ASIDE = 5, CUT_STEP = 7001 };

static const char asides[] =
    "SELECT name FROM sqlite_schema WHERE name LIKE '%:%' AND type='table' AND name<>'rule:panes' "
    "UNION ALL SELECT name FROM millrace_meta WHERE name LIKE '%:%:%' "
    "UNION ALL SELECT count(*) FROM panes";

static const char asides_all[] = "ad_views:19\ngeneration:ad_views:19\nopen_from_ms:ad_views:19\n"
                                 "shape:ad_views:19\n41\n";

static void build_aside(const struct rig_dir *dir, struct mr_bytes state) {
    struct mr_results_rule rules[RIG_RULES] = {rig_rules[0], rig_rules[1], rig_rules[2]};
    rules[0].generation = HALF + 1;
    struct mr_results_sqlite_options options = rig_options(dir);
    options.rules = rules;
    struct mr_results *results = rig_open(&options);
    for (uint64_t k = 0; k < ASIDE; k++) {
        struct rig_pane pane;
        rig_pane_simple(&pane, 0, k, ROWS, 1);
        pane.pane.state = state;
        rig_store(results, &pane.pane, 1, ROWS);
        rig_pane_finish(&pane);
    }
    mr_results_close(results);
}

static void build(const struct rig_dir *dir, struct mr_buf *ret_file, struct rig_read *ret_all,
                  struct rig_read *ret_half) {
    static uint8_t big[1500];
    const struct mr_results_sqlite_options options = rig_options(dir);
    struct mr_results *results = rig_open(&options);
    for (uint64_t seq = 1; seq <= ROWS; seq++) {
        struct rig_pane pane;
        rig_pane_simple(&pane, 2, 0, seq, (int64_t)seq);
        uint64_t window = seq <= HALF ? 2 * seq : 2 * (seq - HALF) + 1;
        pane.pane.window_start_ms += (int64_t)window * 1000;
        pane.pane.window_end_ms += (int64_t)window * 1000;
        pane.pane.state = mr_bytes_of(big, sizeof big);
        rig_store(results, &pane.pane, 1, seq);
        rig_pane_finish(&pane);
    }
    assert_int_equal(mr_results_begin(results), MR_OK);
    assert_int_equal(mr_results_finalize(results, 2, INT64_MAX), MR_OK);
    assert_int_equal(mr_results_commit(results, ROWS), MR_OK);
    mr_results_close(results);
    build_aside(dir, mr_bytes_of(big, sizeof big));
    results = rig_open(&options);
    rig_read_everything(results, ret_all);
    mr_results_close(results);
    rig_assert_query(dir, asides, asides_all);
    rig_file_read(dir, ret_file);

    results = rig_open(&options);
    assert_int_equal(mr_results_rewind(results, HALF), MR_OK);
    rig_read_everything(results, ret_half);
    mr_results_close(results);
    assert_int_equal(ret_all->count, 2 * ROWS);
    assert_int_equal(ret_half->count, 2 * HALF);
}

/* All or nothing, and then it works. */
static void check_and_go_back(const struct rig_dir *dir, struct mr_results *results,
                              const struct rig_read *all, const struct rig_read *half,
                              bool *ret_done) {
    struct rig_read now;
    rig_read_init(&now);
    rig_read_everything(results, &now);
    uint64_t flushed = mr_results_flushed_seq(results);
    *ret_done = flushed == HALF;
    assert_int_equal(flushed, *ret_done ? HALF : ROWS);
    rig_assert_same(&now, *ret_done ? half : all);
    rig_assert_query(dir, asides, *ret_done ? "18\n" : asides_all);
    assert_int_equal(mr_results_rewind(results, HALF), MR_OK);
    rig_read_everything(results, &now);
    rig_assert_same(&now, half);
    rig_assert_query(dir, asides, "18\n");
    rig_read_finish(&now);
}

struct limited {
    struct mr_results_sqlite_options options;
    uint64_t bytes; /* that files may have */
    bool kills;
};

/* Whether the rewind was done, or failed as it should. */
static bool rewind_limited(void *ctx) {
    const struct limited *limited = ctx;
    struct mr_results *results = NULL;
    if (mr_results_sqlite_open(&limited->options, &results, NULL) != MR_OK) {
        return false;
    }
    rig_limit_files(limited->bytes, limited->kills);
    enum mr_status status = mr_results_rewind(results, HALF);
    rig_limit_files(0, false);
    uint64_t flushed = mr_results_flushed_seq(results);
    mr_results_close(results);
    return (status == MR_OK && flushed == HALF) || (status == MR_IO && flushed == ROWS);
}

static void every_write_may_be_the_last(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_buf file;
    mr_buf_init(&file, 64u << 20);
    struct rig_read all;
    struct rig_read half;
    rig_read_init(&all);
    rig_read_init(&half);
    build(&dir, &file, &all, &half);
    struct limited limited = {.options = rig_options(&dir)};
    for (int kills = 0; kills < 2; kills++) {
        uint64_t undone = 0;
        bool done = false;
        limited.kills = kills == 1;
        for (limited.bytes = CUT_STEP; !done; limited.bytes += CUT_STEP) {
            rig_file_write(&dir, mr_buf_bytes(&file));
            bool lived =
                kills == 1 ? rig_survives(rewind_limited, &limited) : rewind_limited(&limited);
            assert_true(lived || kills == 1);
            struct mr_results *results = rig_open(&limited.options);
            check_and_go_back(&dir, results, &all, &half, &done);
            assert_true(done == lived || kills == 0);
            undone += !done;
            mr_results_close(results);
        }
        assert_true(undone > 15);
    }
    rig_read_finish(&all);
    rig_read_finish(&half);
    mr_buf_finish(&file);
    rig_dir_finish(&dir);
}

static void memory_runs_out_at_every_allocation(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    build_aside(&dir, MR_BYTES("x"));
    const struct mr_results_sqlite_options options = rig_options(&dir);
    struct mr_results *results = rig_open(&options);
    assert_int_equal(mr_results_rewind(results, HALF + 1), MR_OK); /* not before it */
    rig_assert_query(&dir, "SELECT count(*) FROM \"ad_views:19\"", "5\n");
    for (uint64_t seq = HALF + 2; seq <= ROWS; seq++) {
        flush_bundle(results, seq);
    }
    enum mr_status status = MR_NO_MEMORY;
    size_t failures = 0;
    while (status == MR_NO_MEMORY) {
        assert_int_equal(mr_results_flushed_seq(results), ROWS);
        rig_assert_query(&dir, "SELECT count(*) FROM \"ad_views:19\"", "5\n");
        mr_alloc_fail_at(failures + 1, 1);
        status = mr_results_rewind(results, HALF);
        mr_alloc_fail_at(0, 0);
        if (status != MR_OK) {
            assert_non_null(strstr(mr_results_error_text(results), "out of memory"));
            failures++;
        }
    }
    assert_int_equal(status, MR_OK);
    assert_true(failures > RIG_RULES);
    assert_int_equal(mr_results_flushed_seq(results), HALF);
    rig_assert_query(&dir, "SELECT name FROM sqlite_schema WHERE name LIKE 'ad_views%'",
                     "ad_views\n");
    mr_results_close(results);
    rig_dir_finish(&dir);
}

static void a_busy_file_is_left_alone(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    struct mr_results *results = rig_open(&options);
    struct mr_results *other = rig_open(&options);
    flush_bundles(results, 1, 2);
    assert_int_equal(mr_results_begin(other), MR_OK);
    assert_int_equal(mr_results_rewind(results, 1), MR_BUSY);
    assert_non_null(strstr(mr_results_error_text(results), "locked"));
    assert_int_equal(mr_results_flushed_seq(results), 2);
    mr_results_rollback(other);
    assert_int_equal(mr_results_rewind(results, 1), MR_OK);
    mr_results_close(other);
    mr_results_close(results);
    rig_dir_finish(&dir);
}

static void the_memory_store_fails_by_plan(void **state) {
    (void)state;
    for (int after = 0; after < 2; after++) {
        struct mr_results *results = open_memory();
        flush_bundles(results, 1, 4);
        mr_memory_results_fail(results, &(struct mr_memory_failure){.ops = MR_MEMORY_WRITES,
                                                                    .nth = 1,
                                                                    .after = after != 0,
                                                                    .status = MR_NO_SPACE});
        assert_int_equal(mr_results_rewind(results, 2), MR_NO_SPACE);
        assert_int_equal(mr_results_flushed_seq(results), after != 0 ? 2 : 4);
        assert_int_equal(mr_results_rewind(results, 2), MR_OK);
        assert_int_equal(mr_results_flushed_seq(results), 2);
        mr_results_close(results);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replay_makes_the_rest_again),
        cmocka_unit_test(what_is_left_survives_an_open),
        cmocka_unit_test(missing_ids_are_not_counted),
        cmocka_unit_test(a_read_keeps_its_snapshot),
        cmocka_unit_test(rules_that_are_gone_stay),
        cmocka_unit_test(every_write_may_be_the_last),
        cmocka_unit_test(memory_runs_out_at_every_allocation),
        cmocka_unit_test(a_busy_file_is_left_alone),
        cmocka_unit_test(the_memory_store_fails_by_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
