/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what log.h says of trim and sync:
 *   1. trim removes what a model of the segments says, one at a time, also after restarts, and never what is needed;
 *   2. trim under failures and power cuts: the log begins at one of its segments and is whole behind it;
 *   3. readers beside a trim: on, or a clear word; never a hole;
 *   4. sync makes durable what was appended without, or fails the log.
 */
#include "log/recover.h"
#include "tests/log/sample.h"
#include "tests/log/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- trim ---- */

/* The log's files as the directory has them. */
static struct mr_segments listed(struct virtual_disk *vd) {
    struct mr_segments segments;
    struct mr_error error;
    assert_int_equal(mr_segments_list(virtual_disk_disk(vd), SAMPLE_DIR, &segments, &error), MR_OK);
    return segments;
}

/* Whether the oldest goes, by the files and the records. unread_below: segments that begin below it were not read at
 * open, so that the first record behind counts. */
static bool model_goes(const struct mr_segments *segments, const struct mr_log_retention *retention,
                       const int64_t *ms, uint64_t unread_below) {
    uint64_t size = 0;
    for (uint32_t i = 0; i < segments->count; i++) {
        size += segments->items[i].size;
    }
    if (segments->count < 2 || segments->items[1].first_lsn > retention->needed_lsn) {
        return false;
    }
    uint64_t first_lsn = segments->items[0].first_lsn;
    uint64_t next_lsn = segments->items[1].first_lsn;
    int64_t newest = INT64_MIN;
    for (uint64_t lsn = first_lsn; lsn < next_lsn; lsn++) {
        newest = ms[lsn] > newest ? ms[lsn] : newest;
    }
    if (first_lsn < unread_below) {
        newest = ms[next_lsn];
    }
    return size > retention->bytes_max || newest < retention->before_ms;
}

static void check_trimmed(struct virtual_disk *vd, const struct mr_log *log) {
    struct mr_segments segments = listed(vd);
    assert_int_equal(mr_log_first_lsn(log), segments.items[0].first_lsn);
    assert_int_equal(mr_counter_read(&mr_log_stats(log)->segments), segments.count);
    mr_segments_finish(&segments);
}

/* bytes and records, counted anew. Only when all was read at open. */
static void check_stats(struct virtual_disk *vd, const struct mr_log *log) {
    struct mr_segments segments = listed(vd);
    uint64_t bytes = 0;
    uint64_t records = 0;
    struct mr_chain chain = mr_recover_chain(&segments, 0);
    for (uint32_t i = 0; i < segments.count; i++) {
        struct mr_segment_summary summary;
        struct mr_error error;
        assert_int_equal(mr_recover_segment(virtual_disk_disk(vd), SAMPLE_DIR, &segments, i, &chain,
                                            NULL, NULL, &summary, &error),
                         MR_OK);
        bytes += summary.end - MR_SEGMENT_HEADER;
        records += summary.records;
    }
    assert_int_equal(mr_counter_read(&mr_log_stats(log)->bytes), bytes);
    assert_int_equal(mr_counter_read(&mr_log_stats(log)->records), records);
    mr_segments_finish(&segments);
}

static void trims_as_the_model_says(void **state) {
    (void)state;
    uint64_t removed_sum = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        static int64_t ms[SAMPLE_LSNS];
        struct world w;
        struct mr_error error = {.text = ""};
        uint64_t needed_lsn = 1;
        uint64_t unread_below = 0;
        world_init(&w, seed, 8192);
        assert_int_equal(world_open(&w, &error), MR_OK);
        for (int round = 0; round < 40; round++) {
            for (uint64_t n = world_below(&w, 4); n > 0; n--) {
                struct bundle b = world_bundle(&w, 900);
                assert_int_equal(world_append(&w, &b, &error), MR_OK);
            }
            needed_lsn += world_below(&w, mr_log_last_lsn(w.log) + 2 - needed_lsn);
            struct mr_segments segments = listed(w.vd);
            sample_times(w.vd, mr_log_first_lsn(w.log), mr_log_last_lsn(w.log), ms);
            struct mr_log_retention retention = {
                .needed_lsn = needed_lsn,
                .before_ms = world_below(&w, 2) == 0
                                 ? INT64_MIN
                                 : ms[segments.items[0].first_lsn] + (int64_t)world_below(&w, 30),
                .bytes_max = world_below(&w, 2) == 0 ? UINT64_MAX : 8192 * world_below(&w, 8),
            };
            bool goes = model_goes(&segments, &retention, ms, unread_below);
            bool removed;
            assert_int_equal(mr_log_trim(w.log, &retention, &removed, &error), MR_OK);
            assert_int_equal(removed, goes);
            removed_sum += removed;
            check_trimmed(w.vd, w.log);
            if (unread_below == 0) {
                check_stats(w.vd, w.log);
            }
            mr_segments_finish(&segments);
            if (world_below(&w, 6) == 0) {
                w.from_lsn = needed_lsn;
                world_close(&w);
                assert_int_equal(world_open(&w, &error), MR_OK);
                segments = listed(w.vd);
                unread_below = 0;
                for (uint32_t i = 0; i < segments.count; i++) {
                    unread_below = segments.items[i].first_lsn <= needed_lsn
                                       ? segments.items[i].first_lsn
                                       : unread_below;
                }
                mr_segments_finish(&segments);
            }
        }
        world_finish(&w);
    }
    assert_true(removed_sum > 80);
}

/* Trims all it may; ends at the first failure. */
static enum mr_status trim_all(struct mr_log *log, uint64_t needed_lsn) {
    struct mr_log_retention retention = {
        .needed_lsn = needed_lsn, .before_ms = INT64_MAX, .bytes_max = 0};
    struct mr_error error = {.text = ""};
    bool removed = true;
    enum mr_status status = MR_OK;
    while (status == MR_OK && removed) {
        status = mr_log_trim(log, &retention, &removed, &error);
    }
    assert_true(status == MR_OK || (error.text[0] != '\0' && !removed));
    return status;
}

static void what_is_needed_stays(void **state) {
    (void)state;
    struct sample s;
    sample_make_rich(&s, 4);
    for (uint64_t needed_lsn = 1; needed_lsn <= s.count + 3u; needed_lsn++) {
        struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
        struct mr_log *log = sample_opened(vd, 0);
        assert_int_equal(trim_all(log, needed_lsn), MR_OK);
        uint64_t first_lsn = s.segments.items[sample_segment_of(&s, needed_lsn)].first_lsn;
        assert_int_equal(mr_log_first_lsn(log), first_lsn);
        mr_log_close(log);
        virtual_disk_close(vd);
    }
    sample_finish(&s);
}

static void trim_fails_everywhere(void **state) {
    (void)state;
    struct sample s;
    sample_make_rich(&s, 5);
    struct virtual_disk *clean = virtual_disk_clone(s.vd, 1);
    struct mr_log *log = sample_opened(clean, s.count);
    uint64_t before = virtual_disk_op_count(clean, VIRTUAL_DISK_ALL);
    assert_int_equal(trim_all(log, s.count), MR_OK);
    uint64_t ops = virtual_disk_op_count(clean, VIRTUAL_DISK_ALL) - before;
    uint64_t first_lsn = mr_log_first_lsn(log);
    assert_true(first_lsn == s.segments.items[sample_segment_of(&s, s.count)].first_lsn);
    mr_log_close(log);
    virtual_disk_close(clean);
    assert_true(ops > 8);
    for (uint64_t k = 1; k <= ops; k++) {
        for (int how = 0; how < 6;
             how++) { /* once, for ever, power; with a power cut behind or not */
            static int64_t ms[SAMPLE_LSNS];
            struct virtual_disk *vd = virtual_disk_clone(s.vd, k * 8 + (uint64_t)how);
            log = sample_opened(vd, s.count);
            bool crash = how >= 2;
            if (how == 4 || how == 5) {
                virtual_disk_cut_power(vd, k);
            } else {
                virtual_disk_fail(vd, k, VIRTUAL_DISK_ALL,
                                  how % 2 == 0 ? VIRTUAL_DISK_ONCE : VIRTUAL_DISK_FOREVER, MR_IO);
            }
            enum mr_status status = trim_all(log, s.count);
            assert_true(status == MR_IO || (status == MR_OK && how >= 4));
            assert_true(mr_log_first_lsn(log) <= first_lsn);
            if (crash) {
                virtual_disk_crash(vd);
                mr_log_close(log);
                log = sample_opened(vd, s.count);
            } else {
                virtual_disk_fail(vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
            }
            assert_int_equal(trim_all(log, s.count), MR_OK);
            assert_int_equal(mr_log_first_lsn(log), first_lsn);
            check_trimmed(vd, log);
            uint64_t last_lsn = mr_log_last_lsn(log);
            mr_log_close(log);
            virtual_disk_crash(vd);
            sample_times(vd, first_lsn, last_lsn, ms);
            virtual_disk_close(vd);
        }
    }
    sample_finish(&s);
}

/* A segment that was given up after it had its name may come back: it is trimmed as if it were there. */
static void given_up_segments_are_trimmed(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    static int64_t ms[SAMPLE_LSNS];
    world_init(&w, 9, 8192);
    assert_int_equal(world_open(&w, &error), MR_OK);
    for (int i = 0; i < 30; i++) {
        struct bundle b = world_bundle(&w, 700);
        if (i % 4 == 1) { /* the name is there, the sync of the directory and the unlink fail */
            virtual_disk_fail(w.vd, 1, 1u << VIRTUAL_DISK_SYNC_DIR | 1u << VIRTUAL_DISK_UNLINK,
                              VIRTUAL_DISK_FOREVER, MR_NO_SPACE);
            (void)world_append(&w, &b, &error);
            virtual_disk_fail(w.vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
            w.maybe_len = 0;
            continue;
        }
        assert_int_equal(world_append(&w, &b, &error), MR_OK);
    }
    uint64_t last_lsn = mr_log_last_lsn(w.log);
    assert_int_equal(trim_all(w.log, last_lsn + 1), MR_OK);
    uint64_t first_lsn = mr_log_first_lsn(w.log);
    assert_true(first_lsn > 40);
    world_close(&w);
    virtual_disk_crash(w.vd);
    sample_times(w.vd, first_lsn, last_lsn, ms);
    w.from_lsn = last_lsn + 1;
    assert_int_equal(world_open(&w, &error), MR_OK);
    world_finish(&w);
}

/* ---- readers beside it ---- */

static void readers_beside_a_trim(void **state) {
    (void)state;
    struct sample s;
    sample_make_rich(&s, 7);
    uint32_t gone = 0;
    for (uint32_t read = 1; read < s.count; read++) {
        struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
        struct mr_log_reader *reader;
        struct mr_record record = {.lsn = 0};
        struct mr_error error = {.text = ""};
        struct mr_log *log = sample_opened(vd, s.count);
        assert_int_equal(mr_log_reader_open(virtual_disk_disk(vd), SAMPLE_DIR, 0, &reader, &error),
                         MR_OK);
        mr_log_reader_limit(reader, mr_log_last_lsn(log));
        for (uint32_t i = 0; i < read; i++) {
            assert_int_equal(mr_log_reader_next(reader, &record, &error), MR_OK);
        }
        assert_int_equal(trim_all(log, s.count), MR_OK);
        enum mr_status status;
        uint64_t lsn = record.lsn;
        while ((status = mr_log_reader_next(reader, &record, &error)) == MR_OK) {
            assert_int_equal(record.lsn, ++lsn);
        }
        if (status == MR_NOT_FOUND) {
            gone++;
            assert_non_null(strstr(error.text, "is the next to be read, but it was removed"));
            assert_int_equal(mr_log_reader_next(reader, &record, &error), MR_NOT_FOUND);
            assert_true(lsn + 1 < mr_log_first_lsn(log));
            /* Asked anew, it begins with what is there. */
            assert_int_equal(mr_log_reader_seek(reader, 1, &error), MR_OK);
            assert_int_equal(mr_log_reader_next(reader, &record, &error), MR_OK);
            assert_int_equal(record.lsn, mr_log_first_lsn(log));
        } else {
            assert_int_equal(status, MR_END);
            assert_int_equal(lsn, mr_log_last_lsn(log));
        }
        mr_log_reader_close(reader);
        mr_log_close(log);
        virtual_disk_close(vd);
    }
    assert_true(gone > 20 && gone < s.count - 5);
    sample_finish(&s);
}

struct meanwhile {
    struct mr_log *log;
    uint64_t needed_lsn;
    uint64_t opens; /* until it trims */
};

static void trim_meanwhile(void *ctx, enum virtual_disk_op op) {
    struct meanwhile *m = ctx;
    (void)op;
    if (m->opens > 0 && --m->opens == 0) {
        assert_int_equal(trim_all(m->log, m->needed_lsn), MR_OK);
    }
}

/* The oldest go in the middle of a listing: what was read of it already must not pass for the log. */
static void a_trim_inside_a_listing(void **state) {
    (void)state;
    struct sample s;
    sample_make_rich(&s, 8);
    for (uint64_t opens = 1; opens < 3 * s.segments.count; opens++) {
        struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
        struct mr_log *log = sample_opened(vd, s.count);
        struct meanwhile m = {log, s.segments.items[s.segments.count - 2].first_lsn, opens};
        struct mr_log_reader *reader;
        struct mr_record record;
        struct mr_error error = {.text = ""};
        uint64_t lsn = 0;
        virtual_disk_slow(vd, 1u << VIRTUAL_DISK_OPEN, 1, trim_meanwhile, &m);
        assert_int_equal(mr_log_reader_open(virtual_disk_disk(vd), SAMPLE_DIR, 0, &reader, &error),
                         MR_OK);
        mr_log_reader_limit(reader, mr_log_last_lsn(log));
        enum mr_status status;
        while ((status = mr_log_reader_next(reader, &record, &error)) == MR_OK) {
            assert_true(lsn == 0 || record.lsn == lsn + 1);
            assert_true(record.lsn == 1 || lsn > 0 || record.lsn <= m.needed_lsn);
            lsn = record.lsn;
        }
        if (status != MR_END && status != MR_NOT_FOUND) {
            fail_msg("%s", error.text);
        }
        assert_true(status == MR_NOT_FOUND || lsn == mr_log_last_lsn(log));
        virtual_disk_slow(vd, 0, 1, NULL, NULL);
        mr_log_reader_close(reader);
        mr_log_close(log);
        virtual_disk_close(vd);
    }
    sample_finish(&s);
}

struct appending {
    struct world w;
    bool busy; /* its own operations are not interrupted */
};

static void append_and_trim(void *ctx, enum virtual_disk_op op) {
    struct appending *a = ctx;
    struct mr_error error;
    (void)op;
    if (a->busy) {
        return;
    }
    a->busy = true;
    for (uint64_t n = world_below(&a->w, 6); n > 0; n--) {
        struct bundle b = world_bundle(&a->w, 700);
        assert_int_equal(world_append(&a->w, &b, &error), MR_OK);
    }
    if (world_below(&a->w, 2) == 0) {
        uint64_t last_lsn = mr_log_last_lsn(a->w.log);
        assert_int_equal(trim_all(a->w.log, last_lsn - world_below(&a->w, 40) % last_lsn), MR_OK);
    }
    a->busy = false;
}

/* What another thread might do happens between any two operations of the reader, which never sees a hole. */
static void a_reader_interrupted_everywhere(void **state) {
    (void)state;
    unsigned kinds = 1u << VIRTUAL_DISK_OPEN | 1u << VIRTUAL_DISK_READ | 1u << VIRTUAL_DISK_LIST |
                     1u << VIRTUAL_DISK_SIZE;
    uint64_t removed = 0;
    uint64_t followed = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct appending a = {.busy = true};
        struct mr_log_reader *reader;
        struct mr_record record;
        struct mr_error error = {.text = ""};
        world_init(&a.w, seed, 8192);
        assert_int_equal(world_open(&a.w, &error), MR_OK);
        virtual_disk_slow(a.w.vd, kinds, 1 + seed % 10, append_and_trim, &a);
        a.busy = false;
        assert_int_equal(
            mr_log_reader_open(virtual_disk_disk(a.w.vd), WORLD_DIR, 0, &reader, &error), MR_OK);
        uint64_t lsn = 0;
        while (a.w.truth_len < 600) {
            if (seed % 2 == 0) {
                mr_log_reader_limit(reader, mr_log_last_lsn(a.w.log));
            }
            enum mr_status status = mr_log_reader_next(reader, &record, &error);
            if (status == MR_NOT_FOUND) {
                removed++;
                assert_true(lsn + 1 < mr_log_first_lsn(a.w.log));
                assert_int_equal(mr_log_reader_seek(reader, lsn + 1, &error), MR_OK);
                lsn = 0;
            } else if (status == MR_END) {
                append_and_trim(&a, VIRTUAL_DISK_OPEN); /* it waits for more */
            } else if (status != MR_OK) {
                fail_msg("seed %u: %s", (unsigned)seed, error.text);
            } else {
                assert_true(lsn == 0 || record.lsn == lsn + 1);
                lsn = record.lsn;
                followed++;
            }
        }
        a.busy = true;
        mr_log_reader_close(reader);
        world_finish(&a.w);
    }
    assert_true(removed > 100 && followed > 3000);
}

/* ---- sync ---- */

static void sync_makes_durable(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world w;
        struct mr_error error = {.text = ""};
        static int64_t ms[SAMPLE_LSNS];
        world_init(&w, seed, 8192);
        w.sync = false;
        assert_int_equal(world_open(&w, &error), MR_OK);
        for (int i = 0; i < 12; i++) {
            struct bundle b = world_bundle(&w, 500);
            assert_int_equal(world_append(&w, &b, &error), MR_OK);
        }
        assert_int_equal(mr_log_sync(w.log, &error), MR_OK);
        uint64_t durable_lsn = mr_log_last_lsn(w.log);
        struct bundle b = world_bundle(&w, 500);
        assert_int_equal(world_append(&w, &b, &error), MR_OK);
        world_crash(&w);
        w.from_lsn = durable_lsn + 1;
        assert_int_equal(world_open(&w, &error), MR_OK);
        assert_true(mr_log_last_lsn(w.log) > durable_lsn);
        sample_times(w.vd, 1, mr_log_last_lsn(w.log), ms);

        virtual_disk_fail(w.vd, 1, 1u << VIRTUAL_DISK_SYNC, VIRTUAL_DISK_ONCE,
                          seed % 2 == 0 ? MR_IO : MR_NO_SPACE);
        assert_int_equal(mr_log_sync(w.log, &error), MR_IO);
        assert_true(mr_log_failed(w.log));
        assert_int_equal(mr_log_sync(w.log, &error), MR_IO); /* not tried again */
        assert_int_equal(virtual_disk_failed_count(w.vd, VIRTUAL_DISK_ALL), 1);
        world_finish(&w);
    }
    struct world w;
    struct mr_error error;
    world_init(&w, 1, 8192);
    assert_int_equal(world_open(&w, &error), MR_OK);
    uint64_t ops = virtual_disk_op_count(w.vd, VIRTUAL_DISK_ALL);
    assert_int_equal(mr_log_sync(w.log, &error), MR_OK);
    assert_int_equal(virtual_disk_op_count(w.vd, VIRTUAL_DISK_ALL), ops);
    world_finish(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trims_as_the_model_says),
        cmocka_unit_test(what_is_needed_stays),
        cmocka_unit_test(trim_fails_everywhere),
        cmocka_unit_test(given_up_segments_are_trimmed),
        cmocka_unit_test(readers_beside_a_trim),
        cmocka_unit_test(a_trim_inside_a_listing),
        cmocka_unit_test(a_reader_interrupted_everywhere),
        cmocka_unit_test(sync_makes_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
