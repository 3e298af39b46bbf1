/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Pick: draws keys 0 to count-1 with given probabilities.
 *
 * Idea        Walker's alias table: cut the probabilities into count columns of equal width, each holding at most two
 *             keys. One random number chooses the column and the key in it, whatever the distribution; and it is the
 *             distribution itself, not an approximation with a power for each draw.
 *
 *                 column     0         1         2
 *                         | 0 0 0 | 1 1 0 | 2 0 0 |      p = 6/9, 2/9, 1/9
 *                                 cut ^     ^ cut
 * Shape       8 bytes a key.
 * Errors      open: MR_NO_MEMORY.
 * Cost        A draw: one multiplication and one cache line.
 * Sources     Vose, A Linear Algorithm for Generating Random Numbers with a Given Distribution (1991). Zipfian as in
 *             YCSB: the probability of key i is proportional to 1 / (i + 1)^theta.
 */
#include "base/status.h"

#include <stdint.h>

#define MR_LOAD_KEYS_MAX (1u << 24)

struct mr_load_column {
    uint32_t cut; /* below it: the column's own key */
    uint32_t alias;
};

struct mr_load_pick {
    struct mr_load_column *columns;
    uint32_t count;
};

/* Probability of key i is 1 / (i + 1)^theta over the sum; theta 0: uniform. */
enum mr_status mr_load_pick_open_zipf(struct mr_load_pick *pick, uint32_t count,
                                      double theta) MR_MUST_CHECK;
/* Key 0 has this share; the others have the rest evenly. */
enum mr_status mr_load_pick_open_hot(struct mr_load_pick *pick, uint32_t count,
                                     double share) MR_MUST_CHECK;
void mr_load_pick_close(struct mr_load_pick *pick); /* zeroed is fine */

static inline uint32_t mr_load_pick_draw(const struct mr_load_pick *pick, uint64_t random) {
    uint64_t wide = (random >> 32) * pick->count;
    uint32_t column = (uint32_t)(wide >> 32);
    const struct mr_load_column *c = &pick->columns[column];
    /* Without a branch: which of the two it is cannot be predicted. */
    uint32_t other = 0 - (uint32_t)((uint32_t)random >= c->cut);
    return column ^ ((column ^ c->alias) & other);
}
