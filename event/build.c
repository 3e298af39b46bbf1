/* SPDX-License-Identifier: Apache-2.0 */
#include "event/build.h"

#include "base/check.h"
#include "event/columns.h"
#include "event/decode.h"
#include "event/fault.h"
#include "event/text.h"

bool mr_build_make_room(struct mr_build *b, enum mr_status *ret) {
    struct mr_batch *batch = b->batch;
    uint32_t max = b->schema->options.events_max;
    if (batch->count == max) {
        *ret = mr_error_set(b->error, MR_LIMIT, "more than %u events in one request", max);
        return false;
    }
    if (batch->count < batch->capacity) {
        return true;
    }
    uint32_t capacity = batch->capacity > max / 2 ? max : batch->capacity * 2;
    if (!mr_batch_grow(batch, batch->count, capacity)) {
        *ret = mr_error_set(b->error, MR_NO_MEMORY, "out of memory");
        return false;
    }
    return true;
}

void mr_build_begin_event(struct mr_build *b) {
    mr_walk_begin(b->walk);
    b->walk->row = b->batch->count;
    b->text_mark = b->walk->unescaped->len;
}

static uint32_t line_of(struct mr_build *b, const uint8_t *at) {
    while (b->line_at > at) { /* only for events that are rejected late */
        const uint8_t *feed = memrchr(at, '\n', (size_t)(b->line_at - at));
        b->line -= feed != NULL;
        b->line_at = feed != NULL ? feed : at;
    }
    while (b->line_at < at) {
        const uint8_t *feed = memchr(b->line_at, '\n', (size_t)(at - b->line_at));
        b->line += feed != NULL;
        b->line_at = feed != NULL ? feed + 1 : at;
    }
    return b->line;
}

static bool reject_row(struct mr_build *b, struct mr_bytes event) {
    struct mr_batch *batch = b->batch;
    uint32_t i = batch->count;
    mr_batch_clear_row(batch, i);
    b->walk->unescaped->len = b->text_mark;
    batch->verdicts[i] = MR_VERDICT_REJECTED;
    batch->rejected++;
    if (batch->error_count == MR_ERRORS_MAX) {
        batch->errors_truncated = true;
        return true;
    }
    if (!mr_batch_errors(batch)) {
        return false;
    }
    struct mr_event_error *error = &batch->errors[batch->error_count++];
    error->index = i;
    error->line = line_of(b, event.ptr);
    mr_fault_tell(b->walk, event, error);
    return true;
}

bool mr_build_reject_late(struct mr_build *b, uint32_t i, enum mr_reject reject, struct mr_bytes name,
                          const char *detail) {
    struct mr_batch *batch = b->batch;
    MR_ASSERT(i < batch->count && batch->verdicts[i] == MR_VERDICT_NONE);
    batch->arrivals -= batch->times_ms[i] == MR_TIME_ARRIVAL;
    mr_batch_clear_row(batch, i);
    batch->verdicts[i] = MR_VERDICT_REJECTED;
    batch->rejected++;
    if (!mr_batch_errors(batch)) {
        return false;
    }
    uint32_t at = batch->error_count;
    while (at > 0 && batch->errors[at - 1].index > i) {
        at--;
    }
    batch->errors_truncated = batch->errors_truncated || batch->error_count == MR_ERRORS_MAX;
    if (at == MR_ERRORS_MAX) {
        return true;
    }
    batch->error_count -= batch->error_count == MR_ERRORS_MAX; /* the last one has no room */
    struct mr_event_error *error = &batch->errors[at];
    memmove(error + 1, error, (batch->error_count - at) * sizeof *error);
    batch->error_count++;
    *error = (struct mr_event_error){
        .index = i,
        .line = line_of(b, b->walk->body + batch->spans[i].off),
        .reject = reject,
    };
    struct mr_line line;
    mr_line_init(&line, error->detail, sizeof error->detail);
    mr_line_add(&line, name.ptr, name.len);
    mr_line_add_text(&line, ": ");
    mr_line_add_text(&line, detail);
    return true;
}

void mr_build_count_times(struct mr_build *b) {
    struct mr_batch *batch = b->batch;
    batch->time_max_ms = INT64_MIN;
    for (uint32_t i = 0; i < batch->count; i++) { /* MR_TIME_ARRIVAL is the least there is */
        if (batch->verdicts[i] != MR_VERDICT_REJECTED && batch->times_ms[i] > batch->time_max_ms) {
            batch->time_max_ms = batch->times_ms[i];
        }
    }
}

/* The id's parts, each behind its length, absent ones as a length alone: ("a", "bc") is not ("ab",
 * "c"). */
static struct mr_fingerprint hash_parts(const struct mr_secret *secret,
                                        const struct mr_bytes *parts, uint32_t count) {
    uint8_t joined[MR_ID_PARTS_MAX * (4 + MR_ID_LEN_MAX)];
    size_t len = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t part_len = parts[i].ptr == NULL ? UINT32_MAX : (uint32_t)parts[i].len;
        for (int shift = 0; shift < 32; shift += 8) {
            joined[len++] = (uint8_t)(part_len >> shift);
        }
        if (parts[i].ptr != NULL) {
            /* Longer ones are in no event (bad_id): the length alone makes this another id. */
            size_t kept = parts[i].len < MR_ID_LEN_MAX ? parts[i].len : MR_ID_LEN_MAX;
            memcpy(joined + len, parts[i].ptr, kept);
            len += kept;
        }
    }
    MR_ASSERT(len <= sizeof joined);
    return mr_fingerprint_of(secret, mr_bytes_of(joined, len));
}

struct mr_fingerprint mr_decode_fingerprint(const struct mr_schema *schema,
                                            const struct mr_bytes *parts, uint32_t part_count) {
    MR_ASSERT(part_count >= 1 && part_count == schema->options.id_parts);
    return part_count == 1 ? mr_fingerprint_of(&schema->options.secret, parts[0])
                           : hash_parts(&schema->options.secret, parts, part_count);
}

/* The parts before the last one may be absent. */
static struct mr_fingerprint hash_id(const struct mr_build *b) {
    const struct mr_walk *walk = b->walk;
    uint32_t count = b->schema->options.id_parts;
    if (count == 1) {
        return mr_fingerprint_of(&b->schema->options.secret, mr_walk_text(walk, walk->id[0]));
    }
    struct mr_bytes parts[MR_ID_PARTS_MAX] = {{NULL, 0}};
    for (uint32_t i = 0; i < count; i++) {
        if ((walk->ids >> i & 1) != 0) {
            parts[i] = mr_walk_text(walk, walk->id[i]);
        }
    }
    return hash_parts(&b->schema->options.secret, parts, count);
}

void mr_build_set_needs(struct mr_build *b) {
    const struct mr_schema_options *o = &b->schema->options;
    if (o->id_parts > 0) {
        b->id_bit = (uint8_t)(1u << (o->id_parts - 1));
        b->need_ids = o->missing_id == MR_MISSING_REJECT ? b->id_bit : (uint8_t)0;
    }
    if (o->cloudevents) {
        b->need_attributes = (uint8_t)((1u << MR_ATTRIBUTES) - 1);
    }
    b->need_time = o->missing_time == MR_MISSING_REJECT;
}

/* The first thing that is missing is told. */
static void refuse_missing(struct mr_build *b) {
    struct mr_walk *walk = b->walk;
    if (walk->attributes != b->need_attributes) {
        uint32_t first = (uint32_t)__builtin_ctz(~(uint32_t)walk->attributes);
        mr_walk_object(walk, MR_REJECT_BAD_CLOUDEVENT, b->schema->attribute_node[first],
                       "the attribute is missing", NULL, 0);
    } else if ((walk->ids & b->need_ids) != b->need_ids) {
        mr_walk_object(walk, MR_REJECT_MISSING_ID,
                       b->schema->id_node[b->schema->options.id_parts - 1], "the id is missing",
                       NULL, 0);
    } else {
        mr_walk_object(walk, MR_REJECT_MISSING_TIME, b->schema->time_node, "the time is missing",
                       NULL, 0);
    }
}

static inline bool has_needs(const struct mr_build *b) {
    const struct mr_walk *walk = b->walk;
    return walk->attributes == b->need_attributes && (walk->ids & b->need_ids) == b->need_ids &&
           (walk->has_time || !b->need_time);
}

static void accept_row(struct mr_build *b, struct mr_bytes event) {
    struct mr_batch *batch = b->batch;
    const struct mr_walk *walk = b->walk;
    uint32_t i = batch->count;
    bool has_id = (walk->ids & b->id_bit) != 0;
    if (has_id) {
        batch->fps[i] = hash_id(b);
    } else {
        /* Any shard may have it: by content, and by place, for equal events must not meet in one.
         */
        batch->fps[i] = mr_fingerprint_of(&b->schema->options.secret, event);
        batch->fps[i].lo += i * UINT64_C(0x9E3779B97F4A7C15);
    }
    if (batch->has_id != NULL) {
        batch->has_id[i] = has_id;
    }
    if (!walk->has_time) {
        batch->times_ms[i] = MR_TIME_ARRIVAL;
        batch->arrivals++;
        return;
    }
    batch->times_ms[i] = walk->time_ms;
    if (walk->time_ms > batch->time_max_ms) {
        batch->time_max_ms = walk->time_ms;
    }
}

bool mr_build_end_event(struct mr_build *b, const uint8_t *start, const uint8_t *end) {
    struct mr_batch *batch = b->batch;
    struct mr_bytes event = {start, (size_t)(end - start)};
    uint32_t i = batch->count;
    batch->spans[i] = (struct mr_span){(uint32_t)(start - b->walk->body), (uint32_t)event.len};
    if (event.len > b->schema->options.event_bytes_max) {
        b->walk->fault = (struct mr_fault){.reject = MR_REJECT_TOO_LONG};
    } else if (b->walk->fault.reject == MR_REJECT_NONE && !has_needs(b)) {
        refuse_missing(b);
    }
    if (b->walk->fault.reject == MR_REJECT_NONE) {
        accept_row(b, event);
    } else if (!reject_row(b, event)) {
        return false;
    }
    batch->count++;
    return true;
}
