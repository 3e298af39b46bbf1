/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures the evaluation of expressions over columns: bench_expr [events].
 *
 * 1,000 decoded events such as {"event_type":"view","price":12.345,"user":"u17","n":3}, evaluated again
 * and again in chunks. Prints nanoseconds of this thread's CPU per event, and a hash of the kinds that
 * came out.
 */
#include "bench/measure.h"
#include "event/decode.h"
#include "event/expr.h"

enum { EVENTS = 1000, ROUNDS = 7, FIELDS = 4 };

static const struct mr_field fields[FIELDS] = {
    {{(const uint8_t *)"event_type", 10}, MR_FIELD_ANY},
    {{(const uint8_t *)"price", 5}, MR_FIELD_ANY},
    {{(const uint8_t *)"user", 4}, MR_FIELD_ANY},
    {{(const uint8_t *)"n", 1}, MR_FIELD_ANY},
};

static struct mr_batch *make_batch(struct mr_schema **ret_schema) {
    static const char *const types[] = {"view", "click", "view", "purchase"};
    struct mr_schema_options options = {
        .stream = MR_BYTES("bench"),
        .missing_id = MR_MISSING_ACCEPT,
        .missing_time = MR_MISSING_ACCEPT,
        .fields = fields,
        .field_count = FIELDS,
        .event_bytes_max = 1 << 20,
        .events_max = 100000,
        .shards = 1,
    };
    struct mr_decoder *decoder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_buf body;
    uint64_t random = 1;
    mr_buf_init(&body, 1 << 20);
    for (int i = 0; i < EVENTS; i++) {
        uint64_t a = bench_random(&random);
        mr_buf_printf(&body, "{\"event_type\":\"%s\",\"price\":%u.%03u,\"user\":\"U%u\",\"n\":%u}\n",
                      types[a % 4], (unsigned)(a % 100), (unsigned)(a % 1000), (unsigned)(a % 5000),
                      (unsigned)(a % 1000));
    }
    (void)mr_buf_reserve(&body, MR_PADDING); /* its failure shows in body.failed */
    MR_ASSERT(!body.failed);
    MR_ASSERT(mr_schema_open(&options, ret_schema, NULL) == MR_OK);
    MR_ASSERT(mr_decoder_open(MR_DECODE_AUTO, &decoder) == MR_OK);
    MR_ASSERT(mr_decode(decoder, *ret_schema, MR_FORMAT_NDJSON, &body, &batch, NULL) == MR_OK);
    MR_ASSERT(batch->count == EVENTS && batch->rejected == 0);
    mr_decoder_close(decoder);
    return batch;
}

static enum mr_status find_field(void *ctx, struct mr_bytes path, struct mr_expr_field *ret,
                                 struct mr_error *error) {
    (void)ctx;
    for (uint32_t i = 0; i < FIELDS; i++) {
        if (mr_bytes_equal(path, fields[i].path)) {
            ret->index = i;
            return MR_OK;
        }
    }
    return mr_error_set(error, MR_INVALID, "no such field");
}

static uint64_t evaluate_all(const struct mr_expr *expr, const struct mr_batch *batch,
                             struct mr_expr_scratch *scratch, struct mr_expr_vector *out) {
    uint64_t hash = 0;
    struct mr_expr_rows rows = {
        .columns = batch->column, .body = batch->body.ptr, .unescaped = batch->unescaped.ptr};
    for (; rows.first < EVENTS; rows.first += MR_EXPR_CHUNK) {
        uint32_t left = EVENTS - rows.first;
        rows.count = left < MR_EXPR_CHUNK ? left : MR_EXPR_CHUNK;
        mr_expr_scratch_clear(scratch);
        MR_ASSERT(mr_expr_eval(expr, &rows, scratch, out) == MR_OK);
        hash = hash * 31 + mr_checksum(mr_bytes_of(out->kinds, rows.count));
    }
    return hash;
}

static void measure(const char *text, const struct mr_batch *batch, struct mr_expr_scratch *scratch,
                    long times) {
    static struct mr_expr_vector out;
    struct mr_expr_names names = {.field = find_field};
    struct mr_expr *expr = NULL;
    struct bench_runs runs = {.ns = NULL};
    uint64_t hash = 0;
    MR_ASSERT(mr_expr_open(mr_bytes_text(text), &names, &expr, NULL) == MR_OK);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t begin = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (long i = 0; i < times; i++) {
            hash = evaluate_all(expr, batch, scratch, &out);
        }
        bench_add(&runs, bench_clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin, (uint64_t)times * EVENTS);
    }
    bench_line("expr", text, &runs, "event", "", hash);
    mr_expr_close(expr);
}

int main(int argc, char **argv) {
    static const char *const texts[] = {
        "event_type == 'view' && price > 0",
        "event_type in ['view', 'click']",
        "price * n + 1",
        "lower(user)",
    };
    long events = argc > 1 ? strtol(argv[1], NULL, 10) : 1000000;
    struct mr_schema *schema = NULL;
    struct mr_batch *batch = make_batch(&schema);
    struct mr_expr_scratch *scratch = NULL;
    MR_ASSERT(mr_expr_scratch_open(&scratch) == MR_OK);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        measure(texts[i], batch, scratch, events / EVENTS / ROUNDS + 1);
    }
    mr_expr_scratch_close(scratch);
    mr_batch_close(batch);
    mr_schema_close(schema);
    return 0;
}
