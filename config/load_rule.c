/* SPDX-License-Identifier: Apache-2.0 */
#include "config/load.h"

#include "base/check.h"

enum mr_status mr_option_load_rules(struct mr_load *load, const struct mr_node *key, void *holder) {
    struct mr_config *config = holder;
    enum mr_status status = mr_load_names(load, key, MR_RULES_MAX, &load->rules);
    if (status != MR_OK || load->rules == NULL || load->rules->count == 0) {
        return status;
    }
    config->rules = mr_load_array(load, load->rules->count, sizeof *config->rules);
    if (config->rules == NULL) {
        return mr_load_no_memory(load);
    }
    for (const struct mr_node *n = load->rules->first; n != NULL && status == MR_OK; n = n->next) {
        struct mr_config_rule *rule = &config->rules[config->rule_count];
        status = mr_load_copy(load, n->text, &rule->name);
        if (status == MR_OK) {
            status = mr_load_scope(load, MR_SCOPE_RULE, n, rule);
        }
        config->rule_count++;
    }
    return status;
}

enum mr_status mr_option_load_from(struct mr_load *load, const struct mr_node *key, void *holder) {
    struct mr_config_rule *rule = holder;
    if (key->value->kind == MR_NODE_SEQUENCE && key->value->count > 1) {
        return mr_node_error(load->error, key->value, MR_UNSUPPORTED,
                             "`from` with several streams: %s", mr_status_text(MR_UNSUPPORTED));
    }
    enum mr_status status = mr_load_list(load, key, 1, "the name of a stream");
    return status != MR_OK ? status
                           : mr_load_stream_name(load, mr_node_item(key->value, 0), &rule->stream);
}

enum mr_status mr_option_load_group_by(struct mr_load *load, const struct mr_node *key,
                                       void *holder) {
    struct mr_config_rule *rule = holder;
    if (key->value->kind == MR_NODE_SEQUENCE && key->value->count == 0) {
        return MR_OK; /* one result per window */
    }
    enum mr_status status = mr_load_list(load, key, MR_RULE_KEYS_MAX,
                                         "a field, or a list of up to 8 such as [country]");
    for (uint32_t i = 0; status == MR_OK && i < mr_node_items(key->value); i++) {
        status = mr_load_path(load, mr_node_item(key->value, i), &rule->group_by[i]);
        rule->group_by_count = i + 1;
    }
    return status;
}

static const char metric_expected[] =
    "count, or one of { sum: FIELD }, { min: FIELD }, { max: FIELD }, { avg: FIELD }";

/* The function of a metric: `count`, or the one key of the mapping. */
static enum mr_status load_function(struct mr_load *load, const struct mr_node *key,
                                    const struct mr_node *function,
                                    struct mr_config_metric_def *metric) {
    const struct mr_choice *choice = mr_choice_find(mr_choices_metric, function->text);
    if (choice == NULL) {
        const char *near = mr_choice_suggest(mr_choices_metric, function->text);
        return mr_node_error(load->error, function, MR_INVALID, "`%s: %s`; expected %s%s",
                             mr_show(key->text).text, mr_show(function->text).text, metric_expected,
                             mr_load_near(near).text);
    }
    if (choice->value == MR_CHOICE_LATER) {
        return mr_node_error(load->error, function, MR_UNSUPPORTED, "`%s`: %s", choice->text,
                             mr_status_text(MR_UNSUPPORTED));
    }
    metric->kind = (enum mr_config_metric)choice->value;
    return MR_OK;
}

static enum mr_status load_metric(struct mr_load *load, const struct mr_node *key,
                                  struct mr_config_metric_def *metric) {
    const struct mr_node *value = key->value;
    bool mapping = value->kind == MR_NODE_MAPPING;
    if (!mapping) {
        enum mr_status status = mr_load_scalar(load, key, value, metric_expected);
        status = status != MR_OK ? status : load_function(load, key, value, metric);
        bool bare = status == MR_OK && metric->kind != MR_CONFIG_COUNT;
        return !bare ? status
                     : mr_node_error(load->error, value, MR_INVALID,
                                     "`%s: %s`: of which field? expected { %s: FIELD }",
                                     mr_show(key->text).text, mr_show(value->text).text,
                                     mr_show(value->text).text);
    }
    for (const struct mr_node *n = value->first; n != NULL; n = n->next) {
        enum mr_status status = load_function(load, key, n, metric);
        if (status != MR_OK) {
            return status;
        }
    }
    if (value->count != 1 || metric->kind == MR_CONFIG_COUNT) {
        return mr_node_error(load->error, value, MR_INVALID, "`%s`: expected %s",
                             mr_show(key->text).text, metric_expected);
    }
    const struct mr_node *function = value->first;
    enum mr_status status = mr_load_scalar(load, function, function->value, "a field");
    return status != MR_OK ? status : mr_load_path(load, function->value, &metric->field);
}

enum mr_status mr_option_load_metrics(struct mr_load *load, const struct mr_node *key,
                                      void *holder) {
    struct mr_config_rule *rule = holder;
    const struct mr_node *metrics;
    enum mr_status status = mr_load_names(load, key, MR_RULE_METRICS_MAX, &metrics);
    if (status == MR_OK && (metrics == NULL || metrics->count == 0)) {
        return mr_node_error(load->error, key, MR_INVALID,
                             "`metrics` is empty; expected at least one, such as views: count");
    }
    const struct mr_node *n = status == MR_OK ? metrics->first : NULL;
    for (; n != NULL && status == MR_OK; n = n->next) {
        struct mr_config_metric_def *metric = &rule->metrics[rule->metric_count];
        status = mr_load_copy(load, n->text, &metric->name);
        status = status != MR_OK ? status : load_metric(load, n, metric);
        rule->metric_count++;
    }
    return status;
}
