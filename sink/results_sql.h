/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Results SQL: the text of the statements of the results store. No SQLite in here, only text.
 *
 * Idea        Names come from people (rules, paths of fields, metrics), so every one is quoted, and the few
 *             that SQLite or the store need for themselves are moved out of the way in a way that can't
 *             collide: what looks like a prefixed name is itself prefixed.
 *
 *                 rule    panes, millrace_meta, sqlite_…, rule:…, open:…   ->  "rule:panes", …
 *                 index   generation 7 of a rule                   ->  "open:<rule>:7"
 *                 aside   generation 7 of a rule                   ->  "<table of the rule>:7"
 *                 key     events, _key, a name seen before …       ->  "key0:events", …
 *                 metric  window_start, the name of a key …        ->  "metric2:window_start", …
 *
 *             SQLite compares names without regard to ASCII case; so does this.
 * Owner       Appends to the caller's buffer; a failed append shows in buf->failed. Statements end with a NUL
 *             (mr_results_sql_end), which is what SQLite takes.
 * Columns     select and find: window_start_ms, window_end_ms, events, revision, pane, timing, final, _key, _state.
 * Parameters  upsert: 1 window_start, 2 window_end, 3 window_start_ms, 4 window_end_ms, then the keys, the
 *             metrics, events, revision, pane, timing, final, _key, _state. finalize: 1 window_end_ms where ends vary,
 *             else window_start_ms.
 *             find and remove: 1 window_start_ms, 2 _key. first_open: 1 window_start_ms to begin at.
 *             select: 1 from and 2 to, 3 after_start and 4 after_key where the text asks for them.
 *             rewind: 1 seq. rewind_outbox: 1 seq, then the names of the rules. newer_aside: 1 seq, 2 the name.
 */
#include "sink/results.h"

/* The tables that every store has. */
extern const char mr_results_sql_base[];
/* The greatest generation of a rule that is aside, if it is above seq. */
extern const char mr_results_sql_newer_aside[];

/* MR_INVALID: a name with NUL, an empty rule name, one that ends as a table that is aside does (":7"), or two rules
 * that SQLite can't tell apart. */
enum mr_status mr_results_sql_check(const struct mr_results_rule *rules, uint32_t rule_count,
                                    struct mr_error *error) MR_MUST_CHECK;

/* The name of the rule's table, quoted; of any other thing, quoted. */
void mr_results_sql_table(struct mr_buf *sql, struct mr_bytes rule);
void mr_results_sql_name(struct mr_buf *sql, struct mr_bytes name);
/* Whether it is a column that every table has (without regard to case), and not a key or metric. */
bool mr_results_sql_is_own(struct mr_bytes column);
/* What must be the same for the stored rows to be continued, as text a person can compare. */
void mr_results_sql_shape(struct mr_buf *sql, const struct mr_results_rule *rule);
void mr_results_sql_create(struct mr_buf *sql, const struct mr_results_rule *rule);
/* Where ends vary. */
void mr_results_sql_create_index(struct mr_buf *sql, const struct mr_results_rule *rule);
void mr_results_sql_upsert(struct mr_buf *sql, const struct mr_results_rule *rule);
void mr_results_sql_finalize(struct mr_buf *sql, const struct mr_results_rule *rule);
void mr_results_sql_find(struct mr_buf *sql, const struct mr_results_rule *rule);
void mr_results_sql_remove(struct mr_buf *sql, const struct mr_results_rule *rule);
/* window_start_ms and window_end_ms of the first row from there on that is not final. */
void mr_results_sql_first_open(struct mr_buf *sql, const struct mr_results_rule *rule);
/* The rule's table is of that generation: it goes aside, comes back, goes for good from there. */
void mr_results_sql_put_aside(struct mr_buf *sql, const struct mr_results_rule *rule,
                              uint64_t generation);
void mr_results_sql_bring_back(struct mr_buf *sql, const struct mr_results_rule *rule,
                               uint64_t generation);
void mr_results_sql_drop_aside(struct mr_buf *sql, const struct mr_results_rule *rule,
                               uint64_t generation);
void mr_results_sql_rewind(struct mr_buf *sql, const struct mr_results_rule *rule);
/* No row is final any more. */
void mr_results_sql_open_all(struct mr_buf *sql, const struct mr_results_rule *rule);
/* The first window_start_ms of all rows, INT64_MAX without any. */
void mr_results_sql_first(struct mr_buf *sql, const struct mr_results_rule *rule);
void mr_results_sql_rewind_outbox(struct mr_buf *sql, uint32_t rule_count);
void mr_results_sql_select(struct mr_buf *sql, const struct mr_results_rule *rule,
                           const struct mr_results_query *query);

/* Whether the query's cursor lies in its range; else the range alone says it all. */
bool mr_results_sql_uses_after(const struct mr_results_query *query);

/* The NUL. Returns the statement, NULL when the buffer has failed. */
const char *mr_results_sql_end(struct mr_buf *sql);
