/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that dead-letter entries come back as they were written:
 *   1. the bytes of one entry, written by hand;
 *   2. random entries one behind the other come back in order, with NUL and empty JSON among them;
 *   3. every cut is noticed at the entry it goes through, and a wrong reason or length is refused,
 * *rest then unchanged;
 *   4. a full buffer keeps what was whole.
 */
#include "base/dead.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 16;
}

static void append_entry(struct mr_buf *buf, uint32_t stream, enum mr_dead_reason reason,
                         struct mr_bytes json) {
    size_t at = mr_dead_begin(buf, stream, reason);
    mr_buf_append_bytes(buf, json);
    mr_dead_end(buf, at);
}

static void the_bytes_of_an_entry(void **state) {
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    append_entry(&buf, 0x0102, MR_DEAD_REJECTED, MR_BYTES("{}"));
    assert_true(mr_bytes_equal(mr_buf_bytes(&buf), MR_BYTES("\2\0\0\0\2\1\2\0{}")));
    mr_buf_finish(&buf);
}

static void every_reason_has_a_text(void **state) {
    (void)state;
    static const char *const want[] = {"late", "future", "rejected", "groups", "conflict"};
    assert_int_equal(MR_DEAD_REASON_COUNT, 5);
    for (unsigned i = 0; i < MR_DEAD_REASON_COUNT; i++) {
        assert_string_equal(mr_dead_reason_text((enum mr_dead_reason)i), want[i]);
    }
}

enum { ENTRIES = 200, JSON_MAX = 60 };

struct entry {
    uint32_t stream;
    enum mr_dead_reason reason;
    uint8_t json[JSON_MAX];
    size_t json_len;
    size_t end; /* in the buffer */
};

static void append_random(struct mr_buf *buf, struct entry *entries, uint64_t *seed) {
    for (int i = 0; i < ENTRIES; i++) {
        struct entry *e = &entries[i];
        e->stream = next_random(seed) % 4 == 0 ? UINT16_MAX : (uint32_t)(next_random(seed) % 64);
        e->reason = (enum mr_dead_reason)(next_random(seed) % MR_DEAD_REASON_COUNT);
        e->json_len = next_random(seed) % JSON_MAX;
        for (size_t k = 0; k < e->json_len; k++) {
            e->json[k] = (uint8_t)(next_random(seed) % 3); /* like headers */
        }
        append_entry(buf, e->stream, e->reason, mr_bytes_of(e->json, e->json_len));
        e->end = buf->len;
    }
    assert_false(buf->failed);
}

/* Takes entries until none is left; they must be the first of the list. Returns how many. */
static size_t take_all(struct mr_bytes rest, const struct entry *entries) {
    struct mr_dead dead;
    size_t count = 0;
    while (mr_dead_next(&rest, &dead)) {
        assert_true(count < ENTRIES);
        assert_int_equal(dead.stream, entries[count].stream);
        assert_int_equal(dead.reason, entries[count].reason);
        assert_true(
            mr_bytes_equal(dead.json, mr_bytes_of(entries[count].json, entries[count].json_len)));
        count++;
    }
    return count;
}

static void entries_come_back_and_cuts_are_noticed(void **state) {
    (void)state;
    static struct entry entries[ENTRIES];
    uint64_t seed = 1;
    struct mr_buf buf;
    mr_buf_init(&buf, 1 << 20);
    append_random(&buf, entries, &seed);
    assert_int_equal(take_all(mr_buf_bytes(&buf), entries), ENTRIES);
    size_t whole = 0;
    for (size_t cut = 0; cut < buf.len; cut++) {
        whole += whole < ENTRIES && entries[whole].end <= cut;
        assert_int_equal(take_all(mr_bytes_of(buf.ptr, cut), entries), whole);
    }
    mr_buf_finish(&buf);
}

static void wrong_headers_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } must_refuse[] = {
        {"", 0},
        {"\0\0\0\0\0\0\0", 7},
        {"\0\0\0\0\0\0\5\0", 8}, /* no such reason */
        {"\0\0\0\0\0\0\xff\0", 8},
        {"\2\0\0\0\0\0\0\0x", 9}, /* longer than what is there */
        {"\xff\xff\xff\xff\0\0\0\0x", 9},
    };
    for (size_t i = 0; i < sizeof must_refuse / sizeof must_refuse[0]; i++) {
        struct mr_bytes rest = mr_bytes_of(must_refuse[i].bytes, must_refuse[i].len);
        struct mr_dead dead = {.stream = 77};
        assert_false(mr_dead_next(&rest, &dead));
        assert_int_equal(rest.len, must_refuse[i].len);
        assert_int_equal(dead.stream, 77);
    }
}

static void a_full_buffer_keeps_what_was_whole(void **state) {
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 30);
    append_entry(&buf, 1, MR_DEAD_LATE, MR_BYTES("{\"a\":1}"));
    append_entry(&buf, 2, MR_DEAD_LATE,
                 MR_BYTES("{\"longer\":1}")); /* its header fits, it does not */
    assert_true(buf.failed);
    struct mr_bytes rest = mr_buf_bytes(&buf);
    struct mr_dead dead;
    assert_true(mr_dead_next(&rest, &dead));
    assert_int_equal(dead.stream, 1);
    assert_true(mr_bytes_equal(dead.json, MR_BYTES("{\"a\":1}")));
    mr_buf_finish(&buf);
}

static void says_its_stream(void **state) {
    (void)state;
    static const struct {
        const char *json;
        const char *stream;
    } samples[] = {
        {"{\"reason\":\"late\",\"stream\":\"clicks\",\"event\":{\"stream\":\"other\"}}", "clicks"},
        {"{\"reason\":\"rejected\",\"code\":\"bad_json\",\"stream\":\"s-1\",\"raw\":\"\\\"stream\\\":\\\"x\\\"\"}", "s-1"},
        {"{}", ""},
        {"{\"stream\":\"cut", ""},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        struct mr_dead dead = {.json = mr_bytes_text(samples[i].json)};
        assert_true(mr_bytes_equal(mr_dead_stream(&dead), mr_bytes_text(samples[i].stream)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_its_stream),
        cmocka_unit_test(the_bytes_of_an_entry),
        cmocka_unit_test(every_reason_has_a_text),
        cmocka_unit_test(entries_come_back_and_cuts_are_noticed),
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(a_full_buffer_keeps_what_was_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
