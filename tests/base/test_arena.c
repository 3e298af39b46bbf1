/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that what an arena gives out is the caller's alone until reset:
 *   1. random sizes, small and over chunk_max: every block is aligned and keeps its bytes while
 * others are written (ASan sees a block that reaches behind its chunk);
 *   2. `bytes` is what the heap gave: bounded by the sizes asked for, and kept to one chunk by
 * reset;
 *   3. a failed allocation changes nothing.
 */
#include "base/arena.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BLOCKS = 400, CHUNK_FIRST = 64, CHUNK_MAX = 1024 };

struct block {
    uint8_t *ptr;
    size_t len;
    uint8_t fill;
};

static void check_blocks(const struct block *blocks, size_t count) {
    for (size_t i = 0; i < count; i++) {
        assert_true((uintptr_t)blocks[i].ptr % 8 == 0);
        for (size_t j = 0; j < blocks[i].len; j++) {
            assert_int_equal(blocks[i].ptr[j], blocks[i].fill);
        }
    }
}

static void blocks_keep_their_bytes(void **state) {
    (void)state;
    static struct block blocks[BLOCKS];
    struct mr_arena arena;
    uint64_t seed = 3;
    mr_arena_init(&arena, CHUNK_FIRST, CHUNK_MAX);
    for (int round = 0; round < 3; round++) {
        size_t asked = 0;
        for (size_t i = 0; i < BLOCKS; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t len = 1 + (seed >> 40) % ((seed >> 33) % 32 == 0 ? 5000 : 100);
            blocks[i] = (struct block){mr_arena_alloc(&arena, len), len, (uint8_t)(seed >> 56)};
            assert_non_null(blocks[i].ptr);
            memset(blocks[i].ptr, blocks[i].fill, len);
            asked += len;
            if (i % 20 == 0) {
                check_blocks(blocks, i + 1);
            }
        }
        check_blocks(blocks, BLOCKS);
        assert_true(arena.bytes >= asked);
        mr_arena_reset(&arena);
        size_t kept = arena.bytes;
        assert_true(kept > 0 && kept < asked);
        assert_non_null(mr_arena_alloc(&arena, 8)); /* from the kept chunk */
        assert_int_equal(arena.bytes, kept);
    }
    mr_arena_finish(&arena);
    assert_int_equal(arena.bytes, 0);
    assert_non_null(mr_arena_alloc(&arena, 8)); /* usable again */
    mr_arena_finish(&arena);
}

static void chunks_double_up_to_the_most(void **state) {
    (void)state;
    struct mr_arena arena;
    mr_arena_init(&arena, CHUNK_FIRST, CHUNK_MAX);
    size_t chunks = 0;
    size_t largest = 0;
    size_t bytes = 0;
    for (int i = 0; i < 1000; i++) {
        assert_non_null(mr_arena_alloc(&arena, 8));
        if (arena.bytes != bytes) {
            largest = arena.bytes - bytes > largest ? arena.bytes - bytes : largest;
            bytes = arena.bytes;
            chunks++;
        }
    }
    assert_true(largest >= CHUNK_MAX && largest <= CHUNK_MAX + 32);
    assert_int_equal(chunks, 5 + 6); /* 64 to 1024 hold 248 blocks; each 1024 after that 128 */
    mr_arena_reset(&arena);
    mr_arena_finish(&arena);
    mr_arena_reset(&arena); /* nothing to keep */
    assert_int_equal(arena.bytes, 0);
}

static void copies_end_in_a_nul(void **state) {
    (void)state;
    struct mr_arena arena;
    mr_arena_init(&arena, 8, 8);
    const struct mr_bytes texts[] = {MR_BYTES("a\0b"), MR_BYTES("1234567"), MR_BYTES("12345678"),
                                     mr_bytes_of(NULL, 0)};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct mr_bytes copy = mr_arena_copy(&arena, texts[i]);
        assert_true(mr_bytes_equal(copy, texts[i]));
        assert_non_null(copy.ptr);
        assert_int_equal(copy.ptr[copy.len], 0);
    }
    mr_arena_finish(&arena);
}

static void no_memory_changes_nothing(void **state) {
    (void)state;
    struct mr_arena arena;
    mr_arena_init(&arena, 16, 16);
    mr_alloc_fail_at(1, 0);
    assert_null(mr_arena_alloc(&arena, 8));
    assert_int_equal(arena.bytes, 0);
    uint8_t *first = mr_arena_alloc(&arena, 8);
    assert_non_null(first);
    struct mr_arena before = arena;
    mr_alloc_fail_at(1, 1);
    assert_null(mr_arena_alloc(&arena, 16));
    assert_null(mr_arena_copy(&arena, MR_BYTES("0123456789abcdef")).ptr);
    assert_memory_equal(&arena, &before, sizeof arena);
    assert_ptr_equal(mr_arena_alloc(&arena, 8), first + 8); /* what is there is still given out */
    mr_alloc_fail_at(0, 0);
    mr_arena_finish(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_keep_their_bytes),
        cmocka_unit_test(chunks_double_up_to_the_most),
        cmocka_unit_test(copies_end_in_a_nul),
        cmocka_unit_test(no_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
