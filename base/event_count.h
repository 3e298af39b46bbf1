/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Event count: how a thread sleeps until there may be work, without a lock and without spinning.
 *
 * Idea        The waiter reads the count, looks for work, and waits only while the count is unchanged,
 *             so a signal between looking and waiting is never lost.
 *
 *                 waiter                         signaller
 *                 v = value(ec)                  push(ring, item)
 *                 if (work) … else wait(ec, v)   signal(ec)
 *
 *             A station that waits for room in its output (not for work) says so with block; the station
 *             that makes room signals only then, so that an idle station is not woken for nothing.
 *
 *                 waiter                                  who makes room
 *                 block(ec); try once more                pop(ring)
 *                 if still no room: wait(ec, v)           signal_blocked(ec)
 *                 unblock(ec)
 *
 * Threads     Any number of signallers, one waiter.
 * Cost        signal: one atomic add; a futex call only when somebody waits.
 * Invariants  I1 signal is a release (ck_ec_inc), value is an acquire: work pushed before signal is seen
 *             by a waiter that sees the new value.
 *             I2 block stores the flag before a full fence and the waiter looks at the ring after it;
 *             signal_blocked fences after the pop and reads the flag after it: one of the two sees the other.
 */
#include <stdint.h>

struct mr_event_count {
    uint32_t counter; /* a ck_ec32: the sign bit says that somebody waits */
    _Atomic uint32_t blocked; /* the waiter waits for room */
};

void mr_event_count_init(struct mr_event_count *ec);
uint32_t mr_event_count_value(const struct mr_event_count *ec);
void mr_event_count_signal(struct mr_event_count *ec);
/* Returns when the value differs from old, or after timeout_ns (UINT64_MAX: never). May be early. */
void mr_event_count_wait(struct mr_event_count *ec, uint32_t old, uint64_t timeout_ns);

void mr_event_count_block(struct mr_event_count *ec);
void mr_event_count_unblock(struct mr_event_count *ec);
/* Signals if the waiter has said that it is blocked. */
void mr_event_count_signal_blocked(struct mr_event_count *ec);
