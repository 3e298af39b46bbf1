/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics: GET /metrics. Tables say which there are; names, help and values stand side by side.
 *
 * Cardinality: labels are names from the configuration, patterns of the route table and our own words, never
 * anything that a client sent. A token that is bound to streams sees those and their rules.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "server/exposition.h"
#include "server/process.h"
#include "server/reply.h"
#include "server/routes.h"

/* X(type, name, help, value); s: struct mr_stream_stats */
#define STREAM_METRICS(X)                                                                          \
    X(COUNTER, "millrace_events_received_total", "Events in the log, counted at the append.",      \
      s->received)                                                                                 \
    X(COUNTER, "millrace_events_future_total",                                                     \
      "Events further ahead than max_future; part of verdict late.", s->future)                    \
    X(COUNTER, "millrace_events_observed_duplicates_total",                                        \
      "Duplicates that dedup mode observe counted and did not remove.", s->observed_duplicates)    \
    X(COUNTER, "millrace_events_conflicts_total",                                                  \
      "Duplicates with another content than what came first (dedup.conflicts); part of verdict duplicate.", \
      s->conflicts)                                                                                \
    X(GAUGE, "millrace_dedup_ids", "Ids remembered.", s->dedup_ids)                                \
    X(GAUGE, "millrace_dedup_bytes", "Memory for remembered ids.", s->dedup_bytes)                 \
    X(COUNTER, "millrace_dedup_evicted_total", "Ids forgotten before their horizon, for room.",    \
      s->dedup_evicted)                                                                            \
    X(COUNTER, "millrace_dedup_expired_total", "Ids forgotten behind their horizon.",              \
      s->dedup_expired)                                                                            \
    X(GAUGE, "millrace_dedup_error_ratio",                                                         \
      "Estimated share of new ids taken for duplicates (mode bloom).", s->dedup_error)             \
    X(GAUGE, "millrace_dedup_fill_ratio", "Fill of the fullest shard's table or filter.",          \
      s->dedup_fill)                                                                               \
    X(GAUGE, "millrace_events_pending",                                                            \
      "Events in the log whose ids a shared store has not decided yet.", s->pending)                \
    X(COUNTER, "millrace_events_local_total",                                                      \
      "Events whose ids this node decided alone, the shared store being away (outage local).", s->local)

#define STREAM_VERDICTS(X)                                                                         \
    X("accepted", s->accepted)                                                                     \
    X("duplicate", s->duplicate)                                                                   \
    X("late", s->late)                                                                             \
    X("rejected", s->rejected)

/* c: struct mr_claims_stats; of streams with dedup mode redis */
#define STORE_METRICS(X)                                                                           \
    X(GAUGE, "millrace_store_strict", "1: the store can be believed; 0: see /readyz.",             \
      (uint64_t)stores[i].strict)                                                                  \
    X(COUNTER, "millrace_claims_commands_total", "Commands sent with claims.", c->commands)        \
    X(COUNTER, "millrace_claims_repeated_total", "Of them, sent again: no verdict came.",          \
      c->repeated)                                                                                 \
    X(COUNTER, "millrace_claims_ids_total", "Ids claimed, repeats included.", c->ids)              \
    X(GAUGE, "millrace_claims_waiting", "Claims of records not decided yet.", c->waiting)          \
    X(COUNTER, "millrace_claims_repaired_total",                                                   \
      "Claims the store had lost, asserted again from this node's log.", c->repaired)              \
    X(COUNTER, "millrace_claims_counted_twice_total",                                              \
      "Claims the store had lost or was not asked for that another node has: at most so many counted twice.", \
      c->counted_twice)                                                                            \
    X(COUNTER, "millrace_store_lost_total", "Times the store was found to have lost data.",        \
      c->watch.lost)                                                                               \
    X(COUNTER, "millrace_store_suspected_total", "Restarts and failovers of the store's servers.", \
      c->watch.suspected)                                                                          \
    X(COUNTER, "millrace_store_connects_total", "Connections made.", c->redis.connects)            \
    X(COUNTER, "millrace_store_failures_total", "Connections that broke.", c->redis.failures)      \
    X(COUNTER, "millrace_store_timeouts_total", "Of them, because a reply did not come.",          \
      c->redis.timeouts)

/* s: struct mr_sink_stats */
#define SINK_METRICS(X)                                                                            \
    X(GAUGE, "millrace_sink_lag_rows", "Panes that have not arrived at the sink.", s->lag_rows)    \
    X(GAUGE, "millrace_sink_copying", "1: all rows are copied first.", (uint64_t)s->copying)       \
    X(GAUGE, "millrace_sink_failing", "1: the sink is away or refuses; see the log.",              \
      (uint64_t)(s->failing_since_ms != 0))                                                        \
    X(COUNTER, "millrace_sink_rows_total", "Rows that the sink took.", s->applied)                 \
    X(COUNTER, "millrace_sink_rows_there_total", "Rows it had already, or newer ones.",            \
      s->there_already)                                                                            \
    X(COUNTER, "millrace_sink_rows_refused_total",                                                 \
      "Rows given up: a key of somebody else, or a later epoch.", s->refused)                      \
    X(COUNTER, "millrace_sink_errors_total", "Answers that were errors, and connections that broke.", s->errors) \
    X(COUNTER, "millrace_sink_reconnects_total", "Connections made again.", s->reconnects)

/* r: struct mr_rule_stats */
#define RULE_METRICS(X)                                                                            \
    X(COUNTER, "millrace_rule_overflow_events_total",                                              \
      "Events merged into the overflow group; part of outcome applied.", r->overflow)              \
    X(GAUGE, "millrace_windows_open", "Windows not final yet, summed over shards.", r->windows)    \
    X(GAUGE, "millrace_groups", "Groups in windows not final yet.", r->groups)                     \
    X(GAUGE, "millrace_groups_bytes", "Memory for these groups.", r->bytes)                        \
    X(COUNTER, "millrace_panes_total", "Panes fired.", r->panes)

#define RULE_OUTCOMES(X)                                                                           \
    X("applied", r->applied)                                                                       \
    X("filtered", r->filtered)                                                                     \
    X("late", r->late)                                                                             \
    X("dropped", r->dropped)

/* p: struct mr_pipeline_stats; h: struct mr_server */
#define SERVER_METRICS(X)                                                                          \
    X(GAUGE, "millrace_system_lag_seconds", "Age of the oldest record not fully processed.",       \
      (double)p->system_lag_ms / 1e3)                                                              \
    X(COUNTER, "millrace_bundles_total", "Group commits dispatched.", p->bundles)                  \
    X(COUNTER, "millrace_batches_total", "Requests' batches appended.", p->batches)                \
    X(GAUGE, "millrace_submit_queue_batches", "Batches waiting for the sequencer.",                \
      p->submit_queue)                                                                             \
    X(GAUGE, "millrace_flush_lag_bundles", "Bundles combined and not yet in the results store.",   \
      p->processed_seq > p->flushed_seq ? p->processed_seq - p->flushed_seq : UINT64_C(0))         \
    X(COUNTER, "millrace_results_panes_total", "Panes written to the results store.",              \
      p->flush_panes)                                                                              \
    X(COUNTER, "millrace_results_commits_total", "Commits of the results store.",                  \
      p->flush_commits)                                                                            \
    X(COUNTER, "millrace_results_errors_total", "Failed writes to the results store, retried.",    \
      p->flush_errors)                                                                             \
    X(COUNTER, "millrace_dead_letters_total", "Entries written to the dead-letter log.",           \
      p->dead_letters)                                                                             \
    X(COUNTER, "millrace_dead_letters_segments_removed_total",                                     \
      "Segments of the dead-letter log that retention removed.", p->dead_segments_removed)         \
    X(COUNTER, "millrace_replayed_bundles_total", "Bundles replayed at this start.",               \
      p->replayed_bundles)                                                                         \
    X(COUNTER, "millrace_replayed_events_total", "Events replayed at this start.",                 \
      p->replayed_events)                                                                          \
    X(COUNTER, "millrace_clock_jumps_total", "Jumps of the wall clock that were not followed.",    \
      p->clock_jumps)                                                                              \
    X(COUNTER, "millrace_checkpoint_total", "Checkpoints made since the start.", p->checkpoints)    \
    X(COUNTER, "millrace_checkpoint_failures_total", "Checkpoints given up, to be made later.",    \
      p->checkpoint_failures)                                                                      \
    X(GAUGE, "millrace_checkpoint_seq", "Bundle up to which the newest checkpoint reaches.",       \
      p->checkpoint_seq)                                                                           \
    X(GAUGE, "millrace_checkpoint_timestamp_seconds", "Recorded time of that bundle.",             \
      (double)p->checkpoint_recorded_ms / 1e3)                                                     \
    X(GAUGE, "millrace_checkpoint_duration_seconds", "How long the newest one took.",              \
      (double)p->checkpoint_duration_ns / 1e9)                                                     \
    X(GAUGE, "millrace_checkpoint_bytes", "Size of the newest one on disk.", p->checkpoint_bytes)  \
    X(GAUGE, "millrace_checkpoint_stopped", "1: no more until a restart, after a disk error.",     \
      (uint64_t)p->checkpoint_broken)                                                              \
    X(GAUGE, "millrace_http_connections", "Open connections.", mr_counter_read(&h->connections))   \
    X(COUNTER, "millrace_http_body_bytes_total", "Bytes of request bodies, as sent.",              \
      mr_counter_read(&h->body_bytes))                                                             \
    X(COUNTER, "millrace_http_inflated_bytes_total", "Bytes of request bodies, after inflating.",  \
      mr_counter_read(&h->inflated_bytes))                                                         \
    X(GAUGE, "process_start_time_seconds", "When the server began, in Unix time.",                 \
      (double)h->started_ms / 1e3)

#define REFUSALS(X)                                                                                \
    X("ids_full", p->refused_ids_full)                                                             \
    X("disk_full", p->refused_disk_full)                                                           \
    X("log_failed", p->refused_log_failed)                                                         \
    X("store_away", p->refused_store_away)                                                         \
    X("in_flight", mr_counter_read(&h->refused_in_flight))                                         \
    X("queue", mr_counter_read(&h->refused_queue))

/* l: struct mr_log_stats */
#define LOG_METRICS(X)                                                                             \
    X(GAUGE, "millrace_log_bytes", "Bytes of records in the log.", mr_counter_read(&l->bytes))     \
    X(GAUGE, "millrace_log_segments", "Segments of the log.", mr_counter_read(&l->segments))       \
    X(COUNTER, "millrace_log_sync_failures_total", "Failed syncs of the log.",                     \
      mr_counter_read(&l->sync_failures))                                                          \
    X(GAUGE, "millrace_log_torn_bytes", "Bytes of a torn tail cut off at this start.",             \
      mr_counter_read(&l->torn_bytes))

#define PROCESS_METRICS(X)                                                                         \
    X(COUNTER, "process_cpu_seconds_total", "User and system time.", process.cpu_s)                \
    X(GAUGE, "process_resident_memory_bytes", "Resident memory.", process.resident_bytes)          \
    X(GAUGE, "process_virtual_memory_bytes", "Virtual memory.", process.virtual_bytes)             \
    X(GAUGE, "process_threads", "Threads.", process.threads)

#define US     UINT64_C(1000)
#define MS     (1000 * US)
#define SECOND (1000 * MS)

/* From a fast device's sync to a disk that is about to fail; from a probe to a long query. */
static const uint64_t sync_bounds[] = {50 * US,   100 * US, 250 * US,   500 * US,  1 * MS,
                                       2500 * US, 5 * MS,   10 * MS,    25 * MS,   50 * MS,
                                       100 * MS,  250 * MS, 1 * SECOND, 5 * SECOND};
/* In ms: from a retry at once to one after a month. */
static const uint64_t age_bounds[] = {
    1000,           10 * 1000,      60 * 1000,           600 * 1000,         3600 * 1000,
    6 * 3600 * 1000, 24 * 3600 * 1000, 7 * UINT64_C(86400000), 30 * UINT64_C(86400000)};
static const uint64_t http_bounds[] = {100 * US, 500 * US,   1 * MS,    2500 * US,  5 * MS,
                                       10 * MS,  25 * MS,    50 * MS,   100 * MS,   250 * MS,
                                       500 * MS, 1 * SECOND, 2500 * MS, 10 * SECOND};

#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))
#define SAMPLE(e, labels, count, value)                                                            \
    _Generic((value), double                                                                       \
             : mr_exposition_double, default                                                       \
             : mr_exposition_uint)(e, labels, count, value)

struct scrape {
    const struct mr_request *request;
    const struct mr_server *server;
    struct mr_exposition *e;
    int64_t now_ms;
    struct mr_stream_stats streams[MR_STREAMS_MAX];
    struct mr_rule_stats rules[MR_RULES_MAX];
};

static void family(struct scrape *c, enum mr_exposition_type type, const char *name,
                   const char *help) {
    mr_exposition_family(c->e, type, name, help);
}

static bool shows_stream(const struct scrape *c, uint32_t stream) {
    return mr_request_may_use_stream(c->request, stream);
}

static void write_verdicts(struct scrape *c) {
    family(c, MR_EXPOSE_COUNTER, "millrace_events_total", "Events decided, by verdict.");
    for (uint32_t i = 0; i < c->server->config->stream_count; i++) {
        const struct mr_stream_stats *s = &c->streams[i];
        struct mr_label labels[2] = {{"stream", c->server->config->streams[i].name},
                                     {"verdict", {0}}};
        if (!shows_stream(c, i)) {
            continue;
        }
#define X(word, number)                                                                            \
    labels[1].value = MR_BYTES(word);                                                              \
    SAMPLE(c->e, labels, 2, number);
        STREAM_VERDICTS(X)
#undef X
    }
}

static void write_redriven(struct scrape *c) {
    family(c, MR_EXPOSE_COUNTER, "millrace_events_redriven_total",
           "Events of the dead letters that were judged again, by verdict; part of millrace_events_total.");
    for (uint32_t i = 0; i < c->server->config->stream_count; i++) {
        const struct mr_stream_stats *s = &c->streams[i];
        struct mr_label labels[2] = {{"stream", c->server->config->streams[i].name}, {"verdict", {0}}};
        if (!shows_stream(c, i)) {
            continue;
        }
#define X(name, word)                                                                              \
    labels[1].value = MR_BYTES(word);                                                              \
    SAMPLE(c->e, labels, 2, s->redriven[MR_REDRIVE_##name]);
        MR_REDRIVE_VERDICT_TABLE(X)
#undef X
    }
}

static bool is_time(int64_t ms) {
    return ms != INT64_MIN && ms != INT64_MAX;
}

static void write_streams(struct scrape *c) {
    const struct mr_config *config = c->server->config;
    write_verdicts(c);
    write_redriven(c);
#define X(kind, metric, about, number)                                                             \
    family(c, MR_EXPOSE_##kind, metric, about);                                                    \
    for (uint32_t i = 0; i < config->stream_count; i++) {                                          \
        const struct mr_stream_stats *s = &c->streams[i];                                          \
        struct mr_label label = {"stream", config->streams[i].name};                               \
        if (shows_stream(c, i)) {                                                                  \
            SAMPLE(c->e, &label, 1, number);                                                       \
        }                                                                                          \
    }
    STREAM_METRICS(X)
#undef X
    family(c, MR_EXPOSE_GAUGE, "millrace_watermark_timestamp_seconds",
           "Event time before which everything is believed to be seen; absent: nothing was seen.");
    for (uint32_t i = 0; i < config->stream_count; i++) {
        struct mr_label label = {"stream", config->streams[i].name};
        if (shows_stream(c, i) && is_time(c->streams[i].watermark_ms)) {
            mr_exposition_double(c->e, &label, 1, (double)c->streams[i].watermark_ms / 1e3);
        }
    }
}

static void write_stores(struct scrape *scrape) {
    const struct mr_config *config = scrape->server->config;
    struct mr_store_stats stores[MR_STORES_MAX];
    bool any = false;
    for (uint32_t i = 0; i < config->store_count; i++) {
        mr_pipeline_store_stats(scrape->server->pipeline, i, &stores[i]);
        any = any || stores[i].used;
    }
    if (!any) {
        return;
    }
#define X(kind, metric, about, number)                                                             \
    family(scrape, MR_EXPOSE_##kind, metric, about);                                               \
    for (uint32_t i = 0; i < config->store_count; i++) {                                           \
        const struct mr_claims_stats *c = &stores[i].claims;                                       \
        struct mr_label label = {"store", config->stores[i].name};                                 \
        if (stores[i].used) {                                                                      \
            SAMPLE(scrape->e, &label, 1, number);                                                  \
        }                                                                                          \
        (void)c;                                                                                   \
    }
    STORE_METRICS(X)
#undef X
}

static void write_sinks(struct scrape *c) {
    struct mr_sink_stats sinks[MR_SINKS_MAX];
    uint32_t count = mr_sinks_count(c->server->sinks);
    for (uint32_t i = 0; i < count; i++) {
        mr_sinks_stats(c->server->sinks, i, &sinks[i]);
    }
    if (count == 0) {
        return;
    }
#define X(kind, metric, about, number)                                                             \
    family(c, MR_EXPOSE_##kind, metric, about);                                                    \
    for (uint32_t i = 0; i < count; i++) {                                                         \
        const struct mr_sink_stats *s = &sinks[i];                                                 \
        struct mr_label label = {"sink", s->name};                                                 \
        SAMPLE(c->e, &label, 1, number);                                                           \
    }
    SINK_METRICS(X)
#undef X
}

static void write_outcomes(struct scrape *c) {
    family(c, MR_EXPOSE_COUNTER, "millrace_rule_events_total",
           "What became of accepted events in a rule.");
    for (uint32_t i = 0; i < c->server->config->rule_count; i++) {
        const struct mr_rule_stats *r = &c->rules[i];
        struct mr_label labels[2] = {{"rule", c->server->config->rules[i].name}, {"outcome", {0}}};
        if (!mr_request_may_use_rule(c->request, i)) {
            continue;
        }
#define X(word, number)                                                                            \
    labels[1].value = MR_BYTES(word);                                                              \
    SAMPLE(c->e, labels, 2, number);
        RULE_OUTCOMES(X)
#undef X
    }
}

static void write_feeds(struct scrape *c) {
    family(c, MR_EXPOSE_GAUGE, "millrace_streams_open", "Event streams that clients have open.");
    mr_exposition_uint(c->e, NULL, 0, mr_counter_read(&c->server->feeds_open));
    family(c, MR_EXPOSE_COUNTER, "millrace_stream_panes_total", "Panes sent to event streams.");
    for (uint32_t i = 0; i < c->server->config->rule_count; i++) {
        struct mr_label label = {"rule", c->server->config->rules[i].name};
        if (mr_request_may_use_rule(c->request, i)) {
            mr_exposition_uint(c->e, &label, 1, mr_counter_read(&c->server->feed_panes[i]));
        }
    }
}

static void write_hot_keys(struct scrape *c) {
    family(c, MR_EXPOSE_GAUGE, "millrace_hot_key_share",
           "Share of the rule's events that the heaviest key has had lately; absent: none have come.");
    for (uint32_t i = 0; i < c->server->config->rule_count; i++) {
        const struct mr_rule_stats *r = &c->rules[i];
        struct mr_label label = {"rule", c->server->config->rules[i].name};
        /* Counters of several shards, read one by one, may be of different moments. */
        uint64_t heaviest = r->hot_heaviest < r->hot_events ? r->hot_heaviest : r->hot_events;
        if (mr_request_may_use_rule(c->request, i) && r->hot_events > 0) {
            mr_exposition_double(c->e, &label, 1, (double)heaviest / (double)r->hot_events);
        }
    }
}

static void write_rules(struct scrape *c) {
    const struct mr_config *config = c->server->config;
    write_outcomes(c);
#define X(kind, metric, about, number)                                                             \
    family(c, MR_EXPOSE_##kind, metric, about);                                                    \
    for (uint32_t i = 0; i < config->rule_count; i++) {                                            \
        const struct mr_rule_stats *r = &c->rules[i];                                              \
        struct mr_label label = {"rule", config->rules[i].name};                                   \
        if (mr_request_may_use_rule(c->request, i)) {                                              \
            SAMPLE(c->e, &label, 1, number);                                                       \
        }                                                                                          \
    }
    RULE_METRICS(X)
#undef X
    write_hot_keys(c);
    family(c, MR_EXPOSE_GAUGE, "millrace_data_freshness_seconds",
           "How far the watermark of the rule is behind now; absent: nothing was seen.");
    for (uint32_t i = 0; i < config->rule_count; i++) {
        struct mr_label label = {"rule", config->rules[i].name};
        int64_t watermark_ms = mr_pipeline_rule_watermark(c->server->pipeline, i);
        if (mr_request_may_use_rule(c->request, i) && is_time(watermark_ms)) {
            mr_exposition_double(c->e, &label, 1, (double)(c->now_ms - watermark_ms) / 1e3);
        }
    }
}

static void write_server(struct scrape *c) {
    const struct mr_server *h = c->server;
    struct mr_pipeline_stats stats;
    const struct mr_pipeline_stats *p = &stats;
    mr_pipeline_stats(h->pipeline, &stats);
#define X(kind, metric, about, number)                                                             \
    family(c, MR_EXPOSE_##kind, metric, about);                                                    \
    SAMPLE(c->e, NULL, 0, number);
    SERVER_METRICS(X)
#undef X
    family(c, MR_EXPOSE_COUNTER, "millrace_refused_total", "Requests refused with 503, by reason.");
#define X(word, number)                                                                            \
    {                                                                                              \
        struct mr_label label = {"reason", MR_BYTES(word)};                                        \
        SAMPLE(c->e, &label, 1, number);                                                           \
    }
    REFUSALS(X)
#undef X
    family(c, MR_EXPOSE_GAUGE, "millrace_queue_bytes", "Bytes of requests not yet answered.");
    struct mr_label queue = {"queue", MR_BYTES("in_flight")};
    mr_exposition_uint(c->e, &queue, 1, mr_counter_read(&h->in_flight_bytes));
    family(c, MR_EXPOSE_GAUGE, "millrace_build_info", "Always 1; what was built.");
    struct mr_label version = {"version", MR_BYTES(MR_VERSION)};
    mr_exposition_uint(c->e, &version, 1, 1);
}

static void write_duplicate_ages(struct scrape *c) {
    struct mr_histogram *ages = mr_alloc(sizeof *ages);
    if (ages == NULL) {
        return; /* a scrape without it is better than none */
    }
    family(c, MR_EXPOSE_HISTOGRAM, "millrace_duplicate_age_seconds",
           "Time from an id's first sight to its duplicate; one sampled for each request.");
    for (uint32_t i = 0; i < c->server->config->stream_count; i++) {
        struct mr_label label = {"stream", c->server->config->streams[i].name};
        if (shows_stream(c, i)) {
            memset(ages, 0, sizeof *ages);
            mr_pipeline_duplicate_age(c->server->pipeline, i, ages);
            mr_exposition_histogram(c->e, &label, 1, ages, age_bounds, COUNT(age_bounds), 1e3);
        }
    }
    mr_free(ages);
}

static void write_log(struct scrape *c) {
    const struct mr_log *log = mr_pipeline_log(c->server->pipeline);
    if (log == NULL) {
        return;
    }
    const struct mr_log_stats *l = mr_log_stats(log);
#define X(kind, metric, about, number)                                                             \
    family(c, MR_EXPOSE_##kind, metric, about);                                                    \
    SAMPLE(c->e, NULL, 0, number);
    LOG_METRICS(X)
#undef X
    family(c, MR_EXPOSE_HISTOGRAM, "millrace_log_sync_duration_seconds", "Syncs of the log.");
    mr_exposition_histogram(c->e, NULL, 0, &l->sync_ns, sync_bounds, COUNT(sync_bounds), 1e9);
}

/* The last slot is that of requests without a route. */
static struct mr_label route_label(uint32_t route) {
    return (struct mr_label){"route", route == mr_route_count
                                          ? MR_BYTES("(none)")
                                          : mr_bytes_text(mr_routes[route].pattern)};
}

/* Two methods of one path are told apart. */
static struct mr_label method_label(uint32_t route) {
    static const char *const methods[MR_METHOD_COUNT] = {
        [MR_METHOD_GET] = "GET",
        [MR_METHOD_HEAD] = "HEAD",
        [MR_METHOD_POST] = "POST",
        [MR_METHOD_DELETE] = "DELETE",
    };
    return (struct mr_label){
        "method", mr_bytes_text(route == mr_route_count ? "" : methods[mr_routes[route].method])};
}

static void write_http(struct scrape *c) {
    static const char *const codes[5] = {"1xx", "2xx", "3xx", "4xx", "5xx"};
    family(c, MR_EXPOSE_COUNTER, "millrace_http_requests_total",
           "Requests answered, by route and class of status; HEAD counts as GET.");
    for (uint32_t i = 0; i <= mr_route_count; i++) {
        for (uint32_t code = 1; code < 5; code++) {
            struct mr_label labels[3] = {
                route_label(i), method_label(i), {"code", mr_bytes_text(codes[code])}};
            uint64_t count = mr_counter_read(&c->server->routes[i].requests[code]);
            if (count > 0 || code == 1) {
                mr_exposition_uint(c->e, labels, 3, count);
            }
        }
    }
    family(c, MR_EXPOSE_HISTOGRAM, "millrace_http_request_duration_seconds",
           "From the request line to the end of the answer.");
    for (uint32_t i = 0; i <= mr_route_count; i++) {
        struct mr_label labels[2] = {route_label(i), method_label(i)};
        const struct mr_histogram *h = &c->server->routes[i].duration_ns;
        if (mr_histogram_count(h) > 0) {
            mr_exposition_histogram(c->e, labels, 2, h, http_bounds, COUNT(http_bounds), 1e9);
        }
    }
}

static void write_process(struct scrape *c) {
    struct mr_process process;
    uint64_t fds = 0;
    if (mr_process_read(mr_disk_system(), &process) == MR_OK) {
#define X(kind, metric, about, number)                                                             \
    family(c, MR_EXPOSE_##kind, metric, about);                                                    \
    SAMPLE(c->e, NULL, 0, number);
        PROCESS_METRICS(X)
#undef X
    }
    if (mr_process_fds(mr_disk_system(), &fds) == MR_OK) {
        family(c, MR_EXPOSE_GAUGE, "process_open_fds", "Open file descriptors.");
        mr_exposition_uint(c->e, NULL, 0, fds);
    }
}

void mr_route_metrics(struct mr_request *request, struct mr_response *response) {
    struct mr_exposition e;
    struct scrape *c = mr_alloc_zero(1, sizeof *c);
    if (c == NULL) {
        mr_reply_not_asked(response, MR_NO_MEMORY);
        return;
    }
    c->request = request;
    c->server = request->server;
    c->e = &e;
    c->now_ms = mr_clock_wall_ms(request->server->clock);
    for (uint32_t i = 0; i < c->server->config->stream_count; i++) {
        mr_pipeline_stream_stats(c->server->pipeline, i, &c->streams[i]);
    }
    for (uint32_t i = 0; i < c->server->config->rule_count; i++) {
        mr_pipeline_rule_stats(c->server->pipeline, i, &c->rules[i]);
    }
    mr_exposition_init(&e, &response->body);
    response->content_type = "text/plain; version=0.0.4; charset=utf-8";
    write_streams(c);
    write_rules(c);
    write_feeds(c);
    write_stores(c);
    write_sinks(c);
    write_server(c);
    write_duplicate_ages(c);
    write_log(c);
    write_http(c);
    write_process(c);
    mr_free(c);
    (void)mr_reply_fits(response);
}
