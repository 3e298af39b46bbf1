/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Rewrite: what repair changes on disk, each step so that a crash leaves what was there before it or what it made.
 *
 * Idea        A damaged segment is never written to. What is not kept is copied away first; then the segment is made
 *             anew beside it, read again, and takes its name with one rename.
 *
 *                 dir/quarantine/0000000000004711-00000003-8192.bin   bytes [8192, …) of that segment
 *                 dir/0000000000004711-00000003.log.tmp               being made; open and repair remove it
 *                 dir/0000000000004711-00000003.log                   the damaged one, until the rename
 *
 *             A quarantine file of that name may be there: of the same bytes, when the repair was cut short after it,
 *             then it is the one; else of an earlier repair, and the new one is called …-8192-2.bin.
 * Threads     One, with the data directory locked.
 * Errors      MR_IO, MR_NO_SPACE, MR_NO_MEMORY, MR_LIMIT (a path too long), with a text.
 */
#include "log/salvage.h"

#define MR_QUARANTINE          "quarantine"
#define MR_QUARANTINE_NAME_MAX 96

/* Copies bytes [from, to) of the segment's file to a file of their own, durably; *ret: its name in the folder. */
enum mr_status mr_rewrite_quarantine(struct mr_disk *disk, const char *dir,
                                     const struct mr_segment *segment, uint64_t from, uint64_t to,
                                     char ret[MR_QUARANTINE_NAME_MAX],
                                     struct mr_error *error) MR_MUST_CHECK;
/* Makes the segment as planned; its name is then that of the new file, durably. chain is the one before it. */
enum mr_status mr_rewrite_segment(struct mr_disk *disk, const char *dir,
                                  const struct mr_segment *segment, const struct mr_chain *chain,
                                  const struct mr_salvage *salvage,
                                  struct mr_error *error) MR_MUST_CHECK;
/* Removes a file that has no place in the log; its bytes are in quarantine. */
enum mr_status mr_rewrite_remove(struct mr_disk *disk, const char *dir,
                                 const struct mr_segment *segment,
                                 struct mr_error *error) MR_MUST_CHECK;
