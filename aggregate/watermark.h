/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Watermark: the event time before which we believe we have seen everything of a stream.
 *
 * Idea        watermark = greatest event time - out_of_orderness. A stream that is silent for
 *             idle_timeout of recorded time is idle; then the watermark follows recorded time -
 *             out_of_orderness, so that the last windows close. A function of the log alone: only
 *             recorded times are used.
 * Owner       The sequencer (live and in replay).
 * Invariants  I1 watermark_ms never decreases.  I2 an event further ahead than max_future never
 *             moves it.
 */
#include <stdbool.h>
#include <stdint.h>

struct mr_watermark_options {
    int64_t out_of_orderness_ms;
    int64_t idle_timeout_ms; /* INT64_MAX: never idle */
    int64_t max_future_ms;
    bool bounded; /* bounded input: stays at INT64_MIN until mr_watermark_end */
};

struct mr_watermark {
    int64_t watermark_ms;           /* INT64_MIN: nothing seen */
    int64_t time_max_ms;            /* greatest event time within max_future; INT64_MIN: none */
    int64_t last_event_recorded_ms; /* INT64_MIN: none */
};

void mr_watermark_init(struct mr_watermark *w);

/* The greatest event time that may count at this recorded time (saturating). */
int64_t mr_watermark_limit(const struct mr_watermark_options *o, int64_t recorded_ms);

/* After a bundle: time_max_ms is the greatest event time <= mr_watermark_limit among the
 * well-formed events of the bundle (INT64_MIN: none of them). */
void mr_watermark_observe(struct mr_watermark *w, const struct mr_watermark_options *o,
                          int64_t time_max_ms, int64_t recorded_ms);
/* After every bundle, also one without events of this stream: idleness. */
void mr_watermark_tick(struct mr_watermark *w, const struct mr_watermark_options *o,
                       int64_t recorded_ms);
/* Where the watermark would stand at this recorded time. Reads only. */
int64_t mr_watermark_at(const struct mr_watermark *w, const struct mr_watermark_options *o,
                        int64_t recorded_ms);
/* The end of bounded input: INT64_MAX. */
void mr_watermark_end(struct mr_watermark *w);
