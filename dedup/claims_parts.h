/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Claims' parts: what the files of claims share: waves, their entries, commands and parts.
 *
 *      members  the claims of the wave                    claim 7      claim 8            claim 9
 *      entries  their ids, by place                       [a b c d][e f][g h i][j …
 *      commands of the entries of a place                  └ bucket 0 ┘└ 1 ┘└ 2 ┘
 *      parts    what went to one session of one node,      └── node 0 ────┘└ node 1 …
 *               and the guards behind it
 *
 * Idea        A wave keeps nothing between its end and the next: whatever has no verdict by then is NONE in its claim and
 *             taken by a wave again. So there is one way to repeat anything.
 */
#include "base/check.h"
#include "base/limits.h"
#include "dedup/claims.h"
#include "dedup/claims_script.h"

#define MR_CLAIMS_WAVES 2
#define MR_CLAIMS_WAVE_IDS                                                                         \
    32768 /* of several claims; a single larger claim makes a wave of its own */
#define MR_CLAIMS_COMMAND_IDS 2048 /* one command keeps Redis for 5 ms */
#define MR_CLAIMS_PARTS                                                                            \
    256 /* two for each node; then ids that ASK sends on wait for the next wave */
#define MR_CLAIMS_FP_LEN    15
#define MR_CLAIMS_TOKEN_LEN 12
#define MR_CLAIMS_TOKEN_NODE 6 /* of it say whose: cluster, node, incarnation of the log */
#define MR_CLAIMS_KEY_MAX   512
#define MR_CLAIMS_PAUSE_NS  UINT64_C(50000000)

/* Tags of answers: what it is, of which wave (commands and guards), which one. */
#define MR_CLAIMS_TAG_COMMAND (UINT64_C(1) << 40)
#define MR_CLAIMS_TAG_POLICY  (UINT64_C(2) << 40) /* of the part */
#define MR_CLAIMS_TAG_CANARY  (UINT64_C(3) << 40) /* of the part */
#define MR_CLAIMS_TAG_SCRIPT  (UINT64_C(4) << 40) /* of the node */
#define MR_CLAIMS_TAG_LOOK    (UINT64_C(5) << 40) /* slot, reply, use of the slot */
#define MR_CLAIMS_TAG_KIND    (UINT64_C(7) << 40)
#define MR_CLAIMS_TAG_WAVE    32

/* Marks of entries: an outcome, or */
#define MR_CLAIMS_REPEATS                                                                          \
    0xff /* an entry before it has the same id: fp.lo is the number of that one */

struct mr_claims_entry {
    struct mr_fingerprint fp; /* once it is TAKEN: the owner's token */
    uint32_t member;
    uint32_t k; /* in the claim */
};
static_assert(sizeof(struct mr_fingerprint) >= MR_CLAIMS_TOKEN_LEN, "a token takes its place");

struct mr_claims_member {
    struct mr_claim *claim; /* NULL: withdrawn */
    uint64_t lsn;
    uint32_t stream;
    bool once;
};

struct mr_claims_command {
    uint32_t first; /* entry; those that repeat another are passed by */
    uint32_t count;
    uint32_t ids;   /* without those */
    uint32_t place; /* stream * MR_CLAIM_BUCKETS + bucket */
    uint16_t part;
    bool answered; /* with a verdict on each of its ids */
    bool asked;    /* has been sent on */
};

struct mr_claims_part {
    uint64_t session;
    uint32_t node;
    uint32_t tag;   /* of the canary that the guard reads */
    uint8_t guards; /* under way */
    bool keys;      /* commands of the key layout are in it */
    bool closed;    /* the guards are sent, or could not be */
    bool bad;       /* a guard says so, or is missing */
};

struct mr_claims_wave {
    uint32_t unanswered; /* commands and guards; with `open`: under way */
    bool open;
    bool again;    /* assertions */
    bool halts;    /* something that another attempt should leave time for */
    uint64_t turn; /* of the watch, when it was sent */
    uint64_t need;
    struct mr_epoch epoch;
    int64_t steps
        [MR_STREAMS_MAX]; /* recorded time / horizon of the stream's claims; -1: there are none */

    struct mr_claims_entry *entries;
    uint8_t *marks;
    uint32_t entry_count;
    uint32_t entry_cap;
    struct mr_claims_member *members;
    uint32_t member_count;
    uint32_t member_cap;
    struct mr_claims_command *commands;
    uint32_t command_count;
    uint32_t command_cap;
    struct mr_claims_part parts[MR_CLAIMS_PARTS];
    uint32_t part_count;
};

struct mr_claims_place { /* a bucket of a stream */
    uint16_t slot;
    uint32_t count; /* of entries, while a wave is made; then where the next goes */
    uint32_t next;  /* place with entries + 1; 0: the last */
};

struct mr_claims_own_stream {
    enum mr_claim_layout layout;
    int64_t horizon_ms;
    int64_t ttl_ms;
    char ttl[24]; /* the same */
    char *prefix; /* "<cluster>/<stream>", "/" behind it in the bucket layout */
    uint32_t prefix_len;
};

struct mr_claims_queue {
    struct mr_claim *first;
    struct mr_claim *last;
    struct mr_claim *fresh; /* nothing before it can be taken by a wave */
    uint64_t bytes;
    uint64_t count; /* not decided */
};

struct mr_claims_look_slot {
    struct mr_claim_look *look; /* NULL: free */
    uint64_t asked_ns;
    uint32_t uses; /* so far: the tags say of which one they are */
    bool asked[2]; /* by reply: has been sent on */
};

struct mr_claims_looks {
    struct mr_claims_look_slot slots[MR_CLAIM_LOOKS]; /* under way */
    struct mr_claim_look *answered;
    uint32_t count; /* put and not given back */
    uint64_t turn;  /* of the watch, when those of others were last ended */
};

struct mr_claims {
    struct mr_redis *redis;
    struct mr_watch *watch;
    struct mr_clock *clock;
    bool cluster_mode;
    bool assume_strict;
    uint64_t bytes_max;
    uint32_t wave_ids;
    uint8_t owner[6]; /* of the tokens: cluster, node and incarnation */
    struct mr_claims_own_stream *streams;
    uint32_t stream_count;
    struct mr_claims_place *places;
    uint32_t place_count;
    char *names; /* the streams' prefixes */
    uint32_t cluster_len;
    uint32_t *
        slot_numbers; /* of the slots' canaries, which come behind those of the places; NULL: there are none */
    char script_sha[MR_CLAIMS_SHA_LEN + 1];

    struct mr_claims_queue queues[2]; /* claims, assertions */
    struct mr_claims_wave waves[MR_CLAIMS_WAVES];
    struct mr_claims_looks looks;
    uint64_t pause_until_ns;
    uint32_t failures; /* waves in a row that left something undecided */

    uint64_t script_session[MR_REDIS_NODES_MAX]; /* that the script was sent on */
    uint32_t node_tag[MR_REDIS_NODES_MAX];       /* of a canary that it has; UINT32_MAX: none */
    uint64_t map_version;                        /* of node_tag */

    uint32_t *seen; /* a hash table over one place's entries */
    uint32_t seen_cap;
    uint8_t *ids; /* of the command that is built, in MessagePack */
    uint8_t *pairs;
    struct mr_claims_stats stats;
};

/* claims_group.c. Fills the wave from the queue: entries by place, commands. False: nothing to send, or no memory. */
bool mr_claims_group(struct mr_claims *claims, struct mr_claims_queue *queue,
                     struct mr_claims_wave *wave);
uint32_t mr_claims_bucket_of(struct mr_fingerprint fp);

/* claims_names.c */
/* Sets the places' slots. tags: to be freed by the caller; they lie in text, as shape does. */
enum mr_status mr_claims_name(struct mr_claims *claims, const struct mr_claims_options *options,
                              struct mr_buf *text, struct mr_bytes *ret_shape,
                              struct mr_bytes **ret_tags, uint32_t *ret_count);
void mr_claims_put_tag(const struct mr_claims *claims, uint32_t tag, struct mr_buf *ret);

/* claims_wave.c */
/* Sends a new wave of the queue, if there is something to send. */
bool mr_claims_send(struct mr_claims *claims, struct mr_claims_queue *queue);
void mr_claims_answer(struct mr_claims *claims, const struct mr_redis_answer *answer);
/* Guards behind what ASK sent on; ends waves that are answered. Returns whether one ended. */
bool mr_claims_settle(struct mr_claims *claims);

/* claims_look.c */
void mr_claims_look_answer(struct mr_claims *claims, const struct mr_redis_answer *answer);
/* Ends those that the watch's state leaves behind. Returns whether there were any. */
bool mr_claims_look_step(struct mr_claims *claims);
void mr_claims_look_check(const struct mr_claims *claims);

/* claims.c */
void mr_claims_token(const struct mr_claims *claims, const struct mr_claims_member *member,
                     uint8_t ret[MR_CLAIMS_TOKEN_LEN]);
void mr_claims_decide(struct mr_claims *claims, struct mr_claim *claim, uint32_t k,
                      enum mr_claim_outcome outcome);

/* The layouts: build a command and send it to the node, read its reply: all entries' marks, or false and none. */
enum mr_status mr_claims_key_send(struct mr_claims *claims, struct mr_claims_wave *wave,
                                  const struct mr_claims_command *command, uint32_t node,
                                  uint64_t tag);
bool mr_claims_key_read(struct mr_claims *claims, struct mr_claims_wave *wave,
                        const struct mr_claims_command *command,
                        const struct mr_redis_reply *reply);
uint32_t mr_claims_key_slot(const struct mr_claims *claims, const struct mr_claims_wave *wave,
                            const struct mr_claims_command *command);
enum mr_status mr_claims_bucket_send(struct mr_claims *claims, struct mr_claims_wave *wave,
                                     const struct mr_claims_command *command, uint32_t node,
                                     uint64_t tag);
bool mr_claims_bucket_read(struct mr_claims *claims, struct mr_claims_wave *wave,
                           const struct mr_claims_command *command,
                           const struct mr_redis_reply *reply, bool *ret_lost);

/* The names of what the store has: a bucket's hash of a generation, an id's key. */
struct mr_bytes mr_claims_bucket_name(const struct mr_claims_own_stream *stream, uint32_t bucket,
                                      int64_t generation, char ret[MR_CLAIMS_KEY_MAX]);
int64_t mr_claims_beside(int64_t step); /* the other generation that may have a copy; its own is step / 2 */
struct mr_bytes mr_claims_key_name(const struct mr_claims_own_stream *stream,
                                   struct mr_fingerprint id, uint8_t ret[MR_CLAIMS_KEY_MAX]);

/* What a token that was found makes of the record's claim. */
static inline enum mr_claim_outcome mr_claims_compare(const uint8_t own[MR_CLAIMS_TOKEN_LEN],
                                                      const uint8_t owner[MR_CLAIMS_TOKEN_LEN], bool once) {
    if (memcmp(own, owner, MR_CLAIMS_TOKEN_LEN) == 0) {
        return MR_CLAIM_MINE;
    }
    return once && memcmp(own, owner, MR_CLAIMS_TOKEN_NODE) == 0 ? MR_CLAIM_OWN : MR_CLAIM_TAKEN;
}

/* Another's token or the record's own: the mark; the owner stays in the entry. */
static inline void mr_claims_mark_owner(const struct mr_claims *claims, struct mr_claims_wave *wave,
                                        uint32_t entry, const uint8_t *owner) {
    struct mr_claims_entry *e = &wave->entries[entry];
    uint8_t own[MR_CLAIMS_TOKEN_LEN];
    mr_claims_token(claims, &wave->members[e->member], own);
    wave->marks[entry] = (uint8_t)mr_claims_compare(own, owner, wave->members[e->member].once);
    memcpy(&e->fp, owner, sizeof own);
}

/* 15 bytes, the same on every machine. */
static inline void mr_claims_put_fp(uint8_t *ret, struct mr_fingerprint fp) {
    for (unsigned i = 0; i < 8; i++) {
        ret[i] = (uint8_t)(fp.lo >> (8 * i));
    }
    for (unsigned i = 0; i < 7; i++) {
        ret[8 + i] = (uint8_t)(fp.hi >> (8 * i));
    }
}
