/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Measure: what stage benchmarks share: times, a line for each measurement, a directory that goes away.
 *
 *     exchange  pointers, 1 producer         best    21.32  median    24.10 ns/message  …  hash 5f3c…
 *
 * Idea        A run is disturbed by whatever else the machine does, and never made faster by it: the best of several runs
 *             is the program's, the median what one mostly sees. The hash is of the result, and a function of the
 *             arguments alone, so that two versions can be compared.
 * Threads     Any; nothing is shared.
 */
#include "base/alloc.h"
#include "base/check.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BENCH_PATH_MAX = 200 };

struct bench_runs {
    double *ns; /* of an event */
    uint64_t count;
    uint64_t capacity;
};

static inline uint64_t
bench_clock_ns(clockid_t clock) { /* of CPU: CLOCK_THREAD_CPUTIME_ID, CLOCK_PROCESS_CPUTIME_ID */
    struct timespec t;
    int failed = clock_gettime(clock, &t);
    MR_ASSERT(failed == 0);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static inline uint64_t bench_wall_ns(void) {
    return bench_clock_ns(CLOCK_MONOTONIC);
}

static inline uint64_t bench_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static inline void bench_add(struct bench_runs *runs, uint64_t took_ns, uint64_t events) {
    if (runs->count == runs->capacity) {
        runs->capacity = runs->capacity * 2 + 64;
        runs->ns = mr_realloc(runs->ns, runs->capacity * sizeof runs->ns[0]);
        MR_ASSERT(runs->ns != NULL);
    }
    runs->ns[runs->count++] = (double)took_ns / (double)events;
}

static inline void bench_finish(struct bench_runs *runs) {
    mr_free(runs->ns);
    *runs = (struct bench_runs){.ns = NULL};
}

static inline int bench_compare(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the runs. */
static inline double bench_median(struct bench_runs *runs) {
    MR_ASSERT(runs->count > 0);
    qsort(runs->ns, runs->count, sizeof runs->ns[0], bench_compare);
    return runs->ns[runs->count / 2];
}

/* what: what ns are counted for; note: bytes, rates, or "". Ends the runs. */
static inline void bench_line(const char *name, const char *parameters, struct bench_runs *runs,
                              const char *what, const char *note, uint64_t hash) {
    double median = bench_median(runs);
    (void)printf("%-11s %-32s best %9.2f  median %9.2f ns/%-8s %-38s hash %016" PRIx64 "\n", name,
                 parameters, runs->ns[0], median, what, note, hash);
    (void)fflush(stdout);
    bench_finish(runs);
}

/* Under TMPDIR, or here: a benchmark of a disk wants a real one. */
static inline void bench_make_directory(char ret[BENCH_PATH_MAX]) {
    const char *parent = getenv("TMPDIR");
    (void)snprintf(ret, BENCH_PATH_MAX, "%.150s/bench-XXXXXX", parent == NULL ? "." : parent);
    if (mkdtemp(ret) == NULL) {
        (void)fprintf(stderr, "no directory %s\n", ret);
        exit(1);
    }
}

static inline int bench_remove_one(const char *path, const struct stat *st, int kind,
                                   struct FTW *at) {
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

/* With all that is in it. */
static inline void bench_remove(const char *path) {
    (void)nftw(path, bench_remove_one, 16,
               FTW_DEPTH | FTW_PHYS); /* what is left is seen by whoever looks there */
}
