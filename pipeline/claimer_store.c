/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claimer: whether the store is to be believed, and what happens to batches while it is not: they are sent away (the log
 * has them), or decided by this node alone.
 */
#include "base/alloc.h"
#include "base/report.h"
#include "pipeline/claimer_parts.h"

enum { FIRST_LOOK_S = 10 }; /* a store that nothing is known of yet is given so long before it is away */

bool mr_claimer_refuses(const struct mr_claimer *c, uint32_t stream) {
    return c->refuses != NULL && atomic_load_explicit(&c->refuses[stream], memory_order_relaxed);
}

/* ---- sent away ---- */

static void answer_undecided(struct mr_claimer *c, struct mr_batch *batch) {
    if (mr_claimer_policy(c, batch->stream) == MR_CONFIG_OUTAGE_HOLD) {
        batch->pending = true;
        batch->refusal = MR_REFUSAL_NONE;
        batch->done(batch, batch->ctx);
    } else {
        mr_batch_refuse(batch, MR_REFUSAL_UNDECIDED);
    }
    mr_counter_add(&c->shed, 1);
}

void mr_claimer_send_away(struct mr_claimer *c, struct mr_batch *batch) {
    struct mr_claimer_stream *s = &c->streams[batch->stream];
    if (s->cursor_lsn == 0 || batch->lsn < s->cursor_lsn) {
        s->cursor_lsn = batch->lsn;
    }
    s->shed_lsn = batch->lsn > s->shed_lsn ? batch->lsn : s->shed_lsn;
    answer_undecided(c, batch);
}

void mr_claimer_send_away_work(struct mr_claimer *c, struct mr_claim_work *work) {
    struct mr_batch *batch = work->batch;
    mr_claim_work_close(work);
    mr_claimer_send_away(c, batch);
}

void mr_claimer_hold(struct mr_claimer *c, struct mr_batch *batch) {
    batch->next = NULL;
    if (c->held_first == NULL) {
        c->held_first = batch;
    } else {
        c->held_last->next = batch;
    }
    c->held_last = batch;
    c->held++;
    c->decided++;
}

void mr_claimer_decide_here(struct mr_claimer *c, struct mr_batch *batch) {
    struct mr_claimer_store *s = &c->stores[c->pipeline->plan->streams[batch->stream].store];
    batch->taken = mr_alloc_zero(1, mr_verdicts_bits_len(batch->count));
    if (batch->taken == NULL) {
        mr_batch_refuse(batch, MR_REFUSAL_UNDECIDED);
        mr_claimer_no_memory(c);
        return;
    }
    batch->local = true;
    s->local_since_ms = batch->recorded_ms < s->local_since_ms ? batch->recorded_ms : s->local_since_ms;
    mr_claimer_hold(c, batch);
}

static void withdraw(struct mr_claimer *c, struct mr_claim_work *work) {
    struct mr_batch *batch = work->batch;
    if (mr_claimer_is_local(c, batch->stream)) {
        mr_claim_work_close(work);
        mr_claimer_decide_here(c, batch);
    } else {
        mr_claimer_send_away_work(c, work);
    }
}

void mr_claimer_send_away_stream(struct mr_claimer *c, struct mr_claimer_stream *s) {
    if (s->stuck != NULL) {
        mr_claimer_send_away_work(c, s->stuck);
        s->stuck = NULL;
    }
    while (s->first != NULL) {
        struct mr_batch *batch = s->first;
        s->first = batch->next;
        mr_claimer_send_away(c, batch);
    }
    s->last = NULL;
    s->under_way_bytes = 0;
}

void mr_claimer_shed(struct mr_claimer *c, uint32_t store) {
    struct mr_claim *claim;
    while ((claim = mr_claims_withdraw(c->stores[store].claims)) != NULL) {
        withdraw(c, claim->ctx);
    }
    for (uint32_t i = 0; i < c->pipeline->plan->stream_count; i++) {
        struct mr_claimer_stream *s = &c->streams[i];
        if (mr_claimer_is_local(c, i)) {
            struct mr_claim_work *stuck = s->stuck;
            s->stuck = NULL;
            s->under_way_bytes = 0;
            if (stuck != NULL) {
                withdraw(c, stuck);
            }
        } else if (mr_claimer_is_of(c, i, store)) {
            mr_claimer_send_away_stream(c, s);
        }
    }
}

/* ---- is the store to be believed ---- */

static bool may_decide_here(const struct mr_claimer *c, uint32_t store) {
    const struct mr_claimer_store *s = &c->stores[store];
    uint64_t patience_ns = s->was_strict ? 0 : (uint64_t)FIRST_LOOK_S * 1000000000;
    return mr_watch_state(mr_claims_watch(s->claims)) != MR_WATCH_MISMATCH && mr_claimer_now_ns(c) - s->away_ns >= patience_ns;
}

static void set_local(struct mr_claimer *c, uint32_t store, bool local) {
    struct mr_claimer_store *s = &c->stores[store];
    atomic_store_explicit(&s->local, local, memory_order_relaxed);
    for (uint32_t i = 0; i < c->pipeline->plan->stream_count; i++) {
        enum mr_config_outage policy = mr_claimer_policy(c, i);
        bool takes = policy == MR_CONFIG_OUTAGE_HOLD || (policy == MR_CONFIG_OUTAGE_LOCAL && local);
        if (mr_claimer_is_of(c, i, store)) {
            atomic_store_explicit(&c->refuses[i], s->outage && !takes, memory_order_relaxed);
        }
    }
}

static void set_outage(struct mr_claimer *c, uint32_t store, bool outage) {
    struct mr_claimer_store *s = &c->stores[store];
    struct mr_bytes name = mr_claimer_store_config(c, store)->name;
    s->outage = outage;
    set_local(c, store, outage && may_decide_here(c, store));
    if (outage) {
        char quoted[MR_ERROR_TEXT_MAX];
        const char *reason = mr_watch_reason(mr_claims_watch(s->claims));
        mr_report(MR_LEVEL_ERROR, "store_away", "store=%.*s reason=%s", (int)name.len,
                  (const char *)name.ptr,
                  mr_report_value(reason[0] == 0 ? "no verdicts come" : reason, quoted, sizeof quoted));
        mr_claimer_shed(c, store);
    } else {
        mr_report(MR_LEVEL_INFO, "store_strict", "store=%.*s", (int)name.len, (const char *)name.ptr);
    }
}

/* The data directory must know the epoch before a claim in it counts. */
static bool remember_epoch(struct mr_claimer *c, uint32_t store) {
    struct mr_claimer_store *s = &c->stores[store];
    struct mr_epoch epoch = mr_watch_epoch(mr_claims_watch(s->claims));
    if (memcmp(&epoch, &s->epoch, sizeof epoch) == 0 || c->remember == NULL) {
        return true;
    }
    if (c->remember(c->remember_ctx, store, &epoch) != MR_OK) {
        return false; /* the disk: again at the next step */
    }
    s->epoch = epoch;
    return true;
}

void mr_claimer_look_at(struct mr_claimer *c, uint32_t store) {
    struct mr_claimer_store *s = &c->stores[store];
    enum mr_watch_state state = mr_watch_state(mr_claims_watch(s->claims));
    uint64_t patience_ns = (uint64_t)mr_claimer_store_config(c, store)->timeout_ms * 1000000;
    s->progress_ns = mr_claims_busy(s->claims) ? s->progress_ns : mr_claimer_now_ns(c);
    if (state == MR_WATCH_STRICT && remember_epoch(c, store)) {
        s->away_ns = 0;
        s->was_strict = true;
        if (s->outage) {
            set_outage(c, store, false);
        } else if (mr_claimer_now_ns(c) - s->progress_ns >= 2 * patience_ns) {
            /* It seems fine each time it is looked at, and refuses all the same. */
            set_outage(c, store, true);
            s->progress_ns = mr_claimer_now_ns(c);
        }
        atomic_store_explicit(&s->state, state, memory_order_relaxed);
        return;
    }
    /* STRICT, and the epoch not on disk: nothing is taken yet */
    atomic_store_explicit(&s->state, state == MR_WATCH_STRICT ? MR_WATCH_AWAY : state, memory_order_relaxed);
    if (s->away_ns == 0) {
        s->away_ns = mr_claimer_now_ns(c);
    }
    if (!s->outage && mr_claimer_now_ns(c) - s->away_ns >= patience_ns) {
        set_outage(c, store, true);
    } else if (s->outage && mr_claimer_store_is_local(s) != may_decide_here(c, store)) {
        set_local(c, store, !mr_claimer_store_is_local(s));
        mr_claimer_shed(c, store);
    }
}
