/* SPDX-License-Identifier: Apache-2.0 */
#include "event/decode.h"

#include "base/alloc.h"
#include "base/check.h"
#include "event/build.h"
#include "event/columns.h"
#include "event/derive.h"
#include "event/run.h"

enum { SHAPES = 4, ARRAY_EVENT_GUESS = 64, NDJSON_ROOM_FIRST = 1, LINES_SAMPLE = 8192, LINES_SLACK = 32 };

#define BODY_MAX (UINT32_C(1) << 30)

static_assert(BODY_MAX <= MR_TEXT_UNESCAPED, "offsets leave the flag bit free");

struct mr_decoder {
    const struct mr_walk_ops *ops;
    uint32_t shape_next; /* the one to give up next */
    struct mr_walk walk;
    struct mr_derive_scratch *derive; /* NULL until a schema has expressions */
    struct mr_shape shapes[SHAPES]; /* one per schema and format seen lately */
    struct mr_program programs[SHAPES]; /* each of the shape of its number */
};

static const struct mr_walk_ops *choose(enum mr_decode_path path) {
#ifdef __x86_64__
    if (path != MR_DECODE_PORTABLE && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")) {
        return &mr_walk_avx2;
    }
#endif
    return path == MR_DECODE_AVX2 ? NULL : &mr_walk_portable;
}

enum mr_status mr_decoder_open(enum mr_decode_path path, struct mr_decoder **ret) {
    const struct mr_walk_ops *ops = choose(path);
    if (ops == NULL) {
        return MR_UNSUPPORTED;
    }
    struct mr_decoder *decoder = mr_alloc_aligned(_Alignof(struct mr_decoder), sizeof *decoder);
    if (decoder == NULL) {
        return MR_NO_MEMORY;
    }
    memset(decoder, 0, sizeof *decoder);
    decoder->ops = ops;
    decoder->walk.predict = true;
    /* strtod reads the decimal point of the process's locale unless told otherwise. */
    decoder->walk.c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (decoder->walk.c_locale == (locale_t)0) {
        mr_free(decoder);
        return MR_NO_MEMORY;
    }
    *ret = decoder;
    return MR_OK;
}

void mr_decoder_close(struct mr_decoder *decoder) {
    if (decoder == NULL) {
        return;
    }
    freelocale(decoder->walk.c_locale);
    mr_derive_scratch_close(decoder->derive);
    mr_free(decoder);
}

void mr_decoder_predict(struct mr_decoder *decoder, bool on) {
    decoder->walk.predict = on;
}

uint64_t mr_decoder_taken(const struct mr_decoder *decoder) {
    return decoder->walk.taken;
}

/* Which white space is allowed is part of a shape: a gap with a line feed must not match in NDJSON.
 */
static void choose_shape(struct mr_decoder *decoder, uint64_t space) {
    uint64_t of = decoder->walk.schema->number << 1 | (space == MR_SPACE_ALL);
    decoder->walk.space = space;
    for (uint32_t i = 0; i < SHAPES; i++) {
        if (decoder->shapes[i].of == of) {
            decoder->walk.shape = &decoder->shapes[i];
            decoder->walk.program = &decoder->programs[i];
            return;
        }
    }
    uint32_t next = decoder->shape_next++ % SHAPES;
    struct mr_shape *shape = &decoder->shapes[next];
    shape->of = of;
    shape->count = 0;
    shape->mark_count = 0;
    shape->more_len = 0;
    decoder->walk.shape = shape;
    decoder->walk.program = &decoder->programs[next];
    decoder->walk.program->ready = false;
    decoder->walk.program->print = 0;
    decoder->walk.program->pause = 0;
}

static enum mr_status no_memory(struct mr_build *b) {
    return mr_error_set(b->error, MR_NO_MEMORY, "out of memory");
}

/* One value as an event; the byte behind it, or NULL and a fault. */
static inline const uint8_t *walk_one(struct mr_build *b, const uint8_t *p) {
    if (*p == '{') {
        return b->ops->event(b->walk, p);
    }
    const uint8_t *end = b->ops->value(b->walk, p, 0);
    if (end != NULL) {
        mr_walk_object(b->walk, MR_REJECT_NOT_OBJECT, 0, "not an object", p, (size_t)(end - p));
    }
    return end;
}

/* The same for one of many in a row, and maybe for others before it: *p is then where the last one begins. */
static inline const uint8_t *walk_next(struct mr_build *b, const uint8_t **p) {
    struct mr_walk *walk = b->walk;
    const struct mr_program *program = walk->program;
    if (b->ops->run == NULL || !walk->predict || **p != '{') {
        b->whole = NULL;
        return walk_one(b, *p);
    }
    if (b->whole != NULL && program->pause == 0) {
        b->ops->learn(walk, b->whole, b->whole_end, *p);
    }
    const uint8_t *end = program->ready ? b->ops->run(b, p) : walk_one(b, *p);
    walk->program->pause -= program->pause > 0;
    bool good = end != NULL && walk->whole && walk->fault.reject == MR_REJECT_NONE;
    b->whole = good ? *p : NULL;
    b->whole_end = end;
    return end;
}

static inline const uint8_t *skip_blank(const uint8_t *p, uint64_t space) {
    while (*p <= ' ' && (space >> *p & 1) != 0) {
        p++;
    }
    return p;
}

static const uint8_t *trim(const uint8_t *start, const uint8_t *end) {
    while (end > start && end[-1] <= ' ' && (MR_SPACE_ALL >> end[-1] & 1) != 0) {
        end--;
    }
    return end;
}

static enum mr_status decode_lines(struct mr_build *b) {
    const uint8_t *end = b->walk->end;
    const uint8_t *p = skip_blank(b->walk->body, MR_SPACE_ALL);
    enum mr_status status = MR_OK;
    while (p < end) {
        if (!mr_build_make_room(b, &status)) {
            return status;
        }
        mr_build_begin_event(b);
        const uint8_t *stop = walk_next(b, &p);
        const uint8_t *next = stop == NULL    ? NULL
                              : *stop == '\n' ? stop
                                              : skip_blank(stop, MR_SPACE_LINE);
        if (next != NULL && *next != '\n' && next != end) {
            (void)mr_walk_refuse(b->walk, MR_REJECT_BAD_JSON, next,
                                 "the end of the line"); /* NULL */
            next = NULL;
        }
        if (next == NULL) { /* on with the next line, whatever is in this one */
            next = memchr(p, '\n', (size_t)(end - p));
            next = next == NULL ? end : next;
            stop = trim(p, next);
            b->whole = NULL;
        }
        if (b->walk->no_memory || !mr_build_end_event(b, p, stop)) {
            return no_memory(b);
        }
        p = next[0] == '\n' && next[1] == '{' ? next + 1 : skip_blank(next, MR_SPACE_ALL);
    }
    return MR_OK;
}

/* One rejected event for what is left of a body after a syntax error. */
static enum mr_status end_broken(struct mr_build *b, const uint8_t *start) {
    if (b->walk->no_memory || !mr_build_end_event(b, start, trim(start, b->walk->end))) {
        return no_memory(b);
    }
    return MR_OK;
}

/* The same, where the error is not in an event but between or behind them. */
static enum mr_status refuse_rest(struct mr_build *b, const uint8_t *at, const char *expected) {
    enum mr_status status = MR_OK;
    if (!mr_build_make_room(b, &status)) {
        return status;
    }
    mr_build_begin_event(b);
    (void)mr_walk_refuse(b->walk, MR_REJECT_BAD_JSON, at, expected); /* NULL */
    return end_broken(b, at);
}

static enum mr_status decode_array(struct mr_build *b) {
    const uint8_t *p = skip_blank(b->walk->body, MR_SPACE_ALL);
    enum mr_status status = MR_OK;
    if (*p != '[') {
        return mr_error_set(b->error, MR_INVALID, "the body is not a JSON array");
    }
    p = skip_blank(p + 1, MR_SPACE_ALL);
    bool more = *p != ']';
    while (more) {
        if (!mr_build_make_room(b, &status)) {
            return status;
        }
        mr_build_begin_event(b);
        const uint8_t *stop = walk_next(b, &p);
        if (stop == NULL) {
            return end_broken(b, p);
        }
        if (!mr_build_end_event(b, p, stop)) {
            return no_memory(b);
        }
        p = skip_blank(stop, MR_SPACE_ALL);
        more = *p == ',';
        p = more ? skip_blank(p + 1, MR_SPACE_ALL) : p;
    }
    if (*p != ']') {
        return refuse_rest(b, p, "a comma or the end of the array");
    }
    p = skip_blank(p + 1, MR_SPACE_ALL);
    return p == b->walk->end ? MR_OK : refuse_rest(b, p, "nothing behind the array");
}

/* The body as one value: the byte behind it, or NULL and a fault. */
static const uint8_t *walk_body(struct mr_build *b, const uint8_t *p) {
    mr_build_begin_event(b);
    const uint8_t *stop = walk_one(b, p);
    if (stop == NULL) {
        return NULL;
    }
    const uint8_t *rest = skip_blank(stop, MR_SPACE_ALL);
    return rest == b->walk->end
               ? stop
               : mr_walk_refuse(b->walk, MR_REJECT_BAD_JSON, rest, "nothing behind the object");
}

static enum mr_status decode_object(struct mr_build *b) {
    const uint8_t *p = skip_blank(b->walk->body, MR_SPACE_ALL);
    const uint8_t *stop = walk_body(b, p);
    if (stop == NULL) {
        return end_broken(b, p);
    }
    return mr_build_end_event(b, p, stop) ? MR_OK : no_memory(b);
}

static const char *const bom_text =
    "the body begins with a byte order mark; send UTF-8 without one";

/* AUTO: one object if it is one, else lines. */
static enum mr_status decode_guess(struct mr_decoder *decoder, struct mr_build *b) {
    const uint8_t *p = skip_blank(b->walk->body, MR_SPACE_ALL);
    if (p == b->walk->end) {
        b->batch->format = MR_FORMAT_NDJSON;
        return MR_OK;
    }
    if (*p == '[') {
        b->batch->format = MR_FORMAT_ARRAY;
        return decode_array(b);
    }
    if (*p != '{') {
        return mr_error_set(
            b->error, MR_INVALID,
            "the body is not JSON of events: it begins with byte 0x%02X, neither { nor [", *p);
    }
    const uint8_t *stop = walk_body(b, p);
    if (stop != NULL) {
        b->batch->format = MR_FORMAT_OBJECT;
        return mr_build_end_event(b, p, stop) ? MR_OK : no_memory(b);
    }
    if (b->walk->no_memory) {
        return no_memory(b);
    }
    mr_batch_clear_row(b->batch, 0);
    b->walk->unescaped->len = 0;
    choose_shape(decoder, MR_SPACE_LINE);
    b->batch->format = MR_FORMAT_NDJSON;
    return decode_lines(b);
}

static enum mr_status decode_format(struct mr_decoder *decoder, struct mr_build *b,
                                    enum mr_format format) {
    b->batch->format = (uint8_t)format;
    choose_shape(decoder, format == MR_FORMAT_NDJSON ? MR_SPACE_LINE : MR_SPACE_ALL);
    switch (format) {
    case MR_FORMAT_NDJSON:
        return decode_lines(b);
    case MR_FORMAT_ARRAY:
        return decode_array(b);
    case MR_FORMAT_OBJECT:
        return decode_object(b);
    case MR_FORMAT_AUTO:
        return decode_guess(decoder, b);
    default:
        MR_UNREACHABLE();
    }
}

/* Lines of the body, if all of it is like its beginning: counting them all would cost as much as a tenth of
 * decoding. */
static size_t guess_lines(const struct mr_build *b, size_t len) {
    size_t sample = len < LINES_SAMPLE ? len : LINES_SAMPLE;
    size_t lines = b->ops->lines(b->walk->body, sample);
    if (sample < len) {
        lines = (lines + 1) * (len / 1024 + 1) / (LINES_SAMPLE / 1024);
        lines += lines / LINES_SLACK;
    }
    return (lines < len / 2 ? lines : len / 2) + NDJSON_ROOM_FIRST; /* many may be empty: an event has two bytes */
}

/* How many events the body may hold, about: there can be more. */
static uint32_t guess_events(const struct mr_build *b, enum mr_format format) {
    size_t len = (size_t)(b->walk->end - b->walk->body);
    const uint8_t *p = skip_blank(b->walk->body, MR_SPACE_ALL);
    size_t guess = 1;
    if (format == MR_FORMAT_ARRAY || (format == MR_FORMAT_AUTO && *p == '[')) {
        guess = len / ARRAY_EVENT_GUESS + 1;
    } else if (format != MR_FORMAT_OBJECT) {
        guess = guess_lines(b, len);
    }
    uint32_t max = b->schema->options.events_max;
    return guess < max ? (uint32_t)guess : max;
}

static void adopt_body(struct mr_batch *batch, struct mr_buf *body, struct mr_buf *unescaped) {
    batch->body = *body;
    batch->unescaped = *unescaped;
    mr_buf_init(body, body->cap_max);
    if (batch->arrivals == batch->count - batch->rejected) {
        MR_ASSERT(batch->time_max_ms == INT64_MIN);
    }
}

/* has_id is only kept where it says something. */
static void drop_has_id(struct mr_batch *batch) {
    bool all = batch->has_id != NULL;
    for (uint32_t i = 0; all && i < batch->count; i++) {
        all = batch->has_id[i] || batch->verdicts[i] == MR_VERDICT_REJECTED;
    }
    batch->has_id = all ? NULL : batch->has_id;
}

static enum mr_status check_body(const struct mr_buf *body, struct mr_error *error) {
    if (body->len > BODY_MAX) {
        return mr_error_set(error, MR_LIMIT, "a body of %zu bytes; at most 1 GiB", body->len);
    }
    MR_ASSERT(body->len == 0 || body->cap - body->len >= MR_PADDING);
    if (body->len >= 3 && memcmp(body->ptr, "\xEF\xBB\xBF", 3) == 0) {
        return mr_error_set(error, MR_INVALID, "%s", bom_text);
    }
    return MR_OK;
}

/* Room for the texts that expressions make. */
static size_t made_max(const struct mr_schema *schema, size_t body_len) {
    return schema->options.expr_count > 0 ? MR_MADE_FACTOR * body_len + MR_MADE_EXTRA : 0;
}

enum mr_status mr_decode(struct mr_decoder *decoder, const struct mr_schema *schema,
                         enum mr_format format, struct mr_buf *body, struct mr_batch **ret,
                         struct mr_error *error) {
    static const uint8_t nothing[MR_PADDING] = {0};
    enum mr_status status = check_body(body, error);
    if (status != MR_OK) {
        return status;
    }
    if (body->len > 0) {
        memset(body->ptr + body->len, 0, MR_PADDING); /* a NUL ends every state of the walk */
    }
    struct mr_walk *walk = &decoder->walk;
    struct mr_buf unescaped;
    mr_buf_init(&unescaped, body->len + MR_PADDING + made_max(schema, body->len));
    walk->schema = schema;
    walk->body = body->len > 0 ? body->ptr : nothing;
    walk->end = walk->body + body->len;
    walk->unescaped = &unescaped;
    walk->no_memory = false;
    struct mr_build b = {.ops = decoder->ops,
                         .walk = walk,
                         .schema = schema,
                         .error = error,
                         .line_at = walk->body,
                         .line = 1};
    mr_build_set_needs(&b);
    b.batch = mr_batch_open(schema, guess_events(&b, format));
    if (b.batch == NULL) {
        return no_memory(&b);
    }
    walk->column = b.batch->column;
    status = decode_format(decoder, &b, format);
    if (status == MR_OK && schema->options.expr_count > 0) {
        status = mr_derive_run(&decoder->derive, &b) == MR_OK ? MR_OK : no_memory(&b);
    }
    walk->unescaped = NULL;
    if (status != MR_OK) {
        mr_buf_finish(&unescaped);
        mr_batch_close(b.batch);
        return status;
    }
    drop_has_id(b.batch);
    mr_batch_partition(b.batch, schema->options.shards);
    adopt_body(b.batch, body, &unescaped);
#ifdef MR_VERIFY_ON
    mr_batch_check(b.batch, schema->options.shards);
#endif
    *ret = b.batch;
    return MR_OK;
}

enum mr_status mr_json_value_check(struct mr_bytes bytes, struct mr_error *error) {
    if (bytes.len > BODY_MAX) {
        return mr_error_set(error, MR_LIMIT, "a value of %zu bytes; at most 1 GiB", bytes.len);
    }
    uint8_t *copy = mr_alloc(bytes.len + MR_PADDING); /* the scans read behind the end */
    struct mr_walk *walk = mr_alloc_zero(1, sizeof *walk);
    enum mr_status status = MR_OK;
    if (copy == NULL || walk == NULL) {
        status = mr_error_set(error, MR_NO_MEMORY, "out of memory");
        goto done;
    }
    if (bytes.len > 0) {
        memcpy(copy, bytes.ptr, bytes.len);
    }
    memset(copy + bytes.len, 0, MR_PADDING);
    *walk = (struct mr_walk){.body = copy, .end = copy + bytes.len, .space = MR_SPACE_ALL};
    const uint8_t *start = skip_blank(copy, MR_SPACE_ALL);
    const uint8_t *p = mr_walk_portable.value(walk, start, 0);
    if (p != NULL) {
        p = skip_blank(p, MR_SPACE_ALL);
        p = p == walk->end ? p : mr_walk_refuse(walk, MR_REJECT_BAD_JSON, p, "nothing behind it");
    }
    if (p == NULL) {
        status = mr_error_set(error, MR_INVALID, "not one JSON value: expected %s at byte %zu",
                              walk->fault.text, (size_t)(walk->fault.at - copy) + 1);
    }
done:
    mr_free(walk);
    mr_free(copy);
    return status;
}
