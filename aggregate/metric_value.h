/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Value: one scalar of a column, as first, last, distinct, top and collect see it; and where an event stands.
 *
 * Shape       The kinds and the hash are part of the data format. A payload is what a value's bytes are where they are
 *             hashed, compared for equality or stored: 8 bytes of an int or a double, a text's own, none of a boolean.
 * Owner       A scalar borrows its text from the batch or the encoded bytes.
 * Threads     Pure functions.
 */
#include "base/check.h"
#include "base/json.h"
#include "event/batch.h"

enum mr_scalar_kind {
    MR_SCALAR_NONE = 0,
    MR_SCALAR_FALSE = 1,
    MR_SCALAR_TRUE = 2,
    MR_SCALAR_INT = 3,
    MR_SCALAR_DOUBLE = 4,
    MR_SCALAR_TEXT = 5,
};

struct mr_scalar {
    uint32_t kind; /* enum mr_scalar_kind */
    union {
        int64_t i;
        double d;
        uint8_t payload[8]; /* of both */
    };
    struct mr_bytes text;
};

/* Time first, then the order of the log. */
struct mr_place {
    int64_t time_ms;
    uint64_t lsn;
    uint32_t index; /* of the event in its batch */
};

static inline struct mr_place mr_place_of(const struct mr_batch *batch, uint32_t event) {
    return (struct mr_place){batch->times_ms[event], batch->lsn, event};
}

/* <0, 0, >0 */
static inline int mr_place_compare(struct mr_place a, struct mr_place b) {
    if (a.time_ms != b.time_ms) {
        return a.time_ms < b.time_ms ? -1 : 1;
    }
    if (a.lsn != b.lsn) {
        return a.lsn < b.lsn ? -1 : 1;
    }
    return (a.index > b.index) - (a.index < b.index);
}

/* The value of an event; false when it is none: missing, null, an object or array. Digits become a number. */
bool mr_scalar_read(const struct mr_batch *batch, const struct mr_column *column, uint32_t event,
                    struct mr_scalar *ret);
/* A text over MR_KEY_TEXT_MAX bytes is cut at a character. */
void mr_scalar_cut(struct mr_scalar *value);
/* Equal numbers become the same: a whole double in the range of int64 an int. */
void mr_scalar_normalize(struct mr_scalar *value);
/* Borrows from the value itself. */
struct mr_bytes mr_scalar_payload(const struct mr_scalar *value);
/* From stored bytes, which need not be aligned. */
struct mr_scalar mr_scalar_of(uint32_t kind, struct mr_bytes payload);
/* Whether a scalar of that payload is cut; and, where asked for, normalized. */
bool mr_scalar_check(const struct mr_scalar *value);
bool mr_scalar_is_normal(const struct mr_scalar *value);
/* Of a normalized value. */
uint64_t mr_scalar_hash(const struct mr_scalar *value);
/* Booleans, numbers by value (an int before an equal double), texts by bytes. <0, 0, >0 */
int mr_scalar_compare(const struct mr_scalar *a, const struct mr_scalar *b);
void mr_scalar_json(const struct mr_scalar *value, struct mr_json *json);

/* Exact, where converting i to double would round. d is not NaN. <0, 0, >0 */
int mr_compare_int_double(int64_t i, double d);

static inline uint64_t mr_get_u64(const uint8_t *at) {
    uint64_t ret;
    memcpy(&ret, at, sizeof ret);
    return ret;
}

static inline void mr_put_u64(uint8_t *at, uint64_t value) {
    memcpy(at, &value, sizeof value);
}

static inline size_t mr_pad8(size_t len) {
    return (len + 7) & ~(size_t)7;
}
