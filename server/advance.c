/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Advance: POST /v1/streams/{stream}/watermark?to=TIME[&source=NAME]: a producer says that it will send nothing older.
 * Answered when it is durable, with where the stream's watermark is then.
 */
#include "server/params.h"
#include "server/reply.h"
#include "server/routes.h"
#include "server/time_param.h"

static void write_answer(struct mr_response *response, const struct mr_request *request, const struct mr_ask *ask) {
    struct mr_json json;
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_json_key(&json, "stream");
    mr_json_string(&json, request->server->config->streams[ask->stream].name);
    mr_reply_time(&json, "watermark", ask->advance_ms);
    mr_json_object_end(&json);
}

static void advance(const struct mr_request *request, struct mr_response *response, struct mr_ask *ask) {
    const struct mr_config_stream *config = &request->server->config->streams[ask->stream];
    int64_t to_ms = ask->advance_ms;
    enum mr_status status = mr_server_ask(request->server, ask);
    if (status != MR_OK) {
        mr_reply_not_asked(response, status);
    } else if (ask->status == MR_LIMIT) {
        char text[MR_TIME_TEXT_LEN + 1];
        mr_time_format(to_ms, text);
        mr_problem(response, 400, "%s is further ahead of the clock than watermark.max_future of stream `%s`", text,
                   mr_quote(config->name).text);
    } else if (ask->status != MR_OK) {
        response->retry_after_s = 1;
        mr_problem(response, 503, "the log cannot be written now: %s", mr_status_text(ask->status));
    } else {
        write_answer(response, request, ask);
    }
}

static enum mr_status take(const struct mr_request *request, const struct mr_params *params, struct mr_ask *ask,
                           struct mr_error *error) {
    static const char *const names[] = {"to", "source"};
    enum mr_status status = mr_params_known(params, names, 2, NULL, error);
    const struct mr_param *to = mr_params_find(params, "to");
    const struct mr_param *source = mr_params_find(params, "source");
    const struct mr_config_stream *config = &request->server->config->streams[ask->stream];
    if (status == MR_OK && to == NULL) {
        status = mr_error_set(error, MR_INVALID, "`to` is missing; expected the time before which nothing will come, "
                                                 "such as to=2026-11-22T12:00:00Z");
    }
    if (status == MR_OK && source != NULL && config->watermark.source.len == 0) {
        status = mr_error_set(error, MR_INVALID, "stream `%s` does not tell sources apart: it has no watermark.source",
                              mr_quote(config->name).text);
    }
    if (status == MR_OK && source != NULL && source->value.len > MR_KEY_TEXT_MAX) {
        status = mr_error_set(error, MR_INVALID, "`source` has %zu bytes; expected at most %d", source->value.len,
                              MR_KEY_TEXT_MAX);
    }
    if (status != MR_OK) {
        return status;
    }
    int64_t now_ms = mr_clock_wall_ms(request->server->clock);
    ask->source = source == NULL ? mr_bytes_of(NULL, 0)
                  : source->value.len == 0 ? MR_BYTES("") : source->value;
    return mr_time_param("to", to->value, now_ms, &ask->advance_ms, error);
}

void mr_route_advance(struct mr_request *request, struct mr_response *response) {
    uint32_t stream = mr_reply_stream(request, response);
    if (stream == UINT32_MAX) {
        return;
    }
    struct mr_params params;
    struct mr_error error;
    struct mr_ask ask = {.kind = MR_ASK_ADVANCE, .stream = stream};
    enum mr_status status = mr_params_init(&params, request->query, &error);
    status = status == MR_OK ? take(request, &params, &ask, &error) : status;
    if (status == MR_OK) {
        advance(request, response, &ask);
    } else {
        mr_reply_refuse(response, &error);
    }
    mr_params_finish(&params);
}
