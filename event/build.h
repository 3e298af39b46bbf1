/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Build: a batch on its way, row by row, inside event/ only.
 *
 * Idea        decode.c finds where events begin and end in each format; here an event that was
 * walked becomes a row: what is missing, the id's fingerprint, the time, or the error that is told.
 * Owner       The struct is a local of mr_decode; nothing in it outlives the call but the batch.
 */
#include "event/walk.h"

/* One body on its way to a batch. */
struct mr_build {
    const struct mr_walk_ops *ops;
    struct mr_walk *walk;
    const struct mr_schema *schema;
    struct mr_batch *batch;
    struct mr_error *error;
    const uint8_t *line_at; /* lines are counted up to here, only when an error asks for it */
    uint32_t line;
    size_t text_mark; /* length of unescaped at the event's start */
    const uint8_t *whole; /* the event before, when it was predicted as a whole and is well-formed; else NULL */
    const uint8_t *whole_end;
    uint8_t id_bit;   /* of walk->ids: the id proper; 0: streams without ids */
    uint8_t need_ids; /* what a well-formed event must have */
    uint8_t need_attributes;
    bool need_time;
};

/* Reads once from the schema what every event must have. */
void mr_build_set_needs(struct mr_build *b);
/* Room for one more event; false and *ret: MR_LIMIT or MR_NO_MEMORY. */
bool mr_build_make_room(struct mr_build *b, enum mr_status *ret);
void mr_build_begin_event(struct mr_build *b);
/* Rejects an event that had ended well, for a reason in the values made from it: "name: detail". Its
 * error stands in the order of the events. False: out of memory. */
bool mr_build_reject_late(struct mr_build *b, uint32_t i, enum mr_reject reject, struct mr_bytes name,
                          const char *detail);
/* Finds the greatest time again, after events were rejected late. */
void mr_build_count_times(struct mr_build *b);
/* Ends the event [start, end) that the walk went over, or refused. False: out of memory. */
bool mr_build_end_event(struct mr_build *b, const uint8_t *start, const uint8_t *end);
