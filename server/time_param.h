/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Time parameters: what a person or a program writes for a point in time in a query.
 *
 *     2026-11-22T05:54:00Z   2026-11-22T06:54:00.5+01:00   RFC 3339, cut to milliseconds
 *     2026-11-22                                           midnight UTC
 *     1795326840000                                        milliseconds since the Unix epoch
 *     now   now-1h   now-1h30m   now+5m                    relative to the server's clock
 *
 * Units       ms since the epoch, of years 0 to 9999, so that every time can be written out again.
 * Threads     Pure: the present is passed in.
 * Errors      MR_INVALID with a text that says what is expected; *ret_ms unchanged.
 */
#include "base/time_text.h"

/* name stands in the message. A '+' that arrives as a space, because nobody escaped it, is read as '+'. */
enum mr_status mr_time_param(const char *name, struct mr_bytes text, int64_t now_ms,
                             int64_t *ret_ms, struct mr_error *error) MR_MUST_CHECK;
