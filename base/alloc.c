/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"

#include "base/check.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef MR_JEMALLOC
/* Bodies and columns of some 100 KB come and go a thousand times a second, and are freed by another thread. Giving
 * their pages back and faulting them in again costs more than decoding them (madvise, TLB shootdowns): unused pages
 * are kept for five minutes. What is kept was in flight at once, so limits.in_flight bounds it.
 * Huge pages: ten million groups are looked up at random, and in small pages half of that was walking page tables (0.33
 * of the CPU of 0.50 with them); an idle server takes 12 MB more. */
extern const char *malloc_conf;
const char *malloc_conf = "dirty_decay_ms:300000,muzzy_decay_ms:300000,thp:always";
#endif

static size_t fail_countdown; /* 0: off */
static bool fail_forever;
static bool has_failed; /* since mr_alloc_fail_at */

static bool fails_now(void) {
    if (__builtin_expect(fail_countdown == 0, 1)) {
        return false;
    }
    if (fail_countdown > 1) {
        fail_countdown--;
        return false;
    }
    if (!fail_forever) {
        fail_countdown = 0;
    }
    has_failed = true;
    return true;
}

void mr_alloc_fail_at(size_t nth, int forever) {
    fail_countdown = nth;
    fail_forever = forever != 0;
    has_failed = false;
}

bool mr_alloc_failed(void) {
    return has_failed;
}

void *mr_alloc(size_t size) {
    return fails_now() ? NULL : malloc(size);
}

void *mr_alloc_zero(size_t count, size_t size) {
    return fails_now() ? NULL : calloc(count, size);
}

void *mr_realloc(void *ptr, size_t size) {
    return fails_now() ? NULL : realloc(ptr, size);
}

void *mr_alloc_aligned(size_t alignment, size_t size) {
    MR_ASSERT(alignment != 0 && (alignment & (alignment - 1)) == 0);
    size_t rounded = (size + alignment - 1) & ~(alignment - 1); /* aligned_alloc asks for a multiple */
    return fails_now() ? NULL : aligned_alloc(alignment, rounded);
}

void mr_free(void *ptr) {
    free(ptr);
}

void *mr_alloc_pages(size_t size) {
    if (fails_now()) {
        return NULL;
    }
    void *ptr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                     -1, 0);
    if (ptr == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(ptr, size, MADV_HUGEPAGE); /* a hint: fewer TLB misses on random probes */
    return ptr;
}

void mr_free_pages(void *ptr, size_t size) {
    if (ptr != NULL) {
        int failed = munmap(ptr, size);
        MR_ASSERT(failed == 0);
    }
}
