/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ingest_answer.h"

#include "base/check.h"
#include "server/problem.h"

#include <stdio.h>

struct counts {
    uint32_t received;
    uint32_t accepted;
    uint32_t duplicate;
    uint32_t late;
    uint32_t rejected;
    uint32_t pending;
};

/* How a refusal is told: what is wrong, and when asking again may help. */
static const struct {
    const char *detail;
    uint32_t retry_after_s;
} refusals[] = {
    [MR_REFUSAL_IDS_FULL] = {"the stream has no room for more ids (dedup.ids); nothing of this "
                             "request was taken",
                             10},
    [MR_REFUSAL_DISK_FULL] =
        {"the disk of the event log is full; nothing of this request was taken", 10},
    [MR_REFUSAL_LOG_FAILED] =
        {"the event log cannot be written; nothing of this request is promised, "
         "and sending it again is safe",
         10},
    [MR_REFUSAL_DRAINING] = {"the server is stopping; nothing of this request was taken", 5},
    [MR_REFUSAL_STORE_AWAY] = {"the shared store of ids is away or cannot be believed now (see /readyz); nothing of this "
                               "request was taken",
                               5},
    [MR_REFUSAL_REDRIVEN] = {"the event was redriven before; nothing was taken", 5},
    [MR_REFUSAL_REDRIVES_FULL] = {"too many events of the retained log were redriven; nothing was taken", 60},
    [MR_REFUSAL_UNDECIDED] = {"the shared store of ids went away before it decided; the events are kept, and may count: "
                              "sending them again with the same ids is safe",
                              5},
    [MR_REFUSAL_ABANDONED] =
        {"the server stopped before this request was decided; sending it again "
         "is safe",
         5},
};

/* One letter: a loop that compilers turn into vector compares. */
static uint32_t count_letter(const uint8_t *verdicts, uint32_t count, uint8_t letter) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        found += verdicts[i] == letter;
    }
    return found;
}

static struct counts count_all(const struct mr_batch *batch, bool observe) {
    struct counts counts = {.received = batch->count};
    counts.accepted = count_letter(batch->verdicts, batch->count, MR_VERDICT_ACCEPTED);
    counts.duplicate = count_letter(batch->verdicts, batch->count, MR_VERDICT_DUPLICATE);
    counts.late = count_letter(batch->verdicts, batch->count, MR_VERDICT_LATE);
    counts.rejected = count_letter(batch->verdicts, batch->count, MR_VERDICT_REJECTED);
    counts.pending = batch->pending ? batch->count - batch->rejected : 0;
    MR_ASSERT(counts.received == counts.accepted + counts.duplicate + counts.late +
                                     counts.rejected + counts.pending);
    MR_ASSERT(counts.rejected == batch->rejected);
    if (observe) {
        counts.accepted += counts.duplicate;
        counts.duplicate = 0;
    }
    return counts;
}

static void write_error(struct mr_json *json, const struct mr_event_error *error) {
    mr_json_object_begin(json);
    mr_json_key(json, "index");
    mr_json_uint(json, error->index);
    mr_json_key(json, "line");
    mr_json_uint(json, error->line);
    mr_json_key(json, "code");
    mr_json_text(json, mr_reject_code(error->reject));
    mr_json_key(json, "pointer");
    mr_json_text(json, error->pointer);
    mr_json_key(json, "detail");
    mr_json_text(json, error->detail);
    mr_json_object_end(json);
}

static void write_errors(struct mr_json *json, const struct mr_batch *batch) {
    mr_json_key(json, "errors");
    mr_json_array_begin(json);
    for (uint32_t i = 0; batch != NULL && i < batch->error_count; i++) {
        write_error(json, &batch->errors[i]);
    }
    mr_json_array_end(json);
    if (batch != NULL && batch->errors_truncated) {
        mr_json_key(json, "errors_truncated");
        mr_json_bool(json, true);
    }
}

/* The letters go into the buffer as they are: they need no escaping, and there may be 100,000. */
static void write_results(struct mr_json *json, const struct mr_batch *batch, bool observe) {
    mr_json_key(json, "results");
    if (batch == NULL) {
        mr_json_text(json, "");
        return;
    }
    struct mr_buf *buf = json->buf;
    json->after_key = false;
    uint8_t *room = mr_buf_reserve(buf, batch->count + (size_t)2);
    if (room == NULL) {
        return; /* buf->failed says it */
    }
    room[0] = '"';
    for (uint32_t i = 0; i < batch->count; i++) {
        uint8_t letter = batch->verdicts[i] == MR_VERDICT_NONE ? 'P' : batch->verdicts[i];
        room[1 + i] = observe && letter == MR_VERDICT_DUPLICATE ? MR_VERDICT_ACCEPTED : letter;
    }
    room[1 + batch->count] = '"';
    buf->len += batch->count + (size_t)2;
}

static void write_members(struct mr_json *json, const struct mr_batch *batch,
                          const struct counts *counts, const struct mr_answer_options *options) {
    mr_json_key(json, "received");
    mr_json_uint(json, counts->received);
    mr_json_key(json, "accepted");
    mr_json_uint(json, counts->accepted);
    mr_json_key(json, "duplicate");
    mr_json_uint(json, counts->duplicate);
    mr_json_key(json, "late");
    mr_json_uint(json, counts->late);
    mr_json_key(json, "rejected");
    mr_json_uint(json, counts->rejected);
    if (counts->pending > 0) { /* durable; whose the ids are is decided later (streams.NAME.dedup.outage: hold) */
        mr_json_key(json, "pending");
        mr_json_uint(json, counts->pending);
    }
    if (batch != NULL && batch->local) { /* another node may have counted them, too (outage: local) */
        mr_json_key(json, "approximate");
        mr_json_bool(json, true);
    }
    if (!options->synced) {
        mr_json_key(json, "durability");
        mr_json_text(json, "page_cache");
    }
    write_errors(json, batch);
    if (options->results) {
        write_results(json, batch, options->observe);
    }
}

static void write_rejected_head(struct mr_json *json, const struct mr_batch *batch) {
    char detail[64 + MR_DETAIL_MAX];
    (void)snprintf(detail, sizeof detail, "every event was rejected; the first: %s",
                   batch->error_count > 0 ? batch->errors[0].detail : "not listed");
    mr_problem_members(json, 400, detail);
}

void mr_ingest_answer(const struct mr_batch *batch, const struct mr_answer_options *options,
                      struct mr_response *response) {
    struct counts counts = {0};
    if (batch != NULL) {
        MR_ASSERT(batch->refusal == MR_REFUSAL_NONE);
        counts = count_all(batch, options->observe);
    }
    bool all_rejected = counts.received > 0 && counts.rejected == counts.received;
    struct mr_json json;
    mr_buf_clear(&response->body);
    response->status = all_rejected ? 400 : 200;
    response->content_type = all_rejected ? "application/problem+json" : "application/json";
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    if (all_rejected) {
        write_rejected_head(&json, batch);
    }
    write_members(&json, batch, &counts, options);
    mr_json_object_end(&json);
    mr_buf_append_char(&response->body, '\n');
    if (response->body.failed) {
        response->retry_after_s = 1;
        mr_problem(response, 503, "no memory for the answer; sending the request again is safe");
    }
}

void mr_ingest_refused(enum mr_refusal refusal, struct mr_response *response) {
    MR_ASSERT(refusal != MR_REFUSAL_NONE);
    MR_ASSERT((size_t)refusal < sizeof refusals / sizeof refusals[0]);
    response->retry_after_s = refusals[refusal].retry_after_s;
    mr_problem(response, 503, "%s", refusals[refusal].detail);
}
