/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sink worker: the state of one sink of pipeline/sinks.h. Private to sinks.c, sink_worker.c and sink_cursor.c.
 *
 * Idea        One batch after the other: read rows until the sink is full or there are none, send them, and when every one
 *             is answered, what was read has arrived. There is no place in between to remember.
 */
#include "base/counters.h"
#include "pipeline/sinks.h"
#include "sink/redis_sink.h"

#include <pthread.h>

/* A rule whose results go to this sink. */
struct mr_sink_rule {
    uint32_t rule; /* of the plan */
    /* Rows sent that were not final have windows that start here or later; INT64_MAX: there are none. */
    int64_t open_from_ms;
    int64_t open_from_ms_next; /* likewise, once the batch has arrived */
};

/* Rows of a table that are being read, in window order, batch by batch. */
struct mr_sink_range {
    bool active;
    uint32_t rule; /* index into mr_sink_worker.rules */
    int64_t from_ms;
    int64_t to_ms;
    bool has_after;
    int64_t after_start_ms;
    struct mr_buf after_key;
};

struct mr_sink_worker {
    struct mr_sinks *sinks;
    const struct mr_config_sink *sink;
    struct mr_redis_sink *redis;
    struct mr_arena scratch; /* of one row's numbers */
    struct mr_results_reader *reader;
    struct mr_sink_rule *rules;
    uint32_t rule_count;
    uint64_t target; /* a hash of where it goes */

    struct mr_results_state store; /* as read last */
    bool known;    /* the cursor was compared with the store */
    bool copying;  /* rule by rule */
    bool batch;    /* rows are under way */
    bool dirty;    /* the cursor has moved since it was written */
    uint64_t arrived_id;
    uint64_t read_id; /* arrived once the batch has */
    struct mr_sink_range range;
    int64_t skip_before_ms; /* copying: windows that ended before it */
    uint64_t asked;   /* of the look that goes on */
    bool finals_due;  /* the outbox's end was reached, and rows were sent */
    uint64_t poll_ns; /* the next look at the store */
    uint64_t lag_ns;  /* the next look at how far it has gone on */
    uint64_t save_ns; /* the next time the cursor may be written */
    bool read_failing;
    char read_reason[200];
    uint64_t bad_rows;
    uint64_t read_errors;

    bool said_failing;
    bool said_wrong_key;
    bool said_later_epoch;
    bool said_cursor;

    mr_counter flush_asked; /* written by any thread */
    mr_counter flush_done;  /* written by the worker: everything that was asked for by then has arrived */
    pthread_mutex_t lock;   /* of stats */
    struct mr_sink_stats stats;
    pthread_t thread;
    bool has_thread;
};

struct mr_sinks {
    struct mr_sinks_options options;
    _Atomic bool quit;
    uint32_t count;
    struct mr_sink_worker workers[];
};

/* pipeline/sink_worker.c */
bool mr_sink_worker_step(struct mr_sink_worker *w);
void mr_sink_worker_sleep(struct mr_sink_worker *w);

/* pipeline/sink_cursor.c: false: there is none, or it is of another store, place, or set of rules. */
bool mr_sink_cursor_read(struct mr_sink_worker *w);
/* An error is reported once: it costs a copy at the next start. */
void mr_sink_cursor_write(struct mr_sink_worker *w);
