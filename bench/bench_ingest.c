/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ingest: CPU of the whole server for each million events: the 125-byte workload of docs/BENCHMARKS.md, over plain
 * sockets on loopback: closed loop, or at a fixed rate. At a rate an answer's time counts from when its request was
 * due, so that a server that stands still is not spared the requests it kept from being sent.
 *
 *     {"id":"<32 hex>","ts":<ms>,"key":"/page/17","country":"DE","value":12.345,"user":"u41"}
 *
 * usage: bench_ingest PORT PID [events] [batch] [connections] [events a second]
 *        PID is the server's; its user and system time are read from /proc before and after.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KEYS = 1000, EVENT_BYTES_MAX = 192, CONNECTIONS_MAX = 64 };

struct sender {
    uint16_t port;
    uint64_t first; /* number of the first event */
    uint64_t events;
    uint32_t batch;
    uint64_t accepted;
    double began_s;
    double every_s; /* between two requests of this connection; 0: as fast as it goes */
    double *took_s; /* by request, from when it was due */
    uint64_t requests;
    bool failed;
};

static uint64_t mix(uint64_t z) { /* SplitMix64: event n is a function of n alone */
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double zeta[KEYS]; /* cumulative shares of YCSB's zipfian, theta 0.99 */

static void make_zeta(void) {
    double sum = 0;
    for (int i = 0; i < KEYS; i++) {
        sum += 1 / pow(i + 1, 0.99);
        zeta[i] = sum;
    }
    for (int i = 0; i < KEYS; i++) {
        zeta[i] /= sum;
    }
}

static int zipf(uint64_t random) {
    double at = (double)(random >> 11) / (double)(UINT64_C(1) << 53);
    int low = 0;
    int high = KEYS - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (zeta[middle] < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static size_t write_event(char *to, uint64_t n) {
    static const char *const countries[] = {"DE", "FR", "US", "GB", "IN", "BR", "JP", "PL"};
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t a = mix(n * 2);
    uint64_t b = mix(n * 2 + 1);
    return (size_t)sprintf(to,
                           "{\"id\":\"%016" PRIx64 "%016" PRIx64 "\",\"ts\":%lld,\"key\":\"/page/%d\","
                           "\"country\":\"%s\",\"value\":%.3f,\"user\":\"u%d\"}\n",
                           a, b, (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000, zipf(mix(a)),
                           countries[b % 8], (double)(a % 100000) / 1000, (int)(b >> 8) % 1000);
}

static bool send_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        data += n;
        len -= (size_t)n;
    }
    return true;
}

/* Reads one answer whose body has a Content-Length; returns the number behind "accepted". */
static long read_answer(int fd) {
    char text[4096];
    size_t len = 0;
    for (;;) {
        ssize_t n = recv(fd, text + len, sizeof text - 1 - len, 0);
        if (n <= 0) {
            return -1;
        }
        len += (size_t)n;
        text[len] = 0;
        char *body = strstr(text, "\r\n\r\n");
        char *length = strcasestr(text, "content-length:");
        if (body != NULL && length != NULL && strlen(body + 4) >= strtoul(length + 15, NULL, 10)) {
            char *accepted = strstr(body, "\"accepted\":");
            return strncmp(text, "HTTP/1.1 200", 12) == 0 && accepted != NULL
                       ? strtol(accepted + 11, NULL, 10)
                       : -1;
        }
        if (len == sizeof text - 1) {
            return -1;
        }
    }
}

static int connect_to(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0) {
        perror("connect");
        exit(1);
    }
    return fd;
}

static double now_s(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Waits until the next request is due; returns when that was. */
static double wait_due(const struct sender *s) {
    double due_s = s->every_s > 0 ? s->began_s + (double)s->requests * s->every_s : now_s();
    double left_s = due_s - now_s();
    if (left_s > 0) {
        struct timespec pause = {(time_t)left_s, (long)((left_s - (double)(time_t)left_s) * 1e9)};
        (void)nanosleep(&pause, NULL);
    }
    return due_s;
}

static void *run_sender(void *ctx) {
    struct sender *s = ctx;
    int fd = connect_to(s->port);
    char *body = malloc((size_t)s->batch * EVENT_BYTES_MAX);
    for (uint64_t n = 0; n < s->events; n += s->batch) {
        size_t len = 0;
        for (uint64_t i = n; i < n + s->batch && i < s->events; i++) {
            len += write_event(body + len, s->first + i);
        }
        char head[160];
        int head_len = snprintf(head, sizeof head,
                                "POST /v1/events HTTP/1.1\r\nHost: localhost\r\n"
                                "Content-Type: application/x-ndjson\r\nContent-Length: %zu\r\n\r\n",
                                len);
        double due_s = wait_due(s);
        long accepted = -1;
        if (send_all(fd, head, (size_t)head_len) && send_all(fd, body, len)) {
            accepted = read_answer(fd);
        }
        if (accepted < 0) {
            s->failed = true;
            break;
        }
        s->accepted += (uint64_t)accepted;
        s->took_s[s->requests++] = now_s() - due_s;
    }
    free(body);
    (void)close(fd);
    return NULL;
}

static double server_cpu(const char *pid) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *f = fopen(path, "r");
    char text[1024] = "";
    if (f == NULL || fread(text, 1, sizeof text - 1, f) == 0) {
        perror(path);
        exit(1);
    }
    (void)fclose(f);
    unsigned long user = 0;
    unsigned long system = 0;
    char *after = strrchr(text, ')'); /* the name may hold anything */
    if (after == NULL ||
        sscanf(after + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) {
        (void)fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_times(const struct sender *senders, uint32_t connections, uint64_t requests) {
    double *all = malloc((requests + 1) * sizeof *all);
    uint64_t count = 0;
    for (uint32_t i = 0; all != NULL && i < connections; i++) {
        memcpy(all + count, senders[i].took_s, senders[i].requests * sizeof *all);
        count += senders[i].requests;
    }
    if (all != NULL && count > 0) {
        qsort(all, count, sizeof *all, compare);
        (void)printf("answers from when they were due: p50 %.2f ms  p99 %.2f ms  greatest %.2f ms\n",
                     all[count / 2] * 1e3, all[count * 99 / 100] * 1e3, all[count - 1] * 1e3);
    }
    free(all);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        (void)fprintf(stderr, "usage: bench_ingest PORT PID [events] [batch] [connections] [events a second]\n");
        return 2;
    }
    uint64_t events = argc > 3 ? strtoull(argv[3], NULL, 10) : 1000000;
    uint32_t batch = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 1000;
    uint32_t connections = argc > 5 ? (uint32_t)strtoul(argv[5], NULL, 10) : 4;
    connections = connections > CONNECTIONS_MAX ? CONNECTIONS_MAX : connections;
    double rate = argc > 6 ? strtod(argv[6], NULL) : 0;
    make_zeta();
    uint64_t start = mix((uint64_t)time(NULL)); /* new ids each time */
    static struct sender senders[CONNECTIONS_MAX];
    pthread_t threads[CONNECTIONS_MAX];
    double cpu = server_cpu(argv[2]);
    double began = now_s();
    for (uint32_t i = 0; i < connections; i++) {
        uint64_t share = events / connections;
        double every_s = rate > 0 ? (double)batch * connections / rate : 0;
        senders[i] = (struct sender){.port = (uint16_t)strtoul(argv[1], NULL, 10),
                                     .first = start + i * share,
                                     .events = share,
                                     .batch = batch,
                                     .every_s = every_s,
                                     .began_s = began + every_s * i / connections,
                                     .took_s = malloc((share / batch + 2) * sizeof(double))};
        if (senders[i].took_s == NULL || pthread_create(&threads[i], NULL, run_sender, &senders[i]) != 0) {
            return 1;
        }
    }
    uint64_t accepted = 0;
    uint64_t requests = 0;
    bool failed = false;
    for (uint32_t i = 0; i < connections; i++) {
        (void)pthread_join(threads[i], NULL);
        accepted += senders[i].accepted;
        requests += senders[i].requests;
        failed = failed || senders[i].failed;
    }
    double wall = now_s() - began;
    cpu = server_cpu(argv[2]) - cpu;
    struct rusage own;
    (void)getrusage(RUSAGE_SELF, &own);
    double own_cpu = (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
                     (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
    (void)printf("accepted %" PRIu64 "  wall %.2f s  %.0f events/s  server CPU %.3f s per million events  "
                 "generator CPU %.3f s per million\n",
                 accepted, wall, (double)accepted / wall, cpu / (double)accepted * 1e6,
                 own_cpu / (double)accepted * 1e6);
    if (rate > 0) {
        print_times(senders, connections, requests);
    }
    return failed ? 1 : 0;
}
