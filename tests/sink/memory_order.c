/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sink/memory_order.h"

#include <math.h>

/* Long double holds every int64 and every double. */
static long double value_of(const struct mr_number *n) {
    bool whole = n->kind == MR_NUMBER_INT || n->kind == MR_NUMBER_BOOL;
    return whole ? (long double)n->i : (long double)n->d;
}

static bool is_text(const struct mr_number *n) {
    return n->kind == MR_NUMBER_TEXT || n->kind == MR_NUMBER_JSON;
}

static int class_of(const struct mr_number *n) {
    if (is_text(n)) {
        return 2;
    }
    bool nothing = n->kind == MR_NUMBER_NULL ||
                   ((n->kind == MR_NUMBER_DOUBLE || n->kind == MR_NUMBER_OVERFLOW) && isnan(n->d));
    return nothing ? 0 : 1;
}

int mr_memory_compare_number(const struct mr_number *a, const struct mr_number *b) {
    int of_a = class_of(a);
    int of_b = class_of(b);
    if (of_a != of_b || of_a == 0) {
        return of_a - of_b;
    }
    if (of_a == 2) {
        return mr_bytes_compare(mr_bytes_of(a->text, a->len), mr_bytes_of(b->text, b->len));
    }
    return (value_of(a) > value_of(b)) - (value_of(a) < value_of(b));
}
