/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Pack: numbers and byte strings written one behind the other, for what is kept on disk: checkpoints.
 *
 * Shape       Integers little-endian in full width; a byte string is its length as u64, then its bytes. No
 *             tags: writer and reader agree on the order, and the whole has a version and a checksum around it.
 * Owner       The writer's buffer and the reader's bytes are the caller's.
 * Errors      Writing: buf->failed. Reading: behind the end everything is 0 or empty and `failed` is set for
 *             good, so that a reader asks once, at the end (mr_unpack_end).
 */
#include "base/bytes.h"
#include "base/check.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are written as they are");

static inline void mr_pack_u64(struct mr_buf *buf, uint64_t value) {
    mr_buf_append(buf, &value, sizeof value);
}

static inline void mr_pack_i64(struct mr_buf *buf, int64_t value) {
    mr_buf_append(buf, &value, sizeof value);
}

static inline void mr_pack_u32(struct mr_buf *buf, uint32_t value) {
    mr_buf_append(buf, &value, sizeof value);
}

static inline void mr_pack_bytes(struct mr_buf *buf, struct mr_bytes bytes) {
    mr_pack_u64(buf, bytes.len);
    mr_buf_append_bytes(buf, bytes);
}

struct mr_unpack {
    struct mr_bytes rest;
    bool failed;
};

static inline void mr_unpack_raw(struct mr_unpack *u, void *ret, size_t len) {
    if (u->failed || u->rest.len < len) {
        u->failed = true;
        memset(ret, 0, len);
        return;
    }
    memcpy(ret, u->rest.ptr, len);
    u->rest.ptr += len;
    u->rest.len -= len;
}

static inline uint64_t mr_unpack_u64(struct mr_unpack *u) {
    uint64_t value;
    mr_unpack_raw(u, &value, sizeof value);
    return value;
}

static inline int64_t mr_unpack_i64(struct mr_unpack *u) {
    int64_t value;
    mr_unpack_raw(u, &value, sizeof value);
    return value;
}

static inline uint32_t mr_unpack_u32(struct mr_unpack *u) {
    uint32_t value;
    mr_unpack_raw(u, &value, sizeof value);
    return value;
}

/* Borrows from what is read. */
static inline struct mr_bytes mr_unpack_bytes(struct mr_unpack *u) {
    uint64_t len = mr_unpack_u64(u);
    if (u->failed || len > u->rest.len) {
        u->failed = true;
        return mr_bytes_of(NULL, 0);
    }
    struct mr_bytes ret = mr_bytes_of(u->rest.ptr, (size_t)len);
    u->rest.ptr += len;
    u->rest.len -= (size_t)len;
    return ret;
}

/* Everything was there, and nothing is left. */
static inline bool mr_unpack_end(const struct mr_unpack *u) {
    return !u->failed && u->rest.len == 0;
}
