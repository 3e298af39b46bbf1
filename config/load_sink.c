/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sinks, and which rules' results go to which: loading, checking and printing them.
 */
#include "base/check.h"
#include "config/load.h"
#include "config/print.h"

enum { PREFIX_MAX = 16 + MR_NAME_MAX };

enum mr_status mr_load_sink_names(struct mr_load *load) {
    const struct mr_node *key = mr_node_get(load->root, "sinks");
    enum mr_status status =
        key == NULL ? MR_OK : mr_load_names(load, key, MR_SINKS_MAX, &load->sinks);
    if (status != MR_OK || load->sinks == NULL || load->sinks->count == 0) {
        return status;
    }
    struct mr_config *config = load->config;
    config->sinks = mr_load_array(load, load->sinks->count, sizeof *config->sinks);
    if (config->sinks == NULL) {
        return mr_load_no_memory(load);
    }
    for (const struct mr_node *n = load->sinks->first; n != NULL; n = n->next) {
        status = mr_load_copy(load, n->text, &config->sinks[config->sink_count].name);
        if (status != MR_OK) {
            return status;
        }
        config->sink_count++;
    }
    return MR_OK;
}

enum mr_status mr_option_load_sinks(struct mr_load *load, const struct mr_node *key, void *holder) {
    struct mr_config *config = holder;
    MR_ASSERT(load->sinks == NULL || key->value == load->sinks);
    const struct mr_node *n = load->sinks == NULL ? NULL : load->sinks->first;
    for (uint32_t i = 0; n != NULL; n = n->next, i++) {
        enum mr_status status = mr_load_scope(load, MR_SCOPE_SINK, n, &config->sinks[i]);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

enum mr_status mr_option_load_sink_store(struct mr_load *load, const struct mr_node *key,
                                         void *holder) {
    struct mr_config_sink *sink = holder;
    const struct mr_config *c = load->config;
    struct mr_named stores = {c->stores, sizeof *c->stores, c->store_count};
    enum mr_status status = mr_load_scalar(load, key, key->value, "the name of a store");
    return status != MR_OK ? status
                           : mr_load_named(load, key->value, "store", &stores, &sink->store);
}

enum mr_status mr_option_load_rule_sinks(struct mr_load *load, const struct mr_node *key,
                                         void *holder) {
    struct mr_config_rule *rule = holder;
    const struct mr_config *c = load->config;
    if (key->value->kind == MR_NODE_SEQUENCE && key->value->count == 0) {
        return MR_OK;
    }
    struct mr_named sinks = {c->sinks, sizeof *c->sinks, c->sink_count};
    enum mr_status status =
        mr_load_list(load, key, MR_SINKS_MAX, "a sink, or a list of up to 8 such as [live]");
    for (uint32_t i = 0; status == MR_OK && i < mr_node_items(key->value); i++) {
        const struct mr_node *item = mr_node_item(key->value, i);
        uint32_t sink;
        status = mr_load_named(load, item, "sink", &sinks, &sink);
        if (status == MR_OK && mr_config_rule_has_sink(rule, sink)) {
            status = mr_node_error(load->error, item, MR_INVALID, "`%s` is here twice",
                                   mr_show(item->text).text);
        }
        if (status == MR_OK) {
            rule->sinks[rule->sink_count++] = sink;
        }
    }
    return status;
}

static enum mr_status default_prefix(const struct mr_load *load, struct mr_bytes *ret) {
    struct mr_buf text;
    mr_buf_init(&text, PREFIX_MAX);
    mr_buf_append_text(&text, "millrace:");
    mr_buf_append_bytes(&text, load->config->node.id);
    mr_buf_append_char(&text, ':');
    struct mr_bytes copy =
        text.failed ? mr_bytes_of(NULL, 0) : mr_arena_copy(load->arena, mr_buf_bytes(&text));
    mr_buf_finish(&text);
    if (copy.ptr == NULL) {
        return mr_load_no_memory(load);
    }
    *ret = copy;
    return MR_OK;
}

enum mr_status mr_config_check_sinks(const struct mr_load *load) {
    const struct mr_config *c = load->config;
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; i < c->sink_count && status == MR_OK; i++) {
        if (c->sinks[i].prefix.len == 0) {
            status = default_prefix(load, &c->sinks[i].prefix);
        }
    }
    return status;
}

bool mr_config_rule_has_sink(const struct mr_config_rule *rule, uint32_t sink) {
    for (uint32_t i = 0; i < rule->sink_count; i++) {
        if (rule->sinks[i] == sink) {
            return true;
        }
    }
    return false;
}

void mr_option_print_sinks(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config *c = holder;
    if (c->sink_count == 0) {
        return;
    }
    mr_print_begin(p, o->key);
    mr_buf_append_char(p->out, '\n');
    p->depth++;
    for (uint32_t i = 0; i < c->sink_count; i++) {
        mr_print_named(p, MR_SCOPE_SINK, c->sinks[i].name, &c->sinks[i]);
    }
    p->depth--;
}

void mr_option_print_sink_store(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_sink *sink = holder;
    MR_ASSERT(sink->store < p->config->store_count);
    mr_print_begin(p, o->key);
    mr_buf_append_char(p->out, ' ');
    mr_print_text(p, p->config->stores[sink->store].name);
    mr_buf_append_char(p->out, '\n');
}

void mr_option_print_rule_sinks(struct mr_print *p, const struct mr_option *o, const void *holder) {
    const struct mr_config_rule *rule = holder;
    struct mr_bytes names[MR_SINKS_MAX];
    for (uint32_t i = 0; i < rule->sink_count; i++) {
        MR_ASSERT(rule->sinks[i] < p->config->sink_count);
        names[i] = p->config->sinks[rule->sinks[i]].name;
    }
    if (rule->sink_count > 0) {
        mr_print_list(p, o->key, names, rule->sink_count);
    }
}
