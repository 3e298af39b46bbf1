/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Dead marks: which dead letters were discarded.
 *
 * Idea        The dead-letter log is appended to, and nothing in it is changed: a DISCARD record says that entries before it
 *             are discarded, and readers leave them out. A later mark for the same stream and reason that reaches as far
 *             takes the place of an earlier one. Retention removes entries and marks together, oldest first.
 *
 *                 | DEAD a | DEAD b | DEAD c | DISCARD stream s, before 12:00 | DEAD d |
 *                   11:58    11:59    12:01     a and b of stream s are gone; c and d are not
 *
 *             A mark may be of one entry alone, which its place names: then reason, stream and time are that entry's,
 *             and only say which later mark takes its place, too.
 * Shape       0 version u8 (1)   1 reason u8 (255: all)   2 name_len u8   3 zero, to 8   8 before_ms i64   16 stream's name
 *             (empty: all). The time of an entry is the recorded time of its record.
 *             of one entry: 0 version u8 (2)   1, 2, 8 as above   4 its place in the record u32   16 the record's lsn
 *             u64 24 stream's name
 * Owner       Of the list: the caller, who also sees to it that one thread is in it at a time.
 * Errors      scan: as of readers of a log; what was found before stays.
 * Cost        scan: O(what was appended since the last one); discarded: O(marks).
 */
#include "base/dead.h"
#include "log/log.h"

#define MR_DEAD_MARKS_MAX 1024 /* over it nothing more is discarded: 250 KiB */
#define MR_DEAD_MARK_HEADER 16
#define MR_DEAD_MARK_ONE_HEADER 24
#define MR_DEAD_MARK_LEN_MAX (MR_DEAD_MARK_ONE_HEADER + UINT8_MAX)

struct mr_dead_mark {
    uint64_t lsn;      /* of its record: it says nothing of what is behind it */
    int64_t before_ms; /* INT64_MAX: all of them */
    int reason;        /* enum mr_dead_reason, -1: all */
    uint8_t name_len;  /* 0: all streams */
    char name[UINT8_MAX];
    uint64_t entry_lsn; /* of one entry: its record; 0: of many */
    uint32_t entry;     /* and its place in it */
};

/* All zero is an empty one; the items are mr_free's. */
struct mr_dead_marks {
    struct mr_dead_mark *items;
    uint32_t count;
    uint32_t cap;
    uint64_t scanned_lsn; /* what is up to here has been read */
};

/* Returns the length. */
size_t mr_dead_mark_encode(const struct mr_dead_mark *mark, uint8_t ret[MR_DEAD_MARK_LEN_MAX]);
/* Reads on to last_lsn, which is durable. */
enum mr_status mr_dead_marks_scan(struct mr_dead_marks *marks, struct mr_disk *disk, const char *dir,
                                  uint64_t last_lsn, struct mr_error *error) MR_MUST_CHECK;
/* Whether there is room for one more, or it takes the place of another. */
bool mr_dead_marks_has_room(const struct mr_dead_marks *marks, const struct mr_dead_mark *mark);
/* Whether the entry, of this record at this place, is discarded. */
bool mr_dead_marks_discard(const struct mr_dead_marks *marks, const struct mr_record *record, uint32_t place,
                           const struct mr_dead *entry);
