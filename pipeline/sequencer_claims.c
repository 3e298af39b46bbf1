/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequencer, for events whose ids a shared store decides: they go to the claimer when they are in the log, come back
 * decided, in the order of the log, and take effect in the bundle that says so.
 *
 *     append EVENTS ──▶ claimer ──▶ decided ──▶ append VERDICTS ──▶ dispatch
 */
#include "base/bug.h"
#include "base/check.h"
#include "pipeline/stations.h"

/* ---- what is undecided ---- */

void mr_undecided_add(struct mr_undecided *undecided, uint64_t lsn, uint32_t events) {
    MR_ASSERT(lsn > undecided->last_lsn);
    undecided->first_lsn = undecided->first_lsn == 0 ? lsn : undecided->first_lsn;
    undecided->last_lsn = lsn;
    mr_counter_add(&undecided->events, events);
}

void mr_undecided_remove(struct mr_undecided *undecided, uint64_t lsn, uint32_t events) {
    MR_ASSERT(undecided->first_lsn != 0 && lsn >= undecided->first_lsn && lsn <= undecided->last_lsn);
    undecided->first_lsn = lsn == undecided->last_lsn ? 0 : lsn + 1;
    uint64_t left = mr_counter_read(&undecided->events);
    MR_ASSERT(left >= events);
    mr_counter_set(&undecided->events, left - events);
}

uint64_t mr_sequencer_needed_lsn(const struct mr_sequencer *s) {
    uint64_t needed = s->lsn + 1;
    for (uint32_t i = 0; i < s->pipeline->plan->stream_count && !MR_BUG(UNDECIDED_TRIMMED); i++) {
        uint64_t first = s->undecided[i].first_lsn;
        needed = first != 0 && first < needed ? first : needed;
    }
    return needed;
}

/* ---- to the claimer ---- */

void mr_sequencer_hand_over(struct mr_sequencer *s, struct mr_batch *batch) {
    struct mr_claimer *claimer = &s->pipeline->claimer;
    mr_undecided_add(&s->undecided[batch->stream], batch->lsn, batch->count);
    mr_counter_add(&s->received[batch->stream], batch->count);
    mr_counter_add(&s->batches, 1);
    batch->recorded_ms = s->recorded_ms;
    bool pushed = mr_ring_push(claimer->in, batch);
    MR_ASSERT(pushed); /* gather has looked, and only we push */
    mr_event_count_signal(&claimer->wake);
}

/* ---- from the claimer ---- */

static void pull(struct mr_sequencer *s) {
    struct mr_claimer *claimer = &s->pipeline->claimer;
    while (s->decided_count < MR_BUNDLE_BATCHES_MAX) {
        struct mr_batch *batch = mr_ring_pop(claimer->out);
        if (batch == NULL) {
            break;
        }
        s->decided[s->decided_count++] = batch;
        mr_event_count_signal_blocked(&claimer->wake);
    }
}

uint32_t mr_sequencer_take_decided(struct mr_sequencer *s) {
    if (s->pipeline->claimer.out == NULL) {
        return 0;
    }
    pull(s);
    uint32_t count = 0;
    uint64_t events = 0;
    uint64_t bytes = 0;
    while (count < s->decided_count) {
        const struct mr_batch *batch = s->decided[count];
        events += batch->count;
        bytes += mr_verdicts_len(batch->count);
        if (count > 0 && (events > MR_BUNDLE_EVENTS_MAX || bytes > MR_BUNDLE_BYTES_MAX)) {
            break;
        }
        s->group[count] = s->decided[count];
        count++;
    }
    if (count == 0 || !mr_log_has_room(s->pipeline->log, mr_record_size(bytes))) {
        return 0;
    }
    mr_buf_clear(&s->verdicts);
    mr_verdicts_pack_head(&s->verdicts, count);
    for (uint32_t k = 0; k < count; k++) {
        const struct mr_batch *batch = s->group[k];
        struct mr_verdicts entry = {batch->lsn, batch->count, batch->local, batch->taken};
        mr_verdicts_pack(&s->verdicts, &entry);
    }
    if (s->verdicts.failed) {
        mr_pipeline_fail(s->pipeline, MR_NO_MEMORY, "out of memory in the sequencer");
        return 0;
    }
    return count;
}

void mr_sequencer_decided_done(struct mr_sequencer *s, uint32_t count) {
    MR_ASSERT(count <= s->decided_count);
    for (uint32_t k = 0; k < count; k++) {
        const struct mr_batch *batch = s->decided[k];
        mr_undecided_remove(&s->undecided[batch->stream], batch->lsn, batch->count);
    }
    /* release: who sees it finds their VERDICTS in the log (mr_claimer_assert) */
    (void)atomic_fetch_add_explicit(&s->decided_logged, count, memory_order_release);
    s->decided_count -= count;
    memmove(s->decided, s->decided + count, s->decided_count * sizeof(struct mr_batch *));
}

void mr_sequencer_abandon_decided(struct mr_sequencer *s) {
    if (s->pipeline->claimer.out == NULL) {
        return;
    }
    for (pull(s); s->decided_count > 0; pull(s)) {
        while (s->decided_count > 0) {
            mr_batch_refuse(s->decided[--s->decided_count], MR_REFUSAL_UNDECIDED);
        }
    }
}
