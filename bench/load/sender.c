/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/sender.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "bench/load/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { ANSWER_MAX = 16 << 20, READ_BYTES = 16 << 10, EVENTS = 64, RECONNECT_MS = 100, LOOK_MS = 100, UNSEEN_MAX = 1000 };

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)
#define TIMER     UINT32_MAX /* epoll's word for the timer; connections have their index */

static uint64_t now_ns(void) {
    return mr_clock_mono_ns(mr_clock_system());
}

enum mr_status mr_load_sender_open(struct mr_load_sender *sender, struct mr_load_run *run,
                                   uint32_t connections) {
    *sender = (struct mr_load_sender){.run = run, .maker = run->maker, .epoll_fd = -1, .timer_fd = -1};
    mr_load_body_init(&sender->ready);
    mr_buf_init(&sender->chunks, ANSWER_MAX);
    mr_buf_init(&sender->maker.raw, sender->ready.buf.cap_max);
    sender->tallies = mr_alloc_zero(1, sizeof *sender->tallies);
    sender->conns = mr_alloc_zero(connections, sizeof *sender->conns);
    if (sender->tallies == NULL || sender->conns == NULL) {
        return MR_NO_MEMORY;
    }
    for (; sender->conn_count < connections; sender->conn_count++) {
        struct mr_load_conn *conn = &sender->conns[sender->conn_count];
        conn->fd = -1;
        mr_load_body_init(&conn->body);
        mr_buf_init(&conn->in, ANSWER_MAX);
    }
    sender->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    sender->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = TIMER};
    bool made = sender->epoll_fd >= 0 && sender->timer_fd >= 0 &&
                epoll_ctl(sender->epoll_fd, EPOLL_CTL_ADD, sender->timer_fd, &event) == 0;
    return made ? MR_OK : MR_IO;
}

static void close_fd(int *fd) {
    if (*fd >= 0) {
        (void)close(*fd); /* a socket or a timer: nothing is lost */
    }
    *fd = -1;
}

void mr_load_sender_close(struct mr_load_sender *sender) {
    for (uint32_t i = 0; i < sender->conn_count; i++) {
        close_fd(&sender->conns[i].fd);
        mr_load_body_finish(&sender->conns[i].body);
        mr_buf_finish(&sender->conns[i].in);
    }
    close_fd(&sender->epoll_fd);
    close_fd(&sender->timer_fd);
    mr_load_body_finish(&sender->ready);
    mr_load_maker_finish(&sender->maker);
    mr_buf_finish(&sender->chunks);
    mr_free(sender->conns);
    mr_free(sender->tallies);
}

/* Edge-triggered and for both ways, once: no epoll_ctl for a request. */
static bool watch(struct mr_load_sender *sender, struct mr_load_conn *conn) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.u32 = (uint32_t)(conn - sender->conns)};
    return epoll_ctl(sender->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) == 0;
}

enum mr_status mr_load_sender_connect(struct mr_load_sender *sender, struct mr_error *error) {
    for (uint32_t i = 0; i < sender->conn_count; i++) {
        struct mr_load_conn *conn = &sender->conns[i];
        enum mr_status status = mr_load_target_connect(sender->maker.target, &conn->fd, error);
        if (status != MR_OK) {
            return status;
        }
        if (fcntl(conn->fd, F_SETFL, O_NONBLOCK) != 0 || !watch(sender, conn)) {
            return mr_error_set(error, MR_IO, "cannot use a socket: %s", strerror(errno));
        }
        conn->state = MR_LOAD_IDLE;
    }
    return MR_OK;
}

/* The run ends for all. */
static void fail(struct mr_load_sender *sender, const char *what) {
    struct mr_error error;
    (void)mr_error_set(&error, MR_IO, "%s", what);
    mr_load_run_fail(sender->run, &error);
}

/* A request may be sent again until this long after the run's end: then the server will not take it any more. */
static bool is_too_late(const struct mr_load_sender *sender, uint64_t now) {
    return now > sender->run->end_ns + (uint64_t)sender->run->options->timeout_ms * NS_PER_MS;
}

static void lose(struct mr_load_sender *sender, struct mr_load_conn *conn, uint64_t now) {
    close_fd(&conn->fd);
    bool was_connected = conn->state != MR_LOAD_CONNECTING;
    conn->state = MR_LOAD_CLOSED;
    conn->failing_ns = conn->failing_ns == 0 ? now : conn->failing_ns;
    conn->wake_ns = was_connected && !conn->repeated ? now : now + RECONNECT_MS * NS_PER_MS;
    mr_buf_clear(&conn->in);
    if (now - conn->failing_ns > (uint64_t)sender->run->options->timeout_ms * NS_PER_MS) {
        fail(sender, "the server cannot be reached any more, for longer than --timeout");
    } else if (conn->busy && is_too_late(sender, now)) {
        fail(sender, "the server ends connections instead of answering a request, for longer than --timeout");
    }
}

/* Writes what the socket takes. */
static void send_more(struct mr_load_sender *sender, struct mr_load_conn *conn) {
    struct mr_bytes bytes = mr_load_body_bytes(&conn->body);
    while (conn->sent < bytes.len) {
        ssize_t n = send(conn->fd, bytes.ptr + conn->sent, bytes.len - conn->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return;
        }
        if (n < 0) {
            lose(sender, conn, now_ns());
            return;
        }
        conn->sent += (size_t)n;
    }
    conn->state = MR_LOAD_WAITING;
}

static void begin_sending(struct mr_load_sender *sender, struct mr_load_conn *conn, uint64_t now) {
    conn->state = MR_LOAD_SENDING;
    conn->sent = 0;
    conn->sent_ns = now;
    send_more(sender, conn);
}

static struct mr_load_tally *tally_of(struct mr_load_sender *sender, const struct mr_load_body *body) {
    return &sender->tallies->parts[body->due_ns >= sender->run->measure_ns];
}

static void count_again(struct mr_load_sender *sender, struct mr_load_conn *conn, _Atomic uint64_t *cell) {
    mr_load_count(cell, 1);
    if (!conn->repeated) {
        mr_load_count(&tally_of(sender, &conn->body)->uncertain, conn->body.events);
    }
    conn->repeated = true;
}

/* A new connection is there: goes on with the request that it was lost with. */
static void connected(struct mr_load_sender *sender, struct mr_load_conn *conn, uint64_t now) {
    int number = 0;
    socklen_t len = sizeof number;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &number, &len) != 0 || number != 0) {
        lose(sender, conn, now);
        return;
    }
    conn->failing_ns = 0;
    conn->state = MR_LOAD_IDLE;
    if (conn->busy) {
        count_again(sender, conn, &tally_of(sender, &conn->body)->resent);
        begin_sending(sender, conn, now);
    }
}

static void reconnect(struct mr_load_sender *sender, struct mr_load_conn *conn, uint64_t now) {
    struct mr_error error;
    conn->state = MR_LOAD_CONNECTING;
    conn->wake_ns = now + (uint64_t)sender->run->options->timeout_ms * NS_PER_MS;
    if (mr_load_target_begin(sender->maker.target, &conn->fd, &error) != MR_OK || !watch(sender, conn)) {
        lose(sender, conn, now);
    }
}

/* The verdicts of a 200, or of a 400 where every event was rejected. */
static bool take_counts(struct mr_load_tally *tally, const struct mr_load_answer *answer,
                        const struct mr_load_body *body) {
    uint64_t received;
    uint64_t accepted;
    uint64_t duplicate;
    uint64_t late;
    uint64_t rejected;
    uint64_t pending = 0;
    if (!mr_load_member_uint(answer->body, "received", &received) ||
        !mr_load_member_uint(answer->body, "accepted", &accepted) ||
        !mr_load_member_uint(answer->body, "duplicate", &duplicate) ||
        !mr_load_member_uint(answer->body, "late", &late) ||
        !mr_load_member_uint(answer->body, "rejected", &rejected)) {
        return false;
    }
    (void)mr_load_member_uint(answer->body, "pending", &pending); /* only there when not 0 */
    if (received != body->events || received != accepted + duplicate + late + rejected + pending) {
        return false;
    }
    mr_load_count(&tally->accepted, accepted);
    mr_load_count(&tally->duplicate, duplicate);
    mr_load_count(&tally->late, late);
    mr_load_count(&tally->rejected, rejected);
    mr_load_count(&tally->pending, pending);
    mr_load_count(&tally->planned_accepted, body->fresh);
    mr_load_count(&tally->planned_duplicate, body->repeated);
    mr_load_count(&tally->planned_late, body->late);
    mr_load_count(&tally->requests, 1);
    mr_load_count(&tally->events, body->events);
    mr_load_count(&tally->bytes, mr_load_body_bytes(body).len);
    return true;
}

static void refuse(struct mr_load_sender *sender, const struct mr_load_answer *answer) {
    struct mr_bytes detail = mr_load_answer_detail(answer);
    struct mr_error error;
    (void)mr_error_set(&error, MR_IO, "the server answered %u: %.*s%s", answer->status, (int)detail.len,
                       (const char *)detail.ptr,
                       answer->status == 404
                           ? " (millrace-bench … --print-config prints a configuration that fits, or use --stream)"
                       : answer->status == 401 ? " (--token-file)"
                                               : "");
    mr_load_run_fail(sender->run, &error);
}

static void take_answer(struct mr_load_sender *sender, struct mr_load_conn *conn,
                        const struct mr_load_answer *answer, uint64_t now) {
    struct mr_load_tally *tally = tally_of(sender, &conn->body);
    bool again = answer->status == 503 || answer->status == 429;
    uint64_t wake_ns = now + (answer->retry_after_s > 0 ? answer->retry_after_s : 1) * NS_PER_S;
    if (again && !is_too_late(sender, wake_ns)) {
        count_again(sender, conn, &tally->retried);
        conn->wake_ns = wake_ns;
        conn->state = MR_LOAD_PAUSED;
        return;
    }
    if (answer->status != 200 && answer->status != 400) {
        refuse(sender, answer);
        return;
    }
    if (!take_counts(tally, answer, &conn->body)) {
        if (answer->status == 400) {
            refuse(sender, answer);
        } else {
            fail(sender, "an answer without the verdicts of all events that were sent");
        }
        return;
    }
    mr_histogram_add(&tally->latency, now > conn->body.due_ns ? now - conn->body.due_ns : 0);
    mr_histogram_add(&tally->service, now - conn->sent_ns);
    mr_load_run_answered(sender->run, conn->body.base_ms, now);
    conn->busy = false;
    conn->state = MR_LOAD_IDLE;
}

static void read_more(struct mr_load_sender *sender, struct mr_load_conn *conn, uint64_t now) {
    for (;;) {
        uint8_t *room = mr_buf_reserve(&conn->in, READ_BYTES);
        ssize_t n = room == NULL ? -1 : recv(conn->fd, room, READ_BYTES, 0);
        if (room == NULL) {
            fail(sender, "no memory for an answer, or it is over 16 MiB");
            return;
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return;
        }
        if (n <= 0) {
            lose(sender, conn, now);
            return;
        }
        conn->in.len += (size_t)n;
        struct mr_load_answer answer;
        enum mr_status status = mr_load_answer_read(mr_buf_bytes(&conn->in), &sender->chunks, &answer);
        if (status == MR_AGAIN) {
            continue;
        }
        if (status != MR_OK || !conn->busy || answer.len != conn->in.len) {
            /* An answer that nobody asked for is how a server says that it closes: the connection is not used again. */
            lose(sender, conn, now);
            return;
        }
        /* An answer before the whole request was sent refuses it: what is left of it must not follow. */
        bool cut = conn->state == MR_LOAD_SENDING;
        take_answer(sender, conn, &answer, now);
        mr_buf_clear(&conn->in);
        if (answer.close || cut) {
            bool paused = conn->state == MR_LOAD_PAUSED;
            close_fd(&conn->fd);
            conn->state = MR_LOAD_CLOSED;
            conn->wake_ns = paused ? conn->wake_ns : now;
            return;
        }
        if ((size_t)n < READ_BYTES) {
            return; /* the socket is empty: more will be told */
        }
    }
}

static void on_event(struct mr_load_sender *sender, struct mr_load_conn *conn, uint32_t events, uint64_t now) {
    if (conn->state == MR_LOAD_CONNECTING && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
        connected(sender, conn, now);
    } else if (conn->state == MR_LOAD_SENDING && (events & EPOLLOUT) != 0) {
        send_more(sender, conn);
    }
    bool readable = (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0;
    if (readable && conn->fd >= 0 && conn->state != MR_LOAD_CONNECTING) {
        read_more(sender, conn, now);
    }
}

/* Builds the next request, when there is one. */
static void prepare(struct mr_load_sender *sender, uint64_t now) {
    uint64_t k;
    uint64_t due_ns;
    if (mr_load_run_take(sender->run, now, &k, &due_ns) != MR_OK) {
        sender->ended = true;
        return;
    }
    if (mr_load_maker_make(&sender->maker, k, &sender->ready) != MR_OK) {
        fail(sender, "no memory to build a request: lower --batch or --connections");
        return;
    }
    sender->ready.due_ns = due_ns;
    sender->has_ready = true;
}

static void dispatch(struct mr_load_sender *sender, struct mr_load_conn *conn, uint64_t now) {
    struct mr_load_body old = conn->body;
    conn->body = sender->ready;
    sender->ready = old;
    sender->has_ready = false;
    sender->unseen += conn->body.events;
    conn->busy = true;
    conn->repeated = false;
    struct mr_load_run *run = sender->run;
    if (run->interval_ns <= 0) {
        conn->body.due_ns = now; /* a closed loop: due when it can be sent */
    } else if ((double)(now - conn->body.due_ns) >= run->interval_ns) {
        mr_load_count(&tally_of(sender, &conn->body)->missed_slots, 1);
    }
    mr_load_run_sent(run, conn->body.base_ms);
    begin_sending(sender, conn, now);
}

/* What waits for a time: pauses, new connections, answers that do not come. Returns the next such time. */
static uint64_t look_at_times(struct mr_load_sender *sender, uint64_t now, struct mr_load_conn **ret_idle,
                              uint32_t *ret_busy) {
    const uint64_t timeout_ns = (uint64_t)sender->run->options->timeout_ms * NS_PER_MS;
    /* Looks up ten times a second in any case: other threads may have ended the run. On a grid, so that the timer is not
     * set anew each turn. */
    uint64_t next = (now / (LOOK_MS * NS_PER_MS) + 2) * (LOOK_MS * NS_PER_MS);
    *ret_idle = NULL;
    *ret_busy = 0;
    for (uint32_t i = 0; i < sender->conn_count; i++) {
        struct mr_load_conn *conn = &sender->conns[i];
        *ret_busy += conn->busy;
        if (conn->state == MR_LOAD_CLOSED && now >= conn->wake_ns) {
            reconnect(sender, conn, now);
        } else if (conn->state == MR_LOAD_PAUSED && now >= conn->wake_ns) {
            begin_sending(sender, conn, now);
        } else if ((conn->state == MR_LOAD_WAITING || conn->state == MR_LOAD_SENDING) &&
                   now - conn->sent_ns > timeout_ns) {
            lose(sender, conn, now);
        } else if (conn->state == MR_LOAD_CONNECTING && now >= conn->wake_ns) {
            lose(sender, conn, now);
        }
        if (conn->state == MR_LOAD_IDLE) {
            *ret_idle = conn;
            continue;
        }
        bool sent = conn->state == MR_LOAD_WAITING || conn->state == MR_LOAD_SENDING;
        uint64_t wake = sent ? conn->sent_ns + timeout_ns : conn->wake_ns;
        next = wake < next ? wake : next;
    }
    return next;
}

static void set_timer(struct mr_load_sender *sender, uint64_t at_ns) {
    if (at_ns == sender->timer_ns) {
        return;
    }
    struct itimerspec at = {.it_value = {(time_t)(at_ns / NS_PER_S), (long)(at_ns % NS_PER_S)}};
    int failed = timerfd_settime(sender->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
    MR_ASSERT(failed == 0);
    sender->timer_ns = at_ns;
}

static void wait_events(struct mr_load_sender *sender, bool block) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(sender->epoll_fd, events, EVENTS, block ? -1 : 0);
    uint64_t now = now_ns();
    for (int i = 0; i < count; i++) {
        if (events[i].data.u32 == TIMER) {
            sender->timer_ns = 0; /* fired: the same time may be set again */
        } else {
            on_event(sender, &sender->conns[events[i].data.u32], events[i].events, now);
        }
    }
}

static void turn(struct mr_load_sender *sender, bool *ret_over) {
    struct mr_load_conn *idle;
    uint32_t busy;
    uint64_t now = now_ns();
    uint64_t next = look_at_times(sender, now, &idle, &busy);
    if (sender->has_ready && idle != NULL && sender->ready.due_ns <= now) {
        dispatch(sender, idle, now);
        busy++;
    }
    if (!sender->has_ready && !sender->ended) {
        prepare(sender, now);
    }
    if (sender->ended && !sender->has_ready && busy == 0) {
        *ret_over = true;
        return;
    }
    bool due = false;
    if (sender->has_ready && sender->ready.due_ns <= now_ns()) {
        for (uint32_t i = 0; i < sender->conn_count && !due; i++) {
            due = sender->conns[i].state == MR_LOAD_IDLE;
        }
    } else if (sender->has_ready && sender->ready.due_ns < next) {
        next = sender->ready.due_ns;
    }
    if (due && sender->unseen < UNSEEN_MAX) {
        return; /* small requests: several for one look at the answers */
    }
    if (!due) {
        set_timer(sender, next);
    }
    sender->unseen = 0;
    wait_events(sender, !due);
}

static void *run_sender(void *ctx) {
    struct mr_load_sender *sender = ctx;
    bool over = false;
    while (!over && !atomic_load_explicit(&sender->run->stop, memory_order_relaxed)) {
        turn(sender, &over);
    }
    atomic_fetch_sub_explicit(&sender->run->running, 1, memory_order_relaxed);
    return NULL;
}

bool mr_load_sender_start(struct mr_load_sender *sender) {
    sender->started = pthread_create(&sender->thread, NULL, run_sender, sender) == 0;
    return sender->started;
}

void mr_load_sender_join(struct mr_load_sender *sender) {
    if (sender->started) {
        (void)pthread_join(sender->thread, NULL); /* fails only for what is no thread */
        sender->started = false;
    }
}
