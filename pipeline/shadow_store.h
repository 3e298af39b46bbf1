/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Shadow store: a results store that leaves out the windows which begin too early.
 *
 * Idea        Where the log does not begin at its first record, the events before are gone. Those of a stream were
 *             recorded before the log's first record was, and none of them was further in the future than max_future:
 *
 *                 recorded:        gone      │first_ms          log
 *                 event times: ──────────────┼──────────┬──────────────────────▶
 *                                            └max_future┘ begins_ms: windows that begin here or later have all of their
 *                                                         events in the log
 *
 *             (A session may be one with an event up to a gap before it.) A copy of an event that is gone has its
 *             time, so it is in none of these windows either, whatever dedup does not know of it; but a copy without
 *             a time has that of its arrival.
 * Owner       The store it wraps stays the opener's.
 * Threads     As sink/results.h; there are no readers of it: they read the store it wraps.
 */
#include "pipeline/plan.h"
#include "sink/results.h"

struct mr_shadow_store {
    struct mr_results base;
    struct mr_results *inner;
    int64_t begins_ms[MR_RULES_MAX]; /* by rule; INT64_MIN: nothing is left out */
};

/* first_ms: when the log's first record was recorded; INT64_MIN: the log is whole. from_ms: rows that begin before it
 * are not wanted; INT64_MIN: all are. */
void mr_shadow_store_init(struct mr_shadow_store *store, struct mr_results *inner, const struct mr_plan *plan,
                          int64_t first_ms, int64_t from_ms);
/* As one of before, which has said from where on: begins_ms[rule_count]. */
void mr_shadow_store_init_from(struct mr_shadow_store *store, struct mr_results *inner, const int64_t *begins_ms,
                               uint32_t rule_count);
