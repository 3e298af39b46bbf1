/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Verify: whether the server counted every event once: its verdicts and the rows of one rule against the truth.
 *
 * Idea        What the server had before the run is added to the truth, so that earlier runs on the same server do no
 *             harm. Rows are asked for with from=<before the first event>, in all states, page by page.
 * Checks      The stream's counters: accepted and late exactly as the truth has them. The answers: the same numbers; but
 *             events of requests that were sent twice for a lost answer may have become duplicates of themselves.
 *             Every (window, group): count, and sum or greatest, exactly; none missing, none too many.
 * Owner       The caller owns the struct: init, begin before the run, end after it, finish.
 * Errors      Of asking: a status. What does not match is no error: mismatches, and lines of text about the first ones.
 */
#include "bench/load/options.h"
#include "bench/load/target.h"
#include "bench/load/truth.h"

struct mr_load_counters {
    uint64_t received;
    uint64_t accepted;
    uint64_t duplicate;
    uint64_t late;
    uint64_t rejected;
};

/* What the generator knows of the run. */
struct mr_load_sent {
    struct mr_load_counters answered; /* sums of the answers */
    uint64_t slots;
    uint64_t uncertain; /* events whose first sending may have counted although another was answered */
    int64_t behind_ms;
};

struct mr_load_verify {
    const struct mr_load_options *options;
    const struct mr_load_target *target;
    const struct mr_load_names *names;
    const char *stream;
    const char *rule;
    const struct mr_load_plan *plan; /* NULL: only counters are compared */
    const struct mr_load_events *events;
    int64_t from_ms;
    struct mr_load_counters before;
    struct mr_load_table expected;
    struct mr_buf in;
    struct mr_buf chunks;
    /* After end. */
    uint64_t rows;
    uint64_t mismatches;
    struct mr_buf text; /* a line for each of the first few */
};

void mr_load_verify_init(struct mr_load_verify *verify, const struct mr_load_options *options,
                         const struct mr_load_target *target, const struct mr_load_plan *plan,
                         const struct mr_load_events *events, const struct mr_load_names *names);
void mr_load_verify_finish(struct mr_load_verify *verify);
enum mr_status mr_load_verify_begin(struct mr_load_verify *verify, struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_load_verify_end(struct mr_load_verify *verify, const struct mr_load_sent *sent,
                                  struct mr_error *error) MR_MUST_CHECK;

/* For tests: one row of an ndjson answer. false: not as it should be, and *ret_problem says what. */
bool mr_load_verify_row(const struct mr_load_verify *verify, struct mr_bytes line,
                        struct mr_load_row *ret, const char **ret_problem);
