/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replay routes: /v1/replays: the retained log once more under a configuration that is posted, compared with what the
 * server has, and promoted by the next start. What they ask is in server/replays.h.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "config/value.h"
#include "server/params.h"
#include "server/replay_promote.h"
#include "server/replays.h"
#include "server/reply.h"
#include "server/routes.h"
#include "server/time_param.h"

#include <stdio.h>

enum { COMPARE_LIMIT = 10, COMPARE_LIMIT_MAX = 10000, RETRY_S = 1 };

static const char *const flags[] = {"false", "true"};

/* ---- refusing ---- */

static void refuse(struct mr_response *response, enum mr_status status, const struct mr_error *error) {
    unsigned int code = 500;
    switch (status) {
    case MR_INVALID:
    case MR_LIMIT:
        code = 400;
        break;
    case MR_NOT_FOUND:
        code = 404;
        break;
    case MR_BUSY:
    case MR_FULL:
    case MR_UNSUPPORTED:
        code = 409;
        break;
    case MR_AGAIN:
    case MR_CLOSED:
    case MR_NO_MEMORY:
    case MR_NO_SPACE:
        code = 503;
        response->retry_after_s = RETRY_S;
        break;
    default:
        break;
    }
    mr_reply_clear(response);
    mr_problem(response, code, "%s", error->text);
}

/* A replay reads all streams. false: 403 is the answer. */
static bool may_replay(const struct mr_request *request, struct mr_response *response) {
    if (request->token != NULL && !request->token->all_streams) {
        mr_problem(response, 403, "the token is bound to streams, and a replay reads all of them");
        return false;
    }
    return true;
}

static enum mr_status take_name(struct mr_bytes text, char ret[MR_NAME_MAX + 1], struct mr_error *error) {
    if (!mr_value_name(text)) {
        return mr_error_set(error, MR_INVALID,
                            "`%s` is no name of a replay; expected a-z and _, then also 0-9 and -, at most %d",
                            mr_quote(text).text, MR_NAME_MAX);
    }
    memcpy(ret, text.ptr, text.len);
    ret[text.len] = '\0';
    return MR_OK;
}

/* Of the path; a name that cannot be one is not there. false: the answer is given. */
static bool take_path_name(const struct mr_request *request, struct mr_response *response, char ret[MR_NAME_MAX + 1]) {
    struct mr_error error;
    if (take_name(request->params[0], ret, &error) == MR_OK) {
        return may_replay(request, response);
    }
    mr_problem(response, 404, "%s", error.text);
    return false;
}

static enum mr_status take_flag(const struct mr_params *params, const char *name, bool *ret, struct mr_error *error) {
    uint32_t choice = 0;
    enum mr_status status = mr_params_choice(params, name, flags, 2, &choice, error);
    *ret = choice == 1;
    return status;
}

/* ---- one replay as JSON ---- */

static void write_note(struct mr_json *json, const struct mr_replay_note *note) {
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"first_lsn", note->first_lsn}, {"last_lsn", note->last_lsn},   {"received", note->received},
        {"accepted", note->accepted},   {"duplicate", note->duplicate}, {"late", note->late},
        {"rejected", note->rejected},   {"pending", note->pending},     {"gone", note->gone},
        {"unknown", note->unknown},     {"lost", note->lost},
    };
    mr_json_object_begin(json);
    mr_reply_time(json, "made", note->made_ms);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        mr_json_key(json, counts[i].name);
        mr_json_uint(json, counts[i].value);
    }
    mr_json_key(json, "trimmed");
    mr_json_bool(json, note->first_ms != INT64_MIN);
    struct mr_error error;
    mr_json_key(json, "promotable");
    mr_json_bool(json, mr_replay_may_promote(note, "it", &error) == MR_OK);
    mr_json_key(json, "rules");
    mr_json_array_begin(json);
    for (uint32_t i = 0; i < note->rule_count; i++) {
        mr_json_object_begin(json);
        mr_json_key(json, "rule");
        mr_json_text(json, note->rules[i].name);
        mr_reply_time(json, "windows_from", note->rules[i].begins_ms);
        mr_reply_time(json, "final_to", note->rules[i].final_end_ms);
        mr_json_object_end(json);
    }
    mr_json_array_end(json);
    mr_json_object_end(json);
}

/* facts: also what the replay has found, which is a file more to read. */
static enum mr_status write_replay(struct mr_replays *replays, const char *name, bool facts, struct mr_json *json,
                                   struct mr_error *error) {
    static const char *const states[] = {[MR_REPLAY_RUNNING] = "running",
                                         [MR_REPLAY_FINISHED] = "finished",
                                         [MR_REPLAY_FAILED] = "failed",
                                         [MR_REPLAY_INTERRUPTED] = "interrupted"};
    struct mr_replay_status now;
    struct mr_replay_note *note = NULL;
    enum mr_status status = mr_replays_look(replays, name, &now, error);
    if (status == MR_OK && facts && now.state == MR_REPLAY_FINISHED) {
        note = mr_alloc_zero(1, sizeof *note);
        status = note == NULL ? mr_error_set(error, MR_NO_MEMORY, "out of memory")
                              : mr_replays_note(replays, name, note, error);
    }
    if (status == MR_OK) {
        mr_json_object_begin(json);
        mr_json_key(json, "name");
        mr_json_text(json, name);
        mr_json_key(json, "state");
        mr_json_text(json, states[now.state]);
        mr_json_key(json, "promote");
        mr_json_bool(json, now.marked);
        mr_json_key(json, "message");
        mr_json_string(json, mr_buf_bytes(&now.message));
        if (now.progress[0] != '\0' && now.state == MR_REPLAY_RUNNING) {
            mr_json_key(json, "progress");
            mr_json_raw(json, mr_bytes_text(now.progress));
        }
        if (note != NULL) {
            mr_json_key(json, "replay");
            write_note(json, note);
        }
        mr_json_object_end(json);
    }
    mr_buf_finish(&now.message);
    mr_free(note);
    return status;
}

static void answer(const struct mr_request *request, struct mr_response *response, const char *name,
                   unsigned int code) {
    struct mr_json json;
    struct mr_error error;
    mr_json_init(&json, &response->body);
    enum mr_status status = write_replay(request->server->replays, name, true, &json, &error);
    if (status != MR_OK) {
        refuse(response, status, &error);
        return;
    }
    response->status = code;
}

/* ---- the routes ---- */

static enum mr_status take_start(const struct mr_request *request, const struct mr_params *params,
                                 char name[MR_NAME_MAX + 1], struct mr_replay_start *ret, struct mr_error *error) {
    static const char *const names[] = {"name", "from", "again"};
    *ret = (struct mr_replay_start){.name = name, .yaml = request->body, .from_ms = INT64_MIN};
    enum mr_status status = mr_params_known(params, names, sizeof names / sizeof names[0], NULL, error);
    if (status != MR_OK) {
        return status;
    }
    const struct mr_param *given = mr_params_find(params, "name");
    if (given == NULL) {
        return mr_error_set(error, MR_INVALID, "query parameter `name` is missing: what the replay shall be called");
    }
    status = take_name(given->value, name, error);
    const struct mr_param *from = mr_params_find(params, "from");
    if (status == MR_OK && from != NULL) {
        int64_t now_ms = mr_clock_wall_ms(request->server->clock);
        status = mr_time_param("from", from->value, now_ms, &ret->from_ms, error);
    }
    status = status == MR_OK ? take_flag(params, "again", &ret->again, error) : status;
    if (status == MR_OK && request->body.len == 0) {
        return mr_error_set(error, MR_INVALID, "no body; expected the whole configuration (YAML) to replay under");
    }
    return status;
}

void mr_route_replay_start(struct mr_request *request, struct mr_response *response) {
    char name[MR_NAME_MAX + 1];
    struct mr_params params;
    struct mr_replay_start start;
    struct mr_error error = {.text = ""};
    if (!may_replay(request, response)) {
        return;
    }
    enum mr_status status = mr_params_init(&params, request->query, &error);
    status = status == MR_OK ? take_start(request, &params, name, &start, &error) : status;
    status = status == MR_OK ? mr_replays_start(request->server->replays, &start, &error) : status;
    mr_params_finish(&params);
    if (status != MR_OK) {
        refuse(response, status, &error);
        return;
    }
    (void)snprintf(response->location, sizeof response->location, "/v1/replays/%s", name); /* fits */
    answer(request, response, name, 202);
}

void mr_route_replays(struct mr_request *request, struct mr_response *response) {
    char names[MR_REPLAYS_MAX][MR_NAME_MAX + 1];
    uint32_t count = 0;
    struct mr_json json;
    struct mr_error error;
    struct mr_replays *replays = request->server->replays;
    if (!may_replay(request, response) || !mr_reply_no_params(request, response)) {
        return;
    }
    enum mr_status status = mr_replays_list(replays, names, MR_REPLAYS_MAX, &count, &error);
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_json_key(&json, "replays");
    mr_json_array_begin(&json);
    for (uint32_t i = 0; status == MR_OK && i < count; i++) {
        status = write_replay(replays, names[i], false, &json, &error);
        status = status == MR_NOT_FOUND ? MR_OK : status; /* removed meanwhile */
    }
    mr_json_array_end(&json);
    mr_json_object_end(&json);
    if (status != MR_OK) {
        refuse(response, status, &error);
    }
}

void mr_route_replay(struct mr_request *request, struct mr_response *response) {
    char name[MR_NAME_MAX + 1];
    if (take_path_name(request, response, name) && mr_reply_no_params(request, response)) {
        answer(request, response, name, 200);
    }
}

void mr_route_replay_remove(struct mr_request *request, struct mr_response *response) {
    char name[MR_NAME_MAX + 1];
    struct mr_json json;
    struct mr_error error;
    if (!take_path_name(request, response, name) || !mr_reply_no_params(request, response)) {
        return;
    }
    enum mr_status status = mr_replays_remove(request->server->replays, name, &error);
    if (status != MR_OK) {
        refuse(response, status, &error);
        return;
    }
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_json_key(&json, "removed");
    mr_json_text(&json, name);
    mr_json_object_end(&json);
}

static void mark(struct mr_request *request, struct mr_response *response, unsigned int code,
                 enum mr_status (*change)(struct mr_replays *, const char *, struct mr_error *)) {
    char name[MR_NAME_MAX + 1];
    struct mr_error error;
    if (!take_path_name(request, response, name) || !mr_reply_no_params(request, response)) {
        return;
    }
    enum mr_status status = change(request->server->replays, name, &error);
    if (status == MR_OK) {
        answer(request, response, name, code);
    } else {
        refuse(response, status, &error);
    }
}

void mr_route_replay_promote(struct mr_request *request, struct mr_response *response) {
    mark(request, response, 202, mr_replays_mark); /* the next start will */
}

void mr_route_replay_keep(struct mr_request *request, struct mr_response *response) {
    mark(request, response, 200, mr_replays_unmark);
}

/* ---- comparing ---- */

static enum mr_status take_comparison(const struct mr_params *params, char rule[MR_NAME_MAX + 1],
                                      struct mr_replay_comparison *ret, struct mr_error *error) {
    static const char *const names[] = {"rule", "limit", "all"};
    enum mr_status status = mr_params_known(params, names, sizeof names / sizeof names[0], NULL, error);
    const struct mr_param *given = status == MR_OK ? mr_params_find(params, "rule") : NULL;
    if (given != NULL) {
        status = mr_value_name(given->value)
                     ? take_name(given->value, rule, error)
                     : mr_error_set(error, MR_INVALID, "query parameter `rule`: no rule `%s` in the replay",
                                    mr_quote(given->value).text);
        ret->rule = rule;
    }
    status = status == MR_OK ? mr_params_count(params, "limit", 0, COMPARE_LIMIT_MAX, &ret->limit, error) : status;
    return status == MR_OK ? take_flag(params, "all", &ret->all, error) : status;
}

/* Lines, each an object: {"replay":NAME,"rules":[line, …]}. */
static void write_lines(struct mr_response *response, const char *name, struct mr_buf *lines) {
    struct mr_json json;
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_json_key(&json, "replay");
    mr_json_text(&json, name);
    mr_json_key(&json, "rules");
    mr_json_array_begin(&json);
    const uint8_t *at = lines->ptr;
    const uint8_t *end = at + lines->len;
    for (const uint8_t *stop; at < end && (stop = memchr(at, '\n', (size_t)(end - at))) != NULL; at = stop + 1) {
        mr_json_raw(&json, mr_bytes_of(at, (size_t)(stop - at)));
    }
    mr_json_array_end(&json);
    mr_json_object_end(&json);
}

void mr_route_replay_compare(struct mr_request *request, struct mr_response *response) {
    char name[MR_NAME_MAX + 1];
    char rule[MR_NAME_MAX + 1];
    struct mr_params params;
    struct mr_buf lines;
    struct mr_error error = {.text = ""};
    struct mr_replay_comparison comparison = {.name = name, .limit = COMPARE_LIMIT};
    if (!take_path_name(request, response, name)) {
        return;
    }
    mr_buf_init(&lines, MR_REPLY_BYTES_MAX);
    enum mr_status status = mr_params_init(&params, request->query, &error);
    status = status == MR_OK ? take_comparison(&params, rule, &comparison, &error) : status;
    status = status == MR_OK ? mr_replays_compare(request->server->replays, &comparison, &lines, &error) : status;
    mr_params_finish(&params);
    if (status == MR_OK) {
        write_lines(response, name, &lines);
    } else {
        refuse(response, status, &error);
    }
    mr_buf_finish(&lines);
}
