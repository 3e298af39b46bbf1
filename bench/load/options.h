/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Options: the command line of millrace-bench, from one table: parsing, --help and --json come from it.
 *
 * Units       Names end in theirs. rate 0: max (a closed loop).
 * Owner       Texts point into argv.
 * Errors      MR_INVALID and a text that says what was expected, with a "did you mean" where a name is nearly right.
 */
#include "base/codec.h"
#include "base/json.h"
#include "bench/load/plan.h"

#define MR_LOAD_RATE_MAX  1e9
#define MR_LOAD_TIME_RATE 100000 /* events of one second of event time, where nothing else says it */

enum mr_load_workload {
    MR_LOAD_ZIPF,
    MR_LOAD_UNIFORM,
    MR_LOAD_HOT,
    MR_LOAD_YAHOO_ADS,
    MR_LOAD_NEXMARK,
    MR_LOAD_OF_FILE
};

struct mr_load_options {
    int workload; /* enum mr_load_workload */
    const char *path; /* of a file workload */
    const char *url;
    const char *token_file;
    const char *stream; /* NULL: the workload's */
    const char *rule;
    double rate;
    int64_t duration_ms;
    int64_t warmup_ms;
    uint64_t events; /* at most; 0: no bound */
    uint32_t loop;   /* passes over a file; 0: no bound */
    uint32_t connections;
    uint32_t threads;
    uint32_t batch;
    int format; /* 1: array */
    int encoding;
    bool has_seed;
    uint64_t seed;
    uint32_t keys;
    double theta;
    double hot_share;
    double dup_events;
    uint64_t dup_delay;
    double dup_requests;
    double dup_beyond;
    int64_t horizon_ms; /* 0: not given */
    int64_t disorder_ms;
    int disorder;
    double late;
    int64_t start_ms; /* INT64_MIN: live */
    double time_rate;
    int64_t timeout_ms;
    bool verify;
    bool has_verify_as;
    uint64_t verify_as;
    const char *slo;
    const char *hdr;
    bool json;
    bool live;
    bool print_config;
    bool print_ads;
    bool help;
    bool version;
};

enum mr_status mr_load_options_parse(struct mr_load_options *ret, int argc, char **argv,
                                     struct mr_error *error) MR_MUST_CHECK;
void mr_load_options_help(struct mr_buf *ret);
const char *mr_load_workload_name(int workload);
/* All that have a value, one member each. */
void mr_load_options_json(const struct mr_load_options *options, struct mr_json *json);
/* The plan that they ask for; the beyond copies' distance is in slots of it. */
struct mr_load_plan_options mr_load_options_plan(const struct mr_load_options *options);
/* The server's configuration that fits them, as YAML. */
void mr_load_options_config(const struct mr_load_options *options, struct mr_buf *ret);
/* The longest lateness of that configuration: an event this much older than the newest is not late yet. */
int64_t mr_load_options_lateness_ms(const struct mr_load_options *options);
