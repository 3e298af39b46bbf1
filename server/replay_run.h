/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Replay run: the one replay that runs, and the thread that has it.
 *
 *     start ─▶ thread: child ─▶ progress … ─▶ it ends ─▶ fine, or ENDED says why not
 *                        ▲ killed: by end, or when less than keep_free_bytes of the disk are left
 *
 * Idea        The kernel ends a child with the thread that started it (server/child.h), so a thread waits for it that
 *             does nothing else.
 * Owner       init/finish.
 * Threads     Any; start only by one at a time.
 */
#include "base/file.h"
#include "server/replay_note.h"

#include <pthread.h>

#define MR_REPLAY_LINE_MAX 256 /* of progress, as the child tells it */

struct mr_replay_run {
    /* Constant after init. */
    struct mr_disk *disk;
    const char *data_dir;
    const char *dir; /* of all replays */
    uint64_t keep_free_bytes;

    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t ended;          /* name has become empty */
    bool closed;                   /* nothing starts any more */
    bool end;                      /* the one that runs is to end */
    bool joinable;                 /* the thread is there, and not joined */
    char name[MR_NAME_MAX + 1];    /* empty: none runs */
    char progress[MR_REPLAY_LINE_MAX];
    pthread_t thread;

    int64_t from_ms; /* the thread's while it runs */
};

/* The texts outlive it. */
void mr_replay_run_init(struct mr_replay_run *run, struct mr_disk *disk, const char *data_dir, const char *dir,
                        uint64_t keep_free_bytes);
/* Nothing runs. MR_CLOSED, MR_NO_MEMORY. */
enum mr_status mr_replay_run_start(struct mr_replay_run *run, const char *name, int64_t from_ms,
                                   struct mr_error *error) MR_MUST_CHECK;
/* The name of the one that runs, empty: none; and its progress, a JSON object or empty. */
void mr_replay_run_look(struct mr_replay_run *run, char ret_name[MR_NAME_MAX + 1],
                        char ret_progress[MR_REPLAY_LINE_MAX]);
/* Ends it, if it is that one, and waits until it has ended. */
void mr_replay_run_end(struct mr_replay_run *run, const char *name);
/* Ends whatever runs; nothing starts any more. */
void mr_replay_run_close(struct mr_replay_run *run);
void mr_replay_run_finish(struct mr_replay_run *run);
