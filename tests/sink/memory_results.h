/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Memory results: the results store of sink/results.h without a file, for the simulator and as the oracle of
 * the real one.
 *
 * Idea        A transaction is a list of what was asked for; commit applies it, everything else throws it
 *             away. So the code is simple enough to be believed: a row is found by a search, finalize looks
 *             at every row.
 * Aside       A rule of the same name as one before it is a generation of that one which is aside: what its table
 *             has stays at a rewind, unless its generation is later.
 * Crash       mr_memory_results_crash: what was committed stays, an open transaction is gone, as after
 *             kill -9 and a new open. Readers are to be closed and opened again.
 * Failures    One plan at a time: the k-th operation from now, of the kinds named, once or from then on for
 *             ever. It fails before it has an effect, and the transaction is over; or, for commit and rewind,
 *             after it: the rows are there (or gone), the caller is told of a failure.
 * Threads     One. Memory comes from malloc, so that mr_alloc_fail_at reaches only what is tested.
 */
#include "sink/results.h"

struct mr_memory_results_options {
    const struct mr_results_rule *rules; /* borrowed, as in the real store */
    uint32_t rule_count;
    uint64_t outbox_panes_max; /* 0: no outbox */
    uint64_t incarnation;
    uint64_t epoch; /* the first; 0: 1. A rewind adds 1 */
};

/* Never NULL. */
struct mr_results *mr_memory_results_open(const struct mr_memory_results_options *options);

void mr_memory_results_crash(struct mr_results *results);

enum mr_memory_op {
    MR_MEMORY_BEGIN = 1,
    MR_MEMORY_PUT = 2,
    MR_MEMORY_FINALIZE = 4,
    MR_MEMORY_COMMIT = 8,
    MR_MEMORY_READ = 16, /* also of the outbox */
    MR_MEMORY_REWIND = 32,
    MR_MEMORY_WRITES = MR_MEMORY_BEGIN | MR_MEMORY_PUT | MR_MEMORY_FINALIZE | MR_MEMORY_COMMIT |
                       MR_MEMORY_REWIND,
};

struct mr_memory_failure {
    uint32_t ops; /* of enum mr_memory_op: what counts */
    uint64_t nth; /* 1 is the next; 0: nothing fails */
    bool forever;
    bool after;   /* commit and rewind take effect before they fail; others fail before in any case */
    enum mr_status status;
};

/* Replaces the plan. */
void mr_memory_results_fail(struct mr_results *results, const struct mr_memory_failure *failure);
/* How many operations have failed by plan since opening. */
uint64_t mr_memory_results_failures(const struct mr_results *results);

/* The committed rows of a rule by window start, then key, with their numbers, until visit returns false. */
void mr_memory_results_each(struct mr_results *results, uint32_t rule,
                            bool (*visit)(void *ctx, const struct mr_pane *row), void *ctx);
uint64_t mr_memory_results_count(const struct mr_results *results, uint32_t rule);
void mr_memory_results_check(const struct mr_results *results);
