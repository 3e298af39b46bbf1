/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replay: the log's records become the same bundles again and go through the very same stations.
 *
 * Events whose ids a shared store decides take effect in the bundle that holds their verdicts, which comes later. Their
 * batches wait here meanwhile, up to a bound; what does not find room is read from the log again when its turn comes.
 */
#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/report.h"
#include "pipeline/stations.h"
#include "pipeline/verdicts.h"

enum { WAITING_BYTES_MAX = 64 << 20 };

/* ---- events that wait for their verdicts ---- */

static void keep_waiting(struct mr_sequencer *s, struct mr_batch *batch) {
    batch->next = NULL;
    if (s->waiting_first == NULL) {
        s->waiting_first = batch;
    } else {
        s->waiting_last->next = batch;
    }
    s->waiting_last = batch;
    s->waiting_bytes += mr_batch_bytes(batch);
}

/* NULL: it is not here. */
static struct mr_batch *take_waiting(struct mr_sequencer *s, uint64_t lsn) {
    struct mr_batch *before = NULL;
    struct mr_batch *batch = s->waiting_first;
    while (batch != NULL && batch->lsn < lsn) {
        before = batch;
        batch = batch->next;
    }
    if (batch == NULL || batch->lsn != lsn) {
        return NULL;
    }
    if (before == NULL) {
        s->waiting_first = batch->next;
    } else {
        before->next = batch->next;
    }
    s->waiting_last = s->waiting_last == batch ? before : s->waiting_last;
    s->waiting_bytes -= mr_batch_bytes(batch);
    return batch;
}

void mr_replay_forget(struct mr_sequencer *s) {
    while (s->waiting_first != NULL) {
        struct mr_batch *batch = s->waiting_first;
        s->waiting_first = batch->next;
        mr_batch_close(batch);
    }
    s->waiting_last = NULL;
    s->waiting_bytes = 0;
    mr_fetch_close(s->fetch);
    s->fetch = NULL;
}

static enum mr_status decode(struct mr_sequencer *s, const struct mr_record *record, struct mr_batch **ret,
                             struct mr_error *error) {
    struct mr_buf payload;
    mr_log_reader_take_payload(s->replay, record, &payload);
    enum mr_status status = mr_events_decode(s->decoder, record, &payload, ret, error);
    mr_buf_finish(&payload);
    return status;
}

static enum mr_status add_claimed(struct mr_sequencer *s, const struct mr_record *record,
                                  const struct mr_events *events, struct mr_error *error) {
    mr_undecided_add(&s->undecided[events->stream], record->lsn, events->count);
    mr_counter_add(&s->received[events->stream], events->count);
    mr_counter_add(&s->batches, 1);
    if (s->waiting_bytes > WAITING_BYTES_MAX) {
        return MR_OK;
    }
    struct mr_batch *batch = NULL;
    enum mr_status status = decode(s, record, &batch, error);
    if (status == MR_OK) {
        keep_waiting(s, batch);
    }
    return status;
}

static enum mr_status find_decided(struct mr_sequencer *s, uint64_t lsn, struct mr_batch **ret,
                                   struct mr_error *error) {
    *ret = take_waiting(s, lsn);
    if (*ret != NULL) {
        return MR_OK;
    }
    struct mr_pipeline *p = s->pipeline;
    enum mr_status status = MR_OK;
    if (s->fetch == NULL) {
        status = mr_fetch_open(p->disk, p->log_dir, p->plan, &s->fetch);
    }
    if (status != MR_OK) {
        return mr_error_set(error, status, "out of memory in replay");
    }
    return mr_fetch_batch(s->fetch, lsn, ret, error);
}

/* The log may say otherwise, but it is read under the plan's configuration. */
static bool as_shadow(const struct mr_sequencer *s, uint64_t seq) {
    return s->shadow || seq < s->promoted_seq;
}

static enum mr_status add_decided(struct mr_sequencer *s, const struct mr_verdicts *entry,
                                  uint64_t lsn, uint32_t *count, struct mr_error *error) {
    struct mr_batch *batch = NULL;
    enum mr_status status = find_decided(s, entry->lsn, &batch, error);
    bool gone = status == MR_MISMATCH && as_shadow(s, s->replay_record.seq);
    if (status != MR_OK && (s->shadow || gone)) {
        return mr_shadow_verdicts(s, status, entry->events, error);
    }
    if (status == MR_NOT_FOUND) {
        mr_report(MR_LEVEL_WARN, "log_gap", "lsn=%llu action=\"events lost to damage are not counted\"",
                  (unsigned long long)entry->lsn);
        return MR_OK;
    }
    if (status != MR_OK) {
        return status;
    }
    if (s->shadow && !s->pipeline->plan->streams[batch->stream].claimed) {
        mr_batch_close(batch);
        return mr_shadow_verdicts(s, MR_OK, entry->events, error);
    }
    const struct mr_undecided *undecided = &s->undecided[batch->stream];
    bool expected = s->pipeline->plan->streams[batch->stream].claimed && batch->count == entry->events &&
                    undecided->first_lsn != 0 && entry->lsn >= undecided->first_lsn &&
                    entry->lsn <= undecided->last_lsn && *count < MR_BUNDLE_BATCHES_MAX;
    batch->taken = expected ? mr_alloc(mr_verdicts_bits_len(batch->count)) : NULL;
    if (batch->taken == NULL) {
        mr_batch_close(batch);
        return expected ? mr_error_set(error, MR_NO_MEMORY, "out of memory in replay")
                        : mr_error_set(error, MR_CORRUPT, "log record %llu: verdicts of record %llu, which has none to wait for",
                                       (unsigned long long)lsn, (unsigned long long)entry->lsn);
    }
    memcpy(batch->taken, entry->taken, mr_verdicts_bits_len(batch->count));
    batch->local = entry->local;
    mr_undecided_remove(&s->undecided[batch->stream], entry->lsn, entry->events);
    mr_counter_add(&s->replayed_events, batch->count);
    s->group[*count] = batch;
    *count += 1;
    return MR_OK;
}

static enum mr_status add_verdicts(struct mr_sequencer *s, const struct mr_record *record,
                                   uint32_t *count, struct mr_error *error) {
    struct mr_verdicts_reader reader;
    struct mr_verdicts entry;
    enum mr_status status = mr_verdicts_begin(record->payload, record->lsn, &reader, error);
    while (status == MR_OK && mr_verdicts_next(&reader, &entry)) {
        status = add_decided(s, &entry, record->lsn, count, error);
    }
    return status;
}

/* ---- bundles ---- */

static enum mr_status add_events(struct mr_sequencer *s, const struct mr_record *record,
                                 uint32_t *count, struct mr_error *error) {
    struct mr_events events = {.count = 0};
    enum mr_status status = mr_events_parse(s->pipeline->plan, record, &events, error);
    if (as_shadow(s, record->seq) && status != MR_OK) {
        return mr_shadow_events(s, status, events.count);
    }
    if (status == MR_OK && s->pipeline->plan->streams[events.stream].claimed) {
        return add_claimed(s, record, &events, error);
    }
    if (status != MR_OK || (MR_BUG(RECORD_SKIPPED) && *count == 1)) {
        return status;
    }
    if (*count == MR_BUNDLE_BATCHES_MAX) {
        return mr_error_set(error, MR_CORRUPT, "bundle %llu has more than %u records",
                            (unsigned long long)record->seq, MR_BUNDLE_BATCHES_MAX);
    }
    status = decode(s, record, &s->group[*count], error);
    if (status == MR_OK) {
        mr_counter_add(&s->replayed_events, s->group[*count]->count);
        *count += 1;
    }
    return status;
}

/* The very batch that the sequencer was given, and its note that this event was redriven. */
static enum mr_status add_redrive(struct mr_sequencer *s, const struct mr_record *record, uint32_t *count,
                                  struct mr_error *error) {
    struct mr_batch *batch = NULL;
    if (*count == MR_BUNDLE_BATCHES_MAX) {
        return mr_error_set(error, MR_CORRUPT, "bundle %llu has more than %u records",
                            (unsigned long long)record->seq, MR_BUNDLE_BATCHES_MAX);
    }
    enum mr_status status = mr_redrive_decode(s->decoder, record, &batch, error);
    if (status != MR_OK) {
        return status;
    }
    bool again = mr_redrives_has(&s->redrives, batch->redriven.lsn, batch->redriven.index);
    if (again || s->pipeline->plan->streams[batch->stream].claimed) {
        mr_batch_close(batch);
        return mr_error_set(error, MR_CORRUPT, "log record %llu: a redrive that cannot have been written",
                            (unsigned long long)record->lsn);
    }
    uint64_t first_lsn = s->pipeline->log == NULL ? 0 : mr_log_first_lsn(s->pipeline->log);
    status = mr_redrives_add(&s->redrives, batch->redriven.lsn, batch->redriven.index, first_lsn);
    if (status != MR_OK) { /* not for their number: live there were as many */
        mr_batch_close(batch);
        return mr_error_set(error, MR_NO_MEMORY, "out of memory in replay");
    }
    mr_counter_add(&s->replayed_events, batch->count);
    s->group[*count] = batch;
    *count += 1;
    return MR_OK;
}

/* Adds one record to the group of the bundle being rebuilt. TICK, START, CONFIG: the bundle itself says all they have to
 * say. */
static enum mr_status add_record(struct mr_sequencer *s, const struct mr_record *record,
                                 uint32_t *count, struct mr_error *error) {
    switch (record->type) {
    case MR_RECORD_EVENTS:
        return add_events(s, record, count, error);
    case MR_RECORD_REDRIVE:
        return add_redrive(s, record, count, error);
    case MR_RECORD_VERDICTS:
        return add_verdicts(s, record, count, error);
    case MR_RECORD_WATERMARK:
        return mr_sequencer_read_advance(s, record, error);
    case MR_RECORD_GAP:
        mr_counter_add(&s->shadow_lost, s->shadow ? record->lsn_count : 0);
        mr_report(MR_LEVEL_WARN, "log_gap", "lsn=%llu action=\"records lost to damage are not counted\"",
                  (unsigned long long)record->lsn);
        return MR_OK;
    default:
        return MR_OK;
    }
}

static enum mr_status next_record(struct mr_sequencer *s, struct mr_error *error) {
    enum mr_status status = s->shadow ? mr_shadow_record(s, error)
                                      : mr_log_reader_next(s->replay, &s->replay_record, error);
    s->replay_has_record = status == MR_OK;
    return status;
}

static bool is_plans_config(const struct mr_sequencer *s) {
    return mr_bytes_equal(s->replay_record.payload, mr_buf_bytes(&s->pipeline->plan->state_text));
}

/* From here on the log was made under other streams or rules: whoever opened the pipeline goes on with those
 * (pipeline/data.c). */
static enum mr_status end_by_config(struct mr_sequencer *s, struct mr_error *error) {
    mr_buf_append_bytes(&s->replay_config, s->replay_record.payload);
    s->replay_config_seq = s->replay_record.seq;
    return s->replay_config.failed ? mr_error_set(error, MR_NO_MEMORY, "out of memory in replay")
                                   : MR_END;
}

enum mr_status mr_replay_next(struct mr_sequencer *s, struct mr_error *error) {
    enum mr_status status = s->replay_has_record ? MR_OK : next_record(s, error);
    if (status != MR_OK) {
        return status;
    }
    if (s->replay_record.type == MR_RECORD_CONFIG && !is_plans_config(s)) {
        status = as_shadow(s, s->replay_record.seq) ? mr_shadow_config(s, error) : end_by_config(s, error);
        if (status != MR_OK) {
            return status;
        }
    }
    uint64_t seq = s->replay_record.seq;
    uint64_t lsn = 0;
    enum mr_record_type type = s->replay_record.type;
    int64_t recorded_ms = s->replay_record.recorded_ms;
    MR_ASSERT(seq > s->seq);
    uint32_t count = 0;
    while (status == MR_OK && s->replay_record.seq == seq) {
        lsn = s->replay_record.lsn + s->replay_record.lsn_count - 1; /* a GAP stands for several */
        status = add_record(s, &s->replay_record, &count, error);
        if (status == MR_OK) {
            status = next_record(s, error);
        }
    }
    if (status != MR_OK && status != MR_END) {
        for (uint32_t k = 0; k < count; k++) {
            mr_batch_close(s->group[k]);
        }
        return status;
    }
    if (MR_BUG(LAST_BUNDLE_LOST) && s->replay_has_record &&
        s->replay_record.type == MR_RECORD_START) {
        while (count > 0) {
            mr_batch_close(s->group[--count]);
        }
    }
    s->seq = seq;
    s->lsn = lsn;
    if (type == MR_RECORD_START || type == MR_RECORD_CONFIG || type == MR_RECORD_GAP) {
        return MR_OK; /* not dispatched when they were written either */
    }
    s->recorded_ms = recorded_ms > s->recorded_ms ? recorded_ms : s->recorded_ms;
    mr_counter_add(&s->replayed_bundles, 1);
    for (uint32_t k = 0; k < count; k++) {
        mr_sequencer_admit(s, s->group[k]);
    }
    if (mr_sequencer_dispatch(s, s->group, count) != MR_OK) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory in replay");
    }
    return MR_OK;
}
