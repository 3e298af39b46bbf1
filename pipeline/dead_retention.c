/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dead retention: segments of the dead-letter log older than log.retain go, and the oldest while it takes more than
 * log.retain_bytes, under the same words as the log itself. The newest stays, and what a start may read on from: how far
 * dead letters are written is known from the log's last records, or from a checkpoint.
 */
#include "base/report.h"
#include "pipeline/stations.h"

enum mr_step mr_flusher_trim_dead(struct mr_flusher *f) {
    struct mr_pipeline *p = f->pipeline;
    /* relaxed: a number that only grows */
    uint64_t needed = atomic_load_explicit(&p->checkpointer.dead_needed_lsn, memory_order_relaxed);
    if (p->dead == NULL || needed <= f->dead_trimmed_lsn) {
        return MR_STEP_IDLE;
    }
    struct mr_log_retention retention = {
        .needed_lsn = needed, .before_ms = INT64_MIN, .bytes_max = p->retention.bytes_max};
    if (p->retain_ms != INT64_MAX) {
        retention.before_ms = mr_clock_wall_ms(p->clock) - p->retain_ms;
    }
    bool removed = false;
    struct mr_error error;
    enum mr_status status = mr_log_trim(p->dead, &retention, &removed, &error);
    if (status != MR_OK) {
        char quoted[MR_ERROR_TEXT_MAX];
        mr_report(MR_LEVEL_WARN, "dead_letters_trim_failed", "reason=%s",
                  mr_report_value(error.text, quoted, sizeof quoted));
    }
    mr_counter_add(&f->dead_segments_removed, status == MR_OK && removed);
    if (status != MR_OK || !removed) {
        f->dead_trimmed_lsn = needed; /* again after the next checkpoint */
    }
    return MR_STEP_WORKED;
}
