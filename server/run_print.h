/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Run print: the final results of a bounded run on standard output, as NDJSON (with the rule's name in each row) or CSV.
 *
 * Errors      MR_IO with a text: nobody reads standard output any more, or the store cannot be read. MR_NO_MEMORY.
 */
#include "pipeline/plan.h"
#include "sink/results.h"

/* only: this rule; UINT32_MAX: all, in the plan's order. */
enum mr_status mr_run_print(const struct mr_plan *plan, struct mr_results *results, uint32_t only, bool csv,
                            struct mr_error *error) MR_MUST_CHECK;
