/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Windows: the question of GET /v1/rules/{rule}/windows, from parameters to a scan.
 *
 *     ?from&to&key.<name>=v&metrics=a,b&order=window_start|-window_start|metric|-metric&limit&cursor&state&format
 *
 * Owner       init/finish: the question borrows nothing but the rule; filters and cursor lie in it.
 * Threads     Pure: the present is passed in.
 * Errors      MR_INVALID (400), MR_UNSUPPORTED (501), MR_NOT_FOUND (406), MR_NO_MEMORY; with a text that names the
 *             parameter, what stood there, what was expected.
 */
#include "aggregate/combine.h"
#include "server/accept.h"
#include "server/rows.h"

#define MR_WINDOWS_LIMIT     1000
#define MR_WINDOWS_LIMIT_MAX 10000

struct mr_windows {
    struct mr_params params;
    struct mr_scan scan; /* limit as asked; from INT64_MIN, to INT64_MAX: unbounded */
    struct mr_rows_view view;
    enum mr_answer answer;
    uint64_t question;   /* for cursors */
    struct mr_buf after; /* scan.after_key */
};

/* *ret is to be finished also after an error. */
enum mr_status mr_windows_init(struct mr_windows *ret, const struct mr_rule *rule,
                               struct mr_bytes query, struct mr_bytes accept, int64_t now_ms,
                               struct mr_error *error) MR_MUST_CHECK;
void mr_windows_finish(struct mr_windows *windows);

/* The cursor of what comes behind this row, appended to ret. Window order only. */
void mr_windows_cursor(const struct mr_windows *windows, int64_t window_start_ms,
                       struct mr_bytes key, struct mr_buf *ret);
