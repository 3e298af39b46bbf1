/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Journal: the chunks of one dedup: the one being filled, those that are complete, and those that
 * are allocated ahead, so that writing down an id cannot fail.
 *
 *     spare ──▶ open ──full, or an id of another generation──▶ done ──take──▶ the caller
 *
 * Shape       A chunk has room for MR_DEDUP_CHUNK_IDS ids, or for as many as a generation can hold,
 *             if these are fewer. Contents lie behind that room while a chunk is filled, and behind the ids once it is
 *             done, so that it is written in one piece.
 * Owner       The caller's struct; chunks are owned by it until take.
 * Threads     One owner.
 * Errors      reserve: MR_NO_MEMORY; what it had allocated until then is kept for the next time.
 * Cost        16 bytes written for each new id (24 with contents), and a byte read for each id.
 */
#include "dedup/exact.h"

struct mr_journal {
    /* constant after init */
    uint32_t chunk_cap;
    uint64_t ids_each_max;
    enum mr_exact_kind kind;
    /* state */
    bool on;
    uint64_t reserved; /* ids that may come before the next reserve */
    struct mr_dedup_chunk *spare;
    uint32_t spare_count;
    struct mr_dedup_chunk *open; /* NULL, or neither empty nor full */
    struct mr_dedup_chunk *done; /* oldest first */
    struct mr_dedup_chunk *done_last;
};

/* ids_each_max: of one generation; ids_max: of all. Neither is 0. */
void mr_journal_init(struct mr_journal *journal, uint64_t ids_each_max, uint64_t ids_max, enum mr_exact_kind kind);
void mr_journal_finish(struct mr_journal *journal);
/* Off: what was written is freed. */
void mr_journal_switch(struct mr_journal *journal, bool on);

/* Room for `count` ids, of the generation under way or of new ones. */
enum mr_status mr_journal_reserve(struct mr_journal *journal, uint32_t count) MR_MUST_CHECK;
/* Before ids are judged: they must have been reserved. */
void mr_journal_expect(struct mr_journal *journal, uint32_t count);
/* Writes down those of batch->order[from .. to) that are not duplicates. */
void mr_journal_add(struct mr_journal *journal, uint64_t generation,
                    const struct mr_dedup_batch *batch, uint32_t from, uint32_t to);
struct mr_dedup_chunk *mr_journal_take(struct mr_journal *journal, bool all);

void mr_journal_check(const struct mr_journal *journal);
