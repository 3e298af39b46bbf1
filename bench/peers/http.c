/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Posts the lines of a file over HTTP/1.1 on loopback, BATCH lines a request, CONNECTIONS requests under way: one
 * thread, closed loop, for every peer that speaks HTTP. Bodies go out of the mapped file as they are.
 *
 * usage: peers_http PORT PATH FILE BATCH CONNECTIONS [NAME]
 *        NAME: a number of the answer's JSON to add up as repeats ("duplicate").
 */
#include "bench/peers/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 1024, ANSWER_MAX = 16384, PATIENCE_MS = 120000 };

struct connection {
    int fd;
    bool busy;
    bool answered;
    bool wants_out; /* epoll tells when there is room to send */
    char head[512];
    struct iovec left[2]; /* head and body still to be sent */
    size_t got;
    char answer[ANSWER_MAX];
};

struct client {
    const struct peer_file *file;
    const char *path;
    const char *name; /* of the number to add up; NULL: none */
    int epoll;
    uint64_t batch;
    uint64_t next; /* line */
    uint64_t under_way;
    struct peer_result result;
};

static void watch(const struct client *c, struct connection *connection, bool out, int op) {
    struct epoll_event event = {.events = out ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                .data.ptr = connection};
    if (epoll_ctl(c->epoll, op, connection->fd, &event) != 0) {
        peer_die("epoll: %s", strerror(errno));
    }
    connection->wants_out = out;
}

static void send_more(const struct client *c, struct connection *connection) {
    struct iovec *left = connection->left;
    while (left[0].iov_len + left[1].iov_len > 0) {
        struct msghdr message = {.msg_iov = left, .msg_iovlen = 2};
        ssize_t n = sendmsg(connection->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (!connection->wants_out) {
                watch(c, connection, true, EPOLL_CTL_MOD);
            }
            return;
        }
        if (n <= 0) {
            peer_die("send: %s", strerror(errno));
        }
        for (int i = 0; i < 2; i++) {
            size_t part = (size_t)n < left[i].iov_len ? (size_t)n : left[i].iov_len;
            left[i].iov_base = (char *)left[i].iov_base + part;
            left[i].iov_len -= part;
            n -= (ssize_t)part;
        }
    }
    if (connection->wants_out) {
        watch(c, connection, false, EPOLL_CTL_MOD);
    }
}

static void send_next(struct client *c, struct connection *connection) {
    uint64_t left = c->file->count - c->next;
    uint64_t count = left < c->batch ? left : c->batch;
    connection->busy = count > 0;
    if (count == 0) {
        return;
    }
    size_t from = c->file->lines[c->next];
    size_t len = c->file->lines[c->next + count] - from;
    int head =
        snprintf(connection->head, sizeof connection->head,
                 "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
                 "Content-Length: %zu\r\n\r\n",
                 c->path, len);
    if (head < 0 || head >= (int)sizeof connection->head) {
        peer_die("a path too long");
    }
    connection->left[0] = (struct iovec){connection->head, (size_t)head};
    connection->left[1] = (struct iovec){(void *)(uintptr_t)(c->file->ptr + from), len};
    connection->got = 0;
    connection->answered = false;
    c->next += count;
    c->under_way++;
    c->result.events += count;
    c->result.requests++;
    send_more(c, connection);
}

/* Whether all of the answer is there. */
static bool is_whole(const char *text, size_t len) {
    const char *body = strstr(text, "\r\n\r\n");
    if (body == NULL) {
        return false;
    }
    body += 4;
    const char *length = strcasestr(text, "\r\ncontent-length:");
    if (length != NULL && length < body) {
        return (size_t)(text + len - body) >= strtoul(length + 17, NULL, 10);
    }
    const char *chunked = strcasestr(text, "\r\ntransfer-encoding: chunked");
    if (chunked == NULL || chunked > body) {
        peer_die("an answer without a length: %.300s", text);
    }
    return text + len - body >= 5 && memcmp(text + len - 5, "0\r\n\r\n", 5) == 0;
}

static void receive_more(struct client *c, struct connection *connection) {
    size_t room = sizeof connection->answer - 1 - connection->got;
    ssize_t n = recv(connection->fd, connection->answer + connection->got, room, 0);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        peer_die("receive: %s", n == 0 ? "closed" : strerror(errno));
    }
    connection->got += (size_t)n;
    connection->answer[connection->got] = '\0';
    if (!is_whole(connection->answer, connection->got)) {
        if (connection->got == sizeof connection->answer - 1) {
            peer_die("an answer too long: %.300s", connection->answer);
        }
        return;
    }
    if (strncmp(connection->answer, "HTTP/1.1 200", 12) != 0) {
        peer_die("%.600s", connection->answer);
    }
    if (c->name != NULL) {
        const char *number = strstr(connection->answer, c->name);
        if (number == NULL) {
            peer_die("no %s in %.600s", c->name, connection->answer);
        }
        c->result.repeats += strtoull(number + strlen(c->name), NULL, 10);
    }
    connection->answered = true;
}

static void step(struct client *c, struct connection *connection, uint32_t events) {
    if ((events & EPOLLOUT) != 0) {
        send_more(c, connection);
    }
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) {
        receive_more(c, connection);
    }
    /* nginx answers before it has read what it throws away */
    if (connection->busy && connection->answered && connection->left[1].iov_len == 0) {
        c->under_way--;
        send_next(c, connection);
    }
}

static void run(struct client *c, struct connection *connections, int count) {
    peer_begin(&c->result);
    for (int i = 0; i < count; i++) {
        send_next(c, &connections[i]);
    }
    while (c->under_way > 0) {
        struct epoll_event events[64];
        int n = epoll_wait(c->epoll, events, 64, PATIENCE_MS);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            peer_die("no answer");
        }
        for (int i = 0; i < n; i++) {
            step(c, events[i].data.ptr, events[i].events);
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 6 || argc > 7) {
        peer_die("usage: peers_http PORT PATH FILE BATCH CONNECTIONS [NAME]");
    }
    struct peer_file file;
    char name[64];
    int count = atoi(argv[5]);
    struct client c = {.file = &file,
                       .path = argv[2],
                       .epoll = epoll_create1(EPOLL_CLOEXEC),
                       .batch = strtoull(argv[4], NULL, 10)};
    if (count < 1 || count > CONNECTIONS_MAX || c.batch == 0) {
        peer_die("a batch of 1 or more, connections 1 to %d", CONNECTIONS_MAX);
    }
    if (argc == 7) {
        (void)snprintf(name, sizeof name, "\"%s\":", argv[6]);
        c.name = name;
        c.result.judged = true;
    }
    peer_file_open(&file, argv[3]);
    struct connection *connections = calloc((size_t)count, sizeof *connections);
    for (int i = 0; connections != NULL && i < count; i++) {
        connections[i].fd = peer_connect((uint16_t)atoi(argv[1]));
        if (fcntl(connections[i].fd, F_SETFL, O_NONBLOCK) != 0) {
            peer_die("fcntl: %s", strerror(errno));
        }
        watch(&c, &connections[i], false, EPOLL_CTL_ADD);
    }
    if (connections == NULL) {
        peer_die("no memory");
    }
    run(&c, connections, count);
    peer_report(&c.result);
    free(connections);
    return 0;
}
