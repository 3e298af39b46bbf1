/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decode, ours against simdjson: the same bodies of 1,000 lines, in turn, id, ts, key and value taken from each.
 * Ours checks the whole event and hashes the id as well (into the fingerprint that dedup compares).
 *
 * usage: peers_decode FILE ROUNDS
 * Prints JSON: nanoseconds of CPU an event, one for each round, of ours, of simdjson's document stream (iterate_many),
 * and of a simdjson document for each line. All must find the same: sums of times and values are compared.
 */
#include "bench/peers/decode.h"
#include "base/alloc.h"
#include "base/check.h"
#include "bench/peers/wire.h"
#include "event/decode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* So few bodies that they stay in the cache, as one does that was just received; too many to be learnt by heart. */
enum { BODY_EVENTS = 1000, BODIES_MAX = 16, PASSES = 20, ROUNDS_MAX = 100, WAYS = 3 };

struct sums {
    uint64_t events;
    int64_t times;
    double values;
    uint64_t bytes; /* of ids and keys */
};

struct bench {
    struct mr_buf *bodies;
    uint64_t count;
    struct mr_schema *schema;
    struct mr_decoder *decoder;
    struct peer_columns columns;
};

static double cpu_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID,
                        &t); /* cannot fail; a hidden thread would count */
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void open_schema(struct bench *b) {
    const struct mr_field fields[] = {
        {MR_BYTES("key"), MR_FIELD_KEY},
        {MR_BYTES("value"), MR_FIELD_NUMBER},
    };
    struct mr_schema_options options = {
        .stream = MR_BYTES("events"),
        .id = {MR_BYTES("id")},
        .id_parts = 1,
        .time = MR_BYTES("ts"),
        .time_format = MR_TIME_MS,
        .fields = fields,
        .field_count = 2,
        .event_bytes_max = 1 << 20,
        .events_max = 100000,
        .shards = 1,
    };
    struct mr_hash_key key = {{1, 2, 3}};
    mr_secret_derive(&key, options.stream, &options.secret);
    if (mr_schema_open(&options, &b->schema, NULL) != MR_OK ||
        mr_decoder_open(MR_DECODE_AUTO, &b->decoder) != MR_OK) {
        peer_die("cannot open the decoder");
    }
}

static void open_bodies(struct bench *b, const struct peer_file *file) {
    size_t padding = peer_simdjson_padding() > MR_PADDING ? peer_simdjson_padding() : MR_PADDING;
    b->count = file->count / BODY_EVENTS < BODIES_MAX ? file->count / BODY_EVENTS : BODIES_MAX;
    b->bodies = calloc(b->count, sizeof *b->bodies);
    if (b->count == 0 || b->bodies == NULL) {
        peer_die("too few events");
    }
    for (uint64_t i = 0; i < b->count; i++) {
        size_t from = file->lines[i * BODY_EVENTS];
        size_t len = file->lines[(i + 1) * BODY_EVENTS] - from;
        mr_buf_init(&b->bodies[i], 1 << 30);
        mr_buf_append(&b->bodies[i], file->ptr + from, len);
        if (mr_buf_reserve(&b->bodies[i], padding) == NULL) { /* NULL also when the append failed */
            peer_die("no memory");
        }
        memset(b->bodies[i].ptr + len, 0, padding);
    }
}

static void open_columns(struct peer_columns *columns) {
    static const char *ids[BODY_EVENTS];
    static const char *keys[BODY_EVENTS];
    static uint32_t id_lens[BODY_EVENTS];
    static uint32_t key_lens[BODY_EVENTS];
    static int64_t times[BODY_EVENTS];
    static double values[BODY_EVENTS];
    *columns = (struct peer_columns){
        .ids = ids,
        .keys = keys,
        .id_lens = id_lens,
        .key_lens = key_lens,
        .times = times,
        .values = values,
        .cap = BODY_EVENTS,
    };
}

static void add_batch(struct sums *sums, const struct mr_batch *batch) {
    for (uint32_t i = 0; i < batch->count; i++) {
        bool whole = batch->column[1].kinds[i] == MR_VALUE_INT;
        union mr_value value = batch->column[1].values[i];
        sums->times += batch->times_ms[i];
        sums->values += whole ? (double)value.i : value.d;
        sums->bytes += PEER_ID_LEN + batch->column[0].values[i].text.len;
    }
    sums->events += batch->count;
}

static void add_columns(struct sums *sums, const struct peer_columns *columns) {
    for (size_t i = 0; i < columns->count; i++) {
        sums->times += columns->times[i];
        sums->values += columns->values[i];
        sums->bytes += columns->id_lens[i] + columns->key_lens[i];
    }
    sums->events += columns->count;
}

static void run_ours(struct bench *b, struct sums *ret_sums) {
    for (uint64_t i = 0; i < b->count; i++) {
        struct mr_batch *batch;
        enum mr_status status =
            mr_decode(b->decoder, b->schema, MR_FORMAT_NDJSON, &b->bodies[i], &batch, NULL);
        if (status != MR_OK || batch->rejected > 0) {
            peer_die("the decoder refuses a body");
        }
        if (ret_sums != NULL) {
            add_batch(ret_sums, batch);
        }
        b->bodies[i] = batch->body; /* takes the body back, to decode it again */
        mr_buf_init(&batch->body, 0);
        mr_batch_close(batch);
    }
}

static void run_simdjson(struct bench *b, bool (*way)(const char *, size_t, struct peer_columns *),
                         struct sums *ret_sums) {
    for (uint64_t i = 0; i < b->count; i++) {
        if (!way((const char *)b->bodies[i].ptr, b->bodies[i].len, &b->columns)) {
            peer_die("simdjson refuses a body");
        }
        if (ret_sums != NULL) {
            add_columns(ret_sums, &b->columns);
        }
    }
}

/* All bodies once; adds up what was found when ret_sums is given. */
static void run_way(struct bench *b, int way, struct sums *ret_sums) {
    if (way == 0) {
        run_ours(b, ret_sums);
    } else {
        run_simdjson(b, way == 1 ? peer_simdjson_stream : peer_simdjson_lines, ret_sums);
    }
}

static double time_way(struct bench *b, int way) { /* ns an event */
    double began = cpu_ns();
    for (int pass = 0; pass < PASSES; pass++) {
        run_way(b, way, NULL);
    }
    return (cpu_ns() - began) / (double)(b->count * BODY_EVENTS * PASSES);
}

static void check_ways(struct bench *b) {
    struct sums sums[WAYS] = {0};
    for (int way = 0; way < WAYS; way++) {
        run_way(b, way, &sums[way]); /* warms up as well */
        if (sums[way].events != b->count * BODY_EVENTS || sums[way].times != sums[0].times ||
            sums[way].values != sums[0].values || sums[way].bytes != sums[0].bytes) {
            peer_die("the decoders differ: way %d, %" PRIu64 " events, values %f and %f", way,
                     sums[way].events, sums[way].values, sums[0].values);
        }
    }
}

int main(int argc, char **argv) {
    static const char *const names[WAYS] = {"ours", "simdjson_stream", "simdjson_lines"};
    static double ns[WAYS][ROUNDS_MAX];
    int rounds = argc == 3 ? atoi(argv[2]) : 0;
    struct peer_file file;
    struct bench b = {0};
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        peer_die("usage: peers_decode FILE ROUNDS");
    }
    if (!peer_simdjson_can_run()) {
        peer_die("this machine has no AVX2");
    }
    open_columns(&b.columns);
    peer_file_open(&file, argv[1]);
    open_schema(&b);
    open_bodies(&b, &file);
    check_ways(&b);
    for (int round = 0; round < rounds; round++) {
        for (int way = 0; way < WAYS; way++) {
            ns[way][round] = time_way(&b, way);
        }
    }
    (void)printf("{\"version\":\"%s\",\"events\":%" PRIu64, peer_simdjson_version(),
                 b.count * BODY_EVENTS * PASSES);
    for (int way = 0; way < WAYS; way++) {
        (void)printf(",\"%s\":[", names[way]);
        for (int round = 0; round < rounds; round++) {
            (void)printf("%s%.2f", round > 0 ? "," : "", ns[way][round]);
        }
        (void)printf("]");
    }
    (void)printf("}\n");
    mr_decoder_close(b.decoder);
    mr_schema_close(b.schema);
    return 0; /* the bodies go with the process */
}
