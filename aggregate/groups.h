/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Groups: the groups of one window, found by key, kept in order of first appearance.
 *
 * Idea        Groups lie one behind the other in blocks and are named by a 32-bit reference (block
 *             and offset), so an index slot is 8 bytes: 32 bits of the key's hash and the
 *             reference. The index is extendible hashing (Fagin et al., 1979): small segments that
 *             split one at a time, so that a window of ten million groups grows without one long
 *             rehash. Splitting reads the slots' hash bits only, never the groups.
 *
 *                 directory   00 ──▶ segment | hash ref | hash ref |  …  up to 1,023 slots
 *                 (top bits   01 ──▶ segment     │
 *                  of hash)   10 ─┐              ▼
 *                             11 ─┴▶ segment  blocks  | group | group | …     64 KiB each
 *
 * Shape       One group: | mr_group 24 B | state | mr_group_firing, or not | key | padding to 8 |; state_len counts
 *             all that is before the key. The first block and a lone
 *             segment begin small and double, so that a window of five groups costs some hundred
 *             bytes. With count and sum and a key of 13 encoded bytes a group takes 88 B and about
 *             15 B of index.
 * Owner       The caller owns the struct.
 * Threads     One owner.
 * Errors      add: MR_NO_MEMORY, no group added.
 * Cost        find: two or three cache misses. add: amortised O(1); the longest one splits a
 *             segment of 1,023 slots and doubles the directory (8 B per about 600 groups).
 * Invariants  I1 references ascend in order of first appearance.  I2 every group is found by its
 *             key. I3 bytes is what the heap holds for it.
 */
#include "base/bytes.h"
#include "base/check.h"

struct mr_group {
    uint64_t events;
    uint64_t revision; /* seq of the bundle that changed it last */
    uint32_t key_len;
    uint32_t panes; /* aggregate/combine_state.h */
};

static_assert(sizeof(struct mr_group) == 24, "state begins 8-byte aligned");

struct mr_group_block {
    uint8_t *ptr;
    uint32_t used;
    uint32_t cap;
};

struct mr_group_segment;

struct mr_groups {
    struct mr_group_block *blocks; /* NULL: only `first` */
    struct mr_group_block first;
    uint32_t block_count;
    uint32_t block_cap;
    struct mr_group_segment **directory; /* NULL while depth is 0 */
    struct mr_group_segment *lone;       /* while depth is 0 */
    uint32_t depth;
    uint32_t state_len;
    uint32_t count;
    uint32_t moved; /* index words the last add moved: for tests of its bound */
    size_t bytes;
};

/* How a group fires, behind its state; only where there are early panes: others do not pay for it. So who turns them off
 * and on again finds that all events of a group count as not yet said. */
struct mr_group_firing {
    uint64_t fired_events; /* of those in the state, when it fired last */
    int64_t waiting_ms;    /* recorded time of the first change since; 0: none */
};

/* The bits of a key's hash the index uses: the lower ones, for the upper ones chose the shard. */
static inline uint32_t mr_group_hash(uint64_t key_hash) {
    return (uint32_t)key_hash;
}

static inline uint8_t *mr_group_state(struct mr_group *group) {
    return (uint8_t *)group + sizeof *group;
}

static inline struct mr_bytes mr_group_key(const struct mr_group *group, uint32_t state_len) {
    return mr_bytes_of((const uint8_t *)group + sizeof *group + state_len, group->key_len);
}

void mr_groups_init(struct mr_groups *groups, uint32_t state_len);
void mr_groups_finish(struct mr_groups *groups);

/* NULL if there is none. A group's pointer is valid until the next add. */
struct mr_group *mr_groups_find(const struct mr_groups *groups, uint32_t hash, struct mr_bytes key,
                                uint32_t *ret_ref);
/* A find in three steps, each for many keys before the next, so that cache misses overlap: a hint for the index slot;
 * then the reference of the first group of that hash, which is prefetched (MR_GROUPS_NONE: there is none); then that
 * group if it has the key, else NULL, and a find is due: groups may have been added, or two keys have the same hash. */
#define MR_GROUPS_NONE UINT32_MAX
void mr_groups_prefetch_slot(const struct mr_groups *groups, uint32_t hash);
uint32_t mr_groups_seek(const struct mr_groups *groups, uint32_t hash);
struct mr_group *mr_groups_of_key(const struct mr_groups *groups, uint32_t ref, struct mr_bytes key);
/* A new group, of a key that is not in yet: events and revision 0, state all zero bytes. */
enum mr_status mr_groups_add(struct mr_groups *groups, uint32_t hash, struct mr_bytes key,
                             struct mr_group **ret, uint32_t *ret_ref) MR_MUST_CHECK;

struct mr_group *mr_groups_at(const struct mr_groups *groups, uint32_t ref);
/* Walks in order of first appearance: *ref begins as 0; takes the group at *ref and moves on. NULL:
 * done. */
struct mr_group *mr_groups_next(const struct mr_groups *groups, uint32_t *ref);

/* hash_of: the hash that each key was added with. */
void mr_groups_check_scan(const struct mr_groups *groups,
                          uint32_t (*hash_of)(struct mr_bytes key, uint64_t seed), uint64_t seed);
