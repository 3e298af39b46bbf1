/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes: the ids of each (stream, shard) on disk, in parts that are only appended to.
 *
 *     lane:  | part 3: done | part 9: done | part 12: being written ▒▒▒ not yet synced |
 *                                                                └ these chunks are kept until they are
 *
 * A part ends when it is large, or when time has moved on by some generations, so that forgotten ids leave the disk with
 * their part. A part that could not be written or synced is left as it is, up to what was synced before (TRAPS 12); the
 * chunks behind that go to a new one.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/report.h"
#include "pipeline/stations.h"

enum {
    PART_BYTES = 64 << 20,
    PART_SMALL = 1 << 20, /* below it a part takes several generations */
    PART_GENERATIONS = 4,
};

void mr_discard_part(const struct mr_checkpointer *c, uint64_t number) {
    enum mr_status status = mr_part_remove(c->pipeline->disk, c->dir, number);
    if (status != MR_OK) {
        mr_report(MR_LEVEL_DEBUG, "part_left", "number=%llu reason=\"%s\"", (unsigned long long)number,
                  mr_status_text(status));
    }
}

static struct mr_lane *lane_of(struct mr_checkpointer *c, uint32_t shard, uint32_t stream) {
    return &c->lanes[shard * c->pipeline->plan->stream_count + stream];
}

static enum mr_part_kind kind_of(const struct mr_checkpointer *c, uint32_t stream) {
    return c->pipeline->plan->streams[stream].dedup.contents ? MR_PART_CONTENTS : MR_PART_IDS;
}

/* Notes a part of which `len` bytes are durable. */
static enum mr_status add_part(struct mr_lane *lane, const struct mr_manifest_part *part,
                               uint64_t verified) {
    if (lane->part_count == lane->part_cap) {
        uint32_t cap = lane->part_cap == 0 ? 8 : lane->part_cap * 2;
        struct mr_lane_part *parts = mr_realloc(lane->parts, cap * sizeof *parts);
        if (parts == NULL) {
            return MR_NO_MEMORY;
        }
        lane->parts = parts;
        lane->part_cap = cap;
    }
    lane->parts[lane->part_count++] = (struct mr_lane_part){*part, verified};
    return MR_OK;
}

static struct mr_manifest_part part_of(const struct mr_checkpointer *c, const struct mr_lane *lane,
                                       uint32_t shard, uint32_t stream, uint64_t len) {
    return (struct mr_manifest_part){
        .id = {.number = mr_part_number(lane->writer),
               .incarnation = c->part_incarnation,
               .kind = kind_of(c, stream)},
        .shard = shard,
        .stream = stream,
        .tag = lane->writer_tag,
        .len = len,
    };
}

/* The lane's part takes no more; what is durable of it counts. */
static enum mr_status end_part(struct mr_checkpointer *c, struct mr_lane *lane, uint32_t shard,
                               uint32_t stream) {
    uint64_t synced = mr_part_synced(lane->writer);
    if (synced <= MR_PART_HEADER) {
        mr_discard_part(c, mr_part_number(lane->writer)); /* nothing in it counts */
    } else {
        struct mr_manifest_part part = part_of(c, lane, shard, stream, synced);
        enum mr_status status = add_part(lane, &part, lane->verified);
        if (status != MR_OK) {
            return status;
        }
    }
    mr_part_close(lane->writer);
    lane->writer = NULL;
    return MR_OK;
}

static void free_pending(struct mr_checkpointer *c, struct mr_lane *lane) {
    while (lane->first != NULL) {
        struct mr_dedup_chunk *chunk = lane->first;
        lane->first = chunk->next;
        c->pending_bytes -= mr_dedup_chunk_bytes(chunk);
        mr_free(chunk);
    }
    lane->last = NULL;
}

static enum mr_status sync_lane(struct mr_checkpointer *c, struct mr_lane *lane,
                                struct mr_error *error) {
    if (lane->first == NULL) {
        return MR_OK;
    }
    enum mr_status status = lane->writer == NULL
                                ? mr_error_set(error, MR_IO, "the part could not be made")
                                : mr_part_sync(lane->writer, error);
    if (status == MR_OK) {
        free_pending(c, lane);
    }
    return status;
}

static enum mr_status open_part(struct mr_checkpointer *c, struct mr_lane *lane, uint32_t stream, uint64_t tag,
                                struct mr_error *error) {
    struct mr_part_id id = {.number = c->next_part++,
                            .incarnation = c->part_incarnation,
                            .kind = kind_of(c, stream)};
    enum mr_status status =
        mr_part_create(c->pipeline->disk, c->dir, &id, &lane->writer, error);
    if (status != MR_OK) {
        lane->writer = NULL;
        mr_discard_part(c, id.number); /* nothing counts on it */
    }
    lane->writer_tag_first = tag;
    lane->writer_tag = tag;
    lane->verified = 0;
    return status;
}

static enum mr_status append_chunk(struct mr_lane *lane, const struct mr_dedup_chunk *chunk,
                                   struct mr_error *error) {
    enum mr_status status = mr_part_append(lane->writer, chunk->generation,
                                           mr_bytes_of(chunk->ids, mr_dedup_chunk_bytes(chunk)), error);
    if (status == MR_OK && chunk->generation > lane->writer_tag) {
        lane->writer_tag = chunk->generation; /* ids that are divided anew come in no order */
    }
    return status;
}

/* A new part with everything that is not known to be durable. */
static enum mr_status write_again(struct mr_checkpointer *c, struct mr_lane *lane, uint32_t shard,
                                  uint32_t stream, struct mr_error *error) {
    /* A part's first chunk comes here too: nothing was noted of that yet. */
    c->lanes_moved = c->lanes_moved || lane->writer != NULL || lane->first->next != NULL;
    enum mr_status status = lane->writer == NULL ? MR_OK : end_part(c, lane, shard, stream);
    if (status == MR_OK) {
        status = open_part(c, lane, stream, lane->first->generation, error);
    }
    for (struct mr_dedup_chunk *chunk = lane->first; status == MR_OK && chunk != NULL;
         chunk = chunk->next) {
        status = append_chunk(lane, chunk, error);
    }
    return status;
}

static bool ends_before(const struct mr_lane *lane, uint64_t generation) {
    uint64_t len = mr_part_len(lane->writer);
    return len >= PART_BYTES || (generation > lane->writer_tag && len >= PART_SMALL) ||
           generation >= lane->writer_tag_first + PART_GENERATIONS;
}

static void keep(struct mr_checkpointer *c, struct mr_lane *lane, struct mr_dedup_chunk *chunk) {
    chunk->next = NULL;
    *(lane->first == NULL ? &lane->first : &lane->last->next) = chunk;
    lane->last = chunk;
    c->pending_bytes += mr_dedup_chunk_bytes(chunk);
}

/* Takes the last chunk off again: the disk had no room for it. */
static void unkeep(struct mr_checkpointer *c, struct mr_lane *lane, struct mr_dedup_chunk *chunk) {
    c->pending_bytes -= mr_dedup_chunk_bytes(chunk);
    struct mr_dedup_chunk **link = &lane->first;
    lane->last = NULL;
    while (*link != chunk) {
        lane->last = *link;
        link = &(*link)->next;
    }
    *link = NULL;
}

enum mr_status mr_lane_append(struct mr_checkpointer *c, uint32_t shard, uint32_t stream,
                              struct mr_dedup_chunk *chunk, struct mr_error *error) {
    struct mr_lane *lane = lane_of(c, shard, stream);
    enum mr_status status = MR_OK;
    if (lane->writer != NULL && !mr_part_poisoned(lane->writer) &&
        ends_before(lane, chunk->generation)) {
        status = sync_lane(c, lane, error);
        if (status == MR_OK) {
            status = end_part(c, lane, shard, stream);
        }
    }
    keep(c, lane, chunk);
    if (status == MR_OK) {
        status = lane->writer == NULL ? MR_IO : append_chunk(lane, chunk, error);
    }
    if (status != MR_OK && status != MR_NO_MEMORY) {
        status = write_again(c, lane, shard, stream, error);
    }
    if (status == MR_NO_SPACE) {
        unkeep(c, lane, chunk);
    }
    return status == MR_NO_MEMORY ? mr_error_set(error, status, "out of memory") : status;
}

enum mr_status mr_lanes_sync(struct mr_checkpointer *c, struct mr_error *error) {
    const struct mr_plan *plan = c->pipeline->plan;
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < plan->shards * plan->stream_count; i++) {
        struct mr_lane *lane = &c->lanes[i];
        status = sync_lane(c, lane, error);
        if (status == MR_OK || status == MR_NO_MEMORY) {
            continue;
        }
        c->lanes_moved = true;
        status = write_again(c, lane, i / plan->stream_count, i % plan->stream_count, error);
        if (status == MR_OK) {
            status = sync_lane(c, lane, error);
        }
    }
    return status;
}

/* Parts whose ids are all forgotten count no more. Their files go with the last manifest that names them. */
static void drop_forgotten(struct mr_lane *lane, uint64_t first_generation) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < lane->part_count; i++) {
        if (lane->parts[i].part.tag >= first_generation) {
            lane->parts[kept++] = lane->parts[i];
        }
    }
    lane->part_count = kept;
}

enum mr_status mr_lane_list(struct mr_checkpointer *c, uint32_t shard, uint32_t stream,
                            uint64_t first_generation, struct mr_manifest *ret) {
    struct mr_lane *lane = lane_of(c, shard, stream);
    drop_forgotten(lane, first_generation);
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < lane->part_count; i++) {
        status = mr_manifest_add_part(ret, &lane->parts[i].part);
    }
    if (status == MR_OK && lane->writer != NULL && mr_part_len(lane->writer) > MR_PART_HEADER) {
        struct mr_manifest_part part =
            part_of(c, lane, shard, stream, mr_part_len(lane->writer));
        status = mr_manifest_add_part(ret, &part);
    }
    return status;
}

/* Where the lane counts what was verified of this part; NULL: it is not the lane's any more. */
static uint64_t *verified_of(struct mr_lane *lane, uint64_t number) {
    for (uint32_t i = 0; i < lane->part_count; i++) {
        if (lane->parts[i].part.id.number == number) {
            return &lane->parts[i].verified;
        }
    }
    bool writing = lane->writer != NULL && mr_part_number(lane->writer) == number;
    return writing ? &lane->verified : NULL;
}

uint64_t mr_lane_verified(struct mr_checkpointer *c, const struct mr_manifest_part *part) {
    const uint64_t *verified =
        verified_of(lane_of(c, part->shard, part->stream), part->id.number);
    return verified == NULL ? 0 : *verified;
}

void mr_lanes_verified(struct mr_checkpointer *c) {
    const struct mr_manifest *m = &c->current->manifest;
    for (uint32_t i = 0; i < m->part_count; i++) {
        const struct mr_manifest_part *part = &m->parts[i];
        uint64_t *verified = !mr_part_has_ids(part)
                                 ? NULL
                                 : verified_of(lane_of(c, part->shard, part->stream), part->id.number);
        if (verified != NULL && *verified < part->len) {
            *verified = part->len;
        }
    }
}

enum mr_status mr_lane_adopt(struct mr_checkpointer *c, uint32_t shard, uint32_t stream,
                             const struct mr_manifest_part *part) {
    struct mr_manifest_part adopted = *part;
    adopted.shard = shard;
    adopted.stream = stream;
    return add_part(lane_of(c, shard, stream), &adopted, part->len);
}

void mr_lanes_close(struct mr_checkpointer *c) {
    const struct mr_plan *plan = c->pipeline->plan;
    for (uint32_t i = 0; c->lanes != NULL && i < plan->shards * plan->stream_count; i++) {
        struct mr_lane *lane = &c->lanes[i];
        free_pending(c, lane);
        mr_part_close(lane->writer);
        mr_free(lane->parts);
    }
    mr_free(c->lanes);
}
