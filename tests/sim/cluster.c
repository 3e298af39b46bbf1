/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulation of a cluster: two or three nodes with the real stations on one thread, which share a virtual Redis.
 *
 *   1. A seed chooses the settings, the faults (swarm testing: some of them) and every step: a station of a node, a
 *      client, time, a fault. Invariants are looked at on the way (cluster_check.h).
 *   2. Then, without faults, everything must drain: every request is answered, every event decided.
 *   3. Time passes until all windows are closed. From the logs of all nodes: each id was counted once over all of them,
 *      each answer, row and number is what the log says.
 *      What a node counted alone, Redis being away, the others know by now.
 *   4. Each node dies once more: ledger and state are the same again, and 3 holds again. So it is when its whole log is
 *      replayed without checkpoint and results.
 *   5. The first seeds run twice: same seed, same trace.
 *
 * A fifth of the seeds each have a Redis that loses everything now and then, or that loses some (cluster_settings.h).
 *
 * usage: cluster [--count N] [--seed FIRST] [--verbose] [--probes [MIN]] [--bug NAME]
 *     as of sim.c.
 */
#include "base/bug.h"
#include "base/check.h"
#include "tests/sim/cluster_check.h"
#include "tests/sim/cluster_life.h"

#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TWICE = 3, SEED_SECONDS = 60 };

struct options {
    uint64_t count;
    uint64_t first;
    uint64_t probes_min;
    bool verbose;
    bool probes;
    const char *bug; /* NULL: none */
};

static uint64_t run_seed(uint64_t seed, const struct options *options, uint64_t hits[CLUSTER_PROBE_COUNT]) {
    static struct cluster_world w;
    cluster_world_open(&w, seed);
    w.verbose = options->verbose;
    if (w.verbose) {
        cluster_settings_print(&w.settings);
    }
    for (uint32_t n = 0; n < w.settings.steps; n++) {
        cluster_world_step(&w);
    }
    cluster_world_drain(&w);
    cluster_world_finish(&w);
    cluster_check_all(&w);
    uint32_t answers = cluster_check_ask_others(&w);
    cluster_world_drain(&w);
    cluster_check_others_know(&w, answers);
    for (uint32_t i = 0; i < w.settings.nodes; i++) {
        cluster_life_restart_quietly(&w.nodes[i]);
    }
    cluster_world_drain(&w);
    cluster_world_finish(&w);
    cluster_check_all(&w);
    for (uint32_t i = 0; i < w.settings.nodes; i++) {
        cluster_life_compare_twin(&w.nodes[i]);
    }
    uint64_t trace = w.trace;
    if (options->verbose) {
        (void)printf("seed %" PRIu64 ": trace %016" PRIx64 " crashes %u losses %u refusals %u answers %u time %" PRId64
                     " ms\n",
                     seed, trace, w.crashes, w.losses, w.refusals, w.answer_count,
                     w.clock.wall_ms - w.settings.begin_ms);
    }
    cluster_world_close(&w);
    for (uint32_t i = 0; i < CLUSTER_PROBE_COUNT; i++) {
        hits[i] += w.probes[i];
    }
    return trace;
}

static void parse(int argc, char **argv, struct options *ret) {
    *ret = (struct options){.count = 60, .first = 1, .probes_min = 60};
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
            (void)fprintf(stderr, "cluster: what is %s?\n", argv[i]);
            exit(2);
        }
    }
}

/* Ends the process at the first seed that fails; false: two runs of one differ. */
static bool run_seeds(const struct options *options, uint64_t hits[CLUSTER_PROBE_COUNT]) {
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
        (void)fprintf(stderr, "cluster: no bug is called %s\n", name);
        exit(2);
    }
    mr_bug_choose(bug);
#else
    (void)fprintf(stderr, "cluster: --bug %s: this build has no bugs (-Dbugs=true)\n", name);
    exit(2);
#endif
}

/* In a child, which a bug may end in any way; what it says is counted here. 0: found. */
static int hunt(const struct options *options) {
    int said[2];
    uint64_t hits[CLUSTER_PROBE_COUNT] = {0};
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
    uint64_t hits[CLUSTER_PROBE_COUNT] = {0};
    parse(argc, argv, &options);
    if (options.bug != NULL) {
        return hunt(&options);
    }
    if (!run_seeds(&options, hits)) {
        return 1;
    }
    uint32_t missed = options.probes ? cluster_probes_print(hits) : 0;
    return missed > 0 && options.count >= options.probes_min ? 1 : 0;
}
