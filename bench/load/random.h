/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Random: numbers that are functions of (seed, n) alone, so that the verifier can ask again for any event.
 *
 * Idea        SplitMix64's finalizer over a counter: no state, any n in any order, on any thread. A subject (ids, keys,
 *             duplicates …) has a seed of its own, so that choosing one option does not change another's numbers.
 * Cost        About 2 ns; calls for different n overlap.
 * Sources     Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators (2014).
 */
#include <stdint.h>

enum mr_load_subject {
    MR_LOAD_ID_HIGH,
    MR_LOAD_ID_LOW,
    MR_LOAD_KEY,
    MR_LOAD_FIELDS,
    MR_LOAD_TIME,
    MR_LOAD_LATE,
    MR_LOAD_REPEAT,
    MR_LOAD_REPEAT_REQUEST,
    MR_LOAD_SUBJECTS
};

static inline uint64_t mr_load_mix(uint64_t z) {
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* What `random` of a subject starts from. */
static inline uint64_t mr_load_seed(uint64_t seed, enum mr_load_subject subject) {
    return mr_load_mix(mr_load_mix(seed + UINT64_C(0x9e3779b97f4a7c15)) + (uint64_t)subject + 1);
}

/* Number n of a sequence. Different n of one sequence never give the same number. */
static inline uint64_t mr_load_random(uint64_t subject_seed, uint64_t n) {
    return mr_load_mix(subject_seed + n * UINT64_C(0x9e3779b97f4a7c15));
}

/* A random number evenly to [0, count), count > 0. */
static inline uint64_t mr_load_below(uint64_t random, uint64_t count) {
    return (uint64_t)(((__uint128_t)random * count) >> 64);
}

/* The random numbers below this are a share (0..1) of all. */
static inline uint64_t mr_load_cut(double share) {
    return share >= 1 ? UINT64_MAX : (uint64_t)(share * 18446744073709551616.0);
}
