/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * File: every byte that goes to or comes from a disk passes here; a disk is a table of functions.
 *
 * Idea        The real disk (POSIX) and the simulator's disk (torn, lost, reordered, full) stand behind
 *             one table, so that recovery can be tortured on one thread.
 * Owner       mr_disk outlives its files. A file belongs to who opened it until mr_file_close.
 * Threads     A disk may be used from any thread; a file from one thread at a time, but for pread.
 * Errors      MR_NOT_FOUND, MR_BUSY (lock held elsewhere), MR_NO_SPACE (ENOSPC, EDQUOT), MR_NO_MEMORY,
 *             MR_IO for all else. After a failed sync the file's content is unknown: never retry it
 *             (TRAPS: fsyncgate); the caller poisons the file.
 * Units       Offsets and sizes in bytes.
 */
#include "base/bytes.h"

#include <sys/uio.h>

struct mr_disk;
struct mr_file;

enum mr_file_mode {
    MR_FILE_READ,       /* must exist */
    MR_FILE_WRITE,      /* read and write, must exist */
    MR_FILE_CREATE,     /* read and write, made when missing, 0644 */
    MR_FILE_CREATE_NEW, /* read and write, must not exist (MR_BUSY) */
    MR_FILE_SECRET,     /* as CREATE_NEW with 0600 */
};

struct mr_disk_ops {
    enum mr_status (*open)(struct mr_disk *, const char *path, enum mr_file_mode, struct mr_file **);
    void (*close)(struct mr_file *);
    /* Reads up to len; *ret_len < len only at the end of the file. */
    enum mr_status (*pread)(struct mr_file *, void *buf, size_t len, uint64_t offset, size_t *ret_len);
    /* Writes all or fails; what reached the disk after a failure is unknown. */
    enum mr_status (*pwritev)(struct mr_file *, const struct iovec *iov, int count, uint64_t offset);
    enum mr_status (*sync)(struct mr_file *);                     /* fdatasync */
    enum mr_status (*allocate)(struct mr_file *, uint64_t size);  /* real blocks up to size, zeroed */
    void (*direct)(struct mr_file *, bool gathers);               /* NULL: it makes no difference */
    enum mr_status (*truncate)(struct mr_file *, uint64_t size);
    enum mr_status (*size)(struct mr_file *, uint64_t *ret);
    enum mr_status (*lock)(struct mr_file *);                     /* exclusive, until close */
    enum mr_status (*rename)(struct mr_disk *, const char *from, const char *to);
    enum mr_status (*unlink)(struct mr_disk *, const char *path);
    enum mr_status (*mkdir)(struct mr_disk *, const char *path);  /* parents too; existing is fine */
    enum mr_status (*sync_dir)(struct mr_disk *, const char *path);
    /* Calls visit for each name in no order; stops at its first status other than MR_OK. */
    enum mr_status (*list)(struct mr_disk *, const char *path,
                           enum mr_status (*visit)(void *ctx, const char *name), void *ctx);
    enum mr_status (*free_bytes)(struct mr_disk *, const char *path, uint64_t *ret);
    bool readers; /* files of it may be opened, read and closed by several threads at once; each file by one */
};

struct mr_disk {
    const struct mr_disk_ops *ops;
};

/* An implementation's file begins with this. */
struct mr_file {
    struct mr_disk *disk;
};

/* The machine's file system; never NULL, lives for ever. */
struct mr_disk *mr_disk_system(void);

enum mr_status mr_file_open(struct mr_disk *disk, const char *path, enum mr_file_mode mode,
                            struct mr_file **ret) MR_MUST_CHECK;
void mr_file_close(struct mr_file *file); /* NULL is fine */
enum mr_status mr_file_pread(struct mr_file *file, void *buf, size_t len, uint64_t offset,
                             size_t *ret_len) MR_MUST_CHECK;
enum mr_status mr_file_pwrite(struct mr_file *file, struct mr_bytes bytes,
                              uint64_t offset) MR_MUST_CHECK;
enum mr_status mr_file_pwritev(struct mr_file *file, const struct iovec *iov, int count,
                               uint64_t offset) MR_MUST_CHECK;
enum mr_status mr_file_sync(struct mr_file *file) MR_MUST_CHECK;
enum mr_status mr_file_allocate(struct mr_file *file, uint64_t size) MR_MUST_CHECK;
/* Writes go past the page cache from here on, where that can be (base/direct.h): only forward, over zeros; the size stays. */
void mr_file_direct(struct mr_file *file);
/* The same for a file that is synced rarely and that grows: a write may go out only with a later one or with the sync,
 * which then say its failure, and until then no read finds it. After a failure no sync succeeds any more. It grows by
 * blocks: behind the last write there may be zeros. */
void mr_file_gather(struct mr_file *file);
enum mr_status mr_file_truncate(struct mr_file *file, uint64_t size) MR_MUST_CHECK;
enum mr_status mr_file_size(struct mr_file *file, uint64_t *ret) MR_MUST_CHECK;
enum mr_status mr_file_lock(struct mr_file *file) MR_MUST_CHECK;
enum mr_status mr_disk_rename(struct mr_disk *disk, const char *from, const char *to) MR_MUST_CHECK;
enum mr_status mr_disk_unlink(struct mr_disk *disk, const char *path) MR_MUST_CHECK;
enum mr_status mr_disk_mkdir(struct mr_disk *disk, const char *path) MR_MUST_CHECK;
enum mr_status mr_disk_sync_dir(struct mr_disk *disk, const char *path) MR_MUST_CHECK;
enum mr_status mr_disk_list(struct mr_disk *disk, const char *path,
                            enum mr_status (*visit)(void *ctx, const char *name),
                            void *ctx) MR_MUST_CHECK;
enum mr_status mr_disk_free_bytes(struct mr_disk *disk, const char *path,
                                  uint64_t *ret) MR_MUST_CHECK;

/* The whole file, at most ret->cap_max bytes (MR_LIMIT over it), appended to ret. */
enum mr_status mr_disk_read_all(struct mr_disk *disk, const char *path,
                                struct mr_buf *ret) MR_MUST_CHECK;
