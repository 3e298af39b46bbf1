/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Claimer, inside: what its files share. All of it is the claimer's thread alone. */
#include "base/check.h"
#include "pipeline/stations.h"

static inline uint64_t mr_claimer_now_ns(const struct mr_claimer *c) {
    return mr_clock_mono_ns(c->pipeline->clock);
}

static inline const struct mr_config_store *mr_claimer_store_config(const struct mr_claimer *c, uint32_t store) {
    return &c->pipeline->plan->config->stores[store];
}

static inline enum mr_config_outage mr_claimer_policy(const struct mr_claimer *c, uint32_t stream) {
    return c->pipeline->plan->config->streams[stream].dedup.outage;
}

static inline bool mr_claimer_store_is_local(const struct mr_claimer_store *s) {
    return atomic_load_explicit(&s->local, memory_order_relaxed);
}

static inline bool mr_claimer_is_local(const struct mr_claimer *c, uint32_t stream) {
    const struct mr_plan_stream *s = &c->pipeline->plan->streams[stream];
    return s->local && mr_claimer_store_is_local(&c->stores[s->store]);
}

static inline bool mr_claimer_is_of(const struct mr_claimer *c, uint32_t stream, uint32_t store) {
    const struct mr_plan_stream *s = &c->pipeline->plan->streams[stream];
    return s->claimed && s->store == store;
}

static inline bool mr_claimer_is_open(const struct mr_claimer *c, uint32_t stream) {
    const struct mr_claimer_store *s = &c->stores[c->pipeline->plan->streams[stream].store];
    return s->away_ns == 0 && !s->outage;
}

static inline void mr_claimer_no_memory(struct mr_claimer *c) {
    mr_pipeline_fail(c->pipeline, MR_NO_MEMORY, "out of memory in the claimer");
}

/* pipeline/claimer_store.c: is the store to be believed, and what happens to batches while it is not. */
/* Looks at the watch of the store: an outage begins or ends. */
void mr_claimer_look_at(struct mr_claimer *c, uint32_t store);
/* The batch goes away undecided; its record will be read from the log. */
void mr_claimer_send_away(struct mr_claimer *c, struct mr_batch *batch);
void mr_claimer_send_away_work(struct mr_claimer *c, struct mr_claim_work *work); /* which is closed */
/* And all that waits of the stream. */
void mr_claimer_send_away_stream(struct mr_claimer *c, struct mr_claimer_stream *s);
/* Behind those that are decided, in the order of the log. */
void mr_claimer_hold(struct mr_claimer *c, struct mr_batch *batch);
/* pipeline/claimer_look.c: takes questions and gives answers; returns whether there were any. */
bool mr_claimer_look(struct mr_claimer *c);
void mr_claimer_close_asks(struct mr_claimer *c); /* when the claims are closed: they are answered as such */
/* The store cannot be asked: it is decided by what this node has counted, in the shards. */
void mr_claimer_decide_here(struct mr_claimer *c, struct mr_batch *batch);
