/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that readers on threads of their own see whole commits only, and every commit that was
 * before the read: each commit sets all keys to its own number; a read must find one number, not
 * less than the one that was committed when it began, in every order of rows.
 */
#include "tests/sink/results_rig.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

enum { READERS = 2, COMMITS = 150, GROUPS = 5 };

struct shared {
    struct mr_results *results;
    _Atomic uint64_t committed;
    _Atomic bool failed;
};

struct snapshot {
    uint64_t revision;
    uint32_t rows;
    bool mixed;
};

static bool look(void *ctx, const struct mr_pane *row) {
    struct snapshot *s = ctx;
    s->mixed = s->mixed || (s->rows > 0 && s->revision != row->revision);
    s->revision = row->revision;
    s->rows++;
    return true;
}

static void *read_on(void *ctx) {
    struct shared *shared = ctx;
    struct mr_results_reader *reader = NULL;
    bool fine = mr_results_reader_open(shared->results, &reader) == MR_OK;
    uint64_t before = 0;
    for (uint64_t n = 0; fine && before < COMMITS; n++) {
        before = atomic_load(&shared->committed);
        struct snapshot s = {0};
        const struct mr_results_query query = {.rule = 0,
                                               .to_ms = INT64_MAX,
                                               .order = (int32_t)(n % 4) - 1,
                                               .descending = n % 2 == 0,
                                               .visit = look,
                                               .ctx = &s};
        fine = mr_results_read(reader, &query, NULL) == MR_OK && !s.mixed &&
               s.rows == (s.revision == 0 ? 0 : GROUPS) && s.revision >= before;
    }
    mr_results_reader_close(reader);
    if (!fine) {
        atomic_store(&shared->failed, true);
    }
    return NULL;
}

static void readers_see_whole_commits(void **state) {
    (void)state;
    struct rig_dir dir;
    rig_dir_init(&dir);
    const struct mr_results_sqlite_options options = rig_options(&dir);
    struct shared shared = {.results = rig_open(&options)};
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &shared), 0);
    }
    for (uint64_t seq = 1; seq <= COMMITS; seq++) {
        struct rig_pane panes[GROUPS];
        struct mr_pane list[GROUPS];
        for (uint64_t k = 0; k < GROUPS; k++) {
            rig_pane_simple(&panes[k], 0, k, seq, (int64_t)(seq * k % 7));
            list[k] = panes[k].pane;
        }
        rig_store(shared.results, list, GROUPS, seq);
        atomic_store(&shared.committed, seq);
        for (uint64_t k = 0; k < GROUPS; k++) {
            rig_pane_finish(&panes[k]);
        }
    }
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_false(shared.failed);
    mr_results_close(shared.results);
    rig_dir_finish(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_see_whole_commits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
