/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/combine.h"

#include "aggregate/combine_state.h"
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/key.h"

enum {
    DEAD_BYTES_MAX = 1 << 30,
    TIMERS_FIRST = 64,
};

/* Bounded by one parcel over MR_COMBINE_SAVE_WAITING_MAX, as long as the caller heeds that. */
#define WAITING_BYTES_MAX (SIZE_MAX / 2)

static enum mr_status init_rule(struct mr_combine_rule *cr, const struct mr_rule *rule, uint32_t shard) {
    MR_ASSERT(rule->state_len % 8 == 0 && rule->input_count > 0);
    cr->rule = rule;
    mr_timeline_init(&cr->windows);
    cr->other_key[0] = MR_KEY_OTHER;
    cr->other_key[1] = (uint8_t)shard;
    cr->other_hash = mr_group_hash(mr_hash64(mr_combine_other_key(cr), rule->key_seed));
    cr->said_final_end_ms = INT64_MIN;
    enum mr_status status = mr_hot_init(&cr->hot);
    if (status == MR_OK && rule->window.kind == MR_WINDOW_SESSION) {
        status = mr_sessions_open(rule, shard, &cr->sessions);
    }
    if (status == MR_OK && rule->window.sliced) {
        cr->slices_open_ms = mr_window_first_open(rule, INT64_MIN);
        cr->slices_next_ms = cr->slices_open_ms;
        status = mr_slices_open(rule, &cr->slices);
    }
    return status;
}

enum mr_status mr_combine_open(const struct mr_rule *rules, uint32_t rule_count,
                               uint32_t stream_count, const struct mr_bytes *stream_names,
                               uint32_t shard, struct mr_combine **ret) {
    MR_ASSERT(rule_count <= MR_RULES_MAX && stream_count <= MR_STREAMS_MAX);
    MR_ASSERT(shard < MR_SHARDS_MAX);
    struct mr_combine *combine = mr_alloc_zero(1, sizeof *combine);
    if (combine == NULL) {
        return MR_NO_MEMORY;
    }
    combine->stream_count = stream_count;
    combine->stream_names = stream_names;
    combine->shard = shard;
    mr_buf_init(&combine->dead, DEAD_BYTES_MAX);
    mr_buf_init(&combine->save.waiting, WAITING_BYTES_MAX);
    mr_buf_init(&combine->scratch, WAITING_BYTES_MAX);
    combine->rules = mr_alloc_zero(rule_count + 1, sizeof *combine->rules);
    combine->watermarks_ms = mr_alloc((stream_count + 1) * sizeof *combine->watermarks_ms);
    if (combine->rules == NULL || combine->watermarks_ms == NULL) {
        mr_combine_close(combine);
        return MR_NO_MEMORY;
    }
    combine->rule_count = rule_count;
    for (uint32_t r = 0; r < rule_count; r++) {
        MR_ASSERT(rules[r].index == r && rules[r].inputs[0].stream < stream_count);
        if (init_rule(&combine->rules[r], &rules[r], shard) != MR_OK) {
            mr_combine_close(combine);
            return MR_NO_MEMORY;
        }
    }
    for (uint32_t s = 0; s < stream_count; s++) {
        combine->watermarks_ms[s] = INT64_MIN;
    }
    *ret = combine;
    return MR_OK;
}

/* Frees what the groups hold besides the blocks. */
static void release_groups(struct mr_combine_window *window) {
    const struct mr_rule *rule = window->owner->rule;
    uint32_t ref = 0;
    struct mr_group *group;
    while (rule->grows && (group = mr_groups_next(&window->groups, &ref)) != NULL) {
        mr_metric_release(rule->metrics, rule->metric_count, mr_group_state(group));
    }
}

static void close_window(struct mr_combine_window *window) {
    struct mr_combine_rule *cr = window->owner;
    struct mr_combine_window **recent = &cr->recent[mr_combine_recent_slot(window->start_ms)];
    if (*recent == window) {
        *recent = NULL;
    }
    mr_timeline_remove(&cr->windows, window->start_ms);
    release_groups(window);
    mr_groups_finish(&window->groups);
    mr_free(window);
}

void mr_combine_close(struct mr_combine *combine) {
    if (combine == NULL) {
        return;
    }
    mr_combine_save_stop(combine); /* asks the sessions, too */
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        struct mr_combine_rule *cr = &combine->rules[r];
        struct mr_combine_window *window;
        while ((window = mr_timeline_ceil(&cr->windows, INT64_MIN)) != NULL) {
            close_window(window);
        }
        mr_timeline_finish(&cr->windows);
        mr_sessions_close(cr->sessions);
        mr_slices_close(cr->slices);
        mr_hot_finish(&cr->hot);
        mr_free(cr->dirty);
        mr_free(cr->timers.items);
    }
    mr_combine_load_stop(combine);
    mr_buf_finish(&combine->dead);
    mr_buf_finish(&combine->scratch);
    mr_free(combine->watermarks_ms);
    mr_free(combine->rules);
    mr_free(combine);
}

struct mr_combine_window *mr_combine_find_window(struct mr_combine_rule *cr, int64_t start_ms) {
    struct mr_combine_window *window = mr_combine_recent_window(cr, start_ms);
    if (window == NULL) {
        window = mr_timeline_find(&cr->windows, start_ms);
        if (window != NULL) {
            cr->recent[mr_combine_recent_slot(start_ms)] = window;
        }
    }
    return window;
}

struct mr_combine_window *mr_combine_open_window(struct mr_combine *combine, struct mr_combine_rule *cr,
                                                 int64_t start_ms) {
    int64_t watermark = mr_combine_watermark(combine, cr);
    struct mr_combine_window *window = mr_alloc_zero(1, sizeof *window);
    if (window == NULL) {
        return NULL;
    }
    window->start_ms = start_ms;
    window->owner = cr;
    window->state =
        mr_window_closed(cr->rule, start_ms, watermark) ? MR_WINDOW_CLOSED : MR_WINDOW_OPEN;
    mr_groups_init(&window->groups, mr_combine_group_len(cr->rule));
    if (mr_timeline_insert(&cr->windows, start_ms, window) != MR_OK) {
        mr_free(window);
        return NULL;
    }
    cr->window_count++;
    cr->bytes += mr_combine_window_bytes(window);
    return window;
}

/* A window that closes and is FINAL at once gets its groups when it is. */
static bool counted(const struct mr_combine_window *window) {
    return window->state != MR_WINDOW_FINAL;
}

struct mr_group *mr_combine_add_group(struct mr_combine *combine, struct mr_combine_rule *cr,
                                      struct mr_combine_window **window, int64_t start_ms,
                                      uint32_t hash, struct mr_bytes key, uint32_t *ret_ref) {
    struct mr_combine_window *at = *window;
    if (at == NULL) {
        /* Lift has taken these out; a load has them if there is something to say of them. */
        MR_ASSERT(combine->loading != NULL ||
                  !mr_window_final(cr->rule, start_ms, mr_combine_watermark(combine, cr)));
        at = mr_combine_open_window(combine, cr, start_ms);
    }
    if (at == NULL) {
        return NULL;
    }
    uint64_t bytes_before = mr_combine_window_bytes(at);
    struct mr_group *group;
    if (mr_groups_add(&at->groups, hash, key, &group, ret_ref) != MR_OK) {
        cr->bytes += counted(at) ? mr_combine_window_bytes(at) - bytes_before : 0;
        if (*window == NULL) {
            cr->window_count--;
            cr->bytes -= mr_combine_window_bytes(at);
            close_window(at);
        }
        return NULL;
    }
    cr->bytes += counted(at) ? mr_combine_window_bytes(at) - bytes_before : 0;
    cr->groups += counted(at);
    *window = at;
    return group;
}

void mr_combine_set_gauges(struct mr_combine *combine) {
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        struct mr_combine_rule *cr = &combine->rules[r];
        if (cr->sessions != NULL) {
            mr_combine_note_sessions(cr);
            continue;
        }
        mr_combine_set_gauge(cr);
    }
}

void mr_combine_note_sessions(struct mr_combine_rule *cr) {
    const struct mr_sessions_stats *s = mr_sessions_stats(cr->sessions);
    uint64_t panes = mr_counter_read(&s->panes);
    mr_counter_add(&cr->stats.panes, panes - cr->sessions_panes);
    cr->sessions_panes = panes;
    mr_counter_set(&cr->stats.windows, mr_counter_read(&s->sessions));
    mr_counter_set(&cr->stats.groups, mr_counter_read(&s->sessions));
    mr_counter_set(&cr->stats.bytes, mr_counter_read(&s->bytes));
}

/* CLOSED or OPEN windows are never in this list; neither is one whose panes are not fired yet. */
static bool releasable(const struct mr_combine *combine, uint64_t confirmed_seq) {
    const struct mr_combine_window *window = combine->final_first;
    if (window == NULL || window->final_seq > confirmed_seq || combine->scans > 0 ||
        combine->save.under_way) {
        return false;
    }
    return !combine->firing || window->final_seq < combine->seq;
}

bool mr_combine_release(struct mr_combine *combine, uint64_t confirmed_seq, uint32_t budget) {
    uint64_t eighth = combine->final_count / 8;
    budget = budget > eighth ? budget : (uint32_t)eighth;
    while (budget > 0 && releasable(combine, confirmed_seq)) {
        struct mr_combine_window *window = combine->final_first;
        MR_ASSERT(window->state == MR_WINDOW_FINAL);
        combine->final_first = window->next_final;
        if (combine->final_first == NULL) {
            combine->final_last = NULL;
        }
        close_window(window);
        combine->final_count--;
        budget--;
    }
    bool more = releasable(combine, confirmed_seq);
    for (uint32_t r = 0; r < combine->rule_count && budget > 0; r++) {
        struct mr_sessions *sessions = combine->rules[r].sessions;
        more = (sessions != NULL && mr_sessions_release(sessions, confirmed_seq, &budget)) || more;
    }
    return more;
}

const struct mr_combine_rule_stats *mr_combine_stats(const struct mr_combine *combine,
                                                     uint32_t rule) {
    MR_ASSERT(rule < combine->rule_count);
    return &combine->rules[rule].stats;
}

const struct mr_hot *mr_combine_hot(const struct mr_combine *combine, uint32_t rule) {
    MR_ASSERT(rule < combine->rule_count && !combine->merging && !combine->firing);
    return &combine->rules[rule].hot;
}

uint32_t mr_combine_pane_index(const struct mr_combine_window *window, const struct mr_group *group,
                               enum mr_timing timing) {
    uint32_t fired = group->panes & MR_GROUP_PANES;
    bool fired_on_time = window->state != MR_WINDOW_OPEN && (group->panes & MR_GROUP_BORN_LATE) == 0;
    return fired + (fired_on_time && timing != MR_TIMING_ON_TIME);
}

struct mr_row mr_combine_place(const struct mr_combine_window *window, struct mr_group *group) {
    const struct mr_rule *rule = window->owner->rule;
    return (struct mr_row){
        .window_start_ms = window->start_ms,
        .window_end_ms = mr_window_end(rule, window->start_ms),
        .events = group->events,
        .revision = group->revision > window->closed_seq ? group->revision : window->closed_seq,
        .final = window->state == MR_WINDOW_FINAL,
        .key = mr_group_key(group, window->groups.state_len),
    };
}

struct mr_row mr_combine_row(struct mr_combine *combine, const struct mr_combine_window *window,
                             struct mr_group *group, enum mr_timing timing) {
    const struct mr_rule *rule = window->owner->rule;
    struct mr_row row = mr_combine_place(window, group);
    row.state = mr_bytes_of(mr_group_state(group), rule->state_len);
    bool discards = rule->trigger.panes == MR_DISCARDING;
    if (!rule->grows && !discards) {
        return row;
    }
    uint32_t len = mr_metric_encoded_len(rule->metrics, rule->metric_count, row.state.ptr);
    mr_buf_clear(&combine->scratch);
    uint8_t *at = mr_buf_reserve(&combine->scratch, len + row.key.len + MR_KEY_PANE_LEN);
    if (at == NULL) {
        mr_buf_finish(&combine->scratch); /* it may be better next time */
        mr_buf_init(&combine->scratch, WAITING_BYTES_MAX);
        row.state = mr_bytes_of(NULL, 0);
        return row;
    }
    mr_metric_encode(rule->metrics, rule->metric_count, row.state.ptr, at);
    row.state = mr_bytes_of(at, len);
    if (discards) {
        if (row.key.len > 0) {
            memcpy(at + len, row.key.ptr, row.key.len);
        }
        mr_key_write_pane(at + len + row.key.len, mr_combine_pane_index(window, group, timing));
        row.key = mr_bytes_of(at + len, row.key.len + MR_KEY_PANE_LEN);
    }
    return row;
}

bool mr_combine_add_timer(struct mr_combine_timers *timers, struct mr_combine_timer timer) {
    if (timers->count == timers->cap) {
        uint32_t cap = timers->cap == 0 ? TIMERS_FIRST : timers->cap * 2;
        struct mr_combine_timer *items = mr_alloc(cap * sizeof *items);
        if (items == NULL) {
            return false;
        }
        for (uint32_t i = 0; i < timers->count; i++) {
            items[i] = timers->items[(timers->first + i) & (timers->cap - 1)];
        }
        mr_free(timers->items);
        *timers = (struct mr_combine_timers){.items = items, .count = timers->count, .cap = cap};
    }
    timers->items[(timers->first + timers->count) & (timers->cap - 1)] = timer;
    timers->count++;
    return true;
}

void mr_combine_touch(struct mr_combine *combine, const struct mr_combine_window *window,
                      struct mr_group *group, uint32_t ref) {
    mr_combine_save_first(combine, window, group, ref);
    group->revision = combine->seq;
}
