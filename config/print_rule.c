/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Print rule: what the rows of a rule, of its metrics and of derived fields print by code.
 */
#include "base/check.h"
#include "config/print.h"

void mr_option_print_derive(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_stream *stream = holder;
    if (stream->derived_count == 0) {
        return;
    }
    mr_print_begin(p, o->key);
    mr_print_end(p);
    p->depth++;
    for (uint32_t i = 0; i < stream->derived_count; i++) {
        const struct mr_config_derived *derived = &stream->derived[i];
        mr_print_begin(p, (const char *)derived->name.ptr); /* copies end with a NUL */
        mr_buf_append_char(p->out, ' ');
        mr_print_text(p, derived->expr.text);
        mr_print_end(p);
    }
    p->depth--;
}

void mr_option_print_from(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_rule *rule = holder;
    struct mr_bytes names[MR_RULE_INPUTS_MAX];
    MR_ASSERT(rule->stream_count > 0);
    for (uint32_t i = 0; i < rule->stream_count; i++) {
        names[i] = p->config->streams[rule->streams[i]].name;
    }
    if (rule->stream_count > 1) {
        mr_print_list(p, o->key, names, rule->stream_count);
        return;
    }
    mr_print_begin(p, o->key);
    mr_buf_append_char(p->out, ' ');
    mr_print_text(p, names[0]);
    mr_print_end(p);
}

void mr_option_print_group_by(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_rule *rule = holder;
    mr_print_list(p, o->key, rule->group_by, rule->group_by_count);
}

/* "count", or the rows that apply inside { }. */
static void print_metric(struct mr_print *p, const struct mr_config_metric_def *metric) {
    if (metric->kind == MR_CONFIG_COUNT && metric->where.text.len == 0 &&
        metric->from == UINT32_MAX) {
        mr_buf_append_text(p->out, "count");
        return;
    }
    MR_ASSERT(!p->flow);
    p->flow = true;
    p->flow_more = false;
    mr_buf_append_text(p->out, "{ ");
    mr_print_scope(p, MR_SCOPE_METRIC, metric);
    mr_buf_append_text(p->out, " }");
    p->flow = false;
}

void mr_option_print_metrics(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_rule *rule = holder;
    mr_print_begin(p, o->key);
    mr_print_end(p);
    p->depth++;
    p->metrics = rule->metrics;
    for (uint32_t i = 0; i < rule->metric_count; i++) {
        mr_print_begin(p, (const char *)rule->metrics[i].name.ptr);
        mr_buf_append_char(p->out, ' ');
        print_metric(p, &rule->metrics[i]);
        mr_print_end(p);
    }
    p->metrics = NULL;
    p->depth--;
}

void mr_option_print_metric_count(struct mr_print *p, const struct mr_option *o,
                                  const void *holder) {
    (void)holder;
    mr_print_begin(p, o->key);
    mr_buf_append_text(p->out, " events");
    mr_print_end(p);
}

void mr_option_print_metric_field(struct mr_print *p, const struct mr_option *o,
                                  const void *holder) {
    const struct mr_config_metric_def *metric = holder;
    mr_print_begin(p, o->key);
    mr_buf_append_char(p->out, ' ');
    mr_print_text(p, metric->field);
    mr_print_end(p);
}

static void print_params(struct mr_print *p, const char *key,
                         const struct mr_config_metric_def *metric) {
    mr_print_begin(p, key);
    mr_buf_append_text(p->out, " [");
    for (uint32_t i = 0; i < metric->param_count; i++) {
        mr_buf_append_text(p->out, i == 0 ? "" : ", ");
        mr_value_show_rate(metric->params[i], p->out);
    }
    mr_buf_append_char(p->out, ']');
    mr_print_end(p);
}

void mr_option_print_quantiles(struct mr_print *p, const struct mr_option *o, const void *holder) {
    print_params(p, o->key, holder);
}

void mr_option_print_bounds(struct mr_print *p, const struct mr_option *o, const void *holder) {
    print_params(p, o->key, holder);
}

void mr_option_print_ratio(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_metric_def *metric = holder;
    MR_ASSERT(p->metrics != NULL);
    struct mr_bytes names[2] = {p->metrics[metric->over[0]].name, p->metrics[metric->over[1]].name};
    mr_print_list(p, o->key, names, 2);
}

void mr_option_print_metric_from(struct mr_print *p, const struct mr_option *o,
                                 const void *holder) {
    const struct mr_config_metric_def *metric = holder;
    if (metric->from == UINT32_MAX) {
        return;
    }
    mr_print_begin(p, o->key);
    mr_buf_append_char(p->out, ' ');
    mr_print_text(p, p->config->streams[metric->from].name);
    mr_print_end(p);
}
