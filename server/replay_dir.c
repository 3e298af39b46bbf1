/* SPDX-License-Identifier: Apache-2.0 */
#include "server/replay_dir.h"

#include "base/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum mr_status mr_replay_path(const char *dir, const char *name, const char *file, char ret[MR_REPLAY_PATH_CAP],
                              struct mr_error *error) {
    int len = snprintf(ret, MR_REPLAY_PATH_CAP, "%s/%s%s%s", dir, name, file[0] == '\0' ? "" : "/", file);
    return len > 0 && len < MR_REPLAY_PATH_CAP ? MR_OK : mr_error_set(error, MR_LIMIT, "%s: too long a path", dir);
}

bool mr_replay_has(const char *dir, const char *name, const char *file) {
    char path[MR_REPLAY_PATH_CAP];
    return mr_replay_path(dir, name, file, path, NULL) == MR_OK && access(path, F_OK) == 0;
}

/* The end of the file. */
static enum mr_status read_end(struct mr_disk *disk, const char *path, struct mr_buf *ret) {
    struct mr_file *file = NULL;
    uint64_t size = 0;
    size_t len = 0;
    enum mr_status status = mr_file_open(disk, path, MR_FILE_READ, &file);
    if (status == MR_OK) {
        status = mr_file_size(file, &size);
    }
    uint64_t from = size > MR_REPLAY_MESSAGE_MAX ? size - MR_REPLAY_MESSAGE_MAX : 0;
    uint8_t *room = status == MR_OK ? mr_buf_reserve(ret, MR_REPLAY_MESSAGE_MAX) : NULL;
    if (room != NULL) {
        status = mr_file_pread(file, room, MR_REPLAY_MESSAGE_MAX, from, &len);
        ret->len += status == MR_OK ? len : 0;
    }
    mr_file_close(file);
    return status;
}

void mr_replay_said(struct mr_disk *disk, const char *dir, const char *name, const char *file, struct mr_buf *ret) {
    static const char head[] = "millrace: ";
    char path[MR_REPLAY_PATH_CAP];
    size_t begin = ret->len;
    if (mr_replay_path(dir, name, file, path, NULL) != MR_OK || read_end(disk, path, ret) != MR_OK) {
        return; /* a message is for people */
    }
    if (ret->len - begin >= sizeof head - 1 && memcmp(ret->ptr + begin, head, sizeof head - 1) == 0) {
        ret->len -= sizeof head - 1;
        memmove(ret->ptr + begin, ret->ptr + begin + sizeof head - 1, ret->len - begin);
    }
    while (ret->len > begin && ret->ptr[ret->len - 1] == '\n') {
        ret->len--;
    }
}

struct removing {
    struct mr_disk *disk;
    char path[MR_REPLAY_PATH_CAP];
};

static enum mr_status remove_directory(const char *path) {
    return rmdir(path) == 0 || errno == ENOENT ? MR_OK : MR_IO;
}

static enum mr_status remove_file(void *ctx, const char *name) {
    struct removing *r = ctx;
    char path[MR_REPLAY_PATH_CAP];
    enum mr_status status = mr_replay_path(r->path, name, "", path, NULL);
    status = status == MR_OK ? mr_disk_unlink(r->disk, path) : status;
    return status == MR_NOT_FOUND ? MR_OK : status;
}

static enum mr_status remove_files_of(struct mr_disk *disk, const char *dir, const char *name) {
    struct removing r = {.disk = disk};
    enum mr_status status = mr_replay_path(dir, name, "", r.path, NULL);
    status = status == MR_OK ? mr_disk_list(disk, r.path, remove_file, &r) : status;
    return status == MR_NOT_FOUND ? MR_OK : status == MR_OK ? remove_directory(r.path) : status;
}

enum mr_status mr_replay_remove(struct mr_disk *disk, const char *dir, const char *name, struct mr_error *error) {
    char path[MR_REPLAY_PATH_CAP];
    enum mr_status status = mr_replay_path(dir, name, "results.db", path, error);
    if (status != MR_OK) {
        return status;
    }
    status = mr_disk_unlink(disk, path);
    if (status == MR_OK || status == MR_NOT_FOUND) {
        status = mr_replay_path(dir, name, "", path, error);
    }
    if (status == MR_OK) {
        status = remove_files_of(disk, path, "checkpoint");
    }
    if (status == MR_OK) {
        status = remove_files_of(disk, dir, name);
    }
    if (status == MR_OK) {
        status = mr_disk_sync_dir(disk, dir);
    }
    return status == MR_OK ? MR_OK : mr_error_set(error, status, "cannot remove %s: %s", path, mr_status_text(status));
}
