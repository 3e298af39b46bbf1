/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Advance: a producer that knows says that nothing older than a time will come, of a stream or of one of its sources.
 *
 *     ask ─▶ WATERMARK record, durable ─▶ a bundle of its own ─▶ answered; replay finds the record and does the same
 *
 * Its payload: time i64, stream's name, u32 whether it is of one source, that source's name (base/pack.h).
 */
#include "base/bug.h"
#include "base/check.h"
#include "base/pack.h"
#include "base/report.h"
#include "pipeline/stations.h"

enum { PAYLOAD_MAX = 8192 };

static void answer(struct mr_sequencer *s, struct mr_ask *ask, enum mr_status status) {
    ask->status = status;
    ask->closed = false;
    ask->seq = s->seq;
    ask->advance_ms = s->watermarks[ask->stream].watermark_ms;
    ask->done(ask, ask->ctx);
}

static enum mr_status append(struct mr_sequencer *s, const struct mr_ask *ask) {
    struct mr_log *log = s->pipeline->log;
    struct mr_buf payload;
    mr_buf_init(&payload, PAYLOAD_MAX);
    mr_pack_i64(&payload, ask->advance_ms);
    mr_pack_bytes(&payload, s->pipeline->plan->streams[ask->stream].name);
    mr_pack_u32(&payload, ask->source.ptr != NULL);
    mr_pack_bytes(&payload, ask->source);
    struct mr_log_entry entry = {
        .type = MR_RECORD_WATERMARK, .payload = {{payload.ptr, payload.len}}, .payload_count = 1};
    struct mr_error error = {.text = ""};
    enum mr_status status = payload.failed                              ? MR_NO_MEMORY
                            : !mr_log_has_room(log, mr_record_size(payload.len)) ? MR_NO_SPACE
                                                                        : MR_OK;
    if (status == MR_OK) {
        status = mr_log_append(log, s->seq + 1, s->recorded_ms, &entry, 1, &error);
    }
    mr_buf_finish(&payload);
    if (status == MR_OK) {
        s->lsn = mr_log_last_lsn(log);
    }
    return status;
}

void mr_sequencer_advance(struct mr_sequencer *s, struct mr_ask *ask) {
    MR_ASSERT(s->replay == NULL && ask->stream < s->pipeline->plan->stream_count);
    int64_t before_ms = s->recorded_ms;
    s->recorded_ms = mr_sequencer_now(s);
    const struct mr_watermark_options *o = &s->pipeline->plan->streams[ask->stream].watermark;
    enum mr_status status = MR_OK;
    if (ask->advance_ms > mr_watermark_limit(o, s->recorded_ms)) {
        status = MR_LIMIT;
    } else if (s->pipeline->log != NULL) {
        status = mr_log_failed(s->pipeline->log) ? MR_IO : append(s, ask);
    }
    if (status != MR_OK) {
        s->recorded_ms = before_ms;
        answer(s, ask, status);
        return;
    }
    s->seq++;
    s->advance = (struct mr_advance){true, ask->stream, ask->source, ask->advance_ms};
    status = mr_sequencer_dispatch(s, NULL, 0);
    if (status != MR_OK) { /* it is in the log, and holds from the next start on: no answer could say how far */
        mr_pipeline_fail(s->pipeline, MR_NO_MEMORY, "out of memory in the sequencer");
    }
    answer(s, ask, status);
}

enum mr_status mr_sequencer_read_advance(struct mr_sequencer *s, const struct mr_record *record,
                                         struct mr_error *error) {
    struct mr_unpack u = {.rest = record->payload};
    int64_t time_ms = mr_unpack_i64(&u);
    struct mr_bytes stream = mr_unpack_bytes(&u);
    bool of_source = mr_unpack_u32(&u) != 0;
    struct mr_bytes source = mr_unpack_bytes(&u);
    if (!mr_unpack_end(&u)) {
        return mr_error_set(error, MR_CORRUPT, "log record %llu: not a watermark", (unsigned long long)record->lsn);
    }
    const struct mr_plan *plan = s->pipeline->plan;
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        if (mr_bytes_equal(plan->streams[i].name, stream) && !MR_BUG(ADVANCE_NOT_REPLAYED)) {
            /* its bundle is sent before the next record is read */
            mr_buf_clear(&s->advance_source);
            mr_buf_append_text(&s->advance_source, "=");
            mr_buf_append_bytes(&s->advance_source, source);
            s->advance = (struct mr_advance){true, i, mr_bytes_of(NULL, 0), time_ms};
            if (of_source && !s->advance_source.failed) { /* not NULL, also without a name */
                s->advance.source = mr_bytes_of(s->advance_source.ptr + 1, source.len);
            }
        }
    }
    return s->advance_source.failed ? mr_error_set(error, MR_NO_MEMORY, "out of memory in replay") : MR_OK;
}

enum mr_status mr_sequencer_apply_advance(struct mr_sequencer *s) {
    if (!s->advance.has) {
        return MR_OK;
    }
    s->advance.has = false;
    return mr_watermark_advance(&s->watermarks[s->advance.stream], s->advance.source, s->advance.time_ms,
                                s->recorded_ms);
}
