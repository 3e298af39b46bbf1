/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Saved: how groups look in a slice of a save: what save.c writes and load.c reads. Nobody else
 * includes it.
 *
 * Shape       Little-endian, everything a multiple of 8 bytes long:
 *
 *                 | slice 48 B | run | run | … | in the last slice: counters of each rule, 32 B |
 *                 run:   | run 40 B | group | group | …       groups of one window
 *                 group: | group 48 B | state, encoded | key | padding to 8 |
 *
 *             ref is a group's place in the window's order of first appearance. Its slice says on which shard.
 * Invariants  I1 the checksum covers all of a slice behind itself.  I2 of one save, slices have the
 *             indexes 0, 1, 2 … and only the last one is marked so.
 */
#include "aggregate/groups.h"
#include "aggregate/rule.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs are written as they are");

#define MR_SAVED_MAGIC UINT32_C(0x3347726D) /* "mrG3" */
/* "mrG2": no MR_GROUP_UNSAID; where late is off it is what has changed since the end. */
#define MR_SAVED_MAGIC_2 UINT32_C(0x3247726D)

struct mr_saved_slice {
    uint64_t checksum; /* mr_checksum */
    uint32_t magic;
    uint32_t index;
    uint64_t len; /* of the slice, this header included */
    uint64_t seq; /* the save's */
    uint32_t shard;
    uint32_t rule_count; /* of the saving plan */
    uint32_t last;       /* 0 or 1 */
    uint32_t zero;
};

#define MR_SAVED_SESSIONS 2
#define MR_SAVED_SLICES   3

struct mr_saved_run {
    uint32_t rule; /* index in the saving plan */
    uint32_t state_len;
    int64_t start_ms;
    uint64_t closed_seq; /* 0: the window was open, or was first seen when its end had passed */
    uint32_t closed;     /* 0 or 1; MR_SAVED_SESSIONS: what follows is of mr_sessions_save, count is 1; MR_SAVED_SLICES:
                            what follows are mr_saved_leaf, each with its start */
    uint32_t count;      /* groups, or leaves, at least 1 */
    uint64_t len;        /* bytes of them */
};

struct mr_saved_group {
    uint64_t events;
    uint64_t revision;
    uint32_t key_len;
    uint32_t ref;
    uint32_t state_len; /* encoded */
    uint32_t panes;
    struct mr_group_firing firing; /* zero where there are no early panes */
};

/* A (slice, key), aggregate/slices.h: state and key are behind it as behind a group. */
struct mr_saved_leaf {
    int64_t start_ms;
    uint64_t events;
    uint64_t revision;
    uint64_t ordinal; /* of the key, in the order of keys on its shard */
    uint32_t key_len;
    uint32_t state_len; /* encoded */
};

/* Of one rule, as they were when the save began. */
struct mr_saved_counters {
    uint64_t applied;
    uint64_t dropped;
    uint64_t overflow;
    uint64_t panes;
};

static_assert(sizeof(struct mr_saved_slice) == 48, "no padding inside");
static_assert(sizeof(struct mr_saved_run) == 40, "no padding inside");
static_assert(sizeof(struct mr_saved_group) == 48, "no padding inside");
static_assert(sizeof(struct mr_saved_leaf) == 40, "no padding inside");
static_assert(sizeof(struct mr_saved_counters) == 32, "no padding inside");

static inline uint64_t mr_saved_group_size(const struct mr_saved_group *group) {
    return (sizeof *group + (uint64_t)group->state_len + group->key_len + 7) & ~UINT64_C(7);
}

static inline uint64_t mr_saved_leaf_size(const struct mr_saved_leaf *leaf) {
    return (sizeof *leaf + (uint64_t)leaf->state_len + leaf->key_len + 7) & ~UINT64_C(7);
}
