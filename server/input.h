/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Input: the bytes of a file or of standard input, inflated where they are gzip or zstd.
 *
 * Idea        The compression is told by the first bytes, not by the name, so that a pipe works like a file.
 * Owner       The opener. One thread.
 * Errors      MR_NOT_FOUND, MR_IO, MR_INVALID (damaged compressed data), MR_NO_MEMORY, with a text that names
 *             the file.
 */
#include "base/bytes.h"

struct mr_input;

/* path "-": standard input. */
enum mr_status mr_input_open(const char *path, struct mr_input **ret,
                             struct mr_error *error) MR_MUST_CHECK;
void mr_input_close(struct mr_input *input); /* NULL is fine */
/* Fills buf with up to cap bytes; *ret_len 0 at the end. */
enum mr_status mr_input_read(struct mr_input *input, uint8_t *buf, size_t cap, size_t *ret_len,
                             struct mr_error *error) MR_MUST_CHECK;
/* Bytes read of the file as it lies on disk, and its size; total 0 where it is not known (a pipe). */
void mr_input_progress(const struct mr_input *input, uint64_t *ret_done, uint64_t *ret_total);
