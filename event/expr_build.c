/* SPDX-License-Identifier: Apache-2.0 */
#include "event/expr_build.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

enum { ARENA_FIRST = 1024, ARENA_MAX = 1 << 20, OPERANDS_MAX = 3, SUGGEST_MAX = 64 };

#define NUM MR_EXPR_NUMBER
#define TXT MR_EXPR_TEXT
#define BOO MR_EXPR_BOOL
#define NUL MR_EXPR_NULL
#define ANY MR_EXPR_ANY

/* What operands may be, and what comes out; CHOOSE and COALESCE: see result_types. */
static const struct {
    uint8_t operands[OPERANDS_MAX];
    uint8_t result;
} signatures[] = {
    [MR_OP_NOT] = {{BOO}, BOO | NUL},
    [MR_OP_MINUS] = {{NUM}, NUM | NUL},
    [MR_OP_IS_NULL] = {{ANY}, BOO},
    [MR_OP_IS_NOT_NULL] = {{ANY}, BOO},
    [MR_OP_IS_MISSING] = {{ANY}, BOO},
    [MR_OP_ABS] = {{NUM}, NUM | NUL},
    [MR_OP_FLOOR] = {{NUM}, NUM | NUL},
    [MR_OP_CEIL] = {{NUM}, NUM | NUL},
    [MR_OP_ROUND] = {{NUM}, NUM | NUL},
    [MR_OP_LOWER] = {{TXT}, TXT | NUL},
    [MR_OP_UPPER] = {{TXT}, TXT | NUL},
    [MR_OP_LENGTH] = {{TXT}, NUM | NUL},
    [MR_OP_TO_NUMBER] = {{TXT | NUM}, NUM | NUL},
    [MR_OP_TO_TEXT] = {{TXT | NUM | BOO}, TXT | NUL},
    [MR_OP_LOOKUP] = {{TXT | NUM | BOO}, TXT | NUL},
    [MR_OP_IN] = {{ANY}, BOO | NUL},
    [MR_OP_NOT_IN] = {{ANY}, BOO | NUL},
    [MR_OP_AND] = {{BOO, BOO}, BOO | NUL},
    [MR_OP_OR] = {{BOO, BOO}, BOO | NUL},
    [MR_OP_EQUAL] = {{ANY, ANY}, BOO | NUL},
    [MR_OP_UNEQUAL] = {{ANY, ANY}, BOO | NUL},
    [MR_OP_LESS] = {{NUM | TXT, NUM | TXT}, BOO | NUL},
    [MR_OP_LESS_EQUAL] = {{NUM | TXT, NUM | TXT}, BOO | NUL},
    [MR_OP_GREATER] = {{NUM | TXT, NUM | TXT}, BOO | NUL},
    [MR_OP_GREATER_EQUAL] = {{NUM | TXT, NUM | TXT}, BOO | NUL},
    [MR_OP_ADD] = {{NUM, NUM}, NUM | NUL},
    [MR_OP_SUBTRACT] = {{NUM, NUM}, NUM | NUL},
    [MR_OP_MULTIPLY] = {{NUM, NUM}, NUM | NUL},
    [MR_OP_DIVIDE] = {{NUM, NUM}, NUM | NUL},
    [MR_OP_REMAINDER] = {{NUM, NUM}, NUM | NUL},
    [MR_OP_STARTS_WITH] = {{TXT, TXT}, BOO | NUL},
    [MR_OP_ENDS_WITH] = {{TXT, TXT}, BOO | NUL},
    [MR_OP_CONTAINS] = {{TXT, TXT}, BOO | NUL},
    [MR_OP_COALESCE] = {{ANY, ANY}, ANY},
    [MR_OP_CHOOSE] = {{BOO, ANY, ANY}, ANY},
};

static const char one_value[] = "1 value";
static const char two_texts[] = "2 texts";

static const struct mr_expr_function functions[] = {
    {"abs", "1 number", MR_OP_ABS, 1},
    {"ceil", "1 number", MR_OP_CEIL, 1},
    {"coalesce", "2 values or more", MR_OP_COALESCE, 2},
    {"contains", two_texts, MR_OP_CONTAINS, 2},
    {"ends_with", two_texts, MR_OP_ENDS_WITH, 2},
    {"floor", "1 number", MR_OP_FLOOR, 1},
    {"is_missing", one_value, MR_OP_IS_MISSING, 1},
    {"is_null", one_value, MR_OP_IS_NULL, 1},
    {"length", "1 text", MR_OP_LENGTH, 1},
    {"lookup", "2 values, a table's name and a key", MR_OP_LOOKUP, 1},
    {"lower", "1 text", MR_OP_LOWER, 1},
    {"number", one_value, MR_OP_TO_NUMBER, 1},
    {"round", "1 number", MR_OP_ROUND, 1},
    {"starts_with", two_texts, MR_OP_STARTS_WITH, 2},
    {"text", one_value, MR_OP_TO_TEXT, 1},
    {"upper", "1 text", MR_OP_UPPER, 1},
};

enum { FUNCTION_COUNT = sizeof functions / sizeof functions[0] };

static enum mr_status no_memory(const struct mr_expr_build *b) {
    return mr_error_set(b->lexer.error, MR_NO_MEMORY, "out of memory");
}

enum mr_status mr_expr_build_init(struct mr_expr_build *b, struct mr_bytes text,
                                  const struct mr_expr_names *names, struct mr_error *error) {
    *b = (struct mr_expr_build){.names = names, .lexer = {.error = error}};
    b->expr = mr_alloc_zero(1, sizeof *b->expr);
    b->nodes = mr_alloc(MR_EXPR_NODES_MAX * sizeof *b->nodes);
    b->scratch = mr_alloc((OPERANDS_MAX + 1) * sizeof *b->scratch);
    if (b->expr == NULL || b->nodes == NULL || b->scratch == NULL) {
        return no_memory(b);
    }
    mr_arena_init(&b->expr->arena, ARENA_FIRST, ARENA_MAX);
    b->expr->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    uint8_t *copy = mr_arena_alloc(&b->expr->arena, text.len + MR_PADDING);
    if (copy == NULL || b->expr->c_locale == (locale_t)0) {
        return no_memory(b);
    }
    if (text.len > 0) {
        memcpy(copy, text.ptr, text.len);
    }
    memset(copy + text.len, 0, MR_PADDING);
    b->lexer.text = copy;
    b->lexer.len = (uint32_t)text.len;
    b->lexer.arena = &b->expr->arena;
    return MR_OK;
}

void mr_expr_build_finish(struct mr_expr_build *b) {
    mr_free(b->nodes);
    mr_free(b->scratch);
    mr_expr_close(b->expr);
}

void mr_expr_close(struct mr_expr *expr) {
    if (expr == NULL) {
        return;
    }
    if (expr->c_locale != (locale_t)0) {
        freelocale(expr->c_locale);
    }
    if (expr->arena.chunk_first > 0) {
        mr_arena_finish(&expr->arena);
    }
    mr_free(expr);
}

uint8_t mr_expr_types(const struct mr_expr *expr) {
    return expr->nodes[expr->count - 1].types;
}

static uint8_t types_of_kind(uint8_t kind) {
    switch (kind) {
    case MR_VALUE_TRUE:
    case MR_VALUE_FALSE:
        return MR_EXPR_BOOL;
    case MR_VALUE_INT:
    case MR_VALUE_DOUBLE:
        return MR_EXPR_NUMBER;
    case MR_VALUE_STRING:
        return MR_EXPR_TEXT;
    default:
        return MR_EXPR_NULL;
    }
}

const char *mr_expr_types_text(uint8_t types, char *ret, size_t cap) {
    static const struct {
        uint8_t type;
        const char *name;
    } names[] = {
        {MR_EXPR_BOOL, "truth value"},
        {MR_EXPR_NUMBER, "number"},
        {MR_EXPR_TEXT, "text"},
    };
    size_t len = 0;
    (void)snprintf(ret, cap, "null");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if ((types & names[i].type) != 0) {
            int used = snprintf(ret + len, cap - len, "%s%s", len == 0 ? "a " : " or ", names[i].name);
            MR_ASSERT(used > 0 && (size_t)used < cap - len);
            len += (size_t)used;
        }
    }
    return ret;
}

static enum mr_status add_node(struct mr_expr_build *b, const struct mr_expr_node *node) {
    if (b->count == MR_EXPR_NODES_MAX) {
        return mr_lexer_refuse(&b->lexer, node->at,
                               "more than %d values and operations (use a derived field)",
                               MR_EXPR_NODES_MAX);
    }
    b->nodes[b->count++] = *node;
    return MR_OK;
}

enum mr_status mr_expr_add_constant(struct mr_expr_build *b, uint32_t at,
                                    const struct mr_expr_value *value) {
    struct mr_expr_node node = {
        .op = MR_OP_CONSTANT,
        .types = types_of_kind(value->kind),
        .at = at,
        .size = 1,
        .as.constant = *value,
    };
    return add_node(b, &node);
}

enum mr_status mr_expr_add_field(struct mr_expr_build *b, const struct mr_token *name) {
    struct mr_expr_field field = {.types = MR_EXPR_ANY};
    struct mr_error error = {.text = ""};
    enum mr_status status = b->names->field(b->names->ctx, name->text, &field, &error);
    if (status == MR_NO_MEMORY) {
        return no_memory(b);
    }
    if (status != MR_OK) {
        return mr_lexer_refuse(&b->lexer, name->at, "%s", error.text);
    }
    struct mr_expr_node node = {
        .op = field.derived ? MR_OP_DERIVED : MR_OP_COLUMN,
        .types = field.types,
        .at = name->at,
        .size = 1,
        .as.index = field.index,
    };
    return add_node(b, &node);
}

/* The operands of a node that would be appended now: their last nodes, in order. */
static void find_operands(const struct mr_expr_build *b, uint32_t end, uint32_t arity,
                          const struct mr_expr_node **ret) {
    for (uint32_t i = arity; i > 0; i--) {
        MR_ASSERT(end > 0);
        ret[i - 1] = &b->nodes[end - 1];
        end -= ret[i - 1]->size;
    }
}

static enum mr_status check_operands(const struct mr_expr_build *b, uint8_t op, const char *word,
                                     const struct mr_expr_node *const *operands) {
    char wanted[64];
    char found[64];
    for (uint32_t i = 0; i < mr_expr_arity(op); i++) {
        uint8_t may = signatures[op].operands[i];
        uint8_t is = operands[i]->types & (uint8_t)~MR_EXPR_NULL;
        if (is != 0 && (is & may) == 0) {
            return mr_lexer_refuse(&b->lexer, operands[i]->at, "`%s` takes %s, found %s", word,
                                   mr_expr_types_text(may, wanted, sizeof wanted),
                                   mr_expr_types_text(is, found, sizeof found));
        }
    }
    return MR_OK;
}

static enum mr_status check_pair(const struct mr_expr_build *b, const char *word, uint32_t at,
                                 uint8_t left, uint8_t right) {
    char one[64];
    char other[64];
    left &= (uint8_t)~MR_EXPR_NULL;
    right &= (uint8_t)~MR_EXPR_NULL;
    if (left != 0 && right != 0 && (left & right) == 0) {
        return mr_lexer_refuse(&b->lexer, at, "`%s` compares %s with %s", word,
                               mr_expr_types_text(left, one, sizeof one),
                               mr_expr_types_text(right, other, sizeof other));
    }
    return MR_OK;
}

static uint8_t result_types(uint8_t op, const struct mr_expr_node *const *operands) {
    if (op == MR_OP_CHOOSE) {
        return operands[1]->types | operands[2]->types;
    }
    if (op == MR_OP_COALESCE) {
        return (operands[0]->types & (uint8_t)~MR_EXPR_NULL) | operands[1]->types;
    }
    return signatures[op].result;
}

enum mr_status mr_expr_fold(struct mr_expr_build *b) {
    struct mr_expr_node node = b->nodes[b->count - 1];
    uint32_t arity = mr_expr_arity(node.op);
    const struct mr_expr_node *operands[OPERANDS_MAX];
    const struct mr_expr_vector *vectors[OPERANDS_MAX];
    find_operands(b, b->count - 1, arity, operands);
    for (uint32_t i = 0; i < arity; i++) {
        if (operands[i]->op != MR_OP_CONSTANT) {
            return MR_OK;
        }
        mr_expr_vector_fill(&b->scratch[i], &operands[i]->as.constant, 1);
        vectors[i] = &b->scratch[i];
    }
    struct mr_expr_vector *result = &b->scratch[OPERANDS_MAX];
    if (!mr_expr_apply(&node, vectors, 1, &b->expr->arena, b->expr->c_locale, result)) {
        return no_memory(b);
    }
    struct mr_expr_value value = {.kind = result->kinds[0]};
    if (mr_expr_is_number(value.kind) || value.kind == MR_VALUE_STRING) {
        value.datum = result->values[0];
        value.len = value.kind == MR_VALUE_STRING ? result->lens[0] : 0;
    }
    b->count -= 1 + arity; /* each constant operand is one node */
    return mr_expr_add_constant(b, node.at, &value);
}

/* `x == null` asks a question of x alone: takes the word null out. False: there is none. */
static bool take_null_literal(struct mr_expr_build *b, const struct mr_expr_node *const *operands) {
    if (operands[1]->null_literal) {
        b->count--;
        return true;
    }
    if (operands[0]->null_literal) {
        uint32_t size = operands[1]->size;
        struct mr_expr_node *first = &b->nodes[b->count - size - 1];
        memmove(first, first + 1, size * sizeof *first);
        b->count--;
        return true;
    }
    return false;
}

static enum mr_status append_op(struct mr_expr_build *b, uint8_t op, uint32_t at) {
    const struct mr_expr_node *operands[OPERANDS_MAX];
    uint32_t arity = mr_expr_arity(op);
    struct mr_expr_node node = {.op = op, .at = at, .size = 1};
    find_operands(b, b->count, arity, operands);
    node.types = result_types(op, operands);
    for (uint32_t i = 0; i < arity; i++) {
        node.size += operands[i]->size;
    }
    return add_node(b, &node);
}

enum mr_status mr_expr_add_op(struct mr_expr_build *b, uint8_t op, uint32_t at, const char *word) {
    const struct mr_expr_node *operands[OPERANDS_MAX];
    find_operands(b, b->count, mr_expr_arity(op), operands);
    enum mr_status status = check_operands(b, op, word, operands);
    if (status == MR_OK && op >= MR_OP_EQUAL && op <= MR_OP_GREATER_EQUAL) {
        status = check_pair(b, word, at, operands[0]->types, operands[1]->types);
    }
    if (status != MR_OK) {
        return status;
    }
    bool equality = op == MR_OP_EQUAL || op == MR_OP_UNEQUAL;
    if (equality && take_null_literal(b, operands)) {
        op = op == MR_OP_EQUAL ? MR_OP_IS_NULL : MR_OP_IS_NOT_NULL;
    }
    status = append_op(b, op, at);
    return status == MR_OK && op != MR_OP_LOOKUP ? mr_expr_fold(b) : status;
}

void mr_expr_set_lookup(struct mr_expr_build *b, const struct mr_lookup *lookup) {
    MR_ASSERT(b->nodes[b->count - 1].op == MR_OP_LOOKUP);
    b->nodes[b->count - 1].as.lookup = lookup;
}

static int order_numbers(const void *a, const void *b) {
    const struct mr_expr_value *x = a;
    const struct mr_expr_value *y = b;
    return mr_expr_compare_numbers(x->kind, x->datum, y->kind, y->datum);
}

static int order_texts(const void *a, const void *b) {
    const struct mr_expr_value *x = a;
    const struct mr_expr_value *y = b;
    return mr_bytes_compare(mr_bytes_of(x->datum.text, x->len), mr_bytes_of(y->datum.text, y->len));
}

static struct mr_expr_list *make_list(struct mr_arena *arena, const struct mr_expr_value *values,
                                      uint32_t count) {
    struct mr_expr_list *list = mr_arena_alloc(arena, sizeof *list);
    struct mr_expr_value *copies = mr_arena_alloc(arena, 2 * count * sizeof *copies);
    if (list == NULL || copies == NULL) {
        return NULL;
    }
    *list = (struct mr_expr_list){.numbers = copies, .texts = copies + count};
    for (uint32_t i = 0; i < count; i++) {
        uint8_t kind = values[i].kind;
        if (mr_expr_is_number(kind)) {
            list->numbers[list->number_count++] = values[i];
        } else if (kind == MR_VALUE_STRING) {
            list->texts[list->text_count++] = values[i];
        }
        list->has_null = list->has_null || kind == MR_VALUE_NULL;
        list->has_true = list->has_true || kind == MR_VALUE_TRUE;
        list->has_false = list->has_false || kind == MR_VALUE_FALSE;
    }
    qsort(list->numbers, list->number_count, sizeof *copies, order_numbers);
    qsort(list->texts, list->text_count, sizeof *copies, order_texts);
    return list;
}

enum mr_status mr_expr_add_in(struct mr_expr_build *b, uint8_t op, uint32_t at,
                              struct mr_expr_value *values, uint32_t count, uint8_t types) {
    enum mr_status status = check_pair(b, op == MR_OP_IN ? "in" : "not in", at,
                                       b->nodes[b->count - 1].types, types);
    if (status != MR_OK) {
        return status;
    }
    const struct mr_expr_list *list = make_list(&b->expr->arena, values, count);
    if (list == NULL) {
        return no_memory(b);
    }
    status = append_op(b, op, at);
    if (status == MR_OK) {
        b->nodes[b->count - 1].as.list = list;
        status = mr_expr_fold(b);
    }
    return status;
}

/* Edit distance (Levenshtein 1966) of short names. */
static uint32_t distance(struct mr_bytes a, struct mr_bytes b) {
    uint32_t row[SUGGEST_MAX + 1];
    if (a.len > SUGGEST_MAX || b.len > SUGGEST_MAX) {
        return UINT32_MAX;
    }
    for (uint32_t j = 0; j <= b.len; j++) {
        row[j] = j;
    }
    for (uint32_t i = 1; i <= a.len; i++) {
        uint32_t corner = row[0];
        row[0] = i;
        for (uint32_t j = 1; j <= b.len; j++) {
            uint32_t best = corner + (a.ptr[i - 1] != b.ptr[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            corner = row[j];
            row[j] = best;
        }
    }
    return row[b.len];
}

/* Remembers the nearest name so far. */
static void consider(struct mr_bytes typed, struct mr_bytes name, uint32_t *best,
                     struct mr_bytes *ret) {
    uint32_t d = distance(typed, name);
    bool beginning = typed.len >= 3 && name.len > typed.len && name.len <= SUGGEST_MAX &&
                     memcmp(typed.ptr, name.ptr, typed.len) == 0;
    d = beginning && d > 1 ? 1 : d;
    if (d < *best && (d <= 1 || d <= typed.len / 3)) {
        *best = d;
        *ret = name;
    }
}

static enum mr_status refuse_name(const struct mr_expr_build *b, const struct mr_token *name,
                                  const char *what, struct mr_bytes nearest) {
    int len = (int)(name->text.len < SUGGEST_MAX ? name->text.len : SUGGEST_MAX);
    const char *text = (const char *)name->text.ptr;
    return nearest.len > 0
               ? mr_lexer_refuse(&b->lexer, name->at, "no %s `%.*s`; did you mean `%.*s`?", what, len,
                                 text, (int)nearest.len, (const char *)nearest.ptr)
               : mr_lexer_refuse(&b->lexer, name->at, "no %s `%.*s`", what, len, text);
}

enum mr_status mr_expr_find_function(const struct mr_expr_build *b, const struct mr_token *name,
                                     const struct mr_expr_function **ret) {
    struct mr_bytes nearest = {NULL, 0};
    uint32_t best = UINT32_MAX;
    *ret = NULL;
    for (uint32_t i = 0; i < FUNCTION_COUNT; i++) {
        struct mr_bytes known = mr_bytes_text(functions[i].name);
        if (mr_bytes_equal(name->text, known)) {
            *ret = &functions[i];
            return MR_OK;
        }
        consider(name->text, known, &best, &nearest);
    }
    return refuse_name(b, name, "function", nearest);
}

enum mr_status mr_expr_find_lookup(const struct mr_expr_build *b, const struct mr_token *name,
                                   const struct mr_lookup **ret) {
    struct mr_bytes nearest = {NULL, 0};
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < b->names->lookup_count; i++) {
        if (mr_bytes_equal(name->text, b->names->lookups[i].name)) {
            *ret = b->names->lookups[i].table;
            return MR_OK;
        }
        consider(name->text, b->names->lookups[i].name, &best, &nearest);
    }
    return refuse_name(b, name, "lookup table", nearest);
}

/* The vectors of constants, and how many others are in use at the same time. */
static bool prepare(struct mr_expr *expr) {
    uint32_t top = 0;
    for (uint32_t n = 0; n < expr->count; n++) {
        const struct mr_expr_node *node = &expr->nodes[n];
        top = top - mr_expr_arity(node->op) + 1;
        expr->slots = top > expr->slots ? top : expr->slots;
        expr->constants[n] = NULL;
        if (node->op == MR_OP_CONSTANT) {
            expr->constants[n] = mr_arena_alloc(&expr->arena, sizeof *expr->constants[n]);
            if (expr->constants[n] == NULL) {
                return false;
            }
            mr_expr_vector_fill(expr->constants[n], &node->as.constant, MR_EXPR_CHUNK);
        }
    }
    MR_ASSERT(top == 1);
    return true;
}

enum mr_status mr_expr_finish(struct mr_expr_build *b) {
    struct mr_expr *expr = b->expr;
    MR_ASSERT(b->count > 0 && b->nodes[b->count - 1].size == b->count);
    expr->count = b->count;
    expr->nodes = mr_arena_alloc(&expr->arena, b->count * sizeof *expr->nodes);
    expr->constants = mr_arena_alloc(&expr->arena, b->count * sizeof(struct mr_expr_vector *));
    if (expr->nodes == NULL || expr->constants == NULL) {
        return no_memory(b);
    }
    memcpy(expr->nodes, b->nodes, b->count * sizeof *expr->nodes);
    return prepare(expr) ? MR_OK : no_memory(b);
}
