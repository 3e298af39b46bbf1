/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/ids.h"

#include "base/check.h"
#include "dedup/dedup.h"

#include <stdlib.h>

void sim_ids_init(struct sim_ids *ids, const struct sim_settings *settings, const uint8_t *id_shards) {
    const struct sim_settings *s = settings;
    *ids = (struct sim_ids){
        .settings = s,
        .id_shards = id_shards,
        .generation_ms = (s->horizon_ms + MR_DEDUP_GENERATIONS - 1) / MR_DEDUP_GENERATIONS,
        .ids_max = UINT64_MAX,
        .ids_each_max = UINT64_MAX,
    };
    if (s->evict) {
        uint64_t of_shard = (s->ids + s->shards - 1) / s->shards;
        ids->ids_max = of_shard + of_shard / 20 + 1;
        ids->ids_each_max = (ids->ids_max + 31) / 32;
    }
    for (uint32_t i = 0; i < SIM_IDS_MAX; i++) {
        ids->counted_ms[i] = INT64_MIN;
    }
}

void sim_ids_finish(struct sim_ids *ids) {
    for (size_t i = 0; i < sizeof ids->shards / sizeof *ids->shards; i++) {
        free(ids->shards[i].generations);
    }
}

static struct sim_ids_shard *shard_of(struct sim_ids *ids, uint32_t id) {
    MR_ASSERT(id < SIM_IDS_MAX);
    return &ids->shards[ids->settings->evict ? ids->id_shards[id] : 0];
}

static void forget_oldest(struct sim_ids_shard *shard) {
    shard->live -= shard->generations[shard->first].ids;
    shard->first++;
}

static void expire(const struct sim_ids *ids, struct sim_ids_shard *shard, int64_t recorded_ms) {
    while (shard->first < shard->end &&
           recorded_ms - ids->settings->horizon_ms >= shard->generations[shard->first].to_ms) {
        forget_oldest(shard);
    }
}

bool sim_ids_seen(struct sim_ids *ids, uint32_t id, int64_t recorded_ms) {
    struct sim_ids_shard *shard = shard_of(ids, id);
    expire(ids, shard, recorded_ms);
    return ids->counted_ms[id] != INT64_MIN && ids->generations[id] >= shard->first;
}

static bool newest_takes(const struct sim_ids *ids, const struct sim_ids_shard *shard,
                         int64_t recorded_ms) {
    return shard->first < shard->end && recorded_ms < shard->generations[shard->end - 1].to_ms &&
           shard->generations[shard->end - 1].ids < ids->ids_each_max;
}

static void begin_generation(const struct sim_ids *ids, struct sim_ids_shard *shard,
                             int64_t recorded_ms) {
    if (shard->end == shard->cap) {
        shard->cap = shard->cap == 0 ? 64 : shard->cap * 2;
        shard->generations = realloc(shard->generations, shard->cap * sizeof *shard->generations);
        MR_ASSERT(shard->generations != NULL);
    }
    int64_t to_ms = recorded_ms / ids->generation_ms * ids->generation_ms + ids->generation_ms;
    shard->generations[shard->end++] = (struct sim_generation){.to_ms = to_ms};
}

/* What dedup.h promises in words, whatever the generations say. */
static void check_promise(const struct sim_ids *ids, uint32_t id, int64_t recorded_ms, bool duplicate) {
    if (ids->counted_ms[id] == INT64_MIN) {
        MR_ASSERT(!duplicate);
        return;
    }
    int64_t age_ms = recorded_ms - ids->counted_ms[id];
    MR_ASSERT(duplicate || ids->settings->evict || age_ms >= ids->settings->horizon_ms);
    MR_ASSERT(!duplicate || age_ms < ids->settings->horizon_ms + ids->generation_ms);
}

bool sim_ids_judge(struct sim_ids *ids, uint32_t id, int64_t recorded_ms) {
    struct sim_ids_shard *shard = shard_of(ids, id);
    bool duplicate = sim_ids_seen(ids, id, recorded_ms);
    check_promise(ids, id, recorded_ms, duplicate);
    if (duplicate) {
        return true;
    }
    if (shard->live == ids->ids_max) {
        forget_oldest(shard);
    }
    if (!newest_takes(ids, shard, recorded_ms)) {
        begin_generation(ids, shard, recorded_ms);
    }
    struct sim_generation *newest = &shard->generations[shard->end - 1];
    newest->ids++;
    shard->live++;
    if (newest->ids == ids->ids_each_max) {
        newest->to_ms = recorded_ms + 1; /* it ended by being full */
    }
    ids->counted_again += ids->counted_ms[id] != INT64_MIN;
    ids->counted_ms[id] = recorded_ms;
    ids->generations[id] = shard->end - 1;
    return false;
}
