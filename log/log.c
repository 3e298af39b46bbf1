/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The appender. How its order of writes makes recovery possible stands in log/recover.h (P1 to P4).
 */
#include "log/log.h"

#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/hash.h"
#include "log/encoder.h"
#include "log/recover.h"

#include <inttypes.h>

enum {
    ATTEMPTS = 2,
    DISK_BLOCK = 4096,
    LOOK_BYTES = 4 << 20, /* appended between two looks at the free space */
};

struct mr_log {
    struct mr_log_options options; /* dir points to our copy */
    char *dir;
    uint64_t incarnation;
    uint64_t last_lsn;
    uint64_t last_seq;
    uint64_t config_lsn; /* of the last CONFIG record; 0: none met */
    uint64_t gap_lsn;    /* the last that a GAP stands for; 0: none met */
    int64_t recorded_ms;
    bool failed;

    /* The segment being written. */
    struct mr_file *file; /* NULL: none yet */
    struct mr_segment segment;
    uint64_t offset;      /* of the next record */
    uint64_t written_end; /* blocks up to here hold data or written zeros */
    bool closed;          /* takes no more: poisoned, or a successor may have its name already */
    uint32_t number_max;  /* of all segments ever tried */
    struct mr_held held;  /* all segments, with this one */
    bool looked;          /* the disk had room when the segment was written up to looked_at */
    uint64_t looked_at;

    struct mr_encoder encoder;
    struct mr_log_stats stats;
};

void mr_log_check(const struct mr_log *log) {
    MR_ASSERT(log->file != NULL || log->offset == 0);
    MR_ASSERT(log->file == NULL ||
              (log->offset >= MR_SEGMENT_HEADER && log->offset <= log->segment.size));
    MR_ASSERT(log->offset % MR_RECORD_ALIGN == 0);
    MR_ASSERT(log->file == NULL || log->last_lsn + 1 >= log->segment.first_lsn);
    MR_ASSERT(log->number_max >= log->segment.number);
    MR_ASSERT(mr_counter_read(&log->stats.last_lsn) == log->last_lsn);
    MR_ASSERT(log->file == NULL ||
              log->held.items[log->held.current].number == log->segment.number);
    MR_VERIFY((mr_held_check(&log->held), true));
}

static uint64_t round_up(uint64_t value, uint64_t to) {
    return (value + to - 1) / to * to;
}

/* The size of a new segment that begins with a bundle of bundle_bytes. */
static uint64_t segment_size(const struct mr_log *log, uint64_t bundle_bytes) {
    uint64_t need = round_up(MR_SEGMENT_HEADER + bundle_bytes, DISK_BLOCK);
    uint64_t usual = round_up(log->options.segment_bytes, DISK_BLOCK);
    return need > usual ? need : usual;
}

static bool fits(const struct mr_log *log, uint64_t bundle_bytes) {
    return log->file != NULL && !log->closed && bundle_bytes <= log->segment.size - log->offset;
}

/* Asks the disk; within a segment, whose blocks are ours already, only once for each LOOK_BYTES. */
static bool has_space(struct mr_log *log, uint64_t bundle_bytes) {
    bool inside = fits(log, bundle_bytes);
    if (inside && log->looked && log->offset >= log->looked_at &&
        log->offset - log->looked_at < LOOK_BYTES) {
        return true;
    }
    uint64_t need = inside ? 0 : segment_size(log, bundle_bytes);
    uint64_t free_bytes;
    if (mr_disk_free_bytes(log->options.disk, log->dir, &free_bytes) != MR_OK) {
        return true; /* nobody knows; allocating will tell */
    }
    log->looked = free_bytes >= need && free_bytes - need >= log->options.reserve_bytes;
    log->looked_at = log->offset;
    return log->looked;
}

static uint64_t now_ns(const struct mr_log *log) {
    return mr_clock_mono_ns(log->options.clock);
}

static enum mr_status sync_timed(struct mr_log *log) {
    uint64_t before = now_ns(log);
    enum mr_status status = MR_BUG(SYNC_SKIPPED) ? MR_OK : mr_file_sync(log->file);
    if (MR_BUG(SYNC_RETRIED) && status != MR_OK) {
        status = mr_file_sync(log->file);
    }
    mr_histogram_add(&log->stats.sync_ns, now_ns(log) - before);
    return status;
}

/* Of records that were acknowledged without a sync (log.sync: off). */
static enum mr_status sync_acknowledged(struct mr_log *log) {
    enum mr_status status = sync_timed(log);
    if (status != MR_OK) {
        log->failed = true; /* they may be lost: no second try */
    }
    return status;
}

/* made: it is the one being written now; else it was given up when its name may have been there already. There is
 * room. */
static void hold(struct mr_log *log, const struct mr_segment *segment, bool made) {
    const struct mr_held_segment entry = {.number = segment->number,
                                          .first_lsn = segment->first_lsn,
                                          .size = made ? segment->size : 0,
                                          .newest_ms = INT64_MIN};
    mr_held_add(&log->held, &entry);
    log->held.current = made ? log->held.count - 1 : log->held.current;
}

/* What is synced at once gains nothing from the page cache. */
static void go_direct(const struct mr_log *log, struct mr_file *file) {
    if (log->options.sync) {
        mr_file_direct(file);
    }
}

/* Makes the segment that begins with the bundle seq, and leaves the one before. */
static enum mr_status next_segment(struct mr_log *log, uint64_t bundle_bytes, uint64_t seq) {
    struct mr_segment segment = {
        .number = log->number_max + 1,
        .flags = log->options.sync ? 0 : MR_SEGMENT_UNSYNCED,
        .incarnation = log->incarnation,
        .first_lsn = log->last_lsn + 1,
        .first_seq = seq,
        .size = segment_size(log, bundle_bytes),
    };
    struct mr_file *file;
    bool named;
    MR_ASSERT(log->number_max < UINT32_MAX);
    enum mr_status status = mr_held_reserve(&log->held, 1);
    if (status == MR_OK && !log->options.sync && log->file != NULL) {
        status = sync_acknowledged(log); /* what is before a named segment is durable (P2) */
    }
    if (status != MR_OK) {
        return status;
    }
    log->number_max++;
    status = mr_segment_create(log->options.disk, log->dir, &segment, &file, &named);
    if (status != MR_OK) {
        log->closed = log->closed || named;
        if (named) {
            hold(log, &segment, false);
        }
        return status;
    }
    hold(log, &segment, true);
    mr_file_close(log->file);
    go_direct(log, file);
    log->file = file;
    log->segment = segment;
    log->offset = MR_SEGMENT_HEADER;
    log->written_end = MR_SEGMENT_HEADER;
    log->closed = false;
    mr_counter_add(&log->stats.segments, 1);
    return MR_OK;
}

static enum mr_status write_bundle(struct mr_log *log, uint64_t seq, int64_t recorded_ms,
                                   struct mr_log_entry *entries, uint32_t count,
                                   uint64_t bundle_bytes, bool sync) {
    const struct mr_record first = {.segment = log->segment.number,
                                    .lsn = log->last_lsn + 1,
                                    .seq = seq,
                                    .incarnation = log->incarnation,
                                    .recorded_ms = recorded_ms};
    struct mr_encoder *encoder = &log->encoder;
    mr_encoder_bundle(encoder, &first, entries, count);
    uint64_t written_end = mr_encoder_zeros(encoder, bundle_bytes, log->offset + bundle_bytes,
                                            log->written_end, log->segment.size);
    enum mr_status status =
        mr_file_pwritev(log->file, encoder->iov, encoder->iov_count, log->offset);
    if (MR_BUG(ACK_BEFORE_SYNC) && seq % 2 == 1) {
        sync = false;
    }
    if (status == MR_OK && sync) {
        status = sync_timed(log);
    }
    if (status == MR_OK) {
        log->offset += bundle_bytes;
        log->written_end = written_end;
    }
    return status;
}

static void commit(struct mr_log *log, uint64_t seq, int64_t recorded_ms,
                   const struct mr_log_entry *entries, uint32_t count, uint64_t bundle_bytes) {
    struct mr_held_segment *current = &log->held.items[log->held.current];
    current->bytes += bundle_bytes;
    current->records += count;
    current->newest_ms = recorded_ms;
    for (uint32_t i = 0; i < count; i++) {
        log->config_lsn = entries[i].type == MR_RECORD_CONFIG ? entries[i].lsn : log->config_lsn;
    }
    log->last_lsn += count;
    log->last_seq = seq;
    log->recorded_ms = recorded_ms;
    mr_counter_add(&log->stats.bytes, bundle_bytes);
    mr_counter_add(&log->stats.records, count);
    mr_counter_set(&log->stats.last_lsn, log->last_lsn);
    mr_counter_set(&log->stats.last_seq, seq);
    mr_log_check(log);
}

/* A status that says: nothing was written, try again when it is better. */
static bool passes(enum mr_status status) {
    return status == MR_NO_SPACE || status == MR_NO_MEMORY;
}

static enum mr_status append(struct mr_log *log, uint64_t seq, int64_t recorded_ms,
                             struct mr_log_entry *entries, uint32_t count, uint64_t bundle_bytes,
                             bool sync, struct mr_error *error) {
    enum mr_status status = MR_IO;
    for (int attempt = 0; attempt < ATTEMPTS && !log->failed; attempt++) {
        if (!fits(log, bundle_bytes)) {
            status = next_segment(log, bundle_bytes, seq);
            if (passes(status) && !log->failed) {
                return mr_error_set(error, status, "%s: cannot make a segment: %s", log->dir,
                                    mr_status_text(status));
            }
            if (status != MR_OK) {
                mr_counter_add(&log->stats.sync_failures, 1);
                continue;
            }
        }
        status = write_bundle(log, seq, recorded_ms, entries, count, bundle_bytes, sync);
        if (status == MR_OK) {
            commit(log, seq, recorded_ms, entries, count, bundle_bytes);
            return MR_OK;
        }
        log->closed = true; /* what stands in it now nobody knows (P3) */
        mr_counter_add(&log->stats.sync_failures, 1);
    }
    if (passes(status) && !log->failed) {
        return mr_error_set(error, status, "%s: cannot append: %s", log->dir,
                            mr_status_text(status));
    }
    log->failed = true;
    return mr_error_set(error, MR_IO, "%s: cannot append: %s; the log takes no more", log->dir,
                        mr_status_text(status));
}

enum mr_status mr_log_append(struct mr_log *log, uint64_t seq, int64_t recorded_ms,
                             struct mr_log_entry *entries, uint32_t count, struct mr_error *error) {
    MR_ASSERT(seq > log->last_seq);
    MR_ASSERT(count >= 1);
    if (log->failed) {
        return mr_error_set(error, MR_IO, "%s: the log has failed and takes no more", log->dir);
    }
    uint64_t bundle_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t len = mr_encoder_payload_len(&entries[i]);
        if (len > MR_RECORD_PAYLOAD_MAX) {
            return mr_error_set(error, MR_LIMIT, "a record of %zu bytes; at most %u", len,
                                MR_RECORD_PAYLOAD_MAX);
        }
        bundle_bytes += mr_record_size(len);
    }
    if (mr_encoder_reserve(&log->encoder, count) != MR_OK) {
        return mr_error_set(error, MR_NO_MEMORY, "%s: no memory to append", log->dir);
    }
    if (!has_space(log, bundle_bytes)) {
        return mr_error_set(error, MR_NO_SPACE, "%s: less than the reserve would stay free",
                            log->dir);
    }
    return append(log, seq, recorded_ms, entries, count, bundle_bytes, log->options.sync, error);
}

enum mr_status mr_log_sync(struct mr_log *log, struct mr_error *error) {
    if (log->failed) {
        return mr_error_set(error, MR_IO, "%s: the log has failed", log->dir);
    }
    enum mr_status status = log->options.sync ? MR_OK : sync_acknowledged(log);
    if (status != MR_OK) {
        mr_counter_add(&log->stats.sync_failures, 1);
        return mr_error_set(error, MR_IO, "%s: cannot sync: %s; the log takes no more", log->dir,
                            mr_status_text(status));
    }
    return MR_OK;
}

enum mr_status mr_log_trim(struct mr_log *log, const struct mr_log_retention *retention,
                           bool *ret_removed, struct mr_error *error) {
    struct mr_log_stats *stats = &log->stats;
    struct mr_held_segment oldest;
    bool goes;
    *ret_removed = false;
    enum mr_status status = mr_held_oldest_goes(&log->held, log->options.disk, log->dir, retention,
                                                log->recorded_ms, &goes, error);
    if (status != MR_OK || !goes) {
        return status;
    }
    status = mr_held_remove_oldest(&log->held, log->options.disk, log->dir, &oldest, error);
    if (status != MR_OK) {
        return status;
    }
    mr_counter_set(&stats->bytes, mr_counter_read(&stats->bytes) - oldest.bytes);
    mr_counter_set(&stats->records, mr_counter_read(&stats->records) - oldest.records);
    if (oldest.size > 0) { /* a ghost was never counted */
        mr_counter_set(&stats->segments, mr_counter_read(&stats->segments) - 1);
    }
    mr_log_check(log);
    *ret_removed = true;
    return MR_OK;
}

uint64_t mr_log_config_lsn(const struct mr_log *log) {
    return log->config_lsn;
}

uint64_t mr_log_gap_lsn(const struct mr_log *log) {
    return log->gap_lsn;
}

uint64_t mr_log_first_lsn(const struct mr_log *log) {
    MR_ASSERT(log->held.count > 0);
    return log->held.items[0].first_lsn;
}

bool mr_log_has_room(struct mr_log *log, uint64_t bytes) {
    return !log->failed && has_space(log, bytes);
}

bool mr_log_failed(const struct mr_log *log) {
    return log->failed;
}

uint64_t mr_log_last_seq(const struct mr_log *log) {
    return log->last_seq;
}

uint64_t mr_log_last_lsn(const struct mr_log *log) {
    return log->last_lsn;
}

uint64_t mr_log_incarnation(const struct mr_log *log) {
    return log->incarnation;
}

int64_t mr_log_last_recorded_ms(const struct mr_log *log) {
    return log->recorded_ms;
}

const struct mr_log_stats *mr_log_stats(const struct mr_log *log) {
    return &log->stats;
}

void mr_log_close(struct mr_log *log) {
    if (log == NULL) {
        return;
    }
    mr_file_close(log->file);
    mr_held_finish(&log->held);
    mr_encoder_finish(&log->encoder);
    mr_free(log->dir);
    mr_free(log);
}

static enum mr_status make(const struct mr_log_options *options, struct mr_log **ret) {
    struct mr_log *log = mr_alloc_zero(1, sizeof *log);
    size_t len = strlen(options->dir) + 1;
    char *dir = mr_alloc(len);
    if (log == NULL || dir == NULL) {
        mr_free(log);
        mr_free(dir);
        return MR_NO_MEMORY;
    }
    memcpy(dir, options->dir, len);
    log->options = *options;
    log->options.dir = dir;
    log->options.from_lsn = options->from_lsn == 0 ? 1 : options->from_lsn;
    log->dir = dir;
    log->recorded_ms = INT64_MIN;
    *ret = log;
    return MR_OK;
}

/* The START goes on in the last segment when it has room and the same way of syncing; an unsynced
 * one is never continued, so that what is before a START is as good as synced. */
static enum mr_status resume_segment(struct mr_log *log, const struct mr_segment_summary *last,
                                     struct mr_error *error) {
    struct mr_segment segment = last->segment;
    if (!log->options.sync || (segment.flags & MR_SEGMENT_UNSYNCED) != 0) {
        return MR_OK;
    }
    struct mr_file *file;
    enum mr_status status =
        mr_segment_open(log->options.disk, log->dir, MR_FILE_WRITE, &segment, &file, error);
    if (status == MR_OK) {
        go_direct(log, file);
        log->file = file;
        log->segment = segment;
        log->offset = last->end;
        log->written_end = last->end;
    }
    return status;
}

/* A log that is not all that is needed, as far as segment and offset: only a copy has the rest, and only who runs this
 * can say that it is lost for good. */
static enum mr_status lacks(const struct mr_log *log, const struct mr_segment *segment,
                            uint64_t offset, const char *what, uint64_t lsn, uint64_t needed_lsn,
                            const char *how, struct mr_error *error) {
    char name[MR_SEGMENT_NAME_MAX];
    mr_segment_name(segment, name);
    return mr_error_set(error, MR_CORRUPT,
                        "%s/%s: offset %" PRIu64 ": the log %s lsn %" PRIu64 ", but lsn %" PRIu64
                        " is needed: its %s; restore them, or `millrace log repair %s %" PRIu64
                        "` puts a gap in their place",
                        log->dir, name, offset, what, lsn, needed_lsn, how, log->dir,
                        log->options.from_lsn);
}

/* What can be done about it, where something can. */
static void advise(const struct mr_log *log, enum mr_status status, struct mr_error *error) {
    char text[MR_ERROR_TEXT_MAX];
    if (status == MR_CORRUPT && error != NULL) {
        memcpy(text, error->text, sizeof text);
        (void)mr_error_set(error, status, "%s; `millrace log repair %s` quarantines the damage",
                           text, log->dir);
    }
}

static enum mr_status recover(struct mr_log *log, const struct mr_segments *segments,
                              struct mr_error *error) {
    struct mr_recovery recovery;
    uint64_t from_lsn = log->options.from_lsn;
    uint64_t first_lsn = segments->items[0].first_lsn;
    if (log->options.begins_anywhere && first_lsn > from_lsn) {
        from_lsn = first_lsn;
        log->options.from_lsn = first_lsn;
    }
    if (first_lsn > from_lsn) {
        return lacks(log, &segments->items[0], 0, "begins at", first_lsn, from_lsn,
                     "first segments are missing", error);
    }
    enum mr_status status =
        mr_recover(log->options.disk, log->dir, segments, from_lsn, &recovery, error);
    if (status != MR_OK) {
        advise(log, status, error);
        return status;
    }
    log->incarnation = segments->items[0].incarnation;
    log->held = recovery.held;
    log->last_lsn = recovery.chain.next_lsn - 1;
    log->last_seq = recovery.chain.seq;
    log->config_lsn = recovery.config_lsn;
    log->gap_lsn = recovery.gap_lsn;
    log->recorded_ms = recovery.recorded_ms;
    mr_counter_set(&log->stats.bytes, recovery.bytes);
    mr_counter_set(&log->stats.segments, segments->count);
    mr_counter_set(&log->stats.records, recovery.records);
    mr_counter_set(&log->stats.last_lsn, log->last_lsn);
    mr_counter_set(&log->stats.last_seq, log->last_seq);
    mr_counter_set(&log->stats.torn_bytes, recovery.last.dirty_end - recovery.last.end);
    if (log->last_lsn < from_lsn - 1) {
        return lacks(log, &recovery.last.segment, recovery.last.end, "ends at", log->last_lsn,
                     from_lsn - 1, "last segments are missing or damaged", error);
    }
    return resume_segment(log, &recovery.last, error);
}

static enum mr_status begin(struct mr_log *log, struct mr_error *error) {
    enum mr_status status = MR_OK;
    if (log->options.from_lsn > 1) {
        return mr_error_set(error, MR_CORRUPT,
                            "%s: lsn %" PRIu64
                            " is needed, but the log files are missing; restore them",
                            log->dir, log->options.from_lsn - 1);
    }
    log->incarnation = log->options.incarnation;
    while (status == MR_OK && log->incarnation == 0) {
        status = mr_random_bytes(&log->incarnation, sizeof log->incarnation);
    }
    return status;
}

/* The START record, synced in either mode: what is before it is durable, and it says so. */
static enum mr_status start(struct mr_log *log, struct mr_error *error) {
    struct mr_log_entry entry = {.type = MR_RECORD_START};
    int64_t recorded_ms = log->recorded_ms;
    enum mr_status status = mr_encoder_reserve(&log->encoder, 1);
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s: no memory to open", log->dir);
    }
    status = append(log, log->last_seq + 1, recorded_ms == INT64_MIN ? 0 : recorded_ms, &entry, 1,
                    mr_record_size(0), true, error);
    log->recorded_ms = recorded_ms;
    return status;
}

enum mr_status mr_log_open(const struct mr_log_options *options, struct mr_log **ret,
                           struct mr_error *error) {
    struct mr_segments segments = {0};
    struct mr_log *log = NULL;
    MR_ASSERT(options->disk != NULL && options->clock != NULL && options->dir != NULL);
    MR_ASSERT(options->segment_bytes > MR_SEGMENT_HEADER);
    enum mr_status status = make(options, &log);
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s: no memory to open", options->dir);
    }
    status = mr_disk_mkdir(options->disk, log->dir);
    if (status != MR_OK) {
        (void)mr_error_set(error, status, "%s: cannot make: %s", log->dir, mr_status_text(status));
        goto fail;
    }
    status = mr_segments_remove_unfinished(options->disk, log->dir);
    if (status != MR_OK) {
        (void)mr_error_set(error, status, "%s: cannot tidy: %s", log->dir, mr_status_text(status));
        goto fail;
    }
    status = mr_segments_list(options->disk, log->dir, &segments, error);
    if (status != MR_OK) {
        advise(log, status, error);
        goto fail;
    }
    log->number_max = segments.number_max;
    status = segments.count > 0 ? recover(log, &segments, error) : begin(log, error);
    if (status == MR_OK) {
        status = start(log, error);
    }
    if (status != MR_OK) {
        goto fail;
    }
    mr_segments_finish(&segments);
    *ret = log;
    return MR_OK;
fail:
    mr_segments_finish(&segments);
    mr_log_close(log);
    return status;
}
