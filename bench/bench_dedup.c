/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures judge in batches of 4,096 ids, as a shard calls it.
 *
 *     bench_dedup [IDS_MAX [exact|contents|bloom [ERROR]]]       default 200,000 exact
 *
 * fill: IDS_MAX new ids in 1.1 horizons. seen: the same ids again. steady: as many new ids at the
 * same rate, so that as many expire and the sweep works. burst: as many at one moment, so that the
 * oldest are evicted. Prints ns an id (over the batches, and their mean), bytes an id of IDS_MAX,
 * duplicates, and the state hash after each part. contents: exact, with hashes of contents that are the same again.
 */
#include "bench/measure.h"
#include "dedup/dedup.h"

#include <string.h>

enum { BATCH = 4096, HORIZON_MS = 16000 };

static struct mr_fingerprint fp_of(uint64_t n) {
    uint64_t x = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    uint64_t y = x * UINT64_C(0xbf58476d1ce4e5b9);
    return (struct mr_fingerprint){.lo = x, .hi = (y ^ (y >> 29)) >> 8};
}

struct bench {
    struct mr_dedup *dedup;
    uint64_t ids_max;
    double bytes_an_id;
    const char *mode;
    bool contents;
};

static void print_part(const struct bench *bench, const char *name, struct bench_runs *runs,
                       uint64_t duplicates) {
    double sum_ns = 0;
    for (uint64_t i = 0; i < runs->count; i++) {
        sum_ns += runs->ns[i];
    }
    char parameters[64];
    char note[80];
    (void)snprintf(parameters, sizeof parameters, "%s, %" PRIu64 " ids", name, bench->ids_max);
    (void)snprintf(note, sizeof note, "mean %.2f, %.2f bytes/id, dup %" PRIu64,
                   sum_ns / (double)runs->count, bench->bytes_an_id, duplicates);
    bench_line(bench->mode, parameters, runs, "id", note, mr_dedup_state_hash_scan(bench->dedup));
}

/* Judges the ids of batches [from, from + batches). */
static void run(const struct bench *bench, const char *name, uint64_t from, uint64_t batches,
                bool moves) {
    static struct mr_fingerprint fps[BATCH];
    static uint32_t order[BATCH];
    static uint64_t contents[BATCH];
    static uint8_t duplicate[BATCH];
    struct bench_runs runs = {.ns = NULL};
    uint64_t duplicates = 0;
    for (uint64_t b = 0; b < batches; b++) {
        uint64_t base = (from + b) * BATCH;
        for (uint32_t i = 0; i < BATCH; i++) {
            fps[i] = fp_of(base + i);
            contents[i] = base + i + 1;
            order[i] = i;
        }
        double now_ms = (double)base / (double)bench->ids_max * HORIZON_MS * 1.1;
        uint64_t start_ns = bench_wall_ns();
        if (moves) {
            mr_dedup_advance(bench->dedup, (int64_t)now_ms);
        }
        if (bench->contents) {
            mr_dedup_judge_contents(bench->dedup, fps, contents, order, BATCH, duplicate);
        } else {
            mr_dedup_judge(bench->dedup, fps, order, BATCH, duplicate);
        }
        bench_add(&runs, bench_wall_ns() - start_ns, BATCH);
        for (uint32_t i = 0; i < BATCH; i++) {
            duplicates += duplicate[i];
        }
    }
    print_part(bench, name, &runs, duplicates);
}

int main(int argc, char **argv) {
    uint64_t ids = argc > 1 ? strtoull(argv[1], NULL, 10) : 200000;
    bool bloom = argc > 2 && strcmp(argv[2], "bloom") == 0;
    bool contents = argc > 2 && strcmp(argv[2], "contents") == 0;
    ids = (ids + BATCH - 1) / BATCH * BATCH;
    struct mr_dedup_options options = {
        .mode = bloom ? MR_DEDUP_BLOOM : MR_DEDUP_EXACT,
        .when_full = MR_WHEN_FULL_EVICT_OLDEST,
        .horizon_ms = HORIZON_MS,
        .ids_max = ids,
        .error = argc > 3 ? strtod(argv[3], NULL) : 1e-4,
        .contents = contents,
    };
    struct bench bench = {
        .ids_max = ids,
        .bytes_an_id = (double)mr_dedup_bytes_planned(&options) / (double)ids,
        .mode = bloom ? "bloom ids" : contents ? "contents" : "exact",
        .contents = contents,
    };
    struct mr_error error;
    if (mr_dedup_open(&options, &bench.dedup, &error) != MR_OK) {
        (void)fprintf(stderr, "bench_dedup: %s\n", error.text);
        return 2;
    }
    uint64_t batches = ids / BATCH;
    run(&bench, "fill", 0, batches, true);
    run(&bench, "seen", 0, batches, false);
    run(&bench, "steady", batches, batches, true);
    run(&bench, "burst", 2 * batches, batches, false);
    mr_dedup_close(bench.dedup);
    return 0;
}
