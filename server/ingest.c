/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ingest.h"

#include "base/alloc.h"
#include "base/check.h"
#include "event/cloudevents.h"
#include "event/decode.h"
#include "server/http.h"
#include "server/ingest_answer.h"
#include "server/params.h"
#include "server/problem.h"
#include "server/server.h"

#include <inttypes.h>
#include <pthread.h>

enum { RETRY_BUSY_S = 1, RETRY_START_S = 5, TICKET_MAGIC = 0x6d72546b };

/* Decoder and codec of one decoding at a time. Decoders predict from what they saw last, so the one
 * used last is taken first. */
struct desk {
    struct mr_decoder *decoder;
    struct mr_codec *codec; /* opened when first needed */
    struct desk *next;
};

struct mr_ingest {
    struct mr_server *server;
    struct mr_admission *admission;
    pthread_mutex_t lock; /* guards free */
    struct desk *free;
    uint32_t desk_count;
    struct desk desks[];
};

enum ticket_state { TICKET_FREE, TICKET_WATCHED, TICKET_WAITING, TICKET_DONE, TICKET_ABANDONED };

struct mr_ticket {
    uint32_t magic;
    _Atomic uint32_t state; /* enum ticket_state; see I2 in the header */
    struct mr_batch *batch; /* written by done before state */
    void (*wake)(void *ctx);
    void *ctx;
};

enum mr_status mr_ingest_open(struct mr_server *server, struct mr_admission *admission,
                              uint32_t threads, struct mr_ingest **ret) {
    MR_ASSERT(threads >= 1);
    struct mr_ingest *ingest = mr_alloc_zero(1, sizeof *ingest + threads * sizeof ingest->desks[0]);
    if (ingest == NULL) {
        return MR_NO_MEMORY;
    }
    ingest->server = server;
    ingest->admission = admission;
    ingest->desk_count = threads;
    int failed = pthread_mutex_init(&ingest->lock, NULL);
    MR_ASSERT(failed == 0);
    for (uint32_t i = 0; i < threads; i++) {
        struct desk *desk = &ingest->desks[i];
        enum mr_status status = mr_decoder_open(MR_DECODE_AUTO, &desk->decoder);
        if (status != MR_OK) {
            mr_ingest_close(ingest);
            return status;
        }
        desk->next = ingest->free;
        ingest->free = desk;
    }
    *ret = ingest;
    return MR_OK;
}

void mr_ingest_close(struct mr_ingest *ingest) {
    if (ingest == NULL) {
        return;
    }
    for (uint32_t i = 0; i < ingest->desk_count; i++) {
        if (ingest->desks[i].decoder != NULL) {
            mr_decoder_close(ingest->desks[i].decoder);
        }
        if (ingest->desks[i].codec != NULL) {
            mr_codec_close(ingest->desks[i].codec);
        }
    }
    int failed = pthread_mutex_destroy(&ingest->lock);
    MR_ASSERT(failed == 0);
    mr_free(ingest);
}

static struct desk *acquire_desk(struct mr_ingest *ingest) {
    pthread_mutex_lock(&ingest->lock);
    struct desk *desk = ingest->free;
    MR_ASSERT(desk != NULL); /* one for each http thread */
    ingest->free = desk->next;
    pthread_mutex_unlock(&ingest->lock);
    return desk;
}

static void release_desk(struct mr_ingest *ingest, struct desk *desk) {
    pthread_mutex_lock(&ingest->lock);
    desk->next = ingest->free;
    ingest->free = desk;
    pthread_mutex_unlock(&ingest->lock);
}

static bool refuse_in_flight(struct mr_ingest_call *call) {
    struct mr_server *server = call->ingest->server;
    mr_counter_add_shared(&server->refused_in_flight, 1);
    call->response->retry_after_s = RETRY_BUSY_S;
    mr_problem_limit(call->response, 503, server->config->limits.in_flight_bytes,
                     "too many bytes of requests in flight (limits.in_flight)");
    return false;
}

static bool charge(struct mr_ingest_call *call, uint64_t bytes) {
    if (!mr_admission_charge(call->ingest->admission, bytes)) {
        return refuse_in_flight(call);
    }
    call->charged += bytes;
    return true;
}

static void release(struct mr_ingest_call *call, uint64_t bytes) {
    MR_ASSERT(call->charged >= bytes);
    if (bytes > 0) {
        mr_admission_release(call->ingest->admission, bytes);
        call->charged -= bytes;
    }
}

enum mr_status mr_ingest_call_init(struct mr_ingest_call *call, struct mr_ingest *ingest,
                                   struct mr_request *request, struct mr_response *response,
                                   void (*wake)(void *ctx), void *ctx) {
    MR_ASSERT(wake != NULL);
    *call = (struct mr_ingest_call){.ingest = ingest, .request = request, .response = response};
    mr_buf_init(&call->body, 0);
    call->ticket = mr_alloc_zero(1, sizeof *call->ticket);
    if (call->ticket == NULL) {
        return MR_NO_MEMORY;
    }
    call->ticket->magic = TICKET_MAGIC;
    call->ticket->wake = wake;
    call->ticket->ctx = ctx;
    atomic_init(&call->ticket->state, TICKET_FREE);
    return MR_OK;
}

void mr_ingest_reset(struct mr_ingest_call *call) {
    MR_ASSERT(call->abandoned || call->ticket == NULL ||
              atomic_load_explicit(&call->ticket->state, memory_order_relaxed) == TICKET_FREE);
    mr_batch_close(call->batch);
    call->batch = NULL;
    mr_buf_finish(&call->body);
    release(call, call->charged);
}

void mr_ingest_call_finish(struct mr_ingest_call *call) {
    mr_ingest_reset(call);
    if (!call->abandoned) {
        mr_free(call->ticket);
    }
    call->ticket = NULL;
}

static bool no_memory(struct mr_ingest_call *call) {
    call->response->retry_after_s = RETRY_BUSY_S;
    mr_problem(call->response, 503, "out of memory; sending the request again is safe");
    return false;
}

static bool body_too_long(struct mr_ingest_call *call) {
    uint64_t limit = call->ingest->server->config->limits.body_bytes;
    mr_problem_limit(call->response, 413, limit,
                     "the body is longer than %" PRIu64 " bytes (limits.body)", limit);
    return false;
}

static bool find_stream(struct mr_ingest_call *call) {
    struct mr_bytes name = call->request->params[0];
    uint32_t stream = 0; /* POST /v1/events: the default stream */
    if (name.len > 0) {
        stream = mr_config_stream_index(call->ingest->server->config, name);
    }
    if (stream == UINT32_MAX) {
        mr_problem(call->response, 404, "no stream `%.*s`", (int)(name.len > 64 ? 64 : name.len),
                   (const char *)name.ptr);
        return false;
    }
    if (!mr_request_may_use_stream(call->request, stream)) {
        mr_problem(call->response, 403, "the token is not for this stream");
        return false;
    }
    call->stream = stream;
    return true;
}

/* `return=summary|results`, nothing else. */
static enum mr_status read_query(struct mr_bytes query, struct mr_params *params, uint32_t *ret,
                                 struct mr_error *error) {
    static const char *const names[] = {"return"};
    static const char *const choices[] = {"summary", "results"};
    enum mr_status status = mr_params_init(params, query, error);
    if (status == MR_OK) {
        status = mr_params_known(params, names, 1, NULL, error);
    }
    return status == MR_OK ? mr_params_choice(params, names[0], choices, 2, ret, error) : status;
}

static bool parse_query(struct mr_ingest_call *call) {
    struct mr_params params;
    struct mr_error error = {.text = ""};
    uint32_t choice = 0;
    call->results = false;
    if (call->request->query.len == 0) {
        return true;
    }
    enum mr_status status = read_query(call->request->query, &params, &choice, &error);
    mr_params_finish(&params);
    if (status == MR_NO_MEMORY) {
        return no_memory(call);
    }
    if (status != MR_OK) {
        mr_problem(call->response, 400, "%s", error.text);
        return false;
    }
    call->results = choice == 1;
    return true;
}

static bool check_media(struct mr_ingest_call *call) {
    const struct mr_request *request = call->request;
    struct mr_bytes type = mr_request_header(request, "Content-Type");
    struct mr_error error = {.text = ""};
    static const char structured[] = "application/cloudevents";
    /* A structured type wins over ce- headers (HTTP binding, section 3.2). */
    bool is_structured = type.len >= sizeof structured - 1 &&
                         mr_header_is(mr_bytes_of(type.ptr, sizeof structured - 1), structured);
    call->binary = !is_structured && mr_request_header(request, "ce-specversion").len > 0;
    if (call->binary) {
        call->media = (struct mr_media){MR_FORMAT_OBJECT, true, false};
    } else if (mr_media_type(type, &call->media, &error) != MR_OK) {
        mr_problem(call->response, 415, "%s", error.text);
        return false;
    }
    struct mr_bytes encoding = mr_request_header(request, "Content-Encoding");
    if (mr_media_encoding(encoding, &call->encoding, &error) != MR_OK) {
        call->response->accept_encoding = MR_ACCEPT_ENCODING;
        mr_problem(call->response, 415, "%s", error.text);
        return false;
    }
    return true;
}

static bool check_ready(struct mr_ingest_call *call) {
    struct mr_server *server = call->ingest->server;
    if (atomic_load_explicit(&server->draining, memory_order_relaxed)) {
        mr_ingest_refused(MR_REFUSAL_DRAINING, call->response);
        return false;
    }
    if (!mr_pipeline_live(server->pipeline)) {
        call->response->retry_after_s = RETRY_START_S;
        mr_problem(call->response, 503, "the server is starting: it replays its log");
        return false;
    }
    return true;
}

bool mr_ingest_begin(struct mr_ingest_call *call, const struct mr_guard_facts *facts) {
    struct mr_server *server = call->ingest->server;
    uint64_t limit = server->config->limits.body_bytes;
    MR_ASSERT(call->batch == NULL && call->body.len == 0 && call->charged == 0);
    if (!find_stream(call) || !parse_query(call) || !check_media(call)) {
        return false;
    }
    if (facts->content_length > limit) {
        return body_too_long(call);
    }
    if (!check_ready(call)) {
        return false;
    }
    /* Bytes are charged as they arrive; but what has no chance is not even asked for. */
    if (!mr_admission_fits(call->ingest->admission, facts->content_length)) {
        return refuse_in_flight(call);
    }
    /* With a length the buffer has that size at once (untouched pages cost nothing); without, it
     * doubles. */
    uint64_t room = facts->has_length ? facts->content_length : limit;
    mr_buf_init(&call->body, room + MR_PADDING);
    if (facts->content_length > 0 && mr_buf_reserve(&call->body, room + MR_PADDING) == NULL) {
        return no_memory(call);
    }
    return true;
}

bool mr_ingest_body(struct mr_ingest_call *call, struct mr_bytes piece) {
    struct mr_server *server = call->ingest->server;
    mr_counter_add_shared(&server->body_bytes, piece.len);
    if (piece.len > call->body.cap_max - MR_PADDING - call->body.len) {
        return body_too_long(call);
    }
    if (!charge(call, piece.len)) {
        return false;
    }
    mr_buf_append_bytes(&call->body, piece);
    return call->body.failed ? no_memory(call) : true;
}

/* The call holds `bytes` now: charges what is new, or gives back what is no longer held. */
static bool recharge(struct mr_ingest_call *call, uint64_t bytes) {
    if (bytes > call->charged) {
        return charge(call, bytes - call->charged);
    }
    release(call, call->charged - bytes);
    return true;
}

static bool inflate_failed(struct mr_ingest_call *call, const struct mr_error *error) {
    switch (error->status) {
    case MR_LIMIT:
        mr_problem_limit(call->response, 413, call->ingest->server->config->limits.inflated_bytes,
                         "%s (limits.inflated, limits.inflate_ratio)", error->text);
        return false;
    case MR_NO_MEMORY:
        return no_memory(call);
    default:
        mr_problem(call->response, 400, "the body does not inflate: %s", error->text);
        return false;
    }
}

static bool inflate(struct mr_ingest_call *call, struct desk *desk) {
    const struct mr_config *config = call->ingest->server->config;
    struct mr_error error = {.text = ""};
    struct mr_buf inflated;
    if (desk->codec == NULL && mr_codec_open(&desk->codec) != MR_OK) {
        return no_memory(call);
    }
    mr_buf_init(&inflated, config->limits.inflated_bytes + MR_PADDING);
    enum mr_status status = mr_codec_inflate(desk->codec, call->encoding, mr_buf_bytes(&call->body),
                                             config->limits.inflate_ratio, &inflated, &error);
    if (status != MR_OK) {
        mr_buf_finish(&inflated);
        error.status = status;
        return inflate_failed(call, &error);
    }
    mr_counter_add_shared(&call->ingest->server->inflated_bytes, inflated.len);
    mr_buf_finish(&call->body);
    call->body = inflated;
    return recharge(call, inflated.len);
}

/* Turns binary mode into one JSON object: the headers, and the body as its data. */
static bool structure(struct mr_ingest_call *call) {
    struct mr_header all[MR_GUARD_HEADERS_MAX];
    struct mr_ce_header headers[MR_GUARD_HEADERS_MAX];
    uint32_t count = 0;
    uint32_t all_count = mr_request_headers(call->request, all, MR_GUARD_HEADERS_MAX);
    for (uint32_t i = 0; i < all_count; i++) {
        struct mr_bytes name = all[i].name;
        if (name.len > 3 && mr_header_is(mr_bytes_of(name.ptr, 3), "ce-")) {
            headers[count].name = mr_bytes_of(name.ptr + 3, name.len - 3);
            headers[count++].value = all[i].value;
        }
    }
    /* base64 is 4/3; header values may grow sixfold when escaped. */
    size_t room = call->body.len / 3 * 4 + 6 * MR_GUARD_HEADER_BYTES_MAX + 4096;
    struct mr_error error = {.text = ""};
    struct mr_buf structured;
    mr_buf_init(&structured, room + MR_PADDING);
    enum mr_status status =
        mr_cloudevents_structured(headers, count, mr_request_header(call->request, "Content-Type"),
                                  mr_buf_bytes(&call->body), &structured, &error);
    if (status != MR_OK || mr_buf_reserve(&structured, MR_PADDING) == NULL) {
        mr_buf_finish(&structured);
        if (status != MR_INVALID) {
            return no_memory(call);
        }
        mr_problem(call->response, 400, "CloudEvents binary mode: %s", error.text);
        return false;
    }
    mr_buf_finish(&call->body);
    call->body = structured;
    return recharge(call, structured.len);
}

static bool decode_failed(struct mr_ingest_call *call, const struct mr_error *error) {
    switch (error->status) {
    case MR_LIMIT:
        mr_problem_limit(call->response, 413, call->ingest->server->config->limits.batch_events,
                         "%s", error->text);
        return false;
    case MR_INVALID:
        mr_problem(call->response, 400, "%s", error->text);
        return false;
    default:
        return no_memory(call);
    }
}

static bool decode(struct mr_ingest_call *call, struct desk *desk) {
    const struct mr_plan_stream *stream = &call->ingest->server->plan->streams[call->stream];
    const struct mr_schema *schema = call->media.cloudevents ? stream->schema_ce : stream->schema;
    struct mr_error error = {.text = ""};
    if (mr_buf_reserve(&call->body, MR_PADDING) == NULL) {
        return no_memory(call);
    }
    enum mr_status status =
        mr_decode(desk->decoder, schema, call->media.format, &call->body, &call->batch, &error);
    if (status != MR_OK) {
        error.status = status;
        return decode_failed(call, &error);
    }
    mr_buf_init(&call->body, 0); /* the batch's now */
    call->batch->stream = call->stream;
    return recharge(call, mr_batch_bytes(call->batch));
}

static bool answer_empty(struct mr_ingest_call *call) {
    struct mr_answer_options options = {.results = call->results,
                                        .synced = call->ingest->server->config->log.sync};
    mr_ingest_answer(NULL, &options, call->response);
    return false;
}

static bool open_body(struct mr_ingest_call *call, struct desk *desk) {
    if (call->encoding != MR_ENCODING_IDENTITY && !inflate(call, desk)) {
        return false;
    }
    if (call->binary && !structure(call)) {
        return false;
    }
    if (call->body.len == 0) {
        if (call->media.may_be_empty) {
            return answer_empty(call);
        }
        mr_problem(call->response, 400, "the body is empty; expected JSON");
        return false;
    }
    return decode(call, desk);
}

bool mr_ingest_end(struct mr_ingest_call *call) {
    struct desk *desk = acquire_desk(call->ingest);
    bool ready = open_body(call, desk);
    release_desk(call->ingest, desk);
    if (ready && call->batch->count == 0) {
        ready = answer_empty(call);
    }
    return ready;
}

/* false: *from is what it was. */
static bool move_ticket(struct mr_ticket *ticket, uint32_t *from, enum ticket_state to) {
    return atomic_compare_exchange_strong_explicit(&ticket->state, from, to, memory_order_acq_rel,
                                                   memory_order_acquire);
}

static void on_done(struct mr_batch *batch, void *ctx) {
    struct mr_ticket *ticket = ctx;
    MR_ASSERT(ticket->magic == TICKET_MAGIC);
    void (*wake)(void *) = ticket->wake;
    void *wake_ctx = ticket->ctx;
    ticket->batch = batch;
    /* release: the call's acquire in is_done, rest or done sees the batch and, through the shards'
     * decrements, its verdicts. acquire: after ABANDONED the ticket is ours alone. */
    uint32_t state = TICKET_WATCHED;
    if (move_ticket(ticket, &state, TICKET_DONE)) {
        return; /* its http thread looks; from here on the ticket may be gone */
    }
    if (state == TICKET_WAITING && move_ticket(ticket, &state, TICKET_DONE)) {
        wake(wake_ctx); /* likewise */
        return;
    }
    MR_ASSERT(state == TICKET_ABANDONED);
    mr_batch_close(batch);
    mr_free(ticket);
}

bool mr_ingest_submit(struct mr_ingest_call *call) {
    struct mr_server *server = call->ingest->server;
    struct mr_ticket *ticket = call->ticket;
    struct mr_batch *batch = call->batch;
    MR_ASSERT(batch != NULL && batch->count > 0 && !call->abandoned);
    batch->done = on_done;
    batch->ctx = ticket;
    call->batch = NULL; /* before the push: on_done may run at once */
    /* relaxed: the queue's push publishes it to on_done, and nobody abandons a watched call. */
    atomic_store_explicit(&ticket->state, TICKET_WATCHED, memory_order_relaxed);
    if (mr_pipeline_submit(server->pipeline, batch)) {
        return true;
    }
    atomic_store_explicit(&ticket->state, TICKET_FREE, memory_order_relaxed);
    call->batch = batch;
    mr_counter_add_shared(&server->refused_queue, 1);
    call->response->retry_after_s = RETRY_BUSY_S;
    mr_problem(call->response, 503, "too many requests wait for the sequencer");
    return false;
}

bool mr_ingest_is_done(const struct mr_ingest_call *call) {
    /* acquire: pairs with on_done. */
    return atomic_load_explicit(&call->ticket->state, memory_order_acquire) == TICKET_DONE;
}

bool mr_ingest_rest(struct mr_ingest_call *call) {
    uint32_t state = TICKET_WATCHED;
    bool rests = move_ticket(call->ticket, &state, TICKET_WAITING);
    MR_ASSERT(rests || state == TICKET_DONE);
    return rests;
}

void mr_ingest_forget(struct mr_ingest_call *call) {
    uint32_t state = TICKET_WATCHED;
    call->abandoned = move_ticket(call->ticket, &state, TICKET_ABANDONED);
    MR_ASSERT(call->abandoned || state == TICKET_DONE);
}

static void answer(struct mr_ingest_call *call) {
    const struct mr_server *server = call->ingest->server;
    if (call->batch->refusal != MR_REFUSAL_NONE) {
        mr_ingest_refused(call->batch->refusal, call->response);
        return;
    }
    struct mr_answer_options options = {
        .results = call->results,
        .observe = server->plan->streams[call->stream].observe,
        .synced = server->config->log.sync,
    };
    mr_ingest_answer(call->batch, &options, call->response);
}

void mr_ingest_done(struct mr_ingest_call *call) {
    struct mr_ticket *ticket = call->ticket;
    if (call->abandoned) {
        mr_ingest_refused(MR_REFUSAL_ABANDONED, call->response);
        call->response->close = true;
    } else {
        /* acquire: pairs with on_done. */
        uint32_t state = atomic_load_explicit(&ticket->state, memory_order_acquire);
        MR_ASSERT(state == TICKET_DONE);
        call->batch = ticket->batch;
        ticket->batch = NULL;
        atomic_store_explicit(&ticket->state, TICKET_FREE, memory_order_relaxed);
        answer(call);
    }
    mr_ingest_reset(call); /* the client may be slow to read the answer; the batch need not wait */
}

bool mr_ingest_abandon(struct mr_ingest_call *call) {
    if (call->abandoned) {
        return false;
    }
    uint32_t expected = TICKET_WAITING;
    /* release: on_done frees the ticket after its acquire. Nothing is read here. */
    if (!atomic_compare_exchange_strong_explicit(&call->ticket->state, &expected, TICKET_ABANDONED,
                                                 memory_order_release, memory_order_relaxed)) {
        return false;
    }
    call->abandoned = true; /* only now is the call's thread known to be away */
    return true;
}
