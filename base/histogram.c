/* SPDX-License-Identifier: Apache-2.0 */
#include "base/histogram.h"

#include "base/check.h"

#include <math.h>
#include <stdatomic.h>
#include <stddef.h>

/*
 * A value below 64 is its own bucket. Above, the six highest bits choose it: with
 * shift = (highest bit) - 5,
 *
 *     value    1 0 1 1 0 1 1 0 1 1 0       shift 5
 *              ^^^^^^^^^^^ value >> shift = 45, in [32, 64)
 *     bucket   shift * 32 + 45
 */
enum { STEPS_LOG = 5 };

static_assert(MR_HISTOGRAM_STEPS == 1 << STEPS_LOG,
              "a step is a value of the bits behind the highest");
static_assert(MR_HISTOGRAM_BUCKETS ==
                  (63 - STEPS_LOG) * MR_HISTOGRAM_STEPS + 2 * MR_HISTOGRAM_STEPS,
              "the highest bit 63, all steps set, is the last bucket");

static size_t bucket_of(uint64_t value) {
    unsigned highest = 63 - (unsigned)__builtin_clzll(value | MR_HISTOGRAM_STEPS);
    unsigned shift = highest - STEPS_LOG;
    return shift * MR_HISTOGRAM_STEPS + (size_t)(value >> shift);
}

/* The greatest value of a bucket. */
static uint64_t bucket_bound(size_t bucket) {
    MR_ASSERT(bucket < MR_HISTOGRAM_BUCKETS);
    if (bucket < 2 * MR_HISTOGRAM_STEPS) {
        return bucket;
    }
    unsigned shift = (unsigned)(bucket / MR_HISTOGRAM_STEPS) - 1;
    uint64_t lead = bucket - (size_t)shift * MR_HISTOGRAM_STEPS;
    return (lead << shift) + ((UINT64_C(1) << shift) - 1);
}

static uint64_t read(const _Atomic uint64_t *cell) {
    return atomic_load_explicit(cell, memory_order_relaxed);
}

/* One writer: a plain add. Relaxed: each cell stands for itself. */
static void add(_Atomic uint64_t *cell, uint64_t n) {
    atomic_store_explicit(cell, read(cell) + n, memory_order_relaxed);
}

static void raise_max(struct mr_histogram *h, uint64_t value) {
    if (value > read(&h->max)) {
        atomic_store_explicit(&h->max, value, memory_order_relaxed);
    }
}

void mr_histogram_add(struct mr_histogram *h, uint64_t value) {
    mr_histogram_add_many(h, value, 1);
}

void mr_histogram_add_many(struct mr_histogram *h, uint64_t value, uint64_t count) {
    if (count == 0) {
        return;
    }
    size_t bucket = bucket_of(value);
    MR_ASSERT(bucket < MR_HISTOGRAM_BUCKETS);
    add(&h->counts[bucket], count);
    add(&h->count, count);
    add(&h->sum, value * count);
    raise_max(h, value);
}

uint64_t mr_histogram_count(const struct mr_histogram *h) {
    return read(&h->count);
}

uint64_t mr_histogram_sum(const struct mr_histogram *h) {
    return read(&h->sum);
}

uint64_t mr_histogram_max(const struct mr_histogram *h) {
    return read(&h->max);
}

/* The rank is taken from the buckets' own sum: `count` may be a moment ahead of or behind them. */
uint64_t mr_histogram_quantile(const struct mr_histogram *h, double share) {
    MR_ASSERT(share >= 0 && share <= 1);
    uint64_t total = 0;
    for (size_t i = 0; i < MR_HISTOGRAM_BUCKETS; i++) {
        total += read(&h->counts[i]);
    }
    if (total == 0) {
        return 0;
    }
    double exact = ceil(share * (double)total);
    uint64_t rank = exact < 1 ? 1 : exact >= (double)total ? total : (uint64_t)exact;
    uint64_t seen = 0;
    for (size_t i = 0; i < MR_HISTOGRAM_BUCKETS; i++) {
        seen += read(&h->counts[i]);
        if (seen >= rank) { /* counts only grow, so the rank is reached */
            uint64_t bound = bucket_bound(i);
            uint64_t max = read(&h->max);
            return bound > max && bucket_of(max) == i ? max : bound;
        }
    }
    MR_UNREACHABLE();
}

uint64_t mr_histogram_count_below(const struct mr_histogram *h, uint64_t bound) {
    uint64_t count = 0;
    size_t last = bucket_of(bound);
    for (size_t i = 0; i <= last; i++) {
        count += read(&h->counts[i]);
    }
    return count;
}

void mr_histogram_merge(struct mr_histogram *h, const struct mr_histogram *from) {
    MR_ASSERT(h != from);
    for (size_t i = 0; i < MR_HISTOGRAM_BUCKETS; i++) {
        add(&h->counts[i], read(&from->counts[i]));
    }
    add(&h->count, read(&from->count));
    add(&h->sum, read(&from->sum));
    raise_max(h, read(&from->max));
}

void mr_histogram_check(const struct mr_histogram *h) {
    uint64_t total = 0;
    size_t highest = 0;
    for (size_t i = 0; i < MR_HISTOGRAM_BUCKETS; i++) {
        total += read(&h->counts[i]);
        highest = read(&h->counts[i]) > 0 ? i : highest;
    }
    MR_ASSERT(total == read(&h->count));
    MR_ASSERT(total == 0 || bucket_of(read(&h->max)) == highest);
}
