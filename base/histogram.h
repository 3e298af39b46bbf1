/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Histogram: counts of values in log-linear buckets, as HdrHistogram: every value is kept to within
 * 1/32 (3.1 %) of itself, and those below 64 exactly.
 *
 * Shape       60 runs of 32 steps (the first two for 0 to 63, then one for each power of two) of uint64
 *             counts, 15 KiB. All zeros is an empty histogram.
 * Units       The caller's (ns by habit); any uint64. The sum wraps.
 * Threads     One writer; readers on other threads may call the read functions at any time and see
 *             each count as it was at some moment (relaxed atomics; nothing is paired).
 * Cost        add: about 5 ns. The others but count, sum and max: O(buckets).
 * Invariants  I1 the buckets add up to count.   I2 max lies in the highest bucket that is not empty.
 */
#include <stdint.h>

#define MR_HISTOGRAM_STEPS 32
#define MR_HISTOGRAM_BUCKETS (59 * MR_HISTOGRAM_STEPS + MR_HISTOGRAM_STEPS)

struct mr_histogram {
    _Atomic uint64_t counts[MR_HISTOGRAM_BUCKETS];
    _Atomic uint64_t count;
    _Atomic uint64_t sum;
    _Atomic uint64_t max;
};

void mr_histogram_add(struct mr_histogram *h, uint64_t value);
void mr_histogram_add_many(struct mr_histogram *h, uint64_t value, uint64_t count);
uint64_t mr_histogram_count(const struct mr_histogram *h);
uint64_t mr_histogram_sum(const struct mr_histogram *h);
uint64_t mr_histogram_max(const struct mr_histogram *h);
/* The least bucket bound that at least share (0..1) of the values are below or equal to, but no more than
 * the max; 0 if empty. */
uint64_t mr_histogram_quantile(const struct mr_histogram *h, double share);
/* How many values are <= bound, to within a bucket: all of the bucket that holds bound are counted (for
 * Prometheus' cumulative buckets). */
uint64_t mr_histogram_count_below(const struct mr_histogram *h, uint64_t bound);
/* Adds all of from into h, which is another. */
void mr_histogram_merge(struct mr_histogram *h, const struct mr_histogram *from);

/* Asserts I1 and I2; only while nobody writes. */
void mr_histogram_check(const struct mr_histogram *h);
