/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Life: everything that opens and closes data and pipeline, as server/serve.c does in life.
 */
#include "tests/sim/world.h"

/* How the process ends, and what it finds when it comes back. */
struct sim_crash {
    bool power;        /* power goes: what was not synced may be lost; else only the process dies */
    bool rotten;       /* a synced bit of the log has flipped: the first start must refuse */
    bool repaired;     /* and the log is repaired, not restored */
    bool spoiled;      /* the newest checkpoint is damaged */
    bool spoiled_all;  /* the others too */
    bool store_lost;   /* the results store is gone */
    bool configured;   /* people have edited the configuration */
    uint32_t shards;   /* the new number; 0: as before */
    uint64_t cut_nth;  /* power goes in the nth changing operation from here; 0: never */
    uint64_t read_nth; /* the nth read fails once; 0: none */
    uint64_t no_memory_nth; /* the nth allocation of the first start fails; 0: none */
};

/* false: a failure of the environment; the cause has been set right, another try may succeed. A refusal (corrupt data)
 * ends the simulation. */
bool sim_life_start(struct sim_world *w);
void sim_life_stop(struct sim_world *w);
/* Ends the process and starts it until it comes up. */
void sim_life_crash(struct sim_world *w, const struct sim_crash *crash);
/* Whether the disk holds a record whose append failed: a start may find it there and take it, as it may. */
bool sim_life_has_failed_record(struct sim_world *w);
