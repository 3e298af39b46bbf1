/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves against a real cluster of three masters, and one that joins, over hiredis:
 *   1. every key goes where its slot is: no MOVED, though one address only is configured;
 *   2. while a slot moves: ASK for the keys that have gone, the others still there; then MOVED, to a node not known
 *      before; and the map follows;
 *   3. a master that is killed: UNKNOWN or answered, the others go on, and it is found again.
 */
#include "net/redis.h"
#include "tests/redis/redis_server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define PATIENCE_NS UINT64_C(30000000000)

static struct redis_cluster *cluster;
static struct mr_redis_transport *transport;
static struct mr_redis *redis;

static uint64_t now_ns(void) {
    return mr_clock_mono_ns(mr_clock_system());
}

static int set_up(void **state) {
    (void)state;
    if (!redis_server_is_installed()) {
        print_message("skipped: redis-server or redis-cli is not installed\n");
        return 0;
    }
    cluster = redis_cluster_start(3, 0);
    struct mr_bytes address = mr_bytes_text(cluster->servers[0]->address);
    assert_int_equal(mr_hiredis_open(&(struct mr_redis_tls){0}, &transport, NULL), MR_OK);
    assert_int_equal(mr_redis_open(&(struct mr_redis_options){.transport = transport,
                                                              .clock = mr_clock_system(),
                                                              .addresses = &address,
                                                              .address_count = 1,
                                                              .cluster = true,
                                                              .timeout_ns = 2000000000,
                                                              .retry_min_ns = 10000000,
                                                              .retry_max_ns = 200000000,
                                                              .bytes_max = 1 << 20,
                                                              .seed = 1},
                                   &redis, NULL),
                     MR_OK);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    if (cluster != NULL) {
        mr_redis_close(redis);
        mr_redis_transport_finish(transport);
        redis_cluster_stop(cluster);
    }
    return 0;
}

static void turn(void) {
    if (!mr_redis_step(redis)) {
        mr_redis_wait(redis, 20000000);
    }
}

static void wait_until_up(void) {
    uint64_t until_ns = now_ns() + PATIENCE_NS;
    while (!mr_redis_is_up(redis)) {
        assert_true(now_ns() < until_ns);
        turn();
    }
}

static struct mr_redis_answer receive(void) {
    struct mr_redis_answer answer;
    uint64_t until_ns = now_ns() + PATIENCE_NS;
    while (!mr_redis_next(redis, &answer)) {
        assert_true(now_ns() < until_ns);
        turn();
    }
    return answer;
}

static const char *address_of(uint32_t node) {
    struct mr_redis_node about;
    mr_redis_node(redis, node, &about);
    return about.address;
}

/* One command about a key to a node, once that takes it, and its answer. */
static struct mr_redis_answer run(uint32_t node, bool asking, const char *verb, const char *key, const char *value) {
    static uint64_t tag;
    struct mr_bytes argv[3] = {mr_bytes_text(verb), mr_bytes_text(key), mr_bytes_text(value == NULL ? "" : value)};
    struct mr_redis_command command = {.argv = argv, .argc = value == NULL ? 2 : 3, .tag = ++tag, .asking = asking};
    uint64_t until_ns = now_ns() + PATIENCE_NS;
    while (mr_redis_send(redis, node, &command) != MR_OK) {
        assert_true(now_ns() < until_ns);
        turn();
    }
    struct mr_redis_answer answer = receive();
    assert_int_equal(answer.tag, tag);
    assert_int_equal(answer.node, node);
    return answer;
}

static struct mr_redis_answer run_key(const char *verb, const char *key, const char *value) {
    uint32_t node = mr_redis_node_of(redis, mr_redis_slot(mr_bytes_text(key)));
    assert_true(node != MR_REDIS_NO_NODE);
    return run(node, false, verb, key, value);
}

static void keys_go_where_they_belong(void **state) {
    (void)state;
    enum { KEYS = 300 };
    if (cluster == NULL) {
        return;
    }
    wait_until_up();
    assert_int_equal(mr_redis_nodes(redis), 3);
    uint32_t used[3] = {0};
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[24];
        (void)snprintf(key, sizeof key, i % 2 == 0 ? "key%u" : "{tag%u}x", i);
        struct mr_redis_answer answer = run_key("SET", key, key);
        assert_int_equal(answer.outcome, MR_REDIS_ANSWERED);
        assert_int_equal(answer.reply.type, MR_REDIS_STATUS);
        used[answer.node]++;
    }
    assert_true(used[0] > 0 && used[1] > 0 && used[2] > 0);
    struct mr_redis_stats stats;
    mr_redis_stats(redis, &stats);
    assert_int_equal(stats.moved + stats.asked, 0);
}

/* The server's id in the cluster. */
static void id_of(const struct redis_server *server, char ret[41]) {
    char reply[128];
    assert_true(redis_server_ask(server, "CLUSTER MYID", reply, sizeof reply));
    assert_true(reply[0] == '$' && reply[1] == '4' && reply[2] == '0');
    (void)snprintf(ret, 41, "%.40s", reply + 5);
}

static struct redis_server *server_of(const char *address) {
    for (uint32_t i = 0; i < cluster->count; i++) {
        if (strcmp(cluster->servers[i]->address, address) == 0) {
            return cluster->servers[i];
        }
    }
    fail();
    return NULL;
}

/* A fourth server, which serves nothing yet, and which the client has not heard of. */
static struct redis_server *join(void) {
    static const char *const args[] = {"--cluster-enabled", "yes", "--cluster-node-timeout", "2000", NULL};
    struct redis_server *server = redis_server_start(args);
    char line[128];
    (void)snprintf(line, sizeof line, "CLUSTER MEET 127.0.0.1 %u", cluster->servers[0]->port);
    redis_server_must(server, line);
    cluster->servers[cluster->count++] = server;
    redis_cluster_wait(cluster);
    return server;
}

/* Until a server has heard of the other; SETSLOT refuses it before. */
static void set_slot(const struct redis_server *server, uint32_t slot, const char *how, const char *id) {
    char line[128];
    char reply[256];
    uint64_t until_ns = now_ns() + PATIENCE_NS;
    (void)snprintf(line, sizeof line, "CLUSTER SETSLOT %u %s %s", slot, how, id);
    while (!redis_server_ask(server, line, reply, sizeof reply) || reply[0] == '-') {
        assert_true(now_ns() < until_ns);
    }
}

static void a_slot_moves(void **state) {
    (void)state;
    if (cluster == NULL) {
        return;
    }
    wait_until_up();
    uint32_t slot = mr_redis_slot(MR_BYTES("moving"));
    uint32_t from_node = mr_redis_node_of(redis, slot);
    struct redis_server *from = server_of(address_of(from_node));
    struct redis_server *to = join();
    char from_id[41];
    char to_id[41];
    id_of(from, from_id);
    id_of(to, to_id);
    assert_int_equal(run_key("SET", "{moving}1", "one").outcome, MR_REDIS_ANSWERED);
    assert_int_equal(run_key("SET", "{moving}2", "two").outcome, MR_REDIS_ANSWERED);
    set_slot(to, slot, "IMPORTING", from_id);
    set_slot(from, slot, "MIGRATING", to_id);
    char line[128];
    (void)snprintf(line, sizeof line, "MIGRATE 127.0.0.1 %u {moving}1 0 5000", to->port);
    redis_server_must(from, line);

    struct mr_redis_answer answer = run_key("GET", "{moving}2", NULL); /* it is still there */
    assert_true(answer.outcome == MR_REDIS_ANSWERED && mr_bytes_equal(answer.reply.text, MR_BYTES("two")));
    answer = run_key("GET", "{moving}1", NULL); /* it has gone */
    assert_int_equal(answer.outcome, MR_REDIS_ASKED);
    uint32_t asked = answer.node_asked;
    assert_string_equal(address_of(asked), to->address);
    assert_true(asked != from_node && mr_redis_node_of(redis, slot) == from_node);
    answer = run(asked, true, "GET", "{moving}1", NULL);
    assert_true(answer.outcome == MR_REDIS_ANSWERED && mr_bytes_equal(answer.reply.text, MR_BYTES("one")));
    answer = run(asked, false, "GET", "{moving}1", NULL); /* without asking it is not its own yet */
    assert_int_equal(answer.outcome, MR_REDIS_MOVED);

    (void)snprintf(line, sizeof line, "MIGRATE 127.0.0.1 %u {moving}2 0 5000", to->port);
    redis_server_must(from, line);
    uint64_t version = mr_redis_map_version(redis);
    set_slot(to, slot, "NODE", to_id);
    set_slot(from, slot, "NODE", to_id);
    answer = run(from_node, false, "GET", "{moving}2", NULL);
    assert_int_equal(answer.outcome, MR_REDIS_MOVED);
    assert_int_equal(mr_redis_node_of(redis, slot), asked);
    assert_true(mr_redis_map_version(redis) > version);
    answer = run_key("GET", "{moving}2", NULL);
    assert_true(answer.outcome == MR_REDIS_ANSWERED && mr_bytes_equal(answer.reply.text, MR_BYTES("two")));
    mr_redis_check(redis);
}

static void a_master_dies(void **state) {
    (void)state;
    enum { COMMANDS = 500 };
    if (cluster == NULL) {
        return;
    }
    wait_until_up();
    uint32_t node = mr_redis_node_of(redis, mr_redis_slot(MR_BYTES("x")));
    struct mr_redis_node about;
    mr_redis_node(redis, node, &about);
    uint64_t session = about.session;
    struct redis_server *server = server_of(about.address);
    redis_server_signal(server, SIGSTOP);
    for (uint64_t tag = 0; tag < COMMANDS; tag++) {
        const struct mr_bytes argv[] = {MR_BYTES("GET"), MR_BYTES("x")};
        assert_int_equal(mr_redis_send(redis, node, &(struct mr_redis_command){.argv = argv, .argc = 2, .tag = tag}),
                         MR_OK);
    }
    (void)mr_redis_step(redis);
    redis_server_signal(server, SIGKILL);
    for (uint64_t tag = 0; tag < COMMANDS; tag++) {
        struct mr_redis_answer answer = receive();
        assert_true(answer.tag == tag && answer.outcome == MR_REDIS_UNKNOWN && answer.session == session);
    }
    assert_false(mr_redis_is_up(redis));
    redis_server_restart(server);
    wait_until_up();
    mr_redis_node(redis, mr_redis_node_of(redis, mr_redis_slot(MR_BYTES("x"))), &about);
    assert_true(about.session > session);
    uint64_t until_ns = now_ns() + PATIENCE_NS;
    while (run_key("GET", "x", NULL).outcome != MR_REDIS_ANSWERED) { /* CLUSTERDOWN for a moment: LATER */
        assert_true(now_ns() < until_ns);
        turn();
    }
    mr_redis_check(redis);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_go_where_they_belong),
        cmocka_unit_test(a_slot_moves),
        cmocka_unit_test(a_master_dies),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
