/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sums and extremes: sum, avg, min and max.
 *
 * Shape       States as they lie in blocks: no padding, 8-byte aligned (an __int128 would ask for 16).
 * Cost        add: a few ns; the loops are over a whole column.
 */
#include "aggregate/metric.h"

/* sum and avg */
struct mr_sum_state {
    uint64_t int_lo; /* the two halves of an __int128 */
    uint64_t int_hi;
    double hi; /* the doubles: hi + lo, |lo| <= half a unit in the last place of hi */
    double lo;
    uint64_t values; /* how many; with the top bit: not all of them are ints */
};

/* min and max */
struct mr_extreme_state {
    uint64_t kind; /* MR_NUMBER_NULL, INT or DOUBLE */
    union {
        int64_t i;
        double d;
    };
};

void mr_sum_add(const struct mr_metric *metric, const struct mr_column *column, const uint32_t *events,
                uint8_t *const *states, uint32_t n);
void mr_sum_merge(struct mr_sum_state *into, const struct mr_sum_state *from);
struct mr_number mr_sum_finish(const struct mr_sum_state *s);
struct mr_number mr_avg_finish(const struct mr_sum_state *s);

void mr_extreme_add(const struct mr_metric *metric, const struct mr_column *column, const uint32_t *events,
                    uint8_t *const *states, uint32_t n);
void mr_extreme_merge(enum mr_metric_kind kind, struct mr_extreme_state *into, const struct mr_extreme_state *from);
bool mr_extreme_check(const struct mr_extreme_state *s);
struct mr_number mr_extreme_finish(const struct mr_extreme_state *s);

/* DOUBLE, or OVERFLOW when it is not finite. */
struct mr_number mr_number_of_double(double d);
