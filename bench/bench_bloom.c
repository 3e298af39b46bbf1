/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures the split-block filter: test_and_set of new ids, and test, one by one and prefetched.
 *
 *     bench_bloom [IDS [ERROR]]       default 100,000 ids, error 1e-3
 *
 * Prints ns an id (over windows of 1,024) and a hash of all bits: the same arguments give the same
 * hash on any machine.
 */
#include "bench/measure.h"
#include "bloom/bloom.h"

enum { WINDOW = 1024, AHEAD = 16 };

static struct mr_fingerprint fp_of(uint64_t n) {
    uint64_t x = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    uint64_t y = x * UINT64_C(0xbf58476d1ce4e5b9);
    return (struct mr_fingerprint){.lo = x, .hi = (y ^ (y >> 29)) >> 8};
}

enum operation { TEST, TEST_AND_SET };

/* One window; returns how many were there. */
static uint64_t run(struct mr_bloom *bloom, enum operation operation,
                    const struct mr_fingerprint *fps, uint64_t ahead) {
    uint64_t found = 0;
    for (uint64_t i = 0; i < WINDOW; i++) {
        if (ahead > 0) {
            mr_bloom_prefetch(bloom, fps[i + ahead]);
        }
        found +=
            operation == TEST ? mr_bloom_test(bloom, fps[i]) : mr_bloom_test_and_set(bloom, fps[i]);
    }
    return found;
}

/* Ids [from, from + count), in windows. */
static void measure(const char *name, struct mr_bloom *bloom, enum operation operation,
                    uint64_t from, uint64_t count, uint64_t ahead) {
    struct mr_fingerprint fps[WINDOW + AHEAD];
    struct bench_runs runs = {.ns = NULL};
    uint64_t found = 0;
    for (uint64_t w = 0; w < count / WINDOW; w++) {
        for (uint64_t i = 0; i < WINDOW + AHEAD; i++) {
            fps[i] = fp_of(from + w * WINDOW + i);
        }
        uint64_t start_ns = bench_wall_ns();
        found += run(bloom, operation, fps, ahead);
        bench_add(&runs, bench_wall_ns() - start_ns, WINDOW);
    }
    char note[64];
    (void)snprintf(note, sizeof note, "%.2f bytes/id, found %" PRIu64,
                   (double)mr_bloom_bytes(bloom) / (double)count, found);
    bench_line("bloom", name, &runs, "id", note, mr_bloom_hash_scan(bloom));
}

int main(int argc, char **argv) {
    uint64_t ids = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    double error = argc > 2 ? strtod(argv[2], NULL) : 1e-3;
    ids = (ids + WINDOW - 1) / WINDOW * WINDOW;
    struct mr_bloom *bloom;
    if (mr_bloom_open(ids, error, &bloom) != MR_OK) {
        (void)fprintf(stderr, "bench_bloom: cannot open a filter for these arguments\n");
        return 2;
    }
    mr_bloom_clear(bloom); /* the pages are there before the clock runs */
    uint64_t other = UINT64_C(1) << 48;
    measure("test_and_set, new", bloom, TEST_AND_SET, 0, ids, AHEAD);
    measure("test_and_set, seen", bloom, TEST_AND_SET, 0, ids, AHEAD);
    measure("test, new", bloom, TEST, other, ids, AHEAD);
    measure("test, new, no prefetch", bloom, TEST, other, ids, 0);
    measure("test_and_set, no prefetch", bloom, TEST_AND_SET, 0, ids, 0);
    uint64_t hash = mr_bloom_hash_scan(bloom);
    mr_bloom_use_portable(bloom);
    measure("test, new, portable", bloom, TEST, other, ids, AHEAD);
    measure("test_and_set, portable", bloom, TEST_AND_SET, 0, ids, AHEAD);
    (void)printf("bloom       %" PRIu64 " ids, %.1f MB: fill %.4f, error estimate %.3g of %g\n",
                 ids, (double)mr_bloom_bytes(bloom) / 1e6, mr_bloom_fill(bloom),
                 mr_bloom_error_estimate(bloom), error);
    bool same = hash == mr_bloom_hash_scan(bloom);
    mr_bloom_close(bloom);
    return same ? 0 : 1;
}
