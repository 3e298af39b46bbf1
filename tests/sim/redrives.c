/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/redrives.h"

#include "base/check.h"
#include "pipeline/dead_letters.h"
#include "pipeline/redrive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* One that is the pipeline's. */
struct sim_redrive {
    struct sim_world *world;
    struct mr_batch *batch;
    struct sim_redrive *next;
    struct sim_redrive **link; /* what points here */
};

/* ---- choice ---- */

struct choice {
    struct sim_random *random;
    uint32_t seen;
    struct mr_dead dead; /* json is ours */
};

static void choose(void *ctx, const struct mr_dead *entry) {
    struct choice *c = ctx;
    if (mr_redrive_refusal(entry->reason) != NULL || !sim_one_in(c->random, ++c->seen)) {
        return;
    }
    free((void *)(uintptr_t)c->dead.json.ptr);
    uint8_t *json = malloc(entry->json.len);
    MR_ASSERT(json != NULL);
    memcpy(json, entry->json.ptr, entry->json.len);
    c->dead = *entry;
    c->dead.json.ptr = json;
}

/* NULL: there is none, or it cannot be redriven. */
static struct mr_batch *make(struct sim_world *w, const struct mr_dead *dead) {
    struct mr_redrive_source *source = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error error;
    enum mr_status status =
        mr_redrive_source_open(virtual_disk_disk(w->disk), w->data.dir.log_dir, w->data.plan,
                               mr_counter_read(&mr_log_stats(w->data.log)->last_lsn), &source);
    MR_ASSERT(status == MR_OK);
    status = mr_redrive_make(source, dead, &batch, &error);
    mr_redrive_source_close(source);
    bool fine = status == MR_OK || status == MR_NOT_FOUND || status == MR_IO;
    if (!fine) {
        SIM_FAILS("a dead letter cannot be redriven: %s", error.text);
    }
    return status == MR_OK ? batch : NULL;
}

/* ---- answers ---- */

static void finish(struct sim_redrive *sent) {
    *sent->link = sent->next;
    if (sent->next != NULL) {
        sent->next->link = sent->link;
    }
    mr_batch_close(sent->batch);
    free(sent);
}

static void answered(struct mr_batch *batch, void *ctx) {
    struct sim_redrive *sent = ctx;
    struct sim_world *w = sent->world;
    if (batch->refusal == MR_REFUSAL_NONE && w->redriven_count < SIM_REDRIVEN_MAX) {
        w->redriven[w->redriven_count++] = (struct sim_redriven){
            batch->lsn, batch->redriven.lsn, batch->redriven.index, batch->verdicts[0]};
        sim_trace(w, batch->lsn * 31 + batch->verdicts[0]);
    }
    finish(sent);
}

void sim_redrives_step(struct sim_world *w) {
    struct choice c = {.random = &w->random};
    struct mr_dead_page page = {.stream = UINT32_MAX, .reason = -1, .limit = UINT32_MAX,
                                .last_lsn = mr_pipeline_dead_lsn(w->pipeline), .visit = choose, .ctx = &c};
    struct mr_error error;
    enum mr_status status =
        mr_dead_letters_read(virtual_disk_disk(w->disk), w->data.dir.dead_dir, &page, &error);
    struct mr_batch *batch = status == MR_OK && c.seen > 0 ? make(w, &c.dead) : NULL;
    free((void *)(uintptr_t)c.dead.json.ptr);
    if (batch == NULL) {
        return;
    }
    struct sim_redrive *sent = malloc(sizeof *sent);
    MR_ASSERT(sent != NULL);
    *sent = (struct sim_redrive){w, batch, w->redrives, &w->redrives};
    if (sent->next != NULL) {
        sent->next->link = &sent->next;
    }
    w->redrives = sent;
    batch->done = answered;
    batch->ctx = sent;
    if (!mr_pipeline_submit(w->pipeline, batch)) {
        finish(sent);
    }
}

uint32_t sim_redrives_under_way(const struct sim_world *w, uint32_t stream) {
    uint32_t count = 0;
    for (const struct sim_redrive *sent = w->redrives; sent != NULL; sent = sent->next) {
        count += sent->batch->stream == stream;
    }
    return count;
}

void sim_redrives_reclaim(struct sim_world *w, bool failed) {
    if (w->redrives != NULL && !failed) {
        SIM_FAILS("a closed pipeline kept a redrive");
    }
    while (w->redrives != NULL) {
        finish(w->redrives);
    }
}

void sim_redrives_forget(struct sim_world *w) {
    w->redriven_count = 0;
}

void sim_redrives_check(const struct sim_model *m) {
    const struct sim_world *w = m->world;
    uint64_t last_lsn = m->record_count == 0 ? 0 : m->records[m->record_count - 1].lsn;
    for (uint32_t i = 0; i < w->redriven_count; i++) {
        const struct sim_redriven *said = &w->redriven[i];
        if (said->lsn > last_lsn) {
            continue; /* the model stopped before */
        }
        const struct sim_record *r = sim_model_record(m, said->lsn);
        bool same = r != NULL && r->from_lsn == said->from_lsn && r->from_index == said->from_index;
        if (!same || r->verdicts[0] != said->verdict) {
            SIM_FAILS("record %" PRIu64 ": a redrive of (%" PRIu64 ", %u) was answered %c, model says %c", said->lsn,
                      said->from_lsn, said->from_index, said->verdict, same ? r->verdicts[0] : '-');
        }
    }
}
