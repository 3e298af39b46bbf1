/* SPDX-License-Identifier: Apache-2.0 */
#include "server/http_listen.h"

#include "base/check.h"
#include "config/config.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTEN_BACKLOG = 1024 };

/* -1: errno says why. */
static int listen_on(const struct sockaddr *address, socklen_t len) {
    int on = 1;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    /* Accepted sockets inherit TCP_NODELAY. Both are optimisations or conveniences: going on
     * without is fine. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, address, len) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        int code = errno;
        (void)close(fd);
        errno = code;
        return -1;
    }
    return fd;
}

static socklen_t address_of(int fd, struct sockaddr_storage *ret) {
    socklen_t len = sizeof *ret;
    int failed = getsockname(fd, (struct sockaddr *)ret, &len);
    MR_ASSERT(failed == 0);
    return len;
}

static uint16_t port_of(int fd) {
    struct sockaddr_storage address = {0};
    (void)address_of(fd, &address); /* its length follows from the family */
    if (address.ss_family == AF_INET6) {
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    }
    MR_ASSERT(address.ss_family == AF_INET);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

enum mr_status mr_http_listen_open(const struct mr_config *config, int *ret_fd, uint16_t *ret_port,
                                   struct mr_error *error) {
    char host[256];
    char port[8];
    struct addrinfo *addresses = NULL;
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    (void)snprintf(host, sizeof host, "%.*s", (int)config->http.host.len,
                   (const char *)config->http.host.ptr);
    (void)snprintf(port, sizeof port, "%u", config->http.port);
    int failed = getaddrinfo(host, port, &hints, &addresses);
    if (failed != 0) {
        return mr_error_set(error, MR_INVALID, "cannot listen on `%s`: %s", host,
                            gai_strerror(failed));
    }
    int fd = listen_on(addresses->ai_addr, addresses->ai_addrlen);
    int code = errno;
    freeaddrinfo(addresses);
    if (fd < 0) {
        return mr_error_set(error, code == EADDRINUSE ? MR_BUSY : MR_IO,
                            "cannot listen on %s port %s: %s", host, port, strerror(code));
    }
    *ret_fd = fd;
    *ret_port = port_of(fd);
    return MR_OK;
}

/* Loopback in the family of the socket that will connect to it: nobody else gets there. */
static int open_sink(int fd, struct sockaddr_storage *ret, socklen_t *ret_len) {
    struct sockaddr_storage bound = {0};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t len = address_of(fd, &bound);
    bool is_v6 = bound.ss_family == AF_INET6;
    const void *address = is_v6 ? (const void *)&v6 : (const void *)&v4;
    MR_ASSERT(len == (is_v6 ? sizeof v6 : sizeof v4));
    int sink = listen_on(address, len);
    *ret_len = sink >= 0 ? address_of(sink, ret) : 0; /* with the port it got */
    return sink;
}

int mr_http_listen_refuse(int fd) {
    struct sockaddr_storage address = {0};
    socklen_t len = 0;
    int sink = open_sink(fd, &address, &len);
    (void)shutdown(fd, SHUT_RDWR); /* cannot fail for one that listens */
    if (sink >= 0) {
        /* EINPROGRESS is the rule. Where a packet filter is against it, it stays hung up. */
        (void)connect(fd, (const struct sockaddr *)&address, len);
    }
    return sink;
}
