/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that many threads may decode with one schema, and so evaluate one expression and look into
 * one table, at the same time: each compares its batches with the first one's. Run under TSan.
 */
#include "help.h"

#include "event/expr.h"

#include <pthread.h>

enum { THREADS = 4, ROUNDS = 40, EVENTS = 300 };

struct job {
    const struct mr_schema *schema;
    struct mr_bytes body;
    const struct mr_batch *expected;
    bool same;
};

/* Without cmocka's assertions: those belong to the main thread. */
static bool same_columns(const struct mr_batch *a, const struct mr_batch *b) {
    bool same = a->count == b->count && a->rejected == b->rejected &&
                a->unescaped.len == b->unescaped.len &&
                memcmp(a->unescaped.ptr, b->unescaped.ptr, a->unescaped.len) == 0;
    for (uint32_t c = 0; same && c < a->columns; c++) {
        same = memcmp(a->column[c].kinds, b->column[c].kinds, a->count) == 0 &&
               memcmp(a->column[c].values, b->column[c].values, a->count * sizeof(union mr_value)) == 0;
    }
    return same;
}

static struct mr_batch *decode(const struct mr_schema *schema, struct mr_decoder *decoder,
                               struct mr_bytes bytes) {
    struct mr_batch *batch = NULL;
    struct mr_buf body;
    mr_buf_init(&body, bytes.len + MR_PADDING);
    mr_buf_append_bytes(&body, bytes);
    MR_ASSERT(mr_buf_reserve(&body, MR_PADDING) != NULL);
    MR_ASSERT(mr_decode(decoder, schema, MR_FORMAT_NDJSON, &body, &batch, NULL) == MR_OK);
    return batch;
}

static void *run(void *arg) {
    struct job *job = arg;
    struct mr_decoder *decoder = NULL;
    MR_ASSERT(mr_decoder_open(MR_DECODE_AUTO, &decoder) == MR_OK);
    job->same = true;
    for (int i = 0; i < ROUNDS && job->same; i++) {
        struct mr_batch *batch = decode(job->schema, decoder, job->body);
        job->same = same_columns(batch, job->expected);
        mr_batch_close(batch);
    }
    mr_decoder_close(decoder);
    return NULL;
}

static void threads_share_a_schema(void **state) {
    (void)state;
    const struct mr_schema_derived derived[] = {
        {.name = MR_BYTES("country"), .text = MR_BYTES("lookup('t', k)")}};
    const struct mr_schema_expr exprs[] = {
        {MR_BYTES("where"), MR_BYTES("country in ['DE', 'FR'] && n % 3 != 0"), MR_EXPR_WHERE},
        {MR_BYTES("key"), MR_BYTES("lower(coalesce(country, text(n)))"), MR_FIELD_KEY},
        {MR_BYTES("number"), MR_BYTES("number(text(n)) / 7"), MR_FIELD_NUMBER},
    };
    struct mr_lookup_options table = {MR_BYTES("k"), MR_BYTES("v"), 100, 1 << 20};
    struct mr_lookup *lookup = NULL;
    assert_int_equal(mr_lookup_open(MR_BYTES("k,v\n1,DE\n2,FR\n3,US\n"), &table, &lookup, NULL), MR_OK);
    struct mr_expr_lookup named = {MR_BYTES("t"), lookup};
    struct mr_schema_options options = usual_options();
    options.derived = derived;
    options.derived_count = 1;
    options.exprs = exprs;
    options.expr_count = 3;
    options.lookups = &named;
    options.lookup_count = 1;
    struct mr_schema *schema = open_schema(&options);
    struct mr_buf body;
    mr_buf_init(&body, 1 << 20);
    for (int i = 0; i < EVENTS; i++) {
        mr_buf_printf(&body, "{\"id\":%d,\"k\":\"%d\",\"n\":%d}\n", i, i % 5, i);
    }
    struct mr_decoder *decoder = NULL;
    assert_int_equal(mr_decoder_open(MR_DECODE_PORTABLE, &decoder), MR_OK);
    struct mr_batch *expected = decode(schema, decoder, mr_buf_bytes(&body));
    assert_int_equal(expected->column[6].kinds[1], MR_VALUE_TRUE); /* k "1": DE, n 1 */
    struct job jobs[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){schema, mr_buf_bytes(&body), expected, false};
        assert_int_equal(pthread_create(&threads[i], NULL, run, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(jobs[i].same);
    }
    mr_batch_close(expected);
    mr_decoder_close(decoder);
    mr_schema_close(schema);
    mr_lookup_close(lookup);
    mr_buf_finish(&body);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_share_a_schema)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
