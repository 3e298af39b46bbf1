/* SPDX-License-Identifier: Apache-2.0 */
#include "log/frames.h"

#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/limits.h"
#include "log/wire.h"

enum {
    WINDOW = 256 << 10,
    LONG_PART = 8,    /* of the window: a payload of so much is long */
    HEADERS_PART = 64 /* of the window: what is read for the header of a record behind a long one */
};

/* The last bundle's records that we know, and those of it that a GAP stands for, perhaps. */
static uint64_t known(const struct mr_chain *chain) {
    return chain->index + 1 + chain->gap;
}

bool mr_chain_whole(const struct mr_chain *chain) {
    return chain->count == 0 || known(chain) >= chain->count;
}

uint64_t mr_chain_open_lsn(const struct mr_chain *chain) {
    return mr_chain_whole(chain) ? chain->next_lsn : chain->next_lsn - known(chain);
}

/* A bundle goes on with its next record, or a new one begins. Behind a bundle that is not whole
 * only the START of the recovery that cut it can begin: whoever appends has finished his last
 * bundle. Behind a GAP also a bundle may go on that began before or in it, and a GAP itself may
 * stand anywhere. */
bool mr_chain_follows(const struct mr_chain *chain, const struct mr_record *record) {
    bool first = chain->count == 0 && chain->gap == 0;
    if (record->lsn != chain->next_lsn) {
        return false;
    }
    if (record->type == MR_RECORD_GAP) {
        return record->bundle_index == 0 && (first || record->seq >= chain->seq);
    }
    if (first) {
        return record->bundle_index == 0;
    }
    if (record->seq == chain->seq) {
        return chain->count == record->bundle_count && record->bundle_index == known(chain);
    }
    return record->seq > chain->seq && record->bundle_index <= chain->gap &&
           (mr_chain_whole(chain) || chain->gap > 0 || record->type == MR_RECORD_START);
}

void mr_chain_push(struct mr_chain *chain, const struct mr_record *record) {
    MR_ASSERT(mr_chain_follows(chain, record));
    MR_ASSERT(record->lsn_count > 0);
    chain->next_lsn += record->lsn_count;
    if (record->type == MR_RECORD_GAP) {
        chain->gap += record->lsn_count;
        if (record->seq != chain->seq) { /* whole bundles are lost too: none goes on behind it */
            chain->index = 0;
            chain->count = 0;
        }
    } else {
        chain->gap = 0;
        chain->index = record->bundle_index;
        chain->count = record->bundle_count;
        MR_ASSERT(chain->index < chain->count);
    }
    chain->seq = record->seq;
}

static void check(const struct mr_frames *frames) {
    MR_ASSERT(frames->offset >= MR_SEGMENT_HEADER && frames->offset <= frames->segment.size);
    MR_ASSERT(frames->len <= frames->cap);
}

enum mr_status mr_frames_open(struct mr_file *file, const struct mr_segment *segment,
                              struct mr_frames *ret) {
    size_t cap = segment->size < WINDOW ? (size_t)segment->size : WINDOW;
    uint8_t *buf = mr_alloc(cap + MR_PADDING);
    if (buf == NULL) {
        mr_file_close(file);
        return MR_NO_MEMORY;
    }
    *ret = (struct mr_frames){
        .file = file, .segment = *segment, .offset = MR_SEGMENT_HEADER, .buf = buf, .cap = cap};
    check(ret);
    return MR_OK;
}

void mr_frames_close(struct mr_frames *frames) {
    mr_file_close(frames->file);
    mr_free(frames->buf);
    mr_buf_finish(&frames->payload);
    *frames = (struct mr_frames){0};
}

void mr_frames_forget(struct mr_frames *frames) {
    frames->len = 0;
}

static enum mr_status grow(struct mr_frames *frames, size_t need) {
    MR_ASSERT(need <= MR_RECORD_HEADER + MR_RECORD_PAYLOAD_MAX);
    uint8_t *buf = mr_realloc(frames->buf, need + MR_PADDING);
    if (buf == NULL) {
        return MR_NO_MEMORY;
    }
    frames->buf = buf;
    frames->cap = need;
    return MR_OK;
}

/* Makes [offset, offset + need) readable at *ret. The segment is that long; MR_CORRUPT when the
 * file is not (cut while we read). */
static enum mr_status window(struct mr_frames *frames, uint64_t offset, size_t need,
                             const uint8_t **ret) {
    MR_ASSERT(offset + need <= frames->segment.size);
    uint64_t end = frames->start + frames->len;
    if (offset < frames->start || offset + need > end) {
        enum mr_status status = need > frames->cap ? grow(frames, need) : MR_OK;
        if (status != MR_OK) {
            return status;
        }
        uint64_t left = frames->segment.size - offset;
        size_t part = frames->cap / HEADERS_PART;
        size_t ahead = frames->long_before && need <= part ? part : frames->cap;
        size_t want = left < ahead ? (size_t)left : ahead;
        frames->start = offset;
        frames->len = 0;
        status = mr_file_pread(frames->file, frames->buf, want, offset, &frames->len);
        if (status != MR_OK) {
            frames->len = 0;
            return status;
        }
        if (frames->len < need) {
            return MR_CORRUPT;
        }
    }
    *ret = frames->buf + (offset - frames->start);
    return MR_OK;
}

static bool all_zero(const uint8_t *at, size_t len) {
    return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

static enum mr_status bad(const char *why, const char **ret_why) {
    *ret_why = why;
    return MR_CORRUPT;
}

/* The header at offset, sound and of this segment. */
static enum mr_status read_header(struct mr_frames *frames, struct mr_record *ret,
                                  uint64_t *ret_check, const char **ret_why) {
    uint64_t left = frames->segment.size - frames->offset;
    const uint8_t *header;
    if (left < MR_RECORD_HEADER) {
        return MR_END;
    }
    enum mr_status status = window(frames, frames->offset, MR_RECORD_HEADER, &header);
    if (status != MR_OK) {
        *ret_why = "the file was cut short";
        return status;
    }
    struct mr_record record;
    if (mr_record_decode(header, &record, ret_check) != MR_OK) {
        return all_zero(header, MR_RECORD_HEADER) ? MR_END : bad("bad record header", ret_why);
    }
    bool any = frames->segment.incarnation == 0 || MR_BUG(INCARNATION_IGNORED);
    if ((!any && record.incarnation != frames->segment.incarnation) ||
        record.segment != frames->segment.number) {
        return bad("a record of another segment", ret_why);
    }
    *ret = record;
    return MR_OK;
}

static bool fits(const struct mr_frames *frames, const struct mr_record *record) {
    return mr_record_size(record->payload.len) <= frames->segment.size - frames->offset;
}

static bool is_long(const struct mr_frames *frames, const struct mr_record *record) {
    return record->payload.len >= frames->cap / LONG_PART;
}

/* The payload of the record at offset, whose header is in the window: what the window has of it, and the rest from the
 * file. */
static enum mr_status read_long(struct mr_frames *frames, size_t len, const uint8_t **ret) {
    uint64_t from = frames->offset + MR_RECORD_HEADER;
    uint64_t end = frames->start + frames->len;
    size_t have = end - from < len ? (size_t)(end - from) : len;
    size_t need = len + MR_PADDING;
    struct mr_buf *to = &frames->payload;
    MR_ASSERT(frames->start <= from && from <= end);
    if (to->cap < need || to->cap / 2 > need) {
        mr_buf_finish(to);
        mr_buf_init(to, need);
        if (mr_buf_reserve(to, need) == NULL) {
            return MR_NO_MEMORY;
        }
    }
    size_t got = 0;
    memcpy(to->ptr, frames->buf + (from - frames->start), have);
    enum mr_status status = mr_file_pread(frames->file, to->ptr + have, len - have, from + have, &got);
    if (status == MR_OK && got < len - have) {
        status = MR_CORRUPT;
    }
    to->len = status == MR_OK ? len : 0;
    *ret = to->ptr;
    return status;
}

void mr_frames_take_payload(struct mr_frames *frames, const struct mr_record *record, struct mr_buf *ret) {
    if (record->payload.ptr == NULL || record->payload.ptr != frames->payload.ptr) {
        mr_buf_init(ret, 0);
        return;
    }
    MR_ASSERT(frames->payload.len == record->payload.len);
    *ret = frames->payload;
    mr_buf_init(&frames->payload, 0);
}

/* The payload of the record at offset, sound; it fits, and its header is in the window. */
static enum mr_status read_payload(struct mr_frames *frames, uint64_t payload_check,
                                   struct mr_record *record, const char **ret_why) {
    const uint8_t *at;
    enum mr_status status;
    if (is_long(frames, record)) {
        status = read_long(frames, record->payload.len, &at);
    } else {
        status = window(frames, frames->offset, MR_RECORD_HEADER + record->payload.len, &at);
        at = status == MR_OK ? at + MR_RECORD_HEADER : NULL;
    }
    if (status != MR_OK) {
        *ret_why = "the file was cut short";
        return status;
    }
    struct iovec payload = {(void *)(uintptr_t)at, record->payload.len};
    if (mr_record_payload_check(&payload, 1) != payload_check) {
        return bad("bad payload checksum", ret_why);
    }
    record->payload.ptr = payload.iov_base;
    if (record->type == MR_RECORD_GAP && mr_record_gap_decode(record) != MR_OK) {
        record->payload.ptr = NULL;
        return bad("a gap that says nothing", ret_why);
    }
    return MR_OK;
}

static enum mr_status take(struct mr_frames *frames, struct mr_chain *chain, bool whole,
                           struct mr_record *ret, const char **ret_why) {
    struct mr_record record;
    uint64_t payload_check;
    check(frames);
    enum mr_status status = read_header(frames, &record, &payload_check, ret_why);
    if (status == MR_OK && !fits(frames, &record)) {
        status = bad("a record longer than the segment", ret_why);
    }
    if (status == MR_OK && !mr_chain_follows(chain, &record)) {
        status = bad("a record that does not follow the one before", ret_why);
    }
    /* How far a GAP goes only its payload says. */
    if (status == MR_OK && (whole || record.type == MR_RECORD_GAP)) {
        status = read_payload(frames, payload_check, &record, ret_why);
    }
    if (status != MR_OK) {
        return status;
    }
    if (!whole) {
        record.payload.ptr = NULL;
    }
    frames->offset += mr_record_size(record.payload.len);
    frames->long_before = is_long(frames, &record);
    mr_chain_push(chain, &record);
    *ret = record;
    check(frames);
    return MR_OK;
}

enum mr_status mr_frames_skip(struct mr_frames *frames, struct mr_chain *chain,
                              struct mr_record *ret, const char **ret_why) {
    return take(frames, chain, false, ret, ret_why);
}

enum mr_status mr_frames_next(struct mr_frames *frames, struct mr_chain *chain,
                              struct mr_record *ret, const char **ret_why) {
    return take(frames, chain, true, ret, ret_why);
}

enum mr_status mr_frames_find(struct mr_frames *frames, struct mr_record *ret,
                              uint64_t *ret_offset) {
    struct mr_record record;
    uint64_t payload_check;
    const char *why;
    check(frames);
    while (frames->segment.size - frames->offset >= MR_RECORD_HEADER) {
        enum mr_status status = read_header(frames, &record, &payload_check, &why);
        if (status == MR_OK) {
            status = fits(frames, &record) ? read_payload(frames, payload_check, &record, &why)
                                           : MR_CORRUPT;
            if (status == MR_OK || status == MR_CORRUPT) {
                *ret = record;
                *ret_offset = frames->offset;
                frames->offset +=
                    status == MR_OK ? mr_record_size(record.payload.len) : MR_RECORD_ALIGN;
                return MR_OK;
            }
        }
        if (status != MR_CORRUPT && status != MR_END) {
            return status;
        }
        frames->offset += MR_RECORD_ALIGN;
    }
    return MR_END;
}

/* Of len bytes at `at`, which stand at offset in the file. Records begin at multiples of 8 only. */
static void scan_part(const struct mr_frames *frames, const uint8_t *at, size_t len,
                      uint64_t offset, uint64_t open_lsn, struct mr_tail *tail) {
    for (size_t i = 0; i < len; i += MR_RECORD_ALIGN) {
        uint64_t word = mr_wire_u64(at + i);
        if (word == 0) {
            continue;
        }
        size_t used = MR_RECORD_ALIGN;
        while (at[i + used - 1] == 0) {
            used--;
        }
        if (offset + i + used > tail->dirty_end) {
            tail->dirty_end = offset + i + used;
        }
        struct mr_record record;
        uint64_t payload_check;
        if ((uint32_t)word == MR_RECORD_MAGIC && tail->later == 0 && len - i >= MR_RECORD_HEADER &&
            mr_record_decode(at + i, &record, &payload_check) == MR_OK &&
            record.incarnation == frames->segment.incarnation &&
            record.segment == frames->segment.number &&
            record.lsn - record.bundle_index > open_lsn) {
            tail->later = offset + i;
        }
    }
}

enum mr_status mr_frames_tail(struct mr_frames *frames, uint64_t open_lsn, struct mr_tail *ret) {
    struct mr_tail tail = {.dirty_end = frames->offset};
    uint64_t offset = frames->offset;
    check(frames);
    while (offset < frames->segment.size) {
        uint64_t left = frames->segment.size - offset;
        size_t len = left < WINDOW ? (size_t)left : WINDOW;
        const uint8_t *at;
        enum mr_status status = window(frames, offset, len, &at);
        if (status != MR_OK) {
            return status;
        }
        scan_part(frames, at, len, offset, open_lsn, &tail);
        /* The next part begins where a header may have been cut by the end of this one. */
        offset += left > len ? len - (MR_RECORD_HEADER - MR_RECORD_ALIGN) : len;
    }
    MR_ASSERT(tail.dirty_end >= frames->offset);
    *ret = tail;
    return MR_OK;
}
