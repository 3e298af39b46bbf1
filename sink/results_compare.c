/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/results_compare.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "sink/results_sql.h"
#include "sink/sqlite.h"

enum {
    COLUMNS_MAX = 256, /* keys and metrics of two tables, and events */
    NAMES_BYTES_MAX = 1 << 20,
    SQL_BYTES_MAX = 1 << 20,
    OWN = 4, /* columns of the SELECT before those that are compared */
};

static_assert(2 * (MR_RULE_KEYS_MAX + MR_RULE_METRICS_MAX) + 1 <= COLUMNS_MAX, "two tables, and events");

/* One table, and the row it stands at. */
struct side {
    struct mr_sqlite *db;
    struct mr_sqlite_stmt *rows;
    bool has_column[COLUMNS_MAX];
    bool ended;
};

struct mr_comparison {
    const char *paths[2];
    struct side sides[2];
    struct mr_buf names; /* of columns, one behind the other */
    struct mr_bytes columns[COLUMNS_MAX];
    uint32_t count;
};

static enum mr_status explain(const struct mr_comparison *c, uint32_t i, enum mr_status status,
                              struct mr_error *error) {
    return status == MR_OK ? MR_OK
                           : mr_error_set(error, status, "%s: %s", c->paths[i], mr_sqlite_error(c->sides[i].db)->text);
}

enum mr_status mr_results_compare_open(const char *before, const char *after, struct mr_comparison **ret,
                                       struct mr_error *error) {
    struct mr_comparison *c = mr_alloc_zero(1, sizeof *c);
    if (c == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory comparing results");
    }
    mr_buf_init(&c->names, NAMES_BYTES_MAX);
    c->paths[0] = before;
    c->paths[1] = after;
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < 2; i++) {
        status = mr_sqlite_open(c->paths[i], MR_SQLITE_READ, &c->sides[i].db, error);
    }
    if (status != MR_OK) {
        mr_results_compare_close(c);
        return status;
    }
    *ret = c;
    return MR_OK;
}

static void end_rule(struct mr_comparison *c) {
    for (uint32_t i = 0; i < 2; i++) {
        mr_sqlite_finish(c->sides[i].rows);
        c->sides[i].rows = NULL;
        c->sides[i].ended = false;
        memset(c->sides[i].has_column, 0, sizeof c->sides[i].has_column);
    }
    mr_buf_clear(&c->names);
    c->count = 0;
}

void mr_results_compare_close(struct mr_comparison *comparison) {
    if (comparison == NULL) {
        return;
    }
    end_rule(comparison);
    for (uint32_t i = 0; i < 2; i++) {
        mr_sqlite_close(comparison->sides[i].db);
    }
    mr_buf_finish(&comparison->names);
    mr_free(comparison);
}

/* ---- columns ---- */

/* Names are kept as places in a buffer that grows; settle_names makes them bytes. */
static enum mr_status add_column(struct mr_comparison *c, uint32_t i, struct mr_bytes name) {
    uint32_t k = 0;
    size_t at = 0;
    while (k < c->count && !mr_bytes_equal(mr_bytes_of(c->names.ptr + at, c->columns[k].len), name)) {
        at += c->columns[k++].len;
    }
    if (k == COLUMNS_MAX) {
        return MR_LIMIT;
    }
    if (k == c->count) {
        mr_buf_append_bytes(&c->names, name);
        c->columns[c->count++].len = name.len;
    }
    c->sides[i].has_column[k] = true;
    return c->names.failed ? MR_NO_MEMORY : MR_OK;
}

static void settle_names(struct mr_comparison *c) {
    size_t at = 0;
    for (uint32_t k = 0; k < c->count; k++) {
        c->columns[k].ptr = c->names.ptr + at;
        at += c->columns[k].len;
    }
}

/* No column: no table. */
static enum mr_status read_columns(struct mr_comparison *c, uint32_t i, struct mr_bytes rule, bool *ret_has,
                                   struct mr_error *error) {
    struct mr_buf sql;
    struct mr_sqlite_stmt *stmt = NULL;
    mr_buf_init(&sql, SQL_BYTES_MAX);
    mr_buf_append_text(&sql, "PRAGMA table_info(");
    mr_results_sql_table(&sql, rule);
    mr_buf_append_char(&sql, ')');
    enum mr_status status = mr_sqlite_prepare(c->sides[i].db, mr_results_sql_end(&sql), &stmt);
    mr_buf_finish(&sql);
    *ret_has = false;
    while (status == MR_OK && (status = mr_sqlite_step(stmt)) == MR_OK) {
        struct mr_bytes name = mr_sqlite_column_bytes(stmt, 1);
        *ret_has = true;
        if (!mr_results_sql_is_own(name)) {
            status = add_column(c, i, name);
        }
    }
    if (status == MR_LIMIT || status == MR_NO_MEMORY) {
        status = mr_error_set(error, status, "%s: table %.*s has too many columns", c->paths[i], (int)rule.len,
                              (const char *)rule.ptr);
    } else if (status != MR_END) {
        status = explain(c, i, status, error);
    }
    mr_sqlite_finish(stmt);
    return status == MR_END ? MR_OK : status;
}

/* ---- rows ---- */

static enum mr_status select_rows(struct mr_comparison *c, uint32_t i, struct mr_bytes rule,
                                  const struct mr_compare_range *range, struct mr_error *error) {
    struct side *side = &c->sides[i];
    struct mr_buf sql;
    mr_buf_init(&sql, SQL_BYTES_MAX);
    mr_buf_append_text(&sql, "SELECT window_start_ms,window_end_ms,final,_key");
    for (uint32_t k = 0; k < c->count; k++) {
        mr_buf_append_text(&sql, side->has_column[k] ? ",json_quote(" : ",NULL");
        if (side->has_column[k]) {
            mr_results_sql_name(&sql, c->columns[k]);
            mr_buf_append_char(&sql, ')');
        }
    }
    mr_buf_append_text(&sql, " FROM ");
    mr_results_sql_table(&sql, rule);
    mr_buf_append_text(&sql, " WHERE window_start_ms>=? AND window_end_ms<=? ORDER BY window_start_ms,_key");
    enum mr_status status = mr_sqlite_prepare(side->db, mr_results_sql_end(&sql), &side->rows);
    mr_buf_finish(&sql);
    if (status == MR_OK) {
        mr_sqlite_bind_int(side->rows, range->start_from_ms);
        mr_sqlite_bind_int(side->rows, range->end_to_ms);
    }
    return explain(c, i, status, error);
}

static enum mr_status advance(struct mr_comparison *c, uint32_t i, struct mr_error *error) {
    struct side *side = &c->sides[i];
    enum mr_status status = side->rows == NULL ? MR_END : mr_sqlite_step(side->rows);
    side->ended = status == MR_END;
    return status == MR_END ? MR_OK : explain(c, i, status, error);
}

/* Which row comes first: < 0 the one before, > 0 the one after, 0: they are the same. */
static int order(const struct mr_comparison *c) {
    const struct side *sides = c->sides;
    if (sides[0].ended || sides[1].ended) {
        return sides[0].ended - sides[1].ended;
    }
    int64_t starts[2] = {mr_sqlite_column_int(sides[0].rows, 0), mr_sqlite_column_int(sides[1].rows, 0)};
    if (starts[0] != starts[1]) {
        return starts[0] < starts[1] ? -1 : 1;
    }
    struct mr_bytes a = mr_sqlite_column_bytes(sides[0].rows, 3);
    struct mr_bytes b = mr_sqlite_column_bytes(sides[1].rows, 3);
    size_t len = a.len < b.len ? a.len : b.len;
    int differ = len == 0 ? 0 : memcmp(a.ptr, b.ptr, len);
    return differ != 0 ? differ : (a.len > b.len) - (a.len < b.len);
}

/* Fills the difference from the rows of one side, or both; returns whether they differ in what both have. */
static bool compare_rows(const struct mr_comparison *c, const bool here[2], struct mr_bytes *values[2],
                         struct mr_difference *ret) {
    bool differs = false;
    for (uint32_t i = 0; i < 2; i++) {
        if (here[i]) {
            ret->window_start_ms = mr_sqlite_column_int(c->sides[i].rows, 0);
            ret->window_end_ms[i] = mr_sqlite_column_int(c->sides[i].rows, 1);
        }
        for (uint32_t k = 0; k < c->count; k++) {
            bool has = here[i] && c->sides[i].has_column[k];
            values[i][k] = has ? mr_sqlite_column_bytes(c->sides[i].rows, (int)k + OWN) : mr_bytes_of(NULL, 0);
        }
    }
    for (uint32_t k = 0; here[0] && here[1] && k < c->count; k++) {
        bool both = c->sides[0].has_column[k] && c->sides[1].has_column[k];
        differs = differs || (both && !mr_bytes_equal(values[0][k], values[1][k]));
    }
    return differs || (here[0] && here[1] && ret->window_end_ms[0] != ret->window_end_ms[1]);
}

static void count(const struct mr_difference *d, bool both, bool differs, struct mr_compare_counts *ret) {
    ret->equal += both && !differs;
    ret->changed += both && differs;
    ret->missing += d->kind == MR_DIFFERENCE_MISSING;
    ret->added += d->kind == MR_DIFFERENCE_ADDED;
}

static enum mr_status merge(struct mr_comparison *c, const struct mr_compare_range *range,
                            void (*visit)(void *ctx, const struct mr_difference *), void *ctx,
                            struct mr_compare_counts *ret, struct mr_error *error) {
    struct mr_bytes before[COLUMNS_MAX];
    struct mr_bytes after[COLUMNS_MAX];
    struct mr_bytes *values[2] = {before, after};
    enum mr_status status = advance(c, 0, error);
    if (status == MR_OK) {
        status = advance(c, 1, error);
    }
    while (status == MR_OK && !(c->sides[0].ended && c->sides[1].ended)) {
        int first = order(c);
        bool here[2] = {first <= 0, first >= 0};
        bool final = (!here[0] || mr_sqlite_column_int(c->sides[0].rows, 2) != 0) &&
                     (!here[1] || mr_sqlite_column_int(c->sides[1].rows, 2) != 0);
        if (!final && !range->all) {
            ret->open++;
        } else {
            struct mr_difference d = {.kind = first < 0   ? MR_DIFFERENCE_MISSING
                                              : first > 0 ? MR_DIFFERENCE_ADDED
                                                          : MR_DIFFERENCE_CHANGED,
                                      .column_count = c->count,
                                      .columns = c->columns,
                                      .values = {before, after}};
            bool differs = compare_rows(c, here, values, &d);
            count(&d, first == 0, differs, ret);
            if (first != 0 || differs) {
                visit(ctx, &d);
            }
        }
        for (uint32_t i = 0; status == MR_OK && i < 2; i++) {
            status = here[i] ? advance(c, i, error) : MR_OK;
        }
    }
    return status;
}

enum mr_status mr_results_compare_rule(struct mr_comparison *c, struct mr_bytes rule,
                                       const struct mr_compare_range *range,
                                       void (*visit)(void *ctx, const struct mr_difference *), void *ctx,
                                       struct mr_compare_counts *ret, struct mr_error *error) {
    *ret = (struct mr_compare_counts){.equal = 0};
    end_rule(c);
    enum mr_status status = MR_OK;
    for (uint32_t i = 2; status == MR_OK && i-- > 0;) { /* the newer table's columns first */
        status = read_columns(c, i, rule, &ret->has[i], error);
    }
    if (status == MR_OK) {
        for (uint32_t i = 0; i < 2; i++) {
            status = add_column(c, i, MR_BYTES("events")) == MR_OK
                         ? status
                         : mr_error_set(error, MR_LIMIT, "table %.*s has too many columns", (int)rule.len,
                                        (const char *)rule.ptr);
        }
    }
    settle_names(c);
    for (uint32_t i = 0; status == MR_OK && i < 2; i++) {
        status = ret->has[i] ? select_rows(c, i, rule, range, error) : MR_OK;
    }
    if (status == MR_OK) {
        status = merge(c, range, visit, ctx, ret, error);
    }
    end_rule(c);
    return status;
}
