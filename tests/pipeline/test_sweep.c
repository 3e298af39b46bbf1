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
#include "tests/pipeline/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SHARDS = 2, BATCHES = 6, EVENTS = 5, KEYS = 3 };

/* Which batches were acknowledged. */
struct client {
    bool acknowledged[BATCHES];
};

static const int64_t epoch_ms = INT64_C(1700000000000);

static void open_node(struct node *node) {
    node_open(node,
              "node: { data_dir: data, shards: 2 }\n"
              "limits: { body: 64KiB, inflated: 64KiB, event: 4KiB, batch_events: 1000, in_flight: 1MiB }\n"
              "log: { segment: 1200KiB, reserve: 0 }\n"
              "checkpoint: { every: 1d }\n"
              "streams: { s: { id: id, time: { field: ts, format: ms },\n"
              "  dedup: { mode: exact, horizon: 24h, ids: 1000 },\n"
              "  watermark: { out_of_orderness: 0s, idle_timeout: off } } }\n"
              "rules: { r: { from: s, group_by: [key], window: { type: tumbling, size: 1s },\n"
              "  allowed_lateness: 100s, metrics: { n: count, total: { sum: value } } } }\n",
              epoch_ms);
}

static enum mr_status start(struct node *node) {
    struct mr_error error;
    enum mr_status status = node_start(node, &error);
    assert_true(status != MR_CORRUPT && status != MR_MISMATCH);
    return status;
}

static bool send(struct node *node, uint32_t number) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    for (uint32_t i = 0; i < EVENTS; i++) {
        uint32_t id = number * EVENTS + i;
        mr_buf_printf(&body, "{\"id\":\"%u\",\"ts\":%lld,\"key\":\"k%u\",\"value\":%u}\n", id,
                      (long long)epoch_ms + number * 1000, id % KEYS, id);
    }
    return node_send(node, &body);
}

static void scan(struct node *node) {
    struct mr_ask ask = {.kind = MR_ASK_SCAN,
                         .scan = {.from_ms = INT64_MIN,
                                  .to_ms = INT64_MAX,
                                  .order = MR_SCAN_ORDER_WINDOW,
                                  .limit = 100}};
    (void)node_ask(node, &ask); /* a scan without memory says so in its results */
    for (uint32_t i = 0; i < SHARDS; i++) {
        mr_buf_finish(&ask.results[i].rows);
    }
}

static void live(struct node *node, struct client *client) {
    for (uint32_t i = 0; i < BATCHES && node->pipeline != NULL && !node_failed(node); i++) {
        client->acknowledged[i] = send(node, i) || client->acknowledged[i];
        if (i % 2 == 1 && !node_failed(node)) {
            struct mr_ask ask = {.kind = MR_ASK_CHECKPOINT};
            (void)node_ask(node, &ask); /* it may fail, and another be made */
        }
    }
    if (node->pipeline != NULL && !node_failed(node)) {
        scan(node);
    }
    if (node->pipeline != NULL && !node_failed(node)) {
        struct mr_ask ask = {.kind = MR_ASK_FLUSH};
        (void)node_ask(node, &ask);
    }
}

/* ---- what must be so ---- */

static bool add_row(void *ctx, const struct mr_pane *row) {
    (void)row;
    *(uint64_t *)ctx += row->events;
    return true;
}

static void check(struct node *node, const struct client *client) {
    assert_int_equal(start(node), MR_OK);
    assert_true(node_become_live(node));
    for (uint32_t i = 0; i < BATCHES; i++) {
        assert_true(send(node, i));
        if (client->acknowledged[i]) {
            assert_int_equal(node->answer.duplicate, EVENTS);
        }
    }
    assert_true(send(node, BATCHES)); /* closes the windows of those before it */
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    assert_true(node_ask(node, &flush));
    struct mr_stream_stats stats;
    mr_pipeline_stream_stats(node->pipeline, 0, &stats);
    assert_int_equal(stats.accepted, (BATCHES + 1) * EVENTS);
    assert_int_equal(stats.received, stats.accepted + stats.duplicate);
    uint64_t events = 0;
    mr_memory_results_each(node->results, 0, add_row, &events);
    assert_int_equal(events, BATCHES * EVENTS);
    node_stop(node);
}

enum fault { FAULT_DISK, FAULT_MEMORY };

/* Returns whether the fault was met: a run beyond the last place is a healthy one. */
static bool run(enum fault fault, uint64_t nth, bool forever) {
    struct node node;
    struct client client = {.acknowledged = {false}};
    open_node(&node);
    uint64_t before = virtual_disk_op_count(node.disk, VIRTUAL_DISK_ALL);
    if (fault == FAULT_DISK) {
        virtual_disk_fail(node.disk, nth, VIRTUAL_DISK_ALL,
                          forever ? VIRTUAL_DISK_FOREVER : VIRTUAL_DISK_ONCE, MR_IO);
    } else {
        mr_alloc_fail_at(nth, forever);
    }
    if (start(&node) == MR_OK) {
        if (node_become_live(&node)) {
            live(&node, &client);
        }
        node_stop(&node);
    }
    bool met = fault == FAULT_DISK
                   ? virtual_disk_op_count(node.disk, VIRTUAL_DISK_ALL) - before >= nth
                   : mr_alloc_failed();
    mr_alloc_fail_at(0, 0);
    virtual_disk_fail(node.disk, 0, 0, VIRTUAL_DISK_ONCE, MR_IO);
    virtual_disk_crash(node.disk);
    mr_memory_results_crash(node.results);
    check(&node, &client);
    node_close(&node);
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
