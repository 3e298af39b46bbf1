/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Claims: which ids were seen before by any node: each id is claimed in Redis with the token of the record it came in.
 *
 *      put(claim: ids of one record) ─▶ groups, by place ─▶ commands ─▶ replies ─▶ next: outcome of each id, in order of put
 *
 * Idea        An id belongs to the first token that is stored for it. A claim made again (after a crash, a lost reply, a
 *             timeout) finds its own token and is told so; so every command may be repeated, and only a reply
 *             that says whose the id is decides anything. Whatever else comes (timeout, MOVED, OOM, …) is no verdict:
 *             the command is sent again, later, elsewhere, until there is one. (DESIGN section 7.)
 * Token       12 bytes: 6 of a hash of (cluster, node, incarnation of the log), 6 of the record's lsn. Not the index in
 *             the record: of ids that come twice in one record the first is claimed, the others are taken, here.
 * Waves       What waits is sent together, as soon as fewer than two such waves are under way: at low load at once, and under
 *             load the more a command the more there is to do. Behind what a wave sends to a node goes a guard, CONFIG
 *             GET maxmemory-policy (not with assume_strict): verdicts count when it says noeviction on the same session.
 * Layouts     key     SET d:<cluster>/<stream>:<15 bytes of fingerprint> <token> GET PX <ttl> NX, pipelined; the plain
 *                     form. GET of a canary of the node is part of the guard.
 *             bucket  hashes b:{<cluster>/<stream>/<bucket>}:<generation>, field: 15 bytes of fingerprint, value: token. One
 *                     script a bucket and wave (dedup/claims_script.h): it reads the bucket's canary, looks the ids
 *                     up in this generation and the one beside it, stores those that are nobody's and names the owners of
 *                     the others. An id that several records of a wave have is asked for once.
 * Buckets     256: Redis's CPU an id is about the same from 64 to 256 buckets, and with 1,024 commands are so small that
 *             they cost up to twice as much until 60,000 ids are under way. Fewer would make the hashes larger that expire
 *             at once (36 M ids in a generation: 140,000 in each).
 * Horizon     A generation is two horizons long: an id recorded in its first half may have a copy in the one before, in its
 *             second half in the one behind it (another node's clock), so that two are looked up, of which the later
 *             one does not exist mostly. With a generation of one horizon it would be three. recorded_ms says the generation,
 *             so a claim made again goes where it went before. An id is remembered for at least horizon_ms after its record,
 *             if its claim was sent within half a horizon after it; Redis forgets a generation 3.5 horizons after its first
 *             claim (2.5 horizons of ids are there on average), in the key layout an id after 2. First sight counts.
 * Assertions  A node that counted an id says so again when data was lost. It takes the id, whoever has it: in the key layout
 *             SET is executed before the guard finds that the data is gone, so another node's token may stand there
 *             that this node has not counted, and will find to be its own.
 * Strict      Only while the watch says so (dedup/watch.h) is anything sent; claims wait here meanwhile, and may be taken
 *             back (mr_claims_withdraw). A command of a claim whose watch state changed under way decides nothing.
 * Owner       One thread, with the client and the watch, which claims own.
 * Bounds      bytes_max of ids and commands: over it put says false.
 * Cost        Redis, bucket against a plain client's pipelined SET NX PX, ids a second of its CPU (bench_claims, a busy
 *             machine): at 60 to 120 ids a command 1.7 to 2.6 times as many with appendfsync always, which the watch
 *             asks for, and 1.2 to 2.0 without an append-only file; at 16 ids a command no more than plain. Most of it is
 *             what a hash in Redis costs: 1 µs to store a field, 0.4 µs to find that there is none, twice. Four
 *             times as many is out of reach of one field an id. 88 bytes an id, against 145 to 160 of a key.
 *             Here: no allocation for an id.
 */
#include "base/hash.h"
#include "dedup/watch.h"

enum mr_claim_layout { MR_CLAIM_BUCKET, MR_CLAIM_KEY };

#define MR_CLAIM_BUCKETS 256

struct mr_claims_stream {
    struct mr_bytes name;
    enum mr_claim_layout layout;
    int64_t horizon_ms;
};

struct mr_claims_options {
    struct mr_redis_transport *transport;
    struct mr_clock *clock;
    const struct mr_claims_stream *streams;
    uint32_t stream_count;
    struct mr_bytes cluster;
    struct mr_bytes node;
    uint64_t incarnation; /* of the log */
    uint64_t key_hash;
    struct mr_epoch epoch; /* as in the watch */
    bool assume_strict;
    const struct mr_bytes *addresses;
    uint32_t address_count;
    bool cluster_mode; /* Redis Cluster */
    struct mr_bytes user;
    struct mr_bytes password;
    uint64_t timeout_ns;
    int64_t recent_ms; /* asserted again after a failover */
    uint64_t bytes_max;
    uint64_t seed; /* 0: random */
};

enum mr_claim_outcome {
    MR_CLAIM_NONE = 0,
    MR_CLAIM_WON,   /* it was nobody's, and is this record's now */
    MR_CLAIM_MINE,  /* it was this record's already */
    MR_CLAIM_TAKEN, /* another record's, here or elsewhere: a duplicate */
    MR_CLAIM_OWN,   /* assertions, `once`: it was another record's of this node */
};

/* The ids of one record, or some of them. The caller's memory, which stays until next or withdraw gives it back. */
struct mr_claim {
    uint32_t stream; /* in options.streams */
    int64_t recorded_ms;
    uint64_t lsn;
    const struct mr_fingerprint *ids;
    const uint32_t *order; /* ids[order[0]], … are claimed, in this order */
    uint32_t count;
    bool again;        /* an assertion: sent in LOST and SUSPECT, and the canary may be missing */
    bool once;         /* and this node counts no id of the stream twice: another record's of its own is none */
    uint8_t *outcomes; /* by k of order; enum mr_claim_outcome */
    void *ctx;

    struct mr_claim *next; /* the claims' own, from here on */
    uint32_t undecided;
    uint32_t member; /* of the wave it is in */
    uint8_t wave;    /* 0: none */
};

/* A question: was this id claimed by anybody? Claims nothing, and says what a claim of an id that is recorded at now_ms would
 * find. The caller's memory until mr_claims_looked gives it back. */
struct mr_claim_look {
    uint32_t stream; /* in options.streams */
    struct mr_fingerprint id;
    int64_t now_ms; /* recorded time: which generations are looked at */
    enum mr_status status; /* MR_OK: answered; MR_AGAIN: the store was not strict from the question to its answer */
    bool seen;
    int64_t from_ms; /* seen: the claim is from then… */
    int64_t to_ms;   /* …to before then. Bucket: its generation, cut at the reply. Key: to the ms of Redis's clock, and as
                      * exact as the reply was quick; of an id that was asserted again, that */
    int64_t until_ms; /* a copy that is recorded and claimed before then will be a duplicate */
    void *ctx;

    struct mr_claim_look *next; /* the claims' own, from here on */
    uint64_t turn;
    uint8_t undecided; /* replies missing */
};

#define MR_CLAIM_LOOKS 256 /* at a time */

struct mr_claims;

enum mr_status mr_claims_open(const struct mr_claims_options *options, struct mr_claims **ret,
                              struct mr_error *error) MR_MUST_CHECK;
void mr_claims_close(
    struct mr_claims *claims); /* claims put are the caller's again; NULL is fine */

/* false: as much is under way as may be; later. */
bool mr_claims_put(struct mr_claims *claims, struct mr_claim *claim) MR_MUST_CHECK;
/* Sends, receives, decides; waits for nothing. Returns whether anything moved. */
bool mr_claims_step(struct mr_claims *claims);
/* The next decided claim, in order of put; NULL: none. Assertions among themselves likewise; they pass the others by. */
struct mr_claim *mr_claims_next(struct mr_claims *claims);
/* Gives the claims that are not assertions back undecided, one a call, in order of put: their outcomes say nothing. NULL:
 * that was the last. */
struct mr_claim *mr_claims_withdraw(struct mr_claims *claims);
/* Anything put and not yet given back. */
bool mr_claims_busy(const struct mr_claims *claims);
/* Until step may do something, or timeout_ns. */
void mr_claims_wait(struct mr_claims *claims, uint64_t timeout_ns);
struct mr_watch *mr_claims_watch(struct mr_claims *claims); /* state, reason, epoch, asserted */

/* false: too many at a time, those that mr_claims_looked has not given back among them. Answered within a timeout of the
 * client, in any order; at once with MR_AGAIN where the store is not strict, or is no more. Not repeated: whoever asks may ask
 * again. No guard goes with it: after a FLUSHALL or an eviction it may say "not seen" until the watch's next check. */
bool mr_claims_look(struct mr_claims *claims, struct mr_claim_look *look) MR_MUST_CHECK;
/* The next one that has its answer; NULL: none. Closing gives none back: all are the caller's again. */
struct mr_claim_look *mr_claims_looked(struct mr_claims *claims);

struct mr_claims_stats {
    uint64_t commands;
    uint64_t ids; /* sent */
    uint64_t won;
    uint64_t mine;
    uint64_t taken;
    uint64_t repeated; /* commands sent again */
    uint64_t repaired; /* assertions: it was nobody's */
    uint64_t kept;     /* assertions: it was there, as this node's */
    uint64_t
        counted_twice; /* assertions: another record's token was there: both have counted it, or (key) the other has not yet */
    uint64_t waiting; /* claims put and not decided */
    struct mr_watch_stats watch;
    struct mr_redis_stats redis;
};
void mr_claims_stats(const struct mr_claims *claims, struct mr_claims_stats *ret);

void mr_claims_check(const struct mr_claims *claims);

/* The names, for the watch, tests and tools. */
void mr_claims_tag(struct mr_buf *ret, struct mr_bytes cluster, struct mr_bytes stream,
                   uint32_t bucket);
