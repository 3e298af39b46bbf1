/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what the SQLite store does with rules that began anew:
 *   1. the old table stays with its rows under the name of its generation, the new one is empty, has the new shape, and
 *      takes panes; again and again; a second open changes nothing;
 *   2. panes of the old shape stay in the outbox under that name: nobody reads them as panes of the new shape, and ids
 *      go on;
 *   3. a rule that is gone keeps its table untouched; it comes back as it was, or anew;
 *   4. an older generation than that of the file, and the newer one after it, find their rows, panes and ids as they
 *      left them, over and over, byte for byte; one that was never there is empty;
 *   5. another shape of the same generation, also of one that is aside, is refused, and changes nothing;
 *   6. a rewind drops the generations that are aside and later, and no others;
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

static const char tables[] =
    "SELECT name FROM sqlite_schema WHERE name LIKE 'ad_views%' ORDER BY name";

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
        rules.list[0].shape = MR_BYTES("window 20000 ms");
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
static void view_init(struct rig_pane *p, uint64_t generation, uint64_t seq, int64_t value) {
    rig_pane_simple(p, 0, 3, seq, value);
    if (generation > 0) {
        mr_buf_clear(&p->key);
        rig_key(&p->key, 1, 3);
        p->pane.key = mr_buf_bytes(&p->key);
        p->pane.number_count = 1;
        p->pane.window_end_ms = p->pane.window_start_ms + 20000;
    }
}

static void store_view(struct mr_results *results, uint64_t generation, uint64_t seq,
                       int64_t value) {
    struct rig_pane pane;
    view_init(&pane, generation, seq, value);
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
                     "open_from_ms:ad_views|9223372036854775807\n"
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

/* What the store itself gives: the rule's rows and the outbox, which has `total` as well. */
static void assert_reads(struct mr_results *results, uint64_t rows, uint64_t panes) {
    struct rig_read read;
    rig_read_init(&read);
    assert_int_equal(rig_count(results, 0), rows);
    rig_read_outbox(results, 0, &read);
    assert_int_equal(read.count, panes);
    rig_read_finish(&read);
}

static void finalize_views(struct mr_results *results, uint64_t seq) {
    assert_int_equal(mr_results_begin(results), MR_OK);
    assert_int_equal(mr_results_finalize(results, 0, INT64_MAX), MR_OK);
    assert_int_equal(mr_results_commit(results, seq), MR_OK);
}

static void back_and_forth_finds_all(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct rules first = rules_of(0);
    struct rules second = rules_of(5);
    struct mr_buf dumps[2];
    mr_buf_init(&dumps[0], 1 << 20);
    mr_buf_init(&dumps[1], 1 << 20);
    struct mr_results *results = open_with(&dir, &first, RIG_RULES);
    store_view(results, 0, 1, 10);
    store_view(results, 0, 2, 11);
    store_total(results, 3);
    finalize_views(results, 4);
    mr_results_close(results);
    results = open_with(&dir, &second, RIG_RULES);
    store_view(results, 5, 6, 60);
    mr_results_close(results);
    read_file(&dir, &dumps[0]);
    for (int i = 0; i < 3; i++) {
        results = open_with(&dir, &first, RIG_RULES);
        assert_int_equal(mr_results_flushed_seq(results), 6);
        assert_reads(results, 1, 3);
        mr_results_close(results);
        rig_assert_query(&dir, "SELECT views,revision,final FROM ad_views", "11|2|1\n");
        rig_assert_query(&dir, "SELECT clicks,revision,final FROM \"ad_views:5\"", "60|6|0\n");
        rig_assert_query(&dir, "SELECT id,rule FROM panes",
                         "1|ad_views\n2|ad_views\n3|total\n4|ad_views:5\n");
        results = open_with(&dir, &second, RIG_RULES);
        assert_reads(results, 1, 2);
        mr_results_close(results);
        read_file(&dir, &dumps[1]);
        assert_true(mr_bytes_equal(mr_buf_bytes(&dumps[0]), mr_buf_bytes(&dumps[1])));
    }
    results = open_with(&dir, &first, RIG_RULES); /* and each goes on from where it was */
    store_view(results, 0, 7, 70);
    mr_results_close(results);
    results = open_with(&dir, &second, RIG_RULES);
    store_view(results, 5, 8, 80);
    finalize_views(results, 9);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT views,revision,final FROM \"ad_views:0\"", "70|7|1\n");
    rig_assert_query(&dir, "SELECT clicks,revision,final FROM ad_views", "80|8|1\n");
    rig_assert_query(&dir, "SELECT id,rule FROM panes WHERE id>3",
                     "4|ad_views\n5|ad_views:0\n6|ad_views\n");
    struct rules between = rules_of(3); /* never there */
    results = open_with(&dir, &between, RIG_RULES);
    assert_reads(results, 0, 1);
    mr_results_close(results);
    rig_assert_query(&dir, tables, "ad_views\nad_views:0\nad_views:5\n");
    mr_buf_finish(&dumps[0]);
    mr_buf_finish(&dumps[1]);
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
    struct rules other = rules_of(7);
    other.list[0].shape = MR_BYTES("window 30000 ms");
    must_refuse(&dir, &other, MR_MISMATCH,
                "/results.db: shape:ad_views is window 20000 ms keys(\"country\") "
                "metrics(\"clicks\") in the file, "
                "window 30000 ms keys(\"country\") metrics(\"clicks\") is needed: give the changed "
                "rule another "
                "name, or move the file away");
    struct rules back = rules_of(0); /* brought back, it does not fit */
    back.list[0].shape = MR_BYTES("window 30000 ms");
    must_refuse(&dir, &back, MR_MISMATCH, "shape:ad_views is window 10000 ms");
    struct rules cased = rules_of(8); /* SQLite finds it, though it is another rule */
    cased.list[0].name = MR_BYTES("AD_views");
    must_refuse(&dir, &cased, MR_CORRUPT, "already exists");
    struct rules half = rules_of(8); /* the first rule would be moved, the second one is refused */
    half.list[1].shape = MR_BYTES("window 60001 ms");
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

static void a_rewind_drops_later_generations(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    static const uint64_t generations[] = {0, 7, 9, 12};
    for (uint64_t i = 0; i < 4; i++) {
        struct rules rules = rules_of(generations[i]);
        struct mr_results *results = open_with(&dir, &rules, RIG_RULES);
        store_view(results, generations[i], generations[i] + 1, (int64_t)i);
        mr_results_close(results);
    }
    static const struct {
        uint64_t seq;
        const char *tables;
        const char *panes;
    } steps[] = {
        {13, "ad_views\nad_views:0\nad_views:7\nad_views:9\n",
         "1|ad_views:0\n2|ad_views:7\n3|ad_views:9\n4|ad_views\n"},
        {9, "ad_views\nad_views:0\nad_views:7\nad_views:9\n",
         "1|ad_views:0\n2|ad_views:7\n3|ad_views:9\n"}, /* it began with 9 */
        {8, "ad_views\nad_views:0\nad_views:7\n", "1|ad_views:0\n2|ad_views:7\n"},
        {0, "ad_views\nad_views:0\n", "1|ad_views:0\n"},
    };
    struct rules rest = {{rig_rules[1], rig_rules[2]}};
    struct mr_results *gone = open_with(&dir, &rest, 2); /* is about other rules */
    assert_int_equal(mr_results_rewind(gone, 13), MR_OK);
    mr_results_close(gone);
    struct rules last = rules_of(12);
    struct mr_results *results = open_with(&dir, &last, RIG_RULES);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(mr_results_rewind(results, steps[i].seq), MR_OK);
        rig_assert_query(&dir, tables, steps[i].tables);
        rig_assert_query(&dir, "SELECT id,rule FROM panes", steps[i].panes);
    }
    assert_int_equal(rig_count(results, 0), 0);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT views FROM \"ad_views:0\"", "0\n");
    rig_assert_query(&dir, meta,
                     "generation:ad_views|12\n"
                     "generation:ad_views:0|0\n"
                     "open_from_ms:ad_views|9223372036854775807\n"
                     "open_from_ms:ad_views:0|1700000040000\n"
                     "shape:ad_views|window 20000 ms keys(\"country\") metrics(\"clicks\")\n"
                     "shape:ad_views:0|window 10000 ms keys(\"campaign_id\",\"data.country\") "
                     "metrics(\"views\",\"spend\",\"avg-price\")\n");
    rig_dir_finish(&dir);
}

/* Failures: a file with many panes, so that moving them writes many pages; moving on to generation 7, and back to 0
 * with both in the file. */

enum { PANES = 40, CUT_FROM = 33001, CUT_STEP = 20011 }; /* SQLite itself needs files of 32 KiB */

struct way {
    uint64_t to;
    const char *tables[2]; /* undone, done */
    const char *panes[2];
    const char *meta[2];
    const char *revisions; /* of the rule's rows when done */
};

static const struct way ways[] = {
    {7,
     {"ad_views\n", "ad_views\nad_views:0\n"},
     {"ad_views|40\n", "ad_views:0|40\n"},
     {"ad_views|0\n", "ad_views|7\nad_views:0|0\n"},
     ""},
    {0,
     {"ad_views\nad_views:0\n", "ad_views\nad_views:7\n"},
     {"ad_views|40\nad_views:0|40\n", "ad_views|40\nad_views:7|40\n"},
     {"ad_views|7\nad_views:0|0\n", "ad_views|0\nad_views:7|7\n"},
     "40\n"},
};

static void build_generation(const struct rig_dir *dir, uint64_t generation, uint64_t first) {
    static uint8_t big[3000];
    struct rules rules = rules_of(generation);
    struct mr_results *results = open_with(dir, &rules, RIG_RULES);
    for (uint64_t seq = first; seq < first + PANES; seq++) {
        struct rig_pane pane;
        view_init(&pane, generation, seq, (int64_t)seq);
        pane.pane.state = mr_bytes_of(big, sizeof big);
        rig_store(results, &pane.pane, 1, seq);
        rig_pane_finish(&pane);
    }
    mr_results_close(results);
}

static void build(const struct rig_dir *dir, const struct way *way, struct mr_buf *ret) {
    rig_file_write(dir, MR_BYTES(""));
    build_generation(dir, 0, 1);
    if (way->to == 0) {
        build_generation(dir, 7, PANES + 1);
    }
    mr_buf_clear(ret);
    rig_file_read(dir, ret);
}

static void check(const struct rig_dir *dir, const struct way *way, bool done) {
    rig_assert_query(dir, tables, way->tables[done]);
    rig_assert_query(dir, "SELECT rule,count(*) FROM panes GROUP BY rule", way->panes[done]);
    rig_assert_query(dir,
                     "SELECT substr(name,12),value FROM millrace_meta "
                     "WHERE name LIKE 'generation:ad_views%' ORDER BY name",
                     way->meta[done]);
    if (done) {
        rig_assert_query(dir, "SELECT revision FROM ad_views", way->revisions);
    }
}

/* Nothing or all of it is there; then a new open does it. */
static void check_and_move(const struct rig_dir *dir, const struct way *way, bool done) {
    check(dir, way, done);
    struct rules rules = rules_of(way->to);
    struct mr_results *results = open_with(dir, &rules, RIG_RULES);
    assert_int_equal(mr_results_flushed_seq(results), way->to == 0 ? 2 * PANES : PANES);
    mr_results_close(results);
    check(dir, way, true);
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

static bool is_moved(const struct rig_dir *dir, const struct way *way) {
    struct mr_buf rows;
    mr_buf_init(&rows, 4096);
    static const char sql[] = "SELECT value FROM millrace_meta WHERE name='generation:ad_views'";
    assert_int_equal(mr_results_sqlite_query(dir->path, sql, &rows, NULL), MR_OK);
    bool moved = rows.ptr[0] == '0' + way->to;
    mr_buf_finish(&rows);
    return moved;
}

static void every_write_may_be_the_last(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_buf file;
    mr_buf_init(&file, 64u << 20);
    for (int i = 0; i < 4; i++) {
        const struct way *way = &ways[i / 2];
        struct rules rules = rules_of(way->to);
        struct limited limited = {.options = rig_options(&dir), .kills = i % 2 == 1};
        limited.options.rules = rules.list;
        build(&dir, way, &file);
        uint64_t undone = 0;
        bool done = false;
        for (limited.bytes = CUT_FROM; !done; limited.bytes += CUT_STEP) {
            rig_file_write(&dir, mr_buf_bytes(&file));
            bool lived =
                limited.kills ? rig_survives(open_limited, &limited) : open_limited(&limited);
            assert_true(lived || limited.kills);
            done = is_moved(&dir, way);
            check_and_move(&dir, way, done);
            undone += !done;
        }
        assert_true(undone > 5);
    }
    mr_buf_finish(&file);
    rig_dir_finish(&dir);
}

static void memory_runs_out_while_it_moves(const struct rig_dir *dir, const struct way *way) {
    struct rules rules = rules_of(way->to);
    struct mr_results_sqlite_options options = rig_options(dir);
    options.rules = rules.list;
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
            bool moved = is_moved(dir, way);
            check(dir, way, moved);
            assert_true(!moved || before > 15); /* once it is done, it stays done */
            before += !moved;
            failures++;
        }
    }
    assert_int_equal(status, MR_OK);
    mr_results_close(results);
    check_and_move(dir, way, true);
}

static void memory_runs_out_at_every_allocation(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_buf file;
    mr_buf_init(&file, 64u << 20);
    for (int i = 0; i < 2; i++) {
        build(&dir, &ways[i], &file);
        memory_runs_out_while_it_moves(&dir, &ways[i]);
    }
    mr_buf_finish(&file);
    rig_dir_finish(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rule_begins_anew),
        cmocka_unit_test(a_rule_that_is_gone_comes_back),
        cmocka_unit_test(back_and_forth_finds_all),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(a_rewind_drops_later_generations),
        cmocka_unit_test(every_write_may_be_the_last),
        cmocka_unit_test(memory_runs_out_at_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
