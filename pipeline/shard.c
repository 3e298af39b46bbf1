/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shard: one thread that owns a dedup shard and a combine shard.
 *
 *     in ──▶ [judge ids, lift] ──▶ mesh[me][0..S-1]        mesh[0..S-1][me] ──▶ [merge, fire, scan] ──▶ out
 *             dedup half                                                       combine half
 *
 * The combine half goes first in a step: draining what is downstream makes room for what is upstream (L10).
 */
#include "aggregate/hot.h"
#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/dead.h"
#include "base/json.h"
#include "pipeline/stations.h"

enum { RELEASE_WINDOWS = 64 }; /* freed a bundle, so that a jump of the watermark does not stop the shard */

/* ---- dedup half ---- */

/* acq_rel: the release publishes this shard's verdict bytes, the acquire of the last one sees all of them; and that
 * nobody reads the bundle's pointer to it any more. */
static void finish_batch(struct mr_bundle *bundle, uint32_t k) {
    struct mr_batch *batch = bundle->batches[k];
    if (atomic_fetch_sub_explicit(&batch->shards_left, 1, memory_order_acq_rel) == 1) {
        bundle->batches[k] = NULL;
        batch->done(batch, batch->ctx);
    }
}

/* The room of all streams: also of those that only had ids expire. */
static void publish(struct mr_shard *shard, const struct mr_bundle *bundle) {
    const struct mr_plan *plan = shard->pipeline->plan;
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        uint64_t room = mr_dedup_room(shard->dedup[i], bundle->recorded_ms);
        atomic_store_explicit(&shard->streams[i].room, room, memory_order_release);
    }
    for (uint32_t k = 0; k < bundle->batch_count; k++) {
        const struct mr_batch *batch = bundle->batches[k];
        uint64_t ids = batch->shard_start[shard->index + 1] - batch->shard_start[shard->index];
        struct mr_shard_stream *s = &shard->streams[batch->stream];
        uint64_t judged = atomic_load_explicit(&s->judged, memory_order_relaxed) + ids;
        /* release: pairs with the acquire in refused_by_ids (sequencer.c) */
        atomic_store_explicit(&s->judged, judged, memory_order_release);
    }
}

static enum mr_status judge_bundle(struct mr_shard *shard, struct mr_bundle *bundle) {
    const struct mr_plan *plan = shard->pipeline->plan;
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        int64_t now_ms = bundle->recorded_ms;
        if (MR_BUG(EXPIRY_BY_EVENT_TIME) && bundle->batch_count > 0 &&
            bundle->batches[0]->time_max_ms > now_ms) {
            now_ms = bundle->batches[0]->time_max_ms;
        }
        mr_dedup_advance(shard->dedup[i], now_ms);
    }
    mr_lift_begin(shard->lift, bundle->seq);
    for (uint32_t k = 0; k < bundle->batch_count; k++) {
        enum mr_status status = mr_shard_judge(shard, bundle, bundle->batches[k]);
        if (status != MR_OK) {
            return status;
        }
    }
    enum mr_status status = mr_lift_finish(shard->lift, shard->parcels);
    for (uint32_t i = 0; status == MR_OK && i < shard->pipeline->plan->shards; i++) {
        shard->parcels[i]->recorded_ms = bundle->recorded_ms;
    }
    if (status == MR_OK) {
        status = mr_shard_keep_ids(shard, false);
    }
    if (status != MR_OK) {
        return status;
    }
    publish(shard, bundle);
    for (uint32_t k = 0; k < bundle->batch_count; k++) {
        finish_batch(bundle, k); /* the batch may be gone behind this */
    }
    return MR_OK;
}

/* The dedup half's part of a question. */
static enum mr_status answer_ask(struct mr_shard *shard, struct mr_bundle *bundle) {
    struct mr_ask *ask = bundle->ask;
    uint32_t shards = shard->pipeline->plan->shards;
    if (ask->kind == MR_ASK_SEEN && mr_fingerprint_shard(ask->fp, shards) == shard->index) {
        ask->seen = mr_dedup_seen(shard->dedup[ask->stream], ask->fp, &ask->seen_from_ms,
                                  &ask->seen_to_ms, &ask->seen_until_ms);
    }
    if (ask->kind == MR_ASK_CHECKPOINT && mr_shard_seal(shard, ask->checkpoint) != MR_OK) {
        return MR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < shards; i++) {
        shard->parcels[i] = mr_parcel_open(bundle->seq, shard->index);
        if (shard->parcels[i] == NULL) {
            return MR_NO_MEMORY;
        }
    }
    return MR_OK;
}

static bool mesh_has_room(const struct mr_shard *shard) {
    for (uint32_t i = 0; i < shard->pipeline->plan->shards; i++) {
        if (mr_ring_full(mr_mesh(shard->pipeline, shard->index, i))) {
            return false;
        }
    }
    return true;
}

static enum mr_step step_dedup(struct mr_shard *shard) {
    struct mr_pipeline *p = shard->pipeline;
    if (!mesh_has_room(shard) || shard->save_first != NULL) {
        return mr_ring_len(shard->in) > 0 ? MR_STEP_BLOCKED : MR_STEP_IDLE;
    }
    struct mr_bundle *bundle = mr_ring_pop(shard->in);
    if (bundle == NULL) {
        return MR_STEP_IDLE;
    }
    /* Not for each bundle: a sequencer that is faster than we are, as in replay, would sleep and wake as often. */
    if (mr_ring_len(shard->in) <= MR_SHARD_RING / 2) {
        mr_event_count_signal_blocked(&p->sequencer.wake);
    }
    enum mr_status status = bundle->kind == MR_BUNDLE_EVENTS ? judge_bundle(shard, bundle)
                                                             : answer_ask(shard, bundle);
    if (status != MR_OK) {
        mr_pipeline_fail(p, status, "out of memory in a dedup shard");
        return MR_STEP_IDLE;
    }
    for (uint32_t i = 0; i < p->plan->shards; i++) {
        shard->parcels[i]->bundle = bundle;
        bool pushed = mr_ring_push(mr_mesh(p, shard->index, i), shard->parcels[i]);
        MR_ASSERT(pushed); /* mesh_has_room was asked, and only we push */
        shard->parcels[i] = NULL;
        if (i != shard->index) {
            mr_event_count_signal(&p->shards[i].wake);
        }
    }
    /* release: pairs with the acquire in reap (sequencer.c) */
    atomic_fetch_sub_explicit(&bundle->dedup_left, 1, memory_order_release);
    return MR_STEP_WORKED;
}

/* ---- combine half ---- */

static void finish_bundle(struct mr_shard *shard) {
    struct mr_bundle *bundle = shard->bundle;
    shard->bundle = NULL;
    shard->gathered = 0;
    shard->gather = MR_GATHERING;
    /* A question says as much: its seq may be that of a START record, which no bundle carries.
     * release: everything up to here was pushed before (I3); pairs with the flusher's acquire */
    atomic_store_explicit(&shard->done_seq, bundle->seq, memory_order_release);
    atomic_fetch_sub_explicit(&bundle->combine_left, 1, memory_order_release); /* pairs with reap */
}

/* The last shard answers. acq_rel as in finish_batch: it sees every shard's part. */
static void finish_ask(struct mr_ask *ask) {
    if (atomic_fetch_sub_explicit(&ask->shards_left, 1, memory_order_acq_rel) == 1) {
        ask->done(ask, ask->ctx);
    }
}

static void answer_hot(struct mr_shard *shard, struct mr_ask *ask) {
    struct mr_scan_result *result = &ask->results[shard->index];
    mr_buf_init(&result->rows, MR_SCAN_BYTES_MAX);
    mr_hot_append(mr_combine_hot(shard->combine, ask->scan.rule), &result->rows);
    result->status = result->rows.failed ? MR_NO_MEMORY : MR_OK;
}

static void begin_combining(struct mr_shard *shard) {
    struct mr_bundle *bundle = shard->bundle;
    if (bundle->kind == MR_BUNDLE_EVENTS) {
        mr_combine_advance(shard->combine, bundle->seq, bundle->watermarks_after, bundle->recorded_ms);
        shard->gather = MR_FIRING;
        return;
    }
    switch (bundle->ask->kind) {
    case MR_ASK_SCAN:
        shard->gather = MR_SCANNING;
        shard->scan = (struct mr_scan_cursor){0};
        break;
    case MR_ASK_CHECKPOINT:
        mr_combine_save_begin(shard->combine, bundle->seq);
        shard->walking = bundle->ask->checkpoint;
        shard->gather = MR_FLUSHING;
        break;
    case MR_ASK_FLUSH:
    case MR_ASK_DISCARD:
    case MR_ASK_END:
        shard->gather = MR_FLUSHING;
        break;
    case MR_ASK_ADVANCE:
        MR_UNREACHABLE(); /* the sequencer's alone */
    case MR_ASK_HOT:
    case MR_ASK_SEEN: {
        struct mr_ask *ask = bundle->ask;
        if (ask->kind == MR_ASK_HOT) {
            answer_hot(shard, ask);
        }
        finish_bundle(shard);
        finish_ask(ask);
        break;
    }
    }
}

static enum mr_step gather_parcel(struct mr_shard *shard) {
    struct mr_pipeline *p = shard->pipeline;
    if (mr_combine_save_waiting(shard->combine) > MR_COMBINE_SAVE_WAITING_MAX) {
        return MR_STEP_BLOCKED; /* the checkpointer is slower than we are */
    }
    struct mr_parcel *parcel = mr_ring_pop(mr_mesh(p, shard->gathered, shard->index));
    if (parcel == NULL) {
        return MR_STEP_IDLE;
    }
    if (shard->gathered != shard->index) {
        mr_event_count_signal_blocked(&p->shards[shard->gathered].wake);
    }
    MR_ASSERT(shard->gathered == 0 || parcel->bundle == shard->bundle);
    shard->bundle = parcel->bundle;
    enum mr_status status = MR_OK;
    if (parcel->count > 0) {
        status = mr_combine_merge(shard->combine, parcel);
    }
    mr_parcel_close(parcel);
    if (status != MR_OK) {
        mr_pipeline_fail(p, status, "out of memory in a combine shard");
        return MR_STEP_IDLE;
    }
    shard->gathered++;
    if (shard->gathered == p->plan->shards) {
        begin_combining(shard);
    }
    return MR_STEP_WORKED;
}

/* Hands flush to the flusher if there is anything in it. The caller has seen room. */
static void push_flush(struct mr_shard *shard, struct mr_flush *flush) {
    bool empty = flush->pane_count == 0 && flush->dead_count == 0 && flush->final_count == 0 &&
                 flush->ask == NULL;
    if (empty) {
        mr_flush_close(flush);
        return;
    }
    bool pushed = mr_ring_push(shard->out, flush);
    MR_ASSERT(pushed);
    mr_event_count_signal(&shard->pipeline->flusher.wake);
}

static void take_dead(struct mr_bundle_part *part, struct mr_flush *flush) {
    if (part->dead_count == 0) {
        return;
    }
    flush->dead = part->dead;
    flush->dead_count = part->dead_count;
    mr_buf_init(&part->dead, flush->dead.cap_max);
    part->dead_count = 0;
}

static enum mr_step fire_slice(struct mr_shard *shard) {
    struct mr_pipeline *p = shard->pipeline;
    struct mr_bundle *bundle = shard->bundle;
    if (mr_ring_full(shard->out)) {
        return MR_STEP_BLOCKED;
    }
    struct mr_flush *flush = mr_flush_open(bundle->seq);
    bool done = false;
    enum mr_status status = flush == NULL ? MR_NO_MEMORY : MR_OK;
    if (status == MR_OK) {
        take_dead(&bundle->parts[shard->index], flush);
        status = mr_combine_fire(shard->combine, MR_SLICE_GROUPS, flush, &done);
    }
    if (status != MR_OK || flush->dead.failed || flush->panes.failed) {
        mr_flush_close(flush);
        mr_pipeline_fail(p, MR_NO_MEMORY, "out of memory firing windows");
        return MR_STEP_IDLE;
    }
    push_flush(shard, flush);
    if (done) {
        finish_bundle(shard);
    }
    return MR_STEP_WORKED;
}

static enum mr_step scan_slice(struct mr_shard *shard) {
    struct mr_ask *ask = shard->bundle->ask;
    bool done = mr_combine_scan(shard->combine, &ask->scan, &shard->scan, MR_SLICE_GROUPS,
                                &ask->results[shard->index]);
    if (done) {
        finish_bundle(shard);
        finish_ask(ask);
    }
    return MR_STEP_WORKED;
}

/* The question goes on to the flusher, behind everything that was fired before it. */
static enum mr_step pass_to_flusher(struct mr_shard *shard) {
    if (mr_ring_full(shard->out)) {
        return MR_STEP_BLOCKED;
    }
    struct mr_flush *flush = mr_flush_open(shard->bundle->seq);
    if (flush == NULL) {
        mr_pipeline_fail(shard->pipeline, MR_NO_MEMORY, "out of memory in a combine shard");
        return MR_STEP_IDLE;
    }
    flush->ask = shard->bundle->ask;
    push_flush(shard, flush);
    finish_bundle(shard);
    return MR_STEP_WORKED;
}

static enum mr_step step_combine(struct mr_shard *shard) {
    switch (shard->gather) {
    case MR_GATHERING: {
        enum mr_step step = gather_parcel(shard);
        if (step == MR_STEP_WORKED && shard->gathered == 1) {
            /* acquire: pairs with the flusher's release; rows of freed windows are in the store. */
            uint64_t confirmed = atomic_load_explicit(&shard->pipeline->flusher.confirmed_seq,
                                                      memory_order_acquire);
            confirmed = MR_BUG(RELEASED_UNCONFIRMED) ? UINT64_MAX : confirmed;
            (void)mr_combine_release(shard->combine, confirmed, RELEASE_WINDOWS); /* more next time */
        }
        return step;
    }
    case MR_FIRING:
        return fire_slice(shard);
    case MR_SCANNING:
        return scan_slice(shard);
    case MR_FLUSHING:
        return pass_to_flusher(shard);
    }
    MR_UNREACHABLE();
}

enum mr_step mr_shard_step(struct mr_shard *shard) {
    (void)mr_shard_push_saves(shard); /* step_dedup and the walk look at what is left */
    enum mr_step combined = step_combine(shard);
    enum mr_step judged = step_dedup(shard);
    enum mr_step walked = mr_shard_walk(shard);
    bool left = !mr_shard_push_saves(shard);
    enum mr_step step = combined > judged ? combined : judged;
    step = step > walked ? step : walked;
    return step == MR_STEP_IDLE && left ? MR_STEP_BLOCKED : step;
}

/* ---- life ---- */

static enum mr_status open_dedups(struct mr_shard *shard, struct mr_error *error) {
    const struct mr_plan *plan = shard->pipeline->plan;
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        enum mr_status status = mr_dedup_open(&plan->streams[i].dedup, &shard->dedup[i], error);
        if (status != MR_OK) {
            return status;
        }
        uint64_t room = mr_dedup_room(shard->dedup[i], INT64_MIN);
        atomic_init(&shard->streams[i].room, room);
    }
    return MR_OK;
}

enum mr_status mr_shard_open(struct mr_pipeline *pipeline, uint32_t index, struct mr_error *error) {
    const struct mr_plan *plan = pipeline->plan;
    struct mr_shard *shard = &pipeline->shards[index];
    shard->pipeline = pipeline;
    shard->index = index;
    mr_event_count_init(&shard->wake);
    shard->in = mr_ring_open(MR_SHARD_RING);
    shard->out = mr_ring_open(mr_plan_flush_ring(pipeline->plan->config));
    shard->saves = mr_ring_open(MR_SAVE_RING);
    shard->dedup = mr_alloc_zero(plan->stream_count, sizeof(struct mr_dedup *));
    shard->parcels = mr_alloc_zero(plan->shards, sizeof(struct mr_parcel *));
    shard->streams = mr_alloc_zero(plan->stream_count, sizeof *shard->streams);
    shard->rules = mr_alloc_zero(plan->rule_count + 1, sizeof *shard->rules);
    if (shard->in == NULL || shard->out == NULL || shard->saves == NULL || shard->dedup == NULL || shard->parcels == NULL ||
        shard->streams == NULL || shard->rules == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory opening shard %u", index);
    }
    if (mr_lift_open(plan->rules, plan->rule_count, plan->stream_names, plan->stream_count, index,
                     plan->shards, &shard->lift) != MR_OK ||
        mr_combine_open(plan->rules, plan->rule_count, plan->stream_count, plan->stream_names, index,
                        &shard->combine) != MR_OK) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory opening shard %u", index);
    }
    return open_dedups(shard, error);
}

static void close_rings(struct mr_shard *shard) {
    struct mr_pipeline *p = shard->pipeline;
    while (shard->in != NULL && mr_ring_pop(shard->in) != NULL) {
        continue; /* bundles are the sequencer's to free */
    }
    for (uint32_t i = 0; p->mesh != NULL && i < p->plan->shards; i++) {
        struct mr_ring *ring = mr_mesh(p, i, shard->index);
        struct mr_parcel *parcel;
        while (ring != NULL && (parcel = mr_ring_pop(ring)) != NULL) {
            mr_parcel_close(parcel);
        }
    }
    struct mr_save *save;
    while (shard->saves != NULL && (save = mr_ring_pop(shard->saves)) != NULL) {
        mr_save_close(save);
    }
    while ((save = shard->save_first) != NULL) {
        shard->save_first = save->next;
        mr_save_close(save);
    }
    mr_ring_close(shard->saves);
    mr_ring_close(shard->in);
    mr_ring_close(shard->out); /* emptied by the flusher, which closes first */
}

void mr_shard_close(struct mr_shard *shard) {
    if (shard->pipeline == NULL) {
        return;
    }
    const struct mr_plan *plan = shard->pipeline->plan;
    close_rings(shard);
    if (shard->combine != NULL) {
        mr_combine_scan_stop(shard->combine, &shard->scan);
    }
    for (uint32_t i = 0; shard->dedup != NULL && i < plan->stream_count; i++) {
        mr_dedup_close(shard->dedup[i]);
    }
    for (uint32_t i = 0; shard->parcels != NULL && i < plan->shards; i++) {
        mr_parcel_close(shard->parcels[i]); /* of a bundle in which memory ran out */
    }
    mr_lift_close(shard->lift);
    mr_combine_close(shard->combine);
    mr_free(shard->dedup);
    mr_free(shard->parcels);
    mr_free(shard->streams);
    mr_free(shard->rules);
    mr_free(shard->duplicate);
    mr_free(shard->fresh);
    mr_free(shard->own);
    mr_free(shard->contents);
}
