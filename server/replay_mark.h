/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Replay mark: the file PROMOTE in the data directory: which replay the next start is to promote before it opens.
 *
 * Idea        Promoting needs the data directory for itself, which a server that runs has. So a running one only
 *             writes down what was asked, and the next start does it, if its configuration is the replay's:
 *
 *                 POST …/promote ─▶ PROMOTE ─▶ … SIGTERM … serve ─▶ promoted ─▶ PROMOTE removed ─▶ open
 *                                                              └─▶ another configuration: it ends, and says what to do
 *
 *             A start that cannot do it does not go on without: under changed rules the open windows would be gone.
 * Shape       One line: the replay's name, and what PROMOTED said when the mark was written. If that says something
 *             else by now, it has been done (a crash came between the last two steps), and the mark is only removed.
 */
#include "server/replay_note.h"

/* Beside the log: what POST /v1/replays makes, a directory each. */
#define MR_REPLAYS_DIR "replays"

struct mr_replay_mark {
    char name[MR_NAME_MAX + 1];
    uint64_t promoted_seq; /* pipeline/promote.h; 0: nothing was promoted before */
};

/* MR_NOT_FOUND: there is none. */
enum mr_status mr_replay_mark_read(struct mr_disk *disk, const char *data_dir, struct mr_replay_mark *ret,
                                   struct mr_error *error) MR_MUST_CHECK;
/* Durable. The data directory is in use by this process. */
enum mr_status mr_replay_mark_write(struct mr_disk *disk, const char *data_dir, const char *name,
                                    struct mr_error *error) MR_MUST_CHECK;
/* Durable. MR_NOT_FOUND: there was none. */
enum mr_status mr_replay_mark_remove(struct mr_disk *disk, const char *data_dir, struct mr_error *error) MR_MUST_CHECK;

/* For a start, before it opens the data: does what is marked, and says so on standard error. Errors as mr_promote;
 * MR_MISMATCH, too: the configuration's streams and rules are not the replay's. */
enum mr_status mr_replay_promote_marked(const struct mr_config *config, struct mr_error *error) MR_MUST_CHECK;
