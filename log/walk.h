/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Walk: the segments of a log read by several threads at once, when all of it is sound.
 *
 * Idea        Each segment's name says with which lsn it begins, so each can be walked apart; then it is looked at
 *             whether the first record of one follows the last of the one before. What is not plainly so is not
 *             judged here: whoever asked walks the segments one behind the other (log/recover.c), and that walk's
 *             word is final. So there is one judgement of damage, and a sound log is read as fast as cores and disk
 *             go.
 * Owner       The caller frees what is returned with mr_free.
 * Threads     Some for the call alone. Only with disks that say that they can be read by several (mr_disk_ops.readers).
 * Cost        One pass over the segments; for each thread a window, and the longest payload that it met.
 */
#include "log/recover.h"

/* What mr_recover_segment says of one. */
struct mr_walked {
    struct mr_segment_summary summary;
    struct mr_chain chain;   /* behind its last record */
    struct mr_record begins; /* its first record, without the payload; lsn 0: none */
    enum mr_status status;
};

/* Of the segments from first on, in order. NULL: walk them one behind the other. Reads only. */
struct mr_walked *mr_walk_open(struct mr_disk *disk, const char *dir, const struct mr_segments *segments,
                               uint32_t first);
