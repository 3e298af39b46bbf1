/* SPDX-License-Identifier: Apache-2.0 */
/* Seen: GET /v1/streams/{stream}/events/{id}: was this id seen, when, until when it is remembered. */
#include "base/check.h"
#include "server/params.h"
#include "server/reply.h"
#include "server/routes.h"

/* The earlier parts of an id are parameters named as their fields. */
static enum mr_status take_parts(const struct mr_config_stream *stream,
                                 const struct mr_params *params,
                                 struct mr_bytes parts[MR_ID_PARTS_MAX], struct mr_error *error) {
    char list[256] = "";
    for (uint32_t i = 0; i + 1 < stream->id_parts; i++) {
        mr_list_append(list, sizeof list, stream->id[i]);
    }
    for (uint32_t p = 0; p < params->count; p++) {
        const struct mr_param *param = &params->items[p];
        uint32_t part = 0;
        while (part + 1 < stream->id_parts && !mr_bytes_equal(stream->id[part], param->name)) {
            part++;
        }
        if (part + 1 >= stream->id_parts) {
            return mr_error_set(
                error, MR_INVALID, "unknown query parameter `%s`; the id of this stream has %s%s",
                mr_quote(param->name).text, list[0] == '\0' ? "one part only" : "also ", list);
        }
        if (param->value.len > MR_ID_LEN_MAX) {
            return mr_error_set(error, MR_INVALID, "query parameter `%s`: longer than %d bytes",
                                mr_quote(param->name).text, MR_ID_LEN_MAX);
        }
        parts[part] = param->value; /* its ptr is not NULL: present, even if empty */
    }
    return MR_OK;
}

static void write_answer(const struct mr_request *request, struct mr_response *response,
                         const struct mr_ask *ask) {
    struct mr_json json;
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_json_key(&json, "stream");
    mr_json_string(&json, request->server->config->streams[ask->stream].name);
    mr_json_key(&json, "id");
    mr_json_string(&json, request->params[1]);
    mr_json_key(&json, "seen");
    mr_json_bool(&json, ask->seen);
    mr_json_key(&json, "first_seen");
    if (ask->seen) {
        mr_json_object_begin(&json);
        mr_reply_time(&json, "from", ask->seen_from_ms);
        mr_reply_time(&json, "to", ask->seen_to_ms);
        mr_json_object_end(&json);
    } else {
        mr_json_null(&json);
    }
    mr_reply_time(&json, "remembered_until", ask->seen ? ask->seen_until_ms : INT64_MIN);
    mr_json_object_end(&json);
}

static void look(const struct mr_request *request, struct mr_response *response, uint32_t stream,
                 const struct mr_bytes *parts) {
    const struct mr_config_stream *config = &request->server->config->streams[stream];
    struct mr_ask ask = {.kind = MR_ASK_SEEN, .stream = stream};
    ask.fp = mr_decode_fingerprint(request->server->plan->streams[stream].schema, parts,
                                   config->id_parts);
    enum mr_status status = mr_server_ask(request->server, &ask);
    if (status != MR_OK) {
        mr_reply_not_asked(response, status);
        return;
    }
    if (ask.status == MR_AGAIN || ask.status == MR_BUSY) {
        response->retry_after_s = 1;
        mr_problem(response, 503, "stream `%s`: the shared store of ids is away or cannot be believed now (see /readyz)",
                   mr_quote(config->name).text);
        return;
    }
    write_answer(request, response, &ask);
}

void mr_route_seen(struct mr_request *request, struct mr_response *response) {
    uint32_t stream = mr_reply_stream(request, response);
    if (stream == UINT32_MAX) {
        return;
    }
    const struct mr_config_stream *config = &request->server->config->streams[stream];
    if (config->id_parts == 0 || config->dedup.mode == MR_CONFIG_NONE) {
        mr_problem(response, 404, "stream `%s` remembers no ids: its dedup mode is none",
                   mr_quote(config->name).text);
        return;
    }
    struct mr_bytes id = request->params[1];
    if (id.len == 0 || id.len > MR_ID_LEN_MAX) {
        mr_problem(response, 400, "an id of %zu bytes; expected 1 to %d", id.len, MR_ID_LEN_MAX);
        return;
    }
    struct mr_params params;
    struct mr_error error;
    struct mr_bytes parts[MR_ID_PARTS_MAX] = {0};
    parts[config->id_parts - 1] = id;
    enum mr_status status = mr_params_init(&params, request->query, &error);
    status = status == MR_OK ? take_parts(config, &params, parts, &error) : status;
    if (status == MR_OK) {
        look(request, response, stream, parts);
    } else {
        mr_reply_refuse(response, &error);
    }
    mr_params_finish(&params);
}
