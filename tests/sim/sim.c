/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulation: the real stations on one thread, on a virtual disk that loses power, with clients that retry.
 *
 *   1. A seed chooses the settings, the faults (swarm testing: some of them) and every step: a station, a client, a
 *      question, time, a fault, a crash. Invariants are looked at on the way (invariants.h), answers compared with the
 *      model as of their cut.
 *   2. Then, without faults, everything must drain.
 *   3. What clients were told, the rows, the dead letters and the ledger equal a model computed from the log.
 *   4. The process dies once more: replay from the log gives the same state (hash), and 3 holds again.
 *   5. The first seeds run twice: same seed, same trace.
 *
 * usage: sim [--count N] [--seed FIRST] [--verbose] [--checkpoints] [--probes [MIN]] [--bug NAME]
 *     --probes prints how often each fault had its effect; with at least MIN seeds (200), one that never had fails.
 */
#include "base/bug.h"
#include "base/check.h"
#include "tests/sim/check.h"
#include "tests/sim/life.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TWICE = 5 };

/* What a pipeline that failed in the middle of something keeps when it is closed; in life the process ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:decode_record\nleak:mr_log_reader_open\nleak:answer_seen\n";
}

struct options {
    uint64_t count;
    uint64_t first;
    uint64_t probes_min;
    bool verbose;
    bool probes;
    bool checkpoints;
};

static void drain_and_check(struct sim_world *w) {
    sim_world_drain(w);
    sim_check_all(w);
}

static void crash_and_compare(struct sim_world *w) {
    sim_world_settle(w);
    uint64_t hash = mr_pipeline_state_hash_scan(w->pipeline);
    bool failed_record = sim_life_has_failed_record(w);
    struct sim_crash crash = {.power = w->settings.log_sync};
    sim_life_crash(w, &crash);
    sim_world_settle(w);
    if (!failed_record && mr_pipeline_state_hash_scan(w->pipeline) != hash) {
        SIM_FAILS("replay gives another state than the run");
    }
}

static uint64_t run_seed(uint64_t seed, const struct options *options, uint64_t hits[SIM_PROBE_COUNT]) {
    static struct sim_world w;
    sim_world_open(&w, seed, options->checkpoints);
    w.verbose = options->verbose;
    for (uint32_t n = 0; n < w.settings.steps; n++) {
        sim_world_step(&w, true);
    }
    drain_and_check(&w);
    crash_and_compare(&w);
    drain_and_check(&w);
    uint64_t trace = w.trace;
    if (options->verbose) {
        (void)printf("seed %" PRIu64 ": trace %016" PRIx64 " crashes %u restarts %u refusals %u answers %u\n",
                     seed, trace, w.crashes, w.restarts, w.refusals, w.answer_count);
    }
    sim_world_close(&w);
    for (uint32_t i = 0; i < SIM_PROBE_COUNT; i++) {
        hits[i] += w.probes[i];
    }
    return trace;
}

static void choose_bug(const char *name) {
#ifdef MR_BUGS_ON
    enum mr_bug bug = mr_bug_named(name);
    if (bug == MR_BUG_NONE) {
        (void)fprintf(stderr, "no bug is called %s\n", name);
        exit(2);
    }
    mr_bug_choose(bug);
#else
    (void)fprintf(stderr, "--bug %s: this build has no bugs (-Dbugs=true)\n", name);
    exit(2);
#endif
}

static void parse(int argc, char **argv, struct options *ret) {
    *ret = (struct options){.count = 200, .first = 1, .probes_min = 200};
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--count") == 0 && more) {
            ret->count = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0 && more) {
            ret->first = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--bug") == 0 && more) {
            choose_bug(argv[++i]);
        } else if (strcmp(argv[i], "--checkpoints") == 0) {
            ret->checkpoints = true;
        } else if (strcmp(argv[i], "--probes") == 0) {
            ret->probes = true;
            if (more && argv[i + 1][0] != '-') {
                ret->probes_min = strtoull(argv[++i], NULL, 10);
            }
        } else if (strcmp(argv[i], "--verbose") == 0) {
            ret->verbose = true;
        } else {
            (void)fprintf(stderr, "sim: what is %s?\n", argv[i]);
            exit(2);
        }
    }
}

int main(int argc, char **argv) {
    struct options options;
    uint64_t hits[SIM_PROBE_COUNT] = {0};
    parse(argc, argv, &options);
    uint64_t all = 0;
    for (uint64_t seed = options.first; seed < options.first + options.count; seed++) {
        (void)fprintf(stderr, "seed %" PRIu64 "\n", seed); /* the last one said is the one that failed */
        uint64_t trace = run_seed(seed, &options, hits);
        if (seed < options.first + TWICE && run_seed(seed, &options, hits) != trace) {
            (void)fprintf(stderr, "seed %" PRIu64 ": two runs, two traces\n", seed);
            return 1;
        }
        all = all * 31 + trace;
    }
    (void)printf("%" PRIu64 " seeds from %" PRIu64 ", trace %016" PRIx64 "\n", options.count, options.first,
                 all);
    uint32_t missed = options.probes ? sim_probes_print(hits, options.checkpoints) : 0;
    return missed > 0 && options.count >= options.probes_min ? 1 : 0;
}
