/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Frames: reads the records of one segment, one behind the other, and judges where they end.
 *
 * Idea        A window of the file in memory moves forward; a record is believed when its header
 *             and its payload have their checksums and it belongs to this segment of this
 *             incarnation. Whether it may follow the one before says mr_chain, which goes from
 *             segment to segment.
 *             A long payload is read into a block of its own, in one piece: once, however it lies to the
 *             window, and who wants it takes the block (mr_frames_take_payload) instead of a copy.
 * Owner       The opener. The segment's file is closed with it.
 * Threads     One owner at a time.
 * Errors      MR_END: at offset there is no record, only zeros, or the segment is full.
 *             MR_CORRUPT: at offset there is something else; nothing moved, *ret_why says what.
 * Invariants  I1 MR_SEGMENT_HEADER <= offset <= segment.size.
 */
#include "log/record.h"
#include "log/segment.h"

struct mr_frames {
    struct mr_file *file;
    struct mr_segment segment;
    uint64_t offset; /* of the next record */
    uint8_t *buf;    /* the window, with MR_PADDING behind */
    size_t cap;
    uint64_t start; /* of the window in the file */
    size_t len;
    struct mr_buf payload; /* of the last long record; may be empty */
    bool long_before;      /* the record before offset was one: the next is likely to be */
};

/* Where the log stands behind the last record: what may come next. */
struct mr_chain {
    uint64_t next_lsn;
    uint64_t seq;   /* of the last record */
    uint32_t index; /* of the last record in its bundle */
    uint32_t count; /* of the last bundle's records; 0: no record yet, or none known behind a GAP */
    uint64_t gap;   /* lsns lost behind the last record; GAPs do not count as records here */
};

/* What stands behind the end of the records. */
struct mr_tail {
    uint64_t dirty_end; /* behind the last byte that is not zero; the end itself when all are */
    uint64_t later;     /* offset of a record of a later bundle; 0: none */
};

bool mr_chain_whole(const struct mr_chain *chain); /* the last bundle is; also with no record yet */
/* The first lsn of the bundle that a bad frame behind the chain belongs to. */
uint64_t mr_chain_open_lsn(const struct mr_chain *chain);
bool mr_chain_follows(const struct mr_chain *chain, const struct mr_record *record);
void mr_chain_push(struct mr_chain *chain, const struct mr_record *record);

/* Takes the file over, also when it fails. */
enum mr_status mr_frames_open(struct mr_file *file, const struct mr_segment *segment,
                              struct mr_frames *ret) MR_MUST_CHECK;
void mr_frames_close(struct mr_frames *frames); /* zeroed is fine */
/* The next record if it follows the chain, which it then joins. The payload is valid until the next
 * call, with MR_PADDING readable bytes behind. */
enum mr_status mr_frames_next(struct mr_frames *frames, struct mr_chain *chain,
                              struct mr_record *ret, const char **ret_why) MR_MUST_CHECK;
/* The same without reading the payload, which ret->payload.ptr NULL says. */
enum mr_status mr_frames_skip(struct mr_frames *frames, struct mr_chain *chain,
                              struct mr_record *ret, const char **ret_why) MR_MUST_CHECK;
/* For repair: the next record at offset or behind it that is sound in itself and of this segment, whatever stands before
 * it. An incarnation of 0 is any. Its payload is NULL when only its header is sound. offset is then behind the record,
 * or behind the first bytes of such a header. */
enum mr_status mr_frames_find(struct mr_frames *frames, struct mr_record *ret,
                              uint64_t *ret_offset) MR_MUST_CHECK;
/* Looks at everything behind offset: for bytes that are not zero, and for a record of a bundle that
 * begins behind open_lsn. */
enum mr_status mr_frames_tail(struct mr_frames *frames, uint64_t open_lsn,
                              struct mr_tail *ret) MR_MUST_CHECK;
/* The block that the payload of the record last returned is in, without a copy; its bytes stay where they are. ret is
 * empty when it lies in the window. */
void mr_frames_take_payload(struct mr_frames *frames, const struct mr_record *record, struct mr_buf *ret);
/* Forgets the window: the next call sees what was written since. */
void mr_frames_forget(struct mr_frames *frames);
