/* SPDX-License-Identifier: Apache-2.0 */
#include "log/rewrite.h"

#include "base/alloc.h"
#include "base/check.h"

#include <inttypes.h>
#include <stdio.h>

enum { COPY_PART = 64 << 10 };

static enum mr_status failed(struct mr_error *error, enum mr_status status, const char *what,
                             const char *path) {
    return mr_error_set(error, status, "cannot %s %s: %s", what, path, mr_status_text(status));
}

/* All of buf, or MR_IO: what is copied was there when it was planned. Only a last record's padding may be missing. */
static enum mr_status read_part(struct mr_file *file, uint8_t *buf, size_t len, uint64_t offset) {
    size_t got;
    enum mr_status status = mr_file_pread(file, buf, len, offset, &got);
    if (status == MR_OK && got < len) {
        memset(buf + got, 0, len - got);
        status = len - got < MR_RECORD_ALIGN ? MR_OK : MR_IO;
    }
    return status;
}

static enum mr_status copy(struct mr_file *from, uint64_t offset, struct mr_file *to, uint64_t at,
                           uint64_t size, uint8_t *buf) {
    enum mr_status status = MR_OK;
    for (uint64_t done = 0; status == MR_OK && done < size;) {
        size_t len = size - done < COPY_PART ? (size_t)(size - done) : COPY_PART;
        status = read_part(from, buf, len, offset + done);
        if (status == MR_OK) {
            status = mr_file_pwrite(to, mr_bytes_of(buf, len), at + done);
        }
        done += len;
    }
    return status;
}

/* Whether the file at path holds just the bytes [from, to) of `file`. buf has two parts. */
static enum mr_status holds(struct mr_disk *disk, const char *path, struct mr_file *file,
                            uint64_t from, uint64_t to, uint8_t *buf, bool *ret) {
    struct mr_file *there;
    uint64_t size = 0;
    enum mr_status status = mr_file_open(disk, path, MR_FILE_READ, &there);
    if (status != MR_OK) {
        return status;
    }
    status = mr_file_size(there, &size);
    *ret = size == to - from;
    for (uint64_t done = 0; status == MR_OK && *ret && done < size;) {
        size_t len = size - done < COPY_PART ? (size_t)(size - done) : COPY_PART;
        status = read_part(file, buf, len, from + done);
        if (status == MR_OK) {
            status = read_part(there, buf + COPY_PART, len, done);
        }
        *ret = status == MR_OK && memcmp(buf, buf + COPY_PART, len) == 0;
        done += len;
    }
    mr_file_close(there);
    return status;
}

static enum mr_status write_copy(struct mr_disk *disk, const char *folder, const char *path,
                                 struct mr_file *file, uint64_t from, uint64_t to, uint8_t *buf) {
    char made[MR_SEGMENT_PATH_MAX];
    struct mr_file *copied = NULL;
    int len = snprintf(made, sizeof made, "%s/new.tmp", folder);
    if (len < 0 || (size_t)len >= sizeof made) {
        return MR_LIMIT;
    }
    enum mr_status status = mr_disk_unlink(disk, made); /* of a repair that was cut short */
    if (status == MR_OK || status == MR_NOT_FOUND) {
        status = mr_file_open(disk, made, MR_FILE_CREATE_NEW, &copied);
    }
    if (status == MR_OK) {
        status = copy(file, from, copied, 0, to - from, buf);
    }
    if (status == MR_OK) {
        status = mr_file_sync(copied);
    }
    mr_file_close(copied);
    if (status == MR_OK) {
        status = mr_disk_rename(disk, made, path);
    }
    return status;
}

/* Finds the name and writes the file, unless it is there. */
static enum mr_status put_away(struct mr_disk *disk, const char *folder, const char *stem,
                               struct mr_file *file, uint64_t from, uint64_t to,
                               char ret[MR_QUARANTINE_NAME_MAX], uint8_t *buf) {
    char path[MR_SEGMENT_PATH_MAX];
    for (unsigned i = 1;; i++) {
        char again[16] = "";
        if (i > 1) {
            (void)snprintf(again, sizeof again, "-%u", i);
        }
        (void)snprintf(ret, MR_QUARANTINE_NAME_MAX, "%s-%" PRIu64 "%s.bin", stem, from, again);
        int len = snprintf(path, sizeof path, "%s/%s", folder, ret);
        if (len < 0 || (size_t)len >= sizeof path) {
            return MR_LIMIT;
        }
        bool same = false;
        enum mr_status status = holds(disk, path, file, from, to, buf, &same);
        if (status == MR_NOT_FOUND) {
            return write_copy(disk, folder, path, file, from, to, buf);
        }
        if (status != MR_OK || same) {
            return status;
        }
    }
}

enum mr_status mr_rewrite_quarantine(struct mr_disk *disk, const char *dir,
                                     const struct mr_segment *segment, uint64_t from, uint64_t to,
                                     char ret[MR_QUARANTINE_NAME_MAX], struct mr_error *error) {
    char stem[MR_SEGMENT_NAME_MAX];
    char folder[MR_SEGMENT_PATH_MAX];
    char path[MR_SEGMENT_PATH_MAX] = "";
    struct mr_file *file = NULL;
    uint8_t *buf = mr_alloc((size_t)2 * COPY_PART);
    MR_ASSERT(from < to);
    mr_segment_name(segment, stem);
    stem[strlen(stem) - strlen(".log")] = '\0';
    int len = snprintf(folder, sizeof folder, "%s/" MR_QUARANTINE, dir);
    enum mr_status status = buf == NULL                               ? MR_NO_MEMORY
                            : len < 0 || (size_t)len >= sizeof folder ? MR_LIMIT
                                                                      : MR_OK;
    if (status == MR_OK) {
        status = mr_segment_path(dir, segment, path);
    }
    if (status == MR_OK) {
        status = mr_disk_mkdir(disk, folder);
    }
    if (status == MR_OK) {
        status = mr_file_open(disk, path, MR_FILE_READ, &file);
    }
    if (status == MR_OK) {
        status = put_away(disk, folder, stem, file, from, to, ret, buf);
    }
    if (status == MR_OK) {
        status = mr_disk_sync_dir(disk, folder);
    }
    mr_file_close(file);
    mr_free(buf);
    return status == MR_OK ? MR_OK : failed(error, status, "quarantine bytes of", path);
}

static enum mr_status write_gap(struct mr_file *file, const struct mr_record *gap, uint64_t at) {
    uint8_t bytes[MR_RECORD_HEADER + MR_RECORD_GAP_LEN];
    struct iovec payload = {bytes + MR_RECORD_HEADER, MR_RECORD_GAP_LEN};
    static_assert(sizeof bytes % MR_RECORD_ALIGN == 0, "a gap has no padding");
    mr_record_gap_encode(gap->lsn, gap->lsn_count, bytes + MR_RECORD_HEADER);
    mr_record_encode(gap, &payload, 1, bytes);
    return mr_file_pwrite(file, mr_bytes_of(bytes, sizeof bytes), at);
}

/* Header and pieces, durable. old is NULL when all pieces are GAPs. */
static enum mr_status write_new(struct mr_file *file, struct mr_file *old,
                                const struct mr_segment *segment,
                                const struct mr_salvage *salvage) {
    uint8_t header[MR_SEGMENT_HEADER];
    uint8_t *buf = mr_alloc(COPY_PART);
    uint64_t at = MR_SEGMENT_HEADER;
    if (buf == NULL) {
        return MR_NO_MEMORY;
    }
    mr_segment_encode(segment, header);
    enum mr_status status = mr_file_allocate(file, segment->size);
    if (status == MR_OK) {
        status = mr_file_pwrite(file, mr_bytes_of(header, sizeof header), 0);
    }
    for (uint32_t i = 0; status == MR_OK && i < salvage->piece_count; i++) {
        const struct mr_salvage_piece *piece = &salvage->pieces[i];
        MR_ASSERT(piece->offset == 0 || old != NULL);
        status = piece->offset == 0 ? write_gap(file, &piece->gap, at)
                                    : copy(old, piece->offset, file, at, piece->size, buf);
        at += piece->size;
    }
    MR_ASSERT(status != MR_OK || at == salvage->end);
    mr_free(buf);
    return status == MR_OK ? mr_file_sync(file) : status;
}

/* Reads it as recovery will: what was copied may have been read wrongly. */
static enum mr_status verify(struct mr_disk *disk, const char *path,
                             const struct mr_segment *segment, const struct mr_chain *before,
                             const struct mr_salvage *salvage) {
    struct mr_chain chain = *before;
    struct mr_frames frames = {0};
    struct mr_file *file;
    enum mr_status status = mr_file_open(disk, path, MR_FILE_READ, &file);
    if (status == MR_OK) {
        status = mr_frames_open(file, segment, &frames);
    }
    while (status == MR_OK && frames.offset < salvage->end) {
        struct mr_record record;
        const char *why;
        status = mr_frames_next(&frames, &chain, &record, &why);
    }
    bool same = frames.offset == salvage->end && chain.next_lsn == salvage->chain.next_lsn &&
                chain.seq == salvage->chain.seq;
    bool other = status == MR_END || status == MR_CORRUPT || (status == MR_OK && !same);
    mr_frames_close(&frames);
    return other ? MR_IO : status;
}

enum mr_status mr_rewrite_segment(struct mr_disk *disk, const char *dir,
                                  const struct mr_segment *segment, const struct mr_chain *chain,
                                  const struct mr_salvage *salvage, struct mr_error *error) {
    char path[MR_SEGMENT_PATH_MAX] = "";
    char made[MR_SEGMENT_PATH_MAX + 8];
    struct mr_file *old = NULL;
    struct mr_file *file = NULL;
    enum mr_status status = mr_segment_path(dir, segment, path);
    (void)snprintf(made, sizeof made, "%s.tmp", path);
    if (status == MR_OK) {
        status = mr_file_open(disk, path, MR_FILE_READ, &old);
        status = status == MR_NOT_FOUND ? MR_OK : status;
    }
    if (status == MR_OK) {
        status = mr_file_open(disk, made, MR_FILE_CREATE_NEW, &file);
    }
    if (status == MR_OK) {
        status = write_new(file, old, segment, salvage);
    }
    mr_file_close(file);
    mr_file_close(old);
    if (status == MR_OK) {
        status = verify(disk, made, segment, chain, salvage);
    }
    if (status == MR_OK) {
        status = mr_disk_rename(disk, made, path);
    }
    if (status == MR_OK) {
        status = mr_disk_sync_dir(disk, dir);
    }
    if (status != MR_OK) {
        (void)!mr_disk_unlink(
            disk, made); /* to give the space back at once; what stays is removed by open */
        return failed(error, status, "write again", path);
    }
    return MR_OK;
}

enum mr_status mr_rewrite_remove(struct mr_disk *disk, const char *dir,
                                 const struct mr_segment *segment, struct mr_error *error) {
    char path[MR_SEGMENT_PATH_MAX] = "";
    enum mr_status status = mr_segment_path(dir, segment, path);
    if (status == MR_OK) {
        status = mr_disk_unlink(disk, path);
    }
    if (status == MR_OK) {
        status = mr_disk_sync_dir(disk, dir);
    }
    return status == MR_OK ? MR_OK : failed(error, status, "remove", path);
}
