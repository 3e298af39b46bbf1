/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Ids: the model's memory of ids, after the words of dedup/dedup.h: lists instead of tables.
 *
 *     An id carries the generation of its first sight and is forgotten with it. Generations are cut at multiples of
 *     1/16 of the horizon, and live until the horizon has passed since their end. With evict_oldest one also ends when
 *     it has 1/32 of its shard's room, and the oldest goes when the room is full.
 */
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
};

struct sim_ids {
    const struct sim_settings *settings;
    const uint8_t *id_shards;
    int64_t generation_ms;
    uint64_t ids_max;
    uint64_t ids_each_max;
    struct sim_ids_shard shards[8];
    int64_t counted_ms[SIM_IDS_MAX];      /* when it was last new; INT64_MIN: never */
    uint32_t generations[SIM_IDS_MAX];    /* its generation */
    uint64_t counted_again;
};

/* id_shards: by id; only read with evict. */
void sim_ids_init(struct sim_ids *ids, const struct sim_settings *settings, const uint8_t *id_shards);
void sim_ids_finish(struct sim_ids *ids);
/* Whether the id is a duplicate at this recorded time; it is remembered from now on. */
bool sim_ids_judge(struct sim_ids *ids, uint32_t id, int64_t recorded_ms);
/* Whether it is remembered at this recorded time. */
bool sim_ids_seen(struct sim_ids *ids, uint32_t id, int64_t recorded_ms);
