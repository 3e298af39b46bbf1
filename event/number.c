/* SPDX-License-Identifier: Apache-2.0 */
#include "event/number.h"

#include "base/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const uint64_t mr_pow10[20] = {UINT64_C(1),
                               UINT64_C(10),
                               UINT64_C(100),
                               UINT64_C(1000),
                               UINT64_C(10000),
                               UINT64_C(100000),
                               UINT64_C(1000000),
                               UINT64_C(10000000),
                               UINT64_C(100000000),
                               UINT64_C(1000000000),
                               UINT64_C(10000000000),
                               UINT64_C(100000000000),
                               UINT64_C(1000000000000),
                               UINT64_C(10000000000000),
                               UINT64_C(100000000000000),
                               UINT64_C(1000000000000000),
                               UINT64_C(10000000000000000),
                               UINT64_C(100000000000000000),
                               UINT64_C(1000000000000000000),
                               UINT64_C(10000000000000000000)};

const double mr_pow10_double[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

enum { DIGITS_KEPT = 770, EXPONENT_MAX = 99999 };

/* Body lengths are below 2^31, so digits can never make up for an exponent this large. */
#define EXPONENT_SATURATED INT64_C(1000000000000)

bool mr_decimal_int(const struct mr_decimal *decimal, int64_t *ret) {
    if (!decimal->integer || !decimal->exact) {
        return false;
    }
    uint64_t max = (uint64_t)INT64_MAX + decimal->negative;
    if (decimal->mantissa > max) {
        return false;
    }
    *ret = decimal->negative ? (int64_t)(0 - decimal->mantissa) : (int64_t)decimal->mantissa;
    return true;
}

static bool is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}

/* The parts of a number's text: digits with at most one point in between, then the exponent. */
struct parts {
    const uint8_t *digits;
    const uint8_t *digits_end;
    int64_t whole; /* digits before the point */
    int64_t exponent;
};

static int64_t read_exponent(const uint8_t *p, const uint8_t *end) {
    bool negative = *p == '-';
    p += *p == '-' || *p == '+';
    int64_t value = 0;
    for (; p < end; p++) {
        MR_ASSERT(is_digit(*p));
        value = value >= EXPONENT_SATURATED ? value : value * 10 + (*p - '0');
    }
    return negative ? -value : value;
}

static struct parts split(const struct mr_decimal *decimal) {
    const uint8_t *p = decimal->text + decimal->negative;
    const uint8_t *end = decimal->text + decimal->len;
    struct parts parts = {.digits = p};
    while (p < end && is_digit(*p)) {
        p++;
    }
    parts.whole = p - parts.digits;
    while (p < end && (is_digit(*p) || *p == '.')) {
        p++;
    }
    parts.digits_end = p;
    parts.exponent = p < end ? read_exponent(p + 1, end) : 0;
    return parts;
}

/* Writes the number as digits and an exponent: 0.00120e7 becomes 120e2. Returns false for zero. */
static bool normalize(const struct parts *parts, char *ret, size_t cap) {
    size_t kept = 0;
    int64_t skipped = 0; /* leading zeros */
    bool sticky = false;
    for (const uint8_t *p = parts->digits; p < parts->digits_end; p++) {
        if (*p == '.') {
            continue;
        }
        if (kept == 0 && *p == '0') {
            skipped++;
        } else if (kept < DIGITS_KEPT) {
            ret[kept++] = (char)*p;
        } else {
            sticky = sticky || *p != '0';
        }
    }
    if (kept == 0) {
        return false;
    }
    int64_t exponent = parts->whole - skipped + parts->exponent - (int64_t)kept;
    if (sticky) {
        ret[kept++] = '1';
        exponent--;
    }
    exponent = exponent > EXPONENT_MAX ? EXPONENT_MAX : exponent;
    exponent = exponent < -EXPONENT_MAX ? -EXPONENT_MAX : exponent;
    int len = snprintf(ret + kept, cap - kept, "e%d", (int)exponent);
    MR_ASSERT(len > 0 && (size_t)len < cap - kept);
    return true;
}

bool mr_decimal_double_slow(const struct mr_decimal *decimal, locale_t c_locale, double *ret) {
    MR_ASSERT(c_locale != (locale_t)0);
    char text[DIGITS_KEPT + 16];
    struct parts parts = split(decimal);
    double d = 0;
    if (normalize(&parts, text, sizeof text)) {
        d = strtod_l(text, NULL, c_locale);
        if (!isfinite(d)) {
            return false;
        }
    }
    *ret = decimal->negative ? -d : d;
    return true;
}

/* Appends a digit; false when the value leaves int64. */
static bool push_digit(uint64_t *value, uint64_t digit) {
    return !__builtin_mul_overflow(*value, UINT64_C(10), value) &&
           !__builtin_add_overflow(*value, digit, value) && *value <= (uint64_t)INT64_MAX;
}

/* The first `whole` digits of the number as an integer; zeros stand behind the last written digit.
 */
static bool floor_slow(const struct mr_decimal *decimal, int shift, uint64_t *ret) {
    struct parts parts = split(decimal);
    int64_t whole = parts.whole + parts.exponent + shift;
    uint64_t value = 0;
    for (const uint8_t *p = parts.digits; p < parts.digits_end && whole > 0; p++) {
        if (*p == '.') {
            continue;
        }
        if (!push_digit(&value, (uint64_t)(*p - '0'))) {
            return false;
        }
        whole--;
    }
    for (; whole > 0 && value != 0; whole--) {
        if (!push_digit(&value, 0)) {
            return false;
        }
    }
    *ret = value;
    return true;
}

bool mr_decimal_floor(const struct mr_decimal *decimal, int shift, uint64_t *ret) {
    MR_ASSERT(shift >= -9 && shift <= 9);
    if (!decimal->exact) {
        return floor_slow(decimal, shift, ret);
    }
    uint64_t value = decimal->mantissa;
    int64_t exp10 = decimal->exp10 + shift;
    if (value == 0 || exp10 < -19) {
        *ret = 0;
        return true;
    }
    if (exp10 < 0) {
        value /= mr_pow10[-exp10];
    } else if (exp10 > 18 || __builtin_mul_overflow(value, mr_pow10[exp10], &value)) {
        return false;
    }
    if (value > (uint64_t)INT64_MAX) {
        return false;
    }
    *ret = value;
    return true;
}
