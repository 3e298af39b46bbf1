/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Window: assigns event times to tumbling windows and tells what the watermark does to them.
 *
 *                 closed and final │  closed, late data welcome   │ open
 *            ──────────────────────┼──────────────────────────────┼────────────────────▶ event time
 *                                  │◀──── allowed_lateness ──────▶│
 *                                                                 ^ watermark
 *
 *             A window [start, end) closes (fires ON_TIME) once watermark >= end, and is final (its
 *             state is dropped) once watermark >= end + allowed_lateness. An event is late for a
 *             rule when its window is final. A window ending at or before the rule's final_floor_ms
 *             is closed and final whatever the watermark.
 * Units       int64 ms. All arithmetic saturates: a watermark may be INT64_MIN (nothing seen) or
 *             INT64_MAX (end of bounded input).
 */
#include "aggregate/rule.h"

/* Floor, also for negative times. */
int64_t mr_window_start(const struct mr_rule *rule, int64_t time_ms);
int64_t mr_window_end(const struct mr_rule *rule, int64_t start_ms);
bool mr_window_closed(const struct mr_rule *rule, int64_t start_ms, int64_t watermark_ms);
bool mr_window_final(const struct mr_rule *rule, int64_t start_ms, int64_t watermark_ms);
/* The greatest end of a final window at this watermark: everything ending at or before is final.
 * INT64_MIN: none. */
int64_t mr_window_final_end(const struct mr_rule *rule, int64_t watermark_ms);
/* The least watermark above watermark_ms at which a window holding a time <= time_max_ms closes or
 * becomes final; INT64_MAX when none does. For ticks: is anything due? */
int64_t mr_window_next_due(const struct mr_rule *rule, int64_t watermark_ms, int64_t time_max_ms);
