/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that segments read at once say what they say one behind the other, and only that. Logs of all kinds (torn and
 * begun again, given up, restarted, repaired) are written to a directory of the system's disk, whole and with every
 * sixth record damaged in its header or in its payload, and with the last bundle of each segment made to lack a record: then
 * each segment is sound, and the log is not. The oracle is the walk one by one:
 *   1. where the threads have an answer, it is the oracle's, segment for segment;
 *   2. they have none where the oracle finds damage;
 *   3. they have one of most logs that are whole.
 */
#include "log/walk.h"

#include "base/alloc.h"
#include "tests/log/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEGMENTS_MAX = 64 };

struct place {
    char home[sizeof "/tmp/millrace-walk-XXXXXX"];
    uint32_t agreed;
    uint32_t damaged;
    uint32_t undecided; /* sound, and no answer */
};

static void copy_out(struct virtual_disk *vd, const struct mr_segments *segments) {
    struct mr_disk *disk = mr_disk_system();
    assert_int_equal(mr_disk_mkdir(disk, SAMPLE_DIR), MR_OK);
    for (uint32_t i = 0; i < segments->count; i++) {
        char path[MR_SEGMENT_PATH_MAX];
        struct mr_file *file;
        assert_int_equal(mr_segment_path(SAMPLE_DIR, &segments->items[i], path), MR_OK);
        struct mr_bytes content = virtual_disk_content(vd, path);
        assert_int_equal(mr_file_open(disk, path, MR_FILE_CREATE, &file), MR_OK);
        assert_int_equal(mr_file_truncate(file, content.len), MR_OK);
        assert_int_equal(mr_file_pwrite(file, content, 0), MR_OK);
        mr_file_close(file);
    }
}

static void remove_all(const struct mr_segments *segments) {
    for (uint32_t i = 0; i < segments->count; i++) {
        char path[MR_SEGMENT_PATH_MAX];
        assert_int_equal(mr_segment_path(SAMPLE_DIR, &segments->items[i], path), MR_OK);
        assert_int_equal(mr_disk_unlink(mr_disk_system(), path), MR_OK);
    }
}

static void same_summary(const struct mr_segment_summary *a, const struct mr_segment_summary *b) {
    assert_int_equal(a->segment.number, b->segment.number);
    assert_int_equal(a->segment.size, b->segment.size);
    assert_int_equal(a->segment.first_seq, b->segment.first_seq);
    assert_int_equal(a->records, b->records);
    assert_int_equal(a->last_lsn, b->last_lsn);
    assert_int_equal(a->last_seq, b->last_seq);
    assert_int_equal(a->lost, b->lost);
    assert_int_equal(a->gap_lsn, b->gap_lsn);
    assert_int_equal(a->config_lsn, b->config_lsn);
    assert_int_equal(a->first_ms, b->first_ms);
    assert_int_equal(a->last_ms, b->last_ms);
    assert_int_equal(a->end, b->end);
    assert_int_equal(a->bundle_start, b->bundle_start);
    assert_int_equal(a->dirty_end, b->dirty_end);
}

static void same_chain(const struct mr_chain *a, const struct mr_chain *b) {
    assert_int_equal(a->next_lsn, b->next_lsn);
    assert_int_equal(a->seq, b->seq);
    assert_int_equal(a->index, b->index);
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->gap, b->gap);
}

/* What lies on the system's disk, from every segment on. */
static void compare(struct place *p, const struct mr_segments *segments) {
    struct mr_disk *disk = mr_disk_system();
    struct mr_error error;
    for (uint32_t first = 0; first < segments->count; first++) {
        struct mr_segment_summary summary[SEGMENTS_MAX];
        struct mr_chain chain[SEGMENTS_MAX];
        struct mr_chain now = mr_recover_chain(segments, first);
        enum mr_status status = MR_OK;
        assert_true(segments->count <= SEGMENTS_MAX);
        for (uint32_t i = first; status == MR_OK && i < segments->count; i++) {
            status = mr_recover_segment(disk, SAMPLE_DIR, segments, i, &now, NULL, NULL, &summary[i], &error);
            chain[i] = now;
        }
        struct mr_walked *walked = mr_walk_open(disk, SAMPLE_DIR, segments, first);
        assert_true(walked == NULL || status == MR_OK);
        for (uint32_t i = first; walked != NULL && i < segments->count; i++) {
            same_summary(&walked[i - first].summary, &summary[i]);
            same_chain(&walked[i - first].chain, &chain[i]);
        }
        p->agreed += walked != NULL;
        p->damaged += status != MR_OK;
        p->undecided += walked == NULL && status == MR_OK && first + 1 < segments->count;
        mr_free(walked);
    }
}

static void damage(struct place *p, const struct sample *s, const struct sample_record *r, uint64_t at) {
    struct mr_file *file;
    char path[MR_SEGMENT_PATH_MAX];
    uint8_t byte;
    size_t got;
    sample_path(s, r->segment, path);
    assert_int_equal(mr_file_open(mr_disk_system(), path, MR_FILE_WRITE, &file), MR_OK);
    assert_int_equal(mr_file_pread(file, &byte, 1, r->offset + at, &got), MR_OK);
    uint8_t wrong = byte ^ 4;
    assert_int_equal(mr_file_pwrite(file, mr_bytes_of(&wrong, 1), r->offset + at), MR_OK);
    compare(p, &s->segments);
    assert_int_equal(mr_file_pwrite(file, mr_bytes_of(&byte, 1), r->offset + at), MR_OK);
    mr_file_close(file);
}

static void write_header(const struct sample *s, const struct sample_record *r, uint32_t bundle_count) {
    struct mr_file *file;
    char path[MR_SEGMENT_PATH_MAX];
    uint8_t header[MR_RECORD_HEADER];
    struct mr_record record = r->record;
    const struct iovec payload = {(void *)(uintptr_t)record.payload.ptr, record.payload.len};
    record.bundle_count = bundle_count;
    mr_record_encode(&record, &payload, 1, header);
    sample_path(s, r->segment, path);
    assert_int_equal(mr_file_open(mr_disk_system(), path, MR_FILE_WRITE, &file), MR_OK);
    assert_int_equal(mr_file_pwrite(file, mr_bytes_of(header, sizeof header), r->offset), MR_OK);
    mr_file_close(file);
}

/* All of the bundle whose last record is i say that there is one more. */
static void compare_lacking(struct place *p, const struct sample *s, uint32_t i) {
    for (uint32_t lacking = 2; lacking-- > 0;) { /* then as it was */
        for (uint32_t k = 0; k <= i; k++) {
            if (s->records[k].record.seq == s->records[i].record.seq) {
                write_header(s, &s->records[k], s->records[k].record.bundle_count + lacking);
            }
        }
        compare(p, &s->segments);
    }
}

static void compare_repaired(struct place *p, const struct sample *s, uint32_t i) {
    struct virtual_disk *vd = virtual_disk_clone(s->vd, 1);
    struct mr_log_repair repair;
    struct mr_segments segments;
    struct mr_error error;
    const uint8_t wrong = 0xee;
    sample_write(s, vd, s->records[i].segment, s->records[i].offset + 30, &wrong, 1);
    assert_int_equal(sample_repair(vd, 0, &repair), MR_OK);
    assert_int_equal(mr_segments_list(virtual_disk_disk(vd), SAMPLE_DIR, &segments, &error), MR_OK);
    copy_out(vd, &segments);
    compare(p, &segments);
    remove_all(&segments);
    mr_segments_finish(&segments);
    virtual_disk_close(vd);
}

static void as_one_behind_the_other(void **state) {
    struct place *p = *state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct sample s;
        sample_make_rich(&s, seed);
        copy_out(s.vd, &s.segments);
        uint32_t before = p->agreed;
        compare(p, &s.segments);
        assert_true(s.segments.count > 2 && p->agreed > before);
        for (uint32_t i = (uint32_t)seed % 6; i < s.count; i += 6) {
            uint64_t len = s.records[i].record.payload.len;
            damage(p, &s, &s.records[i], i / 6 % 2 == 0 || len == 0 ? 30 : MR_RECORD_HEADER + len - 1);
        }
        uint32_t damaged = p->damaged;
        for (uint32_t i = 0; i + 1 < s.count; i++) {
            if (s.records[i + 1].segment != s.records[i].segment) {
                compare_lacking(p, &s, i);
            }
        }
        assert_true(p->damaged > damaged);
        remove_all(&s.segments);
        for (uint32_t i = 0; i < s.count; i += 20) {
            compare_repaired(p, &s, i);
        }
        sample_finish(&s);
    }
    assert_true(p->agreed > 50 && p->damaged > 50 && p->undecided < p->agreed / 2);
}

static int enter(void **state) {
    static struct place p = {.home = "/tmp/millrace-walk-XXXXXX"};
    *state = &p;
    return mkdtemp(p.home) == NULL || chdir(p.home) != 0;
}

static int leave(void **state) {
    struct place *p = *state;
    return rmdir(SAMPLE_DIR) != 0 || rmdir("data") != 0 || chdir("/") != 0 || rmdir(p->home) != 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_one_behind_the_other),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
