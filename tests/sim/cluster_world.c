/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster_world.h"

#include "base/check.h"
#include "base/report.h"
#include "tests/redis/claims_script.h"
#include "tests/sim/cluster_check.h"
#include "tests/sim/cluster_clients.h"
#include "tests/sim/cluster_faults.h"
#include "tests/sim/cluster_life.h"

#include <inttypes.h>

enum {
    LOOK_STEPS = 64,
    CLAIMER_ONE_IN = 3, /* steps of a node: it needs many while the others wait */
    ROUND_MS = 20,
    DRAIN_ROUNDS_MAX = 60000,
    HEALED_MS = 15000, /* several checks of the watch: whatever was lost is noticed */
    CLOSE_SECONDS = 160, /* the longest window, lateness, disorder and idleness */
    QUIET_ROUNDS_MAX = 200,
};

void cluster_trace(struct cluster_world *w, uint64_t value) {
    w->trace = (w->trace ^ value) * 0x100000001b3u;
    w->trace ^= w->trace >> 29;
}

void cluster_say(const struct cluster_world *w, uint32_t node, const char *what, uint64_t number) {
    if (!w->verbose) {
        return;
    }
    int64_t ms = w->clock.wall_ms - w->settings.begin_ms;
    if (node < CLUSTER_NODES_MAX) {
        (void)fprintf(stderr, "%7" PRIu64 " %8" PRId64 " ms n%u: %s %" PRIu64 "\n", w->step, ms, node, what, number);
    } else {
        (void)fprintf(stderr, "%7" PRIu64 " %8" PRId64 " ms: %s %" PRIu64 "\n", w->step, ms, what, number);
    }
}

/* ---- clock ---- */

static int64_t wall_ms(struct mr_clock *clock) {
    return ((struct cluster_clock *)(void *)clock)->wall_ms;
}

static uint64_t mono_ns(struct mr_clock *clock) {
    return ((struct cluster_clock *)(void *)clock)->mono_ns;
}

void cluster_world_pass_time(struct cluster_world *w, uint64_t ms) {
    w->clock.wall_ms += (int64_t)ms;
    w->clock.mono_ns += ms * 1000000;
}

/* ---- open, close ---- */

static void open_redis(struct cluster_world *w) {
    struct virtual_redis_options options = {
        .seed = sim_next(&w->random),
        .clock = &w->clock.base,
        .servers = w->settings.servers,
        .masters = w->settings.masters,
    };
    w->redis = virtual_redis_open(&options);
    claims_script_register(w->redis);
    w->transports[0] = virtual_redis_transport(w->redis);
}

void cluster_world_open(struct cluster_world *w, uint64_t seed) {
    *w = (struct cluster_world){.random = sim_random_of(seed)};
    mr_report_configure(-1, MR_LEVEL_ERROR, NULL);
    cluster_settings_choose(&w->random, &w->settings);
    w->clock = (struct cluster_clock){{wall_ms, mono_ns}, w->settings.begin_ms, 1000000000};
    open_redis(w);
    enum mr_status status = mr_decoder_open(MR_DECODE_AUTO, &w->decoder);
    MR_ASSERT(status == MR_OK);
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        cluster_life_open(w, i);
    }
}

void cluster_world_close(struct cluster_world *w) {
    cluster_faults_collect(w);
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        cluster_life_close(&w->nodes[i]);
    }
    cluster_clients_finish(w);
    mr_decoder_close(w->decoder);
    virtual_redis_close(w->redis);
}

/* ---- steps ---- */

static void run_some_station(struct cluster_world *w) {
    struct sim_random *r = &w->random;
    struct cluster_node *node = &w->nodes[sim_below(r, w->settings.nodes)];
    if (node->pipeline == NULL) {
        return;
    }
    uint32_t stations = mr_pipeline_stations(node->pipeline);
    uint32_t station = sim_one_in(r, CLAIMER_ONE_IN) ? stations - 1 : (uint32_t)sim_below(r, stations);
    bool stopped = w->step < w->stopped_until && node->index == w->stopped_node && station == w->stopped_station;
    if (!stopped) {
        (void)cluster_life_run(node, station); /* seen by what comes out */
    }
}

static void mend_nodes(struct cluster_world *w) {
    struct sim_random *r = &w->random;
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        struct cluster_node *node = &w->nodes[i];
        if (node->pipeline == NULL && w->clock.mono_ns >= node->down_until_ns) {
            cluster_life_start(node);
        } else if (node->pipeline != NULL && cluster_life_must_restart(node) && sim_one_in(r, 20)) {
            struct cluster_crash crash = {.power = sim_one_in(r, 2)};
            cluster_life_crash(node, &crash);
        }
    }
}

void cluster_world_step(struct cluster_world *w) {
    struct sim_random *r = &w->random;
    w->step++;
    cluster_faults_pass(w);
    if (w->settings.fault_one_in != 0 && sim_one_in(r, w->settings.fault_one_in)) {
        cluster_faults_inject(w);
    }
    mend_nodes(w);
    if (sim_one_in(r, 8)) {
        cluster_clients_step(w);
    }
    if (sim_one_in(r, 4)) {
        cluster_world_pass_time(w, sim_below(r, w->settings.pace_ms));
    }
    run_some_station(w);
    if (w->step % LOOK_STEPS == 0) {
        cluster_check_now(w);
    }
}

/* ---- without faults ---- */

/* Each station of each node once; returns whether any did something. */
static bool run_all(struct cluster_world *w) {
    bool worked = false;
    uint32_t first = (uint32_t)sim_below(&w->random, w->settings.nodes);
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        struct cluster_node *node = &w->nodes[(first + i) % w->settings.nodes];
        uint32_t stations = mr_pipeline_stations(node->pipeline);
        uint32_t begin = (uint32_t)sim_below(&w->random, stations);
        for (uint32_t k = 0; k < stations; k++) {
            worked = cluster_life_run(node, (begin + k) % stations) || worked;
        }
    }
    return worked;
}

static bool is_drained(const struct cluster_world *w) {
    bool drained = cluster_clients_all_answered(w);
    for (uint32_t i = 0; i < w->settings.nodes && drained; i++) {
        drained = cluster_life_has_decided_all(&w->nodes[i]);
    }
    return drained;
}

static void fail_to_drain(struct cluster_world *w) {
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        cluster_life_explain(&w->nodes[i]);
        if (w->nodes[i].pipeline != NULL) {
            cluster_check_explain(&w->nodes[i]);
        }
    }
    CLUSTER_FAILS("without faults it does not drain");
}

void cluster_world_drain(struct cluster_world *w) {
    cluster_faults_clear(w);
    uint64_t healed_ns = w->clock.mono_ns;
    for (uint32_t n = 0; !is_drained(w) || w->clock.mono_ns - healed_ns < (uint64_t)HEALED_MS * 1000000; n++) {
        if (n == DRAIN_ROUNDS_MAX) {
            fail_to_drain(w);
        }
        w->step++;
        for (uint32_t i = 0; i < w->settings.nodes; i++) {
            struct cluster_node *node = &w->nodes[i];
            if (node->pipeline != NULL && cluster_life_must_restart(node)) {
                struct cluster_crash crash = {.power = true};
                cluster_life_crash(node, &crash);
            }
            if (node->pipeline == NULL) {
                node->down_until_ns = 0;
                cluster_life_start(node);
            }
        }
        cluster_clients_step(w);
        (void)run_all(w); /* what it did is seen by is_drained */
        cluster_world_pass_time(w, sim_below(&w->random, ROUND_MS));
        if (n % LOOK_STEPS == 0) {
            cluster_check_now(w);
        }
    }
}

void cluster_world_finish(struct cluster_world *w) {
    for (uint32_t n = 0; n < CLOSE_SECONDS; n++) {
        cluster_world_pass_time(w, 1000);
        for (uint32_t k = 0; k < QUIET_ROUNDS_MAX && run_all(w); k++) {
            continue;
        }
    }
    cluster_check_now(w);
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        struct mr_ask ask = {.kind = MR_ASK_FLUSH};
        cluster_life_ask(&w->nodes[i], &ask);
    }
}
