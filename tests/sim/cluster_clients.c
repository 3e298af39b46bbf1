/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster_clients.h"

#include "base/check.h"
#include "base/hash.h"

#include <string.h>

enum { PAD = 120 }; /* so that a log has several segments */

/* A batch that is a pipeline's. */
struct cluster_sent {
    struct cluster_node *node;
    uint32_t request;
    uint32_t leg;
    struct mr_batch *batch;
    struct cluster_sent *next;
    struct cluster_sent **link; /* what points here */
};

/* ---- requests ---- */

static uint32_t make_id(struct cluster_world *w, uint32_t stream) {
    struct sim_random *r = &w->random;
    uint32_t id = w->next_id[stream]++;
    struct cluster_id *made = &w->ids[stream][id];
    *made = (struct cluster_id){
        .ts_ms = w->clock.wall_ms - (int64_t)sim_below(r, 4000),
        .key = (uint32_t)sim_below(r, w->settings.keys),
        .value = (int32_t)sim_below(r, 2000) - 1000,
    };
    if (sim_one_in(r, 12)) {
        made->ts_ms -= (int64_t)sim_below(r, 150000); /* late */
    }
    if (sim_one_in(r, 60)) {
        made->ts_ms += 3600 * 1000; /* far ahead */
    }
    return id;
}

static struct cluster_event make_event(struct cluster_world *w, uint32_t stream) {
    struct sim_random *r = &w->random;
    uint32_t known = w->next_id[stream];
    uint32_t id;
    if (known > 0 && sim_one_in(r, 4)) { /* recent ones more often */
        uint32_t back = sim_one_in(r, 2) ? (known < 40 ? known : 40) : known;
        id = known - 1 - (uint32_t)sim_below(r, back);
    } else {
        id = make_id(w, stream);
    }
    return (struct cluster_event){.id = id, .broken = sim_one_in(r, 40)};
}

static void write_body(const struct cluster_world *w, struct cluster_request *request) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    for (uint32_t i = 0; i < request->count; i++) {
        const struct cluster_event *e = &request->events[i];
        const struct cluster_id *id = &w->ids[request->stream][e->id];
        mr_buf_printf(&body, "{\"id\":\"s%u-%u\",\"ts\":%lld,\"key\":\"k%u\",\"value\":%d,\"pad\":\"%*s\"%s\n",
                      request->stream, e->id, (long long)id->ts_ms, id->key, id->value, PAD, "",
                      e->broken ? "" : "}");
    }
    MR_ASSERT(!body.failed);
    request->body = malloc(body.len);
    MR_ASSERT(request->body != NULL);
    memcpy(request->body, body.ptr, body.len);
    request->body_len = (uint32_t)body.len;
    request->body_hash = mr_checksum(mr_buf_bytes(&body));
    mr_buf_finish(&body);
}

static uint32_t another(struct cluster_world *w, uint32_t node) {
    return (node + 1 + (uint32_t)sim_below(&w->random, w->settings.nodes - 1)) % w->settings.nodes;
}

static void make_request(struct cluster_world *w, struct cluster_request *request) {
    struct sim_random *r = &w->random;
    request->stream = (uint32_t)sim_below(r, w->settings.streams);
    request->count = 1 + (uint32_t)sim_below(r, CLUSTER_EVENTS_MAX);
    for (uint32_t i = 0; i < request->count; i++) {
        request->events[i] = make_event(w, request->stream);
    }
    request->leg_count = 1 + sim_one_in(r, 2);
    request->legs[0].node = (uint32_t)sim_below(r, w->settings.nodes);
    request->legs[1].node = another(w, request->legs[0].node);
    write_body(w, request);
}

const struct cluster_request *cluster_clients_find(const struct cluster_world *w, struct mr_bytes body) {
    uint64_t hash = mr_checksum(body);
    for (uint32_t i = 0; i < w->settings.requests; i++) {
        const struct cluster_request *request = &w->requests[i];
        if (request->count > 0 && request->body_hash == hash &&
            mr_bytes_equal(body, mr_bytes_of(request->body, request->body_len))) {
            return request;
        }
    }
    return NULL;
}

void cluster_clients_finish(struct cluster_world *w) {
    for (uint32_t i = 0; i < w->settings.requests; i++) {
        free(w->requests[i].body);
    }
    free(w->answers);
}

/* ---- answers ---- */

/* Law L3: a 200 means decided, unless it says pending, which hold alone may. */
static void check_answer(const struct cluster_world *w, const struct cluster_request *request,
                         const struct mr_batch *batch) {
    const struct cluster_stream *stream = &w->settings.stream[request->stream];
    if (batch->count != request->count || batch->lsn == 0) {
        CLUSTER_FAILS("an answer for %u events to a request of %u", batch->count, request->count);
    }
    if (batch->pending && !(stream->claimed && stream->outage == MR_CONFIG_OUTAGE_HOLD)) {
        CLUSTER_FAILS("a request to s%u is pending, whose outage policy is not hold", request->stream);
    }
    for (uint32_t i = 0; i < batch->count && !batch->pending; i++) {
        uint8_t verdict = batch->verdicts[i];
        bool known = verdict == 'A' || verdict == 'D' || verdict == 'L' || verdict == 'R';
        if (!known || (verdict == 'R') != request->events[i].broken) {
            CLUSTER_FAILS("event s%u-%u got the verdict %02x", request->stream, request->events[i].id, verdict);
        }
    }
}

static void acknowledge(struct cluster_world *w, const struct cluster_request *request) {
    for (uint32_t i = 0; i < request->count; i++) {
        const struct cluster_event *e = &request->events[i];
        w->ids[request->stream][e->id].acknowledged |= !e->broken;
    }
}

static void keep_answer(struct cluster_world *w, const struct mr_batch *batch, const struct cluster_sent *sent) {
    const struct cluster_request *request = &w->requests[sent->request];
    check_answer(w, request, batch);
    acknowledge(w, request);
    if (w->answer_count == w->answer_cap) {
        w->answer_cap = w->answer_cap == 0 ? 256 : w->answer_cap * 2;
        w->answers = realloc(w->answers, w->answer_cap * sizeof *w->answers);
        MR_ASSERT(w->answers != NULL);
    }
    struct cluster_answer *answer = &w->answers[w->answer_count++];
    *answer = (struct cluster_answer){
        .request = sent->request, .node = sent->node->index, .lsn = batch->lsn, .pending = batch->pending};
    w->probes[CLUSTER_PROBE_PENDING] += batch->pending;
    if (!batch->pending) {
        memcpy(answer->verdicts, batch->verdicts, batch->count);
        cluster_trace(w, mr_checksum(mr_bytes_of(batch->verdicts, batch->count)));
    }
    cluster_trace(w, batch->lsn * CLUSTER_NODES_MAX + sent->node->index);
}

static void keep_refusal(struct cluster_world *w, enum mr_refusal refusal, struct cluster_leg *leg) {
    w->refusals++;
    cluster_trace(w, refusal);
    w->probes[CLUSTER_PROBE_REFUSED_AWAY] += refusal == MR_REFUSAL_STORE_AWAY;
    w->probes[CLUSTER_PROBE_REFUSED_UNDECIDED] += refusal == MR_REFUSAL_UNDECIDED;
    leg->wait_until_ns = w->clock.mono_ns + sim_below(&w->random, 1000) * 1000000;
}

/* The batch is the client's again. */
static void finish(struct cluster_sent *sent) {
    struct cluster_leg *leg = &sent->node->world->requests[sent->request].legs[sent->leg];
    MR_ASSERT(leg->under_way > 0);
    leg->under_way--;
    *sent->link = sent->next;
    if (sent->next != NULL) {
        sent->next->link = sent->link;
    }
    mr_batch_close(sent->batch);
    free(sent);
}

static void answered(struct mr_batch *batch, void *ctx) {
    struct cluster_sent *sent = ctx;
    struct cluster_world *w = sent->node->world;
    struct cluster_leg *leg = &w->requests[sent->request].legs[sent->leg];
    MR_ASSERT(batch == sent->batch);
    if (batch->refusal != MR_REFUSAL_NONE) {
        keep_refusal(w, batch->refusal, leg);
    } else {
        keep_answer(w, batch, sent);
        bool lost = cluster_settings_has(&w->settings, CLUSTER_ANSWER_LOST) && sim_one_in(&w->random, 8);
        w->probes[CLUSTER_PROBE_ANSWER_LOST] += lost;
        leg->answered = !lost || leg->answered;
    }
    finish(sent);
}

/* ---- sending ---- */

static struct mr_batch *decode(struct cluster_node *node, const struct cluster_request *request) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    (void)mr_buf_reserve(&body, request->body_len + MR_PADDING);
    mr_buf_append(&body, request->body, request->body_len);
    struct mr_batch *batch = NULL;
    struct mr_error error;
    enum mr_status status = mr_decode(node->world->decoder, node->data.plan->streams[request->stream].schema,
                                      MR_FORMAT_NDJSON, &body, &batch, &error);
    MR_ASSERT(status == MR_OK);
    return batch;
}

static void send_leg(struct cluster_world *w, uint32_t i, uint32_t k) {
    struct cluster_request *request = &w->requests[i];
    struct cluster_leg *leg = &request->legs[k];
    struct cluster_node *node = &w->nodes[leg->node];
    struct cluster_sent *sent = malloc(sizeof *sent);
    MR_ASSERT(sent != NULL);
    struct mr_batch *batch = decode(node, request);
    *sent = (struct cluster_sent){node, i, k, batch, node->sent, &node->sent};
    if (sent->next != NULL) {
        sent->next->link = &sent->next;
    }
    node->sent = sent;
    batch->stream = request->stream;
    batch->done = answered;
    batch->ctx = sent;
    leg->under_way++;
    if (!mr_pipeline_submit(node->pipeline, batch)) {
        finish(sent);
    }
}

static bool can_take(const struct cluster_node *node) {
    return node->pipeline != NULL && mr_pipeline_live(node->pipeline);
}

/* Requests come one after the other over the whole run, so that no fault meets idle nodes. */
static uint32_t come_so_far(const struct cluster_world *w) {
    uint64_t come = 1 + (uint64_t)w->settings.requests * w->step / w->settings.steps;
    return come < w->settings.requests ? (uint32_t)come : w->settings.requests;
}

static uint32_t choose_request(struct cluster_world *w) {
    uint32_t count = come_so_far(w);
    uint32_t newest = count < 8 || sim_one_in(&w->random, 2) ? count : 8;
    return count - 1 - (uint32_t)sim_below(&w->random, newest);
}

/* A client that does not hear tries again, there or, as a balancer would have it, elsewhere. */
void cluster_clients_step(struct cluster_world *w) {
    struct sim_random *r = &w->random;
    uint32_t i = choose_request(w);
    struct cluster_request *request = &w->requests[i];
    if (request->count == 0) {
        make_request(w, request);
    }
    uint32_t k = (uint32_t)sim_below(r, request->leg_count);
    struct cluster_leg *leg = &request->legs[k];
    if (leg->answered || leg->wait_until_ns > w->clock.mono_ns ||
        (leg->under_way > 0 && !(leg->under_way == 1 && sim_one_in(r, 20)))) {
        return;
    }
    bool moves = !can_take(&w->nodes[leg->node]) || leg->under_way > 0 || leg->wait_until_ns > 0;
    if (moves && sim_one_in(r, 4)) {
        leg->node = another(w, leg->node);
    }
    if (can_take(&w->nodes[leg->node])) {
        send_leg(w, i, k);
    }
}

void cluster_clients_burst(struct cluster_world *w, uint32_t node, uint32_t more, uint64_t wait_until_ns) {
    uint32_t count = 0;
    uint32_t come = come_so_far(w) + more;
    for (uint32_t i = 0; i < come && i < w->settings.requests && can_take(&w->nodes[node]); i++) {
        struct cluster_request *request = &w->requests[i];
        if (request->count == 0) {
            make_request(w, request);
        }
        if (!request->legs[0].answered && request->legs[0].under_way == 0) {
            request->legs[0].node = node;
            request->legs[1].node = another(w, node);
            request->legs[1].wait_until_ns = wait_until_ns;
            send_leg(w, i, 0);
            count++;
        }
    }
    w->probes[CLUSTER_PROBE_BURST] += count >= 10;
}

void cluster_clients_again(struct cluster_world *w, uint32_t request, uint32_t node) {
    struct cluster_leg *leg = &w->requests[request].legs[0];
    MR_ASSERT(leg->under_way == 0 && can_take(&w->nodes[node]));
    leg->node = node;
    leg->answered = false;
    leg->wait_until_ns = 0;
    send_leg(w, request, 0);
}

bool cluster_clients_all_answered(const struct cluster_world *w) {
    for (uint32_t i = 0; i < w->settings.requests; i++) {
        const struct cluster_request *request = &w->requests[i];
        for (uint32_t k = 0; k < request->leg_count; k++) {
            if (!request->legs[k].answered || request->legs[k].under_way > 0) {
                return false;
            }
        }
        if (request->count == 0) {
            return false;
        }
    }
    return true;
}

uint32_t cluster_clients_under_way(const struct cluster_node *node) {
    uint32_t count = 0;
    for (const struct cluster_sent *sent = node->sent; sent != NULL; sent = sent->next) {
        count += node->world->settings.stream[sent->batch->stream].claimed;
    }
    return count;
}

void cluster_clients_reclaim(struct cluster_node *node, bool failed) {
    if (node->sent != NULL && !failed) {
        CLUSTER_FAILS("a closed pipeline kept a request");
    }
    while (node->sent != NULL) {
        finish(node->sent);
    }
}
