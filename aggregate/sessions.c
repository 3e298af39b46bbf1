/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/sessions.h"

#include "aggregate/sessions_state.h"
#include "base/alloc.h"
#include "base/key.h"

enum {
    SCRATCH_BYTES_MAX = 1 << 30,
    SESSION_PLACES_BYTES = 2 * sizeof(void *), /* in the two clocks */
    KEY_PLACES_BYTES = sizeof(void *),         /* its bucket */
    BLOCK_HEADER_BYTES = 8,                    /* what the heap takes for itself */
};

/* Bounded by one parcel over MR_COMBINE_SAVE_WAITING_MAX, as long as the caller heeds that. */
#define WAITING_BYTES_MAX (SIZE_MAX / 2)

enum mr_status mr_sessions_open(const struct mr_rule *rule, uint32_t shard, struct mr_sessions **ret) {
    MR_ASSERT(rule->window.kind == MR_WINDOW_SESSION && shard < MR_SHARDS_MAX);
    MR_ASSERT(rule->window.gap_ms > 0 && rule->window.gap_ms <= rule->window.size_ms);
    MR_ASSERT(rule->state_len % 8 == 0 && rule->metric_count > 0 && rule->metrics[0].offset == mr_rule_prefix(rule));
    MR_ASSERT(rule->allowed_lateness_ms >= 0);
    struct mr_sessions *s = mr_alloc_zero(1, sizeof *s);
    if (s == NULL) {
        return MR_NO_MEMORY;
    }
    s->rule = rule;
    s->shard = shard;
    s->discarding = rule->trigger.panes == MR_DISCARDING;
    s->watermark_ms = INT64_MIN;
    s->recorded_ms = INT64_MIN;
    mr_buf_init(&s->encoded, SCRATCH_BYTES_MAX);
    mr_buf_init(&s->pane_key, MR_KEY_LEN_MAX + MR_KEY_PANE_LEN);
    mr_buf_init(&s->save.waiting, WAITING_BYTES_MAX);
    *ret = s;
    return MR_OK;
}

static void free_list(struct mr_sessions *s, struct mr_session_list *list) {
    struct mr_session *session = list->first;
    while (session != NULL) {
        struct mr_session *next = session->links[MR_SESSION_HOME].next;
        session->key->root = NULL;
        mr_session_free(s, session);
        session = next;
    }
}

void mr_sessions_close(struct mr_sessions *s) {
    if (s == NULL) {
        return;
    }
    free_list(s, &s->live);
    free_list(s, &s->finals);
    free_list(s, &s->retracting);
    mr_key_index_finish(&s->by_key);
    for (uint32_t clock = 0; clock < MR_SESSION_CLOCKS; clock++) {
        mr_slots_finish(&s->clocks[clock]);
    }
    mr_sessions_save_stop(s);
    mr_buf_finish(&s->encoded);
    mr_buf_finish(&s->pane_key);
    mr_free(s);
}

static size_t blocks_len(const struct mr_sessions *s) {
    return (size_t)s->rule->state_len * (s->discarding ? 2 : 1);
}

struct mr_session *mr_session_new(struct mr_sessions *s, struct mr_key_entry *key) {
    struct mr_session *session = mr_alloc_zero(1, sizeof *session + blocks_len(s));
    if (session == NULL) {
        return NULL;
    }
    session->key = key;
    key->refs++;
    session->due[MR_SESSION_EARLY] = INT64_MAX;
    return session;
}

void mr_session_free(struct mr_sessions *s, struct mr_session *session) {
    const struct mr_rule *rule = s->rule;
    mr_metric_release(rule->metrics, rule->metric_count, mr_session_live(session));
    if (s->discarding) {
        mr_metric_release(rule->metrics, rule->metric_count, mr_session_said(s, session));
    }
    mr_key_index_release(&s->by_key, session->key);
    mr_free(session);
}

static uint64_t key_cost(uint32_t key_len) {
    return sizeof(struct mr_key_entry) + BLOCK_HEADER_BYTES + KEY_PLACES_BYTES + (uint64_t)key_len;
}

uint64_t mr_session_cost(const struct mr_sessions *s, uint32_t key_len, bool key_is_new) {
    uint64_t cost = sizeof(struct mr_session) + BLOCK_HEADER_BYTES + SESSION_PLACES_BYTES + blocks_len(s);
    return cost + (key_is_new ? key_cost(key_len) : 0);
}

void mr_session_charge(struct mr_sessions *s, struct mr_session *session) {
    const struct mr_rule *rule = s->rule;
    struct mr_session_extent extent = {.end_ms = session->end_ms, .start_ms = session->start_ms};
    memcpy(mr_session_live(session), &extent, sizeof extent);
    uint64_t cost = mr_session_cost(s, 0, false);
    if (rule->grows) {
        cost += mr_metric_heap(rule->metrics, rule->metric_count, mr_session_live(session));
        if (s->discarding) {
            cost += mr_metric_heap(rule->metrics, rule->metric_count, mr_session_said(s, session));
        }
    }
    s->bytes += cost - session->charged;
    session->charged = cost;
}

/* Keys are charged while they have OPEN or CLOSED sessions: how long FINAL ones stay is the flusher's affair. */
void mr_session_enter(struct mr_sessions *s, struct mr_session *session) {
    struct mr_key_entry *key = session->key;
    MR_ASSERT(session->state == MR_SESSION_OPEN || session->state == MR_SESSION_CLOSED);
    if (key->root == NULL) {
        s->keys++;
        s->bytes += key_cost(key->len);
    }
    mr_session_tree_insert(session);
    bool open = session->state == MR_SESSION_OPEN;
    mr_session_clock_set(s, session, MR_SESSION_EVENT,
                         open ? session->end_ms : mr_session_final_at(s->rule, session->end_ms));
    mr_session_list_push_front(&s->live, session, MR_SESSION_HOME);
    s->count++;
    mr_session_charge(s, session);
}

void mr_session_leave(struct mr_sessions *s, struct mr_session *session) {
    if (s->save.at == session) {
        s->save.at = session->links[MR_SESSION_HOME].next;
    }
    mr_session_list_remove(&s->live, session, MR_SESSION_HOME);
    if (session->changed) {
        mr_session_list_remove(&s->changed, session, MR_SESSION_CHANGED);
        session->changed = false;
    }
    mr_session_clock_clear(s, session, MR_SESSION_EVENT);
    mr_session_clock_clear(s, session, MR_SESSION_EARLY);
    mr_session_tree_remove(session);
    s->count--;
    s->bytes -= session->charged;
    session->charged = 0;
    if (session->key->root == NULL) {
        s->keys--;
        s->bytes -= key_cost(session->key->len);
    }
}

void mr_session_set_early(struct mr_sessions *s, struct mr_session *session, int64_t due_ms) {
    if (due_ms == INT64_MAX) {
        mr_session_clock_clear(s, session, MR_SESSION_EARLY);
    } else {
        mr_session_clock_set(s, session, MR_SESSION_EARLY, due_ms);
    }
}

enum mr_status mr_session_encode(struct mr_sessions *s, const uint8_t *live, struct mr_bytes *ret) {
    const struct mr_rule *rule = s->rule;
    if (!rule->grows) {
        *ret = mr_bytes_of(live, rule->state_len);
        return MR_OK;
    }
    uint32_t len = mr_metric_encoded_len(rule->metrics, rule->metric_count, live);
    mr_buf_clear(&s->encoded);
    uint8_t *at = mr_buf_reserve(&s->encoded, len);
    if (at == NULL) {
        return MR_NO_MEMORY;
    }
    mr_metric_encode(rule->metrics, rule->metric_count, live, at);
    *ret = mr_bytes_of(at, len);
    return MR_OK;
}

enum mr_status mr_session_add(struct mr_sessions *s, uint8_t *into, const uint8_t *from) {
    struct mr_bytes encoded;
    enum mr_status status = mr_session_encode(s, from, &encoded);
    return status == MR_OK ? mr_metric_merge(s->rule->metrics, s->rule->metric_count, into, encoded) : status;
}

enum mr_status mr_session_row_key(struct mr_sessions *s, const struct mr_session *session, uint32_t index,
                                  struct mr_bytes *ret) {
    struct mr_bytes key = mr_session_key_bytes(session);
    if (!s->discarding) {
        *ret = key;
        return MR_OK;
    }
    mr_buf_clear(&s->pane_key);
    uint8_t *at = mr_buf_reserve(&s->pane_key, key.len + MR_KEY_PANE_LEN);
    if (at == NULL) {
        return MR_NO_MEMORY;
    }
    if (key.len > 0) {
        memcpy(at, key.ptr, key.len);
    }
    mr_key_write_pane(at + key.len, index);
    *ret = mr_bytes_of(at, key.len + MR_KEY_PANE_LEN);
    return MR_OK;
}

void mr_sessions_set_gauges(struct mr_sessions *s) {
    mr_counter_set(&s->stats.sessions, s->count);
    mr_counter_set(&s->stats.keys, s->keys);
    mr_counter_set(&s->stats.bytes, s->bytes);
    mr_counter_set(&s->stats.finals, s->final_count);
}

static bool releasable(const struct mr_sessions *s, uint64_t confirmed_seq) {
    const struct mr_session *session = s->finals.first;
    if (session == NULL || session->final_seq > confirmed_seq || s->scans > 0) {
        return false;
    }
    return !s->firing || session->final_seq < s->seq;
}

bool mr_sessions_release(struct mr_sessions *s, uint64_t confirmed_seq, uint32_t *budget) {
    for (; *budget > 0 && releasable(s, confirmed_seq); (*budget)--) {
        struct mr_session *session = s->finals.first;
        MR_ASSERT(session->state == MR_SESSION_FINAL);
        mr_session_list_remove(&s->finals, session, MR_SESSION_HOME);
        mr_session_free(s, session);
        s->final_count--;
    }
    mr_sessions_set_gauges(s);
    return releasable(s, confirmed_seq);
}

int64_t mr_sessions_next_due(const struct mr_sessions *s) {
    const struct mr_session *first = mr_session_clock_first(s, MR_SESSION_EARLY);
    return first == NULL ? INT64_MAX : first->due[MR_SESSION_EARLY];
}

int64_t mr_sessions_next_watermark(const struct mr_sessions *s) {
    const struct mr_session *first = mr_session_clock_first(s, MR_SESSION_EVENT);
    return first == NULL ? INT64_MAX : first->due[MR_SESSION_EVENT];
}

const struct mr_sessions_stats *mr_sessions_stats(const struct mr_sessions *s) {
    return &s->stats;
}
