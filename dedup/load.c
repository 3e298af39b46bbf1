/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/check.h"
#include "dedup/layout.h"
#include "dedup/state.h"

enum { PIECE = 256 }; /* ids inserted at once: what is needed beside them stays in the cache */

static enum mr_status no_memory(struct mr_error *error) {
    return mr_error_set(error, MR_NO_MEMORY, "dedup: out of memory loading ids");
}

/* ---- beginning ---- */

static const char *name_of(enum mr_dedup_mode mode) {
    return mode == MR_DEDUP_EXACT ? "exact" : mode == MR_DEDUP_BLOOM ? "bloom" : "none";
}

static enum mr_status check_mode(const struct mr_dedup *dedup, const struct mr_saved *saved,
                                 struct mr_error *error) {
    enum mr_dedup_mode now = dedup->options.mode;
    if (now == saved->mode || now == MR_DEDUP_NONE || saved->mode == MR_DEDUP_NONE) {
        return MR_OK;
    }
    return mr_error_set(
        error, MR_MISMATCH,
        "dedup: ids were remembered in mode %s, which cannot become %s: set the mode "
        "back to %s, or use another data directory (or, to forget all ids, start "
        "once with mode none)",
        name_of(saved->mode), name_of(now), name_of(saved->mode));
}

/* Which horizon is in force from now on, and which one waits (dedup.h, Changed options). */
static void choose_horizon(struct mr_loading *l, int64_t wanted_ms) {
    if (l->source_count == 0 || wanted_ms >= l->horizon_ms) {
        l->horizon_ms = wanted_ms;
        l->next_horizon_ms = 0;
        return;
    }
    /* Those from next_at on were promised the one that waited: a longer one may begin there, a
     * shorter one only after them. */
    bool later = l->next_horizon_ms == 0 || wanted_ms < l->next_horizon_ms;
    l->next_at = later ? UINT64_MAX : l->next_at;
    l->next_horizon_ms = wanted_ms;
}

static void add_saved(struct mr_loading *l, struct mr_load_blob *blob,
                      const struct mr_saved *saved) {
    *blob = (struct mr_load_blob){
        .end = saved->first + saved->count,
        .first = l->source_count,
        .count = saved->count,
    };
    for (uint32_t i = 0; i < saved->count; i++) {
        l->sources[l->source_count++] =
            (struct mr_load_source){.gen = saved->gens[i], .name = saved->names[i]};
    }
    l->end = blob->end > l->end ? blob->end : l->end;
    l->recorded_ms = saved->recorded_ms > l->recorded_ms ? saved->recorded_ms : l->recorded_ms;
    l->evicted_ids += saved->evicted_ids;
    l->expired_ids += saved->expired_ids;
    if (saved->count > 0 && saved->horizon_ms >= l->horizon_ms) {
        l->horizon_ms = saved->horizon_ms;
        l->next_horizon_ms = l->blob_count == 1 ? saved->next_horizon_ms : 0;
        l->next_at = l->blob_count == 1 ? saved->next_at : 0;
    }
    l->apart = saved->apart;
}

/* Whether the generations that come will be such as those that are there. */
static bool is_same(const struct mr_dedup *dedup, const struct mr_saved *saved) {
    bool waits = saved->next_horizon_ms != 0;
    return dedup->options.horizon_ms == (waits ? saved->next_horizon_ms : saved->horizon_ms) &&
           dedup->gens.ids_each_max == saved->ids_each_max;
}

static enum mr_status read_blobs(const struct mr_dedup *dedup, struct mr_loading *l,
                                 const struct mr_bytes *blobs, struct mr_error *error) {
    struct mr_saved *saved = mr_alloc(sizeof *saved);
    enum mr_status status = saved == NULL ? no_memory(error) : MR_OK;
    for (uint32_t i = 0; i < l->blob_count && status == MR_OK; i++) {
        status = mr_saved_read(blobs[i], saved, error);
        if (status == MR_OK) {
            status = check_mode(dedup, saved, error);
        }
        if (status == MR_OK) {
            saved->count = dedup->options.mode == MR_DEDUP_NONE ? 0 : saved->count;
            add_saved(l, &l->blobs[i], saved);
            l->same = l->blob_count == 1 && is_same(dedup, saved);
        }
    }
    mr_free(saved);
    return status;
}

enum mr_status mr_dedup_load_begin(struct mr_dedup *dedup, const struct mr_bytes *saved,
                                   uint32_t saved_count, struct mr_error *error) {
    MR_ASSERT(saved != NULL && saved_count > 0);
    MR_ASSERT(dedup->loading == NULL && dedup->gens.end == 0 && dedup->gens.recorded_ms == 0);
    struct mr_loading *l = mr_alloc_zero(1, sizeof *l);
    if (l == NULL) {
        return no_memory(error);
    }
    dedup->loading = l;
    l->blob_count = saved_count;
    l->blobs = mr_alloc_zero(saved_count, sizeof *l->blobs);
    l->sources = mr_alloc_zero((size_t)saved_count * MR_GENERATIONS_LIVE_MAX, sizeof *l->sources);
    if (l->blobs == NULL || l->sources == NULL) {
        return no_memory(error);
    }
    enum mr_status status = read_blobs(dedup, l, saved, error);
    if (status == MR_OK && dedup->options.mode != MR_DEDUP_NONE) {
        choose_horizon(l, dedup->options.horizon_ms);
    }
    return status;
}

/* ---- ids ---- */

static uint8_t tag_of_target(const struct mr_loading *l, uint32_t target) {
    return mr_dedup_tag_of(l->ordinal + target);
}

static enum mr_status lay_out(struct mr_dedup *dedup, struct mr_error *error) {
    struct mr_loading *l = dedup->loading;
    if (l->laid_out) {
        return MR_OK;
    }
    if (mr_layout(l, dedup->options.mode == MR_DEDUP_BLOOM, dedup->journal.on) != MR_OK) {
        return no_memory(error);
    }
    for (uint32_t i = 0; i < l->target_count && dedup->options.mode == MR_DEDUP_EXACT; i++) {
        mr_exact_tag_open(&dedup->exact, tag_of_target(l, i));
    }
    return MR_OK;
}

static void drop_filters(struct mr_dedup *dedup, uint32_t target) {
    struct mr_loading *l = dedup->loading;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->filter_count; i++) {
        if (l->filters[i].target == target) {
            mr_blooming_load_drop(&dedup->blooming, l->filters[i].filter);
        } else {
            l->filters[kept++] = l->filters[i];
        }
    }
    l->filter_count = kept;
}

/* So that one more id has room. In whatever order ids come, those are dropped in the end that had
 * to be: without the older ones they would not have been in the way. */
static enum mr_status make_room(struct mr_dedup *dedup, struct mr_error *error) {
    struct mr_loading *l = dedup->loading;
    while (l->ids == dedup->ids_cap) {
        if (dedup->options.when_full == MR_WHEN_FULL_REJECT) {
            return mr_error_set(error, MR_FULL,
                                "dedup: more than %llu ids are remembered (of this shard): set "
                                "ids at least as high as it was",
                                (unsigned long long)dedup->ids_cap);
        }
        uint32_t oldest = l->target_first++;
        MR_ASSERT(oldest < l->target_count);
        if (dedup->options.mode == MR_DEDUP_EXACT) {
            mr_exact_tag_kill(&dedup->exact, tag_of_target(l, oldest));
        } else {
            drop_filters(dedup, oldest);
        }
        l->ids -= l->targets[oldest].gen.ids;
        l->dropped += l->targets[oldest].gen.ids;
    }
    return MR_OK;
}

static enum mr_status put_exact(struct mr_dedup *dedup, uint32_t target,
                                const struct mr_dedup_batch *batch, struct mr_error *error) {
    uint64_t new_ids = 0;
    uint8_t tag = tag_of_target(dedup->loading, target);
    (void)mr_exact_judge(&dedup->exact, batch, 0, tag, batch->count, &new_ids); /* all of them */
    return new_ids == batch->count ? MR_OK
                                   : mr_error_set(error, MR_CORRUPT, "dedup: an id is there twice");
}

/* The filter that takes ids of this target; *ret_room: how many. */
static enum mr_status find_filter(struct mr_dedup *dedup, uint32_t target, uint64_t *ret_room) {
    struct mr_loading *l = dedup->loading;
    uint32_t *filter = &l->targets[target].filter;
    for (uint32_t i = 0; i < l->filter_count && *filter != MR_LAYOUT_NO_FILTER; i++) {
        if (l->filters[i].filter == *filter) {
            *ret_room = dedup->blooming.ids_each - l->filters[i].ids;
            if (*ret_room > 0) {
                return MR_OK;
            }
        }
    }
    enum mr_status status = mr_blooming_load_take(&dedup->blooming, filter);
    if (status == MR_OK) {
        MR_ASSERT(l->filter_count < MR_BLOOMING_FILTERS_MAX); /* blooming.h, Apart */
        l->filters[l->filter_count++] =
            (struct mr_load_filter){.target = target, .filter = *filter};
        *ret_room = dedup->blooming.ids_each;
    }
    return status;
}

static void put_bloom(struct mr_dedup *dedup, uint32_t target, const struct mr_fingerprint *ids,
                      uint32_t count) {
    struct mr_loading *l = dedup->loading;
    uint32_t filter = l->targets[target].filter;
    mr_blooming_load_ids(&dedup->blooming, filter, ids, count);
    for (uint32_t i = 0; i < l->filter_count; i++) {
        l->filters[i].ids += l->filters[i].filter == filter ? count : 0;
    }
}

static enum mr_status put_piece(struct mr_dedup *dedup, uint32_t target,
                                const struct mr_dedup_batch *batch, struct mr_error *error) {
    struct mr_loading *l = dedup->loading;
    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->fps[i].hi >> 56 != 0) {
            return mr_error_set(error, MR_CORRUPT, "dedup: an id is not a fingerprint");
        }
    }
    if (dedup->options.mode == MR_DEDUP_BLOOM) {
        memset(batch->duplicate, 0, batch->count);
        put_bloom(dedup, target, batch->fps, batch->count);
    } else {
        enum mr_status status = put_exact(dedup, target, batch, error);
        if (status != MR_OK) {
            return status;
        }
    }
    l->targets[target].gen.ids += batch->count;
    l->ids += batch->count;
    if (dedup->journal.on) {
        if (mr_journal_reserve(&dedup->journal, batch->count) != MR_OK) {
            return no_memory(error);
        }
        mr_journal_expect(&dedup->journal, batch->count);
        mr_journal_add(&dedup->journal, l->targets[target].name, batch, 0, batch->count);
    }
    return MR_OK;
}

/* contents: NULL: none is known. */
static enum mr_status put(struct mr_dedup *dedup, uint32_t target, const struct mr_fingerprint *ids,
                          const uint64_t *contents, uint64_t count, struct mr_error *error) {
    static const uint64_t unknown[PIECE];
    struct mr_loading *l = dedup->loading;
    uint32_t order[PIECE];
    uint8_t duplicate[PIECE];
    for (uint32_t i = 0; i < PIECE; i++) {
        order[i] = i;
    }
    while (count > 0) {
        enum mr_status status = target >= l->target_first ? make_room(dedup, error) : MR_OK;
        if (status == MR_OK && target < l->target_first) {
            l->dropped += count;
            return MR_OK;
        }
        uint64_t room = PIECE;
        if (status == MR_OK && dedup->options.mode == MR_DEDUP_BLOOM &&
            find_filter(dedup, target, &room) != MR_OK) {
            status = no_memory(error);
        }
        if (status != MR_OK) {
            return status;
        }
        uint64_t n = dedup->ids_cap - l->ids;
        n = n < room ? n : room;
        n = n < PIECE ? n : PIECE;
        n = n < count ? n : count;
        const uint64_t *known = dedup->options.contents && contents == NULL ? unknown : contents;
        struct mr_dedup_batch batch = {ids, order, (uint32_t)n, duplicate, dedup->options.contents ? known : NULL};
        status = put_piece(dedup, target, &batch, error);
        if (status != MR_OK) {
            return status;
        }
        ids += n;
        contents = contents == NULL ? NULL : contents + n;
        count -= n;
    }
    return MR_OK;
}

/* The generations of this name: a run, for a target of bloom may have been several filters. */
static uint32_t find_run(const struct mr_loading *l, const struct mr_load_blob *blob, uint64_t name,
                         uint32_t *ret_end) {
    uint32_t end = blob->first + blob->count;
    while (end > blob->first && l->sources[end - 1].name > name) {
        end--;
    }
    uint32_t first = end;
    while (first > blob->first && l->sources[first - 1].name == l->sources[end - 1].name) {
        first--;
    }
    *ret_end = end;
    return first;
}

enum mr_status mr_dedup_load_ids(struct mr_dedup *dedup, uint32_t saved, uint64_t generation,
                                 const struct mr_fingerprint *ids, const uint64_t *contents, uint32_t count,
                                 struct mr_error *error) {
    struct mr_loading *l = dedup->loading;
    MR_ASSERT(l != NULL && saved < l->blob_count);
    const struct mr_load_blob *blob = &l->blobs[saved];
    if (dedup->options.mode == MR_DEDUP_NONE) {
        return MR_OK;
    }
    enum mr_status status = lay_out(dedup, error);
    if (status == MR_OK && generation >= blob->end) {
        status =
            mr_error_set(error, MR_CORRUPT, "dedup: ids of generation %llu, which had not begun",
                         (unsigned long long)generation);
    }
    uint32_t end = 0;
    uint32_t i = find_run(l, blob, generation, &end);
    if (i == end || status != MR_OK) {
        return status; /* it was forgotten when the state was saved */
    }
    for (; i < end && status == MR_OK && count > 0; i++) {
        struct mr_load_source *source = &l->sources[i];
        uint64_t left = source->gen.ids - source->given;
        uint32_t n = left < count ? (uint32_t)left : count;
        status = put(dedup, source->target, ids, contents, n, error);
        source->given += n;
        ids += n;
        contents = contents == NULL ? NULL : contents + n;
        count -= n;
    }
    if (status == MR_OK && count > 0) {
        status = mr_error_set(error, MR_CORRUPT, "dedup: generation %llu has more ids than it had",
                              (unsigned long long)generation);
    }
    return status;
}

/* ---- the end ---- */

static enum mr_status compare_counts(const struct mr_loading *l, struct mr_error *error) {
    for (uint32_t i = 0; i < l->source_count; i++) {
        const struct mr_load_source *source = &l->sources[i];
        if (source->given != source->gen.ids) {
            return mr_error_set(
                error, MR_CORRUPT, "dedup: generation %llu had %llu ids, and there are %llu",
                (unsigned long long)source->name, (unsigned long long)source->gen.ids,
                (unsigned long long)source->given);
        }
    }
    return MR_OK;
}

static void append_exact(struct mr_dedup *dedup) {
    const struct mr_loading *l = dedup->loading;
    for (uint32_t i = l->target_first; i < l->target_count; i++) {
        mr_generations_append(&dedup->gens, &l->targets[i].gen, l->targets[i].name);
    }
}

/* Each filter is a generation; those of one target in the order in which they were begun. */
static enum mr_status append_bloom(struct mr_dedup *dedup, struct mr_error *error) {
    const struct mr_loading *l = dedup->loading;
    uint32_t filters[MR_BLOOMING_FILTERS_MAX];
    uint32_t count = 0;
    for (uint32_t t = l->target_first; t < l->target_count; t++) {
        for (uint32_t i = 0; i < l->filter_count; i++) {
            if (l->filters[i].target == t) {
                struct mr_generation gen = l->targets[t].gen;
                gen.ids = l->filters[i].ids;
                filters[count++] = l->filters[i].filter;
                mr_generations_append(&dedup->gens, &gen, l->targets[t].name);
            }
        }
    }
    MR_ASSERT(count == l->filter_count);
    uint32_t apart = l->apart > l->target_first ? l->apart - l->target_first : 0;
    apart = l->regrouped ? count : apart;
    return mr_blooming_load_end(&dedup->blooming, filters, count, apart) == MR_OK
               ? MR_OK
               : no_memory(error);
}

static void set_time(struct mr_dedup *dedup, bool moved) {
    const struct mr_loading *l = dedup->loading;
    struct mr_generations *gens = &dedup->gens;
    uint64_t next_at = l->regrouped || l->next_at > gens->end ? gens->end : l->next_at;
    mr_generations_set_horizons(gens, l->horizon_ms, l->next_horizon_ms,
                                l->next_horizon_ms != 0 ? next_at : 0);
    mr_counter_set(&dedup->stats.evicted_ids, l->dropped + (moved ? 0 : l->evicted_ids));
    mr_counter_set(&dedup->stats.expired_ids, moved ? 0 : l->expired_ids);
    mr_dedup_forget_expired(dedup);
}

enum mr_status mr_dedup_load_end(struct mr_dedup *dedup, bool moved, struct mr_error *error) {
    struct mr_loading *l = dedup->loading;
    MR_ASSERT(l != NULL);
    enum mr_status status = lay_out(dedup, error);
    MR_ASSERT(!moved || l->renamed || l->source_count == 0);
    if (status == MR_OK && !moved) {
        status = compare_counts(l, error);
    }
    if (status != MR_OK) {
        return status;
    }
    bool none = dedup->options.mode == MR_DEDUP_NONE;
    mr_generations_restart(&dedup->gens, none ? 0 : l->recorded_ms, l->ordinal + l->target_first);
    if (dedup->options.mode == MR_DEDUP_EXACT) {
        append_exact(dedup);
    } else if (dedup->options.mode == MR_DEDUP_BLOOM) {
        status = append_bloom(dedup, error);
    }
    if (status != MR_OK) {
        return status;
    }
    if (!none) {
        set_time(dedup, moved);
    }
    dedup->loading = NULL;
    mr_loading_free(l);
    mr_dedup_update_stats(dedup);
    return MR_OK;
}
