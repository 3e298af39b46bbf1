/* SPDX-License-Identifier: Apache-2.0 */
#include "server/workers.h"

#include "base/alloc.h"
#include "base/check.h"

#include <pthread.h>

struct worker {
    struct mr_workers *workers;
    struct mr_results_reader *reader;
    pthread_t thread;
    bool running;
};

/* Queries are few and each costs far more than a lock, so a mutex and a list do. */
struct mr_workers {
    pthread_mutex_t lock; /* guards the four below */
    pthread_cond_t more;
    struct mr_worker_job *first;
    struct mr_worker_job *last;
    uint32_t queued;
    bool closing;
    uint32_t count;
    struct worker worker[];
};

static struct mr_worker_job *pop(struct mr_workers *workers) {
    pthread_mutex_lock(&workers->lock);
    while (workers->first == NULL && !workers->closing) {
        pthread_cond_wait(&workers->more, &workers->lock);
    }
    struct mr_worker_job *job = workers->first;
    if (job != NULL) {
        MR_ASSERT(workers->queued > 0);
        workers->first = job->next;
        workers->last = workers->first == NULL ? NULL : workers->last;
        workers->queued--;
        job->next = NULL;
    }
    pthread_mutex_unlock(&workers->lock);
    return job;
}

static void *work(void *arg) {
    struct worker *worker = arg;
    for (;;) {
        struct mr_worker_job *job = pop(worker->workers);
        if (job == NULL) {
            return NULL;
        }
        job->run(job, worker->reader);
    }
}

static enum mr_status start(struct mr_results *results, struct worker *worker) {
    enum mr_status status = mr_results_reader_open(results, &worker->reader);
    if (status != MR_OK) {
        return status;
    }
    if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
        return MR_NO_MEMORY; /* close gives the reader back */
    }
    worker->running = true;
    return MR_OK;
}

enum mr_status mr_workers_open(struct mr_results *results, uint32_t threads,
                               struct mr_workers **ret) {
    MR_ASSERT(threads >= 1 && results != NULL);
    struct mr_workers *workers =
        mr_alloc_zero(1, sizeof *workers + threads * sizeof workers->worker[0]);
    if (workers == NULL) {
        return MR_NO_MEMORY;
    }
    int failed = pthread_mutex_init(&workers->lock, NULL) | pthread_cond_init(&workers->more, NULL);
    MR_ASSERT(failed == 0);
    for (uint32_t i = 0; i < threads; i++) {
        struct worker *worker = &workers->worker[i];
        worker->workers = workers;
        workers->count++;
        enum mr_status status = start(results, worker);
        if (status != MR_OK) {
            mr_workers_close(workers);
            return status;
        }
    }
    *ret = workers;
    return MR_OK;
}

bool mr_workers_push(struct mr_workers *workers, struct mr_worker_job *job) {
    MR_ASSERT(job->run != NULL);
    pthread_mutex_lock(&workers->lock);
    bool taken = !workers->closing && workers->queued < MR_WORKERS_QUEUE;
    if (taken) {
        job->next = NULL;
        if (workers->last != NULL) {
            workers->last->next = job;
        } else {
            workers->first = job;
        }
        workers->last = job;
        workers->queued++;
        pthread_cond_signal(&workers->more);
    }
    pthread_mutex_unlock(&workers->lock);
    return taken;
}

void mr_workers_close(struct mr_workers *workers) {
    if (workers == NULL) {
        return;
    }
    pthread_mutex_lock(&workers->lock);
    workers->closing = true;
    pthread_cond_broadcast(&workers->more);
    pthread_mutex_unlock(&workers->lock);
    for (uint32_t i = 0; i < workers->count; i++) {
        if (workers->worker[i].running) {
            int failed = pthread_join(workers->worker[i].thread, NULL);
            MR_ASSERT(failed == 0);
        }
        if (workers->worker[i].reader != NULL) {
            mr_results_reader_close(workers->worker[i].reader);
        }
    }
    MR_ASSERT(workers->first == NULL && workers->queued == 0);
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->more);
    mr_free(workers);
}
