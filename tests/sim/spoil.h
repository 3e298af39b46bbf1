/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Spoil: damage to checkpoints at rest: a bit, an end, or a whole file of the newest one is gone.
 */
#include "log/numbered.h"
#include "tests/sim/world.h"

#define SIM_SPOILED_MAX 4

struct sim_spoiled {
    char path[MR_NUMBERED_PATH_MAX];
    struct mr_buf content; /* as it was */
};

struct sim_spoil {
    struct sim_spoiled files[SIM_SPOILED_MAX];
    uint32_t count;
    uint64_t newest; /* manifest there was */
    uint64_t sound;  /* the newest that is whole now; 0: none */
    uint64_t seq;    /* of its last bundle */
    bool trimmed;    /* the log does not reach back to its beginning */
};

/* Damages the newest checkpoint, or (all) every one. false: there is none, or it is as whole as before; nothing was
 * done. */
bool sim_spoil_apply(struct sim_world *w, bool all, struct sim_spoil *ret);
/* Everything is as it was. */
void sim_spoil_undo(struct sim_world *w, struct sim_spoil *spoil);
void sim_spoil_finish(struct sim_spoil *spoil);
/* Manifests in the directory, the newest last; returns how many, at most cap. */
uint32_t sim_spoil_list(const struct virtual_disk *disk, uint64_t *ret, uint32_t cap);
/* What no checkpoint has came behind this record; 0: there is none. */
uint64_t sim_spoil_newest_lsn(const struct virtual_disk *disk);
void sim_spoil_remove_manifest(struct virtual_disk *disk, uint64_t number);
