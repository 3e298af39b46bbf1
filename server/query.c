/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Query: GET /v1/rules/{rule}/windows: the shards' rows at one cut, and the results store's, as one answer.
 *
 * Who is asked for what. A window leaves a shard's memory only after the store has all of its rows with final set,
 * and a final row never changes again. So at a cut with watermark w
 *
 *                 final at w, in the store with final = 1   │  every other window
 *                 the store has them; memory may, too       │  memory has them, whole; the store lags behind
 *
 * and of the store only final rows of windows final at w are read: what memory has is never displaced by an older
 * version, and the answer is as of the cut, although the store is read a little later.
 *
 * In the order of a metric the overflow groups of the shards must be merged before their place is known: they are
 * asked for first, apart, and the others then with as many rows more.
 */
#include "aggregate/window.h"
#include "base/check.h"
#include "base/key.h"
#include "base/report.h"
#include "server/merge.h"
#include "server/reply.h"
#include "server/rows.h"
#include "server/routes.h"
#include "server/windows.h"

enum { OTHERS_MAX = 1000000 }; /* overflow rows looked at; MR_SCAN_BYTES_MAX is met before */

/* What the sources have for one scan. */
struct gathered {
    struct mr_merge_source sources[MR_MERGE_SOURCES_MAX];
    uint32_t source_count;
    struct mr_buf shards[MR_SHARDS_MAX];
    uint32_t shard_count;
    struct mr_buf store;
    int64_t watermark_ms;
};

struct query {
    struct mr_request *request;
    struct mr_response *response;
    struct mr_windows windows;
    struct mr_local local; /* of the rule's stream, at the cut or later */
    struct gathered rows;
    struct mr_buf others; /* metric order: merged overflow rows, sorted */
    uint32_t others_raw;  /* rows before merging */
    bool failed;          /* the response says why */
    /* Of the row shown last. */
    int64_t last_start_ms;
    struct mr_buf last_key;
    struct mr_json json;
};

static void gathered_finish(struct gathered *rows) {
    for (uint32_t i = 0; i < rows->shard_count; i++) {
        mr_buf_finish(&rows->shards[i]);
    }
    rows->shard_count = 0;
    mr_buf_finish(&rows->store);
}

/* Memory. */
static enum mr_status ask_shards(struct query *q, const struct mr_scan *scan) {
    struct mr_server *server = q->request->server;
    struct mr_ask ask = {.kind = MR_ASK_SCAN, .scan = *scan};
    enum mr_status status = mr_server_ask(server, &ask);
    if (status != MR_OK) {
        return status;
    }
    struct gathered *rows = &q->rows;
    rows->shard_count = server->plan->shards;
    rows->source_count = rows->shard_count;
    rows->watermark_ms = INT64_MAX;
    for (uint32_t i = 0; i < rows->shard_count; i++) {
        const struct mr_scan_result *result = &ask.results[i];
        rows->shards[i] = result->rows;
        rows->sources[i] = (struct mr_merge_source){
            .rows = mr_buf_bytes(&result->rows),
            .more = result->count >= scan->limit || result->status == MR_LIMIT,
        };
        rows->watermark_ms =
            result->watermark_ms < rows->watermark_ms ? result->watermark_ms : rows->watermark_ms;
        status = result->status == MR_OK || result->status == MR_LIMIT ? status : result->status;
    }
    return status;
}

struct store_read {
    const struct mr_scan *scan;
    const struct mr_rule *rule;
    struct mr_buf *rows;
    uint32_t count;
    bool more;
    bool damaged;
};

static bool on_store_row(void *ctx, const struct mr_pane *pane) {
    struct store_read *read = ctx;
    struct mr_row row = mr_rows_of_stored(pane);
    if (!mr_rows_fits(read->rule, &row)) {
        read->damaged = true;
        return false;
    }
    if (!mr_scan_matches(read->scan, row.key)) {
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
static enum mr_status read_store(struct query *q, const struct mr_scan *scan,
                                 struct mr_error *error) {
    const struct mr_rule *rule = q->windows.view.rule;
    int64_t final_end_ms = mr_window_final_end(rule, q->rows.watermark_ms);
    struct store_read read = {.scan = scan, .rule = rule, .rows = &q->rows.store};
    struct mr_results_query query = {
        .rule = scan->rule,
        .from_ms = scan->from_ms,
        .to_ms = final_end_ms < scan->to_ms ? final_end_ms : scan->to_ms,
        .final_only = true,
        .order = scan->order,
        .descending = scan->descending,
        .has_after = scan->has_after,
        .after_start_ms = scan->after_start_ms,
        .after_key = scan->after_key,
        .visit = on_store_row,
        .ctx = &read,
    };
    mr_buf_init(&q->rows.store, MR_SCAN_BYTES_MAX);
    if (scan->state == MR_SCAN_OPEN || query.from_ms >= query.to_ms) {
        return MR_OK;
    }
    enum mr_status status = mr_results_read(q->request->reader, &query, error);
    if (status == MR_OK && read.damaged) {
        status = mr_error_set(error, MR_CORRUPT, "a row does not fit its rule");
    }
    q->rows.sources[q->rows.source_count++] = (struct mr_merge_source){
        .rows = mr_buf_bytes(&q->rows.store),
        .more = read.more,
    };
    return status;
}

static void refuse_store(struct query *q, const struct mr_error *error) {
    char shown[MR_ERROR_TEXT_MAX];
    mr_report(MR_LEVEL_ERROR, "results_unreadable", "reason=%s",
              mr_report_value(error->text, shown, sizeof shown));
    mr_reply_clear(q->response);
    q->response->retry_after_s = error->status == MR_CORRUPT ? 0 : 1;
    mr_problem(q->response, error->status == MR_CORRUPT ? 500 : 503,
               "the results store cannot be read (%s); the server's reports say more",
               mr_status_text(error->status));
}

/* Memory first: what leaves it meanwhile is in the store by then. */
static bool gather(struct query *q, const struct mr_scan *scan) {
    struct mr_error error = {0};
    enum mr_status status = ask_shards(q, scan);
    if (status != MR_OK) {
        mr_reply_not_asked(q->response, status);
        return false;
    }
    status = read_store(q, scan, &error);
    if (status != MR_OK) {
        refuse_store(q, &error);
        return false;
    }
    return true;
}

/* Merges what was gathered. false: the response says why. */
static bool merge(struct query *q, struct mr_merge *merge) {
    enum mr_status status = mr_merge_run(merge, q->rows.sources, q->rows.source_count);
    if (status != MR_OK) {
        mr_reply_not_asked(q->response, status);
    }
    return status == MR_OK && !q->failed;
}

static bool refuse_too_many(struct query *q) {
    mr_reply_clear(q->response);
    mr_problem(q->response, 400,
               "too many rows to put in the order of a metric (more than %u bytes); narrow the "
               "question with `from`, `to` or a key",
               MR_SCAN_BYTES_MAX);
    return false;
}

/* The scan for overflow groups alone; false: the question's filters leave out all of them. */
static bool others_scan(const struct mr_scan *asked, struct mr_scan *ret) {
    *ret = *asked;
    ret->order = MR_SCAN_ORDER_WINDOW;
    ret->descending = false;
    ret->limit = OTHERS_MAX;
    bool has_first = false;
    for (uint32_t i = 0; i < asked->filter_count; i++) {
        if (!mr_bytes_equal(asked->filters[i].text, MR_BYTES(MR_KEY_OTHER_TEXT))) {
            return false;
        }
        has_first = has_first || asked->filters[i].key == 0;
    }
    if (!has_first) {
        MR_ASSERT(ret->filter_count < MR_RULE_KEYS_MAX);
        ret->filters[ret->filter_count++] =
            (struct mr_scan_filter){.key = 0, .text = MR_BYTES(MR_KEY_OTHER_TEXT)};
    }
    return true;
}

static bool keep_other(void *ctx, const struct mr_row *row) {
    struct query *q = ctx;
    if (mr_key_is_other(row->key)) { /* a text "(other)" passes the filter too */
        mr_row_append(&q->others, row);
    }
    return !q->others.failed;
}

struct sorting {
    const struct mr_scan *scan;
    const struct mr_rule *rule;
};

static int compare_rows(const void *a, const void *b, void *ctx) {
    const struct sorting *sorting = ctx;
    return mr_scan_compare(sorting->scan, sorting->rule, a, b);
}

/* Packed rows into the scan's order. */
static enum mr_status sort_rows(const struct mr_scan *scan, const struct mr_rule *rule,
                                struct mr_buf *packed) {
    struct mr_buf array;
    mr_buf_init(&array, SIZE_MAX / 2);
    struct mr_bytes rest = mr_buf_bytes(packed);
    struct mr_row row;
    while (mr_row_next(&rest, &row)) {
        mr_buf_append(&array, &row, sizeof row);
    }
    struct mr_buf sorted;
    mr_buf_init(&sorted, packed->cap_max);
    struct sorting sorting = {scan, rule};
    size_t count = array.len / sizeof row;
    if (count > 0) {
        qsort_r(array.ptr, count, sizeof row, compare_rows, &sorting);
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(&row, array.ptr + i * sizeof row, sizeof row);
        mr_row_append(&sorted, &row);
    }
    bool failed = array.failed || sorted.failed;
    mr_buf_finish(&array);
    mr_buf_finish(packed);
    *packed = sorted;
    return failed ? MR_NO_MEMORY : MR_OK;
}

/* Metric order: the overflow groups, merged. false: the response says why. */
static bool gather_others(struct query *q) {
    const struct mr_rule *rule = q->windows.view.rule;
    struct mr_rule_stats stats;
    mr_pipeline_rule_stats(q->request->server->pipeline, rule->index, &stats);
    struct mr_scan scan;
    if (rule->key_count == 0 || stats.overflow == 0 || !others_scan(&q->windows.scan, &scan)) {
        return true;
    }
    bool done = gather(q, &scan);
    if (done) {
        for (uint32_t i = 0; i < q->rows.source_count; i++) {
            struct mr_bytes rest = q->rows.sources[i].rows;
            struct mr_row row;
            while (mr_row_next(&rest, &row)) {
                q->others_raw++;
            }
        }
        struct mr_merge m = {
            .scan = &scan, .rule = rule, .limit = OTHERS_MAX, .visit = keep_other, .ctx = q};
        done = merge(q, &m);
        if (done && (m.more || q->others.failed)) {
            done = refuse_too_many(q);
        }
    }
    gathered_finish(&q->rows);
    if (done) {
        enum mr_status status = sort_rows(&q->windows.scan, rule, &q->others);
        if (status != MR_OK) {
            mr_reply_not_asked(q->response, status);
            done = false;
        }
    }
    return done;
}

static bool show_row(void *ctx, const struct mr_row *row) {
    struct query *q = ctx;
    struct mr_buf *body = &q->response->body;
    switch (q->windows.answer) {
    case MR_ANSWER_JSON:
        mr_rows_json(&q->json, &q->windows.view, row);
        break;
    case MR_ANSWER_NDJSON:
        mr_rows_ndjson(body, &q->windows.view, row);
        break;
    case MR_ANSWER_CSV:
        mr_rows_csv(body, &q->windows.view, row);
        break;
    case MR_ANSWER_COUNT:
        MR_UNREACHABLE();
    }
    q->last_start_ms = row->window_start_ms;
    mr_buf_clear(&q->last_key);
    mr_buf_append_bytes(&q->last_key, row->key);
    q->failed = q->last_key.failed || body->failed || body->len > MR_REPLY_BYTES_MAX;
    body->failed = body->failed || q->last_key.failed;
    return !q->failed;
}

static void begin_answer(struct query *q) {
    const struct mr_scan *scan = &q->windows.scan;
    q->response->content_type = mr_answer_media_type(q->windows.answer);
    if (q->windows.answer == MR_ANSWER_CSV) {
        mr_rows_csv_header(&q->response->body, &q->windows.view);
    }
    if (q->windows.answer != MR_ANSWER_JSON) {
        return;
    }
    mr_json_init(&q->json, &q->response->body);
    mr_json_object_begin(&q->json);
    mr_json_key(&q->json, "rule");
    mr_json_string(&q->json, q->windows.view.rule->name);
    mr_reply_time(&q->json, "from", scan->from_ms);
    mr_reply_time(&q->json, "to", scan->to_ms);
    mr_reply_time(&q->json, "watermark", q->rows.watermark_ms);
    mr_json_key(&q->json, "rows");
    mr_json_array_begin(&q->json);
}

static void end_answer(struct query *q, bool more) {
    struct mr_buf cursor;
    mr_buf_init(&cursor, 8192);
    if (more && q->windows.scan.order == MR_SCAN_ORDER_WINDOW) {
        mr_windows_cursor(&q->windows, q->last_start_ms, mr_buf_bytes(&q->last_key), &cursor);
        q->response->body.failed = q->response->body.failed || cursor.failed;
    }
    if (q->windows.answer == MR_ANSWER_JSON) {
        mr_json_array_end(&q->json);
        mr_json_key(&q->json, "next_cursor");
        if (cursor.len > 0) {
            mr_json_string(&q->json, mr_buf_bytes(&cursor));
        } else {
            mr_json_null(&q->json);
        }
        mr_json_object_end(&q->json);
    } else {
        mr_reply_next_cursor(q->response, mr_buf_bytes(&cursor));
    }
    mr_buf_finish(&cursor);
}

static void answer(struct query *q) {
    struct mr_scan scan = q->windows.scan;
    bool by_metric = scan.order != MR_SCAN_ORDER_WINDOW;
    if (by_metric && !gather_others(q)) {
        return;
    }
    scan.limit += MR_MERGE_SLACK + q->others_raw;
    if (!gather(q, &scan)) {
        return;
    }
    if (by_metric) {
        q->rows.sources[q->rows.source_count++] = (struct mr_merge_source){
            .rows = mr_buf_bytes(&q->others),
            .others = true,
        };
    }
    mr_pipeline_local(q->request->server->pipeline, q->windows.view.rule->inputs[0].stream, &q->local);
    q->windows.view.local = &q->local;
    begin_answer(q);
    struct mr_merge m = {
        .scan = &q->windows.scan,
        .rule = q->windows.view.rule,
        .limit = q->windows.scan.limit,
        .visit = show_row,
        .ctx = q,
    };
    if (!merge(q, &m)) {
        if (q->failed) {
            (void)mr_reply_fits(q->response);
        }
        return;
    }
    if (by_metric && m.cut) {
        (void)refuse_too_many(q);
        return;
    }
    end_answer(q, m.more && m.count > 0);
    (void)mr_reply_fits(q->response);
}

void mr_route_windows(struct mr_request *request, struct mr_response *response) {
    MR_ASSERT(request->reader != NULL);
    uint32_t rule = mr_reply_rule(request, response);
    if (rule == UINT32_MAX) {
        return;
    }
    struct query q = {.request = request, .response = response};
    mr_buf_init(&q.others, MR_SCAN_BYTES_MAX);
    mr_buf_init(&q.last_key, MR_KEY_LEN_MAX);
    mr_buf_init(&q.rows.store, MR_SCAN_BYTES_MAX);
    struct mr_error error;
    enum mr_status status =
        mr_windows_init(&q.windows, &request->server->plan->rules[rule], request->query,
                        request->accept, mr_clock_wall_ms(request->server->clock), &error);
    if (status == MR_OK) {
        answer(&q);
    } else {
        mr_reply_refuse(response, &error);
    }
    gathered_finish(&q.rows);
    mr_buf_finish(&q.others);
    mr_buf_finish(&q.last_key);
    mr_windows_finish(&q.windows);
}
