/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Settings: what a seed chooses before the first step: the configuration, and which faults come how often.
 */
#include "config/config.h"
#include "tests/sim/probes.h"
#include "tests/sim/random.h"

#define SIM_RULES        2
#define SIM_STREAMS      2
#define SIM_SOURCES      3
#define SIM_WINDOWS_WHOLE 3 /* sliding windows of an event; the open ones of rules with more are kept as slices */
#define SIM_REQUESTS_MAX 120
#define SIM_EVENTS_MAX   24
#define SIM_IDS_MAX      (SIM_REQUESTS_MAX * SIM_EVENTS_MAX)
#define SIM_BLOOM_ERROR  0.01

#define SIM_KEYS_MAX     20

enum sim_mode { SIM_EXACT, SIM_OBSERVE, SIM_BLOOM };

/* Of time: all else streams have in common. */
struct sim_stream {
    int64_t out_of_orderness_ms;
    int64_t idle_timeout_ms; /* INT64_MAX: off */
    int64_t max_future_ms;
    bool by_source;
};

/* What a rule is besides its window_ms (of sessions the gap) and lateness. */
struct sim_rule {
    uint32_t from;              /* a bit for each stream that it reads */
    enum mr_config_window kind; /* tumbling, sliding or session */
    int64_t every_ms;           /* from one window's start to the next; of sessions 0 */
    int64_t offset_ms;
    enum mr_config_panes panes;
    bool where; /* takes the events that sim_settings_takes says */
    int64_t early_ms;
    uint64_t early_count;
    bool late;
};

struct sim_settings {
    /* the configuration */
    uint32_t shards; /* at first; a restart may choose another number */
    uint32_t rules; /* the first of them */
    struct sim_rule rule[SIM_RULES];
    int64_t window_ms[SIM_RULES];
    int64_t lateness_ms[SIM_RULES];
    uint32_t streams; /* the first of them */
    struct sim_stream stream[SIM_STREAMS];
    int64_t horizon_ms;
    enum sim_mode mode;
    uint64_t ids; /* over all shards */
    bool evict;   /* when_full: evict_oldest */
    bool conflicts; /* detected, in mode exact */
    uint64_t groups_max[SIM_RULES]; /* 0: as many as come */
    bool groups_drop;
    bool log_sync;
    uint32_t segment_bytes;
    int64_t checkpoint_every_ms; /* may be longer than the seed */
    int64_t retain_ms;           /* of the log */
    uint64_t retain_bytes;
    bool horizon_changes; /* with the configuration, on the way */
    /* the load */
    uint32_t keys;
    uint32_t requests;
    uint32_t steps;
    uint32_t second_one_in; /* requests: to the second stream */
    int64_t lag_ms;         /* its events are behind */
    bool silences;          /* now and then it says nothing, and so do sources */
    bool redrives;          /* of dead letters */
    bool advances;          /* producers say where a watermark is */
    /* the faults */
    uint32_t fault_one_in; /* steps; 0: never */
    uint32_t weights[SIM_FAULT_COUNT]; /* 0: not in this seed */
    unsigned fates; /* of unsynced writes, for the virtual disk */
};

void sim_settings_choose(struct sim_random *random, struct sim_settings *ret);
/* One of the seed's faults, by weight. */
enum sim_fault sim_settings_fault(const struct sim_settings *settings, struct sim_random *random);
/* Whether another number of shards gives the same: else ids or groups may not fit, or others be evicted, or shards be at
 * different horizons. */
static inline bool sim_settings_may_move(const struct sim_settings *s) {
    return s->ids >= SIM_IDS_MAX && s->mode != SIM_BLOOM && !s->horizon_changes && s->groups_max[0] == 0;
}
static inline bool sim_settings_detects(const struct sim_settings *s) {
    return s->conflicts && s->mode == SIM_EXACT;
}
static inline bool sim_settings_has(const struct sim_settings *s, enum sim_fault fault) {
    return s->weights[fault] != 0;
}
static inline bool sim_settings_takes(const struct sim_settings *s, uint32_t rule, uint32_t stream, int32_t value) {
    return (s->rule[rule].from >> stream & 1) != 0 && (!s->rule[rule].where || value >= 0);
}
extern const char sim_stream_names[SIM_STREAMS][8];
extern const char sim_source_names[SIM_SOURCES][8];
/* Whether the rule goes on with what it has when the one setting becomes the other. */
bool sim_settings_same_rule(const struct sim_settings *before, const struct sim_settings *now, uint32_t rule);
/* People edit the configuration: some of what may change does. */
void sim_settings_change(struct sim_settings *settings, struct sim_random *random);
/* One line on stderr. */
void sim_settings_print(const struct sim_settings *settings);
/* Never NULL; shards are those of settings. */
struct mr_config *sim_settings_config(const struct sim_settings *settings);
