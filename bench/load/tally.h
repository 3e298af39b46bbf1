/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Tally: what a sending thread counts, readable by others while it does.
 *
 * Units       Histograms in ns.
 * Threads     One writer each; readers on any thread (relaxed: each number stands for itself).
 */
#include "base/histogram.h"

#include <stdatomic.h>

/* X(name, what) */
#define MR_LOAD_COUNTS(X)                                                                          \
    X(requests, "requests answered with verdicts")                                                 \
    X(events, "events in them")                                                                    \
    X(bytes, "bytes of these requests, sent once")                                                 \
    X(accepted, "events")                                                                          \
    X(duplicate, "events")                                                                         \
    X(late, "events")                                                                              \
    X(rejected, "events")                                                                          \
    X(pending, "events")                                                                           \
    X(planned_accepted, "as the plan has it")                                                      \
    X(planned_duplicate, "as the plan has it")                                                     \
    X(planned_late, "as the plan has it")                                                          \
    X(retried, "answers 503 or 429, after which the same bytes were sent again")                   \
    X(resent, "requests sent again because the connection ended or was silent")                    \
    X(uncertain, "events of requests sent again for either reason: an earlier sending may count")  \
    X(missed_slots, "requests sent a whole interval late or more: no connection was free")

struct mr_load_tally {
#define X(name, what) _Atomic uint64_t name;
    MR_LOAD_COUNTS(X)
#undef X
    struct mr_histogram latency; /* from due to answer */
    struct mr_histogram service; /* from the sending that was answered */
};

static inline void mr_load_count(_Atomic uint64_t *cell, uint64_t n) {
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline uint64_t mr_load_read(const _Atomic uint64_t *cell) {
    return atomic_load_explicit(cell, memory_order_relaxed);
}

/* Adds all of from. */
static inline void mr_load_tally_merge(struct mr_load_tally *into, const struct mr_load_tally *from) {
#define X(name, what) mr_load_count(&into->name, mr_load_read(&from->name));
    MR_LOAD_COUNTS(X)
#undef X
    mr_histogram_merge(&into->latency, &from->latency);
    mr_histogram_merge(&into->service, &from->service);
}
