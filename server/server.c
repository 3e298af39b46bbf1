/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server.h"

#include "base/alloc.h"
#include "base/check.h"
#include "server/http.h"

enum { ASK_MAGIC = 0x6d724171, ASK_ROUND_NS = 50 * 1000 * 1000 };

/* A question under way. It has memory of its own, so that an asker who gives up (the server closes
 * while the pipeline stands still) leaves it to the callback.
 *
 *     WAITING ──done──▶ DONE         the asker frees it
 *        └─────close──▶ ABANDONED    the callback frees it
 */
enum question_state { QUESTION_WAITING, QUESTION_DONE, QUESTION_ABANDONED };

struct question {
    struct mr_ask ask; /* first: done gets its address */
    uint32_t magic;
    uint32_t shards;
    struct mr_event_count wake;
    _Atomic uint32_t state;
    _Atomic uint32_t holders; /* asker and callback; the last one frees */
};

enum mr_status mr_server_open(const struct mr_server_options *options, struct mr_server **ret,
                              struct mr_error *error) {
    MR_ASSERT(options->config != NULL && options->plan != NULL && options->pipeline != NULL);
    struct mr_server *server = mr_alloc_zero(1, sizeof *server);
    if (server == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "cannot open the server: no memory");
    }
    server->config = options->config;
    server->plan = options->plan;
    server->pipeline = options->pipeline;
    server->results = options->results;
    server->datadir = options->datadir;
    server->sinks = options->sinks;
    server->replays = options->replays;
    server->clock = options->clock;
    (void)pthread_mutex_init(&server->dead_lock, NULL); /* cannot fail here: no attributes */
    server->started_ms = mr_clock_wall_ms(options->clock);
    enum mr_status status = mr_http_open(server, &server->http, error);
    if (status != MR_OK) {
        (void)pthread_mutex_destroy(&server->dead_lock);
        mr_free(server);
        return status;
    }
    *ret = server;
    return MR_OK;
}

uint16_t mr_server_port(const struct mr_server *server) {
    return server->http->port;
}

void mr_server_drain(struct mr_server *server, int64_t timeout_ms) {
    atomic_store_explicit(&server->draining, true, memory_order_relaxed);
    mr_http_quiesce(server->http);
    mr_http_end_feeds(server->http);
    /* What is still there after the time-out is answered 503 by close. */
    (void)mr_admission_drain(&server->http->admission, server->clock, timeout_ms);
}

void mr_server_close(struct mr_server *server) {
    if (server == NULL) {
        return;
    }
    atomic_store_explicit(&server->draining, true, memory_order_relaxed);
    mr_http_close(server->http);
    MR_ASSERT(mr_counter_read(&server->in_flight_bytes) == 0);
    MR_ASSERT(mr_counter_read(&server->connections) == 0);
    (void)pthread_mutex_destroy(&server->dead_lock);
    mr_free(server->dead_marks.items);
    mr_free(server);
}

static void let_go(struct question *question) {
    /* acq_rel: the last holder sees what the other did. */
    if (atomic_fetch_sub_explicit(&question->holders, 1, memory_order_acq_rel) == 1) {
        question->magic = 0;
        mr_free(question);
    }
}

static void finish_rows(struct mr_ask *ask, uint32_t shards) {
    bool rows = ask->kind == MR_ASK_SCAN || ask->kind == MR_ASK_HOT;
    for (uint32_t i = 0; rows && i < shards; i++) {
        mr_buf_finish(&ask->results[i].rows);
    }
}

static void on_answer(struct mr_ask *ask, void *ctx) {
    struct question *question = ctx;
    uint32_t expected = QUESTION_WAITING;
    MR_ASSERT(question->magic == ASK_MAGIC && &question->ask == ask);
    /* release: the asker's acquire sees the answer. */
    if (atomic_compare_exchange_strong_explicit(&question->state, &expected, QUESTION_DONE,
                                                memory_order_acq_rel, memory_order_acquire)) {
        mr_event_count_signal(&question->wake);
    } else {
        MR_ASSERT(expected == QUESTION_ABANDONED);
        finish_rows(ask, question->shards);
    }
    let_go(question);
}

/* true: there is an answer. The wait is cut into rounds only to notice that the server closes. */
static bool wait_answer(struct mr_server *server, struct question *question) {
    for (;;) {
        uint32_t value = mr_event_count_value(&question->wake);
        if (atomic_load_explicit(&question->state, memory_order_acquire) == QUESTION_DONE) {
            return true;
        }
        if (atomic_load_explicit(&server->http->closing, memory_order_relaxed)) {
            uint32_t expected = QUESTION_WAITING;
            return !atomic_compare_exchange_strong_explicit(
                &question->state, &expected, QUESTION_ABANDONED, memory_order_acq_rel,
                memory_order_acquire);
        }
        mr_event_count_wait(&question->wake, value, ASK_ROUND_NS);
    }
}

bool mr_server_is_closing(const struct mr_server *server) {
    return atomic_load_explicit(&server->http->closing, memory_order_relaxed); /* a later look sees it */
}

enum mr_status mr_server_ask(struct mr_server *server, struct mr_ask *ask) {
    if (atomic_load_explicit(&server->http->closing, memory_order_relaxed)) {
        return MR_CLOSED;
    }
    struct question *question = mr_alloc_aligned(_Alignof(struct question), sizeof *question);
    if (question == NULL) {
        return MR_NO_MEMORY;
    }
    question->ask = *ask;
    question->ask.done = on_answer;
    question->ask.ctx = question;
    question->magic = ASK_MAGIC;
    question->shards = server->plan->shards;
    mr_event_count_init(&question->wake);
    atomic_init(&question->state, QUESTION_WAITING);
    atomic_init(&question->holders, 2);
    bool asked = ask->kind == MR_ASK_CHECKPOINT
                     ? mr_pipeline_checkpoint(server->pipeline, &question->ask)
                     : mr_pipeline_ask(server->pipeline, &question->ask);
    if (!asked) {
        mr_free(question);
        return MR_BUSY;
    }
    bool answered = wait_answer(server, question);
    if (answered) {
        void (*done)(struct mr_ask *, void *) = ask->done;
        void *ctx = ask->ctx;
        *ask = question->ask;
        ask->done = done;
        ask->ctx = ctx;
    }
    bool closed = answered && ask->closed;
    if (closed) {
        finish_rows(ask, server->plan->shards);
    }
    let_go(question);
    return answered && !closed ? MR_OK : MR_CLOSED;
}
