/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Copy: files from one directory into another, durably, over what is there.
 *
 * Crash       What was copied before may be there in part: the copy is made again.
 * Errors      Of the disk; MR_LIMIT: a path that is too long; MR_NO_MEMORY. With a text.
 */
#include "base/file.h"

/* Synced; its directory is not. */
enum mr_status mr_copy_file(struct mr_disk *disk, const char *from, const char *to,
                            struct mr_error *error) MR_MUST_CHECK;
/* All parts, then all manifests; the directory is synced behind each. to_dir is there. */
enum mr_status mr_copy_checkpoint(struct mr_disk *disk, const char *from_dir, const char *to_dir,
                                  struct mr_error *error) MR_MUST_CHECK;
