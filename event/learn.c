/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a program (run.h) is made: once for thousands of events, so nothing here is in a hurry.
 */
#include "base/check.h"
#include "base/hash.h"
#include "event/run.h"

#define TIMES8(x)  x, x, x, x, x, x, x, x
#define TIMES16(x) TIMES8(x), TIMES8(x)
#define COUNT16(x)                                                                                 \
    (x) + 0, (x) + 1, (x) + 2, (x) + 3, (x) + 4, (x) + 5, (x) + 6, (x) + 7, (x) + 8, (x) + 9,      \
        (x) + 10, (x) + 11, (x) + 12, (x) + 13, (x) + 14, (x) + 15
/* Bytes that end in 2 are compared with the quote, 0x22, those that end in 12 with the backslash, 0x5C; 0xFF is what
 * nothing is compared with: a byte 0xFF itself gets a 0. */
#define STOPS16                                                                                    \
    0xFF, 0xFF, '"', 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, '\\', 0xFF, 0xFF, 0xFF

const struct mr_run_tables mr_run_tables = {
    .stop_by_nibble = {STOPS16, STOPS16},
    .blanks = {TIMES16(' '), TIMES16(' ')},
    .zeros = {TIMES16('0')},
    .nines = {TIMES16(9)},
    .tens = {10, 1, 10, 1, 10, 1, 10, 1, 10, 1, 10, 1, 10, 1, 10, 1},
    .hundreds = {100, 1, 100, 1, 100, 1, 100, 1},
    .thousands = {10000, 1, 10000, 1, 10000, 1, 10000, 1},
    .align = {COUNT16(-16), COUNT16(0)},
    .point = {TIMES16(-1), TIMES16(0)},
};

enum class { CLASS_STRING, CLASS_NUMBER, CLASS_OTHER };

/* The event that is learnt from: where its values lie. */
struct example {
    struct mr_walk *walk;
    const struct mr_shape *shape;
    const uint8_t *value[MR_STEPS_MAX];
    const uint8_t *end[MR_STEPS_MAX];
    uint8_t class[MR_STEPS_MAX];
    uint32_t count;
    uint64_t print;
};

static bool is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}

/* A number as run_value.h reads them. */
static bool is_plain_number(const uint8_t *p, const uint8_t *end) {
    return (*p == '-' || is_digit(*p)) && end - p <= 15 &&
           memchr(p, 'e', (size_t)(end - p)) == NULL && memchr(p, 'E', (size_t)(end - p)) == NULL;
}

/* False: the shape is not that of the event, or one that programs are not made for. */
static bool find_values(struct example *e, const uint8_t *start, const uint8_t *stop) {
    const uint8_t *p = start;
    for (uint32_t i = 0; i < e->shape->count; i++) {
        const struct mr_step *step = &e->shape->steps[i];
        uint8_t kind = step->kind & (uint8_t)~MR_STEP_LONG;
        uint64_t parts[4] = {e->print, mr_checksum(mr_bytes_of(p, step->gap_len)), step->node,
                             step->child};
        e->print = mr_checksum(mr_bytes_of(parts, sizeof parts));
        p += step->gap_len;
        if (kind == MR_STEP_END) {
            e->count = i;
            return p == stop && i > 0;
        }
        if (kind == MR_STEP_INNER) {
            return false;
        }
        e->value[i] = p;
        uint8_t class = *p == '"' ? CLASS_STRING : CLASS_OTHER;
        p = mr_walk_avx2.value(e->walk, p, e->walk->schema->nodes[step->node].depth + 1u);
        MR_ASSERT(p != NULL && p <= stop); /* the event was walked */
        e->end[i] = p;
        e->class[i] = is_plain_number(e->value[i], p) ? (uint8_t)CLASS_NUMBER : class;
    }
    return false;
}

static bool put_gap(struct mr_program *program, uint32_t i, const uint8_t *from,
                    const uint8_t *to) {
    struct mr_run_step *step = &program->steps[i];
    size_t len = (size_t)(to - from);
    size_t head = len < MR_GAP_HEAD ? len : MR_GAP_HEAD;
    if (len - head > (size_t)(MR_GAP_MORE_MAX - program->rest_len)) {
        return false;
    }
    memset(step->gap, 0, sizeof step->gap);
    memcpy(step->gap, from, head);
    step->gap_len = (uint8_t)head;
    step->ignored = head == 32 ? 0 : UINT32_MAX << head;
    program->mores[i].rest_off = program->rest_len;
    program->mores[i].rest_len = (uint16_t)(len - head);
    program->mores[i].kind = step->kind;
    if (len > head) {
        memcpy(program->rest_bytes + program->rest_len, from + head, len - head);
        program->rest_len = (uint16_t)(program->rest_len + (len - head));
        step->kind = MR_RUN_REST;
    }
    return true;
}

/* A value of a column, or of several. */
static bool put_columns(struct mr_program *program, struct mr_run_more *more,
                        const struct mr_use *uses, uint32_t count, bool string) {
    for (uint32_t i = 0; i < count; i++) {
        if (program->out_count == MR_RUN_OUTS_MAX) {
            return false;
        }
        program->outs[program->out_count++] = (struct mr_run_out){
            .column = uses[i].index, .text = string || uses[i].kind == MR_USE_KEY};
    }
    more->outs = (uint8_t)count;
    more->out_first = (uint8_t)(program->out_count - count);
    return true;
}

static bool are_columns(const struct mr_use *uses, uint32_t count, bool string) {
    for (uint32_t i = 0; i < count; i++) {
        bool any = uses[i].kind == MR_USE_KEY || uses[i].kind == MR_USE_ANY;
        if (!any && (string || uses[i].kind != MR_USE_NUMBER)) {
            return false;
        }
    }
    return true;
}

static bool is_time_of_digits(const struct mr_walk *walk, const uint8_t *p, size_t len) {
    enum mr_time_format format = walk->schema->options.time_format;
    bool digits = (format == MR_TIME_MS || format == MR_TIME_S) && len >= 8 && len <= 15;
    for (size_t i = 0; i < len && digits; i++) {
        digits = is_digit(p[i]);
    }
    return digits;
}

/* A string of this kind, whose length is assumed where it is not too long for that. */
static uint8_t string_kind(uint8_t varying, uint8_t fixed, size_t len) {
    return len <= MR_RUN_FIXED_MAX ? fixed : varying;
}

static uint8_t time_kind(const struct mr_node *node, bool digits) {
    return !digits ? MR_RUN_TIME_ANY : node->use_count > 1 ? MR_RUN_TIME_OUTS : MR_RUN_TIME;
}

/* Chooses how a wanted value is taken; false: outs is full. */
static bool choose_leaf(struct mr_program *program, const struct mr_walk *walk, uint32_t i,
                        const uint8_t *content, size_t len) {
    struct mr_run_step *step = &program->steps[i];
    struct mr_run_more *more = &program->mores[i];
    uint8_t class = more->class;
    const struct mr_node *node = &walk->schema->nodes[more->child];
    const struct mr_use *uses = walk->schema->uses + node->use_first;
    bool string = class == CLASS_STRING;
    step->index = uses->index;
    step->kind = MR_RUN_ANY;
    if (uses->kind == MR_USE_ID && node->use_count == 1) {
        bool part = walk->schema->options.id_parts > 1;
        step->kind = !string ? (uint8_t)MR_RUN_ID_ANY
                     : part  ? (uint8_t)MR_RUN_PART
                             : string_kind(MR_RUN_ID, MR_RUN_ID_FIXED, len);
        return true;
    }
    if (uses->kind == MR_USE_TIME) {
        bool digits = class != CLASS_OTHER && is_time_of_digits(walk, content, len) &&
                      are_columns(uses + 1, node->use_count - 1u, string);
        step->kind = time_kind(node, digits);
        return !digits || put_columns(program, more, uses + 1, node->use_count - 1u, string);
    }
    if (class == CLASS_OTHER || !are_columns(uses, node->use_count, string)) {
        return true;
    }
    if (node->use_count > 1) {
        step->kind = string ? MR_RUN_TEXT_OUTS : MR_RUN_NUMBER_OUTS;
        return put_columns(program, more, uses, node->use_count, string);
    }
    step->kind = string                     ? string_kind(MR_RUN_TEXT, MR_RUN_TEXT_FIXED, len)
                 : uses->kind == MR_USE_KEY ? (uint8_t)MR_RUN_DIGITS
                                            : (uint8_t)MR_RUN_NUMBER;
    return true;
}

/* The step of value i. */
static bool put_value(struct mr_program *program, const struct example *e, uint32_t i) {
    struct mr_run_step *step = &program->steps[i];
    struct mr_run_more *more = &program->mores[i];
    uint8_t class = more->class;
    *step = (struct mr_run_step){.kind = MR_RUN_ANY};
    *more = (struct mr_run_more){
        .child = e->shape->steps[i].child, .node = e->shape->steps[i].node, .class = class};
    step->quote = class == CLASS_STRING;
    const uint8_t *content = e->value[i] + step->quote;
    size_t len = (size_t)(e->end[i] - e->value[i]) - 2u * step->quote;
    step->fixed = len <= MR_RUN_FIXED_MAX ? (uint8_t)len : 0;
    if (more->child != 0) {
        return choose_leaf(program, e->walk, i, content, len);
    }
    step->kind = class == CLASS_STRING   ? string_kind(MR_RUN_SKIP_STRING, MR_RUN_SKIP_FIXED, len)
                 : class == CLASS_NUMBER ? (uint8_t)MR_RUN_SKIP_NUMBER
                                         : (uint8_t)MR_RUN_ANY;
    return true;
}

/* Where a value's class has been seen to change, nothing is expected of it any more. */
static void set_classes(struct mr_program *program, const struct example *e) {
    bool same = program->print == e->print;
    for (uint32_t i = 0; i < e->count; i++) {
        uint8_t *class = &program->mores[i].class;
        *class = !same || *class == e->class[i] ? e->class[i] : (uint8_t)CLASS_OTHER;
    }
    program->print = e->print;
}

/* With as many digits as in the example, and none of them a zero in front. */
static void set_times(struct mr_program *program, const struct example *e) {
    const struct mr_schema *schema = e->walk->schema;
    program->factor = schema->options.time_format == MR_TIME_S ? 1000 : 1;
    program->time_first = MR_TIME_MIN_MS;
    for (uint32_t i = 0; i < e->count; i++) {
        size_t len =
            (size_t)(e->end[i] - e->value[i]) - (program->mores[i].class == CLASS_STRING ? 2u : 0u);
        if (schema->time_node != 0 && e->shape->steps[i].child == schema->time_node && len >= 8 &&
            len <= 15) {
            int64_t first = (int64_t)mr_pow10[len - 1] * program->factor;
            program->time_first = first > MR_TIME_MIN_MS ? first : MR_TIME_MIN_MS;
        }
    }
    program->time_span =
        program->time_first < MR_TIME_MAX_MS ? (uint64_t)(MR_TIME_MAX_MS - program->time_first) : 0;
}

/* Whether id and time are taken by steps of their own, so that an event that fits has all that it needs. */
static bool has_all(struct mr_program *program, const struct mr_schema_options *options) {
    bool id = false;
    bool time = false;
    for (uint32_t i = 0; i < program->count; i++) {
        uint8_t kind =
            program->steps[i].kind == MR_RUN_REST ? program->mores[i].kind : program->steps[i].kind;
        id = id || (kind >= MR_RUN_ID && kind <= MR_RUN_ID_FIXED) || kind == MR_RUN_ID_ANY;
        time = time || kind == MR_RUN_TIME || kind == MR_RUN_TIME_OUTS || kind == MR_RUN_TIME_ANY;
    }
    program->has_id = id && options->id_parts == 1;
    program->has_time = time;
    return program->has_id && time && !options->cloudevents;
}

static bool put_steps(struct mr_program *program, const struct example *e, const uint8_t *start,
                      const uint8_t *stop, const uint8_t *next) {
    const uint8_t *from = start;
    for (uint32_t i = 0; i < e->count; i++) {
        if (!put_value(program, e, i)) {
            return false;
        }
        uint8_t quote = program->steps[i].quote;
        if (!put_gap(program, i, from, e->value[i] + quote)) {
            return false;
        }
        from = e->end[i] - quote;
    }
    size_t start_len = (size_t)(e->value[0] + program->steps[0].quote - start);
    if ((size_t)(e->walk->end - next) < start_len || memcmp(next, start, start_len) != 0) {
        return false;
    }
    program->steps[e->count] = (struct mr_run_step){.kind = MR_RUN_WRAP};
    program->mores[e->count] = (struct mr_run_more){.class = CLASS_OTHER};
    program->end_len = (uint16_t)(stop - from);
    program->start_len = (uint16_t)start_len;
    program->next_len = (uint16_t)(next - stop + (ptrdiff_t)start_len);
    return put_gap(program, e->count, from, next + start_len);
}

/* What may stand between two events of this format (I2 of run.h): a comma, or a line feed, and white space. */
static bool is_separator(const struct mr_walk *walk, const uint8_t *p, const uint8_t *end) {
    uint8_t must = (walk->space >> '\n' & 1) != 0 ? ',' : '\n';
    uint32_t found = 0;
    for (; p < end; p++) {
        found += *p == must;
        if (*p != must && (*p > ' ' || (MR_SPACE_ALL >> *p & 1) == 0)) {
            return false;
        }
    }
    return found == 1 || (found > 1 && must == '\n');
}

void mr_run_learn(struct mr_walk *walk, const uint8_t *start, const uint8_t *stop,
                  const uint8_t *next) {
    struct mr_program *program = walk->program;
    struct example e = {.walk = walk, .shape = walk->shape};
    bool known = find_values(&e, start, stop) && next - stop <= MR_GAP_HEAD &&
                 is_separator(walk, stop, next);
    if (program->ready && program->print != e.print) {
        known = false; /* events of two shapes: the walk predicts the other */
    } else {
        program->ready = false;
    }
    program->pause = MR_RUN_PAUSE;
    if (!known) {
        return;
    }
    set_classes(program, &e);
    program->bound = NULL;
    program->count = (uint16_t)e.count;
    program->out_count = 0;
    program->rest_len = 0;
    program->misses = 0;
    set_times(program, &e);
    if (put_steps(program, &e, start, stop, next)) {
        program->first_kind =
            program->steps[0].kind == MR_RUN_REST ? program->mores[0].kind : program->steps[0].kind;
        program->careful = !has_all(program, &walk->schema->options);
        program->ready = true;
    }
}
