/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Claims world: some nodes with a log of records each, whose ids they claim in one virtual Redis in virtual time.
 *
 * Idea        A node does what a pipeline does: puts the records of its log in order, remembers verdicts as they come and
 *             the epoch, asserts what it has won when its watch wants it, and after a crash puts again whatever has no
 *             verdict. In the end each id of a stream must belong to exactly one record of all nodes, and Redis must
 *             name that one.
 * Records     lsn is unique over all nodes, so that the owner's token says which record it is. Their recorded times lie
 *             within one horizon, and over the end of a generation.
 */
#include "dedup/claims.h"
#include "tests/redis/claims_script.h"
#include "tests/redis/virtual_time.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum {
    CLAIMS_NODES_MAX = 4,
    CLAIMS_RECORDS_MAX = 400,
    CLAIMS_SERVERS_MAX = 8,
    CLAIMS_STREAMS = 2, /* 0: bucket, 1: key */
    CLAIMS_IDS_MAX = 6000,
};

#define CLAIMS_HORIZON_MS INT64_C(3600000)

struct claims_record {
    struct mr_claim claim;
    struct mr_claim assertion;
    struct mr_fingerprint *ids;
    uint32_t *numbers; /* of the ids */
    uint32_t *order;   /* of the assertion: those that it won, in outcomes */
    uint32_t *won;
    uint8_t *outcomes;
    uint8_t *kept; /* outcomes of the assertion */
    bool put;
    bool decided;
    bool asserting;
};

struct claims_node {
    char name[16];
    struct mr_claims *claims; /* NULL: it is down */
    struct mr_epoch epoch;
    int64_t recorded_ms;
    uint64_t lives;
    uint64_t need;      /* what is being asserted; 0: nothing */
    uint32_t asserted;  /* records put so far */
    uint32_t asserting; /* under way */
    uint32_t stale;     /* of them, of an older need */
    uint32_t count;
    uint32_t next_put;     /* records before it are put */
    uint32_t next_decided; /* or come back in this order */
    struct claims_record records[CLAIMS_RECORDS_MAX];
};

struct claims_options {
    uint64_t seed;
    uint32_t nodes;
    uint32_t masters;   /* 0: one server, no cluster */
    uint64_t bytes_max; /* 0: 1 MiB */
    uint32_t pool;      /* ids there are, of each stream */
    bool only_buckets;  /* no canaries of slots, which take time */
    bool assume_strict;
    uint64_t incarnation;
};

struct claims_world {
    struct claims_options options;
    struct virtual_time time;
    struct virtual_redis *v;
    uint64_t random;
    uint64_t steps;
    uint64_t lsn;
    uint32_t node_count;
    struct claims_node nodes[CLAIMS_NODES_MAX];
};

struct claims_world *claims_open(const struct claims_options *options);
void claims_close(struct claims_world *world);
uint64_t claims_below(struct claims_world *world, uint64_t bound);

void claims_start(struct claims_world *world, uint32_t node);
void claims_crash(struct claims_world *world, uint32_t node);
enum mr_status claims_try_start(struct claims_world *world, uint32_t node);

/* A new record, not put yet. numbers: of ids in the pool. */
struct claims_record *claims_record(struct claims_world *world, uint32_t node, uint32_t stream,
                                    const uint32_t *numbers, uint32_t count);
struct claims_record *claims_random_record(struct claims_world *world, uint32_t node);
/* One step: puts what may be put, steps, takes what is decided, asserts. */
bool claims_step(struct claims_world *world, uint32_t node);
/* All nodes for so long. */
void claims_run(struct claims_world *world, uint64_t ms);
/* Until all is decided, or the test fails. */
void claims_finish(struct claims_world *world);
void claims_until_strict(struct claims_world *world);
/* All undecided claims come back, in order; they are put again by the steps to come. */
void claims_withdraw(struct claims_world *world, uint32_t node);
/* The one rule; all is decided. */
void claims_check(struct claims_world *world);
/* The slot of an id's claim. */
uint32_t claims_slot(uint32_t stream, uint32_t number);
/* A command by somebody's hand. */
void claims_send(struct claims_world *world, uint32_t server, const struct mr_bytes *argv,
                 uint32_t argc);
void claims_command(struct claims_world *world, uint32_t server, const char *a, const char *b,
                    const char *c, const char *d);
struct mr_fingerprint claims_fp(uint32_t stream, uint32_t number);

/* Short forms: a strict world of one server; a record of up to three ids; what became of it. */
struct claims_world *claims_open_one(uint32_t nodes);
struct claims_record *claims_record_of(struct claims_world *world, uint32_t node, uint32_t stream,
                                       uint32_t count, uint32_t a, uint32_t b, uint32_t c);
void claims_expect(const struct claims_record *record, enum mr_claim_outcome a,
                   enum mr_claim_outcome b, enum mr_claim_outcome c);
struct mr_claims_stats claims_stats_of(const struct claims_world *world, uint32_t node);
