/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Key index: keys of groups, found by their bytes; and the growing array it stands on.
 *
 * Idea        Linear hashing (Litwin, 1980): buckets split and join one at a time, in an array of blocks that never
 *             moves as a whole, so that no call is O(all keys).
 *
 *                 buckets ──▶ key ──▶ key ──▶ …
 *
 * Owner       The caller owns the struct and what `root` points to.
 * Threads     One owner.
 * Errors      NULL or MR_NO_MEMORY: nothing changed.
 * Cost        find, add, release: O(1), two cache misses.
 * Invariants  I1 every key is found by its bytes, and there once.  I2 as many buckets as keys, up to twice as many.
 */
#include "base/bytes.h"
#include "base/status.h"

/* An array of pointers in blocks: it never moves as a whole. */
enum { MR_SLOTS_BLOCK = 512 };

struct mr_slots {
    void ***blocks;
    uint64_t count;
    uint32_t block_count;
    uint32_t block_cap;
};

enum mr_status mr_slots_reserve(struct mr_slots *slots) MR_MUST_CHECK; /* room for one more */
void mr_slots_pop(struct mr_slots *slots); /* the last slot goes */
void mr_slots_finish(struct mr_slots *slots);
static inline void **mr_slot(const struct mr_slots *slots, uint64_t at) {
    return &slots->blocks[at / MR_SLOTS_BLOCK][at % MR_SLOTS_BLOCK];
}

struct mr_key_entry {
    struct mr_key_entry *next; /* in its bucket */
    void *root;                /* what the owner has of this key; NULL when the last reference goes */
    uint64_t hash;
    uint32_t refs;
    uint32_t len;
    uint8_t bytes[];
};

/* Begins as {0}. */
struct mr_key_index {
    struct mr_slots buckets;
    uint64_t count;
};

/* NULL: not there. */
struct mr_key_entry *mr_key_index_find(const struct mr_key_index *index, uint64_t hash, struct mr_bytes bytes);
/* A key that is not there yet, without references. NULL: out of memory. */
struct mr_key_entry *mr_key_index_add(struct mr_key_index *index, uint64_t hash, struct mr_bytes bytes);
/* One reference less; with the last one the key goes. */
void mr_key_index_release(struct mr_key_index *index, struct mr_key_entry *key);
/* All keys have gone (asserted). */
void mr_key_index_finish(struct mr_key_index *index);
/* seed: of the hashes. */
void mr_key_index_check_scan(const struct mr_key_index *index, uint64_t seed);
