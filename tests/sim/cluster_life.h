/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Life of a node: opened, started, stepped, crashed, started again.
 */
#include "tests/sim/cluster_world.h"

/* An empty disk, and the first start. */
void cluster_life_open(struct cluster_world *w, uint32_t index);
void cluster_life_close(struct cluster_node *node);

/* The process does not run; it does afterwards, unless the disk let it down: then it is tried again later. */
void cluster_life_start(struct cluster_node *node);

struct cluster_crash {
    bool power;       /* what was not synced is lost */
    uint64_t away_ns; /* before it is started again */
    uint64_t cut_nth; /* power goes in this operation of what comes then; 0: it does not */
};

void cluster_life_crash(struct cluster_node *node, const struct cluster_crash *crash);
/* The process cannot go on as it is. */
bool cluster_life_must_restart(const struct cluster_node *node);
/* One step of a station, with what must hold about it. */
bool cluster_life_run(struct cluster_node *node, uint32_t station);
/* Steps of all stations but the claimer (or with it), without time passing, until nothing moves. */
void cluster_life_settle(struct cluster_node *node, bool claimer);
/* Sends a question and steps until it is answered. */
void cluster_life_ask(struct cluster_node *node, struct mr_ask *ask);
/* Dies and starts with nothing under way: ledger and state must be the same again. Not when the disk has failed in this
 * life of it. */
void cluster_life_restart_quietly(struct cluster_node *node);
/* A copy of the disk, without checkpoints and results: replaying the whole log must give ledger and rows again. */
void cluster_life_compare_twin(struct cluster_node *node);

bool cluster_life_is_strict(const struct cluster_node *node); /* it believes the store */
/* Every event is decided, and the store is believed. */
bool cluster_life_has_decided_all(const struct cluster_node *node);
/* The store has been away for long, so that what waits was sent away. */
bool cluster_life_has_outage(const struct cluster_node *node);
void cluster_life_explain(const struct cluster_node *node); /* on stderr */
