/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts of expressions: comparing parts of them, letters of ASCII, and the way to numbers and back.
 */
#include "base/check.h"
#include "base/json.h"
#include "event/expr_code.h"
#include "event/number.h"

enum { SCALAR_TEXT = 32 };

static inline struct mr_bytes text_at(const struct mr_expr_vector *v, uint32_t i) {
    return mr_bytes_of(v->values[i].text, v->lens[i]);
}

static inline void put_text(struct mr_expr_vector *ret, uint32_t i, struct mr_bytes text) {
    ret->values[i].text = text.ptr;
    ret->lens[i] = (uint32_t)text.len;
    ret->kinds[i] = MR_VALUE_STRING;
}

static bool has_part(uint8_t op, struct mr_bytes text, struct mr_bytes part) {
    if (part.len == 0) {
        return true;
    }
    if (part.len > text.len) {
        return false;
    }
    switch (op) {
    case MR_OP_STARTS_WITH:
        return memcmp(text.ptr, part.ptr, part.len) == 0;
    case MR_OP_ENDS_WITH:
        return memcmp(text.ptr + text.len - part.len, part.ptr, part.len) == 0;
    default:
        MR_ASSERT(op == MR_OP_CONTAINS);
        return memmem(text.ptr, text.len, part.ptr, part.len) != NULL;
    }
}

static void apply_part(uint8_t op, const struct mr_expr_vector *const *in, uint32_t count,
                       struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        bool texts = in[0]->kinds[i] == MR_VALUE_STRING && in[1]->kinds[i] == MR_VALUE_STRING;
        ret->kinds[i] = !texts                                               ? MR_VALUE_NULL
                        : has_part(op, text_at(in[0], i), text_at(in[1], i)) ? MR_VALUE_TRUE
                                                                             : MR_VALUE_FALSE;
    }
}

/* Changes the case of the ASCII letters; a text without such is given back as it is. */
static bool change_case(uint8_t op, struct mr_bytes text, struct mr_arena *made, struct mr_bytes *ret) {
    uint8_t first = op == MR_OP_LOWER ? 'A' : 'a';
    size_t at = 0;
    while (at < text.len && (uint8_t)(text.ptr[at] - first) >= 26) {
        at++;
    }
    *ret = text;
    if (at == text.len) {
        return true;
    }
    uint8_t *copy = mr_arena_alloc(made, text.len);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, text.ptr, text.len);
    for (; at < text.len; at++) {
        copy[at] ^= (uint8_t)(copy[at] - first) < 26 ? 0x20 : 0;
    }
    ret->ptr = copy;
    return true;
}

static bool apply_case(uint8_t op, const struct mr_expr_vector *in, uint32_t count,
                       struct mr_arena *made, struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        if (in->kinds[i] != MR_VALUE_STRING || in->lens[i] > MR_EXPR_MADE_MAX) {
            ret->kinds[i] = MR_VALUE_NULL;
            continue;
        }
        struct mr_bytes text;
        if (!change_case(op, text_at(in, i), made, &text)) {
            return false;
        }
        put_text(ret, i, text);
    }
    return true;
}

/* Characters: every byte of UTF-8 that does not continue one. */
static void apply_length(const struct mr_expr_vector *in, uint32_t count, struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        if (in->kinds[i] != MR_VALUE_STRING) {
            ret->kinds[i] = MR_VALUE_NULL;
            continue;
        }
        struct mr_bytes text = text_at(in, i);
        int64_t length = 0;
        for (size_t at = 0; at < text.len; at++) {
            length += (text.ptr[at] & 0xC0) != 0x80;
        }
        ret->values[i].i = length;
        ret->kinds[i] = MR_VALUE_INT;
    }
}

/* A text that is exactly a number of JSON. */
static bool number_of_text(struct mr_bytes text, locale_t c_locale, struct mr_expr_value *ret) {
    uint8_t copy[MR_EXPR_NUMBER_MAX + MR_PADDING]; /* the scan reads behind the end */
    if (text.len == 0 || text.len > MR_EXPR_NUMBER_MAX) {
        return false;
    }
    memcpy(copy, text.ptr, text.len);
    memset(copy + text.len, 0, MR_PADDING);
    struct mr_decimal decimal;
    const uint8_t *end = mr_decimal_scan(copy, &decimal);
    if (end != copy + text.len) {
        return false;
    }
    ret->kind = mr_decimal_int(&decimal, &ret->datum.i) ? MR_VALUE_INT : MR_VALUE_DOUBLE;
    return ret->kind == MR_VALUE_INT || mr_decimal_double(&decimal, c_locale, &ret->datum.d);
}

static void apply_to_number(const struct mr_expr_vector *in, uint32_t count, locale_t c_locale,
                            struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        struct mr_expr_value value = {.kind = MR_VALUE_NULL};
        if (mr_expr_is_number(in->kinds[i])) {
            value.kind = in->kinds[i];
            value.datum = in->values[i];
        } else if (in->kinds[i] == MR_VALUE_STRING &&
                   !number_of_text(text_at(in, i), c_locale, &value)) {
            value.kind = MR_VALUE_NULL;
        }
        ret->values[i] = value.datum;
        ret->kinds[i] = value.kind;
    }
}

static size_t int_text(int64_t value, char ret[SCALAR_TEXT]) {
    char digits[SCALAR_TEXT];
    size_t begin = sizeof digits;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        digits[--begin] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (value < 0) {
        digits[--begin] = '-';
    }
    memcpy(ret, digits + begin, sizeof digits - begin);
    return sizeof digits - begin;
}

size_t mr_expr_scalar_text(uint8_t kind, union mr_expr_datum value, char ret[32]) {
    switch (kind) {
    case MR_VALUE_TRUE:
        memcpy(ret, "true", 4);
        return 4;
    case MR_VALUE_FALSE:
        memcpy(ret, "false", 5);
        return 5;
    case MR_VALUE_INT:
        return int_text(value.i, ret);
    default:
        MR_ASSERT(kind == MR_VALUE_DOUBLE);
        return mr_double_text(value.d == 0 ? 0 : value.d, ret); /* -0.0 is 0, as it is for == */
    }
}

/* The value as a text: a string itself, else its JSON text in buf. False for null and objects. */
static bool as_text(const struct mr_expr_vector *in, uint32_t i, char buf[SCALAR_TEXT],
                    struct mr_bytes *ret) {
    uint8_t kind = in->kinds[i];
    if (kind == MR_VALUE_STRING) {
        *ret = text_at(in, i);
        return true;
    }
    if (mr_expr_is_null(kind) || kind == MR_VALUE_OTHER) {
        return false;
    }
    *ret = mr_bytes_of(buf, mr_expr_scalar_text(kind, in->values[i], buf));
    return true;
}

static bool apply_to_text(const struct mr_expr_vector *in, uint32_t count, struct mr_arena *made,
                          struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        char buf[SCALAR_TEXT];
        struct mr_bytes text;
        if (!as_text(in, i, buf, &text)) {
            ret->kinds[i] = MR_VALUE_NULL;
            continue;
        }
        if (text.ptr == (const uint8_t *)buf) {
            text = mr_arena_copy(made, text);
            if (text.ptr == NULL) {
                return false;
            }
        }
        put_text(ret, i, text);
    }
    return true;
}

static void apply_lookup(const struct mr_lookup *lookup, const struct mr_expr_vector *in,
                         uint32_t count, struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        char buf[SCALAR_TEXT];
        struct mr_bytes key;
        struct mr_bytes value;
        if (as_text(in, i, buf, &key) && mr_lookup_find(lookup, key, &value)) {
            put_text(ret, i, value);
        } else {
            ret->kinds[i] = MR_VALUE_NULL;
        }
    }
}

bool mr_expr_apply_text(const struct mr_expr_node *node,
                        const struct mr_expr_vector *const *operands, uint32_t count,
                        struct mr_arena *made, locale_t c_locale, struct mr_expr_vector *ret) {
    switch (node->op) {
    case MR_OP_LOWER:
    case MR_OP_UPPER:
        return apply_case(node->op, operands[0], count, made, ret);
    case MR_OP_LENGTH:
        apply_length(operands[0], count, ret);
        return true;
    case MR_OP_TO_NUMBER:
        apply_to_number(operands[0], count, c_locale, ret);
        return true;
    case MR_OP_TO_TEXT:
        return apply_to_text(operands[0], count, made, ret);
    case MR_OP_LOOKUP:
        apply_lookup(node->as.lookup, operands[0], count, ret);
        return true;
    default:
        apply_part(node->op, operands, count, ret);
        return true;
    }
}
