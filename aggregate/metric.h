/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Metric: commutative monoids over columns: what a rule computes for each group.
 *
 * Idea        Every metric has init, add, merge, finish, so that partial results made anywhere can
 *             be combined in any grouping. Adding works on a whole column at a time: the caller
 *             branches on the kind once, the leaf loops over events.
 * Shape       Two forms of one value:
 *
 *                 live      a block of state_len bytes, 8-byte aligned, metrics side by side; metric m
 *                           has its state at m.offset. What grows (a sketch: distinct, quantiles, top,
 *                           histogram, collect, the texts of first and last) has 8 bytes there, a pointer
 *                           to its memory, NULL while it is empty. All-zero bytes are the neutral element.
 *                 encoded   | block: state_len | sketch | sketch … |, each padded to 8 bytes; in the block a
 *                           sketch's 8 bytes are { u32 offset from the block's start, u32 length }, zero when
 *                           empty. Plain bytes without pointers, little-endian, part of the data format:
 *                           what partials, panes, rows, saves and the store hold. Equal values made in
 *                           any order of merges need not be equal bytes, but finish to the same.
 *
 *             A rule without sketches has one form only: the two are the same bytes.
 * Numbers     Sums keep an exact 128-bit integer sum of the int64 values and a double-double sum
 *             (two-sum, Knuth/Dekker) of the doubles, so the result does not depend on the order
 *             but in extreme cases: it is exact, and rounded once at the end, while the sum counted
 *             in units of the smallest bit of any value stays below 2^105 (prices in doubles do by
 *             far). Doubles that leave the range are OVERFLOW with an infinity. All ints and in
 *             int64 range: INT; out of range: OVERFLOW with the value as double. A sum of no values is INT 0;
 *             min, max, avg, variance, first, last of none are NULL. -0.0 and 0.0 are equal; min and max of
 *             ints and doubles compare by exact value. Values MISSING and NULL are skipped by all but count.
 * Threads     Pure functions over the caller's memory; sketches are on the heap (base/alloc.h).
 * Errors      MR_NO_MEMORY from add and merge: the value may be half changed; the caller stops the process.
 *             MR_CORRUPT from mr_metric_check: encoded bytes that this code cannot have written.
 */
#include "base/arena.h"
#include "base/pane.h"

#define MR_METRIC_PARAMS_MAX 64

enum mr_metric_kind {
    MR_METRIC_COUNT,
    MR_METRIC_SUM,
    MR_METRIC_MIN,
    MR_METRIC_MAX,
    MR_METRIC_AVG,
};

/* Where there is no column of a batch to name. */
#define MR_NO_COLUMN UINT32_MAX

struct mr_metric {
    struct mr_bytes name;
    enum mr_metric_kind kind;
    uint32_t offset; /* into the live block, set by mr_metric_layout */
};

struct mr_batch;
struct mr_column;

const char *mr_metric_kind_name(enum mr_metric_kind kind);

/* Sets the offsets, the first one `prefix` (a multiple of 8: room of the caller's before the metrics), and returns
 * state_len: a multiple of 8. */
uint32_t mr_metric_layout(struct mr_metric *metrics, uint32_t count, uint32_t prefix);

/* Whether any of them has a sketch: then live and encoded differ. */
bool mr_metrics_grow(const struct mr_metric *metrics, uint32_t count);

/* For k in 0..n-1: adds the value of event events[k] to the live block at states[k] (the function adds the metric's
 * offset). column: of the batch; NULL for count. batch: for texts, times and the place in the log; NULL where the
 * metric needs none of them. */
enum mr_status mr_metric_add(const struct mr_metric *metric, const struct mr_batch *batch,
                             const struct mr_column *column, const uint32_t *events,
                             uint8_t *const *states, uint32_t n) MR_MUST_CHECK;

/* into (live) += from (encoded, 8-byte aligned), all metrics. What is before the first metric is left alone. */
enum mr_status mr_metric_merge(const struct mr_metric *metrics, uint32_t count, uint8_t *into,
                               struct mr_bytes from) MR_MUST_CHECK;

/* Encoding: the size, a multiple of 8, then the bytes. The prefix is copied too. */
uint32_t mr_metric_encoded_len(const struct mr_metric *metrics, uint32_t count, const uint8_t *state);
void mr_metric_encode(const struct mr_metric *metrics, uint32_t count, const uint8_t *state, uint8_t *ret);
/* Encoded bytes from a file: whether they are well-formed. Alignment does not matter. */
enum mr_status mr_metric_check(const struct mr_metric *metrics, uint32_t count,
                               struct mr_bytes encoded) MR_MUST_CHECK;

/* Bytes on the heap of the block's sketches. */
size_t mr_metric_heap(const struct mr_metric *metrics, uint32_t count, const uint8_t *state);
/* Frees them; the metrics are neutral again. */
void mr_metric_release(const struct mr_metric *metrics, uint32_t count, uint8_t *state);

/* What a person sees of metrics[index]. encoded need not be aligned. Texts lie in scratch until its reset; kinds without
 * texts do not need one. Out of memory: NULL. */
struct mr_number mr_metric_finish(const struct mr_metric *metrics, uint32_t index,
                                  struct mr_bytes encoded, struct mr_arena *scratch);

/* All of them: ret[count]. */
void mr_metrics_finish(const struct mr_metric *metrics, uint32_t count, struct mr_bytes encoded,
                       struct mr_arena *scratch, struct mr_number *ret);

/* Orders numbers for `order=`: NULL below everything, texts above, by bytes. <0, 0, >0. */
int mr_number_compare(struct mr_number a, struct mr_number b);
