/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/results_sql.h"

#include "base/bug.h"
#include "base/check.h"

#include <strings.h>

const char mr_results_sql_base[] =
    "CREATE TABLE millrace_meta(name TEXT NOT NULL PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE panes(id INTEGER PRIMARY KEY, rule TEXT NOT NULL, window_start_ms INTEGER NOT "
    "NULL,"
    " window_end_ms INTEGER NOT NULL, key BLOB NOT NULL, state BLOB NOT NULL,"
    " events INTEGER NOT NULL, revision INTEGER NOT NULL, pane INTEGER NOT NULL,"
    " timing TEXT NOT NULL, final INTEGER NOT NULL, retraction INTEGER NOT NULL);";

/* Compared as a whole: LIKE would take "A_b" for "axb", and "a" has nothing to do with "a:b:7". */
const char mr_results_sql_newer_aside[] =
    "SELECT max(CAST(value AS INTEGER)) FROM millrace_meta "
    "WHERE CAST(value AS INTEGER)>?1 AND name='generation:'||?2||':'||CAST(value AS INTEGER)";

/* Columns before and after those of the rule. Keys and metrics have no declared type, because a
 * type would convert: TEXT makes "17" of the number 17, NUMERIC makes 1 of 1.0. */
static const char *const columns_before[] = {"window_start", "window_end", "window_start_ms",
                                             "window_end_ms"};
static const char *const columns_behind[] = {"events", "revision", "pane",  "timing",
                                             "final",  "_key",     "_state"};
#define COLUMNS_READ "window_start_ms,window_end_ms,events,revision,pane,timing,final,_key,_state"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static bool same_name(struct mr_bytes a, struct mr_bytes b) {
    return a.len == b.len &&
           (a.len == 0 || strncasecmp((const char *)a.ptr, (const char *)b.ptr, a.len) == 0);
}

static bool is_among(struct mr_bytes name, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (same_name(name, mr_bytes_text(list[i]))) {
            return true;
        }
    }
    return false;
}

static bool begins_with(struct mr_bytes name, struct mr_bytes prefix) {
    return name.len >= prefix.len && same_name(mr_bytes_of(name.ptr, prefix.len), prefix);
}

/* "" inside, so that no name can end the quotes. */
static void append_escaped(struct mr_buf *sql, struct mr_bytes name) {
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '"') {
            mr_buf_append_char(sql, '"');
        }
        mr_buf_append_char(sql, (char)name.ptr[i]);
    }
}

static void append_quoted_rest(struct mr_buf *sql, struct mr_bytes name) {
    append_escaped(sql, name);
    mr_buf_append_char(sql, '"');
}

/* The name without the quote that ends it. */
static void append_table_open(struct mr_buf *sql, const struct mr_results_rule *rule) {
    static const char *const tables[] = {"panes", "millrace_meta"};
    bool taken = is_among(rule->name, tables, COUNT(tables)) ||
                 begins_with(rule->name, MR_BYTES("sqlite_")) ||
                 begins_with(rule->name, MR_BYTES("rule:")) ||
                 begins_with(rule->name, MR_BYTES("open:"));
    mr_buf_append_text(sql, taken ? "\"rule:" : "\"");
    append_escaped(sql, rule->name);
}

static void append_table(struct mr_buf *sql, const struct mr_results_rule *rule) {
    append_table_open(sql, rule);
    mr_buf_append_char(sql, '"');
}

void mr_results_sql_table(struct mr_buf *sql, struct mr_bytes rule) {
    struct mr_results_rule named = {.name = rule};
    append_table(sql, &named);
}

void mr_results_sql_name(struct mr_buf *sql, struct mr_bytes name) {
    mr_buf_append_char(sql, '"');
    append_quoted_rest(sql, name);
}

bool mr_results_sql_is_own(struct mr_bytes column) {
    return is_among(column, columns_before, COUNT(columns_before)) ||
           is_among(column, columns_behind, COUNT(columns_behind));
}

static void append_aside(struct mr_buf *sql, const struct mr_results_rule *rule,
                         uint64_t generation) {
    append_table_open(sql, rule);
    mr_buf_printf(sql, ":%llu\"", (unsigned long long)generation);
}

/* The rule's own columns are numbered: keys first, then metrics. */
static struct mr_bytes plain_name(const struct mr_results_rule *rule, uint32_t column) {
    MR_ASSERT(column < rule->key_count + rule->metric_count);
    return column < rule->key_count ? rule->key_names[column]
                                    : rule->metric_names[column - rule->key_count];
}

static bool is_taken(const struct mr_results_rule *rule, uint32_t column) {
    struct mr_bytes name = plain_name(rule, column);
    if (is_among(name, columns_before, COUNT(columns_before)) ||
        is_among(name, columns_behind, COUNT(columns_behind))) {
        return true;
    }
    /* What looks prefixed is prefixed, so that nothing else can look like it. */
    bool prefixed = begins_with(name, MR_BYTES("key")) || begins_with(name, MR_BYTES("metric"));
    if (prefixed && memchr(name.ptr, ':', name.len) != NULL) {
        return true;
    }
    for (uint32_t i = 0; i < column; i++) {
        if (same_name(name, plain_name(rule, i))) {
            return true;
        }
    }
    return false;
}

static void append_column(struct mr_buf *sql, const struct mr_results_rule *rule, uint32_t column) {
    mr_buf_append_char(sql, '"');
    if (is_taken(rule, column)) {
        bool is_key = column < rule->key_count;
        mr_buf_printf(sql, "%s%u:", is_key ? "key" : "metric",
                      is_key ? column : column - rule->key_count);
    }
    append_quoted_rest(sql, plain_name(rule, column));
}

static void append_columns(struct mr_buf *sql, const struct mr_results_rule *rule) {
    for (size_t i = 0; i < COUNT(columns_before); i++) {
        mr_buf_printf(sql, "%s%s", i == 0 ? "" : ",", columns_before[i]);
    }
    for (uint32_t i = 0; i < rule->key_count + rule->metric_count; i++) {
        mr_buf_append_char(sql, ',');
        append_column(sql, rule, i);
    }
    for (size_t i = 0; i < COUNT(columns_behind); i++) {
        mr_buf_printf(sql, ",%s", columns_behind[i]);
    }
}

static enum mr_status check_column(const struct mr_results_rule *rule, uint32_t column,
                                   struct mr_error *error) {
    struct mr_bytes name = plain_name(rule, column);
    if (name.len != 0 && memchr(name.ptr, 0, name.len) != NULL) {
        return mr_error_set(error, MR_INVALID, "rule %.*s: a name of a column contains NUL",
                            (int)rule->name.len, (const char *)rule->name.ptr);
    }
    return MR_OK;
}

/* ":7" at the end. */
static bool looks_aside(struct mr_bytes name) {
    size_t digits = 0;
    while (digits < name.len && name.ptr[name.len - 1 - digits] >= '0' &&
           name.ptr[name.len - 1 - digits] <= '9') {
        digits++;
    }
    return digits > 0 && digits < name.len && name.ptr[name.len - 1 - digits] == ':';
}

enum mr_status mr_results_sql_check(const struct mr_results_rule *rules, uint32_t rule_count,
                                    struct mr_error *error) {
    for (uint32_t r = 0; r < rule_count; r++) {
        const struct mr_results_rule *rule = &rules[r];
        bool taken = rule->name.len == 0 || memchr(rule->name.ptr, 0, rule->name.len) != NULL ||
                     looks_aside(rule->name);
        for (uint32_t i = 0; i < r; i++) {
            taken = taken || same_name(rule->name, rules[i].name);
        }
        if (taken) {
            return mr_error_set(error, MR_INVALID,
                                "rule %u: no table can have the name \"%.*s\" (empty, with NUL, or "
                                "that of another rule or generation)",
                                r, (int)rule->name.len, (const char *)rule->name.ptr);
        }
        for (uint32_t i = 0; i < rule->key_count + rule->metric_count; i++) {
            enum mr_status status = check_column(rule, i, error);
            if (status != MR_OK) {
                return status;
            }
        }
    }
    return MR_OK;
}

static void append_names(struct mr_buf *sql, const char *what, const struct mr_bytes *names,
                         uint32_t count) {
    mr_buf_printf(sql, " %s(", what);
    for (uint32_t i = 0; i < count; i++) {
        mr_buf_append_text(sql, i == 0 ? "\"" : ",\"");
        append_quoted_rest(sql, names[i]);
    }
    mr_buf_append_char(sql, ')');
}

void mr_results_sql_shape(struct mr_buf *sql, const struct mr_results_rule *rule) {
    mr_buf_append_bytes(sql, rule->shape);
    append_names(sql, "keys", rule->key_names, rule->key_count);
    append_names(sql, "metrics", rule->metric_names, rule->metric_count);
}

void mr_results_sql_create(struct mr_buf *sql, const struct mr_results_rule *rule) {
    mr_buf_append_text(sql, "CREATE TABLE ");
    append_table(sql, rule);
    mr_buf_append_text(sql, "(window_start TEXT,window_end TEXT,window_start_ms INTEGER NOT NULL,"
                            "window_end_ms INTEGER NOT NULL");
    for (uint32_t i = 0; i < rule->key_count + rule->metric_count; i++) {
        mr_buf_append_char(sql, ',');
        append_column(sql, rule, i);
    }
    mr_buf_append_text(sql, ",events INTEGER NOT NULL,revision INTEGER NOT NULL,"
                            "pane INTEGER NOT NULL,timing TEXT NOT NULL,"
                            "final INTEGER NOT NULL,_key BLOB NOT NULL,_state BLOB NOT NULL,"
                            "PRIMARY KEY(window_start_ms,_key)) WITHOUT ROWID");
}

/* Goes with the table when that is renamed, but keeps its name: that of the generation. */
void mr_results_sql_create_index(struct mr_buf *sql, const struct mr_results_rule *rule) {
    mr_buf_append_text(sql, "CREATE INDEX \"open:");
    append_escaped(sql, rule->name);
    mr_buf_printf(sql, ":%llu\" ON ", (unsigned long long)rule->generation);
    append_table(sql, rule);
    mr_buf_append_text(sql, "(window_end_ms)WHERE final=0");
}

void mr_results_sql_upsert(struct mr_buf *sql, const struct mr_results_rule *rule) {
    uint32_t own = rule->key_count + rule->metric_count;
    size_t count = COUNT(columns_before) + own + COUNT(columns_behind);
    mr_buf_append_text(sql, "INSERT INTO ");
    append_table(sql, rule);
    mr_buf_append_text(sql, " AS t(");
    append_columns(sql, rule);
    mr_buf_append_text(sql, ")VALUES(");
    for (size_t i = 0; i < count; i++) {
        mr_buf_append_text(sql, i == 0 ? "?" : ",?");
    }
    /* The key columns follow from _key, so only the metrics can differ. */
    mr_buf_append_text(sql, ")ON CONFLICT(window_start_ms,_key)DO UPDATE SET ");
    for (uint32_t i = rule->key_count; i < own; i++) {
        append_column(sql, rule, i);
        mr_buf_append_text(sql, "=excluded.");
        append_column(sql, rule, i);
        mr_buf_append_char(sql, ',');
    }
    mr_buf_append_text(sql, "window_end=excluded.window_end,window_end_ms=excluded.window_end_ms,"
                            "events=excluded.events,revision=excluded.revision,"
                            "pane=excluded.pane,timing=excluded.timing,"
                            "final=max(t.final,excluded.final),_state=excluded._state ");
    mr_buf_append_text(sql, MR_BUG(REVISION_NOT_GUARDED) ? "WHERE true"
                                                         : "WHERE excluded.revision>t.revision");
}

void mr_results_sql_finalize(struct mr_buf *sql, const struct mr_results_rule *rule) {
    mr_buf_append_text(sql, "UPDATE ");
    append_table(sql, rule);
    mr_buf_append_text(sql, rule->ends_vary ? " SET final=1 WHERE window_end_ms<=? AND final=0"
                                            : " SET final=1 WHERE window_start_ms=? AND final=0");
}

static void append_place(struct mr_buf *sql, const char *verb, const struct mr_results_rule *rule) {
    mr_buf_append_text(sql, verb);
    append_table(sql, rule);
    mr_buf_append_text(sql, " WHERE window_start_ms=? AND _key=?");
}

void mr_results_sql_find(struct mr_buf *sql, const struct mr_results_rule *rule) {
    append_place(sql, "SELECT " COLUMNS_READ " FROM ", rule);
}

void mr_results_sql_remove(struct mr_buf *sql, const struct mr_results_rule *rule) {
    append_place(sql, "DELETE FROM ", rule);
}

/* The + keeps SQLite from the index of open rows: the primary key has the first one at hand. */
void mr_results_sql_first_open(struct mr_buf *sql, const struct mr_results_rule *rule) {
    mr_buf_append_text(sql, "SELECT window_start_ms,window_end_ms FROM ");
    append_table(sql, rule);
    mr_buf_append_text(
        sql, " WHERE window_start_ms>=? AND +final=0 ORDER BY window_start_ms LIMIT 1");
}

void mr_results_sql_put_aside(struct mr_buf *sql, const struct mr_results_rule *rule,
                              uint64_t generation) {
    mr_buf_append_text(sql, "ALTER TABLE ");
    append_table(sql, rule);
    mr_buf_append_text(sql, " RENAME TO ");
    append_aside(sql, rule, generation);
}

void mr_results_sql_bring_back(struct mr_buf *sql, const struct mr_results_rule *rule,
                               uint64_t generation) {
    mr_buf_append_text(sql, "ALTER TABLE ");
    append_aside(sql, rule, generation);
    mr_buf_append_text(sql, " RENAME TO ");
    append_table(sql, rule);
}

void mr_results_sql_drop_aside(struct mr_buf *sql, const struct mr_results_rule *rule,
                               uint64_t generation) {
    mr_buf_append_text(sql, "DROP TABLE IF EXISTS "); /* people may have done it */
    append_aside(sql, rule, generation);
}

void mr_results_sql_rewind(struct mr_buf *sql, const struct mr_results_rule *rule) {
    mr_buf_append_text(sql, "DELETE FROM ");
    append_table(sql, rule);
    mr_buf_append_text(sql, " WHERE revision>?");
}

void mr_results_sql_open_all(struct mr_buf *sql, const struct mr_results_rule *rule) {
    mr_buf_append_text(sql, "UPDATE ");
    append_table(sql, rule);
    mr_buf_append_text(sql, " SET final=0 WHERE final<>0");
}

void mr_results_sql_first(struct mr_buf *sql, const struct mr_results_rule *rule) {
    mr_buf_append_text(sql, "SELECT coalesce(min(window_start_ms),9223372036854775807)FROM ");
    append_table(sql, rule);
}

void mr_results_sql_rewind_outbox(struct mr_buf *sql, uint32_t rule_count) {
    mr_buf_append_text(sql, "DELETE FROM panes WHERE revision>? AND rule IN(");
    for (uint32_t i = 0; i < rule_count; i++) {
        mr_buf_append_text(sql, i == 0 ? "?" : ",?");
    }
    mr_buf_append_char(sql, ')');
}

bool mr_results_sql_uses_after(const struct mr_results_query *query) {
    if (!query->has_after) {
        return false;
    }
    return query->descending ? query->after_start_ms < query->to_ms
                             : query->after_start_ms >= query->from_ms;
}

/* With a cursor, the row comparison is the only bound on its side: given both, SQLite could choose
 * the weaker one for the search and read a whole window again for each page. */
static void append_range(struct mr_buf *sql, const struct mr_results_query *query) {
    bool after = mr_results_sql_uses_after(query);
    if (after && query->descending) {
        mr_buf_append_text(sql, " WHERE window_start_ms>=?1 AND (window_start_ms,_key)<(?3,?4)");
    } else if (after) {
        mr_buf_append_text(sql, " WHERE window_start_ms<?2 AND (window_start_ms,_key)>(?3,?4)");
    } else {
        mr_buf_append_text(sql, " WHERE window_start_ms>=?1 AND window_start_ms<?2");
    }
    if (query->final_only || query->open_only) {
        mr_buf_append_text(sql, query->final_only ? " AND final=1" : " AND final=0");
    }
}

void mr_results_sql_select(struct mr_buf *sql, const struct mr_results_rule *rule,
                           const struct mr_results_query *query) {
    MR_ASSERT(query->order < 0 || (uint32_t)query->order < rule->metric_count);
    const char *direction = query->descending ? " DESC" : "";
    mr_buf_append_text(sql, "SELECT " COLUMNS_READ " FROM ");
    append_table(sql, rule);
    append_range(sql, query);
    mr_buf_append_text(sql, " ORDER BY ");
    if (query->order < 0) {
        mr_buf_printf(sql, "window_start_ms%s,_key%s", direction, direction);
        return;
    }
    append_column(sql, rule, rule->key_count + (uint32_t)query->order);
    mr_buf_printf(sql, "%s,window_start_ms,_key", direction);
}

const char *mr_results_sql_end(struct mr_buf *sql) {
    mr_buf_append_char(sql, 0);
    return sql->failed ? NULL : (const char *)sql->ptr;
}
