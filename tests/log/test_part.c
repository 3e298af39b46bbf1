/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a part gives back what was synced to it, against a list of its blocks:
 *   1. random blocks of all lengths: every len that ends a block reads just the blocks below it, from every block on;
 *   2. power cut in every changing operation: what was synced is there, and of the rest each block whole or not;
 *   3. every k-th operation fails, once and for ever: the writer is poisoned, and what was synced is there;
 *   4. every k-th allocation fails: nothing has changed.
 */
#include "base/alloc.h"
#include "tests/log/part_sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void random_blocks(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct part_sample s;
        struct mr_error error;
        sample_open(&s, seed, (struct mr_part_id){seed, sample_mixed(seed), (uint32_t)seed});
        assert_int_equal(mr_part_create(s.disk, SAMPLE_DIR, &s.id, &s.writer, &error), MR_OK);
        assert_int_equal(mr_part_number(s.writer), seed);
        assert_int_equal(mr_part_synced(s.writer), 0);
        while (s.count < 16) {
            size_t len = sample_mixed(seed * 100 + s.count) % (s.count % 5 == 0 ? 70000 : 300);
            assert_int_equal(sample_append(&s, len, &error), MR_OK);
            uint64_t synced = mr_part_synced(s.writer);
            if (sample_mixed(seed + s.count) % 3 == 0) {
                assert_int_equal(mr_part_sync(s.writer, &error), MR_OK);
                synced = mr_part_len(s.writer);
            }
            assert_int_equal(mr_part_synced(s.writer), synced);
            sample_must_hold(&s, s.disk, mr_part_len(s.writer)); /* seen before it is durable */
        }
        for (size_t from = 0; from <= s.count; from++) {
            for (size_t to = from; to <= s.count; to++) {
                size_t seen;
                assert_int_equal(sample_read(&s, s.disk, sample_begin(&s, from),
                                             sample_begin(&s, to), &seen, &error),
                                 MR_OK);
                assert_int_equal(seen, to);
            }
        }
        sample_close(&s);
    }
}

static void largest_block(void **state) {
    (void)state;
    struct part_sample s;
    struct mr_error error;
    sample_open(&s, 1, sample_small_id);
    assert_int_equal(mr_part_create(s.disk, SAMPLE_DIR, &s.id, &s.writer, &error), MR_OK);
    uint8_t *zeros = calloc(1, MR_PART_BLOCK_MAX + 1);
    assert_non_null(zeros);
    assert_int_equal(mr_part_append(s.writer, 1, mr_bytes_of(zeros, MR_PART_BLOCK_MAX + 1), &error),
                     MR_LIMIT);
    assert_false(mr_part_poisoned(s.writer));
    assert_int_equal(mr_part_len(s.writer), MR_PART_HEADER);
    assert_int_equal(mr_part_append(s.writer, 1, mr_bytes_of(zeros, MR_PART_BLOCK_MAX), &error),
                     MR_OK);
    free(zeros);
    uint64_t len = mr_part_len(s.writer);
    assert_int_equal(mr_part_verify(s.disk, SAMPLE_DIR, &s.id, 0, len, &error), MR_OK);
    sample_close(&s);
}

static void two_of_one_number(void **state) {
    (void)state;
    struct part_sample s;
    struct mr_error error;
    sample_make_small(&s, sample_small_id);
    struct mr_part_writer *writer;
    assert_int_equal(mr_part_create(s.disk, SAMPLE_DIR, &sample_small_id, &writer, &error),
                     MR_BUSY);
    sample_must_hold(&s, s.disk, s.end[s.count - 1]);
    sample_close(&s);
}

static enum mr_status stop_at_third(void *ctx, uint64_t tag, struct mr_bytes payload) {
    (void)tag;
    (void)payload;
    return ++*(int *)ctx == 3 ? MR_LIMIT : MR_OK;
}

static void visit_stops(void **state) {
    (void)state;
    struct part_sample s;
    struct mr_error error;
    int calls = 0;
    sample_make_small(&s, sample_small_id);
    assert_int_equal(mr_part_read(s.disk, SAMPLE_DIR, &s.id, 0, s.end[s.count - 1], stop_at_third,
                                  &calls, &error),
                     MR_LIMIT);
    assert_int_equal(calls, 3);
    sample_close(&s);
}

/* ---- failures ---- */

/* One fixed run: made, appended to, synced. Stops at the first failure. Returns its status, and how
 * much was synced. */
static enum mr_status script(struct part_sample *s, uint64_t *ret_synced, struct mr_error *error) {
    *ret_synced = 0;
    enum mr_status status = mr_part_create(s->disk, SAMPLE_DIR, &s->id, &s->writer, error);
    for (size_t i = 0; status == MR_OK && i < 9; i++) {
        status = sample_append(s, 100 + 700 * (i % 3), error);
        if (status == MR_OK && i % 3 == 2) {
            status = mr_part_sync(s->writer, error);
        }
        *ret_synced = mr_part_synced(s->writer);
    }
    return status;
}

static void must_hold_synced(struct part_sample *s, uint64_t synced) {
    struct mr_error error;
    size_t seen;
    if (synced > 0) {
        sample_must_hold(s, s->disk, synced);
    }
    /* What was not may be there or not, each block whole; never anything else. */
    for (size_t i = 0; i <= s->count; i++) {
        enum mr_status status = sample_read(s, s->disk, 0, sample_begin(s, i), &seen, &error);
        assert_true(status == MR_OK || (status == MR_CORRUPT && sample_begin(s, i) > synced));
    }
}

static void power_cut_everywhere(void **state) {
    (void)state;
    uint64_t probes[VIRTUAL_DISK_PROBE_COUNT] = {0};
    int cuts = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        enum mr_status status = MR_IO;
        for (uint64_t nth = 1; status != MR_OK; nth++) {
            struct part_sample s;
            struct mr_error error;
            uint64_t synced;
            sample_open(&s, seed * 1000 + nth, sample_small_id);
            virtual_disk_cut_power(s.vd, nth);
            status = script(&s, &synced, &error);
            assert_true(status == MR_OK || !virtual_disk_power(s.vd));
            cuts += status != MR_OK;
            virtual_disk_crash(s.vd);
            must_hold_synced(&s, synced);
            for (unsigned i = 0; i < VIRTUAL_DISK_PROBE_COUNT; i++) {
                probes[i] += virtual_disk_probe(s.vd, (enum virtual_disk_probe)i);
            }
            sample_close(&s);
        }
    }
    assert_true(cuts >= 10 * 14); /* header, 9 blocks, 3 syncs, the directory */
    assert_true(probes[VIRTUAL_DISK_PROBE_WRITE_TORN] > 0);
    assert_true(probes[VIRTUAL_DISK_PROBE_NAME_DROPPED] > 0);
}

static void poisoned(struct part_sample *s) {
    struct mr_error error;
    assert_true(mr_part_poisoned(s->writer));
    uint64_t before = virtual_disk_op_count(s->vd, VIRTUAL_DISK_ALL);
    assert_int_equal(sample_append(s, 10, &error), MR_IO);
    assert_int_equal(mr_part_sync(s->writer, &error), MR_IO);
    assert_int_equal(virtual_disk_op_count(s->vd, VIRTUAL_DISK_ALL), before);
}

static void every_operation_fails(void **state) {
    (void)state;
    static const enum mr_status statuses[] = {MR_IO, MR_NO_SPACE};
    for (int how = 0; how < 4; how++) {
        enum mr_status status = MR_IO;
        uint64_t nth = 1;
        for (; status != MR_OK; nth++) {
            struct part_sample s;
            struct mr_error error;
            uint64_t synced;
            sample_open(&s, nth, sample_small_id);
            virtual_disk_fail(s.vd, nth, VIRTUAL_DISK_ALL,
                              how < 2 ? VIRTUAL_DISK_ONCE : VIRTUAL_DISK_FOREVER,
                              statuses[how % 2]);
            status = script(&s, &synced, &error);
            assert_true(status == MR_OK || status == statuses[how % 2]);
            if (status != MR_OK && s.writer != NULL) {
                poisoned(&s);
            }
            virtual_disk_fail(s.vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
            must_hold_synced(&s, synced);
            virtual_disk_crash(s.vd);
            must_hold_synced(&s, synced);
            sample_close(&s);
        }
        assert_true(nth > 15);
    }
}

/* A failed reading is not called corruption: the file may be sound. */
static void every_reading_fails(void **state) {
    (void)state;
    struct part_sample s;
    struct mr_error error;
    sample_make_small(&s, sample_small_id);
    enum mr_status status = MR_IO;
    uint64_t nth = 1;
    for (; status != MR_OK; nth++) {
        virtual_disk_fail(s.vd, nth, VIRTUAL_DISK_ALL, VIRTUAL_DISK_ONCE, MR_IO);
        status = mr_part_verify(s.disk, SAMPLE_DIR, &s.id, 0, s.end[s.count - 1], &error);
        assert_true(status == MR_OK || status == MR_IO);
    }
    assert_int_equal(nth - 1, 1 + 1 + 1 + 2 * s.count + 1); /* open, size, header, blocks; none */
    sample_close(&s);
}

static void every_allocation_fails(void **state) {
    (void)state;
    struct mr_error error;
    struct part_sample s;
    int failed = 0;
    for (size_t nth = 1;; nth++) {
        sample_open(&s, 1, sample_small_id);
        uint64_t synced;
        mr_alloc_fail_at(nth, 0);
        enum mr_status status = script(&s, &synced, &error);
        mr_alloc_fail_at(0, 0);
        if (status == MR_OK) {
            break;
        }
        failed++;
        assert_int_equal(status, MR_NO_MEMORY);
        assert_null(s.writer);
        assert_int_equal(
            virtual_disk_op_count(s.vd, VIRTUAL_DISK_CHANGES & ~(1u << VIRTUAL_DISK_MKDIR)), 0);
        sample_close(&s);
    }
    assert_int_equal(failed, 1); /* the writer; appending needs no memory */
    for (size_t nth = 1;; nth++) {
        mr_alloc_fail_at(nth, 1);
        enum mr_status status =
            mr_part_verify(s.disk, SAMPLE_DIR, &s.id, 0, mr_part_len(s.writer), &error);
        mr_alloc_fail_at(0, 0);
        if (status == MR_OK) {
            break;
        }
        failed++;
        assert_int_equal(status, MR_NO_MEMORY);
    }
    assert_true(failed > 2);
    sample_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_blocks),        cmocka_unit_test(largest_block),
        cmocka_unit_test(two_of_one_number),    cmocka_unit_test(visit_stops),
        cmocka_unit_test(power_cut_everywhere), cmocka_unit_test(every_operation_fails),
        cmocka_unit_test(every_reading_fails),  cmocka_unit_test(every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
