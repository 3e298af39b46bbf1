/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/fetch.h"

#include "base/alloc.h"
#include "pipeline/redrive.h"

enum { SKIP_MAX = 1024 }; /* records passed over rather than sought */

struct mr_fetch {
    struct mr_disk *disk;
    const char *dir;
    const struct mr_plan *plan;
    struct mr_events_decoder *decoder;
    struct mr_log_reader *reader; /* NULL: not open yet */
    uint64_t next_lsn;            /* that the reader will hand out; 0: unknown */
};

enum mr_status mr_fetch_open(struct mr_disk *disk, const char *dir, const struct mr_plan *plan,
                             struct mr_fetch **ret) {
    struct mr_fetch *fetch = mr_alloc_zero(1, sizeof *fetch);
    if (fetch == NULL) {
        return MR_NO_MEMORY;
    }
    fetch->disk = disk;
    fetch->dir = dir;
    fetch->plan = plan;
    if (mr_events_decoder_open(plan, &fetch->decoder) != MR_OK) {
        mr_fetch_close(fetch);
        return MR_NO_MEMORY;
    }
    *ret = fetch;
    return MR_OK;
}

void mr_fetch_close(struct mr_fetch *fetch) {
    if (fetch == NULL) {
        return;
    }
    mr_log_reader_close(fetch->reader);
    mr_events_decoder_close(fetch->decoder);
    mr_free(fetch);
}

/* The next record is lsn, or the first behind it. */
static enum mr_status place(struct mr_fetch *fetch, uint64_t lsn, uint64_t last_lsn,
                            struct mr_error *error) {
    enum mr_status status = MR_OK;
    if (fetch->reader == NULL) {
        fetch->next_lsn = 0;
        status = mr_log_reader_open(fetch->disk, fetch->dir, 0, &fetch->reader, error);
    }
    if (status != MR_OK) {
        return status;
    }
    mr_log_reader_limit(fetch->reader, last_lsn);
    bool near = fetch->next_lsn != 0 && lsn >= fetch->next_lsn && lsn - fetch->next_lsn < SKIP_MAX;
    return near ? MR_OK : mr_log_reader_seek(fetch->reader, lsn, error);
}

/* Of the records that are only passed over on the way to lsn some may have been removed meanwhile: then it is sought. */
static enum mr_status next(struct mr_fetch *fetch, uint64_t lsn, struct mr_record *ret, struct mr_error *error) {
    enum mr_status status = mr_log_reader_next(fetch->reader, ret, error);
    if (status == MR_NOT_FOUND && fetch->next_lsn != 0 && fetch->next_lsn <= lsn) {
        status = mr_log_reader_seek(fetch->reader, lsn, error);
        status = status == MR_OK ? mr_log_reader_next(fetch->reader, ret, error) : status;
    }
    fetch->next_lsn = status == MR_OK ? ret->lsn + ret->lsn_count : 0;
    return status;
}

static enum mr_status decode(struct mr_fetch *fetch, const struct mr_record *record, struct mr_batch **ret,
                             struct mr_error *error) {
    struct mr_buf payload;
    mr_log_reader_take_payload(fetch->reader, record, &payload);
    enum mr_status status = mr_events_decode(fetch->decoder, record, &payload, ret, error);
    mr_buf_finish(&payload);
    return status;
}

enum mr_status mr_fetch_batch(struct mr_fetch *fetch, uint64_t lsn, struct mr_batch **ret,
                              struct mr_error *error) {
    struct mr_record record = {.lsn = 0};
    enum mr_status status = place(fetch, lsn, lsn, error);
    while (status == MR_OK && record.lsn < lsn) {
        status = next(fetch, lsn, &record, error);
    }
    if (status == MR_OK && record.lsn == lsn && record.type == MR_RECORD_EVENTS) {
        return decode(fetch, &record, ret, error);
    }
    if (status == MR_OK && record.lsn == lsn && record.type == MR_RECORD_REDRIVE) {
        return mr_redrive_decode(fetch->decoder, &record, ret, error);
    }
    if (status == MR_OK || status == MR_END || status == MR_NOT_FOUND) {
        return mr_error_set(error, MR_NOT_FOUND, "record %llu is not in the log any more",
                            (unsigned long long)lsn);
    }
    return status;
}

static bool is_of(const struct mr_fetch *fetch, const struct mr_record *record, uint32_t stream) {
    struct mr_events events;
    struct mr_error error;
    return record->type == MR_RECORD_EVENTS &&
           mr_events_parse(fetch->plan, record, &events, &error) == MR_OK && events.stream == stream;
}

enum mr_status mr_fetch_next(struct mr_fetch *fetch, uint64_t lsn, uint64_t last_lsn, uint32_t stream,
                             struct mr_batch **ret, struct mr_error *error) {
    struct mr_record record = {.lsn = 0};
    enum mr_status status = place(fetch, lsn, last_lsn, error);
    while (status == MR_OK) {
        status = next(fetch, lsn, &record, error);
        if (status == MR_OK && record.lsn >= lsn && is_of(fetch, &record, stream)) {
            return decode(fetch, &record, ret, error);
        }
    }
    return status;
}
