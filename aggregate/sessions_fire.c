/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a bundle, in slices: what is retracted → what changed → early timers → what closes or becomes final.
 *
 * A session counts as OPEN until the last phase comes to it, so that each phase leaves what closes now to that one.
 * What has fired has unfired == 0 and is passed by in later phases.
 */
#include "aggregate/sessions_state.h"
#include "base/bug.h"

void mr_sessions_advance(struct mr_sessions *s, uint64_t seq, int64_t watermark_ms, int64_t recorded_ms) {
    MR_ASSERT(!s->firing && s->scans == 0 && !s->loading.under_way && !s->again_under_way);
    MR_ASSERT(!s->advanced || seq > s->seq);
    MR_ASSERT(!s->merging || seq == s->merging_seq);
    MR_ASSERT(!s->save.under_way || seq > s->save.seq);
    MR_ASSERT(watermark_ms >= s->watermark_ms && recorded_ms >= s->recorded_ms);
    s->seq = seq;
    s->watermark_ms = watermark_ms;
    s->recorded_ms = recorded_ms;
    s->advanced = true;
    s->merging = false;
    s->firing = true;
    s->phase = MR_SESSIONS_RETRACT;
}

static bool closes_now(const struct mr_sessions *s, const struct mr_session *session) {
    return session->state == MR_SESSION_OPEN && session->end_ms <= s->watermark_ms;
}

static enum mr_status append_pane(struct mr_sessions *s, struct mr_session *session, enum mr_timing timing,
                                  uint32_t index, uint64_t revision, struct mr_flush *flush) {
    struct mr_pane pane = {
        .rule = s->rule->index,
        .timing = timing,
        .final = mr_session_is_final(s->rule, session->end_ms, s->watermark_ms),
        .index = index,
        .window_start_ms = session->start_ms,
        .window_end_ms = session->end_ms,
        .revision = revision,
        .events = session->events,
    };
    enum mr_status status = mr_session_row_key(s, session, index, &pane.key);
    if (status == MR_OK) {
        status = mr_session_encode(s, mr_session_live(session), &pane.state);
    }
    if (status != MR_OK) {
        return status;
    }
    mr_pane_append(&flush->panes, &pane);
    flush->pane_count++;
    return flush->panes.failed ? MR_NO_MEMORY : MR_OK;
}

/* The session fires. DISCARDING: what it had goes to what its rows hold. */
static enum mr_status fire(struct mr_sessions *s, struct mr_session *session, enum mr_timing timing,
                           struct mr_flush *flush) {
    MR_ASSERT(session->events > 0 && (session->index == 0 || session->fired_seq < s->seq)); /* I1 */
    enum mr_status status = append_pane(s, session, timing, session->index, s->seq, flush);
    if (status == MR_OK && s->discarding) {
        status = mr_session_add(s, mr_session_said(s, session), mr_session_live(session));
    }
    if (status != MR_OK) {
        return status;
    }
    if (s->discarding) {
        mr_metric_release(s->rule->metrics, s->rule->metric_count, mr_session_live(session));
        session->said_events += session->events;
        session->events = 0;
        mr_session_charge(s, session);
    }
    session->index++;
    session->said_end_ms = session->end_ms;
    session->fired_seq = s->seq;
    session->said_on_time = timing == MR_TIMING_ON_TIME;
    session->unfired = 0;
    mr_session_set_early(s, session, INT64_MAX);
    mr_counter_add(&s->stats.panes, 1);
    return MR_OK;
}

static enum mr_status retract(struct mr_sessions *s, struct mr_session *gone, struct mr_flush *flush) {
    struct mr_pane pane = {
        .rule = s->rule->index,
        .timing = gone->said_end_ms <= s->watermark_ms ? MR_TIMING_LATE : MR_TIMING_EARLY,
        .retraction = true,
        .index = s->discarding ? gone->said_first : gone->index - 1,
        .window_start_ms = gone->start_ms,
        .window_end_ms = gone->said_end_ms,
        .revision = s->seq,
    };
    enum mr_status status = mr_session_row_key(s, gone, pane.index, &pane.key);
    if (status != MR_OK) {
        return status;
    }
    if (!MR_BUG(SESSION_ROW_NOT_RETRACTED)) {
        mr_pane_append(&flush->panes, &pane);
        flush->pane_count++;
    }
    if (flush->panes.failed) {
        return MR_NO_MEMORY;
    }
    mr_counter_add(&s->stats.retractions, 1);
    gone->said_first = s->discarding ? gone->said_first + 1 : gone->index;
    return MR_OK;
}

/* A session that began in this bundle at the start of one that is gone: takes its row over, or, where each pane is a
 * row, goes on behind its indexes. */
static void inherit(struct mr_sessions *s, struct mr_session *gone, struct mr_session *heir) {
    MR_ASSERT(heir->changed && !mr_session_has_rows(heir));
    heir->index = gone->index > heir->index ? gone->index : heir->index;
    heir->said_first = heir->index;
    if (!s->discarding) {
        heir->said_first--;
        heir->takes_over = true;
        gone->said_first = gone->index;
    }
}

/* One step of a phase. MR_END: the phase is over. */
static enum mr_status step_retract(struct mr_sessions *s, struct mr_flush *flush) {
    struct mr_session *gone = s->retracting.first;
    if (gone == NULL) {
        return MR_END;
    }
    struct mr_session *heir = mr_session_tree_find(gone->key, gone->start_ms);
    if (heir != NULL && !mr_session_has_rows(heir)) {
        inherit(s, gone, heir);
    }
    enum mr_status status = mr_session_has_rows(gone) ? retract(s, gone, flush) : MR_OK;
    if (status == MR_OK && !mr_session_has_rows(gone)) {
        mr_session_list_remove(&s->retracting, gone, MR_SESSION_HOME);
        mr_session_free(s, gone);
    }
    return status;
}

static enum mr_status step_changed(struct mr_sessions *s, struct mr_flush *flush) {
    struct mr_session *session = s->changed.first;
    if (session == NULL) {
        return MR_END;
    }
    const struct mr_trigger *trigger = &s->rule->trigger;
    bool open = session->state == MR_SESSION_OPEN;
    bool counted = trigger->early_count > 0 && session->unfired >= trigger->early_count;
    bool fires = session->reextended || (open ? counted : trigger->late);
    enum mr_status status = MR_OK;
    if (!closes_now(s, session) && (fires || session->takes_over)) {
        mr_session_touch(s, session);
        status = fire(s, session, open ? MR_TIMING_EARLY : MR_TIMING_LATE, flush);
    }
    if (status == MR_OK) {
        mr_session_list_remove(&s->changed, session, MR_SESSION_CHANGED);
        session->changed = false;
        session->reextended = false;
        session->takes_over = false;
    }
    return status;
}

static enum mr_status step_early(struct mr_sessions *s, struct mr_flush *flush) {
    struct mr_session *session = mr_session_clock_first(s, MR_SESSION_EARLY);
    if (session == NULL || session->due[MR_SESSION_EARLY] > s->recorded_ms) {
        return MR_END;
    }
    mr_session_touch(s, session);
    if (closes_now(s, session)) {
        mr_session_set_early(s, session, INT64_MAX);
        return MR_OK;
    }
    return fire(s, session, MR_TIMING_EARLY, flush);
}

static void make_final(struct mr_sessions *s, struct mr_session *session) {
    mr_session_leave(s, session);
    session->state = MR_SESSION_FINAL;
    session->final_seq = s->seq;
    mr_session_list_push(&s->finals, session, MR_SESSION_HOME);
    s->final_count++;
}

/* By (due, start, key), and OPEN sessions are due at their end. */
static enum mr_status step_due(struct mr_sessions *s, struct mr_flush *flush) {
    struct mr_session *session = mr_session_clock_first(s, MR_SESSION_EVENT);
    if (session == NULL || session->due[MR_SESSION_EVENT] > s->watermark_ms) {
        return MR_END;
    }
    mr_session_touch(s, session);
    bool open = session->state == MR_SESSION_OPEN;
    bool fires = open ? session->events > 0 : session->unfired > 0;
    enum mr_status status =
        fires ? fire(s, session, open ? MR_TIMING_ON_TIME : MR_TIMING_LATE, flush) : MR_OK;
    if (status != MR_OK) {
        return status;
    }
    if (open) {
        session->state = MR_SESSION_CLOSED;
        mr_session_clock_set(s, session, MR_SESSION_EVENT, mr_session_final_at(s->rule, session->end_ms));
    } else {
        make_final(s, session);
    }
    return MR_OK;
}

static enum mr_status step(struct mr_sessions *s, struct mr_flush *flush) {
    switch (s->phase) {
    case MR_SESSIONS_RETRACT:
        return step_retract(s, flush);
    case MR_SESSIONS_CHANGED:
        return step_changed(s, flush);
    case MR_SESSIONS_EARLY:
        return step_early(s, flush);
    case MR_SESSIONS_DUE:
        return step_due(s, flush);
    }
    MR_UNREACHABLE();
}

enum mr_status mr_sessions_fire(struct mr_sessions *s, uint32_t *budget, struct mr_flush *flush, bool *ret_done) {
    MR_ASSERT(s->firing && *budget > 0 && s->scans == 0);
    MR_ASSERT(flush->seq == s->seq);
    bool done = false;
    enum mr_status status = MR_OK;
    while (*budget > 0 && status == MR_OK && !done) {
        status = step(s, flush);
        if (status != MR_END) {
            (*budget)--;
        } else {
            status = MR_OK;
            done = s->phase == MR_SESSIONS_DUE;
            s->phase += !done;
        }
    }
    mr_sessions_set_gauges(s);
    if (status == MR_OK) {
        s->firing = !done;
        *ret_done = done;
    }
    return status;
}

enum mr_status mr_sessions_say_left(struct mr_sessions *s, uint64_t seq, uint32_t budget, struct mr_flush *flush,
                                    bool *ret_done) {
    MR_ASSERT(!s->firing && !s->merging && !s->loading.under_way && budget > 0);
    MR_ASSERT(seq >= s->seq && flush->seq == seq);
    s->seq = seq;
    struct mr_session *session = s->again_under_way ? s->again : s->live.first;
    enum mr_status status = MR_OK;
    for (; session != NULL && budget > 0 && status == MR_OK; budget--) {
        struct mr_session *next = session->links[MR_SESSION_HOME].next;
        bool final = mr_session_is_final(s->rule, session->end_ms, s->watermark_ms);
        if (session->state == MR_SESSION_CLOSED && session->unfired > 0 && (final || s->rule->trigger.late)) {
            status = fire(s, session, MR_TIMING_LATE, flush);
        }
        if (status == MR_OK && final) {
            make_final(s, session);
        }
        session = next;
    }
    s->again = session;
    s->again_under_way = session != NULL;
    *ret_done = session == NULL;
    mr_sessions_set_gauges(s);
    return status;
}

enum mr_status mr_sessions_rows_scan(struct mr_sessions *s, mr_sessions_row visit, void *ctx) {
    MR_ASSERT(!s->firing && !s->merging);
    enum mr_status status = MR_OK;
    for (const struct mr_session *at = s->live.first; at != NULL && status == MR_OK;
         at = at->links[MR_SESSION_HOME].next) {
        uint32_t first = s->discarding || at->said_first == at->index ? at->said_first : at->index - 1;
        for (uint32_t index = first; index < at->index && status == MR_OK; index++) {
            struct mr_bytes key;
            status = mr_session_row_key(s, at, index, &key);
            if (status == MR_OK) {
                visit(ctx, at->start_ms, key);
            }
        }
    }
    return status;
}

bool mr_sessions_fire_again(struct mr_sessions *s, uint32_t budget, struct mr_flush *flush) {
    MR_ASSERT(!s->firing && !s->merging && budget > 0);
    struct mr_session *session = s->again_under_way ? s->again : s->live.first;
    for (; session != NULL && budget > 0; budget--, session = session->links[MR_SESSION_HOME].next) {
        if (!mr_session_has_rows(session) || s->discarding) {
            continue;
        }
        enum mr_timing timing = session->state == MR_SESSION_OPEN ? MR_TIMING_EARLY
                                : session->said_on_time           ? MR_TIMING_ON_TIME
                                                                  : MR_TIMING_LATE;
        enum mr_status status = append_pane(s, session, timing, session->index - 1, session->fired_seq, flush);
        if (status != MR_OK) {
            flush->panes.failed = true;
            session = NULL;
            break;
        }
    }
    s->again = session;
    s->again_under_way = session != NULL;
    return s->again_under_way;
}
