/* SPDX-License-Identifier: Apache-2.0 */
#include "event/expr_code.h"

#include "base/alloc.h"
#include "base/check.h"
#include "event/number.h"

enum { MADE_FIRST = 4096, MADE_MAX = 1 << 20 };

#define ALWAYS_INLINE __attribute__((always_inline)) inline

struct mr_expr_scratch {
    struct mr_arena made;
    struct mr_expr_vector *vectors;
    uint32_t vector_count;
};

enum mr_status mr_expr_scratch_open(struct mr_expr_scratch **ret) {
    struct mr_expr_scratch *scratch = mr_alloc_zero(1, sizeof *scratch);
    if (scratch == NULL) {
        return MR_NO_MEMORY;
    }
    mr_arena_init(&scratch->made, MADE_FIRST, MADE_MAX);
    *ret = scratch;
    return MR_OK;
}

void mr_expr_scratch_close(struct mr_expr_scratch *scratch) {
    if (scratch != NULL) {
        mr_arena_finish(&scratch->made);
        mr_free(scratch->vectors);
        mr_free(scratch);
    }
}

void mr_expr_scratch_clear(struct mr_expr_scratch *scratch) {
    mr_arena_reset(&scratch->made);
}

void mr_expr_vector_fill(struct mr_expr_vector *vector, const struct mr_expr_value *value,
                         uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        vector->values[i] = value->datum;
        vector->lens[i] = value->len;
        vector->kinds[i] = value->kind;
    }
}

/* A key's number, which lies in the body, with readable bytes behind it. */
static uint8_t read_digits(const uint8_t *text, locale_t c_locale, union mr_expr_datum *ret) {
    struct mr_decimal decimal;
    const uint8_t *end = mr_decimal_scan(text, &decimal);
    MR_ASSERT(end != NULL);
    if (mr_decimal_int(&decimal, &ret->i)) {
        return MR_VALUE_INT;
    }
    return mr_decimal_double(&decimal, c_locale, &ret->d) ? MR_VALUE_DOUBLE : MR_VALUE_OTHER;
}

static void load_column(const struct mr_expr_rows *rows, uint32_t index, locale_t c_locale,
                        struct mr_expr_vector *ret) {
    const struct mr_column *column = &rows->columns[index];
    const union mr_value *values = column->values + rows->first;
    memcpy(ret->kinds, column->kinds + rows->first, rows->count);
    for (uint32_t i = 0; i < rows->count; i++) {
        if (ret->kinds[i] == MR_VALUE_STRING) {
            struct mr_text text = values[i].text;
            bool unescaped = (text.off & MR_TEXT_UNESCAPED) != 0;
            ret->values[i].text =
                (unescaped ? rows->unescaped : rows->body) + (text.off & ~MR_TEXT_UNESCAPED);
            ret->lens[i] = text.len;
        } else if (ret->kinds[i] == MR_VALUE_DIGITS) {
            ret->kinds[i] = read_digits(rows->body + values[i].text.off, c_locale, &ret->values[i]);
        } else {
            ret->values[i].i = values[i].i;
        }
    }
}

static inline struct mr_bytes text_at(const struct mr_expr_vector *v, uint32_t i) {
    return mr_bytes_of(v->values[i].text, v->lens[i]);
}

/* Equal or not; NULL with a null. Values of different kinds are unequal. */
static inline uint8_t equal_at(const struct mr_expr_vector *a, const struct mr_expr_vector *b,
                               uint32_t i) {
    uint8_t ka = a->kinds[i];
    uint8_t kb = b->kinds[i];
    bool equal = false;
    if (mr_expr_is_null(ka) || mr_expr_is_null(kb)) {
        return MR_VALUE_NULL;
    }
    if (ka == MR_VALUE_STRING && kb == MR_VALUE_STRING) {
        equal = mr_bytes_equal(text_at(a, i), text_at(b, i));
    } else if (mr_expr_is_number(ka) && mr_expr_is_number(kb)) {
        equal = mr_expr_compare_numbers(ka, a->values[i], kb, b->values[i]) == 0;
    } else {
        equal = ka == kb && ka != MR_VALUE_OTHER;
    }
    return equal ? MR_VALUE_TRUE : MR_VALUE_FALSE;
}

/* The same for a constant text. */
static void apply_equal_text(uint8_t op, const struct mr_expr_vector *in, struct mr_bytes text,
                             uint32_t count, struct mr_expr_vector *ret) {
    uint8_t yes = op == MR_OP_EQUAL ? MR_VALUE_TRUE : MR_VALUE_FALSE;
    uint8_t no = op == MR_OP_EQUAL ? MR_VALUE_FALSE : MR_VALUE_TRUE;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t kind = in->kinds[i];
        bool equal = kind == MR_VALUE_STRING && in->lens[i] == text.len &&
                     memcmp(in->values[i].text, text.ptr, text.len) == 0;
        ret->kinds[i] = mr_expr_is_null(kind) ? MR_VALUE_NULL : equal ? yes : no;
    }
}

static ALWAYS_INLINE bool order_fits(uint8_t op, int order) {
    return op == MR_OP_LESS            ? order < 0
           : op == MR_OP_LESS_EQUAL    ? order <= 0
           : op == MR_OP_GREATER       ? order > 0
                                       : order >= 0;
}

static ALWAYS_INLINE void order_loop(uint8_t op, const struct mr_expr_vector *a,
                                     const struct mr_expr_vector *b, uint32_t count,
                                     struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        uint8_t ka = a->kinds[i];
        uint8_t kb = b->kinds[i];
        int order;
        if (mr_expr_is_number(ka) && mr_expr_is_number(kb)) {
            order = mr_expr_compare_numbers(ka, a->values[i], kb, b->values[i]);
        } else if (ka == MR_VALUE_STRING && kb == MR_VALUE_STRING) {
            order = mr_bytes_compare(text_at(a, i), text_at(b, i));
        } else {
            ret->kinds[i] = MR_VALUE_NULL;
            continue;
        }
        ret->kinds[i] = order_fits(op, order) ? MR_VALUE_TRUE : MR_VALUE_FALSE;
    }
}

static void apply_order(uint8_t op, const struct mr_expr_vector *const *in, uint32_t count,
                        struct mr_expr_vector *ret) {
    switch (op) {
    case MR_OP_LESS:
        order_loop(MR_OP_LESS, in[0], in[1], count, ret);
        break;
    case MR_OP_LESS_EQUAL:
        order_loop(MR_OP_LESS_EQUAL, in[0], in[1], count, ret);
        break;
    case MR_OP_GREATER:
        order_loop(MR_OP_GREATER, in[0], in[1], count, ret);
        break;
    default:
        order_loop(MR_OP_GREATER_EQUAL, in[0], in[1], count, ret);
        break;
    }
}

/* TRUE and FALSE change places. */
static inline uint8_t negated(uint8_t kind) {
    return kind == MR_VALUE_TRUE    ? MR_VALUE_FALSE
           : kind == MR_VALUE_FALSE ? MR_VALUE_TRUE
                                    : MR_VALUE_NULL;
}

/* Kleene's: FALSE decides, then whatever is not true. `or` is the same with both words exchanged. */
static void apply_logic(uint8_t decisive, const struct mr_expr_vector *const *in, uint32_t count,
                        struct mr_expr_vector *ret) {
    uint8_t neutral = negated(decisive);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t a = in[0]->kinds[i];
        uint8_t b = in[1]->kinds[i];
        ret->kinds[i] = a == decisive || b == decisive  ? decisive
                        : a == neutral && b == neutral ? neutral
                                                       : MR_VALUE_NULL;
    }
}

static inline void copy_at(const struct mr_expr_vector *from, uint32_t i, struct mr_expr_vector *ret) {
    ret->values[i] = from->values[i];
    ret->lens[i] = from->lens[i];
    ret->kinds[i] = from->kinds[i];
}

static void apply_coalesce(const struct mr_expr_vector *const *in, uint32_t count,
                           struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        bool first = !mr_expr_is_null(in[0]->kinds[i]);
        copy_at(first ? in[0] : in[1], i, ret);
        ret->kinds[i] = ret->kinds[i] == MR_VALUE_MISSING ? MR_VALUE_NULL : ret->kinds[i];
    }
}

static void apply_choose(const struct mr_expr_vector *const *in, uint32_t count,
                         struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        copy_at(in[0]->kinds[i] == MR_VALUE_TRUE ? in[1] : in[2], i, ret);
    }
}

static bool list_has_number(const struct mr_expr_list *list, uint8_t kind, union mr_expr_datum value) {
    uint32_t low = 0;
    uint32_t high = list->number_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct mr_expr_value *one = &list->numbers[middle];
        int order = mr_expr_compare_numbers(one->kind, one->datum, kind, value);
        if (order == 0) {
            return true;
        }
        *(order < 0 ? &low : &high) = order < 0 ? middle + 1 : middle;
    }
    return false;
}

static bool list_has_text(const struct mr_expr_list *list, struct mr_bytes text) {
    uint32_t low = 0;
    uint32_t high = list->text_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct mr_expr_value *one = &list->texts[middle];
        int order = mr_bytes_compare(mr_bytes_of(one->datum.text, one->len), text);
        if (order == 0) {
            return true;
        }
        *(order < 0 ? &low : &high) = order < 0 ? middle + 1 : middle;
    }
    return false;
}

static uint8_t list_has(const struct mr_expr_list *list, const struct mr_expr_vector *v, uint32_t i) {
    bool has = false;
    switch (v->kinds[i]) {
    case MR_VALUE_MISSING:
    case MR_VALUE_NULL:
        return list->has_null ? MR_VALUE_TRUE : MR_VALUE_NULL;
    case MR_VALUE_TRUE:
        has = list->has_true;
        break;
    case MR_VALUE_FALSE:
        has = list->has_false;
        break;
    case MR_VALUE_INT:
    case MR_VALUE_DOUBLE:
        has = list_has_number(list, v->kinds[i], v->values[i]);
        break;
    case MR_VALUE_STRING:
        has = list_has_text(list, text_at(v, i));
        break;
    default:
        break;
    }
    return has ? MR_VALUE_TRUE : MR_VALUE_FALSE;
}

/* Truth of a kind alone. */
static void apply_question(uint8_t op, const struct mr_expr_vector *in, uint32_t count,
                           struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        uint8_t kind = in->kinds[i];
        bool yes = op == MR_OP_IS_MISSING ? kind == MR_VALUE_MISSING
                                          : mr_expr_is_null(kind) == (op == MR_OP_IS_NULL);
        ret->kinds[i] = yes ? MR_VALUE_TRUE : MR_VALUE_FALSE;
    }
}

static void apply_truth(const struct mr_expr_node *node, const struct mr_expr_vector *const *in,
                        uint32_t count, struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        switch (node->op) {
        case MR_OP_EQUAL:
            ret->kinds[i] = equal_at(in[0], in[1], i);
            break;
        case MR_OP_UNEQUAL:
            ret->kinds[i] = negated(equal_at(in[0], in[1], i));
            break;
        case MR_OP_IN:
            ret->kinds[i] = list_has(node->as.list, in[0], i);
            break;
        case MR_OP_NOT_IN:
            ret->kinds[i] = negated(list_has(node->as.list, in[0], i));
            break;
        default:
            MR_ASSERT(node->op == MR_OP_NOT);
            ret->kinds[i] = negated(in[0]->kinds[i]);
            break;
        }
    }
}

bool mr_expr_apply(const struct mr_expr_node *node, const struct mr_expr_vector *const *operands,
                   uint32_t count, struct mr_arena *made, locale_t c_locale,
                   struct mr_expr_vector *ret) {
    MR_ASSERT(count <= MR_EXPR_CHUNK && mr_expr_arity(node->op) > 0);
    switch (node->op) {
    case MR_OP_IS_NULL:
    case MR_OP_IS_NOT_NULL:
    case MR_OP_IS_MISSING:
        apply_question(node->op, operands[0], count, ret);
        return true;
    case MR_OP_AND:
        apply_logic(MR_VALUE_FALSE, operands, count, ret);
        return true;
    case MR_OP_OR:
        apply_logic(MR_VALUE_TRUE, operands, count, ret);
        return true;
    case MR_OP_NOT:
    case MR_OP_EQUAL:
    case MR_OP_UNEQUAL:
    case MR_OP_IN:
    case MR_OP_NOT_IN:
        apply_truth(node, operands, count, ret);
        return true;
    case MR_OP_LESS:
    case MR_OP_LESS_EQUAL:
    case MR_OP_GREATER:
    case MR_OP_GREATER_EQUAL:
        apply_order(node->op, operands, count, ret);
        return true;
    case MR_OP_COALESCE:
        apply_coalesce(operands, count, ret);
        return true;
    case MR_OP_CHOOSE:
        apply_choose(operands, count, ret);
        return true;
    case MR_OP_LOWER:
    case MR_OP_UPPER:
    case MR_OP_LENGTH:
    case MR_OP_TO_NUMBER:
    case MR_OP_TO_TEXT:
    case MR_OP_LOOKUP:
    case MR_OP_STARTS_WITH:
    case MR_OP_ENDS_WITH:
    case MR_OP_CONTAINS:
        return mr_expr_apply_text(node, operands, count, made, c_locale, ret);
    default:
        mr_expr_apply_math(node->op, operands, count, ret);
        return true;
    }
}

/* What an operation on fields and constants often is. False: something else. */
static bool apply_common(const struct mr_expr_node *node, const struct mr_expr_vector *const *operands,
                         uint32_t count, struct mr_expr_vector *ret) {
    const struct mr_expr_node *last = node - 1; /* of the last operand */
    if ((node->op == MR_OP_EQUAL || node->op == MR_OP_UNEQUAL) && last->op == MR_OP_CONSTANT &&
        last->as.constant.kind == MR_VALUE_STRING) {
        apply_equal_text(node->op, operands[0],
                         mr_bytes_of(last->as.constant.datum.text, last->as.constant.len), count, ret);
        return true;
    }
    return false;
}

static bool make_room(struct mr_expr_scratch *scratch, uint32_t slots) {
    if (scratch->vector_count < slots) {
        struct mr_expr_vector *vectors = mr_alloc(slots * sizeof *vectors);
        if (vectors == NULL) {
            return false;
        }
        mr_free(scratch->vectors);
        scratch->vectors = vectors;
        scratch->vector_count = slots;
    }
    return true;
}

enum mr_status mr_expr_eval(const struct mr_expr *expr, const struct mr_expr_rows *rows,
                            struct mr_expr_scratch *scratch, struct mr_expr_vector *ret) {
    MR_ASSERT(rows->count <= MR_EXPR_CHUNK && expr->slots >= 1);
    if (!make_room(scratch, expr->slots)) {
        return MR_NO_MEMORY;
    }
    const struct mr_expr_vector *stack[MR_EXPR_NODES_MAX];
    uint32_t top = 0; /* a result takes the vector of its first operand; the outermost is ret */
    for (uint32_t n = 0; n < expr->count; n++) {
        const struct mr_expr_node *node = &expr->nodes[n];
        uint32_t arity = mr_expr_arity(node->op);
        MR_ASSERT(top >= arity && top - arity < expr->slots);
        top -= arity;
        struct mr_expr_vector *slot = top == 0 ? ret : &scratch->vectors[top];
        const struct mr_expr_vector *result = slot;
        if (node->op == MR_OP_CONSTANT) {
            result = expr->constants[n];
        } else if (node->op == MR_OP_DERIVED) {
            result = &rows->derived[node->as.index];
        } else if (node->op == MR_OP_COLUMN) {
            load_column(rows, node->as.index, expr->c_locale, slot);
        } else if (!apply_common(node, stack + top, rows->count, slot) &&
                   !mr_expr_apply(node, stack + top, rows->count, &scratch->made, expr->c_locale,
                                  slot)) {
            return MR_NO_MEMORY;
        }
        stack[top++] = result;
    }
    MR_ASSERT(top == 1);
    if (stack[0] != ret) {
        *ret = *stack[0];
    }
    return MR_OK;
}
