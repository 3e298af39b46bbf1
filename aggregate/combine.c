/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/combine.h"

#include "aggregate/combine_state.h"
#include "aggregate/dead_letter.h"
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/bug.h"
#include "base/json.h"
#include "base/key.h"

enum {
    DEAD_BYTES_MAX = 1 << 30,
    DIRTY_FIRST = 64,
    TIMERS_FIRST = 64,
    SLOT_AHEAD = 8, /* partials: index slots are prefetched this far ahead, groups half as far */
    GROUP_AHEAD = 4,
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

static uint32_t recent_slot(int64_t start_ms) {
    return (uint32_t)((uint64_t)start_ms * UINT64_C(0x9E3779B97F4A7C15) >> 61);
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
    struct mr_combine_window **recent = &cr->recent[recent_slot(window->start_ms)];
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
    struct mr_combine_window **recent = &cr->recent[recent_slot(start_ms)];
    if (*recent == NULL || (*recent)->start_ms != start_ms) {
        struct mr_combine_window *window = mr_timeline_find(&cr->windows, start_ms);
        if (window == NULL) {
            return NULL;
        }
        *recent = window;
    }
    return *recent;
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

static bool reserve_dirty(struct mr_combine_rule *cr) {
    if (cr->dirty_count < cr->dirty_cap) {
        return true;
    }
    uint32_t cap = cr->dirty_cap == 0 ? DIRTY_FIRST : cr->dirty_cap * 2;
    struct mr_combine_dirty *dirty = mr_realloc(cr->dirty, cap * sizeof *dirty);
    if (dirty == NULL) {
        return false;
    }
    cr->dirty = dirty;
    cr->dirty_cap = cap;
    return true;
}

static bool is_full(const struct mr_combine_rule *cr, size_t key_len) {
    if (cr->slices != NULL) {
        return mr_combine_sliced_full(cr, 1, key_len);
    }
    uint64_t need = sizeof(struct mr_group) + mr_combine_group_len(cr->rule) + key_len;
    return cr->groups >= cr->rule->groups_max || cr->bytes + need > cr->rule->groups_bytes;
}

enum mr_status mr_combine_drop(struct mr_combine *combine, const struct mr_combine_rule *cr,
                               const struct mr_partial *p, int64_t start_ms, int64_t end_ms) {
    const struct mr_rule *rule = cr->rule;
    size_t at = mr_dead_begin(&combine->dead, rule->inputs[0].stream, MR_DEAD_GROUPS);
    struct mr_json json;
    mr_json_init(&json, &combine->dead);
    mr_json_object_begin(&json);
    mr_json_key(&json, "reason");
    mr_json_text(&json, mr_dead_reason_text(MR_DEAD_GROUPS));
    mr_json_key(&json, "stream");
    mr_json_string(&json, combine->stream_names[rule->inputs[0].stream]);
    mr_json_key(&json, "seq");
    mr_json_uint(&json, combine->merging_seq);
    mr_dead_letter_time(&json, "window_start", start_ms);
    mr_dead_letter_time(&json, "window_end", end_ms);
    mr_dead_letter_time(&json, "watermark", mr_combine_watermark(combine, cr));
    mr_json_key(&json, "rules");
    mr_json_array_begin(&json);
    mr_json_string(&json, rule->name);
    mr_json_array_end(&json);
    mr_json_key(&json, "group");
    mr_dead_letter_key(&json, rule, mr_partial_key(p));
    mr_json_key(&json, "events");
    mr_json_uint(&json, p->events);
    mr_json_object_end(&json);
    mr_dead_end(&combine->dead, at);
    if (combine->dead.failed) {
        return MR_NO_MEMORY;
    }
    combine->dead_count++;
    return MR_OK;
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

/* Into the group's live state; an encoded state of a rule without sketches is a live one. */
static enum mr_status merge_state(struct mr_combine_window *window, struct mr_group *group, bool added,
                                  const struct mr_partial *p, const uint8_t *from) {
    const struct mr_rule *rule = window->owner->rule;
    uint8_t *state = mr_group_state(group);
    if (added && !rule->grows) {
        memcpy(state, from, p->state_len);
        return MR_OK;
    }
    if (!rule->grows) {
        return mr_metric_merge(rule->metrics, rule->metric_count, state, mr_bytes_of(from, p->state_len));
    }
    size_t before = mr_metric_heap(rule->metrics, rule->metric_count, state);
    enum mr_status status =
        mr_metric_merge(rule->metrics, rule->metric_count, state, mr_bytes_of(from, p->state_len));
    size_t grown = mr_metric_heap(rule->metrics, rule->metric_count, state) - before; /* may wrap: a sketch shrank */
    window->heap += grown;
    window->owner->bytes += grown;
    return status;
}

/* Whether it fires, or may, at the end of the bundle. */
static void note_change(struct mr_combine *combine, struct mr_combine_window *window, const struct mr_group *group,
                        uint32_t ref, bool added) {
    struct mr_combine_rule *cr = window->owner;
    bool closed = window->state == MR_WINDOW_CLOSED;
    if (closed && !cr->rule->trigger.late) {
        window->unsaid = true; /* and so is the group */
    } else if ((closed || mr_combine_fires_early(cr->rule)) && (added || group->revision != combine->merging_seq)) {
        MR_ASSERT(cr->dirty_count < cr->dirty_cap);
        cr->dirty[cr->dirty_count++] =
            (struct mr_combine_dirty){.start_ms = window->start_ms, .window = window, .ref = ref};
    }
}

static enum mr_status merge_into(struct mr_combine *combine, struct mr_combine_window *window,
                                 struct mr_group *group, uint32_t ref, bool added, struct mr_partial *p) {
    if (!MR_BUG(CHECKPOINT_AFTER_IMAGE) && !added) {
        mr_combine_save_first(combine, window, group, ref);
    }
    enum mr_status status = merge_state(window, group, added, p, mr_partial_state(p));
    note_change(combine, window, group, ref, added);
    if (window->state == MR_WINDOW_CLOSED) {
        group->panes |= (added ? MR_GROUP_BORN_LATE : 0) | (window->owner->rule->trigger.late ? 0 : MR_GROUP_UNSAID);
    }
    group->events += p->events;
    group->revision = combine->merging_seq;
    return status;
}

enum mr_status mr_combine_merge_window(struct mr_combine *combine, struct mr_combine_rule *cr, struct mr_partial *p,
                                       int64_t start_ms, struct mr_combine_merged *ret) {
    struct mr_bytes key = mr_partial_key(p);
    uint32_t hash = mr_group_hash(p->key_hash);
    uint32_t ref = 0;
    struct mr_combine_window *window = mr_combine_find_window(cr, start_ms);
    MR_ASSERT(window == NULL || window->state != MR_WINDOW_FINAL);
    struct mr_group *group =
        window == NULL ? NULL : mr_groups_find(&window->groups, hash, key, &ref);
    bool overflow = group == NULL && is_full(cr, key.len);
    if (overflow && cr->rule->when_full == MR_GROUPS_DROP) {
        return mr_combine_drop(combine, cr, p, start_ms, mr_window_end(cr->rule, start_ms));
    }
    if (!reserve_dirty(cr)) {
        return MR_NO_MEMORY;
    }
    if (overflow) {
        key = mr_combine_other_key(cr);
        hash = cr->other_hash;
        group = window == NULL ? NULL : mr_groups_find(&window->groups, hash, key, &ref);
    }
    bool added = group == NULL;
    if (added) {
        group = mr_combine_add_group(combine, cr, &window, start_ms, hash, key, &ref);
        if (group == NULL) {
            return MR_NO_MEMORY;
        }
    }
    ret->applied = true;
    ret->overflow = ret->overflow || overflow;
    return merge_into(combine, window, group, ref, added, p);
}

/* All windows over the slice that take it, the latest first. */
static enum mr_status merge_slice(struct mr_combine *combine, struct mr_combine_rule *cr, struct mr_partial *p,
                                  struct mr_combine_merged *ret) {
    const struct mr_rule *rule = cr->rule;
    int64_t watermark_ms = mr_combine_watermark(combine, cr);
    int64_t start_ms = mr_window_start(rule, p->window_start_ms);
    for (; mr_window_end(rule, start_ms) > p->window_start_ms && !mr_window_final(rule, start_ms, watermark_ms);
         start_ms -= rule->window.every_ms) {
        enum mr_status status = mr_combine_merge_window(combine, cr, p, start_ms, ret);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

/* Into the sessions of its key, or of the overflow group, which is never full. */
static enum mr_status merge_session(struct mr_combine *combine, struct mr_combine_rule *cr, struct mr_partial *p,
                                    int64_t recorded_ms, struct mr_combine_merged *ret) {
    uint64_t seq = combine->merging_seq;
    enum mr_status status = mr_sessions_merge(cr->sessions, seq, recorded_ms, p, p->key_hash, mr_partial_key(p));
    if (status == MR_FULL && cr->rule->when_full == MR_GROUPS_DROP) {
        return mr_combine_drop(combine, cr, p, p->window_start_ms, mr_window_end(cr->rule, p->window_start_ms));
    }
    if (status == MR_FULL) {
        struct mr_bytes other = mr_combine_other_key(cr);
        ret->overflow = true;
        status = mr_sessions_merge(cr->sessions, seq, recorded_ms, p, mr_hash64(other, cr->rule->key_seed), other);
    }
    ret->applied = status == MR_OK;
    return status;
}

static enum mr_status merge_partial(struct mr_combine *combine, struct mr_partial *p, int64_t recorded_ms) {
    MR_ASSERT(p->rule < combine->rule_count && p->events > 0);
    struct mr_combine_rule *cr = &combine->rules[p->rule];
    MR_ASSERT(cr->rule->grows ? p->state_len >= cr->rule->state_len : p->state_len == cr->rule->state_len);
    struct mr_combine_merged merged = {false, false};
    enum mr_status status;
    if (cr->sessions != NULL) {
        status = merge_session(combine, cr, p, recorded_ms, &merged);
    } else if (cr->slices != NULL) {
        status = mr_combine_merge_sliced(combine, cr, p, &merged);
    } else if (cr->rule->window.kind == MR_WINDOW_SLIDING) {
        status = merge_slice(combine, cr, p, &merged);
    } else {
        status = mr_combine_merge_window(combine, cr, p, p->window_start_ms, &merged);
    }
    mr_counter_add(merged.applied ? &cr->stats.applied : &cr->stats.dropped, p->events);
    if (merged.overflow) {
        mr_counter_add(&cr->stats.overflow, p->events);
        mr_hot_add(&cr->hot, cr->other_hash, mr_combine_other_key(cr), p->events);
    } else if (merged.applied) {
        mr_hot_add(&cr->hot, p->key_hash, mr_partial_key(p), p->events);
    }
    return status;
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

static struct mr_partial *partial_at(const struct mr_parcel *parcel, size_t at) {
    struct mr_partial *p = (struct mr_partial *)(void *)(parcel->bytes.ptr + at);
    MR_ASSERT(parcel->bytes.len - at >= sizeof *p && parcel->bytes.len - at >= p->size);
    MR_ASSERT(p->size >= sizeof *p + p->state_len + p->key_len && p->size % 8 == 0);
    return p;
}

/* The groups a partial further on will touch, if its window is at hand. */
static const struct mr_groups *groups_ahead(const struct mr_combine *combine,
                                            const struct mr_partial *p) {
    MR_ASSERT(p->rule < combine->rule_count);
    const struct mr_combine_window *window =
        combine->rules[p->rule].recent[recent_slot(p->window_start_ms)];
    return window != NULL && window->start_ms == p->window_start_ms ? &window->groups : NULL;
}

enum mr_status mr_combine_merge(struct mr_combine *combine, struct mr_parcel *parcel) {
    MR_ASSERT(!combine->firing && combine->scans == 0);
    MR_ASSERT(!combine->advanced || parcel->seq > combine->seq);
    MR_ASSERT(!combine->merging || parcel->seq == combine->merging_seq);
    MR_ASSERT(!combine->save.under_way || parcel->seq > combine->save.seq);
    MR_ASSERT(combine->loading == NULL);
    combine->merging = true;
    combine->merging_seq = parcel->seq;
    const struct mr_partial *coming[SLOT_AHEAD] = {NULL}; /* a ring: those seen ahead */
    size_t ahead = 0;
    size_t at = 0;
    enum mr_status status = MR_OK;
    for (uint32_t k = 0; k < parcel->count + SLOT_AHEAD && status == MR_OK; k++) {
        const struct mr_partial *near =
            k < GROUP_AHEAD ? NULL : coming[(k - GROUP_AHEAD) % SLOT_AHEAD];
        const struct mr_groups *groups = near == NULL ? NULL : groups_ahead(combine, near);
        if (groups != NULL) {
            mr_groups_prefetch_group(groups, mr_group_hash(near->key_hash));
        }
        if (k >= SLOT_AHEAD) {
            struct mr_partial *p = partial_at(parcel, at);
            at += p->size;
            status = MR_BUG(PARTIAL_LOST) && parcel->count > 1 && k == SLOT_AHEAD
                         ? MR_OK
                         : merge_partial(combine, p, parcel->recorded_ms);
            if (MR_BUG(PARTIAL_TWICE) && k == parcel->count + SLOT_AHEAD - 1 && status == MR_OK) {
                status = merge_partial(combine, p, parcel->recorded_ms);
            }
        }
        coming[k % SLOT_AHEAD] = NULL;
        if (k < parcel->count) {
            const struct mr_partial *far = partial_at(parcel, ahead);
            ahead += far->size;
            coming[k % SLOT_AHEAD] = far;
            groups = groups_ahead(combine, far);
            if (groups != NULL) {
                mr_groups_prefetch_slot(groups, mr_group_hash(far->key_hash));
            }
        }
    }
    MR_ASSERT(status != MR_OK || at == parcel->bytes.len);
    mr_combine_set_gauges(combine);
    return status;
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
