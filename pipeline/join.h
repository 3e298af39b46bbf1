/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Join: what a node has, and the rules that a replay has made otherwise: one checkpoint and one results store.
 *
 * Idea        A replay that has left something out (the log was trimmed, --from, streams that are gone) has not all
 *             ids and not all rows; the node has them, but its rules are the wrong ones. Both are functions of the same
 *             log, so both can be brought to one record of it, E, and then each gives what only it has:
 *
 *                 log     gone │1 ───── S ────────── E: the node's newest checkpoint
 *                 node         │ its own rules ─────▶│ ids, watermarks, undecided events, counters of streams;
 *                              │                     │ windows and rows of rules that are as they were
 *                 replay       │──▶ DIR ·· goes on ·▶│ windows and rows of rules that are new or another one:
 *                                 └ begins_ms          those that begin at begins_ms or later
 *
 *             Which rules are others, config/change.h says; one that changes live (its lateness, its early panes) goes
 *             on from what the node has, as after a restart.
 * Left out    Of another rule, windows that begin before begins_ms. Final rows of the node's own are kept there, if the
 *             table's columns and metrics are the same. What has not ended by E stays left out: its events count as
 *             late for the rule (final_floor_ms in the checkpoint), so no row says it is final and has a part of its
 *             events only. Sessions cannot be left out so: one that is not final is refused. A global window goes on
 *             with what the log has: it has no beginning and is never final.
 * Crash       The replay's directory is brought forward, and the joined ones are made anew: nothing of the node
 *             changes, and a second run does the same.
 * Owner       The caller holds the data directory (data: mr_data_options.settle_only) meanwhile.
 * Errors      MR_MISMATCH: a stream's settings are others. MR_UNSUPPORTED: sessions as above; watermarks at E that
 *             differ; no window of a rule is whole. MR_NOT_FOUND: the replay has read records that the log does not
 *             have.
 */
#include "pipeline/data.h"

struct mr_join {
    struct mr_data *data;
    const struct mr_config *config; /* the replay's */
    const char *checkpoint_dir;     /* of the replay; both go on to E */
    const char *results_path;
    const char *joined_dir; /* what is made */
    const char *joined_path;
    const int64_t *begins_ms; /* by rule of config: rows that the replay has; INT64_MIN: all */
};

enum mr_status mr_join_make(const struct mr_join *join, struct mr_error *error) MR_MUST_CHECK;
/* What was made goes; joined_dir stays, empty. Fine when there is nothing. */
enum mr_status mr_join_remove(struct mr_disk *disk, const char *joined_dir, const char *joined_path,
                              struct mr_error *error) MR_MUST_CHECK;
