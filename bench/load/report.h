/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Report: what a person reads: the header, the line of each second, the table at the end; and the same as JSON.
 *
 * Owner       Borrows everything; appends to the caller's buffers.
 */
#include "bench/load/result.h"
#include "bench/load/slo.h"
#include "bench/load/verify.h"

struct mr_load_report {
    const struct mr_load_options *options;
    const struct mr_load_target *target;
    const char *stream;
    char version[64]; /* the server's */
    const struct mr_load_result *result;
    const struct mr_load_verify *verify; /* NULL: not asked for, or not possible */
    const struct mr_load_slo *slo;       /* NULL: none */
    const char *failure;                 /* NULL: the run came to its end */
    bool interrupted;
};

void mr_load_report_header(const struct mr_load_report *report, struct mr_buf *ret);
/* What was counted since the last call, which is kept in last; seconds: how long that is. */
void mr_load_report_second(double at_s, double seconds, bool warmup, const struct mr_load_tally *now,
                           struct mr_load_tally *last, struct mr_buf *ret);
void mr_load_report_table(const struct mr_load_report *report, struct mr_buf *ret);
void mr_load_report_json(const struct mr_load_report *report, struct mr_buf *ret);
