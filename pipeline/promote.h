/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Promote: what a replay under other rules has made takes the place of what a data directory has.
 *
 * Idea        State is a function of the log and of the configuration it is read under. A replay of a whole log
 *             leaves not only rows, but the checkpoint that belongs to them: ids, open windows, watermarks, as of its
 *             last bundle S. Both are put where the node has its own, and the log says from its end N on, that the
 *             configuration is the new one. PROMOTED says N: a start, from the checkpoint or from zero, reads all
 *             before N under the configuration of N, too. So there is one truth, as if the new rules had held from
 *             the beginning; what came between S and N is replayed at the next start like any tail.
 *
 *                 log   1 ─────────────── S ──────── N: CONFIG (new) ── live (new)
 *                       read under new, ──┘└ read under new, at the next start
 *                       by the replay
 * Crash       PROMOTING is there from before the first change until after the last: no start until it is run again, and
 *             every step can be repeated.
 *                 PROMOTING 1 ▶ CONFIG ▶ results.db aside ▶ PROMOTING 2 ▶ checkpoint ▶ results.db ▶ PROMOTED
 * Joined      A replay that has left something out does not have all that a node needs. Then what takes its place is
 *             joined of both, as of the log's end, before the first of these steps (pipeline/join.h); the rest is the
 *             same. (From zero such a node cannot start anyway, when the log was trimmed.)
 * Owner       Holds the data directory's lock while it runs.
 * Errors      MR_BUSY: a server has the directory. MR_MISMATCH: another log, another configuration, or not the record
 *             that the replay ended with. MR_NOT_FOUND: the log has lost what comes behind S. MR_UNSUPPORTED: dedup
 *             mode redis without joining; or what cannot be joined.
 */
#include "config/config.h"
#include "pipeline/plan.h"
#include "pipeline/datadir.h"

struct mr_promotion {
    struct mr_disk *disk;
    struct mr_clock *clock;
    const struct mr_config *config;
    struct mr_bytes data_dir;
    const char *checkpoint_dir; /* of the replay */
    const char *results_path;   /* likewise */
    uint64_t incarnation;       /* of the log it read */
    uint64_t record_lsn;        /* of the last record that it read; 0: of the last one in the checkpoint */
    uint64_t record_hash;       /* of that: mr_promote_record_hash */
    /* The replay has left something out: only the node has it, and both are joined (pipeline/join.h). */
    bool joins;
    const char *joined_dir; /* made for it, and what a promotion that was stopped goes on with */
    const char *joined_path;
    const int64_t *begins_ms; /* by rule of config: windows from which on the replay has rows; INT64_MIN: all */
};

enum mr_status mr_promote(const struct mr_promotion *promotion, struct mr_error *error) MR_MUST_CHECK;

/* Tells a record from another one that got its lsn later, when a crash had taken the first. */
enum mr_status mr_promote_record_hash(struct mr_disk *disk, const char *log_dir, uint64_t lsn, uint64_t *ret,
                                      struct mr_error *error) MR_MUST_CHECK;
