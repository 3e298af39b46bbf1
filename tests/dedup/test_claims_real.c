/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves against the real redis-server (skipped where there is none):
 *   1. the script and its model in tests/redis/claims_script.c give the same replies and leave the same hashes, over random
 *      calls: canary there, missing, another; assertions; one id to 2,048; its SHA-1; it is a table at once, with a TTL;
 *   2. claims of two nodes in both layouts, one server and a cluster of three: one record counts each id; SCRIPT FLUSH,
 *      and a time without memory, under way; keys have the TTLs that they should.
 */
#include "base/alloc.h"
#include "dedup/claims.h"
#include "dedup/claims_script.h"
#include "tests/dedup/support.h"
#include "tests/redis/claims_script.h"
#include "tests/redis/virtual_time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/redis/redis_server.h"

#define PATIENCE_NS UINT64_C(30000000000)

/* ---- one command ---- */

struct line { /* to the real server, or to the model */
    struct mr_redis_transport *transport;
    struct mr_redis_connection *connection;
    struct virtual_time *time; /* NULL: the real one */
};

static void open_line(struct line *line, struct mr_redis_transport *transport, const char *address,
                      struct virtual_time *time) {
    char host[MR_REDIS_ADDRESS_MAX];
    uint16_t port;
    struct mr_error error;
    *line = (struct line){.transport = transport, .time = time};
    assert_int_equal(mr_redis_address_parse(mr_bytes_text(address), host, &port, &error), MR_OK);
    assert_int_equal(mr_redis_transport_open(transport, host, port, &line->connection, &error),
                     MR_OK);
}

/* Valid until the next one. */
static struct mr_redis_reply call(struct line *line, const struct mr_bytes *argv, uint32_t argc) {
    struct mr_redis_reply reply;
    struct mr_error error = {.text = ""};
    assert_int_equal(mr_redis_connection_send(line->connection, argv, argc), MR_OK);
    for (uint32_t i = 0; !mr_redis_connection_next(line->connection, &reply); i++) {
        enum mr_status status = mr_redis_connection_step(line->connection, &error);
        assert_true(i < 10000 && (status == MR_OK || status == MR_AGAIN));
        if (line->time != NULL) {
            line->time->ns += 1000;
        } else {
            mr_redis_transport_wait(line->transport, 1000000);
        }
    }
    return reply;
}

static struct mr_redis_reply say(struct line *line, const char *a, const char *b, const char *c) {
    const struct mr_bytes argv[] = {mr_bytes_text(a), mr_bytes_text(b == NULL ? "" : b),
                                    mr_bytes_text(c == NULL ? "" : c)};
    return call(line, argv, c != NULL ? 3 : b != NULL ? 2 : 1);
}

/* ---- 1 ---- */

static const char EPOCH[] = "sixteen bytes ..";

enum { POOL = 3000, HASHES = 3 };

static struct mr_redis_reply run_script(struct line *line, const char *canary, const char *hash,
                                        const char *beside, struct mr_bytes epoch,
                                        const uint32_t *numbers, uint32_t count, uint64_t token) {
    static uint8_t ids[2100 * 16];
    static uint8_t claims[2100 * 29];
    uint8_t *at = ids;
    uint8_t *pair = claims;
    for (uint32_t i = 0; i < count; i++) {
        struct rng rng = {numbers[i]};
        uint64_t words[2] = {rng_next(&rng), rng_next(&rng)};
        at[0] = 0xaf;
        memcpy(at + 1, words, 15);
        memcpy(pair, at, 16);
        pair[16] = 0xac;
        memset(pair + 17, 't', 4);
        memcpy(pair + 21, &token, 8);
        at += 16;
        pair += 29;
    }
    *at++ = 0xa0 + sizeof MR_CLAIMS_ABOUT - 1;
    memcpy(at, MR_CLAIMS_ABOUT, sizeof MR_CLAIMS_ABOUT - 1);
    at += sizeof MR_CLAIMS_ABOUT - 1;
    char sha[MR_CLAIMS_SHA_LEN + 1];
    mr_claims_script_sha(sha);
    const struct mr_bytes argv[] = {
        MR_BYTES("EVALSHA"),
        mr_bytes_text(sha),
        MR_BYTES("3"),
        mr_bytes_text(canary),
        mr_bytes_text(hash),
        mr_bytes_text(beside),
        epoch,
        MR_BYTES("5000000"),
        mr_bytes_of(ids, (size_t)(at - ids)),
        mr_bytes_of(claims, (size_t)(pair - claims)),
    };
    return call(line, argv, sizeof argv / sizeof argv[0]);
}

static void expect_equal(const struct mr_redis_reply *a, const struct mr_redis_reply *b) {
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->integer, b->integer);
    assert_int_equal(a->text.len, b->text.len);
    assert_true(a->text.len == 0 || memcmp(a->text.ptr, b->text.ptr, a->text.len) == 0);
}

static void set_canary(struct line *lines, struct rng *rng) {
    uint64_t draw = rng_below(rng, 12);
    for (uint32_t l = 0; l < 2; l++) {
        if (draw == 0) {
            (void)say(&lines[l], "DEL", "c:{a}", NULL);
        } else if (draw == 1) {
            (void)say(&lines[l], "SET", "c:{a}", "another ........");
        } else {
            (void)say(&lines[l], "SET", "c:{a}", EPOCH);
        }
    }
}

static void call_both(struct line *lines, struct rng *rng, uint64_t token) {
    static uint32_t numbers[2048];
    char hash[16];
    char beside[16];
    uint32_t count = rng_below(rng, 20) == 0 ? 2048 : 1 + (uint32_t)rng_below(rng, 40);
    uint32_t from = (uint32_t)rng_below(rng, POOL);
    uint64_t h = rng_below(rng, HASHES);
    for (uint32_t i = 0; i < count; i++) {
        numbers[i] = (from + i) % POOL; /* each once */
    }
    (void)snprintf(hash, sizeof hash, "b:{a}:%u", (unsigned)h);
    (void)snprintf(beside, sizeof beside, "b:{a}:%u",
                   (unsigned)((h + 1 + rng_below(rng, 2)) % (HASHES + 1)));
    bool again = rng_below(rng, 6) == 0;
    struct mr_redis_reply replies[2];
    for (uint32_t l = 0; l < 2; l++) {
        replies[l] = run_script(&lines[l], "c:{a}", hash, beside,
                                mr_bytes_of(EPOCH, again ? 0 : 16), numbers, count, token);
    }
    expect_equal(&replies[0], &replies[1]);
    struct mr_redis_reply real = say(&lines[0], "HLEN", hash, NULL);
    struct mr_redis_reply model = say(&lines[1], "HLEN", hash, NULL);
    expect_equal(&real, &model);
    if (real.integer > 0) {
        struct mr_redis_reply encoding = say(&lines[0], "OBJECT", "ENCODING", hash);
        assert_true(mr_bytes_equal(encoding.text, MR_BYTES("hashtable")));
        assert_in_range(say(&lines[0], "PTTL", hash, NULL).integer, 4900000, 5000000);
        assert_in_range(say(&lines[1], "PTTL", hash, NULL).integer, 4900000, 5000000);
    }
}

static void script_is_as_its_model(void **state) {
    (void)state;
    if (!redis_server_is_installed()) {
        print_message("skipped: no redis-server\n");
        return;
    }
    struct redis_server *server = redis_server_start(NULL);
    struct virtual_time time;
    virtual_time_init(&time);
    struct virtual_redis_options options = {.seed = 3, .clock = &time.clock};
    struct virtual_redis *v = virtual_redis_open(&options);
    claims_script_register(v);
    struct mr_redis_transport *network;
    struct mr_error error;
    const struct mr_redis_tls tls = {.on = false};
    assert_int_equal(mr_hiredis_open(&tls, &network, &error), MR_OK);
    struct line lines[2];
    open_line(&lines[0], network, server->address, NULL);
    open_line(&lines[1], virtual_redis_transport(v), virtual_redis_address(v, 0), &time);
    char sha[MR_CLAIMS_SHA_LEN + 1];
    mr_claims_script_sha(sha);
    for (uint32_t l = 0; l < 2; l++) {
        const struct mr_bytes load[] = {MR_BYTES("SCRIPT"), MR_BYTES("LOAD"),
                                        mr_claims_script_text()};
        uint32_t one = 1;
        struct mr_redis_reply reply =
            run_script(&lines[l], "c", "b", "b2", MR_BYTES(""), &one, 1, 1);
        assert_int_equal(reply.type, MR_REDIS_FAILURE);
        assert_memory_equal(reply.text.ptr, "NOSCRIPT", 8);
        reply = call(&lines[l], load, 3);
        assert_true(mr_bytes_equal(reply.text, mr_bytes_text(sha)));
    }
    struct rng rng = {11};
    for (uint32_t i = 0; i < 600; i++) {
        set_canary(lines, &rng);
        call_both(lines, &rng, i);
        if (rng_below(&rng, 100) == 0) {
            (void)say(&lines[0], "DEL", "b:{a}:1", NULL);
            (void)say(&lines[1], "DEL", "b:{a}:1", NULL);
        }
    }
    mr_redis_connection_close(lines[0].connection);
    mr_redis_connection_close(lines[1].connection);
    mr_redis_transport_finish(network);
    virtual_redis_close(v);
    redis_server_stop(server);
}

/* ---- 2 ---- */

#define HORIZON_MS INT64_C(3600000)

enum { NODES = 2, STREAMS = 2, RECORDS = 60, IDS = 50, IDS_POOL = 1500 };

struct record {
    struct mr_claim claim;
    struct mr_fingerprint ids[IDS];
    uint32_t numbers[IDS];
    uint8_t outcomes[IDS];
};

struct cluster_test {
    struct mr_redis_transport *network;
    const char *addresses[3];
    uint32_t address_count;
    struct mr_claims *claims[NODES];
    struct record records[NODES][RECORDS];
    uint32_t done[NODES];
};

static uint32_t order[IDS];

static void open_node(struct cluster_test *t, uint32_t node) {
    struct mr_bytes addresses[3];
    for (uint32_t i = 0; i < t->address_count; i++) {
        addresses[i] = mr_bytes_text(t->addresses[i]);
    }
    const struct mr_claims_stream streams[STREAMS] = {
        {MR_BYTES("orders"), MR_CLAIM_BUCKET, HORIZON_MS},
        {MR_BYTES("clicks"), MR_CLAIM_KEY, HORIZON_MS}};
    struct mr_claims_options options = {
        .transport = t->network,
        .clock = mr_clock_system(),
        .streams = streams,
        .stream_count = STREAMS,
        .cluster = MR_BYTES("shop"),
        .node = node == 0 ? MR_BYTES("a") : MR_BYTES("b"),
        .incarnation = 1,
        .addresses = addresses,
        .address_count = t->address_count,
        .cluster_mode = t->address_count > 1,
        .timeout_ns = 5000000000,
        .recent_ms = 60000,
        .bytes_max = 16 << 20,
        .seed = node + 1,
    };
    struct mr_error error;
    assert_int_equal(mr_claims_open(&options, &t->claims[node], &error), MR_OK);
}

static void make_records(struct cluster_test *t, struct rng *rng) {
    for (uint32_t n = 0; n < NODES; n++) {
        for (uint32_t i = 0; i < RECORDS; i++) {
            struct record *r = &t->records[n][i];
            uint32_t stream = (uint32_t)rng_below(rng, STREAMS);
            for (uint32_t k = 0; k < IDS; k++) {
                r->numbers[k] = (uint32_t)rng_below(rng, IDS_POOL);
                r->ids[order[k]] = fp_of(stream * 100000 + r->numbers[k], FP_RANDOM);
            }
            r->claim = (struct mr_claim){.stream = stream,
                                         .recorded_ms = 5 * HORIZON_MS + i * 1000,
                                         .lsn = i + 1,
                                         .ids = r->ids,
                                         .order = order,
                                         .count = IDS,
                                         .outcomes = r->outcomes};
        }
    }
}

static void step_nodes(struct cluster_test *t) {
    for (uint32_t n = 0; n < NODES; n++) {
        (void)mr_claims_step(t->claims[n]);
        for (struct mr_claim *claim; (claim = mr_claims_next(t->claims[n])) != NULL;) {
            assert_ptr_equal(claim, &t->records[n][t->done[n]].claim);
            t->done[n]++;
        }
    }
    mr_claims_wait(t->claims[0], 1000000);
}

static void until_strict(struct cluster_test *t) {
    uint64_t start_ns = mr_clock_mono_ns(mr_clock_system());
    for (uint32_t strict = 0; strict < NODES;) {
        step_nodes(t);
        strict = 0;
        for (uint32_t n = 0; n < NODES; n++) {
            struct mr_watch *watch = mr_claims_watch(t->claims[n]);
            strict += mr_watch_state(watch) == MR_WATCH_STRICT;
            if (mr_clock_mono_ns(mr_clock_system()) - start_ns > PATIENCE_NS) {
                fail_msg("node %u: %s", n, mr_watch_reason(watch));
            }
        }
    }
}

static void check_counts(const struct cluster_test *t) {
    static uint8_t counted[STREAMS][IDS_POOL];
    static uint8_t seen[STREAMS][IDS_POOL];
    memset(counted, 0, sizeof counted);
    memset(seen, 0, sizeof seen);
    for (uint32_t n = 0; n < NODES; n++) {
        for (uint32_t i = 0; i < RECORDS; i++) {
            const struct record *r = &t->records[n][i];
            for (uint32_t k = 0; k < IDS; k++) {
                seen[r->claim.stream][r->numbers[k]] = 1;
                if (r->outcomes[k] != MR_CLAIM_TAKEN) {
                    counted[r->claim.stream][r->numbers[k]]++;
                }
            }
        }
    }
    assert_memory_equal(counted, seen, sizeof seen);
}

/* disturb is called in the middle. */
static void claim_all(struct cluster_test *t, void (*disturb)(void *), void *ctx) {
    struct rng rng = {7};
    struct mr_error error;
    const struct mr_redis_tls tls = {.on = false};
    for (uint32_t k = 0; k < IDS; k++) {
        order[k] = IDS - 1 - k;
    }
    assert_int_equal(mr_hiredis_open(&tls, &t->network, &error), MR_OK);
    make_records(t, &rng);
    for (uint32_t n = 0; n < NODES; n++) {
        open_node(t, n);
    }
    until_strict(t);
    uint64_t start_ns = mr_clock_mono_ns(mr_clock_system());
    for (uint32_t put = 0; t->done[0] < RECORDS || t->done[1] < RECORDS;) {
        for (uint32_t end = put + 5; put < RECORDS && put < end; put++) {
            assert_true(mr_claims_put(t->claims[0], &t->records[0][put].claim));
            assert_true(mr_claims_put(t->claims[1], &t->records[1][put].claim));
            if (put == RECORDS / 2) {
                disturb(ctx);
            }
        }
        step_nodes(t);
        if (mr_clock_mono_ns(mr_clock_system()) - start_ns > PATIENCE_NS) {
            fail_msg("%u and %u of %u: %s", t->done[0], t->done[1], (unsigned)RECORDS,
                     mr_watch_reason(mr_claims_watch(t->claims[0])));
        }
    }
    check_counts(t);
    for (uint32_t n = 0; n < NODES; n++) {
        mr_claims_close(t->claims[n]);
    }
    mr_redis_transport_finish(t->network);
}

/* Of all keys of a pattern. */
static void expect_ttls(const struct redis_server *server, const char *pattern, int64_t ttl_ms) {
    char line[512];
    char reply[256];
    long long least = 0;
    long long most = 0;
    (void)snprintf(line, sizeof line,
                   "EVAL \"local least, most for _, k in ipairs(redis.call('KEYS', ARGV[1])) do "
                   "local ttl = redis.call('PTTL', k) least = math.min(least or ttl, ttl) "
                   "most = math.max(most or ttl, ttl) end return least .. ' ' .. most\" 0 %s",
                   pattern);
    assert_true(redis_server_ask(server, line, reply, sizeof reply));
    assert_int_equal(sscanf(strchr(reply, '\n') + 1, "%lld %lld", &least, &most), 2);
    assert_true(least > ttl_ms - 60000 && most <= ttl_ms);
}

struct disturbance {
    struct redis_server *server;
    struct cluster_test *test;
};

/* Scripts are gone and there is no memory for 300 ms: nothing is decided, and then all is. */
static void starve(void *ctx) {
    struct disturbance *d = ctx;
    redis_server_must(d->server, "SCRIPT FLUSH");
    redis_server_must(d->server, "CONFIG SET maxmemory 1mb"); /* less than it uses: OOM */
    uint64_t start_ns = mr_clock_mono_ns(mr_clock_system());
    while (mr_clock_mono_ns(mr_clock_system()) - start_ns < 300000000) {
        step_nodes(d->test);
    }
    assert_true(mr_claims_busy(d->test->claims[0]) && mr_claims_busy(d->test->claims[1]));
    redis_server_must(d->server, "CONFIG SET maxmemory 0");
}

static void one_server(void **state) {
    (void)state;
    if (!redis_server_is_installed()) {
        print_message("skipped: no redis-server\n");
        return;
    }
    static const char *const args[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};
    struct redis_server *server = redis_server_start(args);
    struct cluster_test *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->addresses[0] = server->address;
    t->address_count = 1;
    struct disturbance d = {server, t};
    claim_all(t, starve, &d);
    expect_ttls(server, "b:*", HORIZON_MS * 7 / 2);
    expect_ttls(server, "d:*", HORIZON_MS * 2);
    free(t);
    redis_server_stop(server);
}

static void do_nothing(void *ctx) {
    (void)ctx;
}

static void three_servers(void **state) {
    (void)state;
    if (!redis_server_is_installed()) {
        print_message("skipped: no redis-server\n");
        return;
    }
    struct redis_cluster *cluster = redis_cluster_start(3, 0);
    for (uint32_t i = 0; i < 3; i++) {
        redis_server_must(cluster->servers[i], "CONFIG SET appendonly yes");
        redis_server_must(cluster->servers[i], "CONFIG SET appendfsync always");
    }
    struct cluster_test *t = calloc(1, sizeof *t);
    assert_non_null(t);
    for (uint32_t i = 0; i < 3; i++) {
        t->addresses[i] = cluster->servers[i]->address;
    }
    t->address_count = 3;
    claim_all(t, do_nothing, NULL);
    free(t);
    redis_cluster_stop(cluster);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(script_is_as_its_model),
        cmocka_unit_test(one_server),
        cmocka_unit_test(three_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
