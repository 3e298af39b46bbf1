/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/metric.h"

#include "aggregate/metric_first.h"
#include "aggregate/metric_histogram.h"
#include "aggregate/metric_moments.h"
#include "aggregate/metric_sum.h"
#include "aggregate/sketch.h"
#include "aggregate/sketch_distinct.h"
#include "aggregate/sketch_quantiles.h"
#include "aggregate/sketch_top.h"

#include <math.h>
#include <stddef.h>

/* What each kind has in the block. */
static const struct {
    const char *name;
    uint32_t size;
    const struct mr_sketch_ops *sketch; /* its 8 bytes are a slot */
} kinds[MR_METRIC_KIND_COUNT] = {
    [MR_METRIC_COUNT] = {"count", sizeof(uint64_t), NULL},
    [MR_METRIC_SUM] = {"sum", sizeof(struct mr_sum_state), NULL},
    [MR_METRIC_MIN] = {"min", sizeof(struct mr_extreme_state), NULL},
    [MR_METRIC_MAX] = {"max", sizeof(struct mr_extreme_state), NULL},
    [MR_METRIC_AVG] = {"avg", sizeof(struct mr_sum_state), NULL},
    [MR_METRIC_VARIANCE] = {"variance", sizeof(struct mr_moments_state), NULL},
    [MR_METRIC_STDDEV] = {"stddev", sizeof(struct mr_moments_state), NULL},
    [MR_METRIC_FIRST] = {"first", sizeof(struct mr_first_state), NULL},
    [MR_METRIC_LAST] = {"last", sizeof(struct mr_first_state), NULL},
    [MR_METRIC_DISTINCT] = {"distinct", 8, &mr_distinct_ops},
    [MR_METRIC_QUANTILES] = {"quantiles", 8, &mr_quantiles_ops},
    [MR_METRIC_TOP] = {"top", 8, &mr_top_ops},
    [MR_METRIC_HISTOGRAM] = {"histogram", 8, NULL}, /* and 8 for each bound */
    [MR_METRIC_COLLECT] = {"collect", 8, &mr_collect_ops},
    [MR_METRIC_RATIO] = {"ratio", 0, NULL},
};

static_assert(sizeof(void *) == 8, "a slot is 8 bytes");

const char *mr_metric_kind_name(enum mr_metric_kind kind) {
    MR_ASSERT((unsigned)kind < MR_METRIC_KIND_COUNT);
    return kinds[kind].name;
}

static const struct mr_sketch_ops *ops_of(const struct mr_metric *metric) {
    return kinds[metric->kind].sketch;
}

static bool is_first(const struct mr_metric *metric) {
    return metric->kind == MR_METRIC_FIRST || metric->kind == MR_METRIC_LAST;
}

static uint32_t state_size(const struct mr_metric *metric) {
    MR_ASSERT((unsigned)metric->kind < MR_METRIC_KIND_COUNT);
    return kinds[metric->kind].size + (metric->kind == MR_METRIC_HISTOGRAM ? metric->param_count * 8 : 0);
}

static uint32_t limit_of(const struct mr_metric *metric, uint32_t standard, uint32_t most) {
    MR_ASSERT(metric->limit <= most);
    return metric->limit == 0 ? standard : metric->limit;
}

static void check_params(const struct mr_metric *metric) {
    MR_ASSERT(metric->param_count > 0 && metric->param_count <= MR_METRIC_PARAMS_MAX);
    for (uint32_t i = 0; i < metric->param_count; i++) {
        double x = metric->params[i];
        if (metric->kind == MR_METRIC_QUANTILES) {
            MR_ASSERT(x >= 0 && x <= 1);
        } else {
            MR_ASSERT(isfinite(x) && (i == 0 || x > metric->params[i - 1]));
        }
    }
}

static void prepare(struct mr_metric *metric, const struct mr_metric *metrics, uint32_t count) {
    bool in_range = metric->error >= MR_METRIC_ERROR_MIN && metric->error <= MR_METRIC_ERROR_MAX;
    MR_ASSERT(metric->error == 0 || in_range);
    double error = metric->error == 0 ? MR_METRIC_ERROR_DEFAULT : metric->error;
    switch (metric->kind) {
    case MR_METRIC_DISTINCT:
        MR_ASSERT(error >= MR_METRIC_DISTINCT_MIN);
        metric->error = error;
        metric->capacity = mr_distinct_precision(error);
        break;
    case MR_METRIC_QUANTILES:
        check_params(metric);
        metric->error = error;
        metric->capacity = mr_quantiles_buckets(error);
        metric->scale = mr_quantiles_scale(error);
        break;
    case MR_METRIC_TOP:
        metric->limit = limit_of(metric, MR_METRIC_TOP_DEFAULT, MR_METRIC_TOP_MAX);
        metric->capacity = mr_top_counters(metric->limit);
        break;
    case MR_METRIC_HISTOGRAM:
        check_params(metric);
        break;
    case MR_METRIC_COLLECT:
        metric->limit = limit_of(metric, MR_METRIC_COLLECT_DEFAULT, MR_METRIC_COLLECT_MAX);
        break;
    case MR_METRIC_RATIO:
        for (int i = 0; i < 2; i++) {
            MR_ASSERT(metric->over[i] < count && metrics[metric->over[i]].kind != MR_METRIC_RATIO);
        }
        break;
    default:
        break;
    }
}

uint32_t mr_metric_layout(struct mr_metric *metrics, uint32_t count, uint32_t prefix) {
    MR_ASSERT(count > 0 && prefix % 8 == 0);
    uint32_t offset = prefix;
    for (uint32_t m = 0; m < count; m++) {
        prepare(&metrics[m], metrics, count);
        metrics[m].offset = offset;
        offset += state_size(&metrics[m]);
    }
    MR_ASSERT(offset % 8 == 0);
    return offset;
}

static uint32_t block_len(const struct mr_metric *metrics, uint32_t count) {
    return metrics[count - 1].offset + state_size(&metrics[count - 1]);
}

bool mr_metrics_grow(const struct mr_metric *metrics, uint32_t count) {
    for (uint32_t m = 0; m < count; m++) {
        if (ops_of(&metrics[m]) != NULL || is_first(&metrics[m])) {
            return true;
        }
    }
    return false;
}

static void count_column(const struct mr_metric *metric, uint8_t *const *states, uint32_t n) {
    const uint32_t offset = metric->offset;
    for (uint32_t k = 0; k < n; k++) {
        uint64_t *events = (void *)(states[k] + offset);
        (*events)++;
    }
}

enum mr_status mr_metric_add(const struct mr_metric *metric, const struct mr_batch *batch,
                             const struct mr_column *column, const uint32_t *events,
                             uint8_t *const *states, uint32_t n) {
    bool alone = metric->kind == MR_METRIC_COUNT || metric->kind == MR_METRIC_RATIO;
    MR_ASSERT((column == NULL) == alone);
    switch (metric->kind) {
    case MR_METRIC_COUNT:
        count_column(metric, states, n);
        return MR_OK;
    case MR_METRIC_SUM:
    case MR_METRIC_AVG:
        mr_sum_add(metric, column, events, states, n);
        return MR_OK;
    case MR_METRIC_MIN:
    case MR_METRIC_MAX:
        mr_extreme_add(metric, column, events, states, n);
        return MR_OK;
    case MR_METRIC_VARIANCE:
    case MR_METRIC_STDDEV:
        mr_moments_add(metric, column, events, states, n);
        return MR_OK;
    case MR_METRIC_FIRST:
    case MR_METRIC_LAST:
        MR_ASSERT(batch != NULL);
        return mr_first_add(metric, batch, column, events, states, n);
    case MR_METRIC_HISTOGRAM:
        mr_histogram_metric_add(metric, column, events, states, n);
        return MR_OK;
    case MR_METRIC_RATIO:
        return MR_OK;
    default:
        return ops_of(metric)->add(metric, batch, column, events, states, n);
    }
}

/* The sketch behind metric's state in an encoded block: empty where there is none. Bytes that were checked. */
static struct mr_bytes encoded_sketch(const struct mr_metric *metric, struct mr_bytes encoded) {
    uint32_t slot[2];
    uint32_t at = metric->offset;
    if (is_first(metric)) {
        uint32_t kind;
        memcpy(&kind, encoded.ptr + at + offsetof(struct mr_first_state, kind), sizeof kind);
        at += offsetof(struct mr_first_state, text);
        if (kind != MR_SCALAR_TEXT) {
            return mr_bytes_of(NULL, 0);
        }
    } else if (ops_of(metric) == NULL) {
        return mr_bytes_of(NULL, 0);
    }
    memcpy(slot, encoded.ptr + at, sizeof slot);
    MR_ASSERT(slot[0] <= encoded.len && slot[1] <= encoded.len - slot[0]);
    return mr_bytes_of(slot[1] == 0 ? NULL : encoded.ptr + slot[0], slot[1]);
}

/* What may have a sketch. */
static enum mr_status merge_more(const struct mr_metric *metric, uint8_t *into, struct mr_bytes from) {
    struct mr_bytes sketch = encoded_sketch(metric, from);
    uint8_t *to = into + metric->offset;
    if (is_first(metric)) {
        return mr_first_merge(metric->kind, (void *)to, (const void *)(from.ptr + metric->offset), sketch);
    }
    return sketch.len == 0 ? MR_OK : ops_of(metric)->merge(metric, mr_sketch_slot(metric, into), sketch);
}

static void merge_counts(uint32_t offset, uint8_t *const *into, const uint8_t *const *from, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        *(uint64_t *)(void *)(into[k] + offset) += *(const uint64_t *)(const void *)(from[k] + offset);
    }
}

static void merge_sums(uint32_t offset, uint8_t *const *into, const uint8_t *const *from, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        mr_sum_merge((void *)(into[k] + offset), (const void *)(from[k] + offset));
    }
}

static void merge_histogram(const struct mr_metric *metric, uint64_t *to, const uint64_t *add) {
    for (uint32_t i = 0; i <= metric->param_count; i++) {
        to[i] += add[i];
    }
}

/* One metric of n blocks; false: it has a sketch, or may have. */
static bool merge_plain(const struct mr_metric *metric, uint8_t *const *into, const uint8_t *const *from,
                        uint32_t n) {
    const uint32_t at = metric->offset;
    switch (metric->kind) {
    case MR_METRIC_COUNT:
        merge_counts(at, into, from, n);
        return true;
    case MR_METRIC_SUM:
    case MR_METRIC_AVG:
        merge_sums(at, into, from, n);
        return true;
    case MR_METRIC_MIN:
    case MR_METRIC_MAX:
        for (uint32_t k = 0; k < n; k++) {
            mr_extreme_merge(metric->kind, (void *)(into[k] + at), (const void *)(from[k] + at));
        }
        return true;
    case MR_METRIC_VARIANCE:
    case MR_METRIC_STDDEV:
        for (uint32_t k = 0; k < n; k++) {
            mr_moments_merge((void *)(into[k] + at), (const void *)(from[k] + at));
        }
        return true;
    case MR_METRIC_HISTOGRAM:
        for (uint32_t k = 0; k < n; k++) {
            merge_histogram(metric, (void *)(into[k] + at), (const void *)(from[k] + at));
        }
        return true;
    case MR_METRIC_RATIO:
        return true;
    default:
        return false;
    }
}

enum mr_status mr_metric_merge(const struct mr_metric *metrics, uint32_t count, uint8_t *into,
                               struct mr_bytes from) {
    MR_ASSERT(from.len >= block_len(metrics, count) && (uintptr_t)from.ptr % 8 == 0);
    for (uint32_t m = 0; m < count; m++) {
        enum mr_status status =
            merge_plain(&metrics[m], &into, &from.ptr, 1) ? MR_OK : merge_more(&metrics[m], into, from);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

void mr_metric_merge_plain(const struct mr_metric *metrics, uint32_t count, uint8_t *const *into,
                           const uint8_t *const *from, uint32_t n) {
    for (uint32_t m = 0; m < count; m++) {
        bool plain = merge_plain(&metrics[m], into, from, n);
        MR_ASSERT(plain);
    }
}

/* The slot in a live block; NULL where the metric has none now. */
static struct mr_sketch **live_slot(const struct mr_metric *metric, const uint8_t *state) {
    if (ops_of(metric) != NULL) {
        return mr_sketch_slot(metric, (uint8_t *)(uintptr_t)state);
    }
    if (is_first(metric)) {
        struct mr_first_state *s = (struct mr_first_state *)(uintptr_t)(state + metric->offset);
        return s->kind == MR_SCALAR_TEXT ? &s->text : NULL;
    }
    return NULL;
}

static uint32_t sketch_len(const struct mr_metric *metric, const struct mr_sketch *sketch) {
    if (sketch == NULL) {
        return 0;
    }
    return is_first(metric) ? (uint32_t)mr_first_text(sketch).len : ops_of(metric)->encoded_len(metric, sketch);
}

uint32_t mr_metric_encoded_len(const struct mr_metric *metrics, uint32_t count, const uint8_t *state) {
    uint64_t len = block_len(metrics, count);
    for (uint32_t m = 0; m < count; m++) {
        struct mr_sketch **slot = live_slot(&metrics[m], state);
        len += slot == NULL ? 0 : mr_pad8(sketch_len(&metrics[m], *slot));
    }
    MR_ASSERT(len <= UINT32_MAX);
    return (uint32_t)len;
}

void mr_metric_encode(const struct mr_metric *metrics, uint32_t count, const uint8_t *state, uint8_t *ret) {
    uint32_t at = block_len(metrics, count);
    memcpy(ret, state, at);
    for (uint32_t m = 0; m < count; m++) {
        struct mr_sketch **slot = live_slot(&metrics[m], state);
        if (slot == NULL) {
            continue;
        }
        const struct mr_sketch *sketch = *slot;
        uint32_t len = sketch_len(&metrics[m], sketch);
        uint32_t encoded[2] = {len == 0 ? 0 : at, len};
        memcpy(ret + ((const uint8_t *)slot - state), encoded, sizeof encoded);
        if (len == 0) {
            continue;
        }
        if (is_first(&metrics[m])) {
            memcpy(ret + at, mr_first_text(sketch).ptr, len);
        } else {
            ops_of(&metrics[m])->encode(&metrics[m], sketch, ret + at);
        }
        memset(ret + at + len, 0, mr_pad8(len) - len);
        at += (uint32_t)mr_pad8(len);
    }
}

uint64_t mr_metric_encoded_max(const struct mr_metric *metrics, uint32_t count) {
    uint64_t len = block_len(metrics, count);
    for (uint32_t m = 0; m < count; m++) {
        if (is_first(&metrics[m])) {
            len += mr_pad8(MR_KEY_TEXT_MAX);
        } else if (ops_of(&metrics[m]) != NULL) {
            len += ops_of(&metrics[m])->encoded_max(&metrics[m]);
        }
    }
    return len;
}

/* Takes the sketch of a slot off at *at: sketches lie in the metrics' order without gaps, padded with zeros. */
static bool take_sketch(const uint8_t slot[8], struct mr_bytes encoded, size_t *at, struct mr_bytes *ret) {
    uint32_t place[2];
    memcpy(place, slot, sizeof place);
    *ret = mr_bytes_of(NULL, 0);
    if (place[1] == 0) {
        return place[0] == 0;
    }
    if (place[0] != *at || place[1] > encoded.len - *at || mr_pad8(place[1]) > encoded.len - *at) {
        return false;
    }
    *ret = mr_bytes_of(encoded.ptr + *at, place[1]);
    *at += place[1];
    for (; *at % 8 != 0; (*at)++) {
        if (encoded.ptr[*at] != 0) {
            return false;
        }
    }
    return true;
}

static bool check_one(const struct mr_metric *metric, struct mr_bytes encoded, size_t *at) {
    const uint8_t *state = encoded.ptr + metric->offset;
    struct mr_extreme_state extreme;
    struct mr_first_state first;
    struct mr_bytes sketch = {NULL, 0};
    switch (metric->kind) {
    case MR_METRIC_MIN:
    case MR_METRIC_MAX:
        memcpy(&extreme, state, sizeof extreme);
        return mr_extreme_check(&extreme);
    case MR_METRIC_FIRST:
    case MR_METRIC_LAST:
        memcpy(&first, state, sizeof first);
        return (first.kind != MR_SCALAR_TEXT || take_sketch(first.payload, encoded, at, &sketch)) &&
               mr_first_check(&first, sketch);
    default:
        if (ops_of(metric) == NULL) {
            return true; /* any numbers */
        }
        return take_sketch(state, encoded, at, &sketch) &&
               (sketch.len == 0 || ops_of(metric)->check(metric, sketch));
    }
}

enum mr_status mr_metric_check(const struct mr_metric *metrics, uint32_t count, struct mr_bytes encoded) {
    size_t at = block_len(metrics, count);
    if (encoded.len < at || encoded.len % 8 != 0) {
        return MR_CORRUPT;
    }
    for (uint32_t m = 0; m < count; m++) {
        if (!check_one(&metrics[m], encoded, &at)) {
            return MR_CORRUPT;
        }
    }
    return at == encoded.len ? MR_OK : MR_CORRUPT;
}

size_t mr_metric_heap(const struct mr_metric *metrics, uint32_t count, const uint8_t *state) {
    size_t bytes = 0;
    for (uint32_t m = 0; m < count; m++) {
        struct mr_sketch **slot = live_slot(&metrics[m], state);
        bytes += slot == NULL || *slot == NULL ? 0 : (*slot)->heap;
    }
    return bytes;
}

void mr_metric_release(const struct mr_metric *metrics, uint32_t count, uint8_t *state) {
    for (uint32_t m = 0; m < count; m++) {
        struct mr_sketch **slot = live_slot(&metrics[m], state);
        if (slot == NULL || *slot == NULL) {
            continue;
        }
        if (is_first(&metrics[m])) {
            mr_first_close(*slot);
        } else {
            ops_of(&metrics[m])->close(*slot);
        }
    }
    memset(state + metrics[0].offset, 0, block_len(metrics, count) - metrics[0].offset);
}

static bool is_number(struct mr_number n) {
    return n.kind == MR_NUMBER_INT || n.kind == MR_NUMBER_DOUBLE || n.kind == MR_NUMBER_OVERFLOW;
}

static double double_of(struct mr_number n) {
    return n.kind == MR_NUMBER_INT ? (double)n.i : n.d;
}

static struct mr_number finish_ratio(const struct mr_metric *metrics, uint32_t index, struct mr_bytes encoded) {
    const struct mr_metric *metric = &metrics[index];
    struct mr_number above = mr_metric_finish(metrics, metric->over[0], encoded, NULL);
    struct mr_number below = mr_metric_finish(metrics, metric->over[1], encoded, NULL);
    if (!is_number(above) || !is_number(below) || double_of(below) == 0) {
        return (struct mr_number){.kind = MR_NUMBER_NULL};
    }
    return mr_number_of_double(double_of(above) / double_of(below));
}

/* Copies first: states in rows of the store are not aligned. */
struct mr_number mr_metric_finish(const struct mr_metric *metrics, uint32_t index,
                                  struct mr_bytes encoded, struct mr_arena *scratch) {
    const struct mr_metric *metric = &metrics[index];
    union {
        uint64_t count;
        struct mr_sum_state sum;
        struct mr_extreme_state extreme;
        struct mr_moments_state moments;
        struct mr_first_state first;
    } s;
    MR_ASSERT(encoded.len >= metric->offset + state_size(metric));
    if (state_size(metric) <= sizeof s) {
        memcpy(&s, encoded.ptr + metric->offset, state_size(metric));
    }
    switch (metric->kind) {
    case MR_METRIC_COUNT:
        return (struct mr_number){.kind = MR_NUMBER_INT, .i = (int64_t)s.count};
    case MR_METRIC_SUM:
        return mr_sum_finish(&s.sum);
    case MR_METRIC_AVG:
        return mr_avg_finish(&s.sum);
    case MR_METRIC_MIN:
    case MR_METRIC_MAX:
        return mr_extreme_finish(&s.extreme);
    case MR_METRIC_VARIANCE:
        return mr_variance_finish(&s.moments);
    case MR_METRIC_STDDEV:
        return mr_stddev_finish(&s.moments);
    case MR_METRIC_FIRST:
    case MR_METRIC_LAST:
        return mr_first_finish(&s.first, encoded_sketch(metric, encoded), scratch);
    case MR_METRIC_HISTOGRAM:
        return mr_histogram_metric_finish(metric, encoded.ptr + metric->offset, scratch);
    case MR_METRIC_RATIO:
        return finish_ratio(metrics, index, encoded);
    default:
        return ops_of(metric)->finish(metric, encoded_sketch(metric, encoded), scratch);
    }
}

void mr_metrics_finish(const struct mr_metric *metrics, uint32_t count, struct mr_bytes encoded,
                       struct mr_arena *scratch, struct mr_number *ret) {
    for (uint32_t m = 0; m < count; m++) {
        ret[m] = mr_metric_finish(metrics, m, encoded, scratch);
    }
}

/* NULL, what is not a number, booleans, numbers, texts, JSON. */
static int rank(struct mr_number n) {
    switch (n.kind) {
    case MR_NUMBER_NULL:
        return 0;
    case MR_NUMBER_BOOL:
        return 2;
    case MR_NUMBER_TEXT:
        return 4;
    case MR_NUMBER_JSON:
        return 5;
    default:
        return n.kind != MR_NUMBER_INT && isnan(n.d) ? 1 : 3;
    }
}

static int compare_numbers(struct mr_number a, struct mr_number b) {
    if (a.kind == MR_NUMBER_INT) {
        return b.kind == MR_NUMBER_INT ? (a.i > b.i) - (a.i < b.i) : mr_compare_int_double(a.i, b.d);
    }
    return b.kind == MR_NUMBER_INT ? -mr_compare_int_double(b.i, a.d) : (a.d > b.d) - (a.d < b.d);
}

int mr_number_compare(struct mr_number a, struct mr_number b) {
    int rank_a = rank(a);
    int rank_b = rank(b);
    if (rank_a != rank_b || rank_a < 2) {
        return rank_a - rank_b;
    }
    switch (rank_a) {
    case 2:
        return (a.i > b.i) - (a.i < b.i);
    case 3:
        return compare_numbers(a, b);
    default:
        return mr_bytes_compare(mr_bytes_of(a.text, a.len), mr_bytes_of(b.text, b.len));
    }
}
