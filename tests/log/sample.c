/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/log/sample.h"

#include "log/recover.h"
#include "tests/log/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEGMENT = 8192, SECTION = 8 };

/* ---- making ---- */

static enum mr_status take_record(void *ctx, const struct mr_record *record) {
    struct sample *s = ctx;
    if (s->count == s->cap) {
        s->cap = s->cap == 0 ? 64 : s->cap * 2;
        s->records = realloc(s->records, s->cap * sizeof *s->records);
        assert_non_null(s->records);
    }
    struct sample_record *r = &s->records[s->count];
    const struct sample_record *before = s->count > 0 ? r - 1 : NULL;
    uint8_t *payload = malloc(record->payload.len + 1);
    assert_non_null(payload);
    memcpy(payload, record->payload.ptr, record->payload.len);
    r->record = *record;
    r->record.payload.ptr = payload;
    r->segment = 0;
    while (s->segments.items[r->segment].number != record->segment) {
        r->segment++;
    }
    r->offset = before != NULL && before->segment == r->segment
                    ? before->offset + mr_record_size(before->record.payload.len)
                    : MR_SEGMENT_HEADER;
    s->count++;
    assert_int_equal(record->lsn, s->count);
    return MR_OK;
}

static void take(struct sample *s, struct virtual_disk *vd) {
    struct mr_error error;
    struct mr_disk *disk = virtual_disk_disk(vd);
    *s = (struct sample){.vd = vd};
    assert_int_equal(mr_segments_list(disk, SAMPLE_DIR, &s->segments, &error), MR_OK);
    struct mr_chain chain = mr_recover_chain(&s->segments, 0);
    for (uint32_t i = 0; i < s->segments.count; i++) {
        struct mr_segment_summary summary;
        assert_int_equal(mr_recover_segment(disk, SAMPLE_DIR, &s->segments, i, &chain, take_record,
                                            s, &summary, &error),
                         MR_OK);
    }
}

void sample_make_small(struct sample *s) {
    static const struct bundle bundles[] = {
        {.seq = 2, .count = 3, .recorded_ms = 10, .len = {100, 0, 300}},
        {.seq = 3, .count = 1, .recorded_ms = 20, .len = {2600}}, /* the first is now full */
        {.seq = 5, .count = 3, .recorded_ms = 30, .len = {200, 1500, 90}},
        {.seq = 6, .count = 1, .recorded_ms = 40, .len = {0}},
        {.seq = 7, .count = 1, .recorded_ms = 50, .len = {1700}}, /* and the second */
        {.seq = 8, .count = 3, .recorded_ms = 60, .len = {30, 700, 8}},
    };
    struct world w;
    struct mr_error error;
    world_init(&w, 1, SEGMENT);
    assert_int_equal(world_open(&w, &error), MR_OK);
    for (size_t i = 0; i < sizeof bundles / sizeof bundles[0]; i++) {
        assert_int_equal(world_append(&w, &bundles[i], &error), MR_OK);
    }
    world_close(&w);
    take(s, w.vd);
    free(w.truth);
    assert_int_equal(s->segments.count, 3);
    assert_int_equal(s->count, 13);
}

void sample_make_rich(struct sample *s, uint64_t seed) {
    struct world w;
    struct mr_error error;
    world_init(&w, seed, SEGMENT);
    assert_int_equal(world_open(&w, &error), MR_OK);
    for (int life = 0; life < 4; life++) {
        for (uint64_t n = 3 + world_below(&w, 6); n > 0; n--) {
            struct bundle b = world_bundle(&w, world_below(&w, 8) == 0 ? 9000 : 500);
            if (world_below(&w, 4) == 0) { /* written, not synced, and again to a new segment */
                virtual_disk_fail(w.vd, 1, 1u << VIRTUAL_DISK_SYNC, VIRTUAL_DISK_ONCE, MR_IO);
            }
            assert_int_equal(world_append(&w, &b, &error), MR_OK);
            virtual_disk_fail(w.vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
        }
        if (life < 3) { /* the power goes in an append: a torn bundle */
            struct bundle b = world_bundle(&w, 700);
            virtual_disk_cut_power(w.vd, 1 + world_below(&w, 2));
            (void)world_append(&w, &b, &error);
            world_crash(&w);
            assert_int_equal(world_open(&w, &error), MR_OK);
        }
    }
    world_close(&w);
    struct virtual_disk *vd = virtual_disk_clone(w.vd, seed); /* all of it durable */
    world_finish(&w);
    take(s, vd);
}

void sample_finish(struct sample *s) {
    for (uint32_t i = 0; i < s->count; i++) {
        free((void *)(uintptr_t)s->records[i].record.payload.ptr);
    }
    free(s->records);
    mr_segments_finish(&s->segments);
    virtual_disk_close(s->vd);
}

/* ---- damaging ---- */

enum mr_status sample_open_log(struct virtual_disk *vd, uint64_t from_lsn, struct mr_log **ret,
                               struct mr_error *error) {
    const struct mr_log_options options = {
        .disk = virtual_disk_disk(vd),
        .clock = mr_clock_system(),
        .dir = SAMPLE_DIR,
        .segment_bytes = SEGMENT,
        .sync = true,
        .incarnation = 0x1234567890abcdef,
        .from_lsn = from_lsn,
    };
    return mr_log_open(&options, ret, error);
}

struct mr_log *sample_opened(struct virtual_disk *vd, uint64_t from_lsn) {
    struct mr_error error = {.text = ""};
    struct mr_log *log = NULL;
    if (sample_open_log(vd, from_lsn, &log, &error) != MR_OK) {
        fail_msg("from %u: %s", (unsigned)from_lsn, error.text);
    }
    mr_log_check(log);
    return log;
}

uint32_t sample_segment_of(const struct sample *s, uint64_t lsn) {
    uint32_t i = 0;
    while (i + 1 < s->segments.count && s->segments.items[i + 1].first_lsn <= lsn) {
        i++;
    }
    return i;
}

void sample_times(struct virtual_disk *vd, uint64_t first_lsn, uint64_t last_lsn,
                  int64_t ms[SAMPLE_LSNS]) {
    struct mr_log_reader *reader;
    struct mr_record record;
    struct mr_error error = {.text = ""};
    uint64_t next_lsn = first_lsn;
    assert_int_equal(mr_log_reader_open(virtual_disk_disk(vd), SAMPLE_DIR, 0, &reader, &error),
                     MR_OK);
    enum mr_status status;
    while ((status = mr_log_reader_next(reader, &record, &error)) == MR_OK) {
        assert_int_equal(record.lsn, next_lsn++);
        assert_true(record.lsn < SAMPLE_LSNS);
        ms[record.lsn] = record.recorded_ms;
    }
    if (status != MR_END) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(next_lsn, last_lsn + 1);
    mr_log_reader_close(reader);
}

bool sample_exists(struct virtual_disk *vd, const char *path) {
    struct mr_file *file;
    if (mr_file_open(virtual_disk_disk(vd), path, MR_FILE_READ, &file) != MR_OK) {
        return false;
    }
    mr_file_close(file);
    return true;
}

void sample_path(const struct sample *s, uint32_t segment, char ret[MR_SEGMENT_PATH_MAX]) {
    assert_true(segment < s->segments.count);
    assert_int_equal(mr_segment_path(SAMPLE_DIR, &s->segments.items[segment], ret), MR_OK);
}

/* The file, [offset, offset + len) of it to be changed; NULL when it is not there or shorter. */
static uint8_t *changeable(const struct sample *s, struct virtual_disk *vd, uint32_t segment,
                           uint64_t offset, size_t len, char path[MR_SEGMENT_PATH_MAX],
                           size_t *ret_len) {
    sample_path(s, segment, path);
    if (!sample_exists(vd, path)) {
        return NULL;
    }
    struct mr_bytes content = virtual_disk_content(vd, path);
    if (offset + len > content.len) {
        return NULL;
    }
    uint8_t *copy = malloc(content.len + 1);
    assert_non_null(copy);
    *ret_len = content.len;
    return content.len > 0 ? memcpy(copy, content.ptr, content.len) : copy;
}

void sample_write(const struct sample *s, struct virtual_disk *vd, uint32_t segment,
                  uint64_t offset, const void *bytes, size_t len) {
    char path[MR_SEGMENT_PATH_MAX];
    size_t size;
    uint8_t *copy = changeable(s, vd, segment, offset, len, path, &size);
    if (copy != NULL && len > 0) {
        memcpy(copy + offset, bytes, len);
        virtual_disk_replace(vd, path, mr_bytes_of(copy, size));
    }
    free(copy);
}

void sample_fill(const struct sample *s, struct virtual_disk *vd, uint32_t segment, uint64_t offset,
                 uint8_t byte, size_t len) {
    char path[MR_SEGMENT_PATH_MAX];
    size_t size;
    uint8_t *copy = changeable(s, vd, segment, offset, len, path, &size);
    if (copy != NULL) {
        memset(copy + offset, byte, len);
        virtual_disk_replace(vd, path, mr_bytes_of(copy, size));
    }
    free(copy);
}

void sample_truncate(const struct sample *s, struct virtual_disk *vd, uint32_t segment,
                     uint64_t size) {
    char path[MR_SEGMENT_PATH_MAX];
    size_t was;
    uint8_t *copy = changeable(s, vd, segment, 0, 0, path, &was);
    if (copy != NULL) {
        virtual_disk_replace(vd, path, mr_bytes_of(copy, size < was ? (size_t)size : was));
    }
    free(copy);
}

void sample_remove(const struct sample *s, struct virtual_disk *vd, uint32_t segment) {
    char path[MR_SEGMENT_PATH_MAX];
    sample_path(s, segment, path);
    if (sample_exists(vd, path)) {
        assert_int_equal(mr_disk_unlink(virtual_disk_disk(vd), path), MR_OK);
        assert_int_equal(mr_disk_sync_dir(virtual_disk_disk(vd), SAMPLE_DIR), MR_OK);
    }
}

/* ---- repairing and judging ---- */

enum mr_status sample_repair(struct virtual_disk *vd, uint64_t needed_lsn,
                             struct mr_log_repair *ret) {
    struct mr_error error = {.text = ""};
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    enum mr_status status =
        mr_log_repair(virtual_disk_disk(vd), SAMPLE_DIR, needed_lsn, false, out, ret, &error);
    assert_int_equal(fclose(out), 0);
    free(text);
    if (status != MR_OK && status != MR_IO && status != MR_NO_SPACE && status != MR_NO_MEMORY) {
        fail_msg("%s", error.text);
    }
    return status;
}

static struct mr_bytes content_of(struct virtual_disk *vd, const char *path) {
    return sample_exists(vd, path) ? virtual_disk_content(vd, path) : mr_bytes_of(NULL, 0);
}

/* Which records stand in their places; the caller frees it. */
static bool *find_intact(const struct sample *s, struct virtual_disk *was) {
    bool *intact = calloc(s->count + 1, 1);
    struct mr_bytes before = {NULL, 0};
    struct mr_bytes now = {NULL, 0};
    assert_non_null(intact);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct sample_record *r = &s->records[i];
        size_t len = MR_RECORD_HEADER + r->record.payload.len;
        if (i == 0 || r->segment != s->records[i - 1].segment) {
            char path[MR_SEGMENT_PATH_MAX];
            sample_path(s, r->segment, path);
            before = virtual_disk_content(s->vd, path);
            now = content_of(was, path);
        }
        intact[i] = now.len >= r->offset + len &&
                    memcmp(before.ptr + r->offset, now.ptr + r->offset, len) == 0;
    }
    return intact;
}

static bool is_same(const struct mr_record *a, const struct mr_record *b) {
    return a->type == b->type && a->lsn == b->lsn && a->seq == b->seq &&
           a->bundle_index == b->bundle_index && a->bundle_count == b->bundle_count &&
           a->recorded_ms == b->recorded_ms && mr_bytes_equal(a->payload, b->payload);
}

/* Reads the repaired log; kept[i]: record i of the sample was there. Returns the lsn where what is new begins. */
static uint64_t read_kept(const struct sample *s, struct virtual_disk *vd, bool *kept) {
    struct mr_log_reader *reader;
    struct mr_error error = {.text = ""};
    struct mr_record record;
    uint64_t next_lsn = 1;
    uint64_t seq = 0;
    uint64_t new_lsn = 0;
    int64_t ms = 0;
    enum mr_status status;
    assert_int_equal(mr_log_reader_open(virtual_disk_disk(vd), SAMPLE_DIR, 0, &reader, &error),
                     MR_OK);
    while ((status = mr_log_reader_next(reader, &record, &error)) == MR_OK) {
        assert_int_equal(record.lsn, next_lsn);
        assert_true(record.seq >= seq);
        assert_int_equal(record.incarnation, s->segments.items[0].incarnation);
        bool untimed = record.type == MR_RECORD_START && record.recorded_ms == 0;
        assert_true(record.recorded_ms >= ms || untimed);
        next_lsn += record.lsn_count;
        seq = record.seq;
        ms = untimed ? ms : record.recorded_ms;
        bool known = record.lsn <= s->count && new_lsn == 0;
        if (known && is_same(&record, &s->records[record.lsn - 1].record)) {
            kept[record.lsn - 1] = true;
        } else if (record.type != MR_RECORD_GAP && new_lsn == 0) {
            assert_int_equal(record.type, MR_RECORD_START); /* the one that open wrote */
            assert_int_equal(record.payload.len, 0);
            new_lsn = record.lsn;
        }
    }
    if (status != MR_END) {
        fail_msg("%s", error.text);
    }
    mr_log_reader_close(reader);
    return new_lsn;
}

struct quarantined {
    struct virtual_disk *vd;
    const char *stem;
    const uint8_t *content; /* of the damaged file */
    size_t len;
    bool *covered;
};

static enum mr_status cover(void *ctx, const char *name) {
    struct quarantined *q = ctx;
    size_t stem_len = strlen(q->stem);
    char path[MR_SEGMENT_PATH_MAX];
    if (strncmp(name, q->stem, stem_len) != 0 || name[stem_len] != '-') {
        return MR_OK;
    }
    size_t offset = strtoull(name + stem_len + 1, NULL, 10);
    (void)snprintf(path, sizeof path, SAMPLE_DIR "/quarantine/%s", name);
    struct mr_bytes bytes = virtual_disk_content(q->vd, path);
    assert_true(bytes.len > 0 && offset + bytes.len <= q->len);
    assert_memory_equal(bytes.ptr, q->content + offset, bytes.len);
    memset(q->covered + offset, true, bytes.len);
    return MR_OK;
}

/* What the new file holds of the old one's bytes: also records that a later segment superseded, which is missing now. */
static void cover_kept(struct mr_bytes now, struct quarantined *q) {
    size_t at = MR_SEGMENT_HEADER;
    struct mr_record r;
    uint64_t check;
    while (at + MR_RECORD_HEADER <= now.len &&
           mr_record_decode(now.ptr + at, &r, &check) == MR_OK) {
        size_t len = MR_RECORD_HEADER + r.payload.len;
        const uint8_t *there = memmem(q->content, q->len, now.ptr + at, len);
        if (there != NULL) {
            memset(q->covered + (there - q->content), true, len);
        }
        at += mr_record_size(r.payload.len);
    }
}

/* Every byte of the files that were written again is zero, in a record kept, in a header that was sound, or in quarantine. */
static void check_quarantine(const struct sample *s, struct virtual_disk *was,
                             struct virtual_disk *vd) {
    for (uint32_t i = 0; i < s->segments.count; i++) {
        char path[MR_SEGMENT_PATH_MAX];
        char stem[MR_SEGMENT_NAME_MAX];
        sample_path(s, i, path);
        struct mr_bytes content = content_of(was, path);
        struct mr_bytes now = content_of(vd, path);
        if (content.len == 0 || mr_bytes_equal(content, now)) {
            continue;
        }
        struct mr_segment header;
        bool *covered = calloc(content.len, 1);
        assert_non_null(covered);
        if (mr_segment_decode(content.ptr, content.len, &header) == MR_OK &&
            header.number == s->segments.items[i].number &&
            header.incarnation == s->segments.items[i].incarnation) {
            memset(covered, true,
                   content.len < MR_SEGMENT_HEADER ? content.len : MR_SEGMENT_HEADER);
        }
        mr_segment_name(&s->segments.items[i], stem);
        stem[strlen(stem) - 4] = '\0';
        struct quarantined q = {vd, stem, content.ptr, content.len, covered};
        cover_kept(now, &q);
        (void)!mr_disk_list(virtual_disk_disk(vd), SAMPLE_DIR "/quarantine", cover, &q);
        for (size_t b = 0; b < content.len; b++) {
            if (!covered[b] && content.ptr[b] != 0) {
                fail_msg("%s: byte %zu is nowhere", stem, b);
            }
        }
        free(covered);
    }
}

/* torn: the last segment stayed as it was, and open cuts the bundle in it that was hit first. */
static void check_records(const struct sample *s, const bool *intact, struct virtual_disk *vd,
                          bool torn) {
    bool *kept = calloc(s->count, 1);
    assert_non_null(kept);
    uint64_t new_lsn = read_kept(s, vd, kept);
    uint64_t torn_lsn = UINT64_MAX;
    assert_true(new_lsn > 0);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct mr_record *r = &s->records[i].record;
        if (torn && !intact[i] && s->records[i].segment + 1 == s->segments.count &&
            torn_lsn == UINT64_MAX) {
            torn_lsn = r->lsn - r->bundle_index;
        }
        if (!kept[i] && intact[i] && r->lsn < torn_lsn) {
            fail_msg("lsn %u is intact, but lost", i + 1);
        }
        assert_true(!kept[i] || r->lsn < new_lsn);
    }
    free(kept);
}

void sample_verify(const struct sample *s, struct virtual_disk *was, struct virtual_disk *vd) {
    struct mr_error error = {.text = ""};
    struct mr_log *log = NULL;
    struct mr_log_repair again;
    char path[MR_SEGMENT_PATH_MAX];
    unsigned changes = VIRTUAL_DISK_CHANGES & ~(1u << VIRTUAL_DISK_MKDIR);
    check_quarantine(s, was, vd);
    uint64_t before = virtual_disk_op_count(vd, changes);
    assert_int_equal(sample_repair(vd, 0, &again), MR_OK);
    assert_int_equal(again.damages + again.lost_lsns + again.quarantined_bytes, 0);
    assert_int_equal(virtual_disk_op_count(vd, changes), before);
    sample_path(s, s->segments.count - 1, path);
    bool torn = mr_bytes_equal(content_of(was, path), content_of(vd, path));
    for (int life = 0; life < 2; life++) {
        if (sample_open_log(vd, 0, &log, &error) != MR_OK) {
            fail_msg("%s", error.text);
        }
        struct mr_log_entry entry = {.type = MR_RECORD_TICK};
        uint64_t seq = mr_log_last_seq(log) + 1;
        assert_int_equal(mr_log_append(log, seq, 1000000, &entry, 1, &error), MR_OK);
        mr_log_close(log);
    }
    bool *intact = find_intact(s, was);
    check_records(s, intact, vd, torn);
    virtual_disk_crash(vd); /* all of it is durable */
    check_records(s, intact, vd, torn);
    free(intact);
    assert_int_equal(sample_repair(vd, 0, &again), MR_OK);
    assert_int_equal(again.damages, 0);
}

struct mr_log_repair sample_repair_and_verify(const struct sample *s, struct virtual_disk *vd) {
    struct virtual_disk *was = virtual_disk_clone(vd, 1);
    struct mr_log_repair repair;
    assert_int_equal(sample_repair(vd, 0, &repair), MR_OK);
    sample_verify(s, was, vd);
    virtual_disk_close(was);
    return repair;
}
