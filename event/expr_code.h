/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Expr code: an expression between its text and its evaluation, inside event/ only.
 *
 * Idea        The postfix list is the syntax tree: a node's operands are the subtrees right before it,
 *             so the last operand ends at the node before, and sizes lead to the others.
 *
 *                 a + b * 2        a │ b │ 2 │ * │ +
 *                                  1   1   1   3   5   size
 * Invariants  I1 nodes[i].size is 1 and the sizes of its operands.
 *             I2 A node whose operands are all constant is constant, but for fields and derived fields.
 */
#include "base/arena.h"
#include "event/expr.h"

#include <locale.h>

enum mr_expr_op {
    MR_OP_CONSTANT,
    MR_OP_COLUMN,
    MR_OP_DERIVED,
    /* One operand. */
    MR_OP_NOT,
    MR_OP_MINUS,
    MR_OP_IS_NULL,
    MR_OP_IS_NOT_NULL,
    MR_OP_IS_MISSING,
    MR_OP_ABS,
    MR_OP_FLOOR,
    MR_OP_CEIL,
    MR_OP_ROUND,
    MR_OP_LOWER,
    MR_OP_UPPER,
    MR_OP_LENGTH,
    MR_OP_TO_NUMBER,
    MR_OP_TO_TEXT,
    MR_OP_LOOKUP,
    MR_OP_IN,
    MR_OP_NOT_IN,
    /* Two. */
    MR_OP_AND,
    MR_OP_OR,
    MR_OP_EQUAL,
    MR_OP_UNEQUAL,
    MR_OP_LESS,
    MR_OP_LESS_EQUAL,
    MR_OP_GREATER,
    MR_OP_GREATER_EQUAL,
    MR_OP_ADD,
    MR_OP_SUBTRACT,
    MR_OP_MULTIPLY,
    MR_OP_DIVIDE,
    MR_OP_REMAINDER,
    MR_OP_STARTS_WITH,
    MR_OP_ENDS_WITH,
    MR_OP_CONTAINS,
    MR_OP_COALESCE,
    /* Three. */
    MR_OP_CHOOSE,
};

static inline uint32_t mr_expr_arity(uint8_t op) {
    return op < MR_OP_NOT ? 0 : op < MR_OP_AND ? 1 : op < MR_OP_CHOOSE ? 2 : 3;
}

struct mr_expr_value {
    union mr_expr_datum datum;
    uint32_t len;
    uint8_t kind;
};

/* What stands behind `in`: numbers ascending by value, texts by bytes. */
struct mr_expr_list {
    struct mr_expr_value *numbers;
    struct mr_expr_value *texts;
    uint32_t number_count;
    uint32_t text_count;
    bool has_null;
    bool has_true;
    bool has_false;
};

struct mr_expr_node {
    uint8_t op;    /* enum mr_expr_op */
    uint8_t types; /* set of enum mr_expr_type */
    bool null_literal; /* the word null, which == compares in its own way */
    uint32_t at;   /* its byte in the text, from 0 */
    uint32_t size;
    union {
        struct mr_expr_value constant;
        uint32_t index; /* of the column or derived field */
        const struct mr_lookup *lookup;
        const struct mr_expr_list *list;
    } as;
};

struct mr_expr {
    struct mr_arena arena; /* the text, the constants, all below */
    struct mr_expr_node *nodes;
    uint32_t count;
    uint32_t slots; /* vectors that are in use at the same time */
    struct mr_expr_vector **constants; /* by node: filled with the constant, NULL for others */
    locale_t c_locale;
};

/* ret[i] from row i of the operands, which may be ret itself. False: out of memory. */
bool mr_expr_apply(const struct mr_expr_node *node, const struct mr_expr_vector *const *operands,
                   uint32_t count, struct mr_arena *made, locale_t c_locale,
                   struct mr_expr_vector *ret);
void mr_expr_apply_math(uint8_t op, const struct mr_expr_vector *const *operands, uint32_t count,
                        struct mr_expr_vector *ret);
bool mr_expr_apply_text(const struct mr_expr_node *node,
                        const struct mr_expr_vector *const *operands, uint32_t count,
                        struct mr_arena *made, locale_t c_locale, struct mr_expr_vector *ret);

void mr_expr_vector_fill(struct mr_expr_vector *vector, const struct mr_expr_value *value,
                         uint32_t count);

static inline bool mr_expr_is_null(uint8_t kind) {
    return kind == MR_VALUE_MISSING || kind == MR_VALUE_NULL;
}

static inline bool mr_expr_is_number(uint8_t kind) {
    return kind == MR_VALUE_INT || kind == MR_VALUE_DOUBLE;
}

/* <0, 0, >0: an int against a finite double, by their exact values. */
static inline int mr_expr_compare_mixed(int64_t i, double d) {
    if ((uint64_t)i + (UINT64_C(1) << 53) <= UINT64_C(1) << 54) { /* a double as exactly */
        return ((double)i > d) - ((double)i < d);
    }
    if (d >= 0x1p63) {
        return -1;
    }
    if (d < -0x1p63) {
        return 1;
    }
    int64_t whole = (int64_t)d; /* a d that is as far from 0 as i has no fraction */
    return (i > whole) - (i < whole);
}

static inline int mr_expr_compare_numbers(uint8_t a_kind, union mr_expr_datum a, uint8_t b_kind,
                                          union mr_expr_datum b) {
    if (a_kind == b_kind) {
        return a_kind == MR_VALUE_INT ? (a.i > b.i) - (a.i < b.i) : (a.d > b.d) - (a.d < b.d);
    }
    return a_kind == MR_VALUE_INT ? mr_expr_compare_mixed(a.i, b.d) : -mr_expr_compare_mixed(b.i, a.d);
}
