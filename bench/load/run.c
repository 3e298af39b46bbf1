/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/run.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "bench/load/sender.h"

enum mr_status mr_load_run_open(struct mr_load_run *run, const struct mr_load_options *options,
                                const struct mr_load_maker *maker, struct mr_load_plan *plan) {
    MR_ASSERT((plan == NULL) == (maker->lines != NULL));
    *run = (struct mr_load_run){.options = options, .maker = *maker, .plan = plan};
    run->requests_max = MR_LOAD_BASES_MAX;
    if (maker->lines != NULL && options->loop > 0) {
        run->requests_max = maker->lines->batches * options->loop;
    }
    if (options->events > 0) {
        uint64_t wanted = (options->events + options->batch - 1) / options->batch;
        run->requests_max = wanted < run->requests_max ? wanted : run->requests_max;
    }
    run->interval_ns = options->rate > 0 ? options->batch / options->rate * 1e9 : 0;
    if (pthread_mutex_init(&run->lock, NULL) != 0) {
        return MR_NO_MEMORY;
    }
    run->senders = mr_alloc_zero(options->threads, sizeof *run->senders);
    if (run->senders == NULL) {
        return MR_NO_MEMORY;
    }
    uint32_t connections = options->connections;
    for (uint32_t i = 0; i < options->threads; i++) {
        uint32_t share = (connections + options->threads - i - 1) / (options->threads - i);
        enum mr_status status = mr_load_sender_open(&run->senders[i], run, share);
        run->sender_count++; /* close accepts a half-built one */
        if (status != MR_OK) {
            return status;
        }
        connections -= share;
    }
    return MR_OK;
}

enum mr_status mr_load_run_start(struct mr_load_run *run, struct mr_error *error) {
    for (uint32_t i = 0; i < run->sender_count; i++) {
        enum mr_status status = mr_load_sender_connect(&run->senders[i], error);
        if (status != MR_OK) {
            return status;
        }
    }
    struct mr_clock *clock = mr_clock_system();
    run->began_wall_ms = mr_clock_wall_ms(clock);
    run->began_ns = mr_clock_mono_ns(clock);
    run->measure_ns = run->began_ns + (uint64_t)run->options->warmup_ms * 1000000;
    run->end_ns = run->measure_ns + (uint64_t)run->options->duration_ms * 1000000;
    for (uint32_t i = 0; i < run->sender_count; i++) {
        atomic_fetch_add_explicit(&run->running, 1, memory_order_relaxed);
        if (!mr_load_sender_start(&run->senders[i])) {
            atomic_fetch_sub_explicit(&run->running, 1, memory_order_relaxed);
            mr_load_run_stop(run);
            return mr_error_set(error, MR_NO_MEMORY, "cannot start a thread");
        }
    }
    return MR_OK;
}

bool mr_load_run_is_over(const struct mr_load_run *run) {
    return atomic_load_explicit(&run->running, memory_order_relaxed) == 0; /* what it wrote is read after the join */
}

void mr_load_run_stop(struct mr_load_run *run) {
    pthread_mutex_lock(&run->lock);
    run->requests_max = run->next;
    pthread_mutex_unlock(&run->lock);
}

enum mr_status mr_load_run_wait(struct mr_load_run *run, struct mr_error *error) {
    for (uint32_t i = 0; i < run->sender_count; i++) {
        mr_load_sender_join(&run->senders[i]);
    }
    return run->failed ? mr_error_set(error, run->error.status, "%s", run->error.text) : MR_OK;
}

void mr_load_run_close(struct mr_load_run *run) {
    for (uint32_t i = 0; i < run->sender_count; i++) {
        mr_load_sender_close(&run->senders[i]);
    }
    mr_free(run->senders);
    (void)pthread_mutex_destroy(&run->lock); /* nobody holds it any more */
}

void mr_load_run_tally(const struct mr_load_run *run, bool measured, struct mr_load_tally *ret) {
    for (uint32_t i = 0; i < run->sender_count; i++) {
        mr_load_tally_merge(ret, &run->senders[i].tallies->parts[1]);
        if (!measured) {
            mr_load_tally_merge(ret, &run->senders[i].tallies->parts[0]);
        }
    }
}

enum mr_status mr_load_run_take(struct mr_load_run *run, uint64_t now_ns, uint64_t *ret_request,
                                uint64_t *ret_due_ns) {
    pthread_mutex_lock(&run->lock);
    uint64_t k = run->next;
    bool live = run->plan != NULL && !run->plan->o.timed;
    uint64_t due_ns = run->interval_ns > 0 ? run->began_ns + (uint64_t)(run->interval_ns * (double)k) : now_ns;
    /* A run that fell behind ends at its time as well: what was due by then and not begun is told, not sent. */
    bool over = k >= run->requests_max || due_ns >= run->end_ns || now_ns >= run->end_ns;
    if (!over) {
        run->next++;
        int64_t base_ms = run->began_wall_ms + (int64_t)((due_ns - run->began_ns) / 1000000);
        if (live) {
            run->plan->bases[k] = base_ms;
        }
    }
    pthread_mutex_unlock(&run->lock);
    if (over) {
        return MR_END;
    }
    *ret_request = k;
    *ret_due_ns = due_ns;
    return MR_OK;
}

void mr_load_run_sent(struct mr_load_run *run, int64_t base_ms) {
    pthread_mutex_lock(&run->lock);
    run->newest_ms = base_ms > run->newest_ms ? base_ms : run->newest_ms;
    pthread_mutex_unlock(&run->lock);
}

void mr_load_run_answered(struct mr_load_run *run, int64_t base_ms, uint64_t now_ns) {
    pthread_mutex_lock(&run->lock);
    int64_t behind_ms = run->newest_ms - base_ms;
    run->behind_ms = behind_ms > run->behind_ms ? behind_ms : run->behind_ms;
    run->last_answer_ns = now_ns > run->last_answer_ns ? now_ns : run->last_answer_ns;
    pthread_mutex_unlock(&run->lock);
}

void mr_load_run_fail(struct mr_load_run *run, const struct mr_error *error) {
    pthread_mutex_lock(&run->lock);
    if (!run->failed) {
        run->failed = true;
        run->error = *error;
    }
    pthread_mutex_unlock(&run->lock);
    atomic_store_explicit(&run->stop, true, memory_order_relaxed); /* a wish: seen at the next turn */
}
