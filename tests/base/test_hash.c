/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what the data format and the shards rely on:
 *   1. the values of a few inputs, written down: a change of them would make every data directory
 * unreadable;
 *   2. key, stream, id and each bit of them change the fingerprint; its upper 8 bits are free; the same of contents;
 *   3. the fingerprints of many ids are those of each;
 *   4. inputs of all lengths hash to what XXH3 gives without any of a processor's special instructions;
 *   5. reduce stays in its range, is monotonic, and shards get even parts of sequential ids.
 */
#include "base/hash.h"

#define XXH_VECTOR 0 /* none: plain C */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct mr_hash_key counting_key(void) {
    struct mr_hash_key key;
    for (size_t i = 0; i < MR_HASH_KEY_LEN; i++) {
        key.bytes[i] = (uint8_t)i;
    }
    return key;
}

static void values_for_ever(void **state) {
    (void)state;
    struct mr_hash_key key = counting_key();
    struct mr_secret secret;
    mr_secret_derive(&key, MR_BYTES("clicks"), &secret);
    struct mr_fingerprint fp = mr_fingerprint_of(&secret, MR_BYTES("e-1"));
    /* XXH3-64 of nothing and of "a", as in the specification's own test vectors. */
    assert_true(mr_checksum(mr_bytes_of(NULL, 0)) == UINT64_C(0x2d06800538d394c2));
    assert_true(mr_checksum(MR_BYTES("a")) == UINT64_C(0xe6c632b61e964e1f));
    assert_true(mr_hash64(MR_BYTES("a"), 0) == UINT64_C(0xe6c632b61e964e1f));
    assert_true(mr_hash64(MR_BYTES("a"), 1) == UINT64_C(0xd2f6d0996f37a720));
    assert_true(mr_hash_seed(&key, MR_BYTES("rule")) == UINT64_C(0x79bcad7cbb3ae055));
    assert_true(fp.lo == UINT64_C(0x07201d18cd2ee002));
    assert_true(fp.hi == UINT64_C(0x00bd81f43764acdc));
    assert_true(mr_content_hash(&secret, MR_BYTES("{\"id\":1}")) == UINT64_C(0x90c0bd42d2bb92e3));
}

static void plain_c_gives_the_same(void **state) {
    (void)state;
    enum { LEN_MAX = 300000 };
    uint8_t *bytes = malloc(LEN_MAX);
    assert_non_null(bytes);
    for (size_t i = 0; i < LEN_MAX; i++) {
        bytes[i] = (uint8_t)(i * 167 + (i >> 8));
    }
    for (size_t len = 0; len < LEN_MAX; len += len < 300 ? 1 : len < 5000 ? 31 : 7001) {
        for (uint64_t seed = 0; seed < 2; seed++) {
            uint64_t expected = XXH3_64bits_withSeed(bytes + seed, len, seed * UINT64_C(0x9e3779b97f4a7c15));
            assert_true(mr_hash64(mr_bytes_of(bytes + seed, len), seed * UINT64_C(0x9e3779b97f4a7c15)) == expected);
        }
        assert_true(mr_checksum(mr_bytes_of(bytes, len)) == XXH3_64bits(bytes, len));
    }
    free(bytes);
}

static void every_bit_counts(void **state) {
    (void)state;
    const struct mr_hash_key key = counting_key();
    struct mr_secret secret;
    mr_secret_derive(&key, MR_BYTES("clicks"), &secret);
    static const size_t lens[] = {1,   8,   16,  17,  64,  128,
                                  129, 240, 241, 300, 1024}; /* XXH3's cases */
    for (size_t l = 0; l < sizeof lens / sizeof lens[0]; l++) {
        uint8_t id[1024];
        memset(id, 'i', sizeof id);
        struct mr_fingerprint whole = mr_fingerprint_of(&secret, mr_bytes_of(id, lens[l]));
        assert_true(whole.hi >> 56 == 0);
        for (size_t bit = 0; bit<lens[l] * 8; bit += lens[l]> 64 ? 13 : 1) {
            id[bit / 8] ^= (uint8_t)(1 << bit % 8);
            struct mr_fingerprint other = mr_fingerprint_of(&secret, mr_bytes_of(id, lens[l]));
            assert_false(mr_fingerprint_equal(whole, other));
            assert_true(other.hi >> 56 == 0);
            id[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_true(
            mr_fingerprint_equal(whole, mr_fingerprint_of(&secret, mr_bytes_of(id, lens[l]))));
        assert_false(
            mr_fingerprint_equal(whole, mr_fingerprint_of(&secret, mr_bytes_of(id, lens[l] - 1))));
    }
    for (size_t bit = 0; bit < MR_HASH_KEY_LEN * 8; bit++) {
        struct mr_hash_key changed = key;
        struct mr_secret other;
        changed.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        mr_secret_derive(&changed, MR_BYTES("clicks"), &other);
        assert_false(mr_fingerprint_equal(mr_fingerprint_of(&secret, MR_BYTES("e-1")),
                                          mr_fingerprint_of(&other, MR_BYTES("e-1"))));
        assert_true(mr_hash_seed(&key, MR_BYTES("r")) != mr_hash_seed(&changed, MR_BYTES("r")));
    }
    struct mr_secret views;
    mr_secret_derive(&key, MR_BYTES("click"), &views);
    assert_false(mr_fingerprint_equal(mr_fingerprint_of(&secret, MR_BYTES("e-1")),
                                      mr_fingerprint_of(&views, MR_BYTES("e-1"))));
    assert_true(mr_hash_seed(&key, MR_BYTES("a")) != mr_hash_seed(&key, MR_BYTES("b")));
}

static void many_as_each(void **state) {
    (void)state;
    enum { IDS = 700 };
    static uint8_t text[IDS + 400];
    struct mr_bytes ids[IDS];
    struct mr_fingerprint got[IDS + 1];
    struct mr_hash_key key = counting_key();
    struct mr_secret secret;
    mr_secret_derive(&key, MR_BYTES("clicks"), &secret);
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (uint8_t)(i * 151 + i / 256);
    }
    for (uint32_t same = 1; same <= 5; same += 2) { /* so many of one length, then of another */
        for (uint32_t i = 0; i < IDS; i++) {
            ids[i] = mr_bytes_of(text + i, i / same * 37 % 300);
        }
        got[IDS] = (struct mr_fingerprint){1, 2};
        mr_fingerprints_of(&secret, ids, IDS, got);
        for (uint32_t i = 0; i < IDS; i++) {
            assert_true(mr_fingerprint_equal(got[i], mr_fingerprint_of(&secret, ids[i])));
        }
        assert_true(got[IDS].lo == 1 && got[IDS].hi == 2);
    }
    mr_fingerprints_of(&secret, ids, 0, got);
}

static void contents_differ(void **state) {
    (void)state;
    struct mr_hash_key key = counting_key();
    struct mr_secret a;
    struct mr_secret b;
    uint8_t text[300];
    mr_secret_derive(&key, MR_BYTES("clicks/content"), &a);
    mr_secret_derive(&key, MR_BYTES("views/content"), &b);
    memset(text, 'x', sizeof text);
    for (size_t len = 0; len <= sizeof text; len++) {
        struct mr_bytes content = mr_bytes_of(text, len);
        uint64_t whole = mr_content_hash(&a, content);
        assert_true(whole != 0 && whole != mr_content_hash(&b, content));
        for (size_t bit = 0; bit < len * 8; bit += 7) {
            text[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_true(mr_content_hash(&a, content) != whole);
            text[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}

static void reduce_is_a_division_of_the_range(void **state) {
    (void)state;
    for (uint32_t count = 1; count <= 64; count++) {
        assert_int_equal(mr_hash_reduce(0, count), 0);
        assert_int_equal(mr_hash_reduce(UINT64_MAX, count), count - 1);
        for (uint32_t i = 1; i < count;
             i++) { /* the first hash of part i: ceil(i * 2^64 / count) */
            __uint128_t first = (((__uint128_t)i << 64) + count - 1) / count;
            assert_int_equal(mr_hash_reduce((uint64_t)first, count), i);
            assert_int_equal(mr_hash_reduce((uint64_t)first - 1, count), i - 1);
        }
    }
}

static void shards_get_even_parts(void **state) {
    (void)state;
    enum { IDS = 40000, SHARDS = 8 };
    const struct mr_hash_key key = counting_key();
    struct mr_secret secret;
    uint32_t counts[SHARDS] = {0};
    mr_secret_derive(&key, MR_BYTES("clicks"), &secret);
    for (int i = 0; i < IDS; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "%d", i);
        counts[mr_fingerprint_shard(mr_fingerprint_of(&secret, mr_bytes_text(id)), SHARDS)]++;
    }
    for (int i = 0; i < SHARDS; i++) { /* six standard deviations: sqrt(5000 * 7 / 8) = 66 */
        assert_in_range(counts[i], IDS / SHARDS - 400, IDS / SHARDS + 400);
    }
}

static void random_bytes_differ(void **state) {
    (void)state;
    uint8_t a[400] = {0};
    uint8_t b[400] = {0};
    assert_int_equal(mr_random_bytes(a, sizeof a), MR_OK);
    assert_int_equal(mr_random_bytes(b, sizeof b), MR_OK);
    for (size_t i = 0; i < sizeof a; i += 16) { /* no part of it left unwritten */
        assert_memory_not_equal(a + i, b + i, 16);
        assert_memory_not_equal(a + i, (uint8_t[16]){0}, 16);
    }
    assert_int_equal(mr_random_bytes(a, 0), MR_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_for_ever),
        cmocka_unit_test(plain_c_gives_the_same),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(many_as_each),
        cmocka_unit_test(contents_differ),
        cmocka_unit_test(reduce_is_a_division_of_the_range),
        cmocka_unit_test(shards_get_even_parts),
        cmocka_unit_test(random_bytes_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
