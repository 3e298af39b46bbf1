/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Histogram: counts of values in log-linear buckets, as HdrHistogram: every value is kept to within
 * 1/32 (3.1 %) of itself.
 *
 * Shape       64 powers of two x 32 steps of uint64 counts, 16 KiB.
 * Units       The caller's (ns by habit); 0 to 2^63.
 * Threads     One writer; readers on other threads may call the read functions at any time and see
 *             each count as it was at some moment (relaxed atomics; nothing is paired).
 * Cost        add: about 2 ns.
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
/* The least bucket bound that at least share (0..1) of the values are below or equal to; 0 if empty. */
uint64_t mr_histogram_quantile(const struct mr_histogram *h, double share);
/* How many values are <= bound, to within a bucket (for Prometheus' cumulative buckets). */
uint64_t mr_histogram_count_below(const struct mr_histogram *h, uint64_t bound);
/* Adds all of from into h. */
void mr_histogram_merge(struct mr_histogram *h, const struct mr_histogram *from);
