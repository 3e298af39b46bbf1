/* SPDX-License-Identifier: Apache-2.0 */
#include "log/segment.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "log/record.h"
#include "log/wire.h"

#include <inttypes.h>
#include <stdio.h>

#define MAGIC 0x3153726du /* "mrS1" read as a little-endian number */

enum {
    VERSION = 1,
    LSN_DIGITS = 16, /* 10^16 records; more digits are written when needed */
    NUMBER_DIGITS = 8,
    AT_VERSION = 4,
    AT_FLAGS = 6,
    AT_NUMBER = 8,
    AT_INCARNATION = 16,
    AT_FIRST_LSN = 24,
    AT_FIRST_SEQ = 32,
    AT_SIZE = 40,
    AT_CHECK = 56,
    HEADER_LEN = 64,
    LIST_AGAIN = 16, /* an appender beside us removes few in the time of a listing */
};

void mr_segment_name(const struct mr_segment *segment, char ret[MR_SEGMENT_NAME_MAX]) {
    int len = snprintf(ret, MR_SEGMENT_NAME_MAX, "%0*" PRIu64 "-%0*" PRIu32 ".log", LSN_DIGITS,
                       segment->first_lsn, NUMBER_DIGITS, segment->number);
    MR_ASSERT(len > 0 && len < MR_SEGMENT_NAME_MAX - 4);
}

/* Decimal digits, at least `least` of them; moves *at behind them. */
static bool parse_digits(const char **at, int least, uint64_t max, uint64_t *ret) {
    uint64_t value = 0;
    int count = 0;
    for (; **at >= '0' && **at <= '9'; (*at)++, count++) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (value > (max - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *ret = value;
    return count >= least;
}

bool mr_segment_name_parse(const char *name, uint64_t *ret_first_lsn, uint32_t *ret_number,
                           bool *ret_finished) {
    const char *at = name;
    uint64_t first_lsn;
    uint64_t number;
    if (!parse_digits(&at, LSN_DIGITS, UINT64_MAX, &first_lsn) || *at++ != '-' ||
        !parse_digits(&at, NUMBER_DIGITS, UINT32_MAX, &number)) {
        return false;
    }
    bool finished = strcmp(at, ".log") == 0;
    if ((!finished && strcmp(at, ".log.tmp") != 0) || first_lsn == 0 || number == 0) {
        return false;
    }
    *ret_first_lsn = first_lsn;
    *ret_number = (uint32_t)number;
    *ret_finished = finished;
    return true;
}

static enum mr_status join_path(const char *dir, const char *name, const char *suffix,
                                char ret[MR_SEGMENT_PATH_MAX]) {
    int len = snprintf(ret, MR_SEGMENT_PATH_MAX, "%s/%s%s", dir, name, suffix);
    return len > 0 && len < MR_SEGMENT_PATH_MAX ? MR_OK : MR_LIMIT;
}

enum mr_status mr_segment_path(const char *dir, const struct mr_segment *segment,
                               char ret[MR_SEGMENT_PATH_MAX]) {
    char name[MR_SEGMENT_NAME_MAX];
    mr_segment_name(segment, name);
    return join_path(dir, name, "", ret);
}

void mr_segment_encode(const struct mr_segment *segment, uint8_t ret[MR_SEGMENT_HEADER]) {
    MR_ASSERT(segment->number > 0 && segment->first_lsn > 0 && segment->first_seq > 0);
    MR_ASSERT(segment->size > MR_SEGMENT_HEADER && segment->size % MR_RECORD_ALIGN == 0);
    memset(ret, 0, MR_SEGMENT_HEADER);
    mr_wire_put_u32(ret, MAGIC);
    mr_wire_put_u16(ret + AT_VERSION, VERSION);
    mr_wire_put_u16(ret + AT_FLAGS, segment->flags);
    mr_wire_put_u32(ret + AT_NUMBER, segment->number);
    mr_wire_put_u64(ret + AT_INCARNATION, segment->incarnation);
    mr_wire_put_u64(ret + AT_FIRST_LSN, segment->first_lsn);
    mr_wire_put_u64(ret + AT_FIRST_SEQ, segment->first_seq);
    mr_wire_put_u64(ret + AT_SIZE, segment->size);
    mr_wire_put_u64(ret + AT_CHECK, mr_checksum(mr_bytes_of(ret, AT_CHECK)));
}

/* The check stands at the same place in every version, so that an unknown version is told from
 * damage. */
enum mr_status mr_segment_decode(const uint8_t *header, size_t len, struct mr_segment *ret) {
    if (len < HEADER_LEN || mr_wire_u32(header) != MAGIC ||
        mr_wire_u64(header + AT_CHECK) != mr_checksum(mr_bytes_of(header, AT_CHECK))) {
        return MR_CORRUPT;
    }
    struct mr_segment segment = {
        .number = mr_wire_u32(header + AT_NUMBER),
        .flags = mr_wire_u16(header + AT_FLAGS),
        .incarnation = mr_wire_u64(header + AT_INCARNATION),
        .first_lsn = mr_wire_u64(header + AT_FIRST_LSN),
        .first_seq = mr_wire_u64(header + AT_FIRST_SEQ),
        .size = mr_wire_u64(header + AT_SIZE),
    };
    if (mr_wire_u16(header + AT_VERSION) != VERSION ||
        (segment.flags & ~MR_SEGMENT_FLAGS_ALL) != 0) {
        return MR_MISMATCH;
    }
    if (segment.number == 0 || segment.first_lsn == 0 || segment.first_seq == 0 ||
        segment.size <= MR_SEGMENT_HEADER || segment.size % MR_RECORD_ALIGN != 0 ||
        segment.size > INT64_MAX) {
        return MR_CORRUPT;
    }
    *ret = segment;
    return MR_OK;
}

enum mr_status mr_segment_create(struct mr_disk *disk, const char *dir,
                                 const struct mr_segment *segment, struct mr_file **ret,
                                 bool *ret_named) {
    char name[MR_SEGMENT_NAME_MAX];
    char path[MR_SEGMENT_PATH_MAX];
    char unfinished[MR_SEGMENT_PATH_MAX];
    uint8_t header[MR_SEGMENT_HEADER];
    struct mr_file *file = NULL;
    *ret_named = false;
    mr_segment_name(segment, name);
    mr_segment_encode(segment, header);
    enum mr_status status = join_path(dir, name, "", path);
    if (status == MR_OK) {
        status = join_path(dir, name, ".tmp", unfinished);
    }
    if (status == MR_OK) {
        status = mr_file_open(disk, unfinished, MR_FILE_CREATE_NEW, &file);
    }
    if (status != MR_OK) {
        return status;
    }
    status = mr_file_allocate(file, segment->size);
    if (status == MR_OK) {
        status = mr_file_pwrite(file, mr_bytes_of(header, sizeof header), 0);
    }
    if (status == MR_OK) {
        status = mr_file_sync(file);
    }
    if (status == MR_OK) {
        *ret_named = true;
        status = mr_disk_rename(disk, unfinished, path);
    }
    if (status == MR_OK) {
        status = mr_disk_sync_dir(disk, dir);
    }
    if (status != MR_OK) {
        mr_file_close(file);
        /* To give the space back at once. What stays is harmless: it holds no record. */
        (void)!mr_disk_unlink(disk, unfinished);
        if (*ret_named) {
            (void)!mr_disk_unlink(disk, path);
        }
        return status;
    }
    *ret = file;
    return MR_OK;
}

enum mr_status mr_segment_open(struct mr_disk *disk, const char *dir, enum mr_file_mode mode,
                               struct mr_segment *segment, struct mr_file **ret,
                               struct mr_error *error) {
    char path[MR_SEGMENT_PATH_MAX];
    uint8_t header[HEADER_LEN];
    struct mr_file *file = NULL;
    struct mr_segment found;
    uint64_t size = 0;
    size_t len = 0;
    enum mr_status status = mr_segment_path(dir, segment, path);
    if (status == MR_OK) {
        status = mr_file_open(disk, path, mode, &file);
    }
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s: cannot open: %s", path, mr_status_text(status));
    }
    status = mr_file_pread(file, header, sizeof header, 0, &len);
    if (status == MR_OK) {
        status = mr_file_size(file, &size);
    }
    if (status != MR_OK) {
        (void)mr_error_set(error, status, "%s: cannot read: %s", path, mr_status_text(status));
        goto fail;
    }
    status = mr_segment_decode(header, len, &found);
    if (status == MR_MISMATCH) {
        (void)mr_error_set(error, status, "%s: written by another version of the format", path);
        goto fail;
    }
    if (status != MR_OK) {
        (void)mr_error_set(error, status, "%s: offset 0: bad segment header", path);
        goto fail;
    }
    if (found.number != segment->number || found.first_lsn != segment->first_lsn) {
        status =
            mr_error_set(error, MR_CORRUPT,
                         "%s: offset 0: the header is of segment %" PRIu32 ", first lsn %" PRIu64,
                         path, found.number, found.first_lsn);
        goto fail;
    }
    if (size < found.size) {
        status = mr_error_set(error, MR_CORRUPT,
                              "%s: offset %" PRIu64 ": cut short, made with %" PRIu64 " bytes",
                              path, size, found.size);
        goto fail;
    }
    *segment = found;
    *ret = file;
    return MR_OK;
fail:
    mr_file_close(file);
    return status;
}

void mr_segments_finish(struct mr_segments *segments) {
    mr_free(segments->items);
    *segments = (struct mr_segments){0};
}

static enum mr_status add_name(void *ctx, const char *name) {
    struct mr_segments *segments = ctx;
    struct mr_segment segment = {0};
    bool finished;
    if (!mr_segment_name_parse(name, &segment.first_lsn, &segment.number, &finished)) {
        return MR_OK; /* not ours */
    }
    if (segment.number > segments->number_max) {
        segments->number_max = segment.number;
    }
    if (!finished) {
        segments->unfinished++;
        return MR_OK;
    }
    if (segments->count == segments->cap) {
        uint32_t cap = segments->cap == 0 ? 16 : segments->cap * 2;
        struct mr_segment *items = mr_realloc(segments->items, cap * sizeof *items);
        if (items == NULL) {
            return MR_NO_MEMORY;
        }
        segments->items = items;
        segments->cap = cap;
    }
    segments->items[segments->count++] = segment;
    return MR_OK;
}

static int by_number(const void *a, const void *b) {
    const struct mr_segment *x = a;
    const struct mr_segment *y = b;
    int order = (x->number > y->number) - (x->number < y->number);
    return order != 0 ? order : (x->first_lsn > y->first_lsn) - (x->first_lsn < y->first_lsn);
}

/* Whether the headers tell one story: numbers grow, lsns do not fall, one incarnation. */
static enum mr_status check_order(const char *dir, const struct mr_segments *segments,
                                  struct mr_error *error) {
    for (uint32_t i = 1; i < segments->count; i++) {
        const struct mr_segment *before = &segments->items[i - 1];
        const struct mr_segment *here = &segments->items[i];
        const char *what = here->number == before->number             ? "two segments of one number"
                           : here->incarnation != before->incarnation ? "of another log"
                           : here->first_lsn < before->first_lsn ? "begins before the one before"
                                                                 : NULL;
        if (what != NULL) {
            char name[MR_SEGMENT_NAME_MAX];
            mr_segment_name(here, name);
            return mr_error_set(error, MR_CORRUPT, "%s/%s: offset 0: %s", dir, name, what);
        }
    }
    return MR_OK;
}

enum mr_status mr_segments_names(struct mr_disk *disk, const char *dir, struct mr_segments *ret,
                                 struct mr_error *error) {
    struct mr_segments segments = {0};
    enum mr_status status = mr_disk_list(disk, dir, add_name, &segments);
    if (status != MR_OK) {
        mr_segments_finish(&segments);
        return mr_error_set(error, status, "%s: cannot list: %s", dir, mr_status_text(status));
    }
    if (segments.count > 1) {
        qsort(segments.items, segments.count, sizeof *segments.items, by_number);
    }
    *ret = segments;
    return MR_OK;
}

/* *ret_gone: one of the names is not there any more. */
static enum mr_status list_once(struct mr_disk *disk, const char *dir, struct mr_segments *ret,
                                bool *ret_gone, struct mr_error *error) {
    struct mr_segments segments;
    enum mr_status status = mr_segments_names(disk, dir, &segments, error);
    if (status != MR_OK) {
        return status;
    }
    uint32_t kept = 0;
    *ret_gone = false;
    for (uint32_t i = 0; i < segments.count; i++) {
        struct mr_segment segment = segments.items[i];
        struct mr_file *file;
        status = mr_segment_open(disk, dir, MR_FILE_READ, &segment, &file, error);
        if (status == MR_NOT_FOUND) {
            *ret_gone = true;
            continue;
        }
        if (status != MR_OK) {
            goto fail;
        }
        mr_file_close(file);
        segments.items[kept++] = segment;
    }
    segments.count = kept;
    status = check_order(dir, &segments, error);
    if (status != MR_OK) {
        goto fail;
    }
    *ret = segments;
    return MR_OK;
fail:
    mr_segments_finish(&segments);
    return status;
}

/* The appender beside us takes one back that it could not finish, which held nothing; or it removes the oldest, and
 * what we have then may lack one in the middle that was removed after the one before it was read. */
enum mr_status mr_segments_list(struct mr_disk *disk, const char *dir, struct mr_segments *ret,
                                struct mr_error *error) {
    for (int i = 1;; i++) {
        bool gone;
        enum mr_status status = list_once(disk, dir, ret, &gone, error);
        if (status != MR_OK || !gone || i == LIST_AGAIN) {
            return status;
        }
        mr_segments_finish(ret);
    }
}

struct remove_ctx {
    struct mr_disk *disk;
    const char *dir;
};

static enum mr_status remove_if_unfinished(void *ctx, const char *name) {
    const struct remove_ctx *remove = ctx;
    char path[MR_SEGMENT_PATH_MAX];
    uint64_t first_lsn;
    uint32_t number;
    bool finished;
    if (!mr_segment_name_parse(name, &first_lsn, &number, &finished) || finished) {
        return MR_OK;
    }
    enum mr_status status = join_path(remove->dir, name, "", path);
    return status == MR_OK ? mr_disk_unlink(remove->disk, path) : status;
}

enum mr_status mr_segments_remove_unfinished(struct mr_disk *disk, const char *dir) {
    struct remove_ctx ctx = {disk, dir};
    return mr_disk_list(disk, dir, remove_if_unfinished, &ctx);
}

uint64_t mr_segments_cut(const struct mr_segments *segments, uint32_t i) {
    MR_ASSERT(i < segments->count);
    return i + 1 < segments->count ? segments->items[i + 1].first_lsn : UINT64_MAX;
}
