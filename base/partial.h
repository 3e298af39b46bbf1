/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Partial: a mergeable accumulator for one (rule, window, key), made from one bundle by one dedup shard;
 * and the parcel that carries many of them to one combine shard.
 *
 * Idea        Combiner lifting: what crosses threads is one partial per key and bundle, not one message
 *             per event, so a key with 90 % of the traffic costs no more than any other.
 * Shape       A parcel's bytes hold partials one behind the other, each 8-byte aligned:
 *
 *                 | mr_partial (40 B) | state: state_len | key: key_len | padding to 8 |
 *
 *             state_len is a constant of the rule (a multiple of 8). Partials of one rule lie together,
 *             in order of first appearance.
 * Units       window_start_ms: event time. events: how many accepted events are in the state.
 * Owner       The producer allocates the parcel, pushing hands it over, the consumer closes it.
 * Invariants  I1 events >= 1.   I2 key_hash is mr_hash64 of the key under the rule seed on every shard.
 */
#include "base/bytes.h"
#include "base/check.h"

struct mr_partial {
    uint64_t key_hash;
    int64_t window_start_ms;
    uint64_t events;
    uint32_t rule; /* index in the plan */
    uint32_t key_len;
    uint32_t state_len;
    uint32_t size; /* of the whole, header and padding included: the next one is here + size */
};

static_assert(sizeof(struct mr_partial) == 40, "written to and read from parcels as it is");

static inline uint8_t *mr_partial_state(struct mr_partial *p) {
    return (uint8_t *)p + sizeof *p;
}

static inline struct mr_bytes mr_partial_key(const struct mr_partial *p) {
    return mr_bytes_of((const uint8_t *)p + sizeof *p + p->state_len, p->key_len);
}

struct mr_parcel {
    uint64_t seq;    /* of the bundle */
    uint32_t origin; /* dedup shard */
    int64_t recorded_ms; /* of the bundle */
    uint32_t count;
    struct mr_buf bytes;
    void *bundle; /* the pipeline's; a parcel is also the message that says "done with this bundle" */
};
