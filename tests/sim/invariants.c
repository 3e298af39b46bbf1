/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/invariants.h"

#include "base/check.h"
#include "base/limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Beside its groups a rule has an overflow group for each window. */
enum { RULE_SLACK = 1 << 20 };

/* ---- I1 to I3 ---- */

static void check_ledger(struct sim_world *w, const struct mr_stream_stats *streams, bool settled) {
    for (uint32_t k = 0; k < w->settings.streams; k++) {
        const struct mr_stream_stats *s = &streams[k];
        uint64_t decided = s->accepted + s->duplicate + s->late + s->rejected;
        if (decided > s->received || (settled && decided != s->received)) {
            SIM_FAILS("received %" PRIu64 " = %" PRIu64 " + %" PRIu64 " + %" PRIu64 " + %" PRIu64 "%s",
                      s->received, s->accepted, s->duplicate, s->late, s->rejected,
                      settled ? " when settled" : "");
        }
    }
    const struct mr_plan *plan = w->data.plan;
    for (uint32_t i = 0; i < plan->rule_count && settled; i++) {
        struct mr_rule_stats r;
        if (plan->generations[i] != 0) {
            continue; /* it began later than the stream */
        }
        uint64_t accepted = 0;
        for (uint32_t k = 0; k < w->settings.streams; k++) {
            accepted += mr_rule_reads(&plan->rules[i], k) ? streams[k].accepted : 0;
        }
        mr_pipeline_rule_stats(w->pipeline, i, &r);
        if (accepted != r.applied + r.filtered + r.late + r.dropped) {
            SIM_FAILS("rule %u: accepted %" PRIu64 ", applied %" PRIu64 ", late %" PRIu64, i,
                      accepted, r.applied, r.late);
        }
    }
}

static void check_memory(const struct sim_world *w, const struct mr_stream_stats *streams) {
    const struct mr_plan *plan = w->data.plan;
    for (uint32_t k = 0; k < w->settings.streams; k++) {
        uint64_t ids_max = plan->streams[k].dedup.ids_max;
        uint64_t room = plan->shards * (ids_max + ids_max / 20 + 1);
        uint64_t bytes_max = plan->shards * mr_dedup_bytes_planned(&plan->streams[k].dedup);
        if (streams[k].dedup_ids > room || streams[k].dedup_bytes > bytes_max) {
            SIM_FAILS("dedup has %" PRIu64 " ids in %" PRIu64 " bytes; at most %" PRIu64 " in %" PRIu64,
                      streams[k].dedup_ids, streams[k].dedup_bytes, room, bytes_max);
        }
    }
    for (uint32_t i = 0; i < plan->rule_count; i++) {
        struct mr_rule_stats r;
        mr_pipeline_rule_stats(w->pipeline, i, &r);
        if (r.bytes > plan->shards * plan->rules[i].groups_bytes + RULE_SLACK) {
            SIM_FAILS("rule %u takes %" PRIu64 " bytes", i, r.bytes);
        }
    }
}

static void check_watermarks(struct sim_world *w, const struct mr_stream_stats *streams) {
    for (uint32_t k = 0; k < w->settings.streams; k++) {
        int64_t *floor_ms = &w->floor.watermark_ms[k];
        if (streams[k].watermark_ms < *floor_ms) {
            SIM_FAILS("the watermark went back from %" PRId64 " to %" PRId64, *floor_ms, streams[k].watermark_ms);
        }
        *floor_ms = streams[k].watermark_ms;
    }
}

void sim_invariants_check(struct sim_world *w) {
    struct mr_pipeline_stats p;
    struct mr_stream_stats streams[SIM_STREAMS];
    mr_pipeline_stats(w->pipeline, &p);
    for (uint32_t k = 0; k < w->settings.streams; k++) {
        mr_pipeline_stream_stats(w->pipeline, k, &streams[k]);
    }
    if (mr_pipeline_failure(w->pipeline, NULL) != MR_OK) {
        return; /* it stopped in the middle of something */
    }
    check_ledger(w, streams, p.processed_seq == p.last_seq);
    check_memory(w, streams);
    MR_ASSERT(p.submit_queue <= MR_SUBMIT_RING);
    uint64_t flushed_seq = mr_results_flushed_seq(w->store.results);
    if (flushed_seq < w->floor.flushed_seq) {
        SIM_FAILS("the store went back from bundle %" PRIu64 " to %" PRIu64, w->floor.flushed_seq,
                  flushed_seq);
    }
    w->floor.flushed_seq = flushed_seq;
    if (mr_pipeline_live(w->pipeline)) { /* else replay is on the way to where it was */
        check_watermarks(w, streams);
    }
}

/* ---- I4 ---- */

struct rows {
    struct sim_row *items;
    uint32_t count;
    uint32_t cap;
    uint32_t rule;
};

static bool add_row(void *ctx, const struct mr_pane *pane) {
    struct rows *rows = ctx;
    if (rows->count == rows->cap) {
        rows->cap = rows->cap == 0 ? 256 : rows->cap * 2;
        rows->items = realloc(rows->items, rows->cap * sizeof *rows->items);
        MR_ASSERT(rows->items != NULL);
    }
    rows->items[rows->count++] = (struct sim_row){.rule = rows->rule,
                                                  .key_hash = (uint32_t)mr_hash64(pane->key, 0),
                                                  .window_ms = pane->window_start_ms,
                                                  .revision = pane->revision,
                                                  .events = pane->events,
                                                  .final = pane->final};
    return true;
}

static bool same_row(const struct sim_row *a, const struct sim_row *b) {
    return a->rule == b->rule && a->window_ms == b->window_ms && a->key_hash == b->key_hash;
}

static void compare_row(const struct sim_row *before, const struct sim_row *now, bool may_shrink) {
    bool sound = now->revision >= before->revision && (may_shrink || now->events >= before->events) &&
                 (now->final || !before->final) &&
                 (now->revision != before->revision || now->events == before->events);
    if (!sound) {
        SIM_FAILS("rule %u window %" PRId64 ": revision %" PRIu64 ", %" PRIu64 " events%s became %" PRIu64
                  ", %" PRIu64 "%s",
                  now->rule, now->window_ms, before->revision, before->events,
                  before->final ? ", final" : "", now->revision, now->events, now->final ? ", final" : "");
    }
}

/* Sessions are retracted while they are not final, and begin again. Where panes discard, a row is final by the end that its
 * session had then, and the session may have gone on. */
static bool may_go(const struct sim_world *w, const struct sim_row *row) {
    const struct sim_rule *rule = &w->settings.rule[row->rule];
    return rule->kind == MR_CONFIG_SESSION && (!row->final || rule->panes == MR_CONFIG_DISCARDING);
}

/* Both lists are in the store's order, which new rows do not change. */
void sim_invariants_check_store(struct sim_world *w) {
    struct rows now = {.rule = 0};
    for (now.rule = 0; now.rule < w->store.rule_count; now.rule++) {
        mr_memory_results_each(w->store.results, now.rule, add_row, &now);
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < w->floor.row_count; i++) {
        const struct sim_row *before = &w->floor.rows[i];
        uint32_t found = at;
        while (found < now.count && !same_row(&now.items[found], before)) {
            found++;
        }
        if (found < now.count) {
            compare_row(before, &now.items[found], may_go(w, before));
            at = found;
        } else if (!may_go(w, before)) {
            SIM_FAILS("rule %u window %" PRId64 ": a stored row is gone", before->rule, before->window_ms);
        }
    }
    free(w->floor.rows);
    w->floor.rows = now.items;
    w->floor.row_count = now.count;
}

/* ---- what begins again ---- */

void sim_invariants_forget_store(struct sim_world *w) {
    free(w->floor.rows);
    w->floor.rows = NULL;
    w->floor.row_count = 0;
    w->floor.flushed_seq = 0;
}

void sim_invariants_forget_log(struct sim_world *w) {
    for (uint32_t k = 0; k < SIM_STREAMS; k++) {
        w->floor.watermark_ms[k] = INT64_MIN;
    }
}

void sim_invariants_collect(struct sim_world *w) {
    struct mr_pipeline_stats p;
    mr_pipeline_stats(w->pipeline, &p);
    for (uint32_t k = 0; k < w->settings.streams; k++) {
        struct mr_stream_stats s;
        mr_pipeline_stream_stats(w->pipeline, k, &s);
        w->probes[SIM_PROBE_IDS_EXPIRED] += s.dedup_expired;
        w->probes[SIM_PROBE_IDS_EVICTED] += s.dedup_evicted;
    }
    w->probes[SIM_PROBE_CLOCK_HELD] += p.clock_jumps;
    w->probes[SIM_PROBE_REPLAYED] += p.replayed_events;
    w->probes[SIM_PROBE_CHECKPOINT_MADE] += p.checkpoints;
    w->probes[SIM_PROBE_LOG_TRIMMED] += mr_log_first_lsn(w->data.log) > 1;
    const struct mr_log_stats *log = mr_log_stats(w->data.log);
    w->probes[SIM_PROBE_SEGMENT_POISONED] +=
        mr_counter_read(&log->sync_failures) > 0 && !mr_log_failed(w->data.log);
}
