/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Metric: commutative monoids over columns: count, sum, min, max, avg.
 *
 * Idea        Every metric has init, add, merge, finish, so that partial results made anywhere can
 *             be combined in any grouping. Adding works on a whole column at a time: the caller
 *             branches on the kind once, the leaf loops over events.
 * Shape       An accumulator is a block of state_len bytes, 8-byte aligned, metrics side by side;
 *             metric m has its state at m.offset. States are plain bytes without pointers: they are
 *             copied into partials, panes and the store as they are (little-endian, part of the
 *             data format).
 * Numbers     Sums keep an exact 128-bit integer sum of the int64 values and a double-double sum
 *             (two-sum, Knuth/Dekker) of the doubles, so the result does not depend on the order
 *             but in extreme cases: it is exact, and rounded once at the end, while the sum counted
 *             in units of the smallest bit of any value stays below 2^105 (prices in doubles do by
 *             far). Doubles that leave the range are OVERFLOW with an infinity. All ints and in
 * int64 range: INT; out of range: OVERFLOW with the value as double. A sum of no values is INT 0;
 * min, max, avg of none are NULL. -0.0 and 0.0 are equal; min and max of ints and doubles compare
 * by exact value. Values MISSING and NULL are skipped. Threads     Pure functions over the caller's
 * memory.
 */
#include "base/bytes.h"
#include "base/pane.h"

enum mr_metric_kind { MR_METRIC_COUNT, MR_METRIC_SUM, MR_METRIC_MIN, MR_METRIC_MAX, MR_METRIC_AVG };

#define MR_METRIC_NO_COLUMN UINT32_MAX

struct mr_metric {
    struct mr_bytes name;
    enum mr_metric_kind kind;
    uint32_t column; /* batch column of use NUMBER; MR_METRIC_NO_COLUMN for count (of events) */
    uint32_t offset; /* into the accumulator, set by mr_metric_layout */
};

struct mr_column;

const char *mr_metric_kind_name(enum mr_metric_kind kind);

/* Sets the offsets and returns state_len: a multiple of 8. */
uint32_t mr_metric_layout(struct mr_metric *metrics, uint32_t count);

void mr_metric_init(const struct mr_metric *metrics, uint32_t count, uint8_t *state);

/* For k in 0..n-1: adds the value of event events[k] to the accumulator at states[k] (the whole
 * block; the function adds the metric's offset). column is NULL for count. */
void mr_metric_add(const struct mr_metric *metric, const struct mr_column *column,
                   const uint32_t *events, uint8_t *const *states, uint32_t n);

/* into += from, all metrics. */
void mr_metric_merge(const struct mr_metric *metrics, uint32_t count, uint8_t *into,
                     const uint8_t *from);

/* The number a person sees. */
struct mr_number mr_metric_finish(const struct mr_metric *metric, const uint8_t *state);

/* Orders numbers for `order=`: NULL below everything. <0, 0, >0. */
int mr_number_compare(struct mr_number a, struct mr_number b);
