/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics of a rule: `count`, or a mapping whose one function says which keys may stand beside it (mr_option_applies).
 */
#include "config/load.h"

#include "base/check.h"

enum { TOP_DEFAULT = 10, COLLECT_DEFAULT = 100 };

#define DISTINCT_ERROR_MIN 0.005

static const char metric_expected[] = "count, or a function such as { sum: FIELD }";

static const char *example_of(enum mr_config_metric kind) {
    static const char *const examples[] = {
        [MR_CONFIG_QUANTILES] = "{ quantiles: [0.5, 0.95], of: FIELD }",
        [MR_CONFIG_HISTOGRAM] = "{ histogram: FIELD, bounds: [10, 20] }",
        [MR_CONFIG_RATIO] = "{ ratio: [METRIC, METRIC] }",
    };
    bool has = kind < sizeof examples / sizeof examples[0] && examples[kind] != NULL;
    return has ? examples[kind] : NULL;
}

/* `n: count`, or a function that lacks its field. */
static enum mr_status load_bare(struct mr_load *load, const struct mr_node *key,
                                struct mr_config_metric_def *metric) {
    const struct mr_node *value = key->value;
    enum mr_status status = mr_load_scalar(load, key, value, metric_expected);
    if (status != MR_OK) {
        return status;
    }
    const struct mr_choice *choice = mr_choice_find(mr_choices_metric, value->text);
    if (choice == NULL) {
        const char *near = mr_choice_suggest(mr_choices_metric, value->text);
        return mr_node_error(load->error, value, MR_INVALID, "`%s: %s`; expected %s%s",
                             mr_show(key->text).text, mr_show(value->text).text, metric_expected,
                             mr_load_near(near).text);
    }
    metric->kind = (enum mr_config_metric)choice->value;
    if (metric->kind == MR_CONFIG_COUNT) {
        return MR_OK;
    }
    const char *example = example_of(metric->kind);
    return mr_node_error(load->error, value, MR_INVALID, "`%s: %s`: of %s? expected %s%s%s",
                         mr_show(key->text).text, choice->text,
                         metric->kind == MR_CONFIG_RATIO ? "which metrics" : "which field",
                         example == NULL ? "{ " : example, example == NULL ? choice->text : "",
                         example == NULL ? ": FIELD }" : "");
}

/* The one function of the mapping. */
static enum mr_status find_function(struct mr_load *load, const struct mr_node *key,
                                    const struct mr_node **ret) {
    const struct mr_node *function = NULL;
    for (const struct mr_node *n = key->value->first; n != NULL; n = n->next) {
        if (mr_choice_find(mr_choices_metric, n->text) == NULL) {
            continue;
        }
        if (function != NULL) {
            return mr_node_error(load->error, n, MR_INVALID, "`%s` beside `%s`; expected one function",
                                 mr_show(n->text).text, mr_show(function->text).text);
        }
        function = n;
    }
    if (function == NULL) {
        return mr_node_error(load->error, key->value, MR_INVALID, "`%s` has no function; expected %s",
                             mr_show(key->text).text, metric_expected);
    }
    *ret = function;
    return MR_OK;
}

/* What stands beside the function belongs to it, and what it needs is there. */
static enum mr_status check_keys(struct mr_load *load, const struct mr_node *key,
                                 const struct mr_config_metric_def *metric) {
    for (const struct mr_node *n = key->value->first; n != NULL; n = n->next) {
        const struct mr_option *option = mr_option_find(MR_SCOPE_METRIC, n->text);
        const char *only;
        MR_ASSERT(option != NULL);
        if (!mr_option_applies(option, metric, &only)) {
            return mr_node_error(load->error, n, MR_INVALID, "`%s`: %s", option->key, only);
        }
    }
    const char *needed = metric->kind == MR_CONFIG_QUANTILES   ? "of"
                         : metric->kind == MR_CONFIG_HISTOGRAM ? "bounds"
                                                               : NULL;
    if (needed == NULL || mr_node_get(key->value, needed) != NULL) {
        return MR_OK;
    }
    return mr_load_missing(load, mr_option_find(MR_SCOPE_METRIC, mr_bytes_text(needed)), key);
}

/* Bounds and defaults that depend on the function. */
static enum mr_status settle_numbers(struct mr_load *load, const struct mr_node *key,
                                     struct mr_config_metric_def *metric) {
    if (metric->kind != MR_CONFIG_DISTINCT && metric->kind != MR_CONFIG_QUANTILES) {
        metric->error = 0;
    }
    if (metric->kind == MR_CONFIG_DISTINCT && metric->error < DISTINCT_ERROR_MIN) {
        const struct mr_node *error = mr_node_get(key->value, "error")->value;
        return mr_node_error(load->error, error, MR_INVALID,
                             "`error: %s`; expected 0.005 to 0.1 for distinct",
                             mr_show(error->text).text);
    }
    if (metric->kind == MR_CONFIG_TOP && metric->limit > MR_TOP_MAX) {
        const struct mr_node *n = mr_node_get(key->value, "n")->value;
        return mr_node_error(load->error, n, MR_INVALID, "`n: %s`; expected 1 to %d for top",
                             mr_show(n->text).text, MR_TOP_MAX);
    }
    if (metric->limit == 0 && metric->kind == MR_CONFIG_TOP) {
        metric->limit = TOP_DEFAULT;
    } else if (metric->limit == 0 && metric->kind == MR_CONFIG_COLLECT) {
        metric->limit = COLLECT_DEFAULT;
    }
    return MR_OK;
}

static enum mr_status load_metric(struct mr_load *load, const struct mr_node *key,
                                  struct mr_config_metric_def *metric) {
    metric->from = UINT32_MAX;
    if (key->value->kind != MR_NODE_MAPPING) {
        return load_bare(load, key, metric);
    }
    const struct mr_node *function = NULL;
    enum mr_status status = mr_load_scope(load, MR_SCOPE_METRIC, key, metric);
    if (status == MR_OK) {
        status = find_function(load, key, &function);
    }
    if (status == MR_OK) {
        metric->kind =
            (enum mr_config_metric)mr_choice_find(mr_choices_metric, function->text)->value;
        status = check_keys(load, key, metric);
    }
    return status != MR_OK ? status : settle_numbers(load, key, metric);
}

static bool is_number(enum mr_config_metric kind) {
    switch (kind) {
    case MR_CONFIG_COUNT:
    case MR_CONFIG_SUM:
    case MR_CONFIG_MIN:
    case MR_CONFIG_MAX:
    case MR_CONFIG_AVG:
    case MR_CONFIG_VARIANCE:
    case MR_CONFIG_STDDEV:
    case MR_CONFIG_DISTINCT:
        return true;
    default:
        return false;
    }
}

/* A ratio's metrics by their names, which may stand behind it. */
static enum mr_status resolve_ratio(struct mr_load *load, const struct mr_config_rule *rule,
                                    const struct mr_node *key,
                                    struct mr_config_metric_def *metric) {
    struct mr_named metrics = {rule->metrics, sizeof rule->metrics[0], rule->metric_count};
    const struct mr_node *list = mr_node_get(key->value, "ratio")->value;
    for (uint32_t i = 0; i < 2; i++) {
        const struct mr_node *item = mr_node_item(list, i);
        enum mr_status status = mr_load_named(load, item, "metric", &metrics, &metric->over[i]);
        if (status != MR_OK) {
            return status;
        }
        enum mr_config_metric kind = rule->metrics[metric->over[i]].kind;
        if (!is_number(kind)) {
            return mr_node_error(load->error, item, MR_INVALID,
                                 "`%s` is a %s and no number to divide; expected count, sum, min, max, avg, "
                                 "variance, stddev or distinct",
                                 mr_show(item->text).text, mr_choice_text(mr_choices_metric, (int)kind));
        }
    }
    if (metric->over[0] == metric->over[1]) {
        return mr_node_error(load->error, mr_node_item(list, 1), MR_INVALID, "`%s` is here twice",
                             mr_show(mr_node_item(list, 1)->text).text);
    }
    return MR_OK;
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
    n = status == MR_OK ? metrics->first : NULL;
    for (uint32_t i = 0; n != NULL && status == MR_OK; n = n->next, i++) {
        if (rule->metrics[i].kind == MR_CONFIG_RATIO) {
            status = resolve_ratio(load, rule, n, &rule->metrics[i]);
        }
    }
    return status;
}

/* Metrics that count differ by `where` and `from`, and have no field. */
enum mr_status mr_option_load_metric_count(struct mr_load *load, const struct mr_node *key,
                                           void *holder) {
    (void)holder;
    static const char expected[] = "count: events, with `where` or `from` beside it";
    enum mr_status status = mr_load_scalar(load, key, key->value, expected);
    if (status != MR_OK || mr_bytes_equal(key->value->text, MR_BYTES("events"))) {
        return status;
    }
    return mr_node_error(load->error, key->value, MR_INVALID, "`count: %s`; expected %s",
                         mr_show(key->value->text).text, expected);
}

enum mr_status mr_option_load_metric_field(struct mr_load *load, const struct mr_node *key,
                                           void *holder) {
    struct mr_config_metric_def *metric = holder;
    enum mr_status status = mr_load_scalar(load, key, key->value, "a field");
    return status != MR_OK ? status : mr_load_path(load, key->value, &metric->field);
}

/* Ascending numbers of one list into params. */
static enum mr_status load_params(struct mr_load *load, const struct mr_node *key, uint32_t max,
                                  const char *expected, struct mr_config_metric_def *metric) {
    enum mr_status status = mr_load_list(load, key, max, expected);
    uint32_t count = status == MR_OK ? mr_node_items(key->value) : 0;
    MR_ASSERT(count <= MR_BOUNDS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const struct mr_node *item = mr_node_item(key->value, i);
        double *param = &metric->params[i];
        if (!mr_value_number(item->text, param)) {
            return mr_node_error(load->error, item, MR_INVALID, "`%s: %s` is no number; expected %s",
                                 mr_show(key->text).text, mr_show(item->text).text, expected);
        }
        if (i > 0 && *param <= metric->params[i - 1]) {
            return mr_node_error(load->error, item, MR_INVALID,
                                 "`%s: %s` is not above the one before it; expected %s",
                                 mr_show(key->text).text, mr_show(item->text).text, expected);
        }
    }
    metric->param_count = count;
    return status;
}

enum mr_status mr_option_load_quantiles(struct mr_load *load, const struct mr_node *key,
                                        void *holder) {
    struct mr_config_metric_def *metric = holder;
    static const char expected[] = "a list of 1 to 16 ascending numbers, 0 to 1";
    static_assert(MR_QUANTILES_MAX == 16 && MR_QUANTILES_MAX <= MR_BOUNDS_MAX, "said above");
    enum mr_status status = load_params(load, key, MR_QUANTILES_MAX, expected, metric);
    for (uint32_t i = 0; status == MR_OK && i < metric->param_count; i++) {
        const struct mr_node *item = mr_node_item(key->value, i);
        if (metric->params[i] < 0 || metric->params[i] > 1) {
            return mr_node_error(load->error, item, MR_INVALID, "`%s: %s`; expected %s",
                                 mr_show(key->text).text, mr_show(item->text).text, expected);
        }
    }
    return status;
}

enum mr_status mr_option_load_bounds(struct mr_load *load, const struct mr_node *key,
                                     void *holder) {
    static_assert(MR_BOUNDS_MAX == 64, "said below");
    return load_params(load, key, MR_BOUNDS_MAX, "a list of 1 to 64 ascending numbers", holder);
}

/* The names are looked up when all of them are known. */
enum mr_status mr_option_load_ratio(struct mr_load *load, const struct mr_node *key, void *holder) {
    (void)holder;
    static const char expected[] = "two metrics of this rule, as in [clicks, views]";
    enum mr_status status = mr_load_list(load, key, 2, expected);
    if (status == MR_OK && mr_node_items(key->value) != 2) {
        return mr_node_error(load->error, key->value, MR_INVALID, "`ratio`: one metric; expected %s",
                             expected);
    }
    return status;
}

/* Whether it is one of the rule's is checked when these are known. */
enum mr_status mr_option_load_metric_from(struct mr_load *load, const struct mr_node *key,
                                          void *holder) {
    struct mr_config_metric_def *metric = holder;
    enum mr_status status = mr_load_scalar(load, key, key->value, "one of the rule's streams");
    return status != MR_OK ? status : mr_load_stream_name(load, key->value, &metric->from);
}
