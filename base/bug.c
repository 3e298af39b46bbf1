/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
} bugs[MR_BUG_COUNT] = {[MR_BUG_NONE] = {"none", "no mistake"},
#define X(name, text) [MR_BUG_##name] = {#name, text},
                        MR_BUGS(X)
#undef X
};

#ifdef MR_BUGS_ON
enum mr_bug mr_bug_chosen = MR_BUG_NONE;

/* Before main, so that every test can be run with a bug without knowing of it. */
static void __attribute__((constructor)) choose_from_environment(void) {
    const char *name = getenv("MILLRACE_BUG");
    if (name != NULL && name[0] != 0) {
        mr_bug_chosen = mr_bug_named(name);
        MR_ASSERT(mr_bug_chosen != MR_BUG_NONE); /* a name nobody knows would find nothing */
    }
}
#endif

enum mr_bug mr_bug_named(const char *name) {
    for (int bug = MR_BUG_NONE + 1; bug < MR_BUG_COUNT; bug++) {
        if (strcmp(bugs[bug].name, name) == 0) {
            return (enum mr_bug)bug;
        }
    }
    return MR_BUG_NONE;
}

const char *mr_bug_name(enum mr_bug bug) {
    MR_ASSERT((unsigned)bug < MR_BUG_COUNT);
    return bugs[bug].name;
}

const char *mr_bug_text(enum mr_bug bug) {
    MR_ASSERT((unsigned)bug < MR_BUG_COUNT);
    return bugs[bug].text;
}

void mr_bug_choose(enum mr_bug bug) {
    MR_ASSERT((unsigned)bug < MR_BUG_COUNT);
#ifdef MR_BUGS_ON
    mr_bug_chosen = bug;
#endif
}
