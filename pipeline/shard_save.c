/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shard, for checkpoints: ids go to the checkpointer as they are judged, in chunks; when a barrier passes, the dedup
 * half says where it stands, and the groups of the combine half follow in slices while work goes on.
 *
 *     dedup half    … ids │ ids │ barrier: ids, SEALED │ ids …
 *     combine half                    barrier: walk begins │ GROUPS │ GROUPS │ … │ DONE
 *
 * A list stands between the shard and the ring, because a bundle may have more chunks than the ring has room; while
 * something is on the list no further bundle is judged, so the list is bounded by one bundle's ids.
 */
#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/pack.h"
#include "pipeline/stations.h"

enum {
    WALK_GROUPS = 256,
    SLICE_BYTES_MAX = 1 << 30,
    WAKE_SAVES = 16, /* chunks of ids that are worth waking the checkpointer for */
};

void mr_save_close(struct mr_save *save) {
    if (save != NULL) {
        mr_free(save->chunk);
        mr_buf_finish(&save->groups);
        mr_free(save);
    }
}

static struct mr_save *open_save(enum mr_save_kind kind) {
    struct mr_save *save = mr_alloc_zero(1, sizeof *save);
    if (save != NULL) {
        save->kind = kind;
        mr_buf_init(&save->groups, SLICE_BYTES_MAX);
    }
    return save;
}

static void add_save(struct mr_shard *shard, struct mr_save *save) {
    *(shard->save_first == NULL ? &shard->save_first : &shard->save_last->next) = save;
    shard->save_last = save;
}

/* A few chunks of ids need not wake the checkpointer: it looks twice a second, and ids are wanted on disk when a
 * checkpoint is made, whose SEALED wakes it. */
bool mr_shard_push_saves(struct mr_shard *shard) {
    bool wanted = false;
    while (shard->save_first != NULL && !mr_ring_full(shard->saves)) {
        struct mr_save *save = shard->save_first;
        shard->save_first = save->next;
        save->next = NULL;
        wanted = wanted || save->kind != MR_SAVE_IDS || mr_ring_len(shard->saves) + 1 >= WAKE_SAVES;
        bool room = mr_ring_push(shard->saves, save);
        MR_ASSERT(room); /* only we push */
    }
    if (wanted) {
        mr_event_count_signal(&shard->pipeline->checkpointer.wake);
    }
    return shard->save_first == NULL;
}

/* Takes the chunks over; out of memory, those that are left are freed: the caller ends the pipeline. */
static enum mr_status add_chunks(struct mr_shard *shard, uint32_t stream,
                                 struct mr_dedup_chunk *chunk) {
    enum mr_status status = MR_OK;
    while (chunk != NULL) {
        struct mr_dedup_chunk *rest = chunk->next;
        chunk->next = NULL;
        struct mr_save *save = status == MR_OK ? open_save(MR_SAVE_IDS) : NULL;
        if (MR_BUG(CHECKPOINT_LOSES_IDS) && rest == NULL && save != NULL) {
            mr_save_close(save);
            mr_free(chunk);
        } else if (save == NULL) {
            status = MR_NO_MEMORY;
            mr_free(chunk);
        } else {
            save->stream = stream;
            save->chunk = chunk;
            add_save(shard, save);
        }
        chunk = rest;
    }
    return status;
}

enum mr_status mr_shard_keep_ids(struct mr_shard *shard, bool all) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < shard->pipeline->plan->stream_count; i++) {
        status = add_chunks(shard, i, mr_dedup_take(shard->dedup[i], all));
    }
    return status;
}

static void pack_counters(const struct mr_shard *shard, struct mr_buf *ret) {
    const struct mr_plan *plan = shard->pipeline->plan;
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        const struct mr_shard_stream *s = &shard->streams[i];
        mr_pack_u64(ret, mr_counter_read(&s->accepted));
        mr_pack_u64(ret, mr_counter_read(&s->duplicate));
        mr_pack_u64(ret, mr_counter_read(&s->late));
        mr_pack_u64(ret, mr_counter_read(&s->future));
        mr_pack_u64(ret, mr_counter_read(&s->observed));
    }
    for (uint32_t i = 0; i < plan->rule_count; i++) {
        mr_pack_u64(ret, mr_counter_read(&shard->rules[i].filtered));
        mr_pack_u64(ret, mr_counter_read(&shard->rules[i].late));
    }
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        for (uint32_t k = 0; k < MR_REDRIVE_VERDICTS; k++) {
            mr_pack_u64(ret, mr_counter_read(&shard->streams[i].redriven[k]));
        }
    }
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        mr_pack_u64(ret, mr_counter_read(&shard->streams[i].conflicts));
    }
}

enum mr_status mr_shard_seal(struct mr_shard *shard, struct mr_checkpoint *checkpoint) {
    uint32_t streams = shard->pipeline->plan->stream_count;
    enum mr_status status = mr_shard_keep_ids(shard, true);
    pack_counters(shard, &checkpoint->shards[shard->index]);
    for (uint32_t i = 0; i < streams; i++) {
        mr_dedup_save(shard->dedup[i], &checkpoint->dedups[shard->index * streams + i]);
    }
    struct mr_save *save = status == MR_OK ? open_save(MR_SAVE_SEALED) : NULL;
    if (save == NULL) {
        return MR_NO_MEMORY;
    }
    add_save(shard, save);
    return MR_OK;
}

enum mr_step mr_shard_walk(struct mr_shard *shard) {
    if (shard->walking == NULL) {
        return MR_STEP_IDLE;
    }
    if (shard->save_first != NULL || mr_ring_full(shard->saves)) {
        return MR_STEP_BLOCKED;
    }
    struct mr_save *save = open_save(MR_SAVE_GROUPS);
    if (save == NULL) {
        mr_pipeline_fail(shard->pipeline, MR_NO_MEMORY, "out of memory saving groups");
        return MR_STEP_IDLE;
    }
    bool done = false;
    enum mr_status status = mr_combine_save(shard->combine, WALK_GROUPS, &save->groups, &done);
    if (status != MR_OK || done) {
        save->kind = MR_SAVE_DONE;
        save->failed = status != MR_OK; /* what was saved so far is thrown away; the next one may fit */
        shard->walking = NULL;
    }
    if (save->failed) {
        mr_combine_save_stop(shard->combine);
    }
    add_save(shard, save);
    (void)mr_shard_push_saves(shard); /* there is room */
    return MR_STEP_WORKED;
}
