/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the bytes of a group key are one value after the other and nothing else:
 *   1. the bytes of each kind, written by hand;
 *   2. random keys come back value for value, and no two different ones have the same bytes;
 *   3. every cut is noticed, every first byte that is no tag is refused, *rest then unchanged;
 *   4. the order that the header promises.
 */
#include "base/key.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void the_bytes_of_each_kind(void **state) {
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    mr_key_append(&buf, (struct mr_key_value){.tag = MR_KEY_NULL});
    mr_key_append(&buf, (struct mr_key_value){.tag = MR_KEY_TRUE});
    mr_key_append(&buf, (struct mr_key_value){.tag = MR_KEY_FALSE});
    mr_key_append(&buf, (struct mr_key_value){.tag = MR_KEY_NUMBER, .text = MR_BYTES("17")});
    mr_key_append(&buf, (struct mr_key_value){.tag = MR_KEY_STRING, .text = MR_BYTES("a\0b")});
    mr_key_append(&buf, (struct mr_key_value){.tag = MR_KEY_STRING});
    assert_true(mr_bytes_equal(mr_buf_bytes(&buf), MR_BYTES("ztfn\0\2"
                                                            "17s\0\3a\0bs\0\0")));
    assert_false(mr_key_is_other(mr_buf_bytes(&buf)));
    mr_buf_clear(&buf);
    mr_key_append(&buf, (struct mr_key_value){.tag = MR_KEY_OTHER, .text = MR_BYTES("\x3F")});
    assert_true(mr_bytes_equal(mr_buf_bytes(&buf), MR_BYTES("o\x3F")));
    assert_true(mr_key_is_other(mr_buf_bytes(&buf)));
    static const struct {
        const char *bytes;
        size_t len;
    } not_other[] = {{"", 0}, {"o", 1}, {"oab", 3}, {"zt", 2}, {"zo", 2}, {"s\0\0", 3}};
    for (size_t i = 0; i < sizeof not_other / sizeof not_other[0]; i++) {
        assert_false(mr_key_is_other(mr_bytes_of(not_other[i].bytes, not_other[i].len)));
    }
    mr_buf_finish(&buf);
}

enum { VALUES_MAX = 8 };

struct values {
    struct mr_key_value list[VALUES_MAX];
    size_t count;
};

static uint64_t next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 16;
}

/* Texts out of few letters, tags among them, so that different keys nearly agree. */
static struct values random_values(uint64_t *seed) {
    static const char letters[] = "zsn\0\1otf\0\2sz\0\0nn\1\1";
    static const enum mr_key_tag tags[] = {MR_KEY_NULL,   MR_KEY_TRUE,   MR_KEY_FALSE,
                                           MR_KEY_NUMBER, MR_KEY_STRING, MR_KEY_STRING};
    struct values ret = {.count = next_random(seed) % (VALUES_MAX + 1)};
    for (size_t i = 0; i < ret.count; i++) {
        enum mr_key_tag tag = tags[next_random(seed) % 6];
        size_t at = next_random(seed) % (sizeof letters - 4);
        bool text = tag == MR_KEY_NUMBER || tag == MR_KEY_STRING;
        ret.list[i] = (struct mr_key_value){
            tag, text ? mr_bytes_of(letters + at, next_random(seed) % 4) : mr_bytes_of(NULL, 0)};
    }
    return ret;
}

static bool values_equal(const struct values *a, const struct values *b) {
    bool equal = a->count == b->count;
    for (size_t i = 0; equal && i < a->count; i++) {
        equal =
            a->list[i].tag == b->list[i].tag && mr_bytes_equal(a->list[i].text, b->list[i].text);
    }
    return equal;
}

static void append_values(struct mr_buf *buf, const struct values *values) {
    mr_buf_clear(buf);
    for (size_t i = 0; i < values->count; i++) {
        mr_key_append(buf, values->list[i]);
    }
}

static void check_reads_back(struct mr_bytes key, const struct values *values) {
    struct values back = {.count = 0};
    struct mr_key_value value;
    while (mr_key_next(&key, &value)) {
        assert_true(back.count < VALUES_MAX);
        back.list[back.count++] = value;
    }
    assert_int_equal(key.len, 0);
    assert_true(values_equal(&back, values));
}

static void random_keys_read_back_and_differ(void **state) {
    (void)state;
    uint64_t seed = 11;
    struct mr_buf a;
    struct mr_buf b;
    mr_buf_init(&a, 4096);
    mr_buf_init(&b, 4096);
    for (int i = 0; i < 20000; i++) {
        struct values x = random_values(&seed);
        struct values y = random_values(&seed);
        append_values(&a, &x);
        append_values(&b, &y);
        check_reads_back(mr_buf_bytes(&a), &x);
        assert_int_equal(mr_bytes_equal(mr_buf_bytes(&a), mr_buf_bytes(&b)), values_equal(&x, &y));
    }
    mr_buf_finish(&a);
    mr_buf_finish(&b);
}

/* In memory of exactly its length, so that ASan sees a read behind the end. */
static size_t bytes_taken(const uint8_t *bytes, size_t len) {
    uint8_t *copy = mr_alloc(len == 0 ? 1 : len);
    if (len > 0) {
        memcpy(copy, bytes, len);
    }
    struct mr_bytes rest = mr_bytes_of(copy, len);
    struct mr_key_value value = {.tag = MR_KEY_OTHER, .text = {copy, 77}};
    bool ok = mr_key_next(&rest, &value);
    assert_true(ok || (rest.ptr == copy && rest.len == len));
    assert_true(ok || (value.tag == MR_KEY_OTHER && value.text.len == 77));
    mr_free(copy);
    return ok ? len - rest.len : 0;
}

static void cuts_and_other_tags_are_refused(void **state) {
    (void)state;
    static const uint8_t whole[] = {'s', 0, 5, 'h', 'e', 'l', 'l', 'o'};
    for (size_t len = 0; len < sizeof whole; len++) {
        assert_int_equal(bytes_taken(whole, len), 0);
    }
    assert_int_equal(bytes_taken(whole, sizeof whole), sizeof whole);
    for (int tag = 0; tag < 256; tag++) {
        uint8_t bytes[] = {(uint8_t)tag, 0, 0, 0};
        size_t want = tag == 'z' || tag == 't' || tag == 'f' ? 1 : tag == 'o' ? 2 : 0;
        want = tag == 's' || tag == 'n' ? 3 : want;
        assert_int_equal(bytes_taken(bytes, sizeof bytes), want);
    }
    static uint8_t longest[3 + UINT16_MAX] = {'n', 0xFF, 0xFF};
    assert_int_equal(bytes_taken(longest, sizeof longest), sizeof longest);
    assert_int_equal(bytes_taken(longest, sizeof longest - 1), 0);
}

static void order(void **state) {
    (void)state;
    const struct mr_key_value ordered[] = {
        {MR_KEY_FALSE, {NULL, 0}},        {MR_KEY_NUMBER, MR_BYTES("16")},
        {MR_KEY_NUMBER, MR_BYTES("17")},  {MR_KEY_OTHER, MR_BYTES("\0")},
        {MR_KEY_OTHER, MR_BYTES("\xFF")}, {MR_KEY_STRING, MR_BYTES("AT")},
        {MR_KEY_STRING, MR_BYTES("DE")},  {MR_KEY_STRING, MR_BYTES("\xC3\xB6")},
        {MR_KEY_TRUE, {NULL, 0}},         {MR_KEY_NULL, {NULL, 0}},
    };
    struct mr_buf buf;
    struct mr_buf before;
    mr_buf_init(&buf, 64);
    mr_buf_init(&before, 64);
    for (size_t i = 0; i < sizeof ordered / sizeof ordered[0]; i++) {
        mr_buf_clear(&buf);
        mr_key_append(&buf, ordered[i]);
        assert_true(mr_bytes_compare(mr_buf_bytes(&before), mr_buf_bytes(&buf)) < 0);
        mr_buf_clear(&before);
        mr_buf_append_bytes(&before, mr_buf_bytes(&buf));
    }
    mr_buf_finish(&buf);
    mr_buf_finish(&before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_of_each_kind),
        cmocka_unit_test(random_keys_read_back_and_differ),
        cmocka_unit_test(cuts_and_other_tags_are_refused),
        cmocka_unit_test(order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
