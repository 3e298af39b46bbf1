/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Log: the durable sequence of records; the only input of everything behind it (L1).
 *
 * Idea        One writer appends a bundle's records with one pwritev and one sync, into segments
 *             that were allocated before, so that a sync writes data and no file-system metadata.
 *
 *                 dir/0000000000000001-00000001.log   |segment header|rec|rec|…|rec|zeros       |
 *                 dir/0000000000004711-00000002.log   |segment header|rec|…
 *
 *             (named by first lsn and segment number; log/segment.h). A bundle lies in one
 *             segment, which is made larger than segment_bytes when it has to be. Blocks come from
 *             fallocate, and small appends write zeros ahead of themselves, so that most syncs
 *             change no extents.
 *
 * Recovery    Two passes. The first walks all headers and checksums and finds the end, several
 *             segments at once where the disk allows it (log/walk.h); the second hands records to
 *             the reader. At a bad frame it looks further for a sound record of
 *             this incarnation that was written after a later sync (of a bundle that begins behind
 *             the torn one; the argument is in log/recover.h): found, the log is corrupt and open
 *             refuses, saying segment and offset; not found, it is a torn tail: zeroed, synced,
 *             counted. After that a START record is written and synced. All segments and the
 *             directory are synced before reading: what was read is then durable. What cannot be
 *             told from a torn tail: damage to the very last bundle, after it was synced and
 *             before anything was appended behind it.
 *             The start does not depend on the age of the log: with from_lsn, segments below it are
 *             taken by name and header. Retention (mr_log_trim) removes segments from the front.
 * Repair      What was corrupted at rest, mr_log_repair replaces by a GAP record, which readers
 *             hand out like any other; its lsn_count says how many lsns it stands for.
 * Units       Bytes; lsn and seq are numbers from 1.
 * Owner       The opener; the log owns its files.
 * Threads     One owner at a time, but mr_log_stats from any thread.
 * Errors      MR_NO_SPACE: refused before writing, while less than reserve_bytes would stay free
 *             or the next segment cannot be allocated; nothing changed, appending may be tried
 *             again. MR_NO_MEMORY: the same. MR_LIMIT: a payload over MR_RECORD_PAYLOAD_MAX.
 *             MR_IO from append or sync: the segment is poisoned; the records of the bundle are
 *             written again (same lsn) to a new segment by the call itself; if that fails too the
 *             log is failed: every later append returns MR_IO at once. Reading stays possible. A
 *             record in a newer segment supersedes one with the same lsn in an older one.
 *             MR_CORRUPT, MR_MISMATCH (unknown version) from open, with a text that ends with what to
 *             do about it.
 * Invariants  I1 appended lsns have no gaps.
 *             I2 what append returned MR_OK for is durable (sync on).
 */
#include "base/clock.h"
#include "base/counters.h"
#include "base/file.h"
#include "base/histogram.h"
#include "log/record.h"

struct mr_log;

struct mr_log_options {
    struct mr_disk *disk;
    struct mr_clock *clock;  /* for the sync histogram only */
    const char *dir;         /* made when missing */
    uint64_t segment_bytes;  /* size of a segment; a larger record gets a segment of its own */
    uint64_t reserve_bytes;  /* keep this much of the disk free */
    bool sync;               /* false: durable up to the page cache (log.sync: off) */
    uint64_t incarnation;    /* of a log made by this open; 0: random (simulations: from the seed) */
    /* Records below this lsn are not needed (a checkpoint holds what they did): segments wholly below it are taken
     * as sound by their headers and not read at open; the log may begin anywhere at or below it. 0 or 1: all of it
     * is needed, and a log that begins later is MR_CORRUPT; so is one that ends before from_lsn - 1. */
    uint64_t from_lsn;
    bool begins_anywhere; /* what retention has removed is not needed: a log that begins behind from_lsn is whole */
};

struct mr_log_stats {
    mr_counter bytes;           /* of all segments' records; of segments not read at open: their size */
    mr_counter segments;
    mr_counter records;         /* of segments not read at open: their lsns */
    mr_counter last_lsn;
    mr_counter last_seq;
    mr_counter torn_bytes;      /* cut by recovery at this open */
    mr_counter sync_failures;
    struct mr_histogram sync_ns;
};

enum mr_status mr_log_open(const struct mr_log_options *options, struct mr_log **ret,
                           struct mr_error *error) MR_MUST_CHECK;
void mr_log_close(struct mr_log *log); /* NULL is fine; does not sync */

/* One record to append: payload in up to 4 parts, written one behind the other. */
struct mr_log_entry {
    enum mr_record_type type;
    struct iovec payload[4];
    int payload_count;
    uint64_t lsn; /* set by append */
};

/* Appends the entries as the bundle `seq` (greater than every one before) and makes them durable.
 * count >= 1. All or nothing as far as the caller is concerned. */
enum mr_status mr_log_append(struct mr_log *log, uint64_t seq, int64_t recorded_ms,
                             struct mr_log_entry *entries, uint32_t count,
                             struct mr_error *error) MR_MUST_CHECK;

/* With sync off: makes everything appended durable, for a checkpoint. With sync on there is nothing to do. MR_IO as in
 * append: the log is failed. */
enum mr_status mr_log_sync(struct mr_log *log, struct mr_error *error) MR_MUST_CHECK;

/* Retention: what may go, and what should. */
struct mr_log_retention {
    uint64_t needed_lsn;  /* this record and all behind it stay */
    int64_t before_ms;    /* segments whose records are all older than this should go; INT64_MIN: none */
    uint64_t bytes_max;   /* while the segments take more than this on disk, the oldest should go */
};
/* Removes the oldest segment if it may and should go: its name, durably. At most one a call; never the newest.
 * *ret_removed: whether there was one (call again). Owner's thread. An error changes nothing that matters: try again
 * later. */
enum mr_status mr_log_trim(struct mr_log *log, const struct mr_log_retention *retention,
                           bool *ret_removed, struct mr_error *error) MR_MUST_CHECK;
/* Of the last CONFIG record that open met or append wrote; 0: none (behind from_lsn). */
uint64_t mr_log_config_lsn(const struct mr_log *log);
/* The last record that repair found lost, of those open met; 0: none (behind from_lsn). */
uint64_t mr_log_gap_lsn(const struct mr_log *log);
/* The first record the log still has. */
uint64_t mr_log_first_lsn(const struct mr_log *log);

/* Whether bytes more (the sum of mr_record_size) could be appended now with the reserve kept; asked
 * before the append. */
bool mr_log_has_room(struct mr_log *log, uint64_t bytes);
bool mr_log_failed(const struct mr_log *log);
/* Of the last bundle. Open writes a START as a bundle of its own, so it is 1 in a new log, and the
 * caller's first is 2. */
uint64_t mr_log_last_seq(const struct mr_log *log);
uint64_t mr_log_last_lsn(const struct mr_log *log);
uint64_t mr_log_incarnation(const struct mr_log *log);
int64_t mr_log_last_recorded_ms(const struct mr_log *log); /* INT64_MIN: no record but START yet */
const struct mr_log_stats *mr_log_stats(const struct mr_log *log);
void mr_log_check(const struct mr_log *log);

/* Reading: in lsn order, from the first record with seq >= from_seq that the log has. A reader keeps
 * files of its own, so it may be used beside the appender on another thread, or by another process.
 * At MR_END it may be called again later and goes on with what was appended since. Beside an
 * appender set the limit: without it, a record may be read that is written but not yet synced.
 * Once it has handed out a record, nothing is left out silently: MR_NOT_FOUND with a text when
 * retention removed what comes next (the file it has open it reads to its end). */
struct mr_log_reader;

enum mr_status mr_log_reader_open(struct mr_disk *disk, const char *dir, uint64_t from_seq,
                                  struct mr_log_reader **ret, struct mr_error *error) MR_MUST_CHECK;
void mr_log_reader_close(struct mr_log_reader *reader);
/* The next record is the first with this lsn or a higher one, and seq >= from_seq; a GAP when that
 * stands for it. Skips whole segments by their headers, and inside one reads headers only. */
enum mr_status mr_log_reader_seek(struct mr_log_reader *reader, uint64_t lsn,
                                  struct mr_error *error) MR_MUST_CHECK;
/* MR_END behind last_lsn: what the appender says is durable (mr_log_stats: last_lsn). Never lowered
 * below what was read. */
void mr_log_reader_limit(struct mr_log_reader *reader, uint64_t last_lsn);
/* MR_END behind the last. The payload is valid until the next call and has MR_PADDING readable
 * bytes behind it. MR_CORRUPT with a text when a record cannot be read that was synced, as
 * log/recover.h says; a torn tail is an MR_END. */
enum mr_status mr_log_reader_next(struct mr_log_reader *reader, struct mr_record *ret,
                                  struct mr_error *error) MR_MUST_CHECK;

/* From where to where the log reaches now; for a process that reads beside the appender. */
struct mr_log_extent {
    uint64_t first_lsn;
    uint64_t last_lsn; /* first_lsn - 1: there is no record */
    uint64_t last_seq;
};
/* Reads headers of the last segment only, and no payloads: a bundle that is being written may count already.
 * MR_NOT_FOUND: no segment; MR_CORRUPT as for a reader. */
enum mr_status mr_log_extent_scan(struct mr_disk *disk, const char *dir, struct mr_log_extent *ret,
                                  struct mr_error *error) MR_MUST_CHECK;

/* Takes over the memory of the payload of the record that was handed out last, which stays where it is, when it is long
 * enough to have a block of its own; else ret is empty. */
void mr_log_reader_take_payload(struct mr_log_reader *reader, const struct mr_record *record, struct mr_buf *ret);

/* `millrace log list|dump DIR`: JSON lines (json) or aligned text, to a stdio stream. Read-only:
 * works beside a running server. dump prints payloads of EVENTS as text, escaped, cut at 200
 * bytes. */
enum mr_status mr_log_list(struct mr_disk *disk, const char *dir, bool json, void *stdio,
                           struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_log_dump(struct mr_disk *disk, const char *dir, bool json, void *stdio,
                           struct mr_error *error) MR_MUST_CHECK;

/* `millrace log repair DIR [LSN]`: for a log that open calls MR_CORRUPT. What cannot be read is moved out of the way,
 * whole bytes and all, to DIR/quarantine/<segment>-<offset>.bin, and a GAP record takes its place that says which lsns
 * are lost; so lsns have no gaps, and readers and replay go on behind it. Nothing sound is changed or lost. Run with the
 * data directory locked (the caller's doing). Prints one line (or JSON line) per finding to stdio and a summary. A crash
 * in the middle leaves a log that can be repaired again. MR_OK also when there was nothing to repair. needed_lsn: as
 * from_lsn of open: what is missing between it and the log's beginning, or between the log's end and it, is replaced by
 * a GAP too; 0: the log begins and ends where it does, for retention may have removed what was before. */
struct mr_log_repair {
    uint64_t segments;     /* looked at */
    uint64_t damages;
    uint64_t lost_lsns;    /* 0 when only zeros or torn bytes were met */
    uint64_t quarantined_bytes;
};
enum mr_status mr_log_repair(struct mr_disk *disk, const char *dir, uint64_t needed_lsn, bool json,
                             void *stdio, struct mr_log_repair *ret,
                             struct mr_error *error) MR_MUST_CHECK;
