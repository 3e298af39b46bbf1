/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: connections are suspended and resumed without loss, whoever is faster; what is held is
 * bounded; deadlines end slow clients; drain waits and close leaves nobody suspended and nothing
 * charged.
 *
 * Steps: 1. four clients at once, verdicts inline and from a thread; sums are kept. 2. clients that
 * go away while their batch is undecided. 3. bytes in flight. 4. drain, also while connections come
 * and go. 5. close with undecided batches and questions, which come back later. 6. deadlines of
 * header, body and idle. 7. limits on connections, ports and certificates. 8. clients that go away, and a
 * close, while the http threads have so much to do that undecided requests are looked at instead of suspended.
 */
#include "fixture.h"

#include "base/check.h"
#include "server/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMITS "limits: { body: 256KiB, inflated: 256KiB, in_flight: 1MiB }\n"
#define CLICKS "/v1/streams/clicks/events"

static struct fixture fixture;

static bool has(const char *response, const char *part) {
    if (strstr(response, part) == NULL) {
        (void)fprintf(stderr, "no `%s` in: %s\n", part, response);
        return false;
    }
    return true;
}

enum { CLIENTS = 4, ROUNDS = 60, STOPS = 40 };

static void *post_many(void *arg) {
    _Atomic uint64_t *accepted = arg;
    int fd = client_open(&fixture);
    MR_ASSERT(fd >= 0);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        char body[1024] = "";
        char text[2048];
        for (uint32_t k = 0; k <= i % 20; k++) {
            strcat(body, "{\"id\":\"some-id\"}\n");
        }
        (void)snprintf(text, sizeof text,
                       "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
                       strlen(body), body);
        client_text(fd, text);
        const char *response = client_response(fd, false);
        const char *number = strstr(response, "\"accepted\":");
        MR_ASSERT(number != NULL);
        atomic_fetch_add(accepted, strtoul(number + 11, NULL, 10));
    }
    (void)close(fd);
    return NULL;
}

static void run_clients(enum judge judge) {
    pthread_t threads[CLIENTS];
    _Atomic uint64_t accepted = 0;
    uint64_t sent = 0;
    fixture_open(&fixture, "", LIMITS);
    fixture_judge(judge);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &accepted), 0);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (uint32_t i = 0; i < ROUNDS; i++) {
        sent += CLIENTS * (1 + i % 20);
    }
    assert_int_equal(atomic_load(&accepted), sent);
    mr_server_drain(fixture.server, 60000); /* the last request is over only behind its answer */
    assert_int_equal(mr_counter_read(&fixture.server->in_flight_bytes), 0);
    assert_int_equal(mr_counter_read(&fixture.server->routes[1].requests[1]), CLIENTS * ROUNDS);
    assert_int_equal(mr_histogram_count(&fixture.server->routes[1].duration_ns), CLIENTS * ROUNDS);
    fixture_close(&fixture);
}

static void test_many_clients(void **state) {
    (void)state;
    run_clients(JUDGE_INLINE);
    run_clients(JUDGE_THREAD);
}

static int post_and_hold(uint32_t held) {
    int fd = client_open(&fixture);
    assert_true(fd >= 0);
    client_text(fd,
                "POST " CLICKS " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{\"id\":\"a\"}");
    fixture_wait_held(held);
    return fd;
}

static void test_gone_client(void **state) {
    (void)state;
    fixture_open(&fixture, "", LIMITS);
    fixture_judge(JUDGE_HOLD);
    for (uint32_t i = 0; i < 5; i++) {
        (void)close(post_and_hold(i + 1));
    }
    fixture_release();
    /* The threads are fine: */
    assert_true(has(client_post(&fixture, CLICKS, "", "{\"id\":\"a\"}", 10), "\"accepted\":1,"));
    fixture_close(&fixture);
}

static void test_in_flight(void **state) {
    (void)state;
    static char body[200 << 10];
    char head[256];
    int fds[8];
    uint32_t held = 0;
    fixture_open(&fixture, "", LIMITS);
    fixture_judge(JUDGE_HOLD);
    memset(body, ' ', sizeof body);
    memcpy(body, "{\"id\":\"a\"}\n", 11);
    (void)snprintf(head, sizeof head,
                   "POST " CLICKS " HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
                   sizeof body);
    /* 1 MiB holds some of them; which are refused is told to a client that sends all of it. */
    while (mr_counter_read(&fixture.server->in_flight_bytes) + sizeof body + 100000 < 1 << 20) {
        fds[held] = client_open(&fixture);
        client_text(fds[held], head);
        client_send(fds[held], body, sizeof body);
        fixture_wait_held(++held);
        assert_true(held < 8);
    }
    assert_true(held >= 3);
    int fd = client_open(&fixture);
    for (int i = 0; i < 2; i++) {
        client_text(fd, "POST " CLICKS " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 262144\r\n\r\n");
        client_send(fd, body, sizeof body);
        client_send(fd, body, 262144 - sizeof body);
        const char *response = client_response(fd, false);
        assert_true(has(response, "HTTP/1.1 503 ") && has(response, "Retry-After: 1\r\n") &&
                    has(response, "limits.in_flight"));
    }
    client_text(fd, "POST " CLICKS " HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                    "Content-Length: 262144\r\n\r\n");
    assert_true(has(client_response(fd, false), "HTTP/1.1 503 "));
    (void)close(fd);
    assert_int_equal(mr_counter_read(&fixture.server->refused_in_flight), 3);
    fixture_release();
    for (uint32_t i = 0; i < held; i++) {
        assert_true(has(client_response(fds[i], false), "\"accepted\":1,"));
        (void)close(fds[i]);
    }
    assert_true(has(client_post(&fixture, CLICKS, "", body, sizeof body), "\"accepted\":1,"));
    fixture_close(&fixture);
}

static void *drain(void *arg) {
    mr_server_drain(arg, 60000);
    return NULL;
}

static void test_drain(void **state) {
    (void)state;
    pthread_t thread;
    fixture_open(&fixture, "", LIMITS);
    int idle = client_open(&fixture);
    client_text(idle, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_true(has(client_response(idle, false), "HTTP/1.1 200 "));
    fixture_judge(JUDGE_HOLD);
    int fd = post_and_hold(1);
    assert_int_equal(pthread_create(&thread, NULL, drain, fixture.server), 0);
    int refused; /* new connections come to be refused */
    while ((refused = client_open(&fixture)) >= 0) {
        (void)close(refused);
    }
    /* One that is open still gets answers, but no work. */
    client_text(idle,
                "POST " CLICKS " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{\"id\":\"a\"}");
    const char *response = client_response(idle, false);
    assert_true(has(response, "HTTP/1.1 503 ") && has(response, "Retry-After: ") &&
                has(response, "Connection: close"));
    assert_true(client_closed(idle));
    fixture_release();
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(has(client_response(fd, false), "\"accepted\":1,"));
    (void)close(fd);
    (void)close(idle);
    fixture_close(&fixture);
}

static void *come_and_go(void *arg) {
    _Atomic uint32_t *answered = arg;
    int fd;
    while ((fd = client_open(&fixture)) >= 0) { /* until they are refused */
        client_text(fd, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
        atomic_fetch_add(answered, client_response(fd, false)[0] != '\0');
        (void)close(fd);
    }
    return NULL;
}

/* One connection a thread: each of them is at its limit again and again. */
static void test_drain_while_they_come(void **state) {
    (void)state;
    for (uint32_t round = 0; round < STOPS; round++) {
        pthread_t threads[CLIENTS];
        _Atomic uint32_t answered = 0;
        fixture_open(&fixture, round % 2 == 0 ? "" : "  connections: 2\n", LIMITS);
        for (uint32_t i = 0; i < CLIENTS; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &answered), 0);
        }
        while (atomic_load(&answered) < CLIENTS) {
            (void)sched_yield();
        }
        mr_server_drain(fixture.server, 60000);
        for (uint32_t i = 0; i < CLIENTS; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        }
        fixture_close(&fixture);
    }
}

enum { UNDECIDED = 3 };

static int ask_and_hold(uint32_t held) {
    int fd = client_open(&fixture);
    assert_true(fd >= 0);
    client_text(fd, "GET /v1/streams/clicks/events/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    fixture_wait_held(held);
    return fd;
}

/* hold: how the last of the three is made to wait. */
static void close_undecided(int (*hold)(uint32_t held)) {
    fixture_open(&fixture, "", LIMITS);
    fixture_judge(JUDGE_HOLD);
    int fds[UNDECIDED] = {post_and_hold(1), -1, -1};
    fds[1] = post_and_hold(2);
    fds[2] = hold(3);
    mr_server_drain(fixture.server, 1); /* in vain */
    /* The http threads still have the socket in their epoll sets; it must not keep them awake. */
    struct pollfd listener = {.fd = fixture.server->http->listen_fd, .events = POLLIN};
    assert_int_equal(poll(&listener, 1, 0), 0);
    mr_server_close(fixture.server);
    fixture.server = NULL;
    /* The answers were sent or the connection was closed with them on the way: never a 200. */
    for (int i = 0; i < UNDECIDED; i++) {
        const char *response = client_response(fds[i], false);
        assert_true(response[0] == '\0' || strncmp(response, "HTTP/1.1 503 ", 13) == 0);
        (void)close(fds[i]);
    }
    fixture_close(&fixture); /* the batches come back and are freed */
}

static void test_close_undecided(void **state) {
    (void)state;
    close_undecided(ask_and_hold); /* a question looks a few times a second only whether we close */
    for (uint32_t i = 0; i < STOPS; i++) {
        close_undecided(post_and_hold); /* the answers race with libmicrohttpd's end */
    }
}

enum { BUSY = 3 };

static void *keep_busy(void *arg) {
    _Atomic uint32_t *answered = arg;
    int fd = client_open(&fixture);
    MR_ASSERT(fd >= 0);
    do { /* until the server stops */
        atomic_fetch_add(answered, 1);
        client_text(fd, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    } while (client_response(fd, false)[0] != '\0');
    (void)close(fd);
    return NULL;
}

/* Gone at once, with a reset: libmicrohttpd sees it though it reads nothing. */
static void reset(int fd) {
    struct linger none = {.l_onoff = 1};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
    (void)close(fd);
}

static void test_watched(void **state) {
    (void)state;
    enum { RESETS = 40, LEFT = 3 };
    pthread_t threads[BUSY];
    _Atomic uint32_t answered = 0;
    int left[LEFT];
    fixture_open(&fixture, "", LIMITS);
    fixture_judge(JUDGE_HOLD);
    for (uint32_t i = 0; i < BUSY; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, keep_busy, &answered), 0);
    }
    for (uint32_t i = 0; i < RESETS; i++) {
        int fd = post_and_hold(i + 1);
        uint32_t before = atomic_load(&answered);
        while (i % 2 == 0 && atomic_load(&answered) < before + 2 * BUSY) {
            (void)sched_yield(); /* it is looked at, or was suspended: both must do */
        }
        reset(fd);
    }
    for (uint32_t i = 0; i < LEFT; i++) {
        left[i] = post_and_hold(RESETS + i + 1);
    }
    mr_server_drain(fixture.server, 1); /* in vain */
    mr_server_close(fixture.server);
    fixture.server = NULL;
    for (uint32_t i = 0; i < BUSY; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (uint32_t i = 0; i < LEFT; i++) {
        const char *response = client_response(left[i], false);
        assert_true(response[0] == '\0' || strncmp(response, "HTTP/1.1 503 ", 13) == 0);
        (void)close(left[i]);
    }
    fixture_close(&fixture); /* the batches come back and are freed */
}

static void test_ask(void **state) {
    (void)state;
    static const char get[] = "GET /v1/streams/clicks/events/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    fixture_open(&fixture, "", LIMITS);
    assert_true(has(client_once(&fixture, get), "{\"seen\":true}"));
    fixture_judge(JUDGE_FULL);
    assert_true(has(client_once(&fixture, get), "ask: "));
    fixture_close(&fixture);
}

static void test_deadlines(void **state) {
    (void)state;
    fixture_open(&fixture, "  header_timeout: 50ms\n  body_timeout: 50ms\n  idle_timeout: 50ms\n",
                 LIMITS);
    int fd = client_open(&fixture); /* says nothing */
    assert_true(client_closed(fd));
    (void)close(fd);
    static const char *const slow[] = {
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        "POST " CLICKS " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
    };
    for (int i = 0; i < 2; i++) {
        fd = client_open(&fixture);
        client_text(fd, slow[i]);
        /* A byte whenever possible: an inactivity timer would never end this. */
        char byte;
        do {
            (void)send(fd, "x", 1, MSG_NOSIGNAL);
        } while (recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && sched_yield() == 0);
        (void)close(fd);
    }
    fd = client_open(&fixture); /* idle behind an answer */
    client_text(fd, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    (void)client_response(fd, false);
    assert_true(client_closed(fd));
    (void)close(fd);
    fixture_judge(JUDGE_HOLD); /* suspended: no deadline of the client's */
    fd = post_and_hold(1);
    int other = client_open(&fixture);
    assert_true(client_closed(other));
    (void)close(other);
    fixture_release();
    assert_true(has(client_response(fd, false), "\"accepted\":1,"));
    (void)close(fd);
    fixture_close(&fixture);
}

static void test_open_fails(void **state) {
    (void)state;
    struct fixture other;
    fixture_open(&fixture, "  connections_per_address: 2\n", LIMITS);
    int a = client_open(&fixture);
    int b = client_open(&fixture);
    int c = client_open(&fixture);
    static const char get[] = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client_text(a, get);
    assert_true(has(client_response(a, false), "HTTP/1.1 200 "));
    client_text(b, get);
    assert_true(has(client_response(b, false), "HTTP/1.1 200 "));
    client_text(c, get);
    assert_true(client_closed(c));
    (void)close(a);
    (void)close(b);
    (void)close(c);
    fixture_close(&fixture);
    fixture_open(&other, "  tls: { cert_file: /dev/null, key_file: /dev/null }\n", LIMITS);
    assert_null(other.server);
    assert_int_equal(other.error.status, MR_INVALID);
    assert_non_null(strstr(other.error.text, "certificate"));
    fixture_close(&other);
    fixture_open(&other, "  tls: { cert_file: /dev/null/none, key_file: /dev/null }\n", LIMITS);
    assert_int_equal(other.error.status, MR_INVALID);
    fixture_close(&other);
}

static void test_port_in_use(void **state) {
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    char http[64];
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    fixture_open_port(&fixture, ntohs(address.sin_port));
    assert_null(fixture.server);
    assert_int_equal(fixture.error.status, MR_BUSY);
    (void)snprintf(http, sizeof http, "port %u", ntohs(address.sin_port));
    assert_non_null(strstr(fixture.error.text, http));
    fixture_close(&fixture);
    (void)close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_clients),
        cmocka_unit_test(test_gone_client),
        cmocka_unit_test(test_in_flight),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_while_they_come),
        cmocka_unit_test(test_close_undecided),
        cmocka_unit_test(test_watched),
        cmocka_unit_test(test_ask),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_port_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
