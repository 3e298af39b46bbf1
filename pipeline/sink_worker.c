/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/sink_worker.h"

#include "base/check.h"
#include "base/report.h"

#include <stdio.h>

enum {
    POLL_NS = 50 * 1000 * 1000,
    SLEEP_NS = 100 * 1000 * 1000,
    KEY_MAX = 2 * MR_KEY_LEN_MAX,
};
static const uint64_t save_every_ns = UINT64_C(1000000000);
static const uint64_t read_again_ns = UINT64_C(1000000000);

static uint64_t now_ns(const struct mr_sink_worker *w) {
    return mr_clock_mono_ns(w->sinks->options.clock);
}

/* ---- rows ---- */

struct reading {
    struct mr_sink_worker *worker;
    bool full; /* the row that came last was not taken */
    enum mr_status status;
};

static struct mr_sink_rule *find_rule(struct mr_sink_worker *w, uint32_t rule) {
    for (uint32_t i = 0; i < w->rule_count; i++) {
        if (w->rules[i].rule == rule) {
            return &w->rules[i];
        }
    }
    return NULL;
}

/* Returns whether reading goes on. A row that millrace cannot have written is passed over. */
static bool put_row(struct reading *reading, struct mr_sink_rule *served, const struct mr_pane *stored) {
    struct mr_sink_worker *w = reading->worker;
    const struct mr_rule *rule = &w->sinks->options.plan->rules[served->rule];
    struct mr_number numbers[MR_RULE_METRICS_MAX];
    struct mr_pane pane = *stored;
    enum mr_status status = MR_CORRUPT;
    if (mr_metric_check(rule->metrics, rule->metric_count, stored->state) == MR_OK) {
        mr_arena_reset(&w->scratch);
        mr_metrics_finish(rule->metrics, rule->metric_count, stored->state, &w->scratch, numbers);
        pane.numbers = numbers;
        pane.number_count = rule->metric_count;
        status = mr_redis_sink_put(w->redis, &w->sinks->options.results_rules[served->rule], w->store.epoch, &pane);
    }
    if (status == MR_CORRUPT) {
        w->bad_rows++;
        return true;
    }
    if (status != MR_OK) {
        reading->full = true;
        reading->status = status == MR_FULL ? MR_OK : status;
        return false;
    }
    w->batch = true;
    if (!pane.final && pane.window_start_ms < served->open_from_ms) {
        served->open_from_ms = pane.window_start_ms;
    }
    if (!pane.final && pane.window_start_ms < served->open_from_ms_next) {
        served->open_from_ms_next = pane.window_start_ms;
    }
    return true;
}

/* ---- a range of a table ---- */

static bool is_skipped(const struct mr_sink_worker *w, const struct mr_pane *row) {
    return w->copying && row->window_end_ms < w->skip_before_ms;
}

static bool visit_range(void *ctx, const struct mr_pane *row) {
    struct reading *reading = ctx;
    struct mr_sink_worker *w = reading->worker;
    if (!is_skipped(w, row) && !put_row(reading, &w->rules[w->range.rule], row)) {
        return false;
    }
    mr_buf_clear(&w->range.after_key);
    mr_buf_append_bytes(&w->range.after_key, row->key);
    w->range.has_after = true;
    w->range.after_start_ms = row->window_start_ms;
    if (w->range.after_key.failed) {
        reading->full = true;
        reading->status = MR_NO_MEMORY;
        w->range.has_after = false; /* from its beginning */
        return false;
    }
    return true;
}

static void begin_range(struct mr_sink_worker *w, uint32_t rule, int64_t from_ms, int64_t to_ms) {
    w->range.active = true;
    w->range.rule = rule;
    w->range.from_ms = from_ms;
    w->range.to_ms = to_ms;
    w->range.has_after = false;
}

static enum mr_status read_range(struct mr_sink_worker *w, struct mr_error *error) {
    struct reading reading = {.worker = w};
    struct mr_buf after; /* the query's, while the visitor writes the next */
    mr_buf_init(&after, KEY_MAX);
    mr_buf_append_bytes(&after, mr_buf_bytes(&w->range.after_key));
    const struct mr_results_query query = {
        .rule = w->rules[w->range.rule].rule,
        .from_ms = w->range.from_ms,
        .to_ms = w->range.to_ms,
        .final_only = !w->copying,
        .order = -1,
        .has_after = w->range.has_after,
        .after_start_ms = w->range.after_start_ms,
        .after_key = mr_buf_bytes(&after),
        .visit = visit_range,
        .ctx = &reading,
    };
    enum mr_status status = after.failed ? mr_error_set(error, MR_NO_MEMORY, "out of memory")
                                         : mr_results_read(w->reader, &query, error);
    mr_buf_finish(&after);
    if (status == MR_OK && reading.status != MR_OK) {
        return mr_error_set(error, reading.status, "%s", mr_status_text(reading.status));
    }
    if (status != MR_OK || reading.full) {
        return status;
    }
    w->range.active = false;
    if (!w->copying) {
        struct mr_sink_rule *rule = &w->rules[w->range.rule];
        rule->open_from_ms_next = w->range.to_ms;
    } else if (w->range.rule + 1 < w->rule_count) {
        begin_range(w, w->range.rule + 1, INT64_MIN, INT64_MAX);
    }
    return MR_OK;
}

/* ---- the outbox ---- */

static bool visit_outbox(void *ctx, uint64_t id, const struct mr_pane *pane) {
    struct reading *reading = ctx;
    struct mr_sink_rule *rule = find_rule(reading->worker, pane->rule);
    if (rule != NULL && !put_row(reading, rule, pane)) {
        return false;
    }
    reading->worker->read_id = id;
    return true;
}

/* From where on rows that were sent are final by now. */
static enum mr_status find_finals(struct mr_sink_worker *w, struct mr_error *error) {
    for (uint32_t i = 0; i < w->rule_count; i++) {
        int64_t open_from_ms;
        enum mr_status status = mr_results_read_open_from(w->reader, w->rules[i].rule, &open_from_ms, error);
        if (status != MR_OK) {
            return status;
        }
        if (open_from_ms > w->rules[i].open_from_ms) {
            begin_range(w, i, w->rules[i].open_from_ms, open_from_ms);
            return MR_OK;
        }
    }
    return MR_OK;
}

static enum mr_status read_outbox(struct mr_sink_worker *w, struct mr_error *error) {
    struct reading reading = {.worker = w};
    uint64_t newest_id = w->store.newest_id; /* of before the look: what is newer comes with the next */
    enum mr_status status = mr_results_read_outbox(w->reader, w->read_id, visit_outbox, &reading, error);
    if (status == MR_OK && reading.status != MR_OK) {
        status = mr_error_set(error, reading.status, "%s", mr_status_text(reading.status));
    }
    if (status == MR_OK && !reading.full) {
        w->read_id = newest_id > w->read_id ? newest_id : w->read_id;
        w->finals_due = w->batch; /* not while it is behind: more may be final by then */
        status = w->batch ? MR_OK : find_finals(w, error);
    }
    return status;
}

/* ---- the cursor ---- */

static void begin_copy(struct mr_sink_worker *w) {
    w->copying = true;
    w->read_id = w->store.newest_id;
    w->arrived_id = w->read_id;
    w->skip_before_ms = INT64_MIN;
    bool bounded = w->sinks->options.dir == NULL; /* what it reads is to arrive, however old */
    if (w->sink->ttl_ms != INT64_MAX && !bounded) {
        w->skip_before_ms = mr_clock_wall_ms(w->sinks->options.clock) - w->sink->ttl_ms;
    }
    for (uint32_t i = 0; i < w->rule_count; i++) {
        w->rules[i].open_from_ms = INT64_MAX;
        w->rules[i].open_from_ms_next = INT64_MAX;
    }
    begin_range(w, 0, INT64_MIN, INT64_MAX);
    mr_report(MR_LEVEL_INFO, "sink_copying", "sink=%.*s rules=%u", (int)w->sink->name.len,
              (const char *)w->sink->name.ptr, w->rule_count);
}

/* Panes behind the cursor are all there; their ids only grow, but for another file put in its place. */
static bool outbox_reaches(const struct mr_sink_worker *w) {
    return w->arrived_id + 1 >= w->store.oldest_id && w->arrived_id <= w->store.newest_id;
}

static enum mr_status look(struct mr_sink_worker *w, struct mr_error *error) {
    w->asked = mr_counter_read(&w->flush_asked);
    enum mr_status status = mr_results_read_state(w->reader, &w->store, error);
    if (status != MR_OK) {
        return status;
    }
    if (!w->known) {
        w->known = true;
        if (!mr_sink_cursor_read(w) || !outbox_reaches(w)) {
            begin_copy(w);
        }
        w->read_id = w->arrived_id;
    } else if (!outbox_reaches(w)) {
        begin_copy(w); /* it was away for longer than the outbox is */
    }
    return MR_OK;
}

/* Everything read has arrived. */
static void arrive(struct mr_sink_worker *w) {
    w->batch = false;
    if (w->copying && w->range.active) {
        return;
    }
    bool moved = w->copying || w->arrived_id != w->read_id;
    w->copying = false;
    w->arrived_id = w->read_id;
    for (uint32_t i = 0; i < w->rule_count; i++) {
        moved = moved || w->rules[i].open_from_ms != w->rules[i].open_from_ms_next;
        w->rules[i].open_from_ms = w->rules[i].open_from_ms_next;
    }
    w->dirty = w->dirty || moved;
}

static void save(struct mr_sink_worker *w) {
    uint64_t now = now_ns(w);
    if (w->dirty && !w->copying && now >= w->save_ns) {
        mr_sink_cursor_write(w);
        w->save_ns = now + save_every_ns;
    }
}

/* ---- stepping ---- */

/* Reads the next batch; returns whether there is something to do at once. */
static bool read_batch(struct mr_sink_worker *w) {
    struct mr_error error = {.status = MR_OK};
    enum mr_status status = w->range.active ? MR_OK : look(w, &error);
    if (status == MR_OK && w->finals_due && !w->range.active) {
        w->finals_due = false;
        status = find_finals(w, &error);
    }
    if (status == MR_OK) {
        status = w->range.active ? read_range(w, &error) : read_outbox(w, &error);
    }
    if (status != MR_OK) {
        w->read_errors++;
        w->read_failing = true;
        (void)snprintf(w->read_reason, sizeof w->read_reason, "results: %.180s", error.text); /* cut is fine */
        w->poll_ns = now_ns(w) + read_again_ns;
        return false;
    }
    w->read_failing = false;
    if (w->batch) {
        return true;
    }
    arrive(w);
    if (w->range.active) {
        return true;
    }
    mr_counter_set(&w->flush_done, w->asked);
    w->poll_ns = now_ns(w) + POLL_NS;
    return false;
}

static void say_changes(struct mr_sink_worker *w, const struct mr_redis_sink_stats *redis, bool failing,
                        const char *reason) {
    char quoted[512];
    int len = (int)w->sink->name.len;
    const char *name = (const char *)w->sink->name.ptr;
    if (failing != w->said_failing) {
        mr_report(failing ? MR_LEVEL_WARN : MR_LEVEL_INFO, failing ? "sink_failing" : "sink_works",
                  "sink=%.*s reason=%s", len, name, mr_report_value(reason, quoted, sizeof quoted));
    }
    if (redis->wrong_keys > 0 && !w->said_wrong_key) {
        mr_report(MR_LEVEL_WARN, "sink_key_of_others", "sink=%.*s key=%s action=\"left alone; that row is not sent\"",
                  len, name, mr_report_value(redis->key, quoted, sizeof quoted));
    }
    if (redis->later_epoch > 0 && !w->said_later_epoch) {
        mr_report(MR_LEVEL_WARN, "sink_later_epoch",
                  "sink=%.*s key=%s reason=\"written from a results store that was made later: two nodes with one "
                  "prefix, or a clock that was ahead\"",
                  len, name, mr_report_value(redis->key, quoted, sizeof quoted));
    }
    w->said_failing = failing;
    w->said_wrong_key = w->said_wrong_key || redis->wrong_keys > 0;
    w->said_later_epoch = w->said_later_epoch || redis->later_epoch > 0;
}

static void publish(struct mr_sink_worker *w) {
    struct mr_redis_sink_stats redis;
    mr_redis_sink_stats(w->redis, &redis);
    bool failing = redis.failing || w->read_failing;
    const char *reason = w->read_failing ? w->read_reason : redis.reason;
    say_changes(w, &redis, failing, reason);
    (void)pthread_mutex_lock(&w->lock); /* cannot fail: not recursive, and initialized */
    struct mr_sink_stats *s = &w->stats;
    s->lag_rows = w->store.newest_id > w->arrived_id ? w->store.newest_id - w->arrived_id : 0;
    s->copying = w->copying;
    s->applied = redis.applied;
    s->there_already = redis.there_already;
    s->refused = redis.wrong_keys + redis.later_epoch + w->bad_rows;
    s->errors = redis.errors + w->read_errors + w->bad_rows;
    s->reconnects = redis.reconnects;
    if (!failing) {
        s->failing_since_ms = 0;
    } else if (s->failing_since_ms == 0) {
        s->failing_since_ms = mr_clock_wall_ms(w->sinks->options.clock);
    }
    (void)snprintf(s->reason, sizeof s->reason, "%s", reason); /* both are shorter */
    (void)pthread_mutex_unlock(&w->lock);
}

/* How far behind it is, while it waits for the sink. */
static void measure_lag(struct mr_sink_worker *w) {
    uint64_t now = now_ns(w);
    struct mr_results_state store;
    if (now < w->lag_ns) {
        return;
    }
    w->lag_ns = now + SLEEP_NS;
    if (mr_results_read_state(w->reader, &store, NULL) == MR_OK) { /* the next look says why not */
        w->store.newest_id = store.newest_id;
    }
}

bool mr_sink_worker_step(struct mr_sink_worker *w) {
    if (w->rule_count == 0) {
        mr_counter_set(&w->flush_done, mr_counter_read(&w->flush_asked));
        return false;
    }
    bool moved = mr_redis_sink_step(w->redis);
    if (mr_redis_sink_is_empty(w->redis)) {
        if (w->batch) {
            arrive(w);
            moved = true;
        }
        if (now_ns(w) >= w->poll_ns) {
            moved |= read_batch(w);
        }
        save(w);
    } else {
        measure_lag(w);
    }
    publish(w);
    return moved;
}

void mr_sink_worker_sleep(struct mr_sink_worker *w) {
    uint64_t now = now_ns(w);
    uint64_t left_ns = w->poll_ns > now ? w->poll_ns - now : 0;
    bool idle = mr_redis_sink_is_empty(w->redis);
    mr_redis_sink_wait(w->redis, idle && left_ns < SLEEP_NS ? left_ns : SLEEP_NS);
}
