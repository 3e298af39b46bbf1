/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a test can make the k-th allocation fail, through every function that allocates, once
 * or for ever; and what the allocators promise about alignment and zeros.
 */
#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { KINDS = 5, ROUND = 100 };

/* Allocates with one of the functions and frees again; says whether it was given anything. */
static bool allocate(size_t kind) {
    void *ptr = NULL;
    switch (kind % KINDS) {
    case 0:
        ptr = mr_alloc(10);
        break;
    case 1:
        ptr = mr_alloc_zero(3, 10);
        break;
    case 2:
        ptr = mr_realloc(NULL, 10);
        break;
    case 3:
        ptr = mr_alloc_aligned(MR_CACHE_LINE, 10);
        break;
    default:
        ptr = mr_alloc_pages(10);
        mr_free_pages(ptr, 10);
        return ptr != NULL;
    }
    mr_free(ptr);
    return ptr != NULL;
}

static void the_kth_allocation_fails(void **state) {
    (void)state;
    for (int forever = 0; forever < 2; forever++) {
        for (size_t nth = 1; nth <= 3 * KINDS; nth++) {
            mr_alloc_fail_at(nth, forever);
            for (size_t i = 1; i <= ROUND; i++) {
                bool fails = forever ? i >= nth : i == nth;
                assert_int_equal(allocate(nth + i), !fails);
            }
            mr_alloc_fail_at(0, 0);
            for (size_t kind = 0; kind < KINDS; kind++) {
                assert_true(allocate(kind));
            }
        }
    }
}

static void a_failed_realloc_keeps_the_block(void **state) {
    (void)state;
    char *text = mr_alloc(6);
    assert_non_null(text);
    memcpy(text, "still", 6);
    mr_alloc_fail_at(1, 0);
    assert_null(mr_realloc(text, 100000));
    assert_string_equal(text, "still");
    text = mr_realloc(text, 100000);
    assert_non_null(text);
    assert_string_equal(text, "still");
    mr_free(text);
}

static void alignment_and_zeros(void **state) {
    (void)state;
    for (size_t alignment = 8; alignment <= 4096; alignment *= 2) {
        for (size_t size = 1; size < 300; size += 37) {
            uint8_t *ptr = mr_alloc_aligned(alignment, size);
            assert_non_null(ptr);
            assert_true((uintptr_t)ptr % alignment == 0);
            memset(ptr, 1, size);
            mr_free(ptr);
        }
    }
    static const uint8_t zeros[10000];
    uint8_t *ptr = mr_alloc_zero(100, 100);
    assert_memory_equal(ptr, zeros, 10000);
    mr_free(ptr);
    uint8_t *pages = mr_alloc_pages(3 << 20);
    assert_non_null(pages);
    assert_memory_equal(pages + (2 << 20), zeros, sizeof zeros);
    mr_free_pages(pages, 3 << 20);
    mr_free_pages(NULL, 10);
    mr_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kth_allocation_fails),
        cmocka_unit_test(a_failed_realloc_keeps_the_block),
        cmocka_unit_test(alignment_and_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
