/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint, the switch: from parts that are written to a manifest that counts (L9). The order is the whole of it:
 *
 *     parts synced ─▶ manifest written, synced, named, directory synced ─▶ read back ─▶ the oldest manifest goes, then its parts
 */
#include "base/bug.h"
#include "base/check.h"
#include "base/pack.h"
#include "pipeline/stations.h"

enum { RULES_BYTES_MAX = 1 << 20 };

static bool add_blob(struct mr_manifest *m, uint32_t kind, uint32_t shard, uint32_t stream,
                     const struct mr_buf *bytes) {
    struct mr_buf *blob = bytes->failed ? NULL : mr_manifest_add_blob(m, kind, shard, stream);
    if (blob == NULL) {
        return false;
    }
    mr_buf_append_bytes(blob, mr_buf_bytes(bytes));
    return !blob->failed;
}

static bool add_contents(struct mr_manifest *m, uint32_t stream, uint64_t from) {
    struct mr_buf *blob = mr_manifest_add_blob(m, MR_BLOB_CONTENTS, 0, stream);
    if (blob != NULL) {
        mr_pack_u64(blob, from);
    }
    return blob != NULL && !blob->failed;
}

static enum mr_status add_blobs(struct mr_checkpointer *c) {
    const struct mr_plan *plan = c->pipeline->plan;
    struct mr_checkpoint *k = c->current;
    struct mr_manifest *m = &k->manifest;
    struct mr_buf rules;
    mr_buf_init(&rules, RULES_BYTES_MAX);
    for (uint32_t i = 0; i < plan->rule_count; i++) {
        mr_pack_u64(&rules, plan->generations[i]);
        mr_pack_i64(&rules, plan->rules[i].final_floor_ms);
    }
    bool ok = add_blob(m, MR_BLOB_CONFIG, 0, 0, &plan->state_text) &&
              add_blob(m, MR_BLOB_RULES, 0, 0, &rules) &&
              add_blob(m, MR_BLOB_SEQUENCER, 0, 0, &k->sequencer) &&
              add_blob(m, MR_BLOB_REDRIVES, 0, 0, &k->redrives) &&
              add_blob(m, MR_BLOB_FLUSHER, 0, 0, &k->flusher);
    mr_buf_finish(&rules);
    for (uint32_t i = 0; ok && i < plan->stream_count; i++) {
        ok = !plan->streams[i].dedup.contents || add_contents(m, i, c->contents_from[i]);
    }
    for (uint32_t i = 0; ok && i < plan->shards; i++) {
        ok = add_blob(m, MR_BLOB_SHARD, i, 0, &k->shards[i]);
        for (uint32_t s = 0; ok && s < plan->stream_count; s++) {
            ok = add_blob(m, MR_BLOB_DEDUP, i, s, &k->dedups[i * plan->stream_count + s]);
        }
    }
    return ok ? MR_OK : MR_NO_MEMORY;
}

static enum mr_status sync_groups(struct mr_checkpointer *c, struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < c->pipeline->plan->shards; i++) {
        struct mr_part_writer *writer = c->groups[i];
        struct mr_manifest_part part = {.id = {.number = mr_part_number(writer),
                                               .incarnation = c->part_incarnation,
                                               .kind = MR_PART_GROUPS},
                                        .shard = i,
                                        .len = mr_part_len(writer)};
        status = MR_BUG(MANIFEST_FIRST) ? MR_OK : mr_part_sync(writer, error);
        if (status == MR_OK) {
            status = mr_manifest_add_part(&c->current->manifest, &part);
        }
    }
    return status;
}

/* Reads back what was written, as a start would: only then may what it replaces go. Of ids only what is new. */
static enum mr_status verify(struct mr_checkpointer *c, struct mr_error *error) {
    const struct mr_manifest *m = &c->current->manifest;
    struct mr_manifest read;
    mr_manifest_init(&read);
    enum mr_status status = mr_manifest_read(c->pipeline->disk, c->dir, m->number, &read, error);
    mr_manifest_finish(&read);
    for (uint32_t i = 0; status == MR_OK && i < m->part_count; i++) {
        const struct mr_manifest_part *part = &m->parts[i];
        uint64_t from = mr_part_has_ids(part) ? mr_lane_verified(c, part) : 0;
        if (from < part->len) {
            status = mr_part_verify(c->pipeline->disk, c->dir, &part->id, from, part->len, error);
        }
    }
    return status;
}

enum mr_status mr_checkpoint_switch(struct mr_checkpointer *c, struct mr_error *error) {
    if (c->current->manifest.lsn == 0 || c->current->flusher.failed) {
        return mr_error_set(error, MR_IO, "a log could not be synced");
    }
    (void)mr_error_set(error, MR_NO_MEMORY, "out of memory");
    enum mr_status status = add_blobs(c);
    if (status == MR_OK && !MR_BUG(MANIFEST_FIRST)) {
        status = mr_lanes_sync(c, error);
    }
    if (status == MR_OK) {
        status = sync_groups(c, error);
    }
    if (status == MR_OK && c->lanes_moved) {
        status = mr_error_set(error, MR_IO, "a part with ids failed and was written again");
    }
    if (status == MR_OK) {
        status = mr_manifest_write(c->pipeline->disk, c->dir, &c->current->manifest, error);
    }
    return status == MR_OK ? verify(c, error) : status;
}

static bool names_part(const struct mr_manifest *m, uint64_t number) {
    for (uint32_t i = 0; i < m->part_count; i++) {
        if (m->parts[i].id.number == number) {
            return true;
        }
    }
    return false;
}

enum mr_status mr_checkpoint_discard(struct mr_checkpointer *c, uint64_t number) {
    enum mr_status status = mr_manifest_remove(c->pipeline->disk, c->dir, number);
    return status == MR_OK ? mr_disk_sync_dir(c->pipeline->disk, c->dir) : status;
}

/* The oldest goes with the parts that nobody else names. What cannot be removed now is removed at the next start. */
void mr_checkpoint_retire(struct mr_checkpointer *c) {
    struct mr_manifest *oldest = &c->kept[0];
    bool gone = oldest->number != 0 && mr_checkpoint_discard(c, oldest->number) == MR_OK;
    for (uint32_t i = 0; gone && i < oldest->part_count; i++) {
        uint64_t number = oldest->parts[i].id.number;
        if (!names_part(&c->kept[1], number) && !names_part(&c->current->manifest, number)) {
            mr_discard_part(c, number);
        }
    }
    if (MR_BUG(OLD_CHECKPOINT_GONE) && c->kept[1].number != 0) {
        gone = mr_checkpoint_discard(c, c->kept[1].number) == MR_OK;
    }
    mr_manifest_finish(oldest);
    c->kept[0] = c->kept[1];
    c->kept[1] = c->current->manifest;
    mr_manifest_init(&c->current->manifest);
}
