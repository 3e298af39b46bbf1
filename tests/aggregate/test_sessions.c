/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that sessions merge and fire as documented:
 *   1. small stories, told pane by pane: merging and touching, retractions, the longest length, early and late panes,
 *      discarding, bounds, what is due;
 *   2. random bundles with random gaps, lateness, triggers, accumulation, longest lengths, bounds and budgets
 *      against a model that keeps every event: after each bundle the sessions, each pane, and the rows that panes
 *      and retractions leave;
 *   3. an allocation that fails, whichever: a status, and everything can be closed.
 */
#include "base/alloc.h"
#include "tests/aggregate/test_sessions_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* A story: protos of single keys, then the panes as text, one a word: timing, start-end, events; r: a retraction. */
struct story {
    struct mr_rule rule;
    struct mr_sessions *sessions;
    struct sk_bundle bundle;
    char panes[512];
};

static void begin_story(struct story *t) {
    assert_int_equal(mr_sessions_open(&t->rule, 0, &t->sessions), MR_OK);
    t->bundle = (struct sk_bundle){.seq = 1};
}

/* Events at first and, if another, last; nothing between but what keeps them together. */
static void events(struct story *t, uint32_t key, int64_t first, int64_t last) {
    struct sk_proto *p = &t->bundle.protos[t->bundle.count++];
    *p = (struct sk_proto){.key = key, .times = {first, last}, .values = {1, 1}, .count = first == last ? 1 : 2};
}

static const char *text_of(struct story *t, struct mr_bytes panes) {
    struct mr_pane pane;
    size_t at = 0;
    t->panes[0] = 0;
    while (mr_pane_next(&panes, &pane)) {
        int len = snprintf(t->panes + at, sizeof t->panes - at, "%s%c%lld-%lld", at == 0 ? "" : " ",
                           pane.retraction ? 'r' : "EOL"[pane.timing], (long long)pane.window_start_ms,
                           (long long)pane.window_end_ms);
        at += (size_t)len;
        if (!pane.retraction || t->rule.trigger.panes == MR_DISCARDING) {
            at += (size_t)snprintf(t->panes + at, sizeof t->panes - at, ":%llu%s", (unsigned long long)pane.events,
                                   pane.final ? "f" : "");
        }
        if (t->rule.trigger.panes == MR_DISCARDING) {
            at += (size_t)snprintf(t->panes + at, sizeof t->panes - at, "#%u", pane.index);
        }
    }
    return t->panes;
}

static const char *end_bundle(struct story *t, int64_t watermark_ms, int64_t recorded_ms) {
    struct sk_world w = {.rule = t->rule, .shards = 1, .budget = 1};
    struct mr_buf panes;
    mr_buf_init(&panes, 1 << 20);
    t->bundle.watermark_ms = watermark_ms;
    t->bundle.recorded_ms = recorded_ms;
    sk_run(t->sessions, &w, 0, &t->bundle, &panes);
    text_of(t, mr_buf_bytes(&panes));
    mr_buf_finish(&panes);
    t->bundle.seq++;
    t->bundle.count = 0;
    return t->panes;
}

static void test_merging(void **state) {
    (void)state;
    struct story t = {.rule = sk_rule(10, INT64_MAX, 20)};
    begin_story(&t);
    events(&t, 0, 0, 0);
    events(&t, 0, 10, 10); /* touches [0, 10) */
    events(&t, 1, 0, 0);
    events(&t, 1, 9, 9); /* shares a moment */
    assert_string_equal(end_bundle(&t, 9, 0), "");
    assert_int_equal(mr_counter_read(&mr_sessions_stats(t.sessions)->sessions), 3);
    assert_int_equal(mr_sessions_next_watermark(t.sessions), 10);
    assert_string_equal(end_bundle(&t, 20, 0), "O0-10:1 O0-19:2 O10-20:1");
    events(&t, 0, 5, 5); /* late: swallows both, the first one's row lives on */
    assert_string_equal(end_bundle(&t, 20, 0), "r10-20 L0-20:3");
    events(&t, 1, 18, 18); /* closed, and open again */
    assert_string_equal(end_bundle(&t, 21, 0), "E0-28:3");
    events(&t, 1, -4, -3); /* a new start; not late: -4 + 10 + 20 > 21 */
    assert_string_equal(end_bundle(&t, 25, 0), "r0-28 E-4-28:5");
    assert_string_equal(end_bundle(&t, 40, 0), "O-4-28:5");
    events(&t, 0, 12, 12); /* [0, 20) is final: it overlaps it, and stays apart */
    assert_string_equal(end_bundle(&t, 41, 0), "L12-22:1");
    assert_string_equal(end_bundle(&t, 48, 0), "");
    assert_int_equal(mr_counter_read(&mr_sessions_stats(t.sessions)->sessions), 0);
    assert_int_equal(mr_counter_read(&mr_sessions_stats(t.sessions)->bytes), 0);
    assert_int_equal(mr_counter_read(&mr_sessions_stats(t.sessions)->finals), 3);
    uint32_t budget = 2;
    assert_true(mr_sessions_release(t.sessions, UINT64_MAX, &budget));
    assert_int_equal(budget, 0);
    budget = 2;
    assert_false(mr_sessions_release(t.sessions, UINT64_MAX, &budget));
    assert_int_equal(budget, 1);
    mr_sessions_close(t.sessions);
}

static void test_longest(void **state) {
    (void)state;
    struct story t = {.rule = sk_rule(10, 20, 50)};
    begin_story(&t);
    events(&t, 0, 10, 10);
    assert_string_equal(end_bundle(&t, 20, 0), "O10-20:1");
    events(&t, 0, 4, 4);   /* [4, 20): the row at 10 goes */
    events(&t, 0, 10, 19); /* [10, 29) would make 25: stays apart, and begins where the other did */
    assert_string_equal(end_bundle(&t, 20, 0), "L4-20:2 E10-29:2");
    assert_int_equal(mr_counter_read(&mr_sessions_stats(t.sessions)->sessions), 2);
    events(&t, 0, 15, 15); /* [15, 25): into the first it does not fit, into the second it does */
    assert_string_equal(end_bundle(&t, 29, 0), "O10-29:3");
    mr_sessions_close(t.sessions);
}

static void test_triggers(void **state) {
    (void)state;
    struct story t = {.rule = sk_rule(10, INT64_MAX, 20)};
    t.rule.trigger = (struct mr_trigger){.early_ms = 100, .early_count = 3};
    begin_story(&t);
    events(&t, 0, 0, 0);
    assert_string_equal(end_bundle(&t, 0, 1000), "");
    assert_int_equal(mr_sessions_next_due(t.sessions), 1100);
    events(&t, 0, 1, 1);
    assert_string_equal(end_bundle(&t, 0, 1099), "");
    assert_string_equal(end_bundle(&t, 0, 1100), "E0-11:2");
    assert_int_equal(mr_sessions_next_due(t.sessions), INT64_MAX);
    events(&t, 0, 0, 1); /* inside: neither three nor time */
    assert_string_equal(end_bundle(&t, 0, 5000), "");
    events(&t, 0, 0, 0);
    assert_string_equal(end_bundle(&t, 0, 5001), "E0-11:5");
    assert_string_equal(end_bundle(&t, 11, 5002), "O0-11:5");
    events(&t, 0, 0, 0); /* late, and no late panes: one when it is final */
    assert_string_equal(end_bundle(&t, 12, 9000), "");
    assert_string_equal(end_bundle(&t, 30, 9000), "");
    assert_string_equal(end_bundle(&t, 31, 9000), "L0-11:6f");
    mr_sessions_close(t.sessions);
}

static void test_discarding(void **state) {
    (void)state;
    struct story t = {.rule = sk_rule(10, INT64_MAX, 50)};
    t.rule.trigger = (struct mr_trigger){.early_count = 1, .late = true, .panes = MR_DISCARDING};
    begin_story(&t);
    events(&t, 0, 10, 10);
    assert_string_equal(end_bundle(&t, 0, 0), "E10-20:1#0");
    events(&t, 0, 11, 12);
    assert_string_equal(end_bundle(&t, 0, 0), "E10-22:2#1");
    assert_string_equal(end_bundle(&t, 22, 0), ""); /* it has nothing new */
    events(&t, 0, 5, 5);                            /* what was said of 10 comes back */
    assert_string_equal(end_bundle(&t, 22, 0), "r10-22:0#0 r10-22:0#1 L5-22:4#2");
    events(&t, 0, 50, 50);
    assert_string_equal(end_bundle(&t, 23, 0), "E50-60:1#0");
    assert_string_equal(end_bundle(&t, 72, 0), "");
    mr_sessions_close(t.sessions);
}

static void test_bounds(void **state) {
    (void)state;
    struct story t = {.rule = sk_rule(10, INT64_MAX, 0)};
    t.rule.groups_max = 2;
    begin_story(&t);
    struct sk_bundle *b = &t.bundle;
    for (uint32_t k = 0; k < 4; k++) {
        events(&t, k / 2, 20 * k, 20 * k); /* two of each key */
    }
    for (uint32_t k = 0; k < 4; k++) {
        assert_int_equal(sk_merge(t.sessions, &t.rule, b, &b->protos[k]), k < 2 ? MR_OK : MR_FULL);
    }
    events(&t, 0, 25, 25); /* into one that is there */
    assert_int_equal(sk_merge(t.sessions, &t.rule, b, &b->protos[4]), MR_OK);
    events(&t, 0, 5, 15); /* makes one of two: there is room again */
    assert_int_equal(sk_merge(t.sessions, &t.rule, b, &b->protos[5]), MR_OK);
    assert_int_equal(sk_merge(t.sessions, &t.rule, b, &b->protos[2]), MR_OK);
    assert_int_equal(sk_merge(t.sessions, &t.rule, b, &b->protos[3]), MR_FULL);
    b->protos[3].key = SK_KEYS;
    assert_int_equal(sk_merge(t.sessions, &t.rule, b, &b->protos[3]), MR_OK);
    mr_sessions_check_scan(t.sessions);
    mr_sessions_close(t.sessions);

    t = (struct story){.rule = sk_rule(10, INT64_MAX, 0)};
    begin_story(&t);
    events(&t, 0, 0, 0);
    assert_int_equal(sk_merge(t.sessions, &t.rule, b, &b->protos[0]), MR_OK);
    uint64_t one = mr_counter_read(&mr_sessions_stats(t.sessions)->bytes);
    t.rule.groups_bytes = 2 * one - 1;
    events(&t, 1, 0, 0);
    assert_int_equal(sk_merge(t.sessions, &t.rule, b, &b->protos[1]), MR_FULL);
    t.rule.groups_bytes = 2 * one;
    assert_int_equal(sk_merge(t.sessions, &t.rule, b, &b->protos[1]), MR_OK);
    assert_int_equal(mr_counter_read(&mr_sessions_stats(t.sessions)->bytes), 2 * one);
    mr_sessions_close(t.sessions);
}

static void test_fire_again(void **state) {
    (void)state;
    struct story t = {.rule = sk_rule(10, INT64_MAX, 100)};
    begin_story(&t);
    for (uint32_t k = 0; k < 3; k++) {
        events(&t, k, 0, 0);
    }
    events(&t, 3, 20, 20);
    assert_string_equal(end_bundle(&t, 10, 0), "O0-10:1 O0-10:1 O0-10:1");
    events(&t, 1, 1, 1);
    assert_string_equal(end_bundle(&t, 11, 0), "O0-11:2"); /* it was open again */
    struct mr_flush *flush = mr_flush_open(9);
    uint32_t calls = 1;
    for (; mr_sessions_fire_again(t.sessions, 1, flush); calls++) {
    }
    assert_true(calls >= 4);
    assert_int_equal(flush->pane_count, 3);
    struct mr_bytes panes = mr_buf_bytes(&flush->panes);
    struct mr_pane pane;
    while (mr_pane_next(&panes, &pane)) {
        assert_int_equal(pane.timing, MR_TIMING_ON_TIME);
        assert_int_equal(pane.revision, pane.events); /* 1: fired in the first bundle, 2: in the second */
    }
    mr_flush_close(flush);
    mr_sessions_close(t.sessions);
}

/* Each with the timing of its last pane, those that are open too; also behind a break. */
static void test_fire_again_as_said(void **state) {
    (void)state;
    for (uint32_t late = 0; late < 2; late++) {
        struct story t = {.rule = sk_rule(10, INT64_MAX, 100)};
        t.rule.trigger = (struct mr_trigger){.late = late != 0, .early_count = 1};
        begin_story(&t);
        events(&t, 0, 0, 0);
        events(&t, 1, 2, 2);
        events(&t, 2, 9, 9);
        assert_string_equal(end_bundle(&t, 15, 0), "E9-19:1 O0-10:1 O2-12:1");
        events(&t, 1, 2, 2);
        assert_string_equal(end_bundle(&t, 15, 0), late ? "L2-12:2" : "");
        mr_sessions_save_begin(t.sessions, 2);
        struct mr_buf slice;
        bool done = false;
        mr_buf_init(&slice, 1 << 20);
        assert_int_equal(mr_sessions_save(t.sessions, 100, &slice, &done), MR_OK);
        mr_sessions_close(t.sessions);
        struct mr_sessions_load how = {2, 15, 1};
        struct mr_error error = {.text = ""};
        assert_int_equal(mr_sessions_open(&t.rule, 0, &t.sessions), MR_OK);
        assert_int_equal(mr_sessions_load_begin(t.sessions, &how, &error), MR_OK);
        assert_int_equal(mr_sessions_load_slice(t.sessions, mr_buf_bytes(&slice), &error), MR_OK);
        assert_int_equal(mr_sessions_load_end(t.sessions, &error), MR_OK);
        mr_buf_finish(&slice);
        struct mr_flush *flush = mr_flush_open(9);
        assert_false(mr_sessions_fire_again(t.sessions, 100, flush));
        const char *said = text_of(&t, mr_buf_bytes(&flush->panes)); /* in any order */
        assert_int_equal(flush->pane_count, 3);
        assert_non_null(strstr(said, "O0-10:1"));
        assert_non_null(strstr(said, late ? "L2-12:2" : "O2-12:2"));
        assert_non_null(strstr(said, "E9-19:1"));
        mr_flush_close(flush);
        mr_sessions_close(t.sessions);
    }
}

static struct mr_rule random_rule(struct kit_random *random) {
    int64_t gap = 2 + kit_below(random, 20);
    int64_t size = kit_below(random, 2) ? INT64_MAX : gap + kit_below(random, 40);
    struct mr_rule rule = sk_rule(gap, size, kit_below(random, 3) * 30);
    rule.trigger = (struct mr_trigger){
        .early_ms = kit_below(random, 2) * (1 + kit_below(random, 80)),
        .early_count = kit_below(random, 2) * (1 + kit_below(random, 6)),
        .late = kit_below(random, 3) > 0,
        .panes = (enum mr_accumulation)kit_below(random, 3),
    };
    rule.groups_max = kit_below(random, 3) == 0 ? 5 + kit_below(random, 20) : UINT64_MAX;
    if (kit_below(random, 3) == 0) {
        sk_rule_grow(&rule, true);
    }
    rule.final_floor_ms = kit_below(random, 4) == 0 ? -20 : INT64_MIN;
    return rule;
}

static void test_model(void **state) {
    (void)state;
    uint64_t sums[6] = {0};
    struct sk_world *w = malloc(sizeof *w);
    assert_non_null(w);
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct kit_random random = {seed};
        struct mr_rule rule = random_rule(&random);
        sk_open(w, &rule, 1 + kit_below(&random, 2), seed * 1000);
        w->budget = seed % 3 == 0 ? UINT32_MAX : 1 + kit_below(&random, 5);
        for (uint32_t n = 0; n < 60; n++) {
            struct sk_bundle b;
            sk_make_bundle(w, &b);
            sk_step(w, &b, NULL);
            uint32_t budget = kit_below(&random, 4);
            (void)mr_sessions_release(w->sessions[0], b.seq - kit_below(&random, 5), &budget);
        }
        sums[0] += w->panes[0];
        sums[1] += w->panes[1];
        sums[2] += w->panes[2];
        sums[3] += w->retractions;
        sums[4] += w->full;
        sums[5] += w->inherited;
        sk_close(w);
    }
    for (uint32_t i = 0; i < 6; i++) { /* all of it has happened, and often */
        assert_true(sums[i] > (i == 5 ? 5 : 300));
    }
    free(w);
}

/* Merging: nothing has changed (and the model sees that trying again works). */
static void test_no_memory_merging(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    assert_non_null(w);
    uint64_t failed = 0;
    for (uint32_t seed = 1; seed <= 12; seed++) {
        struct kit_random random = {seed};
        struct mr_rule rule = random_rule(&random);
        if (rule.grows) { /* a sum may be half made then */
            continue;
        }
        sk_open(w, &rule, 1, seed);
        w->fail_nth = 1 + seed % 5;
        for (uint32_t n = 0; n < 20; n++) {
            struct sk_bundle b;
            sk_make_bundle(w, &b);
            sk_step(w, &b, NULL);
        }
        failed += w->failed;
        sk_close(w);
    }
    assert_true(failed > 30);
    struct mr_sessions *none;
    mr_alloc_fail_at(1, 0);
    assert_int_equal(mr_sessions_open(&w->rule, 0, &none), MR_NO_MEMORY);
    mr_alloc_fail_at(0, 0);
    free(w);
}

/* Merging metrics that grow: a sum may be half made, and everything can be closed. */
static void test_no_memory_summing(void **state) {
    (void)state;
    enum mr_status status = MR_NO_MEMORY;
    for (uint32_t nth = 1; status != MR_OK; nth++) {
        struct story t = {.rule = sk_rule(10, INT64_MAX, 0)};
        t.rule.trigger = (struct mr_trigger){.early_count = 1, .panes = MR_DISCARDING};
        sk_rule_grow(&t.rule, true);
        begin_story(&t);
        events(&t, 0, 10, 12);
        events(&t, 0, 30, 32);
        assert_string_equal(end_bundle(&t, 0, 0), "E10-22:2#0 E30-42:2#0");
        t.bundle.protos[0] = (struct sk_proto){.times = {5, 14, 23, 31}, .values = {1, 0, 0, 2}, .count = 4};
        status = sk_merge_failing(t.sessions, &t.rule, &t.bundle, &t.bundle.protos[0], nth);
        assert_true(status == MR_OK || status == MR_NO_MEMORY);
        assert_true(nth > 3 || status != MR_OK);
        mr_sessions_check_scan(t.sessions);
        mr_sessions_close(t.sessions);
    }
}

/* Firing: a status, and everything can be closed. */
static void test_no_memory_firing(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    assert_non_null(w);
    bool failed = true;
    for (uint32_t nth = 1; failed; nth++) {
        struct mr_rule rule = sk_rule(10, INT64_MAX, 20);
        rule.trigger.panes = MR_DISCARDING;
        rule.trigger.early_count = 1;
        sk_rule_grow(&rule, true);
        sk_open(w, &rule, 1, 1);
        struct mr_flush *flush = mr_flush_open(2);
        struct sk_bundle b = {.seq = 1, .watermark_ms = 0};
        for (uint32_t k = 0; k < SK_KEYS; k++) {
            b.protos[b.count++] = (struct sk_proto){.key = k, .times = {5}, .values = {1}, .count = 1};
        }
        struct mr_buf panes;
        mr_buf_init(&panes, 1 << 20);
        sk_run(w->sessions[0], w, 0, &b, &panes);
        b.seq = 2;
        for (uint32_t i = 0; i < b.count; i++) { /* retractions too */
            b.protos[i].times[0] = 1;
            assert_int_equal(sk_merge(w->sessions[0], &rule, &b, &b.protos[i]), MR_OK);
        }
        mr_sessions_advance(w->sessions[0], 2, 12, 5);
        uint32_t budget = 1000;
        bool done = false;
        mr_alloc_fail_at(nth, 0);
        enum mr_status status = mr_sessions_fire(w->sessions[0], &budget, flush, &done);
        failed = mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        assert_int_equal(status, failed ? MR_NO_MEMORY : MR_OK);
        assert_int_equal(done, !failed);
        assert_true(failed || flush->pane_count == 2 * SK_KEYS);
        mr_flush_close(flush);
        mr_buf_finish(&panes);
        sk_close(w);
    }
    free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merging),   cmocka_unit_test(test_longest), cmocka_unit_test(test_triggers),
        cmocka_unit_test(test_discarding), cmocka_unit_test(test_bounds),  cmocka_unit_test(test_fire_again),
        cmocka_unit_test(test_fire_again_as_said),
        cmocka_unit_test(test_model),     cmocka_unit_test(test_no_memory_merging),
        cmocka_unit_test(test_no_memory_summing), cmocka_unit_test(test_no_memory_firing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
