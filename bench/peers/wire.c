/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/peers/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void peer_file_open(struct peer_file *file, const char *path) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || info.st_size == 0) {
        peer_die("%s: %s", path, fd < 0 ? strerror(errno) : "empty");
    }
    size_t len = (size_t)info.st_size;
    char *map = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (map == MAP_FAILED) {
        peer_die("%s: %s", path, strerror(errno));
    }
    (void)close(fd);
    uint64_t count = 0;
    for (const char *at = map; (at = memchr(at, '\n', (size_t)(map + len - at))) != NULL; at++) {
        count++;
    }
    size_t *lines = malloc((count + 1) * sizeof *lines);
    if (lines == NULL || map[len - 1] != '\n') {
        peer_die("%s: %s", path, lines == NULL ? "no memory" : "the last line does not end");
    }
    lines[0] = 0;
    for (uint64_t n = 0; n < count; n++) {
        const char *end = memchr(map + lines[n], '\n', len - lines[n]);
        lines[n + 1] = (size_t)(end - map) + 1;
        if (lines[n + 1] - lines[n] < PEER_ID_AT + PEER_ID_LEN) {
            peer_die("%s: line %" PRIu64 " is too short", path, n + 1);
        }
    }
    *file = (struct peer_file){.ptr = map, .lines = lines, .count = count};
}

int peer_connect(uint16_t port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0) {
        peer_die("port %u: %s", port, strerror(errno));
    }
    return fd;
}

void peer_send(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0) {
            peer_die("send: %s", strerror(errno));
        }
        data += n;
        len -= (size_t)n;
    }
}

size_t peer_receive(int fd, char *to, size_t cap) {
    ssize_t n = recv(fd, to, cap, 0);
    if (n <= 0) {
        peer_die("receive: %s", n == 0 ? "the server closed the connection" : strerror(errno));
    }
    return (size_t)n;
}

static double read_s(clockid_t clock) {
    struct timespec t;
    (void)clock_gettime(clock, &t); /* cannot fail */
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void peer_begin(struct peer_result *result) {
    result->began_s = read_s(CLOCK_MONOTONIC);
    result->began_cpu_s = read_s(CLOCK_PROCESS_CPUTIME_ID);
}

void peer_report(const struct peer_result *result) {
    double wall_s = read_s(CLOCK_MONOTONIC) - result->began_s;
    double cpu_s = read_s(CLOCK_PROCESS_CPUTIME_ID) - result->began_cpu_s;
    char repeats[24] = "null";
    if (result->judged) {
        (void)snprintf(repeats, sizeof repeats, "%" PRIu64, result->repeats);
    }
    (void)printf("{\"events\":%" PRIu64 ",\"requests\":%" PRIu64
                 ",\"repeats\":%s,\"refused\":%" PRIu64 ",\"wall_s\":%.6f,\"cpu_s\":%.6f}\n",
                 result->events, result->requests, repeats, result->refused, wall_s, cpu_s);
    (void)fflush(stdout);
    char byte; /* the connections stay until the caller has looked */
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
}

void peer_die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    exit(1);
}
