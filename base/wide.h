/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Wide: times beyond int64 on the way to a result: sums are made in 128 bits and cut off at its ends.
 *
 * Threads     Pure functions.
 */
#include <stdint.h>

static inline int64_t mr_wide_saturate(__int128_t value) {
    if (value > INT64_MAX) {
        return INT64_MAX;
    }
    return value < INT64_MIN ? INT64_MIN : (int64_t)value;
}

/* The greatest multiple of size, which is above 0, at or below value. */
static inline __int128_t mr_wide_floor(__int128_t value, int64_t size) {
    __int128_t rest = value % size;
    return value - (rest < 0 ? rest + size : rest);
}
