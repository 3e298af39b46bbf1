/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Model: what the log of one node says, computed anew: the EVENTS as they were sent, and of those of claimed streams
 * what the VERDICTS say. Whether a verdict is right no single log knows: that is counted over all of them
 * (cluster_check.c).
 *
 * Alone       With outage local a node counts no id twice, whatever the store says; ids that it counted without asking the
 *             store may have been counted by another node as well.
 * Order       An event of a claimed stream takes effect in the bundle of its verdict, under that bundle's watermark;
 *             one of an exact stream in its own.
 */
#include "tests/sim/cluster_world.h"

struct cluster_record {
    uint64_t lsn;
    const struct cluster_request *request;
    bool decided;
    bool local; /* by the node alone */
    uint8_t verdicts[CLUSTER_EVENTS_MAX];
};

/* What a row of the results must hold. */
struct cluster_cell {
    int64_t window_ms;
    uint32_t rule;
    uint32_t key;
    uint64_t events;
    int64_t sum;
    bool found;
};

struct cluster_model {
    struct cluster_world *world;
    uint32_t node;
    struct cluster_record *records;
    uint32_t record_count;
    uint32_t record_cap;
    struct cluster_cell *cells;
    uint32_t cell_count;
    uint32_t cell_cap;
    uint64_t received[CLUSTER_STREAMS_MAX];
    uint64_t verdicts[CLUSTER_STREAMS_MAX][128];
    uint64_t pending[CLUSTER_STREAMS_MAX];
    uint64_t decided_lsn[CLUSTER_STREAMS_MAX]; /* the last: they are decided in order */
    int64_t recorded_ms;
    int64_t watermarks_ms[CLUSTER_STREAMS_MAX];
    int64_t last_events_ms[CLUSTER_STREAMS_MAX];
    int64_t before_ms[CLUSTER_STREAMS_MAX]; /* watermarks, before the bundle */
    int64_t times_max_ms[CLUSTER_STREAMS_MAX]; /* in the bundle */
    uint8_t accepted[CLUSTER_STREAMS_MAX][CLUSTER_IDS_MAX]; /* how often this node counted it: A or L */
    bool alone[CLUSTER_STREAMS_MAX][CLUSTER_IDS_MAX];       /* without asking the store */
};

/* Never NULL. */
struct cluster_model *cluster_model_open(struct cluster_node *node);
void cluster_model_close(struct cluster_model *model);
/* NULL: the log has no such record of events. */
const struct cluster_record *cluster_model_record(const struct cluster_model *model, uint64_t lsn);
struct cluster_cell *cluster_model_cell(const struct cluster_model *model, uint32_t rule, int64_t window_ms,
                                        uint32_t key);
