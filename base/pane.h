/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Pane: one firing of a (rule, window, key), as it goes to the results store and to sinks.
 *
 * Idea        A pane carries the whole value and a revision, so writing it twice changes nothing (L6).
 * Shape       The mergeable state, and the numbers of all metrics in the rule's order, which are made from it where
 *             they are wanted: a pane in a parcel has none.
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
    MR_NUMBER_BOOL,
    MR_NUMBER_TEXT, /* UTF-8 */
    MR_NUMBER_JSON, /* an object or array, as JSON text: quantiles, top, histogram, collect */
};

struct mr_number {
    enum mr_number_kind kind;
    uint32_t len; /* TEXT, JSON */
    union {
        int64_t i; /* BOOL: 0 or 1 */
        double d;
        const uint8_t *text;
    };
};

struct mr_pane {
    uint32_t rule; /* index in the plan */
    enum mr_timing timing;
    bool final; /* nothing can change it any more */
    /* Takes back what was said of (window_start, key): nothing replaces it. A session that another one swallowed. No
     * numbers and no state. */
    bool retraction;
    uint32_t index; /* of this firing among those of its (rule, window, key), from 0 */
    int64_t window_start_ms;
    int64_t window_end_ms; /* exclusive */
    uint64_t revision;
    uint64_t events;
    struct mr_bytes key;   /* encoded: base/key.h; DISCARDING: with the pane's index at its end */
    struct mr_bytes state; /* encoded: aggregate/metric.h */
    const struct mr_number *numbers; /* NULL: not made */
    uint32_t number_count;
};

/*
 * A flush parcel: what one combine shard has for the flusher from one bundle, or a slice of it.
 *
 * Shape       panes: encoded one behind the other (mr_pane_append, mr_pane_next). dead: dead-letter
 *             entries (base/dead.h). finals: every window of `rule` that ends at or before `end_ms` is
 *             final now; applied after the panes.
 * Owner       The shard allocates it, pushing hands it over, the flusher closes it.
 */
struct mr_final {
    uint32_t rule;
    int64_t end_ms;
};

struct mr_flush {
    uint64_t seq;
    struct mr_buf panes;
    uint32_t pane_count;
    struct mr_buf dead;
    uint32_t dead_count;
    void *ask; /* a question that travels with the parcels (pipeline/); NULL mostly */
    struct mr_flush *next; /* in the flusher's list */
    struct mr_final *finals; /* mr_alloc, NULL when final_count is 0 */
    uint32_t final_count;
};

/* NULL when out of memory. */
struct mr_flush *mr_flush_open(uint64_t seq);
void mr_flush_close(struct mr_flush *flush); /* NULL is fine */

void mr_pane_append(struct mr_buf *buf, const struct mr_pane *pane);
/* Takes the first pane off *rest; its pointers borrow from rest's bytes. false at the end. */
bool mr_pane_next(struct mr_bytes *rest, struct mr_pane *ret);
