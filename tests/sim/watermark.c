/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/watermark.h"

void sim_watermark_init(struct sim_watermark *w) {
    *w = (struct sim_watermark){
        .ms = INT64_MIN, .before_ms = INT64_MIN, .time_max_ms = INT64_MIN, .last_event_ms = INT64_MIN};
}

void sim_watermark_begin_bundle(struct sim_watermark *w) {
    w->before_ms = w->ms;
    w->bundle_max_ms = INT64_MIN;
}

void sim_watermark_event(struct sim_watermark *w, const struct sim_stream *s, int64_t ts_ms, int64_t recorded_ms) {
    if (ts_ms <= recorded_ms + s->max_future_ms) {
        w->time_max_ms = ts_ms > w->time_max_ms ? ts_ms : w->time_max_ms;
        w->last_event_ms = recorded_ms;
        w->bundle_max_ms = ts_ms > w->bundle_max_ms ? ts_ms : w->bundle_max_ms;
    }
}

static void go_on(struct sim_watermark *w, int64_t to_ms) {
    w->ms = to_ms > w->ms ? to_ms : w->ms;
}

static bool shares_a_rule(const struct sim_settings *s, uint32_t a, uint32_t b) {
    bool shares = false;
    for (uint32_t i = 0; i < s->rules; i++) {
        shares = shares || (a != b && (s->rule[i].from >> a & 1) != 0 && (s->rule[i].from >> b & 1) != 0);
    }
    return shares;
}

void sim_watermarks_end_bundle(struct sim_watermark *streams[SIM_STREAMS], const struct sim_settings *s,
                               int64_t recorded_ms) {
    for (uint32_t i = 0; i < s->streams; i++) {
        for (uint32_t k = 0; k < s->streams; k++) {
            bool waits = streams[i]->last_event_ms == INT64_MIN && streams[k]->time_max_ms != INT64_MIN;
            if (waits && shares_a_rule(s, i, k)) {
                streams[i]->last_event_ms = recorded_ms;
            }
        }
    }
    for (uint32_t i = 0; i < s->streams; i++) {
        struct sim_watermark *w = streams[i];
        const struct sim_stream *o = &s->stream[i];
        if (w->bundle_max_ms != INT64_MIN) {
            go_on(w, w->bundle_max_ms - o->out_of_orderness_ms);
        }
        bool idle = w->last_event_ms != INT64_MIN && o->idle_timeout_ms != INT64_MAX &&
                    recorded_ms - w->last_event_ms >= o->idle_timeout_ms;
        if (idle) {
            go_on(w, recorded_ms - o->out_of_orderness_ms);
        }
    }
}
