/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Ingest answer: verdicts to JSON.
 *
 *     {"received":3,"accepted":1,"duplicate":1,"late":0,"rejected":1,
 *      "errors":[{"index":2,"line":3,"code":"bad_time","pointer":"/time","detail":"…"}],"results":"ADR"}
 *
 * Shape       errors is always there, "errors_truncated":true only then, "results" when asked for. With
 *             log.sync: off, "durability":"page_cache" is added, for then a 200 promises less (L3).
 *             When every event was rejected the same members stand in a problem+json with status 400.
 * Owner       Borrows the batch.
 * Threads     Pure but for the response.
 * Errors      Out of memory: 503, for the caller must not read silence as success; a retry is safe.
 * Invariants  I1 received == accepted + duplicate + late + rejected.
 */
#include "event/batch.h"
#include "server/request.h"

struct mr_answer_options {
    bool results; /* one letter an event */
    bool observe; /* duplicates were counted, not removed: they show as accepted */
    bool synced;  /* the log syncs before it answers */
};

/* A decided batch (refusal NONE). batch NULL: an empty one. */
void mr_ingest_answer(const struct mr_batch *batch, const struct mr_answer_options *options,
                      struct mr_response *response);

/* A batch that the sequencer gave back, with Retry-After. refusal is not NONE. */
void mr_ingest_refused(enum mr_refusal refusal, struct mr_response *response);
