/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include "base/check.h"

#define XXH_STATIC_LINKING_ONLY
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <sys/random.h>

static_assert(MR_SECRET_LEN >= XXH3_SECRET_SIZE_MIN, "XXH3 asks for a secret of a least length");

enum {
    SEED_INPUT_MAX = 512,
    LONG_MIN_BYTES = 4096, /* choosing instructions is then nothing beside the work */
};

/* key || bytes, cut at SEED_INPUT_MAX: names are shorter than that by configuration. */
static size_t join_key(const struct mr_hash_key *key, struct mr_bytes bytes,
                       uint8_t ret[SEED_INPUT_MAX]) {
    MR_ASSERT(bytes.len <= SEED_INPUT_MAX - MR_HASH_KEY_LEN);
    memcpy(ret, key->bytes, MR_HASH_KEY_LEN);
    if (bytes.len > 0) {
        memcpy(ret + MR_HASH_KEY_LEN, bytes.ptr, bytes.len);
    }
    return MR_HASH_KEY_LEN + bytes.len;
}

void mr_secret_derive(const struct mr_hash_key *key, struct mr_bytes stream,
                      struct mr_secret *ret) {
    uint8_t input[SEED_INPUT_MAX];
    size_t len = join_key(key, stream, input);
    XXH_errorcode failed = XXH3_generateSecret(ret->bytes, MR_SECRET_LEN, input, len);
    MR_ASSERT(failed == XXH_OK);
}

void mr_hash_key_derive(struct mr_bytes name, struct mr_bytes secret, struct mr_hash_key *ret) {
    XXH3_state_t state;
    uint64_t name_len = name.len;
    for (uint64_t half = 0; half < 2; half++) {
        XXH_errorcode failed = XXH3_128bits_reset_withSeed(&state, half);
        failed = failed == XXH_OK ? XXH3_128bits_update(&state, &name_len, sizeof name_len) : failed;
        failed = failed == XXH_OK ? XXH3_128bits_update(&state, name.ptr, name.len) : failed;
        failed = failed == XXH_OK ? XXH3_128bits_update(&state, secret.ptr, secret.len) : failed;
        MR_ASSERT(failed == XXH_OK);
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
        memcpy(ret->bytes + 16 * half, canonical.digest, sizeof canonical.digest);
    }
    static_assert(2 * sizeof(XXH128_canonical_t) == MR_HASH_KEY_LEN, "two halves");
}

static inline __attribute__((always_inline)) struct mr_fingerprint
fingerprint(const struct mr_secret *secret, struct mr_bytes id) {
    XXH128_hash_t hash = XXH3_128bits_withSecret(id.ptr, id.len, secret->bytes, MR_SECRET_LEN);
    return (struct mr_fingerprint){.lo = hash.low64, .hi = hash.high64 & (UINT64_MAX >> 8)};
}

static __attribute__((noinline, flatten)) struct mr_fingerprint fingerprint_long(const struct mr_secret *secret,
                                                                                 struct mr_bytes id) {
    return fingerprint(secret, id);
}

/* The same twice: what XXH3 does with over 128 bytes needs so many registers that saving them would cost the others a
 * fifth of their time. */
__attribute__((flatten)) struct mr_fingerprint mr_fingerprint_of(const struct mr_secret *secret, struct mr_bytes id) {
    return id.len > 128 ? fingerprint_long(secret, id) : fingerprint(secret, id);
}

static __attribute__((noinline)) struct mr_fingerprint fingerprint_other(const struct mr_secret *secret,
                                                                         struct mr_bytes id) {
    return mr_fingerprint_of(secret, id);
}

/* Most ids are as long as the one before, and between those that need so few registers that a loop holds them: what
 * follows from the length is then made once. */
__attribute__((flatten)) void mr_fingerprints_of(const struct mr_secret *secret, const struct mr_bytes *ids,
                                                 uint32_t count, struct mr_fingerprint *ret) {
    for (uint32_t i = 0; i < count;) {
        size_t len = ids[i].len;
        if (len <= 16 || len > 64) {
            ret[i] = fingerprint_other(secret, ids[i]);
            i++;
            continue;
        }
        do {
            ret[i] = fingerprint(secret, mr_bytes_of(ids[i].ptr, len));
            i++;
        } while (i < count && ids[i].len == len);
    }
}

uint64_t mr_content_hash(const struct mr_secret *secret, struct mr_bytes content) {
    uint64_t hash = XXH3_64bits_withSecret(content.ptr, content.len, secret->bytes, MR_SECRET_LEN);
    return hash == 0 ? 1 : hash;
}

uint64_t mr_hash64(struct mr_bytes bytes, uint64_t seed) {
#ifdef MR_XXHASH_DISPATCH
    if (bytes.len >= LONG_MIN_BYTES) {
        return mr_hash64_long(bytes, seed);
    }
#endif
    return XXH3_64bits_withSeed(bytes.ptr, bytes.len, seed);
}

uint64_t mr_hash_seed(const struct mr_hash_key *key, struct mr_bytes label) {
    uint8_t input[SEED_INPUT_MAX];
    size_t len = join_key(key, label, input);
    return XXH3_64bits(input, len);
}

uint64_t mr_checksum(struct mr_bytes bytes) {
    return mr_hash64(bytes, 0); /* what it is without a seed */
}

enum mr_status mr_random_bytes(void *ret, size_t len) {
    uint8_t *at = ret;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n <= 0) {
            return MR_IO;
        }
        at += n;
        len -= (size_t)n;
    }
    return MR_OK;
}
