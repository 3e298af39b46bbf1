/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging: a proto-session and the sessions it overlaps become one.
 *
 *     choose    which sessions, by their extents only
 *     touch     a save writes them down as they were
 *     gather    all memory is taken and all metrics are summed up in the target
 *     settle    extents, timers, lists: nothing of it can fail
 *
 * The target is the session whose start lives on; if there is none (the proto-session begins before all of them), or if
 * DISCARDING its row indexes would get a hole, a new one.
 */
#include "aggregate/sessions_state.h"
#include "base/alloc.h"
#include "base/key.h"

/* What becomes of one partial. */
struct merge {
    struct mr_sessions *s;
    struct mr_partial *partial;
    int64_t recorded_ms;
    struct mr_key_entry *key; /* NULL: not there yet */
    uint64_t key_hash;
    struct mr_bytes key_bytes;
    int64_t start_ms; /* of the result */
    int64_t end_ms;
    struct mr_session *chosen; /* linked by `chosen`, in order of start */
    struct mr_session *target;
    bool target_is_new;
    uint32_t index; /* the greatest */
};

static bool fits(const struct mr_rule *rule, int64_t start_ms, int64_t end_ms) {
    return (uint64_t)end_ms - (uint64_t)start_ms <= (uint64_t)rule->window.size_ms;
}

static void choose(struct merge *m) {
    int64_t start = m->start_ms; /* of the proto-session: only what that overlaps is a candidate */
    int64_t end = m->end_ms;
    struct mr_session **link = &m->chosen;
    struct mr_session *at = m->key == NULL ? NULL : mr_session_tree_overlap(m->key, INT64_MIN, start, end);
    for (; at != NULL; at = mr_session_tree_overlap(m->key, at->start_ms + 1, start, end)) {
        int64_t first = at->start_ms < m->start_ms ? at->start_ms : m->start_ms;
        int64_t last = at->end_ms > m->end_ms ? at->end_ms : m->end_ms;
        if (!fits(m->s->rule, first, last)) {
            continue;
        }
        m->start_ms = first;
        m->end_ms = last;
        m->index = at->index > m->index ? at->index : m->index;
        *link = at;
        link = &at->chosen;
        at->chosen = NULL;
    }
}

/* The one that goes on, if it can. */
static struct mr_session *heir(const struct merge *m) {
    struct mr_session *first = m->chosen;
    if (first == NULL || first->start_ms != m->start_ms) {
        return NULL;
    }
    bool hole = m->s->discarding && mr_session_has_rows(first) && first->index < m->index;
    return hole ? NULL : first;
}

static bool is_full(const struct merge *m) {
    const struct mr_sessions *s = m->s;
    if (m->chosen != NULL || mr_key_is_other(m->key_bytes)) {
        return false;
    }
    uint64_t cost =
        mr_session_cost(s, (uint32_t)m->key_bytes.len, m->key == NULL || m->key->root == NULL);
    return s->count >= s->rule->groups_max || s->bytes + cost > s->rule->groups_bytes;
}

/* Takes the memory that settle needs. */
static enum mr_status reserve(struct merge *m) {
    struct mr_sessions *s = m->s;
    for (uint32_t clock = 0; clock < MR_SESSION_CLOCKS; clock++) {
        enum mr_status status = mr_slots_reserve(&s->clocks[clock]);
        if (status != MR_OK) {
            return status;
        }
    }
    m->target = heir(m);
    m->target_is_new = m->target == NULL;
    if (!m->target_is_new) {
        return MR_OK;
    }
    if (m->key == NULL) {
        m->key = mr_key_index_add(&s->by_key, m->key_hash, m->key_bytes);
        if (m->key == NULL) {
            return MR_NO_MEMORY;
        }
        m->key->refs = 1; /* ours, until the session is there */
    } else {
        m->key->refs++;
    }
    m->target = mr_session_new(s, m->key);
    mr_key_index_release(&s->by_key, m->key);
    return m->target == NULL ? MR_NO_MEMORY : MR_OK;
}

/* Sums up in the target: what is retracted with a session's rows comes back from them. */
static enum mr_status sum_up(struct merge *m) {
    struct mr_sessions *s = m->s;
    const struct mr_rule *rule = s->rule;
    uint8_t *into = mr_session_live(m->target);
    enum mr_status status = MR_OK;
    for (struct mr_session *from = m->chosen; from != NULL && status == MR_OK; from = from->chosen) {
        if (from == m->target) {
            continue;
        }
        status = mr_session_add(s, into, mr_session_live(from));
        if (status == MR_OK && from->said_events > 0) {
            status = mr_session_add(s, into, mr_session_said(s, from));
        }
    }
    return status != MR_OK ? status
                           : mr_metric_merge(rule->metrics, rule->metric_count, into,
                                             mr_bytes_of(mr_partial_state(m->partial), m->partial->state_len));
}

/* It is no session any more; its rows, if it has any, are to be retracted. */
static void swallow(struct merge *m, struct mr_session *from) {
    struct mr_sessions *s = m->s;
    struct mr_session *target = m->target;
    uint64_t back = from->said_events; /* 0 unless DISCARDING */
    target->events += from->events + back;
    target->unfired += from->unfired + back;
    mr_session_leave(s, from);
    from->state = MR_SESSION_SWALLOWED;
    mr_counter_add(&s->stats.swallowed, 1);
    if (!mr_session_has_rows(from)) {
        mr_session_free(s, from);
        return;
    }
    mr_metric_release(s->rule->metrics, s->rule->metric_count, mr_session_live(from));
    mr_session_list_push(&s->retracting, from, MR_SESSION_HOME);
}

/* sooner: the timers of what became one; INT64_MAX: there was none. */
static int64_t early_due(const struct merge *m, int64_t sooner) {
    int64_t after = m->s->rule->trigger.early_ms;
    if (m->target->state != MR_SESSION_OPEN || after <= 0) {
        return INT64_MAX;
    }
    int64_t due;
    bool never = __builtin_add_overflow(m->recorded_ms, after, &due);
    return never || sooner < due ? sooner : due;
}

static void settle(struct merge *m, uint64_t seq) {
    struct mr_sessions *s = m->s;
    struct mr_session *target = m->target;
    bool has_row = mr_session_has_rows(target);
    bool reextended = target->reextended;
    int64_t early = INT64_MAX;
    uint64_t fired_seq = 0;
    for (struct mr_session *from = m->chosen, *next; from != NULL; from = next) {
        next = from->chosen;
        bool moved = from->start_ms != m->start_ms || from->end_ms != m->end_ms;
        reextended = reextended || from->reextended || (from->fired_seq > 0 && moved);
        int64_t due = from->due[MR_SESSION_EARLY];
        early = due < early ? due : early;
        if (from->fired_seq > fired_seq) {
            fired_seq = from->fired_seq;
        }
        if (from != target) {
            swallow(m, from);
        }
    }
    if (!m->target_is_new) {
        mr_session_leave(s, target); /* its place in tree and clock depends on its extent */
    }
    target->start_ms = m->start_ms;
    target->end_ms = m->end_ms;
    target->state = m->end_ms > s->watermark_ms ? MR_SESSION_OPEN : MR_SESSION_CLOSED;
    mr_session_enter(s, target);
    if (!s->discarding || !has_row) {
        target->said_first = has_row ? m->index - 1 : m->index;
    }
    target->index = m->index;
    target->events += m->partial->events;
    target->unfired += m->partial->events;
    target->changed_seq = seq;
    target->fired_seq = fired_seq;
    target->reextended = reextended;
    mr_session_set_early(s, target, early_due(m, early));
    mr_session_list_push(&s->changed, target, MR_SESSION_CHANGED);
    target->changed = true;
}

static void begin_merge(struct mr_sessions *s, uint64_t seq) {
    MR_ASSERT(!s->firing && s->scans == 0 && !s->loading.under_way && !s->again_under_way);
    MR_ASSERT(!s->advanced || seq > s->seq);
    MR_ASSERT(!s->merging || seq == s->merging_seq);
    MR_ASSERT(!s->save.under_way || seq > s->save.seq);
    s->merging = true;
    s->merging_seq = seq;
}

/* A half-made target goes; a sum that was half made in one that was there stays so, and the caller stops. */
static void give_up(struct merge *m) {
    if (m->target != NULL && m->target_is_new) {
        mr_session_free(m->s, m->target);
    }
}

enum mr_status mr_sessions_merge(struct mr_sessions *s, uint64_t seq, int64_t recorded_ms,
                                 struct mr_partial *partial, uint64_t key_hash, struct mr_bytes key) {
    const struct mr_rule *rule = s->rule;
    begin_merge(s, seq);
    MR_ASSERT(partial->events > 0 && partial->state_len >= rule->state_len);
    struct mr_session_extent extent;
    memcpy(&extent, mr_partial_state(partial), sizeof extent);
    struct merge m = {.s = s,
                      .partial = partial,
                      .recorded_ms = recorded_ms,
                      .key_hash = key_hash,
                      .key_bytes = key,
                      .start_ms = extent.start_ms,
                      .end_ms = extent.end_ms};
    MR_ASSERT(m.start_ms == partial->window_start_ms && m.start_ms < m.end_ms);
    MR_ASSERT(m.end_ms - m.start_ms >= rule->window.gap_ms);
    MR_ASSERT(fits(rule, m.start_ms, m.end_ms));
    MR_ASSERT(!mr_session_is_final(rule, m.start_ms + rule->window.gap_ms, s->watermark_ms)); /* lift */
    m.key = mr_key_index_find(&s->by_key, key_hash, key);
    choose(&m);
    if (is_full(&m)) {
        return MR_FULL;
    }
    for (struct mr_session *from = m.chosen; from != NULL; from = from->chosen) {
        mr_session_touch(s, from);
    }
    enum mr_status status = reserve(&m);
    if (status == MR_OK) {
        status = sum_up(&m);
    }
    if (status != MR_OK) {
        give_up(&m);
        return status;
    }
    if (m.target_is_new) {
        m.target->save_mark = s->save.number;
    }
    settle(&m, seq);
    mr_sessions_set_gauges(s);
    return MR_OK;
}
