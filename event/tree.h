/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Tree: the compiled form of a schema, inside event/ only.
 *
 * Idea        The decoder only ever asks: is the member `name` of the object at node n wanted? One
 * hash table answers for all nodes; a node knows its parent, so the walk needs no stack. Shape
 * nodes[0] is the event's top object. A node is inner (it has children) or a leaf (it has uses),
 * never both. The uses of a leaf lie together, in the order of enum mr_use_kind.
 *
 *                 id, data.price (NUMBER, KEY)      [0] top ── [1] "id"   uses: ID 0
 *                                                         └── [2] "data" ── [3] "price" uses: KEY
 * 1, NUMBER 0
 *
 * Invariants  uses[] has at least one entry, so that a step may look at the first of any node.
 *             I1 parent < node.   I2 names of nodes have MR_PADDING readable bytes behind them.
 */
#include "base/arena.h"
#include "base/limits.h"
#include "event/schema.h"

#define MR_PATH_LEN_MAX 255
#define MR_ATTRIBUTES   4 /* of a CloudEvent: specversion, id, source, type */
#define MR_NODES_MAX    (1 + (MR_FIELDS_MAX + MR_ID_PARTS_MAX + 1) * MR_PATH_DEPTH_MAX + MR_ATTRIBUTES)

/* In the order in which they see a value: the first complaint is the one that is reported. */
enum mr_use_kind { MR_USE_ATTRIBUTE, MR_USE_ID, MR_USE_TIME, MR_USE_KEY, MR_USE_NUMBER, MR_USE_ANY };

enum mr_attribute { MR_CE_SPECVERSION, MR_CE_ID, MR_CE_SOURCE, MR_CE_TYPE };

/* How the predicted walk takes a value. From LEAF on: leaves; behind it those with a single use of
 * the common kinds. */
enum mr_step_kind {
    MR_STEP_SKIP,
    MR_STEP_INNER, /* an inner node, but the value was not an object */
    MR_STEP_END,   /* the end of the event */
    MR_STEP_LEAF,
    MR_STEP_ID,
    MR_STEP_KEY,
    MR_STEP_NUMBER,
    MR_STEP_ANY,
    MR_STEP_TIME_MS,
    MR_STEP_TIME_S,
};

struct mr_use {
    uint8_t kind;  /* enum mr_use_kind */
    uint8_t index; /* attribute, part of the id, or column */
};

struct mr_node {
    const uint8_t *name;
    uint16_t name_len;
    uint16_t parent;
    uint16_t use_first;
    uint16_t use_count;
    uint8_t depth; /* containers open around the value of this node; 0 for the top */
    uint8_t step;  /* enum mr_step_kind */
    bool inner;
};

struct mr_expr;

struct mr_schema {
    struct mr_schema_options options; /* pointers into arena, but for the lookup tables */
    struct mr_arena arena;
    struct mr_node *nodes;
    uint32_t node_count;
    struct mr_use *uses;
    uint32_t use_count;
    uint16_t *table; /* node by (parent, name); 0: empty, for the top is nobody's child */
    uint32_t table_mask;
    uint64_t number; /* unique in this process: what a decoder remembers of a schema, it remembers under it */
    uint16_t id_node[MR_ID_PARTS_MAX];
    uint16_t time_node; /* 0: no time field */
    uint16_t attribute_node[MR_ATTRIBUTES];

    uint32_t columns; /* fields, expressions, hidden */
    struct mr_field *hidden; /* column field_count + expr_count + i */
    uint32_t hidden_count;
    struct mr_expr **derived;
    struct mr_expr **exprs;
    uint64_t derived_used; /* bit i: some expression needs derived field i */
};

/* Names read as words: 16 bytes from the name's start are readable (padding), those behind it
 * ignored. */
static inline uint64_t mr_tree_hash(uint32_t parent, const uint8_t *name, size_t len) {
    uint64_t head = 0;
    uint64_t tail = 0;
    memcpy(&head, name, 8);
    if (len < 8) {
        uint8_t cut[8] = {0};
        memcpy(cut, name, len);
        memcpy(&head, cut, 8);
    } else {
        memcpy(&tail, name + len - 8, 8);
    }
    uint64_t mixed =
        (head ^ (tail << 23 | tail >> 41)) + (parent + 1) * UINT64_C(0x9E3779B97F4A7C15);
    return ((mixed + len) * UINT64_C(0xD6E8FEB86659FD93)) >> 32;
}

/* The wanted child of a node by name, or 0. The name has MR_PADDING readable bytes behind it. */
static inline uint32_t mr_tree_find(const struct mr_schema *schema, uint32_t parent,
                                    const uint8_t *name, size_t len) {
    uint32_t slot = (uint32_t)mr_tree_hash(parent, name, len) & schema->table_mask;
    for (uint32_t n = schema->table[slot]; n != 0; n = schema->table[slot]) {
        const struct mr_node *node = &schema->nodes[n];
        if (node->parent == parent && node->name_len == len && memcmp(node->name, name, len) == 0) {
            return n;
        }
        slot = (slot + 1) & schema->table_mask;
    }
    return 0;
}

/* Whether the path can be a field's; MR_INVALID and a text. */
enum mr_status mr_tree_check_path(struct mr_bytes path, struct mr_error *error);
/* Replaces the text by a copy in the schema's arena, with MR_PADDING zeros behind it. */
enum mr_status mr_tree_copy_text(struct mr_schema *schema, struct mr_bytes *text);

/* The JSON pointer of a node, cut with an ellipsis at cap; "" for the top. NUL-terminated. */
void mr_tree_pointer(const struct mr_schema *schema, uint32_t node, char *ret, size_t cap);
