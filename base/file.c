/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's file system behind mr_disk, and the thin calls that everything else uses.
 */
#include "base/file.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/direct.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    IOV_PART = 1024, /* entries of one pwritev: IOV_MAX of Linux */
    ZERO_PART =
        256 << 10, /* where blocks cannot be allocated they are written, so much at a time */
    READ_ALL_PART = 64 << 10,
    PATH_CAP = 4096, /* PATH_MAX of Linux */
};

struct system_file {
    struct mr_file file;
    int fd;
    struct mr_direct *direct; /* NULL: writes go through the page cache */
};

static int fd_of(struct mr_file *file) {
    MR_ASSERT(file->disk == mr_disk_system());
    return ((struct system_file *)file)->fd;
}

static enum mr_status status_of(int error) {
    MR_ASSERT(error != 0);
    switch (error) {
    case ENOENT:
        return MR_NOT_FOUND;
    case EEXIST:
    case EWOULDBLOCK:
        return MR_BUSY;
    case ENOSPC:
    case EDQUOT:
        return MR_NO_SPACE;
    case ENOMEM:
        return MR_NO_MEMORY;
    default:
        return MR_IO;
    }
}

/* open, again when a signal came between; -1 with errno. */
static int open_fd(const char *path, int flags, mode_t mode) {
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static enum mr_status system_open(struct mr_disk *disk, const char *path, enum mr_file_mode mode,
                                  struct mr_file **ret) {
    static const struct {
        int flags;
        mode_t mode;
    } how[] = {
        [MR_FILE_READ] = {O_RDONLY, 0},
        [MR_FILE_WRITE] = {O_RDWR, 0},
        [MR_FILE_CREATE] = {O_RDWR | O_CREAT, 0644},
        [MR_FILE_CREATE_NEW] = {O_RDWR | O_CREAT | O_EXCL, 0644},
        [MR_FILE_SECRET] = {O_RDWR | O_CREAT | O_EXCL, 0600},
    };
    MR_ASSERT((size_t)mode < sizeof how / sizeof how[0]);
    struct system_file *file = mr_alloc(sizeof *file);
    if (file == NULL) {
        return MR_NO_MEMORY;
    }
    int fd = open_fd(path, how[mode].flags, how[mode].mode);
    if (fd < 0) {
        enum mr_status status = status_of(errno);
        mr_free(file);
        return status;
    }
    *file = (struct system_file){{disk}, fd, NULL};
    *ret = &file->file;
    return MR_OK;
}

static void system_close(struct mr_file *file) {
    mr_direct_close(((struct system_file *)file)->direct);
    (void)close(fd_of(file)); /* what had to be durable was synced; nothing is left to be told */
    mr_free(file);
}

static enum mr_status system_pread(struct mr_file *file, void *buf, size_t len, uint64_t offset,
                                   size_t *ret_len) {
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd_of(file), (uint8_t *)buf + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == ESPIPE) { /* a configuration from a pipe, which mr_disk_read_all reads in order */
            n = read(fd_of(file), (uint8_t *)buf + done, len - done);
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return status_of(errno);
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    *ret_len = done;
    return MR_OK;
}

/* Writes iov whole, whatever part the kernel takes at a time; iov is used up. */
static enum mr_status write_part(int fd, struct iovec *iov, int count, uint64_t *offset) {
    while (count > 0) {
        ssize_t n = pwritev(fd, iov, count, (off_t)*offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return status_of(errno);
        }
        *offset += (uint64_t)n;
        size_t left = (size_t)n;
        while (count > 0 && left >= iov->iov_len) {
            left -= iov->iov_len;
            iov++;
            count--;
        }
        if (n == 0 && count > 0) {
            return MR_IO; /* a device that takes nothing and says no error */
        }
        if (count > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + left;
            iov->iov_len -= left;
        }
    }
    return MR_OK;
}

static enum mr_status system_pwritev(struct mr_file *file, const struct iovec *iov, int count,
                                     uint64_t offset) {
    struct mr_direct *direct = ((struct system_file *)file)->direct;
    if (direct != NULL) {
        return mr_direct_write(direct, iov, count, offset) == 0 ? MR_OK : status_of(errno);
    }
    struct iovec part[IOV_PART];
    int i = 0;
    while (i < count) {
        int part_count = 0;
        for (; i < count && part_count < IOV_PART; i++) {
            if (iov[i].iov_len > 0) {
                part[part_count++] = iov[i];
            }
        }
        enum mr_status status = write_part(fd_of(file), part, part_count, &offset);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

static void system_direct(struct mr_file *file, bool gathers) {
    struct system_file *f = (struct system_file *)file;
    f->direct = f->direct == NULL ? mr_direct_open(fd_of(file), gathers) : f->direct;
}

static enum mr_status system_sync(struct mr_file *file) {
    struct mr_direct *direct = ((struct system_file *)file)->direct;
    if (direct != NULL && mr_direct_flush(direct) != 0) {
        return status_of(errno);
    }
    /* Never repeated, EINTR included: after a failure the kernel may have dropped the pages. */
    return fdatasync(fd_of(file)) == 0 ? MR_OK : status_of(errno);
}

static enum mr_status system_size(struct mr_file *file, uint64_t *ret) {
    struct stat st;
    if (fstat(fd_of(file), &st) != 0) {
        return status_of(errno);
    }
    *ret = (uint64_t)st.st_size;
    return MR_OK;
}

/* For file systems without fallocate: zeros from the end of the file up to size. */
static enum mr_status write_zeros(struct mr_file *file, uint64_t size) {
    uint64_t offset;
    enum mr_status status = system_size(file, &offset);
    uint8_t *zeros = status == MR_OK ? mr_alloc_zero(1, ZERO_PART) : NULL;
    if (status == MR_OK && zeros == NULL) {
        return MR_NO_MEMORY;
    }
    while (status == MR_OK && offset < size) {
        size_t len = size - offset < ZERO_PART ? (size_t)(size - offset) : ZERO_PART;
        struct iovec iov = {zeros, len};
        status = system_pwritev(file, &iov, 1, offset);
        offset += len;
    }
    mr_free(zeros);
    return status;
}

static enum mr_status system_allocate(struct mr_file *file, uint64_t size) {
    int failed;
    do {
        failed = fallocate(fd_of(file), 0, 0, (off_t)size);
    } while (failed != 0 && errno == EINTR);
    if (failed == 0) {
        return MR_OK;
    }
    return errno == EOPNOTSUPP ? write_zeros(file, size) : status_of(errno);
}

static enum mr_status system_truncate(struct mr_file *file, uint64_t size) {
    return ftruncate(fd_of(file), (off_t)size) == 0 ? MR_OK : status_of(errno);
}

static enum mr_status system_lock(struct mr_file *file) {
    return flock(fd_of(file), LOCK_EX | LOCK_NB) == 0 ? MR_OK : status_of(errno);
}

static enum mr_status system_rename(struct mr_disk *disk, const char *from, const char *to) {
    (void)disk;
    return rename(from, to) == 0 ? MR_OK : status_of(errno);
}

static enum mr_status system_unlink(struct mr_disk *disk, const char *path) {
    (void)disk;
    return unlink(path) == 0 ? MR_OK : status_of(errno);
}

static enum mr_status system_sync_dir(struct mr_disk *disk, const char *path) {
    (void)disk;
    int fd = open_fd(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) {
        return status_of(errno);
    }
    enum mr_status status = fsync(fd) == 0 ? MR_OK : status_of(errno);
    (void)close(fd); /* opened for the sync alone */
    return status;
}

/* Length of the directory part of path; 0 for a name alone (the current directory). */
static size_t parent_len(const char *path) {
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') {
        len--;
    }
    while (len > 0 && path[len - 1] != '/') {
        len--;
    }
    return len;
}

static enum mr_status mkdir_in(struct mr_disk *disk, char *path) {
    struct stat st;
    size_t parent = parent_len(path);
    if (mkdir(path, 0755) != 0) {
        int error = errno;
        if (error == EEXIST && stat(path, &st) == 0) {
            error = S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
        }
        if (error != 0 && (error != ENOENT || parent == 0)) {
            return status_of(error);
        }
        if (error == ENOENT) {
            char cut = path[parent];
            path[parent] = '\0';
            enum mr_status status = mkdir_in(disk, path);
            path[parent] = cut;
            if (status != MR_OK) {
                return status;
            }
            if (mkdir(path, 0755) != 0 && errno != EEXIST) {
                return status_of(errno);
            }
        }
    }
    /* Also when it existed: an earlier process may have died between making and syncing. */
    char cut = path[parent];
    path[parent] = '\0';
    enum mr_status status = system_sync_dir(disk, parent == 0 ? "." : path);
    bool unreadable =
        status != MR_OK && errno == EACCES; /* not ours, so made by somebody long ago */
    path[parent] = cut;
    return unreadable ? MR_OK : status;
}

static enum mr_status system_mkdir(struct mr_disk *disk, const char *path) {
    char copy[PATH_CAP];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof copy) {
        return MR_LIMIT;
    }
    memcpy(copy, path, len + 1);
    return mkdir_in(disk, copy);
}

static enum mr_status system_list(struct mr_disk *disk, const char *path,
                                  enum mr_status (*visit)(void *ctx, const char *name), void *ctx) {
    (void)disk;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return status_of(errno);
    }
    enum mr_status status = MR_OK;
    while (status == MR_OK) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            status = errno == 0 ? MR_OK : status_of(errno);
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            status = visit(ctx, entry->d_name);
        }
    }
    (void)closedir(dir); /* only read */
    return status;
}

static enum mr_status system_free_bytes(struct mr_disk *disk, const char *path, uint64_t *ret) {
    (void)disk;
    struct statvfs st;
    if (statvfs(path, &st) != 0) {
        return status_of(errno);
    }
    *ret = (uint64_t)st.f_bavail * st.f_frsize;
    return MR_OK;
}

struct mr_disk *mr_disk_system(void) {
    static const struct mr_disk_ops ops = {
        .open = system_open,
        .close = system_close,
        .pread = system_pread,
        .pwritev = system_pwritev,
        .sync = system_sync,
        .allocate = system_allocate,
        .direct = system_direct,
        .truncate = system_truncate,
        .size = system_size,
        .lock = system_lock,
        .rename = system_rename,
        .unlink = system_unlink,
        .mkdir = system_mkdir,
        .sync_dir = system_sync_dir,
        .list = system_list,
        .free_bytes = system_free_bytes,
        .readers = true,
    };
    static struct mr_disk system = {&ops};
    return &system;
}

enum mr_status mr_file_open(struct mr_disk *disk, const char *path, enum mr_file_mode mode,
                            struct mr_file **ret) {
    enum mr_status status = disk->ops->open(disk, path, mode, ret);
    MR_ASSERT(status != MR_OK || (*ret)->disk == disk);
    return status;
}

void mr_file_close(struct mr_file *file) {
    if (file != NULL) {
        file->disk->ops->close(file);
    }
}

enum mr_status mr_file_pread(struct mr_file *file, void *buf, size_t len, uint64_t offset,
                             size_t *ret_len) {
    MR_ASSERT(offset <= INT64_MAX - len);
    enum mr_status status = file->disk->ops->pread(file, buf, len, offset, ret_len);
    MR_ASSERT(status != MR_OK || *ret_len <= len);
    return status;
}

enum mr_status mr_file_pwrite(struct mr_file *file, struct mr_bytes bytes, uint64_t offset) {
    struct iovec iov = {(void *)(uintptr_t)bytes.ptr,
                        bytes.len}; /* iovec has no const; only read */
    return mr_file_pwritev(file, &iov, 1, offset);
}

enum mr_status mr_file_pwritev(struct mr_file *file, const struct iovec *iov, int count,
                               uint64_t offset) {
    MR_ASSERT(count >= 0);
    MR_ASSERT(offset <= INT64_MAX);
    return file->disk->ops->pwritev(file, iov, count, offset);
}

enum mr_status mr_file_sync(struct mr_file *file) {
    return file->disk->ops->sync(file);
}

enum mr_status mr_file_allocate(struct mr_file *file, uint64_t size) {
    MR_ASSERT(size > 0 && size <= INT64_MAX);
    return file->disk->ops->allocate(file, size);
}

void mr_file_direct(struct mr_file *file) {
    if (file->disk->ops->direct != NULL) {
        file->disk->ops->direct(file, false);
    }
}

void mr_file_gather(struct mr_file *file) {
    if (file->disk->ops->direct != NULL) {
        file->disk->ops->direct(file, true);
    }
}

enum mr_status mr_file_truncate(struct mr_file *file, uint64_t size) {
    MR_ASSERT(size <= INT64_MAX);
    return file->disk->ops->truncate(file, size);
}

enum mr_status mr_file_size(struct mr_file *file, uint64_t *ret) {
    return file->disk->ops->size(file, ret);
}

enum mr_status mr_file_lock(struct mr_file *file) {
    return file->disk->ops->lock(file);
}

enum mr_status mr_disk_rename(struct mr_disk *disk, const char *from, const char *to) {
    return disk->ops->rename(disk, from, to);
}

enum mr_status mr_disk_unlink(struct mr_disk *disk, const char *path) {
    return disk->ops->unlink(disk, path);
}

enum mr_status mr_disk_mkdir(struct mr_disk *disk, const char *path) {
    return disk->ops->mkdir(disk, path);
}

enum mr_status mr_disk_sync_dir(struct mr_disk *disk, const char *path) {
    return disk->ops->sync_dir(disk, path);
}

enum mr_status mr_disk_list(struct mr_disk *disk, const char *path,
                            enum mr_status (*visit)(void *ctx, const char *name), void *ctx) {
    return disk->ops->list(disk, path, visit, ctx);
}

enum mr_status mr_disk_free_bytes(struct mr_disk *disk, const char *path, uint64_t *ret) {
    return disk->ops->free_bytes(disk, path, ret);
}

enum mr_status mr_disk_read_all(struct mr_disk *disk, const char *path, struct mr_buf *ret) {
    struct mr_file *file;
    enum mr_status status = mr_file_open(disk, path, MR_FILE_READ, &file);
    if (status != MR_OK) {
        return status;
    }
    /* Not by size: a file in /proc says 0, and one may grow meanwhile. */
    size_t got = 1;
    for (uint64_t offset = 0; status == MR_OK && got > 0; offset += got) {
        size_t room = ret->cap_max - ret->len;
        size_t want = room < READ_ALL_PART ? room : READ_ALL_PART;
        uint8_t one; /* with no room left: is there more? */
        uint8_t *to = want > 0 ? mr_buf_reserve(ret, want) : &one;
        if (to == NULL) {
            status = MR_NO_MEMORY;
            break;
        }
        status = mr_file_pread(file, to, want > 0 ? want : 1, offset, &got);
        if (status == MR_OK && want == 0 && got > 0) {
            status = MR_LIMIT;
        } else if (status == MR_OK) {
            ret->len += want > 0 ? got : 0;
        }
    }
    mr_file_close(file);
    return status;
}
