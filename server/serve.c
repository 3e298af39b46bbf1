/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serve: the life of a server process.
 *
 *     load → promote what is marked → open data → open results → start pipeline → replay → open the port
 *          → … SIGTERM → drain → stop
 *
 * The port opens when replay is over: until then a client's connection is refused, which every client retries.
 */
#include "base/check.h"
#include "base/report.h"
#include "pipeline/data.h"
#include "pipeline/sinks.h"
#include "server/cli.h"
#include "server/replay_mark.h"
#include "server/replays.h"
#include "server/server.h"
#include "server/transport.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    DRAIN_MS = 30 * 1000,
    SINKS_MS = 5 * 1000, /* for sinks that work to take the last results; the others get them at the next start */
};

struct process {
    struct mr_config *config;
    struct mr_redis_transport *transports[MR_STORES_MAX]; /* by store of the configuration */
    struct mr_redis_transport *sink_transports[MR_SINKS_MAX];
    struct mr_data data;
    struct mr_pipeline *pipeline;
    struct mr_sinks *sinks;
    struct mr_replays *replays;
    struct mr_server *server;
};

/* All threads inherit the mask, so that only the main thread's sigtimedwait sees these. */
static sigset_t block_signals(void) {
    sigset_t set;
    int failed = sigemptyset(&set);
    failed |= sigaddset(&set, SIGTERM);
    failed |= sigaddset(&set, SIGINT);
    failed |= sigaddset(&set, SIGHUP);
    failed |= pthread_sigmask(SIG_BLOCK, &set, NULL);
    MR_ASSERT(failed == 0);
    return set;
}

static enum mr_status open_transports(struct process *p, struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < p->config->store_count; i++) {
        status = mr_transport_open(&p->config->stores[i], &p->transports[i], error);
    }
    for (uint32_t i = 0; status == MR_OK && i < p->config->sink_count; i++) {
        const struct mr_config_store *store = &p->config->stores[p->config->sinks[i].store];
        status = mr_transport_open(store, &p->sink_transports[i], error);
    }
    return status;
}

static enum mr_status open_data(struct process *p, struct mr_error *error) {
    enum mr_status status = mr_replay_promote_marked(p->config, error);
    if (status == MR_OK) {
        status = open_transports(p, error);
    }
    if (status != MR_OK) {
        return status;
    }
    struct mr_data_options options = {
        .disk = mr_disk_system(),
        .clock = mr_clock_system(),
        .config = p->config,
        .open_results = mr_data_open_sqlite,
        .close_results = mr_data_close_sqlite,
        .ctx = p,
        .transports = p->transports,
    };
    return mr_data_open(&options, &p->data, error);
}

static enum mr_status open_pipeline(struct process *p, struct mr_error *error) {
    enum mr_status status = mr_data_pipeline(&p->data, &p->pipeline, error);
    if (status == MR_OK && mr_pipeline_start(p->pipeline) != MR_OK) {
        status = mr_error_set(error, MR_NO_MEMORY, "cannot start the pipeline's threads");
    }
    return status;
}

static enum mr_status open_sinks(struct process *p, struct mr_error *error) {
    if (p->config->sink_count == 0) {
        return MR_OK;
    }
    struct mr_sinks_options options = {
        .plan = p->data.plan,
        .results_rules = p->data.results_rules,
        .results = p->data.results,
        .transports = p->sink_transports,
        .clock = mr_clock_system(),
        .dir = &p->data.dir,
    };
    enum mr_status status = mr_sinks_open(&options, &p->sinks, error);
    if (status == MR_OK && mr_sinks_start(p->sinks) != MR_OK) {
        status = mr_error_set(error, MR_NO_MEMORY, "cannot start the threads of sinks");
    }
    return status;
}

/* One signal, or 0 after a while. */
static int wait_signal(const sigset_t *set, long wait_ms) {
    struct timespec timeout = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000};
    int signal_number = sigtimedwait(set, NULL, &timeout);
    return signal_number > 0 ? signal_number : 0;
}

static bool is_stop(int signal_number) {
    return signal_number == SIGTERM || signal_number == SIGINT;
}

/* All that was read has passed the shards, too: so counters are whole from the first answer on. */
static bool is_replayed(const struct process *p) {
    if (!mr_pipeline_live(p->pipeline)) {
        return false; /* first: until then last_seq moves */
    }
    struct mr_pipeline_stats stats;
    mr_pipeline_stats(p->pipeline, &stats);
    return stats.processed_seq >= stats.last_seq;
}

/* Replays, saying how far it is; MR_CLOSED when told to stop meanwhile. */
static enum mr_status wait_live(struct process *p, const sigset_t *set, struct mr_error *error) {
    struct mr_pipeline_stats stats;
    uint64_t last_said_ns = mr_clock_mono_ns(mr_clock_system());
    while (!is_replayed(p)) {
        if (is_stop(wait_signal(set, 20))) {
            return mr_error_set(error, MR_CLOSED, "stopped during replay");
        }
        enum mr_status failed = mr_pipeline_failure(p->pipeline, error);
        if (failed != MR_OK) {
            return failed;
        }
        uint64_t now_ns = mr_clock_mono_ns(mr_clock_system());
        if (now_ns - last_said_ns > 2000000000u) {
            last_said_ns = now_ns;
            mr_pipeline_stats(p->pipeline, &stats);
            mr_report(MR_LEVEL_INFO, "replaying", "bundles=%" PRIu64 " events=%" PRIu64,
                      stats.replayed_bundles, stats.replayed_events);
        }
    }
    mr_pipeline_stats(p->pipeline, &stats);
    mr_report(MR_LEVEL_INFO, "replayed",
              "bundles=%" PRIu64 " events=%" PRIu64 " checkpoint=%" PRIu64 " from_seq=%" PRIu64
              " torn_bytes=%" PRIu64,
              stats.replayed_bundles, stats.replayed_events, p->data.restored.newest.number,
              p->data.restored.newest.seq,
              mr_counter_read(&mr_log_stats(p->data.log)->torn_bytes));
    return MR_OK;
}

static enum mr_status open_replays(struct process *p, struct mr_error *error) {
    struct mr_replays_options options = {
        .disk = mr_disk_system(),
        .data_dir = p->data.dir.path,
        .keep_free_bytes = 2 * p->config->log.reserve_bytes,
    };
    return mr_replays_open(&options, &p->replays, error);
}

static enum mr_status open_server(struct process *p, struct mr_error *error) {
    struct mr_server_options options = {
        .config = p->config,
        .plan = p->data.plan,
        .pipeline = p->pipeline,
        .results = p->data.results,
        .datadir = &p->data.dir,
        .sinks = p->sinks,
        .replays = p->replays,
        .clock = mr_clock_system(),
    };
    enum mr_status status = mr_server_open(&options, &p->server, error);
    if (status != MR_OK) {
        return status;
    }
    const struct mr_bytes host = p->config->http.host;
    bool ipv6 = memchr(host.ptr, ':', host.len) != NULL;
    mr_report(MR_LEVEL_INFO, "listening",
              "url=%s://%s%.*s%s:%u streams=%u rules=%u shards=%u data_dir=%s version=" MR_VERSION,
              p->config->http.tls ? "https" : "http", ipv6 ? "[" : "", (int)host.len,
              (const char *)host.ptr, ipv6 ? "]" : "", mr_server_port(p->server),
              p->config->stream_count, p->config->rule_count, p->config->node.shards,
              p->data.dir.path);
    return MR_OK;
}

/* Until a signal says stop, or the pipeline cannot go on. */
static enum mr_status watch(struct process *p, const sigset_t *set, struct mr_error *error) {
    for (;;) {
        int signal_number = wait_signal(set, 1000);
        if (is_stop(signal_number)) {
            mr_report(MR_LEVEL_INFO, "draining", "signal=%d", signal_number);
            return MR_OK;
        }
        if (signal_number == SIGHUP) {
            mr_report(MR_LEVEL_WARN, "reload_ignored", "reason=\"known, not in this version\"");
        }
        enum mr_status failed = mr_pipeline_failure(p->pipeline, error);
        if (failed != MR_OK) {
            return failed;
        }
    }
}

static bool sinks_have_work(struct process *p) {
    for (uint32_t i = 0; i < mr_sinks_count(p->sinks); i++) {
        struct mr_sink_stats stats;
        mr_sinks_stats(p->sinks, i, &stats);
        if (!mr_sinks_idle(p->sinks, i) && stats.failing_since_ms == 0) {
            return true;
        }
    }
    return false;
}

static void drain_sinks(struct process *p, const sigset_t *set) {
    uint64_t until_ns = mr_clock_mono_ns(mr_clock_system()) + (uint64_t)SINKS_MS * 1000000;
    mr_sinks_flush(p->sinks);
    while (sinks_have_work(p) && mr_clock_mono_ns(mr_clock_system()) < until_ns) {
        if (is_stop(wait_signal(set, 10))) {
            break; /* told twice */
        }
    }
    mr_sinks_stop(p->sinks);
}

static void shut_down(struct process *p, const sigset_t *set) {
    mr_replays_stop(p->replays);
    if (p->server != NULL) {
        mr_server_drain(p->server, DRAIN_MS);
    }
    if (p->pipeline != NULL) {
        mr_pipeline_stop(p->pipeline);
    }
    if (p->sinks != NULL) {
        drain_sinks(p, set);
    }
    mr_server_close(p->server);
    mr_replays_close(p->replays);
    mr_sinks_close(p->sinks);
    mr_pipeline_close(p->pipeline);
    mr_data_close(&p->data);
    for (uint32_t i = 0; i < MR_STORES_MAX; i++) {
        mr_redis_transport_finish(p->transports[i]);
    }
    for (uint32_t i = 0; i < MR_SINKS_MAX; i++) {
        mr_redis_transport_finish(p->sink_transports[i]);
    }
    mr_config_close(p->config);
}

static enum mr_status run_process(struct process *p, const sigset_t *set, struct mr_error *error) {
    enum mr_status status = open_data(p, error);
    if (status == MR_OK) {
        status = open_pipeline(p, error);
    }
    if (status == MR_OK) {
        status = open_sinks(p, error);
    }
    if (status == MR_OK) {
        status = wait_live(p, set, error);
    }
    if (status == MR_OK) {
        status = open_replays(p, error);
    }
    if (status == MR_OK) {
        status = open_server(p, error);
    }
    return status == MR_OK ? watch(p, set, error) : status;
}

int mr_cli_serve(const struct mr_cli *cli) {
    struct process p = {0};
    int code = mr_cli_load(cli, &p.config);
    if (code != MR_EXIT_OK) {
        return code;
    }
    sigset_t set = block_signals();
    struct mr_error error;
    enum mr_status status = run_process(&p, &set, &error);
    if (p.pipeline != NULL && mr_pipeline_failure(p.pipeline, NULL) != MR_OK) {
        /* Stations are stuck in the middle of things; the log has all that was acknowledged. */
        (void)fflush(stderr);
        _Exit(error.status == MR_FULL || error.status == MR_MISMATCH ? MR_EXIT_CONFIG
                                                                     : MR_EXIT_FAILURE);
    }
    shut_down(&p, &set);
    if (status != MR_OK && status != MR_CLOSED) {
        return mr_cli_failed(&error);
    }
    mr_report(MR_LEVEL_INFO, "stopped", "reason=signal");
    return MR_EXIT_OK;
}
