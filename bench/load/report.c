/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/report.h"

#include "base/json.h"

#include <math.h>
#include <stdio.h>

enum { SHOWN = 64 };

static const char *const quantiles[] = {"p50", "p90", "p99", "p99.9", "max"};
static const char *const service_quantiles[] = {"service_p50", "service_p99", "service_max"};

struct shown {
    char text[SHOWN];
};

static struct shown show(double value, enum mr_load_unit unit) {
    struct shown shown;
    mr_load_show(value, unit, shown.text, sizeof shown.text);
    return shown;
}

static struct shown show_name(const struct mr_load_result *result, const char *name) {
    double value = NAN;
    enum mr_load_unit unit = MR_LOAD_NS;
    (void)mr_load_result_value(result, mr_bytes_text(name), &value, &unit); /* names of this file */
    return show(value, unit);
}

static struct shown share_of(double part, double all) {
    struct shown shown;
    (void)snprintf(shown.text, sizeof shown.text, "%.2f %%", all > 0 ? part / all * 100 : 0);
    return shown;
}

void mr_load_report_header(const struct mr_load_report *report, struct mr_buf *ret) {
    const struct mr_load_options *o = report->options;
    mr_buf_printf(ret, "millrace-bench %s → http://%s, stream %s (millrace %s)\n", mr_load_workload_name(o->workload),
                  report->target->host, report->stream, report->version);
    if (o->rate > 0) {
        mr_buf_printf(ret, "%s events/s, open loop", show(o->rate, MR_LOAD_PER_SECOND).text);
    } else {
        mr_buf_append_text(ret, "as fast as it goes, closed loop");
    }
    mr_buf_printf(ret, "; %u events a request, %u connections, %u thread%s, seed %llu\n", o->batch, o->connections,
                  o->threads, o->threads == 1 ? "" : "s", (unsigned long long)o->seed);
}

/* The difference of two states of a histogram; its max is the later one's. */
static void subtract(const struct mr_histogram *now, const struct mr_histogram *last, struct mr_histogram *ret) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < MR_HISTOGRAM_BUCKETS; i++) {
        uint64_t n = mr_load_read(&now->counts[i]) - mr_load_read(&last->counts[i]);
        mr_load_count(&ret->counts[i], n);
        count += n;
    }
    mr_load_count(&ret->count, count);
    mr_load_count(&ret->max, mr_histogram_max(now));
}

void mr_load_report_second(double at_s, double seconds, bool warmup, const struct mr_load_tally *now,
                           struct mr_load_tally *last, struct mr_buf *ret) {
    struct mr_histogram latency = {.count = 0};
#define SINCE(name) ((double)(mr_load_read(&now->name) - mr_load_read(&last->name)))
    subtract(&now->latency, &last->latency, &latency);
    double events = SINCE(events);
    mr_buf_printf(ret, "%4.0f s  %10s events/s  %6.1f MB/s  p50 %9s  p99 %9s  duplicate %6s", at_s,
                  show(events / seconds, MR_LOAD_PER_SECOND).text, SINCE(bytes) / seconds / 1e6,
                  show((double)mr_histogram_quantile(&latency, 0.5), MR_LOAD_NS).text,
                  show((double)mr_histogram_quantile(&latency, 0.99), MR_LOAD_NS).text,
                  share_of(SINCE(duplicate), events).text);
    if (SINCE(retried) > 0) {
        mr_buf_printf(ret, "  retried %.0f", SINCE(retried));
    }
    if (SINCE(resent) > 0) {
        mr_buf_printf(ret, "  resent %.0f", SINCE(resent));
    }
    if (SINCE(missed_slots) > 0) {
        mr_buf_printf(ret, "  missed slots %.0f", SINCE(missed_slots));
    }
#undef SINCE
    mr_buf_append_text(ret, warmup ? "  (warm-up)\n" : "\n");
    memcpy(last, now, sizeof *last);
}

static void table_counts(const struct mr_load_result *r, struct mr_buf *ret) {
    const struct {
        const char *name;
        double value;
        bool always;
    } rows[] = {
        {"accepted", r->accepted, true},   {"duplicate", r->duplicate, true}, {"late", r->late, true},
        {"rejected", r->rejected, true},   {"pending", r->pending, false},
    };
    mr_buf_printf(ret, "  %-18s %16s\n", "events", show(r->events, MR_LOAD_COUNT).text);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].always || rows[i].value > 0) {
            mr_buf_printf(ret, "    %-16s %16s  %9s\n", rows[i].name, show(rows[i].value, MR_LOAD_COUNT).text,
                          share_of(rows[i].value, r->events).text);
        }
    }
    const struct {
        const char *name;
        double value;
    } troubles[] = {
        {"missed duplicates", r->missed_duplicates}, {"false duplicates", r->false_duplicates},
        {"retried (503)", r->retried},               {"resent", r->resent},
        {"missed slots", r->missed_slots},           {"never sent", r->unsent},
    };
    for (size_t i = 0; i < sizeof troubles / sizeof troubles[0]; i++) {
        if (troubles[i].value > 0) {
            mr_buf_printf(ret, "  %-18s %16s\n", troubles[i].name, show(troubles[i].value, MR_LOAD_COUNT).text);
        }
    }
}

static void table_times(const struct mr_load_report *report, struct mr_buf *ret) {
    bool open = report->options->rate > 0;
    mr_buf_printf(ret, "\n  %s\n   ", open ? "latency, from when a request was due to its answer"
                                           : "latency, from sending to the answer (closed loop: the server sets the pace)");
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        mr_buf_printf(ret, " %s %s  ", quantiles[i], show_name(report->result, quantiles[i]).text);
    }
    if (open) {
        mr_buf_append_text(ret, "\n  service time, from sending to the answer\n   ");
        for (size_t i = 0; i < sizeof service_quantiles / sizeof service_quantiles[0]; i++) {
            mr_buf_printf(ret, " %s %s  ", service_quantiles[i] + strlen("service_"),
                          show_name(report->result, service_quantiles[i]).text);
        }
    }
    mr_buf_append_char(ret, '\n');
}

static void table_verdict(const struct mr_load_report *report, struct mr_buf *ret) {
    const struct mr_load_verify *v = report->verify;
    char rows[32];
    if (v != NULL && v->mismatches == 0) {
        mr_load_show_count(v->rows, rows);
        if (v->plan != NULL) {
            mr_buf_printf(ret, "\n  verified: every verdict count and all %s rows of rule %s are right\n", rows, v->rule);
        } else {
            mr_buf_append_text(ret, "\n  verified: the server's counters agree with its answers\n");
        }
    } else if (v != NULL) {
        mr_buf_printf(ret, "\n  NOT VERIFIED: %s differences\n", show((double)v->mismatches, MR_LOAD_COUNT).text);
        mr_buf_append_bytes(ret, mr_buf_bytes(&v->text));
    }
    for (uint32_t i = 0; report->slo != NULL && i < report->slo->count; i++) {
        const struct mr_load_term *term = &report->slo->terms[i];
        double value;
        bool holds = mr_load_slo_holds(term, report->result, &value);
        mr_buf_printf(ret, "%s  %s  %-24.*s %s\n", i == 0 ? "\n" : "", holds ? "holds " : "BROKEN", (int)term->text.len,
                      (const char *)term->text.ptr, show(value, term->unit).text);
    }
    if (report->interrupted) {
        mr_buf_append_text(ret, "\n  ended early by a signal\n");
    }
    if (report->failure != NULL) {
        mr_buf_printf(ret, "\n  FAILED: %s\n", report->failure);
    }
}

void mr_load_report_table(const struct mr_load_report *report, struct mr_buf *ret) {
    const struct mr_load_result *r = report->result;
    mr_buf_printf(ret, "\n  %-18s %16s events/s  %.1f MB/s  for %.1f s\n", "answered", show(r->rate, MR_LOAD_PER_SECOND).text,
                  r->bytes_per_second / 1e6, r->seconds);
    table_counts(r, ret);
    table_times(report, ret);
    mr_buf_printf(ret, "\n  CPU for a million events: server %s, this generator %s; server memory %s\n",
                  show(r->server_cpu, MR_LOAD_CPU).text, show(r->generator_cpu, MR_LOAD_CPU).text,
                  show(r->server_rss, MR_LOAD_BYTES).text);
    table_verdict(report, ret);
}

static void json_times(const struct mr_histogram *h, struct mr_json *json) {
    static const struct {
        const char *name;
        double share;
    } shares[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99_9", 0.999}, {"p99_99", 0.9999}};
    uint64_t count = mr_histogram_count(h);
    mr_json_object_begin(json);
    mr_json_key(json, "count");
    mr_json_uint(json, count);
    mr_json_key(json, "mean");
    mr_json_double(json, count == 0 ? 0 : (double)mr_histogram_sum(h) / (double)count / 1e6);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        mr_json_key(json, shares[i].name);
        mr_json_double(json, (double)mr_histogram_quantile(h, shares[i].share) / 1e6);
    }
    mr_json_key(json, "max");
    mr_json_double(json, (double)mr_histogram_max(h) / 1e6);
    mr_json_object_end(json);
}

static void json_value(const char *name, double value, enum mr_load_unit unit, struct mr_json *json) {
    mr_json_key(json, name);
    if (unit == MR_LOAD_COUNT && !isnan(value)) {
        mr_json_uint(json, (uint64_t)value);
    } else {
        mr_json_double(json, value); /* null when not measured */
    }
}

static void json_slo(const struct mr_load_report *report, struct mr_json *json) {
    mr_json_key(json, "slo");
    mr_json_array_begin(json);
    for (uint32_t i = 0; i < report->slo->count; i++) {
        const struct mr_load_term *term = &report->slo->terms[i];
        double value;
        bool holds = mr_load_slo_holds(term, report->result, &value);
        mr_json_object_begin(json);
        mr_json_key(json, "term");
        mr_json_string(json, term->text);
        mr_json_key(json, "value");
        mr_json_double(json, term->unit == MR_LOAD_NS ? value / 1e6 : value);
        mr_json_key(json, "holds");
        mr_json_bool(json, holds);
        mr_json_object_end(json);
    }
    mr_json_array_end(json);
}

void mr_load_report_json(const struct mr_load_report *report, struct mr_buf *ret) {
    struct mr_json json;
    mr_json_init(&json, ret);
    mr_json_object_begin(&json);
    mr_json_key(&json, "version");
    mr_json_text(&json, MR_VERSION);
    mr_json_key(&json, "server");
    mr_json_text(&json, report->version);
    mr_json_key(&json, "open_loop");
    mr_json_bool(&json, report->options->rate > 0);
    mr_json_key(&json, "options");
    mr_load_options_json(report->options, &json);
#define X(name, unit, what) json_value(#name, report->result->name, MR_LOAD_##unit, &json);
    MR_LOAD_VALUES(X)
#undef X
    mr_json_key(&json, "latency_ms");
    json_times(&report->result->measured->latency, &json);
    mr_json_key(&json, "service_ms");
    json_times(&report->result->measured->service, &json);
    if (report->verify != NULL) {
        mr_json_key(&json, "verified");
        mr_json_bool(&json, report->verify->mismatches == 0);
        mr_json_key(&json, "verified_rows");
        mr_json_uint(&json, report->verify->rows);
    }
    if (report->slo != NULL) {
        json_slo(report, &json);
    }
    if (report->failure != NULL) {
        mr_json_key(&json, "failure");
        mr_json_text(&json, report->failure);
    }
    mr_json_object_end(&json);
    mr_buf_append_char(ret, '\n');
}
