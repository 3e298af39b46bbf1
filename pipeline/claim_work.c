/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "pipeline/stations.h"

/* One block: the work, the order of the ids to claim, their outcomes. */
struct mr_claim_work *mr_claim_work_open(struct mr_batch *batch, const uint8_t *taken) {
    size_t cap = batch->order_count;
    struct mr_claim_work *work = mr_alloc_zero(1, sizeof *work + cap * (sizeof(uint32_t) + 1));
    if (work == NULL) {
        return NULL;
    }
    work->batch = batch;
    work->order = (uint32_t *)(void *)(work + 1);
    uint32_t count = 0;
    for (uint32_t k = 0; k < batch->order_count; k++) {
        uint32_t event = batch->order[k];
        bool has_id = batch->has_id == NULL || batch->has_id[event];
        if (has_id && (taken == NULL || !mr_verdicts_is_taken(taken, event))) {
            work->order[count++] = event;
        }
    }
    work->claim = (struct mr_claim){
        .stream = batch->stream,
        .recorded_ms = batch->recorded_ms,
        .lsn = batch->lsn,
        .ids = batch->fps,
        .order = work->order,
        .count = count,
        .again = taken != NULL,
        .outcomes = (uint8_t *)(work->order + cap),
        .ctx = work,
    };
    return work;
}

void mr_claim_work_close(struct mr_claim_work *work) {
    mr_free(work);
}
