/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Watch world: some nodes, each with a client, a watch and a log of records, over one virtual Redis in virtual time.
 *
 * Idea        A node claims the ids of its records as dedup/claims.h says: only while its watch is STRICT, by a script
 *             that reads the canary in the same step, and an answer counts only in the turn the claim was sent in. It
 *             remembers its watch's epoch before that. So whether the watch is right shows in the only thing that matters:
 *             an id that was counted twice, or by nobody.
 * Crash       A node goes with client and watch; its records and the epoch stay, as its data directory would.
 */
#include "dedup/watch.h"
#include "tests/redis/virtual_redis.h"
#include "tests/redis/virtual_time.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum {
    WORLD_NODES_MAX = 4,
    WORLD_RECORDS_MAX = 800,
    WORLD_TAGS_MAX = 512,
    WORLD_IDS_MAX = 1024,
    WORLD_SERVERS_MAX = 8
};

#define WORLD_TIMEOUT_NS UINT64_C(500000000)

struct world_record {
    uint32_t id;
    uint64_t token;
    enum { WORLD_PENDING, WORLD_COUNTED, WORLD_DUPLICATE } verdict;
    int64_t decided_ms;
    bool under_way;
    uint64_t turn;          /* of the watch, when it was sent */
    uint64_t asserted_need; /* the last need it was asserted for */
};

struct world;

struct world_node {
    struct world *world;
    uint32_t number;
    char name[16];
    char field[32];         /* "asserted:<name>" */
    struct mr_redis *redis; /* NULL: it is down */
    struct mr_watch *watch;
    uint64_t life;    /* how often it was started */
    uint64_t down_ns; /* since when, while down */
    uint64_t token;
    struct mr_epoch remembered;
    struct mr_epoch
        asserted; /* the epoch of the store when it last said that it had asserted everything */
    uint64_t need;
    bool idle;        /* makes no records */
    bool keeps_quiet; /* does not assert */
    uint32_t under_way;
    uint32_t count;
    struct world_record records[WORLD_RECORDS_MAX];
};

struct world_options {
    uint64_t seed;
    uint32_t nodes;
    uint32_t servers; /* 0: one */
    uint32_t masters; /* 0: no cluster */
    uint32_t tags;    /* 0: 60 */
    bool assume_strict;
    int64_t recent_ms; /* 0: 10000 */
    const char *shape; /* NULL: "orders:bucket:1d" */
};

struct world {
    struct world_options options;
    struct virtual_time time;
    struct virtual_redis *v;
    uint64_t random;
    uint32_t node_count;
    struct world_node nodes[WORLD_NODES_MAX];
    uint32_t tag_count;
    char tag_texts[WORLD_TAGS_MAX][24];
    struct mr_bytes tags[WORLD_TAGS_MAX];
    char canaries[WORLD_TAGS_MAX][32]; /* keys */
    uint32_t slots[WORLD_TAGS_MAX];
    uint32_t store_slot;
    uint32_t ids;                    /* handed out so far */
    uint32_t counted[WORLD_IDS_MAX]; /* by how many records */
    uint32_t twice;                  /* ids */
    uint64_t missing_ns
        [WORLD_NODES_MAX]; /* since when a STRICT node's epoch has a canary missing; 0: it has none */
    uint64_t states[MR_WATCH_STRICT + 1]; /* steps that ended in each */
    struct mr_epoch strict;               /* the epoch that somebody was STRICT in last */
    bool known[WORLD_NODES_MAX];          /* nodes that have been STRICT */
};

struct world *world_open(const struct world_options *options);
void world_close(struct world *world);
uint64_t world_below(struct world *world, uint64_t bound);

struct mr_redis *world_client(struct world *world, const char *name, uint64_t seed);
/* The options that a node's watch is opened with. */
void world_watch_options(struct world_node *node, struct mr_watch_options *ret);
void world_start(struct world *world, uint32_t node);
void world_crash(struct world *world, uint32_t node);
/* One step of a node: client, answers, watch; claims and assertions. */
bool world_step_node(struct world *world, uint32_t node);
/* Everything for so long, in small steps. */
void world_run(struct world *world, uint64_t ms);
/* Until the node's watch is in this state; fails the test after a while, with the reason. Returns how many ms it took. */
uint64_t world_until(struct world *world, uint32_t node, enum mr_watch_state state);
uint64_t world_until_all(struct world *world, enum mr_watch_state state);
void world_expect(struct world *world, uint32_t node, enum mr_watch_state state,
                  const char *reason_part);

/* A new record: of a new id, or of one there has been. */
void world_record(struct world *world, uint32_t node);
/* All are decided, every id was counted once. */
void world_check_counts(struct world *world);

/* The server of the store's key; of a tag. */
uint32_t world_store_server(struct world *world);
uint32_t world_tag_server(struct world *world, uint32_t tag);
bool world_canary_is(struct world *world, uint32_t tag, const struct mr_epoch *epoch);
/* A command by somebody's hand on a server. */
void world_command(struct world *world, uint32_t server, const char *const *argv, uint32_t argc);
