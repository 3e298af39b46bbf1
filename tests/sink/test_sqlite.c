/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a paced commit is made in steps, whichever way this SQLite was built to write by, and that it is a
 * commit:
 *   1. a transaction of 12 MiB, larger than SQLite's cache, is sent in steps of a megabyte, and so are the pages that
 *      go from the write-ahead log into the file; one that is not paced is not;
 *   2. a write-ahead log beyond its limit is cut back in steps;
 *   3. another connection, and one that opens the file anew, read what was put; the file is whole.
 */
#include "sink/sqlite.h"

#include "tests/sink/results_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { ROWS = 192, ROW_BYTES = 64 << 10, WAL_LIMIT = 1 << 20 };

static struct mr_sqlite *open_db(const char *path, enum mr_sqlite_mode mode) {
    struct mr_sqlite *db = NULL;
    assert_int_equal(mr_sqlite_open(path, mode, &db, NULL), MR_OK);
    return db;
}

static void exec(struct mr_sqlite *db, const char *sql) {
    assert_int_equal(mr_sqlite_exec(db, sql), MR_OK);
}

static struct mr_sqlite_stmt *prepare(struct mr_sqlite *db, const char *sql) {
    struct mr_sqlite_stmt *stmt = NULL;
    assert_int_equal(mr_sqlite_prepare(db, sql, &stmt), MR_OK);
    return stmt;
}

/* Rows first to first + ROWS - 1, each of one byte repeated: what it must be says its number. */
static void put_rows(struct mr_sqlite *db, int first) {
    uint8_t *row = malloc(ROW_BYTES);
    assert_non_null(row);
    struct mr_sqlite_stmt *put = prepare(db, "INSERT INTO t(id,row)VALUES(?,?)");
    for (int i = first; i < first + ROWS; i++) {
        memset(row, i % 251, ROW_BYTES);
        mr_sqlite_bind_int(put, i);
        mr_sqlite_bind_blob(put, mr_bytes_of(row, ROW_BYTES));
        assert_int_equal(mr_sqlite_run(put), MR_OK);
    }
    mr_sqlite_finish(put);
    free(row);
}

static void check_rows(const char *path, int count) {
    struct mr_sqlite *db = open_db(path, MR_SQLITE_READ);
    struct mr_sqlite_stmt *all = prepare(db, "SELECT id,row FROM t ORDER BY id");
    for (int i = 0; i < count; i++) {
        assert_int_equal(mr_sqlite_step(all), MR_OK);
        assert_int_equal(mr_sqlite_column_int(all, 0), i);
        struct mr_bytes row = mr_sqlite_column_bytes(all, 1);
        assert_int_equal(row.len, ROW_BYTES);
        for (size_t k = 0; k < row.len; k++) {
            assert_int_equal(row.ptr[k], i % 251);
        }
    }
    assert_int_equal(mr_sqlite_step(all), MR_END);
    mr_sqlite_finish(all);
    mr_sqlite_close(db);
}

static uint64_t size_of(const char *path, const char *suffix) {
    char name[256];
    struct stat st;
    (void)snprintf(name, sizeof name, "%s%s", path, suffix);
    assert_int_equal(stat(name, &st), 0);
    return (uint64_t)st.st_size;
}

static void large_commits_are_made_in_steps(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    struct mr_sqlite *db = open_db(dir.path, MR_SQLITE_CREATE);
    exec(db, "PRAGMA page_size=8192;PRAGMA journal_mode=WAL;PRAGMA cache_size=-2048;PRAGMA journal_size_limit=1048576;"
             "CREATE TABLE t(id INTEGER PRIMARY KEY,row BLOB)");
    struct mr_sqlite_stmt *commit = prepare(db, "COMMIT");

    exec(db, "BEGIN");
    put_rows(db, 0);
    assert_int_equal(mr_sqlite_run(commit), MR_OK);
    assert_int_equal(mr_sqlite_steps_paced(db), 0);

    exec(db, "BEGIN");
    put_rows(db, ROWS);
    uint64_t before = mr_sqlite_steps_paced(db); /* cutting back the log of the first may come early */
    assert_int_equal(mr_sqlite_run_paced(commit), MR_OK);
    /* 12 MiB into the log, 12 MiB and more from there into the file; a step may be a page less than full. */
    assert_true(mr_sqlite_steps_paced(db) - before >= 22);
    check_rows(dir.path, 2 * ROWS);

    before = mr_sqlite_steps_paced(db);
    assert_true(size_of(dir.path, "-wal") > 12 << 20);
    exec(db, "BEGIN");
    exec(db, "DELETE FROM t WHERE id<0;INSERT INTO t(id,row)VALUES(-1,x'');DELETE FROM t WHERE id=-1");
    assert_int_equal(mr_sqlite_run_paced(commit), MR_OK);
    assert_true(size_of(dir.path, "-wal") <= WAL_LIMIT);
    assert_true(mr_sqlite_steps_paced(db) - before >= 2);
    check_rows(dir.path, 2 * ROWS);

    mr_sqlite_finish(commit);
    mr_sqlite_close(db);
    check_rows(dir.path, 2 * ROWS);
    rig_assert_query(&dir, "PRAGMA integrity_check", "ok\n");
    rig_dir_finish(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_commits_are_made_in_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
