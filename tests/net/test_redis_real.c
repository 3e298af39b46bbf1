/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves against a real redis-server, over hiredis:
 *   1. 10,000 commands in a pipeline, among them one of thousands of arguments, answered each with its own;
 *   2. replies of every shape, and none changed by bytes that are NUL or CR LF;
 *   3. AUTH: the right user and password, a wrong one, none;
 *   4. a server killed in the middle and started again: answered or UNKNOWN, then another session;
 *   5. a server that hangs (SIGSTOP): UNKNOWN within the timeout, and when it goes on no late reply.
 */
#include "net/redis.h"
#include "tests/redis/redis_server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TIMEOUT_NS UINT64_C(1000000000)
#define PATIENCE_NS UINT64_C(20000000000)

struct client {
    struct mr_redis_transport *transport;
    struct mr_redis *redis;
};

static uint64_t now_ns(void) {
    return mr_clock_mono_ns(mr_clock_system());
}

static struct client connect_as(const struct redis_server *server, const char *user, const char *password) {
    struct client client;
    struct mr_bytes address = mr_bytes_text(server->address);
    assert_int_equal(mr_hiredis_open(&(struct mr_redis_tls){0}, &client.transport, NULL), MR_OK);
    assert_int_equal(mr_redis_open(&(struct mr_redis_options){.transport = client.transport,
                                                              .clock = mr_clock_system(),
                                                              .addresses = &address,
                                                              .address_count = 1,
                                                              .user = mr_bytes_text(user),
                                                              .password = mr_bytes_text(password),
                                                              .name = MR_BYTES("millrace-test"),
                                                              .timeout_ns = TIMEOUT_NS,
                                                              .retry_min_ns = 10000000,
                                                              .retry_max_ns = 200000000,
                                                              .bytes_max = 64 << 20,
                                                              .seed = 1},
                                   &client.redis, NULL),
                     MR_OK);
    return client;
}

static void disconnect(struct client *client) {
    mr_redis_close(client->redis);
    mr_redis_transport_finish(client->transport);
}

static struct mr_redis_node node_of(const struct client *client) {
    struct mr_redis_node node;
    mr_redis_node(client->redis, 0, &node);
    return node;
}

static void wait_until_up(struct client *client) {
    uint64_t until_ns = now_ns() + PATIENCE_NS;
    while (!mr_redis_is_up(client->redis)) {
        assert_true(now_ns() < until_ns);
        if (!mr_redis_step(client->redis)) {
            mr_redis_wait(client->redis, 100000000);
        }
    }
}

static void send_argv(struct client *client, uint64_t tag, const struct mr_bytes *argv, uint32_t argc) {
    struct mr_redis_command command = {.argv = argv, .argc = argc, .tag = tag};
    assert_int_equal(mr_redis_send(client->redis, 0, &command), MR_OK);
}

static struct mr_bytes number(char text[24], uint64_t n) {
    int len = snprintf(text, 24, "%llu", (unsigned long long)n);
    return mr_bytes_of(text, (size_t)len);
}

static void send_echo(struct client *client, uint64_t tag) {
    char text[24];
    const struct mr_bytes argv[] = {MR_BYTES("ECHO"), number(text, tag)};
    send_argv(client, tag, argv, 2);
}

static struct mr_redis_answer receive(struct client *client) {
    struct mr_redis_answer answer;
    uint64_t until_ns = now_ns() + PATIENCE_NS;
    while (!mr_redis_next(client->redis, &answer)) {
        assert_true(now_ns() < until_ns);
        if (!mr_redis_step(client->redis)) {
            mr_redis_wait(client->redis, 100000000);
        }
    }
    return answer;
}

static void assert_echo(const struct mr_redis_answer *answer, uint64_t tag) {
    char text[24];
    assert_int_equal(answer->tag, tag);
    assert_int_equal(answer->outcome, MR_REDIS_ANSWERED);
    assert_int_equal(answer->reply.type, MR_REDIS_TEXT);
    assert_true(mr_bytes_equal(answer->reply.text, number(text, tag)));
}

static bool skipped(void) {
    if (redis_server_is_installed()) {
        return false;
    }
    print_message("skipped: redis-server or redis-cli is not installed\n");
    return true;
}

static void a_pipeline(void **state) {
    (void)state;
    enum { COMMANDS = 10000, FIELDS = 4000 };
    if (skipped()) {
        return;
    }
    struct redis_server *server = redis_server_start(NULL);
    struct client client = connect_as(server, "", "");
    wait_until_up(&client);
    for (uint64_t tag = 0; tag < COMMANDS; tag++) {
        send_echo(&client, tag);
    }
    static struct mr_bytes argv[2 + 2 * FIELDS];
    static char texts[FIELDS][24];
    argv[0] = MR_BYTES("HSET");
    argv[1] = MR_BYTES("hash");
    for (uint32_t i = 0; i < FIELDS; i++) {
        argv[2 + 2 * i] = argv[3 + 2 * i] = number(texts[i], 1000000000000000 + i);
    }
    send_argv(&client, COMMANDS, argv, 2 + 2 * FIELDS);
    argv[0] = MR_BYTES("HGETALL");
    send_argv(&client, COMMANDS + 1, argv, 2);
    assert_int_equal(node_of(&client).unanswered, COMMANDS + 2);
    for (uint64_t tag = 0; tag < COMMANDS; tag++) {
        struct mr_redis_answer answer = receive(&client);
        assert_echo(&answer, tag);
    }
    struct mr_redis_answer answer = receive(&client);
    assert_int_equal(answer.reply.integer, FIELDS);
    answer = receive(&client);
    assert_int_equal(answer.reply.type, MR_REDIS_LIST);
    assert_int_equal(answer.reply.count, 2 * FIELDS);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < FIELDS; i++) {
        assert_true(mr_bytes_equal(answer.reply.items[2 * i].text, answer.reply.items[2 * i + 1].text));
        char digits[24] = "";
        assert_int_equal(answer.reply.items[2 * i].text.len, 16);
        memcpy(digits, answer.reply.items[2 * i].text.ptr, 16);
        sum += strtoull(digits, NULL, 10) - 1000000000000000;
    }
    assert_int_equal(sum, (uint64_t)FIELDS * (FIELDS - 1) / 2);
    assert_int_equal(node_of(&client).unanswered, 0);
    assert_int_equal(node_of(&client).unanswered_bytes, 0);
    disconnect(&client);
    redis_server_stop(server);
}

static void every_shape(void **state) {
    (void)state;
    if (skipped()) {
        return;
    }
    struct redis_server *server = redis_server_start(NULL);
    struct client client = connect_as(server, "", "");
    wait_until_up(&client);
    const struct mr_bytes strange = MR_BYTES("a\r\n\0$-1\r\n*");
    struct mr_bytes set[] = {MR_BYTES("SET"), MR_BYTES("k\0\r\n"), strange, MR_BYTES("NX"), MR_BYTES("GET"),
                             MR_BYTES("PX"), MR_BYTES("100000")};
    send_argv(&client, 1, set, 7); /* nil: it was not there */
    send_argv(&client, 2, set, 7);
    const struct mr_bytes nested[] = {MR_BYTES("EVAL"), MR_BYTES("return {1, {'x', {}, {false}}, ''}"), MR_BYTES("0")};
    send_argv(&client, 3, nested, 3);
    const struct mr_bytes bad[] = {MR_BYTES("GET")};
    send_argv(&client, 4, bad, 1);
    const struct mr_bytes empty[] = {MR_BYTES("SET"), MR_BYTES(""), MR_BYTES("")};
    send_argv(&client, 5, empty, 3);

    struct mr_redis_answer a = receive(&client);
    assert_true(a.outcome == MR_REDIS_ANSWERED && a.reply.type == MR_REDIS_NIL);
    a = receive(&client);
    assert_true(a.reply.type == MR_REDIS_TEXT && mr_bytes_equal(a.reply.text, strange));
    a = receive(&client);
    assert_true(a.reply.type == MR_REDIS_LIST && a.reply.count == 3 && a.reply.items[0].integer == 1);
    const struct mr_redis_reply *inner = &a.reply.items[1];
    assert_true(inner->count == 3 && mr_bytes_equal(inner->items[0].text, MR_BYTES("x")));
    assert_true(inner->items[1].type == MR_REDIS_LIST && inner->items[1].count == 0);
    assert_true(inner->items[2].count == 1 && inner->items[2].items[0].type == MR_REDIS_NIL);
    assert_true(a.reply.items[2].type == MR_REDIS_TEXT && a.reply.items[2].text.len == 0);
    a = receive(&client);
    assert_true(a.outcome == MR_REDIS_REFUSED && a.reply.type == MR_REDIS_FAILURE);
    a = receive(&client);
    assert_true(a.outcome == MR_REDIS_ANSWERED && a.reply.type == MR_REDIS_STATUS);
    disconnect(&client);
    redis_server_stop(server);
}

static void passwords(void **state) {
    (void)state;
    static const char *const args[] = {"--requirepass", "open sesame", "--user", "mill", "on", ">race", "~*",
                                       "+@all", NULL};
    static const struct {
        const char *user;
        const char *password;
        const char *trouble; /* NULL: fine */
    } rows[] = {
        {"", "open sesame", NULL},    {"mill", "race", NULL},      {"default", "open sesame", NULL},
        {"", "wrong", "WRONGPASS"},   {"mill", "x", "WRONGPASS"},  {"nobody", "race", "WRONGPASS"},
        {"", "", "NOAUTH"},
    };
    if (skipped()) {
        return;
    }
    struct redis_server *server = redis_server_start(args);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct client client = connect_as(server, rows[i].user, rows[i].password);
        if (rows[i].trouble == NULL) {
            wait_until_up(&client);
            send_echo(&client, 7);
            struct mr_redis_answer answer = receive(&client);
            assert_echo(&answer, 7);
            const struct mr_bytes argv[] = {MR_BYTES("CLIENT"), MR_BYTES("GETNAME")};
            send_argv(&client, 8, argv, 2);
            answer = receive(&client);
            assert_true(mr_bytes_equal(answer.reply.text, MR_BYTES("millrace-test")));
        } else {
            uint64_t until_ns = now_ns() + PATIENCE_NS;
            while (strstr(node_of(&client).trouble, rows[i].trouble) == NULL) {
                assert_true(now_ns() < until_ns && !mr_redis_is_up(client.redis));
                (void)mr_redis_step(client.redis);
                mr_redis_wait(client.redis, 10000000);
            }
            const struct mr_bytes argv[] = {MR_BYTES("PING")};
            assert_int_equal(mr_redis_send(client.redis, 0, &(struct mr_redis_command){.argv = argv, .argc = 1}),
                             MR_AGAIN);
        }
        disconnect(&client);
    }
    redis_server_stop(server);
}

static void a_restart(void **state) {
    (void)state;
    enum { BEFORE = 1000, AFTER = 20000 };
    if (skipped()) {
        return;
    }
    struct redis_server *server = redis_server_start(NULL);
    struct client client = connect_as(server, "", "");
    wait_until_up(&client);
    uint64_t session = node_of(&client).session;
    for (uint64_t tag = 0; tag < BEFORE; tag++) {
        send_echo(&client, tag);
    }
    for (uint64_t tag = 0; tag < BEFORE; tag++) {
        struct mr_redis_answer answer = receive(&client);
        assert_echo(&answer, tag);
    }
    redis_server_signal(server, SIGSTOP); /* nothing of these is answered */
    for (uint64_t tag = BEFORE; tag < AFTER; tag++) {
        send_echo(&client, tag);
    }
    (void)mr_redis_step(client.redis);
    redis_server_signal(server, SIGKILL);
    for (uint64_t tag = BEFORE; tag < AFTER; tag++) {
        struct mr_redis_answer answer = receive(&client);
        assert_int_equal(answer.tag, tag);
        assert_int_equal(answer.outcome, MR_REDIS_UNKNOWN);
        assert_true(answer.session == session);
    }
    assert_true(node_of(&client).session == 0 && !mr_redis_is_up(client.redis));
    for (int i = 0; i < 20; i++) { /* refused */
        (void)mr_redis_step(client.redis);
        mr_redis_wait(client.redis, 10000000);
    }
    assert_string_not_equal(node_of(&client).trouble, "");
    redis_server_restart(server);
    wait_until_up(&client);
    assert_true(node_of(&client).session > session);
    send_echo(&client, AFTER);
    struct mr_redis_answer answer = receive(&client);
    assert_echo(&answer, AFTER);
    disconnect(&client);
    redis_server_stop(server);
}

static void a_hang(void **state) {
    (void)state;
    if (skipped()) {
        return;
    }
    struct redis_server *server = redis_server_start(NULL);
    struct client client = connect_as(server, "", "");
    wait_until_up(&client);
    uint64_t session = node_of(&client).session;
    redis_server_signal(server, SIGSTOP);
    uint64_t before_ns = now_ns();
    for (uint64_t tag = 0; tag < 10; tag++) {
        send_echo(&client, tag);
    }
    for (uint64_t tag = 0; tag < 10; tag++) {
        struct mr_redis_answer answer = receive(&client);
        assert_true(answer.tag == tag && answer.outcome == MR_REDIS_UNKNOWN);
    }
    uint64_t took_ns = now_ns() - before_ns;
    assert_true(took_ns >= TIMEOUT_NS && took_ns < 3 * TIMEOUT_NS);
    redis_server_signal(server, SIGCONT);
    wait_until_up(&client);
    assert_true(node_of(&client).session > session);
    for (uint64_t tag = 100; tag < 200; tag++) {
        send_echo(&client, tag);
    }
    for (uint64_t tag = 100; tag < 200; tag++) {
        struct mr_redis_answer answer = receive(&client);
        assert_echo(&answer, tag);
    }
    struct mr_redis_stats stats;
    mr_redis_stats(client.redis, &stats);
    assert_true(stats.timeouts >= 1);
    disconnect(&client);
    redis_server_stop(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipeline), cmocka_unit_test(every_shape), cmocka_unit_test(passwords),
        cmocka_unit_test(a_restart),  cmocka_unit_test(a_hang),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
