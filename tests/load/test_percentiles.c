/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the percentile text is that of a sorted list, to within the histogram's 1/32: each line's value, its count
 * of values up to there, and the footer.
 */
#include "bench/load/percentiles.h"

#include "base/alloc.h"
#include "bench/load/random.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool near(double a, double b) {
    return a <= b * (1 + 1.0 / 32) + 0.001 && b <= a * (1 + 1.0 / 32) + 0.001;
}

static void check_line(const char *line, const uint64_t *sorted, uint64_t count, double *last_share) {
    double value;
    double share;
    uint64_t until;
    assert_int_equal(sscanf(line, "%lf %lf %" SCNu64, &value, &share, &until), 3);
    uint64_t rank = (uint64_t)ceil(share * (double)count - 1e-6);
    assert_true(share > *last_share || (share <= 0 && *last_share < 0));
    *last_share = share;
    assert_true(near(value, (double)sorted[rank == 0 ? 0 : rank - 1] / 1e6));
    assert_true(until >= rank && until <= count);
    /* All of the list up to there, and none that is more than a bucket greater. */
    assert_true((double)sorted[until - 1] / 1e6 <= value + 0.001);
    assert_true(until == count || (double)sorted[until] / 1e6 > value - 0.001);
}

static void is_that_of_a_sorted_list(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 2, 3, 10, 1000, 50000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        uint64_t count = sizes[s];
        uint64_t *list = malloc(count * sizeof *list);
        struct mr_histogram *h = mr_alloc_zero(1, sizeof *h);
        struct mr_buf text;
        double sum = 0;
        double squares = 0;
        assert_true(list != NULL && h != NULL);
        mr_buf_init(&text, 1 << 20);
        for (uint64_t i = 0; i < count; i++) {
            list[i] = 100000 + mr_load_below(mr_load_random(3, i), 1000000000) / (1 + mr_load_random(4, i) % 50);
            mr_histogram_add(h, list[i]);
            sum += (double)list[i];
        }
        qsort(list, count, sizeof *list, by_value);
        for (uint64_t i = 0; i < count; i++) {
            squares += pow((double)list[i] - sum / (double)count, 2);
        }
        mr_load_percentiles(h, &text);
        mr_buf_append_char(&text, 0);
        double last_share = -1;
        double mean = 0;
        double deviation = 0;
        double max = 0;
        uint64_t total = 0;
        static const double first[] = {0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.775};
        size_t lines = 0;
        char *saved;
        for (char *line = strtok_r((char *)text.ptr, "\n", &saved); line != NULL; line = strtok_r(NULL, "\n", &saved)) {
            if (strstr(line, "Percentile") != NULL) {
                continue;
            }
            if (line[0] != '#') {
                check_line(line, list, count, &last_share);
                assert_true(count < 10 || lines >= sizeof first / sizeof first[0] || fabs(last_share - first[lines]) < 1e-9);
                lines++;
            }
            (void)sscanf(line, "#[Mean = %lf, StdDeviation = %lf]", &mean, &deviation); /* other lines: unchanged */
            (void)sscanf(line, "#[Max = %lf, Total count = %" SCNu64, &max, &total);
        }
        assert_true(last_share >= 1);
        assert_int_equal(total, count);
        assert_true(fabs(max - (double)list[count - 1] / 1e6) < 0.001);
        assert_true(fabs(mean - sum / (double)count / 1e6) < 0.001);
        assert_true(fabs(deviation - sqrt(squares / (double)count) / 1e6) <= mean * 0.05 + 0.001);
        mr_buf_finish(&text);
        mr_free(h);
        free(list);
    }
}

static void an_empty_one_ends(void **state) {
    (void)state;
    struct mr_histogram *h = mr_alloc_zero(1, sizeof *h);
    struct mr_buf text;
    mr_buf_init(&text, 1 << 16);
    mr_load_percentiles(h, &text);
    mr_buf_append_char(&text, 0);
    assert_non_null(strstr((const char *)text.ptr, "Total count    =            0]"));
    mr_buf_finish(&text);
    mr_free(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_that_of_a_sorted_list),
        cmocka_unit_test(an_empty_one_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
