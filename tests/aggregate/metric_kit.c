/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/aggregate/metric_kit.h"

#include "base/alloc.h"
#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { DEAL_CHUNK = 64, BODY_MAX = 64 << 20 };

void metric_events_finish(struct metric_events *events) {
    mr_free(events->column.values);
    mr_free(events->column.kinds);
    mr_free(events->batch.times_ms);
    mr_buf_finish(&events->batch.body);
    *events = (struct metric_events){.count = 0};
}

void metric_events_clear(struct metric_events *events) {
    events->count = 0;
    mr_buf_clear(&events->batch.body);
}

void metric_event(struct metric_events *events, int64_t time_ms, uint8_t kind, union mr_value value) {
    if (events->count == events->capacity) {
        uint32_t capacity = events->capacity * 2 + 64;
        events->column.values = mr_realloc(events->column.values, capacity * sizeof(union mr_value));
        events->column.kinds = mr_realloc(events->column.kinds, capacity);
        events->batch.times_ms = mr_realloc(events->batch.times_ms, capacity * sizeof(int64_t));
        events->capacity = capacity;
    }
    events->column.values[events->count] = value;
    events->column.kinds[events->count] = kind;
    events->batch.times_ms[events->count++] = time_ms;
}

void metric_event_int(struct metric_events *events, int64_t time_ms, int64_t i) {
    metric_event(events, time_ms, MR_VALUE_INT, (union mr_value){.i = i});
}

void metric_event_double(struct metric_events *events, int64_t time_ms, double d) {
    metric_event(events, time_ms, MR_VALUE_DOUBLE, (union mr_value){.d = d});
}

void metric_event_text(struct metric_events *events, int64_t time_ms, uint8_t kind, struct mr_bytes text) {
    struct mr_buf *body = &events->batch.body;
    if (body->cap_max == 0) {
        mr_buf_init(body, BODY_MAX);
    }
    union mr_value value = {.text = {(uint32_t)body->len, (uint32_t)text.len}};
    mr_buf_append_bytes(body, text);
    MR_ASSERT(!body->failed);
    metric_event(events, time_ms, kind, value);
}

static uint32_t block_len(const struct mr_metric *metrics, uint32_t count) {
    static uint8_t zero[8192];
    return mr_metric_encoded_len(metrics, count, zero);
}

uint8_t *metric_block(const struct mr_metric *metrics, uint32_t count) {
    return mr_alloc_zero(1, block_len(metrics, count));
}

void metric_block_close(const struct mr_metric *metrics, uint32_t count, uint8_t *block) {
    mr_metric_release(metrics, count, block);
    assert_int_equal(mr_metric_heap(metrics, count, block), 0);
    mr_free(block);
}

static void add_some(const struct mr_metric *metrics, uint32_t count, const struct metric_events *events,
                     const uint32_t *which, uint32_t n, uint8_t *block) {
    uint8_t *states[DEAL_CHUNK];
    MR_ASSERT(n <= DEAL_CHUNK);
    for (uint32_t k = 0; k < n; k++) {
        states[k] = block;
    }
    for (uint32_t m = 0; m < count; m++) {
        bool alone = metrics[m].kind == MR_METRIC_COUNT || metrics[m].kind == MR_METRIC_RATIO;
        assert_int_equal(mr_metric_add(&metrics[m], &events->batch, alone ? NULL : &events->column, which, states, n),
                         MR_OK);
    }
}

void metric_add_range(const struct mr_metric *metrics, uint32_t count, const struct metric_events *events,
                      uint32_t begin, uint32_t end, uint8_t *block) {
    uint32_t which[DEAL_CHUNK];
    for (uint32_t at = begin; at < end;) {
        uint32_t n = 0;
        for (; at < end && n < DEAL_CHUNK; n++) {
            which[n] = at++;
        }
        add_some(metrics, count, events, which, n, block);
    }
}

struct mr_bytes metric_encode(const struct mr_metric *metrics, uint32_t count, const uint8_t *block) {
    uint32_t len = mr_metric_encoded_len(metrics, count, block);
    uint8_t *bytes = mr_alloc(len);
    memset(bytes, 0xAA, len);
    assert_int_equal(len % 8, 0);
    assert_true(len <= mr_metric_encoded_max(metrics, count));
    mr_metric_encode(metrics, count, block, bytes);
    assert_int_equal(mr_metric_check(metrics, count, mr_bytes_of(bytes, len)), MR_OK);
    return mr_bytes_of(bytes, len);
}

struct mr_bytes metric_deal(const struct mr_metric *metrics, uint32_t count, const struct metric_events *events,
                            uint32_t parts, struct kit_random *random) {
    uint32_t *order = mr_alloc(events->count * sizeof order[0] + 1);
    uint8_t **blocks = mr_alloc(parts * sizeof blocks[0]);
    for (uint32_t i = 0; i < events->count; i++) { /* Fisher-Yates, inside out */
        uint32_t j = kit_below(random, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (uint32_t p = 0; p < parts; p++) {
        blocks[p] = metric_block(metrics, count);
    }
    for (uint32_t at = 0; at < events->count;) {
        uint32_t n = 1 + kit_below(random, DEAL_CHUNK);
        n = n < events->count - at ? n : events->count - at;
        add_some(metrics, count, events, order + at, n, blocks[kit_below(random, parts)]);
        at += n;
    }
    for (uint32_t left = parts; left > 1; left--) {
        uint32_t from = kit_below(random, left);
        uint8_t *last = blocks[from];
        blocks[from] = blocks[left - 1];
        struct mr_bytes bytes = metric_encode(metrics, count, last);
        assert_int_equal(mr_metric_merge(metrics, count, blocks[kit_below(random, left - 1)], bytes), MR_OK);
        metric_block_close(metrics, count, last);
        mr_free((void *)(uintptr_t)bytes.ptr);
    }
    struct mr_bytes ret = metric_encode(metrics, count, blocks[0]);
    metric_block_close(metrics, count, blocks[0]);
    mr_free(blocks);
    mr_free(order);
    return ret;
}

const char *metric_text(const struct mr_metric *metrics, uint32_t index, struct mr_bytes encoded,
                        struct mr_arena *scratch) {
    uint8_t *odd = mr_alloc(encoded.len + 1);
    memcpy(odd + 1, encoded.ptr, encoded.len);
    struct mr_number number = mr_metric_finish(metrics, index, mr_bytes_of(odd + 1, encoded.len), scratch);
    mr_free(odd);
    if (number.kind == MR_NUMBER_NULL) {
        return "NULL";
    }
    assert_true(number.kind == MR_NUMBER_TEXT || number.kind == MR_NUMBER_JSON);
    return (const char *)mr_arena_copy(scratch, mr_bytes_of(number.text, number.len)).ptr;
}

void metric_free(struct mr_bytes bytes) {
    mr_free((void *)(uintptr_t)bytes.ptr);
}

struct mr_arena metric_scratch;

int metric_set_up(void **state) {
    (void)state;
    mr_arena_init(&metric_scratch, 1024, 1 << 20);
    return 0;
}

int metric_tear_down(void **state) {
    (void)state;
    mr_arena_finish(&metric_scratch);
    return 0;
}
