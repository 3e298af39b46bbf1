/* SPDX-License-Identifier: Apache-2.0 */
/* Loading: a slice is checked, and each of its sessions enters at once. */
#include "aggregate/sessions_state.h"
#include "base/alloc.h"
#include "base/key.h"

#include <inttypes.h>

/* A record and where its parts lie. */
struct record {
    struct mr_session_record head;
    struct mr_bytes state;
    struct mr_bytes said;
    struct mr_bytes key;
};

static enum mr_status no_memory(struct mr_error *error) {
    return mr_error_set(error, MR_NO_MEMORY, "sessions of a checkpoint: %s", mr_status_text(MR_NO_MEMORY));
}

static enum mr_status corrupt(struct mr_error *error, const struct mr_sessions_slice *slice, const char *what) {
    return mr_error_set(error, MR_CORRUPT, "sessions of shard %" PRIu32 ", slice %" PRIu32 ": %s", slice->shard,
                        slice->index, what);
}

/* Nothing in it can be believed. */
static enum mr_status no_slice(struct mr_error *error, const char *what) {
    return mr_error_set(error, MR_CORRUPT, "sessions of a checkpoint: %s", what);
}

/* Takes the first slice off *rest: its header, and what follows. */
static enum mr_status take_slice(struct mr_bytes *rest, struct mr_sessions_slice *ret, struct mr_bytes *ret_body,
                                 struct mr_error *error) {
    struct mr_sessions_slice slice;
    if (rest->len < sizeof slice) {
        return no_slice(error, "cut short");
    }
    memcpy(&slice, rest->ptr, sizeof slice);
    if (slice.magic != MR_SESSIONS_MAGIC || slice.len < sizeof slice || slice.len > rest->len) {
        return no_slice(error, "not a slice, or cut short");
    }
    size_t len = (size_t)slice.len;
    struct mr_bytes checked = mr_bytes_of(rest->ptr + sizeof slice.checksum, len - sizeof slice.checksum);
    if (mr_checksum(checked) != slice.checksum) {
        return no_slice(error, "the checksum does not match");
    }
    if (slice.shard >= MR_SHARDS_MAX || slice.last > 1 || slice.discarding > 1 || slice.zero != 0 ||
        slice.index == UINT32_MAX) {
        return corrupt(error, &slice, "its head is wrong");
    }
    *ret = slice;
    *ret_body = mr_bytes_of(rest->ptr + sizeof slice, len - sizeof slice);
    *rest = mr_bytes_of(rest->ptr + len, rest->len - len);
    return MR_OK;
}

/* Takes the first record off *rest. NULL: fine; else what is wrong. */
static const char *take_record(struct mr_bytes *rest, struct record *ret) {
    struct mr_session_record head;
    if (rest->len < sizeof head) {
        return "a session is cut short";
    }
    memcpy(&head, rest->ptr, sizeof head);
    uint64_t used = sizeof head + (uint64_t)head.state_len + head.said_len + head.key_len;
    if (head.size > rest->len || head.size != ((used + 7) & ~UINT64_C(7)) || head.state_len % 8 != 0 ||
        head.said_len % 8 != 0 || head.key_len > MR_KEY_LEN_MAX) {
        return "a session's length is wrong";
    }
    const uint8_t *at = rest->ptr + sizeof head;
    *ret = (struct record){
        .head = head,
        .state = mr_bytes_of(at, head.state_len),
        .said = mr_bytes_of(at + head.state_len, head.said_len),
        .key = mr_bytes_of(at + head.state_len + head.said_len, head.key_len),
    };
    *rest = mr_bytes_of(rest->ptr + head.size, rest->len - (size_t)head.size);
    return NULL;
}

enum mr_status mr_sessions_saved_events(struct mr_bytes slice, uint64_t *ret_events, struct mr_error *error) {
    uint64_t events = 0;
    do {
        struct mr_sessions_slice head;
        struct mr_bytes body = {0};
        enum mr_status status = take_slice(&slice, &head, &body, error);
        if (status != MR_OK) {
            return status;
        }
        while (body.len > 0) {
            struct record record;
            const char *wrong = take_record(&body, &record);
            if (wrong != NULL) {
                return corrupt(error, &head, wrong);
            }
            events += record.head.events + record.head.said_events;
        }
    } while (slice.len > 0);
    *ret_events = events;
    return MR_OK;
}

enum mr_status mr_sessions_load_begin(struct mr_sessions *s, const struct mr_sessions_load *load,
                                      struct mr_error *error) {
    MR_ASSERT(!s->advanced && !s->merging && !s->loading.under_way && s->count == 0);
    MR_ASSERT(s->shard < load->shards && load->shards <= MR_SHARDS_MAX);
    (void)error; /* takes no memory */
    s->loading = (struct mr_sessions_loading){.under_way = true, .shards = load->shards, .begins_ms = INT64_MIN};
    s->seq = load->seq;
    s->advanced = true;
    s->watermark_ms = load->watermark_ms;
    return MR_OK;
}

void mr_sessions_load_from(struct mr_sessions *s, int64_t begins_ms) {
    MR_ASSERT(s->loading.under_way);
    s->loading.begins_ms = begins_ms;
}

static enum mr_status begun_before(const struct mr_sessions *s, struct mr_error *error) {
    return mr_error_set(error, MR_UNSUPPORTED,
                        "rule %.*s: a session that may have begun before what is known of it has not ended yet, with "
                        "allowed_lateness: it can be taken neither as it is nor left out",
                        (int)s->rule->name.len, (const char *)s->rule->name.ptr);
}

static bool key_fits(const struct mr_rule *rule, struct mr_bytes key) {
    if (mr_key_is_other(key)) {
        return key.len == 2 && key.ptr[1] < MR_SHARDS_MAX;
    }
    for (uint32_t c = 0; c < rule->key_count; c++) {
        struct mr_key_value value;
        if (!mr_key_next(&key, &value) || value.tag == MR_KEY_OTHER || value.tag == MR_KEY_PANE) {
            return false;
        }
    }
    return key.len == 0;
}

static const char *wrong_with_extent(const struct mr_sessions *s, const struct mr_session_record *head) {
    const struct mr_window *window = &s->rule->window;
    uint64_t len = (uint64_t)head->end_ms - (uint64_t)head->start_ms;
    if (head->start_ms >= head->end_ms || len < (uint64_t)window->gap_ms || len > (uint64_t)window->size_ms) {
        return "a session is not one of its rule's";
    }
    bool closed = (head->closed & MR_SESSION_RECORD_CLOSED) != 0;
    if (head->closed > (closed ? MR_SESSION_RECORD_CLOSED | MR_SESSION_RECORD_ON_TIME : 0)) {
        return "a session's state is wrong";
    }
    if (closed != (head->end_ms <= s->watermark_ms)) {
        return "a session was open that the watermark has closed, or the other way round";
    }
    return NULL;
}

static const char *wrong_with_counts(const struct mr_sessions *s, const struct mr_session_record *head) {
    bool rows = head->said_first < head->index;
    bool timer = head->early_due_ms != INT64_MAX;
    if (head->changed_seq > s->seq || head->fired_seq > s->seq || head->said_first > head->index ||
        (head->index == 0 && head->fired_seq > 0)) {
        return "a session's head is wrong";
    }
    if (rows && (head->fired_seq == 0 || head->said_end_ms <= head->start_ms || head->said_end_ms > head->end_ms)) {
        return "a session's last pane is wrong";
    }
    if (head->events == 0 && head->said_events == 0) {
        return "a session is empty";
    }
    if (timer && (head->closed != 0 || head->unfired == 0)) {
        return "a session has a timer that it cannot have";
    }
    if (s->discarding) {
        return head->unfired != head->events || (head->said_events > 0) != rows ? "a session's events are wrong" : NULL;
    }
    return head->unfired > head->events || head->said_events > 0 ? "a session's events are wrong" : NULL;
}

/* At its aligned copy, the metrics of a state. */
static enum mr_status copy_state(struct mr_sessions *s, struct mr_bytes state, struct mr_bytes *ret) {
    mr_buf_clear(&s->encoded);
    mr_buf_append_bytes(&s->encoded, state);
    *ret = mr_buf_bytes(&s->encoded);
    return s->encoded.failed ? MR_NO_MEMORY : MR_OK;
}

static bool state_fits(const struct mr_sessions *s, const struct record *record) {
    const struct mr_rule *rule = s->rule;
    struct mr_session_extent extent = {.end_ms = record->head.end_ms, .start_ms = record->head.start_ms};
    if (record->state.len < rule->state_len ||
        memcmp(record->state.ptr, &extent, sizeof extent) != 0 ||
        mr_metric_check(rule->metrics, rule->metric_count, record->state) != MR_OK) {
        return false;
    }
    if (!s->discarding) {
        return record->said.len == 0;
    }
    return record->said.len >= rule->state_len &&
           mr_metric_check(rule->metrics, rule->metric_count, record->said) == MR_OK;
}

static enum mr_status fill_state(struct mr_sessions *s, uint8_t *live, struct mr_bytes state) {
    const struct mr_rule *rule = s->rule;
    if (!rule->grows) {
        memcpy(live, state.ptr, rule->state_len);
        return MR_OK;
    }
    struct mr_bytes aligned;
    enum mr_status status = copy_state(s, state, &aligned);
    return status == MR_OK ? mr_metric_merge(rule->metrics, rule->metric_count, live, aligned) : status;
}

/* I2: what overlaps and would fit would have been merged. */
static bool has_room(const struct mr_sessions *s, const struct mr_key_entry *key,
                     const struct mr_session_record *head) {
    if (mr_session_tree_find(key, head->start_ms) != NULL) {
        return false;
    }
    const struct mr_session *at = mr_session_tree_overlap(key, INT64_MIN, head->start_ms, head->end_ms);
    for (; at != NULL; at = mr_session_tree_overlap(key, at->start_ms + 1, head->start_ms, head->end_ms)) {
        int64_t start = at->start_ms < head->start_ms ? at->start_ms : head->start_ms;
        int64_t end = at->end_ms > head->end_ms ? at->end_ms : head->end_ms;
        if ((uint64_t)end - (uint64_t)start <= (uint64_t)s->rule->window.size_ms) {
            return false;
        }
    }
    return true;
}

static enum mr_status enter(struct mr_sessions *s, struct mr_key_entry *key, const struct record *record) {
    const struct mr_session_record *head = &record->head;
    struct mr_session *session = mr_session_new(s, key);
    if (session == NULL) {
        return MR_NO_MEMORY;
    }
    session->start_ms = head->start_ms;
    session->end_ms = head->end_ms;
    session->said_end_ms = head->said_end_ms;
    session->events = head->events;
    session->unfired = head->unfired;
    session->said_events = head->said_events;
    session->changed_seq = head->changed_seq;
    session->fired_seq = head->fired_seq;
    session->index = head->index;
    session->said_first = head->said_first;
    session->said_on_time = (head->closed & MR_SESSION_RECORD_ON_TIME) != 0;
    session->state = head->closed ? MR_SESSION_CLOSED : MR_SESSION_OPEN;
    enum mr_status status = fill_state(s, mr_session_live(session), record->state);
    if (status == MR_OK && s->discarding) {
        status = fill_state(s, mr_session_said(s, session), record->said);
    }
    for (uint32_t clock = 0; clock < MR_SESSION_CLOCKS && status == MR_OK; clock++) {
        status = mr_slots_reserve(&s->clocks[clock]);
    }
    if (status != MR_OK) {
        mr_session_free(s, session);
        return status;
    }
    mr_session_enter(s, session);
    mr_session_set_early(s, session, s->rule->trigger.early_ms > 0 ? head->early_due_ms : INT64_MAX);
    return MR_OK;
}

static enum mr_status take_session(struct mr_sessions *s, const struct mr_sessions_slice *slice,
                                   const struct record *record, struct mr_error *error) {
    const struct mr_rule *rule = s->rule;
    const struct mr_session_record *head = &record->head;
    if (head->start_ms < s->loading.begins_ms) {
        return mr_session_final_at(rule, head->end_ms) <= s->watermark_ms ? MR_OK : begun_before(s, error);
    }
    const char *wrong = wrong_with_extent(s, head);
    wrong = wrong == NULL ? wrong_with_counts(s, head) : wrong;
    if (wrong == NULL && !key_fits(rule, record->key)) {
        wrong = "a key is not one of its rule's";
    }
    if (wrong == NULL && !state_fits(s, record)) {
        wrong = "a session's state is wrong";
    }
    if (wrong != NULL) {
        return corrupt(error, slice, wrong);
    }
    uint64_t hash = mr_hash64(record->key, rule->key_seed);
    uint32_t owner = mr_key_is_other(record->key) ? record->key.ptr[1] % s->loading.shards
                                                  : mr_rule_shard(hash, s->loading.shards);
    bool said = head->unfired == 0; /* or to be said at the end of lateness, which may have come */
    if (owner != s->shard || (said && mr_session_is_final(rule, head->end_ms, s->watermark_ms))) {
        return MR_OK;
    }
    struct mr_key_entry *key = mr_key_index_find(&s->by_key, hash, record->key);
    if (key != NULL && !has_room(s, key, head)) {
        return corrupt(error, slice, "two sessions of one key that would have been one");
    }
    if (key == NULL) {
        key = mr_key_index_add(&s->by_key, hash, record->key);
        if (key == NULL) {
            return no_memory(error);
        }
    }
    key->refs++; /* ours, until the session is there */
    enum mr_status status = enter(s, key, record);
    mr_key_index_release(&s->by_key, key);
    return status == MR_OK ? MR_OK : no_memory(error);
}

static enum mr_status note_slice(struct mr_sessions *s, const struct mr_sessions_slice *slice,
                                 struct mr_error *error) {
    if (slice->seq != s->seq) {
        return corrupt(error, slice, "of another checkpoint");
    }
    if ((slice->discarding != 0) != s->discarding) {
        return mr_error_set(error, MR_MISMATCH,
                            "sessions of rule %.*s: saved with panes %s, and now it has them %s: it must begin anew",
                            (int)s->rule->name.len, (const char *)s->rule->name.ptr,
                            slice->discarding ? "discarding" : "accumulating",
                            s->discarding ? "discarding" : "accumulating");
    }
    s->loading.saved[slice->shard].seen++;
    if (slice->last) {
        s->loading.saved[slice->shard].all = slice->index + 1;
    }
    return MR_OK;
}

enum mr_status mr_sessions_load_slice(struct mr_sessions *s, struct mr_bytes bytes, struct mr_error *error) {
    MR_ASSERT(s->loading.under_way);
    do {
        struct mr_sessions_slice slice;
        struct mr_bytes body = {0};
        enum mr_status status = take_slice(&bytes, &slice, &body, error);
        if (status == MR_OK) {
            status = note_slice(s, &slice, error);
        }
        while (status == MR_OK && body.len > 0) {
            struct record record;
            const char *wrong = take_record(&body, &record);
            status = wrong != NULL ? corrupt(error, &slice, wrong) : take_session(s, &slice, &record, error);
        }
        if (status != MR_OK) {
            return status;
        }
    } while (bytes.len > 0);
    return MR_OK;
}

enum mr_status mr_sessions_load_end(struct mr_sessions *s, struct mr_error *error) {
    MR_ASSERT(s->loading.under_way);
    for (uint32_t shard = 0; shard < MR_SHARDS_MAX; shard++) {
        if (s->loading.saved[shard].seen != s->loading.saved[shard].all) {
            return mr_error_set(error, MR_CORRUPT,
                                "sessions of shard %" PRIu32 ": %" PRIu32
                                " slices are there, not all and each once",
                                shard, s->loading.saved[shard].seen);
        }
    }
    s->loading.under_way = false;
    mr_sessions_set_gauges(s);
    return MR_OK;
}
