/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redrive: an event of the dead letters is judged again: the payload of REDRIVE records, and the batch for one.
 *
 * Idea        A REDRIVE record is an EVENTS record of that one event, with a few bytes before it that say which event of
 *             the log it is. It has the event's bytes and what decoding needs, so that it stays a function of the log when
 *             retention has removed the record it names. It goes through the very same stations, under the streams,
 *             rules and the recorded time of now, and counts as received again.
 *
 *                 lsn 17: EVENTS  | a | b | c |          b is further ahead than max_future: L, a dead letter (17, 1)
 *                 lsn 90: REDRIVE | 17, 1 | b |          judged again: accepted; or a dead letter again: (90, 0)
 *
 *             What is redriven once: pipeline/redrives.h. Whose claim passes by whose: pipeline/shard_judge.c. What was
 *             rejected has claimed nothing, and is judged by its own id like an event that comes for the first time.
 * Shape       0 version u8 (1)   1 future u8   2 zero u16   4 index u32   8 lsn u64   16 first_ms i64; then an EVENTS payload
 * Owner       A source: one thread; a reader of its own, beside the appender.
 * Errors      decode: as mr_events_decode.
 *             make: MR_NOT_FOUND with a text: this one cannot be redriven: its record is not in the log any more, or
 *             another event stands there (log.sync off, and the power was lost), or its stream is not configured.
 *             MR_UNSUPPORTED: not in the stream's dedup mode, or not for this reason. Others: the log cannot be read.
 */
#include "base/dead.h"
#include "base/file.h"
#include "pipeline/events.h"

#define MR_REDRIVE_HEADER 24

void mr_redrive_header(const struct mr_redriven *redriven, uint8_t ret[MR_REDRIVE_HEADER]);
/* The batch as it was: what mr_events_decode gives, and redriven. */
enum mr_status mr_redrive_decode(struct mr_events_decoder *decoder, const struct mr_record *record,
                                 struct mr_batch **ret, struct mr_error *error) MR_MUST_CHECK;

/* Why no dead letter of this reason is redriven, and what to do instead; NULL: they are. */
const char *mr_redrive_refusal(enum mr_dead_reason reason);

struct mr_redrive_source;
/* last_lsn: the log's last durable record, asked for behind the dead letters': a record that one of them names and that is
 * behind it was lost with the power. */
enum mr_status mr_redrive_source_open(struct mr_disk *disk, const char *log_dir, const struct mr_plan *plan,
                                      uint64_t last_lsn, struct mr_redrive_source **ret) MR_MUST_CHECK;
void mr_redrive_source_close(struct mr_redrive_source *source); /* NULL is fine */
/* A batch to submit, without done and ctx; the dead letter's record is durable. Dead letters asked for in order are
 * read one behind the other. */
enum mr_status mr_redrive_make(struct mr_redrive_source *source, const struct mr_dead *dead,
                               struct mr_batch **ret, struct mr_error *error) MR_MUST_CHECK;
