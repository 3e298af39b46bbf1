/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/dedup/claims_world.h"

#include "tests/dedup/support.h"

#include <stdio.h>
#include <stdlib.h>

#define CLUSTER "shop"

static const char *const stream_names[CLAIMS_STREAMS] = {"orders", "clicks"};

static void *need(void *ptr) {
    assert_non_null(ptr);
    return ptr;
}

uint64_t claims_below(struct claims_world *world, uint64_t bound) {
    struct rng rng = {world->random};
    uint64_t result = rng_below(&rng, bound);
    world->random = rng.state;
    return result;
}

struct mr_fingerprint claims_fp(uint32_t stream, uint32_t number) {
    return fp_of(stream * UINT64_C(1000000007) + number, FP_RANDOM);
}

/* ---- nodes ---- */

enum mr_status claims_try_start(struct claims_world *world, uint32_t number) {
    struct claims_node *node = &world->nodes[number];
    struct mr_bytes addresses[CLAIMS_SERVERS_MAX];
    uint32_t count = world->options.masters == 0 ? 1 : virtual_redis_servers(world->v);
    for (uint32_t i = 0; i < count; i++) {
        addresses[i] = mr_bytes_text(virtual_redis_address(world->v, i));
    }
    const struct mr_claims_stream streams[CLAIMS_STREAMS] = {
        {mr_bytes_text(stream_names[0]), MR_CLAIM_BUCKET, CLAIMS_HORIZON_MS},
        {mr_bytes_text(stream_names[1]), MR_CLAIM_KEY, CLAIMS_HORIZON_MS},
    };
    struct mr_claims_options options = {
        .transport = virtual_redis_transport(world->v),
        .clock = &world->time.clock,
        .streams = streams,
        .stream_count = world->options.only_buckets ? 1 : CLAIMS_STREAMS,
        .cluster = MR_BYTES(CLUSTER),
        .node = mr_bytes_text(node->name),
        .incarnation = world->options.incarnation,
        .key_hash = 99,
        .epoch = node->epoch,
        .assume_strict = world->options.assume_strict,
        .addresses = addresses,
        .address_count = count,
        .cluster_mode = world->options.masters != 0,
        .timeout_ns = 500000000,
        .recent_ms = 60000,
        .bytes_max = world->options.bytes_max != 0 ? world->options.bytes_max : 1 << 20,
        .seed = world->options.seed * 1000 + number * 100 + node->lives + 1,
    };
    struct mr_error error;
    enum mr_status status = mr_claims_open(&options, &node->claims, &error);
    node->lives += status == MR_OK;
    return status;
}

void claims_start(struct claims_world *world, uint32_t number) {
    assert_null(world->nodes[number].claims);
    assert_int_equal(claims_try_start(world, number), MR_OK);
}

void claims_crash(struct claims_world *world, uint32_t number) {
    struct claims_node *node = &world->nodes[number];
    mr_claims_close(node->claims);
    node->claims = NULL;
    node->need = 0;
    node->asserting = 0;
    node->stale = 0;
    node->next_put = node->next_decided;
    for (uint32_t i = 0; i < node->count; i++) {
        node->records[i].put = false;
        node->records[i].asserting = false;
    }
}

struct claims_world *claims_open(const struct claims_options *options) {
    struct claims_world *world = need(calloc(1, sizeof *world));
    world->options = *options;
    world->random = options->seed * 77 + 1;
    virtual_time_init(&world->time);
    struct virtual_redis_options redis = {
        .seed = options->seed,
        .clock = &world->time.clock,
        .servers = options->masters == 0 ? 1 : options->masters + 2,
        .masters = options->masters,
    };
    world->v = virtual_redis_open(&redis);
    claims_script_register(world->v);
    world->node_count = options->nodes;
    for (uint32_t n = 0; n < options->nodes; n++) {
        struct claims_node *node = &world->nodes[n];
        (void)snprintf(node->name, sizeof node->name, "node%u", n);
        /* Around the end of a generation; records add half a horizon at most. */
        node->recorded_ms = 470000 * CLAIMS_HORIZON_MS +
                            (int64_t)claims_below(world, CLAIMS_HORIZON_MS / 2) -
                            CLAIMS_HORIZON_MS / 4;
        claims_start(world, n);
    }
    return world;
}

void claims_close(struct claims_world *world) {
    for (uint32_t n = 0; n < world->node_count; n++) {
        struct claims_node *node = &world->nodes[n];
        mr_claims_close(node->claims);
        for (uint32_t i = 0; i < node->count; i++) {
            struct claims_record *r = &node->records[i];
            free(r->ids);
            free(r->numbers);
            free(r->order);
            free(r->won);
            free(r->outcomes);
            free(r->kept);
        }
    }
    virtual_redis_close(world->v);
    free(world);
}

/* ---- records ---- */

struct claims_record *claims_record(struct claims_world *world, uint32_t number, uint32_t stream,
                                    const uint32_t *numbers, uint32_t count) {
    struct claims_node *node = &world->nodes[number];
    assert_true(node->count < CLAIMS_RECORDS_MAX && count <= CLAIMS_IDS_MAX);
    struct claims_record *r = &node->records[node->count++];
    size_t room = count + 1;
    *r = (struct claims_record){
        .ids = need(calloc(room, sizeof *r->ids)),
        .numbers = need(calloc(room, sizeof *r->numbers)),
        .order = need(calloc(room, sizeof *r->order)),
        .won = need(calloc(room, sizeof *r->won)),
        .outcomes = need(calloc(room, 1)),
        .kept = need(calloc(room, 1)),
    };
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = count - 1 - i;
        r->numbers[i] = numbers[i];
        r->order[i] = at;
        r->ids[at] = claims_fp(stream, numbers[i]);
    }
    node->recorded_ms += (int64_t)claims_below(world, CLAIMS_HORIZON_MS / 2 / CLAIMS_RECORDS_MAX);
    r->claim = (struct mr_claim){
        .stream = stream,
        .recorded_ms = node->recorded_ms,
        .lsn = ++world->lsn,
        .ids = r->ids,
        .order = r->order,
        .count = count,
        .outcomes = r->outcomes,
        .ctx = r,
    };
    return r;
}

struct claims_record *claims_random_record(struct claims_world *world, uint32_t node) {
    uint32_t numbers[40];
    uint32_t count = (uint32_t)claims_below(world, 40);
    uint32_t from = (uint32_t)claims_below(world, world->options.pool);
    for (uint32_t i = 0; i < count; i++) {
        /* Mostly neighbours, so that whole records come again. */
        numbers[i] = claims_below(world, 8) == 0
                         ? (uint32_t)claims_below(world, world->options.pool)
                         : (from + i) % world->options.pool;
    }
    uint64_t stream = claims_below(world, world->options.only_buckets ? 1 : CLAIMS_STREAMS);
    return claims_record(world, node, (uint32_t)stream, numbers, count);
}

static void put_records(struct claims_node *node) {
    for (; node->next_put < node->count; node->next_put++) {
        struct claims_record *r = &node->records[node->next_put];
        if (!mr_claims_put(node->claims, &r->claim)) {
            return;
        }
        r->put = true;
    }
}

static void take_claim(struct claims_node *node, struct mr_claim *claim) {
    struct claims_record *r = claim->ctx;
    assert_ptr_equal(r, &node->records[node->next_decided]);
    assert_true(claim == &r->claim && r->put && !r->decided);
    assert_int_equal(claim->undecided, 0);
    node->next_decided++;
    r->put = false;
    r->decided = true;
    for (uint32_t k = 0; k < claim->count; k++) {
        assert_true(r->outcomes[k] >= MR_CLAIM_WON && r->outcomes[k] <= MR_CLAIM_TAKEN);
    }
}

/* ---- assertions ---- */

static bool prepare_assertion(struct claims_record *r) {
    uint32_t count = 0;
    for (uint32_t k = 0; r->decided && k < r->claim.count; k++) {
        if (r->outcomes[k] != MR_CLAIM_TAKEN) {
            r->won[count++] = r->order[k];
        }
    }
    r->assertion = r->claim;
    r->assertion.order = r->won;
    r->assertion.count = count;
    r->assertion.outcomes = r->kept;
    r->assertion.again = true;
    return count > 0;
}

static void take_assertion(struct claims_node *node, struct mr_claim *claim) {
    struct claims_record *r = claim->ctx;
    assert_true(claim == &r->assertion && r->asserting && node->asserting > 0);
    r->asserting = false;
    node->asserting--;
    if (node->stale > 0) {
        node->stale--;
        return;
    }
    for (uint32_t k = 0; k < claim->count; k++) {
        /* In the key layout another may have its token there, and not have counted it. */
        assert_true(claim->stream == 1 || r->kept[k] != MR_CLAIM_TAKEN);
    }
}

static bool assert_records(struct claims_node *node) {
    uint64_t need_now = mr_watch_need(mr_claims_watch(node->claims));
    if (need_now != node->need) {
        node->need = need_now;
        node->asserted = 0;
        node->stale = node->asserting;
    }
    if (need_now == 0 || node->stale > 0) {
        return false;
    }
    bool any = false;
    for (; node->asserted < node->next_decided; node->asserted++) {
        struct claims_record *r = &node->records[node->asserted];
        if (prepare_assertion(r)) {
            if (!mr_claims_put(node->claims, &r->assertion)) {
                return any;
            }
            r->asserting = true;
            node->asserting++;
            any = true;
        }
    }
    if (node->asserting == 0) {
        mr_watch_asserted(mr_claims_watch(node->claims));
        any = true;
    }
    return any;
}

/* ---- time ---- */

bool claims_step(struct claims_world *world, uint32_t number) {
    struct claims_node *node = &world->nodes[number];
    if (node->claims == NULL) {
        return false;
    }
    put_records(node);
    bool moved = mr_claims_step(node->claims);
    node->epoch = mr_watch_epoch(mr_claims_watch(node->claims));
    if (world->steps++ % 8 == 0) {
        mr_claims_check(node->claims);
    }
    for (struct mr_claim *claim; (claim = mr_claims_next(node->claims)) != NULL; moved = true) {
        if (claim->again) {
            take_assertion(node, claim);
        } else {
            take_claim(node, claim);
        }
    }
    return assert_records(node) || moved;
}

static bool step_all(struct claims_world *world) {
    bool moved = false;
    for (uint32_t n = 0; n < world->node_count; n++) {
        moved |= claims_step(world, n);
    }
    return moved;
}

void claims_run(struct claims_world *world, uint64_t ms) {
    uint64_t end_ns = world->time.ns + ms * 1000000;
    while (world->time.ns < end_ns) {
        for (uint32_t i = 0; i < 100 && step_all(world); i++) {
        }
        world->time.ns += 1000000;
    }
}

void claims_until_strict(struct claims_world *world) {
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t strict = 0;
        for (uint32_t n = 0; n < world->node_count; n++) {
            const struct claims_node *node = &world->nodes[n];
            strict += node->claims == NULL ||
                      mr_watch_state(mr_claims_watch(node->claims)) == MR_WATCH_STRICT;
        }
        if (strict == world->node_count) {
            return;
        }
        claims_run(world, 50);
    }
    fail_msg("not strict: %s", mr_watch_reason(mr_claims_watch(world->nodes[0].claims)));
}

void claims_finish(struct claims_world *world) {
    for (uint32_t n = 0; n < world->node_count; n++) {
        if (world->nodes[n].claims == NULL) {
            claims_start(world, n);
        }
    }
    for (uint32_t i = 0; i < 4000; i++) {
        uint32_t done = 0;
        for (uint32_t n = 0; n < world->node_count; n++) {
            struct claims_node *node = &world->nodes[n];
            done += node->next_decided == node->count && !mr_claims_busy(node->claims);
        }
        if (done == world->node_count) {
            return;
        }
        claims_run(world, 50);
    }
    for (uint32_t n = 0; n < world->node_count; n++) {
        struct mr_claims_stats stats;
        mr_claims_stats(world->nodes[n].claims, &stats);
        print_message("node %u: %u of %u, waiting %llu, watch %d %s\n", n,
                      world->nodes[n].next_decided, world->nodes[n].count,
                      (unsigned long long)stats.waiting,
                      (int)mr_watch_state(mr_claims_watch(world->nodes[n].claims)),
                      mr_watch_reason(mr_claims_watch(world->nodes[n].claims)));
    }
    fail_msg("not everything is decided");
}

void claims_withdraw(struct claims_world *world, uint32_t number) {
    struct claims_node *node = &world->nodes[number];
    uint32_t next = node->next_decided;
    for (struct mr_claim *claim; (claim = mr_claims_withdraw(node->claims)) != NULL;) {
        struct claims_record *r = claim->ctx;
        assert_ptr_equal(r, &node->records[next++]);
        r->put = false;
        memset(r->outcomes, 0xee, claim->count); /* nobody may write there now */
    }
    assert_int_equal(next, node->next_put);
    node->next_put = node->next_decided;
}

/* ---- the rule ---- */

/* Its key in the key layout, its bucket's hash in the other. */
static struct mr_bytes name_of(uint32_t stream, uint32_t number, long long generation,
                               char ret[128]) {
    struct mr_fingerprint fp = claims_fp(stream, number);
    if (stream == 1) {
        int len = snprintf(ret, 128, "d:" CLUSTER "/%s:", stream_names[stream]);
        for (unsigned i = 0; i < 15; i++) {
            ret[(unsigned)len + i] = (char)(i < 8 ? fp.lo >> (8 * i) : fp.hi >> (8 * (i - 8)));
        }
        return mr_bytes_of(ret, (size_t)len + 15);
    }
    int len = snprintf(ret, 128, "b:{" CLUSTER "/%s/%u}:%lld", stream_names[stream],
                       (unsigned)(fp.hi & (MR_CLAIM_BUCKETS - 1)), generation);
    return mr_bytes_of(ret, (size_t)len);
}

uint32_t claims_slot(uint32_t stream, uint32_t number) {
    char name[128];
    return mr_redis_slot(name_of(stream, number, 0, name));
}

static bool find_owner(struct claims_world *world, uint32_t stream, uint32_t number,
                       uint64_t *ret_lsn) {
    char key[128];
    char field[128];
    struct mr_bytes fp = name_of(1, number, 0, field);
    struct mr_fingerprint of_stream = claims_fp(stream, number);
    for (unsigned i = 0; i < 15; i++) {
        field[fp.len - 15 + i] =
            (char)(i < 8 ? of_stream.lo >> (8 * i) : of_stream.hi >> (8 * (i - 8)));
    }
    fp = mr_bytes_of(field + fp.len - 15, 15);
    uint32_t slot = claims_slot(stream, number);
    uint32_t server = world->options.masters == 0 ? 0 : virtual_redis_master_of(world->v, slot);
    struct mr_bytes token = {NULL, 0};
    bool found = false;
    if (stream == 1) {
        found = virtual_redis_peek(world->v, server, name_of(1, number, 0, key), &token);
    }
    for (long long g = 234998; stream == 0 && g <= 235002; g++) {
        bool here =
            virtual_redis_peek_field(world->v, server, name_of(0, number, g, key), fp, &token);
        assert_false(found && here); /* in one generation only */
        found |= here;
    }
    *ret_lsn = 0;
    for (unsigned i = 0; found && i < 6; i++) {
        *ret_lsn |= (uint64_t)token.ptr[6 + i] << (8 * i);
    }
    return found;
}

static void check_id(struct claims_world *world, uint32_t stream, uint32_t number,
                     const uint64_t *winner, uint32_t seen) {
    uint64_t owner;
    bool found = find_owner(world, stream, number, &owner);
    if (seen > 0 && (!found || *winner != owner)) {
        fail_msg("stream %u id %u: record %llu counted it, Redis names %llu", stream, number,
                 (unsigned long long)*winner, (unsigned long long)owner);
    }
}

void claims_check(struct claims_world *world) {
    uint32_t pool = world->options.pool;
    uint64_t *winner = need(calloc((size_t)pool * CLAIMS_STREAMS, sizeof *winner));
    uint32_t *seen = need(calloc((size_t)pool * CLAIMS_STREAMS, sizeof *seen));
    for (uint32_t n = 0; n < world->node_count; n++) {
        for (uint32_t i = 0; i < world->nodes[n].count; i++) {
            const struct claims_record *r = &world->nodes[n].records[i];
            assert_true(r->decided);
            for (uint32_t k = 0; k < r->claim.count; k++) {
                size_t at = (size_t)r->claim.stream * pool + r->numbers[k];
                seen[at]++;
                if (r->outcomes[k] == MR_CLAIM_TAKEN) {
                    continue;
                }
                if (winner[at] != 0) {
                    fail_msg("stream %u id %u: records %llu and %llu counted it", r->claim.stream,
                             r->numbers[k], (unsigned long long)winner[at],
                             (unsigned long long)r->claim.lsn);
                }
                winner[at] = r->claim.lsn;
            }
        }
    }
    for (uint32_t s = 0; s < CLAIMS_STREAMS; s++) {
        for (uint32_t id = 0; id < pool; id++) {
            size_t at = (size_t)s * pool + id;
            assert_true(seen[at] == 0 || winner[at] != 0); /* somebody counted it */
            check_id(world, s, id, &winner[at], seen[at]);
        }
    }
    free(winner);
    free(seen);
}

/* ---- by hand ---- */

void claims_send(struct claims_world *world, uint32_t server, const struct mr_bytes *argv,
                 uint32_t argc) {
    struct mr_redis_transport *t = virtual_redis_transport(world->v);
    char host[MR_REDIS_ADDRESS_MAX];
    uint16_t port = 6379;
    struct mr_redis_connection *connection;
    struct mr_redis_reply reply;
    struct mr_error error;
    assert_int_equal(mr_redis_address_parse(mr_bytes_text(virtual_redis_address(world->v, server)),
                                            host, &port, &error),
                     MR_OK);
    assert_int_equal(mr_redis_transport_open(t, host, port, &connection, &error), MR_OK);
    assert_int_equal(mr_redis_connection_send(connection, argv, argc), MR_OK);
    for (uint32_t i = 0; i < 100 && !mr_redis_connection_next(connection, &reply); i++) {
        (void)mr_redis_connection_step(connection, &error);
        world->time.ns += 1000000;
    }
    mr_redis_connection_close(connection);
}

void claims_command(struct claims_world *world, uint32_t server, const char *a, const char *b,
                    const char *c, const char *d) {
    const char *const words[] = {a, b, c, d};
    struct mr_bytes argv[4];
    uint32_t argc = 0;
    for (; argc < 4 && words[argc] != NULL; argc++) {
        argv[argc] = mr_bytes_text(words[argc]);
    }
    claims_send(world, server, argv, argc);
}

/* ---- short forms ---- */

struct claims_world *claims_open_one(uint32_t nodes) {
    struct claims_options options = {
        .seed = 5, .nodes = nodes, .pool = CLAIMS_IDS_MAX, .bytes_max = 64 << 20};
    struct claims_world *world = claims_open(&options);
    claims_until_strict(world);
    return world;
}

struct claims_record *claims_record_of(struct claims_world *world, uint32_t node, uint32_t stream,
                                       uint32_t count, uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t numbers[3] = {a, b, c};
    return claims_record(world, node, stream, numbers, count);
}

void claims_expect(const struct claims_record *r, enum mr_claim_outcome a, enum mr_claim_outcome b,
                   enum mr_claim_outcome c) {
    const uint8_t wanted[3] = {(uint8_t)a, (uint8_t)b, (uint8_t)c};
    assert_true(r->decided);
    for (uint32_t k = 0; k < r->claim.count; k++) {
        assert_int_equal(r->outcomes[k], wanted[k]);
    }
}

struct mr_claims_stats claims_stats_of(const struct claims_world *world, uint32_t node) {
    struct mr_claims_stats stats;
    mr_claims_stats(world->nodes[node].claims, &stats);
    return stats;
}
