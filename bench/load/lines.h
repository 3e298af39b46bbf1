/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Lines: a file of NDJSON, cut into batches once, sent as it is.
 *
 * Owner       The struct owns the text. Shape: 8 bytes a batch beside it.
 * Threads     Constant after open.
 * Errors      MR_NOT_FOUND, MR_LIMIT (over 4 GiB), MR_INVALID (no line), MR_NO_MEMORY, MR_IO.
 */
#include "base/bytes.h"

struct mr_load_lines {
    struct mr_buf text;
    uint64_t *starts; /* batch b is [starts[b], starts[b + 1]) */
    uint64_t batches; /* in one pass */
    uint64_t lines;   /* not empty ones, in one pass */
    uint32_t batch;
};

enum mr_status mr_load_lines_open(struct mr_load_lines *lines, const char *path, uint32_t batch,
                                  struct mr_error *error) MR_MUST_CHECK;
/* Cuts a text that is already there, which is taken over in any case. */
enum mr_status mr_load_lines_open_text(struct mr_load_lines *lines, struct mr_buf *text,
                                       uint32_t batch) MR_MUST_CHECK;
void mr_load_lines_close(struct mr_load_lines *lines); /* zeroed is fine */
/* Batch k, beginning again behind the last; and how many events are in it. */
struct mr_bytes mr_load_lines_batch(const struct mr_load_lines *lines, uint64_t k,
                                    uint32_t *ret_events);
