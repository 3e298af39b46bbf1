/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Dead letters of this room: what lift (late, future) and combine (groups) write. Fields:
 * base/dead.h.
 *
 * Errors      A failed append shows in the buffer.
 */
#include "aggregate/rule.h"
#include "base/dead.h"
#include "event/batch.h"

struct mr_json;

/* A time of an event, a window or a watermark; null where RFC 3339 has no year for it. */
void mr_dead_letter_time(struct mr_json *json, const char *name, int64_t time_ms);
/* Where an event stands in the log: members stream, lsn and index. */
void mr_dead_letter_place(struct mr_json *json, struct mr_bytes stream_name, uint64_t lsn, uint32_t index);

/* An event as it was sent. rules: those it was too late for; of a future event none. */
struct mr_dead_letter {
    enum mr_dead_reason reason;
    const struct mr_batch *batch;
    uint32_t event;
    struct mr_bytes stream_name;
    int64_t watermark_ms;
    const struct mr_rule *const *rules;
    uint32_t rule_count;
};

void mr_dead_letter_event(struct mr_buf *buf, const struct mr_dead_letter *letter);

/* A dropped group: {"country":"DE"}. */
void mr_dead_letter_key(struct mr_json *json, const struct mr_rule *rule, struct mr_bytes key);
