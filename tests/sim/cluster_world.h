/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Cluster: two or three nodes on one thread, each with its own virtual disk and the real pipeline, all of them on one
 * virtual Redis and one virtual clock, and clients that send each batch to one or two of them until they get an answer.
 * Everything follows from the seed.
 *
 *     settings ──▶ world ── step ──▶ faults    what goes wrong with nodes and Redis (cluster_faults.h)
 *                    │               clients   requests and answers (cluster_clients.h)
 *                    ▼               check     what holds at every moment, and at the end (cluster_check.h)
 *                  life: start, stop, crash of a node (cluster_life.h)
 */
#include "pipeline/data.h"
#include "tests/disk/virtual_disk.h"
#include "tests/redis/virtual_redis.h"
#include "tests/sim/cluster_settings.h"
#include "tests/sim/random.h"
#include "tests/sink/memory_results.h"

#include <stdio.h>
#include <stdlib.h>

/* An id means the same event wherever it is sent. */
struct cluster_id {
    int64_t ts_ms;
    uint32_t key;
    int32_t value;
    bool acknowledged; /* some copy, pending or decided */
};

struct cluster_event {
    uint32_t id;
    bool broken; /* not JSON: will be rejected */
};

/* One of the nodes a request is sent to. */
struct cluster_leg {
    uint32_t node;
    uint32_t under_way;
    bool answered;
    uint64_t wait_until_ns; /* after a refusal */
};

struct cluster_request {
    struct cluster_event events[CLUSTER_EVENTS_MAX];
    uint32_t count; /* 0: not made yet */
    uint32_t stream;
    uint8_t *body;
    uint32_t body_len;
    uint64_t body_hash;
    struct cluster_leg legs[2];
    uint32_t leg_count;
};

/* An answer as the node gave it, heard or not. */
struct cluster_answer {
    uint32_t request;
    uint32_t node;
    uint64_t lsn;
    bool pending;
    uint8_t verdicts[CLUSTER_EVENTS_MAX];
};

struct cluster_clock {
    struct mr_clock base;
    int64_t wall_ms;
    uint64_t mono_ns;
};

struct cluster_world;

struct cluster_node {
    struct cluster_world *world;
    uint32_t index;
    struct virtual_disk *disk;
    struct mr_config *config;
    struct mr_plan *plan; /* lends its names to the results */
    struct mr_results_rule *rules;
    struct mr_results *results;
    struct mr_data data;
    struct mr_pipeline *pipeline; /* NULL: the process does not run */
    struct cluster_sent *sent;    /* batches that are the pipeline's */
    uint32_t starts;
    uint64_t down_until_ns;
    uint64_t full_until_ns;
    bool disk_failed; /* a record whose append failed may lie on it */
    uint32_t no_memory_steps;
    struct mr_ask checkpoint; /* asked for */
    bool checkpoint_asked;
    /* what was seen once and must hold from then on */
    int64_t watermarks_ms[CLUSTER_STREAMS_MAX];
    uint64_t won;         /* claims, when the claimer was stepped last */
    bool canary_was_lost; /* and so it was */
    /* of all its processes so far */
    uint64_t counted_twice;
    uint64_t peers_missing;
};

struct cluster_world {
    struct sim_random random;
    struct cluster_settings settings;
    struct cluster_clock clock;
    struct virtual_redis *redis;
    struct mr_redis_transport *transports[1]; /* by store: each node gets it */
    struct cluster_node nodes[CLUSTER_NODES_MAX];
    struct mr_decoder *decoder;

    struct cluster_request requests[CLUSTER_REQUESTS_MAX];
    struct cluster_id ids[CLUSTER_STREAMS_MAX][CLUSTER_IDS_MAX];
    uint32_t next_id[CLUSTER_STREAMS_MAX];
    struct cluster_answer *answers;
    uint32_t answer_count;
    uint32_t answer_cap;

    /* faults under way */
    uint64_t step;
    uint64_t down_until_ns[CLUSTER_SERVERS_MAX];
    uint64_t hangs_until_ns[CLUSTER_SERVERS_MAX];
    uint64_t slow_until_ns;
    uint64_t policy_until_ns;
    uint64_t slot_until_ns; /* 0: none moves */
    uint32_t slot;
    uint32_t stopped_node;
    uint32_t stopped_station;
    uint64_t stopped_until; /* step */
    uint64_t lost_ns; /* when all was lost last; 0: never */
    uint32_t losses;

    uint64_t probes[CLUSTER_PROBE_COUNT];
    uint32_t crashes;
    uint32_t refusals;
    bool verbose;
    uint64_t trace; /* hash of everything observed */
};

#define CLUSTER_FAILS(...)                                                                         \
    do {                                                                                           \
        (void)fprintf(stderr, "cluster: " __VA_ARGS__);                                            \
        (void)fputc('\n', stderr);                                                                 \
        abort();                                                                                   \
    } while (0)

void cluster_world_open(struct cluster_world *w, uint64_t seed);
void cluster_world_close(struct cluster_world *w);

/* One random thing: a station's step, a client's request, time passing, a fault. */
void cluster_world_step(struct cluster_world *w);
/* Without faults until every request is answered, every event decided, every node strict. */
void cluster_world_drain(struct cluster_world *w);
/* Time passes until all windows are closed, and everything is in the results. */
void cluster_world_finish(struct cluster_world *w);

void cluster_world_pass_time(struct cluster_world *w, uint64_t ms);
void cluster_trace(struct cluster_world *w, uint64_t value);
static inline void cluster_hit(struct cluster_world *w, enum cluster_probe probe) {
    w->probes[probe]++;
}
/* With --verbose: what happened, with the step and the time. node: CLUSTER_NODES_MAX: none. */
void cluster_say(const struct cluster_world *w, uint32_t node, const char *what, uint64_t number);
