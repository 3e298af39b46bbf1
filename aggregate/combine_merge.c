/* SPDX-License-Identifier: Apache-2.0 */
/* Merging parcels: partials in runs, so that what one waits for, others do meanwhile (mr_combine_merge). */
#include "aggregate/combine_state.h"
#include "aggregate/dead_letter.h"
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/bug.h"
#include "base/json.h"

enum { DIRTY_FIRST = 64 };

static bool grow_dirty(struct mr_combine_rule *cr) {
    uint32_t cap = cr->dirty_cap == 0 ? DIRTY_FIRST : cr->dirty_cap * 2;
    struct mr_combine_dirty *dirty = mr_realloc(cr->dirty, cap * sizeof *dirty);
    if (dirty == NULL) {
        return false;
    }
    cr->dirty = dirty;
    cr->dirty_cap = cap;
    return true;
}

static inline bool reserve_dirty(struct mr_combine_rule *cr) {
    return cr->dirty_count < cr->dirty_cap || grow_dirty(cr);
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

static void flush_merges(struct mr_combine_merges *merges) {
    if (merges->count > 0) {
        const struct mr_rule *rule = merges->rule;
        mr_metric_merge_plain(rule->metrics, rule->metric_count, merges->into, merges->from, merges->count);
        merges->count = 0;
    }
}

static void add_merge(struct mr_combine_merges *merges, const struct mr_rule *rule, uint8_t *into,
                      const uint8_t *from) {
    if (merges->count == MR_COMBINE_RUN || merges->rule != rule) {
        flush_merges(merges);
        merges->rule = rule;
    }
    merges->into[merges->count] = into;
    merges->from[merges->count] = from;
    merges->count++;
}

/* Into the group's live state; an encoded state of a rule without sketches is a live one, and is merged later. */
static enum mr_status merge_state(struct mr_combine *combine, struct mr_combine_window *window, struct mr_group *group,
                                  bool added, const struct mr_partial *p, const uint8_t *from) {
    const struct mr_rule *rule = window->owner->rule;
    uint8_t *state = mr_group_state(group);
    if (added && !rule->grows) {
        memcpy(state, from, p->state_len);
        return MR_OK;
    }
    if (!rule->grows) {
        add_merge(&combine->merges, rule, state, from);
        return MR_OK;
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
    enum mr_status status = merge_state(combine, window, group, added, p, mr_partial_state(p));
    note_change(combine, window, group, ref, added);
    if (window->state == MR_WINDOW_CLOSED) {
        group->panes |= (added ? MR_GROUP_BORN_LATE : 0) | (window->owner->rule->trigger.late ? 0 : MR_GROUP_UNSAID);
    }
    group->events += p->events;
    group->revision = combine->merging_seq;
    return status;
}

/* A partial of a key that the window, if it is there, does not have yet. */
static enum mr_status merge_new(struct mr_combine *combine, struct mr_combine_rule *cr,
                                struct mr_combine_window *window, struct mr_partial *p, int64_t start_ms,
                                struct mr_combine_merged *ret) {
    struct mr_bytes key = mr_partial_key(p);
    uint32_t hash = mr_group_hash(p->key_hash);
    uint32_t ref = 0;
    struct mr_group *group = NULL;
    bool overflow = is_full(cr, key.len);
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
        flush_merges(&combine->merges);
        group = mr_combine_add_group(combine, cr, &window, start_ms, hash, key, &ref);
        if (group == NULL) {
            return MR_NO_MEMORY;
        }
    }
    ret->applied = true;
    ret->overflow = ret->overflow || overflow;
    return merge_into(combine, window, group, ref, added, p);
}

enum mr_status mr_combine_merge_window(struct mr_combine *combine, struct mr_combine_rule *cr, struct mr_partial *p,
                                       int64_t start_ms, struct mr_combine_merged *ret) {
    uint32_t ref = 0;
    struct mr_combine_window *window = mr_combine_find_window(cr, start_ms);
    MR_ASSERT(window == NULL || window->state != MR_WINDOW_FINAL);
    struct mr_group *group =
        window == NULL ? NULL : mr_groups_find(&window->groups, mr_group_hash(p->key_hash), mr_partial_key(p), &ref);
    if (group == NULL) {
        return merge_new(combine, cr, window, p, start_ms, ret);
    }
    if (!reserve_dirty(cr)) {
        return MR_NO_MEMORY;
    }
    ret->applied = true;
    return merge_into(combine, window, group, ref, false, p);
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

/* What most partials are: of a key that its window has already. */
static enum mr_status merge_known(struct mr_combine *combine, struct mr_combine_window *window, struct mr_group *group,
                                  uint32_t ref, struct mr_partial *p) {
    struct mr_combine_rule *cr = window->owner;
    MR_ASSERT(window->state != MR_WINDOW_FINAL);
    if (!reserve_dirty(cr)) {
        return MR_NO_MEMORY;
    }
    mr_counter_add(&cr->stats.applied, p->events);
    mr_hot_add(&cr->hot, p->key_hash, mr_partial_key(p), p->events);
    return merge_into(combine, window, group, ref, false, p);
}

static enum mr_status merge_partial(struct mr_combine *combine, struct mr_partial *p, int64_t recorded_ms) {
    struct mr_combine_rule *cr = &combine->rules[p->rule];
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

static struct mr_partial *partial_at(const struct mr_parcel *parcel, size_t at) {
    struct mr_partial *p = (struct mr_partial *)(void *)(parcel->bytes.ptr + at);
    MR_ASSERT(parcel->bytes.len - at >= sizeof *p && parcel->bytes.len - at >= p->size);
    MR_ASSERT(p->size >= sizeof *p + p->state_len + p->key_len && p->size % 8 == 0);
    return p;
}

/* The window of a partial if it is at hand, and the only one. */
static inline struct mr_combine_window *window_ahead(const struct mr_combine *combine, const struct mr_partial *p) {
    MR_ASSERT(p->rule < combine->rule_count && p->events > 0);
    const struct mr_combine_rule *cr = &combine->rules[p->rule];
    MR_ASSERT(cr->rule->grows ? p->state_len >= cr->rule->state_len : p->state_len == cr->rule->state_len);
    return cr->rule->window.kind == MR_WINDOW_SLIDING ? NULL : mr_combine_recent_window(cr, p->window_start_ms);
}

/* Merges the n partials at *at, n up to MR_COMBINE_RUN, and moves on. */
static enum mr_status merge_run(struct mr_combine *combine, const struct mr_parcel *parcel, size_t *at, uint32_t n) {
    struct mr_partial *partials[MR_COMBINE_RUN];
    struct mr_combine_window *windows[MR_COMBINE_RUN];
    uint32_t refs[MR_COMBINE_RUN];
    for (uint32_t k = 0; k < n; k++) {
        struct mr_partial *p = partial_at(parcel, *at);
        *at += p->size;
        partials[k] = p;
        windows[k] = window_ahead(combine, p);
        if (windows[k] != NULL) {
            mr_groups_prefetch_slot(&windows[k]->groups, mr_group_hash(p->key_hash));
        }
    }
    for (uint32_t k = 0; k < n; k++) {
        if (windows[k] != NULL) {
            refs[k] = mr_groups_seek(&windows[k]->groups, mr_group_hash(partials[k]->key_hash));
        }
    }
    enum mr_status status = MR_OK;
    for (uint32_t k = 0; k < n && status == MR_OK; k++) {
        struct mr_partial *p = partials[k];
        struct mr_group *group =
            windows[k] == NULL ? NULL : mr_groups_of_key(&windows[k]->groups, refs[k], mr_partial_key(p));
        status = group != NULL ? merge_known(combine, windows[k], group, refs[k], p)
                               : merge_partial(combine, p, parcel->recorded_ms);
    }
    flush_merges(&combine->merges);
    return status;
}

enum mr_status mr_combine_merge(struct mr_combine *combine, struct mr_parcel *parcel) {
    MR_ASSERT(!combine->firing && combine->scans == 0);
    MR_ASSERT(!combine->advanced || parcel->seq > combine->seq);
    MR_ASSERT(!combine->merging || parcel->seq == combine->merging_seq);
    MR_ASSERT(!combine->save.under_way || parcel->seq > combine->save.seq);
    MR_ASSERT(combine->loading == NULL);
    combine->merging = true;
    combine->merging_seq = parcel->seq;
    size_t at = 0;
    size_t last = 0; /* of the last run */
    uint32_t left = parcel->count;
    enum mr_status status = MR_OK;
    if (MR_BUG(PARTIAL_LOST) && left > 1) {
        at = partial_at(parcel, 0)->size;
        left--;
    }
    while (left > 0 && status == MR_OK) {
        uint32_t n = left < MR_COMBINE_RUN ? left : MR_COMBINE_RUN;
        last = at;
        status = merge_run(combine, parcel, &at, n);
        left -= n;
    }
    if (MR_BUG(PARTIAL_TWICE) && parcel->count > 0 && status == MR_OK) {
        status = merge_run(combine, parcel, &last, 1);
    }
    MR_ASSERT(status != MR_OK || at == parcel->bytes.len);
    mr_combine_set_gauges(combine);
    return status;
}
