/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Store: the results in memory, as a file of results is over restarts: a table for each name of a rule and generation,
 * whatever index a rule has at this start.
 *
 *     tables | those of this start's rules, in their order | what rules that are gone or began anew have left |
 *
 *             On the disk an empty file stands for it: when the node puts that aside, the rows are gone.
 * Owner       Its user, until sim_store_finish; does not move.
 */
#include "pipeline/data.h"
#include "tests/disk/virtual_disk.h"
#include "tests/sim/settings.h"
#include "tests/sink/memory_results.h"

#define SIM_TABLES_MAX 32
#define SIM_OUTBOX_MAX (1u << 20) /* more than a run has: nothing is pruned */

struct sim_store {
    struct mr_results *results; /* another one when the rules change */
    struct mr_results_rule tables[SIM_TABLES_MAX];
    uint32_t table_count;
    uint32_t rule_count;
};

/* Empty, without rules. */
void sim_store_open(struct sim_store *store);
void sim_store_finish(struct sim_store *store);
/* The first tables are those of data->results_rules; returns whether they were others before. */
bool sim_store_lend(struct sim_store *store, struct virtual_disk *disk, const struct mr_data *data);
/* A store with the same rows. */
void sim_store_copy(const struct sim_store *from, struct sim_store *ret);
/* The first difference between two, in words; NULL: they hold the same. */
const char *sim_store_compare(const struct sim_store *a, const struct sim_store *b);
