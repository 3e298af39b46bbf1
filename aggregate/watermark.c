/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/watermark.h"

#include "base/check.h"

static int64_t saturating_sub(int64_t a, int64_t b) {
    int64_t ret;
    if (__builtin_sub_overflow(a, b, &ret)) {
        return b < 0 ? INT64_MAX : INT64_MIN;
    }
    return ret;
}

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

void mr_watermark_init(struct mr_watermark *w) {
    *w = (struct mr_watermark){INT64_MIN, INT64_MIN, INT64_MIN};
}

int64_t mr_watermark_limit(const struct mr_watermark_options *o, int64_t recorded_ms) {
    MR_ASSERT(o->max_future_ms >= 0);
    int64_t ret;
    return __builtin_add_overflow(recorded_ms, o->max_future_ms, &ret) ? INT64_MAX : ret;
}

void mr_watermark_observe(struct mr_watermark *w, const struct mr_watermark_options *o,
                          int64_t time_max_ms, int64_t recorded_ms) {
    MR_ASSERT(o->out_of_orderness_ms >= 0);
    if (time_max_ms == INT64_MIN) {
        return;
    }
    MR_ASSERT(time_max_ms <= mr_watermark_limit(o, recorded_ms)); /* I2 */
    w->time_max_ms = later(w->time_max_ms, time_max_ms);
    w->last_event_recorded_ms = later(w->last_event_recorded_ms, recorded_ms);
    if (!o->bounded) {
        int64_t reached = saturating_sub(time_max_ms, o->out_of_orderness_ms);
        w->watermark_ms = later(w->watermark_ms, reached);
    }
}

/* A stream that has never had an event has no window to close: it stays where it is. */
static bool is_idle(const struct mr_watermark *w, const struct mr_watermark_options *o,
                    int64_t recorded_ms) {
    if (o->idle_timeout_ms == INT64_MAX || w->last_event_recorded_ms == INT64_MIN) {
        return false;
    }
    return saturating_sub(recorded_ms, w->last_event_recorded_ms) >= o->idle_timeout_ms;
}

int64_t mr_watermark_at(const struct mr_watermark *w, const struct mr_watermark_options *o,
                        int64_t recorded_ms) {
    MR_ASSERT(o->out_of_orderness_ms >= 0 && o->idle_timeout_ms >= 0);
    if (o->bounded || !is_idle(w, o, recorded_ms)) {
        return w->watermark_ms;
    }
    return later(w->watermark_ms, saturating_sub(recorded_ms, o->out_of_orderness_ms));
}

void mr_watermark_tick(struct mr_watermark *w, const struct mr_watermark_options *o,
                       int64_t recorded_ms) {
    int64_t next = mr_watermark_at(w, o, recorded_ms);
    MR_ASSERT(next >= w->watermark_ms); /* I1 */
    w->watermark_ms = next;
}

void mr_watermark_end(struct mr_watermark *w) {
    w->watermark_ms = INT64_MAX;
}
