/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Request and response as routes see them; no libmicrohttpd type passes this header.
 *
 * Idea        A route is a row in a table (server/routes.c): method, path pattern, right, where it runs, handler.
 *             QUICK handlers run on the http thread and must not wait. WORKER handlers run on a query worker
 *             with the connection suspended: they may read files and the results store, ask the pipeline and
 *             wait. INGEST is the one asynchronous route (server/ingest.c).
 * Owner       The http layer owns request and response; a handler borrows them for the call.
 * Threads     One thread at a time.
 */
#include "base/bytes.h"
#include "base/json.h"
#include "config/config.h"

struct mr_server;
struct mr_results_reader;
struct mr_feed;

enum mr_method { MR_METHOD_GET, MR_METHOD_HEAD, MR_METHOD_POST, MR_METHOD_DELETE, MR_METHOD_COUNT };

#define MR_PATH_PARAMS_MAX 2

struct mr_request {
    struct mr_server *server;
    enum mr_method method; /* HEAD runs the GET handler; the body is dropped by the http layer */
    struct mr_bytes path;  /* without the query, percent-encoded as sent */
    struct mr_bytes query; /* behind '?', as sent; parse with server/params.h */
    struct mr_bytes params[MR_PATH_PARAMS_MAX]; /* path pattern's {…}, percent-decoded */
    uint32_t rights;       /* of the token (enum mr_right); all of them without authentication */
    const struct mr_config_token *token; /* NULL without authentication */
    struct mr_bytes accept; /* header Accept, may be empty */
    struct mr_bytes body;   /* small bodies of admin routes */
    struct mr_results_reader *reader; /* WORKER only: this worker's own */
    char request_id[65];
    void *connection; /* the http layer's own: header look-ups */
};

struct mr_response {
    unsigned int status;      /* 200 unless set */
    const char *content_type; /* application/json unless set */
    uint32_t retry_after_s;   /* 0: no header */
    const char *allow;        /* NULL: no Allow header */
    char location[96];        /* empty: no Location header */
    const char *accept_encoding; /* NULL, or for 415 */
    bool close;               /* close the connection after the answer */
    struct mr_feed *feed;     /* NULL, or the answer: server/feeds.h; the http layer ends it. body is not used */
    char *next_cursor;        /* NULL, or header X-Next-Cursor; mr_alloc, freed by the http layer */
    struct mr_buf body;
};

typedef void mr_handler(struct mr_request *request, struct mr_response *response);

/* Fills response with application/problem+json (RFC 9457): {"type":"about:blank","title","status","detail"},
 * the title being the status' reason phrase. detail: what was found, what was expected. */
void mr_problem(struct mr_response *response, unsigned int status, const char *format, ...)
    MR_PRINTF(3, 4);

/* Whether the request's token may use this stream (true without authentication). */
bool mr_request_may_use_stream(const struct mr_request *request, uint32_t stream);

/* Whether it may use every stream that the rule reads. The one place that knows which these are. */
bool mr_request_may_use_rule(const struct mr_request *request, uint32_t rule);

/* A request header's value, empty when absent; borrowed for the handler's call. */
struct mr_bytes mr_request_header(const struct mr_request *request, const char *name);
