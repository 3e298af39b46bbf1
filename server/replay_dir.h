/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Replay directory: names and texts below data_dir/replays, and taking a directory away.
 *
 * Threads     Pure but for the disk.
 */
#include "base/bytes.h"
#include "base/file.h"

#define MR_REPLAY_PATH_CAP 4096
#define MR_REPLAY_MESSAGE_MAX (16u << 10)

/* dir/name/file; file empty: dir/name. MR_LIMIT: too long. */
enum mr_status mr_replay_path(const char *dir, const char *name, const char *file, char ret[MR_REPLAY_PATH_CAP],
                              struct mr_error *error) MR_MUST_CHECK;
bool mr_replay_has(const char *dir, const char *name, const char *file);
/* What a child has said in the file, without the program's name before it and the line's end behind it, appended to
 * ret, which has room for MR_REPLAY_MESSAGE_MAX bytes more: of more the last ones, for why it failed stands at the
 * end. Nothing when it cannot be read. */
void mr_replay_said(struct mr_disk *disk, const char *dir, const char *name, const char *file, struct mr_buf *ret);
/* dir/name with what is in it, results.db first: what is left after a crash is no finished replay. */
enum mr_status mr_replay_remove(struct mr_disk *disk, const char *dir, const char *name,
                                struct mr_error *error) MR_MUST_CHECK;
