/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that members are found whatever stands beside them, and that no damage leads outside of the text: every cut, and
 * every byte changed, in memory of its own for the address sanitizer.
 */
#include "bench/load/reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static const char row[] = "{ \"a\" : {\"n\":[1,{\"n\":2}],\"s\":\"}\\\"\"}, \"n\":17,\"s\":\"x\\\",y\" ,\"d\":-1.5e2,\"e\":{},\"z\":null}";

static void finds_members(void **state) {
    (void)state;
    struct mr_bytes object = mr_bytes_text(row);
    struct mr_bytes text;
    uint64_t n;
    double d;
    assert_true(mr_load_member_uint(object, "n", &n) && n == 17);
    assert_true(mr_load_member(object, "d", &text) && mr_load_number(text, &d) && d < -149.9 && d > -150.1);
    assert_true(mr_load_member(object, "s", &text) && mr_bytes_equal(mr_load_unquoted(text), MR_BYTES("x\\\",y")));
    assert_true(mr_load_member(object, "e", &text) && mr_bytes_equal(text, MR_BYTES("{}")));
    assert_true(mr_load_member(object, "z", &text) && mr_bytes_equal(text, MR_BYTES("null")));
    assert_true(mr_load_member_in(object, "a", "n", &text) && mr_bytes_equal(text, MR_BYTES("[1,{\"n\":2}]")));
    assert_false(mr_load_member(object, "x", &text) || mr_load_member_uint(object, "s", &n) ||
                 mr_load_member_in(object, "n", "n", &text) || mr_load_member_uint(object, "d", &n));
    assert_false(mr_load_member(MR_BYTES("[1]"), "n", &text) || mr_load_member(MR_BYTES(""), "n", &text));
    assert_false(mr_load_number(MR_BYTES("12x"), &d) || mr_load_number(MR_BYTES(""), &d));
}

static void damage_stays_inside(void **state) {
    (void)state;
    static const char names[][2] = {"a", "n", "s", "d", "z", "?"};
    const size_t len = sizeof row - 1;
    for (size_t cut = 0; cut <= len; cut++) {
        for (int change = 0; change < 8; change++) {
            uint8_t *copy = malloc(cut + (cut == 0));
            assert_non_null(copy);
            memcpy(copy, row, cut);
            for (size_t i = 0; i < cut; i++) {
                copy[i] = change > 0 && i % 7 == (size_t)change - 1 ? (uint8_t)"{}[]\",:\\"[(i + cut) % 8] : copy[i];
            }
            struct mr_bytes object = mr_bytes_of(copy, cut);
            for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
                struct mr_bytes text;
                if (mr_load_member(object, names[i], &text)) {
                    assert_true(text.len > 0 && text.ptr >= copy && text.ptr + text.len <= copy + cut);
                }
            }
            free(copy);
        }
    }
}

static void finds_samples(void **state) {
    (void)state;
    const struct mr_bytes text = MR_BYTES("# HELP up x\nup_total 7\nup{a=\"b\"} 3\nup 1.5\nlast 9");
    double value;
    assert_true(mr_load_sample(text, "up", &value) && value > 1.4 && value < 1.6);
    assert_true(mr_load_sample(text, "last", &value) && value > 8.9);
    assert_false(mr_load_sample(text, "total", &value) || mr_load_sample(MR_BYTES(""), "up", &value));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_members),
        cmocka_unit_test(damage_stays_inside),
        cmocka_unit_test(finds_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
