/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Moments: variance and standard deviation of the population, mergeable.
 *
 * Idea        Sums of d and d^2, d = value - shift, in double-doubles of 106 bits; the shift is the first value that
 *             came. As it is one of the values, no more than a factor n is lost to cancellation between the sums:
 *             with n = 10^9 there are still more than 20 digits. So the result is the same in any order of merges, to
 *             far less than 10^-12. A merge moves the other's sums to this shift.
 * Numbers     Right while differences are within 10^-140 .. 10^150; larger ones are OVERFLOW with an infinity.
 * Sources     T. Chan, G. Golub, R. LeVeque, Algorithms for computing the sample variance (1979/1983): shifted data,
 *             and the merge. T. Dekker, A floating-point technique for extending the available precision (1971).
 */
#include "aggregate/metric.h"

struct mr_moments_state {
    uint64_t values;
    double shift;
    double sum_hi; /* of value - shift */
    double sum_lo;
    double squares_hi; /* infinite for good when something left the range of doubles; sum is 0 then */
    double squares_lo;
};

void mr_moments_add(const struct mr_metric *metric, const struct mr_column *column, const uint32_t *events,
                    uint8_t *const *states, uint32_t n);
void mr_moments_merge(struct mr_moments_state *into, const struct mr_moments_state *from);
/* NULL of no values. */
struct mr_number mr_variance_finish(const struct mr_moments_state *s);
struct mr_number mr_stddev_finish(const struct mr_moments_state *s);
