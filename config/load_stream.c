/* SPDX-License-Identifier: Apache-2.0 */
#include "config/load.h"

#include "base/check.h"

enum mr_status mr_load_stream_names(struct mr_load *load) {
    const struct mr_node *key = mr_node_get(load->root, "streams");
    MR_ASSERT(key != NULL); /* the built-in ones stand in */
    enum mr_status status = mr_load_names(load, key, MR_STREAMS_MAX, &load->streams);
    if (status != MR_OK) {
        return status;
    }
    if (load->streams == NULL || load->streams->count == 0) {
        return mr_node_error(load->error, key, MR_INVALID,
                             "`streams` is empty; expected at least one");
    }
    struct mr_config *config = load->config;
    config->streams = mr_load_array(load, load->streams->count, sizeof *config->streams);
    if (config->streams == NULL) {
        return mr_load_no_memory(load);
    }
    for (const struct mr_node *n = load->streams->first; n != NULL; n = n->next) {
        status = mr_load_copy(load, n->text, &config->streams[config->stream_count].name);
        if (status != MR_OK) {
            return status;
        }
        config->stream_count++;
    }
    return MR_OK;
}

enum mr_status mr_load_stream_name(struct mr_load *load, const struct mr_node *value,
                                   uint32_t *ret) {
    const struct mr_config *c = load->config;
    struct mr_named streams = {c->streams, sizeof *c->streams, c->stream_count};
    return mr_load_named(load, value, "stream", &streams, ret);
}

enum mr_status mr_option_load_streams(struct mr_load *load, const struct mr_node *key,
                                      void *holder) {
    struct mr_config *config = holder;
    MR_ASSERT(key->value == load->streams && config->stream_count == load->streams->count);
    uint32_t i = 0;
    for (const struct mr_node *n = load->streams->first; n != NULL; n = n->next) {
        enum mr_status status = mr_load_scope(load, MR_SCOPE_STREAM, n, &config->streams[i]);
        if (status != MR_OK) {
            return status;
        }
        i++;
    }
    return MR_OK;
}

enum mr_status mr_option_load_id(struct mr_load *load, const struct mr_node *key, void *holder) {
    struct mr_config_stream *stream = holder;
    enum mr_status status = mr_load_list(load, key, MR_ID_PARTS_MAX,
                                         "a field, or a list of 1 to 4 such as [source, id]");
    for (uint32_t i = 0; status == MR_OK && i < mr_node_items(key->value); i++) {
        status = mr_load_path(load, mr_node_item(key->value, i), &stream->id[i]);
        stream->id_parts = i + 1;
    }
    return status;
}

enum mr_status mr_option_load_time(struct mr_load *load, const struct mr_node *key, void *holder) {
    struct mr_config_stream *stream = holder;
    if (key->value->kind == MR_NODE_MAPPING) {
        return mr_load_scope(load, MR_SCOPE_TIME, key, holder);
    }
    enum mr_status status = mr_load_scope(load, MR_SCOPE_TIME, NULL, holder);
    if (status == MR_OK) {
        status = mr_load_scalar(load, key, key->value, "a field, or { field: NAME, format: ms }");
    }
    return status != MR_OK ? status : mr_load_path(load, key->value, &stream->time_field);
}

enum mr_status mr_option_load_derive(struct mr_load *load, const struct mr_node *key,
                                     void *holder) {
    struct mr_config_stream *stream = holder;
    const struct mr_node *derive = key->value;
    if (mr_node_empty(derive)) {
        return MR_OK;
    }
    if (derive->kind != MR_NODE_MAPPING || derive->count > MR_DERIVED_MAX) {
        static_assert(MR_DERIVED_MAX == 32, "said below");
        return mr_node_error(load->error, derive, MR_INVALID,
                             "`derive`: expected a mapping NAME: expression, up to 32");
    }
    stream->derived = mr_load_array(load, derive->count + 1, sizeof *stream->derived);
    if (stream->derived == NULL) {
        return mr_load_no_memory(load);
    }
    for (const struct mr_node *n = derive->first; n != NULL; n = n->next) {
        struct mr_config_derived *derived = &stream->derived[stream->derived_count];
        if (!mr_value_identifier(n->text)) {
            return mr_node_error(load->error, n, MR_INVALID,
                                 "`%s` is no name of a derived field; expected letters, digits and _, "
                                 "not beginning with a digit, at most 64",
                                 mr_show(n->text).text);
        }
        enum mr_status status = mr_load_copy(load, n->text, &derived->name);
        if (status == MR_OK) {
            status = mr_load_expr(load, n, n->value, &derived->expr);
        }
        if (status != MR_OK) {
            return status;
        }
        stream->derived_count++;
    }
    return MR_OK;
}
