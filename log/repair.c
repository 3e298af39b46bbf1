/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair: makes a log that open calls corrupt into one that it takes. Segment by segment, oldest first: what recovery
 * finds sound stays as it is; of the rest log/salvage.h says what can be kept and log/rewrite.h does it. So at every
 * moment each segment is as it was or as it will be, and a repair that was cut short is done by the next.
 *
 *     header sound, records sound     stays; a torn tail too, which open cuts
 *     header sound, records not       written again: with GAPs
 *     cut short                       the same; what stood in the rest is lost
 *     header bad or of another        the same, with a header made from the name and from its neighbours
 *     missing between two             the one before it ends in a GAP
 *     no place by its name            to quarantine, whole
 *
 * What was there before the first segment nobody can say: retention may have removed it. Only who knows what is needed
 * (needed_lsn) can have a GAP there, or behind the end.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "log/findings.h"
#include "log/recover.h"
#include "log/rewrite.h"

#include <inttypes.h>

enum { DISK_BLOCK = 4096 };

/* A file that has the name of a segment. */
struct suspect {
    struct mr_segment segment; /* by its name; the rest by its header where that can be believed */
    uint64_t file_size;
    const char *wrong; /* with its header; NULL: nothing */
    bool placed;
};

struct repair {
    struct mr_disk *disk;
    const char *dir;
    uint64_t needed_lsn;
    struct suspect *suspects;
    uint32_t suspect_count;
    struct mr_segments segments; /* those placed, with suspects[at[i]] */
    uint32_t *at;
    uint64_t incarnation;
    struct mr_chain chain;
    int64_t recorded_ms; /* of the last record; 0: none with a time */
    bool prepared;
    struct mr_findings findings;
};

static enum mr_status inspect(struct repair *r, struct suspect *suspect, struct mr_error *error) {
    char path[MR_SEGMENT_PATH_MAX] = "";
    uint8_t header[MR_SEGMENT_HEADER];
    struct mr_segment found;
    size_t len = 0;
    struct mr_file *file = NULL;
    enum mr_status status = mr_segment_path(r->dir, &suspect->segment, path);
    if (status == MR_OK) {
        status = mr_file_open(r->disk, path, MR_FILE_READ, &file);
    }
    if (status == MR_OK) {
        status = mr_file_pread(file, header, sizeof header, 0, &len);
    }
    if (status == MR_OK) {
        status = mr_file_size(file, &suspect->file_size);
    }
    mr_file_close(file);
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s: cannot read: %s", path, mr_status_text(status));
    }
    status = mr_segment_decode(header, len, &found);
    if (status == MR_MISMATCH) {
        return mr_error_set(error, status, "%s: written by another version of the format", path);
    }
    bool same = status == MR_OK && found.number == suspect->segment.number &&
                found.first_lsn == suspect->segment.first_lsn;
    suspect->wrong = status != MR_OK ? "bad segment header"
                     : !same         ? "the header of another segment"
                                     : NULL;
    if (same) {
        suspect->segment = found;
    }
    return MR_OK;
}

/* Of the file whatever its header says; frames->file stays NULL when no record can be in it. */
static enum mr_status open_frames(const struct repair *r, const struct suspect *suspect,
                                  uint64_t incarnation, struct mr_frames *frames) {
    char path[MR_SEGMENT_PATH_MAX];
    struct mr_file *file;
    struct mr_segment segment = suspect->segment;
    segment.incarnation = incarnation;
    segment.size = (suspect->file_size + MR_RECORD_ALIGN - 1) / MR_RECORD_ALIGN * MR_RECORD_ALIGN;
    if (segment.size <= MR_SEGMENT_HEADER) {
        return MR_OK;
    }
    enum mr_status status = mr_segment_path(r->dir, &segment, path);
    if (status == MR_OK) {
        status = mr_file_open(r->disk, path, MR_FILE_READ, &file);
    }
    return status == MR_OK ? mr_frames_open(file, &segment, frames) : status;
}

/* The incarnation in the first sound record of a file whose header cannot be believed; 0: none. */
static enum mr_status ask_records(const struct repair *r, const struct suspect *suspect,
                                  uint64_t *ret) {
    struct mr_frames frames = {0};
    struct mr_record record = {.incarnation = 0};
    uint64_t offset;
    enum mr_status status = open_frames(r, suspect, 0, &frames);
    while (status == MR_OK && frames.file != NULL && record.payload.ptr == NULL) {
        status = mr_frames_find(&frames, &record, &offset);
    }
    mr_frames_close(&frames);
    *ret = status == MR_OK && record.payload.ptr != NULL ? record.incarnation : 0;
    return status == MR_END ? MR_OK : status;
}

/* Which log this is: what most headers say; else a record; else nobody knows, and all is lost. */
static enum mr_status choose_incarnation(struct repair *r, struct mr_error *error) {
    enum mr_status status = MR_OK;
    uint32_t most = 0;
    for (uint32_t i = 0; i < r->suspect_count; i++) {
        uint32_t votes = 0;
        for (uint32_t k = 0; k < r->suspect_count && r->suspects[i].wrong == NULL; k++) {
            votes += r->suspects[k].wrong == NULL &&
                     r->suspects[k].segment.incarnation == r->suspects[i].segment.incarnation;
        }
        if (votes > most) {
            most = votes;
            r->incarnation = r->suspects[i].segment.incarnation;
        }
    }
    for (uint32_t i = 0; status == MR_OK && i < r->suspect_count && r->incarnation == 0; i++) {
        status = ask_records(r, &r->suspects[i], &r->incarnation);
    }
    while (status == MR_OK && r->incarnation == 0) {
        status = mr_random_bytes(&r->incarnation, sizeof r->incarnation);
    }
    for (uint32_t i = 0; i < r->suspect_count; i++) {
        struct suspect *s = &r->suspects[i];
        if (s->wrong == NULL && s->segment.incarnation != r->incarnation) {
            s->wrong = "a segment of another log";
        }
    }
    return status == MR_OK
               ? MR_OK
               : mr_error_set(error, status, "%s: cannot read: %s", r->dir, mr_status_text(status));
}

static bool between(const struct mr_segment *before, const struct mr_segment *here,
                    const struct mr_segment *behind) {
    return here->first_lsn <= MR_LSN_MAX &&
           (before == NULL ||
            (before->number < here->number && before->first_lsn <= here->first_lsn)) &&
           (behind == NULL ||
            (here->number < behind->number && here->first_lsn <= behind->first_lsn));
}

/* Which files are in the log: those whose headers say so, and others whose names fit between them. A file of another log
 * behind all of ours is not: its name is its own. */
static void place(struct repair *r) {
    const struct mr_segment *before = NULL;
    for (uint32_t i = 0; i < r->suspect_count; i++) { /* headers first */
        struct suspect *s = &r->suspects[i];
        s->placed = s->wrong == NULL && between(before, &s->segment, NULL);
        before = s->placed ? &s->segment : before;
    }
    before = NULL;
    for (uint32_t i = 0; i < r->suspect_count; i++) {
        struct suspect *s = &r->suspects[i];
        uint32_t next = i + 1;
        while (next < r->suspect_count && !r->suspects[next].placed) {
            next++;
        }
        const struct mr_segment *behind =
            next < r->suspect_count ? &r->suspects[next].segment : NULL;
        bool alien = s->wrong != NULL && s->segment.incarnation != 0;
        if (!s->placed && s->wrong != NULL && (!alien || behind != NULL)) {
            s->placed = between(before, &s->segment, behind);
        }
        if (s->placed) {
            before = &s->segment;
            r->at[r->segments.count] = i;
            r->segments.items[r->segments.count++] = s->segment;
        }
    }
}

/* Before the first change: names that later ones supersede must not come back. */
static enum mr_status prepare(struct repair *r, struct mr_error *error) {
    if (r->prepared) {
        return MR_OK;
    }
    enum mr_status status = mr_segments_remove_unfinished(r->disk, r->dir);
    if (status == MR_OK) {
        status = mr_disk_sync_dir(r->disk, r->dir);
    }
    r->prepared = status == MR_OK;
    return status == MR_OK
               ? MR_OK
               : mr_error_set(error, status, "%s: cannot tidy: %s", r->dir, mr_status_text(status));
}

static enum mr_status remove_unplaced(struct repair *r, struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < r->suspect_count; i++) {
        const struct suspect *s = &r->suspects[i];
        char name[MR_QUARANTINE_NAME_MAX] = "";
        if (s->placed) {
            continue;
        }
        status = prepare(r, error);
        if (status == MR_OK && s->file_size > 0) {
            status =
                mr_rewrite_quarantine(r->disk, r->dir, &s->segment, 0, s->file_size, name, error);
        }
        if (status == MR_OK) {
            status = mr_rewrite_remove(r->disk, r->dir, &s->segment, error);
        }
        if (status == MR_OK) {
            const struct mr_finding finding = {
                .segment = &s->segment,
                .what = s->wrong != NULL ? s->wrong : "a name that has no place in the log",
                .bytes = s->file_size,
                .quarantine = name};
            mr_findings_add(&r->findings, &finding);
        }
    }
    return status;
}

/* The lowest seq in the first segment from i on that has any record: what is lost before it has a lower one. Where the
 * first record's header is sound, that says it; else all are looked at, for one may stand in a wrong place. */
static enum mr_status peek(const struct repair *r, uint32_t i, struct mr_salvage_job *job,
                           struct mr_error *error) {
    const struct mr_segments *segments = &r->segments;
    struct mr_frames frames = {0};
    while (i < segments->count && mr_segments_cut(segments, i) == segments->items[i].first_lsn) {
        i++;
    }
    if (i == segments->count) {
        return MR_OK;
    }
    const struct mr_segment *segment = &segments->items[i];
    enum mr_status status = open_frames(r, &r->suspects[r->at[i]], r->incarnation, &frames);
    while (status == MR_OK && frames.file != NULL) {
        struct mr_record record;
        uint64_t offset;
        status = mr_frames_find(&frames, &record, &offset);
        bool lower = status == MR_OK && (job->next_seq == 0 || record.seq < job->next_seq);
        if (lower && record.lsn >= segment->first_lsn) {
            job->next_seq = record.seq;
        }
        if (status == MR_OK && offset == MR_SEGMENT_HEADER && record.lsn == segment->first_lsn) {
            break;
        }
    }
    mr_frames_close(&frames);
    return status == MR_OK || status == MR_END
               ? MR_OK
               : mr_error_set(error, status, "%s: cannot read: %s", r->dir, mr_status_text(status));
}

/* What it says of each loss, now that it is done. */
static void report(struct repair *r, const struct suspect *suspect,
                   const struct mr_salvage *salvage, char (*names)[MR_QUARANTINE_NAME_MAX],
                   bool cut) {
    bool told = suspect->wrong == NULL;
    for (uint32_t i = 0; i < salvage->loss_count; i++) {
        const struct mr_salvage_loss *loss = &salvage->losses[i];
        const struct mr_finding finding = {
            .segment = &suspect->segment,
            .what = loss->from == 0         ? suspect->wrong
                    : loss->lsn_count == 0  ? "bytes that are no record of the log"
                    : loss->to > loss->from ? "damaged"
                                            : "missing",
            .offset = loss->from,
            .bytes = loss->to - loss->from,
            .quarantine = names[i],
            .lsn = loss->lsn,
            .lsn_count = loss->lsn_count,
        };
        MR_ASSERT(finding.what != NULL);
        told = told || loss->from == 0;
        mr_findings_add(&r->findings, &finding);
    }
    if (!told || cut) {
        const struct mr_finding finding = {.segment = &suspect->segment,
                                           .what = !told ? suspect->wrong : "cut short",
                                           .offset = !told ? 0 : suspect->file_size};
        mr_findings_add(&r->findings, &finding);
    }
}

/* Does what the plan says: first what is lost to a safe place, then the segment. */
static enum mr_status carry_out(struct repair *r, const struct suspect *suspect,
                                const struct mr_segment *segment, const struct mr_salvage *salvage,
                                bool cut, struct mr_error *error) {
    char(*names)[MR_QUARANTINE_NAME_MAX] =
        mr_alloc_zero((size_t)salvage->loss_count + 1, sizeof *names);
    enum mr_status status = prepare(r, error);
    if (names == NULL) {
        status = mr_error_set(error, MR_NO_MEMORY, "%s: no memory to repair", r->dir);
    }
    for (uint32_t i = 0; status == MR_OK && i < salvage->loss_count; i++) {
        const struct mr_salvage_loss *loss = &salvage->losses[i];
        if (loss->to > loss->from) {
            status = mr_rewrite_quarantine(r->disk, r->dir, segment, loss->from, loss->to, names[i],
                                           error);
        }
    }
    if (status == MR_OK) {
        status = mr_rewrite_segment(r->disk, r->dir, segment, &r->chain, salvage, error);
    }
    if (status == MR_OK) {
        report(r, suspect, salvage, names, cut);
        r->chain = salvage->chain;
        r->recorded_ms = salvage->recorded_ms;
    }
    mr_free(names);
    return status;
}

/* Writes the suspect's file again, or makes it (file: false). behind: the segment that follows, in r->segments. */
static enum mr_status mend(struct repair *r, const struct suspect *suspect, bool file,
                           uint32_t behind, struct mr_error *error) {
    bool last = behind == r->segments.count;
    bool cut = file && suspect->wrong == NULL && suspect->file_size < suspect->segment.size;
    struct mr_salvage_job job = {
        .segment = suspect->segment,
        .chain = r->chain,
        .recorded_ms = r->recorded_ms,
        .until_lsn = last ? UINT64_MAX : r->segments.items[behind].first_lsn,
        .needed_lsn = r->needed_lsn,
        .bad_header = suspect->wrong != NULL,
    };
    char path[MR_SEGMENT_PATH_MAX];
    struct mr_salvage salvage;
    if (suspect->wrong != NULL) {
        job.segment.flags = 0; /* all of it is synced when it is written again */
        job.segment.incarnation = r->incarnation;
        job.segment.first_seq = r->chain.seq + 1;
        job.segment.size = 0;
    }
    enum mr_status status = peek(r, behind, &job, error);
    if (status != MR_OK) {
        return status;
    }
    status = mr_segment_path(r->dir, &suspect->segment, path);
    if (status == MR_OK) {
        status = mr_salvage_plan(r->disk, file ? path : NULL, suspect->file_size, &job, &salvage);
    }
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s: cannot read: %s", r->dir, mr_status_text(status));
    }
    uint64_t size = salvage.end > MR_SEGMENT_HEADER ? salvage.end : salvage.end + 1;
    if (last) { /* it may be appended to */
        size = job.segment.size > size ? job.segment.size : size;
        size = suspect->file_size > size ? suspect->file_size : size;
    }
    job.segment.size = (size + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK;
    status = carry_out(r, suspect, &job.segment, &salvage, cut, error);
    mr_salvage_finish(&salvage);
    return status;
}

/* A GAP from what is needed to what is there. */
static enum mr_status mend_front(struct repair *r, struct mr_error *error) {
    const struct mr_segment *first = &r->segments.items[0];
    struct suspect missing = {.segment = {.number = first->number - 1,
                                          .first_lsn = r->needed_lsn,
                                          .incarnation = r->incarnation,
                                          .first_seq = 1}};
    if (missing.segment.number == 0) {
        return mr_error_set(error, MR_CORRUPT,
                            "%s: begins at lsn %" PRIu64
                            " with segment 1: nothing can be put before it",
                            r->dir, first->first_lsn);
    }
    r->chain.next_lsn = r->needed_lsn;
    return mend(r, &missing, false, 0, error);
}

static enum mr_status look_at(struct repair *r, uint32_t i, struct mr_error *error) {
    const struct suspect *suspect = &r->suspects[r->at[i]];
    bool last = i + 1 == r->segments.count;
    if (suspect->wrong == NULL) {
        struct mr_chain chain = r->chain;
        struct mr_segment_summary summary;
        enum mr_status status = mr_recover_segment(r->disk, r->dir, &r->segments, i, &chain, NULL,
                                                   NULL, &summary, error);
        if (status == MR_OK && (!last || chain.next_lsn >= r->needed_lsn)) {
            r->chain = chain;
            r->recorded_ms = summary.last_ms != 0 ? summary.last_ms : r->recorded_ms;
            return MR_OK;
        }
        if (status != MR_OK && status != MR_CORRUPT) {
            return status;
        }
    }
    return mend(r, suspect, true, i + 1, error);
}

static enum mr_status look_at_all(struct repair *r, struct mr_error *error) {
    enum mr_status status = remove_unplaced(r, error);
    if (r->segments.count == 0) {
        return status;
    }
    const struct mr_segment *first = &r->segments.items[0];
    r->chain.next_lsn = first->first_lsn;
    r->chain.seq = r->suspects[r->at[0]].wrong == NULL ? first->first_seq - 1 : 0;
    r->findings.sum.segments = r->segments.count;
    if (status == MR_OK && r->needed_lsn > 0 && r->needed_lsn < first->first_lsn) {
        status = mend_front(r, error);
    }
    for (uint32_t i = 0; status == MR_OK && i < r->segments.count; i++) {
        status = look_at(r, i, error);
    }
    return status;
}

/* All files that have a name of ours, with room to say which are in the log. */
static enum mr_status gather(struct repair *r, struct mr_error *error) {
    enum mr_status status = mr_segments_names(r->disk, r->dir, &r->segments, error);
    if (status != MR_OK) {
        return status;
    }
    uint32_t count = r->segments.count;
    r->suspects = mr_alloc_zero((size_t)count + 1, sizeof *r->suspects);
    r->at = mr_alloc_zero((size_t)count + 1, sizeof *r->at);
    if (r->suspects == NULL || r->at == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s: no memory to repair", r->dir);
    }
    r->suspect_count = count;
    for (uint32_t i = 0; status == MR_OK && i < count; i++) {
        r->suspects[i].segment = r->segments.items[i];
        status = inspect(r, &r->suspects[i], error);
    }
    r->segments.count = 0;
    return status;
}

enum mr_status mr_log_repair(struct mr_disk *disk, const char *dir, uint64_t needed_lsn, bool json,
                             void *stdio, struct mr_log_repair *ret, struct mr_error *error) {
    struct repair r = {.disk = disk,
                       .dir = dir,
                       .needed_lsn = needed_lsn,
                       .findings = {.stdio = stdio, .json = json}};
    MR_ASSERT(stdio != NULL);
    enum mr_status status = gather(&r, error);
    if (status == MR_OK) {
        status = choose_incarnation(&r, error);
    }
    if (status == MR_OK) {
        place(&r);
        status = look_at_all(&r, error);
    }
    if (status == MR_OK) {
        bool any = r.segments.count > 0;
        uint64_t first_lsn = any ? r.segments.items[0].first_lsn : 0;
        first_lsn = needed_lsn > 0 && needed_lsn < first_lsn ? needed_lsn : first_lsn;
        status =
            mr_findings_end(&r.findings, dir, first_lsn, any ? r.chain.next_lsn - 1 : 0, error);
    }
    if (status == MR_OK) {
        *ret = r.findings.sum;
    }
    mr_segments_finish(&r.segments);
    mr_free(r.suspects);
    mr_free(r.at);
    return status;
}
