/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Segment: one file of the log: its name, its header, how it is made and how all of them are found.
 *
 * Idea        A segment gets its name only when its header and its blocks are durable (made under
 *             another name, synced, renamed). So a file called *.log with a bad header, or shorter
 *             than its header says, was damaged: no crash makes one.
 *
 *                 0000000000004711-00000003.log.tmp   being made; removed at the next open
 *                 0000000000004711-00000003.log       first lsn 4711, segment number 3
 *
 *             The number is in the name because after a failed sync two segments may begin with
 *             the same lsn; the one of the higher number supersedes.
 * Shape       4096 bytes of header, a block of its own so that no write of records touches it:
 *
 *                  0 magic u32 "mrS1"       4 version u16            6 flags u16
 *                  8 number u32            12 zero u32              16 incarnation u64
 *                 24 first_lsn u64         32 first_seq u64         40 size u64, of the file
 *                 48 zero u64              56 check u64, XXH3-64 of bytes 0..55
 *
 *             then records, then zeros. first_seq: every record in an earlier segment has a lower
 *             seq.
 * Owner       mr_segments owns its array. Files belong to who opened them.
 * Threads     Values; nothing shared.
 */
#include "base/file.h"

#define MR_SEGMENT_HEADER   4096u
#define MR_SEGMENT_NAME_MAX 48 /* with ".tmp" and the NUL */
#define MR_SEGMENT_PATH_MAX 4096

enum mr_segment_flag {
    MR_SEGMENT_UNSYNCED = 1, /* log.sync: off: its bundles were not synced one by one */
    MR_SEGMENT_FLAGS_ALL = 1,
};

struct mr_segment {
    uint32_t number;
    uint16_t flags;
    uint64_t incarnation;
    uint64_t first_lsn;
    uint64_t first_seq;
    uint64_t size;
};

struct mr_segments {
    struct mr_segment *items; /* by number */
    uint32_t count;
    uint32_t cap;
    uint32_t number_max; /* the highest number seen in a name, unfinished ones included; 0: none */
    uint32_t unfinished; /* *.log.tmp */
};

void mr_segment_name(const struct mr_segment *segment, char ret[MR_SEGMENT_NAME_MAX]);
/* False: not the name of a segment. *ret_finished: not *.tmp. */
bool mr_segment_name_parse(const char *name, uint64_t *ret_first_lsn, uint32_t *ret_number,
                           bool *ret_finished);
/* MR_LIMIT when dir is too long. */
enum mr_status mr_segment_path(const char *dir, const struct mr_segment *segment,
                               char ret[MR_SEGMENT_PATH_MAX]) MR_MUST_CHECK;

void mr_segment_encode(const struct mr_segment *segment, uint8_t ret[MR_SEGMENT_HEADER]);
/* The first len bytes of a file. MR_CORRUPT: not a sound header. MR_MISMATCH: of another version.
 */
enum mr_status mr_segment_decode(const uint8_t *header, size_t len,
                                 struct mr_segment *ret) MR_MUST_CHECK;

/* Makes the file, durable with its name. *ret_named becomes true as soon as the name may be in the
 * directory, also when the call fails: from then on the segment before must not be appended to, for
 * this one, found again after a crash, would supersede it. */
enum mr_status mr_segment_create(struct mr_disk *disk, const char *dir,
                                 const struct mr_segment *segment, struct mr_file **ret,
                                 bool *ret_named) MR_MUST_CHECK;
/* Opens the file and checks name against header and size against header. Fills all of *segment but
 * number and first_lsn, which the caller has from the name. MR_CORRUPT, MR_MISMATCH with a text. */
enum mr_status mr_segment_open(struct mr_disk *disk, const char *dir, enum mr_file_mode mode,
                               struct mr_segment *segment, struct mr_file **ret,
                               struct mr_error *error) MR_MUST_CHECK;

void mr_segments_finish(struct mr_segments *segments);
/* All finished segments of dir by their names alone: numbers and first lsns, sorted by both. An empty directory is
 * fine; a missing one is MR_NOT_FOUND. */
enum mr_status mr_segments_names(struct mr_disk *disk, const char *dir, struct mr_segments *ret,
                                 struct mr_error *error) MR_MUST_CHECK;
/* All finished segments of dir, by number, with their headers. An empty directory is fine; a
 * missing one is MR_NOT_FOUND. MR_CORRUPT when headers and names contradict each other. */
enum mr_status mr_segments_list(struct mr_disk *disk, const char *dir, struct mr_segments *ret,
                                struct mr_error *error) MR_MUST_CHECK;
/* Removes what was being made when the process ended. */
enum mr_status mr_segments_remove_unfinished(struct mr_disk *disk, const char *dir) MR_MUST_CHECK;
/* The lsn at which segment i is cut: where the next one begins; UINT64_MAX for the last. */
uint64_t mr_segments_cut(const struct mr_segments *segments, uint32_t i);
