/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Watermark: the model's of one stream, after the words of aggregate/watermark.h.
 */
#include "tests/sim/settings.h"

struct sim_source {
    bool known;
    int64_t time_max_ms;
    int64_t advanced_ms;
    int64_t last_ms; /* recorded time */
};

struct sim_watermark {
    int64_t ms; /* INT64_MIN: nothing seen */
    int64_t before_ms; /* as it stood before the bundle */
    int64_t time_max_ms;
    int64_t last_event_ms; /* recorded time */
    int64_t bundle_max_ms; /* of the bundle's events that may move it; INT64_MIN: none */
    struct sim_source sources[SIM_SOURCES];
};

void sim_watermark_init(struct sim_watermark *w);
void sim_watermark_begin_bundle(struct sim_watermark *w);
/* An event of the bundle that is well-formed. */
void sim_watermark_event(struct sim_watermark *w, const struct sim_stream *s, uint32_t source, int64_t ts_ms,
                         int64_t recorded_ms);
/* A producer says it; source SIM_SOURCES: of the whole stream. */
void sim_watermark_advance(struct sim_watermark *w, uint32_t source, int64_t to_ms, int64_t recorded_ms);
/* From here on one place for all. */
void sim_watermark_forget_sources(struct sim_watermark *w);
/* All streams, after the bundle's events: a silent one is idle, and one that has never spoken is like one that fell
 * silent when another of its rules' streams began. */
void sim_watermarks_end_bundle(struct sim_watermark *streams[SIM_STREAMS], const struct sim_settings *s,
                               int64_t recorded_ms);
