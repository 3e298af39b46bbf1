/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Envelope: the answer to a question about a rule's rows, in the format that was asked for.
 *
 *     {"rule":"views","from":"…","to":null,"watermark":"…","complete_until":"…","freshness_ms":1042,
 *      "rows":[…],"next_cursor":null}
 *
 * Members     from, to      the range of window starts, [from, to); null: unbounded. With a step: widened to whole ones.
 *             step_ms       only with one.
 *             metric        only of top.
 *             watermark     of the rule at the cut; null: nothing was seen.
 *             complete_until  every window that ends at or before it is final; null: none is.
 *             freshness_ms  wall clock at the cut minus the watermark, as millrace_data_freshness_seconds; null without
 *                           one.
 *             rows          with format=columns t_unit, t and series instead.
 *             truncated     only in the order of a metric: there are more rows, and no page behind this one.
 *             next_cursor   null: there is no more. NDJSON and CSV have it as header X-Next-Cursor.
 * Owner       init/finish.
 * Errors      The response is a problem.
 */
#include "server/columns.h"
#include "server/request.h"
#include "server/windows.h"

struct mr_envelope {
    const struct mr_request *request;
    struct mr_response *response;
    const struct mr_windows *question;
    struct mr_rows_view view;
    struct mr_local locals[MR_RULE_INPUTS_MAX];
    struct mr_json json;
    struct mr_columns columns;
};

void mr_envelope_init(struct mr_envelope *ret, const struct mr_request *request, struct mr_response *response,
                      const struct mr_windows *question);
void mr_envelope_begin(struct mr_envelope *envelope, int64_t watermark_ms, int64_t recorded_ms);
/* windows: how many the row was made of; of interest with a step. false: the answer cannot become whole
 * (mr_envelope_fits says so). */
bool mr_envelope_row(struct mr_envelope *envelope, const struct mr_row *row, uint64_t windows) MR_MUST_CHECK;
/* Whether the answer is whole so far and within its bounds; else the response is a problem now. */
bool mr_envelope_fits(struct mr_envelope *envelope);
/* cursor: empty when there is no more. truncated: rows are left that no cursor leads to. The response is the answer
 * now, or a problem. */
void mr_envelope_end(struct mr_envelope *envelope, struct mr_bytes cursor, bool truncated);
void mr_envelope_finish(struct mr_envelope *envelope);
