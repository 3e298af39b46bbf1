/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that terms are read as they are meant, compared in the right unit, and refused with what was wrong.
 */
#include "bench/load/slo.h"

#include "base/alloc.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void must_accept(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *name;
        enum mr_load_op op;
        double bound;
        enum mr_load_unit unit;
    } cases[] = {
        {"p99<50ms", "p99", MR_LOAD_LESS, 50e6, MR_LOAD_NS},
        {" p99.9 <= 1.5 s ", "p99.9", MR_LOAD_AT_MOST, 1.5e9, MR_LOAD_NS},
        {"max>10us", "max", MR_LOAD_MORE, 1e4, MR_LOAD_NS},
        {"service_p50>=7ns", "service_p50", MR_LOAD_AT_LEAST, 7, MR_LOAD_NS},
        {"missed_duplicates==0", "missed_duplicates", MR_LOAD_EQUAL, 0, MR_LOAD_COUNT},
        {"late!=3", "late", MR_LOAD_UNEQUAL, 3, MR_LOAD_COUNT},
        {"rate>=95k", "rate", MR_LOAD_AT_LEAST, 95000, MR_LOAD_PER_SECOND},
        {"server_cpu<1.25", "server_cpu", MR_LOAD_LESS, 1.25, MR_LOAD_CPU},
        {"server_rss<2GiB", "server_rss", MR_LOAD_LESS, 2147483648.0, MR_LOAD_BYTES},
        {"accepted>=1.5M", "accepted", MR_LOAD_AT_LEAST, 1500000, MR_LOAD_COUNT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_load_slo slo;
        struct mr_error error;
        assert_int_equal(mr_load_slo_parse(&slo, cases[i].text, &error), MR_OK);
        assert_int_equal(slo.count, 1);
        assert_true(mr_bytes_equal(slo.terms[0].name, mr_bytes_text(cases[i].name)));
        assert_int_equal(slo.terms[0].op, cases[i].op);
        assert_true(fabs(slo.terms[0].bound - cases[i].bound) < 1e-6 * (1 + cases[i].bound));
        assert_int_equal(slo.terms[0].unit, cases[i].unit);
    }
    struct mr_load_slo slo;
    struct mr_error error;
    assert_int_equal(mr_load_slo_parse(&slo, "p50<1ms, p99 < 5ms,rejected==0", &error), MR_OK);
    assert_int_equal(slo.count, 3);
    assert_true(mr_bytes_equal(slo.terms[1].text, MR_BYTES("p99 < 5ms")));
}

static void must_refuse(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *words;
    } cases[] = {
        {"", "an empty term"},          {"p99<50ms,", "an empty term"},   {"p99", "expected name, one of"},
        {"<5", "expected name"},        {"p99<50", "its unit"},           {"p99<50MiB", "its unit"},
        {"p99<ms", "its unit"},         {"p101<5ms", "unknown name"},     {"p<5ms", "unknown name"},
        {"p-1<5ms", "unknown name"},    {"pinf<5ms", "unknown name"},     {"accepted==0ms", "such as 0"},
        {"acepted==0", "did you mean `accepted`"}, {"late==", "such as 0"}, {"late==-1", "such as 0"},
        {"late=0", "expected name"},    {"server_rss<5ms", "of bytes"},   {"late==0x", "such as 0"},
        {"late==1.2.3", "such as 0"},   {"service_rate>1", "unknown name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_load_slo slo;
        struct mr_error error;
        assert_int_equal(mr_load_slo_parse(&slo, cases[i].text, &error), MR_INVALID);
        if (strstr(error.text, cases[i].words) == NULL) {
            fail_msg("%s: %s", cases[i].text, error.text);
        }
    }
}

static bool holds(const char *text, const struct mr_load_result *result) {
    struct mr_load_slo slo;
    struct mr_error error;
    double value;
    assert_int_equal(mr_load_slo_parse(&slo, text, &error), MR_OK);
    return mr_load_slo_holds(&slo.terms[0], result, &value);
}

static void terms_are_compared(void **state) {
    (void)state;
    struct mr_load_result result;
    assert_int_equal(mr_load_result_open(&result), MR_OK);
    result.late = 3;
    assert_true(holds("late==3", &result) && holds("late<=3", &result) && holds("late>=3", &result));
    assert_true(holds("late<4", &result) && holds("late>2", &result) && holds("late!=4", &result));
    assert_false(holds("late==4", &result) || holds("late<3", &result) || holds("late>3", &result));
    assert_false(holds("late!=3", &result) || holds("late<=2", &result) || holds("late>=4", &result));
    /* Not measured: holds for nothing. */
    assert_false(holds("server_cpu<1", &result) || holds("server_cpu>=0", &result) || holds("p99<1s", &result));
    for (uint64_t i = 1; i <= 100; i++) {
        mr_histogram_add(&result.measured->latency, i * 1000000);
        mr_histogram_add(&result.measured->service, i * 1000);
    }
    assert_true(holds("p50<53ms", &result) && holds("p50>=50ms", &result) && holds("max==100ms", &result));
    assert_true(holds("service_max==100us", &result) && holds("mean==50.5ms", &result));
    assert_false(holds("p99<90ms", &result));
    mr_load_result_close(&result);
}

static void numbers_are_shown(void **state) {
    (void)state;
    static const struct {
        uint64_t count;
        const char *text;
    } counts[] = {{0, "0"}, {999, "999"}, {1000, "1,000"}, {123456, "123,456"}, {1234567, "1,234,567"},
                  {UINT64_MAX, "18,446,744,073,709,551,615"}};
    char text[32];
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        mr_load_show_count(counts[i].count, text);
        assert_string_equal(text, counts[i].text);
    }
    mr_load_show(12345678, MR_LOAD_NS, text, sizeof text);
    assert_string_equal(text, "12.35 ms");
    mr_load_show(NAN, MR_LOAD_COUNT, text, sizeof text);
    assert_string_equal(text, "not measured");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(must_accept),
        cmocka_unit_test(must_refuse),
        cmocka_unit_test(terms_are_compared),
        cmocka_unit_test(numbers_are_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
