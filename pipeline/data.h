/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Data: everything of a node that lies on disk, opened in the order in which it depends on each other: the directory
 * and its key, the newest checkpoint, the logs from there on, the plan, the results store.
 *
 * Idea        The log says under which streams and rules each of its records was taken (CONFIG records), and so does
 *             a checkpoint. If they are not those of the configuration at hand, the node is brought forward first: what
 *             is left of the log is replayed under the old ones, a checkpoint is made, and that is loaded under the
 *             new ones (config/change.h says what may change). A crash on the way leaves a step done or not done.
 *
 *                 checkpoint (old) ── tail (old) ── checkpoint (old) ─┬─ CONFIG (new) ── live (new)
 *                                                                     └─ loaded by names of streams and rules
 * Owner       The opener, until mr_data_close. Pipelines opened with it go first.
 * Errors      As mr_datadir_open, mr_restored_open, mr_log_open and mr_plan_open; MR_MISMATCH when the configuration
 *             may not become this one on existing data.
 */
#include "pipeline/datadir.h"
#include "pipeline/pipeline.h"
#include "pipeline/restore.h"

/* Panes of a node's results store: what sinks may be behind before all is copied; kept for later ones, too. */
#define MR_OUTBOX_PANES_MAX 1000000

struct mr_data;

struct mr_data_options {
    struct mr_disk *disk;
    struct mr_clock *clock;
    const struct mr_config *config;
    /* The results store for data->results_rules (data->plan->rule_count of them) and the log; and what ends its use. */
    enum mr_status (*open_results)(void *ctx, const struct mr_data *data, struct mr_results **ret,
                                   struct mr_error *error);
    void (*close_results)(void *ctx, struct mr_results *results);
    void *ctx;
    struct mr_redis_transport *const *transports; /* by store of the configuration; NULL: there are none */
    uint64_t seed; /* 0: random; simulations: of what is drawn */
    /* The configuration at hand is not taken up: what there is goes to the log's end under what the log says, and into a
     * checkpoint. No plan is open then. */
    bool settle_only;
};

struct mr_data {
    struct mr_data_options options;
    struct mr_datadir dir;
    struct mr_restored restored;
    struct mr_log *log;
    struct mr_log *dead;
    uint64_t dead_seq;
    struct mr_epoch epochs[MR_STORES_MAX];
    uint64_t promoted_seq; /* pipeline/promote.h */
    bool live; /* the plan is the configuration's at last: the pipeline may take events */
    struct mr_plan *plan;
    struct mr_results_rule *results_rules; /* by rule of the plan */
    struct mr_results *results;
    bool from_zero; /* the checkpoint is not used: the results store has not what it relies on */
    bool changed; /* the plan is not that of the checkpoint */
    bool rewound; /* the results store, to the checkpoint, now or at a start that did not come far */
    bool settled; /* the results store was compared with log and checkpoint */
};

/* open_results and close_results of a node: a SQLite file in its directory (pipeline/data_sqlite.c). */
enum mr_status mr_data_open_sqlite(void *ctx, const struct mr_data *data, struct mr_results **ret,
                                   struct mr_error *error) MR_MUST_CHECK;
void mr_data_close_sqlite(void *ctx, struct mr_results *results);

enum mr_status mr_data_open(const struct mr_data_options *options, struct mr_data *ret,
                            struct mr_error *error) MR_MUST_CHECK;
/* The pipeline on this data: loads the checkpoint, and will replay what came after it. Once. */
enum mr_status mr_data_pipeline(struct mr_data *data, struct mr_pipeline **ret,
                                struct mr_error *error) MR_MUST_CHECK;
void mr_data_close(struct mr_data *data);
/* A plan of a former configuration, whose part of the log is replayed here, gets the room for ids that the one at hand has,
 * where that is more. What was refused live is not in the log, so that no answer depends on it; but a repaired log may hold
 * more ids than it had room for, and who raises dedup.ids must get on. */
void mr_data_give_room(struct mr_plan *plan, const struct mr_config *at_hand);
/* Runs the stations here, without threads, until replay is over, makes a checkpoint, and closes the pipeline. */
enum mr_status mr_data_run_to_checkpoint(struct mr_pipeline *pipeline, struct mr_error *error) MR_MUST_CHECK;

/* What the results store must know of the plan's rules; one block, freed with mr_free. NULL: no memory. */
struct mr_results_rule *mr_data_results_rules(const struct mr_plan *plan);
