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
    static_assert(MR_RULE_INPUTS_MAX == 8, "said below");
    enum mr_status status = mr_load_list(load, key, MR_RULE_INPUTS_MAX,
                                         "a stream, or a list of up to 8 such as [clicks, views]");
    for (uint32_t i = 0; status == MR_OK && i < mr_node_items(key->value); i++) {
        const struct mr_node *item = mr_node_item(key->value, i);
        uint32_t stream;
        status = mr_load_stream_name(load, item, &stream);
        if (status == MR_OK && mr_config_rule_has_stream(rule, stream)) {
            status = mr_node_error(load->error, item, MR_INVALID, "`%s` is here twice",
                                   mr_show(item->text).text);
        }
        if (status == MR_OK) {
            rule->streams[rule->stream_count++] = stream;
        }
    }
    return status;
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
