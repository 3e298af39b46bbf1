/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/pipeline.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/report.h"
#include "pipeline/restore.h"
#include "pipeline/stations.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#define LAST_CLAIMS_NS (UINT64_C(10) * 1000 * 1000 * 1000) /* of a stop */
#define BEHIND_NICE 5 /* more than the other threads: the flusher and the checkpointer */
#define LAST_CHECKPOINT_NS (UINT64_C(60) * 1000 * 1000 * 1000) /* of a stop */
void mr_pipeline_fail(struct mr_pipeline *pipeline, enum mr_status status, const char *text) {
    /* acq_rel: one thread wins and alone writes the failure. */
    if (atomic_exchange_explicit(&pipeline->fail_claim, true, memory_order_acq_rel)) {
        return;
    }
    (void)mr_error_set(&pipeline->failure, status, "%s", text);
    char quoted[MR_ERROR_TEXT_MAX];
    mr_report(MR_LEVEL_ERROR, "pipeline_failed", "reason=%s",
              mr_report_value(text, quoted, sizeof quoted));
    /* release: pairs with the acquire in has_failed; the failure's text is visible behind it */
    atomic_store_explicit(&pipeline->failed, true, memory_order_release);
}

static bool has_failed(const struct mr_pipeline *p) {
    return atomic_load_explicit(&p->failed, memory_order_acquire);
}

enum mr_status mr_pipeline_failure(const struct mr_pipeline *pipeline, struct mr_error *ret) {
    if (!has_failed(pipeline)) {
        return MR_OK;
    }
    if (ret != NULL) {
        *ret = pipeline->failure;
    }
    return pipeline->failure.status;
}

bool mr_pipeline_live(const struct mr_pipeline *pipeline) {
    return atomic_load_explicit(&pipeline->live, memory_order_acquire);
}

const struct mr_log *mr_pipeline_log(const struct mr_pipeline *pipeline) {
    return pipeline->log;
}

uint64_t mr_pipeline_dead_lsn(const struct mr_pipeline *pipeline) {
    return pipeline->dead == NULL ? 0 : mr_counter_read(&mr_log_stats(pipeline->dead)->last_lsn);
}

/* ---- stations ---- */

uint32_t mr_pipeline_stations(const struct mr_pipeline *pipeline) {
    return pipeline->plan->shards + 4;
}

static enum mr_step step(struct mr_pipeline *p, uint32_t station) {
    if (has_failed(p)) {
        return MR_STEP_IDLE;
    }
    if (station == 0) {
        return mr_sequencer_step(&p->sequencer);
    }
    if (station <= p->plan->shards) {
        return mr_shard_step(&p->shards[station - 1]);
    }
    if (station == p->plan->shards + 1) {
        return mr_flusher_step(&p->flusher);
    }
    if (station == p->plan->shards + 2) {
        return mr_checkpointer_step(&p->checkpointer);
    }
    MR_ASSERT(station == p->plan->shards + 3);
    return mr_claimer_step(&p->claimer);
}

bool mr_pipeline_step(struct mr_pipeline *pipeline, uint32_t station) {
    MR_ASSERT(!pipeline->threads);
    return step(pipeline, station) == MR_STEP_WORKED;
}

static struct mr_event_count *wake_of(struct mr_pipeline *p, uint32_t station) {
    if (station == 0) {
        return &p->sequencer.wake;
    }
    if (station <= p->plan->shards) {
        return &p->shards[station - 1].wake;
    }
    struct mr_event_count *last[] = {&p->flusher.wake, &p->checkpointer.wake, &p->claimer.wake};
    return last[station - p->plan->shards - 1];
}

static uint64_t sleep_of(const struct mr_pipeline *p, uint32_t station) {
    if (station == 0) {
        return mr_sequencer_sleep_ns(&p->sequencer);
    }
    if (station <= p->plan->shards) {
        return UINT64_MAX;
    }
    return station == p->plan->shards + 1 ? mr_flusher_sleep_ns(&p->flusher)
                                          : mr_checkpointer_sleep_ns(&p->checkpointer);
}

/* Sleeping for room: say so, look once more, and only then sleep (event_count I2). */
static void wait_for_room(struct mr_pipeline *p, uint32_t station, uint32_t value) {
    struct mr_event_count *wake = wake_of(p, station);
    mr_event_count_block(wake);
    if (step(p, station) != MR_STEP_WORKED) {
        mr_event_count_wait(wake, value, sleep_of(p, station));
    }
    mr_event_count_unblock(wake);
}

static void run(struct mr_pipeline *p, uint32_t station) {
    struct mr_event_count *wake = wake_of(p, station);
    bool claimer = station == p->plan->shards + 3;
    for (;;) {
        uint32_t value = mr_event_count_value(wake);
        /* acquire: pairs with the release in stop_threads */
        if (atomic_load_explicit(&p->quit, memory_order_acquire)) {
            return;
        }
        if (station == 0) {
            /* Who is ready to run on this core runs first: where cores are few, that is an http thread, and what it brings
             * joins the group (a fifth more requests a second of one event each). An idle core comes back at once. */
            (void)sched_yield();
        }
        enum mr_step done = step(p, station);
        if (done == MR_STEP_IDLE && claimer) {
            mr_claimer_sleep(&p->claimer, value);
        } else if (done == MR_STEP_IDLE) {
            mr_event_count_wait(wake, value, sleep_of(p, station));
        } else if (done == MR_STEP_BLOCKED) {
            wait_for_room(p, station, value);
        }
    }
}

static void *run_sequencer(void *ctx) {
    run(((struct mr_sequencer *)ctx)->pipeline, 0);
    return NULL;
}

static void *run_shard(void *ctx) {
    struct mr_shard *shard = ctx;
    run(shard->pipeline, shard->index + 1);
    return NULL;
}

/* The calling thread's work is needed, but nobody waits for its next millisecond: where cores are fewer than threads,
 * those that acknowledge come first. A weight and not a class of its own, so that it always has its share (a third of
 * what a competitor gets). */
static void be_patient(void) {
    errno = 0;
    int nice_now = getpriority(PRIO_PROCESS, 0); /* of the thread, on Linux; the process's own may be any */
    if (errno == 0) {
        (void)setpriority(PRIO_PROCESS, 0, nice_now + BEHIND_NICE); /* refused: then all are equal */
    }
}

static void *run_flusher(void *ctx) {
    struct mr_flusher *flusher = ctx;
    be_patient();
    run(flusher->pipeline, flusher->pipeline->plan->shards + 1);
    return NULL;
}

static void *run_checkpointer(void *ctx) {
    struct mr_checkpointer *checkpointer = ctx;
    be_patient();
    run(checkpointer->pipeline, checkpointer->pipeline->plan->shards + 2);
    return NULL;
}

static void *run_claimer(void *ctx) {
    struct mr_claimer *claimer = ctx;
    run(claimer->pipeline, claimer->pipeline->plan->shards + 3);
    return NULL;
}

/* ---- life ---- */

static enum mr_status open_mesh(struct mr_pipeline *p, struct mr_error *error) {
    uint32_t count = p->plan->shards * p->plan->shards;
    p->mesh = mr_alloc_zero(count, sizeof(struct mr_ring *));
    for (uint32_t i = 0; p->mesh != NULL && i < count; i++) {
        p->mesh[i] = mr_ring_open(MR_EXCHANGE_RING);
        if (p->mesh[i] == NULL) {
            return mr_error_set(error, MR_NO_MEMORY, "out of memory opening the exchange");
        }
    }
    return p->mesh != NULL ? MR_OK
                           : mr_error_set(error, MR_NO_MEMORY, "out of memory opening the exchange");
}

static enum mr_status open_stations(struct mr_pipeline *p, const struct mr_pipeline_options *options,
                                    struct mr_error *error) {
    p->shards = mr_alloc_zero(p->plan->shards, sizeof *p->shards);
    if (p->shards == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory opening %u shards", p->plan->shards);
    }
    enum mr_status status = open_mesh(p, error);
    for (uint32_t i = 0; status == MR_OK && i < p->plan->shards; i++) {
        status = mr_shard_open(p, i, error);
    }
    if (status == MR_OK) {
        status = mr_flusher_open(p, options->dead_seq, error);
    }
    if (status == MR_OK) {
        status = mr_sequencer_open(p, options->replay, error);
        p->sequencer.shadow = options->shadow;
        p->sequencer.shadow_to_lsn = options->shadow_to_lsn;
        p->sequencer.replay_has_record = options->shadow_first != NULL;
        if (options->shadow_first != NULL) {
            p->sequencer.replay_record = *options->shadow_first;
        }
        p->sequencer.shadow_incarnation = options->shadow_incarnation;
        p->sequencer.promoted_seq = options->promoted_seq;
    }
    if (status == MR_OK) {
        status = mr_checkpointer_open(p, options->checkpoint_dir, options->restored, error);
    }
    if (status == MR_OK) {
        status = mr_claimer_open(p, options, error);
    }
    if (status == MR_OK && options->checkpoint_dir != NULL) {
        p->checkpointer.every_ns = (uint64_t)options->checkpoint_every_ms * 1000000;
    }
    if (status == MR_OK && options->restored != NULL && options->restored->newest.number != 0) {
        status = mr_restore(p, options->restored, error);
    }
    for (uint32_t i = 0; status == MR_OK && options->checkpoint_dir != NULL && i < p->plan->shards;
         i++) {
        for (uint32_t k = 0; k < p->plan->stream_count; k++) {
            mr_dedup_journal(p->shards[i].dedup[k], true);
        }
    }
    return status;
}

enum mr_status mr_pipeline_open(const struct mr_pipeline_options *options, struct mr_pipeline **ret,
                                struct mr_error *error) {
    MR_ASSERT(options->plan->shards >= 1 && options->plan->shards <= MR_SHARDS_MAX);
    struct mr_pipeline *p = mr_alloc_aligned(MR_CACHE_LINE, sizeof *p);
    if (p == NULL) {
        mr_log_reader_close(options->replay);
        return mr_error_set(error, MR_NO_MEMORY, "out of memory opening the pipeline");
    }
    memset(p, 0, sizeof *p);
    mr_event_count_init(&p->stop_done);
    p->plan = options->plan;
    p->clock = options->clock;
    p->log = options->log;
    p->log_dir = options->log_dir;
    p->dead = options->dead;
    p->results = options->results;
    p->disk = options->disk;
    p->retention.bytes_max = options->retain_bytes;
    p->retain_ms = options->retain_ms;
    enum mr_status status = open_stations(p, options, error);
    if (status != MR_OK) {
        if (p->sequencer.pipeline == NULL) {
            mr_log_reader_close(options->replay); /* the sequencer has not taken it over */
        }
        mr_pipeline_close(p);
        return status;
    }
    *ret = p;
    return MR_OK;
}

void mr_pipeline_close(struct mr_pipeline *pipeline) {
    if (pipeline == NULL) {
        return;
    }
    MR_ASSERT(!pipeline->threads);
    /* The flusher first: its parcels' questions are counted before the sequencer answers what is left. */
    mr_flusher_close(&pipeline->flusher);
    for (uint32_t i = 0; pipeline->shards != NULL && i < pipeline->plan->shards; i++) {
        mr_shard_close(&pipeline->shards[i]);
    }
    mr_claimer_close(&pipeline->claimer);
    mr_sequencer_close(&pipeline->sequencer);
    mr_checkpointer_close(&pipeline->checkpointer); /* last: the others may still tell it something */
    uint32_t count = pipeline->plan->shards * pipeline->plan->shards;
    for (uint32_t i = 0; pipeline->mesh != NULL && i < count; i++) {
        mr_ring_close(pipeline->mesh[i]);
    }
    mr_free(pipeline->mesh);
    mr_free(pipeline->shards);
    mr_free(pipeline);
}

static void wake_all(struct mr_pipeline *p) {
    for (uint32_t i = 0; i < mr_pipeline_stations(p); i++) {
        mr_event_count_signal(wake_of(p, i));
    }
}

/* How many threads run: those of the shards, the flusher's, the checkpointer's, the claimer's, the sequencer's. */
static void stop_threads(struct mr_pipeline *p, uint32_t started) {
    uint32_t shards = p->plan->shards;
    /* release: pairs with the acquire in run */
    atomic_store_explicit(&p->quit, true, memory_order_release);
    wake_all(p);
    int failed_join = 0;
    for (uint32_t i = 0; i < shards && i < started; i++) {
        failed_join |= pthread_join(p->shards[i].thread, NULL);
    }
    failed_join |= started > shards ? pthread_join(p->flusher.thread, NULL) : 0;
    failed_join |= started > shards + 1 ? pthread_join(p->checkpointer.thread, NULL) : 0;
    failed_join |= started > shards + 2 ? pthread_join(p->claimer.thread, NULL) : 0;
    failed_join |= started > shards + 3 ? pthread_join(p->sequencer.thread, NULL) : 0;
    MR_ASSERT(failed_join == 0);
    p->threads = false;
}

/* name: at most 15 characters, what the kernel keeps. */
static bool start_thread(pthread_t *thread, const char *name, void *(*run_station)(void *),
                         void *station) {
    if (pthread_create(thread, NULL, run_station, station) != 0) {
        return false;
    }
    (void)pthread_setname_np(*thread, name); /* for people with top; nothing depends on it */
    return true;
}

enum mr_status mr_pipeline_start(struct mr_pipeline *pipeline) {
    MR_ASSERT(!pipeline->threads);
    pipeline->threads = true;
    uint32_t all = mr_pipeline_stations(pipeline);
    uint32_t started = 0;
    bool ok = true;
    for (; ok && started < pipeline->plan->shards; started += ok) {
        struct mr_shard *shard = &pipeline->shards[started];
        ok = start_thread(&shard->thread, "shard", run_shard, shard);
    }
    struct mr_pipeline *p = pipeline;
    ok = ok && start_thread(&p->flusher.thread, "flusher", run_flusher, &p->flusher);
    started += ok;
    ok = ok && start_thread(&p->checkpointer.thread, "checkpointer", run_checkpointer, &p->checkpointer);
    started += ok;
    ok = ok && start_thread(&p->claimer.thread, "claimer", run_claimer, &p->claimer);
    started += ok;
    ok = ok && start_thread(&p->sequencer.thread, "sequencer", run_sequencer, &p->sequencer);
    started += ok;
    if (started < all) {
        stop_threads(pipeline, started);
        return MR_NO_MEMORY;
    }
    return MR_OK;
}

static void flushed(struct mr_ask *ask, void *ctx) {
    (void)ask;
    mr_event_count_signal(ctx);
}

/* Asks until it is taken, and waits for the end, at most so long; false: it did not come. The question lies in the
 * pipeline, for it may be answered when it is closed only. */
static bool ask_and_wait(struct mr_pipeline *pipeline, enum mr_ask_kind kind, struct mr_ask *ask,
                         uint64_t wait_ns) {
    struct mr_event_count *done = &pipeline->stop_done;
    *ask = (struct mr_ask){.kind = kind, .done = flushed, .ctx = done};
    uint32_t value = mr_event_count_value(done);
    uint64_t begun_ns = mr_clock_mono_ns(pipeline->clock);
    bool asked = false;
    while (!has_failed(pipeline)) {
        if (!asked) {
            asked = kind == MR_ASK_CHECKPOINT ? mr_pipeline_checkpoint(pipeline, ask)
                                              : mr_pipeline_ask(pipeline, ask);
        }
        if (mr_event_count_value(done) != value) {
            return true;
        }
        if (mr_clock_mono_ns(pipeline->clock) - begun_ns >= wait_ns) {
            return false;
        }
        mr_event_count_wait(done, value, 100 * 1000 * 1000); /* a failure has no other way to tell */
    }
    return false;
}

/* What a shared store is being asked is decided, or sent away by its outage, soon. */
static void wait_for_claims(struct mr_pipeline *pipeline) {
    uint64_t begun_ns = mr_clock_mono_ns(pipeline->clock);
    struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    while (!has_failed(pipeline) && !mr_claimer_is_idle(&pipeline->claimer) &&
           mr_clock_mono_ns(pipeline->clock) - begun_ns < LAST_CLAIMS_NS) {
        (void)nanosleep(&pause, NULL);
    }
}

void mr_pipeline_stop(struct mr_pipeline *pipeline) {
    if (!pipeline->threads) {
        return;
    }
    atomic_store_explicit(&pipeline->stopping, true, memory_order_relaxed);
    bool flushed_all = ask_and_wait(pipeline, MR_ASK_FLUSH, &pipeline->stop_flush, UINT64_MAX);
    if (flushed_all && !mr_claimer_is_idle(&pipeline->claimer)) {
        wait_for_claims(pipeline);
        flushed_all = ask_and_wait(pipeline, MR_ASK_FLUSH, &pipeline->stop_flush, UINT64_MAX);
    }
    if (flushed_all && pipeline->checkpointer.dir != NULL) {
        /* So that the next start has nothing to replay; if it fails, it has. */
        (void)ask_and_wait(pipeline, MR_ASK_CHECKPOINT, &pipeline->stop_checkpoint, LAST_CHECKPOINT_NS);
    }
    stop_threads(pipeline, mr_pipeline_stations(pipeline));
}

bool mr_pipeline_submit(struct mr_pipeline *pipeline, struct mr_batch *batch) {
    MR_ASSERT(batch->count > 0 && batch->done != NULL);
    MR_ASSERT(batch->stream < pipeline->plan->stream_count);
    if (!mr_ring_push_shared(pipeline->sequencer.submit, batch)) {
        return false;
    }
    mr_event_count_signal(&pipeline->sequencer.wake);
    return true;
}

bool mr_pipeline_ask(struct mr_pipeline *pipeline, struct mr_ask *ask) {
    MR_ASSERT(ask->done != NULL);
    bool elsewhere = ask->kind == MR_ASK_SEEN && pipeline->plan->streams[ask->stream].claimed;
    struct mr_ring *asks = elsewhere ? pipeline->claimer.asks : pipeline->sequencer.asks;
    if (asks == NULL || !mr_ring_push_shared(asks, ask)) {
        return false;
    }
    mr_event_count_signal(elsewhere ? &pipeline->claimer.wake : &pipeline->sequencer.wake);
    return true;
}

bool mr_pipeline_checkpoint(struct mr_pipeline *pipeline, struct mr_ask *ask) {
    MR_ASSERT(ask->kind == MR_ASK_CHECKPOINT && ask->done != NULL);
    if (!mr_ring_push_shared(pipeline->checkpointer.requests, ask)) {
        return false;
    }
    mr_event_count_signal(&pipeline->checkpointer.wake);
    return true;
}

uint64_t mr_pipeline_state_hash_scan(const struct mr_pipeline *pipeline) {
    uint64_t hash = 0;
    for (uint32_t i = 0; i < pipeline->plan->shards; i++) {
        for (uint32_t k = 0; k < pipeline->plan->stream_count; k++) {
            hash += mr_dedup_state_hash_scan(pipeline->shards[i].dedup[k]) * (2 * k + 1);
        }
        hash += mr_combine_state_hash_scan(pipeline->shards[i].combine);
    }
    return hash;
}
