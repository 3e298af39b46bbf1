/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/settings.h"

#include "base/check.h"
#include "tests/disk/virtual_disk.h"

#include <stdio.h>

#define CHOOSE(random, from) ((from)[sim_below(random, sizeof(from) / sizeof *(from))])

const char sim_stream_names[SIM_STREAMS][8] = {"s", "second"};

const char sim_source_names[SIM_SOURCES][8] = {"left", "", "right"};

/* ---- choice ---- */

static const int64_t windows_ms[] = {1000, 2000, 10000, 60000};
static const int64_t latenesses_ms[] = {0, 1000, 5000, 100000};
static const int64_t disorders_ms[] = {0, 500, 3000, 30000};
static const int64_t horizons_ms[] = {1000, 3000, 10000, 60000, 86400000};

static int64_t choose_idle(struct sim_random *r) {
    return sim_one_in(r, 2) ? INT64_MAX : 2000 + (int64_t)sim_below(r, 20000);
}

static int64_t choose_early(struct sim_random *r) {
    return sim_one_in(r, 3) ? 100 + (int64_t)sim_below(r, 2000) : 0;
}

static uint64_t choose_early_count(struct sim_random *r) {
    return sim_one_in(r, 3) ? 1 + sim_below(r, 5) : 0;
}

static uint32_t choose_from(struct sim_random *r, const struct sim_settings *s) {
    return s->streams == 1 ? 1 : sim_one_in(r, 2) ? 3 : 1 + (uint32_t)sim_below(r, 2);
}

/* Windows that are kept as slices have no early panes. */
static void drop_early(struct sim_rule *rule, int64_t size_ms) {
    if (rule->kind == MR_CONFIG_SLIDING && size_ms > SIM_WINDOWS_WHOLE * rule->every_ms) {
        rule->early_ms = 0;
        rule->early_count = 0;
    }
}

/* A rule with bounded groups stays as plain as can be: which groups have room is not known. */
static void choose_rule(struct sim_random *r, struct sim_settings *s, uint32_t i) {
    static const int64_t gaps_ms[] = {100, 400, 1500, 5000};
    struct sim_rule *rule = &s->rule[i];
    s->window_ms[i] = CHOOSE(r, windows_ms);
    *rule = (struct sim_rule){.kind = MR_CONFIG_TUMBLING, .every_ms = s->window_ms[i], .late = true};
    rule->from = choose_from(r, s);
    rule->where = sim_one_in(r, 4);
    if (s->groups_max[i] > 0) {
        return;
    }
    rule->kind = (enum mr_config_window)sim_below(r, MR_CONFIG_SESSION + 1);
    rule->panes = (enum mr_config_panes)(sim_one_in(r, 2) ? MR_CONFIG_ACCUMULATING : sim_below(r, 3));
    rule->early_ms = choose_early(r);
    rule->early_count = choose_early_count(r);
    rule->late = !sim_one_in(r, 4);
    if (rule->kind == MR_CONFIG_SESSION) {
        s->window_ms[i] = CHOOSE(r, gaps_ms);
        rule->every_ms = 0;
        return;
    }
    rule->every_ms = rule->kind == MR_CONFIG_SLIDING ? s->window_ms[i] * (2 + (int64_t)sim_below(r, 8)) / 10
                                                     : s->window_ms[i];
    drop_early(rule, s->window_ms[i]);
    rule->offset_ms = sim_one_in(r, 2) ? (int64_t)sim_below(r, (uint64_t)rule->every_ms) : 0;
}

static void choose_time(struct sim_random *r, struct sim_settings *s) {
    s->rules = sim_one_in(r, 10) ? 1 : SIM_RULES;
    for (uint32_t i = 0; i < SIM_RULES; i++) {
        s->lateness_ms[i] = CHOOSE(r, latenesses_ms);
    }
    s->streams = sim_one_in(r, 2) ? 1 : SIM_STREAMS;
    for (uint32_t i = 0; i < SIM_STREAMS; i++) {
        s->stream[i] = (struct sim_stream){CHOOSE(r, disorders_ms), choose_idle(r), 5000, sim_one_in(r, 3)};
    }
    s->second_one_in = 2 + (uint32_t)sim_below(r, 6);
    s->lag_ms = sim_one_in(r, 2) ? (int64_t)sim_below(r, 20000) : 0;
    s->silences = sim_one_in(r, 2);
    s->advances = sim_one_in(r, 2);
}

/* The first rule has room for a few groups only. */
static void choose_groups(struct sim_random *r, struct sim_settings *s) {
    s->groups_max[0] = sim_one_in(r, 5) ? 1 + sim_below(r, 30) : 0;
    s->groups_drop = sim_one_in(r, 2);
    for (uint32_t i = 0; i < SIM_RULES; i++) {
        choose_rule(r, s, i);
    }
}

/* Three ways: ids for all, ids for a few with refusals until some expire, ids for a few and the oldest go early. */
static void choose_dedup(struct sim_random *r, struct sim_settings *s) {
    static const int64_t short_horizons[] = {1000, 2000, 5000};
    uint64_t mode = sim_below(r, 6);
    s->mode = mode == 0 ? SIM_BLOOM : mode == 1 ? SIM_OBSERVE : SIM_EXACT;
    s->horizon_ms = CHOOSE(r, horizons_ms);
    s->evict = sim_one_in(r, 4);
    s->ids = 2 * SIM_IDS_MAX;
    if (s->evict || sim_one_in(r, 4)) {
        s->ids = s->shards * (SIM_EVENTS_MAX + sim_below(r, 150));
        s->horizon_ms = s->evict ? s->horizon_ms : CHOOSE(r, short_horizons);
    }
    s->conflicts = sim_one_in(r, 2);
    s->horizon_changes = s->mode != SIM_BLOOM && s->ids >= SIM_IDS_MAX && sim_one_in(r, 2);
}

/* Some seeds make none, some keep no more of the log than they need. */
static void choose_checkpoints(struct sim_random *r, struct sim_settings *s) {
    s->checkpoint_every_ms = sim_one_in(r, 6) ? 86400000 : 200 + (int64_t)sim_below(r, 5000);
    s->retain_ms = sim_one_in(r, 3) ? 1 + (int64_t)sim_below(r, 10000) : INT64_MAX;
    s->retain_bytes = sim_one_in(r, 2) ? s->segment_bytes * (1 + sim_below(r, 4)) : UINT64_MAX;
}

static void choose_faults(struct sim_random *r, struct sim_settings *s) {
    s->fault_one_in = sim_one_in(r, 8) ? 0 : 60 + (uint32_t)sim_below(r, 500);
    for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++) {
        s->weights[i] = sim_one_in(r, 2) ? 0 : 1 + (uint32_t)sim_below(r, 4);
    }
    if (s->weights[SIM_CONFIG_CHANGED] == 0) {
        s->horizon_changes = false;
    }
    /* What few seeds may, or what seldom has its effect. */
    s->weights[SIM_SHARDS_CHANGED] *= 2;
    s->weights[SIM_DISK_FULL] *= 3;
    s->weights[SIM_CHECKPOINT_SPOILED] *= 2;
    if (!sim_settings_may_move(s)) {
        s->weights[SIM_SHARDS_CHANGED] = 0;
    }
    s->weights[SIM_CHECKPOINTS_LOST] = 0; /* of CHECKPOINT_SPOILED */
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

void sim_settings_choose(struct sim_random *random, struct sim_settings *ret) {
    static const uint32_t segments[] = {40 << 10, 64 << 10, 128 << 10};
    struct sim_settings *s = ret;
    *s = (struct sim_settings){.shards = 1 + (uint32_t)sim_below(random, 4)};
    choose_time(random, s);
    choose_dedup(random, s);
    choose_groups(random, s);
    s->log_sync = !sim_one_in(random, 8);
    s->segment_bytes = CHOOSE(random, segments);
    choose_checkpoints(random, s);
    /* Evicting gives exactness up (pipeline/shard_judge.c); so does a log that loses records which dead letters name. */
    s->redrives = !s->evict && s->log_sync && sim_one_in(random, 2);
    s->keys = 1 + (uint32_t)sim_below(random, SIM_KEYS_MAX);
    s->requests = 20 + (uint32_t)sim_below(random, SIM_REQUESTS_MAX - 20);
    s->steps = 2000 + (uint32_t)sim_below(random, 5000);
    choose_faults(random, s);
}

bool sim_settings_same_rule(const struct sim_settings *before, const struct sim_settings *now, uint32_t rule) {
    const struct sim_rule *a = &before->rule[rule];
    const struct sim_rule *b = &now->rule[rule];
    return rule < before->rules && rule < now->rules && before->window_ms[rule] == now->window_ms[rule] &&
           a->kind == b->kind && a->every_ms == b->every_ms && a->offset_ms == b->offset_ms &&
           a->panes == b->panes && a->where == b->where && a->from == b->from;
}

/* Another rule, which begins anew; or other triggers. */
static void change_rule(struct sim_random *r, struct sim_settings *s, uint32_t i) {
    struct sim_rule *rule = &s->rule[i];
    if (sim_one_in(r, 6)) {
        choose_rule(r, s, i);
    } else if (s->groups_max[i] == 0 && sim_one_in(r, 3)) {
        rule->early_ms = choose_early(r);
        rule->early_count = choose_early_count(r);
        rule->late = !sim_one_in(r, 3);
        drop_early(rule, s->window_ms[i]);
    }
}

void sim_settings_change(struct sim_settings *settings, struct sim_random *random) {
    struct sim_settings *s = settings;
    struct sim_random *r = random;
    for (uint32_t i = 0; i < SIM_RULES; i++) {
        s->lateness_ms[i] = sim_one_in(r, 2) ? CHOOSE(r, latenesses_ms) : s->lateness_ms[i];
        change_rule(r, s, i);
    }
    s->rules = sim_one_in(r, 6) ? 1 + SIM_RULES - s->rules : s->rules;
    for (uint32_t i = 0; i < SIM_STREAMS; i++) {
        struct sim_stream *stream = &s->stream[i];
        stream->out_of_orderness_ms = sim_one_in(r, 3) ? CHOOSE(r, disorders_ms) : stream->out_of_orderness_ms;
        stream->idle_timeout_ms = sim_one_in(r, 3) ? choose_idle(r) : stream->idle_timeout_ms;
        stream->max_future_ms = sim_one_in(r, 3) ? 1000 + (int64_t)sim_below(r, 10000) : stream->max_future_ms;
        stream->by_source = sim_one_in(r, 6) != stream->by_source;
    }
    if (s->horizon_changes && sim_one_in(r, 2)) {
        s->horizon_ms = CHOOSE(r, horizons_ms);
    }
    if (s->mode != SIM_BLOOM && sim_one_in(r, 4)) {
        s->mode = s->mode == SIM_EXACT ? SIM_OBSERVE : SIM_EXACT;
    }
    s->conflicts = s->conflicts != sim_one_in(r, 2);
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

static void write_stream(const struct sim_settings *s, uint32_t i, struct mr_buf *text) {
    static const char *const modes[] = {"exact", "observe", "bloom"};
    const struct sim_stream *stream = &s->stream[i];
    mr_buf_printf(text,
                  "  %s:\n    id: id\n    time: { field: ts, format: ms }\n"
                  "    dedup: { mode: %s, horizon: %lldms, ids: %llu, when_full: %s",
                  sim_stream_names[i], modes[s->mode], (long long)s->horizon_ms, (unsigned long long)s->ids,
                  s->evict ? "evict_oldest" : "reject");
    if (sim_settings_detects(s)) {
        mr_buf_append_text(text, ", conflicts: detect");
    }
    if (s->mode == SIM_BLOOM) {
        mr_buf_printf(text, ", error: %g", SIM_BLOOM_ERROR);
    }
    mr_buf_printf(text,
                  " }\n    watermark: { %sout_of_orderness: %lldms, max_future: %lldms, idle_timeout: ",
                  stream->by_source ? "source: src, " : "", (long long)stream->out_of_orderness_ms, (long long)stream->max_future_ms);
    if (stream->idle_timeout_ms == INT64_MAX) {
        mr_buf_append_text(text, "off }\n");
    } else {
        mr_buf_printf(text, "%lldms }\n", (long long)stream->idle_timeout_ms);
    }
}

static void write_from(const struct sim_settings *s, uint32_t i, struct mr_buf *text) {
    const char *before = "";
    mr_buf_append_text(text, "    from: [");
    for (uint32_t k = 0; k < s->streams; k++) {
        if ((s->rule[i].from >> k & 1) != 0) {
            mr_buf_printf(text, "%s%s", before, sim_stream_names[k]);
            before = ", ";
        }
    }
    mr_buf_append_text(text, "]\n");
}

static void write_window(const struct sim_settings *s, uint32_t i, struct mr_buf *text) {
    const struct sim_rule *rule = &s->rule[i];
    switch (rule->kind) {
    case MR_CONFIG_TUMBLING:
        mr_buf_printf(text, "{ type: tumbling, size: %lldms, offset: %lldms }", (long long)s->window_ms[i],
                      (long long)rule->offset_ms);
        break;
    case MR_CONFIG_SLIDING:
        mr_buf_printf(text, "{ type: sliding, size: %lldms, every: %lldms, offset: %lldms }",
                      (long long)s->window_ms[i], (long long)rule->every_ms, (long long)rule->offset_ms);
        break;
    case MR_CONFIG_SESSION:
        mr_buf_printf(text, "{ type: session, gap: %lldms }", (long long)s->window_ms[i]);
        break;
    case MR_CONFIG_GLOBAL:
        MR_UNREACHABLE();
    }
}

static void write_trigger(const struct sim_rule *rule, struct mr_buf *text) {
    static const char *const panes[] = {"accumulating", "discarding", "accumulating_and_retracting"};
    mr_buf_printf(text, "    trigger: { early: %lldms, early_count: %llu, late: %s, panes: %s }\n",
                  (long long)rule->early_ms, (unsigned long long)rule->early_count, rule->late ? "true" : "false",
                  panes[rule->panes]);
}

static void write_rules(const struct sim_settings *s, struct mr_buf *text) {
    mr_buf_append_text(text, "rules:\n");
    for (uint32_t i = 0; i < s->rules; i++) {
        mr_buf_printf(text,
                      "  r%u:\n    group_by: [key]\n    allowed_lateness: %lldms\n"
                      "    metrics: { n: count, total: { sum: value }, tags: { distinct: tag } }\n%s",
                      i, (long long)s->lateness_ms[i], s->rule[i].where ? "    where: value >= 0\n" : "");
        write_from(s, i, text);
        mr_buf_append_text(text, "    window: ");
        write_window(s, i, text);
        mr_buf_append_text(text, "\n");
        write_trigger(&s->rule[i], text);
        if (s->groups_max[i] > 0) {
            mr_buf_printf(text, "    groups: { max: %llu, when_full: %s }\n",
                          (unsigned long long)s->groups_max[i], s->groups_drop ? "drop" : "other");
        }
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
    mr_buf_printf(&text, "checkpoint: { every: %lldms }\n", (long long)s->checkpoint_every_ms);
    mr_buf_append_text(&text, "streams:\n");
    for (uint32_t i = 0; i < s->streams; i++) {
        write_stream(s, i, &text);
    }
    write_rules(s, &text);
    MR_ASSERT(!text.failed);
    char *environment[] = {NULL};
    struct mr_config *config = NULL;
    struct mr_error error;
    mr_config_slice_above(SIM_WINDOWS_WHOLE);
    if (mr_config_parse(mr_buf_bytes(&text), "sim", environment, &config, &error) != MR_OK) {
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

void sim_settings_print(const struct sim_settings *settings) {
    const struct sim_settings *s = settings;
    (void)fprintf(stderr,
                  "shards %u streams %u rules %u mode %u groups %llu%s windows %lld %lld lateness %lld %lld disorder %lld "
                  "horizon %lld ids %llu%s%s%s checkpoint %lld retain %lld ms %llu bytes segment %u\n",
                  s->shards, s->streams, s->rules, s->mode, (unsigned long long)s->groups_max[0],
                  s->groups_drop ? " drop" : "", (long long)s->window_ms[0], (long long)s->window_ms[1],
                  (long long)s->lateness_ms[0], (long long)s->lateness_ms[1],
                  (long long)s->stream[0].out_of_orderness_ms, (long long)s->horizon_ms, (unsigned long long)s->ids,
                  s->evict ? " evict" : "", sim_settings_detects(s) ? " conflicts" : "", s->log_sync ? "" : " sync off",
                  (long long)s->checkpoint_every_ms, (long long)s->retain_ms,
                  (unsigned long long)s->retain_bytes, s->segment_bytes);
    for (uint32_t i = 0; i < s->rules; i++) {
        const struct sim_rule *rule = &s->rule[i];
        (void)fprintf(stderr, "rule %u from %u kind %u every %lld offset %lld panes %u%s early %lld count %llu%s\n", i,
                      rule->from, rule->kind, (long long)rule->every_ms, (long long)rule->offset_ms, rule->panes,
                      rule->where ? " where" : "", (long long)rule->early_ms,
                      (unsigned long long)rule->early_count, rule->late ? "" : " late off");
    }
}
