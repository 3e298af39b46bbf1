/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Pane: one firing of a (rule, window, key), as it goes to the results store and to sinks.
 *
 * Idea        A pane carries the whole value and a revision, so writing it twice changes nothing (L6).
 * Shape       The numbers of all metrics in the rule's order; the mergeable state beside them.
 * Units       Times: event time in ms. revision: the seq of the bundle that fired it; it grows with log
 *             order, and one (rule, window, key) fires at most once a bundle.
 * Owner       Borrows key, state and numbers from whoever hands it over, for the length of the call.
 */
#include "base/bytes.h"

enum mr_timing { MR_TIMING_EARLY, MR_TIMING_ON_TIME, MR_TIMING_LATE };

enum mr_number_kind {
    MR_NUMBER_NULL, /* min, max, avg of nothing */
    MR_NUMBER_INT,
    MR_NUMBER_DOUBLE,
    MR_NUMBER_OVERFLOW, /* an int64 sum that left its range; d holds the value as a double */
};

struct mr_number {
    enum mr_number_kind kind;
    union {
        int64_t i;
        double d;
    };
};

struct mr_pane {
    uint32_t rule; /* index in the plan */
    enum mr_timing timing;
    bool final; /* nothing can change it any more */
    int64_t window_start_ms;
    int64_t window_end_ms; /* exclusive */
    uint64_t revision;
    uint64_t events;
    struct mr_bytes key;   /* encoded: base/key.h */
    struct mr_bytes state; /* encoded: aggregate/metric.h */
    const struct mr_number *numbers;
    uint32_t number_count;
};
