/* SPDX-License-Identifier: Apache-2.0 */
#include "base/direct.h"

#include "base/alloc.h"
#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STAGE_BYTES = 1 << 20 };

struct mr_direct {
    int read_fd; /* the owner's, buffered */
    int fd;
    uint8_t *stage; /* the first block holds what the file has at `block`, as far as `held` */
    uint64_t block;
    size_t held;
    bool known; /* block and held are */
};

static int reopen(int fd) {
    char path[64];
    int len = snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    MR_ASSERT(len > 0 && (size_t)len < sizeof path);
    return open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
}

struct mr_direct *mr_direct_open(int fd) {
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size % MR_DIRECT_BLOCK != 0) {
        return NULL;
    }
    int direct_fd = reopen(fd);
    if (direct_fd < 0) {
        return NULL;
    }
    struct mr_direct *direct = mr_alloc_zero(1, sizeof *direct);
    uint8_t *stage = mr_alloc_aligned(MR_DIRECT_BLOCK, STAGE_BYTES);
    if (direct == NULL || stage == NULL) {
        mr_free(direct);
        mr_free(stage);
        (void)close(direct_fd); /* nothing was written */
        return NULL;
    }
    *direct = (struct mr_direct){.read_fd = fd, .fd = direct_fd, .stage = stage};
    return direct;
}

void mr_direct_close(struct mr_direct *direct) {
    if (direct == NULL) {
        return;
    }
    (void)close(direct->fd); /* what had to be durable was synced */
    mr_free(direct->stage);
    mr_free(direct);
}

/* The bytes of the block before offset. */
static int take_up(struct mr_direct *d, uint64_t offset) {
    uint64_t block = offset / MR_DIRECT_BLOCK * MR_DIRECT_BLOCK;
    size_t lead = (size_t)(offset - block);
    if (d->known && d->block == block && d->held == lead) {
        return 0;
    }
    size_t done = 0;
    while (done < lead) {
        ssize_t n = pread(d->read_fd, d->stage + done, lead - done, (off_t)(block + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? EIO : errno; /* the file is shorter than where it is to be written */
            return -1;
        }
        done += (size_t)n;
    }
    d->block = block;
    d->held = lead;
    return 0;
}

/* The first len bytes of the stage, whole blocks. */
static int write_out(struct mr_direct *d, size_t len) {
    size_t done = 0;
    while (done < len) {
        ssize_t n = pwrite(d->fd, d->stage + done, len - done, (off_t)(d->block + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n >= 0 && (n == 0 || n % MR_DIRECT_BLOCK != 0)) {
            errno = EIO; /* part of a block: nothing that could be gone on with */
            return -1;
        }
        if (n < 0) {
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

/* `used` bytes of the stage go to the file, and what is not a whole block stays. */
static int flush(struct mr_direct *d, size_t used) {
    size_t whole = used / MR_DIRECT_BLOCK * MR_DIRECT_BLOCK;
    size_t rest = used - whole;
    size_t len = rest == 0 ? whole : whole + MR_DIRECT_BLOCK;
    memset(d->stage + used, 0, len - used);
    if (write_out(d, len) != 0) {
        return -1;
    }
    memcpy(d->stage, d->stage + whole, rest);
    d->block += whole;
    d->held = rest;
    return 0;
}

int mr_direct_write(struct mr_direct *d, const struct iovec *iov, int count, uint64_t offset) {
    int failed = take_up(d, offset);
    size_t used = d->held;
    d->known = false;
    for (int i = 0; i < count && failed == 0; i++) {
        const uint8_t *from = iov[i].iov_base;
        size_t left = iov[i].iov_len;
        while (left > 0 && failed == 0) {
            size_t room = STAGE_BYTES - used;
            size_t n = left < room ? left : room;
            memcpy(d->stage + used, from, n);
            used += n;
            from += n;
            left -= n;
            if (used == STAGE_BYTES) {
                failed = flush(d, used);
                used = d->held;
            }
        }
    }
    if (failed == 0 && used > d->held) {
        failed = flush(d, used);
    }
    d->known = failed == 0;
    return failed;
}
