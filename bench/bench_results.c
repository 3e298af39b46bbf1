/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures the results store: panes put into transactions, windows made final, rows read back.
 *
 *     bench_results [WINDOWS [GROUPS [OUTBOX [SYNC [PANES_A_COMMIT]]]]]    default 4 500 1 0 50000
 *
 * Two keys, three metrics, 48 bytes of state. Every group of a window fires once on time; a tenth
 * of the groups of the last window fires again; then all windows become final. The file lies in a
 * directory of its own under TMPDIR or here, removed at the end. Prints rates and a hash of all
 * rows as read: equal arguments give equal hashes.
 */
#include "base/clock.h"
#include "base/hash.h"
#include "base/key.h"
#include "bench/measure.h"
#include "sink/results.h"

enum { METRICS = 3, SIZE_MS = 10000 };

struct bench {
    struct mr_results *results;
    uint64_t windows;
    uint64_t groups;
    uint64_t commit_panes;
    uint64_t seq;
    uint64_t hash;
    uint64_t rows;
    struct mr_buf key;
};

static void must(enum mr_status status, const char *what) {
    if (status != MR_OK) {
        (void)fprintf(stderr, "bench_results: %s: %s\n", what, mr_status_text(status));
        exit(1);
    }
}

static double seconds_since(uint64_t start_ns) {
    return (double)(mr_clock_mono_ns(mr_clock_system()) - start_ns) / 1e9;
}

static void say(const char *what, uint64_t count, uint64_t start_ns) {
    double seconds = seconds_since(start_ns);
    (void)printf("%-22s %9" PRIu64 " in %7.3f s   %9.0f a second\n", what, count, seconds,
                 (double)count / seconds);
}

static void put(struct bench *b, uint64_t window, uint64_t group) {
    /* Groups come in order of first appearance, which has nothing to do with the order of keys. */
    uint64_t scattered = group * UINT64_C(0x9e3779b97f4a7c15);
    char campaign[24];
    int len = snprintf(campaign, sizeof campaign, "cmp-%08x", (unsigned)(scattered >> 32));
    static const char countries[] = "DEFRUSGBITESPLNL";
    mr_buf_clear(&b->key);
    mr_key_append(&b->key,
                  (struct mr_key_value){MR_KEY_STRING, mr_bytes_of(campaign, (size_t)len)});
    mr_key_append(&b->key, (struct mr_key_value){MR_KEY_STRING,
                                                 mr_bytes_of(countries + scattered % 8 * 2, 2)});
    uint64_t state[6] = {group, window, 3, 4, 5, 6};
    const struct mr_number numbers[METRICS] = {
        {.kind = MR_NUMBER_INT, .i = (int64_t)group},
        {.kind = MR_NUMBER_DOUBLE, .d = (double)group * 0.25},
        {.kind = MR_NUMBER_NULL},
    };
    const struct mr_pane pane = {
        .timing = MR_TIMING_ON_TIME,
        .window_start_ms = INT64_C(1700000000000) + (int64_t)window * SIZE_MS,
        .window_end_ms = INT64_C(1700000000000) + (int64_t)(window + 1) * SIZE_MS,
        .revision = b->seq,
        .events = group + 1,
        .key = mr_buf_bytes(&b->key),
        .state = mr_bytes_of(state, sizeof state),
        .numbers = numbers,
        .number_count = METRICS,
    };
    must(mr_results_put(b->results, &pane), "put");
}

static void fire(struct bench *b, uint64_t window, uint64_t groups) {
    for (uint64_t done = 0; done < groups;) {
        must(mr_results_begin(b->results), "begin");
        uint64_t end = done + b->commit_panes < groups ? done + b->commit_panes : groups;
        for (; done < end; done++) {
            put(b, window, done);
        }
        must(mr_results_commit(b->results, b->seq), "commit");
    }
    b->seq++;
}

static bool visit(void *ctx, const struct mr_pane *row) {
    struct bench *b = ctx;
    b->hash = mr_hash64(row->key, b->hash) ^ mr_hash64(row->state, row->revision + row->final);
    b->rows++;
    return true;
}

static void read_all(struct bench *b, const char *what, int32_t order) {
    const struct mr_results_query query = {
        .to_ms = INT64_MAX, .order = order, .descending = order >= 0, .visit = visit, .ctx = b};
    struct mr_results_reader *reader = NULL;
    must(mr_results_reader_open(b->results, &reader), "reader");
    uint64_t start_ns = mr_clock_mono_ns(mr_clock_system());
    b->rows = 0;
    must(mr_results_read(reader, &query, NULL), "read");
    say(what, b->rows, start_ns);
    mr_results_reader_close(reader);
}

static void run(struct bench *b) {
    uint64_t start_ns = mr_clock_mono_ns(mr_clock_system());
    for (uint64_t w = 0; w < b->windows; w++) {
        fire(b, w, b->groups);
    }
    say("put (new rows)", b->windows * b->groups, start_ns);
    start_ns = mr_clock_mono_ns(mr_clock_system());
    fire(b, b->windows - 1, b->groups / 10 + 1);
    say("put (again)", b->groups / 10 + 1, start_ns);
    start_ns = mr_clock_mono_ns(mr_clock_system());
    must(mr_results_begin(b->results), "begin");
    must(mr_results_finalize(b->results, 0, INT64_MAX), "finalize");
    must(mr_results_commit(b->results, b->seq), "commit");
    say("finalize", b->windows * b->groups, start_ns);
    read_all(b, "read, window order", -1);
    read_all(b, "read, metric order", 1);
    (void)printf("hash %016" PRIx64 "\n", b->hash);
}

int main(int argc, char **argv) {
    uint64_t args[5] = {4, 500, 1, 0, 50000};
    for (int i = 1; i < argc && i <= 5; i++) {
        args[i - 1] = strtoull(argv[i], NULL, 10);
    }
    static const struct mr_bytes keys[] = {{(const uint8_t *)"campaign", 8},
                                           {(const uint8_t *)"country", 7}};
    static const struct mr_bytes metrics[METRICS] = {
        {(const uint8_t *)"views", 5}, {(const uint8_t *)"spend", 5}, {(const uint8_t *)"avg", 3}};
    const struct mr_results_rule rule = {
        {(const uint8_t *)"ad_views", 8}, keys, 2, metrics, METRICS, {(const uint8_t *)"window", 6},
        false, false, false, 0};
    char dir[BENCH_PATH_MAX];
    char path[BENCH_PATH_MAX + 16];
    bench_make_directory(dir);
    (void)snprintf(path, sizeof path, "%s/results.db", dir);
    const struct mr_results_sqlite_options options = {
        .path = path,
        .incarnation = 1,
        .rules = &rule,
        .rule_count = 1,
        .sync = args[3] != 0,
        .outbox_panes_max = args[2] * 100000,
    };
    struct mr_error error = {0};
    struct bench b = {.windows = args[0] == 0 ? 1 : args[0],
                      .groups = args[1],
                      .seq = 1,
                      .commit_panes = args[4] == 0 ? 1 : args[4]};
    mr_buf_init(&b.key, 4096);
    enum mr_status status = mr_results_sqlite_open(&options, &b.results, &error);
    if (status != MR_OK) {
        (void)fprintf(stderr, "bench_results: %s\n", error.text);
        bench_remove(dir);
        return 1;
    }
    run(&b);
    mr_results_close(b.results);
    mr_buf_finish(&b.key);
    bench_remove(dir);
    return 0;
}
