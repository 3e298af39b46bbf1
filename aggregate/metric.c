/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/metric.h"

#include "base/check.h"
#include "event/batch.h"

#include <math.h>

/* The states as they lie in accumulators: no padding, 8-byte aligned (an __int128 would ask for
 * 16). */
struct count_state {
    uint64_t events;
};

/* sum and avg */
struct sum_state {
    uint64_t int_lo; /* the two halves of an __int128 */
    uint64_t int_hi;
    double hi; /* the doubles: hi + lo, |lo| <= half a unit in the last place of hi */
    double lo;
    uint64_t values; /* how many; with HAS_DOUBLES: not all of them are ints */
};

/* min and max */
struct extreme_state {
    uint64_t kind; /* MR_NUMBER_NULL, INT or DOUBLE */
    union {
        int64_t i;
        double d;
    };
};

static_assert(sizeof(struct count_state) == 8, "data format");
static_assert(sizeof(struct sum_state) == 40, "data format");
static_assert(sizeof(struct extreme_state) == 16, "data format");

#define HAS_DOUBLES (UINT64_C(1) << 63)

const char *mr_metric_kind_name(enum mr_metric_kind kind) {
    static const char *const names[] = {
        [MR_METRIC_COUNT] = "count", [MR_METRIC_SUM] = "sum", [MR_METRIC_MIN] = "min",
        [MR_METRIC_MAX] = "max",     [MR_METRIC_AVG] = "avg",
    };
    MR_ASSERT((unsigned)kind < sizeof names / sizeof names[0]);
    return names[kind];
}

static uint32_t state_size(enum mr_metric_kind kind) {
    switch (kind) {
    case MR_METRIC_COUNT:
        return sizeof(struct count_state);
    case MR_METRIC_SUM:
    case MR_METRIC_AVG:
        return sizeof(struct sum_state);
    case MR_METRIC_MIN:
    case MR_METRIC_MAX:
        return sizeof(struct extreme_state);
    }
    MR_UNREACHABLE();
}

uint32_t mr_metric_layout(struct mr_metric *metrics, uint32_t count, uint32_t prefix) {
    MR_ASSERT(count > 0 && prefix % 8 == 0);
    uint32_t offset = prefix;
    for (uint32_t m = 0; m < count; m++) {
        metrics[m].offset = offset;
        offset += state_size(metrics[m].kind);
    }
    MR_ASSERT(offset % 8 == 0);
    return offset;
}

static uint32_t block_len(const struct mr_metric *metrics, uint32_t count) {
    return metrics[count - 1].offset + state_size(metrics[count - 1].kind);
}

bool mr_metrics_grow(const struct mr_metric *metrics, uint32_t count) {
    (void)metrics;
    (void)count;
    return false;
}

static void add_int(struct sum_state *s, __int128_t value) {
    __uint128_t sum = (__uint128_t)s->int_hi << 64 | s->int_lo;
    sum += (__uint128_t)value;
    s->int_lo = (uint64_t)sum;
    s->int_hi = (uint64_t)(sum >> 64);
}

static __int128_t get_int(const struct sum_state *s) {
    return (__int128_t)((__uint128_t)s->int_hi << 64 | s->int_lo);
}

/* Knuth's two-sum into a double-double (Dekker): nothing is lost while the sum, counted in units of
 * the smallest bit of any value, stays below 2^105. */
static void add_double(struct sum_state *s, double x) {
    double sum = s->hi + x;
    double part = sum - s->hi;
    double error = (s->hi - (sum - part)) + (x - part) + s->lo;
    double hi = sum + error;
    if (__builtin_expect(!isfinite(hi), 0)) {
        s->hi = isnan(sum) ? (double)NAN : sum; /* one NaN on all machines */
        s->lo = 0;
        return;
    }
    s->lo = error - (hi - sum);
    s->hi = hi;
}

static inline void *state_of(const struct mr_metric *metric, uint8_t *state) {
    return state + metric->offset;
}

static void count_column(const struct mr_metric *metric, uint8_t *const *states, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        struct count_state *s = state_of(metric, states[k]);
        s->events++;
    }
}

static void sum_column(const struct mr_metric *metric, const struct mr_column *column,
                       const uint32_t *events, uint8_t *const *states, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        struct sum_state *s = state_of(metric, states[k]);
        uint32_t e = events[k];
        if (column->kinds[e] == MR_VALUE_INT) {
            add_int(s, column->values[e].i);
            s->values++;
        } else if (column->kinds[e] == MR_VALUE_DOUBLE) {
            add_double(s, column->values[e].d);
            s->values = (s->values + 1) | HAS_DOUBLES;
        }
    }
}

/* Exact, where converting i to double would round. d is not NaN. */
static int compare_int_double(int64_t i, double d) {
    if (d >= 0x1p63) {
        return -1;
    }
    if (d < -0x1p63) {
        return 1;
    }
    int64_t whole = (int64_t)d;
    if (i != whole) {
        return i < whole ? -1 : 1;
    }
    double rest = d - (double)whole;
    return (rest < 0) - (rest > 0);
}

static int compare_extremes(const struct extreme_state *a, const struct extreme_state *b) {
    if (a->kind == MR_NUMBER_INT) {
        return b->kind == MR_NUMBER_INT ? (a->i > b->i) - (a->i < b->i)
                                        : compare_int_double(a->i, b->d);
    }
    return b->kind == MR_NUMBER_INT ? -compare_int_double(b->i, a->d)
                                    : (a->d > b->d) - (a->d < b->d);
}

/* Of 5 and 5.0 the int is kept, whichever came first: else the order would show. */
static void take_extreme(enum mr_metric_kind kind, struct extreme_state *into,
                         const struct extreme_state *from) {
    if (from->kind == MR_NUMBER_NULL) {
        return;
    }
    if (into->kind == MR_NUMBER_NULL) {
        *into = *from;
        return;
    }
    int order = compare_extremes(from, into);
    order = kind == MR_METRIC_MIN ? order : -order;
    if (order < 0 || (order == 0 && from->kind == MR_NUMBER_INT)) {
        *into = *from;
    }
}

static void extreme_column(const struct mr_metric *metric, const struct mr_column *column,
                           const uint32_t *events, uint8_t *const *states, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        struct extreme_state value = {.kind = MR_NUMBER_NULL};
        uint32_t e = events[k];
        if (column->kinds[e] == MR_VALUE_INT) {
            value.kind = MR_NUMBER_INT;
            value.i = column->values[e].i;
        } else if (column->kinds[e] == MR_VALUE_DOUBLE) {
            value.kind = MR_NUMBER_DOUBLE;
            value.d = column->values[e].d + 0.0; /* -0.0 becomes 0.0 */
        }
        take_extreme(metric->kind, state_of(metric, states[k]), &value);
    }
}

enum mr_status mr_metric_add(const struct mr_metric *metric, const struct mr_batch *batch,
                             const struct mr_column *column, const uint32_t *events,
                             uint8_t *const *states, uint32_t n) {
    (void)batch;
    MR_ASSERT((column == NULL) == (metric->kind == MR_METRIC_COUNT));
    switch (metric->kind) {
    case MR_METRIC_COUNT:
        count_column(metric, states, n);
        return MR_OK;
    case MR_METRIC_SUM:
    case MR_METRIC_AVG:
        sum_column(metric, column, events, states, n);
        return MR_OK;
    case MR_METRIC_MIN:
    case MR_METRIC_MAX:
        extreme_column(metric, column, events, states, n);
        return MR_OK;
    }
    MR_UNREACHABLE();
}

static void merge_sums(struct sum_state *into, const struct sum_state *from) {
    add_int(into, get_int(from));
    if ((from->values & HAS_DOUBLES) != 0) {
        add_double(into, from->hi);
        add_double(into, from->lo);
    }
    uint64_t values = (into->values & ~HAS_DOUBLES) + (from->values & ~HAS_DOUBLES);
    into->values = values | ((into->values | from->values) & HAS_DOUBLES);
}

enum mr_status mr_metric_merge(const struct mr_metric *metrics, uint32_t count, uint8_t *into,
                               struct mr_bytes from) {
    MR_ASSERT(from.len >= block_len(metrics, count) && (uintptr_t)from.ptr % 8 == 0);
    for (uint32_t m = 0; m < count; m++) {
        void *to = into + metrics[m].offset;
        const void *add = from.ptr + metrics[m].offset;
        switch (metrics[m].kind) {
        case MR_METRIC_COUNT:
            ((struct count_state *)to)->events += ((const struct count_state *)add)->events;
            break;
        case MR_METRIC_SUM:
        case MR_METRIC_AVG:
            merge_sums(to, add);
            break;
        case MR_METRIC_MIN:
        case MR_METRIC_MAX:
            take_extreme(metrics[m].kind, to, add);
            break;
        }
    }
    return MR_OK;
}

uint32_t mr_metric_encoded_len(const struct mr_metric *metrics, uint32_t count, const uint8_t *state) {
    (void)state;
    return block_len(metrics, count);
}

void mr_metric_encode(const struct mr_metric *metrics, uint32_t count, const uint8_t *state, uint8_t *ret) {
    memcpy(ret, state, block_len(metrics, count));
}

enum mr_status mr_metric_check(const struct mr_metric *metrics, uint32_t count, struct mr_bytes encoded) {
    return encoded.len == block_len(metrics, count) ? MR_OK : MR_CORRUPT;
}

size_t mr_metric_heap(const struct mr_metric *metrics, uint32_t count, const uint8_t *state) {
    (void)metrics;
    (void)count;
    (void)state;
    return 0;
}

void mr_metric_release(const struct mr_metric *metrics, uint32_t count, uint8_t *state) {
    memset(state + metrics[0].offset, 0, block_len(metrics, count) - metrics[0].offset);
}

static struct mr_number number_of_double(double d) {
    return (struct mr_number){.kind = isfinite(d) ? MR_NUMBER_DOUBLE : MR_NUMBER_OVERFLOW, .d = d};
}

/* Doubles and ints in one double-double. Three steps of 53 bits take an int of 128 bits whole. */
static struct sum_state join_sums(const struct sum_state *s) {
    struct sum_state joined = *s;
    __int128_t rest = get_int(s);
    for (int step = 0; step < 3; step++) {
        double part = (double)rest;
        add_double(&joined, part);
        rest -= (__int128_t)part;
    }
    MR_ASSERT(rest == 0);
    return joined;
}

static struct mr_number finish_sum(const struct sum_state *s) {
    if ((s->values & HAS_DOUBLES) != 0) {
        return number_of_double(join_sums(s).hi);
    }
    __int128_t sum = get_int(s);
    if (sum >= INT64_MIN && sum <= INT64_MAX) {
        return (struct mr_number){.kind = MR_NUMBER_INT, .i = (int64_t)sum};
    }
    return (struct mr_number){.kind = MR_NUMBER_OVERFLOW, .d = (double)sum};
}

static struct mr_number finish_avg(const struct sum_state *s) {
    double n = (double)(s->values & ~HAS_DOUBLES);
    if (n == 0) {
        return (struct mr_number){.kind = MR_NUMBER_NULL, .i = 0};
    }
    struct sum_state joined = join_sums(s);
    double quotient = joined.hi / n;
    if (!isfinite(quotient)) {
        return number_of_double(quotient);
    }
    double rest = fma(-quotient, n, joined.hi) + joined.lo; /* what the division left, exactly */
    return number_of_double(quotient + rest / n);
}

/* Copies first: states in rows of the store are not aligned. */
struct mr_number mr_metric_finish(const struct mr_metric *metrics, uint32_t index,
                                  struct mr_bytes encoded, struct mr_arena *scratch) {
    (void)scratch;
    const struct mr_metric *metric = &metrics[index];
    union {
        struct count_state count;
        struct sum_state sum;
        struct extreme_state extreme;
    } s;
    MR_ASSERT(encoded.len >= metric->offset + state_size(metric->kind));
    memcpy(&s, encoded.ptr + metric->offset, state_size(metric->kind));
    switch (metric->kind) {
    case MR_METRIC_COUNT:
        return (struct mr_number){.kind = MR_NUMBER_INT, .i = (int64_t)s.count.events};
    case MR_METRIC_SUM:
        return finish_sum(&s.sum);
    case MR_METRIC_AVG:
        return finish_avg(&s.sum);
    case MR_METRIC_MIN:
    case MR_METRIC_MAX:
        if (s.extreme.kind == MR_NUMBER_DOUBLE) {
            return (struct mr_number){.kind = MR_NUMBER_DOUBLE, .d = s.extreme.d};
        }
        return (struct mr_number){.kind = (enum mr_number_kind)s.extreme.kind, .i = s.extreme.i};
    }
    MR_UNREACHABLE();
}

/* NULL, then what is not a number, then numbers. */
static int rank(struct mr_number n) {
    if (n.kind == MR_NUMBER_NULL) {
        return 0;
    }
    return n.kind != MR_NUMBER_INT && isnan(n.d) ? 1 : 2;
}

void mr_metrics_finish(const struct mr_metric *metrics, uint32_t count, struct mr_bytes encoded,
                       struct mr_arena *scratch, struct mr_number *ret) {
    for (uint32_t m = 0; m < count; m++) {
        ret[m] = mr_metric_finish(metrics, m, encoded, scratch);
    }
}

int mr_number_compare(struct mr_number a, struct mr_number b) {
    int rank_a = rank(a);
    int rank_b = rank(b);
    if (rank_a != rank_b || rank_a < 2) {
        return rank_a - rank_b;
    }
    struct extreme_state left = {.kind = MR_NUMBER_DOUBLE, .d = a.d};
    struct extreme_state right = {.kind = MR_NUMBER_DOUBLE, .d = b.d};
    if (a.kind == MR_NUMBER_INT) {
        left = (struct extreme_state){.kind = MR_NUMBER_INT, .i = a.i};
    }
    if (b.kind == MR_NUMBER_INT) {
        right = (struct extreme_state){.kind = MR_NUMBER_INT, .i = b.i};
    }
    return compare_extremes(&left, &right);
}
