/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the groups of a window are a map in order of first appearance that grows in small
 * steps:
 *   1. random keys of all lengths, found again after every growth, in one step and in three, walked in the order they
 *      came;
 *   2. hashes that agree in many bits split far enough and are told apart by key;
 *   3. a million groups: no single add moves more than one segment and the directory;
 *   4. small windows stay small;
 *   5. an allocation that fails, whichever, leaves everything as it was.
 */
#include "aggregate/groups.h"
#include "base/alloc.h"
#include "base/hash.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { STATE = 48 };

static uint32_t hash_of(struct mr_bytes key, uint64_t seed) {
    return mr_group_hash(mr_hash64(key, seed));
}

/* Few bits: many keys share a hash. */
static uint32_t poor_hash_of(struct mr_bytes key, uint64_t seed) {
    return (hash_of(key, seed) & 0x1ff) * 0x00010001u;
}

static struct mr_bytes key_of(uint32_t n, uint32_t padding, char *text) {
    int len = snprintf(text, 16, "key%08x", n);
    memset(text + len, 'x', padding);
    return mr_bytes_of(text, (size_t)len + padding);
}

/* Finding it in steps gives the same, but where another key has the same hash: then NULL. */
static uint32_t find_in_steps(const struct mr_groups *g, struct mr_bytes key, uint32_t hash) {
    uint32_t ref = 0;
    const struct mr_group *group = mr_groups_find(g, hash, key, &ref);
    mr_groups_prefetch_slot(g, hash);
    uint32_t sought = mr_groups_seek(g, hash);
    const struct mr_group *found = mr_groups_of_key(g, sought, key);
    assert_true(found == NULL || (found == group && sought == ref));
    assert_true(group == NULL || sought != MR_GROUPS_NONE);
    return found != NULL;
}

static void add(struct mr_groups *g, struct mr_bytes key, uint32_t hash, uint64_t events) {
    uint32_t ref = 0;
    struct mr_group *group = NULL;
    assert_null(mr_groups_find(g, hash, key, &ref));
    assert_int_equal(find_in_steps(g, key, hash), 0);
    assert_int_equal(mr_groups_add(g, hash, key, &group, &ref), MR_OK);
    assert_ptr_equal(mr_groups_at(g, ref), group);
    assert_int_equal(group->events, 0);
    for (int i = 0; i < STATE; i++) {
        assert_int_equal(mr_group_state(group)[i], 0);
    }
    group->events = events;
    memset(mr_group_state(group), (int)(events & 0x7f), STATE);
}

static void grow_and_find(uint32_t (*hash)(struct mr_bytes, uint64_t), uint32_t count,
                          uint32_t padding_max) {
    struct mr_groups g;
    char text[600];
    mr_groups_init(&g, STATE);
    for (uint32_t n = 0; n < count; n++) {
        struct mr_bytes key = key_of(n, n % 7 == 0 ? n % (padding_max + 1) : 0, text);
        add(&g, key, hash(key, 9), n + 1);
        if (n % (count / 5) == 0) {
            mr_groups_check_scan(&g, hash, 9);
        }
    }
    mr_groups_check_scan(&g, hash, 9);
    uint32_t in_steps = 0;
    for (uint32_t n = 0; n < count; n++) {
        struct mr_bytes key = key_of(n, n % 7 == 0 ? n % (padding_max + 1) : 0, text);
        in_steps += find_in_steps(&g, key, hash(key, 9));
    }
    assert_true(in_steps >= (hash == poor_hash_of ? 1 : count - 2)); /* the first of each hash */
    uint32_t at = 0;
    uint64_t n = 0;
    const struct mr_group *group;
    while ((group = mr_groups_next(&g, &at)) != NULL) {
        n++;
        assert_int_equal(group->events, n);
    }
    assert_int_equal(n, count);
    assert_int_equal(g.count, count);
    mr_groups_finish(&g);
    assert_int_equal(g.bytes, 0);
}

static void keys_are_found_in_order(void **state) {
    (void)state;
    grow_and_find(hash_of, 10, 0);
    grow_and_find(hash_of, 20000, 500);
    grow_and_find(poor_hash_of, 700, 10);
}

static void a_million_groups_in_small_steps(void **state) {
    (void)state;
    enum { COUNT = 1000000 };
    struct mr_groups g;
    char text[32];
    mr_groups_init(&g, STATE);
    uint64_t moved = 0;
    uint32_t moved_max = 0;
    for (uint32_t n = 0; n < COUNT; n++) {
        struct mr_bytes key = key_of(n, 0, text);
        struct mr_group *group;
        uint32_t ref;
        assert_int_equal(mr_groups_add(&g, hash_of(key, 9), key, &group, &ref), MR_OK);
        moved += g.moved;
        moved_max = g.moved > moved_max ? g.moved : moved_max;
        /* One segment of 1,023 slots, and a directory of 8 bytes for some hundred groups. */
        assert_true(g.moved <= 1023 + (n + 1) / 64 + 64);
    }
    assert_true(moved <= UINT64_C(8) * COUNT);
    assert_true(moved_max < COUNT / 64);
    assert_true(g.bytes <= UINT64_C(112) * COUNT); /* 24 + 48 + 11 → 88, and 15 or so of index */
    print_message("bytes a group: %zu, most words moved at once: %u\n", g.bytes / COUNT, moved_max);
    mr_groups_finish(&g);
}

static void small_windows_are_small(void **state) {
    (void)state;
    struct mr_groups g;
    char text[32];
    mr_groups_init(&g, STATE);
    for (uint32_t n = 0; n < 5; n++) {
        struct mr_bytes key = key_of(n, 0, text);
        add(&g, key, hash_of(key, 9), n);
    }
    assert_true(g.bytes <= 5 * 88 + 200);
    mr_groups_finish(&g);
}

static void out_of_memory(void **state) {
    (void)state;
    char text[64];
    for (size_t nth = 1; nth <= 60; nth++) {
        struct mr_groups g;
        mr_groups_init(&g, STATE);
        mr_alloc_fail_at(nth, 0);
        uint32_t failures = 0;
        for (uint32_t n = 0; n < 4000; n++) {
            struct mr_bytes key = key_of(n, n % 20, text);
            struct mr_group *group;
            uint32_t ref;
            while (mr_groups_add(&g, hash_of(key, 9), key, &group, &ref) != MR_OK) {
                failures++;
                assert_int_equal(g.count, n);
                assert_null(mr_groups_find(&g, hash_of(key, 9), key, &ref));
                mr_groups_check_scan(&g, hash_of, 9);
            }
        }
        mr_alloc_fail_at(0, 0);
        assert_true(failures <= 1);
        assert_int_equal(g.count, 4000);
        mr_groups_finish(&g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_found_in_order),
        cmocka_unit_test(a_million_groups_in_small_steps),
        cmocka_unit_test(small_windows_are_small),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
