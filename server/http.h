/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * HTTP: the daemon: sockets, threads, TLS, limits on connections; and sending answers. http.c is the one user of
 * libmicrohttpd; what a request goes through is server/exchange.h.
 *
 * Idea        libmicrohttpd's threads call into an exchange; an exchange that must wait says so, its connection
 *             is suspended, and whoever has it wakes it. Nothing waits on an http thread. (While its thread is busy,
 *             a batch is looked at in libmicrohttpd's rounds instead: server/exchange.h.)
 * Owner       The server.
 * Threads     http threads: exchanges. Any thread: wake. One thread opens, quiesces, settles and closes.
 * Errors      open: MR_BUSY the port is in use; MR_INVALID certificate or key not usable; MR_IO, MR_NO_MEMORY;
 *             with a text.
 * Invariants  I1 away counts the connections whose requests are handed over: watched, or suspended until the end of
 *             wake; 0 before the daemon is stopped, for libmicrohttpd aborts over suspended ones, and the others get
 *             their answers.
 *             I2 an exchange adds to away and then reads closing; settle sets closing and then reads away (all
 *             seq_cst): no connection is away that settle does not see.
 */
#include "server/admission.h"
#include "server/deadlines.h"
#include "server/guard.h"
#include "server/server.h"

#include <pthread.h>

#define MR_RESPONSE_MAX (256u << 20) /* bytes of one answer; a query's own limits are far below */

struct MHD_Daemon;
struct mr_exchange;
struct mr_feeds;
struct mr_ingest;
struct mr_workers;

struct mr_http {
    /* Constant after open. */
    struct mr_server *server;
    struct MHD_Daemon *daemon;
    struct mr_deadlines *deadlines;
    struct mr_ingest *ingest;
    struct mr_workers *workers;
    struct mr_feeds *feeds;
    uint64_t header_ns;
    uint64_t body_ns;
    uint64_t idle_ns;
    uint64_t id_seed; /* of the request ids made here */
    int listen_fd;    /* libmicrohttpd's as soon as there is a daemon; -1: none */
    uint16_t port;
    bool quiesced;
    int sink_fd;               /* see http_listen.h; -1: none */
    struct mr_buf certificate; /* NUL-terminated */
    struct mr_buf key;
    char start_text[256]; /* what libmicrohttpd said while starting */

    /* Shared. */
    struct mr_admission admission;
    mr_counter id_next;
    _Atomic bool starting;
    _Atomic bool closing;
    _Atomic uint32_t away;
    /* A histogram has one writer at a time. */
    pthread_mutex_t duration_locks[MR_ROUTES_MAX];
};

/* server->config, plan, pipeline, results and clock are set. */
enum mr_status mr_http_open(struct mr_server *server, struct mr_http **ret,
                            struct mr_error *error) MR_MUST_CHECK;
/* No new connections from here on. */
void mr_http_quiesce(struct mr_http *http);
/* Event streams end, and no new ones begin. Waits a moment for clients that take the end. */
void mr_http_end_feeds(struct mr_http *http);
/* Ends every connection, those that wait for the pipeline with 503. NULL is fine. */
void mr_http_close(struct mr_http *http);

/* The exchange's connection goes on, on its http thread. The last thing the caller does with the exchange. */
void mr_http_wake(struct mr_exchange *exchange);

/* All header fields of a request, at most cap; returns how many there are. Borrowed as from mr_request_header. */
uint32_t mr_request_headers(const struct mr_request *request, struct mr_header *ret, uint32_t cap);
