/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Expr: conditions and derived fields, compiled once and evaluated over columns.
 *
 * Idea        An expression is kept as its operations in postfix order. Each works on a chunk of events
 *             at a time, so that deciding what to do costs one jump a chunk, not one an event.
 *
 *                 event_type == "view" && price * 100 > 5
 *
 *                 field event_type │ "view" │ == │ field price │ 100 │ * │ 5 │ > │ &&
 *                 ▪ 128 events     │        ▪    │ ▪           │     ▪   │   ▪   ▪
 *
 * Language    docs/EXPRESSIONS.md. In short: no value fails. What cannot be computed is null, null goes
 *             through arithmetic and comparisons, && || ! are three-valued (Kleene 1938), and a
 *             condition holds where it is exactly true.
 * Shape       A vector is the values of a chunk: a kind (enum mr_value_kind, but never DIGITS) and a
 *             number, or a text by pointer and length. Texts point into the body, the unescaped texts,
 *             the expression, a lookup table or the scratch: wherever they come from.
 * Owner       mr_expr_open copies the text and borrows the lookup tables, which must live longer.
 * Threads     An expression is constant after open: any number of threads may evaluate it, each with
 *             its own scratch.
 * Errors      open: MR_INVALID with "column 14: expected a value, found `)`" (in a text of several lines
 *             "line 2, column 3: …"), for syntax, types that never fit, and all of the limits below;
 *             MR_NO_MEMORY. eval: MR_NO_MEMORY only.
 * Cost        About 2 ns per event and operation; nothing is allocated per event: made texts lie in the
 *             scratch's arena.
 * Invariants  I1 A DOUBLE is finite: over the range is null.
 *             I2 A text is valid UTF-8.
 */
#include "event/batch.h"
#include "event/lookup.h"

#define MR_EXPR_CHUNK 128         /* events of a vector: some vectors fit the first-level cache */
#define MR_EXPR_TEXT_MAX 4096     /* bytes of an expression's text */
#define MR_EXPR_DEPTH_MAX 32      /* parentheses, calls, signs and choices within each other */
#define MR_EXPR_NODES_MAX 512     /* values and operations, constant ones computed away */
#define MR_EXPR_LIST_MAX 256      /* values of one list behind `in` */
#define MR_EXPR_MADE_MAX 65536    /* bytes of a text that lower and upper take: over it they give null */
#define MR_EXPR_NUMBER_MAX 128    /* bytes of a text that number() reads: over it it gives null */

/* What a value may be, as far as the text tells: a set. */
enum mr_expr_type {
    MR_EXPR_NULL = 1, /* or missing */
    MR_EXPR_BOOL = 2,
    MR_EXPR_NUMBER = 4,
    MR_EXPR_TEXT = 8,
    MR_EXPR_OTHER = 16, /* an object or array */
    MR_EXPR_ANY = 31,
};

union mr_expr_datum {
    int64_t i;
    double d;
    const uint8_t *text;
};

struct mr_expr_vector {
    union mr_expr_datum values[MR_EXPR_CHUNK]; /* of INT, DOUBLE, STRING */
    uint32_t lens[MR_EXPR_CHUNK];              /* of STRING */
    uint8_t kinds[MR_EXPR_CHUNK];
};

/* What a field's name stands for. */
struct mr_expr_field {
    bool derived;   /* index counts derived fields, not columns */
    uint32_t index;
    uint8_t types;  /* set of enum mr_expr_type */
};

struct mr_expr_lookup {
    struct mr_bytes name;
    const struct mr_lookup *table;
};

/* How names get their meaning while an expression is compiled. */
struct mr_expr_names {
    /* path: dotted, without quotes; borrowed for the call. A failure's text gets the position in front. */
    enum mr_status (*field)(void *ctx, struct mr_bytes path, struct mr_expr_field *ret,
                            struct mr_error *error);
    void *ctx;
    const struct mr_expr_lookup *lookups;
    uint32_t lookup_count;
};

struct mr_expr;

enum mr_status mr_expr_open(struct mr_bytes text, const struct mr_expr_names *names,
                            struct mr_expr **ret, struct mr_error *error) MR_MUST_CHECK;
void mr_expr_close(struct mr_expr *expr); /* NULL is fine */

/* What its values may be. */
uint8_t mr_expr_types(const struct mr_expr *expr);
/* "a number or text", in ret (64 bytes are enough), which is returned. */
const char *mr_expr_types_text(uint8_t types, char *ret, size_t cap);

/* The events that an expression is evaluated over: rows first … first + count of the columns. */
struct mr_expr_rows {
    const struct mr_column *columns; /* those that fields name: of use ANY, NUMBER, or KEY */
    const uint8_t *body;             /* where their texts are */
    const uint8_t *unescaped;
    const struct mr_expr_vector *derived; /* of these rows, already evaluated */
    uint32_t first;
    uint32_t count; /* at most MR_EXPR_CHUNK */
};

struct mr_expr_scratch;

enum mr_status mr_expr_scratch_open(struct mr_expr_scratch **ret) MR_MUST_CHECK;
void mr_expr_scratch_close(struct mr_expr_scratch *scratch); /* NULL is fine */
/* Forgets the texts that evaluations made: vectors that point to them are void. */
void mr_expr_scratch_clear(struct mr_expr_scratch *scratch);

/* The values of the rows, in order; texts that are made stay until the scratch is cleared. */
enum mr_status mr_expr_eval(const struct mr_expr *expr, const struct mr_expr_rows *rows,
                            struct mr_expr_scratch *scratch,
                            struct mr_expr_vector *ret) MR_MUST_CHECK;

/* The JSON text of a bool or number, for keys: "true", "17", "0.5" (the shortest that reads back the
 * same). ret has room for 32. Returns its length. */
size_t mr_expr_scalar_text(uint8_t kind, union mr_expr_datum value, char ret[32]);
