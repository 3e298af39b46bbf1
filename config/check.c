/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Check: what no option can say alone, because it takes two of them.
 */
#include "config/load.h"

#include "base/check.h"
#include "config/change.h"

enum {
    STATE_MAX = 64 << 20
}; /* values of 4 MiB from the environment and 1 MiB of a file, each with its escapes */

/* The deepest node of section.key that the file has, to point at. */
static const struct mr_node *at(const struct mr_load *load, const char *section, const char *key) {
    const struct mr_node *outer = mr_node_get(load->root, section);
    if (outer == NULL) {
        return load->root;
    }
    const struct mr_node *inner = mr_node_get(outer->value, key);
    return inner == NULL ? outer : inner->value;
}

/* The one of two settings that was written, preferring the first. */
static const struct mr_node *at_either(const struct mr_load *load, const char *section_1,
                                       const char *key_1, const char *section_2,
                                       const char *key_2) {
    const struct mr_node *outer = mr_node_get(load->root, section_1);
    bool written = outer != NULL && mr_node_get(outer->value, key_1) != NULL;
    return written ? at(load, section_1, key_1) : at(load, section_2, key_2);
}

struct sizes_text {
    char a[32];
    char b[32];
};

static struct sizes_text show_sizes(uint64_t a, uint64_t b) {
    struct sizes_text text = {"", ""};
    struct mr_buf buf;
    mr_buf_init(&buf, sizeof text.a - 1);
    mr_value_show_bytes(a, &buf);
    memcpy(text.a, buf.ptr == NULL ? (const void *)"" : buf.ptr, buf.len);
    mr_buf_clear(&buf);
    mr_value_show_bytes(b, &buf);
    memcpy(text.b, buf.ptr == NULL ? (const void *)"" : buf.ptr, buf.len);
    mr_buf_finish(&buf);
    return text;
}

static enum mr_status check_http(const struct mr_load *load) {
    const struct mr_config *c = load->config;
    if (c->http.connections_per_address > c->http.connections) {
        return mr_node_error(
            load->error, at_either(load, "http", "connections_per_address", "http", "connections"),
            MR_INVALID, "`connections_per_address` %u is over `connections` %u",
            c->http.connections_per_address, c->http.connections);
    }
    if (c->http.allow_insecure || mr_value_loopback(c->http.host)) {
        return MR_OK;
    }
    const char *lacks = c->auth.token_count == 0 ? "`auth.tokens`"
                        : c->http.tls            ? NULL
                                                 : "`http.tls`";
    return lacks == NULL
               ? MR_OK
               : mr_node_error(load->error, at(load, "http", "listen"), MR_INVALID,
                               "`listen: %s` reaches beyond this machine without %s; set it, or "
                               "http.allow_insecure: true",
                               mr_show(c->http.host).text, lacks);
}

static enum mr_status check_limits(const struct mr_load *load) {
    const struct mr_config *c = load->config;
    const uint64_t body = c->limits.body_bytes;
    const uint64_t inflated = c->limits.inflated_bytes;
    if (body > inflated) {
        struct sizes_text show = show_sizes(body, inflated);
        return mr_node_error(load->error, at_either(load, "limits", "inflated", "limits", "body"),
                             MR_INVALID, "`body` %s is over `inflated` %s; expected at most that",
                             show.a, show.b);
    }
    if (c->limits.in_flight_bytes < body + inflated) {
        struct sizes_text show = show_sizes(c->limits.in_flight_bytes, body + inflated);
        return mr_node_error(
            load->error, at_either(load, "limits", "in_flight", "limits", "inflated"), MR_INVALID,
            "`in_flight` %s has no room for one largest request; expected at least "
            "`body` + `inflated`, %s",
            show.a, show.b);
    }
    if (c->limits.memory_bytes < c->limits.in_flight_bytes) {
        struct sizes_text show = show_sizes(c->limits.memory_bytes, c->limits.in_flight_bytes);
        return mr_node_error(load->error,
                             at_either(load, "limits", "memory", "limits", "in_flight"), MR_INVALID,
                             "`memory` %s is less than `in_flight` %s", show.a, show.b);
    }
    if (c->log.segment_bytes < inflated + MR_MIB) {
        struct sizes_text show = show_sizes(c->log.segment_bytes, inflated + MR_MIB);
        return mr_node_error(
            load->error, at_either(load, "log", "segment", "limits", "inflated"), MR_INVALID,
            "`log.segment` %s has no room for one largest record; expected at least "
            "`limits.inflated` + 1MiB, %s",
            show.a, show.b);
    }
    return MR_OK;
}

/* One segment is being written, and only whole ones can go. */
static enum mr_status check_log(const struct mr_load *load) {
    const struct mr_config *c = load->config;
    if (c->log.retain_bytes / 2 >= c->log.segment_bytes) {
        return MR_OK;
    }
    struct sizes_text show = show_sizes(c->log.retain_bytes, 2 * c->log.segment_bytes);
    return mr_node_error(load->error, at_either(load, "log", "retain_bytes", "log", "segment"),
                         MR_INVALID,
                         "`log.retain_bytes` %s has no room for two segments; expected at least "
                         "2 x `log.segment`, %s, or off",
                         show.a, show.b);
}

static enum mr_status check_dedup(const struct mr_load *load, const struct mr_config_stream *stream,
                                  const struct mr_node *key) {
    const struct mr_node *dedup = mr_node_get(key->value, "dedup");
    const struct mr_node *n =
        dedup == NULL || mr_node_empty(dedup->value) ? NULL : dedup->value->first;
    for (; n != NULL; n = n->next) {
        const struct mr_option *option = mr_option_find(MR_SCOPE_DEDUP, n->text);
        MR_ASSERT(option != NULL);
        const char *only;
        if (!mr_option_applies(option, stream, &only)) {
            return mr_node_error(load->error, n, MR_INVALID, "`%s`: %s", option->key, only);
        }
    }
    if (stream->dedup.mode == MR_CONFIG_REDIS && mr_node_get(dedup->value, "store") == NULL) {
        return mr_node_error(load->error, dedup, MR_INVALID,
                             "`dedup` lacks `store`; expected one of those under `stores`");
    }
    if (stream->id_parts == 0 && stream->dedup.mode != MR_CONFIG_NONE) {
        return mr_node_error(
            load->error, key, MR_INVALID,
            "`%s` lacks `id`; expected the field that names an event, or dedup: { mode: "
            "none }",
            mr_show(key->text).text);
    }
    return MR_OK;
}

/* Two tokens with one secret would make it a matter of order what the secret may do. */
static enum mr_status check_tokens(const struct mr_load *load) {
    const struct mr_config *c = load->config;
    const struct mr_node *key = load->tokens == NULL ? NULL : load->tokens->first;
    for (uint32_t i = 0; i < c->auth.token_count; i++, key = key->next) {
        const struct mr_config_token *token = &c->auth.tokens[i];
        bool direct = mr_node_get(key->value, "sha256") != NULL;
        bool file = mr_node_get(key->value, "sha256_file") != NULL;
        if (direct == file) {
            return mr_node_error(load->error, key, MR_INVALID,
                                 "`%s` has %s; expected one of `sha256` and `sha256_file`",
                                 mr_show(token->name).text, direct ? "both" : "neither");
        }
        for (uint32_t j = 0; j < i; j++) {
            if (memcmp(c->auth.tokens[j].sha256, token->sha256, sizeof token->sha256) == 0) {
                return mr_node_error(load->error, key, MR_INVALID,
                                     "`%s` is the same secret as `%s`; expected one each",
                                     mr_show(token->name).text,
                                     mr_show(c->auth.tokens[j].name).text);
            }
        }
    }
    return MR_OK;
}

/* Log and checkpoints carry streams and rules as text, which a start must be able to read. */
static enum mr_status check_state(const struct mr_load *load) {
    struct mr_buf text;
    mr_buf_init(&text, STATE_MAX);
    mr_config_print_state(load->config, &text);
    enum mr_status status = MR_OK;
    if (text.failed) {
        status = mr_load_no_memory(load);
    } else if (text.len > MR_YAML_BYTES_MAX) {
        status = mr_node_error(load->error, load->streams->first, MR_LIMIT,
                               "streams and rules of more than 1 MiB, with every default written "
                               "out; expected fewer, or shorter names of fields");
    }
    mr_buf_finish(&text);
    return status;
}

enum mr_status mr_config_check(const struct mr_load *load) {
    const struct mr_config *c = load->config;
    MR_ASSERT(c->stream_count == load->streams->count);
    enum mr_status status = check_http(load);
    if (status == MR_OK) {
        status = check_limits(load);
    }
    if (status == MR_OK) {
        status = check_log(load);
    }
    if (status == MR_OK) {
        status = check_tokens(load);
    }
    const struct mr_node *key = load->streams->first;
    for (uint32_t i = 0; i < c->stream_count && status == MR_OK; i++, key = key->next) {
        status = check_dedup(load, &c->streams[i], key);
    }
    if (status == MR_OK) {
        status = mr_config_check_stores(load);
    }
    if (status == MR_OK) {
        status = mr_config_check_sinks(load);
    }
    if (status == MR_OK) {
        status = mr_config_check_rules(load);
    }
    if (status == MR_OK) {
        status = mr_config_check_fields(load);
    }
    return status != MR_OK ? status : check_state(load);
}
