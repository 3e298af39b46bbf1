/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/generations.h"

#include "base/check.h"

void mr_generations_init(struct mr_generations *gens, int64_t horizon_ms, int64_t cuts,
                         uint64_t ids_each_max) {
    MR_ASSERT(horizon_ms > 0 && cuts > 0);
    MR_ASSERT(ids_each_max > 0);
    *gens = (struct mr_generations){
        .horizon_ms = horizon_ms,
        .generation_ms = horizon_ms / cuts + (horizon_ms % cuts != 0),
        .ids_each_max = ids_each_max,
    };
}

void mr_generations_advance(struct mr_generations *gens, int64_t recorded_ms) {
    if (recorded_ms == INT64_MAX) {
        recorded_ms--; /* so that each moment has a generation that ends after it */
    }
    if (recorded_ms > gens->recorded_ms) {
        gens->recorded_ms = recorded_ms;
    }
    MR_ASSERT(gens->recorded_ms >= 0);
}

/* now - horizon cannot overflow, unlike to + horizon. */
static bool expired_at(const struct mr_generations *gens, uint64_t ordinal, int64_t recorded_ms) {
    MR_ASSERT(ordinal >= gens->first && ordinal < gens->end);
    return recorded_ms - gens->horizon_ms >= mr_generations_at(gens, ordinal)->to_ms;
}

bool mr_generations_oldest_expired(const struct mr_generations *gens) {
    return gens->first < gens->end && expired_at(gens, gens->first, gens->recorded_ms);
}

uint64_t mr_generations_pop_oldest(struct mr_generations *gens) {
    MR_ASSERT(gens->first < gens->end);
    uint64_t ids = mr_generations_at(gens, gens->first)->ids;
    MR_ASSERT(ids <= gens->live_ids);
    gens->live_ids -= ids;
    gens->first++;
    return ids;
}

uint64_t mr_generations_live_ids_at(const struct mr_generations *gens, int64_t recorded_ms) {
    uint64_t ids = gens->live_ids;
    if (recorded_ms < gens->recorded_ms) {
        return ids;
    }
    for (uint64_t i = gens->first; i < gens->end && expired_at(gens, i, recorded_ms); i++) {
        ids -= mr_generations_at(gens, i)->ids;
    }
    return ids;
}

uint64_t mr_generations_room(const struct mr_generations *gens) {
    if (gens->first == gens->end) {
        return 0;
    }
    const struct mr_generation *newest = mr_generations_at(gens, gens->end - 1);
    MR_ASSERT(newest->ids <= gens->ids_each_max);
    return gens->recorded_ms < newest->to_ms ? gens->ids_each_max - newest->ids : 0;
}

uint64_t mr_generations_open_next(struct mr_generations *gens) {
    MR_ASSERT(mr_generations_room(gens) == 0);
    MR_ASSERT(gens->end - gens->first < MR_GENERATIONS_LIVE_MAX);
    int64_t from_ms = gens->recorded_ms - gens->recorded_ms % gens->generation_ms;
    bool fits = from_ms <= INT64_MAX - gens->generation_ms;
    int64_t to_ms = fits ? from_ms + gens->generation_ms : INT64_MAX;
    if (gens->first < gens->end && mr_generations_at(gens, gens->end - 1)->to_ms > from_ms) {
        from_ms = gens->recorded_ms; /* the one before filled up in this very slot */
    }
    uint64_t ordinal = gens->end++;
    gens->ring[ordinal % MR_GENERATIONS_LIVE_MAX] =
        (struct mr_generation){.from_ms = from_ms, .to_ms = to_ms, .ids = 0};
    return ordinal;
}

void mr_generations_add(struct mr_generations *gens, uint64_t ids) {
    if (ids == 0) {
        return;
    }
    MR_ASSERT(ids <= mr_generations_room(gens));
    struct mr_generation *newest = &gens->ring[(gens->end - 1) % MR_GENERATIONS_LIVE_MAX];
    newest->ids += ids;
    gens->live_ids += ids;
    if (newest->ids == gens->ids_each_max) {
        newest->to_ms = gens->recorded_ms + 1; /* room made sure that recorded_ms < to_ms */
    }
}

int64_t mr_generations_until_ms(const struct mr_generations *gens, uint64_t ordinal) {
    int64_t to_ms = mr_generations_at(gens, ordinal)->to_ms;
    return to_ms <= INT64_MAX - gens->horizon_ms ? to_ms + gens->horizon_ms : INT64_MAX;
}

void mr_generations_check(const struct mr_generations *gens) {
    MR_ASSERT(gens->first <= gens->end);
    MR_ASSERT(gens->end - gens->first <= MR_GENERATIONS_LIVE_MAX);
    uint64_t ids = 0;
    int64_t before_ms = 0;
    for (uint64_t i = gens->first; i < gens->end; i++) {
        const struct mr_generation *gen = mr_generations_at(gens, i);
        MR_ASSERT(gen->from_ms >= 0 && gen->from_ms < gen->to_ms);
        MR_ASSERT(gen->to_ms - gen->from_ms <= gens->generation_ms);
        MR_ASSERT(gen->to_ms >= before_ms);
        MR_ASSERT(gen->ids <= gens->ids_each_max);
        MR_ASSERT(gen->from_ms <= gens->recorded_ms);
        before_ms = gen->to_ms;
        ids += gen->ids;
    }
    MR_ASSERT(ids == gens->live_ids);
}
