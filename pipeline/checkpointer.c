/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpointer: writes ids as they come, and now and then everything else, so that a start need not replay the whole
 * log (L9). The only station that writes into the checkpoint directory.
 *
 *     saves[0..S-1] ──▶ ids: lanes                   (all the time)
 *                  ──▶ groups: one part a shard      (while a checkpoint is being made)
 *
 *     due ─▶ barrier asked ─▶ all shards SEALED and DONE, flusher has stored ─▶ sync ─▶ manifest ─▶ verify ─▶ old ones go
 *
 * A checkpoint that fails is given up and another one is made later; the ids stay in their lanes. Ids that cannot be
 * written (no space) wait, and the shards behind them; ids lost to the disk (two parts failed) end checkpoints until a
 * restart: the log has everything, a start replays from the last one that is complete.
 */
#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/pack.h"
#include "base/report.h"
#include "pipeline/restore.h"
#include "pipeline/stations.h"

#include <inttypes.h>

enum {
    BLOB_BYTES_MAX = 64 << 20,
    SAVES_A_STEP = 16,
    PENDING_BYTES_MAX = 16 << 20, /* of ids not yet synced, and of groups between two syncs */
    RETRY_NS = 1000 * 1000 * 1000,
    POLL_NS = 500 * 1000 * 1000,
};

static struct mr_disk *disk_of(const struct mr_checkpointer *c) {
    return c->pipeline->disk;
}

/* ---- a checkpoint under way ---- */

static void close_current(struct mr_checkpointer *c) {
    struct mr_checkpoint *k = c->current;
    const struct mr_plan *plan = c->pipeline->plan;
    if (k == NULL) {
        return;
    }
    for (uint32_t i = 0; k->shards != NULL && i < plan->shards; i++) {
        mr_buf_finish(&k->shards[i]);
    }
    for (uint32_t i = 0; k->dedups != NULL && i < plan->shards * plan->stream_count; i++) {
        mr_buf_finish(&k->dedups[i]);
    }
    mr_buf_finish(&k->sequencer);
    mr_buf_finish(&k->redrives);
    mr_buf_finish(&k->flusher);
    mr_manifest_finish(&k->manifest);
    mr_free(k->shards);
    mr_free(k->dedups);
    mr_free(k);
    c->current = NULL;
}

static struct mr_buf *open_bufs(uint32_t count) {
    struct mr_buf *bufs = mr_alloc_zero(count, sizeof *bufs);
    for (uint32_t i = 0; bufs != NULL && i < count; i++) {
        mr_buf_init(&bufs[i], BLOB_BYTES_MAX);
    }
    return bufs;
}

/* The flusher's thread, or whoever closes the pipeline. */
static void barrier_passed(struct mr_ask *ask, void *ctx) {
    struct mr_pipeline *p = ctx;
    struct mr_checkpoint *k = ask->checkpoint;
    if (!ask->closed) {
        struct mr_error error;
        mr_pack_u64(&k->flusher, p->flusher.dead_seq);
        k->dead_lsn = p->dead == NULL ? 0 : mr_log_last_lsn(p->dead);
        mr_pack_u64(&k->flusher, k->dead_lsn);
        /* With log.sync off: what the manifest names must be durable before it. */
        if (p->dead != NULL && mr_log_sync(p->dead, &error) != MR_OK) {
            k->flusher.failed = true;
        }
    }
    /* release: pairs with the acquire in is_gathered */
    atomic_store_explicit(&k->flushed, true, memory_order_release);
    mr_event_count_signal(&p->checkpointer.wake);
}

static struct mr_checkpoint *open_current(struct mr_checkpointer *c) {
    const struct mr_plan *plan = c->pipeline->plan;
    struct mr_checkpoint *k = mr_alloc_aligned(MR_CACHE_LINE, sizeof *k);
    if (k == NULL) {
        return NULL;
    }
    memset(k, 0, sizeof *k);
    mr_manifest_init(&k->manifest);
    mr_buf_init(&k->sequencer, BLOB_BYTES_MAX);
    mr_buf_init(&k->redrives, BLOB_BYTES_MAX);
    mr_buf_init(&k->flusher, BLOB_BYTES_MAX);
    k->ask = (struct mr_ask){.kind = MR_ASK_CHECKPOINT,
                             .done = barrier_passed,
                             .ctx = c->pipeline,
                             .checkpoint = k};
    atomic_init(&k->flushed, false);
    c->current = k;
    k->shards = open_bufs(plan->shards);
    k->dedups = open_bufs(plan->shards * plan->stream_count);
    if (k->shards == NULL || k->dedups == NULL) {
        close_current(c);
        return NULL;
    }
    return k;
}

static void fail_current(struct mr_checkpointer *c, const char *what, const char *reason) {
    if (c->failed) {
        return;
    }
    c->failed = true;
    mr_counter_add(&c->failures, 1);
    char quoted[MR_ERROR_TEXT_MAX];
    mr_report(MR_LEVEL_ERROR, "checkpoint_failed",
              "what=%s reason=%s action=\"another one is made later; until then a restart replays more\"",
              what, mr_report_value(reason, quoted, sizeof quoted));
}

/* Ids are lost to the disk. */
static void give_up(struct mr_checkpointer *c, const char *reason) {
    atomic_store_explicit(&c->broken, true, memory_order_relaxed);
    char quoted[MR_ERROR_TEXT_MAX];
    mr_report(MR_LEVEL_ERROR, "checkpoints_stopped",
              "reason=%s action=\"no more checkpoints until a restart; nothing is lost, the log has everything\"",
              mr_report_value(reason, quoted, sizeof quoted));
}

static bool is_broken(const struct mr_checkpointer *c) {
    return atomic_load_explicit(&c->broken, memory_order_relaxed);
}

static uint64_t now_ns(const struct mr_checkpointer *c) {
    return mr_clock_mono_ns(c->pipeline->clock);
}

static bool is_due(const struct mr_checkpointer *c) {
    if (c->waiting != NULL) {
        return true;
    }
    uint64_t last = atomic_load_explicit(&c->pipeline->sequencer.last_seq, memory_order_relaxed);
    return last > mr_counter_read(&c->seq) && now_ns(c) - c->begun_ns >= c->every_ns;
}

static void answer(struct mr_ask **list, enum mr_status status, uint64_t seq, uint64_t number) {
    while (*list != NULL) {
        struct mr_ask *ask = *list;
        *list = ask->next;
        ask->status = status;
        ask->seq = seq;
        ask->number = number;
        ask->done(ask, ask->ctx);
    }
}

static enum mr_step begin(struct mr_checkpointer *c) {
    c->begun_ns = now_ns(c);
    c->served = c->waiting;
    c->waiting = NULL;
    c->failed = false;
    c->lanes_moved = false;
    c->sealed = 0;
    c->done = 0;
    if (open_current(c) == NULL) {
        fail_current(c, "begin", "out of memory");
        answer(&c->served, MR_NO_MEMORY, 0, 0);
        return MR_STEP_WORKED;
    }
    c->current->manifest.number = c->next_manifest++;
    const struct mr_sequencer *s = &c->pipeline->sequencer;
    c->current->manifest.incarnation = s->shadow ? s->shadow_incarnation : mr_log_incarnation(c->pipeline->log);
    c->current->manifest.shards = c->pipeline->plan->shards;
    c->asked = false;
    c->phase = MR_CHECKPOINT_GATHERING;
    return MR_STEP_WORKED;
}

/* ---- what comes from the shards ---- */

static void seal(struct mr_checkpointer *c, uint32_t shard) {
    struct mr_checkpoint *k = c->current;
    uint32_t streams = c->pipeline->plan->stream_count;
    c->sealed++;
    for (uint32_t i = 0; i < streams && !c->failed; i++) {
        const struct mr_buf *saved = &k->dedups[shard * streams + i];
        uint64_t first = 0;
        enum mr_status status = saved->failed ? MR_NO_MEMORY
                                              : mr_dedup_saved_first(mr_buf_bytes(saved), &first);
        if (status == MR_OK) {
            status = mr_lane_list(c, shard, i, first, &k->manifest);
        }
        if (status != MR_OK) {
            fail_current(c, "ids", mr_status_text(status));
        }
    }
}

static void write_groups(struct mr_checkpointer *c, uint32_t shard, struct mr_save *save) {
    struct mr_part_writer **writer = &c->groups[shard];
    struct mr_error error = {.text = "out of memory"};
    enum mr_status status = save->failed || save->groups.failed ? MR_NO_MEMORY : MR_OK;
    if (status == MR_OK && *writer == NULL) {
        struct mr_part_id id = {.number = c->next_part++,
                                .incarnation = c->part_incarnation,
                                .kind = MR_PART_GROUPS};
        status = mr_part_create(disk_of(c), c->dir, &id, writer, &error);
        if (status != MR_OK) {
            *writer = NULL;
            mr_discard_part(c, id.number); /* nothing counts on it */
        }
    }
    if (status == MR_OK && save->groups.len > 0) {
        status = mr_part_append(*writer, shard, mr_buf_bytes(&save->groups), &error);
    }
    if (status == MR_OK && mr_part_len(*writer) - mr_part_synced(*writer) > PENDING_BYTES_MAX) {
        status = mr_part_sync(*writer, &error);
    }
    if (status != MR_OK) {
        fail_current(c, "groups", error.text);
    }
}

/* Ids are kept whether or not a checkpoint is being made. MR_AGAIN: the disk is full. */
static enum mr_status keep_ids(struct mr_checkpointer *c, uint32_t shard, struct mr_save *save) {
    struct mr_error error = {.text = ""};
    struct mr_dedup_chunk *chunk = save->chunk;
    enum mr_status status = MR_OK;
    save->chunk = NULL;
    if (is_broken(c)) {
        mr_free(chunk);
        return MR_OK;
    }
    status = mr_lane_append(c, shard, save->stream, chunk, &error);
    if (status == MR_NO_SPACE) {
        save->chunk = chunk;
        c->retry_ns = now_ns(c) + RETRY_NS;
        mr_report(MR_LEVEL_ERROR, "checkpoint_disk_full",
                  "action=\"ingest waits; trying again in 1 s\"");
        return MR_AGAIN;
    }
    if (status == MR_OK && c->pending_bytes > PENDING_BYTES_MAX) {
        status = mr_lanes_sync(c, &error);
    }
    if (status == MR_NO_SPACE) {
        return MR_OK; /* they are kept in memory still: the next sync tries again */
    }
    if (status != MR_OK) {
        give_up(c, error.text);
        fail_current(c, "ids", error.text);
    }
    return MR_OK;
}

static enum mr_status take_save(struct mr_checkpointer *c, uint32_t shard, struct mr_save *save) {
    switch (save->kind) {
    case MR_SAVE_IDS:
        return keep_ids(c, shard, save);
    case MR_SAVE_SEALED:
        seal(c, shard);
        return MR_OK;
    case MR_SAVE_GROUPS:
    case MR_SAVE_DONE:
        if (!c->failed) {
            write_groups(c, shard, save);
        }
        c->done += save->kind == MR_SAVE_DONE;
        return MR_OK;
    }
    MR_UNREACHABLE();
}

static enum mr_step take_saves(struct mr_checkpointer *c) {
    uint32_t shards = c->pipeline->plan->shards;
    uint32_t taken = 0;
    for (uint32_t i = 0; i < shards; i++) {
        struct mr_shard *shard = &c->pipeline->shards[i];
        for (uint32_t n = 0; n < SAVES_A_STEP; n++) {
            struct mr_save *save = c->stuck[i] != NULL ? c->stuck[i] : mr_ring_pop(shard->saves);
            c->stuck[i] = NULL;
            if (save == NULL) {
                break;
            }
            mr_event_count_signal_blocked(&shard->wake);
            if (take_save(c, i, save) == MR_AGAIN) {
                c->stuck[i] = save;
                return MR_STEP_IDLE;
            }
            mr_save_close(save);
            taken++;
        }
    }
    return taken > 0 ? MR_STEP_WORKED : MR_STEP_IDLE;
}

/* ---- the switch ---- */

static bool is_gathered(const struct mr_checkpointer *c) {
    uint32_t shards = c->pipeline->plan->shards;
    if (c->sealed < shards || c->done < shards) {
        return false;
    }
    /* acquire: pairs with the release in barrier_passed */
    return MR_BUG(CHECKPOINT_BEFORE_FLUSH) ||
           atomic_load_explicit(&c->current->flushed, memory_order_acquire);
}

static uint64_t bytes_on_disk(const struct mr_manifest *m) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->part_count; i++) {
        bytes += m->parts[i].len;
    }
    return bytes;
}

static void say_done(struct mr_checkpointer *c) {
    const struct mr_manifest *m = &c->kept[1];
    mr_counter_add(&c->checkpoints, 1);
    mr_counter_set(&c->seq, m->seq);
    mr_counter_set(&c->recorded_ms, (uint64_t)m->recorded_ms);
    mr_counter_set(&c->duration_ns, now_ns(c) - c->begun_ns);
    mr_counter_set(&c->bytes, bytes_on_disk(m));
    /* release: pairs with the acquire in mr_sequencer_step: the manifest that makes it true is durable. While there is
     * one only, a start must be able to do without it. */
    uint64_t needed = c->kept[0].number == 0 ? 1 : c->kept[0].needed_lsn;
    needed = needed < m->needed_lsn ? needed : m->needed_lsn;
    if (MR_BUG(LOG_TRIMMED_EARLY)) {
        needed = m->lsn + 1;
    }
    atomic_store_explicit(&c->needed_lsn, needed, memory_order_release);
    mr_event_count_signal(&c->pipeline->sequencer.wake);
    /* Dead letters go only behind two checkpoints of this run: then no start reads on from below the first of them. */
    c->dead_lsns[0] = c->dead_lsns[1];
    c->dead_lsns[1] = c->current->dead_lsn;
    if (c->dead_lsns[0] > 0) {
        atomic_store_explicit(&c->dead_needed_lsn, c->dead_lsns[0] + 1, memory_order_relaxed);
    }
}

static void drop_groups(struct mr_checkpointer *c, bool remove) {
    for (uint32_t i = 0; i < c->pipeline->plan->shards; i++) {
        if (c->groups[i] != NULL && remove) {
            mr_discard_part(c, mr_part_number(c->groups[i]));
        }
        mr_part_close(c->groups[i]);
        c->groups[i] = NULL;
    }
}

static void finish(struct mr_checkpointer *c) {
    struct mr_error error = {.text = ""};
    uint64_t number = c->current->manifest.number;
    enum mr_status status = c->failed ? MR_IO : mr_checkpoint_switch(c, &error);
    if (status != MR_OK) {
        fail_current(c, "switch", error.text);
        /* Parts of a manifest that will not go stay as well: it is whole, and may be found. */
        drop_groups(c, mr_checkpoint_discard(c, number) == MR_OK);
        answer(&c->served, status, 0, 0);
    } else {
        mr_lanes_verified(c);
        mr_checkpoint_retire(c);
        drop_groups(c, false);
        say_done(c);
        answer(&c->served, MR_OK, c->kept[1].seq, number);
    }
    close_current(c);
    c->phase = MR_CHECKPOINT_IDLE;
}

/* ---- the station ---- */

static void take_requests(struct mr_checkpointer *c) {
    struct mr_ask *ask;
    while ((ask = mr_ring_pop(c->requests)) != NULL) {
        ask->next = c->waiting;
        c->waiting = ask;
    }
    if (c->waiting != NULL && (c->dir == NULL || is_broken(c))) {
        answer(&c->waiting, MR_UNSUPPORTED, 0, 0);
    }
}

enum mr_step mr_checkpointer_step(struct mr_checkpointer *c) {
    take_requests(c);
    if (c->retry_ns != 0 && now_ns(c) < c->retry_ns) {
        return MR_STEP_IDLE;
    }
    c->retry_ns = 0;
    enum mr_step step = take_saves(c);
    if (c->dir == NULL || c->retry_ns != 0) {
        return step;
    }
    if (c->phase == MR_CHECKPOINT_IDLE) {
        return !is_broken(c) && is_due(c) ? begin(c) : step;
    }
    if (!c->asked) {
        c->asked = mr_pipeline_ask(c->pipeline, &c->current->ask);
        return c->asked ? MR_STEP_WORKED : step;
    }
    if (is_gathered(c)) {
        finish(c);
        return MR_STEP_WORKED;
    }
    return step;
}

uint64_t mr_checkpointer_sleep_ns(const struct mr_checkpointer *c) {
    return c->dir == NULL ? UINT64_MAX : POLL_NS;
}

/* ---- life ---- */

static enum mr_status adopt_kept(struct mr_manifest *kept, const struct mr_manifest *from) {
    mr_manifest_init(kept);
    kept->number = from->number;
    kept->seq = from->seq;
    kept->lsn = from->lsn;
    kept->needed_lsn = from->needed_lsn;
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < from->part_count; i++) {
        status = mr_manifest_add_part(kept, &from->parts[i]);
    }
    return status;
}

static enum mr_status allocate(struct mr_checkpointer *c) {
    const struct mr_plan *plan = c->pipeline->plan;
    c->requests = mr_ring_open(MR_ASK_RING);
    c->groups = mr_alloc_zero(plan->shards, sizeof(struct mr_part_writer *));
    c->stuck = mr_alloc_zero(plan->shards, sizeof(struct mr_save *));
    c->lanes = mr_alloc_zero(plan->shards * plan->stream_count, sizeof *c->lanes);
    c->contents_from = mr_alloc_zero(plan->stream_count, sizeof *c->contents_from);
    return c->requests != NULL && c->groups != NULL && c->stuck != NULL && c->lanes != NULL && c->contents_from != NULL
               ? MR_OK
               : MR_NO_MEMORY;
}

enum mr_status mr_checkpointer_open(struct mr_pipeline *pipeline, const char *dir,
                                    const struct mr_restored *restored, struct mr_error *error) {
    struct mr_checkpointer *c = &pipeline->checkpointer;
    c->pipeline = pipeline;
    c->dir = dir;
    mr_event_count_init(&c->wake);
    mr_manifest_init(&c->kept[0]);
    mr_manifest_init(&c->kept[1]);
    c->next_manifest = 1;
    c->next_part = 1;
    c->begun_ns = now_ns(c);
    uint64_t run[3] = {c->begun_ns, (uint64_t)mr_clock_wall_ms(pipeline->clock),
                       restored == NULL ? 0 : restored->next_part};
    c->part_incarnation = mr_hash64(mr_bytes_of(run, sizeof run),
                                    pipeline->log == NULL ? 0 : mr_log_incarnation(pipeline->log));
    enum mr_status status = allocate(c);
    if (status == MR_OK && restored != NULL) {
        c->next_manifest = restored->next_manifest;
        c->next_part = restored->next_part;
        status = adopt_kept(&c->kept[0], &restored->before);
        if (status == MR_OK) {
            status = adopt_kept(&c->kept[1], &restored->newest);
        }
        mr_counter_set(&c->seq, restored->newest.seq);
        mr_counter_set(&c->recorded_ms, (uint64_t)restored->newest.recorded_ms);
        mr_counter_set(&c->bytes, bytes_on_disk(&restored->newest));
    }
    return status == MR_OK ? MR_OK
                           : mr_error_set(error, status, "out of memory opening the checkpointer");
}

static void close_asks(struct mr_ask *list) {
    while (list != NULL) {
        struct mr_ask *ask = list;
        list = ask->next;
        ask->closed = true;
        ask->status = MR_CLOSED;
        ask->done(ask, ask->ctx);
    }
}

void mr_checkpointer_close(struct mr_checkpointer *c) {
    if (c->pipeline == NULL) {
        return;
    }
    if (c->requests != NULL) {
        struct mr_ask *ask;
        while ((ask = mr_ring_pop(c->requests)) != NULL) {
            ask->next = c->waiting;
            c->waiting = ask;
        }
    }
    close_asks(c->waiting);
    close_asks(c->served);
    if (c->groups != NULL) {
        drop_groups(c, false);
    }
    for (uint32_t i = 0; c->stuck != NULL && i < c->pipeline->plan->shards; i++) {
        mr_save_close(c->stuck[i]);
    }
    close_current(c);
    mr_lanes_close(c);
    mr_manifest_finish(&c->kept[0]);
    mr_manifest_finish(&c->kept[1]);
    mr_ring_close(c->requests);
    mr_free(c->groups);
    mr_free(c->stuck);
    mr_free(c->contents_from);
}
