/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/life.h"

#include "base/alloc.h"
#include "base/check.h"
#include "tests/sim/clients.h"
#include "tests/sim/faults.h"
#include "tests/sim/invariants.h"
#include "tests/sim/journal.h"
#include "tests/sim/queries.h"
#include "tests/sim/redrives.h"
#include "tests/sim/rot.h"
#include "tests/sim/spoil.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void lose_results(struct sim_world *w) {
    sim_store_finish(&w->store);
    sim_store_open(&w->store);
    sim_invariants_forget_store(w);
}

static enum mr_status lend_results(void *ctx, const struct mr_data *data, struct mr_results **ret,
                                   struct mr_error *error) {
    struct sim_world *w = ctx;
    (void)error;
    if (sim_store_lend(&w->store, w->disk, data)) {
        sim_invariants_forget_store(w);
    }
    *ret = w->store.results;
    return MR_OK;
}

static void take_back(void *ctx, struct mr_results *results) {
    (void)ctx;
    mr_results_rollback(results);
}

static enum mr_status open_data(struct sim_world *w, struct mr_error *error) {
    struct mr_data_options options = {.disk = virtual_disk_disk(w->disk),
                                      .clock = &w->clock.base,
                                      .config = w->config,
                                      .open_results = lend_results,
                                      .close_results = take_back,
                                      .ctx = w};
    uint64_t flushed = mr_results_flushed_seq(w->store.results);
    enum mr_status status = mr_data_open(&options, &w->data, error);
    bool rewound = mr_results_flushed_seq(w->store.results) < flushed;
    w->probes[SIM_PROBE_RESULTS_REWOUND] += rewound;
    /* On the way through other configurations it may have been rewound and have come as far again. */
    if (rewound || (!w->settings.log_sync && w->version_count > 1)) {
        sim_invariants_forget_store(w);
    }
    return status;
}

static bool open_all(struct sim_world *w, struct mr_error *error) {
    enum mr_status status = open_data(w, error);
    if (status == MR_OK) {
        status = mr_data_pipeline(&w->data, &w->pipeline, error);
        if (status != MR_OK) {
            w->pipeline = NULL;
            mr_data_close(&w->data);
        }
    }
    error->status = status;
    return status == MR_OK;
}

static void count_start(struct sim_world *w) {
    const struct mr_log_stats *stats = mr_log_stats(w->data.log);
    const struct mr_manifest *newest = &w->data.restored.newest;
    w->probes[SIM_PROBE_TAIL_CUT] += mr_counter_read(&stats->torn_bytes) > 0;
    w->probes[SIM_PROBE_SEGMENTS] += mr_counter_read(&stats->segments) >= 5;
    w->probes[SIM_PROBE_FROM_CHECKPOINT] += newest->number != 0;
    bool moved = newest->number != 0 && newest->shards != w->data.plan->shards;
    w->probes[SIM_PROBE_IDS_ANEW] += moved;
    w->moved = w->moved || moved;
    for (uint32_t i = 0; i < w->data.plan->rule_count; i++) {
        w->probes[SIM_PROBE_RULE_ANEW] += w->data.plan->generations[i] != 0;
    }
}

bool sim_life_start(struct sim_world *w) {
    struct mr_error error = {.status = MR_OK};
    if (!open_all(w, &error)) {
        sim_say(w, "no start, status", error.status);
        if (error.status == MR_CORRUPT || error.status == MR_MISMATCH) {
            SIM_FAILS("refused to start: %s", error.text); /* a crash is never corruption */
        }
        w->wants_ids = error.status == MR_FULL && strstr(error.text, "dedup.ids") != NULL;
        return false;
    }
    w->restarts++;
    sim_say(w, "started, flushed_seq", mr_results_flushed_seq(w->store.results));
    sim_say(w, "dead_seq", w->data.dead_seq);
    sim_say(w, "checkpoint", w->data.restored.newest.number);
    sim_say(w, "checkpoint seq", w->data.restored.newest.seq);
    count_start(w);
    return true;
}

void sim_life_stop(struct sim_world *w) {
    bool failed = mr_pipeline_failure(w->pipeline, NULL) != MR_OK;
    sim_faults_count(w);
    sim_invariants_collect(w);
    mr_pipeline_close(w->pipeline);
    w->pipeline = NULL;
    mr_data_close(&w->data);
    sim_clients_reclaim(w, failed);
    sim_redrives_reclaim(w, failed);
    sim_queries_reclaim(w, failed);
}

/* People have the log repaired instead of put back. From the record on nothing that was answered before need hold;
 * clients do not know. */
static void repair(struct sim_world *w, const struct sim_rot *rot, uint64_t needed_lsn) {
    struct mr_log_repair repaired;
    struct mr_error error;
    FILE *out = fopen("/dev/null", "w");
    MR_ASSERT(out != NULL);
    enum mr_status status =
        mr_log_repair(virtual_disk_disk(w->disk), "data/log", needed_lsn, false, out, &repaired, &error);
    (void)fclose(out);
    if (status != MR_OK || repaired.lost_lsns == 0) {
        SIM_FAILS("repair says %s, and that %llu records are lost", mr_status_text(status),
                  (unsigned long long)repaired.lost_lsns);
    }
    sim_invariants_forget_store(w);
    sim_clients_forget_answers(w, rot->lsn);
    sim_redrives_forget(w);
    sim_invariants_forget_log(w);
    w->log_lost = true;
    w->log_repaired = true;
    sim_hit(w, SIM_PROBE_REPAIRED);
}

/* With a synced record damaged the node must say so and touch nothing; below its checkpoint it need not read it. */
static void start_rotten(struct sim_world *w, bool repairs) {
    struct sim_rot rot;
    sim_faults_clear(w);
    if (!sim_rot_choose(w, &rot)) {
        return;
    }
    sim_rot_apply(w, &rot);
    struct mr_error error = {.status = MR_OK};
    enum mr_status status = open_data(w, &error);
    /* Not a CONFIG: from which record on which configuration holds would be lost with it. Nor what a checkpoint has. */
    repairs = repairs && (rot.type == MR_RECORD_EVENTS || rot.type == MR_RECORD_TICK) &&
              rot.lsn > sim_spoil_newest_lsn(w->disk);
    if (status == MR_OK && rot.lsn <= w->data.restored.newest.lsn) {
        mr_data_close(&w->data);
    } else if (status != MR_CORRUPT) {
        SIM_FAILS("a start with byte %llu of %s damaged says %s, not corrupt",
                  (unsigned long long)rot.offset, rot.path, mr_status_text(status));
    } else {
        sim_hit(w, SIM_PROBE_MIDDLE_FLIPPED);
        if (repairs) {
            repair(w, &rot, 1);
            return;
        }
    }
    sim_rot_undo(w, &rot);
}

/* The newest checkpoint that is whole is the one to begin with; without one, the beginning of the log. */
static void start_spoiled(struct sim_world *w, bool all) {
    struct sim_spoil spoil;
    sim_faults_clear(w);
    if (!sim_spoil_apply(w, all, &spoil)) {
        return;
    }
    for (uint32_t i = 0; i < spoil.count; i++) {
        sim_say(w, spoil.files[i].path, spoil.newest);
    }
    sim_say(w, "whole is checkpoint", spoil.sound);
    struct mr_error error = {.status = MR_OK};
    bool behind = mr_results_flushed_seq(w->store.results) < spoil.seq; /* then results are made anew from zero */
    enum mr_status status = open_data(w, &error);
    uint64_t number = status == MR_OK ? w->data.restored.newest.number : 0;
    bool lost = spoil.sound == 0 && spoil.trimmed;
    if (status != (lost ? MR_CORRUPT : MR_OK)) {
        SIM_FAILS("a start with checkpoint %llu damaged, %llu whole, says %s: %s",
                  (unsigned long long)spoil.newest, (unsigned long long)spoil.sound, mr_status_text(status),
                  error.text);
    }
    bool another = w->version_count > 1 && number > spoil.sound; /* made on the way to this configuration */
    if (number != spoil.sound && !another && !(behind && number == 0)) {
        SIM_FAILS("a start took checkpoint %llu, not %llu", (unsigned long long)number,
                  (unsigned long long)spoil.sound);
    }
    if (lost) {
        sim_spoil_undo(w, &spoil);
    } else {
        mr_data_close(&w->data);
    }
    w->probes[SIM_PROBE_CHECKPOINTS_LOST] += lost;
    w->probes[SIM_PROBE_FROM_ZERO] += !lost && spoil.sound == 0;
    w->probes[SIM_PROBE_FROM_OLDER] += spoil.sound != 0 && spoil.sound != spoil.newest;
    w->probes[SIM_PROBE_CHECKPOINT_SPOILED] += !lost && spoil.sound != spoil.newest;
    sim_spoil_finish(&spoil);
}

/* Whether what was not synced is lost with the process. Without log.sync a failed sync may have lost more than the last
 * bundle, which reads well until power goes: recovery does not cover that. */
static bool loses_power(const struct sim_world *w, const struct sim_crash *crash) {
    bool unsure = !w->settings.log_sync && (mr_log_failed(w->data.log) || mr_log_failed(w->data.dead));
    return crash->power || unsure || !virtual_disk_power(w->disk);
}

static void prepare(struct sim_world *w, const struct sim_crash *crash, bool power) {
    if (power) {
        virtual_disk_crash(w->disk);
    }
    if (crash->shards != 0 && crash->shards != w->config->node.shards) {
        w->config->node.shards = crash->shards;
        sim_hit(w, SIM_PROBE_SHARDS_CHANGED);
    }
    if (crash->configured && w->version_count < SIM_VERSIONS_MAX) {
        sim_settings_change(&w->settings, &w->random);
        sim_world_configure(w);
        sim_hit(w, SIM_PROBE_CONFIG_CHANGED);
        if (w->verbose) {
            sim_settings_print(&w->settings);
        }
    }
    if (crash->store_lost) {
        lose_results(w);
        sim_hit(w, SIM_PROBE_STORE_LOST);
    }
    if (crash->rotten) {
        start_rotten(w, crash->repaired);
    }
    if (crash->spoiled) {
        start_spoiled(w, crash->spoiled_all);
    }
    if (crash->read_nth > 0) {
        sim_faults_plan_disk(w, SIM_READ_FAILED, crash->read_nth, 1u << VIRTUAL_DISK_READ, MR_IO);
    }
    if (crash->cut_nth > 0) {
        virtual_disk_cut_power(w->disk, crash->cut_nth);
    }
}

/* After a start that failed: people set right what was wrong. */
static void mend(struct sim_world *w) {
    sim_faults_count(w);
    bool power = virtual_disk_power(w->disk);
    if (!power) {
        sim_hit(w, SIM_PROBE_CRASH_IN_RECOVERY);
    }
    sim_faults_clear(w);
    /* Without log.sync a failed sync may have lost more than the last bundle, and only power tells. */
    if (!power || !w->settings.log_sync || sim_one_in(&w->random, 2)) {
        virtual_disk_crash(w->disk);
    }
    sim_world_pass_time(w, 1000);
}

/* People read that dedup.ids must be raised: copies of what a repair took are new ids, and more than there was room for. */
static void raise_ids(struct sim_world *w) {
    if (!w->log_repaired || w->version_count == SIM_VERSIONS_MAX) {
        SIM_FAILS("has no room for the ids of its own log, %s", w->log_repaired ? "again" : "of which nothing was lost");
    }
    w->settings.ids = 2 * SIM_IDS_MAX;
    sim_world_configure(w);
    w->wants_ids = false;
}

void sim_life_crash(struct sim_world *w, const struct sim_crash *crash) {
    bool power = loses_power(w, crash);
    bool may_lose = power && !w->settings.log_sync;
    uint64_t last_lsn = mr_log_last_lsn(w->data.log);
    uint32_t tries = 1;
    w->crashes++;
    sim_trace(w, 0xc0 + power);
    sim_say(w, "crash, power", power);
    sim_life_stop(w);
    mr_memory_results_crash(w->store.results);
    prepare(w, crash, power);
    uint64_t no_memory_nth = crash->no_memory_nth;
    for (;;) {
        mr_alloc_fail_at(no_memory_nth, 0);
        bool started = sim_life_start(w);
        mr_alloc_fail_at(0, 0);
        if (started) {
            break;
        }
        w->probes[SIM_PROBE_NO_MEMORY] += no_memory_nth > 0 && virtual_disk_power(w->disk);
        no_memory_nth = 0;
        may_lose = may_lose || !w->settings.log_sync;
        tries++;
        mend(w);
        if (w->wants_ids) {
            raise_ids(w);
        }
    }
    /* One START stands behind what was acknowledged, or else something that was not. */
    w->probes[SIM_PROBE_FAILED_KEPT] += tries == 1 && mr_log_last_lsn(w->data.log) > last_lsn + 1;
    if (may_lose) {
        sim_clients_forget_lost(w);
        sim_redrives_forget(w);
        sim_invariants_forget_log(w);
        w->log_lost = true;
    }
}

bool sim_life_has_failed_record(struct sim_world *w) {
    uint64_t last_lsn = mr_counter_read(&mr_log_stats(w->data.log)->last_lsn);
    struct sim_journal journal;
    sim_journal_open(w, UINT64_MAX, &journal);
    struct mr_record record = {.lsn = 0};
    while (sim_journal_next(&journal, &record) && record.lsn <= last_lsn) {
        continue;
    }
    sim_journal_close(&journal);
    return record.lsn > last_lsn;
}
