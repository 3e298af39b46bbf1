/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that numbers are exact:
 *   1. doubles: random texts of all lengths, and halfway cases with hundreds of digits, against
 * strtod;
 *   2. int64 at its borders;
 *   3. floor(number * 10^shift) against long division on decimal digits, random and at the borders,
 * for texts that fit 19 digits and texts that do not.
 */
#include "event/number.h"
#include "help.h"

#include <math.h>

static locale_t c_locale;

/* The text in a padded block; a byte that cannot be in a number stands behind it. */
static struct mr_decimal scan(const char *text) {
    static uint8_t padded[4096];
    struct mr_decimal decimal;
    size_t len = strlen(text);
    assert_true(len + MR_PADDING < sizeof padded);
    memset(padded, ',', sizeof padded);
    memcpy(padded, text, len);
    const uint8_t *end = mr_decimal_scan(padded, &decimal);
    assert_ptr_equal(end, padded + len);
    assert_int_equal(decimal.len, len);
    return decimal;
}

static void assert_double(const char *text) {
    struct mr_decimal decimal = scan(text);
    double expected = strtod(text, NULL);
    double fast = 0;
    double slow = 0;
    bool finite = mr_decimal_double(&decimal, c_locale, &fast);
    assert_int_equal(finite, isfinite(expected));
    assert_int_equal(mr_decimal_double_slow(&decimal, c_locale, &slow), finite);
    if (finite) {
        assert_memory_equal(&fast, &expected, sizeof fast); /* also the sign of zero */
        assert_memory_equal(&slow, &expected, sizeof slow);
    }
}

static void reads_doubles_as_strtod_does(void **state) {
    static const char *const texts[] = {"0",
                                        "-0",
                                        "-0.0",
                                        "0e5",
                                        "-0e-5",
                                        "1",
                                        "12.345",
                                        "9007199254740992",
                                        "9007199254740993",
                                        "9007199254740993.0",
                                        "9007199254740992.5",
                                        "1e22",
                                        "1e23",
                                        "123456789e22",
                                        "1e-22",
                                        "1e-23",
                                        "1.7976931348623157e308",
                                        "1.7976931348623158e308",
                                        "1.7976931348623159e308",
                                        "1e309",
                                        "-1e309",
                                        "4.9e-324",
                                        "2.5e-324",
                                        "2.4e-324",
                                        "2.2250738585072011e-308",
                                        "2.2250738585072012e-308",
                                        "0.1",
                                        "0.30000000000000004",
                                        "1e-400",
                                        "1e999999999",
                                        "1e9999999999999999999999",
                                        "0e9999999999999999999999",
                                        "1e-9999999999999999999999",
                                        "9999999999999999999",
                                        "18446744073709551615",
                                        "18446744073709551616",
                                        "0.000000000000000000000000000000000000001e39",
                                        "100000000000000000000000000000000000000000e-41",
                                        "1.00000000000000011102230246251565404236316680908203125",
                                        "1.00000000000000011102230246251565404236316680908203124",
                                        "1.00000000000000011102230246251565404236316680908203126"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_double(texts[i]);
    }
}

static size_t put_digits(char *at, uint32_t count, uint64_t *random) {
    for (uint32_t i = 0; i < count; i++) {
        at[i] = (char)('0' + random_below(random, 10));
    }
    return count;
}

/* A random number of the grammar, of up to most digits on each side of the point. */
static void put_number(char *at, uint32_t most, int exponent_most, uint64_t *random) {
    size_t len = 0;
    if (random_below(random, 4) == 0) {
        at[len++] = '-';
    }
    if (random_below(random, 4) == 0) {
        at[len++] = '0';
    } else {
        at[len++] = (char)('1' + random_below(random, 9));
        len += put_digits(at + len, random_below(random, most), random);
    }
    if (random_below(random, 2) == 0) {
        at[len++] = '.';
        len += put_digits(at + len, 1 + random_below(random, most), random);
    }
    if (exponent_most > 0 && random_below(random, 2) == 0) {
        int exponent = (int)random_below(random, (uint32_t)(2 * exponent_most)) - exponent_most;
        len += (size_t)sprintf(at + len, random_below(random, 2) == 0 ? "e%d" : "E%+d", exponent);
    }
    at[len] = 0;
}

static void reads_random_doubles(void **state) {
    (void)state;
    uint64_t random = 5;
    char text[2048];
    for (int i = 0; i < 30000; i++) {
        uint32_t most = i % 100 == 0 ? 900 : i % 3 == 0 ? 25 : 9;
        put_number(text, most, i % 2 == 0 ? 30 : 330, &random);
        assert_double(text);
    }
}

/* Exactly between two doubles, and a last digit more far behind the point: rounding must see it. */
static void reads_halfway_doubles(void **state) {
    (void)state;
    uint64_t random = 6;
    char text[2048];
    for (int i = 0; i < 300; i++) {
        double low = ldexp(1.0 + (double)(random_next(&random) >> 12) * 0x1p-52,
                           (int)random_below(&random, 1200) - 1022);
        long double middle = ((long double)low + (long double)nextafter(low, INFINITY)) / 2;
        int len = snprintf(text, 1500, "%.1200Lf", middle);
        assert_true(len > 0 && len < 1500 && strchr(text, '.') != NULL);
        assert_double(text);
        text[len] = '1';
        text[len + 1] = 0;
        assert_double(text);
    }
}

static void knows_int64(void **state) {
    static const struct {
        const char *text;
        bool is;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"17", true, 17},
        {"-17", true, -17},
        {"9223372036854775807", true, INT64_MAX},
        {"9223372036854775808", false, 0},
        {"-9223372036854775808", true, INT64_MIN},
        {"-9223372036854775809", false, 0},
        {"18446744073709551615", false, 0},
        {"18446744073709551617", false, 0},
        {"99999999999999999999", false, 0},
        {"36893488147419103233", false, 0},
        {"1.0", false, 0},
        {"1e0", false, 0},
        {"1000000000000000000", true, INT64_C(1000000000000000000)},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_decimal decimal = scan(cases[i].text);
        int64_t value = 1;
        assert_int_equal(mr_decimal_int(&decimal, &value), cases[i].is);
        assert_true(!cases[i].is || value == cases[i].value);
    }
}

/* floor(|text| * 10^shift) by moving the point along the digits. */
static bool oracle_floor(const char *text, int shift, uint64_t *ret) {
    char digits[8192] = {0};
    long whole = 0;
    size_t count = 0;
    bool point = false;
    const char *p = text + (*text == '-');
    for (; *p != 0 && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            point = true;
        } else {
            digits[count++] = *p;
            whole += !point;
        }
    }
    whole += shift + (*p != 0 ? strtol(p + 1, NULL, 10) : 0);
    __uint128_t value = 0;
    for (long i = 0; i < whole; i++) {
        value = value * 10 + (i < (long)count ? (unsigned)(digits[i] - '0') : 0u);
        if (value > INT64_MAX) {
            return false;
        }
    }
    *ret = (uint64_t)value;
    return true;
}

static void assert_floor(const char *text) {
    struct mr_decimal decimal = scan(text);
    for (int shift = -9; shift <= 9; shift++) {
        uint64_t value = 1;
        uint64_t expected = 1;
        bool fits = oracle_floor(text, shift, &expected);
        assert_int_equal(mr_decimal_floor(&decimal, shift, &value), fits);
        assert_true(!fits || value == expected);
    }
}

static void floors_exactly(void **state) {
    static const char *const texts[] = {"0",
                                        "0.0",
                                        "0e99",
                                        "1",
                                        "9",
                                        "0.9",
                                        "0.999999999999999999999999",
                                        "1.5",
                                        "1700000000",
                                        "1700000000.999",
                                        "1700000000.9999999999999999999999999",
                                        "1.7e9",
                                        "1.7000000001239999e9",
                                        "17000000001239999e-13",
                                        "9223372036854775807",
                                        "9223372036854775808",
                                        "9223372036854775807.99999999999999",
                                        "92233720368547758.079999999999",
                                        "9223372036854775.8079999999999999",
                                        "18446744073709551615",
                                        "18446744073709551616",
                                        "99999999999999999999999999",
                                        "1e18",
                                        "1e19",
                                        "1e20",
                                        "1e-18",
                                        "1e-19",
                                        "1e-20",
                                        "1e-30",
                                        "9e18",
                                        "0.000000000000000000000000000001e30",
                                        "0.000000000000000000000000000001e48",
                                        "1000000000000000000000000000000e-30"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_floor(texts[i]);
    }
    uint64_t random = 7;
    char text[256];
    for (int i = 0; i < 5000; i++) {
        put_number(text, i % 2 == 0 ? 12 : 40, i % 3 == 0 ? 25 : 0, &random);
        assert_floor(text);
    }
}

/* Saturated exponents keep their sign and never make up for digits. */
static void bounds_exponents(void **state) {
    (void)state;
    uint64_t value = 1;
    struct mr_decimal decimal = scan("1e99999999999999999999999");
    assert_false(mr_decimal_floor(&decimal, 0, &value));
    decimal = scan("1e-99999999999999999999999");
    assert_true(mr_decimal_floor(&decimal, 0, &value));
    assert_int_equal(value, 0);
    decimal = scan("0.0e99999999999999999999999");
    assert_true(mr_decimal_floor(&decimal, 9, &value));
    assert_int_equal(value, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_doubles_as_strtod_does),
        cmocka_unit_test(reads_random_doubles),
        cmocka_unit_test(reads_halfway_doubles),
        cmocka_unit_test(knows_int64),
        cmocka_unit_test(floors_exactly),
        cmocka_unit_test(bounds_exponents),
    };
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    freelocale(c_locale);
    return failed;
}
