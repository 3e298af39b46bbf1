/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Partial table: the partials of one bundle on one shard, found by (rule, window, key).
 *
 * Idea        A bundle lives some milliseconds, so forgetting it must cost nothing: slots carry the
 *             number of the bundle they belong to, and the partials lie in an arena.
 * Shape       Slots of 16 bytes, open addressing, at most half full. Partials as they go into
 *             parcels (base/partial.h), each behind a pointer to the next one of its rule.
 * Owner       The caller owns the struct. Partials are valid until reset; they do not move.
 * Threads     One owner.
 * Errors      MR_NO_MEMORY: what was there is still found.
 * Cost        Counting an event: one cache miss for the slot, which prefetch can hide, one for the partial.
 */
#include "aggregate/rule.h"
#include "base/arena.h"
#include "base/partial.h"

struct mr_partial_entry {
    struct mr_partial_entry *next; /* of the same rule, in order of first appearance */
    struct mr_partial partial;     /* state and key behind it */
};

/* Begins as {0}. */
struct mr_partial_list {
    struct mr_partial_entry *first;
    struct mr_partial_entry *last;
};

struct mr_partial_slot {
    struct mr_partial_entry *entry;
    uint32_t tag;
    uint32_t bundle; /* empty when not the table's */
};

struct mr_partial_table {
    struct mr_arena arena;
    struct mr_partial_slot *slots;
    uint32_t slots_log2;
    uint32_t bundle;
    uint32_t used;
};

/* What to look for. */
struct mr_partial_probe {
    uint64_t hash; /* mr_partial_hash */
    uint64_t key_hash;
    int64_t window_start_ms;
    struct mr_bytes key; /* with zero bytes behind it up to a multiple of 8 */
};

enum mr_status mr_partial_table_init(struct mr_partial_table *table) MR_MUST_CHECK;
void mr_partial_table_finish(struct mr_partial_table *table);
/* Forgets all partials. O(1), and once in 2^32 times O(slots). */
void mr_partial_table_reset(struct mr_partial_table *table);
/* key_hash is even already; the multiplications spread windows and rules. */
static inline uint64_t mr_partial_hash(uint64_t key_hash, int64_t window_start_ms, uint32_t rule) {
    uint64_t hash = key_hash ^ (uint64_t)window_start_ms * UINT64_C(0x9E3779B97F4A7C15) ^
                    (uint64_t)rule * UINT64_C(0xC2B2AE3D27D4EB4F);
    return hash * UINT64_C(0xD6E8FEB86659FD93);
}

static inline void mr_partial_table_prefetch(const struct mr_partial_table *table, uint64_t hash) {
    __builtin_prefetch(&table->slots[hash >> (64 - table->slots_log2)]);
}

/* The partials of one rule that n probes look for: each has an event more for each of its probes, and probe k finds its
 * state at states[k]. Those that are not there yet are added, with their metrics initialised, at the end of list.
 * MR_NO_MEMORY: some may have been counted. */
enum mr_status mr_partial_table_count(struct mr_partial_table *table, const struct mr_rule *rule,
                                      const struct mr_partial_probe *probes, uint32_t n,
                                      struct mr_partial_list *list, uint8_t **states) MR_MUST_CHECK;
