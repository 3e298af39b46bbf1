/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Query: GET /v1/rules/{rule}/windows: the shards' rows and the results store's as one answer: in window order or the
 * order of a metric as of one cut (server/gather.h), or added up over steps (server/roll_up.h).
 *
 * In the order of a metric the overflow groups of the shards must be merged before their place is known: they are
 * asked for first, apart, and the others then with as many rows more.
 */
#include "base/check.h"
#include "base/key.h"
#include "server/envelope.h"
#include "server/gather.h"
#include "server/reply.h"
#include "server/routes.h"
#include "server/top.h"

enum { OTHERS_MAX = 1000000, CURSOR_MAX = 8192 }; /* overflow rows looked at; MR_SCAN_BYTES_MAX is met before */

struct query {
    struct mr_request *request;
    struct mr_response *response;
    struct mr_windows windows;
    struct mr_gather gather;
    struct mr_envelope envelope;
    struct mr_buf others; /* metric order: merged overflow rows, sorted */
    uint32_t others_raw;  /* rows before merging */
    bool failed;          /* the answer cannot become whole */
    /* Of the row shown last. */
    int64_t last_start_ms;
    struct mr_buf last_key;
};

/* Merges what was gathered. false: the response says why. */
static bool merge(struct query *q, struct mr_merge *merge) {
    enum mr_status status = mr_merge_run(merge, q->gather.sources, q->gather.source_count);
    if (status != MR_OK) {
        mr_reply_not_asked(q->response, status);
    }
    return status == MR_OK;
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
    bool done = mr_gather_run(&q->gather, &scan) == MR_OK;
    if (done) {
        for (uint32_t i = 0; i < q->gather.source_count; i++) {
            struct mr_bytes rest = q->gather.sources[i].rows;
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
    mr_gather_clear(&q->gather);
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
    q->last_start_ms = row->window_start_ms;
    mr_buf_clear(&q->last_key);
    mr_buf_append_bytes(&q->last_key, row->key);
    q->failed = !mr_envelope_row(&q->envelope, row, 1) || q->last_key.failed;
    return !q->failed;
}

/* more: rows are left behind the last one shown. */
static void end_answer(struct query *q, bool more) {
    bool by_window = q->windows.scan.order == MR_SCAN_ORDER_WINDOW;
    struct mr_buf cursor;
    mr_buf_init(&cursor, CURSOR_MAX);
    if (more && by_window) {
        mr_windows_cursor(&q->windows, q->last_start_ms, mr_buf_bytes(&q->last_key), &cursor);
        q->response->body.failed = q->response->body.failed || cursor.failed;
    }
    mr_envelope_end(&q->envelope, mr_buf_bytes(&cursor), more && !by_window);
    mr_buf_finish(&cursor);
}

static void answer(struct query *q) {
    struct mr_scan scan = q->windows.scan;
    bool by_metric = scan.order != MR_SCAN_ORDER_WINDOW;
    if (by_metric && !gather_others(q)) {
        return;
    }
    scan.limit += MR_MERGE_SLACK + q->others_raw;
    if (mr_gather_run(&q->gather, &scan) != MR_OK) {
        return;
    }
    if (by_metric) {
        q->gather.sources[q->gather.source_count++] = (struct mr_merge_source){
            .rows = mr_buf_bytes(&q->others),
            .others = true,
        };
    }
    mr_envelope_begin(&q->envelope, q->gather.watermark_ms, q->gather.recorded_ms);
    struct mr_merge m = {
        .scan = &q->windows.scan,
        .rule = q->windows.view.rule,
        .limit = q->windows.scan.limit,
        .visit = show_row,
        .ctx = q,
    };
    if (!merge(q, &m)) {
        return;
    }
    if (q->failed) {
        q->response->body.failed = q->response->body.failed || q->last_key.failed;
        (void)mr_envelope_fits(&q->envelope);
    } else if (by_metric && m.cut) {
        (void)refuse_too_many(q);
    } else {
        end_answer(q, m.more && m.count > 0);
    }
}

static void answer_steps(struct query *q) {
    struct mr_roll_up r;
    struct mr_buf cursor;
    mr_buf_init(&cursor, CURSOR_MAX);
    mr_roll_up_init(&r, q->windows.view.rule, q->windows.step_ms);
    r.limit = q->windows.scan.limit;
    r.resumed = q->windows.resumed;
    r.resume_step_ms = q->windows.resume_step_ms;
    r.resume_has_key = q->windows.resume_has_key;
    r.resume_key = q->windows.resume_key;
    if (mr_top_roll_up(&q->gather, &q->envelope, &r)) {
        if (r.more) {
            struct mr_bytes key = mr_buf_bytes(&r.next_key);
            mr_windows_step_cursor(&q->windows, r.next_step_ms, r.next_has_key ? &key : NULL, &cursor);
            q->response->body.failed = q->response->body.failed || cursor.failed;
        }
        mr_envelope_end(&q->envelope, mr_buf_bytes(&cursor), false);
    }
    mr_roll_up_finish(&r);
    mr_buf_finish(&cursor);
}

void mr_route_windows(struct mr_request *request, struct mr_response *response) {
    MR_ASSERT(request->reader != NULL);
    uint32_t index = mr_reply_rule(request, response);
    if (index == UINT32_MAX) {
        return;
    }
    const struct mr_rule *rule = &request->server->plan->rules[index];
    struct query q = {.request = request, .response = response};
    struct mr_error error;
    enum mr_status status = mr_windows_init(&q.windows, rule, request->query, request->accept,
                                            mr_clock_wall_ms(request->server->clock), &error);
    mr_buf_init(&q.others, MR_SCAN_BYTES_MAX);
    mr_buf_init(&q.last_key, MR_KEY_LEN_MAX);
    mr_gather_init(&q.gather, request, response, rule);
    mr_envelope_init(&q.envelope, request, response, &q.windows);
    if (status != MR_OK) {
        mr_reply_refuse(response, &error);
    } else if (q.windows.step_ms > 0) {
        answer_steps(&q);
    } else {
        answer(&q);
    }
    mr_envelope_finish(&q.envelope);
    mr_gather_finish(&q.gather);
    mr_buf_finish(&q.others);
    mr_buf_finish(&q.last_key);
    mr_windows_finish(&q.windows);
}
