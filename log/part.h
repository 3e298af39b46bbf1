/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Part: an append-only file of checked blocks: what a checkpoint is made of, beside its manifest.
 *
 * Idea        A part is written by one run of the process and never changed: only appended to. A manifest says how
 *             many of its bytes count, so what was appended later (or half, in a crash) is simply not there.
 *
 *                 dir/part-0000000000000017    |header 4096|block|block|block| … not counted
 *
 * Shape       header: magic u32 "mrP1", version u16, zero u16, kind u32, zero u32, number u64, incarnation u64 (of
 *             the log), zeros, at 56 check u64 (XXH3-64 of what is before it); padded with zeros to 4096.
 *             block: magic u32 "mrB1", zero u32, payload_len u64, tag u64, number u64 (of the part), offset u64 (of the
 *             block), payload_check u64 (XXH3-64), header_check u64 (XXH3-64 of the 48 bytes before it, seeded with
 *             the incarnation), payload, zeros up to a multiple of 8. number, offset and incarnation keep a block from
 *             passing in another place, part or log.
 *             Behind the last block there may be zeros, up to a multiple of 4096.
 * Owner       A writer owns its file. One owner at a time.
 * Errors      MR_IO, MR_NO_SPACE from append: the file may hold a part of the block, or lack some that were appended
 *             since the last sync (mr_file_gather); the writer is poisoned, every later append and sync fails with
 *             MR_IO (TRAPS 12): what was not synced has to be written to another part. MR_LIMIT: payload over
 *             MR_PART_BLOCK_MAX, nothing written. From reading MR_CORRUPT with file, offset and reason, MR_MISMATCH for
 *             an unknown version.
 * Invariants  I1 bytes below synced() are durable and never change.
 */
#include "base/file.h"

#define MR_PART_HEADER    4096u
#define MR_PART_BLOCK     56u
#define MR_PART_BLOCK_MAX (64u << 20) /* of one payload */

struct mr_part_id {
    uint64_t number;
    uint64_t incarnation;
    uint32_t kind; /* the user's: ids or groups */
};

struct mr_part_writer;

/* Makes the file (it must not exist: MR_BUSY) and writes its header; its name is durable after the first mr_part_sync. */
enum mr_status mr_part_create(struct mr_disk *disk, const char *dir, const struct mr_part_id *id,
                              struct mr_part_writer **ret, struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_part_append(struct mr_part_writer *writer, uint64_t tag, struct mr_bytes payload,
                              struct mr_error *error) MR_MUST_CHECK;
/* File and (the first time) directory. Never tried again after a failure. Nothing to do: no call to the disk. */
enum mr_status mr_part_sync(struct mr_part_writer *writer, struct mr_error *error) MR_MUST_CHECK;
uint64_t mr_part_number(const struct mr_part_writer *writer);
uint64_t mr_part_len(const struct mr_part_writer *writer);    /* appended, header included */
uint64_t mr_part_synced(const struct mr_part_writer *writer); /* of these durable */
bool mr_part_poisoned(const struct mr_part_writer *writer);
void mr_part_close(struct mr_part_writer *writer); /* NULL is fine; does not sync */

/* Reads the blocks below len in order; visit returns other than MR_OK to stop with that (and says why itself). payload
 * is valid during the call, 8-byte aligned. MR_CORRUPT when the file is missing, shorter than len, or anything in it is
 * not as it was written; from: skip to this offset, which begins a block (0: the first). */
typedef enum mr_status mr_part_visit(void *ctx, uint64_t tag, struct mr_bytes payload);
enum mr_status mr_part_read(struct mr_disk *disk, const char *dir, const struct mr_part_id *id,
                            uint64_t from, uint64_t len, mr_part_visit *visit, void *ctx,
                            struct mr_error *error) MR_MUST_CHECK;
/* All checks of mr_part_read and nothing else. */
enum mr_status mr_part_verify(struct mr_disk *disk, const char *dir, const struct mr_part_id *id,
                              uint64_t from, uint64_t len, struct mr_error *error) MR_MUST_CHECK;
