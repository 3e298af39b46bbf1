/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a cursor comes back as it was made and that nothing else is taken for one:
 *   1. random cursors, of every length of rest, come back; a text is made of [A-Za-z0-9_-] only;
 *   2. every single changed, missing or additional character is refused, also one that changes padding bits only;
 *   3. a cursor of another question is refused, and says so;
 *   4. times that no answer could show are refused although the checksum is right.
 */
#include "base/check.h"
#include "server/cursor.h"
#include "server/time_param.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t rnd(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static struct mr_buf encoded(const struct mr_cursor *cursor) {
    struct mr_buf text;
    mr_buf_init(&text, MR_CURSOR_TEXT_MAX);
    mr_cursor_encode(cursor, &text);
    assert_false(text.failed);
    return text;
}

static enum mr_status decode(struct mr_bytes text, uint64_t question, struct mr_error *error) {
    struct mr_buf scratch;
    struct mr_cursor cursor;
    mr_buf_init(&scratch, MR_CURSOR_TEXT_MAX);
    enum mr_status status = mr_cursor_decode(text, question, &scratch, &cursor, error);
    mr_buf_finish(&scratch);
    return status;
}

static void round_trip(void **state) {
    (void)state;
    static uint8_t bytes[MR_CURSOR_REST_MAX];
    uint64_t seed = 88172645463325252u;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)rnd(&seed);
    }
    for (size_t len = 0; len <= sizeof bytes; len += len < 70 ? 1 : 671) {
        struct mr_cursor cursor = {
            .question = rnd(&seed),
            .from_ms = len % 3 == 0 ? INT64_MIN : (int64_t)(rnd(&seed) % MR_TIME_YEAR_10000_MS),
            .to_ms = len % 5 == 0 ? INT64_MAX : -(int64_t)(rnd(&seed) % 62167219200000),
            .place = rnd(&seed),
            .rest = mr_bytes_of(bytes, len),
        };
        struct mr_buf text = encoded(&cursor);
        for (size_t i = 0; i < text.len; i++) {
            uint8_t c = text.ptr[i];
            assert_true((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || c == '-' || c == '_');
        }
        struct mr_buf scratch;
        struct mr_cursor back;
        struct mr_error error;
        mr_buf_init(&scratch, MR_CURSOR_TEXT_MAX);
        assert_int_equal(
            mr_cursor_decode(mr_buf_bytes(&text), cursor.question, &scratch, &back, &error), MR_OK);
        assert_int_equal(back.question, cursor.question);
        assert_int_equal(back.from_ms, cursor.from_ms);
        assert_int_equal(back.to_ms, cursor.to_ms);
        assert_int_equal(back.place, cursor.place);
        assert_true(mr_bytes_equal(back.rest, cursor.rest));
        mr_buf_finish(&scratch);
        mr_buf_finish(&text);
    }
}

static void changed(void **state) {
    (void)state;
    struct mr_error error;
    for (size_t rest = 0; rest < 4; rest++) {
        struct mr_cursor cursor = {.question = 5,
                                   .from_ms = INT64_MIN,
                                   .to_ms = INT64_MAX,
                                   .place = 9,
                                   .rest = mr_bytes_of("key", rest)};
        struct mr_buf text = encoded(&cursor);
        assert_int_equal(decode(mr_buf_bytes(&text), 5, &error), MR_OK);
        for (size_t i = 0; i < text.len; i++) {
            uint8_t was = text.ptr[i];
            for (uint32_t c = 0; c < 256; c++) {
                text.ptr[i] = (uint8_t)c;
                if (c != was) {
                    assert_int_equal(decode(mr_buf_bytes(&text), 5, &error), MR_INVALID);
                }
            }
            text.ptr[i] = was;
            assert_int_equal(decode(mr_bytes_of(text.ptr, i), 5, &error), MR_INVALID);
            assert_int_equal(decode(mr_bytes_of(text.ptr + i + 1, text.len - i - 1), 5, &error),
                             MR_INVALID);
        }
        mr_buf_append_char(&text, 'A');
        assert_int_equal(decode(mr_buf_bytes(&text), 5, &error), MR_INVALID);
        assert_non_null(strstr(error.text, "next_cursor"));
        mr_buf_finish(&text);
    }
    static uint8_t longer[MR_CURSOR_TEXT_MAX + 100];
    memset(longer, 'A', sizeof longer);
    assert_int_equal(decode(mr_bytes_of(longer, sizeof longer), 5, &error), MR_INVALID);
}

static void other_question(void **state) {
    (void)state;
    struct mr_error error;
    struct mr_cursor cursor = {.question = 5, .from_ms = INT64_MIN, .to_ms = INT64_MAX};
    struct mr_buf text = encoded(&cursor);
    assert_int_equal(decode(mr_buf_bytes(&text), 6, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "another question"));
    mr_buf_finish(&text);
}

static void bad_times(void **state) {
    (void)state;
    static const int64_t times[][2] = {
        {MR_TIME_YEAR_0_MS - 1, 0}, {0, MR_TIME_YEAR_10000_MS}, {INT64_MAX, 0}, {0, INT64_MIN}};
    for (size_t i = 0; i < 4; i++) {
        struct mr_error error;
        struct mr_cursor cursor = {.question = 1, .from_ms = times[i][0], .to_ms = times[i][1]};
        struct mr_buf text = encoded(&cursor);
        assert_int_equal(decode(mr_buf_bytes(&text), 1, &error), MR_INVALID);
        mr_buf_finish(&text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(changed),
        cmocka_unit_test(other_question),
        cmocka_unit_test(bad_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
