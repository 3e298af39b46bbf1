/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/campaign.h"

#include "base/bug.h"

#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct options {
    uint64_t count;
    uint64_t first;
    uint64_t probes_min;
    bool verbose;
    bool probes;
    const char *bug; /* NULL: none */
};

static void parse(const struct sim_campaign *c, int argc, char **argv, struct options *ret) {
    *ret = (struct options){.count = c->count, .first = 1, .probes_min = c->count};
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
            (void)fprintf(stderr, "%s: what is %s?\n", c->name, argv[i]);
            exit(2);
        }
    }
}

/* Ends the process at the first seed that fails; false: two runs of one differ. */
static bool run_seeds(const struct sim_campaign *c, const struct options *options, uint64_t *hits) {
    uint64_t all = 0;
    for (uint64_t seed = options->first; seed < options->first + options->count; seed++) {
        (void)fprintf(stderr, "seed %" PRIu64 "\n", seed); /* the last one said is the one that failed */
        (void)alarm(options->bug == NULL ? 0 : c->seed_seconds);
        uint64_t trace = c->run_seed(seed, options->verbose, hits);
        if (seed < options->first + c->twice && c->run_seed(seed, options->verbose, hits) != trace) {
            (void)fprintf(stderr, "seed %" PRIu64 ": two runs, two traces\n", seed);
            return false;
        }
        all = all * 31 + trace;
    }
    (void)printf("%" PRIu64 " seeds from %" PRIu64 ", trace %016" PRIx64 "\n", options->count, options->first,
                 all);
    return true;
}

static void choose_bug(const struct sim_campaign *c, const char *name) {
#ifdef MR_BUGS_ON
    enum mr_bug bug = mr_bug_named(name);
    if (bug == MR_BUG_NONE) {
        (void)fprintf(stderr, "%s: no bug is called %s\n", c->name, name);
        exit(2);
    }
    mr_bug_choose(bug);
#else
    (void)fprintf(stderr, "%s: --bug %s: this build has no bugs (-Dbugs=true)\n", c->name, name);
    exit(2);
#endif
}

/* In a child, which a bug may end in any way; what it says is counted here. 0: found. */
static int hunt(const struct sim_campaign *c, const struct options *options, uint64_t *hits) {
    int said[2];
    choose_bug(c, options->bug);
    if (pipe(said) != 0) {
        return 2;
    }
    pid_t child = fork();
    if (child == 0) {
        (void)dup2(said[1], STDERR_FILENO);
        (void)close(said[0]);
        (void)close(said[1]);
        exit(run_seeds(c, options, hits) ? 0 : 1);
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

static uint32_t print_probes(const struct sim_campaign *c, const uint64_t *hits) {
    uint32_t missed = 0;
    for (uint32_t i = 0; i < c->probe_count; i++) {
        (void)printf("%10" PRIu64 "  %-23s %s%s\n", hits[i], c->probes[i].name, c->probes[i].text,
                     hits[i] == 0 ? "  <- never" : "");
        missed += hits[i] == 0;
    }
    return missed;
}

int sim_campaign_main(const struct sim_campaign *c, uint64_t *hits, int argc, char **argv) {
    struct options options;
    parse(c, argc, argv, &options);
    if (options.bug != NULL) {
        return hunt(c, &options, hits);
    }
    if (!run_seeds(c, &options, hits)) {
        return 1;
    }
    uint32_t missed = options.probes ? print_probes(c, hits) : 0;
    return missed > 0 && options.count >= options.probes_min ? 1 : 0;
}
