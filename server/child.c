/* SPDX-License-Identifier: Apache-2.0 */
#include "server/child.h"

#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NICENESS = 10, READ_BYTES = 64 << 10 };

#define OOM_SCORE "500" /* of 1000: the kernel prefers it to the server, whose memory may be larger */

/* Descriptors: no input, the pipe, a file; nothing of ours beyond them (sockets, locks). */
static int set_files(posix_spawn_file_actions_t *files, int out_fd, const char *errors_path) {
    int failed = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    failed = failed != 0 ? failed : posix_spawn_file_actions_adddup2(files, out_fd, STDOUT_FILENO);
    failed = failed != 0 ? failed
                         : posix_spawn_file_actions_addopen(files, STDERR_FILENO, errors_path,
                                                            O_WRONLY | O_CREAT | O_TRUNC, 0600);
    return failed != 0 ? failed : posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
}

/* The server blocks the signals that end it; and a Ctrl-C at its terminal is meant for it alone. */
static int set_attributes(posix_spawnattr_t *attributes) {
    sigset_t none;
    sigset_t pipe_only;
    (void)sigemptyset(&none); /* cannot fail: valid sets and numbers */
    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    int failed =
        posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    failed = failed != 0 ? failed : posix_spawnattr_setsigmask(attributes, &none);
    failed = failed != 0 ? failed : posix_spawnattr_setsigdefault(attributes, &pipe_only);
    return failed != 0 ? failed : posix_spawnattr_setpgroup(attributes, 0);
}

static int spawn(char *const *argv, int out_fd, const char *errors_path, pid_t *ret) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    int failed = posix_spawn_file_actions_init(&files);
    if (failed != 0) {
        return failed;
    }
    failed = posix_spawnattr_init(&attributes);
    if (failed == 0) {
        failed = set_files(&files, out_fd, errors_path);
        failed = failed != 0 ? failed : set_attributes(&attributes);
        /* the executable that runs, also when an upgrade has put another one in its place */
        failed = failed != 0 ? failed : posix_spawn(ret, "/proc/self/exe", &files, &attributes, argv, environ);
        (void)posix_spawnattr_destroy(&attributes); /* both: nothing to be told of */
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return failed;
}

enum mr_status mr_child_start(const char *const *arguments, const char *errors_path, struct mr_child *ret,
                              struct mr_error *error) {
    char *argv[MR_CHILD_ARGUMENTS_MAX + 4];
    char parent[32];
    int ends[2];
    size_t count = 0;
    argv[count++] = (char *)(uintptr_t) "millrace"; /* exec takes pointers without const, and writes to nothing */
    for (size_t i = 0; arguments[i] != NULL; i++) {
        MR_ASSERT(i < MR_CHILD_ARGUMENTS_MAX);
        argv[count++] = (char *)(uintptr_t)arguments[i];
    }
    (void)snprintf(parent, sizeof parent, "%ld", (long)getpid()); /* has room for any */
    argv[count++] = (char *)(uintptr_t) "--parent";
    argv[count++] = parent;
    argv[count] = NULL;
    *ret = (struct mr_child){.pid = 0, .out_fd = -1};
    int failed = pipe2(ends, O_CLOEXEC) == 0 ? 0 : errno;
    if (failed == 0) {
        failed = spawn(argv, ends[1], errors_path, &ret->pid);
        (void)close(ends[1]); /* the child's now */
        if (failed == 0) {
            ret->out_fd = ends[0];
            return MR_OK;
        }
        ret->pid = 0;
        (void)close(ends[0]);
    }
    return mr_error_set(error, failed == ENOMEM || failed == EAGAIN ? MR_NO_MEMORY : MR_IO,
                        "cannot start `millrace %s`: %s", arguments[0], strerror(failed));
}

enum mr_status mr_child_read(struct mr_child *child, int wait_ms, struct mr_buf *ret) {
    struct pollfd wanted = {.fd = child->out_fd, .events = POLLIN};
    MR_ASSERT(child->pid > 0);
    int ready = poll(&wanted, 1, wait_ms);
    if (ready <= 0) {
        return MR_BUSY; /* also after a signal: the caller asks again */
    }
    uint8_t *room = mr_buf_reserve(ret, READ_BYTES);
    if (room == NULL) {
        return MR_LIMIT;
    }
    ssize_t len = read(child->out_fd, room, READ_BYTES);
    if (len < 0) {
        return errno == EINTR ? MR_BUSY : MR_END;
    }
    ret->len += (size_t)len;
    return len == 0 ? MR_END : MR_OK;
}

void mr_child_kill(struct mr_child *child) {
    if (child->pid > 0) {
        (void)kill(child->pid, SIGKILL); /* ours until it is waited for: the number is nobody else's */
    }
}

int mr_child_finish(struct mr_child *child) {
    int how = 0;
    if (child->pid == 0) {
        return 0;
    }
    (void)close(child->out_fd); /* only read */
    pid_t got = -1;
    do {
        got = waitpid(child->pid, &how, 0);
    } while (got < 0 && errno == EINTR);
    MR_ASSERT(got == child->pid);
    *child = (struct mr_child){.pid = 0, .out_fd = -1};
    return WIFEXITED(how) ? WEXITSTATUS(how) : MR_CHILD_SIGNALLED + WTERMSIG(how);
}

bool mr_child_follow(const char *parent) {
    char *end = NULL;
    errno = 0;
    long pid = strtol(parent, &end, 10);
    if (errno != 0 || end == parent || *end != '\0' || pid <= 0) {
        return false;
    }
    (void)setpriority(PRIO_PROCESS, 0, NICENESS); /* a courtesy, as is the next */
    FILE *score = fopen("/proc/self/oom_score_adj", "we");
    if (score != NULL) {
        (void)fputs(OOM_SCORE, score);
        (void)fclose(score);
    }
    /* In this order: a parent that has gone before it was asked for cannot send the signal. */
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == (pid_t)pid;
}
