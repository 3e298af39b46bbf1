/* SPDX-License-Identifier: Apache-2.0 */
/* Sequencer, for checkpoints: its part of one, and the log's old segments that one has made unneeded. */
#include "base/bug.h"
#include "base/pack.h"
#include "base/report.h"
#include "pipeline/stations.h"

/* The sequencer's part of a checkpoint: the state behind the bundle s->seq. Its log must be durable before its manifest
 * says so: with log.sync off it is synced here, which takes as long as one group commit. A shadow's log is another
 * process's: whether it has all of this is looked at when the checkpoint is put to use (pipeline/promote.h). */
void mr_sequencer_seal(struct mr_sequencer *s, struct mr_checkpoint *k) {
    const struct mr_plan *plan = s->pipeline->plan;
    struct mr_error error;
    bool durable = s->shadow || mr_log_sync(s->pipeline->log, &error) == MR_OK;
    k->manifest.seq = s->seq;
    k->manifest.lsn = durable ? s->lsn : 0;
    k->manifest.needed_lsn = durable ? mr_sequencer_needed_lsn(s) : 0;
    k->manifest.recorded_ms = s->recorded_ms;
    mr_pack_u64(&k->sequencer, mr_counter_read(&s->bundles));
    mr_pack_u64(&k->sequencer, mr_counter_read(&s->batches));
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        struct mr_watermark lost;
        mr_watermark_init(&lost);
        lost.last_event_recorded_ms = s->watermarks[i].last_event_recorded_ms;
        mr_watermark_save(MR_BUG(CHECKPOINT_NO_WATERMARK) ? &lost : &s->watermarks[i], &k->sequencer);
        mr_pack_u64(&k->sequencer, mr_counter_read(&s->received[i]));
        mr_pack_u64(&k->sequencer, mr_counter_read(&s->rejected[i]));
        mr_pack_u64(&k->sequencer, MR_BUG(UNDECIDED_NOT_SAVED) ? 0 : s->undecided[i].first_lsn);
        mr_pack_u64(&k->sequencer, s->undecided[i].last_lsn);
        mr_pack_u64(&k->sequencer, mr_counter_read(&s->undecided[i].events));
        mr_local_save(&s->locals[i], &k->sequencer);
    }
    uint64_t first_lsn = s->shadow ? 0 : mr_log_first_lsn(s->pipeline->log); /* places of records that are gone, are not saved */
    mr_redrives_save(&s->redrives, first_lsn, &k->redrives);
}

/* Old segments of the log go when a checkpoint has made them unneeded: one a step. */
enum mr_step mr_sequencer_trim(struct mr_sequencer *s) {
    struct mr_pipeline *p = s->pipeline;
    /* acquire: pairs with the release in say_done (checkpointer.c) */
    uint64_t needed = atomic_load_explicit(&p->checkpointer.needed_lsn, memory_order_acquire);
    if (p->log == NULL || needed <= s->trimmed_lsn) {
        return MR_STEP_IDLE;
    }
    struct mr_log_retention retention = p->retention;
    retention.needed_lsn = needed;
    bool by_time = p->retain_ms != INT64_MAX && s->recorded_ms != INT64_MIN;
    retention.before_ms = by_time ? s->recorded_ms - p->retain_ms : INT64_MIN;
    bool removed = false;
    struct mr_error error;
    enum mr_status status = mr_log_trim(p->log, &retention, &removed, &error);
    if (status != MR_OK) {
        char quoted[MR_ERROR_TEXT_MAX];
        mr_report(MR_LEVEL_WARN, "log_trim_failed", "reason=%s",
                  mr_report_value(error.text, quoted, sizeof quoted));
    }
    if (status != MR_OK || !removed) {
        s->trimmed_lsn = needed; /* again after the next checkpoint */
    }
    return MR_STEP_WORKED;
}
