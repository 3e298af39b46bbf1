/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Part sample: a part on a virtual disk beside the list of what was appended to it.
 *
 * Payloads and tags are a function of the part's number and the block's place, so that any block can be checked without
 * keeping it. Failures end the test.
 */
#include "log/part.h"
#include "tests/disk/virtual_disk.h"

#define SAMPLE_DIR "data/checkpoint"

enum { SAMPLE_SECTOR = 512, SAMPLE_BLOCKS_MAX = 32 };

struct part_sample {
    struct virtual_disk *vd;
    struct mr_disk *disk;
    struct mr_part_id id;
    struct mr_part_writer *writer; /* NULL: closed */
    char path[128];
    size_t len[SAMPLE_BLOCKS_MAX];   /* of the payloads */
    uint64_t end[SAMPLE_BLOCKS_MAX]; /* of the blocks */
    size_t count;
};

/* A disk with the directory, and no part yet. */
void sample_open(struct part_sample *s, uint64_t seed, struct mr_part_id id);
void sample_close(struct part_sample *s);
/* The next block. */
enum mr_status sample_append(struct part_sample *s, size_t len, struct mr_error *error);
extern const struct mr_part_id sample_small_id;
/* A closed part of some small blocks, all synced. */
void sample_make_small(struct part_sample *s, struct mr_part_id id);

uint64_t sample_begin(const struct part_sample *s, size_t i);
/* The block that begins at an offset; count for the end; SIZE_MAX for any other place. */
size_t sample_block_at(const struct part_sample *s, uint64_t offset);

/* Reads as read and as verify do, which must agree; nothing wrong may be seen on the way. *ret_seen: the block behind
 * the last one seen. */
enum mr_status sample_read(const struct part_sample *s, struct mr_disk *disk, uint64_t from,
                           uint64_t len, size_t *ret_seen, struct mr_error *error);
/* All blocks below len. */
void sample_must_hold(const struct part_sample *s, struct mr_disk *disk, uint64_t len);
/* MR_CORRUPT with the file and an offset. */
void sample_must_refuse(const struct part_sample *s, struct mr_disk *disk, uint64_t from,
                        uint64_t len);

uint64_t sample_mixed(uint64_t x);
