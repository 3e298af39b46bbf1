/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a break cannot be seen:
 *   1. random bundles; at a barrier a save begins, whose slices fall anywhere between merges and slices of firing;
 *      the slices, shuffled, into the same or another number of shards: the state is that of the barrier, the bundles
 *      behind it give the same panes, and the model goes on with what was loaded;
 *   2. settings that changed: a shorter lateness leaves out what is final now, without an early timer none runs;
 *   3. each byte of a slice changed: MR_CORRUPT, or what is loaded holds together; slices missing, twice,
 *      of another save;
 *   4. what begins before a time: left out when it is final, refused when not;
 *   5. an allocation that fails, whichever: the save fails and nothing else; the load fails and can be closed.
 */
#include "aggregate/sessions_state.h"
#include "base/alloc.h"
#include "tests/aggregate/test_sessions_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { AFTER_MAX = 40, PANES_MAX = 4096 };

struct saving {
    struct kit_slices slices[SK_SHARDS];
    bool done[SK_SHARDS];
    uint64_t waited;
};

static bool save_slice(struct mr_sessions *sessions, uint32_t budget, struct kit_slices *ret) {
    bool done = false;
    ret->items = mr_realloc(ret->items, (ret->count + 1) * sizeof *ret->items);
    assert_non_null(ret->items);
    struct mr_buf *slice = &ret->items[ret->count++];
    mr_buf_init(slice, 1 << 30);
    assert_int_equal(mr_sessions_save(sessions, budget, slice, &done), MR_OK);
    assert_int_equal(slice->len % 8, 0);
    return done;
}

static void save_sometimes(struct sk_world *w, uint32_t shard) {
    struct saving *saving = w->ctx;
    saving->waited += mr_sessions_save_waiting(w->sessions[shard]) > 0;
    if (!saving->done[shard] && kit_below(&w->random, 12) == 0) {
        saving->done[shard] = save_slice(w->sessions[shard], 1 + kit_below(&w->random, 4), &saving->slices[shard]);
        assert_int_equal(mr_sessions_saving(w->sessions[shard]), !saving->done[shard]);
    }
}

static void shuffle(struct kit_random *random, struct mr_buf *items, uint32_t count) {
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = kit_below(random, i);
        struct mr_buf moved = items[i - 1];
        items[i - 1] = items[j];
        items[j] = moved;
    }
}

static enum mr_status load(const struct mr_rule *rule, uint32_t shard, const struct mr_sessions_load *how,
                           const struct kit_slices *slices, uint32_t count, struct mr_sessions **ret,
                           struct mr_error *error) {
    enum mr_status status = mr_sessions_open(rule, shard, ret);
    if (status != MR_OK) {
        *ret = NULL;
        return status;
    }
    status = mr_sessions_load_begin(*ret, how, error);
    for (uint32_t s = 0; s < count; s++) {
        for (uint32_t i = 0; i < slices[s].count && status == MR_OK; i++) {
            status = mr_sessions_load_slice(*ret, mr_buf_bytes(&slices[s].items[i]), error);
        }
    }
    return status == MR_OK ? mr_sessions_load_end(*ret, error) : status;
}

static int compare_panes(const void *a, const void *b) {
    return mr_bytes_compare(*(const struct mr_bytes *)a, *(const struct mr_bytes *)b);
}

/* Panes of all shards, in an order that does not depend on the shards. */
static uint32_t sort_panes(const struct mr_buf *bufs, uint32_t shards, struct mr_bytes *ret) {
    uint32_t count = 0;
    for (uint32_t s = 0; s < shards; s++) {
        struct mr_bytes rest = mr_buf_bytes(&bufs[s]);
        struct mr_pane pane;
        for (const uint8_t *begin = rest.ptr; mr_pane_next(&rest, &pane); begin = rest.ptr) {
            assert_true(count < PANES_MAX);
            ret[count++] = mr_bytes_of(begin, (size_t)(rest.ptr - begin));
        }
    }
    qsort(ret, count, sizeof *ret, compare_panes);
    return count;
}

static void expect_same_panes(const struct mr_buf *a, uint32_t a_shards, const struct mr_buf *b, uint32_t b_shards) {
    static struct mr_bytes left[PANES_MAX];
    static struct mr_bytes right[PANES_MAX];
    for (uint32_t s = 0; s < a_shards && a_shards == b_shards; s++) { /* the order too */
        assert_true(mr_bytes_equal(mr_buf_bytes(&a[s]), mr_buf_bytes(&b[s])));
    }
    uint32_t count = sort_panes(a, a_shards, left);
    assert_int_equal(count, sort_panes(b, b_shards, right));
    for (uint32_t i = 0; i < count; i++) {
        assert_true(mr_bytes_equal(left[i], right[i]));
    }
}

static struct mr_rule random_rule(struct kit_random *random, bool bounded) {
    int64_t gap = 2 + kit_below(random, 20);
    int64_t size = kit_below(random, 2) ? INT64_MAX : gap + kit_below(random, 40);
    struct mr_rule rule = sk_rule(gap, size, kit_below(random, 3) * 30);
    rule.trigger = (struct mr_trigger){
        .early_ms = kit_below(random, 2) * (1 + kit_below(random, 200)),
        .early_count = kit_below(random, 2) * (1 + kit_below(random, 6)),
        .late = kit_below(random, 3) > 0,
        .panes = (enum mr_accumulation)kit_below(random, 3),
    };
    rule.groups_max = bounded ? 10 : UINT64_MAX;
    if (kit_below(random, 3) == 0) {
        sk_rule_grow(&rule, false);
    }
    return rule;
}

/* Returns how many bundles. */
static uint32_t run_while_saving(struct sk_world *w, struct saving *saving, struct sk_bundle *ret,
                                 struct mr_buf *ret_panes) {
    w->between = save_sometimes;
    w->ctx = saving;
    uint32_t count = 0;
    for (uint32_t left = w->shards; left > 0 && count < AFTER_MAX; count++) {
        sk_make_bundle(w, &ret[count]);
        sk_step(w, &ret[count], ret_panes);
        left = 0;
        for (uint32_t s = 0; s < w->shards; s++) {
            left += !saving->done[s];
        }
    }
    w->between = NULL;
    return count;
}

static void run_break(struct sk_world *w, uint64_t seed, uint64_t *waited) {
    static struct sk_bundle after[AFTER_MAX];
    struct kit_random random = {seed};
    uint32_t shards = 1 + kit_below(&random, 3);
    uint32_t now = 1 + kit_below(&random, 3);
    struct mr_rule rule = random_rule(&random, shards == now && kit_below(&random, 2));
    sk_open(w, &rule, shards, seed);
    w->budget = 1 + kit_below(&random, 6);
    for (uint32_t n = 0; n < 10 + kit_below(&random, 20); n++) {
        sk_make_bundle(w, &after[0]);
        sk_step(w, &after[0], NULL);
    }
    struct saving saving = {0};
    struct mr_buf panes[2][SK_SHARDS];
    uint64_t hashes[SK_SHARDS];
    uint64_t bytes[SK_SHARDS];
    struct mr_sessions_load how = {.seq = w->seq, .watermark_ms = w->watermark_ms, .shards = now};
    for (uint32_t s = 0; s < SK_SHARDS; s++) {
        mr_buf_init(&panes[0][s], 1 << 26);
        mr_buf_init(&panes[1][s], 1 << 26);
    }
    for (uint32_t s = 0; s < shards; s++) {
        hashes[s] = sk_hash(w->sessions[s]);
        bytes[s] = mr_counter_read(&mr_sessions_stats(w->sessions[s])->bytes);
        mr_sessions_save_begin(w->sessions[s], w->seq);
    }
    uint32_t count = run_while_saving(w, &saving, after, panes[0]);
    for (uint32_t s = 0; s < shards; s++) {
        while (!saving.done[s]) {
            saving.done[s] = save_slice(w->sessions[s], 100, &saving.slices[s]);
        }
        shuffle(&random, saving.slices[s].items, saving.slices[s].count);
        mr_sessions_close(w->sessions[s]);
    }
    w->shards = now;
    struct mr_error error;
    for (uint32_t s = 0; s < now; s++) {
        assert_int_equal(load(&w->rule, s, &how, saving.slices, shards, &w->sessions[s], &error), MR_OK);
        mr_sessions_check_scan(w->sessions[s]);
        if (shards == now) {
            assert_int_equal(sk_hash(w->sessions[s]), hashes[s]);
            uint64_t now_bytes = mr_counter_read(&mr_sessions_stats(w->sessions[s])->bytes);
            assert_true(rule.grows || now_bytes == bytes[s]); /* what sketches have on the heap may differ */
        }
        for (uint32_t n = 0; n < count; n++) {
            sk_run(w->sessions[s], w, s, &after[n], &panes[1][s]);
        }
    }
    expect_same_panes(panes[0], shards, panes[1], now);
    for (uint32_t n = 0; n < 10; n++) {
        sk_make_bundle(w, &after[0]);
        sk_step(w, &after[0], NULL);
    }
    for (uint32_t s = 0; s < SK_SHARDS; s++) {
        mr_buf_finish(&panes[0][s]);
        mr_buf_finish(&panes[1][s]);
        kit_slices_finish(&saving.slices[s]);
    }
    *waited += saving.waited;
    sk_close(w);
}

static void test_break(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    assert_non_null(w);
    uint64_t waited = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        run_break(w, seed, &waited);
    }
    assert_true(waited > 1000);
    free(w);
}

/* A world of one shard with sessions in all states, and its save. */
static void make_saved(struct sk_world *w, const struct mr_rule *rule, uint32_t budget, struct kit_slices *ret) {
    struct sk_bundle b;
    sk_open(w, rule, 1, 5);
    for (uint32_t n = 0; n < 12; n++) {
        sk_make_bundle(w, &b);
        sk_step(w, &b, NULL);
    }
    mr_sessions_save_begin(w->sessions[0], w->seq);
    while (!save_slice(w->sessions[0], budget, ret)) {
    }
}

static struct mr_rule saved_rule(void) {
    struct mr_rule rule = sk_rule(10, 40, 60);
    rule.trigger = (struct mr_trigger){.early_ms = 70, .late = true};
    return rule;
}

static void test_settings(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    assert_non_null(w);
    struct mr_rule rule = saved_rule();
    struct kit_slices slices = {0};
    make_saved(w, &rule, 3, &slices);
    struct mr_sessions_load how = {w->seq, w->watermark_ms, 1};
    struct mr_error error;
    struct mr_sessions *loaded;
    assert_true(mr_sessions_next_due(w->sessions[0]) != INT64_MAX);
    rule.trigger.early_ms = 0;
    rule.allowed_lateness_ms = 0;
    assert_int_equal(load(&rule, 0, &how, &slices, 1, &loaded, &error), MR_OK);
    mr_sessions_check_scan(loaded);
    assert_int_equal(mr_sessions_next_due(loaded), INT64_MAX);
    assert_true(mr_sessions_next_watermark(loaded) > w->watermark_ms);
    uint64_t open = 0;
    uint64_t events = 0;
    for (uint32_t i = 0; i < w->model.session_count; i++) {
        const struct sk_session *s = &w->model.sessions[i];
        uint64_t all;
        int64_t sum;
        sk_sum_of(w, i, false, &all, &sum);
        open += !s->gone && !s->closed;
        events += s->gone || s->final ? 0 : all;
    }
    assert_int_equal(mr_counter_read(&mr_sessions_stats(loaded)->sessions), open);
    mr_sessions_close(loaded);

    uint64_t saved_events = 0;
    for (uint32_t i = 0; i < slices.count; i++) {
        uint64_t more;
        assert_int_equal(mr_sessions_saved_events(mr_buf_bytes(&slices.items[i]), &more, &error), MR_OK);
        saved_events += more;
    }
    assert_int_equal(saved_events, events);

    rule.trigger.panes = MR_DISCARDING;
    assert_int_equal(load(&rule, 0, &how, &slices, 1, &loaded, &error), MR_MISMATCH);
    mr_sessions_close(loaded);
    kit_slices_finish(&slices);
    sk_close(w);
    free(w);
}

static void expect_corrupt(const struct mr_rule *rule, const struct mr_sessions_load *how,
                           const struct kit_slices *slices) {
    struct mr_sessions *loaded;
    struct mr_error error = {0};
    assert_int_equal(load(rule, 0, how, slices, 1, &loaded, &error), MR_CORRUPT);
    assert_true(strlen(error.text) > 10);
    mr_sessions_close(loaded);
}

/* Sessions that began before a time: final ones are left out, whatever the floor says of the others they are refused. */
static void test_beginnings(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    assert_non_null(w);
    struct mr_rule rule = saved_rule();
    struct kit_slices slices = {0};
    make_saved(w, &rule, 5, &slices);
    int64_t first_ms = INT64_MAX; /* of sessions that are not final */
    for (uint32_t i = 0; i < w->model.session_count; i++) {
        const struct sk_session *s = &w->model.sessions[i];
        first_ms = !s->gone && !s->final && s->start_ms < first_ms ? s->start_ms : first_ms;
    }
    assert_true(first_ms < INT64_MAX);
    struct mr_sessions_load how = {w->seq, w->watermark_ms, 1};
    const int64_t begins_ms[] = {first_ms, first_ms + 1, first_ms + 1};
    for (uint32_t i = 0; i < 3; i++) {
        struct mr_sessions *loaded;
        struct mr_error error = {.text = ""};
        rule.final_floor_ms = i == 2 ? INT64_MAX : INT64_MIN;
        assert_int_equal(mr_sessions_open(&rule, 0, &loaded), MR_OK);
        assert_int_equal(mr_sessions_load_begin(loaded, &how, &error), MR_OK);
        mr_sessions_load_from(loaded, begins_ms[i]);
        enum mr_status status = MR_OK;
        for (uint32_t k = 0; k < slices.count && status == MR_OK; k++) {
            status = mr_sessions_load_slice(loaded, mr_buf_bytes(&slices.items[k]), &error);
        }
        assert_int_equal(status, i == 0 ? MR_OK : MR_UNSUPPORTED);
        assert_true(i == 0 || strstr(error.text, "may have begun before") != NULL);
        mr_sessions_close(loaded);
    }
    kit_slices_finish(&slices);
    sk_close(w);
    free(w);
}

static void test_wrong_slices(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    assert_non_null(w);
    struct mr_rule rule = saved_rule();
    struct kit_slices slices = {0};
    make_saved(w, &rule, 5, &slices);
    assert_true(slices.count > 2);
    struct mr_sessions_load how = {w->seq, w->watermark_ms, 1};
    struct mr_sessions_load other = how;
    other.seq++;
    expect_corrupt(&rule, &other, &slices);
    other = how;
    other.watermark_ms += 5; /* something would have closed */
    expect_corrupt(&rule, &other, &slices);
    struct kit_slices missing = {slices.items, slices.count - 1};
    expect_corrupt(&rule, &how, &missing);
    missing = (struct kit_slices){slices.items + 1, slices.count - 1};
    expect_corrupt(&rule, &how, &missing);
    struct mr_buf twice[64];
    memcpy(twice, slices.items, slices.count * sizeof *twice);
    twice[slices.count] = slices.items[0];
    struct kit_slices more = {twice, slices.count + 1};
    expect_corrupt(&rule, &how, &more);
    for (size_t len = 0; len < slices.items[0].len; len += 4) {
        struct mr_buf cut = slices.items[0];
        cut.len = len;
        struct kit_slices one = {&cut, 1};
        expect_corrupt(&rule, &how, &one);
    }
    kit_slices_finish(&slices);
    sk_close(w);
    free(w);
}

static void test_each_byte(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    assert_non_null(w);
    uint32_t refused = 0;
    for (uint32_t panes = MR_ACCUMULATING; panes <= MR_DISCARDING; panes++) {
        struct mr_rule rule = saved_rule();
        rule.trigger.panes = (enum mr_accumulation)panes;
        struct kit_slices slices = {0};
        make_saved(w, &rule, 1000, &slices);
        struct mr_sessions_load how = {w->seq, w->watermark_ms, 1};
        struct mr_buf *slice = &slices.items[0];
        for (size_t at = 8; at < slice->len; at++) {
            uint8_t was = slice->ptr[at];
            slice->ptr[at] = (uint8_t)(was ^ (1u << at % 8));
            struct mr_error error;
            struct mr_sessions *loaded;
            assert_int_equal(load(&rule, 0, &how, &slices, 1, &loaded, &error), MR_CORRUPT);
            mr_sessions_close(loaded);
            kit_slice_seal(slice);
            enum mr_status status = load(&rule, 0, &how, &slices, 1, &loaded, &error);
            assert_true(status == MR_OK || status == MR_CORRUPT || status == MR_MISMATCH);
            refused += status != MR_OK;
            if (status == MR_OK) {
                mr_sessions_check_scan(loaded);
            }
            mr_sessions_close(loaded);
            slice->ptr[at] = was;
            kit_slice_seal(slice);
        }
        kit_slices_finish(&slices);
        sk_close(w);
    }
    assert_true(refused > 100);
    free(w);
}

static void test_no_memory(void **state) {
    (void)state;
    struct sk_world *w = malloc(sizeof *w);
    assert_non_null(w);
    struct mr_rule rule = saved_rule();
    rule.trigger.panes = MR_DISCARDING;
    sk_rule_grow(&rule, false);
    struct kit_slices slices = {0};
    make_saved(w, &rule, 3, &slices);
    struct mr_sessions_load how = {w->seq, w->watermark_ms, 1};
    bool failed = true;
    for (uint32_t nth = 1; failed; nth++) {
        struct mr_sessions *loaded;
        struct mr_error error;
        mr_alloc_fail_at(nth, 0);
        enum mr_status status = load(&rule, 0, &how, &slices, 1, &loaded, &error);
        failed = mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        assert_int_equal(status, failed ? MR_NO_MEMORY : MR_OK);
        mr_sessions_close(loaded);
    }
    kit_slices_finish(&slices);

    /* What a merge would write down finds no memory: the save fails, the merge does not. */
    mr_sessions_save_begin(w->sessions[0], w->seq);
    struct sk_bundle b;
    sk_make_bundle(w, &b);
    b.count = 0;
    for (uint32_t i = 0; i < w->model.session_count && b.count == 0; i++) {
        const struct sk_session *s = &w->model.sessions[i];
        if (!s->gone && !s->closed && s->end_ms - s->start_ms > 10) {
            b.protos[b.count++] =
                (struct sk_proto){.key = s->key, .times = {s->end_ms - 10}, .values = {7}, .count = 1};
        }
    }
    assert_int_equal(b.count, 1);
    assert_int_equal(sk_merge_failing(w->sessions[0], &w->rule, &b, &b.protos[0], 1), MR_OK);
    struct mr_buf slice;
    mr_buf_init(&slice, 1 << 20);
    bool done = false;
    assert_int_equal(mr_sessions_save(w->sessions[0], 1, &slice, &done), MR_NO_MEMORY);
    assert_int_equal(mr_sessions_save(w->sessions[0], 1, &slice, &done), MR_NO_MEMORY);
    mr_sessions_save_stop(w->sessions[0]);
    assert_false(mr_sessions_saving(w->sessions[0]));
    mr_sessions_check_scan(w->sessions[0]);
    mr_buf_finish(&slice);
    sk_close(w);
    free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_break),      cmocka_unit_test(test_settings),  cmocka_unit_test(test_wrong_slices),
        cmocka_unit_test(test_beginnings), cmocka_unit_test(test_each_byte), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
