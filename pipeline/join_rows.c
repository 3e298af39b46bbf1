/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/join_rows.h"

#include "base/alloc.h"
#include "base/check.h"
#include "pipeline/panes.h"

enum { PIECE_BYTES = 1 << 20, TRANSACTION_PIECES = 64 };

struct copying {
    const struct mr_join_rows *rows;
    struct mr_results *to;
    uint32_t rule; /* of the plan */
    struct mr_flush *flush;
    struct mr_arena scratch;
    uint32_t pieces; /* in the open transaction */
    enum mr_status status;
};

void mr_join_rows_add(struct mr_join_rows *rows, const struct mr_results_rule *results_rule, uint32_t rule,
                      uint64_t generation, struct mr_join_part part) {
    MR_ASSERT(rows->count < MR_RULES_MAX);
    rows->rules[rows->count] = *results_rule;
    rows->rules[rows->count].generation = generation;
    rows->rule_of[rows->count] = rule;
    rows->parts[rows->count] = part;
    rows->count++;
}

/* What was gathered goes into the store. */
static void put(struct copying *c) {
    if (c->status == MR_OK && c->flush->panes.failed) {
        c->status = MR_NO_MEMORY;
    }
    if (c->status == MR_OK && c->pieces == TRANSACTION_PIECES) {
        c->status = mr_results_commit(c->to, 0);
        c->pieces = 0;
        c->status = c->status == MR_OK ? mr_results_begin(c->to) : c->status;
    }
    if (c->status == MR_OK) {
        c->status = mr_panes_put(c->to, c->rows->plan, c->flush, &c->scratch);
        c->pieces++;
    }
    mr_buf_clear(&c->flush->panes);
}

static bool take(void *ctx, const struct mr_pane *row) {
    struct copying *c = ctx;
    struct mr_pane pane = *row;
    pane.rule = c->rule;
    mr_pane_append(&c->flush->panes, &pane);
    if (c->flush->panes.len >= PIECE_BYTES || c->flush->panes.failed) {
        put(c);
    }
    return c->status == MR_OK;
}

static enum mr_status failed(const struct copying *c, struct mr_error *error) {
    return mr_error_set(error, c->status, "cannot copy rows of %s: %s", c->rows->path,
                        c->status == MR_NO_MEMORY ? mr_status_text(c->status) : mr_results_error_text(c->to));
}

static enum mr_status copy_rules(struct copying *c, struct mr_results_reader *reader, struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < c->rows->count; i++) {
        const struct mr_join_part *part = &c->rows->parts[i];
        struct mr_results_query query = {.rule = i,
                                         .from_ms = part->from_ms,
                                         .to_ms = part->to_ms,
                                         .final_only = part->final_only,
                                         .order = -1,
                                         .visit = take,
                                         .ctx = c};
        c->rule = c->rows->rule_of[i];
        status = mr_results_read(reader, &query, error);
        if (status == MR_OK) {
            put(c);
            status = c->status == MR_OK ? MR_OK : failed(c, error);
        }
    }
    return status;
}

static enum mr_status copy(struct copying *c, struct mr_results *from, struct mr_error *error) {
    struct mr_results_reader *reader = NULL;
    enum mr_status status = mr_results_reader_open(from, &reader);
    if (status != MR_OK) {
        return mr_error_set(error, status, "cannot read %s: %s", c->rows->path, mr_status_text(status));
    }
    c->status = mr_results_begin(c->to);
    status = c->status == MR_OK ? copy_rules(c, reader, error) : failed(c, error);
    if (status == MR_OK) {
        c->status = mr_results_commit(c->to, 0);
        status = c->status == MR_OK ? MR_OK : failed(c, error);
    }
    mr_results_rollback(c->to);
    mr_results_reader_close(reader);
    return status;
}

enum mr_status mr_join_rows_copy(const struct mr_join_rows *rows, uint64_t incarnation, struct mr_results *to,
                                 struct mr_error *error) {
    struct mr_results_sqlite_options options = {
        .path = rows->path, .incarnation = incarnation, .rules = rows->rules, .rule_count = rows->count, .sync = true};
    struct mr_results *from = NULL;
    if (rows->count == 0) {
        return MR_OK;
    }
    enum mr_status status = mr_results_sqlite_open(&options, &from, error);
    if (status != MR_OK) {
        return status;
    }
    struct copying c = {.rows = rows, .to = to, .flush = mr_flush_open(0)};
    mr_arena_init(&c.scratch, MR_PANE_SCRATCH_FIRST, MR_PANE_SCRATCH_MAX);
    status = c.flush != NULL ? copy(&c, from, error) : mr_error_set(error, MR_NO_MEMORY, "out of memory");
    mr_flush_close(c.flush);
    mr_arena_finish(&c.scratch);
    mr_results_close(from);
    return status;
}
