/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Join, rows: some rows of some rules of one results store into another one. For join.c alone.
 *
 * Idea        As panes of the plan: their numbers are made again from the state that rows carry, so rows that are
 *             copied have the plan's metrics. The outbox does not come along: a new store has another epoch, and who
 *             follows it takes all of its rows.
 * Owner       Borrows what it is told until it was copied.
 */
#include "pipeline/plan.h"
#include "sink/results.h"

struct mr_join_part {
    int64_t from_ms; /* of window starts: [from, to) */
    int64_t to_ms;
    bool final_only;
};

struct mr_join_rows {
    const char *path; /* the store they are in */
    const struct mr_plan *plan;
    struct mr_results_rule rules[MR_RULES_MAX]; /* as that store has them */
    uint32_t rule_of[MR_RULES_MAX];             /* of the plan */
    struct mr_join_part parts[MR_RULES_MAX];
    uint32_t count;
};

/* rule, of the plan, is of that generation there. */
void mr_join_rows_add(struct mr_join_rows *rows, const struct mr_results_rule *results_rule, uint32_t rule,
                      uint64_t generation, struct mr_join_part part);
/* In transactions of their own; flushed_seq of the store stays 0. */
enum mr_status mr_join_rows_copy(const struct mr_join_rows *rows, uint64_t incarnation, struct mr_results *to,
                                 struct mr_error *error) MR_MUST_CHECK;
