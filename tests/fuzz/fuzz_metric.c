/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the encoded form of metrics: the input chooses a metric and is its block, or a program of damages to a block
 * that was made from values. What check lets through must be usable: it merges into an empty and into a filled block,
 * has results, and is encoded again to what check lets through; from an empty block to the same sketch.
 */
#include "base/check.h"
#include "tests/aggregate/metric_kit.h"

enum { LEN_MAX = 1 << 17, STEP = 4, SAMPLES = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const double ranks[] = {0, 0.5, 0.99, 1};
static const double bounds[] = {-1, 0, 10, 1000};

static struct mr_metric metric_of(uint8_t choice) {
    struct mr_metric metric = {.kind = (enum mr_metric_kind)(choice % MR_METRIC_RATIO)};
    if (metric.kind == MR_METRIC_DISTINCT || metric.kind == MR_METRIC_QUANTILES) {
        metric.error = choice < 128 ? 0.25 : 0.02;
    }
    if (metric.kind == MR_METRIC_QUANTILES) {
        metric.params = ranks;
        metric.param_count = 4;
    } else if (metric.kind == MR_METRIC_HISTOGRAM) {
        metric.params = bounds;
        metric.param_count = 4;
    } else if (metric.kind == MR_METRIC_COLLECT) {
        metric.limit = choice < 128 ? 5 : 2000;
    }
    mr_metric_layout(&metric, 1, 0);
    return metric;
}

/* Few, some or many values of all kinds. */
static struct mr_bytes make_sample(const struct mr_metric *metric, uint32_t sample) {
    static const uint32_t counts[SAMPLES] = {3, 90, 900};
    struct kit_random random = {sample + 1};
    struct metric_events events = {.count = 0};
    char text[400];
    for (uint32_t i = 0; i < counts[sample]; i++) {
        uint32_t value = kit_below(&random, 300);
        int64_t time_ms = kit_below(&random, 100);
        switch (kit_below(&random, 4)) {
        case 0:
            metric_event_int(&events, time_ms, (int64_t)value - 9);
            break;
        case 1:
            metric_event_double(&events, time_ms, (double)value * 1.37);
            break;
        case 2:
            metric_event(&events, time_ms, (uint8_t)(value % 4), (union mr_value){.i = 0});
            break;
        default:
            memset(text, 'a' + (int)(value % 26), sizeof text);
            metric_event_text(&events, time_ms, MR_VALUE_STRING, mr_bytes_of(text, value + value / 4));
        }
    }
    uint8_t *block = metric_block(metric, 1);
    metric_add_range(metric, 1, &events, 0, events.count, block);
    metric_events_finish(&events);
    struct mr_bytes ret = metric_encode(metric, 1, block);
    metric_block_close(metric, 1, block);
    return ret;
}

/* Made once for each choice of a metric. */
static struct mr_bytes sample_of(const struct mr_metric *metric, uint8_t choice, uint32_t sample) {
    static struct mr_bytes samples[UINT8_MAX + 1][SAMPLES];
    struct mr_bytes *ret = &samples[choice][sample];
    if (ret->ptr == NULL) {
        *ret = make_sample(metric, sample);
    }
    return *ret;
}

static struct mr_bytes encode(const struct mr_metric *metric, const uint8_t *block) {
    static uint64_t room[LEN_MAX / 8];
    uint32_t len = mr_metric_encoded_len(metric, 1, block);
    MR_ASSERT(len <= LEN_MAX && len <= mr_metric_encoded_max(metric, 1));
    mr_metric_encode(metric, 1, block, (uint8_t *)room);
    enum mr_status status = mr_metric_check(metric, 1, mr_bytes_of(room, len));
    MR_ASSERT(status == MR_OK);
    return mr_bytes_of(room, len);
}

static void merge(const struct mr_metric *metric, uint8_t *block, struct mr_bytes bytes) {
    enum mr_status status = mr_metric_merge(metric, 1, block, bytes);
    MR_ASSERT(status == MR_OK);
}

static void use(const struct mr_metric *metric, uint8_t choice, struct mr_bytes bytes) {
    struct mr_arena scratch;
    mr_arena_init(&scratch, 1024, 1 << 20);
    for (uint32_t sample = 0; sample <= SAMPLES; sample++) {
        uint8_t *block = metric_block(metric, 1);
        if (sample < SAMPLES) {
            merge(metric, block, sample_of(metric, choice, sample));
        }
        merge(metric, block, bytes);
        struct mr_bytes again = encode(metric, block);
        if (sample == SAMPLES && mr_metrics_grow(metric, 1)) {
            MR_ASSERT(mr_bytes_equal(again, bytes));
        }
        struct mr_number number = mr_metric_finish(metric, 0, again, &scratch);
        MR_ASSERT(mr_number_compare(number, number) == 0);
        metric_block_close(metric, 1, block);
    }
    mr_arena_finish(&scratch);
}

static size_t damage(uint8_t *bytes, size_t len, const uint8_t step[STEP]) {
    size_t at = ((size_t)step[1] << 8 | step[2]) % len;
    size_t word = at - at % 8;
    uint64_t value = (uint64_t)(int64_t)(int8_t)step[3];
    switch (step[0] % 5) {
    case 0:
        bytes[at] ^= step[3];
        return len;
    case 1:
        memcpy(bytes + word, &value, sizeof value);
        return len;
    case 2:
        memcpy(bytes + word + step[0] / 8 % 2 * 4, &value, 4);
        return len;
    case 3:
        memmove(bytes + word, bytes + (size_t)step[3] * 8 % len, 8);
        return len;
    default:
        return word == 0 ? 8 : word;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static uint64_t room[LEN_MAX / 8];
    uint8_t *bytes = (uint8_t *)room;
    if (len < 2 || len > LEN_MAX) {
        return 0;
    }
    struct mr_metric metric = metric_of(data[0]);
    size_t encoded_len = len - 2;
    if (data[1] % 4 == 0) {
        memcpy(bytes, data + 2, encoded_len);
    } else {
        struct mr_bytes sample = sample_of(&metric, data[0], data[1] % 4 - 1u);
        MR_ASSERT(sample.len <= LEN_MAX);
        memcpy(bytes, sample.ptr, sample.len);
        encoded_len = sample.len;
        for (size_t at = 2; at + STEP <= len; at += STEP) {
            encoded_len = damage(bytes, encoded_len, data + at);
        }
    }
    if (mr_metric_check(&metric, 1, mr_bytes_of(bytes, encoded_len)) == MR_OK) {
        use(&metric, data[0], mr_bytes_of(bytes, encoded_len));
    }
    return 0;
}
