/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Run: sends the requests, each when it is due, over connections shared by few threads, until the time is over and every
 * request that was begun is answered.
 *
 * Idea        Request k is due at t0 + k * interval, whatever the server does, and its latency counts from then. Numbers
 *             are taken one by one under a lock, so that the requests sent are 0 to n-1 without a gap, and the verifier
 *             needs no list of them. With rate max a number is due when it is taken.
 *
 *                 taken, built ──▶ due ──▶ a free connection ──▶ sent ──▶ answered ──▶ tally
 *                                  │<---------------- latency ----------->│
 *                                                        │<-- service --->│
 * Owner       The caller owns the struct and what it points to. open, start, wait, close; close alone is fine.
 * Threads     start makes option `threads` threads; the others belong to the caller's.
 * Errors      A server that cannot be used (unknown stream, no right, gone for longer than the timeout) ends the run:
 *             wait tells it, and what was measured stays.
 * Invariants  I1 The numbers taken are 0 to next - 1, and each is answered unless the run failed.
 */
#include "bench/load/body.h"
#include "bench/load/options.h"
#include "bench/load/tally.h"

#include <pthread.h>

struct mr_load_sender;

struct mr_load_run {
    /* Constant after open. */
    const struct mr_load_options *options;
    struct mr_load_maker maker; /* as each thread's begins */
    struct mr_load_plan *plan;  /* NULL for a file; bases are written under the lock */
    uint64_t requests_max;
    double interval_ns; /* 0: max */
    uint64_t began_ns;  /* of the schedule */
    int64_t began_wall_ms;
    uint64_t measure_ns; /* measured from here on */
    uint64_t end_ns;     /* nothing is due from here on */

    /* Guarded by lock. */
    pthread_mutex_t lock;
    uint64_t next;
    int64_t newest_ms;  /* greatest base sent */
    int64_t behind_ms;  /* the most that an answered request's base was behind the newest sent */
    uint64_t last_answer_ns;
    struct mr_error error;
    bool failed;

    /* Shared. */
    _Atomic bool stop;
    _Atomic uint32_t running; /* threads */

    struct mr_load_sender *senders;
    uint32_t sender_count;
};

/* maker: complete but for its buffers. */
enum mr_status mr_load_run_open(struct mr_load_run *run, const struct mr_load_options *options,
                                const struct mr_load_maker *maker,
                                struct mr_load_plan *plan) MR_MUST_CHECK;
/* Connects, then starts. The first request is due now, or the plan's live bases count from now. */
enum mr_status mr_load_run_start(struct mr_load_run *run, struct mr_error *error) MR_MUST_CHECK;
bool mr_load_run_is_over(const struct mr_load_run *run);
/* Ends taking new requests; those begun are still answered. */
void mr_load_run_stop(struct mr_load_run *run);
/* Waits for the threads. */
enum mr_status mr_load_run_wait(struct mr_load_run *run, struct mr_error *error) MR_MUST_CHECK;
void mr_load_run_close(struct mr_load_run *run);

/* Adds up what all threads counted: of the measured part, or of all of it. */
void mr_load_run_tally(const struct mr_load_run *run, bool measured, struct mr_load_tally *ret);

/* For senders. */

/* The next request: its number and when it is due (which may be later). MR_END: no more. */
enum mr_status mr_load_run_take(struct mr_load_run *run, uint64_t now_ns, uint64_t *ret_request,
                                uint64_t *ret_due_ns) MR_MUST_CHECK;
/* A request about base_ms is sent for the first time; is answered with verdicts. */
void mr_load_run_sent(struct mr_load_run *run, int64_t base_ms);
void mr_load_run_answered(struct mr_load_run *run, int64_t base_ms, uint64_t now_ns);
/* Ends the run for all; the first error is kept. */
void mr_load_run_fail(struct mr_load_run *run, const struct mr_error *error);
