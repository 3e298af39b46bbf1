/* SPDX-License-Identifier: Apache-2.0 */
#include "server/gather.h"

#include "aggregate/window.h"
#include "base/check.h"
#include "base/report.h"
#include "server/reply.h"
#include "server/rows.h"

void mr_gather_init(struct mr_gather *ret, const struct mr_request *request, struct mr_response *response,
                    const struct mr_rule *rule) {
    *ret = (struct mr_gather){.request = request, .response = response, .rule = rule, .watermark_ms = INT64_MIN};
    mr_buf_init(&ret->store, MR_SCAN_BYTES_MAX);
}

void mr_gather_clear(struct mr_gather *g) {
    for (uint32_t i = 0; i < g->shard_count; i++) {
        mr_buf_finish(&g->shards[i]);
    }
    g->shard_count = 0;
    g->source_count = 0;
    mr_buf_finish(&g->store);
}

void mr_gather_finish(struct mr_gather *g) {
    mr_gather_clear(g);
}

/* Memory. */
static enum mr_status ask_shards(struct mr_gather *g, const struct mr_scan *scan) {
    struct mr_server *server = g->request->server;
    struct mr_ask ask = {.kind = MR_ASK_SCAN, .scan = *scan};
    enum mr_status status = mr_server_ask(server, &ask);
    if (status != MR_OK) {
        return status;
    }
    g->recorded_ms = mr_clock_wall_ms(server->clock);
    g->seq = ask.seq;
    g->shard_count = server->plan->shards;
    g->source_count = g->shard_count;
    g->watermark_ms = INT64_MAX;
    for (uint32_t i = 0; i < g->shard_count; i++) {
        const struct mr_scan_result *result = &ask.results[i];
        g->shards[i] = result->rows;
        g->sources[i] = (struct mr_merge_source){
            .rows = mr_buf_bytes(&result->rows),
            .more = result->count >= scan->limit || result->status == MR_LIMIT,
        };
        g->watermark_ms = result->watermark_ms < g->watermark_ms ? result->watermark_ms : g->watermark_ms;
        status = result->status == MR_OK || result->status == MR_LIMIT ? status : result->status;
    }
    return status;
}

struct store_read {
    const struct mr_scan *scan;
    const struct mr_rule *rule;
    struct mr_buf *rows;
    int64_t final_end_ms;
    bool panes;   /* each is a row: those fired up to the cut */
    uint64_t seq; /* the cut */
    uint32_t count;
    bool more;
    bool damaged;
};

/* Whether the store is asked for this row at the cut; else memory has it, or nobody has yet. */
static bool is_wanted(const struct store_read *read, struct mr_row *row) {
    bool final = row->window_end_ms <= read->final_end_ms;
    if (!read->panes) {
        return final; /* else final since the cut: memory has it as it was */
    }
    row->final = final;
    bool state_fits = read->scan->state == MR_SCAN_ALL || final == (read->scan->state == MR_SCAN_FINAL);
    return row->revision <= read->seq && state_fits;
}

static bool on_store_row(void *ctx, const struct mr_pane *pane) {
    struct store_read *read = ctx;
    struct mr_row row = mr_rows_of_stored(pane);
    if (!mr_rows_fits(read->rule, &row)) {
        read->damaged = true;
        return false;
    }
    if (!is_wanted(read, &row) || !mr_scan_matches(read->scan, row.key)) {
        return true;
    }
    if (read->count == read->scan->limit) {
        read->more = true;
        return false;
    }
    mr_row_append(read->rows, &row);
    if (read->rows->failed) {
        read->more = true;
        return false;
    }
    read->count++;
    return true;
}

/* The results store, as far as memory may not have it. */
static enum mr_status read_store(struct mr_gather *g, const struct mr_scan *scan,
                                 struct mr_error *error) {
    const struct mr_rule *rule = g->rule;
    int64_t final_end_ms = mr_window_final_end(rule, g->watermark_ms);
    struct store_read read = {
        .scan = scan,
        .rule = rule,
        .rows = &g->store,
        .final_end_ms = final_end_ms,
        .panes = rule->trigger.panes == MR_DISCARDING,
        .seq = g->seq,
    };
    struct mr_results_query query = {
        .rule = scan->rule,
        .from_ms = scan->from_ms,
        .to_ms = final_end_ms < scan->to_ms && !read.panes ? final_end_ms : scan->to_ms,
        .final_only = !read.panes,
        .order = scan->order,
        .descending = scan->descending,
        .has_after = scan->has_after,
        .after_start_ms = scan->after_start_ms,
        .after_key = scan->after_key,
        .visit = on_store_row,
        .ctx = &read,
    };
    mr_buf_init(&g->store, MR_SCAN_BYTES_MAX);
    if ((scan->state == MR_SCAN_OPEN && !read.panes) || query.from_ms >= query.to_ms) {
        return MR_OK;
    }
    enum mr_status status = mr_results_read(g->request->reader, &query, error);
    if (status == MR_OK && read.damaged) {
        status = mr_error_set(error, MR_CORRUPT, "a row does not fit its rule");
    }
    g->sources[g->source_count++] = (struct mr_merge_source){
        .rows = mr_buf_bytes(&g->store),
        .more = read.more,
    };
    return status;
}

static void refuse_store(struct mr_gather *g, const struct mr_error *error) {
    char shown[MR_ERROR_TEXT_MAX];
    mr_report(MR_LEVEL_ERROR, "results_unreadable", "reason=%s",
              mr_report_value(error->text, shown, sizeof shown));
    mr_reply_clear(g->response);
    g->response->retry_after_s = error->status == MR_CORRUPT ? 0 : 1;
    mr_problem(g->response, error->status == MR_CORRUPT ? 500 : 503,
               "the results store cannot be read (%s); the server's reports say more",
               mr_status_text(error->status));
}

enum mr_status mr_gather_cut(struct mr_gather *g) {
    struct mr_scan scan = {.rule = g->rule->index, .order = MR_SCAN_ORDER_WINDOW};
    mr_gather_clear(g);
    enum mr_status status = ask_shards(g, &scan);
    if (status != MR_OK) {
        mr_reply_not_asked(g->response, status);
    }
    return status;
}

/* What was fired up to the cut is in the store afterwards. */
static enum mr_status await_panes(struct mr_gather *g) {
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    return g->rule->trigger.panes == MR_DISCARDING ? mr_server_ask(g->request->server, &flush) : MR_OK;
}

/* Memory first: what leaves it meanwhile is in the store by then. */
enum mr_status mr_gather_run(struct mr_gather *g, const struct mr_scan *scan) {
    struct mr_error error = {0};
    MR_ASSERT(scan->limit > 0);
    mr_gather_clear(g);
    enum mr_status status = ask_shards(g, scan);
    status = status == MR_OK ? await_panes(g) : status;
    if (status != MR_OK) {
        mr_reply_not_asked(g->response, status);
        return status;
    }
    status = read_store(g, scan, &error);
    if (status != MR_OK) {
        refuse_store(g, &error);
    }
    return status;
}
