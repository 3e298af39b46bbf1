/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that bytes compare as memcmp does with a prefix first, and that a buffer holds what was
 * appended:
 *   1. all pairs of a set with NULs, prefixes and high bytes;
 *   2. random appends of every kind, and drops from the front, against an array of the test's own, up to and over random
 * bounds: after a failure nothing more is taken, and what was there stays;
 *   3. an allocation that fails is a failure like the bound.
 */
#include "base/bytes.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static int sign(int n) {
    return (n > 0) - (n < 0);
}

static void compares_as_memcmp(void **state) {
    (void)state;
    const struct mr_bytes ordered[] = {
        mr_bytes_of(NULL, 0), MR_BYTES("\0"),   MR_BYTES("\0\0"), MR_BYTES("\0a"),
        MR_BYTES("a"),        MR_BYTES("a\0"),  MR_BYTES("a\0b"), MR_BYTES("ab"),
        MR_BYTES("b"),        MR_BYTES("\x7F"), MR_BYTES("\x80"), MR_BYTES("\xFF"),
        MR_BYTES("\xFF\0"),
    };
    const int count = sizeof ordered / sizeof ordered[0];
    for (int a = 0; a < count; a++) {
        for (int b = 0; b < count; b++) {
            assert_int_equal(sign(mr_bytes_compare(ordered[a], ordered[b])), sign(a - b));
            assert_int_equal(mr_bytes_equal(ordered[a], ordered[b]), a == b);
        }
    }
    assert_true(mr_bytes_equal(mr_bytes_of("", 0), mr_bytes_of(NULL, 0)));
    assert_true(mr_bytes_equal(mr_bytes_text("abc"), MR_BYTES("abc")));
}

enum { ORACLE_MAX = 4096 };

struct oracle {
    uint8_t bytes[ORACLE_MAX];
    size_t len;
    size_t max;
    bool failed;
};

/* need: what the buffer must have room for, which for printf is one more than it keeps. */
static void oracle_append(struct oracle *o, const void *ptr, size_t len, size_t need) {
    o->failed = o->failed || need > o->max - o->len;
    if (!o->failed) {
        memcpy(o->bytes + o->len, ptr, len);
        o->len += len;
    }
}

static void append_something(struct mr_buf *buf, struct oracle *o, uint64_t random) {
    uint8_t piece[600];
    size_t len = (random >> 8) % 16 == 0 ? (random >> 16) % sizeof piece : (random >> 16) % 20;
    memset(piece, (int)(random >> 40), sizeof piece);
    char text[32];
    (void)snprintf(text, sizeof text, "%u-%s", (unsigned)(random >> 32), "x");
    switch (random % 8) {
    case 0:
        mr_buf_append(buf, piece, len);
        oracle_append(o, piece, len, len);
        break;
    case 1:
        mr_buf_append_bytes(buf, mr_bytes_of(len == 0 ? NULL : piece, len));
        oracle_append(o, piece, len, len);
        break;
    case 2:
        mr_buf_append_text(buf, text);
        oracle_append(o, text, strlen(text), strlen(text));
        break;
    case 3:
        mr_buf_append_char(buf, (char)random);
        oracle_append(o, &(char){(char)random}, 1, 1);
        break;
    case 4:
        mr_buf_printf(buf, "%u-%s", (unsigned)(random >> 32), "x");
        oracle_append(o, text, strlen(text), strlen(text) + 1);
        break;
    case 5: {
        uint8_t *room = mr_buf_reserve(buf, len);
        assert_true((room == NULL) == (o->failed || len > o->max - o->len));
        if (room != NULL && len > 0) {
            memcpy(room, piece, len);
            buf->len += len;
        }
        oracle_append(o, piece, len, len);
        break;
    }
    case 6:
        len = (random >> 8) % 4 == 0 && len <= o->len ? len : 0;
        mr_buf_drop(buf, len);
        memmove(o->bytes, o->bytes + len, o->len - len);
        o->len -= len;
        break;
    default:
        if ((random >> 8) % 50 == 0) {
            mr_buf_clear(buf);
            o->len = 0;
            o->failed = false;
        }
    }
}

static void random_appends(void **state) {
    (void)state;
    uint64_t seed = 99;
    for (int round = 0; round < 60; round++) {
        static struct oracle o;
        struct mr_buf buf;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        o = (struct oracle){.max = round == 0 ? 1 : (seed >> 33) % ORACLE_MAX + 1};
        mr_buf_init(&buf, o.max);
        for (int step = 0; step < 300; step++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            append_something(&buf, &o, seed ^ seed >> 29);
            mr_buf_check(&buf);
            assert_int_equal(buf.failed, o.failed);
            assert_true(mr_bytes_equal(mr_buf_bytes(&buf), mr_bytes_of(o.bytes, o.len)));
        }
        mr_buf_finish(&buf);
        mr_buf_check(&buf);
        assert_int_equal(buf.len, 0);
        assert_int_equal(buf.cap_max, o.max);
    }
}

static void no_memory_is_a_failure(void **state) {
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 1 << 20);
    mr_buf_append_text(&buf, "kept");
    static uint8_t large[100000];
    mr_alloc_fail_at(1, 0);
    mr_buf_append(&buf, large, sizeof large);
    assert_true(buf.failed);
    mr_buf_append_text(&buf, "ignored");
    mr_buf_check(&buf);
    assert_true(mr_bytes_equal(mr_buf_bytes(&buf), MR_BYTES("kept")));
    mr_buf_clear(&buf);
    mr_buf_append(&buf, large, sizeof large);
    assert_false(buf.failed);
    assert_int_equal(buf.len, sizeof large);
    mr_buf_finish(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares_as_memcmp),
        cmocka_unit_test(random_appends),
        cmocka_unit_test(no_memory_is_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
