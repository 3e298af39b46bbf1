/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conflicts: the same id with another content (dedup.conflicts: detect).
 *
 * Idea        Content is the event's text as it was received: the bytes of its JSON object, without what is around
 *             it. A hash of it is kept with the id (dedup/dedup.h), so a producer that uses an id twice is told from
 *             one that sends an event twice. Nothing is parsed for it: the same values in another order are another
 *             content. (A canonical form would cost more than all else a shard does, and no retry needs one.)
 *
 *                 {"id":"a","v":1}    new: counts
 *                 {"id":"a","v":1}    a copy: a duplicate
 *                 {"id":"a","v":2}    a conflict: a duplicate, and a dead letter
 *
 * Order       What comes first in the order of the log, also within one request, is what others are compared with,
 *             whatever became of it: also what was late, or too far ahead, is remembered.
 */
#include "aggregate/dead_letter.h"
#include "base/check.h"
#include "base/json.h"
#include "pipeline/stations.h"

void mr_conflicts_hash(struct mr_shard *shard, const struct mr_batch *batch, const uint32_t *order, uint32_t count) {
    const struct mr_secret *secret = &shard->pipeline->plan->streams[batch->stream].contents;
    MR_ASSERT(count <= shard->scratch_cap);
    for (uint32_t k = 0; k < count; k++) {
        shard->contents[k] = mr_content_hash(secret, mr_batch_event(batch, order[k]));
    }
}

static void write_letter(const struct mr_shard *shard, const struct mr_batch *batch, uint32_t event,
                         struct mr_buf *buf) {
    size_t at = mr_dead_begin(buf, batch->stream, MR_DEAD_CONFLICT);
    struct mr_json json;
    mr_json_init(&json, buf);
    mr_json_object_begin(&json);
    mr_json_key(&json, "reason");
    mr_json_text(&json, mr_dead_reason_text(MR_DEAD_CONFLICT));
    mr_dead_letter_place(&json, shard->pipeline->plan->streams[batch->stream].name, batch->lsn, event);
    mr_dead_letter_time(&json, "time", batch->times_ms[event]);
    mr_json_key(&json, "event");
    mr_json_raw(&json, mr_batch_event(batch, event));
    mr_json_object_end(&json);
    mr_dead_end(buf, at);
}

void mr_conflicts_keep(struct mr_shard *shard, struct mr_bundle *bundle, const struct mr_batch *batch,
                       const uint32_t *order, uint32_t count) {
    struct mr_bundle_part *part = &bundle->parts[shard->index];
    uint32_t conflicts = 0;
    for (uint32_t k = 0; k < count; k++) {
        if (shard->duplicate[k] == MR_DEDUP_CONFLICT) {
            write_letter(shard, batch, order[k], &part->dead);
            conflicts++;
        }
    }
    part->dead_count += conflicts;
    mr_counter_add(&shard->streams[batch->stream].conflicts, conflicts);
}
