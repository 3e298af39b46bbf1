/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Clients of the cluster: make requests, send them to one or two nodes until they hear an answer, and keep what they
 * were told.
 */
#include "tests/sim/cluster_world.h"

/* The request with this body; NULL: nobody made it. */
const struct cluster_request *cluster_clients_find(const struct cluster_world *w, struct mr_bytes body);
/* A random request is sent, to a node that has not answered it. */
void cluster_clients_step(struct cluster_world *w);
/* All that are not answered, and so many that were not made yet, at once, to this node. What goes to another node too
 * waits there until then. */
void cluster_clients_burst(struct cluster_world *w, uint32_t node, uint32_t more, uint64_t wait_until_ns);
/* The request is sent once more, to this node. */
void cluster_clients_again(struct cluster_world *w, uint32_t request, uint32_t node);
bool cluster_clients_all_answered(const struct cluster_world *w);
/* How many batches of streams with a shared store the node's pipeline has. */
uint32_t cluster_clients_under_way(const struct cluster_node *node);
/* After the node's pipeline was closed: only one that had failed keeps any. */
void cluster_clients_reclaim(struct cluster_node *node, bool failed);
void cluster_clients_finish(struct cluster_world *w);
