/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Lift: from the accepted events of one bundle on one dedup shard to partial aggregates, one per
 * (rule, window, key).
 *
 * Idea        Combiner lifting and hot-key splitting in one step: events are spread over the shards
 *             by id, so each shard merges its part of a hot key here, and only the partial travels
 *             on.
 *
 *                 begin(seq) → batch(b1) → batch(b2) … → finish: one parcel for each combine shard
 *
 * Steps       For one batch, per rule that reads its stream: where, slice of its windows, lateness against the
 *             watermark as it stood before the bundle, encoded group key, slot in a table of partials, then
 *             each metric's column is added to the slots. First sight of a bundle's key allocates
 *             its partial.
 * Slices      A partial is of one slice: times that are in the same windows (aggregate/window.h), so that an event
 *             in a thousand sliding windows is added once here. window_start_ms of a partial is its slice's
 *             start; of a session rule the first event's time, and mr_session_extent begins its state.
 * Verdicts    Future (time > limit): L, whatever the rules. Late for every rule that would take it (where is
 *             true, and there is at least one such rule): L. Else A. Late for some rules only: A, counted late
 *             there, and a dead letter naming those rules.
 * Units       Times in ms; watermark INT64_MIN: nothing seen.
 * Owner       One shard thread; everything begins anew with begin.
 * Errors      MR_NO_MEMORY from batch or finish: the bundle cannot be processed; the caller stops
 *             the process (the log has it). Partials are bounded by the bundle's events x rules.
 * Cost        Goal: <= 30 ns per event and rule of one key column and two metrics.
 */
#include "aggregate/rule.h"
#include "base/partial.h"
#include "event/batch.h"

struct mr_lift;

/* What one batch did, per stream and per rule; added to by mr_lift_batch. */
struct mr_lift_counts {
    uint64_t accepted;
    uint64_t late;   /* verdict L, past: too late for all rules */
    uint64_t future; /* verdict L, ahead */
};

struct mr_lift_rule_counts {
    uint64_t filtered;
    uint64_t late; /* of accepted events */
};

/* rules: all rules of the plan, constant. stream_names for dead letters. */
enum mr_status mr_lift_open(const struct mr_rule *rules, uint32_t rule_count,
                            const struct mr_bytes *stream_names, uint32_t stream_count,
                            uint32_t shard, uint32_t shards, struct mr_lift **ret) MR_MUST_CHECK;
void mr_lift_close(struct mr_lift *lift);

void mr_lift_begin(struct mr_lift *lift, uint64_t seq);

/* order[0..count): the new events of this shard (not duplicates), ascending in request order. Sets
 * their verdicts in the batch to A or L. Appends dead letters to dead (base/dead.h). rule_counts
 * has rule_count entries; watermarks_ms one for each stream. */
enum mr_status mr_lift_batch(struct mr_lift *lift, struct mr_batch *batch, const uint32_t *order,
                             uint32_t count, const int64_t *watermarks_ms, int64_t time_limit_ms,
                             struct mr_buf *dead, uint32_t *dead_count,
                             struct mr_lift_counts *counts,
                             struct mr_lift_rule_counts *rule_counts) MR_MUST_CHECK;

/* Moves the partials into one parcel per combine shard: ret[shards], each never NULL (count may be
 * 0). */
enum mr_status mr_lift_finish(struct mr_lift *lift, struct mr_parcel **ret) MR_MUST_CHECK;

struct mr_parcel *mr_parcel_open(uint64_t seq, uint32_t origin);
void mr_parcel_close(struct mr_parcel *parcel); /* NULL is fine */
