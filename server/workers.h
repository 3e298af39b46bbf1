/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Workers: a few threads for what may wait: queries that read files, the results store, or ask the pipeline.
 *
 * Idea        The http threads never wait; a query's connection is suspended while a worker has it. Each worker
 *             has a results reader of its own, as the store asks for.
 * Owner       A pushed job is the workers' until its run is called, which may free it.
 * Threads     push: any. run is called on a worker's thread.
 * Errors      push: false when MR_WORKERS_QUEUE jobs wait already, or while closing: the job is still the
 *             caller's.
 * Invariants  I1 what was pushed is run, also by close.
 */
#include "sink/results.h"

#define MR_WORKERS_QUEUE 64

struct mr_workers;

struct mr_worker_job {
    void (*run)(struct mr_worker_job *job, struct mr_results_reader *reader);
    struct mr_worker_job *next;
};

/* threads >= 1. On MR_IO and others of reader_open nothing is left running. */
enum mr_status mr_workers_open(struct mr_results *results, uint32_t threads,
                               struct mr_workers **ret) MR_MUST_CHECK;
bool mr_workers_push(struct mr_workers *workers, struct mr_worker_job *job) MR_MUST_CHECK;
/* Runs what is queued, then ends. NULL is fine. */
void mr_workers_close(struct mr_workers *workers);
