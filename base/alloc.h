/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Alloc: the one door to the heap, so that a test can make the k-th allocation fail.
 *
 * Errors      NULL when there is no memory; callers return MR_NO_MEMORY and change nothing.
 * Threads     Any. A block may be freed on another thread than the one that allocated it.
 * Cost        That of malloc (jemalloc in release). Not for the path of a single event.
 */
#include <stdbool.h>
#include <stddef.h>

#define MR_CACHE_LINE 64

void *mr_alloc(size_t size);
void *mr_alloc_zero(size_t count, size_t size);
void *mr_realloc(void *ptr, size_t size);
/* alignment is a power of two; freed with mr_free. */
void *mr_alloc_aligned(size_t alignment, size_t size);
void mr_free(void *ptr);

/* Large zeroed tables straight from the kernel: touched pages only are paid for. */
void *mr_alloc_pages(size_t size);
void mr_free_pages(void *ptr, size_t size);

/* Tests only: fail allocation number `nth` from now (1 is the next) and, if `forever`, all after it;
 * 0 switches it off. Not thread-safe; one thread must be running. */
void mr_alloc_fail_at(size_t nth, int forever);
/* Whether one has failed since. */
bool mr_alloc_failed(void);
