/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Twin: a second node on a copy of the disk, with a clock and a results store of its own: replay from wherever a start
 * may begin gives what the run has given. The world stays as it is.
 *
 *     newest   the newest checkpoint, and the log behind it
 *     older    the one before: the newest manifest is gone
 *     zero     no checkpoint, no results, and all of the log: what was trimmed is put back
 *     shards   the newest, with another number of shards; equal as a set of rows
 *
 * Compared    The hash of ids and open windows, the ledger, the watermark, all stored rows. With another number of
 *             shards, or after such a start, the hash differs, for ids and groups lie elsewhere: rows and ledger are compared.
 */
#include "tests/sim/world.h"

enum sim_twin_kind { SIM_TWIN_NEWEST, SIM_TWIN_OLDER, SIM_TWIN_ZERO, SIM_TWIN_SHARDS, SIM_TWIN_KINDS };

/* The world is settled and everything is flushed. Ends the simulation when something differs. Does nothing where there
 * is no such start: no checkpoint, or none before it. */
void sim_twin_compare(struct sim_world *w, enum sim_twin_kind kind);
/* At any moment of the run: lets the node finish what it has, and compares one twin of the seed's choice. */
void sim_twin_look(struct sim_world *w);
