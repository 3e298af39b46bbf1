/* SPDX-License-Identifier: Apache-2.0 */
/* Data: a pipeline run to its end here, on the way to another configuration. */
#include "pipeline/data.h"
#include "pipeline/plan_rule.h"
#include "pipeline/stations.h"

static void asked(struct mr_ask *ask, void *ctx) {
    (void)ask;
    *(bool *)ctx = true;
}

/* What a running node would wait for, trying again, is an error of a start. */
static enum mr_status stuck(const struct mr_pipeline *pipeline, struct mr_error *error) {
    if (pipeline->flusher.retry_ns != 0) {
        return mr_error_set(error, MR_IO, "results cannot be written: %s", mr_results_error_text(pipeline->results));
    }
    if (pipeline->checkpointer.retry_ns != 0) {
        return mr_error_set(
            error, MR_NO_SPACE,
            "a checkpoint has to be made before streams or rules change, and there is no room for it in "
            "%s: make room, and start again",
            pipeline->checkpointer.dir);
    }
    return MR_OK;
}

void mr_data_give_room(struct mr_plan *plan, const struct mr_config *at_hand) {
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        struct mr_dedup_options *dedup = &plan->streams[i].dedup;
        for (uint32_t k = 0; k < at_hand->stream_count && dedup->when_full == MR_WHEN_FULL_REJECT; k++) {
            uint64_t ids = mr_plan_share(at_hand->streams[k].dedup.ids, plan->shards);
            if (ids > dedup->ids_max && mr_bytes_equal(plan->streams[i].name, at_hand->streams[k].name)) {
                dedup->ids_max = ids;
            }
        }
    }
}

enum mr_status mr_data_run_to_checkpoint(struct mr_pipeline *pipeline, struct mr_error *error) {
    bool done = false;
    bool sent = false;
    enum mr_status status = MR_OK;
    struct mr_ask ask = {.kind = MR_ASK_CHECKPOINT, .done = asked, .ctx = &done};
    while (!done && status == MR_OK) {
        bool worked = false;
        for (uint32_t i = 0; i < mr_pipeline_stations(pipeline); i++) {
            worked = mr_pipeline_step(pipeline, i) || worked;
        }
        if (!sent && mr_pipeline_live(pipeline)) {
            sent = mr_pipeline_checkpoint(pipeline, &ask);
        }
        status = mr_pipeline_failure(pipeline, error);
        if (status == MR_OK && !worked && !done) {
            status = stuck(pipeline, error);
        }
    }
    mr_pipeline_close(pipeline); /* before the question goes */
    if (status == MR_OK && ask.status != MR_OK) {
        status = mr_error_set(error, ask.status, "the checkpoint before streams or rules change failed");
    }
    return status;
}
