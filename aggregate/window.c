/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/window.h"

#include "base/check.h"
#include "base/wide.h"
#include "base/zone.h"

/* The same on the path of events: 64-bit division only. */
static int64_t floor_fast(int64_t time_ms, int64_t size, int64_t offset) {
    int64_t rest = time_ms % size - offset;
    rest += rest < 0 ? size : 0;
    rest += rest < 0 ? size : 0; /* a negative time, less the offset */
    int64_t start;
    return __builtin_sub_overflow(time_ms, rest, &start) ? INT64_MIN : start;
}

static __int128_t floor_slow(const struct mr_window *w, __int128_t time_ms, int64_t size) {
    return mr_wide_floor(time_ms - w->offset_ms, size) + w->offset_ms;
}

void mr_window_slice(const struct mr_rule *rule, int64_t time_ms, int64_t *ret_start_ms, int64_t *ret_end_ms) {
    const struct mr_window *w = &rule->window;
    if (w->kind != MR_WINDOW_SLIDING) {
        *ret_start_ms = mr_window_start(rule, time_ms);
        *ret_end_ms = mr_window_end(rule, time_ms);
        return;
    }
    int64_t offset = w->offset_ms % w->slice_ms;
    *ret_start_ms = floor_fast(time_ms, w->slice_ms, offset);
    *ret_end_ms = mr_wide_saturate(mr_wide_floor((__int128_t)time_ms - offset, w->slice_ms) + offset + w->slice_ms);
}

int64_t mr_window_start(const struct mr_rule *rule, int64_t time_ms) {
    const struct mr_window *w = &rule->window;
    switch (w->kind) {
    case MR_WINDOW_TUMBLING:
        MR_ASSERT(w->size_ms > 0);
        return floor_fast(time_ms, w->size_ms, w->offset_ms);
    case MR_WINDOW_SLIDING:
        return floor_fast(time_ms, w->every_ms, w->offset_ms);
    case MR_WINDOW_CALENDAR:
        return mr_zone_floor(w->zone, time_ms, w->size_ms, w->offset_ms);
    case MR_WINDOW_GLOBAL:
        return MR_TIME_MIN_MS;
    case MR_WINDOW_SESSION:
        break;
    }
    MR_UNREACHABLE();
}

/* Floors again, because the start of the very first window is cut off at INT64_MIN. */
int64_t mr_window_end(const struct mr_rule *rule, int64_t start_ms) {
    const struct mr_window *w = &rule->window;
    switch (w->kind) {
    case MR_WINDOW_TUMBLING:
        MR_ASSERT(w->size_ms > 0);
        return mr_wide_saturate(floor_slow(w, start_ms, w->size_ms) + w->size_ms);
    case MR_WINDOW_SLIDING:
        return mr_wide_saturate(floor_slow(w, start_ms, w->every_ms) + w->size_ms);
    case MR_WINDOW_CALENDAR:
        return mr_zone_next(w->zone, start_ms, w->size_ms, w->offset_ms);
    case MR_WINDOW_GLOBAL:
        return MR_TIME_MAX_MS;
    case MR_WINDOW_SESSION:
        return mr_wide_saturate((__int128_t)start_ms + w->gap_ms);
    }
    MR_UNREACHABLE();
}

int64_t mr_window_first_after(const struct mr_rule *rule, int64_t time_ms) {
    const struct mr_window *w = &rule->window;
    if (w->kind != MR_WINDOW_SLIDING) {
        return mr_window_start(rule, time_ms);
    }
    return mr_wide_saturate(floor_slow(w, (__int128_t)time_ms - w->size_ms, w->every_ms) + w->every_ms);
}

int64_t mr_window_first_open(const struct mr_rule *rule, int64_t watermark_ms) {
    MR_ASSERT(rule->window.kind == MR_WINDOW_SLIDING);
    int64_t reach = rule->final_floor_ms > watermark_ms ? rule->final_floor_ms : watermark_ms;
    /* Far from the ends of int64, so that the sizes of windows may be added and subtracted; no event is there. */
    reach = reach < INT64_MIN / 4 ? INT64_MIN / 4 : reach;
    reach = reach > INT64_MAX / 4 ? INT64_MAX / 4 : reach;
    return mr_window_first_after(rule, reach);
}

static bool reached(const struct mr_rule *rule, int64_t start_ms, int64_t watermark_ms, int64_t delay_ms) {
    int64_t end = mr_window_end(rule, start_ms);
    return watermark_ms >= mr_wide_saturate((__int128_t)end + delay_ms) || rule->final_floor_ms >= end;
}

bool mr_window_closed(const struct mr_rule *rule, int64_t start_ms, int64_t watermark_ms) {
    return reached(rule, start_ms, watermark_ms, 0);
}

bool mr_window_final(const struct mr_rule *rule, int64_t start_ms, int64_t watermark_ms) {
    MR_ASSERT(rule->allowed_lateness_ms >= 0);
    return reached(rule, start_ms, watermark_ms, rule->allowed_lateness_ms);
}

/* What ends at or before it is behind a watermark that acts `delay` later, or below the floor. */
static __int128_t reach_of(const struct mr_rule *rule, int64_t watermark_ms, int64_t delay_ms) {
    __int128_t reach = (__int128_t)watermark_ms - delay_ms;
    return rule->final_floor_ms > reach ? rule->final_floor_ms : reach;
}

/* The greatest end of a window at or before reach. */
static __int128_t end_before(const struct mr_rule *rule, __int128_t reach) {
    const struct mr_window *w = &rule->window;
    switch (w->kind) {
    case MR_WINDOW_TUMBLING:
        return floor_slow(w, reach, w->size_ms);
    case MR_WINDOW_SLIDING:
        return floor_slow(w, reach - w->size_ms, w->every_ms) + w->size_ms;
    case MR_WINDOW_CALENDAR:
        return mr_zone_floor(w->zone, mr_wide_saturate(reach), w->size_ms, w->offset_ms);
    case MR_WINDOW_GLOBAL:
        return reach >= MR_TIME_MAX_MS ? MR_TIME_MAX_MS : INT64_MIN;
    case MR_WINDOW_SESSION:
        return reach;
    }
    MR_UNREACHABLE();
}

int64_t mr_window_final_end(const struct mr_rule *rule, int64_t watermark_ms) {
    MR_ASSERT(rule->allowed_lateness_ms >= 0);
    if (watermark_ms == INT64_MAX || rule->final_floor_ms == INT64_MAX) {
        return INT64_MAX; /* the end of time is the end of the last window, whatever the size */
    }
    return mr_wide_saturate(end_before(rule, reach_of(rule, watermark_ms, rule->allowed_lateness_ms)));
}

int64_t mr_window_late_before(const struct mr_rule *rule, int64_t watermark_ms) {
    const struct mr_window *w = &rule->window;
    int64_t end = mr_window_final_end(rule, watermark_ms);
    if (end == INT64_MAX) {
        return INT64_MAX;
    }
    switch (w->kind) {
    case MR_WINDOW_TUMBLING:
    case MR_WINDOW_CALENDAR:
    case MR_WINDOW_GLOBAL:
        return end;
    case MR_WINDOW_SLIDING: /* behind the start of the last window that is final */
        return mr_wide_saturate((__int128_t)end - w->size_ms + w->every_ms);
    case MR_WINDOW_SESSION:
        return end == INT64_MIN ? INT64_MIN : mr_wide_saturate((__int128_t)end - w->gap_ms + 1);
    }
    MR_UNREACHABLE();
}

/* The least end of a window after reach. */
static __int128_t end_after(const struct mr_rule *rule, __int128_t reach) {
    const struct mr_window *w = &rule->window;
    switch (w->kind) {
    case MR_WINDOW_TUMBLING:
        return end_before(rule, reach) + w->size_ms;
    case MR_WINDOW_SLIDING:
        return end_before(rule, reach) + w->every_ms;
    case MR_WINDOW_CALENDAR:
        return mr_zone_next(w->zone, mr_wide_saturate(reach), w->size_ms, w->offset_ms);
    case MR_WINDOW_GLOBAL:
        return reach >= MR_TIME_MAX_MS ? INT64_MAX : MR_TIME_MAX_MS;
    case MR_WINDOW_SESSION:
        return reach + 1;
    }
    MR_UNREACHABLE();
}

/* The least watermark above watermark_ms that is a window end plus `delay`, among the windows
 * ending at or before last_end; INT64_MAX: none. */
static int64_t next_step(const struct mr_rule *rule, int64_t watermark_ms, int64_t delay_ms,
                         int64_t last_end) {
    __int128_t end = end_after(rule, reach_of(rule, watermark_ms, delay_ms));
    return end > last_end ? INT64_MAX : mr_wide_saturate(end + delay_ms);
}

int64_t mr_window_next_due(const struct mr_rule *rule, int64_t watermark_ms, int64_t time_max_ms) {
    MR_ASSERT(rule->allowed_lateness_ms >= 0);
    if (time_max_ms == INT64_MIN || watermark_ms == INT64_MAX) {
        return INT64_MAX;
    }
    int64_t last_end = mr_window_end(rule, time_max_ms);
    int64_t closes = next_step(rule, watermark_ms, 0, last_end);
    int64_t final = next_step(rule, watermark_ms, rule->allowed_lateness_ms, last_end);
    MR_ASSERT(closes > watermark_ms && final > watermark_ms);
    return closes < final ? closes : final;
}

int64_t mr_window_reach_ms(const struct mr_rule *rule) {
    const struct mr_window *w = &rule->window;
    __int128_t reach = rule->allowed_lateness_ms;
    switch (w->kind) {
    case MR_WINDOW_TUMBLING:
    case MR_WINDOW_SLIDING:
        reach += w->size_ms;
        break;
    case MR_WINDOW_CALENDAR:
        reach += w->size_ms + MR_ZONE_SHIFT_MAX_MS;
        break;
    case MR_WINDOW_GLOBAL:
        reach = INT64_MAX;
        break;
    case MR_WINDOW_SESSION:
        reach += w->gap_ms;
        break;
    }
    return mr_wide_saturate(reach);
}
