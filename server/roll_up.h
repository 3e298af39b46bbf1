/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Roll-up: windows added up over longer steps of time, or over a whole range: one row for each key and step.
 *
 * Idea        Metrics are monoids: the sum of a key's windows is the metric over all of their events. Rows are read in
 *             window order, in slices, each of one cut (server/gather.h), so that the windows of a step come side by
 *             side, and one step's groups are held at a time.
 *
 *                 windows   |w0|w1|w2|w3|w4|w5|      of 10 s: w0 DE 3, w0 FR 1, w1 DE 4, w2 FR 2 …
 *                 steps     |   s0   |   s1   |      of 30 s: s0 DE 7 (2 windows), s0 FR 3 (2 windows) …
 *
 *             In the order of keys no more groups are kept than may still be given: once so many smaller keys of a step
 *             are known, a greater one can never be among them. In the order of a metric all of a step's are needed.
 * Shape       Step k is [k * step_ms, (k + 1) * step_ms); step_ms 0: the whole range is one. A window belongs to the
 *             step in which it starts. The key of a row is without a pane's index (panes: discarding are added up), and
 *             that of all shards' overflow groups is the same. A step's row is final when every window that starts in
 *             the step is.
 * Units       ms since the epoch.
 * Owner       init/finish: the caller's struct. A visited row borrows until visit returns.
 * Threads     One.
 * Errors      MR_LIMIT, with a text that says which bound, and what helps: one step has too many groups, too many
 *             bytes, or too many rows to read. MR_INVALID: by_metric, of which a value is no number. MR_NO_MEMORY. What
 *             read returned. Rows visited before an error are of no use.
 * Cost        One look-up and one merge a row read; a sort of each step's groups.
 * Invariants  I1 at most `limit` rows are visited: by step, in the scan's direction, in each by key in the scan's
 *             direction, or by_metric the greatest first, equal ones by key. No (step, key) twice.
 *             I2 pages made with next_* of the page before give what one long page gives, while nothing changes.
 *             I3 bytes <= bytes_max but for the growth of one merge.
 */
#include "server/merge.h"

#define MR_ROLL_UP_BYTES_MAX  (256u << 20) /* of the groups of one step */
#define MR_ROLL_UP_GROUPS_MAX 1000000u     /* likewise; in the order of a metric */
#define MR_ROLL_UP_ROWS_MAX   20000000u    /* read for one page: some tens of seconds */
#define MR_ROLL_UP_SLICE      65536u       /* rows of one cut */

struct mr_group_sum; /* roll_up.c */

struct mr_roll_up {
    /* The question: constant during a run. */
    const struct mr_rule *rule;
    struct mr_scan scan; /* window order; its limit, state and after are not used */
    int64_t step_ms;
    bool by_metric;
    uint32_t metric;
    uint32_t each;  /* by_metric: rows of one step */
    uint32_t limit; /* rows of the page */
    bool resumed;   /* begin at resume_step_ms, there behind resume_key, if it has one */
    int64_t resume_step_ms;
    bool resume_has_key;
    struct mr_bytes resume_key;
    int64_t open_from_ms; /* steps that begin before it are final: mr_roll_up_open_from */
    uint64_t rows_max;    /* these three: as init sets them, or less */
    size_t bytes_max;
    uint32_t groups_max;
    uint32_t slice;
    /* The rows of a scan, of one cut: sources for mr_merge_run, valid until the next call. */
    enum mr_status (*read)(void *ctx, const struct mr_scan *scan, struct mr_merge_source **ret_sources,
                           uint32_t *ret_count);
    /* windows: how many were added up. false: no more, please. */
    bool (*visit)(void *ctx, const struct mr_row *row, uint64_t windows);
    void *ctx;
    /* The answer. */
    uint32_t count; /* rows visited */
    bool more;      /* by key only: the next page begins at next_*, as resume_* */
    int64_t next_step_ms;
    bool next_has_key;
    struct mr_buf next_key;
    /* The step under way. */
    struct mr_group_sum *groups;
    uint32_t group_count;
    uint32_t group_cap;
    uint32_t *slots; /* group + 1; 0: free. A power of two of them, at most half full */
    uint32_t slot_count;
    size_t bytes;
    bool in_step;
    int64_t step_start_ms;
    bool pruned; /* keys that come behind `last_key` in the scan's direction are not kept */
    struct mr_buf last_key;
    uint64_t rows_read;
    uint64_t steps_before; /* it, on this page */
    bool stopped;
    enum mr_status status;
    struct mr_error *error;
    struct mr_buf aligned;
    struct mr_buf encoded;
};

/* The rule has tumbling windows that divide step_ms, or step_ms is 0. Every other field of the question is the caller's
 * to set. */
void mr_roll_up_init(struct mr_roll_up *ret, const struct mr_rule *rule, int64_t step_ms);
enum mr_status mr_roll_up_run(struct mr_roll_up *roll_up, struct mr_error *error) MR_MUST_CHECK;
void mr_roll_up_finish(struct mr_roll_up *roll_up); /* also after an error, and again */

/* The greatest multiple of step_ms at or below ms. INT64_MIN and INT64_MAX stay what they are. */
int64_t mr_step_floor(int64_t ms, int64_t step_ms);
/* The least one at or above it. */
int64_t mr_step_ceil(int64_t ms, int64_t step_ms);
/* The first step that is not final when every window ending at or before final_end_ms is. INT64_MIN, INT64_MAX: all,
 * none. */
int64_t mr_roll_up_open_from(const struct mr_rule *rule, int64_t step_ms, int64_t final_end_ms);
void mr_roll_up_check(const struct mr_roll_up *roll_up);
