/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/metric_first.h"

#include "base/alloc.h"

static_assert(sizeof(struct mr_first_state) == 32, "data format");

struct text {
    struct mr_sketch head;
    uint32_t len;
    uint32_t capacity;
    uint8_t bytes[];
};

static bool is_better(enum mr_metric_kind kind, const struct mr_first_state *s, struct mr_place place) {
    struct mr_place mine = {s->time_ms, s->lsn, s->index};
    int order = mr_place_compare(place, mine);
    return s->kind == MR_SCALAR_NONE || (kind == MR_METRIC_FIRST ? order < 0 : order > 0);
}

/* A text that was there is written over if the new one fits. */
static enum mr_status set(struct mr_first_state *s, struct mr_place place, const struct mr_scalar *value) {
    struct text *text = s->kind == MR_SCALAR_TEXT ? (struct text *)s->text : NULL;
    struct mr_bytes bytes = value->kind == MR_SCALAR_TEXT ? value->text : mr_bytes_of(NULL, 0);
    if (bytes.len == 0 || (text != NULL && bytes.len > text->capacity)) {
        mr_free(text);
        text = NULL;
    }
    if (bytes.len > 0 && text == NULL) {
        size_t size = sizeof *text + mr_pad8(bytes.len);
        text = mr_alloc(size);
        if (text == NULL) {
            *s = (struct mr_first_state){.kind = MR_SCALAR_NONE};
            return MR_NO_MEMORY;
        }
        *text = (struct text){.head.heap = size, .capacity = (uint32_t)mr_pad8(bytes.len)};
    }
    *s = (struct mr_first_state){
        .time_ms = place.time_ms, .lsn = place.lsn, .index = place.index, .kind = value->kind};
    if (value->kind == MR_SCALAR_TEXT) {
        s->text = text == NULL ? NULL : &text->head;
    } else if (value->kind == MR_SCALAR_INT || value->kind == MR_SCALAR_DOUBLE) {
        memcpy(s->payload, value->payload, sizeof s->payload);
    }
    if (text != NULL) {
        text->len = (uint32_t)bytes.len;
        memcpy(text->bytes, bytes.ptr, bytes.len);
    }
    return MR_OK;
}

enum mr_status mr_first_add(const struct mr_metric *metric, const struct mr_batch *batch,
                            const struct mr_column *column, const uint32_t *events, uint8_t *const *states,
                            uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        struct mr_first_state *s = (void *)(states[k] + metric->offset);
        struct mr_place place = mr_place_of(batch, events[k]);
        struct mr_scalar value;
        if (!is_better(metric->kind, s, place) || !mr_scalar_read(batch, column, events[k], &value)) {
            continue;
        }
        mr_scalar_cut(&value);
        enum mr_status status = set(s, place, &value);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

static struct mr_scalar value_of(const struct mr_first_state *s, struct mr_bytes text) {
    return mr_scalar_of(s->kind, s->kind == MR_SCALAR_TEXT ? text : mr_bytes_of(s->payload, sizeof s->payload));
}

enum mr_status mr_first_merge(enum mr_metric_kind kind, struct mr_first_state *into,
                              const struct mr_first_state *from, struct mr_bytes text) {
    struct mr_place place = {from->time_ms, from->lsn, from->index};
    if (from->kind == MR_SCALAR_NONE || !is_better(kind, into, place)) {
        return MR_OK;
    }
    struct mr_scalar value = value_of(from, text);
    return set(into, place, &value);
}

struct mr_bytes mr_first_text(const struct mr_sketch *sketch) {
    const struct text *text = (const struct text *)sketch;
    return text == NULL ? mr_bytes_of(NULL, 0) : mr_bytes_of(text->bytes, text->len);
}

void mr_first_close(struct mr_sketch *sketch) {
    mr_free(sketch);
}

bool mr_first_check(const struct mr_first_state *s, struct mr_bytes text) {
    static const uint8_t zero[8];
    struct mr_scalar value = value_of(s, text);
    bool empty = memcmp(s->payload, zero, sizeof zero) == 0;
    switch (s->kind) {
    case MR_SCALAR_NONE:
        return s->time_ms == 0 && s->lsn == 0 && s->index == 0 && empty;
    case MR_SCALAR_FALSE:
    case MR_SCALAR_TRUE:
        return empty;
    default:
        return mr_scalar_check(&value);
    }
}

struct mr_number mr_first_finish(const struct mr_first_state *s, struct mr_bytes text, struct mr_arena *scratch) {
    struct mr_scalar value = value_of(s, text);
    switch (s->kind) {
    case MR_SCALAR_FALSE:
    case MR_SCALAR_TRUE:
        return (struct mr_number){.kind = MR_NUMBER_BOOL, .i = s->kind == MR_SCALAR_TRUE};
    case MR_SCALAR_INT:
        return (struct mr_number){.kind = MR_NUMBER_INT, .i = value.i};
    case MR_SCALAR_DOUBLE:
        return (struct mr_number){.kind = MR_NUMBER_DOUBLE, .d = value.d};
    case MR_SCALAR_TEXT:
        text = scratch == NULL ? text : mr_arena_copy(scratch, text);
        if (scratch != NULL && text.ptr == NULL) {
            return (struct mr_number){.kind = MR_NUMBER_NULL};
        }
        return (struct mr_number){.kind = MR_NUMBER_TEXT, .len = (uint32_t)text.len, .text = text.ptr};
    default:
        return (struct mr_number){.kind = MR_NUMBER_NULL};
    }
}
