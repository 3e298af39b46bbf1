/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader: follows the log from segment to segment, also beside an appender.
 *
 *     at a record            hand it out
 *     at the next's first    go to the next segment (what stands here behind is superseded)
 *     at anything else       look for new segments; none: it is the end, a torn tail, or
 *                            corruption, which mr_recover_judge tells apart
 */
#include "log/log.h"

#include "base/alloc.h"
#include "base/check.h"
#include "log/recover.h"

#include <inttypes.h>

struct mr_log_reader {
    struct mr_disk *disk;
    char *dir;
    struct mr_segments segments; /* as last listed; [at] is the one being read */
    uint32_t at;
    bool opened; /* frames are of segments[at] */
    struct mr_frames frames;
    struct mr_chain chain;
    uint64_t from_seq;
    uint64_t from_lsn;
    uint64_t limit;
    bool begun;          /* handed out a record: what follows has no hole */
    uint64_t judged_lsn; /* the tail behind this next lsn was looked at: nothing later is there */
};

/* To the beginning of segment i, which begins the chain anew: only for what lies before the first
 * record. */
static void jump(struct mr_log_reader *reader, uint32_t i) {
    mr_frames_close(&reader->frames);
    reader->at = i;
    reader->opened = false;
    reader->judged_lsn = 0;
    reader->chain = mr_recover_chain(&reader->segments, i);
}

/* To the last segment that cannot begin behind what is asked for. */
static void jump_to_asked(struct mr_log_reader *reader) {
    uint32_t i = 0;
    for (uint32_t next = 1; next < reader->segments.count; next++) {
        const struct mr_segment *segment = &reader->segments.items[next];
        bool by_seq = segment->first_seq <= reader->from_seq;
        bool by_lsn = reader->from_lsn > 0 && segment->first_lsn <= reader->from_lsn;
        i = by_seq || by_lsn ? next : i;
    }
    jump(reader, i);
}

/* The segments as they are now. *ret_gone: the one we are at is not among them, and where we are
 * must be said anew. */
static enum mr_status refresh(struct mr_log_reader *reader, bool *ret_gone,
                              struct mr_error *error) {
    struct mr_segments fresh;
    enum mr_status status = mr_segments_list(reader->disk, reader->dir, &fresh, error);
    if (status != MR_OK) {
        return status;
    }
    uint32_t number = reader->segments.count > 0 ? reader->segments.items[reader->at].number : 0;
    uint32_t at = 0;
    while (at < fresh.count && fresh.items[at].number != number) {
        at++;
    }
    uint64_t first_lsn = fresh.count > 0 ? fresh.items[0].first_lsn : 0;
    uint64_t next_lsn = reader->chain.next_lsn;
    *ret_gone = at == fresh.count;
    if (*ret_gone && reader->begun && first_lsn > next_lsn) {
        mr_segments_finish(&fresh);
        return mr_error_set(error, MR_NOT_FOUND,
                            "%s: lsn %" PRIu64
                            " is the next to be read, but it was removed: the log "
                            "begins at lsn %" PRIu64 " now",
                            reader->dir, next_lsn, first_lsn);
    }
    mr_segments_finish(&reader->segments);
    reader->segments = fresh;
    reader->at = at < fresh.count ? at : 0;
    return MR_OK;
}

/* What is gone was taken back by an appender that could not finish it, or removed by retention: what we have not read
 * stands in another. */
static enum mr_status list(struct mr_log_reader *reader, struct mr_error *error) {
    bool gone;
    enum mr_status status = refresh(reader, &gone, error);
    if (status != MR_OK || !gone) {
        return status;
    }
    mr_frames_close(&reader->frames);
    reader->opened = false;
    if (reader->from_lsn < reader->chain.next_lsn) {
        reader->from_lsn = reader->chain.next_lsn;
    }
    if (reader->segments.count > 0) {
        jump_to_asked(reader);
    }
    return MR_OK;
}

enum mr_status mr_log_reader_open(struct mr_disk *disk, const char *dir, uint64_t from_seq,
                                  struct mr_log_reader **ret, struct mr_error *error) {
    struct mr_log_reader *reader = mr_alloc_zero(1, sizeof *reader);
    size_t len = strlen(dir) + 1;
    char *copy = mr_alloc(len);
    if (reader == NULL || copy == NULL) {
        mr_free(reader);
        mr_free(copy);
        return mr_error_set(error, MR_NO_MEMORY, "%s: no memory to read", dir);
    }
    memcpy(copy, dir, len);
    reader->disk = disk;
    reader->dir = copy;
    reader->from_seq = from_seq;
    reader->limit = UINT64_MAX;
    bool gone;
    enum mr_status status = refresh(reader, &gone, error);
    if (status != MR_OK) {
        mr_log_reader_close(reader);
        return status;
    }
    if (reader->segments.count > 0) {
        jump_to_asked(reader);
    }
    *ret = reader;
    return MR_OK;
}

void mr_log_reader_close(struct mr_log_reader *reader) {
    if (reader == NULL) {
        return;
    }
    mr_frames_close(&reader->frames);
    mr_segments_finish(&reader->segments);
    mr_free(reader->dir);
    mr_free(reader);
}

enum mr_status mr_log_reader_seek(struct mr_log_reader *reader, uint64_t lsn,
                                  struct mr_error *error) {
    bool gone;
    reader->from_lsn = lsn;
    reader->begun = false;
    enum mr_status status = refresh(reader, &gone, error);
    if (status == MR_OK && reader->segments.count > 0) {
        jump_to_asked(reader);
    }
    return status;
}

void mr_log_reader_limit(struct mr_log_reader *reader, uint64_t last_lsn) {
    reader->limit = last_lsn;
}

static enum mr_status open_segment(struct mr_log_reader *reader, struct mr_error *error) {
    struct mr_segment segment = reader->segments.items[reader->at];
    struct mr_file *file;
    enum mr_status status =
        mr_segment_open(reader->disk, reader->dir, MR_FILE_READ, &segment, &file, error);
    if (status == MR_OK) {
        status = mr_frames_open(file, &segment, &reader->frames);
        if (status != MR_OK) {
            (void)mr_error_set(error, status, "%s: no memory to read", reader->dir);
        }
    }
    reader->opened = status == MR_OK;
    return status == MR_NOT_FOUND ? list(reader, error) : status;
}

static void next_segment(struct mr_log_reader *reader) {
    uint32_t i = reader->at + 1;
    uint64_t next_lsn = reader->chain.next_lsn;
    if (reader->segments.items[i].first_lsn < next_lsn) {
        /* We read, without a limit, what was then written again: the same records, once only. */
        reader->from_lsn = reader->from_lsn > next_lsn ? reader->from_lsn : next_lsn;
        jump(reader, i);
        return;
    }
    mr_frames_close(&reader->frames);
    reader->opened = false;
    reader->at = i;
}

/* Places the reader where the next record should be: MR_END beyond the limit or in an empty log. */
static enum mr_status place(struct mr_log_reader *reader, struct mr_error *error) {
    if (reader->segments.count == 0) {
        enum mr_status status = list(reader, error);
        if (status != MR_OK || reader->segments.count == 0) {
            return status == MR_OK ? MR_END : status;
        }
    }
    while (reader->chain.next_lsn >= mr_segments_cut(&reader->segments, reader->at)) {
        next_segment(reader);
    }
    if (reader->chain.next_lsn > reader->limit) {
        return MR_END;
    }
    return MR_OK;
}

static bool wanted(const struct mr_log_reader *reader, const struct mr_record *record) {
    return record->seq >= reader->from_seq &&
           record->lsn + record->lsn_count > reader->from_lsn; /* a GAP may begin before it */
}

/* One record: read whole when it is wanted, else its header only. */
static enum mr_status step(struct mr_log_reader *reader, struct mr_record *ret,
                           const char **ret_why) {
    struct mr_frames *frames = &reader->frames;
    uint64_t offset = frames->offset;
    struct mr_chain chain = reader->chain;
    enum mr_status status = mr_frames_skip(frames, &chain, ret, ret_why);
    if (status != MR_OK) {
        return status;
    }
    if (!wanted(reader, ret)) {
        reader->chain = chain;
        return MR_OK;
    }
    frames->offset = offset;
    return mr_frames_next(frames, &reader->chain, ret, ret_why);
}

static enum mr_status corrupt(const struct mr_log_reader *reader, enum mr_status status,
                              const char *why, struct mr_error *error) {
    char name[MR_SEGMENT_NAME_MAX];
    mr_segment_name(&reader->frames.segment, name);
    return mr_error_set(
        error, MR_CORRUPT, "%s/%s: offset %" PRIu64 ": %s where lsn %" PRIu64 " was", reader->dir,
        name, reader->frames.offset, status == MR_END ? "zeros" : why, reader->chain.next_lsn);
}

/* Whether there is a record at the place when the file is read anew: MR_OK, or why not. */
static enum mr_status look_again(struct mr_log_reader *reader, const char **ret_why) {
    struct mr_record record;
    struct mr_chain chain = reader->chain;
    uint64_t offset = reader->frames.offset;
    mr_frames_forget(&reader->frames);
    enum mr_status status = mr_frames_next(&reader->frames, &chain, &record, ret_why);
    reader->frames.offset = offset;
    return status;
}

/* No record at the place, as far as the window goes. MR_OK: read again. */
static enum mr_status no_record(struct mr_log_reader *reader, struct mr_error *error) {
    const char *why = "";
    uint64_t cut_before = mr_segments_cut(&reader->segments, reader->at);
    enum mr_status status = look_again(reader, &why);
    if (status != MR_END && status != MR_CORRUPT) {
        return status == MR_OK ? MR_OK
                               : mr_error_set(error, status, "%s: cannot read: %s", reader->dir,
                                              mr_status_text(status));
    }
    mr_frames_forget(&reader->frames);
    enum mr_status listed = list(reader, error);
    if (listed != MR_OK) {
        return listed;
    }
    if (!reader->opened || mr_segments_cut(&reader->segments, reader->at) != cut_before) {
        return MR_OK; /* what the new one makes certain is read again */
    }
    bool durable =
        reader->limit != UINT64_MAX; /* place() saw that the record is within the limit */
    if (reader->at + 1 < reader->segments.count || durable) {
        return corrupt(reader, status, why, error);
    }
    if (status == MR_END && reader->judged_lsn == reader->chain.next_lsn) {
        return MR_END;
    }
    struct mr_tail tail;
    status = mr_recover_judge(&reader->frames, &reader->chain, reader->dir, why, &tail, error);
    mr_frames_forget(&reader->frames);
    reader->judged_lsn = status == MR_END ? reader->chain.next_lsn : 0;
    return status;
}

enum mr_status mr_log_reader_next(struct mr_log_reader *reader, struct mr_record *ret,
                                  struct mr_error *error) {
    for (;;) {
        struct mr_record record;
        const char *why = "";
        enum mr_status status = place(reader, error);
        if (status != MR_OK) {
            return status;
        }
        if (!reader->opened) {
            status = open_segment(reader, error);
            if (status != MR_OK) {
                return status;
            }
            continue; /* or it was gone, and the list is fresh */
        }
        status = step(reader, &record, &why);
        if (status == MR_OK && wanted(reader, &record)) {
            MR_ASSERT(record.lsn <= reader->limit && record.payload.ptr != NULL);
            reader->begun = true;
            *ret = record;
            return MR_OK;
        }
        if (status == MR_END || status == MR_CORRUPT) {
            status = no_record(reader, error);
        } else if (status != MR_OK) {
            (void)mr_error_set(error, status, "%s: cannot read: %s", reader->dir,
                               mr_status_text(status));
        }
        if (status != MR_OK) {
            return status;
        }
    }
}

void mr_log_reader_take_payload(struct mr_log_reader *reader, const struct mr_record *record, struct mr_buf *ret) {
    mr_frames_take_payload(&reader->frames, record, ret);
}

/* What looks corrupt beside an appender may have been a bundle half written, and the next one behind it: it is whole by
 * then, so the next look comes further. */
enum mr_status mr_log_extent_scan(struct mr_disk *disk, const char *dir, struct mr_log_extent *ret,
                                  struct mr_error *error) {
    struct mr_log_reader *reader = NULL;
    struct mr_record record;
    uint64_t met_lsn = 0;
    enum mr_status status = mr_log_reader_open(disk, dir, UINT64_MAX, &reader, error);
    if (status == MR_OK) {
        status = mr_log_reader_seek(reader, MR_LSN_MAX, error);
    }
    if (status == MR_OK && reader->segments.count == 0) {
        status = mr_error_set(error, MR_NOT_FOUND, "%s: no segment of a log", dir);
    }
    while (status == MR_OK || (status == MR_CORRUPT && reader->chain.next_lsn != met_lsn)) {
        met_lsn = reader->chain.next_lsn;
        status = mr_log_reader_next(reader, &record, error);
    }
    if (status == MR_END) {
        *ret = (struct mr_log_extent){.first_lsn = reader->segments.items[0].first_lsn,
                                      .last_lsn = reader->chain.next_lsn - 1,
                                      .last_seq = reader->chain.seq};
        status = MR_OK;
    }
    mr_log_reader_close(reader);
    return status;
}
