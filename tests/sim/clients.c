/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/clients.h"

#include "base/check.h"
#include "base/hash.h"
#include "tests/sim/journal.h"
#include "tests/sim/redrives.h"

#include <stdio.h>
#include <stdlib.h>

enum { SILENCE_STEPS = 800 };

/* A batch that is the pipeline's. */
struct sim_sent {
    struct sim_world *world;
    uint32_t request;
    struct mr_batch *batch;
    struct sim_sent *next;
    struct sim_sent **link; /* what points here */
};

/* ---- requests ---- */

/* Now and then all but the first are silent. */
static uint32_t choose_source(struct sim_world *w) {
    bool silence = w->settings.silences && w->step / SILENCE_STEPS % 3 == 1;
    return silence ? 0 : (uint32_t)sim_below(&w->random, SIM_SOURCES);
}

static struct sim_event make_event(struct sim_world *w, uint32_t stream) {
    struct sim_random *r = &w->random;
    bool again = w->next_id > 0 && sim_one_in(r, 5);
    struct sim_event e = {
        .id = again ? (uint32_t)sim_below(r, w->next_id) : w->next_id++,
        .ts_ms = w->clock.wall_ms - (int64_t)sim_below(r, 4000) - (stream == 1 ? w->settings.lag_ms : 0),
        .key = (uint32_t)sim_below(r, w->settings.keys),
        .value = (int32_t)sim_below(r, 2000) - 1000,
        .source = choose_source(w),
        .broken = sim_one_in(r, 40),
    };
    if (sim_one_in(r, 12)) {
        e.ts_ms -= (int64_t)sim_below(r, 150000); /* late */
    }
    if (sim_one_in(r, 60)) {
        e.ts_ms += 3600 * 1000; /* far ahead */
    }
    return e;
}

static void write_body(struct sim_request *request) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    for (uint32_t i = 0; i < request->count; i++) {
        const struct sim_event *e = &request->events[i];
        mr_buf_printf(&body, "{\"id\":\"e%u\",\"ts\":%lld,\"key\":\"k%u\",\"value\":%d,\"tag\":\"t%u\","
                      "\"src\":\"%s\"%s\n", e->id, (long long)e->ts_ms, e->key, e->value, sim_event_tag(e),
                      sim_source_names[e->source], e->broken ? "" : "}");
    }
    MR_ASSERT(!body.failed);
    request->body = malloc(body.len);
    MR_ASSERT(request->body != NULL);
    memcpy(request->body, body.ptr, body.len);
    request->body_len = (uint32_t)body.len;
    request->body_hash = mr_checksum(mr_buf_bytes(&body));
    mr_buf_finish(&body);
}

static void make_request(struct sim_world *w, struct sim_request *request) {
    const struct sim_settings *s = &w->settings;
    bool silence = s->silences && w->step / SILENCE_STEPS % 2 == 1;
    request->count = 1 + (uint32_t)sim_below(&w->random, SIM_EVENTS_MAX);
    request->stream = s->streams > 1 && !silence && sim_one_in(&w->random, s->second_one_in);
    for (uint32_t i = 0; i < request->count; i++) {
        request->events[i] = make_event(w, request->stream);
    }
    write_body(request);
}

const struct sim_request *sim_clients_find(const struct sim_world *w, struct mr_bytes body) {
    uint64_t hash = mr_checksum(body);
    for (uint32_t i = 0; i < w->settings.requests; i++) {
        const struct sim_request *request = &w->requests[i];
        if (request->count > 0 && request->body_hash == hash &&
            mr_bytes_equal(body, mr_bytes_of(request->body, request->body_len))) {
            return request;
        }
    }
    return NULL;
}

/* Two requests may have an equal event: whichever it is, it is the same. */
const struct sim_request *sim_clients_find_event(const struct sim_world *w, struct mr_bytes line, uint32_t *ret_index) {
    for (uint32_t i = 0; i < w->settings.requests; i++) {
        const struct sim_request *request = &w->requests[i];
        const uint8_t *at = request->body;
        for (uint32_t k = 0; k < request->count; k++) {
            const uint8_t *end = memchr(at, '\n', (size_t)(request->body + request->body_len - at));
            MR_ASSERT(end != NULL);
            if (mr_bytes_equal(line, mr_bytes_of(at, (size_t)(end - at)))) {
                *ret_index = k;
                return request;
            }
            at = end + 1;
        }
    }
    return NULL;
}

void sim_clients_finish(struct sim_world *w) {
    for (uint32_t i = 0; i < w->settings.requests; i++) {
        free(w->requests[i].body);
    }
    free(w->answers);
}

/* ---- answers ---- */

/* Each event ends in exactly one state, and rejected are those that are not JSON. */
static void check_answer(const struct sim_request *request, const struct mr_batch *batch) {
    if (batch->count != request->count || batch->lsn == 0) {
        SIM_FAILS("an answer for %u events to a request of %u", batch->count, request->count);
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        uint8_t verdict = batch->verdicts[i];
        bool known = verdict == 'A' || verdict == 'D' || verdict == 'L' || verdict == 'R';
        if (!known || (verdict == 'R') != request->events[i].broken) {
            SIM_FAILS("event e%u got the verdict %02x", request->events[i].id, verdict);
        }
    }
}

static void keep_answer(struct sim_world *w, const struct mr_batch *batch, uint32_t request) {
    check_answer(&w->requests[request], batch);
    if (w->answer_count == w->answer_cap) {
        w->answer_cap = w->answer_cap == 0 ? 256 : w->answer_cap * 2;
        w->answers = realloc(w->answers, w->answer_cap * sizeof *w->answers);
        MR_ASSERT(w->answers != NULL);
    }
    struct sim_answer *answer = &w->answers[w->answer_count++];
    *answer = (struct sim_answer){.request = request, .lsn = batch->lsn};
    memcpy(answer->verdicts, batch->verdicts, batch->count);
    sim_trace(w, mr_checksum(mr_bytes_of(batch->verdicts, batch->count)) + batch->lsn);
    if (w->full_refused && w->full_until == 0) {
        w->full_refused = false;
        w->probes[SIM_PROBE_DISK_FULL] += w->full_restarts == w->restarts;
    }
}

/* A shard can only be full if all live ids and all on the way, were they all its own, are more than it takes. */
static void check_ids_full(struct sim_world *w, uint32_t stream) {
    struct mr_pipeline_stats pipeline;
    struct mr_stream_stats stats;
    mr_pipeline_stats(w->pipeline, &pipeline);
    mr_pipeline_stream_stats(w->pipeline, stream, &stats);
    if (pipeline.processed_seq != pipeline.last_seq) {
        return; /* replayed events may be on the way as well */
    }
    uint64_t coming = sim_redrives_under_way(w, stream);
    for (const struct sim_sent *sent = w->sent; sent != NULL; sent = sent->next) {
        coming += sent->batch->stream == stream ? sent->batch->count : 0;
    }
    if (stats.dedup_ids + coming <= w->data.plan->streams[stream].dedup.ids_max) {
        SIM_FAILS("refused for want of room for ids, with %llu live and %llu coming",
                  (unsigned long long)stats.dedup_ids, (unsigned long long)coming);
    }
}

static void keep_refusal(struct sim_world *w, enum mr_refusal refusal, struct sim_request *request) {
    w->refusals++;
    if (refusal == MR_REFUSAL_IDS_FULL) {
        check_ids_full(w, request->stream);
        request->wait_until_ns = w->clock.mono_ns + sim_below(&w->random, 2000) * 1000000;
    }
    sim_trace(w, refusal);
    w->probes[SIM_PROBE_REFUSED_IDS] += refusal == MR_REFUSAL_IDS_FULL;
    w->probes[SIM_PROBE_REFUSED_DISK] += refusal == MR_REFUSAL_DISK_FULL;
    w->probes[SIM_PROBE_REFUSED_LOG] += refusal == MR_REFUSAL_LOG_FAILED;
    w->full_refused = w->full_refused || (w->full_until != 0 && refusal == MR_REFUSAL_DISK_FULL);
}

/* The batch is the client's again. */
static void finish(struct sim_sent *sent) {
    struct sim_request *request = &sent->world->requests[sent->request];
    MR_ASSERT(request->under_way > 0);
    request->under_way--;
    *sent->link = sent->next;
    if (sent->next != NULL) {
        sent->next->link = sent->link;
    }
    mr_batch_close(sent->batch);
    free(sent);
}

static void answered(struct mr_batch *batch, void *ctx) {
    struct sim_sent *sent = ctx;
    struct sim_world *w = sent->world;
    if (batch->refusal != MR_REFUSAL_NONE) {
        keep_refusal(w, batch->refusal, &w->requests[sent->request]);
    } else {
        keep_answer(w, batch, sent->request);
        bool lost = sim_settings_has(&w->settings, SIM_ANSWER_LOST) && sim_one_in(&w->random, 10);
        w->probes[SIM_PROBE_ANSWER_LOST] += lost;
        w->requests[sent->request].answered = !lost || w->requests[sent->request].answered;
    }
    finish(sent);
}

/* ---- sending ---- */

static struct mr_batch *decode(struct sim_world *w, const struct sim_request *request) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    (void)mr_buf_reserve(&body, request->body_len + MR_PADDING);
    mr_buf_append(&body, request->body, request->body_len);
    struct mr_batch *batch = NULL;
    struct mr_error error;
    enum mr_status status = mr_decode(w->decoder, w->data.plan->streams[request->stream].schema, MR_FORMAT_NDJSON,
                                      &body, &batch, &error);
    MR_ASSERT(status == MR_OK);
    return batch;
}

static void send_request(struct sim_world *w, uint32_t i) {
    struct sim_request *request = &w->requests[i];
    if (request->count == 0) {
        make_request(w, request);
    }
    struct mr_batch *batch = decode(w, request);
    struct sim_sent *sent = malloc(sizeof *sent);
    MR_ASSERT(sent != NULL);
    *sent = (struct sim_sent){w, i, batch, w->sent, &w->sent};
    if (sent->next != NULL) {
        sent->next->link = &sent->next;
    }
    w->sent = sent;
    batch->stream = request->stream;
    batch->done = answered;
    batch->ctx = sent;
    request->under_way++;
    if (!mr_pipeline_submit(w->pipeline, batch)) {
        finish(sent);
    }
}

/* Requests come one after the other over the whole run, so that no fault meets an idle node. */
static uint32_t choose_request(struct sim_world *w) {
    uint64_t come = 1 + (uint64_t)w->settings.requests * w->step / w->settings.steps;
    uint32_t count = come < w->settings.requests ? (uint32_t)come : w->settings.requests;
    uint32_t newest = count < 8 || sim_one_in(&w->random, 2) ? count : 8;
    return count - 1 - (uint32_t)sim_below(&w->random, newest);
}

void sim_clients_step(struct sim_world *w) {
    uint32_t i = choose_request(w);
    struct sim_request *request = &w->requests[i];
    if (request->answered || request->wait_until_ns > w->clock.mono_ns ||
        !mr_pipeline_live(w->pipeline)) {
        return;
    }
    if (request->under_way > 0) {
        bool twice = sim_settings_has(&w->settings, SIM_REQUEST_TWICE) && request->under_way == 1 &&
                     sim_one_in(&w->random, 4);
        if (!twice) {
            return;
        }
        sim_hit(w, SIM_PROBE_REQUEST_TWICE);
    }
    send_request(w, i);
}

void sim_clients_burst(struct sim_world *w) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->settings.requests && mr_pipeline_live(w->pipeline); i++) {
        if (!w->requests[i].answered && w->requests[i].under_way == 0) {
            send_request(w, i);
            count++;
        }
    }
    w->probes[SIM_PROBE_BURST] += count >= 10;
}

bool sim_clients_all_answered(const struct sim_world *w) {
    for (uint32_t i = 0; i < w->settings.requests; i++) {
        if (!w->requests[i].answered) {
            return false;
        }
    }
    return true;
}

void sim_clients_reclaim(struct sim_world *w, bool failed) {
    if (w->sent != NULL && !failed) {
        SIM_FAILS("a closed pipeline kept a request");
    }
    while (w->sent != NULL) {
        finish(w->sent);
    }
}

/* ---- what power took ---- */

static bool holds(const struct mr_record *record, const struct sim_request *request) {
    return record->type == MR_RECORD_EVENTS &&
           mr_checksum(mr_bytes_of(record->payload.ptr + 16 + record->payload.ptr[3],
                                   record->payload.len - 16 - record->payload.ptr[3])) ==
               request->body_hash;
}

void sim_clients_forget_lost(struct sim_world *w) {
    bool *kept = calloc(w->answer_count + 1, sizeof *kept);
    MR_ASSERT(kept != NULL);
    struct sim_journal journal;
    struct mr_record record;
    sim_journal_open(w, UINT64_MAX, &journal);
    while (sim_journal_next(&journal, &record)) {
        for (uint32_t i = 0; i < w->answer_count; i++) {
            if (w->answers[i].lsn == record.lsn) {
                kept[i] = holds(&record, &w->requests[w->answers[i].request]);
            }
        }
    }
    sim_journal_close(&journal);
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->answer_count; i++) {
        if (kept[i]) {
            w->answers[count++] = w->answers[i];
            continue;
        }
        w->requests[w->answers[i].request].answered = false;
        sim_hit(w, SIM_PROBE_UNSYNCED_LOST);
    }
    w->answer_count = count;
    free(kept);
}

void sim_clients_forget_answers(struct sim_world *w, uint64_t lsn) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->answer_count; i++) {
        if (w->answers[i].lsn < lsn) {
            w->answers[count++] = w->answers[i];
        }
    }
    w->answer_count = count;
}
