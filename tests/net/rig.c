/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/net/rig.h"

#include <stdio.h>
#include <stdlib.h>

uint64_t rig_below(struct rig *rig, uint64_t bound) {
    uint64_t z = rig->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint64_t)(((__uint128_t)(z ^ z >> 31) * bound) >> 64);
}

/* KEYS: one or two of a slot. ARGV: the tag. Leaves the tag in the keys and answers it. */
static void echo(void *ctx, struct virtual_redis_call *call, struct mr_redis_reply *ret) {
    (void)ctx;
    for (uint32_t i = 0; i < call->key_count; i++) {
        const struct mr_bytes argv[] = {MR_BYTES("SET"), call->keys[i], call->args[0]};
        struct mr_redis_reply reply = virtual_redis_do(call, argv, 3);
        assert_int_equal(reply.type, MR_REDIS_STATUS);
    }
    virtual_redis_reply_text(call, ret, MR_REDIS_TEXT, call->args[0]);
}

static uint32_t tag_of(struct mr_bytes text) {
    char digits[16] = "";
    assert_true(text.len > 0 && text.len < sizeof digits);
    memcpy(digits, text.ptr, text.len);
    return (uint32_t)strtoul(digits, NULL, 10);
}

static void witness(void *ctx, uint32_t server, const struct mr_bytes *argv, uint32_t argc,
                    const struct mr_redis_reply *reply) {
    struct rig *rig = ctx;
    (void)server;
    (void)reply;
    if (mr_bytes_equal(argv[0], MR_BYTES("EVAL"))) {
        uint32_t tag = tag_of(argv[argc - 1]);
        assert_true(tag < rig->tags);
        rig->commands[tag].executed++;
    }
}

void rig_client_options(struct rig *rig, const struct rig_options *options, struct mr_redis_options *ret,
                        struct mr_bytes addresses[RIG_NODES_MAX]) {
    uint32_t count = options->masters == 0 ? 1 : virtual_redis_servers(rig->v);
    for (uint32_t i = 0; i < count; i++) {
        addresses[i] = mr_bytes_text(virtual_redis_address(rig->v, i));
    }
    *ret = (struct mr_redis_options){
        .transport = virtual_redis_transport(rig->v),
        .clock = &rig->time.clock,
        .addresses = addresses,
        .address_count = count,
        .cluster = options->masters > 0,
        .user = mr_bytes_text(options->user == NULL ? "" : options->user),
        .password = mr_bytes_text(options->password == NULL ? "" : options->password),
        .name = MR_BYTES("rig"),
        .timeout_ns = RIG_TIMEOUT_NS,
        .retry_min_ns = RIG_RETRY_MIN_NS,
        .retry_max_ns = RIG_RETRY_MAX_NS,
        .bytes_max = options->bytes_max == 0 ? 1 << 20 : options->bytes_max,
        .seed = options->seed,
    };
}

struct rig *rig_open(const struct rig_options *options) {
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    rig->random = options->seed ^ 0x5151;
    virtual_time_init(&rig->time);
    rig->v = virtual_redis_open(&(struct virtual_redis_options){
        .seed = options->seed,
        .clock = &rig->time.clock,
        .pass = virtual_time_pass,
        .pass_ctx = &rig->time,
        .servers = options->servers,
        .masters = options->masters,
        .user = options->user,
        .password = options->password,
    });
    virtual_redis_script(rig->v, "echo", echo, NULL);
    virtual_redis_watch(rig->v, witness, rig);
    struct mr_redis_options client;
    struct mr_bytes addresses[RIG_NODES_MAX];
    rig_client_options(rig, options, &client, addresses);
    assert_int_equal(mr_redis_open(&client, &rig->redis, NULL), MR_OK);
    return rig;
}

void rig_close(struct rig *rig) {
    mr_redis_close(rig->redis);
    virtual_redis_close(rig->v);
    free(rig);
}

/* ---- sending ---- */

static struct mr_bytes print(char text[24], const char *format, uint32_t number) {
    int len = snprintf(text, 24, format, number);
    return mr_bytes_of(text, (size_t)len);
}

uint32_t rig_slot(uint32_t key) {
    char text[24];
    return mr_redis_slot(print(text, "{k%u}", key));
}

bool rig_send_to(struct rig *rig, uint32_t node, uint32_t key, bool asking) {
    char key_text[24];
    char pair_text[24];
    char tag_text[24];
    assert_true(rig->tags < RIG_TAGS_MAX && node < RIG_NODES_MAX);
    uint32_t tag = rig->tags++;
    bool pair = rig_below(rig, 3) == 0;
    struct mr_bytes tag_bytes = print(tag_text, "%u", tag);
    struct mr_bytes argv[] = {MR_BYTES("EVAL"),
                              MR_BYTES("echo"),
                              pair ? MR_BYTES("2") : MR_BYTES("1"),
                              print(key_text, "{k%u}", key),
                              pair ? print(pair_text, "{k%u}2", key) : tag_bytes,
                              tag_bytes};
    struct mr_redis_command command = {.argv = argv, .argc = pair ? 6 : 5, .tag = tag, .asking = asking};
    enum mr_status status = mr_redis_send(rig->redis, node, &command);
    assert_true(status == MR_OK || status == MR_AGAIN || status == MR_NO_MEMORY);
    if (status != MR_OK) {
        rig->tags--;
        return false;
    }
    struct mr_redis_node about;
    mr_redis_node(rig->redis, node, &about);
    assert_true(about.session != 0);
    rig->commands[tag] = (struct rig_command){.sent = 1, .node = node, .session = about.session, .key = key};
    rig->queue[node][rig->queue_to[node]++] = tag;
    return true;
}

bool rig_send(struct rig *rig, uint32_t key) {
    uint32_t node = mr_redis_node_of(rig->redis, rig_slot(key));
    return node != MR_REDIS_NO_NODE && rig_send_to(rig, node, key, false);
}

/* ---- answers ---- */

static void check_answer(struct rig *rig, const struct mr_redis_answer *a) {
    assert_true(a->tag < rig->tags);
    struct rig_command *command = &rig->commands[a->tag];
    assert_int_equal(command->answered++, 0);
    assert_int_equal(a->node, command->node);
    assert_true(a->session == command->session);
    assert_true(rig->queue_from[a->node] < rig->queue_to[a->node]);
    assert_int_equal(rig->queue[a->node][rig->queue_from[a->node]++], a->tag); /* in the order sent */
    command->outcome = a->outcome;
    rig->outcomes[a->outcome]++;
    switch (a->outcome) {
    case MR_REDIS_ANSWERED:
        assert_int_equal(a->reply.type, MR_REDIS_TEXT);
        assert_int_equal(tag_of(a->reply.text), a->tag); /* its own reply */
        assert_int_equal(command->executed, 1);
        break;
    case MR_REDIS_ASKED:
        assert_true(a->node_asked < mr_redis_nodes(rig->redis));
        assert_true(a->node_asked != a->node);
        break;
    case MR_REDIS_LATER:
    case MR_REDIS_REFUSED:
        assert_int_equal(a->reply.type, MR_REDIS_FAILURE);
        assert_true(a->reply.text.len > 0);
        break;
    case MR_REDIS_MOVED:
    case MR_REDIS_UNKNOWN:
        break;
    }
}

bool rig_step(struct rig *rig) {
    bool moved = mr_redis_step(rig->redis);
    if (rig->steps++ % 8 == 0) { /* it looks at all slots */
        mr_redis_check(rig->redis);
    }
    struct mr_redis_answer answer;
    while (mr_redis_next(rig->redis, &answer)) {
        check_answer(rig, &answer);
        moved = true;
        if (answer.outcome == MR_REDIS_ASKED && rig->tags < RIG_TAGS_MAX) {
            (void)rig_send_to(rig, answer.node_asked, rig->commands[answer.tag].key, true);
        }
    }
    return moved;
}

void rig_doze(struct rig *rig, uint64_t ns) {
    for (uint64_t until_ns = rig->time.ns + ns; rig->time.ns < until_ns; rig->time.ns += 5000000) {
        (void)mr_redis_step(rig->redis);
    }
    mr_redis_check(rig->redis);
}

void rig_run(struct rig *rig, uint64_t ns) {
    uint64_t until_ns = rig->time.ns + ns;
    while (rig->time.ns < until_ns) {
        if (!rig_step(rig)) {
            mr_redis_wait(rig->redis, until_ns - rig->time.ns);
        }
    }
}

void rig_settle(struct rig *rig) {
    for (int i = 0; i < 6000; i++) {
        bool owed = false;
        for (uint32_t n = 0; n < RIG_NODES_MAX; n++) {
            owed |= rig->queue_from[n] < rig->queue_to[n];
        }
        if (!owed && mr_redis_is_up(rig->redis)) {
            return;
        }
        rig_run(rig, 10000000);
    }
    fail_msg("not settled after a minute");
}

void rig_check_all(const struct rig *rig) {
    for (uint32_t tag = 0; tag < rig->tags; tag++) {
        const struct rig_command *command = &rig->commands[tag];
        assert_int_equal(command->answered, 1);
        bool is_sure = command->outcome == MR_REDIS_ANSWERED;
        bool is_open = command->outcome == MR_REDIS_UNKNOWN;
        assert_true(is_open ? command->executed <= 1 : command->executed == is_sure);
    }
}
