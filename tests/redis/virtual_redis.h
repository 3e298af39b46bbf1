/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Virtual Redis: one or several servers in memory behind a mr_redis_transport, which answer late, break, forget, fail
 * over and move slots about, from a seed.
 *
 * Idea        A command travels, is executed, and its reply travels back; each way takes half of the delay. Whatever
 *             breaks the connection in between decides whether the command was executed, and the client cannot tell.
 *
 *                 send ──delay/2──▶ executed ──delay/2──▶ next
 *                        │                     │
 *                     cut before            cut after: the reply is lost
 *
 * Servers     virtual_redis_address(v, i): "10.0.0.1:6379", "10.0.0.2:6379" … In a cluster the first `masters` share the
 *             slots evenly; the others are spare: replicas to take over, or masters to be. The own host in CLUSTER
 *             SLOTS is at random the address, "", "?" or nil, as servers do that do not know it.
 * Commands    PING AUTH CLIENT SELECT TIME INFO CONFIG FLUSHALL WAIT CLUSTER(SLOTS) ASKING SCRIPT(LOAD, EXISTS, FLUSH)
 *             EVAL EVALSHA, SET(NX XX GET PX EX KEEPTTL) GET DEL UNLINK EXISTS PEXPIRE PTTL DBSIZE TYPE,
 *             HSET HSETNX HGET HMGET HGETALL HDEL HLEN HEXISTS. Anything else is an unknown command.
 * Scripts     Are C functions: registered by the text they begin with, or by their SHA1.
 * Time        That of the clock given. Nothing happens but in calls of the transport. wait calls `pass`.
 * Owner       The opener. Connections must be closed before it.
 * Threads     One. Same seed and same calls, same replies and same hash.
 * Memory      Straight from malloc, so that an injected failure of base/alloc hits the code under test.
 */
#include "base/clock.h"
#include "net/redis_transport.h"

struct virtual_redis;

struct virtual_redis_options {
    uint64_t seed;
    struct mr_clock *clock;
    void (*pass)(void *ctx, uint64_t ns); /* lets time pass in wait; NULL: wait does nothing */
    void *pass_ctx;
    uint32_t servers;     /* 0: one */
    uint32_t masters;     /* of a cluster; 0: no cluster */
    const char *user;     /* NULL: the default user */
    const char *password; /* NULL: none is asked for */
};

/* Never NULL: out of memory ends the test. */
struct virtual_redis *virtual_redis_open(const struct virtual_redis_options *options);
void virtual_redis_close(struct virtual_redis *v); /* NULL is fine */
/* finish of it does nothing. */
struct mr_redis_transport *virtual_redis_transport(struct virtual_redis *v);
const char *virtual_redis_address(const struct virtual_redis *v, uint32_t server);
uint32_t virtual_redis_servers(const struct virtual_redis *v);

/* ---- scripts ---- */

/* What a script gets; its keys have passed the check of slots. */
struct virtual_redis_call {
    struct virtual_redis *redis;
    uint32_t server;
    int64_t now_ms;
    const struct mr_bytes *keys;
    uint32_t key_count;
    const struct mr_bytes *args;
    uint32_t arg_count;
    struct virtual_memory *memory; /* of the reply */
};

/* *ret is nil at first. */
typedef void virtual_redis_script_fn(void *ctx, struct virtual_redis_call *call, struct mr_redis_reply *ret);

/* text: what the script's text begins with, or its SHA1 in 40 hexadecimal digits. */
void virtual_redis_script(struct virtual_redis *v, const char *text, virtual_redis_script_fn *fn, void *ctx);
/* redis.pcall: another command, executed within the script. The reply lives as long as the script's own. */
struct mr_redis_reply virtual_redis_do(struct virtual_redis_call *call, const struct mr_bytes *argv,
                                       uint32_t argc);
/* Past the commands, for scripts over thousands of fields: what HGET and HSET would do. */
bool virtual_redis_hget(struct virtual_redis_call *call, struct mr_bytes key, struct mr_bytes field,
                        struct mr_bytes *ret); /* until the next change */
void virtual_redis_hset(struct virtual_redis_call *call, struct mr_bytes key, struct mr_bytes field,
                        struct mr_bytes value);
/* Replies. text: a copy of the bytes, of the type given. list: `count` items, nil until they are set. */
void virtual_redis_reply_text(struct virtual_redis_call *call, struct mr_redis_reply *ret,
                              enum mr_redis_reply_type type, struct mr_bytes text);
struct mr_redis_reply *virtual_redis_reply_list(struct virtual_redis_call *call, struct mr_redis_reply *ret,
                                                uint32_t count);
void virtual_redis_sha1(struct mr_bytes text, char ret_hex[41]);

/* ---- faults ---- */

/* From now on; at first 0. */
void virtual_redis_set_delay(struct virtual_redis *v, uint32_t server, uint64_t min_ns, uint64_t max_ns);
/* The nth command from now (1: the next) is not executed, or executed but not answered; its connection breaks. */
void virtual_redis_cut_before(struct virtual_redis *v, uint32_t server, uint32_t nth);
void virtual_redis_cut_after(struct virtual_redis *v, uint32_t server, uint32_t nth);
void virtual_redis_cut_all(struct virtual_redis *v, uint32_t server); /* connections, now */
/* The next n commands but PING, AUTH, CLIENT and ASKING are not executed, and answered with the failure:
 * "OOM command not allowed", "TRYAGAIN", … It must be a literal. */
void virtual_redis_answer(struct virtual_redis *v, uint32_t server, const char *failure, uint32_t n);
/* Accepts, but neither executes nor answers until it is switched off: then it executes what came, though the
 * client may be gone. */
void virtual_redis_hang(struct virtual_redis *v, uint32_t server, bool on);

/* The process ends; connecting is refused. up: another run_id, no scripts. */
void virtual_redis_down(struct virtual_redis *v, uint32_t server);
enum virtual_redis_data { VIRTUAL_REDIS_KEPT, VIRTUAL_REDIS_EMPTY };
void virtual_redis_up(struct virtual_redis *v, uint32_t server, enum virtual_redis_data data);
bool virtual_redis_is_up(const struct virtual_redis *v, uint32_t server);
/* Its replica, which lagged by so many writing commands, takes its place at the same address. */
void virtual_redis_fail_over(struct virtual_redis *v, uint32_t server, uint32_t lost_writes);
/* `to`, which served no slot, gets the data but the last writes, and the slots; `from` is its replica from now on. */
void virtual_redis_take_over(struct virtual_redis *v, uint32_t from, uint32_t to, uint32_t lost_writes);
void virtual_redis_flush(struct virtual_redis *v, uint32_t server);
/* Evicts up to n keys, as maxmemory-policy allkeys-… does: without a word but in evicted_keys. */
void virtual_redis_evict(struct virtual_redis *v, uint32_t server, uint32_t n);

/* A slot moves: begun, up to n keys carried over (returns how many), ended (with all that are left). */
void virtual_redis_migrate_begin(struct virtual_redis *v, uint32_t slot, uint32_t to);
uint32_t virtual_redis_migrate_keys(struct virtual_redis *v, uint32_t slot, uint32_t n);
void virtual_redis_migrate_end(struct virtual_redis *v, uint32_t slot);
uint32_t virtual_redis_master_of(const struct virtual_redis *v, uint32_t slot);

/* One of the above, drawn from the seed; some undo an earlier one. With `harmless` none that loses data. */
void virtual_redis_fault(struct virtual_redis *v, bool harmless);
/* No delays, all servers up and answering, migrations ended. */
void virtual_redis_heal(struct virtual_redis *v);

/* ---- looking ---- */

/* Called after each command that was executed, with its reply; not for those refused. */
typedef void virtual_redis_witness_fn(void *ctx, uint32_t server, const struct mr_bytes *argv, uint32_t argc,
                                      const struct mr_redis_reply *reply);
void virtual_redis_watch(struct virtual_redis *v, virtual_redis_witness_fn *fn, void *ctx);
/* Past the commands: a string, or a hash's field, of the server now; false: there is none. */
bool virtual_redis_peek(struct virtual_redis *v, uint32_t server, struct mr_bytes key, struct mr_bytes *ret);
bool virtual_redis_peek_field(struct virtual_redis *v, uint32_t server, struct mr_bytes key, struct mr_bytes field,
                              struct mr_bytes *ret);
uint64_t virtual_redis_keys(const struct virtual_redis *v, uint32_t server);

#define VIRTUAL_REDIS_PROBES(X)                                                                                \
    X(EXECUTED, "a command was executed")                                                                      \
    X(CUT_BEFORE, "a connection broke before the command was executed")                                        \
    X(CUT_AFTER, "a connection broke after the command was executed")                                          \
    X(EXECUTED_ALONE, "a command was executed whose client was gone")                                          \
    X(WRITE_LOST, "a write was lost in a failover")                                                            \
    X(DATA_LOST, "a server came back empty")                                                                   \
    X(MOVED, "MOVED was answered")                                                                             \
    X(ASK, "ASK was answered")                                                                                 \
    X(TRYAGAIN, "TRYAGAIN was answered by a slot that moved")                                                  \
    X(FAILED, "a failure was answered that a test ordered")                                                    \
    X(NOSCRIPT, "a script was not known")                                                                      \
    X(EVICTED, "a key was evicted")

enum virtual_redis_probe {
#define X(name, text) VIRTUAL_REDIS_PROBE_##name,
    VIRTUAL_REDIS_PROBES(X)
#undef X
        VIRTUAL_REDIS_PROBE_COUNT
};

uint64_t virtual_redis_probe(const struct virtual_redis *v, enum virtual_redis_probe probe);
/* Of all commands executed and their replies so far. */
uint64_t virtual_redis_hash(const struct virtual_redis *v);
