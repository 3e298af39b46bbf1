/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Ids: the model's memory of ids, after the words of dedup/dedup.h: lists instead of tables.
 *
 *     An id carries the generation of its first sight and is forgotten with it. Generations are cut at multiples of
 *     1/16 of the horizon, and live until the horizon has passed since their end. With evict_oldest one also ends when
 *     it has 1/32 of its shard's room, and the oldest goes when the room is full.
 *
 * Horizon     A longer one holds at once. A shorter one waits until every generation begun before it is forgotten, and
 *             is then in force for those begun since.
 * Bloom       Which new ids a filter takes for old ones no list can say: there a dedup of its own judges, without breaks
 *             or checkpoints, and what it says is held against the promises.
 */
#include "dedup/dedup.h"
#include "tests/sim/settings.h"

struct sim_generation {
    int64_t to_ms;
    uint64_t ids;
};

/* Generations [first, end) are live. */
struct sim_ids_shard {
    struct sim_generation *generations;
    uint32_t first;
    uint32_t end;
    uint32_t cap;
    uint64_t live;
    int64_t horizon_ms; /* in force */
    int64_t next_horizon_ms; /* waits until first is next_at; 0: none */
    uint32_t next_at;
    struct mr_dedup *bloom;
};

/* Of an id, from its fingerprint. */
struct sim_id {
    struct mr_fingerprint fp;
    uint8_t shard;
};

struct sim_ids {
    const struct sim_id *names;
    bool one_list; /* all shards go the same way */
    bool evict;
    bool bloom;
    uint64_t ids_max;
    uint64_t ids_each_max;
    int64_t horizon_ms;     /* of the configuration */
    int64_t horizon_max_ms; /* so far */
    struct sim_ids_shard shards[8];
    int64_t counted_ms[SIM_IDS_MAX];   /* when it was last new; INT64_MIN: never */
    int64_t promised_ms[SIM_IDS_MAX];  /* for how long it will be remembered at least */
    uint32_t generations[SIM_IDS_MAX]; /* its generation */
    uint64_t counted_again;
    uint64_t judged_new;      /* of ids never seen before: */
    uint64_t false_duplicates;
};

/* names: by id; only read where shards differ, and with bloom. */
void sim_ids_init(struct sim_ids *ids, const struct sim_settings *settings, const struct sim_id *names);
void sim_ids_finish(struct sim_ids *ids);
/* Another horizon, from this recorded time on. */
void sim_ids_change_horizon(struct sim_ids *ids, int64_t horizon_ms, int64_t recorded_ms);
/* Whether the id is a duplicate at this recorded time; it is remembered from now on. */
bool sim_ids_judge(struct sim_ids *ids, uint32_t id, int64_t recorded_ms);
/* Whether an event of this id that was judged at first_ms, and is again, passes by what is remembered: it is its own. */
bool sim_ids_passes(struct sim_ids *ids, uint32_t id, int64_t first_ms, int64_t recorded_ms);
/* Whether it is remembered at this recorded time. */
bool sim_ids_seen(struct sim_ids *ids, uint32_t id, int64_t recorded_ms);
