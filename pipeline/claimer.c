/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claimer: asks the shared store whose ids are, and hands the batches back decided, each stream's in the order of the log.
 *
 *      in ──▶ [ first…last ] ──▶ claims (Redis) ──▶ held ──▶ out
 *                  ▲
 *      the log: records cursor_lsn … shed_lsn, whose batches were sent away or never were here
 *
 * In an outage (the store has not been strict for its timeout) everything that waits is sent away, by the stream's policy:
 * answered 503 (reject) or "pending" (hold). Nothing is lost with it: the records are in the log, where the claimer finds
 * them again when the store is back, and after a restart. So what waits costs no memory, however long it lasts. With
 * outage local it goes on as it is, for the shards to decide from what this node has counted, and is claimed afterwards
 * (claimer_assert.c).
 */
#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/report.h"
#include "pipeline/claimer_parts.h"

#include <stdio.h>

enum {
    PUTS_A_STEP = 64,
    HELD_MAX = 256, /* of what is decided here: the ring to the sequencer is full, and more can wait where it is */
    SHOW_NS = 100 * 1000 * 1000,
    IDLE_NS = 100 * 1000 * 1000, /* the watch wants to look now and then */
    BUSY_NS = 1000 * 1000,
};

/* ---- from the sequencer ---- */

static void queue(struct mr_claimer_stream *s, struct mr_batch *batch) {
    batch->next = NULL;
    if (s->first == NULL) {
        s->first = batch;
    } else {
        s->last->next = batch;
    }
    s->last = batch;
}

static bool take_new(struct mr_claimer *c) {
    bool worked = false;
    struct mr_batch *batch;
    while ((batch = mr_ring_pop(c->in)) != NULL) {
        struct mr_claimer_stream *s = &c->streams[batch->stream];
        bool hold = mr_claimer_policy(c, batch->stream) == MR_CONFIG_OUTAGE_HOLD;
        bool outage = c->stores[c->pipeline->plan->streams[batch->stream].store].outage;
        if ((outage && !mr_claimer_is_local(c, batch->stream)) || (hold && s->cursor_lsn != 0)) {
            mr_claimer_send_away(c, batch);
        } else {
            queue(s, batch);
        }
        worked = true;
    }
    return worked;
}

/* What replay has left undecided is read from the log. */
static void take_over(struct mr_claimer *c) {
    const struct mr_sequencer *s = &c->pipeline->sequencer;
    for (uint32_t i = 0; i < c->pipeline->plan->stream_count; i++) {
        if (!c->pipeline->plan->streams[i].claimed) {
            continue;
        }
        if (s->undecided[i].first_lsn != 0 && !MR_BUG(UNDECIDED_FORGOTTEN)) {
            c->streams[i].cursor_lsn = s->undecided[i].first_lsn;
            c->streams[i].shed_lsn = s->undecided[i].last_lsn;
        }
        /* Whether it was claimed since, nobody remembers: it is done again. */
        struct mr_claimer_store *store = &c->stores[c->pipeline->plan->streams[i].store];
        int64_t horizon_ms = c->pipeline->plan->config->streams[i].dedup.horizon_ms;
        int64_t since_ms = mr_local_since(&s->locals[i], s->recorded_ms - horizon_ms);
        store->local_since_ms = since_ms < store->local_since_ms ? since_ms : store->local_since_ms;
    }
    c->begun = true;
}

/* ---- to the store ---- */

/* The next batch of the stream in the order of the log. false: none now. */
static bool next_batch(struct mr_claimer *c, uint32_t stream, struct mr_batch **ret) {
    struct mr_claimer_stream *s = &c->streams[stream];
    if (s->cursor_lsn == 0) {
        *ret = s->first;
        if (s->first != NULL) {
            s->first = s->first->next;
            s->last = s->first == NULL ? NULL : s->last;
        }
        return *ret != NULL;
    }
    if (s->under_way_bytes > MR_CLAIM_BATCHES_BYTES_MAX) {
        return false;
    }
    struct mr_error error = {.text = ""};
    enum mr_status status = mr_fetch_next(s->fetch, s->cursor_lsn, s->shed_lsn, stream, ret, &error);
    if (status == MR_OK) {
        s->cursor_lsn = (*ret)->lsn < s->shed_lsn ? (*ret)->lsn + 1 : 0;
        return true;
    }
    if (status == MR_END || status == MR_NOT_FOUND) {
        s->cursor_lsn = 0;
    } else {
        mr_pipeline_fail(c->pipeline, status, error.text);
    }
    return false;
}

static bool decide_next_here(struct mr_claimer *c, uint32_t stream) {
    struct mr_batch *batch = NULL;
    MR_ASSERT(c->streams[stream].stuck == NULL);
    if (c->held >= HELD_MAX || !next_batch(c, stream, &batch)) {
        return false;
    }
    mr_claimer_decide_here(c, batch);
    return true;
}

static bool put_next(struct mr_claimer *c, uint32_t stream) {
    struct mr_claimer_stream *s = &c->streams[stream];
    struct mr_claims *claims = c->stores[c->pipeline->plan->streams[stream].store].claims;
    if (s->stuck == NULL) {
        struct mr_batch *batch = NULL;
        if (!next_batch(c, stream, &batch)) {
            return false;
        }
        s->stuck = mr_claim_work_open(batch, NULL);
        if (s->stuck == NULL) {
            mr_batch_refuse(batch, MR_REFUSAL_UNDECIDED);
            mr_claimer_no_memory(c);
            return false;
        }
        s->stuck->claim.stream = s->claimed_as;
    }
    size_t bytes = mr_batch_bytes(s->stuck->batch);
    if (!mr_claims_put(claims, &s->stuck->claim)) {
        return false;
    }
    s->under_way_bytes += bytes;
    s->stuck = NULL;
    return true;
}

static bool put_some(struct mr_claimer *c) {
    bool worked = false;
    for (uint32_t i = 0; i < c->pipeline->plan->stream_count; i++) {
        bool claimed = c->pipeline->plan->streams[i].claimed;
        bool here = claimed && mr_claimer_is_local(c, i);
        for (uint32_t n = 0; claimed && (here || mr_claimer_is_open(c, i)) && n < PUTS_A_STEP; n++) {
            if (here ? !decide_next_here(c, i) : !put_next(c, i)) {
                break;
            }
            worked = true;
        }
    }
    return worked;
}

/* ---- decided ---- */

static bool keep_verdicts(struct mr_batch *batch, const struct mr_claim *claim) {
    size_t len = mr_verdicts_bits_len(batch->count);
    batch->taken = mr_alloc_zero(1, len);
    for (uint32_t k = 0; batch->taken != NULL && k < claim->count; k++) {
        MR_ASSERT(claim->outcomes[k] != MR_CLAIM_NONE);
        uint32_t event = claim->order[k];
        bool wrong = MR_BUG(CLAIM_READ_WRONG) && k + 1 == claim->count;
        if (claim->outcomes[k] == MR_CLAIM_TAKEN && !wrong) {
            batch->taken[event / 8] |= (uint8_t)(1u << (event % 8));
        }
    }
    return batch->taken != NULL;
}

static void take_decided(struct mr_claimer *c, struct mr_claim_work *work) {
    struct mr_batch *batch = work->batch;
    struct mr_claimer_stream *s = &c->streams[batch->stream];
    uint64_t bytes = mr_batch_bytes(batch);
    s->under_way_bytes -= bytes < s->under_way_bytes ? bytes : s->under_way_bytes;
    bool kept = keep_verdicts(batch, &work->claim);
    mr_claim_work_close(work);
    if (!kept) {
        mr_batch_refuse(batch, MR_REFUSAL_UNDECIDED);
        mr_claimer_no_memory(c);
        return;
    }
    mr_claimer_hold(c, batch);
}

static bool take_all_decided(struct mr_claimer *c, uint32_t store) {
    struct mr_claimer_store *s = &c->stores[store];
    bool worked = false;
    struct mr_claim *claim;
    while ((claim = mr_claims_next(s->claims)) != NULL) {
        struct mr_claim_work *work = claim->ctx;
        if (claim->again) {
            mr_assertion_back(&s->assertion, work);
        } else {
            take_decided(c, work);
            s->progress_ns = mr_claimer_now_ns(c);
        }
        worked = true;
    }
    return worked;
}

static enum mr_step push_decided(struct mr_claimer *c) {
    enum mr_step step = MR_STEP_IDLE;
    while (c->held_first != NULL) {
        struct mr_batch *batch = c->held_first;
        struct mr_batch *next = batch->next;
        if (!mr_ring_push(c->out, batch)) {
            return MR_STEP_BLOCKED;
        }
        c->held_first = next;
        c->held--;
        step = MR_STEP_WORKED;
    }
    c->held_last = NULL;
    if (step == MR_STEP_WORKED) {
        mr_event_count_signal(&c->pipeline->sequencer.wake);
    }
    return step;
}

/* ---- the station ---- */

static void show(struct mr_claimer *c) {
    if (mr_claimer_now_ns(c) - c->shown_ns < SHOW_NS) {
        return;
    }
    c->shown_ns = mr_claimer_now_ns(c);
    (void)pthread_mutex_lock(&c->lock); /* cannot fail: not recursive, and initialized */
    for (uint32_t i = 0; i < c->pipeline->plan->config->store_count; i++) {
        struct mr_claimer_store *s = &c->stores[i];
        if (s->claims != NULL) {
            const char *reason = mr_watch_reason(mr_claims_watch(s->claims));
            (void)snprintf(s->reason, sizeof s->reason, "%s", reason); /* cut is fine */
            mr_claims_stats(s->claims, &s->stats);
        }
    }
    (void)pthread_mutex_unlock(&c->lock);
}

static bool has_any(const struct mr_claimer *c) {
    bool any = c->held_first != NULL;
    for (uint32_t i = 0; i < c->pipeline->plan->stream_count; i++) {
        const struct mr_claimer_stream *s = &c->streams[i];
        any = any || s->first != NULL || s->stuck != NULL || s->under_way_bytes > 0 ||
              (s->cursor_lsn != 0 && c->pipeline->plan->streams[i].claimed && (mr_claimer_is_open(c, i) || mr_claimer_is_local(c, i)));
    }
    return any;
}

bool mr_claimer_is_idle(const struct mr_claimer *c) {
    /* acquire: pairs with the releases in mr_claimer_step: in_hand is set before a batch leaves `in`, and cleared after
     * the last one went to `out` */
    return c->stores == NULL ||
           (mr_ring_len(c->in) == 0 && !atomic_load_explicit(&c->in_hand, memory_order_acquire) &&
            mr_ring_len(c->out) == 0);
}

enum mr_step mr_claimer_step(struct mr_claimer *c) {
    if (c->stores == NULL || !mr_pipeline_live(c->pipeline)) {
        return MR_STEP_IDLE;
    }
    atomic_store_explicit(&c->in_hand, true, memory_order_release);
    if (!c->begun) {
        take_over(c);
    }
    bool worked = take_new(c);
    for (uint32_t i = 0; i < c->pipeline->plan->config->store_count; i++) {
        if (c->stores[i].claims != NULL) {
            worked = mr_claims_step(c->stores[i].claims) || worked;
            mr_claimer_look_at(c, i);
            worked = take_all_decided(c, i) || worked;
            worked = mr_claimer_assert(c, i) || worked;
        }
    }
    worked = put_some(c) || worked;
    worked = mr_claimer_look(c) || worked;
    show(c);
    enum mr_step pushed = push_decided(c);
    atomic_store_explicit(&c->in_hand, has_any(c), memory_order_release);
    return worked ? MR_STEP_WORKED : pushed;
}

void mr_claimer_sleep(struct mr_claimer *c, uint32_t value) {
    struct mr_claims *busy = NULL;
    for (uint32_t i = 0; c->stores != NULL && i < c->pipeline->plan->config->store_count; i++) {
        struct mr_claims *claims = c->stores[i].claims;
        bool looks = c->stores[i].looking != NULL;
        bool waits = claims != NULL && (mr_claims_busy(claims) || c->stores[i].away_ns != 0 || looks);
        busy = waits ? claims : busy;
    }
    if (busy != NULL) {
        mr_claims_wait(busy, BUSY_NS);
    } else {
        mr_event_count_wait(&c->wake, value, c->stores == NULL ? UINT64_MAX : IDLE_NS);
    }
}

/* ---- life ---- */

static enum mr_status open_claims(struct mr_claimer *c, const struct mr_pipeline_options *options,
                                  uint32_t store, struct mr_error *error) {
    const struct mr_plan *plan = c->pipeline->plan;
    const struct mr_config_store *config = mr_claimer_store_config(c, store);
    struct mr_claims_stream streams[MR_STREAMS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        const struct mr_config_stream *s = &plan->config->streams[i];
        if (mr_claimer_is_of(c, i, store)) {
            enum mr_claim_layout layout =
                s->dedup.layout == MR_CONFIG_BUCKET ? MR_CLAIM_BUCKET : MR_CLAIM_KEY;
            c->streams[i].claimed_as = count;
            streams[count++] = (struct mr_claims_stream){s->name, layout, s->dedup.horizon_ms};
            uint64_t horizon_ms = (uint64_t)s->dedup.horizon_ms;
            struct mr_claimer_store *st = &c->stores[store];
            st->horizon_ms = horizon_ms > st->horizon_ms ? horizon_ms : st->horizon_ms;
        }
    }
    if (count == 0) {
        return MR_OK;
    }
    struct mr_claims_options claims = {
        .transport = options->transports[store],
        .clock = options->clock,
        .streams = streams,
        .stream_count = count,
        .cluster = plan->config->cluster.name,
        .node = plan->config->node.id,
        .incarnation = mr_log_incarnation(options->log),
        .key_hash = mr_hash_seed(&options->key, MR_BYTES("cluster")),
        .epoch = options->epochs == NULL ? (struct mr_epoch){{0}} : options->epochs[store],
        .assume_strict = config->assume_strict,
        .addresses = config->nodes,
        .address_count = config->node_count,
        .cluster_mode = config->cluster,
        .user = config->user,
        .password = config->password,
        .timeout_ns = (uint64_t)config->timeout_ms * 1000000,
        .recent_ms = config->recent_ms,
        .bytes_max = MR_CLAIMS_BYTES_MAX,
        .seed = options->seed,
    };
    c->stores[store].epoch = claims.epoch;
    c->stores[store].outage = true; /* until the watch has looked */
    c->stores[store].local_since_ms = INT64_MAX;
    c->stores[store].away_ns = mr_claimer_now_ns(c);
    atomic_init(&c->stores[store].state, MR_WATCH_AWAY);
    return mr_claims_open(&claims, &c->stores[store].claims, error);
}

static enum mr_status open_stream(struct mr_claimer *c, uint32_t stream) {
    struct mr_pipeline *p = c->pipeline;
    if (!p->plan->streams[stream].claimed) {
        return MR_OK;
    }
    atomic_init(&c->refuses[stream], mr_claimer_policy(c, stream) != MR_CONFIG_OUTAGE_HOLD);
    return mr_fetch_open(p->disk, p->log_dir, p->plan, &c->streams[stream].fetch);
}

static bool is_needed(const struct mr_plan *plan) {
    bool needed = false;
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        needed = needed || plan->streams[i].claimed;
    }
    return needed;
}

enum mr_status mr_claimer_open(struct mr_pipeline *pipeline, const struct mr_pipeline_options *options,
                               struct mr_error *error) {
    struct mr_claimer *c = &pipeline->claimer;
    const struct mr_plan *plan = pipeline->plan;
    c->pipeline = pipeline;
    mr_event_count_init(&c->wake);
    if (options->transports == NULL || !is_needed(plan)) {
        return MR_OK;
    }
    (void)pthread_mutex_init(&c->lock, NULL); /* cannot fail here: no attributes */
    c->remember = options->remember;
    c->remember_ctx = options->remember_ctx;
    c->in = mr_ring_open(MR_CLAIM_RING);
    c->out = mr_ring_open(MR_CLAIM_RING);
    c->asks = mr_ring_open(MR_ASK_RING);
    c->streams = mr_alloc_zero(plan->stream_count, sizeof *c->streams);
    c->refuses = mr_alloc_zero(plan->stream_count, sizeof *c->refuses);
    c->stores = mr_alloc_zero(plan->config->store_count, sizeof *c->stores);
    enum mr_status status = MR_OK;
    if (c->in == NULL || c->out == NULL || c->asks == NULL || c->streams == NULL || c->refuses == NULL || c->stores == NULL) {
        status = MR_NO_MEMORY;
    }
    for (uint32_t i = 0; status == MR_OK && i < plan->stream_count; i++) {
        status = open_stream(c, i);
    }
    if (status != MR_OK) {
        return mr_error_set(error, status, "out of memory opening the claimer");
    }
    for (uint32_t i = 0; status == MR_OK && i < plan->config->store_count; i++) {
        status = open_claims(c, options, i, error);
    }
    return status;
}

static void close_streams(struct mr_claimer *c) {
    for (uint32_t i = 0; c->streams != NULL && i < c->pipeline->plan->stream_count; i++) {
        mr_claimer_send_away_stream(c, &c->streams[i]);
        mr_fetch_close(c->streams[i].fetch);
    }
}

static void close_store(struct mr_claimer *c, struct mr_claimer_store *s) {
    if (s->claims == NULL) {
        return;
    }
    struct mr_claim *claim;
    while ((claim = mr_claims_withdraw(s->claims)) != NULL) {
        mr_claimer_send_away_work(c, claim->ctx);
    }
    mr_claims_close(s->claims);
    mr_assertion_forget(&s->assertion);
}

void mr_claimer_close(struct mr_claimer *c) {
    struct mr_batch *batch;
    if (c->pipeline == NULL) {
        return;
    }
    while (c->in != NULL && c->streams != NULL && (batch = mr_ring_pop(c->in)) != NULL) {
        mr_batch_refuse(batch, MR_REFUSAL_ABANDONED);
    }
    while (c->out != NULL && (batch = mr_ring_pop(c->out)) != NULL) {
        mr_batch_refuse(batch, MR_REFUSAL_ABANDONED);
    }
    while (c->held_first != NULL) {
        batch = c->held_first;
        c->held_first = batch->next;
        mr_batch_refuse(batch, MR_REFUSAL_ABANDONED);
    }
    for (uint32_t i = 0; c->stores != NULL && i < c->pipeline->plan->config->store_count; i++) {
        close_store(c, &c->stores[i]);
    }
    mr_claimer_close_asks(c);
    close_streams(c);
    if (c->in != NULL) {
        (void)pthread_mutex_destroy(&c->lock);
    }
    mr_ring_close(c->in);
    mr_ring_close(c->out);
    mr_ring_close(c->asks);
    mr_free(c->stores);
    mr_free(c->streams);
    mr_free(c->refuses);
}
