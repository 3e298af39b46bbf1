/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Windows: the questions of GET /v1/rules/{rule}/windows, /top and /stream, from parameters to a scan.
 *
 *     windows   ?from&to&key.<name>=v&metrics=a,b&order=window_start|-window_start|metric|-metric&limit&cursor
 *               &state=open|final|all&step=1h&format
 *     top       ?metric=a&n=10&from&to&key.<name>=v&metrics=a,b&step=1h&format
 *     stream    ?from=now|oldest&key.<name>=v&metrics=a,b&last_event_id
 *
 * Step        A multiple of the rule's windows, which are tumbling. The range is widened to whole steps, so that no row
 *             is a part of one that looks like all of it.
 * Owner       init/finish: the question borrows nothing but the rule; filters and cursor lie in it.
 * Threads     Pure: the present is passed in.
 * Errors      MR_INVALID (400), MR_NOT_FOUND (406), MR_NO_MEMORY; with a text that names the parameter, what stood
 *             there, what was expected.
 */
#include "aggregate/combine.h"
#include "server/accept.h"
#include "server/rows.h"

#define MR_WINDOWS_LIMIT     1000
#define MR_WINDOWS_LIMIT_MAX 10000
#define MR_TOP_N             10
#define MR_TOP_N_MAX         10000
#define MR_STEP_MAX_MS       (INT64_C(3660) * 86400000) /* ten years */

enum mr_question { MR_QUESTION_WINDOWS, MR_QUESTION_TOP, MR_QUESTION_STREAM };

struct mr_windows {
    enum mr_question kind;
    struct mr_params params;
    struct mr_scan scan; /* limit as asked; from INT64_MIN, to INT64_MAX: unbounded */
    struct mr_rows_view view;
    enum mr_answer answer;
    int64_t step_ms;     /* 0: none */
    uint32_t metric;     /* TOP */
    uint32_t n;          /* TOP */
    bool from_oldest;    /* STREAM; last_event_id is for its caller */
    uint64_t question;   /* for cursors */
    struct mr_buf after; /* scan.after_key, resume_key */
    bool resumed;        /* with a step, instead of scan.has_after: as of struct mr_roll_up */
    int64_t resume_step_ms;
    bool resume_has_key;
    struct mr_bytes resume_key;
};

/* *ret is to be finished also after an error. */
enum mr_status mr_windows_init(struct mr_windows *ret, const struct mr_rule *rule,
                               struct mr_bytes query, struct mr_bytes accept, int64_t now_ms,
                               struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_windows_init_top(struct mr_windows *ret, const struct mr_rule *rule, struct mr_bytes query,
                                   struct mr_bytes accept, int64_t now_ms, struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_windows_init_stream(struct mr_windows *ret, const struct mr_rule *rule, struct mr_bytes query,
                                      struct mr_error *error) MR_MUST_CHECK;
void mr_windows_finish(struct mr_windows *windows);

/* The range, with a step widened to whole ones. */
int64_t mr_windows_from(const struct mr_windows *windows);
int64_t mr_windows_to(const struct mr_windows *windows);

/* The cursor of what comes behind this row, appended to ret. Window order, no step. */
void mr_windows_cursor(const struct mr_windows *windows, int64_t window_start_ms,
                       struct mr_bytes key, struct mr_buf *ret);
/* The cursor of what comes behind this key in a step; key NULL: of the step. */
void mr_windows_step_cursor(const struct mr_windows *windows, int64_t step_start_ms, const struct mr_bytes *key,
                            struct mr_buf *ret);
