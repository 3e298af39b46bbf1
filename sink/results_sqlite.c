/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer of the results store in SQLite: one transaction at a time on one connection. A failure
 * of any statement ends the transaction, so that the flusher always starts again from begin.
 */
#include "sink/results_sqlite.h"

#include "base/check.h"
#include "base/key.h"
#include "sink/results_sql.h"

enum { PRUNE_STEP_MIN = 1024 }; /* a commit may prune this many, and two for each pane it appends */

const char *const mr_results_timings[3] = {"EARLY", "ON_TIME", "LATE"};

static_assert(MR_TIMING_EARLY == 0 && MR_TIMING_ON_TIME == 1 && MR_TIMING_LATE == 2,
              "mr_results_timings is indexed by enum mr_timing");

static void store_check(const struct mr_results_sqlite *s) {
    MR_ASSERT(s->kept.epoch <= s->now.epoch);
    MR_ASSERT(s->kept.flushed_seq <= s->now.flushed_seq);
    MR_ASSERT(s->kept.outbox_next <= s->now.outbox_next);
    MR_ASSERT(s->now.outbox_count < s->now.outbox_next);
    MR_ASSERT(s->in_transaction == mr_sqlite_in_transaction(s->db));
}

/* The end of a transaction that did not commit: everything is as it was before begin. */
static void abandon(struct mr_results_sqlite *s) {
    mr_sqlite_rollback(s->db);
    s->in_transaction = false;
    s->now = s->kept;
    for (uint32_t i = 0; i < s->rule_count; i++) {
        s->rules[i].open_from_ms_now = s->rules[i].open_from_ms_kept;
    }
    store_check(s);
}

struct mr_results_sqlite *mr_results_sqlite_of(struct mr_results *results) {
    MR_ASSERT(results->ops == &mr_results_sqlite_ops);
    return (struct mr_results_sqlite *)results;
}

static enum mr_status run(struct mr_results_sqlite *s, struct mr_sqlite_stmt *stmt) {
    enum mr_status status = mr_sqlite_run(stmt);
    if (status != MR_OK) {
        abandon(s);
    }
    return status;
}

static enum mr_status sqlite_begin(struct mr_results *results) {
    struct mr_results_sqlite *s = mr_results_sqlite_of(results);
    MR_ASSERT(!s->in_transaction);
    enum mr_status status = run(s, s->begin);
    if (status == MR_OK) {
        s->in_transaction = true;
        store_check(s);
    }
    return status;
}

enum { WINDOW_PARAMETERS = 4 };

static void bind_window(struct mr_results_window *w, struct mr_sqlite_stmt *stmt,
                        const struct mr_pane *pane) {
    if (w->known && w->start_ms == pane->window_start_ms && w->end_ms == pane->window_end_ms) {
        mr_sqlite_bind_at(stmt, WINDOW_PARAMETERS + 1);
        return;
    }
    w->known = true;
    w->start_ms = pane->window_start_ms;
    w->end_ms = pane->window_end_ms;
    if (mr_time_has_text(w->start_ms) && mr_time_has_text(w->end_ms)) {
        mr_time_format(w->start_ms, w->start);
        mr_time_format(w->end_ms, w->end);
        mr_sqlite_bind_text(stmt, mr_bytes_of(w->start, MR_TIME_TEXT_LEN));
        mr_sqlite_bind_text(stmt, mr_bytes_of(w->end, MR_TIME_TEXT_LEN));
    } else {
        mr_sqlite_bind_null(stmt);
        mr_sqlite_bind_null(stmt);
    }
    mr_sqlite_bind_int(stmt, w->start_ms);
    mr_sqlite_bind_int(stmt, w->end_ms);
}

/* A number whose text is what an int64 would be written as; -0, 1.0, 1e3 and 007 are not. */
static bool plain_int64(struct mr_bytes text, int64_t *ret) {
    bool negative = text.len > 0 && text.ptr[0] == '-';
    size_t i = negative ? 1 : 0;
    size_t digits = text.len - i;
    if (digits == 0 || digits > 19 || (text.ptr[i] == '0' && text.len > 1)) {
        return false;
    }
    uint64_t value = 0; /* 19 digits fit */
    for (; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    if (value > (uint64_t)INT64_MAX + negative) {
        return false;
    }
    *ret = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

static void bind_key_value(struct mr_sqlite_stmt *stmt, const struct mr_key_value *value) {
    int64_t number;
    switch (value->tag) {
    case MR_KEY_NULL:
        mr_sqlite_bind_null(stmt);
        return;
    case MR_KEY_TRUE:
    case MR_KEY_FALSE:
        mr_sqlite_bind_int(stmt, value->tag == MR_KEY_TRUE);
        return;
    case MR_KEY_NUMBER:
        if (plain_int64(value->text, &number)) {
            mr_sqlite_bind_int(stmt, number);
            return;
        }
        mr_sqlite_bind_text(stmt, value->text);
        return;
    case MR_KEY_STRING:
        mr_sqlite_bind_text(stmt, value->text);
        return;
    case MR_KEY_OTHER:
        mr_sqlite_bind_text(stmt, MR_BYTES(MR_KEY_OTHER_TEXT));
        return;
    case MR_KEY_PANE:
        break;
    }
    MR_UNREACHABLE();
}

static void bind_key(struct mr_sqlite_stmt *stmt, struct mr_bytes key, uint32_t count) {
    struct mr_key_value value = {.tag = MR_KEY_OTHER};
    bool other = mr_key_is_other(key);
    for (uint32_t i = 0; i < count; i++) {
        bool more = other || mr_key_next(&key, &value);
        MR_ASSERT(more);
        bind_key_value(stmt, &value);
    }
    MR_ASSERT(other || key.len == 0 || key.ptr[0] == MR_KEY_PANE);
}

static void bind_number(struct mr_sqlite_stmt *stmt, const struct mr_number *number) {
    switch (number->kind) {
    case MR_NUMBER_NULL:
        mr_sqlite_bind_null(stmt);
        return;
    case MR_NUMBER_INT:
        mr_sqlite_bind_int(stmt, number->i);
        return;
    case MR_NUMBER_DOUBLE:
    case MR_NUMBER_OVERFLOW:
        mr_sqlite_bind_double(stmt, number->d);
        return;
    case MR_NUMBER_BOOL:
        mr_sqlite_bind_int(stmt, number->i);
        return;
    case MR_NUMBER_TEXT:
    case MR_NUMBER_JSON:
        mr_sqlite_bind_text(stmt, mr_bytes_of(number->text, number->len));
        return;
    }
    MR_UNREACHABLE();
}

static enum mr_status upsert(struct mr_results_sqlite *s, struct mr_results_sqlite_rule *r,
                             const struct mr_pane *pane) {
    struct mr_sqlite_stmt *stmt = r->upsert;
    bind_window(&r->window, stmt, pane);
    bind_key(stmt, pane->key, r->rule->key_count);
    for (uint32_t i = 0; i < pane->number_count; i++) {
        bind_number(stmt, &pane->numbers[i]);
    }
    mr_sqlite_bind_uint(stmt, pane->events);
    mr_sqlite_bind_uint(stmt, pane->revision);
    mr_sqlite_bind_uint(stmt, pane->index);
    mr_sqlite_bind_text(stmt, mr_bytes_text(mr_results_timings[pane->timing]));
    mr_sqlite_bind_int(stmt, pane->final);
    mr_sqlite_bind_blob(stmt, pane->key);
    mr_sqlite_bind_blob(stmt, pane->state);
    enum mr_status status = run(s, stmt);
    r->window.known = status == MR_OK; /* after a failure of binding nobody knows */
    return status;
}

static enum mr_status append(struct mr_results_sqlite *s, const struct mr_results_rule *rule,
                             const struct mr_pane *pane) {
    struct mr_sqlite_stmt *stmt = s->append;
    mr_sqlite_bind_uint(stmt, s->now.outbox_next);
    mr_sqlite_bind_text(stmt, rule->name);
    mr_sqlite_bind_int(stmt, pane->window_start_ms);
    mr_sqlite_bind_int(stmt, pane->window_end_ms);
    mr_sqlite_bind_blob(stmt, pane->key);
    mr_sqlite_bind_blob(stmt, pane->state);
    mr_sqlite_bind_uint(stmt, pane->events);
    mr_sqlite_bind_uint(stmt, pane->revision);
    mr_sqlite_bind_uint(stmt, pane->index);
    mr_sqlite_bind_text(stmt, mr_bytes_text(mr_results_timings[pane->timing]));
    mr_sqlite_bind_int(stmt, pane->final);
    mr_sqlite_bind_int(stmt, pane->retraction);
    enum mr_status status = run(s, stmt);
    s->now.outbox_next += status == MR_OK;
    s->now.outbox_count += status == MR_OK;
    return status;
}

static bool ends_with_index(struct mr_bytes key) {
    return key.len >= MR_KEY_PANE_LEN && key.ptr[key.len - MR_KEY_PANE_LEN] == MR_KEY_PANE;
}

static void bind_place(struct mr_sqlite_stmt *stmt, const struct mr_pane *pane) {
    mr_sqlite_bind_int(stmt, pane->window_start_ms);
    mr_sqlite_bind_blob(stmt, pane->key);
}

/* Whether a pane takes back what the row says: a retraction of it, or a later pane that says something else. */
static bool is_taken_back(const struct mr_pane *row, const struct mr_pane *pane) {
    if (pane->retraction) {
        return row->revision <= pane->revision;
    }
    return row->revision < pane->revision &&
           (row->events != pane->events || row->window_end_ms != pane->window_end_ms ||
            !mr_bytes_equal(row->state, pane->state));
}

/* Puts what the row of the pane's place says into the outbox as a retraction, if the pane takes it back, and removes
 * the row where that is asked for. Of a row that somebody has changed nobody knows what was said: it goes without a
 * word. */
static enum mr_status take_back(struct mr_results_sqlite *s, struct mr_results_sqlite_rule *r,
                                const struct mr_pane *pane, bool remove) {
    struct mr_pane row;
    bind_place(r->find, pane);
    enum mr_status status = mr_sqlite_step(r->find);
    bool found = status == MR_OK;
    bool whole = found && mr_results_sqlite_take_row(r->find, 0, pane->rule, &row);
    bool taken = found && (!whole || is_taken_back(&row, pane));
    if (taken && whole && s->outbox_panes_max > 0) {
        row.retraction = true;
        status = append(s, r->rule, &row);
    }
    mr_sqlite_reset(r->find);
    if (!found && status != MR_END) {
        abandon(s);
        return status;
    }
    if (!taken || status != MR_OK || !remove) {
        return status == MR_END ? MR_OK : status;
    }
    bind_place(r->remove, pane);
    return run(s, r->remove);
}

static enum mr_status sqlite_put(struct mr_results *results, const struct mr_pane *pane) {
    struct mr_results_sqlite *s = mr_results_sqlite_of(results);
    MR_ASSERT(s->in_transaction);
    MR_ASSERT(pane->rule < s->rule_count);
    struct mr_results_sqlite_rule *r = &s->rules[pane->rule];
    MR_ASSERT(!r->rule->discarding || ends_with_index(pane->key));
    if (pane->retraction) {
        return take_back(s, r, pane, true);
    }
    MR_ASSERT(pane->number_count == r->rule->metric_count);
    enum mr_status status = r->rule->retracting ? take_back(s, r, pane, false) : MR_OK;
    status = status == MR_OK ? upsert(s, r, pane) : status;
    if (status != MR_OK || mr_sqlite_changes(s->db) == 0) {
        return status; /* no change: the guard has seen this or a newer revision */
    }
    if (!pane->final && pane->window_start_ms < r->open_from_ms_now) {
        r->open_from_ms_now = pane->window_start_ms;
    }
    return s->outbox_panes_max == 0 ? MR_OK : append(s, r->rule, pane);
}

/* Moves open_from_ms_now to the first row at or behind it that is not final. *ret_end_ms: where its window ends. */
static enum mr_status find_first_open(struct mr_results_sqlite *s, struct mr_results_sqlite_rule *r,
                                      int64_t *ret_end_ms) {
    mr_sqlite_bind_int(r->first_open, r->open_from_ms_now);
    enum mr_status status = mr_sqlite_step(r->first_open);
    bool found = status == MR_OK;
    if (found || status == MR_END) {
        r->open_from_ms_now = found ? mr_sqlite_column_int(r->first_open, 0) : INT64_MAX;
        *ret_end_ms = found ? mr_sqlite_column_int(r->first_open, 1) : INT64_MAX;
        status = MR_OK;
    }
    mr_sqlite_reset(r->first_open);
    if (status != MR_OK) {
        abandon(s);
    }
    return status;
}

static enum mr_status finalize_starts(struct mr_results_sqlite *s, struct mr_results_sqlite_rule *r, int64_t end_ms) {
    int64_t first_end_ms;
    enum mr_status status = find_first_open(s, r, &first_end_ms);
    while (status == MR_OK && r->open_from_ms_now < end_ms && first_end_ms <= end_ms) {
        mr_sqlite_bind_int(r->finalize, r->open_from_ms_now);
        status = run(s, r->finalize);
        if (status == MR_OK) {
            r->open_from_ms_now++;
            status = find_first_open(s, r, &first_end_ms);
        }
    }
    return status;
}

static enum mr_status sqlite_finalize(struct mr_results *results, uint32_t rule, int64_t end_ms) {
    struct mr_results_sqlite *s = mr_results_sqlite_of(results);
    MR_ASSERT(s->in_transaction);
    MR_ASSERT(rule < s->rule_count);
    struct mr_results_sqlite_rule *r = &s->rules[rule];
    if (r->open_from_ms_now >= end_ms) {
        return MR_OK; /* no row that is not final ends that early */
    }
    if (!r->rule->ends_vary) {
        return finalize_starts(s, r, end_ms);
    }
    int64_t first_end_ms;
    mr_sqlite_bind_int(r->finalize, end_ms);
    enum mr_status status = run(s, r->finalize);
    return status == MR_OK ? find_first_open(s, r, &first_end_ms) : status;
}

/* After a DELETE from panes. A person may have put more there than were counted. */
static void uncount(struct mr_results_sqlite *s) {
    uint64_t gone = (uint64_t)mr_sqlite_changes(s->db);
    s->now.outbox_count -= gone < s->now.outbox_count ? gone : s->now.outbox_count;
}

static enum mr_status prune(struct mr_results_sqlite *s) {
    if (s->now.outbox_count <= s->outbox_panes_max) {
        return MR_OK;
    }
    /* Twice what came, so that a store whose bound was lowered gets there; not all at once. */
    uint64_t step = 2 * (s->now.outbox_next - s->kept.outbox_next) + PRUNE_STEP_MIN;
    uint64_t excess = s->now.outbox_count - s->outbox_panes_max;
    mr_sqlite_bind_uint(s->prune, (excess < step ? excess : step) - 1);
    enum mr_status status = run(s, s->prune);
    if (status == MR_OK) {
        uncount(s);
    }
    return status;
}

static enum mr_status set_meta(struct mr_results_sqlite *s, const char *prefix,
                               struct mr_bytes name, int64_t value) {
    mr_sqlite_bind_text(s->set_meta, mr_bytes_text(prefix));
    mr_sqlite_bind_text(s->set_meta, name);
    mr_sqlite_bind_int(s->set_meta, value);
    return run(s, s->set_meta);
}

static enum mr_status save_progress(struct mr_results_sqlite *s) {
    enum mr_status status = set_meta(s, "flushed_seq", MR_BYTES(""), (int64_t)s->now.flushed_seq);
    if (status == MR_OK && s->now.epoch != s->kept.epoch) {
        status = set_meta(s, "epoch", MR_BYTES(""), (int64_t)s->now.epoch);
    }
    if (status == MR_OK && s->now.outbox_next != s->kept.outbox_next) {
        status = set_meta(s, "outbox_next", MR_BYTES(""), (int64_t)s->now.outbox_next);
    }
    if (status == MR_OK && s->now.outbox_count != s->kept.outbox_count) {
        status = set_meta(s, "outbox_count", MR_BYTES(""), (int64_t)s->now.outbox_count);
    }
    for (uint32_t i = 0; i < s->rule_count && status == MR_OK; i++) {
        const struct mr_results_sqlite_rule *r = &s->rules[i];
        if (r->open_from_ms_now != r->open_from_ms_kept) {
            status = set_meta(s, "open_from_ms:", r->rule->name, r->open_from_ms_now);
        }
    }
    return status;
}

/* The commit of a window of a million groups writes hundreds of megabytes, and the log is synced a thousand times a second,
 * mostly on the same disk. */
static enum mr_status run_commit(struct mr_results_sqlite *s) {
    if (!s->sync) {
        return run(s, s->commit);
    }
    enum mr_status status = mr_sqlite_run_paced(s->commit);
    if (status != MR_OK) {
        abandon(s);
    }
    return status;
}

/* What happened since begin is kept, and counts. */
static enum mr_status keep(struct mr_results_sqlite *s) {
    enum mr_status status = save_progress(s);
    if (status == MR_OK) {
        status = run_commit(s);
    }
    if (status != MR_OK) {
        return status;
    }
    s->in_transaction = false;
    s->kept = s->now;
    for (uint32_t i = 0; i < s->rule_count; i++) {
        s->rules[i].open_from_ms_kept = s->rules[i].open_from_ms_now;
    }
    store_check(s);
    return MR_OK;
}

static enum mr_status sqlite_commit(struct mr_results *results, uint64_t flushed_seq) {
    struct mr_results_sqlite *s = mr_results_sqlite_of(results);
    MR_ASSERT(s->in_transaction);
    MR_ASSERT(flushed_seq >= s->kept.flushed_seq && flushed_seq <= INT64_MAX);
    enum mr_status status = prune(s);
    if (status != MR_OK) {
        return status;
    }
    s->now.flushed_seq = flushed_seq;
    return keep(s);
}

/* Runs a DELETE of what is later than seq; the names of rules are its other parameters. */
static enum mr_status remove_later(struct mr_results_sqlite *s, struct mr_buf *sql, uint64_t seq,
                                   uint32_t names) {
    struct mr_sqlite_stmt *stmt = NULL;
    enum mr_status status = mr_sqlite_prepare(s->db, mr_results_sql_end(sql), &stmt);
    if (status == MR_OK) {
        mr_sqlite_bind_uint(stmt, seq);
        for (uint32_t i = 0; i < names; i++) {
            mr_sqlite_bind_text(stmt, s->rules[i].rule->name);
        }
        status = mr_sqlite_run(stmt);
    }
    mr_sqlite_finish(stmt);
    if (status != MR_OK) {
        abandon(s);
    }
    return status;
}

/* The number in a statement's only row; NULL is 0. */
static enum mr_status read_int(struct mr_sqlite_stmt *stmt, int64_t *ret) {
    enum mr_status status = mr_sqlite_step(stmt);
    MR_ASSERT(status != MR_END);
    if (status == MR_OK) {
        *ret = mr_sqlite_column_int(stmt, 0);
    }
    return status;
}

/* What stays of a rule is open, from its first row on. */
static enum mr_status open_rows(struct mr_results_sqlite *s, struct mr_results_sqlite_rule *r,
                                struct mr_buf *sql) {
    struct mr_sqlite_stmt *stmt = NULL;
    mr_buf_clear(sql);
    mr_results_sql_open_all(sql, r->rule);
    enum mr_status status = mr_sqlite_exec(s->db, mr_results_sql_end(sql));
    if (status == MR_OK) {
        mr_buf_clear(sql);
        mr_results_sql_first(sql, r->rule);
        status = mr_sqlite_prepare(s->db, mr_results_sql_end(sql), &stmt);
    }
    if (status == MR_OK) {
        status = read_int(stmt, &r->open_from_ms_now);
    }
    mr_sqlite_finish(stmt);
    if (status != MR_OK) {
        abandon(s);
    }
    return status;
}

/* The greatest generation above seq that is aside; 0: none. */
static enum mr_status find_newer_aside(struct mr_results_sqlite *s,
                                       const struct mr_results_rule *rule, uint64_t seq,
                                       uint64_t *ret) {
    struct mr_sqlite_stmt *stmt = NULL;
    int64_t generation = 0;
    enum mr_status status = mr_sqlite_prepare(s->db, mr_results_sql_newer_aside, &stmt);
    if (status == MR_OK) {
        mr_sqlite_bind_uint(stmt, seq);
        mr_sqlite_bind_text(stmt, rule->name);
        status = read_int(stmt, &generation);
    }
    mr_sqlite_finish(stmt);
    *ret = (uint64_t)generation;
    return status;
}

static enum mr_status drop_aside(struct mr_results_sqlite *s, const struct mr_results_rule *rule,
                                 uint64_t generation, struct mr_buf *sql) {
    static const char *const removals[] = {
        "DELETE FROM millrace_meta WHERE name IN"
        "('shape:'||?1||':'||?2,'open_from_ms:'||?1||':'||?2,'generation:'||?1||':'||?2)",
        "DELETE FROM panes WHERE rule=?1||':'||?2",
    };
    mr_buf_clear(sql);
    mr_results_sql_drop_aside(sql, rule, generation);
    enum mr_status status = mr_sqlite_exec(s->db, mr_results_sql_end(sql));
    for (size_t i = 0; i < sizeof removals / sizeof removals[0] && status == MR_OK; i++) {
        struct mr_sqlite_stmt *stmt = NULL;
        status = mr_sqlite_prepare(s->db, removals[i], &stmt);
        if (status == MR_OK) {
            mr_sqlite_bind_text(stmt, rule->name);
            mr_sqlite_bind_uint(stmt, generation);
            status = mr_sqlite_run(stmt);
        }
        mr_sqlite_finish(stmt);
    }
    if (status == MR_OK) {
        uncount(s);
    }
    return status;
}

/* One after the other: a table can't go while a statement reads which ones there are. */
static enum mr_status drop_newer_asides(struct mr_results_sqlite *s,
                                        const struct mr_results_rule *rule, uint64_t seq,
                                        struct mr_buf *sql) {
    uint64_t generation = 0;
    enum mr_status status = find_newer_aside(s, rule, seq, &generation);
    while (status == MR_OK && generation != 0) {
        status = drop_aside(s, rule, generation, sql);
        if (status == MR_OK) {
            status = find_newer_aside(s, rule, seq, &generation);
        }
    }
    if (status != MR_OK) {
        abandon(s);
    }
    return status;
}

static enum mr_status rewind_rule(struct mr_results_sqlite *s, struct mr_results_sqlite_rule *r,
                                  uint64_t seq, struct mr_buf *sql) {
    mr_buf_clear(sql);
    mr_results_sql_rewind(sql, r->rule);
    enum mr_status status = remove_later(s, sql, seq, 0);
    if (status == MR_OK) {
        status = open_rows(s, r, sql);
    }
    return status == MR_OK ? drop_newer_asides(s, r->rule, seq, sql) : status;
}

/* Ids of removed panes stay used: outbox_next does not go back. */
static enum mr_status sqlite_rewind(struct mr_results *results, uint64_t seq) {
    struct mr_results_sqlite *s = mr_results_sqlite_of(results);
    struct mr_buf sql;
    mr_buf_init(&sql, MR_RESULTS_SQL_BYTES_MAX);
    enum mr_status status = sqlite_begin(results);
    for (uint32_t i = 0; i < s->rule_count && status == MR_OK; i++) {
        status = rewind_rule(s, &s->rules[i], seq, &sql);
    }
    if (status == MR_OK) {
        mr_buf_clear(&sql);
        mr_results_sql_rewind_outbox(&sql, s->rule_count);
        status = remove_later(s, &sql, seq, s->rule_count);
    }
    mr_buf_finish(&sql);
    if (status != MR_OK) {
        return status;
    }
    uncount(s);
    s->now.flushed_seq = seq;
    s->now.epoch = mr_results_sqlite_next_epoch(s, s->kept.epoch);
    return keep(s);
}

static void sqlite_rollback(struct mr_results *results) {
    abandon(mr_results_sqlite_of(results));
}

static uint64_t sqlite_flushed_seq(struct mr_results *results) {
    return mr_results_sqlite_of(results)->kept.flushed_seq;
}

static const char *sqlite_error_text(struct mr_results *results) {
    return mr_sqlite_error(mr_results_sqlite_of(results)->db)->text;
}

const struct mr_results_ops mr_results_sqlite_ops = {
    .begin = sqlite_begin,
    .put = sqlite_put,
    .finalize = sqlite_finalize,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .flushed_seq = sqlite_flushed_seq,
    .rewind = sqlite_rewind,
    .reader_open = mr_results_sqlite_reader_open,
    .reader_close = mr_results_sqlite_reader_close,
    .read = mr_results_sqlite_read,
    .read_outbox = mr_results_sqlite_read_outbox,
    .read_outbox_rule = mr_results_sqlite_read_outbox_rule,
    .read_state = mr_results_sqlite_read_state,
    .read_open_from = mr_results_sqlite_read_open_from,
    .error_text = sqlite_error_text,
    .close = mr_results_sqlite_close,
};
