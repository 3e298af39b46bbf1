/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Metric kit: what the tests of metrics share: a batch of one column, made by hand, and one way from its events to a
 * result through random groupings, encoded forms and merge orders.
 */
#include "aggregate/metric.h"
#include "event/batch.h"
#include "tests/aggregate/kit.h"

/* Events with one value each. Begins as {0} and ends with metric_events_finish. */
struct metric_events {
    struct mr_batch batch;
    struct mr_column column;
    uint32_t count;
    uint32_t capacity;
};

void metric_events_finish(struct metric_events *events);
void metric_events_clear(struct metric_events *events);
/* Each appends an event at time_ms. */
void metric_event(struct metric_events *events, int64_t time_ms, uint8_t kind, union mr_value value);
void metric_event_int(struct metric_events *events, int64_t time_ms, int64_t i);
void metric_event_double(struct metric_events *events, int64_t time_ms, double d);
/* kind: MR_VALUE_STRING or MR_VALUE_DIGITS */
void metric_event_text(struct metric_events *events, int64_t time_ms, uint8_t kind, struct mr_bytes text);

/* A neutral block. */
uint8_t *metric_block(const struct mr_metric *metrics, uint32_t count);
void metric_block_close(const struct mr_metric *metrics, uint32_t count, uint8_t *block);
/* Adds events [begin, end) with all metrics. */
void metric_add_range(const struct mr_metric *metrics, uint32_t count, const struct metric_events *events,
                      uint32_t begin, uint32_t end, uint8_t *block);
/* The encoded form, which is checked; free with metric_free. */
struct mr_bytes metric_encode(const struct mr_metric *metrics, uint32_t count, const uint8_t *block);
/* Deals the events in random order to `parts` blocks, and merges these in random order through their encoded forms. */
struct mr_bytes metric_deal(const struct mr_metric *metrics, uint32_t count, const struct metric_events *events,
                            uint32_t parts, struct kit_random *random);
/* The JSON or text result, NUL-terminated, in scratch; the encoded form is moved to an odd address first. */
const char *metric_text(const struct mr_metric *metrics, uint32_t index, struct mr_bytes encoded,
                        struct mr_arena *scratch);
void metric_free(struct mr_bytes bytes);

/* Of a test's texts, between these two, which cmocka calls. */
extern struct mr_arena metric_scratch;
int metric_set_up(void **state);
int metric_tear_down(void **state);
