/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Admission: bounds the bytes of requests not yet answered, and counts these requests for the drain.
 *
 * Idea        Bodies are charged as they arrive, and what becomes of them (inflated text, columns) in addition;
 *             all of it is given back when the answer is made. Over limits.in_flight: 503 + Retry-After.
 * Owner       The http layer.
 * Threads     Any; but for drain, which one thread may call.
 * Invariants  I1 bytes is the sum of what was charged and not yet released, never more than limit after a charge
 *             that returned true.
 *             I2 enter adds to active and then reads closed; drain sets closed and then reads active; all four
 *             are seq_cst, so one of the two sees the other: no request enters that drain does not wait for.
 */
#include "base/clock.h"
#include "base/counters.h"
#include "base/event_count.h"

#include <stdbool.h>

struct mr_admission {
    uint64_t limit;    /* constant */
    mr_counter *bytes; /* mr_server.in_flight_bytes */
    struct mr_event_count left; /* signalled when active becomes 0 while closed */
    _Atomic uint32_t active;
    _Atomic bool closed;
};

void mr_admission_init(struct mr_admission *admission, uint64_t limit, mr_counter *bytes);

/* false: over the limit, nothing is charged. */
bool mr_admission_charge(struct mr_admission *admission, uint64_t bytes);
void mr_admission_release(struct mr_admission *admission, uint64_t bytes);
/* Whether a charge would pass now. */
bool mr_admission_fits(const struct mr_admission *admission, uint64_t bytes);

/* One request that drain waits for; false: closed. */
bool mr_admission_enter(struct mr_admission *admission);
void mr_admission_leave(struct mr_admission *admission);
bool mr_admission_closed(const struct mr_admission *admission);
/* Lets nobody in any more and waits for those inside; false: some are left after timeout_ms. */
bool mr_admission_drain(struct mr_admission *admission, struct mr_clock *clock, int64_t timeout_ms);
