/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves of the transport on the network, against a socket that the test itself answers on:
 *   1. a command goes out as RESP, byte for byte, however large;
 *   2. random trees of replies come out as they went in, cut anywhere on their way;
 *   3. hostile bytes: never a crash, and broken once, broken for ever, with a text that says with whom;
 *   4. replies before the end of a connection are there to be taken; a write after it is no signal;
 *   5. refused, no such name, TLS to one who speaks none;
 *   6. each allocation fails in turn.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "net/redis_transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct pair {
    struct mr_redis_transport *transport;
    struct mr_redis_connection *connection;
    int listener;
    int fd; /* the server's end */
    uint16_t port;
};

static uint64_t below(uint64_t *random, uint64_t bound) {
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint64_t)(((__uint128_t)(z ^ z >> 31) * bound) >> 64);
}

/* ---- the server's end ---- */

static void listen_somewhere(struct pair *p) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(p->listener >= 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(p->listener, 8), 0);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&address, &len), 0);
    p->port = ntohs(address.sin_port);
    p->fd = -1;
}

static void open_connection(struct pair *p) {
    assert_int_equal(mr_redis_transport_open(p->transport, "127.0.0.1", p->port, &p->connection, NULL), MR_OK);
    p->fd = accept(p->listener, NULL, NULL);
    assert_true(p->fd >= 0);
}

static void close_connection(struct pair *p) {
    mr_redis_connection_close(p->connection);
    p->connection = NULL;
    if (p->fd >= 0) {
        (void)close(p->fd);
    }
    p->fd = -1;
}

static void set_up(struct pair *p) {
    *p = (struct pair){0};
    listen_somewhere(p);
    assert_int_equal(mr_hiredis_open(&(struct mr_redis_tls){0}, &p->transport, NULL), MR_OK);
}

static void tear_down(struct pair *p) {
    close_connection(p);
    mr_redis_transport_finish(p->transport);
    (void)close(p->listener);
}

static void say(const struct pair *p, const void *bytes, size_t len) {
    assert_int_equal(send(p->fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Steps until something moves or the connection breaks, a second at most. */
static enum mr_status turn(const struct pair *p, struct mr_error *error) {
    for (int i = 0; i < 10; i++) {
        enum mr_status status = mr_redis_connection_step(p->connection, error);
        if (status != MR_AGAIN) {
            return status;
        }
        mr_redis_transport_wait(p->transport, 100000000);
    }
    return MR_AGAIN;
}

/* ---- commands ---- */

static void commands_are_resp(void **state) {
    (void)state;
    struct pair p;
    set_up(&p);
    open_connection(&p);
    static uint8_t large[12000000]; /* more than a socket takes at once */
    for (size_t i = 0; i < sizeof large; i++) {
        large[i] = (uint8_t)(i * 7 + i / 1000);
    }
    const struct mr_bytes first[] = {MR_BYTES("SET"), MR_BYTES("k\0\r\n"), MR_BYTES(""), MR_BYTES("0123456789")};
    const struct mr_bytes second[] = {{large, sizeof large}};
    assert_int_equal(mr_redis_connection_send(p.connection, first, 4), MR_OK);
    assert_int_equal(mr_redis_connection_send(p.connection, second, 1), MR_OK);
    struct mr_buf meant;
    mr_buf_init(&meant, 1 << 24);
    mr_buf_append_bytes(&meant, MR_BYTES("*4\r\n$3\r\nSET\r\n$4\r\nk\0\r\n\r\n$0\r\n\r\n$10\r\n0123456789\r\n"
                                         "*1\r\n$12000000\r\n"));
    mr_buf_append(&meant, large, sizeof large);
    mr_buf_append_text(&meant, "\r\n");
    struct mr_buf got;
    mr_buf_init(&got, 1 << 24);
    bool sent_more = false;
    while (got.len < meant.len) {
        (void)mr_redis_connection_step(p.connection, NULL);
        uint8_t *room = mr_buf_reserve(&got, 100000);
        ssize_t len = recv(p.fd, room, 100000, MSG_DONTWAIT);
        got.len += len > 0 ? (size_t)len : 0;
        if (got.len > 500000 && !sent_more) { /* while a part is written, more is appended */
            assert_int_equal(mr_redis_connection_send(p.connection, first, 1), MR_OK);
            mr_buf_append_text(&meant, "*1\r\n$3\r\nSET\r\n");
            sent_more = true;
        }
    }
    assert_true(sent_more && mr_bytes_equal(mr_buf_bytes(&got), mr_buf_bytes(&meant)));
    mr_buf_finish(&got);
    mr_buf_finish(&meant);
    tear_down(&p);
}

/* ---- replies ---- */

/* A random tree, as bytes; the oracle reads it again below. */
static void write_reply(struct mr_buf *buf, uint64_t *random, int depth) {
    uint64_t kind = below(random, depth < 5 ? 7 : 5);
    uint8_t text[40];
    uint64_t len = below(random, sizeof text);
    for (uint64_t i = 0; i < len; i++) {
        text[i] = (uint8_t)(kind < 2 ? 'a' + below(random, 26) : below(random, 256));
    }
    switch (kind) {
    case 0:
    case 1:
        mr_buf_append_char(buf, kind == 0 ? '+' : '-');
        mr_buf_append(buf, text, len);
        mr_buf_append_text(buf, "\r\n");
        break;
    case 2:
        mr_buf_printf(buf, ":%lld\r\n", (long long)below(random, UINT64_MAX));
        break;
    case 3:
        mr_buf_append_text(buf, below(random, 2) == 0 ? "$-1\r\n" : "*-1\r\n");
        break;
    case 4:
        len = below(random, 50) == 0 ? 100000 : len;
        mr_buf_printf(buf, "$%llu\r\n", (unsigned long long)len);
        for (uint64_t i = 0; i < len; i++) {
            mr_buf_append_char(buf, (char)(i < sizeof text ? text[i] : i));
        }
        mr_buf_append_text(buf, "\r\n");
        break;
    default:
        len = below(random, depth == 0 && below(random, 20) == 0 ? 2000 : 6);
        mr_buf_printf(buf, "*%llu\r\n", (unsigned long long)len);
        for (uint64_t i = 0; i < len; i++) {
            write_reply(buf, random, depth + 1);
        }
        break;
    }
}

/* Compares the reply with the bytes it was written as; returns what is left of them. */
static const uint8_t *compare(const struct mr_redis_reply *reply, const uint8_t *at) {
    long long number = strtoll((const char *)at + 1, NULL, 10);
    const uint8_t *line = at + 1;
    const uint8_t *end = (const uint8_t *)strstr((const char *)line, "\r\n");
    switch (*at) {
    case '+':
    case '-':
        assert_int_equal(reply->type, *at == '+' ? MR_REDIS_STATUS : MR_REDIS_FAILURE);
        assert_true(mr_bytes_equal(reply->text, mr_bytes_of(line, (size_t)(end - line))));
        return end + 2;
    case ':':
        assert_true(reply->type == MR_REDIS_INTEGER && reply->integer == number);
        return end + 2;
    case '$':
        assert_int_equal(reply->type, number < 0 ? MR_REDIS_NIL : MR_REDIS_TEXT);
        if (number >= 0) {
            assert_true(mr_bytes_equal(reply->text, mr_bytes_of(end + 2, (size_t)number)));
        }
        return number < 0 ? end + 2 : end + 4 + number;
    default:
        assert_int_equal(*at, '*');
        assert_int_equal(reply->type, number < 0 ? MR_REDIS_NIL : MR_REDIS_LIST);
        at = end + 2;
        assert_true(number < 0 || reply->count == number);
        for (long long i = 0; i < number; i++) {
            at = compare(&reply->items[i], at);
        }
        return at;
    }
}

static void replies_come_as_they_went(void **state) {
    (void)state;
    enum { SEEDS = 60, REPLIES = 20 };
    struct pair p;
    set_up(&p);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        uint64_t random = seed;
        struct mr_buf buf;
        mr_buf_init(&buf, 1 << 24);
        for (int i = 0; i < REPLIES; i++) {
            write_reply(&buf, &random, 0);
        }
        mr_buf_append_char(&buf, '\0');
        size_t len = buf.len - 1;
        open_connection(&p);
        const uint8_t *at = buf.ptr;
        size_t said = 0;
        for (int taken = 0; taken < REPLIES;) {
            size_t chunk = seed < 10 && len < 3000 ? 1 : 1 + (size_t)below(&random, 1 + len / 4);
            chunk = chunk > len - said ? len - said : chunk;
            say(&p, buf.ptr + said, chunk);
            said += chunk;
            assert_int_equal(turn(&p, NULL), MR_OK);
            struct mr_redis_reply reply;
            while (mr_redis_connection_next(p.connection, &reply)) {
                at = compare(&reply, at);
                taken++;
            }
        }
        assert_ptr_equal(at, buf.ptr + len);
        mr_buf_finish(&buf);
        close_connection(&p);
    }
    tear_down(&p);
}

/* ---- hostile bytes ---- */

/* Takes what there is until the connection breaks or stays silent; returns the last status. */
static enum mr_status drain(const struct pair *p, struct mr_error *error) {
    struct mr_redis_reply reply;
    enum mr_status status;
    do {
        status = mr_redis_connection_step(p->connection, error);
        while (mr_redis_connection_next(p->connection, &reply)) {
            assert_true(reply.type <= MR_REDIS_LIST);
        }
    } while (status == MR_OK);
    return status;
}

static void assert_broken(const struct pair *p, enum mr_status status) {
    char port[16];
    (void)snprintf(port, sizeof port, ":%u", p->port);
    for (int i = 0; i < 3; i++) {
        struct mr_error error = {.text = ""};
        struct mr_redis_reply reply;
        const struct mr_bytes argv[] = {MR_BYTES("PING")};
        assert_int_equal(mr_redis_connection_step(p->connection, &error), status);
        assert_true(error.status == status && strstr(error.text, port) != NULL);
        assert_false(mr_redis_connection_next(p->connection, &reply));
        assert_int_equal(mr_redis_connection_send(p->connection, argv, 1), MR_OK); /* dropped */
        mr_redis_transport_wait(p->transport, 1000000000000); /* it does not wait for it */
    }
}

static void hostile_replies_are_refused(void **state) {
    (void)state;
    static const char *const rows[] = {
        "HTTP/1.1 400 Bad Request\r\n", "*-2\r\n",          "$-2\r\n",    "*1048577\r\n", "*99999999999999999999\r\n",
        "$99999999999999999999\r\n",    "*2147483648\r\n",  "*x\r\n",     "$x\r\n",       "\r\n",
        ":12x\r\n",                     "*3\r\n:1\r\n?\r\n", "*1000000\r\n*1000000\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
    };
    struct pair p;
    set_up(&p);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mr_error error = {.text = ""};
        struct mr_redis_reply reply;
        open_connection(&p);
        say(&p, "+fine\r\n", 7);
        say(&p, rows[i], strlen(rows[i]));
        int taken = 0;
        enum mr_status status = MR_OK;
        while (status == MR_OK) {
            status = turn(&p, &error);
            while (mr_redis_connection_next(p.connection, &reply)) {
                taken++;
            }
        }
        assert_int_equal(taken, 1);
        assert_int_equal(status, MR_CORRUPT);
        assert_broken(&p, MR_CORRUPT);
        close_connection(&p);
    }
    tear_down(&p);
}

static void a_text_without_end_is_refused(void **state) {
    (void)state;
    static uint8_t filler[1 << 20];
    struct pair p;
    set_up(&p);
    open_connection(&p);
    say(&p, "$500000000\r\n", 12);
    enum mr_status status = MR_OK;
    size_t said = 0;
    while (status == MR_OK || status == MR_AGAIN) {
        ssize_t len = send(p.fd, filler, sizeof filler, MSG_NOSIGNAL | MSG_DONTWAIT);
        said += len > 0 ? (size_t)len : 0;
        status = drain(&p, NULL);
        assert_true(said < 40 << 20);
    }
    assert_broken(&p, MR_CORRUPT);
    tear_down(&p);
}

static void random_bytes_never_crash(void **state) {
    (void)state;
    enum { SEEDS = 200 };
    static const char alphabet[] = "*$+-:0123456789\r\n\r\n\r\nx_#,%~>(!=";
    struct pair p;
    uint64_t broken = 0;
    set_up(&p);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        uint64_t random = seed;
        struct mr_buf buf;
        mr_buf_init(&buf, 1 << 24);
        if (seed % 2 == 0) { /* right ones, spoiled */
            while (buf.len < 300) {
                write_reply(&buf, &random, 0);
            }
            for (uint64_t n = 1 + below(&random, 5); n > 0; n--) {
                buf.ptr[below(&random, buf.len)] = (uint8_t)(below(&random, 2) == 0
                                                                 ? (uint64_t)alphabet[below(&random, sizeof alphabet - 1)]
                                                                 : below(&random, 256));
            }
        } else {
            for (uint64_t n = below(&random, 400); n > 0; n--) {
                mr_buf_append_char(&buf, alphabet[below(&random, sizeof alphabet - 1)]);
            }
        }
        open_connection(&p);
        for (size_t said = 0; said < buf.len;) {
            size_t chunk = 1 + (size_t)below(&random, buf.len - said);
            say(&p, buf.ptr + said, chunk);
            said += chunk;
            (void)drain(&p, NULL);
        }
        (void)close(p.fd);
        p.fd = -1;
        struct mr_error error = {.text = ""};
        enum mr_status status = MR_AGAIN;
        for (int i = 0; i < 100 && (status == MR_OK || status == MR_AGAIN); i++) {
            status = drain(&p, &error);
            mr_redis_transport_wait(p.transport, 1000000);
        }
        assert_true(status == MR_IO || status == MR_CORRUPT);
        broken += status == MR_CORRUPT;
        assert_broken(&p, status);
        mr_buf_finish(&buf);
        close_connection(&p);
    }
    assert_true(broken > SEEDS / 4 && broken < SEEDS);
    tear_down(&p);
}

/* ---- ends ---- */

static void replies_before_the_end_are_there(void **state) {
    (void)state;
    struct pair p;
    struct mr_redis_reply reply;
    const struct mr_bytes argv[] = {MR_BYTES("PING")};
    set_up(&p);
    for (int reset = 0; reset < 2; reset++) {
        open_connection(&p);
        (void)mr_redis_connection_step(p.connection, NULL);
        say(&p, "+1\r\n+2\r\n:3", 10);
        struct linger linger = {.l_onoff = 1}; /* close says RST */
        if (reset) {
            assert_int_equal(turn(&p, NULL), MR_OK);
            (void)setsockopt(p.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        }
        (void)close(p.fd);
        p.fd = -1;
        assert_int_equal(mr_redis_connection_send(p.connection, argv, 1), MR_OK);
        for (int i = 0; i < 5; i++) { /* writes to a closed socket; the replies keep the end back */
            assert_int_not_equal(turn(&p, NULL), MR_IO);
            assert_int_equal(mr_redis_connection_send(p.connection, argv, 1), MR_OK);
        }
        assert_true(mr_redis_connection_next(p.connection, &reply));
        assert_true(mr_bytes_equal(reply.text, MR_BYTES("1")));
        assert_true(mr_redis_connection_next(p.connection, &reply));
        assert_true(mr_bytes_equal(reply.text, MR_BYTES("2")));
        assert_false(mr_redis_connection_next(p.connection, &reply));
        struct mr_error error = {.text = ""};
        assert_int_equal(turn(&p, &error), MR_IO);
        assert_broken(&p, MR_IO);
        close_connection(&p);
    }
    tear_down(&p);
}

static void nobody_there(void **state) {
    (void)state;
    struct pair p;
    struct mr_error error = {.text = ""};
    set_up(&p);
    (void)close(p.listener);
    enum mr_status status = mr_redis_transport_open(p.transport, "127.0.0.1", p.port, &p.connection, &error);
    assert_int_equal(status, MR_OK);
    assert_int_equal(turn(&p, &error), MR_IO);
    assert_non_null(strstr(error.text, "refused"));
    assert_broken(&p, MR_IO);
    mr_redis_connection_close(p.connection);
    p.connection = NULL;
    char name[90]; /* no label has over 63 letters: nobody is asked about it */
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = '\0';
    error.text[0] = '\0';
    assert_int_equal(mr_redis_transport_open(p.transport, name, 1, &p.connection, &error), MR_INVALID);
    assert_string_not_equal(error.text, "");
    mr_redis_transport_finish(p.transport);
}

static void tls_to_one_who_speaks_none(void **state) {
    (void)state;
    struct pair p;
    struct mr_error error = {.text = ""};
    set_up(&p);
    mr_redis_transport_finish(p.transport);
    enum mr_status status = mr_hiredis_open(&(struct mr_redis_tls){.on = true}, &p.transport, &error);
    if (!mr_hiredis_has_tls()) {
        assert_int_equal(status, MR_UNSUPPORTED);
        assert_non_null(strstr(error.text, "TLS"));
        (void)close(p.listener);
        return;
    }
    assert_int_equal(status, MR_OK);
    open_connection(&p);
    const struct mr_bytes argv[] = {MR_BYTES("PING")};
    assert_int_equal(mr_redis_connection_send(p.connection, argv, 1), MR_OK);
    (void)turn(&p, NULL); /* connects, and says hello */
    say(&p, "-ERR what is this\r\n", 19);
    assert_int_equal(turn(&p, &error), MR_IO);
    assert_non_null(strstr(error.text, "TLS"));
    assert_broken(&p, MR_IO);
    tear_down(&p);
    assert_int_equal(mr_hiredis_open(&(struct mr_redis_tls){.on = true, .ca_file = "/nowhere.pem"}, &p.transport, &error),
                     MR_INVALID);
    assert_non_null(strstr(error.text, "/nowhere.pem"));
}

/* ---- memory ---- */

static void each_allocation_fails(void **state) {
    (void)state;
    bool failed = true;
    static uint8_t large[300000];
    for (size_t k = 1; failed; k++) {
        struct pair p = {0};
        struct mr_redis_reply reply;
        struct mr_error error;
        listen_somewhere(&p);
        mr_alloc_fail_at(k, 0);
        enum mr_status status = mr_hiredis_open(&(struct mr_redis_tls){0}, &p.transport, &error);
        if (status != MR_OK) {
            assert_int_equal(status, MR_NO_MEMORY);
            (void)close(p.listener);
            continue;
        }
        status = mr_redis_transport_open(p.transport, "127.0.0.1", p.port, &p.connection, &error);
        if (status != MR_OK) {
            assert_int_equal(status, MR_NO_MEMORY);
            p.connection = NULL;
            tear_down(&p);
            continue;
        }
        p.fd = accept(p.listener, NULL, NULL);
        struct mr_bytes argv[] = {MR_BYTES("GET"), {large, sizeof large}};
        for (uint32_t n = 1; n <= 2; n++) {
            status = mr_redis_connection_send(p.connection, argv, n);
            if (status != MR_OK) { /* nothing was sent, and the next may be */
                assert_int_equal(status, MR_NO_MEMORY);
                assert_int_equal(mr_redis_connection_send(p.connection, argv, n), MR_OK);
            }
        }
        say(&p, "*20\r\n", 5);
        for (int i = 0; i < 20; i++) {
            say(&p, "$600\r\n", 6);
            say(&p, large, 600);
            say(&p, "\r\n", 2);
        }
        bool got = false;
        do {
            status = turn(&p, &error);
            got |= mr_redis_connection_next(p.connection, &reply);
        } while (!got && (status == MR_OK || status == MR_AGAIN));
        failed = mr_alloc_failed();
        assert_true(got ? reply.count == 20 : status == MR_NO_MEMORY && failed);
        mr_alloc_fail_at(0, 0);
        tear_down(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_resp),
        cmocka_unit_test(replies_come_as_they_went),
        cmocka_unit_test(hostile_replies_are_refused),
        cmocka_unit_test(a_text_without_end_is_refused),
        cmocka_unit_test(random_bytes_never_crash),
        cmocka_unit_test(replies_before_the_end_are_there),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(tls_to_one_who_speaks_none),
        cmocka_unit_test(each_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
