/* SPDX-License-Identifier: Apache-2.0 */
#include "server/redrive_body.h"

#include "base/alloc.h"
#include "base/check.h"
#include "event/decode.h"

#include <stdlib.h>

static const char expected[] =
    "expected {\"stream\":…,\"reason\":…,\"limit\":…} or {\"ids\":[{\"lsn\":…,\"index\":…}]}";

/* The body is JSON, as mr_json_value_check says: only what stands where is looked at. */
struct reader {
    const uint8_t *at;
    const uint8_t *end;
    struct mr_error *error;
};

static enum mr_status refuse(struct reader *r, const char *what) {
    return mr_error_set(r->error, MR_INVALID, "%s; %s", what, expected);
}

static bool is_next(struct reader *r, char c) {
    while (r->at < r->end && memchr(" \t\r\n", *r->at, 4) != NULL) {
        r->at++;
    }
    return r->at < r->end && *r->at == (uint8_t)c;
}

static bool take(struct reader *r, char c) {
    bool is = is_next(r, c);
    r->at += is;
    return is;
}

static enum mr_status take_string(struct reader *r, struct mr_bytes *ret) {
    if (!take(r, '"')) {
        return refuse(r, "a value that is no string");
    }
    const uint8_t *first = r->at;
    while (r->at < r->end && *r->at != '"' && *r->at != '\\') {
        r->at++;
    }
    if (r->at == r->end || *r->at != '"') {
        return refuse(r, "a string with an escape");
    }
    *ret = mr_bytes_of(first, (size_t)(r->at++ - first));
    return MR_OK;
}

static enum mr_status take_number(struct reader *r, uint64_t most, uint64_t *ret) {
    uint64_t value = 0;
    (void)is_next(r, '0'); /* passes over white space */
    const uint8_t *first = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        uint64_t digit = (uint64_t)(*r->at++ - '0');
        if (value > (most - digit) / 10) {
            return mr_error_set(r->error, MR_INVALID, "a number over %llu; %s", (unsigned long long)most, expected);
        }
        value = value * 10 + digit;
    }
    bool ends = r->at < r->end && memchr(".eE", *r->at, 3) == NULL;
    if (r->at == first || !ends) {
        return refuse(r, "a value that is no whole number");
    }
    *ret = value;
    return MR_OK;
}

/* Takes the next member's name and the colon. */
static enum mr_status take_name(struct reader *r, struct mr_bytes *ret) {
    enum mr_status status = take_string(r, ret);
    return status == MR_OK && !take(r, ':') ? refuse(r, "a name without a value") : status;
}

static bool is_name(struct mr_bytes name, const char *text) {
    return mr_bytes_equal(name, mr_bytes_text(text));
}

static enum mr_status take_id(struct reader *r, struct mr_redrive_id *ret) {
    enum mr_status status = take(r, '{') ? MR_OK : refuse(r, "an id that is no object");
    bool has_lsn = false;
    bool has_index = false;
    for (bool more = true; status == MR_OK && more; more = take(r, ',')) {
        struct mr_bytes name;
        uint64_t index = 0;
        status = take_name(r, &name);
        if (status != MR_OK) {
            break;
        }
        if (is_name(name, "lsn") && !has_lsn) {
            has_lsn = true;
            status = take_number(r, UINT64_MAX - 10, &ret->lsn);
        } else if (is_name(name, "index") && !has_index) {
            has_index = true;
            status = take_number(r, UINT32_MAX, &index);
            ret->index = (uint32_t)index;
        } else {
            return refuse(r, "an id has lsn and index, each once");
        }
    }
    if (status == MR_OK && (!has_lsn || !has_index || !take(r, '}'))) {
        return refuse(r, "an id has lsn and index");
    }
    return status;
}

static int by_place(const void *a, const void *b) {
    const struct mr_redrive_id *x = a;
    const struct mr_redrive_id *y = b;
    int by_lsn = (x->lsn > y->lsn) - (x->lsn < y->lsn);
    return by_lsn != 0 ? by_lsn : (x->index > y->index) - (x->index < y->index);
}

static void sort_ids(struct mr_redrive_body *body) {
    uint32_t kept = 0;
    qsort(body->ids, body->id_count, sizeof *body->ids, by_place);
    for (uint32_t i = 0; i < body->id_count; i++) {
        if (kept == 0 || by_place(&body->ids[i], &body->ids[kept - 1]) != 0) {
            body->ids[kept++] = body->ids[i];
        }
    }
    body->id_count = kept;
}

static enum mr_status take_ids(struct reader *r, struct mr_redrive_body *ret) {
    /* The shortest id is {"lsn":1,"index":0}, with a comma 20 bytes. */
    size_t most = (size_t)(r->end - r->at) / 18 + 1;
    ret->ids = mr_alloc_zero(most, sizeof *ret->ids);
    if (ret->ids == NULL) {
        return mr_error_set(r->error, MR_NO_MEMORY, "out of memory for %zu ids", most);
    }
    if (!take(r, '[')) {
        return refuse(r, "ids are no array");
    }
    enum mr_status status = MR_OK;
    for (bool more = !is_next(r, ']'); status == MR_OK && more; more = take(r, ',')) {
        MR_ASSERT(ret->id_count < most);
        status = take_id(r, &ret->ids[ret->id_count]);
        ret->id_count += status == MR_OK;
    }
    if (status == MR_OK && !take(r, ']')) {
        return refuse(r, "ids are no array");
    }
    sort_ids(ret);
    return status;
}

static enum mr_status take_limit(struct reader *r, struct mr_redrive_body *ret) {
    uint64_t limit = 0;
    enum mr_status status = take_number(r, MR_REDRIVE_LIMIT_MAX, &limit);
    if (status == MR_OK && limit == 0) {
        return refuse(r, "a limit of 0");
    }
    ret->limit = (uint32_t)limit;
    return status;
}

static enum mr_status take_member(struct reader *r, struct mr_redrive_body *ret) {
    struct mr_bytes name;
    enum mr_status status = take_name(r, &name);
    if (status != MR_OK) {
        return status;
    }
    if (is_name(name, "stream") && ret->stream.ptr == NULL) {
        return take_string(r, &ret->stream);
    }
    if (is_name(name, "reason") && ret->reason.ptr == NULL) {
        return take_string(r, &ret->reason);
    }
    if (is_name(name, "limit") && ret->limit == 0) {
        return take_limit(r, ret);
    }
    if (is_name(name, "ids") && ret->ids == NULL) {
        return take_ids(r, ret);
    }
    return refuse(r, "a member that is not known, or twice");
}

enum mr_status mr_redrive_body_parse(struct mr_bytes body, struct mr_redrive_body *ret, struct mr_error *error) {
    *ret = (struct mr_redrive_body){.limit = 0};
    struct reader r = {body.ptr, body.ptr + body.len, error};
    struct mr_error inner = {.text = ""};
    enum mr_status status = mr_json_value_check(body, &inner);
    if (status != MR_OK) {
        return status == MR_NO_MEMORY
                   ? mr_error_set(error, status, "out of memory reading the body")
                   : mr_error_set(error, status, "the body is not JSON (%.100s); %s", inner.text, expected);
    }
    if (!take(&r, '{')) {
        return refuse(&r, "the body is no object");
    }
    for (bool more = !is_next(&r, '}'); status == MR_OK && more; more = take(&r, ',')) {
        status = take_member(&r, ret);
    }
    if (status == MR_OK && ret->ids != NULL && (ret->stream.ptr != NULL || ret->reason.ptr != NULL || ret->limit > 0)) {
        return refuse(&r, "ids stand alone");
    }
    ret->limit = ret->limit == 0 ? MR_REDRIVE_LIMIT : ret->limit;
    return status;
}

void mr_redrive_body_finish(struct mr_redrive_body *body) {
    mr_free(body->ids);
    body->ids = NULL;
}

struct mr_redrive_id *mr_redrive_body_find(const struct mr_redrive_body *body, uint64_t lsn, uint32_t index) {
    struct mr_redrive_id wanted = {.lsn = lsn, .index = index};
    return bsearch(&wanted, body->ids, body->id_count, sizeof wanted, by_place);
}
