/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves of blocks with one metric of every kind, and a prefix before them:
 *   1. encoded and merged into a neutral block they are the same bytes again, the prefix is left alone,
 *      heap says what is allocated, release leaves a neutral block;
 *   2. check refuses every truncation and, of random damage, everything that would not come back as the same bytes;
 *   3. whichever allocation fails, nothing leaks (under ASan) and the status says it;
 *   4. the same adds and merges give the bytes they gave when this was written;
 *   5. many pairs of blocks merged at once, some of them into the same block, are as merged one by one.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "tests/aggregate/metric_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { PREFIX = 16, ALL = MR_METRIC_KIND_COUNT };

static const double ranks[] = {0.5, 0.9};
static const double bounds[] = {0, 10, 100};
static struct mr_metric all[ALL];

static int set_up(void **state) {
    (void)state;
    for (int m = 0; m < ALL; m++) {
        all[m] = (struct mr_metric){.kind = (enum mr_metric_kind)m, .over = {MR_METRIC_SUM, MR_METRIC_COUNT}};
        assert_true(strlen(mr_metric_kind_name(all[m].kind)) > 0);
    }
    all[MR_METRIC_QUANTILES].params = ranks;
    all[MR_METRIC_QUANTILES].param_count = 2;
    all[MR_METRIC_HISTOGRAM].params = bounds;
    all[MR_METRIC_HISTOGRAM].param_count = 3;
    all[MR_METRIC_COLLECT].limit = 20;
    all[MR_METRIC_DISTINCT].error = 0.1;
    uint32_t len = mr_metric_layout(all, ALL, PREFIX);
    assert_int_equal(all[0].offset, PREFIX);
    assert_int_equal(len, PREFIX + 8 + 2 * 40 + 2 * 16 + 2 * 48 + 2 * 32 + 4 * 8 + 4 * 8);
    return 0;
}

/* Of all kinds of values; by a generator of its own, for 4. */
static void make_events(struct metric_events *events, uint32_t count, uint64_t seed) {
    struct kit_random random = {seed};
    char text[300];
    for (uint32_t i = 0; i < count; i++) {
        int64_t time_ms = kit_below(&random, 1000);
        uint32_t value = kit_below(&random, 400);
        switch (kit_below(&random, 6)) {
        case 0:
            metric_event_int(events, time_ms, (int64_t)value - 100);
            break;
        case 1:
            metric_event_double(events, time_ms, (double)value / 16);
            break;
        case 2:
            metric_event(events, time_ms, (uint8_t)(value % 4), (union mr_value){.i = 0});
            break;
        default: {
            int len = snprintf(text, sizeof text, "%0*u", (int)(1 + value % 200), (unsigned)value);
            metric_event_text(events, time_ms, MR_VALUE_STRING, mr_bytes_of(text, (size_t)len));
        }
        }
    }
}

static uint8_t *make_block(uint32_t count, uint64_t seed) {
    struct metric_events events = {.count = 0};
    uint8_t *block = metric_block(all, ALL);
    make_events(&events, count, seed);
    metric_add_range(all, ALL, &events, 0, count, block);
    metric_events_finish(&events);
    return block;
}

static void round_trip(void **state) {
    (void)state;
    assert_true(mr_metrics_grow(all, ALL));
    assert_false(mr_metrics_grow(all, MR_METRIC_FIRST));
    for (uint32_t count = 0; count < 700; count = count * 2 + 1) {
        uint8_t *block = make_block(count, count + 1);
        memset(block, 0x5A, PREFIX);
        struct mr_bytes bytes = metric_encode(all, ALL, block);
        assert_memory_equal(bytes.ptr, block, PREFIX);
        uint8_t *again = metric_block(all, ALL);
        memset(again, 0x5A, PREFIX);
        assert_int_equal(mr_metric_merge(all, ALL, again, bytes), MR_OK);
        struct mr_bytes same = metric_encode(all, ALL, again);
        assert_true(mr_bytes_equal(bytes, same));
        if (count > 0) {
            assert_true(mr_metric_heap(all, ALL, block) >= bytes.len - all[ALL - 1].offset);
        } else {
            assert_int_equal(mr_metric_heap(all, ALL, block), 0);
        }
        metric_free(same);
        metric_free(bytes);
        metric_block_close(all, ALL, again);
        mr_metric_release(all, ALL, block);
        for (uint32_t i = 0; i < all[ALL - 1].offset; i++) {
            assert_int_equal(block[i], i < PREFIX ? 0x5A : 0);
        }
        mr_free(block);
    }
}

/* Those that do not grow: all before first, and the histogram. The others' pointers stay as they are. */
static void many_at_once_as_one_by_one(void **state) {
    (void)state;
    enum { BLOCKS = 40, INTO = 9 };
    const struct mr_metric *histogram = &all[MR_METRIC_HISTOGRAM];
    uint8_t *from[BLOCKS];
    uint8_t *into[INTO];
    uint8_t *again[INTO];
    uint8_t *targets[BLOCKS];
    uint32_t len = all[ALL - 1].offset;
    for (uint32_t i = 0; i < INTO; i++) {
        into[i] = make_block(i * 3, i + 100);
        again[i] = mr_alloc(len);
        memcpy(again[i], into[i], len);
    }
    for (uint32_t k = 0; k < BLOCKS; k++) {
        from[k] = make_block(k % 13, k + 1);
        targets[k] = into[k * k % INTO];
        struct mr_bytes bytes = mr_bytes_of(from[k], len);
        assert_int_equal(mr_metric_merge(all, MR_METRIC_FIRST, again[k * k % INTO], bytes), MR_OK);
        assert_int_equal(mr_metric_merge(histogram, 1, again[k * k % INTO], bytes), MR_OK);
    }
    mr_metric_merge_plain(all, MR_METRIC_FIRST, targets, (const uint8_t *const *)from, BLOCKS);
    mr_metric_merge_plain(histogram, 1, targets, (const uint8_t *const *)from, BLOCKS);
    for (uint32_t i = 0; i < INTO; i++) {
        assert_memory_equal(into[i], again[i], len);
        metric_block_close(all, ALL, into[i]);
        mr_free(again[i]);
    }
    for (uint32_t k = 0; k < BLOCKS; k++) {
        metric_block_close(all, ALL, from[k]);
    }
}

static void check_refuses_other_lengths(void **state) {
    (void)state;
    uint8_t *block = make_block(300, 5);
    struct mr_bytes bytes = metric_encode(all, ALL, block);
    for (size_t len = 0; len < bytes.len; len++) {
        uint8_t *cut = mr_alloc(len + 1); /* so that ASan sees its end */
        memcpy(cut, bytes.ptr, len);
        assert_int_equal(mr_metric_check(all, ALL, mr_bytes_of(cut, len)), MR_CORRUPT);
        mr_free(cut);
    }
    uint8_t *longer = mr_alloc_zero(1, bytes.len + 8);
    memcpy(longer, bytes.ptr, bytes.len);
    assert_int_equal(mr_metric_check(all, ALL, mr_bytes_of(longer, bytes.len + 8)), MR_CORRUPT);
    mr_free(longer);
    metric_free(bytes);
    metric_block_close(all, ALL, block);
}

/* What passes is as good as written by us: it merges, comes back as the same bytes and has results. */
static void expect_usable(const uint8_t *encoded, size_t len, struct mr_arena *scratch) {
    uint8_t *block = metric_block(all, ALL);
    struct mr_number numbers[ALL];
    assert_int_equal(mr_metric_merge(all, ALL, block, mr_bytes_of(encoded, len)), MR_OK);
    struct mr_bytes same = metric_encode(all, ALL, block);
    uint32_t sketches = all[ALL - 1].offset;
    assert_true(same.len == len && memcmp(same.ptr + sketches, encoded + sketches, len - sketches) == 0);
    mr_metrics_finish(all, ALL, same, scratch, numbers);
    metric_free(same);
    metric_block_close(all, ALL, block);
    block = make_block(200, 77);
    assert_int_equal(mr_metric_merge(all, ALL, block, mr_bytes_of(encoded, len)), MR_OK);
    metric_free(metric_encode(all, ALL, block));
    metric_block_close(all, ALL, block);
    mr_arena_reset(scratch);
}

static void check_refuses_damage(void **state) {
    (void)state;
    struct kit_random random = {3};
    struct mr_arena scratch;
    uint32_t refused = 0;
    enum { ROUNDS = 30000 };
    mr_arena_init(&scratch, 1024, 1 << 20);
    uint8_t *few = make_block(12, 6);
    uint8_t *many = make_block(500, 7);
    for (int of = 0; of < 2; of++) {
        struct mr_bytes bytes = metric_encode(all, ALL, of == 0 ? few : many);
        uint8_t *damaged = mr_alloc(bytes.len);
        for (int round = 0; round < ROUNDS; round++) {
            memcpy(damaged, bytes.ptr, bytes.len);
            uint32_t at = PREFIX + kit_below(&random, (uint32_t)bytes.len - PREFIX);
            if (kit_below(&random, 2) == 0) {
                damaged[at] ^= (uint8_t)(1u << kit_below(&random, 8));
            } else {
                damaged[at] = (uint8_t)kit_random(&random);
            }
            if (mr_metric_check(all, ALL, mr_bytes_of(damaged, bytes.len)) != MR_OK) {
                refused++;
            } else if (round % 8 == 0) {
                expect_usable(damaged, bytes.len, &scratch);
            }
        }
        mr_free(damaged);
        metric_free(bytes);
    }
    assert_true(refused > ROUNDS / 2); /* texts of collect and first may be any, and so may counts */
    metric_block_close(all, ALL, few);
    metric_block_close(all, ALL, many);
    mr_arena_finish(&scratch);
}

/* Adds, merges and results, until one has no memory; everything is released whatever happened. */
static enum mr_status run(const struct metric_events *events, struct mr_bytes other, struct mr_arena *scratch,
                          uint8_t *block) {
    uint32_t which[64];
    uint8_t *states[64];
    enum mr_status status = MR_OK;
    for (uint32_t at = 0; at < events->count; at += 64) {
        uint32_t n = 0;
        for (; n < 64 && at + n < events->count; n++) {
            which[n] = at + n;
            states[n] = block;
        }
        for (uint32_t m = 0; m < ALL; m++) {
            bool alone = m == MR_METRIC_COUNT || m == MR_METRIC_RATIO;
            status = mr_metric_add(&all[m], &events->batch, alone ? NULL : &events->column, which, states, n);
            if (status != MR_OK) {
                return status;
            }
        }
    }
    status = mr_metric_merge(all, ALL, block, other);
    if (status == MR_OK) {
        struct mr_number numbers[ALL];
        static uint64_t encoded[32768];
        uint32_t len = mr_metric_encoded_len(all, ALL, block);
        MR_ASSERT(len <= sizeof encoded);
        mr_metric_encode(all, ALL, block, (uint8_t *)encoded);
        mr_metrics_finish(all, ALL, mr_bytes_of(encoded, len), scratch, numbers);
        status = numbers[MR_METRIC_TOP].kind == MR_NUMBER_NULL || numbers[MR_METRIC_COLLECT].kind == MR_NUMBER_NULL ||
                         numbers[MR_METRIC_HISTOGRAM].kind == MR_NUMBER_NULL ||
                         numbers[MR_METRIC_QUANTILES].kind == MR_NUMBER_NULL ||
                         numbers[MR_METRIC_FIRST].kind == MR_NUMBER_NULL ||
                         numbers[MR_METRIC_LAST].kind == MR_NUMBER_NULL
                     ? MR_NO_MEMORY
                     : MR_OK;
    }
    return status;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    struct metric_events events = {.count = 0};
    uint8_t *other = make_block(400, 9);
    struct mr_bytes bytes = metric_encode(all, ALL, other);
    make_events(&events, 300, 8);
    bool failed = true;
    for (size_t nth = 1; failed; nth++) {
        struct mr_arena scratch;
        uint8_t *block = metric_block(all, ALL);
        mr_arena_init(&scratch, 1024, 1 << 20);
        mr_alloc_fail_at(nth, nth % 2);
        enum mr_status status = run(&events, bytes, &scratch, block);
        failed = mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        assert_int_equal(status, failed ? MR_NO_MEMORY : MR_OK);
        metric_block_close(all, ALL, block);
        mr_arena_finish(&scratch);
        assert_true(nth < 1000);
    }
    metric_free(bytes);
    metric_block_close(all, ALL, other);
    metric_events_finish(&events);
}

static void bytes_are_a_format(void **state) {
    (void)state;
    uint8_t *block = make_block(600, 1);
    uint8_t *other = make_block(600, 2);
    struct mr_bytes bytes = metric_encode(all, ALL, other);
    assert_int_equal(mr_metric_merge(all, ALL, block, bytes), MR_OK);
    metric_free(bytes);
    bytes = metric_encode(all, ALL, block);
    assert_int_equal(mr_checksum(bytes), UINT64_C(0xe6d3824cb211b66a));
    metric_free(bytes);
    metric_block_close(all, ALL, block);
    metric_block_close(all, ALL, other);
}

static void numbers_of_all_kinds_are_in_order(void **state) {
    (void)state;
    const struct mr_number ascending[] = {
        {.kind = MR_NUMBER_NULL},
        {.kind = MR_NUMBER_BOOL, .i = 0},
        {.kind = MR_NUMBER_BOOL, .i = 1},
        {.kind = MR_NUMBER_INT, .i = -5},
        {.kind = MR_NUMBER_DOUBLE, .d = 1e300},
        {.kind = MR_NUMBER_TEXT, .len = 0, .text = NULL},
        {.kind = MR_NUMBER_TEXT, .len = 1, .text = (const uint8_t *)"a"},
        {.kind = MR_NUMBER_TEXT, .len = 2, .text = (const uint8_t *)"aa"},
        {.kind = MR_NUMBER_TEXT, .len = 1, .text = (const uint8_t *)"b"},
        {.kind = MR_NUMBER_JSON, .len = 2, .text = (const uint8_t *)"[]"},
    };
    int count = sizeof ascending / sizeof ascending[0];
    for (int a = 0; a < count; a++) {
        for (int b = 0; b < count; b++) {
            int order = mr_number_compare(ascending[a], ascending[b]);
            assert_int_equal((order > 0) - (order < 0), (a > b) - (a < b));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(many_at_once_as_one_by_one),
        cmocka_unit_test(check_refuses_other_lengths),
        cmocka_unit_test(check_refuses_damage),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(bytes_are_a_format),
        cmocka_unit_test(numbers_of_all_kinds_are_in_order),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
