/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sums and extremes: sum, avg, min and max.
 *
 * Shape       States as they lie in blocks: no padding, 8-byte aligned (an __int128 would ask for 16).
 * Cost        add: a few ns; the loops are over a whole column. Merging is inline: it is done once for each partial.
 */
#include "aggregate/metric.h"

#include <math.h>

/* sum and avg */
struct mr_sum_state {
    uint64_t int_lo; /* the two halves of an __int128 */
    uint64_t int_hi;
    double hi; /* the doubles: hi + lo, |lo| <= half a unit in the last place of hi */
    double lo;
    uint64_t values; /* how many; with HAS_DOUBLES: not all of them are ints */
};

/* min and max */
struct mr_extreme_state {
    uint64_t kind; /* MR_NUMBER_NULL, INT or DOUBLE */
    union {
        int64_t i;
        double d;
    };
};

#define MR_SUM_HAS_DOUBLES (UINT64_C(1) << 63)

static inline void mr_sum_add_int(struct mr_sum_state *s, __int128_t value) {
    __uint128_t sum = (__uint128_t)s->int_hi << 64 | s->int_lo;
    sum += (__uint128_t)value;
    s->int_lo = (uint64_t)sum;
    s->int_hi = (uint64_t)(sum >> 64);
}

static inline __int128_t mr_sum_int(const struct mr_sum_state *s) {
    return (__int128_t)((__uint128_t)s->int_hi << 64 | s->int_lo);
}

/* Knuth's two-sum into a double-double (Dekker): nothing is lost while the sum, counted in units of
 * the smallest bit of any value, stays below 2^105. */
static inline void mr_sum_add_double(struct mr_sum_state *s, double x) {
    double sum = s->hi + x;
    double part = sum - s->hi;
    double error = (s->hi - (sum - part)) + (x - part) + s->lo;
    double hi = sum + error;
    if (__builtin_expect(!isfinite(hi), 0)) {
        s->hi = isnan(sum) ? (double)NAN : sum; /* one NaN on all machines */
        s->lo = 0;
        return;
    }
    s->lo = error - (hi - sum);
    s->hi = hi;
}

static inline void mr_sum_merge(struct mr_sum_state *into, const struct mr_sum_state *from) {
    mr_sum_add_int(into, mr_sum_int(from));
    if ((from->values & MR_SUM_HAS_DOUBLES) != 0) {
        mr_sum_add_double(into, from->hi);
        mr_sum_add_double(into, from->lo);
    }
    uint64_t values = (into->values & ~MR_SUM_HAS_DOUBLES) + (from->values & ~MR_SUM_HAS_DOUBLES);
    into->values = values | ((into->values | from->values) & MR_SUM_HAS_DOUBLES);
}

void mr_sum_add(const struct mr_metric *metric, const struct mr_column *column, const uint32_t *events,
                uint8_t *const *states, uint32_t n);
struct mr_number mr_sum_finish(const struct mr_sum_state *s);
struct mr_number mr_avg_finish(const struct mr_sum_state *s);

void mr_extreme_add(const struct mr_metric *metric, const struct mr_column *column, const uint32_t *events,
                    uint8_t *const *states, uint32_t n);
void mr_extreme_merge(enum mr_metric_kind kind, struct mr_extreme_state *into, const struct mr_extreme_state *from);
bool mr_extreme_check(const struct mr_extreme_state *s);
struct mr_number mr_extreme_finish(const struct mr_extreme_state *s);

/* DOUBLE, or OVERFLOW when it is not finite. */
struct mr_number mr_number_of_double(double d);
