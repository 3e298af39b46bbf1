/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Pace: large writes of somebody who can wait, in small steps, so that others who sync the same disk need not wait
 * for them.
 *
 * Idea        Hundreds of megabytes in the page cache that are synced at once are a queue of the disk that a small
 *             sync of another file has to stand behind: 100 ms and more. Here what was written is sent to the disk,
 *             and waited for, a megabyte at a time; blocks are given back a few at a time (on file systems that
 *             discard them, giving back 200 MB stops the disk as well). It is the same work; the sync behind it is
 *             still needed, and finds little left.
 *
 *                 at once   wwwwwwwwwwwwwwwwSSSSSSSSSSSSSSSS          another's sync   ................s
 *                 paced     wwwwwwwwSS SS SS SS wSS wSS wSS s                          ..s ..s ..s
 *                                   begin           end
 *
 *             What is written before begin is only noted: who writes the same page several times has it on the disk
 *             once.
 * Owner       The caller owns the struct; zeroes are its beginning.
 * Threads     One at a time.
 * Errors      Those of pwrite and ftruncate, with errno. Pacing itself is a hint: its failures are the sync's to tell.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MR_PACE_WRITE_BYTES    (1u << 20)
#define MR_PACE_TRUNCATE_BYTES (4u << 20)

struct mr_pace {
    bool on;
    int fd;       /* of what was written, and may not have been sent yet… */
    int64_t from; /* …within this range; from == to: nothing */
    int64_t to;
    uint64_t bytes; /* of it */
    uint64_t steps; /* since the beginning */
};

/* Sends what was written into the file last written to, while it is open. Until end each megabyte is sent at once. */
void mr_pace_begin(struct mr_pace *pace);
/* Everything was synced, or nobody cares: begin has nothing to send of it. */
void mr_pace_end(struct mr_pace *pace);

/* As pwrite. */
ssize_t mr_pace_pwrite(struct mr_pace *pace, int fd, const void *buf, size_t len, off_t offset);
/* As ftruncate; after an error or a crash the file's length may be between the two. */
int mr_pace_truncate(struct mr_pace *pace, int fd, off_t len);
