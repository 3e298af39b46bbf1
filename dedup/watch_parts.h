/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Watch parts: what is inside a mr_watch, for the files that it is made of. The contract is dedup/watch.h.
 *
 *      watch.c         open, step, state and reason ─┬─▶ watch_servers.c  who serves what; restarts, failovers ─▶ watch_need.c
 *                                                    ├─▶ watch_checks.c   INFO, CONFIG and canaries of one server ─▶ watch_info.c
 *                                                    └─▶ watch_store.c    the store's key: look, do one step, look again
 *                                                          └─▶ watch_look.c  what HGETALL says, of the store and of peers
 */
#include "base/arena.h"
#include "base/check.h"
#include "dedup/watch.h"

enum {
    MR_WATCH_EPOCH_HEX = 2 * MR_EPOCH_LEN,
    MR_WATCH_REASON_MAX = 1024,
    MR_WATCH_TROUBLE_MAX = 512,
    MR_WATCH_PIECE = 128,     /* canaries written between two looks at the store's key */
    MR_WATCH_CANARIES = 256,  /* read of each server by each check but the first */
    MR_WATCH_UNDER_WAY = 128, /* answers that a check waits for at a time */
    MR_WATCH_PEERS_MAX = 1024,
};

/* ---- tags: what an answer is about ---- */

enum mr_watch_command {
    MR_WATCH_INFO,
    MR_WATCH_POLICY,
    MR_WATCH_APPENDONLY,
    MR_WATCH_APPENDFSYNC,
    MR_WATCH_CANARY, /* index: of the tag */
    MR_WATCH_LOOK,
    MR_WATCH_ACT, /* index: of the command in the act */
};

/* server: whose check it is; an ASK may bring the answer from another. round: of the check, or of the look or act; an
 * answer of another round is of something given up. */
static_assert(MR_REDIS_NODES_MAX <= 128, "a server fits into 7 bits");
#define MR_WATCH_ROUNDS (1u << 20)

struct mr_watch_tag {
    enum mr_watch_command command;
    uint32_t server;
    uint32_t round;
    uint32_t index;
};

static inline uint64_t mr_watch_tag_pack(struct mr_watch_tag tag) {
    return MR_WATCH_TAG | (uint64_t)tag.command << 59 | (uint64_t)tag.server << 52 |
           (uint64_t)tag.round << 32 | tag.index;
}

static inline struct mr_watch_tag mr_watch_tag_unpack(uint64_t bits) {
    return (struct mr_watch_tag){
        .command = (enum mr_watch_command)(bits >> 59 & 15),
        .server = (uint32_t)(bits >> 52 & 127),
        .round = (uint32_t)(bits >> 32) & (MR_WATCH_ROUNDS - 1),
        .index = (uint32_t)bits,
    };
}

/* ---- servers ---- */

/* One check of one session: CONFIG and INFO, then canaries. */
struct mr_watch_round {
    uint64_t session; /* 0: none is under way */
    uint32_t number;
    uint64_t began_ns;
    int64_t began_ms;
    uint32_t settings_sent;
    uint32_t settings_answered;
    uint32_t canaries_left;  /* to look at, whoever serves them */
    uint32_t canaries_quota; /* that may still be read */
    uint32_t unanswered;
    bool found;  /* something that somebody must set right */
    bool failed; /* it says nothing */
};

struct mr_watch_server {
    char address[MR_REDIS_ADDRESS_MAX]; /* "": this number is nobody's */
    uint64_t session;
    uint32_t slots;
    /* what it said */
    bool known;
    uint64_t run;      /* hash of run_id */
    uint64_t identity; /* of run_id and master_replid */
    uint64_t evicted;  /* keys, of this run: more of them are a loss */
    /* what to believe */
    uint64_t passed_session; /* 0: none */
    uint64_t good_ns;        /* when the last check that passed began */
    int64_t good_ms;         /* 0: none has */
    bool not_strict;
    char trouble[MR_WATCH_REASON_MAX]; /* of the last check; "": none */
    /* when slots move */
    bool must_prove; /* slots went from it to another: that it lives and is a master */
    bool heir;       /* got such slots, and it is not proved yet */
    bool suspect;    /* a restart or failover brought it: peers must have asserted too */
    struct mr_watch_round round;
    uint64_t check_ns; /* when the next check is due */
    uint32_t rotation; /* the tag whose canary is read next */
};

struct mr_watch_canary {
    struct mr_bytes key;
    uint32_t slot;
    uint32_t server; /* that served it when last looked; MR_REDIS_NO_NODE */
    bool orphan;     /* that one is gone */
};

/* ---- the store's key ---- */

struct mr_watch_peer {
    struct mr_bytes id; /* its own memory */
    int64_t seen_ms;    /* what it wrote last */
    uint64_t unseen_ns; /* for so long, while we could look, it has written nothing */
    bool asserted;      /* for the target */
    bool believes;      /* in all servers that are suspect */
};

/* What the last HGETALL said. */
struct mr_watch_look {
    struct mr_epoch epoch;
    struct mr_epoch recovering;
    struct mr_epoch marked;
    struct mr_epoch ready;
    struct mr_epoch asserted; /* by this node */
    bool has_shape;
    bool has_key;
};

enum mr_watch_act {
    MR_WATCH_NOTHING,
    MR_WATCH_BEGIN,      /* HSETNX epoch: nothing is there */
    MR_WATCH_REPLACE,    /* HSET epoch recovering: a loss */
    MR_WATCH_DESCRIBE,   /* HSETNX shape, key_hash */
    MR_WATCH_RECOVERING, /* HSET recovering */
    MR_WATCH_MARK,       /* SET canary "X?", a piece of them */
    MR_WATCH_MARKED,     /* HSET marked */
    MR_WATCH_FILL,       /* SET canary "X" XX GET, a piece of them */
    MR_WATCH_READY,      /* HSET ready */
    MR_WATCH_ANNOUNCE,   /* HSET node, asserted, good */
    MR_WATCH_FORGET,     /* HDEL of a node not seen for a week */
};

enum mr_watch_standing { MR_WATCH_RESTING, MR_WATCH_LOOKING, MR_WATCH_ACTING };

struct mr_watch_store {
    struct mr_bytes key;
    uint32_t slot;
    struct mr_bytes field_node; /* "node:<id>" of this node, and so on */
    struct mr_bytes field_asserted;
    struct mr_bytes field_good;
    enum mr_watch_standing standing;
    uint32_t round;
    uint64_t look_ns; /* when the next look is due */
    uint64_t looked_ns;
    uint64_t first_look_ns;
    int64_t newest_ms;    /* what any node wrote last, as last looked */
    uint64_t announce_ns; /* when the node says next that it lives; 0: at once */
    bool has_looked;
    bool knows_peers; /* has seen a ready store's list of nodes */
    struct mr_watch_look look;
    enum mr_watch_act act;
    uint32_t act_first; /* MARK, FILL: the piece begins here */
    uint32_t act_count; /* commands */
    uint32_t act_sent;
    uint32_t unanswered;
    bool failed;            /* one of the act's commands has no answer that counts */
    bool look_sent;         /* LOOKING */
    bool again;             /* something has happened since: look once more */
    uint64_t said;          /* hash of the servers this node has said last to believe in; 0: none */
    uint64_t saying;        /* in the ANNOUNCE under way */
    struct mr_epoch chosen; /* by this watch: it may mark it */
    uint32_t marked;        /* canaries */
    uint32_t filled;
    uint64_t ripe_ns;                   /* since when all may be filled; 0: not yet */
    uint64_t act_ns;                    /* when the act began */
    struct mr_buf text;                 /* of the command being sent */
    struct mr_buf forget;               /* the id */
    char trouble[MR_WATCH_TROUBLE_MAX]; /* refused, by the store; "": no */
    struct mr_watch_peer *peers;
    uint32_t peer_count;
    uint32_t peer_capacity;
};

/* ---- need ---- */

enum mr_watch_want { MR_WATCH_WANT_NONE, MR_WATCH_WANT_RECENT, MR_WATCH_WANT_ALL };

struct mr_watch_need {
    enum mr_watch_want want;
    uint64_t number;
    int64_t since_ms;
    /* the last assertion: a failover right after it may have lost it again */
    bool asserted;
    int64_t asserted_ms;
    int64_t asserted_since_ms; /* INT64_MIN: all */
};

/* What the store's key says that this node believed in before it was started again. */
struct mr_watch_resume {
    bool pending; /* to be compared, once all servers are checked */
    bool known;
    int64_t good_ms;
    uint64_t evicted;
    uint32_t count;
    uint64_t identities[MR_REDIS_NODES_MAX];
};

enum mr_watch_loss {
    MR_WATCH_NO_LOSS,
    MR_WATCH_LOSS_FOUND,
    MR_WATCH_LOSS_LOOKING, /* a look is under way that began after it was found: who else has answered it already? */
};

struct mr_watch {
    /* constant after open */
    struct mr_watch_options options;
    struct mr_arena strings;
    uint64_t check_ns;
    uint64_t hurry_ns; /* between looks while something is awaited */
    uint32_t canary_count;
    struct mr_watch_canary *canaries;
    uint64_t seeds[2];
    /* state */
    uint64_t now_ns;
    uint64_t map_version;
    bool map_known;
    uint64_t choices; /* of epochs */
    struct mr_epoch epoch;
    struct mr_epoch target; /* the store's, as last looked */
    uint64_t target_ns;     /* since when */
    bool ready;             /* the target is */
    enum mr_watch_loss loss;
    char loss_text[MR_WATCH_TROUBLE_MAX];
    char mismatch[MR_WATCH_REASON_MAX]; /* "": none */
    struct mr_watch_need need;
    struct mr_watch_resume resume;
    struct mr_watch_store store;
    uint32_t server_count; /* numbers the client has ever used */
    struct mr_watch_server servers[MR_REDIS_NODES_MAX];
    bool was_strict; /* ever */
    enum mr_watch_state state;
    uint64_t turn;
    char reason[MR_WATCH_REASON_MAX];
    struct mr_watch_stats stats;
};

static inline bool mr_epoch_equal(const struct mr_epoch *a, const struct mr_epoch *b) {
    return memcmp(a->bytes, b->bytes, MR_EPOCH_LEN) == 0;
}

static inline bool mr_epoch_is_none(const struct mr_epoch *epoch) {
    return mr_epoch_equal(epoch, &(struct mr_epoch){0});
}

/* watch.c */
/* Every server that serves slots has passed on the session it has, and not too long ago. */
bool mr_watch_all_passed(const struct mr_watch *w);
bool mr_watch_has_passed(const struct mr_watch *w, const struct mr_watch_server *server);

/* watch_need.c */
/* Claims of good_ms - recent_ms and later may be gone: those that a server took that passed last then. */
void mr_watch_suspect(struct mr_watch *w, int64_t good_ms);
/* Data is gone. The store gets a new epoch, unless it has one already. */
void mr_watch_lose(struct mr_watch *w, const char *format, ...) MR_PRINTF(2, 3);
/* The store has this epoch now. */
void mr_watch_adopt(struct mr_watch *w, const struct mr_epoch *epoch);
/* Compares what this node believed in before its start with what is there. */
void mr_watch_resume(struct mr_watch *w);
bool mr_watch_has_suspects(const struct mr_watch *w);

/* watch_servers.c: follows the client's map and sessions. */
void mr_watch_follow(struct mr_watch *w);
/* A check passed: it proves that the server lives. */
void mr_watch_proved(struct mr_watch *w, struct mr_watch_server *server);
/* It is not what it was, though slots moved from it: no migration. */
void mr_watch_disproved(struct mr_watch *w, struct mr_watch_server *server);

/* watch_checks.c */
bool mr_watch_check_step(struct mr_watch *w, uint32_t server);
void mr_watch_check_answer(struct mr_watch *w, struct mr_watch_tag tag,
                           const struct mr_redis_answer *answer);
/* What is under way counts for nothing; all servers are checked anew, and what they have passed stays. */
void mr_watch_check_drop(struct mr_watch *w);
/* The same, and nothing stays. */
void mr_watch_check_again(struct mr_watch *w);
void mr_watch_check_policy(struct mr_watch_server *server, struct mr_bytes policy);
void mr_watch_check_refused(struct mr_watch_server *server, struct mr_bytes text);

/* watch_info.c: the value of a field of INFO's text; false: there is none. */
bool mr_watch_info_field(struct mr_bytes info, const char *name, struct mr_bytes *ret);
bool mr_watch_number(struct mr_bytes text, uint64_t *ret);
/* Cuts the first word off; empty: there was none. */
struct mr_bytes mr_watch_word(struct mr_bytes *text);
void mr_watch_hex(const struct mr_epoch *epoch, char ret[MR_WATCH_EPOCH_HEX + 1]);
bool mr_watch_unhex(struct mr_bytes text, struct mr_epoch *ret);

/* watch_store.c */
bool mr_watch_store_step(struct mr_watch *w);
void mr_watch_store_answer(struct mr_watch *w, struct mr_watch_tag tag,
                           const struct mr_redis_answer *answer);
/* Looks as soon as it can, and says first what has changed of this node. */
void mr_watch_store_hurry(struct mr_watch *w, bool announce);

/* watch_look.c */
/* MR_CORRUPT: no such reply as HGETALL gives. MR_NO_MEMORY. */
enum mr_status mr_watch_look_read(struct mr_watch *w,
                                  const struct mr_redis_reply *reply) MR_MUST_CHECK;
/* The first node that is waited for; NULL: none. recovering: until it has asserted for the target; else: until it
 * believes in the suspects. */
const struct mr_watch_peer *mr_watch_awaited(const struct mr_watch *w, bool recovering);
/* Whether enough time has passed since the target was first seen for all to have made themselves known. */
bool mr_watch_has_settled(const struct mr_watch *w);
void mr_watch_peers_free(struct mr_watch *w);
