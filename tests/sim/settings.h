/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Settings: what a seed chooses before the first step: the configuration, and which faults come how often.
 */
#include "config/config.h"
#include "tests/sim/probes.h"
#include "tests/sim/random.h"

#define SIM_RULES        2
#define SIM_REQUESTS_MAX 120
#define SIM_EVENTS_MAX   24
#define SIM_IDS_MAX      (SIM_REQUESTS_MAX * SIM_EVENTS_MAX)

struct sim_settings {
    /* the configuration */
    uint32_t shards; /* at first; a restart may choose another number */
    int64_t window_ms[SIM_RULES];
    int64_t lateness_ms[SIM_RULES];
    int64_t out_of_orderness_ms;
    int64_t idle_timeout_ms;
    int64_t max_future_ms;
    int64_t horizon_ms;
    uint64_t ids; /* over all shards */
    bool evict;   /* when_full: evict_oldest */
    bool log_sync;
    uint32_t segment_bytes;
    int64_t checkpoint_every_ms; /* 0: the configuration says nothing of checkpoints */
    /* the load */
    uint32_t keys;
    uint32_t requests;
    uint32_t steps;
    /* the faults */
    uint32_t fault_one_in; /* steps; 0: never */
    uint32_t weights[SIM_FAULT_COUNT]; /* 0: not in this seed */
    unsigned fates; /* of unsynced writes, for the virtual disk */
};

void sim_settings_choose(struct sim_random *random, bool checkpoints, struct sim_settings *ret);
/* One of the seed's faults, by weight. */
enum sim_fault sim_settings_fault(const struct sim_settings *settings, struct sim_random *random);
static inline bool sim_settings_has(const struct sim_settings *s, enum sim_fault fault) {
    return s->weights[fault] != 0;
}
/* Never NULL; shards are those of settings. */
struct mr_config *sim_settings_config(const struct sim_settings *settings);
