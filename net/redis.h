/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redis: a client of one Redis server, or of a Redis Cluster: who serves which slot, one pipeline to each of them, and
 * what became of every command.
 *
 *      send(slot's node) ─▶ [ pipeline: commands sent, not answered ] ─▶ step ─▶ next: answer, by tag
 *                              one for each server, in order
 *
 * Idea        The client repeats nothing by itself: it says what is known of a command's outcome, and the caller, who
 *             knows whether repeating it is right, sends it again. So nothing is kept of a command but its tag.
 *             MOVED, ASK, a server that went away and one that came back only change where the next send goes.
 * Words       A node is a server of the store (a master of the cluster, or the one server). Its number stays while it is
 *             known. A session is one connection to it, logged in; each has another number, never 0, over all nodes:
 *             whoever checked a server once checks again when the session is another.
 * Time        A connection that owes a reply and has brought none for timeout_ns, or which is not up after that, is closed
 *             (a late reply must not answer another command); then it is opened again after retry_min_ns, twice as
 *             long each time up to retry_max_ns, with half of it drawn at random, so that clients do not come
 *             back all at once. The slot map is read at connect, when a MOVED or an unreachable node says that it is
 *             old (not more often than retry_min_ns), and every minute.
 * Cluster     The map comes from CLUSTER SLOTS of any node known, the configured ones first and last: when all known
 *             ones are gone, they are tried again. Masters only: replicas are never asked.
 * Owner       One thread.
 * Errors      open: MR_NO_MEMORY, MR_INVALID with a text. Everything later is an answer's outcome, or the text of a node.
 */
#include "base/clock.h"
#include "net/redis_transport.h"

#define MR_REDIS_SLOTS 16384
#define MR_REDIS_NODES_MAX 128
#define MR_REDIS_ADDRESS_MAX 264 /* "host:port", "[v6]:port" */
#define MR_REDIS_NO_NODE UINT32_MAX

struct mr_redis;

struct mr_redis_options {
    struct mr_redis_transport *transport;
    struct mr_clock *clock;
    const struct mr_bytes *addresses; /* "host:port"; without cluster exactly one */
    uint32_t address_count;
    bool cluster;
    struct mr_bytes user; /* empty: the default user */
    struct mr_bytes password; /* empty: no AUTH */
    struct mr_bytes name; /* CLIENT SETNAME, so that operators see who it is; empty: none */
    uint64_t timeout_ns;
    uint64_t retry_min_ns;
    uint64_t retry_max_ns;
    uint64_t bytes_max; /* of commands to a node that are not answered yet: over it send says MR_AGAIN */
    uint64_t seed;
};

/* The strings are copied; nothing is connected yet. */
enum mr_status mr_redis_open(const struct mr_redis_options *options, struct mr_redis **ret,
                             struct mr_error *error) MR_MUST_CHECK;
void mr_redis_close(struct mr_redis *redis); /* NULL is fine; commands under way get no answer */

/* "host:port" or "[v6]:port" or "host" (6379). */
enum mr_status mr_redis_address_parse(struct mr_bytes text, char host[MR_REDIS_ADDRESS_MAX], uint16_t *ret_port,
                                      struct mr_error *error) MR_MUST_CHECK;
/* CRC16 of the key, or of what stands between its first { and the } behind it. */
uint32_t mr_redis_slot(struct mr_bytes key);

/* Connects, logs in, sends, reads, gives up on what is overdue; waits for nothing. Returns whether anything moved. */
bool mr_redis_step(struct mr_redis *redis);
/* Until a step may move something or timeout_ns has passed. */
void mr_redis_wait(struct mr_redis *redis, uint64_t timeout_ns);

struct mr_redis_node {
    const char *address;
    uint64_t session;  /* 0: not connected */
    uint64_t unanswered_bytes;
    uint32_t unanswered; /* commands */
    uint32_t slots;      /* that it serves, as far as known */
    const char *trouble; /* why it is not connected, or what last broke; "": nothing yet */
};

uint32_t mr_redis_nodes(const struct mr_redis *redis);
/* Texts are valid until the next step. */
void mr_redis_node(const struct mr_redis *redis, uint32_t node, struct mr_redis_node *ret);
/* Every slot has a node, and every node that has one is connected. */
bool mr_redis_is_up(const struct mr_redis *redis);
/* Who serves the slot; MR_REDIS_NO_NODE: nobody known now. Without cluster always 0. */
uint32_t mr_redis_node_of(const struct mr_redis *redis, uint32_t slot);
/* A number that changes whenever a slot may have gone to another node. */
uint64_t mr_redis_map_version(const struct mr_redis *redis);
/* Why the slot map could not be read the last time; "": it could. Valid until the next step. */
const char *mr_redis_map_trouble(const struct mr_redis *redis);

struct mr_redis_command {
    const struct mr_bytes *argv;
    uint32_t argc;
    uint64_t tag;
    bool asking; /* an ASK said so: ASKING goes before it */
};

/* Copies the command to the node's pipeline. MR_AGAIN: not connected, or full: later. MR_NO_MEMORY: nothing was sent. */
enum mr_status mr_redis_send(struct mr_redis *redis, uint32_t node,
                             const struct mr_redis_command *command) MR_MUST_CHECK;

enum mr_redis_outcome {
    MR_REDIS_ANSWERED, /* reply is the command's */
    MR_REDIS_MOVED,    /* not executed; the map is set right: send it again by slot */
    MR_REDIS_ASKED,    /* not executed; send it again to `node_asked` with asking, this once */
    MR_REDIS_LATER,    /* not executed, and will be another time: TRYAGAIN, LOADING, CLUSTERDOWN, MASTERDOWN, READONLY (the
                        * map is read again), BUSY, NOREPLICAS; text says which */
    MR_REDIS_REFUSED,  /* not executed, for a reason that somebody must set right: OOM, MISCONF, NOPERM, NOAUTH, and any
                        * other error; text says which. NOSCRIPT too. (Of a script that fails halfway, what it did stays.) */
    MR_REDIS_UNKNOWN,  /* the connection went before the reply came: executed or not */
};

struct mr_redis_answer {
    uint64_t tag;
    uint32_t node;
    uint64_t session; /* of the connection it was sent on */
    enum mr_redis_outcome outcome;
    struct mr_redis_reply reply; /* ANSWERED, LATER and REFUSED; valid until the next call of next or step */
    uint32_t node_asked;         /* ASKED */
};

/* The next answer; of each node in the order sent. Every command sent gets one. false: none now. */
bool mr_redis_next(struct mr_redis *redis, struct mr_redis_answer *ret);

struct mr_redis_stats {
    uint64_t commands;
    uint64_t bytes_out;
    uint64_t connects;
    uint64_t failures; /* connections that broke */
    uint64_t timeouts; /* of them, because of a reply that did not come */
    uint64_t moved;
    uint64_t asked;
    uint64_t later;
    uint64_t refused;
    uint64_t map_reads;
};
void mr_redis_stats(const struct mr_redis *redis, struct mr_redis_stats *ret);
void mr_redis_check(const struct mr_redis *redis);
