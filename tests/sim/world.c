/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/world.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/report.h"
#include "config/change.h"
#include "tests/sim/clients.h"
#include "tests/sim/faults.h"
#include "tests/sim/invariants.h"
#include "tests/sim/life.h"
#include "tests/sim/queries.h"
#include "tests/sim/redrives.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    QUIET_STEPS = 200,
    DRAIN_STEPS_MAX = 2000000,
    HURRY_STEPS = 3000,
    HURRY_MS = 200,
    LOOK_STEPS = 64,
    STORE_STEPS = 1024,
    REDRIVE_STEPS = 60,
};

static const int64_t epoch_ms = INT64_C(1700000000000);

void sim_trace(struct sim_world *w, uint64_t value) {
    w->trace = (w->trace ^ value) * 0x100000001b3u;
    w->trace ^= w->trace >> 29;
}

void sim_say(const struct sim_world *w, const char *what, uint64_t number) {
    if (!w->verbose) {
        return;
    }
    uint64_t last_lsn = w->data.log == NULL ? 0 : mr_log_last_lsn(w->data.log);
    uint64_t last_seq = w->data.log == NULL ? 0 : mr_log_last_seq(w->data.log);
    (void)fprintf(stderr, "%8" PRIu64 " lsn %" PRIu64 " seq %" PRIu64 ": %s %" PRIu64 "\n", w->step,
                  last_lsn, last_seq, what, number);
}

/* ---- clock ---- */

static int64_t wall_ms(struct mr_clock *clock) {
    return ((struct sim_clock *)(void *)clock)->wall_ms;
}

static uint64_t mono_ns(struct mr_clock *clock) {
    return ((struct sim_clock *)(void *)clock)->mono_ns;
}

void sim_world_pass_time(struct sim_world *w, uint64_t ms) {
    w->clock.wall_ms += (int64_t)ms;
    w->clock.mono_ns += ms * 1000000;
}

/* ---- open, close ---- */

/* The key is random in life; here it follows from the seed. */
static void write_key(struct sim_world *w, const struct mr_hash_key *key) {
    struct mr_disk *disk = virtual_disk_disk(w->disk);
    struct mr_file *file = NULL;
    enum mr_status status = mr_disk_mkdir(disk, "data");
    MR_ASSERT(status == MR_OK);
    status = mr_file_open(disk, "data/KEY", MR_FILE_SECRET, &file);
    MR_ASSERT(status == MR_OK);
    mr_file_close(file);
    status = mr_disk_sync_dir(disk, "data");
    MR_ASSERT(status == MR_OK);
    virtual_disk_replace(w->disk, "data/KEY", mr_bytes_of(key->bytes, sizeof key->bytes));
}

static void learn_some(struct sim_world *w, const struct mr_schema *schema, uint32_t stream, uint32_t first,
                       uint32_t count) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 20);
    for (uint32_t id = first; id < first + count; id++) {
        mr_buf_printf(&body, "{\"id\":\"e%u\",\"ts\":1700000000000,\"key\":\"k\",\"value\":0}\n", id);
    }
    (void)mr_buf_reserve(&body, MR_PADDING);
    struct mr_batch *batch = NULL;
    struct mr_error error;
    enum mr_status status = mr_decode(w->decoder, schema, MR_FORMAT_NDJSON, &body, &batch, &error);
    MR_ASSERT(status == MR_OK && batch->order_count == count);
    for (uint32_t i = 0; i < count; i++) {
        w->ids[stream][first + i] = (struct sim_id){
            batch->fps[i], (uint8_t)mr_fingerprint_shard(batch->fps[i], w->settings.shards)};
    }
    mr_batch_close(batch);
}

/* Which shard remembers which id: fingerprints know, so all ids are decoded once. */
static void learn_shards(struct sim_world *w, const struct mr_hash_key *key) {
    enum { AT_ONCE = 960 };
    static_assert(SIM_IDS_MAX % AT_ONCE == 0, "all of them are learnt");
    struct mr_plan *plan;
    struct mr_error error;
    enum mr_status status = mr_plan_open(w->config, key, false, &plan, &error);
    MR_ASSERT(status == MR_OK);
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        for (uint32_t first = 0; first < SIM_IDS_MAX; first += AT_ONCE) {
            learn_some(w, plan->streams[i].schema, i, first, AT_ONCE);
        }
    }
    mr_plan_close(plan);
}

void sim_world_configure(struct sim_world *w) {
    struct mr_buf text;
    MR_ASSERT(w->version_count < SIM_VERSIONS_MAX);
    struct mr_config *config = sim_settings_config(&w->settings);
    if (w->config != NULL) {
        config->node.shards = w->config->node.shards;
        mr_config_close(w->config);
    }
    w->config = config;
    mr_buf_init(&text, 1 << 16);
    mr_config_print_state(config, &text);
    MR_ASSERT(!text.failed);
    w->versions[w->version_count++] = (struct sim_version){mr_checksum(mr_buf_bytes(&text)), w->settings};
    mr_buf_finish(&text);
}

void sim_world_open(struct sim_world *w, uint64_t seed) {
    *w = (struct sim_world){.random = sim_random_of(seed)};
    mr_report_configure(-1, MR_LEVEL_ERROR, NULL);
    sim_settings_choose(&w->random, &w->settings);
    w->clock = (struct sim_clock){{wall_ms, mono_ns}, epoch_ms, 1000000000};
    sim_invariants_forget_log(w);
    w->disk = virtual_disk_open(sim_next(&w->random));
    virtual_disk_set_fates(w->disk, w->settings.fates);
    virtual_disk_keep_unlinked(w->disk, "data/log/");
    sim_world_configure(w);
    struct mr_hash_key key = {{(uint8_t)seed}};
    sim_store_open(&w->store);
    enum mr_status status = mr_decoder_open(MR_DECODE_AUTO, &w->decoder);
    MR_ASSERT(status == MR_OK);
    if (!sim_settings_may_move(&w->settings)) {
        learn_shards(w, &key);
    }
    write_key(w, &key);
    bool started = sim_life_start(w);
    MR_ASSERT(started);
}

void sim_world_close(struct sim_world *w) {
    sim_life_stop(w);
    sim_faults_collect(w);
    sim_invariants_forget_store(w);
    sim_store_finish(&w->store);
    mr_decoder_close(w->decoder);
    mr_config_close(w->config);
    virtual_disk_close(w->disk);
    sim_clients_finish(w);
}

/* ---- steps ---- */

bool sim_world_must_restart(const struct sim_world *w) {
    return !virtual_disk_power(w->disk) || mr_log_failed(w->data.log) ||
           mr_log_failed(w->data.dead) || mr_pipeline_failure(w->pipeline, NULL) != MR_OK;
}

bool sim_world_run(struct sim_world *w, uint32_t station) {
    if (w->no_memory_steps == 0) {
        return mr_pipeline_step(w->pipeline, station);
    }
    w->no_memory_steps--;
    mr_alloc_fail_at(1 + sim_below(&w->random, 6), 0);
    bool worked = mr_pipeline_step(w->pipeline, station);
    mr_alloc_fail_at(0, 0);
    if (mr_pipeline_failure(w->pipeline, NULL) == MR_NO_MEMORY) {
        sim_hit(w, SIM_PROBE_NO_MEMORY);
        w->no_memory_steps = 0;
    }
    return worked;
}

static void run_some_station(struct sim_world *w) {
    uint32_t station = (uint32_t)sim_below(&w->random, mr_pipeline_stations(w->pipeline));
    bool stopping = w->step < w->stopped_until;
    if (stopping && station == w->stopped_station) {
        return;
    }
    bool worked = sim_world_run(w, station);
    if (!stopping || worked || station != 0 || !mr_pipeline_live(w->pipeline)) {
        return;
    }
    struct mr_pipeline_stats stats;
    mr_pipeline_stats(w->pipeline, &stats);
    w->probes[SIM_PROBE_RING_FULL] += stats.submit_queue > 0;
    w->probes[SIM_PROBE_STATION_STOPPED] += stats.last_seq > stats.processed_seq;
}

static void look(struct sim_world *w) {
    if (w->queries != NULL) {
        sim_queries_look(w);
    }
    if (w->step % LOOK_STEPS == 0) {
        sim_faults_count(w);
        sim_invariants_check(w);
    }
    if (w->step % STORE_STEPS == 0) {
        sim_invariants_check_store(w);
    }
}

void sim_world_step(struct sim_world *w, bool faults) {
    struct sim_random *r = &w->random;
    const struct sim_settings *s = &w->settings;
    w->step++;
    if (faults) {
        sim_faults_pass(w);
        if (s->fault_one_in != 0 && sim_one_in(r, s->fault_one_in)) {
            sim_faults_inject(w);
        }
    }
    if (sim_world_must_restart(w) && sim_one_in(r, 20)) {
        struct sim_crash crash = {.power = !s->log_sync || sim_one_in(r, 2)};
        sim_life_crash(w, &crash);
    }
    if (sim_one_in(r, 6)) {
        sim_clients_step(w);
    }
    if (s->redrives && sim_one_in(r, REDRIVE_STEPS) && !sim_world_must_restart(w) && mr_pipeline_live(w->pipeline)) {
        sim_redrives_step(w);
    }
    if (sim_one_in(r, 4)) {
        sim_world_pass_time(w, sim_below(r, sim_one_in(r, 50) ? 5000 : 40));
    }
    run_some_station(w);
    look(w);
}

void sim_world_drain(struct sim_world *w) {
    sim_faults_clear(w);
    for (uint32_t n = 0; !sim_clients_all_answered(w) || w->queries != NULL || w->redrives != NULL ||
                         sim_world_must_restart(w) || !mr_pipeline_live(w->pipeline);
         n++) {
        MR_ASSERT(n < DRAIN_STEPS_MAX); /* without faults everything drains */
        sim_world_step(w, false);
        if (n > HURRY_STEPS) {
            sim_world_pass_time(w, HURRY_MS); /* ids expire only once a clock set back has caught up */
        }
    }
    struct mr_ask ask = {.kind = MR_ASK_FLUSH};
    sim_world_ask(w, &ask);
}

/* ---- questions, quiet ---- */

static void asked(struct mr_ask *ask, void *ctx) {
    (void)ask;
    *(bool *)ctx = true;
}

void sim_world_ask(struct sim_world *w, struct mr_ask *ask) {
    bool done = false;
    ask->done = asked;
    ask->ctx = &done;
    bool sent = mr_pipeline_ask(w->pipeline, ask);
    MR_ASSERT(sent);
    uint32_t n = 0;
    while (!done) {
        MR_ASSERT(n < DRAIN_STEPS_MAX);
        if (++n % 1000 == 0) {
            sim_world_pass_time(w, 100); /* the flusher may be waiting to try again */
        }
        (void)mr_pipeline_step(w->pipeline,
                               (uint32_t)sim_below(&w->random, mr_pipeline_stations(w->pipeline)));
    }
    MR_ASSERT(!ask->closed);
}

void sim_world_settle(struct sim_world *w) {
    for (uint32_t quiet = 0, n = 0; quiet < QUIET_STEPS || !mr_pipeline_live(w->pipeline); n++) {
        MR_ASSERT(n < DRAIN_STEPS_MAX);
        uint32_t station = (uint32_t)sim_below(&w->random, mr_pipeline_stations(w->pipeline));
        quiet = mr_pipeline_step(w->pipeline, station) ? 0 : quiet + 1;
    }
}
