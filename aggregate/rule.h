/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Rule: one aggregation over a stream, compiled: which columns make the key, which window, which
 * metrics.
 *
 * Owner       The plan (pipeline/) owns rules; everybody else reads them.
 * Threads     Constant after the plan is made.
 */
#include "aggregate/metric.h"
#include "base/hash.h"
#include "base/limits.h"

enum mr_groups_full { MR_GROUPS_OTHER, MR_GROUPS_DROP };

struct mr_rule {
    struct mr_bytes name;
    uint32_t index;                         /* of this rule in the plan */
    uint32_t stream;                        /* index of its stream */
    uint64_t key_seed;                      /* for mr_hash64 of group keys: equal on all shards */
    uint32_t key_columns[MR_RULE_KEYS_MAX]; /* indexes into the batch's columns */
    struct mr_bytes key_names[MR_RULE_KEYS_MAX];
    uint32_t key_count;     /* 0: one group per window */
    int64_t window_size_ms; /* tumbling: [k * size, (k + 1) * size), floor division */
    int64_t allowed_lateness_ms;
    struct mr_metric metrics[MR_RULE_METRICS_MAX];
    uint32_t metric_count;
    uint32_t state_len;    /* of one accumulator: mr_metric_layout */
    uint64_t groups_max;   /* of this rule on one shard */
    uint64_t groups_bytes; /* likewise */
    enum mr_groups_full when_full;
    /* Windows ending at or before it are final whatever the watermark says: they were under settings that held before
     * (allowed_lateness was smaller). INT64_MIN: none. */
    int64_t final_floor_ms;
};

/* The combine shard that owns a key of a rule (L4): independent of the window. */
static inline uint32_t mr_rule_shard(uint64_t key_hash, uint32_t shards) {
    return mr_hash_reduce(key_hash, shards);
}
