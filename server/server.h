/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Server: the process' parts that routes use, and its life: open, start, drain, stop.
 *
 * Owner       main opens it over an opened pipeline; it owns the http daemon, the workers and the reaper.
 * Threads     Fields are constant after open but for the counters.
 */
#include "base/counters.h"
#include "base/histogram.h"
#include "config/config.h"
#include "pipeline/datadir.h"
#include "pipeline/pipeline.h"
#include "pipeline/sinks.h"
#include "sink/results.h"

#include <pthread.h>

#define MR_ROUTES_MAX 64
#define MR_QUERY_WORKERS 2

struct mr_http;
struct mr_replays;

/* Per route; written by many threads (mr_counter_add_shared). code class: 0 is 1xx … 4 is 5xx. */
struct mr_route_stats {
    mr_counter requests[5];
    struct mr_histogram duration_ns;
};

struct mr_server {
    const struct mr_config *config;
    const struct mr_plan *plan;
    struct mr_pipeline *pipeline;
    struct mr_results *results;
    const struct mr_datadir *datadir;
    struct mr_sinks *sinks; /* NULL: none */
    struct mr_replays *replays; /* NULL: no routes of them are asked */
    struct mr_clock *clock;
    struct mr_http *http;
    int64_t started_ms;
    pthread_mutex_t dead_lock; /* guards dead_marks, which queries read on with */
    struct mr_dead_marks dead_marks;
    _Atomic bool draining; /* set by mr_server_drain, read by readyz and ingest; relaxed: orders nothing */

    mr_counter in_flight_bytes; /* charged as bodies arrive, freed when answered */
    mr_counter connections;
    mr_counter refused_in_flight; /* 503 for limits.in_flight */
    mr_counter refused_queue;
    mr_counter feeds_open;                /* event streams: server/feeds.h */
    mr_counter feed_panes[MR_RULES_MAX]; /* sent to them, by rule */
    mr_counter body_bytes;     /* received, as sent */
    mr_counter inflated_bytes;
    struct mr_route_stats routes[MR_ROUTES_MAX]; /* as mr_routes; at mr_route_count: requests without a route */
};

struct mr_server_options {
    const struct mr_config *config;
    const struct mr_plan *plan;
    struct mr_pipeline *pipeline;
    struct mr_results *results;
    const struct mr_datadir *datadir;
    struct mr_sinks *sinks; /* NULL: none */
    struct mr_replays *replays; /* NULL: no routes of them are asked */
    struct mr_clock *clock;
};

/* Opens the port (config http.listen). MR_INVALID: unreadable or bad certificate; MR_BUSY: the port is in use;
 * MR_IO. With a text. */
enum mr_status mr_server_open(const struct mr_server_options *options, struct mr_server **ret,
                              struct mr_error *error) MR_MUST_CHECK;
/* The port really listened on (http.listen may say 0). */
uint16_t mr_server_port(const struct mr_server *server);
/* readyz says 503, no new connections, requests in flight are answered. Returns when they are, or after
 * timeout_ms. */
void mr_server_drain(struct mr_server *server, int64_t timeout_ms);
void mr_server_close(struct mr_server *server); /* NULL is fine */

/* Who waits for the pipeline gives up now. */
bool mr_server_is_closing(const struct mr_server *server);

/* Sends a question to the pipeline and waits for its answer. For WORKER handlers only. MR_BUSY: too many
 * questions at once; MR_CLOSED: draining. The caller finishes ask->results[i].rows for i < shards. */
enum mr_status mr_server_ask(struct mr_server *server, struct mr_ask *ask) MR_MUST_CHECK;
