/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Hash: fingerprints of ids, hashes of group keys, checksums of records. The one user of xxHash.
 *
 * Idea        A fingerprint is 120 bits of XXH3-128 under a secret of 192 bytes that only this data
 *             directory (or cluster) knows, so nobody outside can build two ids that collide. Each
 *             stream has its own secret, derived from the key and the stream's name: that makes the
 *             stream part of the id without hashing its name once per event.
 * Shape       mr_fingerprint: lo has 64 bits, hi has 56 bits; the upper 8 bits of hi are 0. The dedup
 *             table keeps a generation there. lo decides the shard, hi and lo the slot.
 * Threads     Pure functions.
 * Cost        About 10 ns for an id of 32 bytes.
 * Sources     XXH3: Yann Collet, xxHash 0.8.1. Collision bounds: docs/GUARANTEES.md.
 */
#include "base/bytes.h"

#define MR_HASH_KEY_LEN 32
#define MR_SECRET_LEN 192

struct mr_hash_key {
    uint8_t bytes[MR_HASH_KEY_LEN];
};

struct mr_secret {
    uint8_t bytes[MR_SECRET_LEN];
};

struct mr_fingerprint {
    uint64_t lo;
    uint64_t hi;
};

/* The secret of one stream. Same key and name, same secret, for ever: it is part of the data format. */
void mr_secret_derive(const struct mr_hash_key *key, struct mr_bytes stream, struct mr_secret *ret);

/* The fingerprint of an id of one part. Ids of several parts are first written length-prefixed into
 * one buffer by the caller (event/). */
struct mr_fingerprint mr_fingerprint_of(const struct mr_secret *secret, struct mr_bytes id);

/* The same of each of count ids: without a call for each, the processor does several at a time. */
void mr_fingerprints_of(const struct mr_secret *secret, const struct mr_bytes *ids, uint32_t count,
                        struct mr_fingerprint *ret);

/* A hash of an event's content, under a secret as of fingerprints: nobody outside can make two contents that pass for
 * one. Never 0. */
uint64_t mr_content_hash(const struct mr_secret *secret, struct mr_bytes content);

/* 64-bit hash of a group key, seeded so that clients cannot aim at one slot. */
uint64_t mr_hash64(struct mr_bytes bytes, uint64_t seed);

/* The same, of long inputs: mr_hash64 hands them on, where the library can choose instructions. */
uint64_t mr_hash64_long(struct mr_bytes bytes, uint64_t seed);

/* The key that all who know a secret share. */
void mr_hash_key_derive(struct mr_bytes name, struct mr_bytes secret, struct mr_hash_key *ret);

/* A seed for mr_hash64 that is a function of the key and a label. */
uint64_t mr_hash_seed(const struct mr_hash_key *key, struct mr_bytes label);

/* XXH3-64 checksum without a seed. */
uint64_t mr_checksum(struct mr_bytes bytes);

/* Maps a 64-bit hash evenly to [0, count) without division (Lemire's multiply-shift). */
static inline uint32_t mr_hash_reduce(uint64_t hash, uint32_t count) {
    return (uint32_t)(((__uint128_t)hash * count) >> 64);
}

/* The dedup shard that owns a fingerprint. */
static inline uint32_t mr_fingerprint_shard(struct mr_fingerprint fp, uint32_t shards) {
    return mr_hash_reduce(fp.lo, shards);
}

static inline bool mr_fingerprint_equal(struct mr_fingerprint a, struct mr_fingerprint b) {
    return a.lo == b.lo && a.hi == b.hi;
}

/* Fills ret with random bytes from the kernel; MR_IO when it has none. */
enum mr_status mr_random_bytes(void *ret, size_t len) MR_MUST_CHECK;
