/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves against a real redis-server that it says what the watch reads:
 *   1. a store is made; CONFIG SET maxmemory-policy, appendfsync and appendonly are noticed, and fine when set right;
 *   2. FLUSHALL and a restart without data are losses, a restart with data is a doubt, and all end STRICT.
 */
#include "dedup/watch.h"
#include "tests/redis/redis_server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { TAGS = 1024, CHECK_MS = 200, RECENT_MS = 500 };

static struct redis_server *server;
static struct mr_redis_transport *transport;
static struct mr_redis *redis;
static struct mr_watch *watch;
static struct mr_epoch remembered;

static void open_watch(void) {
    static char texts[TAGS][24];
    static struct mr_bytes tags[TAGS];
    for (uint32_t t = 0; t < TAGS; t++) {
        (void)snprintf(texts[t], sizeof texts[t], "shop/orders/%u", t);
        tags[t] = mr_bytes_text(texts[t]);
    }
    struct mr_bytes address = mr_bytes_text(server->address);
    const struct mr_redis_tls plain = {.on = false};
    assert_int_equal(mr_hiredis_open(&plain, &transport, NULL), MR_OK);
    struct mr_redis_options client = {
        .transport = transport,
        .clock = mr_clock_system(),
        .addresses = &address,
        .address_count = 1,
        .timeout_ns = 2000000000,
        .retry_min_ns = 10000000,
        .retry_max_ns = 50000000,
        .bytes_max = 1 << 20,
        .seed = 1,
    };
    assert_int_equal(mr_redis_open(&client, &redis, NULL), MR_OK);
    struct mr_watch_options options = {
        .redis = redis,
        .clock = mr_clock_system(),
        .cluster = MR_BYTES("shop"),
        .node = MR_BYTES("node"),
        .shape = MR_BYTES("orders:bucket:1d"),
        .tags = tags,
        .tag_count = TAGS,
        .epoch = remembered,
        .recent_ms = RECENT_MS,
        .check_ms = CHECK_MS,
        .peers_ms = 600,
    };
    assert_int_equal(mr_watch_open(&options, &watch, NULL), MR_OK);
}

static void close_watch(void) {
    mr_watch_close(watch);
    mr_redis_close(redis);
    mr_redis_transport_finish(transport);
}

static void step(void) {
    bool any = mr_redis_step(redis);
    struct mr_redis_answer answer;
    while (mr_redis_next(redis, &answer)) {
        mr_watch_answer(watch, &answer);
        any = true;
    }
    any |= mr_watch_step(watch);
    mr_watch_check(watch);
    if (!any) {
        mr_redis_wait(redis, 5000000);
    }
}

/* Until the watch has been in `through` and is in `state`; asserts what it wants. Returns the first reason in `through`. */
static const char *until(enum mr_watch_state through, enum mr_watch_state state) {
    static char reason[512];
    bool was_there = false;
    int64_t start_ms = mr_clock_wall_ms(mr_clock_system());
    while (!was_there || mr_watch_state(watch) != state) {
        step();
        enum mr_watch_state now = mr_watch_state(watch);
        if (now == through && !was_there) {
            was_there = true;
            (void)snprintf(reason, sizeof reason, "%s", mr_watch_reason(watch));
        }
        if (now == MR_WATCH_LOST || now == MR_WATCH_SUSPECT) {
            mr_watch_asserted(watch);
        }
        if (mr_clock_wall_ms(mr_clock_system()) - start_ms > 20000) {
            print_error("state %d, awaited %d after %d: %s\n", (int)now, (int)state, (int)through,
                        mr_watch_reason(watch));
            fail();
        }
    }
    remembered = mr_watch_epoch(watch);
    return reason;
}

static void go_on(int64_t ms) {
    int64_t end_ms = mr_clock_wall_ms(mr_clock_system()) + ms;
    while (mr_clock_wall_ms(mr_clock_system()) < end_ms) {
        step();
    }
}

static struct mr_watch_stats stats_of(void) {
    struct mr_watch_stats stats;
    mr_watch_stats(watch, &stats);
    return stats;
}

static void settings(void) {
    static const struct {
        const char *wrong;
        const char *right;
        const char *text;
    } rows[] = {
        {"CONFIG SET maxmemory-policy allkeys-lru", "CONFIG SET maxmemory-policy noeviction",
         "maxmemory-policy is allkeys-lru"},
        {"CONFIG SET appendfsync everysec", "CONFIG SET appendfsync always",
         "appendfsync is everysec"},
        {"CONFIG SET appendonly no", "CONFIG SET appendonly yes", "appendonly is no"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        redis_server_must(server, rows[i].wrong);
        assert_non_null(strstr(until(MR_WATCH_NOT_STRICT, MR_WATCH_NOT_STRICT), rows[i].text));
        redis_server_must(server, rows[i].right);
        (void)until(MR_WATCH_STRICT, MR_WATCH_STRICT);
    }
    assert_int_equal(stats_of().not_strict, 3);
    assert_int_equal(stats_of().lost + stats_of().suspected, 0);
}

static void a_real_server(void **state) {
    (void)state;
    if (!redis_server_is_installed()) {
        print_message("skipped: redis-server or redis-cli is not installed\n");
        return;
    }
    static const char *const args[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    server = redis_server_start(args);
    open_watch();
    (void)until(MR_WATCH_STRICT, MR_WATCH_STRICT);
    struct mr_epoch first = remembered;
    settings();

    redis_server_must(server, "FLUSHALL");
    (void)until(MR_WATCH_LOST, MR_WATCH_STRICT);
    assert_int_equal(stats_of().lost, 1);
    assert_memory_not_equal(&first, &remembered, sizeof first);
    struct mr_epoch second = remembered;
    go_on(RECENT_MS +
          2 * CHECK_MS); /* or what was asserted just now would be in doubt, and all wanted again */

    redis_server_signal(server, SIGKILL);
    (void)until(MR_WATCH_AWAY, MR_WATCH_AWAY);
    redis_server_restart(server);
    (void)until(MR_WATCH_SUSPECT, MR_WATCH_STRICT);
    assert_int_equal(stats_of().suspected, 1);
    assert_memory_equal(&second, &remembered, sizeof second);

    char command[256];
    (void)snprintf(command, sizeof command, "rm -rf '%s/appendonlydir'", server->dir);
    redis_server_signal(server, SIGKILL);
    assert_int_equal(system(command), 0);
    redis_server_restart(server);
    (void)until(MR_WATCH_LOST, MR_WATCH_STRICT);
    assert_int_equal(stats_of().lost, 2);

    close_watch(); /* this node is started again: nothing happened meanwhile */
    open_watch();
    (void)until(MR_WATCH_STRICT, MR_WATCH_STRICT);
    assert_int_equal(stats_of().suspected + stats_of().lost, 0);
    close_watch();
    redis_server_stop(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_real_server)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
