/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Campaign: the command line of a simulation: seed after seed, the first ones twice, and which faults ever had their effect.
 *
 * usage: NAME [--count N] [--seed FIRST] [--verbose] [--probes [MIN]] [--bug NAME]
 *     --probes prints how often each fault had its effect; with at least MIN seeds (count), one that never had fails.
 *     --bug, in a build with bugs, makes a mistake on purpose (base/bug.h) and says how many seeds it took to find it.
 */
#include <stdbool.h>
#include <stdint.h>

struct sim_probe_row {
    const char *name;
    const char *text;
};

struct sim_campaign {
    const char *name;
    uint64_t count;         /* of seeds, unless told otherwise */
    uint64_t twice;         /* so many seeds run two times: same seed, same trace */
    unsigned seed_seconds;  /* a hunt for a bug: a seed that takes longer hangs */
    uint64_t (*run_seed)(uint64_t seed, bool verbose, uint64_t *hits); /* returns its trace; ends the process if it fails */
    const struct sim_probe_row *probes;
    uint32_t probe_count;
};

/* hits: of each probe, zeros. Returns the exit code. */
int sim_campaign_main(const struct sim_campaign *campaign, uint64_t *hits, int argc, char **argv);
