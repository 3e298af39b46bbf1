/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/plan.h"

#include "aggregate/hot.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/zone.h"
#include "config/change.h"
#include "event/expr.h"
#include "event/lookup.h"
#include "pipeline/panes.h"
#include "pipeline/plan_rule.h"
#include "sink/redis_sink.h"

#include <stdarg.h>
#include <stdio.h>

enum { STATE_TEXT_MAX = 4 << 20, ARENA_FIRST = 4096, ARENA_MAX = 64 * 1024 };

#define LOOKUP_BYTES_MAX (UINT64_C(2) << 30) /* a table of the largest file */

static enum mr_time_format time_format(enum mr_config_time format) {
    static const enum mr_time_format formats[] = {
        [MR_CONFIG_RFC3339] = MR_TIME_RFC3339, [MR_CONFIG_S] = MR_TIME_S,
        [MR_CONFIG_MS] = MR_TIME_MS,           [MR_CONFIG_US] = MR_TIME_US,
        [MR_CONFIG_NS] = MR_TIME_NS,
    };
    return formats[format];
}

/* Another secret than that of ids; no stream has a name with a slash. */
static void derive_contents(const struct mr_hash_key *key, struct mr_bytes stream, struct mr_secret *ret) {
    char label[UINT8_MAX + sizeof "/content"];
    int len = snprintf(label, sizeof label, "%.*s/content", (int)stream.len, (const char *)stream.ptr);
    MR_ASSERT(len > 0 && (size_t)len < sizeof label);
    mr_secret_derive(key, mr_bytes_of(label, (size_t)len), ret);
}

static enum mr_status plan_schemas(struct mr_plan *plan, uint32_t index,
                                   const struct mr_hash_key *key, const struct mr_plan_columns *columns,
                                   struct mr_error *error) {
    const struct mr_config_stream *config = &plan->config->streams[index];
    struct mr_schema_options options = {
        .stream = config->name,
        .id_parts = config->id_parts,
        .missing_id = config->reject_missing_id ? MR_MISSING_REJECT : MR_MISSING_ACCEPT,
        .time = config->time_field,
        .time_format = time_format(config->time_format),
        .missing_time = config->reject_missing_time ? MR_MISSING_REJECT : MR_MISSING_ACCEPT,
        .fields = columns->fields,
        .field_count = columns->field_count,
        .derived_count = config->derived_count,
        .exprs = columns->exprs,
        .expr_count = columns->expr_count,
        .lookups = plan->lookups,
        .lookup_count = plan->config->lookup_count,
        .event_bytes_max = (uint32_t)plan->config->limits.event_bytes,
        .events_max = plan->config->limits.batch_events,
        .shards = plan->shards,
    };
    struct mr_schema_derived derived[MR_DERIVED_MAX];
    for (uint32_t i = 0; i < config->derived_count; i++) {
        const struct mr_config_derived *one = &config->derived[i];
        derived[i] = (struct mr_schema_derived){.name = one->name, .text = one->expr.text};
        enum mr_status labelled =
            mr_plan_label(plan, &one->expr, "derived field", one->name, &derived[i].label, error);
        if (labelled != MR_OK) {
            return labelled;
        }
    }
    options.derived = derived;
    mr_secret_derive(key, config->name, &options.secret);
    derive_contents(key, config->name, &plan->streams[index].contents);
    for (uint32_t i = 0; i < config->id_parts; i++) {
        options.id[i] = config->id[i];
    }
    enum mr_status status = mr_schema_open(&options, &plan->streams[index].schema, error);
    if (status == MR_OK) {
        options.cloudevents = true;
        status = mr_schema_open(&options, &plan->streams[index].schema_ce, error);
    }
    return status;
}

static void plan_dedup(struct mr_plan *plan, uint32_t index) {
    const struct mr_config_stream *config = &plan->config->streams[index];
    struct mr_plan_stream *stream = &plan->streams[index];
    static const enum mr_dedup_mode modes[] = {
        [MR_CONFIG_EXACT] = MR_DEDUP_EXACT,
        [MR_CONFIG_BLOOM] = MR_DEDUP_BLOOM,
        [MR_CONFIG_OBSERVE] = MR_DEDUP_EXACT,
        [MR_CONFIG_NONE] = MR_DEDUP_NONE,
        [MR_CONFIG_REDIS] = MR_DEDUP_NONE,
    };
    /* Bounded input has no log that an answer could be kept in, and is all there is: this process can decide. */
    stream->claimed = config->dedup.mode == MR_CONFIG_REDIS && !plan->bounded;
    stream->store = config->dedup.store;
    stream->local = stream->claimed && config->dedup.outage == MR_CONFIG_OUTAGE_LOCAL;
    bool alone = config->dedup.mode == MR_CONFIG_REDIS && plan->bounded;
    stream->observe = config->dedup.mode == MR_CONFIG_OBSERVE;
    stream->dedup = (struct mr_dedup_options){
        .mode = alone || stream->local ? MR_DEDUP_EXACT : modes[config->dedup.mode],
        .when_full = config->dedup.when_full == MR_CONFIG_REJECT ? MR_WHEN_FULL_REJECT
                                                                 : MR_WHEN_FULL_EVICT_OLDEST,
        .horizon_ms = config->dedup.horizon_ms,
        .ids_max = mr_plan_share(config->dedup.ids, plan->shards),
        .error = config->dedup.error,
        .contents = config->dedup.conflicts,
    };
    stream->watermark = (struct mr_watermark_options){
        .out_of_orderness_ms = config->watermark.out_of_orderness_ms,
        .idle_timeout_ms = config->watermark.idle_timeout_ms,
        .max_future_ms = config->watermark.max_future_ms,
        .bounded = plan->bounded,
    };
}

static enum mr_status plan_stream(struct mr_plan *plan, uint32_t index,
                                  const struct mr_hash_key *key, struct mr_error *error) {
    struct mr_plan_columns columns = {.field_count = 0};
    enum mr_status status = MR_OK;
    for (uint32_t r = 0; r < plan->rule_count; r++) {
        for (uint32_t i = 0; status == MR_OK && i < plan->rules[r].input_count; i++) {
            if (plan->rules[r].inputs[i].stream == index) {
                status = mr_plan_input(plan, r, i, &columns, error);
            }
        }
    }
    struct mr_bytes source = plan->config->streams[index].watermark.source;
    plan->streams[index].source_column = MR_NO_COLUMN;
    if (status == MR_OK && source.len > 0) {
        status = mr_plan_source(plan, index, &columns, error);
    }
    mr_plan_settle(plan, index, &columns);
    plan_dedup(plan, index);
    return status == MR_OK ? plan_schemas(plan, index, key, &columns, error) : status;
}

static enum mr_status plan_lookups(struct mr_plan *plan, struct mr_error *error) {
    for (uint32_t i = 0; i < plan->config->lookup_count; i++) {
        const struct mr_config_lookup *lookup = &plan->config->lookups[i];
        struct mr_lookup_options options = {.key = lookup->key_column,
                                            .value = lookup->value_column,
                                            .rows_max = MR_LOOKUP_ROWS_MAX,
                                            .bytes_max = LOOKUP_BYTES_MAX};
        struct mr_error why;
        enum mr_status status = mr_lookup_open(lookup->data, &options, &plan->tables[i], &why);
        if (status != MR_OK) {
            return mr_error_set(error, status, "lookup %.*s (%.*s): %s", (int)lookup->name.len,
                                (const char *)lookup->name.ptr, (int)lookup->file.len, (const char *)lookup->file.ptr,
                                why.text);
        }
        plan->lookups[i] = (struct mr_expr_lookup){lookup->name, plan->tables[i]};
    }
    return MR_OK;
}

enum mr_status mr_plan_open(const struct mr_config *config, const struct mr_hash_key *key,
                            bool bounded, struct mr_plan **ret, struct mr_error *error) {
    MR_ASSERT(config->stream_count >= 1 && config->node.shards >= 1);
    struct mr_plan *plan = mr_alloc_zero(1, sizeof *plan);
    if (plan == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory making the plan");
    }
    plan->config = config;
    plan->stream_count = config->stream_count;
    plan->rule_count = config->rule_count;
    plan->shards = config->node.shards;
    plan->bounded = bounded;
    plan->streams = mr_alloc_zero(plan->stream_count, sizeof *plan->streams);
    plan->stream_names = mr_alloc_zero(plan->stream_count, sizeof *plan->stream_names);
    plan->rules = mr_alloc_zero(plan->rule_count + 1, sizeof *plan->rules);
    plan->generations = mr_alloc_zero(plan->rule_count + 1, sizeof *plan->generations);
    plan->tables = mr_alloc_zero(config->lookup_count + 1, sizeof(struct mr_lookup *));
    plan->lookups = mr_alloc_zero(config->lookup_count + 1, sizeof *plan->lookups);
    mr_arena_init(&plan->arena, ARENA_FIRST, ARENA_MAX);
    mr_buf_init(&plan->state_text, STATE_TEXT_MAX);
    mr_config_print_state(config, &plan->state_text);
    enum mr_status status = MR_OK;
    if (plan->streams == NULL || plan->stream_names == NULL || plan->rules == NULL ||
        plan->generations == NULL || plan->tables == NULL || plan->lookups == NULL || plan->state_text.failed) {
        status = mr_error_set(error, MR_NO_MEMORY, "out of memory making the plan");
    }
    status = status == MR_OK ? plan_lookups(plan, error) : status;
    for (uint32_t i = 0; status == MR_OK && i < plan->stream_count; i++) {
        plan->streams[i].name = config->streams[i].name;
        plan->stream_names[i] = config->streams[i].name;
    }
    for (uint32_t i = 0; status == MR_OK && i < plan->rule_count; i++) {
        status = mr_plan_rule(plan, i, key, error);
    }
    for (uint32_t i = 0; status == MR_OK && i < plan->stream_count; i++) {
        status = plan_stream(plan, i, key, error);
    }
    if (status != MR_OK) {
        mr_plan_close(plan);
        return status;
    }
    *ret = plan;
    return MR_OK;
}

void mr_plan_close(struct mr_plan *plan) {
    if (plan == NULL) {
        return;
    }
    for (uint32_t i = 0; plan->streams != NULL && i < plan->stream_count; i++) {
        mr_schema_close(plan->streams[i].schema);
        mr_schema_close(plan->streams[i].schema_ce);
    }
    for (uint32_t i = 0; plan->rules != NULL && i < plan->rule_count; i++) {
        mr_zone_close((struct mr_zone *)plan->rules[i].window.zone);
    }
    for (uint32_t i = 0; plan->tables != NULL && i < plan->config->lookup_count; i++) {
        mr_lookup_close(plan->tables[i]);
    }
    mr_buf_finish(&plan->state_text);
    mr_arena_finish(&plan->arena);
    mr_free(plan->tables);
    mr_free(plan->lookups);
    mr_free(plan->streams);
    mr_free(plan->stream_names);
    mr_free(plan->rules);
    mr_free(plan->generations);
    mr_free(plan);
}

/* ---- the memory sum ---- */

struct sum {
    struct mr_plan_memory *lines;
    uint32_t cap;
    uint32_t count;
};

static void add_line(struct sum *sum, uint64_t bytes, const char *format, ...) MR_PRINTF(3, 4);

static void add_line(struct sum *sum, uint64_t bytes, const char *format, ...) {
    if (sum->count == sum->cap) {
        return;
    }
    struct mr_plan_memory *line = &sum->lines[sum->count++];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line->holder, sizeof line->holder, format, args); /* a cut name is still a name */
    va_end(args);
    line->bytes = bytes;
}

static uint64_t dedup_bytes(const struct mr_config *config, uint32_t stream) {
    struct mr_plan plan = {.config = config, .shards = config->node.shards};
    struct mr_plan_stream streams[MR_STREAMS_MAX] = {0};
    plan.streams = streams;
    plan_dedup(&plan, stream);
    return mr_dedup_bytes_planned(&streams[stream].dedup) * config->node.shards;
}

uint32_t mr_plan_flush_ring(const struct mr_config *config) {
    uint64_t slices = 0;
    for (uint32_t i = 0; i < config->rule_count; i++) {
        uint64_t most = mr_plan_share(config->rules[i].groups.max, config->node.shards) / MR_SLICE_GROUPS + 1;
        slices = most > slices ? most : slices;
    }
    uint32_t ring = MR_FLUSH_RING;
    while (ring < MR_FLUSH_RING_MAX && ring < slices + MR_FLUSH_RING) {
        ring *= 2;
    }
    return ring;
}

/* Counters and the keys they hold, each of all its columns at their longest. */
static uint64_t hot_bytes(const struct mr_config *config) {
    uint64_t each = 0;
    for (uint32_t i = 0; i < config->rule_count; i++) {
        uint64_t key = config->rules[i].group_by_count * (UINT64_C(3) + MR_KEY_TEXT_MAX);
        each += MR_HOT_KEYS * (sizeof(struct mr_hot_counter) + sizeof(uint32_t) + key);
    }
    return each * config->node.shards;
}

uint32_t mr_plan_memory_sum(const struct mr_config *config, struct mr_plan_memory *ret,
                            uint32_t cap) {
    struct sum sum = {ret, cap, 0};
    uint64_t shards = config->node.shards;
    for (uint32_t i = 0; i < config->stream_count; i++) {
        const struct mr_bytes name = config->streams[i].name;
        add_line(&sum, dedup_bytes(config, i), "dedup of %.*s", (int)name.len,
                 (const char *)name.ptr);
    }
    for (uint32_t i = 0; i < config->rule_count; i++) {
        const struct mr_bytes name = config->rules[i].name;
        add_line(&sum, config->rules[i].groups.bytes, "open groups of %.*s", (int)name.len,
                 (const char *)name.ptr);
    }
    for (uint32_t i = 0; i < config->stream_count; i++) {
        const struct mr_bytes name = config->streams[i].name;
        if (config->streams[i].dedup.mode == MR_CONFIG_REDIS) {
            add_line(&sum, MR_CLAIMS_BYTES_MAX + MR_CLAIM_BATCHES_BYTES_MAX, "claims of %.*s under way",
                     (int)name.len, (const char *)name.ptr);
        }
    }
    for (uint32_t i = 0; i < config->lookup_count; i++) {
        const struct mr_bytes name = config->lookups[i].name;
        add_line(&sum, config->lookups[i].data.len, "lookup %.*s", (int)name.len, (const char *)name.ptr);
    }
    for (uint32_t i = 0; i < config->sink_count; i++) {
        const struct mr_bytes name = config->sinks[i].name;
        uint64_t nodes = config->stores[config->sinks[i].store].node_count;
        add_line(&sum, MR_SINK_BYTES_MAX + nodes * MR_SINK_PIPELINE_BYTES_MAX, "rows on the way to %.*s", (int)name.len,
                 (const char *)name.ptr);
    }
    add_line(&sum, hot_bytes(config), "hot keys");
    add_line(&sum, config->limits.in_flight_bytes, "requests in flight");
    add_line(&sum, config->http.threads * config->limits.inflated_bytes, "bodies being inflated");
    /* A bundle's partials: at most one a rule and event of the largest bundle, with their table. */
    uint64_t events = config->limits.batch_events > MR_BUNDLE_EVENTS_MAX ? config->limits.batch_events
                                                                         : MR_BUNDLE_EVENTS_MAX;
    add_line(&sum, shards * events * 128, "partials under way");
    uint64_t places = MR_PANES_TOGETHER * (sizeof(struct mr_pane_place) + sizeof(void *)); /* qsort's */
    add_line(&sum, shards * mr_plan_flush_ring(config) * MR_SLICE_GROUPS * 192 + places, "panes under way");
    add_line(&sum, (uint64_t)config->http.connections * (48 << 10), "connections");
    add_line(&sum, 64 << 20, "results store and code");
    return sum.count;
}
