/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the virtual Redis, which other tests believe, is right:
 *   1. random commands get the replies of a real redis-server;
 *   2. what is taken back in a failover is the last commands, whole: the data is as it was before them;
 *   3. keys expire, scripts are forgotten in a restart, SHA1 is SHA1;
 *   4. the same seed gives the same run.
 */
#include "net/redis.h"
#include "tests/redis/redis_server.h"
#include "tests/redis/virtual_redis.h"
#include "tests/redis/virtual_time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t below(uint64_t *random, uint64_t bound) {
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint64_t)(((__uint128_t)(z ^ z >> 31) * bound) >> 64);
}

/* ---- one connection, straight on the transport ---- */

static void run(struct mr_redis_connection *c, const struct mr_bytes *argv, uint32_t argc,
                struct mr_redis_reply *ret) {
    assert_int_equal(mr_redis_connection_send(c, argv, argc), MR_OK);
    do {
        enum mr_status status = mr_redis_connection_step(c, NULL);
        assert_true(status == MR_OK || status == MR_AGAIN);
        if (status == MR_AGAIN) {
            mr_redis_transport_wait(c->transport, 100000000);
        }
    } while (!mr_redis_connection_next(c, ret));
}

/* A line of words; the reply's words in a line, to compare. */
static void print(struct mr_buf *buf, const struct mr_redis_reply *reply) {
    switch (reply->type) {
    case MR_REDIS_NIL:
        mr_buf_append_text(buf, "nil ");
        break;
    case MR_REDIS_INTEGER:
        mr_buf_printf(buf, "%lld ", (long long)reply->integer);
        break;
    case MR_REDIS_FAILURE: { /* its first word says it */
        const uint8_t *space = memchr(reply->text.ptr, ' ', reply->text.len);
        size_t len = space == NULL ? reply->text.len : (size_t)(space - reply->text.ptr);
        mr_buf_printf(buf, "-%.*s ", (int)len, (const char *)reply->text.ptr);
        break;
    }
    case MR_REDIS_STATUS:
    case MR_REDIS_TEXT:
        mr_buf_printf(buf, "%c", reply->type == MR_REDIS_STATUS ? '+' : '\'');
        mr_buf_append_bytes(buf, reply->text);
        mr_buf_append_char(buf, ' ');
        break;
    case MR_REDIS_LIST:
        mr_buf_append_char(buf, '[');
        for (uint32_t i = 0; i < reply->count; i++) {
            print(buf, &reply->items[i]);
        }
        mr_buf_append_text(buf, "] ");
        break;
    }
}

static void do_line(struct mr_redis_connection *c, const char *line, struct mr_buf *ret) {
    char copy[256];
    char *rest = copy;
    struct mr_bytes argv[24];
    uint32_t argc = 0;
    struct mr_redis_reply reply;
    (void)snprintf(copy, sizeof copy, "%s", line);
    for (char *word; (word = strsep(&rest, " ")) != NULL;) {
        argv[argc++] = mr_bytes_text(word);
    }
    run(c, argv, argc, &reply);
    mr_buf_clear(ret);
    print(ret, &reply);
    mr_buf_append_char(ret, '\0');
}

static void assert_line(struct mr_redis_connection *c, const char *line, const char *meant) {
    struct mr_buf got;
    mr_buf_init(&got, 1 << 16);
    do_line(c, line, &got);
    assert_string_equal((const char *)got.ptr, meant);
    mr_buf_finish(&got);
}

static struct mr_redis_connection *connect_to(struct mr_redis_transport *t, const char *address) {
    char host[MR_REDIS_ADDRESS_MAX];
    uint16_t port;
    struct mr_redis_connection *c;
    assert_int_equal(mr_redis_address_parse(mr_bytes_text(address), host, &port, NULL), MR_OK);
    assert_int_equal(mr_redis_transport_open(t, host, port, &c, NULL), MR_OK);
    return c;
}

struct world {
    struct virtual_time time;
    struct virtual_redis *v;
    struct mr_redis_connection *c;
};

static void set_up(struct world *w, uint64_t seed) {
    virtual_time_init(&w->time);
    w->v = virtual_redis_open(&(struct virtual_redis_options){
        .seed = seed, .clock = &w->time.clock, .pass = virtual_time_pass, .pass_ctx = &w->time});
    w->c = connect_to(virtual_redis_transport(w->v), virtual_redis_address(w->v, 0));
}

static void reconnect(struct world *w) {
    mr_redis_connection_close(w->c);
    w->c = connect_to(virtual_redis_transport(w->v), virtual_redis_address(w->v, 0));
}

static void tear_down(struct world *w) {
    mr_redis_connection_close(w->c);
    virtual_redis_close(w->v);
}

/* ---- commands ---- */

/* %k: a key, %f: a field, %v: a value, %t: a time. A hash has one field at most where its order would show. */
static const char *const templates[] = {
    "SET %k %v", "SET %k %v NX", "SET %k %v XX", "SET %k %v GET", "SET %k %v NX GET", "SET %k %v XX GET",
    "SET %k %v PX %t", "SET %k %v NX GET PX %t", "SET %k %v EX %t", "SET %k %v KEEPTTL", "SET %k %v NX XX",
    "SET %k %v PX 0", "SET %k %v PX x", "SET %k %v BAD", "SET %k %v PX", "SET %k %v PX 5000 EX 5", "SET %k",
    "GET %k", "GET", "DEL %k", "DEL %k %k", "UNLINK %k %k %k", "EXISTS %k", "EXISTS %k %k %k", "TYPE %k",
    "PEXPIRE %k %t", "PEXPIRE %k -1", "PEXPIRE %k x", "PTTL nobody", "HSET %k %f %v", "HSET %k %f %v %f %v",
    "HSET %k %f", "HSET %k %f %v %f", "HSETNX %k %f %v", "HGET %k %f", "HMGET %k %f %f", "HMGET %k", "HGETALL only",
    "HSET only f %v", "HDEL only f", "HDEL %k %f", "HDEL %k %f %f", "HLEN %k", "HEXISTS %k %f", "DBSIZE", "PING",
    "PING %v", "NONSENSE %k", "SELECT 0", "SELECT 99", "CONFIG GET maxmemory-policy",
    "CONFIG SET maxmemory-policy allkeys-lru", "CONFIG SET maxmemory-policy noeviction", "CONFIG SET nonsense 1",
    "CONFIG GET nonsense", "CLIENT SETNAME %v", "CLUSTER SLOTS", "EVALSHA 0123456789012345678901234567890123456789 0",
    "EVALSHA x 1", "SCRIPT EXISTS 0123456789012345678901234567890123456789", "WAIT 0 0", "AUTH x", "AUTH a x",
};

/* unique: values and times are different ones each time; NULL: seldom. */
static void make_line(uint64_t *random, const char *t, unsigned *unique, char ret[256]) {
    size_t len = 0;
    for (; *t != '\0'; t++) {
        if (*t != '%') {
            ret[len++] = *t;
            continue;
        }
        char kind = *++t;
        bool names = kind == 'k' || kind == 'f';
        unsigned number = names || unique == NULL ? (unsigned)below(random, kind == 'k' ? 6 : 3) : ++*unique;
        if (kind == 't') {
            len += (size_t)snprintf(ret + len, 256 - len, "%u", number + 100000); /* far off */
        } else {
            len += (size_t)snprintf(ret + len, 256 - len, "%c%u", kind, number);
        }
    }
    ret[len] = '\0';
}

static void make_any_line(uint64_t *random, char ret[256]) {
    make_line(random, templates[below(random, sizeof templates / sizeof templates[0])], NULL, ret);
}

static void replies_are_those_of_a_real_server(void **state) {
    (void)state;
    enum { COMMANDS = 4000 };
    if (!redis_server_is_installed()) {
        print_message("skipped: redis-server or redis-cli is not installed\n");
        return;
    }
    struct redis_server *server = redis_server_start(NULL);
    struct mr_redis_transport *transport;
    assert_int_equal(mr_hiredis_open(&(struct mr_redis_tls){0}, &transport, NULL), MR_OK);
    struct mr_redis_connection *real = connect_to(transport, server->address);
    struct world w;
    struct mr_buf got;
    struct mr_buf meant;
    mr_buf_init(&got, 1 << 16);
    mr_buf_init(&meant, 1 << 16);
    set_up(&w, 1);
    uint64_t random = 1;
    for (int i = 0; i < COMMANDS; i++) {
        char line[256];
        make_any_line(&random, line);
        do_line(real, line, &meant);
        do_line(w.c, line, &got);
        if (strcmp((const char *)got.ptr, (const char *)meant.ptr) != 0) {
            fail_msg("%s: %s, a real server says %s", line, (const char *)got.ptr, (const char *)meant.ptr);
        }
    }
    const struct mr_bytes info[] = {MR_BYTES("INFO")};
    static const char *const fields[] = {"redis_version:", "run_id:", "role:master", "connected_slaves:0",
                                         "master_replid:", "master_failover_state:no-failover", "evicted_keys:0",
                                         "maxmemory_policy:", "aof_enabled:", "loading:0", "used_memory:"};
    for (int which = 0; which < 2; which++) { /* what ours says a real one says too */
        struct mr_redis_reply reply;
        run(which == 0 ? real : w.c, info, 1, &reply);
        mr_buf_clear(&got);
        print(&got, &reply);
        mr_buf_append_char(&got, '\0');
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
            assert_non_null(strstr((const char *)got.ptr, fields[i]));
        }
    }
    mr_buf_finish(&got);
    mr_buf_finish(&meant);
    tear_down(&w);
    mr_redis_connection_close(real);
    mr_redis_transport_finish(transport);
    redis_server_stop(server);
}

/* ---- the way back ---- */

/* All that can be seen of the keys. */
static void snapshot(struct world *w, struct mr_buf *ret) {
    struct mr_buf part;
    mr_buf_init(&part, 1 << 16);
    mr_buf_clear(ret);
    for (int key = 0; key < 6; key++) {
        static const char *const looks[] = {"GET k%d", "TYPE k%d", "PTTL k%d", "HMGET k%d f0 f1 f2", "HLEN k%d"};
        for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++) {
            char line[64];
            (void)snprintf(line, sizeof line, looks[i], key);
            do_line(w->c, line, &part);
            mr_buf_append(ret, part.ptr, part.len - 1);
        }
    }
    do_line(w->c, "DBSIZE", &part);
    mr_buf_append(ret, part.ptr, part.len);
    mr_buf_finish(&part);
}

/* One random write; whether it changed anything. *after is the snapshot after it. */
static bool write_something(struct world *w, uint64_t *random, unsigned *unique, const struct mr_buf *before,
                            struct mr_buf *after) {
    static const char *const writes[] = {
        "SET %k %v", "DEL %k", "SET %k %v PX %t", "PEXPIRE %k %t", "HSET %k %f %v %f %v", "HDEL %k %f %f",
        "DEL %k",    "FLUSHALL", "HSET %k %f %v", "HSET %k %f %v",
    };
    char line[256];
    make_line(random, writes[below(random, sizeof writes / sizeof writes[0])], unique, line);
    do_line(w->c, line, after);
    snapshot(w, after);
    return !mr_bytes_equal(mr_buf_bytes(before), mr_buf_bytes(after));
}

static void a_failover_loses_the_last_writes(void **state) {
    (void)state;
    enum { SEEDS = 30, WRITES = 60 };
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        uint64_t random = seed;
        unsigned unique = 0;
        struct world w;
        struct mr_buf shots[WRITES + 1]; /* after each write that changed something */
        struct mr_buf after;
        uint32_t last = 0;
        set_up(&w, seed);
        mr_buf_init(&after, 1 << 20);
        for (int i = 0; i <= WRITES; i++) {
            mr_buf_init(&shots[i], 1 << 20);
        }
        snapshot(&w, &shots[0]);
        for (int i = 0; i < WRITES; i++) {
            last += write_something(&w, &random, &unique, &shots[last], &shots[last + 1]);
        }
        assert_true(last > WRITES / 6);
        while (last > 0) { /* back, a few at a time */
            uint32_t lost = 1 + (uint32_t)below(&random, last);
            virtual_redis_fail_over(w.v, 0, lost);
            reconnect(&w);
            snapshot(&w, &after);
            last -= lost;
            assert_string_equal((const char *)after.ptr, (const char *)shots[last].ptr);
        }
        for (int i = 0; i <= WRITES; i++) {
            mr_buf_finish(&shots[i]);
        }
        mr_buf_finish(&after);
        tear_down(&w);
    }
}

/* ---- the rest ---- */

static void answer_key(void *ctx, struct virtual_redis_call *call, struct mr_redis_reply *ret) {
    struct mr_bytes value;
    assert_non_null(ctx);
    assert_true(call->key_count == 1 && call->arg_count == 1);
    virtual_redis_hset(call, call->keys[0], MR_BYTES("f"), call->args[0]);
    assert_true(virtual_redis_hget(call, call->keys[0], MR_BYTES("f"), &value));
    struct mr_redis_reply *items = virtual_redis_reply_list(call, ret, 3);
    virtual_redis_reply_text(call, &items[0], MR_REDIS_TEXT, value);
    items[1] = (struct mr_redis_reply){.type = MR_REDIS_INTEGER, .integer = 7};
}

static void scripts_and_time(void **state) {
    (void)state;
    struct world w;
    char sha[41];
    char line[128];
    set_up(&w, 1);
    virtual_redis_sha1(MR_BYTES("abc"), sha);
    assert_string_equal(sha, "a9993e364706816aba3e25717850c26c9cd0d89d"); /* FIPS 180-4 */
    virtual_redis_sha1(MR_BYTES("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), sha);
    assert_string_equal(sha, "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    virtual_redis_script(w.v, "answer", answer_key, &w);
    virtual_redis_sha1(MR_BYTES("answer-me"), sha);
    (void)snprintf(line, sizeof line, "EVALSHA %s 1 k v", sha);
    assert_line(w.c, line, "-NOSCRIPT ");
    assert_line(w.c, "EVAL answer-me 1 k v", "['v 7 nil ] ");
    assert_line(w.c, line, "['v 7 nil ] ");
    assert_line(w.c, "HGET k f", "'v ");
    assert_line(w.c, "EVAL nobody 0", "-ERR ");
    virtual_redis_down(w.v, 0);
    virtual_redis_up(w.v, 0, VIRTUAL_REDIS_KEPT);
    reconnect(&w);
    assert_line(w.c, line, "-NOSCRIPT ");
    (void)snprintf(line, sizeof line, "'%s ", sha);
    assert_line(w.c, "SCRIPT LOAD answer-me", line);
    assert_line(w.c, "HGET k f", "'v ");
    assert_line(w.c, "PEXPIRE k 1000", "1 ");
    w.time.ns += 999000000;
    assert_line(w.c, "PTTL k", "1 ");
    w.time.ns += 1000000;
    assert_line(w.c, "PTTL k", "-2 ");
    assert_line(w.c, "HGETALL k", "[] ");
    virtual_redis_down(w.v, 0);
    virtual_redis_up(w.v, 0, VIRTUAL_REDIS_EMPTY);
    reconnect(&w);
    assert_line(w.c, "DBSIZE", "0 ");
    tear_down(&w);
}

static uint64_t hash_of(uint64_t seed) {
    struct world w;
    struct mr_buf buf;
    uint64_t random = seed;
    mr_buf_init(&buf, 1 << 16);
    set_up(&w, seed);
    for (int i = 0; i < 200; i++) {
        char line[256];
        make_any_line(&random, line);
        do_line(w.c, line, &buf);
        if (i % 20 == 0) {
            virtual_redis_evict(w.v, 0, 1);
        }
    }
    uint64_t hash = virtual_redis_hash(w.v);
    mr_buf_finish(&buf);
    tear_down(&w);
    return hash;
}

static void the_same_seed_is_the_same_run(void **state) {
    (void)state;
    assert_true(hash_of(1) == hash_of(1));
    assert_true(hash_of(1) != hash_of(2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_are_those_of_a_real_server),
        cmocka_unit_test(a_failover_loses_the_last_writes),
        cmocka_unit_test(scripts_and_time),
        cmocka_unit_test(the_same_seed_is_the_same_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
