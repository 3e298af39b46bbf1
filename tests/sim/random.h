/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Random: SplitMix64 (Steele, Lea, Flood), so that a seed is a whole run. */
#include <stdbool.h>
#include <stdint.h>

struct sim_random {
    uint64_t state;
};

static inline uint64_t sim_mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Mixed: the generator counts up, so that neighbours would be one sequence, begun at other places. */
static inline struct sim_random sim_random_of(uint64_t seed) {
    return (struct sim_random){sim_mix(sim_mix(seed + 0x9e3779b97f4a7c15u))};
}

static inline uint64_t sim_next(struct sim_random *r) {
    return sim_mix(r->state += 0x9e3779b97f4a7c15u);
}

/* In [0, bound). */
static inline uint64_t sim_below(struct sim_random *r, uint64_t bound) {
    return (uint64_t)(((__uint128_t)sim_next(r) * bound) >> 64);
}

/* True one time in n. */
static inline bool sim_one_in(struct sim_random *r, uint64_t n) {
    return sim_below(r, n) == 0;
}
