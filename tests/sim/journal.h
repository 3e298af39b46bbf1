/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Journal: reads the node's whole log beside it, from a copy of the disk on which nothing fails and what was trimmed is
 * there again. (journal.c alone knows that parts of the log may have been removed.)
 */
#include "tests/sim/world.h"

struct sim_journal {
    struct virtual_disk *disk;
    struct mr_log_reader *reader;
};

/* Up to last_lsn; UINT64_MAX: all there is, also what was written and not acknowledged. */
void sim_journal_open(struct sim_world *w, uint64_t last_lsn, struct sim_journal *ret);
/* false: the end. The record's payload is valid until the next call. */
bool sim_journal_next(struct sim_journal *journal, struct mr_record *ret);
/* Onto a copy of the world's disk: the segments that were trimmed. */
void sim_journal_put_back(const struct sim_world *w, struct virtual_disk *copy);
void sim_journal_close(struct sim_journal *journal);
