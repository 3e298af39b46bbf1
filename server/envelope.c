/* SPDX-License-Identifier: Apache-2.0 */
#include "server/envelope.h"

#include "aggregate/window.h"
#include "base/check.h"
#include "base/time_text.h"
#include "server/reply.h"

void mr_envelope_init(struct mr_envelope *ret, const struct mr_request *request, struct mr_response *response,
                      const struct mr_windows *question) {
    *ret = (struct mr_envelope){
        .request = request,
        .response = response,
        .question = question,
        .view = question->view,
    };
    mr_columns_init(&ret->columns);
}

void mr_envelope_finish(struct mr_envelope *e) {
    mr_columns_finish(&e->columns);
}

/* Which streams' ids were decided by this node alone, and when: asked behind the cut. */
static void read_locals(struct mr_envelope *e) {
    const struct mr_rule *rule = e->view.rule;
    for (uint32_t i = 0; i < rule->input_count; i++) {
        mr_pipeline_local(e->request->server->pipeline, rule->inputs[i].stream, &e->locals[i]);
    }
    e->view.locals = e->locals;
    e->view.local_count = rule->input_count;
}

static void write_head(struct mr_envelope *e, int64_t watermark_ms, int64_t recorded_ms) {
    const struct mr_windows *w = e->question;
    struct mr_json *json = &e->json;
    mr_json_key(json, "rule");
    mr_json_string(json, e->view.rule->name);
    if (w->kind == MR_QUESTION_TOP) {
        mr_json_key(json, "metric");
        mr_json_string(json, e->view.rule->metrics[w->metric].name);
    }
    mr_reply_time(json, "from", mr_windows_from(w));
    mr_reply_time(json, "to", mr_windows_to(w));
    if (w->step_ms > 0) {
        mr_json_key(json, "step_ms");
        mr_json_int(json, w->step_ms);
    }
    mr_reply_time(json, "watermark", watermark_ms);
    mr_reply_time(json, "complete_until", mr_window_final_end(e->view.rule, watermark_ms));
    mr_json_key(json, "freshness_ms");
    if (mr_time_has_text(watermark_ms)) {
        mr_json_int(json, recorded_ms - watermark_ms);
    } else {
        mr_json_null(json);
    }
}

void mr_envelope_begin(struct mr_envelope *e, int64_t watermark_ms, int64_t recorded_ms) {
    enum mr_answer answer = e->question->answer;
    e->response->content_type = mr_answer_media_type(answer);
    read_locals(e);
    if (answer == MR_ANSWER_CSV) {
        mr_rows_csv_header(&e->response->body, &e->view);
    }
    if (answer != MR_ANSWER_JSON && answer != MR_ANSWER_COLUMNS) {
        return;
    }
    mr_json_init(&e->json, &e->response->body);
    mr_json_object_begin(&e->json);
    write_head(e, watermark_ms, recorded_ms);
    if (answer == MR_ANSWER_JSON) {
        mr_json_key(&e->json, "rows");
        mr_json_array_begin(&e->json);
    }
}

bool mr_envelope_row(struct mr_envelope *e, const struct mr_row *row, uint64_t windows) {
    struct mr_buf *body = &e->response->body;
    e->view.windows = windows;
    switch (e->question->answer) {
    case MR_ANSWER_JSON:
        mr_rows_json(&e->json, &e->view, row);
        break;
    case MR_ANSWER_NDJSON:
        mr_rows_ndjson(body, &e->view, row);
        break;
    case MR_ANSWER_CSV:
        mr_rows_csv(body, &e->view, row);
        break;
    case MR_ANSWER_COLUMNS:
        mr_columns_add(&e->columns, row);
        break;
    case MR_ANSWER_COUNT:
        MR_UNREACHABLE();
    }
    return !body->failed && body->len <= MR_REPLY_BYTES_MAX && !e->columns.rows.failed;
}

bool mr_envelope_fits(struct mr_envelope *e) {
    const struct mr_buf *rows = &e->columns.rows;
    /* At half of its bound a buffer that grows by doubling meets it: else it was the heap that refused. */
    if (rows->failed && rows->len > MR_SCAN_BYTES_MAX / 2) {
        mr_reply_clear(e->response);
        mr_problem(e->response, 400, "the rows of the answer hold more than %u bytes; ask for fewer with `limit`",
                   MR_SCAN_BYTES_MAX);
        return false;
    }
    e->response->body.failed = e->response->body.failed || rows->failed;
    return mr_reply_fits(e->response);
}

void mr_envelope_end(struct mr_envelope *e, struct mr_bytes cursor, bool truncated) {
    enum mr_answer answer = e->question->answer;
    MR_ASSERT(cursor.len == 0 || !truncated);
    if (answer != MR_ANSWER_JSON && answer != MR_ANSWER_COLUMNS) {
        mr_reply_next_cursor(e->response, cursor);
        (void)mr_envelope_fits(e);
        return;
    }
    if (answer == MR_ANSWER_JSON) {
        mr_json_array_end(&e->json);
    } else if (!mr_columns_write(&e->columns, &e->view, MR_REPLY_BYTES_MAX, &e->json)) {
        e->response->body.failed = e->response->body.failed || e->response->body.len <= MR_REPLY_BYTES_MAX;
        (void)mr_envelope_fits(e);
        return;
    }
    if (e->question->scan.order != MR_SCAN_ORDER_WINDOW) {
        mr_json_key(&e->json, "truncated");
        mr_json_bool(&e->json, truncated);
    }
    mr_json_key(&e->json, "next_cursor");
    if (cursor.len > 0) {
        mr_json_string(&e->json, cursor);
    } else {
        mr_json_null(&e->json);
    }
    mr_json_object_end(&e->json);
    (void)mr_envelope_fits(e);
}
