/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/dedup/watch_world.h"

#include "base/hash.h"
#include "tests/dedup/support.h"

#include <stdio.h>
#include <stdlib.h>

#define CLUSTER   "shop"
#define ASSERTION (UINT64_C(1) << 62)

enum { CLAIMS_MAX = 20 }; /* under way */

uint64_t world_below(struct world *world, uint64_t bound) {
    struct rng rng = {world->random};
    uint64_t result = rng_below(&rng, bound);
    world->random = rng.state;
    return result;
}

/* ---- claims in Redis ---- */

/* KEYS canary, claim; ARGV epoch, token, again. Returns the token that is stored, or nil: the canary is not right. */
static void claim_script(void *ctx, struct virtual_redis_call *call, struct mr_redis_reply *ret) {
    (void)ctx;
    const struct mr_bytes get[2] = {MR_BYTES("GET"), call->keys[0]};
    const struct mr_bytes set[5] = {MR_BYTES("SET"), call->keys[1], call->args[1], MR_BYTES("NX"),
                                    MR_BYTES("GET")};
    bool again = mr_bytes_equal(call->args[2], MR_BYTES("1"));
    struct mr_redis_reply canary = virtual_redis_do(call, get, 2);
    if (!again && (canary.type != MR_REDIS_TEXT || !mr_bytes_equal(canary.text, call->args[0]))) {
        return;
    }
    struct mr_redis_reply stored = virtual_redis_do(call, set, 5);
    bool is_new = stored.type == MR_REDIS_NIL;
    virtual_redis_reply_text(call, ret, MR_REDIS_TEXT, is_new ? call->args[1] : stored.text);
}

static bool send_claim(struct world_node *node, uint32_t index, bool again, uint32_t to,
                       bool asking) {
    struct world *world = node->world;
    struct world_record *record = &node->records[index];
    uint32_t tag = record->id % world->tag_count;
    const char *canary = world->canaries[tag];
    char key[64];
    char token[32];
    struct mr_epoch epoch = mr_watch_epoch(node->watch);
    (void)snprintf(key, sizeof key, "d:{%s}:%u", world->tag_texts[tag], record->id);
    (void)snprintf(token, sizeof token, "%llu", (unsigned long long)record->token);
    const struct mr_bytes argv[8] = {MR_BYTES("EVAL"),     MR_BYTES("claim"),
                                     MR_BYTES("2"),        mr_bytes_text(canary),
                                     mr_bytes_text(key),   mr_bytes_of(epoch.bytes, MR_EPOCH_LEN),
                                     mr_bytes_text(token), again ? MR_BYTES("1") : MR_BYTES("0")};
    uint32_t target =
        to != MR_REDIS_NO_NODE ? to : mr_redis_node_of(node->redis, world->slots[tag]);
    if (target == MR_REDIS_NO_NODE || target >= mr_redis_nodes(node->redis)) {
        return false;
    }
    struct mr_redis_node about;
    mr_redis_node(node->redis, target, &about);
    struct mr_redis_command command = {argv, 8, (again ? ASSERTION : 0) | index, asking};
    return mr_watch_passed(node->watch, target, about.session) &&
           mr_redis_send(node->redis, target, &command) == MR_OK;
}

static void decide(struct world_node *node, uint32_t index, struct mr_bytes token) {
    struct world *world = node->world;
    struct world_record *record = &node->records[index];
    char mine[32];
    (void)snprintf(mine, sizeof mine, "%llu", (unsigned long long)record->token);
    record->verdict = mr_bytes_equal(token, mr_bytes_text(mine)) ? WORLD_COUNTED : WORLD_DUPLICATE;
    record->decided_ms = mr_clock_wall_ms(&world->time.clock);
    if (record->verdict == WORLD_COUNTED) {
        world->twice += ++world->counted[record->id] == 2;
    }
}

static void answer_claim(struct world_node *node, const struct mr_redis_answer *answer) {
    uint32_t index = (uint32_t)answer->tag;
    bool again = (answer->tag & ASSERTION) != 0;
    struct world_record *record = &node->records[index];
    if (answer->outcome == MR_REDIS_ASKED &&
        send_claim(node, index, again, answer->node_asked, true)) {
        return;
    }
    record->under_way = false;
    node->under_way--;
    if (answer->outcome != MR_REDIS_ANSWERED) {
        return;
    }
    if (again) {
        if (mr_watch_need(node->watch) == record->turn) {
            record->asserted_need = record->turn;
        }
    } else if (answer->reply.type == MR_REDIS_NIL) {
        mr_watch_say_lost(node->watch, record->id % node->world->tag_count);
    } else if (mr_watch_state(node->watch) == MR_WATCH_STRICT &&
               mr_watch_turn(node->watch) == record->turn) {
        decide(node, index, answer->reply.text);
    }
}

static bool send_claims(struct world_node *node) {
    bool any = false;
    for (uint32_t i = 0; i < node->count && node->under_way < CLAIMS_MAX; i++) {
        struct world_record *record = &node->records[i];
        if (record->verdict == WORLD_PENDING && !record->under_way &&
            send_claim(node, i, false, MR_REDIS_NO_NODE, false)) {
            record->under_way = true;
            record->turn = mr_watch_turn(node->watch);
            node->under_way++;
            any = true;
        }
    }
    return any;
}

/* Asserts what the watch wants, some at a time. */
static bool send_assertions(struct world_node *node, int64_t since_ms) {
    uint64_t need = mr_watch_need(node->watch);
    bool any = false;
    bool left = false;
    for (uint32_t i = 0; i < node->count; i++) {
        struct world_record *record = &node->records[i];
        if (record->verdict != WORLD_COUNTED || record->decided_ms < since_ms ||
            record->asserted_need == need) {
            continue;
        }
        left = true;
        if (!record->under_way && node->under_way < CLAIMS_MAX &&
            send_claim(node, i, true, MR_REDIS_NO_NODE, false)) {
            record->under_way = true;
            record->turn = need;
            node->under_way++;
            any = true;
        }
    }
    if (!left && !node->keeps_quiet) {
        mr_watch_asserted(node->watch);
        any = true;
    }
    return any;
}

/* ---- nodes ---- */

struct mr_redis *world_client(struct world *world, const char *name, uint64_t seed) {
    struct mr_bytes addresses[WORLD_SERVERS_MAX];
    uint32_t count = world->options.masters == 0 ? 1 : virtual_redis_servers(world->v);
    for (uint32_t i = 0; i < count; i++) {
        addresses[i] = mr_bytes_text(virtual_redis_address(world->v, i));
    }
    struct mr_redis_options options = {
        .transport = virtual_redis_transport(world->v),
        .clock = &world->time.clock,
        .addresses = addresses,
        .address_count = count,
        .cluster = world->options.masters != 0,
        .name = mr_bytes_text(name),
        .timeout_ns = WORLD_TIMEOUT_NS,
        .retry_min_ns = 10000000,
        .retry_max_ns = 1000000000,
        .bytes_max = 64 << 10,
        .seed = seed,
    };
    struct mr_redis *redis;
    struct mr_error error;
    assert_int_equal(mr_redis_open(&options, &redis, &error), MR_OK);
    return redis;
}

void world_watch_options(struct world_node *node, struct mr_watch_options *ret) {
    struct world *world = node->world;
    *ret = (struct mr_watch_options){
        .redis = node->redis,
        .clock = &world->time.clock,
        .cluster = MR_BYTES(CLUSTER),
        .node = mr_bytes_text(node->name),
        .shape =
            mr_bytes_text(world->options.shape != NULL ? world->options.shape : "orders:bucket:1d"),
        .key_hash = 0x1234,
        .tags = world->tags,
        .tag_count = world->tag_count,
        .assume_strict = world->options.assume_strict,
        .epoch = node->remembered,
        .recent_ms = world->options.recent_ms != 0 ? world->options.recent_ms : 10000,
        .check_ms = 2000,
        .peers_ms = 60000,
        .seed = world->options.seed * 1000 + node->life + 1,
    };
}

void world_start(struct world *world, uint32_t number) {
    struct world_node *node = &world->nodes[number];
    struct mr_watch_options options;
    struct mr_error error;
    assert_null(node->redis);
    node->redis = world_client(world, node->name, world_below(world, UINT64_MAX));
    world_watch_options(node, &options);
    assert_int_equal(mr_watch_open(&options, &node->watch, &error), MR_OK);
    node->life++;
}

void world_crash(struct world *world, uint32_t number) {
    struct world_node *node = &world->nodes[number];
    mr_watch_close(node->watch);
    mr_redis_close(node->redis);
    node->watch = NULL;
    node->redis = NULL;
    node->under_way = 0;
    node->down_ns = world->time.ns;
    world->missing_ns[number] = 0;
    for (uint32_t i = 0; i < node->count; i++) {
        node->records[i].under_way = false;
        node->records[i].asserted_need = 0;
    }
}

static bool is_none(const struct mr_epoch *epoch) {
    static const struct mr_epoch none;
    return memcmp(epoch, &none, sizeof none) == 0;
}

/* Nobody is STRICT in a new epoch before all who were in one before have asserted, or were away long enough. */
static void check_epoch(struct world *world, const struct world_node *node) {
    struct mr_epoch epoch = mr_watch_epoch(node->watch);
    if (memcmp(&epoch, &world->strict, sizeof epoch) == 0) {
        return;
    }
    struct mr_watch_options options;
    world_watch_options(&world->nodes[0], &options);
    for (uint32_t i = 0; i < world->node_count && !is_none(&world->strict); i++) {
        const struct world_node *peer = &world->nodes[i];
        bool away =
            peer->redis == NULL && world->time.ns - peer->down_ns >=
                                       (uint64_t)(options.peers_ms - options.check_ms) * 1000000;
        bool asserted = memcmp(&peer->asserted, &epoch, sizeof epoch) == 0;
        assert_true(!world->known[i] || asserted || away);
    }
    world->strict = epoch;
}

/* A canary of the epoch in which a node is STRICT is not missing for long. */
static void check_canaries(struct world *world, struct world_node *node) {
    struct mr_epoch epoch = mr_watch_epoch(node->watch);
    uint64_t *since_ns = &world->missing_ns[node->number];
    bool missing = false;
    for (uint32_t t = 0; t < world->tag_count && !missing; t += 1 + world->tag_count / 8) {
        missing = virtual_redis_is_up(world->v, world_tag_server(world, t)) &&
                  !world_canary_is(world, t, &epoch);
    }
    if (!missing || mr_watch_state(node->watch) != MR_WATCH_STRICT) {
        *since_ns = 0;
    } else if (*since_ns == 0) {
        *since_ns = world->time.ns;
    } else {
        assert_true(world->time.ns - *since_ns <= 2 * UINT64_C(2000000000) + WORLD_TIMEOUT_NS);
    }
}

/* What the store says that the node has asserted; its slot may be on the way. */
static void find_asserted(struct world *world, struct world_node *node) {
    struct mr_bytes hex;
    bool there = false;
    for (uint32_t i = 0; !there && i < virtual_redis_servers(world->v); i++) {
        there = virtual_redis_peek_field(world->v, i, MR_BYTES("millrace:{" CLUSTER "}"),
                                         mr_bytes_text(node->field), &hex);
    }
    for (size_t i = 0; there && hex.len == 2 * MR_EPOCH_LEN && i < MR_EPOCH_LEN; i++) {
        node->asserted.bytes[i] = (uint8_t)mr_hex_byte(hex.ptr + 2 * i);
    }
}

bool world_step_node(struct world *world, uint32_t number) {
    struct world_node *node = &world->nodes[number];
    if (node->redis == NULL) {
        return false;
    }
    bool any = mr_redis_step(node->redis);
    struct mr_redis_answer answer;
    while (mr_redis_next(node->redis, &answer)) {
        if ((answer.tag & MR_WATCH_TAG) != 0) {
            mr_watch_answer(node->watch, &answer);
        } else {
            answer_claim(node, &answer);
        }
        any = true;
    }
    any |= mr_watch_step(node->watch);
    mr_watch_check(node->watch);
    find_asserted(world, node);
    world->states[mr_watch_state(node->watch)]++;
    switch (mr_watch_state(node->watch)) {
    case MR_WATCH_STRICT:
        check_epoch(world, node);
        world->known[number] = true;
        node->remembered = mr_watch_epoch(node->watch);
        any |= send_claims(node);
        break;
    case MR_WATCH_LOST:
        any |= send_assertions(node, INT64_MIN);
        break;
    case MR_WATCH_SUSPECT:
        any |= send_assertions(node, mr_watch_since_ms(node->watch));
        break;
    case MR_WATCH_AWAY:
    case MR_WATCH_NOT_STRICT:
    case MR_WATCH_MISMATCH:
        break;
    }
    check_canaries(world, node);
    return any;
}

/* ---- the world ---- */

struct world *world_open(const struct world_options *options) {
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->options = *options;
    world->random = options->seed * 7919 + 1;
    world->node_count = options->nodes;
    virtual_time_init(&world->time);
    world->v = virtual_redis_open(&(struct virtual_redis_options){
        .seed = options->seed,
        .clock = &world->time.clock,
        .pass = virtual_time_pass,
        .pass_ctx = &world->time,
        .servers = options->servers,
        .masters = options->masters,
    });
    virtual_redis_script(world->v, "claim", claim_script, NULL);
    world->tag_count = options->tags == 0 ? 60 : options->tags;
    assert_true(world->tag_count <= WORLD_TAGS_MAX && world->node_count <= WORLD_NODES_MAX);
    for (uint32_t t = 0; t < world->tag_count; t++) {
        (void)snprintf(world->tag_texts[t], sizeof world->tag_texts[t], CLUSTER "/orders/%u", t);
        (void)snprintf(world->canaries[t], sizeof world->canaries[t], "c:{" CLUSTER "/orders/%u}",
                       t);
        world->tags[t] = mr_bytes_text(world->tag_texts[t]);
        world->slots[t] = mr_redis_slot(world->tags[t]);
    }
    world->store_slot = mr_redis_slot(MR_BYTES("millrace:{" CLUSTER "}"));
    for (uint32_t i = 0; i < world->node_count; i++) {
        world->nodes[i].world = world;
        world->nodes[i].number = i;
        (void)snprintf(world->nodes[i].name, sizeof world->nodes[i].name, "node-%u", i);
        (void)snprintf(world->nodes[i].field, sizeof world->nodes[i].field, "asserted:node-%u", i);
    }
    return world;
}

void world_close(struct world *world) {
    for (uint32_t i = 0; i < world->node_count; i++) {
        if (world->nodes[i].redis != NULL) {
            world_crash(world, i);
        }
    }
    virtual_redis_close(world->v);
    free(world);
}

void world_run(struct world *world, uint64_t ms) {
    uint64_t end_ns = world->time.ns + ms * 1000000;
    while (world->time.ns < end_ns) {
        bool any = false;
        uint32_t first = (uint32_t)world_below(world, world->node_count);
        for (uint32_t i = 0; i < world->node_count; i++) {
            any |= world_step_node(world, (first + i) % world->node_count);
        }
        world->time.ns += any ? 100000 : 20000000;
    }
}

static bool all_are(const struct world *world, uint32_t from, uint32_t to,
                    enum mr_watch_state state) {
    for (uint32_t i = from; i < to; i++) {
        if (world->nodes[i].watch != NULL && mr_watch_state(world->nodes[i].watch) != state) {
            return false;
        }
    }
    return true;
}

static uint64_t until(struct world *world, uint32_t from, uint32_t to, enum mr_watch_state state) {
    enum { PATIENCE_MS = 300000 };
    uint64_t start_ns = world->time.ns;
    while (!all_are(world, from, to, state)) {
        world_run(world, 1);
        if (world->time.ns - start_ns > UINT64_C(1000000) * PATIENCE_MS) {
            for (uint32_t i = from; i < to; i++) {
                const struct mr_watch *watch = world->nodes[i].watch;
                print_error("seed %llu: node %u: state %d: %s\n",
                            (unsigned long long)world->options.seed, i,
                            watch == NULL ? -1 : (int)mr_watch_state(watch),
                            watch == NULL ? "down" : mr_watch_reason(watch));
            }
            fail();
        }
    }
    return (world->time.ns - start_ns) / 1000000;
}

uint64_t world_until(struct world *world, uint32_t node, enum mr_watch_state state) {
    return until(world, node, node + 1, state);
}

uint64_t world_until_all(struct world *world, enum mr_watch_state state) {
    return until(world, 0, world->node_count, state);
}

void world_expect(struct world *world, uint32_t node, enum mr_watch_state state,
                  const char *reason_part) {
    const char *reason = mr_watch_reason(world->nodes[node].watch);
    if (mr_watch_state(world->nodes[node].watch) != state || strstr(reason, reason_part) == NULL) {
        print_error("state %d, reason \"%s\", expected %d with \"%s\"\n",
                    (int)mr_watch_state(world->nodes[node].watch), reason, (int)state, reason_part);
        fail();
    }
}

void world_record(struct world *world, uint32_t number) {
    struct world_node *node = &world->nodes[number];
    if (node->count == WORLD_RECORDS_MAX || world->ids == WORLD_IDS_MAX) {
        return;
    }
    bool is_new = world->ids == 0 || world_below(world, 3) == 0;
    uint32_t recent = world->ids < 8 ? world->ids : 8;
    bool is_recent = world_below(world, 2) == 0;
    uint32_t id = is_new ? world->ids++
                         : (uint32_t)(is_recent ? world->ids - 1 - world_below(world, recent)
                                                : world_below(world, world->ids));
    node->records[node->count++] =
        (struct world_record){.id = id, .token = ((uint64_t)number + 1) << 32 | ++node->token};
}

void world_check_counts(struct world *world) {
    uint32_t wrong = 0;
    for (uint32_t id = 0; id < world->ids; id++) {
        if (world->counted[id] != 1) {
            print_error("seed %llu: id %u was counted %u times\n",
                        (unsigned long long)world->options.seed, id, world->counted[id]);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

/* ---- looking ---- */

uint32_t world_store_server(struct world *world) {
    return world->options.masters == 0 ? 0 : virtual_redis_master_of(world->v, world->store_slot);
}

uint32_t world_tag_server(struct world *world, uint32_t tag) {
    return world->options.masters == 0 ? 0 : virtual_redis_master_of(world->v, world->slots[tag]);
}

bool world_canary_is(struct world *world, uint32_t tag, const struct mr_epoch *epoch) {
    struct mr_bytes value;
    struct mr_bytes key = mr_bytes_text(world->canaries[tag]);
    bool there = virtual_redis_peek(world->v, world_tag_server(world, tag), key, &value);
    for (uint32_t i = 0; !there && i < virtual_redis_servers(world->v);
         i++) { /* its slot may be on the way */
        there = virtual_redis_peek(world->v, i, key, &value);
    }
    return there && mr_bytes_equal(value, mr_bytes_of(epoch->bytes, MR_EPOCH_LEN));
}

void world_command(struct world *world, uint32_t server, const char *const *argv, uint32_t argc) {
    struct mr_bytes address = mr_bytes_text(virtual_redis_address(world->v, server));
    struct mr_redis_options options = {
        .transport = virtual_redis_transport(world->v),
        .clock = &world->time.clock,
        .addresses = &address,
        .address_count = 1,
        .timeout_ns = WORLD_TIMEOUT_NS,
        .retry_min_ns = 10000000,
        .retry_max_ns = 10000000,
        .bytes_max = 4096,
    };
    struct mr_redis *redis;
    struct mr_bytes words[8];
    for (uint32_t i = 0; i < argc; i++) {
        words[i] = mr_bytes_text(argv[i]);
    }
    assert_int_equal(mr_redis_open(&options, &redis, NULL), MR_OK);
    struct mr_redis_command command = {words, argc, 1, false};
    struct mr_redis_answer answer;
    while (mr_redis_send(redis, 0, &command) != MR_OK) {
        (void)mr_redis_step(redis);
        world->time.ns += 100000;
    }
    while (!mr_redis_next(redis, &answer)) {
        (void)mr_redis_step(redis);
        world->time.ns += 100000;
    }
    assert_int_equal(answer.outcome, MR_REDIS_ANSWERED);
    mr_redis_close(redis);
}
