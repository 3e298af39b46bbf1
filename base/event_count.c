/* SPDX-License-Identifier: Apache-2.0 */
#include "base/event_count.h"

#include "base/check.h"
#include "base/tsan.h"

#include <ck_ec.h>

#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static_assert(offsetof(struct mr_event_count, counter) == 0 && sizeof(struct ck_ec32) == 4,
              "counter is a ck_ec32");

static int now(const struct ck_ec_ops *ops, struct timespec *out) {
    (void)ops; /* stateless */
    return clock_gettime(CLOCK_MONOTONIC, out);
}

/* FUTEX_WAIT_BITSET takes an absolute monotonic deadline, which is what ck_ec hands over. EINTR, EAGAIN
 * and ETIMEDOUT all mean "look again", and ck_ec does. */
static void wait32(const struct ck_ec_wait_state *state, const uint32_t *address, uint32_t expected,
                   const struct timespec *deadline) {
    (void)state; /* nothing kept between waits */
    (void)syscall(SYS_futex, address, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, deadline,
                  NULL, FUTEX_BITSET_MATCH_ANY);
}

static void wake32(const struct ck_ec_ops *ops, const uint32_t *address) {
    (void)ops; /* stateless */
    (void)syscall(SYS_futex, address, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT32_MAX, NULL, NULL, 0);
}

static const struct ck_ec_ops futex_ops = {
    .gettime = now,
    .wait32 = wait32,
    .wake32 = wake32,
    .busy_loop_iter = 1, /* two shared cores: a spinning waiter takes the time of the one it waits for */
};

static const struct ck_ec_mode mode = {.ops = &futex_ops, .single_producer = false};

static struct ck_ec32 *inner(struct mr_event_count *ec) {
    return (struct ck_ec32 *)(void *)ec;
}

void mr_event_count_init(struct mr_event_count *ec) {
    ck_ec32_init(inner(ec), 0);
    atomic_init(&ec->blocked, 0);
}

uint32_t mr_event_count_value(const struct mr_event_count *ec) {
    mr_tsan_ignore_begin();
    uint32_t value = ck_ec32_value((const struct ck_ec32 *)(const void *)ec);
    mr_tsan_ignore_end();
    mr_tsan_acquire(ec);
    return value;
}

void mr_event_count_signal(struct mr_event_count *ec) {
    mr_tsan_release(ec);
    mr_tsan_ignore_begin();
    ck_ec32_inc(inner(ec), &mode);
    mr_tsan_ignore_end();
}

void mr_event_count_wait(struct mr_event_count *ec, uint32_t old, uint64_t timeout_ns) {
    struct timespec deadline;
    struct timespec *until = NULL;
    if (timeout_ns != UINT64_MAX) {
        struct timespec length = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                                  .tv_nsec = (long)(timeout_ns % 1000000000u)};
        int failed = ck_ec_deadline(&deadline, &mode, &length);
        MR_ASSERT(failed == 0);
        until = &deadline;
    }
    mr_tsan_ignore_begin();
    (void)ck_ec32_wait(inner(ec), &mode, old, until); /* timed out or changed: the caller looks again */
    mr_tsan_ignore_end();
    mr_tsan_acquire(ec);
}

/* Pairs with signal_blocked (I2). */
void mr_event_count_block(struct mr_event_count *ec) {
    atomic_store_explicit(&ec->blocked, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

void mr_event_count_unblock(struct mr_event_count *ec) {
    atomic_store_explicit(&ec->blocked, 0, memory_order_relaxed);
}

/* Pairs with block (I2). */
void mr_event_count_signal_blocked(struct mr_event_count *ec) {
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&ec->blocked, memory_order_relaxed) != 0) {
        mr_event_count_signal(ec);
    }
}
