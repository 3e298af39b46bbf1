/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequencer: gives everything its place: takes waiting batches, decides whether they can be taken at all,
 * appends them as one bundle, syncs, moves the watermarks, and hands the bundle to every shard.
 *
 *     submit ring ──▶ group ──▶ append + sync ──▶ watermarks ──▶ in[0..S-1]
 *          │ refused: disk, ids, draining (before the append: nothing of it is in the log)
 */
#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/report.h"
#include "pipeline/stations.h"

enum { TICK_NS = 1000000000 }; /* at most one tick a second */

static_assert(MR_EVENTS_HEADER == sizeof(((struct mr_sequencer *)0)->headers[0]), "one header a batch");

/* Events of the stream that are not decided yet count as if their ids were all in one shard. */
static bool refused_by_ids(struct mr_sequencer *s, const struct mr_batch *batch) {
    const struct mr_plan *plan = s->pipeline->plan;
    uint64_t undecided = 0;
    if (plan->streams[batch->stream].claimed) {
        undecided = mr_counter_read(&s->undecided[batch->stream].events) + s->gathered_claimed;
    }
    for (uint32_t i = 0; i < plan->shards; i++) {
        struct mr_shard_stream *stream = &s->pipeline->shards[i].streams[batch->stream];
        /* acquire: pairs with the release store in publish (shard.c), so room is at least as new. */
        uint64_t judged = atomic_load_explicit(&stream->judged, memory_order_acquire);
        uint64_t room = atomic_load_explicit(&stream->room, memory_order_relaxed);
        uint64_t in_flight = s->admitted[batch->stream * plan->shards + i] - judged;
        uint64_t wanted = batch->shard_start[i + 1] - batch->shard_start[i];
        if (room != UINT64_MAX && in_flight + undecided + wanted > room) {
            return true;
        }
    }
    return false;
}

void mr_sequencer_admit(struct mr_sequencer *s, const struct mr_batch *batch) {
    uint32_t shards = s->pipeline->plan->shards;
    for (uint32_t i = 0; i < shards; i++) {
        uint64_t ids = batch->shard_start[i + 1] - batch->shard_start[i];
        s->admitted[batch->stream * shards + i] += ids;
    }
}

/* The append failed: the batch's ids will not come. */
static void take_back(struct mr_sequencer *s, const struct mr_batch *batch) {
    uint32_t shards = s->pipeline->plan->shards;
    for (uint32_t i = 0; i < shards; i++) {
        s->admitted[batch->stream * shards + i] -= batch->shard_start[i + 1] - batch->shard_start[i];
    }
}

static enum mr_refusal refusal_of(struct mr_sequencer *s, const struct mr_batch *batch,
                                  uint64_t group_bytes) {
    struct mr_pipeline *p = s->pipeline;
    if (atomic_load_explicit(&p->stopping, memory_order_relaxed)) {
        return MR_REFUSAL_DRAINING;
    }
    if (p->log != NULL && mr_log_failed(p->log)) {
        return MR_REFUSAL_LOG_FAILED;
    }
    if (p->log != NULL && !mr_log_has_room(p->log, group_bytes)) {
        return MR_REFUSAL_DISK_FULL;
    }
    if (mr_claimer_refuses(&p->claimer, batch->stream)) {
        return MR_REFUSAL_STORE_AWAY;
    }
    if (refused_by_ids(s, batch)) {
        s->tick_wanted = true; /* without events only a tick lets old ids expire */
        return MR_REFUSAL_IDS_FULL;
    }
    return MR_REFUSAL_NONE;
}

/* An event is redriven once: what the log will have of it is noted before the append, and taken back if that fails. */
static enum mr_refusal note_redrive(struct mr_sequencer *s, const struct mr_batch *batch) {
    if (batch->redriven.lsn == 0) {
        return MR_REFUSAL_NONE;
    }
    MR_ASSERT(batch->count == 1 && s->pipeline->log != NULL);
    if (mr_redrives_has(&s->redrives, batch->redriven.lsn, batch->redriven.index)) {
        return MR_REFUSAL_REDRIVEN;
    }
    enum mr_status status = mr_redrives_add(&s->redrives, batch->redriven.lsn, batch->redriven.index,
                                            mr_log_first_lsn(s->pipeline->log));
    return status == MR_OK ? MR_REFUSAL_NONE : MR_REFUSAL_REDRIVES_FULL;
}

static void refuse(struct mr_sequencer *s, struct mr_batch *batch, enum mr_refusal refusal) {
    mr_counter_add(&s->refused[refusal], 1);
    mr_batch_refuse(batch, refusal);
}

static struct mr_batch *take(struct mr_sequencer *s) {
    struct mr_batch *batch = s->held != NULL ? s->held : mr_ring_pop(s->submit);
    s->held = NULL;
    return batch;
}

static bool is_claimed(const struct mr_sequencer *s, const struct mr_batch *batch) {
    return s->pipeline->plan->streams[batch->stream].claimed;
}

static uint64_t events_in_group(const struct mr_sequencer *s, uint32_t count) {
    uint64_t events = 0;
    for (uint32_t k = 0; k < count; k++) {
        events += s->group[k]->count;
    }
    return events;
}

/* Fills s->group behind the `first` that are in it with what goes into one bundle; returns how many. */
static uint32_t gather(struct mr_sequencer *s, uint32_t first) {
    struct mr_ring *claims = s->pipeline->claimer.in;
    uint32_t count = 0;
    uint32_t claimed = 0;
    uint64_t events = events_in_group(s, first);
    uint64_t bytes = first == 0 ? 0 : mr_record_size(s->verdicts.len);
    s->gathered_claimed = 0;
    while (first + count < MR_BUNDLE_BATCHES_MAX) {
        struct mr_batch *batch = take(s);
        if (batch == NULL) {
            break;
        }
        size_t redrive_len = batch->redriven.lsn != 0 ? MR_REDRIVE_HEADER : 0;
        uint64_t size = mr_record_size(batch->body.len + redrive_len + MR_EVENTS_HEADER + MR_NAME_MAX);
        bool full = bytes + size > MR_BUNDLE_BYTES_MAX ||
                    events + batch->count > MR_BUNDLE_EVENTS_MAX;
        bool no_room = is_claimed(s, batch) && mr_ring_len(claims) + claimed >= MR_CLAIM_RING;
        if ((first + count > 0 && full) || no_room) {
            s->held = batch;
            break;
        }
        enum mr_refusal refusal = refusal_of(s, batch, bytes + size);
        refusal = refusal == MR_REFUSAL_NONE ? note_redrive(s, batch) : refusal;
        if (refusal != MR_REFUSAL_NONE) {
            refuse(s, batch, refusal);
            continue;
        }
        if (is_claimed(s, batch)) {
            claimed++;
            s->gathered_claimed += batch->count;
        } else {
            mr_sequencer_admit(s, batch);
        }
        s->group[first + count++] = batch;
        events += batch->count;
        bytes += size;
    }
    return count;
}

static void fill_entry(struct mr_sequencer *s, uint32_t k, struct mr_log_entry *ret) {
    struct mr_batch *batch = s->group[k];
    struct mr_bytes name = s->pipeline->plan->streams[batch->stream].name;
    mr_events_header(batch, s->pipeline->plan, s->headers[k]);
    *ret = (struct mr_log_entry){
        .type = MR_RECORD_EVENTS,
        .payload = {{s->headers[k], MR_EVENTS_HEADER},
                    {(void *)(uintptr_t)name.ptr, name.len},
                    {batch->body.ptr, batch->body.len}},
        .payload_count = 3,
    };
    if (batch->redriven.lsn != 0) {
        mr_redrive_header(&batch->redriven, s->redrive_headers[k]);
        memmove(&ret->payload[1], &ret->payload[0], 3 * sizeof ret->payload[0]);
        ret->payload[0] = (struct iovec){s->redrive_headers[k], MR_REDRIVE_HEADER};
        ret->payload_count = 4;
        ret->type = MR_RECORD_REDRIVE;
    }
}

static enum mr_refusal refusal_of_status(enum mr_status status) {
    return status == MR_NO_SPACE ? MR_REFUSAL_DISK_FULL : MR_REFUSAL_LOG_FAILED;
}

/* Appends the verdicts of the first `decided` of the group and the events of the others (or a tick, when both are 0) as
 * the bundle seq + 1. */
static enum mr_status append(struct mr_sequencer *s, uint32_t decided, uint32_t count) {
    struct mr_log *log = s->pipeline->log;
    if (log == NULL) {
        return MR_OK;
    }
    struct mr_log_entry *events = s->entries + (decided > 0);
    for (uint32_t k = 0; k < count; k++) {
        fill_entry(s, decided + k, &events[k]);
    }
    if (decided > 0 && !MR_BUG(VERDICTS_NOT_RECORDED)) {
        s->entries[0] = (struct mr_log_entry){.type = MR_RECORD_VERDICTS,
                                              .payload = {{s->verdicts.ptr, s->verdicts.len}},
                                              .payload_count = 1};
    } else if (count == 0 || MR_BUG(VERDICTS_NOT_RECORDED)) {
        s->entries[0] = (struct mr_log_entry){.type = MR_RECORD_TICK};
    }
    uint32_t entries = count + (decided > 0);
    struct mr_error error = {.text = ""};
    enum mr_status status = mr_log_append(log, s->seq + 1, s->recorded_ms, s->entries,
                                          entries == 0 ? 1 : entries, &error);
    if (status != MR_OK) {
        char quoted[MR_ERROR_TEXT_MAX];
        mr_report(MR_LEVEL_ERROR, "log_append_failed", "reason=%s",
                  mr_report_value(error.text, quoted, sizeof quoted));
        return status;
    }
    for (uint32_t k = 0; k < count; k++) {
        s->group[decided + k]->lsn = events[k].lsn;
    }
    s->lsn = mr_log_last_lsn(log);
    return MR_OK;
}

/* Decided ones are tried again if this fails. */
static enum mr_status append_group(struct mr_sequencer *s, uint32_t decided, uint32_t count) {
    int64_t before_ms = s->recorded_ms;
    s->recorded_ms = mr_sequencer_now(s);
    enum mr_status status = append(s, decided, count);
    if (status == MR_OK) {
        s->seq++;
        mr_sequencer_decided_done(s, decided);
        return MR_OK;
    }
    s->recorded_ms = before_ms;
    for (uint32_t k = decided; k < decided + count; k++) {
        if (!is_claimed(s, s->group[k])) {
            take_back(s, s->group[k]);
        }
        if (s->group[k]->redriven.lsn != 0) {
            mr_redrives_remove(&s->redrives, s->group[k]->redriven.lsn, s->group[k]->redriven.index);
        }
        refuse(s, s->group[k], refusal_of_status(status));
    }
    return status;
}

static void count_batch(struct mr_sequencer *s, const struct mr_batch *batch) {
    mr_counter_add(&s->rejected[batch->stream], batch->rejected);
    if (batch->taken == NULL) { /* else both were counted at the append of its events */
        mr_counter_add(&s->received[batch->stream], batch->count);
        mr_counter_add(&s->batches, 1);
    }
}

/* Frees the bundles that both halves of all shards have let go of. */
static void reap(struct mr_sequencer *s) {
    while (s->oldest != NULL) {
        struct mr_bundle *bundle = s->oldest;
        /* acquire: pairs with the release decrements in shard.c; then nobody reads the bundle any more. */
        if (atomic_load_explicit(&bundle->combine_left, memory_order_acquire) != 0 ||
            atomic_load_explicit(&bundle->dedup_left, memory_order_acquire) != 0) {
            return;
        }
        s->oldest = bundle->next;
        s->newest = s->oldest == NULL ? NULL : s->newest;
        mr_bundle_close(bundle, s->pipeline->plan);
    }
}

static void push_to_shards(struct mr_sequencer *s, struct mr_bundle *bundle) {
    struct mr_pipeline *p = s->pipeline;
    reap(s);
    if (s->newest == NULL) {
        s->oldest = bundle;
    } else {
        s->newest->next = bundle;
    }
    s->newest = bundle;
    for (uint32_t i = 0; i < p->plan->shards; i++) {
        bool pushed = mr_ring_push(p->shards[i].in, bundle);
        MR_ASSERT(pushed); /* mr_sequencer_has_room was asked, and only we push */
        mr_event_count_signal(&p->shards[i].wake);
    }
}

bool mr_sequencer_has_room(const struct mr_sequencer *s) {
    for (uint32_t i = 0; i < s->pipeline->plan->shards; i++) {
        if (mr_ring_full(s->pipeline->shards[i].in)) {
            return false;
        }
    }
    return true;
}

enum mr_status mr_sequencer_dispatch(struct mr_sequencer *s, struct mr_batch **batches,
                                     uint32_t count) {
    struct mr_pipeline *p = s->pipeline;
    struct mr_bundle *bundle = mr_bundle_open(p->plan, MR_BUNDLE_EVENTS, count);
    if (bundle == NULL) {
        for (uint32_t k = 0; k < count; k++) {
            mr_batch_refuse(batches[k], MR_REFUSAL_ABANDONED);
        }
        return MR_NO_MEMORY;
    }
    bundle->seq = s->seq;
    bundle->recorded_ms = s->recorded_ms;
    for (uint32_t k = 0; k < count; k++) {
        struct mr_batch *batch = batches[k];
        MR_ASSERT(batch->count > 0);
        MR_ASSERT(batch->order_count + batch->rejected == batch->count);
        batch->seq = s->seq;
        batch->refusal = MR_REFUSAL_NONE;
        /* relaxed: the push to the shards' rings publishes it */
        atomic_store_explicit(&batch->shards_left, p->plan->shards, memory_order_relaxed);
        bundle->batches[k] = batch;
        count_batch(s, batch);
    }
    enum mr_status status = mr_sequencer_move_watermarks(s, bundle);
    mr_counter_add(&s->bundles, 1);
    atomic_store_explicit(&s->lag_recorded_ms[s->seq % MR_LAG_SLOTS], s->recorded_ms,
                          memory_order_relaxed);
    atomic_store_explicit(&s->last_seq, s->seq, memory_order_relaxed);
    push_to_shards(s, bundle);
    return status;
}

/* Of what was appended, the events that await their verdicts go another way; returns how many are left. */
static uint32_t hand_over_claimed(struct mr_sequencer *s, uint32_t decided, uint32_t count) {
    uint32_t left = decided;
    for (uint32_t k = decided; k < decided + count; k++) {
        if (is_claimed(s, s->group[k])) {
            mr_sequencer_hand_over(s, s->group[k]);
        } else {
            s->group[left++] = s->group[k];
        }
    }
    return left;
}

static enum mr_step send_group(struct mr_sequencer *s) {
    if (s->pipeline->log != NULL && mr_log_failed(s->pipeline->log)) {
        mr_sequencer_abandon_decided(s);
    }
    uint32_t decided = mr_sequencer_take_decided(s);
    uint32_t count = gather(s, decided);
    if (decided + count == 0) {
        return MR_STEP_IDLE;
    }
    if (append_group(s, decided, count) != MR_OK) {
        return MR_STEP_WORKED;
    }
    for (uint32_t k = 0; k < decided; k++) {
        mr_sequencer_admit(s, s->group[k]);
    }
    count = hand_over_claimed(s, decided, count);
    if (MR_BUG(REFUSED_BUT_WRITTEN) && count == 2) {
        refuse(s, s->group[--count], MR_REFUSAL_IDS_FULL);
    }
    if (mr_sequencer_dispatch(s, s->group, count) != MR_OK) {
        mr_pipeline_fail(s->pipeline, MR_NO_MEMORY, "out of memory in the sequencer");
    }
    return MR_STEP_WORKED;
}

/* Bounded input ends: an event-less bundle carries the end of time to every window. */
static enum mr_status end_of_time(struct mr_sequencer *s) {
    MR_ASSERT(s->pipeline->log == NULL);
    for (uint32_t i = 0; i < s->pipeline->plan->stream_count; i++) {
        mr_watermark_end(&s->watermarks[i]);
    }
    s->ended = true;
    s->seq++;
    return mr_sequencer_dispatch(s, NULL, 0);
}

static enum mr_status send_ask(struct mr_sequencer *s, struct mr_ask *ask) {
    if (ask->kind == MR_ASK_END && !s->ended) {
        s->held_ask = ask; /* its turn comes behind the last bundle */
        return end_of_time(s);
    }
    struct mr_bundle *bundle = mr_bundle_open(s->pipeline->plan, MR_BUNDLE_ASK, 0);
    if (bundle == NULL) {
        return MR_NO_MEMORY;
    }
    if (ask->kind == MR_ASK_CHECKPOINT) {
        mr_sequencer_seal(s, ask->checkpoint);
    }
    ask->seq = s->seq;
    ask->seen = false;
    ask->closed = false;
    /* relaxed: published by the push */
    atomic_store_explicit(&ask->shards_left, s->pipeline->plan->shards, memory_order_relaxed);
    bundle->ask = ask;
    bundle->seq = s->seq;
    bundle->recorded_ms = s->recorded_ms;
    push_to_shards(s, bundle);
    return MR_OK;
}

static enum mr_step send_next_ask(struct mr_sequencer *s) {
    struct mr_ask *ask = s->held_ask != NULL ? s->held_ask : mr_ring_pop(s->asks);
    s->held_ask = NULL;
    if (ask == NULL) {
        return MR_STEP_IDLE;
    }
    if (ask->kind == MR_ASK_ADVANCE) {
        mr_sequencer_advance(s, ask);
        return MR_STEP_WORKED;
    }
    if (send_ask(s, ask) != MR_OK) {
        s->held_ask = ask; /* closing answers it */
        mr_pipeline_fail(s->pipeline, MR_NO_MEMORY, "out of memory in the sequencer");
    }
    return MR_STEP_WORKED;
}

static enum mr_step send_tick(struct mr_sequencer *s) {
    uint64_t now_ns = mr_clock_mono_ns(s->pipeline->clock);
    bool ends = s->replay_config.len > 0; /* a stage: the log goes on under other streams and rules */
    if (s->pipeline->plan->bounded || s->shadow || ends || now_ns - s->tick_checked_ns < TICK_NS) {
        return MR_STEP_IDLE;
    }
    s->tick_checked_ns = now_ns;
    int64_t now_ms = mr_sequencer_now(s);
    bool due = s->tick_wanted || mr_sequencer_due(s, now_ms);
    if (!due || (s->pipeline->log != NULL && !mr_log_has_room(s->pipeline->log, MR_RECORD_HEADER))) {
        return MR_STEP_IDLE;
    }
    s->tick_wanted = false;
    if (append_group(s, 0, 0) == MR_OK && mr_sequencer_dispatch(s, NULL, 0) != MR_OK) {
        mr_pipeline_fail(s->pipeline, MR_NO_MEMORY, "out of memory in the sequencer");
    }
    return MR_STEP_WORKED;
}

static enum mr_step step_replay(struct mr_sequencer *s) {
    struct mr_error error;
    enum mr_status status = mr_replay_next(s, &error);
    if (status == MR_OK) {
        return MR_STEP_WORKED;
    }
    if (status != MR_END) {
        mr_pipeline_fail(s->pipeline, status, error.text);
        return MR_STEP_IDLE;
    }
    mr_log_reader_close(s->replay);
    s->replay = NULL;
    mr_replay_forget(s); /* the claimer reads them again */
    if (s->pipeline->log != NULL && s->replay_config.len == 0) {
        s->seq = mr_log_last_seq(s->pipeline->log);
        s->lsn = mr_log_last_lsn(s->pipeline->log);
    }
    s->clock_base_ms = mr_clock_wall_ms(s->pipeline->clock);
    s->clock_base_ns = mr_clock_mono_ns(s->pipeline->clock);
    if (s->recorded_ms > s->clock_base_ms) {
        s->clock_base_ms = s->recorded_ms;
    }
    /* release: pairs with the acquire in mr_pipeline_live */
    atomic_store_explicit(&s->pipeline->live, true, memory_order_release);
    return MR_STEP_WORKED;
}

static bool has_work(const struct mr_sequencer *s) {
    return s->replay != NULL || s->held != NULL || s->held_ask != NULL || mr_ring_len(s->submit) > 0 ||
           mr_ring_len(s->asks) > 0 || s->decided_count > 0 ||
           (s->pipeline->claimer.out != NULL && mr_ring_len(s->pipeline->claimer.out) > 0);
}

enum mr_step mr_sequencer_step(struct mr_sequencer *s) {
    reap(s);
    if (!mr_sequencer_has_room(s)) {
        return has_work(s) ? MR_STEP_BLOCKED : MR_STEP_IDLE;
    }
    enum mr_step asked = send_next_ask(s);
    if (asked == MR_STEP_WORKED && !mr_sequencer_has_room(s)) {
        return asked;
    }
    enum mr_step sent = s->replay != NULL ? step_replay(s) : send_group(s);
    if (sent == MR_STEP_IDLE && s->replay == NULL) {
        sent = send_tick(s);
    }
    if (s->replay == NULL && mr_sequencer_trim(s) == MR_STEP_WORKED) {
        sent = MR_STEP_WORKED;
    }
    return asked > sent ? asked : sent;
}

uint64_t mr_sequencer_sleep_ns(const struct mr_sequencer *s) {
    const struct mr_plan *plan = s->pipeline->plan;
    if (s->tick_wanted || s->decided_count > 0) { /* decided: the disk has no room for the verdicts */
        return TICK_NS;
    }
    return !plan->bounded && !s->shadow && mr_sequencer_due(s, INT64_MAX / 2) ? TICK_NS : UINT64_MAX;
}

static enum mr_status allocate(struct mr_sequencer *s) {
    const struct mr_plan *plan = s->pipeline->plan;
    size_t streams = plan->stream_count;
    s->submit = mr_ring_open(MR_SUBMIT_RING);
    s->asks = mr_ring_open(MR_ASK_RING);
    s->group = mr_alloc_zero(MR_BUNDLE_BATCHES_MAX, sizeof(struct mr_batch *));
    s->entries = mr_alloc_zero(MR_BUNDLE_BATCHES_MAX + 1, sizeof *s->entries);
    s->headers = mr_alloc_zero(MR_BUNDLE_BATCHES_MAX, sizeof *s->headers);
    s->redrive_headers = mr_alloc_zero(MR_BUNDLE_BATCHES_MAX, sizeof *s->redrive_headers);
    s->watermarks = mr_alloc_zero(streams, sizeof *s->watermarks);
    s->admitted = mr_alloc_zero(streams * plan->shards, sizeof *s->admitted);
    s->received = mr_alloc_zero(streams, sizeof *s->received);
    s->rejected = mr_alloc_zero(streams, sizeof *s->rejected);
    s->watermark_ms = mr_alloc_zero(streams, sizeof *s->watermark_ms);
    s->undecided = mr_alloc_zero(streams, sizeof *s->undecided);
    s->decided = mr_alloc_zero(MR_BUNDLE_BATCHES_MAX, sizeof(struct mr_batch *));
    s->locals = mr_alloc_zero(streams, sizeof *s->locals);
    bool all = s->submit != NULL && s->asks != NULL && s->group != NULL && s->entries != NULL &&
               s->headers != NULL && s->redrive_headers != NULL && s->watermarks != NULL && s->admitted != NULL &&
               s->received != NULL && s->rejected != NULL && s->watermark_ms != NULL &&
               s->undecided != NULL && s->decided != NULL && s->locals != NULL;
    return all ? MR_OK : MR_NO_MEMORY;
}

enum mr_status mr_sequencer_open(struct mr_pipeline *pipeline, struct mr_log_reader *replay,
                                 struct mr_error *error) {
    struct mr_sequencer *s = &pipeline->sequencer;
    s->pipeline = pipeline;
    s->replay = replay;
    mr_event_count_init(&s->wake);
    (void)pthread_mutex_init(&s->local_lock, NULL); /* cannot fail here: no attributes */
    mr_buf_init(&s->verdicts, 2 * MR_BUNDLE_BYTES_MAX);
    if (allocate(s) != MR_OK || mr_events_decoder_open(pipeline->plan, &s->decoder) != MR_OK) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory opening the sequencer");
    }
    for (uint32_t i = 0; i < pipeline->plan->stream_count; i++) {
        mr_watermark_init(&s->watermarks[i]);
        atomic_init(&s->watermark_ms[i], INT64_MIN);
    }
    s->recorded_ms = INT64_MIN;
    s->clock_base_ms = mr_clock_wall_ms(pipeline->clock);
    s->clock_base_ns = mr_clock_mono_ns(pipeline->clock);
    s->tick_checked_ns = s->clock_base_ns;
    if (pipeline->log != NULL && replay == NULL) {
        s->seq = mr_log_last_seq(pipeline->log);
        s->lsn = mr_log_last_lsn(pipeline->log);
    }
    mr_buf_init(&s->replay_config, MR_RECORD_PAYLOAD_MAX);
    mr_buf_init(&s->advance_source, MR_RECORD_PAYLOAD_MAX);
    atomic_init(&pipeline->live, replay == NULL);
    return MR_OK;
}

/* What is undecided goes back to its owners: the pipeline is being closed in the middle of things. */
static void abandon(struct mr_sequencer *s) {
    struct mr_batch *batch;
    while (s->submit != NULL && (batch = take(s)) != NULL) {
        mr_batch_refuse(batch, MR_REFUSAL_DRAINING);
    }
    while (s->decided_count > 0) {
        mr_batch_refuse(s->decided[--s->decided_count], MR_REFUSAL_ABANDONED);
    }
    while (s->oldest != NULL) {
        struct mr_bundle *bundle = s->oldest;
        s->oldest = bundle->next;
        for (uint32_t k = 0; k < bundle->batch_count; k++) {
            if (bundle->batches[k] != NULL) {
                mr_batch_refuse(bundle->batches[k], MR_REFUSAL_ABANDONED);
            }
        }
        if (bundle->ask != NULL &&
            atomic_load_explicit(&bundle->combine_left, memory_order_acquire) != 0) {
            bundle->ask->closed = true;
            bundle->ask->done(bundle->ask, bundle->ask->ctx);
        }
        mr_bundle_close(bundle, s->pipeline->plan);
    }
    struct mr_ask *ask = s->held_ask;
    while (s->asks != NULL && (ask != NULL || (ask = mr_ring_pop(s->asks)) != NULL)) {
        ask->closed = true;
        ask->done(ask, ask->ctx);
        ask = NULL;
    }
}

void mr_sequencer_close(struct mr_sequencer *s) {
    if (s->pipeline == NULL) {
        return;
    }
    abandon(s);
    mr_replay_forget(s);
    mr_log_reader_close(s->replay);
    for (uint32_t i = 0; s->watermarks != NULL && i < s->pipeline->plan->stream_count; i++) {
        mr_watermark_finish(&s->watermarks[i]);
    }
    mr_buf_finish(&s->replay_config);
    mr_buf_finish(&s->advance_source);
    mr_buf_finish(&s->verdicts);
    mr_events_decoder_close(s->decoder);
    mr_ring_close(s->submit);
    mr_ring_close(s->asks);
    mr_free(s->group);
    mr_free(s->entries);
    mr_free(s->headers);
    mr_free(s->redrive_headers);
    mr_redrives_finish(&s->redrives);
    mr_free(s->watermarks);
    mr_free(s->admitted);
    mr_free(s->received);
    mr_free(s->rejected);
    mr_free(s->watermark_ms);
    mr_free(s->undecided);
    mr_free(s->decided);
    mr_free(s->locals);
    (void)pthread_mutex_destroy(&s->local_lock);
}
