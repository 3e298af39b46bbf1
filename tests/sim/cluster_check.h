/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Check: what holds of the cluster at every moment, and at the end. Each ends the simulation, saying what is wrong.
 *
 *   I1  received >= accepted + duplicate + late + rejected + pending on every node; equal when nothing is between its
 *       stations. accepted = applied of its rule.
 *   I2  A watermark never goes back, also over restarts.
 *   I3  In an outage a node keeps no batch of its clients: what waits costs no memory, however long it lasts. (Not with
 *       outage local, where they go on.)
 *   I4  Nothing is won while a canary is missing.
 *   I5  A node that dies and starts again has the same ledger and state.
 *
 * At the end, of all logs together:
 *
 *   I6  An id that was acknowledged was counted (A or L) on exactly one node, once; any other at most once. Where Redis
 *       has lost single keys or writes: not more often again than the nodes say that they counted twice; where it lost
 *       all, canaries and claims, so that every loss is noticed, once, unless a node was given up. With outage local
 *       an id that a node counted alone may be counted elsewhere, too, and by each node once.
 *   I7  Every answer is what the log says of the record; what was pending is decided.
 *   I8  Rows, ledger and watermark of each node are what its log says.
 *   I9  What a node counted alone is known to the others when it has claimed it.
 */
#include "tests/sim/cluster_world.h"

struct cluster_ledger {
    struct mr_stream_stats streams[CLUSTER_STREAMS_MAX];
    struct mr_rule_stats rules[CLUSTER_STREAMS_MAX];
    uint32_t count;
    uint64_t hash;
};

/* I1, I2 of all nodes that run. */
void cluster_check_now(struct cluster_world *w);
/* I3: the node is settled. */
void cluster_check_outage(struct cluster_node *node);
/* I4: after each step of the claimer. */
void cluster_check_claims(struct cluster_node *node, const struct mr_claims_stats *stats);
/* I5 */
void cluster_check_ledger(const struct mr_pipeline *pipeline, struct cluster_ledger *ret);
void cluster_check_same(const struct cluster_node *node, const struct cluster_ledger *before,
                        const struct cluster_ledger *after, bool hash, const char *what);
void cluster_check_rows_equal(const struct cluster_node *node, const struct cluster_node *twin);
/* I6 to I8, when all is drained and in the results. */
void cluster_check_all(struct cluster_world *w);

/* On stderr: which records its log leaves undecided. */
/* I9: asks the other nodes for what was decided by a node alone; returns from which answer on they answer… */
uint32_t cluster_check_ask_others(struct cluster_world *w);
/* …which is to be looked at when they have. */
void cluster_check_others_know(const struct cluster_world *w, uint32_t first_answer);
void cluster_check_explain(struct cluster_node *node);
/* Before the node's pipeline is closed: what it counted is kept. */
void cluster_check_collect(struct cluster_node *node);
/* A copy of the node's disk with all of its log and no checkpoint. */
struct virtual_disk *cluster_check_bare_disk(const struct cluster_node *node);
