/* SPDX-License-Identifier: Apache-2.0 */
/* The number half of base/json.h: doubles as the shortest text that reads back the same. */
#include "base/check.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TEXT_MAX = 32,
    DIGITS_MAX = 17,  /* always enough for a double */
    DIGITS_SURE = 15, /* every decimal of so many digits survives decimal -> double -> decimal */
    RAW_MAX = 48,     /* %.16e with a decimal point of several bytes, as some locales have */
    POINT_MAX = 21,   /* 1e21 is the first to be written with an exponent, as in ECMAScript */
    POINT_MIN = -6,   /* and so is 1e-7 at the other end */
};

/* d.ddd * 10^exponent; no zero at the end. */
struct decimal {
    char digits[DIGITS_MAX];
    int count;
    int exponent;
};

static bool is_digit(char c) {
    return (unsigned char)(c - '0') <= 9;
}

/* Whatever stands between the digits is the decimal point of the process' locale. */
static struct decimal decimal_of(const char *raw) {
    struct decimal ret = {.count = 0};
    const char *at = raw;
    for (; *at != 'e'; at++) {
        if (is_digit(*at)) {
            MR_ASSERT(ret.count < DIGITS_MAX);
            ret.digits[ret.count++] = *at;
        }
    }
    while (ret.count > 1 && ret.digits[ret.count - 1] == '0') {
        ret.count--;
    }
    ret.exponent = (int)strtol(at + 1, NULL, 10);
    return ret;
}

/* Adds one to the last digit of d.ddde+xx; false when all digits are 9. */
static bool raise_last_digit(char *raw) {
    for (char *at = strchr(raw, 'e'); at > raw; at--) {
        char *c = at - 1;
        if (!is_digit(*c)) {
            continue;
        }
        if (*c != '9') {
            (*c)++;
            return true;
        }
        *c = '0';
    }
    return false;
}

static bool reads_back(double value, int digits, char raw[RAW_MAX]) {
    int len = snprintf(raw, RAW_MAX, "%.*e", digits - 1, value);
    MR_ASSERT(len > 0 && len < RAW_MAX);
    return strtod(raw, NULL) == value;
}

/*
 * With 15 digits or fewer, the nearest decimal is the only one that can read back. With 16 there is
 * one more case: a power of two has its lower neighbour at half the distance of its upper one, so
 * that the nearest decimal, below it, may miss while the next one above still hits (2^89 is the
 * first). Subnormal numbers have fewer than 15 digits to give, so they are tried from 1 on.
 */
static struct decimal shortest(double magnitude) {
    char raw[RAW_MAX];
    int first = magnitude < 2.2250738585072014e-308 ? 1 : DIGITS_SURE;
    for (int digits = first; digits < DIGITS_MAX; digits++) {
        if (reads_back(magnitude, digits, raw)) {
            return decimal_of(raw);
        }
    }
    if (raise_last_digit(raw) && strtod(raw, NULL) == magnitude) {
        return decimal_of(raw);
    }
    bool exact = reads_back(magnitude, DIGITS_MAX, raw);
    MR_ASSERT(exact);
    return decimal_of(raw);
}

static char *put(char *at, const char *text, int len) {
    memcpy(at, text, (size_t)len);
    return at + len;
}

static char *put_zeros(char *at, int count) {
    memset(at, '0', (size_t)count);
    return at + count;
}

/* point: how many digits stand before the decimal point. */
static char *put_fixed(char *at, const struct decimal *d, int point) {
    if (point <= 0) { /* 0.00123 */
        at = put(at, "0.", 2);
        at = put_zeros(at, -point);
        return put(at, d->digits, d->count);
    }
    if (point >= d->count) { /* 12300 */
        at = put(at, d->digits, d->count);
        return put_zeros(at, point - d->count);
    }
    at = put(at, d->digits, point); /* 12.3 */
    *at++ = '.';
    return put(at, d->digits + point, d->count - point);
}

static char *put_scientific(char *at, const struct decimal *d) {
    *at++ = d->digits[0];
    if (d->count > 1) {
        *at++ = '.';
        at = put(at, d->digits + 1, d->count - 1);
    }
    return at + snprintf(at, 8, "e%+d", d->exponent);
}

/* Of whole, which has at most DIGITS_MAX digits, times 10^-decimals. */
static struct decimal decimal_of_whole(uint64_t whole, int decimals) {
    char digits[20];
    int begin = (int)sizeof digits;
    do {
        digits[--begin] = (char)('0' + whole % 10);
        whole /= 10;
    } while (whole > 0);
    struct decimal ret = {.count = (int)sizeof digits - begin};
    MR_ASSERT(ret.count <= DIGITS_MAX);
    memcpy(ret.digits, digits + begin, (size_t)ret.count);
    ret.exponent = ret.count - 1 - decimals;
    return ret;
}

/*
 * Counts, sums of money and the like, without libc: the least number of decimals with which a whole
 * number below 10^15 divided by a power of ten is the value. Both are exact doubles and division
 * rounds correctly, so the quotient is what that decimal reads back as; and with 15 digits no other
 * does.
 */
static bool few_decimals(double magnitude, struct decimal *ret) {
    static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10};
    for (int k = 0; k < (int)(sizeof powers / sizeof powers[0]); k++) {
        double scaled = magnitude * powers[k];
        if (scaled >= 1e15) {
            return false;
        }
        uint64_t whole = (uint64_t)(scaled + 0.5);
        if ((double)whole / powers[k] == magnitude) {
            *ret = decimal_of_whole(whole, k);
            return true;
        }
    }
    return false;
}

size_t mr_double_text(double value, char ret[32]) {
    if (!isfinite(value)) {
        memcpy(ret, "null", 5);
        return 4;
    }
    char *at = ret;
    if (signbit(value)) {
        *at++ = '-';
    }
    double magnitude = fabs(value);
    struct decimal d;
    if (!few_decimals(magnitude, &d)) {
        d = shortest(magnitude);
    }
    int point = d.exponent + 1;
    bool fixed = point <= POINT_MAX && point > POINT_MIN;
    at = fixed ? put_fixed(at, &d, point) : put_scientific(at, &d);
    *at = 0;
    MR_ASSERT(at - ret < TEXT_MAX);
    return (size_t)(at - ret);
}
