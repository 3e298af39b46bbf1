/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster_life.h"

#include "base/alloc.h"
#include "base/check.h"
#include "pipeline/stations.h"
#include "tests/sim/cluster_check.h"
#include "tests/sim/cluster_clients.h"
#include "tests/sim/cluster_faults.h"

#include <inttypes.h>

enum { STEPS_MAX = 2000000, QUIET_ROUNDS = 3, STORE = 0 };

static const struct mr_claims *claims_of(const struct cluster_node *node) {
    const struct mr_claimer *claimer = &node->pipeline->claimer;
    return claimer->stores == NULL ? NULL : claimer->stores[STORE].claims;
}

/* ---- the results, which outlive processes ---- */

static enum mr_status lend_results(void *ctx, const struct mr_data *data, struct mr_results **ret,
                                   struct mr_error *error) {
    (void)data;
    (void)error;
    *ret = ((struct cluster_node *)ctx)->results;
    return MR_OK;
}

static void take_back(void *ctx, struct mr_results *results) {
    (void)ctx;
    mr_results_rollback(results);
}

static struct mr_results *open_results(const struct cluster_node *node) {
    struct mr_memory_results_options options = {.rules = node->rules, .rule_count = node->plan->rule_count};
    return mr_memory_results_open(&options);
}

/* ---- open, close ---- */

void cluster_life_open(struct cluster_world *w, uint32_t index) {
    struct cluster_node *node = &w->nodes[index];
    const char *addresses[CLUSTER_SERVERS_MAX];
    for (uint32_t i = 0; i < w->settings.servers; i++) {
        addresses[i] = virtual_redis_address(w->redis, i);
    }
    *node = (struct cluster_node){.world = w, .index = index};
    node->disk = virtual_disk_open(sim_next(&w->random));
    virtual_disk_set_fates(node->disk, VIRTUAL_DISK_FATES_ALL);
    virtual_disk_keep_unlinked(node->disk, "data/log/");
    node->config = cluster_settings_config(&w->settings, index, addresses);
    struct mr_hash_key key = {{1}}; /* nothing is hashed with this plan */
    struct mr_error error;
    enum mr_status status = mr_plan_open(node->config, &key, false, &node->plan, &error);
    MR_ASSERT(status == MR_OK);
    node->rules = mr_data_results_rules(node->plan);
    MR_ASSERT(node->rules != NULL);
    node->results = open_results(node);
    for (uint32_t i = 0; i < CLUSTER_STREAMS_MAX; i++) {
        node->watermarks_ms[i] = INT64_MIN;
    }
    cluster_life_start(node);
    MR_ASSERT(node->pipeline != NULL);
}

static void stop(struct cluster_node *node) {
    bool failed = mr_pipeline_failure(node->pipeline, NULL) != MR_OK;
    cluster_check_collect(node);
    mr_pipeline_close(node->pipeline);
    node->pipeline = NULL;
    mr_data_close(&node->data);
    MR_ASSERT(!node->checkpoint_asked); /* closing answers everything */
    cluster_clients_reclaim(node, failed);
}

void cluster_life_close(struct cluster_node *node) {
    if (node->pipeline != NULL) {
        stop(node);
    }
    mr_results_close(node->results);
    mr_free(node->rules);
    mr_plan_close(node->plan);
    mr_config_close(node->config);
    virtual_disk_close(node->disk);
}

/* ---- start ---- */

static enum mr_status open_all(struct cluster_node *node, struct mr_error *error) {
    struct cluster_world *w = node->world;
    struct mr_data_options options = {
        .disk = virtual_disk_disk(node->disk),
        .clock = &w->clock.base,
        .config = node->config,
        .open_results = lend_results,
        .close_results = take_back,
        .ctx = node,
        .transports = w->transports,
        .seed = sim_next(&w->random) | 1,
    };
    enum mr_status status = mr_data_open(&options, &node->data, error);
    if (status == MR_OK) {
        status = mr_data_pipeline(&node->data, &node->pipeline, error);
        if (status != MR_OK) {
            node->pipeline = NULL;
            mr_data_close(&node->data);
        }
    }
    return status;
}

static void count_start(struct cluster_node *node) {
    struct cluster_world *w = node->world;
    const struct mr_manifest *newest = &node->data.restored.newest;
    w->probes[CLUSTER_PROBE_FROM_CHECKPOINT] += newest->number != 0;
    w->probes[CLUSTER_PROBE_UNDECIDED_IN_CHECKPOINT] += newest->number != 0 && newest->needed_lsn <= newest->lsn;
    w->probes[CLUSTER_PROBE_TAIL_CUT] += mr_counter_read(&mr_log_stats(node->data.log)->torn_bytes) > 0;
}

void cluster_life_start(struct cluster_node *node) {
    struct cluster_world *w = node->world;
    struct mr_error error = {.text = ""};
    enum mr_status status = open_all(node, &error);
    if (status == MR_OK) {
        node->starts++;
        node->won = 0;
        node->canary_was_lost = false;
        cluster_say(w, node->index, "started, from checkpoint", node->data.restored.newest.number);
        count_start(node);
        return;
    }
    cluster_say(w, node->index, "no start, status", status);
    if (status == MR_CORRUPT || status == MR_MISMATCH) {
        CLUSTER_FAILS("n%u refused to start: %s", node->index, error.text); /* a crash is never corruption */
    }
    cluster_faults_clear_node(node);
    virtual_disk_crash(node->disk); /* power was cut in the start, or the disk failed once */
    node->down_until_ns = w->clock.mono_ns + 50000000;
}

/* ---- crash ---- */

void cluster_life_crash(struct cluster_node *node, const struct cluster_crash *crash) {
    struct cluster_world *w = node->world;
    bool power = crash->power || !virtual_disk_power(node->disk);
    w->crashes++;
    cluster_trace(w, 0xc0 + power);
    cluster_say(w, node->index, "crash, power", power);
    w->probes[CLUSTER_PROBE_CRASH_IN_REPLAY] +=
        !mr_pipeline_live(node->pipeline) && mr_pipeline_failure(node->pipeline, NULL) == MR_OK;
    stop(node);
    mr_memory_results_crash(node->results);
    cluster_faults_clear_node(node);
    if (power) {
        virtual_disk_crash(node->disk);
    }
    node->disk_failed = false;
    node->down_until_ns = w->clock.mono_ns + crash->away_ns;
    if (crash->cut_nth > 0) {
        virtual_disk_cut_power(node->disk, crash->cut_nth);
    }
    if (crash->away_ns == 0) {
        cluster_life_start(node);
    }
}

bool cluster_life_must_restart(const struct cluster_node *node) {
    struct mr_error error = {.text = ""};
    enum mr_status status = mr_pipeline_failure(node->pipeline, &error);
    if (status == MR_CORRUPT || status == MR_MISMATCH || status == MR_FULL || status == MR_NOT_FOUND) {
        CLUSTER_FAILS("n%u failed: %s", node->index, error.text);
    }
    return status != MR_OK || !virtual_disk_power(node->disk) || mr_log_failed(node->data.log) ||
           mr_log_failed(node->data.dead);
}

/* ---- steps ---- */

static bool step(struct cluster_node *node, uint32_t station) {
    if (node->no_memory_steps == 0) {
        return mr_pipeline_step(node->pipeline, station);
    }
    node->no_memory_steps--;
    mr_alloc_fail_at(1 + sim_below(&node->world->random, 6), 0);
    bool worked = mr_pipeline_step(node->pipeline, station);
    mr_alloc_fail_at(0, 0);
    if (mr_pipeline_failure(node->pipeline, NULL) == MR_NO_MEMORY) {
        cluster_hit(node->world, CLUSTER_PROBE_NO_MEMORY);
        node->no_memory_steps = 0;
    }
    return worked;
}

static void look_at_claims(struct cluster_node *node) {
    const struct mr_claims *claims = claims_of(node);
    if (claims == NULL) {
        return;
    }
    struct mr_claims_stats stats;
    mr_claims_stats(claims, &stats);
    cluster_check_claims(node, &stats);
}

bool cluster_life_run(struct cluster_node *node, uint32_t station) {
    bool was_live = mr_pipeline_live(node->pipeline);
    bool worked = step(node, station);
    if (!was_live && mr_pipeline_live(node->pipeline)) {
        uint64_t pending = 0;
        for (uint32_t i = 0; i < node->data.plan->stream_count; i++) {
            struct mr_stream_stats stats;
            mr_pipeline_stream_stats(node->pipeline, i, &stats);
            pending += stats.pending;
        }
        cluster_say(node->world, node->index, "live, pending", pending);
        node->world->probes[CLUSTER_PROBE_UNDECIDED_AT_START] += pending > 0;
    }
    if (station + 1 == mr_pipeline_stations(node->pipeline)) {
        look_at_claims(node);
    }
    return worked;
}

void cluster_life_settle(struct cluster_node *node, bool claimer) {
    uint32_t stations = mr_pipeline_stations(node->pipeline) - !claimer;
    uint32_t quiet = 0;
    for (uint32_t n = 0; quiet < QUIET_ROUNDS && !cluster_life_must_restart(node); n++) {
        MR_ASSERT(n < STEPS_MAX);
        bool worked = !mr_pipeline_live(node->pipeline);
        uint32_t first = (uint32_t)sim_below(&node->world->random, stations);
        for (uint32_t i = 0; i < stations; i++) {
            worked = cluster_life_run(node, (first + i) % stations) || worked;
        }
        quiet = worked ? 0 : quiet + 1;
    }
}

static void asked(struct mr_ask *ask, void *ctx) {
    (void)ask;
    *(bool *)ctx = true;
}

void cluster_life_ask(struct cluster_node *node, struct mr_ask *ask) {
    bool done = false;
    ask->done = asked;
    ask->ctx = &done;
    bool sent = mr_pipeline_ask(node->pipeline, ask);
    MR_ASSERT(sent);
    uint32_t n = 0;
    while (!done) {
        MR_ASSERT(n < STEPS_MAX);
        if (++n % 1000 == 0) {
            cluster_world_pass_time(node->world, 100); /* the flusher may be waiting to try again */
        }
        (void)cluster_life_run(node, (uint32_t)sim_below(&node->world->random, mr_pipeline_stations(node->pipeline)));
    }
    MR_ASSERT(!ask->closed);
}

/* ---- the same again ---- */

/* The sequencer goes no further than replay: it would tick. */
static void replay(struct mr_pipeline *pipeline, struct cluster_clock *clock, const char *what) {
    uint32_t quiet = 0;
    uint32_t stations = mr_pipeline_stations(pipeline) - 1; /* not the claimer */
    for (uint32_t n = 0; quiet < QUIET_ROUNDS; n++) {
        MR_ASSERT(n < STEPS_MAX);
        bool worked = false;
        for (uint32_t i = mr_pipeline_live(pipeline); i < stations; i++) {
            worked = mr_pipeline_step(pipeline, i) || worked;
        }
        bool live = mr_pipeline_live(pipeline);
        quiet = worked || !live ? 0 : quiet + 1;
        if (!worked && live) { /* the flusher waits for more */
            clock->wall_ms += 1000;
            clock->mono_ns += 1000000000;
        }
        struct mr_error error;
        if (mr_pipeline_failure(pipeline, &error) != MR_OK) {
            CLUSTER_FAILS("%s failed: %s", what, error.text);
        }
    }
}

void cluster_life_restart_quietly(struct cluster_node *node) {
    cluster_faults_clear_node(node);
    if (node->pipeline == NULL || node->disk_failed || cluster_life_must_restart(node)) {
        return;
    }
    cluster_life_settle(node, true);
    if (cluster_life_must_restart(node)) {
        return;
    }
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    cluster_life_ask(node, &flush);
    cluster_life_settle(node, true);
    cluster_check_outage(node);
    struct cluster_ledger before;
    struct cluster_ledger after;
    cluster_check_ledger(node->pipeline, &before);
    struct cluster_crash crash = {.power = sim_one_in(&node->world->random, 2)};
    cluster_life_crash(node, &crash);
    MR_ASSERT(node->pipeline != NULL);
    replay(node->pipeline, &node->world->clock, "a restart");
    cluster_check_ledger(node->pipeline, &after);
    cluster_check_same(node, &before, &after, true, "a restart");
    cluster_hit(node->world, CLUSTER_PROBE_QUIET_RESTART);
}

void cluster_life_compare_twin(struct cluster_node *node) {
    struct cluster_node *twin = calloc(1, sizeof *twin);
    struct cluster_clock clock = node->world->clock;
    MR_ASSERT(twin != NULL);
    *twin = (struct cluster_node){.world = node->world, .index = node->index, .config = node->config,
                                  .plan = node->plan, .rules = node->rules};
    twin->disk = cluster_check_bare_disk(node);
    twin->results = open_results(twin);
    struct mr_data_options options = {.disk = virtual_disk_disk(twin->disk),
                                      .clock = &clock.base,
                                      .config = twin->config,
                                      .open_results = lend_results,
                                      .close_results = take_back,
                                      .ctx = twin};
    struct mr_error error;
    enum mr_status status = mr_data_open(&options, &twin->data, &error);
    status = status == MR_OK ? mr_data_pipeline(&twin->data, &twin->pipeline, &error) : status;
    if (status != MR_OK) {
        CLUSTER_FAILS("n%u cannot be made again from its log: %s", node->index, error.text);
    }
    replay(twin->pipeline, &clock, "a replay of the whole log");
    struct cluster_ledger run;
    struct cluster_ledger again;
    cluster_check_ledger(node->pipeline, &run);
    cluster_check_ledger(twin->pipeline, &again);
    cluster_check_same(node, &run, &again, false, "a replay of the whole log");
    cluster_check_rows_equal(node, twin);
    mr_pipeline_close(twin->pipeline);
    mr_data_close(&twin->data);
    mr_results_close(twin->results);
    virtual_disk_close(twin->disk);
    free(twin);
    cluster_hit(node->world, CLUSTER_PROBE_TWIN);
}

/* ---- questions ---- */

bool cluster_life_has_outage(const struct cluster_node *node) {
    return node->pipeline->claimer.stores != NULL && node->pipeline->claimer.stores[STORE].outage;
}

bool cluster_life_is_strict(const struct cluster_node *node) {
    struct mr_store_stats store;
    mr_pipeline_store_stats(node->pipeline, STORE, &store);
    return store.strict;
}

bool cluster_life_has_decided_all(const struct cluster_node *node) {
    if (node->pipeline == NULL || !mr_pipeline_live(node->pipeline) || cluster_life_must_restart(node)) {
        return false;
    }
    bool all = cluster_life_is_strict(node) && !node->pipeline->claimer.stores[STORE].assertion.on;
    for (uint32_t i = 0; i < node->data.plan->stream_count; i++) {
        struct mr_stream_stats stats;
        mr_pipeline_stream_stats(node->pipeline, i, &stats);
        all = all && stats.pending == 0;
    }
    return all;
}

void cluster_life_explain(const struct cluster_node *node) {
    if (node->pipeline == NULL) {
        (void)fprintf(stderr, "n%u: does not run\n", node->index);
        return;
    }
    struct mr_store_stats store;
    struct mr_error error = {.text = ""};
    mr_pipeline_store_stats(node->pipeline, STORE, &store);
    (void)mr_pipeline_failure(node->pipeline, &error);
    (void)fprintf(stderr, "n%u: live %d failure \"%s\" strict %d reason \"%s\" outage %d waiting %" PRIu64,
                  node->index, mr_pipeline_live(node->pipeline), error.text, store.strict, store.reason,
                  cluster_life_has_outage(node), store.claims.waiting);
    for (uint32_t i = 0; i < node->data.plan->stream_count; i++) {
        struct mr_stream_stats stats;
        mr_pipeline_stream_stats(node->pipeline, i, &stats);
        (void)fprintf(stderr, "\n    s%u pending %" PRIu64 " received %" PRIu64, i, stats.pending, stats.received);
        const struct mr_claimer_stream *s = &node->pipeline->claimer.streams[i];
        const struct mr_undecided *undecided = &node->pipeline->sequencer.undecided[i];
        (void)fprintf(stderr, ", records %" PRIu64 " to %" PRIu64 "; claimer reads %" PRIu64 " to %" PRIu64 "%s%s",
                      undecided->first_lsn, undecided->last_lsn, s->cursor_lsn, s->shed_lsn,
                      s->first != NULL ? ", has some" : "", s->stuck != NULL ? ", is stuck" : "");
    }
    (void)fprintf(stderr, "\n    batches with it %u\n", cluster_clients_under_way(node));
}
