/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redrive body: what POST /v1/dead-letters/redrive is asked.
 *
 * Shape       {"stream":"clicks","reason":"future","limit":500}   each may be left out; or
 *             {"ids":[{"lsn":17,"index":1}, …]}                    alone
 *             Strings are written without escapes (no name needs one), numbers as whole numbers.
 * Owner       init/finish; stream and reason borrow from the body.
 * Errors      MR_INVALID with a text for the client; MR_NO_MEMORY.
 */
#include "base/bytes.h"

#define MR_REDRIVE_LIMIT 1000
#define MR_REDRIVE_LIMIT_MAX 10000

struct mr_redrive_id {
    uint64_t lsn;
    uint32_t index;
    bool met; /* the asker's */
};

struct mr_redrive_body {
    struct mr_bytes stream; /* ptr NULL: not given */
    struct mr_bytes reason;
    uint32_t limit;
    struct mr_redrive_id *ids; /* NULL: not given; in order, none twice */
    uint32_t id_count;
};

/* *ret is to be finished also after an error. */
enum mr_status mr_redrive_body_parse(struct mr_bytes body, struct mr_redrive_body *ret,
                                     struct mr_error *error) MR_MUST_CHECK;
void mr_redrive_body_finish(struct mr_redrive_body *body);
/* NULL: it is not among the ids. */
struct mr_redrive_id *mr_redrive_body_find(const struct mr_redrive_body *body, uint64_t lsn, uint32_t index);
