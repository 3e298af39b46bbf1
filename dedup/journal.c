/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/journal.h"

#include "base/alloc.h"
#include "base/check.h"

static void free_chunks(struct mr_dedup_chunk *chunk) {
    while (chunk != NULL) {
        struct mr_dedup_chunk *next = chunk->next;
        mr_free(chunk);
        chunk = next;
    }
}

void mr_journal_init(struct mr_journal *journal, uint64_t ids_each_max, uint64_t ids_max, enum mr_exact_kind kind) {
    MR_ASSERT(ids_each_max > 0 && ids_max > 0);
    uint64_t cap = ids_each_max < ids_max ? ids_each_max : ids_max;
    *journal = (struct mr_journal){
        .chunk_cap = (uint32_t)(cap < MR_DEDUP_CHUNK_IDS ? cap : MR_DEDUP_CHUNK_IDS),
        .ids_each_max = ids_each_max,
        .kind = kind,
    };
}

void mr_journal_finish(struct mr_journal *journal) {
    free_chunks(journal->spare);
    free_chunks(journal->done);
    mr_free(journal->open);
    *journal = (struct mr_journal){0};
}

void mr_journal_switch(struct mr_journal *journal, bool on) {
    if (!on) {
        uint32_t chunk_cap = journal->chunk_cap;
        uint64_t ids_each_max = journal->ids_each_max;
        enum mr_exact_kind kind = journal->kind;
        mr_journal_finish(journal);
        journal->chunk_cap = chunk_cap;
        journal->ids_each_max = ids_each_max;
        journal->kind = kind;
    }
    journal->on = on;
}

/* ---- reserving ---- */

/* How many chunks `count` ids can begin: the first, because the open one may be full or of a
 * generation that has ended; the next whenever one is full; and with the next generation when one
 * is full, the first time with fewer ids than it can hold. */
static uint64_t chunks_for(const struct mr_journal *journal, uint32_t count) {
    uint64_t each = journal->ids_each_max;
    uint64_t chunks = 1 + count / journal->chunk_cap;
    if (each != UINT64_MAX) {
        chunks += 1 + (each > journal->chunk_cap ? count / each : 0);
    }
    return chunks < count ? chunks : count;
}

enum mr_status mr_journal_reserve(struct mr_journal *journal, uint32_t count) {
    if (!journal->on) {
        return MR_OK;
    }
    uint64_t chunks = chunks_for(journal, count);
    bool contents = journal->kind == MR_EXACT_CONTENTS;
    size_t each = sizeof(struct mr_fingerprint) + (contents ? sizeof(uint64_t) : 0);
    while (journal->spare_count < chunks) {
        struct mr_dedup_chunk *chunk = mr_alloc(sizeof *chunk + journal->chunk_cap * each);
        if (chunk == NULL) {
            return MR_NO_MEMORY;
        }
        *chunk = (struct mr_dedup_chunk){.next = journal->spare, .cap = journal->chunk_cap, .contents = contents};
        journal->spare = chunk;
        journal->spare_count++;
    }
    journal->reserved = count;
    return MR_OK;
}

void mr_journal_expect(struct mr_journal *journal, uint32_t count) {
    MR_ASSERT(!journal->on || journal->reserved >= count);
    journal->reserved -= journal->on ? count : 0;
}

/* ---- writing ---- */

/* Where contents lie while the chunk is filled. */
static uint64_t *open_contents(struct mr_dedup_chunk *chunk) {
    return (uint64_t *)(void *)(chunk->ids + chunk->cap);
}

static void complete(struct mr_journal *journal) {
    struct mr_dedup_chunk *chunk = journal->open;
    MR_ASSERT(chunk->count > 0 && chunk->next == NULL);
    if (chunk->contents) {
        memmove(chunk->ids + chunk->count, open_contents(chunk), chunk->count * sizeof(uint64_t));
    }
    *(journal->done == NULL ? &journal->done : &journal->done_last->next) = chunk;
    journal->done_last = chunk;
    journal->open = NULL;
}

/* A chunk with room for an id of this generation. */
static struct mr_dedup_chunk *open_for(struct mr_journal *journal, uint64_t generation) {
    if (journal->open != NULL && journal->open->generation != generation) {
        complete(journal);
    }
    if (journal->open == NULL) {
        struct mr_dedup_chunk *chunk = journal->spare;
        MR_ASSERT(chunk != NULL); /* mr_journal_reserve */
        journal->spare = chunk->next;
        journal->spare_count--;
        chunk->next = NULL;
        chunk->generation = generation;
        journal->open = chunk;
    }
    return journal->open;
}

/* Those of the ids that were just written behind chunk->count. */
static void add_contents(struct mr_dedup_chunk *chunk, const struct mr_dedup_batch *batch, uint32_t from,
                         uint32_t to) {
    uint64_t *contents = open_contents(chunk);
    uint32_t count = chunk->count;
    for (uint32_t k = from; k < to; k++) {
        contents[count] = batch->contents[k]; /* a duplicate's is written over, or lies behind the last */
        count += batch->duplicate[k] == 0;
    }
}

void mr_journal_add(struct mr_journal *journal, uint64_t generation,
                    const struct mr_dedup_batch *batch, uint32_t from, uint32_t to) {
    const uint8_t *duplicate = batch->duplicate;
    uint32_t k = from;
    for (;;) {
        while (k < to && duplicate[k] != 0) {
            k++;
        }
        if (k == to) {
            return;
        }
        struct mr_dedup_chunk *chunk = open_for(journal, generation);
        uint32_t count = chunk->count;
        uint32_t cap = chunk->cap;
        uint32_t first = k;
        for (; k < to && count < cap; k++) {
            chunk->ids[count] = batch->fps[batch->order[k]]; /* a duplicate's is written over */
            count += duplicate[k] == 0;
        }
        if (chunk->contents) {
            add_contents(chunk, batch, first, k);
        }
        chunk->count = count;
        if (count == cap) {
            complete(journal);
        }
    }
}

struct mr_dedup_chunk *mr_journal_take(struct mr_journal *journal, bool all) {
    if (all && journal->open != NULL) {
        complete(journal);
    }
    struct mr_dedup_chunk *done = journal->done;
    journal->done = NULL;
    journal->done_last = NULL;
    return done;
}

void mr_journal_check(const struct mr_journal *journal) {
    uint32_t spare = 0;
    for (const struct mr_dedup_chunk *c = journal->spare; c != NULL; c = c->next) {
        MR_ASSERT(c->count == 0 && c->cap == journal->chunk_cap);
        spare++;
    }
    MR_ASSERT(spare == journal->spare_count);
    MR_ASSERT(journal->open == NULL ||
              (journal->open->count > 0 && journal->open->count < journal->open->cap));
    const struct mr_dedup_chunk *last = NULL;
    for (const struct mr_dedup_chunk *c = journal->done; c != NULL; c = c->next) {
        MR_ASSERT(c->count > 0 && c->count <= c->cap);
        last = c;
    }
    MR_ASSERT(last == NULL || last == journal->done_last);
    MR_ASSERT(journal->on || (spare == 0 && last == NULL && journal->open == NULL));
}
