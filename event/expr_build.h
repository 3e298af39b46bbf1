/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Expr build: an expression on its way from words to nodes, inside event/ only.
 *
 * Idea        The parser says what comes next in postfix order; here its types are checked, and an
 *             operation on constants becomes a constant.
 * Owner       A local of mr_expr_open, from init to finish; finish closes the expression unless it was
 *             taken out.
 * Errors      Of types and names, with their position; MR_NO_MEMORY.
 */
#include "event/expr_lex.h"

struct mr_expr_build {
    struct mr_lexer lexer;
    struct mr_token token; /* the next one */
    struct mr_expr *expr;
    struct mr_expr_node *nodes; /* MR_EXPR_NODES_MAX */
    uint32_t count;
    uint32_t depth;
    const struct mr_expr_names *names;
    struct mr_expr_vector *scratch; /* 4, to compute constants with */
};

struct mr_expr_function {
    const char *name;
    const char *takes; /* for messages */
    uint8_t op;
    uint8_t arguments; /* operands; coalesce: at least */
};

enum mr_status mr_expr_build_init(struct mr_expr_build *b, struct mr_bytes text,
                                  const struct mr_expr_names *names, struct mr_error *error);
void mr_expr_build_finish(struct mr_expr_build *b);

/* Each appends a node; at is where its text begins. */
enum mr_status mr_expr_add_constant(struct mr_expr_build *b, uint32_t at,
                                    const struct mr_expr_value *value);
enum mr_status mr_expr_add_field(struct mr_expr_build *b, const struct mr_token *name);
/* word: the operator or function as written. */
enum mr_status mr_expr_add_op(struct mr_expr_build *b, uint8_t op, uint32_t at, const char *word);
/* values are copied, and sorted on the way. types: of all of them. */
enum mr_status mr_expr_add_in(struct mr_expr_build *b, uint8_t op, uint32_t at,
                              struct mr_expr_value *values, uint32_t count, uint8_t types);

enum mr_status mr_expr_find_function(const struct mr_expr_build *b, const struct mr_token *name,
                                     const struct mr_expr_function **ret);
enum mr_status mr_expr_find_lookup(const struct mr_expr_build *b, const struct mr_token *name,
                                   const struct mr_lookup **ret);
/* Of the last node, a LOOKUP, which is then folded by the caller. */
void mr_expr_set_lookup(struct mr_expr_build *b, const struct mr_lookup *lookup);
/* Computes the last node if its operands are constant. */
enum mr_status mr_expr_fold(struct mr_expr_build *b);

/* Moves the nodes into the expression. */
enum mr_status mr_expr_finish(struct mr_expr_build *b);
