/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Clock: time passed in, so that a simulator can own it.
 *
 * Units       wall_ms: milliseconds UTC since the Unix epoch. mono_ns: nanoseconds, monotonic, from an
 *             arbitrary start.
 * Threads     The system clock may be read by any thread.
 */
#include <stdint.h>

struct mr_clock {
    int64_t (*wall_ms)(struct mr_clock *clock);
    uint64_t (*mono_ns)(struct mr_clock *clock);
};

/* The clock of the machine; never NULL, lives for ever. */
struct mr_clock *mr_clock_system(void);

static inline int64_t mr_clock_wall_ms(struct mr_clock *clock) {
    return clock->wall_ms(clock);
}

static inline uint64_t mr_clock_mono_ns(struct mr_clock *clock) {
    return clock->mono_ns(clock);
}
