/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic of expressions: ints stay ints while they fit, then they are doubles; over the range of
 * a double, and for a division by zero, null.
 */
#include "base/check.h"
#include "event/expr_code.h"

#include <math.h>

#define ALWAYS_INLINE __attribute__((always_inline)) inline

static inline double as_double(uint8_t kind, union mr_expr_datum value) {
    return kind == MR_VALUE_INT ? (double)value.i : value.d;
}

static inline uint8_t put_double(double d, union mr_expr_datum *ret) {
    ret->d = d;
    return isfinite(d) ? MR_VALUE_DOUBLE : MR_VALUE_NULL;
}

static inline uint8_t put_int(int64_t i, union mr_expr_datum *ret) {
    ret->i = i;
    return MR_VALUE_INT;
}

static ALWAYS_INLINE uint8_t int_math(uint8_t op, int64_t a, int64_t b, union mr_expr_datum *ret) {
    int64_t i = 0;
    switch (op) {
    case MR_OP_ADD:
        return __builtin_add_overflow(a, b, &i) ? put_double((double)a + (double)b, ret)
                                                : put_int(i, ret);
    case MR_OP_SUBTRACT:
        return __builtin_sub_overflow(a, b, &i) ? put_double((double)a - (double)b, ret)
                                                : put_int(i, ret);
    case MR_OP_MULTIPLY:
        return __builtin_mul_overflow(a, b, &i) ? put_double((double)a * (double)b, ret)
                                                : put_int(i, ret);
    case MR_OP_DIVIDE:
        return b == 0 ? MR_VALUE_NULL : put_double((double)a / (double)b, ret);
    default: /* INT64_MIN % -1 traps */
        return b == 0 ? MR_VALUE_NULL : put_int(b == -1 ? 0 : a % b, ret);
    }
}

static ALWAYS_INLINE uint8_t double_math(uint8_t op, double a, double b, union mr_expr_datum *ret) {
    switch (op) {
    case MR_OP_ADD:
        return put_double(a + b, ret);
    case MR_OP_SUBTRACT:
        return put_double(a - b, ret);
    case MR_OP_MULTIPLY:
        return put_double(a * b, ret);
    case MR_OP_DIVIDE:
        return b == 0 ? MR_VALUE_NULL : put_double(a / b, ret);
    default:
        return b == 0 ? MR_VALUE_NULL : put_double(fmod(a, b), ret);
    }
}

static ALWAYS_INLINE void math_loop(uint8_t op, const struct mr_expr_vector *a,
                                    const struct mr_expr_vector *b, uint32_t count,
                                    struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        uint8_t ka = a->kinds[i];
        uint8_t kb = b->kinds[i];
        uint8_t kind = MR_VALUE_NULL;
        if (ka == MR_VALUE_INT && kb == MR_VALUE_INT) {
            kind = int_math(op, a->values[i].i, b->values[i].i, &ret->values[i]);
        } else if (mr_expr_is_number(ka) && mr_expr_is_number(kb)) {
            kind = double_math(op, as_double(ka, a->values[i]), as_double(kb, b->values[i]),
                               &ret->values[i]);
        }
        ret->kinds[i] = kind;
    }
}

/* A whole double as an int where it fits: floor(3.7) is 3. */
static uint8_t put_whole(double d, union mr_expr_datum *ret) {
    return d >= -0x1p63 && d < 0x1p63 ? put_int((int64_t)d, ret) : put_double(d, ret);
}

static uint8_t int_alone(uint8_t op, int64_t i, union mr_expr_datum *ret) {
    bool turn = op == MR_OP_MINUS || (op == MR_OP_ABS && i < 0);
    if (turn && i == INT64_MIN) {
        return put_double(0x1p63, ret);
    }
    return put_int(turn ? -i : i, ret);
}

static uint8_t double_alone(uint8_t op, double d, union mr_expr_datum *ret) {
    switch (op) {
    case MR_OP_MINUS:
        return put_double(-d, ret);
    case MR_OP_ABS:
        return put_double(fabs(d), ret);
    case MR_OP_FLOOR:
        return put_whole(floor(d), ret);
    case MR_OP_CEIL:
        return put_whole(ceil(d), ret);
    default:
        MR_ASSERT(op == MR_OP_ROUND);
        return put_whole(round(d), ret);
    }
}

static void alone_loop(uint8_t op, const struct mr_expr_vector *in, uint32_t count,
                       struct mr_expr_vector *ret) {
    for (uint32_t i = 0; i < count; i++) {
        uint8_t kind = in->kinds[i];
        ret->kinds[i] = kind == MR_VALUE_INT ? int_alone(op, in->values[i].i, &ret->values[i])
                        : kind == MR_VALUE_DOUBLE
                            ? double_alone(op, in->values[i].d, &ret->values[i])
                            : MR_VALUE_NULL;
    }
}

void mr_expr_apply_math(uint8_t op, const struct mr_expr_vector *const *operands, uint32_t count,
                        struct mr_expr_vector *ret) {
    switch (op) {
    case MR_OP_ADD:
        math_loop(MR_OP_ADD, operands[0], operands[1], count, ret);
        break;
    case MR_OP_SUBTRACT:
        math_loop(MR_OP_SUBTRACT, operands[0], operands[1], count, ret);
        break;
    case MR_OP_MULTIPLY:
        math_loop(MR_OP_MULTIPLY, operands[0], operands[1], count, ret);
        break;
    case MR_OP_DIVIDE:
        math_loop(MR_OP_DIVIDE, operands[0], operands[1], count, ret);
        break;
    case MR_OP_REMAINDER:
        math_loop(MR_OP_REMAINDER, operands[0], operands[1], count, ret);
        break;
    default:
        alone_loop(op, operands[0], count, ret);
        break;
    }
}
