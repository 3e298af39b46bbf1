/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves against a real redis-server with TLS, whose certificate the test makes with openssl:
 *   1. commands and large replies go through;
 *   2. the certificate must be for the name connected to, or for the one in the options, and signed by a known authority;
 *   3. a server that wants a certificate gets ours, and says no without it.
 */
#include "net/redis.h"
#include "tests/redis/redis_server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_NS UINT64_C(10000000000)

static char dir[64];
static char cert[96];
static char key[96];
static char other_cert[96];
static struct redis_server *server;
static struct redis_server *strict_server; /* wants a certificate */
static char address[2][32];

static bool make_certificate(const char *names, const char *cert_file, const char *key_file) {
    char command[512];
    (void)snprintf(command, sizeof command,
                   "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=%s "
                   "-keyout %s -out %s 2>/dev/null",
                   names, key_file, cert_file);
    return system(command) == 0;
}

static struct redis_server *start(const char *clients, char ret_address[32]) {
    char port[8];
    uint16_t number = redis_server_free_port();
    (void)snprintf(port, sizeof port, "%u", number);
    (void)snprintf(ret_address, 32, "127.0.0.1:%u", number);
    const char *const args[] = {"--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key,
                                "--tls-ca-cert-file", cert, "--tls-auth-clients", clients, NULL};
    return redis_server_start(args);
}

static int set_up(void **state) {
    (void)state;
    char other_key[96];
    (void)snprintf(dir, sizeof dir, "/tmp/redis-tls-XXXXXX");
    if (!redis_server_is_installed() || !mr_hiredis_has_tls() || mkdtemp(dir) == NULL) {
        print_message("skipped: redis-server is not installed, or this build has no TLS\n");
        return 0;
    }
    (void)snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    (void)snprintf(key, sizeof key, "%s/key.pem", dir);
    (void)snprintf(other_cert, sizeof other_cert, "%s/other.pem", dir);
    (void)snprintf(other_key, sizeof other_key, "%s/other-key.pem", dir);
    if (!make_certificate("IP:127.0.0.1,DNS:redis.test", cert, key) ||
        !make_certificate("IP:127.0.0.1", other_cert, other_key)) {
        print_message("skipped: no openssl to make a certificate with\n");
        return 0;
    }
    (void)unlink(other_key);
    server = start("no", address[0]);
    strict_server = start("yes", address[1]);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    redis_server_stop(server);
    redis_server_stop(strict_server);
    (void)unlink(cert);
    (void)unlink(key);
    (void)unlink(other_cert);
    (void)rmdir(dir);
    return 0;
}

/* Connects until it is up or there is a trouble; the trouble, "" when up. */
static void try_to(const char *to, const struct mr_redis_tls *tls, bool talk, char ret[256]) {
    enum { LEN = 3000000 };
    struct mr_clock *clock = mr_clock_system();
    struct mr_redis_transport *transport;
    struct mr_redis *redis;
    struct mr_redis_node node;
    struct mr_bytes bytes = mr_bytes_text(to);
    assert_int_equal(mr_hiredis_open(tls, &transport, NULL), MR_OK);
    assert_int_equal(mr_redis_open(&(struct mr_redis_options){.transport = transport,
                                                              .clock = clock,
                                                              .addresses = &bytes,
                                                              .address_count = 1,
                                                              .timeout_ns = 3000000000,
                                                              .retry_min_ns = 100000000,
                                                              .retry_max_ns = 100000000,
                                                              .bytes_max = 64 << 20},
                                   &redis, NULL),
                     MR_OK);
    uint64_t until_ns = mr_clock_mono_ns(clock) + PATIENCE_NS;
    do {
        assert_true(mr_clock_mono_ns(clock) < until_ns);
        if (!mr_redis_step(redis)) {
            mr_redis_wait(redis, 100000000);
        }
        mr_redis_node(redis, 0, &node);
    } while (node.session == 0 && node.trouble[0] == '\0');
    (void)snprintf(ret, 256, "%s", node.session != 0 ? "" : node.trouble);
    uint8_t *large = malloc(LEN);
    memset(large, 'x', LEN);
    struct mr_bytes argv[] = {MR_BYTES("ECHO"), {large, LEN}};
    for (uint64_t tag = 0; talk && tag < 3; tag++) {
        assert_int_equal(mr_redis_send(redis, 0, &(struct mr_redis_command){.argv = argv, .argc = 2, .tag = tag}),
                         MR_OK);
    }
    for (uint64_t tag = 0; talk && tag < 3;) {
        struct mr_redis_answer answer;
        assert_true(mr_clock_mono_ns(clock) < until_ns);
        if (mr_redis_next(redis, &answer)) {
            assert_true(answer.tag == tag++ && mr_bytes_equal(answer.reply.text, argv[1]));
        } else if (!mr_redis_step(redis)) {
            mr_redis_wait(redis, 100000000);
        }
    }
    if (talk) { /* the server goes away: an end, and no signal */
        redis_server_signal(server, SIGKILL);
        assert_int_equal(mr_redis_send(redis, 0, &(struct mr_redis_command){.argv = argv, .argc = 2}), MR_OK);
        struct mr_redis_answer answer;
        while (!mr_redis_next(redis, &answer)) {
            (void)mr_redis_step(redis);
        }
        assert_int_equal(answer.outcome, MR_REDIS_UNKNOWN);
        redis_server_restart(server);
    }
    free(large);
    mr_redis_close(redis);
    mr_redis_transport_finish(transport);
}

static void commands_go_through(void **state) {
    (void)state;
    char trouble[256];
    if (server == NULL) {
        return;
    }
    try_to(address[0], &(struct mr_redis_tls){.on = true, .ca_file = cert}, true, trouble);
    assert_string_equal(trouble, "");
}

static void the_certificate_is_looked_at(void **state) {
    (void)state;
    char trouble[256];
    char by_name[32];
    if (server == NULL) {
        return;
    }
    try_to(address[0], &(struct mr_redis_tls){.on = true, .ca_file = cert, .server_name = "redis.test"}, false, trouble);
    assert_string_equal(trouble, "");
    try_to(address[0], &(struct mr_redis_tls){.on = true, .ca_file = cert, .server_name = "other.test"}, false, trouble);
    assert_non_null(strstr(trouble, "mismatch"));
    (void)snprintf(by_name, sizeof by_name, "localhost%s", strchr(address[0], ':')); /* a name it does not have */
    try_to(by_name, &(struct mr_redis_tls){.on = true, .ca_file = cert}, false, trouble);
    assert_non_null(strstr(trouble, "mismatch"));
    try_to(address[0], &(struct mr_redis_tls){.on = true, .ca_file = other_cert}, false, trouble);
    assert_non_null(strstr(trouble, "self"));
    try_to(address[0], &(struct mr_redis_tls){.on = true}, false, trouble);
    assert_non_null(strstr(trouble, "self"));
    try_to(address[0], &(struct mr_redis_tls){0}, false, trouble); /* no TLS to who wants it */
    assert_string_not_equal(trouble, "");
}

static void our_certificate_is_shown(void **state) {
    (void)state;
    char trouble[256];
    if (server == NULL) {
        return;
    }
    struct mr_redis_tls tls = {.on = true, .ca_file = cert};
    try_to(address[1], &tls, false, trouble);
    assert_string_not_equal(trouble, "");
    tls.cert_file = cert;
    tls.key_file = key;
    try_to(address[1], &tls, false, trouble);
    assert_string_equal(trouble, "");
    struct mr_redis_transport *transport;
    struct mr_error error;
    tls.key_file = other_cert; /* no key */
    assert_int_equal(mr_hiredis_open(&tls, &transport, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "key"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_go_through),
        cmocka_unit_test(the_certificate_is_looked_at),
        cmocka_unit_test(our_certificate_is_shown),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
