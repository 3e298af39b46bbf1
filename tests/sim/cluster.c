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
 * The command line: campaign.h.
 */
#include "base/check.h"
#include "tests/sim/campaign.h"
#include "tests/sim/cluster_check.h"
#include "tests/sim/cluster_life.h"

#include <inttypes.h>

static uint64_t run_seed(uint64_t seed, bool verbose, uint64_t *hits) {
    static struct cluster_world w;
    cluster_world_open(&w, seed);
    w.verbose = verbose;
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
    if (verbose) {
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

int main(int argc, char **argv) {
    static uint64_t hits[CLUSTER_PROBE_COUNT];
    const struct sim_campaign campaign = {
        .name = "cluster",
        .count = 60,
        .twice = 3,
        .seed_seconds = 60,
        .run_seed = run_seed,
        .probes = cluster_probe_rows,
        .probe_count = CLUSTER_PROBE_COUNT,
    };
    return sim_campaign_main(&campaign, hits, argc, argv);
}
