/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Fetch: the batch of an EVENTS (or REDRIVE) record that is in the log, for who has let it go or never had it.
 *
 * Owner       One thread; a reader of its own, beside the appender.
 * Cost        Records asked for in the order of the log are read one behind the other.
 * Errors      batch: MR_NOT_FOUND: the record is not there any more (retention, or lost and repaired), or is neither.
 *             MR_CORRUPT, MR_IO, MR_NO_MEMORY, with a text.
 */
#include "log/log.h"
#include "pipeline/events.h"

struct mr_fetch;

enum mr_status mr_fetch_open(struct mr_disk *disk, const char *dir, const struct mr_plan *plan,
                             struct mr_fetch **ret) MR_MUST_CHECK;
void mr_fetch_close(struct mr_fetch *fetch); /* NULL is fine */
/* The record must be durable. */
enum mr_status mr_fetch_batch(struct mr_fetch *fetch, uint64_t lsn, struct mr_batch **ret,
                              struct mr_error *error) MR_MUST_CHECK;
/* The first EVENTS record of `stream` from lsn on, up to and including last_lsn. MR_END: there is none. */
enum mr_status mr_fetch_next(struct mr_fetch *fetch, uint64_t lsn, uint64_t last_lsn, uint32_t stream,
                             struct mr_batch **ret, struct mr_error *error) MR_MUST_CHECK;
