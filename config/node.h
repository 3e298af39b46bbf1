/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Node: a YAML file as a tree in which every piece knows where it stood, so that any later
 * complaint can say file:line:column. Built by config/yaml.c, the one user of libyaml.
 *
 * Idea        A configuration is small and read once: linked lists and linear search are enough.
 * Shape       A mapping's children are its keys in file order, each with `value`; a sequence's
 * children are its items.
 *
 *                 a: 1            mapping ── key a ── next ── key b
 *                 b: [x, y]                   │value           │value
 *                                             1             sequence ── x ── next ── y
 *
 * Units       line and column begin at 1; a column counts characters, not bytes.
 * Owner       All nodes and texts live in the arena given to mr_yaml_parse.
 * Errors      MR_INVALID with a text for everything a configuration has no need of: anchors,
 * aliases, tags, several documents, a key twice, more than MR_YAML_DEPTH_MAX levels. MR_LIMIT: too
 * long.
 */
#include "base/arena.h"
#include "base/bytes.h"

#define MR_YAML_BYTES_MAX                                                                          \
    (1u << 20) /* a configuration larger than this is another file, given by mistake */
#define MR_YAML_DEPTH_MAX 16
#define MR_YAML_NODES_MAX 100000u
#define MR_YAML_KEYS_MAX  1024u /* of one mapping; keeps the search for a key given twice small */

enum mr_node_kind { MR_NODE_SCALAR, MR_NODE_MAPPING, MR_NODE_SEQUENCE };

struct mr_node {
    enum mr_node_kind kind;
    uint32_t line;
    uint32_t column;
    uint32_t count;       /* of children */
    bool quoted;          /* a scalar that was not plain */
    const char *file;     /* the name for messages */
    struct mr_bytes text; /* of a scalar, followed by a NUL that len does not count */
    struct mr_node *first;
    struct mr_node *last;
    struct mr_node *next;  /* sibling */
    struct mr_node *value; /* of a key */
};

/* The root of the one document, or an empty mapping for a file with nothing but comments. name must
 * live as long as the tree. Without error: *ret is a mapping. */
enum mr_status mr_yaml_parse(struct mr_bytes yaml, const char *name, struct mr_arena *arena,
                             struct mr_node **ret, struct mr_error *error) MR_MUST_CHECK;

/* The key of that name (its value is key->value), or NULL; also NULL when mapping is none. */
const struct mr_node *mr_node_get(const struct mr_node *mapping, const char *key);
/* Item i of a sequence; a scalar counts as a sequence of itself. NULL behind the end. */
const struct mr_node *mr_node_item(const struct mr_node *node, uint32_t i);
/* How many items mr_node_item has. */
uint32_t mr_node_items(const struct mr_node *node);
/* A value left out, as in `http:`; it stands for an empty mapping. */
bool mr_node_empty(const struct mr_node *node);

/* Sets the error to "file:line:col: text" and returns status. */
enum mr_status mr_node_error(struct mr_error *error, const struct mr_node *at,
                             enum mr_status status, const char *format, ...) MR_PRINTF(4, 5);

/* Text from a file, made fit for a message: control characters escaped, cut with "..." when long.
 */
struct mr_shown {
    char text[72];
};
struct mr_shown mr_show(struct mr_bytes text);
