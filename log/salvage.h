/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Salvage: what of a damaged segment can be kept, and what its GAPs must say. Reads only; log/rewrite.h does it.
 *
 * Idea        Each record says by itself who it is and whether it is sound, so they are looked for at every place, put
 *             in the order of their lsns, and taken as far as each may follow the one before (mr_chain), with a GAP
 *             between where lsns are missing. What is in no record kept goes to quarantine.
 *
 *                 was   |header|rec 4|rec 5|#########|rec 8|rec 8, stale|zeros
 *                 plan         |rec 4|rec 5|GAP 6, 7 |rec 8|zeros            ranges: ####, the stale record
 *
 *             Of two records of one lsn the one of the later bundle is right: the other was torn before it, and what
 *             zeroed it was lost.
 * The end     A segment that is not the last must reach to where the next begins. The last one ends with what can be
 *             known of: its last bundle is made whole with a GAP, so that no lsn that may have been acknowledged is
 *             given to another record.
 * A GAP's seq As high as it can be, so that a reader from a seq on meets it: below that of the bundle whose record
 *             follows (so no bundle begins with a GAP), and not below that of the record before.
 * Owner       The maker of the plan finishes it.
 * Errors      MR_IO, MR_NO_MEMORY. Whatever the bytes are, they make no other error.
 */
#include "log/frames.h"

/* What is known of the segment and of its neighbours. */
struct mr_salvage_job {
    struct mr_segment segment; /* as its header should be; size is of no matter */
    struct mr_chain chain;     /* before its first record */
    int64_t recorded_ms;       /* of the record before; 0: none known */
    uint64_t until_lsn;        /* where the next segment begins; UINT64_MAX: it is the last */
    uint64_t needed_lsn; /* of the last: what must follow its end at the earliest; 0: anything */
    uint64_t next_seq;   /* of the record at until_lsn; 0: not known */
    bool bad_header;     /* its bytes go to quarantine too */
};

/* Bytes to be copied from the damaged file, or a GAP. */
struct mr_salvage_piece {
    uint64_t offset; /* 0: a GAP */
    uint64_t size;
    struct mr_record gap;
};

/* What is not kept: bytes, or lsns, or both where the ones were the others. */
struct mr_salvage_loss {
    uint64_t from; /* in the damaged file */
    uint64_t to;   /* from: no bytes */
    uint64_t lsn;
    uint64_t lsn_count; /* 0: none */
};

struct mr_salvage {
    struct mr_salvage_piece *pieces;
    uint32_t piece_count;
    uint32_t piece_cap;
    struct mr_salvage_loss *losses;
    uint32_t loss_count;
    uint32_t loss_cap;
    uint64_t end; /* of the records in the new file */
    struct mr_chain chain;
    int64_t recorded_ms;
};

/* path is NULL when there is no file; size is the file's. */
enum mr_status mr_salvage_plan(struct mr_disk *disk, const char *path, uint64_t size,
                               const struct mr_salvage_job *job,
                               struct mr_salvage *ret) MR_MUST_CHECK;
void mr_salvage_finish(struct mr_salvage *salvage);
