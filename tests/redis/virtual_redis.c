/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: what travels, what arrives when, what breaks. */
#include "tests/redis/virtual_redis.h"

#include "base/hash.h"
#include "tests/redis/virtual_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* SplitMix64 (Steele, Lea, Flood). */
uint64_t virtual_redis_below(struct virtual_redis *v, uint64_t bound) {
    uint64_t z = v->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint64_t)(((__uint128_t)(z ^ z >> 31) * bound) >> 64);
}

static uint64_t now_of(const struct virtual_redis *v) {
    return mr_clock_mono_ns(v->options.clock);
}

static struct virtual_connection *of(struct mr_redis_connection *connection) {
    return (struct virtual_connection *)connection;
}

static void mix(struct virtual_redis *v, struct mr_bytes bytes) {
    v->hash = mr_hash64(bytes, v->hash + 1);
}

static void mix_reply(struct virtual_redis *v, const struct mr_redis_reply *reply) {
    int64_t numbers[3] = {reply->type, reply->integer, reply->count};
    mix(v, mr_bytes_of(numbers, sizeof numbers));
    mix(v, reply->text);
    for (uint32_t i = 0; i < reply->count; i++) {
        mix_reply(v, &reply->items[i]);
    }
}

/* ---- what travels ---- */

/* Half of what the way there and back takes. */
static uint64_t way_ns(struct virtual_redis *v, const struct virtual_server *server) {
    return (server->delay_min_ns + virtual_redis_below(v, server->delay_max_ns - server->delay_min_ns + 1)) / 2;
}

/* Nothing overtakes on a connection. */
static uint64_t arrival_ns(struct virtual_connection *c, uint64_t from_ns) {
    uint64_t ns = from_ns + way_ns(c->v, &c->v->servers[c->server]);
    c->last_arrival_ns = ns > c->last_arrival_ns ? ns : c->last_arrival_ns;
    return c->last_arrival_ns;
}

static void free_answer(struct virtual_answer *a) {
    if (a != NULL) {
        virtual_memory_free(&a->memory);
        free(a);
    }
}

static void drop_commands(struct virtual_connection *c) {
    for (struct virtual_command *command = c->commands, *next; command != NULL; command = next) {
        next = command->next;
        free(command);
    }
    c->commands = NULL;
    c->commands_end = &c->commands;
}

/* From the place on. */
static void drop_answers_at(struct virtual_connection *c, struct virtual_answer **at) {
    c->answers_end = at;
    for (struct virtual_answer *a = *at, *next; a != NULL; a = next) {
        next = a->next;
        free_answer(a);
    }
    *at = NULL;
}

static void drop_answers(struct virtual_connection *c) {
    drop_answers_at(c, &c->answers);
}

/* What is under way is lost; what has arrived can still be taken. */
void virtual_redis_break(struct virtual_connection *c, const char *why) {
    if (!c->broken) {
        c->broken = true;
        c->trouble = why;
        drop_commands(c);
        struct virtual_answer **at = &c->answers;
        while (*at != NULL && (*at)->arrives_ns <= now_of(c->v)) {
            at = &(*at)->next;
        }
        drop_answers_at(c, at);
    }
}

/* Whenever the test looks: a server answers when the command comes, or when it hangs no more. */
static void answer(struct virtual_connection *c, struct virtual_answer *a, uint64_t came_ns) {
    uint64_t awake_ns = c->v->servers[c->server].awake_ns;
    if (c->alone || c->broken) {
        free_answer(a);
        return;
    }
    a->arrives_ns = arrival_ns(c, came_ns > awake_ns ? came_ns : awake_ns);
    *c->answers_end = a;
    c->answers_end = &a->next;
}

static bool counts_down(uint32_t *n) {
    return *n > 0 && --*n == 0;
}

static void execute(struct virtual_connection *c, struct virtual_command *command) {
    struct virtual_redis *v = c->v;
    struct virtual_server *server = &v->servers[c->server];
    if (counts_down(&server->cut_before)) {
        v->probes[VIRTUAL_REDIS_PROBE_CUT_BEFORE]++;
        virtual_redis_break(c, "cut before the command");
        return;
    }
    struct virtual_answer *a = virtual_redis_need(calloc(1, sizeof *a));
    bool executed = virtual_redis_execute(c, command, &a->memory, &a->reply);
    for (uint32_t i = 0; i < command->argc; i++) {
        mix(v, command->argv[i]);
    }
    mix_reply(v, &a->reply);
    if (executed) {
        v->probes[c->alone ? VIRTUAL_REDIS_PROBE_EXECUTED_ALONE : VIRTUAL_REDIS_PROBE_EXECUTED]++;
        if (v->witness != NULL) {
            v->witness(v->witness_ctx, c->server, command->argv, command->argc, &a->reply);
        }
    }
    if (counts_down(&server->cut_after)) {
        v->probes[VIRTUAL_REDIS_PROBE_CUT_AFTER]++;
        virtual_redis_break(c, "cut after the command");
    }
    answer(c, a, command->arrives_ns);
}

/* The connection whose first command arrives first, of those that have; NULL: none. */
static struct virtual_connection *next_arrival(struct virtual_redis *v) {
    struct virtual_connection *first = NULL;
    uint64_t now_ns = now_of(v);
    for (struct virtual_connection *c = v->connections; c != NULL; c = c->next) {
        const struct virtual_command *a = c->commands;
        if (a == NULL || a->arrives_ns > now_ns || v->servers[c->server].hangs || c->broken) {
            continue;
        }
        const struct virtual_command *b = first == NULL ? NULL : first->commands;
        if (b == NULL || a->arrives_ns < b->arrives_ns ||
            (a->arrives_ns == b->arrives_ns && a->number < b->number)) {
            first = c;
        }
    }
    return first;
}

static void unlink_connection(struct virtual_redis *v, struct virtual_connection *c) {
    struct virtual_connection **at = &v->connections;
    while (*at != c) {
        at = &(*at)->next;
    }
    *at = c->next;
    drop_commands(c);
    drop_answers(c);
    free_answer(c->taken);
    free(c);
}

/* Executes all that has arrived, on whatever connection, in the order of arrival. */
static void run(struct virtual_redis *v) {
    struct virtual_connection *c;
    while ((c = next_arrival(v)) != NULL) {
        struct virtual_command *command = c->commands;
        c->commands = command->next;
        if (c->commands == NULL) {
            c->commands_end = &c->commands;
        }
        command->next = NULL;
        execute(c, command);
        free(command);
    }
    for (struct virtual_connection *next = v->connections; (c = next) != NULL;) {
        next = c->next;
        if (c->alone && (c->commands == NULL || c->broken)) {
            unlink_connection(v, c);
        }
    }
}

/* ---- the transport ---- */

static enum mr_status op_open(struct mr_redis_transport *transport, const char *host, uint16_t port,
                              struct mr_redis_connection **ret, struct mr_error *error) {
    struct virtual_redis *v = (struct virtual_redis *)transport;
    uint32_t server = 0;
    while (server < v->server_count && (port != 6379 || strcmp(v->servers[server].host, host) != 0)) {
        server++;
    }
    if (server == v->server_count) {
        return mr_error_set(error, MR_INVALID, "%s:%u: no such name", host, port);
    }
    struct virtual_connection *c = virtual_redis_need(calloc(1, sizeof *c));
    c->connection.transport = transport;
    c->v = v;
    c->server = server;
    c->commands_end = &c->commands;
    c->answers_end = &c->answers;
    (void)arrival_ns(c, now_of(v)); /* the connection is made first */
    c->next = v->connections;
    v->connections = c;
    v->open++;
    if (!v->servers[server].up) {
        virtual_redis_break(c, "connection refused");
    }
    *ret = &c->connection;
    return MR_OK;
}

static enum mr_status op_send(struct mr_redis_connection *connection, const struct mr_bytes *argv,
                              uint32_t argc) {
    struct virtual_connection *c = of(connection);
    if (c->broken) {
        return MR_OK; /* dropped */
    }
    size_t size = 0;
    for (uint32_t i = 0; i < argc; i++) {
        size += argv[i].len;
    }
    struct virtual_command *command =
        virtual_redis_need(malloc(sizeof *command + argc * sizeof *argv + size + 1));
    uint8_t *at = (uint8_t *)&command->argv[argc];
    command->next = NULL;
    command->argc = argc;
    command->number = c->v->number++;
    command->arrives_ns = arrival_ns(c, now_of(c->v));
    for (uint32_t i = 0; i < argc; i++) {
        if (argv[i].len > 0) {
            memcpy(at, argv[i].ptr, argv[i].len);
        }
        command->argv[i] = mr_bytes_of(at, argv[i].len);
        at += argv[i].len;
    }
    *c->commands_end = command;
    c->commands_end = &command->next;
    return MR_OK;
}

static void drop_taken(struct virtual_connection *c) {
    free_answer(c->taken);
    c->taken = NULL;
}

static enum mr_status op_step(struct mr_redis_connection *connection, struct mr_error *error) {
    struct virtual_connection *c = of(connection);
    struct virtual_redis *v = c->v;
    drop_taken(c);
    run(v);
    uint64_t now_ns = now_of(v);
    bool moved = false;
    for (struct virtual_answer *a = c->answers; a != NULL && a->arrives_ns <= now_ns; a = a->next) {
        moved |= !a->told;
        a->told = true;
    }
    if (c->broken && c->answers == NULL) {
        return mr_error_set(error, MR_IO, "%s: %s", v->servers[c->server].address, c->trouble);
    }
    return moved ? MR_OK : MR_AGAIN;
}

static bool op_next(struct mr_redis_connection *connection, struct mr_redis_reply *ret) {
    struct virtual_connection *c = of(connection);
    drop_taken(c);
    struct virtual_answer *a = c->answers;
    if (a == NULL || a->arrives_ns > now_of(c->v)) {
        return false;
    }
    c->answers = a->next;
    if (c->answers == NULL) {
        c->answers_end = &c->answers;
    }
    c->taken = a;
    *ret = a->reply;
    return true;
}

/* Of what was sent, some has left this machine and will be executed. */
static void op_close(struct mr_redis_connection *connection) {
    struct virtual_connection *c = of(connection);
    struct virtual_redis *v = c->v;
    v->open--;
    c->alone = true;
    struct virtual_command **at = &c->commands;
    while (*at != NULL && virtual_redis_below(v, 8) != 0) {
        at = &(*at)->next;
    }
    while (*at != NULL) {
        struct virtual_command *command = *at;
        *at = command->next;
        free(command);
    }
    c->commands_end = at;
    drop_taken(c);
    drop_answers(c);
    if (c->commands == NULL || c->broken) {
        unlink_connection(v, c);
    }
}

/* Until something arrives. */
static void op_wait(struct mr_redis_transport *transport, uint64_t timeout_ns) {
    struct virtual_redis *v = (struct virtual_redis *)transport;
    run(v); /* also what nobody steps for any more */
    uint64_t now_ns = now_of(v);
    uint64_t until_ns = now_ns + timeout_ns;
    for (const struct virtual_connection *c = v->connections; c != NULL; c = c->next) {
        uint64_t command_ns = c->commands != NULL && !v->servers[c->server].hangs ? c->commands->arrives_ns
                                                                                   : UINT64_MAX;
        uint64_t answer_ns = c->answers != NULL ? c->answers->arrives_ns : UINT64_MAX;
        uint64_t broken_ns = c->broken && !c->alone ? now_ns : UINT64_MAX;
        until_ns = command_ns < until_ns ? command_ns : until_ns;
        until_ns = answer_ns < until_ns ? answer_ns : until_ns;
        until_ns = broken_ns < until_ns ? broken_ns : until_ns;
    }
    if (v->options.pass != NULL && until_ns > now_ns) {
        v->options.pass(v->options.pass_ctx, until_ns - now_ns);
    }
}

static void op_finish(struct mr_redis_transport *transport) {
    (void)transport; /* virtual_redis_close does */
}

/* ---- opening ---- */

void virtual_redis_new_id(struct virtual_redis *v, char ret[VIRTUAL_HEX_MAX]) {
    for (int i = 0; i < VIRTUAL_HEX_MAX - 1; i++) {
        ret[i] = "0123456789abcdef"[virtual_redis_below(v, 16)];
    }
    ret[VIRTUAL_HEX_MAX - 1] = '\0';
}

static void init_server(struct virtual_redis *v, uint32_t i) {
    struct virtual_server *s = &v->servers[i];
    (void)snprintf(s->host, sizeof s->host, "10.0.%u.%u", i / 250, i % 250 + 1);
    (void)snprintf(s->address, sizeof s->address, "10.0.%u.%u:6379", i / 250, i % 250 + 1);
    (void)snprintf(s->policy, sizeof s->policy, "noeviction");
    (void)snprintf(s->appendonly, sizeof s->appendonly, "yes");
    (void)snprintf(s->appendfsync, sizeof s->appendfsync, "always");
    (void)snprintf(s->maxmemory, sizeof s->maxmemory, "0");
    s->up = true;
    s->is_replica = i >= (v->options.masters == 0 ? 1 : v->options.masters);
    virtual_redis_new_id(v, s->run_id);
    virtual_redis_new_id(v, s->replication_id);
}

struct virtual_redis *virtual_redis_open(const struct virtual_redis_options *options) {
    static const struct mr_redis_transport_ops ops = {
        .open = op_open,
        .send = op_send,
        .step = op_step,
        .next = op_next,
        .close = op_close,
        .wait = op_wait,
        .finish = op_finish,
    };
    struct virtual_redis *v = virtual_redis_need(calloc(1, sizeof *v));
    v->transport.ops = &ops;
    v->options = *options;
    v->random = options->seed;
    v->server_count = options->servers == 0 ? 1 : options->servers;
    MR_ASSERT(options->masters <= v->server_count && v->server_count < VIRTUAL_SLOT_STAYS);
    v->servers = virtual_redis_need(calloc(v->server_count, sizeof *v->servers));
    for (uint32_t i = 0; i < v->server_count; i++) {
        init_server(v, i);
    }
    memset(v->slot_to, VIRTUAL_SLOT_STAYS, sizeof v->slot_to);
    for (uint32_t slot = 0; slot < MR_REDIS_SLOTS && options->masters > 0; slot++) {
        v->slot_server[slot] = (uint8_t)(slot * options->masters / MR_REDIS_SLOTS);
    }
    return v;
}

void virtual_redis_close(struct virtual_redis *v) {
    if (v == NULL) {
        return;
    }
    MR_ASSERT(v->open == 0);
    while (v->connections != NULL) {
        unlink_connection(v, v->connections);
    }
    for (uint32_t i = 0; i < v->server_count; i++) {
        virtual_store_finish(&v->servers[i].store);
    }
    for (uint32_t i = 0; i < v->script_count; i++) {
        free(v->scripts[i].text);
    }
    free(v->servers);
    free(v);
}

struct mr_redis_transport *virtual_redis_transport(struct virtual_redis *v) {
    return &v->transport;
}

/* ---- looking ---- */

const char *virtual_redis_address(const struct virtual_redis *v, uint32_t server) {
    MR_ASSERT(server < v->server_count);
    return v->servers[server].address;
}

uint32_t virtual_redis_servers(const struct virtual_redis *v) {
    return v->server_count;
}

void virtual_redis_watch(struct virtual_redis *v, virtual_redis_witness_fn *fn, void *ctx) {
    v->witness = fn;
    v->witness_ctx = ctx;
}

uint64_t virtual_redis_probe(const struct virtual_redis *v, enum virtual_redis_probe probe) {
    return v->probes[probe];
}

uint64_t virtual_redis_hash(const struct virtual_redis *v) {
    return v->hash;
}

uint64_t virtual_redis_keys(const struct virtual_redis *v, uint32_t server) {
    return v->servers[server].store.keys.count;
}

static struct virtual_entry *look(struct virtual_redis *v, uint32_t server, struct mr_bytes key) {
    return virtual_store_find(&v->servers[server].store, key, mr_clock_wall_ms(v->options.clock));
}

bool virtual_redis_peek(struct virtual_redis *v, uint32_t server, struct mr_bytes key, struct mr_bytes *ret) {
    struct virtual_entry *e = look(v, server, key);
    if (e == NULL || e->fields != NULL) {
        return false;
    }
    *ret = e->value;
    return true;
}

bool virtual_redis_peek_field(struct virtual_redis *v, uint32_t server, struct mr_bytes key, struct mr_bytes field,
                              struct mr_bytes *ret) {
    struct virtual_entry *e = look(v, server, key);
    struct virtual_entry *found = e == NULL ? NULL : virtual_store_field(e, field);
    if (found == NULL) {
        return false;
    }
    *ret = found->value;
    return true;
}
