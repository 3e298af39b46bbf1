/* SPDX-License-Identifier: Apache-2.0 */
/* Dead letters: GET /v1/dead-letters: what was not counted, and why, oldest first. */
#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/report.h"
#include "pipeline/dead_letters.h"
#include "server/accept.h"
#include "server/cursor.h"
#include "server/dead.h"
#include "server/reply.h"
#include "server/routes.h"

enum { LIMIT = 1000, LIMIT_MAX = 10000, ADDRESS_CAP = 64 };

static const char *const names[] = {"stream", "reason", "limit", "cursor", "format"};
const char *const mr_dead_reasons[MR_DEAD_REASON_COUNT] = {
#define X(name, text) [MR_DEAD_##name] = text,
    MR_DEAD_REASON_TABLE(X)
#undef X
};

struct listing {
    const struct mr_request *request;
    struct mr_response *response;
    struct mr_params params;
    enum mr_answer answer;
    uint32_t limit;
    uint64_t question;
    struct mr_dead_page page;
    uint32_t count; /* entries written */
    bool full;      /* by bytes: the page ends before this entry */
    uint64_t end_lsn;
    uint32_t end_entry;
    struct mr_json json;
};

/* MR_CLOSED: the token has no right to the stream (403). */
static enum mr_status take_stream(struct listing *l, struct mr_error *error) {
    const struct mr_param *param = mr_params_find(&l->params, "stream");
    l->page.stream = UINT32_MAX;
    if (param == NULL) {
        return MR_OK;
    }
    l->page.stream = mr_config_stream_index(l->request->server->config, param->value);
    if (l->page.stream == UINT32_MAX) {
        return mr_error_set(error, MR_INVALID,
                            "query parameter `stream`: no stream `%s`; GET /v1/streams lists them",
                            mr_quote(param->value).text);
    }
    l->page.stream_name = param->value;
    if (!mr_request_may_use_stream(l->request, l->page.stream)) {
        return mr_error_set(error, MR_CLOSED, "the token has no right to stream `%s`",
                            mr_quote(param->value).text);
    }
    return MR_OK;
}

static enum mr_status take_cursor(struct listing *l, struct mr_error *error) {
    struct {
        uint64_t kind;
        uint64_t stream;
        int64_t reason;
    } question = {0x64656164 /* "dead" */, l->page.stream, l->page.reason};
    l->question = mr_checksum(mr_bytes_of(&question, sizeof question));
    const struct mr_param *param = mr_params_find(&l->params, "cursor");
    if (param == NULL) {
        return MR_OK;
    }
    struct mr_buf scratch;
    struct mr_cursor cursor;
    mr_buf_init(&scratch, MR_CURSOR_TEXT_MAX);
    enum mr_status status = mr_cursor_decode(param->value, l->question, &scratch, &cursor, error);
    if (status == MR_OK && cursor.rest.len != sizeof l->page.after_entry) {
        status = mr_error_set(error, MR_INVALID, "query parameter `cursor`: not of dead letters");
    }
    if (status == MR_OK) {
        l->page.after_lsn = cursor.place;
        memcpy(&l->page.after_entry, cursor.rest.ptr, sizeof l->page.after_entry);
    }
    mr_buf_finish(&scratch);
    return status;
}

static enum mr_status take_params(struct listing *l, struct mr_error *error) {
    uint32_t reason = MR_DEAD_REASON_COUNT;
    l->limit = LIMIT;
    enum mr_status status = mr_params_init(&l->params, l->request->query, error);
    if (status == MR_OK) {
        status = mr_params_known(&l->params, names, sizeof names / sizeof names[0], NULL, error);
    }
    status = status == MR_OK ? take_stream(l, error) : status;
    if (status == MR_OK) {
        status =
            mr_params_choice(&l->params, "reason", mr_dead_reasons, MR_DEAD_REASON_COUNT, &reason, error);
        l->page.reason = reason == MR_DEAD_REASON_COUNT ? -1 : (int)reason;
    }
    status = status == MR_OK ? mr_params_count(&l->params, "limit", 1, LIMIT_MAX, &l->limit, error)
                             : status;
    if (status == MR_OK) {
        status = mr_answer_choose(&l->params, l->request->accept, MR_ANSWER_NDJSON + 1, &l->answer,
                                  error);
    }
    return status == MR_OK ? take_cursor(l, error) : status;
}

bool mr_dead_may_see(const struct mr_request *request, const struct mr_dead *entry) {
    uint32_t stream = mr_config_stream_index(request->server->config, mr_dead_stream(entry));
    return stream == UINT32_MAX ? request->token == NULL || request->token->all_streams
                                : mr_request_may_use_stream(request, stream);
}

/* page->next_* is still the place behind the entry before. The first entry is given out whatever its size. */
static void on_entry(void *ctx, const struct mr_dead *entry) {
    struct listing *l = ctx;
    struct mr_buf *body = &l->response->body;
    if (l->full || entry->json.len == 0 || !mr_dead_may_see(l->request, entry)) {
        return;
    }
    if (l->count > 0 && body->len + entry->json.len + ADDRESS_CAP > MR_REPLY_BYTES_MAX) {
        l->full = true;
        l->end_lsn = l->page.next_lsn;
        l->end_entry = l->page.next_entry;
        return;
    }
    l->count++;
    if (l->answer == MR_ANSWER_JSON) {
        mr_dead_write(&l->page, entry, &l->json);
    } else {
        mr_json_init(&l->json, body);
        mr_dead_write(&l->page, entry, &l->json);
        mr_buf_append_char(body, '\n');
    }
}

/* The marks are copied, so that a long page keeps nobody waiting: they are few. */
enum mr_status mr_dead_read(struct mr_server *server, struct mr_dead_page *page, struct mr_error *error) {
    const struct mr_datadir *datadir = server->datadir;
    struct mr_dead_marks marks = {.count = 0};
    (void)pthread_mutex_lock(&server->dead_lock); /* cannot fail: not recursive, and initialized */
    enum mr_status status = mr_dead_marks_scan(&server->dead_marks, datadir->disk, datadir->dead_dir,
                                               mr_pipeline_dead_lsn(server->pipeline), error);
    if (status == MR_OK && server->dead_marks.count > 0) {
        marks.items = mr_alloc_zero(server->dead_marks.count, sizeof *marks.items);
        marks.count = marks.items == NULL ? 0 : server->dead_marks.count;
        status = marks.items == NULL ? mr_error_set(error, MR_NO_MEMORY, "out of memory reading dead letters") : MR_OK;
    }
    if (marks.count > 0) {
        memcpy(marks.items, server->dead_marks.items, marks.count * sizeof *marks.items);
    }
    (void)pthread_mutex_unlock(&server->dead_lock);
    page->marks = &marks;
    if (status == MR_OK) {
        status = mr_dead_letters_read(datadir->disk, datadir->dead_dir, page, error);
    }
    page->marks = NULL;
    mr_free(marks.items);
    return status;
}

/* Entries that the token may not see count in the log's page, not in ours: more pages until ours is full. */
static enum mr_status read_pages(struct listing *l, struct mr_error *error) {
    enum mr_status status = MR_OK;
    do {
        l->page.limit = l->limit - l->count;
        l->page.last_lsn = mr_pipeline_dead_lsn(l->request->server->pipeline);
        status = mr_dead_read(l->request->server, &l->page, error);
        l->page.after_lsn = l->page.next_lsn;
        l->page.after_entry = l->page.next_entry;
    } while (status == MR_OK && l->page.more && l->count < l->limit && !l->full);
    if (!l->full) {
        l->end_lsn = l->page.next_lsn;
        l->end_entry = l->page.next_entry;
    }
    return status;
}

static void write_end(struct listing *l) {
    struct mr_buf cursor;
    mr_buf_init(&cursor, MR_CURSOR_TEXT_MAX);
    if (l->page.more || l->full) {
        struct mr_cursor place = {
            .question = l->question,
            .from_ms = INT64_MIN,
            .to_ms = INT64_MAX,
            .place = l->end_lsn,
            .rest = mr_bytes_of(&l->end_entry, sizeof l->end_entry),
        };
        mr_cursor_encode(&place, &cursor);
        l->response->body.failed = l->response->body.failed || cursor.failed;
    }
    if (l->answer == MR_ANSWER_JSON) {
        mr_json_array_end(&l->json);
        mr_json_key(&l->json, "next_cursor");
        if (cursor.len > 0) {
            mr_json_string(&l->json, mr_buf_bytes(&cursor));
        } else {
            mr_json_null(&l->json);
        }
        mr_json_object_end(&l->json);
    } else {
        mr_reply_next_cursor(l->response, mr_buf_bytes(&cursor));
    }
    mr_buf_finish(&cursor);
}

void mr_dead_refuse_log(struct mr_response *response, const struct mr_error *error) {
    char shown[MR_ERROR_TEXT_MAX];
    mr_report(MR_LEVEL_ERROR, "dead_letters_unreadable", "reason=%s",
              mr_report_value(error->text, shown, sizeof shown));
    mr_reply_clear(response);
    mr_problem(response, error->status == MR_CORRUPT ? 500 : 503,
               "the dead-letter log cannot be read (%s); the server's reports say more",
               mr_status_text(error->status));
}

static void answer(struct listing *l) {
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    enum mr_status status = mr_server_ask(l->request->server, &flush);
    if (status != MR_OK) {
        mr_reply_not_asked(l->response, status);
        return;
    }
    l->response->content_type = mr_answer_media_type(l->answer);
    if (l->answer == MR_ANSWER_JSON) {
        mr_json_init(&l->json, &l->response->body);
        mr_json_object_begin(&l->json);
        mr_json_key(&l->json, "entries");
        mr_json_array_begin(&l->json);
    }
    struct mr_error error = {0};
    status = read_pages(l, &error);
    if (status != MR_OK) {
        mr_dead_refuse_log(l->response, &error);
        return;
    }
    write_end(l);
    if (l->response->body.failed) {
        mr_reply_not_asked(l->response, MR_NO_MEMORY);
    }
}

void mr_route_dead_letters(struct mr_request *request, struct mr_response *response) {
    struct listing l = {.request = request, .response = response};
    l.page.visit = on_entry;
    l.page.ctx = &l;
    struct mr_error error = {0};
    enum mr_status status = take_params(&l, &error);
    if (status == MR_OK) {
        answer(&l);
    } else if (status == MR_CLOSED) {
        mr_problem(response, 403, "%s", error.text);
    } else {
        mr_reply_refuse(response, &error);
    }
    mr_params_finish(&l.params);
}
