/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redrives: which events of the log were redriven, so that each is redriven once.
 *
 * Idea        The log has at most one REDRIVE record for an event, and its one writer sees to it: what it has appended
 *             stands here, and another one for the same place is refused before the append. The set is a function of
 *             the log, is part of checkpoints, and holds in every dedup mode, also where ids are not remembered or only
 *             roughly. (Ids made of (lsn, index) in the dedup table would do in mode exact alone, within its horizon,
 *             and could not be in the same shard as the event's own id, which is judged as well.)
 * Shape       Open addressing, 16 bytes a slot, at most three quarters full. An event whose record the log no longer has
 *             cannot be redriven and need not be remembered: when the set is full those go.
 * Owner       The sequencer.
 * Errors      add: MR_LIMIT: MR_REDRIVES_MAX of events that the log still has; MR_NO_MEMORY. Nothing changed.
 *             load: MR_CORRUPT, MR_NO_MEMORY; then only finish.
 * Cost        O(1); growing, forgetting and saving O(n).
 * Invariants  I1 count <= MR_REDRIVES_MAX, and no place is in it twice.
 */
#include "base/bytes.h"

#define MR_REDRIVES_MAX (1u << 20) /* 32 MiB of slots, 12 MiB in a checkpoint */

struct mr_redrive_place {
    uint64_t lsn; /* 0: the slot is free */
    uint32_t index;
};

/* All zero is an empty one. */
struct mr_redrives {
    struct mr_redrive_place *slots;
    uint32_t cap; /* a power of two, or 0 */
    uint32_t count;
    uint64_t first_lsn; /* places below it were forgotten when room was needed last */
};

void mr_redrives_finish(struct mr_redrives *redrives);
bool mr_redrives_has(const struct mr_redrives *redrives, uint64_t lsn, uint32_t index);
/* It is not in it. first_lsn: what is below it may be forgotten. */
enum mr_status mr_redrives_add(struct mr_redrives *redrives, uint64_t lsn, uint32_t index,
                               uint64_t first_lsn) MR_MUST_CHECK;
/* It is in it. */
void mr_redrives_remove(struct mr_redrives *redrives, uint64_t lsn, uint32_t index);
/* The places from first_lsn on, in order: equal sets give equal bytes. Without memory ret has failed. */
void mr_redrives_save(const struct mr_redrives *redrives, uint64_t first_lsn, struct mr_buf *ret);
/* Into an empty one. */
enum mr_status mr_redrives_load(struct mr_redrives *redrives, struct mr_bytes saved) MR_MUST_CHECK;
void mr_redrives_check(const struct mr_redrives *redrives);
