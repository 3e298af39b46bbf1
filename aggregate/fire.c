/* SPDX-License-Identifier: Apache-2.0 */
/* The second half of combine: event time moves on, windows close, panes fire in slices. */
#include "aggregate/combine_state.h"
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/bug.h"

enum { GROUP_MERGES = 32 }; /* of a window's slices: they take about as long as a group that fires */

static bool dirty_before(const struct mr_combine_dirty *a, const struct mr_combine_dirty *b) {
    return a->start_ms != b->start_ms ? a->start_ms < b->start_ms : a->ref < b->ref;
}

static void sift_down(struct mr_combine_dirty *heap, uint32_t at, uint32_t len) {
    struct mr_combine_dirty moved = heap[at];
    for (uint32_t child = 2 * at + 1; child < len; child = 2 * at + 1) {
        if (child + 1 < len && dirty_before(&heap[child], &heap[child + 1])) {
            child++;
        }
        if (!dirty_before(&moved, &heap[child])) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* Heapsort, because it needs no memory: by window, then in order of first appearance (I1 of
 * groups.h). At most one entry for each partial of the bundle. */
static void sort_dirty(struct mr_combine_dirty *dirty, uint32_t len) {
    for (uint32_t at = len / 2; at-- > 0;) {
        sift_down(dirty, at, len);
    }
    for (uint32_t end = len; end > 1; end--) {
        struct mr_combine_dirty greatest = dirty[0];
        dirty[0] = dirty[end - 1];
        dirty[end - 1] = greatest;
        sift_down(dirty, 0, end - 1);
    }
}

static struct mr_combine_window *next_window(const struct mr_combine_rule *cr,
                                             const struct mr_combine_window *window) {
    return window->start_ms == INT64_MAX ? NULL
                                         : mr_timeline_ceil(&cr->windows, window->start_ms + 1);
}

/* Windows ending at or before `before` are closed already. */
static void close_windows(struct mr_combine_rule *cr, uint64_t seq, int64_t before_ms,
                          int64_t watermark_ms) {
    struct mr_combine_window *window =
        mr_timeline_ceil(&cr->windows, mr_window_first_after(cr->rule, before_ms));
    for (; window != NULL && mr_window_closed(cr->rule, window->start_ms, watermark_ms);
         window = next_window(cr, window)) {
        if (window->state != MR_WINDOW_OPEN) {
            continue; /* below the rule's floor */
        }
        window->state = MR_WINDOW_CLOSED;
        window->closed_seq = seq;
        window->next_closing = NULL;
        *(cr->closing == NULL ? &cr->closing : &cr->closing_last->next_closing) = window;
        cr->closing_last = window;
    }
}

void mr_combine_expire(struct mr_combine_window *window) {
    struct mr_combine_rule *cr = window->owner;
    MR_ASSERT(window->unsaid && window->state != MR_WINDOW_OPEN);
    window->unsaid = false;
    window->next_expired = NULL;
    *(cr->expired == NULL ? &cr->expired : &cr->expired_last->next_expired) = window;
    cr->expired_last = window;
}

void mr_combine_make_final(struct mr_combine *combine, struct mr_combine_window *window) {
    struct mr_combine_rule *cr = window->owner;
    MR_ASSERT(window->state == MR_WINDOW_CLOSED);
    window->state = MR_WINDOW_FINAL;
    window->final_seq = combine->seq;
    struct mr_combine_window **link =
        combine->final_last == NULL ? &combine->final_first : &combine->final_last->next_final;
    *link = window;
    combine->final_last = window;
    combine->final_count++;
    cr->window_count--;
    cr->groups -= window->groups.count;
    cr->bytes -= mr_combine_window_bytes(window);
    if (window->unsaid) {
        mr_combine_expire(window);
    }
}

/* The start of the first window that was not final at this watermark. */
static int64_t first_not_final(const struct mr_rule *rule, int64_t watermark_ms) {
    int64_t end_ms = mr_window_final_end(rule, watermark_ms);
    return end_ms == INT64_MIN ? INT64_MIN : mr_window_first_after(rule, end_ms);
}

static void advance_rule(struct mr_combine *combine, struct mr_combine_rule *cr, int64_t before_ms,
                         int64_t watermark_ms) {
    MR_ASSERT(cr->closing == NULL && cr->expired == NULL && cr->dirty_at == 0);
    if (cr->sessions != NULL) {
        mr_sessions_advance(cr->sessions, combine->seq, watermark_ms, combine->recorded_ms);
        mr_combine_note_sessions(cr);
        return;
    }
    sort_dirty(cr->dirty, cr->dirty_count);
    if (watermark_ms > before_ms) {
        close_windows(cr, combine->seq, before_ms, watermark_ms);
        struct mr_combine_window *window = mr_timeline_ceil(&cr->windows, first_not_final(cr->rule, before_ms));
        for (; window != NULL && mr_window_final(cr->rule, window->start_ms, watermark_ms);
             window = next_window(cr, window)) {
            mr_combine_make_final(combine, window);
        }
    }
    if (cr->slices != NULL) { /* what closes is put together as it fires */
        cr->slices_next_ms = cr->slices_open_ms;
        cr->slices_open_ms = mr_window_first_open(cr->rule, watermark_ms);
        mr_slices_advance(cr->slices, cr->slices_open_ms);
    }
    mr_combine_set_gauge(cr);
}

void mr_combine_advance(struct mr_combine *combine, uint64_t seq, const int64_t *watermarks_ms,
                        int64_t recorded_ms) {
    MR_ASSERT(!combine->firing && combine->scans == 0);
    MR_ASSERT(!combine->advanced || seq > combine->seq);
    MR_ASSERT(!combine->merging || seq == combine->merging_seq);
    MR_ASSERT(!combine->save.under_way || seq > combine->save.seq);
    MR_ASSERT(combine->loading == NULL);
    combine->seq = seq;
    combine->recorded_ms = recorded_ms;
    combine->advanced = true;
    combine->merging = false;
    combine->firing = true;
    combine->fire_rule = 0;
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        struct mr_combine_rule *cr = &combine->rules[r];
        advance_rule(combine, cr, mr_combine_watermark(combine, cr), mr_rule_watermark(cr->rule, watermarks_ms));
        mr_hot_advance(&cr->hot, recorded_ms);
        mr_counter_set(&cr->stats.hot_events, cr->hot.total);
        mr_counter_set(&cr->stats.hot_heaviest, cr->hot.heaviest);
    }
    for (uint32_t s = 0; s < combine->stream_count; s++) {
        MR_ASSERT(watermarks_ms[s] >= combine->watermarks_ms[s]); /* I2 */
        combine->watermarks_ms[s] = watermarks_ms[s];
    }
}

static bool append_pane(struct mr_combine *combine, const struct mr_combine_window *window, struct mr_group *group,
                        enum mr_timing timing, uint32_t index, struct mr_flush *flush) {
    struct mr_row row = mr_combine_row(combine, window, group, timing);
    if (row.state.ptr == NULL) {
        return false;
    }
    struct mr_pane pane = {
        .rule = window->owner->rule->index,
        .timing = timing,
        .final = row.final,
        .index = index,
        .window_start_ms = row.window_start_ms,
        .window_end_ms = row.window_end_ms,
        .revision = MR_BUG(REVISION_NOT_STORED) ? 1 : row.revision,
        .events = row.events,
        .key = row.key,
        .state = row.state,
    };
    mr_pane_append(&flush->panes, &pane);
    flush->pane_count++;
    return !flush->panes.failed;
}

/* What a group remembers of having fired. */
static void note_fired(struct mr_combine_window *window, struct mr_group *group, enum mr_timing timing) {
    const struct mr_rule *rule = window->owner->rule;
    group->panes = (group->panes & ~MR_GROUP_UNSAID) + (timing != MR_TIMING_ON_TIME);
    if (rule->trigger.panes == MR_DISCARDING && !MR_BUG(DISCARDED_TWICE)) {
        size_t heap = mr_metric_heap(rule->metrics, rule->metric_count, mr_group_state(group));
        mr_metric_release(rule->metrics, rule->metric_count, mr_group_state(group));
        group->events = 0;
        window->heap -= heap;
        window->owner->bytes -= window->state == MR_WINDOW_FINAL ? 0 : heap;
    }
    if (mr_combine_fires_early(rule)) {
        *mr_combine_firing(rule, group) = (struct mr_group_firing){.fired_events = group->events};
    }
}

/* A window that closes is only read: every group in it fires, and that its end has fired says the window. */
static enum mr_status fire_group(struct mr_combine *combine, struct mr_combine_window *window, struct mr_group *group,
                                 uint32_t ref, enum mr_timing timing, struct mr_flush *flush) {
    struct mr_combine_rule *cr = window->owner;
    bool changes = timing != MR_TIMING_ON_TIME || cr->rule->trigger.panes == MR_DISCARDING;
    if (changes) {
        mr_combine_touch(combine, window, group, ref);
    }
    uint32_t index = mr_combine_pane_index(window, group, timing);
    if (!append_pane(combine, window, group, timing, index, flush)) {
        return MR_NO_MEMORY;
    }
    if (changes) {
        note_fired(window, group, timing);
    }
    mr_counter_add(&cr->stats.panes, 1);
    return MR_OK;
}

bool mr_combine_fire_again(struct mr_combine *combine, uint32_t rule, int64_t *start_ms,
                           struct mr_flush *flush) {
    MR_ASSERT(!combine->firing && !combine->merging && rule < combine->rule_count);
    struct mr_combine_rule *cr = &combine->rules[rule];
    if (cr->sessions != NULL) {
        return mr_sessions_fire_again(cr->sessions, MR_SLICE_GROUPS, flush);
    }
    struct mr_combine_window *window = mr_timeline_ceil(&cr->windows, *start_ms);
    while (window != NULL && window->state != MR_WINDOW_CLOSED) {
        window = next_window(cr, window);
    }
    if (window == NULL || *start_ms == INT64_MAX) {
        return false;
    }
    *start_ms = window->start_ms == INT64_MAX ? INT64_MAX : window->start_ms + 1;
    uint32_t ref = 0;
    struct mr_group *group;
    bool discards = cr->rule->trigger.panes == MR_DISCARDING; /* each pane is a row that nothing has replaced */
    while (!discards && (group = mr_groups_next(&window->groups, &ref)) != NULL) {
        if ((group->panes & MR_GROUP_UNSAID) != 0) {
            continue; /* said once the window is final; it may have no row yet */
        }
        bool late = group->revision > window->closed_seq; /* its last pane was */
        enum mr_timing timing = late ? MR_TIMING_LATE : MR_TIMING_ON_TIME;
        uint32_t index = mr_combine_pane_index(window, group, timing) - late;
        if (!append_pane(combine, window, group, timing, index, flush)) {
            flush->panes.failed = true;
            break;
        }
    }
    return true;
}

enum mr_status mr_combine_session_rows_scan(struct mr_combine *combine, uint32_t rule,
                                            void (*visit)(void *ctx, int64_t start_ms, struct mr_bytes key), void *ctx) {
    MR_ASSERT(!combine->firing && !combine->merging && rule < combine->rule_count);
    MR_ASSERT(combine->rules[rule].sessions != NULL);
    return mr_sessions_rows_scan(combine->rules[rule].sessions, visit, ctx);
}

/* A group that the bundle changed: in an open window it fires by count, or begins to wait. */
static enum mr_status fire_dirty(struct mr_combine *combine, struct mr_combine_rule *cr,
                                 const struct mr_combine_dirty *dirty, struct mr_flush *flush) {
    const struct mr_trigger *trigger = &cr->rule->trigger;
    struct mr_combine_window *window = dirty->window;
    struct mr_group *group = mr_groups_at(&window->groups, dirty->ref);
    if (window->state != MR_WINDOW_OPEN) {
        bool closes_now = window->closed_seq == combine->seq;
        return closes_now ? MR_OK : fire_group(combine, window, group, dirty->ref, MR_TIMING_LATE, flush);
    }
    struct mr_group_firing *firing = mr_combine_firing(cr->rule, group);
    if (trigger->early_count > 0 && group->events - firing->fired_events >= trigger->early_count) {
        return fire_group(combine, window, group, dirty->ref, MR_TIMING_EARLY, flush);
    }
    if (trigger->early_ms == 0 || firing->waiting_ms != 0) {
        return MR_OK;
    }
    firing->waiting_ms = combine->recorded_ms;
    struct mr_combine_timer timer = {combine->recorded_ms, window->start_ms, dirty->ref};
    return mr_combine_add_timer(&cr->timers, timer) ? MR_OK : MR_NO_MEMORY;
}

static enum mr_status fire_timer(struct mr_combine *combine, struct mr_combine_rule *cr, struct mr_flush *flush) {
    struct mr_combine_timers *timers = &cr->timers;
    struct mr_combine_timer timer = timers->items[timers->first & (timers->cap - 1)];
    timers->first++;
    timers->count--;
    struct mr_combine_window *window = mr_combine_find_window(cr, timer.start_ms);
    if (window == NULL || window->state != MR_WINDOW_OPEN) {
        return MR_OK; /* its groups have fired at the end */
    }
    struct mr_group *group = mr_groups_at(&window->groups, timer.ref);
    if (mr_combine_firing(cr->rule, group)->waiting_ms != timer.waiting_ms) {
        return MR_OK; /* it has fired since */
    }
    return fire_group(combine, window, group, timer.ref, MR_TIMING_EARLY, flush);
}

static bool timer_is_due(const struct mr_combine *combine, const struct mr_combine_rule *cr) {
    const struct mr_combine_timers *timers = &cr->timers;
    return timers->count > 0 && timers->items[timers->first & (timers->cap - 1)].waiting_ms <=
                                    combine->recorded_ms - cr->rule->trigger.early_ms;
}

static enum mr_status fire_closing(struct mr_combine *combine, struct mr_combine_rule *cr, struct mr_flush *flush) {
    struct mr_combine_window *window = cr->closing;
    uint32_t ref = cr->closing_ref;
    struct mr_group *group = mr_groups_next(&window->groups, &cr->closing_ref);
    if (group != NULL) {
        return fire_group(combine, window, group, ref, MR_TIMING_ON_TIME, flush);
    }
    cr->closing = window->next_closing;
    cr->closing_ref = 0;
    return MR_OK;
}

/* Groups that have changed since their window's end, and have not been said. */
static enum mr_status fire_expired(struct mr_combine *combine, struct mr_combine_rule *cr, struct mr_flush *flush) {
    struct mr_combine_window *window = cr->expired;
    uint32_t ref = cr->expired_ref;
    struct mr_group *group = mr_groups_next(&window->groups, &cr->expired_ref);
    if (group == NULL) {
        cr->expired = window->next_expired;
        cr->expired_ref = 0;
        return MR_OK;
    }
    bool unsaid = (group->panes & MR_GROUP_UNSAID) != 0;
    return unsaid ? fire_group(combine, window, group, ref, MR_TIMING_LATE, flush) : MR_OK;
}

/* The window that begins there and has just ended. */
static struct mr_combine_window *find_or_begin(struct mr_combine *combine, struct mr_combine_rule *cr,
                                               int64_t start_ms) {
    struct mr_combine_window *window = mr_combine_find_window(cr, start_ms);
    if (window != NULL) {
        return window;
    }
    window = mr_combine_open_window(combine, cr, start_ms);
    if (window == NULL) {
        return NULL;
    }
    window->closed_seq = combine->seq;
    if (mr_window_final(cr->rule, start_ms, mr_combine_watermark(combine, cr))) {
        mr_combine_make_final(combine, window);
    }
    return window;
}

/* What the window that begins at slices_next_ms has of a key, if it has anything: a group of it, which fires. */
static enum mr_status put_together(struct mr_combine *combine, struct mr_combine_rule *cr,
                                   const struct mr_sliced_key *key, struct mr_flush *flush, uint32_t *merges) {
    const struct mr_rule *rule = cr->rule;
    struct mr_slices_value value;
    enum mr_status status = mr_slices_add(cr->slices, key, cr->slices_next_ms, NULL, &value);
    *merges = value.merges;
    if (status != MR_OK || value.events == 0) {
        return status;
    }
    struct mr_combine_window *window = find_or_begin(combine, cr, cr->slices_next_ms);
    uint32_t ref;
    struct mr_group *group =
        window == NULL ? NULL
                       : mr_combine_add_group(combine, cr, &window, window->start_ms,
                                              mr_group_hash(mr_slices_key_hash(key)), mr_slices_key_bytes(key), &ref);
    if (group == NULL) {
        return MR_NO_MEMORY;
    }
    mr_slices_group_closed(cr->slices, window->groups.count == 1);
    group->events = value.events;
    group->revision = combine->seq;
    status = mr_slices_add(cr->slices, key, cr->slices_next_ms, mr_group_state(group), &value);
    *merges += value.merges;
    size_t heap = rule->grows ? mr_metric_heap(rule->metrics, rule->metric_count, mr_group_state(group)) : 0;
    window->heap += heap;
    cr->bytes += window->state == MR_WINDOW_FINAL ? 0 : heap;
    return status == MR_OK ? fire_group(combine, window, group, ref, MR_TIMING_ON_TIME, flush) : status;
}

/* One key of a window that closes, or the next window. What needed many merges counts as several groups. */
static enum mr_status fire_slices(struct mr_combine *combine, struct mr_combine_rule *cr, uint32_t *budget,
                                  struct mr_flush *flush) {
    struct mr_slices *slices = cr->slices;
    if (cr->slices_key == NULL) {
        int64_t start_ms;
        bool found = mr_slices_window_from(slices, cr->slices_next_ms, &start_ms) && start_ms < cr->slices_open_ms;
        cr->slices_next_ms = found ? start_ms : cr->slices_open_ms;
        cr->slices_key = found ? mr_slices_first_key(slices) : NULL;
        return MR_OK;
    }
    uint32_t merges = 0;
    enum mr_status status = put_together(combine, cr, cr->slices_key, flush, &merges);
    cr->slices_key = mr_slices_next_key(cr->slices_key);
    cr->slices_next_ms += cr->slices_key == NULL ? cr->rule->window.every_ms : 0;
    uint32_t more = merges / GROUP_MERGES;
    *budget = *budget > more ? *budget - more : 1;
    return status;
}

/* Slices that no OPEN window needs any more. Returns what is left of the budget; 0: there may be more. */
static uint32_t retire(struct mr_combine_rule *cr, uint32_t budget) {
    bool all = mr_slices_retire(cr->slices, &budget);
    mr_combine_set_gauge(cr);
    return all && budget == 0 ? 1 : budget;
}

/* One step costs one group, or one window, of the budget. The rule is done when some is left. */
static enum mr_status fire_rule(struct mr_combine *combine, struct mr_combine_rule *cr, uint32_t *budget,
                                struct mr_flush *flush) {
    enum mr_status status = MR_OK;
    if (cr->sessions != NULL) {
        bool done = false;
        status = mr_sessions_fire(cr->sessions, budget, flush, &done);
        *budget = done ? *budget : 0;
        mr_combine_note_sessions(cr);
        return status;
    }
    for (; *budget > 0 && status == MR_OK; --*budget) {
        if (cr->dirty_at < cr->dirty_count) {
            status = fire_dirty(combine, cr, &cr->dirty[cr->dirty_at++], flush);
        } else if (timer_is_due(combine, cr)) {
            status = fire_timer(combine, cr, flush);
        } else if (cr->closing != NULL) {
            status = fire_closing(combine, cr, flush);
        } else if (cr->expired != NULL) {
            status = fire_expired(combine, cr, flush);
        } else if (cr->slices != NULL && cr->slices_next_ms < cr->slices_open_ms) {
            status = fire_slices(combine, cr, budget, flush);
        } else {
            break;
        }
    }
    if (status == MR_OK && *budget > 0 && cr->slices != NULL) {
        *budget = retire(cr, *budget);
    }
    return status;
}

enum mr_status mr_combine_say_left(struct mr_combine *combine, uint64_t seq, uint32_t rule, uint32_t budget,
                                   struct mr_flush *flush, bool *ret_done) {
    MR_ASSERT(!combine->firing && !combine->merging && combine->loading == NULL && rule < combine->rule_count);
    MR_ASSERT(seq >= combine->seq && flush->seq == seq && budget > 0);
    struct mr_combine_rule *cr = &combine->rules[rule];
    combine->seq = seq;
    if (cr->sessions != NULL) {
        enum mr_status said = mr_sessions_say_left(cr->sessions, seq, budget, flush, ret_done);
        mr_combine_note_sessions(cr);
        return said;
    }
    enum mr_status status = MR_OK;
    for (; budget > 0 && status == MR_OK && cr->expired != NULL; budget--) {
        status = fire_expired(combine, cr, flush);
    }
    *ret_done = cr->expired == NULL;
    return status;
}

static void end_rule(struct mr_combine_rule *cr) {
    MR_ASSERT(cr->slices_next_ms == cr->slices_open_ms && cr->slices_key == NULL);
    MR_ASSERT(cr->closing == NULL && cr->expired == NULL && cr->dirty_at == cr->dirty_count);
    cr->closing_last = NULL;
    cr->expired_last = NULL;
    cr->dirty_count = 0;
    cr->dirty_at = 0;
}

static enum mr_status say_finals(struct mr_combine *combine, struct mr_flush *flush) {
    uint32_t moved = 0;
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        const struct mr_combine_rule *cr = &combine->rules[r];
        int64_t end = mr_window_final_end(cr->rule, mr_combine_watermark(combine, cr));
        moved += end > cr->said_final_end_ms;
    }
    if (moved == 0) {
        return MR_OK;
    }
    struct mr_final *finals =
        mr_realloc(flush->finals, (flush->final_count + moved) * sizeof *finals);
    if (finals == NULL) {
        return MR_NO_MEMORY;
    }
    flush->finals = finals;
    for (uint32_t r = 0; r < combine->rule_count; r++) {
        struct mr_combine_rule *cr = &combine->rules[r];
        int64_t end = mr_window_final_end(cr->rule, mr_combine_watermark(combine, cr));
        if (end > cr->said_final_end_ms) {
            cr->said_final_end_ms = end;
            memset(&finals[flush->final_count], 0, sizeof *finals);
            finals[flush->final_count].rule = cr->rule->index;
            finals[flush->final_count].end_ms = end;
            flush->final_count++;
        }
    }
    return MR_OK;
}

static void move_dead(struct mr_combine *combine, struct mr_flush *flush) {
    mr_buf_append_bytes(&flush->dead, mr_buf_bytes(&combine->dead));
    flush->dead_count += combine->dead_count;
    mr_buf_finish(&combine->dead);
    combine->dead_count = 0;
}

enum mr_status mr_combine_fire(struct mr_combine *combine, uint32_t budget, struct mr_flush *flush,
                               bool *ret_done) {
    MR_ASSERT(combine->firing && budget > 0);
    MR_ASSERT(flush->seq == combine->seq);
    if (combine->dead_count > 0) {
        move_dead(combine, flush);
    }
    while (combine->fire_rule < combine->rule_count) {
        struct mr_combine_rule *cr = &combine->rules[combine->fire_rule];
        enum mr_status status = fire_rule(combine, cr, &budget, flush);
        if (status != MR_OK) {
            return status;
        }
        if (budget == 0) {
            break;
        }
        end_rule(cr);
        combine->fire_rule++;
    }
    bool done = combine->fire_rule == combine->rule_count;
    enum mr_status status = MR_OK;
    if (done && combine->shard == 0) { /* last: finals are applied after the panes */
        status = say_finals(combine, flush);
    }
    if (status != MR_OK || flush->panes.failed || flush->dead.failed) {
        return MR_NO_MEMORY;
    }
    combine->firing = !done;
    *ret_done = done;
    return MR_OK;
}
