/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include "base/alloc.h"
#include "base/check.h"
#include "config/change.h"
#include "config/interpolate.h"
#include "config/load.h"

enum { ARENA_FIRST = 4096, ARENA_MAX = 1 << 18 };

static const char builtin_name[] = "built-in defaults";

static void graft(struct mr_node *root, const struct mr_node *key) {
    MR_ASSERT(key != NULL && key->value != NULL);
    struct mr_node *copy = (struct mr_node *)key; /* both trees are this load's own */
    copy->next = NULL;
    if (root->last == NULL) {
        root->first = copy;
    } else {
        root->last->next = copy;
    }
    root->last = copy;
    root->count++;
}

/* A file without streams gets the built-in stream; one without streams and rules the built-in rule
 * too. */
static enum mr_status add_builtin(struct mr_node *root, struct mr_arena *arena,
                                  struct mr_error *error) {
    if (mr_node_get(root, "streams") != NULL) {
        return MR_OK;
    }
    struct mr_node *builtin;
    enum mr_status status =
        mr_yaml_parse(mr_config_default_yaml(), builtin_name, arena, &builtin, error);
    if (status != MR_OK) {
        MR_ASSERT(status == MR_NO_MEMORY);
        return status;
    }
    const struct mr_node *streams = mr_node_get(builtin, "streams");
    const struct mr_node *rules = mr_node_get(builtin, "rules");
    bool has_rules = mr_node_get(root, "rules") != NULL;
    graft(root, streams);
    if (!has_rules) {
        graft(root, rules);
    }
    return MR_OK;
}

static enum mr_status fill(struct mr_load *load, struct mr_bytes yaml,
                           const struct mr_parse_options *options, struct mr_arena *scratch) {
    struct mr_node *root;
    enum mr_status status = mr_yaml_parse(yaml, options->name, scratch, &root, load->error);
    if (status == MR_OK) {
        load->root = root;
        status = mr_interpolate(root, options->environment, scratch, load->error);
    }
    if (status == MR_OK) {
        status = add_builtin(root, scratch, load->error);
    }
    if (status == MR_OK) {
        status = mr_load_stream_names(load);
    }
    if (status == MR_OK) {
        status = mr_load_store_names(load);
    }
    if (status == MR_OK) {
        status = mr_load_sink_names(load);
    }
    if (status == MR_OK) {
        status = mr_load_copy(load, mr_bytes_text(options->name), &load->config->source);
    }
    if (status == MR_OK) {
        struct mr_node key = {.file = root->file, .line = 1, .column = 1, .value = root};
        key.text = MR_BYTES("");
        status = mr_load_scope(load, MR_SCOPE_ROOT, &key, load->config);
    }
    if (status == MR_OK) {
        load->config->http.tls = load->config->http.tls_cert_file.len > 0;
        status = mr_config_check(load);
    }
    return status;
}

/* An empty configuration in an arena of its own. */
static struct mr_config *new_config(void) {
    struct mr_arena *arena = mr_alloc(sizeof *arena);
    if (arena == NULL) {
        return NULL;
    }
    mr_arena_init(arena, ARENA_FIRST, ARENA_MAX);
    struct mr_config *config = mr_arena_alloc(arena, sizeof *config);
    if (config == NULL) {
        mr_free(arena);
        return NULL;
    }
    *config = (struct mr_config){.arena = arena};
    return config;
}

enum mr_status mr_config_parse_with(struct mr_bytes yaml, const struct mr_parse_options *options,
                                    struct mr_config **ret, struct mr_error *error) {
    MR_ASSERT(options->name != NULL && ret != NULL);
    struct mr_config *config = new_config();
    if (config == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s: out of memory", options->name);
    }
    struct mr_arena scratch;
    mr_arena_init(&scratch, ARENA_FIRST, ARENA_MAX);
    struct mr_load load = {.config = config,
                           .arena = config->arena,
                           .disk = options->disk,
                           .state = options->state,
                           .error = error};
    enum mr_status status = fill(&load, yaml, options, &scratch);
    mr_arena_finish(&scratch);
    if (status != MR_OK) {
        mr_config_close(config);
        return status;
    }
    *ret = config;
    return MR_OK;
}

enum mr_status mr_config_parse(struct mr_bytes yaml, const char *name, char *const *environment,
                               struct mr_config **ret, struct mr_error *error) {
    struct mr_parse_options options = {
        .name = name, .environment = environment, .disk = mr_disk_system()};
    return mr_config_parse_with(yaml, &options, ret, error);
}

enum mr_status mr_config_parse_state(struct mr_bytes text, const char *name, struct mr_config **ret,
                                     struct mr_error *error) {
    struct mr_parse_options options = {.name = name, .state = true};
    return mr_config_parse_with(text, &options, ret, error);
}

enum mr_status mr_config_load(const char *path, char *const *environment, struct mr_config **ret,
                              struct mr_error *error) {
    if (path == NULL) {
        return mr_config_parse(mr_config_default_yaml(), builtin_name, environment, ret, error);
    }
    struct mr_buf text;
    mr_buf_init(&text, MR_YAML_BYTES_MAX);
    enum mr_status status = mr_disk_read_all(mr_disk_system(), path, &text);
    if (status == MR_OK) {
        status = mr_config_parse(mr_buf_bytes(&text), path, environment, ret, error);
    } else if (status == MR_LIMIT) {
        status =
            mr_error_set(error, status, "%s: longer than 1 MiB; this is no configuration", path);
    } else {
        status =
            mr_error_set(error, status, "%s: cannot be read: %s", path, mr_status_text(status));
    }
    mr_buf_finish(&text);
    return status;
}

void mr_config_close(struct mr_config *config) {
    if (config == NULL) {
        return;
    }
    struct mr_arena *arena = config->arena; /* config itself lies in it */
    MR_ASSERT(arena != NULL);
    mr_arena_finish(arena);
    mr_free(arena);
}

bool mr_config_keeps_ids(const struct mr_config_stream *stream) {
    bool elsewhere = stream->dedup.mode == MR_CONFIG_REDIS &&
                     stream->dedup.outage != MR_CONFIG_OUTAGE_LOCAL;
    return stream->dedup.mode != MR_CONFIG_NONE && !elsewhere;
}

uint32_t mr_config_stream_index(const struct mr_config *config, struct mr_bytes name) {
    for (uint32_t i = 0; i < config->stream_count; i++) {
        if (mr_bytes_equal(config->streams[i].name, name)) {
            return i;
        }
    }
    return UINT32_MAX;
}

uint32_t mr_config_rule_index(const struct mr_config *config, struct mr_bytes name) {
    for (uint32_t i = 0; i < config->rule_count; i++) {
        if (mr_bytes_equal(config->rules[i].name, name)) {
            return i;
        }
    }
    return UINT32_MAX;
}

uint32_t mr_config_store_index(const struct mr_config *config, struct mr_bytes name) {
    for (uint32_t i = 0; i < config->store_count; i++) {
        if (mr_bytes_equal(config->stores[i].name, name)) {
            return i;
        }
    }
    return UINT32_MAX;
}

int64_t mr_config_rule_slice_ms(const struct mr_config_rule *rule) {
    int64_t a = rule->window.size_ms;
    int64_t b = rule->window.every_ms;
    while (b != 0) { /* Euclid */
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int64_t windows_whole = MR_EVENT_WINDOWS_WHOLE;

void mr_config_slice_above(int64_t windows) {
    windows_whole = windows;
}

bool mr_config_rule_sliced(const struct mr_config_rule *rule) {
    return rule->window.kind == MR_CONFIG_SLIDING &&
           (rule->window.size_ms - 1) / rule->window.every_ms >= windows_whole;
}

bool mr_config_rule_has_stream(const struct mr_config_rule *rule, uint32_t stream) {
    for (uint32_t i = 0; i < rule->stream_count; i++) {
        if (rule->streams[i] == stream) {
            return true;
        }
    }
    return false;
}

bool mr_config_metric_has_stream(const struct mr_config_metric_def *metric, uint32_t stream) {
    return metric->from == UINT32_MAX || metric->from == stream;
}

uint32_t mr_config_derived_index(const struct mr_config_stream *stream, struct mr_bytes name) {
    for (uint32_t i = 0; i < stream->derived_count; i++) {
        if (mr_bytes_equal(stream->derived[i].name, name)) {
            return i;
        }
    }
    return UINT32_MAX;
}
