/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/local.h"

#include <string.h>

enum { CLOSE_MS = 60 * 1000 };

static int64_t lesser(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t greater(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void widen(struct mr_local_span *span, const struct mr_local_span *by) {
    span->recorded_from_ms = lesser(span->recorded_from_ms, by->recorded_from_ms);
    span->recorded_to_ms = greater(span->recorded_to_ms, by->recorded_to_ms);
    span->event_from_ms = lesser(span->event_from_ms, by->event_from_ms);
    span->event_to_ms = greater(span->event_to_ms, by->event_to_ms);
}

void mr_local_add(struct mr_local *local, const struct mr_local_span *span, uint32_t events) {
    mr_counter_add(&local->events, events);
    if (local->count > 0) {
        struct mr_local_span *last = &local->spans[local->count - 1];
        if (span->recorded_from_ms - last->recorded_to_ms <= CLOSE_MS) {
            widen(last, span);
            return;
        }
    }
    if (local->count == MR_LOCAL_SPANS) {
        widen(&local->spans[1], &local->spans[0]);
        local->count--;
        memmove(local->spans, local->spans + 1, local->count * sizeof *local->spans);
    }
    local->spans[local->count++] = *span;
}

int64_t mr_local_since(const struct mr_local *local, int64_t since_ms) {
    for (uint32_t i = 0; i < local->count; i++) {
        if (local->spans[i].recorded_to_ms >= since_ms) {
            return local->spans[i].recorded_from_ms;
        }
    }
    return INT64_MAX;
}

void mr_local_save(const struct mr_local *local, struct mr_buf *buf) {
    mr_pack_u64(buf, mr_counter_read(&local->events));
    mr_pack_u32(buf, local->count);
    for (uint32_t i = 0; i < local->count; i++) {
        mr_pack_i64(buf, local->spans[i].recorded_from_ms);
        mr_pack_i64(buf, local->spans[i].recorded_to_ms);
        mr_pack_i64(buf, local->spans[i].event_from_ms);
        mr_pack_i64(buf, local->spans[i].event_to_ms);
    }
}

bool mr_local_load(struct mr_local *local, struct mr_unpack *unpack) {
    mr_counter_set(&local->events, mr_unpack_u64(unpack));
    uint32_t count = mr_unpack_u32(unpack);
    local->count = 0;
    unpack->failed = unpack->failed || count > MR_LOCAL_SPANS;
    for (uint32_t i = 0; i < count && i < MR_LOCAL_SPANS; i++) {
        struct mr_local_span *span = &local->spans[local->count++];
        span->recorded_from_ms = mr_unpack_i64(unpack);
        span->recorded_to_ms = mr_unpack_i64(unpack);
        span->event_from_ms = mr_unpack_i64(unpack);
        span->event_to_ms = mr_unpack_i64(unpack);
    }
    return !unpack->failed;
}
