/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Dead letters: reading pages of the dead-letter log. Writing is the flusher's.
 *
 * Shape       The payload of a DEAD record: u64 seq of the newest bundle in it, then entries (base/dead.h).
 *             A cursor is (lsn of the record, number of entries of it already read).
 * Threads     Each call opens a reader of its own.
 */
#include "base/dead.h"
#include "pipeline/dead_marks.h"

struct mr_dead_page {
    /* The question. */
    uint32_t stream;      /* UINT32_MAX: all */
    struct mr_bytes stream_name; /* of that stream; it decides */
    int reason;           /* enum mr_dead_reason, -1: all */
    uint32_t limit;
    int64_t before_ms;    /* only entries of records older than this; 0: all */
    const struct mr_dead_marks *marks; /* what they discard is left out; NULL: nothing is */
    uint64_t last_lsn;    /* nothing behind it is read: what the appender says is durable */
    uint64_t after_lsn;   /* cursor; 0, 0: from the beginning */
    uint32_t after_entry;
    /* Called for each entry; entry borrows until it returns. */
    void (*visit)(void *ctx, const struct mr_dead *entry);
    void *ctx;
    /* Where the entry that is visited stands: its record, when that was recorded, and its place in it, from 0. */
    uint64_t at_lsn;
    int64_t at_ms;
    uint32_t at_entry;
    /* The answer. */
    bool more; /* there are more: continue with next_lsn, next_entry */
    uint64_t next_lsn;
    uint32_t next_entry;
};

enum mr_status mr_dead_letters_read(struct mr_disk *disk, const char *dir, struct mr_dead_page *page,
                                    struct mr_error *error) MR_MUST_CHECK;

/* Up to which bundle the log has all dead letters, as its last record says, which may be less than one before it said;
 * known_seq: the same of the records before from_lsn, for a log that has none from there on. O(what it reads). */
enum mr_status mr_dead_letters_last_seq_scan(struct mr_disk *disk, const char *dir,
                                             uint64_t from_lsn, uint64_t known_seq, uint64_t *ret_seq,
                                             struct mr_error *error) MR_MUST_CHECK;
