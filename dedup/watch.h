/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Watch: may the Redis at hand be believed? Whether "nobody has claimed this id" is true depends on nothing having
 * been forgotten there, and Redis forgets without a word: eviction, a restart without its append-only file, a failover to a
 * replica that lagged, FLUSHALL.
 *
 * Idea        Three kinds of checks, and while one of them fails nothing is decided.
 *
 *             1. Of every session, before a claim is sent on it, and again every check_ms: role is master, maxmemory-policy
 *                is noeviction, evicted_keys has not grown, appendonly is on with appendfsync always, Redis is 7.0 or newer, not
 *                loading. Not with assume_strict, for managed services that hide CONFIG or say otherwise; INFO and the
 *                canaries stay.
 *             2. Canaries: one key for each place claims go to ("c:{tag}", in the tag's slot), whose value is the 16
 *                bytes of the store's epoch. Made once, by who finds a new store; one that is missing later says that others
 *                are too. The claims' script reads it in the same step as it claims (dedup/claims.h), so that no
 *                verdict is given after a FLUSHALL. The watch reads all those of a server when a session to it
 *                begins and when the store has become ready, and then 256 of each server every check_ms, in turn: that
 *                notices a FLUSHALL and a server that came back empty at the next check, whatever the number of canaries.
 *             3. run_id and master_replid of the server behind a slot: another one means a restart or a failover, after
 *                which the last claims may be gone though the canary is there (SUSPECT). A slot that went to another
 *                server while the one before lives on and is a master was migrated, with its keys: that is nothing. In
 *                doubt it is SUSPECT: when the server before serves nothing any more, and when a first replica gave it
 *                another replid.
 *
 * Store       The key "millrace:{<cluster>}" says for all nodes how the store stands. Its epochs are in hexadecimal:
 *
 *                 epoch        of the store, or the one it is to have         ready        the epoch whose canaries stand
 *                 recovering   the epoch that somebody asserts for            marked       the epoch being filled
 *                 shape, key_hash                                             node:<id>    last seen, ms
 *                 asserted:<id>  the epoch that node has asserted for         good:<id>    what it last believed in
 *
 *             Every value names the epoch it is about, so a command that comes late says nothing about another epoch: at
 *             worst something is done again. A loss is answered with a new epoch, never with a repaired one:
 *
 *                 nothing there, or a loss ─▶ epoch = X ─▶ canaries "X?" ─▶ marked = X ─▶ each node asserts and says so
 *                     ─▶ all nodes known have, or were not seen for peers_ms ─▶ each "X?" becomes "X" ─▶ ready = X
 *
 *             "X?" is written by the watch alone that chose X, before any node asserts, and becoming "X" it is compared: a
 *             loss meanwhile leaves a hole, which is found, and a new epoch begins. Who finds X begun and not marked
 *             for a while (its maker died) chooses another. A new store is made the same way, with nothing to assert.
 * Recovery    LOST (a canary is missing or of another epoch) and SUSPECT end when the claims of this node are asserted
 *             again from its own log (mr_watch_asserted): of all the horizon, or of the time since mr_watch_since_ms. After
 *             a failover, too, all nodes seen lately must have done so before any of them is STRICT. A node that finds
 *             a ready epoch that it does not know (it was down meanwhile) is LOST for itself alone. One that starts and
 *             remembers the epoch of the store is SUSPECT if a server was restarted or replaced since it last
 *             looked. One that starts fresh (it knows no epoch) has nothing to assert, and waits until the store is ready.
 *             A node that begins a recovery right after its own start does not know its peers, and gives them peers_ms.
 * Refusal     shape (streams, layout, buckets, horizons) or key_hash differ from those of the store: MISMATCH, for good.
 * Owner       The claims' owner (one thread). All answers whose tag has MR_WATCH_TAG set are the watch's.
 * Time        Everything is noticed within check_ms and one timeout of the client. Not having been able to check a server
 *             for three times check_ms is as good as a check that failed.
 * Limits      What happens and is undone between two checks over the same connection is not seen: a policy set and set back
 *             (the guard behind claims sees it), a master that was demoted and promoted again. Keys evicted are
 *             noticed at the next check only. Peers are given up that were not seen for peers_ms: their claims may be lost
 *             then (peers_missing counts it). A node that lives and never asserts is waited for as long as it lives.
 * Errors      open: MR_NO_MEMORY, MR_IO (no random bytes). Later there are none: without memory it is tried again.
 */
#include "base/clock.h"
#include "net/redis.h"

#define MR_WATCH_TAG (UINT64_C(1) << 63)
#define MR_EPOCH_LEN 16

struct mr_epoch {
    uint8_t bytes[MR_EPOCH_LEN]; /* all 0: none */
};

enum mr_watch_state {
    MR_WATCH_AWAY,       /* not connected everywhere, or not checked yet, or waiting for the store or for others */
    MR_WATCH_NOT_STRICT, /* a setting of Redis: somebody must change it */
    MR_WATCH_MISMATCH,   /* made with another key or other streams: nothing will be decided until a restart */
    MR_WATCH_LOST,       /* assert everything within the horizon again */
    MR_WATCH_SUSPECT,    /* assert what was decided since mr_watch_since_ms again */
    MR_WATCH_STRICT,
};

struct mr_watch;

struct mr_watch_options {
    struct mr_redis *redis;
    struct mr_clock *clock;
    struct mr_bytes cluster; /* name */
    struct mr_bytes node;    /* id of this node, unique in the cluster */
    struct mr_bytes shape;   /* what all nodes must agree on, as text a person can compare */
    uint64_t key_hash;
    const struct mr_bytes *tags; /* canaries: "c:{<tag>}" */
    uint32_t tag_count;
    bool assume_strict;
    struct mr_epoch epoch; /* that this node's data remembers; none: it never had one */
    int64_t recent_ms;     /* as long as a failover may have lost claims for */
    int64_t check_ms;      /* 2000 */
    int64_t peers_ms;      /* 60000: a node not seen for so long is not waited for */
    uint64_t seed;         /* of a new epoch, with the clock; 0: random (simulations: from the seed) */
};

/* Strings are copied. */
enum mr_status mr_watch_open(const struct mr_watch_options *options, struct mr_watch **ret,
                             struct mr_error *error) MR_MUST_CHECK;
void mr_watch_close(struct mr_watch *watch);

/* Sends what is due. Returns whether it did anything. */
bool mr_watch_step(struct mr_watch *watch);
void mr_watch_answer(struct mr_watch *watch, const struct mr_redis_answer *answer);
enum mr_watch_state mr_watch_state(const struct mr_watch *watch);
/* Why it is not STRICT, for people: "10.0.0.3:6379: maxmemory-policy is allkeys-lru: set noeviction". "" when STRICT. */
const char *mr_watch_reason(const struct mr_watch *watch);
/* Claims may be sent on this session: it was checked, and the state is STRICT (or LOST, SUSPECT: for assertions). */
bool mr_watch_passed(const struct mr_watch *watch, uint32_t node, uint64_t session);
/* A number that changes whenever the state does: an answer to a claim counts when the watch was STRICT in the same turn
 * when the claim was sent. */
uint64_t mr_watch_turn(const struct mr_watch *watch);
/* SUSPECT: wall time. Claims whose verdict came then or later are in doubt (not those recorded then: they may have waited). */
int64_t mr_watch_since_ms(const struct mr_watch *watch);
/* The epoch of the store that this node's claims are in: the one remembered, until the watch is STRICT in another. What the
 * data directory must remember before the first STRICT claim counts, and what the canaries hold then. */
struct mr_epoch mr_watch_epoch(const struct mr_watch *watch);

/* A claim's script found this tag's canary missing or of another epoch. */
void mr_watch_say_lost(struct mr_watch *watch, uint32_t tag);
/* A guard behind claims found this policy: as in check 1. */
void mr_watch_say_policy(struct mr_watch *watch, uint32_t node, struct mr_bytes policy);
/* This server refuses claims, and will until somebody does something (NOPERM, MISCONF, OOM, NOREPLICAS): as in check 1. */
void mr_watch_say_refused(struct mr_watch *watch, uint32_t node, struct mr_bytes text);
/* Which assertion is wanted; 0: none. Another number means that what was asserted so far may have been lost again (a second
 * FLUSHALL, another failover): begin again, from mr_watch_since_ms. LOST: from the beginning. */
uint64_t mr_watch_need(const struct mr_watch *watch);
/* LOST, SUSPECT: all that mr_watch_need wants was asserted, since it first said this number. */
void mr_watch_asserted(struct mr_watch *watch);

struct mr_watch_stats {
    uint64_t checks;
    uint64_t lost;      /* times that data was found lost */
    uint64_t suspected; /* times that a restart or failover was found */
    uint64_t not_strict;
    uint64_t peers_missing; /* recoveries that did not wait for every node */
};
void mr_watch_stats(const struct mr_watch *watch, struct mr_watch_stats *ret);
void mr_watch_check(const struct mr_watch *watch);
