/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The readers of the results store in SQLite. A reader has a connection of its own, and each read
 * is one statement, begun after it was asked for: its snapshot has every commit that returned
 * before.
 */
#include "sink/results_sqlite.h"

#include "base/alloc.h"
#include "base/check.h"
#include "sink/results_sql.h"

struct reader {
    struct mr_results_reader base;
    const struct mr_results_sqlite *store; /* its constant part only */
    struct mr_sqlite *db;
};

static struct reader *reader_of(struct mr_results_reader *reader) {
    MR_ASSERT(reader->results->ops == &mr_results_sqlite_ops);
    return (struct reader *)reader;
}

enum mr_status mr_results_sqlite_reader_open(struct mr_results *results,
                                             struct mr_results_reader **ret) {
    const struct mr_results_sqlite *s = mr_results_sqlite_of(results);
    struct reader *reader = mr_alloc_zero(1, sizeof *reader);
    if (reader == NULL) {
        return MR_NO_MEMORY;
    }
    reader->base.results = results;
    reader->store = s;
    enum mr_status status = MR_OK;
    if (s->in_memory) {
        reader->db = s->db;
    } else {
        status = mr_sqlite_open(s->path, MR_SQLITE_READ, &reader->db, NULL);
    }
    if (status == MR_OK && !s->in_memory) {
        status = mr_sqlite_exec(reader->db, "PRAGMA trusted_schema=OFF;PRAGMA cache_size=-4096");
    }
    if (status != MR_OK) {
        mr_results_sqlite_reader_close(&reader->base);
        return status;
    }
    *ret = &reader->base;
    return MR_OK;
}

void mr_results_sqlite_reader_close(struct mr_results_reader *base) {
    struct reader *reader = reader_of(base);
    if (!reader->store->in_memory) {
        mr_sqlite_close(reader->db);
    }
    mr_free(reader);
}

/* Says why, from the connection, and passes the status on. */
static enum mr_status explain(const struct reader *reader, enum mr_status status,
                              struct mr_error *error) {
    return status == MR_OK ? MR_OK
                           : mr_error_set(error, status, "%s", mr_sqlite_error(reader->db)->text);
}

/* The file is ours, but a person can write to it: what the rest of the process asserts is checked.
 */
static enum mr_status damaged(const struct reader *reader, struct mr_bytes rule,
                              struct mr_error *error) {
    return mr_error_set(error, MR_CORRUPT, "%s: a row of %.*s is not one that millrace wrote",
                        reader->store->path, (int)rule.len, (const char *)rule.ptr);
}

static bool find_timing(struct mr_bytes text, enum mr_timing *ret) {
    for (uint32_t i = 0; i < 3; i++) {
        if (mr_bytes_equal(text, mr_bytes_text(mr_results_timings[i]))) {
            *ret = (enum mr_timing)i;
            return true;
        }
    }
    return false;
}

bool mr_results_sqlite_take_row(struct mr_sqlite_stmt *stmt, int first, uint32_t rule, struct mr_pane *ret) {
    int64_t index = mr_sqlite_column_int(stmt, first + 4);
    *ret = (struct mr_pane){
        .rule = rule,
        .index = (uint32_t)index,
        .window_start_ms = mr_sqlite_column_int(stmt, first),
        .window_end_ms = mr_sqlite_column_int(stmt, first + 1),
        .events = (uint64_t)mr_sqlite_column_int(stmt, first + 2),
        .revision = (uint64_t)mr_sqlite_column_int(stmt, first + 3),
        .final = mr_sqlite_column_int(stmt, first + 6) != 0,
        .key = mr_sqlite_column_bytes(stmt, first + 7),
        .state = mr_sqlite_column_bytes(stmt, first + 8),
    };
    return ret->window_start_ms < ret->window_end_ms && ret->events <= INT64_MAX &&
           ret->revision > 0 && ret->revision <= INT64_MAX && index >= 0 && index <= UINT32_MAX &&
           find_timing(mr_sqlite_column_bytes(stmt, first + 5), &ret->timing);
}

static enum mr_status visit_rows(struct reader *reader, struct mr_sqlite_stmt *stmt,
                                 const struct mr_results_query *query, struct mr_error *error) {
    for (;;) {
        enum mr_status status = mr_sqlite_step(stmt);
        if (status != MR_OK) {
            return status == MR_END ? MR_OK : explain(reader, status, error);
        }
        struct mr_pane row;
        if (!mr_results_sqlite_take_row(stmt, 0, query->rule, &row)) {
            return damaged(reader, reader->store->rules[query->rule].rule->name, error);
        }
        if (!query->visit(query->ctx, &row)) {
            return MR_OK;
        }
    }
}

static void bind_query(struct mr_sqlite_stmt *stmt, const struct mr_results_query *query) {
    mr_sqlite_bind_int(stmt, query->from_ms);
    mr_sqlite_bind_int(stmt, query->to_ms);
    if (mr_results_sql_uses_after(query)) {
        mr_sqlite_bind_int(stmt, query->after_start_ms);
        mr_sqlite_bind_blob(stmt, query->after_key);
    }
}

enum mr_status mr_results_sqlite_read(struct mr_results_reader *base,
                                      const struct mr_results_query *query,
                                      struct mr_error *error) {
    struct reader *reader = reader_of(base);
    MR_ASSERT(query->rule < reader->store->rule_count);
    struct mr_buf sql;
    mr_buf_init(&sql, MR_RESULTS_SQL_BYTES_MAX);
    mr_results_sql_select(&sql, reader->store->rules[query->rule].rule, query);
    struct mr_sqlite_stmt *stmt = NULL;
    enum mr_status status = mr_sqlite_prepare(reader->db, mr_results_sql_end(&sql), &stmt);
    mr_buf_finish(&sql);
    if (status != MR_OK) {
        return explain(reader, status, error);
    }
    bind_query(stmt, query);
    status = visit_rows(reader, stmt, query, error);
    mr_sqlite_finish(stmt);
    return status;
}

/* false: a rule that this start does not have; its panes are passed over. */
static bool find_rule(const struct mr_results_sqlite *s, struct mr_bytes name, uint32_t *ret) {
    for (uint32_t i = 0; i < s->rule_count; i++) {
        if (mr_bytes_equal(s->rules[i].rule->name, name)) {
            *ret = i;
            return true;
        }
    }
    return false;
}

/* *ret_stopped: the id at which the visitor did; else it is left alone. */
static enum mr_status visit_panes(struct reader *reader, struct mr_sqlite_stmt *stmt,
                                  mr_results_outbox_visit visit, void *ctx, uint64_t *ret_stopped,
                                  struct mr_error *error) {
    for (;;) {
        enum mr_status status = mr_sqlite_step(stmt);
        if (status != MR_OK) {
            return status == MR_END ? MR_OK : explain(reader, status, error);
        }
        uint32_t rule;
        if (!find_rule(reader->store, mr_sqlite_column_bytes(stmt, 1), &rule)) {
            continue;
        }
        struct mr_pane pane;
        if (!mr_results_sqlite_take_row(stmt, 3, rule, &pane)) {
            return damaged(reader, MR_BYTES("panes"), error);
        }
        pane.retraction = mr_sqlite_column_int(stmt, 2) != 0;
        uint64_t id = (uint64_t)mr_sqlite_column_int(stmt, 0);
        if (!visit(ctx, id, &pane)) {
            *ret_stopped = id;
            return MR_OK;
        }
    }
}

#define SELECT_PANES                                                                               \
    "SELECT id,rule,retraction,window_start_ms,window_end_ms,events,revision,pane,timing,final,key,state FROM panes "

enum mr_status mr_results_sqlite_read_outbox(struct mr_results_reader *base, uint64_t after_id,
                                             mr_results_outbox_visit visit, void *ctx,
                                             struct mr_error *error) {
    struct reader *reader = reader_of(base);
    struct mr_sqlite_stmt *stmt = NULL;
    uint64_t stopped;
    enum mr_status status = mr_sqlite_prepare(reader->db, SELECT_PANES "WHERE id>? ORDER BY id", &stmt);
    if (status != MR_OK) {
        return explain(reader, status, error);
    }
    mr_sqlite_bind_uint(stmt, after_id > INT64_MAX ? INT64_MAX : after_id);
    status = visit_panes(reader, stmt, visit, ctx, &stopped, error);
    mr_sqlite_finish(stmt);
    return status;
}

/* The numbers of a statement's only row; MR_CORRUPT: one is not there. */
static enum mr_status read_numbers(struct reader *reader, struct mr_sqlite_stmt *stmt, int count,
                                   int64_t *ret, struct mr_error *error) {
    enum mr_status status = mr_sqlite_step(stmt);
    if (status != MR_OK && status != MR_END) {
        return explain(reader, status, error);
    }
    for (int i = 0; i < count; i++) {
        if (status == MR_END || mr_sqlite_column_is_null(stmt, i)) {
            return damaged(reader, MR_BYTES("millrace_meta"), error);
        }
        ret[i] = mr_sqlite_column_int(stmt, i);
    }
    return MR_OK;
}

/* One statement, so that all three are of one moment. */
enum mr_status mr_results_sqlite_read_state(struct mr_results_reader *base,
                                            struct mr_results_state *ret, struct mr_error *error) {
    struct reader *reader = reader_of(base);
    struct mr_sqlite_stmt *stmt = NULL;
    int64_t numbers[3]; /* epoch, the next id, the oldest: 0 for none */
    enum mr_status status =
        mr_sqlite_prepare(reader->db,
                          "SELECT (SELECT value FROM millrace_meta WHERE name='epoch'),"
                          "(SELECT value FROM millrace_meta WHERE name='outbox_next'),"
                          "(SELECT coalesce(min(id),0) FROM panes)",
                          &stmt);
    if (status != MR_OK) {
        return explain(reader, status, error);
    }
    status = read_numbers(reader, stmt, 3, numbers, error);
    mr_sqlite_finish(stmt);
    if (status != MR_OK) {
        return status;
    }
    if (numbers[0] <= 0 || numbers[1] <= 0 || numbers[2] < 0 || numbers[2] >= numbers[1]) {
        return damaged(reader, MR_BYTES("millrace_meta"), error);
    }
    *ret = (struct mr_results_state){
        .incarnation = reader->store->incarnation,
        .epoch = (uint64_t)numbers[0],
        .oldest_id = (uint64_t)(numbers[2] == 0 ? numbers[1] : numbers[2]),
        .newest_id = (uint64_t)numbers[1] - 1,
    };
    return MR_OK;
}

enum mr_status mr_results_sqlite_read_open_from(struct mr_results_reader *base, uint32_t rule,
                                                int64_t *ret_ms, struct mr_error *error) {
    struct reader *reader = reader_of(base);
    MR_ASSERT(rule < reader->store->rule_count);
    struct mr_sqlite_stmt *stmt = NULL;
    enum mr_status status =
        mr_sqlite_prepare(reader->db, "SELECT value FROM millrace_meta WHERE name='open_from_ms:'||?", &stmt);
    if (status != MR_OK) {
        return explain(reader, status, error);
    }
    mr_sqlite_bind_text(stmt, reader->store->rules[rule].rule->name);
    status = read_numbers(reader, stmt, 1, ret_ms, error);
    mr_sqlite_finish(stmt);
    return status;
}

/* A scan, without an index of rules: 65,536 ids take 6 ms, and whoever follows the outbox has a few to look through,
 * while an index would make every put to the outbox dearer by two fifths. */
enum mr_status mr_results_sqlite_read_outbox_rule(struct mr_results_reader *base, uint32_t rule, uint64_t after_id,
                                                  mr_results_outbox_visit visit, void *ctx, uint64_t *ret_id,
                                                  struct mr_error *error) {
    struct reader *reader = reader_of(base);
    MR_ASSERT(rule < reader->store->rule_count);
    struct mr_results_state state;
    struct mr_sqlite_stmt *stmt = NULL;
    enum mr_status status = mr_results_sqlite_read_state(base, &state, error);
    if (status != MR_OK) {
        return status;
    }
    if (after_id >= state.newest_id) {
        *ret_id = after_id;
        return MR_OK;
    }
    uint64_t first = after_id >= state.oldest_id ? after_id : state.oldest_id - 1;
    uint64_t last = state.newest_id - first > MR_RESULTS_LOOK_MAX ? first + MR_RESULTS_LOOK_MAX : state.newest_id;
    status = mr_sqlite_prepare(reader->db, SELECT_PANES "WHERE id>? AND id<=? AND rule=? ORDER BY id", &stmt);
    if (status != MR_OK) {
        return explain(reader, status, error);
    }
    mr_sqlite_bind_uint(stmt, first);
    mr_sqlite_bind_uint(stmt, last);
    mr_sqlite_bind_text(stmt, reader->store->rules[rule].rule->name);
    status = visit_panes(reader, stmt, visit, ctx, &last, error);
    mr_sqlite_finish(stmt);
    if (status == MR_OK) {
        *ret_id = last;
    }
    return status;
}

static void append_row(struct mr_sqlite_stmt *stmt, struct mr_buf *ret) {
    int count = mr_sqlite_column_count(stmt);
    for (int i = 0; i < count; i++) {
        if (i > 0) {
            mr_buf_append_char(ret, '|');
        }
        if (mr_sqlite_column_is_null(stmt, i)) {
            mr_buf_append_text(ret, "NULL");
        } else {
            mr_buf_append_bytes(ret, mr_sqlite_column_bytes(stmt, i));
        }
    }
    mr_buf_append_char(ret, '\n');
}

enum mr_status mr_results_sqlite_query(const char *path, const char *sql, struct mr_buf *ret,
                                       struct mr_error *error) {
    struct mr_sqlite *db = NULL;
    enum mr_status status = mr_sqlite_open(path, MR_SQLITE_READ, &db, error);
    if (status != MR_OK) {
        return status;
    }
    struct mr_sqlite_stmt *stmt = NULL;
    status = mr_sqlite_prepare(db, sql, &stmt);
    while (status == MR_OK) {
        status = mr_sqlite_step(stmt);
        if (status == MR_OK) {
            append_row(stmt, ret);
        }
    }
    if (status == MR_END) {
        status = ret->failed ? mr_error_set(error, MR_NO_MEMORY, "%s: too many rows", path) : MR_OK;
    } else {
        status = mr_error_set(error, status, "%s", mr_sqlite_error(db)->text);
    }
    mr_sqlite_finish(stmt);
    mr_sqlite_close(db);
    return status;
}
