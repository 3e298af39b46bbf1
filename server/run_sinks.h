/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Run sinks: the sinks of a bounded run: everything has arrived before it ends.
 *
 * Owner       The caller, from open to close; what is given to open outlives it.
 */
#include "pipeline/sinks.h"

struct mr_run_sinks {
    struct mr_redis_transport *transports[MR_SINKS_MAX];
    struct mr_sinks *sinks; /* NULL: the configuration has none */
};

/* And begins to send. After an error, close is right. */
enum mr_status mr_run_sinks_open(struct mr_run_sinks *run, const struct mr_plan *plan,
                                 const struct mr_results_rule *rules, struct mr_results *results,
                                 struct mr_error *error) MR_MUST_CHECK;
/* Until everything in the results store has arrived, however long that takes; says every few seconds on stderr what it
 * waits for. */
void mr_run_sinks_wait(struct mr_run_sinks *run);
void mr_run_sinks_close(struct mr_run_sinks *run);
