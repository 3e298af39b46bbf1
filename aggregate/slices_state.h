/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Slices, inside: what the files slices*.c share. Nobody else includes it.
 *
 * Shape       A leaf is one piece of heap memory and stands in two places: in its key's tree, and in its slice's list.
 *
 *                 by_key ──▶ key ──▶ root ──▶ … ──▶ leaf          by_time ──▶ slice ──▶ leaf ──▶ leaf
 *
 *             An inner node's value is that of both below, encoded: behind the node, or of rules with sketches, whose
 *             encoded values have no fixed length, in a piece of its own while it is there.
 */
#include "aggregate/key_index.h"
#include "aggregate/slices.h"
#include "aggregate/timeline.h"

/* Of level L: what is below has the numbers from number on, 2^L of them. Leaves: L is 0. */
struct mr_slice_node {
    struct mr_slice_node *parent;
    uint64_t number;
    uint64_t events; /* inner: while it is made, as the next */
    uint64_t revision;
    uint32_t save_mark; /* leaf: equal to mr_slices_saving.number: written, or new */
    uint8_t level;
    bool made; /* inner: it has a value */
};

struct mr_slice_inner {
    struct mr_slice_node node;
    struct mr_slice_node *below[2];
    uint8_t *encoded; /* rules with sketches */
    uint64_t len;     /* of it */
    uint64_t blocks[];
};

struct mr_slice_leaf {
    struct mr_slice_node node;
    struct mr_sliced_key *key;
    struct mr_slice_leaf *next; /* of the slice */
    uint64_t blocks[];          /* live metrics */
};

struct mr_slice {
    int64_t start_ms;
    struct mr_slice_leaf *first;
    struct mr_slice_leaf *last;
};

struct mr_sliced_key {
    struct mr_key_entry *entry;
    struct mr_slice_node *root;
    struct mr_slice_leaf *recent; /* merged last; NULL: it is gone */
    struct mr_sliced_key *previous;
    struct mr_sliced_key *next;
    uint64_t shard; /* loading: where it was, and its ordinal there */
    uint64_t ordinal;
};

struct mr_slices_save {
    bool under_way;
    uint64_t seq;
    uint32_t number; /* of this save, from 1 */
    int64_t start_ms; /* the walk is in this slice, or before it */
    struct mr_slice_leaf *at; /* its next one; NULL: the slice has not been begun */
    bool walked; /* the walk is through */
    struct mr_buf waiting; /* leaves as they were before they changed */
    uint32_t waiting_count;
};

struct mr_slices {
    const struct mr_rule *rule;
    int64_t offset_ms; /* of slices */
    int64_t open_ms;   /* start of the first OPEN window */
    struct mr_key_index by_key; /* root: a sliced key */
    struct mr_timeline by_time; /* of struct mr_slice */
    struct mr_sliced_key *first;
    struct mr_sliced_key *last;
    struct mr_sliced_key *found; /* by the last search */
    uint64_t next_ordinal;
    uint8_t *live; /* scratch: a live block, neutral between calls */
    struct mr_buf encoded; /* scratch: a state */
    struct mr_slices_usage usage;
    struct mr_slices_save save;
};

static inline uint8_t *mr_slice_live(struct mr_slice_leaf *leaf) {
    return (uint8_t *)leaf->blocks;
}

static inline uint64_t mr_slice_number(const struct mr_slices *s, int64_t start_ms) {
    int64_t number = (start_ms - s->offset_ms) / s->rule->window.slice_ms;
    return number < 0 ? 0 : (uint64_t)number; /* no event is before 1970 */
}

static inline int64_t mr_slice_start(const struct mr_slices *s, uint64_t number) {
    return (int64_t)number * s->rule->window.slice_ms + s->offset_ms;
}

/* slices_tree.c */
struct mr_slice_leaf *mr_slice_tree_find(const struct mr_sliced_key *key, uint64_t number);
/* The last one before number, and the first one behind it; NULL: there is none. */
const struct mr_slice_leaf *mr_slice_tree_before(const struct mr_sliced_key *key, uint64_t number);
const struct mr_slice_leaf *mr_slice_tree_behind(const struct mr_sliced_key *key, uint64_t number);
/* A leaf, whose number is not there, with a value of nothing. NULL: out of memory. */
struct mr_slice_leaf *mr_slice_tree_add(struct mr_slices *s, struct mr_sliced_key *key, uint64_t number);
/* Takes it out of the tree and frees it. */
void mr_slice_tree_remove(struct mr_slices *s, struct mr_slice_leaf *leaf);
/* Its value is about to change: what was made of it is forgotten. */
void mr_slice_tree_forget(struct mr_slices *s, struct mr_slice_node *node);
/* Frees all of the tree. */
void mr_slice_tree_free(struct mr_slices *s, struct mr_sliced_key *key);
void mr_slice_tree_check(const struct mr_slices *s, const struct mr_sliced_key *key, uint64_t *leaves,
                         uint64_t *cached);

/* slices.c */
/* The key, and the leaf of this slice, which are added if they are not there. NULL: out of memory. */
struct mr_slice_leaf *mr_slices_leaf(struct mr_slices *s, int64_t start_ms, uint64_t key_hash, struct mr_bytes key,
                                     bool *ret_key_is_new);
/* leaf += encoded. */
enum mr_status mr_slices_merge_leaf(struct mr_slices *s, struct mr_slice_leaf *leaf, struct mr_bytes encoded,
                                    uint64_t events, uint64_t revision) MR_MUST_CHECK;

/* slices_save.c: it is about to change or go: written down as it is, if a save wants it and has not got it. */
void mr_slice_touch(struct mr_slices *s, struct mr_slice_leaf *leaf);
/* Behind it the walk goes on, if it is at this leaf. */
void mr_slice_save_leave(struct mr_slices *s, const struct mr_slice_leaf *leaf);
