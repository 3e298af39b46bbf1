/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Check: what the node says, against the model. Each ends the simulation, saying what differs.
 */
#include "tests/sim/model.h"

/* Everything a client can see, when nothing is under way. */
void sim_check_all(struct sim_world *w);
/* Answers given so far, as far as the model went. */
void sim_check_answers(const struct sim_model *m);
/* One answered question about a rule's open windows, or about an id, with the model as of its cut. */
void sim_check_scan(struct sim_model *m, struct mr_ask *ask);
void sim_check_seen(struct sim_model *m, const struct mr_ask *ask, uint32_t id);
