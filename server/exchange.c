/* SPDX-License-Identifier: Apache-2.0 */
#include "server/exchange.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "server/auth.h"
#include "server/feeds.h"
#include "server/http.h"
#include "server/ingest_answer.h"
#include "server/params.h"
#include "server/problem.h"

#include <stddef.h>
#include <stdio.h>

enum { EXCHANGE_MAGIC = 0x6d724578, RETRY_BUSY_S = 1 };

/* moves[from] has a bit for each stage that may follow. IDLE follows all but AWAY, which goes by
 * ANSWERING. */
static const uint32_t moves[MR_STAGE_COUNT] = {
    [MR_STAGE_IDLE] = 1u << MR_STAGE_LINE | 1u << MR_STAGE_IDLE,
    [MR_STAGE_LINE] = 1u << MR_STAGE_READING | 1u << MR_STAGE_DISCARDING |
                      1u << MR_STAGE_ANSWERING | 1u << MR_STAGE_IDLE,
    [MR_STAGE_READING] = 1u << MR_STAGE_DISCARDING | 1u << MR_STAGE_AWAY |
                         1u << MR_STAGE_ANSWERING | 1u << MR_STAGE_IDLE,
    [MR_STAGE_DISCARDING] = 1u << MR_STAGE_ANSWERING | 1u << MR_STAGE_IDLE,
    [MR_STAGE_AWAY] = 1u << MR_STAGE_ANSWERING,
    [MR_STAGE_ANSWERING] = 1u << MR_STAGE_IDLE,
};

static void move(struct mr_exchange *exchange, enum mr_stage to) {
    MR_ASSERT((unsigned)exchange->stage < MR_STAGE_COUNT);
    MR_ASSERT((moves[exchange->stage] & 1u << to) != 0);
    exchange->stage = to;
}

static uint64_t now_ns(const struct mr_exchange *exchange) {
    return mr_clock_mono_ns(exchange->http->server->clock);
}

static void wake(void *ctx) {
    mr_http_wake(ctx);
}

static void run_job(struct mr_worker_job *job, struct mr_results_reader *reader) {
    struct mr_exchange *exchange =
        (struct mr_exchange *)(void *)((uint8_t *)job - offsetof(struct mr_exchange, job));
    MR_ASSERT(exchange->magic == EXCHANGE_MAGIC && exchange->stage == MR_STAGE_AWAY);
    exchange->request.reader = reader;
    exchange->route->handler(&exchange->request, &exchange->response);
    exchange->request.reader = NULL;
    mr_http_wake(exchange);
}

static void init_response(struct mr_response *response) {
    *response = (struct mr_response){.status = 200, .content_type = "application/json"};
    mr_buf_init(&response->body, MR_RESPONSE_MAX);
}

static void finish_response(struct mr_response *response) {
    mr_feed_end(response->feed);
    response->feed = NULL;
    mr_free(response->next_cursor);
    response->next_cursor = NULL;
    mr_buf_finish(&response->body);
}

enum mr_status mr_exchange_open(struct mr_http *http, int fd, void *connection,
                                struct mr_exchange **ret) {
    struct mr_exchange *exchange = mr_alloc_zero(1, sizeof *exchange);
    if (exchange == NULL) {
        return MR_NO_MEMORY;
    }
    exchange->magic = EXCHANGE_MAGIC;
    exchange->http = http;
    exchange->connection = connection;
    exchange->job.run = run_job;
    mr_buf_init(&exchange->uri, MR_GUARD_URI_MAX);
    mr_buf_init(&exchange->scratch, MR_GUARD_URI_MAX);
    mr_buf_init(&exchange->body, MR_SMALL_BODY_MAX);
    init_response(&exchange->response);
    enum mr_status status = mr_ingest_call_init(&exchange->ingest, http->ingest, &exchange->request,
                                                &exchange->response, wake, exchange);
    if (status != MR_OK) {
        mr_free(exchange);
        return status;
    }
    mr_deadlines_add(http->deadlines, &exchange->deadline, fd, now_ns(exchange) + http->header_ns);
    *ret = exchange;
    return MR_OK;
}

/* From here on no other thread sees the exchange. */
static void hide(struct mr_exchange *exchange) {
    if (exchange->deadline.fd >= 0) {
        mr_deadlines_remove(exchange->http->deadlines, &exchange->deadline);
    }
}

void mr_exchange_close(struct mr_exchange *exchange) {
    if (exchange == NULL) {
        return;
    }
    MR_ASSERT(exchange->stage == MR_STAGE_IDLE);
    hide(exchange); /* first */
    mr_ingest_call_finish(&exchange->ingest);
    mr_buf_finish(&exchange->uri);
    mr_buf_finish(&exchange->scratch);
    mr_buf_finish(&exchange->body);
    finish_response(&exchange->response);
    exchange->magic = 0;
    mr_free(exchange);
}

struct mr_exchange *mr_exchange_of(void *pointer) {
    struct mr_exchange *exchange = pointer;
    MR_ASSERT(exchange != NULL && exchange->magic == EXCHANGE_MAGIC);
    return exchange;
}

void mr_exchange_line(struct mr_exchange *exchange, const char *uri) {
    size_t len = strlen(uri);
    move(exchange, MR_STAGE_LINE);
    exchange->started_ns = now_ns(exchange);
    mr_buf_clear(&exchange->uri);
    exchange->uri_too_long = len > MR_GUARD_URI_MAX;
    if (!exchange->uri_too_long) {
        mr_buf_append(&exchange->uri, uri, len);
    }
    /* The first request's header was due from connecting on; a later one's is from its first line
     * on. */
    if (exchange->requests > 0) {
        mr_deadline_set(&exchange->deadline, exchange->started_ns + exchange->http->header_ns);
    }
    exchange->requests++;
}

/* 1 to 64 visible characters are taken over; else an id is made: 16 hex digits, unique in this
 * process and unlikely elsewhere. */
static void set_request_id(struct mr_exchange *exchange, struct mr_bytes given) {
    char *ret = exchange->request.request_id;
    bool valid = given.len > 0 && given.len < sizeof exchange->request.request_id;
    for (size_t i = 0; valid && i < given.len; i++) {
        valid = given.ptr[i] > ' ' && given.ptr[i] < 0x7f;
    }
    if (valid) {
        memcpy(ret, given.ptr, given.len);
        ret[given.len] = '\0';
        return;
    }
    struct mr_http *http = exchange->http;
    /* relaxed: only that each number is given once matters */
    uint64_t number = atomic_fetch_add_explicit(&http->id_next, 1, memory_order_relaxed);
    uint64_t hash = mr_hash64(mr_bytes_of(&number, sizeof number), http->id_seed);
    static const char hex[] = "0123456789abcdef";
    for (uint32_t i = 0; i < 16; i++) {
        ret[i] = hex[hash >> (60 - 4 * i) & 15];
    }
    ret[16] = '\0';
}

static bool comes_from_here(struct mr_exchange *exchange) {
    struct mr_bytes host = mr_request_header(&exchange->request, "Host");
    struct mr_bytes origin = mr_request_header(&exchange->request, "Origin");
    if (mr_auth_is_local(host, origin)) {
        return true;
    }
    mr_problem(&exchange->response, 403,
               "without auth.tokens this is for requests whose Host is an address or localhost, and which no other site's "
               "page has sent; Host is `%s`, Origin `%s`",
               mr_quote(host).text, mr_quote(origin).text);
    return false;
}

static bool authenticate(struct mr_exchange *exchange) {
    struct mr_request *request = &exchange->request;
    struct mr_response *response = &exchange->response;
    const struct mr_config *config = exchange->http->server->config;
    uint32_t needed = exchange->route->right;
    request->token = NULL;
    request->rights = MR_RIGHT_INGEST | MR_RIGHT_QUERY | MR_RIGHT_ADMIN;
    if (config->auth.token_count == 0) {
        return needed != MR_RIGHT_ADMIN || config->http.allow_insecure || comes_from_here(exchange);
    }
    enum mr_status status =
        mr_auth_find(config, mr_request_header(request, "Authorization"), &request->token);
    request->rights = status == MR_OK ? request->token->rights : 0;
    if (needed == 0) {
        return true;
    }
    if (status != MR_OK) {
        mr_problem(response, 401, "%s",
                   status == MR_NOT_FOUND ? "unknown token"
                                          : "no token; expected Authorization: Bearer …");
        return false;
    }
    if (!mr_auth_may(request->rights, needed)) {
        mr_problem(response, 403, "the token lacks the right `%s`",
                   needed == MR_RIGHT_INGEST  ? "ingest"
                   : needed == MR_RIGHT_QUERY ? "query"
                                              : "admin");
        return false;
    }
    return true;
}

static bool find_route(struct mr_exchange *exchange) {
    struct mr_request *request = &exchange->request;
    const char *allow = NULL;
    mr_buf_clear(&exchange->scratch);
    exchange->route =
        mr_route_find(request->method, request->path, &exchange->scratch, request->params, &allow);
    if (exchange->route != NULL) {
        return true;
    }
    if (allow != NULL) {
        exchange->response.allow = allow;
        mr_problem(&exchange->response, 405, "this path allows %s", allow);
        return false;
    }
    size_t shown = request->path.len > 200 ? 200 : request->path.len;
    mr_problem(&exchange->response, 404, "no such path: %.*s", (int)shown,
               (const char *)request->path.ptr);
    return false;
}

/* Drain waits for ingest and queries; the quick ones (readyz!) are answered to the end. */
static bool enter(struct mr_exchange *exchange) {
    if (exchange->route->kind == MR_ROUTE_QUICK) {
        return true;
    }
    exchange->entered = mr_admission_enter(&exchange->http->admission);
    if (!exchange->entered) {
        mr_ingest_refused(MR_REFUSAL_DRAINING, &exchange->response);
    }
    return exchange->entered;
}

static uint32_t body_max(const struct mr_exchange *exchange) {
    return exchange->route->kind == MR_ROUTE_UPLOAD ? MR_UPLOAD_BODY_MAX : MR_SMALL_BODY_MAX;
}

static bool accept_head(struct mr_exchange *exchange) {
    if (!find_route(exchange) || !authenticate(exchange) || !enter(exchange)) {
        return false;
    }
    if (exchange->route->kind == MR_ROUTE_INGEST) {
        return mr_ingest_begin(&exchange->ingest, &exchange->facts);
    }
    exchange->body.cap_max = body_max(exchange);
    if (exchange->facts.content_length > body_max(exchange)) {
        mr_problem_limit(&exchange->response, 413, body_max(exchange), "the body is longer than %u bytes",
                         body_max(exchange));
        return false;
    }
    return true;
}

static void init_request(struct mr_exchange *exchange) {
    struct mr_request *request = &exchange->request;
    *request = (struct mr_request){.server = exchange->http->server,
                                   .method = MR_METHOD_COUNT,
                                   .connection = exchange->connection};
    set_request_id(exchange, mr_request_header(request, "X-Request-Id"));
    request->accept = mr_request_header(request, "Accept");
}

static enum mr_next answer_now(struct mr_exchange *exchange, bool close) {
    exchange->response.close = exchange->response.close || close;
    move(exchange, MR_STAGE_ANSWERING);
    return MR_NEXT_ANSWER;
}

enum mr_next mr_exchange_head(struct mr_exchange *exchange, struct mr_guard_input *input) {
    struct mr_guard_refusal refusal;
    MR_ASSERT(exchange->stage == MR_STAGE_LINE);
    init_request(exchange);
    input->uri = mr_buf_bytes(&exchange->uri);
    exchange->discarded = 0;
    exchange->route = NULL;
    if (exchange->uri_too_long || exchange->uri.failed) {
        mr_problem(&exchange->response, 414, "the URI is longer than %u bytes", MR_GUARD_URI_MAX);
        return answer_now(exchange, true);
    }
    if (exchange->line_odd) {
        mr_problem(&exchange->response, 400, "a NUL or more than one space in the request line");
        return answer_now(exchange, true);
    }
    if (!mr_guard_passes(input, &exchange->facts, &refusal)) {
        mr_problem(&exchange->response, refusal.status, "%s", refusal.detail);
        return answer_now(exchange, true); /* where its body would end is not certain */
    }
    exchange->request.method = exchange->facts.method;
    exchange->request.path = exchange->facts.path;
    exchange->request.query = exchange->facts.query;
    bool accepted = accept_head(exchange);
    if (exchange->facts.content_length > 0 || exchange->facts.chunked) {
        mr_deadline_set(&exchange->deadline, now_ns(exchange) + exchange->http->body_ns);
    }
    if (accepted) {
        move(exchange, MR_STAGE_READING);
        return MR_NEXT_READ;
    }
    if (exchange->facts.expect_continue || exchange->facts.content_length > MR_DISCARD_MAX) {
        return answer_now(exchange, true); /* nothing was sent yet; or too much will be */
    }
    move(exchange, MR_STAGE_DISCARDING);
    return MR_NEXT_READ;
}

/* Routes other than ingest: a small body is kept for POST and DELETE, and of no meaning for GET. */
static bool keep_small(struct mr_exchange *exchange, struct mr_bytes piece) {
    mr_buf_append_bytes(&exchange->body, piece);
    if (!exchange->body.failed) {
        return true;
    }
    mr_problem_limit(&exchange->response, 413, body_max(exchange), "the body is longer than %u bytes",
                     body_max(exchange));
    return false;
}

enum mr_next mr_exchange_body(struct mr_exchange *exchange, struct mr_bytes piece) {
    if (exchange->stage == MR_STAGE_READING) {
        bool ingest = exchange->route->kind == MR_ROUTE_INGEST;
        if (ingest ? mr_ingest_body(&exchange->ingest, piece) : keep_small(exchange, piece)) {
            return MR_NEXT_READ;
        }
        if (ingest) {
            mr_ingest_reset(&exchange->ingest); /* nothing of it is wanted any more */
        }
        move(exchange, MR_STAGE_DISCARDING);
    }
    MR_ASSERT(exchange->stage == MR_STAGE_DISCARDING);
    exchange->discarded += piece.len;
    return exchange->discarded > MR_DISCARD_MAX ? MR_NEXT_DROP : MR_NEXT_READ;
}

enum mr_next mr_exchange_end(struct mr_exchange *exchange) {
    MR_ASSERT(exchange->stage == MR_STAGE_READING || exchange->stage == MR_STAGE_DISCARDING);
    if (exchange->stage == MR_STAGE_DISCARDING) {
        return answer_now(exchange, false);
    }
    exchange->request.body = mr_buf_bytes(&exchange->body);
    switch (exchange->route->kind) {
    case MR_ROUTE_QUICK:
        exchange->route->handler(&exchange->request, &exchange->response);
        return answer_now(exchange, false);
    case MR_ROUTE_INGEST:
        if (!mr_ingest_end(&exchange->ingest)) {
            mr_ingest_reset(&exchange->ingest);
            return answer_now(exchange, false);
        }
        break;
    case MR_ROUTE_WORKER:
    case MR_ROUTE_UPLOAD:
        break;
    }
    mr_deadline_clear(&exchange->deadline); /* how long this takes is not the client's doing */
    exchange->went = false;
    exchange->watched = exchange->route->kind == MR_ROUTE_INGEST;
    move(exchange, MR_STAGE_AWAY);
    return exchange->watched ? MR_NEXT_WATCH : MR_NEXT_SUSPEND;
}

bool mr_exchange_go(struct mr_exchange *exchange) {
    struct mr_http *http = exchange->http;
    MR_ASSERT(exchange->stage == MR_STAGE_AWAY && !exchange->went);
    if (atomic_load_explicit(&http->closing, memory_order_seq_cst)) { /* I2 in http.h */
        mr_ingest_refused(MR_REFUSAL_DRAINING, &exchange->response);
        return false;
    }
    exchange->went = true; /* before handing over: behind it the exchange is not ours */
    if (exchange->route->kind == MR_ROUTE_INGEST) {
        if (mr_ingest_submit(&exchange->ingest)) {
            return true;
        }
    } else {
        if (mr_workers_push(http->workers, &exchange->job)) {
            return true;
        }
        exchange->response.retry_after_s = RETRY_BUSY_S;
        mr_problem(&exchange->response, 503, "too many queries wait");
    }
    exchange->went = false;
    return false;
}

bool mr_exchange_is_decided(const struct mr_exchange *exchange) {
    MR_ASSERT(exchange->stage == MR_STAGE_AWAY && exchange->watched);
    return mr_ingest_is_done(&exchange->ingest);
}

bool mr_exchange_rest(struct mr_exchange *exchange) {
    MR_ASSERT(exchange->stage == MR_STAGE_AWAY && exchange->watched);
    exchange->watched = false; /* before resting: behind it the exchange is not ours */
    return mr_ingest_rest(&exchange->ingest);
}

void mr_exchange_back(struct mr_exchange *exchange) {
    MR_ASSERT(exchange->stage == MR_STAGE_AWAY);
    exchange->watched = false;
    if (exchange->went && exchange->route->kind == MR_ROUTE_INGEST) {
        mr_ingest_done(&exchange->ingest);
    }
    move(exchange, MR_STAGE_ANSWERING);
}

void mr_exchange_answer(struct mr_exchange *exchange) {
    struct mr_http *http = exchange->http;
    MR_ASSERT(exchange->stage == MR_STAGE_ANSWERING);
    if (exchange->response.body.failed) {
        mr_problem(&exchange->response, 503, "no memory for the answer");
    }
    /* A connection that is kept would only be refused its next request. */
    if (atomic_load_explicit(&http->server->draining, memory_order_relaxed)) {
        exchange->response.close = true;
    }
    /* A feed has no end that a drain could wait for. */
    if (exchange->response.feed != NULL && exchange->entered) {
        exchange->entered = false;
        mr_admission_leave(&http->admission);
    }
    mr_deadline_set(&exchange->deadline, now_ns(exchange) + http->body_ns);
}

enum mr_feed_next mr_exchange_feed(struct mr_exchange *exchange, char *to, size_t cap, size_t *ret_len) {
    MR_ASSERT(exchange->stage == MR_STAGE_ANSWERING && exchange->response.feed != NULL);
    enum mr_feed_next next = mr_feed_read(exchange->response.feed, to, cap, ret_len);
    if (next == MR_FEED_WAIT) {
        mr_deadline_clear(&exchange->deadline); /* it has taken all; how long the next pane takes is not its doing */
    } else {
        mr_deadline_set(&exchange->deadline, now_ns(exchange) + exchange->http->body_ns);
    }
    return next;
}

bool mr_exchange_feed_wait(struct mr_exchange *exchange) {
    return mr_feed_wait(exchange->response.feed, exchange->deadline.fd, wake, exchange);
}

static void count(struct mr_exchange *exchange, uint64_t ended_ns) {
    struct mr_http *http = exchange->http;
    uint32_t index =
        exchange->route != NULL ? (uint32_t)(exchange->route - mr_routes) : mr_route_count;
    struct mr_route_stats *stats = &http->server->routes[index];
    uint32_t code_class = exchange->response.status / 100;
    MR_ASSERT(code_class >= 1 && code_class <= 5);
    mr_counter_add_shared(&stats->requests[code_class - 1], 1);
    pthread_mutex_lock(&http->duration_locks[index]);
    mr_histogram_add(&stats->duration_ns, ended_ns - exchange->started_ns);
    pthread_mutex_unlock(&http->duration_locks[index]);
}

void mr_exchange_over(struct mr_exchange *exchange) {
    uint64_t ended_ns = now_ns(exchange);
    if (exchange->stage == MR_STAGE_AWAY) {
        if (exchange->watched) {
            hide(exchange); /* the connection ends; before forgetting */
            mr_ingest_forget(&exchange->ingest);
        }
        mr_exchange_back(exchange); /* collects the batch; nobody reads the answer */
    }
    if (exchange->stage == MR_STAGE_ANSWERING) {
        count(exchange, ended_ns);
    }
    move(exchange, MR_STAGE_IDLE);
    mr_ingest_reset(&exchange->ingest);
    mr_buf_finish(&exchange->body);
    finish_response(&exchange->response);
    init_response(&exchange->response);
    if (exchange->entered) {
        exchange->entered = false;
        mr_admission_leave(&exchange->http->admission);
    }
    mr_deadline_set(&exchange->deadline, ended_ns + exchange->http->idle_ns);
}
