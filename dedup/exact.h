/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Exact: a hash table of fingerprints, each with the tag of its generation, in lines of the cache.
 *
 * Idea        A search should touch one cache line, and little else costs anything: a random line is a cache miss and a
 *             page walk, and comparing five entries in it is cheaper than looking at one more. So an id's home is a
 *             line, its entry lies anywhere in there, and never moves.
 *
 *             line, 64 bytes:  | lo | lo | lo | lo | lo | tag·hi ×5 | marks, ways |      room for five ids
 *
 *             A home that is full sends the id on to the next line with room, and says so: each line on the way gets the
 *             id's mark, one of twelve. A search goes on behind a line only where that has the searched id's mark. The
 *             way tells how far an entry is from home, so that the sweep can see which marks are still needed.
 *             A generation is forgotten by one byte: its tag turns from LIVE to DEAD, and from then on its entries
 *             match nothing and are room. Taking them out is the sweep's work, little by little, and no answer
 *             depends on how far it is.
 * Exactness   A line keeps 88 of an id's 120 bits; the others have led to the line. Two ids are taken for the same one
 *             when all 88 agree and one's home lies on the other's way: 88 bits and log2(lines), less about one
 *             (docs/GUARANTEES.md).
 * Contents    A table with contents has an array of the same slots beside it: a hash of what came with the id first, 0
 *             where that is not known. One without is searched by a loop of its own, which knows nothing of it.
 * Shape       slots = ids_max / 0.57 (0.63 with contents), five a line; tag 0 (and then the whole entry is 0) is an
 *             empty slot. The home comes from the high bits of the fingerprint's hi: those of lo chose the shard. No
 *             resizing.
 * Sources     Lines with marks of what went on: the overflow bytes of F14 (Folly) and boost::unordered_flat_map.
 *             Leaving out what the place tells: quotienting (Knuth, The Art of Computer Programming 6.4, exercise 13).
 * Owner       The caller's struct; the table is owned by it from open to close.
 * Threads     One owner.
 * Errors      open: MR_NO_MEMORY. Too many ids is a broken invariant: the caller counts them.
 * Cost        One cache miss an id, prefetched; one more for a new id in eight of a full table, which several wait for
 *             together. 64/5/0.57 = 22.6 bytes an id; with contents one miss more, and 104/5/0.63 = 33.0 bytes. While
 *             something is dead, eight new ids pay for one line of sweep.
 * Invariants  I1 from an entry's home to the line before its own, all lines have its mark.
 *             I2 a fingerprint has at most one live entry (and perhaps dead ones).
 *             I3 live entries <= ids_max < slots, so that a new id finds room.
 *             I4 a tag is opened again only when no entry carries it.
 *
 * Why I4      The sweep goes around, and rests when it has been everywhere since the last tag died. Opening a tag adds
 *             lines/128 + 1 to its debt, and first pays what is left of the debt before. The caller opens tags in a
 *             cycle of 255 and keeps at most 112 live. So between the death of a tag and its next opening at least 142
 *             others are opened, and the sweep makes 142/128 of a pass.
 */
#include "dedup/batch.h"

#define MR_EXACT_TAGS       256 /* 0: empty; 1 to 255: generations */
#define MR_EXACT_LINE       5   /* slots of a line */
#define MR_EXACT_SWEEP_PACE 8   /* new ids for each line that the sweep visits */

/* What is remembered of an id. */
enum mr_exact_kind { MR_EXACT_IDS, MR_EXACT_CONTENTS };

enum mr_exact_tag_state { MR_EXACT_TAG_UNUSED, MR_EXACT_TAG_LIVE, MR_EXACT_TAG_DEAD };

struct mr_exact_line {
    uint64_t lo[MR_EXACT_LINE];
    uint32_t hi[MR_EXACT_LINE]; /* tag << 24 | the low 24 bits of the fingerprint's hi */
    uint32_t marks_and_ways;    /* 12 marks, then 4 bits for each entry: how many lines it is from its home */
};

struct mr_exact {
    /* constant after open */
    struct mr_exact_line *lines;
    uint64_t *contents; /* by slot; 0 where it is empty or not known. NULL: the table has none */
    uint64_t count;     /* of lines */
    uint64_t slots;     /* count * MR_EXACT_LINE */
    uint64_t ids_max;
    /* state */
    uint64_t used; /* slots not empty */
    uint64_t dead; /* of these, with a dead tag */
    uint64_t sweep_at;   /* the line it visits next; it goes down */
    uint64_t sweep_left; /* lines until it has seen everything since the last death; 0: it rests */
    uint64_t sweep_debt; /* lines to be visited before the next tag is opened */
    uint64_t sweep_wait; /* new ids since the sweep's last share */
    uint64_t tag_used[MR_EXACT_TAGS];
    uint8_t tag_state[MR_EXACT_TAGS];
};

/* ids_max: live at the same time, at most 2^40. */
enum mr_status mr_exact_open(struct mr_exact *exact, uint64_t ids_max, enum mr_exact_kind kind) MR_MUST_CHECK;
void mr_exact_close(struct mr_exact *exact);
/* What open takes. */
uint64_t mr_exact_bytes_planned(uint64_t ids_max, enum mr_exact_kind kind);

/* From now on entries with this tag are live. No entry has it yet (I4). */
void mr_exact_tag_open(struct mr_exact *exact, uint8_t tag);
/* Forgets all entries with this tag. */
void mr_exact_tag_kill(struct mr_exact *exact, uint8_t tag);

/* Judges from batch->order[from] on; new ids get the tag. Stops before the first new id after
 * new_max of them; returns where it stopped (batch->count: all judged) and how many were new. With contents a
 * duplicate whose content is another than the first one's, both known, is MR_DEDUP_CONFLICT. */
uint32_t mr_exact_judge(struct mr_exact *exact, const struct mr_dedup_batch *batch, uint32_t from,
                        uint8_t tag, uint64_t new_max, uint64_t *ret_new);
/* The tag of a live fingerprint, 0 when there is none. */
uint8_t mr_exact_find(const struct mr_exact *exact, struct mr_fingerprint fp);

/* Visits up to `slots` slots and takes out what is dead there. Returns whether dead entries are
 * left. */
bool mr_exact_sweep(struct mr_exact *exact, uint64_t slots);

/* The sum over live entries of a hash of (fingerprint, salt of its tag, content): independent of slots and
 * tags. */
uint64_t mr_exact_hash_scan(const struct mr_exact *exact, const uint64_t tag_salt[MR_EXACT_TAGS]);
void mr_exact_check_scan(const struct mr_exact *exact);
