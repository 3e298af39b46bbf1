/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving: a walk over the list of sessions, in slices, and what merge and fire write down before they change it.
 *
 * A session's mark says whether it has been written in this save, or is newer than its begin.
 */
#include "aggregate/sessions_state.h"

enum { WAITING_SLICE = 1024 * 1024 }; /* of what waits, in one slice; a record more */

static uint64_t record_size(uint64_t state_len, uint64_t said_len, uint64_t key_len) {
    return (sizeof(struct mr_session_record) + state_len + said_len + key_len + 7) & ~UINT64_C(7);
}

/* Reserves all of the record before it writes any of it: without memory there is none. */
void mr_session_put(struct mr_sessions *s, struct mr_session *session, struct mr_buf *buf) {
    const struct mr_rule *rule = s->rule;
    uint8_t *said = s->discarding ? mr_session_said(s, session) : NULL;
    struct mr_session_record head = {
        .start_ms = session->start_ms,
        .end_ms = session->end_ms,
        .said_end_ms = session->said_end_ms,
        .early_due_ms = session->due[MR_SESSION_EARLY],
        .events = session->events,
        .unfired = session->unfired,
        .said_events = session->said_events,
        .changed_seq = session->changed_seq,
        .fired_seq = session->fired_seq,
        .index = session->index,
        .said_first = session->said_first,
        .closed = session->state != MR_SESSION_CLOSED ? 0
                  : session->said_on_time             ? MR_SESSION_RECORD_CLOSED | MR_SESSION_RECORD_ON_TIME
                                                      : MR_SESSION_RECORD_CLOSED,
        .key_len = session->key->len,
        .state_len = mr_metric_encoded_len(rule->metrics, rule->metric_count, mr_session_live(session)),
        .said_len = said == NULL ? 0 : mr_metric_encoded_len(rule->metrics, rule->metric_count, said),
    };
    head.size = record_size(head.state_len, head.said_len, head.key_len);
    uint8_t *at = mr_buf_reserve(buf, (size_t)head.size);
    if (at == NULL) {
        return;
    }
    memset(at + head.size - 8, 0, 8);
    memcpy(at, &head, sizeof head);
    at += sizeof head;
    mr_metric_encode(rule->metrics, rule->metric_count, mr_session_live(session), at);
    at += head.state_len;
    if (said != NULL) {
        mr_metric_encode(rule->metrics, rule->metric_count, said, at);
        at += head.said_len;
    }
    if (head.key_len > 0) {
        memcpy(at, session->key->bytes, head.key_len);
    }
    buf->len += (size_t)head.size;
}

void mr_session_touch(struct mr_sessions *s, struct mr_session *session) {
    struct mr_sessions_saving *save = &s->save;
    if (save->under_way && session->save_mark != save->number) {
        session->save_mark = save->number;
        mr_session_put(s, session, &save->waiting);
    }
}

void mr_sessions_save_begin(struct mr_sessions *s, uint64_t seq) {
    MR_ASSERT(!s->merging && !s->firing && s->retracting.first == NULL);
    MR_ASSERT(!s->save.under_way && !s->loading.under_way);
    MR_ASSERT(!s->advanced || seq >= s->seq);
    struct mr_buf waiting = s->save.waiting;
    MR_ASSERT(waiting.cap == 0 && !waiting.failed);
    s->save = (struct mr_sessions_saving){.under_way = true,
                                          .seq = seq,
                                          .number = s->save.number + 1,
                                          .at = s->live.first,
                                          .waiting = waiting};
}

/* Moves whole records from what waits to ret; true: nothing waits any more. */
static bool take_waiting(struct mr_sessions_saving *save, struct mr_buf *ret) {
    struct mr_buf *waiting = &save->waiting;
    size_t end = save->waiting_at;
    while (end < waiting->len && end - save->waiting_at < WAITING_SLICE) {
        struct mr_session_record head;
        memcpy(&head, waiting->ptr + end, sizeof head);
        end += (size_t)head.size;
    }
    MR_ASSERT(end <= waiting->len);
    if (end > save->waiting_at) {
        mr_buf_append(ret, waiting->ptr + save->waiting_at, end - save->waiting_at);
    }
    save->waiting_at = end;
    size_t left = waiting->len - end;
    if (left <= end) { /* else the buffer would grow as long as merge is as fast as we are */
        if (left > 0) {
            memcpy(waiting->ptr, waiting->ptr + end, left);
        }
        waiting->len = left;
        save->waiting_at = 0;
    }
    return left == 0;
}

/* true: the walk is through. New sessions come in front of where it began. */
static bool walk(struct mr_sessions *s, uint32_t budget, struct mr_buf *ret) {
    struct mr_sessions_saving *save = &s->save;
    for (; save->at != NULL && budget > 0; budget--) {
        struct mr_session *session = save->at;
        save->at = session->links[MR_SESSION_HOME].next;
        if (session->save_mark != save->number) {
            session->save_mark = save->number;
            mr_session_put(s, session, ret);
        }
    }
    return save->at == NULL;
}

static void end_slice(const struct mr_sessions *s, size_t begin, bool last, struct mr_buf *buf) {
    struct mr_sessions_slice slice = {
        .magic = MR_SESSIONS_MAGIC,
        .index = s->save.slices,
        .len = buf->len - begin,
        .seq = s->save.seq,
        .shard = s->shard,
        .last = last,
        .discarding = s->discarding,
    };
    uint8_t *at = buf->ptr + begin;
    memcpy(at, &slice, sizeof slice);
    slice.checksum =
        mr_checksum(mr_bytes_of(at + sizeof slice.checksum, (size_t)slice.len - sizeof slice.checksum));
    memcpy(at, &slice.checksum, sizeof slice.checksum);
}

enum mr_status mr_sessions_save(struct mr_sessions *s, uint32_t budget, struct mr_buf *ret, bool *ret_done) {
    struct mr_sessions_saving *save = &s->save;
    MR_ASSERT(save->under_way && budget > 0);
    size_t begin = ret->len;
    if (mr_buf_reserve(ret, sizeof(struct mr_sessions_slice)) != NULL) {
        ret->len += sizeof(struct mr_sessions_slice);
    }
    bool done = !save->waiting.failed && take_waiting(save, ret) && walk(s, budget, ret);
    if (ret->failed || save->waiting.failed) {
        save->waiting.failed = true; /* a record is missing: no further slice may succeed */
        return MR_NO_MEMORY;
    }
    end_slice(s, begin, done, ret);
    save->slices++;
    if (done) {
        mr_sessions_save_stop(s);
    }
    *ret_done = done;
    return MR_OK;
}

bool mr_sessions_saving(const struct mr_sessions *s) {
    return s->save.under_way;
}

size_t mr_sessions_save_waiting(const struct mr_sessions *s) {
    return s->save.waiting.len - s->save.waiting_at;
}

void mr_sessions_save_stop(struct mr_sessions *s) {
    s->save.under_way = false;
    s->save.at = NULL;
    s->save.waiting_at = 0;
    mr_buf_finish(&s->save.waiting);
}
