/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures the exchange between threads: bench_exchange [MESSAGES [PARTIALS]]       default 500,000, 64
 *
 * A ring of 256 and event counts, as between stations: a producer signals after each push and sleeps when the ring is
 * full, the consumer sleeps when it is empty. First one message a bundle that is nothing but a pointer, from 1 and from 2
 * producers (the ring for one, the ring for many); then parcels of PARTIALS partials, made by the producer, read and
 * freed by the consumer: a hundredth as many. Prints ns of time a message and a hash of what came, which asserts that
 * each producer's messages came in their order.
 */
#include "base/alloc.h"
#include "base/event_count.h"
#include "base/hash.h"
#include "base/partial.h"
#include "base/ring.h"
#include "bench/measure.h"

#include <pthread.h>

enum { RING = 256, PRODUCERS_MAX = 2, RUNS = 7, STATE_LEN = 24, KEY_LEN = 14, PARCEL_SHARE = 100 };

struct message {
    uint64_t number;
    uint32_t producer;
};

struct producer {
    struct exchange *exchange;
    struct message *messages; /* NULL: parcels */
    pthread_t thread;
    uint32_t index;
    struct mr_event_count room;
    uint64_t expected; /* the consumer's: number of its next message */
    uint64_t hash;     /* likewise */
};

struct exchange {
    struct mr_ring *ring;
    struct mr_event_count wake; /* the consumer's */
    struct producer producers[PRODUCERS_MAX];
    uint32_t producer_count;
    uint64_t messages; /* of each producer */
    uint32_t partials;
};

static struct mr_parcel *make_parcel(const struct exchange *x, uint32_t origin, uint64_t number) {
    const uint32_t size = (sizeof(struct mr_partial) + STATE_LEN + KEY_LEN + 7) & ~7u;
    struct mr_parcel *parcel = mr_alloc_zero(1, sizeof *parcel);
    MR_ASSERT(parcel != NULL);
    parcel->seq = number;
    parcel->origin = origin;
    mr_buf_init(&parcel->bytes, (size_t)size * x->partials + 1);
    for (uint32_t i = 0; i < x->partials; i++) {
        struct mr_partial partial = {.key_hash = number * x->partials + i,
                                     .events = 1,
                                     .key_len = KEY_LEN,
                                     .state_len = STATE_LEN,
                                     .size = size};
        uint8_t *at = mr_buf_reserve(&parcel->bytes, size);
        MR_ASSERT(at != NULL);
        memset(at, 0, size);
        memcpy(at, &partial, sizeof partial);
        parcel->bytes.len += size;
        parcel->count++;
    }
    return parcel;
}

static bool push(struct exchange *x, void *item) {
    return x->producer_count == 1 ? mr_ring_push(x->ring, item)
                                  : mr_ring_push_shared(x->ring, item);
}

static void *produce(void *ctx) {
    struct producer *p = ctx;
    struct exchange *x = p->exchange;
    for (uint64_t n = 0; n < x->messages; n++) {
        void *item = p->messages != NULL ? (void *)&p->messages[n] : make_parcel(x, p->index, n);
        while (!push(x, item)) {
            uint32_t value = mr_event_count_value(&p->room);
            mr_event_count_block(&p->room);
            if (push(x, item)) {
                mr_event_count_unblock(&p->room);
                break;
            }
            mr_event_count_wait(&p->room, value, UINT64_MAX);
            mr_event_count_unblock(&p->room);
        }
        mr_event_count_signal(&x->wake);
    }
    return NULL;
}

static void take(struct exchange *x, uint32_t producer, uint64_t number, uint64_t content) {
    struct producer *p = &x->producers[producer];
    MR_ASSERT(number == p->expected);
    p->expected++;
    p->hash = (p->hash ^ number ^ content) * UINT64_C(0x9E3779B97F4A7C15);
}

static void take_parcel(struct exchange *x, struct mr_parcel *parcel) {
    uint64_t content = 0;
    const uint8_t *at = parcel->bytes.ptr;
    for (uint32_t i = 0; i < parcel->count; i++) {
        struct mr_partial partial;
        memcpy(&partial, at, sizeof partial);
        content += partial.key_hash;
        at += partial.size;
    }
    take(x, parcel->origin, parcel->seq, content);
    mr_buf_finish(&parcel->bytes);
    mr_free(parcel);
}

/* All of all producers. */
static void consume(struct exchange *x) {
    uint64_t left = x->messages * x->producer_count;
    while (left > 0) {
        uint32_t value = mr_event_count_value(&x->wake);
        uint64_t before = left;
        for (void *item = mr_ring_pop(x->ring); item != NULL; item = mr_ring_pop(x->ring)) {
            const struct message *message = item;
            if (x->producers[0].messages == NULL) {
                take_parcel(x, item);
            } else {
                take(x, message->producer, message->number, 0);
            }
            left--;
        }
        for (uint32_t i = 0; i < x->producer_count; i++) {
            mr_event_count_signal_blocked(&x->producers[i].room);
        }
        if (left == before) {
            mr_event_count_wait(&x->wake, value, UINT64_MAX);
        }
    }
}

static void open_producer(struct exchange *x, uint32_t index) {
    struct producer *p = &x->producers[index];
    *p = (struct producer){.exchange = x, .index = index};
    mr_event_count_init(&p->room);
    if (x->partials == 0) {
        p->messages = mr_alloc_zero(x->messages, sizeof *p->messages);
        MR_ASSERT(p->messages != NULL);
        for (uint64_t n = 0; n < x->messages; n++) {
            p->messages[n] = (struct message){n, index};
        }
    }
}

/* Returns the hash. */
static uint64_t run(struct exchange *x, struct bench_runs *runs) {
    uint64_t hash = 0;
    mr_event_count_init(&x->wake);
    for (uint32_t i = 0; i < x->producer_count; i++) {
        open_producer(x, i);
    }
    uint64_t begin_ns = bench_wall_ns();
    for (uint32_t i = 0; i < x->producer_count; i++) {
        int failed = pthread_create(&x->producers[i].thread, NULL, produce, &x->producers[i]);
        MR_ASSERT(failed == 0);
    }
    consume(x);
    bench_add(runs, bench_wall_ns() - begin_ns, x->messages * x->producer_count);
    for (uint32_t i = 0; i < x->producer_count; i++) {
        int failed = pthread_join(x->producers[i].thread, NULL);
        MR_ASSERT(failed == 0 && x->producers[i].expected == x->messages);
        hash = hash * 31 + x->producers[i].hash;
        mr_free(x->producers[i].messages);
    }
    return hash;
}

static void measure(uint32_t producers, uint64_t messages, uint32_t partials) {
    struct bench_runs runs = {.ns = NULL};
    static struct exchange x;
    char parameters[64];
    uint64_t hash = 0;
    x = (struct exchange){.producer_count = producers,
                          .messages = messages / producers,
                          .partials = partials,
                          .ring = mr_ring_open(RING)};
    MR_ASSERT(x.ring != NULL && x.messages > 0);
    for (uint32_t i = 0; i < RUNS; i++) {
        hash = run(&x, &runs);
    }
    mr_ring_close(x.ring);
    (void)snprintf(parameters, sizeof parameters,
                   partials == 0 ? "pointers, %u producer%s" : "parcels, %u producer%s", producers,
                   producers == 1 ? "" : "s");
    char note[64] = "";
    if (partials > 0) {
        (void)snprintf(note, sizeof note, "%.2f ns a partial (%u each)",
                       bench_median(&runs) / partials, partials);
    }
    bench_line("exchange", parameters, &runs, "message", note, hash);
}

int main(int argc, char **argv) {
    uint64_t messages = argc > 1 ? strtoull(argv[1], NULL, 10) : 500000;
    uint32_t partials = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 64;
    messages += PRODUCERS_MAX * PARCEL_SHARE; /* at least one of each */
    for (uint32_t producers = 1; producers <= PRODUCERS_MAX; producers++) {
        measure(producers, messages, 0);
    }
    for (uint32_t producers = 1; producers <= PRODUCERS_MAX && partials > 0; producers++) {
        measure(producers, messages / PARCEL_SHARE, partials);
    }
    return 0;
}
