/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures the decoder: bench_decode [events] [portable|avx2|auto] [nopredict|where].
 *
 * Bodies of 1,000 events such as
 *     {"id":"<32 hex>","ts":1700000000123,"key":"/page/17","country":"DE","value":12.345,…}
 * with id, ts, key and value wanted, hashing included; `where` adds the condition
 * country == "DE" && value > 0, its two fields included. Prints nanoseconds of this thread's CPU per event
 * and a hash of the decoded columns, which must not depend on path and prediction.
 */
#include "bench/measure.h"
#include "event/decode.h"

#include <string.h>

enum { BODY_EVENTS = 1000, ROUNDS = 7 };

static void fill_body(struct mr_buf *body, uint64_t *random) {
    static const char *const countries[] = {"DE", "FR", "US", "BR"};
    for (int i = 0; i < BODY_EVENTS; i++) {
        uint64_t a = bench_random(random);
        uint64_t b = bench_random(random);
        mr_buf_printf(
            body,
            "{\"id\":\"%016llx%016llx\",\"ts\":%llu,\"key\":\"/page/%u\",\"country\":\"%s\","
            "\"value\":%u.%03u,\"user\":\"u%u\"}\n",
            (unsigned long long)a, (unsigned long long)b,
            1700000000000ull + (unsigned long long)(a % 100000000), (unsigned)(b % 1000),
            countries[a % 4], (unsigned)(b % 100), (unsigned)(a % 1000), (unsigned)(b % 5000));
    }
    (void)mr_buf_reserve(body, MR_PADDING); /* its failure shows in body->failed */
    MR_ASSERT(!body->failed);
}

static struct mr_schema *open_schema(bool where) {
    static const struct mr_schema_expr exprs[] = {
        {{(const uint8_t *)"where", 5},
         {(const uint8_t *)"country == \"DE\" && value > 0", 28},
         MR_EXPR_WHERE},
    };
    static const struct mr_field fields[] = {
        {{(const uint8_t *)"key", 3}, MR_FIELD_KEY},
        {{(const uint8_t *)"value", 5}, MR_FIELD_NUMBER},
    };
    struct mr_schema_options options = {
        .stream = MR_BYTES("bench"),
        .id = {MR_BYTES("id")},
        .id_parts = 1,
        .time = MR_BYTES("ts"),
        .time_format = MR_TIME_MS,
        .fields = fields,
        .field_count = 2,
        .event_bytes_max = 1 << 20,
        .events_max = 100000,
        .shards = 2,
        .exprs = exprs,
        .expr_count = where ? 1 : 0,
    };
    struct mr_hash_key key = {{1, 2, 3}};
    struct mr_schema *schema = NULL;
    mr_secret_derive(&key, options.stream, &options.secret);
    enum mr_status status = mr_schema_open(&options, &schema, NULL);
    MR_ASSERT(status == MR_OK);
    return schema;
}

static uint64_t hash_batch(const struct mr_batch *batch) {
    uint64_t parts[7] = {
        mr_checksum(mr_bytes_of(batch->fps, batch->count * sizeof *batch->fps)),
        mr_checksum(mr_bytes_of(batch->times_ms, batch->count * sizeof *batch->times_ms)),
        mr_checksum(mr_bytes_of(batch->spans, batch->count * sizeof *batch->spans)),
        mr_checksum(mr_bytes_of(batch->order, batch->order_count * sizeof *batch->order)),
        mr_checksum(mr_bytes_of(batch->column[0].values, batch->count * sizeof(union mr_value))),
        mr_checksum(mr_bytes_of(batch->column[1].values, batch->count * sizeof(union mr_value))),
        batch->rejected,
    };
    return mr_checksum(mr_bytes_of(parts, sizeof parts));
}

/* Decodes the same body `times` times; the hash of the last batch. */
static uint64_t round_of(struct mr_decoder *decoder, const struct mr_schema *schema,
                         struct mr_buf *body, long times, uint64_t *ret_ns) {
    uint64_t hash = 0;
    uint64_t begin = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t hashing = 0;
    for (long i = 0; i < times; i++) {
        struct mr_batch *batch = NULL;
        enum mr_status status = mr_decode(decoder, schema, MR_FORMAT_NDJSON, body, &batch, NULL);
        MR_ASSERT(status == MR_OK && batch->count == BODY_EVENTS);
        if (i + 1 == times) {
            uint64_t before = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
            hash = hash_batch(batch);
            hashing = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID) - before;
        }
        *body = batch->body; /* takes the body back, to decode it again */
        mr_buf_init(&batch->body, 0);
        mr_batch_close(batch);
    }
    *ret_ns = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin - hashing;
    return hash;
}

int main(int argc, char **argv) {
    long events = argc > 1 ? strtol(argv[1], NULL, 10) : 1000000;
    const char *name = argc > 2 ? argv[2] : "auto";
    enum mr_decode_path path = strcmp(name, "portable") == 0 ? MR_DECODE_PORTABLE
                               : strcmp(name, "avx2") == 0   ? MR_DECODE_AVX2
                                                             : MR_DECODE_AUTO;
    long times = events / BODY_EVENTS / ROUNDS + 1;
    struct mr_decoder *decoder = NULL;
    if (mr_decoder_open(path, &decoder) != MR_OK) {
        (void)fprintf(stderr, "this machine has no path %s\n", name);
        return 77; /* meson: skipped */
    }
    bool where = argc > 3 && strcmp(argv[3], "where") == 0;
    bool predict = argc <= 3 || where;
    mr_decoder_predict(decoder, predict);
    struct mr_schema *schema = open_schema(where);
    struct mr_buf body;
    uint64_t random = 1;
    mr_buf_init(&body, 1 << 20);
    fill_body(&body, &random);
    struct bench_runs runs = {.ns = NULL};
    uint64_t hash = 0;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t ns;
        hash = round_of(decoder, schema, &body, times, &ns);
        bench_add(&runs, ns, (uint64_t)times * BODY_EVENTS);
    }
    char parameters[64];
    char note[64];
    (void)snprintf(parameters, sizeof parameters, "%s, %s%s", name,
                   predict ? "predicted" : "not predicted", where ? ", where" : "");
    (void)snprintf(note, sizeof note, "%.1f bytes/event", (double)body.len / BODY_EVENTS);
    bench_line("decode", parameters, &runs, "event", note, hash);
    mr_buf_finish(&body);
    mr_schema_close(schema);
    mr_decoder_close(decoder);
    return 0;
}
