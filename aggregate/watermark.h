/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Watermark: the event time before which we believe we have seen everything of a stream.
 *
 * Idea        watermark = greatest event time - out_of_orderness. A stream that is silent for
 *             idle_timeout of recorded time is idle; then the watermark follows recorded time -
 *             out_of_orderness, so that the last windows close. A function of the log alone: only
 *             recorded times are used.
 * Sources     Where a stream tells its events' sources apart, each has a place of its own, and the stream is where the
 *             last of those is that are not silent. A source that is seen for the first time may be behind the stream:
 *             its older events are late. Over MR_SOURCES_MAX the one that was silent the longest gives way; while all
 *             of them speak, new ones share one place, without a name.
 * Advance     A producer that knows may say that nothing older will come, of the stream or of one source: then the place
 *             is at least there.
 * Owner       The sequencer (live and in replay).
 * Errors      MR_NO_MEMORY from observe_source, advance, load: nothing has changed.
 * Cost        observe_source: a hash and a probe; O(sources) for a new one. tick, at: O(sources).
 * Invariants  I1 watermark_ms never decreases.  I2 an event further ahead than max_future never
 *             moves it.
 */
#include "base/bytes.h"
#include "base/pack.h"
#include "base/status.h"

#define MR_SOURCES_MAX     1024 /* of a stream */
#define MR_SOURCE_NAME_MAX 64   /* bytes that are kept of a name, for people; the whole name tells sources apart */

struct mr_watermark_options {
    int64_t out_of_orderness_ms;
    int64_t idle_timeout_ms; /* INT64_MAX: never idle */
    int64_t max_future_ms;
    bool bounded; /* bounded input: stays at INT64_MIN until mr_watermark_end */
};

struct mr_source {
    uint64_t hash; /* of its name */
    int64_t time_max_ms;
    int64_t last_event_recorded_ms;
    int64_t advanced_ms; /* INT64_MIN: it was not */
    uint8_t name_len;
    char name[MR_SOURCE_NAME_MAX];
};

struct mr_watermark {
    int64_t watermark_ms;           /* INT64_MIN: nothing seen */
    int64_t time_max_ms;            /* greatest event time within max_future; INT64_MIN: none */
    int64_t last_event_recorded_ms; /* INT64_MIN: none */
    struct mr_source *sources;      /* NULL: one place for all */
    uint32_t source_count;
    uint16_t *slots; /* open addressing: number of a source + 1; 0: empty */
};

void mr_watermark_init(struct mr_watermark *w);
void mr_watermark_finish(struct mr_watermark *w); /* fine again */

/* The greatest event time that may count at this recorded time (saturating). */
int64_t mr_watermark_limit(const struct mr_watermark_options *o, int64_t recorded_ms);

/* After a bundle: time_max_ms is the greatest event time <= mr_watermark_limit among the
 * well-formed events of the bundle (INT64_MIN: none of them). */
void mr_watermark_observe(struct mr_watermark *w, const struct mr_watermark_options *o,
                          int64_t time_max_ms, int64_t recorded_ms);
/* One event of the bundle, before mr_watermark_observe is told of all of them: from here on the sources decide. */
enum mr_status mr_watermark_observe_source(struct mr_watermark *w, struct mr_bytes source, int64_t time_ms,
                                           int64_t recorded_ms) MR_MUST_CHECK;
/* Nothing older than time_ms will come: of the source, or of the whole stream if source.ptr is NULL. */
enum mr_status mr_watermark_advance(struct mr_watermark *w, struct mr_bytes source, int64_t time_ms,
                                    int64_t recorded_ms) MR_MUST_CHECK;
/* The source that holds the stream back; NULL: there is none, or all are silent. */
const struct mr_source *mr_watermark_slowest(const struct mr_watermark *w, const struct mr_watermark_options *o,
                                             int64_t recorded_ms);

void mr_watermark_save(const struct mr_watermark *w, struct mr_buf *ret);
/* Into one just initialised. false: malformed (u->failed), or out of memory. */
bool mr_watermark_load(struct mr_watermark *w, struct mr_unpack *u);

/* After every bundle, also one without events of this stream: idleness. */
void mr_watermark_tick(struct mr_watermark *w, const struct mr_watermark_options *o,
                       int64_t recorded_ms);
/* Where the watermark would stand at this recorded time. Reads only. */
int64_t mr_watermark_at(const struct mr_watermark *w, const struct mr_watermark_options *o,
                        int64_t recorded_ms);
/* The end of bounded input: INT64_MAX. */
void mr_watermark_end(struct mr_watermark *w);
