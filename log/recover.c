/* SPDX-License-Identifier: Apache-2.0 */
#include "log/recover.h"

#include "base/alloc.h"
#include "base/check.h"
#include "log/walk.h"

#include <inttypes.h>

enum { COPY_PART = 256 << 10 };

struct mr_chain mr_recover_chain(const struct mr_segments *segments, uint32_t i) {
    MR_ASSERT(i < segments->count);
    const struct mr_segment *segment = &segments->items[i];
    MR_ASSERT(segment->first_lsn > 0 && segment->first_seq > 0);
    return (struct mr_chain){.next_lsn = segment->first_lsn, .seq = segment->first_seq - 1};
}

static enum mr_status corrupt_at(const char *dir, const struct mr_frames *frames,
                                 const struct mr_chain *chain, const char *why, const char *proof,
                                 uint64_t proof_number, struct mr_error *error) {
    char name[MR_SEGMENT_NAME_MAX];
    mr_segment_name(&frames->segment, name);
    return mr_error_set(error, MR_CORRUPT,
                        "%s/%s: offset %" PRIu64 ": %s where lsn %" PRIu64 " was, but %s %" PRIu64,
                        dir, name, frames->offset, why, chain->next_lsn, proof, proof_number);
}

enum mr_status mr_recover_judge(struct mr_frames *frames, const struct mr_chain *chain,
                                const char *dir, const char *why, struct mr_tail *ret,
                                struct mr_error *error) {
    enum mr_status status = mr_frames_tail(frames, mr_chain_open_lsn(chain), ret);
    if (status == MR_CORRUPT) {
        ret->later = frames->offset;
    } else if (status != MR_OK) {
        return mr_error_set(error, status, "%s: cannot read: %s", dir, mr_status_text(status));
    } else if (ret->later == 0 || (frames->segment.flags & MR_SEGMENT_UNSYNCED) != 0) {
        return MR_END;
    }
    /* Perhaps it was all written between our reads: then what is there first is sound by now. */
    uint64_t offset = frames->offset;
    struct mr_chain copy = *chain;
    struct mr_record record;
    mr_frames_forget(frames);
    status = mr_frames_next(frames, &copy, &record, &why);
    if (status == MR_OK) {
        frames->offset = offset;
        return MR_OK;
    }
    if (status != MR_CORRUPT && status != MR_END) {
        return mr_error_set(error, status, "%s: cannot read: %s", dir, mr_status_text(status));
    }
    MR_ASSERT(frames->offset == offset);
    return corrupt_at(dir, frames, chain, status == MR_END ? "zeros" : why,
                      "a record of a later bundle stands at offset", ret->later, error);
}

static void note(struct mr_segment_summary *summary, const struct mr_record *record,
                 uint64_t offset_before, uint64_t offset) {
    if (summary->records == 0) {
        summary->first_ms = record->recorded_ms;
    }
    if (record->bundle_index == 0) {
        summary->bundle_start = offset_before;
    }
    if (record->type == MR_RECORD_GAP) {
        summary->lost += record->lsn_count;
        summary->gap_lsn = record->lsn + record->lsn_count - 1;
    }
    if (record->type == MR_RECORD_CONFIG) {
        summary->config_lsn = record->lsn;
    }
    summary->records++;
    summary->last_lsn = record->lsn + record->lsn_count - 1;
    summary->last_seq = record->seq;
    summary->last_ms = record->recorded_ms;
    summary->end = offset;
    summary->dirty_end = offset;
}

/* Where the walk met no record: the end (MR_END), try again (MR_OK), or corruption. */
static enum mr_status at_no_record(struct mr_frames *frames, const struct mr_chain *chain,
                                   const char *dir, uint64_t cut, enum mr_status status,
                                   const char *why, struct mr_segment_summary *summary,
                                   struct mr_error *error) {
    if (status != MR_END && status != MR_CORRUPT) {
        return mr_error_set(error, status, "%s: cannot read: %s", dir, mr_status_text(status));
    }
    why = status == MR_END ? "zeros" : why;
    if (cut != UINT64_MAX) {
        return corrupt_at(dir, frames, chain, why, "the next segment begins at lsn", cut, error);
    }
    struct mr_tail tail = {0};
    status = mr_recover_judge(frames, chain, dir, why, &tail, error);
    if (status == MR_END) {
        summary->dirty_end = tail.dirty_end;
    }
    return status;
}

enum mr_status mr_recover_segment(struct mr_disk *disk, const char *dir,
                                  const struct mr_segments *segments, uint32_t i,
                                  struct mr_chain *chain, mr_record_visit *visit, void *ctx,
                                  struct mr_segment_summary *ret, struct mr_error *error) {
    struct mr_segment segment = segments->items[i];
    struct mr_frames frames = {0};
    struct mr_file *file;
    uint64_t cut = mr_segments_cut(segments, i);
    MR_ASSERT(chain->next_lsn == segment.first_lsn);
    *ret = (struct mr_segment_summary){.segment = segment,
                                       .end = MR_SEGMENT_HEADER,
                                       .bundle_start = MR_SEGMENT_HEADER,
                                       .dirty_end = MR_SEGMENT_HEADER};
    enum mr_status status = mr_segment_open(disk, dir, MR_FILE_READ, &segment, &file, error);
    if (status == MR_OK) {
        status = mr_frames_open(file, &segment, &frames);
        if (status != MR_OK) {
            (void)mr_error_set(error, status, "%s: %s", dir, mr_status_text(status));
        }
    }
    while (status == MR_OK && chain->next_lsn < cut) {
        struct mr_record record;
        const char *why = "";
        uint64_t before = frames.offset;
        status = mr_frames_next(&frames, chain, &record, &why);
        if (status == MR_OK) {
            note(ret, &record, before, frames.offset);
            status = visit == NULL ? MR_OK : visit(ctx, &record);
        } else {
            status = at_no_record(&frames, chain, dir, cut, status, why, ret, error);
        }
    }
    if (status == MR_OK && chain->next_lsn > cut) {
        status = corrupt_at(dir, &frames, chain, "a gap that ends",
                            "the next segment begins at lsn", cut, error);
    }
    mr_frames_close(&frames);
    MR_ASSERT(ret->end <= segment.size && ret->bundle_start <= ret->end);
    return status == MR_END ? MR_OK : status;
}

/* Writes [from, to) of the file again, with what it reads there. */
static enum mr_status rewrite(struct mr_file *file, uint64_t from, uint64_t to, uint8_t *buf,
                              size_t cap) {
    enum mr_status status = MR_OK;
    for (uint64_t at = from; status == MR_OK && at < to;) {
        size_t want = to - at < cap ? (size_t)(to - at) : cap;
        size_t got;
        status = mr_file_pread(file, buf, want, at, &got);
        if (status == MR_OK && got < want) {
            status = MR_IO;
        }
        if (status == MR_OK) {
            status = mr_file_pwrite(file, mr_bytes_of(buf, want), at);
        }
        at += want;
    }
    return status;
}

static enum mr_status write_zeros(struct mr_file *file, uint64_t from, uint64_t to, uint8_t *buf,
                                  size_t cap) {
    enum mr_status status = MR_OK;
    memset(buf, 0, cap);
    for (uint64_t at = from; status == MR_OK && at < to;) {
        size_t len = to - at < cap ? (size_t)(to - at) : cap;
        status = mr_file_pwrite(file, mr_bytes_of(buf, len), at);
        at += len;
    }
    return status;
}

/* The end of the log, made to be what was read: the last bundle durable, zeros behind it. */
static enum mr_status settle(struct mr_disk *disk, const char *dir,
                             const struct mr_segment_summary *last, struct mr_error *error) {
    struct mr_segment segment = last->segment;
    struct mr_file *file = NULL;
    enum mr_status status = mr_segment_open(disk, dir, MR_FILE_WRITE, &segment, &file, error);
    if (status != MR_OK) {
        return status;
    }
    /* A sync that failed may have left earlier bundles in the page cache alone, if they were not synced one by one. */
    bool unsynced = (segment.flags & MR_SEGMENT_UNSYNCED) != 0;
    uint64_t from = unsynced ? MR_SEGMENT_HEADER : last->bundle_start;
    uint64_t most = last->dirty_end - from;
    size_t cap = most < COPY_PART ? (size_t)most + 1 : COPY_PART;
    uint8_t *buf = mr_alloc(cap);
    status = buf == NULL ? MR_NO_MEMORY : rewrite(file, from, last->end, buf, cap);
    if (status == MR_OK) {
        status = write_zeros(file, last->end, last->dirty_end, buf, cap);
    }
    if (status == MR_OK) {
        status = mr_file_sync(file);
    }
    if (status != MR_OK) {
        (void)mr_error_set(error, status, "%s: cannot write the log's end: %s", dir,
                           mr_status_text(status));
    }
    mr_free(buf);
    mr_file_close(file);
    return status;
}

/* From the segment first on: what is before it was synced before a checkpoint said so. */
static enum mr_status sync_from(struct mr_disk *disk, const char *dir,
                                const struct mr_segments *segments, uint32_t first,
                                struct mr_error *error) {
    for (uint32_t i = first; i < segments->count; i++) {
        struct mr_segment segment = segments->items[i];
        struct mr_file *file;
        enum mr_status status = mr_segment_open(disk, dir, MR_FILE_WRITE, &segment, &file, error);
        if (status != MR_OK) {
            return status;
        }
        status = mr_file_sync(file);
        mr_file_close(file);
        if (status != MR_OK) {
            return mr_error_set(error, status, "%s: cannot sync: %s", dir, mr_status_text(status));
        }
    }
    enum mr_status status = mr_disk_sync_dir(disk, dir);
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s: cannot sync: %s", dir, mr_status_text(status));
    }
    return MR_OK;
}

static void hold(struct mr_recovery *recovery, const struct mr_segment *segment, uint64_t records,
                 uint64_t bytes, int64_t newest_ms) {
    const struct mr_held_segment held = {.number = segment->number,
                                         .first_lsn = segment->first_lsn,
                                         .size = segment->size,
                                         .bytes = bytes,
                                         .records = records,
                                         .newest_ms = newest_ms};
    mr_held_add(&recovery->held, &held);
    recovery->held.current = recovery->held.count - 1;
    recovery->records += records;
    recovery->bytes += bytes;
}

/* Syncs and walks from the segment first on. *ret_found: a record. */
static enum mr_status walk_from(struct mr_disk *disk, const char *dir,
                                const struct mr_segments *segments, uint32_t first,
                                struct mr_recovery *recovery, bool *ret_found,
                                struct mr_error *error) {
    const struct mr_segment *items = segments->items;
    *recovery =
        (struct mr_recovery){.chain = mr_recover_chain(segments, first), .recorded_ms = INT64_MIN};
    *ret_found = false;
    if (mr_held_reserve(&recovery->held, segments->count) != MR_OK) {
        return mr_error_set(error, MR_NO_MEMORY, "%s: no memory to open", dir);
    }
    for (uint32_t i = 0; i < first; i++) {
        hold(recovery, &items[i], mr_segments_cut(segments, i) - items[i].first_lsn, items[i].size,
             MR_HELD_UNKNOWN);
    }
    enum mr_status status = sync_from(disk, dir, segments, first, error);
    struct mr_walked *walked = status == MR_OK ? mr_walk_open(disk, dir, segments, first) : NULL;
    for (uint32_t i = first; status == MR_OK && i < segments->count; i++) {
        struct mr_segment_summary *s = &recovery->last;
        if (walked != NULL) {
            *s = walked[i - first].summary;
            recovery->chain = walked[i - first].chain;
        } else {
            status = mr_recover_segment(disk, dir, segments, i, &recovery->chain, NULL, NULL, s, error);
        }
        if (status == MR_OK) {
            *ret_found = *ret_found || s->records > 0;
            recovery->config_lsn = s->config_lsn != 0 ? s->config_lsn : recovery->config_lsn;
            recovery->gap_lsn = s->gap_lsn != 0 ? s->gap_lsn : recovery->gap_lsn;
            hold(recovery, &s->segment, s->records, s->end - MR_SEGMENT_HEADER,
                 s->records > 0 ? s->last_ms : INT64_MIN);
            recovery->recorded_ms =
                s->records > 0 && s->last_ms != 0 ? s->last_ms : recovery->recorded_ms;
        }
    }
    mr_free(walked);
    return status;
}

enum mr_status mr_recover(struct mr_disk *disk, const char *dir, const struct mr_segments *segments,
                          uint64_t from_lsn, struct mr_recovery *ret, struct mr_error *error) {
    struct mr_recovery recovery;
    bool found;
    uint32_t first = 0;
    MR_ASSERT(segments->count > 0);
    while (first + 1 < segments->count && segments->items[first + 1].first_lsn <= from_lsn) {
        first++;
    }
    enum mr_status status = walk_from(disk, dir, segments, first, &recovery, &found, error);
    while (status == MR_OK && !found && first > 0) {
        first--;
        mr_held_finish(&recovery.held);
        status = walk_from(disk, dir, segments, first, &recovery, &found, error);
    }
    if (status == MR_OK && recovery.chain.next_lsn >= from_lsn) {
        status = settle(disk, dir, &recovery.last, error);
    }
    if (status != MR_OK) {
        mr_held_finish(&recovery.held);
        return status;
    }
    mr_held_check(&recovery.held);
    *ret = recovery;
    return MR_OK;
}
