/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replay: the log's records become the same bundles again and go through the very same stations.
 *
 * An EVENTS payload:
 *
 *      0 version u8 (1)   1 format u8   2 cloudevents u8   3 name_len u8   4 zero u32
 *      8 event_bytes_max u32: limits.event when the body was decoded: it decided what was too long
 *     12 zero u32
 *     16 stream name, name_len bytes
 *      … the body
 */
#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/report.h"
#include "pipeline/stations.h"

enum { EVENTS_VERSION = 1 };

void mr_events_header(const struct mr_batch *batch, const struct mr_plan *plan,
                      uint8_t ret[MR_EVENTS_HEADER]) {
    const struct mr_plan_stream *stream = &plan->streams[batch->stream];
    MR_ASSERT(batch->schema == stream->schema || batch->schema == stream->schema_ce);
    memset(ret, 0, MR_EVENTS_HEADER);
    ret[0] = EVENTS_VERSION;
    ret[1] = batch->format;
    ret[2] = batch->schema == stream->schema_ce;
    ret[3] = (uint8_t)stream->name.len;
    uint32_t limit = mr_schema_options(batch->schema)->event_bytes_max;
    memcpy(ret + 8, &limit, sizeof limit);
}

struct events {
    uint32_t stream;
    enum mr_format format;
    bool cloudevents;
    uint32_t event_bytes_max;
    struct mr_bytes body;
};

static enum mr_status parse_events(const struct mr_plan *plan, const struct mr_record *record,
                                   struct events *ret, struct mr_error *error) {
    const uint8_t *p = record->payload.ptr;
    size_t len = record->payload.len;
    if (len < MR_EVENTS_HEADER || p[0] != EVENTS_VERSION || len < MR_EVENTS_HEADER + (size_t)p[3]) {
        return mr_error_set(error, MR_CORRUPT, "log record %llu: not an EVENTS payload of version %d",
                            (unsigned long long)record->lsn, EVENTS_VERSION);
    }
    struct mr_bytes name = mr_bytes_of(p + MR_EVENTS_HEADER, p[3]);
    uint32_t stream = mr_config_stream_index(plan->config, name);
    if (stream == UINT32_MAX) {
        return mr_error_set(error, MR_MISMATCH,
                            "log record %llu is of stream `%.*s`, which is not configured",
                            (unsigned long long)record->lsn, (int)name.len, (const char *)name.ptr);
    }
    size_t used = MR_EVENTS_HEADER + name.len;
    ret->stream = stream;
    ret->format = p[1];
    ret->cloudevents = p[2] != 0;
    memcpy(&ret->event_bytes_max, p + 8, sizeof ret->event_bytes_max);
    ret->body = mr_bytes_of(p + used, len - used);
    return MR_OK;
}

/* The plan's schema, but under the limits that held when the record was made: they decided what was too long, and
 * that the batch was not too large. */
static enum mr_status schema_for(struct mr_sequencer *s, const struct events *events,
                                 const struct mr_schema **ret, struct mr_error *error) {
    const struct mr_plan_stream *stream = &s->pipeline->plan->streams[events->stream];
    size_t slot = events->stream * 2 + events->cloudevents;
    if (s->replay_schemas[slot] == NULL || s->replay_limits[slot] != events->event_bytes_max) {
        struct mr_schema_options options =
            *mr_schema_options(events->cloudevents ? stream->schema_ce : stream->schema);
        options.event_bytes_max = events->event_bytes_max;
        options.events_max = UINT32_MAX;
        mr_schema_close(s->replay_schemas[slot]);
        s->replay_schemas[slot] = NULL;
        enum mr_status status = mr_schema_open(&options, &s->replay_schemas[slot], error);
        if (status != MR_OK) {
            return status;
        }
        s->replay_limits[slot] = events->event_bytes_max;
    }
    *ret = s->replay_schemas[slot];
    return MR_OK;
}

static void replayed(struct mr_batch *batch, void *ctx) {
    (void)ctx; /* nobody waits for the answer: it was given before the restart, or never */
    mr_batch_close(batch);
}

static enum mr_status decode_record(struct mr_sequencer *s, const struct mr_record *record,
                                    struct mr_batch **ret, struct mr_error *error) {
    struct events events = {0};
    const struct mr_schema *schema = NULL;
    enum mr_status status = parse_events(s->pipeline->plan, record, &events, error);
    if (status == MR_OK) {
        status = schema_for(s, &events, &schema, error);
    }
    if (status != MR_OK) {
        return status;
    }
    struct mr_buf body;
    mr_buf_init(&body, events.body.len + MR_PADDING);
    if (mr_buf_reserve(&body, events.body.len + MR_PADDING) == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory replaying a body of %zu bytes",
                            events.body.len);
    }
    mr_buf_append_bytes(&body, events.body);
    status = mr_decode(s->decoder, schema, events.format, &body, ret, error);
    if (status != MR_OK) {
        mr_buf_finish(&body);
        return status;
    }
    (*ret)->stream = events.stream;
    (*ret)->lsn = record->lsn;
    (*ret)->done = replayed;
    return MR_OK;
}

/* Adds one record to the group of the bundle being rebuilt. */
static enum mr_status add_record(struct mr_sequencer *s, const struct mr_record *record,
                                 uint32_t *count, struct mr_error *error) {
    if (record->type == MR_RECORD_GAP) {
        mr_report(MR_LEVEL_WARN, "log_gap", "lsn=%llu action=\"records lost to damage are not counted\"",
                  (unsigned long long)record->lsn);
    }
    if (record->type != MR_RECORD_EVENTS) {
        return MR_OK; /* TICK, START, CONFIG: the bundle itself says all they have to say */
    }
    if (*count == MR_BUNDLE_BATCHES_MAX) {
        return mr_error_set(error, MR_CORRUPT, "bundle %llu has more than %u records",
                            (unsigned long long)record->seq, MR_BUNDLE_BATCHES_MAX);
    }
    if (MR_BUG(RECORD_SKIPPED) && *count == 1) {
        return MR_OK;
    }
    enum mr_status status = decode_record(s, record, &s->group[*count], error);
    if (status == MR_OK) {
        mr_counter_add(&s->replayed_events, s->group[*count]->count);
        *count += 1;
    }
    return status;
}

static enum mr_status next_record(struct mr_sequencer *s, struct mr_error *error) {
    enum mr_status status = mr_log_reader_next(s->replay, &s->replay_record, error);
    s->replay_has_record = status == MR_OK;
    return status;
}

static bool is_plans_config(const struct mr_sequencer *s) {
    return mr_bytes_equal(s->replay_record.payload, mr_buf_bytes(&s->pipeline->plan->state_text));
}

/* From here on the log was made under other streams or rules: whoever opened the pipeline goes on with those
 * (pipeline/data.c). */
static enum mr_status end_by_config(struct mr_sequencer *s, struct mr_error *error) {
    mr_buf_append_bytes(&s->replay_config, s->replay_record.payload);
    s->replay_config_seq = s->replay_record.seq;
    return s->replay_config.failed ? mr_error_set(error, MR_NO_MEMORY, "out of memory in replay")
                                   : MR_END;
}

enum mr_status mr_replay_next(struct mr_sequencer *s, struct mr_error *error) {
    enum mr_status status = s->replay_has_record ? MR_OK : next_record(s, error);
    if (status != MR_OK) {
        return status;
    }
    if (s->replay_record.type == MR_RECORD_CONFIG && !is_plans_config(s)) {
        return end_by_config(s, error);
    }
    uint64_t seq = s->replay_record.seq;
    uint64_t lsn = 0;
    enum mr_record_type type = s->replay_record.type;
    int64_t recorded_ms = s->replay_record.recorded_ms;
    MR_ASSERT(seq > s->seq);
    uint32_t count = 0;
    while (status == MR_OK && s->replay_record.seq == seq) {
        lsn = s->replay_record.lsn + s->replay_record.lsn_count - 1; /* a GAP stands for several */
        status = add_record(s, &s->replay_record, &count, error);
        if (status == MR_OK) {
            status = next_record(s, error);
        }
    }
    if (status != MR_OK && status != MR_END) {
        for (uint32_t k = 0; k < count; k++) {
            mr_batch_close(s->group[k]);
        }
        return status;
    }
    if (MR_BUG(LAST_BUNDLE_LOST) && s->replay_has_record &&
        s->replay_record.type == MR_RECORD_START) {
        while (count > 0) {
            mr_batch_close(s->group[--count]);
        }
    }
    s->seq = seq;
    s->lsn = lsn;
    if (type == MR_RECORD_START || type == MR_RECORD_CONFIG || type == MR_RECORD_GAP) {
        return MR_OK; /* not dispatched when they were written either */
    }
    s->recorded_ms = recorded_ms > s->recorded_ms ? recorded_ms : s->recorded_ms;
    mr_counter_add(&s->replayed_bundles, 1);
    for (uint32_t k = 0; k < count; k++) {
        mr_sequencer_admit(s, s->group[k]);
    }
    if (mr_sequencer_dispatch(s, s->group, count) != MR_OK) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory in replay");
    }
    return MR_OK;
}
