/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Number: JSON numbers to exact values, inside event/ only.
 *
 * Idea        Digits are read eight at a time: a word minus "00000000" tells by its high bits where
 * the digits end, and three multiplications add them up.
 *
 *                 1700000000123,"key"      12.345,
 *                 ^^^^^^^^                  ^^ 2 digits, then a point, 3 digits: 12345 * 10^-3
 *                         ^^^^^ 5 digits
 *
 * Errors      mr_decimal_scan gives NULL where the text is not a number of RFC 8259.
 * Sources     Doubles: William Clinger, How to Read Floating Point Numbers Accurately (1990): a
 * mantissa up to 2^53 and a power of ten up to 22 are both exact, so one operation rounds
 * correctly. The rest goes to strtod with the digits cut at 770 and a sticky digit behind them: 768
 *             decide every rounding of a double.
 */
#include "base/bytes.h"

#include <locale.h>

struct mr_decimal {
    const uint8_t *text;
    uint32_t len;
    bool negative;
    bool integer; /* neither fraction nor exponent */
    bool exact;   /* the value is mantissa * 10^exp10; else the text must be read again */
    uint64_t mantissa;
    int64_t exp10;
};

extern const uint64_t mr_pow10[20];
extern const double mr_pow10_double[23];

static inline uint64_t mr_load64(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* How many of the word's leading bytes (in memory order) are digits. A carry out of a byte can only
 * spoil bytes behind the first one that is not a digit. */
static inline uint32_t mr_digits_count(uint64_t word) {
    uint64_t y = word ^ UINT64_C(0x3030303030303030);
    uint64_t stop = ((y + UINT64_C(0x7676767676767676)) | y) & UINT64_C(0x8080808080808080);
    return stop == 0 ? 8 : (uint32_t)__builtin_ctzll(stop) >> 3;
}

/* The value of the word's first count digits, 1 to 8. */
static inline uint64_t mr_digits_value(uint64_t word, uint32_t count) {
    uint64_t y = (word ^ UINT64_C(0x3030303030303030)) << (64 - 8 * count);
    y = (y * 10 + (y >> 8)) & UINT64_C(0x00FF00FF00FF00FF);
    y = (y * 100 + (y >> 16)) & UINT64_C(0x0000FFFF0000FFFF);
    return (y * 10000 + (y >> 32)) & UINT64_C(0xFFFFFFFF);
}

/* Reads digits; *mantissa wraps beyond 19 of them. */
static inline const uint8_t *mr_digits_scan(const uint8_t *p, uint64_t *mantissa) {
    uint32_t count = 8;
    while (count == 8) {
        uint64_t word = mr_load64(p);
        count = mr_digits_count(word);
        if (count > 0) {
            *mantissa = *mantissa * mr_pow10[count] + mr_digits_value(word, count);
            p += count;
        }
    }
    return p;
}

/* Behind the exponent's 'e'. */
static inline const uint8_t *mr_exponent_scan(const uint8_t *p, struct mr_decimal *ret) {
    bool negative = *p == '-';
    p += *p == '-' || *p == '+';
    uint64_t value = 0;
    const uint8_t *end = mr_digits_scan(p, &value);
    if (end == p) {
        return NULL;
    }
    ret->exact = ret->exact && end - p <= 9;
    ret->exp10 += negative ? -(int64_t)(value % 1000000000) : (int64_t)(value % 1000000000);
    return end;
}

/* p is at the first byte, a minus or a digit; MR_PADDING bytes are readable behind the text's end.
 */
static inline const uint8_t *mr_decimal_scan(const uint8_t *p, struct mr_decimal *ret) {
    const uint8_t *start = p;
    ret->text = start;
    ret->negative = *p == '-';
    p += ret->negative;
    const uint8_t *digits = p;
    ret->mantissa = 0;
    ret->exp10 = 0;
    ret->integer = true;
    p = mr_digits_scan(p, &ret->mantissa);
    if (p == digits || (*digits == '0' && p - digits > 1)) {
        return NULL;
    }
    ret->exact = p - digits <= 19;
    if (*p == '.') {
        const uint8_t *fraction = p + 1;
        p = mr_digits_scan(fraction, &ret->mantissa);
        if (p == fraction) {
            return NULL;
        }
        ret->integer = false;
        ret->exact = p - digits <= 20; /* with the point */
        ret->exp10 = fraction - p;
    }
    if ((*p | 0x20) == 'e') {
        ret->integer = false;
        p = mr_exponent_scan(p + 1, ret);
        if (p == NULL) {
            return NULL;
        }
    }
    ret->len = (uint32_t)(p - start);
    return p;
}

/* Grammar only. */
static inline const uint8_t *mr_number_skip(const uint8_t *p) {
    struct mr_decimal unused;
    return mr_decimal_scan(p, &unused);
}

/* Whether the number is an int64, written as one. */
bool mr_decimal_int(const struct mr_decimal *decimal, int64_t *ret);

/* The nearest double; false when it would be infinite. Both paths round correctly. */
bool mr_decimal_double_slow(const struct mr_decimal *decimal, locale_t c_locale, double *ret);

static inline bool mr_decimal_double(const struct mr_decimal *decimal, locale_t c_locale,
                                     double *ret) {
    if (decimal->exact && decimal->mantissa <= UINT64_C(1) << 53 && decimal->exp10 >= -22 &&
        decimal->exp10 <= 22) {
        double d = (double)decimal->mantissa;
        d = decimal->exp10 < 0 ? d / mr_pow10_double[-decimal->exp10]
                               : d * mr_pow10_double[decimal->exp10];
        *ret = decimal->negative ? -d : d;
        return true;
    }
    return mr_decimal_double_slow(decimal, c_locale, ret);
}

/* floor(|number| * 10^shift), exactly; false when it is 2^63 or more. */
bool mr_decimal_floor(const struct mr_decimal *decimal, int shift, uint64_t *ret);
