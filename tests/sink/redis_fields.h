/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redis fields: what the hash of a pane is to have, field by field, written down apart from sink/redis_row.c.
 */
#include "sink/results.h"

struct redis_fields {
    uint32_t count;
    char names[32][64];
    struct mr_buf values[32];
};

/* The values are the caller's to finish. */
void redis_fields_expect(struct redis_fields *f, const struct mr_results_rule *rule, const struct mr_pane *pane,
                         uint64_t epoch);
