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
 *             A put that the guard refuses changes nothing, the outbox included.
 * Rows        One for each (rule, window start, key); a pane replaces it, its window's end included: a session grows.
 *             Where panes are discarding, keys end with the pane's index (base/key.h), so that each is a row of its
 *             own.
 * Retractions A pane that is one removes the row, if that is not of a later revision, and puts into the outbox what the
 *             row said, marked as a retraction. In rules that are `retracting`, a put that changes what a row says
 *             (state, events or window end) does so first. A retraction in the outbox is of the revision that it takes
 *             back: a rewind keeps or removes both. No row, or a later one: nothing happens. A row that was removed has
 *             no revision any more: a put from before its retraction would make it again, until the retraction is
 *             repeated, too. So whoever repeats begins behind flushed_seq, and repeats all of it.
 * Shape       One file a person can open with sqlite3:
 *
 *                 table "<rule>": window_start TEXT, window_end TEXT (RFC 3339), window_start_ms INTEGER,
 *                     window_end_ms INTEGER, <key columns>, <metric columns>, events, revision, pane (its index),
 *                     timing (EARLY, ON_TIME, LATE), final, _key BLOB, _state BLOB; primary key
 *                     (window_start_ms, _key) without rowid
 *                 index "open:<rule>:<n>": window_end_ms of the rows of generation n that are not final, where ends vary
 *                 table panes: id INTEGER PRIMARY KEY (order), rule, window_start_ms, window_end_ms, key,
 *                     state, events, revision, pane, timing, final, retraction
 *                 table millrace_meta: name, value (format, incarnation, epoch, flushed_seq, …)
 *                 table "<rule>:<n>": generation n of a rule that is of another one now, put aside; its panes, too, say so
 *
 *             Key columns: TEXT for strings and numbers-as-sent that are not int64, INTEGER for int64
 *             numbers and booleans (0/1), NULL; "(other)" for the overflow group. Metric columns: INTEGER or
 *             REAL, NULL for nothing; an overflowed sum is REAL; booleans are 0 and 1, texts and JSON TEXT. Names that
 *             SQLite or the store need for themselves get a prefix: sink/results_sql.h.
 * Epoch       Wall milliseconds when the store was made or last rewound. Revisions begin again below what they were:
 *             whoever keeps a copy of rows elsewhere compares (epoch, revision), and the greater one is the newer row.
 * Owner       writer functions: the flusher thread. reader functions: query threads, each with a reader of its
 *             own (WAL mode: readers never wait for the writer nor stop it). Readers are closed before the store.
 * Errors      MR_MISMATCH: another log's store, another format, or another rule shape. MR_NO_SPACE, MR_BUSY,
 *             MR_IO, MR_NO_MEMORY from a writer function: the transaction is rolled back and over, nothing
 *             changed; the flusher tries again later from begin. An error from commit can also mean that it
 *             did take effect (seen after a crash): repeating the same puts and commit is right in both
 *             cases. MR_CORRUPT: the file is not a database, or one that somebody changed.
 * Invariants  I1 a final row stays final, but by rewind.
 *             I2 a row's revision and flushed_seq never decrease, but by rewind.
 *             I3 ids of the outbox grow in the order of puts and are never used again.
 *             I4 the epoch grows with each rewind, and changes with nothing else.
 */
#include "base/clock.h"
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
    struct mr_bytes shape; /* window and accumulation, as text: a table is continued by rules with the same one only */
    bool ends_vary;  /* of windows that start together: sessions. Else all rows of one start have one end */
    bool discarding; /* keys end with the pane's index: asserted */
    bool retracting; /* a pane that changes a row takes back first what that said */
    /* 0, and the number of the bundle each time the rule began anew with another shape. A store that has a table of
     * another generation, older or newer, puts it aside under "<rule>:<its generation>"; it brings back the table of
     * this one when that is aside, else it begins an empty one: a start from an older checkpoint goes back to the older
     * table, and on to the newer one again. At most INT64_MAX. Panes in the outbox get these names, too: whoever reads
     * the outbox finds panes of the present shape only under a rule, and ids never change their meaning. */
    uint64_t generation;
};

struct mr_results_query {
    uint32_t rule;
    int64_t from_ms; /* window_start in [from, to) */
    int64_t to_ms;
    bool final_only;
    bool open_only;
    /* -1: window start, then key; descending turns both. Else a metric's index: NULL is below every number;
     * equal numbers by window start, then key, ascending in both directions. */
    int32_t order;
    bool descending;
    bool has_after; /* window order only: rows behind (after_start_ms, after_key) in that order */
    int64_t after_start_ms;
    struct mr_bytes after_key;
    /* Filters on keys are the visitor's. Called for each row of the range in order; the row borrows until it returns. Stops when it returns
     * false. The pane's numbers are NULL: state has all. index and timing are those of the last firing. */
    bool (*visit)(void *ctx, const struct mr_pane *row);
    void *ctx;
};

/* Called for each pane of the outbox after id, in order of ids, until it returns false. numbers is NULL. */
typedef bool (*mr_results_outbox_visit)(void *ctx, uint64_t id, const struct mr_pane *pane);

/* For whoever follows the outbox from a place it remembers. */
struct mr_results_state {
    uint64_t incarnation; /* of the log */
    uint64_t epoch;
    uint64_t oldest_id; /* of the panes that are there; newest_id + 1 when there are none */
    uint64_t newest_id; /* the last one given, whether it is there or not; 0: none was */
};

struct mr_results_ops {
    enum mr_status (*begin)(struct mr_results *);
    enum mr_status (*put)(struct mr_results *, const struct mr_pane *);
    enum mr_status (*finalize)(struct mr_results *, uint32_t rule, int64_t end_ms);
    enum mr_status (*commit)(struct mr_results *, uint64_t flushed_seq);
    void (*rollback)(struct mr_results *);
    uint64_t (*flushed_seq)(struct mr_results *);
    enum mr_status (*rewind)(struct mr_results *, uint64_t seq);
    enum mr_status (*reader_open)(struct mr_results *, struct mr_results_reader **ret);
    void (*reader_close)(struct mr_results_reader *);
    enum mr_status (*read)(struct mr_results_reader *, const struct mr_results_query *, struct mr_error *);
    enum mr_status (*read_outbox)(struct mr_results_reader *, uint64_t after_id, mr_results_outbox_visit,
                                  void *ctx, struct mr_error *);
    enum mr_status (*read_outbox_rule)(struct mr_results_reader *, uint32_t rule, uint64_t after_id,
                                       mr_results_outbox_visit, void *ctx, uint64_t *ret_id, struct mr_error *);
    enum mr_status (*read_state)(struct mr_results_reader *, struct mr_results_state *ret, struct mr_error *);
    enum mr_status (*read_open_from)(struct mr_results_reader *, uint32_t rule, int64_t *ret_ms,
                                     struct mr_error *);
    const char *(*error_text)(struct mr_results *);
    void (*close)(struct mr_results *);
};

/* An implementation's struct begins with this. */
struct mr_results {
    const struct mr_results_ops *ops;
};

struct mr_results_reader {
    struct mr_results *results;
};

/* Writer functions. put, finalize and commit need a transaction: asserted. */
enum mr_status mr_results_begin(struct mr_results *results) MR_MUST_CHECK;
enum mr_status mr_results_put(struct mr_results *results, const struct mr_pane *pane) MR_MUST_CHECK;
/* Every row of the rule whose window ends at or before end_ms becomes final. Costs what it changes, and a search for each
 * window start; where ends vary, a pass over the rows that open_from gets ahead by: each once. */
enum mr_status mr_results_finalize(struct mr_results *results, uint32_t rule,
                                   int64_t end_ms) MR_MUST_CHECK;
/* flushed_seq is at least the last one: asserted. */
enum mr_status mr_results_commit(struct mr_results *results, uint64_t flushed_seq) MR_MUST_CHECK;
void mr_results_rollback(struct mr_results *results); /* fine without a transaction */
/* Everything up to and including this bundle is in the store; 0: nothing. */
uint64_t mr_results_flushed_seq(struct mr_results *results);
/* Goes back to bundle seq, which is not above flushed_seq: rows and outbox panes of later revisions are removed, and
 * flushed_seq is seq; replay of the log from there makes them again. For a store that is ahead of its log, or whose
 * bundles will be divided among shards in another way. No row is final any more: what made it so may be lost with the
 * log, and the caller says afterwards what is; panes keep the marks they were fired with. Generations above seq that are
 * aside began later: they are removed. Of this store's rules: what rules that are gone left behind stays, as do
 * generations up to seq that are aside. One durable transaction of its own; not inside one. After an error, repeating it
 * is right, as with commit. Reads every row. */
enum mr_status mr_results_rewind(struct mr_results *results, uint64_t seq) MR_MUST_CHECK;
/* What the last failed writer function met, for a report; never NULL, valid until the next one fails. */
const char *mr_results_error_text(struct mr_results *results);

/* Reader functions. A read sees every commit that returned before it was called, and nothing of later ones. */
enum mr_status mr_results_reader_open(struct mr_results *results,
                                      struct mr_results_reader **ret) MR_MUST_CHECK;
void mr_results_reader_close(struct mr_results_reader *reader);
enum mr_status mr_results_read(struct mr_results_reader *reader, const struct mr_results_query *query,
                               struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_results_read_outbox(struct mr_results_reader *reader, uint64_t after_id,
                                      mr_results_outbox_visit visit, void *ctx,
                                      struct mr_error *error) MR_MUST_CHECK;
/* The panes of one rule only. Looks through MR_RESULTS_LOOK_MAX ids behind after_id at most, beginning at the oldest
 * that is there, so that a call is short however many panes other rules have. *ret_id: everything up to it was visited
 * or is of others; where the visitor stopped, that pane, taken or not; after_id when nothing is newer. To go on, call
 * again with it until it is no more than what it was. */
#define MR_RESULTS_LOOK_MAX 65536
enum mr_status mr_results_read_outbox_rule(struct mr_results_reader *reader, uint32_t rule, uint64_t after_id,
                                           mr_results_outbox_visit visit, void *ctx, uint64_t *ret_id,
                                           struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_results_read_state(struct mr_results_reader *reader, struct mr_results_state *ret,
                                     struct mr_error *error) MR_MUST_CHECK;
/* Every row of the rule whose window starts before *ret_ms is final: so a reader learns of finalize, which puts no
 * panes. INT64_MAX: all are. It goes back when an older window is put open, and ahead with finalize. Rows that start
 * later may be final already: behind a long window that is open. */
enum mr_status mr_results_read_open_from(struct mr_results_reader *reader, uint32_t rule, int64_t *ret_ms,
                                         struct mr_error *error) MR_MUST_CHECK;
void mr_results_close(struct mr_results *results); /* NULL is fine */

struct mr_results_sqlite_options {
    const char *path;       /* ":memory:" only for one thread; a bounded run uses a temporary file */
    uint64_t incarnation;   /* of the log this store belongs to */
    const struct mr_results_rule *rules;
    uint32_t rule_count;
    bool sync;              /* synchronous=FULL, else OFF */
    uint64_t outbox_panes_max; /* older panes are pruned; with sinks, never above a sink's cursor; 0: no outbox */
    struct mr_clock *clock;    /* of epochs; NULL: the system's */
    uint64_t bytes_max;        /* of the file; over it commits fail with MR_NO_SPACE; 0: the disk's bound */
};

enum mr_status mr_results_sqlite_open(const struct mr_results_sqlite_options *options,
                                      struct mr_results **ret, struct mr_error *error) MR_MUST_CHECK;

/* Runs one reading statement on the file at path, with a connection of its own, and appends the rows: columns
 * separated by '|', one line a row, NULL as "NULL". For looking at what a person with sqlite3 would see. */
enum mr_status mr_results_sqlite_query(const char *path, const char *sql, struct mr_buf *ret,
                                       struct mr_error *error) MR_MUST_CHECK;
