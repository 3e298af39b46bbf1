/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Report: what the operator reads: one line each on standard error, `key=value`, rate-limited.
 *
 *     ts=2026-11-22T05:54:00.123Z level=warn event=log_tail_cut bytes=512 segment="0000.log"
 *
 * Idea        Lower folders return errors; server/ and pipeline/ report each once, through here.
 * Shape       A line is at most 4096 bytes; a longer one ends in " ...". 128 events are told apart.
 * Threads     Any; a line is written with one write(). A lock is held for the counting, not the writing.
 * Errors      Values are escaped: control characters, quotes and bytes >= 0x80 that are not UTF-8 never
 *             reach the terminal raw. The same event more than 10 times in 10 s: the rest is counted and
 *             said in one line (suppressed=n), with the first report of any event after these 10 s.
 *             A write that fails is not repeated.
 */
#include "base/clock.h"
#include "base/status.h"

enum mr_level { MR_LEVEL_DEBUG, MR_LEVEL_INFO, MR_LEVEL_WARN, MR_LEVEL_ERROR };

/* Process-wide settings, made once in main before threads start; without it standard error, INFO and the
 * system's clock. fd -1: silent (tests). clock NULL: the system's. Forgets the counts. */
void mr_report_configure(int fd, enum mr_level least, struct mr_clock *clock);

/* event: a constant of [a-z0-9_], which lives for ever. format: `key=%d other=%s`; a %s value is
 * written with mr_report_value. No values: "%s", "". */
void mr_report(enum mr_level level, const char *event, const char *format, ...) MR_PRINTF(3, 4);

/* Says now what was suppressed and not said yet: at the end of main. */
void mr_report_flush(void);

/* Quotes and escapes a value for a report into ret, NUL included at most cap (>= 8) bytes; a longer one
 * ends in ..." and is not cut within a character or an escape. Returns ret. */
const char *mr_report_value(const char *text, char *ret, size_t cap);
