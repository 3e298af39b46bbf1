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
 *                           collect, the texts of first and last) has 8 bytes there, a pointer
 *                           to its memory, NULL while it is empty. All-zero bytes are the neutral element.
 *                 encoded   | block: state_len | sketch | sketch … |, each padded to 8 bytes; in the block a
 *                           sketch's 8 bytes are { u32 offset from the block's start, u32 length }, zero when
 *                           empty. Plain bytes without pointers, little-endian, part of the data format:
 *                           what partials, panes, rows, saves and the store hold. Equal values made in
 *                           any order of merges need not be equal bytes, but finish to the same (variance
 *                           to 10^-12; top, where values do not fit, within the errors it tells).
 *
 *             A rule without sketches has one form only: the two are the same bytes.
 *
 *             Sizes in the block, and the most a sketch takes encoded (mr_metric_encoded_max sums them up):
 *
 *                 count 8 | sum, avg 40 | min, max 16 | variance, stddev 48 | histogram 8 (bounds + 1) | ratio 0
 *                 first, last  32, of which the last 8 are the value, or the sketch: a text        504
 *                 distinct      8, HyperLogLog of 2^p registers; error 0.01: p = 14            12.3 KB
 *                 quantiles     8, DDSketch; error 0.01: at most 2048 buckets                  24.6 KB
 *                 top           8, Space-Saving of max(10 n, 100) counters                     53.2 KB for n = 10
 *                 collect       8                                                              65.6 KB
 *
 *             Each sketch_*.h and metric_*.h says how its bytes lie.
 * Kinds       variance, stddev   of the population (divided by n, as VAR_POP): all events of the window are there, it
 *                                is no sample of them. One value: 0.
 *             first, last        the value with the least (greatest) event time, then place in the log. Any scalar.
 *             distinct           how many different values; 1 and 1.0 are one value, 1 and "1" are two.
 *             quantiles          of params[]; an object, {"0.5": 12.1, "0.99": 40}; NULL of no values. Of n sorted
 *                                values it is about number floor(q (n - 1)), from 0.
 *             top                the `limit` most frequent values, best first, then in the order of values (booleans,
 *                                numbers, texts): [{"value": "/", "count": 12, "error": 0}]; count - error <= true
 *                                count <= count.
 *             histogram          {"bounds": [10, 20], "counts": [1, 2, 3]}: below 10, in [10, 20), from 20 on.
 *             collect            the first `limit` values in the order of event time, then place in the log, as long
 *                                as they take 64 KiB together: {"values": ["a", 1], "count": 2}; count: of all values.
 *             ratio              metrics[over[0]] / metrics[over[1]]; NULL where one is no number or the second is 0.
 *
 *             Values: first, last, distinct, top and collect take booleans, numbers and strings; strings are cut at
 *             MR_KEY_TEXT_MAX bytes, at a character, but by distinct. The others take numbers. Everything else is
 *             skipped.
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
    MR_METRIC_VARIANCE,
    MR_METRIC_STDDEV,
    MR_METRIC_FIRST,
    MR_METRIC_LAST,
    MR_METRIC_DISTINCT,
    MR_METRIC_QUANTILES,
    MR_METRIC_TOP,
    MR_METRIC_HISTOGRAM,
    MR_METRIC_COLLECT,
    MR_METRIC_RATIO,
    MR_METRIC_KIND_COUNT
};

#define MR_METRIC_ERROR_DEFAULT 0.01
#define MR_METRIC_ERROR_MIN     0.001 /* quantiles: 20480 buckets, 246 KB */
#define MR_METRIC_DISTINCT_MIN  0.0025 /* p = 18, 256 KiB */
#define MR_METRIC_ERROR_MAX     0.25
#define MR_METRIC_TOP_DEFAULT   10
#define MR_METRIC_TOP_MAX       1000 /* 10,000 counters: at most 5.4 MB */
#define MR_METRIC_COLLECT_DEFAULT 100
#define MR_METRIC_COLLECT_MAX     10000 /* the bytes allow 2048 numbers */
#define MR_METRIC_COLLECT_BYTES (64u << 10) /* of a list: 32 for each value, and its text */

/* Where there is no column of a batch to name. */
#define MR_NO_COLUMN UINT32_MAX

struct mr_metric {
    struct mr_bytes name;
    enum mr_metric_kind kind;
    const double *params; /* QUANTILES: each in [0, 1]; HISTOGRAM: bounds, ascending; 1 to MR_METRIC_PARAMS_MAX */
    uint32_t param_count;
    uint32_t limit;   /* TOP, COLLECT: of values in the result; 0: the default */
    double error;     /* DISTINCT: standard error; QUANTILES: relative error of a value; 0: the default */
    uint32_t over[2]; /* RATIO: indexes of metrics of the same rule that are no RATIO */

    /* Set by mr_metric_layout. */
    uint32_t offset;   /* into the live block */
    uint32_t capacity; /* DISTINCT: p; QUANTILES: of buckets; TOP: of counters */
    double scale;      /* QUANTILES: buckets to a step of mr_quantiles' logarithm */
};

struct mr_batch;
struct mr_column;

const char *mr_metric_kind_name(enum mr_metric_kind kind);

/* Sets the defaults and what is derived, and asserts that the parameters are in their ranges. Sets the offsets, the
 * first one `prefix` (a multiple of 8: room of the caller's before the metrics), and returns state_len: a multiple of
 * 8. */
uint32_t mr_metric_layout(struct mr_metric *metrics, uint32_t count, uint32_t prefix);

/* Whether any of them has a sketch: then live and encoded differ. */
bool mr_metrics_grow(const struct mr_metric *metrics, uint32_t count);

/* For k in 0..n-1: adds the value of event events[k] to the live block at states[k] (the function adds the metric's
 * offset). column: of the batch; NULL for count and ratio. batch: for texts, times and the place in the log; NULL
 * where the metric needs none of them. */
enum mr_status mr_metric_add(const struct mr_metric *metric, const struct mr_batch *batch,
                             const struct mr_column *column, const uint32_t *events,
                             uint8_t *const *states, uint32_t n) MR_MUST_CHECK;

/* into (live) += from (encoded, 8-byte aligned), all metrics. What is before the first metric is left alone. */
enum mr_status mr_metric_merge(const struct mr_metric *metrics, uint32_t count, uint8_t *into,
                               struct mr_bytes from) MR_MUST_CHECK;

/* The same of n pairs of blocks, in their order, of metrics that do not grow: a loop for each metric, so that what one
 * block waits for, another does meanwhile. A block may be there more than once. */
void mr_metric_merge_plain(const struct mr_metric *metrics, uint32_t count, uint8_t *const *into,
                           const uint8_t *const *from, uint32_t n);

/* Encoding: the size, a multiple of 8, then the bytes. The prefix is copied too. */
uint32_t mr_metric_encoded_len(const struct mr_metric *metrics, uint32_t count, const uint8_t *state);
void mr_metric_encode(const struct mr_metric *metrics, uint32_t count, const uint8_t *state, uint8_t *ret);
/* The most that encoded_len can be. */
uint64_t mr_metric_encoded_max(const struct mr_metric *metrics, uint32_t count);
/* Encoded bytes from a file: whether they are well-formed. Alignment does not matter. */
enum mr_status mr_metric_check(const struct mr_metric *metrics, uint32_t count,
                               struct mr_bytes encoded) MR_MUST_CHECK;

/* Bytes on the heap of the block's sketches. O(metrics). */
size_t mr_metric_heap(const struct mr_metric *metrics, uint32_t count, const uint8_t *state);
/* Frees them; the metrics are neutral again. */
void mr_metric_release(const struct mr_metric *metrics, uint32_t count, uint8_t *state);

/* What a person sees of metrics[index]. encoded need not be aligned. Texts lie in scratch until its reset; kinds
 * without texts do not need one. Without one, first and last borrow from encoded, and kinds of JSON are NULL. Out of
 * memory: NULL. */
struct mr_number mr_metric_finish(const struct mr_metric *metrics, uint32_t index,
                                  struct mr_bytes encoded, struct mr_arena *scratch);

/* All of them: ret[count]. */
void mr_metrics_finish(const struct mr_metric *metrics, uint32_t count, struct mr_bytes encoded,
                       struct mr_arena *scratch, struct mr_number *ret);

/* Orders numbers for `order=`: NULL below everything, then not-a-number, booleans, numbers, texts, JSON, the last two
 * by bytes. <0, 0, >0. */
int mr_number_compare(struct mr_number a, struct mr_number b);
