/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redrive: POST /v1/dead-letters/redrive: events of the dead letters are judged again, oldest first; and POST
 * /v1/dead-letters/{address}/redrive: the event of one.
 *
 *     dead-letter log ──page──▶ entries wanted ──▶ batches of one event ──round──▶ pipeline ──▶ verdicts, counted
 *
 * A round is what is on its way at a time: bounded in events and bytes, and waited for before the next is made. Only what
 * was a dead letter when the request came is looked at, so that an event that comes back as one is not taken again.
 */
#include "pipeline/redrive.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/event_count.h"
#include "pipeline/dead_letters.h"
#include "server/dead.h"
#include "server/params.h"
#include "server/redrive_body.h"
#include "server/reply.h"
#include "server/routes.h"

enum {
    ROUND_EVENTS = 256,
    ROUND_BYTES = 4 << 20,
    ROUND_LOOK_NS = 50 * 1000 * 1000, /* between two looks whether the server closes */
    ROUND_MAGIC = 0x6d725264,
    NOTES_MAX = 100,
    PAGE_ENTRIES = 4096,
};

/* One event on its way. The shard that has it writes refusal and verdict before it lets go of the round. */
struct sent {
    struct round *round;
    uint64_t lsn;
    uint32_t index;
    enum mr_refusal refusal;
    uint8_t verdict;
};

/* It has memory of its own: who gives up (the server closes) leaves it to the last event that comes back. */
struct round {
    uint32_t magic;
    uint32_t count;
    uint64_t bytes;
    struct mr_event_count wake;
    _Atomic uint32_t left;    /* events on their way; decremented with release, read with acquire by who waits */
    _Atomic uint32_t holders; /* those, and who waits */
    struct sent sent[ROUND_EVENTS];
};

struct redrive {
    const struct mr_request *request;
    struct mr_server *server;
    struct mr_redrive_body body;
    struct mr_redrive_source *source;
    struct round *round; /* being filled; NULL: none */
    struct mr_dead_page page;
    struct mr_dead_address only; /* lsn 0: of as many as the body says */
    bool full; /* the limit is reached, and there is at least one entry more */
    uint32_t redriven;
    uint32_t verdicts[MR_REDRIVE_VERDICTS];
    uint32_t skipped;
    uint32_t notes_count;
    struct mr_buf notes; /* JSON objects, with commas */
    struct mr_error error; /* status not MR_OK: it ends here */
    enum mr_refusal refusal; /* why it ends here, if the pipeline took no more */
};

/* ---- rounds ---- */

static void let_go(struct round *round) {
    /* acq_rel: the last one sees what the others did. */
    if (atomic_fetch_sub_explicit(&round->holders, 1, memory_order_acq_rel) == 1) {
        round->magic = 0;
        mr_free(round);
    }
}

static void came_back(struct mr_batch *batch, void *ctx) {
    struct sent *sent = ctx;
    struct round *round = sent->round;
    MR_ASSERT(round->magic == ROUND_MAGIC && batch->count == 1);
    sent->refusal = batch->refusal;
    sent->verdict = batch->verdicts[0];
    mr_batch_close(batch);
    /* release: pairs with the acquire in wait_for. */
    if (atomic_fetch_sub_explicit(&round->left, 1, memory_order_release) == 1) {
        mr_event_count_signal(&round->wake);
    }
    let_go(round);
}

/* false: the server closes. */
static bool wait_for(const struct mr_server *server, struct round *round) {
    for (;;) {
        uint32_t value = mr_event_count_value(&round->wake);
        if (atomic_load_explicit(&round->left, memory_order_acquire) == 0) {
            return true;
        }
        if (mr_server_is_closing(server)) {
            return false;
        }
        mr_event_count_wait(&round->wake, value, ROUND_LOOK_NS);
    }
}

static void note(struct redrive *r, uint64_t lsn, uint32_t index, const char *detail) {
    struct mr_json json;
    r->skipped++;
    if (r->notes_count == NOTES_MAX) {
        return;
    }
    if (r->notes_count++ > 0) {
        mr_buf_append_char(&r->notes, ',');
    }
    mr_json_init(&json, &r->notes);
    mr_json_object_begin(&json);
    mr_json_key(&json, "lsn");
    mr_json_uint(&json, lsn);
    mr_json_key(&json, "index");
    mr_json_uint(&json, index);
    mr_json_key(&json, "detail");
    mr_json_text(&json, detail);
    mr_json_object_end(&json);
}

static void count_sent(struct redrive *r, const struct sent *sent) {
    if (sent->refusal == MR_REFUSAL_REDRIVEN) {
        note(r, sent->lsn, sent->index, "redriven before");
        return;
    }
    if (sent->refusal != MR_REFUSAL_NONE) {
        r->refusal = sent->refusal;
        return;
    }
    r->redriven++;
    r->verdicts[sent->verdict == MR_VERDICT_ACCEPTED    ? MR_REDRIVE_ACCEPTED
                : sent->verdict == MR_VERDICT_DUPLICATE ? MR_REDRIVE_DUPLICATE
                : sent->verdict == MR_VERDICT_LATE      ? MR_REDRIVE_LATE
                                                        : MR_REDRIVE_REJECTED]++;
}

static void finish_round(struct redrive *r) {
    struct round *round = r->round;
    if (round == NULL) {
        return;
    }
    r->round = NULL;
    if (wait_for(r->server, round)) {
        for (uint32_t i = 0; i < round->count; i++) {
            count_sent(r, &round->sent[i]);
        }
    } else {
        r->refusal = MR_REFUSAL_DRAINING;
    }
    let_go(round);
}

static struct round *open_round(void) {
    struct round *round = mr_alloc_zero(1, sizeof *round);
    if (round != NULL) {
        round->magic = ROUND_MAGIC;
        mr_event_count_init(&round->wake);
        atomic_init(&round->left, 0);
        atomic_init(&round->holders, 1);
    }
    return round;
}

/* Takes the batch over. */
static void send(struct redrive *r, struct mr_batch *batch) {
    r->round = r->round == NULL ? open_round() : r->round;
    if (r->round == NULL) {
        mr_batch_close(batch);
        (void)mr_error_set(&r->error, MR_NO_MEMORY, "out of memory redriving"); /* the status is known */
        return;
    }
    struct round *round = r->round;
    struct sent *sent = &round->sent[round->count];
    *sent = (struct sent){.round = round, .lsn = batch->redriven.lsn, .index = batch->redriven.index};
    batch->done = came_back;
    batch->ctx = sent;
    round->bytes += batch->body.len;
    /* relaxed: the push publishes them */
    atomic_fetch_add_explicit(&round->left, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&round->holders, 1, memory_order_relaxed);
    if (!mr_pipeline_submit(r->server->pipeline, batch)) {
        atomic_fetch_sub_explicit(&round->left, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&round->holders, 1, memory_order_relaxed);
        mr_batch_close(batch);
        (void)mr_error_set(&r->error, MR_BUSY, "too many requests wait for the log"); /* the status is known */
        return;
    }
    round->count++;
    if (round->count == ROUND_EVENTS || round->bytes > ROUND_BYTES) {
        finish_round(r);
    }
}

/* ---- entries ---- */

static bool goes_on(const struct redrive *r) {
    return r->error.status == MR_OK && r->refusal == MR_REFUSAL_NONE;
}

/* Whether one more event stays within the limit: of those on their way some may turn out to be redriven before. */
static bool has_room(struct redrive *r) {
    if (r->round != NULL && r->redriven + r->round->count >= r->body.limit) {
        finish_round(r);
    }
    return r->redriven < r->body.limit;
}

static void on_entry(void *ctx, const struct mr_dead *entry) {
    struct redrive *r = ctx;
    uint64_t lsn = 0;
    uint32_t index = 0;
    bool placed = mr_dead_place(entry, &lsn, &index);
    if (!goes_on(r) || r->full || !mr_dead_may_see(r->request, entry)) {
        return;
    }
    if (r->only.lsn > 0) {
        if (r->page.at_lsn != r->only.lsn || r->page.at_entry != r->only.entry) {
            return; /* it was discarded meanwhile */
        }
    } else if (r->body.ids != NULL) {
        struct mr_redrive_id *id = placed ? mr_redrive_body_find(&r->body, lsn, index) : NULL;
        if (id == NULL || id->met) {
            return;
        }
        id->met = true;
    } else if (mr_redrive_refusal(entry->reason) != NULL) {
        return; /* no reason was asked for: those that can be */
    } else if (!has_room(r)) {
        r->full = true;
        return;
    }
    struct mr_error error = {.text = ""};
    struct mr_batch *batch = NULL;
    enum mr_status status = mr_redrive_make(r->source, entry, &batch, &error);
    if (status == MR_OK) {
        send(r, batch);
    } else if (status == MR_NOT_FOUND || status == MR_UNSUPPORTED) {
        note(r, lsn, index, error.text);
    } else {
        r->error = error;
        r->error.status = status;
    }
}

/* Until the limit is reached, or no entry is left. */
static enum mr_status read_pages(struct redrive *r, struct mr_error *error) {
    enum mr_status status = MR_OK;
    do {
        r->page.limit = r->only.lsn > 0 ? 1 : PAGE_ENTRIES;
        status = mr_dead_read(r->server, &r->page, error);
        r->page.after_lsn = r->page.next_lsn;
        r->page.after_entry = r->page.next_entry;
        finish_round(r);
    } while (status == MR_OK && goes_on(r) && r->page.more && !r->full && r->only.lsn == 0);
    return status;
}

/* ---- the answer ---- */

static void refuse_rest(const struct redrive *r, struct mr_response *response) {
    response->retry_after_s = 5;
    mr_problem(response, 503, "%s; %u events were redriven before that, and asking again goes on behind them",
               r->error.status == MR_BUSY                  ? r->error.text
               : r->error.status != MR_OK                  ? "the log cannot be read (the server's reports say more)"
               : r->refusal == MR_REFUSAL_IDS_FULL         ? "the stream has no room for more ids (dedup.ids)"
               : r->refusal == MR_REFUSAL_DISK_FULL        ? "the disk of the event log is full"
               : r->refusal == MR_REFUSAL_LOG_FAILED       ? "the event log cannot be written"
               : r->refusal == MR_REFUSAL_REDRIVES_FULL ? "too many events of the retained log were redriven"
                                                           : "the server is stopping",
               r->redriven);
}

static void write_answer(struct redrive *r, struct mr_response *response) {
    static const char *const names[MR_REDRIVE_VERDICTS] = {
#define X(name, text) [MR_REDRIVE_##name] = text,
        MR_REDRIVE_VERDICT_TABLE(X)
#undef X
    };
    for (uint32_t i = 0; i < r->body.id_count; i++) {
        if (!r->body.ids[i].met) {
            note(r, r->body.ids[i].lsn, r->body.ids[i].index, "no dead letter is about it");
        }
    }
    struct mr_json json;
    mr_json_init(&json, &response->body);
    mr_json_object_begin(&json);
    mr_json_key(&json, "redriven");
    mr_json_uint(&json, r->redriven);
    for (uint32_t k = 0; k < MR_REDRIVE_VERDICTS; k++) {
        mr_json_key(&json, names[k]);
        mr_json_uint(&json, r->verdicts[k]);
    }
    mr_json_key(&json, "skipped");
    mr_json_uint(&json, r->skipped);
    mr_json_key(&json, "skips");
    mr_json_array_begin(&json);
    if (r->notes.len > 0) {
        mr_json_raw(&json, mr_buf_bytes(&r->notes));
    }
    mr_json_array_end(&json);
    mr_json_key(&json, "more");
    mr_json_bool(&json, r->full);
    mr_json_object_end(&json);
    if (response->body.failed || r->notes.failed) {
        mr_reply_not_asked(response, MR_NO_MEMORY);
    }
}

static void work(struct redrive *r, struct mr_response *response) {
    const struct mr_datadir *datadir = r->server->datadir;
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    struct mr_error error = {0};
    enum mr_status status = mr_server_ask(r->server, &flush);
    if (status == MR_OK) {
        r->page.last_lsn = r->only.lsn > 0 ? r->only.lsn : mr_pipeline_dead_lsn(r->server->pipeline);
        uint64_t last_lsn = mr_counter_read(&mr_log_stats(mr_pipeline_log(r->server->pipeline))->last_lsn);
        status = mr_redrive_source_open(datadir->disk, datadir->log_dir, r->server->plan, last_lsn, &r->source);
    }
    if (status != MR_OK) {
        mr_reply_not_asked(response, status);
        return;
    }
    status = read_pages(r, &error);
    finish_round(r);
    if (status != MR_OK) {
        mr_dead_refuse_log(response, &error);
    } else if (!goes_on(r)) {
        refuse_rest(r, response);
    } else {
        write_answer(r, response);
    }
}

/* MR_CLOSED: the token has no right to the stream (403). */
static enum mr_status take_question(struct redrive *r, struct mr_error *error) {
    struct mr_dead_page *page = &r->page;
    *page = (struct mr_dead_page){.stream = UINT32_MAX, .reason = -1, .visit = on_entry, .ctx = r};
    if (r->body.stream.ptr != NULL) {
        page->stream = mr_config_stream_index(r->server->config, r->body.stream);
        page->stream_name = r->body.stream;
    }
    if (r->body.stream.ptr != NULL && page->stream == UINT32_MAX) {
        return mr_error_set(error, MR_INVALID, "`stream`: no stream `%s`; GET /v1/streams lists them",
                            mr_quote(r->body.stream).text);
    }
    if (page->stream != UINT32_MAX && !mr_request_may_use_stream(r->request, page->stream)) {
        return mr_error_set(error, MR_CLOSED, "the token has no right to stream `%s`", mr_quote(r->body.stream).text);
    }
    for (int k = 0; r->body.reason.ptr != NULL && k < MR_DEAD_REASON_COUNT; k++) {
        page->reason = mr_bytes_equal(r->body.reason, mr_bytes_text(mr_dead_reasons[k])) ? k : page->reason;
    }
    if (r->body.reason.ptr != NULL && page->reason < 0) {
        return mr_error_set(error, MR_INVALID, "`reason`: `%s`; expected future or rejected",
                            mr_quote(r->body.reason).text);
    }
    const char *refusal = page->reason < 0 ? NULL : mr_redrive_refusal((enum mr_dead_reason)page->reason);
    return refusal == NULL ? MR_OK : mr_error_set(error, MR_INVALID, "`reason`: %s", refusal);
}

void mr_route_redrive(struct mr_request *request, struct mr_response *response) {
    struct redrive r = {.request = request, .server = request->server};
    struct mr_error error = {0};
    if (!mr_reply_no_params(request, response)) {
        return;
    }
    mr_buf_init(&r.notes, MR_REPLY_BYTES_MAX);
    enum mr_status status = mr_redrive_body_parse(request->body, &r.body, &error);
    status = status == MR_OK ? take_question(&r, &error) : status;
    if (status == MR_OK) {
        work(&r, response);
    } else if (status == MR_CLOSED) {
        mr_problem(response, 403, "%s", error.text);
    } else {
        mr_reply_refuse(response, &error);
    }
    mr_redrive_source_close(r.source);
    mr_redrive_body_finish(&r.body);
    mr_buf_finish(&r.notes);
}

static void see(void *ctx, const struct mr_dead_page *page, const struct mr_dead *entry) {
    (void)ctx;
    (void)page;
    (void)entry;
}

void mr_route_redrive_one(struct mr_request *request, struct mr_response *response) {
    struct redrive r = {.request = request, .server = request->server};
    if (!mr_dead_find(request, response, &r.only, see, NULL)) {
        return;
    }
    mr_buf_init(&r.notes, MR_REPLY_BYTES_MAX);
    r.page = (struct mr_dead_page){.stream = UINT32_MAX,
                                   .reason = -1,
                                   .after_lsn = r.only.lsn,
                                   .after_entry = r.only.entry,
                                   .visit = on_entry,
                                   .ctx = &r};
    work(&r, response);
    mr_redrive_source_close(r.source);
    mr_buf_finish(&r.notes);
}
