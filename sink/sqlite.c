/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/sqlite.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/pace.h"

#include <sqlite3.h>

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

enum { BUSY_MS = 100 }; /* someone with the sqlite3 tool; longer, and the caller should say so */

struct mr_sqlite {
    sqlite3 *db;
    char *path;
    struct mr_pace pace;
    struct mr_error error;
};

struct mr_sqlite_stmt {
    sqlite3_stmt *stmt;
    struct mr_sqlite *db;
    int next; /* parameter */
    int rc;   /* the first failure of binding */
};

static enum mr_status status_of(sqlite3 *db, int rc) {
    if (rc == SQLITE_IOERR_NOMEM) {
        return MR_NO_MEMORY;
    }
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return MR_NO_SPACE;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return MR_BUSY;
    case SQLITE_NOMEM:
        return MR_NO_MEMORY;
    case SQLITE_TOOBIG:
        return MR_LIMIT;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: /* our own text does not fit the schema: somebody changed the file */
    case SQLITE_SCHEMA:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return MR_CORRUPT;
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
        MR_UNREACHABLE();
    default: {
        int number = sqlite3_system_errno(db); /* SQLite says FULL only where write() failed so */
        return number == ENOSPC || number == EDQUOT ? MR_NO_SPACE : MR_IO;
    }
    }
}

static enum mr_status fail(struct mr_sqlite *db, int rc) {
    MR_ASSERT(rc != SQLITE_OK && rc != SQLITE_ROW && rc != SQLITE_DONE);
    return mr_error_set(&db->error, status_of(db->db, rc), "%s: %s (SQLite code %d)", db->path,
                        sqlite3_errmsg(db->db), rc);
}

static enum mr_status no_memory(struct mr_sqlite *db) {
    return mr_error_set(&db->error, MR_NO_MEMORY, "%s: out of memory", db->path);
}

/* SQLite counts its memory under one lock for the whole process, and asks for memory several times
 * a row: readers would wait for the writer there. Nobody reads the count. */
static void stop_counting(void) {
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS,
                         0); /* refused when SQLite runs already: then slower */
}

/* ---- pace ---- */

/* Of the connection that this thread has called SQLite for. SQLite writes and truncates through functions of the
 * process, and shows its file descriptors nowhere else. NULL: nothing that is called writes much. */
static _Thread_local struct mr_pace *pace_now;

static ssize_t write_at(int fd, const void *buf, size_t len, off_t offset) {
    return pace_now == NULL ? pwrite(fd, buf, len, offset) : mr_pace_pwrite(pace_now, fd, buf, len, offset);
}

static int truncate_to(int fd, off_t len) {
    return pace_now == NULL ? ftruncate(fd, len) : mr_pace_truncate(pace_now, fd, len);
}

static_assert(sizeof(off_t) == 8, "pwrite and pwrite64 are one");

/* Which of the two names SQLite writes by is a matter of how it was built; of a name it does not know it says so. */
static void install_pace(void) {
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    if (vfs != NULL && vfs->iVersion >= 3 && vfs->xSetSystemCall != NULL) {
        (void)vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)write_at);
        (void)vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)write_at);
        (void)vfs->xSetSystemCall(vfs, "ftruncate", (sqlite3_syscall_ptr)truncate_to);
    }
}

static void configure(void) {
    stop_counting();
    install_pace();
}

static pthread_once_t configured = PTHREAD_ONCE_INIT;

enum mr_status mr_sqlite_open(const char *path, enum mr_sqlite_mode mode, struct mr_sqlite **ret,
                              struct mr_error *error) {
    MR_ASSERT(path[0] != 0);                        /* SQLite would make a nameless file */
    (void)pthread_once(&configured, configure); /* can't fail with these arguments */
    struct mr_sqlite *db = mr_alloc_zero(1, sizeof *db + strlen(path) + 1);
    if (db == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s: out of memory", path);
    }
    db->path = (char *)(db + 1);
    memcpy(db->path, path, strlen(path) + 1);
    int flags =
        mode == MR_SQLITE_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    int rc = sqlite3_open_v2(path, &db->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    enum mr_status status = MR_OK;
    if (db->db == NULL) {
        status = no_memory(db);
    } else if (rc != SQLITE_OK) {
        status = fail(db, rc);
    } else {
        (void)sqlite3_extended_result_codes(db->db, 1); /* these two can't fail on an open handle */
        (void)sqlite3_busy_timeout(db->db, BUSY_MS);
    }
    if (status != MR_OK) {
        (void)mr_error_set(error, status, "%s", db->error.text);
        mr_sqlite_close(db);
        return status;
    }
    *ret = db;
    return MR_OK;
}

void mr_sqlite_close(struct mr_sqlite *db) {
    if (db == NULL) {
        return;
    }
    int rc = sqlite3_close(db->db);
    MR_ASSERT(rc == SQLITE_OK); /* busy: a statement was not finished */
    mr_free(db);
}

const struct mr_error *mr_sqlite_error(const struct mr_sqlite *db) {
    return &db->error;
}

bool mr_sqlite_in_transaction(const struct mr_sqlite *db) {
    return !sqlite3_get_autocommit(db->db);
}

void mr_sqlite_rollback(struct mr_sqlite *db) {
    if (mr_sqlite_in_transaction(db)) {
        (void)sqlite3_exec(db->db, "ROLLBACK", NULL, NULL, NULL); /* ends it whatever it returns */
    }
    MR_ASSERT(!mr_sqlite_in_transaction(db));
}

int64_t mr_sqlite_changes(const struct mr_sqlite *db) {
    return sqlite3_changes64(db->db);
}

enum mr_status mr_sqlite_exec(struct mr_sqlite *db, const char *sql) {
    if (sql == NULL) {
        return no_memory(db);
    }
    int rc = sqlite3_exec(db->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? MR_OK : fail(db, rc);
}

enum mr_status mr_sqlite_prepare(struct mr_sqlite *db, const char *sql,
                                 struct mr_sqlite_stmt **ret) {
    struct mr_sqlite_stmt *stmt = mr_alloc_zero(1, sizeof *stmt);
    if (sql == NULL || stmt == NULL) {
        mr_free(stmt);
        return no_memory(db);
    }
    int rc = sqlite3_prepare_v3(db->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt->stmt, NULL);
    if (rc != SQLITE_OK) {
        mr_free(stmt);
        return fail(db, rc);
    }
    stmt->db = db;
    stmt->next = 1;
    *ret = stmt;
    return MR_OK;
}

void mr_sqlite_finish(struct mr_sqlite_stmt *stmt) {
    if (stmt != NULL) {
        (void)sqlite3_finalize(stmt->stmt); /* repeats what step said */
        mr_free(stmt);
    }
}

static void bound(struct mr_sqlite_stmt *stmt, int rc) {
    stmt->rc = stmt->rc == SQLITE_OK ? rc : stmt->rc;
    stmt->next++;
}

void mr_sqlite_bind_null(struct mr_sqlite_stmt *stmt) {
    bound(stmt, sqlite3_bind_null(stmt->stmt, stmt->next));
}

void mr_sqlite_bind_int(struct mr_sqlite_stmt *stmt, int64_t value) {
    bound(stmt, sqlite3_bind_int64(stmt->stmt, stmt->next, value));
}

void mr_sqlite_bind_uint(struct mr_sqlite_stmt *stmt, uint64_t value) {
    MR_ASSERT(value <= INT64_MAX);
    mr_sqlite_bind_int(stmt, (int64_t)value);
}

void mr_sqlite_bind_double(struct mr_sqlite_stmt *stmt, double value) {
    bound(stmt, sqlite3_bind_double(stmt->stmt, stmt->next, value));
}

/* A pointer of NULL would bind NULL, whatever the length. */

void mr_sqlite_bind_text(struct mr_sqlite_stmt *stmt, struct mr_bytes text) {
    const char *ptr = text.len == 0 ? "" : (const char *)text.ptr;
    bound(stmt,
          sqlite3_bind_text64(stmt->stmt, stmt->next, ptr, text.len, SQLITE_STATIC, SQLITE_UTF8));
}

void mr_sqlite_bind_blob(struct mr_sqlite_stmt *stmt, struct mr_bytes bytes) {
    const void *ptr = bytes.len == 0 ? "" : (const void *)bytes.ptr;
    bound(stmt, sqlite3_bind_blob64(stmt->stmt, stmt->next, ptr, bytes.len, SQLITE_STATIC));
}

void mr_sqlite_bind_at(struct mr_sqlite_stmt *stmt, int parameter) {
    stmt->next = parameter;
}

enum mr_status mr_sqlite_step(struct mr_sqlite_stmt *stmt) {
    pace_now = &stmt->db->pace;
    int rc = stmt->rc == SQLITE_OK ? sqlite3_step(stmt->stmt) : stmt->rc;
    pace_now = NULL;
    if (rc == SQLITE_ROW) {
        return MR_OK;
    }
    return rc == SQLITE_DONE ? MR_END : fail(stmt->db, rc);
}

void mr_sqlite_reset(struct mr_sqlite_stmt *stmt) {
    (void)sqlite3_reset(stmt->stmt); /* repeats what step said */
    stmt->next = 1;
    stmt->rc = SQLITE_OK;
}

enum mr_status mr_sqlite_run(struct mr_sqlite_stmt *stmt) {
    enum mr_status status = mr_sqlite_step(stmt);
    MR_ASSERT(status != MR_OK);
    mr_sqlite_reset(stmt);
    return status == MR_END ? MR_OK : status;
}

enum mr_status mr_sqlite_run_paced(struct mr_sqlite_stmt *stmt) {
    struct mr_pace *pace = &stmt->db->pace;
    mr_pace_begin(pace);
    enum mr_status status = mr_sqlite_run(stmt);
    mr_pace_end(pace);
    return status;
}

uint64_t mr_sqlite_steps_paced(const struct mr_sqlite *db) {
    return db->pace.steps;
}

int mr_sqlite_column_count(const struct mr_sqlite_stmt *stmt) {
    return sqlite3_column_count(stmt->stmt);
}

bool mr_sqlite_column_is_null(struct mr_sqlite_stmt *stmt, int column) {
    return sqlite3_column_type(stmt->stmt, column) == SQLITE_NULL;
}

int64_t mr_sqlite_column_int(struct mr_sqlite_stmt *stmt, int column) {
    return sqlite3_column_int64(stmt->stmt, column);
}

struct mr_bytes mr_sqlite_column_bytes(struct mr_sqlite_stmt *stmt, int column) {
    const void *ptr = sqlite3_column_blob(stmt->stmt, column); /* before the length: may convert */
    return mr_bytes_of(ptr, (size_t)sqlite3_column_bytes(stmt->stmt, column));
}
