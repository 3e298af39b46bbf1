/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures the decoder: bench_decode [events] [portable|avx2|auto] [nopredict|where|yahoo|bids|shuffled].
 *
 * Bodies of 1,000 events such as
 *     {"id":"<32 hex>","ts":1700000000123,"key":"/page/17","country":"DE","value":12.345,…}
 * with id, ts, key and value wanted, hashing included; `where` adds the condition
 * country == "DE" && value > 0, its two fields included. `yahoo` and `bids` are events as of millrace-bench,
 * with the fields of config/examples/yahoo.yaml and nexmark.yaml; `shuffled` has the members of the first in
 * random order. Prints nanoseconds of this thread's CPU per event and a hash of the decoded columns, which must
 * not depend on path and prediction.
 */
#include "bench/measure.h"
#include "event/decode.h"

#include <string.h>

enum { BODY_EVENTS = 1000, ROUNDS = 7 };

struct kind {
    const char *name;
    void (*put)(struct mr_buf *body, uint64_t a, uint64_t b);
    const char *id;
    const char *time;
    struct mr_field fields[8];
    uint32_t field_count;
};

#define FIELD(path, use) {{(const uint8_t *)(path), sizeof(path) - 1}, MR_FIELD_##use}

static const char *const countries[] = {"DE", "FR", "US", "BR"};

static void put_pages(struct mr_buf *body, uint64_t a, uint64_t b) {
    mr_buf_printf(body,
                  "{\"id\":\"%016llx%016llx\",\"ts\":%llu,\"key\":\"/page/%u\",\"country\":\"%s\","
                  "\"value\":%u.%03u,\"user\":\"u%u\"}\n",
                  (unsigned long long)a, (unsigned long long)b,
                  1700000000000ull + (unsigned long long)(a % 100000000), (unsigned)(b % 1000),
                  countries[a % 4], (unsigned)(b % 100), (unsigned)(a % 1000), (unsigned)(b % 5000));
}

static void put_uuid(struct mr_buf *body, const char *name, uint64_t a, uint64_t b) {
    mr_buf_printf(body, ",\"%s\":\"%08x-%04x-4%03x-8%03x-%012llx\"", name, (unsigned)a, (unsigned)(b & 0xFFFF),
                  (unsigned)(b >> 16 & 0xFFF), (unsigned)(b >> 28 & 0xFFF), (unsigned long long)(a >> 16));
}

static void put_yahoo(struct mr_buf *body, uint64_t a, uint64_t b) {
    static const char *const ads[] = {"banner", "modal", "sponsored-search", "mail", "mobile"};
    static const char *const events[] = {"view", "click", "purchase"};
    mr_buf_printf(body, "{\"event_id\":\"%016llx%016llx\"", (unsigned long long)a, (unsigned long long)b);
    put_uuid(body, "user_id", a * 3, b);
    put_uuid(body, "page_id", a * 5, b);
    put_uuid(body, "ad_id", a * 7, b);
    mr_buf_printf(body,
                  ",\"ad_type\":\"%s\",\"event_type\":\"%s\",\"event_time\":\"%llu\","
                  "\"ip_address\":\"1.2.3.4\"}\n",
                  ads[a % 5], events[b % 3], 1700000000000ull + (unsigned long long)(a % 100000000));
}

static void put_bid(struct mr_buf *body, uint64_t a, uint64_t b) {
    static const char *const channels[] = {"Google", "Facebook", "Baidu", "Apple"};
    mr_buf_printf(body,
                  "{\"id\":\"%016llx%016llx\",\"auction\":%u,\"bidder\":%u,\"price\":%u,\"channel\":\"%s\","
                  "\"url\":\"https://www.nexmark.com/item.htm?query=1&channel_id=%u\",\"dateTime\":%llu}\n",
                  (unsigned long long)a, (unsigned long long)b, (unsigned)(a % 100000), (unsigned)(b % 50000),
                  (unsigned)(a >> 40), channels[b % 4], (unsigned)(b % 1000),
                  1700000000000ull + (unsigned long long)(a % 100000000));
}

/* Each of 720 orders of the members. */
static void put_shuffled(struct mr_buf *body, uint64_t a, uint64_t b) {
    char members[6][64];
    uint32_t left[6] = {0, 1, 2, 3, 4, 5};
    (void)snprintf(members[0], 64, "\"id\":\"%016llx%016llx\"", (unsigned long long)a, (unsigned long long)b);
    (void)snprintf(members[1], 64, "\"ts\":%llu", 1700000000000ull + (unsigned long long)(a % 100000000));
    (void)snprintf(members[2], 64, "\"key\":\"/page/%u\"", (unsigned)(b % 1000));
    (void)snprintf(members[3], 64, "\"country\":\"%s\"", countries[a % 4]);
    (void)snprintf(members[4], 64, "\"value\":%u.%03u", (unsigned)(b % 100), (unsigned)(a % 1000));
    (void)snprintf(members[5], 64, "\"user\":\"u%u\"", (unsigned)(b % 5000));
    uint64_t order = a >> 20;
    for (uint32_t n = 6; n > 0; n--) {
        uint32_t k = (uint32_t)(order % n);
        order /= n;
        mr_buf_printf(body, "%c%s", n == 6 ? '{' : ',', members[left[k]]);
        left[k] = left[n - 1];
    }
    mr_buf_append_text(body, "}\n");
}

/* The first is the one of `where` and `nopredict`, too. */
static const struct kind kinds[] = {
    {"pages", put_pages, "id", "ts", {FIELD("key", KEY), FIELD("value", NUMBER)}, 2},
    {"yahoo", put_yahoo, "event_id", "event_time", {FIELD("ad_id", ANY), FIELD("event_type", ANY)}, 2},
    {"bids",
     put_bid,
     "id",
     "dateTime",
     {FIELD("bidder", KEY), FIELD("auction", KEY), FIELD("auction", ANY), FIELD("price", NUMBER), FIELD("price", ANY),
      FIELD("bidder", ANY), FIELD("channel", ANY), FIELD("dateTime", ANY)},
     8},
    {"shuffled", put_shuffled, "id", "ts", {FIELD("key", KEY), FIELD("value", NUMBER)}, 2},
};

static const struct kind *find_kind(const char *name) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

static void fill_body(const struct kind *kind, struct mr_buf *body, uint64_t *random) {
    for (int i = 0; i < BODY_EVENTS; i++) {
        uint64_t a = bench_random(random);
        uint64_t b = bench_random(random);
        kind->put(body, a, b);
    }
    (void)mr_buf_reserve(body, MR_PADDING); /* its failure shows in body->failed */
    MR_ASSERT(!body->failed);
}

static struct mr_schema *open_schema(const struct kind *kind, bool where) {
    static const struct mr_schema_expr exprs[] = {
        {{(const uint8_t *)"where", 5},
         {(const uint8_t *)"country == \"DE\" && value > 0", 28},
         MR_EXPR_WHERE},
    };
    struct mr_schema_options options = {
        .stream = MR_BYTES("bench"),
        .id = {mr_bytes_text(kind->id)},
        .id_parts = 1,
        .time = mr_bytes_text(kind->time),
        .time_format = MR_TIME_MS,
        .fields = kind->fields,
        .field_count = kind->field_count,
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
    const struct kind *kind = argc > 3 ? find_kind(argv[3]) : NULL;
    bool predict = argc <= 3 || where || kind != NULL;
    kind = kind == NULL ? &kinds[0] : kind;
    mr_decoder_predict(decoder, predict);
    struct mr_schema *schema = open_schema(kind, where);
    struct mr_buf body;
    uint64_t random = 1;
    mr_buf_init(&body, 1 << 20);
    fill_body(kind, &body, &random);
    struct bench_runs runs = {.ns = NULL};
    uint64_t hash = 0;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t ns;
        hash = round_of(decoder, schema, &body, times, &ns);
        bench_add(&runs, ns, (uint64_t)times * BODY_EVENTS);
    }
    char parameters[64];
    char note[64];
    (void)snprintf(parameters, sizeof parameters, "%s, %s%s, %s", name,
                   predict ? "predicted" : "not predicted", where ? ", where" : "", kind->name);
    (void)snprintf(note, sizeof note, "%.1f bytes/event", (double)body.len / BODY_EVENTS);
    bench_line("decode", parameters, &runs, "event", note, hash);
    mr_buf_finish(&body);
    mr_schema_close(schema);
    mr_decoder_close(decoder);
    return 0;
}
