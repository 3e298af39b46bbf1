/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Merged: encoded states of one rule, added up one by one: for whoever shows several groups as one.
 *
 * Owner       The caller owns the struct. What mr_merged_state returns is valid until the next call.
 * Threads     One owner.
 * Errors      MR_NO_MEMORY: the sum is of no use any more; reset or finish.
 */
#include "aggregate/rule.h"

struct mr_merged {
    const struct mr_rule *rule;
    uint8_t *live;
    struct mr_buf encoded;
    struct mr_buf aligned; /* a copy of what is being added: bytes from a file lie anywhere */
};

enum mr_status mr_merged_init(struct mr_merged *merged, const struct mr_rule *rule) MR_MUST_CHECK;
/* Well-formed: mr_metric_check. */
enum mr_status mr_merged_add(struct mr_merged *merged, struct mr_bytes state) MR_MUST_CHECK;
/* The sum, encoded. ptr NULL: out of memory. */
struct mr_bytes mr_merged_state(struct mr_merged *merged);
void mr_merged_reset(struct mr_merged *merged);
void mr_merged_finish(struct mr_merged *merged); /* fine after a failed init, and again */
