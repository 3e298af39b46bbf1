/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH3 of long inputs: what base/hash.c compiles knows only the instructions that every x86-64 has, which is right for
 * ids; the library's own looks at the processor, and takes twice as many bytes a cycle where that has AVX2. The hashes
 * are the same.
 */
#include "base/hash.h"

#include <xxh_x86dispatch.h>

uint64_t mr_hash64_long(struct mr_bytes bytes, uint64_t seed) {
    return XXH3_64bits_withSeed_dispatch(bytes.ptr, bytes.len, seed);
}
