/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/dead_marks.h"

#include "base/alloc.h"
#include "base/check.h"

enum { MARK_VERSION = 1, ALL_REASONS = 255 };

size_t mr_dead_mark_encode(const struct mr_dead_mark *mark, uint8_t ret[MR_DEAD_MARK_LEN_MAX]) {
    MR_ASSERT(mark->reason < MR_DEAD_REASON_COUNT);
    memset(ret, 0, MR_DEAD_MARK_HEADER);
    ret[0] = MARK_VERSION;
    ret[1] = mark->reason < 0 ? ALL_REASONS : (uint8_t)mark->reason;
    ret[2] = mark->name_len;
    memcpy(ret + 8, &mark->before_ms, sizeof mark->before_ms);
    memcpy(ret + MR_DEAD_MARK_HEADER, mark->name, mark->name_len);
    return MR_DEAD_MARK_HEADER + mark->name_len;
}

static bool decode(const struct mr_record *record, struct mr_dead_mark *ret) {
    const uint8_t *p = record->payload.ptr;
    size_t len = record->payload.len;
    if (len < MR_DEAD_MARK_HEADER || p[0] != MARK_VERSION || len != MR_DEAD_MARK_HEADER + (size_t)p[2] ||
        (p[1] != ALL_REASONS && p[1] >= MR_DEAD_REASON_COUNT)) {
        return false;
    }
    *ret = (struct mr_dead_mark){
        .lsn = record->lsn, .reason = p[1] == ALL_REASONS ? -1 : p[1], .name_len = p[2]};
    memcpy(&ret->before_ms, p + 8, sizeof ret->before_ms);
    memcpy(ret->name, p + MR_DEAD_MARK_HEADER, ret->name_len);
    return true;
}

static bool same_question(const struct mr_dead_mark *a, const struct mr_dead_mark *b) {
    return a->reason == b->reason && a->name_len == b->name_len && memcmp(a->name, b->name, a->name_len) == 0;
}

bool mr_dead_marks_has_room(const struct mr_dead_marks *marks, const struct mr_dead_mark *mark) {
    for (uint32_t i = 0; i < marks->count; i++) {
        if (same_question(&marks->items[i], mark) && marks->items[i].before_ms <= mark->before_ms) {
            return true;
        }
    }
    return marks->count < MR_DEAD_MARKS_MAX;
}

/* Those that say no more than this later one go. */
static enum mr_status add(struct mr_dead_marks *marks, const struct mr_dead_mark *mark) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < marks->count; i++) {
        if (!same_question(&marks->items[i], mark) || marks->items[i].before_ms > mark->before_ms) {
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

bool mr_dead_marks_discard(const struct mr_dead_marks *marks, const struct mr_record *record,
                           const struct mr_dead *entry) {
    for (uint32_t i = 0; i < marks->count; i++) {
        const struct mr_dead_mark *mark = &marks->items[i];
        if (record->lsn < mark->lsn && record->recorded_ms < mark->before_ms &&
            (mark->reason < 0 || mark->reason == (int)entry->reason) &&
            (mark->name_len == 0 || mr_bytes_equal(mr_bytes_of(mark->name, mark->name_len), mr_dead_stream(entry)))) {
            return true;
        }
    }
    return false;
}
