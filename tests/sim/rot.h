/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Rot: a bit of the log that was synced long ago and is wrong now.
 */
#include "log/segment.h"
#include "tests/sim/world.h"

struct sim_rot {
    char path[MR_SEGMENT_PATH_MAX];
    uint64_t lsn;
    enum mr_record_type type;
    uint64_t from; /* the record's header and payload */
    uint64_t to;
    uint64_t offset; /* of the byte; set by apply */
    uint8_t mask;
};

/* A record that cannot be taken for a torn tail: a later segment, or a later bundle in its own, says that it was synced
 * (log/recover.h). false: there is none. */
bool sim_rot_choose(struct sim_world *w, struct sim_rot *ret);
void sim_rot_apply(struct sim_world *w, struct sim_rot *rot);
void sim_rot_undo(struct sim_world *w, const struct sim_rot *rot);
