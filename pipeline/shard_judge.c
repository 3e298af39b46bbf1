/* SPDX-License-Identifier: Apache-2.0 */
/* Shard, dedup half: one batch: which of its ids were seen before, and the others lifted. */
#include "aggregate/dead_letter.h"
#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/dead.h"
#include "base/json.h"
#include "pipeline/stations.h"

static bool grow_scratch(struct mr_shard *shard, uint32_t count) {
    if (count <= shard->scratch_cap) {
        return true;
    }
    uint32_t cap = count < 1024 ? 1024 : count;
    mr_free(shard->duplicate);
    mr_free(shard->fresh);
    mr_free(shard->own);
    mr_free(shard->contents);
    shard->duplicate = mr_alloc(cap);
    shard->fresh = mr_alloc(cap * sizeof *shard->fresh);
    shard->own = mr_alloc(cap);
    shard->contents = mr_alloc(cap * sizeof *shard->contents);
    bool ok = shard->duplicate != NULL && shard->fresh != NULL && shard->own != NULL && shard->contents != NULL;
    shard->scratch_cap = ok ? cap : 0;
    return ok;
}

/* duplicate: by k, what was found, and 0 for those that are new. */
static void judge_ids(struct mr_shard *shard, const struct mr_batch *batch, const uint32_t *order, uint32_t count,
                      uint8_t *duplicate) {
    struct mr_dedup *dedup = shard->dedup[batch->stream];
    if (!shard->pipeline->plan->streams[batch->stream].dedup.contents) {
        mr_dedup_judge(dedup, batch->fps, order, count, duplicate);
    } else {
        mr_conflicts_hash(shard, batch, order, count);
        mr_dedup_judge_contents(dedup, batch->fps, shard->contents, order, count, duplicate);
    }
}

/* Judges only those with an id; the others are never duplicates. */
static void judge_some(struct mr_shard *shard, const struct mr_batch *batch, const uint32_t *order,
                       uint32_t count, uint8_t *duplicate) {
    for (uint32_t k = 0; k < count; k++) {
        duplicate[k] = 0;
        if (batch->has_id[order[k]]) {
            judge_ids(shard, batch, &order[k], 1, &duplicate[k]);
        }
    }
}

/* The age of one duplicate stands for those of its request: a request sent again is the common case. */
static void sample_age(struct mr_shard *shard, const struct mr_batch *batch, uint32_t event,
                       uint32_t duplicates, int64_t recorded_ms) {
    int64_t from_ms;
    int64_t to_ms;
    int64_t until_ms;
    if (!mr_dedup_seen(shard->dedup[batch->stream], batch->fps[event], &from_ms, &to_ms, &until_ms)) {
        return;
    }
    to_ms = to_ms < recorded_ms ? to_ms : recorded_ms;
    int64_t seen_ms = from_ms + (to_ms - from_ms) / 2;
    mr_histogram_add_many(&shard->streams[batch->stream].duplicate_age_ms,
                          recorded_ms > seen_ms ? (uint64_t)(recorded_ms - seen_ms) : 0, duplicates);
}

/* Writes verdict D and lists the events that are new; returns how many. */
static uint32_t sort_out(struct mr_shard *shard, struct mr_batch *batch, const uint32_t *order,
                         uint32_t count, int64_t recorded_ms) {
    bool observe = shard->pipeline->plan->streams[batch->stream].observe;
    uint32_t fresh = 0;
    uint32_t duplicates = 0;
    uint32_t last = 0;
    for (uint32_t k = 0; k < count; k++) {
        bool duplicate = shard->duplicate[k] != 0;
        duplicates += duplicate;
        last = duplicate ? order[k] : last;
        if (duplicate && !observe) {
            batch->verdicts[order[k]] = MR_VERDICT_DUPLICATE;
        } else {
            shard->fresh[fresh++] = order[k];
        }
    }
    struct mr_shard_stream *stream = &shard->streams[batch->stream];
    mr_counter_add(observe ? &stream->observed : &stream->duplicate, duplicates);
    if (duplicates > 0) {
        sample_age(shard, batch, last, duplicates, recorded_ms);
    }
    return fresh;
}

static enum mr_status judge_here(struct mr_shard *shard, const struct mr_bundle *bundle,
                                 const struct mr_batch *batch, const uint32_t *order, uint32_t count,
                                 uint8_t *duplicate) {
    struct mr_dedup *dedup = shard->dedup[batch->stream];
    if (mr_dedup_room(dedup, bundle->recorded_ms) < count) {
        /* Live, the sequencer has made sure of room; in replay dedup.ids may be smaller than it was. */
        mr_pipeline_fail(shard->pipeline, MR_FULL,
                         "the log holds more live ids than dedup.ids has room for: raise dedup.ids");
        return MR_FULL;
    }
    if (mr_dedup_reserve(dedup, count) != MR_OK) {
        return MR_NO_MEMORY;
    }
    if (batch->has_id == NULL) {
        judge_ids(shard, batch, order, count, duplicate);
    } else {
        judge_some(shard, batch, order, count, duplicate);
    }
    return MR_OK;
}

/* A shared store has said what is another's. With outage local this node remembers what it counts itself, and nothing
 * else: what it takes for a duplicate while the store is away, it has counted, and may claim afterwards. */
static enum mr_status judge_claimed(struct mr_shard *shard, const struct mr_bundle *bundle,
                                    const struct mr_batch *batch, const uint32_t *order, uint32_t count) {
    uint32_t mine = 0;
    for (uint32_t k = 0; k < count; k++) {
        shard->duplicate[k] = mr_verdicts_is_taken(batch->taken, order[k]);
        shard->fresh[mine] = order[k];
        mine += shard->duplicate[k] == 0;
    }
    bool remembers = shard->pipeline->plan->streams[batch->stream].local && !MR_BUG(LOCAL_NOT_REMEMBERED);
    if (!remembers || mine == 0) {
        return MR_OK;
    }
    uint8_t *duplicate = shard->own;
    enum mr_status status = judge_here(shard, bundle, batch, shard->fresh, mine, duplicate);
    for (uint32_t k = 0; status == MR_OK && k < count; k++) {
        if (shard->duplicate[k] == 0) {
            shard->duplicate[k] = *duplicate++;
        }
    }
    return status;
}

/*
 * A redriven event that was too far ahead is in the table already: it was remembered when it went to the dead letters, so
 * that its copies are duplicates, and must not be one of itself. It passes that claim by, and no other: an id first seen
 * later than the record that the redrive names is a copy's, which came when the event's own claim was forgotten.
 *
 *     from_ms <= first_ms        its own claim stands: it passes
 *     from_ms >  first_ms        a copy was taken since: a duplicate
 *     not remembered             forgotten, and no copy came: new, and remembered from now on
 *
 * So it counts once whatever the horizon is, was, or became, and no redrive must be refused for its age. (A table that
 * evicts its oldest ids may forget a claim and take a copy within one generation; its stream gives up exactness then.)
 */
static bool passes_its_claim(const struct mr_shard *shard, const struct mr_batch *batch, uint32_t event) {
    int64_t from_ms;
    int64_t to_ms;
    int64_t until_ms;
    bool has_id = batch->has_id == NULL || batch->has_id[event];
    return batch->redriven.future && has_id &&
           mr_dedup_seen(shard->dedup[batch->stream], batch->fps[event], &from_ms, &to_ms, &until_ms) &&
           from_ms <= batch->redriven.first_ms;
}

static enum mr_status judge_redriven(struct mr_shard *shard, const struct mr_bundle *bundle,
                                     const struct mr_batch *batch, const uint32_t *order, uint32_t count) {
    MR_ASSERT(count <= 1 && batch->count == 1);
    if (count == 1 && !MR_BUG(REDRIVEN_IS_ITS_COPY) && passes_its_claim(shard, batch, order[0])) {
        shard->duplicate[0] = 0;
        return MR_OK;
    }
    return judge_here(shard, bundle, batch, order, count, shard->duplicate);
}

/* One shard has it; a rejected one is shard 0's. */
static void count_redriven(struct mr_shard *shard, const struct mr_batch *batch, const uint32_t *order,
                           uint32_t count) {
    mr_counter *redriven = shard->streams[batch->stream].redriven;
    if (batch->rejected > 0 && shard->index == 0) {
        mr_counter_add(&redriven[MR_REDRIVE_REJECTED], 1);
    } else if (count == 1) {
        uint8_t verdict = batch->verdicts[order[0]];
        mr_counter_add(&redriven[verdict == MR_VERDICT_ACCEPTED    ? MR_REDRIVE_ACCEPTED
                                 : verdict == MR_VERDICT_DUPLICATE ? MR_REDRIVE_DUPLICATE
                                                                   : MR_REDRIVE_LATE], 1);
    }
}

static const char *reject_code(const struct mr_batch *batch, uint32_t index) {
    for (uint32_t i = 0; i < batch->error_count; i++) {
        if (batch->errors[i].index == index) {
            return mr_reject_code(batch->errors[i].reject);
        }
    }
    return "rejected"; /* beyond the listed errors */
}

/* Shard 0 keeps the rejected events, which have no shard of their own: those that are in no shard's order. (Their
 * verdict bytes say it too, but lie among those that other shards are writing.) */
static enum mr_status keep_rejected(struct mr_shard *shard, struct mr_bundle *bundle,
                                    const struct mr_batch *batch) {
    if (!grow_scratch(shard, batch->count)) {
        return MR_NO_MEMORY;
    }
    uint8_t *judged = shard->duplicate;
    memset(judged, 0, batch->count);
    for (uint32_t k = 0; k < batch->order_count; k++) {
        judged[batch->order[k]] = 1;
    }
    struct mr_bundle_part *part = &bundle->parts[shard->index];
    struct mr_bytes stream = shard->pipeline->plan->streams[batch->stream].name;
    for (uint32_t i = 0; i < batch->count; i++) {
        if (judged[i] != 0) {
            continue;
        }
        size_t at = mr_dead_begin(&part->dead, batch->stream, MR_DEAD_REJECTED);
        struct mr_json json;
        mr_json_init(&json, &part->dead);
        mr_json_object_begin(&json);
        mr_json_key(&json, "reason");
        mr_json_text(&json, mr_dead_reason_text(MR_DEAD_REJECTED));
        mr_json_key(&json, "code");
        mr_json_text(&json, reject_code(batch, i));
        mr_dead_letter_place(&json, stream, batch->lsn, i);
        mr_json_key(&json, "raw");
        mr_json_string(&json, mr_batch_event(batch, i));
        mr_json_object_end(&json);
        mr_dead_end(&part->dead, at);
        part->dead_count++;
    }
    return MR_OK;
}

static void count_lifted(struct mr_shard *shard, uint32_t stream, const struct mr_lift_counts *counts,
                         const struct mr_lift_rule_counts *rule_counts) {
    struct mr_shard_stream *s = &shard->streams[stream];
    mr_counter_add(&s->accepted, counts->accepted);
    mr_counter_add(&s->late, counts->late + counts->future);
    mr_counter_add(&s->future, counts->future);
    for (uint32_t i = 0; i < shard->pipeline->plan->rule_count; i++) {
        mr_counter_add(&shard->rules[i].filtered, rule_counts[i].filtered);
        mr_counter_add(&shard->rules[i].late, rule_counts[i].late);
    }
}

enum mr_status mr_shard_judge(struct mr_shard *shard, struct mr_bundle *bundle, struct mr_batch *batch) {
    const struct mr_plan_stream *plan = &shard->pipeline->plan->streams[batch->stream];
    const uint32_t *order = batch->order + batch->shard_start[shard->index];
    uint32_t count = batch->shard_start[shard->index + 1] - batch->shard_start[shard->index];
    if (!grow_scratch(shard, count)) {
        return MR_NO_MEMORY;
    }
    enum mr_status status = batch->taken != NULL ? judge_claimed(shard, bundle, batch, order, count)
                            : batch->redriven.lsn != 0
                                ? judge_redriven(shard, bundle, batch, order, count)
                                : judge_here(shard, bundle, batch, order, count, shard->duplicate);
    if (status != MR_OK) {
        return status;
    }
    if (plan->dedup.contents) {
        mr_conflicts_keep(shard, bundle, batch, order, count);
    }
    uint32_t fresh = sort_out(shard, batch, order, count, bundle->recorded_ms);
    struct mr_bundle_part *part = &bundle->parts[shard->index];
    struct mr_lift_counts counts = {0};
    struct mr_lift_rule_counts rule_counts[MR_RULES_MAX] = {0};
    status = mr_lift_batch(shard->lift, batch, shard->fresh, fresh,
                           bundle->watermarks_before,
                           mr_watermark_limit(&plan->watermark, bundle->recorded_ms), &part->dead,
                           &part->dead_count, &counts, rule_counts);
    if (status == MR_OK) {
        MR_ASSERT(counts.accepted + counts.late + counts.future == fresh);
        count_lifted(shard, batch->stream, &counts, rule_counts);
    }
    if (status == MR_OK && batch->redriven.lsn != 0) {
        count_redriven(shard, batch, order, count);
    }
    if (status == MR_OK && shard->index == 0 && batch->rejected > 0) {
        status = keep_rejected(shard, bundle, batch);
    }
    return status;
}
