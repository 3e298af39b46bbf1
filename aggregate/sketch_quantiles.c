/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/sketch_quantiles.h"

#include "aggregate/metric_value.h"
#include "base/alloc.h"

#include <float.h>
#include <math.h>

enum { HEAD_LEN = 24, BUCKETS_FIRST = 4, BUCKET_LEN = 12, EXPONENT_MIN = -1022, NEWTON_STEPS = 8 };

/* log2(1 + s) is about ((A s + B) s + C) s: right at 0 and 1, as steep on both sides of a power of two, and nowhere
 * less steep against ln than C. */
#define A (6.0 / 35.0)
#define B (-3.0 / 5.0)
#define C (10.0 / 7.0)

/* No stream has so many events; bytes from a file may say so: counts stop there, and their sum does not overflow. */
#define COUNT_MAX (UINT64_C(1) << 48)

static inline uint64_t add_counts(uint64_t a, uint64_t b) {
    return a + b < COUNT_MAX ? a + b : COUNT_MAX;
}

struct quantiles {
    struct mr_sketch head;
    double min;
    double max;
    uint32_t count;
    uint32_t capacity;
    uint64_t counts[]; /* capacity of them, then as many keys */
};

struct head {
    double min;
    double max;
    uint32_t count;
    uint32_t zero;
};

static_assert(sizeof(struct head) == HEAD_LEN, "data format");

/* 1 / (C ln gamma), gamma = (1 + e) / (1 - e): ln gamma = 2 atanh e = 2 (e + e^3/3 + …), by the series for libm may
 * differ in the last bit. */
double mr_quantiles_scale(double error) {
    double sum = 0;
    double power = error;
    for (int k = 1; k < 60; k += 2) {
        sum += power / k;
        power *= error * error;
    }
    return 1 / (2 * C * sum);
}

uint32_t mr_quantiles_buckets(double error) {
    return (uint32_t)(20.48 / error + 0.5);
}

static int32_t *keys_of(const struct quantiles *q) {
    return (int32_t *)(uintptr_t)(q->counts + q->capacity);
}

/* Keys of positive values begin at 1. */
static inline double offset_of(double scale) {
    return (double)(int32_t)(-EXPONENT_MIN * scale) + 1;
}

static inline int32_t key_of(double x, double scale) {
    double magnitude = fabs(x);
    if (magnitude < DBL_MIN) {
        return 0;
    }
    uint64_t bits;
    memcpy(&bits, &magnitude, sizeof bits);
    double exponent = (double)((int32_t)(bits >> 52) - 1023);
    bits = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1023) << 52;
    double s;
    memcpy(&s, &bits, sizeof s);
    s -= 1;
    int32_t key = (int32_t)((((A * s + B) * s + C) * s + exponent) * scale + offset_of(scale)) + 1;
    return x < 0 ? -key : key;
}

/* The mantissa - 1 whose cubic is rest, in [0, 1]: Newton; the cubic is steep everywhere. */
static double solve(double rest) {
    double s = rest;
    for (int step = 0; step < NEWTON_STEPS; step++) {
        s -= (((A * s + B) * s + C) * s - rest) / ((3 * A * s + 2 * B) * s + C);
    }
    return s;
}

static double value_of(int32_t key, double scale) {
    if (key == 0) {
        return 0;
    }
    double magnitude = fabs((double)key);
    double low = (magnitude - 1 - offset_of(scale)) / scale;
    double high = (magnitude - offset_of(scale)) / scale;
    double exponent = floor(low);
    double top = floor(high);
    double lo = 1 + solve(low - exponent);
    double hi = ldexp(1 + solve(high - top), (int)(top - exponent));
    double middle = ldexp(2 * lo * hi / (lo + hi), (int)exponent);
    return key < 0 ? -middle : middle;
}

/* Of at least `capacity` buckets; *slot may be NULL. */
static enum mr_status grow(struct mr_sketch **slot, uint32_t capacity) {
    const struct quantiles *old = (const struct quantiles *)*slot;
    uint32_t rounded = BUCKETS_FIRST;
    while (rounded < capacity) {
        rounded *= 2;
    }
    size_t size = sizeof *old + mr_pad8((size_t)rounded * BUCKET_LEN);
    struct quantiles *q = mr_alloc(size);
    if (q == NULL) {
        return MR_NO_MEMORY;
    }
    *q = (struct quantiles){.head.heap = size, .min = INFINITY, .max = -INFINITY, .capacity = rounded};
    if (old != NULL) {
        q->min = old->min;
        q->max = old->max;
        q->count = old->count;
        memcpy(q->counts, old->counts, (size_t)old->count * sizeof q->counts[0]);
        memcpy(keys_of(q), keys_of(old), (size_t)old->count * sizeof(int32_t));
        mr_free(*slot);
    }
    *slot = &q->head;
    return MR_OK;
}

/* The first bucket whose key is not less. Keys without a gap below, or above, tell where that is: mostly few are left
 * to search. */
static inline uint32_t search(const int32_t *keys, uint32_t count, int32_t key) {
    if (count == 0 || key <= keys[0]) {
        return 0;
    }
    if (key > keys[count - 1]) {
        return count;
    }
    uint32_t below = (uint32_t)(key - keys[0]); /* at most so many keys are less */
    uint32_t above = (uint32_t)(keys[count - 1] - key);
    uint32_t low = above >= count ? 0 : count - 1 - above;
    uint32_t high = below < count ? below : count - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (keys[middle] < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* All buckets are in use: folds the lowest into the next, or the new one into the lowest. at: where the new one
 * belongs. */
static void add_folding(struct quantiles *q, uint32_t at, int32_t key) {
    int32_t *keys = keys_of(q);
    if (at == 0) {
        q->counts[0]++;
        return;
    }
    if (at == 1) { /* between the lowest and the next */
        keys[0] = key;
        q->counts[0]++;
        return;
    }
    q->counts[1] = add_counts(q->counts[1], q->counts[0]);
    memmove(q->counts, q->counts + 1, (at - 1) * sizeof q->counts[0]);
    memmove(keys, keys + 1, (at - 1) * sizeof keys[0]);
    q->counts[at - 1] = 1;
    keys[at - 1] = key;
}

static enum mr_status add_key(const struct mr_metric *metric, struct mr_sketch **slot, int32_t key) {
    struct quantiles *q = (struct quantiles *)*slot;
    int32_t *keys = keys_of(q);
    uint32_t at = search(keys, q->count, key);
    if (at < q->count && keys[at] == key) {
        q->counts[at]++;
        return MR_OK;
    }
    if (q->count == metric->capacity) {
        add_folding(q, at, key);
        return MR_OK;
    }
    if (q->count == q->capacity) {
        enum mr_status status = grow(slot, q->capacity * 2);
        if (status != MR_OK) {
            return status;
        }
        q = (struct quantiles *)*slot;
        keys = keys_of(q);
    }
    memmove(q->counts + at + 1, q->counts + at, (q->count - at) * sizeof q->counts[0]);
    memmove(keys + at + 1, keys + at, (q->count - at) * sizeof keys[0]);
    q->counts[at] = 1;
    keys[at] = key;
    q->count++;
    return MR_OK;
}

static enum mr_status add_value(const struct mr_metric *metric, struct mr_sketch **slot, double x) {
    if (*slot == NULL) {
        enum mr_status status = grow(slot, BUCKETS_FIRST);
        if (status != MR_OK) {
            return status;
        }
    }
    struct quantiles *q = (struct quantiles *)*slot;
    q->min = x < q->min ? x : q->min;
    q->max = x > q->max ? x : q->max;
    return add_key(metric, slot, key_of(x, metric->scale));
}

static enum mr_status quantiles_add(const struct mr_metric *metric, const struct mr_batch *batch,
                                    const struct mr_column *column, const uint32_t *events,
                                    uint8_t *const *states, uint32_t n) {
    (void)batch;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t e = events[k];
        double x;
        if (column->kinds[e] == MR_VALUE_INT) {
            x = (double)column->values[e].i;
        } else if (column->kinds[e] == MR_VALUE_DOUBLE && isfinite(column->values[e].d)) {
            x = column->values[e].d + 0.0; /* -0.0 becomes 0.0 */
        } else {
            continue;
        }
        enum mr_status status = add_value(metric, mr_sketch_slot(metric, states[k]), x);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

static inline int32_t encoded_key(const uint8_t *keys, uint32_t i) {
    int32_t key;
    memcpy(&key, keys + (size_t)i * sizeof key, sizeof key);
    return key;
}

static uint32_t count_new(const struct quantiles *q, const uint8_t *keys, uint32_t count) {
    const int32_t *have = keys_of(q);
    uint32_t fresh = 0;
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        int32_t key = encoded_key(keys, i);
        while (at < q->count && have[at] < key) {
            at++;
        }
        fresh += at == q->count || have[at] != key;
    }
    return fresh;
}

/* From the back, so that nothing is overwritten before it is read. There is room for `fresh` more. */
static void merge_buckets(struct quantiles *q, const uint8_t *counts, const uint8_t *keys, uint32_t count,
                          uint32_t fresh) {
    int32_t *have = keys_of(q);
    uint32_t mine = q->count;
    uint32_t other = count;
    q->count += fresh;
    for (uint32_t at = q->count; other > 0;) {
        MR_ASSERT(at > 0);
        at--;
        int32_t key = encoded_key(keys, other - 1);
        if (mine > 0 && have[mine - 1] >= key) {
            mine--;
            uint64_t more = 0;
            if (have[mine] == key) {
                more = mr_get_u64(counts + (size_t)(--other) * 8);
            }
            q->counts[at] = add_counts(q->counts[mine], more);
            have[at] = have[mine];
        } else {
            q->counts[at] = mr_get_u64(counts + (size_t)(--other) * 8);
            have[at] = key;
        }
    }
}

static void fold(struct quantiles *q, uint32_t most) {
    if (q->count <= most) {
        return;
    }
    uint32_t over = q->count - most;
    int32_t *keys = keys_of(q);
    for (uint32_t i = 0; i < over; i++) {
        q->counts[over] = add_counts(q->counts[over], q->counts[i]);
    }
    memmove(q->counts, q->counts + over, most * sizeof q->counts[0]);
    memmove(keys, keys + over, most * sizeof keys[0]);
    q->count = most;
}

static enum mr_status quantiles_merge(const struct mr_metric *metric, struct mr_sketch **slot,
                                      struct mr_bytes from) {
    struct head head;
    MR_ASSERT(from.len >= sizeof head);
    memcpy(&head, from.ptr, sizeof head);
    MR_ASSERT(from.len >= HEAD_LEN + (size_t)head.count * BUCKET_LEN);
    const uint8_t *counts = from.ptr + HEAD_LEN;
    const uint8_t *keys = counts + (size_t)head.count * 8;
    struct quantiles *q = (struct quantiles *)*slot;
    uint32_t fresh = q == NULL ? head.count : count_new(q, keys, head.count);
    uint32_t need = fresh + (q == NULL ? 0 : q->count);
    if (q == NULL || need > q->capacity) {
        enum mr_status status = grow(slot, need);
        if (status != MR_OK) {
            return status;
        }
        q = (struct quantiles *)*slot;
    }
    q->min = head.min < q->min ? head.min : q->min;
    q->max = head.max > q->max ? head.max : q->max;
    merge_buckets(q, counts, keys, head.count, fresh);
    fold(q, metric->capacity);
    return MR_OK;
}

static uint32_t quantiles_encoded_len(const struct mr_metric *metric, const struct mr_sketch *sketch) {
    (void)metric;
    return HEAD_LEN + ((const struct quantiles *)sketch)->count * BUCKET_LEN;
}

static void quantiles_encode(const struct mr_metric *metric, const struct mr_sketch *sketch, uint8_t *ret) {
    (void)metric;
    const struct quantiles *q = (const struct quantiles *)sketch;
    struct head head = {.min = q->min, .max = q->max, .count = q->count};
    memcpy(ret, &head, sizeof head);
    memcpy(ret + HEAD_LEN, q->counts, (size_t)q->count * 8);
    memcpy(ret + HEAD_LEN + (size_t)q->count * 8, keys_of(q), (size_t)q->count * sizeof(int32_t));
}

static uint64_t quantiles_encoded_max(const struct mr_metric *metric) {
    return mr_pad8(HEAD_LEN + (size_t)metric->capacity * BUCKET_LEN);
}

static bool check_buckets(const uint8_t *counts, const uint8_t *keys, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        uint64_t n = mr_get_u64(counts + (size_t)i * 8);
        if (n == 0 || n > COUNT_MAX) {
            return false;
        }
        if (i > 0 && encoded_key(keys, i) <= encoded_key(keys, i - 1)) {
            return false;
        }
    }
    return true;
}

static bool quantiles_check(const struct mr_metric *metric, struct mr_bytes encoded) {
    struct head head;
    if (encoded.len < sizeof head) {
        return false;
    }
    memcpy(&head, encoded.ptr, sizeof head);
    if (head.count == 0 || head.count > metric->capacity || head.zero != 0 ||
        encoded.len != HEAD_LEN + (size_t)head.count * BUCKET_LEN || !isfinite(head.min) || !isfinite(head.max) ||
        head.min > head.max) {
        return false;
    }
    const uint8_t *counts = encoded.ptr + HEAD_LEN;
    const uint8_t *keys = counts + (size_t)head.count * 8;
    int32_t least = key_of(head.min, metric->scale);
    int32_t lowest = encoded_key(keys, 0);
    bool folded = head.count == metric->capacity && least < lowest;
    return (least == lowest || folded) &&
           encoded_key(keys, head.count - 1) == key_of(head.max, metric->scale) &&
           check_buckets(counts, keys, head.count);
}

static void quantiles_close(struct mr_sketch *sketch) {
    mr_free(sketch);
}

/* The value of rank floor(q (total - 1)). */
static double quantile(const struct mr_metric *metric, const struct head *head, const uint8_t *counts,
                       uint64_t total, double q) {
    const uint8_t *keys = counts + (size_t)head->count * 8;
    double exact = q * (double)(total - 1);
    uint64_t rank = exact >= (double)(total - 1) ? total - 1 : (uint64_t)exact;
    if (rank == 0 || rank == total - 1) {
        return rank == 0 ? head->min : head->max;
    }
    uint64_t below = 0;
    uint32_t i = 0;
    for (; i + 1 < head->count; i++) {
        below += mr_get_u64(counts + (size_t)i * 8);
        if (below > rank) {
            break;
        }
    }
    double x = value_of(encoded_key(keys, i), metric->scale);
    x = x < head->min ? head->min : x;
    return x > head->max ? head->max : x;
}

static struct mr_number quantiles_finish(const struct mr_metric *metric, struct mr_bytes encoded,
                                         struct mr_arena *scratch) {
    struct head head;
    if (encoded.len < sizeof head || scratch == NULL) {
        return (struct mr_number){.kind = MR_NUMBER_NULL};
    }
    memcpy(&head, encoded.ptr, sizeof head);
    MR_ASSERT(encoded.len >= HEAD_LEN + (size_t)head.count * BUCKET_LEN);
    const uint8_t *counts = encoded.ptr + HEAD_LEN;
    uint64_t total = 0;
    for (uint32_t i = 0; i < head.count; i++) {
        total += mr_get_u64(counts + (size_t)i * 8);
    }
    struct mr_buf buf;
    struct mr_json json;
    mr_buf_init(&buf, MR_SKETCH_JSON_MAX);
    mr_json_init(&json, &buf);
    mr_json_object_begin(&json);
    for (uint32_t i = 0; i < metric->param_count; i++) {
        char name[32];
        size_t len = mr_double_text(metric->params[i], name);
        mr_json_key_bytes(&json, mr_bytes_of(name, len));
        mr_json_double(&json, quantile(metric, &head, counts, total, metric->params[i]));
    }
    mr_json_object_end(&json);
    return mr_sketch_json(&buf, scratch);
}

const struct mr_sketch_ops mr_quantiles_ops = {
    .add = quantiles_add,
    .merge = quantiles_merge,
    .encoded_len = quantiles_encoded_len,
    .encode = quantiles_encode,
    .encoded_max = quantiles_encoded_max,
    .check = quantiles_check,
    .close = quantiles_close,
    .finish = quantiles_finish,
};
