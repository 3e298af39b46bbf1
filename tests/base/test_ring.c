/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that rings keep order and lose nothing, and that event counts wake who waits:
 *   1. one thread: fill, refuse when full, drain in order;
 *   2. two producers and one consumer, which sleeps on an event count when the ring is empty.
 */
#include "base/event_count.h"
#include "base/ring.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void fills_and_drains_in_order(void **state) {
    (void)state;
    struct mr_ring *ring = mr_ring_open(8);
    assert_non_null(ring);
    for (uintptr_t i = 1; i <= 7; i++) {
        assert_false(mr_ring_full(ring));
        assert_true(mr_ring_push(ring, (void *)i));
    }
    assert_true(mr_ring_full(ring));
    assert_false(mr_ring_push(ring, (void *)(uintptr_t)8));
    assert_int_equal(mr_ring_len(ring), 7);
    for (uintptr_t i = 1; i <= 7; i++) {
        assert_ptr_equal(mr_ring_pop(ring), (void *)i);
    }
    assert_null(mr_ring_pop(ring));
    mr_ring_close(ring);
}

enum { ITEMS = 20000, PRODUCERS = 2 };

struct channel {
    struct mr_ring *ring;
    struct mr_event_count ready;
    struct mr_event_count room;
};

struct item {
    uint32_t producer;
    uint32_t number;
};

static struct item items[PRODUCERS][ITEMS];

struct producer {
    struct channel *channel;
    uint32_t number;
};

static void *produce(void *ctx) {
    struct producer *p = ctx;
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct item *item = &items[p->number][i];
        *item = (struct item){p->number, i};
        for (;;) {
            uint32_t value = mr_event_count_value(&p->channel->room);
            if (mr_ring_push_shared(p->channel->ring, item)) {
                break;
            }
            mr_event_count_wait(&p->channel->room, value, UINT64_MAX);
        }
        mr_event_count_signal(&p->channel->ready);
    }
    return NULL;
}

static void two_producers_lose_nothing(void **state) {
    (void)state;
    struct channel channel = {.ring = mr_ring_open(64)};
    mr_event_count_init(&channel.ready);
    mr_event_count_init(&channel.room);
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){&channel, i};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    uint32_t next[PRODUCERS] = {0};
    for (uint32_t n = 0; n < PRODUCERS * ITEMS;) {
        uint32_t value = mr_event_count_value(&channel.ready);
        struct item *item = mr_ring_pop(channel.ring);
        if (item == NULL) {
            mr_event_count_wait(&channel.ready, value, UINT64_MAX);
            continue;
        }
        mr_event_count_signal(&channel.room);
        assert_int_equal(item->number, next[item->producer]++);
        n++;
    }
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    mr_ring_close(channel.ring);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_and_drains_in_order),
        cmocka_unit_test(two_producers_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
