/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/dead_marks.h"

#include "base/alloc.h"
#include "base/check.h"

enum { MARK_VERSION = 1, MARK_ONE_VERSION = 2, ALL_REASONS = 255 };

static size_t header_of(bool one) {
    return one ? MR_DEAD_MARK_ONE_HEADER : MR_DEAD_MARK_HEADER;
}

size_t mr_dead_mark_encode(const struct mr_dead_mark *mark, uint8_t ret[MR_DEAD_MARK_LEN_MAX]) {
    MR_ASSERT(mark->reason < MR_DEAD_REASON_COUNT);
    bool one = mark->entry_lsn > 0;
    size_t header = header_of(one);
    memset(ret, 0, header);
    ret[0] = one ? MARK_ONE_VERSION : MARK_VERSION;
    ret[1] = mark->reason < 0 ? ALL_REASONS : (uint8_t)mark->reason;
    ret[2] = mark->name_len;
    memcpy(ret + 8, &mark->before_ms, sizeof mark->before_ms);
    if (one) {
        memcpy(ret + 4, &mark->entry, sizeof mark->entry);
        memcpy(ret + 16, &mark->entry_lsn, sizeof mark->entry_lsn);
    }
    memcpy(ret + header, mark->name, mark->name_len);
    return header + mark->name_len;
}

static bool decode(const struct mr_record *record, struct mr_dead_mark *ret) {
    const uint8_t *p = record->payload.ptr;
    size_t len = record->payload.len;
    bool one = len > 0 && p[0] == MARK_ONE_VERSION;
    size_t header = header_of(one);
    if (len < header || (!one && p[0] != MARK_VERSION) || len != header + (size_t)p[2] ||
        (p[1] != ALL_REASONS && p[1] >= MR_DEAD_REASON_COUNT)) {
        return false;
    }
    *ret = (struct mr_dead_mark){
        .lsn = record->lsn, .reason = p[1] == ALL_REASONS ? -1 : p[1], .name_len = p[2]};
    memcpy(&ret->before_ms, p + 8, sizeof ret->before_ms);
    if (one) {
        memcpy(&ret->entry, p + 4, sizeof ret->entry);
        memcpy(&ret->entry_lsn, p + 16, sizeof ret->entry_lsn);
    }
    memcpy(ret->name, p + header, ret->name_len);
    return !one || ret->entry_lsn > 0;
}

static bool same_name(const struct mr_dead_mark *a, const struct mr_dead_mark *b) {
    return a->name_len == b->name_len && memcmp(a->name, b->name, a->name_len) == 0;
}

/* Whether the later mark says all that the earlier one does. */
static bool covers(const struct mr_dead_mark *later, const struct mr_dead_mark *earlier) {
    if (later->entry_lsn > 0) {
        return later->entry_lsn == earlier->entry_lsn && later->entry == earlier->entry;
    }
    if (later->before_ms < earlier->before_ms) {
        return false;
    }
    if (earlier->entry_lsn > 0) {
        return (later->reason < 0 || later->reason == earlier->reason) &&
               (later->name_len == 0 || same_name(later, earlier));
    }
    return later->reason == earlier->reason && same_name(later, earlier);
}

bool mr_dead_marks_has_room(const struct mr_dead_marks *marks, const struct mr_dead_mark *mark) {
    for (uint32_t i = 0; i < marks->count; i++) {
        if (covers(mark, &marks->items[i])) {
            return true;
        }
    }
    return marks->count < MR_DEAD_MARKS_MAX;
}

/* Those that say no more than this later one go. */
static enum mr_status add(struct mr_dead_marks *marks, const struct mr_dead_mark *mark) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < marks->count; i++) {
        if (!covers(mark, &marks->items[i])) {
            marks->items[kept++] = marks->items[i];
        }
    }
    marks->count = kept;
    if (kept == marks->cap) {
        uint32_t cap = kept == 0 ? 8 : kept * 2;
        struct mr_dead_mark *items = mr_alloc_zero(cap, sizeof *items);
        if (items == NULL) {
            return MR_NO_MEMORY;
        }
        if (kept > 0) {
            memcpy(items, marks->items, kept * sizeof *items);
        }
        mr_free(marks->items);
        marks->items = items;
        marks->cap = cap;
    }
    marks->items[marks->count++] = *mark;
    return MR_OK;
}

enum mr_status mr_dead_marks_scan(struct mr_dead_marks *marks, struct mr_disk *disk, const char *dir,
                                  uint64_t last_lsn, struct mr_error *error) {
    struct mr_log_reader *reader = NULL;
    if (last_lsn <= marks->scanned_lsn) {
        return MR_OK;
    }
    enum mr_status status = mr_log_reader_open(disk, dir, 1, &reader, error);
    if (status == MR_OK) {
        mr_log_reader_limit(reader, last_lsn);
        status = marks->scanned_lsn == 0 ? MR_OK : mr_log_reader_seek(reader, marks->scanned_lsn + 1, error);
    }
    while (status == MR_OK) {
        struct mr_record record;
        struct mr_dead_mark mark;
        status = mr_log_reader_next(reader, &record, error);
        if (status == MR_OK && record.type == MR_RECORD_DISCARD) {
            status = decode(&record, &mark) ? add(marks, &mark) : MR_CORRUPT;
            if (status != MR_OK) {
                (void)mr_error_set(error, status, "record %llu of the dead-letter log: %s",
                                   (unsigned long long)record.lsn, status == MR_CORRUPT ? "not a DISCARD payload" : "out of memory");
            }
        }
        if (status == MR_OK) {
            marks->scanned_lsn = record.lsn + record.lsn_count - 1;
        }
    }
    mr_log_reader_close(reader);
    return status == MR_END ? MR_OK : status;
}

static bool discards(const struct mr_dead_mark *mark, const struct mr_record *record, uint32_t place,
                     const struct mr_dead *entry) {
    if (mark->entry_lsn > 0) {
        return record->lsn == mark->entry_lsn && place == mark->entry;
    }
    return record->lsn < mark->lsn && record->recorded_ms < mark->before_ms &&
           (mark->reason < 0 || mark->reason == (int)entry->reason) &&
           (mark->name_len == 0 || mr_bytes_equal(mr_bytes_of(mark->name, mark->name_len), mr_dead_stream(entry)));
}

bool mr_dead_marks_discard(const struct mr_dead_marks *marks, const struct mr_record *record, uint32_t place,
                           const struct mr_dead *entry) {
    for (uint32_t i = 0; i < marks->count; i++) {
        if (discards(&marks->items[i], record, place, entry)) {
            return true;
        }
    }
    return false;
}
