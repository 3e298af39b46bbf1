/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redis sink: the newest result of each (rule, window, group), a hash each in Redis for others to read.
 *
 *      put ─▶ [ rows waiting ] ─send─▶ [ rows sent ] ─answer─▶ done: applied, there already, or newer there
 *                     ▲─────── not executed, or nobody knows ──────┘
 *
 * Idea        A row is written by a script that compares (epoch, revision, rank) with what the hash has, and writes
 *             only what is greater; rank is 0, 1 for a row that is final, 2 for what takes it back. So repeating a row
 *             is harmless, rows may overtake each other, and everything that is not known to be done is simply sent
 *             again.
 * Shape       A hash at   <prefix><rule>:<window start>:<key value>:…
 *             with fields window_start, window_end, the group_by names, the metric names, events, revision, pane
 *             (index), timing (EARLY, ON_TIME, LATE), final (0, 1) and _epoch. Texts are those of GET rows as CSV; what
 *             is null there is not in the hash. _overflow: names of metrics that left their range, with commas between;
 *             only when there are any.
 * Key values  In the key, after each other with ':' between: numbers as sent, true, false, null, strings. In a string
 *             ':', '%', '"' and control characters are %XX. A string that would read as one of the others (17, true)
 *             stands in quotes: "17". The group of overflow of shard 3 is (other).3. So no two groups have one key.
 *             Panes that are rows of their own (discarding) have their index behind all values: :p0, also behind
 *             (other).3.
 * Retractions leave a tombstone: _epoch, revision and retracted (1), nothing else, so that a row that was overtaken
 *             does not come back. It goes after ttl_ms, or 24 hours where there is none.
 * Expiry      ttl_ms after the last row that was applied.
 * Wrong keys  A key that somebody else has made is left as it is; the row is counted and given up.
 * Errors      put: MR_FULL (rows_max or bytes_max: later), MR_NO_MEMORY, MR_CORRUPT (the key is not one of the rule's).
 * Owner       One thread. Waits for nothing, but in wait.
 */
#include "net/redis.h"
#include "sink/results.h"

#define MR_SINK_BYTES_MAX          (UINT64_C(8) << 20) /* of rows waiting and sent, as millrace opens it */
#define MR_SINK_PIPELINE_BYTES_MAX (UINT64_C(4) << 20) /* on the way to one node */

struct mr_redis_sink;

struct mr_redis_sink_options {
    struct mr_redis_options redis;
    struct mr_bytes prefix; /* borrowed, as are the rules given to put: for the life of the sink */
    int64_t ttl_ms;         /* INT64_MAX: none */
    uint32_t rows_max;      /* waiting and sent */
    uint64_t bytes_max;
};

struct mr_redis_sink_stats {
    uint64_t applied;
    uint64_t there_already; /* the same or a newer revision */
    uint64_t later_epoch;   /* the hash is of a store of the same name that was made later: refused */
    uint64_t wrong_keys;    /* given up */
    uint64_t errors;        /* answers that were errors, and connections that broke */
    uint64_t reconnects;
    uint64_t rows;          /* waiting and sent now */
    bool failing;           /* something is the matter, and not everything was sent since */
    char reason[256];       /* what was the last to be; kept afterwards */
    char key[128];          /* of the last row with a wrong key or a later epoch, perhaps cut */
};

enum mr_status mr_redis_sink_open(const struct mr_redis_sink_options *options, struct mr_redis_sink **ret,
                                  struct mr_error *error) MR_MUST_CHECK;
void mr_redis_sink_close(struct mr_redis_sink *sink); /* NULL is fine; what was sent may still be applied */

/* Copies the row. Of rows of one hash that are waiting only the newest stays. The pane has its numbers, unless it is a
 * retraction. */
enum mr_status mr_redis_sink_put(struct mr_redis_sink *sink, const struct mr_results_rule *rule, uint64_t epoch,
                                 const struct mr_pane *pane) MR_MUST_CHECK;
/* Sends, reads answers; returns whether anything moved. */
bool mr_redis_sink_step(struct mr_redis_sink *sink);
/* Until a step may move something, or timeout_ns has passed. */
void mr_redis_sink_wait(struct mr_redis_sink *sink, uint64_t timeout_ns);
/* Every row put is done. */
bool mr_redis_sink_is_empty(const struct mr_redis_sink *sink);
void mr_redis_sink_stats(const struct mr_redis_sink *sink, struct mr_redis_sink_stats *ret);
void mr_redis_sink_check(const struct mr_redis_sink *sink);

/* The hash's key. false: the group's key is not of that many values. */
bool mr_redis_sink_key(struct mr_buf *ret, struct mr_bytes prefix, const struct mr_results_rule *rule,
                       const struct mr_pane *pane);

/* KEYS: the hash. ARGV: epoch, revision, rank, ttl in ms ("": none), then the other fields and values. Answers 1:
 * applied; 0: it has this row or a newer one; -1: it is of a later epoch. */
struct mr_bytes mr_redis_sink_script(void);
extern const char mr_redis_sink_sha[41]; /* SHA-1 of it */
