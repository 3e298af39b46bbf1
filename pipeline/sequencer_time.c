/* SPDX-License-Identifier: Apache-2.0 */
/* Sequencer: recorded time, and the watermarks that follow from it. */
#include "aggregate/window.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/report.h"
#include "pipeline/stations.h"

enum {
    CLOCK_SLACK_MS = 60 * 1000,       /* recorded time may run ahead of monotonic time by this */
    CLOCK_REBASE_MS = 10 * 60 * 1000, /* so often the two are compared anew: slow drift is no jump */
};

int64_t mr_sequencer_now(struct mr_sequencer *s) {
    struct mr_clock *clock = s->pipeline->clock;
    int64_t wall_ms = mr_clock_wall_ms(clock);
    uint64_t mono_ns = mr_clock_mono_ns(clock);
    int64_t elapsed_ms = (int64_t)((mono_ns - s->clock_base_ns) / 1000000);
    int64_t steady_ms = s->clock_base_ms + elapsed_ms;
    if (wall_ms > steady_ms + CLOCK_SLACK_MS) {
        mr_counter_add(&s->clock_jumps, 1);
        mr_report(MR_LEVEL_ERROR, "clock_jumped_ahead",
                  "wall_ms=%lld steady_ms=%lld action=\"recorded time follows the monotonic clock; "
                  "restart to accept the new time\"",
                  (long long)wall_ms, (long long)steady_ms);
        wall_ms = steady_ms;
    } else if (elapsed_ms > CLOCK_REBASE_MS) {
        s->clock_base_ms = wall_ms;
        s->clock_base_ns = mono_ns;
    }
    return wall_ms > s->recorded_ms ? wall_ms : s->recorded_ms;
}

/* Arrival times become the recorded time; returns the greatest time that may move the watermark. */
static int64_t settle_times(struct mr_batch *batch, int64_t recorded_ms, int64_t limit_ms) {
    if (batch->arrivals == 0 && batch->time_max_ms <= limit_ms) {
        return batch->time_max_ms;
    }
    int64_t max_ms = INT64_MIN;
    for (uint32_t k = 0; k < batch->order_count; k++) {
        int64_t *time_ms = &batch->times_ms[batch->order[k]];
        if (*time_ms == MR_TIME_ARRIVAL) {
            *time_ms = recorded_ms;
        }
        if (*time_ms <= limit_ms && *time_ms > max_ms) {
            max_ms = *time_ms;
        }
    }
    return max_ms;
}

/* A stream that has never had an event holds the rules that read it with others: not for longer than one that has fallen
 * silent, from the first event of one of those on. */
static void note_partners(struct mr_sequencer *s) {
    const struct mr_plan *plan = s->pipeline->plan;
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        uint64_t partners = plan->streams[i].partners;
        for (uint32_t k = 0; partners >> k != 0 && s->watermarks[i].last_event_recorded_ms == INT64_MIN; k++) {
            if ((partners >> k & 1) != 0 && s->watermarks[k].time_max_ms != INT64_MIN) {
                s->watermarks[i].last_event_recorded_ms = s->recorded_ms;
            }
        }
    }
}

/* Where events tell their sources apart; a source that is no text is the one without a name. */
static enum mr_status observe_sources(struct mr_sequencer *s, const struct mr_batch *batch, int64_t limit_ms) {
    const struct mr_column *column = &batch->column[s->pipeline->plan->streams[batch->stream].source_column];
    struct mr_watermark *w = &s->watermarks[batch->stream];
    enum mr_status status = MR_OK;
    for (uint32_t k = 0; k < batch->order_count && status == MR_OK; k++) {
        uint32_t e = batch->order[k];
        bool named = column->kinds[e] == MR_VALUE_STRING || column->kinds[e] == MR_VALUE_DIGITS;
        struct mr_bytes source = named ? mr_batch_text(batch, column->values[e]) : MR_BYTES("");
        if (batch->times_ms[e] <= limit_ms) {
            status = mr_watermark_observe_source(w, source, batch->times_ms[e], s->recorded_ms);
        }
    }
    return status;
}

/* After the bundle's events. A stream that waits for verdicts is not idle, though some of its sources may be. */
static void tick(struct mr_sequencer *s, uint32_t stream) {
    struct mr_watermark *w = &s->watermarks[stream];
    bool waits = s->undecided[stream].first_lsn != 0;
    if (!s->ended && !(waits && w->source_count == 0)) {
        mr_watermark_tick(w, &s->pipeline->plan->streams[stream].watermark,
                          waits ? w->last_event_recorded_ms : s->recorded_ms);
    }
}

enum mr_status mr_sequencer_move_watermarks(struct mr_sequencer *s, struct mr_bundle *bundle) {
    const struct mr_plan *plan = s->pipeline->plan;
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        bundle->watermarks_before[i] = s->watermarks[i].watermark_ms;
    }
    for (uint32_t k = 0; k < bundle->batch_count; k++) {
        struct mr_batch *batch = bundle->batches[k];
        const struct mr_watermark_options *o = &plan->streams[batch->stream].watermark;
        int64_t limit_ms = MR_BUG(FUTURE_MOVES_WATERMARK) ? INT64_MAX
                                                          : mr_watermark_limit(o, s->recorded_ms);
        int64_t arrival_ms = batch->taken == NULL ? s->recorded_ms : batch->recorded_ms;
        int64_t max_ms = settle_times(batch, arrival_ms, limit_ms);
        if (plan->streams[batch->stream].source_column != MR_NO_COLUMN && status == MR_OK) {
            status = observe_sources(s, batch, limit_ms);
        }
        mr_watermark_observe(&s->watermarks[batch->stream], o, max_ms, s->recorded_ms);
        if (batch->local) {
            mr_sequencer_note_local(s, bundle, batch);
        }
    }
    if (status == MR_OK) {
        status = mr_sequencer_apply_advance(s);
    }
    note_partners(s);
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        tick(s, i);
        int64_t after_ms = s->watermarks[i].watermark_ms;
        MR_ASSERT(after_ms >= bundle->watermarks_before[i]);
        bundle->watermarks_after[i] = after_ms;
        atomic_store_explicit(&s->watermark_ms[i], after_ms, memory_order_relaxed);
    }
    return status;
}

/* The earliest event time that a rule of the stream would still take. */
static int64_t floor_of(const struct mr_plan *plan, uint32_t stream, int64_t watermark_ms) {
    int64_t reach_ms = 0;
    for (uint32_t i = 0; i < plan->rule_count; i++) {
        const struct mr_rule *rule = &plan->rules[i];
        int64_t rules_ms = mr_window_reach_ms(rule);
        reach_ms = mr_rule_reads(rule, stream) && rules_ms > reach_ms ? rules_ms : reach_ms;
    }
    return watermark_ms < INT64_MIN + reach_ms ? INT64_MIN : watermark_ms - reach_ms;
}

void mr_sequencer_note_local(struct mr_sequencer *s, const struct mr_bundle *bundle, const struct mr_batch *batch) {
    const struct mr_plan *plan = s->pipeline->plan;
    int64_t floor_ms = floor_of(plan, batch->stream, bundle->watermarks_before[batch->stream]);
    int64_t limit_ms = mr_watermark_limit(&plan->streams[batch->stream].watermark, s->recorded_ms);
    struct mr_local_span span = {batch->recorded_ms, s->recorded_ms, INT64_MAX, INT64_MIN};
    for (uint32_t k = 0; k < batch->order_count; k++) {
        int64_t time_ms = batch->times_ms[batch->order[k]];
        if (time_ms >= floor_ms && time_ms <= limit_ms) {
            span.event_from_ms = time_ms < span.event_from_ms ? time_ms : span.event_from_ms;
            span.event_to_ms = time_ms > span.event_to_ms ? time_ms : span.event_to_ms;
        }
    }
    (void)pthread_mutex_lock(&s->local_lock); /* cannot fail: not recursive, and initialized */
    mr_local_add(&s->locals[batch->stream], &span, batch->order_count);
    (void)pthread_mutex_unlock(&s->local_lock);
}

/* Whether a window of the rule closes, or becomes final, when the clock shows now_ms and nothing comes. */
static bool rule_is_due(const struct mr_sequencer *s, const struct mr_rule *rule, int64_t now_ms) {
    const struct mr_plan *plan = s->pipeline->plan;
    int64_t watermark_ms = INT64_MAX;
    int64_t target_ms = INT64_MAX;
    int64_t time_max_ms = INT64_MIN;
    for (uint32_t i = 0; i < rule->input_count; i++) {
        uint32_t stream = rule->inputs[i].stream;
        const struct mr_watermark *w = &s->watermarks[stream];
        bool waits = s->undecided[stream].first_lsn != 0;
        int64_t at_ms = waits ? w->watermark_ms : mr_watermark_at(w, &plan->streams[stream].watermark, now_ms);
        watermark_ms = w->watermark_ms < watermark_ms ? w->watermark_ms : watermark_ms;
        target_ms = at_ms < target_ms ? at_ms : target_ms;
        time_max_ms = w->time_max_ms > time_max_ms ? w->time_max_ms : time_max_ms;
    }
    return target_ms > watermark_ms && mr_window_next_due(rule, watermark_ms, time_max_ms) <= target_ms;
}

/* Whether groups of the rule may wait for the clock to fire early. */
static bool early_is_due(const struct mr_sequencer *s, const struct mr_rule *rule, int64_t now_ms) {
    for (uint32_t i = 0; i < rule->input_count && rule->trigger.early_ms > 0; i++) {
        int64_t last_ms = s->watermarks[rule->inputs[i].stream].last_event_recorded_ms;
        if (last_ms != INT64_MIN && now_ms > s->recorded_ms && last_ms + rule->trigger.early_ms > s->recorded_ms) {
            return true;
        }
    }
    return false;
}

bool mr_sequencer_due(const struct mr_sequencer *s, int64_t now_ms) {
    const struct mr_plan *plan = s->pipeline->plan;
    for (uint32_t i = 0; i < plan->rule_count; i++) {
        if (rule_is_due(s, &plan->rules[i], now_ms) || early_is_due(s, &plan->rules[i], now_ms)) {
            return true;
        }
    }
    return false;
}
