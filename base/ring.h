/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Ring: bounded queues of pointers between threads. With event_count, the one user of Concurrency Kit.
 *
 * Idea        Pushing hands the thing over: after push the producer forgets the pointer.
 * Shape       capacity slots, a power of two; one stays empty.
 * Threads     mr_ring_push: the one producer. mr_ring_push_shared: any number of producers (the ring
 *             must only ever be used with one of the two). mr_ring_pop: the one consumer.
 *             mr_ring_len: anyone, a moment's estimate.
 * Errors      push returns false when full: the pushed thing is still the caller's. No function waits.
 * Cost        About 5 ns uncontended.
 * Invariants  I1 What was written before a push is visible after its pop: ck_ring publishes its tail
 *             with a release fence and reads it with an acquire fence.
 */
#include <stdbool.h>
#include <stddef.h>

struct mr_ring;

/* NULL when out of memory. capacity: a power of two, at least 4. */
struct mr_ring *mr_ring_open(size_t capacity);
/* The ring must be empty; NULL is fine. */
void mr_ring_close(struct mr_ring *ring);

bool mr_ring_push(struct mr_ring *ring, void *item);
bool mr_ring_push_shared(struct mr_ring *ring, void *item);
/* NULL when empty. */
void *mr_ring_pop(struct mr_ring *ring);
size_t mr_ring_len(const struct mr_ring *ring);
/* Whether a push by the one producer would fail. Only the producer may ask. */
bool mr_ring_full(const struct mr_ring *ring);
