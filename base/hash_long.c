/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH3 of long inputs: what is compiled here (base/hash.c) knows only the instructions that every x86-64 has, which is
 * right for ids; the library itself looks at the processor, and takes twice as many bytes a cycle where it has AVX2.
 * The hashes are the same.
 */
#include "base/hash.h"

#ifdef MR_XXHASH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

uint64_t mr_hash64_long(struct mr_bytes bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes.ptr, bytes.len, seed);
}
