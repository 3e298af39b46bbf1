/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flusher: writes panes to the results store and dead letters to their log.
 *
 *     out[S-1..0] ──▶ merged by (seq, shard) ──▶ open transaction ──▶ dead letters appended, commit(seq)
 *                                                    │ kept in memory until the commit
 *                                                    ▼ a failure rolls back; all of it is put again a second later
 *
 * A parcel is taken when every shard is done with its bundle, so that the order is a function of the log and
 * a commit at seq has everything up to seq, and nothing of the next. A commit is made when there is nothing more to take and
 * 100 ms have passed, or 16 MiB are waiting, or a question asks for it. The panes of a bundle are put in the order of their
 * rows (pipeline/panes.h). A bundle that closes large windows has more parcels than fit a ring: those of it that are next
 * in any case are taken as it goes, and kept until it is whole (as many bytes as its groups have at most).
 */
#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/dead.h"
#include "base/report.h"
#include "pipeline/panes.h"
#include "pipeline/stations.h"

enum {
    COMMIT_NS = 100 * 1000 * 1000,
    POLL_NS = 500 * 1000 * 1000, /* bundles that fire nothing send no parcel: how far they are is seen now and then */
    COMMIT_BYTES = 16 << 20,
    RETRY_NS = 1000 * 1000 * 1000,
    PARCELS_A_STEP = 64,
    DEAD_BYTES = 64 << 20, /* of one record of the dead-letter log */
};

static_assert(DEAD_BYTES < MR_RECORD_PAYLOAD_MAX, "a record can hold it");

/* Every shard is done with everything up to here. acquire: pairs with finish_bundle (shard.c); the parcels of
 * those bundles are on the rings. */
static uint64_t complete_seq(const struct mr_flusher *f) {
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < f->pipeline->plan->shards; i++) {
        uint64_t done = atomic_load_explicit(&f->pipeline->shards[i].done_seq, memory_order_acquire);
        least = done < least ? done : least;
    }
    return least;
}

/* A bundle that closes large windows has more parcels than a ring has room for: its shard waits until some are taken. */
static bool is_stuck(const struct mr_flusher *f) {
    for (uint32_t i = 0; i < f->pipeline->plan->shards; i++) {
        if (mr_ring_full(f->pipeline->shards[i].out)) {
            return true;
        }
    }
    return false;
}

/* The next parcel by (seq, shard) that is complete, or, when a shard is stuck, before which none can come; NULL: none.
 * Of one bundle shard 0 comes last, for it says what is final: a session's row that the bundle moves ahead is put with its
 * new end before the store goes by ends. */
static struct mr_flush *take_parcel(struct mr_flusher *f, uint64_t target) {
    uint32_t shards = f->pipeline->plan->shards;
    uint32_t best = shards;
    uint64_t settled = UINT64_MAX; /* who has no parcel here is done with everything up to this bundle */
    for (uint32_t i = 0; i < shards; i++) {
        if (f->held[i] == NULL) {
            /* acquire: pairs with finish_bundle (shard.c); before the pop, so that what it speaks of is on the ring */
            uint64_t done = atomic_load_explicit(&f->pipeline->shards[i].done_seq, memory_order_acquire);
            f->held[i] = mr_ring_pop(f->pipeline->shards[i].out);
            if (f->held[i] != NULL) {
                mr_event_count_signal_blocked(&f->pipeline->shards[i].wake);
            } else {
                settled = done < settled ? done : settled;
            }
        }
        if (f->held[i] != NULL && (best == shards || f->held[i]->seq <= f->held[best]->seq)) {
            best = i;
        }
    }
    if (best == shards) {
        return NULL;
    }
    uint64_t seq = f->held[best]->seq;
    if (seq > target && (seq > settled || !is_stuck(f))) {
        return NULL;
    }
    struct mr_flush *flush = f->held[best];
    f->held[best] = NULL;
    return flush;
}

static enum mr_status put_panes(struct mr_flusher *f, const struct mr_flush *flush) {
    struct mr_results *results = f->pipeline->results;
    if (flush->seq <= mr_results_flushed_seq(results) + MR_BUG(FLUSH_SKIPS_BUNDLE)) {
        return MR_OK; /* a replay of what the store has already */
    }
    enum mr_status status = mr_panes_gather(&f->gathered, flush);
    if (status == MR_OK && flush->final_count > 0) {
        status = mr_panes_put_gathered(&f->gathered);
    }
    for (uint32_t i = 0; status == MR_OK && i < flush->final_count; i++) {
        status = mr_results_finalize(results, flush->finals[i].rule, flush->finals[i].end_ms);
    }
    return status;
}

static enum mr_status begin(struct mr_flusher *f) {
    if (f->open) {
        return MR_OK;
    }
    enum mr_status status = mr_results_begin(f->pipeline->results);
    if (status == MR_OK) {
        f->open = true;
    }
    return status;
}

static void keep(struct mr_flusher *f, struct mr_flush *flush) {
    if (f->first == NULL) {
        f->first = flush;
        f->opened_ns = mr_clock_mono_ns(f->pipeline->clock);
    } else {
        f->last->next = flush;
    }
    f->last = flush;
    flush->next = NULL;
    f->open_bytes += flush->panes.cap + flush->dead.cap + sizeof *flush;
    f->asks += flush->ask != NULL;
}

static void failed(struct mr_flusher *f, const char *what, enum mr_status status) {
    MR_ASSERT(f->gathered.count == 0);
    if (f->open) {
        mr_results_rollback(f->pipeline->results);
        f->open = false;
    }
    f->retry_ns = mr_clock_mono_ns(f->pipeline->clock) + RETRY_NS;
    mr_counter_add(&f->errors, 1);
    const char *store = mr_results_error_text(f->pipeline->results);
    char quoted[MR_ERROR_TEXT_MAX];
    mr_report(MR_LEVEL_ERROR, "flush_failed",
              "what=%s reason=\"%s\" store=%s action=\"trying again in 1 s\"", what,
              mr_status_text(status), mr_report_value(store, quoted, sizeof quoted));
}

/* Writes what is in f->dead as one record that says: bundles up to `seq` are complete. */
static enum mr_status append_dead_record(struct mr_flusher *f, uint64_t seq) {
    memcpy(f->dead.ptr, &seq, sizeof seq);
    struct mr_log_entry entry = {.type = MR_RECORD_DEAD,
                                 .payload = {{f->dead.ptr, f->dead.len}},
                                 .payload_count = 1};
    struct mr_error error;
    int64_t now_ms = mr_clock_wall_ms(f->pipeline->clock);
    enum mr_status status = mr_log_append(f->pipeline->dead, f->dead_record + 1, now_ms, &entry, 1,
                                          &error);
    if (status == MR_OK) {
        f->dead_record++;
        f->dead.len = sizeof seq;
    }
    return status;
}

/* One parcel's entries go into f->dead, which is written out whenever it is full. */
static enum mr_status gather_dead(struct mr_flusher *f, const struct mr_flush *flush) {
    struct mr_bytes rest = mr_buf_bytes(&flush->dead);
    struct mr_dead entry;
    struct mr_bytes before = rest;
    while (mr_dead_next(&rest, &entry)) {
        size_t len = before.len - rest.len;
        if (f->dead.len + len > DEAD_BYTES) {
            enum mr_status status = append_dead_record(f, f->dead_seq);
            if (status != MR_OK) {
                return status;
            }
        }
        mr_buf_append(&f->dead, before.ptr, len);
        before = rest;
    }
    MR_ASSERT(rest.len == 0);
    return f->dead.failed ? MR_NO_MEMORY : MR_OK;
}

/* The dead letters of all kept parcels that the log does not have. Only the last record says `upto`: a crash
 * before it makes replay write them again. */
static enum mr_status append_dead(struct mr_flusher *f, uint64_t upto) {
    uint64_t count = 0;
    mr_buf_clear(&f->dead);
    mr_buf_append(&f->dead, &upto, sizeof upto);
    for (struct mr_flush *flush = f->first; flush != NULL; flush = flush->next) {
        if (flush->seq <= f->dead_seq || flush->dead_count == 0) {
            continue;
        }
        count += flush->dead_count;
        enum mr_status status = f->pipeline->dead == NULL ? MR_OK : gather_dead(f, flush);
        if (status != MR_OK) {
            return status;
        }
    }
    if (f->dead.len > sizeof upto) {
        enum mr_status status = append_dead_record(f, upto);
        if (status != MR_OK) {
            return status;
        }
    }
    f->dead_seq = upto > f->dead_seq ? upto : f->dead_seq;
    mr_counter_add(&f->dead_letters, count);
    return MR_OK;
}

/* Entries before it are in the log already: the question came behind them. */
static enum mr_status append_mark(struct mr_flusher *f, const struct mr_dead_mark *mark) {
    uint8_t payload[MR_DEAD_MARK_LEN_MAX];
    size_t len = mr_dead_mark_encode(mark, payload);
    struct mr_log_entry entry = {.type = MR_RECORD_DISCARD, .payload = {{payload, len}}, .payload_count = 1};
    struct mr_error error;
    if (f->pipeline->dead == NULL) {
        return MR_UNSUPPORTED;
    }
    enum mr_status status = mr_log_append(f->pipeline->dead, f->dead_record + 1, mr_clock_wall_ms(f->pipeline->clock),
                                          &entry, 1, &error);
    f->dead_record += status == MR_OK;
    return status;
}

/* Everything kept is durable now: questions are answered, memory is freed. */
static void release_kept(struct mr_flusher *f) {
    while (f->first != NULL) {
        struct mr_flush *flush = f->first;
        f->first = flush->next;
        mr_counter_add(&f->panes, flush->pane_count);
        struct mr_ask *ask = flush->ask;
        mr_flush_close(flush);
        /* acq_rel: the last of S sees what the others did */
        if (ask != NULL &&
            atomic_fetch_sub_explicit(&ask->shards_left, 1, memory_order_acq_rel) == 1) {
            ask->status = ask->kind == MR_ASK_DISCARD ? append_mark(f, &ask->mark) : ask->status;
            ask->done(ask, ask->ctx);
        }
    }
    f->last = NULL;
    f->open_bytes = 0;
    f->asks = 0;
}

static bool commit_needed(const struct mr_flusher *f) {
    return f->asks > 0 || f->open_bytes >= COMMIT_BYTES ||
           mr_clock_mono_ns(f->pipeline->clock) - f->opened_ns >= COMMIT_NS;
}

static enum mr_status commit(struct mr_flusher *f) {
    enum mr_status status = mr_panes_put_gathered(&f->gathered);
    if (status != MR_OK) {
        failed(f, "put", status);
        return status;
    }
    status = append_dead(f, f->complete_seq);
    if (status != MR_OK) {
        failed(f, "dead_letters", status);
        return status;
    }
    if (f->open && f->complete_seq > mr_results_flushed_seq(f->pipeline->results)) {
        status = mr_results_commit(f->pipeline->results, f->complete_seq);
        f->open = false;
        /* Unknown outcome: a commit that answered with an error may still have taken effect. */
        if (status != MR_OK && mr_results_flushed_seq(f->pipeline->results) < f->complete_seq) {
            failed(f, "commit", status);
            return status;
        }
        mr_counter_add(&f->commits, 1);
    }
    if (f->open) {
        mr_results_rollback(f->pipeline->results); /* nothing new in it: a replay, or a question alone */
        f->open = false;
    }
    release_kept(f);
    /* release: pairs with the acquire in step_combine (shard.c) */
    atomic_store_explicit(&f->confirmed_seq, f->complete_seq, memory_order_release);
    return MR_OK;
}

/* After a rollback: puts everything kept into a new transaction. */
static enum mr_status put_again(struct mr_flusher *f) {
    enum mr_status status = begin(f);
    for (struct mr_flush *flush = f->first; status == MR_OK && flush != NULL; flush = flush->next) {
        status = put_panes(f, flush);
    }
    if (status != MR_OK) {
        failed(f, "put", status);
    }
    return status;
}

/* Takes parcels into the open transaction; returns how many. */
static uint32_t put_new(struct mr_flusher *f, uint64_t target) {
    for (uint32_t n = 0; n < PARCELS_A_STEP; n++) {
        struct mr_flush *flush = take_parcel(f, target);
        if (flush == NULL) {
            return n;
        }
        keep(f, flush);
        enum mr_status status = begin(f);
        if (status == MR_OK) {
            status = put_panes(f, flush);
        }
        if (status != MR_OK) {
            failed(f, "put", status);
            return n + 1;
        }
    }
    return PARCELS_A_STEP;
}

enum mr_step mr_flusher_step(struct mr_flusher *f) {
    if (f->retry_ns != 0) {
        if (mr_clock_mono_ns(f->pipeline->clock) < f->retry_ns) {
            return MR_STEP_IDLE;
        }
        f->retry_ns = 0;
        if (!MR_BUG(FLUSH_FORGETS) && put_again(f) != MR_OK) {
            return MR_STEP_IDLE;
        }
    }
    if (f->complete_seq == f->goal_seq) {
        f->goal_seq = complete_seq(f); /* before the rings are looked at; kept until it is reached */
    }
    uint32_t taken = put_new(f, f->goal_seq);
    if (f->retry_ns != 0 || taken == PARCELS_A_STEP) {
        return MR_STEP_WORKED;
    }
    f->complete_seq = f->goal_seq; /* nothing up to the goal is left on a ring */
    if (f->first == NULL) {
        /* release: pairs with the acquire in step_combine (shard.c); nothing was fired up to here */
        atomic_store_explicit(&f->confirmed_seq, f->complete_seq, memory_order_release);
        return mr_flusher_trim_dead(f);
    }
    bool whole = f->last->seq <= f->complete_seq; /* no bundle is in the transaction in part */
    if (!whole || !commit_needed(f)) {
        return taken > 0 ? MR_STEP_WORKED : MR_STEP_IDLE;
    }
    return commit(f) == MR_OK ? MR_STEP_WORKED : MR_STEP_IDLE;
}

uint64_t mr_flusher_sleep_ns(const struct mr_flusher *f) {
    bool waiting = f->first != NULL || f->retry_ns != 0;
    for (uint32_t i = 0; i < f->pipeline->plan->shards && !waiting; i++) {
        waiting = f->held[i] != NULL;
    }
    return waiting ? COMMIT_NS / 2 : POLL_NS;
}

enum mr_status mr_flusher_open(struct mr_pipeline *pipeline, uint64_t dead_seq,
                               struct mr_error *error) {
    struct mr_flusher *f = &pipeline->flusher;
    f->pipeline = pipeline;
    f->dead_seq = dead_seq;
    f->dead_record = pipeline->dead == NULL ? 0 : mr_log_last_seq(pipeline->dead);
    mr_event_count_init(&f->wake);
    mr_buf_init(&f->dead, DEAD_BYTES + (16 << 20)); /* one entry may stick out */
    f->held = mr_alloc_zero(pipeline->plan->shards, sizeof(struct mr_flush *));
    enum mr_status status = mr_panes_open(&f->gathered, pipeline->results, pipeline->plan, MR_PANES_TOGETHER);
    if (f->held == NULL || status != MR_OK) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory opening the flusher");
    }
    return MR_OK;
}

/* A parcel that will not be written: the log has what it was made from. */
static void drop(struct mr_flush *flush) {
    struct mr_ask *ask = flush->ask;
    mr_flush_close(flush);
    if (ask != NULL && atomic_fetch_sub_explicit(&ask->shards_left, 1, memory_order_acq_rel) == 1) {
        ask->closed = true;
        ask->done(ask, ask->ctx);
    }
}

void mr_flusher_close(struct mr_flusher *f) {
    if (f->pipeline == NULL) {
        return;
    }
    if (f->open) {
        mr_results_rollback(f->pipeline->results);
    }
    while (f->first != NULL) {
        struct mr_flush *flush = f->first;
        f->first = flush->next;
        drop(flush);
    }
    for (uint32_t i = 0; f->held != NULL && i < f->pipeline->plan->shards; i++) {
        struct mr_flush *flush = f->held[i];
        struct mr_ring *out = f->pipeline->shards[i].out;
        while (out != NULL && (flush != NULL || (flush = mr_ring_pop(out)) != NULL)) {
            drop(flush);
            flush = NULL;
        }
    }
    mr_buf_finish(&f->dead);
    mr_panes_close(&f->gathered);
    mr_free(f->held);
}
