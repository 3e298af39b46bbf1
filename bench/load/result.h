/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Result: the numbers of a run, by name: the table, the JSON object and --slo read the same ones.
 *
 * Units       In the name or beside it. Counts are of the whole run, warm-up included; rates, latencies and CPU of the
 *             measured part. A value of NAN was not measured.
 * Owner       The struct owns the histograms.
 */
#include "bench/load/run.h"

/* X(name, unit, what it is) */
#define MR_LOAD_VALUES(X)                                                                          \
    X(rate, PER_SECOND, "events answered in a second")                                             \
    X(bytes_per_second, PER_SECOND, "bytes of requests in a second")                               \
    X(seconds, PLAIN, "measured")                                                                  \
    X(requests, COUNT, "requests answered")                                                        \
    X(events, COUNT, "events in them")                                                             \
    X(accepted, COUNT, "verdicts of the server")                                                   \
    X(duplicate, COUNT, "verdicts of the server")                                                  \
    X(late, COUNT, "verdicts of the server")                                                       \
    X(rejected, COUNT, "verdicts of the server")                                                   \
    X(pending, COUNT, "events not decided when they were answered")                                \
    X(missed_duplicates, COUNT, "events accepted beyond those that were new")                      \
    X(false_duplicates, COUNT, "new events that were not accepted")                                \
    X(retried, COUNT, "answers 503 or 429, sent again until taken")                                \
    X(resent, COUNT, "requests sent again after a lost connection")                                \
    X(missed_slots, COUNT, "requests sent an interval late or more")                               \
    X(unsent, COUNT, "requests due in time that were never sent")                                  \
    X(mismatches, COUNT, "differences that --verify found")                                        \
    X(server_cpu, CPU, "CPU seconds of the server for a million events")                           \
    X(generator_cpu, CPU, "CPU seconds of this program for a million events")                      \
    X(server_rss, BYTES, "resident memory of the server at the end")

enum mr_load_unit { MR_LOAD_PER_SECOND, MR_LOAD_PLAIN, MR_LOAD_COUNT, MR_LOAD_CPU, MR_LOAD_BYTES, MR_LOAD_NS };

struct mr_load_result {
#define X(name, unit, what) double name;
    MR_LOAD_VALUES(X)
#undef X
    struct mr_load_tally *measured;
    struct mr_load_tally *total;
};

/* The value of a name: one above, or p50, p99.9, max, mean, service_p99, service_max (ns). false: none of that name. */
bool mr_load_result_value(const struct mr_load_result *result, struct mr_bytes name, double *ret,
                          enum mr_load_unit *ret_unit);
/* The name most like it, or NULL. */
const char *mr_load_result_suggest(struct mr_bytes typed);

/* Allocates the histograms; all values NAN. */
enum mr_status mr_load_result_open(struct mr_load_result *result) MR_MUST_CHECK;
void mr_load_result_close(struct mr_load_result *result);
/* From a run that is over: all but mismatches, CPU and memory. */
void mr_load_result_take(struct mr_load_result *result, const struct mr_load_run *run);
