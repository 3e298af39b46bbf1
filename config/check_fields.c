/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Check fields: whether all paths that a stream's settings and rules use can be read from one
 * event, and whether a rule's results have columns of different names.
 */
#include "config/load.h"

#include "base/check.h"

#include <strings.h>

/* What every result has besides; compared without case, as databases do. */
static const char *const reserved[] = {"window_start",  "window_end", "window_start_ms",
                                       "window_end_ms", "events",     "revision",
                                       "final",         "pane",       "pane_index",
                                       "timing"};

struct used {
    struct mr_bytes path;
    const struct mr_node *node;
    bool column; /* of a batch: these are bounded */
    bool number;
    bool derived; /* no path */
};

struct fields {
    const struct mr_load *load;
    const struct mr_config_stream *stream;
    struct used used[MR_FIELDS_MAX + MR_ID_PARTS_MAX + 2]; /* with time and source */
    uint32_t count;
    uint32_t columns;
};

/* "data" of "data.id". */
static bool is_parent(struct mr_bytes parent, struct mr_bytes child) {
    return child.len > parent.len && child.ptr[parent.len] == '.' &&
           memcmp(parent.ptr, child.ptr, parent.len) == 0;
}

static enum mr_status use_field(struct fields *f, struct used use) {
    use.derived = use.column && mr_config_derived_index(f->stream, use.path) != UINT32_MAX;
    for (uint32_t i = 0; i < f->count; i++) {
        const struct used *u = &f->used[i];
        if (mr_bytes_equal(u->path, use.path) && u->column == use.column &&
            u->number == use.number) {
            return MR_OK;
        }
        bool related = is_parent(u->path, use.path) || is_parent(use.path, u->path);
        if (related && !u->derived && !use.derived) {
            return mr_node_error(
                f->load->error, use.node, MR_INVALID,
                "`%s` is used here, and `%s` in line %u: a field of stream `%s` cannot be "
                "both a value and a mapping",
                mr_show(use.path).text, mr_show(u->path).text, u->node->line,
                mr_show(f->stream->name).text);
        }
    }
    f->columns += use.column;
    if (f->columns > MR_FIELDS_MAX) {
        return mr_node_error(f->load->error, use.node, MR_INVALID,
                             "the rules of stream `%s` use more than %d fields",
                             mr_show(f->stream->name).text, MR_FIELDS_MAX);
    }
    MR_ASSERT(f->count < sizeof f->used / sizeof f->used[0]);
    f->used[f->count] = use;
    f->count++;
    return MR_OK;
}

static enum mr_status use_id_and_time(struct fields *f, const struct mr_config_stream *stream,
                                      const struct mr_node *key) {
    const struct mr_node *id = mr_node_get(key->value, "id");
    for (uint32_t i = 0; i < stream->id_parts; i++) {
        const struct mr_node *node = mr_node_item(id->value, i);
        for (uint32_t j = 0; j < i; j++) {
            if (mr_bytes_equal(stream->id[i], stream->id[j])) {
                return mr_node_error(f->load->error, node, MR_INVALID, "`%s` is here twice",
                                     mr_show(stream->id[i]).text);
            }
        }
        enum mr_status status = use_field(f, (struct used){.path = stream->id[i], .node = node});
        if (status != MR_OK) {
            return status;
        }
    }
    const struct mr_node *time = mr_node_get(key->value, "time")->value;
    const struct mr_node *field = mr_node_get(time, "field");
    enum mr_status status = use_field(
        f, (struct used){.path = stream->time_field, .node = field == NULL ? time : field->value});
    if (status != MR_OK || stream->watermark.source.len == 0) {
        return status;
    }
    const struct mr_node *watermark = mr_node_get(key->value, "watermark")->value;
    return use_field(f, (struct used){.path = stream->watermark.source,
                                      .node = mr_node_get(watermark, "source")->value});
}

/* What is read before anything is computed cannot be computed. */
static enum mr_status check_derived(const struct fields *f, const struct mr_node *key) {
    const struct mr_node *n =
        f->stream->derived_count == 0 ? NULL : mr_node_get(key->value, "derive")->value->first;
    for (; n != NULL; n = n->next) {
        for (uint32_t i = 0; i < f->count; i++) {
            if (mr_bytes_equal(f->used[i].path, n->text)) {
                return mr_node_error(f->load->error, n, MR_INVALID,
                                     "`%s` is the id, time or source of stream `%s`, in line %u; "
                                     "expected another name",
                                     mr_show(n->text).text, mr_show(f->stream->name).text,
                                     f->used[i].node->line);
            }
        }
    }
    return MR_OK;
}

/* Kinds whose field is a number; of the others it is a text, or anything. */
static bool of_number(enum mr_config_metric kind) {
    switch (kind) {
    case MR_CONFIG_SUM:
    case MR_CONFIG_MIN:
    case MR_CONFIG_MAX:
    case MR_CONFIG_AVG:
    case MR_CONFIG_VARIANCE:
    case MR_CONFIG_STDDEV:
    case MR_CONFIG_QUANTILES:
    case MR_CONFIG_HISTOGRAM:
        return true;
    default:
        return false;
    }
}

/* Where the metric's field stands. */
static const struct mr_node *metric_field(const struct mr_config_metric_def *metric,
                                          const struct mr_node *key) {
    const char *of = metric->kind == MR_CONFIG_QUANTILES
                         ? "of"
                         : mr_choice_text(mr_choices_metric, (int)metric->kind);
    return mr_node_get(key->value, of)->value;
}

static enum mr_status use_rule(struct fields *f, const struct mr_config_rule *rule, uint32_t index,
                               const struct mr_node *key) {
    for (uint32_t i = 0; i < rule->group_by_count; i++) {
        const struct mr_node *node = mr_node_item(mr_node_get(key->value, "group_by")->value, i);
        enum mr_status status =
            use_field(f, (struct used){.path = rule->group_by[i], .node = node, .column = true});
        if (status != MR_OK) {
            return status;
        }
    }
    const struct mr_node *metric = mr_node_get(key->value, "metrics")->value->first;
    for (uint32_t i = 0; i < rule->metric_count; i++, metric = metric->next) {
        const struct mr_config_metric_def *m = &rule->metrics[i];
        if (m->field.len == 0 || !mr_config_metric_has_stream(m, index)) {
            continue;
        }
        enum mr_status status = use_field(f, (struct used){.path = m->field,
                                                           .node = metric_field(m, metric),
                                                           .column = true,
                                                           .number = of_number(m->kind)});
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

static enum mr_status check_stream(struct fields *f, uint32_t index, const struct mr_node *key) {
    const struct mr_config *c = f->load->config;
    enum mr_status status = use_id_and_time(f, &c->streams[index], key);
    if (status == MR_OK) {
        status = check_derived(f, key);
    }
    const struct mr_node *rule = f->load->rules == NULL ? NULL : f->load->rules->first;
    for (uint32_t i = 0; i < c->rule_count && status == MR_OK; i++, rule = rule->next) {
        if (mr_config_rule_has_stream(&c->rules[i], index)) {
            status = use_rule(f, &c->rules[i], index, rule);
        }
    }
    return status;
}

static bool same_column(struct mr_bytes a, struct mr_bytes b) {
    return a.len == b.len && strncasecmp((const char *)a.ptr, (const char *)b.ptr, a.len) == 0;
}

static enum mr_status check_column(const struct mr_load *load, struct mr_bytes name,
                                   const struct mr_node *node) {
    if (name.ptr[0] == '_') {
        return mr_node_error(
            load->error, node, MR_INVALID,
            "`%s`: names of result columns that begin with _ are kept for millrace",
            mr_show(name).text);
    }
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        if (same_column(name, mr_bytes_text(reserved[i]))) {
            return mr_node_error(load->error, node, MR_INVALID,
                                 "`%s` is a column of every result; expected another name",
                                 mr_show(name).text);
        }
    }
    return MR_OK;
}

/* Column i of a rule's results: the group_by fields, then the metrics. */
static struct mr_bytes column_name(const struct mr_config_rule *rule, uint32_t i) {
    return i < rule->group_by_count ? rule->group_by[i]
                                    : rule->metrics[i - rule->group_by_count].name;
}

static enum mr_status check_columns(const struct mr_load *load, const struct mr_config_rule *rule,
                                    const struct mr_node *key) {
    const struct mr_node *group_by = mr_node_get(key->value, "group_by");
    const struct mr_node *metric = mr_node_get(key->value, "metrics")->value->first;
    for (uint32_t i = 0; i < rule->group_by_count + rule->metric_count; i++) {
        struct mr_bytes name = column_name(rule, i);
        const struct mr_node *node = metric;
        if (i < rule->group_by_count) {
            node = mr_node_item(group_by->value, i);
        } else {
            metric = metric->next;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (same_column(column_name(rule, j), name)) {
                return mr_node_error(
                    load->error, node, MR_INVALID,
                    "`%s` is a result column of `%s` already (upper and lower case are "
                    "one); expected another name",
                    mr_show(name).text, mr_show(rule->name).text);
            }
        }
        enum mr_status status = check_column(load, name, node);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

enum mr_status mr_config_check_fields(const struct mr_load *load) {
    const struct mr_config *c = load->config;
    enum mr_status status = MR_OK;
    const struct mr_node *key = load->rules == NULL ? NULL : load->rules->first;
    for (uint32_t i = 0; i < c->rule_count && status == MR_OK; i++, key = key->next) {
        status = check_columns(load, &c->rules[i], key);
    }
    key = load->streams->first;
    for (uint32_t i = 0; i < c->stream_count && status == MR_OK; i++, key = key->next) {
        struct fields fields = {.load = load, .stream = &c->streams[i]};
        status = check_stream(&fields, i, key);
    }
    return status;
}
