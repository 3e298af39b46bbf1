/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Rig: a client over a virtual Redis in virtual time, with a record of every command: what was sent, what was executed,
 * what was answered.
 *
 * Idea        Every command is the script "echo", whose reply is the command's own tag: a late reply that answers
 *             another command is seen at once. The server's record says whether it was executed.
 */
#include "net/redis.h"
#include "tests/redis/virtual_redis.h"
#include "tests/redis/virtual_time.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { RIG_TAGS_MAX = 20000, RIG_NODES_MAX = 16 };

struct rig_command {
    uint32_t sent;
    uint32_t answered;
    uint32_t executed;
    enum mr_redis_outcome outcome;
    uint32_t node;
    uint64_t session;
    uint32_t key; /* which slot's */
};

struct rig {
    struct virtual_time time;
    struct virtual_redis *v;
    struct mr_redis *redis;
    uint64_t random;
    uint64_t steps;
    uint32_t tags; /* given so far */
    struct rig_command commands[RIG_TAGS_MAX];
    uint32_t queue[RIG_NODES_MAX][RIG_TAGS_MAX]; /* per node: sent, in order */
    uint32_t queue_from[RIG_NODES_MAX];
    uint32_t queue_to[RIG_NODES_MAX];
    uint64_t outcomes[MR_REDIS_UNKNOWN + 1];
};

struct rig_options {
    uint64_t seed;
    uint32_t servers;
    uint32_t masters; /* 0: no cluster */
    const char *user;
    const char *password;
    uint64_t bytes_max; /* 0: 1 MiB */
};

#define RIG_TIMEOUT_NS UINT64_C(500000000)
#define RIG_RETRY_MIN_NS UINT64_C(10000000)
#define RIG_RETRY_MAX_NS UINT64_C(1000000000)

struct rig *rig_open(const struct rig_options *options);
void rig_close(struct rig *rig);
uint64_t rig_below(struct rig *rig, uint64_t bound);

/* The options that rig_open opens the client with; the addresses are those of all servers. */
void rig_client_options(struct rig *rig, const struct rig_options *options, struct mr_redis_options *ret,
                        struct mr_bytes addresses[RIG_NODES_MAX]);

/* Sends the echo of a new tag about a key ("k17", its slot's node or the one given); false: it was not taken. */
bool rig_send(struct rig *rig, uint32_t key);
bool rig_send_to(struct rig *rig, uint32_t node, uint32_t key, bool asking);
/* One step of the client and all answers, checked against the record. An ASK is followed. Returns whether anything
 * moved. */
bool rig_step(struct rig *rig);
/* Steps for so long without taking an answer, as a busy caller does. */
void rig_doze(struct rig *rig, uint64_t ns);
/* Steps and waits until so much time has passed. */
void rig_run(struct rig *rig, uint64_t ns);
/* Until the client is up and nothing is unanswered; fails the test after a minute. */
void rig_settle(struct rig *rig);
uint32_t rig_slot(uint32_t key);
/* Every command sent was answered once, and executed as the outcome says. */
void rig_check_all(const struct rig *rig);
