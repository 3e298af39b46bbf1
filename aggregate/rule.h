/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Rule: one aggregation over streams, compiled: which columns make the key, which window, when panes fire,
 * which metrics.
 *
 * Owner       The plan (pipeline/) owns rules; everybody else reads them.
 * Threads     Constant after the plan is made.
 */
#include "aggregate/metric.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/limits.h"

enum mr_groups_full { MR_GROUPS_OTHER, MR_GROUPS_DROP };

/* One stream that the rule reads: which of its batches' columns are what. */
struct mr_rule_input {
    uint32_t stream; /* index in the plan */
    uint32_t where;  /* column that is TRUE for the events to take; MR_NO_COLUMN: all */
    uint32_t key_columns[MR_RULE_KEYS_MAX];
    uint32_t metric_columns[MR_RULE_METRICS_MAX]; /* MR_NO_COLUMN: the metric needs none */
    uint32_t metric_where[MR_RULE_METRICS_MAX];   /* like where, of one metric */
    uint64_t metrics_skipped;                     /* bit m: metric m takes no events of this stream */
};

static_assert(MR_RULE_METRICS_MAX <= 64, "a bit for each metric");

enum mr_window_kind {
    MR_WINDOW_TUMBLING, /* [offset + k * size, offset + (k + 1) * size) */
    MR_WINDOW_SLIDING,  /* [offset + k * every, offset + k * every + size) */
    MR_WINDOW_CALENDAR, /* size is whole days of a time zone: base/zone.h */
    MR_WINDOW_SESSION,  /* events of a key less than gap apart */
    MR_WINDOW_GLOBAL,   /* one, from MR_TIME_MIN_MS to MR_TIME_MAX_MS */
};

struct mr_zone;

struct mr_window {
    enum mr_window_kind kind;
    int64_t size_ms;   /* SESSION: the longest one, INT64_MAX: any length */
    int64_t every_ms;  /* SLIDING, at most size_ms */
    int64_t slice_ms;  /* SLIDING: the greatest common divisor of both */
    bool sliced;       /* SLIDING: an event is in so many windows that those that are OPEN are kept as slices */
    int64_t offset_ms; /* >= 0, below size_ms (SLIDING: every_ms) */
    int64_t gap_ms;    /* SESSION */
    const struct mr_zone *zone; /* CALENDAR */
};

enum mr_accumulation {
    MR_ACCUMULATING,             /* a pane holds the whole value */
    MR_DISCARDING,               /* a pane holds what came since the last one */
    MR_ACCUMULATING_RETRACTING,  /* the whole value, and before it what it takes back */
};

struct mr_trigger {
    int64_t early_ms;     /* of recorded time after a group's first change since its last firing; 0: none */
    uint64_t early_count; /* events of a group since its last firing; 0: none */
    bool late;            /* each change within allowed lateness fires; else one pane when the window is final */
    enum mr_accumulation panes;
};

struct mr_rule {
    struct mr_bytes name;
    uint32_t index;    /* of this rule in the plan */
    uint64_t key_seed; /* for mr_hash64 of group keys: equal on all shards */
    struct mr_rule_input inputs[MR_RULE_INPUTS_MAX];
    uint32_t input_count;
    struct mr_bytes key_names[MR_RULE_KEYS_MAX];
    uint32_t key_count; /* 0: one group per window */
    struct mr_window window;
    struct mr_trigger trigger;
    int64_t allowed_lateness_ms;
    struct mr_metric metrics[MR_RULE_METRICS_MAX];
    uint32_t metric_count;
    uint32_t state_len;    /* of one live block, and of an encoded one without its sketches: mr_metric_layout */
    bool grows;            /* mr_metrics_grow */
    uint64_t groups_max;   /* of this rule on one shard */
    uint64_t groups_bytes; /* likewise */
    enum mr_groups_full when_full;
    /* Windows ending at or before it are final whatever the watermark says: they were under settings that held before
     * (allowed_lateness was smaller). INT64_MIN: none. */
    int64_t final_floor_ms;
};

/* What a partial, and an open session, begin with: before the metrics in the state. */
struct mr_session_extent {
    int64_t end_ms;   /* last event time + gap; 0: nothing yet */
    int64_t start_ms; /* first event time */
};

/* Bytes of the state before the first metric. */
static inline uint32_t mr_rule_prefix(const struct mr_rule *rule) {
    return rule->window.kind == MR_WINDOW_SESSION ? sizeof(struct mr_session_extent) : 0;
}

/* The combine shard that owns a key of a rule (L4): independent of the window. */
static inline uint32_t mr_rule_shard(uint64_t key_hash, uint32_t shards) {
    return mr_hash_reduce(key_hash, shards);
}

/* The watermark of a rule: the least of its streams'. */
static inline int64_t mr_rule_watermark(const struct mr_rule *rule, const int64_t *watermarks_ms) {
    int64_t least = watermarks_ms[rule->inputs[0].stream];
    for (uint32_t i = 1; i < rule->input_count && !MR_BUG(FASTEST_STREAM); i++) {
        int64_t next = watermarks_ms[rule->inputs[i].stream];
        least = next < least ? next : least;
    }
    return least;
}

static inline bool mr_rule_reads(const struct mr_rule *rule, uint32_t stream) {
    for (uint32_t i = 0; i < rule->input_count; i++) {
        if (rule->inputs[i].stream == stream) {
            return true;
        }
    }
    return false;
}
