/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a sink gets what the results store has (pipeline/sinks.h), over a store, a Redis and a disk in memory, in
 * virtual time, step by step from a seed: panes, retractions and finals are committed, the outbox is short, so that it is pruned under a
 * sink that is away; connections break, reading the store fails, the cursor cannot be written or is lost with the power;
 * the worker is closed and opened again; the store is rewound, and goes on with revisions below those that Redis has.
 * Whenever everything is well again for long enough, each row of the rules with that sink is in Redis: same revision,
 * number, count and final mark.
 *
 * And by hand: a retraction arrives; rules without the sink are not sent, a copy leaves out what is over, the cursor spares copies.
 */
#include "base/alloc.h"
#include "base/key.h"
#include "base/report.h"
#include "pipeline/data.h"
#include "pipeline/sinks.h"
#include "sink/redis_sink.h"
#include "tests/disk/virtual_disk.h"
#include "tests/redis/virtual_redis.h"
#include "tests/redis/virtual_time.h"
#include "tests/sink/memory_results.h"
#include "tests/sink/sink_script.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

enum { SEEDS = 30, ROUNDS = 60, OUTBOX_MAX = 12, WINDOWS = 8, KEYS = 6, SIZE_MS = 1000 };

static const char yaml[] =
    "stores: { m: { type: redis, nodes: [\"10.0.0.1:6379\"] } }\n"
    "sinks: { live: { type: redis, store: m, prefix: \"p:\", ttl: 1h } }\n"
    "streams: { s: { id: i, time: t } }\n"
    "rules:\n"
    "  a: { from: s, group_by: k, window: { size: 1s }, metrics: { n: count }, sinks: live }\n"
    "  b: { from: s, group_by: k, window: { size: 1s }, metrics: { n: count } }\n"
    "  c: { from: s, group_by: k, window: { size: 1s }, metrics: { n: count }, sinks: live }\n";

struct world {
    struct virtual_time time;
    struct virtual_redis *v;
    struct virtual_disk *vd;
    struct mr_redis_transport *transport;
    struct mr_datadir dir;
    struct mr_config *config;
    struct mr_plan *plan;
    struct mr_results_rule *rules;
    struct mr_results *results;
    struct mr_sinks *sinks;
    uint64_t random;
    uint64_t seq;
    uint64_t best_seq;
    int64_t final_windows; /* so many are final */
    int64_t base_ms;
};

static uint64_t below(struct world *w, uint64_t bound) {
    w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (w->random >> 33) % bound;
}

static void open_sinks(struct world *w) {
    struct mr_sinks_options options = {
        .plan = w->plan,
        .results_rules = w->rules,
        .results = w->results,
        .transports = &w->transport,
        .clock = &w->time.clock,
        .dir = &w->dir,
        .seed = 1,
    };
    struct mr_error error;
    assert_int_equal(mr_sinks_open(&options, &w->sinks, &error), MR_OK);
    assert_int_equal(mr_sinks_count(w->sinks), 1);
}

static void open_world(struct world *w, uint64_t seed) {
    *w = (struct world){.random = seed};
    virtual_time_init(&w->time);
    w->base_ms = VIRTUAL_TIME_WALL_MS / SIZE_MS * SIZE_MS;
    w->v = virtual_redis_open(&(struct virtual_redis_options){
        .seed = seed, .clock = &w->time.clock, .pass = virtual_time_pass, .pass_ctx = &w->time});
    sink_script_register(w->v);
    w->transport = virtual_redis_transport(w->v);
    w->vd = virtual_disk_open(seed);
    w->dir.disk = virtual_disk_disk(w->vd);
    (void)snprintf(w->dir.path, sizeof w->dir.path, "d");
    assert_int_equal(mr_disk_mkdir(w->dir.disk, "d"), MR_OK);
    char *environment[] = {NULL};
    struct mr_hash_key key = {{7}};
    struct mr_error error;
    assert_int_equal(mr_config_parse(mr_bytes_text(yaml), "t", environment, &w->config, &error), MR_OK);
    assert_int_equal(mr_plan_open(w->config, &key, false, &w->plan, &error), MR_OK);
    w->rules = mr_data_results_rules(w->plan);
    w->results = mr_memory_results_open(&(struct mr_memory_results_options){
        .rules = w->rules, .rule_count = 3, .outbox_panes_max = OUTBOX_MAX, .incarnation = 5, .epoch = 1000});
    open_sinks(w);
}

static void close_world(struct world *w) {
    mr_sinks_close(w->sinks);
    mr_results_close(w->results);
    mr_free(w->rules);
    mr_plan_close(w->plan);
    mr_config_close(w->config);
    virtual_redis_close(w->v);
    virtual_disk_close(w->vd);
}

/* ---- the store ---- */

static void append_key(struct mr_buf *buf, uint64_t key) {
    char text[24];
    int len = snprintf(text, sizeof text, "k%llu", (unsigned long long)key);
    mr_key_append(buf, (struct mr_key_value){MR_KEY_STRING, mr_bytes_of(text, (size_t)len)});
}

static void retract(struct world *w, uint32_t rule, int64_t window, uint64_t key) {
    struct mr_buf encoded;
    mr_buf_init(&encoded, 256);
    append_key(&encoded, key);
    struct mr_pane pane = {
        .rule = rule,
        .retraction = true,
        .window_start_ms = w->base_ms + window * SIZE_MS,
        .window_end_ms = w->base_ms + (window + 1) * SIZE_MS,
        .revision = w->seq,
        .key = mr_buf_bytes(&encoded),
    };
    assert_int_equal(mr_results_put(w->results, &pane), MR_OK);
    mr_buf_finish(&encoded);
}

static void put(struct world *w, uint32_t rule, int64_t window, uint64_t key, uint64_t count, bool final) {
    const struct mr_rule *r = &w->plan->rules[rule];
    static const uint32_t event = 0;
    _Alignas(8) uint8_t state[64];
    uint8_t *states[] = {state};
    assert_true(r->state_len <= sizeof state);
    memset(state, 0, r->state_len);
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(mr_metric_add(&r->metrics[0], NULL, NULL, &event, states, 1), MR_OK);
    }
    struct mr_number number = mr_metric_finish(r->metrics, 0, mr_bytes_of(state, r->state_len), NULL);
    struct mr_buf encoded;
    mr_buf_init(&encoded, 256);
    append_key(&encoded, key);
    struct mr_pane pane = {
        .rule = rule,
        .timing = MR_TIMING_ON_TIME,
        .final = final,
        .window_start_ms = w->base_ms + window * SIZE_MS,
        .window_end_ms = w->base_ms + (window + 1) * SIZE_MS,
        .revision = w->seq,
        .events = count,
        .key = mr_buf_bytes(&encoded),
        .state = mr_bytes_of(state, r->state_len),
        .numbers = &number,
        .number_count = 1,
    };
    assert_int_equal(mr_results_put(w->results, &pane), MR_OK);
    mr_buf_finish(&encoded);
}

/* One bundle: panes of windows that are not final, and perhaps more windows are. */
static void commit_random(struct world *w) {
    w->seq++;
    assert_int_equal(mr_results_begin(w->results), MR_OK);
    for (uint64_t n = below(w, 8); n > 0; n--) {
        int64_t window = w->final_windows + (int64_t)below(w, WINDOWS);
        put(w, (uint32_t)below(w, 3), window, below(w, KEYS), 1 + below(w, 9), false);
    }
    if (below(w, 3) == 0) {
        w->seq++;
        retract(w, (uint32_t)below(w, 3), w->final_windows + (int64_t)below(w, WINDOWS), below(w, KEYS));
    }
    if (below(w, 4) == 0) {
        w->final_windows += (int64_t)below(w, 3);
        for (uint32_t i = 0; i < 3; i++) {
            int64_t end_ms = w->base_ms + w->final_windows * SIZE_MS;
            assert_int_equal(mr_results_finalize(w->results, i, end_ms), MR_OK);
        }
    }
    assert_int_equal(mr_results_commit(w->results, w->seq), MR_OK);
}

/* ---- comparing ---- */

struct comparing {
    struct world *world;
    uint32_t rule;
    uint32_t rows;
    bool equal;
};

static bool has(struct world *w, struct mr_bytes key, const char *field, uint64_t want) {
    char text[24];
    struct mr_bytes value;
    int len = snprintf(text, sizeof text, "%llu", (unsigned long long)want);
    return virtual_redis_peek_field(w->v, 0, key, mr_bytes_text(field), &value) &&
           mr_bytes_equal(value, mr_bytes_of(text, (size_t)len));
}

static bool compare_row(void *ctx, const struct mr_pane *row) {
    struct comparing *c = ctx;
    struct mr_buf key;
    mr_buf_init(&key, 4096);
    assert_true(mr_redis_sink_key(&key, MR_BYTES("p:"), &c->world->rules[c->rule], row));
    struct mr_bytes name = mr_buf_bytes(&key);
    c->equal = has(c->world, name, "revision", row->revision) && has(c->world, name, "final", row->final) &&
               has(c->world, name, "events", row->events) && has(c->world, name, "n", row->events);
    mr_buf_finish(&key);
    c->rows++;
    return c->equal;
}

static uint32_t assert_same(struct world *w) {
    struct comparing c = {.world = w, .equal = true};
    for (uint32_t i = 0; i < 3; i += 2) {
        c.rule = i;
        mr_memory_results_each(w->results, i, compare_row, &c);
        assert_true(c.equal);
    }
    return c.rows;
}

/* ---- stepping ---- */

static void step(struct world *w) {
    if (!mr_sinks_step(w->sinks, 0)) {
        mr_sinks_sleep(w->sinks, 0);
        w->time.ns += 1000000;
    }
}

static bool run_until_idle(struct world *w, uint64_t ns) {
    uint64_t until_ns = w->time.ns + ns;
    mr_sinks_flush(w->sinks);
    while (!mr_sinks_idle(w->sinks, 0) && w->time.ns < until_ns) {
        step(w);
    }
    return mr_sinks_idle(w->sinks, 0);
}

static struct mr_sink_stats stats_of(struct world *w) {
    struct mr_sink_stats stats;
    mr_sinks_stats(w->sinks, 0, &stats);
    return stats;
}

static void heal(struct world *w) {
    static const struct mr_memory_failure none = {0};
    virtual_redis_heal(w->v);
    mr_memory_results_fail(w->results, &none);
}

/* What a start does: the store is rewound, and the log is replayed (here: other bundles come). */
static void restart(struct world *w) {
    mr_sinks_close(w->sinks);
    w->sinks = NULL;
    if (below(w, 3) == 0) {
        virtual_disk_crash(w->vd);
    }
    if (below(w, 3) == 0 && w->seq > 0) {
        w->seq -= below(w, w->seq < 10 ? w->seq : 10);
        assert_int_equal(mr_results_rewind(w->results, w->seq), MR_OK);
        for (uint32_t i = 0; i < 3; i++) { /* which windows are final, the caller says */
            assert_int_equal(mr_results_begin(w->results), MR_OK);
            int64_t end_ms = w->base_ms + w->final_windows * SIZE_MS;
            assert_int_equal(mr_results_finalize(w->results, i, end_ms), MR_OK);
            assert_int_equal(mr_results_commit(w->results, w->seq), MR_OK);
        }
    }
    open_sinks(w);
}

static void trouble(struct world *w) {
    switch (below(w, 8)) {
    case 0:
        virtual_redis_fault(w->v, true);
        return;
    case 1:
        virtual_redis_down(w->v, 0);
        return;
    case 2:
        mr_memory_results_fail(w->results, &(struct mr_memory_failure){.ops = MR_MEMORY_READ,
                                                                       .nth = 1 + below(w, 5),
                                                                       .status = MR_IO});
        return;
    case 3:
        virtual_redis_cut_after(w->v, 0, 1 + (uint32_t)below(w, 5));
        return;
    case 4:
        restart(w);
        return;
    default:
        heal(w);
        return;
    }
}

static void random_life(void **state_) {
    (void)state_;
    uint64_t rows = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w;
        open_world(&w, seed);
        for (int round = 0; round < ROUNDS; round++) {
            for (uint64_t n = below(&w, 6); n > 0; n--) {
                commit_random(&w);
            }
            trouble(&w);
            for (uint64_t n = below(&w, 40); n > 0; n--) {
                step(&w);
            }
            if (round % 10 == 9) {
                heal(&w);
                assert_true(run_until_idle(&w, UINT64_C(60000000000)));
                assert_same(&w);
                assert_int_equal(stats_of(&w).lag_rows, 0);
                assert_int_equal(stats_of(&w).failing_since_ms, 0);
            }
        }
        rows += assert_same(&w);
        assert_int_equal(stats_of(&w).refused, 0);
        close_world(&w);
    }
    assert_true(rows > 1000);
}

/* ---- by hand ---- */

static void commit_one(struct world *w, uint32_t rule, int64_t window, uint64_t key) {
    w->seq++;
    assert_int_equal(mr_results_begin(w->results), MR_OK);
    put(w, rule, window, key, 1, false);
    assert_int_equal(mr_results_commit(w->results, w->seq), MR_OK);
}

static void only_rules_with_the_sink_are_sent(void **state_) {
    (void)state_;
    struct world w;
    open_world(&w, 1);
    for (uint32_t rule = 0; rule < 3; rule++) {
        for (uint64_t key = 0; key < 4; key++) {
            commit_one(&w, rule, 0, key);
        }
    }
    assert_true(run_until_idle(&w, UINT64_C(1000000000)));
    assert_int_equal(virtual_redis_keys(w.v, 0), 8);
    assert_int_equal(stats_of(&w).applied, 8);
    close_world(&w);
}

static void a_retraction_arrives(void **state_) {
    (void)state_;
    struct world w;
    open_world(&w, 1);
    commit_one(&w, 0, 0, 1);
    commit_one(&w, 0, 0, 2);
    assert_true(run_until_idle(&w, UINT64_C(1000000000)));
    w.seq++;
    assert_int_equal(mr_results_begin(w.results), MR_OK);
    retract(&w, 0, 0, 1);
    retract(&w, 0, 0, 3); /* which is not there */
    assert_int_equal(mr_results_commit(w.results, w.seq), MR_OK);
    assert_true(run_until_idle(&w, UINT64_C(1000000000)));
    assert_int_equal(assert_same(&w), 1);
    struct mr_buf encoded;
    struct mr_buf key;
    mr_buf_init(&encoded, 256);
    mr_buf_init(&key, 256);
    append_key(&encoded, 1);
    struct mr_pane pane = {.window_start_ms = w.base_ms, .key = mr_buf_bytes(&encoded)};
    assert_true(mr_redis_sink_key(&key, MR_BYTES("p:"), &w.rules[0], &pane));
    assert_true(has(&w, mr_buf_bytes(&key), "retracted", 1) && has(&w, mr_buf_bytes(&key), "revision", 1));
    assert_false(has(&w, mr_buf_bytes(&key), "n", 1));
    assert_int_equal(virtual_redis_keys(w.v, 0), 2);
    mr_buf_finish(&encoded);
    mr_buf_finish(&key);
    close_world(&w);
}

static void a_cursor_spares_copies(void **state_) {
    (void)state_;
    struct world w;
    open_world(&w, 1);
    for (uint64_t key = 0; key < 5; key++) {
        commit_one(&w, 0, 0, key);
    }
    assert_true(run_until_idle(&w, UINT64_C(1000000000)));
    mr_sinks_close(w.sinks);
    commit_one(&w, 0, 0, 7);
    open_sinks(&w);
    assert_true(run_until_idle(&w, UINT64_C(1000000000)));
    assert_int_equal(stats_of(&w).applied, 1);
    assert_int_equal(stats_of(&w).there_already, 0); /* nothing else was sent */
    mr_sinks_close(w.sinks);
    assert_int_equal(mr_disk_unlink(w.dir.disk, "d/SINK-live"), MR_OK);
    open_sinks(&w);
    assert_true(run_until_idle(&w, UINT64_C(1000000000)));
    assert_int_equal(stats_of(&w).there_already, 6);
    mr_sinks_close(w.sinks);
    for (uint64_t key = 0; key < OUTBOX_MAX + 1; key++) { /* the cursor's place is pruned */
        commit_one(&w, 0, 1, key);
    }
    open_sinks(&w);
    assert_true(run_until_idle(&w, UINT64_C(1000000000)));
    assert_int_equal(stats_of(&w).there_already, 6);
    assert_int_equal(stats_of(&w).applied, OUTBOX_MAX + 1);
    close_world(&w);
}

static void a_damaged_cursor_costs_a_copy(void **state_) {
    (void)state_;
    struct world w;
    struct mr_buf text;
    struct mr_error error;
    open_world(&w, 1);
    commit_one(&w, 0, 0, 1);
    commit_one(&w, 2, 0, 1);
    assert_true(run_until_idle(&w, UINT64_C(1000000000)));
    mr_sinks_close(w.sinks);
    mr_buf_init(&text, 4096);
    assert_int_equal(mr_datadir_read_sink(&w.dir, MR_BYTES("live"), &text, &error), MR_OK);
    for (size_t len = 0; len <= text.len; len++) { /* cut at every byte, and whole */
        assert_int_equal(mr_datadir_write_sink(&w.dir, MR_BYTES("live"), mr_bytes_of(text.ptr, len), &error), MR_OK);
        open_sinks(&w);
        assert_true(run_until_idle(&w, UINT64_C(1000000000)));
        assert_int_equal(stats_of(&w).there_already, len < text.len ? 2 : 0);
        mr_sinks_close(w.sinks);
    }
    mr_buf_finish(&text);
    open_sinks(&w);
    close_world(&w);
}

static void a_copy_leaves_out_what_is_over(void **state_) {
    (void)state_;
    struct world w;
    open_world(&w, 1);
    for (uint64_t key = 0; key < OUTBOX_MAX + 3; key++) {
        commit_one(&w, 0, 0, key); /* longer ago than ttl, when it is copied */
    }
    w.time.ns += UINT64_C(4000) * 1000000000;
    commit_one(&w, 0, 4000, 1);
    assert_true(run_until_idle(&w, UINT64_C(1000000000)));
    assert_int_equal(virtual_redis_keys(w.v, 0), 1);
    close_world(&w);
}

static void allocations_fail(void **state_) {
    (void)state_;
    struct world w;
    open_world(&w, 1);
    mr_sinks_close(w.sinks);
    w.sinks = NULL;
    struct mr_sinks_options options = {.plan = w.plan,
                                       .results_rules = w.rules,
                                       .results = w.results,
                                       .transports = &w.transport,
                                       .clock = &w.time.clock,
                                       .dir = &w.dir,
                                       .seed = 1};
    enum mr_status status = MR_NO_MEMORY;
    for (size_t nth = 1; status == MR_NO_MEMORY; nth++) {
        struct mr_error error;
        mr_alloc_fail_at(nth, 1);
        status = mr_sinks_open(&options, &w.sinks, &error);
        mr_alloc_fail_at(0, 0);
        assert_true((status == MR_OK) == (w.sinks != NULL));
    }
    assert_int_equal(status, MR_OK);
    for (size_t nth = 1; nth < 60; nth++) {
        commit_random(&w);
        mr_alloc_fail_at(nth, 0);
        for (int i = 0; i < 30; i++) {
            step(&w);
        }
        mr_alloc_fail_at(0, 0);
    }
    assert_true(run_until_idle(&w, UINT64_C(60000000000)));
    assert_same(&w);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_rules_with_the_sink_are_sent), cmocka_unit_test(a_cursor_spares_copies),
        cmocka_unit_test(a_damaged_cursor_costs_a_copy),     cmocka_unit_test(a_copy_leaves_out_what_is_over),
        cmocka_unit_test(allocations_fail),                  cmocka_unit_test(random_life),
        cmocka_unit_test(a_retraction_arrives),
    };
    mr_report_configure(-1, MR_LEVEL_ERROR, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
