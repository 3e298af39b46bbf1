/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that what the writer appends is JSON, and that numbers keep their value:
 *   1. commas and brackets, against texts written by hand;
 *   2. every byte and every pair of bytes as a string: the result is valid UTF-8 and, where the
 * input was valid, unescapes to the input;
 *   3. doubles: known shortest texts, the powers of two, and random bit patterns; each reads back
 * to the same bits, and no shorter text does; also under a locale with a decimal comma;
 *   4. a buffer that is too small fails and writes nothing behind its end.
 */
#include "base/json.h"

#include "base/check.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void expect(struct mr_buf *buf, const char *text) {
    assert_false(buf->failed);
    mr_buf_check(buf);
    mr_buf_append_char(buf, '\0');
    assert_string_equal((const char *)buf->ptr, text);
    mr_buf_clear(buf);
}

static void structure(void **state) {
    (void)state;
    struct mr_buf buf;
    struct mr_json j;
    mr_buf_init(&buf, 4096);
    mr_json_init(&j, &buf);
    mr_json_object_begin(&j);
    mr_json_key(&j, "a");
    mr_json_int(&j, 1);
    mr_json_key(&j, "b");
    mr_json_array_begin(&j);
    mr_json_array_begin(&j);
    mr_json_array_end(&j);
    mr_json_object_begin(&j);
    mr_json_object_end(&j);
    mr_json_null(&j);
    mr_json_bool(&j, true);
    mr_json_bool(&j, false);
    mr_json_raw(&j, MR_BYTES("{\"x\":[]}"));
    mr_json_text(&j, "t");
    mr_json_array_end(&j);
    mr_json_key_bytes(&j, MR_BYTES("c\0\"d"));
    mr_json_object_begin(&j);
    mr_json_key(&j, "");
    mr_json_string(&j, mr_bytes_of(NULL, 0));
    mr_json_key(&j, "z");
    mr_json_double(&j, 0.5);
    mr_json_object_end(&j);
    mr_json_object_end(&j);
    assert_int_equal(j.depth, 0);
    expect(&buf, "{\"a\":1,\"b\":[[],{},null,true,false,{\"x\":[]},\"t\"],"
                 "\"c\\u0000\\\"d\":{\"\":\"\",\"z\":0.5}}");
    mr_json_init(&j, &buf);
    for (int i = 0; i < 63; i++) {
        mr_json_array_begin(&j);
    }
    mr_json_int(&j, 1);
    mr_json_int(&j, 2);
    for (int i = 0; i < 63; i++) {
        mr_json_array_end(&j);
    }
    expect(&buf, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1,2"
                 "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]");
    mr_buf_finish(&buf);
}

static void integers(void **state) {
    (void)state;
    struct mr_buf buf;
    struct mr_json j;
    mr_buf_init(&buf, 4096);
    mr_json_init(&j, &buf);
    mr_json_array_begin(&j);
    mr_json_int(&j, 0);
    mr_json_int(&j, -1);
    mr_json_int(&j, INT64_MAX);
    mr_json_int(&j, INT64_MIN);
    mr_json_uint(&j, 0);
    mr_json_uint(&j, 10);
    mr_json_uint(&j, UINT64_MAX);
    mr_json_double(&j, NAN);
    mr_json_double(&j, INFINITY);
    mr_json_double(&j, -INFINITY);
    mr_json_array_end(&j);
    expect(&buf, "[0,-1,9223372036854775807,-9223372036854775808,0,10,18446744073709551615,"
                 "null,null,null]");
    mr_buf_finish(&buf);
}

/* A strict decoder by the ranges of code points, written otherwise than the one under test. */
static bool take_code_point(struct mr_bytes *rest, uint32_t *ret) {
    static const struct {
        uint8_t mask;
        uint8_t lead;
        uint32_t least;
    } forms[] = {{0x80, 0, 0}, {0xE0, 0xC0, 0x80}, {0xF0, 0xE0, 0x800}, {0xF8, 0xF0, 0x10000}};
    for (size_t more = 0; more < 4; more++) {
        if ((rest->ptr[0] & forms[more].mask) != forms[more].lead || rest->len <= more) {
            continue;
        }
        uint32_t c = rest->ptr[0] & (uint8_t)~forms[more].mask;
        for (size_t i = 1; i <= more; i++) {
            if ((rest->ptr[i] & 0xC0) != 0x80) {
                return false;
            }
            c = c << 6 | (rest->ptr[i] & 0x3F);
        }
        if (c < forms[more].least || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
            return false;
        }
        *rest = mr_bytes_of(rest->ptr + more + 1, rest->len - more - 1);
        *ret = c;
        return true;
    }
    return false;
}

static bool is_utf8(struct mr_bytes text) {
    uint32_t c;
    while (text.len > 0) {
        if (!take_code_point(&text, &c)) {
            return false;
        }
    }
    return true;
}

static size_t unescape(struct mr_bytes text, uint8_t *ret) {
    assert_true(text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"');
    size_t len = 0;
    for (size_t i = 1; i < text.len - 1; i++) {
        uint8_t c = text.ptr[i];
        assert_true(c >= 0x20 && c != '"');
        if (c != '\\') {
            ret[len++] = c;
            continue;
        }
        assert_true(++i < text.len - 1);
        static const char from[] = "\"\\bfnrt";
        static const char to[] = "\"\\\b\f\n\r\t";
        const char *found = strchr(from, text.ptr[i]);
        if (found != NULL) {
            ret[len++] = (uint8_t)to[found - from];
        } else {
            unsigned value;
            assert_true(text.ptr[i] == 'u' && i + 4 < text.len - 1);
            assert_int_equal(sscanf((const char *)text.ptr + i + 1, "%4x", &value), 1);
            assert_true(value < 0x20);
            ret[len++] = (uint8_t)value;
            i += 4;
        }
    }
    return len;
}

static void check_string(struct mr_buf *buf, struct mr_bytes text) {
    struct mr_json j;
    uint8_t back[256];
    mr_buf_clear(buf);
    mr_json_init(&j, buf);
    mr_json_string(&j, text);
    assert_true(is_utf8(mr_buf_bytes(buf)));
    size_t len = unescape(mr_buf_bytes(buf), back);
    if (is_utf8(text)) {
        assert_true(mr_bytes_equal(mr_bytes_of(back, len), text));
    } else {
        assert_non_null(memmem(back, len, "\xEF\xBF\xBD", 3));
    }
}

static void every_pair_of_bytes(void **state) {
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    for (size_t len = 1; len <= 40; len++) { /* each byte at each place of a long plain text */
        for (size_t i = 0; i < len * 256; i++) {
            uint8_t text[40];
            memset(text, (uint8_t) "!#[]a~\x7F "[i % 8], sizeof text);
            text[i / 256] = (uint8_t)i;
            check_string(&buf, mr_bytes_of(text, len));
        }
    }
    for (int a = 0; a < 256; a++) {
        for (int b = 0; b < 256; b++) {
            uint8_t text[] = {(uint8_t)a, (uint8_t)b};
            check_string(&buf, mr_bytes_of(text, 2));
        }
    }
    static const uint8_t kinds[] = {0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                    0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
                                    0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF};
    const size_t n = sizeof kinds;
    for (size_t i = 0; i < n * n * n * n; i++) { /* every boundary of table 3-7, four bytes deep */
        uint8_t text[] = {kinds[i / (n * n * n)], kinds[i / (n * n) % n], kinds[i / n % n],
                          kinds[i % n]};
        check_string(&buf, mr_bytes_of(text, 4));
    }
    mr_buf_finish(&buf);
}

static void replaces_each_maximal_subpart_once(void **state) {
    (void)state;
    struct mr_buf buf;
    struct mr_json j;
    mr_buf_init(&buf, 4096);
    mr_json_init(&j, &buf);
    mr_json_string(&j, MR_BYTES("a\xF1\x80\x80\xE1\x80\xC2"
                                "b\x80"
                                "c\x80\xBF"
                                "d")); /* Unicode 15, table 3-8 */
    expect(&buf, "\"a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd\"");
    mr_json_init(&j, &buf);
    mr_json_string(&j, MR_BYTES("\xED\xA0\x80|\xE2\x82|\xE2\x82\xAC\xF0\x9F\x98\x80\x7F/"));
    expect(&buf, "\"\uFFFD\uFFFD\uFFFD|\uFFFD|\u20AC\U0001F600\x7F/\"");
    mr_buf_finish(&buf);
}

static void known_doubles(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *text;
    } known[] = {
        {0.0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {-1, "-1"},
        {100, "100"},
        {1e15, "1000000000000000"},
        {0.1, "0.1"},
        {0.3, "0.3"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1.5, "1.5"},
        {-2.25, "-2.25"},
        {1.0 / 3, "0.3333333333333333"},
        {123456.789, "123456.789"},
        {1e-6, "0.000001"},
        {1.5e-6, "0.0000015"},
        {1e-7, "1e-7"},
        {1.25e-7, "1.25e-7"},
        {9007199254740991.0, "9007199254740991"},
        {9007199254740992.0, "9007199254740992"},
        {9007199254740994.0, "9007199254740994"},
        {1e20, "100000000000000000000"},
        {123456789012345678901.0, "123456789012345680000"},
        {1e21, "1e+21"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {5e-324, "5e-324"},
        {1e-323, "1e-323"},
        {2.225073858507201e-308, "2.225073858507201e-308"},
        {0x1p89, "6.189700196426902e+26"}, /* the nearest 16 digits are ...901 and miss */
        {9.5367431640625e-7, "9.5367431640625e-7"},
        {4.35, "4.35"},
        {1e23, "1e+23"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char text[32];
        size_t len = mr_double_text(known[i].value, text);
        assert_string_equal(text, known[i].text);
        assert_int_equal(len, strlen(text));
    }
}

/* True if some decimal of `digits` digits reads back to value; the nearest and its two neighbours
 * are all that can. */
static bool fits(double value, int digits) {
    char raw[64];
    (void)snprintf(raw, sizeof raw, "%.*e", digits - 1, value);
    char *e = strchr(raw, 'e');
    int exponent = atoi(e + 1) - (digits - 1);
    *e = 0;
    uint64_t whole = 0;
    for (char *c = raw; *c != 0; c++) {
        whole = *c >= '0' && *c <= '9' ? whole * 10 + (uint64_t)(*c - '0') : whole;
    }
    for (uint64_t near = whole - 1; near <= whole + 1; near++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%llue%d", (unsigned long long)near, exponent);
        if (strtod(text, NULL) == value) {
            return true;
        }
    }
    return false;
}

static int count_digits(const char *text) {
    char digits[32];
    int count = 0;
    for (; *text != 0 && *text != 'e'; text++) {
        if (*text >= '0' && *text <= '9' && (count > 0 || *text != '0')) {
            digits[count++] = *text;
        }
    }
    while (count > 0 && digits[count - 1] == '0') {
        count--;
    }
    return count;
}

static void check_double(double value) {
    char text[32];
    size_t len = mr_double_text(value, text);
    assert_true(len < sizeof text && text[len] == 0);
    double back = strtod(text, NULL);
    assert_memory_equal(&back, &value, sizeof value);
    assert_null(strpbrk(text, "naif,"));
    int digits = count_digits(text);
    if (digits > 1 && fits(fabs(value), digits - 1)) {
        fail_msg("not the shortest: %s", text);
    }
}

static void doubles_read_back(void **state) {
    (void)state;
    for (int e = -1074; e <= 1023; e++) {
        double value = ldexp(1, e);
        check_double(value);
        check_double(nextafter(value, INFINITY));
        check_double(-nextafter(value, 0));
    }
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 15000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        double bits;
        memcpy(&bits, &seed, sizeof bits);
        if (isfinite(bits)) {
            check_double(bits);
        }
        check_double((double)(int64_t)seed);
        double power =
            pow(10, (double)(seed >> 59) - 12); /* few decimals, and one bit beside them */
        double few = (double)((seed >> 8) % 2000000000000000u >> (seed >> 53) % 40) * power;
        check_double(few);
        check_double(nextafter(few, INFINITY));
        check_double(nextafter(few, 0));
        check_double((double)(seed % 100000000) / 100);
    }
}

static void decimal_commas_change_nothing(void **state) {
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8", "ps_AF"};
    size_t i = 0;
    while (i < sizeof names / sizeof names[0] && setlocale(LC_NUMERIC, names[i]) == NULL) {
        i++;
    }
    if (i == sizeof names / sizeof names[0]) {
        skip(); /* this machine has no such locale */
    }
    known_doubles(state);
    (void)setlocale(LC_NUMERIC, "C");
}

static void too_small_a_buffer_fails(void **state) {
    (void)state;
    for (size_t cap = 0; cap < 40; cap++) {
        struct mr_buf buf;
        struct mr_json j;
        mr_buf_init(&buf, cap);
        mr_json_init(&j, &buf);
        mr_json_object_begin(&j);
        mr_json_key(&j, "key");
        mr_json_text(&j, "a\n\xFF");
        mr_json_key(&j, "n");
        mr_json_double(&j, 0.25);
        mr_json_object_end(&j);
        mr_buf_check(&buf);
        assert_int_equal(buf.failed, cap < sizeof "{\"key\":\"a\\n\xEF\xBF\xBD\",\"n\":0.25}" - 1);
        mr_buf_finish(&buf);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structure),
        cmocka_unit_test(integers),
        cmocka_unit_test(every_pair_of_bytes),
        cmocka_unit_test(replaces_each_maximal_subpart_once),
        cmocka_unit_test(known_doubles),
        cmocka_unit_test(doubles_read_back),
        cmocka_unit_test(decimal_commas_change_nothing),
        cmocka_unit_test(too_small_a_buffer_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
