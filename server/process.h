/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Process: what Linux says about this process, for process_* metrics.
 *
 * Threads     Any.
 * Errors      Those of the disk; MR_CORRUPT: a text that is not that of proc(5). Nothing is written then.
 */
#include "base/file.h"

struct mr_process {
    double cpu_s; /* user and system */
    uint64_t resident_bytes;
    uint64_t virtual_bytes;
    uint64_t threads;
};

/* The text of /proc/self/stat. */
enum mr_status mr_process_parse(struct mr_bytes stat, uint64_t ticks_a_second, uint64_t page_bytes,
                                struct mr_process *ret) MR_MUST_CHECK;
enum mr_status mr_process_read(struct mr_disk *disk, struct mr_process *ret) MR_MUST_CHECK;
/* How many file descriptors are open. */
enum mr_status mr_process_fds(struct mr_disk *disk, uint64_t *ret) MR_MUST_CHECK;
