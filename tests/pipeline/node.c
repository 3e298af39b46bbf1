/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/pipeline/node.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { STEP_MS = 7 };

static int64_t wall_ms(struct mr_clock *clock) {
    return ((struct node_clock *)(void *)clock)->wall_ms;
}

static uint64_t mono_ns(struct mr_clock *clock) {
    return ((struct node_clock *)(void *)clock)->mono_ns;
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

struct mr_results *node_open_results(const struct node *node) {
    struct mr_memory_results_options options = {.rules = node->rules, .rule_count = 1};
    return mr_memory_results_open(&options);
}

void node_open(struct node *node, const char *yaml, int64_t wall_ms_now) {
    *node = (struct node){.clock = {{wall_ms, mono_ns}, wall_ms_now, 1000000000}};
    char *environment[] = {NULL};
    struct mr_error error;
    if (mr_config_parse(mr_bytes_text(yaml), "test", environment, &node->config, &error) != MR_OK) {
        fail_msg("%s", error.text);
    }
    struct mr_hash_key key = {{7}};
    assert_int_equal(mr_plan_open(node->config, &key, false, &node->plan, &error), MR_OK);
    node->rules = mr_data_results_rules(node->plan);
    node->results = node_open_results(node);
    assert_int_equal(mr_decoder_open(MR_DECODE_AUTO, &node->decoder), MR_OK);
    node->disk = virtual_disk_open(1);
}

void node_close(struct node *node) {
    mr_results_close(node->results);
    mr_free(node->rules);
    mr_plan_close(node->plan);
    mr_decoder_close(node->decoder);
    mr_config_close(node->config);
    virtual_disk_close(node->disk);
}

enum mr_status node_start(struct node *node, struct mr_error *error) {
    struct mr_data_options options = {.disk = virtual_disk_disk(node->disk),
                                      .clock = &node->clock.base,
                                      .config = node->config,
                                      .open_results = lend_results,
                                      .close_results = take_back,
                                      .ctx = node};
    error->text[0] = '\0';
    node->pipeline = NULL;
    enum mr_status status = mr_data_open(&options, &node->data, error);
    if (status == MR_OK) {
        status = mr_data_pipeline(&node->data, &node->pipeline, error);
        if (status != MR_OK) {
            node->pipeline = NULL;
            mr_data_close(&node->data);
        }
    }
    assert_true(status == MR_OK || error->text[0] != '\0'); /* a person is told */
    return status;
}

void node_stop(struct node *node) {
    if (node->pipeline != NULL) {
        mr_pipeline_close(node->pipeline);
        mr_data_close(&node->data);
        node->pipeline = NULL;
    }
}

bool node_failed(const struct node *node) {
    return mr_pipeline_failure(node->pipeline, NULL) != MR_OK;
}

void node_step(struct node *node) {
    node->clock.wall_ms += STEP_MS;
    node->clock.mono_ns += STEP_MS * 1000000;
    uint32_t flusher = node->data.plan->shards + 1;
    for (uint32_t i = 0; i < mr_pipeline_stations(node->pipeline); i++) {
        if (i != flusher || !node->flusher_stands) {
            (void)mr_pipeline_step(node->pipeline, i); /* whether it worked is seen by what comes out */
        }
    }
}

bool node_become_live(struct node *node) {
    for (uint32_t n = 0;
         n < NODE_STEPS_MAX && !mr_pipeline_live(node->pipeline) && !node_failed(node); n++) {
        node_step(node);
    }
    return mr_pipeline_live(node->pipeline) && !node_failed(node);
}

/* ---- a client ---- */

static void answered(struct mr_batch *batch, void *ctx) {
    struct node_answer *answer = &((struct node *)ctx)->answer;
    answer->given = true;
    answer->refusal = batch->refusal;
    answer->taken = batch->refusal == MR_REFUSAL_NONE;
    for (uint32_t i = 0; answer->taken && i < batch->count; i++) {
        answer->accepted += batch->verdicts[i] == MR_VERDICT_ACCEPTED;
        answer->duplicate += batch->verdicts[i] == MR_VERDICT_DUPLICATE;
        answer->late += batch->verdicts[i] == MR_VERDICT_LATE;
        answer->rejected += batch->verdicts[i] == MR_VERDICT_REJECTED;
    }
    mr_batch_close(batch);
}

bool node_submit(struct node *node, struct mr_batch *batch) {
    batch->done = answered;
    batch->ctx = node;
    node->answer = (struct node_answer){.given = false};
    if (!mr_pipeline_submit(node->pipeline, batch)) {
        mr_batch_close(batch);
        return false;
    }
    for (uint32_t n = 0; n < NODE_STEPS_MAX && !node->answer.given && !node_failed(node); n++) {
        node_step(node);
    }
    return node->answer.given && node->answer.taken;
}

bool node_send(struct node *node, struct mr_buf *body) {
    (void)mr_buf_reserve(body, MR_PADDING); /* failed tells */
    struct mr_batch *batch = NULL;
    struct mr_error error;
    enum mr_status status = body->failed
                                ? MR_NO_MEMORY
                                : mr_decode(node->decoder, node->data.plan->streams[0].schema,
                                            MR_FORMAT_NDJSON, body, &batch, &error);
    if (status != MR_OK) {
        mr_buf_finish(body);
        return false;
    }
    return node_submit(node, batch);
}

static void asked(struct mr_ask *ask, void *ctx) {
    (void)ask;
    *(bool *)ctx = true;
}

bool node_ask(struct node *node, struct mr_ask *ask) {
    bool done = false;
    ask->done = asked;
    ask->ctx = &done;
    bool sent = ask->kind == MR_ASK_CHECKPOINT ? mr_pipeline_checkpoint(node->pipeline, ask)
                                               : mr_pipeline_ask(node->pipeline, ask);
    assert_true(sent);
    for (uint32_t n = 0; n < NODE_STEPS_MAX && !done && !node_failed(node); n++) {
        node_step(node);
    }
    if (!done) {
        node_stop(node);
        assert_true(done && ask->closed); /* closing answers everything */
    }
    return !ask->closed;
}

void node_must_start(struct node *node) {
    struct mr_error error;
    if (node_start(node, &error) != MR_OK) {
        fail_msg("%s", error.text);
    }
    assert_true(node_become_live(node));
}

void node_lose_power(struct node *node) {
    node_stop(node);
    virtual_disk_set_fates(node->disk, 1u << VIRTUAL_DISK_DROPPED);
    virtual_disk_crash(node->disk);
    mr_memory_results_crash(node->results);
}

void node_save(struct node *node) {
    struct mr_ask ask = {.kind = MR_ASK_CHECKPOINT};
    assert_true(node_ask(node, &ask));
    assert_int_equal(ask.status, MR_OK);
}
