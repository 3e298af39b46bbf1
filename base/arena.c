/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include "base/alloc.h"
#include "base/check.h"

struct mr_arena_chunk {
    struct mr_arena_chunk *older;
    size_t size; /* of data, in bytes */
    uint8_t data[];
};

static_assert(sizeof(struct mr_arena_chunk) % 8 == 0, "data begins aligned");

void mr_arena_init(struct mr_arena *arena, size_t chunk_first, size_t chunk_max) {
    MR_ASSERT(chunk_first >= 8 && chunk_first <= chunk_max);
    *arena = (struct mr_arena){.chunk_first = chunk_first, .chunk_max = chunk_max};
}

static void free_chunks(struct mr_arena_chunk *chunk) {
    while (chunk != NULL) {
        struct mr_arena_chunk *older = chunk->older;
        mr_free(chunk);
        chunk = older;
    }
}

void mr_arena_finish(struct mr_arena *arena) {
    free_chunks(arena->newest);
    mr_arena_init(arena, arena->chunk_first, arena->chunk_max);
}

void mr_arena_reset(struct mr_arena *arena) {
    struct mr_arena_chunk *kept = arena->newest;
    if (kept == NULL) {
        return;
    }
    free_chunks(kept->older);
    kept->older = NULL;
    arena->at = kept->data;
    arena->end = kept->data + kept->size;
    arena->bytes = sizeof *kept + kept->size;
}

static bool add_chunk(struct mr_arena *arena, size_t need) {
    size_t size = arena->newest == NULL ? arena->chunk_first : arena->newest->size * 2;
    size = size > arena->chunk_max ? arena->chunk_max : size;
    size = size < need ? need : size;
    struct mr_arena_chunk *chunk = mr_alloc(sizeof *chunk + size);
    if (chunk == NULL) {
        return false;
    }
    *chunk = (struct mr_arena_chunk){.older = arena->newest, .size = size};
    arena->newest = chunk;
    arena->at = chunk->data;
    arena->end = chunk->data + size;
    arena->bytes += sizeof *chunk + size;
    return true;
}

void *mr_arena_alloc(struct mr_arena *arena, size_t size) {
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    size_t rounded = size == 0 ? 8 : (size + 7) & ~(size_t)7;
    if (rounded > (size_t)(arena->end - arena->at) && !add_chunk(arena, rounded)) {
        return NULL;
    }
    void *ptr = arena->at;
    arena->at += rounded;
    return ptr;
}

struct mr_bytes mr_arena_copy(struct mr_arena *arena, struct mr_bytes bytes) {
    uint8_t *ptr = mr_arena_alloc(arena, bytes.len + 1);
    if (ptr == NULL) {
        return (struct mr_bytes){NULL, 0};
    }
    if (bytes.len > 0) {
        memcpy(ptr, bytes.ptr, bytes.len);
    }
    ptr[bytes.len] = 0;
    return (struct mr_bytes){ptr, bytes.len};
}
