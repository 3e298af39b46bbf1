/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/plan_rule.h"

#include "base/check.h"
#include "base/zone.h"

static enum mr_status too_many(struct mr_error *error) {
    return mr_error_set(error, MR_INVALID, "the rules of one stream use more than %d fields and expressions",
                        MR_FIELDS_MAX);
}

static enum mr_status add_field(struct mr_plan_columns *columns, struct mr_bytes path, enum mr_field_use use,
                                uint32_t *ret_column, struct mr_error *error) {
    for (uint32_t i = 0; i < columns->field_count; i++) {
        if (columns->fields[i].use == use && mr_bytes_equal(columns->fields[i].path, path)) {
            *ret_column = i;
            return MR_OK;
        }
    }
    if (columns->field_count == MR_FIELDS_MAX) {
        return too_many(error);
    }
    columns->fields[columns->field_count] = (struct mr_field){path, use};
    *ret_column = columns->field_count++;
    return MR_OK;
}

static enum mr_status add_expr(struct mr_plan_columns *columns, struct mr_bytes name, struct mr_bytes text,
                               enum mr_field_use use, uint32_t *ret_column, struct mr_error *error) {
    for (uint32_t i = 0; i < columns->expr_count; i++) {
        if (columns->exprs[i].use == use && mr_bytes_equal(columns->exprs[i].text, text)) {
            *ret_column = MR_PLAN_EXPR | i;
            return MR_OK;
        }
    }
    if (columns->expr_count == MR_FIELDS_MAX) {
        return too_many(error);
    }
    columns->exprs[columns->expr_count] = (struct mr_schema_expr){name, text, use};
    *ret_column = MR_PLAN_EXPR | columns->expr_count++;
    return MR_OK;
}

/* A field of the events, or one that is derived from others. */
static enum mr_status add_value(const struct mr_config_stream *stream, struct mr_plan_columns *columns,
                                struct mr_bytes path, enum mr_field_use use, uint32_t *ret_column,
                                struct mr_error *error) {
    return mr_config_derived_index(stream, path) == UINT32_MAX
               ? add_field(columns, path, use, ret_column, error)
               : add_expr(columns, path, path, use, ret_column, error);
}

enum mr_status mr_plan_label(struct mr_plan *plan, const struct mr_config_expr *expr, const char *what,
                             struct mr_bytes of, struct mr_bytes *ret, struct mr_error *error) {
    struct mr_buf text;
    mr_buf_init(&text, 4096);
    if (expr->line > 0) {
        mr_buf_printf(&text, "%.*s:%u:%u: ", (int)plan->config->source.len, (const char *)plan->config->source.ptr,
                      expr->line, expr->column);
    }
    mr_buf_printf(&text, "%s %.*s", what, (int)of.len, (const char *)of.ptr);
    struct mr_bytes label = mr_arena_copy(&plan->arena, mr_buf_bytes(&text));
    bool failed = text.failed || label.ptr == NULL;
    mr_buf_finish(&text);
    if (failed) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory making the plan");
    }
    *ret = label;
    return MR_OK;
}

/* `where` of a rule or metric; the message says where it stands in the file. */
static enum mr_status add_where(struct mr_plan *plan, struct mr_plan_columns *columns, const struct mr_config_expr *where,
                                struct mr_bytes of, uint32_t *ret_column, struct mr_error *error) {
    *ret_column = MR_NO_COLUMN;
    if (where->text.len == 0) {
        return MR_OK;
    }
    struct mr_bytes name;
    enum mr_status status = mr_plan_label(plan, where, "where of", of, &name, error);
    return status != MR_OK ? status : add_expr(columns, name, where->text, MR_EXPR_WHERE, ret_column, error);
}

/* ---- metrics ---- */

static enum mr_metric_kind metric_kind(enum mr_config_metric kind) {
    static const enum mr_metric_kind kinds[] = {
        [MR_CONFIG_COUNT] = MR_METRIC_COUNT,         [MR_CONFIG_SUM] = MR_METRIC_SUM,
        [MR_CONFIG_MIN] = MR_METRIC_MIN,             [MR_CONFIG_MAX] = MR_METRIC_MAX,
        [MR_CONFIG_AVG] = MR_METRIC_AVG,             [MR_CONFIG_VARIANCE] = MR_METRIC_VARIANCE,
        [MR_CONFIG_STDDEV] = MR_METRIC_STDDEV,       [MR_CONFIG_FIRST] = MR_METRIC_FIRST,
        [MR_CONFIG_LAST] = MR_METRIC_LAST,           [MR_CONFIG_DISTINCT] = MR_METRIC_DISTINCT,
        [MR_CONFIG_QUANTILES] = MR_METRIC_QUANTILES, [MR_CONFIG_TOP] = MR_METRIC_TOP,
        [MR_CONFIG_HISTOGRAM] = MR_METRIC_HISTOGRAM, [MR_CONFIG_COLLECT] = MR_METRIC_COLLECT,
        [MR_CONFIG_RATIO] = MR_METRIC_RATIO,
    };
    return kinds[kind];
}

/* Numbers: another value rejects the event, as a mistake of the producer; else any value. */
static enum mr_field_use metric_use(enum mr_config_metric kind) {
    switch (kind) {
    case MR_CONFIG_FIRST:
    case MR_CONFIG_LAST:
    case MR_CONFIG_DISTINCT:
    case MR_CONFIG_TOP:
    case MR_CONFIG_COLLECT:
        return MR_FIELD_ANY;
    default:
        return MR_FIELD_NUMBER;
    }
}

static void plan_metrics(struct mr_rule *rule, const struct mr_config_rule *config) {
    rule->metric_count = config->metric_count;
    for (uint32_t i = 0; i < config->metric_count; i++) {
        const struct mr_config_metric_def *def = &config->metrics[i];
        rule->metrics[i] = (struct mr_metric){
            .name = def->name,
            .kind = metric_kind(def->kind),
            .params = def->params,
            .param_count = def->param_count,
            .limit = def->limit,
            .error = def->error,
            .over = {def->over[0], def->over[1]},
        };
    }
    rule->state_len = mr_metric_layout(rule->metrics, rule->metric_count, mr_rule_prefix(rule));
    rule->grows = mr_metrics_grow(rule->metrics, rule->metric_count);
}

/* ---- windows ---- */

static enum mr_status plan_window(struct mr_rule *rule, const struct mr_config_rule *config, struct mr_error *error) {
    static const enum mr_window_kind kinds[] = {
        [MR_CONFIG_TUMBLING] = MR_WINDOW_TUMBLING,
        [MR_CONFIG_SLIDING] = MR_WINDOW_SLIDING,
        [MR_CONFIG_SESSION] = MR_WINDOW_SESSION,
        [MR_CONFIG_GLOBAL] = MR_WINDOW_GLOBAL,
    };
    rule->window = (struct mr_window){
        .kind = kinds[config->window.kind],
        .size_ms = config->window.kind == MR_CONFIG_SESSION ? config->window.max_ms : config->window.size_ms,
        .every_ms = config->window.every_ms,
        .offset_ms = config->window.offset_ms,
        .gap_ms = config->window.gap_ms,
    };
    if (rule->window.kind == MR_WINDOW_SLIDING) {
        rule->window.slice_ms = mr_config_rule_slice_ms(config);
        rule->window.sliced = mr_config_rule_sliced(config);
    }
    if (config->window.time_zone.len == 0) {
        return MR_OK;
    }
    struct mr_zone *zone;
    struct mr_error why;
    enum mr_status status = mr_zone_open(config->window.time_zone, &zone, &why);
    if (status != MR_OK) {
        return mr_error_set(error, status, "rule %.*s: window.time_zone: %s", (int)config->name.len,
                            (const char *)config->name.ptr, why.text);
    }
    rule->window.kind = MR_WINDOW_CALENDAR;
    rule->window.zone = zone;
    return MR_OK;
}

enum mr_status mr_plan_rule(struct mr_plan *plan, uint32_t index, const struct mr_hash_key *key,
                            struct mr_error *error) {
    static const enum mr_accumulation panes[] = {
        [MR_CONFIG_ACCUMULATING] = MR_ACCUMULATING,
        [MR_CONFIG_DISCARDING] = MR_DISCARDING,
        [MR_CONFIG_RETRACTING] = MR_ACCUMULATING_RETRACTING,
    };
    const struct mr_config_rule *config = &plan->config->rules[index];
    struct mr_rule *rule = &plan->rules[index];
    *rule = (struct mr_rule){
        .name = config->name,
        .index = index,
        .key_seed = mr_hash_seed(key, config->name),
        .input_count = config->stream_count,
        .key_count = config->group_by_count,
        .trigger = {.early_ms = config->trigger.early_ms,
                    .early_count = config->trigger.early_count,
                    .late = config->trigger.late,
                    .panes = panes[config->trigger.panes]},
        .allowed_lateness_ms = config->allowed_lateness_ms,
        .groups_max = mr_plan_share(config->groups.max, plan->shards),
        .groups_bytes = mr_plan_share(config->groups.bytes, plan->shards),
        .when_full = config->groups.when_full == MR_CONFIG_OTHER ? MR_GROUPS_OTHER : MR_GROUPS_DROP,
        .final_floor_ms = INT64_MIN,
    };
    for (uint32_t i = 0; i < config->stream_count; i++) {
        rule->inputs[i].stream = config->streams[i];
        for (uint32_t k = 0; k < config->stream_count; k++) {
            plan->streams[config->streams[i]].partners |= k == i ? 0 : UINT64_C(1) << config->streams[k];
        }
    }
    for (uint32_t i = 0; i < config->group_by_count; i++) {
        rule->key_names[i] = config->group_by[i];
    }
    enum mr_status status = plan_window(rule, config, error);
    plan_metrics(rule, config);
    return status;
}

/* ---- inputs ---- */

static enum mr_status plan_metric_input(struct mr_plan *plan, const struct mr_config_rule *config, uint32_t metric,
                                        struct mr_rule_input *input, struct mr_plan_columns *columns,
                                        struct mr_error *error) {
    const struct mr_config_stream *stream = &plan->config->streams[input->stream];
    const struct mr_config_metric_def *def = &config->metrics[metric];
    input->metric_columns[metric] = MR_NO_COLUMN;
    input->metric_where[metric] = MR_NO_COLUMN;
    if (def->kind == MR_CONFIG_RATIO || !mr_config_metric_has_stream(def, input->stream)) {
        input->metrics_skipped |= UINT64_C(1) << metric;
        return MR_OK;
    }
    enum mr_status status = MR_OK;
    if (def->field.len > 0) {
        status = add_value(stream, columns, def->field, metric_use(def->kind), &input->metric_columns[metric], error);
    }
    return status != MR_OK
               ? status
               : add_where(plan, columns, &def->where, def->name, &input->metric_where[metric], error);
}

enum mr_status mr_plan_input(struct mr_plan *plan, uint32_t index, uint32_t at, struct mr_plan_columns *columns,
                             struct mr_error *error) {
    const struct mr_config_rule *config = &plan->config->rules[index];
    struct mr_rule_input *input = &plan->rules[index].inputs[at];
    const struct mr_config_stream *stream = &plan->config->streams[input->stream];
    enum mr_status status = add_where(plan, columns, &config->where, config->name, &input->where, error);
    for (uint32_t i = 0; status == MR_OK && i < config->group_by_count; i++) {
        status = add_value(stream, columns, config->group_by[i], MR_FIELD_KEY, &input->key_columns[i], error);
    }
    for (uint32_t i = 0; status == MR_OK && i < config->metric_count; i++) {
        status = plan_metric_input(plan, config, i, input, columns, error);
    }
    return status;
}

enum mr_status mr_plan_source(struct mr_plan *plan, uint32_t stream, struct mr_plan_columns *columns,
                              struct mr_error *error) {
    const struct mr_config_stream *config = &plan->config->streams[stream];
    return add_value(config, columns, config->watermark.source, MR_FIELD_KEY, &plan->streams[stream].source_column,
                     error);
}

static void settle(uint32_t *column, const struct mr_plan_columns *columns) {
    if (*column != MR_NO_COLUMN && (*column & MR_PLAN_EXPR) != 0) {
        *column = columns->field_count + (*column & ~MR_PLAN_EXPR);
    }
}

void mr_plan_settle(struct mr_plan *plan, uint32_t stream, const struct mr_plan_columns *columns) {
    settle(&plan->streams[stream].source_column, columns);
    for (uint32_t r = 0; r < plan->rule_count; r++) {
        struct mr_rule *rule = &plan->rules[r];
        for (uint32_t i = 0; i < rule->input_count; i++) {
            struct mr_rule_input *input = &rule->inputs[i];
            if (input->stream != stream) {
                continue;
            }
            settle(&input->where, columns);
            for (uint32_t k = 0; k < rule->key_count; k++) {
                settle(&input->key_columns[k], columns);
            }
            for (uint32_t m = 0; m < rule->metric_count; m++) {
                settle(&input->metric_columns[m], columns);
                settle(&input->metric_where[m], columns);
            }
        }
    }
}
