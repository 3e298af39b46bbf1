/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Model: what must have come out, computed from the log in the plainest way: one event after the other, a memory of
 * ids, a watermark, a table.
 *
 * Triggers    What a row says of a window that may still change is what was last fired: after each bundle the model looks
 *             at all groups that are not final. Of sessions it knows what is in them, not which panes came early.
 */
#include "tests/sim/ids.h"
#include "tests/sim/watermark.h"
#include "tests/sim/world.h"

struct sim_cell {
    uint32_t rule;
    uint32_t era; /* of the rule: it has begun anew so often */
    uint32_t key;
    int64_t window_ms; /* start */
    int64_t end_ms;
    uint64_t events;
    int64_t sum;
    uint32_t tags; /* a bit for each that came */
    bool gone;     /* a session that another one swallowed */
    uint32_t next; /* session of the key, cell + 1 */
    /* not of sessions: what was fired */
    bool changed; /* in this bundle */
    bool unsaid;  /* changed since the end */
    uint32_t fired;
    uint64_t said_events;
    int64_t said_sum;
    uint64_t counted_events; /* early_count counts from here on */
    int64_t waiting_ms; /* for the early pane, since; INT64_MIN: not */
    /* what the program says */
    bool found;
    bool stored;
    uint64_t seen_events; /* all panes that are discarding, and what has not been fired */
    int64_t seen_sum;
};

/* One EVENTS or REDRIVE record. */
struct sim_record {
    uint64_t lsn;
    uint64_t seq;
    int64_t recorded_ms;
    const struct sim_request *request;
    uint32_t first; /* of the request's events */
    uint32_t count;
    uint64_t from_lsn; /* REDRIVE: which event it was; 0: it is EVENTS */
    uint32_t from_index;
    bool future[SIM_EVENTS_MAX];
    bool redriven[SIM_EVENTS_MAX];
    uint8_t verdicts[SIM_EVENTS_MAX];
    bool dead[SIM_EVENTS_MAX]; /* must be among the dead letters */
    bool dead_found[SIM_EVENTS_MAX];
};

struct sim_model_stream {
    struct sim_ids ids;
    struct sim_watermark time;
    uint64_t verdicts[256];
    uint64_t observed;
    uint64_t contents[SIM_IDS_MAX]; /* what came with the id first; 0: not known */
    uint64_t conflicts;
    uint64_t accepted_before[SIM_RULES]; /* the rule began */
};

struct sim_model {
    struct sim_world *world;
    const struct sim_settings *settings; /* in force at the place in the log */
    struct sim_model_stream streams[SIM_STREAMS];
    int64_t recorded_ms;
    struct sim_cell *cells;
    uint32_t cell_count;
    uint32_t cell_cap;
    uint32_t sessions[SIM_RULES][SIM_KEYS_MAX]; /* the first cell of each key, + 1 */
    uint32_t *active; /* cells, not of sessions, that are not final; cell_cap */
    uint32_t active_count;
    uint32_t *index; /* of cells by hash, cell + 1; 2 x cell_cap slots */
    struct sim_record *records;
    uint32_t record_count;
    uint32_t record_cap;
    uint64_t redrives; /* accepted at last */
    uint64_t advances; /* WATERMARK records */
    bool unsure; /* redriven was what a repaired gap has taken, and a copy counted: docs/GUARANTEES.md, "Not promised" */
    uint32_t eras[SIM_RULES];
    int64_t floors_ms[SIM_RULES]; /* windows ending up to here were final under settings before */
};

/* From the log's durable records up to bundle last_seq. */
void sim_model_open(struct sim_world *w, uint64_t last_seq, struct sim_model *ret);
void sim_model_close(struct sim_model *m);
/* NULL: nothing was counted there. */
struct sim_cell *sim_model_cell(const struct sim_model *m, uint32_t rule, int64_t window_ms,
                                uint32_t key);
const struct sim_record *sim_model_record(const struct sim_model *m, uint64_t lsn);
/* Whether the window takes no more events. */
bool sim_model_final(const struct sim_model *m, uint32_t rule, int64_t end_ms);
/* The least of the rule's streams. */
int64_t sim_model_watermark(const struct sim_model *m, uint32_t rule);
/* Of all streams. */
uint64_t sim_model_verdicts(const struct sim_model *m, uint8_t verdict);
