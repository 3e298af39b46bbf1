/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discard: DELETE /v1/dead-letters ?stream&reason&before, and DELETE /v1/dead-letters/{address}: what was looked at is
 * not listed, and not redriven, any more.
 * A mark is appended to the dead-letter log; its bytes go with retention.
 */
#include "base/check.h"
#include "server/dead.h"
#include "server/params.h"
#include "server/reply.h"
#include "server/routes.h"
#include "server/time_param.h"

enum { PAGE_ENTRIES = 4096 };

static const char *const names[] = {"stream", "reason", "before"};

struct discard {
    const struct mr_request *request;
    struct mr_params params;
    struct mr_ask ask;
    uint64_t count;
};

static enum mr_status take_stream(struct discard *d, struct mr_error *error) {
    const struct mr_param *param = mr_params_find(&d->params, "stream");
    const struct mr_request *request = d->request;
    if (param == NULL) {
        bool all = request->token == NULL || request->token->all_streams;
        return all ? MR_OK
                   : mr_error_set(error, MR_CLOSED, "the token is bound to streams: name one of them (`stream`)");
    }
    uint32_t stream = mr_config_stream_index(request->server->config, param->value);
    if (stream != UINT32_MAX && !mr_request_may_use_stream(request, stream)) {
        return mr_error_set(error, MR_CLOSED, "the token has no right to stream `%s`", mr_quote(param->value).text);
    }
    if (stream == UINT32_MAX) {
        return mr_error_set(error, MR_INVALID, "query parameter `stream`: no stream `%s`; GET /v1/streams lists them",
                            mr_quote(param->value).text);
    }
    MR_ASSERT(param->value.len <= UINT8_MAX); /* MR_NAME_MAX */
    d->ask.mark.name_len = (uint8_t)param->value.len;
    memcpy(d->ask.mark.name, param->value.ptr, param->value.len);
    return MR_OK;
}

static enum mr_status take_params(struct discard *d, struct mr_error *error) {
    struct mr_dead_mark *mark = &d->ask.mark;
    uint32_t reason = MR_DEAD_REASON_COUNT;
    mark->before_ms = INT64_MAX;
    enum mr_status status = mr_params_init(&d->params, d->request->query, error);
    if (status == MR_OK) {
        status = mr_params_known(&d->params, names, sizeof names / sizeof names[0], NULL, error);
    }
    status = status == MR_OK ? take_stream(d, error) : status;
    if (status == MR_OK) {
        status = mr_params_choice(&d->params, "reason", mr_dead_reasons, MR_DEAD_REASON_COUNT, &reason, error);
        mark->reason = reason == MR_DEAD_REASON_COUNT ? -1 : (int)reason;
    }
    const struct mr_param *before = status == MR_OK ? mr_params_find(&d->params, "before") : NULL;
    if (before != NULL) {
        int64_t now_ms = mr_clock_wall_ms(d->request->server->clock);
        status = mr_time_param("before", before->value, now_ms, &mark->before_ms, error);
    }
    return status;
}

static void on_entry(void *ctx, const struct mr_dead *entry) {
    (void)entry;
    ((struct discard *)ctx)->count++;
}

/* How many there are that the mark will be about. Those that come meanwhile are not counted. */
static enum mr_status count(struct discard *d, struct mr_error *error) {
    const struct mr_dead_mark *mark = &d->ask.mark;
    struct mr_server *server = d->request->server;
    struct mr_dead_page page = {
        .stream = mark->name_len == 0 ? UINT32_MAX : 0,
        .stream_name = mr_bytes_of(mark->name, mark->name_len),
        .reason = mark->reason,
        .limit = PAGE_ENTRIES,
        .before_ms = mark->before_ms,
        .last_lsn = mr_pipeline_dead_lsn(server->pipeline),
        .visit = on_entry,
        .ctx = d,
    };
    enum mr_status status = MR_OK;
    do {
        status = mr_dead_read(server, &page, error);
        page.after_lsn = page.next_lsn;
        page.after_entry = page.next_entry;
    } while (status == MR_OK && page.more);
    return status;
}

static bool has_room(struct mr_server *server, const struct mr_dead_mark *mark) {
    (void)pthread_mutex_lock(&server->dead_lock); /* cannot fail: not recursive, and initialized */
    bool room = mr_dead_marks_has_room(&server->dead_marks, mark);
    (void)pthread_mutex_unlock(&server->dead_lock);
    return room;
}

/* Appends the mark, if it is about anything, and answers. */
static void append(struct discard *d, struct mr_response *response) {
    struct mr_server *server = d->request->server;
    if (d->count > 0 && !has_room(server, &d->ask.mark)) {
        mr_problem(response, 409,
                   "%u discards of other times, or of single dead letters, hold already: one of the same stream and "
                   "reason without `before` takes their place",
                   MR_DEAD_MARKS_MAX);
        return;
    }
    d->ask.kind = MR_ASK_DISCARD;
    enum mr_status status = d->count == 0 ? MR_OK : mr_server_ask(server, &d->ask);
    if (status != MR_OK) {
        mr_reply_not_asked(response, status);
        return;
    }
    if (d->count > 0 && d->ask.status != MR_OK) {
        response->retry_after_s = 10;
        mr_problem(response, 503, "the dead-letter log cannot be written (%s); nothing was discarded",
                   mr_status_text(d->ask.status));
        return;
    }
    struct mr_json json;
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_json_key(&json, "discarded");
    mr_json_uint(&json, d->count);
    mr_json_object_end(&json);
}

static void work(struct discard *d, struct mr_response *response) {
    struct mr_server *server = d->request->server;
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    struct mr_error error = {0};
    enum mr_status status = mr_server_ask(server, &flush);
    if (status != MR_OK) {
        mr_reply_not_asked(response, status);
        return;
    }
    status = d->ask.mark.before_ms > 0 ? count(d, &error) : MR_OK; /* nothing was recorded before 1970 */
    if (status != MR_OK) {
        mr_dead_refuse_log(response, &error);
        return;
    }
    append(d, response);
}

void mr_route_discard(struct mr_request *request, struct mr_response *response) {
    struct discard d = {.request = request};
    struct mr_error error = {0};
    enum mr_status status = take_params(&d, &error);
    if (status == MR_OK) {
        work(&d, response);
    } else if (status == MR_CLOSED) {
        mr_problem(response, 403, "%s", error.text);
    } else {
        mr_reply_refuse(response, &error);
    }
    mr_params_finish(&d.params);
}

static void mark_it(void *ctx, const struct mr_dead_page *page, const struct mr_dead *entry) {
    struct discard *d = ctx;
    struct mr_dead_mark *mark = &d->ask.mark;
    struct mr_bytes stream = mr_dead_stream(entry);
    MR_ASSERT(stream.len <= UINT8_MAX); /* MR_NAME_MAX */
    mark->reason = (int)entry->reason;
    mark->before_ms = page->at_ms + 1;
    mark->name_len = (uint8_t)stream.len;
    memcpy(mark->name, stream.ptr, stream.len);
    mark->entry_lsn = page->at_lsn;
    mark->entry = page->at_entry;
    d->count = 1;
}

void mr_route_discard_one(struct mr_request *request, struct mr_response *response) {
    struct discard d = {.request = request};
    struct mr_dead_address address;
    if (mr_dead_find(request, response, &address, mark_it, &d)) {
        append(&d, response);
    }
}
