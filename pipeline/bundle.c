/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/check.h"
#include "pipeline/stations.h"

enum { DEAD_BYTES_MAX = 1 << 30 };

/* One block: the bundle, then its arrays, all of 8-byte things. */
struct mr_bundle *mr_bundle_open(const struct mr_plan *plan, enum mr_bundle_kind kind,
                                 uint32_t batch_count) {
    size_t watermarks = plan->stream_count * sizeof(int64_t);
    size_t parts = plan->shards * sizeof(struct mr_bundle_part);
    size_t batches = batch_count * sizeof(struct mr_batch *);
    struct mr_bundle *bundle = mr_alloc_zero(1, sizeof *bundle + 2 * watermarks + parts + batches);
    if (bundle == NULL) {
        return NULL;
    }
    uint8_t *at = (uint8_t *)(bundle + 1);
    bundle->kind = kind;
    bundle->watermarks_before = (int64_t *)(void *)at;
    bundle->watermarks_after = (int64_t *)(void *)(at + watermarks);
    bundle->parts = (struct mr_bundle_part *)(void *)(at + 2 * watermarks);
    bundle->batches = (struct mr_batch **)(void *)(at + 2 * watermarks + parts);
    bundle->batch_count = batch_count;
    for (uint32_t i = 0; i < plan->shards; i++) {
        mr_buf_init(&bundle->parts[i].dead, DEAD_BYTES_MAX);
    }
    atomic_init(&bundle->dedup_left, plan->shards);
    atomic_init(&bundle->combine_left, plan->shards);
    return bundle;
}

void mr_bundle_close(struct mr_bundle *bundle, const struct mr_plan *plan) {
    for (uint32_t i = 0; i < plan->shards; i++) {
        mr_buf_finish(&bundle->parts[i].dead);
    }
    mr_free(bundle);
}

void mr_batch_refuse(struct mr_batch *batch, enum mr_refusal refusal) {
    MR_ASSERT(refusal != MR_REFUSAL_NONE);
    MR_ASSERT(batch->done != NULL);
    batch->refusal = refusal;
    batch->done(batch, batch->ctx);
}
