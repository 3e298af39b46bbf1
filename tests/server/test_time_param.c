/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a time in a query is read as its writer meant it, by tables of what is accepted and refused; what
 * mr_time_format writes is read back, at every step of magnitude and at both ends of the years that have a text.
 */
#include "base/time_text.h"
#include "server/time_param.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW  INT64_C(1795326840123) /* 2026-11-22T05:54:00.123Z */
#define HOUR INT64_C(3600000)
#define DAY  (24 * HOUR)

static void must_accept(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"now", NOW},
        {"now-1h", NOW - HOUR},
        {"now-1h30m", NOW - HOUR - HOUR / 2},
        {"now-7d", NOW - 7 * DAY},
        {"now-0s", NOW},
        {"now+5m", NOW + 5 * 60000},
        {"now 5m", NOW + 5 * 60000}, /* '+' of a form */
        {"0", 0},
        {"1795326840123", NOW},
        {"-1", -1},
        {"-62167219200000", MR_TIME_YEAR_0_MS},
        {"253402300799999", MR_TIME_YEAR_10000_MS - 1},
        {"2026-11-22T05:54:00.123Z", NOW},
        {"2026-11-22t05:54:00.1239z", NOW},
        {"2026-11-22T06:54:00.123+01:00", NOW},
        {"2026-11-22T06:54:00.123 01:00", NOW}, /* '+' of a form */
        {"2026-11-22 06:54:00.123 01:00", NOW},
        {"2026-11-22T04:54:00.123-01:00", NOW},
        {"2026-11-22", NOW - 5 * HOUR - 54 * 60000 - 123},
        {"0000-01-01", MR_TIME_YEAR_0_MS},
        {"9999-12-31T23:59:59.999Z", MR_TIME_YEAR_10000_MS - 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_error error = {0};
        int64_t ms = 42;
        if (mr_time_param("from", mr_bytes_text(cases[i].text), NOW, &ms, &error) != MR_OK) {
            fail_msg("%s", error.text);
        }
        assert_int_equal(ms, cases[i].ms);
    }
}

static void must_refuse(void **state) {
    (void)state;
    static const char *const cases[] = {
        "",
        " ",
        "yesterday",
        "now-",
        "now-1",
        "now1h",
        "now--1h",
        "now-1h ",
        "NOW",
        "now-99999999d",
        "-",
        "+5",
        "1.5",
        "1e12",
        "1795326840123 ",
        "0x10",
        "-62167219200001",
        "253402300800000",
        "9999999999999999",
        "99999999999999999999",
        "2026-11-22T05:54:00",
        "2026-11-22T05:54",
        "2026-02-29",
        "2026-13-01",
        "2026-1-1",
        "2026-11-22T25:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "22.11.2026",
        "2026-11-22T",
        "2026-11-22T06:54:00.123456789012345678901234567890123456789012345678+01:00",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_error error = {0};
        int64_t ms = 42;
        if (mr_time_param("from", mr_bytes_text(cases[i]), NOW, &ms, &error) != MR_INVALID) {
            fail_msg("%s was accepted", cases[i]);
        }
        assert_int_equal(ms, 42);
        assert_non_null(strstr(error.text, "`from`"));
        assert_non_null(strstr(error.text, "RFC 3339"));
    }
    struct mr_error error;
    int64_t ms = 42;
    assert_int_equal(mr_time_param("to", MR_BYTES("now\0"), NOW, &ms, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "now\\x00"));
    /* No overflow whatever the clock says. */
    assert_int_equal(mr_time_param("to", MR_BYTES("now-1d"), INT64_MIN, &ms, &error), MR_INVALID);
    assert_int_equal(mr_time_param("to", MR_BYTES("now+1d"), INT64_MAX, &ms, &error), MR_INVALID);
}

static void read_back(int64_t ms) {
    char text[MR_TIME_TEXT_LEN + 1];
    struct mr_error error;
    int64_t back = ms + 1;
    mr_time_format(ms, text);
    assert_int_equal(mr_time_param("t", mr_bytes_text(text), NOW, &back, &error), MR_OK);
    assert_int_equal(back, ms);
}

static void round_trip(void **state) {
    (void)state;
    read_back(MR_TIME_YEAR_0_MS);
    read_back(MR_TIME_YEAR_10000_MS - 1);
    for (int64_t ms = 1; ms < MR_TIME_YEAR_10000_MS; ms = ms * 3 + 1) {
        read_back(ms);
        read_back(ms + NOW < MR_TIME_YEAR_10000_MS ? ms + NOW : ms);
        if (-ms > MR_TIME_YEAR_0_MS) {
            read_back(-ms);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(must_accept),
        cmocka_unit_test(must_refuse),
        cmocka_unit_test(round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
