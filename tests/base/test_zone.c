/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that boundaries of a time zone's days are where the C library's clock says:
 *   1. around every change of many clocks, and at random times, the beginning of a day is the first quarter of an hour whose local date
 *      is another one than the one before, also where midnight is left out, comes twice, or a whole day is left out;
 *   2. floor and next agree, steps of several days and offsets keep their distance in local days;
 *   3. what is no zone is refused, and the environment is as it was.
 */
#include "base/limits.h"
#include "base/zone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { MINUTE = 60000, STEP = 15 * MINUTE }; /* clocks change at quarters of hours */
#define DAY INT64_C(86400000)

static int64_t local_day(int64_t ms) {
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    assert_non_null(localtime_r(&t, &tm));
    return (int64_t)tm.tm_year * 366 + tm.tm_yday; /* grows with the date */
}

/* The first quarter of an hour at or after `from` with a later local date than any before it. */
static int64_t naive_next(int64_t from) {
    int64_t day = local_day(from);
    int64_t at = from;
    while (local_day(at) <= day) {
        at += STEP;
    }
    return at;
}

static void check_days(const struct mr_zone *zone, int64_t from_ms, int64_t to_ms) {
    int64_t at = naive_next(from_ms);
    while (at < to_ms) {
        int64_t next = naive_next(at);
        assert_int_equal(mr_zone_floor(zone, at, DAY, 0), at);
        assert_int_equal(mr_zone_next(zone, at, DAY, 0), next);
        assert_int_equal(mr_zone_floor(zone, next - 1, DAY, 0), at);
        assert_int_equal(mr_zone_next(zone, next - 1, DAY, 0), next);
        assert_int_equal(mr_zone_floor(zone, at + (next - at) / 2, DAY, 0), at);
        at = next;
    }
}

static void days_of(const char *name) {
    struct mr_zone *zone;
    struct mr_error error;
    assert_int_equal(mr_zone_open(mr_bytes_text(name), &zone, &error), MR_OK);
    assert_int_equal(setenv("TZ", name, 1), 0);
    tzset();
    uint64_t seed = 5;
    for (int64_t ms = MR_TIME_MIN_MS; ms < MR_TIME_MAX_MS - 9 * DAY; ms += DAY / 2) {
        time_t a = (time_t)(ms / 1000);
        time_t b = (time_t)((ms + DAY / 2) / 1000);
        struct tm tm_a;
        struct tm tm_b;
        localtime_r(&a, &tm_a);
        localtime_r(&b, &tm_b);
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        if (tm_a.tm_gmtoff != tm_b.tm_gmtoff || seed >> 56 == 0) {
            check_days(zone, ms - 2 * DAY, ms + 3 * DAY);
        }
    }
    mr_zone_close(zone);
}

static void days_are_those_of_the_clock(void **state) {
    (void)state;
    static const char *const names[] = {
        "Europe/Berlin",      "America/Sao_Paulo", /* put on at midnight */
        "America/Havana",     "Pacific/Apia",      /* without 2011-12-30 */
        "Asia/Beirut",        "Australia/Lord_Howe", /* by half an hour */
        "Africa/Casablanca",  "Asia/Kathmandu",      "UTC",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        days_of(names[i]);
    }
    unsetenv("TZ");
}

static void several_days_and_offsets(void **state) {
    (void)state;
    struct mr_zone *zone;
    struct mr_error error;
    assert_int_equal(mr_zone_open(MR_BYTES("Europe/Berlin"), &zone, &error), MR_OK);
    /* Weeks from Monday, 1970-01-05: 2024-03-25 00:00 CET, and on 2024-03-31 the clock is put on. */
    const int64_t monday = INT64_C(1711321200000);
    assert_int_equal(mr_zone_floor(zone, monday + 3 * DAY, 7 * DAY, 4 * DAY), monday);
    assert_int_equal(mr_zone_next(zone, monday, 7 * DAY, 4 * DAY), monday + 7 * DAY - 60 * MINUTE);
    /* Days from six in the morning. */
    const int64_t six = 6 * 60 * MINUTE;
    assert_int_equal(mr_zone_floor(zone, monday, DAY, six), monday - DAY + six);
    assert_int_equal(mr_zone_floor(zone, monday + six, DAY, six), monday + six);
    /* At the ends of int64 nothing wraps. */
    assert_true(mr_zone_floor(zone, INT64_MIN, DAY, 0) <= INT64_MIN + 2 * DAY);
    assert_int_equal(mr_zone_next(zone, INT64_MAX, DAY, 0), INT64_MAX);
    mr_zone_close(zone);
}

static void what_is_no_zone(void **state) {
    (void)state;
    static const char *const names[] = {"", "Europe/Atlantis", "../../etc/passwd", "/etc/passwd", "Europe", "EU\nX"};
    assert_int_equal(setenv("TZ", "Asia/Tokyo", 1), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct mr_zone *zone = NULL;
        struct mr_error error;
        assert_int_equal(mr_zone_open(mr_bytes_text(names[i]), &zone, &error), MR_INVALID);
        assert_non_null(strstr(error.text, "expected a name such as Europe/Berlin"));
    }
    struct mr_zone *zone;
    struct mr_error error;
    assert_int_equal(mr_zone_open(MR_BYTES("Europe/Berlin"), &zone, &error), MR_OK);
    assert_string_equal(getenv("TZ"), "Asia/Tokyo");
    mr_zone_close(zone);
    unsetenv("TZ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(days_are_those_of_the_clock),
        cmocka_unit_test(several_days_and_offsets),
        cmocka_unit_test(what_is_no_zone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
