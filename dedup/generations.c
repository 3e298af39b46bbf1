/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/generations.h"

#include "base/bug.h"
#include "base/check.h"

static void put_in_force(struct mr_generations *gens, int64_t horizon_ms) {
    MR_ASSERT(horizon_ms > 0 && gens->cuts > 0);
    gens->horizon_ms = horizon_ms;
    gens->generation_ms = horizon_ms / gens->cuts + (horizon_ms % gens->cuts != 0);
}

void mr_generations_init(struct mr_generations *gens, int64_t horizon_ms, int64_t cuts,
                         uint64_t ids_each_max) {
    MR_ASSERT(ids_each_max > 0);
    *gens = (struct mr_generations){.cuts = cuts, .ids_each_max = ids_each_max};
    put_in_force(gens, horizon_ms);
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

/* Which one forgets this generation, once all before it are forgotten. */
static int64_t horizon_at(const struct mr_generations *gens, uint64_t ordinal) {
    bool next = gens->next_horizon_ms != 0 && ordinal >= gens->next_at;
    return next ? gens->next_horizon_ms : gens->horizon_ms;
}

/* now - horizon cannot overflow, unlike to + horizon. */
static bool expired_at(const struct mr_generations *gens, uint64_t ordinal, int64_t recorded_ms) {
    MR_ASSERT(ordinal >= gens->first && ordinal < gens->end);
    int64_t early_ms = MR_BUG(EXPIRES_EARLY) ? gens->generation_ms : 0;
    return recorded_ms - horizon_at(gens, ordinal) >=
           mr_generations_at(gens, ordinal)->to_ms - early_ms;
}

bool mr_generations_oldest_expired(const struct mr_generations *gens) {
    return gens->first < gens->end && expired_at(gens, gens->first, gens->recorded_ms);
}

static void begin_next_when_due(struct mr_generations *gens) {
    if (gens->next_horizon_ms != 0 && gens->first >= gens->next_at) {
        put_in_force(gens, gens->next_horizon_ms);
        gens->next_horizon_ms = 0;
        gens->next_at = 0;
    }
}

uint64_t mr_generations_pop_oldest(struct mr_generations *gens) {
    MR_ASSERT(gens->first < gens->end);
    uint64_t ids = mr_generations_at(gens, gens->first)->ids;
    MR_ASSERT(ids <= gens->live_ids);
    gens->live_ids -= ids;
    gens->first++;
    begin_next_when_due(gens);
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
    /* One that a start found may hold more. */
    bool takes = gens->recorded_ms < newest->to_ms && newest->ids < gens->ids_each_max;
    return takes ? gens->ids_each_max - newest->ids : 0;
}

/* I1: where to_ms of the newest may not be below this. */
static int64_t end_before(const struct mr_generations *gens, uint64_t ordinal) {
    return ordinal > gens->first ? mr_generations_at(gens, ordinal - 1)->to_ms : 0;
}

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

uint64_t mr_generations_open_next(struct mr_generations *gens) {
    MR_ASSERT(mr_generations_room(gens) == 0);
    MR_ASSERT(gens->end - gens->first < MR_GENERATIONS_LIVE_MAX);
    int64_t slot_ms = gens->recorded_ms - gens->recorded_ms % gens->generation_ms;
    bool fits = slot_ms <= INT64_MAX - gens->generation_ms;
    int64_t to_ms = fits ? slot_ms + gens->generation_ms : INT64_MAX;
    int64_t before_ms = end_before(gens, gens->end);
    uint64_t ordinal = gens->end++;
    gens->ring[ordinal % MR_GENERATIONS_LIVE_MAX] =
        (struct mr_generation){.from_ms = gens->recorded_ms, .to_ms = later(to_ms, before_ms), .ids = 0};
    gens->names[ordinal % MR_GENERATIONS_LIVE_MAX] = ordinal;
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
        /* room made sure that recorded_ms < to_ms */
        newest->to_ms = later(gens->recorded_ms + 1, end_before(gens, gens->end - 1));
    }
}

static int64_t plus(int64_t ms, int64_t horizon_ms) {
    return ms <= INT64_MAX - horizon_ms ? ms + horizon_ms : INT64_MAX;
}

int64_t mr_generations_until_ms(const struct mr_generations *gens, uint64_t ordinal) {
    int64_t horizon_ms = horizon_at(gens, ordinal);
    int64_t until_ms = plus(mr_generations_at(gens, ordinal)->to_ms, horizon_ms);
    if (horizon_ms != gens->horizon_ms) {
        /* The shorter one has to begin first. */
        until_ms = later(until_ms, plus(end_before(gens, gens->next_at), gens->horizon_ms));
    }
    return until_ms;
}

/* ---- loading ---- */

void mr_generations_restart(struct mr_generations *gens, int64_t recorded_ms, uint64_t first) {
    MR_ASSERT(gens->first == gens->end);
    MR_ASSERT(recorded_ms >= 0 && recorded_ms < INT64_MAX);
    gens->recorded_ms = recorded_ms;
    gens->first = first;
    gens->end = first;
}

void mr_generations_append(struct mr_generations *gens, const struct mr_generation *gen,
                           uint64_t name) {
    MR_ASSERT(gens->end - gens->first < MR_GENERATIONS_LIVE_MAX);
    MR_ASSERT(gen->to_ms >= end_before(gens, gens->end));
    uint64_t ordinal = gens->end++;
    gens->ring[ordinal % MR_GENERATIONS_LIVE_MAX] = *gen;
    gens->names[ordinal % MR_GENERATIONS_LIVE_MAX] = name;
    gens->live_ids += gen->ids;
}

void mr_generations_set_horizons(struct mr_generations *gens, int64_t horizon_ms,
                                 int64_t next_horizon_ms, uint64_t next_at) {
    MR_ASSERT(next_horizon_ms >= 0 && next_horizon_ms < horizon_ms);
    MR_ASSERT(next_at <= gens->end);
    put_in_force(gens, horizon_ms);
    gens->next_horizon_ms = next_horizon_ms;
    gens->next_at = next_at;
    begin_next_when_due(gens);
}

void mr_generations_check(const struct mr_generations *gens) {
    MR_ASSERT(gens->first <= gens->end);
    MR_ASSERT(gens->end - gens->first <= MR_GENERATIONS_LIVE_MAX);
    bool waits = gens->next_horizon_ms != 0;
    MR_ASSERT(!waits || gens->next_horizon_ms < gens->horizon_ms);
    MR_ASSERT(!waits || (gens->first < gens->next_at && gens->next_at <= gens->end));
    uint64_t ids = 0;
    int64_t before_ms = 0;
    uint64_t name = 0;
    for (uint64_t i = gens->first; i < gens->end; i++) {
        const struct mr_generation *gen = mr_generations_at(gens, i);
        MR_ASSERT(gen->from_ms >= 0 && gen->from_ms < gen->to_ms);
        MR_ASSERT(gen->to_ms >= before_ms);
        MR_ASSERT(gen->from_ms <= gens->recorded_ms);
        MR_ASSERT(mr_generations_name(gens, i) >= name && mr_generations_name(gens, i) <= i);
        name = mr_generations_name(gens, i);
        before_ms = gen->to_ms;
        ids += gen->ids;
    }
    MR_ASSERT(ids == gens->live_ids);
}
