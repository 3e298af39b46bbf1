/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/watermark.h"

static void go_on(int64_t *ms, int64_t to_ms) {
    *ms = to_ms > *ms ? to_ms : *ms;
}

void sim_watermark_forget_sources(struct sim_watermark *w) {
    for (uint32_t i = 0; i < SIM_SOURCES; i++) {
        w->sources[i] = (struct sim_source){false, INT64_MIN, INT64_MIN, INT64_MIN};
    }
}

void sim_watermark_init(struct sim_watermark *w) {
    *w = (struct sim_watermark){
        .ms = INT64_MIN, .before_ms = INT64_MIN, .time_max_ms = INT64_MIN, .last_event_ms = INT64_MIN};
    sim_watermark_forget_sources(w);
}

void sim_watermark_begin_bundle(struct sim_watermark *w) {
    w->before_ms = w->ms;
    w->bundle_max_ms = INT64_MIN;
}

void sim_watermark_event(struct sim_watermark *w, const struct sim_stream *s, uint32_t source, int64_t ts_ms,
                         int64_t recorded_ms) {
    if (ts_ms > recorded_ms + s->max_future_ms) {
        return;
    }
    go_on(&w->time_max_ms, ts_ms);
    go_on(&w->bundle_max_ms, ts_ms);
    w->last_event_ms = recorded_ms;
    if (s->by_source) {
        w->sources[source].known = true;
        w->sources[source].last_ms = recorded_ms;
        go_on(&w->sources[source].time_max_ms, ts_ms);
    }
}

void sim_watermark_advance(struct sim_watermark *w, uint32_t source, int64_t to_ms, int64_t recorded_ms) {
    if (source == SIM_SOURCES) {
        go_on(&w->ms, to_ms);
        return;
    }
    w->sources[source].known = true;
    w->sources[source].last_ms = recorded_ms;
    go_on(&w->sources[source].advanced_ms, to_ms);
    w->last_event_ms = recorded_ms;
}

static bool is_silent(const struct sim_stream *s, int64_t last_ms, int64_t recorded_ms) {
    return s->idle_timeout_ms != INT64_MAX && last_ms != INT64_MIN && recorded_ms - last_ms >= s->idle_timeout_ms;
}

/* Where the last of the sources is that speak; false: none does. */
static bool find_slowest(const struct sim_watermark *w, const struct sim_stream *s, int64_t recorded_ms,
                         int64_t *ret_ms) {
    bool found = false;
    for (uint32_t i = 0; i < SIM_SOURCES; i++) {
        const struct sim_source *source = &w->sources[i];
        if (!source->known || is_silent(s, source->last_ms, recorded_ms)) {
            continue;
        }
        int64_t at_ms = source->advanced_ms;
        if (source->time_max_ms != INT64_MIN) {
            go_on(&at_ms, source->time_max_ms - s->out_of_orderness_ms);
        }
        *ret_ms = !found || at_ms < *ret_ms ? at_ms : *ret_ms;
        found = true;
    }
    return found;
}

static void end_bundle(struct sim_watermark *w, const struct sim_stream *s, int64_t recorded_ms) {
    bool sources = false;
    for (uint32_t i = 0; i < SIM_SOURCES; i++) {
        sources = sources || w->sources[i].known;
    }
    if (!sources && w->bundle_max_ms != INT64_MIN) {
        go_on(&w->ms, w->bundle_max_ms - s->out_of_orderness_ms);
    }
    int64_t slowest_ms;
    if (find_slowest(w, s, recorded_ms, &slowest_ms)) {
        go_on(&w->ms, slowest_ms);
    } else if (is_silent(s, w->last_event_ms, recorded_ms)) {
        go_on(&w->ms, recorded_ms - s->out_of_orderness_ms);
    }
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
        end_bundle(streams[i], &s->stream[i], recorded_ms);
    }
}
