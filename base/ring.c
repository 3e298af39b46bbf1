/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ring.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/tsan.h"

#include <ck_ring.h>

#include <string.h>

/* ck_ring keeps the producer's and the consumer's index on lines of their own. */
struct mr_ring {
    ck_ring_t ring;
    ck_ring_buffer_t slots[];
};

struct mr_ring *mr_ring_open(size_t capacity) {
    MR_ASSERT(capacity >= 4 && (capacity & (capacity - 1)) == 0);
    size_t size = sizeof(struct mr_ring) + capacity * sizeof(ck_ring_buffer_t);
    struct mr_ring *ring = mr_alloc_aligned(MR_CACHE_LINE, size);
    if (ring == NULL) {
        return NULL;
    }
    memset(ring, 0, size);
    ck_ring_init(&ring->ring, (unsigned int)capacity);
    return ring;
}

void mr_ring_close(struct mr_ring *ring) {
    if (ring == NULL) {
        return;
    }
    MR_ASSERT(mr_ring_len(ring) == 0);
    mr_free(ring);
}

/* The index publications inside ck_ring are inline assembly, which TSan cannot see: mr_tsan_release
 * and mr_tsan_acquire tell it of the edge push -> pop (I1). */
bool mr_ring_push(struct mr_ring *ring, void *item) {
    MR_ASSERT(item != NULL);
    mr_tsan_release(ring);
    mr_tsan_ignore_begin();
    bool pushed = ck_ring_enqueue_spsc(&ring->ring, ring->slots, item);
    mr_tsan_ignore_end();
    return pushed;
}

bool mr_ring_push_shared(struct mr_ring *ring, void *item) {
    MR_ASSERT(item != NULL);
    mr_tsan_release(ring);
    mr_tsan_ignore_begin();
    bool pushed = ck_ring_enqueue_mpsc(&ring->ring, ring->slots, item);
    mr_tsan_ignore_end();
    return pushed;
}

/* The same for both kinds of producer: ck_ring_dequeue_mpsc is ck_ring_dequeue_spsc. */
void *mr_ring_pop(struct mr_ring *ring) {
    void *item = NULL;
    mr_tsan_ignore_begin();
    bool popped = ck_ring_dequeue_spsc(&ring->ring, ring->slots, &item);
    mr_tsan_ignore_end();
    mr_tsan_acquire(ring);
    MR_ASSERT(!popped || item != NULL);
    return popped ? item : NULL;
}

size_t mr_ring_len(const struct mr_ring *ring) {
    mr_tsan_ignore_begin();
    size_t len = ck_ring_size(&ring->ring);
    mr_tsan_ignore_end();
    return len;
}

bool mr_ring_full(const struct mr_ring *ring) {
    return mr_ring_len(ring) + 1 >= ck_ring_capacity(&ring->ring);
}
