/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/blooming.h"

#include "base/check.h"

enum {
    CLEAR_PACE = 4, /* a filter is cleared within 1/4 of the ids that fill one */
    MEASURES_PER_FILTER = 16,
    MEASURE_IDS_MIN = 32768, /* a measurement reads 4,096 blocks: two words an id at most */
};

static_assert(MR_BLOOMING_FILTERS_MAX <= MR_GENERATIONS_LIVE_MAX,
              "each live generation has a filter");

uint64_t mr_blooming_ids_each(uint64_t ids_max) {
    return ids_max / MR_BLOOMING_FULL + (ids_max % MR_BLOOMING_FULL != 0);
}

uint64_t mr_blooming_bytes_planned(uint64_t ids_max, double error) {
    return MR_BLOOMING_FILTERS *
           mr_bloom_bytes_planned(mr_blooming_ids_each(ids_max), error / MR_BLOOMING_FULL);
}

static enum mr_status open_filter(struct mr_blooming *blooming, uint32_t i) {
    struct mr_blooming_filter *filter = &blooming->filters[i];
    MR_ASSERT(filter->bloom == NULL);
    enum mr_status status = mr_bloom_open(blooming->ids_each, blooming->error_each, &filter->bloom);
    if (status == MR_OK) {
        blooming->blocks = mr_bloom_blocks(filter->bloom);
        filter->clean_blocks = blooming->blocks;
    }
    return status;
}

static void close_filter(struct mr_blooming_filter *filter) {
    mr_bloom_close(filter->bloom);
    *filter = (struct mr_blooming_filter){.bloom = NULL};
}

enum mr_status mr_blooming_open(struct mr_blooming *blooming, uint64_t ids_max, double error) {
    *blooming = (struct mr_blooming){
        .ids_each = mr_blooming_ids_each(ids_max),
        .error_each = error / MR_BLOOMING_FULL,
    };
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS; i++) {
        enum mr_status status = open_filter(blooming, i);
        if (status != MR_OK) {
            mr_blooming_close(blooming);
            return status;
        }
    }
    return MR_OK;
}

void mr_blooming_close(struct mr_blooming *blooming) {
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS_MAX; i++) {
        mr_bloom_close(blooming->filters[i].bloom);
    }
    *blooming = (struct mr_blooming){0};
}

/* ---- rotation ---- */

static bool is_free(const struct mr_blooming_filter *filter) {
    return filter->bloom != NULL && !filter->live;
}

static bool is_clean(const struct mr_blooming *blooming, const struct mr_blooming_filter *filter) {
    return is_free(filter) && filter->clean_blocks == blooming->blocks;
}

/* The lowest clean filter; when there is none, the lowest that is free; when there is none, the
 * number of places. */
static uint32_t find_free(const struct mr_blooming *blooming) {
    uint32_t dirty = MR_BLOOMING_FILTERS_MAX;
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS_MAX; i++) {
        if (is_clean(blooming, &blooming->filters[i])) {
            return i;
        }
        if (is_free(&blooming->filters[i]) && dirty == MR_BLOOMING_FILTERS_MAX) {
            dirty = i;
        }
    }
    return dirty;
}

static void clear_some(struct mr_blooming_filter *filter, uint64_t blocks) {
    mr_bloom_clear_part(filter->bloom, filter->clean_blocks, blocks);
    filter->clean_blocks += blocks;
}

/* Of a free filter; clears what the background work has not. */
static void make_live(struct mr_blooming *blooming, uint32_t i) {
    struct mr_blooming_filter *filter = &blooming->filters[i];
    MR_ASSERT(is_free(filter));
    clear_some(filter, blooming->blocks - filter->clean_blocks);
    *filter = (struct mr_blooming_filter){.bloom = filter->bloom, .live = true};
}

static void measure(struct mr_blooming_filter *filter) {
    filter->error = mr_bloom_error_estimate(filter->bloom);
    filter->fill = mr_bloom_fill(filter->bloom);
}

static void measure_newest(struct mr_blooming *blooming) {
    if (blooming->live_count > 0) {
        measure(&blooming->filters[blooming->live[blooming->live_count - 1]]);
    }
    blooming->ids_measured = 0;
}

void mr_blooming_push(struct mr_blooming *blooming) {
    measure_newest(blooming); /* for the last time: it takes no more ids */
    uint32_t i = find_free(blooming);
    MR_ASSERT(i < MR_BLOOMING_FILTERS_MAX); /* blooming.h, Shape: one is always free here */
    make_live(blooming, i);
    blooming->live[blooming->live_count++] = i;
}

void mr_blooming_pop_oldest(struct mr_blooming *blooming) {
    MR_ASSERT(blooming->live_count > 0);
    struct mr_blooming_filter *filter = &blooming->filters[blooming->live[0]];
    MR_ASSERT(filter->live && filter->clean_blocks == 0);
    filter->live = false;
    blooming->live_count--;
    memmove(blooming->live, blooming->live + 1, blooming->live_count * sizeof blooming->live[0]);
    if (blooming->apart > 0) {
        blooming->apart--;
        close_filter(filter);
    }
}

bool mr_blooming_sweep(struct mr_blooming *blooming, uint64_t blocks) {
    bool left = false;
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS_MAX; i++) {
        struct mr_blooming_filter *filter = &blooming->filters[i];
        if (!is_free(filter) || is_clean(blooming, filter)) {
            continue;
        }
        uint64_t dirty = blooming->blocks - filter->clean_blocks;
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
    struct mr_bloom *older[MR_BLOOMING_FILTERS_MAX];
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
    uint64_t blocks = blooming->blocks;
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

/* ---- loading ---- */

static uint32_t find_place(const struct mr_blooming *blooming) {
    uint32_t i = 0;
    while (i < MR_BLOOMING_FILTERS_MAX && blooming->filters[i].bloom != NULL) {
        i++;
    }
    MR_ASSERT(i < MR_BLOOMING_FILTERS_MAX);
    return i;
}

enum mr_status mr_blooming_load_take(struct mr_blooming *blooming, uint32_t *ret_filter) {
    MR_ASSERT(blooming->live_count == 0);
    uint32_t i = find_free(blooming);
    if (i == MR_BLOOMING_FILTERS_MAX) {
        i = find_place(blooming);
        enum mr_status status = open_filter(blooming, i);
        if (status != MR_OK) {
            return status;
        }
    }
    make_live(blooming, i);
    *ret_filter = i;
    return MR_OK;
}

void mr_blooming_load_ids(struct mr_blooming *blooming, uint32_t filter,
                          const struct mr_fingerprint *ids, uint32_t count) {
    struct mr_bloom *bloom = blooming->filters[filter].bloom;
    MR_ASSERT(blooming->filters[filter].live);
    for (uint32_t i = 0; i < count && i < MR_DEDUP_AHEAD; i++) {
        mr_bloom_prefetch(bloom, ids[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i + MR_DEDUP_AHEAD < count) {
            mr_bloom_prefetch(bloom, ids[i + MR_DEDUP_AHEAD]);
        }
        /* In another order than the first time one may seem to be there. */
        (void)mr_bloom_test_and_set(bloom, ids[i]);
    }
}

void mr_blooming_load_drop(struct mr_blooming *blooming, uint32_t filter) {
    MR_ASSERT(blooming->filters[filter].live);
    blooming->filters[filter].live = false;
}

/* So many as there are after any other start, and those apart. */
static enum mr_status open_the_rest(struct mr_blooming *blooming) {
    uint32_t want = MR_BLOOMING_FILTERS + blooming->apart;
    uint32_t have = 0;
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS_MAX; i++) {
        have += blooming->filters[i].bloom != NULL;
    }
    for (; have < want; have++) {
        enum mr_status status = open_filter(blooming, find_place(blooming));
        if (status != MR_OK) {
            return status;
        }
    }
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS_MAX && have > want; i++) {
        if (is_free(&blooming->filters[i])) {
            close_filter(&blooming->filters[i]);
            have--;
        }
    }
    MR_ASSERT(have == want);
    return MR_OK;
}

enum mr_status mr_blooming_load_end(struct mr_blooming *blooming, const uint32_t *filters,
                                    uint32_t count, uint32_t apart) {
    MR_ASSERT(blooming->live_count == 0);
    MR_ASSERT(apart <= count && count <= MR_BLOOMING_FILTERS + apart);
    memcpy(blooming->live, filters, count * sizeof filters[0]);
    blooming->live_count = count;
    blooming->apart = apart;
    for (uint32_t i = 0; i < count; i++) {
        measure(&blooming->filters[filters[i]]);
    }
    return open_the_rest(blooming);
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

uint64_t mr_blooming_bytes_apart(const struct mr_blooming *blooming) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < blooming->apart; i++) {
        bytes += mr_bloom_bytes(blooming->filters[blooming->live[i]].bloom);
    }
    return bytes;
}

uint64_t mr_blooming_hash_scan(const struct mr_blooming *blooming, uint32_t i) {
    MR_ASSERT(i < blooming->live_count);
    return mr_bloom_hash_scan(blooming->filters[blooming->live[i]].bloom);
}

void mr_blooming_check_scan(const struct mr_blooming *blooming) {
    uint32_t there = 0;
    uint32_t live = 0;
    for (uint32_t i = 0; i < MR_BLOOMING_FILTERS_MAX; i++) {
        const struct mr_blooming_filter *filter = &blooming->filters[i];
        if (filter->bloom == NULL) {
            MR_ASSERT(!filter->live && filter->clean_blocks == 0);
            continue;
        }
        mr_bloom_check(filter->bloom);
        MR_ASSERT(mr_bloom_blocks(filter->bloom) == blooming->blocks);
        MR_ASSERT(filter->clean_blocks <= blooming->blocks);
        MR_ASSERT(!filter->live || filter->clean_blocks == 0);
        MR_ASSERT(!is_clean(blooming, filter) || mr_bloom_fill(filter->bloom) == 0.0);
        there++;
        live += filter->live;
    }
    MR_ASSERT(there == MR_BLOOMING_FILTERS + blooming->apart);
    MR_ASSERT(live == blooming->live_count);
    MR_ASSERT(blooming->apart <= live && live <= MR_BLOOMING_FILTERS + blooming->apart);
    for (uint32_t i = 0; i < blooming->live_count; i++) {
        MR_ASSERT(blooming->filters[blooming->live[i]].live);
    }
}
