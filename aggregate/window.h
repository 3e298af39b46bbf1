/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Window: assigns event times to windows and tells what the watermark does to them.
 *
 *                 closed and final │  closed, late data welcome   │ open
 *            ──────────────────────┼──────────────────────────────┼────────────────────▶ event time
 *                                  │◀──── allowed_lateness ──────▶│
 *                                                                 ^ watermark
 *
 *             A window [start, end) closes (fires ON_TIME) once watermark >= end, and is final (its
 *             state is dropped) once watermark >= end + allowed_lateness. An event is late for a
 *             rule when all of its windows are final. A window ending at or before the rule's
 *             final_floor_ms is closed and final whatever the watermark.
 *
 *             TUMBLING   |    |    |    |      every time is in one window
 *             SLIDING    |─────────|           a time is in size / every windows; times of one slice, of slice_ms,
 *                          |─────────|         are in the same ones
 *                            |─────────|
 *             CALENDAR   |   |    |   |        whole days of a time zone: a day may have 23 or 25 hours
 *             GLOBAL     |───────────────|     all times that are accepted
 *             SESSION    |──|   |────|         made of the events: here, an event at t alone is [t, t + gap)
 *
 * Units       int64 ms. All arithmetic saturates: a watermark may be INT64_MIN (nothing seen) or
 *             INT64_MAX (end of bounded input).
 */
#include "aggregate/rule.h"

/* The span of times around time_ms that are in the same windows: of all kinds but sliding the window itself. Not SESSION. */
void mr_window_slice(const struct mr_rule *rule, int64_t time_ms, int64_t *ret_start_ms, int64_t *ret_end_ms);
/* The start of the latest window that holds a time. Not SESSION. */
int64_t mr_window_start(const struct mr_rule *rule, int64_t time_ms);
/* The end of the window that begins at start_ms; start_ms may be any time in it but for SLIDING. SESSION: of one event. */
int64_t mr_window_end(const struct mr_rule *rule, int64_t start_ms);
/* The start of the first window that ends after time_ms. Not SESSION. */
int64_t mr_window_first_after(const struct mr_rule *rule, int64_t time_ms);

/* The start of the first window that is not closed at this watermark: all before it are. SLIDING. */
int64_t mr_window_first_open(const struct mr_rule *rule, int64_t watermark_ms);
bool mr_window_closed(const struct mr_rule *rule, int64_t start_ms, int64_t watermark_ms);
bool mr_window_final(const struct mr_rule *rule, int64_t start_ms, int64_t watermark_ms);
/* Everything ending at or before it is final at this watermark; but for SESSION it is the end of a window itself.
 * INT64_MIN: nothing is. */
int64_t mr_window_final_end(const struct mr_rule *rule, int64_t watermark_ms);
/* Events before it are late at this watermark, those from it on are not. */
int64_t mr_window_late_before(const struct mr_rule *rule, int64_t watermark_ms);
/* The least watermark above watermark_ms at which a window holding a time <= time_max_ms closes or
 * becomes final; INT64_MAX when none does. For ticks: is anything due? SESSION: at which one may. */
int64_t mr_window_next_due(const struct mr_rule *rule, int64_t watermark_ms, int64_t time_max_ms);
/* No event further behind the watermark than this is taken. */
int64_t mr_window_reach_ms(const struct mr_rule *rule);
