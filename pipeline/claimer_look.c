/* SPDX-License-Identifier: Apache-2.0 */
/* Claimer: whether an id was claimed, by any node: questions that go past the stations. */
#include "pipeline/claimer_parts.h"

static void list_in(struct mr_claimer_store *s, struct mr_ask *ask) {
    ask->previous = NULL;
    ask->next = s->looking;
    if (s->looking != NULL) {
        s->looking->previous = ask;
    }
    s->looking = ask;
}

static void take_out(struct mr_claimer_store *s, struct mr_ask *ask) {
    if (ask->previous != NULL) {
        ask->previous->next = ask->next;
    } else {
        s->looking = ask->next;
    }
    if (ask->next != NULL) {
        ask->next->previous = ask->previous;
    }
}

static void look(struct mr_claimer *c, struct mr_ask *ask) {
    struct mr_claimer_store *s = &c->stores[c->pipeline->plan->streams[ask->stream].store];
    ask->look = (struct mr_claim_look){
        .stream = c->streams[ask->stream].claimed_as,
        .id = ask->fp,
        .now_ms = mr_clock_wall_ms(c->pipeline->clock),
        .ctx = ask,
    };
    if (mr_claims_look(s->claims, &ask->look)) {
        list_in(s, ask);
    } else {
        ask->status = MR_BUSY;
        ask->done(ask, ask->ctx);
    }
}

static void answer(struct mr_claimer_store *s, const struct mr_claim_look *look) {
    struct mr_ask *ask = look->ctx;
    take_out(s, ask);
    ask->status = look->status;
    ask->seen = look->seen;
    ask->seen_from_ms = look->from_ms;
    ask->seen_to_ms = look->to_ms;
    ask->seen_until_ms = look->until_ms;
    ask->done(ask, ask->ctx);
}

bool mr_claimer_look(struct mr_claimer *c) {
    bool worked = false;
    struct mr_ask *ask;
    while ((ask = mr_ring_pop(c->asks)) != NULL) {
        look(c, ask);
        worked = true;
    }
    for (uint32_t i = 0; i < c->pipeline->plan->config->store_count; i++) {
        struct mr_claimer_store *s = &c->stores[i];
        const struct mr_claim_look *looked;
        while (s->claims != NULL && (looked = mr_claims_looked(s->claims)) != NULL) {
            answer(s, looked);
            worked = true;
        }
    }
    return worked;
}

static void close_ask(struct mr_ask *ask) {
    ask->closed = true;
    ask->done(ask, ask->ctx);
}

void mr_claimer_close_asks(struct mr_claimer *c) {
    struct mr_ask *ask;
    while (c->asks != NULL && (ask = mr_ring_pop(c->asks)) != NULL) {
        close_ask(ask);
    }
    for (uint32_t i = 0; c->stores != NULL && i < c->pipeline->plan->config->store_count; i++) {
        struct mr_claimer_store *s = &c->stores[i];
        while (s->looking != NULL) {
            ask = s->looking;
            s->looking = ask->next;
            close_ask(ask);
        }
    }
}
