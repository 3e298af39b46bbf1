/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a repair that does not come to its end harms nothing, and that the next one does the rest, by the oracle of
 * tests/log/sample.h:
 *   1. power cut in every changing operation;
 *   2. every operation fails, once and for ever, with and without a power cut behind it;
 *   3. every allocation fails; the disk is full;
 *   4. a repair of what was repaired keeps both damages apart.
 */
#include "base/alloc.h"
#include "tests/log/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void flip(const struct sample *s, struct virtual_disk *vd, uint32_t lsn, uint64_t at) {
    char path[MR_SEGMENT_PATH_MAX];
    sample_path(s, s->records[lsn - 1].segment, path);
    virtual_disk_flip(vd, path, s->records[lsn - 1].offset + at, 0x10);
}

/* Two records of one segment, and one of the next. */
static void in_records(const struct sample *s, struct virtual_disk *vd) {
    flip(s, vd, 3, 0);
    flip(s, vd, 5, MR_RECORD_HEADER + 2000);
    flip(s, vd, 8, 24);
}

static void missing(const struct sample *s, struct virtual_disk *vd) {
    sample_remove(s, vd, 1);
    flip(s, vd, 2, 30);
}

static void headers(const struct sample *s, struct virtual_disk *vd) {
    sample_fill(s, vd, 0, 0, 0xab, 100);
    sample_truncate(s, vd, 1, s->records[7].offset + 100);
    sample_fill(s, vd, 2, 40, 1, 1);
}

/* The last one cut, and a stray file. */
static void ends(const struct sample *s, struct virtual_disk *vd) {
    struct mr_file *file;
    uint8_t bytes[600];
    memset(bytes, 0x77, sizeof bytes);
    sample_truncate(s, vd, 2, s->records[s->count - 1].offset + 20);
    assert_int_equal(mr_file_open(virtual_disk_disk(vd),
                                  SAMPLE_DIR "/0000000000000002-00000009.log", MR_FILE_CREATE,
                                  &file),
                     MR_OK);
    assert_int_equal(mr_file_pwrite(file, mr_bytes_of(bytes, sizeof bytes), 0), MR_OK);
    assert_int_equal(mr_file_sync(file), MR_OK);
    mr_file_close(file);
    assert_int_equal(mr_disk_sync_dir(virtual_disk_disk(vd), SAMPLE_DIR), MR_OK);
}

static void (*const damages[])(const struct sample *s,
                               struct virtual_disk *vd) = {in_records, missing, headers, ends};

enum { DAMAGES = sizeof damages / sizeof damages[0] };

/* The disk after this damage, and how many operations its repair takes. */
static struct virtual_disk *damaged(const struct sample *s, size_t i, unsigned kinds,
                                    uint64_t *ret_ops) {
    struct virtual_disk *was = virtual_disk_clone(s->vd, 1);
    struct mr_log_repair repair;
    damages[i](s, was);
    struct virtual_disk *vd = virtual_disk_clone(was, 1);
    uint64_t before = virtual_disk_op_count(vd, kinds);
    assert_int_equal(sample_repair(vd, 0, &repair), MR_OK);
    assert_true(repair.damages >= 2);
    *ret_ops = virtual_disk_op_count(vd, kinds) - before;
    virtual_disk_close(vd);
    return was;
}

static void finish(const struct sample *s, struct virtual_disk *was, struct virtual_disk *vd) {
    struct mr_log_repair repair;
    assert_int_equal(sample_repair(vd, 0, &repair), MR_OK);
    sample_verify(s, was, vd);
    virtual_disk_close(vd);
}

static void power_cut_everywhere(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    for (size_t i = 0; i < DAMAGES; i++) {
        uint64_t ops;
        struct virtual_disk *was = damaged(&s, i, VIRTUAL_DISK_CHANGES, &ops);
        assert_true(ops > 15);
        for (uint64_t k = 1; k <= ops; k++) {
            for (uint64_t seed = 1; seed <= 3; seed++) {
                struct virtual_disk *vd = virtual_disk_clone(was, k * 8 + seed);
                struct mr_log_repair repair;
                virtual_disk_cut_power(vd, k);
                assert_int_equal(sample_repair(vd, 0, &repair), MR_IO);
                virtual_disk_crash(vd);
                if (seed == 2) { /* and once more, somewhere */
                    virtual_disk_cut_power(vd, 1 + k * 7 % ops);
                    (void)sample_repair(vd, 0, &repair);
                    virtual_disk_crash(vd);
                }
                finish(&s, was, vd);
            }
        }
        virtual_disk_close(was);
    }
    sample_finish(&s);
}

static void every_operation_fails(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    for (size_t i = 0; i < DAMAGES; i++) {
        uint64_t ops;
        struct virtual_disk *was = damaged(&s, i, VIRTUAL_DISK_ALL, &ops);
        for (uint64_t k = 1; k <= ops; k++) {
            struct virtual_disk *vd = virtual_disk_clone(was, k);
            struct mr_log_repair repair;
            bool forever = k % 2 == 0;
            enum mr_status failure = k % 3 == 0 ? MR_NO_SPACE : MR_IO;
            virtual_disk_fail(vd, k, VIRTUAL_DISK_ALL,
                              forever ? VIRTUAL_DISK_FOREVER : VIRTUAL_DISK_ONCE, failure);
            enum mr_status status = sample_repair(vd, 0, &repair);
            assert_true(status == failure);
            virtual_disk_fail(vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
            if (k % 5 < 2) {
                virtual_disk_crash(vd);
            }
            finish(&s, was, vd);
        }
        virtual_disk_close(was);
    }
    sample_finish(&s);
}

static void no_memory_changes_nothing_that_matters(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    for (size_t i = 0; i < DAMAGES; i++) {
        uint64_t ops;
        struct virtual_disk *was = damaged(&s, i, VIRTUAL_DISK_ALL, &ops);
        enum mr_status status = MR_NO_MEMORY;
        for (size_t k = 1; status == MR_NO_MEMORY; k++) {
            struct virtual_disk *vd = virtual_disk_clone(was, k);
            struct mr_log_repair repair;
            mr_alloc_fail_at(k, 0);
            status = sample_repair(vd, 0, &repair);
            mr_alloc_fail_at(0, 0);
            assert_true(status == MR_OK || status == MR_NO_MEMORY);
            assert_true(status == MR_NO_MEMORY || k > 10);
            finish(&s, was, vd);
        }
        virtual_disk_close(was);
    }
    sample_finish(&s);
}

static void full_disk_is_said(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    for (size_t i = 0; i < DAMAGES; i++) {
        uint64_t ops;
        struct virtual_disk *was = damaged(&s, i, VIRTUAL_DISK_ALL, &ops);
        for (uint64_t room = 0; room < 12000; room += 800) {
            struct virtual_disk *vd = virtual_disk_clone(was, room);
            struct mr_log_repair repair;
            virtual_disk_set_capacity(vd, 8192 * 3 + room);
            enum mr_status status = sample_repair(vd, 0, &repair);
            assert_true(status == MR_OK || status == MR_NO_SPACE);
            assert_true(status == MR_NO_SPACE || room > 4096 || i > 0);
            virtual_disk_set_capacity(vd, 0);
            finish(&s, was, vd);
        }
        virtual_disk_close(was);
    }
    sample_finish(&s);
}

static void repaired_twice_at_one_place(void **state) {
    (void)state;
    struct sample s;
    struct mr_log_repair repair;
    sample_make_small(&s);
    struct virtual_disk *was = virtual_disk_clone(s.vd, 1);
    flip(&s, was, 3, 5);
    struct virtual_disk *vd = virtual_disk_clone(was, 1);
    assert_int_equal(sample_repair(vd, 0, &repair), MR_OK);
    assert_int_equal(repair.lost_lsns, 1);
    /* The GAP stands where the record stood; now it is damaged, and the record behind it too. */
    flip(&s, vd, 3, 5);
    struct mr_log_repair again;
    assert_int_equal(sample_repair(vd, 0, &again), MR_OK);
    assert_int_equal(again.damages, 1);
    assert_int_equal(again.lost_lsns, 1);
    static const char first[] = SAMPLE_DIR "/quarantine/0000000000000001-00000001-4360.bin";
    static const char second[] = SAMPLE_DIR "/quarantine/0000000000000001-00000001-4360-2.bin";
    assert_int_equal(virtual_disk_content(vd, first).len, repair.quarantined_bytes);
    assert_int_equal(virtual_disk_content(vd, second).len, again.quarantined_bytes);
    assert_int_equal(mr_disk_unlink(virtual_disk_disk(vd), second), MR_OK); /* is not of `was` */
    sample_verify(&s, was, vd);
    virtual_disk_close(was);
    virtual_disk_close(vd);
    sample_finish(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cut_everywhere),
        cmocka_unit_test(every_operation_fails),
        cmocka_unit_test(no_memory_changes_nothing_that_matters),
        cmocka_unit_test(full_disk_is_said),
        cmocka_unit_test(repaired_twice_at_one_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
