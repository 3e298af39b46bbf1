/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes recovery: the input is a program of damages to a small log of two segments, among them
 * headers with sound checksums over any fields (which no fuzzer would guess). Then:
 *   - a reader and open end with a record, MR_END or MR_CORRUPT, and nothing worse;
 *   - what open accepted reads whole, lsns without a gap, and reads the same after one more open;
 *   - what it did not accept it does after a repair, which a second one has nothing to add to.
 */
#include "base/check.h"
#include "base/hash.h"
#include "log/log.h"
#include "log/segment.h"
#include "log/wire.h"
#include "tests/disk/virtual_disk.h"

#include <stdio.h>
#include <stdlib.h>

enum { SEGMENT = 8192, SEGMENTS = 2, STEP = 24 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct mr_log *open_log(struct virtual_disk *vd) {
    struct mr_log *log = NULL;
    struct mr_error error;
    const struct mr_log_options options = {.disk = virtual_disk_disk(vd),
                                           .clock = mr_clock_system(),
                                           .dir = "log",
                                           .segment_bytes = SEGMENT,
                                           .sync = true,
                                           .incarnation = 7};
    enum mr_status status = mr_log_open(&options, &log, &error);
    MR_ASSERT(status == MR_OK || status == MR_CORRUPT || status == MR_MISMATCH);
    return status == MR_OK ? log : NULL;
}

/* Both segments hold some bundles. */
static struct virtual_disk *make_sample(struct mr_segment ret_segments[SEGMENTS]) {
    static uint8_t payload[1800];
    struct virtual_disk *vd = virtual_disk_open(1);
    struct mr_log *log = open_log(vd);
    MR_ASSERT(log != NULL);
    for (uint64_t seq = 2; seq < 8; seq++) {
        struct mr_log_entry entries[3];
        struct mr_error error;
        for (unsigned i = 0; i < 3; i++) {
            entries[i] = (struct mr_log_entry){.type = MR_RECORD_EVENTS,
                                               .payload = {{payload, 70 * (seq + i)}},
                                               .payload_count = 1};
        }
        enum mr_status status = mr_log_append(log, seq, (int64_t)seq, entries, 1 + seq % 3, &error);
        MR_ASSERT(status == MR_OK);
    }
    mr_log_close(log);
    struct mr_segments segments;
    struct mr_error error;
    enum mr_status status = mr_segments_list(virtual_disk_disk(vd), "log", &segments, &error);
    MR_ASSERT(status == MR_OK && segments.count == SEGMENTS);
    memcpy(ret_segments, segments.items, SEGMENTS * sizeof *ret_segments);
    mr_segments_finish(&segments);
    return vd;
}

static void damage(const uint8_t step[STEP], uint8_t *content, size_t *len) {
    size_t at = mr_wire_u16(step + 1) % SEGMENT;
    switch (step[0] % 6) {
    case 0:
        content[at] ^= step[3];
        break;
    case 1:
        memset(content + at / 512 * 512, step[3], 512);
        break;
    case 2:
        memmove(content + at / 512 * 512, content + (size_t)step[3] % (SEGMENT / 512) * 512, 512);
        break;
    case 3:
        *len = at;
        break;
    default: {
        struct iovec payload = {content + at, step[8]};
        if (at + MR_RECORD_HEADER + step[8] > SEGMENT) {
            break;
        }
        payload.iov_base = content + at + MR_RECORD_HEADER;
        struct mr_record record = {
            .type = (enum mr_record_type)(1 + step[3] % (MR_RECORD_TYPE_END - 1)),
            .bundle_count = 1 + step[4] % 8u,
            .segment = step[5] % 4u,
            .seq = 1 + step[6] % 16u,
            .incarnation = 7};
        record.bundle_index = step[7] % record.bundle_count;
        record.lsn = 1 + record.bundle_index + step[9] % 32u;
        if (record.type == MR_RECORD_GAP && step[8] >= MR_RECORD_GAP_LEN) {
            mr_record_gap_encode(record.lsn, 1 + step[10] % 16u, payload.iov_base);
            payload.iov_len = step[11] % 4 == 0 ? payload.iov_len : MR_RECORD_GAP_LEN;
        }
        mr_record_encode(&record, &payload, 1, content + at);
    }
    }
}

/* Returns how many records, and their hash. */
static uint64_t read_all(struct virtual_disk *vd, bool must_be_sound, uint64_t *ret_hash) {
    struct mr_log_reader *reader;
    struct mr_record record;
    struct mr_error error;
    uint64_t count = 0;
    *ret_hash = 0;
    enum mr_status status = mr_log_reader_open(virtual_disk_disk(vd), "log", 0, &reader, &error);
    if (status == MR_OK) {
        uint64_t lsn = 0;
        while ((status = mr_log_reader_next(reader, &record, &error)) == MR_OK) {
            MR_ASSERT(lsn == 0 || record.lsn == lsn + 1);
            lsn = record.lsn + record.lsn_count - 1;
            *ret_hash = mr_hash64(record.payload, *ret_hash + record.lsn);
            count++;
        }
        mr_log_reader_close(reader);
    }
    MR_ASSERT(status == MR_END ||
              (!must_be_sound && (status == MR_CORRUPT || status == MR_MISMATCH)));
    return count;
}

static struct mr_log_repair repair(struct virtual_disk *vd) {
    static FILE *nowhere;
    struct mr_log_repair ret;
    struct mr_error error;
    nowhere = nowhere == NULL ? fopen("/dev/null", "w") : nowhere;
    MR_ASSERT(nowhere != NULL);
    enum mr_status status =
        mr_log_repair(virtual_disk_disk(vd), "log", 1, true, nowhere, &ret, &error);
    MR_ASSERT(status == MR_OK);
    return ret;
}

static void damage_file(struct virtual_disk *vd, const struct mr_segment *segment,
                        const uint8_t step[STEP]) {
    char path[MR_SEGMENT_PATH_MAX];
    struct mr_file *file;
    enum mr_status status = mr_segment_path("log", segment, path);
    MR_ASSERT(status == MR_OK);
    if (step[0] % 6 == 5) {
        status = mr_disk_unlink(virtual_disk_disk(vd), path);
    }
    if (mr_file_open(virtual_disk_disk(vd), path, MR_FILE_READ, &file) != MR_OK) {
        return; /* removed, by this step or an earlier one */
    }
    mr_file_close(file);
    struct mr_bytes was = virtual_disk_content(vd, path);
    uint8_t *content = calloc(1, SEGMENT);
    MR_ASSERT(content != NULL && was.len <= SEGMENT);
    size_t len = was.len;
    if (len > 0) {
        memcpy(content, was.ptr, len);
    }
    damage(step, content, &len);
    virtual_disk_replace(vd, path, mr_bytes_of(content, len));
    free(content);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct mr_segment segments[SEGMENTS];
    struct virtual_disk *vd = make_sample(segments);
    for (size_t at = 0; at + STEP <= len && at < 32 * STEP; at += STEP) {
        damage_file(vd, &segments[data[at + STEP - 1] % SEGMENTS], data + at);
    }
    uint64_t hash;
    uint64_t again;
    (void)read_all(vd, false, &hash);
    struct mr_log *log = open_log(vd);
    if (log == NULL) {
        MR_ASSERT(repair(vd).damages > 0);
        log = open_log(vd);
        MR_ASSERT(log != NULL);
    }
    uint64_t count = read_all(vd, true, &hash);
    mr_log_close(log);
    log = open_log(vd);
    MR_ASSERT(log != NULL);
    MR_ASSERT(read_all(vd, true, &again) == count + 1); /* the new START */
    mr_log_close(log);
    MR_ASSERT(repair(vd).damages == 0);
    virtual_disk_close(vd);
    return 0;
}
