/* SPDX-License-Identifier: Apache-2.0 */
/* Pages: streams, rules, limits, version, health, the landing page, the API's description. Nothing here waits. */
#include "base/check.h"
#include "config/options.h"
#include "server/feeds.h"
#include "server/params.h"
#include "server/reply.h"
#include "server/routes.h"
#include "server/windows.h"

#include "openapi_yaml.h"

#include <stdio.h>

static void member_text(struct mr_json *json, const char *name, const char *text) {
    mr_json_key(json, name);
    mr_json_text(json, text);
}

static void member_bytes(struct mr_json *json, const char *name, struct mr_bytes text) {
    mr_json_key(json, name);
    mr_json_string(json, text);
}

static void member_uint(struct mr_json *json, const char *name, uint64_t value) {
    mr_json_key(json, name);
    mr_json_uint(json, value);
}

static void member_int(struct mr_json *json, const char *name, int64_t value) {
    mr_json_key(json, name);
    mr_json_int(json, value);
}

static void member_double(struct mr_json *json, const char *name, double value) {
    mr_json_key(json, name);
    mr_json_double(json, value);
}

/* A setting that may be off: null then. */
static void member_or_off(struct mr_json *json, const char *name, int64_t value, int64_t off) {
    mr_json_key(json, name);
    if (value == off) {
        mr_json_null(json);
    } else {
        mr_json_int(json, value);
    }
}

/* A text that may be left out: null then. */
static void member_or_none(struct mr_json *json, const char *name, struct mr_bytes text) {
    mr_json_key(json, name);
    if (text.len == 0) {
        mr_json_null(json);
    } else {
        mr_json_string(json, text);
    }
}

static void begin_object(struct mr_json *json, const char *name) {
    mr_json_key(json, name);
    mr_json_object_begin(json);
}

static void write_dedup_settings(struct mr_json *json, const struct mr_config_stream *s) {
    begin_object(json, "dedup");
    member_text(json, "mode", mr_choice_text(mr_choices_dedup, (int)s->dedup.mode));
    if (s->dedup.mode != MR_CONFIG_NONE) {
        member_int(json, "horizon_ms", s->dedup.horizon_ms);
    }
    if (s->dedup.mode == MR_CONFIG_REDIS) {
        member_text(json, "layout", mr_choice_text(mr_choices_layout, (int)s->dedup.layout));
        member_text(json, "outage", mr_choice_text(mr_choices_outage, (int)s->dedup.outage));
    }
    if (mr_config_keeps_ids(s)) {
        member_uint(json, "ids", s->dedup.ids);
        member_text(json, "when_full",
                    mr_choice_text(mr_choices_when_full, (int)s->dedup.when_full));
    }
    if (s->dedup.mode == MR_CONFIG_BLOOM) {
        member_double(json, "error", s->dedup.error);
    }
    if (s->dedup.mode == MR_CONFIG_EXACT) {
        member_text(json, "conflicts", mr_choice_text(mr_choices_conflicts, s->dedup.conflicts));
    }
    mr_json_object_end(json);
}

static void write_stream_settings(struct mr_json *json, const struct mr_config_stream *s) {
    begin_object(json, "settings");
    mr_json_key(json, "id");
    mr_json_array_begin(json);
    for (uint32_t i = 0; i < s->id_parts; i++) {
        mr_json_string(json, s->id[i]);
    }
    mr_json_array_end(json);
    begin_object(json, "time");
    member_bytes(json, "field", s->time_field);
    member_text(json, "format", mr_choice_text(mr_choices_time, (int)s->time_format));
    mr_json_object_end(json);
    member_text(json, "missing_id", mr_choice_text(mr_choices_missing_id, s->reject_missing_id));
    member_text(json, "missing_time",
                mr_choice_text(mr_choices_missing_time, s->reject_missing_time));
    write_dedup_settings(json, s);
    begin_object(json, "watermark");
    member_int(json, "out_of_orderness_ms", s->watermark.out_of_orderness_ms);
    member_or_off(json, "idle_timeout_ms", s->watermark.idle_timeout_ms, INT64_MAX);
    member_int(json, "max_future_ms", s->watermark.max_future_ms);
    member_or_none(json, "source", s->watermark.source);
    mr_json_object_end(json);
    begin_object(json, "derive");
    for (uint32_t i = 0; i < s->derived_count; i++) {
        mr_json_key_bytes(json, s->derived[i].name);
        mr_json_string(json, s->derived[i].expr.text);
    }
    mr_json_object_end(json);
    mr_json_object_end(json);
}

/* When this node decided alone, and of which event times. */
static void write_local(struct mr_json *json, const struct mr_server *server, uint32_t stream) {
    struct mr_local local;
    mr_pipeline_local(server->pipeline, stream, &local);
    begin_object(json, "local");
    member_uint(json, "events", mr_counter_read(&local.events));
    mr_json_key(json, "spans");
    mr_json_array_begin(json);
    for (uint32_t i = 0; i < local.count; i++) {
        const struct mr_local_span *span = &local.spans[i];
        bool any = span->event_from_ms <= span->event_to_ms;
        mr_json_object_begin(json);
        mr_reply_time(json, "recorded_from", span->recorded_from_ms);
        mr_reply_time(json, "recorded_to", span->recorded_to_ms);
        mr_reply_time(json, "event_from", any ? span->event_from_ms : INT64_MIN);
        mr_reply_time(json, "event_to", any ? span->event_to_ms : INT64_MIN);
        mr_json_object_end(json);
    }
    mr_json_array_end(json);
    mr_json_object_end(json);
}

static void write_stream(struct mr_json *json, const struct mr_server *server, uint32_t stream) {
    const struct mr_config_stream *s = &server->config->streams[stream];
    struct mr_stream_stats stats;
    mr_pipeline_stream_stats(server->pipeline, stream, &stats);
    mr_json_object_begin(json);
    member_bytes(json, "name", s->name);
    mr_reply_time(json, "watermark", stats.watermark_ms);
    begin_object(json, "counters");
    member_uint(json, "received", stats.received);
    member_uint(json, "accepted", stats.accepted);
    member_uint(json, "duplicate", stats.duplicate);
    member_uint(json, "late", stats.late);
    member_uint(json, "rejected", stats.rejected);
    if (s->dedup.mode == MR_CONFIG_REDIS) {
        member_uint(json, "pending", stats.pending);
    }
    if (s->dedup.mode == MR_CONFIG_OBSERVE) {
        member_uint(json, "observed_duplicates", stats.observed_duplicates);
    }
    if (s->dedup.conflicts) {
        member_uint(json, "conflicts", stats.conflicts);
    }
    mr_json_object_end(json);
    if (server->plan->streams[stream].local || stats.local > 0) {
        write_local(json, server, stream);
    }
    begin_object(json, "dedup");
    member_uint(json, "ids", stats.dedup_ids);
    member_uint(json, "bytes", stats.dedup_bytes);
    member_double(json, "fill", stats.dedup_fill);
    member_double(json, "error", stats.dedup_error);
    member_uint(json, "evicted", stats.dedup_evicted);
    member_uint(json, "expired", stats.dedup_expired);
    mr_json_object_end(json);
    write_stream_settings(json, s);
    mr_json_object_end(json);
}

void mr_route_streams(struct mr_request *request, struct mr_response *response) {
    struct mr_json json;
    if (!mr_reply_no_params(request, response)) {
        return;
    }
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_json_key(&json, "streams");
    mr_json_array_begin(&json);
    for (uint32_t i = 0; i < request->server->config->stream_count; i++) {
        if (mr_request_may_use_stream(request, i)) {
            write_stream(&json, request->server, i);
        }
    }
    mr_json_array_end(&json);
    mr_json_object_end(&json);
}

void mr_route_stream(struct mr_request *request, struct mr_response *response) {
    struct mr_json json;
    uint32_t stream = mr_reply_stream(request, response);
    if (stream == UINT32_MAX || !mr_reply_no_params(request, response)) {
        return;
    }
    mr_json_init(&json, &response->body);
    write_stream(&json, request->server, stream);
}

static void write_window(struct mr_json *json, const struct mr_config_rule *r) {
    begin_object(json, "window");
    member_text(json, "type", mr_choice_text(mr_choices_window, (int)r->window.kind));
    switch (r->window.kind) {
    case MR_CONFIG_TUMBLING:
        member_int(json, "size_ms", r->window.size_ms);
        member_int(json, "offset_ms", r->window.offset_ms);
        member_bytes(json, "time_zone", r->window.time_zone.len > 0 ? r->window.time_zone : MR_BYTES("UTC"));
        break;
    case MR_CONFIG_SLIDING:
        member_int(json, "size_ms", r->window.size_ms);
        member_int(json, "every_ms", r->window.every_ms);
        member_int(json, "offset_ms", r->window.offset_ms);
        break;
    case MR_CONFIG_SESSION:
        member_int(json, "gap_ms", r->window.gap_ms);
        member_or_off(json, "max_ms", r->window.max_ms, INT64_MAX);
        break;
    case MR_CONFIG_GLOBAL:
        break;
    }
    mr_json_object_end(json);
}

static void write_trigger(struct mr_json *json, const struct mr_config_rule *r) {
    begin_object(json, "trigger");
    member_or_off(json, "early_ms", r->trigger.early_ms, 0);
    member_or_off(json, "early_count", (int64_t)r->trigger.early_count, 0);
    mr_json_key(json, "late");
    mr_json_bool(json, r->trigger.late);
    member_text(json, "panes", mr_choice_text(mr_choices_panes, (int)r->trigger.panes));
    mr_json_object_end(json);
}

static void write_rule_settings(struct mr_json *json, const struct mr_config_rule *r) {
    begin_object(json, "settings");
    member_or_none(json, "where", r->where.text);
    mr_json_key(json, "group_by");
    mr_json_array_begin(json);
    for (uint32_t i = 0; i < r->group_by_count; i++) {
        mr_json_string(json, r->group_by[i]);
    }
    mr_json_array_end(json);
    write_window(json, r);
    write_trigger(json, r);
    member_int(json, "allowed_lateness_ms", r->allowed_lateness_ms);
    begin_object(json, "groups");
    member_uint(json, "max", r->groups.max);
    member_uint(json, "bytes", r->groups.bytes);
    member_text(json, "when_full", mr_choice_text(mr_choices_groups, (int)r->groups.when_full));
    mr_json_object_end(json);
    mr_json_object_end(json);
}

/* What the kind of a metric has besides a field. */
static void write_metric_settings(struct mr_json *json, const struct mr_config_rule *r,
                                  const struct mr_config_metric_def *m) {
    if (m->param_count > 0) {
        mr_json_key(json, m->kind == MR_CONFIG_QUANTILES ? "quantiles" : "bounds");
        mr_json_array_begin(json);
        for (uint32_t i = 0; i < m->param_count; i++) {
            mr_json_double(json, m->params[i]);
        }
        mr_json_array_end(json);
    }
    if (m->kind == MR_CONFIG_TOP || m->kind == MR_CONFIG_COLLECT) {
        member_uint(json, "n", m->limit);
    }
    if (m->kind == MR_CONFIG_DISTINCT || m->kind == MR_CONFIG_QUANTILES) {
        member_double(json, "error", m->error);
    }
    if (m->kind == MR_CONFIG_RATIO) {
        mr_json_key(json, "ratio");
        mr_json_array_begin(json);
        mr_json_string(json, r->metrics[m->over[0]].name);
        mr_json_string(json, r->metrics[m->over[1]].name);
        mr_json_array_end(json);
    }
}

static void write_rule_metrics(struct mr_json *json, const struct mr_config *config, const struct mr_config_rule *r) {
    mr_json_key(json, "metrics");
    mr_json_array_begin(json);
    for (uint32_t i = 0; i < r->metric_count; i++) {
        const struct mr_config_metric_def *m = &r->metrics[i];
        mr_json_object_begin(json);
        member_bytes(json, "name", m->name);
        member_text(json, "kind", mr_choice_text(mr_choices_metric, (int)m->kind));
        if (m->field.len > 0) {
            member_bytes(json, "field", m->field);
        }
        write_metric_settings(json, r, m);
        if (m->where.text.len > 0) {
            member_bytes(json, "where", m->where.text);
        }
        if (m->from != UINT32_MAX) {
            member_bytes(json, "from", config->streams[m->from].name);
        }
        mr_json_object_end(json);
    }
    mr_json_array_end(json);
}

static void write_rule(struct mr_json *json, const struct mr_server *server, uint32_t rule) {
    const struct mr_config_rule *r = &server->config->rules[rule];
    struct mr_rule_stats stats;
    mr_pipeline_rule_stats(server->pipeline, rule, &stats);
    mr_json_object_begin(json);
    member_bytes(json, "name", r->name);
    member_bytes(json, "stream", server->config->streams[r->streams[0]].name);
    mr_json_key(json, "streams");
    mr_json_array_begin(json);
    for (uint32_t i = 0; i < r->stream_count; i++) {
        mr_json_string(json, server->config->streams[r->streams[i]].name);
    }
    mr_json_array_end(json);
    mr_reply_time(json, "watermark", mr_pipeline_rule_watermark(server->pipeline, rule));
    begin_object(json, "counters");
    member_uint(json, "applied", stats.applied);
    member_uint(json, "filtered", stats.filtered);
    member_uint(json, "late", stats.late);
    member_uint(json, "dropped", stats.dropped);
    member_uint(json, "overflow", stats.overflow);
    member_uint(json, "panes", stats.panes);
    mr_json_object_end(json);
    member_uint(json, "windows", stats.windows);
    member_uint(json, "groups", stats.groups);
    member_uint(json, "groups_bytes", stats.bytes);
    write_rule_metrics(json, server->config, r);
    write_rule_settings(json, r);
    mr_json_object_end(json);
}

void mr_route_rules(struct mr_request *request, struct mr_response *response) {
    struct mr_json json;
    const struct mr_config *config = request->server->config;
    if (!mr_reply_no_params(request, response)) {
        return;
    }
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_json_key(&json, "rules");
    mr_json_array_begin(&json);
    for (uint32_t i = 0; i < config->rule_count; i++) {
        if (mr_request_may_use_rule(request, i)) {
            write_rule(&json, request->server, i);
        }
    }
    mr_json_array_end(&json);
    mr_json_object_end(&json);
}

void mr_route_rule(struct mr_request *request, struct mr_response *response) {
    struct mr_json json;
    uint32_t rule = mr_reply_rule(request, response);
    if (rule == UINT32_MAX || !mr_reply_no_params(request, response)) {
        return;
    }
    mr_json_init(&json, &response->body);
    write_rule(&json, request->server, rule);
}

void mr_route_limits(struct mr_request *request, struct mr_response *response) {
    const struct mr_config *config = request->server->config;
    struct mr_json json;
    if (!mr_reply_no_params(request, response)) {
        return;
    }
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    member_uint(&json, "body_bytes", config->limits.body_bytes);
    member_uint(&json, "inflated_bytes", config->limits.inflated_bytes);
    member_uint(&json, "inflate_ratio", config->limits.inflate_ratio);
    member_uint(&json, "event_bytes", config->limits.event_bytes);
    member_uint(&json, "batch_events", config->limits.batch_events);
    member_uint(&json, "in_flight_bytes", config->limits.in_flight_bytes);
    member_uint(&json, "memory_bytes", config->limits.memory_bytes);
    member_uint(&json, "connections", config->http.connections);
    member_uint(&json, "connections_per_address", config->http.connections_per_address);
    member_uint(&json, "event_id_bytes", MR_ID_LEN_MAX);
    member_uint(&json, "group_key_value_bytes", MR_KEY_TEXT_MAX);
    member_uint(&json, "json_depth", MR_JSON_DEPTH_MAX);
    member_uint(&json, "errors_listed", MR_ERRORS_MAX);
    member_uint(&json, "query_rows", MR_WINDOWS_LIMIT_MAX);
    member_uint(&json, "query_bytes", MR_REPLY_BYTES_MAX);
    member_uint(&json, "event_streams", MR_FEEDS_MAX);
    mr_json_object_end(&json);
}

void mr_route_version(struct mr_request *request, struct mr_response *response) {
    struct mr_json json;
    if (!mr_reply_no_params(request, response)) {
        return;
    }
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    member_text(&json, "name", "millrace");
    member_text(&json, "version", MR_VERSION);
    member_text(&json, "api", "v1");
    mr_json_object_end(&json);
}

/* Health. Probes may carry any parameter: load balancers add some against caches. */

static void write_status(struct mr_response *response, unsigned int status, const char *text,
                         const char *reason, const char *detail) {
    struct mr_json json;
    response->status = status;
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    member_text(&json, "status", text);
    if (reason != NULL) {
        member_text(&json, "reason", reason);
    }
    if (detail != NULL) {
        member_text(&json, "detail", detail);
    }
    mr_json_object_end(&json);
}

void mr_route_livez(struct mr_request *request, struct mr_response *response) {
    struct mr_error error = {0};
    if (mr_pipeline_failure(request->server->pipeline, &error) != MR_OK) {
        write_status(response, 503, "failed", "failed", error.text);
    } else {
        write_status(response, 200, "alive", NULL, NULL);
    }
}

/* A store of claims that is away or not to be believed keeps the node out of the balancer: another node may do better.
 * Not with outage local, which is there to go on: ready, and the text says how. */
static bool stores_ready(struct mr_server *server, char *ret_text, size_t cap) {
    ret_text[0] = 0;
    for (uint32_t i = 0; i < server->config->store_count; i++) {
        struct mr_store_stats stats;
        mr_pipeline_store_stats(server->pipeline, i, &stats);
        if (stats.used && !stats.strict) {
            struct mr_bytes name = server->config->stores[i].name;
            (void)snprintf(ret_text, cap, "%sstore %.*s: %s", stats.local ? "ids are decided by this node alone: " : "",
                           (int)name.len, (const char *)name.ptr, stats.reason); /* cut is fine */
        }
        if (stats.used && !stats.strict && !stats.local) {
            return false;
        }
    }
    return true;
}

void mr_route_readyz(struct mr_request *request, struct mr_response *response) {
    struct mr_server *server = request->server;
    struct mr_error error = {0};
    struct mr_pipeline_stats stats;
    char text[400];
    mr_pipeline_stats(server->pipeline, &stats);
    if (mr_pipeline_failure(server->pipeline, &error) != MR_OK) {
        write_status(response, 503, "not ready", "failed", error.text);
    } else if (atomic_load_explicit(&server->draining, memory_order_relaxed)) {
        write_status(response, 503, "not ready", "draining", "the process is about to end");
    } else if (!mr_pipeline_live(server->pipeline)) {
        write_status(response, 503, "not ready", "replaying", "the log is being replayed");
    } else if (stats.refused_log_failed > 0) {
        /* A failed log stays failed until the next start. */
        write_status(response, 503, "not ready", "log_failed",
                     "the log cannot be written; queries are answered, events are not taken");
    } else if (!stores_ready(server, text, sizeof text)) {
        write_status(response, 503, "not ready", "store", text);
    } else {
        write_status(response, 200, "ready", text[0] == 0 ? NULL : "store", text[0] == 0 ? NULL : text);
    }
}

void mr_route_landing(struct mr_request *request, struct mr_response *response) {
    (void)request;
    response->content_type = "text/plain; charset=utf-8";
    mr_buf_append_text(
        &response->body,
        "millrace " MR_VERSION "\n"
        "Removes duplicate events and aggregates the rest in event-time windows.\n"
        "\n"
        "  curl --data-binary '{\"id\":\"1\",\"source\":\"me\",\"type\":\"greeting\"}' "
        "localhost:8080/v1/events\n"
        "  curl localhost:8080/v1/rules\n"
        "\n"
        "POST /v1/streams/{stream}/events       events: one object, an array, NDJSON, CloudEvents\n"
        "POST /v1/events                        the same, to the default stream\n"
        "GET  /v1/rules/{rule}/windows          results, open windows too: "
        "?from&to&key.<name>&order&limit\n"
        "GET  /v1/rules/{rule}/stream           panes as they fire: server-sent events\n"
        "GET  /v1/rules/{rule}/top              the greatest by a metric: ?metric&n&from&to&step\n"
        "GET  /v1/rules/{rule}/hot-keys         the heaviest keys, lately: ?n\n"
        "GET  /v1/rules, /v1/rules/{rule}       settings and counters\n"
        "GET  /v1/streams, /v1/streams/{stream} settings, watermark and counters\n"
        "GET  /v1/streams/{stream}/events/{id}  was this id seen\n"
        "GET  /v1/dead-letters                  what was not counted, and why: "
        "?stream&reason&limit\n"
        "DELETE /v1/dead-letters                discard them: ?stream&reason&before\n"
        "GET  /v1/dead-letters/{address}        one of them; DELETE discards it\n"
        "POST /v1/dead-letters/redrive          judge events again that were future or rejected\n"
        "POST /v1/replays                       the log once more, under other rules; docs/REPLAY.md\n"
        "GET  /v1/limits, /v1/version, /metrics, /livez, /readyz\n"
        "GET  /openapi.yaml                     all of this for programs\n");
}

void mr_route_openapi(struct mr_request *request, struct mr_response *response) {
    (void)request;
    response->content_type = "application/yaml";
    mr_buf_append(&response->body, openapi_yaml, sizeof openapi_yaml);
}
