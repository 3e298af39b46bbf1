/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Results: the store of fired panes: the newest value per (rule, window, key), and the outbox of panes in
 * order. An interface, so that the simulator can put its own behind it; sink/results_sqlite.c is the real
 * one and the one user of SQLite.
 *
 * Idea        Everything of a bundle goes in with one transaction that also moves flushed_seq. After a crash
 *             the log is replayed from the start; the flusher skips what is at or below flushed_seq. Every
 *             write is guarded by the revision all the same, so that repeating one changes nothing (L6).
 * Shape       One file a person can open with sqlite3:
 *
 *                 table "<rule>": window_start TEXT, window_end TEXT (RFC 3339), window_start_ms INTEGER,
 *                     window_end_ms INTEGER, <key columns>, <metric columns>, events, revision, final,
 *                     _key BLOB, _state BLOB; primary key (window_start_ms, _key) without rowid
 *                 table panes: id INTEGER PRIMARY KEY (order), rule, window_start_ms, window_end_ms, key,
 *                     state, events, revision, timing, final
 *                 table millrace_meta: name, value (format, incarnation, flushed_seq)
 *
 *             Key columns: TEXT for strings and numbers-as-sent that are not int64, INTEGER for int64
 *             numbers and booleans (0/1), NULL; "(other)" for the overflow group. Metric columns: INTEGER or
 *             REAL, NULL for nothing; an overflowed sum is REAL.
 * Owner       writer functions: the flusher thread. reader functions: query threads, each with a reader of its
 *             own (WAL mode: readers never wait for the writer nor stop it).
 * Errors      MR_MISMATCH: another log's store, another format, or another rule shape. MR_NO_SPACE, MR_BUSY,
 *             MR_IO: the transaction is rolled back, nothing changed; the flusher tries again later.
 *             MR_CORRUPT: the file is not a database.
 */
#include "base/pane.h"

struct mr_results;
struct mr_results_reader;

/* What the store needs to know of a rule; borrowed for the life of the store. */
struct mr_results_rule {
    struct mr_bytes name;
    const struct mr_bytes *key_names;
    uint32_t key_count;
    const struct mr_bytes *metric_names;
    uint32_t metric_count;
    int64_t window_size_ms;
};

struct mr_results_query {
    uint32_t rule;
    int64_t from_ms; /* window_start in [from, to) */
    int64_t to_ms;
    bool final_only;
    bool open_only;
    int32_t order; /* -1: window start, then key; else metric index */
    bool descending;
    bool has_after;
    int64_t after_start_ms;
    struct mr_bytes after_key;
    /* Filters on keys are the visitor's. Called for each row of the range in order; the row borrows until it returns. Stops when it returns
     * false. The pane's numbers are NULL: state has all. */
    bool (*visit)(void *ctx, const struct mr_pane *row);
    void *ctx;
};

struct mr_results_ops {
    enum mr_status (*begin)(struct mr_results *);
    enum mr_status (*put)(struct mr_results *, const struct mr_pane *);
    enum mr_status (*finalize)(struct mr_results *, uint32_t rule, int64_t end_ms);
    enum mr_status (*commit)(struct mr_results *, uint64_t flushed_seq);
    void (*rollback)(struct mr_results *);
    uint64_t (*flushed_seq)(struct mr_results *);
    enum mr_status (*reader_open)(struct mr_results *, struct mr_results_reader **ret);
    void (*reader_close)(struct mr_results_reader *);
    enum mr_status (*read)(struct mr_results_reader *, const struct mr_results_query *, struct mr_error *);
    void (*close)(struct mr_results *);
};

/* An implementation's struct begins with this. */
struct mr_results {
    const struct mr_results_ops *ops;
};

struct mr_results_reader {
    struct mr_results *results;
};

enum mr_status mr_results_begin(struct mr_results *results) MR_MUST_CHECK;
enum mr_status mr_results_put(struct mr_results *results, const struct mr_pane *pane) MR_MUST_CHECK;
/* Every row of the rule whose window ends at or before end_ms becomes final. */
enum mr_status mr_results_finalize(struct mr_results *results, uint32_t rule,
                                   int64_t end_ms) MR_MUST_CHECK;
enum mr_status mr_results_commit(struct mr_results *results, uint64_t flushed_seq) MR_MUST_CHECK;
void mr_results_rollback(struct mr_results *results);
/* Everything up to and including this bundle is in the store; 0: nothing. */
uint64_t mr_results_flushed_seq(struct mr_results *results);
enum mr_status mr_results_reader_open(struct mr_results *results,
                                      struct mr_results_reader **ret) MR_MUST_CHECK;
void mr_results_reader_close(struct mr_results_reader *reader);
enum mr_status mr_results_read(struct mr_results_reader *reader, const struct mr_results_query *query,
                               struct mr_error *error) MR_MUST_CHECK;
void mr_results_close(struct mr_results *results); /* NULL is fine */

struct mr_results_sqlite_options {
    const char *path;       /* ":memory:" only for one thread; a bounded run uses a temporary file */
    uint64_t incarnation;   /* of the log this store belongs to */
    const struct mr_results_rule *rules;
    uint32_t rule_count;
    bool sync;              /* synchronous=FULL, else OFF */
    uint64_t outbox_panes_max; /* older panes are pruned; with sinks, never above a sink's cursor */
};

enum mr_status mr_results_sqlite_open(const struct mr_results_sqlite_options *options,
                                      struct mr_results **ret, struct mr_error *error) MR_MUST_CHECK;
