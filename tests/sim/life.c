/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/life.h"

#include "base/alloc.h"
#include "base/check.h"
#include "tests/sim/clients.h"
#include "tests/sim/faults.h"
#include "tests/sim/invariants.h"
#include "tests/sim/journal.h"
#include "tests/sim/queries.h"
#include "tests/sim/rot.h"

#include <stdio.h>
#include <stdlib.h>

static void open_results(struct sim_world *w) {
    mr_results_close(w->results);
    struct mr_memory_results_options options = {w->results_rules, SIM_RULES, 0};
    w->results = mr_memory_results_open(&options);
    sim_invariants_forget_store(w);
}

/* Power goes. Without log.sync the store may have seen more than the log still has. server/serve.c throws it away when
 * its number is that of the START or above. Two cases have other numbers (and nothing is promised about them), so people
 * do it here: a part of the newest bundle is left; or a start that failed has written a START before (mend). */
static void lose_power(struct sim_world *w) {
    struct sim_journal journal;
    struct mr_record record;
    uint64_t torn_seq = UINT64_MAX;
    uint64_t last_seq = 0;
    virtual_disk_crash(w->disk);
    if (w->settings.log_sync) {
        return;
    }
    sim_journal_open(w, UINT64_MAX, &journal);
    while (sim_journal_next(&journal, &record)) {
        last_seq = record.seq;
        if (record.type == MR_RECORD_EVENTS) {
            torn_seq = record.bundle_index + 1 < record.bundle_count ? record.seq : UINT64_MAX;
        }
    }
    sim_journal_close(&journal);
    if (mr_results_flushed_seq(w->results) >= torn_seq) {
        open_results(w);
    }
    w->store_ahead = mr_results_flushed_seq(w->results) > last_seq;
}

static enum mr_status lend_results(void *ctx, const struct mr_data *data, struct mr_results **ret,
                                   struct mr_error *error) {
    (void)data;
    (void)error;
    *ret = ((struct sim_world *)ctx)->results;
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
    return mr_data_open(&options, &w->data, error);
}

static bool open_all(struct sim_world *w, struct mr_error *error) {
    uint64_t flushed = mr_results_flushed_seq(w->results);
    enum mr_status status = open_data(w, error);
    if (mr_results_flushed_seq(w->results) < flushed) {
        sim_hit(w, SIM_PROBE_STORE_AHEAD);
        sim_invariants_forget_store(w);
    }
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

bool sim_life_start(struct sim_world *w) {
    struct mr_error error = {.status = MR_OK};
    if (!open_all(w, &error)) {
        sim_say(w, "no start, status", error.status);
        if (error.status == MR_CORRUPT || error.status == MR_MISMATCH) {
            SIM_FAILS("refused to start: %s", error.text); /* a crash is never corruption */
        }
        return false;
    }
    w->restarts++;
    sim_say(w, "started, flushed_seq", mr_results_flushed_seq(w->results));
    sim_say(w, "dead_seq", w->data.dead_seq);
    const struct mr_log_stats *stats = mr_log_stats(w->data.log);
    w->probes[SIM_PROBE_TAIL_CUT] += mr_counter_read(&stats->torn_bytes) > 0;
    w->probes[SIM_PROBE_SEGMENTS] += mr_counter_read(&stats->segments) >= 5;
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
    sim_queries_reclaim(w, failed);
}

/* With a synced record damaged the node must say so and touch nothing. */
static void start_rotten(struct sim_world *w) {
    struct sim_rot rot;
    sim_faults_clear(w);
    if (!sim_rot_choose(w, &rot)) {
        return;
    }
    sim_rot_apply(w, &rot);
    struct mr_error error = {.status = MR_OK};
    enum mr_status status = open_data(w, &error);
    if (status == MR_OK && w->data.restored.newest.number != 0) {
        mr_data_close(&w->data); /* below the checkpoint: not read, not needed */
        sim_rot_undo(w, &rot);
        return;
    }
    if (status != MR_CORRUPT) {
        SIM_FAILS("a start with byte %llu of %s damaged says %s, not corrupt",
                  (unsigned long long)rot.offset, rot.path, mr_status_text(status));
    }
    sim_rot_undo(w, &rot);
    sim_hit(w, SIM_PROBE_MIDDLE_FLIPPED);
}

/* Whether what was not synced is lost with the process. Without log.sync a failed sync may have lost more than the last
 * bundle, which reads well until power goes: recovery does not cover that. */
static bool loses_power(const struct sim_world *w, const struct sim_crash *crash) {
    bool unsure = !w->settings.log_sync && (mr_log_failed(w->data.log) || mr_log_failed(w->data.dead));
    return crash->power || unsure || !virtual_disk_power(w->disk);
}

static void prepare(struct sim_world *w, const struct sim_crash *crash, bool power) {
    if (power) {
        lose_power(w);
    }
    if (crash->shards != 0 && crash->shards != w->config->node.shards) {
        w->config->node.shards = crash->shards;
        sim_hit(w, SIM_PROBE_SHARDS_CHANGED);
    }
    if (crash->store_lost) {
        open_results(w);
        sim_hit(w, SIM_PROBE_STORE_LOST);
    }
    if (crash->rotten) {
        start_rotten(w);
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
    if (w->store_ahead) {
        open_results(w);
    }
    /* Without log.sync a failed sync may have lost more than the last bundle, and only power tells. */
    if (!power || !w->settings.log_sync || sim_one_in(&w->random, 2)) {
        lose_power(w);
    }
    sim_world_pass_time(w, 1000);
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
    mr_memory_results_crash(w->results);
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
    }
    /* One START stands behind what was acknowledged, or else something that was not. */
    w->probes[SIM_PROBE_FAILED_KEPT] += tries == 1 && mr_log_last_lsn(w->data.log) > last_lsn + 1;
    if (may_lose) {
        sim_clients_forget_lost(w);
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
