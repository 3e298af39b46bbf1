/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/window.h"

#include "base/check.h"

static int64_t saturate(__int128_t value) {
    if (value > INT64_MAX) {
        return INT64_MAX;
    }
    return value < INT64_MIN ? INT64_MIN : (int64_t)value;
}

/* The greatest multiple of size at or below value. */
static __int128_t floor_to(__int128_t value, int64_t size) {
    __int128_t rest = value % size;
    return value - (rest < 0 ? rest + size : rest);
}

/* On the path of events: 64-bit division only. */
int64_t mr_window_start(const struct mr_rule *rule, int64_t time_ms) {
    MR_ASSERT(rule->window.size_ms > 0);
    int64_t rest = time_ms % rule->window.size_ms;
    int64_t back = rest < 0 ? rest + rule->window.size_ms : rest;
    int64_t start;
    return __builtin_sub_overflow(time_ms, back, &start) ? INT64_MIN : start;
}

/* Floors again, because the start of the very first window is cut off at INT64_MIN. */
int64_t mr_window_end(const struct mr_rule *rule, int64_t start_ms) {
    MR_ASSERT(rule->window.size_ms > 0);
    return saturate(floor_to(start_ms, rule->window.size_ms) + rule->window.size_ms);
}

bool mr_window_closed(const struct mr_rule *rule, int64_t start_ms, int64_t watermark_ms) {
    int64_t end = mr_window_end(rule, start_ms);
    return watermark_ms >= end || rule->final_floor_ms >= end;
}

bool mr_window_final(const struct mr_rule *rule, int64_t start_ms, int64_t watermark_ms) {
    MR_ASSERT(rule->allowed_lateness_ms >= 0);
    __int128_t end = mr_window_end(rule, start_ms);
    return watermark_ms >= saturate(end + rule->allowed_lateness_ms) || rule->final_floor_ms >= end;
}

/* What ends at or before it is behind a watermark that acts `delay` later, or below the floor. */
static __int128_t reach_of(const struct mr_rule *rule, int64_t watermark_ms, int64_t delay_ms) {
    __int128_t reach = (__int128_t)watermark_ms - delay_ms;
    return rule->final_floor_ms > reach ? rule->final_floor_ms : reach;
}

int64_t mr_window_final_end(const struct mr_rule *rule, int64_t watermark_ms) {
    MR_ASSERT(rule->window.size_ms > 0 && rule->allowed_lateness_ms >= 0);
    if (watermark_ms == INT64_MAX || rule->final_floor_ms == INT64_MAX) {
        return INT64_MAX; /* the end of time is the end of the last window, whatever the size */
    }
    __int128_t reach = reach_of(rule, watermark_ms, rule->allowed_lateness_ms);
    return saturate(floor_to(reach, rule->window.size_ms));
}

/* The least watermark above watermark_ms that is a window end plus `delay`, among the windows
 * ending at or before last_end; INT64_MAX: none. */
static int64_t next_step(const struct mr_rule *rule, int64_t watermark_ms, int64_t delay_ms,
                         int64_t last_end) {
    __int128_t reach = reach_of(rule, watermark_ms, delay_ms);
    __int128_t end = floor_to(reach, rule->window.size_ms) + rule->window.size_ms;
    return end > last_end ? INT64_MAX : saturate(end + delay_ms);
}

int64_t mr_window_next_due(const struct mr_rule *rule, int64_t watermark_ms, int64_t time_max_ms) {
    MR_ASSERT(rule->window.size_ms > 0 && rule->allowed_lateness_ms >= 0);
    if (time_max_ms == INT64_MIN || watermark_ms == INT64_MAX) {
        return INT64_MAX;
    }
    int64_t last_end = mr_window_end(rule, time_max_ms);
    int64_t closes = next_step(rule, watermark_ms, 0, last_end);
    int64_t final = next_step(rule, watermark_ms, rule->allowed_lateness_ms, last_end);
    MR_ASSERT(closes > watermark_ms && final > watermark_ms);
    return closes < final ? closes : final;
}
