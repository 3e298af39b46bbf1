/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures fingerprints of ids: bench_fingerprint [IDS]       default 1,000,000 a run
 *
 * Ids of 16 and 36 bytes (a UUID as text), alone, and behind a first part of 8 bytes, which is another way: parts are
 * joined length-prefixed. 4,096 different ids, so that memory plays no part. Prints ns of this thread's CPU an id and a
 * hash of the fingerprints.
 */
#include "bench/measure.h"
#include "event/decode.h"

enum { IDS = 4096, ID_LEN_MAX = 36, TENANT_LEN = 8, RUNS = 15 };

static uint8_t ids[IDS][ID_LEN_MAX];
static uint8_t tenants[IDS][TENANT_LEN];
static struct mr_fingerprint fps[IDS];

static void fill_text(uint8_t *text, size_t len, uint64_t *random) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        text[i] = (uint8_t)digits[bench_random(random) % 16];
    }
}

static struct mr_schema *open_schema(uint32_t parts) {
    struct mr_schema_options options = {
        .stream = MR_BYTES("bench"),
        .id_parts = parts,
        .time = MR_BYTES("ts"),
        .time_format = MR_TIME_MS,
        .event_bytes_max = 1 << 20,
        .events_max = 100000,
        .shards = 1,
    };
    options.id[0] = parts == 1 ? MR_BYTES("id") : MR_BYTES("tenant");
    options.id[parts - 1] = MR_BYTES("id");
    struct mr_hash_key key = {{1, 2, 3}};
    struct mr_schema *schema = NULL;
    mr_secret_derive(&key, options.stream, &options.secret);
    enum mr_status status = mr_schema_open(&options, &schema, NULL);
    MR_ASSERT(status == MR_OK);
    return schema;
}

static void one_part(const struct mr_secret *secret, size_t len) {
    for (uint32_t i = 0; i < IDS; i++) {
        fps[i] = mr_fingerprint_of(secret, mr_bytes_of(ids[i], len));
    }
}

static void two_parts(const struct mr_schema *schema, size_t len) {
    for (uint32_t i = 0; i < IDS; i++) {
        const struct mr_bytes parts[2] = {mr_bytes_of(tenants[i], TENANT_LEN),
                                          mr_bytes_of(ids[i], len)};
        fps[i] = mr_decode_fingerprint(schema, parts, 2);
    }
}

static void measure(uint32_t parts, size_t len, uint64_t times) {
    struct bench_runs runs = {.ns = NULL};
    struct mr_schema *schema = open_schema(parts);
    for (uint32_t run = 0; run < RUNS; run++) {
        uint64_t begin_ns = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (uint64_t i = 0; i < times; i++) {
            if (parts == 1) {
                one_part(&mr_schema_options(schema)->secret, len);
            } else {
                two_parts(schema, len);
            }
        }
        bench_add(&runs, bench_clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin_ns, times * IDS);
    }
    char parameters[64];
    (void)snprintf(parameters, sizeof parameters,
                   parts == 1 ? "1 part, %zu bytes" : "2 parts, 8 + %zu bytes", len);
    bench_line("fingerprint", parameters, &runs, "id", "",
               mr_checksum(mr_bytes_of(fps, sizeof fps)));
    mr_schema_close(schema);
}

int main(int argc, char **argv) {
    uint64_t times = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000) / IDS + 1;
    uint64_t random = 1;
    for (uint32_t i = 0; i < IDS; i++) {
        fill_text(ids[i], ID_LEN_MAX, &random);
        fill_text(tenants[i], TENANT_LEN, &random);
    }
    measure(1, 16, times);
    measure(1, 36, times);
    measure(2, 16, times);
    measure(2, 36, times);
    return 0;
}
