/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that what a configuration can say is planned, and that a wrong expression is told with its place in the file.
 */
#include "pipeline/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define S(more)     "streams: { s: { id: i, time: t, " more " }, u: { id: i, time: t } }\n"
#define R(keys)     S("") "rules: { r: { " keys " } }\n"
#define W(window)   R("from: s, window: { " window " }, metrics: { n: count }")
#define M(metrics)  R("from: s, window: { size: 1m }, metrics: { " metrics " }")
#define MORE(keys)  R("from: s, window: { size: 1m }, metrics: { n: count }, " keys)

static const char *const fine[] = {
    S(""),
    S("derive: { d: a, e: d + 1 }"),
    S("watermark: { source: a }"),
    S("dedup: { conflicts: detect }"),
    R("from: [s, u], window: { size: 1m }, metrics: { n: count, m: { sum: a, from: s } }"),
    MORE("trigger: { early: 1s, early_count: 5, late: false, panes: discarding }"),
    MORE("where: a > 0 && b == \"x\""),
    W("size: 1m, offset: 1s"),
    W("type: session, gap: 1m"),
    W("type: sliding, size: 1m, every: 1s"),
    W("size: 1d, time_zone: Europe/Berlin"),
    M("a: { count: events }, b: { sum: x }, c: { min: x }, d: { max: x }, e: { avg: x }"),
    M("a: { variance: x }, b: { stddev: x }, c: { first: y }, d: { last: y }, e: { distinct: z, where: x > 1 }"),
    M("a: { quantiles: [0.5, 0.9], of: x }, b: { top: y, n: 3 }, c: { histogram: x, bounds: [1, 2] }, d: { collect: y }"),
    M("a: count, b: { sum: x }, n: { ratio: [b, a] }"),
};

static enum mr_status open_plan(const char *yaml, struct mr_error *error) {
    struct mr_config *config = NULL;
    assert_int_equal(mr_config_parse(mr_bytes_text(yaml), "f", NULL, &config, error), MR_OK);
    struct mr_hash_key key = {{0}};
    struct mr_plan *plan = NULL;
    enum mr_status status = mr_plan_open(config, &key, false, &plan, error);
    mr_plan_close(plan);
    mr_config_close(config);
    return status;
}

static void everything_is_planned(void **state_) {
    (void)state_;
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        struct mr_error error = {0};
        assert_int_equal(open_plan(fine[i], &error), MR_OK);
    }
}

static void wrong_expressions_have_a_place(void **state_) {
    (void)state_;
    static const struct {
        const char *yaml;
        const char *text;
    } wrong[] = {
        {S("derive: { a: b, d: lower(x }"), "f:1:52: derived field d: column 8: expected `,` or `)`, found the end"},
        {MORE("where: x = 1"), "f:2:76: where of r: column 3: `=` is not an operator; did you mean `==`?"},
        {M("n: { count: events, where: x + 1 }"), "f:2:84: where of n: expected a truth value, but this is a number"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct mr_error error = {0};
        assert_int_equal(open_plan(wrong[i].yaml, &error), MR_INVALID);
        assert_string_equal(error.text, wrong[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_planned),
        cmocka_unit_test(wrong_expressions_have_a_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
