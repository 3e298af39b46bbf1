/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Outbox: whoever follows it from the beginning has what the results store has.
 */
#include "tests/sim/world.h"

/* The last pane of each (window start, key) is the row, or a retraction where there is none; what was retracted was said
 * before. Nothing has been pruned. Ends the simulation when something differs. */
void sim_outbox_check(struct sim_world *w, uint32_t rule);
