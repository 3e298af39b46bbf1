/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that gathered panes are put in the order of their rows, so many at a time, each once; that panes of one row keep
 * their order, or the store would refuse the older ones; that a bundle's are put before the next one's; and that what the
 * store refused is not put again.
 */
#include "pipeline/panes.h"
#include "tests/sink/memory_results.h"
#include "tests/sink/results_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PANES = 2000, TOGETHER = 300, WINDOWS = 5, KEYS = 40, RULES = 2 };

static const char yaml[] = "streams: { s: { id: i, time: t } }\n"
                           "rules: { a: { from: s, group_by: [k], window: { size: 1m }, metrics: { n: count } },\n"
                           "         b: { from: s, group_by: [k], window: { size: 1m }, metrics: { n: count } } }\n";

struct world {
    struct mr_config *config;
    struct mr_plan *plan;
    struct mr_results_rule rules[RULES];
    struct mr_bytes key_name;
    struct mr_bytes metric_name;
    struct mr_results *results;
    struct mr_panes panes;
};

static void open_world(struct world *w) {
    struct mr_error error = {0};
    struct mr_hash_key secret = {{0}};
    *w = (struct world){.key_name = MR_BYTES("k"), .metric_name = MR_BYTES("n")};
    assert_int_equal(mr_config_parse(mr_bytes_text(yaml), "f", NULL, &w->config, &error), MR_OK);
    assert_int_equal(mr_plan_open(w->config, &secret, false, &w->plan, &error), MR_OK);
    for (uint32_t i = 0; i < RULES; i++) {
        w->rules[i] = (struct mr_results_rule){.name = w->config->rules[i].name,
                                               .key_names = &w->key_name,
                                               .key_count = 1,
                                               .metric_names = &w->metric_name,
                                               .metric_count = 1};
    }
    w->results = mr_memory_results_open(&(struct mr_memory_results_options){
        .rules = w->rules, .rule_count = RULES, .outbox_panes_max = PANES});
    assert_int_equal(mr_panes_open(&w->panes, w->results, w->plan, TOGETHER), MR_OK);
}

static void close_world(struct world *w) {
    mr_panes_close(&w->panes);
    mr_results_close(w->results);
    mr_plan_close(w->plan);
    mr_config_close(w->config);
}

/* Keys of 0 to 3 bytes: beginnings of each other, too. */
static void append_random(const struct world *w, struct mr_flush *flush, uint64_t *random, uint64_t revision) {
    uint64_t state[16] = {0};
    uint8_t key[3];
    uint32_t rule = (uint32_t)rig_below(random, RULES);
    uint32_t k = (uint32_t)rig_below(random, KEYS);
    for (uint32_t i = 0; i < 3; i++) {
        key[i] = (uint8_t)(k >> i & 3);
    }
    assert_true(w->plan->rules[rule].state_len <= sizeof state);
    int64_t start = (int64_t)rig_below(random, WINDOWS) * 60000 - 120000;
    mr_pane_append(&flush->panes, &(struct mr_pane){.rule = rule,
                                                    .window_start_ms = start,
                                                    .window_end_ms = start + 60000,
                                                    .revision = revision,
                                                    .events = 1,
                                                    .key = mr_bytes_of(key, k % 4),
                                                    .state = mr_bytes_of(state, w->plan->rules[rule].state_len)});
    flush->pane_count++;
}

struct seen {
    uint32_t count;
    uint32_t rule;
    int64_t start;
    uint8_t key[3];
    size_t key_len;
    uint64_t revision;
    bool met[PANES + 1];
};

static int compare(const struct seen *before, const struct mr_pane *pane) {
    if (before->rule != pane->rule) {
        return before->rule < pane->rule ? -1 : 1;
    }
    if (before->start != pane->window_start_ms) {
        return before->start < pane->window_start_ms ? -1 : 1;
    }
    return mr_bytes_compare(mr_bytes_of(before->key, before->key_len), pane->key);
}

static bool look(void *ctx, uint64_t id, const struct mr_pane *pane) {
    struct seen *seen = ctx;
    (void)id;
    assert_in_range(pane->revision, 1, PANES);
    assert_false(seen->met[pane->revision]);
    assert_int_equal((pane->revision - 1) / TOGETHER, seen->count / TOGETHER);
    if (seen->count % TOGETHER != 0) {
        int order = compare(seen, pane);
        assert_true(order < 0 || (order == 0 && seen->revision < pane->revision));
    }
    seen->met[pane->revision] = true;
    seen->count++;
    seen->rule = pane->rule;
    seen->start = pane->window_start_ms;
    seen->key_len = pane->key.len;
    memcpy(seen->key, pane->key.ptr, pane->key.len);
    seen->revision = pane->revision;
    return true;
}

static uint32_t read_outbox(const struct world *w) {
    struct seen seen = {0};
    struct mr_error error = {0};
    struct mr_results_reader *reader = NULL;
    assert_int_equal(mr_results_reader_open(w->results, &reader), MR_OK);
    assert_int_equal(mr_results_read_outbox(reader, 0, look, &seen, &error), MR_OK);
    mr_results_reader_close(reader);
    return seen.count;
}

static void panes_are_put_in_the_order_of_rows(void **state) {
    (void)state;
    struct world w;
    struct mr_flush *flushes[PANES];
    uint32_t flush_count = 0;
    uint64_t random = 1;
    open_world(&w);
    assert_int_equal(mr_results_begin(w.results), MR_OK);
    for (uint64_t revision = 1; revision <= PANES;) {
        struct mr_flush *flush = mr_flush_open(1);
        assert_non_null(flush);
        for (uint64_t n = rig_below(&random, 100); n > 0 && revision <= PANES; n--) {
            append_random(&w, flush, &random, revision++);
        }
        assert_int_equal(mr_panes_gather(&w.panes, flush), MR_OK);
        flushes[flush_count++] = flush;
    }
    assert_int_equal(mr_panes_put_gathered(&w.panes), MR_OK);
    assert_int_equal(mr_panes_put_gathered(&w.panes), MR_OK); /* there is nothing left */
    assert_int_equal(mr_results_commit(w.results, PANES), MR_OK);
    assert_int_equal(read_outbox(&w), PANES);
    while (flush_count > 0) {
        mr_flush_close(flushes[--flush_count]);
    }
    close_world(&w);
}

static struct mr_flush *open_flush(const struct world *w, uint64_t seq, uint64_t *random) {
    struct mr_flush *flush = mr_flush_open(seq);
    assert_non_null(flush);
    append_random(w, flush, random, seq);
    return flush;
}

static void a_bundle_is_put_before_the_next(void **state) {
    (void)state;
    struct world w;
    uint64_t random = 3;
    open_world(&w);
    struct mr_flush *first = open_flush(&w, 1, &random);
    struct mr_flush *second = open_flush(&w, 2, &random);
    assert_int_equal(mr_results_begin(w.results), MR_OK);
    assert_int_equal(mr_panes_gather(&w.panes, first), MR_OK);
    assert_int_equal(mr_panes_gather(&w.panes, second), MR_OK);
    assert_int_equal(mr_results_commit(w.results, 2), MR_OK);
    assert_int_equal(read_outbox(&w), 1);
    mr_flush_close(first);
    mr_flush_close(second);
    close_world(&w);
}

static void refused_panes_are_not_put_again(void **state) {
    (void)state;
    struct world w;
    uint64_t random = 2;
    open_world(&w);
    struct mr_flush *flush = open_flush(&w, 1, &random);
    assert_int_equal(mr_results_begin(w.results), MR_OK);
    assert_int_equal(mr_panes_gather(&w.panes, flush), MR_OK);
    mr_memory_results_fail(w.results, &(struct mr_memory_failure){.ops = MR_MEMORY_PUT, .nth = 1, .status = MR_IO});
    assert_int_equal(mr_panes_put_gathered(&w.panes), MR_IO);
    assert_int_equal(mr_results_begin(w.results), MR_OK);
    assert_int_equal(mr_panes_put_gathered(&w.panes), MR_OK);
    assert_int_equal(mr_results_commit(w.results, 1), MR_OK);
    assert_int_equal(read_outbox(&w), 0);
    mr_flush_close(flush);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(panes_are_put_in_the_order_of_rows),
        cmocka_unit_test(a_bundle_is_put_before_the_next),
        cmocka_unit_test(refused_panes_are_not_put_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
