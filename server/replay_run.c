/* SPDX-License-Identifier: Apache-2.0 */
#include "server/replay_run.h"

#include "base/check.h"
#include "base/report.h"
#include "server/child.h"
#include "server/cli.h"
#include "server/replay_dir.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LOOK_MS = 200, OUTPUT_MAX = 1 << 20 };

static bool is_to_end(struct mr_replay_run *r) {
    (void)pthread_mutex_lock(&r->lock); /* cannot fail: not recursive, and initialized */
    bool is = r->end;
    (void)pthread_mutex_unlock(&r->lock);
    return is;
}

static bool disk_is_low(const struct mr_replay_run *r) {
    uint64_t free_bytes = UINT64_MAX;
    return mr_disk_free_bytes(r->disk, r->dir, &free_bytes) == MR_OK && free_bytes < r->keep_free_bytes;
}

/* Keeps the newest whole line of progress; what is before it, and lines of another kind, are forgotten. */
static void take_progress(struct mr_replay_run *r, struct mr_buf *output) {
    static const char head[] = "{\"progress\":";
    for (;;) {
        uint8_t *end = output->len == 0 ? NULL : memchr(output->ptr, '\n', output->len);
        if (end == NULL) {
            return;
        }
        size_t len = (size_t)(end - output->ptr);
        if (len >= sizeof head && len < sizeof r->progress && memcmp(output->ptr, head, sizeof head - 1) == 0) {
            (void)pthread_mutex_lock(&r->lock);
            memcpy(r->progress, output->ptr, len);
            r->progress[len] = '\0';
            (void)pthread_mutex_unlock(&r->lock);
        }
        output->len -= len + 1;
        memmove(output->ptr, end + 1, output->len);
    }
}

/* Until the child has ended; returns its exit code. *ret_low: for want of disk. */
static int follow(struct mr_replay_run *r, struct mr_child *child, bool *ret_low) {
    struct mr_buf output;
    mr_buf_init(&output, OUTPUT_MAX);
    enum mr_status status = MR_BUSY;
    while (status == MR_BUSY || status == MR_OK) {
        status = mr_child_read(child, LOOK_MS, &output);
        take_progress(r, &output);
        *ret_low = status != MR_END && disk_is_low(r);
        if (*ret_low || (status != MR_END && is_to_end(r))) {
            status = MR_CLOSED;
        }
    }
    if (status != MR_END) {
        mr_child_kill(child);
    }
    mr_buf_finish(&output);
    return mr_child_finish(child);
}

static void write_ended(struct mr_replay_run *r, const char *name, int code, bool low, const struct mr_error *error) {
    char dir[MR_REPLAY_PATH_CAP];
    char shown[MR_ERROR_TEXT_MAX];
    struct mr_buf text;
    struct mr_error failed = {.text = ""};
    mr_buf_init(&text, MR_REPLAY_MESSAGE_MAX + MR_ERROR_TEXT_MAX);
    if (low) {
        mr_buf_printf(&text, "ended: less than %" PRIu64 " bytes of the disk (twice log.reserve) are free",
                      r->keep_free_bytes);
    } else if (error->status != MR_OK) {
        mr_buf_append_text(&text, error->text);
    } else if (code > MR_CHILD_SIGNALLED) {
        mr_buf_printf(&text, "ended by signal %d", code - MR_CHILD_SIGNALLED);
    } else {
        mr_replay_said(r->disk, r->dir, name, "errors.txt", &text);
    }
    mr_report(MR_LEVEL_WARN, "replay_failed", "name=%s code=%d", name, code);
    enum mr_status status = mr_replay_path(r->dir, name, "", dir, &failed);
    if (status == MR_OK) {
        status = mr_replay_file_write(r->disk, dir, "ENDED", MR_FILE_CREATE_NEW, mr_buf_bytes(&text), &failed);
    }
    if (status != MR_OK) { /* it will look like an interrupted one */
        mr_report(MR_LEVEL_WARN, "replay_not_noted", "reason=%s", mr_report_value(failed.text, shown, sizeof shown));
    }
    mr_buf_finish(&text);
}

static enum mr_status start_child(struct mr_replay_run *r, struct mr_child *child, struct mr_error *error) {
    char config[MR_REPLAY_PATH_CAP];
    char into[MR_REPLAY_PATH_CAP];
    char errors[MR_REPLAY_PATH_CAP];
    char from[32];
    const char *arguments[MR_CHILD_ARGUMENTS_MAX] = {"replay", "-c",        config,    "--into", into,
                                                     "--data", r->data_dir, "--again", "--json"};
    if (r->from_ms != INT64_MIN) {
        (void)snprintf(from, sizeof from, "%" PRId64, r->from_ms); /* has room for any */
        arguments[9] = "--from";
        arguments[10] = from;
    }
    enum mr_status status = mr_replay_path(r->dir, r->name, "config.yaml", config, error);
    status = status == MR_OK ? mr_replay_path(r->dir, r->name, "", into, error) : status;
    status = status == MR_OK ? mr_replay_path(r->dir, r->name, "errors.txt", errors, error) : status;
    return status == MR_OK ? mr_child_start(arguments, errors, child, error) : status;
}

/* The child's parent for the kernel is this thread: it stays until the child has ended. */
static void *run(void *ctx) {
    struct mr_replay_run *r = ctx;
    struct mr_child child = {.pid = 0};
    struct mr_error error = {.status = MR_OK};
    bool low = false;
    mr_report(MR_LEVEL_INFO, "replay_started", "name=%s", r->name);
    enum mr_status status = start_child(r, &child, &error);
    error.status = status;
    int code = status == MR_OK ? follow(r, &child, &low) : MR_EXIT_FAILURE;
    if (code == 0) {
        mr_report(MR_LEVEL_INFO, "replay_finished", "name=%s", r->name);
    } else if (!is_to_end(r)) {
        write_ended(r, r->name, code, low, &error);
    }
    (void)pthread_mutex_lock(&r->lock);
    r->name[0] = '\0';
    (void)pthread_cond_broadcast(&r->ended); /* cannot fail: initialized */
    (void)pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* Under the lock; nothing runs. */
static void join(struct mr_replay_run *r) {
    MR_ASSERT(r->name[0] == '\0');
    if (r->joinable) {
        (void)pthread_join(r->thread, NULL); /* it has let go of the lock for the last time */
        r->joinable = false;
    }
}

void mr_replay_run_init(struct mr_replay_run *r, struct mr_disk *disk, const char *data_dir, const char *dir,
                        uint64_t keep_free_bytes) {
    *r = (struct mr_replay_run){
        .disk = disk, .data_dir = data_dir, .dir = dir, .keep_free_bytes = keep_free_bytes, .from_ms = INT64_MIN};
    (void)pthread_mutex_init(&r->lock, NULL); /* cannot fail here: no attributes */
    (void)pthread_cond_init(&r->ended, NULL); /* likewise */
}

enum mr_status mr_replay_run_start(struct mr_replay_run *r, const char *name, int64_t from_ms, struct mr_error *error) {
    enum mr_status status = MR_OK;
    (void)pthread_mutex_lock(&r->lock);
    if (r->closed) {
        status = mr_error_set(error, MR_CLOSED, "the server is stopping");
    } else {
        join(r);
        (void)snprintf(r->name, sizeof r->name, "%s", name); /* fits: MR_NAME_MAX */
        r->progress[0] = '\0';
        r->end = false;
        r->from_ms = from_ms;
        r->joinable = pthread_create(&r->thread, NULL, run, r) == 0;
    }
    if (status == MR_OK && !r->joinable) {
        r->name[0] = '\0';
        status = mr_error_set(error, MR_NO_MEMORY, "cannot start a thread for the replay");
    }
    (void)pthread_mutex_unlock(&r->lock);
    return status;
}

void mr_replay_run_look(struct mr_replay_run *r, char ret_name[MR_NAME_MAX + 1],
                        char ret_progress[MR_REPLAY_LINE_MAX]) {
    (void)pthread_mutex_lock(&r->lock);
    memcpy(ret_name, r->name, sizeof r->name);
    memcpy(ret_progress, r->progress, sizeof r->progress);
    (void)pthread_mutex_unlock(&r->lock);
}

/* Under the lock. */
static void wait_end(struct mr_replay_run *r) {
    r->end = true;
    while (r->name[0] != '\0') {
        (void)pthread_cond_wait(&r->ended, &r->lock);
    }
    join(r);
}

void mr_replay_run_end(struct mr_replay_run *r, const char *name) {
    (void)pthread_mutex_lock(&r->lock);
    if (strcmp(r->name, name) == 0) {
        wait_end(r);
    }
    (void)pthread_mutex_unlock(&r->lock);
}

void mr_replay_run_close(struct mr_replay_run *r) {
    (void)pthread_mutex_lock(&r->lock);
    r->closed = true;
    wait_end(r);
    (void)pthread_mutex_unlock(&r->lock);
}

void mr_replay_run_finish(struct mr_replay_run *r) {
    mr_replay_run_close(r);
    (void)pthread_cond_destroy(&r->ended);
    (void)pthread_mutex_destroy(&r->lock);
}
