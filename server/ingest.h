/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Ingest: POST …/events: from a body to a decided batch. Knows neither sockets nor libmicrohttpd.
 *
 * Idea        The http thread does all that one thread can do for a request: check, read into one buffer,
 *             inflate, decode; then the batch is the pipeline's, and its done callback wakes the connection.
 *
 *      begin ──▶ body … body ──▶ end ──ready──▶ submit ⋯⋯ is_done? ⋯⋯ is_done? ──yes──▶ answer
 *        │         │             │                │              └ nothing else to do: [suspend] rest ⋯⋯ wake ──▶ answer
 *        │         │             │                └ queue full: 503
 *        └─────────┴─────────────┴──▶ the response is filled: refused, or an empty batch
 *
 * Owner       The call lives in its connection and is reused; its ticket outlives it if need be (below).
 * Threads     A call: its http thread, but from rest to wake nobody touches it. The done callback runs on
 *             a pipeline thread and touches the ticket, and calls wake if the call rests.
 * Errors      Each refusal fills the response: API.md, section Ingest. Nothing of a refused request is kept.
 * Invariants  I1 charged is what this call holds of the admission; 0 after finish.
 *             I2 A ticket is the pipeline's from submit to done; whoever moves it out of WATCHED or WAITING (done: to
 *             DONE, forget, abandon: to ABANDONED) decides who frees batch and ticket: the call after DONE, the done
 *             callback after ABANDONED.
 *
 *                 FREE ──submit──▶ WATCHED ──rest──▶ WAITING ──done (wakes)──▶ DONE ──answer──▶ FREE
 *                                    │ └─────────────done───────────────────▶ DONE
 *                                    │                 └─abandon─▶ ABANDONED (no longer the call's)
 *                                    └───────────────────forget──▶ ABANDONED
 *
 *             I3 call->ticket is constant from init to finish, so that the thread that abandons may read it; that thread
 *             writes abandoned before it resumes the connection, and the call's own thread does in forget, which comes
 *             when nobody else sees the call any more.
 */
#include "base/codec.h"
#include "event/batch.h"
#include "server/admission.h"
#include "server/guard.h"
#include "server/media.h"

struct mr_ingest; /* what calls share: a pool of decoders and codecs */
struct mr_ticket;

struct mr_ingest_call {
    struct mr_ingest *ingest;
    struct mr_request *request;
    struct mr_response *response;
    void (*wake)(void *ctx); /* called from any thread once the call may be answered */
    void *ctx;

    uint32_t stream;
    bool results;
    bool binary; /* CloudEvents binary mode */
    struct mr_media media;
    enum mr_encoding encoding;
    struct mr_buf body;
    uint64_t charged;
    struct mr_batch *batch; /* between end and submit, and after done */
    struct mr_ticket *ticket;
    bool abandoned; /* the ticket is on_done's; this call is the last of its connection */
};

/* threads: how many decode at once; each has a decoder. */
enum mr_status mr_ingest_open(struct mr_server *server, struct mr_admission *admission,
                              uint32_t threads, struct mr_ingest **ret) MR_MUST_CHECK;
/* NULL is fine. */
void mr_ingest_close(struct mr_ingest *ingest);

/* Once for each connection. MR_NO_MEMORY: finish is fine all the same. */
enum mr_status mr_ingest_call_init(struct mr_ingest_call *call, struct mr_ingest *ingest,
                                   struct mr_request *request, struct mr_response *response,
                                   void (*wake)(void *ctx), void *ctx) MR_MUST_CHECK;
void mr_ingest_call_finish(struct mr_ingest_call *call);

/* Before the body. false: refused, the response is filled. */
bool mr_ingest_begin(struct mr_ingest_call *call, const struct mr_guard_facts *facts) MR_MUST_CHECK;
/* A piece of the body. false: refused. */
bool mr_ingest_body(struct mr_ingest_call *call, struct mr_bytes piece) MR_MUST_CHECK;
/* After the body. true: there is a batch to submit. false: the response is filled. */
bool mr_ingest_end(struct mr_ingest_call *call) MR_MUST_CHECK;
/* Hands the batch over. false: the queue is full, the response is filled. */
bool mr_ingest_submit(struct mr_ingest_call *call) MR_MUST_CHECK;
/* After submit. true: mr_ingest_done may be called. */
bool mr_ingest_is_done(const struct mr_ingest_call *call);
/* After submit, with the connection suspended: from now on wake may be called. false: the batch is done already, and
 * wake will not be called. */
bool mr_ingest_rest(struct mr_ingest_call *call) MR_MUST_CHECK;
/* When it is done, or after abandon. Fills the response. */
void mr_ingest_done(struct mr_ingest_call *call);
/* One thread, at any time between init and finish: gives up waiting. true: the call was resting; wake will not be
 * called, and the caller resumes the connection, where mr_ingest_done answers 503. */
bool mr_ingest_abandon(struct mr_ingest_call *call);
/* The connection ends while the call neither rests nor is done, and no other thread sees it any more: mr_ingest_done
 * may be called. */
void mr_ingest_forget(struct mr_ingest_call *call);
/* Frees what the request held; the call is ready for another. */
void mr_ingest_reset(struct mr_ingest_call *call);
