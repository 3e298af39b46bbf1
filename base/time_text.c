/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time_text.h"

#include "base/check.h"

enum {
    MS_PER_MINUTE = 60 * 1000,
    MS_PER_HOUR = 60 * MS_PER_MINUTE,
    MS_PER_DAY = 24 * MS_PER_HOUR,
    DAYS_PER_ERA = 146097, /* 400 Gregorian years, after which the calendar repeats */
    EPOCH_DAY = 719468,    /* 1970-01-01 counted from 0000-03-01, where the eras begin */
    DATE_LEN = 10,         /* 2026-11-22 */
    SECONDS_LEN = 19,      /* 2026-11-22T05:54:00 */
};


/* Both directions count years from March, so that the leap day is the last of its year; m is then 0
 * for March and 11 for February, and (153 m + 2) / 5 is the day on which month m begins. */
static int64_t days_of_date(uint32_t year, uint32_t month, uint32_t day) {
    MR_ASSERT(year <= 9999 && month >= 1 && month <= 12 && day >= 1 && day <= 31);
    int64_t y = (int64_t)year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t m = month > 2 ? month - 3 : month + 9;
    int64_t day_of_year = (153 * m + 2) / 5 + (int64_t)day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * DAYS_PER_ERA + day_of_era - EPOCH_DAY;
}

static void date_of_days(int64_t days, uint32_t *ret_year, uint32_t *ret_month, uint32_t *ret_day) {
    int64_t shifted = days + EPOCH_DAY;
    int64_t era = (shifted >= 0 ? shifted : shifted - (DAYS_PER_ERA - 1)) / DAYS_PER_ERA;
    int64_t day_of_era = shifted - era * DAYS_PER_ERA;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t m = (5 * day_of_year + 2) / 153;
    int64_t month = m < 10 ? m + 3 : m - 9;
    *ret_day = (uint32_t)(day_of_year - (153 * m + 2) / 5 + 1);
    *ret_month = (uint32_t)month;
    *ret_year = (uint32_t)(year_of_era + era * 400 + (month <= 2));
}

static uint32_t days_in_month(uint32_t year, uint32_t month) {
    static const uint8_t lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : lengths[month - 1];
}

static bool is_digit(uint8_t c) {
    return (uint8_t)(c - '0') <= 9;
}

static bool two_digits(const uint8_t *at, uint32_t *ret) {
    if (!is_digit(at[0]) || !is_digit(at[1])) {
        return false;
    }
    *ret = (uint32_t)(at[0] - '0') * 10 + (uint32_t)(at[1] - '0');
    return true;
}

/* 2026-11-22 */
static bool parse_date(const uint8_t *at, int64_t *ret_days) {
    uint32_t century;
    uint32_t year;
    uint32_t month;
    uint32_t day;
    if (!two_digits(at, &century) || !two_digits(at + 2, &year) || at[4] != '-' ||
        !two_digits(at + 5, &month) || at[7] != '-' || !two_digits(at + 8, &day)) {
        return false;
    }
    year += century * 100;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month)) {
        return false;
    }
    *ret_days = days_of_date(year, month, day);
    return true;
}

/* 05:54:00; *ret_leap for :60, whose milliseconds are then those of :59. */
static bool parse_clock(const uint8_t *at, int64_t *ret_ms, bool *ret_leap) {
    uint32_t hour;
    uint32_t minute;
    uint32_t second;
    if (!two_digits(at, &hour) || at[2] != ':' || !two_digits(at + 3, &minute) || at[5] != ':' ||
        !two_digits(at + 6, &second)) {
        return false;
    }
    if (hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    *ret_leap = second == 60;
    second = second == 60 ? 59 : second;
    *ret_ms =
        (int64_t)hour * MS_PER_HOUR + (int64_t)minute * MS_PER_MINUTE + (int64_t)second * 1000;
    return true;
}

/* Takes `.123456` off the front of *rest if there is a dot; false when no digit follows it. */
static bool take_fraction(struct mr_bytes *rest, int64_t *ret_ms) {
    *ret_ms = 0;
    if (rest->len == 0 || rest->ptr[0] != '.') {
        return true;
    }
    size_t i = 1;
    int64_t unit = 100; /* falls to 0 behind the third digit: finer digits are cut */
    for (; i < rest->len && is_digit(rest->ptr[i]); i++) {
        *ret_ms += (rest->ptr[i] - '0') * unit;
        unit /= 10;
    }
    if (i == 1) {
        return false;
    }
    *rest = mr_bytes_of(rest->ptr + i, rest->len - i);
    return true;
}

/* Z, z, +02:00 or -02:00, and nothing behind it. */
static bool parse_offset(struct mr_bytes rest, int64_t *ret_ms) {
    if (rest.len == 1 && (rest.ptr[0] == 'Z' || rest.ptr[0] == 'z')) {
        *ret_ms = 0;
        return true;
    }
    uint32_t hour;
    uint32_t minute;
    if (rest.len != 6 || (rest.ptr[0] != '+' && rest.ptr[0] != '-') ||
        !two_digits(rest.ptr + 1, &hour) || rest.ptr[3] != ':' ||
        !two_digits(rest.ptr + 4, &minute) || hour > 23 || minute > 59) {
        return false;
    }
    int64_t ms = (int64_t)hour * MS_PER_HOUR + (int64_t)minute * MS_PER_MINUTE;
    *ret_ms = rest.ptr[0] == '-' ? -ms : ms;
    return true;
}

bool mr_time_parse(struct mr_bytes text, int64_t *ret_ms) {
    int64_t days;
    int64_t clock_ms;
    int64_t fraction_ms;
    int64_t offset_ms;
    bool leap;
    if (text.len <= SECONDS_LEN || !parse_date(text.ptr, &days)) {
        return false;
    }
    uint8_t between = text.ptr[DATE_LEN];
    if (between != 'T' && between != 't' && between != ' ') {
        return false;
    }
    struct mr_bytes rest = mr_bytes_of(text.ptr + SECONDS_LEN, text.len - SECONDS_LEN);
    if (!parse_clock(text.ptr + DATE_LEN + 1, &clock_ms, &leap) ||
        !take_fraction(&rest, &fraction_ms) || !parse_offset(rest, &offset_ms)) {
        return false;
    }
    fraction_ms = leap ? 999 : fraction_ms;
    MR_ASSERT(clock_ms < MS_PER_DAY && fraction_ms < 1000);
    *ret_ms = days * MS_PER_DAY + clock_ms + fraction_ms - offset_ms;
    return true;
}

static char *put_digits(char *at, uint32_t value, uint32_t count) {
    for (uint32_t i = count; i > 0; i--) {
        at[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    MR_ASSERT(value == 0);
    return at + count;
}

void mr_time_format(int64_t ms, char ret[MR_TIME_TEXT_LEN + 1]) {
    MR_ASSERT(mr_time_has_text(ms));
    int64_t days =
        ms / MS_PER_DAY - (ms % MS_PER_DAY < 0); /* floor: days begin at midnight before 1970 too */
    uint32_t in_day = (uint32_t)(ms - days * MS_PER_DAY);
    uint32_t year;
    uint32_t month;
    uint32_t day;
    date_of_days(days, &year, &month, &day);
    char *at = put_digits(ret, year, 4);
    *at++ = '-';
    at = put_digits(at, month, 2);
    *at++ = '-';
    at = put_digits(at, day, 2);
    *at++ = 'T';
    at = put_digits(at, in_day / MS_PER_HOUR, 2);
    *at++ = ':';
    at = put_digits(at, in_day / MS_PER_MINUTE % 60, 2);
    *at++ = ':';
    at = put_digits(at, in_day / 1000 % 60, 2);
    *at++ = '.';
    at = put_digits(at, in_day % 1000, 3);
    *at++ = 'Z';
    *at = 0;
    MR_ASSERT(at == ret + MR_TIME_TEXT_LEN);
}

/* Takes the unit off the front of *rest; returns its length in ms, 0 when it is none. */
static int64_t take_unit(struct mr_bytes *rest) {
    static const struct {
        char text[3];
        int64_t ms;
    } units[] = {
        {"ms", 1}, {"s", 1000}, {"m", MS_PER_MINUTE}, {"h", MS_PER_HOUR}, {"d", MS_PER_DAY},
    }; /* ms stands before m, of which it would be the beginning */
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t len = strlen(units[i].text);
        if (rest->len >= len && memcmp(rest->ptr, units[i].text, len) == 0) {
            *rest = mr_bytes_of(rest->ptr + len, rest->len - len);
            return units[i].ms;
        }
    }
    return 0;
}

bool mr_duration_parse(struct mr_bytes text, int64_t *ret_ms) {
    int64_t sum = 0;
    int64_t unit_before = INT64_MAX;
    while (text.len > 0) {
        int64_t value = 0;
        size_t i = 0;
        for (; i < text.len && is_digit(text.ptr[i]); i++) {
            if (__builtin_mul_overflow(value, 10, &value) ||
                __builtin_add_overflow(value, text.ptr[i] - '0', &value)) {
                return false;
            }
        }
        if (i == 0) {
            return false;
        }
        text = mr_bytes_of(text.ptr + i, text.len - i);
        int64_t unit = take_unit(&text);
        if (unit == 0 || unit >= unit_before || __builtin_mul_overflow(value, unit, &value) ||
            __builtin_add_overflow(sum, value, &sum)) {
            return false;
        }
        unit_before = unit;
    }
    if (unit_before == INT64_MAX) {
        return false; /* no term at all */
    }
    *ret_ms = sum;
    return true;
}
