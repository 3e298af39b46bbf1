/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Restore: a checkpoint read from disk, and put into stations just opened.
 *
 * Idea        What a manifest holds is named by the streams and rules of the configuration it was made with. They are
 *             found again by name (config/change.h), so the same code starts a node as it was, with changed
 *             streams and rules, and with another number of shards.
 * Owner       mr_restored: the opener, until mr_restored_finish; it may go once the pipeline is open.
 * Errors      MR_CORRUPT, MR_IO, MR_NO_MEMORY; MR_FULL (dedup.ids is smaller than what is remembered) with a text;
 *             MR_UNSUPPORTED: two checkpoints that cannot be joined.
 */
#include "config/change.h"
#include "log/manifest.h"
#include "pipeline/plan.h"

struct mr_pipeline;

struct mr_restored;

/* The rules that are new or begin anew in the plan have their windows and counters from another checkpoint: of the same
 * bundle of the same log, and made under the plan's own configuration (pipeline/join.h). */
struct mr_restored_join {
    const struct mr_restored *from;
    const int64_t *begins_ms; /* by rule: windows that begin earlier are left out; INT64_MIN: none are */
};

struct mr_restored {
    struct mr_disk *disk;
    const char *dir;
    struct mr_manifest newest; /* number 0: there is none, everything begins empty */
    struct mr_manifest before; /* number 0: none */
    struct mr_error damage;    /* of the newest that was passed over; status MR_OK: none was */
    uint64_t next_manifest;    /* higher than any number seen */
    uint64_t next_part;
    struct mr_config_change change; /* from the manifest's configuration to the plan's */
    uint32_t old_streams; /* of the manifest's configuration */
    uint32_t old_rules;
    uint64_t old_generations[MR_RULES_MAX]; /* by rule of the manifest's configuration: mr_restored_plan */
    const struct mr_restored_join *join; /* NULL: what is new or begins anew is empty */
    int64_t finals_ms[MR_RULES_MAX]; /* by rule of the plan: windows ending up to here are final under its settings, and
                                      * nobody may have said so; INT64_MIN: nothing to say */
    uint64_t change_seq; /* of the CONFIG record that made the change; 0: none is behind the manifest */
    uint64_t dead_seq; /* of the flusher, and the dead-letter log's last record then */
    uint64_t dead_lsn;
};

/* What a replay has left in dir, in the place of what restored had (initialised). MR_NOT_FOUND with a text: no checkpoint. */
enum mr_status mr_restored_open_replay(struct mr_disk *disk, const char *dir, struct mr_restored *restored,
                                       struct mr_error *error) MR_MUST_CHECK;
/* Finds the newest sound checkpoint in dir (parts are verified) and the one before it. A damaged one is reported and
 * passed over. */
enum mr_status mr_restored_open(struct mr_disk *disk, const char *dir, struct mr_restored *ret,
                                struct mr_error *error) MR_MUST_CHECK;
void mr_restored_finish(struct mr_restored *restored);
/* Removes every file in dir that neither of the two needs. */
enum mr_status mr_restored_tidy(const struct mr_restored *restored,
                                struct mr_error *error) MR_MUST_CHECK;
/* The YAML of streams and rules the newest was made with. */
struct mr_bytes mr_restored_config(const struct mr_restored *restored);
/* What the plan takes over before the pipeline opens: generations and floors of rules. change is filled; anew_seq is
 * the generation of rules that begin anew. */
enum mr_status mr_restored_plan(struct mr_restored *restored, const struct mr_config *before,
                                uint64_t anew_seq, struct mr_plan *plan,
                                struct mr_error *error) MR_MUST_CHECK;
/* Into the pipeline's stations: nothing has run yet. */
enum mr_status mr_restore(struct mr_pipeline *pipeline, const struct mr_restored *restored,
                          struct mr_error *error) MR_MUST_CHECK;
