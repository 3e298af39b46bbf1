/* SPDX-License-Identifier: Apache-2.0 */
#include "bloom/bloom.h"

#include "base/alloc.h"
#include "base/check.h"

#include <math.h>

#if defined(__x86_64__)
#define HAVE_AVX2_PATH 1
#include <immintrin.h>
#define TARGET_AVX2 __attribute__((target("avx2")))
#else
#define HAVE_AVX2_PATH 0
#endif

enum {
    WORDS = 8,
    BLOCK_BYTES = 32,
    SAMPLE_BLOCKS = 4096, /* an error estimate with a standard deviation of a few percent */
    HALVINGS = 60,        /* of the interval in which the load is searched: to the last bit */
};

#define ERROR_MIN   1e-8
#define ERROR_MAX   0.5
#define LOAD_MAX    128.0 /* ids per block; at ERROR_MAX it is 79 */
#define IDS_MAX_MAX (UINT64_C(1) << 40)

/* The eight odd constants of Parquet's split-block filter. */
#define SALTS                                                                                      \
    0x47b6137bu, 0x44974d91u, 0x8824ad5bu, 0xa2b7289du, 0x705495c7u, 0x2df1424bu, 0x9efc4947u,     \
        0x5c6bfb31u

struct mr_bloom {
    uint32_t *words;
    uint64_t blocks;
    uint64_t bytes; /* of words */
    bool avx2;
};

/* ---- size ---- */

/* The false-positive share when a block holds `load` ids on average: their number is Poisson
 * distributed; with i ids a word has a given bit set with probability 1 - (31/32)^i, and eight
 * words must agree. */
static double error_at(double load) {
    MR_ASSERT(load >= 0.0 && load <= LOAD_MAX);
    uint32_t last = (uint32_t)(load + 14.0 * sqrt(load) + 60.0); /* the rest is below 1e-12 */
    double share = exp(-load);                                   /* of blocks with i ids */
    double clear = 1.0;                                          /* (31/32)^i */
    double sum = 0.0;
    for (uint32_t i = 0; i <= last; i++) {
        sum += share * pow(1.0 - clear, WORDS);
        share *= load / (i + 1.0);
        clear *= 31.0 / 32.0;
    }
    return sum;
}

static uint64_t blocks_for(uint64_t ids_max, double error) {
    double low = 0.0;
    double high = LOAD_MAX;
    for (uint32_t i = 0; i < HALVINGS; i++) {
        double middle = (low + high) / 2.0;
        if (error_at(middle) <= error) {
            low = middle;
        } else {
            high = middle;
        }
    }
    MR_ASSERT(low > 1.0 && low < LOAD_MAX);
    return (uint64_t)ceil((double)ids_max / low);
}

uint64_t mr_bloom_bytes_planned(uint64_t ids_max, double error) {
    MR_ASSERT(ids_max > 0 && ids_max <= IDS_MAX_MAX);
    return sizeof(struct mr_bloom) + blocks_for(ids_max, error) * BLOCK_BYTES;
}

/* ---- life ---- */

enum mr_status mr_bloom_open(uint64_t ids_max, double error, struct mr_bloom **ret) {
    MR_ASSERT(ret != NULL);
    if (ids_max == 0 || ids_max > IDS_MAX_MAX || !(error >= ERROR_MIN && error <= ERROR_MAX)) {
        return MR_INVALID;
    }
    struct mr_bloom *bloom = mr_alloc_zero(1, sizeof *bloom);
    if (bloom == NULL) {
        return MR_NO_MEMORY;
    }
    bloom->blocks = blocks_for(ids_max, error);
    bloom->bytes = bloom->blocks * BLOCK_BYTES;
    bloom->words = mr_alloc_pages(bloom->bytes);
    if (bloom->words == NULL) {
        mr_free(bloom);
        return MR_NO_MEMORY;
    }
#if HAVE_AVX2_PATH
    bloom->avx2 = __builtin_cpu_supports("avx2") != 0;
#endif
    mr_bloom_check(bloom);
    *ret = bloom;
    return MR_OK;
}

void mr_bloom_close(struct mr_bloom *bloom) {
    if (bloom == NULL) {
        return;
    }
    mr_bloom_check(bloom);
    mr_free_pages(bloom->words, bloom->bytes);
    mr_free(bloom);
}

void mr_bloom_clear(struct mr_bloom *bloom) {
    mr_bloom_clear_part(bloom, 0, bloom->blocks);
}

void mr_bloom_clear_part(struct mr_bloom *bloom, uint64_t from, uint64_t count) {
    MR_ASSERT(from <= bloom->blocks && count <= bloom->blocks - from);
    memset(bloom->words + from * WORDS, 0, count * BLOCK_BYTES);
}

void mr_bloom_use_portable(struct mr_bloom *bloom) {
    bloom->avx2 = false;
}

/* ---- one id ---- */

/* hi chooses the block. The upper 8 bits of hi are 0 and are shifted out. */
static inline uint32_t *block_of(const struct mr_bloom *bloom, struct mr_fingerprint fp) {
    uint64_t block = (uint64_t)(((__uint128_t)(fp.hi << 8) * bloom->blocks) >> 64);
    return bloom->words + block * WORDS;
}

/* The low half of lo chooses the bits: the high bits of lo are alike for all ids of a shard. */
static inline uint32_t bits_key(struct mr_fingerprint fp) {
    return (uint32_t)fp.lo;
}

static const uint32_t salts[WORDS] = {SALTS};

static bool test_portable(const uint32_t *block, uint32_t key) {
    uint32_t missing = 0;
    for (uint32_t i = 0; i < WORDS; i++) {
        missing |= ~block[i] & (1u << ((key * salts[i]) >> 27));
    }
    return missing == 0;
}

static bool test_and_set_portable(uint32_t *block, uint32_t key) {
    uint32_t missing = 0;
    for (uint32_t i = 0; i < WORDS; i++) {
        uint32_t bit = 1u << ((key * salts[i]) >> 27);
        missing |= ~block[i] & bit;
        block[i] |= bit;
    }
    return missing == 0;
}

#if HAVE_AVX2_PATH
TARGET_AVX2 static inline __m256i mask_avx2(uint32_t key) {
    const __m256i odd = _mm256_loadu_si256((const __m256i *)(const void *)salts);
    __m256i bit = _mm256_srli_epi32(_mm256_mullo_epi32(_mm256_set1_epi32((int)key), odd), 27);
    return _mm256_sllv_epi32(_mm256_set1_epi32(1), bit);
}

TARGET_AVX2 static bool test_avx2(const uint32_t *block, uint32_t key) {
    __m256i have = _mm256_load_si256((const __m256i *)(const void *)block);
    return _mm256_testc_si256(have, mask_avx2(key)) != 0;
}

TARGET_AVX2 static bool test_and_set_avx2(uint32_t *block, uint32_t key) {
    __m256i *at = (__m256i *)(void *)block;
    __m256i have = _mm256_load_si256(at);
    __m256i mask = mask_avx2(key);
    _mm256_store_si256(at, _mm256_or_si256(have, mask));
    return _mm256_testc_si256(have, mask) != 0;
}
#endif

bool mr_bloom_test(const struct mr_bloom *bloom, struct mr_fingerprint fp) {
#if HAVE_AVX2_PATH
    if (bloom->avx2) {
        return test_avx2(block_of(bloom, fp), bits_key(fp));
    }
#endif
    return test_portable(block_of(bloom, fp), bits_key(fp));
}

bool mr_bloom_test_and_set(struct mr_bloom *bloom, struct mr_fingerprint fp) {
#if HAVE_AVX2_PATH
    if (bloom->avx2) {
        return test_and_set_avx2(block_of(bloom, fp), bits_key(fp));
    }
#endif
    return test_and_set_portable(block_of(bloom, fp), bits_key(fp));
}

void mr_bloom_prefetch(const struct mr_bloom *bloom, struct mr_fingerprint fp) {
    __builtin_prefetch(block_of(bloom, fp));
}

/* ---- what it holds ---- */

uint64_t mr_bloom_blocks(const struct mr_bloom *bloom) {
    return bloom->blocks;
}

uint64_t mr_bloom_bytes(const struct mr_bloom *bloom) {
    return sizeof *bloom + bloom->bytes;
}

static uint32_t sample_count(const struct mr_bloom *bloom) {
    return bloom->blocks < SAMPLE_BLOCKS ? (uint32_t)bloom->blocks : SAMPLE_BLOCKS;
}

/* Sampled block i of `count`: evenly spread over the filter. */
static const uint32_t *sample(const struct mr_bloom *bloom, uint32_t i, uint32_t count) {
    uint64_t block = (uint64_t)((__uint128_t)bloom->blocks * i / count);
    MR_ASSERT(block < bloom->blocks);
    return bloom->words + block * WORDS;
}

double mr_bloom_fill(const struct mr_bloom *bloom) {
    uint32_t count = sample_count(bloom);
    uint64_t set = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *block = sample(bloom, i, count);
        for (uint32_t w = 0; w < WORDS; w++) {
            set += (uint32_t)__builtin_popcount(block[w]);
        }
    }
    return (double)set / ((double)count * BLOCK_BYTES * 8.0);
}

double mr_bloom_error_estimate(const struct mr_bloom *bloom) {
    uint32_t count = sample_count(bloom);
    double sum = 0.0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *block = sample(bloom, i, count);
        double share = 1.0;
        for (uint32_t w = 0; w < WORDS; w++) {
            share *= (double)__builtin_popcount(block[w]) / 32.0;
        }
        sum += share;
    }
    return sum / (double)count;
}

uint64_t mr_bloom_hash_scan(const struct mr_bloom *bloom) {
    return mr_checksum(mr_bytes_of(bloom->words, bloom->bytes));
}

void mr_bloom_check(const struct mr_bloom *bloom) {
    MR_ASSERT(bloom->words != NULL && ((uintptr_t)bloom->words % BLOCK_BYTES) == 0);
    MR_ASSERT(bloom->blocks > 0 && bloom->bytes == bloom->blocks * BLOCK_BYTES);
}
