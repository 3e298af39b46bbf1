/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Local: the times when this node decided ids of a stream by itself, because the shared store was away (outage: local).
 *
 * Idea        Another node may have counted the same ids meanwhile, so what was counted then is approximate. Which
 *             windows that are is known by the event times of what was decided so; afterwards the ids are claimed
 *             (pipeline/claimer_assert.c), which tells how many were counted twice.
 * Shape       A few spans, in the order of the log. Those close together in recorded time are one; when there are too many,
 *             the two oldest become one: no window is ever left out, some may be marked too many.
 * Owner       The sequencer: a function of the log, and part of checkpoints.
 */
#include "base/counters.h"
#include "base/pack.h"

#define MR_LOCAL_SPANS 8

struct mr_local_span {
    int64_t recorded_from_ms; /* of the records */
    int64_t recorded_to_ms;
    int64_t event_from_ms; /* of the events that may count, both inclusive; from > to: there are none */
    int64_t event_to_ms;
};

struct mr_local {
    struct mr_local_span spans[MR_LOCAL_SPANS];
    uint32_t count;
    mr_counter events; /* decided here, since the data directory was made */
};

/* recorded times never go back */
void mr_local_add(struct mr_local *local, const struct mr_local_span *span, uint32_t events);
/* Whether the window may hold some of them. */
static inline bool mr_local_touches(const struct mr_local *local, int64_t window_start_ms, int64_t window_end_ms) {
    for (uint32_t i = 0; i < local->count; i++) {
        const struct mr_local_span *span = &local->spans[i];
        bool any = span->event_from_ms <= span->event_to_ms;
        if (any && span->event_from_ms < window_end_ms && span->event_to_ms >= window_start_ms) {
            return true;
        }
    }
    return false;
}
/* The first recorded time of a span that ends at or after since_ms; INT64_MAX: there is none. */
int64_t mr_local_since(const struct mr_local *local, int64_t since_ms);

void mr_local_save(const struct mr_local *local, struct mr_buf *buf);
/* false: not one */
bool mr_local_load(struct mr_local *local, struct mr_unpack *unpack);
