/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster_settings.h"

#include "base/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CHOOSE(random, from) ((from)[sim_below(random, sizeof(from) / sizeof *(from))])

enum { HOUR_MS = 3600000, HORIZON_HOURS = 12 };

static const char *const outages[] = {
    [MR_CONFIG_OUTAGE_REJECT] = "reject", [MR_CONFIG_OUTAGE_HOLD] = "hold", [MR_CONFIG_OUTAGE_LOCAL] = "local"};

/* ---- choice ---- */

static void choose_stream(struct sim_random *r, struct cluster_stream *s) {
    static const int64_t windows_ms[] = {1000, 5000, 30000};
    static const int64_t latenesses_ms[] = {0, 2000, 60000};
    static const int64_t disorders_ms[] = {0, 3000, 30000};
    *s = (struct cluster_stream){
        .claimed = true,
        .key = sim_one_in(r, 3),
        .outage = (enum mr_config_outage)sim_below(r, 3),
        .window_ms = CHOOSE(r, windows_ms),
        .lateness_ms = CHOOSE(r, latenesses_ms),
        .out_of_orderness_ms = CHOOSE(r, disorders_ms),
        .idle_timeout_ms = 2000 + (int64_t)sim_below(r, 30000), /* so that all windows close in the end */
        .max_future_ms = 5000,
    };
}

static void choose_streams(struct sim_random *r, struct cluster_settings *s) {
    s->streams = 1 + sim_one_in(r, 2);
    for (uint32_t i = 0; i < CLUSTER_STREAMS_MAX; i++) {
        choose_stream(r, &s->stream[i]);
    }
    if (sim_one_in(r, 3)) {
        s->stream[s->streams++].claimed = false;
    }
    for (uint32_t i = 0; i < CLUSTER_NODES_MAX; i++) {
        s->shards[i] = 1 + (uint32_t)sim_below(r, 3);
    }
}

/* A failover may lose claims as old as the run. */
static void choose_redis(struct sim_random *r, struct cluster_settings *s) {
    static const uint32_t paces_ms[] = {10, 30, 100};
    s->pace_ms = CHOOSE(r, paces_ms);
    s->timeout_ms = s->pace_ms * (10 + (int64_t)sim_below(r, 30));
    s->masters = sim_one_in(r, 3) ? 1 + (uint32_t)sim_below(r, 3) : 0;
    s->servers = s->masters == 0 ? 1 : s->masters + 2;
    uint64_t loss = sim_below(r, 5);
    s->loss = loss == 0 ? CLUSTER_LOSES_ALL : loss == 1 ? CLUSTER_LOSES_SOME : CLUSTER_LOSES_NOTHING;
    s->losses = 1 + (uint32_t)sim_below(r, sim_one_in(r, 2) ? 3 : 12);
    s->recent_ms = s->loss == CLUSTER_LOSES_NOTHING ? 1000 + (int64_t)sim_below(r, 60000) : HORIZON_HOURS * HOUR_MS;
    s->horizon_ms = HORIZON_HOURS * HOUR_MS;
    /* In half of the seeds a generation of claims, two horizons, ends in the run. */
    s->begin_ms = INT64_C(1700000000000) / (2 * s->horizon_ms) * 2 * s->horizon_ms;
    s->begin_ms += sim_one_in(r, 2) ? (int64_t)sim_below(r, 2 * (uint64_t)s->horizon_ms)
                                    : 2 * s->horizon_ms - (int64_t)sim_below(r, 100000);
}

bool cluster_settings_local(const struct cluster_settings *settings) {
    bool local = false;
    for (uint32_t i = 0; i < settings->streams; i++) {
        const struct cluster_stream *stream = &settings->stream[i];
        local = local || (stream->claimed && stream->outage == MR_CONFIG_OUTAGE_LOCAL);
    }
    return local;
}

/* Of a log that asserts all of its claims nothing may go. */
static void choose_disk(struct sim_random *r, struct cluster_settings *s) {
    static const uint32_t segments[] = {40 << 10, 64 << 10, 128 << 10};
    s->segment_bytes = CHOOSE(r, segments);
    s->checkpoint_every_ms = sim_one_in(r, 3) ? 86400000 : 300 + (int64_t)sim_below(r, 20000);
    bool keeps = s->loss != CLUSTER_LOSES_NOTHING || cluster_settings_local(s) || sim_one_in(r, 2);
    s->retain_ms = keeps || sim_one_in(r, 2) ? INT64_MAX : 1 + (int64_t)sim_below(r, 10000);
    s->retain_bytes = keeps ? UINT64_MAX : s->segment_bytes * (1 + sim_below(r, 4));
}

static void choose_faults(struct sim_random *r, struct cluster_settings *s) {
    s->fault_one_in = sim_one_in(r, 10) ? 0 : 40 + (uint32_t)sim_below(r, 500);
    for (uint32_t i = 0; i < CLUSTER_FAULT_COUNT; i++) {
        s->weights[i] = sim_one_in(r, 2) ? 0 : 1 + (uint32_t)sim_below(r, 4);
    }
    bool some = s->loss == CLUSTER_LOSES_SOME;
    s->weights[CLUSTER_LOST_ALL] = s->loss == CLUSTER_LOSES_ALL ? 5 : 0;
    s->weights[CLUSTER_LOST_WRITES] = some ? 3 : 0;
    s->weights[CLUSTER_LOST_KEYS] = some ? 3 : 0;
    s->weights[CLUSTER_REDIS_OUTAGE] = s->weights[CLUSTER_REDIS_OUTAGE] > 0; /* it covers much of a run */
    if (s->masters == 0) {
        s->weights[CLUSTER_REDIS_SLOTS] = 0;
        s->weights[CLUSTER_REDIS_MOVED] = 0;
    } else {
        s->weights[CLUSTER_REDIS_SLOTS] *= 3;
    }
}

void cluster_settings_choose(struct sim_random *random, struct cluster_settings *ret) {
    struct cluster_settings *s = ret;
    *s = (struct cluster_settings){.nodes = 2 + sim_one_in(random, 2)};
    choose_streams(random, s);
    choose_redis(random, s);
    choose_disk(random, s);
    s->keys = 1 + (uint32_t)sim_below(random, 8);
    s->requests = 20 + (uint32_t)sim_below(random, CLUSTER_REQUESTS_MAX - 20);
    s->steps = 8000 + (uint32_t)sim_below(random, 20000);
    s->steps *= 1 + (s->loss != CLUSTER_LOSES_NOTHING); /* a recovery takes its time */
    choose_faults(random, s);
}

enum cluster_fault cluster_settings_fault(const struct cluster_settings *settings, struct sim_random *random) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < CLUSTER_FAULT_COUNT; i++) {
        sum += settings->weights[i];
    }
    uint64_t n = sim_below(random, sum);
    uint32_t i = 0;
    while (i < CLUSTER_FAULT_COUNT && n >= settings->weights[i]) {
        n -= settings->weights[i++];
    }
    return (enum cluster_fault)i;
}

/* ---- the configuration ---- */

static void write_store(const struct cluster_settings *s, const char *const *addresses, struct mr_buf *text) {
    mr_buf_printf(text, "cluster: { name: c, secret: sixteen-bytes-or-more }\nstores:\n  main:\n    type: redis\n"
                        "    cluster: %s\n    timeout: %lldms\n    recent: %lldms\n    nodes: [",
                  s->masters == 0 ? "false" : "true", (long long)s->timeout_ms, (long long)s->recent_ms);
    for (uint32_t i = 0; i < s->servers; i++) {
        mr_buf_printf(text, "%s\"%s\"", i == 0 ? "" : ", ", addresses[i]);
    }
    mr_buf_append_text(text, "]\n");
}

static void write_streams(const struct cluster_settings *s, struct mr_buf *text) {
    mr_buf_append_text(text, "streams:\n");
    for (uint32_t i = 0; i < s->streams; i++) {
        const struct cluster_stream *stream = &s->stream[i];
        mr_buf_printf(text, "  s%u:\n    id: id\n    time: { field: ts, format: ms }\n", i);
        if (stream->claimed) {
            mr_buf_printf(text, "    dedup: { mode: redis, store: main, layout: %s, outage: %s, horizon: %lldms",
                          stream->key ? "key" : "bucket", outages[stream->outage], (long long)s->horizon_ms);
            if (stream->outage == MR_CONFIG_OUTAGE_LOCAL) {
                mr_buf_printf(text, ", ids: %u", 4 * CLUSTER_IDS_MAX);
            }
            mr_buf_append_text(text, " }\n");
        } else {
            mr_buf_printf(text, "    dedup: { mode: exact, horizon: %lldms, ids: %u }\n", (long long)s->horizon_ms,
                          4 * CLUSTER_IDS_MAX);
        }
        mr_buf_printf(text,
                      "    watermark: { out_of_orderness: %lldms, max_future: %lldms, idle_timeout: %lldms }\n",
                      (long long)stream->out_of_orderness_ms, (long long)stream->max_future_ms,
                      (long long)stream->idle_timeout_ms);
    }
}

static void write_rules(const struct cluster_settings *s, struct mr_buf *text) {
    mr_buf_append_text(text, "rules:\n");
    for (uint32_t i = 0; i < s->streams; i++) {
        mr_buf_printf(text,
                      "  r%u:\n    from: s%u\n    group_by: [key]\n"
                      "    window: { type: tumbling, size: %lldms }\n    allowed_lateness: %lldms\n"
                      "    metrics: { n: count, total: { sum: value } }\n",
                      i, i, (long long)s->stream[i].window_ms, (long long)s->stream[i].lateness_ms);
    }
}

struct mr_config *cluster_settings_config(const struct cluster_settings *settings, uint32_t node,
                                          const char *const *addresses) {
    const struct cluster_settings *s = settings;
    struct mr_buf text;
    mr_buf_init(&text, 1 << 16);
    mr_buf_printf(&text,
                  "node: { id: n%u, data_dir: data, shards: %u }\n"
                  "limits: { body: 64KiB, inflated: 64KiB, event: 4KiB, batch_events: 1000, in_flight: 1MiB }\n"
                  "log: { segment: 2MiB, reserve: 0 }\ncheckpoint: { every: %lldms }\n",
                  node, s->shards[node], (long long)s->checkpoint_every_ms);
    write_store(s, addresses, &text);
    write_streams(s, &text);
    write_rules(s, &text);
    MR_ASSERT(!text.failed);
    char *environment[] = {NULL};
    struct mr_config *config = NULL;
    struct mr_error error;
    if (mr_config_parse(mr_buf_bytes(&text), "cluster", environment, &config, &error) != MR_OK) {
        (void)fprintf(stderr, "%s\n%.*s", error.text, (int)text.len, (char *)text.ptr);
        abort();
    }
    mr_buf_finish(&text);
    /* Smaller than people may have them, so that a run fills many. */
    config->log.segment_bytes = s->segment_bytes;
    config->log.retain_ms = s->retain_ms;
    config->log.retain_bytes = s->retain_bytes;
    return config;
}

void cluster_settings_print(const struct cluster_settings *settings) {
    static const char *const losses[] = {"nothing", "all", "some"};
    const struct cluster_settings *s = settings;
    (void)fprintf(stderr, "nodes %u servers %u masters %u loses %s timeout %lld pace %u steps %u fault one in %u",
                  s->nodes, s->servers, s->masters, losses[s->loss], (long long)s->timeout_ms, s->pace_ms, s->steps,
                  s->fault_one_in);
    for (uint32_t i = 0; i < s->streams; i++) {
        const struct cluster_stream *stream = &s->stream[i];
        (void)fprintf(stderr, " s%u %s", i,
                      !stream->claimed ? "exact" : stream->key ? "key/" : "bucket/");
        (void)fprintf(stderr, "%s", stream->claimed ? outages[stream->outage] : "");
    }
    (void)fputc('\n', stderr);
}
