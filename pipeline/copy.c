/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/copy.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

enum { PATH_CAP = 4096, COPY_BYTES = 1 << 20 };

static enum mr_status copy_bytes(struct mr_file *from, struct mr_file *to, uint8_t *buf) {
    size_t len = COPY_BYTES;
    enum mr_status status = MR_OK;
    for (uint64_t at = 0; status == MR_OK && len == COPY_BYTES; at += len) {
        status = mr_file_pread(from, buf, COPY_BYTES, at, &len);
        if (status == MR_OK && len > 0) {
            status = mr_file_pwrite(to, mr_bytes_of(buf, len), at);
        }
    }
    return status == MR_OK ? mr_file_sync(to) : status;
}

enum mr_status mr_copy_file(struct mr_disk *disk, const char *from, const char *to, struct mr_error *error) {
    struct mr_file *source = NULL;
    struct mr_file *target = NULL;
    uint8_t *buf = mr_alloc(COPY_BYTES);
    enum mr_status status = buf == NULL ? MR_NO_MEMORY : mr_disk_unlink(disk, to);
    if (status == MR_OK || status == MR_NOT_FOUND) {
        status = mr_file_open(disk, from, MR_FILE_READ, &source);
    }
    if (status == MR_OK) {
        status = mr_file_open(disk, to, MR_FILE_CREATE_NEW, &target);
    }
    if (status == MR_OK) {
        status = copy_bytes(source, target, buf);
    }
    mr_file_close(source);
    mr_file_close(target);
    mr_free(buf);
    return status == MR_OK ? MR_OK
                           : mr_error_set(error, status, "cannot copy %s to %s: %s", from, to, mr_status_text(status));
}

struct copying {
    struct mr_disk *disk;
    const char *from_dir;
    const char *to_dir;
    bool manifests; /* those alone; else all but those */
    struct mr_error *error;
};

static enum mr_status copy_named(void *ctx, const char *name) {
    struct copying *c = ctx;
    char from[PATH_CAP];
    char to[PATH_CAP];
    if ((strncmp(name, "manifest-", 9) == 0) != c->manifests || name[0] == '.') {
        return MR_OK;
    }
    int from_len = snprintf(from, sizeof from, "%s/%s", c->from_dir, name);
    int to_len = snprintf(to, sizeof to, "%s/%s", c->to_dir, name);
    if (from_len < 0 || from_len >= PATH_CAP || to_len < 0 || to_len >= PATH_CAP) {
        return mr_error_set(c->error, MR_LIMIT, "%s: too long a path", name);
    }
    return mr_copy_file(c->disk, from, to, c->error);
}

enum mr_status mr_copy_checkpoint(struct mr_disk *disk, const char *from_dir, const char *to_dir,
                                  struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (int pass = 0; status == MR_OK && pass < 2; pass++) {
        struct copying c = {
            .disk = disk, .from_dir = from_dir, .to_dir = to_dir, .manifests = pass == 1, .error = error};
        (void)mr_error_set(error, MR_IO, "cannot list %s", from_dir);
        status = mr_disk_list(disk, from_dir, copy_named, &c);
        if (status == MR_OK) {
            status = mr_disk_sync_dir(disk, to_dir);
        }
    }
    return status;
}
