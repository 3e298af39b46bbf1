/* SPDX-License-Identifier: Apache-2.0 */
#include "server/reply.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/time_text.h"
#include "server/params.h"
#include "server/time_param.h"

enum { RETRY_S = 1 };

void mr_reply_clear(struct mr_response *response) {
    mr_buf_clear(&response->body);
    mr_free(response->next_cursor);
    response->next_cursor = NULL;
}

void mr_reply_refuse(struct mr_response *response, const struct mr_error *error) {
    unsigned int status = 400;
    if (error->status == MR_UNSUPPORTED) {
        status = 501;
    } else if (error->status == MR_NOT_FOUND) {
        status = 406;
    } else if (error->status == MR_NO_MEMORY) {
        status = 503;
        response->retry_after_s = RETRY_S;
    }
    mr_reply_clear(response);
    mr_problem(response, status, "%s", error->text);
}

void mr_reply_not_asked(struct mr_response *response, enum mr_status status) {
    MR_ASSERT(status != MR_OK);
    const char *why = status == MR_BUSY     ? "too many questions at once"
                      : status == MR_CLOSED ? "draining: no more questions are answered"
                                            : mr_status_text(status);
    mr_reply_clear(response);
    response->retry_after_s = RETRY_S;
    mr_problem(response, 503, "%s", why);
}

bool mr_reply_fits(struct mr_response *response) {
    if (!response->body.failed && response->body.len <= MR_REPLY_BYTES_MAX) {
        return true;
    }
    bool no_memory = response->body.failed && response->body.len <= MR_REPLY_BYTES_MAX / 2;
    mr_reply_clear(response);
    if (no_memory) {
        response->retry_after_s = RETRY_S;
        mr_problem(response, 503, "no memory for the answer");
    } else {
        mr_problem(
            response, 400,
            "the answer is longer than %u bytes; ask for fewer rows with `limit`, and for the "
            "rest with `cursor`",
            MR_REPLY_BYTES_MAX);
    }
    return false;
}

uint32_t mr_reply_stream(const struct mr_request *request, struct mr_response *response) {
    uint32_t stream = mr_config_stream_index(request->server->config, request->params[0]);
    if (stream == UINT32_MAX) {
        mr_problem(response, 404, "no stream `%s`; GET /v1/streams lists them",
                   mr_quote(request->params[0]).text);
    } else if (!mr_request_may_use_stream(request, stream)) {
        mr_problem(response, 403, "the token has no right to stream `%s`",
                   mr_quote(request->params[0]).text);
        return UINT32_MAX;
    }
    return stream;
}

uint32_t mr_reply_rule(const struct mr_request *request, struct mr_response *response) {
    uint32_t rule = mr_config_rule_index(request->server->config, request->params[0]);
    if (rule == UINT32_MAX) {
        mr_problem(response, 404, "no rule `%s`; GET /v1/rules lists them",
                   mr_quote(request->params[0]).text);
    } else if (!mr_request_may_use_rule(request, rule)) {
        mr_problem(response, 403, "the token has no right to all streams of rule `%s`",
                   mr_quote(request->params[0]).text);
        return UINT32_MAX;
    }
    return rule;
}

bool mr_reply_no_params(const struct mr_request *request, struct mr_response *response) {
    struct mr_params params;
    struct mr_error error;
    enum mr_status status = mr_params_init(&params, request->query, &error);
    status = status == MR_OK ? mr_params_known(&params, NULL, 0, NULL, &error) : status;
    mr_params_finish(&params);
    if (status != MR_OK) {
        mr_reply_refuse(response, &error);
    }
    return status == MR_OK;
}

void mr_reply_next_cursor(struct mr_response *response, struct mr_bytes cursor) {
    mr_free(response->next_cursor);
    response->next_cursor = NULL;
    if (cursor.len == 0) {
        return;
    }
    char *text = mr_alloc(cursor.len + 1);
    if (text == NULL) {
        response->body.failed = true; /* a page whose end nobody can find is no answer */
        return;
    }
    memcpy(text, cursor.ptr, cursor.len);
    text[cursor.len] = '\0';
    response->next_cursor = text;
}

void mr_reply_time(struct mr_json *json, const char *name, int64_t ms) {
    mr_json_key(json, name);
    if (!mr_time_has_text(ms)) {
        mr_json_null(json);
        return;
    }
    char text[MR_TIME_TEXT_LEN + 1];
    mr_time_format(ms, text);
    mr_json_text(json, text);
}
