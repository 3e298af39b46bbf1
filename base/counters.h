/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Counters: numbers one thread changes and any thread reads (for /metrics).
 *
 * Threads     One writer for mr_counter_add and mr_counter_set (a plain add, no lock prefix); any
 *             writer for mr_counter_add_shared; any reader. All relaxed: a counter orders nothing.
 */
#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t mr_counter;

static inline uint64_t mr_counter_read(const mr_counter *c) {
    return atomic_load_explicit(c, memory_order_relaxed);
}

static inline void mr_counter_set(mr_counter *c, uint64_t value) {
    atomic_store_explicit(c, value, memory_order_relaxed);
}

static inline void mr_counter_add(mr_counter *c, uint64_t n) {
    mr_counter_set(c, mr_counter_read(c) + n);
}

static inline void mr_counter_add_shared(mr_counter *c, uint64_t n) {
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}
