/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Body: one request as bytes: the head, and the events behind it, compressed or not.
 *
 * Idea        A request is a function of its number, so a retry, and a repeat by the plan, is the same bytes. The head's
 *             length depends on the body's: it is written last, right before the body, into room kept for it.
 *
 *                 buf   ........POST /v1/streams/events/events HTTP/1.1 … {"id":…}\n{"id":…}\n
 *                       ^room   ^start                                   ^HEAD_ROOM
 * Owner       A body belongs to one thread; a maker too. What the maker reads is shared and constant.
 * Errors      MR_NO_MEMORY.
 */
#include "base/codec.h"
#include "bench/load/events.h"
#include "bench/load/lines.h"
#include "bench/load/plan.h"
#include "bench/load/target.h"

#define MR_LOAD_HEAD_ROOM 2048

struct mr_load_squeezer;

struct mr_load_body {
    struct mr_buf buf;
    size_t start; /* of the request in buf */
    uint64_t request;
    uint32_t events;
    /* What the plan says of its events. */
    uint32_t fresh;
    uint32_t repeated;
    uint32_t late;
    uint64_t due_ns;
    int64_t base_ms; /* event time that it is about */
};

struct mr_load_maker {
    const struct mr_load_plan *plan;
    const struct mr_load_events *events;
    const struct mr_load_lines *lines; /* instead of plan and events; NULL: those */
    const struct mr_load_target *target;
    const char *stream;
    bool array;
    enum mr_encoding encoding;
    struct mr_buf raw; /* before it is compressed */
    struct mr_load_squeezer *squeezer; /* opened when needed */
};

void mr_load_body_init(struct mr_load_body *body);
void mr_load_body_finish(struct mr_load_body *body);

void mr_load_maker_init(struct mr_load_maker *maker);
void mr_load_maker_finish(struct mr_load_maker *maker);
/* Makes request k. */
enum mr_status mr_load_maker_make(struct mr_load_maker *maker, uint64_t k,
                                  struct mr_load_body *ret) MR_MUST_CHECK;

static inline struct mr_bytes mr_load_body_bytes(const struct mr_load_body *body) {
    return mr_bytes_of(body->buf.ptr + body->start, body->buf.len - body->start);
}
