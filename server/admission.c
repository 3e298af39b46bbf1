/* SPDX-License-Identifier: Apache-2.0 */
#include "server/admission.h"

#include "base/check.h"

void mr_admission_init(struct mr_admission *admission, uint64_t limit, mr_counter *bytes) {
    MR_ASSERT(limit > 0 && bytes != NULL);
    admission->limit = limit;
    admission->bytes = bytes;
    mr_event_count_init(&admission->left);
    atomic_init(&admission->active, 0);
    atomic_init(&admission->closed, false);
}

bool mr_admission_charge(struct mr_admission *admission, uint64_t bytes) {
    if (bytes > admission->limit) {
        return false;
    }
    /* Relaxed: a number, it orders nothing. Adding first means that two cannot both take the last
     * room. */
    uint64_t before = atomic_fetch_add_explicit(admission->bytes, bytes, memory_order_relaxed);
    if (before > admission->limit - bytes) {
        atomic_fetch_sub_explicit(admission->bytes, bytes, memory_order_relaxed);
        return false;
    }
    return true;
}

void mr_admission_release(struct mr_admission *admission, uint64_t bytes) {
    uint64_t before = atomic_fetch_sub_explicit(admission->bytes, bytes, memory_order_relaxed);
    MR_ASSERT(before >= bytes);
}

bool mr_admission_fits(const struct mr_admission *admission, uint64_t bytes) {
    uint64_t now = mr_counter_read(admission->bytes);
    return bytes <= admission->limit && now <= admission->limit - bytes;
}

bool mr_admission_enter(struct mr_admission *admission) {
    atomic_fetch_add_explicit(&admission->active, 1, memory_order_seq_cst); /* I2 */
    if (atomic_load_explicit(&admission->closed, memory_order_seq_cst)) {
        mr_admission_leave(admission);
        return false;
    }
    return true;
}

void mr_admission_leave(struct mr_admission *admission) {
    uint32_t before = atomic_fetch_sub_explicit(&admission->active, 1, memory_order_seq_cst);
    MR_ASSERT(before > 0);
    if (before == 1 && atomic_load_explicit(&admission->closed, memory_order_seq_cst)) {
        mr_event_count_signal(&admission->left);
    }
}

bool mr_admission_closed(const struct mr_admission *admission) {
    return atomic_load_explicit(&admission->closed, memory_order_seq_cst);
}

bool mr_admission_drain(struct mr_admission *admission, struct mr_clock *clock,
                        int64_t timeout_ms) {
    MR_ASSERT(timeout_ms >= 0);
    uint64_t start_ns = mr_clock_mono_ns(clock);
    uint64_t timeout_ns = (uint64_t)timeout_ms * 1000000u;
    atomic_store_explicit(&admission->closed, true, memory_order_seq_cst); /* I2 */
    for (;;) {
        uint32_t value = mr_event_count_value(&admission->left);
        if (atomic_load_explicit(&admission->active, memory_order_seq_cst) == 0) {
            return true;
        }
        uint64_t waited_ns = mr_clock_mono_ns(clock) - start_ns;
        if (waited_ns >= timeout_ns) {
            return false;
        }
        mr_event_count_wait(&admission->left, value, timeout_ns - waited_ns);
    }
}
