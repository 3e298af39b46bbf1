/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/aggregate/test_sessions_kit.h"

#include "base/key.h"
#include "tests/aggregate/metric_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* Model: sessions of a key by the documented rule, over arrays. */

static bool model_overlaps(const struct sk_session *s, const struct sk_proto *p, int64_t end) {
    return s->key == p->key && !s->gone && !s->final && s->start_ms < end && s->end_ms > p->times[0];
}

static bool model_has_room(const struct sk_model *m, uint32_t shard, const struct sk_world *w,
                           const struct sk_proto *p) {
    int64_t end = p->times[p->count - 1] + w->rule.window.gap_ms;
    uint64_t count = 0;
    for (uint32_t i = 0; i < m->session_count; i++) {
        const struct sk_session *s = &m->sessions[i];
        int64_t first = s->start_ms < p->times[0] ? s->start_ms : p->times[0];
        int64_t last = s->end_ms > end ? s->end_ms : end;
        if (model_overlaps(s, p, end) && last - first <= w->rule.window.size_ms) {
            return true;
        }
        count += !s->gone && !s->final && sk_owner(w, s->key) == shard;
    }
    return count < w->rule.groups_max;
}

/* The overlapping one with the least start above `after` (an index or UINT32_MAX). */
static uint32_t model_next(const struct sk_model *m, const struct sk_proto *p, int64_t end, int64_t after) {
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < m->session_count; i++) {
        const struct sk_session *s = &m->sessions[i];
        if (model_overlaps(s, p, end) && s->start_ms > after &&
            (best == UINT32_MAX || s->start_ms < m->sessions[best].start_ms)) {
            best = i;
        }
    }
    return best;
}

/* What one that becomes part of another leaves to it. takes_back: its events are in no row any more. */
static void model_join(struct sk_model *m, uint32_t from, uint32_t into, bool takes_back) {
    struct sk_session *f = &m->sessions[from];
    struct sk_session *t = &m->sessions[into];
    t->fired = t->fired || f->fired;
    t->moved = t->moved || f->moved || (f->fired && (f->start_ms != t->start_ms || f->end_ms != t->end_ms));
    t->first_change_ms = f->first_change_ms < t->first_change_ms ? f->first_change_ms : t->first_change_ms;
    f->gone = true;
    for (uint32_t e = 0; e < m->event_count; e++) {
        if (m->events[e].session == from) {
            m->events[e].session = into;
            m->events[e].unfired = m->events[e].unfired || takes_back;
        }
    }
}

static void merge_model(struct sk_model *m, const struct sk_bundle *b, const struct sk_proto *p) {
    const struct mr_window *window = &m->rule->window;
    bool discarding = m->rule->trigger.panes == MR_DISCARDING;
    int64_t start = p->times[0];
    int64_t end = p->times[p->count - 1] + window->gap_ms;
    int64_t acc_end = end;
    uint32_t chosen[64];
    uint32_t count = 0;
    uint32_t index = 0;
    for (uint32_t i = model_next(m, p, end, INT64_MIN); i != UINT32_MAX;
         i = model_next(m, p, end, m->sessions[i].start_ms)) {
        const struct sk_session *s = &m->sessions[i];
        int64_t first = s->start_ms < start ? s->start_ms : start;
        int64_t last = s->end_ms > acc_end ? s->end_ms : acc_end;
        if (last - first <= window->size_ms) {
            start = first;
            acc_end = last;
            index = s->index > index ? s->index : index;
            assert_true(count < 64);
            chosen[count++] = i;
        }
    }
    uint32_t heir = count > 0 && m->sessions[chosen[0]].start_ms == start ? chosen[0] : UINT32_MAX;
    if (discarding && heir != UINT32_MAX && m->sessions[heir].said_first < m->sessions[heir].index &&
        m->sessions[heir].index < index) {
        heir = UINT32_MAX;
    }
    uint32_t into = m->session_count;
    assert_true(into < SK_SESSIONS);
    struct sk_session *t = &m->sessions[m->session_count++];
    *t = (struct sk_session){.key = p->key, .born = true, .first_change_ms = INT64_MAX, .said_first = index};
    if (heir != UINT32_MAX) { /* its rows live on: under the same start, in a new entry */
        struct sk_session *h = &m->sessions[heir];
        bool rows = h->said_first < h->index;
        t->said_first = rows ? (discarding ? h->said_first : index - 1) : index;
        t->born = h->born;
    }
    t->start_ms = start;
    t->end_ms = acc_end;
    t->index = index;
    for (uint32_t c = 0; c < count; c++) {
        struct sk_session *f = &m->sessions[chosen[c]];
        model_join(m, chosen[c], into, discarding && chosen[c] != heir);
        f->owes = chosen[c] != heir && f->said_first < f->index;
    }
    t->changed = true;
    t->closed = acc_end <= m->watermark_ms;
    if (t->first_change_ms > b->recorded_ms) {
        t->first_change_ms = b->recorded_ms;
    }
    if (t->closed) {
        t->first_change_ms = INT64_MAX;
    }
    for (uint32_t i = 0; i < p->count; i++) {
        assert_true(m->event_count < SK_EVENTS);
        m->events[m->event_count++] = (struct sk_event){into, p->times[i], p->values[i], true};
    }
}

/* Without a longest length sessions are what anyone would make of the sorted events. */
static void model_check_gaps(const struct sk_model *m) {
    if (m->rule->window.size_ms != INT64_MAX) {
        return;
    }
    for (uint32_t a = 0; a < m->event_count; a++) {
        const struct sk_session *s = &m->sessions[m->events[a].session];
        int64_t next = INT64_MAX; /* the first event at or behind this one that is not final and another */
        bool last = true;
        for (uint32_t b = 0; b < m->event_count && !s->final; b++) {
            const struct sk_session *o = &m->sessions[m->events[b].session];
            if (a != b && o->key == s->key && !o->final && m->events[b].time_ms >= m->events[a].time_ms) {
                int64_t away = m->events[b].time_ms - m->events[a].time_ms;
                next = away < next ? away : next;
                assert_int_equal(away < m->rule->window.gap_ms ? o - m->sessions : 0,
                                 away < m->rule->window.gap_ms ? s - m->sessions : 0);
                last = last && !(o == s && away > 0);
            }
        }
        if (!s->final && last) {
            assert_int_equal(s->end_ms, m->events[a].time_ms + m->rule->window.gap_ms);
        } else if (!s->final) {
            assert_true(next < m->rule->window.gap_ms);
        }
    }
}

/* The results store: a row for each pane, none where one is taken back. */

static struct sk_row *find_row(struct sk_store *store, uint32_t key, int64_t start_ms, uint32_t index) {
    for (uint32_t i = 0; i < store->count; i++) {
        struct sk_row *row = &store->rows[i];
        if (row->key == key && row->start_ms == start_ms && row->index == index) {
            return row;
        }
    }
    return NULL;
}

static void remove_row(struct sk_world *w, uint32_t key, int64_t start_ms, uint32_t index) {
    struct sk_row *row = find_row(&w->store, key, start_ms, index);
    assert_non_null(row); /* what is taken back was said */
    *row = w->store.rows[--w->store.count];
}

/* What a session should fire in this bundle; -1: nothing. */
static int expected_timing(const struct sk_world *w, const struct sk_bundle *b, uint32_t i, uint64_t unfired) {
    const struct sk_session *s = &w->model.sessions[i];
    const struct mr_trigger *trigger = &w->rule.trigger;
    bool due = trigger->early_ms > 0 && s->first_change_ms != INT64_MAX &&
               s->first_change_ms + trigger->early_ms <= b->recorded_ms;
    bool counted = trigger->early_count > 0 && unfired >= trigger->early_count;
    if (s->gone || s->final) {
        return -1;
    }
    if (!s->closed && s->end_ms <= b->watermark_ms) {
        return trigger->panes == MR_DISCARDING && unfired == 0 ? -1 : MR_TIMING_ON_TIME;
    }
    if (s->closed) {
        bool final = sk_is_final(&w->rule, s->end_ms, b->watermark_ms);
        bool late = (s->changed && (trigger->late || s->moved)) || s->takes_over || (final && unfired > 0);
        return late ? MR_TIMING_LATE : -1;
    }
    bool early = due || (s->changed && (counted || s->moved || s->takes_over));
    return early ? MR_TIMING_EARLY : -1;
}

void sk_sum_of(const struct sk_world *w, uint32_t i, bool only_unfired, uint64_t *ret_events, int64_t *ret_sum) {
    *ret_events = 0;
    *ret_sum = 0;
    for (uint32_t e = 0; e < w->model.event_count; e++) {
        const struct sk_event *event = &w->model.events[e];
        if (event->session == i && (event->unfired || !only_unfired)) {
            (*ret_events)++;
            *ret_sum += event->value;
        }
    }
}

static bool is_unfired(const struct sk_world *w, uint32_t i) {
    uint64_t events;
    int64_t sum;
    sk_sum_of(w, i, true, &events, &sum);
    return events > 0;
}

static void model_inherit(struct sk_world *w) {
    struct sk_model *m = &w->model;
    bool discarding = w->rule.trigger.panes == MR_DISCARDING;
    for (uint32_t g = 0; g < m->session_count; g++) {
        struct sk_session *gone = &m->sessions[g];
        for (uint32_t i = 0; i < m->session_count && gone->owes; i++) {
            struct sk_session *s = &m->sessions[i];
            if (s->gone || s->key != gone->key || s->start_ms != gone->start_ms) {
                continue;
            }
            assert_true(s->born);
            w->inherited++;
            s->index = gone->index > s->index ? gone->index : s->index;
            s->said_first = s->index - !discarding;
            s->takes_over = !discarding;
            gone->owes = discarding;
            break;
        }
    }
}

static uint32_t find_session(const struct sk_model *m, uint32_t key, int64_t start_ms, bool owes) {
    for (uint32_t i = 0; i < m->session_count; i++) {
        const struct sk_session *s = &m->sessions[i];
        if (s->key == key && s->start_ms == start_ms && (owes ? s->owes : !s->gone)) {
            return i;
        }
    }
    fail();
    return 0;
}

static void apply_retraction(struct sk_world *w, const struct mr_pane *pane, uint32_t key, uint32_t index) {
    struct sk_session *gone = &w->model.sessions[find_session(&w->model, key, pane->window_start_ms, true)];
    assert_int_equal(pane->state.len, 0);
    assert_int_equal(pane->events, 0);
    if (w->rule.trigger.panes == MR_DISCARDING) {
        assert_int_equal(index, gone->said_first);
        gone->said_first++;
    } else {
        assert_int_equal(pane->window_end_ms, find_row(&w->store, key, pane->window_start_ms, 0)->end_ms);
        gone->said_first = gone->index;
    }
    gone->owes = gone->said_first < gone->index;
    remove_row(w, key, pane->window_start_ms, index);
    w->retractions++;
}

/* Of the metrics that grow, the one that tells how much it has seen. */
static void check_collected(const struct mr_rule *rule, struct mr_bytes state, uint64_t events) {
    struct mr_arena scratch;
    char want[40];
    mr_arena_init(&scratch, 4096, 1 << 20);
    snprintf(want, sizeof want, ",\"count\":%llu}", (unsigned long long)events);
    const char *text = metric_text(rule->metrics, SK_COLLECT, state, &scratch);
    size_t len = strlen(text);
    assert_true(len > strlen(want));
    assert_string_equal(text + len - strlen(want), want);
    mr_arena_finish(&scratch);
}

static void apply_pane(struct sk_world *w, const struct sk_bundle *b, const struct mr_pane *pane, int *expected) {
    bool discarding = w->rule.trigger.panes == MR_DISCARDING;
    uint32_t index;
    uint32_t key = sk_key_number(&w->rule, pane->key, &index);
    assert_int_equal(pane->revision, b->seq);
    assert_int_equal(pane->rule, w->rule.index);
    if (pane->retraction) {
        apply_retraction(w, pane, key, index);
        return;
    }
    uint32_t i = find_session(&w->model, key, pane->window_start_ms, false);
    struct sk_session *s = &w->model.sessions[i];
    assert_int_equal(pane->timing, expected[i]);
    expected[i] = -1; /* at most once */
    assert_int_equal(pane->window_end_ms, s->end_ms);
    assert_int_equal(pane->index, s->index);
    assert_int_equal(index, discarding ? s->index : 0);
    assert_int_equal(pane->final, sk_is_final(&w->rule, s->end_ms, b->watermark_ms));
    struct sk_row row = {.key = key, .start_ms = s->start_ms, .index = index, .end_ms = s->end_ms, .revision = b->seq};
    sk_sum_of(w, i, discarding, &row.events, &row.sum);
    assert_int_equal(pane->events, row.events);
    assert_int_equal(mr_metric_check(w->rule.metrics, w->rule.metric_count, pane->state), MR_OK);
    if (w->rule.grows && w->rule.metrics[SK_COLLECT].kind == MR_METRIC_COLLECT) {
        check_collected(&w->rule, pane->state, row.events);
    }
    struct mr_number sum = mr_metric_finish(w->rule.metrics, MR_METRIC_SUM, pane->state, NULL);
    struct mr_number count = mr_metric_finish(w->rule.metrics, MR_METRIC_COUNT, pane->state, NULL);
    assert_int_equal(sum.i, row.sum);
    assert_int_equal(count.i, row.events);
    struct sk_row *old = find_row(&w->store, key, s->start_ms, index);
    assert_true(old == NULL || (!discarding && old->revision < b->seq));
    assert_int_equal(old != NULL, !discarding && s->said_first < s->index);
    if (old == NULL) {
        assert_true(w->store.count < SK_ROWS);
        old = &w->store.rows[w->store.count++];
    }
    *old = row;
    w->panes[pane->timing]++;
    s->index++;
    s->fired = true;
    s->first_change_ms = INT64_MAX;
    for (uint32_t e = 0; e < w->model.event_count; e++) {
        w->model.events[e].unfired = w->model.events[e].unfired && w->model.events[e].session != i;
    }
}

static void apply_panes(struct sk_world *w, const struct sk_bundle *b, struct mr_bytes panes, int *expected) {
    struct mr_pane before = {.retraction = true};
    struct mr_pane pane;
    while (mr_pane_next(&panes, &pane)) {
        assert_true(before.retraction || !pane.retraction); /* they come first */
        if (!before.retraction && before.timing == MR_TIMING_ON_TIME && pane.timing == MR_TIMING_ON_TIME) {
            int64_t end = pane.window_end_ms - before.window_end_ms;
            int64_t start = pane.window_start_ms - before.window_start_ms;
            assert_true(end > 0 || (end == 0 && start > 0) ||
                        (end == 0 && start == 0 && mr_bytes_compare(before.key, pane.key) < 0));
        }
        apply_pane(w, b, &pane, expected);
        before = pane;
    }
}

/* What holds of the rows whatever was fired. */
static void check_rows(const struct sk_world *w) {
    bool discarding = w->rule.trigger.panes == MR_DISCARDING;
    uint64_t events = 0;
    for (uint32_t i = 0; i < w->store.count; i++) {
        const struct sk_row *row = &w->store.rows[i];
        const struct sk_session *s = &w->model.sessions[find_session(&w->model, row->key, row->start_ms, false)];
        if (!discarding) {
            assert_int_equal(row->end_ms, s->end_ms);
        }
        assert_true(!discarding || (row->index >= s->said_first && row->index < s->index));
        events += row->events;
    }
    uint64_t unfired = 0;
    for (uint32_t e = 0; e < w->model.event_count; e++) {
        unfired += w->model.events[e].unfired;
    }
    if (discarding || w->rule.trigger.late) {
        for (uint32_t i = 0; i < w->model.session_count; i++) {
            const struct sk_session *s = &w->model.sessions[i];
            bool silent = !w->rule.trigger.late && !s->final;
            assert_true(s->gone || !s->closed || silent || !is_unfired(w, i));
        }
    }
    assert_true(!discarding || events + unfired == w->model.event_count); /* each in one place */
}

static void end_model(struct sk_world *w, const struct sk_bundle *b) {
    struct sk_model *m = &w->model;
    m->watermark_ms = b->watermark_ms;
    m->live = 0;
    for (uint32_t i = 0; i < m->session_count; i++) {
        struct sk_session *s = &m->sessions[i];
        assert_false(s->owes);
        s->closed = s->end_ms <= b->watermark_ms;
        s->final = s->final || (!s->gone && sk_is_final(&w->rule, s->end_ms, b->watermark_ms));
        s->first_change_ms = s->closed ? INT64_MAX : s->first_change_ms;
        s->changed = s->born = s->moved = s->takes_over = false;
        m->live += !s->gone && !s->final;
    }
}

void sk_step(struct sk_world *w, const struct sk_bundle *b, struct mr_buf *panes) {
    struct sk_model *m = &w->model;
    static int expected[SK_SESSIONS];
    for (uint32_t i = 0; i < b->count; i++) {
        struct sk_proto p = b->protos[i];
        uint32_t shard = sk_owner(w, p.key);
        if (!model_has_room(m, shard, w, &p)) {
            p.key = SK_KEYS + shard;
            w->full++;
        }
        merge_model(m, b, &p);
    }
    model_inherit(w);
    for (uint32_t i = 0; i < m->session_count; i++) {
        uint64_t unfired;
        int64_t sum;
        sk_sum_of(w, i, true, &unfired, &sum);
        expected[i] = expected_timing(w, b, i, unfired);
    }
    uint64_t live = 0;
    for (uint32_t s = 0; s < w->shards; s++) {
        struct mr_buf own;
        struct mr_buf *to = panes == NULL ? &own : &panes[s];
        mr_buf_init(&own, 1 << 26);
        size_t begin = to->len;
        sk_run(w->sessions[s], w, s, b, to);
        apply_panes(w, b, mr_bytes_of(to->ptr + begin, to->len - begin), expected);
        live += mr_counter_read(&mr_sessions_stats(w->sessions[s])->sessions);
        mr_buf_finish(&own);
    }
    for (uint32_t i = 0; i < m->session_count; i++) {
        assert_int_equal(expected[i], -1);
    }
    end_model(w, b);
    check_rows(w);
    assert_int_equal(live, m->live);
    if (kit_below(&w->random, 8) == 0) {
        model_check_gaps(m);
    }
}
