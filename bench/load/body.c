/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/body.h"

#include "base/check.h"
#include "bench/load/squeeze.h"

#include <stdio.h>

#define BODY_MAX (UINT64_C(2) << 30)

void mr_load_body_init(struct mr_load_body *body) {
    *body = (struct mr_load_body){0};
    mr_buf_init(&body->buf, BODY_MAX);
}

void mr_load_body_finish(struct mr_load_body *body) {
    mr_buf_finish(&body->buf);
}

void mr_load_maker_init(struct mr_load_maker *maker) {
    *maker = (struct mr_load_maker){0};
    mr_buf_init(&maker->raw, BODY_MAX);
}

void mr_load_maker_finish(struct mr_load_maker *maker) {
    mr_buf_finish(&maker->raw);
    mr_load_squeezer_close(maker->squeezer);
    maker->squeezer = NULL;
}

/* The events of request k that is no repeat; counts what they are. */
static uint8_t *write_events(const struct mr_load_maker *maker, uint64_t k, uint8_t *at,
                             struct mr_load_body *ret) {
    const struct mr_load_plan *plan = maker->plan;
    const uint32_t batch = plan->o.batch;
    const uint8_t separator = maker->array ? ',' : '\n';
    uint32_t repeated = 0;
    uint32_t late = 0;
    for (uint64_t n = k * batch; n < (k + 1) * batch; n++) {
        struct mr_load_slot slot = mr_load_plan_event(plan, n);
        at += mr_load_events_write(maker->events, slot.source, mr_load_plan_time(plan, slot.source), at);
        *at++ = separator;
        if (slot.kind == MR_LOAD_REPEATED) {
            repeated++;
        } else {
            late += mr_load_plan_is_late(plan, slot.source);
        }
    }
    ret->repeated = repeated;
    ret->late = late;
    ret->fresh = batch - repeated - late;
    return at;
}

static bool append_events(const struct mr_load_maker *maker, uint64_t k, struct mr_buf *to,
                          struct mr_load_body *ret) {
    const uint32_t batch = maker->plan->o.batch;
    uint64_t source = mr_load_plan_request(maker->plan, k);
    uint8_t *room = mr_buf_reserve(to, (size_t)batch * (MR_LOAD_EVENT_BYTES_MAX + 1) + 2);
    if (room == NULL) {
        return false;
    }
    uint8_t *at = room;
    if (maker->array) {
        *at++ = '[';
    }
    at = write_events(maker, source, at, ret);
    if (maker->array) {
        at[-1] = ']';
    }
    to->len += (size_t)(at - room);
    if (source != k) {
        ret->repeated = batch;
        ret->fresh = 0;
        ret->late = 0;
    }
    ret->events = batch;
    ret->base_ms = mr_load_plan_base(maker->plan, k);
    return true;
}

static bool append_lines(const struct mr_load_maker *maker, uint64_t k, struct mr_buf *to,
                         struct mr_load_body *ret) {
    struct mr_bytes text = mr_load_lines_batch(maker->lines, k, &ret->events);
    mr_buf_append_bytes(to, text);
    ret->fresh = ret->events;
    ret->repeated = 0;
    ret->late = 0;
    ret->base_ms = 0;
    return !to->failed;
}

static void write_head(const struct mr_load_maker *maker, struct mr_load_body *ret) {
    static const char *const encodings[] = {
        [MR_ENCODING_IDENTITY] = "",
        [MR_ENCODING_GZIP] = "Content-Encoding: gzip\r\n",
        [MR_ENCODING_DEFLATE] = "Content-Encoding: deflate\r\n",
        [MR_ENCODING_ZSTD] = "Content-Encoding: zstd\r\n",
    };
    char head[MR_LOAD_HEAD_ROOM];
    int len = snprintf(head, sizeof head,
                       "POST /v1/streams/%s/events HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/%s\r\n"
                       "%sContent-Length: %zu\r\n\r\n",
                       maker->stream, maker->target->host, maker->target->authorization,
                       maker->array ? "json" : "x-ndjson", encodings[maker->encoding],
                       ret->buf.len - MR_LOAD_HEAD_ROOM);
    MR_ASSERT(len > 0 && len < MR_LOAD_HEAD_ROOM); /* host, token and stream are bounded */
    ret->start = MR_LOAD_HEAD_ROOM - (size_t)len;
    memcpy(ret->buf.ptr + ret->start, head, (size_t)len);
}

enum mr_status mr_load_maker_make(struct mr_load_maker *maker, uint64_t k,
                                  struct mr_load_body *ret) {
    bool squeezed = maker->encoding != MR_ENCODING_IDENTITY;
    mr_buf_clear(&ret->buf);
    mr_buf_clear(&maker->raw);
    if (mr_buf_reserve(&ret->buf, MR_LOAD_HEAD_ROOM) == NULL) {
        return MR_NO_MEMORY;
    }
    ret->buf.len = MR_LOAD_HEAD_ROOM;
    ret->request = k;
    struct mr_buf *to = squeezed ? &maker->raw : &ret->buf;
    bool made = maker->lines != NULL ? append_lines(maker, k, to, ret) : append_events(maker, k, to, ret);
    if (made && squeezed) {
        if (maker->squeezer == NULL && mr_load_squeezer_open(maker->encoding, &maker->squeezer) != MR_OK) {
            return MR_NO_MEMORY;
        }
        made = mr_load_squeeze(maker->squeezer, mr_buf_bytes(&maker->raw), &ret->buf) == MR_OK;
    }
    if (!made) {
        return MR_NO_MEMORY;
    }
    write_head(maker, ret);
    return MR_OK;
}
