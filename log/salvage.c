/* SPDX-License-Identifier: Apache-2.0 */
#include "log/salvage.h"

#include "base/alloc.h"
#include "base/check.h"

enum { READ_PART = 64 << 10 };

/* A record as it was found. */
struct frame {
    struct mr_record record; /* payload.ptr NULL: only its header is sound */
    uint64_t offset;
};

struct found {
    struct frame *items;
    uint32_t count;
    uint32_t cap;
};

/* Bytes of the damaged file that are kept. */
struct span {
    uint64_t from;
    uint64_t to;
};

/* Room for one more in *items; false when there is no memory. */
static bool grow(void **items, uint32_t count, uint32_t *cap, size_t size) {
    if (count < *cap) {
        return true;
    }
    uint32_t more = *cap == 0 ? 64 : *cap * 2;
    void *grown = mr_realloc(*items, more * size);
    if (grown == NULL) {
        return false;
    }
    *items = grown;
    *cap = more;
    return true;
}

static enum mr_status add_loss(struct mr_salvage *s, const struct mr_salvage_loss *loss) {
    void *items = s->losses;
    bool room = grow(&items, s->loss_count, &s->loss_cap, sizeof *s->losses);
    s->losses = items;
    if (!room) {
        return MR_NO_MEMORY;
    }
    s->losses[s->loss_count++] = *loss;
    return MR_OK;
}

static enum mr_status add_piece(struct mr_salvage *s, const struct mr_salvage_piece *piece) {
    struct mr_salvage_piece *last = s->piece_count > 0 ? &s->pieces[s->piece_count - 1] : NULL;
    s->end += piece->size;
    if (last != NULL && piece->offset > 0 && last->offset > 0 &&
        last->offset + last->size == piece->offset) {
        last->size += piece->size;
        return MR_OK;
    }
    void *items = s->pieces;
    bool room = grow(&items, s->piece_count, &s->piece_cap, sizeof *s->pieces);
    s->pieces = items;
    if (!room) {
        return MR_NO_MEMORY;
    }
    s->pieces[s->piece_count++] = *piece;
    return MR_OK;
}

static enum mr_status find_all(struct mr_frames *frames, struct found *found) {
    for (;;) {
        struct frame frame;
        enum mr_status status = mr_frames_find(frames, &frame.record, &frame.offset);
        if (status != MR_OK) {
            return status == MR_END ? MR_OK : status;
        }
        void *items = found->items;
        bool room = grow(&items, found->count, &found->cap, sizeof *found->items);
        found->items = items;
        if (!room) {
            return MR_NO_MEMORY;
        }
        found->items[found->count++] = frame;
    }
}

static int by_lsn(const void *a, const void *b) {
    const struct frame *x = a;
    const struct frame *y = b;
    int order = (x->record.lsn > y->record.lsn) - (x->record.lsn < y->record.lsn);
    if (order == 0) {
        order = (x->record.seq < y->record.seq) - (x->record.seq > y->record.seq);
    }
    return order != 0 ? order : (x->offset > y->offset) - (x->offset < y->offset);
}

static int by_from(const void *a, const void *b) {
    const struct span *x = a;
    const struct span *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

/* What stands for the lsns from the chain's end to `to`, before a record of bundle next_seq (0: not known). */
static struct mr_record gap_of(const struct mr_salvage_job *job, const struct mr_salvage *s,
                               uint64_t to, uint64_t next_seq) {
    bool first = s->chain.count == 0 && s->chain.gap == 0;
    uint64_t seq = first ? 1 : s->chain.seq;
    MR_ASSERT(to > s->chain.next_lsn && to <= MR_LSN_MAX);
    return (struct mr_record){
        .type = MR_RECORD_GAP,
        .bundle_count = 1,
        .segment = job->segment.number,
        .lsn = s->chain.next_lsn,
        .lsn_count = to - s->chain.next_lsn,
        .seq = next_seq > seq + 1 ? next_seq - 1 : seq,
        .incarnation = job->segment.incarnation,
        .recorded_ms = s->recorded_ms,
        .payload = {NULL, MR_RECORD_GAP_LEN},
    };
}

/* Whether the record may follow, with a GAP before it when lsns are missing (ret->lsn_count > 0). */
static bool may_follow(const struct mr_salvage_job *job, const struct mr_salvage *s,
                       const struct mr_record *record, struct mr_record *ret) {
    struct mr_chain chain = s->chain;
    *ret = (struct mr_record){.lsn_count = 0};
    if (record->lsn < chain.next_lsn || record->lsn > MR_LSN_MAX) {
        return false;
    }
    if (record->lsn > chain.next_lsn) {
        *ret = gap_of(job, s, record->lsn, record->seq);
        if (!mr_chain_follows(&chain, ret)) {
            return false;
        }
        mr_chain_push(&chain, ret);
    }
    return mr_chain_follows(&chain, record);
}

/* at: where in the damaged file the lost records were, as far as one can say. */
static enum mr_status add_gap(struct mr_salvage *s, const struct mr_record *gap, uint64_t at) {
    const struct mr_salvage_piece piece = {.size = mr_record_size(MR_RECORD_GAP_LEN), .gap = *gap};
    const struct mr_salvage_loss loss = {at, at, gap->lsn, gap->lsn_count};
    mr_chain_push(&s->chain, gap);
    s->recorded_ms = gap->recorded_ms;
    enum mr_status status = add_piece(s, &piece);
    return status == MR_OK ? add_loss(s, &loss) : status;
}

static enum mr_status keep(struct mr_salvage *s, const struct frame *frame) {
    const struct mr_salvage_piece piece = {.offset = frame->offset,
                                           .size = mr_record_size(frame->record.payload.len)};
    mr_chain_push(&s->chain, &frame->record);
    s->recorded_ms = frame->record.recorded_ms != 0 ? frame->record.recorded_ms : s->recorded_ms;
    return add_piece(s, &piece);
}

/* The lsn behind all that the last segment is known to have had; *ret_seq: the highest of its bundles. */
static uint64_t known_end(const struct mr_salvage_job *job, const struct mr_salvage *s,
                          const struct found *found, uint64_t *ret_seq) {
    const struct mr_chain *chain = &s->chain;
    uint64_t end = chain->next_lsn;
    *ret_seq = chain->seq;
    if (!mr_chain_whole(chain)) {
        end = mr_chain_open_lsn(chain) + chain->count;
    }
    for (uint32_t i = 0; i < found->count; i++) {
        const struct mr_record *r = &found->items[i].record;
        struct mr_record gap;
        if (r->payload.ptr == NULL && may_follow(job, s, r, &gap)) {
            uint64_t bundle_end = r->lsn - r->bundle_index + r->bundle_count;
            end = bundle_end > end ? bundle_end : end;
            *ret_seq = r->seq > *ret_seq ? r->seq : *ret_seq;
        }
    }
    if (job->needed_lsn > end) {
        /* Nothing says what was there: at most as many bundles as records, of which each had the next seq. */
        end = job->needed_lsn;
        uint64_t seq = chain->seq + (end - chain->next_lsn);
        *ret_seq = seq > *ret_seq ? seq : *ret_seq;
    }
    return end <= MR_LSN_MAX ? end : chain->next_lsn;
}

/* Puts what was found into its order, and GAPs where something is missing. */
static enum mr_status order(const struct mr_salvage_job *job, const struct found *found,
                            struct mr_salvage *s) {
    uint64_t at = job->bad_header ? 0 : MR_SEGMENT_HEADER;
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < found->count; i++) {
        const struct frame *frame = &found->items[i];
        const struct mr_record *r = &frame->record;
        struct mr_record gap;
        if (r->payload.ptr == NULL || r->lsn >= job->until_lsn ||
            r->lsn_count > job->until_lsn - r->lsn || !may_follow(job, s, r, &gap)) {
            continue;
        }
        status = gap.lsn_count > 0 ? add_gap(s, &gap, at) : MR_OK;
        if (status == MR_OK) {
            status = keep(s, frame);
        }
        at = frame->offset + mr_record_size(r->payload.len);
    }
    if (status != MR_OK) {
        return status;
    }
    uint64_t seq = 0;
    uint64_t end = job->until_lsn == UINT64_MAX ? known_end(job, s, found, &seq) : job->until_lsn;
    if (end <= s->chain.next_lsn) {
        return MR_OK;
    }
    struct mr_record gap = gap_of(job, s, end, job->next_seq);
    gap.seq = seq > gap.seq ? seq : gap.seq;
    return add_gap(s, &gap, at);
}

/* Behind the last byte of [from, to) that is not zero; from when there is none. */
static enum mr_status dirty_end(struct mr_file *file, uint8_t *buf, uint64_t from, uint64_t to,
                                uint64_t *ret) {
    *ret = from;
    for (uint64_t at = from; at < to;) {
        size_t want = to - at < READ_PART ? (size_t)(to - at) : READ_PART;
        size_t len;
        enum mr_status status = mr_file_pread(file, buf, want, at, &len);
        if (status != MR_OK) {
            return status;
        }
        for (size_t i = len; i > 0; i--) {
            if (buf[i - 1] != 0) {
                *ret = at + i;
                break;
            }
        }
        at += want;
    }
    return MR_OK;
}

static enum mr_status add_range(struct mr_salvage *s, uint64_t from, uint64_t to) {
    for (uint32_t i = 0; i < s->loss_count; i++) {
        struct mr_salvage_loss *loss = &s->losses[i];
        if (loss->lsn_count > 0 && loss->from == from && loss->to == from) {
            loss->to = to;
            return MR_OK;
        }
    }
    const struct mr_salvage_loss loss = {from, to, 0, 0};
    return add_loss(s, &loss);
}

/* All bytes that are in no piece, but for zeros. */
static enum mr_status add_ranges(struct mr_file *file, uint64_t size, uint64_t from,
                                 struct mr_salvage *s) {
    struct span *spans = mr_alloc((s->piece_count + 1) * sizeof *spans);
    uint8_t *buf = mr_alloc(READ_PART);
    enum mr_status status = spans == NULL || buf == NULL ? MR_NO_MEMORY : MR_OK;
    uint32_t count = 0;
    for (uint32_t i = 0; status == MR_OK && i < s->piece_count; i++) {
        const struct mr_salvage_piece *piece = &s->pieces[i];
        if (piece->offset > 0) {
            spans[count++] = (struct span){piece->offset, piece->offset + piece->size};
        }
    }
    if (status == MR_OK) {
        qsort(spans, count, sizeof *spans, by_from);
        spans[count++] = (struct span){size, size};
    }
    for (uint32_t i = 0; status == MR_OK && i < count; i++) {
        uint64_t to = from;
        if (from < spans[i].from) {
            status = dirty_end(file, buf, from, spans[i].from, &to);
        }
        if (status == MR_OK && to > from) {
            status = add_range(s, from, to);
        }
        from = spans[i].to;
    }
    mr_free(spans);
    mr_free(buf);
    return status;
}

static enum mr_status plan(struct mr_frames *frames, uint64_t size,
                           const struct mr_salvage_job *job, struct found *found,
                           struct mr_salvage *s) {
    enum mr_status status = frames->file == NULL ? MR_OK : find_all(frames, found);
    if (status != MR_OK) {
        return status;
    }
    if (found->count > 1) {
        qsort(found->items, found->count, sizeof *found->items, by_lsn);
    }
    status = order(job, found, s);
    if (status == MR_OK && frames->file != NULL) {
        status = add_ranges(frames->file, size, job->bad_header ? 0 : MR_SEGMENT_HEADER, s);
    }
    return status;
}

enum mr_status mr_salvage_plan(struct mr_disk *disk, const char *path, uint64_t size,
                               const struct mr_salvage_job *job, struct mr_salvage *ret) {
    struct mr_salvage s = {
        .end = MR_SEGMENT_HEADER, .chain = job->chain, .recorded_ms = job->recorded_ms};
    struct mr_frames frames = {0};
    struct found found = {0};
    enum mr_status status = MR_OK;
    MR_ASSERT(job->chain.next_lsn == job->segment.first_lsn);
    if (path != NULL) {
        /* The last record's padding may be cut off. At least the header, for the frames to be in order. */
        struct mr_segment segment = job->segment;
        segment.size = (size + MR_RECORD_ALIGN - 1) / MR_RECORD_ALIGN * MR_RECORD_ALIGN;
        segment.size = segment.size < MR_SEGMENT_HEADER ? MR_SEGMENT_HEADER : segment.size;
        struct mr_file *file;
        status = mr_file_open(disk, path, MR_FILE_READ, &file);
        if (status == MR_OK) {
            status = mr_frames_open(file, &segment, &frames);
        }
    }
    if (status == MR_OK) {
        status = plan(&frames, size, job, &found, &s);
    }
    mr_frames_close(&frames);
    mr_free(found.items);
    if (status != MR_OK) {
        mr_salvage_finish(&s);
        return status;
    }
    *ret = s;
    return MR_OK;
}

void mr_salvage_finish(struct mr_salvage *salvage) {
    mr_free(salvage->pieces);
    mr_free(salvage->losses);
    *salvage = (struct mr_salvage){0};
}
