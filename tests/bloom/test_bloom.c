/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a filter forgets nothing, and answers wrong as rarely as it promised:
 *   1. random ids against a list of what was set: set implies found, new until set, clear empties;
 *   2. the portable and the AVX2 path give the same bits and the same answers;
 *   3. at full load the measured share of false positives is at most 1.2 times the configured one
 *      (and not below half of it: the size is not padded), and the estimate from the fill agrees;
 *   4. wrong arguments and missing memory are refused.
 */
#include "bloom/bloom.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* Fingerprint n of a sequence: what a good keyed hash would give (SplitMix64). */
static uint64_t mixed(uint64_t n) {
    uint64_t x = n * UINT64_C(0x9e3779b97f4a7c15) + UINT64_C(0x1234567);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static struct mr_fingerprint fp_of(uint64_t n) {
    return (struct mr_fingerprint){.lo = mixed(2 * n), .hi = mixed(2 * n + 1) >> 8};
}

static struct mr_bloom *open_bloom(uint64_t ids_max, double error) {
    struct mr_bloom *bloom = NULL;
    assert_int_equal(mr_bloom_open(ids_max, error, &bloom), MR_OK);
    mr_bloom_check(bloom);
    return bloom;
}

static void forgets_nothing(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 2, 7, 100, 20000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        uint64_t ids = sizes[s];
        struct mr_bloom *bloom = open_bloom(ids, 1e-3);
        assert_true(mr_bloom_fill(bloom) == 0.0);
        for (uint64_t n = 0; n < ids; n++) {
            bool before = mr_bloom_test(bloom, fp_of(n));
            mr_bloom_prefetch(bloom, fp_of(n));
            assert_int_equal(mr_bloom_test_and_set(bloom, fp_of(n)), before);
            assert_true(mr_bloom_test(bloom, fp_of(n)));
            assert_true(mr_bloom_test_and_set(bloom, fp_of(n)));
        }
        for (uint64_t n = 0; n < ids; n++) {
            assert_true(mr_bloom_test(bloom, fp_of(n)));
        }
        assert_true(mr_bloom_fill(bloom) > 0.0);
        mr_bloom_clear(bloom);
        assert_true(mr_bloom_fill(bloom) == 0.0);
        assert_true(mr_bloom_error_estimate(bloom) == 0.0);
        for (uint64_t n = 0; n < ids; n++) {
            assert_false(mr_bloom_test(bloom, fp_of(n)));
        }
        mr_bloom_close(bloom);
    }
}

/* The first id in an empty filter is always new: no bits, no match. */
static void extreme_fingerprints_stay_inside(void **state) {
    (void)state;
    struct mr_bloom *bloom = open_bloom(1000, 1e-4);
    const struct mr_fingerprint extreme[] = {
        {0, 0}, {UINT64_MAX, UINT64_MAX >> 8}, {0, UINT64_MAX >> 8}, {UINT64_MAX, 0}, {1, 1}};
    for (size_t i = 0; i < sizeof extreme / sizeof extreme[0]; i++) {
        mr_bloom_clear(bloom);
        assert_false(mr_bloom_test_and_set(bloom, extreme[i]));
        assert_true(mr_bloom_test(bloom, extreme[i]));
    }
    mr_bloom_close(bloom);
}

static void clears_in_parts(void **state) {
    (void)state;
    struct mr_bloom *bloom = open_bloom(5000, 1e-2);
    uint64_t empty = mr_bloom_hash_scan(bloom);
    for (uint64_t n = 0; n < 5000; n++) {
        (void)mr_bloom_test_and_set(bloom, fp_of(n)); /* new or not is no matter here */
    }
    assert_int_not_equal(mr_bloom_hash_scan(bloom), empty);
    uint64_t blocks = mr_bloom_blocks(bloom);
    for (uint64_t at = 0; at < blocks; at += 7) {
        mr_bloom_clear_part(bloom, at, blocks - at < 7 ? blocks - at : 7);
    }
    assert_int_equal(mr_bloom_hash_scan(bloom), empty);
    mr_bloom_close(bloom);
}

static void portable_and_avx2_agree(void **state) {
    (void)state;
    struct mr_bloom *fast = open_bloom(20000, 1e-2);
    struct mr_bloom *portable = open_bloom(20000, 1e-2);
    mr_bloom_use_portable(portable);
    for (uint64_t n = 0; n < 60000; n++) {
        struct mr_fingerprint fp = fp_of(n % 40000);
        assert_int_equal(mr_bloom_test(fast, fp), mr_bloom_test(portable, fp));
        if (n % 3 != 0) {
            assert_int_equal(mr_bloom_test_and_set(fast, fp), mr_bloom_test_and_set(portable, fp));
        }
    }
    assert_int_equal(mr_bloom_hash_scan(fast), mr_bloom_hash_scan(portable));
    mr_bloom_close(fast);
    mr_bloom_close(portable);
}

static void keeps_its_promise_at_full_load(void **state) {
    (void)state;
    static const struct {
        double error;
        uint64_t ids;
        uint64_t queries;
    } cases[] = {
        {0.5, 40000, 20000},    {1e-1, 40000, 50000},    {1e-2, 100000, 200000},
        {1e-3, 100000, 400000}, {1e-4, 100000, 2000000}, {1e-5, 100000, 12000000},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct mr_bloom *bloom = open_bloom(cases[c].ids, cases[c].error);
        for (uint64_t n = 0; n < cases[c].ids; n++) {
            (void)mr_bloom_test_and_set(bloom, fp_of(n));
        }
        uint64_t wrong = 0;
        for (uint64_t n = 0; n < cases[c].queries; n++) {
            wrong += mr_bloom_test(bloom, fp_of(UINT64_C(1) << 40 | n));
        }
        double measured = (double)wrong / (double)cases[c].queries;
        double estimate = mr_bloom_error_estimate(bloom);
        print_message("error %g: measured %.3g, estimated %.3g, %.2f bits an id\n", cases[c].error,
                      measured, estimate,
                      (double)mr_bloom_bytes(bloom) * 8.0 / (double)cases[c].ids);
        assert_true(measured <= 1.2 * cases[c].error);
        assert_true(measured >= 0.5 * cases[c].error);
        assert_true(estimate <= 1.3 * cases[c].error && estimate >= 0.7 * cases[c].error);
        assert_int_equal(mr_bloom_bytes(bloom),
                         mr_bloom_bytes_planned(cases[c].ids, cases[c].error));
        mr_bloom_close(bloom);
    }
}

/* A shard sees only ids with the same high bits of lo: the filter must not choose by these. */
static void works_within_one_shard(void **state) {
    (void)state;
    const uint64_t ids = 30000;
    struct mr_bloom *bloom = open_bloom(ids, 1e-2);
    for (uint64_t n = 0; n < ids; n++) {
        struct mr_fingerprint fp = fp_of(n);
        fp.lo = fp.lo >> 6 | UINT64_C(21) << 58; /* shard 21 of 64 */
        (void)mr_bloom_test_and_set(bloom, fp);
    }
    uint64_t wrong = 0;
    for (uint64_t n = 0; n < 100000; n++) {
        struct mr_fingerprint fp = fp_of(UINT64_C(1) << 40 | n);
        fp.lo = fp.lo >> 6 | UINT64_C(21) << 58;
        assert_int_equal(mr_fingerprint_shard(fp, 64), 21);
        wrong += mr_bloom_test(bloom, fp);
    }
    assert_true(wrong <= 1200);
    mr_bloom_close(bloom);
}

static void refuses_bad_arguments_and_missing_memory(void **state) {
    (void)state;
    struct mr_bloom *bloom = NULL;
    assert_int_equal(mr_bloom_open(0, 0.01, &bloom), MR_INVALID);
    assert_int_equal(mr_bloom_open((UINT64_C(1) << 40) + 1, 0.01, &bloom), MR_INVALID);
    assert_int_equal(mr_bloom_open(10, 0.0, &bloom), MR_INVALID);
    assert_int_equal(mr_bloom_open(10, 9e-9, &bloom), MR_INVALID);
    assert_int_equal(mr_bloom_open(10, 0.51, &bloom), MR_INVALID);
    assert_int_equal(mr_bloom_open(10, -1.0, &bloom), MR_INVALID);
    assert_int_equal(mr_bloom_open(10, __builtin_nan(""), &bloom), MR_INVALID);
    for (size_t nth = 1; nth <= 2; nth++) {
        mr_alloc_fail_at(nth, 0);
        assert_int_equal(mr_bloom_open(10, 0.01, &bloom), MR_NO_MEMORY);
    }
    mr_alloc_fail_at(0, 0);
    assert_null(bloom);
    mr_bloom_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forgets_nothing),
        cmocka_unit_test(extreme_fingerprints_stay_inside),
        cmocka_unit_test(clears_in_parts),
        cmocka_unit_test(portable_and_avx2_agree),
        cmocka_unit_test(keeps_its_promise_at_full_load),
        cmocka_unit_test(works_within_one_shard),
        cmocka_unit_test(refuses_bad_arguments_and_missing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
