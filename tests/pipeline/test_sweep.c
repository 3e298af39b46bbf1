/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sweeps: a small node is started, fed, flushed, asked, saved and stopped, and in each run one more thing fails: the k-th
 * operation on the disk, or the k-th allocation, once or for ever. Whatever fails:
 *   1. nothing crashes, leaks or hangs: a start gives an error with a text, a running node refuses, retries or fails;
 *   2. after a power cut and a start without faults every event that was acknowledged is a duplicate, and when all were
 *      sent again each is counted exactly once.
 *
 * SWEEP_STEP=n looks at every n-th place only (default: a step that keeps the test short), SWEEP_STEP=1 at all.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/report.h"
#include "pipeline/data.h"
#include "tests/disk/virtual_disk.h"
#include "tests/sink/memory_results.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SHARDS = 2, BATCHES = 6, EVENTS = 5, KEYS = 3, STEPS_MAX = 4000 };

struct clock {
    struct mr_clock base;
    int64_t wall_ms;
    uint64_t mono_ns;
};

struct node {
    struct clock clock;
    struct virtual_disk *disk;
    struct mr_config *config;
    struct mr_plan *plan; /* lends its names to the results store, over restarts */
    struct mr_results_rule *rules;
    struct mr_results *results;
    struct mr_decoder *decoder;
    struct mr_data data;
    struct mr_pipeline *pipeline;
    bool acknowledged[BATCHES];
    uint32_t duplicates; /* of the last batch answered */
    bool answered;
    bool taken;
};

static const int64_t epoch_ms = INT64_C(1700000000000);

static int64_t wall_ms(struct mr_clock *clock) {
    return ((struct clock *)(void *)clock)->wall_ms;
}

static uint64_t mono_ns(struct mr_clock *clock) {
    return ((struct clock *)(void *)clock)->mono_ns;
}

/* ---- life ---- */

static enum mr_status lend_results(void *ctx, const struct mr_data *data, struct mr_results **ret,
                                   struct mr_error *error) {
    (void)data;
    (void)error;
    *ret = ((struct node *)ctx)->results;
    return MR_OK;
}

static void take_back(void *ctx, struct mr_results *results) {
    (void)ctx;
    mr_results_rollback(results);
}

static void open_node(struct node *node) {
    static const char text[] =
        "node: { data_dir: data, shards: 2 }\n"
        "limits: { body: 64KiB, inflated: 64KiB, event: 4KiB, batch_events: 1000, in_flight: 1MiB }\n"
        "log: { segment: 1200KiB, reserve: 0 }\n"
        "checkpoint: { every: 1d }\n"
        "streams: { s: { id: id, time: { field: ts, format: ms },\n"
        "  dedup: { mode: exact, horizon: 24h, ids: 1000 },\n"
        "  watermark: { out_of_orderness: 0s, idle_timeout: off } } }\n"
        "rules: { r: { from: s, group_by: [key], window: { type: tumbling, size: 1s },\n"
        "  allowed_lateness: 100s, metrics: { n: count, total: { sum: value } } } }\n";
    *node = (struct node){.clock = {{wall_ms, mono_ns}, epoch_ms, 1000000000}};
    char *environment[] = {NULL};
    struct mr_error error;
    if (mr_config_parse(mr_bytes_text(text), "sweep", environment, &node->config, &error) != MR_OK) {
        fail_msg("%s", error.text);
    }
    struct mr_hash_key key = {{7}};
    assert_int_equal(mr_plan_open(node->config, &key, false, &node->plan, &error), MR_OK);
    node->rules = mr_data_results_rules(node->plan);
    struct mr_memory_results_options options = {node->rules, 1, 0};
    node->results = mr_memory_results_open(&options);
    assert_int_equal(mr_decoder_open(MR_DECODE_AUTO, &node->decoder), MR_OK);
    node->disk = virtual_disk_open(1);
}

static void close_node(struct node *node) {
    mr_results_close(node->results);
    mr_free(node->rules);
    mr_plan_close(node->plan);
    mr_decoder_close(node->decoder);
    mr_config_close(node->config);
    virtual_disk_close(node->disk);
}

static enum mr_status start(struct node *node) {
    struct mr_error error = {.text = ""};
    struct mr_data_options options = {.disk = virtual_disk_disk(node->disk),
                                      .clock = &node->clock.base,
                                      .config = node->config,
                                      .open_results = lend_results,
                                      .close_results = take_back,
                                      .ctx = node};
    node->pipeline = NULL;
    enum mr_status status = mr_data_open(&options, &node->data, &error);
    if (status == MR_OK) {
        status = mr_data_pipeline(&node->data, &node->pipeline, &error);
        if (status != MR_OK) {
            node->pipeline = NULL;
            mr_data_close(&node->data);
        }
    }
    assert_true(status == MR_OK || error.text[0] != '\0'); /* a person is told */
    assert_true(status != MR_CORRUPT && status != MR_MISMATCH);
    return status;
}

static void stop(struct node *node) {
    if (node->pipeline != NULL) {
        mr_pipeline_close(node->pipeline);
        mr_data_close(&node->data);
        node->pipeline = NULL;
    }
}

static bool failed(const struct node *node) {
    return mr_pipeline_failure(node->pipeline, NULL) != MR_OK;
}

static void step_all(struct node *node) {
    node->clock.wall_ms += 7;
    node->clock.mono_ns += 7 * 1000000;
    for (uint32_t i = 0; i < mr_pipeline_stations(node->pipeline); i++) {
        (void)mr_pipeline_step(node->pipeline, i); /* whether it worked is seen by what comes out */
    }
}

/* ---- a client ---- */

static void answered(struct mr_batch *batch, void *ctx) {
    struct node *node = ctx;
    node->answered = true;
    node->taken = batch->refusal == MR_REFUSAL_NONE;
    node->duplicates = 0;
    for (uint32_t i = 0; node->taken && i < batch->count; i++) {
        node->duplicates += batch->verdicts[i] == MR_VERDICT_DUPLICATE;
    }
    mr_batch_close(batch);
}

static bool send(struct node *node, uint32_t number) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    for (uint32_t i = 0; i < EVENTS; i++) {
        uint32_t id = number * EVENTS + i;
        mr_buf_printf(&body, "{\"id\":\"%u\",\"ts\":%lld,\"key\":\"k%u\",\"value\":%u}\n", id,
                      (long long)epoch_ms + number * 1000, id % KEYS, id);
    }
    (void)mr_buf_reserve(&body, MR_PADDING); /* body.failed tells */
    struct mr_batch *batch = NULL;
    struct mr_error error;
    enum mr_status status = body.failed ? MR_NO_MEMORY
                                        : mr_decode(node->decoder, node->data.plan->streams[0].schema,
                                                    MR_FORMAT_NDJSON, &body, &batch, &error);
    if (status != MR_OK) {
        mr_buf_finish(&body);
        return false;
    }
    batch->done = answered;
    batch->ctx = node;
    node->answered = false;
    if (!mr_pipeline_submit(node->pipeline, batch)) {
        mr_batch_close(batch);
        return false;
    }
    for (uint32_t n = 0; n < STEPS_MAX && !node->answered && !failed(node); n++) {
        step_all(node);
    }
    return node->answered && node->taken;
}

static void asked(struct mr_ask *ask, void *ctx) {
    (void)ask;
    *(bool *)ctx = true;
}

/* False: no answer, because the node has failed or cannot write. Then the node is stopped, so that ask may go. */
static bool ask_node(struct node *node, struct mr_ask *ask) {
    bool done = false;
    ask->done = asked;
    ask->ctx = &done;
    bool sent = ask->kind == MR_ASK_CHECKPOINT ? mr_pipeline_checkpoint(node->pipeline, ask)
                                               : mr_pipeline_ask(node->pipeline, ask);
    assert_true(sent);
    for (uint32_t n = 0; n < STEPS_MAX && !done && !failed(node); n++) {
        step_all(node);
    }
    if (!done) {
        stop(node);
        assert_true(done && ask->closed); /* closing answers everything */
    }
    return !ask->closed;
}

static bool become_live(struct node *node) {
    for (uint32_t n = 0; n < STEPS_MAX && !mr_pipeline_live(node->pipeline) && !failed(node); n++) {
        step_all(node);
    }
    return mr_pipeline_live(node->pipeline) && !failed(node);
}

static void scan(struct node *node) {
    struct mr_ask ask = {.kind = MR_ASK_SCAN,
                         .scan = {.from_ms = INT64_MIN,
                                  .to_ms = INT64_MAX,
                                  .order = MR_SCAN_ORDER_WINDOW,
                                  .limit = 100}};
    (void)ask_node(node, &ask); /* a scan without memory says so in its results */
    for (uint32_t i = 0; i < SHARDS; i++) {
        mr_buf_finish(&ask.results[i].rows);
    }
}

static void live(struct node *node) {
    for (uint32_t i = 0; i < BATCHES && node->pipeline != NULL && !failed(node); i++) {
        node->acknowledged[i] = send(node, i) || node->acknowledged[i];
        if (i % 2 == 1 && !failed(node)) {
            struct mr_ask ask = {.kind = MR_ASK_CHECKPOINT};
            (void)ask_node(node, &ask); /* it may fail, and another be made */
        }
    }
    if (node->pipeline != NULL && !failed(node)) {
        scan(node);
    }
    if (node->pipeline != NULL && !failed(node)) {
        struct mr_ask ask = {.kind = MR_ASK_FLUSH};
        (void)ask_node(node, &ask);
    }
}

/* ---- what must be so ---- */

static bool add_row(void *ctx, const struct mr_pane *row) {
    (void)row;
    *(uint64_t *)ctx += row->events;
    return true;
}

static void check(struct node *node) {
    assert_int_equal(start(node), MR_OK);
    assert_true(become_live(node));
    for (uint32_t i = 0; i < BATCHES; i++) {
        assert_true(send(node, i));
        if (node->acknowledged[i]) {
            assert_int_equal(node->duplicates, EVENTS);
        }
    }
    assert_true(send(node, BATCHES)); /* closes the windows of those before it */
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    assert_true(ask_node(node, &flush));
    struct mr_stream_stats stats;
    mr_pipeline_stream_stats(node->pipeline, 0, &stats);
    assert_int_equal(stats.accepted, (BATCHES + 1) * EVENTS);
    assert_int_equal(stats.received, stats.accepted + stats.duplicate);
    uint64_t events = 0;
    mr_memory_results_each(node->results, 0, add_row, &events);
    assert_int_equal(events, BATCHES * EVENTS);
    stop(node);
}

enum fault { FAULT_DISK, FAULT_MEMORY };

/* Returns whether the fault was met: a run beyond the last place is a healthy one. */
static bool run(enum fault fault, uint64_t nth, bool forever) {
    struct node node;
    open_node(&node);
    uint64_t before = virtual_disk_op_count(node.disk, VIRTUAL_DISK_ALL);
    if (fault == FAULT_DISK) {
        virtual_disk_fail(node.disk, nth, VIRTUAL_DISK_ALL,
                          forever ? VIRTUAL_DISK_FOREVER : VIRTUAL_DISK_ONCE, MR_IO);
    } else {
        mr_alloc_fail_at(nth, forever);
    }
    if (start(&node) == MR_OK) {
        if (become_live(&node)) {
            live(&node);
        }
        stop(&node);
    }
    bool met = fault == FAULT_DISK
                   ? virtual_disk_op_count(node.disk, VIRTUAL_DISK_ALL) - before >= nth
                   : mr_alloc_failed();
    mr_alloc_fail_at(0, 0);
    virtual_disk_fail(node.disk, 0, 0, VIRTUAL_DISK_ONCE, MR_IO);
    virtual_disk_crash(node.disk);
    mr_memory_results_crash(node.results);
    check(&node);
    close_node(&node);
    return met;
}

static void sweep(enum fault fault, bool forever, uint64_t step) {
    const char *told = getenv("SWEEP_STEP");
    step = told != NULL ? strtoull(told, NULL, 10) : step;
    uint64_t nth = 1;
    while (run(fault, nth, forever)) {
        nth += step;
    }
    assert_true(nth > 100); /* it did something */
    print_message("%llu places, every %llu\n", (unsigned long long)nth, (unsigned long long)step);
}

static void disk_once(void **state) {
    (void)state;
    sweep(FAULT_DISK, false, 1);
}

static void disk_for_ever(void **state) {
    (void)state;
    sweep(FAULT_DISK, true, 1);
}

static void memory_once(void **state) {
    (void)state;
    sweep(FAULT_MEMORY, false, 1);
}

static void memory_for_ever(void **state) {
    (void)state;
    sweep(FAULT_MEMORY, true, 3);
}

int main(void) {
    mr_report_configure(-1, MR_LEVEL_ERROR, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disk_once),
        cmocka_unit_test(disk_for_ever),
        cmocka_unit_test(memory_once),
        cmocka_unit_test(memory_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
