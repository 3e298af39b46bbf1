/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sender: one thread of a run and its connections: HTTP/1.1 keep-alive, one request under way on each, epoll.
 *
 * Idea        One request is always built ahead, so that building does not delay the one that is due; its bytes go to a
 *             connection by swapping two buffers. Bytes stay until the answer is there: a 503, or a connection that
 *             ended, is followed by the same bytes again.
 *
 *                 CLOSED ──▶ CONNECTING ──▶ IDLE ──▶ SENDING ──▶ WAITING ──▶ IDLE
 *                    ▲            │          ▲          │           │  503
 *                    └────────────┴──────────┼──ended───┴───────────┼────▶ PAUSED (Retry-After) ──▶ SENDING
 *                    (with a request: it is sent again on the new connection)
 * Threads     open, connect, join, close: the run's owner; all else the thread itself.
 * Invariants  I1 A connection has a request exactly if `busy`. I2 fd is -1 exactly when CLOSED.
 */
#include "bench/load/run.h"

enum mr_load_state {
    MR_LOAD_CLOSED,
    MR_LOAD_CONNECTING,
    MR_LOAD_IDLE,
    MR_LOAD_SENDING,
    MR_LOAD_WAITING,
    MR_LOAD_PAUSED,
};

struct mr_load_conn {
    int fd;
    enum mr_load_state state;
    bool busy;
    struct mr_load_body body;
    struct mr_buf in;
    size_t sent;
    uint64_t sent_ns;    /* when the sending began */
    uint64_t wake_ns;    /* PAUSED: until then; CLOSED: connect again then */
    uint64_t failing_ns; /* since when it could not connect; 0: it could */
    bool repeated;       /* the request was sent before */
};

struct mr_load_tallies {
    struct mr_load_tally parts[2]; /* warm-up, measured */
};

struct mr_load_sender {
    struct mr_load_run *run;
    struct mr_load_tallies *tallies;
    struct mr_load_maker maker;
    struct mr_load_conn *conns;
    uint32_t conn_count;
    struct mr_load_body ready; /* built, not sent */
    bool has_ready;
    bool ended; /* no more to take */
    uint32_t unseen; /* events sent since epoll was asked */
    struct mr_buf chunks;
    int epoll_fd;
    int timer_fd;
    uint64_t timer_ns; /* what it is set to; 0: off */
    bool started;
    pthread_t thread;
};

enum mr_status mr_load_sender_open(struct mr_load_sender *sender, struct mr_load_run *run,
                                   uint32_t connections) MR_MUST_CHECK;
/* The first connections, waited for, so that a wrong address is told at once. */
enum mr_status mr_load_sender_connect(struct mr_load_sender *sender,
                                      struct mr_error *error) MR_MUST_CHECK;
bool mr_load_sender_start(struct mr_load_sender *sender);
void mr_load_sender_join(struct mr_load_sender *sender); /* not started: does nothing */
void mr_load_sender_close(struct mr_load_sender *sender);
