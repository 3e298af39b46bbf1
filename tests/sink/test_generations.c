/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what the SQLite store does with rules that began anew:
 *   1. the old table stays with its rows under the name of its generation, the new one is empty, has the new shape, and
 *      takes panes; again and again; a second open changes nothing;
 *   2. panes of the old shape stay in the outbox under that name: nobody reads them as panes of the new shape, and ids
 *      go on;
 *   3. names that are moved out of the way keep out of the way with a generation, too;
 *   4. a rule that is gone keeps its table untouched; it comes back as it was, or anew;
 *   5. a newer generation in the file, and another shape of the same one, are refused, and change nothing;
 *   6. a rewind leaves older generations alone;
 *   7. with a write failing, the process killed in the middle of one, or an allocation failing: all or nothing is
 *      there, and the next open does it.
 */
#include "tests/sink/results_rig.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define NAME(text)                                                                                 \
    { (const uint8_t *)(text), sizeof(text) - 1 }

static const struct mr_bytes other_keys[] = {NAME("country")};
static const struct mr_bytes other_metrics[] = {NAME("clicks")};

static const char schema[] = "SELECT name,sql FROM sqlite_schema ORDER BY name";
static const char meta[] =
    "SELECT name,value FROM millrace_meta WHERE name LIKE '%ad_views%' ORDER BY name";

/* The rig's rules, of which ad_views has that generation, and with it another shape. */
struct rules {
    struct mr_results_rule list[RIG_RULES];
};

static struct rules rules_of(uint64_t generation) {
    struct rules rules = {{rig_rules[0], rig_rules[1], rig_rules[2]}};
    if (generation > 0) {
        rules.list[0].key_names = other_keys;
        rules.list[0].key_count = 1;
        rules.list[0].metric_names = other_metrics;
        rules.list[0].metric_count = 1;
        rules.list[0].window_size_ms = 20000;
        rules.list[0].generation = generation;
    }
    return rules;
}

static struct mr_results *open_with(const struct rig_dir *dir, const struct rules *rules,
                                    uint32_t rule_count) {
    struct mr_results_sqlite_options options = rig_options(dir);
    options.rules = rules->list;
    options.rule_count = rule_count;
    return rig_open(&options);
}

static void must_refuse(const struct rig_dir *dir, const struct rules *rules, enum mr_status want,
                        const char *part) {
    struct mr_results_sqlite_options options = rig_options(dir);
    struct mr_results *results = NULL;
    struct mr_error error = {0};
    options.rules = rules->list;
    assert_int_equal(mr_results_sqlite_open(&options, &results, &error), want);
    assert_null(results);
    if (strstr(error.text, part) == NULL) {
        fail_msg("no \"%s\" in \"%s\"", part, error.text);
    }
}

/* One pane for ad_views, of the shape of that generation. */
static void store_view(struct mr_results *results, uint64_t generation, uint64_t seq,
                       int64_t value) {
    struct rig_pane pane;
    rig_pane_simple(&pane, 0, 3, seq, value);
    if (generation > 0) {
        mr_buf_clear(&pane.key);
        rig_key(&pane.key, 1, 3);
        pane.pane.key = mr_buf_bytes(&pane.key);
        pane.pane.number_count = 1;
        pane.pane.window_end_ms = pane.pane.window_start_ms + 20000;
    }
    rig_store(results, &pane.pane, 1, seq);
    rig_pane_finish(&pane);
}

static void store_total(struct mr_results *results, uint64_t seq) {
    struct rig_pane pane;
    rig_pane_simple(&pane, 2, 0, seq, (int64_t)seq);
    rig_store(results, &pane.pane, 1, seq);
    rig_pane_finish(&pane);
}

/* What the whole file says. */
static void read_file(const struct rig_dir *dir, struct mr_buf *ret) {
    mr_buf_clear(ret);
    assert_int_equal(mr_results_sqlite_query(dir->path, schema, ret, NULL), MR_OK);
    assert_int_equal(
        mr_results_sqlite_query(dir->path, "SELECT * FROM millrace_meta ORDER BY name", ret, NULL),
        MR_OK);
    assert_int_equal(mr_results_sqlite_query(dir->path, "SELECT * FROM panes", ret, NULL), MR_OK);
}

static void a_rule_begins_anew(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct rules first = rules_of(0);
    struct mr_results *results = open_with(&dir, &first, RIG_RULES);
    store_view(results, 0, 1, 10);
    store_total(results, 2);
    mr_results_close(results);

    struct rules second = rules_of(7);
    results = open_with(&dir, &second, RIG_RULES);
    assert_int_equal(mr_results_flushed_seq(results), 2);
    assert_int_equal(rig_count(results, 0), 0);
    assert_int_equal(rig_count(results, 2), 1);
    struct rig_read read;
    rig_read_init(&read);
    rig_read_outbox(results, 0, &read); /* the one of `total` only */
    assert_int_equal(read.count, 1);
    store_view(results, 7, 3, 30);
    assert_int_equal(rig_count(results, 0), 1);
    rig_read_outbox(results, 0, &read);
    assert_int_equal(read.count, 2);
    rig_read_finish(&read);
    assert_int_equal(mr_results_begin(results), MR_OK);
    assert_int_equal(mr_results_finalize(results, 0, INT64_MAX),
                     MR_OK); /* from its own beginning */
    assert_int_equal(mr_results_commit(results, 4), MR_OK);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT views,revision,final FROM \"ad_views:0\"", "10|1|0\n");
    rig_assert_query(&dir, "SELECT country,clicks,revision,final FROM ad_views", "17|30|3|1\n");
    rig_assert_query(&dir, "SELECT id,rule,revision FROM panes",
                     "1|ad_views:0|1\n2|total|2\n3|ad_views|3\n");
    rig_assert_query(&dir, meta,
                     "generation:ad_views|7\n"
                     "generation:ad_views:0|0\n"
                     "open_from_ms:ad_views|9223372036854755808\n"
                     "open_from_ms:ad_views:0|1700000040000\n"
                     "shape:ad_views|window 20000 ms keys(\"country\") metrics(\"clicks\")\n"
                     "shape:ad_views:0|window 10000 ms keys(\"campaign_id\",\"data.country\") "
                     "metrics(\"views\",\"spend\",\"avg-price\")\n");

    struct mr_buf before;
    struct mr_buf after;
    mr_buf_init(&before, 1 << 20);
    mr_buf_init(&after, 1 << 20);
    read_file(&dir, &before);
    mr_results_close(open_with(&dir, &second, RIG_RULES));
    read_file(&dir, &after);
    assert_true(mr_bytes_equal(mr_buf_bytes(&before), mr_buf_bytes(&after)));
    mr_buf_finish(&before);
    mr_buf_finish(&after);

    struct rules third = rules_of(9); /* the same shape: anew all the same */
    results = open_with(&dir, &third, RIG_RULES);
    store_view(results, 9, 5, 50);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT clicks FROM ad_views", "50\n");
    rig_assert_query(&dir, "SELECT clicks FROM \"ad_views:7\"", "30\n");
    rig_assert_query(&dir, "SELECT views FROM \"ad_views:0\"", "10\n");
    rig_assert_query(&dir, "SELECT id,rule FROM panes",
                     "1|ad_views:0\n2|total\n3|ad_views:7\n4|ad_views\n");
    rig_dir_finish(&dir);
}

/* The names of rules, and of the table that generation 0 of them gets. */
static const struct {
    struct mr_bytes name;
    const char *table;
} odd_names[] = {
    {NAME("panes"), "rule:panes:0"},           {NAME("millrace_meta"), "rule:millrace_meta:0"},
    {NAME("sqlite_x"), "rule:sqlite_x:0"},     {NAME("rule"), "rule:0"},
    {NAME("rule:panes"), "rule:rule:panes:0"}, {NAME("0"), "0:0"},
    {NAME("say \"hi\""), "say \"hi\":0"},      {NAME("it's"), "it's:0"},
};

enum { ODD_NAMES = sizeof odd_names / sizeof odd_names[0] };

static void odd_names_keep_out_of_the_way(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_results_rule rules[ODD_NAMES];
    struct mr_results_sqlite_options options = rig_options(&dir);
    options.rules = rules;
    options.rule_count = ODD_NAMES;
    for (uint64_t generation = 0; generation < 3; generation++) {
        for (int i = 0; i < ODD_NAMES; i++) {
            rules[i] = rig_rules[2];
            rules[i].name = odd_names[i].name;
            rules[i].generation = generation;
        }
        struct mr_results *results = rig_open(&options);
        for (uint32_t i = 0; i < ODD_NAMES; i++) {
            struct rig_pane pane;
            uint64_t seq = mr_results_flushed_seq(results) + 1;
            rig_pane_simple(&pane, 2, 0, seq, (int64_t)(100 * generation + i));
            pane.pane.rule = i;
            rig_store(results, &pane.pane, 1, seq);
            rig_pane_finish(&pane);
            assert_int_equal(rig_count(results, i), 1);
        }
        mr_results_close(results);
    }
    for (int i = 0; i < ODD_NAMES; i++) {
        struct mr_buf sql;
        mr_buf_init(&sql, 4096);
        mr_buf_append_text(&sql, "SELECT n FROM \"");
        for (const char *c = odd_names[i].table; *c != 0; c++) {
            mr_buf_append_text(&sql, *c == '"' ? "\"" : "");
            mr_buf_append_char(&sql, *c);
        }
        mr_buf_append_text(&sql, "\"");
        mr_buf_append_char(&sql, 0);
        char want[16];
        (void)snprintf(want, sizeof want, "%d\n", i);
        rig_assert_query(&dir, (const char *)sql.ptr, want);
        mr_buf_finish(&sql);
    }
    rig_assert_query(&dir, "SELECT count(*) FROM sqlite_schema WHERE type='table'", "26\n");
    rig_assert_query(&dir, "SELECT rule FROM panes WHERE id IN(1,9,17)",
                     "panes:0\npanes:1\npanes\n");
    rig_dir_finish(&dir);
}

static void a_rule_that_is_gone_comes_back(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct rules first = rules_of(0);
    struct mr_results *results = open_with(&dir, &first, RIG_RULES);
    store_view(results, 0, 1, 10);
    mr_results_close(results);
    struct rules rest = {{rig_rules[1], rig_rules[2]}};
    results = open_with(&dir, &rest, 2);
    rig_store(results, NULL, 0, 2);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT views,final FROM ad_views", "10|0\n");

    results = open_with(&dir, &first, RIG_RULES); /* as it was */
    assert_int_equal(rig_count(results, 0), 1);
    store_view(results, 0, 3, 11);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT views,revision FROM ad_views", "11|3\n");

    mr_results_close(open_with(&dir, &rest, 2));
    struct rules second = rules_of(4);
    results = open_with(&dir, &second, RIG_RULES); /* anew */
    assert_int_equal(rig_count(results, 0), 0);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT views FROM \"ad_views:0\"", "11\n");
    rig_dir_finish(&dir);
}

static void contradictions_are_refused(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct rules first = rules_of(0);
    struct rules second = rules_of(7);
    mr_results_close(open_with(&dir, &first, RIG_RULES));
    struct mr_results *results = open_with(&dir, &second, RIG_RULES);
    store_view(results, 7, 1, 10);
    mr_results_close(results);
    struct mr_buf before;
    struct mr_buf after;
    mr_buf_init(&before, 1 << 20);
    mr_buf_init(&after, 1 << 20);
    read_file(&dir, &before);
    must_refuse(&dir, &first, MR_MISMATCH,
                "/results.db: rule ad_views is of generation 7 in the file, 0 is needed: the file "
                "is newer than the "
                "log; put back the log it belongs to, or move the file away and have its results "
                "made again from the "
                "log");
    struct rules older = rules_of(6);
    must_refuse(&dir, &older, MR_MISMATCH,
                "rule ad_views is of generation 7 in the file, 6 is needed");
    struct rules other = rules_of(7);
    other.list[0].window_size_ms = 30000;
    must_refuse(&dir, &other, MR_MISMATCH,
                "/results.db: shape:ad_views is window 20000 ms keys(\"country\") "
                "metrics(\"clicks\") in the file, "
                "window 30000 ms keys(\"country\") metrics(\"clicks\") is needed: give the changed "
                "rule another "
                "name, or move the file away");
    struct rules half = rules_of(8); /* the first rule would be moved, the second one is refused */
    half.list[1].window_size_ms++;
    must_refuse(&dir, &half, MR_MISMATCH, "shape:panes is");
    struct rules named = rules_of(7);
    named.list[1].name = MR_BYTES("ad_views:0");
    must_refuse(&dir, &named, MR_INVALID,
                "rule 1: no table can have the name \"ad_views:0\" (empty, with NUL, or that of "
                "another rule or "
                "generation)");
    read_file(&dir, &after);
    assert_true(mr_bytes_equal(mr_buf_bytes(&before), mr_buf_bytes(&after)));
    mr_buf_finish(&before);
    mr_buf_finish(&after);
    rig_dir_finish(&dir);
}

static void a_rewind_leaves_older_generations(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct rules first = rules_of(0);
    struct rules second = rules_of(7);
    struct mr_results *results = open_with(&dir, &first, RIG_RULES);
    store_view(results, 0, 5, 10);
    mr_results_close(results);
    results = open_with(&dir, &second, RIG_RULES);
    store_view(results, 7, 6, 20);
    assert_int_equal(mr_results_rewind(results, 4), MR_OK);
    assert_int_equal(rig_count(results, 0), 0);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT views FROM \"ad_views:0\"", "10\n");
    rig_assert_query(&dir, "SELECT id,rule FROM panes", "1|ad_views:0\n");
    rig_dir_finish(&dir);
}

/* Failures: a file with many panes, so that moving them writes many pages. */

enum { PANES = 40, CUT_FROM = 33001, CUT_STEP = 20011 }; /* SQLite itself needs files of 32 KiB */

static void build(const struct rig_dir *dir, struct mr_buf *ret) {
    static uint8_t big[3000];
    struct rules first = rules_of(0);
    struct mr_results *results = open_with(dir, &first, RIG_RULES);
    for (uint64_t seq = 1; seq <= PANES; seq++) {
        struct rig_pane pane;
        rig_pane_simple(&pane, 0, 3, seq, (int64_t)seq);
        pane.pane.state = mr_bytes_of(big, sizeof big);
        rig_store(results, &pane.pane, 1, seq);
        rig_pane_finish(&pane);
    }
    mr_results_close(results);
    rig_file_read(dir, ret);
}

/* Nothing or all of it is there; then a new open does it. */
static void check_and_move(const struct rig_dir *dir, bool done) {
    static const char tables[] =
        "SELECT name FROM sqlite_schema WHERE name LIKE 'ad_views%' ORDER BY name";
    static const char rules[] = "SELECT rule,count(*) FROM panes GROUP BY rule";
    rig_assert_query(dir, tables, done ? "ad_views\nad_views:0\n" : "ad_views\n");
    rig_assert_query(dir, rules, done ? "ad_views:0|40\n" : "ad_views|40\n");
    struct rules second = rules_of(7);
    struct mr_results *results = open_with(dir, &second, RIG_RULES);
    assert_int_equal(mr_results_flushed_seq(results), PANES);
    assert_int_equal(rig_count(results, 0), 0);
    mr_results_close(results);
    rig_assert_query(dir, tables, "ad_views\nad_views:0\n");
    rig_assert_query(dir, rules, "ad_views:0|40\n");
    rig_assert_query(dir, "SELECT views FROM \"ad_views:0\"", "40\n");
}

struct limited {
    struct mr_results_sqlite_options options;
    uint64_t bytes; /* that files may have */
    bool kills;
};

/* Whether the store was opened, or not as it should. */
static bool open_limited(void *ctx) {
    const struct limited *limited = ctx;
    struct mr_results *results = NULL;
    struct mr_error error = {0};
    rig_limit_files(limited->bytes, limited->kills);
    enum mr_status status = mr_results_sqlite_open(&limited->options, &results, &error);
    rig_limit_files(0, false);
    mr_results_close(results);
    return status == MR_OK || (status == MR_IO && error.text[0] != 0);
}

static bool is_moved(const struct rig_dir *dir) {
    struct mr_buf rows;
    mr_buf_init(&rows, 4096);
    static const char sql[] = "SELECT 1 FROM sqlite_schema WHERE name='ad_views:0'";
    assert_int_equal(mr_results_sqlite_query(dir->path, sql, &rows, NULL), MR_OK);
    bool moved = rows.len > 0;
    mr_buf_finish(&rows);
    return moved;
}

static void every_write_may_be_the_last(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_buf file;
    mr_buf_init(&file, 64u << 20);
    build(&dir, &file);
    struct rules second = rules_of(7);
    struct limited limited = {.options = rig_options(&dir)};
    limited.options.rules = second.list;
    for (int kills = 0; kills < 2; kills++) {
        uint64_t undone = 0;
        bool done = false;
        limited.kills = kills == 1;
        for (limited.bytes = CUT_FROM; !done; limited.bytes += CUT_STEP) {
            rig_file_write(&dir, mr_buf_bytes(&file));
            bool lived = kills == 1 ? rig_survives(open_limited, &limited) : open_limited(&limited);
            assert_true(lived || kills == 1);
            done = is_moved(&dir);
            check_and_move(&dir, done);
            undone += !done;
        }
        assert_true(undone > 5);
    }
    mr_buf_finish(&file);
    rig_dir_finish(&dir);
}

static void memory_runs_out_at_every_allocation(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_buf file;
    mr_buf_init(&file, 64u << 20);
    build(&dir, &file);
    struct rules second = rules_of(7);
    struct mr_results_sqlite_options options = rig_options(&dir);
    options.rules = second.list;
    struct mr_results *results = NULL;
    enum mr_status status = MR_NO_MEMORY;
    size_t failures = 0;
    size_t before = 0; /* of those, how many left the file as it was */
    while (status == MR_NO_MEMORY) {
        struct mr_error error = {0};
        mr_alloc_fail_at(failures + 1, 1);
        status = mr_results_sqlite_open(&options, &results, &error);
        mr_alloc_fail_at(0, 0);
        if (status != MR_OK) {
            assert_int_equal(error.status, MR_NO_MEMORY);
            assert_int_not_equal(error.text[0], 0);
            bool moved = is_moved(&dir);
            assert_true(!moved || before > 15); /* once it is done, it stays done */
            before += !moved;
            failures++;
        }
    }
    assert_int_equal(status, MR_OK);
    mr_results_close(results);
    check_and_move(&dir, true);
    mr_buf_finish(&file);
    rig_dir_finish(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rule_begins_anew),
        cmocka_unit_test(odd_names_keep_out_of_the_way),
        cmocka_unit_test(a_rule_that_is_gone_comes_back),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(a_rewind_leaves_older_generations),
        cmocka_unit_test(every_write_may_be_the_last),
        cmocka_unit_test(memory_runs_out_at_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
