/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pace.h"

#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Sends what is noted. What somebody else has written there is sent as well. */
static void send_noted(struct mr_pace *pace) {
    int saved = errno;
    while (pace->from < pace->to) {
        int64_t left = pace->to - pace->from;
        int64_t len = left < MR_PACE_WRITE_BYTES ? left : MR_PACE_WRITE_BYTES;
        (void)sync_file_range(pace->fd, pace->from, len,
                              SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        pace->from += len;
        pace->steps++;
    }
    pace->bytes = 0;
    errno = saved;
}

void mr_pace_begin(struct mr_pace *pace) {
    MR_ASSERT(!pace->on);
    pace->on = true;
    send_noted(pace);
}

void mr_pace_end(struct mr_pace *pace) {
    pace->on = false;
    pace->from = pace->to;
    pace->bytes = 0;
}

static void note(struct mr_pace *pace, int fd, int64_t from, int64_t to) {
    bool first = pace->from == pace->to || pace->fd != fd;
    pace->fd = fd;
    pace->bytes = (first ? 0 : pace->bytes) + (uint64_t)(to - from);
    pace->from = first || from < pace->from ? from : pace->from;
    pace->to = first || to > pace->to ? to : pace->to;
}

ssize_t mr_pace_pwrite(struct mr_pace *pace, int fd, const void *buf, size_t len, off_t offset) {
    ssize_t written = pwrite(fd, buf, len, offset);
    if (written > 0) {
        note(pace, fd, offset, offset + written);
    }
    if (pace->on && pace->bytes >= MR_PACE_WRITE_BYTES) {
        send_noted(pace);
    }
    return written;
}

int mr_pace_truncate(struct mr_pace *pace, int fd, off_t len) {
    struct stat st;
    off_t size = fstat(fd, &st) == 0 ? st.st_size : len;
    for (off_t at = size - MR_PACE_TRUNCATE_BYTES; at > len; at -= MR_PACE_TRUNCATE_BYTES) {
        if (ftruncate(fd, at) != 0) {
            return -1;
        }
        pace->steps++;
    }
    return ftruncate(fd, len);
}
