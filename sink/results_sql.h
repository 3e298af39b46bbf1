/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Results SQL: the text of the statements of the results store. No SQLite in here, only text.
 *
 * Idea        Names come from people (rules, paths of fields, metrics), so every one is quoted, and the few
 *             that SQLite or the store need for themselves are moved out of the way in a way that can't
 *             collide: what looks like a prefixed name is itself prefixed.
 *
 *                 rule    panes, millrace_meta, sqlite_…, rule:…   ->  "rule:panes", …
 *                 older   generation 7 of a rule                   ->  "<table of the rule>:7"
 *                 key     events, _key, a name seen before …       ->  "key0:events", …
 *                 metric  window_start, the name of a key …        ->  "metric2:window_start", …
 *
 *             SQLite compares names without regard to ASCII case; so does this.
 * Owner       Appends to the caller's buffer; a failed append shows in buf->failed. Statements end with a NUL
 *             (mr_results_sql_end), which is what SQLite takes.
 * Parameters  upsert: 1 window_start, 2 window_end, 3 window_start_ms, 4 window_end_ms, then the keys, the
 *             metrics, events, revision, final, _key, _state. finalize: 1 first and 2 last window_start_ms.
 *             select: 1 from and 2 to, 3 after_start and 4 after_key where the text asks for them.
 *             rewind: 1 seq. rewind_outbox: 1 seq, then the names of the rules.
 */
#include "sink/results.h"

/* The tables that every store has. */
extern const char mr_results_sql_base[];

/* MR_INVALID: a name with NUL, an empty rule name, one that ends as a table of an older generation does (":7"), or two
 * rules that SQLite can't tell apart. */
enum mr_status mr_results_sql_check(const struct mr_results_rule *rules, uint32_t rule_count,
                                    struct mr_error *error) MR_MUST_CHECK;

/* What must be the same for the stored rows to be continued, as text a person can compare. */
void mr_results_sql_shape(struct mr_buf *sql, const struct mr_results_rule *rule);
void mr_results_sql_create(struct mr_buf *sql, const struct mr_results_rule *rule);
void mr_results_sql_upsert(struct mr_buf *sql, const struct mr_results_rule *rule);
void mr_results_sql_finalize(struct mr_buf *sql, const struct mr_results_rule *rule);
/* The rule's table becomes that of an older generation. */
void mr_results_sql_rename(struct mr_buf *sql, const struct mr_results_rule *rule,
                           uint64_t generation);
void mr_results_sql_rewind(struct mr_buf *sql, const struct mr_results_rule *rule);
void mr_results_sql_rewind_outbox(struct mr_buf *sql, uint32_t rule_count);
void mr_results_sql_select(struct mr_buf *sql, const struct mr_results_rule *rule,
                           const struct mr_results_query *query);

/* Whether the query's cursor lies in its range; else the range alone says it all. */
bool mr_results_sql_uses_after(const struct mr_results_query *query);

/* The NUL. Returns the statement, NULL when the buffer has failed. */
const char *mr_results_sql_end(struct mr_buf *sql);
