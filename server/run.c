/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run: bounded input through the same stations: files or standard input in, final results out.
 *
 *     input ──▶ pieces of whole lines ──▶ decode ──▶ pipeline (no log) ──▶ … END ──▶ results store ──▶ stdout
 *
 * The watermark waits for the end of the input, where it jumps to the end of time: nothing is late in a batch
 * that knows where it ends.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/event_count.h"
#include "base/file.h"
#include "pipeline/data.h"
#include "server/cli.h"
#include "server/input.h"
#include "server/run_print.h"
#include "server/run_sinks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    PIECE_BYTES = 1 << 20,
    UNDER_WAY_MAX = 32,  /* pieces */
    ERRORS_SAID = 10,    /* rejected events told one by one */
    PROGRESS_NS = 100 * 1000 * 1000,
};

struct run_input {
    uint32_t stream;
    const char *path;
};

struct run {
    const struct mr_cli *cli;
    struct mr_config *config;
    uint32_t stream; /* of the input being read; before the first: of those that name none, UINT32_MAX: they must */
    struct run_input inputs[MR_CLI_OPERANDS_MAX];
    uint32_t input_count;
    struct mr_plan *plan;
    struct mr_results_rule *results_rules;
    struct mr_results *results;
    struct mr_pipeline *pipeline;
    struct mr_run_sinks sinks;
    struct mr_decoder *decoder;
    char directory[64]; /* temporary; empty with --into */
    char store[4096];

    /* The input being read. */
    const char *path;
    struct mr_input *input;
    struct mr_buf piece;
    uint64_t line; /* lines before the piece */
    uint32_t errors_said;
    uint64_t began_ns;
    uint64_t progress_ns;
    bool terminal;

    mr_counter done;    /* pieces; written by shards (shared add), read here */
    mr_counter refused; /* pieces that the sequencer gave back: dedup.ids is too small */
    uint64_t sent;
    struct mr_event_count wake;
    enum mr_status failure;
    struct mr_error error;
};

/* ---- opening ---- */

static enum mr_status choose_store(struct run *run) {
    if (run->cli->into != NULL) {
        int len = snprintf(run->store, sizeof run->store, "%s", run->cli->into);
        if (len < 0 || (size_t)len >= sizeof run->store || access(run->store, F_OK) == 0) {
            return mr_error_set(&run->error, MR_INVALID,
                                "--into %s: expected the name of a file that does not exist yet",
                                run->cli->into);
        }
        return MR_OK;
    }
    const char *tmp = getenv("TMPDIR");
    int len = snprintf(run->directory, sizeof run->directory, "%s/millrace-run-XXXXXX",
                       tmp != NULL && strlen(tmp) < 32 ? tmp : "/tmp");
    MR_ASSERT(len > 0 && (size_t)len < sizeof run->directory);
    if (mkdtemp(run->directory) == NULL) {
        (void)mr_error_set(&run->error, MR_IO, "cannot make a temporary directory %s", run->directory);
        run->directory[0] = '\0';
        return MR_IO;
    }
    (void)snprintf(run->store, sizeof run->store, "%s/results.db", run->directory);
    return MR_OK;
}

static enum mr_status open_store(struct run *run) {
    enum mr_status status = choose_store(run);
    if (status != MR_OK) {
        return status;
    }
    run->results_rules = mr_data_results_rules(run->plan);
    if (run->results_rules == NULL) {
        return mr_error_set(&run->error, MR_NO_MEMORY, "out of memory opening the results store");
    }
    uint64_t incarnation;
    if (mr_random_bytes(&incarnation, sizeof incarnation) != MR_OK) {
        return mr_error_set(&run->error, MR_IO, "the kernel gives no random bytes");
    }
    struct mr_results_sqlite_options options = {
        .path = run->store,
        .incarnation = incarnation,
        .rules = run->results_rules,
        .rule_count = run->plan->rule_count,
        .sync = false,
        .outbox_panes_max = run->cli->sinks ? MR_OUTBOX_PANES_MAX : 1,
    };
    return mr_results_sqlite_open(&options, &run->results, &run->error);
}

static enum mr_status open_run(struct run *run) {
    struct mr_hash_key key;
    if (mr_random_bytes(key.bytes, sizeof key.bytes) != MR_OK) {
        return mr_error_set(&run->error, MR_IO, "the kernel gives no random bytes for the hash key");
    }
    enum mr_status status = mr_plan_open(run->config, &key, true, &run->plan, &run->error);
    if (status == MR_OK) {
        status = open_store(run);
    }
    if (status != MR_OK) {
        return status;
    }
    struct mr_pipeline_options options = {
        .plan = run->plan, .clock = mr_clock_system(), .results = run->results};
    status = mr_pipeline_open(&options, &run->pipeline, &run->error);
    if (status == MR_OK && (mr_pipeline_start(run->pipeline) != MR_OK ||
                            mr_decoder_open(MR_DECODE_AUTO, &run->decoder) != MR_OK)) {
        status = mr_error_set(&run->error, MR_NO_MEMORY, "cannot start the pipeline");
    }
    if (status == MR_OK && run->cli->sinks) {
        status = mr_run_sinks_open(&run->sinks, run->plan, run->results_rules, run->results, &run->error);
    }
    return status;
}

static void close_run(struct run *run) {
    mr_input_close(run->input);
    mr_buf_finish(&run->piece);
    if (run->pipeline != NULL) {
        mr_pipeline_stop(run->pipeline);
    }
    mr_pipeline_close(run->pipeline);
    mr_run_sinks_close(&run->sinks);
    mr_results_close(run->results);
    mr_decoder_close(run->decoder);
    mr_free(run->results_rules);
    mr_plan_close(run->plan);
    mr_config_close(run->config);
    if (run->directory[0] != '\0') {
        (void)unlink(run->store); /* a temporary file: nothing depends on it any more */
        (void)rmdir(run->directory);
    }
}

/* ---- feeding ---- */

static void piece_done(struct mr_batch *batch, void *ctx) {
    struct run *run = ctx;
    if (batch->refusal != MR_REFUSAL_NONE) {
        mr_counter_add_shared(&run->refused, 1);
    }
    mr_batch_close(batch);
    mr_counter_add_shared(&run->done, 1);
    mr_event_count_signal(&run->wake);
}

static void say_errors(struct run *run, const struct mr_batch *batch) {
    for (uint32_t i = 0; i < batch->error_count && run->errors_said < ERRORS_SAID; i++) {
        const struct mr_event_error *e = &batch->errors[i];
        (void)fprintf(stderr, "%s:%" PRIu64 ": %s: %s\n", run->path, run->line + e->line,
                      mr_reject_code(e->reject), e->detail);
        run->errors_said++;
        if (run->errors_said == ERRORS_SAID) {
            (void)fprintf(stderr, "more rejected events are only counted\n");
        }
    }
}

/* Waits until fewer than `most` pieces are under way. */
static enum mr_status wait_below(struct run *run, uint64_t most) {
    for (;;) {
        uint32_t value = mr_event_count_value(&run->wake);
        if (mr_counter_read(&run->refused) > 0) {
            /* Ids do not expire within a run: waiting would not help, and a part is not a result. */
            return mr_error_set(&run->error, MR_FULL,
                                "%s: more distinct ids than dedup.ids has room for: raise dedup.ids",
                                run->path);
        }
        if (run->sent - mr_counter_read(&run->done) < most) {
            return MR_OK;
        }
        enum mr_status failed = mr_pipeline_failure(run->pipeline, &run->error);
        if (failed != MR_OK) {
            return failed;
        }
        mr_event_count_wait(&run->wake, value, 100 * 1000 * 1000); /* a failure has no other way to tell */
    }
}

static uint64_t count_lines(struct mr_bytes bytes) {
    uint64_t lines = 0;
    const uint8_t *at = bytes.ptr;
    const uint8_t *end = bytes.ptr + bytes.len;
    while (at < end && (at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        lines++;
        at++;
    }
    return lines;
}

/* Sends bytes, which are whole lines or a whole array. */
static enum mr_status send_piece(struct run *run, struct mr_bytes bytes, enum mr_format format) {
    enum mr_status status = wait_below(run, UNDER_WAY_MAX);
    if (status != MR_OK) {
        return status;
    }
    struct mr_buf body;
    mr_buf_init(&body, bytes.len + MR_PADDING);
    (void)mr_buf_reserve(&body, bytes.len + MR_PADDING);
    mr_buf_append_bytes(&body, bytes);
    struct mr_batch *batch = NULL;
    status = body.failed ? mr_error_set(&run->error, MR_NO_MEMORY, "out of memory reading %s", run->path)
                         : mr_decode(run->decoder, run->plan->streams[run->stream].schema, format, &body, &batch,
                                     &run->error);
    if (status != MR_OK) {
        mr_buf_finish(&body);
        return status;
    }
    say_errors(run, batch);
    run->line += count_lines(bytes);
    if (batch->count == 0) {
        mr_batch_close(batch);
        return MR_OK;
    }
    batch->stream = run->stream;
    batch->done = piece_done;
    batch->ctx = run;
    run->sent++;
    bool submitted = mr_pipeline_submit(run->pipeline, batch);
    MR_ASSERT(submitted); /* the ring holds more than UNDER_WAY_MAX */
    return MR_OK;
}

static void say_progress(struct run *run, bool last) {
    uint64_t now_ns = mr_clock_mono_ns(mr_clock_system());
    if (!run->terminal || (!last && now_ns - run->progress_ns < PROGRESS_NS)) {
        return;
    }
    run->progress_ns = now_ns;
    uint64_t done;
    uint64_t total;
    mr_input_progress(run->input, &done, &total);
    struct mr_stream_stats stats;
    mr_pipeline_stream_stats(run->pipeline, run->stream, &stats);
    double seconds = (double)(now_ns - run->began_ns) / 1e9;
    double share = total == 0 ? 0 : (double)done / (double)total;
    char bar[31];
    for (int i = 0; i < 30; i++) {
        bar[i] = (double)i < share * 30 ? '#' : '.';
    }
    bar[30] = '\0';
    (void)fprintf(stderr, "\r%s [%s] %3.0f %%  %" PRIu64 " events  %.2f M/s ", run->path,
                  total == 0 ? "pipe" : bar, share * 100, stats.received,
                  seconds > 0 ? (double)stats.received / seconds / 1e6 : 0);
    if (last) {
        (void)fputc('\n', stderr);
    }
}

/* How much of the piece may be sent now: up to the last newline, or all of it at the end. */
static size_t whole_lines(const struct run *run, bool ended) {
    if (ended) {
        return run->piece.len;
    }
    const uint8_t *last = memrchr(run->piece.ptr, '\n', run->piece.len);
    return last == NULL ? 0 : (size_t)(last - run->piece.ptr) + 1;
}

static bool is_array(struct mr_bytes bytes) {
    size_t i = 0;
    while (i < bytes.len && memchr(" \t\r\n", bytes.ptr[i], 4) != NULL) {
        i++;
    }
    return i < bytes.len && bytes.ptr[i] == '[';
}

/* Reads until the piece has `goal` bytes, or the input ends. */
static enum mr_status read_piece(struct run *run, size_t goal, bool *ret_ended) {
    *ret_ended = false;
    while (run->piece.len < goal) {
        size_t room = goal - run->piece.len;
        uint8_t *at = mr_buf_reserve(&run->piece, room);
        if (at == NULL) {
            return mr_error_set(&run->error, MR_NO_MEMORY, "out of memory reading %s", run->path);
        }
        size_t len;
        enum mr_status status = mr_input_read(run->input, at, room, &len, &run->error);
        if (status != MR_OK) {
            return status;
        }
        run->piece.len += len;
        if (len == 0) {
            *ret_ended = true;
            return MR_OK;
        }
    }
    return MR_OK;
}

/* The batch of a piece must not have more events than limits.batch_events: a line has two bytes at least. */
static size_t piece_goal(const struct run *run) {
    uint64_t most = (uint64_t)run->config->limits.batch_events * 2;
    return most < PIECE_BYTES ? (size_t)most : PIECE_BYTES;
}

static enum mr_status feed_input(struct run *run) {
    size_t goal = piece_goal(run);
    size_t most = (size_t)run->config->limits.inflated_bytes;
    bool array = false;
    bool first = true;
    for (bool ended = false; !ended;) {
        enum mr_status status = read_piece(run, goal, &ended);
        if (status != MR_OK) {
            return status;
        }
        array = first ? is_array(mr_buf_bytes(&run->piece)) : array;
        first = false;
        size_t len = array && !ended ? 0 : whole_lines(run, ended);
        if (len == 0 && !ended) {
            if (goal >= most) {
                return mr_error_set(&run->error, MR_LIMIT,
                                    "%s: a line (or an array) is longer than limits.inflated (%zu bytes)",
                                    run->path, most);
            }
            goal = goal * 2 > most ? most : goal * 2; /* a long line: read more of it */
            continue;
        }
        if (len > 0) {
            status = send_piece(run, mr_bytes_of(run->piece.ptr, len),
                                array ? MR_FORMAT_ARRAY : MR_FORMAT_NDJSON);
        }
        if (status != MR_OK) {
            return status;
        }
        memmove(run->piece.ptr, run->piece.ptr + len, run->piece.len - len);
        run->piece.len -= len;
        goal = piece_goal(run);
        say_progress(run, false);
    }
    say_progress(run, true);
    return MR_OK;
}

static enum mr_status feed(struct run *run, const char *path) {
    run->path = strcmp(path, "-") == 0 ? "standard input" : path;
    run->line = 0;
    enum mr_status status = mr_input_open(path, &run->input, &run->error);
    if (status == MR_OK) {
        status = feed_input(run);
    }
    mr_input_close(run->input);
    run->input = NULL;
    mr_buf_clear(&run->piece);
    return status;
}

static void ended(struct mr_ask *ask, void *ctx) {
    (void)ask;
    struct run *run = ctx;
    mr_counter_add_shared(&run->done, 1);
    mr_event_count_signal(&run->wake);
}

/* The input is over: everything fires and is written. */
static enum mr_status end_input(struct run *run) {
    enum mr_status status = wait_below(run, 1);
    if (status != MR_OK) {
        return status;
    }
    struct mr_ask *ask = mr_alloc_zero(1, sizeof *ask);
    if (ask == NULL) {
        return mr_error_set(&run->error, MR_NO_MEMORY, "out of memory at the end of the input");
    }
    ask->kind = MR_ASK_END;
    ask->done = ended;
    ask->ctx = run;
    run->sent++;
    bool asked = mr_pipeline_ask(run->pipeline, ask);
    MR_ASSERT(asked); /* nobody else asks */
    status = wait_below(run, 1);
    if (status == MR_OK) {
        mr_free(ask); /* else a station may still look at it: the process is ending */
    }
    return status;
}

/* ---- all of it ---- */

static void print_summary(const struct run *run, uint32_t stream, bool name) {
    struct mr_stream_stats s;
    mr_pipeline_stream_stats(run->pipeline, stream, &s);
    double seconds = (double)(mr_clock_mono_ns(mr_clock_system()) - run->began_ns) / 1e9;
    struct mr_bytes of = run->config->streams[stream].name; /* letters, digits, _ and - */
    if (name) {
        (void)fprintf(stderr, run->cli->json ? "{\"stream\":\"%.*s\"," : "%.*s: ", (int)of.len, (const char *)of.ptr);
    }
    const char *format =
        run->cli->json
            ? "%s\"received\":%" PRIu64 ",\"accepted\":%" PRIu64 ",\"duplicate\":%" PRIu64
              ",\"late\":%" PRIu64 ",\"rejected\":%" PRIu64 ",\"seconds\":%.3f}\n"
            : "%sreceived %" PRIu64 ": accepted %" PRIu64 ", duplicate %" PRIu64 ", late %" PRIu64
              ", rejected %" PRIu64 "; %.2f s\n";
    (void)fprintf(stderr, format, run->cli->json && !name ? "{" : "", s.received, s.accepted, s.duplicate, s.late,
                  s.rejected, seconds);
}

/* What came of each stream that there was input of, by name when there were several. */
static void print_summaries(const struct run *run) {
    bool read[MR_STREAMS_MAX] = {false};
    bool several = false;
    for (uint32_t i = 0; i < run->input_count; i++) {
        read[run->inputs[i].stream] = true;
        several = several || run->inputs[i].stream != run->inputs[0].stream;
    }
    for (uint32_t stream = 0; stream < run->config->stream_count; stream++) {
        if (read[stream]) {
            print_summary(run, stream, several);
        }
    }
}

static enum mr_status run_all(struct run *run, uint32_t only) {
    enum mr_status status = open_run(run);
    for (uint32_t i = 0; i < run->input_count && status == MR_OK; i++) {
        run->stream = run->inputs[i].stream;
        status = feed(run, run->inputs[i].path);
    }
    if (status == MR_OK) {
        status = end_input(run);
    }
    if (status == MR_OK) {
        status = mr_run_print(run->plan, run->results, only, run->cli->csv, &run->error);
    }
    if (status == MR_OK) {
        mr_run_sinks_wait(&run->sinks);
        print_summaries(run);
    }
    return status;
}

/* An operand is a file's name, or that of a stream before it. */
static struct run_input input_of(const struct run *run, const char *operand) {
    const char *equals = strchr(operand, '=');
    if (equals != NULL) {
        struct mr_bytes name = mr_bytes_of(operand, (size_t)(equals - operand));
        uint32_t stream = mr_config_stream_index(run->config, name);
        if (stream != UINT32_MAX) {
            return (struct run_input){stream, equals + 1};
        }
    }
    return (struct run_input){run->stream, operand};
}

/* false: said on stderr. */
static bool choose_inputs(struct run *run) {
    const struct mr_cli *cli = run->cli;
    if (cli->stream != NULL || run->config->stream_count == 1) {
        run->stream = cli->stream == NULL ? 0 : mr_config_stream_index(run->config, mr_bytes_text(cli->stream));
        if (run->stream == UINT32_MAX) {
            (void)fprintf(stderr, "millrace: no such stream in --stream\n");
            return false;
        }
    } else {
        run->stream = UINT32_MAX;
    }
    run->input_count = cli->operand_count == 0 ? 1 : (uint32_t)cli->operand_count;
    for (uint32_t i = 0; i < run->input_count; i++) {
        run->inputs[i] = input_of(run, cli->operand_count == 0 ? "-" : cli->operands[i]);
        if (run->inputs[i].stream == UINT32_MAX) {
            (void)fprintf(stderr,
                          "millrace: there are several streams: of which one is %s? Write STREAM=%s, or --stream STREAM\n",
                          run->inputs[i].path, run->inputs[i].path);
            return false;
        }
    }
    return true;
}

/* Which rule the command line means; false: said on stderr. */
static bool choose_rule(const struct run *run, uint32_t *ret_rule) {
    const struct mr_cli *cli = run->cli;
    *ret_rule = cli->rule == NULL ? UINT32_MAX : mr_config_rule_index(run->config, mr_bytes_text(cli->rule));
    const char *wrong = NULL;
    if (cli->rule != NULL && *ret_rule == UINT32_MAX) {
        wrong = "no such rule in --rule";
    } else if (cli->csv && cli->rule == NULL && run->config->rule_count != 1) {
        wrong = "--csv is for one rule: name it with --rule";
    }
    if (wrong != NULL) {
        (void)fprintf(stderr, "millrace: %s\n", wrong);
    }
    return wrong == NULL;
}

int mr_cli_run(const struct mr_cli *cli) {
    struct run run = {.cli = cli, .terminal = isatty(STDERR_FILENO) == 1 && !cli->json};
    int code = mr_cli_load(cli, &run.config);
    if (code != MR_EXIT_OK) {
        return code;
    }
    uint32_t only;
    if (!choose_rule(&run, &only) || !choose_inputs(&run)) {
        mr_config_close(run.config);
        return MR_EXIT_USAGE;
    }
    mr_event_count_init(&run.wake);
    mr_buf_init(&run.piece, (size_t)run.config->limits.inflated_bytes + PIECE_BYTES);
    run.began_ns = mr_clock_mono_ns(mr_clock_system());
    enum mr_status status = run_all(&run, only);
    if (run.pipeline != NULL && mr_pipeline_failure(run.pipeline, NULL) != MR_OK) {
        (void)mr_cli_failed(&run.error);
        _Exit(MR_EXIT_FAILURE); /* stations are stuck in the middle of things */
    }
    bool planned = run.plan != NULL;
    close_run(&run);
    if (status != MR_OK) {
        int why = mr_cli_failed(&run.error);
        return planned ? MR_EXIT_FAILURE : why; /* without a plan it is the configuration's fault */
    }
    return MR_EXIT_OK;
}
