/* SPDX-License-Identifier: Apache-2.0 */
#include "log/held.h"

#include "base/alloc.h"
#include "base/check.h"
#include "log/log.h"

void mr_held_check(const struct mr_held *held) {
    uint64_t size = 0;
    MR_ASSERT(held->count <= held->cap);
    MR_ASSERT(held->current < held->count || held->count == 0);
    for (uint32_t i = 0; i < held->count; i++) {
        const struct mr_held_segment *items = held->items;
        size += items[i].size;
        MR_ASSERT(i == 0 || items[i - 1].number < items[i].number);
        MR_ASSERT(i == 0 || items[i - 1].first_lsn <= items[i].first_lsn);
    }
    MR_ASSERT(held->size == size);
}

void mr_held_finish(struct mr_held *held) {
    mr_free(held->items);
    *held = (struct mr_held){0};
}

enum mr_status mr_held_reserve(struct mr_held *held, uint32_t more) {
    MR_ASSERT(more <= UINT32_MAX - held->count);
    uint32_t need = held->count + more;
    if (need <= held->cap) {
        return MR_OK;
    }
    uint32_t cap = need < held->cap * 2 ? held->cap * 2 : need;
    struct mr_held_segment *items = mr_realloc(held->items, cap * sizeof *items);
    if (items == NULL) {
        return MR_NO_MEMORY;
    }
    held->items = items;
    held->cap = cap;
    return MR_OK;
}

void mr_held_add(struct mr_held *held, const struct mr_held_segment *segment) {
    MR_ASSERT(held->count < held->cap);
    held->items[held->count++] = *segment;
    held->size += segment->size;
}

/* The time of the first record of segment i. MR_NOT_FOUND: it has no file or no record. */
static enum mr_status first_ms(const struct mr_held *held, uint32_t i, struct mr_disk *disk,
                               const char *dir, int64_t *ret, struct mr_error *error) {
    struct mr_segment segment = {.number = held->items[i].number,
                                 .first_lsn = held->items[i].first_lsn};
    uint8_t header[MR_RECORD_HEADER];
    struct mr_record record;
    uint64_t payload_check;
    size_t len = 0;
    struct mr_file *file;
    enum mr_status status = mr_segment_open(disk, dir, MR_FILE_READ, &segment, &file, error);
    if (status != MR_OK) {
        return status;
    }
    status = mr_file_pread(file, header, sizeof header, MR_SEGMENT_HEADER, &len);
    mr_file_close(file);
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s: cannot read: %s", dir, mr_status_text(status));
    }
    if (len < sizeof header || mr_record_decode(header, &record, &payload_check) != MR_OK ||
        record.incarnation != segment.incarnation || record.segment != segment.number) {
        return MR_NOT_FOUND;
    }
    *ret = record.recorded_ms;
    return MR_OK;
}

/* A time that no record of the oldest is newer than. */
static enum mr_status oldest_ms(struct mr_held *held, struct mr_disk *disk, const char *dir,
                                int64_t log_ms, int64_t *ret, struct mr_error *error) {
    struct mr_held_segment *oldest = &held->items[0];
    for (uint32_t i = 1; i < held->count && oldest->newest_ms == MR_HELD_UNKNOWN; i++) {
        int64_t ms = log_ms;
        enum mr_status status = first_ms(held, i, disk, dir, &ms, error);
        if (status == MR_OK) {
            oldest->newest_ms = ms;
        } else if (status != MR_NOT_FOUND) {
            return status;
        }
    }
    *ret = oldest->newest_ms == MR_HELD_UNKNOWN ? log_ms : oldest->newest_ms;
    return MR_OK;
}

enum mr_status mr_held_oldest_goes(struct mr_held *held, struct mr_disk *disk, const char *dir,
                                   const struct mr_log_retention *retention, int64_t log_ms,
                                   bool *ret, struct mr_error *error) {
    bool may = held->current > 0 && held->items[1].first_lsn <= retention->needed_lsn;
    *ret = may && held->size > retention->bytes_max;
    if (!may || *ret || retention->before_ms == INT64_MIN) {
        return MR_OK;
    }
    int64_t newest_ms;
    enum mr_status status = oldest_ms(held, disk, dir, log_ms, &newest_ms, error);
    *ret = status == MR_OK && newest_ms < retention->before_ms;
    return status;
}

enum mr_status mr_held_remove_oldest(struct mr_held *held, struct mr_disk *disk, const char *dir,
                                     struct mr_held_segment *ret, struct mr_error *error) {
    MR_ASSERT(held->count > 1 && held->current > 0);
    const struct mr_held_segment oldest = held->items[0];
    struct mr_segment segment = {.number = oldest.number, .first_lsn = oldest.first_lsn};
    char path[MR_SEGMENT_PATH_MAX] = "";
    enum mr_status status = mr_segment_path(dir, &segment, path);
    if (status == MR_OK) {
        status = mr_disk_unlink(disk, path);
        status = status == MR_NOT_FOUND ? MR_OK : status; /* unlinked before, but the sync failed */
    }
    if (status == MR_OK) {
        status = mr_disk_sync_dir(disk, dir);
    }
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s: cannot remove: %s", path, mr_status_text(status));
    }
    held->size -= oldest.size;
    held->count--;
    held->current--;
    memmove(held->items, held->items + 1, held->count * sizeof *held->items);
    *ret = oldest;
    return MR_OK;
}
