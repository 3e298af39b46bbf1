/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that rules can be loaded from two checkpoints of one bundle:
 *   1. of random bundles in two combines of different rules and numbers of shards: each rule's rows are those of the
 *      one it comes from, those of the second without the windows that begin too early, whatever was said of these;
 *      counters, too;
 *   2. slices of the first that are missing when the second begins, and of the second at the end, and a window that the
 *      watermark has closed and the second has not: refused.
 */
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEQ = 5, WATERMARK = 60, SHARDS_MAX = 3, SPAN = 20 };

/* A checkpoint: its rules, and what its shards saved. */
struct side {
    struct mr_rule rules[3];
    uint32_t rule_count;
    uint32_t shards;
    struct mr_combine *combines[SHARDS_MAX];
    struct kit_slices slices[SHARDS_MAX];
};

static void make_side(struct side *side, uint64_t seed, int64_t watermark_ms) {
    struct kit_random random = {seed};
    for (uint32_t s = 0; s < side->shards; s++) {
        side->combines[s] = kit_open(side->rules, side->rule_count, s);
    }
    for (uint64_t seq = 1; seq <= SEQ; seq++) {
        struct mr_parcel *parcels[SHARDS_MAX];
        for (uint32_t s = 0; s < side->shards; s++) {
            parcels[s] = mr_parcel_open(seq, 0);
        }
        for (uint32_t k = 0; k < 60; k++) {
            const struct mr_rule *rule = &side->rules[kit_below(&random, side->rule_count)];
            uint32_t key = kit_below(&random, 30);
            const int64_t value = (int64_t)kit_below(&random, 100);
            int64_t start_ms = (int64_t)kit_below(&random, 12) * rule->window.size_ms;
            kit_partial(parcels[kit_owner(rule, key, side->shards)], rule, start_ms, key, &value, 1);
        }
        for (uint32_t s = 0; s < side->shards; s++) {
            assert_int_equal(mr_combine_merge(side->combines[s], parcels[s]), MR_OK);
            mr_parcel_close(parcels[s]);
            kit_advance(side->combines[s], seq, seq == SEQ ? watermark_ms : 10);
        }
    }
    for (uint32_t s = 0; s < side->shards; s++) {
        kit_save(side->combines[s], SEQ, 7, &side->slices[s]);
    }
}

static void close_side(struct side *side) {
    for (uint32_t s = 0; s < side->shards; s++) {
        mr_combine_close(side->combines[s]);
        kit_slices_finish(&side->slices[s]);
    }
}

static enum mr_status load_side(struct mr_combine *combine, const struct side *side, uint32_t drop,
                                struct mr_error *error) {
    uint64_t dropped;
    enum mr_status status = MR_OK;
    for (uint32_t s = 0; s < side->shards; s++) {
        for (uint32_t i = drop; i < side->slices[s].count && status == MR_OK; i++) {
            status = mr_combine_load_slice(combine, mr_buf_bytes(&side->slices[s].items[i]), true, &dropped, error);
        }
    }
    return status;
}

static uint32_t count_rows(struct mr_combine *const *combines, uint32_t shards, uint32_t rule, int64_t from_ms,
                           uint64_t *ret_events, uint64_t *ret_hash) {
    uint32_t count = 0;
    *ret_events = 0;
    *ret_hash = 0;
    for (uint32_t s = 0; s < shards; s++) {
        struct mr_scan scan = {.rule = rule,
                               .from_ms = from_ms,
                               .to_ms = INT64_MAX,
                               .state = MR_SCAN_OPEN,
                               .order = MR_SCAN_ORDER_WINDOW,
                               .limit = 100000};
        struct mr_scan_cursor cursor = {0};
        struct mr_scan_result result = {0};
        while (!mr_combine_scan(combines[s], &scan, &cursor, 100, &result)) {
        }
        assert_int_equal(result.status, MR_OK);
        struct mr_bytes rest = mr_buf_bytes(&result.rows);
        struct mr_row row;
        while (mr_row_next(&rest, &row)) {
            count++;
            *ret_events += row.events;
            uint64_t head[] = {(uint64_t)row.window_start_ms, row.events, row.revision};
            *ret_hash ^= mr_hash64(row.key, mr_hash64(row.state, mr_hash64(mr_bytes_of(head, sizeof head), 0)));
        }
        mr_buf_finish(&result.rows);
    }
    return count;
}

static void expect_same_rows(const struct side *side, uint32_t rule, int64_t from_ms, struct mr_combine *const *loaded,
                             uint32_t shards, uint32_t now) {
    uint64_t events[2];
    uint64_t hash[2];
    uint32_t want = count_rows(side->combines, side->shards, rule, from_ms, &events[0], &hash[0]);
    uint32_t have = count_rows(loaded, shards, now, INT64_MIN, &events[1], &hash[1]);
    assert_true(want > 10);
    assert_int_equal(have, want);
    assert_int_equal(events[0], events[1]);
    assert_true(hash[0] == hash[1]);
}

static const uint32_t node_map[] = {2, UINT32_MAX, 0};
static const uint32_t other_map[] = {UINT32_MAX, 1};

static void make_rules(struct mr_rule *rules, const int64_t *sizes_ms, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        rules[i] = kit_rule(i, 0, 1, sizes_ms[i], 20);
    }
}

static void make_both(struct side *node, struct side *other, struct mr_rule *rules, uint32_t seed) {
    *node = (struct side){.rule_count = 3, .shards = 1 + seed % SHARDS_MAX};
    *other = (struct side){.rule_count = 2, .shards = 1 + seed / 3 % SHARDS_MAX};
    make_rules(node->rules, (const int64_t[]){10, 15, SPAN}, 3); /* the second is what is another one now */
    make_rules(other->rules, (const int64_t[]){40, SPAN}, 2);
    make_rules(rules, (const int64_t[]){SPAN, SPAN, 10}, 3);
    make_side(node, seed, WATERMARK);
    make_side(other, seed + 1000, WATERMARK - 15); /* behind: a window is open that the node's watermark closes */
}

/* The second one's rule 1 is rule 1; of its windows those from 60 on. */
static void two_checkpoints(void **state) {
    (void)state;
    static const int64_t watermark = WATERMARK;
    static const int64_t begins_ms[] = {INT64_MIN, 60, INT64_MIN};
    for (uint32_t seed = 1; seed < 40; seed++) {
        struct side node;
        struct side other;
        struct mr_rule rules[3];
        struct mr_combine *loaded[SHARDS_MAX];
        struct mr_error error = {.text = ""};
        uint32_t shards = 1 + seed / 9 % SHARDS_MAX;
        uint64_t applied = 0;
        uint64_t wanted = 0;
        make_both(&node, &other, rules, seed);
        rules[1].final_floor_ms = 60;
        for (uint32_t s = 0; s < shards; s++) {
            struct mr_combine_load how = {SEQ, &watermark, node_map, 3, shards};
            struct mr_combine_load_also also = {other_map, 2, begins_ms};
            loaded[s] = kit_open(rules, 3, s);
            assert_int_equal(mr_combine_load_begin(loaded[s], &how, &error), MR_OK);
            assert_int_equal(load_side(loaded[s], &node, 0, &error), MR_OK);
            assert_int_equal(mr_combine_load_also(loaded[s], &also, &error), MR_OK);
            assert_int_equal(load_side(loaded[s], &other, 0, &error), MR_OK);
            assert_int_equal(mr_combine_load_end(loaded[s], &error), MR_OK);
            mr_combine_check_scan(loaded[s]);
        }
        applied = mr_counter_read(&mr_combine_stats(loaded[0], 1)->applied);
        for (uint32_t s = 0; s < other.shards; s++) {
            wanted += mr_counter_read(&mr_combine_stats(other.combines[s], 1)->applied);
        }
        assert_true(applied > 0);
        assert_int_equal(applied, wanted);
        expect_same_rows(&node, 0, INT64_MIN, loaded, shards, 2);
        expect_same_rows(&node, 2, INT64_MIN, loaded, shards, 0);
        expect_same_rows(&other, 1, 60, loaded, shards, 1);
        for (uint32_t s = 0; s < shards; s++) {
            mr_combine_close(loaded[s]);
        }
        close_side(&node);
        close_side(&other);
    }
}

/* drop: slices of each shard that are not given. */
static void expect_refused(const struct side *node, const struct side *other, const struct mr_rule *rules,
                           uint32_t drop_node, uint32_t drop_other, int64_t begins, const char *text) {
    static const int64_t watermark = WATERMARK;
    const int64_t begins_ms[] = {INT64_MIN, begins, INT64_MIN};
    struct mr_combine_load how = {SEQ, &watermark, node_map, 3, 1};
    struct mr_combine_load_also also = {other_map, 2, begins_ms};
    struct mr_error error = {.text = ""};
    struct mr_combine *combine = kit_open(rules, 3, 0);
    enum mr_status status = mr_combine_load_begin(combine, &how, &error);
    status = status == MR_OK ? load_side(combine, node, drop_node, &error) : status;
    status = status == MR_OK ? mr_combine_load_also(combine, &also, &error) : status;
    status = status == MR_OK ? load_side(combine, other, drop_other, &error) : status;
    status = status == MR_OK ? mr_combine_load_end(combine, &error) : status;
    assert_int_equal(status, MR_CORRUPT);
    if (strstr(error.text, text) == NULL) {
        fail_msg("`%s` is not in `%s`", text, error.text);
    }
    mr_combine_close(combine);
}

static void what_is_refused(void **state) {
    (void)state;
    struct side node;
    struct side other;
    struct mr_rule rules[3];
    make_both(&node, &other, rules, 8);
    assert_true(node.slices[0].count > 1 && other.slices[0].count > 1);
    expect_refused(&node, &other, rules, 1, 0, 60, "not all and each once");
    expect_refused(&node, &other, rules, 0, 1, 60, "not all and each once");
    expect_refused(&node, &other, rules, 0, 0, 0, "the watermark has closed");
    close_side(&node);
    close_side(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_checkpoints),
        cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
