/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Exact: an open-addressing table of fingerprints, each with the tag of its generation.
 *
 * Idea        A generation is forgotten by one byte: its tag turns from LIVE to DEAD, and from then
 *             on its entries match nothing. Taking them out is the sweep's work, little by little,
 *             and no answer depends on how far it is.
 *
 *             slots:  | fp·3 | fp·7 |      | fp·3 | fp·8 | fp·7 |      |       fp·tag: 16 bytes
 *                                             ^ home        ^ found: linear probing, 4 slots a line
 *
 *             Entries lie in the order of their homes. So a search for a new id ends at the first
 *             entry with a later home (2 to 3 slots on average; 7 to 12 in any order, before an
 *             empty slot comes), and the sweep only has to move entries down, in one pass, without
 *             searching.
 * Contents    A table with contents has a second array, of the same slots: a hash of what came with the id
 *             first, 0 where that is not known. It moves with the entries. One without is searched by a
 *             loop of its own, which knows nothing of it.
 * Shape       slots = ids_max / 0.71; an entry is 120 bits of fingerprint and a tag of 8 bits in
 *             the top of hi; tag 0 (and then the whole entry is 0) is an empty slot. The home slot
 *             comes from hi, because the high bits of lo chose the shard. No resizing.
 * Sources     Linear probing in order: Amble and Knuth, Ordered hash tables; Robin Hood hashing:
 *             Celis.
 * Owner       The caller's struct; the table is owned by it from open to close.
 * Threads     One owner.
 * Errors      open: MR_NO_MEMORY. Too many ids is a broken invariant: the caller counts them.
 * Cost        One cache miss or two an id, prefetched; 16/0.71 = 22.6 bytes an id. With contents one
 *             miss more, and 24/0.71 = 33.9 bytes. Dead entries are no burden (new ones are put in
 *             their place) until the table is crowded: then each new id pays for 16 slots of sweep,
 *             else for 1.
 * Invariants  I1 from an entry's home to the entry no slot is empty, and no entry has a later home.
 *             I2 a fingerprint has at most one live entry (and perhaps dead ones).
 *             I3 used <= 61/64 slots, so that every search ends.
 *             I4 a tag is opened again only when no entry carries it.
 *
 * Why I3      While more than 7/8 of the slots are used, each new id sweeps 16 slots (in chunks of
 *             at most slots/128 ids), so the sweep visits every slot within slots/16 + slots/128
 *             new ids. A visit leaves nothing dead there; the sweep goes up, and dead
 *             entries never do, so none slips past. Until the end of this pass used grows to at
 *             most 7/8 + 1/128 (the chunk in which it passed the mark) + 1/16 + 1/128 = 61/64 of
 *             the slots. At its end every dead entry was live at the beginning of the pass: used <=
 *             ids_max + slots/16 + slots/128 = 0.78 slots, so the mark is passed downwards before
 *             that.
 * Why I4      Opening a tag adds slots/128 + 1 to the sweep's debt, and first pays what is left of
 *             the debt before. The caller opens tags in a cycle of 255 and keeps at most 112 live.
 *             So between the death of a tag and its next opening at least 142 others are opened,
 *             and the sweep makes 142/128 of a pass.
 */
#include "dedup/batch.h"

#define MR_EXACT_TAGS       256 /* 0: empty; 1 to 255: generations */
#define MR_EXACT_SWEEP_PACE 16  /* slots for each new id, when crowded */

/* What is remembered of an id. */
enum mr_exact_kind { MR_EXACT_IDS, MR_EXACT_CONTENTS };

enum mr_exact_tag_state { MR_EXACT_TAG_UNUSED, MR_EXACT_TAG_LIVE, MR_EXACT_TAG_DEAD };

struct mr_exact_entry {
    uint64_t lo;
    uint64_t hi; /* tag << 56 | fingerprint.hi */
};

struct mr_exact {
    /* constant after open */
    struct mr_exact_entry *entries;
    uint64_t *contents; /* by slot; 0 where it is empty or not known. NULL: the table has none */
    uint64_t slots;
    uint64_t ids_max;
    uint64_t sweep_every; /* new ids between two shares of the sweep */
    /* state */
    uint64_t used; /* slots not empty */
    uint64_t dead; /* of these, with a dead tag */
    uint64_t sweep_at;
    uint64_t sweep_debt; /* slots to be visited before the next tag is opened */
    uint64_t sweep_wait; /* new ids since the sweep's last share, below sweep_every */
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
