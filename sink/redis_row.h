/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Redis row: one row of the Redis sink as it is sent: the arguments of its script, in one piece. Not for others: they
 * include sink/redis_sink.h.
 *
 * Shape       bytes: for each argument its length (uint32) and its bytes; the key of the hash is the first.
 * Owner       Owns its bytes, which are used again by the next row that is set.
 */
#include "base/limits.h"
#include "sink/redis_sink.h"

#define MR_REDIS_ROW_BYTES_MAX (1u << 20) /* the widest rule with the longest texts takes a tenth */
#define MR_REDIS_TOMBSTONE_MS  (INT64_C(24) * 60 * 60 * 1000) /* of a sink without ttl */
/* The key, four numbers, and two arguments for each field that the script does not make itself. */
#define MR_REDIS_ROW_ARGUMENTS_MAX (5 + 2 * (6 + MR_RULE_KEYS_MAX + MR_RULE_METRICS_MAX))

/* Of rows of one revision: what takes back comes last, what is final behind what is not. */
enum mr_redis_rank { MR_REDIS_OPEN, MR_REDIS_FINAL, MR_REDIS_RETRACTED };

struct mr_redis_row {
    struct mr_buf bytes;
    uint32_t count;
    uint64_t epoch;
    uint64_t revision;
    enum mr_redis_rank rank;
};

struct mr_redis_row_target {
    struct mr_bytes prefix;
    int64_t ttl_ms;
    uint64_t epoch;
};

void mr_redis_row_init(struct mr_redis_row *row);
void mr_redis_row_finish(struct mr_redis_row *row);
enum mr_status mr_redis_row_set(struct mr_redis_row *row, const struct mr_redis_row_target *target,
                                const struct mr_results_rule *rule, const struct mr_pane *pane) MR_MUST_CHECK;
struct mr_bytes mr_redis_row_key(const struct mr_redis_row *row);
/* count of them; they borrow from the row. */
void mr_redis_row_arguments(const struct mr_redis_row *row, struct mr_bytes *ret);
/* Of two rows of one hash. */
bool mr_redis_row_is_newer(const struct mr_redis_row *a, const struct mr_redis_row *b);
