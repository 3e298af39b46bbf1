/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Slices: what the OPEN windows of a sliding rule hold where an event is in very many of them: one value for each
 * (slice, key), of which a window is put together when it is wanted.
 *
 * Idea        A window of n slices is the sum of O(log n) nodes of a tree over them, and a partial changes one leaf,
 *             whatever n is. Each key has a tree of its own, a binary radix tree (Patricia: Morrison, 1968) of its
 *             slices' numbers, so that a key that is there now and then pays for the slices it has. An inner node's
 *             value is made when it is first wanted, and forgotten when a slice below it changes: it is a cache.
 *
 *                                   [0, 8) ·                     · made of both below when first asked for
 *                               ┌──────┴──────┐
 *                            [0, 4) ·      [4, 8) ·
 *                           ┌───┴───┐     ┌───┴───┐
 *                        [0, 2) ·   2     5     [6, 8) ·         3 and 4 have no events of this key
 *                        ┌─┴─┐                 ┌─┴─┐
 *                        0   1                 6   7
 *
 *                        window of slices [1, 7):  1 + 2 + 5 + 6;  [0, 4): one node
 *
 *             The tree's shape, and the order in which a window's slices are added up, depend on the slices that are
 *             there and on nothing else: not on scans, nor on restarts.
 * Windows     CLOSED and FINAL ones are combine's, as of any rule: the fire that says a window ON_TIME puts it together
 *             (aggregate/fire.c), and a late event is merged into each of them, lateness / every at most, and into its
 *             slice for the OPEN windows over that. A slice goes when the last window over it has closed.
 * Order       Keys are in order of first appearance; so are the panes of a window.
 * Units       Event time in ms. A slice's number is that of its start, in slices since the rule's offset.
 * Owner       One shard thread. The rule outlives the slices.
 * Errors      MR_NO_MEMORY: the caller stops the process.
 * Cost        merge: O(log m), of the m slices a key has; into the slice of its last merge O(1). value: at most 2 log2 m
 *             merges of values, but for what its nodes were not made of yet: at most m, each once. A (slice, key) takes
 *             about 130 B and two states.
 * Invariants  I1 every slice is in an OPEN window, but while the bundle that closed its last one fires.  I2 an inner node
 *             that has a value has it of values below that are there too.
 * Sources     Arasu and Widom, Resource Sharing in Continuous Sliding-Window Aggregates, 2004 (dyadic slices); Li et
 *             al., No Pane, No Gain, 2005 (slices of the greatest common divisor).
 */
#include "aggregate/rule.h"
#include "base/partial.h"
#include "base/status.h"

struct mr_slices;
struct mr_sliced_key;

struct mr_slices_usage {
    uint64_t slices; /* with events of any key */
    uint64_t keys;
    uint64_t leaves;    /* (slice, key)s */
    uint64_t bytes;     /* a function of the leaves but for what sketches have on the heap, as in aggregate/sessions.h */
    uint64_t heap;      /* part of it: of sketches */
    uint64_t key_bytes; /* part of it: of keys and their index */
    uint64_t cached;    /* not part of it: sketches of inner nodes */
    uint64_t windows;   /* OPEN ones that have anything */
    uint64_t groups;    /* (OPEN window, key)s that have, as others count their groups */
};

/* The rule's window is MR_WINDOW_SLIDING and sliced. */
enum mr_status mr_slices_open(const struct mr_rule *rule, struct mr_slices **ret) MR_MUST_CHECK;
void mr_slices_close(struct mr_slices *slices); /* NULL is fine */
const struct mr_slices_usage *mr_slices_usage(const struct mr_slices *slices);

/* Whether the key has this slice; and how many (OPEN window, key)s there would be more if it had. key_hash is
 * mr_hash64(key, rule->key_seed), here and below. */
struct mr_slices_place {
    bool there;
    uint64_t groups_more;
};
struct mr_slices_place mr_slices_find(struct mr_slices *slices, int64_t slice_ms, uint64_t key_hash,
                                      struct mr_bytes key);

/* Merges a partial, in bundle seq, under a key that may be another than its own. */
enum mr_status mr_slices_merge(struct mr_slices *slices, uint64_t seq, struct mr_partial *partial, uint64_t key_hash,
                               struct mr_bytes key) MR_MUST_CHECK;

/* The start of the first window from from_ms on (the last one up to it) that has events; false: there is none. */
bool mr_slices_window_from(const struct mr_slices *slices, int64_t from_ms, int64_t *ret_start_ms);
bool mr_slices_window_to(const struct mr_slices *slices, int64_t to_ms, int64_t *ret_start_ms);

/* The keys, in their order. NULL: that was the last. */
struct mr_sliced_key *mr_slices_first_key(const struct mr_slices *slices);
struct mr_sliced_key *mr_slices_next_key(const struct mr_sliced_key *key);
struct mr_bytes mr_slices_key_bytes(const struct mr_sliced_key *key); /* valid while the key is there */
uint64_t mr_slices_key_hash(const struct mr_sliced_key *key);

/* What the window that begins at start_ms has of a key. events 0: nothing. */
struct mr_slices_value {
    uint64_t events;
    uint64_t revision; /* of the last change */
    uint32_t merges;   /* that it took */
};
/* Adds it to the metrics of a live block; NULL: into nothing. */
enum mr_status mr_slices_add(struct mr_slices *slices, const struct mr_sliced_key *key, int64_t start_ms, uint8_t *live,
                             struct mr_slices_value *ret) MR_MUST_CHECK;

/* That value has become a group of a CLOSED window: of its first one or not. */
void mr_slices_group_closed(struct mr_slices *slices, bool first_of_window);
/* Windows before it are not OPEN any more, once they are put together. */
void mr_slices_advance(struct mr_slices *slices, int64_t open_ms);

/* Frees up to *budget (slice, key)s that no OPEN window needs; *budget becomes what is left. true: all of them. */
bool mr_slices_retire(struct mr_slices *slices, uint32_t *budget);

/* Saving, as mr_combine_save: all (slice, key)s as they were at the end of bundle seq. ret_count: how many were appended;
 * true: that is all, and the save is over. Out of memory ret or the waiting buffer has failed: *ret_failed. */
void mr_slices_save_begin(struct mr_slices *slices, uint64_t seq);
bool mr_slices_save(struct mr_slices *slices, uint32_t budget, struct mr_buf *ret, uint32_t *ret_count,
                    bool *ret_failed);
bool mr_slices_saving(const struct mr_slices *slices);
size_t mr_slices_save_waiting(const struct mr_slices *slices);
void mr_slices_save_stop(struct mr_slices *slices);

/* Loading: into slices just opened, in any order, then the end, which puts keys in their order. MR_CORRUPT: there is a
 * value already. */
struct mr_slices_loaded {
    int64_t start_ms;
    uint64_t events;
    uint64_t revision;
    uint64_t shard;   /* it was on */
    uint64_t ordinal; /* of the key, there */
    struct mr_bytes state; /* checked */
    struct mr_bytes key;
};
enum mr_status mr_slices_load(struct mr_slices *slices, const struct mr_slices_loaded *loaded) MR_MUST_CHECK;
enum mr_status mr_slices_load_end(struct mr_slices *slices) MR_MUST_CHECK;

/* A hash of everything but what is cached. O(n). Out of memory 0. */
uint64_t mr_slices_state_hash_scan(struct mr_slices *slices);
/* firing: windows are being put together. */
void mr_slices_check_scan(struct mr_slices *slices, bool firing);
