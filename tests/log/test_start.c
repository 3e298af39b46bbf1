/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what log.h says of a start that does not read the whole log:
 *   1. open from every lsn: the same end, seq, time and statistics as from the first; what is before is neither read nor
 *      synced, what is behind is judged as ever;
 *   2. what lacks is said, with both lsns, and can be replaced by a GAP;
 *   3. every operation fails, once and for ever.
 */
#include "tests/log/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void refused(struct virtual_disk *vd, uint64_t from_lsn, const char *says) {
    struct mr_error error = {.text = ""};
    struct mr_log *log = NULL;
    assert_int_equal(sample_open_log(vd, from_lsn, &log, &error), MR_CORRUPT);
    assert_null(log);
    if (strstr(error.text, says) == NULL) {
        fail_msg("`%s` does not say `%s`", error.text, says);
    }
}

static void opens_from_every_lsn(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct sample s;
        sample_make_rich(&s, seed);
        struct virtual_disk *whole = virtual_disk_clone(s.vd, 1);
        struct mr_log *all = sample_opened(whole, 0);
        for (uint64_t from_lsn = 1; from_lsn <= s.count + 1u; from_lsn++) {
            struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
            struct mr_log *log = sample_opened(vd, from_lsn);
            uint32_t first = sample_segment_of(&s, from_lsn);
            uint64_t syncs = virtual_disk_op_count(vd, 1u << VIRTUAL_DISK_SYNC);
            /* One a segment, the end's, the START's, which may need a new segment. */
            assert_true(syncs <= s.segments.count - first + 3);
            assert_int_equal(mr_log_last_lsn(log), mr_log_last_lsn(all));
            assert_int_equal(mr_log_last_seq(log), mr_log_last_seq(all));
            assert_int_equal(mr_log_last_recorded_ms(log), mr_log_last_recorded_ms(all));
            assert_int_equal(mr_log_incarnation(log), mr_log_incarnation(all));
            assert_int_equal(mr_log_first_lsn(log), 1);
            const struct mr_log_stats *a = mr_log_stats(all);
            const struct mr_log_stats *b = mr_log_stats(log);
            assert_int_equal(mr_counter_read(&b->segments), mr_counter_read(&a->segments));
            assert_int_equal(mr_counter_read(&b->records), mr_counter_read(&a->records));
            uint64_t bytes = mr_counter_read(&a->bytes);
            for (uint32_t i = 0; i < s.count; i++) {
                bytes -= s.records[i].segment < first
                             ? mr_record_size(s.records[i].record.payload.len)
                             : 0;
            }
            for (uint32_t i = 0; i < first; i++) {
                bytes += s.segments.items[i].size;
            }
            assert_int_equal(mr_counter_read(&b->bytes), bytes);
            mr_log_close(log);
            virtual_disk_close(vd);
        }
        refused(whole, s.count + 3u, "is needed: its last segments are missing");
        mr_log_close(all);
        virtual_disk_close(whole);
        sample_finish(&s);
    }
}

static void damage_before_is_not_met(void **state) {
    (void)state;
    struct sample s;
    sample_make_rich(&s, 3);
    for (uint32_t i = 0; i < s.count; i++) {
        struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
        const struct sample_record *r = &s.records[i];
        char path[MR_SEGMENT_PATH_MAX];
        sample_path(&s, r->segment, path);
        virtual_disk_flip(vd, path, r->offset + 3, 1);
        bool last = r->segment + 1 == s.segments.count;
        if (!last) {
            uint64_t behind = s.segments.items[r->segment + 1].first_lsn;
            refused(vd, r->record.lsn,
                    "`millrace log repair " SAMPLE_DIR "` quarantines the damage");
            refused(vd, 0, "but the next segment begins at lsn");
            if (behind > s.segments.items[r->segment].first_lsn) {
                mr_log_close(sample_opened(vd, behind));
            }
        }
        virtual_disk_close(vd);
    }
    sample_finish(&s);
}

static void what_lacks_is_said(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s); /* segments of lsn 1, 6 and 11 */
    struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
    sample_remove(&s, vd, 0);
    refused(vd, 0, "begins at lsn 6, but lsn 1 is needed: its first segments are missing");
    refused(vd, 5, "begins at lsn 6, but lsn 5 is needed");
    refused(vd, 5, "`millrace log repair " SAMPLE_DIR " 5` puts a gap in their place");
    struct mr_log *log = sample_opened(vd, 6);
    assert_int_equal(mr_log_first_lsn(log), 6);
    mr_log_close(log);
    virtual_disk_close(vd);

    vd = virtual_disk_clone(s.vd, 1);
    sample_remove(&s, vd, 1);
    refused(vd, 1,
            "zeros where lsn 6 was, but the next segment begins at lsn 11; `millrace log repair");
    mr_log_close(sample_opened(vd, 11));
    virtual_disk_close(vd);

    vd = virtual_disk_clone(s.vd, 1);
    sample_remove(&s, vd, 2);
    refused(vd, 12, "ends at lsn 10, but lsn 11 is needed: its last segments are missing");
    mr_log_close(sample_opened(vd, 11)); /* what follows lsn 10 */
    virtual_disk_close(vd);

    vd = virtual_disk_clone(s.vd, 1);
    sample_truncate(&s, vd, 1, 5000);
    refused(vd, 1,
            "offset 5000: cut short, made with 8192 bytes; `millrace log repair " SAMPLE_DIR "`");
    virtual_disk_close(vd);

    /* What looks torn is damaged when it is known to have been synced; its bytes are not cut then. */
    vd = virtual_disk_clone(s.vd, 1);
    char path[MR_SEGMENT_PATH_MAX];
    sample_path(&s, 2, path);
    virtual_disk_flip(vd, path, s.records[10].offset + 100, 1);
    uint64_t writes = virtual_disk_op_count(vd, 1u << VIRTUAL_DISK_WRITE);
    refused(vd, 14,
            "ends at lsn 10, but lsn 13 is needed: its last segments are missing or damaged");
    assert_int_equal(virtual_disk_op_count(vd, 1u << VIRTUAL_DISK_WRITE), writes);
    struct mr_log_repair repair;
    assert_int_equal(sample_repair(vd, 14, &repair), MR_OK);
    assert_int_equal(repair.lost_lsns, 1); /* the two behind it are sound */
    mr_log_close(sample_opened(vd, 14));
    virtual_disk_close(vd);

    vd = virtual_disk_open(1);
    refused(vd, 2, "lsn 1 is needed, but the log files are missing");
    virtual_disk_close(vd);
    sample_finish(&s);
}

/* What is missing before and behind, replaced by GAPs on demand. */
static void gaps_for_what_is_needed(void **state) {
    (void)state;
    struct sample s;
    struct mr_log_repair repair;
    sample_make_small(&s);
    struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
    sample_remove(&s, vd, 0);
    struct virtual_disk *was = virtual_disk_clone(vd, 1);
    assert_int_equal(sample_repair(vd, 0, &repair), MR_OK);
    assert_int_equal(repair.damages, 0); /* retention may have removed it */
    assert_int_equal(sample_repair(vd, 4, &repair), MR_OK);
    assert_int_equal(repair.damages, 1);
    assert_int_equal(repair.lost_lsns, 2);
    mr_log_close(sample_opened(vd, 4));
    assert_int_equal(sample_repair(vd, 4, &repair), MR_OK);
    assert_int_equal(repair.damages, 0);
    virtual_disk_close(vd);

    vd = virtual_disk_clone(was, 1);
    assert_int_equal(sample_repair(vd, 1, &repair), MR_OK);
    assert_int_equal(repair.lost_lsns, 5);
    sample_verify(&s, was, vd);
    virtual_disk_close(vd);
    virtual_disk_close(was);

    vd = virtual_disk_clone(s.vd, 1);
    sample_remove(&s, vd, 2);
    assert_int_equal(sample_repair(vd, 14, &repair), MR_OK);
    assert_int_equal(repair.lost_lsns, 3);
    struct mr_log *log = sample_opened(vd, 14);
    assert_int_equal(mr_log_last_lsn(log), 14); /* its START */
    assert_true(mr_log_last_seq(log) > 8);      /* of the bundle that was there */
    mr_log_close(log);
    virtual_disk_close(vd);
    sample_finish(&s);
}

/* A segment that got its name when the power went has no record; the time and seq stand in the one before. */
static void an_empty_last_segment(void **state) {
    (void)state;
    struct sample s;
    struct mr_file *file;
    bool named;
    sample_make_small(&s);
    struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
    struct mr_segment empty = s.segments.items[2];
    empty.number = 4;
    empty.first_lsn = s.count + 1u;
    empty.first_seq = 30;
    assert_int_equal(mr_segment_create(virtual_disk_disk(vd), SAMPLE_DIR, &empty, &file, &named),
                     MR_OK);
    mr_file_close(file);
    struct mr_log *log = sample_opened(vd, s.count + 1u);
    assert_int_equal(mr_log_last_seq(log), 9);
    assert_int_equal(mr_log_last_recorded_ms(log), 60);
    mr_log_close(log);
    virtual_disk_close(vd);
    sample_finish(&s);
}

static void open_fails_everywhere(void **state) {
    (void)state;
    struct sample s;
    sample_make_rich(&s, 6);
    uint64_t from_lsn = s.segments.items[s.segments.count / 2].first_lsn + 1;
    struct virtual_disk *clean = virtual_disk_clone(s.vd, 1);
    mr_log_close(sample_opened(clean, from_lsn));
    uint64_t ops = virtual_disk_op_count(clean, VIRTUAL_DISK_ALL);
    virtual_disk_close(clean);
    for (uint64_t k = 1; k <= ops; k++) {
        for (int how = 0; how < 4; how++) {
            static int64_t ms[SAMPLE_LSNS];
            struct virtual_disk *vd = virtual_disk_clone(s.vd, k * 4 + (uint64_t)how);
            struct mr_log *log = NULL;
            struct mr_error error = {.text = ""};
            virtual_disk_fail(vd, k, VIRTUAL_DISK_ALL,
                              how % 2 == 0 ? VIRTUAL_DISK_ONCE : VIRTUAL_DISK_FOREVER, MR_IO);
            enum mr_status status = sample_open_log(vd, from_lsn, &log, &error);
            assert_true(status == MR_IO || (status == MR_OK && how % 2 == 0));
            assert_true(status == MR_OK || error.text[0] != '\0');
            mr_log_close(log);
            virtual_disk_fail(vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
            if (how >= 2) {
                virtual_disk_crash(vd);
            }
            log = sample_opened(vd, from_lsn);
            assert_true(mr_log_last_lsn(log) > s.count);
            sample_times(vd, 1, mr_log_last_lsn(log), ms);
            mr_log_close(log);
            virtual_disk_close(vd);
        }
    }
    sample_finish(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_from_every_lsn),  cmocka_unit_test(damage_before_is_not_met),
        cmocka_unit_test(what_lacks_is_said),    cmocka_unit_test(gaps_for_what_is_needed),
        cmocka_unit_test(an_empty_last_segment), cmocka_unit_test(open_fails_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
