/* SPDX-License-Identifier: Apache-2.0 */
#include "server/top.h"

#include "aggregate/window.h"
#include "base/check.h"
#include "server/reply.h"
#include "server/routes.h"

struct rolling {
    struct mr_gather *gather;
    struct mr_envelope *envelope;
    bool refused; /* the response says why */
};

static enum mr_status read_slice(void *ctx, const struct mr_scan *scan, struct mr_merge_source **ret_sources,
                                 uint32_t *ret_count) {
    struct rolling *rolling = ctx;
    enum mr_status status = mr_gather_run(rolling->gather, scan);
    rolling->refused = status != MR_OK;
    *ret_sources = rolling->gather->sources;
    *ret_count = rolling->gather->source_count;
    return status;
}

static bool show_row(void *ctx, const struct mr_row *row, uint64_t windows) {
    struct rolling *rolling = ctx;
    return mr_envelope_row(rolling->envelope, row, windows);
}

/* The range of steps in the state that is asked for. */
static void choose_range(struct mr_roll_up *r, const struct mr_windows *w, int64_t watermark_ms) {
    r->scan = w->scan;
    r->scan.from_ms = mr_windows_from(w);
    r->scan.to_ms = mr_windows_to(w);
    if (w->step_ms == 0) {
        return;
    }
    r->open_from_ms = mr_roll_up_open_from(r->rule, w->step_ms, mr_window_final_end(r->rule, watermark_ms));
    if (w->scan.state == MR_SCAN_FINAL && r->open_from_ms < r->scan.to_ms) {
        r->scan.to_ms = r->open_from_ms;
    }
    if (w->scan.state == MR_SCAN_OPEN && r->open_from_ms > r->scan.from_ms) {
        r->scan.from_ms = r->open_from_ms;
    }
}

bool mr_top_roll_up(struct mr_gather *gather, struct mr_envelope *envelope, struct mr_roll_up *r) {
    struct rolling rolling = {gather, envelope, false};
    struct mr_error error;
    if (mr_gather_cut(gather) != MR_OK) {
        return false;
    }
    choose_range(r, envelope->question, gather->watermark_ms);
    r->read = read_slice;
    r->visit = show_row;
    r->ctx = &rolling;
    mr_envelope_begin(envelope, gather->watermark_ms, gather->recorded_ms);
    enum mr_status status = mr_roll_up_run(r, &error);
    if (status != MR_OK && !rolling.refused) {
        mr_reply_refuse(envelope->response, &error);
    }
    return status == MR_OK && mr_envelope_fits(envelope);
}

void mr_route_top(struct mr_request *request, struct mr_response *response) {
    MR_ASSERT(request->reader != NULL);
    uint32_t index = mr_reply_rule(request, response);
    if (index == UINT32_MAX) {
        return;
    }
    const struct mr_rule *rule = &request->server->plan->rules[index];
    struct mr_windows windows;
    struct mr_gather gather;
    struct mr_envelope envelope;
    struct mr_roll_up r;
    struct mr_error error;
    enum mr_status status = mr_windows_init_top(&windows, rule, request->query, request->accept,
                                                mr_clock_wall_ms(request->server->clock), &error);
    mr_gather_init(&gather, request, response, rule);
    mr_envelope_init(&envelope, request, response, &windows);
    mr_roll_up_init(&r, rule, windows.step_ms);
    r.by_metric = true;
    r.metric = windows.metric;
    r.each = windows.n;
    r.limit = MR_TOP_N_MAX;
    if (status != MR_OK) {
        mr_reply_refuse(response, &error);
    } else if (mr_top_roll_up(&gather, &envelope, &r)) {
        mr_envelope_end(&envelope, MR_BYTES(""), false);
    }
    mr_roll_up_finish(&r);
    mr_envelope_finish(&envelope);
    mr_gather_finish(&gather);
    mr_windows_finish(&windows);
}
