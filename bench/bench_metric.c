/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures metrics: bench_metric [adds] [groups].
 *
 * Every kind takes `adds` values, in columns of 1,024 as lift gives them: numbers of a skewed distribution, or texts
 * ("user012345", 100,000 of them, skewed too) for those that take any scalar. Once all into one block, once dealt to
 * `groups` blocks: ns per add. Then memory of a group of 10 and of 10,000 values: live (block and heap), and encoded.
 * The hash is of the encoded blocks.
 */
#include "aggregate/metric.h"
#include "bench/measure.h"
#include "event/batch.h"

#include <math.h>

enum { COLUMN = 1024, COLUMNS = 64, VALUES = 100000 };

static const double ranks[] = {0.5, 0.95, 0.99};
static const double bounds[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000};

/* COLUMNS columns of numbers and of texts, over which the benchmark goes again and again. */
struct source {
    struct mr_batch batch;
    struct mr_column numbers;
    struct mr_column texts;
    int64_t times_ms[COLUMN * COLUMNS];
    union mr_value number_values[COLUMN * COLUMNS];
    union mr_value text_values[COLUMN * COLUMNS];
    uint8_t number_kinds[COLUMN * COLUMNS];
    uint8_t text_kinds[COLUMN * COLUMNS];
};

static struct source *open_source(void) {
    uint64_t random = 1;
    struct source *s = mr_alloc_aligned(MR_CACHE_LINE, sizeof *s);
    MR_ASSERT(s != NULL);
    memset(s, 0, sizeof *s);
    mr_buf_init(&s->batch.body, (size_t)COLUMN * COLUMNS * 16);
    for (uint32_t i = 0; i < COLUMN * COLUMNS; i++) {
        double uniform = (double)(bench_random(&random) >> 11) * 0x1p-53;
        s->number_values[i].d = 0.1 + pow(uniform, 4) * 1000;
        s->number_kinds[i] = MR_VALUE_DOUBLE;
        if (i % 2 == 0) {
            s->number_values[i].i = (int64_t)s->number_values[i].d;
            s->number_kinds[i] = MR_VALUE_INT;
        }
        s->text_values[i].text = (struct mr_text){(uint32_t)s->batch.body.len, 10};
        s->text_kinds[i] = MR_VALUE_STRING;
        mr_buf_printf(&s->batch.body, "user%06u", (unsigned)(pow(uniform, 3) * VALUES));
        s->times_ms[i] = INT64_C(1700000000000) + (int64_t)(bench_random(&random) % 10000);
    }
    MR_ASSERT(!s->batch.body.failed);
    s->numbers = (struct mr_column){s->number_values, s->number_kinds};
    s->texts = (struct mr_column){s->text_values, s->text_kinds};
    s->batch.times_ms = s->times_ms;
    return s;
}

static struct mr_metric metric_of(enum mr_metric_kind kind) {
    struct mr_metric metric = {.kind = kind};
    if (kind == MR_METRIC_QUANTILES) {
        metric.params = ranks;
        metric.param_count = sizeof ranks / sizeof ranks[0];
    } else if (kind == MR_METRIC_HISTOGRAM) {
        metric.params = bounds;
        metric.param_count = sizeof bounds / sizeof bounds[0];
    }
    mr_metric_layout(&metric, 1, 0);
    return metric;
}

static bool takes_texts(enum mr_metric_kind kind) {
    return kind == MR_METRIC_FIRST || kind == MR_METRIC_LAST || kind == MR_METRIC_DISTINCT || kind == MR_METRIC_TOP ||
           kind == MR_METRIC_COLLECT;
}

/* One column, dealt to the groups. */
static uint64_t add_column(const struct source *s, const struct mr_metric *metric, uint64_t column, uint8_t *blocks,
                           uint32_t size, uint64_t groups, uint64_t *random) {
    uint32_t events[COLUMN];
    uint8_t *states[COLUMN];
    const struct mr_column *of = takes_texts(metric->kind) ? &s->texts : &s->numbers;
    for (uint32_t k = 0; k < COLUMN; k++) {
        events[k] = (uint32_t)(column % COLUMNS) * COLUMN + k;
        states[k] = blocks + (groups == 1 ? 0 : bench_random(random) % groups) * size;
    }
    uint64_t begin = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    enum mr_status status =
        mr_metric_add(metric, &s->batch, metric->kind == MR_METRIC_COUNT ? NULL : of, events, states, COLUMN);
    MR_ASSERT(status == MR_OK);
    return bench_clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
}

static uint64_t hash_and_release(const struct mr_metric *metric, uint8_t *block, uint64_t *ret_live,
                                 uint64_t *ret_encoded) {
    uint32_t len = mr_metric_encoded_len(metric, 1, block);
    uint8_t *bytes = mr_alloc(len);
    MR_ASSERT(bytes != NULL);
    mr_metric_encode(metric, 1, block, bytes);
    uint64_t hash = mr_checksum(mr_bytes_of(bytes, len));
    *ret_live += mr_metric_heap(metric, 1, block);
    *ret_encoded += len;
    mr_metric_release(metric, 1, block);
    mr_free(bytes);
    return hash;
}

static void measure_adds(const struct source *s, enum mr_metric_kind kind, uint64_t adds, uint64_t groups) {
    struct mr_metric metric = metric_of(kind);
    uint8_t zero[1024] = {0};
    uint32_t size = mr_metric_encoded_len(&metric, 1, zero);
    uint8_t *blocks = mr_alloc_zero(groups, size);
    struct bench_runs runs = {.ns = NULL};
    uint64_t random = 2;
    uint64_t hash = 0;
    uint64_t live = groups * size;
    uint64_t encoded = 0;
    MR_ASSERT(blocks != NULL && groups > 0);
    for (uint64_t column = 0; column == 0 || column < adds / COLUMN; column++) {
        bench_add(&runs, add_column(s, &metric, column, blocks, size, groups, &random), COLUMN);
    }
    for (uint64_t g = 0; g < groups; g++) {
        hash = hash * 31 + hash_and_release(&metric, blocks + g * size, &live, &encoded);
    }
    char parameters[64];
    (void)snprintf(parameters, sizeof parameters, "%s, %" PRIu64 " groups", mr_metric_kind_name(kind), groups);
    bench_line("metric", parameters, &runs, "add", "", hash);
    mr_free(blocks);
}

static uint64_t measure_memory(const struct source *s, enum mr_metric_kind kind, uint32_t values,
                               uint64_t *ret_encoded) {
    struct mr_metric metric = metric_of(kind);
    const struct mr_column *of = takes_texts(kind) ? &s->texts : &s->numbers;
    uint64_t block[128] = {0};
    uint8_t *state = (uint8_t *)block;
    uint64_t live = mr_metric_encoded_len(&metric, 1, state);
    MR_ASSERT(live <= sizeof block);
    for (uint32_t i = 0; i < values; i++) {
        enum mr_status status = mr_metric_add(&metric, &s->batch, kind == MR_METRIC_COUNT ? NULL : of, &i, &state, 1);
        MR_ASSERT(status == MR_OK);
    }
    *ret_encoded = 0;
    (void)hash_and_release(&metric, state, &live, ret_encoded); /* the hash is of more values above */
    return live;
}

static void print_memory(const struct source *s, enum mr_metric_kind kind) {
    uint64_t encoded_few;
    uint64_t encoded_many;
    uint64_t few = measure_memory(s, kind, 10, &encoded_few);
    uint64_t many = measure_memory(s, kind, 10000, &encoded_many);
    (void)printf("%-11s %-32s 10 values: %" PRIu64 " B live, %" PRIu64 " B encoded; 10000 values: %" PRIu64
                 " B live, %" PRIu64 " B encoded\n",
                 "metric", mr_metric_kind_name(kind), few, encoded_few, many, encoded_many);
}

int main(int argc, char **argv) {
    uint64_t adds = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000;
    uint64_t groups = argc > 2 ? strtoull(argv[2], NULL, 10) : 10000;
    struct source *s = open_source();
    for (int kind = 0; kind < MR_METRIC_RATIO; kind++) {
        measure_adds(s, (enum mr_metric_kind)kind, adds, 1);
        measure_adds(s, (enum mr_metric_kind)kind, adds, groups);
    }
    for (int kind = 0; kind < MR_METRIC_RATIO; kind++) {
        print_memory(s, (enum mr_metric_kind)kind);
    }
    mr_buf_finish(&s->batch.body);
    mr_free(s);
    return 0;
}
