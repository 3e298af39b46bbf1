/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pipeline with its threads, as the server runs it (also under TSan):
 *   1. three producers send overlapping ids at once while two others ask; what comes out is counted once: the
 *      ledger holds, and the rows' events are the distinct ids;
 *   2. what was acknowledged before a question was asked is in its answer;
 *   3. stop drains: everything submitted is answered, and a second start replays to the same rows;
 *   4. after stop has begun, batches come back refused.
 */
#include "base/alloc.h"
#include "base/event_count.h"
#include "base/report.h"
#include "pipeline/data.h"
#include "tests/sink/memory_results.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { PRODUCERS = 3, BATCHES = 60, EVENTS = 40, IDS = 2500, SHARDS = 3 };

struct node {
    struct mr_config *config;
    struct mr_data data;
    struct mr_results *results;
    struct mr_results_rule *rules;
    struct mr_plan *plan; /* lends its names to the results store, over restarts */
    struct mr_pipeline *pipeline;
    char directory[64];
};

static void open_config(struct node *node) {
    char text[1024];
    (void)snprintf(text, sizeof text,
                   "node: { data_dir: %s/data, shards: %d }\n"
                   "log: { segment: 70MiB, reserve: 0 }\n"
                   "streams: { s: { id: id, time: { field: ts, format: ms },\n"
                   "  dedup: { mode: exact, horizon: 24h, ids: 100000 },\n"
                   "  watermark: { out_of_orderness: 1s, idle_timeout: off } } }\n"
                   "rules: { r: { from: s, group_by: [key], window: { type: tumbling, size: 1s },\n"
                   "  allowed_lateness: 1s, metrics: { n: count, total: { sum: value } } } }\n",
                   node->directory, SHARDS);
    char *environment[] = {NULL};
    struct mr_error error;
    if (mr_config_parse(mr_bytes_text(text), "test", environment, &node->config, &error) != MR_OK) {
        fail_msg("%s", error.text);
    }
}

static enum mr_status lend_results(void *ctx, const struct mr_data *data, struct mr_results **ret,
                                   struct mr_error *error) {
    (void)data;
    (void)error;
    *ret = ((struct node *)ctx)->results;
    return MR_OK;
}

static void take_back(void *ctx, struct mr_results *results) {
    (void)ctx;
    (void)results;
}

static enum mr_status open_data(struct node *node, struct mr_data *data, struct mr_error *error) {
    struct mr_data_options options = {.disk = mr_disk_system(),
                                      .clock = mr_clock_system(),
                                      .config = node->config,
                                      .open_results = lend_results,
                                      .close_results = take_back,
                                      .ctx = node};
    return mr_data_open(&options, data, error);
}

static void start(struct node *node) {
    struct mr_error error;
    if (open_data(node, &node->data, &error) != MR_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(mr_data_pipeline(&node->data, &node->pipeline, &error), MR_OK);
    assert_int_equal(mr_pipeline_start(node->pipeline), MR_OK);
    while (!mr_pipeline_live(node->pipeline)) {
        (void)usleep(1000); /* replay is a thing of milliseconds here; there is nothing to wait on */
    }
}

static void stop(struct node *node) {
    mr_pipeline_stop(node->pipeline);
    mr_pipeline_close(node->pipeline);
    mr_data_close(&node->data);
}

static int set_up(void **state) {
    mr_report_configure(-1, MR_LEVEL_ERROR, NULL);
    struct node *node = calloc(1, sizeof *node);
    (void)snprintf(node->directory, sizeof node->directory, "/tmp/millrace-pipeline-XXXXXX");
    assert_non_null(mkdtemp(node->directory));
    open_config(node);
    struct mr_error error;
    struct mr_hash_key key = {{1}};
    assert_int_equal(mr_plan_open(node->config, &key, false, &node->plan, &error), MR_OK);
    node->rules = mr_data_results_rules(node->plan);
    struct mr_memory_results_options options = {.rules = node->rules, .rule_count = 1};
    node->results = mr_memory_results_open(&options);
    *state = node;
    return 0;
}

static int tear_down(void **state) {
    struct node *node = *state;
    mr_results_close(node->results);
    mr_free(node->rules);
    mr_plan_close(node->plan);
    mr_config_close(node->config);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", node->directory);
    assert_int_equal(system(command), 0);
    free(node);
    return 0;
}

/* ---- producers ---- */

struct reply {
    struct mr_event_count ready;
    uint64_t counts[256];
    enum mr_refusal refusal;
};

static void answered(struct mr_batch *batch, void *ctx) {
    struct reply *reply = ctx;
    reply->refusal = batch->refusal;
    for (uint32_t i = 0; batch->refusal == MR_REFUSAL_NONE && i < batch->count; i++) {
        reply->counts[batch->verdicts[i]]++;
    }
    mr_batch_close(batch);
    mr_event_count_signal(&reply->ready);
}

static struct mr_batch *make_batch(struct node *node, struct mr_decoder *decoder, uint32_t *random,
                                   struct reply *reply) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    for (uint32_t i = 0; i < EVENTS; i++) {
        *random = *random * 1664525 + 1013904223;
        uint32_t id = (*random >> 8) % IDS;
        /* An event is a function of its id, so that every copy is the same. */
        mr_buf_printf(&body, "{\"id\":\"%u\",\"ts\":%lld,\"key\":\"k%u\",\"value\":%u}\n", id,
                      1700000000000LL + id % 900, id % 17, id);
    }
    (void)mr_buf_reserve(&body, MR_PADDING);
    struct mr_batch *batch = NULL;
    struct mr_error error;
    assert_int_equal(mr_decode(decoder, node->data.plan->streams[0].schema, MR_FORMAT_NDJSON, &body,
                               &batch, &error),
                     MR_OK);
    batch->stream = 0;
    batch->done = answered;
    batch->ctx = reply;
    return batch;
}

/* Sends one batch and waits for its answer. */
static void exchange(struct node *node, struct mr_decoder *decoder, uint32_t *random,
                     struct reply *reply) {
    struct mr_batch *batch = make_batch(node, decoder, random, reply);
    uint32_t value = mr_event_count_value(&reply->ready);
    uint32_t before = value;
    assert_true(mr_pipeline_submit(node->pipeline, batch));
    while (value == before) {
        mr_event_count_wait(&reply->ready, value, UINT64_MAX);
        value = mr_event_count_value(&reply->ready);
    }
}

struct producer {
    struct node *node;
    uint32_t random;
    uint64_t accepted;
    uint64_t duplicate;
};

static void *produce(void *ctx) {
    struct producer *p = ctx;
    struct mr_decoder *decoder = NULL;
    assert_int_equal(mr_decoder_open(MR_DECODE_AUTO, &decoder), MR_OK);
    struct reply reply = {.refusal = MR_REFUSAL_NONE};
    mr_event_count_init(&reply.ready);
    for (uint32_t i = 0; i < BATCHES; i++) {
        exchange(p->node, decoder, &p->random, &reply);
        assert_int_equal(reply.refusal, MR_REFUSAL_NONE);
    }
    p->accepted = reply.counts[MR_VERDICT_ACCEPTED];
    p->duplicate = reply.counts[MR_VERDICT_DUPLICATE];
    mr_decoder_close(decoder);
    return NULL;
}

/* ---- questions ---- */

static void asked(struct mr_ask *ask, void *ctx) {
    (void)ask;
    mr_event_count_signal(ctx);
}

static void ask_and_wait(struct node *node, struct mr_ask *ask) {
    struct mr_event_count done;
    mr_event_count_init(&done);
    uint32_t value = mr_event_count_value(&done);
    ask->done = asked;
    ask->ctx = &done;
    assert_true(mr_pipeline_ask(node->pipeline, ask));
    while (mr_event_count_value(&done) == value) {
        mr_event_count_wait(&done, value, UINT64_MAX);
    }
    assert_false(ask->closed);
}

/* Events in all windows in memory; the watermark is held below every window's end, so that is all. */
static uint64_t count_rows(struct node *node) {
    struct mr_ask *ask = calloc(1, sizeof *ask);
    ask->kind = MR_ASK_SCAN;
    ask->scan = (struct mr_scan){.from_ms = INT64_MIN,
                                 .to_ms = INT64_MAX,
                                 .order = MR_SCAN_ORDER_WINDOW,
                                 .limit = 100000};
    ask_and_wait(node, ask);
    uint64_t events = 0;
    for (uint32_t i = 0; i < SHARDS; i++) {
        assert_int_equal(ask->results[i].status, MR_OK);
        struct mr_bytes rest = mr_buf_bytes(&ask->results[i].rows);
        struct mr_row row;
        while (mr_row_next(&rest, &row)) {
            events += row.events;
        }
        mr_buf_finish(&ask->results[i].rows);
    }
    free(ask);
    return events;
}

static void *question(void *ctx) {
    struct node *node = ctx;
    uint64_t last = 0;
    for (uint32_t i = 0; i < 20; i++) {
        uint64_t events = count_rows(node);
        assert_true(events >= last);
        last = events;
        struct mr_ask ask = {.kind = MR_ASK_FLUSH};
        ask_and_wait(node, &ask);
    }
    return NULL;
}

static void check_ledger(struct node *node, uint64_t accepted) {
    struct mr_stream_stats s;
    mr_pipeline_stream_stats(node->pipeline, 0, &s);
    assert_int_equal(s.accepted, accepted);
    assert_int_equal(s.received, s.accepted + s.duplicate + s.late + s.rejected);
    struct mr_rule_stats r;
    mr_pipeline_rule_stats(node->pipeline, 0, &r);
    assert_int_equal(r.applied, accepted);
}

static void many_producers_are_counted_once(void **state) {
    struct node *node = *state;
    start(node);
    static struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS + 2];
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.node = node, .random = 7 + i};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    for (uint32_t i = PRODUCERS; i < PRODUCERS + 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, question, node), 0);
    }
    uint64_t accepted = 0;
    for (uint32_t i = 0; i < PRODUCERS + 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        accepted += producers[i].accepted;
        assert_int_equal(producers[i].accepted + producers[i].duplicate, BATCHES * EVENTS);
    }
    assert_true(accepted > IDS / 2 && accepted <= IDS);
    assert_int_equal(count_rows(node), accepted);
    check_ledger(node, accepted);
    stop(node);

    start(node); /* replays */
    assert_int_equal(count_rows(node), accepted);
    check_ledger(node, accepted);
    stop(node);
}

static void an_answer_holds_what_was_acknowledged(void **state) {
    struct node *node = *state;
    start(node);
    struct mr_decoder *decoder = NULL;
    assert_int_equal(mr_decoder_open(MR_DECODE_AUTO, &decoder), MR_OK);
    struct reply reply = {.refusal = MR_REFUSAL_NONE};
    mr_event_count_init(&reply.ready);
    uint32_t random = 99;
    for (uint32_t i = 0; i < 20; i++) {
        exchange(node, decoder, &random, &reply);
        assert_int_equal(count_rows(node), reply.counts[MR_VERDICT_ACCEPTED]);
    }
    mr_decoder_close(decoder);
    stop(node);
}

static void stop_refuses_what_comes_later(void **state) {
    struct node *node = *state;
    start(node);
    struct mr_decoder *decoder = NULL;
    assert_int_equal(mr_decoder_open(MR_DECODE_AUTO, &decoder), MR_OK);
    struct reply reply = {.refusal = MR_REFUSAL_NONE};
    mr_event_count_init(&reply.ready);
    uint32_t random = 5;
    mr_pipeline_stop(node->pipeline);
    assert_true(mr_pipeline_submit(node->pipeline, make_batch(node, decoder, &random, &reply)));
    mr_pipeline_close(node->pipeline);
    assert_int_equal(reply.refusal, MR_REFUSAL_DRAINING);
    mr_decoder_close(decoder);
    mr_data_close(&node->data);
}

static void one_process_a_directory(void **state) {
    struct node *node = *state;
    start(node);
    struct mr_data other;
    struct mr_error error;
    assert_int_equal(open_data(node, &other, &error), MR_BUSY);
    assert_non_null(strstr(error.text, "in use by another millrace process"));
    stop(node);
}

static void another_id_is_refused(void **state) {
    struct node *node = *state;
    start(node);
    stop(node);
    node->config->streams[0].id[0] = MR_BYTES("key");
    struct mr_data data;
    struct mr_error error;
    assert_int_equal(open_data(node, &data, &error), MR_MISMATCH);
    assert_non_null(strstr(error.text, "id"));
}

int main(void) {
#define WITH_NODE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_NODE(many_producers_are_counted_once), WITH_NODE(an_answer_holds_what_was_acknowledged),
        WITH_NODE(stop_refuses_what_comes_later),   WITH_NODE(one_process_a_directory),
        WITH_NODE(another_id_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
