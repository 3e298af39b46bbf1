/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing the results store in SQLite: is this file ours, of this log, with these
 * rules; make what is missing in one transaction; load what is kept beside the file.
 *
 * The file is only read until it is known to be ours: a wrong path must not change somebody's
 * database.
 */
#include "sink/results_sqlite.h"

#include "base/alloc.h"
#include "base/check.h"
#include "sink/results_sql.h"

#include <errno.h>
#include <stdio.h>

#define FORMAT "3"

enum { INCARNATION_TEXT = 17 };

/* secure_delete, which Debian switches on, would write zeros over every pane that is pruned. */
static const char pragmas[] = "PRAGMA trusted_schema=OFF;"
                              "PRAGMA secure_delete=OFF;"
                              "PRAGMA journal_size_limit=67108864;"
                              "PRAGMA cache_size=-32768;";

static enum mr_status explain(const struct mr_results_sqlite *s, enum mr_status status,
                              struct mr_error *error) {
    return status == MR_OK ? MR_OK
                           : mr_error_set(error, status, "%s", mr_sqlite_error(s->db)->text);
}

/* Appends the first column of the first row of a statement with up to two parameters, and a NUL.
 * MR_END: no row. */
static enum mr_status scalar(struct mr_results_sqlite *s, const char *sql, const char *prefix,
                             struct mr_bytes name, struct mr_buf *ret, struct mr_error *error) {
    struct mr_sqlite_stmt *stmt = NULL;
    enum mr_status status = mr_sqlite_prepare(s->db, sql, &stmt);
    if (status != MR_OK) {
        return explain(s, status, error);
    }
    if (prefix != NULL) {
        mr_sqlite_bind_text(stmt, mr_bytes_text(prefix));
        mr_sqlite_bind_text(stmt, name);
    }
    status = mr_sqlite_step(stmt);
    if (status == MR_OK) {
        mr_buf_append_bytes(ret, mr_sqlite_column_bytes(stmt, 0));
        mr_buf_append_char(ret, 0);
        if (ret->failed) {
            status = mr_error_set(error, MR_NO_MEMORY, "%s: out of memory", s->path);
        }
    } else if (status != MR_END) {
        status = explain(s, status, error);
    }
    mr_sqlite_finish(stmt);
    return status;
}

static enum mr_status scalar_int(struct mr_results_sqlite *s, const char *sql, const char *prefix,
                                 struct mr_bytes name, int64_t *ret, struct mr_error *error) {
    struct mr_buf text;
    mr_buf_init(&text, MR_RESULTS_SQL_BYTES_MAX);
    enum mr_status status = scalar(s, sql, prefix, name, &text, error);
    if (status == MR_OK) {
        char *end = NULL;
        errno = 0;
        int64_t value = strtoll((const char *)text.ptr, &end, 10);
        if (errno == 0 && end != (const char *)text.ptr && *end == 0) {
            *ret = value;
        } else {
            status = MR_END;
        }
    }
    mr_buf_finish(&text);
    if (status == MR_END) {
        return mr_error_set(error, MR_CORRUPT, "%s: no number for %s%.*s; the file was changed",
                            s->path, prefix == NULL ? sql : prefix, (int)name.len,
                            (const char *)name.ptr);
    }
    return status;
}

static const char get_meta[] = "SELECT value FROM millrace_meta WHERE name=?||?";

/* MR_MISMATCH with both texts and an advice, unless millrace_meta has exactly this; MR_END: has
 * nothing. */
static enum mr_status match_meta(struct mr_results_sqlite *s, const char *prefix,
                                 struct mr_bytes name, struct mr_bytes want, const char *advice,
                                 struct mr_error *error) {
    struct mr_buf have;
    mr_buf_init(&have, MR_RESULTS_SQL_BYTES_MAX);
    enum mr_status status = scalar(s, get_meta, prefix, name, &have, error);
    if (status == MR_OK && !mr_bytes_equal(mr_bytes_of(have.ptr, have.len - 1), want)) {
        status = mr_error_set(
            error, MR_MISMATCH, "%s: %s%.*s is %.100s in the file, %.*s is needed: %s", s->path,
            prefix, (int)name.len, (const char *)name.ptr, (const char *)have.ptr,
            (int)(want.len > 100 ? 100 : want.len), (const char *)want.ptr, advice);
    }
    mr_buf_finish(&have);
    return status;
}

static enum mr_status identify(struct mr_results_sqlite *s, const char *incarnation,
                               bool *ret_is_new, struct mr_error *error) {
    int64_t tables = 0;
    int64_t ours = 0;
    enum mr_status status =
        scalar_int(s, "SELECT count(*) FROM sqlite_schema", NULL, MR_BYTES(""), &tables, error);
    if (status == MR_OK) {
        status = scalar_int(s, "SELECT count(*) FROM sqlite_schema WHERE name='millrace_meta'",
                            NULL, MR_BYTES(""), &ours, error);
    }
    if (status != MR_OK) {
        return status;
    }
    *ret_is_new = tables == 0;
    if (tables == 0) {
        return MR_OK;
    }
    if (ours == 0) {
        return mr_error_set(error, MR_MISMATCH,
                            "%s is a database of something else: give another path", s->path);
    }
    status =
        match_meta(s, "format", MR_BYTES(""), MR_BYTES(FORMAT),
                   "start the version that wrote it, or move the file away and have its results "
                   "made again from the log",
                   error);
    if (status == MR_OK) {
        status =
            match_meta(s, "incarnation", MR_BYTES(""), mr_bytes_text(incarnation),
                       "the file belongs to another log; put back the log it belongs to, or move "
                       "the file away and have the results made from this log",
                       error);
    }
    return status != MR_END
               ? status
               : mr_error_set(error, MR_CORRUPT, "%s: millrace_meta lacks format or incarnation",
                              s->path);
}

static enum mr_status configure(struct mr_results_sqlite *s,
                                const struct mr_results_sqlite_options *options, bool is_new,
                                struct mr_error *error) {
    enum mr_status status = MR_OK;
    if (is_new) {
        status = mr_sqlite_exec(s->db, "PRAGMA page_size=8192"); /* fewer splits than with 4096 */
    }
    if (status == MR_OK) {
        status = mr_sqlite_exec(s->db, pragmas);
    }
    if (status == MR_OK) {
        status = mr_sqlite_exec(s->db, options->sync ? "PRAGMA synchronous=FULL"
                                                     : "PRAGMA synchronous=OFF");
    }
    if (status != MR_OK) {
        return explain(s, status, error);
    }
    struct mr_buf mode;
    mr_buf_init(&mode, MR_RESULTS_SQL_BYTES_MAX);
    status = scalar(s, "PRAGMA journal_mode=WAL", NULL, MR_BYTES(""), &mode, error);
    if (status == MR_OK && !s->in_memory && strcmp((const char *)mode.ptr, "wal") != 0) {
        status = mr_error_set(error, MR_UNSUPPORTED,
                              "%s: this file system can't share memory between readers and the "
                              "writer (SQLite's WAL mode): use a local one",
                              s->path);
    }
    mr_buf_finish(&mode);
    return status;
}

static enum mr_status bound_size(struct mr_results_sqlite *s, uint64_t bytes_max,
                                 struct mr_error *error) {
    if (bytes_max == 0) {
        return MR_OK;
    }
    int64_t page_bytes = 0;
    enum mr_status status =
        scalar_int(s, "PRAGMA page_size", NULL, MR_BYTES(""), &page_bytes, error);
    if (status != MR_OK) {
        return status;
    }
    MR_ASSERT(page_bytes > 0);
    uint64_t pages = bytes_max / (uint64_t)page_bytes;
    if (pages > UINT32_MAX - 1) {
        return MR_OK; /* SQLite's own bound is there */
    }
    char sql[64];
    (void)snprintf(sql, sizeof sql, "PRAGMA max_page_count=%llu",
                   (unsigned long long)(pages == 0 ? 1 : pages)); /* fits */
    return explain(s, mr_sqlite_exec(s->db, sql), error);
}

/* Making what is missing. Inside the one transaction of opening. */

static enum mr_status put_meta(struct mr_results_sqlite *s, const char *prefix,
                               struct mr_bytes name, struct mr_bytes value,
                               struct mr_error *error) {
    struct mr_sqlite_stmt *stmt = NULL;
    enum mr_status status =
        mr_sqlite_prepare(s->db, "INSERT INTO millrace_meta(name,value)VALUES(?||?,?)", &stmt);
    if (status == MR_OK) {
        mr_sqlite_bind_text(stmt, mr_bytes_text(prefix));
        mr_sqlite_bind_text(stmt, name);
        mr_sqlite_bind_text(stmt, value);
        status = mr_sqlite_run(stmt);
    }
    mr_sqlite_finish(stmt);
    return explain(s, status, error);
}

static enum mr_status create_base(struct mr_results_sqlite *s, const char *incarnation,
                                  struct mr_error *error) {
    enum mr_status status = explain(s, mr_sqlite_exec(s->db, mr_results_sql_base), error);
    struct mr_bytes none = MR_BYTES("");
    if (status == MR_OK) {
        status = put_meta(s, "format", none, MR_BYTES(FORMAT), error);
    }
    if (status == MR_OK) {
        status = put_meta(s, "incarnation", none, mr_bytes_text(incarnation), error);
    }
    if (status == MR_OK) {
        status = put_meta(s, "flushed_seq", none, MR_BYTES("0"), error);
    }
    if (status == MR_OK) {
        status = put_meta(s, "outbox_next", none, MR_BYTES("1"), error);
    }
    if (status == MR_OK) {
        status = put_meta(s, "outbox_count", none, MR_BYTES("0"), error);
    }
    return status;
}

static enum mr_status create_rule(struct mr_results_sqlite *s, const struct mr_results_rule *rule,
                                  struct mr_bytes shape, struct mr_error *error) {
    struct mr_buf sql;
    mr_buf_init(&sql, MR_RESULTS_SQL_BYTES_MAX);
    mr_results_sql_create(&sql, rule);
    enum mr_status status = explain(s, mr_sqlite_exec(s->db, mr_results_sql_end(&sql)), error);
    if (status == MR_OK && rule->ends_vary) {
        mr_buf_clear(&sql);
        mr_results_sql_create_index(&sql, rule);
        status = explain(s, mr_sqlite_exec(s->db, mr_results_sql_end(&sql)), error);
    }
    mr_buf_finish(&sql);
    if (status == MR_OK) {
        status = put_meta(s, "shape:", rule->name, shape, error);
    }
    if (status == MR_OK) {
        status = put_meta(s, "open_from_ms:", rule->name, MR_BYTES("9223372036854775807"), error);
    }
    if (status == MR_OK) {
        char generation[24];
        (void)snprintf(generation, sizeof generation, "%llu",
                       (unsigned long long)rule->generation); /* fits */
        status = put_meta(s, "generation:", rule->name, mr_bytes_text(generation), error);
    }
    return status;
}

/* From the rule's name to that of a generation, or back: the table, then what names it. */
struct move {
    void (*rename)(struct mr_buf *sql, const struct mr_results_rule *rule, uint64_t generation);
    const char *updates[2]; /* 1 the rule's name, 2 the generation */
};

static const struct move put_aside = {
    mr_results_sql_put_aside,
    {"UPDATE millrace_meta SET name=name||':'||?2 "
     "WHERE name IN('shape:'||?1,'open_from_ms:'||?1,'generation:'||?1)",
     "UPDATE panes SET rule=?1||':'||?2 WHERE rule=?1"},
};

static const struct move bring_back = {
    mr_results_sql_bring_back,
    {"UPDATE millrace_meta SET name=substr(name,1,instr(name,':'))||?1 "
     "WHERE name IN('shape:'||?1||':'||?2,'open_from_ms:'||?1||':'||?2,'generation:'||?1||':'||?2)",
     "UPDATE panes SET rule=?1 WHERE rule=?1||':'||?2"},
};

static enum mr_status move_rule(struct mr_results_sqlite *s, const struct mr_results_rule *rule,
                                uint64_t generation, const struct move *move,
                                struct mr_error *error) {
    struct mr_buf sql;
    mr_buf_init(&sql, MR_RESULTS_SQL_BYTES_MAX);
    move->rename(&sql, rule, generation);
    enum mr_status status = mr_sqlite_exec(s->db, mr_results_sql_end(&sql));
    mr_buf_finish(&sql);
    for (size_t i = 0; i < 2 && status == MR_OK; i++) {
        struct mr_sqlite_stmt *stmt = NULL;
        status = mr_sqlite_prepare(s->db, move->updates[i], &stmt);
        if (status == MR_OK) {
            mr_sqlite_bind_text(stmt, rule->name);
            mr_sqlite_bind_uint(stmt, generation);
            status = mr_sqlite_run(stmt);
        }
        mr_sqlite_finish(stmt);
    }
    return explain(s, status, error);
}

static enum mr_status is_aside(struct mr_results_sqlite *s, const struct mr_results_rule *rule,
                               bool *ret, struct mr_error *error) {
    int64_t count = 0;
    struct mr_buf name;
    mr_buf_init(&name, MR_RESULTS_SQL_BYTES_MAX);
    mr_buf_append_bytes(&name, rule->name);
    mr_buf_printf(&name, ":%llu", (unsigned long long)rule->generation);
    enum mr_status status =
        name.failed ? mr_error_set(error, MR_NO_MEMORY, "%s: out of memory", s->path)
                    : scalar_int(s, "SELECT count(*) FROM millrace_meta WHERE name=?||?",
                                 "generation:", mr_buf_bytes(&name), &count, error);
    mr_buf_finish(&name);
    *ret = count != 0;
    return status;
}

/* Puts the rule of another generation out of the way, and that of this one in its place. MR_END: the file does not have
 * this one. */
static enum mr_status settle_generation(struct mr_results_sqlite *s,
                                        const struct mr_results_rule *rule,
                                        struct mr_error *error) {
    int64_t have = 0;
    enum mr_status status =
        scalar_int(s, "SELECT coalesce((SELECT value FROM millrace_meta WHERE name=?||?),-1)",
                   "generation:", rule->name, &have, error);
    if (status != MR_OK) {
        return status;
    }
    if (have < 0) {
        return MR_END;
    }
    if ((uint64_t)have == rule->generation) {
        return MR_OK;
    }
    bool aside = false;
    status = move_rule(s, rule, (uint64_t)have, &put_aside, error);
    if (status == MR_OK) {
        status = is_aside(s, rule, &aside, error);
    }
    if (status != MR_OK) {
        return status;
    }
    return aside ? move_rule(s, rule, rule->generation, &bring_back, error) : MR_END;
}

static enum mr_status match_or_create_rule(struct mr_results_sqlite *s,
                                           const struct mr_results_rule *rule,
                                           struct mr_error *error) {
    struct mr_buf shape;
    mr_buf_init(&shape, MR_RESULTS_SQL_BYTES_MAX);
    mr_results_sql_shape(&shape, rule);
    enum mr_status status = shape.failed
                                ? mr_error_set(error, MR_NO_MEMORY, "%s: out of memory", s->path)
                                : settle_generation(s, rule, error);
    if (status == MR_OK) {
        status = match_meta(s, "shape:", rule->name, mr_buf_bytes(&shape),
                            "give the changed rule another name, or move the file away", error);
    }
    if (status == MR_END) {
        status = create_rule(s, rule, mr_buf_bytes(&shape), error);
    }
    mr_buf_finish(&shape);
    return status;
}

uint64_t mr_results_sqlite_next_epoch(const struct mr_results_sqlite *s, uint64_t last) {
    int64_t wall_ms = mr_clock_wall_ms(s->clock);
    uint64_t now = wall_ms > 0 ? (uint64_t)wall_ms : 1;
    return now > last ? now : last + 1;
}

/* A new store has none, and neither has one of a version before there were epochs. */
static enum mr_status make_epoch(struct mr_results_sqlite *s, struct mr_error *error) {
    struct mr_buf have;
    mr_buf_init(&have, MR_RESULTS_SQL_BYTES_MAX);
    enum mr_status status = scalar(s, get_meta, "epoch", MR_BYTES(""), &have, error);
    mr_buf_finish(&have);
    if (status != MR_END) {
        return status;
    }
    char text[24];
    (void)snprintf(text, sizeof text, "%llu",
                   (unsigned long long)mr_results_sqlite_next_epoch(s, 0)); /* fits */
    return put_meta(s, "epoch", MR_BYTES(""), mr_bytes_text(text), error);
}

static enum mr_status make_schema(struct mr_results_sqlite *s, const char *incarnation, bool is_new,
                                  struct mr_error *error) {
    enum mr_status status = explain(s, mr_sqlite_exec(s->db, "BEGIN IMMEDIATE"), error);
    if (status == MR_OK && is_new) {
        status = create_base(s, incarnation, error);
    }
    if (status == MR_OK) {
        status = make_epoch(s, error);
    }
    for (uint32_t i = 0; i < s->rule_count && status == MR_OK; i++) {
        status = match_or_create_rule(s, s->rules[i].rule, error);
    }
    if (status == MR_OK) {
        status = explain(s, mr_sqlite_exec(s->db, "COMMIT"), error);
    }
    mr_sqlite_rollback(s->db); /* of what failed */
    return status;
}

static enum mr_status prepare_rule(struct mr_results_sqlite *s, struct mr_results_sqlite_rule *r) {
    const struct {
        void (*append)(struct mr_buf *sql, const struct mr_results_rule *rule);
        struct mr_sqlite_stmt **ret;
    } statements[] = {
        {mr_results_sql_upsert, &r->upsert},         {mr_results_sql_finalize, &r->finalize},
        {mr_results_sql_find, &r->find},             {mr_results_sql_remove, &r->remove},
        {mr_results_sql_first_open, &r->first_open},
    };
    struct mr_buf sql;
    mr_buf_init(&sql, MR_RESULTS_SQL_BYTES_MAX);
    enum mr_status status = MR_OK;
    for (size_t i = 0; i < sizeof statements / sizeof statements[0] && status == MR_OK; i++) {
        mr_buf_clear(&sql);
        statements[i].append(&sql, r->rule);
        status = mr_sqlite_prepare(s->db, mr_results_sql_end(&sql), statements[i].ret);
    }
    mr_buf_finish(&sql);
    return status;
}

static enum mr_status prepare_all(struct mr_results_sqlite *s, struct mr_error *error) {
    const struct {
        const char *sql;
        struct mr_sqlite_stmt **ret;
    } statements[] = {
        {"BEGIN IMMEDIATE", &s->begin},
        {"COMMIT", &s->commit},
        {"INSERT INTO panes(id,rule,window_start_ms,window_end_ms,key,state,events,revision,pane,"
         "timing,final,retraction)VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
         &s->append},
        {"DELETE FROM panes WHERE id<=(SELECT id FROM panes ORDER BY id LIMIT 1 OFFSET ?)",
         &s->prune},
        {"UPDATE millrace_meta SET value=?3 WHERE name=?1||?2", &s->set_meta},
    };
    enum mr_status status = MR_OK;
    for (size_t i = 0; i < sizeof statements / sizeof statements[0] && status == MR_OK; i++) {
        status = mr_sqlite_prepare(s->db, statements[i].sql, statements[i].ret);
    }
    for (uint32_t i = 0; i < s->rule_count && status == MR_OK; i++) {
        status = prepare_rule(s, &s->rules[i]);
    }
    return explain(s, status, error);
}

static enum mr_status load(struct mr_results_sqlite *s, struct mr_error *error) {
    int64_t epoch = 0;
    int64_t flushed = 0;
    int64_t next = 0;
    int64_t count = 0;
    enum mr_status status = scalar_int(s, get_meta, "flushed_seq", MR_BYTES(""), &flushed, error);
    if (status == MR_OK) {
        status = scalar_int(s, get_meta, "epoch", MR_BYTES(""), &epoch, error);
    }
    if (status == MR_OK) {
        status = scalar_int(s, get_meta, "outbox_next", MR_BYTES(""), &next, error);
    }
    if (status == MR_OK) {
        status = scalar_int(s, get_meta, "outbox_count", MR_BYTES(""), &count, error);
    }
    for (uint32_t i = 0; i < s->rule_count && status == MR_OK; i++) {
        status = scalar_int(s, get_meta, "open_from_ms:", s->rules[i].rule->name,
                            &s->rules[i].open_from_ms_kept, error);
        s->rules[i].open_from_ms_now = s->rules[i].open_from_ms_kept;
    }
    if (status != MR_OK) {
        return status;
    }
    if (epoch <= 0 || flushed < 0 || count < 0 || next <= count) {
        return mr_error_set(error, MR_CORRUPT, "%s: millrace_meta was changed", s->path);
    }
    s->kept = (struct mr_results_progress){
        .epoch = (uint64_t)epoch,
        .flushed_seq = (uint64_t)flushed,
        .outbox_next = (uint64_t)next,
        .outbox_count = (uint64_t)count,
    };
    s->now = s->kept;
    return MR_OK;
}

static struct mr_results_sqlite *allocate(const struct mr_results_sqlite_options *options) {
    size_t head = sizeof(struct mr_results_sqlite) +
                  options->rule_count * sizeof(struct mr_results_sqlite_rule);
    struct mr_results_sqlite *s = mr_alloc_zero(1, head + strlen(options->path) + 1);
    if (s == NULL) {
        return NULL;
    }
    char *path = (char *)s + head;
    memcpy(path, options->path, strlen(options->path) + 1);
    s->base.ops = &mr_results_sqlite_ops;
    s->path = path;
    s->in_memory = strcmp(path, ":memory:") == 0;
    s->sync = options->sync;
    s->incarnation = options->incarnation;
    s->clock = options->clock != NULL ? options->clock : mr_clock_system();
    s->outbox_panes_max = options->outbox_panes_max;
    s->rule_count = options->rule_count;
    for (uint32_t i = 0; i < options->rule_count; i++) {
        MR_ASSERT(options->rules[i].generation <= INT64_MAX);
        s->rules[i].rule = &options->rules[i];
    }
    return s;
}

static enum mr_status open_file(struct mr_results_sqlite *s,
                                const struct mr_results_sqlite_options *options,
                                struct mr_error *error) {
    char incarnation[INCARNATION_TEXT];
    (void)snprintf(incarnation, sizeof incarnation, "%016llx",
                   (unsigned long long)options->incarnation); /* 16 digits */
    bool is_new = false;
    enum mr_status status = mr_sqlite_open(s->path, MR_SQLITE_CREATE, &s->db, error);
    if (status == MR_OK) {
        status = identify(s, incarnation, &is_new, error);
    }
    if (status == MR_OK) {
        status = configure(s, options, is_new, error);
    }
    if (status == MR_OK) {
        status = make_schema(s, incarnation, is_new, error);
    }
    if (status == MR_OK) {
        status = bound_size(s, options->bytes_max, error);
    }
    if (status == MR_OK) {
        status = prepare_all(s, error);
    }
    return status == MR_OK ? load(s, error) : status;
}

enum mr_status mr_results_sqlite_open(const struct mr_results_sqlite_options *options,
                                      struct mr_results **ret, struct mr_error *error) {
    MR_ASSERT(options->path != NULL && options->path[0] != 0);
    enum mr_status status = mr_results_sql_check(options->rules, options->rule_count, error);
    if (status != MR_OK) {
        return status;
    }
    struct mr_results_sqlite *s = allocate(options);
    if (s == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s: out of memory", options->path);
    }
    status = open_file(s, options, error);
    if (status != MR_OK) {
        mr_results_sqlite_close(&s->base);
        return status;
    }
    *ret = &s->base;
    return MR_OK;
}

void mr_results_sqlite_close(struct mr_results *results) {
    struct mr_results_sqlite *s = mr_results_sqlite_of(results);
    for (uint32_t i = 0; i < s->rule_count; i++) {
        mr_sqlite_finish(s->rules[i].upsert);
        mr_sqlite_finish(s->rules[i].finalize);
        mr_sqlite_finish(s->rules[i].find);
        mr_sqlite_finish(s->rules[i].remove);
        mr_sqlite_finish(s->rules[i].first_open);
    }
    mr_sqlite_finish(s->begin);
    mr_sqlite_finish(s->commit);
    mr_sqlite_finish(s->append);
    mr_sqlite_finish(s->prune);
    mr_sqlite_finish(s->set_meta);
    mr_sqlite_close(s->db); /* an open transaction is rolled back */
    mr_free(s);
}
