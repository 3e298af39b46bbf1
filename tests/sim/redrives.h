/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redrives: people look at dead letters and have some of them judged again, with crashes between.
 */
#include "tests/sim/model.h"

/* Some dead letter is sent again, if there is one that may be. */
void sim_redrives_step(struct sim_world *w);
/* Of the stream, on their way. */
uint32_t sim_redrives_under_way(const struct sim_world *w, uint32_t stream);
/* As sim_clients_reclaim. */
void sim_redrives_reclaim(struct sim_world *w, bool failed);
/* What was answered may be lost: nobody relies on it. */
void sim_redrives_forget(struct sim_world *w);
/* Every answer is what the model says of the record. */
void sim_redrives_check(const struct sim_model *m);
