/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a log on a disk that loses power, fails or fills up keeps what it acknowledged, in
 * order, and nothing else but at most the beginning of one bundle that was not:
 *   1. random appends, power cuts in random operations (also inside recovery), reopens; the log is
 *      read whole after each, against the model;
 *   2. power cut in every single changing operation of one fixed run;
 *   3. every k-th operation fails, once and for ever, also with a reopen without a crash (what a
 *      failed sync left in the page cache must not be believed);
 *   4. the disk fills up, refuses without changing anything, and goes on when there is space.
 */
#include "base/alloc.h"
#include "tests/log/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static uint64_t probes[VIRTUAL_DISK_PROBE_COUNT];

static void note_probes(const struct world *w) {
    for (unsigned i = 0; i < VIRTUAL_DISK_PROBE_COUNT; i++) {
        probes[i] += virtual_disk_probe(w->vd, (enum virtual_disk_probe)i);
    }
}

/* Opens, also when power goes while it does. */
static void reopen(struct world *w) {
    struct mr_error error = {.status = MR_OK};
    while (world_open(w, &error) != MR_OK) {
        if (virtual_disk_power(w->vd)) {
            fail_msg("%s", error.text);
        }
        virtual_disk_crash(w->vd);
    }
}

static void crashes_lose_nothing(uint64_t seed, bool sync) {
    struct world w;
    struct mr_error error;
    world_init(&w, seed, 8192 + (seed % 5) * 4096);
    w.sync = sync;
    reopen(&w);
    for (int life = 0; life < 12; life++) {
        virtual_disk_cut_power(w.vd, 1 + world_below(&w, 24));
        for (;;) {
            struct bundle b = world_bundle(&w, world_below(&w, 10) == 0 ? 9000 : 300);
            if (world_append(&w, &b, &error) != MR_OK) {
                assert_false(virtual_disk_power(w.vd));
                break;
            }
            assert_true(w.truth_len < 10000);
        }
        world_crash(&w);
        if (world_below(&w, 2) == 0) {
            virtual_disk_cut_power(w.vd, 1 + world_below(&w, 8));
        }
        reopen(&w);
        virtual_disk_cut_power(w.vd, 0);
        world_check(&w);
    }
    note_probes(&w);
    world_finish(&w);
}

static void random_crashes(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        crashes_lose_nothing(seed, true);
    }
}

/* With sync off a power cut may lose what was acknowledged, but the end only, and never invents. */
static void random_crashes_unsynced(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world w;
        struct mr_error error;
        world_init(&w, seed, 8192);
        w.sync = false;
        reopen(&w);
        for (uint64_t n = world_below(&w, 40); n > 0; n--) {
            struct bundle b = world_bundle(&w, 300);
            assert_int_equal(world_append(&w, &b, &error), MR_OK);
        }
        if (seed % 3 == 0) { /* the process ends, the machine does not */
            world_close(&w);
            reopen(&w);
            world_check(&w);
        } else {
            world_crash(&w);
            reopen(&w);
            enum mr_status status;
            (void)world_compare(&w, virtual_disk_disk(w.vd), WORLD_DIR, 0, &status, &error);
            assert_int_equal(status, MR_OK);
        }
        note_probes(&w);
        world_finish(&w);
    }
}

/* The same bundles for each disk_seed, which decides what a crash leaves. */
static void fixed_init(struct world *w, uint64_t disk_seed) {
    world_init(w, disk_seed, 8192);
    w->random = 7;
}

/* One fixed run: open, a few bundles over some segments, close, open, a few more. Ends where it
 * fails. */
static enum mr_status fixed_run(struct world *w) {
    struct mr_error error;
    for (int round = 0; round < 2; round++) {
        enum mr_status status = world_open(w, &error);
        for (int i = 0; status == MR_OK && i < 8; i++) {
            struct bundle b = world_bundle(w, i == 3 ? 9000 : 700);
            status = world_append(w, &b, &error);
        }
        if (status != MR_OK) {
            return status;
        }
        world_close(w);
    }
    return MR_OK;
}

static uint64_t fixed_run_length(unsigned kinds) {
    struct world w;
    fixed_init(&w, 1);
    assert_int_equal(fixed_run(&w), MR_OK);
    world_check(&w);
    uint64_t count = virtual_disk_op_count(w.vd, kinds);
    world_finish(&w);
    return count;
}

static void power_cut_everywhere(void **state) {
    (void)state;
    uint64_t count = fixed_run_length(VIRTUAL_DISK_CHANGES);
    assert_true(count > 50);
    for (uint64_t k = 1; k <= count; k++) {
        for (uint64_t again = 0; again < 4; again++) {
            struct world w;
            fixed_init(&w, k * 8 + again);
            virtual_disk_cut_power(w.vd, k);
            assert_int_not_equal(fixed_run(&w), MR_OK);
            world_crash(&w);
            reopen(&w);
            world_check(&w);
            note_probes(&w);
            world_finish(&w);
        }
    }
}

/* What is on disk after a failure must hold with the page cache as it is, and after a power cut
 * then. */
static void after_failure(struct world *w, bool crash_before) {
    struct mr_error error;
    virtual_disk_fail(w->vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
    if (crash_before) {
        world_crash(w);
    } else {
        world_close(w);
    }
    reopen(w);
    world_check(w);
    struct bundle b = world_bundle(w, 100);
    assert_int_equal(world_append(w, &b, &error), MR_OK);
    world_crash(w); /* all that was read or acknowledged must be there still, and no more */
    size_t had = w->truth_len;
    reopen(w);
    world_check(w);
    assert_int_equal(w->truth_len, had);
}

static void every_operation_fails(void **state) {
    (void)state;
    static const enum mr_status statuses[] = {MR_IO, MR_NO_SPACE};
    uint64_t count = fixed_run_length(VIRTUAL_DISK_ALL);
    for (uint64_t k = 1; k <= count; k++) {
        for (int how = 0; how < 4; how++) {
            struct world w;
            struct mr_error error;
            bool forever = (how & 1) != 0;
            enum mr_status failure = statuses[(k + (uint64_t)how / 2) % 2];
            fixed_init(&w, k * 8 + (uint64_t)how);
            virtual_disk_fail(w.vd, k, VIRTUAL_DISK_ALL,
                              forever ? VIRTUAL_DISK_FOREVER : VIRTUAL_DISK_ONCE, failure);
            enum mr_status status = fixed_run(&w);
            if (status != MR_OK && w.log != NULL && failure == MR_IO && forever) {
                assert_true(mr_log_failed(w.log));
                struct bundle b = world_bundle(&w, 10);
                assert_int_equal(world_append(&w, &b, &error), MR_IO);
                assert_false(mr_log_has_room(w.log, 10));
            }
            after_failure(&w, (how & 2) != 0);
            note_probes(&w);
            world_finish(&w);
        }
    }
}

/* An append survives one failure wherever it is: the records go to a new segment. */
static void one_failure_is_survived_by_append(void **state) {
    (void)state;
    unsigned kinds = VIRTUAL_DISK_CHANGES & ~(1u << VIRTUAL_DISK_MKDIR);
    for (uint64_t k = 1; k <= 40; k++) {
        struct world w;
        struct mr_error error;
        world_init(&w, k, 8192);
        reopen(&w);
        virtual_disk_fail(w.vd, k, kinds, VIRTUAL_DISK_ONCE, MR_IO);
        for (int i = 0; i < 30; i++) {
            struct bundle b = world_bundle(&w, 500);
            assert_int_equal(world_append(&w, &b, &error), MR_OK);
        }
        assert_int_equal(mr_counter_read(&mr_log_stats(w.log)->sync_failures), 1);
        world_check(&w);
        world_crash(&w);
        reopen(&w);
        world_check(&w);
        note_probes(&w);
        world_finish(&w);
    }
}

static void full_disk_refuses_and_recovers(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    world_init(&w, 3, 8192);
    w.reserve_bytes = 4096;
    virtual_disk_set_capacity(w.vd, 8192 * 3 + 5000);
    reopen(&w);
    enum mr_status status = MR_OK;
    struct bundle b = {.count = 1};
    while (status == MR_OK) {
        b = (struct bundle){
            .seq = mr_log_last_seq(w.log) + 1, .count = 1, .recorded_ms = 5, .len = {900}};
        bool room = mr_log_has_room(w.log, mr_record_size(900));
        status = world_append(&w, &b, &error);
        assert_int_equal(room, status == MR_OK);
    }
    assert_int_equal(status, MR_NO_SPACE);
    assert_false(mr_log_failed(w.log));
    assert_int_equal(mr_counter_read(&mr_log_stats(w.log)->segments), 3);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(world_append(&w, &b, &error), MR_NO_SPACE);
    }
    virtual_disk_set_capacity(w.vd, 0);
    assert_true(mr_log_has_room(w.log, 900));
    assert_int_equal(world_append(&w, &b, &error), MR_OK);
    world_check(&w);
    note_probes(&w);
    world_finish(&w);
}

/* Without asking before: allocate itself says no. */
static void full_disk_without_reserve(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    world_init(&w, 4, 8192);
    reopen(&w);
    virtual_disk_fail(w.vd, 1, 1u << VIRTUAL_DISK_FREE_BYTES, VIRTUAL_DISK_FOREVER, MR_IO);
    virtual_disk_set_capacity(w.vd, 8192 * 2);
    for (int round = 0; round < 3; round++) {
        enum mr_status status = MR_OK;
        while (status == MR_OK) {
            struct bundle b = world_bundle(&w, 300);
            status = world_append(&w, &b, &error);
        }
        assert_int_equal(status, MR_NO_SPACE);
        virtual_disk_set_capacity(w.vd, (uint64_t)8192 * (3 + (uint64_t)round));
    }
    world_crash(&w);
    reopen(&w);
    world_check(&w);
    note_probes(&w);
    world_finish(&w);
}

/* A segment that has its name but was given up may come back after a crash: nothing may have been
 * appended to the one before it. */
static void a_named_segment_closes_the_one_before(void **state) {
    (void)state;
    unsigned kinds = 1u << VIRTUAL_DISK_SYNC_DIR | 1u << VIRTUAL_DISK_UNLINK;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world w;
        struct mr_error error;
        world_init(&w, seed, 8192);
        reopen(&w);
        struct bundle large = {.seq = 2, .count = 1, .recorded_ms = 1, .len = {5000}};
        struct bundle small = {.seq = 3, .count = 1, .recorded_ms = 2, .len = {10}};
        virtual_disk_fail(w.vd, 1, kinds, VIRTUAL_DISK_FOREVER, MR_NO_SPACE);
        assert_int_equal(world_append(&w, &large, &error), MR_NO_SPACE);
        virtual_disk_fail(w.vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
        assert_int_equal(world_append(&w, &small, &error), MR_OK);
        world_check(&w);
        world_crash(&w);
        reopen(&w);
        world_check(&w);
        world_finish(&w);
    }
}

/* What could not be written or synced is written again, but elsewhere; what a recovery cut is
 * zeroed. */
static void poisoned_is_left_and_torn_is_zeroed(void **state) {
    (void)state;
    for (uint64_t nth = 1; nth <= 2; nth++) {
        struct world w;
        struct mr_error error;
        world_init(&w, nth, 65536);
        reopen(&w);
        virtual_disk_fail(w.vd, nth, 1u << VIRTUAL_DISK_WRITE | 1u << VIRTUAL_DISK_SYNC,
                          VIRTUAL_DISK_ONCE, MR_IO);
        struct bundle b = world_bundle(&w, 500);
        assert_int_equal(world_append(&w, &b, &error), MR_OK);
        assert_int_equal(mr_counter_read(&mr_log_stats(w.log)->segments), 2);
        world_check(&w);
        world_finish(&w);
    }
    uint64_t torn = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world w;
        struct mr_error error;
        world_init(&w, seed, 65536);
        reopen(&w);
        virtual_disk_cut_power(w.vd, 2);
        struct bundle b = {.seq = 2, .count = 4, .len = {3000, 3000, 3000, 3000}};
        assert_int_equal(world_append(&w, &b, &error), MR_IO);
        world_crash(&w);
        reopen(&w);
        torn += mr_counter_read(&mr_log_stats(w.log)->torn_bytes) > 0;
        world_check(&w);
        world_close(&w);
        reopen(&w);
        assert_int_equal(mr_counter_read(&mr_log_stats(w.log)->torn_bytes), 0);
        world_finish(&w);
    }
    assert_true(torn > 5);
}

static void no_memory_changes_nothing(void **state) {
    (void)state;
    for (size_t k = 1; k < 40; k++) {
        struct world w;
        struct mr_error error;
        world_init(&w, k, 8192);
        mr_alloc_fail_at(k, 0);
        enum mr_status status = world_open(&w, &error);
        assert_true(status == MR_OK || status == MR_NO_MEMORY);
        for (int i = 0; i < 6 && status == MR_OK; i++) {
            struct bundle b = world_bundle(&w, 900);
            status = world_append(&w, &b, &error);
            assert_true(status == MR_OK || status == MR_NO_MEMORY);
            status = MR_OK;
        }
        mr_alloc_fail_at(0, 0);
        world_close(&w);
        reopen(&w);
        world_check(&w);
        world_finish(&w);
    }
}

static void everything_happened(void **state) {
    (void)state;
    for (unsigned i = 0; i < VIRTUAL_DISK_PROBE_COUNT; i++) {
        if (probes[i] == 0) {
            fail_msg("never: %s", virtual_disk_probe_text((enum virtual_disk_probe)i));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_crashes),
        cmocka_unit_test(random_crashes_unsynced),
        cmocka_unit_test(power_cut_everywhere),
        cmocka_unit_test(every_operation_fails),
        cmocka_unit_test(one_failure_is_survived_by_append),
        cmocka_unit_test(full_disk_refuses_and_recovers),
        cmocka_unit_test(full_disk_without_reserve),
        cmocka_unit_test(a_named_segment_closes_the_one_before),
        cmocka_unit_test(poisoned_is_left_and_torn_is_zeroed),
        cmocka_unit_test(no_memory_changes_nothing),
        cmocka_unit_test(everything_happened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
