/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dead letter: GET /v1/dead-letters/{address}: one of them; and what its routes have in common.
 *
 * An address is the entry's place in the dead-letter log, which is only appended to: it names the same entry for as
 * long as that is kept, and, unlike the event's lsn and index, every entry has one.
 */
#include "base/check.h"
#include "server/dead.h"
#include "server/params.h"
#include "server/reply.h"
#include "server/routes.h"

#include <inttypes.h>
#include <stdio.h>

enum { MEMBER_CAP = 64 };

void mr_dead_write(const struct mr_dead_page *page, const struct mr_dead *entry, struct mr_json *json) {
    char member[MEMBER_CAP];
    MR_ASSERT(entry->json.len > 2 && entry->json.ptr[0] == '{'); /* it says its reason at least */
    int len =
        snprintf(member, sizeof member, "{\"address\":\"%" PRIu64 "-%" PRIu32 "\",", page->at_lsn, page->at_entry);
    MR_ASSERT(len > 0 && len < MEMBER_CAP);
    mr_json_raw(json, mr_bytes_of(member, (size_t)len));
    mr_buf_append(json->buf, entry->json.ptr + 1, entry->json.len - 1);
}

/* Digits alone, without leading zeros: an entry has one address. false also over most. */
static bool take_number(const uint8_t **at, const uint8_t *end, uint64_t most, uint64_t *ret) {
    const uint8_t *begin = *at;
    uint64_t value = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (value > (most - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *ret = value;
    return *at > begin && (*begin != '0' || *at == begin + 1);
}

static bool parse(struct mr_bytes text, struct mr_dead_address *ret) {
    const uint8_t *at = text.ptr;
    const uint8_t *end = at + text.len;
    uint64_t entry = 0;
    if (!take_number(&at, end, INT64_MAX, &ret->lsn) || at == end || *at++ != '-' ||
        !take_number(&at, end, UINT32_MAX - 1, &entry)) {
        return false;
    }
    ret->entry = (uint32_t)entry;
    return at == end && ret->lsn > 0;
}

struct finding {
    const struct mr_request *request;
    struct mr_dead_page page;
    struct mr_dead_address wanted;
    bool found;
    uint64_t oldest_lsn;
    void (*visit)(void *ctx, const struct mr_dead_page *page, const struct mr_dead *entry);
    void *ctx;
};

/* Behind the place before the one that is wanted, the first one may be another. */
static void on_entry(void *ctx, const struct mr_dead *entry) {
    struct finding *f = ctx;
    if (f->page.at_lsn == f->wanted.lsn && f->page.at_entry == f->wanted.entry && mr_dead_may_see(f->request, entry)) {
        f->found = true;
        f->visit(f->ctx, &f->page, entry);
    }
}

static void on_oldest(void *ctx, const struct mr_dead *entry) {
    struct finding *f = ctx;
    (void)entry;
    f->oldest_lsn = f->page.at_lsn;
}

static void ignore(void *ctx, const struct mr_dead_page *page, const struct mr_dead *entry) {
    (void)ctx;
    (void)page;
    (void)entry;
}

/* 404, and why. What was discarded is still in the log. */
static enum mr_status refuse(struct finding *f, struct mr_response *response, struct mr_error *error) {
    const struct mr_datadir *datadir = f->request->server->datadir;
    const struct mr_quoted text = mr_quote(f->request->params[0]);
    f->visit = ignore;
    enum mr_status status = mr_dead_letters_read(datadir->disk, datadir->dead_dir, &f->page, error);
    if (status == MR_OK && f->found) {
        mr_problem(response, 404, "dead letter `%s` was discarded", text.text);
        return status;
    }
    f->page.after_lsn = 0;
    f->page.after_entry = 0;
    f->page.last_lsn = mr_pipeline_dead_lsn(f->request->server->pipeline);
    f->page.visit = on_oldest;
    status = status == MR_OK ? mr_dead_letters_read(datadir->disk, datadir->dead_dir, &f->page, error) : status;
    if (status == MR_OK && f->wanted.lsn < f->oldest_lsn) {
        mr_problem(response, 404,
                   "no dead letter `%s` any more: those before record %" PRIu64
                   " are not kept (log.retain, log.retain_bytes)",
                   text.text, f->oldest_lsn);
    } else if (status == MR_OK) {
        mr_problem(response, 404, "no dead letter `%s`; GET /v1/dead-letters lists them", text.text);
    }
    return status;
}

bool mr_dead_find(const struct mr_request *request, struct mr_response *response, struct mr_dead_address *ret,
                  void (*visit)(void *ctx, const struct mr_dead_page *page, const struct mr_dead *entry), void *ctx) {
    struct finding f = {.request = request, .visit = visit, .ctx = ctx};
    struct mr_error error = {0};
    if (!mr_reply_no_params(request, response)) {
        return false;
    }
    if (!parse(request->params[0], &f.wanted)) {
        mr_problem(response, 404,
                   "`%s` is no address of a dead letter; expected one as GET /v1/dead-letters shows, as 17-3",
                   mr_quote(request->params[0]).text);
        return false;
    }
    uint64_t durable_lsn = mr_pipeline_dead_lsn(request->server->pipeline);
    f.page = (struct mr_dead_page){
        .stream = UINT32_MAX,
        .reason = -1,
        .limit = 1,
        .last_lsn = f.wanted.lsn < durable_lsn ? f.wanted.lsn : durable_lsn,
        .after_lsn = f.wanted.lsn,
        .after_entry = f.wanted.entry,
        .visit = on_entry,
        .ctx = &f,
    };
    enum mr_status status = mr_dead_read(request->server, &f.page, &error);
    bool found = f.found;
    if (status == MR_OK && !found) {
        status = refuse(&f, response, &error);
    }
    if (status != MR_OK) {
        mr_dead_refuse_log(response, &error);
        return false;
    }
    *ret = f.wanted;
    return found;
}

static void write_it(void *ctx, const struct mr_dead_page *page, const struct mr_dead *entry) {
    mr_dead_write(page, entry, ctx);
}

void mr_route_dead_letter(struct mr_request *request, struct mr_response *response) {
    struct mr_json json;
    struct mr_dead_address address;
    mr_json_init(&json, &response->body);
    (void)mr_dead_find(request, response, &address, write_it, &json); /* else the answer is given */
}
