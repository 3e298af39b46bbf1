/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Hot: the heaviest keys of one rule on one shard, lately.
 *
 * Idea        Space-Saving: a fixed number of counters; a key without one takes over the least, its count included, and
 *             remembers that count as its error. So a count is never too low, too high by its error at most, and every
 *             key with more than total / MR_HOT_KEYS events has a counter. What is old fades: all counts are halved
 *             every MR_HOT_PERIOD_MS, so the list is about the last minute or two.
 *
 *                 events   |–––––step–––––|–––––step–––––|–––––step–––––|      of each step, one event at a place drawn
 *                 looked at        ^                 ^    ^                     anew is counted, for all of the step
 *
 *             A partial costs an addition and a comparison; only those that such a place falls into cost more. step is
 *             1 (everything is counted) up to MR_HOT_SAMPLES events and doubles with them, so that a rule has at least
 *             half as many samples lately, however busy it is. Drawn places, not every n-th one: keys that come in the
 *             same order again and again would else be counted all, or never.
 * Shape       counters[MR_HOT_KEYS] in no order, their hashes' lower halves in an array of their own.
 * Bounds      MR_HOT_KEYS counters, each with a key of at most MR_KEY_LEN_MAX bytes.
 * Units       Events; recorded time in ms.
 * Owner       The shard's combine. It is no part of the state: neither saved nor hashed; a restart begins anew with
 *             what is replayed.
 * Threads     The shard's.
 * Errors      Without memory for a key the events are in total alone.
 * Cost        add: 1 ns; for each sample about 50 ns, and a copy of the key when it is new.
 * Invariants  I1 the counts add up to total, but for what memory was missing for and what halving rounds off.
 *             I2 error <= count.  I3 a key has one counter.
 * Sources     Metwally, Agrawal, El Abbadi, Efficient Computation of Frequent and Top-k Elements in Data Streams, 2005.
 */
#include "base/bytes.h"
#include "base/check.h"
#include "base/limits.h"

#define MR_HOT_KEYS 64
#define MR_HOT_PERIOD_MS INT64_C(30000)
#define MR_HOT_SAMPLES UINT64_C(1024) /* with 3 standard deviations a share is right to within 0.05 */

struct mr_hot_counter {
    uint64_t hash; /* of the key: which tells keys apart */
    uint64_t count;
    uint64_t error;
    uint8_t *key;
    uint32_t key_len;
    uint32_t key_cap;
};

struct mr_hot {
    /* Events since the step began whose place comes next; negative: it has not begun, the last one's place is behind. */
    int64_t at;
    int64_t next;  /* that place, in [0, step) */
    uint64_t step; /* a power of two */
    uint64_t random;
    uint64_t total; /* counted events: those that came, to within a step */
    uint64_t heaviest; /* the greatest count */
    uint64_t least;    /* no count is below it */
    uint32_t hand;     /* where the search for the least goes on */
    uint32_t used;
    int64_t began_ms;  /* recorded time of the first advance; INT64_MIN: none yet */
    int64_t period_ms; /* of the last halving, or the first advance */
    uint32_t *tags;
    struct mr_hot_counter *counters;
};

enum mr_status mr_hot_init(struct mr_hot *hot) MR_MUST_CHECK;
void mr_hot_finish(struct mr_hot *hot); /* fine after a failed init, and on zero bytes */

/* Counts the events since the last place; for mr_hot_add alone. */
void mr_hot_sample(struct mr_hot *hot, uint64_t hash, struct mr_bytes key);

/* The key, whose hash this is, has had so many events more. */
static inline void mr_hot_add(struct mr_hot *hot, uint64_t hash, struct mr_bytes key, uint64_t events) {
    hot->at += (int64_t)events;
    if (hot->at > hot->next) {
        mr_hot_sample(hot, hash, key);
    }
}

/* Recorded time has come this far: halves once for every period that is over. It does not go back. */
void mr_hot_advance(struct mr_hot *hot, int64_t recorded_ms);

/* From here on events count whole or half, those before it a quarter or less. INT64_MIN: nothing has come. */
int64_t mr_hot_since_ms(const struct mr_hot *hot);

/* Appends to a buffer of rows (mr_row_append): first one without a key whose window_start_ms is mr_hot_since_ms and
 * whose events are the total; then one for each counter, in no order, with key, events and, as revision, the error. */
void mr_hot_append(const struct mr_hot *hot, struct mr_buf *rows);

void mr_hot_check(const struct mr_hot *hot);
