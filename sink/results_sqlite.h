/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Results store in SQLite, inside: what its writer (results_sqlite.c), its opening (results_sqlite_open.c)
 * and its readers (results_sqlite_read.c) share. Not for others: they include sink/results.h.
 *
 * Idea        What is kept beside the file (flushed_seq, the outbox's end and count, where rows that are not
 *             final begin) is a copy of millrace_meta. It changes with the transaction and goes back with
 *             it: `now` inside, `kept` as committed.
 * Finalize    Rows become final in the order of their starts, one start after the other from open_from_ms on, that of the
 *             first row that is not: so rows that are final cost nothing, and no index is needed, which would make a row
 *             dearer by three quarters from its put until it is final. Where ends vary there is one, by window end, and
 *             open_from_ms goes ahead afterwards, along the primary key.
 * Shape       millrace_meta has: format, incarnation, epoch, flushed_seq, outbox_next, outbox_count, and for each rule
 *             shape:<rule>, open_from_ms:<rule> and generation:<rule>; of a generation that is aside, with :<n> behind.
 * Threads     The store is the writer's. Readers use path, rules[].rule, in_memory: constant after opening.
 */
#include "base/time_text.h"
#include "sink/results.h"
#include "sink/sqlite.h"

#define MR_RESULTS_SQL_BYTES_MAX (1u << 20) /* of one statement's text */

/* What is bound to the first parameters of a rule's upsert, which keeps it from put to put: panes come window
 * by window, and binding costs as much as a tenth of the put. */
struct mr_results_window {
    bool known;
    int64_t start_ms;
    int64_t end_ms;
    char start[MR_TIME_TEXT_LEN + 1];
    char end[MR_TIME_TEXT_LEN + 1];
};

struct mr_results_sqlite_rule {
    const struct mr_results_rule *rule;
    struct mr_sqlite_stmt *upsert;
    struct mr_sqlite_stmt *finalize;
    struct mr_sqlite_stmt *find;
    struct mr_sqlite_stmt *remove;
    struct mr_sqlite_stmt *first_open;
    int64_t open_from_ms_now; /* every row with a smaller window start is final */
    int64_t open_from_ms_kept;
    struct mr_results_window window;
};

struct mr_results_progress {
    uint64_t epoch;
    uint64_t flushed_seq;
    uint64_t outbox_next; /* the next id */
    uint64_t outbox_count; /* panes: fewer than ids where a rewind took some */
};

struct mr_results_sqlite {
    struct mr_results base;
    struct mr_sqlite *db;
    const char *path;
    bool in_memory; /* readers share the writer's connection */
    bool sync;
    bool in_transaction;
    uint64_t incarnation;
    struct mr_clock *clock;
    uint64_t outbox_panes_max;
    struct mr_results_progress now;
    struct mr_results_progress kept;
    struct mr_sqlite_stmt *begin;
    struct mr_sqlite_stmt *commit;
    struct mr_sqlite_stmt *append;
    struct mr_sqlite_stmt *prune;
    struct mr_sqlite_stmt *set_meta;
    uint32_t rule_count;
    struct mr_results_sqlite_rule rules[];
};

extern const struct mr_results_ops mr_results_sqlite_ops;

/* The checked cast. */
struct mr_results_sqlite *mr_results_sqlite_of(struct mr_results *results);

/* By enum mr_timing: the text in tables. */
extern const char *const mr_results_timings[3];

/* Of results_sqlite_read.c, for the table of operations. */
enum mr_status mr_results_sqlite_reader_open(struct mr_results *results,
                                             struct mr_results_reader **ret) MR_MUST_CHECK;
void mr_results_sqlite_reader_close(struct mr_results_reader *reader);
enum mr_status mr_results_sqlite_read(struct mr_results_reader *reader,
                                      const struct mr_results_query *query,
                                      struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_results_sqlite_read_outbox(struct mr_results_reader *reader, uint64_t after_id,
                                             mr_results_outbox_visit visit, void *ctx,
                                             struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_results_sqlite_read_outbox_rule(struct mr_results_reader *reader, uint32_t rule, uint64_t after_id,
                                                  mr_results_outbox_visit visit, void *ctx, uint64_t *ret_id,
                                                  struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_results_sqlite_read_state(struct mr_results_reader *reader, struct mr_results_state *ret,
                                            struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_results_sqlite_read_open_from(struct mr_results_reader *reader, uint32_t rule, int64_t *ret_ms,
                                                struct mr_error *error) MR_MUST_CHECK;
/* From the columns of mr_results_sql_select, the first of which is `first`; borrows from stmt. false: a row that
 * millrace did not write. */
bool mr_results_sqlite_take_row(struct mr_sqlite_stmt *stmt, int first, uint32_t rule, struct mr_pane *ret);
/* The epoch that begins now, after the last one (0: none). */
uint64_t mr_results_sqlite_next_epoch(const struct mr_results_sqlite *s, uint64_t last);
/* Of results_sqlite_open.c: finishes the statements and the connection, frees the store. */
void mr_results_sqlite_close(struct mr_results *results);
