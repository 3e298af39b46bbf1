/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Plan rule: a rule compiled, and the columns that it needs of its streams. Private to pipeline/plan*.c.
 *
 * Idea        A stream's columns are gathered over all rules that read it: fields first, expressions behind them. While
 *             they are gathered, an expression's column is its number with MR_PLAN_EXPR set; when all are there,
 *             mr_plan_settle makes column numbers of them.
 * Errors      MR_INVALID (with a text): more columns than MR_FIELDS_MAX, no such time zone. MR_NO_MEMORY.
 */
#include "pipeline/plan.h"

#define MR_PLAN_EXPR UINT32_C(0x40000000)

struct mr_plan_columns {
    struct mr_field fields[MR_FIELDS_MAX];
    uint32_t field_count;
    struct mr_schema_expr exprs[MR_FIELDS_MAX];
    uint32_t expr_count;
};

/* All of a rule but its inputs' columns. */
enum mr_status mr_plan_rule(struct mr_plan *plan, uint32_t rule, const struct mr_hash_key *key,
                            struct mr_error *error) MR_MUST_CHECK;
/* What the rule needs of its input number `input`. */
enum mr_status mr_plan_input(struct mr_plan *plan, uint32_t rule, uint32_t input, struct mr_plan_columns *columns,
                             struct mr_error *error) MR_MUST_CHECK;
/* What tells the stream's sources apart. */
enum mr_status mr_plan_source(struct mr_plan *plan, uint32_t stream, struct mr_plan_columns *columns,
                              struct mr_error *error) MR_MUST_CHECK;
/* All rules that read the stream have been asked. */
void mr_plan_settle(struct mr_plan *plan, uint32_t stream, const struct mr_plan_columns *columns);

/* What messages about an expression begin with: "FILE:LINE:COLUMN: where of ad_views"; of the plan's arena. */
enum mr_status mr_plan_label(struct mr_plan *plan, const struct mr_config_expr *expr, const char *what,
                             struct mr_bytes of, struct mr_bytes *ret, struct mr_error *error) MR_MUST_CHECK;

/* A bound over all shards, one shard's part of it. */
static inline uint64_t mr_plan_share(uint64_t whole, uint32_t shards) {
    return (whole + shards - 1) / shards;
}
