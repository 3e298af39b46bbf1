/* SPDX-License-Identifier: Apache-2.0 */
#include "server/replays.h"

#include "base/alloc.h"
#include "base/check.h"
#include "server/child.h"
#include "server/cli.h"
#include "server/replay_dir.h"
#include "server/replay_mark.h"
#include "server/replay_promote.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { LOOK_MS = 200, PRINTED_MAX = 64 << 20 };

static const char posted_name[] = ".posted"; /* a configuration that is being checked; no replay has such a name */
static const char asked_name[] = ".asked";   /* what a question's child says on standard error */

struct mr_replays {
    /* Constant after open. */
    struct mr_disk *disk;
    const char *data_dir;
    char dir[MR_REPLAY_PATH_CAP];

    struct mr_replay_run run;

    /* Under the lock. */
    pthread_mutex_t lock;
    bool stopping;
    bool asking; /* a child is checking, or comparing: nothing starts, and nothing is removed */
};

/* ---- names ---- */

static enum mr_status must_be_there(const struct mr_replays *r, const char *name, struct mr_error *error) {
    return mr_replay_has(r->dir, name, "")
               ? MR_OK
               : mr_error_set(error, MR_NOT_FOUND, "no replay `%s`; GET /v1/replays lists them", name);
}

static bool is_marked(const struct mr_replays *r, const char *name, struct mr_replay_mark *mark) {
    struct mr_error error;
    return mr_replay_mark_read(r->disk, r->data_dir, mark, &error) == MR_OK && strcmp(mark->name, name) == 0;
}

static enum mr_status must_not_be_marked(const struct mr_replays *r, const char *name, struct mr_error *error) {
    struct mr_replay_mark mark;
    return !is_marked(r, name, &mark)
               ? MR_OK
               : mr_error_set(error, MR_BUSY,
                              "the next start promotes replay `%s`: DELETE /v1/replays/%s/promote first", name, name);
}

/* ---- short questions ---- */

static enum mr_status begin_asking(struct mr_replays *r, struct mr_error *error) {
    enum mr_status status = MR_OK;
    (void)pthread_mutex_lock(&r->lock);
    if (r->stopping) {
        status = mr_error_set(error, MR_CLOSED, "the server is stopping");
    } else if (r->asking) {
        status = mr_error_set(error, MR_AGAIN, "a configuration is being checked, or a replay compared: one at a time");
    } else {
        r->asking = true;
    }
    (void)pthread_mutex_unlock(&r->lock);
    return status;
}

static void end_asking(struct mr_replays *r) {
    (void)pthread_mutex_lock(&r->lock);
    r->asking = false;
    (void)pthread_mutex_unlock(&r->lock);
}

static bool is_stopping(struct mr_replays *r) {
    (void)pthread_mutex_lock(&r->lock);
    bool is = r->stopping;
    (void)pthread_mutex_unlock(&r->lock);
    return is;
}

/* While asking is ours. Its output is appended to ret; *ret_code is its exit code when MR_OK is returned. */
static enum mr_status ask(struct mr_replays *r, const char *const *arguments, struct mr_buf *ret, int *ret_code,
                          struct mr_error *error) {
    char errors[MR_REPLAY_PATH_CAP];
    struct mr_child child;
    enum mr_status status = mr_replay_path(r->dir, asked_name, "", errors, error);
    status = status == MR_OK ? mr_child_start(arguments, errors, &child, error) : status;
    if (status != MR_OK) {
        return status;
    }
    bool closing = false;
    do {
        status = mr_child_read(&child, LOOK_MS, ret);
        closing = is_stopping(r);
    } while (!closing && (status == MR_OK || status == MR_BUSY));
    if (closing || status == MR_LIMIT) {
        mr_child_kill(&child);
    }
    int code = mr_child_finish(&child);
    if (closing) {
        return mr_error_set(error, MR_CLOSED, "the server is stopping");
    }
    if (status == MR_LIMIT) {
        return mr_error_set(error, MR_LIMIT, "the answer is longer than %zu bytes: ask for fewer rows (`limit`)",
                            ret->cap_max);
    }
    *ret_code = code;
    return MR_OK;
}

/* The text that the question's child ended with, in which the path of a file stands as the client knows it. */
static enum mr_status explain(const struct mr_replays *r, enum mr_status status, int code, struct mr_error *error) {
    char path[MR_REPLAY_PATH_CAP];
    struct mr_buf said;
    mr_buf_init(&said, MR_REPLAY_MESSAGE_MAX + 1);
    mr_replay_said(r->disk, r->dir, asked_name, "", &said);
    mr_buf_append_char(&said, '\0');
    const char *text = said.failed ? "" : (const char *)said.ptr;
    size_t skip = mr_replay_path(r->dir, posted_name, "", path, NULL) == MR_OK ? strlen(path) : 0;
    bool ours = skip > 0 && strncmp(text, path, skip) == 0;
    if (text[0] == '\0') {
        (void)mr_error_set(error, status, "`millrace` ended with exit code %d", code);
    } else {
        (void)mr_error_set(error, status, "%s%s", ours ? "config.yaml" : "", ours ? text + skip : text);
    }
    mr_buf_finish(&said);
    return status;
}

static enum mr_status check_config(struct mr_replays *r, const struct mr_replay_start *start, struct mr_error *error) {
    char path[MR_REPLAY_PATH_CAP];
    struct mr_buf printed;
    int code = 0;
    enum mr_status status = mr_replay_file_write(r->disk, r->dir, posted_name, MR_FILE_SECRET, start->yaml, error);
    status = status == MR_OK ? mr_replay_path(r->dir, posted_name, "", path, error) : status;
    if (status != MR_OK) {
        return status;
    }
    const char *const arguments[] = {"check", "-c", path, NULL};
    mr_buf_init(&printed, PRINTED_MAX); /* the effective configuration, which nobody wants here */
    status = ask(r, arguments, &printed, &code, error);
    mr_buf_finish(&printed);
    if (status != MR_OK || code != 0) {
        enum mr_status gone = mr_disk_unlink(r->disk, path);
        (void)gone; /* the next one takes its place */
    }
    return status == MR_OK && code != 0 ? explain(r, code == MR_EXIT_CONFIG ? MR_INVALID : MR_IO, code, error) : status;
}

/* ---- opening and closing ---- */

enum mr_status mr_replays_open(const struct mr_replays_options *options, struct mr_replays **ret,
                               struct mr_error *error) {
    struct mr_replays *r = mr_alloc_zero(1, sizeof *r);
    if (r == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory");
    }
    r->disk = options->disk;
    r->data_dir = options->data_dir;
    int len = snprintf(r->dir, sizeof r->dir, "%s/" MR_REPLAYS_DIR, options->data_dir);
    if (len < 0 || (size_t)len >= sizeof r->dir) {
        mr_free(r);
        return mr_error_set(error, MR_LIMIT, "%s: too long a path", options->data_dir);
    }
    (void)pthread_mutex_init(&r->lock, NULL); /* cannot fail here: no attributes */
    mr_replay_run_init(&r->run, r->disk, r->data_dir, r->dir, options->keep_free_bytes);
    *ret = r;
    return MR_OK;
}

void mr_replays_stop(struct mr_replays *r) {
    if (r == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&r->lock);
    r->stopping = true;
    (void)pthread_mutex_unlock(&r->lock);
    mr_replay_run_close(&r->run);
}

void mr_replays_close(struct mr_replays *r) {
    if (r == NULL) {
        return;
    }
    mr_replays_stop(r);
    MR_ASSERT(!r->asking);
    mr_replay_run_finish(&r->run);
    (void)pthread_mutex_destroy(&r->lock);
    mr_free(r);
}

/* ---- listing ---- */

struct listing {
    char (*names)[MR_NAME_MAX + 1];
    uint32_t cap;
    uint32_t count;
};

/* In order: there are few. */
static enum mr_status on_name(void *ctx, const char *name) {
    struct listing *l = ctx;
    if (name[0] == '.' || strlen(name) > MR_NAME_MAX || l->count == l->cap) {
        return MR_OK;
    }
    uint32_t at = l->count++;
    while (at > 0 && strcmp(l->names[at - 1], name) > 0) {
        memcpy(l->names[at], l->names[at - 1], sizeof l->names[at]);
        at--;
    }
    (void)snprintf(l->names[at], sizeof l->names[at], "%s", name); /* fits */
    return MR_OK;
}

enum mr_status mr_replays_list(struct mr_replays *r, char (*ret)[MR_NAME_MAX + 1], uint32_t cap, uint32_t *ret_count,
                               struct mr_error *error) {
    struct listing l = {.names = ret, .cap = cap};
    enum mr_status status = mr_disk_list(r->disk, r->dir, on_name, &l);
    *ret_count = l.count;
    return status == MR_OK || status == MR_NOT_FOUND
               ? MR_OK
               : mr_error_set(error, status, "cannot list %s: %s", r->dir, mr_status_text(status));
}

static enum mr_replay_state stored_state(const struct mr_replays *r, const char *name) {
    bool finished = mr_replay_has(r->dir, name, "results.db") && mr_replay_has(r->dir, name, "REPLAY");
    return finished                               ? MR_REPLAY_FINISHED
           : mr_replay_has(r->dir, name, "ENDED") ? MR_REPLAY_FAILED
                                                  : MR_REPLAY_INTERRUPTED;
}

enum mr_status mr_replays_look(struct mr_replays *r, const char *name, struct mr_replay_status *ret,
                               struct mr_error *error) {
    struct mr_replay_mark mark;
    *ret = (struct mr_replay_status){.progress = ""};
    mr_buf_init(&ret->message, 2 * MR_REPLAY_MESSAGE_MAX);
    enum mr_status status = must_be_there(r, name, error);
    if (status != MR_OK) {
        return status;
    }
    char of[MR_NAME_MAX + 1];
    mr_replay_run_look(&r->run, of, ret->progress);
    bool running = strcmp(of, name) == 0;
    ret->state = running ? MR_REPLAY_RUNNING : stored_state(r, name);
    ret->marked = is_marked(r, name, &mark);
    if (ret->state == MR_REPLAY_FINISHED || ret->state == MR_REPLAY_FAILED) {
        mr_replay_said(r->disk, r->dir, name, ret->state == MR_REPLAY_FAILED ? "ENDED" : "errors.txt", &ret->message);
    }
    return MR_OK;
}

static enum mr_status must_be_finished(struct mr_replays *r, const char *name, struct mr_error *error) {
    struct mr_replay_status now;
    enum mr_status status = mr_replays_look(r, name, &now, error);
    mr_buf_finish(&now.message);
    if (status == MR_OK && now.state != MR_REPLAY_FINISHED) {
        status = mr_error_set(error, MR_BUSY, "replay `%s` %s", name,
                              now.state == MR_REPLAY_RUNNING  ? "is running: it has no rows yet"
                              : now.state == MR_REPLAY_FAILED ? "failed: GET it to see why"
                                                              : "was interrupted: post it once more, with again=true");
    }
    return status;
}

enum mr_status mr_replays_note(struct mr_replays *r, const char *name, struct mr_replay_note *ret,
                               struct mr_error *error) {
    char dir[MR_REPLAY_PATH_CAP];
    enum mr_status status = mr_replay_path(r->dir, name, "", dir, error);
    return status == MR_OK ? mr_replay_note_read(r->disk, dir, ret, error) : status;
}

/* ---- starting ---- */

/* While asking is ours, so nobody else starts one. */
static enum mr_status may_start(struct mr_replays *r, const struct mr_replay_start *start, struct mr_error *error) {
    char names[MR_REPLAYS_MAX][MR_NAME_MAX + 1];
    uint32_t count = 0;
    bool there = mr_replay_has(r->dir, start->name, "");
    char running[MR_NAME_MAX + 1];
    char progress[MR_REPLAY_LINE_MAX];
    mr_replay_run_look(&r->run, running, progress);
    if (running[0] != '\0') {
        return mr_error_set(error, MR_BUSY,
                            "replay `%s` is running, and one does at a time: wait for its end, or DELETE it", running);
    }
    if (there && !start->again) {
        return mr_error_set(error, MR_BUSY,
                            "there is a replay `%s` already: another name, again=true to replace it, or DELETE it",
                            start->name);
    }
    enum mr_status status = must_not_be_marked(r, start->name, error);
    status = status == MR_OK ? mr_replays_list(r, names, MR_REPLAYS_MAX, &count, error) : status;
    return status == MR_OK && !there && count == MR_REPLAYS_MAX
               ? mr_error_set(error, MR_FULL, "%d replays are kept, and no more: DELETE one", MR_REPLAYS_MAX)
               : status;
}

/* The directory, with what was posted; what an earlier one of this name has left there, the replay itself takes away.
 * */
static enum mr_status make_directory(struct mr_replays *r, const char *name, struct mr_error *error) {
    char from[MR_REPLAY_PATH_CAP];
    char to[MR_REPLAY_PATH_CAP];
    char ended[MR_REPLAY_PATH_CAP];
    enum mr_status status = mr_replay_path(r->dir, name, "", to, error);
    status = status == MR_OK ? mr_replay_path(r->dir, name, "ENDED", ended, error) : status;
    status = status == MR_OK ? mr_replay_path(r->dir, posted_name, "", from, error) : status;
    if (status != MR_OK) {
        return status;
    }
    status = mr_disk_mkdir(r->disk, to);
    if (status == MR_OK) {
        status = mr_disk_unlink(r->disk, ended);
        status = status == MR_NOT_FOUND ? MR_OK : status;
    }
    if (status == MR_OK) {
        status = mr_replay_path(r->dir, name, "config.yaml", to, error);
    }
    if (status == MR_OK) {
        status = mr_disk_rename(r->disk, from, to);
    }
    if (status == MR_OK) {
        status = mr_disk_sync_dir(r->disk, r->dir);
    }
    return status == MR_OK ? MR_OK : mr_error_set(error, status, "cannot make %s: %s", to, mr_status_text(status));
}

enum mr_status mr_replays_start(struct mr_replays *r, const struct mr_replay_start *start, struct mr_error *error) {
    enum mr_status status = begin_asking(r, error);
    if (status != MR_OK) {
        return status;
    }
    status = may_start(r, start, error);
    if (status == MR_OK) {
        status = mr_disk_mkdir(r->disk, r->dir);
        status =
            status == MR_OK ? MR_OK : mr_error_set(error, status, "cannot make %s: %s", r->dir, mr_status_text(status));
    }
    status = status == MR_OK ? check_config(r, start, error) : status;
    status = status == MR_OK ? make_directory(r, start->name, error) : status;
    status = status == MR_OK ? mr_replay_run_start(&r->run, start->name, start->from_ms, error) : status;
    end_asking(r);
    return status;
}

enum mr_status mr_replays_compare(struct mr_replays *r, const struct mr_replay_comparison *comparison,
                                  struct mr_buf *ret, struct mr_error *error) {
    char dir[MR_REPLAY_PATH_CAP];
    char limit[16];
    int code = 0;
    const char *arguments[MR_CHILD_ARGUMENTS_MAX] = {"replay",    "compare", dir,       "--data",
                                                     r->data_dir, "--json",  "--limit", limit};
    size_t count = 8;
    if (comparison->rule != NULL) {
        arguments[count++] = "--rule";
        arguments[count++] = comparison->rule;
    }
    if (comparison->all) {
        arguments[count++] = "--all";
    }
    (void)snprintf(limit, sizeof limit, "%" PRIu32, comparison->limit); /* has room for any */
    enum mr_status status = begin_asking(r, error);
    if (status != MR_OK) {
        return status;
    }
    status = must_be_finished(r, comparison->name, error);
    status = status == MR_OK ? mr_replay_path(r->dir, comparison->name, "", dir, error) : status;
    status = status == MR_OK ? ask(r, arguments, ret, &code, error) : status;
    if (status == MR_OK && code != 0) {
        status = explain(r, code == MR_EXIT_USAGE ? MR_INVALID : MR_IO, code, error);
    }
    end_asking(r);
    return status;
}

/* ---- removing and marking ---- */

enum mr_status mr_replays_remove(struct mr_replays *r, const char *name, struct mr_error *error) {
    enum mr_status status = begin_asking(r, error);
    if (status != MR_OK) {
        return status;
    }
    status = must_be_there(r, name, error);
    status = status == MR_OK ? must_not_be_marked(r, name, error) : status;
    if (status == MR_OK) {
        mr_replay_run_end(&r->run, name);
        status = mr_replay_remove(r->disk, r->dir, name, error);
    }
    end_asking(r);
    return status;
}

static enum mr_status mark(struct mr_replays *r, const char *name, struct mr_error *error) {
    char dir[MR_REPLAY_PATH_CAP];
    struct mr_replay_mark mark;
    struct mr_replay_note *note = mr_alloc_zero(1, sizeof *note);
    enum mr_status status = note == NULL ? mr_error_set(error, MR_NO_MEMORY, "out of memory") : MR_OK;
    status = status == MR_OK ? mr_replay_path(r->dir, name, "", dir, error) : status;
    status = status == MR_OK ? must_be_finished(r, name, error) : status;
    status = status == MR_OK ? mr_replay_note_read(r->disk, dir, note, error) : status;
    status = status == MR_OK ? mr_replay_may_promote(note, dir, error) : status;
    mr_free(note);
    if (status != MR_OK) {
        return status;
    }
    status = mr_replay_mark_read(r->disk, r->data_dir, &mark, error);
    if (status == MR_OK && strcmp(mark.name, name) != 0) {
        return must_not_be_marked(r, mark.name, error);
    }
    return status == MR_NOT_FOUND ? mr_replay_mark_write(r->disk, r->data_dir, name, error) : status;
}

enum mr_status mr_replays_mark(struct mr_replays *r, const char *name, struct mr_error *error) {
    enum mr_status status = begin_asking(r, error);
    if (status == MR_OK) {
        status = mark(r, name, error);
        end_asking(r);
    }
    return status;
}

enum mr_status mr_replays_unmark(struct mr_replays *r, const char *name, struct mr_error *error) {
    struct mr_replay_mark mark;
    enum mr_status status = begin_asking(r, error);
    if (status != MR_OK) {
        return status;
    }
    status = must_be_there(r, name, error);
    if (status == MR_OK) {
        status = is_marked(r, name, &mark)
                     ? mr_replay_mark_remove(r->disk, r->data_dir, error)
                     : mr_error_set(error, MR_NOT_FOUND, "replay `%s` is not to be promoted by the next start", name);
    }
    end_asking(r);
    return status;
}
