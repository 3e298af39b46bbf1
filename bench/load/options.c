/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/options.h"

#include "base/check.h"
#include "base/limits.h"
#include "base/time_text.h"
#include "bench/load/pick.h"
#include "config/value.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

enum kind { FLAG, TEXT, COUNT32, COUNT64, SEED, SHARE, DECIMAL, RATE, DURATION, TIME, CHOICE };

struct choice {
    const char *text;
    int value;
};

static const struct choice workloads[] = {
    {"zipf", MR_LOAD_ZIPF},        {"uniform", MR_LOAD_UNIFORM}, {"hot", MR_LOAD_HOT},
    {"yahoo", MR_LOAD_YAHOO_ADS},  {"nexmark", MR_LOAD_NEXMARK}, {"file", MR_LOAD_OF_FILE},
    {NULL, 0}};
static const struct choice formats[] = {{"ndjson", 0}, {"json", 1}, {NULL, 0}};
static const struct choice encodings[] = {{"off", MR_ENCODING_IDENTITY},
                                          {"gzip", MR_ENCODING_GZIP},
                                          {"deflate", MR_ENCODING_DEFLATE},
                                          {"zstd", MR_ENCODING_ZSTD},
                                          {NULL, 0}};
static const struct choice disorders[] = {{"uniform", MR_LOAD_DISORDER_UNIFORM},
                                          {"exponential", MR_LOAD_DISORDER_EXPONENTIAL},
                                          {NULL, 0}};

struct option {
    const char *name;
    const char *value; /* as help shows it; NULL: a flag */
    enum kind kind;
    size_t offset;
    double min;
    double max;
    const char *default_text; /* NULL: none */
    const struct choice *choices;
    const char *section; /* begins one */
    const char *doc;
};

#define AT(field) offsetof(struct mr_load_options, field)
/* clang-format off */
static const struct option table[] = {
    {"url", "URL", TEXT, AT(url), 0, 0, "http://127.0.0.1:8080", NULL, "Where", "the server"},
    {"token-file", "FILE", TEXT, AT(token_file), 0, 0, NULL, NULL, NULL, "holds a token, sent as Bearer"},
    {"stream", "NAME", TEXT, AT(stream), 0, 0, NULL, NULL, NULL, "another stream than the workload's"},
    {"rule", "NAME", TEXT, AT(rule), 0, 0, NULL, NULL, NULL, "another rule to verify than the workload's"},
    {"rate", "N|max", RATE, AT(rate), 0.001, MR_LOAD_RATE_MAX, "max", NULL, "How much", "events a second, each request at its own time whatever the server does; max: the next when an answer comes"},
    {"duration", "TIME", DURATION, AT(duration_ms), 1, 864e5 * 30, "10s", NULL, NULL, "measured time"},
    {"warmup", "TIME", DURATION, AT(warmup_ms), 0, 864e5, "0s", NULL, NULL, "time before it that is sent but not measured"},
    {"events", "N", COUNT64, AT(events), 1, 1e12, NULL, NULL, NULL, "end after so many, whole requests, even before the time is over"},
    {"loop", "N", COUNT32, AT(loop), 0, 1e9, "1", NULL, NULL, "times that a file is sent; 0: until the time is over"},
    {"batch", "N", COUNT32, AT(batch), 1, 100000, "1000", NULL, NULL, "events a request"},
    {"connections", "N", COUNT32, AT(connections), 1, 10000, "4", NULL, NULL, "requests under way at once, at most"},
    {"threads", "N", COUNT32, AT(threads), 1, 64, "1", NULL, NULL, "that share the connections"},
    {"format", "F", CHOICE, AT(format), 0, 0, "ndjson", formats, NULL, "ndjson, or json (arrays)"},
    {"compress", "C", CHOICE, AT(encoding), 0, 0, "off", encodings, NULL, "off, gzip, deflate or zstd"},
    {"timeout", "TIME", DURATION, AT(timeout_ms), 10, 36e5, "30s", NULL, NULL, "give up a request without an answer, and a server that cannot be reached"},
    {"seed", "N", SEED, AT(seed), 0, 0, NULL, NULL, "What", "of all that is random; left out: a new one, printed"},
    {"keys", "N", COUNT32, AT(keys), 1, MR_LOAD_KEYS_MAX, "1000", NULL, NULL, "different keys (zipf, uniform, hot)"},
    {"theta", "X", DECIMAL, AT(theta), 0, 10, "0.99", NULL, NULL, "skew (zipf)"},
    {"hot-share", "P", SHARE, AT(hot_share), 0, 1, "0.9", NULL, NULL, "of the one hot key (hot)"},
    {"dup-events", "P", SHARE, AT(dup_events), 0, 0.95, "0", NULL, NULL, "share of events that were sent before"},
    {"dup-delay", "N", COUNT64, AT(dup_delay), 1, 1e9, "10000", NULL, NULL, "how many events before, at most"},
    {"dup-requests", "P", SHARE, AT(dup_requests), 0, 0.95, "0", NULL, NULL, "share of requests that were sent before, byte for byte"},
    {"dup-beyond", "P", SHARE, AT(dup_beyond), 0, 0.5, "0", NULL, NULL, "share of events that were sent two horizons before and must be counted again; needs --rate and --horizon"},
    {"horizon", "TIME", DURATION, AT(horizon_ms), 1000, 36e5, NULL, NULL, NULL, "the server's dedup.horizon, for --dup-beyond"},
    {"disorder", "TIME", DURATION, AT(disorder_ms), 0, 36e5, "0s", NULL, NULL, "event times are so much older than the due time, at most"},
    {"disorder-shape", "S", CHOICE, AT(disorder), 0, 0, "uniform", disorders, NULL, "uniform, or exponential (mean: an eighth of it)"},
    {"late", "P", SHARE, AT(late), 0, 0.95, "0", NULL, NULL, "share of events a day late"},
    {"start", "TIME", TIME, AT(start_ms), 0, 0, NULL, NULL, NULL, "RFC 3339 or ms: event times count from here, so that runs repeat to the bit; left out: the clock's"},
    {"time-rate", "N", DECIMAL, AT(time_rate), 0.001, MR_LOAD_RATE_MAX, NULL, NULL, NULL, "with --start: events in a second of event time; left out: the rate, or 100000"},
    {"verify", NULL, FLAG, AT(verify), 0, 0, NULL, NULL, "Result", "compare every verdict count and every row of the rule with the truth"},
    {"verify-as", "SEED", SEED, AT(verify_as), 0, 0, NULL, NULL, NULL, "with the truth of another seed: must fail, which tests the verifier"},
    {"slo", "TERMS", TEXT, AT(slo), 0, 0, NULL, NULL, NULL, "such as 'p99<50ms,missed_duplicates==0'; exit code 3 when one does not hold"},
    {"json", NULL, FLAG, AT(json), 0, 0, NULL, NULL, NULL, "the result as one JSON object"},
    {"hdr", "FILE", TEXT, AT(hdr), 0, 0, NULL, NULL, NULL, "write the latencies in HdrHistogram's percentile format (.hgrm)"},
    {"live", NULL, FLAG, AT(live), 0, 0, NULL, NULL, NULL, "a line a second on stderr even where it is no terminal"},
    {"print-config", NULL, FLAG, AT(print_config), 0, 0, NULL, NULL, NULL, "print the server's configuration for this workload, and end"},
    {"print-ads", NULL, FLAG, AT(print_ads), 0, 0, NULL, NULL, NULL, "print the table of ads and campaigns that it looks up (yahoo), and end"},
    {"help", NULL, FLAG, AT(help), 0, 0, NULL, NULL, NULL, "this"},
    {"version", NULL, FLAG, AT(version), 0, 0, NULL, NULL, NULL, "the version"},
};
/* clang-format on */

enum { OPTIONS = sizeof table / sizeof table[0] };

static const struct option *find(struct mr_bytes name) {
    for (size_t i = 0; i < OPTIONS; i++) {
        if (mr_bytes_equal(name, mr_bytes_text(table[i].name))) {
            return &table[i];
        }
    }
    return NULL;
}

static const char *nearest_option(struct mr_bytes typed) {
    const char *best = NULL;
    uint32_t best_distance = UINT32_MAX;
    for (size_t i = 0; i < OPTIONS; i++) {
        uint32_t distance = mr_value_distance(typed, mr_bytes_text(table[i].name));
        if (distance < best_distance) {
            best = table[i].name;
            best_distance = distance;
        }
    }
    return mr_value_near(best_distance, typed) ? best : NULL;
}

static const char *nearest_choice(const struct choice *choices, struct mr_bytes typed) {
    const char *best = NULL;
    uint32_t best_distance = UINT32_MAX;
    for (; choices->text != NULL; choices++) {
        uint32_t distance = mr_value_distance(typed, mr_bytes_text(choices->text));
        if (distance < best_distance) {
            best = choices->text;
            best_distance = distance;
        }
    }
    return mr_value_near(best_distance, typed) ? best : NULL;
}

/* A number with k, M or G behind it (10k), or % (5% is 0.05). */
static bool read_number(const char *text, bool percent, double *ret) {
    char *end;
    errno = 0;
    if (*text == '\0' || strspn(text, "0123456789.") == 0) { /* no spaces, signs, nan and inf */
        return false;
    }
    double value = strtod(text, &end);
    double scale = *end == 'k' ? 1e3 : *end == 'M' ? 1e6 : *end == 'G' ? 1e9 : percent && *end == '%' ? 0.01 : 0;
    end += scale > 0;
    *ret = value * (scale > 0 ? scale : 1);
    return *end == '\0' && errno == 0 && isfinite(value);
}

static enum mr_status refuse(const struct option *o, const char *value, const char *expected,
                             struct mr_error *error) {
    return mr_error_set(error, MR_INVALID, "--%s `%s`: expected %s", o->name, value, expected);
}

static enum mr_status take_number(const struct option *o, const char *value, void *field,
                                  struct mr_error *error) {
    double number;
    if (o->kind == RATE && strcmp(value, "max") == 0) {
        *(double *)field = 0;
        return MR_OK;
    }
    bool read = read_number(value, o->kind == SHARE, &number);
    bool whole = o->kind == COUNT32 || o->kind == COUNT64;
    if (!read || number < o->min || number > o->max || (whole && floor(number) != number)) {
        char expected[96];
        (void)snprintf(expected, sizeof expected, "%s%s from %g to %g", o->kind == RATE ? "max, or " : "",
                       whole ? "a whole number" : o->kind == SHARE ? "a share" : "a number", o->min, o->max);
        return refuse(o, value, expected, error);
    }
    if (o->kind == COUNT32) {
        *(uint32_t *)field = (uint32_t)number;
    } else if (o->kind == COUNT64) {
        *(uint64_t *)field = (uint64_t)number;
    } else {
        *(double *)field = number;
    }
    return MR_OK;
}

static enum mr_status take_duration(const struct option *o, const char *value, void *field,
                                    struct mr_error *error) {
    int64_t ms;
    if (!mr_duration_parse(mr_bytes_text(value), &ms) || (double)ms < o->min || (double)ms > o->max) {
        char expected[96];
        (void)snprintf(expected, sizeof expected, "a duration such as 500ms, 10s or 5m, %g to %g s", o->min / 1000,
                       o->max / 1000);
        return refuse(o, value, expected, error);
    }
    *(int64_t *)field = ms;
    return MR_OK;
}

static enum mr_status take_time(const struct option *o, const char *value, int64_t *field,
                                struct mr_error *error) {
    uint64_t ms;
    int64_t parsed;
    if (mr_value_count(mr_bytes_text(value), &ms)) {
        parsed = ms > INT64_MAX ? INT64_MAX : (int64_t)ms;
    } else if (!mr_time_parse(mr_bytes_text(value), &parsed)) {
        return refuse(o, value, "RFC 3339, such as 2026-01-01T00:00:00Z, or milliseconds since 1970", error);
    }
    if (parsed < MR_TIME_MIN_MS + 2 * MR_LOAD_LATE_MS || parsed >= MR_TIME_MAX_MS) {
        return refuse(o, value, "a time between 2000 and 2100", error);
    }
    *field = parsed;
    return MR_OK;
}

static enum mr_status take_choice(const struct option *o, const char *value, int *field,
                                  struct mr_error *error) {
    for (const struct choice *c = o->choices; c->text != NULL; c++) {
        if (strcmp(c->text, value) == 0) {
            *field = c->value;
            return MR_OK;
        }
    }
    const char *near = nearest_choice(o->choices, mr_bytes_text(value));
    return mr_error_set(error, MR_INVALID, "--%s `%s`: expected %s%s%s%s", o->name, value, o->doc,
                        near != NULL ? "; did you mean `" : "", near != NULL ? near : "", near != NULL ? "`?" : "");
}

static enum mr_status take(const struct option *o, const char *value, struct mr_load_options *ret,
                           struct mr_error *error) {
    void *field = (char *)ret + o->offset;
    switch (o->kind) {
    case FLAG:
        *(bool *)field = true;
        return MR_OK;
    case TEXT:
        *(const char **)field = value;
        return *value != '\0' ? MR_OK : refuse(o, value, "something", error);
    case SEED:
        *(o->offset == AT(seed) ? &ret->has_seed : &ret->has_verify_as) = true;
        return mr_value_count(mr_bytes_text(value), field) ? MR_OK
                                                           : refuse(o, value, "a number below 2^64", error);
    case DURATION:
        return take_duration(o, value, field, error);
    case TIME:
        return take_time(o, value, field, error);
    case CHOICE:
        return take_choice(o, value, field, error);
    default:
        return take_number(o, value, field, error);
    }
}

static void set_defaults(struct mr_load_options *ret) {
    struct mr_error error;
    *ret = (struct mr_load_options){.workload = -1, .start_ms = INT64_MIN};
    for (size_t i = 0; i < OPTIONS; i++) {
        if (table[i].default_text != NULL) {
            enum mr_status status = take(&table[i], table[i].default_text, ret, &error);
            MR_ASSERT(status == MR_OK);
        }
    }
}

/* `--name value`, `--name=value` or `--flag` at argv[*i]. */
static enum mr_status take_argument(struct mr_load_options *ret, int argc, char **argv, int *i,
                                    struct mr_error *error) {
    const char *arg = argv[*i];
    if (strcmp(arg, "-h") == 0) {
        ret->help = true;
        return MR_OK;
    }
    const char *name = arg + (arg[1] == '-' ? 2 : 1);
    struct mr_bytes typed = mr_bytes_of(name, strcspn(name, "="));
    const struct option *o = arg[1] == '-' ? find(typed) : NULL;
    if (o == NULL) {
        const char *near = nearest_option(typed);
        return mr_error_set(error, MR_INVALID, "unknown option `%s`%s%s%s", arg,
                            near != NULL ? "; did you mean `--" : "", near != NULL ? near : "",
                            near != NULL ? "`?" : "");
    }
    const char *value = name[typed.len] == '=' ? name + typed.len + 1 : NULL;
    if (o->kind == FLAG) {
        return value == NULL ? take(o, NULL, ret, error) : refuse(o, value, "no value", error);
    }
    if (value == NULL && *i + 1 < argc) {
        value = argv[++*i];
    }
    return value == NULL ? mr_error_set(error, MR_INVALID, "--%s needs a value: %s", o->name, o->value)
                         : take(o, value, ret, error);
}

static enum mr_status take_operand(struct mr_load_options *ret, const char *operand,
                                   struct mr_error *error) {
    if (ret->workload == MR_LOAD_OF_FILE && ret->path == NULL) {
        ret->path = operand;
        return MR_OK;
    }
    if (ret->workload >= 0) {
        return mr_error_set(error, MR_INVALID, "unexpected argument `%s`", operand);
    }
    for (const struct choice *c = workloads; c->text != NULL; c++) {
        if (strcmp(c->text, operand) == 0) {
            ret->workload = c->value;
            return MR_OK;
        }
    }
    const char *near = nearest_choice(workloads, mr_bytes_text(operand));
    return mr_error_set(error, MR_INVALID,
                        "unknown workload `%s`; expected zipf, uniform, hot, yahoo, nexmark or file%s%s%s",
                        operand, near != NULL ? "; did you mean `" : "", near != NULL ? near : "",
                        near != NULL ? "`?" : "");
}

static enum mr_status check_beyond(const struct mr_load_options *o, struct mr_error *error) {
    if (o->dup_beyond <= 0) {
        return MR_OK;
    }
    if (o->rate <= 0 || o->horizon_ms == 0) {
        return mr_error_set(error, MR_INVALID,
                            "--dup-beyond: what is beyond the horizon is only certain with --rate N and --horizon TIME");
    }
    double half = o->rate * (double)o->horizon_ms / 2000; /* events in half a horizon */
    double requests = (MR_LOAD_REQUEST_DELAY + MR_LOAD_PROBES) * (double)o->batch;
    if ((o->dup_events > 0 && (double)o->dup_delay + MR_LOAD_PROBES > half) || (o->dup_requests > 0 && requests > half)) {
        return mr_error_set(error, MR_INVALID,
                            "--dup-beyond: other repeats may come up to %.0f events later, which is over half the horizon "
                            "(%.0f events): lower --dup-delay or --batch, or raise --horizon",
                            o->dup_requests > 0 && requests > (double)o->dup_delay ? requests : (double)o->dup_delay, half);
    }
    return MR_OK;
}

static enum mr_status check_all(const struct mr_load_options *o, struct mr_error *error) {
    if (o->workload < 0) {
        return mr_error_set(error, MR_INVALID, "which workload? zipf, uniform, hot, yahoo, nexmark or file PATH");
    }
    if (o->workload == MR_LOAD_OF_FILE) {
        if (o->path == NULL) {
            return mr_error_set(error, MR_INVALID, "file: which one? millrace-bench file PATH");
        }
        bool own = o->dup_events > 0 || o->dup_requests > 0 || o->dup_beyond > 0 || o->late > 0 ||
                   o->disorder_ms > 0 || o->start_ms != INT64_MIN || o->format != 0 || o->print_config;
        if (own) {
            return mr_error_set(error, MR_INVALID,
                                "file: its lines are sent as they are: no duplicates, disorder, lateness, start time, "
                                "format or configuration of ours");
        }
    }
    if (o->threads > o->connections) {
        return mr_error_set(error, MR_INVALID, "--threads %u: more than --connections %u", o->threads, o->connections);
    }
    if (o->workload == MR_LOAD_YAHOO_ADS && o->disorder_ms > 0) {
        return mr_error_set(error, MR_INVALID, "--disorder: yahoo has its own, -49 to +50 ms");
    }
    if (o->workload != MR_LOAD_YAHOO_ADS && o->print_ads) {
        return mr_error_set(error, MR_INVALID, "--print-ads: only yahoo has ads");
    }
    if (o->stream != NULL && !mr_value_name(mr_bytes_text(o->stream))) {
        return mr_error_set(error, MR_INVALID, "--stream `%s`: not a stream's name", o->stream);
    }
    if (o->rule != NULL && !mr_value_name(mr_bytes_text(o->rule))) {
        return mr_error_set(error, MR_INVALID, "--rule `%s`: not a rule's name", o->rule);
    }
    if (o->dup_events + o->dup_beyond > 0.95) {
        return mr_error_set(error, MR_INVALID, "--dup-events and --dup-beyond: together over 0.95");
    }
    return check_beyond(o, error);
}

enum mr_status mr_load_options_parse(struct mr_load_options *ret, int argc, char **argv,
                                     struct mr_error *error) {
    set_defaults(ret);
    enum mr_status status = MR_OK;
    for (int i = 1; i < argc && status == MR_OK && !ret->help; i++) {
        bool is_option = argv[i][0] == '-' && argv[i][1] != '\0';
        status = is_option ? take_argument(ret, argc, argv, &i, error) : take_operand(ret, argv[i], error);
    }
    return status != MR_OK || ret->help || ret->version ? status : check_all(ret, error);
}

void mr_load_options_help(struct mr_buf *ret) {
    mr_buf_append_text(
        ret,
        "millrace-bench sends events to a millrace server at the times they are due, measures how long\n"
        "the answers take from then, and can verify that the server counted every event once.\n"
        "\n"
        "usage:\n"
        "  millrace-bench zipf|uniform|hot [option…]  page views: keys zipfian, uniform, or one hot one\n"
        "  millrace-bench yahoo [option…]             ads, Yahoo Streaming Benchmark\n"
        "  millrace-bench nexmark [option…]           bids of Nexmark\n"
        "  millrace-bench file PATH [option…]         the lines of an NDJSON file, as they are\n");
    for (size_t i = 0; i < OPTIONS; i++) {
        const struct option *o = &table[i];
        if (o->section != NULL) {
            mr_buf_printf(ret, "\n%s\n", o->section);
        }
        int used = o->value != NULL ? (int)(strlen(o->name) + strlen(o->value)) + 3 : (int)strlen(o->name) + 2;
        mr_buf_printf(ret, "  --%s%s%s%*s %s", o->name, o->value != NULL ? " " : "", o->value != NULL ? o->value : "",
                      used < 22 ? 22 - used : 0, "", o->doc);
        if (o->default_text != NULL && strcmp(o->default_text, "0") != 0 && strcmp(o->default_text, "0s") != 0) {
            mr_buf_printf(ret, " (%s)", o->default_text);
        }
        mr_buf_append_char(ret, '\n');
    }
    mr_buf_append_text(ret, "\nexit codes: 0 fine, 1 failure (also of --verify), 2 usage, 3 an --slo term does not hold\n");
}

const char *mr_load_workload_name(int workload) {
    MR_ASSERT(workload >= 0 && workload <= MR_LOAD_OF_FILE);
    return workloads[workload].text;
}

static void json_value(const struct option *o, const void *field, struct mr_json *json) {
    switch (o->kind) {
    case FLAG:
        mr_json_bool(json, *(const bool *)field);
        return;
    case TEXT:
        mr_json_text(json, *(const char *const *)field);
        return;
    case COUNT32:
        mr_json_uint(json, *(const uint32_t *)field);
        return;
    case COUNT64:
    case SEED:
        mr_json_uint(json, *(const uint64_t *)field);
        return;
    case CHOICE:
        for (const struct choice *c = o->choices; c->text != NULL; c++) {
            if (c->value == *(const int *)field) {
                mr_json_text(json, c->text);
            }
        }
        return;
    case DURATION:
    case TIME:
        mr_json_int(json, *(const int64_t *)field);
        return;
    case RATE:
        if (*(const double *)field <= 0) {
            mr_json_text(json, "max");
            return;
        }
        break;
    default:
        break;
    }
    mr_json_double(json, *(const double *)field);
}

void mr_load_options_json(const struct mr_load_options *options, struct mr_json *json) {
    mr_json_object_begin(json);
    mr_json_key(json, "workload");
    mr_json_text(json, mr_load_workload_name(options->workload));
    if (options->path != NULL) {
        mr_json_key(json, "path");
        mr_json_text(json, options->path);
    }
    for (size_t i = 0; i < OPTIONS; i++) {
        const struct option *o = &table[i];
        const void *field = (const char *)options + o->offset;
        bool left_out = (o->kind == TEXT && *(const char *const *)field == NULL) ||
                        (o->kind == TIME && *(const int64_t *)field == INT64_MIN) ||
                        (o->offset == AT(verify_as) && !options->has_verify_as) ||
                        o->offset == AT(help) || o->offset == AT(version) || o->offset == AT(print_config) ||
                        o->offset == AT(print_ads);
        if (left_out) {
            continue;
        }
        char name[64];
        size_t len = strlen(o->name);
        for (size_t c = 0; c <= len; c++) {
            name[c] = o->name[c] == '-' ? '_' : o->name[c];
        }
        (void)snprintf(name + len, sizeof name - len, "%s", o->kind == DURATION || o->kind == TIME ? "_ms" : "");
        mr_json_key(json, name);
        json_value(o, field, json);
    }
    mr_json_object_end(json);
}
