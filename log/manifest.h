/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Manifest: what a checkpoint consists of; its last file to be written, and the one switch (L9).
 *
 * Idea        A checkpoint exists from the moment its manifest has its name. The one with the highest number that is
 *             sound and whose parts are all sound is the newest; the one before it is kept as well, with its parts.
 *
 *                 dir/manifest-0000000000000005     the one before
 *                 dir/manifest-0000000000000006     the newest
 *                 dir/manifest.tmp                  being written: removed at open
 *                 dir/part-…                        log/part.h
 *
 * Shape       magic u32 "mrM1", version u32, body_len u64, check u64 (XXH3-64 of the body, seeded with the XXH3-64 of
 *             the 16 bytes before it), then the body in base/pack.h: the fields below in this order with both counts
 *             as u32, then the blobs, then the parts.
 *             A blob is bytes of which this file knows only kind and place; a part is a file and how much of it counts.
 * Owner       A manifest owns its arrays and bytes until mr_manifest_finish.
 * Errors      MR_CORRUPT with file and reason (also when it is missing, or of another number), MR_MISMATCH for an
 *             unknown version, MR_LIMIT over MR_MANIFEST_BYTES_MAX, MR_IO, MR_NO_SPACE, MR_NO_MEMORY (also when a blob
 *             given to be written has failed).
 */
#include "base/file.h"
#include "log/part.h"

#define MR_MANIFEST_BYTES_MAX (256u << 20)

struct mr_manifest_blob {
    uint32_t kind;
    uint32_t shard;
    uint32_t stream;
    uint32_t zero;
    struct mr_buf bytes;
};

struct mr_manifest_part {
    struct mr_part_id id;
    uint32_t shard;
    uint32_t stream;
    uint64_t tag; /* of its newest block */
    uint64_t len; /* bytes of the file that count */
};

struct mr_manifest {
    uint64_t number;
    uint64_t incarnation; /* of the log */
    uint64_t seq;         /* everything up to and including this bundle is in it */
    uint64_t lsn;         /* of the last record of that bundle: replay begins at lsn + 1 */
    uint64_t needed_lsn;  /* the first record that a start from it may read: lsn + 1, or one with undecided events */
    int64_t recorded_ms;
    uint32_t shards;
    struct mr_manifest_blob *blobs;
    uint32_t blob_count;
    struct mr_manifest_part *parts;
    uint32_t part_count;
};

void mr_manifest_init(struct mr_manifest *manifest);
void mr_manifest_finish(struct mr_manifest *manifest);
/* A new empty blob to be filled; NULL when out of memory. Valid until the next add. */
struct mr_buf *mr_manifest_add_blob(struct mr_manifest *manifest, uint32_t kind, uint32_t shard,
                                    uint32_t stream);
enum mr_status mr_manifest_add_part(struct mr_manifest *manifest,
                                    const struct mr_manifest_part *part) MR_MUST_CHECK;
/* NULL: it has none. */
const struct mr_buf *mr_manifest_blob(const struct mr_manifest *manifest, uint32_t kind,
                                      uint32_t shard, uint32_t stream);

/* Writes dir/manifest-<number> durably: temporary file, sync, rename, sync of the directory. After a failure it may be
 * there or not; the next number is to be used. */
enum mr_status mr_manifest_write(struct mr_disk *disk, const char *dir,
                                 const struct mr_manifest *manifest,
                                 struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_manifest_read(struct mr_disk *disk, const char *dir, uint64_t number,
                                struct mr_manifest *ret, struct mr_error *error) MR_MUST_CHECK;

/* What lies in dir (which may be missing: all zero and empty). Syncs dir first, so that no name goes with the power
 * after it was relied on, and removes manifest.tmp. */
struct mr_manifest_list {
    uint64_t *manifests; /* numbers, ascending */
    uint32_t manifest_count;
    uint64_t *parts; /* numbers, ascending */
    uint32_t part_count;
};
enum mr_status mr_manifest_list(struct mr_disk *disk, const char *dir, struct mr_manifest_list *ret,
                                struct mr_error *error) MR_MUST_CHECK;
void mr_manifest_list_finish(struct mr_manifest_list *list);
/* Removes files; a missing one is fine. The directory is not synced: they may come back after a crash, and go again. */
enum mr_status mr_manifest_remove(struct mr_disk *disk, const char *dir, uint64_t number) MR_MUST_CHECK;
enum mr_status mr_part_remove(struct mr_disk *disk, const char *dir, uint64_t number) MR_MUST_CHECK;
