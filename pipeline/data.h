/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Data: everything of a node that lies on disk, opened in the order in which it depends on each other: the
 * directory and its key, the plan (fingerprints need the key), the logs, and whether the log was made by the same
 * streams and rules.
 *
 * Owner       The opener, until mr_data_close. The replay reader passes to the pipeline.
 * Errors      As mr_datadir_open, mr_log_open and mr_plan_open; MR_MISMATCH when streams or rules differ from
 *             those the log was made with, with the first line that differs.
 */
#include "pipeline/datadir.h"
#include "pipeline/pipeline.h"

struct mr_data {
    struct mr_datadir dir;
    struct mr_plan *plan;
    struct mr_log *log;
    struct mr_log *dead;
    struct mr_log_reader *replay;
    uint64_t dead_seq;
    struct mr_results_rule *results_rules; /* by rule; for the results store */
};

enum mr_status mr_data_open(struct mr_disk *disk, struct mr_clock *clock,
                            const struct mr_config *config, struct mr_data *ret,
                            struct mr_error *error) MR_MUST_CHECK;
void mr_data_close(struct mr_data *data);

/* What the results store must know of the plan's rules; one block, freed with mr_free. NULL: no memory. */
struct mr_results_rule *mr_data_results_rules(const struct mr_plan *plan);
