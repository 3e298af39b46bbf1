/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/target.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

enum { CONNECT_S = 5, READ_S = 30, READ_BYTES = 64 << 10, PORT_TEXT_MAX = 5 };

/* Splits HOST:PORT, [V6]:PORT or PORT; the pieces are NUL-terminated in copy. */
static bool split(char *copy, char **ret_host, char **ret_port) {
    static char loopback[] = "127.0.0.1";
    char *colon = strrchr(copy, ':');
    bool alone = colon == NULL;
    if (alone && strspn(copy, "0123456789") != strlen(copy)) {
        return false;
    }
    *ret_host = alone ? loopback : copy;
    *ret_port = alone ? copy : colon + 1;
    if (!alone) {
        *colon = '\0';
        size_t len = strlen(copy);
        if (len > 2 && copy[0] == '[' && copy[len - 1] == ']') {
            copy[len - 1] = '\0';
            *ret_host = copy + 1;
        }
    }
    size_t digits = strspn(*ret_port, "0123456789");
    return digits > 0 && digits <= PORT_TEXT_MAX && (*ret_port)[digits] == '\0' && **ret_host != '\0';
}

enum mr_status mr_load_target_open(struct mr_load_target *target, const char *url,
                                   const char *token, struct mr_error *error) {
    static const char http[] = "http://";
    char copy[sizeof target->host];
    char *host;
    char *port;
    *target = (struct mr_load_target){0};
    if (strncmp(url, "https://", 8) == 0) {
        return mr_error_set(error, MR_INVALID, "--url `%s`: plain http only; the load is meant for loopback", url);
    }
    const char *rest = strncmp(url, http, sizeof http - 1) == 0 ? url + sizeof http - 1 : url;
    size_t len = strcspn(rest, "/");
    if (len >= sizeof copy || (rest[len] != '\0' && rest[len + 1] != '\0')) {
        return mr_error_set(error, MR_INVALID, "--url `%s`: expected http://HOST:PORT", url);
    }
    memcpy(copy, rest, len);
    copy[len] = '\0';
    if (!split(copy, &host, &port)) {
        return mr_error_set(error, MR_INVALID, "--url `%s`: expected http://HOST:PORT", url);
    }
    (void)snprintf(target->host, sizeof target->host, strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
    if (token != NULL) {
        int wrote = snprintf(target->authorization, sizeof target->authorization,
                             "Authorization: Bearer %s\r\n", token);
        if (wrote >= (int)sizeof target->authorization || strpbrk(token, "\r\n") != NULL) {
            return mr_error_set(error, MR_INVALID, "--token-file: not a token");
        }
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed != 0) {
        return mr_error_set(error, MR_NOT_FOUND, "%s: %s", host, gai_strerror(failed));
    }
    memcpy(&target->address, found->ai_addr, found->ai_addrlen);
    target->address_len = found->ai_addrlen;
    freeaddrinfo(found);
    return MR_OK;
}

static enum mr_status cannot_connect(const struct mr_load_target *target, int number, struct mr_error *error) {
    return mr_error_set(error, MR_IO, "cannot connect to http://%s: %s%s", target->host, strerror(number),
                        number == ECONNREFUSED ? "; is the server running there? (--url)" : "");
}

enum mr_status mr_load_target_begin(const struct mr_load_target *target, int *ret_fd,
                                    struct mr_error *error) {
    int one = 1;
    int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return mr_error_set(error, MR_IO, "cannot make a socket: %s", strerror(errno));
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* slower without, not wrong */
    if (connect(fd, (const struct sockaddr *)&target->address, target->address_len) != 0 && errno != EINPROGRESS) {
        enum mr_status status = cannot_connect(target, errno, error);
        (void)close(fd); /* never held anything */
        return status;
    }
    *ret_fd = fd;
    return MR_OK;
}

enum mr_status mr_load_target_connect(const struct mr_load_target *target, int *ret_fd,
                                      struct mr_error *error) {
    int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return mr_error_set(error, MR_IO, "cannot make a socket: %s", strerror(errno));
    }
    struct timeval wait = {.tv_sec = CONNECT_S};
    int failed = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    wait.tv_sec = READ_S;
    failed = failed != 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) != 0;
    if (failed || connect(fd, (const struct sockaddr *)&target->address, target->address_len) != 0) {
        enum mr_status status = cannot_connect(target, errno == EINPROGRESS ? ETIMEDOUT : errno, error);
        (void)close(fd); /* never held anything */
        return status;
    }
    *ret_fd = fd;
    return MR_OK;
}

static enum mr_status exchange(int fd, const char *request, size_t len, struct mr_buf *in,
                               struct mr_buf *chunks, struct mr_load_answer *ret) {
    while (len > 0) {
        ssize_t sent = send(fd, request, len, MSG_NOSIGNAL);
        if (sent <= 0) {
            return MR_IO;
        }
        request += sent;
        len -= (size_t)sent;
    }
    mr_buf_clear(in);
    for (;;) {
        uint8_t *room = mr_buf_reserve(in, READ_BYTES);
        ssize_t got = room == NULL ? -1 : recv(fd, room, READ_BYTES, 0);
        if (got <= 0) {
            return room == NULL ? MR_NO_MEMORY : MR_IO;
        }
        in->len += (size_t)got;
        enum mr_status status = mr_load_answer_read(mr_buf_bytes(in), chunks, ret);
        if (status != MR_AGAIN) {
            return status;
        }
    }
}

enum mr_status mr_load_target_get(const struct mr_load_target *target, const char *path,
                                  struct mr_buf *in, struct mr_buf *chunks,
                                  struct mr_load_answer *ret, struct mr_error *error) {
    char request[4096];
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n",
                       path, target->host, target->authorization);
    if (len < 0 || (size_t)len >= sizeof request) {
        return mr_error_set(error, MR_LIMIT, "GET %.100s: too long", path);
    }
    int fd;
    enum mr_status status = mr_load_target_connect(target, &fd, error);
    if (status != MR_OK) {
        return status;
    }
    status = exchange(fd, request, (size_t)len, in, chunks, ret);
    (void)close(fd); /* all that matters was read */
    return status == MR_OK ? MR_OK
                           : mr_error_set(error, status, "GET http://%s%.100s: %s", target->host, path,
                                          status == MR_IO ? "the connection ended, or was silent for too long"
                                                          : "not an answer of a millrace server");
}

enum mr_status mr_load_target_get_ok(const struct mr_load_target *target, const char *path,
                                     struct mr_buf *in, struct mr_buf *chunks,
                                     struct mr_load_answer *ret, struct mr_error *error) {
    enum mr_status status = mr_load_target_get(target, path, in, chunks, ret, error);
    if (status != MR_OK || ret->status == 200) {
        return status;
    }
    struct mr_bytes detail = mr_load_answer_detail(ret);
    return mr_error_set(error, ret->status == 404 ? MR_NOT_FOUND : MR_IO, "GET %.100s: %u %.*s", path,
                        ret->status, (int)detail.len, (const char *)detail.ptr);
}
