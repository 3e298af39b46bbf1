/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/rot.h"

#include "base/check.h"
#include "log/record.h"

static const char log_dir[] = "data/log";

struct frame {
    uint64_t offset;
    struct mr_record record;
};

/* The frame at the offset, as far as its header tells. */
static bool read_frame(struct mr_bytes content, uint32_t segment, uint64_t offset, struct frame *ret) {
    uint64_t check;
    ret->offset = offset;
    return offset + MR_RECORD_HEADER <= content.len &&
           mr_record_decode(content.ptr + offset, &ret->record, &check) == MR_OK &&
           ret->record.segment == segment;
}

static uint64_t bundle_lsn(const struct mr_record *record) {
    return record->lsn - record->bundle_index;
}

/* Counts the frames of a segment below lsn `cut`, and keeps the chosen one (UINT64_MAX: none). */
static uint64_t walk(struct mr_bytes content, uint32_t segment, uint64_t cut, uint64_t chosen,
                     struct frame *ret) {
    struct frame frame;
    uint64_t count = 0;
    for (uint64_t at = MR_SEGMENT_HEADER; read_frame(content, segment, at, &frame);
         at += mr_record_size(frame.record.payload.len)) {
        if (bundle_lsn(&frame.record) >= cut || frame.record.lsn >= cut) {
            break;
        }
        if (count++ == chosen) {
            *ret = frame;
        }
    }
    return count;
}

static bool is_sound(struct mr_bytes content, const struct frame *frame) {
    struct mr_record record;
    uint64_t check;
    uint64_t at = frame->offset + MR_RECORD_HEADER;
    size_t len = frame->record.payload.len;
    if (at + len > content.len ||
        mr_record_decode(content.ptr + frame->offset, &record, &check) != MR_OK) {
        return false;
    }
    struct iovec payload = {(void *)(uintptr_t)(content.ptr + at), len};
    return mr_record_payload_check(&payload, 1) == check;
}

/* The first lsn of the last bundle in the last segment of which something is sound: what is before it was synced. */
static uint64_t last_bundle(struct mr_bytes content, uint32_t segment) {
    struct frame frame;
    uint64_t last = 0;
    for (uint64_t at = MR_SEGMENT_HEADER; read_frame(content, segment, at, &frame);
         at += mr_record_size(frame.record.payload.len)) {
        last = is_sound(content, &frame) ? bundle_lsn(&frame.record) : last;
    }
    return last;
}

static bool choose_in(struct sim_world *w, const struct mr_segments *segments, uint32_t i,
                      struct sim_rot *ret) {
    const struct mr_segment *segment = &segments->items[i];
    enum mr_status status = mr_segment_path(log_dir, segment, ret->path);
    MR_ASSERT(status == MR_OK);
    struct mr_bytes content = virtual_disk_content(w->disk, ret->path);
    uint64_t cut = i + 1 < segments->count ? mr_segments_cut(segments, i)
                                           : last_bundle(content, segment->number);
    struct frame frame;
    uint64_t count = walk(content, segment->number, cut, UINT64_MAX, &frame);
    if (count == 0) {
        return false;
    }
    (void)walk(content, segment->number, cut, sim_below(&w->random, count), &frame);
    ret->lsn = frame.record.lsn;
    ret->type = frame.record.type;
    ret->from = frame.offset;
    ret->to = frame.offset + MR_RECORD_HEADER + frame.record.payload.len; /* padding is not covered */
    return true;
}

bool sim_rot_choose(struct sim_world *w, struct sim_rot *ret) {
    struct mr_segments segments = {0};
    struct mr_error error;
    if (mr_segments_list(virtual_disk_disk(w->disk), log_dir, &segments, &error) != MR_OK) {
        return false;
    }
    bool found = segments.count > 0 &&
                 choose_in(w, &segments, (uint32_t)sim_below(&w->random, segments.count), ret);
    mr_segments_finish(&segments);
    return found;
}

void sim_rot_apply(struct sim_world *w, struct sim_rot *rot) {
    rot->offset = virtual_disk_rot(w->disk, rot->path, rot->from, rot->to, &rot->mask);
}

void sim_rot_undo(struct sim_world *w, const struct sim_rot *rot) {
    virtual_disk_flip(w->disk, rot->path, rot->offset, rot->mask);
}
