/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the walk does with values where no vector instruction helps: times, CloudEvents attributes,
 * escapes, faults.
 */
#include "base/check.h"
#include "base/time_text.h"
#include "event/text.h"
#include "event/walk.h"

#define TIMES8(c)  c, c, c, c, c, c, c, c
#define TIMES32(c) TIMES8(c), TIMES8(c), TIMES8(c), TIMES8(c)

_Alignas(32) const uint8_t mr_scan_stops[3][32] = {{TIMES32('"')}, {TIMES32('\\')}, {TIMES32(' ')}};

const uint8_t *mr_walk_refuse(struct mr_walk *walk, enum mr_reject reject, const uint8_t *at,
                              const char *expected) {
    MR_ASSERT(reject != MR_REJECT_NONE && at <= walk->end + MR_PADDING);
    walk->fault = (struct mr_fault){
        .reject = reject,
        .syntax = true,
        .text = expected,
        .at = at < walk->end ? at : walk->end,
    };
    return NULL;
}

void mr_walk_object(struct mr_walk *walk, enum mr_reject reject, uint32_t node, const char *text,
                    const uint8_t *at, size_t len) {
    MR_ASSERT(reject != MR_REJECT_NONE);
    if (walk->fault.reject != MR_REJECT_NONE) {
        return;
    }
    walk->fault = (struct mr_fault){
        .reject = reject,
        .node = (uint16_t)node,
        .text = text,
        .at = at,
        .len = (uint32_t)len,
    };
}

bool mr_walk_unescape(struct mr_walk *walk, struct mr_text *text) {
    enum { BEHIND = 16 }; /* zero bytes, for number scans, which read words */
    uint8_t *room = mr_buf_reserve(walk->unescaped, text->len + (size_t)BEHIND);
    if (room == NULL) {
        walk->no_memory = true;
        return false;
    }
    size_t len = mr_unescape(walk->body + text->off, text->len, room);
    memset(room + len, 0, BEHIND);
    *text = (struct mr_text){(uint32_t)walk->unescaped->len | MR_TEXT_UNESCAPED, (uint32_t)len};
    walk->unescaped->len += len;
    return true;
}

static void set_time(struct mr_walk *walk, uint32_t node, int64_t ms, const char *outside,
                     struct mr_bytes raw) {
    if (ms < MR_TIME_MIN_MS || ms >= MR_TIME_MAX_MS) {
        mr_walk_object(walk, MR_REJECT_BAD_TIME, node, outside, raw.ptr, raw.len);
        return;
    }
    walk->time_ms = ms;
    walk->has_time = true;
}

struct unit {
    int shift; /* 10^shift makes it milliseconds */
    const char *outside;
};

static const struct unit units[] = {
    [MR_TIME_S] = {3, "outside 2000 to 2100 when read as seconds"},
    [MR_TIME_MS] = {0, "outside 2000 to 2100 when read as milliseconds"},
    [MR_TIME_US] = {-3, "outside 2000 to 2100 when read as microseconds"},
    [MR_TIME_NS] = {-6, "outside 2000 to 2100 when read as nanoseconds"},
};

static void time_number(struct mr_walk *walk, uint32_t node, const struct mr_decimal *decimal,
                        struct mr_bytes raw) {
    enum mr_time_format format = walk->schema->options.time_format;
    if (format == MR_TIME_RFC3339) {
        mr_walk_object(walk, MR_REJECT_BAD_TIME, node,
                       "not RFC 3339; for numbers declare the unit (s, ms, us, ns)", raw.ptr,
                       raw.len);
        return;
    }
    const struct unit *unit = &units[format];
    uint64_t ms = 0;
    /* The floor of a negative time is negative, and so outside like every time before 2000. */
    if (decimal->negative || !mr_decimal_floor(decimal, unit->shift, &ms)) {
        ms = 0;
    }
    set_time(walk, node, (int64_t)ms, unit->outside, raw);
}

static_assert(MR_TIME_MIN_MS > 0, "0 ms is outside");

void mr_walk_time_number(struct mr_walk *walk, uint32_t node, const struct mr_decimal *decimal) {
    time_number(walk, node, decimal, mr_bytes_of(decimal->text, decimal->len));
}

void mr_walk_time_text(struct mr_walk *walk, uint32_t node, struct mr_text text,
                       struct mr_bytes raw) {
    struct mr_bytes bytes = mr_walk_text(walk, text);
    struct mr_decimal decimal;
    const uint8_t *end = bytes.len > 0 ? mr_decimal_scan(bytes.ptr, &decimal) : NULL;
    if (end == bytes.ptr + bytes.len) {
        time_number(walk, node, &decimal, raw);
        return;
    }
    int64_t ms = 0;
    if (!mr_time_parse(bytes, &ms)) {
        mr_walk_object(walk, MR_REJECT_BAD_TIME, node, "neither RFC 3339 nor a number", raw.ptr,
                       raw.len);
        return;
    }
    set_time(walk, node, ms, "outside 2000 to 2100", raw);
}

void mr_walk_attribute(struct mr_walk *walk, uint32_t node, enum mr_attribute attribute,
                       struct mr_text text, struct mr_bytes raw) {
    struct mr_bytes bytes = mr_walk_text(walk, text);
    if (attribute == MR_CE_SPECVERSION && !mr_bytes_equal(bytes, MR_BYTES("1.0"))) {
        mr_walk_object(walk, MR_REJECT_BAD_CLOUDEVENT, node, "specversion is not \"1.0\"", raw.ptr,
                       raw.len);
    } else if (bytes.len == 0) {
        mr_walk_object(walk, MR_REJECT_BAD_CLOUDEVENT, node, "empty", raw.ptr, raw.len);
    }
    walk->attributes |= (uint8_t)(1u << attribute);
}
