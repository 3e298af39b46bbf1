/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Replays: what POST /v1/replays and its companions do: keeps replays of this node's log in data_dir/replays, a
 * directory each, and runs one at a time.
 *
 * Idea        A replay is a child process, `millrace replay` (server/child.h says why), so what it does to memory, and
 *             that it may be killed at any moment, is what the command already stands for. Of it nothing is kept here
 *             but which one runs: the rest is read from its directory, so that a start after a kill -9 finds all of
 *             them.
 *
 *                 replays/NAME/config.yaml   as it was posted; it has passed `millrace check`
 *                              errors.txt    what the replay has said on standard error
 *                              ENDED         why it failed
 *                              REPLAY, results.db, checkpoint/   what it made (docs/REPLAY.md)
 *
 *             finished: REPLAY and results.db are there. failed: ENDED is. running: in memory. interrupted: none of
 *             these, which is what a stop or a crash of the server leaves.
 * Bounds      MR_REPLAYS_MAX directories; one replay runs, and beside it one short question (a check of a
 *             configuration, a comparison) at a time. A replay is ended when less than keep_free_bytes of the disk are
 *             left, so that it never takes from the log what that needs.
 * Owner       The process that has the data directory. open/close.
 * Threads     Any, but open, stop and close: one. A replay has a thread of its own while it runs; questions to children
 *             are waited for on the caller's (a query worker: at most one of them at a time).
 * Errors      With a text for the client. MR_INVALID: what was asked. MR_NOT_FOUND: no such replay. MR_BUSY: it is in a
 *             state in which this is not done; MR_FULL: MR_REPLAYS_MAX are there; MR_UNSUPPORTED: it may not be
 *             promoted; MR_AGAIN: another short question is under way; MR_CLOSED: the server stops; others: of the
 *             disk.
 */
#include "server/replay_run.h"

#define MR_REPLAYS_MAX 16

struct mr_replays;

struct mr_replays_options {
    struct mr_disk *disk;
    const char *data_dir; /* it outlives this */
    uint64_t keep_free_bytes;
};

enum mr_replay_state { MR_REPLAY_RUNNING, MR_REPLAY_FINISHED, MR_REPLAY_FAILED, MR_REPLAY_INTERRUPTED };

struct mr_replay_status {
    enum mr_replay_state state;
    bool marked;                       /* the next start promotes it */
    char progress[MR_REPLAY_LINE_MAX]; /* running: a JSON object, or empty */
    struct mr_buf message;             /* what it has said; finish it */
};

struct mr_replay_start {
    const char *name;
    struct mr_bytes yaml;
    int64_t from_ms; /* INT64_MIN: from the beginning */
    bool again;      /* in the place of one that is there */
};

struct mr_replay_comparison {
    const char *name;
    const char *rule; /* NULL: all */
    uint32_t limit;   /* rows of each rule */
    bool all;
};

enum mr_status mr_replays_open(const struct mr_replays_options *options, struct mr_replays **ret,
                               struct mr_error *error) MR_MUST_CHECK;
/* Ends what runs; nothing begins any more. NULL is fine, and so is a second time. */
void mr_replays_stop(struct mr_replays *replays);
void mr_replays_close(struct mr_replays *replays); /* NULL is fine */

/* Checks the configuration as `millrace check` does, and starts the replay. */
enum mr_status mr_replays_start(struct mr_replays *replays, const struct mr_replay_start *start,
                                struct mr_error *error) MR_MUST_CHECK;
/* The names, in order; at most cap of them. */
enum mr_status mr_replays_list(struct mr_replays *replays, char (*ret)[MR_NAME_MAX + 1], uint32_t cap,
                               uint32_t *ret_count, struct mr_error *error) MR_MUST_CHECK;
/* ret is to be finished (message) also after an error. */
enum mr_status mr_replays_look(struct mr_replays *replays, const char *name, struct mr_replay_status *ret,
                               struct mr_error *error) MR_MUST_CHECK;
/* REPLAY of one that is finished. */
enum mr_status mr_replays_note(struct mr_replays *replays, const char *name, struct mr_replay_note *ret,
                               struct mr_error *error) MR_MUST_CHECK;
/* Of a finished one: what `millrace replay compare --json` prints, a line a rule, appended to ret. MR_LIMIT: longer
 * than ret may be. */
enum mr_status mr_replays_compare(struct mr_replays *replays, const struct mr_replay_comparison *comparison,
                                  struct mr_buf *ret, struct mr_error *error) MR_MUST_CHECK;
/* Ends it when it runs, and removes its directory. */
enum mr_status mr_replays_remove(struct mr_replays *replays, const char *name, struct mr_error *error) MR_MUST_CHECK;
/* Whether the next start promotes it (server/replay_mark.h): one at a time. Asked for twice, it is so still. */
enum mr_status mr_replays_mark(struct mr_replays *replays, const char *name, struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_replays_unmark(struct mr_replays *replays, const char *name, struct mr_error *error) MR_MUST_CHECK;
