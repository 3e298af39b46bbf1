/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/redrive.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/json.h"
#include "pipeline/fetch.h"

enum { REDRIVE_VERSION = 1, TAIL_BYTES_MAX = 64 << 20 };

struct mr_redrive_source {
    const struct mr_plan *plan;
    uint64_t last_lsn;
    struct mr_fetch *fetch;
    struct mr_decoder *decoder;
    struct mr_batch *batch; /* of the record read last: its neighbours are asked for next */
    struct mr_buf tail;     /* scratch */
};

/* ---- records ---- */

void mr_redrive_header(const struct mr_redriven *redriven, uint8_t ret[MR_REDRIVE_HEADER]) {
    MR_ASSERT(redriven->lsn > 0);
    memset(ret, 0, MR_REDRIVE_HEADER);
    ret[0] = REDRIVE_VERSION;
    ret[1] = redriven->future;
    memcpy(ret + 4, &redriven->index, sizeof redriven->index);
    memcpy(ret + 8, &redriven->lsn, sizeof redriven->lsn);
    memcpy(ret + 16, &redriven->first_ms, sizeof redriven->first_ms);
}

enum mr_status mr_redrive_decode(struct mr_events_decoder *decoder, const struct mr_record *record,
                                 struct mr_batch **ret, struct mr_error *error) {
    const uint8_t *p = record->payload.ptr;
    struct mr_redriven redriven = {.lsn = 0};
    bool whole = record->payload.len >= MR_REDRIVE_HEADER && p[0] == REDRIVE_VERSION;
    if (whole) {
        redriven.future = p[1] != 0;
        memcpy(&redriven.index, p + 4, sizeof redriven.index);
        memcpy(&redriven.lsn, p + 8, sizeof redriven.lsn);
        memcpy(&redriven.first_ms, p + 16, sizeof redriven.first_ms);
    }
    if (redriven.lsn == 0 || redriven.lsn >= record->lsn) {
        return mr_error_set(error, MR_CORRUPT, "log record %llu: not a REDRIVE payload of version %d",
                            (unsigned long long)record->lsn, REDRIVE_VERSION);
    }
    struct mr_record events = *record;
    events.payload = mr_bytes_of(p + MR_REDRIVE_HEADER, record->payload.len - MR_REDRIVE_HEADER);
    struct mr_batch *batch = NULL;
    enum mr_status status = mr_events_decode(decoder, &events, NULL, &batch, error);
    if (status == MR_OK && batch->count != 1) {
        status = mr_error_set(error, MR_CORRUPT, "log record %llu: a REDRIVE of %u events",
                              (unsigned long long)record->lsn, batch->count);
        mr_batch_close(batch);
    }
    if (status == MR_OK) {
        batch->redriven = redriven;
        *ret = batch;
    }
    return status;
}

/* ---- from a dead letter ---- */

const char *mr_redrive_refusal(enum mr_dead_reason reason) {
    switch (reason) {
    case MR_DEAD_FUTURE:
    case MR_DEAD_REJECTED:
        return NULL;
    case MR_DEAD_LATE:
        return "late events are not redriven, for the windows they belong to are final: raise allowed_lateness and build "
               "the results anew from the retained log with `millrace replay`";
    case MR_DEAD_GROUPS:
        return "dropped groups are not redriven: they are counts, and no events; raise groups.max";
    case MR_DEAD_CONFLICT:
        return "conflicts are not redriven, for another event of their id was counted: send what is to count as well "
               "with an id of its own";
    case MR_DEAD_REASON_COUNT:
        break;
    }
    MR_UNREACHABLE();
}

enum mr_status mr_redrive_source_open(struct mr_disk *disk, const char *log_dir, const struct mr_plan *plan,
                                      uint64_t last_lsn, struct mr_redrive_source **ret) {
    struct mr_redrive_source *source = mr_alloc_zero(1, sizeof *source);
    if (source == NULL) {
        return MR_NO_MEMORY;
    }
    source->plan = plan;
    source->last_lsn = last_lsn;
    mr_buf_init(&source->tail, TAIL_BYTES_MAX);
    if (mr_fetch_open(disk, log_dir, plan, &source->fetch) != MR_OK ||
        mr_decoder_open(MR_DECODE_AUTO, &source->decoder) != MR_OK) {
        mr_redrive_source_close(source);
        return MR_NO_MEMORY;
    }
    *ret = source;
    return MR_OK;
}

void mr_redrive_source_close(struct mr_redrive_source *source) {
    if (source == NULL) {
        return;
    }
    mr_batch_close(source->batch);
    mr_fetch_close(source->fetch);
    mr_decoder_close(source->decoder);
    mr_buf_finish(&source->tail);
    mr_free(source);
}

static enum mr_status fetch(struct mr_redrive_source *source, uint64_t lsn, struct mr_error *error) {
    if (source->batch != NULL && source->batch->lsn == lsn) {
        return MR_OK;
    }
    mr_batch_close(source->batch);
    source->batch = NULL;
    if (lsn > source->last_lsn) {
        return mr_error_set(error, MR_NOT_FOUND, "record %llu was lost with the end of the log", (unsigned long long)lsn);
    }
    enum mr_status status = mr_fetch_batch(source->fetch, lsn, &source->batch, error);
    /* A stream that is gone: nobody would take it. */
    return status == MR_MISMATCH ? mr_error_set(error, MR_NOT_FOUND, "its stream is not configured any more") : status;
}

/* Whether the event in the log is the one that the entry shows: entries end with it. With log.sync off the log may have
 * lost its end, and given the numbers to others. */
static enum mr_status verify(struct mr_redrive_source *source, const struct mr_dead *dead, struct mr_bytes event,
                             struct mr_error *error) {
    struct mr_buf *tail = &source->tail;
    mr_buf_clear(tail);
    if (dead->reason == MR_DEAD_REJECTED) {
        struct mr_json json;
        mr_buf_append_text(tail, "\"raw\":");
        mr_json_init(&json, tail);
        mr_json_string(&json, event);
    } else {
        mr_buf_append_text(tail, "\"event\":");
        mr_buf_append_bytes(tail, event);
    }
    mr_buf_append_char(tail, '}');
    if (tail->failed) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory redriving an event of %zu bytes", event.len);
    }
    bool same = dead->json.len >= tail->len &&
                memcmp(dead->json.ptr + dead->json.len - tail->len, tail->ptr, tail->len) == 0;
    return same ? MR_OK : mr_error_set(error, MR_NOT_FOUND, "the log has another event in its place");
}

/* A batch of the one event, decoded as a producer's would be now. */
static enum mr_status decode_one(struct mr_redrive_source *source, struct mr_bytes event, bool cloudevents,
                                 struct mr_batch **ret, struct mr_error *error) {
    const struct mr_plan_stream *stream = &source->plan->streams[source->batch->stream];
    struct mr_buf body;
    mr_buf_init(&body, event.len + MR_PADDING);
    if (mr_buf_reserve(&body, event.len + MR_PADDING) == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory redriving an event of %zu bytes", event.len);
    }
    mr_buf_append_bytes(&body, event);
    enum mr_status status = mr_decode(source->decoder, cloudevents ? stream->schema_ce : stream->schema,
                                      MR_FORMAT_OBJECT, &body, ret, error);
    if (status != MR_OK) {
        mr_buf_finish(&body);
        return status == MR_INVALID ? mr_error_set(error, MR_NOT_FOUND, "it is nothing that can be decoded") : status;
    }
    MR_ASSERT((*ret)->count == 1); /* one value, or one rejected event */
    return MR_OK;
}

enum mr_status mr_redrive_make(struct mr_redrive_source *source, const struct mr_dead *dead,
                               struct mr_batch **ret, struct mr_error *error) {
    struct mr_redriven redriven = {.future = dead->reason == MR_DEAD_FUTURE};
    const char *refusal = mr_redrive_refusal(dead->reason);
    if (refusal != NULL) {
        return mr_error_set(error, MR_UNSUPPORTED, "%s", refusal);
    }
    if (!mr_dead_place(dead, &redriven.lsn, &redriven.index) || redriven.lsn == 0) {
        return mr_error_set(error, MR_NOT_FOUND, "the entry names no event");
    }
    enum mr_status status = fetch(source, redriven.lsn, error);
    if (status != MR_OK) {
        return status;
    }
    struct mr_batch *from = source->batch;
    if (source->plan->streams[from->stream].claimed) {
        return mr_error_set(error, MR_UNSUPPORTED,
                            "its stream has dedup mode redis: the claim of the shared store cannot be passed by from one "
                            "node");
    }
    if (redriven.index >= from->count) {
        return mr_error_set(error, MR_NOT_FOUND, "the log has another event in its place");
    }
    struct mr_bytes event = mr_batch_event(from, redriven.index);
    status = verify(source, dead, event, error);
    if (status == MR_OK) {
        status = decode_one(source, event, mr_schema_options(from->schema)->cloudevents, ret, error);
    }
    if (status == MR_OK) {
        redriven.first_ms = from->recorded_ms;
        (*ret)->stream = from->stream;
        (*ret)->redriven = redriven;
    }
    return status;
}
