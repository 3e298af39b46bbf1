/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/world.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/report.h"

#include <stdio.h>
#include <stdlib.h>

enum { QUIET_STEPS = 200, DRAIN_STEPS_MAX = 2000000 };

static const int64_t epoch_ms = INT64_C(1700000000000);

void sim_trace(struct sim_world *w, uint64_t value) {
    w->trace = (w->trace ^ value) * 0x100000001b3u;
    w->trace ^= w->trace >> 29;
}

/* ---- clock ---- */

static int64_t wall_ms(struct mr_clock *clock) {
    return ((struct sim_clock *)(void *)clock)->wall_ms;
}

static uint64_t mono_ns(struct mr_clock *clock) {
    return ((struct sim_clock *)(void *)clock)->mono_ns;
}

static void pass_time(struct sim_world *w, uint64_t ms) {
    w->clock.wall_ms += (int64_t)ms;
    w->clock.mono_ns += ms * 1000000;
}

/* ---- settings ---- */

static int64_t choose(struct sim_random *r, const int64_t *from, uint32_t count) {
    return from[sim_below(r, count)];
}

static void choose_settings(struct sim_world *w) {
    static const int64_t windows[] = {1000, 2000, 10000, 60000};
    static const int64_t lateness[] = {0, 1000, 5000, 100000};
    static const int64_t disorder[] = {0, 500, 3000, 30000};
    struct sim_random *r = &w->random;
    struct sim_settings *s = &w->settings;
    s->shards = 1 + (uint32_t)sim_below(r, 4);
    for (uint32_t i = 0; i < SIM_RULES; i++) {
        s->window_ms[i] = choose(r, windows, 4);
        s->lateness_ms[i] = choose(r, lateness, 4);
    }
    s->out_of_orderness_ms = choose(r, disorder, 4);
    s->idle_timeout_ms = sim_one_in(r, 2) ? INT64_MAX : 2000 + (int64_t)sim_below(r, 20000);
    s->max_future_ms = 5000;
    s->segment_bytes = 2 << 20;
    s->keys = 1 + (uint32_t)sim_below(r, 20);
    s->requests = 20 + (uint32_t)sim_below(r, SIM_REQUESTS_MAX - 20);
    s->crash_one_in = sim_one_in(r, 4) ? 0 : 200 + (uint32_t)sim_below(r, 3000);
    s->fault_one_in = sim_one_in(r, 3) ? 0 : 100 + (uint32_t)sim_below(r, 2000);
}

static void make_config(struct sim_world *w) {
    const struct sim_settings *s = &w->settings;
    struct mr_buf text;
    mr_buf_init(&text, 1 << 16);
    mr_buf_printf(&text,
                  "node: { data_dir: data, shards: %u }\n"
                  "limits: { body: 64KiB, inflated: 64KiB, event: 4KiB, batch_events: 1000, in_flight: 1MiB }\n"
                  "log: { segment: %u, reserve: 0 }\n"
                  "streams:\n  s:\n    id: id\n    time: { field: ts, format: ms }\n"
                  "    dedup: { mode: exact, horizon: 24h, ids: 20000 }\n"
                  "    watermark: { out_of_orderness: %lldms, max_future: %lldms, idle_timeout: ",
                  s->shards, s->segment_bytes, (long long)s->out_of_orderness_ms,
                  (long long)s->max_future_ms);
    if (s->idle_timeout_ms == INT64_MAX) {
        mr_buf_append_text(&text, "off }\nrules:\n");
    } else {
        mr_buf_printf(&text, "%lldms }\nrules:\n", (long long)s->idle_timeout_ms);
    }
    for (uint32_t i = 0; i < SIM_RULES; i++) {
        mr_buf_printf(&text,
                      "  r%u:\n    from: s\n    group_by: [key]\n"
                      "    window: { type: tumbling, size: %lldms }\n    allowed_lateness: %lldms\n"
                      "    metrics: { n: count, total: { sum: value } }\n",
                      i, (long long)s->window_ms[i], (long long)s->lateness_ms[i]);
    }
    char *environment[] = {NULL};
    struct mr_error error;
    if (mr_config_parse(mr_buf_bytes(&text), "sim", environment, &w->config, &error) != MR_OK) {
        (void)fprintf(stderr, "%s\n%.*s", error.text, (int)text.len, (char *)text.ptr);
        abort();
    }
    mr_buf_finish(&text);
}

/* ---- life ---- */

static bool start(struct sim_world *w) {
    struct mr_error error;
    if (mr_data_open(virtual_disk_disk(w->disk), &w->clock.base, w->config, &w->data, &error) !=
        MR_OK) {
        if (error.status == MR_CORRUPT || error.status == MR_MISMATCH) {
            (void)fprintf(stderr, "refused to start: %s\n", error.text);
            abort(); /* a crash is never corruption */
        }
        return false;
    }
    struct mr_pipeline_options options = {
        .plan = w->data.plan,
        .clock = &w->clock.base,
        .log = w->data.log,
        .dead = w->data.dead,
        .replay = w->data.replay,
        .dead_seq = w->data.dead_seq,
        .results = w->results,
    };
    w->data.replay = NULL;
    if (mr_pipeline_open(&options, &w->pipeline, &error) != MR_OK) {
        w->pipeline = NULL;
        mr_data_close(&w->data);
        return false;
    }
    w->restarts++;
    return true;
}

static void stop(struct sim_world *w) {
    mr_pipeline_close(w->pipeline);
    w->pipeline = NULL;
    mr_data_close(&w->data);
}

void sim_world_crash(struct sim_world *w, bool power) {
    w->crashes++;
    sim_trace(w, 0xc0 + power);
    stop(w);
    mr_memory_results_crash(w->results);
    for (;;) {
        if (power || !virtual_disk_power(w->disk)) {
            virtual_disk_crash(w->disk);
        }
        if (power && sim_one_in(&w->random, 8)) {
            virtual_disk_cut_power(w->disk, 1 + sim_below(&w->random, 40)); /* in recovery */
        }
        if (start(w)) {
            return;
        }
        pass_time(w, 1000);
        virtual_disk_crash(w->disk);
    }
}

void sim_world_open(struct sim_world *w, uint64_t seed) {
    *w = (struct sim_world){.random = {seed * 0x9e3779b97f4a7c15u + 1}};
    mr_report_configure(-1, MR_LEVEL_ERROR, NULL);
    choose_settings(w);
    w->clock = (struct sim_clock){{wall_ms, mono_ns}, epoch_ms, 1000000000};
    w->disk = virtual_disk_open(sim_next(&w->random));
    make_config(w);
    struct mr_error error;
    struct mr_hash_key key = {{(uint8_t)seed}};
    enum mr_status status = mr_plan_open(w->config, &key, false, &w->rules_plan, &error);
    MR_ASSERT(status == MR_OK);
    w->results_rules = mr_data_results_rules(w->rules_plan);
    struct mr_memory_results_options options = {w->results_rules, SIM_RULES, 0};
    w->results = mr_memory_results_open(&options);
    status = mr_decoder_open(MR_DECODE_AUTO, &w->decoder);
    MR_ASSERT(status == MR_OK);
    /* The key is random in life; here it follows from the seed. */
    struct mr_disk *disk = virtual_disk_disk(w->disk);
    struct mr_file *file = NULL;
    status = mr_disk_mkdir(disk, "data");
    MR_ASSERT(status == MR_OK);
    status = mr_file_open(disk, "data/KEY", MR_FILE_SECRET, &file);
    MR_ASSERT(status == MR_OK);
    mr_file_close(file);
    virtual_disk_replace(w->disk, "data/KEY", mr_bytes_of(key.bytes, sizeof key.bytes));
    bool started = start(w);
    MR_ASSERT(started);
}

void sim_world_close(struct sim_world *w) {
    stop(w);
    mr_results_close(w->results);
    mr_free(w->results_rules);
    mr_plan_close(w->rules_plan);
    mr_decoder_close(w->decoder);
    mr_config_close(w->config);
    virtual_disk_close(w->disk);
    free(w->answers);
}

/* ---- clients ---- */

static struct sim_event make_event(struct sim_world *w) {
    struct sim_random *r = &w->random;
    bool again = w->next_id > 0 && sim_one_in(r, 5);
    struct sim_event e = {
        .id = again ? (uint32_t)sim_below(r, w->next_id) : w->next_id++,
        .ts_ms = w->clock.wall_ms - (int64_t)sim_below(r, 4000),
        .key = (uint32_t)sim_below(r, w->settings.keys),
        .value = (int32_t)sim_below(r, 2000) - 1000,
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

static void make_request(struct sim_world *w, struct sim_request *request) {
    request->count = 1 + (uint32_t)sim_below(&w->random, SIM_EVENTS_MAX);
    for (uint32_t i = 0; i < request->count; i++) {
        request->events[i] = make_event(w);
    }
}

static void write_body(const struct sim_request *request, struct mr_buf *ret) {
    mr_buf_init(ret, 1 << 16);
    for (uint32_t i = 0; i < request->count; i++) {
        const struct sim_event *e = &request->events[i];
        mr_buf_printf(ret, "{\"id\":\"e%u\",\"ts\":%lld,\"key\":\"k%u\",\"value\":%d%s\n", e->id,
                      (long long)e->ts_ms, e->key, e->value, e->broken ? "" : "}");
    }
    (void)mr_buf_reserve(ret, MR_PADDING);
    MR_ASSERT(!ret->failed);
}

static void keep_answer(struct sim_world *w, const struct mr_batch *batch, uint32_t request) {
    if (w->answer_count == w->answer_cap) {
        w->answer_cap = w->answer_cap == 0 ? 256 : w->answer_cap * 2;
        w->answers = realloc(w->answers, w->answer_cap * sizeof *w->answers);
        MR_ASSERT(w->answers != NULL);
    }
    struct sim_answer *answer = &w->answers[w->answer_count++];
    *answer = (struct sim_answer){.request = request, .lsn = batch->lsn};
    memcpy(answer->verdicts, batch->verdicts, batch->count);
    sim_trace(w, mr_checksum(mr_bytes_of(batch->verdicts, batch->count)) + batch->lsn);
}

struct sent {
    struct sim_world *world;
    uint32_t request;
};

static void answered(struct mr_batch *batch, void *ctx) {
    struct sent *sent = ctx;
    struct sim_world *w = sent->world;
    struct sim_request *request = &w->requests[sent->request];
    MR_ASSERT(request->state == SIM_UNDER_WAY);
    if (batch->refusal == MR_REFUSAL_NONE) {
        keep_answer(w, batch, sent->request);
        /* Now and then the client does not hear the answer, and sends all of it again. */
        request->state = sim_one_in(&w->random, 10) ? SIM_WAITING : SIM_ANSWERED;
    } else {
        w->refusals++;
        sim_trace(w, batch->refusal);
        request->state = SIM_WAITING;
    }
    free(sent);
    mr_batch_close(batch);
}

static void send_request(struct sim_world *w, uint32_t i) {
    struct sim_request *request = &w->requests[i];
    if (request->state != SIM_WAITING || w->pipeline == NULL || !mr_pipeline_live(w->pipeline)) {
        return;
    }
    if (request->count == 0) {
        make_request(w, request);
    }
    struct mr_buf body;
    write_body(request, &body);
    struct mr_batch *batch = NULL;
    struct mr_error error;
    enum mr_status status = mr_decode(w->decoder, w->data.plan->streams[0].schema, MR_FORMAT_NDJSON,
                                      &body, &batch, &error);
    MR_ASSERT(status == MR_OK);
    struct sent *sent = malloc(sizeof *sent);
    MR_ASSERT(sent != NULL);
    *sent = (struct sent){w, i};
    batch->stream = 0;
    batch->done = answered;
    batch->ctx = sent;
    request->state = SIM_UNDER_WAY;
    if (!mr_pipeline_submit(w->pipeline, batch)) {
        request->state = SIM_WAITING;
        free(sent);
        mr_batch_close(batch);
    }
}

/* ---- steps ---- */

static void inject(struct sim_world *w) {
    static const enum mr_status statuses[] = {MR_IO, MR_NO_SPACE};
    struct sim_random *r = &w->random;
    switch (sim_below(r, 4)) {
    case 0:
        virtual_disk_cut_power(w->disk, 1 + sim_below(r, 10));
        break;
    case 1:
        virtual_disk_fail(w->disk, 1 + sim_below(r, 6),
                          1u << VIRTUAL_DISK_WRITE | 1u << VIRTUAL_DISK_SYNC |
                              1u << VIRTUAL_DISK_ALLOCATE,
                          sim_one_in(r, 5) ? VIRTUAL_DISK_FOREVER : VIRTUAL_DISK_ONCE,
                          statuses[sim_below(r, 2)]);
        break;
    default: {
        struct mr_memory_failure failure = {
            .ops = MR_MEMORY_WRITES,
            .nth = 1 + sim_below(r, 20),
            .after = sim_one_in(r, 2),
            .status = statuses[sim_below(r, 2)],
        };
        mr_memory_results_fail(w->results, &failure);
        break;
    }
    }
}

static bool must_restart(struct sim_world *w) {
    return !virtual_disk_power(w->disk) || mr_log_failed(w->data.log) ||
           mr_log_failed(w->data.dead) || mr_pipeline_failure(w->pipeline, NULL) != MR_OK;
}

static void jump_clock(struct sim_world *w) {
    int64_t by_ms = (int64_t)sim_below(&w->random, 20000) - 10000;
    by_ms *= sim_one_in(&w->random, 3) ? 30 : 1; /* beyond what the sequencer follows */
    w->clock.wall_ms += by_ms;
}

void sim_world_step(struct sim_world *w, bool faults) {
    struct sim_random *r = &w->random;
    const struct sim_settings *s = &w->settings;
    if (faults && s->fault_one_in != 0 && sim_one_in(r, s->fault_one_in)) {
        inject(w);
    }
    if (faults && s->crash_one_in != 0 && sim_one_in(r, s->crash_one_in)) {
        sim_world_crash(w, sim_one_in(r, 2));
    }
    if (must_restart(w) && sim_one_in(r, 20)) {
        sim_world_crash(w, true);
    }
    if (faults && sim_one_in(r, 3000)) {
        jump_clock(w);
    }
    if (sim_one_in(r, 6)) {
        send_request(w, (uint32_t)sim_below(r, s->requests));
    }
    if (sim_one_in(r, 4)) {
        pass_time(w, sim_below(r, sim_one_in(r, 50) ? 5000 : 40));
    }
    (void)mr_pipeline_step(w->pipeline, (uint32_t)sim_below(r, mr_pipeline_stations(w->pipeline)));
}

static bool all_answered(const struct sim_world *w) {
    for (uint32_t i = 0; i < w->settings.requests; i++) {
        if (w->requests[i].state != SIM_ANSWERED) {
            return false;
        }
    }
    return true;
}

static void asked(struct mr_ask *ask, void *ctx) {
    (void)ask;
    *(bool *)ctx = true;
}

void sim_world_ask(struct sim_world *w, struct mr_ask *ask) {
    bool done = false;
    ask->done = asked;
    ask->ctx = &done;
    bool sent = mr_pipeline_ask(w->pipeline, ask);
    MR_ASSERT(sent);
    for (uint32_t n = 0; !done; n++) {
        MR_ASSERT(n < DRAIN_STEPS_MAX);
        pass_time(w, 1);
        (void)mr_pipeline_step(w->pipeline,
                               (uint32_t)sim_below(&w->random, mr_pipeline_stations(w->pipeline)));
    }
    MR_ASSERT(!ask->closed);
}

void sim_world_settle(struct sim_world *w) {
    for (uint32_t quiet = 0, n = 0; quiet < QUIET_STEPS || !mr_pipeline_live(w->pipeline); n++) {
        MR_ASSERT(n < DRAIN_STEPS_MAX);
        uint32_t station = (uint32_t)sim_below(&w->random, mr_pipeline_stations(w->pipeline));
        quiet = mr_pipeline_step(w->pipeline, station) ? 0 : quiet + 1;
    }
}

bool sim_world_has_unacknowledged_record(struct sim_world *w) {
    struct mr_log_reader *reader = NULL;
    struct mr_error error;
    uint64_t last_lsn = mr_counter_read(&mr_log_stats(w->data.log)->last_lsn);
    enum mr_status status =
        mr_log_reader_open(virtual_disk_disk(w->disk), w->data.dir.log_dir, 1, &reader, &error);
    MR_ASSERT(status == MR_OK);
    struct mr_record record = {.lsn = 0};
    while (mr_log_reader_next(reader, &record, &error) == MR_OK && record.lsn <= last_lsn) {
        continue;
    }
    mr_log_reader_close(reader);
    return record.lsn > last_lsn;
}

void sim_world_drain(struct sim_world *w) {
    virtual_disk_fail(w->disk, 0, 0, VIRTUAL_DISK_ONCE, MR_IO);
    virtual_disk_cut_power(w->disk, 0);
    mr_memory_results_fail(w->results, &(struct mr_memory_failure){.nth = 0});
    for (uint32_t n = 0; !all_answered(w) || must_restart(w) || !mr_pipeline_live(w->pipeline); n++) {
        MR_ASSERT(n < DRAIN_STEPS_MAX); /* without faults everything drains */
        if (must_restart(w)) {
            sim_world_crash(w, true);
            virtual_disk_cut_power(w->disk, 0);
        }
        sim_world_step(w, false);
    }
    struct mr_ask ask = {.kind = MR_ASK_FLUSH};
    sim_world_ask(w, &ask);
}
