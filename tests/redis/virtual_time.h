/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Virtual time: a clock that a test moves. wall and mono go together. */
#include "base/clock.h"

#define VIRTUAL_TIME_WALL_MS INT64_C(1700000000000)

struct virtual_time {
    struct mr_clock clock;
    uint64_t ns;
};

static inline int64_t virtual_time_wall_ms(struct mr_clock *clock) {
    return VIRTUAL_TIME_WALL_MS + (int64_t)(((struct virtual_time *)clock)->ns / 1000000);
}

static inline uint64_t virtual_time_mono_ns(struct mr_clock *clock) {
    return ((struct virtual_time *)clock)->ns;
}

static inline void virtual_time_init(struct virtual_time *time) {
    *time = (struct virtual_time){{virtual_time_wall_ms, virtual_time_mono_ns}, 1000000000};
}

/* A `pass` of virtual_redis_options; ctx is the virtual_time. */
static inline void virtual_time_pass(void *ctx, uint64_t ns) {
    ((struct virtual_time *)ctx)->ns += ns;
}
