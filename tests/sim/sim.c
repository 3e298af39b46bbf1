/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulation: the real stations on one thread, on a virtual disk that loses power, with clients that retry.
 *
 *   1. A seed chooses the settings and every step: a station, a client, time, a fault, a crash.
 *   2. Then, without faults, everything must drain.
 *   3. What clients were told, the rows, the dead letters and the ledger equal a model computed from the log.
 *   4. Power is lost once more: replay from the log gives the same state (hash), and 3 holds again.
 *   5. The first seeds run twice: same seed, same trace.
 *
 * usage: sim [--count N] [--seed FIRST] [--verbose]
 */
#include "base/check.h"
#include "tests/sim/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 6000, TWICE = 5 };

static void check_all(struct sim_world *w) {
    sim_world_drain(w);
    sim_model_check(w);
}

static uint64_t run_seed(uint64_t seed, bool verbose) {
    static struct sim_world w;
    sim_world_open(&w, seed);
    for (uint32_t n = 0; n < STEPS; n++) {
        sim_world_step(&w, true);
    }
    check_all(&w);
    sim_world_settle(&w); /* asking let time pass: a tick may still be on its way */
    uint64_t hash = mr_pipeline_state_hash_scan(w.pipeline);
    bool equal = !sim_world_has_unacknowledged_record(&w);
    sim_world_crash(&w, true);
    sim_world_settle(&w);
    if (equal && mr_pipeline_state_hash_scan(w.pipeline) != hash) {
        (void)fprintf(stderr, "replay gives another state than the run\n");
        abort();
    }
    check_all(&w);
    uint64_t trace = w.trace;
    if (verbose) {
        (void)printf("seed %" PRIu64 ": trace %016" PRIx64 " crashes %u restarts %u refusals %u answers %u\n",
                     seed, trace, w.crashes, w.restarts, w.refusals, w.answer_count);
    }
    sim_world_close(&w);
    return trace;
}

int main(int argc, char **argv) {
    uint64_t count = 200;
    uint64_t first = 1;
    bool verbose = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--count") == 0 && i + 1 < argc) {
            count = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            first = strtoull(argv[++i], NULL, 10);
        } else {
            verbose = true;
        }
    }
    uint64_t all = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        (void)fprintf(stderr, "seed %" PRIu64 "\n", seed); /* the last one said is the one that failed */
        uint64_t trace = run_seed(seed, verbose);
        if (seed < first + TWICE && run_seed(seed, false) != trace) {
            (void)fprintf(stderr, "seed %" PRIu64 ": two runs, two traces\n", seed);
            return 1;
        }
        all = all * 31 + trace;
    }
    (void)printf("%" PRIu64 " seeds from %" PRIu64 ", trace %016" PRIx64 "\n", count, first, all);
    return 0;
}
