/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Deadlines: shuts down connections that are past their time, whatever they are doing.
 *
 * Idea        libmicrohttpd's timeout counts inactivity only, so a client that sends a byte a second lives for
 *             ever. Here each connection has one point in time by which the current phase (line and header,
 *             body, answer, waiting for the next request) must be over; a thread looks at all of them a few
 *             times a second and shuts the sockets down. The http thread then sees the end of the stream.
 *
 *             connect ──header──▶ request line ──header──▶ body ──body──▶ (suspended: none) ──answer──▶ idle ┐
 *                                      ▲──────────────────────────────────────────────────────────────────┘
 *
 * Owner       An entry lives inside its connection, from add to remove; remove comes before the socket is
 *             closed, and holds the lock, so a descriptor that somebody else has by now is never shut down.
 * Threads     add, remove, visit: any. set, clear: the connection's http thread. One reaper thread.
 * Units       Monotonic ns of the clock given.
 * Cost        set: one relaxed store. A round: one load a connection, under the lock.
 * Invariants  I1 every entry is in the list exactly from add to remove.
 */
#include "base/clock.h"
#include "base/status.h"

#include <stdatomic.h>

struct mr_deadlines;

struct mr_deadline {
    struct mr_deadline *prev;
    struct mr_deadline *next;
    int fd;
    /* 0: none. Relaxed: it orders nothing, and a round that reads the old value is corrected by the next. */
    _Atomic uint64_t due_ns;
};

/* round_ms: how often the thread looks; 0: no thread, the caller calls mr_deadlines_step (tests). */
enum mr_status mr_deadlines_open(struct mr_clock *clock, int64_t round_ms,
                                 struct mr_deadlines **ret) MR_MUST_CHECK;
/* Stops the thread; entries may still be removed until close. */
void mr_deadlines_stop(struct mr_deadlines *deadlines);
/* The list must be empty. NULL is fine. */
void mr_deadlines_close(struct mr_deadlines *deadlines);

void mr_deadlines_add(struct mr_deadlines *deadlines, struct mr_deadline *entry, int fd,
                      uint64_t due_ns);
void mr_deadlines_remove(struct mr_deadlines *deadlines, struct mr_deadline *entry);

static inline void mr_deadline_set(struct mr_deadline *entry, uint64_t due_ns) {
    atomic_store_explicit(&entry->due_ns, due_ns, memory_order_relaxed);
}

static inline void mr_deadline_clear(struct mr_deadline *entry) {
    mr_deadline_set(entry, 0);
}

/* Shuts down what is due at now_ns; returns how many. */
uint32_t mr_deadlines_step(struct mr_deadlines *deadlines, uint64_t now_ns);
/* Calls visit for each entry, under the lock: visit must neither wait nor add nor remove. */
void mr_deadlines_visit(struct mr_deadlines *deadlines,
                        void (*visit)(struct mr_deadline *entry, void *ctx), void *ctx);
uint64_t mr_deadlines_expired(const struct mr_deadlines *deadlines); /* sockets shut down so far */
void mr_deadlines_check(struct mr_deadlines *deadlines);
