/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/events.h"

#include "base/alloc.h"
#include "base/check.h"

enum { EVENTS_VERSION = 1 };

struct mr_events_decoder {
    const struct mr_plan *plan;
    struct mr_decoder *decoder;
    struct mr_schema **schemas; /* by stream x 2: with the limits records were made under */
    uint32_t *limits;
};

void mr_events_header(const struct mr_batch *batch, const struct mr_plan *plan,
                      uint8_t ret[MR_EVENTS_HEADER]) {
    const struct mr_plan_stream *stream = &plan->streams[batch->stream];
    MR_ASSERT(batch->schema == stream->schema || batch->schema == stream->schema_ce);
    memset(ret, 0, MR_EVENTS_HEADER);
    ret[0] = EVENTS_VERSION;
    ret[1] = batch->format;
    ret[2] = batch->schema == stream->schema_ce;
    ret[3] = (uint8_t)stream->name.len;
    memcpy(ret + 4, &batch->count, sizeof batch->count);
    uint32_t limit = mr_schema_options(batch->schema)->event_bytes_max;
    memcpy(ret + 8, &limit, sizeof limit);
}

enum mr_status mr_events_parse(const struct mr_plan *plan, const struct mr_record *record,
                               struct mr_events *ret, struct mr_error *error) {
    const uint8_t *p = record->payload.ptr;
    size_t len = record->payload.len;
    if (len < MR_EVENTS_HEADER || p[0] != EVENTS_VERSION || len < MR_EVENTS_HEADER + (size_t)p[3]) {
        return mr_error_set(error, MR_CORRUPT, "log record %llu: not an EVENTS payload of version %d",
                            (unsigned long long)record->lsn, EVENTS_VERSION);
    }
    struct mr_bytes name = mr_bytes_of(p + MR_EVENTS_HEADER, p[3]);
    memcpy(&ret->count, p + 4, sizeof ret->count);
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

enum mr_status mr_events_decoder_open(const struct mr_plan *plan, struct mr_events_decoder **ret) {
    struct mr_events_decoder *d = mr_alloc_zero(1, sizeof *d);
    if (d == NULL) {
        return MR_NO_MEMORY;
    }
    d->plan = plan;
    d->schemas = mr_alloc_zero((size_t)plan->stream_count * 2, sizeof(struct mr_schema *));
    d->limits = mr_alloc_zero((size_t)plan->stream_count * 2, sizeof *d->limits);
    if (d->schemas == NULL || d->limits == NULL ||
        mr_decoder_open(MR_DECODE_AUTO, &d->decoder) != MR_OK) {
        mr_events_decoder_close(d);
        return MR_NO_MEMORY;
    }
    *ret = d;
    return MR_OK;
}

void mr_events_decoder_close(struct mr_events_decoder *decoder) {
    if (decoder == NULL) {
        return;
    }
    for (uint32_t i = 0; decoder->schemas != NULL && i < decoder->plan->stream_count * 2; i++) {
        mr_schema_close(decoder->schemas[i]);
    }
    mr_decoder_close(decoder->decoder);
    mr_free(decoder->schemas);
    mr_free(decoder->limits);
    mr_free(decoder);
}

/* The plan's schema, but under the limits that held when the record was made: they decided what was too long, and
 * that the batch was not too large. */
static enum mr_status schema_for(struct mr_events_decoder *d, const struct mr_events *events,
                                 const struct mr_schema **ret, struct mr_error *error) {
    const struct mr_plan_stream *stream = &d->plan->streams[events->stream];
    size_t slot = events->stream * 2 + events->cloudevents;
    if (d->schemas[slot] == NULL || d->limits[slot] != events->event_bytes_max) {
        struct mr_schema_options options =
            *mr_schema_options(events->cloudevents ? stream->schema_ce : stream->schema);
        options.event_bytes_max = events->event_bytes_max;
        options.events_max = UINT32_MAX;
        mr_schema_close(d->schemas[slot]);
        d->schemas[slot] = NULL;
        enum mr_status status = mr_schema_open(&options, &d->schemas[slot], error);
        if (status != MR_OK) {
            return status;
        }
        d->limits[slot] = events->event_bytes_max;
    }
    *ret = d->schemas[slot];
    return MR_OK;
}

static void close_batch(struct mr_batch *batch, void *ctx) {
    (void)ctx;
    mr_batch_close(batch);
}

/* The body in memory of its own. */
static enum mr_status own_body(const struct mr_record *record, struct mr_bytes events, struct mr_buf *payload,
                               struct mr_buf *ret, struct mr_error *error) {
    if (payload != NULL && payload->len > 0) {
        MR_ASSERT(payload->ptr == record->payload.ptr && payload->len == record->payload.len);
        *ret = *payload;
        mr_buf_init(payload, 0);
        mr_buf_drop(ret, (size_t)(events.ptr - record->payload.ptr));
        return MR_OK;
    }
    mr_buf_init(ret, events.len + MR_PADDING);
    if (mr_buf_reserve(ret, events.len + MR_PADDING) == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory reading a body of %zu bytes", events.len);
    }
    mr_buf_append_bytes(ret, events);
    return MR_OK;
}

enum mr_status mr_events_decode(struct mr_events_decoder *decoder, const struct mr_record *record,
                                struct mr_buf *payload, struct mr_batch **ret, struct mr_error *error) {
    struct mr_events events = {0};
    const struct mr_schema *schema = NULL;
    enum mr_status status = mr_events_parse(decoder->plan, record, &events, error);
    if (status == MR_OK) {
        status = schema_for(decoder, &events, &schema, error);
    }
    if (status != MR_OK) {
        return status;
    }
    struct mr_buf body;
    status = own_body(record, events.body, payload, &body, error);
    if (status != MR_OK) {
        return status;
    }
    status = mr_decode(decoder->decoder, schema, events.format, &body, ret, error);
    if (status != MR_OK) {
        mr_buf_finish(&body);
        return status;
    }
    (*ret)->stream = events.stream;
    (*ret)->lsn = record->lsn;
    (*ret)->recorded_ms = record->recorded_ms;
    (*ret)->done = close_batch;
    return MR_OK;
}
