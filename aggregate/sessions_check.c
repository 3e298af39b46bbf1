/* SPDX-License-Identifier: Apache-2.0 */
/* What holds of sessions between calls, and a hash of them for comparing replays. */
#include "aggregate/sessions_state.h"

/* Without FINAL sessions: how long those stay depends on the flusher, not on the log. */
enum mr_status mr_sessions_state_hash_scan(struct mr_sessions *s, uint64_t *ret_hash) {
    struct mr_buf record;
    mr_buf_init(&record, SIZE_MAX / 2);
    uint64_t sum = 0; /* whatever the order */
    for (struct mr_session *at = s->live.first; at != NULL; at = at->links[MR_SESSION_HOME].next) {
        record.len = 0;
        mr_session_put(s, at, &record);
        sum += mr_hash64(mr_buf_bytes(&record), 0);
    }
    bool failed = record.failed;
    mr_buf_finish(&record);
    if (failed) {
        return MR_NO_MEMORY;
    }
    uint64_t all[] = {sum, s->count, (uint64_t)s->watermark_ms};
    *ret_hash = mr_hash64(mr_bytes_of(all, sizeof all), 0);
    return MR_OK;
}

static void check_tree(const struct mr_session *session, const struct mr_key_entry *key) {
    int64_t max = session->end_ms;
    const struct mr_session *below[] = {session->left, session->right};
    for (uint32_t i = 0; i < 2; i++) {
        if (below[i] != NULL) {
            MR_ASSERT((below[i]->start_ms < session->start_ms) == (i == 0));
            MR_ASSERT(below[i]->priority <= session->priority && below[i]->key == key);
            check_tree(below[i], key);
            max = below[i]->max_end_ms > max ? below[i]->max_end_ms : max;
        }
    }
    MR_ASSERT(session->max_end_ms == max);
}

static void check_keys(const struct mr_sessions *s) {
    uint64_t live = 0;
    mr_key_index_check_scan(&s->by_key, s->rule->key_seed);
    for (uint64_t b = 0; b < s->by_key.buckets.count; b++) {
        const struct mr_key_entry *key = *mr_slot(&s->by_key.buckets, b);
        for (; key != NULL; key = key->next) {
            if (key->root != NULL) {
                live++;
                check_tree(key->root, key);
            }
        }
    }
    MR_ASSERT(live == s->keys);
}

static void check_clock(const struct mr_sessions *s, uint32_t clock) {
    for (uint64_t at = 0; at < s->clocks[clock].count; at++) {
        const struct mr_session *session = *mr_slot(&s->clocks[clock], at);
        MR_ASSERT(session->at[clock] == at + 1);
        const struct mr_session *parent = at == 0 ? NULL : *mr_slot(&s->clocks[clock], (at - 1) / 2);
        MR_ASSERT(parent == NULL || mr_session_clock_before(parent, session, clock));
    }
}

/* I2 */
static void check_apart(const struct mr_sessions *s, const struct mr_session *session) {
    const struct mr_session *at =
        mr_session_tree_overlap(session->key, session->start_ms + 1, session->start_ms, session->end_ms);
    for (; at != NULL;
         at = mr_session_tree_overlap(session->key, at->start_ms + 1, session->start_ms, session->end_ms)) {
        int64_t end = at->end_ms > session->end_ms ? at->end_ms : session->end_ms;
        MR_ASSERT((uint64_t)end - (uint64_t)session->start_ms > (uint64_t)s->rule->window.size_ms);
    }
}

static void check_extent(const struct mr_sessions *s, struct mr_session *session) {
    const struct mr_window *window = &s->rule->window;
    uint64_t len = (uint64_t)session->end_ms - (uint64_t)session->start_ms;
    bool open = session->state == MR_SESSION_OPEN;
    MR_ASSERT(open || session->state == MR_SESSION_CLOSED);
    MR_ASSERT(len >= (uint64_t)window->gap_ms && len <= (uint64_t)window->size_ms);
    struct mr_session_extent extent = {.end_ms = session->end_ms, .start_ms = session->start_ms};
    MR_ASSERT(memcmp(mr_session_live(session), &extent, sizeof extent) == 0);
    MR_ASSERT(mr_session_tree_find(session->key, session->start_ms) == session);
    MR_ASSERT(session->at[MR_SESSION_EVENT] > 0);
    MR_ASSERT(session->due[MR_SESSION_EVENT] ==
              (open ? session->end_ms : mr_session_final_at(s->rule, session->end_ms)));
    if (!s->firing) {
        MR_ASSERT(open == (session->end_ms > s->watermark_ms));
        MR_ASSERT(!mr_session_is_final(s->rule, session->end_ms, s->watermark_ms));
    }
    check_apart(s, session);
}

static void check_counts(const struct mr_sessions *s, const struct mr_session *session) {
    bool early = session->due[MR_SESSION_EARLY] != INT64_MAX;
    MR_ASSERT(early == (session->at[MR_SESSION_EARLY] > 0));
    MR_ASSERT(!early || (session->state == MR_SESSION_OPEN && session->unfired > 0)); /* I3 of sessions_state.h */
    MR_ASSERT(session->said_first <= session->index);
    MR_ASSERT(session->events + session->said_events > 0);
    if (s->discarding) {
        MR_ASSERT(session->unfired == session->events);
        MR_ASSERT((session->said_events > 0) == mr_session_has_rows(session));
    } else {
        MR_ASSERT(session->unfired <= session->events && session->said_events == 0);
    }
    MR_ASSERT(session->changed || (!session->reextended && !session->takes_over));
    MR_ASSERT(!session->changed || s->merging || s->firing);
}

static void check_finals(const struct mr_sessions *s) {
    uint64_t finals = 0;
    for (const struct mr_session *at = s->finals.first; at != NULL; at = at->links[MR_SESSION_HOME].next) {
        const struct mr_session *previous = at->links[MR_SESSION_HOME].previous;
        MR_ASSERT(at->state == MR_SESSION_FINAL && at->charged == 0 && at->unfired == 0);
        MR_ASSERT(previous == NULL || previous->final_seq <= at->final_seq);
        finals++;
    }
    MR_ASSERT(finals == s->final_count);
}

void mr_sessions_check_scan(struct mr_sessions *s) {
    uint64_t count = 0;
    uint64_t bytes = 0;
    uint64_t early = 0;
    uint64_t changed = 0;
    for (struct mr_session *at = s->live.first; at != NULL; at = at->links[MR_SESSION_HOME].next) {
        check_extent(s, at);
        check_counts(s, at);
        count++;
        bytes += at->charged;
        early += at->at[MR_SESSION_EARLY] > 0;
        changed += at->changed;
        if (at->key->root == at) { /* once for each key */
            bytes += mr_session_cost(s, at->key->len, true) - mr_session_cost(s, at->key->len, false);
        }
    }
    MR_ASSERT(count == s->count && bytes == s->bytes); /* I3 */
    MR_ASSERT(count == s->clocks[MR_SESSION_EVENT].count && early == s->clocks[MR_SESSION_EARLY].count);
    for (const struct mr_session *at = s->changed.first; at != NULL; at = at->links[MR_SESSION_CHANGED].next) {
        MR_ASSERT(at->changed && changed > 0);
        changed--;
    }
    MR_ASSERT(changed == 0);
    MR_ASSERT(s->retracting.first == NULL || s->merging || s->firing);
    check_finals(s);
    check_keys(s);
    for (uint32_t clock = 0; clock < MR_SESSION_CLOCKS; clock++) {
        check_clock(s, clock);
    }
}
