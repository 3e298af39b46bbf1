/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Time text: RFC 3339 to milliseconds since the epoch and back, by integer arithmetic alone (no libc
 * time zone, no locale).
 *
 * Units       int64 milliseconds UTC; fractions finer than a millisecond are cut downwards (floor).
 * Errors      false: not RFC 3339, or a day or hour that does not exist; *ret unchanged. A leap second
 *             (:60) is read as the last millisecond before the next minute. Lower case t and z, and a
 *             space instead of T, are allowed, as RFC 3339 section 5.6 permits; an offset is needed.
 * Sources     Days from civil: Howard Hinnant, chrono-Compatible Low-Level Date Algorithms.
 */
#include "base/bytes.h"

#define MR_TIME_TEXT_LEN 24 /* 2026-11-22T05:54:00.123Z */

#define MR_TIME_YEAR_0_MS     INT64_C(-62167219200000) /* 0000-01-01T00:00:00Z, the first with a text */
#define MR_TIME_YEAR_10000_MS INT64_C(253402300800000) /* the first without one any more */

/* Whether RFC 3339 has a year for it: mr_time_format asks for no other. */
static inline bool mr_time_has_text(int64_t ms) {
    return ms >= MR_TIME_YEAR_0_MS && ms < MR_TIME_YEAR_10000_MS;
}

bool mr_time_parse(struct mr_bytes text, int64_t *ret_ms);
/* Writes MR_TIME_TEXT_LEN characters and a NUL for years 0 to 9999 (asserted). */
void mr_time_format(int64_t ms, char ret[MR_TIME_TEXT_LEN + 1]);
/* A duration such as 10s, 5m, 24h, 7d, 200ms; also a sum such as 1h30m, larger units first and each
 * unit once. Whole, not negative; a bare number is refused. */
bool mr_duration_parse(struct mr_bytes text, int64_t *ret_ms);
