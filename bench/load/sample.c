/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sample: what the options mean for the plan of the run, and for the server: the configuration that fits them.
 */
#include "bench/load/events.h"
#include "bench/load/options.h"

#include "config/value.h"

enum { SLACK_MS = 5000, LATENESS_MS = 60000, HORIZONS_BACK = 2, YAHOO_BEHIND_MS = 60000 };

static enum mr_load_kind_of_event kind_of(const struct mr_load_options *o) {
    switch (o->workload) {
    case MR_LOAD_YAHOO_ADS:
        return MR_LOAD_YAHOO;
    case MR_LOAD_NEXMARK:
        return MR_LOAD_BIDS;
    case MR_LOAD_OF_FILE:
        return MR_LOAD_FILE;
    default:
        return MR_LOAD_PAGES;
    }
}

struct mr_load_plan_options mr_load_options_plan(const struct mr_load_options *o) {
    double time_rate = o->time_rate > 0 ? o->time_rate : o->rate > 0 ? o->rate : MR_LOAD_TIME_RATE;
    double beyond = o->rate * (double)o->horizon_ms / 1000 * HORIZONS_BACK;
    bool yahoo = o->workload == MR_LOAD_YAHOO_ADS;
    return (struct mr_load_plan_options){
        .seed = o->seed,
        .batch = o->batch,
        .repeat_events = o->dup_events,
        .repeat_requests = o->dup_requests,
        .repeat_beyond = o->dup_beyond,
        .late = o->late,
        .repeat_delay = o->dup_delay,
        .beyond_slots = beyond < 1 ? 1 : (uint64_t)beyond,
        /* A request beyond the first of each connection is sent when another was answered, which moved the watermark. */
        .late_from = (uint64_t)o->connections * o->batch,
        .disorder = yahoo ? MR_LOAD_DISORDER_YAHOO : (enum mr_load_disorder)o->disorder,
        .disorder_ms = o->disorder_ms,
        .timed = o->start_ms != INT64_MIN,
        .start_ms = o->start_ms,
        .ms_per_event = 1000 / time_rate,
    };
}

int64_t mr_load_options_lateness_ms(const struct mr_load_options *o) {
    int64_t behind_ms = o->workload == MR_LOAD_YAHOO_ADS ? YAHOO_BEHIND_MS : 0;
    return LATENESS_MS + behind_ms + (o->dup_beyond > 0 ? (HORIZONS_BACK + 1) * o->horizon_ms : 0);
}

static const char *or_nothing(const char *text) {
    return text != NULL ? text : "";
}

void mr_load_options_config(const struct mr_load_options *o, struct mr_buf *ret) {
    const struct mr_load_names *names = mr_load_names_of(kind_of(o));
    const char *stream = o->stream != NULL ? o->stream : names->stream;
    mr_buf_printf(ret,
                  "# For millrace-bench %s: exact dedup, one rule in windows of 10 s.\n"
                  "node: { data_dir: ./millrace-bench-data }\n"
                  "http: { listen: 127.0.0.1:8080 }\n"
                  "%s"
                  "streams:\n"
                  "  %s:\n"
                  "    id: %s\n"
                  "    time: %s\n"
                  "%s"
                  "    dedup: { mode: exact, horizon: ",
                  mr_load_workload_name(o->workload), or_nothing(names->lookups), stream, names->id, names->time,
                  or_nothing(names->derive));
    mr_value_show_duration(o->horizon_ms > 0 ? o->horizon_ms : 86400000, ret);
    mr_buf_append_text(ret, ", ids: 20000000 }\n    watermark: { out_of_orderness: ");
    mr_value_show_duration(o->disorder_ms + SLACK_MS, ret);
    mr_buf_printf(ret,
                  ", idle_timeout: off }\n"
                  "rules:\n"
                  "  %s:\n"
                  "    from: %s\n"
                  "%s%s%s"
                  "    group_by: %s\n"
                  "    window: { type: tumbling, size: 10s }\n"
                  "    allowed_lateness: ",
                  o->rule != NULL ? o->rule : names->rule, stream, names->where != NULL ? "    where: " : "",
                  or_nothing(names->where), names->where != NULL ? "\n" : "", names->group_by);
    mr_value_show_duration(mr_load_options_lateness_ms(o), ret);
    mr_buf_printf(ret, "\n    metrics:\n      %s: count\n", names->count);
    if (names->second != NULL) {
        mr_buf_printf(ret, "      %s: %s\n", names->second, names->second_yaml);
    }
}
