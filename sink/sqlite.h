/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * SQLite: connections and statements of SQLite with our statuses, bytes and errors. The one user of
 * sqlite3.h.
 *
 * Idea        Values are bound one after the other, and the first failure is kept until the step: the
 *             caller looks at one status for a whole statement.
 *
 *                 mr_sqlite_bind_int(stmt, 1); mr_sqlite_bind_text(stmt, name); status = mr_sqlite_run(stmt);
 *
 * Owner       Statements belong to their connection and are finished before it is closed. Bound bytes are
 *             borrowed until the statement is reset, columns until the next step.
 * Threads     A connection and its statements: one thread at a time.
 * Errors      MR_NO_SPACE, MR_BUSY, MR_IO, MR_NO_MEMORY; MR_CORRUPT also for a schema that our own text
 *             does not fit. The connection keeps the text of its last failure (mr_sqlite_error).
 */
#include "base/bytes.h"

struct mr_sqlite;
struct mr_sqlite_stmt;

enum mr_sqlite_mode { MR_SQLITE_READ, MR_SQLITE_CREATE };

enum mr_status mr_sqlite_open(const char *path, enum mr_sqlite_mode mode, struct mr_sqlite **ret,
                              struct mr_error *error) MR_MUST_CHECK;
void mr_sqlite_close(struct mr_sqlite *db); /* NULL is fine */

/* Status and text of the last failure; text is "" before the first. */
const struct mr_error *mr_sqlite_error(const struct mr_sqlite *db);
bool mr_sqlite_in_transaction(const struct mr_sqlite *db);
/* Ends a transaction, if there is one, without effect; the last failure's text stays. */
void mr_sqlite_rollback(struct mr_sqlite *db);
/* Rows changed by the last INSERT, UPDATE or DELETE that ended. */
int64_t mr_sqlite_changes(const struct mr_sqlite *db);
/* Runs statements whose rows nobody wants. */
enum mr_status mr_sqlite_exec(struct mr_sqlite *db, const char *sql) MR_MUST_CHECK;

/* sql is NUL-terminated; NULL counts as MR_NO_MEMORY, so that a failed buffer needs no other check. */
enum mr_status mr_sqlite_prepare(struct mr_sqlite *db, const char *sql,
                                 struct mr_sqlite_stmt **ret) MR_MUST_CHECK;
void mr_sqlite_finish(struct mr_sqlite_stmt *stmt); /* NULL is fine */

/* Bind the next parameter. Text and blobs may be empty, but are never NULL. */
void mr_sqlite_bind_null(struct mr_sqlite_stmt *stmt);
void mr_sqlite_bind_int(struct mr_sqlite_stmt *stmt, int64_t value);
void mr_sqlite_bind_uint(struct mr_sqlite_stmt *stmt, uint64_t value); /* <= INT64_MAX: asserted */
void mr_sqlite_bind_double(struct mr_sqlite_stmt *stmt, double value); /* NaN is NULL */
void mr_sqlite_bind_text(struct mr_sqlite_stmt *stmt, struct mr_bytes text);
void mr_sqlite_bind_blob(struct mr_sqlite_stmt *stmt, struct mr_bytes bytes);
/* The next bind is of this parameter; they count from 1. */
void mr_sqlite_bind_at(struct mr_sqlite_stmt *stmt, int parameter);

/* MR_OK: a row. MR_END: no more. */
enum mr_status mr_sqlite_step(struct mr_sqlite_stmt *stmt) MR_MUST_CHECK;
/* Ready to bind and step again. */
void mr_sqlite_reset(struct mr_sqlite_stmt *stmt);
/* Step of a statement without rows (asserted), and reset. */
enum mr_status mr_sqlite_run(struct mr_sqlite_stmt *stmt) MR_MUST_CHECK;
/* The same for the COMMIT of what may be large, and what SQLite does then: in steps that others who sync the disk can
 * come between (base/pace.h). */
enum mr_status mr_sqlite_run_paced(struct mr_sqlite_stmt *stmt) MR_MUST_CHECK;
/* How many steps there were, since open. */
uint64_t mr_sqlite_steps_paced(const struct mr_sqlite *db);

/* Columns count from 0. A value of another type is converted, NULL to 0 and to empty bytes. */
int mr_sqlite_column_count(const struct mr_sqlite_stmt *stmt);
bool mr_sqlite_column_is_null(struct mr_sqlite_stmt *stmt, int column);
int64_t mr_sqlite_column_int(struct mr_sqlite_stmt *stmt, int column);
struct mr_bytes mr_sqlite_column_bytes(struct mr_sqlite_stmt *stmt, int column);
