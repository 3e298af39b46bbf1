/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Clients: make requests, send them until they hear an answer, and keep what they were told.
 */
#include "tests/sim/world.h"

/* The request with this body; NULL: nobody made it. */
const struct sim_request *sim_clients_find(const struct sim_world *w, struct mr_bytes body);
/* The same of one event's line, and which of the request's it is. */
const struct sim_request *sim_clients_find_event(const struct sim_world *w, struct mr_bytes line, uint32_t *ret_index);
void sim_clients_finish(struct sim_world *w);
/* A random request is sent, unless it was answered or is under way. */
void sim_clients_step(struct sim_world *w);
/* All that are not answered, at once. */
void sim_clients_burst(struct sim_world *w);
bool sim_clients_all_answered(const struct sim_world *w);
/* After the pipeline was closed: what it did not give back is the clients' again; only a pipeline that had failed keeps
 * any. */
void sim_clients_reclaim(struct sim_world *w, bool failed);
/* Damage took records from this lsn on, or what was said of those behind: clients do not know. */
void sim_clients_forget_answers(struct sim_world *w, uint64_t lsn);
/* log.sync: off, and power went: answers for what the log does not have are void, as promised; the clients cannot
 * know, here they send it again. */
void sim_clients_forget_lost(struct sim_world *w);
