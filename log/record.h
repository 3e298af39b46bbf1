/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Record: one entry of the log, and how it looks on disk.
 *
 * Shape       80 bytes of header, then the payload, then zeros up to a multiple of 8.
 *             Little-endian.
 *
 *                  0 magic u32        "mrR1"
 *                  4 type u8, version u8, zero u16
 *                  8 payload_len u32
 *                 12 bundle_count u32 how many records the bundle has
 *                 16 bundle_index u32 which of them this is, from 0
 *                 20 segment u32      number of the segment it was written to
 *                 24 lsn u64          number of the record, from 1, without gaps
 *                 32 seq u64          number of the bundle
 *                 40 incarnation u64  of the log: random, made with it
 *                 48 recorded_ms i64  receive time of the bundle
 *                 56 payload_check u64  XXH3-64 over the payload in blocks of 16 KiB: the check of
 *                                       a block is the seed of the next, the first seed is 0, so
 *                                       that parts of a payload are joined only where they meet
 *                 64 zero u64         for later
 *                 72 header_check u64 XXH3-64 of bytes 0..71
 *
 * Idea        The header has a checksum of its own, so that a length is believed only when it is
 *             sound. incarnation and segment keep old bytes in reused files from passing as
 *             records. bundle_index and bundle_count tell whether a bundle is whole: what follows
 *             a whole bundle was written after that bundle was synced.
 * Gap         Repair puts one GAP where records are lost: it has the lsn of the first of them and stands for
 *             all, so its payload says how many. bundle_index 0 of 1. Its seq is that of the record before it
 *             when bundles were lost in part only, else one that no other record has; so no bundle begins
 *             with a GAP.
 * Invariants  I1 lsn grows by 1, behind a GAP by as many as it stands for.
 *             I2 seq never decreases; records of one seq are adjacent.
 */
#include "base/bytes.h"

#include <sys/uio.h>

#define MR_RECORD_HEADER      80
#define MR_RECORD_ALIGN       8
#define MR_RECORD_MAGIC       0x3152726du /* "mrR1" read as a little-endian number */
#define MR_RECORD_PAYLOAD_MAX (96u << 20)
#define MR_RECORD_GAP_LEN     16
#define MR_LSN_MAX                                                                                 \
    (UINT64_MAX / 2) /* where a GAP ends at the latest: sums of two do not overflow */

enum mr_record_type {
    MR_RECORD_CONFIG = 1, /* first of a log: the settings that shape state, as text */
    MR_RECORD_START,      /* the log was opened (again): empty; nothing before it is unsynced */
    MR_RECORD_EVENTS,     /* a request's body and what decoding needs besides */
    MR_RECORD_TICK,       /* the clock: empty payload, recorded_ms says it */
    MR_RECORD_DEAD,       /* in the dead-letter log: entries of one bundle */
    MR_RECORD_GAP, /* put in by repair: payload u64 first lsn lost (its own), u64 how many (log/log.h) */
    MR_RECORD_VERDICTS, /* what a shared store said of the ids of earlier EVENTS: pipeline/verdicts.c */
    MR_RECORD_WATERMARK, /* a producer says that nothing older will come: pipeline/advance.c */
    MR_RECORD_REDRIVE, /* an event of the dead letters again, with what decoding needs: pipeline/redrive.h */
    MR_RECORD_DISCARD, /* in the dead-letter log: entries before it that are discarded: pipeline/dead_marks.h */
    MR_RECORD_TYPE_END
};

struct mr_record {
    enum mr_record_type type;
    uint32_t bundle_count;
    uint32_t bundle_index;
    uint32_t segment;
    uint64_t lsn;
    uint64_t lsn_count; /* how many it stands for: 1, a GAP as many as are lost */
    uint64_t seq;
    uint64_t incarnation;
    int64_t recorded_ms;
    struct mr_bytes payload;
};

const char *mr_record_type_name(enum mr_record_type type);

/* Header bytes on disk plus payload plus padding. */
uint64_t mr_record_size(size_t payload_len);
/* The payload_check of a payload in parts, one behind the other. */
uint64_t mr_record_payload_check(const struct iovec *payload, int payload_count);
/* Writes the header for record; its payload is what stands in the parts (record->payload is not
 * used). */
void mr_record_encode(const struct mr_record *record, const struct iovec *payload,
                      int payload_count, uint8_t ret[MR_RECORD_HEADER]);
/* MR_CORRUPT when the header is not sound: magic, version, checksum, a type or length out of
 * bounds. ret->payload has the length and a NULL ptr, and lsn_count is 1 until the payload is known. */
enum mr_status mr_record_decode(const uint8_t header[MR_RECORD_HEADER], struct mr_record *ret,
                                uint64_t *ret_payload_check) MR_MUST_CHECK;

void mr_record_gap_encode(uint64_t lsn, uint64_t lsn_count, uint8_t ret[MR_RECORD_GAP_LEN]);
/* Takes lsn_count from the payload of a GAP. MR_CORRUPT when it is not one that repair writes. */
enum mr_status mr_record_gap_decode(struct mr_record *record) MR_MUST_CHECK;
