/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/layout.h"

#include "base/alloc.h"
#include "base/check.h"

static_assert(MR_LAYOUT_EXACT_MAX % 2 == 1 && MR_BLOOMING_SPANS % 2 == 1, "they are 2 j - 1");

/* A source's place in time. Those of equal ends stand together, and the first of them counts for
 * all. */
struct place {
    int64_t to_ms;
    int64_t from_ms;
    uint32_t source;
    bool first;
    uint64_t ids;
};

static int compare_places(const void *left, const void *right) {
    const struct place *a = left;
    const struct place *b = right;
    if (a->to_ms != b->to_ms) {
        return a->to_ms < b->to_ms ? -1 : 1;
    }
    if (a->from_ms != b->from_ms) {
        return a->from_ms < b->from_ms ? -1 : 1;
    }
    return a->source < b->source ? -1 : 1;
}

/* Returns how many different ends there are. */
static uint32_t sort_places(const struct mr_loading *l, struct place *places) {
    for (uint32_t i = 0; i < l->source_count; i++) {
        const struct mr_generation *gen = &l->sources[i].gen;
        places[i] = (struct place){.to_ms = gen->to_ms, .from_ms = gen->from_ms, .source = i};
    }
    if (l->blob_count > 1) {
        qsort(places, l->source_count, sizeof places[0], compare_places);
    }
    uint32_t different = 0;
    struct place *first = NULL;
    for (uint32_t i = 0; i < l->source_count; i++) {
        struct place *place = &places[i];
        bool equal = first != NULL && first->to_ms == place->to_ms;
        place->first = !equal;
        different += place->first;
        first = equal ? first : place;
        first->ids += l->sources[place->source].gen.ids;
    }
    return different;
}

static struct mr_load_target *add_target(struct mr_loading *l,
                                         const struct mr_load_source *source) {
    MR_ASSERT(l->target_count < MR_GENERATIONS_LIVE_MAX);
    struct mr_load_target *target = &l->targets[l->target_count++];
    *target = (struct mr_load_target){
        .gen = {.from_ms = source->gen.from_ms, .to_ms = source->gen.to_ms},
        .name = source->name,
        .filter = MR_LAYOUT_NO_FILTER,
    };
    return target;
}

static void join_places(struct mr_loading *l, const struct place *places, bool join,
                        uint64_t ids_max) {
    struct mr_load_target *target = NULL;
    uint64_t ids = 0;
    for (uint32_t i = 0; i < l->source_count; i++) {
        const struct place *place = &places[i];
        struct mr_load_source *source = &l->sources[place->source];
        bool fits = join && place->ids <= ids_max && ids <= ids_max - place->ids;
        if (target == NULL || (place->first && !fits)) {
            target = add_target(l, source);
            ids = 0;
        }
        ids += place->ids;
        target->gen.to_ms = place->to_ms;
        bool earlier = place->from_ms < target->gen.from_ms;
        target->gen.from_ms = earlier ? place->from_ms : target->gen.from_ms;
        source->target = l->target_count - 1;
    }
}

static enum mr_status regroup(struct mr_loading *l, uint32_t targets_max) {
    struct place *places = mr_alloc_zero(l->source_count, sizeof *places);
    if (places == NULL) {
        return MR_NO_MEMORY;
    }
    bool join = sort_places(l, places) > targets_max;
    uint64_t total = 0;
    for (uint32_t i = 0; i < l->source_count; i++) {
        total += l->sources[i].gen.ids;
    }
    join_places(l, places, join, total / ((targets_max + 1) / 2));
    mr_free(places);
    MR_ASSERT(l->target_count <= targets_max);
    for (uint32_t i = 0; i < l->target_count && l->renamed; i++) {
        l->targets[i].name = l->end + i;
    }
    return MR_OK;
}

enum mr_status mr_layout(struct mr_loading *loading, bool bloom, bool journalled) {
    struct mr_loading *l = loading;
    MR_ASSERT(!l->laid_out);
    l->laid_out = true;
    l->renamed = l->blob_count > 1 || journalled;
    uint32_t targets_max = bloom ? MR_BLOOMING_SPANS : MR_LAYOUT_EXACT_MAX;
    bool too_many = bloom || l->source_count > targets_max;
    l->regrouped = l->source_count > 0 && (l->renamed || (!l->same && too_many));
    if (l->regrouped) {
        enum mr_status status = regroup(l, targets_max);
        l->ordinal = l->end + l->target_count;
        return status;
    }
    for (uint32_t i = 0; i < l->source_count; i++) {
        (void)add_target(l, &l->sources[i]);
        l->sources[i].target = i;
    }
    l->ordinal = l->end - l->source_count;
    return MR_OK;
}

void mr_loading_free(struct mr_loading *loading) {
    if (loading != NULL) {
        mr_free(loading->blobs);
        mr_free(loading->sources);
        mr_free(loading);
    }
}
