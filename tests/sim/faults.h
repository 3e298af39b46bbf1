/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Faults: what goes wrong, planned here, counted when it had its effect (probes.h).
 */
#include "tests/sim/world.h"

/* One fault of the seed's choice begins. */
void sim_faults_inject(struct sim_world *w);
/* Each step: what lasts a while ends. */
void sim_faults_pass(struct sim_world *w);
/* Adds failures that came since they were planned to the probes. */
void sim_faults_count(struct sim_world *w);
/* Nothing planned or under way any more. */
void sim_faults_clear(struct sim_world *w);
/* The nth operation of the kinds fails once. */
void sim_faults_plan_disk(struct sim_world *w, enum sim_fault fault, uint64_t nth, unsigned kinds,
                          enum mr_status status);
/* At the end of a run: what the disk itself has counted. */
void sim_faults_collect(struct sim_world *w);
