/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Exchange: one connection's current request and its answer, step by step; without libmicrohttpd.
 *
 * Idea        Refusals are made as early as possible, but told when the client listens: after an early answer the
 *             connection must close with unread bytes in it, which resets it and often eats the answer. So a
 *             refused body is read and dropped up to MR_DISCARD_MAX, and then the answer goes out.
 *
 *      IDLE ─line─▶ LINE ─head─▶ READING ─end──▶ AWAY ─back─▶ ANSWERING ─over─▶ IDLE
 *                    │             │ │ └──end────────────────────▲
 *                    │             ▼ refused                      │
 *                    ├─refused─▶ DISCARDING ─end──────────────────┤
 *                    └─at once (100-continue, unreadable, too long)┘
 *
 *             A batch is decided within the time that the http thread needs for what the other connections send. So
 *             its connection is not suspended at once, which would cost the http thread and the waking shard several
 *             system calls: while others keep the thread busy, libmicrohttpd calls the handler in each of its rounds,
 *             and the exchange looks. A thread with nothing else to do suspends it, and so does one that has looked a
 *             few times.
 *
 *                 AWAY: go ──▶ look, look, … ──decided──▶ back
 *                          └──▶ suspend, rest ⋯⋯ wake ──▶ back
 *
 *             over may come at any time: the client went away. At rest it comes only behind wake, for
 *             libmicrohttpd looks at the socket before it calls the handler of a resumed connection again.
 * Owner       The http layer, one for each connection.
 *             ANSWERING with a feed lasts as long as the feed; suspended while there is nothing to send.
 * Threads     One at a time: the http thread; AWAY: a worker, or nobody while it rests and the pipeline has the batch;
 *             with a feed that waits, nobody: over comes behind wake here, too.
 * Invariants  I1 stage moves only as drawn (checked).
 *             I2 entered: the admission counts this request, from head to over.
 */
#include "server/deadlines.h"
#include "server/feeds.h"
#include "server/ingest.h"
#include "server/routes.h"
#include "server/workers.h"

#define MR_DISCARD_MAX (1u << 20)
#define MR_SMALL_BODY_MAX (64u << 10)  /* of routes other than ingest */
#define MR_UPLOAD_BODY_MAX (1u << 20) /* of those that take a configuration: MR_YAML_BYTES_MAX */

struct mr_http;

enum mr_stage {
    MR_STAGE_IDLE,
    MR_STAGE_LINE,
    MR_STAGE_READING,
    MR_STAGE_DISCARDING,
    MR_STAGE_AWAY,
    MR_STAGE_ANSWERING,
    MR_STAGE_COUNT
};

/* What the http layer does next. */
enum mr_next {
    MR_NEXT_READ,    /* the body, if there is one */
    MR_NEXT_ANSWER,  /* exchange->response */
    MR_NEXT_WATCH,   /* mr_exchange_go, then look until it is decided or mr_exchange_rest */
    MR_NEXT_SUSPEND, /* suspend the connection, then mr_exchange_go */
    MR_NEXT_DROP,    /* close without an answer */
};

struct mr_exchange {
    struct mr_deadline deadline; /* first: the registry's entry is the exchange */
    uint32_t magic;
    struct mr_http *http;
    void *connection; /* libmicrohttpd's */
    enum mr_stage stage;
    bool entered;
    bool went;          /* go handed the request over */
    bool watched;       /* and its connection is not suspended */
    bool uri_too_long;
    bool line_odd;      /* set by the http layer: the line has more in it than method, URI and version */
    uint64_t requests;  /* begun on this connection */
    uint32_t looks;     /* the http layer's: since go */
    uint64_t looked;    /* the http layer's: what its thread had done at the last look */
    uint64_t started_ns;
    uint64_t discarded;
    struct mr_buf uri;
    struct mr_buf scratch; /* path parameters */
    struct mr_buf body;    /* of routes other than ingest */
    struct mr_guard_facts facts;
    const struct mr_route *route; /* NULL: none found */
    struct mr_request request;
    struct mr_response response;
    struct mr_worker_job job;
    struct mr_ingest_call ingest;
};

enum mr_status mr_exchange_open(struct mr_http *http, int fd, void *connection,
                                struct mr_exchange **ret) MR_MUST_CHECK;
void mr_exchange_close(struct mr_exchange *exchange); /* NULL is fine */
/* The exchange that a registry entry or a callback's pointer is; asserted. */
struct mr_exchange *mr_exchange_of(void *pointer);

/* The request line was read; the URI is as sent. */
void mr_exchange_line(struct mr_exchange *exchange, const char *uri);
/* The header was read. input->uri is filled in here. READ or ANSWER. */
enum mr_next mr_exchange_head(struct mr_exchange *exchange, struct mr_guard_input *input);
/* READ or DROP. */
enum mr_next mr_exchange_body(struct mr_exchange *exchange, struct mr_bytes piece);
/* ANSWER, WATCH or SUSPEND. */
enum mr_next mr_exchange_end(struct mr_exchange *exchange);
/* Hands the request over, and unless it is watched, is done with the exchange: its connection is suspended. false:
 * refused, the caller answers, or wakes the connection itself. */
bool mr_exchange_go(struct mr_exchange *exchange) MR_MUST_CHECK;
/* Watched: whether mr_exchange_back may be called. */
bool mr_exchange_is_decided(const struct mr_exchange *exchange);
/* Watched until now; the connection is suspended: from here on it is woken. false: as with go. */
bool mr_exchange_rest(struct mr_exchange *exchange) MR_MUST_CHECK;
/* Decided, or the connection was resumed: the response is filled. */
void mr_exchange_back(struct mr_exchange *exchange);
/* Last checks of the response before it is sent. */
void mr_exchange_answer(struct mr_exchange *exchange);
/* With a feed: the next bytes of the answer. WAIT: suspend the connection, then mr_exchange_feed_wait. */
enum mr_feed_next mr_exchange_feed(struct mr_exchange *exchange, char *to, size_t cap, size_t *ret_len);
/* As mr_exchange_go. */
bool mr_exchange_feed_wait(struct mr_exchange *exchange) MR_MUST_CHECK;
/* The request is over, answered or not. */
void mr_exchange_over(struct mr_exchange *exchange);
