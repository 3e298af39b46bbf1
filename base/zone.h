/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Zone: a time zone's clock between 2000 and 2100, for windows of calendar days.
 *
 * Idea        The C library knows the zones; asked once, at the start, its answers become a table of when the clock
 *             was put on or back. Before the first and after the last entry the clock runs on as it is there.
 * Shape       A boundary is a local time (a day's beginning, with an offset); its instant is the first one at which
 *             the local clock shows it or more: where a midnight is left out (the clock is put on then), the day
 *             begins with the first instant after it.
 * Units       int64 ms UTC; local times in ms of the local clock since 1970-01-01T00:00.
 * Owner       Whoever opens it; constant and shared afterwards.
 * Threads     open: one thread only, and no other may use the environment (it asks under TZ). Else any.
 * Errors      open: MR_INVALID, the system's zone files have no such name (package tzdata); MR_NO_MEMORY.
 */
#include "base/bytes.h"
#include "base/status.h"

#include <stdbool.h>

#define MR_ZONE_NAME_MAX     64
#define MR_ZONE_SHIFT_MAX_MS INT64_C(172800000) /* no clock was put on or back further */

struct mr_zone;

/* Whether the system's zone files have it: then open does, as long as they stay. Any thread. */
bool mr_zone_is_known(struct mr_bytes name);
enum mr_status mr_zone_open(struct mr_bytes name, struct mr_zone **ret, struct mr_error *error) MR_MUST_CHECK;
void mr_zone_close(struct mr_zone *zone); /* NULL is fine */

/* The last boundary at or before time_ms; boundaries are at offset_ms + k * size_ms of the local clock. Saturates. */
int64_t mr_zone_floor(const struct mr_zone *zone, int64_t time_ms, int64_t size_ms, int64_t offset_ms);
/* The first boundary after time_ms. */
int64_t mr_zone_next(const struct mr_zone *zone, int64_t time_ms, int64_t size_ms, int64_t offset_ms);
