/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/dedup.h"

#include "base/alloc.h"
#include "base/check.h"
#include "dedup/layout.h"
#include "dedup/state.h"

enum {
    EVICT_GENERATIONS = 32, /* full ones: what is evicted at once is less than the 5 % headroom */
    SWEEP_PER_CALL = 256,   /* slots: pays the debt of a quiet stream little by little */
};

static_assert(MR_LAYOUT_EXACT_MAX + MR_DEDUP_GENERATIONS + 3 + EVICT_GENERATIONS <=
                  MR_GENERATIONS_LIVE_MAX,
              "generations.h, why the ring is enough");
static_assert(MR_DEDUP_TAGS_IN_CYCLE - MR_GENERATIONS_LIVE_MAX > 128 + 1, "exact.h, why I4");
static_assert(MR_DEDUP_BLOOM_GENERATIONS == MR_BLOOMING_CUTS, "as promised in dedup.h");

static uint64_t cap_of(uint64_t ids_max) {
    return ids_max + ids_max / 20 + 1;
}

static uint64_t share_of(uint64_t ids, uint64_t parts) {
    return ids / parts + (ids % parts != 0);
}

/* ---- life ---- */

static enum mr_status check_options(const struct mr_dedup_options *options,
                                    struct mr_error *error) {
    if (options->contents && options->mode != MR_DEDUP_EXACT) {
        return mr_error_set(error, MR_INVALID, "dedup: only mode exact keeps contents");
    }
    if (options->mode == MR_DEDUP_NONE) {
        return MR_OK;
    }
    if (options->mode != MR_DEDUP_EXACT && options->mode != MR_DEDUP_BLOOM) {
        return mr_error_set(error, MR_INVALID, "dedup: unknown mode %d", (int)options->mode);
    }
    if (options->horizon_ms < 1 || options->horizon_ms > MR_DEDUP_HORIZON_MAX_MS) {
        return mr_error_set(error, MR_INVALID,
                            "dedup: horizon is %lld ms, not in 1 ms to 100 years",
                            (long long)options->horizon_ms);
    }
    if (options->ids_max < 1 || options->ids_max > MR_DEDUP_IDS_MAX_MAX) {
        return mr_error_set(error, MR_INVALID, "dedup: ids is %llu, not in 1 to 2^40",
                            (unsigned long long)options->ids_max);
    }
    if (options->mode == MR_DEDUP_BLOOM && !(options->error >= 1e-7 && options->error <= 0.5)) {
        return mr_error_set(error, MR_INVALID, "dedup: error is %g, not in 1e-7 to 0.5",
                            options->error);
    }
    return MR_OK;
}

static enum mr_exact_kind kind_of(const struct mr_dedup_options *options) {
    return options->contents ? MR_EXACT_CONTENTS : MR_EXACT_IDS;
}

uint64_t mr_dedup_bytes_planned(const struct mr_dedup_options *options) {
    uint64_t cap = cap_of(options->ids_max);
    switch (options->mode) {
    case MR_DEDUP_EXACT:
        return sizeof(struct mr_dedup) + mr_exact_bytes_planned(cap, kind_of(options));
    case MR_DEDUP_BLOOM:
        return sizeof(struct mr_dedup) + mr_blooming_bytes_planned(cap, options->error);
    case MR_DEDUP_NONE:
        return sizeof(struct mr_dedup);
    }
    MR_UNREACHABLE();
}

static enum mr_status open_mode(struct mr_dedup *dedup) {
    const struct mr_dedup_options *options = &dedup->options;
    bool evict = options->when_full == MR_WHEN_FULL_EVICT_OLDEST;
    uint64_t cap = dedup->ids_cap;
    switch (options->mode) {
    case MR_DEDUP_EXACT:
        mr_generations_init(&dedup->gens, options->horizon_ms, MR_DEDUP_GENERATIONS,
                            evict ? share_of(cap, EVICT_GENERATIONS) : UINT64_MAX);
        return mr_exact_open(&dedup->exact, cap, kind_of(options));
    case MR_DEDUP_BLOOM:
        mr_generations_init(&dedup->gens, options->horizon_ms, MR_DEDUP_BLOOM_GENERATIONS,
                            mr_blooming_ids_each(cap));
        return mr_blooming_open(&dedup->blooming, cap, options->error);
    case MR_DEDUP_NONE:
        mr_generations_init(&dedup->gens, 1, 1, 1);
        return MR_OK;
    }
    MR_UNREACHABLE();
}

enum mr_status mr_dedup_open(const struct mr_dedup_options *options, struct mr_dedup **ret,
                             struct mr_error *error) {
    MR_ASSERT(options != NULL && ret != NULL);
    enum mr_status status = check_options(options, error);
    if (status != MR_OK) {
        return status;
    }
    struct mr_dedup *dedup = mr_alloc_zero(1, sizeof *dedup);
    if (dedup == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "dedup: out of memory");
    }
    dedup->options = *options;
    dedup->ids_cap = cap_of(options->ids_max);
    dedup->bytes_planned = mr_dedup_bytes_planned(options);
    status = open_mode(dedup);
    if (status != MR_OK) {
        (void)mr_error_set(error, status, "dedup: no memory for %llu ids (%llu bytes)",
                           (unsigned long long)options->ids_max,
                           (unsigned long long)dedup->bytes_planned);
        mr_free(dedup);
        return status;
    }
    mr_journal_init(&dedup->journal, dedup->gens.ids_each_max, dedup->ids_cap, kind_of(options));
    mr_counter_set(&dedup->stats.bytes, dedup->bytes_planned);
    *ret = dedup;
    return MR_OK;
}

void mr_dedup_close(struct mr_dedup *dedup) {
    if (dedup == NULL) {
        return;
    }
    mr_exact_close(&dedup->exact);
    mr_blooming_close(&dedup->blooming);
    mr_journal_finish(&dedup->journal);
    mr_loading_free(dedup->loading);
    mr_free(dedup);
}

/* ---- time ---- */

static uint64_t ordinal_of(const struct mr_dedup *dedup, uint8_t tag) {
    uint8_t first = mr_dedup_tag_of(dedup->gens.first);
    uint64_t steps = tag >= first ? tag - first : tag + MR_DEDUP_TAGS_IN_CYCLE - first;
    MR_ASSERT(dedup->gens.first + steps < dedup->gens.end);
    return dedup->gens.first + steps;
}

static uint64_t forget_oldest(struct mr_dedup *dedup) {
    if (dedup->options.mode == MR_DEDUP_EXACT) {
        mr_exact_tag_kill(&dedup->exact, mr_dedup_tag_of(dedup->gens.first));
    } else {
        mr_blooming_pop_oldest(&dedup->blooming);
    }
    return mr_generations_pop_oldest(&dedup->gens);
}

void mr_dedup_forget_expired(struct mr_dedup *dedup) {
    while (mr_generations_oldest_expired(&dedup->gens)) {
        mr_counter_add(&dedup->stats.expired_ids, forget_oldest(dedup));
    }
}

void mr_dedup_update_stats(struct mr_dedup *dedup) {
    struct mr_dedup_stats *stats = &dedup->stats;
    const struct mr_generations *gens = &dedup->gens;
    mr_counter_set(&stats->live_ids, gens->live_ids);
    mr_counter_set(&stats->generation, (uint64_t)(gens->recorded_ms / gens->generation_ms));
    if (dedup->options.mode == MR_DEDUP_EXACT) {
        mr_counter_set(&stats->fill_ppm, dedup->exact.used * 1000000 / dedup->exact.slots);
    } else if (dedup->options.mode == MR_DEDUP_BLOOM) {
        mr_counter_set(&stats->error_ppb, (uint64_t)(mr_blooming_error(&dedup->blooming) * 1e9));
        mr_counter_set(&stats->fill_ppm, (uint64_t)(mr_blooming_fill(&dedup->blooming) * 1e6));
        mr_counter_set(&stats->bytes,
                       dedup->bytes_planned + mr_blooming_bytes_apart(&dedup->blooming));
    }
}

void mr_dedup_advance(struct mr_dedup *dedup, int64_t recorded_ms) {
    struct mr_generations *gens = &dedup->gens;
    MR_ASSERT(dedup->loading == NULL);
    if (recorded_ms <= gens->recorded_ms || dedup->options.mode == MR_DEDUP_NONE) {
        return;
    }
    mr_generations_advance(gens, recorded_ms);
    mr_dedup_forget_expired(dedup);
    mr_dedup_update_stats(dedup);
}

bool mr_dedup_due(const struct mr_dedup *dedup, int64_t recorded_ms) {
    return mr_generations_live_ids_at(&dedup->gens, recorded_ms) < dedup->gens.live_ids;
}

uint64_t mr_dedup_room(const struct mr_dedup *dedup, int64_t recorded_ms) {
    bool bounded =
        dedup->options.mode != MR_DEDUP_NONE && dedup->options.when_full == MR_WHEN_FULL_REJECT;
    if (!bounded) {
        return UINT64_MAX;
    }
    return dedup->ids_cap - mr_generations_live_ids_at(&dedup->gens, recorded_ms);
}

/* ---- judging ---- */

/* How many new ids can be taken as things stand. */
static uint64_t room_now(const struct mr_dedup *dedup) {
    uint64_t all = dedup->ids_cap - dedup->gens.live_ids;
    uint64_t newest = mr_generations_room(&dedup->gens);
    return all < newest ? all : newest;
}

/* A new id is next, and room_now is 0. */
static void make_room(struct mr_dedup *dedup) {
    struct mr_generations *gens = &dedup->gens;
    /* The oldest may be empty: at a start, another shard got all its ids. */
    while (gens->live_ids == dedup->ids_cap) {
        /* In `reject` the caller has asked mr_dedup_room before. */
        MR_ASSERT(dedup->options.when_full == MR_WHEN_FULL_EVICT_OLDEST);
        mr_counter_add(&dedup->stats.evicted_ids, forget_oldest(dedup));
    }
    mr_dedup_forget_expired(dedup); /* a shorter horizon may have begun with that */
    if (mr_generations_room(gens) == 0) {
        uint64_t ordinal = mr_generations_open_next(gens);
        if (dedup->options.mode == MR_DEDUP_EXACT) {
            mr_exact_tag_open(&dedup->exact, mr_dedup_tag_of(ordinal));
        } else {
            mr_blooming_push(&dedup->blooming);
        }
    }
    MR_ASSERT(room_now(dedup) > 0);
}

static uint32_t judge_some(struct mr_dedup *dedup, const struct mr_dedup_batch *batch,
                           uint32_t from) {
    uint64_t room = room_now(dedup);
    uint64_t new_ids = 0;
    uint32_t next;
    if (dedup->options.mode == MR_DEDUP_EXACT) {
        uint8_t tag = room > 0 ? mr_dedup_tag_of(dedup->gens.end - 1) : 0;
        next = mr_exact_judge(&dedup->exact, batch, from, tag, room, &new_ids);
    } else {
        next = mr_blooming_judge(&dedup->blooming, batch, from, room, &new_ids);
    }
    mr_generations_add(&dedup->gens, new_ids);
    if (dedup->journal.on && new_ids > 0) {
        mr_journal_add(&dedup->journal, dedup->gens.end - 1, batch, from, next);
    }
    return next;
}

static void judge_all(struct mr_dedup *dedup, const struct mr_dedup_batch *batch) {
    MR_ASSERT(batch->fps != NULL && batch->order != NULL && batch->duplicate != NULL);
    MR_ASSERT(dedup->loading == NULL);
    mr_journal_expect(&dedup->journal, batch->count);
    for (uint32_t next = judge_some(dedup, batch, 0); next < batch->count; next = judge_some(dedup, batch, next)) {
        make_room(dedup);
    }
    if (dedup->options.mode == MR_DEDUP_EXACT && dedup->exact.sweep_debt > 0) {
        (void)mr_exact_sweep(&dedup->exact, SWEEP_PER_CALL);
    }
    mr_dedup_update_stats(dedup);
}

void mr_dedup_judge(struct mr_dedup *dedup, const struct mr_fingerprint *fps, const uint32_t *order,
                    uint32_t count, uint8_t *duplicate) {
    MR_ASSERT(!dedup->options.contents);
    if (count > 0 && dedup->options.mode == MR_DEDUP_NONE) {
        memset(duplicate, MR_DEDUP_NEW, count);
    } else if (count > 0) {
        struct mr_dedup_batch batch = {fps, order, count, duplicate, NULL};
        judge_all(dedup, &batch);
    }
}

void mr_dedup_judge_contents(struct mr_dedup *dedup, const struct mr_fingerprint *fps, const uint64_t *contents,
                             const uint32_t *order, uint32_t count, uint8_t *duplicate) {
    MR_ASSERT(dedup->options.contents && (contents != NULL || count == 0));
    if (count > 0) {
        struct mr_dedup_batch batch = {fps, order, count, duplicate, contents};
        judge_all(dedup, &batch);
    }
}

bool mr_dedup_sweep(struct mr_dedup *dedup, uint32_t slots) {
    switch (dedup->options.mode) {
    case MR_DEDUP_EXACT:
        return mr_exact_sweep(&dedup->exact, slots);
    case MR_DEDUP_BLOOM:
        return mr_blooming_sweep(&dedup->blooming, slots);
    case MR_DEDUP_NONE:
        return false;
    }
    MR_UNREACHABLE();
}

/* ---- journal ---- */

void mr_dedup_journal(struct mr_dedup *dedup, bool on) {
    mr_journal_switch(&dedup->journal, on);
}

enum mr_status mr_dedup_reserve(struct mr_dedup *dedup, uint32_t count) {
    bool writes = dedup->options.mode != MR_DEDUP_NONE;
    return writes ? mr_journal_reserve(&dedup->journal, count) : MR_OK;
}

struct mr_dedup_chunk *mr_dedup_take(struct mr_dedup *dedup, bool all) {
    return mr_journal_take(&dedup->journal, all);
}

/* ---- questions ---- */

bool mr_dedup_seen(const struct mr_dedup *dedup, struct mr_fingerprint fp, int64_t *ret_from_ms,
                   int64_t *ret_to_ms, int64_t *ret_until_ms) {
    uint64_t ordinal;
    if (dedup->options.mode == MR_DEDUP_EXACT) {
        uint8_t tag = mr_exact_find(&dedup->exact, fp);
        if (tag == 0) {
            return false;
        }
        ordinal = ordinal_of(dedup, tag);
    } else {
        uint32_t i = mr_blooming_find(&dedup->blooming, fp);
        if (i == dedup->blooming.live_count) {
            return false; /* mode none comes here as well: no filter is live */
        }
        ordinal = dedup->gens.first + i;
    }
    const struct mr_generation *gen = mr_generations_at(&dedup->gens, ordinal);
    *ret_from_ms = gen->from_ms;
    *ret_to_ms = gen->to_ms;
    *ret_until_ms = mr_generations_until_ms(&dedup->gens, ordinal);
    return true;
}

const struct mr_dedup_stats *mr_dedup_stats(const struct mr_dedup *dedup) {
    return &dedup->stats;
}

/* Generations are named by their times, not by ordinal or tag: these depend on what came long
 * before. */
static uint64_t hash_exact(const struct mr_dedup *dedup) {
    uint64_t tag_salt[MR_EXACT_TAGS] = {0};
    for (uint64_t i = dedup->gens.first; i < dedup->gens.end; i++) {
        const struct mr_generation *gen = mr_generations_at(&dedup->gens, i);
        tag_salt[mr_dedup_tag_of(i)] = mr_hash64(mr_bytes_of(gen, sizeof *gen), 0);
    }
    return mr_exact_hash_scan(&dedup->exact, tag_salt);
}

static uint64_t hash_bloom(const struct mr_dedup *dedup) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < dedup->blooming.live_count; i++) {
        const struct mr_generation *gen = mr_generations_at(&dedup->gens, dedup->gens.first + i);
        uint64_t bits = mr_blooming_hash_scan(&dedup->blooming, i);
        sum += mr_hash64(mr_bytes_of(gen, sizeof *gen), bits);
    }
    return sum;
}

uint64_t mr_dedup_state_hash_scan(const struct mr_dedup *dedup) {
    switch (dedup->options.mode) {
    case MR_DEDUP_EXACT:
        return hash_exact(dedup);
    case MR_DEDUP_BLOOM:
        return hash_bloom(dedup);
    case MR_DEDUP_NONE:
        return 0;
    }
    MR_UNREACHABLE();
}

static void check_exact(const struct mr_dedup *dedup) {
    mr_exact_check_scan(&dedup->exact);
    uint64_t live_tags = 0;
    for (uint32_t tag = 0; tag < MR_EXACT_TAGS; tag++) {
        live_tags += dedup->exact.tag_state[tag] == MR_EXACT_TAG_LIVE;
    }
    MR_ASSERT(live_tags == dedup->gens.end - dedup->gens.first);
    for (uint64_t i = dedup->gens.first; i < dedup->gens.end; i++) {
        MR_ASSERT(dedup->exact.tag_state[mr_dedup_tag_of(i)] == MR_EXACT_TAG_LIVE);
        MR_ASSERT(dedup->exact.tag_used[mr_dedup_tag_of(i)] ==
                  mr_generations_at(&dedup->gens, i)->ids);
    }
}

void mr_dedup_check_scan(const struct mr_dedup *dedup) {
    mr_generations_check(&dedup->gens);
    mr_journal_check(&dedup->journal);
    if (dedup->options.mode == MR_DEDUP_EXACT) {
        check_exact(dedup);
    } else if (dedup->options.mode == MR_DEDUP_BLOOM) {
        mr_blooming_check_scan(&dedup->blooming);
        MR_ASSERT(dedup->blooming.live_count == dedup->gens.end - dedup->gens.first);
    }
    MR_ASSERT(!mr_generations_oldest_expired(&dedup->gens));
    MR_ASSERT(dedup->gens.live_ids <= dedup->ids_cap);
    MR_ASSERT(mr_counter_read(&dedup->stats.live_ids) == dedup->gens.live_ids);
}
