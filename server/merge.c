/* SPDX-License-Identifier: Apache-2.0 */
#include "server/merge.h"

#include "base/check.h"
#include "base/key.h"
#include "server/rows.h"

struct head {
    struct mr_merge_source *source;
    struct mr_row row;
    bool has_row;
};

struct work {
    struct mr_merge *merge;
    struct head heads[MR_MERGE_SOURCES_MAX];
    uint32_t head_count;
    bool is_metric;
    struct mr_rows_fold fold;
};

/* The next row of a source that counts. false: a source has ended that has more, so what comes next is not
 * known. */
static bool refill(const struct work *work, struct head *head) {
    head->has_row = mr_row_next(&head->source->rows, &head->row);
    while (head->has_row && work->is_metric && !head->source->others &&
           mr_key_is_other(head->row.key)) {
        head->has_row = mr_row_next(&head->source->rows, &head->row);
    }
    MR_ASSERT(!head->has_row || !head->source->others || mr_key_is_other(head->row.key));
    return head->has_row || !head->source->more;
}

static bool same_row(const struct mr_row *a, const struct mr_row *b) {
    return a->window_start_ms == b->window_start_ms && mr_bytes_equal(a->key, b->key);
}

/* The head that comes first; NULL: all sources are at their end. */
static struct head *first_head(struct work *work) {
    struct head *best = NULL;
    for (uint32_t i = 0; i < work->head_count; i++) {
        struct head *head = &work->heads[i];
        if (head->has_row && (best == NULL || mr_scan_compare(work->merge->scan, work->merge->rule,
                                                              &head->row, &best->row) < 0)) {
            best = head;
        }
    }
    return best;
}

/* Takes the first row off all sources that have it; *ret is its newest version. false: nothing is left, or the
 * rest is not known (work->merge->cut). */
static bool take(struct work *work, struct mr_row *ret) {
    struct head *first = work->merge->cut ? NULL : first_head(work);
    if (first == NULL) {
        return false;
    }
    struct mr_row row = first->row;
    struct mr_row newest = row;
    for (uint32_t i = 0; i < work->head_count; i++) {
        struct head *head = &work->heads[i];
        if (!head->has_row || !same_row(&head->row, &row)) {
            continue;
        }
        if (head->row.revision > newest.revision) {
            newest = head->row;
        }
        if (!refill(work, head)) {
            work->merge->cut = true;
        }
    }
    *ret = newest;
    return true;
}

static bool give(void *ctx, const struct mr_row *row) {
    struct work *work = ctx;
    struct mr_merge *merge = work->merge;
    if (merge->count == merge->limit) {
        merge->more = true;
        return false;
    }
    merge->count++;
    return merge->visit(merge->ctx, row);
}

/* Window order. */
static void run_folded(struct work *work) {
    struct mr_row row;
    bool wanted = true;
    while (wanted && take(work, &row)) {
        wanted = mr_rows_fold_push(&work->fold, &row);
    }
    if (!wanted) {
        work->merge->more = true;
        return;
    }
    work->merge->more = work->merge->cut;
    /* An overflow group that waits may miss a part: it begins the next page, unless there is no other way on. */
    if (!work->merge->cut || work->merge->count == 0) {
        mr_rows_fold_end(&work->fold);
    }
}

static void run_plain(struct work *work) {
    struct mr_row row;
    bool wanted = true;
    while (wanted && take(work, &row)) {
        wanted = give(work, &row);
    }
    work->merge->more = work->merge->more || !wanted || work->merge->cut;
    /* The answer has all it may have: what is not known would come behind it. */
    work->merge->cut = work->merge->cut && work->merge->count < work->merge->limit;
}

enum mr_status mr_merge_run(struct mr_merge *merge, struct mr_merge_source *sources,
                            uint32_t source_count) {
    MR_ASSERT(source_count <= MR_MERGE_SOURCES_MAX && merge->limit > 0);
    struct work work = {.merge = merge, .head_count = source_count};
    work.is_metric = merge->scan->order != MR_SCAN_ORDER_WINDOW;
    merge->count = 0;
    merge->more = false;
    merge->cut = false;
    enum mr_status status = mr_rows_fold_init(&work.fold, merge->rule, give, &work);
    if (status != MR_OK) {
        return status;
    }
    for (uint32_t i = 0; i < source_count; i++) {
        work.heads[i].source = &sources[i];
        if (!refill(&work, &work.heads[i])) {
            merge->cut = true;
        }
    }
    if (work.is_metric) {
        run_plain(&work);
    } else {
        run_folded(&work);
    }
    bool failed = work.fold.failed;
    mr_rows_fold_finish(&work.fold);
    MR_ASSERT(merge->count <= merge->limit);
    return failed ? MR_NO_MEMORY : MR_OK;
}

struct mr_bytes mr_merge_place(const struct mr_scan *scan, struct mr_bytes key) {
    static const uint8_t place[2] = {MR_KEY_OTHER, 0xff};
    static_assert(MR_SHARDS_MAX < 0xff, "no shard has this number");
    bool folded = mr_key_is_other(key) && key.len == sizeof place; /* panes are not */
    return folded ? mr_bytes_of(place, scan->descending ? 1 : 2) : key;
}
