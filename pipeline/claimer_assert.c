/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claimer: this node's claims are asserted again, from its own log, when the store has lost some or may have. The VERDICTS
 * records say which events of which records counted; those are claimed once more with their record's token.
 *
 * After an outage during which this node decided by itself (outage: local), what it decided is claimed likewise, while new
 * events are claimed beside it. Of such a record all ids are: what was no duplicate is counted here, and a duplicate is one
 * of what was.
 */
#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/report.h"
#include "pipeline/stations.h"

enum { UNDER_WAY_MAX = 64 };

static int64_t since_ms(struct mr_claimer *c, uint32_t store, enum mr_watch_state state) {
    struct mr_claimer_store *s = &c->stores[store];
    int64_t from_ms = s->local_since_ms;
    if (state == MR_WATCH_SUSPECT) {
        int64_t suspect_ms = mr_watch_since_ms(mr_claims_watch(s->claims));
        return suspect_ms < from_ms ? suspect_ms : from_ms;
    }
    int64_t horizon_ms = mr_clock_wall_ms(c->pipeline->clock) - (int64_t)s->horizon_ms;
    return state == MR_WATCH_STRICT || from_ms < horizon_ms ? from_ms : horizon_ms;
}

/* What the log does not have any more is not asserted: another node may count it again. */
static enum mr_status say_what_is_missing(struct mr_log_reader *reader, int64_t from_ms, struct mr_error *error) {
    struct mr_record first;
    enum mr_status status = mr_log_reader_seek(reader, 1, error);
    status = status == MR_OK ? mr_log_reader_next(reader, &first, error) : status;
    if (status == MR_OK && first.lsn > 1 && first.recorded_ms > from_ms) {
        mr_report(MR_LEVEL_ERROR, "claims_not_asserted",
                  "from_ms=%lld to_ms=%lld reason=\"the log begins later: ids of before may be counted again\" "
                  "action=\"raise log.retain_bytes\"",
                  (long long)from_ms, (long long)first.recorded_ms);
    }
    return status == MR_END ? MR_OK : status;
}

static const char *why(enum mr_watch_state state) {
    return state == MR_WATCH_SUSPECT ? "suspect" : state == MR_WATCH_LOST ? "lost" : "decided_locally";
}

/* The first record that was recorded at from_ms or later, or one some way before it. */
static enum mr_status seek_time(struct mr_log_reader *reader, uint64_t first_lsn, uint64_t last_lsn,
                                int64_t from_ms, struct mr_error *error) {
    uint64_t low = first_lsn;
    uint64_t high = last_lsn + 1;
    enum mr_status status = MR_OK;
    while (status == MR_OK && low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct mr_record record;
        status = mr_log_reader_seek(reader, middle, error);
        if (status == MR_OK) {
            status = mr_log_reader_next(reader, &record, error);
        }
        if (status == MR_END) {
            status = MR_OK;
            high = middle;
        } else if (status == MR_OK && record.recorded_ms < from_ms) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return status == MR_OK ? mr_log_reader_seek(reader, low, error) : status;
}

static enum mr_status begin(struct mr_claimer *c, uint32_t store, enum mr_watch_state state,
                            struct mr_error *error) {
    struct mr_pipeline *p = c->pipeline;
    struct mr_assertion *a = &c->stores[store].assertion;
    uint64_t last_lsn = mr_counter_read(&mr_log_stats(p->log)->last_lsn);
    int64_t from_ms = since_ms(c, store, state);
    mr_report(MR_LEVEL_WARN, "claims_asserted_again", "since_ms=%lld state=%s", (long long)from_ms,
              why(state));
    mr_buf_init(&a->payload, MR_RECORD_PAYLOAD_MAX);
    a->entries = (struct mr_verdicts_reader){.left = 0};
    a->on = true;
    a->local = state == MR_WATCH_STRICT;
    a->covers_ms = c->stores[store].local_since_ms;
    c->stores[store].local_since_ms = INT64_MAX;
    a->need = mr_watch_need(mr_claims_watch(c->stores[store].claims));
    enum mr_status status = mr_fetch_open(p->disk, p->log_dir, p->plan, &a->fetch);
    if (status == MR_OK) {
        status = mr_log_reader_open(p->disk, p->log_dir, 0, &a->reader, error);
    }
    if (status == MR_OK) {
        mr_log_reader_limit(a->reader, last_lsn);
        status = say_what_is_missing(a->reader, from_ms, error);
    }
    if (status == MR_OK) {
        status = seek_time(a->reader, 1, last_lsn, from_ms, error);
    }
    return status;
}

void mr_assertion_end(struct mr_assertion *a) {
    if (!a->on) {
        return;
    }
    mr_log_reader_close(a->reader);
    mr_fetch_close(a->fetch);
    mr_buf_finish(&a->payload);
    if (a->stuck != NULL) {
        mr_batch_close(a->stuck->batch);
        mr_claim_work_close(a->stuck);
    }
    *a = (struct mr_assertion){.under_way = a->under_way, .first = a->first}; /* those still come back */
}

static void keep(struct mr_assertion *a, struct mr_claim_work *work) {
    work->previous = NULL;
    work->next = a->first;
    if (a->first != NULL) {
        a->first->previous = work;
    }
    a->first = work;
    a->under_way++;
}

void mr_assertion_back(struct mr_assertion *a, struct mr_claim_work *work) {
    if (work->previous != NULL) {
        work->previous->next = work->next;
    } else {
        a->first = work->next;
    }
    if (work->next != NULL) {
        work->next->previous = work->previous;
    }
    a->under_way--;
    mr_batch_close(work->batch);
    mr_claim_work_close(work);
}

void mr_assertion_forget(struct mr_assertion *a) {
    mr_assertion_end(a);
    while (a->first != NULL) {
        mr_assertion_back(a, a->first);
    }
}

/* The next VERDICTS record's entries. */
static enum mr_status read_more(struct mr_assertion *a, struct mr_error *error) {
    struct mr_record record;
    enum mr_status status = mr_log_reader_next(a->reader, &record, error);
    if (status == MR_NOT_FOUND) { /* retention was faster: on with the first that is left */
        return mr_log_reader_seek(a->reader, 1, error);
    }
    if (status != MR_OK || record.type != MR_RECORD_VERDICTS) {
        return status;
    }
    mr_buf_clear(&a->payload);
    mr_buf_append_bytes(&a->payload, record.payload);
    return a->payload.failed ? MR_NO_MEMORY
                             : mr_verdicts_begin(mr_buf_bytes(&a->payload), record.lsn, &a->entries, error);
}

/* MR_AGAIN: nothing to put yet; MR_END: all was put. */
static enum mr_status next_work(struct mr_claimer *c, uint32_t store, struct mr_error *error) {
    struct mr_assertion *a = &c->stores[store].assertion;
    struct mr_verdicts entry;
    if (!mr_verdicts_next(&a->entries, &entry)) {
        enum mr_status status = read_more(a, error);
        return status == MR_OK ? MR_AGAIN : status;
    }
    if (a->local && !entry.local) {
        return MR_AGAIN;
    }
    struct mr_batch *batch = NULL;
    enum mr_status status = mr_fetch_batch(a->fetch, entry.lsn, &batch, error);
    if (status == MR_NOT_FOUND || status == MR_MISMATCH) {
        return MR_AGAIN; /* older than the log, or of a stream that is gone */
    }
    if (status != MR_OK) {
        return status;
    }
    const struct mr_plan_stream *stream = &c->pipeline->plan->streams[batch->stream];
    if (!stream->claimed || stream->store != store || batch->count != entry.events) {
        mr_batch_close(batch);
        return MR_AGAIN;
    }
    a->stuck = mr_claim_work_open(batch, entry.taken);
    if (a->stuck == NULL) {
        mr_batch_close(batch);
        return MR_NO_MEMORY;
    }
    a->stuck->claim.stream = c->streams[batch->stream].claimed_as;
    a->stuck->claim.once = stream->local;
    return MR_OK;
}

static enum mr_status put_more(struct mr_claimer *c, uint32_t store, struct mr_error *error) {
    struct mr_claimer_store *s = &c->stores[store];
    struct mr_assertion *a = &s->assertion;
    if (a->under_way >= UNDER_WAY_MAX) {
        return MR_BUSY;
    }
    enum mr_status status = a->stuck != NULL ? MR_OK : next_work(c, store, error);
    if (status != MR_OK) {
        return status;
    }
    if (!mr_claims_put(s->claims, &a->stuck->claim)) {
        return MR_BUSY;
    }
    keep(a, a->stuck);
    a->stuck = NULL;
    return MR_OK;
}

/* What was decided before must be asserted too: so it is in the log first. */
static bool has_waited(struct mr_claimer *c, struct mr_assertion *a, uint64_t need) {
    if (!a->waits || a->wait_need != need) {
        a->waits = true;
        a->wait_need = need;
        a->wait_for = c->decided;
    }
    /* acquire: pairs with the release in mr_sequencer_decided_done */
    uint64_t logged = atomic_load_explicit(&c->pipeline->sequencer.decided_logged, memory_order_acquire);
    return a->under_way == 0 && (logged >= a->wait_for || MR_BUG(ASSERTS_EARLY));
}

/* It ends before its end: what this node decided alone is still to be claimed. */
static void give_up(struct mr_claimer_store *s) {
    int64_t covers_ms = s->assertion.covers_ms;
    s->local_since_ms = covers_ms < s->local_since_ms ? covers_ms : s->local_since_ms;
    mr_assertion_end(&s->assertion);
}

bool mr_claimer_assert(struct mr_claimer *c, uint32_t store) {
    struct mr_claimer_store *s = &c->stores[store];
    struct mr_watch *watch = mr_claims_watch(s->claims);
    enum mr_watch_state state = mr_watch_state(watch);
    bool lost = state == MR_WATCH_LOST || state == MR_WATCH_SUSPECT;
    bool local = state == MR_WATCH_STRICT && !s->outage && !MR_BUG(LOCAL_NOT_CLAIMED) && (s->assertion.on || s->local_since_ms != INT64_MAX);
    struct mr_error error = {.text = "out of memory asserting claims"};
    enum mr_status status = MR_OK;
    if (!(lost || local) || (s->assertion.on && s->assertion.reader == NULL)) {
        s->assertion.waits = false;
        return false; /* what is under way comes back, and is thrown away */
    }
    if (lost && MR_BUG(ASSERTS_NOTHING)) {
        mr_watch_asserted(watch);
        return true;
    }
    bool lost_again = s->assertion.on && s->assertion.need != mr_watch_need(watch);
    if (lost_again && !MR_BUG(ASSERTS_ONCE)) {
        give_up(s); /* what was asserted so far may have been lost again */
        return true;
    }
    if (!s->assertion.on) {
        if (lost) {
            mr_claimer_shed(c, store); /* nothing more is decided */
        }
        if (!has_waited(c, &s->assertion, mr_watch_need(watch))) {
            return false;
        }
        status = begin(c, store, state, &error);
    }
    if (status == MR_OK) {
        status = put_more(c, store, &error);
    }
    if (status == MR_END && s->assertion.under_way == 0) {
        bool for_watch = !s->assertion.local;
        mr_assertion_end(&s->assertion);
        if (for_watch) {
            mr_watch_asserted(watch);
        }
        return true;
    }
    bool fine = status == MR_OK || status == MR_AGAIN || status == MR_BUSY || status == MR_END;
    if (!fine) {
        mr_pipeline_fail(c->pipeline, status, error.text);
    }
    return status == MR_OK || status == MR_AGAIN;
}
