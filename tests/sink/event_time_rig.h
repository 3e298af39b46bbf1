/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Event time rig: rules with every kind of window and pane, panes of them, and the two results stores beside each other.
 */
#include "tests/sink/memory_results.h"
#include "tests/sink/results_rig.h"

enum { EVENT_RULES = 5, EVENT_STARTS = 6, EVENT_KEYS = 3 };
enum event_rule { EVENT_SLIDING, EVENT_SESSION, EVENT_GLOBAL, EVENT_DISCARDING, EVENT_RETRACTING };

/* By enum event_rule; one key, k, and one metric, n. */
extern const struct mr_results_rule event_rules[EVENT_RULES];

/* A pane that borrows from itself: not to be copied. */
struct event_pane {
    struct mr_pane pane;
    uint8_t state[8];
    uint8_t bytes[16];
    struct mr_number number;
};

/* [start * 1000, 3 s more); key k < EVENT_KEYS; n and events are the value. */
void event_pane_make(struct event_pane *p, uint32_t rule, uint64_t start, uint64_t k, uint64_t revision, uint64_t value);
/* The same as a retraction. */
void event_pane_retract(struct event_pane *p);
/* Of any rule, a quarter of them retractions; a quarter of an older revision than seq. */
void event_pane_random(struct event_pane *p, uint64_t *random, uint64_t seq);

struct event_stores {
    struct rig_dir dir;
    struct mr_results *stores[2]; /* SQLite, memory */
    struct rig_read reads[2];
    uint64_t outbox_max;
    uint64_t random;
    uint64_t seq;
};

void event_stores_open(struct event_stores *p, uint64_t outbox_max, uint64_t random);
void event_stores_close(struct event_stores *p);
/* The file again, which is closed. */
void event_stores_open_file(struct event_stores *p);
/* In a transaction of its own. */
void event_store_put(struct mr_results *results, struct event_pane *pane, uint64_t seq);
