/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/twin.h"

#include "base/check.h"
#include "tests/sim/faults.h"
#include "tests/sim/journal.h"
#include "tests/sim/life.h"
#include "tests/sim/spoil.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MANIFESTS_MAX = 8, STEPS_MAX = 1000000, QUIET_ROUNDS = 3, COMMIT_MS = 1000 };

struct twin {
    struct sim_random random;
    struct sim_clock clock;
    struct virtual_disk *disk;
    struct mr_config config; /* a copy that borrows the world's */
    struct sim_store store;
    struct mr_data data;
    struct mr_pipeline *pipeline;
};

static const char *const names[SIM_TWIN_KINDS] = {
    "the newest checkpoint", "the older checkpoint", "zero", "another number of shards"};

static enum mr_status lend_results(void *ctx, const struct mr_data *data, struct mr_results **ret,
                                   struct mr_error *error) {
    struct twin *t = ctx;
    (void)error;
    (void)sim_store_lend(&t->store, t->disk, data);
    *ret = t->store.results;
    return MR_OK;
}

static void take_back(void *ctx, struct mr_results *results) {
    (void)ctx;
    mr_results_rollback(results);
}

/* false: there is no such start. */
static bool prepare(struct sim_world *w, enum sim_twin_kind kind, struct twin *t) {
    uint64_t manifests[MANIFESTS_MAX];
    uint32_t count = sim_spoil_list(w->disk, manifests, MANIFESTS_MAX);
    struct mr_pipeline_stats stats;
    mr_pipeline_stats(w->pipeline, &stats);
    if (stats.checkpoints >= 2 && count < 2) {
        SIM_FAILS("%" PRIu64 " checkpoints were made, and %u are there", stats.checkpoints, count);
    }
    if ((kind == SIM_TWIN_NEWEST && count == 0) || (kind == SIM_TWIN_OLDER && count < 2)) {
        return false;
    }
    *t = (struct twin){.random = sim_random_of(sim_next(&w->random)), .clock = w->clock, .config = *w->config};
    t->disk = virtual_disk_clone(w->disk, w->step);
    virtual_disk_set_capacity(t->disk, 0);
    if (kind == SIM_TWIN_OLDER) {
        sim_spoil_remove_manifest(t->disk, manifests[count - 1]);
    }
    if (kind == SIM_TWIN_ZERO) {
        sim_journal_put_back(w, t->disk);
        for (uint32_t i = 0; i < count; i++) {
            sim_spoil_remove_manifest(t->disk, manifests[i]);
        }
        sim_store_open(&t->store);
    } else {
        sim_store_copy(&w->store, &t->store);
    }
    if (kind == SIM_TWIN_SHARDS) {
        t->config.node.shards = w->config->node.shards % 4 + 1;
    }
    return true;
}

/* The sequencer goes no further than replay: it would tick. */
static void replay(struct twin *t) {
    uint32_t quiet = 0;
    for (uint32_t n = 0; quiet < QUIET_ROUNDS; n++) {
        MR_ASSERT(n < STEPS_MAX);
        bool worked = false;
        uint32_t stations = mr_pipeline_stations(t->pipeline);
        uint32_t first = (uint32_t)sim_below(&t->random, stations);
        for (uint32_t i = 0; i < stations; i++) {
            uint32_t station = (first + i) % stations;
            if (station != 0 || !mr_pipeline_live(t->pipeline)) {
                worked = mr_pipeline_step(t->pipeline, station) || worked;
            }
        }
        bool live = mr_pipeline_live(t->pipeline);
        quiet = worked || !live ? 0 : quiet + 1;
        if (!worked && live) {
            t->clock.mono_ns += COMMIT_MS * 1000000; /* the flusher waits for more */
        }
        struct mr_error error;
        if (mr_pipeline_failure(t->pipeline, &error) != MR_OK) {
            SIM_FAILS("the twin failed: %s", error.text);
        }
    }
}

static void start(struct twin *t, enum sim_twin_kind kind) {
    struct mr_error error = {.status = MR_OK};
    struct mr_data_options options = {.disk = virtual_disk_disk(t->disk),
                                      .clock = &t->clock.base,
                                      .config = &t->config,
                                      .open_results = lend_results,
                                      .close_results = take_back,
                                      .ctx = t};
    enum mr_status status = mr_data_open(&options, &t->data, &error);
    if (status == MR_OK) {
        status = mr_data_pipeline(&t->data, &t->pipeline, &error);
    }
    if (status != MR_OK) {
        SIM_FAILS("no start from %s: %s", names[kind], error.text);
    }
}

/* ---- comparison ---- */

static void differs(enum sim_twin_kind kind, const char *what, uint64_t run, uint64_t twin) {
    if (run != twin) {
        SIM_FAILS("a start from %s gives another state: %s %" PRIu64 ", not %" PRIu64, names[kind], what, twin,
                  run);
    }
}

static void compare_ledgers(const struct sim_world *w, const struct twin *t, enum sim_twin_kind kind) {
    for (uint32_t k = 0; k < w->settings.streams; k++) {
        struct mr_stream_stats a;
        struct mr_stream_stats b;
        mr_pipeline_stream_stats(w->pipeline, k, &a);
        mr_pipeline_stream_stats(t->pipeline, k, &b);
        differs(kind, "received", a.received, b.received);
        differs(kind, "accepted", a.accepted, b.accepted);
        differs(kind, "duplicate", a.duplicate, b.duplicate);
        differs(kind, "late", a.late, b.late);
        differs(kind, "future", a.future, b.future);
        differs(kind, "rejected", a.rejected, b.rejected);
        differs(kind, "observed", a.observed_duplicates, b.observed_duplicates);
        differs(kind, "conflicts", a.conflicts, b.conflicts);
        differs(kind, "live ids", a.dedup_ids, b.dedup_ids);
        differs(kind, "watermark", (uint64_t)a.watermark_ms, (uint64_t)b.watermark_ms);
    }
    for (uint32_t i = 0; i < w->data.plan->rule_count; i++) {
        struct mr_rule_stats x;
        struct mr_rule_stats y;
        mr_pipeline_rule_stats(w->pipeline, i, &x);
        mr_pipeline_rule_stats(t->pipeline, i, &y);
        differs(kind, "applied", x.applied, y.applied);
        differs(kind, "late of a rule", x.late, y.late);
        differs(kind, "dropped", x.dropped, y.dropped);
        differs(kind, "overflow", x.overflow, y.overflow);
    }
}

static void compare(struct sim_world *w, const struct twin *t, enum sim_twin_kind kind) {
    compare_ledgers(w, t, kind);
    const char *difference = sim_store_compare(&w->store, &t->store);
    if (difference != NULL) {
        SIM_FAILS("a start from %s gives other results: %s", names[kind], difference);
    }
    if (kind != SIM_TWIN_SHARDS && !w->moved) {
        differs(kind, "hash", mr_pipeline_state_hash_scan(w->pipeline), mr_pipeline_state_hash_scan(t->pipeline));
    }
}

void sim_twin_compare(struct sim_world *w, enum sim_twin_kind kind) {
    static const enum sim_probe probes[SIM_TWIN_KINDS] = {SIM_PROBE_TWIN_NEWEST, SIM_PROBE_TWIN_OLDER,
                                                          SIM_PROBE_TWIN_ZERO, SIM_PROBE_TWIN_SHARDS};
    struct twin *t = malloc(sizeof *t);
    MR_ASSERT(t != NULL);
    if (prepare(w, kind, t)) {
        start(t, kind);
        replay(t);
        compare(w, t, kind);
        mr_pipeline_close(t->pipeline);
        mr_data_close(&t->data);
        sim_store_finish(&t->store);
        virtual_disk_close(t->disk);
        sim_hit(w, probes[kind]);
    }
    free(t);
}

/* A record whose append failed may lie on the disk: a start takes it, the run has not. A tick may have come behind the
 * flush: then the store has not what the log has. */
static bool comparable(struct sim_world *w) {
    struct mr_pipeline_stats stats;
    mr_pipeline_stats(w->pipeline, &stats);
    return !sim_world_must_restart(w) && mr_pipeline_live(w->pipeline) && !sim_life_has_failed_record(w) &&
           mr_results_flushed_seq(w->store.results) >= stats.last_seq;
}

void sim_twin_look(struct sim_world *w) {
    sim_faults_clear(w);
    if (sim_world_must_restart(w) || !mr_pipeline_live(w->pipeline)) {
        return;
    }
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    sim_world_settle(w);
    sim_world_ask(w, &flush);
    sim_world_settle(w);
    enum sim_twin_kind kind = (enum sim_twin_kind)sim_below(&w->random, SIM_TWIN_KINDS);
    if (comparable(w) && (kind != SIM_TWIN_SHARDS || sim_settings_may_move(&w->settings))) {
        sim_twin_compare(w, kind);
    }
}
