/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Model: what must have come out, computed from the log in the plainest way: one event after the other, a set of
 * ids, a watermark, a table.
 */
#include "tests/sim/world.h"

/* Compares everything a client can see with the model; aborts, saying what differs. */
void sim_model_check(struct sim_world *w);
