/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rule stream: GET /v1/rules/{rule}/stream: the panes of a rule as they fire, as server-sent events (WHATWG HTML,
 * "Server-sent events"); server/feeds.h carries them.
 *
 *     event: pane                        or retraction: what is taken back
 *     data: {"window_start":"…","window_end":"…","key":{…},"metrics":{…},"events":3,"revision":17,"final":false,
 *            "timing":"EARLY","pane":0}
 *
 * Where       `from` says where a new stream begins. Last-Event-ID, or last_event_id for those who cannot set headers,
 *             goes on behind that event; the header is the newer one where there are both, for a browser that connects
 *             again sends it with the first address.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "server/feeds.h"
#include "server/http.h"
#include "server/reply.h"
#include "server/routes.h"
#include "server/windows.h"

struct writer {
    struct mr_server *server;
    struct mr_windows question;
    struct mr_local locals[MR_RULE_INPUTS_MAX];
};

static void begin_panes(void *ctx) {
    struct writer *w = ctx;
    const struct mr_rule *rule = w->question.view.rule;
    for (uint32_t i = 0; i < rule->input_count; i++) {
        mr_pipeline_local(w->server->pipeline, rule->inputs[i].stream, &w->locals[i]);
    }
    w->question.view.locals = w->locals;
    w->question.view.local_count = rule->input_count;
}

/* A pane that millrace cannot have written is passed over, as sinks do. */
static bool write_pane(void *ctx, const struct mr_pane *pane, struct mr_buf *buf) {
    struct writer *w = ctx;
    struct mr_row row = mr_rows_of_stored(pane);
    struct mr_json json;
    if (!mr_rows_fits(w->question.view.rule, &row) || !mr_scan_matches(&w->question.scan, pane->key)) {
        return false;
    }
    w->question.view.pane = pane;
    mr_buf_append_text(buf, pane->retraction ? "event: retraction\ndata: " : "event: pane\ndata: ");
    mr_json_init(&json, buf);
    mr_rows_json(&json, &w->question.view, &row);
    mr_buf_append_text(buf, "\n\n");
    return true;
}

static void close_writer(void *ctx) {
    struct writer *w = ctx;
    mr_windows_finish(&w->question);
    mr_free(w);
}

static void refuse_gone(struct mr_response *response) {
    mr_problem(response, 410,
               "what came behind this event is not kept any more, or the results were made anew; open the stream with "
               "from=now and without Last-Event-ID, then read /windows, and of each row keep the one with the greater "
               "revision");
}

/* false: the response says why. */
static bool find_place(const struct mr_request *request, const struct writer *w, struct mr_response *response,
                       struct mr_feed_place *ret) {
    struct mr_results_state store;
    struct mr_error error;
    if (mr_results_read_state(request->reader, &store, &error) != MR_OK) {
        response->retry_after_s = error.status == MR_CORRUPT ? 0 : 1;
        mr_problem(response, error.status == MR_CORRUPT ? 500 : 503, "the results store cannot be read (%s)",
                   mr_status_text(error.status));
        return false;
    }
    const struct mr_param *param = mr_params_find(&w->question.params, "last_event_id");
    struct mr_bytes last = mr_request_header(request, "Last-Event-ID");
    last = last.len == 0 && param != NULL ? param->value : last;
    if (last.len == 0) {
        uint64_t id = w->question.from_oldest ? store.oldest_id - 1 : store.newest_id;
        *ret = (struct mr_feed_place){.epoch = store.epoch, .id = id};
        return true;
    }
    if (!mr_feed_place_parse(last, ret)) {
        mr_problem(response, 400, "Last-Event-ID `%s`; expected the id of an event of this stream, as it was received",
                   mr_quote(last).text);
        return false;
    }
    if (!mr_feed_place_reaches(ret, &store)) {
        refuse_gone(response);
        return false;
    }
    return true;
}

static void refuse_feed(struct mr_response *response, enum mr_status status) {
    response->retry_after_s = MR_FEED_RETRY_S;
    if (status == MR_FULL) {
        mr_problem(response, 503, "%u event streams are open, and no more at a time", MR_FEEDS_MAX);
    } else {
        mr_problem(response, 503, "%s", status == MR_CLOSED ? "draining: no event stream begins"
                                                            : mr_status_text(status));
    }
}

/* The writer is the feed's, when the response has one now. */
static void begin_feed(struct mr_request *request, struct writer *w, struct mr_response *response) {
    struct mr_feed_place place;
    if (!find_place(request, w, response, &place)) {
        return;
    }
    response->content_type = "text/event-stream";
    response->close = true;
    if (request->method == MR_METHOD_HEAD) {
        return;
    }
    const struct mr_feed_writer writer = {begin_panes, write_pane, close_writer, w};
    enum mr_status status = mr_feeds_begin(request->server->http->feeds, w->question.view.rule->index, &place, &writer,
                                           &response->feed);
    if (status != MR_OK) {
        refuse_feed(response, status);
    }
}

void mr_route_rule_stream(struct mr_request *request, struct mr_response *response) {
    MR_ASSERT(request->reader != NULL);
    uint32_t rule = mr_reply_rule(request, response);
    if (rule == UINT32_MAX) {
        return;
    }
    struct writer *w = mr_alloc_zero(1, sizeof *w);
    if (w == NULL) {
        refuse_feed(response, MR_NO_MEMORY);
        return;
    }
    struct mr_error error;
    w->server = request->server;
    if (mr_windows_init_stream(&w->question, &request->server->plan->rules[rule], request->query, &error) != MR_OK) {
        mr_reply_refuse(response, &error);
    } else {
        begin_feed(request, w, response);
    }
    if (response->feed == NULL) {
        close_writer(w);
    }
}
