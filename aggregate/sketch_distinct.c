/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/sketch_distinct.h"

#include "aggregate/metric_value.h"
#include "base/alloc.h"

#include <math.h>

enum {
    FORM_SPARSE = 1,
    FORM_DENSE = 2,
    HEAD_LEN = 8,
    TABLE_FIRST = 4,
    SPARSE_LEAST = 16,
    P_MIN = 4,
    P_MAX = 18,
    REGISTER_BITS = 6,
    RANK_MAX = 64 - P_MIN + 1,
};

static_assert(RANK_MAX < 1 << REGISTER_BITS, "a register has room");

struct distinct {
    struct mr_sketch head;
    uint32_t count;    /* of hashes */
    uint32_t capacity; /* of the table, a power of two; 0: dense */
    uint64_t words[];  /* hashes, 0 where there is none; dense: registers, a byte each */
};

struct head {
    uint8_t form;
    uint8_t p;
    uint16_t zero;
    uint32_t count;
};

static_assert(sizeof(struct head) == HEAD_LEN, "data format");

uint32_t mr_distinct_precision(double error) {
    uint32_t p = P_MIN;
    while (p < P_MAX && error * error * (double)(1u << p) < 1.04 * 1.04) {
        p++;
    }
    return p;
}

static uint32_t sparse_max(uint32_t p) {
    uint32_t equal = (3u << p) >> 5;
    return equal < SPARSE_LEAST ? SPARSE_LEAST : equal;
}

static uint32_t dense_len(uint32_t p) {
    return (1u << p) / 4 * 3;
}

static uint8_t *registers_of(const struct distinct *d) {
    return (uint8_t *)(uintptr_t)d->words;
}

/* capacity 0: dense, of `words` words. */
static struct distinct *open_one(uint32_t capacity, uint32_t words) {
    size_t size = sizeof(struct distinct) + (size_t)words * 8;
    struct distinct *d = mr_alloc_zero(1, size);
    if (d != NULL) {
        d->head.heap = size;
        d->capacity = capacity;
    }
    return d;
}

static inline uint32_t home_of(const struct distinct *d, uint64_t hash) {
    return mr_hash_reduce(hash, d->capacity);
}

/* Where the hash is, or may be put. */
static inline uint32_t probe(const struct distinct *d, uint64_t hash) {
    uint32_t at = home_of(d, hash);
    while (d->words[at] != 0 && d->words[at] != hash) {
        at = (at + 1) & (d->capacity - 1);
    }
    return at;
}

static inline void raise(uint8_t *registers, uint32_t p, uint64_t hash) {
    uint64_t rest = hash << p;
    uint8_t rank = (uint8_t)(rest == 0 ? 64 - p + 1 : (uint32_t)__builtin_clzll(rest) + 1);
    uint8_t *at = registers + (hash >> (64 - p));
    *at = rank > *at ? rank : *at;
}

static enum mr_status replace(struct mr_sketch **slot, struct distinct *with, uint32_t p) {
    const struct distinct *old = (const struct distinct *)*slot;
    if (with == NULL) {
        return MR_NO_MEMORY;
    }
    for (uint32_t i = 0; old != NULL && i < old->capacity; i++) {
        uint64_t hash = old->words[i];
        if (hash == 0) {
            continue;
        }
        if (with->capacity == 0) {
            raise(registers_of(with), p, hash);
        } else {
            with->words[probe(with, hash)] = hash;
            with->count++;
        }
    }
    mr_free(*slot);
    *slot = &with->head;
    return MR_OK;
}

static enum mr_status make_dense(struct mr_sketch **slot, uint32_t p) {
    return replace(slot, open_one(0, (1u << p) / 8), p);
}

static enum mr_status add_hash(struct mr_sketch **slot, uint32_t p, uint64_t hash) {
    hash = hash == 0 ? 1 : hash;
    struct distinct *d = (struct distinct *)*slot;
    if (d == NULL) {
        enum mr_status status = replace(slot, open_one(TABLE_FIRST, TABLE_FIRST), p);
        if (status != MR_OK) {
            return status;
        }
        d = (struct distinct *)*slot;
    }
    if (d->capacity == 0) {
        raise(registers_of(d), p, hash);
        return MR_OK;
    }
    uint32_t at = probe(d, hash);
    if (d->words[at] == hash) {
        return MR_OK;
    }
    bool full = d->count == sparse_max(p);
    if (full || (d->count + 1) * 4 > d->capacity * 3) {
        enum mr_status status = full ? make_dense(slot, p)
                                     : replace(slot, open_one(d->capacity * 2, d->capacity * 2), p);
        return status != MR_OK ? status : add_hash(slot, p, hash);
    }
    d->words[at] = hash;
    d->count++;
    return MR_OK;
}

static enum mr_status distinct_add(const struct mr_metric *metric, const struct mr_batch *batch,
                                   const struct mr_column *column, const uint32_t *events,
                                   uint8_t *const *states, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        struct mr_scalar value;
        if (!mr_scalar_read(batch, column, events[k], &value)) {
            continue;
        }
        mr_scalar_normalize(&value);
        enum mr_status status =
            add_hash(mr_sketch_slot(metric, states[k]), metric->capacity, mr_scalar_hash(&value));
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

/* Four registers of 6 bits. */
static void unpack(const uint8_t *at, uint8_t ret[4]) {
    uint32_t bits = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16;
    for (uint32_t i = 0; i < 4; i++) {
        ret[i] = (uint8_t)(bits >> (REGISTER_BITS * i) & 0x3F);
    }
}

static void pack(const uint8_t registers[4], uint8_t *ret) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < 4; i++) {
        bits |= (uint32_t)registers[i] << (REGISTER_BITS * i);
    }
    ret[0] = (uint8_t)bits;
    ret[1] = (uint8_t)(bits >> 8);
    ret[2] = (uint8_t)(bits >> 16);
}

static enum mr_status distinct_merge(const struct mr_metric *metric, struct mr_sketch **slot,
                                     struct mr_bytes from) {
    uint32_t p = metric->capacity;
    struct head head;
    MR_ASSERT(from.len >= sizeof head);
    memcpy(&head, from.ptr, sizeof head);
    const uint8_t *at = from.ptr + HEAD_LEN;
    if (head.form == FORM_SPARSE) {
        for (uint32_t i = 0; i < head.count; i++) {
            enum mr_status status = add_hash(slot, p, mr_get_u64(at + (size_t)i * 8));
            if (status != MR_OK) {
                return status;
            }
        }
        return MR_OK;
    }
    MR_ASSERT(head.p == p && from.len >= HEAD_LEN + dense_len(p));
    const struct distinct *d = (const struct distinct *)*slot;
    if (d == NULL || d->capacity != 0) {
        enum mr_status status = make_dense(slot, p);
        if (status != MR_OK) {
            return status;
        }
        d = (const struct distinct *)*slot;
    }
    uint8_t *registers = registers_of(d);
    for (uint32_t i = 0; i < 1u << p; i += 4, at += 3) {
        uint8_t four[4];
        unpack(at, four);
        for (uint32_t j = 0; j < 4; j++) {
            registers[i + j] = four[j] > registers[i + j] ? four[j] : registers[i + j];
        }
    }
    return MR_OK;
}

static uint32_t distinct_encoded_len(const struct mr_metric *metric, const struct mr_sketch *sketch) {
    const struct distinct *d = (const struct distinct *)sketch;
    return HEAD_LEN + (d->capacity == 0 ? dense_len(metric->capacity) : d->count * 8);
}

/* Insertion from the back: the hashes come nearly in order. */
static void insert_sorted(uint8_t *hashes, uint32_t count, uint64_t hash) {
    uint32_t at = count;
    for (; at > 0 && mr_get_u64(hashes + (size_t)(at - 1) * 8) > hash; at--) {
        memcpy(hashes + (size_t)at * 8, hashes + (size_t)(at - 1) * 8, 8);
    }
    mr_put_u64(hashes + (size_t)at * 8, hash);
}

static void encode_sparse(const struct distinct *d, uint8_t *ret) {
    uint32_t count = 0;
    for (int wrapped = 0; wrapped < 2; wrapped++) { /* what went around the end of the table is greatest */
        for (uint32_t i = 0; i < d->capacity; i++) {
            uint64_t hash = d->words[i];
            if (hash != 0 && (home_of(d, hash) > i) == wrapped) {
                insert_sorted(ret, count++, hash);
            }
        }
    }
    MR_ASSERT(count == d->count);
}

static void distinct_encode(const struct mr_metric *metric, const struct mr_sketch *sketch, uint8_t *ret) {
    const struct distinct *d = (const struct distinct *)sketch;
    bool dense = d->capacity == 0;
    struct head head = {
        .form = dense ? FORM_DENSE : FORM_SPARSE, .p = (uint8_t)metric->capacity, .count = dense ? 0 : d->count};
    memcpy(ret, &head, sizeof head);
    ret += HEAD_LEN;
    if (!dense) {
        encode_sparse(d, ret);
        return;
    }
    for (uint32_t i = 0; i < 1u << metric->capacity; i += 4, ret += 3) {
        pack(registers_of(d) + i, ret);
    }
}

static uint64_t distinct_encoded_max(const struct mr_metric *metric) {
    uint32_t sparse = sparse_max(metric->capacity) * 8;
    uint32_t dense = dense_len(metric->capacity);
    return mr_pad8(HEAD_LEN + (sparse > dense ? sparse : dense));
}

static bool distinct_check(const struct mr_metric *metric, struct mr_bytes encoded) {
    struct head head;
    uint32_t p = metric->capacity;
    if (encoded.len < sizeof head) {
        return false;
    }
    memcpy(&head, encoded.ptr, sizeof head);
    const uint8_t *at = encoded.ptr + HEAD_LEN;
    if (head.p != p || head.zero != 0) {
        return false;
    }
    if (head.form == FORM_SPARSE) {
        if (head.count == 0 || head.count > sparse_max(p) || encoded.len != HEAD_LEN + (size_t)head.count * 8) {
            return false;
        }
        uint64_t before = 0;
        for (uint32_t i = 0; i < head.count; i++) {
            uint64_t hash = mr_get_u64(at + (size_t)i * 8);
            if (hash <= before) {
                return false;
            }
            before = hash;
        }
        return true;
    }
    if (head.form != FORM_DENSE || head.count != 0 || encoded.len != HEAD_LEN + (size_t)dense_len(p)) {
        return false;
    }
    for (uint32_t i = 0; i < 1u << p; i += 4, at += 3) {
        uint8_t four[4];
        unpack(at, four);
        for (uint32_t j = 0; j < 4; j++) {
            if (four[j] > 64 - p + 1) {
                return false;
            }
        }
    }
    return true;
}

static void distinct_close(struct mr_sketch *sketch) {
    mr_free(sketch);
}

/* Ertl's sigma: x + sum of x^(2^k) 2^(k-1); infinite at 1, where no register is set. */
static double sigma(double x) {
    double y = 1;
    double z = x;
    if (x == 1) {
        return INFINITY;
    }
    for (double before = -1; z != before;) {
        before = z;
        x *= x;
        z += x * y;
        y += y;
    }
    return z;
}

static double tau(double x) {
    double y = 1;
    double z = 1 - x;
    if (x == 0 || x == 1) {
        return 0;
    }
    for (double before = -1; z != before;) {
        before = z;
        x = sqrt(x);
        y *= 0.5;
        z -= (1 - x) * (1 - x) * y;
    }
    return z / 3;
}

/* with[r]: how many registers are r. */
static double estimate(const uint32_t *with, uint32_t p) {
    double m = (double)(1u << p);
    uint32_t q = 64 - p;
    double z = m * tau(1 - with[q + 1] / m);
    for (uint32_t k = q; k >= 1; k--) {
        z = 0.5 * (z + with[k]);
    }
    z += m * sigma(with[0] / m);
    return m * m / (2 * 0.69314718055994530942 * z);
}

static struct mr_number distinct_finish(const struct mr_metric *metric, struct mr_bytes encoded,
                                        struct mr_arena *scratch) {
    (void)scratch;
    struct mr_number ret = {.kind = MR_NUMBER_INT, .i = 0};
    struct head head;
    uint32_t with[1 << REGISTER_BITS] = {0};
    if (encoded.len < sizeof head) {
        return ret;
    }
    memcpy(&head, encoded.ptr, sizeof head);
    if (head.form == FORM_SPARSE) {
        ret.i = head.count;
        return ret;
    }
    MR_ASSERT(encoded.len >= HEAD_LEN + dense_len(metric->capacity));
    const uint8_t *at = encoded.ptr + HEAD_LEN;
    for (uint32_t i = 0; i < 1u << metric->capacity; i += 4, at += 3) {
        uint8_t four[4];
        unpack(at, four);
        for (uint32_t j = 0; j < 4; j++) {
            with[four[j]]++;
        }
    }
    double count = estimate(with, metric->capacity) + 0.5;
    ret.i = count < 0x1p63 ? (int64_t)count : INT64_MAX; /* all registers full: no set makes them so */
    return ret;
}

const struct mr_sketch_ops mr_distinct_ops = {
    .add = distinct_add,
    .merge = distinct_merge,
    .encoded_len = distinct_encoded_len,
    .encode = distinct_encode,
    .encoded_max = distinct_encoded_max,
    .check = distinct_check,
    .close = distinct_close,
    .finish = distinct_finish,
};
