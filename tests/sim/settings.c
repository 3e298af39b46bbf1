/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/settings.h"

#include "base/check.h"
#include "tests/disk/virtual_disk.h"

#include <stdio.h>

#define CHOOSE(random, from) ((from)[sim_below(random, sizeof(from) / sizeof *(from))])

/* ---- choice ---- */

static void choose_time(struct sim_random *r, struct sim_settings *s) {
    static const int64_t windows[] = {1000, 2000, 10000, 60000};
    static const int64_t lateness[] = {0, 1000, 5000, 100000};
    static const int64_t disorder[] = {0, 500, 3000, 30000};
    for (uint32_t i = 0; i < SIM_RULES; i++) {
        s->window_ms[i] = CHOOSE(r, windows);
        s->lateness_ms[i] = CHOOSE(r, lateness);
    }
    s->out_of_orderness_ms = CHOOSE(r, disorder);
    s->idle_timeout_ms = sim_one_in(r, 2) ? INT64_MAX : 2000 + (int64_t)sim_below(r, 20000);
    s->max_future_ms = 5000;
}

/* Three ways: ids for all, ids for a few with refusals until some expire, ids for a few and the oldest go early. */
static void choose_dedup(struct sim_random *r, struct sim_settings *s) {
    static const int64_t horizons[] = {1000, 3000, 10000, 60000, 86400000};
    static const int64_t short_horizons[] = {1000, 2000, 5000};
    s->horizon_ms = CHOOSE(r, horizons);
    s->evict = sim_one_in(r, 4);
    s->ids = 2 * SIM_IDS_MAX;
    if (s->evict || sim_one_in(r, 4)) {
        s->ids = s->shards * (SIM_EVENTS_MAX + sim_below(r, 150));
        s->horizon_ms = s->evict ? s->horizon_ms : CHOOSE(r, short_horizons);
    }
}

static void choose_faults(struct sim_random *r, struct sim_settings *s) {
    s->fault_one_in = sim_one_in(r, 8) ? 0 : 60 + (uint32_t)sim_below(r, 500);
    for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++) {
        s->weights[i] = sim_one_in(r, 2) ? 0 : 1 + (uint32_t)sim_below(r, 4);
    }
    if (s->ids < SIM_IDS_MAX) {
        s->weights[SIM_SHARDS_CHANGED] = 0; /* divided anew, the ids of the log may not fit, or others be evicted */
    }
    if (s->checkpoint_every_ms == 0) {
        s->weights[SIM_CRASH_IN_CHECKPOINT] = 0;
        s->weights[SIM_CHECKPOINT_FAILED] = 0;
    }
    if (!s->log_sync) {
        s->weights[SIM_MIDDLE_FLIPPED] = 0; /* an unsynced segment is cut at its first bad frame */
    }
    static const enum virtual_disk_fate fates[] = {
        [SIM_WRITE_TORN] = VIRTUAL_DISK_TORN,
        [SIM_WRITE_DROPPED] = VIRTUAL_DISK_DROPPED,
        [SIM_WRITE_ZEROED] = VIRTUAL_DISK_ZEROED,
        [SIM_TAIL_FLIPPED] = VIRTUAL_DISK_FLIPPED,
    };
    s->fates = 1u << VIRTUAL_DISK_KEPT;
    for (uint32_t i = 0; i < sizeof fates / sizeof *fates; i++) {
        s->fates |= s->weights[i] > 0 ? 1u << fates[i] : 0;
        s->weights[i] = 0; /* they come with each loss of power */
    }
}

void sim_settings_choose(struct sim_random *random, bool checkpoints, struct sim_settings *ret) {
    static const uint32_t segments[] = {40 << 10, 64 << 10, 128 << 10};
    struct sim_settings *s = ret;
    *s = (struct sim_settings){.shards = 1 + (uint32_t)sim_below(random, 4)};
    choose_time(random, s);
    choose_dedup(random, s);
    s->log_sync = !sim_one_in(random, 8);
    s->segment_bytes = CHOOSE(random, segments);
    s->checkpoint_every_ms = checkpoints ? 200 + (int64_t)sim_below(random, 5000) : 0;
    s->keys = 1 + (uint32_t)sim_below(random, 20);
    s->requests = 20 + (uint32_t)sim_below(random, SIM_REQUESTS_MAX - 20);
    s->steps = 2000 + (uint32_t)sim_below(random, 5000);
    choose_faults(random, s);
}

enum sim_fault sim_settings_fault(const struct sim_settings *settings, struct sim_random *random) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++) {
        sum += settings->weights[i];
    }
    uint64_t n = sim_below(random, sum);
    uint32_t i = 0;
    while (i < SIM_FAULT_COUNT && n >= settings->weights[i]) {
        n -= settings->weights[i++];
    }
    return (enum sim_fault)i; /* SIM_FAULT_COUNT: the seed has none */
}

/* ---- the configuration ---- */

static void write_streams(const struct sim_settings *s, struct mr_buf *text) {
    mr_buf_printf(text,
                  "streams:\n  s:\n    id: id\n    time: { field: ts, format: ms }\n"
                  "    dedup: { mode: exact, horizon: %lldms, ids: %llu, when_full: %s }\n"
                  "    watermark: { out_of_orderness: %lldms, max_future: %lldms, idle_timeout: ",
                  (long long)s->horizon_ms, (unsigned long long)s->ids,
                  s->evict ? "evict_oldest" : "reject", (long long)s->out_of_orderness_ms,
                  (long long)s->max_future_ms);
    if (s->idle_timeout_ms == INT64_MAX) {
        mr_buf_append_text(text, "off }\n");
    } else {
        mr_buf_printf(text, "%lldms }\n", (long long)s->idle_timeout_ms);
    }
}

static void write_rules(const struct sim_settings *s, struct mr_buf *text) {
    mr_buf_append_text(text, "rules:\n");
    for (uint32_t i = 0; i < SIM_RULES; i++) {
        mr_buf_printf(text,
                      "  r%u:\n    from: s\n    group_by: [key]\n"
                      "    window: { type: tumbling, size: %lldms }\n    allowed_lateness: %lldms\n"
                      "    metrics: { n: count, total: { sum: value } }\n",
                      i, (long long)s->window_ms[i], (long long)s->lateness_ms[i]);
    }
}

struct mr_config *sim_settings_config(const struct sim_settings *settings) {
    const struct sim_settings *s = settings;
    struct mr_buf text;
    mr_buf_init(&text, 1 << 16);
    mr_buf_printf(&text,
                  "node: { data_dir: data, shards: %u }\n"
                  "limits: { body: 64KiB, inflated: 64KiB, event: 4KiB, batch_events: 1000, in_flight: 1MiB }\n"
                  "log: { segment: 2MiB, reserve: 0, sync: %s }\n",
                  s->shards, s->log_sync ? "group" : "off");
    if (s->checkpoint_every_ms > 0) {
        mr_buf_printf(&text, "checkpoint: { every: %lldms }\n", (long long)s->checkpoint_every_ms);
    }
    write_streams(s, &text);
    write_rules(s, &text);
    MR_ASSERT(!text.failed);
    char *environment[] = {NULL};
    struct mr_config *config = NULL;
    struct mr_error error;
    if (mr_config_parse(mr_buf_bytes(&text), "sim", environment, &config, &error) != MR_OK) {
        (void)fprintf(stderr, "%s\n%.*s", error.text, (int)text.len, (char *)text.ptr);
        abort();
    }
    mr_buf_finish(&text);
    /* Smaller than people may have them, so that a run fills many. */
    config->log.segment_bytes = s->segment_bytes;
    return config;
}
