/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Queries: questions asked while everything goes on. Some answers are compared with the model as of their cut.
 */
#include "tests/sim/world.h"

void sim_queries_send(struct sim_world *w, uint32_t count);
/* Each step: what was answered is looked at and freed. */
void sim_queries_look(struct sim_world *w);
/* After the pipeline was closed: all must have been answered or closed, unless it had failed. */
void sim_queries_reclaim(struct sim_world *w, bool failed);
/* Whether a producer has said that of a watermark. */
bool sim_advance_was_sent(const struct sim_world *w, const struct sim_advance *advance);
