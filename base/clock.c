/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include "base/check.h"

#include <time.h>

static struct timespec now(clockid_t id) {
    struct timespec t;
    int failed = clock_gettime(id, &t);
    MR_ASSERT(failed == 0);
    return t;
}

static int64_t wall_ms(struct mr_clock *clock) {
    (void)clock; /* stateless */
    struct timespec t = now(CLOCK_REALTIME);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint64_t mono_ns(struct mr_clock *clock) {
    (void)clock; /* stateless */
    struct timespec t = now(CLOCK_MONOTONIC);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct mr_clock *mr_clock_system(void) {
    static struct mr_clock system = {.wall_ms = wall_ms, .mono_ns = mono_ns};
    return &system;
}
