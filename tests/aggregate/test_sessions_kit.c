/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/aggregate/test_sessions_kit.h"

#include "base/alloc.h"
#include "base/key.h"
#include "tests/aggregate/metric_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

struct mr_rule sk_rule(int64_t gap_ms, int64_t size_ms, int64_t lateness_ms) {
    struct mr_rule rule = kit_rule(0, 0, 1, size_ms, lateness_ms);
    rule.window.kind = MR_WINDOW_SESSION;
    rule.window.gap_ms = gap_ms;
    rule.state_len = mr_metric_layout(rule.metrics, rule.metric_count, mr_rule_prefix(&rule));
    return rule;
}

void sk_rule_grow(struct mr_rule *rule, bool collect) {
    static const double quantiles[] = {0.5, 0.9};
    static const enum mr_metric_kind kinds[] = {MR_METRIC_LAST, MR_METRIC_DISTINCT, MR_METRIC_TOP, MR_METRIC_COLLECT,
                                                MR_METRIC_QUANTILES};
    for (uint32_t m = KIT_METRICS; m < SK_METRICS; m++) {
        rule->metrics[m].kind = kinds[m - KIT_METRICS];
        rule->metrics[m].name = mr_bytes_text(mr_metric_kind_name(kinds[m - KIT_METRICS]));
    }
    rule->metrics[SK_QUANTILES].params = quantiles;
    rule->metrics[SK_QUANTILES].param_count = 2;
    rule->metrics[SK_DISTINCT].error = 0.1; /* small */
    rule->metrics[SK_TOP].limit = 3;
    rule->metrics[SK_COLLECT].limit = 20;
    rule->metrics[SK_COLLECT].kind = collect ? MR_METRIC_COLLECT : MR_METRIC_VARIANCE;
    rule->metric_count = SK_METRICS;
    rule->state_len = mr_metric_layout(rule->metrics, rule->metric_count, mr_rule_prefix(rule));
    rule->grows = mr_metrics_grow(rule->metrics, rule->metric_count);
    assert_true(rule->grows);
}

void sk_key(const struct mr_rule *rule, uint32_t key, struct mr_buf *ret) {
    if (key < SK_KEYS) {
        kit_key(rule, key, ret);
    } else {
        uint8_t other[2] = {MR_KEY_OTHER, (uint8_t)(key - SK_KEYS)};
        mr_buf_append(ret, other, sizeof other);
    }
}

uint32_t sk_key_number(const struct mr_rule *rule, struct mr_bytes key, uint32_t *ret_index) {
    bool indexed = rule->trigger.panes == MR_DISCARDING;
    size_t len = key.len - (indexed ? MR_KEY_PANE_LEN : 0);
    *ret_index = indexed ? mr_key_read_pane(mr_bytes_of(key.ptr + len + 1, 4)) : 0;
    struct mr_buf bytes;
    mr_buf_init(&bytes, 64);
    for (uint32_t k = 0; k < SK_KEYS + SK_SHARDS; k++) {
        mr_buf_clear(&bytes);
        sk_key(rule, k, &bytes);
        if (mr_bytes_equal(mr_buf_bytes(&bytes), mr_bytes_of(key.ptr, len))) {
            mr_buf_finish(&bytes);
            return k;
        }
    }
    fail();
    return 0;
}

uint32_t sk_owner(const struct sk_world *w, uint32_t key) {
    return key < SK_KEYS ? kit_owner(&w->rule, key, w->shards) : (key - SK_KEYS) % w->shards;
}

void sk_open(struct sk_world *w, const struct mr_rule *rule, uint32_t shards, uint64_t seed) {
    memset(w, 0, sizeof *w);
    w->random.state = seed;
    w->rule = *rule;
    w->shards = shards;
    w->watermark_ms = INT64_MIN;
    w->recorded_ms = 1000;
    w->seq = 10;
    w->budget = UINT32_MAX;
    w->model.rule = &w->rule;
    w->model.watermark_ms = INT64_MIN;
    for (uint32_t s = 0; s < shards; s++) {
        assert_int_equal(mr_sessions_open(&w->rule, s, &w->sessions[s]), MR_OK);
    }
}

void sk_close(struct sk_world *w) {
    for (uint32_t s = 0; s < w->shards; s++) {
        mr_sessions_close(w->sessions[s]);
    }
}

bool sk_is_final(const struct mr_rule *rule, int64_t end_ms, int64_t watermark_ms) {
    return end_ms <= rule->final_floor_ms ||
           (watermark_ms != INT64_MIN && end_ms <= watermark_ms - rule->allowed_lateness_ms);
}

/* As lift makes them: no event late by its own [t, t + gap), none longer than the longest. */
static void make_proto(struct sk_world *w, struct sk_proto *p) {
    const struct mr_window *window = &w->rule.window;
    int64_t newest = w->watermark_ms == INT64_MIN ? 0 : w->watermark_ms;
    int64_t behind = w->rule.allowed_lateness_ms + window->gap_ms;
    int64_t time = newest - behind + 1 + (int64_t)kit_below(&w->random, (uint32_t)(behind + 60));
    while (sk_is_final(&w->rule, time + window->gap_ms, w->watermark_ms)) {
        time++;
    }
    *p = (struct sk_proto){.key = kit_below(&w->random, SK_KEYS)};
    uint32_t count = 1 + kit_below(&w->random, SK_PROTO_EVENTS);
    int64_t start = time;
    while (p->count < count && time + window->gap_ms - start <= window->size_ms) {
        p->times[p->count] = time;
        p->values[p->count++] = kit_below(&w->random, 8) == 0 ? 0 : (int64_t)kit_below(&w->random, 1000) - 500;
        time += kit_below(&w->random, (uint32_t)window->gap_ms);
    }
}

void sk_make_bundle(struct sk_world *w, struct sk_bundle *b) {
    w->seq += 1 + kit_below(&w->random, 2);
    w->recorded_ms += kit_below(&w->random, 30);
    *b = (struct sk_bundle){.seq = w->seq, .recorded_ms = w->recorded_ms};
    b->count = kit_below(&w->random, SK_PROTOS + 1);
    for (uint32_t i = 0; i < b->count; i++) {
        make_proto(w, &b->protos[i]);
    }
    if (kit_below(&w->random, 4) > 0) {
        int64_t before = w->watermark_ms == INT64_MIN ? -40 : w->watermark_ms;
        w->watermark_ms = before + kit_below(&w->random, 25);
    }
    b->watermark_ms = w->watermark_ms;
}

/* Its key is left out: the caller gives one. */
static struct mr_partial *make_partial(const struct mr_rule *rule, const struct sk_proto *proto) {
    struct metric_events events = {0};
    for (uint32_t i = 0; i < proto->count; i++) {
        if (proto->values[i] != 0) {
            metric_event_int(&events, proto->times[i], proto->values[i]);
        } else {
            char text[24];
            int len = snprintf(text, sizeof text, "t%lld", (long long)proto->times[i]);
            metric_event_text(&events, proto->times[i], MR_VALUE_STRING, mr_bytes_of(text, (size_t)len));
        }
    }
    uint8_t *block = metric_block(rule->metrics, rule->metric_count);
    metric_add_range(rule->metrics, rule->metric_count, &events, 0, proto->count, block);
    struct mr_session_extent extent = {proto->times[proto->count - 1] + rule->window.gap_ms, proto->times[0]};
    memcpy(block, &extent, sizeof extent);
    struct mr_bytes encoded = metric_encode(rule->metrics, rule->metric_count, block);
    struct mr_partial *partial = mr_alloc(sizeof *partial + encoded.len);
    assert_non_null(partial);
    *partial = (struct mr_partial){.window_start_ms = proto->times[0],
                                   .events = proto->count,
                                   .state_len = (uint32_t)encoded.len,
                                   .size = (uint32_t)(sizeof *partial + encoded.len)};
    memcpy(mr_partial_state(partial), encoded.ptr, encoded.len);
    mr_free((void *)(uintptr_t)encoded.ptr);
    metric_block_close(rule->metrics, rule->metric_count, block);
    metric_events_finish(&events);
    return partial;
}

enum mr_status sk_merge_failing(struct mr_sessions *sessions, const struct mr_rule *rule, const struct sk_bundle *b,
                                const struct sk_proto *proto, uint32_t fail_nth) {
    struct mr_partial *partial = make_partial(rule, proto);
    struct mr_buf key;
    mr_buf_init(&key, 64);
    sk_key(rule, proto->key, &key);
    mr_alloc_fail_at(fail_nth, 1);
    enum mr_status status = mr_sessions_merge(sessions, b->seq, b->recorded_ms, partial,
                                              mr_hash64(mr_buf_bytes(&key), rule->key_seed), mr_buf_bytes(&key));
    mr_alloc_fail_at(0, 0);
    mr_buf_finish(&key);
    mr_free(partial);
    return status;
}

enum mr_status sk_merge(struct mr_sessions *sessions, const struct mr_rule *rule, const struct sk_bundle *b,
                        const struct sk_proto *proto) {
    return sk_merge_failing(sessions, rule, b, proto, 0);
}

uint64_t sk_hash(struct mr_sessions *sessions) {
    uint64_t hash = 0;
    assert_int_equal(mr_sessions_state_hash_scan(sessions, &hash), MR_OK);
    return hash;
}

/* Without memory nothing has changed. */
static enum mr_status merge_or_again(struct mr_sessions *sessions, struct sk_world *w, const struct sk_bundle *b,
                                     const struct sk_proto *proto) {
    if (w->fail_nth > 0) {
        uint64_t before = sk_hash(sessions);
        enum mr_status status = sk_merge_failing(sessions, &w->rule, b, proto, w->fail_nth);
        if (status != MR_NO_MEMORY) {
            return status;
        }
        mr_sessions_check_scan(sessions);
        assert_int_equal(before, sk_hash(sessions));
        w->failed++;
    }
    return sk_merge(sessions, &w->rule, b, proto);
}

static void fire_all(struct mr_sessions *sessions, struct sk_world *w, uint32_t shard, uint64_t seq,
                     struct mr_buf *ret) {
    bool done = false;
    while (!done) {
        struct mr_flush *flush = mr_flush_open(seq);
        uint32_t left = w->budget;
        assert_int_equal(mr_sessions_fire(sessions, &left, flush, &done), MR_OK);
        assert_true(done || left == 0);
        mr_buf_append_bytes(ret, mr_buf_bytes(&flush->panes));
        mr_flush_close(flush);
        mr_sessions_check_scan(sessions);
        if (w->between != NULL) {
            w->between(w, shard);
        }
    }
}

void sk_run(struct mr_sessions *sessions, struct sk_world *w, uint32_t shard, const struct sk_bundle *b,
            struct mr_buf *ret) {
    for (uint32_t i = 0; i < b->count; i++) {
        if (sk_owner(w, b->protos[i].key) == shard) {
            enum mr_status status = merge_or_again(sessions, w, b, &b->protos[i]);
            if (status == MR_FULL) {
                struct sk_proto other = b->protos[i];
                other.key = SK_KEYS + shard;
                status = merge_or_again(sessions, w, b, &other);
            }
            assert_int_equal(status, MR_OK);
            if (w->between != NULL) {
                w->between(w, shard);
            }
        }
    }
    mr_sessions_advance(sessions, b->seq, b->watermark_ms, b->recorded_ms);
    fire_all(sessions, w, shard, b->seq, ret);
}
