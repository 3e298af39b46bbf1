/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/metric_sum.h"

#include "aggregate/metric_value.h"

#include <math.h>

static_assert(sizeof(struct mr_sum_state) == 40, "data format");
static_assert(sizeof(struct mr_extreme_state) == 16, "data format");

static inline void *state_of(const struct mr_metric *metric, uint8_t *state) {
    return state + metric->offset;
}

void mr_sum_add(const struct mr_metric *metric, const struct mr_column *column, const uint32_t *events,
                uint8_t *const *states, uint32_t n) {
    /* Copies: the compiler has to take stores to a state for changes of anything. */
    const union mr_value *values = column->values;
    const uint8_t *kinds = column->kinds;
    const uint32_t offset = metric->offset;
    for (uint32_t k = 0; k < n; k++) {
        struct mr_sum_state *s = (void *)(states[k] + offset);
        uint32_t e = events[k];
        if (kinds[e] == MR_VALUE_INT) {
            mr_sum_add_int(s, values[e].i);
            s->values++;
        } else if (kinds[e] == MR_VALUE_DOUBLE) {
            mr_sum_add_double(s, values[e].d);
            s->values = (s->values + 1) | MR_SUM_HAS_DOUBLES;
        }
    }
}

struct mr_number mr_number_of_double(double d) {
    return (struct mr_number){.kind = isfinite(d) ? MR_NUMBER_DOUBLE : MR_NUMBER_OVERFLOW, .d = d};
}

/* Doubles and ints in one double-double. Three steps of 53 bits take an int of 128 bits whole. */
static struct mr_sum_state join_sums(const struct mr_sum_state *s) {
    struct mr_sum_state joined = *s;
    __int128_t rest = mr_sum_int(s);
    for (int step = 0; step < 3; step++) {
        double part = (double)rest;
        mr_sum_add_double(&joined, part);
        rest -= (__int128_t)part;
    }
    MR_ASSERT(rest == 0);
    return joined;
}

struct mr_number mr_sum_finish(const struct mr_sum_state *s) {
    if ((s->values & MR_SUM_HAS_DOUBLES) != 0) {
        return mr_number_of_double(join_sums(s).hi);
    }
    __int128_t sum = mr_sum_int(s);
    if (sum >= INT64_MIN && sum <= INT64_MAX) {
        return (struct mr_number){.kind = MR_NUMBER_INT, .i = (int64_t)sum};
    }
    return (struct mr_number){.kind = MR_NUMBER_OVERFLOW, .d = (double)sum};
}

struct mr_number mr_avg_finish(const struct mr_sum_state *s) {
    double n = (double)(s->values & ~MR_SUM_HAS_DOUBLES);
    if (n == 0) {
        return (struct mr_number){.kind = MR_NUMBER_NULL, .i = 0};
    }
    struct mr_sum_state joined = join_sums(s);
    double quotient = joined.hi / n;
    if (!isfinite(quotient)) {
        return mr_number_of_double(quotient);
    }
    double rest = fma(-quotient, n, joined.hi) + joined.lo; /* what the division left, exactly */
    return mr_number_of_double(quotient + rest / n);
}

static int compare_extremes(const struct mr_extreme_state *a, const struct mr_extreme_state *b) {
    if (a->kind == MR_NUMBER_INT) {
        return b->kind == MR_NUMBER_INT ? (a->i > b->i) - (a->i < b->i)
                                        : mr_compare_int_double(a->i, b->d);
    }
    return b->kind == MR_NUMBER_INT ? -mr_compare_int_double(b->i, a->d)
                                    : (a->d > b->d) - (a->d < b->d);
}

/* Of 5 and 5.0 the int is kept, whichever came first: else the order would show. */
static inline void take_extreme(enum mr_metric_kind kind, struct mr_extreme_state *into,
                                const struct mr_extreme_state *from) {
    if (from->kind == MR_NUMBER_NULL) {
        return;
    }
    if (into->kind == MR_NUMBER_NULL) {
        *into = *from;
        return;
    }
    int order = compare_extremes(from, into);
    order = kind == MR_METRIC_MIN ? order : -order;
    if (order < 0 || (order == 0 && from->kind == MR_NUMBER_INT)) {
        *into = *from;
    }
}

void mr_extreme_add(const struct mr_metric *metric, const struct mr_column *column, const uint32_t *events,
                    uint8_t *const *states, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        struct mr_extreme_state value = {.kind = MR_NUMBER_NULL};
        uint32_t e = events[k];
        if (column->kinds[e] == MR_VALUE_INT) {
            value.kind = MR_NUMBER_INT;
            value.i = column->values[e].i;
        } else if (column->kinds[e] == MR_VALUE_DOUBLE) {
            value.kind = MR_NUMBER_DOUBLE;
            value.d = column->values[e].d + 0.0; /* -0.0 becomes 0.0 */
        }
        take_extreme(metric->kind, state_of(metric, states[k]), &value);
    }
}

void mr_extreme_merge(enum mr_metric_kind kind, struct mr_extreme_state *into, const struct mr_extreme_state *from) {
    take_extreme(kind, into, from);
}

bool mr_extreme_check(const struct mr_extreme_state *s) {
    return s->kind == MR_NUMBER_INT || (s->kind == MR_NUMBER_DOUBLE && !isnan(s->d)) ||
           (s->kind == MR_NUMBER_NULL && s->i == 0);
}

struct mr_number mr_extreme_finish(const struct mr_extreme_state *s) {
    if (s->kind == MR_NUMBER_DOUBLE) {
        return (struct mr_number){.kind = MR_NUMBER_DOUBLE, .d = s->d};
    }
    return (struct mr_number){.kind = (enum mr_number_kind)s->kind, .i = s->i};
}
