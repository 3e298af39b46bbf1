/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/saved.h"

#include "base/pack.h"
#include "dedup/state.h"

enum { FORMAT = 1 };

#define ORDINAL_MAX (UINT64_C(1) << 62)

/* ---- writing ---- */

void mr_dedup_save(const struct mr_dedup *dedup, struct mr_buf *ret) {
    MR_ASSERT(dedup->loading == NULL);
    const struct mr_generations *gens = &dedup->gens;
    mr_pack_u32(ret, FORMAT);
    mr_pack_u32(ret, (uint32_t)dedup->options.mode);
    mr_pack_u32(ret, (uint32_t)(gens->end - gens->first));
    mr_pack_u32(ret, dedup->blooming.apart);
    mr_pack_i64(ret, gens->horizon_ms);
    mr_pack_i64(ret, gens->next_horizon_ms);
    mr_pack_u64(ret, gens->next_at);
    mr_pack_u64(ret, gens->ids_each_max);
    mr_pack_i64(ret, gens->recorded_ms);
    mr_pack_u64(ret, mr_counter_read(&dedup->stats.evicted_ids));
    mr_pack_u64(ret, mr_counter_read(&dedup->stats.expired_ids));
    mr_pack_u64(ret, gens->first);
    for (uint64_t i = gens->first; i < gens->end; i++) {
        const struct mr_generation *gen = mr_generations_at(gens, i);
        mr_pack_u64(ret, mr_generations_name(gens, i));
        mr_pack_i64(ret, gen->from_ms);
        mr_pack_i64(ret, gen->to_ms);
        mr_pack_u64(ret, gen->ids);
    }
}

/* ---- reading ---- */

static enum mr_status corrupt(struct mr_error *error, const char *what) {
    return mr_error_set(error, MR_CORRUPT, "dedup: the saved state cannot be read: %s", what);
}

static void read_fields(struct mr_unpack *u, struct mr_saved *ret) {
    ret->horizon_ms = mr_unpack_i64(u);
    ret->next_horizon_ms = mr_unpack_i64(u);
    ret->next_at = mr_unpack_u64(u);
    ret->ids_each_max = mr_unpack_u64(u);
    ret->recorded_ms = mr_unpack_i64(u);
    ret->evicted_ids = mr_unpack_u64(u);
    ret->expired_ids = mr_unpack_u64(u);
    ret->first = mr_unpack_u64(u);
    for (uint32_t i = 0; i < ret->count; i++) {
        ret->names[i] = mr_unpack_u64(u);
        ret->gens[i].from_ms = mr_unpack_i64(u);
        ret->gens[i].to_ms = mr_unpack_i64(u);
        ret->gens[i].ids = mr_unpack_u64(u);
    }
}

static const char *wrong_head(const struct mr_saved *saved) {
    if (saved->horizon_ms < 1 || saved->horizon_ms > MR_DEDUP_HORIZON_MAX_MS) {
        return "horizon";
    }
    if (saved->recorded_ms < 0 || saved->recorded_ms == INT64_MAX) {
        return "recorded time";
    }
    if (saved->first > ORDINAL_MAX || saved->ids_each_max == 0) {
        return "generations";
    }
    bool waits = saved->next_horizon_ms != 0;
    if (waits && (saved->next_horizon_ms < 1 || saved->next_horizon_ms >= saved->horizon_ms)) {
        return "the next horizon";
    }
    if (waits ? saved->next_at <= saved->first || saved->next_at > saved->first + saved->count
              : saved->next_at != 0) {
        return "when the next horizon begins";
    }
    if (saved->mode == MR_DEDUP_NONE && saved->count != 0) {
        return "generations in mode none";
    }
    bool bloom = saved->mode == MR_DEDUP_BLOOM;
    uint32_t apart_max = bloom ? MR_BLOOMING_APART_MAX : 0;
    bool too_many = bloom && saved->count > MR_BLOOMING_FILTERS + saved->apart;
    if (saved->apart > apart_max || saved->apart > saved->count || too_many) {
        return "filters";
    }
    return NULL;
}

static bool generation_fits(const struct mr_saved *saved, uint32_t i) {
    const struct mr_generation *gen = &saved->gens[i];
    if (gen->from_ms < 0 || gen->from_ms >= gen->to_ms || gen->from_ms > saved->recorded_ms) {
        return false;
    }
    if (saved->names[i] > saved->first + i || gen->ids > 2 * MR_DEDUP_IDS_MAX_MAX) {
        return false;
    }
    if (saved->mode == MR_DEDUP_BLOOM && (gen->ids == 0 || gen->ids > saved->ids_each_max)) {
        return false;
    }
    if (i == 0) {
        return saved->recorded_ms - saved->horizon_ms < gen->to_ms; /* else it had been forgotten */
    }
    return saved->names[i - 1] <= saved->names[i] && saved->gens[i - 1].to_ms <= gen->to_ms;
}

enum mr_status mr_saved_read(struct mr_bytes bytes, struct mr_saved *ret, struct mr_error *error) {
    struct mr_unpack u = {.rest = bytes};
    uint32_t format = mr_unpack_u32(&u);
    uint32_t mode = mr_unpack_u32(&u);
    ret->count = mr_unpack_u32(&u);
    ret->apart = mr_unpack_u32(&u);
    if (u.failed || format != FORMAT || mode > MR_DEDUP_NONE) {
        return corrupt(error, "format or mode is unknown");
    }
    if (ret->count > MR_GENERATIONS_LIVE_MAX) {
        return corrupt(error, "too many generations");
    }
    ret->mode = (enum mr_dedup_mode)mode;
    read_fields(&u, ret);
    if (!mr_unpack_end(&u)) {
        return corrupt(error, "it has another length than it says");
    }
    const char *wrong = wrong_head(ret);
    if (wrong != NULL) {
        return corrupt(error, wrong);
    }
    for (uint32_t i = 0; i < ret->count; i++) {
        if (!generation_fits(ret, i)) {
            return corrupt(error, "the times or ids of a generation");
        }
    }
    return MR_OK;
}

enum mr_status mr_dedup_saved_first(struct mr_bytes saved, uint64_t *ret_first) {
    struct mr_saved read;
    enum mr_status status = mr_saved_read(saved, &read, NULL);
    if (status == MR_OK) {
        *ret_first = read.count > 0 ? read.names[0] : UINT64_MAX;
    }
    return status;
}

uint64_t mr_dedup_first_generation(const struct mr_dedup *dedup) {
    const struct mr_generations *gens = &dedup->gens;
    return gens->first < gens->end ? mr_generations_name(gens, gens->first) : UINT64_MAX;
}
