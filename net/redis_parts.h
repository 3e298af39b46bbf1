/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redis parts: what the files of the client share: a link is a connection with its log-in and its patience, a node
 * has a link and the tags of what is unanswered on it, the map says which node serves a slot.
 *
 *      redis.c    open, step, wait, send, next ─┬─▶ redis_node.c   tags, outcomes ──┬─▶ redis_link.c
 *                                               └─▶ redis_map.c    slots, scout ────┘   connect, log in, back off
 *
 * Idea        The map is read over a connection of its own, the scout's, which is closed afterwards: it does not stand
 *             behind a full pipeline or a node that hangs, and a configured address may be a replica's.
 */
#include "base/arena.h"
#include "base/check.h"
#include "net/redis.h"
#include "net/redis_slots.h"

#define MR_REDIS_TROUBLE_MAX 256

enum mr_redis_link_state {
    MR_REDIS_LINK_DOWN, /* until retry_at_ns */
    MR_REDIS_LINK_LOGIN,
    MR_REDIS_LINK_UP,
};

struct mr_redis_link {
    struct mr_redis_address address;
    enum mr_redis_link_state state;
    struct mr_redis_connection *connection; /* NULL when down */
    uint64_t session;                       /* 0 until logged in */
    uint64_t opened_ns;
    uint64_t retry_at_ns; /* 0: at once */
    uint64_t delay_ns;    /* before the next attempt but one; 0: it has not failed since it was up */
    uint32_t replies;     /* of the log-in, so far */
    bool dry;             /* the last look found no reply, and nothing has come since */
    char trouble[MR_REDIS_TROUBLE_MAX];
};

/* A command sent. Those of sessions gone stand before those of the session there is. */
struct mr_redis_tag {
    uint64_t tag;
    uint64_t session;
    uint64_t bytes;
    bool asking; /* the reply to ASKING comes first */
};

struct mr_redis_tags { /* a ring */
    struct mr_redis_tag *slots;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t first;
    uint32_t count;
};

struct mr_redis_peer {
    bool used;
    bool leaving; /* serves no slot any more: it is forgotten once nothing is unanswered */
    char text[MR_REDIS_ADDRESS_MAX];
    struct mr_redis_link link;
    struct mr_redis_tags tags;
    uint64_t unanswered_bytes;
    bool waiting;        /* for a reply, since then: the last one, or the step after the first command */
    uint64_t waiting_ns;
    uint64_t keep_until_ns; /* an ASK named it; it may serve no slot yet */
    uint32_t slots;
};

#define MR_REDIS_SLOT_NOBODY UINT8_MAX
static_assert(MR_REDIS_NODES_MAX <= MR_REDIS_SLOT_NOBODY, "a node's number fits into a byte");

struct mr_redis_map {
    struct mr_redis_link scout;
    uint32_t candidate; /* who is asked: the configured addresses, then the nodes */
    uint32_t tried;     /* candidates in a row that could not say */
    bool wanted;        /* it may be old */
    bool asked;         /* the scout has sent CLUSTER SLOTS */
    uint64_t read_ns;   /* when it was last asked for */
    uint64_t version;
    uint32_t unserved; /* slots */
    uint8_t slots[MR_REDIS_SLOTS];
    uint8_t fresh[MR_REDIS_SLOTS]; /* while one is read */
};

struct mr_redis {
    struct mr_redis_options options; /* its strings are in the arena */
    struct mr_arena strings;
    struct mr_redis_address *configured;
    uint64_t random;
    uint64_t now_ns; /* of the last step */
    uint64_t sessions;
    uint32_t turn;
    uint32_t peer_count; /* the highest number used, and one */
    struct mr_redis_peer peers[MR_REDIS_NODES_MAX];
    struct mr_redis_map map;
    struct mr_redis_stats stats;
};

/* redis_link.c. step opens when it is time to, and logs in; it returns whether anything moved. */
bool mr_redis_link_step(struct mr_redis *r, struct mr_redis_link *link);
/* Closes the connection; it is opened again after a while. */
void mr_redis_link_break(struct mr_redis *r, struct mr_redis_link *link, const char *format, ...)
    MR_PRINTF(3, 4);
/* When step has something to do though nothing comes in. */
uint64_t mr_redis_link_due_ns(const struct mr_redis *r, const struct mr_redis_link *link);

/* redis_node.c */
bool mr_redis_peer_step(struct mr_redis *r, struct mr_redis_peer *peer);
uint64_t mr_redis_peer_due_ns(const struct mr_redis *r, const struct mr_redis_peer *peer); /* 0: now */
bool mr_redis_peer_next(struct mr_redis *r, uint32_t node, struct mr_redis_answer *ret);
enum mr_status mr_redis_peer_send(struct mr_redis *r, struct mr_redis_peer *peer,
                                  const struct mr_redis_command *command) MR_MUST_CHECK;
void mr_redis_peer_forget(struct mr_redis_peer *peer);
void mr_redis_peer_check(const struct mr_redis *r, const struct mr_redis_peer *peer);

/* redis_map.c. The node of an address, made when it is not known; MR_REDIS_NO_NODE: there is no room. */
uint32_t mr_redis_map_node(struct mr_redis *r, const struct mr_redis_address *address);
void mr_redis_map_init(struct mr_redis *r);
bool mr_redis_map_step(struct mr_redis *r);
uint64_t mr_redis_map_due_ns(const struct mr_redis *r);
/* `node` said that the slot is another's. */
void mr_redis_map_moved(struct mr_redis *r, uint32_t node, uint32_t slot,
                        const struct mr_redis_address *address);
void mr_redis_map_check(const struct mr_redis *r);
