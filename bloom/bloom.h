/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Bloom: a split-block Bloom filter: "certainly new" or "probably seen", in one cache line.
 *
 * Idea        An id touches one 32-byte block only: eight 32-bit words, one bit in each, so that a
 *             test is one cache miss and one vector operation.
 *
 *                 block:  | w0 | w1 | w2 | w3 | w4 | w5 | w6 | w7 |   one bit set in each word
 *
 * Shape       blocks of 32 bytes, 32-byte aligned; the block is chosen by one half of the
 *             fingerprint, the bits by the other half times eight odd constants.
 * Units       ids_max: how many ids keep the false-positive share at or below error. The ids per
 *             block vary (Poisson), and a block with more than its share answers wrong much more
 *             often; so the size comes from the mean over that distribution, not from the classic
 *             formula: error 1e-2 takes 10.5 bits an id, 1e-3 16.9, 1e-4 26.3, 1e-5 41, 1e-6 65.
 * Owner       The opener.
 * Threads     One owner at a time.
 * Errors      open: MR_NO_MEMORY; MR_INVALID (error outside [1e-8, 0.5], ids_max 0 or over 2^40).
 * Cost        test_and_set <= 6 ns in cache, one miss (about 16 ns) out of it. Portable and AVX2
 *             paths give the same bits.
 * Invariants  I1 after set(x), test(x) is true until clear.
 * Sources     Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters; the
 *             split-block form of Apache Parquet's specification.
 */
#include "base/hash.h"

struct mr_bloom;

enum mr_status mr_bloom_open(uint64_t ids_max, double error, struct mr_bloom **ret) MR_MUST_CHECK;
void mr_bloom_close(struct mr_bloom *bloom);
void mr_bloom_clear(struct mr_bloom *bloom);
bool mr_bloom_test(const struct mr_bloom *bloom, struct mr_fingerprint fp);
/* Whether it was (probably) there before. */
bool mr_bloom_test_and_set(struct mr_bloom *bloom, struct mr_fingerprint fp);
void mr_bloom_prefetch(const struct mr_bloom *bloom, struct mr_fingerprint fp);
uint64_t mr_bloom_bytes(const struct mr_bloom *bloom);
/* Share of bits set, from a sample of blocks (at most 4,096, the same ones each time). */
double mr_bloom_fill(const struct mr_bloom *bloom);
/* The false-positive share that this fill gives, by the mean over the sampled blocks of the product
 * of each word's fill. */
double mr_bloom_error_estimate(const struct mr_bloom *bloom);

/* Clears blocks [from, from + count) only: for clearing a large filter little by little. Until all
 * of them are cleared the filter must not be used for anything else. */
void mr_bloom_clear_part(struct mr_bloom *bloom, uint64_t from, uint64_t count);
uint64_t mr_bloom_blocks(const struct mr_bloom *bloom);
/* Bytes that open takes for these arguments, which must be valid. */
uint64_t mr_bloom_bytes_planned(uint64_t ids_max, double error);
/* A hash of all bits. O(bytes). */
uint64_t mr_bloom_hash_scan(const struct mr_bloom *bloom);
/* The portable path from now on, also where AVX2 is there: tests compare the two. */
void mr_bloom_use_portable(struct mr_bloom *bloom);
void mr_bloom_check(const struct mr_bloom *bloom);
