/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Settings of the cluster's simulation: what a seed chooses before the first step: the nodes' configurations, the Redis
 * they share, and which faults come how often.
 */
#include "config/config.h"
#include "tests/sim/cluster_probes.h"
#include "tests/sim/random.h"

#include <stdbool.h>

#define CLUSTER_NODES_MAX    3
#define CLUSTER_STREAMS_MAX  3
#define CLUSTER_SERVERS_MAX  5
#define CLUSTER_REQUESTS_MAX 300
#define CLUSTER_EVENTS_MAX   20
#define CLUSTER_IDS_MAX      (CLUSTER_REQUESTS_MAX * CLUSTER_EVENTS_MAX)

/* What the Redis of this seed may lose. */
enum cluster_loss {
    CLUSTER_LOSES_NOTHING,
    CLUSTER_LOSES_ALL,  /* with the canaries, so that every loss is noticed before it matters */
    CLUSTER_LOSES_SOME, /* the last writes, single keys: some ids may be counted twice until it is noticed */
};

struct cluster_stream {
    bool claimed; /* dedup mode redis; else exact, each node for itself */
    bool key;     /* layout key, else bucket */
    enum mr_config_outage outage;
    int64_t window_ms;
    int64_t lateness_ms;
    int64_t out_of_orderness_ms;
    int64_t idle_timeout_ms;
    int64_t max_future_ms;
};

struct cluster_settings {
    /* the configuration */
    uint32_t nodes;
    uint32_t shards[CLUSTER_NODES_MAX];
    uint32_t streams;
    struct cluster_stream stream[CLUSTER_STREAMS_MAX];
    int64_t horizon_ms;
    int64_t timeout_ms;
    int64_t recent_ms;
    int64_t checkpoint_every_ms;
    int64_t retain_ms; /* of the logs */
    uint64_t retain_bytes;
    uint32_t segment_bytes;
    /* Redis */
    uint32_t servers;
    uint32_t masters; /* 0: no cluster */
    enum cluster_loss loss;
    /* the load */
    int64_t begin_ms; /* wall time */
    uint32_t pace_ms; /* how much time passes at once, at most */
    uint32_t keys;
    uint32_t requests;
    uint32_t steps;
    /* the faults */
    uint32_t fault_one_in; /* steps; 0: never */
    uint32_t losses;
    uint32_t weights[CLUSTER_FAULT_COUNT]; /* 0: not in this seed */
};

/* Some stream is decided by the nodes alone while Redis is away. */
bool cluster_settings_local(const struct cluster_settings *settings);
void cluster_settings_choose(struct sim_random *random, struct cluster_settings *ret);
static inline bool cluster_settings_has(const struct cluster_settings *s, enum cluster_fault fault) {
    return s->weights[fault] != 0;
}
/* One of the seed's faults, by weight; CLUSTER_FAULT_COUNT: it has none. */
enum cluster_fault cluster_settings_fault(const struct cluster_settings *settings, struct sim_random *random);
/* Never NULL. addresses: of the Redis servers, as many as settings->servers. */
struct mr_config *cluster_settings_config(const struct cluster_settings *settings, uint32_t node,
                                          const char *const *addresses);
/* One line on stderr. */
void cluster_settings_print(const struct cluster_settings *settings);
