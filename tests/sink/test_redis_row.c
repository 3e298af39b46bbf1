/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the key of a row is the one of the table below, and that the script's hash is that of its text.
 */
#include "base/key.h"
#include "sink/redis_sink.h"
#include "tests/redis/virtual_redis.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void script_is_what_its_hash_says(void **state_) {
    (void)state_;
    char sha[41];
    virtual_redis_sha1(mr_redis_sink_script(), sha);
    assert_string_equal(sha, mr_redis_sink_sha);
}

static void assert_key(const struct mr_key_value *values, uint32_t count, const char *want) {
    const struct mr_bytes names[] = {MR_BYTES("a"), MR_BYTES("b")};
    struct mr_results_rule rule = {.name = MR_BYTES("r"), .key_names = names, .key_count = count};
    struct mr_buf encoded;
    struct mr_buf key;
    mr_buf_init(&encoded, 4096);
    mr_buf_init(&key, 4096);
    for (uint32_t i = 0; i < count; i++) {
        mr_key_append(&encoded, values[i]);
    }
    bool other = count > 0 && values[0].tag == MR_KEY_OTHER;
    bool has_index = count > 0 && values[count - 1].tag == MR_KEY_PANE;
    count -= has_index;
    rule.key_count = other ? 2 : count;
    struct mr_pane pane = {.window_start_ms = INT64_C(1763774400000), .key = mr_buf_bytes(&encoded)};
    assert_true(mr_redis_sink_key(&key, MR_BYTES("p:"), &rule, &pane));
    mr_buf_append_char(&key, 0);
    assert_string_equal((char *)key.ptr, want);
    if (!other) { /* of another number of columns it is none */
        rule.key_count = count + 1;
        assert_false(mr_redis_sink_key(&key, MR_BYTES("p:"), &rule, &pane));
        rule.key_count = count == 0 ? 1 : count - 1;
        assert_false(mr_redis_sink_key(&key, MR_BYTES("p:"), &rule, &pane));
    }
    mr_buf_finish(&encoded);
    mr_buf_finish(&key);
}

#define START         "p:r:2025-11-22T01:20:00.000Z"
#define STRING(text_) {.tag = MR_KEY_STRING, .text = MR_BYTES(text_)}
#define NUMBER(text_) {.tag = MR_KEY_NUMBER, .text = MR_BYTES(text_)}
#define INDEX(text_)  {.tag = MR_KEY_PANE, .text = MR_BYTES(text_)}
#define BARE(tag_)    {.tag = MR_KEY_##tag_, .text = MR_BYTES("")}

static void keys_are_readable_and_differ(void **state_) {
    (void)state_;
    const struct {
        struct mr_key_value value;
        const char *want;
    } one[] = {
        {STRING("DE"), START ":DE"},
        {STRING(""), START ":"},
        {STRING("a:b%\"\n\x7f z"), START ":a%3Ab%25%22%0A%7F z"},
        {STRING("a\0b"), START ":a%00b"},
        {STRING("caf\xc3\xa9"), START ":caf\xc3\xa9"},
        {NUMBER("17"), START ":17"},
        {STRING("17"), START ":\"17\""},
        {STRING("-0.5e+3"), START ":\"-0.5e+3\""},
        {STRING("017"), START ":017"},
        {STRING("1."), START ":1."},
        {STRING("1e"), START ":1e"},
        {STRING("-"), START ":-"},
        {NUMBER("1.0"), START ":1.0"},
        {BARE(TRUE), START ":true"},
        {STRING("true"), START ":\"true\""},
        {BARE(FALSE), START ":false"},
        {BARE(NULL), START ":null"},
        {STRING("null"), START ":\"null\""},
        {STRING("(other)"), START ":\"(other)\""},
        {STRING("(other).3"), START ":\"(other).3\""},
        {{.tag = MR_KEY_OTHER, .text = MR_BYTES("\x03")}, START ":(other).3"},
    };
    for (size_t i = 0; i < sizeof one / sizeof one[0]; i++) {
        assert_key(&one[i].value, 1, one[i].want);
    }
    const struct mr_key_value two[] = {STRING("a"), NUMBER("1")};
    const struct mr_key_value shifted[] = {STRING("a:1"), STRING("")};
    assert_key(two, 2, START ":a:1");
    assert_key(shifted, 2, START ":a%3A1:");
    assert_key(NULL, 0, START);
    const struct mr_key_value indexed[] = {STRING("a"), INDEX("\xff\0\0\x07")};
    const struct mr_key_value other[] = {{.tag = MR_KEY_OTHER, .text = MR_BYTES("\x03")}, INDEX("\0\0\0\0")};
    assert_key(indexed, 2, START ":a:p4278190087");
    assert_key(indexed + 1, 1, START ":p4278190087");
    assert_key(other, 2, START ":(other).3:p0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(script_is_what_its_hash_says),
        cmocka_unit_test(keys_are_readable_and_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
