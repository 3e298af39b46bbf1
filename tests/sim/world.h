/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * World: one node on one thread: virtual clock, virtual disk, results in memory, the real pipeline, and clients
 * that repeat what was not answered. Everything follows from the seed.
 *
 *     settings ──▶ world ── step ──▶ faults   what goes wrong (faults.h)
 *                    │               clients  requests and answers (clients.h)
 *                    │               queries  questions, compared with the model (queries.h)
 *                    ▼               invariants (invariants.h)
 *                  life: start, stop, crash (life.h)
 */
#include "pipeline/data.h"
#include "tests/disk/virtual_disk.h"
#include "tests/sim/settings.h"
#include "tests/sim/ids.h"
#include "tests/sim/store.h"

/* What one event is, so that the model need not read JSON. */
struct sim_event {
    uint32_t id;
    int64_t ts_ms;
    uint32_t key;
    int32_t value;
    uint32_t source;
    bool broken; /* not JSON: will be rejected */
};

/* 0 to 15: of what is in few events. */
static inline uint32_t sim_event_tag(const struct sim_event *e) {
    return (uint32_t)e->value & 15;
}

struct sim_request {
    struct sim_event events[SIM_EVENTS_MAX];
    uint32_t count;     /* 0: not made yet */
    uint32_t stream;
    uint8_t *body;      /* what the log must hold */
    uint32_t body_len;
    uint64_t body_hash;
    uint32_t under_way;
    bool answered;
    uint64_t wait_until_ns; /* as a refusal asks for */
};

/* An answer as the node gave it, heard or not. */
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

/* The failure planned for the disk or the store, and how many had come when it was planned. */
struct sim_plan {
    enum sim_fault fault;
    uint64_t failures_before;
};

struct sim_row {
    uint32_t rule;
    uint32_t key_hash;
    int64_t window_ms;
    uint64_t revision;
    uint64_t events;
    bool final;
};

/* A producer said that nothing older will come; source SIM_SOURCES: of the whole stream. */
struct sim_advance {
    uint32_t stream;
    uint32_t source;
    int64_t to_ms;
};

/* An answer to a redrive. */
struct sim_redriven {
    uint64_t lsn; /* of the REDRIVE record */
    uint64_t from_lsn;
    uint32_t from_index;
    uint8_t verdict;
};

#define SIM_ADVANCES_MAX 4096
#define SIM_REDRIVEN_MAX 4096
#define SIM_VERSIONS_MAX 12

/* A configuration there was, by what CONFIG records say of it. */
struct sim_version {
    uint64_t text_hash;
    struct sim_settings settings;
};

/* What was seen once and must hold from then on (invariants.c). */
struct sim_floor {
    int64_t watermark_ms[SIM_STREAMS];
    uint64_t flushed_seq;
    struct sim_row *rows; /* of the results store, in its order */
    uint32_t row_count;
    uint32_t row_cap;
};

struct sim_world {
    struct sim_random random;
    struct sim_settings settings;
    struct sim_clock clock;
    struct virtual_disk *disk;
    struct mr_config *config;
    struct sim_version versions[SIM_VERSIONS_MAX];
    uint32_t version_count; /* the last one is in force */
    struct mr_data data;
    struct sim_store store;
    struct mr_pipeline *pipeline; /* NULL: not started */
    struct mr_decoder *decoder;

    /* clients */
    struct sim_request requests[SIM_REQUESTS_MAX];
    struct sim_sent *sent; /* under way */
    struct sim_answer *answers;
    uint32_t answer_count;
    uint32_t answer_cap;
    uint32_t next_id;
    struct sim_id ids[SIM_STREAMS][SIM_IDS_MAX]; /* known where sim_settings_may_move says no */
    struct sim_query *queries; /* not answered, or not looked at */
    struct sim_advance advances[SIM_ADVANCES_MAX]; /* sent, whatever came of it */
    uint32_t advance_count;
    struct sim_redrive *redrives; /* under way */
    struct sim_redriven redriven[SIM_REDRIVEN_MAX];
    uint32_t redriven_count;
    uint32_t compared; /* answers compared with the model so far: it costs */

    /* faults under way */
    uint64_t step;
    struct sim_plan disk_plan;
    struct sim_plan store_plan;
    uint64_t full_until;     /* step; 0: the disk is not full */
    uint32_t full_restarts;  /* w->restarts when it became full */
    bool full_refused;
    uint64_t stopped_until;  /* step */
    uint32_t stopped_station;
    bool cut_in_checkpoint;  /* the next loss of power is planned there */
    uint32_t no_memory_steps; /* so many more in which an allocation may fail */

    struct sim_floor floor;
    bool moved; /* a start has divided a checkpoint anew among shards: groups lie in another order than from zero */
    bool log_lost; /* log.sync: off, and power took some of it; or repair did */
    bool log_repaired;
    bool wants_ids; /* the last start refused: dedup.ids has no room */
    uint64_t probes[SIM_PROBE_COUNT];
    uint32_t crashes;
    uint32_t restarts;
    uint32_t refusals;
    bool verbose;
    uint64_t trace; /* hash of everything observed */
};

#define SIM_FAILS(...)                                                                             \
    do {                                                                                           \
        (void)fprintf(stderr, "sim: " __VA_ARGS__);                                                \
        (void)fputc('\n', stderr);                                                                 \
        abort();                                                                                   \
    } while (0)

void sim_world_open(struct sim_world *w, uint64_t seed);
/* The configuration of w->settings is the one in force from the next start on. */
void sim_world_configure(struct sim_world *w);
void sim_world_close(struct sim_world *w);

/* One random thing: a station's step, a client's request, time passing, a fault, a crash. */
void sim_world_step(struct sim_world *w, bool faults);
/* Without faults until every request is answered and everything is flushed. */
void sim_world_drain(struct sim_world *w);
/* Steps, without time passing, until replay is over and no station has anything to do. */
void sim_world_settle(struct sim_world *w);
/* One step of a station. */
bool sim_world_run(struct sim_world *w, uint32_t station);
/* The process cannot go on as it is. */
bool sim_world_must_restart(const struct sim_world *w);
void sim_world_pass_time(struct sim_world *w, uint64_t ms);
void sim_trace(struct sim_world *w, uint64_t value);
static inline void sim_hit(struct sim_world *w, enum sim_probe probe) {
    w->probes[probe]++;
}
/* With --verbose: what happened, with the step and the log's end. */
void sim_say(const struct sim_world *w, const char *what, uint64_t number);
/* Sends a question and steps until it is answered. */
void sim_world_ask(struct sim_world *w, struct mr_ask *ask);
