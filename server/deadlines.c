/* SPDX-License-Identifier: Apache-2.0 */
#include "server/deadlines.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/counters.h"
#include "base/event_count.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>

struct mr_deadlines {
    struct mr_clock *clock;
    uint64_t round_ns;
    pthread_mutex_t lock; /* guards the list */
    struct mr_deadline *first;
    uint32_t count;
    mr_counter expired;
    struct mr_event_count wake;
    _Atomic bool stopping; /* release by stop, acquire by the reaper */
    bool has_thread;
    pthread_t thread;
};

static void *reap(void *arg) {
    struct mr_deadlines *deadlines = arg;
    for (;;) {
        uint32_t value = mr_event_count_value(&deadlines->wake);
        if (atomic_load_explicit(&deadlines->stopping, memory_order_acquire)) {
            return NULL;
        }
        (void)mr_deadlines_step(deadlines, mr_clock_mono_ns(deadlines->clock)); /* counted inside */
        mr_event_count_wait(&deadlines->wake, value, deadlines->round_ns);
    }
}

enum mr_status mr_deadlines_open(struct mr_clock *clock, int64_t round_ms,
                                 struct mr_deadlines **ret) {
    MR_ASSERT(round_ms >= 0);
    struct mr_deadlines *deadlines = mr_alloc_zero(1, sizeof *deadlines);
    if (deadlines == NULL) {
        return MR_NO_MEMORY;
    }
    deadlines->clock = clock;
    deadlines->round_ns = (uint64_t)round_ms * 1000000u;
    mr_event_count_init(&deadlines->wake);
    int failed = pthread_mutex_init(&deadlines->lock, NULL);
    MR_ASSERT(failed == 0);
    if (round_ms > 0) {
        if (pthread_create(&deadlines->thread, NULL, reap, deadlines) != 0) {
            mr_deadlines_close(deadlines);
            return MR_NO_MEMORY;
        }
        deadlines->has_thread = true;
    }
    *ret = deadlines;
    return MR_OK;
}

void mr_deadlines_stop(struct mr_deadlines *deadlines) {
    if (!deadlines->has_thread) {
        return;
    }
    atomic_store_explicit(&deadlines->stopping, true, memory_order_release);
    mr_event_count_signal(&deadlines->wake);
    int failed = pthread_join(deadlines->thread, NULL);
    MR_ASSERT(failed == 0);
    deadlines->has_thread = false;
}

void mr_deadlines_close(struct mr_deadlines *deadlines) {
    if (deadlines == NULL) {
        return;
    }
    mr_deadlines_stop(deadlines);
    MR_ASSERT(deadlines->first == NULL && deadlines->count == 0);
    int failed = pthread_mutex_destroy(&deadlines->lock);
    MR_ASSERT(failed == 0);
    mr_free(deadlines);
}

void mr_deadlines_add(struct mr_deadlines *deadlines, struct mr_deadline *entry, int fd,
                      uint64_t due_ns) {
    MR_ASSERT(fd >= 0);
    entry->fd = fd;
    entry->prev = NULL;
    mr_deadline_set(entry, due_ns);
    pthread_mutex_lock(&deadlines->lock);
    entry->next = deadlines->first;
    if (entry->next != NULL) {
        entry->next->prev = entry;
    }
    deadlines->first = entry;
    deadlines->count++;
    pthread_mutex_unlock(&deadlines->lock);
}

void mr_deadlines_remove(struct mr_deadlines *deadlines, struct mr_deadline *entry) {
    pthread_mutex_lock(&deadlines->lock);
    MR_ASSERT(deadlines->count > 0);
    MR_ASSERT(entry->prev != NULL || deadlines->first == entry);
    if (entry->prev != NULL) {
        entry->prev->next = entry->next;
    } else {
        deadlines->first = entry->next;
    }
    if (entry->next != NULL) {
        entry->next->prev = entry->prev;
    }
    deadlines->count--;
    pthread_mutex_unlock(&deadlines->lock);
    entry->prev = NULL;
    entry->next = NULL;
    entry->fd = -1;
}

uint32_t mr_deadlines_step(struct mr_deadlines *deadlines, uint64_t now_ns) {
    uint32_t expired = 0;
    pthread_mutex_lock(&deadlines->lock);
    for (struct mr_deadline *entry = deadlines->first; entry != NULL; entry = entry->next) {
        uint64_t due_ns = atomic_load_explicit(&entry->due_ns, memory_order_relaxed);
        if (due_ns == 0 || now_ns < due_ns) {
            continue;
        }
        MR_ASSERT(entry->fd >= 0);
        (void)shutdown(entry->fd, SHUT_RDWR); /* ENOTCONN: the peer was faster, which is as good */
        /* Once is enough; but a phase that began meanwhile keeps its own deadline. */
        atomic_compare_exchange_strong_explicit(&entry->due_ns, &due_ns, 0, memory_order_relaxed,
                                                memory_order_relaxed);
        expired++;
    }
    pthread_mutex_unlock(&deadlines->lock);
    mr_counter_add_shared(&deadlines->expired, expired);
    return expired;
}

void mr_deadlines_visit(struct mr_deadlines *deadlines,
                        void (*visit)(struct mr_deadline *entry, void *ctx), void *ctx) {
    pthread_mutex_lock(&deadlines->lock);
    for (struct mr_deadline *entry = deadlines->first; entry != NULL; entry = entry->next) {
        visit(entry, ctx);
    }
    pthread_mutex_unlock(&deadlines->lock);
}

uint64_t mr_deadlines_expired(const struct mr_deadlines *deadlines) {
    return mr_counter_read(&deadlines->expired);
}

void mr_deadlines_check(struct mr_deadlines *deadlines) {
    uint32_t count = 0;
    const struct mr_deadline *prev = NULL;
    pthread_mutex_lock(&deadlines->lock);
    for (const struct mr_deadline *entry = deadlines->first; entry != NULL; entry = entry->next) {
        MR_ASSERT(entry->prev == prev && entry->fd >= 0);
        prev = entry;
        count++;
    }
    MR_ASSERT(count == deadlines->count);
    pthread_mutex_unlock(&deadlines->lock);
}
