/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the tests of sessions share: random bundles, a model of one page that keeps every event ever and asks of each
 * session what it should have fired, and the results store as a list of rows.
 */
#include "aggregate/sessions.h"
#include "tests/aggregate/kit.h"

enum {
    SK_KEYS = 12,
    SK_SHARDS = 4,
    SK_EVENTS = 20000,
    SK_SESSIONS = 8000,
    SK_ROWS = 8000,
    SK_PROTOS = 24, /* of one bundle */
    SK_PROTO_EVENTS = 6,
};

/* A key: below SK_KEYS one of the rule's, from there on the overflow key of shard key - SK_KEYS. */
struct sk_proto {
    uint32_t key;
    int64_t times[SK_PROTO_EVENTS]; /* ascending */
    int64_t values[SK_PROTO_EVENTS]; /* 0: a text instead of a number */
    uint32_t count;
};

struct sk_bundle {
    uint64_t seq;
    int64_t recorded_ms;
    int64_t watermark_ms;
    struct sk_proto protos[SK_PROTOS];
    uint32_t count;
};

struct sk_event {
    uint32_t session;
    int64_t time_ms;
    int64_t value;
    bool unfired; /* in no pane of its session yet; DISCARDING: in no row */
};

struct sk_session {
    uint32_t key;
    int64_t start_ms;
    int64_t end_ms;
    bool gone; /* swallowed, or its rows live on in a later entry */
    bool owes; /* gone, and its rows are to be retracted */
    bool born; /* in this bundle */
    bool changed;
    bool moved; /* was fired, and reaches elsewhere */
    bool closed;
    bool final;
    bool takes_over;
    bool fired; /* ever */
    int64_t first_change_ms; /* since its last pane; INT64_MAX */
    uint32_t index;
    uint32_t said_first;
};

struct sk_row {
    uint32_t key;
    int64_t start_ms;
    uint32_t index; /* DISCARDING; else 0 */
    int64_t end_ms;
    uint64_t events;
    int64_t sum;
    uint64_t revision;
};

struct sk_model {
    const struct mr_rule *rule;
    struct sk_event events[SK_EVENTS];
    uint32_t event_count;
    struct sk_session sessions[SK_SESSIONS];
    uint32_t session_count;
    int64_t watermark_ms;
    uint32_t live; /* not gone, not final */
};

struct sk_store {
    struct sk_row rows[SK_ROWS];
    uint32_t count;
};

/* A world: stores by shard, the model, the results store. */
struct sk_world {
    struct kit_random random;
    struct mr_rule rule;
    uint32_t shards;
    struct mr_sessions *sessions[SK_SHARDS];
    struct sk_model model;
    struct sk_store store;
    uint64_t seq;
    int64_t watermark_ms;
    int64_t recorded_ms;
    uint32_t budget; /* of firing */
    uint64_t panes[3];
    uint64_t retractions;
    uint64_t full;
    uint64_t inherited;
    uint32_t fail_nth; /* each merge is tried first with this allocation failing; 0: no */
    uint64_t failed;
    void (*between)(struct sk_world *w, uint32_t shard); /* merges and slices of firing; may be NULL */
    void *ctx;
};

struct mr_rule sk_rule(int64_t gap_ms, int64_t size_ms, int64_t lateness_ms);
/* With metrics that grow behind the kit's: last, distinct, top, collect, quantiles; collect false: variance instead,
 * for a list of texts that was loaded has the same texts, but not the same bytes. */
void sk_rule_grow(struct mr_rule *rule, bool collect);
enum { SK_LAST = KIT_METRICS, SK_DISTINCT, SK_TOP, SK_COLLECT, SK_QUANTILES, SK_METRICS };
void sk_key(const struct mr_rule *rule, uint32_t key, struct mr_buf *ret);
uint32_t sk_key_number(const struct mr_rule *rule, struct mr_bytes key, uint32_t *ret_index);
uint32_t sk_owner(const struct sk_world *w, uint32_t key);

bool sk_is_final(const struct mr_rule *rule, int64_t end_ms, int64_t watermark_ms);

void sk_open(struct sk_world *w, const struct mr_rule *rule, uint32_t shards, uint64_t seed);
void sk_close(struct sk_world *w);
void sk_make_bundle(struct sk_world *w, struct sk_bundle *ret);
/* One proto-session into the sessions of its shard. */
enum mr_status sk_merge(struct mr_sessions *sessions, const struct mr_rule *rule, const struct sk_bundle *b,
                        const struct sk_proto *proto);
/* With allocation number fail_nth failing; 0: none. */
enum mr_status sk_merge_failing(struct mr_sessions *sessions, const struct mr_rule *rule, const struct sk_bundle *b,
                                const struct sk_proto *proto, uint32_t fail_nth);
uint64_t sk_hash(struct mr_sessions *sessions);
/* Events and sum of a session; only what is in no pane. */
void sk_sum_of(const struct sk_world *w, uint32_t session, bool only_unfired, uint64_t *ret_events, int64_t *ret_sum);
/* Merges, with the overflow key where it is full, advances, fires into ret (of one shard). */
void sk_run(struct mr_sessions *sessions, struct sk_world *w, uint32_t shard, const struct sk_bundle *b,
            struct mr_buf *ret_panes);
/* test_sessions_model.c: a bundle through all shards and the model; compares everything. panes: of each shard, may be
 * NULL. */
void sk_step(struct sk_world *w, const struct sk_bundle *b, struct mr_buf *panes);
