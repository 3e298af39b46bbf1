/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Recover: what a log's files say after whatever happened: where the log ends, or that it is
 * corrupt.
 *
 * The appender's promises, from which everything follows:
 *   P1  A bundle is written with one call, into one segment, and synced before the next is
 *       written. A bundle that does not fit into the rest of a segment goes to a new one as a
 *       whole, which is made large enough for it. (So a torn group never lies across two segments.)
 *   P2  A segment has its name only when its header and blocks are durable, and gets records only
 *       when its name is durable. It is made zeroed; all bundles of earlier segments were synced
 *       before.
 *   P3  After a failed write or sync nothing more is written to that segment. The bundle is
 *       written again, with the same lsns, to a new one.
 *   P4  An opener syncs all it finds before it reads, zeroes what it cuts and syncs that, and only
 *       then writes its START record: a bundle of its own, of the next seq, with the lsn after the
 *       last kept.
 *
 * The last segment. A crash leaves all bundles that were synced, and of the one being written (at
 * most one, P1) any sectors. Let e be the first offset where no record follows the chain, and F
 * the first lsn of the bundle that should stand there: when the last bundle M before e is whole,
 * or there is none, F is the next lsn; when M is not whole, F is the first lsn of M, because its
 * own next record is missing. What stands at e belongs to the bundle that begins at F.
 *   - Some record behind e whose bundle begins after F (lsn - bundle_index > F): it was written
 *     after the bundle at F had been synced (P1), so a synced record is unreadable: corrupt.
 *   - None: the bundle at F was being written and nobody was told that it is safe, or it is the
 *     very last and was damaged afterwards, which nothing can tell from the former. Torn: cut at
 *     e. Records of the bundle F that survived before e are kept; those behind e are not, for they
 *     have lost what was before them.
 *   Bundles are compared by their first lsn and not by seq: lsns have no gaps (a seq may have,
 *   upwards), and a torn bundle that lost its first header still says in the others where it began.
 *   - After M was cut, START has the lsn after M's last kept record and index 0 (P4). So a bundle
 *     that is not whole is followed by its own next record or by a START, by nothing else
 *     (mr_chain_follows); an offset where something else follows is a bad frame like any other. A
 *     torn START is one more bundle in flight: F is M's first lsn still, nothing behind begins
 *     after it, START is written again.
 *   - What a torn bundle left behind e cannot come back later, even if zeroing it was lost: each of
 *     its records needs the one before it, of its seq and count, in front of it.
 *
 * Earlier segments. Segment i ends where segment i+1 begins, at lsn N (P2). Each lsn below N was
 * synced, or written by an opener, before i+1 got its name: one that cannot be read is corrupt.
 * What stands in i at N and behind is the bundle of P3, or a torn tail: superseded, never looked
 * at. A segment named but still without records when the process died supersedes in the same way;
 * its first record is then a START.
 *
 * A sync that failed before a process ended leaves pages that read well, are marked clean and are
 * not on the disk. Only the last bundle can be of that kind (P3), so the opener writes it again
 * before the sync.
 *
 * Repair (log/repair.c) writes a damaged segment again, whole, and puts a GAP where records are lost. A GAP stands for
 * its lsns in all of the above; it is durable before its segment has its name.
 *
 * What a checkpoint holds (from_lsn) is not read: of the segments before the one that holds from_lsn only the headers.
 * One more is read when that one has no record, for the last record says the time and the seq.
 *
 * With log.sync off (MR_SEGMENT_UNSYNCED) P1 holds from segment to segment only: the last segment
 * is cut at its first bad frame whatever is behind, and an opener goes on in a new one.
 */
#include "log/frames.h"
#include "log/held.h"

/* What one segment holds. */
struct mr_segment_summary {
    struct mr_segment segment;
    uint64_t records;
    uint64_t last_lsn; /* 0: no record */
    uint64_t last_seq;
    uint64_t lost;       /* lsns that GAPs stand for */
    uint64_t gap_lsn;    /* the last lsn that a GAP stands for; 0: none */
    uint64_t config_lsn; /* of the last CONFIG record; 0: none */
    int64_t first_ms;
    int64_t last_ms;
    uint64_t end;          /* of the records; the next goes there */
    uint64_t bundle_start; /* offset of the last bundle; end when there is no record */
    uint64_t
        dirty_end; /* behind the last byte that is not zero; end where a later one supersedes */
};

struct mr_recovery {
    struct mr_chain chain;
    int64_t recorded_ms; /* of the last record; INT64_MIN: none, or only STARTs without a time */
    uint64_t config_lsn; /* of the last CONFIG record met; 0: none */
    uint64_t gap_lsn;    /* the last lsn that a GAP met stands for; 0: none */
    uint64_t records;
    uint64_t bytes; /* of the records */
    struct mr_segment_summary last;
    struct mr_held held; /* the caller's to finish */
};

/* The chain before segment i's first record, for a walk that begins there. */
struct mr_chain mr_recover_chain(const struct mr_segments *segments, uint32_t i);

/* Called for each record; its payload is valid until it returns. Any status but MR_OK ends the
 * walk. */
typedef enum mr_status mr_record_visit(void *ctx, const struct mr_record *record);

/* Walks segment i with the chain so far, which it moves. MR_CORRUPT with a text that names the
 * segment and the offset; *ret is then what was read up to there. visit may be NULL. Reads only. */
enum mr_status mr_recover_segment(struct mr_disk *disk, const char *dir,
                                  const struct mr_segments *segments, uint32_t i,
                                  struct mr_chain *chain, mr_record_visit *visit, void *ctx,
                                  struct mr_segment_summary *ret,
                                  struct mr_error *error) MR_MUST_CHECK;

/* In the last segment, where mr_frames_next returned MR_END or MR_CORRUPT (why): MR_END: the
 * records end here, *ret is what stands behind; MR_CORRUPT with a text; MR_OK: the record reads
 * well now, for an appender beside us was writing it. */
enum mr_status mr_recover_judge(struct mr_frames *frames, const struct mr_chain *chain,
                                const char *dir, const char *why, struct mr_tail *ret,
                                struct mr_error *error) MR_MUST_CHECK;

/* Syncs all, walks all, cuts the tail and makes the end durable (P4, but for the START). All is
 * from the segment on that holds from_lsn; the first must not begin behind it. At least one
 * segment. When the records end before from_lsn - 1 nothing is cut: that they were synced is known
 * from elsewhere, so what follows is damaged and not torn. */
enum mr_status mr_recover(struct mr_disk *disk, const char *dir, const struct mr_segments *segments,
                          uint64_t from_lsn, struct mr_recovery *ret,
                          struct mr_error *error) MR_MUST_CHECK;
