/* SPDX-License-Identifier: Apache-2.0 */
/*
 * millrace-bench: reads the command line, makes a run, and tells what came of it.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "bench/load/percentiles.h"
#include "bench/load/reader.h"
#include "bench/load/report.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_SLO = 3 };
enum { TEXT_MAX = 16 << 20, TOKEN_MAX = 512, LOOK_MS = 10 };

/* What it costs: read before and after the measured part. */
struct cost {
    bool known; /* the server's part */
    double server_cpu_s;
    double server_rss;
    double own_cpu_s;
};

struct bench {
    struct mr_load_options options;
    struct mr_load_target target;
    struct mr_load_plan plan;
    struct mr_load_events events;
    struct mr_load_lines lines;
    struct mr_load_run run;
    struct mr_load_slo slo;
    struct mr_load_result result;
    struct mr_load_verify verify;
    struct mr_load_report report;
    struct mr_file *hdr;
    struct cost before;
    struct cost after;
    struct mr_load_tally *live[2]; /* of now, and of the last second */
    struct mr_buf in;
    struct mr_buf chunks;
    struct mr_buf text;
    bool planned;    /* plan and events are there */
    bool run_opened; /* and must be closed */
    struct mr_error error;
};

static volatile sig_atomic_t interrupted; /* the one thing that a signal handler may write */

static void on_signal(int number) {
    (void)number; /* SIGINT and SIGTERM mean the same */
    interrupted = 1;
}

static void take_cost(struct bench *b, struct cost *ret) {
    struct mr_load_answer answer;
    struct rusage own;
    *ret = (struct cost){0};
    if (mr_load_target_get_ok(&b->target, "/metrics", &b->in, &b->chunks, &answer, NULL) == MR_OK) {
        ret->known = mr_load_sample(answer.body, "process_cpu_seconds_total", &ret->server_cpu_s) &&
                     mr_load_sample(answer.body, "process_resident_memory_bytes", &ret->server_rss);
    }
    (void)getrusage(RUSAGE_SELF, &own); /* fails only for other arguments */
    ret->own_cpu_s = (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
                     (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
}

static enum mr_load_kind_of_event kind_of(int workload) {
    return workload == MR_LOAD_YAHOO_ADS ? MR_LOAD_YAHOO
           : workload == MR_LOAD_NEXMARK ? MR_LOAD_BIDS
           : workload == MR_LOAD_OF_FILE ? MR_LOAD_FILE
                                         : MR_LOAD_PAGES;
}

static enum mr_status open_pick(const struct mr_load_options *o, struct mr_load_pick *ret) {
    switch (o->workload) {
    case MR_LOAD_ZIPF:
        return mr_load_pick_open_zipf(ret, o->keys, o->theta);
    case MR_LOAD_UNIFORM:
        return mr_load_pick_open_zipf(ret, o->keys, 0);
    default:
        return mr_load_pick_open_hot(ret, o->keys, o->hot_share);
    }
}

/* The plan and the events of a seed. Both are closed by the caller, also after a failure. */
static enum mr_status open_events(const struct mr_load_options *o, uint64_t seed, struct mr_load_plan *plan,
                                  struct mr_load_events *events) {
    struct mr_load_plan_options options = mr_load_options_plan(o);
    enum mr_load_kind_of_event kind = kind_of(o->workload);
    struct mr_load_pick pick = {0};
    options.seed = seed;
    enum mr_status status = mr_load_plan_init(plan, &options);
    if (status == MR_OK && kind == MR_LOAD_PAGES) {
        status = open_pick(o, &pick);
    }
    return status == MR_OK ? mr_load_events_open(events, kind, seed, kind == MR_LOAD_PAGES ? &pick : NULL) : status;
}

static enum mr_status read_token(const char *path, char ret[TOKEN_MAX], struct mr_error *error) {
    struct mr_buf text;
    mr_buf_init(&text, TOKEN_MAX - 1);
    enum mr_status status = mr_disk_read_all(mr_disk_system(), path, &text);
    size_t len = text.len;
    while (len > 0 && (text.ptr[len - 1] == '\n' || text.ptr[len - 1] == '\r')) {
        len--;
    }
    if (len > 0) {
        memcpy(ret, text.ptr, len);
    }
    ret[len] = '\0';
    mr_buf_finish(&text);
    return status == MR_OK ? MR_OK : mr_error_set(error, status, "--token-file %s: %s", path, mr_status_text(status));
}

static enum mr_status find_server(struct bench *b) {
    char token[TOKEN_MAX];
    struct mr_load_answer answer;
    struct mr_bytes version;
    enum mr_status status = MR_OK;
    if (b->options.token_file != NULL) {
        status = read_token(b->options.token_file, token, &b->error);
    }
    if (status == MR_OK) {
        status = mr_load_target_open(&b->target, b->options.url, b->options.token_file != NULL ? token : NULL, &b->error);
    }
    if (status == MR_OK) {
        status = mr_load_target_get_ok(&b->target, "/v1/version", &b->in, &b->chunks, &answer, &b->error);
    }
    if (status != MR_OK) {
        return status;
    }
    if (!mr_load_member(answer.body, "version", &version)) {
        return mr_error_set(&b->error, MR_INVALID, "http://%s is no millrace server", b->target.host);
    }
    version = mr_load_unquoted(version);
    (void)snprintf(b->report.version, sizeof b->report.version, "%.*s", (int)version.len, (const char *)version.ptr);
    return MR_OK;
}

static enum mr_status prepare(struct bench *b) {
    const struct mr_load_names *names = mr_load_names_of(kind_of(b->options.workload));
    bool file = b->options.workload == MR_LOAD_OF_FILE;
    b->report.stream = b->options.stream != NULL ? b->options.stream : names->stream;
    enum mr_status status;
    if (file) {
        status = mr_load_lines_open(&b->lines, b->options.path, b->options.batch, &b->error);
    } else {
        status = open_events(&b->options, b->options.seed, &b->plan, &b->events);
        b->planned = true;
        if (status != MR_OK) {
            (void)mr_error_set(&b->error, status, "no memory for the workload");
        }
    }
    if (status == MR_OK && b->options.hdr != NULL) {
        status = mr_file_open(mr_disk_system(), b->options.hdr, MR_FILE_CREATE, &b->hdr);
        if (status != MR_OK) {
            (void)mr_error_set(&b->error, status, "--hdr %s: %s", b->options.hdr, mr_status_text(status));
        }
    }
    if (status == MR_OK) {
        status = find_server(b);
    }
    if (status == MR_OK && b->options.verify) {
        mr_load_verify_init(&b->verify, &b->options, &b->target, file ? NULL : &b->plan, &b->events, names);
        b->report.verify = &b->verify;
        status = mr_load_verify_begin(&b->verify, &b->error);
    }
    return status;
}

/* stderr, where a person looks on; a failed write is not worth ending for. */
static void say(struct mr_buf *text) {
    (void)fwrite(text->ptr, 1, text->len, stderr);
    mr_buf_clear(text);
}

static void show_second(struct bench *b, uint64_t now_ns, uint64_t last_ns) {
    *b->live[0] = (struct mr_load_tally){.requests = 0};
    mr_load_run_tally(&b->run, false, b->live[0]);
    mr_load_report_second((double)(now_ns - b->run.began_ns) / 1e9, (double)(now_ns - last_ns) / 1e9,
                          now_ns <= b->run.measure_ns, b->live[0], b->live[1], &b->text);
    say(&b->text);
}

/* Until the run is over: a line a second, and a look at the costs when the warm-up ends. */
static void watch_run(struct bench *b) {
    struct mr_clock *clock = mr_clock_system();
    bool live = b->options.live || isatty(STDERR_FILENO);
    bool measuring = false;
    uint64_t last_ns = b->run.began_ns;
    while (!mr_load_run_is_over(&b->run)) {
        uint64_t now_ns = mr_clock_mono_ns(clock);
        if (!measuring && now_ns >= b->run.measure_ns) {
            take_cost(b, &b->before);
            measuring = true;
        }
        if (live && now_ns - last_ns >= 1000000000) {
            show_second(b, now_ns, last_ns);
            last_ns = now_ns;
        }
        if (interrupted && !b->report.interrupted) {
            b->report.interrupted = true;
            mr_load_run_stop(&b->run);
        }
        struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
        (void)nanosleep(&pause, NULL); /* a signal ends it early, which is fine */
    }
}

static void take_result(struct bench *b) {
    mr_load_result_take(&b->result, &b->run);
    double millions = (double)mr_load_read(&b->result.measured->events) / 1e6;
    if (millions > 0) {
        b->result.generator_cpu = (b->after.own_cpu_s - b->before.own_cpu_s) / millions;
    }
    if (millions > 0 && b->before.known && b->after.known) {
        b->result.server_cpu = (b->after.server_cpu_s - b->before.server_cpu_s) / millions;
        b->result.server_rss = b->after.server_rss;
    }
}

static enum mr_status send_all(struct bench *b) {
    struct mr_load_maker maker;
    mr_load_maker_init(&maker);
    maker.plan = b->planned ? &b->plan : NULL;
    maker.events = &b->events;
    maker.lines = b->planned ? NULL : &b->lines;
    maker.target = &b->target;
    maker.stream = b->report.stream;
    maker.array = b->options.format == 1;
    maker.encoding = (enum mr_encoding)b->options.encoding;
    b->run_opened = true;
    enum mr_status status = mr_load_run_open(&b->run, &b->options, &maker, b->planned ? &b->plan : NULL);
    if (status != MR_OK) {
        return mr_error_set(&b->error, status, "no memory for the connections");
    }
    mr_load_report_header(&b->report, &b->text);
    if (b->options.json) {
        mr_buf_clear(&b->text);
    } else {
        (void)fwrite(b->text.ptr, 1, b->text.len, stdout); /* main looks at the end */
        (void)fflush(stdout);
        mr_buf_clear(&b->text);
    }
    take_cost(b, &b->before);
    status = mr_load_run_start(&b->run, &b->error);
    if (status == MR_OK) {
        watch_run(b);
    }
    enum mr_status sent = mr_load_run_wait(&b->run, &b->error);
    take_cost(b, &b->after);
    take_result(b);
    return status == MR_OK ? sent : status;
}

/* With the truth of another seed, to see that differences are found. */
static enum mr_status verify_as(struct bench *b, const struct mr_load_sent *sent, uint64_t seed) {
    struct mr_load_plan plan = {0};
    struct mr_load_events events = {0};
    int64_t *bases = b->plan.bases;
    enum mr_status status = open_events(&b->options, seed, &plan, &events);
    if (status == MR_OK) {
        int64_t *own = plan.bases;
        plan.bases = bases; /* when they were sent is no matter of the seed */
        b->verify.plan = &plan;
        b->verify.events = &events;
        status = mr_load_verify_end(&b->verify, sent, &b->error);
        b->verify.plan = &b->plan;
        b->verify.events = &b->events;
        plan.bases = own;
    }
    mr_load_plan_finish(&plan);
    mr_load_events_close(&events);
    return status;
}

static enum mr_status verify_run(struct bench *b) {
    const struct mr_load_tally *t = b->result.total;
    struct mr_load_sent sent = {
        .answered = {.received = mr_load_read(&t->events), .accepted = mr_load_read(&t->accepted),
                     .duplicate = mr_load_read(&t->duplicate), .late = mr_load_read(&t->late),
                     .rejected = mr_load_read(&t->rejected)},
        .slots = b->planned ? b->run.next * b->options.batch : mr_load_read(&t->events),
        .uncertain = mr_load_read(&t->uncertain),
        .behind_ms = b->run.behind_ms,
    };
    enum mr_status status = b->options.has_verify_as && b->planned
                                ? verify_as(b, &sent, b->options.verify_as)
                                : mr_load_verify_end(&b->verify, &sent, &b->error);
    b->result.mismatches = status == MR_OK ? (double)b->verify.mismatches : NAN;
    return status;
}

static enum mr_status write_hdr(struct bench *b) {
    mr_load_percentiles(&b->result.measured->latency, &b->text);
    enum mr_status status = mr_file_truncate(b->hdr, 0);
    if (status == MR_OK) {
        status = mr_file_pwrite(b->hdr, mr_buf_bytes(&b->text), 0);
    }
    mr_buf_clear(&b->text);
    return status == MR_OK ? MR_OK
                           : mr_error_set(&b->error, status, "--hdr %s: %s", b->options.hdr, mr_status_text(status));
}

static int finish(struct bench *b, enum mr_status status) {
    if (status == MR_OK && b->hdr != NULL) {
        status = write_hdr(b);
    }
    b->report.failure = status == MR_OK ? NULL : b->error.text;
    if (b->options.json) {
        mr_load_report_json(&b->report, &b->text);
    } else {
        mr_load_report_table(&b->report, &b->text);
    }
    bool written = !b->text.failed && fwrite(b->text.ptr, 1, b->text.len, stdout) == b->text.len && fflush(stdout) == 0;
    if (status != MR_OK) {
        (void)fprintf(stderr, "millrace-bench: %s\n", b->error.text);
    } else if (!written) {
        (void)fprintf(stderr, "millrace-bench: cannot write to standard output\n");
    }
    if (status != MR_OK || !written || (b->report.verify != NULL && b->verify.mismatches > 0)) {
        return EXIT_FAILED;
    }
    bool holds = true;
    for (uint32_t i = 0; b->report.slo != NULL && i < b->slo.count; i++) {
        double value;
        bool term = mr_load_slo_holds(&b->slo.terms[i], &b->result, &value);
        if (!term) {
            char shown[64];
            mr_load_show(value, b->slo.terms[i].unit, shown, sizeof shown);
            (void)fprintf(stderr, "millrace-bench: %.*s does not hold: %s\n", (int)b->slo.terms[i].text.len,
                          (const char *)b->slo.terms[i].text.ptr, shown);
        }
        holds = holds && term;
    }
    return holds ? EXIT_FINE : EXIT_SLO;
}

static void close_all(struct bench *b) {
    if (b->run_opened) {
        mr_load_run_close(&b->run);
    }
    if (b->report.verify != NULL) {
        mr_load_verify_finish(&b->verify);
    }
    if (b->planned) {
        mr_load_plan_finish(&b->plan);
    }
    mr_load_events_close(&b->events);
    mr_load_lines_close(&b->lines);
    mr_load_result_close(&b->result);
    mr_file_close(b->hdr);
    mr_free(b->live[0]);
    mr_free(b->live[1]);
    mr_buf_finish(&b->in);
    mr_buf_finish(&b->chunks);
    mr_buf_finish(&b->text);
}

static int fail_usage(const struct mr_error *error) {
    (void)fprintf(stderr, "millrace-bench: %s\nTry `millrace-bench --help`.\n", error->text);
    return EXIT_USAGE;
}

static int bench(struct bench *b) {
    mr_buf_init(&b->in, TEXT_MAX);
    mr_buf_init(&b->chunks, TEXT_MAX);
    b->report.options = &b->options;
    b->report.target = &b->target;
    b->report.result = &b->result;
    b->live[0] = mr_alloc_zero(1, sizeof *b->live[0]);
    b->live[1] = mr_alloc_zero(1, sizeof *b->live[1]);
    if (mr_load_result_open(&b->result) != MR_OK || b->live[0] == NULL || b->live[1] == NULL) {
        (void)fprintf(stderr, "millrace-bench: no memory\n");
        return EXIT_FAILED;
    }
    if (!b->options.has_seed && mr_random_bytes(&b->options.seed, sizeof b->options.seed) != MR_OK) {
        (void)fprintf(stderr, "millrace-bench: no random seed; give one with --seed\n");
        return EXIT_FAILED;
    }
    if (!b->options.has_seed) {
        b->options.seed >>= 32; /* short enough to be typed */
    }
    enum mr_status status = prepare(b);
    if (status != MR_OK) {
        (void)fprintf(stderr, "millrace-bench: %s\n", b->error.text);
        return EXIT_FAILED;
    }
    status = send_all(b);
    if (status == MR_OK && b->options.verify) {
        status = verify_run(b);
    }
    return finish(b, status);
}

/* Whether nothing is sent: the options ask for a text. */
static bool asks_for_text(const struct mr_load_options *o) {
    return o->help || o->version || o->print_config || o->print_ads;
}

static bool make_text(const struct mr_load_options *o, struct mr_buf *ret) {
    if (o->help) {
        mr_load_options_help(ret);
    } else if (o->version) {
        mr_buf_printf(ret, "millrace-bench %s\n", MR_VERSION);
    } else if (o->print_config) {
        mr_load_options_config(o, ret);
    } else if (mr_load_events_print_ads(ret) != MR_OK) {
        (void)fprintf(stderr, "millrace-bench: no memory\n");
        return false;
    }
    return true;
}

int main(int argc, char **argv) {
    static struct bench b;
    struct mr_error error;
    if (mr_load_options_parse(&b.options, argc, argv, &error) != MR_OK) {
        return fail_usage(&error);
    }
    if (b.options.slo != NULL && !b.options.help) {
        if (mr_load_slo_parse(&b.slo, b.options.slo, &error) != MR_OK) {
            return fail_usage(&error);
        }
        b.report.slo = &b.slo;
    }
    mr_buf_init(&b.text, TEXT_MAX);
    if (asks_for_text(&b.options)) {
        bool made = make_text(&b.options, &b.text);
        bool written = made && fwrite(b.text.ptr, 1, b.text.len, stdout) == b.text.len && fflush(stdout) == 0;
        mr_buf_finish(&b.text);
        return written ? EXIT_FINE : EXIT_FAILED;
    }
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND}; /* a second one ends it at once */
    (void)sigaction(SIGINT, &action, NULL);  /* neither fails for these signals */
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    int code = bench(&b);
    close_all(&b);
    return code;
}
