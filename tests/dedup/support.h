/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Support: random numbers from a seed and fingerprints of numbered ids, for the tests of this
 * folder.
 */
#include "base/hash.h"

struct rng {
    uint64_t state;
};

/* SplitMix64. */
static inline uint64_t rng_next(struct rng *rng) {
    uint64_t x = rng->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Even in [0, bound). */
static inline uint64_t rng_below(struct rng *rng, uint64_t bound) {
    return (uint64_t)(((__uint128_t)rng_next(rng) * bound) >> 64);
}

/* How ids are mapped to fingerprints. */
enum fp_kind {
    FP_RANDOM,
    FP_ONE_HOME, /* all have the same home, in the middle */
    FP_AT_END,   /* all homes in the last 2 % of the slots: every chain goes around the end */
    FP_KINDS,
};

static inline struct mr_fingerprint fp_of(uint64_t n, enum fp_kind kind) {
    struct rng rng = {n * 977 + 5};
    struct mr_fingerprint fp = {.lo = rng_next(&rng), .hi = rng_next(&rng) >> 8};
    switch (kind) {
    case FP_ONE_HOME:
        fp.hi = (UINT64_C(1) << 55) | (n & 0xff);
        break;
    case FP_AT_END:
        fp.hi = (UINT64_MAX >> 8) - (fp.hi >> 6);
        break;
    case FP_RANDOM:
    case FP_KINDS:
        break;
    }
    return fp;
}
