/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sinks: what carries results on to where the configuration says: a worker for each sink, on a thread of its own.
 *
 *      results store ──┬── outbox, behind the cursor ──▶ rows ──▶ sink ──▶ all answered: the cursor moves
 *                      └── tables: copied, when the cursor is of no use; windows that became final
 *
 * Idea        A worker only reads the results store, at its own pace, so ingest never waits for a sink, and a sink that is
 *             away costs nothing but the outbox, which is bounded: what was pruned is in the tables. Everything it sends
 *             may be sent twice. So a cursor that is lost, or that does not fit, costs a copy and nothing else.
 * Cursor      SINK-<name> in the data directory: of which store (incarnation, epoch), to where (prefix and nodes), which
 *             rules and generations, up to which id of the outbox everything has arrived. If one of them is not what it
 *             was, or panes behind it are pruned, all rows of the sink's rules are copied, but those of windows that ended
 *             longer than ttl ago. Written at most once a second, and at the end.
 * Final       A window becomes final without a pane. For each rule the worker knows from where on it has sent rows
 *             that were not final yet; when the store says that these are final by now, it reads and sends them again.
 * Owner       The opener. Closed before the results store and the transports.
 * Threads     step, sleep: one thread for each sink at a time. start, stop, flush, idle, stats: any other.
 * Errors      Those of a sink are reported once (event=sink_failing, then event=sink_works), counted, and tried again.
 */
#include "pipeline/datadir.h"
#include "pipeline/plan.h"
#include "sink/results.h"

struct mr_sinks;

struct mr_sinks_options {
    const struct mr_plan *plan; /* and its configuration, which names the sinks */
    const struct mr_results_rule *results_rules;
    struct mr_results *results;
    struct mr_redis_transport *const *transports; /* by sink: none is shared with anybody */
    struct mr_clock *clock;
    struct mr_datadir *dir; /* NULL: no cursors, everything is copied first */
    uint64_t seed;          /* 0: the kernel's */
};

enum mr_status mr_sinks_open(const struct mr_sinks_options *options, struct mr_sinks **ret,
                             struct mr_error *error) MR_MUST_CHECK;
void mr_sinks_close(struct mr_sinks *sinks); /* stopped; NULL is fine. What has arrived is kept in cursors */
uint32_t mr_sinks_count(const struct mr_sinks *sinks); /* of the configuration; NULL: 0 */

/* One thread for each sink. */
enum mr_status mr_sinks_start(struct mr_sinks *sinks) MR_MUST_CHECK;
void mr_sinks_stop(struct mr_sinks *sinks); /* NULL and not started are fine */

/* What the results store has now is to arrive; and whether sink i has sent what it had when flush was called last. */
void mr_sinks_flush(struct mr_sinks *sinks);
bool mr_sinks_idle(const struct mr_sinks *sinks, uint32_t sink);

struct mr_sink_stats {
    struct mr_bytes name;
    uint64_t lag_rows; /* panes of the outbox that have not arrived */
    bool copying;      /* and rows of the tables */
    uint64_t applied;  /* rows that the sink took */
    uint64_t there_already;
    uint64_t refused;  /* given up: a key of somebody else, or a later epoch; or a row that millrace did not write */
    uint64_t errors;
    uint64_t reconnects;
    int64_t failing_since_ms; /* 0: it works */
    char reason[256];         /* why it does not, or last did not */
};
void mr_sinks_stats(struct mr_sinks *sinks, uint32_t sink, struct mr_sink_stats *ret);

/* What a sink's thread does: a step, which returns whether it worked, and a sleep until there may be work. */
bool mr_sinks_step(struct mr_sinks *sinks, uint32_t sink);
void mr_sinks_sleep(struct mr_sinks *sinks, uint32_t sink);
