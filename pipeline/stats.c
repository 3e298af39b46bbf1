/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stats: a moment's view of the counters, summed over shards. Everything is relaxed: numbers order nothing.
 */
#include "base/check.h"
#include "pipeline/stations.h"

#include <stdio.h>

void mr_pipeline_stream_stats(const struct mr_pipeline *pipeline, uint32_t stream,
                              struct mr_stream_stats *ret) {
    MR_ASSERT(stream < pipeline->plan->stream_count);
    const struct mr_sequencer *s = &pipeline->sequencer;
    *ret = (struct mr_stream_stats){
        .received = mr_counter_read(&s->received[stream]),
        .rejected = mr_counter_read(&s->rejected[stream]),
        .pending = mr_counter_read(&s->undecided[stream].events),
        .local = mr_counter_read(&s->locals[stream].events),
        .watermark_ms = atomic_load_explicit(&s->watermark_ms[stream], memory_order_relaxed),
    };
    for (uint32_t i = 0; i < pipeline->plan->shards; i++) {
        const struct mr_shard_stream *shard = &pipeline->shards[i].streams[stream];
        const struct mr_dedup_stats *dedup = mr_dedup_stats(pipeline->shards[i].dedup[stream]);
        ret->accepted += mr_counter_read(&shard->accepted);
        ret->duplicate += mr_counter_read(&shard->duplicate);
        ret->late += mr_counter_read(&shard->late);
        ret->future += mr_counter_read(&shard->future);
        ret->observed_duplicates += mr_counter_read(&shard->observed);
        ret->conflicts += mr_counter_read(&shard->conflicts);
        for (uint32_t k = 0; k < MR_REDRIVE_VERDICTS; k++) {
            ret->redriven[k] += mr_counter_read(&shard->redriven[k]);
        }
        ret->dedup_ids += mr_counter_read(&dedup->live_ids);
        ret->dedup_bytes += mr_counter_read(&dedup->bytes);
        ret->dedup_evicted += mr_counter_read(&dedup->evicted_ids);
        ret->dedup_expired += mr_counter_read(&dedup->expired_ids);
        double error = (double)mr_counter_read(&dedup->error_ppb) / 1e9;
        double fill = (double)mr_counter_read(&dedup->fill_ppm) / 1e6;
        ret->dedup_error = error > ret->dedup_error ? error : ret->dedup_error;
        ret->dedup_fill = fill > ret->dedup_fill ? fill : ret->dedup_fill;
    }
}

void mr_pipeline_local(struct mr_pipeline *pipeline, uint32_t stream, struct mr_local *ret) {
    MR_ASSERT(stream < pipeline->plan->stream_count);
    struct mr_sequencer *s = &pipeline->sequencer;
    (void)pthread_mutex_lock(&s->local_lock);
    *ret = s->locals[stream];
    (void)pthread_mutex_unlock(&s->local_lock);
}

void mr_pipeline_store_stats(struct mr_pipeline *pipeline, uint32_t store, struct mr_store_stats *ret) {
    struct mr_claimer *c = &pipeline->claimer;
    *ret = (struct mr_store_stats){.used = c->stores != NULL && c->stores[store].claims != NULL};
    if (!ret->used) {
        return;
    }
    struct mr_claimer_store *s = &c->stores[store];
    ret->strict = atomic_load_explicit(&s->state, memory_order_relaxed) == MR_WATCH_STRICT;
    ret->local = !ret->strict && atomic_load_explicit(&s->local, memory_order_relaxed);
    for (uint32_t i = 0; i < pipeline->plan->stream_count; i++) {
        const struct mr_plan_stream *stream = &pipeline->plan->streams[i];
        ret->local = ret->local && (!stream->claimed || stream->store != store || stream->local);
    }
    (void)pthread_mutex_lock(&c->lock);
    ret->claims = s->stats;
    if (!ret->strict) {
        (void)snprintf(ret->reason, sizeof ret->reason, "%s",
                       s->reason[0] == 0 ? "not looked at yet" : s->reason); /* fits */
    }
    (void)pthread_mutex_unlock(&c->lock);
}

void mr_pipeline_duplicate_age(const struct mr_pipeline *pipeline, uint32_t stream,
                               struct mr_histogram *ret) {
    MR_ASSERT(stream < pipeline->plan->stream_count);
    for (uint32_t i = 0; i < pipeline->plan->shards; i++) {
        mr_histogram_merge(ret, &pipeline->shards[i].streams[stream].duplicate_age_ms);
    }
}

int64_t mr_pipeline_rule_watermark(const struct mr_pipeline *pipeline, uint32_t index) {
    const struct mr_rule *rule = &pipeline->plan->rules[index];
    int64_t watermarks_ms[MR_STREAMS_MAX] = {0}; /* those of its streams are read */
    for (uint32_t i = 0; i < rule->input_count; i++) {
        uint32_t stream = rule->inputs[i].stream;
        watermarks_ms[stream] =
            atomic_load_explicit(&pipeline->sequencer.watermark_ms[stream], memory_order_relaxed);
    }
    return mr_rule_watermark(rule, watermarks_ms);
}

void mr_pipeline_rule_stats(const struct mr_pipeline *pipeline, uint32_t rule,
                            struct mr_rule_stats *ret) {
    MR_ASSERT(rule < pipeline->plan->rule_count);
    *ret = (struct mr_rule_stats){0};
    for (uint32_t i = 0; i < pipeline->plan->shards; i++) {
        const struct mr_shard_rule *lifted = &pipeline->shards[i].rules[rule];
        const struct mr_combine_rule_stats *c = mr_combine_stats(pipeline->shards[i].combine, rule);
        ret->filtered += mr_counter_read(&lifted->filtered);
        ret->late += mr_counter_read(&lifted->late);
        ret->applied += mr_counter_read(&c->applied);
        ret->dropped += mr_counter_read(&c->dropped);
        ret->overflow += mr_counter_read(&c->overflow);
        ret->windows += mr_counter_read(&c->windows);
        ret->groups += mr_counter_read(&c->groups);
        ret->bytes += mr_counter_read(&c->bytes);
        ret->panes += mr_counter_read(&c->panes);
        ret->hot_events += mr_counter_read(&c->hot_events);
        uint64_t heaviest = mr_counter_read(&c->hot_heaviest);
        ret->hot_heaviest = heaviest > ret->hot_heaviest ? heaviest : ret->hot_heaviest;
    }
}

static uint64_t processed_seq(const struct mr_pipeline *p) {
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < p->plan->shards; i++) {
        uint64_t done = atomic_load_explicit(&p->shards[i].done_seq, memory_order_relaxed);
        least = done < least ? done : least;
    }
    return least;
}

/* The recorded time of the oldest bundle that is not processed tells its age. */
static int64_t system_lag_ms(const struct mr_pipeline *p, uint64_t processed, uint64_t last) {
    if (processed >= last) {
        return 0;
    }
    uint64_t oldest = last - processed > MR_LAG_SLOTS ? last - MR_LAG_SLOTS + 1 : processed + 1;
    int64_t recorded_ms = atomic_load_explicit(&p->sequencer.lag_recorded_ms[oldest % MR_LAG_SLOTS],
                                               memory_order_relaxed);
    int64_t lag_ms = recorded_ms == 0 ? 0 : mr_clock_wall_ms(p->clock) - recorded_ms;
    return lag_ms > 0 ? lag_ms : 0;
}

void mr_pipeline_stats(const struct mr_pipeline *pipeline, struct mr_pipeline_stats *ret) {
    const struct mr_sequencer *s = &pipeline->sequencer;
    const struct mr_flusher *f = &pipeline->flusher;
    const struct mr_checkpointer *c = &pipeline->checkpointer;
    uint64_t processed = processed_seq(pipeline);
    uint64_t last = atomic_load_explicit(&s->last_seq, memory_order_relaxed);
    *ret = (struct mr_pipeline_stats){
        .last_seq = last,
        .processed_seq = processed,
        .flushed_seq = atomic_load_explicit(&f->confirmed_seq, memory_order_relaxed),
        .system_lag_ms = system_lag_ms(pipeline, processed, last),
        .bundles = mr_counter_read(&s->bundles),
        .batches = mr_counter_read(&s->batches),
        .refused_ids_full = mr_counter_read(&s->refused[MR_REFUSAL_IDS_FULL]),
        .refused_disk_full = mr_counter_read(&s->refused[MR_REFUSAL_DISK_FULL]),
        .refused_log_failed = mr_counter_read(&s->refused[MR_REFUSAL_LOG_FAILED]),
        .refused_store_away = mr_counter_read(&s->refused[MR_REFUSAL_STORE_AWAY]),
        .sent_away_undecided = mr_counter_read(&pipeline->claimer.shed),
        .flush_panes = mr_counter_read(&f->panes),
        .flush_commits = mr_counter_read(&f->commits),
        .flush_errors = mr_counter_read(&f->errors),
        .dead_letters = mr_counter_read(&f->dead_letters),
        .dead_segments_removed = mr_counter_read(&f->dead_segments_removed),
        .replayed_bundles = mr_counter_read(&s->replayed_bundles),
        .replayed_events = mr_counter_read(&s->replayed_events),
        .shadow_gone = mr_counter_read(&s->shadow_gone),
        .shadow_unknown = mr_counter_read(&s->shadow_unknown),
        .shadow_lost = mr_counter_read(&s->shadow_lost),
        .clock_jumps = mr_counter_read(&s->clock_jumps),
        .submit_queue = mr_ring_len(s->submit),
        .checkpoints = mr_counter_read(&c->checkpoints),
        .checkpoint_failures = mr_counter_read(&c->failures),
        .checkpoint_seq = mr_counter_read(&c->seq),
        .checkpoint_recorded_ms = (int64_t)mr_counter_read(&c->recorded_ms),
        .checkpoint_duration_ns = mr_counter_read(&c->duration_ns),
        .checkpoint_bytes = mr_counter_read(&c->bytes),
        .checkpoint_broken = atomic_load_explicit(&c->broken, memory_order_relaxed),
    };
}
