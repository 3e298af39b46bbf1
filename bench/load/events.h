/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Events: what event n of a workload says: its bytes, and what the rule that is verified makes of it.
 *
 * Idea        A fact (group, value) is a function of (seed, n); the bytes are written from the same fact. Values are
 *             multiples of 1/8, or whole, so that every sum is exact in a double and the verifier may ask for equality.
 *
 *                 pages   {"id":"<32 hex>","ts":<ms>,"key":"/page/17","country":"DE","value":12.375,"user":"u41"}
 *                 yahoo   {"event_id":"<32 hex>","user_id":"<uuid>","page_id":…,"ad_id":…,"ad_type":"banner",
 *                          "event_type":"view","event_time":"<ms>","ip_address":"1.2.3.4"}
 *                 bids    {"id":"<32 hex>","auction":1007,"bidder":1012,"price":12345,"channel":"Google","url":…,
 *                          "dateTime":<ms>}
 * Owner       The caller owns the struct; open takes memory, close gives it back.
 * Threads     Constant after open.
 * Cost        write: 30 to 60 ns.
 * Sources     Yahoo: Chintapalli et al., Benchmarking Streaming Computation Engines (2016): 100 campaigns of 10 ads.
 *             Ad i of 1000 is of campaign i / 10; its query counts the views of each campaign, which a lookup table knows.
 *             Bids: Tucker et al., NEXMark: 1 person, 3 auctions, 46 bids of 50 events; half of the bids for the newest
 *             hundredth auction, prices log-uniform.
 */
#include "base/bytes.h"
#include "bench/load/pick.h"

#define MR_LOAD_EVENT_BYTES_MAX 512 /* room that write needs; it may write all of it */

enum mr_load_kind_of_event { MR_LOAD_PAGES, MR_LOAD_YAHOO, MR_LOAD_BIDS, MR_LOAD_FILE };

enum mr_load_second { MR_LOAD_NO_SECOND, MR_LOAD_SUM_EIGHTHS, MR_LOAD_MAX_WHOLE };

struct mr_load_fact {
    bool filtered; /* the rule's `where` leaves it out */
    uint64_t group;
    int64_t value; /* in eighths or whole; 0 without a second metric */
};

/* How a workload is asked about: the names of --print-config, which --stream and --rule change. */
struct mr_load_names {
    const char *stream;
    const char *rule;
    const char *id;
    const char *time;
    const char *group_by; /* as in YAML */
    const char *lookups;  /* lines before `streams`; NULL: none, as the next two */
    const char *derive;   /* lines of the stream */
    const char *where;
    const char *count;
    const char *second; /* NULL: none */
    const char *second_yaml;
    enum mr_load_second kind;
};

struct mr_load_uuid {
    char text[36];
};

struct mr_load_events {
    enum mr_load_kind_of_event kind;
    struct mr_load_pick pick; /* pages */
    struct mr_load_uuid *uuids; /* yahoo: ads, users, pages */
    uint32_t *prices;          /* bids */
    uint64_t id_high_seed;
    uint64_t id_low_seed;
    uint64_t key_seed;
    uint64_t fields_seed;
};

/* pages: pick is taken over. The others: NULL. */
enum mr_status mr_load_events_open(struct mr_load_events *events, enum mr_load_kind_of_event kind,
                                   uint64_t seed, struct mr_load_pick *pick) MR_MUST_CHECK;
void mr_load_events_close(struct mr_load_events *events); /* zeroed is fine */

const struct mr_load_names *mr_load_names_of(enum mr_load_kind_of_event kind);

struct mr_load_fact mr_load_events_fact(const struct mr_load_events *events, uint64_t n);
/* Writes the object without a newline; returns its length. */
size_t mr_load_events_write(const struct mr_load_events *events, uint64_t n, int64_t time_ms,
                            uint8_t *to);
/* The table of ads and their campaigns, as CSV: what `lookups` names. */
enum mr_status mr_load_events_print_ads(struct mr_buf *ret) MR_MUST_CHECK;
/* The group of a row's "key" object. false: none that this workload sends. */
bool mr_load_events_group(const struct mr_load_events *events, struct mr_bytes key,
                          uint64_t *ret_group);
/* The same the other way, for messages. */
void mr_load_events_show_group(const struct mr_load_events *events, uint64_t group,
                               char *ret, size_t cap);
