/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sample: a log that is known record by record, to be damaged and repaired.
 *
 * The oracle of a repair: a record is intact when its bytes stand in its place on the damaged disk, and each intact
 * record must be read afterwards as it was; each other lsn is that record still (found elsewhere) or within a GAP, or
 * behind the end of the log. What was not zero and is in no intact record lies in quarantine, with its place in its name.
 */
#include "log/log.h"
#include "log/segment.h"
#include "tests/disk/virtual_disk.h"

#define SAMPLE_DIR  "data/log"
#define SAMPLE_LSNS 4096

struct sample_record {
    struct mr_record record; /* its payload belongs to the sample */
    uint64_t offset;
    uint32_t segment; /* in segments */
};

struct sample {
    struct virtual_disk *vd;
    struct mr_segments segments;
    struct sample_record *records; /* that of lsn 1 first */
    uint32_t count;
    uint32_t cap;
};

/* Some small bundles in two or three segments. */
void sample_make_small(struct sample *s);
/* More segments; bundles torn and begun again, a segment given up and written again, restarts. */
void sample_make_rich(struct sample *s, uint64_t seed);
void sample_finish(struct sample *s);

enum mr_status sample_open_log(struct virtual_disk *vd, uint64_t from_lsn, struct mr_log **ret,
                               struct mr_error *error);
struct mr_log *sample_opened(struct virtual_disk *vd, uint64_t from_lsn); /* or the test fails */
/* In which segment the lsn is, or would be. */
uint32_t sample_segment_of(const struct sample *s, uint64_t lsn);
/* Reads all there is, which must be first_lsn to last_lsn; the recorded_ms of each. */
void sample_times(struct virtual_disk *vd, uint64_t first_lsn, uint64_t last_lsn,
                  int64_t ms[SAMPLE_LSNS]);
bool sample_exists(struct virtual_disk *vd, const char *path);
void sample_path(const struct sample *s, uint32_t segment, char ret[MR_SEGMENT_PATH_MAX]);
/* Changes bytes of a segment's file. */
void sample_write(const struct sample *s, struct virtual_disk *vd, uint32_t segment,
                  uint64_t offset, const void *bytes, size_t len);
void sample_fill(const struct sample *s, struct virtual_disk *vd, uint32_t segment, uint64_t offset,
                 uint8_t byte, size_t len);
void sample_truncate(const struct sample *s, struct virtual_disk *vd, uint32_t segment,
                     uint64_t size);
void sample_remove(const struct sample *s, struct virtual_disk *vd, uint32_t segment);

/* mr_log_repair, which must not say anything but the statuses of the disk and MR_OK. */
enum mr_status sample_repair(struct virtual_disk *vd, uint64_t needed_lsn,
                             struct mr_log_repair *ret);
/* vd was damaged as `was` is, and repaired: repairs it again, opens it, appends, reads it, also after a power cut. */
void sample_verify(const struct sample *s, struct virtual_disk *was, struct virtual_disk *vd);
/* Repairs vd and verifies. Returns what the repair said. */
struct mr_log_repair sample_repair_and_verify(const struct sample *s, struct virtual_disk *vd);
