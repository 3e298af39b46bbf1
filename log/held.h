/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Held: the segments an open log has, oldest first, and what its retention asks about them.
 *
 * Idea        Segments go from the front, whole, when all their records may go. Of a segment that was not read at open
 *             the time of its newest record is not known; the first record behind it is not older, and reading that
 *             one header tells enough.
 *
 *                 |oldest|      |      |current|ghost|      a ghost was given up while it was made: it holds no record,
 *                                                           but its name may be there or come back
 * Owner       The log.
 * Invariants  I1 numbers grow, first_lsn does not fall.  I2 current < count, unless there is none.
 */
#include "log/segment.h"

#define MR_HELD_UNKNOWN INT64_MAX

struct mr_log_retention;

struct mr_held_segment {
    uint32_t number;
    uint64_t first_lsn;
    uint64_t size;    /* of the file; 0 of a ghost */
    uint64_t bytes;   /* of the records; of one not read at open, the file */
    uint64_t records; /* of one not read at open, lsns */
    int64_t
        newest_ms; /* of its records; INT64_MIN: has none or none with a time; MR_HELD_UNKNOWN */
};

struct mr_held {
    struct mr_held_segment *items;
    uint32_t count;
    uint32_t cap;
    uint32_t current; /* the one being written */
    uint64_t size;    /* of all files */
};

void mr_held_finish(struct mr_held *held);
void mr_held_check(const struct mr_held *held);
/* Makes room for `more`, so that adding them cannot fail. */
enum mr_status mr_held_reserve(struct mr_held *held, uint32_t more) MR_MUST_CHECK;
void mr_held_add(struct mr_held *held, const struct mr_held_segment *segment);

/* Whether the oldest may go and should; log_ms is the time of the log's last record. Reads at most some headers. */
enum mr_status mr_held_oldest_goes(struct mr_held *held, struct mr_disk *disk, const char *dir,
                                   const struct mr_log_retention *retention, int64_t log_ms,
                                   bool *ret, struct mr_error *error) MR_MUST_CHECK;
/* Removes its name, durably. *ret: what it was. After a failure it is held still, and the next try goes on. */
enum mr_status mr_held_remove_oldest(struct mr_held *held, struct mr_disk *disk, const char *dir,
                                     struct mr_held_segment *ret,
                                     struct mr_error *error) MR_MUST_CHECK;
