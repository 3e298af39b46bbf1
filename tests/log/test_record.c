/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a record's header reads back as it was written, and that nothing else does:
 *   1. random records: encode, decode, equal;
 *   2. every bit of a header flipped: refused;
 *   3. sound checksums over fields no encoder writes: refused;
 *   4. the payload's check does not depend on how the payload is cut into parts;
 *   5. the bytes of one record, so that the format does not change by accident;
 *   6. a GAP says how many lsns it stands for, and no other payload does.
 */
#include "base/hash.h"
#include "log/record.h"
#include "log/segment.h"
#include "log/wire.h"
#include "tests/log/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct mr_record sample(void) {
    return (struct mr_record){.type = MR_RECORD_EVENTS,
                              .bundle_count = 3,
                              .bundle_index = 1,
                              .segment = 7,
                              .lsn = 4711,
                              .seq = 99,
                              .incarnation = 0x0102030405060708,
                              .recorded_ms = -5};
}

static void reads_back(void **state) {
    (void)state;
    struct world w = {.random = 1};
    for (int i = 0; i < 2000; i++) {
        uint8_t payload[256];
        uint8_t header[MR_RECORD_HEADER];
        uint32_t count = 1 + (uint32_t)world_below(&w, 1000);
        struct mr_record record = {
            .type = (enum mr_record_type)(1 + world_below(&w, MR_RECORD_TYPE_END - 1)),
            .bundle_count = count,
            .bundle_index = (uint32_t)world_below(&w, count),
            .segment = (uint32_t)world_below(&w, UINT32_MAX),
            .lsn = count + world_below(&w, UINT64_MAX / 2),
            .seq = 1 + world_below(&w, UINT64_MAX / 2),
            .incarnation = world_below(&w, UINT64_MAX),
            .recorded_ms = (int64_t)world_below(&w, UINT64_MAX),
        };
        size_t len = world_below(&w, sizeof payload);
        world_payload(record.seq, 0, payload, len);
        struct iovec iov = {payload, len};
        mr_record_encode(&record, &iov, 1, header);
        struct mr_record back;
        uint64_t check;
        assert_int_equal(mr_record_decode(header, &back, &check), MR_OK);
        assert_null(back.payload.ptr);
        assert_int_equal(back.payload.len, len);
        assert_int_equal(check, mr_record_payload_check(&iov, 1));
        assert_int_equal(back.type, record.type);
        assert_int_equal(back.bundle_count, record.bundle_count);
        assert_int_equal(back.bundle_index, record.bundle_index);
        assert_int_equal(back.segment, record.segment);
        assert_int_equal(back.lsn, record.lsn);
        assert_int_equal(back.seq, record.seq);
        assert_int_equal(back.incarnation, record.incarnation);
        assert_int_equal(back.recorded_ms, record.recorded_ms);
        assert_true(mr_record_size(len) >= MR_RECORD_HEADER + len);
        assert_int_equal(mr_record_size(len) % MR_RECORD_ALIGN, 0);
    }
}

static void every_flipped_bit_is_refused(void **state) {
    (void)state;
    uint8_t header[MR_RECORD_HEADER];
    struct mr_record record = sample();
    struct mr_record back;
    uint64_t check;
    mr_record_encode(&record, NULL, 0, header);
    for (unsigned bit = 0; bit < MR_RECORD_HEADER * 8; bit++) {
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mr_record_decode(header, &back, &check), MR_CORRUPT);
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(mr_record_decode(header, &back, &check), MR_OK);
}

static void fields_no_encoder_writes_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *what;
        size_t at;
        size_t len;
        uint64_t value;
    } must_refuse[] = {
        {"no type", 4, 1, 0},
        {"a type too high", 4, 1, MR_RECORD_TYPE_END},
        {"another version", 5, 1, 2},
        {"a payload over the limit", 8, 4, MR_RECORD_PAYLOAD_MAX + 1},
        {"no record in the bundle", 12, 4, 0},
        {"an index outside the bundle", 16, 4, 3},
        {"an lsn before the bundle's first", 24, 8, 1},
        {"lsn 0", 24, 8, 0},
        {"seq 0", 32, 8, 0},
    };
    for (size_t i = 0; i < sizeof must_refuse / sizeof must_refuse[0]; i++) {
        uint8_t header[MR_RECORD_HEADER];
        struct mr_record record = sample();
        struct mr_record back;
        uint64_t check;
        mr_record_encode(&record, NULL, 0, header);
        memcpy(header + must_refuse[i].at, &must_refuse[i].value, must_refuse[i].len);
        mr_wire_put_u64(header + 72, mr_checksum(mr_bytes_of(header, 72)));
        if (mr_record_decode(header, &back, &check) != MR_CORRUPT) {
            fail_msg("accepted: %s", must_refuse[i].what);
        }
    }
}

static void parts_do_not_change_the_check(void **state) {
    (void)state;
    enum { LEN = 70000 };
    struct world w = {.random = 2};
    uint8_t *payload = malloc(LEN);
    assert_non_null(payload);
    world_payload(1, 2, payload, LEN);
    static const size_t lens[] = {0, 1, 79, 16383, 16384, 16385, 32768, 49151, LEN};
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct iovec whole = {payload, lens[i]};
        uint64_t check = mr_record_payload_check(&whole, 1);
        for (int round = 0; round < 200; round++) {
            struct iovec parts[4];
            size_t left = lens[i];
            size_t at = 0;
            for (int p = 0; p < 4; p++) {
                size_t len = p == 3 ? left : world_below(&w, left + 1);
                parts[p] = (struct iovec){payload + at, len};
                at += len;
                left -= len;
            }
            assert_int_equal(mr_record_payload_check(parts, 4), check);
        }
        if (lens[i] > 0) {
            payload[lens[i] - 1] ^= 1;
            assert_true(mr_record_payload_check(&whole, 1) != check);
            payload[lens[i] - 1] ^= 1;
        }
    }
    free(payload);
}

static void the_format_stays(void **state) {
    (void)state;
    static const uint8_t fixed[] = {'m',  'r',  'R',  '1',  3,    1,    0,    0,   5,  0, 0, 0,
                                    3,    0,    0,    0,    1,    0,    0,    0,   7,  0, 0, 0,
                                    0x67, 0x12, 0,    0,    0,    0,    0,    0,   99, 0, 0, 0,
                                    0,    0,    0,    0,    8,    7,    6,    5,   4,  3, 2, 1,
                                    0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    uint8_t header[MR_RECORD_HEADER];
    struct mr_record record = sample();
    struct iovec payload = {(void *)(uintptr_t) "hello", 5};
    mr_record_encode(&record, &payload, 1, header);
    assert_int_equal(sizeof fixed, 56);
    assert_memory_equal(header, fixed, sizeof fixed);
    /* For a payload of one block the check is XXH3-64 itself. */
    assert_int_equal(mr_wire_u64(header + 56), mr_checksum(MR_BYTES("hello")));
    assert_int_equal(mr_wire_u64(header + 64), 0);
}

static void a_gap_says_how_many(void **state) {
    (void)state;
    static const uint8_t fixed[] = {0x67, 0x12, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0, 0, 0};
    static const struct {
        uint64_t lsn;
        uint64_t lsn_count;
        size_t len;
        uint32_t bundle_count;
    } must_refuse[] = {
        {4711, 261, 15, 1},
        {4711, 261, 17, 1},
        {4711, 261, 16, 2},
        {4710, 261, 16, 1},
        {4711, 0, 16, 1},
        {4711, MR_LSN_MAX - 4710, 16, 1},
        {4711, MR_LSN_MAX + 1, 16, 1},
        {4711, UINT64_MAX, 16, 1},
    };
    struct mr_record gap = sample();
    uint8_t payload[MR_RECORD_GAP_LEN + 1] = {0};
    gap.type = MR_RECORD_GAP;
    gap.bundle_count = 1;
    gap.payload = mr_bytes_of(payload, MR_RECORD_GAP_LEN);
    mr_record_gap_encode(gap.lsn, 261, payload);
    assert_memory_equal(payload, fixed, sizeof fixed);
    assert_int_equal(mr_record_gap_decode(&gap), MR_OK);
    assert_int_equal(gap.lsn_count, 261);
    mr_record_gap_encode(gap.lsn, MR_LSN_MAX - 4711, payload);
    assert_int_equal(mr_record_gap_decode(&gap), MR_OK);
    assert_true(gap.lsn + gap.lsn_count == MR_LSN_MAX);
    for (size_t i = 0; i < sizeof must_refuse / sizeof must_refuse[0]; i++) {
        mr_wire_put_u64(payload, must_refuse[i].lsn);
        mr_wire_put_u64(payload + 8, must_refuse[i].lsn_count);
        gap.payload.len = must_refuse[i].len;
        gap.bundle_count = must_refuse[i].bundle_count;
        assert_int_equal(mr_record_gap_decode(&gap), MR_CORRUPT);
    }
    for (int type = 1; type < MR_RECORD_TYPE_END; type++) {
        assert_non_null(mr_record_type_name((enum mr_record_type)type));
    }
}

static void names_and_headers_of_segments(void **state) {
    (void)state;
    static const char *const must_refuse[] = {
        "",
        "1-1.log",
        "0000000000000001.log",
        "0000000000000000-00000001.log",
        "0000000000000001-00000000.log",
        "0000000000000001-00000001.log2",
        "0000000000000001-00000001.log.tmp2",
        "0000000000000001-99999999999.log",
        "99999999999999999999999-00000001.log",
        "000000000000000x-00000001.log",
    };
    uint64_t lsn;
    uint32_t number;
    bool finished;
    for (size_t i = 0; i < sizeof must_refuse / sizeof must_refuse[0]; i++) {
        assert_false(mr_segment_name_parse(must_refuse[i], &lsn, &number, &finished));
    }
    struct mr_segment segment = {.number = UINT32_MAX,
                                 .flags = MR_SEGMENT_UNSYNCED,
                                 .incarnation = 5,
                                 .first_lsn = UINT64_MAX,
                                 .first_seq = 9,
                                 .size = 8192};
    char name[MR_SEGMENT_NAME_MAX];
    mr_segment_name(&segment, name);
    assert_true(mr_segment_name_parse(name, &lsn, &number, &finished));
    assert_true(lsn == UINT64_MAX && number == UINT32_MAX && finished);
    assert_true(
        mr_segment_name_parse("0000000000004711-00000003.log.tmp", &lsn, &number, &finished));
    assert_true(lsn == 4711 && number == 3 && !finished);

    uint8_t header[MR_SEGMENT_HEADER];
    struct mr_segment back;
    mr_segment_encode(&segment, header);
    assert_int_equal(mr_segment_decode(header, sizeof header, &back), MR_OK);
    assert_true(back.number == segment.number && back.flags == segment.flags &&
                back.incarnation == 5 && back.first_lsn == UINT64_MAX && back.first_seq == 9 &&
                back.size == 8192);
    for (unsigned bit = 0; bit < 64 * 8; bit++) {
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mr_segment_decode(header, sizeof header, &back), MR_CORRUPT);
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    mr_wire_put_u16(header + 4, 2);
    mr_wire_put_u64(header + 56, mr_checksum(mr_bytes_of(header, 56)));
    assert_int_equal(mr_segment_decode(header, sizeof header, &back), MR_MISMATCH);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_back),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(fields_no_encoder_writes_are_refused),
        cmocka_unit_test(parts_do_not_change_the_check),
        cmocka_unit_test(the_format_stays),
        cmocka_unit_test(a_gap_says_how_many),
        cmocka_unit_test(names_and_headers_of_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
