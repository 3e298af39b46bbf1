/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Direct: writes of a file that go past the page cache (O_DIRECT), at any offset and length.
 *
 * Idea        A log is written once and read by nobody while it is young: putting it into the page cache first costs as much
 *             as syncing it. The kernel takes whole blocks only, so bytes are gathered in a buffer of blocks; the last
 *             one, mostly not full, is kept, and written again with what comes behind it. Rewriting a block with the same
 *             bytes at its beginning is what the page cache would do, too.
 *
 *                 stage | held: on disk already | gathered: not yet |          |
 *                       ^block, a multiple of 4096                  ^used      ^1 MiB
 *
 *             Kernel and device are asked once for what lies in the stage, so a file that is synced rarely is gathered:
 *             a write goes out with a later one that fills the stage, or with the flush before a sync. (Cycles an id of
 *             a checkpoint, 64 KiB a write: 17 if written at once, 3 gathered, 20 through the page cache.)
 * Contract    What lies behind a write, up to the end of its last block, becomes zeros: for files that are written forward
 *             over zeros, or that grow (by whole blocks). Reading through another descriptor sees what was written,
 *             when gathering what was flushed.
 * Owner       base/file.c; one thread.
 * Errors      open: NULL: not here (the file system has no O_DIRECT, the file's size is no multiple of a block);
 *             buffered writes do as well. write, flush: -1 with errno; what reached the disk then is unknown. When
 *             gathering, it may be an earlier write that failed, and from then on all fail (EIO): what is not there
 *             must not be synced.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define MR_DIRECT_BLOCK 4096u

struct mr_direct;

/* fd: of the same file, open for reading, as long as this is. */
struct mr_direct *mr_direct_open(int fd, bool gathers);
void mr_direct_close(struct mr_direct *direct); /* NULL is fine; does not flush */
int mr_direct_write(struct mr_direct *direct, const struct iovec *iov, int count, uint64_t offset);
/* What is gathered; nothing is, when every write goes out at once. */
int mr_direct_flush(struct mr_direct *direct);
