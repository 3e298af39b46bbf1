/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/queries.h"

#include "base/check.h"
#include "tests/sim/check.h"

#include <stdio.h>
#include <stdlib.h>

enum { COMPARED_MAX = 6 }; /* a seed: each reads the whole log */

struct sim_query {
    struct mr_ask ask;
    uint32_t id; /* SEEN */
    struct sim_advance advance; /* ADVANCE */
    bool answered;
    struct sim_query *next;
};

static void answered(struct mr_ask *ask, void *ctx) {
    struct sim_query *query = ctx;
    MR_ASSERT(&query->ask == ask && !query->answered);
    query->answered = true;
}

/* The fingerprint of an id, by decoding an event that has it. */
static struct mr_fingerprint fingerprint_of(struct sim_world *w, uint32_t stream, uint32_t id) {
    struct mr_buf body;
    mr_buf_init(&body, 4096);
    mr_buf_printf(&body, "{\"id\":\"e%u\",\"ts\":1700000000000,\"key\":\"k\",\"value\":0}\n", id);
    (void)mr_buf_reserve(&body, MR_PADDING);
    struct mr_batch *batch = NULL;
    struct mr_error error;
    enum mr_status status = mr_decode(w->decoder, w->data.plan->streams[stream].schema, MR_FORMAT_NDJSON,
                                      &body, &batch, &error);
    MR_ASSERT(status == MR_OK && batch->order_count == 1);
    struct mr_fingerprint fp = batch->fps[0];
    mr_batch_close(batch);
    return fp;
}

bool sim_advance_was_sent(const struct sim_world *w, const struct sim_advance *advance) {
    for (uint32_t i = 0; i < w->advance_count; i++) {
        const struct sim_advance *a = &w->advances[i];
        if (a->stream == advance->stream && a->source == advance->source && a->to_ms == advance->to_ms) {
            return true;
        }
    }
    return false;
}

/* Mostly about where events are, now and then further ahead than may be. */
static void make_advance(struct sim_world *w, struct sim_query *query) {
    struct sim_random *r = &w->random;
    struct sim_advance *a = &w->advances[w->advance_count++];
    a->stream = (uint32_t)sim_below(r, w->settings.streams);
    a->source = w->settings.stream[a->stream].by_source ? (uint32_t)sim_below(r, SIM_SOURCES + 1) : SIM_SOURCES;
    a->to_ms = w->clock.wall_ms - (int64_t)sim_below(r, 20000) + (sim_one_in(r, 8) ? 20000 : 0);
    query->ask.kind = MR_ASK_ADVANCE;
    query->ask.stream = a->stream;
    query->ask.advance_ms = a->to_ms;
    query->ask.source = a->source == SIM_SOURCES ? mr_bytes_of(NULL, 0) : mr_bytes_text(sim_source_names[a->source]);
    query->advance = *a;
}

/* What was answered is in the log, and holds. */
static void check_advance(struct sim_world *w, const struct sim_query *query) {
    const struct mr_ask *ask = &query->ask;
    bool refused = ask->status == MR_LIMIT || ask->status == MR_NO_SPACE || ask->status == MR_IO ||
                   ask->status == MR_NO_MEMORY;
    if (ask->status != MR_OK && !refused) {
        SIM_FAILS("a watermark was refused: %s", mr_status_text(ask->status));
    }
    if (ask->status == MR_OK && query->advance.source == SIM_SOURCES && ask->advance_ms < query->advance.to_ms) {
        SIM_FAILS("a watermark is at %lld after it was moved to %lld", (long long)ask->advance_ms,
                  (long long)query->advance.to_ms);
    }
    if (ask->status == MR_OK && ask->advance_ms > w->floor.watermark_ms[ask->stream]) {
        w->floor.watermark_ms[ask->stream] = ask->advance_ms; /* it does not go back, also over a crash */
    }
}

static void make_question(struct sim_world *w, struct sim_query *query) {
    struct sim_random *r = &w->random;
    query->ask.done = answered;
    query->ask.ctx = query;
    bool may_advance = w->settings.advances && w->advance_count < SIM_ADVANCES_MAX && mr_pipeline_live(w->pipeline);
    if (may_advance && sim_one_in(r, 3)) {
        make_advance(w, query);
        return;
    }
    switch (sim_below(r, 4)) {
    case 0:
        query->ask.kind = MR_ASK_FLUSH;
        break;
    case 1:
        query->ask.kind = MR_ASK_SCAN;
        query->ask.scan = (struct mr_scan){.rule = (uint32_t)(uint32_t)sim_below(r, w->data.plan->rule_count),
                                           .from_ms = INT64_MIN,
                                           .to_ms = INT64_MAX,
                                           .state = MR_SCAN_ALL,
                                           .order = MR_SCAN_ORDER_WINDOW,
                                           .limit = UINT32_MAX};
        break;
    default:
        query->ask.kind = MR_ASK_SEEN;
        query->id = w->next_id == 0 ? 0 : (uint32_t)sim_below(r, w->next_id);
        query->ask.stream = (uint32_t)sim_below(r, w->settings.streams);
        query->ask.fp = fingerprint_of(w, query->ask.stream, query->id);
        break;
    }
}

void sim_queries_send(struct sim_world *w, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct sim_query *query = calloc(1, sizeof *query);
        MR_ASSERT(query != NULL);
        make_question(w, query);
        if (!mr_pipeline_ask(w->pipeline, &query->ask)) {
            sim_hit(w, SIM_PROBE_ASK_REFUSED);
            free(query);
            return;
        }
        query->next = w->queries;
        w->queries = query;
    }
}

/* An answer may say that there was no memory for it. */
static bool can_compare(const struct sim_query *query) {
    bool whole = query->ask.kind == MR_ASK_SCAN || query->ask.kind == MR_ASK_SEEN;
    for (uint32_t i = 0; i < MR_SHARDS_MAX; i++) {
        whole = whole && query->ask.results[i].status != MR_NO_MEMORY;
    }
    return whole;
}

static void compare(struct sim_world *w, struct sim_query *query) {
    if (!can_compare(query) || w->compared == COMPARED_MAX || !sim_one_in(&w->random, 4)) {
        return;
    }
    w->compared++;
    struct sim_model *m = malloc(sizeof *m);
    MR_ASSERT(m != NULL);
    sim_model_open(w, query->ask.seq, m);
    bool bounded = query->ask.kind == MR_ASK_SCAN && m->settings->groups_max[query->ask.scan.rule] > 0;
    if (!m->unsure) {
        sim_check_answers(m);
    }
    if (m->unsure || bounded || m->settings != &w->versions[w->version_count - 1].settings) {
        /* which groups had room is not known; or asked before the log had come to where the configuration changed */
    } else if (query->ask.kind == MR_ASK_SCAN) {
        sim_check_scan(m, &query->ask);
    } else {
        sim_check_seen(m, &query->ask, query->id);
    }
    sim_model_close(m);
    free(m);
    sim_hit(w, SIM_PROBE_QUERY);
}

static void drop(struct sim_world *w, struct sim_query *query) {
    w->probes[SIM_PROBE_ASK_CLOSED] += query->ask.closed;
    for (uint32_t i = 0; query->ask.kind == MR_ASK_SCAN && i < MR_SHARDS_MAX; i++) {
        mr_buf_finish(&query->ask.results[i].rows);
    }
    free(query);
}

void sim_queries_look(struct sim_world *w) {
    for (struct sim_query **link = &w->queries; *link != NULL;) {
        struct sim_query *query = *link;
        if (!query->answered) {
            link = &query->next;
            continue;
        }
        *link = query->next;
        if (!query->ask.closed && query->ask.kind == MR_ASK_ADVANCE) {
            check_advance(w, query);
        } else if (!query->ask.closed) {
            compare(w, query);
        }
        drop(w, query);
    }
}

void sim_queries_reclaim(struct sim_world *w, bool failed) {
    while (w->queries != NULL) {
        struct sim_query *query = w->queries;
        if (!query->answered && !failed) {
            SIM_FAILS("a closed pipeline kept a question");
        }
        w->queries = query->next;
        drop(w, query);
    }
}
