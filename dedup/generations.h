/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Generations: the bookkeeping of time: which generations are live, and how many ids each holds.
 *
 * Idea        Recorded time is cut at the multiples of generation_ms, counted from the epoch, so
 *             that the cuts don't depend on when the process began. A generation also ends when it
 *             holds ids_each_max ids; the rest of its time belongs to the next one. It is opened
 *             only when an id is there for it, so that a jump over a year of recorded time costs no
 *             loop.
 *
 *                    0          g         2g         3g          recorded time
 *                    |--- 41 ---|- 42 -|43|          |-- 44 …    generations, by ordinal
 *                                 full ^   nothing came
 *
 *             A generation [from, to) is forgotten when recorded time reaches to + horizon: an id
 *             first seen at t in it is remembered for more than horizon and at most horizon +
 *             generation_ms. It begins when it is opened, not with its slot: nothing in it may look older
 *             than what was forgotten before (with another horizon slots may have been shorter).
 * Changes     A start may find generations of another length, from another horizon (dedup.h,
 *             Loading). A shorter horizon waits until those below the ordinal next_at are
 *             forgotten, and is then in force for the others as well:
 *
 *                 | 41 | 42 | 43 | 44 |45|46|47|        horizon_ms, then next_horizon_ms
 *                                next_at ^
 *
 * Shape       A ring of MR_GENERATIONS_LIVE_MAX, by ordinal. Ordinals count up for ever; those of
 *             [first, end) are live. The name of a generation is what chunks of the journal call
 *             it: its ordinal, or, when it was joined from several at a start, the lowest of
 *             theirs.
 * Units       Recorded time in ms.
 * Owner       The caller's memory.
 * Threads     One owner.
 * Cost        O(1); forgetting O(generations forgotten).
 * Invariants  I1 to_ms never decreases from one generation to the next, and neither does the name.
 *             I2 live_ids is the sum of ids.   I3 at most 1 generation in each live slot of
 *             generation_ms is not full, apart from those a start found.   I4 next_at is above
 *             first while a shorter horizon waits.
 *
 * Why the     At a start with other options at most 61 are live (dedup/layout.h). Those opened since
 * ring is     are at most 32 full ones (of 1/32 of the room each) and 19 that time has cut: 16 ends
 * enough      of slots lie within a horizon, one more where slots of two lengths meet, and the
 *             one under way; another is spare.
 */
#include <stdbool.h>
#include <stdint.h>

/* Live at the same time: 17 that time has cut (of MR_DEDUP_GENERATIONS) and 32 full ones; more
 * only after a start with other options. */
#define MR_GENERATIONS_LIVE_MAX 112

struct mr_generation {
    int64_t from_ms;
    int64_t to_ms; /* ids of it were first seen in [from_ms, to_ms) */
    uint64_t ids;
};

struct mr_generations {
    /* constant after init */
    int64_t cuts;
    uint64_t ids_each_max;
    /* in force */
    int64_t horizon_ms;
    int64_t generation_ms;
    /* waiting */
    int64_t next_horizon_ms; /* 0: none */
    uint64_t next_at;
    /* state */
    int64_t recorded_ms;
    uint64_t first;
    uint64_t end;
    uint64_t live_ids;
    struct mr_generation ring[MR_GENERATIONS_LIVE_MAX];
    uint64_t names[MR_GENERATIONS_LIVE_MAX];
};

/* horizon_ms is cut into `cuts` generations, rounded up to a millisecond each. */
void mr_generations_init(struct mr_generations *gens, int64_t horizon_ms, int64_t cuts,
                         uint64_t ids_each_max);

static inline const struct mr_generation *mr_generations_at(const struct mr_generations *gens,
                                                            uint64_t ordinal) {
    return &gens->ring[ordinal % MR_GENERATIONS_LIVE_MAX];
}

static inline uint64_t mr_generations_name(const struct mr_generations *gens, uint64_t ordinal) {
    return gens->names[ordinal % MR_GENERATIONS_LIVE_MAX];
}

/* Recorded time is now at least recorded_ms (at most INT64_MAX - 1). Forgets nothing yet. */
void mr_generations_advance(struct mr_generations *gens, int64_t recorded_ms);
/* Whether the oldest live generation is to be forgotten. */
bool mr_generations_oldest_expired(const struct mr_generations *gens);
/* Forgets the oldest, which must be there; returns how many ids it held. */
uint64_t mr_generations_pop_oldest(struct mr_generations *gens);
/* How many ids would be live at recorded_ms, without moving there. */
uint64_t mr_generations_live_ids_at(const struct mr_generations *gens, int64_t recorded_ms);

/* How many more ids the newest generation takes now; 0 when the next id needs a new one. */
uint64_t mr_generations_room(const struct mr_generations *gens);
/* Opens the generation of this moment (room must be 0); returns its ordinal. */
uint64_t mr_generations_open_next(struct mr_generations *gens);
/* Counts ids new in the newest generation, at most its room. */
void mr_generations_add(struct mr_generations *gens, uint64_t ids);

/* The moment at which this generation is forgotten, unless others are forgotten early. */
int64_t mr_generations_until_ms(const struct mr_generations *gens, uint64_t ordinal);

/* For loading, in this order: no generation is live, and the next one opened is `first`; one more
 * behind the newest, with its ids; and the horizons, once the generations are there. */
void mr_generations_restart(struct mr_generations *gens, int64_t recorded_ms, uint64_t first);
void mr_generations_append(struct mr_generations *gens, const struct mr_generation *gen,
                           uint64_t name);
void mr_generations_set_horizons(struct mr_generations *gens, int64_t horizon_ms,
                                 int64_t next_horizon_ms, uint64_t next_at);

void mr_generations_check(const struct mr_generations *gens);
