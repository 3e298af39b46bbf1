/* SPDX-License-Identifier: Apache-2.0 */
#include "server/http.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/report.h"
#include "server/exchange.h"
#include "server/feeds.h"
#include "server/http_listen.h"

#include <microhttpd.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTION_MEMORY = 32 * 1024, /* measured: larger pools cost more than they give */
    PEM_MAX = 1 << 20,
    ROUND_MAX_MS = 250, /* how late a deadline may be noticed */
    ROUND_MIN_MS = 5,
    SETTLE_ROUND_NS = 2 * 1000 * 1000,
    FEED_BLOCK = 16 * 1024, /* asked for at a time */
    LOOKS_MAX = 8, /* together they cost less than suspending and waking once */
    FEEDS_END_NS = 1000 * 1000 * 1000,
};

/* What this http thread has done for its connections; one that has done something will soon look again. */
static _Thread_local uint64_t done_here;

/* ---- one request ---- */

struct header_list {
    struct mr_header *headers;
    uint32_t cap;
    uint32_t count; /* may pass cap: then the rest is not stored */
};

static enum MHD_Result add_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                  size_t name_len, const char *value, size_t value_len) {
    struct header_list *list = cls;
    (void)kind; /* asked for one kind only */
    if (list->count < list->cap) {
        list->headers[list->count] =
            (struct mr_header){mr_bytes_of(name, name_len),
                               value != NULL ? mr_bytes_of(value, value_len) : MR_BYTES("")};
    }
    list->count++;
    return MHD_YES;
}

uint32_t mr_request_headers(const struct mr_request *request, struct mr_header *ret, uint32_t cap) {
    struct header_list list = {.headers = ret, .cap = cap};
    (void)MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, add_header, &list);
    return list.count < cap ? list.count : cap;
}

struct mr_bytes mr_request_header(const struct mr_request *request, const char *name) {
    const char *value = NULL;
    size_t len = 0;
    enum MHD_Result found = MHD_lookup_connection_value_n(request->connection, MHD_HEADER_KIND,
                                                          name, strlen(name), &value, &len);
    return found == MHD_YES && value != NULL ? mr_bytes_of(value, len) : MR_BYTES("");
}

static void add_text(struct MHD_Response *response, const char *name, const char *value) {
    /* Fails without memory only: an answer without this header is better than none. */
    (void)MHD_add_response_header(response, name, value);
}

static void add_headers(struct MHD_Response *to, const struct mr_exchange *exchange) {
    const struct mr_response *from = &exchange->response;
    add_text(to, "Content-Type", from->content_type);
    add_text(to, "X-Content-Type-Options", "nosniff");
    add_text(to, "Cache-Control", "no-store");
    add_text(to, "X-Request-Id", exchange->request.request_id);
    if (from->feed != NULL) {
        add_text(to, "X-Accel-Buffering", "no"); /* nginx would hold events back */
    }
    if (strncmp(from->content_type, "text/html", 9) == 0) {
        add_text(to, "Content-Security-Policy",
                 "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
                 "frame-ancestors 'none'");
    }
    if (from->retry_after_s > 0) {
        char seconds[16];
        (void)snprintf(seconds, sizeof seconds, "%u", from->retry_after_s);
        add_text(to, "Retry-After", seconds);
    }
    if (from->allow != NULL) {
        add_text(to, "Allow", from->allow);
    }
    if (from->location[0] != '\0') {
        add_text(to, "Location", from->location);
    }
    if (from->accept_encoding != NULL) {
        add_text(to, "Accept-Encoding", from->accept_encoding);
    }
    if (from->next_cursor != NULL) {
        add_text(to, "X-Next-Cursor", from->next_cursor);
    }
    if (from->status == 401) {
        add_text(to, "WWW-Authenticate", "Bearer realm=\"millrace\"");
    }
    if (from->close) {
        add_text(to, "Connection", "close");
    }
}

/* Gives the body's memory to the response, without a copy. NULL: out of memory, the body is still
 * the caller's. */
static struct MHD_Response *create_response(struct mr_buf *body) {
    if (body->len == 0) {
        return MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer_with_free_callback(body->len, body->ptr, mr_free);
    if (response != NULL) {
        mr_buf_init(body, body->cap_max);
    }
    return response;
}

static ssize_t read_feed(void *cls, uint64_t at, char *to, size_t cap) {
    struct mr_exchange *exchange = mr_exchange_of(cls);
    size_t len = 0;
    (void)at; /* the feed knows */
    switch (mr_exchange_feed(exchange, to, cap, &len)) {
    case MR_FEED_BYTES:
        return (ssize_t)len;
    case MR_FEED_OVER:
        return MHD_CONTENT_READER_END_OF_STREAM;
    case MR_FEED_WAIT:
        break;
    }
    atomic_fetch_add_explicit(&exchange->http->away, 1, memory_order_seq_cst);
    MHD_suspend_connection(exchange->connection);
    if (!mr_exchange_feed_wait(exchange)) {
        mr_http_wake(exchange);
    }
    return 0;
}

static enum MHD_Result send_answer(struct mr_exchange *exchange) {
    mr_exchange_answer(exchange);
    struct MHD_Response *response =
        exchange->response.feed != NULL
            ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, FEED_BLOCK, read_feed, exchange, NULL)
            : create_response(&exchange->response.body);
    if (response == NULL) {
        return MHD_NO;
    }
    add_headers(response, exchange);
    enum MHD_Result queued =
        MHD_queue_response(exchange->connection, exchange->response.status, response);
    MHD_destroy_response(response); /* our reference; the connection has its own */
    return queued;
}

/* The last touch: when settle sees 0, http may be freed at once. So there is no signal; settle looks. */
static void leave(struct mr_http *http) {
    uint32_t before = atomic_fetch_sub_explicit(&http->away, 1, memory_order_seq_cst);
    MR_ASSERT(before > 0);
}

void mr_http_wake(struct mr_exchange *exchange) {
    struct mr_http *http = exchange->http;
    MHD_resume_connection(exchange->connection); /* the exchange is its http thread's again */
    leave(http);
}

static enum MHD_Result suspend(struct mr_exchange *exchange) {
    /* Suspended before it is handed over, so that waking it cannot come first. */
    atomic_fetch_add_explicit(&exchange->http->away, 1, memory_order_seq_cst);
    MHD_suspend_connection(exchange->connection);
    if (!mr_exchange_go(exchange)) {
        mr_http_wake(exchange);
    }
    return MHD_YES;
}

/* libmicrohttpd calls the handler again in its next round: the connection neither has an answer nor is suspended. */
static enum MHD_Result watch(struct mr_exchange *exchange) {
    atomic_fetch_add_explicit(&exchange->http->away, 1, memory_order_seq_cst);
    if (mr_exchange_go(exchange)) {
        exchange->looked = done_here;
        exchange->looks = 0;
        return MHD_YES;
    }
    mr_exchange_back(exchange);
    leave(exchange->http);
    return send_answer(exchange);
}

static enum MHD_Result look(struct mr_exchange *exchange) {
    struct mr_http *http = exchange->http;
    if (mr_exchange_is_decided(exchange)) {
        done_here++;
        mr_exchange_back(exchange);
        leave(http);
        return send_answer(exchange);
    }
    bool busy = exchange->looked != done_here && ++exchange->looks < LOOKS_MAX;
    exchange->looked = done_here;
    if (!busy || atomic_load_explicit(&http->closing, memory_order_seq_cst)) { /* settle abandons what rests */
        MHD_suspend_connection(exchange->connection); /* first, so that waking it cannot come before */
        if (!mr_exchange_rest(exchange)) {
            mr_http_wake(exchange);
        }
    }
    return MHD_YES;
}

static enum MHD_Result follow(struct mr_exchange *exchange, enum mr_next next) {
    switch (next) {
    case MR_NEXT_READ:
        return MHD_YES;
    case MR_NEXT_ANSWER:
        return send_answer(exchange);
    case MR_NEXT_WATCH:
        return watch(exchange);
    case MR_NEXT_SUSPEND:
        return suspend(exchange);
    case MR_NEXT_DROP:
        break;
    }
    return MHD_NO;
}

/* libmicrohttpd ends the URI at its first NUL and takes any number of spaces behind it; the version
 * then does not follow the URI at once in its buffer:
 *
 *     "/a" NUL "b" NUL "HTTP/1.1"      url ends behind "/a", version is not one behind that
 */
static bool is_line_odd(const char *url, const char *version, size_t uri_len) {
    uintptr_t end = (uintptr_t)url + uri_len;
    uintptr_t next = (uintptr_t)version;
    bool same_buffer = next > (uintptr_t)url && next - (uintptr_t)url <= CONNECTION_MEMORY;
    return same_buffer && next != end + 1;
}

static enum MHD_Result read_head(struct mr_exchange *exchange, const char *url, const char *method,
                                 const char *version) {
    struct mr_header headers[MR_GUARD_HEADERS_MAX];
    struct header_list list = {.headers = headers, .cap = MR_GUARD_HEADERS_MAX};
    (void)MHD_get_connection_values_n(exchange->connection, MHD_HEADER_KIND, add_header, &list);
    struct mr_guard_input input = {
        .method = mr_bytes_text(method),
        .version = mr_bytes_text(version),
        .headers = headers,
        .header_count = list.count, /* more than cap: the guard refuses without reading them */
    };
    exchange->line_odd = is_line_odd(url, version, exchange->uri.len);
    return follow(exchange, mr_exchange_head(exchange, &input));
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **context) {
    (void)cls;
    (void)connection;
    if (*context == NULL) {
        return MHD_NO; /* no memory when it connected */
    }
    struct mr_exchange *exchange = mr_exchange_of(*context);
    if (exchange->stage == MR_STAGE_LINE) {
        return read_head(exchange, url, method, version);
    }
    if (exchange->stage == MR_STAGE_AWAY) {
        if (exchange->watched) {
            return look(exchange);
        }
        mr_exchange_back(exchange);
        return send_answer(exchange);
    }
    done_here++;
    if (exchange->stage == MR_STAGE_ANSWERING) {
        /* The daemon stops: MHD_queue_response said yes, dropped the answer, and asks again. */
        return MHD_NO;
    }
    if (*data_len == 0) {
        return follow(exchange, mr_exchange_end(exchange));
    }
    struct mr_bytes piece = mr_bytes_of(data, *data_len);
    *data_len = 0; /* all of it is taken */
    return follow(exchange, mr_exchange_body(exchange, piece));
}

/* ---- one connection ---- */

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code) {
    struct mr_http *http = cls;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*context != NULL) {
            mr_exchange_close(mr_exchange_of(*context));
        }
        *context = NULL;
        atomic_fetch_sub_explicit(&http->server->connections, 1, memory_order_relaxed);
        return;
    }
    mr_counter_add_shared(&http->server->connections, 1);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    MR_ASSERT(info != NULL);
    struct mr_exchange *exchange = NULL;
    if (mr_exchange_open(http, info->connect_fd, connection, &exchange) != MR_OK) {
        (void)shutdown(info->connect_fd,
                       SHUT_RDWR); /* without an exchange it would have no deadline */
    }
    *context = exchange;
}

static void *on_line(void *cls, const char *uri, struct MHD_Connection *connection) {
    (void)cls;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info == NULL || info->socket_context == NULL) {
        return NULL;
    }
    struct mr_exchange *exchange = mr_exchange_of(info->socket_context);
    mr_exchange_line(exchange, uri);
    return exchange;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code) {
    (void)cls;
    (void)connection;
    (void)code;
    if (*context != NULL) {
        struct mr_exchange *exchange = mr_exchange_of(*context);
        bool watched = exchange->stage == MR_STAGE_AWAY && exchange->watched;
        mr_exchange_over(exchange);
        if (watched) {
            leave(exchange->http);
        }
    }
    *context = NULL;
}

/* Paths are matched as sent and decoded by the router: nothing is to be decoded before the guard
 * looks. */
static size_t keep_escaped(void *cls, struct MHD_Connection *connection, char *text) {
    (void)cls;
    (void)connection;
    return strlen(text);
}

static void on_log(void *cls, const char *format, va_list args) {
    struct mr_http *http = cls;
    char text[256];
    char quoted[600];
    /* The format is libmicrohttpd's own. */
    (void)vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\r\n")] = '\0';
    if (atomic_load_explicit(&http->starting, memory_order_relaxed)) {
        (void)snprintf(http->start_text, sizeof http->start_text, "%s", text);
        return;
    }
    mr_report(MR_LEVEL_DEBUG, "http", "text=%s", mr_report_value(text, quoted, sizeof quoted));
}

/* ---- the daemon ---- */

static enum mr_status read_pem(struct mr_bytes path, struct mr_buf *ret, struct mr_error *error) {
    char name[4096];
    int len = snprintf(name, sizeof name, "%.*s", (int)path.len, (const char *)path.ptr);
    if (len < 0 || (size_t)len >= sizeof name) {
        return mr_error_set(error, MR_INVALID, "the path of a TLS file is too long");
    }
    mr_buf_init(ret, PEM_MAX);
    enum mr_status status = mr_disk_read_all(mr_disk_system(), name, ret);
    mr_buf_append_char(ret, '\0');
    if (status != MR_OK || ret->failed) {
        return mr_error_set(error, MR_INVALID, "cannot read the TLS file %s: %s", name,
                            mr_status_text(status == MR_OK ? MR_NO_MEMORY : status));
    }
    return MR_OK;
}

static enum mr_status read_tls(struct mr_http *http, struct mr_error *error) {
    const struct mr_config *config = http->server->config;
    if (!config->http.tls) {
        return MR_OK;
    }
    enum mr_status status = read_pem(config->http.tls_cert_file, &http->certificate, error);
    return status == MR_OK ? read_pem(config->http.tls_key_file, &http->key, error) : status;
}

/* Options that only some configurations have; returns how many, the end included. */
static void fill_options(struct mr_http *http, struct MHD_OptionItem options[8]) {
    const struct mr_config *config = http->server->config;
    uint32_t n = 0;
    if (config->http.threads > 1) {
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE,
                                               (intptr_t)config->http.threads, NULL};
    }
    if (config->http.tls) {
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, http->certificate.ptr};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, http->key.ptr};
        options[n++] = (struct MHD_OptionItem){
            MHD_OPTION_HTTPS_PRIORITIES, 0,
            (void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
    }
    options[n++] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    MR_ASSERT(n <= 8);
}

static enum mr_status start_daemon(struct mr_http *http, struct mr_error *error) {
    const struct mr_config *config = http->server->config;
    struct MHD_OptionItem options[8];
    unsigned int flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    bool ipv6 = config->http.host.len > 0 &&
                memchr(config->http.host.ptr, ':', config->http.host.len) != NULL;
    flags |= config->http.tls ? MHD_USE_TLS : 0;
    flags |= ipv6 ? MHD_USE_IPv6 : 0;
    fill_options(http, options);
    atomic_store_explicit(&http->starting, true, memory_order_relaxed);
    http->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_log, http,
        MHD_OPTION_LISTEN_SOCKET, http->listen_fd, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
        http, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_URI_LOG_CALLBACK, on_line,
        http, MHD_OPTION_UNESCAPE_CALLBACK, keep_escaped, http, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned int)config->http.connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned int)config->http.connections_per_address, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
        MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    atomic_store_explicit(&http->starting, false, memory_order_relaxed);
    if (http->daemon == NULL) {
        /* Some of its failures close the socket, some do not. */
        http->listen_fd = fcntl(http->listen_fd, F_GETFD) < 0 ? -1 : http->listen_fd;
        const char *why = http->start_text[0] != '\0' ? http->start_text : strerror(errno);
        const struct mr_bytes cert = config->http.tls_cert_file;
        const struct mr_bytes key = config->http.tls_key_file;
        return config->http.tls
                   ? mr_error_set(error, MR_INVALID,
                                  "cannot start the HTTP server with certificate %.*s and key %.*s: %s",
                                  (int)cert.len, (const char *)cert.ptr, (int)key.len,
                                  (const char *)key.ptr, why)
                   : mr_error_set(error, MR_IO, "cannot start the HTTP server: %s", why);
    }
    return MR_OK;
}

static uint64_t ns_of(int64_t ms) {
    MR_ASSERT(ms > 0);
    return (uint64_t)ms * 1000000u;
}

/* Often enough that a deadline is noticed within a tenth of the shortest. */
static int64_t round_ms(const struct mr_config *config) {
    int64_t least = config->http.header_timeout_ms;
    least = config->http.body_timeout_ms < least ? config->http.body_timeout_ms : least;
    least = config->http.idle_timeout_ms < least ? config->http.idle_timeout_ms : least;
    int64_t round = least / 10;
    return round < ROUND_MIN_MS ? ROUND_MIN_MS : round > ROUND_MAX_MS ? ROUND_MAX_MS : round;
}

static enum mr_status start(struct mr_http *http, struct mr_error *error) {
    struct mr_server *server = http->server;
    const struct mr_config *config = server->config;
    enum mr_status status = read_tls(http, error);
    if (status == MR_OK) {
        status = mr_http_listen_open(config, &http->listen_fd, &http->port, error);
    }
    if (status != MR_OK) {
        return status; /* has a text */
    }
    status = mr_random_bytes(&http->id_seed, sizeof http->id_seed);
    if (status == MR_OK) {
        status = mr_deadlines_open(server->clock, round_ms(config), &http->deadlines);
    }
    if (status == MR_OK) {
        status = mr_ingest_open(server, &http->admission, config->http.threads, &http->ingest);
    }
    if (status == MR_OK) {
        status = mr_workers_open(server->results, MR_QUERY_WORKERS, &http->workers);
    }
    if (status == MR_OK) {
        struct mr_feeds_options feeds = {
            .results = server->results,
            .clock = server->clock,
            .open = &server->feeds_open,
            .panes = server->feed_panes,
        };
        status = mr_feeds_open(&feeds, &http->feeds);
    }
    if (status != MR_OK) {
        return mr_error_set(error, status, "cannot start the HTTP server: %s",
                            mr_status_text(status));
    }
    return start_daemon(http, error);
}

enum mr_status mr_http_open(struct mr_server *server, struct mr_http **ret,
                            struct mr_error *error) {
    const struct mr_config *config = server->config;
    struct mr_http *http = mr_alloc_zero(1, sizeof *http);
    if (http == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "cannot start the HTTP server: no memory");
    }
    http->server = server;
    http->listen_fd = -1;
    http->sink_fd = -1;
    http->header_ns = ns_of(config->http.header_timeout_ms);
    http->body_ns = ns_of(config->http.body_timeout_ms);
    http->idle_ns = ns_of(config->http.idle_timeout_ms);
    mr_admission_init(&http->admission, config->limits.in_flight_bytes, &server->in_flight_bytes);
    for (uint32_t i = 0; i < MR_ROUTES_MAX; i++) {
        int failed = pthread_mutex_init(&http->duration_locks[i], NULL);
        MR_ASSERT(failed == 0);
    }
    *ret = http; /* before the threads that look at it through the server */
    enum mr_status status = start(http, error);
    if (status != MR_OK) {
        mr_http_close(http);
        *ret = NULL;
    }
    return status;
}

void mr_http_quiesce(struct mr_http *http) {
    if (http->quiesced || http->daemon == NULL) {
        return;
    }
    http->quiesced = true;
    http->sink_fd = mr_http_listen_refuse(http->listen_fd); /* MHD_quiesce_daemon is not safe */
}

void mr_http_end_feeds(struct mr_http *http) {
    mr_feeds_stop(http->feeds, FEEDS_END_NS);
}

static void abandon(struct mr_deadline *entry, void *ctx) {
    struct mr_exchange *exchange = mr_exchange_of(entry);
    (void)ctx;
    if (mr_ingest_abandon(&exchange->ingest)) {
        mr_http_wake(exchange);
    }
}

/* Every suspended connection is resumed: libmicrohttpd cannot be stopped before. */
static void settle(struct mr_http *http) {
    struct mr_event_count round; /* nobody signals it: see mr_http_wake */
    atomic_store_explicit(&http->closing, true, memory_order_seq_cst); /* I2 */
    mr_workers_close(http->workers);
    http->workers = NULL;
    mr_feeds_stop(http->feeds, 0); /* behind the workers, who begin feeds */
    mr_event_count_init(&round);
    for (;;) {
        if (http->deadlines != NULL) {
            mr_deadlines_visit(http->deadlines, abandon, NULL);
        }
        if (atomic_load_explicit(&http->away, memory_order_seq_cst) == 0) {
            return;
        }
        mr_event_count_wait(&round, mr_event_count_value(&round), SETTLE_ROUND_NS);
    }
}

static void close_fd(int fd) {
    if (fd >= 0) {
        (void)close(fd);
    }
}

void mr_http_close(struct mr_http *http) {
    if (http == NULL) {
        return;
    }
    mr_http_quiesce(http);
    settle(http);
    if (http->daemon != NULL) {
        MHD_stop_daemon(http->daemon);
        http->listen_fd = -1; /* it closed that */
    }
    close_fd(http->listen_fd);
    close_fd(http->sink_fd);
    mr_feeds_close(http->feeds);
    mr_deadlines_close(http->deadlines);
    mr_ingest_close(http->ingest);
    mr_buf_finish(&http->certificate);
    if (http->key.ptr != NULL) {
        explicit_bzero(http->key.ptr, http->key.len);
    }
    mr_buf_finish(&http->key);
    for (uint32_t i = 0; i < MR_ROUTES_MAX; i++) {
        int failed = pthread_mutex_destroy(&http->duration_locks[i]);
        MR_ASSERT(failed == 0);
    }
    mr_free(http);
}
