/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that RFC 3339 text and milliseconds are the same thing in two forms:
 *   1. every month of the years 0 to 9999, first and last millisecond, against a counter that only
 * knows how long each month is; and both directions undo each other there;
 *   2. random times, formatted and read back, in every spelling the parser takes;
 *   3. what must be accepted, what must be refused, and what every cut and every changed byte does;
 *   4. durations.
 */
#include "base/time_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { MS_PER_DAY = 86400000 };

static int64_t parsed(const char *text) {
    int64_t ms = INT64_MIN;
    if (!mr_time_parse(mr_bytes_text(text), &ms)) {
        fail_msg("refused: %s", text);
    }
    return ms;
}

static void both_ways(const char *text, int64_t ms) {
    char formatted[MR_TIME_TEXT_LEN + 1];
    assert_int_equal(parsed(text), ms);
    mr_time_format(ms, formatted);
    assert_string_equal(formatted, text);
}

static int month_length(int year, int month) {
    if (month == 2) {
        return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 ? 29 : 28;
    }
    return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

static void every_month_agrees_with_a_day_counter(void **state) {
    (void)state;
    int64_t day = 0; /* since 0000-01-01; 1970-01-01 must come out as the epoch below */
    int64_t epoch_day = -1;
    for (int pass = 0; pass < 2; pass++) {
        day = 0;
        for (int year = 0; year <= 9999; year++) {
            for (int month = 1; month <= 12; month++) {
                if (year == 1970 && month == 1) {
                    epoch_day = day;
                }
                int len = month_length(year, month);
                if (pass == 1) {
                    char text[64];
                    (void)snprintf(text, sizeof text, "%04d-%02d-01T00:00:00.000Z", year, month);
                    both_ways(text, (day - epoch_day) * MS_PER_DAY);
                    (void)snprintf(text, sizeof text, "%04d-%02d-%02dT23:59:59.999Z", year, month,
                                   len);
                    both_ways(text, (day - epoch_day + len) * MS_PER_DAY - 1);
                    (void)snprintf(text, sizeof text, "%04d-%02d-%02dT00:00:00Z", year, month,
                                   len + 1);
                    int64_t ms = 7;
                    assert_false(mr_time_parse(mr_bytes_text(text), &ms));
                    assert_int_equal(ms, 7);
                }
                day += len;
            }
        }
    }
    assert_int_equal(epoch_day, 719528);
}

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void random_times_survive_every_spelling(void **state) {
    (void)state;
    uint64_t seed = 20261122;
    const int64_t first = INT64_C(-62167219200000);
    const int64_t count = INT64_C(253402300800000) - first;
    for (int i = 0; i < 20000; i++) {
        int64_t ms = first + (int64_t)(next_random(&seed) % (uint64_t)count);
        char text[64];
        mr_time_format(ms, text);
        assert_int_equal(strlen(text), MR_TIME_TEXT_LEN);
        both_ways(text, ms);
        /* Another offset says the same local clock, so the instant moves the other way. */
        uint32_t minutes = (uint32_t)(next_random(&seed) % 1440);
        bool ahead = next_random(&seed) % 2 == 0;
        text[10] = "Tt "[next_random(&seed) % 3];
        (void)snprintf(text + 23, sizeof text - 23, "%06u%c%02u:%02u",
                       (uint32_t)(next_random(&seed) % 1000000), ahead ? '+' : '-', minutes / 60,
                       minutes % 60);
        assert_int_equal(parsed(text), ms + (ahead ? -1 : 1) * (int64_t)minutes * 60000);
    }
}

static void accepts(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } must_accept[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01t00:00:00z", 0},
        {"1970-01-01 00:00:00z", 0},
        {"1970-01-01T00:00:00-00:00", 0},
        {"1970-01-01T00:00:00+23:59", -86340000},
        {"1970-01-01T00:00:00-23:59", 86340000},
        {"1970-01-01T00:00:00.5Z", 500},
        {"1970-01-01T00:00:00.05Z", 50},
        {"1970-01-01T00:00:00.9999999999999999999999Z", 999},
        {"1969-12-31T23:59:59.9999Z", -1}, /* floor, not towards zero */
        {"1969-12-31T23:59:59.0001Z", -1000},
        {"1985-04-12T23:20:50.52Z", INT64_C(482196050520)}, /* RFC 3339 section 5.8 */
        {"1996-12-19T16:39:57-08:00", INT64_C(851042397000)},
        {"1990-12-31T23:59:60Z", INT64_C(662687999999)},
        {"1990-12-31T15:59:60-08:00", INT64_C(662687999999)},
        {"1990-12-31T23:59:60.25Z", INT64_C(662687999999)},
        {"1937-01-01T12:00:27.87+00:20", INT64_C(-1041337172130)},
        {"2000-02-29T00:00:00Z", INT64_C(951782400000)},
        {"2026-11-22T05:54:00.123Z", INT64_C(1795326840123)},
        {"0000-01-01T00:00:00+00:01", INT64_C(-62167219260000)}, /* in year -1, still a number */
        {"9999-12-31T23:59:59.999-23:59", INT64_C(253402387139999)},
    };
    for (size_t i = 0; i < sizeof must_accept / sizeof must_accept[0]; i++) {
        assert_int_equal(parsed(must_accept[i].text), must_accept[i].ms);
    }
}

static void refuses(void **state) {
    (void)state;
    static const char *const must_refuse[] = {
        "",
        "Z",
        "2026",
        "2026-11-22",
        "2026-11-22T05:54:00",
        "2026-11-22T05:54Z",
        "2026-11-22T05:54:00.Z",
        "2026-11-22T05:54:00,5Z",
        "2026-11-22T05:54:00.5",
        "2026-11-22T05:54:00ZZ",
        "2026-11-22T05:54:00Z ",
        " 2026-11-22T05:54:00Z",
        "2026-11-22_05:54:00Z",
        "2026/11/22T05:54:00Z",
        "2026-11-22T05.54.00Z",
        "2026-00-22T05:54:00Z",
        "2026-13-22T05:54:00Z",
        "2026-11-00T05:54:00Z",
        "2026-11-31T05:54:00Z",
        "2026-02-29T05:54:00Z",
        "1900-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T05:60:00Z",
        "2026-11-22T05:54:61Z",
        "2026-11-22T05:54:00+24:00",
        "2026-11-22T05:54:00+01:60",
        "2026-11-22T05:54:00+0100",
        "2026-11-22T05:54:00+01",
        "2026-11-22T05:54:00+1:00",
        "2026-11-22T05:54:00*01:00",
        "2026-11-22T05:54:00+01:00Z",
        "2026-11-22T05:54:00Z+01:00",
        "20261122T055400Z",
        "+2026-11-22T05:54:00Z",
        "-026-11-22T05:54:00Z",
        "12026-11-22T05:54:00Z",
        "2026-11-22T05:54:0 Z",
        "2026-11-22T-5:54:00Z",
        "2026-11-22T05:54:00.1.2Z",
        "yesterday",
        "1795326840123",
    };
    for (size_t i = 0; i < sizeof must_refuse / sizeof must_refuse[0]; i++) {
        int64_t ms = 42;
        if (mr_time_parse(mr_bytes_text(must_refuse[i]), &ms) || ms != 42) {
            fail_msg("accepted: %s", must_refuse[i]);
        }
    }
    int64_t ms = 42;
    assert_false(mr_time_parse(MR_BYTES("2026-11-22T05:54:00\0Z"), &ms));
    assert_false(mr_time_parse(mr_bytes_of(NULL, 0), &ms));
}

/* Each byte of a full time replaced by each other byte: accepted only where it is another spelling,
 * and then it formats to the same text but for the places where spellings differ. */
static void every_cut_and_changed_byte(void **state) {
    (void)state;
    static const char whole[] = "2026-11-22T05:54:00.123+01:30";
    const size_t len = sizeof whole - 1;
    int64_t ms;
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t exact[sizeof whole]; /* so that ASan sees a read behind the end */
        memcpy(exact, whole, cut);
        assert_false(mr_time_parse(mr_bytes_of(exact, cut), &ms));
    }
    for (size_t at = 0; at < len; at++) {
        for (int c = 0; c < 256; c++) {
            char text[sizeof whole];
            memcpy(text, whole, sizeof whole);
            text[at] = (char)c;
            bool digit_there = whole[at] >= '0' && whole[at] <= '9';
            bool is_digit = c >= '0' && c <= '9';
            bool ok = mr_time_parse(mr_bytes_of(text, len), &ms);
            if (at == 10) {
                assert_int_equal(ok, c == 'T' || c == 't' || c == ' ');
            } else if (at == 23) {
                assert_int_equal(ok, c == '+' || c == '-');
            } else if (digit_there) {
                assert_true(is_digit || !ok);
            } else {
                assert_int_equal(ok, c == whole[at]);
            }
        }
    }
}

static void durations(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } must_accept[] = {
        {"0s", 0},
        {"0ms", 0},
        {"200ms", 200},
        {"10s", 10000},
        {"5m", 300000},
        {"24h", 86400000},
        {"7d", 604800000},
        {"1h30m", 5400000},
        {"1d2h3m4s5ms", 93784005},
        {"1s1ms", 1001},
        {"1m1ms", 60001},
        {"007s", 7000},
        {"9223372036854775807ms", INT64_MAX},
        {"106751991167d7h12m55s807ms", INT64_MAX},
    };
    for (size_t i = 0; i < sizeof must_accept / sizeof must_accept[0]; i++) {
        int64_t ms = -1;
        assert_true(mr_duration_parse(mr_bytes_text(must_accept[i].text), &ms));
        assert_int_equal(ms, must_accept[i].ms);
    }
    static const char *const must_refuse[] = {
        "",
        "10",
        "s",
        "-1s",
        "+1s",
        "1.5s",
        "1 s",
        " 1s",
        "1s ",
        "1w",
        "1y",
        "1S",
        "1us",
        "1sm",
        "1mss",
        "30m1h",
        "1h1h",
        "1ms1s",
        "1h30",
        "h1",
        "9223372036854775808ms",
        "106751991167d7h12m55s808ms",
        "106751991168d",
        "99999999999999999999s",
        "1h\n",
    };
    for (size_t i = 0; i < sizeof must_refuse / sizeof must_refuse[0]; i++) {
        int64_t ms = -1;
        if (mr_duration_parse(mr_bytes_text(must_refuse[i]), &ms) || ms != -1) {
            fail_msg("accepted: %s", must_refuse[i]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_month_agrees_with_a_day_counter),
        cmocka_unit_test(random_times_survive_every_spelling),
        cmocka_unit_test(accepts),
        cmocka_unit_test(refuses),
        cmocka_unit_test(every_cut_and_changed_byte),
        cmocka_unit_test(durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
