/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/ids.h"

#include "base/check.h"

#include <stdlib.h>

static void open_bloom(struct sim_ids *ids, const struct sim_settings *s) {
    struct mr_dedup_options options = {
        .mode = MR_DEDUP_BLOOM,
        .when_full = s->evict ? MR_WHEN_FULL_EVICT_OLDEST : MR_WHEN_FULL_REJECT,
        .horizon_ms = s->horizon_ms,
        .ids_max = (s->ids + s->shards - 1) / s->shards,
        .error = SIM_BLOOM_ERROR,
    };
    struct mr_error error;
    for (uint32_t i = 0; i < s->shards; i++) {
        enum mr_status status = mr_dedup_open(&options, &ids->shards[i].bloom, &error);
        MR_ASSERT(status == MR_OK);
    }
}

void sim_ids_init(struct sim_ids *ids, const struct sim_settings *settings, const struct sim_id *names) {
    const struct sim_settings *s = settings;
    *ids = (struct sim_ids){
        .names = names,
        .one_list = sim_settings_may_move(s),
        .evict = s->evict,
        .bloom = s->mode == SIM_BLOOM,
        .ids_max = UINT64_MAX,
        .ids_each_max = UINT64_MAX,
        .horizon_ms = s->horizon_ms,
        .horizon_max_ms = s->horizon_ms,
    };
    if (s->evict) {
        uint64_t of_shard = (s->ids + s->shards - 1) / s->shards;
        ids->ids_max = of_shard + of_shard / 20 + 1;
        ids->ids_each_max = (ids->ids_max + 31) / 32;
    }
    for (size_t i = 0; i < sizeof ids->shards / sizeof *ids->shards; i++) {
        ids->shards[i].horizon_ms = s->horizon_ms;
    }
    for (uint32_t i = 0; i < SIM_IDS_MAX; i++) {
        ids->counted_ms[i] = INT64_MIN;
    }
    if (ids->bloom) {
        open_bloom(ids, s);
    }
}

void sim_ids_finish(struct sim_ids *ids) {
    for (size_t i = 0; i < sizeof ids->shards / sizeof *ids->shards; i++) {
        free(ids->shards[i].generations);
        if (ids->shards[i].bloom != NULL) {
            mr_dedup_close(ids->shards[i].bloom);
        }
    }
}

static struct sim_ids_shard *shard_of(struct sim_ids *ids, uint32_t id) {
    MR_ASSERT(id < SIM_IDS_MAX);
    return &ids->shards[ids->one_list ? 0 : ids->names[id].shard];
}

/* ---- generations ---- */

static int64_t generation_ms(const struct sim_ids_shard *shard) {
    return (shard->horizon_ms + MR_DEDUP_GENERATIONS - 1) / MR_DEDUP_GENERATIONS;
}

static void begin_next_horizon(struct sim_ids_shard *shard) {
    if (shard->next_horizon_ms != 0 && shard->first >= shard->next_at) {
        shard->horizon_ms = shard->next_horizon_ms;
        shard->next_horizon_ms = 0;
    }
}

static void forget_oldest(struct sim_ids_shard *shard) {
    shard->live -= shard->generations[shard->first].ids;
    shard->first++;
    begin_next_horizon(shard);
}

static void expire(struct sim_ids_shard *shard, int64_t recorded_ms) {
    while (shard->first < shard->end &&
           recorded_ms - shard->horizon_ms >= shard->generations[shard->first].to_ms) {
        forget_oldest(shard);
    }
}

static bool newest_takes(const struct sim_ids *ids, const struct sim_ids_shard *shard,
                         int64_t recorded_ms) {
    return shard->first < shard->end && recorded_ms < shard->generations[shard->end - 1].to_ms &&
           shard->generations[shard->end - 1].ids < ids->ids_each_max;
}

static void begin_generation(struct sim_ids_shard *shard, int64_t recorded_ms) {
    if (shard->end == shard->cap) {
        shard->cap = shard->cap == 0 ? 64 : shard->cap * 2;
        shard->generations = realloc(shard->generations, shard->cap * sizeof *shard->generations);
        MR_ASSERT(shard->generations != NULL);
    }
    int64_t to_ms = recorded_ms / generation_ms(shard) * generation_ms(shard) + generation_ms(shard);
    if (shard->first < shard->end && shard->generations[shard->end - 1].to_ms > to_ms) {
        to_ms = shard->generations[shard->end - 1].to_ms;
    }
    shard->generations[shard->end++] = (struct sim_generation){.to_ms = to_ms};
}

static void remember(struct sim_ids *ids, struct sim_ids_shard *shard, uint32_t id, int64_t recorded_ms) {
    if (shard->live == ids->ids_max) {
        forget_oldest(shard);
    }
    if (!newest_takes(ids, shard, recorded_ms)) {
        begin_generation(shard, recorded_ms);
    }
    struct sim_generation *newest = &shard->generations[shard->end - 1];
    newest->ids++;
    shard->live++;
    if (newest->ids == ids->ids_each_max) {
        newest->to_ms = recorded_ms + 1; /* it ended by being full */
    }
    ids->generations[id] = shard->end - 1;
}

static void change_horizon(struct sim_ids_shard *shard, int64_t horizon_ms, int64_t recorded_ms) {
    expire(shard, recorded_ms);
    if (shard->first == shard->end || horizon_ms >= shard->horizon_ms) {
        shard->horizon_ms = horizon_ms;
        shard->next_horizon_ms = 0;
    } else {
        bool later = shard->next_horizon_ms == 0 || horizon_ms < shard->next_horizon_ms;
        shard->next_at = later ? shard->end : shard->next_at;
        shard->next_horizon_ms = horizon_ms;
    }
    expire(shard, recorded_ms);
}

void sim_ids_change_horizon(struct sim_ids *ids, int64_t horizon_ms, int64_t recorded_ms) {
    bool longer = horizon_ms > ids->horizon_ms;
    for (uint32_t id = 0; longer && id < SIM_IDS_MAX; id++) {
        if (ids->counted_ms[id] != INT64_MIN && ids->promised_ms[id] < horizon_ms &&
            sim_ids_seen(ids, id, recorded_ms)) {
            ids->promised_ms[id] = horizon_ms;
        }
    }
    for (size_t i = 0; i < sizeof ids->shards / sizeof *ids->shards; i++) {
        change_horizon(&ids->shards[i], horizon_ms, recorded_ms);
    }
    ids->horizon_ms = horizon_ms;
    ids->horizon_max_ms = horizon_ms > ids->horizon_max_ms ? horizon_ms : ids->horizon_max_ms;
}

/* ---- ids ---- */

bool sim_ids_seen(struct sim_ids *ids, uint32_t id, int64_t recorded_ms) {
    struct sim_ids_shard *shard = shard_of(ids, id);
    if (ids->bloom) {
        int64_t times[3];
        mr_dedup_advance(shard->bloom, recorded_ms);
        return mr_dedup_seen(shard->bloom, ids->names[id].fp, &times[0], &times[1], &times[2]);
    }
    expire(shard, recorded_ms);
    return ids->counted_ms[id] != INT64_MIN && ids->generations[id] >= shard->first;
}

bool sim_ids_passes(struct sim_ids *ids, uint32_t id, int64_t first_ms, int64_t recorded_ms) {
    if (!ids->bloom) {
        return sim_ids_seen(ids, id, recorded_ms) && ids->counted_ms[id] <= first_ms;
    }
    int64_t times[3];
    struct sim_ids_shard *shard = shard_of(ids, id);
    mr_dedup_advance(shard->bloom, recorded_ms);
    return mr_dedup_seen(shard->bloom, ids->names[id].fp, &times[0], &times[1], &times[2]) && times[0] <= first_ms;
}

/* What dedup.h promises in words, whatever the generations say. */
static void check_promise(struct sim_ids *ids, uint32_t id, int64_t recorded_ms, bool duplicate) {
    if (ids->counted_ms[id] == INT64_MIN) {
        MR_ASSERT(!duplicate || ids->bloom);
        ids->judged_new++;
        ids->false_duplicates += duplicate;
        return;
    }
    int64_t age_ms = recorded_ms - ids->counted_ms[id];
    int64_t max_ms = ids->horizon_max_ms;
    max_ms += (max_ms + MR_DEDUP_GENERATIONS - 1) / MR_DEDUP_GENERATIONS;
    MR_ASSERT(duplicate || ids->evict || age_ms >= ids->promised_ms[id]);
    MR_ASSERT(!duplicate || ids->bloom || age_ms < max_ms);
}

bool sim_ids_judge(struct sim_ids *ids, uint32_t id, int64_t recorded_ms) {
    struct sim_ids_shard *shard = shard_of(ids, id);
    bool duplicate;
    if (ids->bloom) {
        uint32_t order = 0;
        uint8_t found;
        mr_dedup_advance(shard->bloom, recorded_ms);
        mr_dedup_judge(shard->bloom, &ids->names[id].fp, &order, 1, &found);
        duplicate = found != 0;
    } else {
        duplicate = sim_ids_seen(ids, id, recorded_ms);
    }
    check_promise(ids, id, recorded_ms, duplicate);
    if (duplicate) {
        return true;
    }
    if (!ids->bloom) {
        remember(ids, shard, id, recorded_ms);
    }
    ids->counted_again += ids->counted_ms[id] != INT64_MIN;
    ids->counted_ms[id] = recorded_ms;
    ids->promised_ms[id] = ids->horizon_ms;
    return false;
}
