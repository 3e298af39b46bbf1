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
 * The command line: campaign.h.
 */
#include "base/check.h"
#include "tests/sim/campaign.h"
#include "tests/sim/check.h"
#include "tests/sim/life.h"
#include "tests/sim/twin.h"

#include <inttypes.h>
#include <stdio.h>

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

static uint64_t run_seed(uint64_t seed, bool verbose, uint64_t *hits) {
    static struct sim_world w;
    sim_world_open(&w, seed);
    w.verbose = verbose;
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
    if (verbose) {
        (void)printf("seed %" PRIu64 ": trace %016" PRIx64 " crashes %u restarts %u refusals %u answers %u\n",
                     seed, trace, w.crashes, w.restarts, w.refusals, w.answer_count);
    }
    sim_world_close(&w);
    for (uint32_t i = 0; i < SIM_PROBE_COUNT; i++) {
        hits[i] += w.probes[i];
    }
    return trace;
}

int main(int argc, char **argv) {
    static uint64_t hits[SIM_PROBE_COUNT];
    const struct sim_campaign campaign = {
        .name = "sim",
        .count = 200,
        .twice = 5,
        .seed_seconds = 30,
        .run_seed = run_seed,
        .probes = sim_probe_rows,
        .probe_count = SIM_PROBE_COUNT,
    };
    return sim_campaign_main(&campaign, hits, argc, argv);
}
