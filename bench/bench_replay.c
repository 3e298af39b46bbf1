/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures taking events and replaying them: bench_replay [EVENTS [RUNS]]       default 500,000, 3
 *
 * Events of about 122 bytes, 1,000 a batch and 32 batches under way, are decoded and go through a pipeline on the real
 * disk as in a server (exact dedup, one rule of 10 s windows with count and sum, one shard, log synced, results store in
 * a file), from a new data directory each time. Then everything but the log is removed, and a start replays the log
 * through the same stations. Both are measured from the opening of the pipeline until the results are written. Prints ns
 * of CPU of the process an event, events a second, and a hash of the rows of closed windows, which must be that of the
 * live run. open is what comes before replay: reading and checking the log. The directory lies under TMPDIR or here, and
 * goes away.
 */
#include "base/alloc.h"
#include "base/event_count.h"
#include "bench/measure.h"
#include "pipeline/data.h"

#include <unistd.h>

enum {
    BATCH = 1000,
    UNDER_WAY_MAX = 32, /* batches */
    KEYS = 1000,
    EVENTS_A_MS = 10, /* of event time */
    WAIT_NS = 100 * 1000 * 1000,
};

#define T0     INT64_C(1700000000000)
#define NOW_MS (T0 + 2 * INT64_C(86400000))

struct bench {
    struct mr_clock clock;
    char dir[BENCH_PATH_MAX];
    struct mr_config *config;
    struct mr_data data;
    struct mr_pipeline *pipeline;
    struct mr_decoder *decoder;
    mr_counter done; /* batches and questions; written by stations */
    struct mr_event_count wake;
    uint64_t sent;
    uint64_t hash;
    uint64_t rows;
};

static void must(enum mr_status status, const struct mr_error *error) {
    if (status != MR_OK) {
        (void)fprintf(stderr, "bench_replay: %s: %s\n", mr_status_text(status), error->text);
        exit(1);
    }
}

/* ---- a node ---- */

static int64_t stopped_wall_ms(struct mr_clock *clock) {
    (void)clock;
    return NOW_MS; /* so that a run is a function of its arguments */
}

static uint64_t mono_ns(struct mr_clock *clock) {
    (void)clock;
    return bench_wall_ns();
}

static enum mr_status open_results(void *ctx, const struct mr_data *data, struct mr_results **ret,
                                   struct mr_error *error) {
    (void)ctx;
    const struct mr_results_sqlite_options options = {.path = data->dir.results_path,
                                                      .incarnation = mr_log_incarnation(data->log),
                                                      .rules = data->results_rules,
                                                      .rule_count = data->plan->rule_count,
                                                      .sync = true};
    return mr_results_sqlite_open(&options, ret, error);
}

static void close_results(void *ctx, struct mr_results *results) {
    (void)ctx;
    mr_results_close(results);
}

static void read_config(struct bench *b, uint64_t events) {
    char yaml[2000];
    char *environment[] = {NULL};
    struct mr_error error = {0};
    (void)snprintf(yaml, sizeof yaml,
                   "node: { data_dir: %s/data, shards: 1 }\n"
                   "checkpoint: { every: 1d }\n"
                   "streams:\n"
                   "  events:\n"
                   "    id: id\n"
                   "    time: { field: ts, format: ms }\n"
                   "    dedup: { mode: exact, horizon: 24h, ids: %" PRIu64 " }\n"
                   "rules:\n"
                   "  by_key:\n"
                   "    from: events\n"
                   "    group_by: [key]\n"
                   "    window: { type: tumbling, size: 10s }\n"
                   "    metrics: { views: count, spend: { sum: value } }\n",
                   b->dir, events + events / 4 + 10000);
    must(mr_config_parse(mr_bytes_text(yaml), "bench", environment, &b->config, &error), &error);
}

static void open_data(struct bench *b) {
    struct mr_error error = {0};
    const struct mr_data_options options = {.disk = mr_disk_system(),
                                            .clock = &b->clock,
                                            .config = b->config,
                                            .open_results = open_results,
                                            .close_results = close_results,
                                            .ctx = b};
    must(mr_data_open(&options, &b->data, &error), &error);
}

static void wait_live(struct bench *b) {
    struct mr_error error = {0};
    must(mr_data_pipeline(&b->data, &b->pipeline, &error), &error);
    must(mr_pipeline_start(b->pipeline), &error);
    while (!mr_pipeline_live(b->pipeline)) {
        must(mr_pipeline_failure(b->pipeline, &error), &error);
        (void)usleep(1000); /* as a server does, which looks each 20 ms */
    }
}

static void close_node(struct bench *b) {
    mr_pipeline_stop(b->pipeline);
    mr_pipeline_close(b->pipeline);
    mr_data_close(&b->data);
}

/* ---- a client ---- */

static void wait_below(struct bench *b, uint64_t most) {
    struct mr_error error = {0};
    for (;;) {
        uint32_t value = mr_event_count_value(&b->wake);
        if (b->sent - mr_counter_read(&b->done) < most) {
            return;
        }
        must(mr_pipeline_failure(b->pipeline, &error), &error);
        mr_event_count_wait(&b->wake, value, WAIT_NS); /* a failure has no other way to tell */
    }
}

static void tell_done(struct bench *b) {
    mr_counter_add_shared(&b->done, 1);
    mr_event_count_signal(&b->wake);
}

static void batch_done(struct mr_batch *batch, void *ctx) {
    MR_ASSERT(batch->refusal == MR_REFUSAL_NONE);
    mr_batch_close(batch);
    tell_done(ctx);
}

static void ask_done(struct mr_ask *ask, void *ctx) {
    (void)ask;
    tell_done(ctx);
}

/* Everything before is in the results store. A question overtakes what is not acknowledged. */
static void flush(struct bench *b) {
    wait_below(b, 1);
    struct mr_ask *ask = mr_alloc_aligned(MR_CACHE_LINE, sizeof *ask);
    MR_ASSERT(ask != NULL);
    memset(ask, 0, sizeof *ask);
    ask->kind = MR_ASK_FLUSH;
    ask->done = ask_done;
    ask->ctx = b;
    b->sent++;
    bool asked = mr_pipeline_ask(b->pipeline, ask);
    MR_ASSERT(asked);
    wait_below(b, 1);
    mr_free(ask);
}

static void send(struct bench *b, struct mr_buf *body) {
    struct mr_error error = {0};
    struct mr_batch *batch = NULL;
    wait_below(b, UNDER_WAY_MAX);
    must(mr_decode(b->decoder, b->data.plan->streams[0].schema, MR_FORMAT_NDJSON, body, &batch,
                   &error),
         &error);
    MR_ASSERT(batch->rejected == 0);
    batch->done = batch_done;
    batch->ctx = b;
    b->sent++;
    bool submitted = mr_pipeline_submit(b->pipeline, batch);
    MR_ASSERT(submitted); /* the ring holds more than UNDER_WAY_MAX */
}

/* Values are multiples of 1/8, so that sums do not depend on the order. */
static void append_event(struct mr_buf *body, uint64_t number, int64_t time_ms) {
    static const char *const countries[] = {"DE", "FR", "US", "BR"};
    uint64_t state = number;
    uint64_t a = bench_random(&state);
    uint64_t r = bench_random(&state);
    mr_buf_printf(body,
                  "{\"id\":\"%016" PRIx64 "%016" PRIx64 "\",\"ts\":%" PRId64
                  ",\"key\":\"/page/%u\",\"country\":\"%s\",\"value\":%u.%03u,\"user\":\"u%u\"}\n",
                  a, number, time_ms, (unsigned)(r % KEYS), countries[a % 4],
                  (unsigned)(r >> 20) % 100, (unsigned)(r >> 40) % 8 * 125, (unsigned)(a % 5000));
}

static struct mr_buf make_body(uint64_t first, uint64_t count, int64_t step_ms) {
    struct mr_buf body;
    mr_buf_init(&body, (size_t)count * 256 + MR_PADDING);
    for (uint64_t n = first; n < first + count; n++) {
        append_event(&body, n, T0 + (int64_t)(n / EVENTS_A_MS) + step_ms);
    }
    (void)mr_buf_reserve(&body, MR_PADDING); /* a failure shows in failed */
    MR_ASSERT(!body.failed);
    return body;
}

static bool visit(void *ctx, const struct mr_pane *row) {
    struct bench *b = ctx;
    b->hash = mr_hash64(row->key, b->hash) ^
              mr_hash64(row->state, (uint64_t)row->window_start_ms + row->events);
    b->rows++;
    return true;
}

static uint64_t hash_rows(struct bench *b) {
    const struct mr_results_query query = {
        .from_ms = INT64_MIN, .to_ms = INT64_MAX, .order = -1, .visit = visit, .ctx = b};
    struct mr_results_reader *reader = NULL;
    struct mr_error error = {0};
    b->hash = 0;
    b->rows = 0;
    must(mr_results_reader_open(b->data.results, &reader), &error);
    must(mr_results_read(reader, &query, &error), &error);
    mr_results_reader_close(reader);
    MR_ASSERT(b->rows > 0);
    return b->hash;
}

/* ---- measuring ---- */

struct spent {
    uint64_t cpu_ns;
    uint64_t wall_ns;
};

static struct spent spent_until_now(void) {
    return (struct spent){bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID), bench_wall_ns()};
}

struct measured {
    struct bench_runs cpu;
    struct bench_runs wall;
    double cpu_median; /* when printed */
    double wall_median;
};

static void add_since(struct measured *m, struct spent begin, uint64_t events) {
    struct spent now = spent_until_now();
    bench_add(&m->cpu, now.cpu_ns - begin.cpu_ns, events);
    bench_add(&m->wall, now.wall_ns - begin.wall_ns, events);
}

static void print(const char *what, uint64_t events, struct measured *m, uint64_t hash) {
    char parameters[64];
    char note[64];
    m->cpu_median = bench_median(&m->cpu);
    m->wall_median = bench_median(&m->wall);
    (void)snprintf(parameters, sizeof parameters, "%s, %" PRIu64 " events", what, events);
    (void)snprintf(note, sizeof note, "CPU; %.0f events a second", 1e9 / m->wall_median);
    bench_line("replay", parameters, &m->cpu, "event", note, hash);
    bench_finish(&m->wall);
}

/* Returns the hash of the rows. */
static uint64_t take_live(struct bench *b, uint64_t batches, struct measured *m) {
    char path[BENCH_PATH_MAX + 32];
    (void)snprintf(path, sizeof path, "%s/data", b->dir);
    bench_remove(path);
    struct mr_buf *bodies = mr_alloc_zero(batches, sizeof *bodies);
    MR_ASSERT(bodies != NULL);
    for (uint64_t i = 0; i < batches; i++) {
        bodies[i] = make_body(i * BATCH, BATCH, 0);
    }
    struct mr_buf closing =
        make_body(batches * BATCH, 1, NOW_MS - T0 - 3600000); /* all windows before it */
    open_data(b);
    struct spent begin = spent_until_now();
    wait_live(b);
    for (uint64_t i = 0; i < batches; i++) {
        send(b, &bodies[i]);
    }
    send(b, &closing);
    flush(b);
    add_since(m, begin, batches * BATCH);
    mr_free(bodies);
    uint64_t hash = hash_rows(b);
    close_node(b);
    return hash;
}

static void forget_all_but_the_log(const struct bench *b) {
    static const char *const names[] = {"checkpoint", "results.db", "results.db-wal",
                                        "results.db-shm"};
    char path[BENCH_PATH_MAX + 32];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/data/%s", b->dir, names[i]);
        bench_remove(path);
    }
}

static uint64_t replay(struct bench *b, uint64_t events, struct measured *opened,
                       struct measured *m) {
    struct mr_pipeline_stats stats;
    forget_all_but_the_log(b);
    struct spent begin = spent_until_now();
    open_data(b);
    add_since(opened, begin, events);
    begin = spent_until_now();
    wait_live(b);
    flush(b);
    add_since(m, begin, events);
    mr_pipeline_stats(b->pipeline, &stats);
    MR_ASSERT(stats.replayed_events == events + 1);
    uint64_t hash = hash_rows(b);
    close_node(b);
    return hash;
}

int main(int argc, char **argv) {
    uint64_t batches = ((argc > 1 ? strtoull(argv[1], NULL, 10) : 500000) + BATCH - 1) / BATCH;
    uint64_t runs = argc > 2 ? strtoull(argv[2], NULL, 10) : 3;
    static struct measured live;
    static struct measured opened;
    static struct measured replayed;
    static struct bench b;
    uint64_t events = batches * BATCH;
    struct mr_error error = {0};
    b.clock = (struct mr_clock){stopped_wall_ms, mono_ns};
    mr_event_count_init(&b.wake);
    bench_make_directory(b.dir);
    read_config(&b, events);
    must(mr_decoder_open(MR_DECODE_AUTO, &b.decoder), &error);
    uint64_t hash = take_live(&b, batches, &live);
    for (uint64_t i = 1; i < runs; i++) {
        MR_ASSERT(take_live(&b, batches, &live) == hash);
    }
    print("live", events, &live, hash);
    MR_ASSERT(replay(&b, events, &opened, &replayed) == hash);
    for (uint64_t i = 1; i < runs; i++) {
        MR_ASSERT(replay(&b, events, &opened, &replayed) == hash);
    }
    print("open", events, &opened, hash);
    print("replay", events, &replayed, hash);
    (void)printf("%-11s %.2f times the live rate, with %.2f of its CPU\n", "replay",
                 live.wall_median / replayed.wall_median, replayed.cpu_median / live.cpu_median);
    mr_decoder_close(b.decoder);
    mr_config_close(b.config);
    bench_remove(b.dir);
    return 0;
}
