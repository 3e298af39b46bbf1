/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/disk/virtual_disk.h"

#include "base/check.h"
#include "tests/disk/virtual_parts.h"

#include <stdlib.h>

struct virtual_file {
    struct mr_file file;
    struct inode *inode;
    char *path; /* when it was opened */
    uint32_t epoch;
    bool writable;
    bool holds_lock;
    bool gathers;
    enum mr_status late; /* of a gathered write that failed: what the next ones and every sync say */
};

/* ---- names and bookkeeping ---- */

static void probe(struct virtual_disk *vd, enum virtual_disk_probe which) {
    vd->probes[which]++;
}

static struct virtual_disk *disk_of(struct mr_disk *disk) {
    return (struct virtual_disk *)disk;
}

static bool dir_exists(const struct virtual_disk *vd, const char *path) {
    return strcmp(path, "/") == 0 || strcmp(path, ".") == 0 || *path == '\0' ||
           virtual_names_find(&vd->dirs, path) != NULL;
}

static bool parent_exists(const struct virtual_disk *vd, const char *path) {
    char *parent = virtual_copy_text(path);
    parent[virtual_dir_len(path)] = '\0';
    bool exists = dir_exists(vd, parent);
    free(parent);
    return exists;
}

static void add_name_change(struct virtual_disk *vd, const char *path, const char *from,
                            struct inode *inode) {
    if (vd->name_change_count == vd->name_change_cap) {
        vd->name_change_cap = vd->name_change_cap == 0 ? 16 : vd->name_change_cap * 2;
        vd->name_changes =
            virtual_need(realloc(vd->name_changes, vd->name_change_cap * sizeof *vd->name_changes));
    }
    struct name_change *c = &vd->name_changes[vd->name_change_count++];
    *c = (struct name_change){virtual_copy_text(path),
                              from == NULL ? NULL : virtual_copy_text(from), inode, false};
    virtual_change_name(&vd->seen, c);
}

uint64_t virtual_disk_used(const struct virtual_disk *vd) {
    uint64_t used = 0;
    for (const struct inode *inode = vd->inodes; inode != NULL; inode = inode->next) {
        used += inode->seen_size;
    }
    return used;
}

/* The size the file may have at most. */
static uint64_t size_max(const struct virtual_disk *vd, const struct inode *inode) {
    uint64_t others = virtual_disk_used(vd) - inode->seen_size;
    uint64_t left = vd->capacity > others ? vd->capacity - others : 0;
    return left > inode->seen_size ? left : inode->seen_size;
}

static bool has_space(struct virtual_disk *vd, const struct inode *inode, uint64_t size) {
    if (vd->capacity == 0 || size <= inode->seen_size || size <= size_max(vd, inode)) {
        return true;
    }
    probe(vd, VIRTUAL_DISK_PROBE_FULL);
    return false;
}

/* ---- failures ---- */

static bool is_meant(enum virtual_disk_op op, const char *path, unsigned kinds, const char *prefix) {
    return (kinds & (1u << op)) != 0 && (prefix == NULL || virtual_begins(path, prefix));
}

/* Every operation comes through here first. MR_OK: do it. Anything else: return that, having done
 * as much as a failed one does. */
static enum mr_status admit(struct virtual_disk *vd, enum virtual_disk_op op, const char *path) {
    if (!vd->power) {
        return MR_IO;
    }
    if ((vd->slow_kinds & (1u << op)) != 0 && virtual_below(&vd->random, vd->slow_one_in) == 0) {
        probe(vd, VIRTUAL_DISK_PROBE_SLOW);
        vd->slow_wait(vd->slow_ctx, op);
    }
    vd->counts[op]++;
    uint8_t kind = (uint8_t)op;
    virtual_mix(vd, &kind, 1);
    if (vd->cut_nth > 0 && is_meant(op, path, vd->cut_kinds, vd->cut_prefix) && --vd->cut_nth == 0) {
        vd->power = false;
        probe(vd, VIRTUAL_DISK_PROBE_POWER_CUT);
        return MR_IO;
    }
    if (vd->fail_nth == 0 || !is_meant(op, path, vd->fail_kinds, vd->fail_prefix)) {
        return MR_OK;
    }
    if (vd->fail_nth > 1) {
        vd->fail_nth--;
        return MR_OK;
    }
    if (vd->fail_times == VIRTUAL_DISK_ONCE) {
        vd->fail_nth = 0;
    }
    vd->failed_counts[op]++;
    return vd->fail_status;
}

/* The same for an operation on a file; MR_IO for one of before the crash. */
static enum mr_status admit_file(struct mr_file *file, enum virtual_disk_op op) {
    struct virtual_disk *vd = disk_of(file->disk);
    const struct virtual_file *vf = (const struct virtual_file *)file;
    return vf->epoch == vd->epoch ? admit(vd, op, vf->path) : MR_IO;
}

static struct inode *inode_of(struct mr_file *file) {
    return ((struct virtual_file *)file)->inode;
}

/* ---- the operations ---- */

static enum mr_status op_open(struct mr_disk *disk, const char *path, enum mr_file_mode mode,
                              struct mr_file **ret) {
    struct virtual_disk *vd = disk_of(disk);
    enum mr_status status = admit(vd, VIRTUAL_DISK_OPEN, path);
    if (status != MR_OK) {
        return status;
    }
    char *tidied = virtual_tidy(path);
    struct name *name = virtual_names_find(&vd->seen, tidied);
    bool must_exist = mode == MR_FILE_READ || mode == MR_FILE_WRITE;
    bool must_not = mode == MR_FILE_CREATE_NEW || mode == MR_FILE_SECRET;
    virtual_mix(vd, tidied, strlen(tidied));
    if (name == NULL && (must_exist || !parent_exists(vd, tidied))) {
        status = MR_NOT_FOUND;
    } else if (name != NULL && must_not) {
        status = MR_BUSY;
    } else {
        struct inode *inode = name != NULL ? name->inode : virtual_add_inode(vd);
        if (name == NULL) {
            add_name_change(vd, tidied, NULL, inode);
        }
        struct virtual_file *file = virtual_need(malloc(sizeof *file));
        *file = (struct virtual_file){
            .file = {disk},
            .inode = inode,
            .path = virtual_copy_text(tidied),
            .epoch = vd->epoch,
            .writable = mode != MR_FILE_READ,
        };
        inode->handles++;
        vd->files_open++;
        *ret = &file->file;
    }
    free(tidied);
    return status;
}

static void op_close(struct mr_file *file) {
    struct virtual_disk *vd = disk_of(file->disk);
    struct virtual_file *vf = (struct virtual_file *)file;
    MR_ASSERT(vd->files_open > 0);
    vd->files_open--;
    if (vf->epoch == vd->epoch) {
        MR_ASSERT(vf->inode->handles > 0);
        vf->inode->handles--;
        vf->inode->locked = vf->inode->locked && !vf->holds_lock;
        if (vf->inode->handles == 0) {
            virtual_collect(vd);
        }
    }
    free(vf->path);
    free(vf);
}

static enum mr_status op_pread(struct mr_file *file, void *buf, size_t len, uint64_t offset,
                               size_t *ret_len) {
    enum mr_status status = admit_file(file, VIRTUAL_DISK_READ);
    if (status != MR_OK) {
        return status;
    }
    const struct inode *inode = inode_of(file);
    uint64_t left = offset < inode->seen_size ? inode->seen_size - offset : 0;
    size_t n = left < len ? (size_t)left : len;
    if (n > 0) {
        memcpy(buf, inode->seen + offset, n);
    }
    *ret_len = n;
    return MR_OK;
}

static void op_direct(struct mr_file *file, bool gathers) {
    ((struct virtual_file *)file)->gathers = gathers;
}

static enum mr_status op_pwritev(struct mr_file *file, const struct iovec *iov, int count,
                                 uint64_t offset) {
    struct virtual_disk *vd = disk_of(file->disk);
    struct virtual_file *vf = (struct virtual_file *)file;
    enum mr_status status = admit_file(file, VIRTUAL_DISK_WRITE);
    if (vf->epoch != vd->epoch || vf->late != MR_OK) {
        return status != MR_OK ? status : vf->late;
    }
    MR_ASSERT(vf->writable);
    struct inode *inode = inode_of(file);
    size_t len = 0;
    for (int i = 0; i < count; i++) {
        len += iov[i].iov_len;
    }
    uint8_t *joined = virtual_need(malloc(len + 1));
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > 0) {
            memcpy(joined + at, iov[i].iov_base, iov[i].iov_len);
            at += iov[i].iov_len;
        }
    }
    if (status == MR_OK && !has_space(vd, inode, offset + len)) {
        uint64_t end = size_max(vd, inode);
        status = MR_NO_SPACE;
        len = end > offset ? (size_t)(end - offset) : 0;
        vd->probes[VIRTUAL_DISK_PROBE_SHORT_FULL] += len > 0;
    } else if (status != MR_OK && len > 0) {
        len = virtual_below(&vd->random, len + 1);
        probe(vd, VIRTUAL_DISK_PROBE_SHORT_WRITE);
    }
    virtual_mix(vd, &offset, sizeof offset);
    virtual_mix(vd, joined, len);
    virtual_inode_write(inode, offset, joined, len);
    free(joined);
    if (vf->gathers && vd->power) {
        vf->late = status;
        return MR_OK;
    }
    return status;
}

static enum mr_status op_sync(struct mr_file *file) {
    struct virtual_disk *vd = disk_of(file->disk);
    bool had_power = vd->power;
    enum mr_status status = admit_file(file, VIRTUAL_DISK_SYNC);
    const struct virtual_file *vf = (const struct virtual_file *)file;
    if (vf->epoch != vd->epoch || !had_power) {
        return status;
    }
    if (vf->late != MR_OK) {
        return vf->late;
    }
    struct inode *inode = inode_of(file);
    if (status == MR_OK) {
        virtual_inode_persist(inode);
        return MR_OK;
    }
    if (inode->change_count > 0) {
        probe(vd, VIRTUAL_DISK_PROBE_SYNC_FAILED);
    }
    virtual_inode_persist_some(inode, vd);
    return status;
}

static enum mr_status op_allocate(struct mr_file *file, uint64_t size) {
    enum mr_status status = admit_file(file, VIRTUAL_DISK_ALLOCATE);
    if (status != MR_OK) {
        return status;
    }
    struct inode *inode = inode_of(file);
    if (!has_space(disk_of(file->disk), inode, size)) {
        return MR_NO_SPACE;
    }
    if (size > inode->seen_size) {
        virtual_inode_resize(inode, size);
    }
    return MR_OK;
}

static enum mr_status op_truncate(struct mr_file *file, uint64_t size) {
    enum mr_status status = admit_file(file, VIRTUAL_DISK_TRUNCATE);
    if (status == MR_OK) {
        virtual_inode_resize(inode_of(file), size);
    }
    return status;
}

static enum mr_status op_size(struct mr_file *file, uint64_t *ret) {
    enum mr_status status = admit_file(file, VIRTUAL_DISK_SIZE);
    if (status == MR_OK) {
        *ret = inode_of(file)->seen_size;
    }
    return status;
}

static enum mr_status op_lock(struct mr_file *file) {
    enum mr_status status = admit_file(file, VIRTUAL_DISK_LOCK);
    if (status != MR_OK) {
        return status;
    }
    struct virtual_file *vf = (struct virtual_file *)file;
    if (vf->inode->locked && !vf->holds_lock) {
        return MR_BUSY;
    }
    vf->inode->locked = true;
    vf->holds_lock = true;
    return MR_OK;
}

static enum mr_status op_rename(struct mr_disk *disk, const char *from, const char *to) {
    struct virtual_disk *vd = disk_of(disk);
    enum mr_status status = admit(vd, VIRTUAL_DISK_RENAME, to);
    if (status != MR_OK) {
        return status;
    }
    char *a = virtual_tidy(from);
    char *b = virtual_tidy(to);
    struct name *name = virtual_names_find(&vd->seen, a);
    MR_ASSERT(
        virtual_same_dir(a, b)); /* across directories two syncs would be needed; nobody does it */
    virtual_mix(vd, b, strlen(b));
    if (name == NULL) {
        status = MR_NOT_FOUND;
    } else {
        virtual_keep(vd, b);
        add_name_change(vd, b, a, name->inode);
    }
    free(a);
    free(b);
    return status;
}

static enum mr_status op_unlink(struct mr_disk *disk, const char *path) {
    struct virtual_disk *vd = disk_of(disk);
    enum mr_status status = admit(vd, VIRTUAL_DISK_UNLINK, path);
    if (status != MR_OK) {
        return status;
    }
    char *tidied = virtual_tidy(path);
    virtual_mix(vd, tidied, strlen(tidied));
    if (virtual_names_find(&vd->seen, tidied) == NULL) {
        status = MR_NOT_FOUND;
    } else {
        virtual_keep(vd, tidied);
        add_name_change(vd, tidied, NULL, NULL);
    }
    free(tidied);
    return status;
}

static enum mr_status op_mkdir(struct mr_disk *disk, const char *path) {
    struct virtual_disk *vd = disk_of(disk);
    enum mr_status status = admit(vd, VIRTUAL_DISK_MKDIR, path);
    if (status != MR_OK) {
        return status;
    }
    char *tidied = virtual_tidy(path);
    for (size_t i = 1; tidied[i - 1] != '\0'; i++) {
        char cut = tidied[i];
        if (cut == '/' || cut == '\0') {
            tidied[i] = '\0';
            virtual_names_set(&vd->dirs, tidied, NULL);
            tidied[i] = cut;
        }
    }
    free(tidied);
    return MR_OK;
}

static enum mr_status op_sync_dir(struct mr_disk *disk, const char *path) {
    struct virtual_disk *vd = disk_of(disk);
    bool had_power = vd->power;
    enum mr_status status = admit(vd, VIRTUAL_DISK_SYNC_DIR, path);
    if (!had_power) {
        return status;
    }
    char *tidied = virtual_tidy(path);
    if (status == MR_OK && !dir_exists(vd, tidied)) {
        status = MR_NOT_FOUND;
    }
    for (size_t i = 0; i < vd->name_change_count;) {
        const struct name_change *c = &vd->name_changes[i];
        if (virtual_dir_len(c->path) != strlen(tidied) ||
            memcmp(c->path, tidied, strlen(tidied)) != 0) {
            i++;
            continue;
        }
        if (status != MR_OK && virtual_below(&vd->random, 2) == 0) {
            break; /* a failed one got so far */
        }
        virtual_change_name(&vd->durable, c);
        virtual_forget_name_change(vd, i);
    }
    free(tidied);
    virtual_collect(vd);
    return status;
}

static int by_path(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Of a copy, for visit may change the directory; in order of names, for the same seed to mean the
 * same. */
static enum mr_status op_list(struct mr_disk *disk, const char *path,
                              enum mr_status (*visit)(void *ctx, const char *name), void *ctx) {
    struct virtual_disk *vd = disk_of(disk);
    enum mr_status status = admit(vd, VIRTUAL_DISK_LIST, path);
    if (status != MR_OK) {
        return status;
    }
    char *tidied = virtual_tidy(path);
    size_t len = strlen(tidied);
    status = dir_exists(vd, tidied) ? MR_OK : MR_NOT_FOUND;
    char **found = virtual_need(malloc((vd->seen.count + 1) * sizeof *found));
    size_t count = 0;
    for (size_t i = 0; i < vd->seen.count; i++) {
        const char *name = vd->seen.items[i].path;
        if (virtual_dir_len(name) == len && memcmp(name, tidied, len) == 0) {
            found[count++] = virtual_copy_text(name + len + 1);
        }
    }
    qsort(found, count, sizeof *found, by_path);
    for (size_t i = 0; i < count; i++) {
        status = status == MR_OK ? visit(ctx, found[i]) : status;
        free(found[i]);
    }
    free(found);
    free(tidied);
    return status;
}

static enum mr_status op_free_bytes(struct mr_disk *disk, const char *path, uint64_t *ret) {
    struct virtual_disk *vd = disk_of(disk);
    enum mr_status status = admit(vd, VIRTUAL_DISK_FREE_BYTES, path);
    (void)path; /* one file system */
    if (status == MR_OK) {
        uint64_t used = virtual_disk_used(vd);
        *ret = vd->capacity == 0 ? UINT64_MAX / 2 : vd->capacity > used ? vd->capacity - used : 0;
    }
    return status;
}

/* ---- the disk ---- */

struct virtual_disk *virtual_disk_open(uint64_t seed) {
    static const struct mr_disk_ops ops = {
        .open = op_open,
        .close = op_close,
        .pread = op_pread,
        .pwritev = op_pwritev,
        .sync = op_sync,
        .allocate = op_allocate,
        .direct = op_direct,
        .truncate = op_truncate,
        .size = op_size,
        .lock = op_lock,
        .rename = op_rename,
        .unlink = op_unlink,
        .mkdir = op_mkdir,
        .sync_dir = op_sync_dir,
        .list = op_list,
        .free_bytes = op_free_bytes,
    };
    struct virtual_disk *vd = virtual_need(calloc(1, sizeof *vd));
    vd->disk.ops = &ops;
    vd->random = seed;
    vd->power = true;
    vd->fates = VIRTUAL_DISK_FATES_USUAL;
    return vd;
}

void virtual_disk_close(struct virtual_disk *vd) {
    if (vd == NULL) {
        return;
    }
    MR_ASSERT(vd->files_open == 0);
    while (vd->name_change_count > 0) {
        virtual_forget_name_change(vd, vd->name_change_count - 1);
    }
    virtual_names_finish(&vd->seen);
    virtual_names_finish(&vd->durable);
    virtual_names_finish(&vd->dirs);
    virtual_collect(vd);
    MR_ASSERT(vd->inodes == NULL);
    for (size_t i = 0; i < vd->kept.count; i++) {
        virtual_inode_free(vd->kept.items[i].inode);
    }
    virtual_names_finish(&vd->kept);
    free(vd->name_changes);
    free(vd->fail_prefix);
    free(vd->cut_prefix);
    free(vd->keep_prefix);
    free(vd);
}

struct mr_disk *virtual_disk_disk(struct virtual_disk *vd) {
    return &vd->disk;
}
