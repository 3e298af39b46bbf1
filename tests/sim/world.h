/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * World: one node on one thread: virtual clock, virtual disk, results in memory, the real pipeline, and clients
 * that repeat what was not answered. Everything follows from the seed.
 */
#include "pipeline/data.h"
#include "tests/disk/virtual_disk.h"
#include "tests/sim/random.h"
#include "tests/sink/memory_results.h"

#define SIM_RULES 2
#define SIM_REQUESTS_MAX 120
#define SIM_EVENTS_MAX 24

struct sim_settings {
    uint32_t shards;
    int64_t window_ms[SIM_RULES];
    int64_t lateness_ms[SIM_RULES];
    int64_t out_of_orderness_ms;
    int64_t idle_timeout_ms;
    int64_t max_future_ms;
    uint32_t segment_bytes;
    uint32_t keys;
    uint32_t requests;
    uint32_t crash_one_in; /* steps; 0: never */
    uint32_t fault_one_in;
};

/* What one event is, so that the model need not read JSON. */
struct sim_event {
    uint32_t id;
    int64_t ts_ms;
    uint32_t key;
    int32_t value;
    bool broken; /* not JSON: will be rejected */
};

enum sim_request_state { SIM_WAITING, SIM_UNDER_WAY, SIM_ANSWERED };

struct sim_request {
    struct sim_event events[SIM_EVENTS_MAX];
    uint32_t count;
    enum sim_request_state state;
};

/* An answer as a client saw it. */
struct sim_answer {
    uint32_t request;
    uint64_t lsn;
    uint8_t verdicts[SIM_EVENTS_MAX];
};

struct sim_clock {
    struct mr_clock base;
    int64_t wall_ms;
    uint64_t mono_ns;
};

struct sim_world {
    struct sim_random random;
    struct sim_settings settings;
    struct sim_clock clock;
    struct virtual_disk *disk;
    struct mr_config *config;
    struct mr_data data;
    struct mr_results_rule *results_rules; /* outlives restarts */
    struct mr_plan *rules_plan;
    struct mr_results *results;
    struct mr_pipeline *pipeline;
    struct mr_decoder *decoder;
    struct sim_request requests[SIM_REQUESTS_MAX];
    struct sim_answer *answers;
    uint32_t answer_count;
    uint32_t answer_cap;
    uint32_t next_id;
    uint32_t crashes;
    uint32_t restarts;
    uint32_t refusals;
    uint64_t trace; /* hash of everything observed */
};

void sim_world_open(struct sim_world *w, uint64_t seed);
void sim_world_close(struct sim_world *w);

/* One random thing: a station's step, a client's request, time passing, a fault, a crash. */
void sim_world_step(struct sim_world *w, bool faults);
/* Without faults until every request is answered and everything is flushed. */
void sim_world_drain(struct sim_world *w);
/* Steps, without time passing, until replay is over and no station has anything to do. */
void sim_world_settle(struct sim_world *w);
/* Power loss (or only the process dies) and start; retried until it comes up. */
void sim_world_crash(struct sim_world *w, bool power);
/* Whether the disk holds a record whose append failed: a start may find it there and take it, as it may. */
bool sim_world_has_unacknowledged_record(struct sim_world *w);
void sim_trace(struct sim_world *w, uint64_t value);
/* Sends a question and steps until it is answered. */
void sim_world_ask(struct sim_world *w, struct mr_ask *ask);
