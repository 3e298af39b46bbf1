/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Child: a process of this program's own executable, for work whose memory, time and failures are not to be the
 * server's.
 *
 * Idea        A replay needs as much memory as a server, and a comparison or a check of a configuration as much as it
 *             likes. In a process of its own each has its own limits, runs at a low priority, is what the kernel ends
 *             first when memory runs out, and is ended at any moment by a signal, without a word about the state it
 *             leaves: `millrace replay` is made to be killed.
 *
 *                 server ── posix_spawn(/proc/self/exe) ──▶ millrace … --parent PID
 *                    ◀── standard output: a pipe ── │ standard error: a file │ no other descriptor, no signal mask
 *
 * Threads     A child belongs to the thread that started it, which must not end before it: the kernel ends the child
 *             with that thread (PR_SET_PDEATHSIG), also after a kill -9 of this process.
 * Errors      start: MR_NO_MEMORY, MR_IO with a text; no child is left. read: MR_BUSY: nothing came in the given time;
 *             MR_END: the child has closed its output, which it does by ending; MR_LIMIT: more than the buffer's bound.
 */
#include "base/bytes.h"
#include "base/status.h"

#include <sys/types.h>

#define MR_CHILD_ARGUMENTS_MAX 24
#define MR_CHILD_SIGNALLED 128 /* exit code of one that a signal ended, as of a shell: 128 + its number */

struct mr_child {
    pid_t pid; /* 0: none */
    int out_fd;
};

/* arguments: behind the program's name, NULL-ended. errors_path: made, or emptied. */
enum mr_status mr_child_start(const char *const *arguments, const char *errors_path, struct mr_child *ret,
                              struct mr_error *error) MR_MUST_CHECK;
/* Appends what there is to ret, after waiting at most wait_ms for it. */
enum mr_status mr_child_read(struct mr_child *child, int wait_ms, struct mr_buf *ret) MR_MUST_CHECK;
/* Ends it now. It is still to be finished. */
void mr_child_kill(struct mr_child *child);
/* Waits for its end; returns the exit code. None: 0. */
int mr_child_finish(struct mr_child *child);

/* In the child, before it does anything: low priority, and no longer there than the process parent (a decimal number).
 * false: it is not a process that started this one. */
bool mr_child_follow(const char *parent);
