/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Faults of the cluster: what goes wrong with nodes, their disks, and Redis.
 */
#include "tests/sim/cluster_world.h"

/* One fault of the seed's choice begins. */
void cluster_faults_inject(struct cluster_world *w);
/* Each step: what lasts a while ends. */
void cluster_faults_pass(struct cluster_world *w);
/* Nothing planned or under way any more. */
void cluster_faults_clear(struct cluster_world *w);
void cluster_faults_clear_node(struct cluster_node *node);
/* Adds what the disks and Redis have counted to the probes. */
void cluster_faults_collect(struct cluster_world *w);
