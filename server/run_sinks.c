/* SPDX-License-Identifier: Apache-2.0 */
#include "server/run_sinks.h"

#include "server/transport.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

enum { LOOK_NS = 10 * 1000 * 1000 };
static const uint64_t say_every_ns = UINT64_C(2000000000);

enum mr_status mr_run_sinks_open(struct mr_run_sinks *run, const struct mr_plan *plan,
                                 const struct mr_results_rule *rules, struct mr_results *results,
                                 struct mr_error *error) {
    const struct mr_config *config = plan->config;
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < config->sink_count; i++) {
        status = mr_transport_open(&config->stores[config->sinks[i].store], &run->transports[i], error);
    }
    if (status != MR_OK || config->sink_count == 0) {
        return status;
    }
    struct mr_sinks_options options = {
        .plan = plan,
        .results_rules = rules,
        .results = results,
        .transports = run->transports,
        .clock = mr_clock_system(),
    };
    status = mr_sinks_open(&options, &run->sinks, error);
    if (status == MR_OK && mr_sinks_start(run->sinks) != MR_OK) {
        status = mr_error_set(error, MR_NO_MEMORY, "cannot start the threads of sinks");
    }
    return status;
}

static void say_waiting(struct mr_run_sinks *run, uint32_t sink) {
    struct mr_sink_stats stats;
    mr_sinks_stats(run->sinks, sink, &stats);
    bool failing = stats.failing_since_ms != 0;
    (void)fprintf(stderr, "waiting for sink %.*s: %s%s%" PRIu64 " rows sent\n", (int)stats.name.len,
                  (const char *)stats.name.ptr, failing ? stats.reason : "", failing ? ", " : "",
                  stats.applied + stats.there_already);
}

void mr_run_sinks_wait(struct mr_run_sinks *run) {
    const struct timespec look = {.tv_nsec = LOOK_NS};
    uint64_t said_ns = mr_clock_mono_ns(mr_clock_system());
    mr_sinks_flush(run->sinks);
    for (uint32_t i = 0; i < mr_sinks_count(run->sinks);) {
        if (mr_sinks_idle(run->sinks, i)) {
            i++;
            continue;
        }
        (void)nanosleep(&look, NULL); /* sooner is fine */
        uint64_t now_ns = mr_clock_mono_ns(mr_clock_system());
        if (now_ns - said_ns >= say_every_ns) {
            said_ns = now_ns;
            say_waiting(run, i);
        }
    }
}

void mr_run_sinks_close(struct mr_run_sinks *run) {
    mr_sinks_stop(run->sinks);
    mr_sinks_close(run->sinks);
    for (uint32_t i = 0; i < MR_SINKS_MAX; i++) {
        mr_redis_transport_finish(run->transports[i]);
    }
    *run = (struct mr_run_sinks){0};
}
