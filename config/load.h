/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Load: from a tree to a mr_config, driven by the option table. Private to config/ and its tests.
 *
 * Idea        One function reads every scope: it sets the defaults, then walks the file's keys in order and lets each
 *             row of the table set its field. What a row cannot say is done by a function that the row names.
 * Owner       Nodes live in a scratch arena that ends with the load; texts that stay are copied.
 * Errors      The first one found stands in load->error; what was filled so far is thrown away.
 */
#include "base/file.h"
#include "config/node.h"
#include "config/options.h"

struct mr_load {
    struct mr_config *config;
    struct mr_arena *arena; /* the configuration's own */
    struct mr_disk *disk;   /* for *_file; NULL: they are refused */
    struct mr_error *error;
    const struct mr_node *root;
    bool state;             /* of mr_config_print_state: secrets and addresses are not there */
    /* The mappings whose child i is stores[i], sinks[i], streams[i], rules[i], tokens[i] of the configuration;
     * NULL: none. */
    const struct mr_node *stores;
    const struct mr_node *sinks;
    const struct mr_node *streams;
    const struct mr_node *rules;
    const struct mr_node *tokens;
};

struct mr_parse_options {
    const char *name; /* stands in messages */
    char *const *environment;
    struct mr_disk *disk; /* NULL: a *_file is an error; for fuzzing */
    bool state;           /* mr_config_parse_state */
};

/* mr_config_parse with the outside world passed in. */
enum mr_status mr_config_parse_with(struct mr_bytes yaml, const struct mr_parse_options *options,
                                    struct mr_config **ret, struct mr_error *error) MR_MUST_CHECK;

/* The file config/examples/default.yaml. */
struct mr_bytes mr_config_default_yaml(void);

/* Fills what the scope says about holder. key->value is the mapping; key NULL: the defaults only.
 */
enum mr_status mr_load_scope(struct mr_load *load, enum mr_scope scope, const struct mr_node *key,
                             void *holder) MR_MUST_CHECK;
/* Sets the field of one row from a scalar. */
enum mr_status mr_load_value(struct mr_load *load, const struct mr_option *option,
                             const struct mr_node *value, void *holder) MR_MUST_CHECK;

/* key's value must be a mapping of at most max valid names; *ret is NULL when it is left out. */
enum mr_status mr_load_names(struct mr_load *load, const struct mr_node *key, uint32_t max,
                             const struct mr_node **ret) MR_MUST_CHECK;
/* key's value must be a scalar, or a list of 1 to max scalars. */
enum mr_status mr_load_list(struct mr_load *load, const struct mr_node *key, uint32_t max,
                            const char *expected) MR_MUST_CHECK;
/* value must be a scalar that is not empty. */
enum mr_status mr_load_scalar(struct mr_load *load, const struct mr_node *key,
                              const struct mr_node *value, const char *expected) MR_MUST_CHECK;
/* value must be a field path; copied to *ret. */
enum mr_status mr_load_path(struct mr_load *load, const struct mr_node *value,
                            struct mr_bytes *ret) MR_MUST_CHECK;
/* value must be an expression; of it only the length is checked. key->text stands in messages. */
enum mr_status mr_load_expr(struct mr_load *load, const struct mr_node *key,
                            const struct mr_node *value, struct mr_config_expr *ret) MR_MUST_CHECK;
/* Says that key's mapping lacks the option. */
enum mr_status mr_load_missing(const struct mr_load *load, const struct mr_option *option,
                               const struct mr_node *key) MR_MUST_CHECK;
/* The index of the stream that value names. */
enum mr_status mr_load_stream_name(struct mr_load *load, const struct mr_node *value,
                                   uint32_t *ret) MR_MUST_CHECK;

/* Of items, structs that begin with their name, the index of the one that value names. what: "stream". */
enum mr_status mr_load_named(struct mr_load *load, const struct mr_node *value, const char *what,
                             const struct mr_named *items, uint32_t *ret) MR_MUST_CHECK;

enum mr_status mr_load_copy(struct mr_load *load, struct mr_bytes text,
                            struct mr_bytes *ret) MR_MUST_CHECK;
/* "; did you mean `name`?", or nothing for NULL: the end of a message. */
struct mr_near {
    char text[96];
};
struct mr_near mr_load_near(const char *name);

enum mr_status mr_load_no_memory(const struct mr_load *load) MR_MUST_CHECK;
/* Zeroed; NULL when out of memory. */
void *mr_load_array(struct mr_load *load, size_t count, size_t size);

/* Makes room for the streams, stores or sinks and sets their names, before anything refers to them. */
enum mr_status mr_load_stream_names(struct mr_load *load) MR_MUST_CHECK;
enum mr_status mr_load_store_names(struct mr_load *load) MR_MUST_CHECK;
enum mr_status mr_load_sink_names(struct mr_load *load) MR_MUST_CHECK;

/* What no single option can say: config/check.c. */
enum mr_status mr_config_check(const struct mr_load *load) MR_MUST_CHECK;
/* Stores, the cluster, and the streams whose ids are claimed there: config/check_store.c. */
enum mr_status mr_config_check_stores(const struct mr_load *load) MR_MUST_CHECK;
/* Sinks: config/load_sink.c. Gives those without a prefix theirs. */
enum mr_status mr_config_check_sinks(const struct mr_load *load) MR_MUST_CHECK;
/* Windows, triggers and metrics of rules: config/check_rule.c. */
enum mr_status mr_config_check_rules(const struct mr_load *load) MR_MUST_CHECK;
/* The paths that a stream's rules use go together, and the names of a rule's columns:
 * check_fields.c. */
enum mr_status mr_config_check_fields(const struct mr_load *load) MR_MUST_CHECK;
