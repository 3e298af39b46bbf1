/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#define HANDLERS_WITHOUT_SEEN
#include "handlers.h"

#include "base/alloc.h"
#include "base/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a pipeline of our own ---- */

enum { ITEMS_MAX = 4096 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    enum judge judge;
    bool live;
    bool stopping;
    struct mr_batch *batches[ITEMS_MAX];
    uint32_t batch_count;
    struct mr_ask *asks[ITEMS_MAX];
    uint32_t ask_count;
} pipeline = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* An id of the event as sent: the text behind "id":" */
static enum mr_verdict verdict_of(struct mr_bytes event) {
    static const char dup[] = "\"id\":\"dup";
    static const char late[] = "\"id\":\"late";
    if (memmem(event.ptr, event.len, dup, sizeof dup - 1) != NULL) {
        return MR_VERDICT_DUPLICATE;
    }
    return memmem(event.ptr, event.len, late, sizeof late - 1) != NULL ? MR_VERDICT_LATE
                                                                       : MR_VERDICT_ACCEPTED;
}

static void decide(struct mr_batch *batch, enum mr_refusal refusal) {
    batch->refusal = refusal;
    for (uint32_t i = 0; i < batch->count && refusal == MR_REFUSAL_NONE; i++) {
        if (batch->verdicts[i] != MR_VERDICT_REJECTED) {
            batch->verdicts[i] = (uint8_t)verdict_of(mr_batch_event(batch, i));
        }
    }
    batch->done(batch, batch->ctx);
}

static void *judge_all(void *arg) {
    (void)arg;
    pthread_mutex_lock(&pipeline.lock);
    while (!pipeline.stopping) {
        bool may = pipeline.judge == JUDGE_THREAD || pipeline.judge == JUDGE_REFUSE;
        if (may && pipeline.batch_count > 0) {
            struct mr_batch *batch = pipeline.batches[--pipeline.batch_count];
            enum mr_refusal refusal =
                pipeline.judge == JUDGE_REFUSE ? MR_REFUSAL_DISK_FULL : MR_REFUSAL_NONE;
            pthread_mutex_unlock(&pipeline.lock);
            decide(batch, refusal);
            pthread_mutex_lock(&pipeline.lock);
        } else if (may && pipeline.ask_count > 0) {
            struct mr_ask *ask = pipeline.asks[--pipeline.ask_count];
            pthread_mutex_unlock(&pipeline.lock);
            ask->seen = true;
            ask->closed = false;
            ask->done(ask, ask->ctx);
            pthread_mutex_lock(&pipeline.lock);
        } else {
            pthread_cond_wait(&pipeline.changed, &pipeline.lock);
        }
    }
    pthread_mutex_unlock(&pipeline.lock);
    return NULL;
}

bool mr_pipeline_live(const struct mr_pipeline *p) {
    (void)p;
    pthread_mutex_lock(&pipeline.lock);
    bool live = pipeline.live;
    pthread_mutex_unlock(&pipeline.lock);
    return live;
}

bool mr_pipeline_submit(struct mr_pipeline *p, struct mr_batch *batch) {
    (void)p;
    pthread_mutex_lock(&pipeline.lock);
    enum judge judge = pipeline.judge;
    if (judge != JUDGE_INLINE && judge != JUDGE_FULL) {
        MR_ASSERT(pipeline.batch_count < ITEMS_MAX);
        pipeline.batches[pipeline.batch_count++] = batch;
        pthread_cond_broadcast(&pipeline.changed);
    }
    pthread_mutex_unlock(&pipeline.lock);
    if (judge == JUDGE_INLINE) {
        decide(batch, MR_REFUSAL_NONE);
    }
    return judge != JUDGE_FULL;
}

bool mr_pipeline_checkpoint(struct mr_pipeline *p, struct mr_ask *ask) {
    return mr_pipeline_ask(p, ask);
}

bool mr_pipeline_ask(struct mr_pipeline *p, struct mr_ask *ask) {
    (void)p;
    pthread_mutex_lock(&pipeline.lock);
    bool taken = pipeline.judge != JUDGE_FULL;
    if (taken) {
        MR_ASSERT(pipeline.ask_count < ITEMS_MAX);
        pipeline.asks[pipeline.ask_count++] = ask;
        pthread_cond_broadcast(&pipeline.changed);
    }
    pthread_mutex_unlock(&pipeline.lock);
    return taken;
}

/* Asks the pipeline, and says what came of it. */
void mr_route_seen(struct mr_request *request, struct mr_response *response) {
    struct mr_ask ask = {.kind = MR_ASK_SEEN};
    enum mr_status status = mr_server_ask(request->server, &ask);
    if (status != MR_OK) {
        mr_problem(response, 503, "ask: %s", mr_status_text(status));
        return;
    }
    mr_buf_append_text(&response->body, ask.seen ? "{\"seen\":true}" : "{}");
}

static struct mr_results_reader reader;

enum mr_status mr_results_reader_open(struct mr_results *results, struct mr_results_reader **ret) {
    (void)results;
    *ret = &reader;
    return MR_OK;
}

void mr_results_reader_close(struct mr_results_reader *r) {
    MR_ASSERT(r == &reader);
}

/* Feeds are linked, and none is begun. */
enum mr_status mr_results_read_state(struct mr_results_reader *r, struct mr_results_state *ret, struct mr_error *error) {
    (void)r;
    (void)ret;
    return mr_error_set(error, MR_IO, "no store");
}

enum mr_status mr_results_read_outbox_rule(struct mr_results_reader *r, uint32_t rule, uint64_t after_id,
                                           mr_results_outbox_visit visit, void *ctx, uint64_t *ret_id,
                                           struct mr_error *error) {
    (void)r;
    (void)rule;
    (void)after_id;
    (void)visit;
    (void)ctx;
    (void)ret_id;
    return mr_error_set(error, MR_IO, "no store");
}

void fixture_judge(enum judge judge) {
    pthread_mutex_lock(&pipeline.lock);
    pipeline.judge = judge;
    pthread_cond_broadcast(&pipeline.changed);
    pthread_mutex_unlock(&pipeline.lock);
}

void fixture_release(void) {
    fixture_judge(JUDGE_THREAD);
}

void fixture_wait_held(uint32_t n) {
    pthread_mutex_lock(&pipeline.lock);
    while (pipeline.batch_count + pipeline.ask_count < n) {
        pthread_cond_wait(&pipeline.changed, &pipeline.lock);
    }
    pthread_mutex_unlock(&pipeline.lock);
}

void fixture_live(bool live) {
    pthread_mutex_lock(&pipeline.lock);
    pipeline.live = live;
    pthread_mutex_unlock(&pipeline.lock);
}

void fixture_abandon_held(void) {
    while (pipeline.batch_count > 0) {
        decide(pipeline.batches[--pipeline.batch_count], MR_REFUSAL_ABANDONED);
    }
    while (pipeline.ask_count > 0) {
        struct mr_ask *ask = pipeline.asks[--pipeline.ask_count];
        ask->closed = true;
        ask->done(ask, ask->ctx);
    }
}

/* ---- a server ---- */

static void open_plan(struct fixture *f) {
    struct mr_error error;
    for (uint32_t i = 0; i < 2; i++) {
        struct mr_schema_options options = {
            .stream = f->config->streams[i].name,
            .id = {MR_BYTES("id")},
            .id_parts = 1,
            .time = MR_BYTES("ts"),
            .time_format = MR_TIME_MS,
            .missing_time = MR_MISSING_ACCEPT,
            .event_bytes_max = (uint32_t)f->config->limits.event_bytes,
            .events_max = f->config->limits.batch_events,
            .shards = 2,
        };
        f->streams[i].name = options.stream;
        f->streams[i].observe = i == 1;
        MR_ASSERT(mr_schema_open(&options, &f->streams[i].schema, &error) == MR_OK);
        options.cloudevents = true;
        MR_ASSERT(mr_schema_open(&options, &f->streams[i].schema_ce, &error) == MR_OK);
    }
    f->plan = (struct mr_plan){
        .config = f->config, .streams = f->streams, .stream_count = 2, .shards = 2};
}

static void load_config(struct fixture *f, uint16_t port, const char *yaml_http,
                        const char *yaml_rest) {
    char yaml[4096];
    struct mr_error error = {.text = ""};
    (void)snprintf(yaml, sizeof yaml,
                   "http:\n  listen: 127.0.0.1:%u\n  threads: 2\n%s%s"
                   "streams:\n  clicks: { id: id, time: ts }\n"
                   "  views: { id: id, time: ts, dedup: { mode: observe } }\n"
                   "rules:\n  r: { from: clicks, window: { type: tumbling, size: 1m }, "
                   "metrics: { n: count } }\n",
                   port, yaml_http, yaml_rest);
    if (mr_config_parse(mr_bytes_text(yaml), "test", NULL, &f->config, &error) != MR_OK) {
        (void)fprintf(stderr, "%s\n", error.text);
        abort();
    }
}

static void open_server(struct fixture *f) {
    static struct mr_results results;
    static int anything;
    open_plan(f);
    pipeline.judge = JUDGE_THREAD;
    pipeline.live = true;
    pipeline.stopping = false;
    MR_ASSERT(pthread_create(&pipeline.thread, NULL, judge_all, NULL) == 0);
    struct mr_server_options options = {
        .config = f->config,
        .plan = &f->plan,
        .pipeline = (struct mr_pipeline *)(void *)&anything, /* never looked into */
        .results = &results,
        .clock = mr_clock_system(),
    };
    if (mr_server_open(&options, &f->server, &f->error) != MR_OK) {
        f->server = NULL;
    }
}

void fixture_open(struct fixture *f, const char *yaml_http, const char *yaml_rest) {
    *f = (struct fixture){0};
    load_config(f, 0, yaml_http, yaml_rest);
    open_server(f);
}

void fixture_open_port(struct fixture *f, uint16_t port) {
    *f = (struct fixture){0};
    load_config(f, port, "", "");
    open_server(f);
}

void fixture_close(struct fixture *f) {
    mr_server_close(f->server);
    pthread_mutex_lock(&pipeline.lock);
    pipeline.stopping = true;
    pthread_cond_broadcast(&pipeline.changed);
    pthread_mutex_unlock(&pipeline.lock);
    MR_ASSERT(pthread_join(pipeline.thread, NULL) == 0);
    fixture_abandon_held();
    for (uint32_t i = 0; i < 2; i++) {
        mr_schema_close(f->streams[i].schema);
        mr_schema_close(f->streams[i].schema_ce);
    }
    mr_config_close(f->config);
}

/* ---- a client ---- */

int client_open(const struct fixture *f) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(mr_server_port(f->server))};
    struct timeval patience = {.tv_sec = 30};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MR_ASSERT(fd >= 0);
    MR_ASSERT(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

void client_send(int fd, const void *ptr, size_t len) {
    const uint8_t *at = ptr;
    while (len > 0) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
        if (sent <= 0) {
            return; /* the server closed; the response tells why */
        }
        at += sent;
        len -= (size_t)sent;
    }
}

void client_text(int fd, const char *text) {
    client_send(fd, text, strlen(text));
}

enum { RESPONSE_MAX = 256 * 1024 };

static _Thread_local char response[RESPONSE_MAX];

/* Reads byte by byte up to the end of the header, so that nothing of the next response is taken. */
const char *client_response(int fd, bool head) {
    size_t len = 0;
    response[0] = '\0';
    while (strstr(response, "\r\n\r\n") == NULL) {
        MR_ASSERT(len + 1 < RESPONSE_MAX);
        if (recv(fd, response + len, 1, 0) != 1) {
            response[0] = '\0';
            return response;
        }
        response[++len] = '\0';
    }
    const char *length = strcasestr(response, "\r\nContent-Length: ");
    size_t left = length != NULL && !head ? strtoul(length + 18, NULL, 10) : 0;
    MR_ASSERT(len + left + 1 < RESPONSE_MAX);
    while (left > 0) {
        ssize_t got = recv(fd, response + len, left, 0);
        if (got <= 0) {
            break;
        }
        len += (size_t)got;
        left -= (size_t)got;
    }
    response[len] = '\0';
    return response;
}

const char *client_all(int fd) {
    size_t len = 0;
    for (;;) {
        ssize_t got = recv(fd, response + len, RESPONSE_MAX - 1 - len, 0);
        MR_ASSERT(got >= 0 || errno == ECONNRESET); /* patience is over: it hangs */
        if (got <= 0) {
            response[len] = '\0';
            return response;
        }
        len += (size_t)got;
        MR_ASSERT(len + 1 < RESPONSE_MAX);
    }
}

bool client_closed(int fd) {
    char byte;
    ssize_t got = recv(fd, &byte, 1, 0);
    MR_ASSERT(got >= 0 || errno == ECONNRESET); /* patience is over: it hangs */
    return got <= 0;
}

const char *client_once(const struct fixture *f, const char *text) {
    int fd = client_open(f);
    MR_ASSERT(fd >= 0);
    client_text(fd, text);
    const char *got = client_response(fd, strncmp(text, "HEAD", 4) == 0);
    (void)close(fd);
    return got;
}

const char *client_post(const struct fixture *f, const char *path, const char *headers,
                        const void *body, size_t len) {
    char head[4096];
    int fd = client_open(f);
    MR_ASSERT(fd >= 0);
    (void)snprintf(head, sizeof head,
                   "POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n", path, headers,
                   len);
    client_text(fd, head);
    client_send(fd, body, len);
    const char *got = client_response(fd, false);
    (void)close(fd);
    return got;
}
