/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/blooming.h"

#include "base/check.h"

enum {
    CLEAR_PACE = 4, /* a filter is cleared within 1/4 of the ids that fill one */
    MEASURES_PER_FILTER = 16,
    MEASURE_IDS_MIN = 32768, /* a measurement reads 4,096 blocks: two words an id at most */
};

static_assert(MR_BLOOMING_FILTERS <= MR_GENERATIONS_LIVE_MAX, "each live generation has a filter");

uint64_t mr_blooming_ids_each(uint64_t ids_max) {
    return ids_max / MR_BLOOMING_FULL + (ids_max % MR_BLOOMING_FULL != 0);
}

uint64_t mr_blooming_bytes_planned(uint64_t ids_max, double error) {
    return MR_BLOOMING_FILTERS *
           mr_bloom_bytes_planned(mr_blooming_ids_each(ids_max), error / MR_BLOOMING_FULL);
}

enum mr_status mr_blooming_open(struct mr_blooming *blooming, uint64_t ids_max, double error) {
    *blooming = (struct mr_blooming){.ids_each = mr_blooming_ids_each(ids_max)};
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS; i++) {
        struct mr_blooming_filter *filter = &blooming->filters[i];
        enum mr_status status =
            mr_bloom_open(blooming->ids_each, error / MR_BLOOMING_FULL, &filter->bloom);
        if (status != MR_OK) {
            mr_blooming_close(blooming);
            return status;
        }
        filter->clean_blocks = mr_bloom_blocks(filter->bloom);
    }
    return MR_OK;
}

void mr_blooming_close(struct mr_blooming *blooming) {
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS; i++) {
        mr_bloom_close(blooming->filters[i].bloom);
    }
    *blooming = (struct mr_blooming){0};
}

/* ---- rotation ---- */

static bool is_clean(const struct mr_blooming_filter *filter) {
    return !filter->live && filter->clean_blocks == mr_bloom_blocks(filter->bloom);
}

/* The lowest clean filter; when there is none, the lowest that is not live. */
static uint32_t take_filter(const struct mr_blooming *blooming) {
    uint32_t dirty = MR_BLOOMING_FILTERS;
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS; i++) {
        if (is_clean(&blooming->filters[i])) {
            return i;
        }
        if (!blooming->filters[i].live && dirty == MR_BLOOMING_FILTERS) {
            dirty = i;
        }
    }
    MR_ASSERT(dirty < MR_BLOOMING_FILTERS); /* blooming.h, Shape: one is always free here */
    return dirty;
}

static void clear_some(struct mr_blooming_filter *filter, uint64_t blocks) {
    mr_bloom_clear_part(filter->bloom, filter->clean_blocks, blocks);
    filter->clean_blocks += blocks;
}

static void measure_newest(struct mr_blooming *blooming) {
    if (blooming->live_count > 0) {
        uint32_t newest = blooming->live[blooming->live_count - 1];
        struct mr_blooming_filter *filter = &blooming->filters[newest];
        filter->error = mr_bloom_error_estimate(filter->bloom);
        filter->fill = mr_bloom_fill(filter->bloom);
    }
    blooming->ids_measured = 0;
}

void mr_blooming_push(struct mr_blooming *blooming) {
    measure_newest(blooming); /* for the last time: it takes no more ids */
    uint32_t i = take_filter(blooming);
    struct mr_blooming_filter *filter = &blooming->filters[i];
    clear_some(filter, mr_bloom_blocks(filter->bloom) - filter->clean_blocks);
    *filter = (struct mr_blooming_filter){.bloom = filter->bloom, .live = true};
    MR_ASSERT(blooming->live_count < MR_BLOOMING_FILTERS);
    blooming->live[blooming->live_count++] = i;
}

void mr_blooming_pop_oldest(struct mr_blooming *blooming) {
    MR_ASSERT(blooming->live_count > 0);
    struct mr_blooming_filter *filter = &blooming->filters[blooming->live[0]];
    MR_ASSERT(filter->live && filter->clean_blocks == 0);
    filter->live = false;
    blooming->live_count--;
    memmove(blooming->live, blooming->live + 1, blooming->live_count * sizeof blooming->live[0]);
}

bool mr_blooming_sweep(struct mr_blooming *blooming, uint64_t blocks) {
    bool left = false;
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS; i++) {
        struct mr_blooming_filter *filter = &blooming->filters[i];
        if (filter->live || is_clean(filter)) {
            continue;
        }
        uint64_t dirty = mr_bloom_blocks(filter->bloom) - filter->clean_blocks;
        uint64_t now = dirty < blocks ? dirty : blocks;
        clear_some(filter, now);
        blocks -= now;
        left = left || now < dirty;
    }
    return left;
}

/* ---- judging ---- */

struct live_filters {
    /* The newest of them first: repeats are mostly recent. */
    struct mr_bloom *older[MR_BLOOMING_FILTERS];
    uint32_t older_count;
    struct mr_bloom *newest; /* NULL when no id may be added */
};

static struct live_filters collect(const struct mr_blooming *blooming, bool add) {
    struct live_filters live = {.newest = NULL};
    uint32_t count = blooming->live_count;
    if (add) {
        MR_ASSERT(count > 0);
        count--;
        live.newest = blooming->filters[blooming->live[count]].bloom;
    }
    while (count > 0) {
        count--;
        live.older[live.older_count++] = blooming->filters[blooming->live[count]].bloom;
    }
    return live;
}

static inline void prefetch(const struct live_filters *live, struct mr_fingerprint fp) {
    for (uint32_t i = 0; i < live->older_count; i++) {
        mr_bloom_prefetch(live->older[i], fp);
    }
    if (live->newest != NULL) {
        mr_bloom_prefetch(live->newest, fp);
    }
}

static inline bool in_older(const struct live_filters *live, struct mr_fingerprint fp) {
    for (uint32_t i = 0; i < live->older_count; i++) {
        if (mr_bloom_test(live->older[i], fp)) {
            return true;
        }
    }
    return false;
}

static void after_new(struct mr_blooming *blooming, uint64_t new_ids) {
    uint64_t blocks = mr_bloom_blocks(blooming->filters[0].bloom);
    uint64_t pace = blocks * CLEAR_PACE / blooming->ids_each + 1;
    (void)mr_blooming_sweep(blooming, new_ids * pace); /* what is left waits for the next ids */
    blooming->ids_measured += new_ids;
    uint64_t every = blooming->ids_each / MEASURES_PER_FILTER;
    uint64_t least = 8 * blocks < MEASURE_IDS_MIN ? 8 * blocks : MEASURE_IDS_MIN;
    if (blooming->ids_measured >= (every > least ? every : least)) {
        measure_newest(blooming);
    }
}

uint32_t mr_blooming_judge(struct mr_blooming *blooming, const struct mr_dedup_batch *batch,
                           uint32_t from, uint64_t new_max, uint64_t *ret_new) {
    const struct mr_fingerprint *fps = batch->fps;
    const uint32_t *order = batch->order;
    uint64_t count = batch->count;
    struct live_filters live = collect(blooming, new_max > 0);
    for (uint64_t k = from; k < count && k < from + (uint64_t)MR_DEDUP_AHEAD; k++) {
        prefetch(&live, fps[order[k]]);
    }
    uint64_t new_ids = 0;
    uint64_t k = from;
    for (; k < count; k++) {
        if (k + MR_DEDUP_AHEAD < count) {
            prefetch(&live, fps[order[k + MR_DEDUP_AHEAD]]);
        }
        struct mr_fingerprint fp = fps[order[k]];
        bool duplicate = in_older(&live, fp);
        if (!duplicate && new_ids < new_max) {
            duplicate = mr_bloom_test_and_set(live.newest, fp);
            new_ids += !duplicate;
        } else if (!duplicate) {
            duplicate = live.newest != NULL && mr_bloom_test(live.newest, fp);
            if (!duplicate) {
                break;
            }
        }
        batch->duplicate[k] = duplicate;
    }
    after_new(blooming, new_ids);
    *ret_new = new_ids;
    return (uint32_t)k;
}

uint32_t mr_blooming_find(const struct mr_blooming *blooming, struct mr_fingerprint fp) {
    uint32_t i = 0;
    while (i < blooming->live_count &&
           !mr_bloom_test(blooming->filters[blooming->live[i]].bloom, fp)) {
        i++;
    }
    return i;
}

/* ---- what it holds ---- */

double mr_blooming_error(const struct mr_blooming *blooming) {
    double error = 0.0;
    for (uint32_t i = 0; i < blooming->live_count; i++) {
        error += blooming->filters[blooming->live[i]].error;
    }
    return error;
}

double mr_blooming_fill(const struct mr_blooming *blooming) {
    double fill = 0.0;
    for (uint32_t i = 0; i < blooming->live_count; i++) {
        double one = blooming->filters[blooming->live[i]].fill;
        fill = one > fill ? one : fill;
    }
    return fill;
}

uint64_t mr_blooming_hash_scan(const struct mr_blooming *blooming, uint32_t i) {
    MR_ASSERT(i < blooming->live_count);
    return mr_bloom_hash_scan(blooming->filters[blooming->live[i]].bloom);
}

void mr_blooming_check_scan(const struct mr_blooming *blooming) {
    uint32_t live = 0;
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS; i++) {
        const struct mr_blooming_filter *filter = &blooming->filters[i];
        mr_bloom_check(filter->bloom);
        MR_ASSERT(filter->clean_blocks <= mr_bloom_blocks(filter->bloom));
        MR_ASSERT(!filter->live || filter->clean_blocks == 0);
        MR_ASSERT(!is_clean(filter) || mr_bloom_fill(filter->bloom) == 0.0);
        live += filter->live;
    }
    MR_ASSERT(live == blooming->live_count);
    for (uint32_t i = 0; i < blooming->live_count; i++) {
        MR_ASSERT(blooming->filters[blooming->live[i]].live);
    }
}
