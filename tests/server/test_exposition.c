/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that metrics come out as Prometheus reads them:
 *   1. families and samples against text written by hand, special doubles among them;
 *   2. label values: escapes and bytes that are not UTF-8; every pair of bytes stays on one line,
 *      between its quotes, and pairs of ASCII unescape to what they were;
 *   3. histograms: cumulative buckets, +Inf equal to the count, bounds in the family's unit;
 *   4. /proc/self/stat: a name with spaces and parentheses; cut texts are refused; this process has
 *      memory, threads and file descriptors.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "server/exposition.h"
#include "server/process.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void expect(struct mr_buf *buf, const char *text) {
    assert_false(buf->failed);
    mr_buf_append_char(buf, '\0');
    assert_string_equal((const char *)buf->ptr, text);
    mr_buf_clear(buf);
}

static void families(void **state) {
    (void)state;
    struct mr_buf buf;
    struct mr_exposition e;
    mr_buf_init(&buf, 65536);
    mr_exposition_init(&e, &buf);
    mr_exposition_family(&e, MR_EXPOSE_COUNTER, "a_total", "What it is.");
    mr_exposition_uint(&e, NULL, 0, 0);
    struct mr_label labels[2] = {{"stream", MR_BYTES("clicks")}, {"verdict", MR_BYTES("late")}};
    mr_exposition_uint(&e, labels, 2, UINT64_MAX);
    mr_exposition_family(&e, MR_EXPOSE_GAUGE, "b", "Other.");
    mr_exposition_double(&e, labels, 1, 0.25);
    mr_exposition_double(&e, labels, 1, 1795326840.123);
    mr_exposition_double(&e, labels, 1, INFINITY);
    mr_exposition_double(&e, labels, 1, -INFINITY);
    mr_exposition_double(&e, NULL, 0, NAN);
    expect(&buf, "# HELP a_total What it is.\n# TYPE a_total counter\na_total 0\n"
                 "a_total{stream=\"clicks\",verdict=\"late\"} 18446744073709551615\n"
                 "# HELP b Other.\n# TYPE b gauge\nb{stream=\"clicks\"} 0.25\n"
                 "b{stream=\"clicks\"} 1795326840.123\nb{stream=\"clicks\"} +Inf\n"
                 "b{stream=\"clicks\"} -Inf\nb NaN\n");
    mr_buf_finish(&buf);
}

static void label_texts(void **state) {
    (void)state;
    static const struct {
        const char *value;
        const char *text;
    } cases[] = {
        {"", "\"\""},
        {"a\\b\"c\nd", "\"a\\\\b\\\"c\\nd\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\xff\xc3", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xc0\xaf", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xed\xa0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    struct mr_buf buf;
    struct mr_exposition e;
    mr_buf_init(&buf, 65536);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char whole[256];
        struct mr_label label = {"l", mr_bytes_text(cases[i].value)};
        mr_exposition_init(&e, &buf);
        mr_exposition_family(&e, MR_EXPOSE_GAUGE, "m", "h");
        mr_buf_clear(&buf);
        mr_exposition_uint(&e, &label, 1, 1);
        (void)snprintf(whole, sizeof whole, "m{l=%s} 1\n", cases[i].text);
        expect(&buf, whole);
    }
    mr_buf_finish(&buf);
}

/* Reads a label value back; the length of what stood between the quotes. */
static size_t unescape(const struct mr_buf *buf, uint8_t *ret) {
    const char *at = strchr((const char *)buf->ptr, '"') + 1;
    size_t len = 0;
    for (; *at != '"'; at++) {
        assert_true(*at != '\n');
        bool escaped = *at == '\\';
        if (escaped) {
            at++;
            assert_true(*at == 'n' || *at == '"' || *at == '\\');
        }
        ret[len++] = escaped && *at == 'n' ? '\n' : (uint8_t)*at;
        assert_true(len < 16);
    }
    assert_string_equal(at, "\"} 1\n");
    return len;
}

static void label_pairs(void **state) {
    (void)state;
    struct mr_buf buf;
    struct mr_exposition e;
    mr_buf_init(&buf, 65536);
    for (uint32_t pair = 0; pair < 65536; pair++) {
        uint8_t bytes[2] = {(uint8_t)(pair >> 8), (uint8_t)pair};
        bool ascii = bytes[0] < 0x80 && bytes[1] < 0x80;
        if (bytes[0] == 0 || bytes[1] == 0) {
            continue; /* what reads it back here reads C strings */
        }
        struct mr_label label = {"l", mr_bytes_of(bytes, 2)};
        mr_exposition_init(&e, &buf);
        mr_exposition_family(&e, MR_EXPOSE_GAUGE, "m", "h");
        mr_buf_clear(&buf);
        mr_exposition_uint(&e, &label, 1, 1);
        mr_buf_append_char(&buf, '\0');
        uint8_t back[16];
        size_t len = unescape(&buf, back);
        if (ascii) {
            assert_int_equal(len, 2);
            assert_memory_equal(back, bytes, 2);
        }
        mr_buf_clear(&buf);
    }
    mr_buf_finish(&buf);
}

static void histograms(void **state) {
    (void)state;
    static const uint64_t bounds[] = {1000, 1000000, 2500000};
    struct mr_histogram *h = mr_alloc_zero(1, sizeof *h);
    struct mr_buf buf;
    struct mr_exposition e;
    struct mr_label label = {"route", MR_BYTES("/")};
    mr_buf_init(&buf, 65536);
    mr_exposition_init(&e, &buf);
    mr_exposition_family(&e, MR_EXPOSE_HISTOGRAM, "d_seconds", "h");
    mr_exposition_histogram(&e, NULL, 0, h, bounds, 3, 1e9);
    expect(&buf, "# HELP d_seconds h\n# TYPE d_seconds histogram\n"
                 "d_seconds_bucket{le=\"0.000001\"} 0\nd_seconds_bucket{le=\"0.001\"} 0\n"
                 "d_seconds_bucket{le=\"0.0025\"} 0\nd_seconds_bucket{le=\"+Inf\"} 0\n"
                 "d_seconds_sum 0\nd_seconds_count 0\n");
    mr_histogram_add(h, 500);
    mr_histogram_add_many(h, 900000, 2);
    mr_histogram_add(h, 5000000000);
    mr_exposition_histogram(&e, &label, 1, h, bounds, 3, 1e9);
    expect(&buf, "d_seconds_bucket{route=\"/\",le=\"0.000001\"} 1\n"
                 "d_seconds_bucket{route=\"/\",le=\"0.001\"} 3\n"
                 "d_seconds_bucket{route=\"/\",le=\"0.0025\"} 3\n"
                 "d_seconds_bucket{route=\"/\",le=\"+Inf\"} 4\n"
                 "d_seconds_sum{route=\"/\"} 5.0018005\nd_seconds_count{route=\"/\"} 4\n");
    mr_buf_finish(&buf);
    mr_free(h);
}

static void process(void **state) {
    (void)state;
    static const char text[] =
        "123 (a) b (c)) S 1 123 123 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 9 0 12345 4096000 25 "
        "18446744073709551615 1 1 0 0 0 0 0\n";
    struct mr_process p;
    assert_int_equal(mr_process_parse(mr_bytes_text(text), 100, 4096, &p), MR_OK);
    assert_true(p.cpu_s == 3.0);
    assert_int_equal(p.threads, 9);
    assert_int_equal(p.virtual_bytes, 4096000);
    assert_int_equal(p.resident_bytes, 25 * 4096);
    size_t whole = (size_t)(strstr(text, "25 1844") - text);
    for (size_t len = 0; len < whole; len++) {
        struct mr_process untouched = {.threads = 77};
        assert_int_equal(mr_process_parse(mr_bytes_of(text, len), 100, 4096, &untouched),
                         MR_CORRUPT);
        assert_int_equal(untouched.threads, 77);
    }
    uint64_t fds = 0;
    assert_int_equal(mr_process_read(mr_disk_system(), &p), MR_OK);
    assert_true(p.threads >= 1 && p.resident_bytes > 0 && p.virtual_bytes >= p.resident_bytes);
    assert_int_equal(mr_process_fds(mr_disk_system(), &fds), MR_OK);
    uint64_t more = 0;
    FILE *file = fopen("/dev/null", "r");
    assert_non_null(file);
    assert_int_equal(mr_process_fds(mr_disk_system(), &more), MR_OK);
    (void)fclose(file);
    assert_int_equal(more, fds + 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families),   cmocka_unit_test(label_texts), cmocka_unit_test(label_pairs),
        cmocka_unit_test(histograms), cmocka_unit_test(process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
