/* SPDX-License-Identifier: Apache-2.0 */
#include "server/replay_mark.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "config/change.h"
#include "log/log.h"
#include "pipeline/datadir.h"
#include "server/cli.h"
#include "server/replay_promote.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PATH_CAP = 4096, MARK_CAP = 256 };

static const char mark_name[] = "PROMOTE";

static enum mr_status join(char ret[PATH_CAP], const char *dir, const char *name, struct mr_error *error) {
    int len = snprintf(ret, PATH_CAP, "%s/%s", dir, name);
    return len > 0 && len < PATH_CAP ? MR_OK : mr_error_set(error, MR_LIMIT, "%s: too long a path", dir);
}

enum mr_status mr_replay_mark_read(struct mr_disk *disk, const char *data_dir, struct mr_replay_mark *ret,
                                   struct mr_error *error) {
    char path[PATH_CAP];
    struct mr_buf text;
    enum mr_status status = join(path, data_dir, mark_name, error);
    if (status != MR_OK) {
        return status;
    }
    mr_buf_init(&text, MARK_CAP);
    status = mr_disk_read_all(disk, path, &text);
    mr_buf_append_char(&text, '\0');
    static_assert(MR_NAME_MAX == 64, "as the width below says");
    if (status == MR_NOT_FOUND) {
        (void)mr_error_set(error, status, "nothing is to be promoted");
    } else if (status != MR_OK) {
        (void)mr_error_set(error, status, "cannot read %s: %s", path, mr_status_text(status));
    } else if (text.failed ||
               sscanf((const char *)text.ptr, "%64[a-z0-9_-] %" SCNu64, ret->name, &ret->promoted_seq) != 2) {
        status = mr_error_set(error, MR_CORRUPT, "%s is not what this version of millrace writes", path);
    }
    mr_buf_finish(&text);
    return status;
}

/* PROMOTED as it stands, whoever has the data directory. */
static enum mr_status read_promoted(struct mr_disk *disk, const char *data_dir, uint64_t *ret, struct mr_error *error) {
    struct mr_datadir data;
    enum mr_status status = mr_datadir_look(disk, mr_bytes_text(data_dir), &data, error);
    return status == MR_OK ? mr_datadir_read_promoted(&data, ret, error) : status;
}

enum mr_status mr_replay_mark_write(struct mr_disk *disk, const char *data_dir, const char *name,
                                    struct mr_error *error) {
    char text[MARK_CAP];
    uint64_t promoted_seq = 0;
    enum mr_status status = read_promoted(disk, data_dir, &promoted_seq, error);
    if (status != MR_OK) {
        return status;
    }
    (void)snprintf(text, sizeof text, "%s %" PRIu64 "\n", name, promoted_seq); /* fits */
    return mr_replay_file_write(disk, data_dir, mark_name, MR_FILE_CREATE_NEW, mr_bytes_text(text), error);
}

enum mr_status mr_replay_mark_remove(struct mr_disk *disk, const char *data_dir, struct mr_error *error) {
    char path[PATH_CAP];
    enum mr_status status = join(path, data_dir, mark_name, error);
    if (status != MR_OK) {
        return status;
    }
    status = mr_disk_unlink(disk, path);
    if (status == MR_OK) {
        status = mr_disk_sync_dir(disk, data_dir);
    }
    if (status == MR_NOT_FOUND) {
        return mr_error_set(error, status, "nothing is to be promoted");
    }
    return status == MR_OK ? MR_OK : mr_error_set(error, status, "cannot remove %s: %s", path, mr_status_text(status));
}

/* ---- at a start ---- */

struct marked {
    struct mr_disk *disk;
    const struct mr_config *config;
    char data_dir[PATH_CAP];
    char dir[PATH_CAP];
    struct mr_replay_mark mark;
    struct mr_replay_note *note;
};

/* What PROMOTED says is not what it said: then this was done, or somebody did another one by hand. */
static enum mr_status is_done(struct marked *m, bool *ret, struct mr_error *error) {
    uint64_t promoted_seq = 0;
    enum mr_status status = read_promoted(m->disk, m->data_dir, &promoted_seq, error);
    *ret = status == MR_OK && promoted_seq != m->mark.promoted_seq;
    return status == MR_BUSY ? MR_OK : status; /* it was stopped in the middle: again, to its end */
}

static enum mr_status check_config(struct marked *m, struct mr_error *error) {
    struct mr_buf state;
    mr_buf_init(&state, MR_RECORD_PAYLOAD_MAX);
    mr_config_print_state(m->config, &state);
    bool failed = state.failed;
    bool same = !failed && mr_hash64(mr_buf_bytes(&state), 0) == m->note->configuration;
    mr_buf_finish(&state);
    if (failed) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory");
    }
    return same ? MR_OK
                : mr_error_set(error, MR_MISMATCH,
                               "the configuration's streams and rules are not those of %s/config.yaml, under which the "
                               "replay was made: start with those",
                               m->dir);
}

static enum mr_status promote(struct marked *m, struct mr_error *error) {
    enum mr_status status = mr_replay_note_read(m->disk, m->dir, m->note, error);
    if (status == MR_OK) {
        status = check_config(m, error);
    }
    if (status == MR_OK) {
        status = mr_replay_may_promote(m->note, m->dir, error);
    }
    if (status == MR_OK) {
        status = mr_replay_promote(m->config, m->config->node.data_dir, m->dir, m->note, error);
    }
    if (status == MR_OK) {
        (void)fprintf(stderr,
                      "millrace: replay %s promoted, as of record %" PRIu64
                      ": this start goes on from there. The rows before are in %s/results.db.before.\n",
                      m->mark.name, m->note->last_lsn, m->data_dir);
    }
    return status;
}

/* The text of a refusal says how to get rid of it. */
static enum mr_status explain(const struct marked *m, enum mr_status status, struct mr_error *error) {
    struct mr_error why = *error;
    return mr_error_set(
        error, status, "replay %s was to be promoted by this start: %s. Or cancel it: millrace replay cancel --data %s",
        m->mark.name, why.text, m->data_dir);
}

static enum mr_status run_mark(struct marked *m, struct mr_error *error) {
    bool done = false;
    int len = snprintf(m->dir, sizeof m->dir, "%s/" MR_REPLAYS_DIR "/%s", m->data_dir, m->mark.name);
    enum mr_status status = len > 0 && (size_t)len < sizeof m->dir
                                ? is_done(m, &done, error)
                                : mr_error_set(error, MR_LIMIT, "%s: too long a path", m->data_dir);
    if (status == MR_OK && !done) {
        status = promote(m, error);
    }
    if (status != MR_OK) {
        return explain(m, status, error);
    }
    if (done) {
        (void)fprintf(stderr,
                      "millrace: replay %s is not promoted by this start: one has been promoted since that was "
                      "asked for.\n",
                      m->mark.name);
    }
    return mr_replay_mark_remove(m->disk, m->data_dir, error);
}

enum mr_status mr_replay_promote_marked(const struct mr_config *config, struct mr_error *error) {
    struct mr_bytes path = config->node.data_dir;
    struct marked *m = mr_alloc_zero(1, sizeof *m);
    struct mr_replay_note *note = mr_alloc_zero(1, sizeof *note);
    enum mr_status status = MR_OK;
    if (m == NULL || note == NULL) {
        status = mr_error_set(error, MR_NO_MEMORY, "out of memory");
    } else if (path.len > 0 && path.len < sizeof m->data_dir) { /* else opening it will say what is wrong */
        *m = (struct marked){.disk = mr_disk_system(), .config = config, .note = note};
        memcpy(m->data_dir, path.ptr, path.len);
        status = mr_replay_mark_read(m->disk, m->data_dir, &m->mark, error);
        status = status == MR_OK ? run_mark(m, error) : status == MR_NOT_FOUND ? MR_OK : status;
    }
    mr_free(m);
    mr_free(note);
    return status;
}

/* ---- the command ---- */

int mr_cli_replay_cancel(const struct mr_cli *cli) {
    struct mr_error error;
    if (cli->operand_count != 1 || cli->data == NULL) {
        (void)fprintf(stderr, "usage: millrace replay cancel --data DIR\n");
        return MR_EXIT_USAGE;
    }
    enum mr_status status = mr_replay_mark_remove(mr_disk_system(), cli->data, &error);
    if (status == MR_OK) {
        (void)fprintf(stderr, "millrace: the next start promotes nothing.\n");
        return MR_EXIT_OK;
    }
    (void)fprintf(stderr, "millrace: %s: %s\n", cli->data, error.text);
    return MR_EXIT_FAILURE;
}
