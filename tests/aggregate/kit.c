/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/aggregate/kit.h"

#include "base/alloc.h"
#include "base/key.h"
#include "event/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

uint64_t kit_random(struct kit_random *random) { /* splitmix64 */
    uint64_t z = random->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

const int64_t *kit_everywhere(int64_t watermark_ms) {
    static int64_t watermarks_ms[MR_STREAMS_MAX];
    for (uint32_t s = 0; s < MR_STREAMS_MAX; s++) {
        watermarks_ms[s] = watermark_ms;
    }
    return watermarks_ms;
}

uint32_t kit_below(struct kit_random *random, uint32_t below) {
    return (uint32_t)(kit_random(random) % below);
}

struct mr_rule kit_rule(uint32_t index, uint32_t stream, uint32_t key_count, int64_t size_ms,
                        int64_t lateness_ms) {
    static const char *const names[] = {"first", "second", "third", "fourth"};
    struct mr_rule rule = {
        .name = mr_bytes_text(names[index % 4]),
        .index = index,
        .inputs = {{.stream = stream, .where = MR_NO_COLUMN, .key_columns = {0, 2}}},
        .input_count = 1,
        .trigger = {.late = true},
        .key_seed = 77 + index,
        .key_count = key_count,
        .key_names = {MR_BYTES("country"), MR_BYTES("size")},
        .window.size_ms = size_ms,
        .allowed_lateness_ms = lateness_ms,
        .metric_count = KIT_METRICS,
        .groups_max = UINT64_MAX,
        .groups_bytes = UINT64_MAX / 2,
        .final_floor_ms = INT64_MIN,
    };
    for (uint32_t m = 0; m < KIT_METRICS; m++) {
        rule.metrics[m].kind = (enum mr_metric_kind)m;
        rule.inputs[0].metric_columns[m] = m == MR_METRIC_COUNT ? MR_NO_COLUMN : 1;
        rule.inputs[0].metric_where[m] = MR_NO_COLUMN;
        rule.metrics[m].name = mr_bytes_text(mr_metric_kind_name((enum mr_metric_kind)m));
    }
    rule.state_len = mr_metric_layout(rule.metrics, rule.metric_count, 0);
    return rule;
}

void kit_key(const struct mr_rule *rule, uint32_t n, struct mr_buf *ret) {
    char text[32];
    for (uint32_t c = 0; c < rule->key_count; c++) {
        int len = snprintf(text, sizeof text, c == 0 ? "k%u" : "%u", c == 0 ? n : n % 3);
        struct mr_key_value value = {c == 0 ? MR_KEY_STRING : MR_KEY_NUMBER,
                                     mr_bytes_of(text, (size_t)len)};
        mr_key_append(ret, value);
    }
}

static void make_state(const struct mr_rule *rule, const int64_t *values, uint32_t count,
                       uint8_t *state) {
    enum { MAX = 64 };
    union mr_value column_values[MAX];
    uint8_t kinds[MAX];
    uint32_t events[MAX];
    uint8_t *states[MAX];
    assert_true(count <= MAX);
    for (uint32_t i = 0; i < count; i++) {
        column_values[i].i = values[i];
        kinds[i] = MR_VALUE_INT;
        events[i] = i;
        states[i] = state;
    }
    struct mr_column column = {column_values, kinds};
    memset(state, 0, rule->state_len);
    for (uint32_t m = 0; m < rule->metric_count; m++) {
        bool counts = rule->metrics[m].kind == MR_METRIC_COUNT;
        enum mr_status status = mr_metric_add(&rule->metrics[m], NULL, counts ? NULL : &column, events, states, count);
        assert_int_equal(status, MR_OK);
    }
}

void kit_partial(struct mr_parcel *parcel, const struct mr_rule *rule, int64_t start_ms,
                 uint32_t key, const int64_t *values, uint32_t count) {
    struct mr_buf bytes;
    mr_buf_init(&bytes, 4096);
    kit_key(rule, key, &bytes);
    uint64_t state[64];
    make_state(rule, values, count, (uint8_t *)state);
    size_t used = sizeof(struct mr_partial) + rule->state_len + bytes.len;
    struct mr_partial p = {
        .key_hash = mr_hash64(mr_buf_bytes(&bytes), rule->key_seed),
        .window_start_ms = start_ms,
        .events = count,
        .rule = rule->index,
        .key_len = (uint32_t)bytes.len,
        .state_len = rule->state_len,
        .size = (uint32_t)((used + 7) & ~(size_t)7),
    };
    mr_buf_append(&parcel->bytes, &p, sizeof p);
    mr_buf_append(&parcel->bytes, state, rule->state_len);
    mr_buf_append_bytes(&parcel->bytes, mr_buf_bytes(&bytes));
    mr_buf_append(&parcel->bytes, (const uint8_t[8]){0}, p.size - used);
    parcel->count++;
    mr_buf_finish(&bytes);
}

struct mr_combine *kit_open(const struct mr_rule *rules, uint32_t count, uint32_t shard) {
    static const struct mr_bytes names[] = {{(const uint8_t *)"clicks", 6}};
    struct mr_combine *combine;
    assert_int_equal(mr_combine_open(rules, count, 1, names, shard, &combine), MR_OK);
    return combine;
}

void kit_advance(struct mr_combine *combine, uint64_t seq, int64_t watermark_ms) {
    struct mr_flush *flush = mr_flush_open(seq);
    bool done = false;
    mr_combine_advance(combine, seq, &watermark_ms, 0);
    assert_int_equal(mr_combine_fire(combine, UINT32_MAX, flush, &done), MR_OK);
    assert_true(done);
    mr_flush_close(flush);
}

uint32_t kit_owner(const struct mr_rule *rule, uint32_t key, uint32_t shards) {
    struct mr_buf bytes;
    mr_buf_init(&bytes, 4096);
    kit_key(rule, key, &bytes);
    uint32_t owner = mr_rule_shard(mr_hash64(mr_buf_bytes(&bytes), rule->key_seed), shards);
    mr_buf_finish(&bytes);
    return owner;
}

bool kit_save_slice(struct mr_combine *combine, uint32_t budget, struct kit_slices *ret) {
    bool done = false;
    ret->items = mr_realloc(ret->items, (ret->count + 1) * sizeof *ret->items);
    assert_non_null(ret->items);
    struct mr_buf *slice = &ret->items[ret->count++];
    mr_buf_init(slice, 1 << 30);
    assert_int_equal(mr_combine_save(combine, budget, slice, &done), MR_OK);
    assert_true(slice->len > 0 && slice->len % 8 == 0);
    return done;
}

void kit_save(struct mr_combine *combine, uint64_t seq, uint32_t budget, struct kit_slices *ret) {
    mr_combine_save_begin(combine, seq);
    while (!kit_save_slice(combine, budget, ret)) {
    }
    assert_false(mr_combine_saving(combine));
}

enum mr_status kit_load(struct mr_combine *combine, const struct mr_combine_load *how,
                        const struct kit_slices *slices, uint32_t count, uint64_t *ret_dropped,
                        struct mr_error *error) {
    *ret_dropped = 0;
    enum mr_status status = mr_combine_load_begin(combine, how, error);
    for (uint32_t s = 0; s < count; s++) {
        for (uint32_t i = 0; i < slices[s].count && status == MR_OK; i++) {
            uint64_t dropped = 0;
            status = mr_combine_load_slice(combine, mr_buf_bytes(&slices[s].items[i]), s == 0,
                                           &dropped, error);
            *ret_dropped += dropped;
        }
    }
    return status == MR_OK ? mr_combine_load_end(combine, error) : status;
}

void kit_slices_finish(struct kit_slices *slices) {
    for (uint32_t i = 0; i < slices->count; i++) {
        mr_buf_finish(&slices->items[i]);
    }
    mr_free(slices->items);
    *slices = (struct kit_slices){0};
}

void kit_slice_seal(struct mr_buf *slice) {
    uint64_t checksum = mr_checksum(mr_bytes_of(slice->ptr + 8, slice->len - 8));
    memcpy(slice->ptr, &checksum, sizeof checksum);
}

static struct model_window *model_window(struct model *model, uint32_t rule, int64_t start_ms) {
    uint32_t at = 0;
    while (at < model->window_count &&
           (model->windows[at].rule < rule ||
            (model->windows[at].rule == rule && model->windows[at].start_ms < start_ms))) {
        at++;
    }
    struct model_window *w = &model->windows[at];
    if (at < model->window_count && w->rule == rule && w->start_ms == start_ms) {
        return w;
    }
    assert_true(model->window_count < KIT_WINDOWS_MAX);
    memmove(w + 1, w, (model->window_count - at) * sizeof *w);
    model->window_count++;
    memset(w, 0, sizeof *w);
    w->rule = rule;
    w->start_ms = start_ms;
    w->closed = model->watermark_ms >= start_ms + model->rules[rule].window.size_ms;
    return w;
}

void model_merge(struct model *model, uint64_t seq, uint32_t rule, int64_t start_ms, uint32_t key,
                 const int64_t *values, uint32_t count) {
    struct model_window *w = model_window(model, rule, start_ms);
    assert_false(w->final);
    uint32_t g = 0;
    while (g < w->group_count && w->groups[g].key != key) {
        g++;
    }
    if (g == w->group_count) {
        assert_true(g < KIT_KEYS_MAX);
        w->group_count++;
        w->groups[g] = (struct model_group){.key = key, .min = INT64_MAX, .max = INT64_MIN};
    }
    struct model_group *group = &w->groups[g];
    group->revision = seq;
    for (uint32_t i = 0; i < count; i++) {
        group->events++;
        group->sum += values[i];
        group->min = values[i] < group->min ? values[i] : group->min;
        group->max = values[i] > group->max ? values[i] : group->max;
    }
}

void model_advance(struct model *model, uint64_t seq, int64_t watermark_ms, model_pane pane,
                   void *ctx) {
    model->watermark_ms = watermark_ms;
    for (uint32_t i = 0; i < model->window_count; i++) {
        struct model_window *w = &model->windows[i];
        const struct mr_rule *rule = &model->rules[w->rule];
        int64_t end = w->start_ms + rule->window.size_ms;
        bool closes = !w->closed && watermark_ms >= end;
        bool was_closed = w->closed;
        if (!w->final && watermark_ms >= end + rule->allowed_lateness_ms) {
            w->final = true;
            w->final_seq = seq;
        }
        if (closes) {
            w->closed = true;
            w->closed_seq = seq;
        }
        for (uint32_t g = 0; g < w->group_count; g++) {
            if (closes || (was_closed && w->groups[g].revision == seq)) {
                pane(ctx, w, &w->groups[g], closes ? MR_TIMING_ON_TIME : MR_TIMING_LATE);
            }
        }
    }
}

void model_release(struct model *model, uint64_t confirmed_seq) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < model->window_count; i++) {
        if (!model->windows[i].final || model->windows[i].final_seq > confirmed_seq) {
            model->windows[kept++] = model->windows[i];
        }
    }
    model->window_count = kept;
}

void model_expect_state(const struct mr_rule *rule, const struct model_group *group,
                        const uint8_t *state) {
    struct mr_number n[KIT_METRICS];
    for (uint32_t m = 0; m < KIT_METRICS; m++) {
        n[m] = mr_metric_finish(rule->metrics, m, mr_bytes_of(state, rule->state_len), NULL);
        assert_int_equal(n[m].kind, m == MR_METRIC_AVG ? MR_NUMBER_DOUBLE : MR_NUMBER_INT);
    }
    assert_int_equal(n[MR_METRIC_COUNT].i, group->events);
    assert_int_equal(n[MR_METRIC_SUM].i, group->sum);
    assert_int_equal(n[MR_METRIC_MIN].i, group->min);
    assert_int_equal(n[MR_METRIC_MAX].i, group->max);
    assert_true(n[MR_METRIC_AVG].d == (double)group->sum / (double)group->events);
}
