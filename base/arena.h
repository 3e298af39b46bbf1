/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Arena: memory given out in a line and freed all at once.
 *
 * Idea        What lives as long as one window, one bundle or one configuration is freed as a whole.
 * Shape       Chunks, each twice the size of the one before up to chunk_max; the first is small, so
 *             that ten thousand arenas of five things each are cheap.
 * Owner       The caller owns the arena; the arena owns what it gave out.
 * Threads     One owner at a time.
 * Errors      alloc returns NULL when out of memory; nothing changes.
 * Cost        alloc O(1) amortised; reset and finish O(chunks).
 */
#include "base/bytes.h"

struct mr_arena_chunk;

struct mr_arena {
    struct mr_arena_chunk *newest;
    uint8_t *at;
    uint8_t *end;
    size_t chunk_first;
    size_t chunk_max;
    size_t bytes; /* taken from the heap */
};

void mr_arena_init(struct mr_arena *arena, size_t chunk_first, size_t chunk_max);
void mr_arena_finish(struct mr_arena *arena);
/* Everything given out is gone; the newest chunk is kept for reuse. */
void mr_arena_reset(struct mr_arena *arena);
/* 8-byte aligned, not zeroed. size may exceed chunk_max: then it has a chunk of its own. */
void *mr_arena_alloc(struct mr_arena *arena, size_t size);
/* A copy, with a NUL behind it that len does not count. ptr NULL when out of memory. */
struct mr_bytes mr_arena_copy(struct mr_arena *arena, struct mr_bytes bytes);
