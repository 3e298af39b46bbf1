/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Panes on their way into the results store: their numbers are made here, from the state they carry.
 *
 * Threads     The store's writer: the flusher, or nobody else while it does not run.
 */
#include "pipeline/plan.h"
#include "sink/results.h"

/* Of the arena for texts. */
#define MR_PANE_SCRATCH_FIRST 4096
#define MR_PANE_SCRATCH_MAX   (1u << 20)

/* All panes of a parcel, into the open transaction. scratch: for texts among the numbers; it is reset. */
enum mr_status mr_panes_put(struct mr_results *results, const struct mr_plan *plan, const struct mr_flush *flush,
                            struct mr_arena *scratch) MR_MUST_CHECK;
