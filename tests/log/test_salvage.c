/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what log/salvage.h says beyond the oracle of tests/log/sample.h, which knows only records and no damage:
 *   1. records that a torn write left behind, and whose zeroing was lost, do not come back, wherever they stand, though
 *      they are sound: not beside their successors, not where those are lost, not behind the end;
 *   2. a GAP that goes too far is refused and put right;
 *   3. what can be known of the end is: lsns and seqs that may have been acknowledged are not given out again;
 *   4. a header made anew lets a reader begin at any seq.
 */
#include "tests/log/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* A sound record of the segment, with a payload of its own. */
static void put_record(const struct sample *s, struct virtual_disk *vd, uint32_t segment,
                       uint64_t offset, const struct mr_record *given) {
    uint8_t bytes[MR_RECORD_HEADER + MR_RECORD_GAP_LEN];
    struct iovec payload = {bytes + MR_RECORD_HEADER, MR_RECORD_GAP_LEN};
    struct mr_record record = *given;
    record.segment = s->segments.items[segment].number;
    record.incarnation = s->segments.items[segment].incarnation;
    memset(bytes, 0x55, sizeof bytes);
    if (record.type == MR_RECORD_GAP) {
        mr_record_gap_encode(record.lsn, record.lsn_count, bytes + MR_RECORD_HEADER);
    }
    mr_record_encode(&record, &payload, 1, bytes);
    char path[MR_SEGMENT_PATH_MAX];
    sample_path(s, segment, path);
    assert_true(offset + sizeof bytes <= virtual_disk_content(vd, path).len);
    sample_write(s, vd, segment, offset, bytes, sizeof bytes);
}

static void flip(const struct sample *s, struct virtual_disk *vd, uint32_t lsn) {
    char path[MR_SEGMENT_PATH_MAX];
    sample_path(s, s->records[lsn - 1].segment, path);
    virtual_disk_flip(vd, path, s->records[lsn - 1].offset, 0x10);
}

static uint64_t end_of(const struct sample *s, uint32_t lsn) {
    const struct sample_record *r = &s->records[lsn - 1];
    return r->offset + mr_record_size(r->record.payload.len);
}

static void stale_records_stay_dead(void **state) {
    (void)state;
    /* In the sample lsn 6 to 8 are bundle 5, 9 is bundle 6 and 10 is bundle 7, all in the second segment; 11 to 13 are
     * bundle 8, in the third. lost: bits of lsns. */
    static const struct {
        uint32_t lost;
        uint64_t lsn;
        uint64_t seq;
        uint32_t index;
        uint32_t count;
    } cases[] = {
        {1u << 6, 7, 4, 1, 3}, /* beside its successor, the head of both is lost */
        {1u << 7, 8, 4, 2, 3},
        {1u << 7, 7, 4, 1, 3}, /* in place of its successor, which is lost */
        {1u << 9, 9, 5, 3, 8}, /* of a seq that was used again, longer */
        {1u << 9, 9, 6, 3, 8}, /* of no bundle that can have begun there */
        {1u << 8 | 1u << 9, 9, 6, 3, 8},
        {1u << 7 | 1u << 8 | 1u << 9, 9, 5, 3, 5},
        {1u << 10, 10, 7, 2, 3},
    };
    struct sample s;
    sample_make_small(&s);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
        for (uint32_t lsn = 1; lsn <= s.count; lsn++) {
            if ((cases[i].lost >> lsn & 1) != 0) {
                flip(&s, vd, lsn);
            }
        }
        const struct mr_record stale = {.type = MR_RECORD_EVENTS,
                                        .lsn = cases[i].lsn,
                                        .seq = cases[i].seq,
                                        .bundle_index = cases[i].index,
                                        .bundle_count = cases[i].count};
        put_record(&s, vd, 1, end_of(&s, 10), &stale);
        struct mr_log_repair repair =
            sample_repair_and_verify(&s, vd); /* would meet a record it does not know */
        uint64_t lost = (uint64_t)__builtin_popcount(cases[i].lost);
        assert_int_equal(repair.lost_lsns, lost);
        virtual_disk_close(vd);
    }
    /* Behind the end of the last segment, which is damaged elsewhere. */
    struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
    flip(&s, vd, 11);
    flip(&s, vd, 2);
    sample_truncate(&s, vd, 2, 8000);
    const struct mr_record stale = {
        .type = MR_RECORD_EVENTS, .lsn = 16, .seq = 7, .bundle_index = 4, .bundle_count = 9};
    put_record(&s, vd, 2, end_of(&s, 13) + 800, &stale);
    struct mr_log_repair repair = sample_repair_and_verify(&s, vd);
    assert_int_equal(repair.lost_lsns, 2);
    virtual_disk_close(vd);
    sample_finish(&s);
}

static void a_gap_that_goes_too_far(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
    struct mr_log *log = NULL;
    struct mr_error error = {.text = ""};
    const struct mr_record gap = {
        .type = MR_RECORD_GAP, .lsn = 5, .lsn_count = 7, .seq = 3, .bundle_count = 1};
    put_record(&s, vd, 0, s.records[4].offset,
               &gap); /* in place of lsn 5; the next segment begins at 6 */
    assert_int_equal(sample_open_log(vd, 0, &log, &error), MR_CORRUPT);
    assert_non_null(strstr(error.text,
                           "a gap that ends where lsn 12 was, but the next segment begins "
                           "at lsn 6"));
    struct mr_log_repair repair = sample_repair_and_verify(&s, vd);
    assert_int_equal(repair.lost_lsns, 1);
    virtual_disk_close(vd);
    sample_finish(&s);
}

/* The log's last segment cut at size: what is lost, and where the log goes on. */
static void cut_last(const struct sample *s, uint64_t size, uint64_t lost, uint64_t next_lsn,
                     uint64_t next_seq) {
    struct virtual_disk *vd = virtual_disk_clone(s->vd, 1);
    struct mr_log_repair repair;
    struct mr_log *log = NULL;
    struct mr_error error = {.text = ""};
    char path[MR_SEGMENT_PATH_MAX];
    sample_path(s, 2, path);
    sample_truncate(s, vd, 2, size);
    assert_int_equal(sample_repair(vd, 0, &repair), MR_OK);
    assert_int_equal(repair.lost_lsns, lost);
    assert_int_equal(virtual_disk_content(vd, path).len, s->segments.items[2].size);
    assert_int_equal(sample_open_log(vd, 0, &log, &error), MR_OK);
    assert_int_equal(mr_log_last_lsn(log), next_lsn); /* the START */
    assert_int_equal(mr_log_last_seq(log), next_seq);
    mr_log_close(log);
    virtual_disk_close(vd);
}

static void the_end_is_what_can_be_known(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s); /* the last segment is bundle 8: lsn 11, 12 and 13 */
    cut_last(&s, end_of(&s, 13), 0, 14, 9);
    cut_last(&s, end_of(&s, 13) - 5, 1, 14, 9);
    cut_last(&s, s.records[12].offset, 1, 14, 9); /* the two before say that it was there */
    cut_last(&s, s.records[12].offset - 100, 2, 14, 9);
    cut_last(&s, s.records[11].offset, 2, 14, 9);
    cut_last(&s, s.records[10].offset + 85, 3, 14, 9); /* so does its own header, and the seq */
    cut_last(&s, s.records[10].offset + 79, 0, 11, 8); /* nothing does */
    sample_finish(&s);
}

static uint64_t first_lsn_of(struct virtual_disk *vd, uint64_t from_seq) {
    struct mr_log_reader *reader;
    struct mr_record record = {.lsn = 0};
    struct mr_error error = {.text = ""};
    assert_int_equal(
        mr_log_reader_open(virtual_disk_disk(vd), SAMPLE_DIR, from_seq, &reader, &error), MR_OK);
    assert_int_equal(mr_log_reader_next(reader, &record, &error), MR_OK);
    mr_log_reader_close(reader);
    return record.lsn;
}

static void headers_made_anew(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
    struct mr_log_repair repair;
    for (uint32_t i = 0; i < s.segments.count; i++) {
        sample_fill(&s, vd, i, 0, 0x3c, MR_SEGMENT_HEADER);
    }
    assert_int_equal(sample_repair(vd, 0, &repair), MR_OK);
    assert_int_equal(repair.lost_lsns, 0);
    assert_int_equal(repair.quarantined_bytes, 3 * MR_SEGMENT_HEADER);
    struct mr_segments anew;
    struct mr_error error;
    assert_int_equal(mr_segments_list(virtual_disk_disk(vd), SAMPLE_DIR, &anew, &error), MR_OK);
    for (uint32_t i = 0; i < anew.count; i++) { /* as low as it may be, for nothing says more */
        assert_int_equal(anew.items[i].first_seq, i == 0 ? 1 : i == 1 ? 4 : 8);
        assert_true(anew.items[i].first_seq <= s.segments.items[i].first_seq);
    }
    mr_segments_finish(&anew);
    for (uint64_t from_seq = 0; from_seq <= 8; from_seq++) {
        assert_int_equal(first_lsn_of(vd, from_seq), first_lsn_of(s.vd, from_seq));
    }
    virtual_disk_close(vd);
    sample_finish(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stale_records_stay_dead),
        cmocka_unit_test(a_gap_that_goes_too_far),
        cmocka_unit_test(the_end_is_what_can_be_known),
        cmocka_unit_test(headers_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
