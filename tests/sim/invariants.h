/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Invariants: what holds at every moment, looked at every so many steps.
 *
 *   I1  received >= accepted + duplicate + late + rejected; equal when nothing is between the stations, and so are
 *       accepted and applied + filtered + late + dropped of each rule.
 *   I2  The watermark never goes back, also over restarts (with log.sync: on).
 *   I3  Memory keeps to its budgets.
 *   I4  In the results store a row's revision and events grow, final stays final, no row goes away.
 */
#include "tests/sim/world.h"

void sim_invariants_check(struct sim_world *w);       /* I1 to I3 */
void sim_invariants_check_store(struct sim_world *w); /* I4; costs all rows */
/* The store was made anew; the log lost its unsynced end: from here it begins again. */
void sim_invariants_forget_store(struct sim_world *w);
void sim_invariants_forget_log(struct sim_world *w);
/* Before the pipeline is closed: adds its counters to the probes. */
void sim_invariants_collect(struct sim_world *w);
