/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the store in memory breaks the way the simulator needs it to:
 *   1. a crash keeps what was committed and loses the open transaction;
 *   2. for every k, the k-th operation fails, once or for ever, before its effect or (commit) after
 * it; the same transactions, repeated until they pass, give the rows and the outbox of a run
 * without failures;
 *   3. the enumeration gives rows in order, with their numbers;
 *   4. a rewind leaves generations that are aside as they are, but those that are later.
 */
#include "tests/sink/memory_results.h"
#include "tests/sink/results_rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct mr_results *open_memory(void) {
    return mr_memory_results_open(&(struct mr_memory_results_options){
        .rules = rig_rules, .rule_count = RIG_RULES, .outbox_panes_max = 1000});
}

static void a_crash_loses_the_open_transaction_only(void **state) {
    (void)state;
    struct mr_results *results = open_memory();
    struct rig_pane a;
    struct rig_pane b;
    rig_pane_simple(&a, 0, 3, 1, 10);
    rig_pane_simple(&b, 0, 4, 2, 20);
    rig_store(results, &a.pane, 1, 1);
    assert_int_equal(mr_results_begin(results), MR_OK);
    assert_int_equal(mr_results_put(results, &b.pane), MR_OK);
    assert_int_equal(mr_results_finalize(results, 0, INT64_MAX), MR_OK);
    mr_memory_results_crash(results);
    mr_memory_results_check(results);
    assert_int_equal(mr_results_flushed_seq(results), 1);
    struct rig_read read;
    rig_read_init(&read);
    rig_read(results, rig_query_all(0, &read), &read);
    assert_int_equal(read.count, 1);
    assert_false(rig_row(&read, 0).final);
    rig_store(results, &b.pane, 1, 2); /* begin is possible again */
    assert_int_equal(mr_memory_results_count(results, 0), 2);
    rig_read_finish(&read);
    rig_pane_finish(&a);
    rig_pane_finish(&b);
    mr_results_close(results);
}

enum { BUNDLES = 4, PANES = 3, OPERATIONS = BUNDLES * (PANES + 3) };

static enum mr_status flush_bundle(struct mr_results *results, uint64_t seq) {
    uint64_t random = seq;
    enum mr_status status = mr_results_begin(results);
    for (int i = 0; i < PANES && status == MR_OK; i++) {
        struct rig_pane pane;
        rig_pane_random(&pane, &random, seq);
        status = mr_results_put(results, &pane.pane);
        rig_pane_finish(&pane);
    }
    if (status == MR_OK) {
        status = mr_results_finalize(results, 0, rig_window_ms(0, seq));
    }
    return status == MR_OK ? mr_results_commit(results, seq) : status;
}

/* What a flusher does: every bundle again until it has passed. */
static uint64_t flush_all(struct mr_results *results, const struct mr_memory_failure *heals) {
    uint64_t refused = 0;
    for (uint64_t seq = 1; seq <= BUNDLES;) {
        enum mr_status status = flush_bundle(results, seq);
        mr_memory_results_check(results);
        if (status == MR_OK) {
            seq++;
            continue;
        }
        assert_int_equal(status, MR_NO_SPACE);
        assert_string_equal(mr_results_error_text(results), "failed by plan");
        if (++refused == 3) {
            mr_memory_results_fail(results, heals);
        }
    }
    return refused;
}

static void fail_and_compare(const struct mr_memory_failure *failure, const struct rig_read *want) {
    const struct mr_memory_failure heals = {.nth = 0};
    struct mr_results *results = open_memory();
    mr_memory_results_fail(results, failure);
    uint64_t refused = flush_all(results, &heals);
    assert_int_equal(refused, failure->forever ? 3 : 1);
    assert_int_equal(mr_memory_results_failures(results), refused);
    assert_int_equal(mr_results_flushed_seq(results), BUNDLES);
    struct rig_read have;
    rig_read_init(&have);
    rig_read_everything(results, &have);
    rig_assert_same(&have, want);
    rig_read_finish(&have);
    mr_results_close(results);
}

static void every_failure_heals(void **state) {
    (void)state;
    struct mr_results *healthy = open_memory();
    const struct mr_memory_failure none = {.nth = 0};
    assert_int_equal(flush_all(healthy, &none), 0);
    struct rig_read want;
    rig_read_init(&want);
    rig_read_everything(healthy, &want);
    assert_true(want.count > BUNDLES * PANES);
    for (uint64_t nth = 1; nth <= OPERATIONS; nth++) {
        for (int forever = 0; forever < 2; forever++) {
            fail_and_compare(&(struct mr_memory_failure){.ops = MR_MEMORY_WRITES,
                                                         .nth = nth,
                                                         .forever = forever != 0,
                                                         .status = MR_NO_SPACE},
                             &want);
        }
    }
    for (uint64_t nth = 1; nth <= BUNDLES; nth++) {
        for (int forever = 0; forever < 2; forever++) {
            fail_and_compare(&(struct mr_memory_failure){.ops = MR_MEMORY_COMMIT,
                                                         .nth = nth,
                                                         .forever = forever != 0,
                                                         .after = true,
                                                         .status = MR_NO_SPACE},
                             &want);
        }
    }
    rig_read_finish(&want);
    mr_results_close(healthy);
}

static void a_commit_of_unknown_outcome_is_there(void **state) {
    (void)state;
    struct mr_results *results = open_memory();
    mr_memory_results_fail(results,
                           &(struct mr_memory_failure){
                               .ops = MR_MEMORY_COMMIT, .nth = 1, .after = true, .status = MR_IO});
    assert_int_equal(flush_bundle(results, 5), MR_IO);
    mr_memory_results_crash(results);
    assert_int_equal(mr_results_flushed_seq(results), 5);
    mr_memory_results_fail(
        results, &(struct mr_memory_failure){.ops = MR_MEMORY_COMMIT, .nth = 1, .status = MR_IO});
    assert_int_equal(flush_bundle(results, 6), MR_IO);
    assert_int_equal(mr_results_flushed_seq(results), 5);
    mr_results_close(results);
}

static void a_read_fails_by_plan(void **state) {
    (void)state;
    struct mr_results *results = open_memory();
    mr_memory_results_fail(
        results, &(struct mr_memory_failure){.ops = MR_MEMORY_READ, .nth = 2, .status = MR_BUSY});
    struct mr_results_reader *reader = NULL;
    struct rig_read read;
    rig_read_init(&read);
    struct mr_results_query query = rig_query_all(0, &read);
    assert_int_equal(mr_results_reader_open(results, &reader), MR_OK);
    struct mr_error error = {0};
    assert_int_equal(mr_results_read(reader, &query, NULL), MR_OK);
    assert_int_equal(mr_results_read(reader, &query, &error), MR_BUSY);
    assert_int_equal(error.status, MR_BUSY);
    assert_int_equal(mr_results_read(reader, &query, NULL), MR_OK);
    mr_results_reader_close(reader);
    rig_read_finish(&read);
    mr_results_close(results);
}

struct seen {
    uint64_t count;
    int64_t sum;
};

static bool add_up(void *ctx, const struct mr_pane *row) {
    struct seen *seen = ctx;
    seen->count++;
    seen->sum = seen->sum * 100 + row->numbers[row->number_count - 1].i;
    return seen->count < 2;
}

static void rows_are_enumerated_in_order(void **state) {
    (void)state;
    struct mr_results *results = open_memory();
    struct rig_pane panes[3];
    struct mr_pane list[3];
    static const uint64_t keys[] = {8, 3,
                                    6}; /* strings of length 3 and 2, number: n17 < s17 < sa\0b */
    for (size_t i = 0; i < 3; i++) {
        rig_pane_simple(&panes[i], 1, keys[i], 1, (int64_t)keys[i]);
        list[i] = panes[i].pane;
    }
    rig_store(results, list, 3, 1);
    assert_int_equal(mr_memory_results_count(results, 1), 3);
    struct seen seen = {0};
    mr_memory_results_each(results, 1, add_up, &seen);
    assert_int_equal(seen.count, 2); /* it stops when told */
    assert_int_equal(seen.sum, 306);
    for (size_t i = 0; i < 3; i++) {
        rig_pane_finish(&panes[i]);
    }
    mr_results_close(results);
}

static void a_rewind_knows_what_is_aside(void **state) {
    (void)state;
    struct mr_results_rule rules[RIG_RULES] = {rig_rules[2], rig_rules[2], rig_rules[2]};
    rules[1].generation = 4;
    rules[2].generation = 5;
    struct mr_results *results = mr_memory_results_open(&(struct mr_memory_results_options){
        .rules = rules, .rule_count = RIG_RULES, .outbox_panes_max = 1000});
    for (uint32_t rule = 0; rule < RIG_RULES; rule++) {
        for (uint64_t window = 0; window < 2; window++) {
            struct rig_pane pane;
            rig_pane_simple(&pane, 2, 0, window == 0 ? 4 : 6, 1);
            pane.pane.rule = rule;
            pane.pane.window_start_ms += (int64_t)window * 1000;
            pane.pane.window_end_ms += (int64_t)window * 1000;
            pane.pane.final = true;
            rig_store(results, &pane.pane, 1, 6);
            rig_pane_finish(&pane);
        }
    }
    assert_int_equal(mr_results_rewind(results, 4), MR_OK);
    struct rig_read read;
    rig_read_init(&read);
    static const uint64_t left[] = {1, 2, 0};
    for (uint32_t rule = 0; rule < RIG_RULES; rule++) {
        rig_read(results, rig_query_all(rule, &read), &read);
        assert_int_equal(read.count, left[rule]);
        for (uint64_t i = 0; i < left[rule]; i++) {
            assert_int_equal(rig_row(&read, i).final, rule == 1);
        }
    }
    rig_read_outbox(results, 0, &read);
    assert_int_equal(read.count, 3);
    rig_read_finish(&read);
    mr_results_close(results);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_loses_the_open_transaction_only),
        cmocka_unit_test(every_failure_heals),
        cmocka_unit_test(a_commit_of_unknown_outcome_is_there),
        cmocka_unit_test(a_read_fails_by_plan),
        cmocka_unit_test(rows_are_enumerated_in_order),
        cmocka_unit_test(a_rewind_knows_what_is_aside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
