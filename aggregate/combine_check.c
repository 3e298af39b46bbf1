/* SPDX-License-Identifier: Apache-2.0 */
/* What holds of combine's state between calls, and a hash of it for comparing replays. */
#include "aggregate/combine_state.h"
#include "aggregate/window.h"

static uint64_t hash_more(uint64_t hash, const void *ptr, size_t len) {
    return mr_hash64(mr_bytes_of(ptr, len), hash);
}

/* The state as it is saved: what is on the heap lies anywhere. */
static uint64_t hash_group(struct mr_combine *combine, uint64_t hash, const struct mr_combine_window *window,
                           struct mr_group *group) {
    hash = hash_more(hash, group, sizeof *group);
    struct mr_row row = mr_combine_row(combine, window, group, MR_TIMING_LATE);
    MR_ASSERT(row.state.ptr != NULL);
    hash = mr_hash64(row.state, hash);
    return mr_hash64(row.key, hash);
}

static uint64_t hash_window(struct mr_combine *combine, uint64_t hash, const struct mr_combine_window *window) {
    uint64_t head[4] = {(uint64_t)window->start_ms, window->state, window->closed_seq,
                        window->groups.count};
    hash = hash_more(hash, head, sizeof head);
    uint32_t ref = 0;
    struct mr_group *group;
    while ((group = mr_groups_next(&window->groups, &ref)) != NULL) {
        hash = hash_group(combine, hash, window, group);
    }
    return hash;
}

/* Without FINAL windows: how long those stay depends on the flusher, not on the log; and without the seq, which is a
 * START's after a checkpoint and that of the last bundle after a replay. */
uint64_t mr_combine_state_hash_scan(struct mr_combine *combine) {
    uint64_t hash = hash_more(0, combine->watermarks_ms,
                              combine->stream_count * sizeof *combine->watermarks_ms);
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        if (combine->rules[r].sessions != NULL) {
            uint64_t sessions = 0;
            enum mr_status status = mr_sessions_state_hash_scan(combine->rules[r].sessions, &sessions);
            MR_ASSERT(status == MR_OK);
            hash = hash_more(hash, &sessions, sizeof sessions);
            continue;
        }
        const struct mr_timeline *windows = &combine->rules[r].windows;
        const struct mr_combine_window *window = mr_timeline_ceil(windows, INT64_MIN);
        while (window != NULL) {
            if (window->state != MR_WINDOW_FINAL) {
                hash = hash_more(hash, &r, sizeof r);
                hash = hash_window(combine, hash, window);
            }
            window = window->start_ms == INT64_MAX
                         ? NULL
                         : mr_timeline_ceil(windows, window->start_ms + 1);
        }
        if (combine->rules[r].slices != NULL) {
            uint64_t slices = mr_slices_state_hash_scan(combine->rules[r].slices);
            hash = hash_more(hash, &slices, sizeof slices);
        }
    }
    return hash;
}

static uint32_t hash_of_key(struct mr_bytes key, uint64_t seed) {
    return mr_group_hash(mr_hash64(key, seed));
}

static size_t heap_of(const struct mr_combine_window *window) {
    const struct mr_rule *rule = window->owner->rule;
    size_t heap = 0;
    uint32_t ref = 0;
    struct mr_group *group;
    while (rule->grows && (group = mr_groups_next(&window->groups, &ref)) != NULL) {
        heap += mr_metric_heap(rule->metrics, rule->metric_count, mr_group_state(group));
    }
    return heap;
}

static void check_window(const struct mr_combine *combine, const struct mr_combine_window *window) {
    const struct mr_rule *rule = window->owner->rule;
    int64_t watermark = mr_rule_watermark(rule, combine->watermarks_ms);
    bool closed = mr_window_closed(rule, window->start_ms, watermark);
    bool final = mr_window_final(rule, window->start_ms, watermark);
    MR_ASSERT(closed == (window->state != MR_WINDOW_OPEN));
    MR_ASSERT(final == (window->state == MR_WINDOW_FINAL));
    MR_ASSERT(window->groups.count > 0);
    MR_ASSERT(window->heap == heap_of(window));
    MR_ASSERT(mr_window_start(rule, window->start_ms) == window->start_ms);
    mr_groups_check_scan(&window->groups, hash_of_key, rule->key_seed);
}

static void check_slices(const struct mr_combine *combine, const struct mr_combine_rule *cr) {
    MR_ASSERT(cr->slices_open_ms == mr_window_first_open(cr->rule, mr_combine_watermark(combine, cr)));
    mr_slices_check_scan(cr->slices, combine->firing);
}

static void check_rule(const struct mr_combine *combine, const struct mr_combine_rule *cr) {
    if (cr->sessions != NULL) {
        mr_sessions_check_scan(cr->sessions);
        return;
    }
    uint64_t windows = 0;
    uint64_t groups = 0;
    uint64_t bytes = 0;
    mr_timeline_check_scan(&cr->windows);
    const struct mr_combine_window *window = mr_timeline_ceil(&cr->windows, INT64_MIN);
    while (window != NULL) {
        MR_ASSERT(window->owner == cr);
        check_window(combine, window);
        if (window->state != MR_WINDOW_FINAL) {
            windows++;
            groups += window->groups.count;
            bytes += mr_combine_window_bytes(window);
        }
        window = window->start_ms == INT64_MAX
                     ? NULL
                     : mr_timeline_ceil(&cr->windows, window->start_ms + 1);
    }
    MR_ASSERT(windows == cr->window_count);
    MR_ASSERT(groups == cr->groups && bytes == cr->bytes);
    if (cr->slices != NULL) {
        check_slices(combine, cr);
        groups += mr_slices_usage(cr->slices)->groups;
    }
    MR_ASSERT(mr_counter_read(&cr->stats.groups) == groups);
}

void mr_combine_check_scan(const struct mr_combine *combine) {
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        check_rule(combine, &combine->rules[r]);
        mr_hot_check(&combine->rules[r].hot);
    }
    const struct mr_combine_window *last = NULL;
    uint64_t finals = 0;
    for (const struct mr_combine_window *w = combine->final_first; w != NULL; w = w->next_final) {
        MR_ASSERT(w->state == MR_WINDOW_FINAL && w->final_seq <= combine->seq);
        MR_ASSERT(last == NULL || last->final_seq <= w->final_seq);
        last = w;
        finals++;
    }
    MR_ASSERT(last == combine->final_last && finals == combine->final_count);
    MR_ASSERT((combine->dead_count == 0) == (combine->dead.len == 0));
    MR_ASSERT(combine->merges.count == 0);
    MR_ASSERT(combine->save.under_way || combine->save.waiting.cap == 0);
    MR_ASSERT(combine->save.waiting_at <= combine->save.waiting.len);
}
