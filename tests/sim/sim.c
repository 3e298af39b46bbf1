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
 *   5. So does, on a copy of the disk, a start from the checkpoint before, from zero, with other shards (twin.h).
 *   6. The first seeds run twice: same seed, same trace.
 *
 * usage: sim [--count N] [--seed FIRST] [--verbose] [--probes [MIN]] [--bug NAME]
 *     --probes prints how often each fault had its effect; with at least MIN seeds (200), one that never had fails.
 *     --bug, in a build with bugs, makes a mistake on purpose (base/bug.h) and says how many seeds it took to find it.
 */
#include "base/bug.h"
#include "base/check.h"
#include "tests/sim/check.h"
#include "tests/sim/life.h"
#include "tests/sim/twin.h"

#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TWICE = 5, SEED_SECONDS = 30 };

struct options {
    uint64_t count;
    uint64_t first;
    uint64_t probes_min;
    bool verbose;
    bool probes;
    const char *bug; /* NULL: none */
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
    /* Groups divided anew are in another order; a checkpoint from before a replay from zero may be there again. */
    if (!failed_record && !w->moved && mr_pipeline_state_hash_scan(w->pipeline) != hash) {
        SIM_FAILS("replay gives another state than the run");
    }
}

/* What a start would give, from wherever it may begin. */
static void compare_twins(struct sim_world *w) {
    if (sim_life_has_failed_record(w)) {
        return;
    }
    sim_twin_compare(w, SIM_TWIN_OLDER);
    sim_twin_compare(w, SIM_TWIN_ZERO);
    if (sim_one_in(&w->random, 3) && sim_settings_may_move(&w->settings)) {
        sim_twin_compare(w, SIM_TWIN_SHARDS);
    }
}

static uint64_t run_seed(uint64_t seed, const struct options *options, uint64_t hits[SIM_PROBE_COUNT]) {
    static struct sim_world w;
    sim_world_open(&w, seed);
    w.verbose = options->verbose;
    if (w.verbose) {
        sim_settings_print(&w.settings);
    }
    uint64_t look_at = sim_below(&w.random, 3 * (uint64_t)w.settings.steps);
    for (uint32_t n = 0; n < w.settings.steps; n++) {
        sim_world_step(&w, true);
        if (n == look_at) {
            sim_twin_look(&w);
        }
    }
    drain_and_check(&w);
    crash_and_compare(&w);
    drain_and_check(&w);
    compare_twins(&w);
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

static void parse(int argc, char **argv, struct options *ret) {
    *ret = (struct options){.count = 200, .first = 1, .probes_min = 200};
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--count") == 0 && more) {
            ret->count = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0 && more) {
            ret->first = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--bug") == 0 && more) {
            ret->bug = argv[++i];
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

/* Ends the process at the first seed that fails; false: two runs of one differ. */
static bool run_seeds(const struct options *options, uint64_t hits[SIM_PROBE_COUNT]) {
    uint64_t all = 0;
    for (uint64_t seed = options->first; seed < options->first + options->count; seed++) {
        (void)fprintf(stderr, "seed %" PRIu64 "\n", seed); /* the last one said is the one that failed */
        (void)alarm(options->bug == NULL ? 0 : SEED_SECONDS);
        uint64_t trace = run_seed(seed, options, hits);
        if (seed < options->first + TWICE && run_seed(seed, options, hits) != trace) {
            (void)fprintf(stderr, "seed %" PRIu64 ": two runs, two traces\n", seed);
            return false;
        }
        all = all * 31 + trace;
    }
    (void)printf("%" PRIu64 " seeds from %" PRIu64 ", trace %016" PRIx64 "\n", options->count, options->first,
                 all);
    return true;
}

static void choose_bug(const char *name) {
#ifdef MR_BUGS_ON
    enum mr_bug bug = mr_bug_named(name);
    if (bug == MR_BUG_NONE) {
        (void)fprintf(stderr, "sim: no bug is called %s\n", name);
        exit(2);
    }
    mr_bug_choose(bug);
#else
    (void)fprintf(stderr, "sim: --bug %s: this build has no bugs (-Dbugs=true)\n", name);
    exit(2);
#endif
}

/* In a child, which a bug may end in any way; what it says is counted here. 0: found. */
static int hunt(const struct options *options) {
    int said[2];
    uint64_t hits[SIM_PROBE_COUNT] = {0};
    choose_bug(options->bug);
    if (pipe(said) != 0) {
        return 2;
    }
    pid_t child = fork();
    if (child == 0) {
        (void)dup2(said[1], STDERR_FILENO);
        (void)close(said[0]);
        (void)close(said[1]);
        exit(run_seeds(options, hits) ? 0 : 1);
    }
    (void)close(said[1]);
    FILE *from = fdopen(said[0], "r");
    char line[LINE_MAX];
    char last[LINE_MAX] = "";
    uint64_t seeds = 0;
    while (from != NULL && fgets(line, sizeof line, from) != NULL) {
        bool seed = strncmp(line, "seed ", 5) == 0 && strchr(line, ':') == NULL;
        seeds += seed;
        if (!seed && last[0] == 0) {
            memcpy(last, line, sizeof last);
        }
    }
    int status = 0;
    if (from == NULL || child < 0 || waitpid(child, &status, 0) != child) {
        return 2;
    }
    (void)fclose(from);
    if (status == 0) {
        (void)printf("%s: not found in %" PRIu64 " seeds\n", options->bug, seeds);
        return 1;
    }
    bool hung = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    (void)printf("%s: found by seed %" PRIu64 ", after %" PRIu64 " seeds: %s", options->bug,
                 options->first + seeds - 1, seeds, hung ? "it hangs\n" : last[0] == 0 ? "it ends\n" : last);
    return 0;
}

int main(int argc, char **argv) {
    struct options options;
    uint64_t hits[SIM_PROBE_COUNT] = {0};
    parse(argc, argv, &options);
    if (options.bug != NULL) {
        return hunt(&options);
    }
    if (!run_seeds(&options, hits)) {
        return 1;
    }
    uint32_t missed = options.probes ? sim_probes_print(hits) : 0;
    return missed > 0 && options.count >= options.probes_min ? 1 : 0;
}
