/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Gather: what all sources have for one scan, at one cut: every shard's open windows, and the results store.
 *
 * Idea        Who is asked for what. A window leaves a shard's memory only after the store has all of its rows with
 *             final set, and a final row never changes again. So at a cut with watermark w
 *
 *                 final at w, in the store with final = 1   │  every other window
 *                 the store has them; memory may, too       │  memory has them, whole; the store lags behind
 *
 *             and of the store only final rows of windows final at w are read: what memory has is never displaced by
 *             an older version, and the answer is as of the cut, although the store is read a little later.
 *
 *             Where each pane is a row of its own (panes: discarding) a pane leaves memory when it is fired, and never
 *             changes again: memory has what has come since, the store all panes fired up to the cut, once the flusher
 *             has written them; it is asked to before the store is read, and panes of later bundles are passed over.
 * Owner       init/finish: the caller's struct. Sources are valid until the next gather.
 * Threads     A query worker's: it waits for the pipeline.
 * Errors      The response says why: 503 with Retry-After, or 500 for a damaged store.
 */
#include "server/merge.h"
#include "server/request.h"

struct mr_gather {
    const struct mr_request *request;
    struct mr_response *response;
    const struct mr_rule *rule;
    struct mr_merge_source sources[MR_MERGE_SOURCES_MAX];
    uint32_t source_count;
    struct mr_buf shards[MR_SHARDS_MAX];
    uint32_t shard_count;
    struct mr_buf store;
    int64_t watermark_ms; /* of the rule, at the cut */
    uint64_t seq;         /* the cut: everything up to this bundle */
    int64_t recorded_ms;  /* wall time at the cut */
};

void mr_gather_init(struct mr_gather *ret, const struct mr_request *request, struct mr_response *response,
                    const struct mr_rule *rule);
/* The first scan->limit rows of each source. MR_OK, or the response is a problem now. */
enum mr_status mr_gather_run(struct mr_gather *gather, const struct mr_scan *scan) MR_MUST_CHECK;
/* The cut alone: watermark_ms and recorded_ms. */
enum mr_status mr_gather_cut(struct mr_gather *gather) MR_MUST_CHECK;
void mr_gather_clear(struct mr_gather *gather); /* frees the rows */
void mr_gather_finish(struct mr_gather *gather);
