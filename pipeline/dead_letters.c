/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/dead_letters.h"

#include "base/check.h"

/* Takes the seq off a DEAD payload; the entries are left. */
static bool take_seq(struct mr_bytes *payload, uint64_t *ret) {
    if (payload->len < sizeof *ret) {
        return false;
    }
    memcpy(ret, payload->ptr, sizeof *ret);
    *payload = mr_bytes_of(payload->ptr + sizeof *ret, payload->len - sizeof *ret);
    return true;
}

static bool wanted(const struct mr_dead_page *page, const struct mr_dead *entry) {
    return (page->stream == UINT32_MAX || mr_bytes_equal(page->stream_name, mr_dead_stream(entry))) &&
           (page->reason < 0 || page->reason == (int)entry->reason);
}

/* Visits the entries of one record behind `skip`; false once the page is full (more is set). */
static bool visit_record(struct mr_dead_page *page, const struct mr_record *record, uint32_t skip,
                         uint32_t *visited) {
    struct mr_bytes rest = record->payload;
    uint64_t seq;
    bool young = page->before_ms != 0 && record->recorded_ms >= page->before_ms;
    if (record->type != MR_RECORD_DEAD || young || !take_seq(&rest, &seq)) {
        return true;
    }
    struct mr_dead entry;
    for (uint32_t i = 0; mr_dead_next(&rest, &entry); i++) {
        if (i < skip || !wanted(page, &entry) ||
            (page->marks != NULL && mr_dead_marks_discard(page->marks, record, i, &entry))) {
            continue;
        }
        if (*visited == page->limit) {
            page->more = true;
            return false;
        }
        page->at_lsn = record->lsn;
        page->at_ms = record->recorded_ms;
        page->at_entry = i;
        page->visit(page->ctx, &entry);
        *visited += 1;
        page->next_lsn = record->lsn;
        page->next_entry = i + 1;
    }
    return true;
}

enum mr_status mr_dead_letters_read(struct mr_disk *disk, const char *dir, struct mr_dead_page *page,
                                    struct mr_error *error) {
    MR_ASSERT(page->limit > 0);
    page->more = false;
    page->next_lsn = page->after_lsn;
    page->next_entry = page->after_entry;
    struct mr_log_reader *reader = NULL;
    enum mr_status status = mr_log_reader_open(disk, dir, 1, &reader, error);
    if (status == MR_OK) {
        mr_log_reader_limit(reader, page->last_lsn);
    }
    if (status == MR_OK && page->after_lsn > 0) {
        status = mr_log_reader_seek(reader, page->after_lsn, error);
    }
    uint32_t visited = 0;
    while (status == MR_OK) {
        struct mr_record record;
        status = mr_log_reader_next(reader, &record, error);
        if (status != MR_OK) {
            break;
        }
        uint32_t skip = record.lsn == page->after_lsn ? page->after_entry : 0;
        if (!visit_record(page, &record, skip, &visited)) {
            break;
        }
    }
    mr_log_reader_close(reader);
    return status == MR_END ? MR_OK : status;
}

enum mr_status mr_dead_letters_last_seq_scan(struct mr_disk *disk, const char *dir,
                                             uint64_t from_lsn, uint64_t known_seq, uint64_t *ret_seq,
                                             struct mr_error *error) {
    struct mr_log_reader *reader = NULL;
    enum mr_status status = mr_log_reader_open(disk, dir, 1, &reader, error);
    if (status == MR_OK && from_lsn > 1) {
        status = mr_log_reader_seek(reader, from_lsn, error);
    }
    uint64_t last_seq = known_seq;
    while (status == MR_OK) {
        struct mr_record record;
        status = mr_log_reader_next(reader, &record, error);
        uint64_t seq;
        if (status == MR_OK && record.type == MR_RECORD_DEAD && take_seq(&record.payload, &seq)) {
            last_seq = seq; /* also a lower one: a start writes it when the log has lost the bundles above */
        }
    }
    mr_log_reader_close(reader);
    if (status != MR_END) {
        return status;
    }
    *ret_seq = last_seq;
    return MR_OK;
}
