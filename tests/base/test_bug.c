/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that every seeded bug has a name of its own by which it is found, and a text; and that choosing one switches on
 * that one alone in a build with bugs, and nothing in any other.
 */
#include "base/bug.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#ifdef MR_BUGS_ON
enum { ON = 1 };
#else
enum { ON = 0 };
#endif

static void names(void **state) {
    (void)state;
    for (int bug = MR_BUG_NONE + 1; bug < MR_BUG_COUNT; bug++) {
        assert_int_equal(mr_bug_named(mr_bug_name((enum mr_bug)bug)), bug);
        assert_true(strlen(mr_bug_text((enum mr_bug)bug)) > 0);
    }
    assert_string_equal(mr_bug_name(MR_BUG_SYNC_SKIPPED), "SYNC_SKIPPED");
    static const char *const none[] = {"", "none", "NONE", "sync_skipped", "SYNC_SKIPPED ", "SYNC"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_int_equal(mr_bug_named(none[i]), MR_BUG_NONE);
    }
}

static void one_at_a_time(void **state) {
    (void)state;
    for (int bug = 0; bug < MR_BUG_COUNT; bug++) {
        mr_bug_choose((enum mr_bug)bug);
        int on = 0;
#define X(name, text)                                                                              \
    if (MR_BUG(name)) {                                                                            \
        assert_int_equal(bug, MR_BUG_##name);                                                      \
        on++;                                                                                      \
    }
        MR_BUGS(X)
#undef X
        assert_int_equal(on, bug == MR_BUG_NONE ? 0 : ON);
    }
    mr_bug_choose(MR_BUG_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(one_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
