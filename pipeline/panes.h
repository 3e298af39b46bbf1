/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Panes on their way into the results store: their numbers are made here, from the state they carry.
 *
 * Order       Groups fire in the order of their table, which is none. The store's rows lie in that of (rule, window, key), in
 *             a B-tree; put at random, nearly every row of a large window finds its page gone from the store's cache. So
 *             the panes of a bundle are gathered first, and put in the order of their rows, MR_PANES_TOGETHER at a time.
 *             Panes of the same row keep their order.
 * Owner       Gathered panes borrow from their parcels until they are put.
 * Threads     The store's writer: the flusher, or nobody else while it does not run.
 * Errors      From putting: the store's; nothing is gathered any more then, for its transaction is over.
 */
#include "pipeline/plan.h"
#include "sink/results.h"

/* Of the arena for texts. */
#define MR_PANE_SCRATCH_FIRST 4096
#define MR_PANE_SCRATCH_MAX   (1u << 20)

#define MR_PANES_TOGETHER (128u << 10)

/* Where a gathered pane lies. */
struct mr_pane_place {
    const uint8_t *pane; /* encoded */
    const uint8_t *key;
    int64_t window_start_ms;
    uint32_t pane_len;
    uint32_t key_len;
    uint32_t rule;
    uint32_t number; /* among the gathered, as they came */
};

struct mr_panes {
    struct mr_results *results;
    const struct mr_plan *plan;
    struct mr_pane_place *places; /* together */
    uint64_t seq; /* the bundle that the gathered ones are of */
    uint32_t count;
    uint32_t together;
    struct mr_arena scratch; /* for texts among one pane's numbers */
};

/* All panes of a parcel as they come, into the open transaction. scratch: for texts among the numbers; it is reset. */
enum mr_status mr_panes_put(struct mr_results *results, const struct mr_plan *plan, const struct mr_flush *flush,
                            struct mr_arena *scratch) MR_MUST_CHECK;

/* MR_NO_MEMORY. together: how many are sorted at a time; MR_PANES_TOGETHER but in tests. */
enum mr_status mr_panes_open(struct mr_panes *panes, struct mr_results *results, const struct mr_plan *plan,
                             uint32_t together) MR_MUST_CHECK;
void mr_panes_close(struct mr_panes *panes); /* one that is all zeros is fine */
/* Adds those of a parcel, in the open transaction; puts the gathered ones first when they are of another bundle, or enough. */
enum mr_status mr_panes_gather(struct mr_panes *panes, const struct mr_flush *flush) MR_MUST_CHECK;
/* Before anything that comes behind them: what is final, the commit. */
enum mr_status mr_panes_put_gathered(struct mr_panes *panes) MR_MUST_CHECK;
