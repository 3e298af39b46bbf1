/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what the SQLite store promises beyond the interface (test_results.c has that):
 *   1. a person with sqlite3 sees every kind of value in the right column and type, while the store
 * runs;
 *   2. files that are not ours, of another log, format or rule are refused with a text, and
 * unchanged;
 *   3. a full, busy or failing file ends the transaction and changes nothing; later it goes on;
 *   4. a process that ends in the middle of a transaction leaves the last commit;
 *   5. the outbox is pruned in steps, and its ids are never used again.
 */
#include "tests/sink/results_rig.h"

#include "base/alloc.h"
#include "base/key.h"
#include "sink/sqlite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static void must_refuse(const struct mr_results_sqlite_options *options, enum mr_status want,
                        const char *part) {
    struct mr_results *results = NULL;
    struct mr_error error = {0};
    assert_int_equal(mr_results_sqlite_open(options, &results, &error), want);
    assert_null(results);
    if (strstr(error.text, part) == NULL) {
        fail_msg("no \"%s\" in \"%s\"", part, error.text);
    }
}

static void write_file(const char *path, const void *bytes, size_t len) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

#define TEXT(literal)                                                                              \
    { (const uint8_t *)(literal), sizeof(literal) - 1 }

static const struct {
    struct mr_key_value value;
    const char *seen; /* typeof, hex of the text */
} key_values[] = {
    {{MR_KEY_NULL, {NULL, 0}}, "null|\n"},
    {{MR_KEY_TRUE, {NULL, 0}}, "integer|31\n"},
    {{MR_KEY_FALSE, {NULL, 0}}, "integer|30\n"},
    {{MR_KEY_NUMBER, TEXT("17")}, "integer|3137\n"},
    {{MR_KEY_NUMBER, TEXT("0")}, "integer|30\n"},
    {{MR_KEY_NUMBER, TEXT("-5")}, "integer|2D35\n"},
    {{MR_KEY_NUMBER, TEXT("-0")}, "text|2D30\n"},
    {{MR_KEY_NUMBER, TEXT("1.0")}, "text|312E30\n"},
    {{MR_KEY_NUMBER, TEXT("1e3")}, "text|316533\n"},
    {{MR_KEY_NUMBER, TEXT("9223372036854775807")},
     "integer|39323233333732303336383534373735383037\n"},
    {{MR_KEY_NUMBER, TEXT("9223372036854775808")}, "text|39323233333732303336383534373735383038\n"},
    {{MR_KEY_NUMBER, TEXT("-9223372036854775808")},
     "integer|2D39323233333732303336383534373735383038\n"},
    {{MR_KEY_NUMBER, TEXT("-9223372036854775809")},
     "text|2D39323233333732303336383534373735383039\n"},
    {{MR_KEY_NUMBER, TEXT("99999999999999999999")},
     "text|3939393939393939393939393939393939393939\n"},
    {{MR_KEY_STRING, TEXT("17")}, "text|3137\n"},
    {{MR_KEY_STRING, TEXT("")}, "text|\n"},
    {{MR_KEY_STRING, TEXT("a\0b")}, "text|610062\n"},
    {{MR_KEY_STRING, TEXT("\xc3\xbc")}, "text|C3BC\n"},
};

static void key_columns_are_what_was_sent(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    struct mr_results *results = rig_open(&options);
    for (size_t i = 0; i < COUNT(key_values); i++) {
        struct rig_pane pane;
        rig_pane_simple(&pane, 0, 0, i + 1, 1);
        mr_buf_clear(&pane.key);
        mr_key_append(&pane.key, key_values[i].value);
        mr_key_append(&pane.key, key_values[0].value);
        pane.pane.key = mr_buf_bytes(&pane.key);
        rig_store(results, &pane.pane, 1, i + 1);
        rig_pane_finish(&pane);
        char sql[160];
        (void)snprintf(
            sql, sizeof sql,
            "SELECT typeof(campaign_id),hex(campaign_id) FROM ad_views WHERE revision=%zu", i + 1);
        rig_assert_query(&dir, sql, key_values[i].seen);
    }
    struct rig_pane other;
    rig_pane_simple(&other, 0, RIG_KEYS - 1, 99, 1);
    rig_store(results, &other.pane, 1, 99);
    rig_pane_finish(&other);
    rig_assert_query(&dir, "SELECT campaign_id,\"data.country\" FROM ad_views WHERE revision=99",
                     "(other)|(other)\n");
    mr_results_close(results);
    rig_dir_finish(&dir);
}

static void a_person_sees_rows_and_panes(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    struct mr_results *results = rig_open(&options);
    struct rig_pane pane;
    rig_pane_simple(&pane, 0, 3, 7, 12);
    pane.numbers[1] = (struct mr_number){.kind = MR_NUMBER_OVERFLOW, .d = 1e19};
    pane.numbers[2] = (struct mr_number){.kind = MR_NUMBER_NULL};
    rig_store(results, &pane.pane, 1, 7);
    rig_assert_query(
        &dir,
        "SELECT window_start,window_end,window_start_ms,window_end_ms,campaign_id,"
        "\"data.country\",views,typeof(views),typeof(spend),spend=1e19,\"avg-price\",events,"
        "revision,pane,timing,final,hex(_key),hex(_state) FROM ad_views",
        "2023-11-14T22:14:00.000Z|2023-11-14T22:14:10.000Z|1700000040000|1700000050000|17|17|"
        "12|integer|real|1|NULL|1|7|0|ON_TIME|0|6E000231377300023137|0C00000000000000\n");
    pane.pane.timing = MR_TIMING_LATE;
    pane.pane.index = 2;
    pane.pane.revision = 8;
    pane.pane.final = true;
    pane.numbers[0].i = 13;
    rig_store(results, &pane.pane, 1, 9);
    rig_assert_query(&dir, "SELECT views,revision,final FROM ad_views", "13|8|1\n");
    rig_assert_query(
        &dir,
        "SELECT id,rule,window_start_ms,window_end_ms,hex(key),hex(state),events,revision,"
        "pane,timing,final,retraction FROM panes",
        "1|ad_views|1700000040000|1700000050000|6E000231377300023137|0C00000000000000|1|7|"
        "0|ON_TIME|0|0\n"
        "2|ad_views|1700000040000|1700000050000|6E000231377300023137|0C00000000000000|1|8|"
        "2|LATE|1|0\n");
    rig_assert_query(
        &dir,
        "SELECT value FROM millrace_meta WHERE name IN('flushed_seq','format','incarnation')"
        " ORDER BY name",
        "9\n3\n0000000000000abc\n");
    rig_pane_finish(&pane);
    rig_pane_simple(&pane, 1, 3, 10, 4); /* the rule named panes, with columns events and Events */
    rig_store(results, &pane.pane, 1, 10);
    rig_assert_query(&dir,
                     "SELECT \"key0:events\",\"metric0:Events\",\"metric1:_key\",events FROM "
                     "\"rule:panes\"",
                     "17|4|4|1\n");
    rig_pane_finish(&pane);
    mr_results_close(results);
    rig_dir_finish(&dir);
}

static void years_without_a_text_are_null(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    struct mr_results *results = rig_open(&options);
    struct rig_pane pane;
    rig_pane_simple(&pane, 2, 0, 1, 4);
    pane.pane.window_start_ms = INT64_C(253402300799999);
    pane.pane.window_end_ms = pane.pane.window_start_ms + 1000;
    rig_store(results, &pane.pane, 1, 1);
    rig_assert_query(&dir, "SELECT window_start,window_end,n FROM total", "NULL|NULL|4\n");
    rig_pane_finish(&pane);
    mr_results_close(results);
    rig_dir_finish(&dir);
}

static void other_stores_are_refused(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_results_sqlite_options options = rig_options(&dir);
    mr_results_close(rig_open(&options));
    options.incarnation = 0xdef;
    must_refuse(&options, MR_MISMATCH, "another log");
    options.incarnation = 0xabc;
    static const struct mr_bytes wrong[] = {{(const uint8_t *)"other", 5}};
    for (int part = 0; part < 3; part++) {
        struct mr_results_rule rules[RIG_RULES] = {rig_rules[0], rig_rules[1], rig_rules[2]};
        if (part == 0) {
            rules[2].shape = MR_BYTES("window 1001 ms");
        } else if (part == 1) {
            rules[2].metric_names = wrong;
        } else {
            rules[2].key_names = wrong;
            rules[2].key_count = 1;
        }
        options.rules = rules;
        must_refuse(&options, MR_MISMATCH, "changed rule");
    }
    options.rules = rig_rules;
    options.rule_count = 2; /* a rule less is no contradiction, nor is one more */
    mr_results_close(rig_open(&options));
    options.rule_count = RIG_RULES;
    mr_results_close(rig_open(&options));
    rig_dir_finish(&dir);
}

/* A database of 1 KiB with one table: CREATE TABLE t(a). */
static void make_foreign(uint8_t bytes[1024]) {
    static const struct {
        size_t at;
        const char *part;
        size_t len;
    } parts[] = {
        {0, "SQLite format 3\0\x02\0\x01\x01\0\x40\x20\x20\0\0\0\x01\0\0\0\x02", 32},
        {43, "\x01\0\0\0\x04", 5},
        {59, "\x01", 1},
        {95, "\x01\0\x2e\x63\x01\x0d\0\0\0\x01\x01\xdf\0\x01\xdf", 15},
        {479,
         "\x1f\x01\x06\x17\x0f\x0f\x01\x2ftablett\x02"
         "CREATE TABLE t(a)\x0d",
         34},
        {517, "\x02", 1},
    };
    memset(bytes, 0, 1024);
    for (size_t i = 0; i < COUNT(parts); i++) {
        memcpy(bytes + parts[i].at, parts[i].part, parts[i].len);
    }
}

static void a_foreign_database_is_left_alone(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    uint8_t before[1024];
    uint8_t after[1025];
    make_foreign(before);
    write_file(dir.path, before, sizeof before);
    must_refuse(&options, MR_MISMATCH, "something else");
    FILE *file = fopen(dir.path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(after, 1, sizeof after, file), sizeof before);
    assert_int_equal(fclose(file), 0);
    assert_memory_equal(before, after, sizeof before);
    rig_dir_finish(&dir);
}

static void files_that_are_not_ours_are_refused(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    char garbage[3000];
    memset(garbage, 'g', sizeof garbage);
    write_file(dir.path, garbage, sizeof garbage);
    must_refuse(&options, MR_CORRUPT, "not a database");
    struct mr_results_sqlite_options nowhere = options;
    nowhere.path = "/dev/null/results.db";
    must_refuse(&nowhere, MR_IO, "/dev/null/results.db");
    rig_dir_finish(&dir);
}

static void damaged_files_do_not_open(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    mr_results_close(rig_open(&options));
    FILE *file = fopen(dir.path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 100, SEEK_SET),
                     0); /* the schema's b-tree page, behind the header */
    for (int i = 0; i < 4000; i++) {
        assert_int_equal(fputc(0xee, file), 0xee);
    }
    assert_int_equal(fclose(file), 0);
    must_refuse(&options, MR_CORRUPT, "malformed");
    rig_dir_finish(&dir);
}

static void names_are_checked_at_opening(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_results_rule rules[2] = {rig_rules[0], rig_rules[0]};
    struct mr_results_sqlite_options options = rig_options(&dir);
    options.rules = rules;
    options.rule_count = 2;
    must_refuse(&options, MR_INVALID, "ad_views");
    rig_dir_finish(&dir);
}

/* Puts big panes under new keys until a status other than MR_OK; *ret_seq: the last that was
 * committed. */
static enum mr_status fill(struct mr_results *results, uint64_t seq, uint64_t seq_end,
                           uint64_t *ret_seq) {
    static uint8_t big[20000];
    enum mr_status status = MR_OK;
    for (; seq < seq_end && status == MR_OK; seq++) {
        struct rig_pane pane;
        rig_pane_simple(&pane, 2, 0, seq, (int64_t)seq);
        pane.pane.window_start_ms += (int64_t)seq * 1000;
        pane.pane.window_end_ms += (int64_t)seq * 1000;
        pane.pane.state = mr_bytes_of(big, sizeof big);
        status = mr_results_begin(results);
        if (status == MR_OK) {
            status = mr_results_put(results, &pane.pane);
        }
        if (status == MR_OK) {
            status = mr_results_commit(results, seq);
        }
        *ret_seq = status == MR_OK ? seq : *ret_seq;
        rig_pane_finish(&pane);
    }
    return status;
}

static void a_full_store_refuses_and_goes_on(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_results_sqlite_options options = rig_options(&dir);
    options.outbox_panes_max = 0;
    options.bytes_max = 300000;
    struct mr_results *results = rig_open(&options);
    uint64_t last = 0;
    assert_int_equal(fill(results, 1, 100, &last), MR_NO_SPACE);
    assert_true(last > 3 && last < 20);
    assert_non_null(strstr(mr_results_error_text(results), "full"));
    assert_int_equal(mr_results_flushed_seq(results), last);
    assert_int_equal(rig_count(results, 2), last);
    uint64_t again = last;
    assert_int_equal(fill(results, last + 1, 100, &again), MR_NO_SPACE); /* and again */
    mr_results_rollback(results); /* fine after a failure, too */
    assert_int_equal(rig_count(results, 2), last);
    mr_results_close(results);
    options.bytes_max = 0; /* space came back */
    results = rig_open(&options);
    assert_int_equal(mr_results_flushed_seq(results), last);
    assert_int_equal(fill(results, last + 1, 30, &last), MR_OK);
    assert_int_equal(rig_count(results, 2), 29);
    mr_results_close(results);
    rig_dir_finish(&dir);
}

static void a_failing_disk_refuses_and_goes_on(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_results_sqlite_options options = rig_options(&dir);
    options.sync = true;
    struct mr_results *results = rig_open(&options);
    uint64_t last = 0;
    assert_int_equal(fill(results, 1, 4, &last), MR_OK);
    rig_limit_files(500000, false);
    enum mr_status status = fill(results, 4, 100, &last);
    rig_limit_files(0, false);
    assert_int_equal(status, MR_IO);
    assert_true(last > 3 && last < 50);
    assert_int_equal(mr_results_flushed_seq(results), last);
    assert_int_equal(rig_count(results, 2), last);
    uint64_t end = last + 20;
    assert_int_equal(fill(results, last + 1, end, &last), MR_OK);
    mr_results_close(results);
    results = rig_open(&options);
    assert_int_equal(mr_results_flushed_seq(results), end - 1);
    assert_int_equal(rig_count(results, 2), end - 1);
    mr_results_close(results);
    rig_dir_finish(&dir);
}

static void a_second_writer_waits_its_turn(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    struct mr_results *first = rig_open(&options);
    struct mr_results *second = rig_open(&options);
    assert_int_equal(mr_results_begin(first), MR_OK);
    assert_int_equal(mr_results_begin(second), MR_BUSY);
    assert_non_null(strstr(mr_results_error_text(second), "locked"));
    mr_results_rollback(first);
    assert_int_equal(mr_results_begin(second), MR_OK);
    mr_results_rollback(second);
    mr_results_close(second);
    mr_results_close(first);
    rig_dir_finish(&dir);
}

static void a_killed_process_leaves_the_last_commit(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct mr_results *results = NULL;
        struct rig_pane panes[2];
        rig_pane_simple(&panes[0], 0, 3, 1, 10);
        rig_pane_simple(&panes[1], 0, 4, 2, 20);
        bool fine = mr_results_sqlite_open(&options, &results, NULL) == MR_OK &&
                    mr_results_begin(results) == MR_OK &&
                    mr_results_put(results, &panes[0].pane) == MR_OK &&
                    mr_results_commit(results, 1) == MR_OK && mr_results_begin(results) == MR_OK &&
                    mr_results_put(results, &panes[1].pane) == MR_OK &&
                    mr_results_finalize(results, 0, INT64_MAX) == MR_OK;
        _exit(fine ? 0 : 1);
    }
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    struct mr_results *results = rig_open(&options);
    assert_int_equal(mr_results_flushed_seq(results), 1);
    struct rig_read read;
    rig_read_init(&read);
    rig_read(results, rig_query_all(0, &read), &read);
    assert_int_equal(read.count, 1);
    assert_int_equal(rig_row(&read, 0).revision, 1);
    assert_false(rig_row(&read, 0).final);
    assert_int_equal(mr_results_begin(results), MR_OK); /* the row is still found to be finalized */
    assert_int_equal(mr_results_finalize(results, 0, INT64_MAX), MR_OK);
    assert_int_equal(mr_results_commit(results, 2), MR_OK);
    rig_read(results, rig_query_all(0, &read), &read);
    assert_true(rig_row(&read, 0).final);
    rig_read_finish(&read);
    mr_results_close(results);
    rig_dir_finish(&dir);
}

static void the_outbox_is_pruned_in_steps(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_results_sqlite_options options = rig_options(&dir);
    options.outbox_panes_max = 3000;
    struct mr_results *results = rig_open(&options);
    struct rig_pane pane;
    rig_pane_simple(&pane, 0, 3, 1, 1);
    assert_int_equal(mr_results_begin(results), MR_OK);
    for (int i = 0; i < 2500; i++) {
        pane.pane.window_start_ms += 10000;
        pane.pane.window_end_ms += 10000;
        assert_int_equal(mr_results_put(results, &pane.pane), MR_OK);
    }
    assert_int_equal(mr_results_commit(results, 1), MR_OK);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT min(id),max(id),count(*) FROM panes", "1|2500|2500\n");
    options.outbox_panes_max = 10; /* lowered: the way there is taken in steps */
    results = rig_open(&options);
    static const char *const want[] = {"1027|2501|1475\n", "2053|2502|450\n", "2494|2503|10\n",
                                       "2495|2504|10\n"};
    for (uint64_t i = 0; i < COUNT(want); i++) {
        pane.pane.revision = i + 2;
        rig_store(results, &pane.pane, 1, i + 2);
        rig_assert_query(&dir, "SELECT min(id),max(id),count(*) FROM panes", want[i]);
    }
    rig_store(results, &pane.pane, 1, 9); /* the guard refuses it: no pane either */
    rig_assert_query(&dir, "SELECT min(id),max(id),count(*) FROM panes", "2495|2504|10\n");
    mr_results_close(results);
    options.outbox_panes_max = 0;
    results = rig_open(&options);
    rig_store(results, NULL, 0, 10);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT count(*) FROM panes", "0\n");
    options.outbox_panes_max = 10;
    results = rig_open(&options);
    pane.pane.revision = 20;
    rig_store(results, &pane.pane, 1, 20);
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT id FROM panes", "2505\n");
    rig_pane_finish(&pane);
    rig_dir_finish(&dir);
}

static void memory_runs_out_at_every_allocation(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    struct mr_results *results = NULL;
    enum mr_status status = MR_NO_MEMORY;
    size_t failures = 0;
    while (status == MR_NO_MEMORY) {
        struct mr_error error = {0};
        mr_alloc_fail_at(failures + 1, 1);
        status = mr_results_sqlite_open(&options, &results, &error);
        mr_alloc_fail_at(0, 0);
        if (status != MR_OK) {
            assert_int_equal(error.status, MR_NO_MEMORY);
            failures++;
        }
    }
    assert_int_equal(status, MR_OK);
    assert_true(failures > 10);
    struct mr_results_reader *reader = NULL;
    mr_alloc_fail_at(1, 1);
    assert_int_equal(mr_results_reader_open(results, &reader), MR_NO_MEMORY);
    mr_alloc_fail_at(0, 0);
    mr_results_close(results);
    rig_dir_finish(&dir);
}

static void the_memory_database_works_on_one_thread(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_results_sqlite_options options = rig_options(&dir);
    options.path = ":memory:";
    struct mr_results *results = rig_open(&options);
    struct rig_pane pane;
    rig_pane_simple(&pane, 0, 3, 1, 1);
    rig_store(results, &pane.pane, 1, 1);
    assert_int_equal(rig_count(results, 0), 1);
    rig_pane_finish(&pane);
    mr_results_close(results);
    rig_dir_finish(&dir); /* nothing was written there */
}

struct wall {
    struct mr_clock clock;
    int64_t ms;
};

static int64_t wall_ms(struct mr_clock *clock) {
    return ((struct wall *)clock)->ms;
}

static uint64_t epoch_of(struct mr_results *results) {
    struct mr_results_reader *reader = NULL;
    struct mr_results_state state;
    assert_int_equal(mr_results_reader_open(results, &reader), MR_OK);
    assert_int_equal(mr_results_read_state(reader, &state, NULL), MR_OK);
    assert_int_equal(state.incarnation, 0xabc);
    mr_results_reader_close(reader);
    return state.epoch;
}

/* Also where the clock stands or goes back; and a file of a version without epochs gets one. */
static void epochs_grow_with_rewinds(void **state) {
    (void)state;
    struct wall wall = {.clock = {.wall_ms = wall_ms}, .ms = 5000};
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_results_sqlite_options options = rig_options(&dir);
    options.clock = &wall.clock;
    struct mr_results *results = rig_open(&options);
    assert_int_equal(epoch_of(results), 5000);
    wall.ms = 6000;
    mr_results_close(results);
    results = rig_open(&options);
    assert_int_equal(epoch_of(results), 5000); /* to open it again is nothing */
    for (uint64_t i = 0; i < 3; i++) {
        wall.ms = i == 2 ? 10 : 6000;
        assert_int_equal(mr_results_rewind(results, 0), MR_OK);
        assert_int_equal(epoch_of(results), 6000 + i);
    }
    mr_results_close(results);
    rig_assert_query(&dir, "SELECT value FROM millrace_meta WHERE name='epoch'", "6002\n");
    struct mr_sqlite *db = NULL;
    assert_int_equal(mr_sqlite_open(dir.path, MR_SQLITE_CREATE, &db, NULL), MR_OK);
    assert_int_equal(mr_sqlite_exec(db, "DELETE FROM millrace_meta WHERE name='epoch'"), MR_OK);
    mr_sqlite_close(db);
    wall.ms = 7000;
    results = rig_open(&options);
    assert_int_equal(epoch_of(results), 7000);
    mr_results_close(results);
    rig_dir_finish(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_columns_are_what_was_sent),
        cmocka_unit_test(a_person_sees_rows_and_panes),
        cmocka_unit_test(years_without_a_text_are_null),
        cmocka_unit_test(other_stores_are_refused),
        cmocka_unit_test(a_foreign_database_is_left_alone),
        cmocka_unit_test(files_that_are_not_ours_are_refused),
        cmocka_unit_test(damaged_files_do_not_open),
        cmocka_unit_test(names_are_checked_at_opening),
        cmocka_unit_test(a_full_store_refuses_and_goes_on),
        cmocka_unit_test(a_failing_disk_refuses_and_goes_on),
        cmocka_unit_test(a_second_writer_waits_its_turn),
        cmocka_unit_test(a_killed_process_leaves_the_last_commit),
        cmocka_unit_test(the_outbox_is_pruned_in_steps),
        cmocka_unit_test(memory_runs_out_at_every_allocation),
        cmocka_unit_test(the_memory_database_works_on_one_thread),
        cmocka_unit_test(epochs_grow_with_rewinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
