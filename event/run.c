/* SPDX-License-Identifier: Apache-2.0 */
#include "event/run.h"

#include "base/check.h"
#include "event/build.h"
#include "event/columns.h"
#include "event/run_value.h"

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* So many rows wait for what is done for many at once: long enough for the processor to do several ids at a time, few
 * enough to stay in the cache. */
enum { ROWS_PENDING = 64 };

/* What the events of one run have in common. The rows from row_pending on have their ids in ids, not yet in fps. Where
 * an id had escapes, ids has no address, for unescaped may move; fps.lo is where in there it is. */
struct run {
    struct mr_build *b;
    struct mr_walk *walk;
    struct mr_batch *batch;
    struct mr_program *program;
    struct mr_bytes *ids;       /* ROWS_PENDING of them */
    struct mr_fingerprint *fps; /* the batch's */
    int64_t *times_ms;
    struct mr_span *spans;
    const uint8_t *body;
    const uint8_t *start; /* of the event that is read */
    const uint8_t *end;   /* of the last one, when it fits */
    uint32_t row;
    uint32_t row_first;
    uint32_t row_pending;
    uint32_t row_stop; /* before this one begins, something is to be done */
    uint32_t row_text; /* whose beginning b->text_mark is of */
    uint32_t event_bytes_max;
    bool careful;
    bool moving; /* some of ids have no address */
};

/* The gap's head is at q. */
static inline bool head_equal(const struct mr_run_step *step, const uint8_t *q) {
    __m256i same = _mm256_cmpeq_epi8(load32(q), load32(step->gap));
    return ((uint32_t)_mm256_movemask_epi8(same) | step->ignored) == UINT32_MAX;
}

static bool rest_equal(const struct run *run, const struct mr_run_more *more, const uint8_t *p) {
    return (size_t)(run->walk->end - p) >= more->rest_len &&
           memcmp(p, run->program->rest_bytes + more->rest_off, more->rest_len) == 0;
}

static inline const struct mr_run_more *more_of(const struct run *run,
                                                const struct mr_run_step *step) {
    return &run->program->mores[step - run->program->steps];
}

static inline struct mr_text text_of(const uint8_t *body, const uint8_t *p, const uint8_t *end) {
    return (struct mr_text){(uint32_t)(p - body), (uint32_t)(end - p)};
}

/* The row's id is text, taken by the walk. */
static void set_id(struct run *run, struct mr_text text) {
    struct mr_bytes *id = &run->ids[run->row - run->row_pending];
    *id = mr_walk_text(run->walk, text);
    if ((text.off & MR_TEXT_UNESCAPED) != 0) {
        id->ptr = NULL;
        run->fps[run->row].lo = text.off;
        run->moving = true;
    }
}

static struct mr_text id_of(const struct run *run, uint32_t row) {
    struct mr_bytes id = run->ids[row - run->row_pending];
    return id.ptr != NULL ? text_of(run->walk->body, id.ptr, id.ptr + id.len)
                          : (struct mr_text){(uint32_t)run->fps[row].lo, (uint32_t)id.len};
}

/* Any value at p, by the walk; the byte behind it, or NULL, also when the walk has something against it. */
static const uint8_t *take_any(const struct run *run, const struct mr_run_more *more,
                               const uint8_t *p) {
    struct mr_walk *walk = run->walk;
    const uint8_t *end =
        more->child != 0 ? mr_walk_avx2.take(walk, p, more->child)
                         : mr_walk_avx2.value(walk, p, walk->schema->nodes[more->node].depth + 1u);
    return walk->fault.reject == MR_REJECT_NONE ? end : NULL;
}

static void clear_cell(const struct mr_column *column, uint32_t row) {
    column->values[row] = (union mr_value){.i = 0};
    column->kinds[row] = MR_VALUE_MISSING;
}

static void clear_columns(const struct run *run, const struct mr_run_step *step) {
    const struct mr_run_more *more = more_of(run, step);
    if (step->values != NULL) {
        clear_cell(&run->walk->column[step->index], run->row);
    }
    for (uint32_t i = 0; i < more->outs; i++) {
        clear_cell(&run->walk->column[run->program->outs[more->out_first + i].column], run->row);
    }
}

/* The value of a step by the walk; p is behind the opening quote, if it is a string. */
static __attribute__((noinline)) const uint8_t *
take_value(struct run *run, const struct mr_run_step *step, uint8_t kind, const uint8_t *p) {
    struct mr_walk *walk = run->walk;
    bool id = (kind >= MR_RUN_ID && kind <= MR_RUN_ID_FIXED) || kind == MR_RUN_PART ||
              kind == MR_RUN_ID_ANY;
    bool time = kind == MR_RUN_TIME || kind == MR_RUN_TIME_OUTS || kind == MR_RUN_TIME_ANY;
    if (run->row_text != run->row) { /* only what comes now makes texts */
        run->row_text = run->row;
        run->b->text_mark = walk->unescaped->len;
    }
    walk->row = run->row;
    walk->has_time = walk->has_time && !time;
    if (id) {
        walk->ids &= (uint8_t) ~(1u << step->index);
    }
    clear_columns(run, step);
    const uint8_t *end = take_any(run, more_of(run, step), p - step->quote);
    bool needs_id = id && run->program->has_id;
    if (end == NULL || (needs_id && (walk->ids & run->b->id_bit) == 0) ||
        (time && !walk->has_time)) {
        return NULL; /* null may be allowed, or not */
    }
    if (needs_id) {
        set_id(run, walk->id[0]);
    }
    if (time) {
        run->times_ms[run->row] = walk->time_ms;
    }
    return end - step->quote;
}

/* Whether at q the event ends as expected; then the byte behind it. */
static const uint8_t *event_end(const struct mr_program *program, const uint8_t *q) {
    const struct mr_run_step *wrap = &program->steps[program->count];
    const uint8_t *rest = program->rest_bytes + program->mores[program->count].rest_off;
    for (uint32_t i = 0; i < program->end_len; i++) {
        if (q[i] != (i < MR_GAP_HEAD ? wrap->gap[i]
                                     : rest[i - MR_GAP_HEAD])) { /* I1: not behind the body */
            return NULL;
        }
    }
    return q + program->end_len;
}

/* At q there is not the gap that step expects. Maybe the value before it, at p, is only not as plain as expected: then
 * where the gap is. NULL: the run ends here. */
static __attribute__((noinline)) const uint8_t *
mend(struct run *run, const struct mr_run_step *step, const uint8_t *p, const uint8_t *q) {
    static const uint8_t varying[] = {
        [MR_RUN_SKIP_FIXED] = MR_RUN_SKIP_STRING,
        [MR_RUN_ID_FIXED] = MR_RUN_ID,
        [MR_RUN_TEXT_FIXED] = MR_RUN_TEXT,
        [MR_RUN_TIME_ANY] = 0,
    };
    struct mr_program *program = run->program;
    if (step == program->steps) { /* p is NULL */
        return NULL;
    }
    run->end = step == &program->steps[program->count] ? event_end(program, q) : NULL;
    struct mr_run_step *before = &program->steps[step - program->steps - 1];
    uint8_t *kind_at =
        before->kind == MR_RUN_REST ? &program->mores[before - program->steps].kind : &before->kind;
    uint8_t kind = *kind_at;
    if (run->end != NULL || kind >= MR_RUN_ANY) {
        return NULL;
    }
    *kind_at = varying[kind] != 0 ? varying[kind] : kind;
    q = take_value(run, before, kind, p);
    if (q == NULL || head_equal(step, q)) {
        return q;
    }
    run->end = step == &program->steps[program->count] ? event_end(program, q) : NULL;
    return NULL;
}

/* A value that goes to several columns. */
static void put_outs(const struct run *run, const struct mr_run_step *step, struct mr_text text,
                     uint8_t text_kind, union mr_value number, uint8_t number_kind) {
    const struct mr_run_more *more = more_of(run, step);
    for (uint32_t i = 0; i < more->outs; i++) {
        struct mr_run_out out = run->program->outs[more->out_first + i];
        const struct mr_column *column = &run->walk->column[out.column];
        column->values[run->row] = out.text ? (union mr_value){.text = text} : number;
        column->kinds[run->row] = out.text ? text_kind : number_kind;
    }
}

/* The text [p, end) to the row's column. */
static inline const uint8_t *put_text(const struct mr_run_step *step, uint32_t row,
                                      const uint8_t *body, const uint8_t *p, const uint8_t *end) {
    step->values[row].text = text_of(body, p, end);
    step->kinds[row] = MR_VALUE_STRING;
    return end;
}

static inline const uint8_t *run_text(const struct stops *stops, const struct mr_run_step *step,
                                      uint32_t row, const uint8_t *body, const uint8_t *p) {
    const uint8_t *end = put_text(step, row, body, p, string_end(stops, p));
    return LIKELY(end - p <= MR_KEY_TEXT_MAX) ? end : MR_NOWHERE;
}

static __attribute__((noinline)) const uint8_t *
run_text_outs(const struct run *run, const struct mr_run_step *step, const uint8_t *p) {
    struct stops stops = stops_load();
    const uint8_t *end = string_end(&stops, p);
    put_outs(run, step, text_of(run->walk->body, p, end), MR_VALUE_STRING, (union mr_value){.i = 0},
             MR_VALUE_MISSING);
    return end - p <= MR_KEY_TEXT_MAX ? end : MR_NOWHERE;
}

static inline const uint8_t *put_number(const struct mr_run_step *step, uint32_t row,
                                        const uint8_t *p) {
    struct plain_number number;
    if (!scan_plain(p, &number)) {
        return MR_NOWHERE;
    }
    step->kinds[row] = plain_value(&number, &step->values[row]);
    return p + number.len;
}

/* Apart, so that the others need not wait to know whether there is a minus. */
static __attribute__((noinline)) const uint8_t *put_negative(const struct mr_run_step *step,
                                                             uint32_t row, const uint8_t *p) {
    const uint8_t *end = put_number(step, row, p + 1);
    union mr_value *value = &step->values[row];
    value->i = step->kinds[row] == MR_VALUE_INT ? -value->i
                                                : (int64_t)((uint64_t)value->i ^ UINT64_C(1) << 63);
    return end;
}

static inline const uint8_t *run_number(const struct mr_run_step *step, uint32_t row,
                                        const uint8_t *p) {
    return UNLIKELY(*p == '-') ? put_negative(step, row, p) : put_number(step, row, p);
}

/* The byte behind a number, or MR_NOWHERE. */
static inline const uint8_t *number_end(const uint8_t *p) {
    struct plain_number number;
    p += *p == '-';
    return scan_plain(p, &number) ? p + number.len : MR_NOWHERE;
}

static inline const uint8_t *run_digits(const struct mr_run_step *step, uint32_t row,
                                        const uint8_t *body, const uint8_t *p) {
    const uint8_t *end = number_end(p);
    step->values[row].text = text_of(body, p, end);
    step->kinds[row] = MR_VALUE_DIGITS;
    return end;
}

static const uint8_t *run_number_outs(const struct run *run, const struct mr_run_step *step,
                                      const uint8_t *p) {
    union mr_value value = {.i = 0};
    uint8_t kind = MR_VALUE_MISSING;
    const struct mr_run_step local = {.values = &value, .kinds = &kind};
    const uint8_t *end = run_number(&local, 0, p);
    if (end != MR_NOWHERE) {
        put_outs(run, step, text_of(run->walk->body, p, end), MR_VALUE_DIGITS, value, kind);
    }
    return end;
}

/* The id of len bytes at p, whose bytes are not checked yet. */
static inline void put_id(const struct run *run, uint32_t row, const uint8_t *p, size_t len) {
    run->ids[row - run->row_pending] = mr_bytes_of(p, len);
}

static inline const uint8_t *run_id(const struct run *run, const struct stops *stops,
                                    uint32_t row, const uint8_t *p) {
    const uint8_t *end = string_end(stops, p);
    size_t len = (size_t)(end - p);
    put_id(run, row, p, len);
    return LIKELY(len - 1 < MR_ID_LEN_MAX) ? end : MR_NOWHERE; /* nor an empty one */
}

static const uint8_t *run_part(const struct run *run, const struct mr_run_step *step,
                               const uint8_t *p) {
    struct stops stops = stops_load();
    const uint8_t *end = string_end(&stops, p);
    run->walk->id[step->index] = text_of(run->walk->body, p, end);
    run->walk->ids |= (uint8_t)(1u << step->index);
    return (size_t)(end - p) - 1 < MR_ID_LEN_MAX ? end : MR_NOWHERE;
}

/* As many digits as before. */
static inline const uint8_t *run_time(const struct run *run, const struct mr_run_step *step,
                                      uint32_t row, const uint8_t *p, int64_t *ret_number) {
    const struct mr_program *program = run->program;
    uint32_t len = step->fixed;
    uint64_t number;
    bool digits = digits_whole(p, len, &number);
    int64_t ms = (int64_t)(number * (uint64_t)program->factor);
    if (ret_number != NULL) {
        *ret_number = (int64_t)number;
    }
    run->times_ms[row] = ms;
    if (UNLIKELY(!digits || (uint64_t)(ms - program->time_first) >= program->time_span)) {
        return MR_NOWHERE;
    }
    return p + len;
}

static __attribute__((noinline)) const uint8_t *
run_time_outs(const struct run *run, const struct mr_run_step *step, const uint8_t *p) {
    int64_t number;
    const uint8_t *end = run_time(run, step, run->row, p, &number);
    if (end != MR_NOWHERE) {
        put_outs(run, step, text_of(run->walk->body, p, end),
                 step->quote != 0 ? MR_VALUE_STRING : MR_VALUE_DIGITS,
                 (union mr_value){.i = number}, MR_VALUE_INT);
    }
    return end;
}

/* Does for the rows before run->row what is done for many at once. */
static void finish_rows(struct run *run) {
    struct mr_batch *batch = run->batch;
    uint32_t first = run->row_pending;
    uint32_t stop = run->row;
    const int64_t *times_ms = run->times_ms;
    int64_t time_max_ms = batch->time_max_ms;
    for (uint32_t i = first; run->moving && i < stop; i++) {
        run->ids[i - first] = mr_walk_text(run->walk, id_of(run, i));
    }
    for (uint32_t i = first; i < stop; i++) {
        time_max_ms = times_ms[i] > time_max_ms ? times_ms[i] : time_max_ms;
    }
    mr_fingerprints_of(&run->walk->schema->options.secret, run->ids, stop - first,
                       &batch->fps[first]);
    batch->time_max_ms = time_max_ms;
    run->row_pending = stop;
    run->moving = false;
}

/* Leaves the walk as it is at the end of the event of this row. */
static void set_walk(const struct run *run, uint32_t row) {
    struct mr_walk *walk = run->walk;
    walk->has_time = run->program->has_time;
    walk->time_ms = run->times_ms[row];
    if (run->program->has_id) {
        walk->ids = run->b->id_bit;
        walk->id[0] = id_of(run, row);
    }
}

/* Before run->row begins. False: it cannot. */
static __attribute__((noinline)) bool stop_at_row(struct run *run, const uint8_t *end) {
    struct mr_walk *walk = run->walk;
    if (run->row == run->batch->capacity) {
        run->row--; /* taken by hand: set_walk */
        return false;
    }
    if (!run->careful) {
        finish_rows(run);
    } else {
        set_walk(run, run->row - 1);
        if (!mr_build_end_event(run->b, run->start, end)) {
            walk->no_memory = true;
            return false;
        }
        mr_build_begin_event(run->b);
        run->row_pending = run->row;
    }
    uint32_t next = run->row + (run->careful ? 1 : ROWS_PENDING);
    run->row_stop = next < run->batch->capacity ? next : run->batch->capacity;
    return true;
}

/* Kinds that are not worth a place in the loop. */
static __attribute__((noinline)) const uint8_t *
run_rare(struct run *run, const struct mr_run_step *step, uint8_t kind, const uint8_t *p) {
    switch (kind) {
    case MR_RUN_TEXT_OUTS:
        return run_text_outs(run, step, p);
    case MR_RUN_NUMBER_OUTS:
        return run_number_outs(run, step, p);
    case MR_RUN_TIME_OUTS:
        return run_time_outs(run, step, p);
    case MR_RUN_PART:
        return run_part(run, step, p);
    default:
        return take_value(run, step, kind, p);
    }
}

/* The value of a step at p, of any kind but WRAP and REST: where the next gap should be; NULL: the run ends here. */
static inline const uint8_t *run_value(struct run *run, const struct stops *stops,
                                       const struct mr_run_step *step, uint8_t kind, uint32_t row,
                                       const uint8_t *body, const uint8_t *p) {
    switch (kind) {
    case MR_RUN_SKIP_STRING:
        return string_end(stops, p);
    case MR_RUN_SKIP_FIXED:
        return string_end_fixed(stops, step, p);
    case MR_RUN_SKIP_NUMBER:
        return number_end(p);
    case MR_RUN_ID:
        return run_id(run, stops, row, p);
    case MR_RUN_ID_FIXED:
        put_id(run, row, p, step->fixed);
        return string_end_fixed(stops, step, p);
    case MR_RUN_TEXT:
        return run_text(stops, step, row, body, p);
    case MR_RUN_TEXT_FIXED:
        return put_text(step, row, body, p, string_end_fixed(stops, step, p));
    case MR_RUN_NUMBER:
        return run_number(step, row, p);
    case MR_RUN_DIGITS:
        return run_digits(step, row, body, p);
    case MR_RUN_TIME:
        return run_time(run, step, row, p, NULL);
    case MR_RUN_TEXT_OUTS:
    case MR_RUN_NUMBER_OUTS:
    case MR_RUN_TIME_OUTS:
    case MR_RUN_PART:
    case MR_RUN_ANY:
    case MR_RUN_ID_ANY:
    case MR_RUN_TIME_ANY:
        return run_rare(run, step, kind, p);
    default:
        __builtin_unreachable(); /* learn.c makes no others; an assertion here costs each value two instructions */
    }
}

/* The event ended at `end` and the next one begins; false: the run is over. */
static inline bool next_row(struct run *run, uint32_t row, const uint8_t *start, const uint8_t *end,
                            const uint8_t *next) {
    size_t len = (size_t)(end - start);
    if (UNLIKELY(len > run->event_bytes_max)) {
        return false;
    }
    run->spans[row] = (struct mr_span){(uint32_t)(start - run->body), (uint32_t)len};
    run->row = row + 1;
    if (UNLIKELY(row + 1 == run->row_stop) && !stop_at_row(run, end)) {
        run->end = run->walk->no_memory ? NULL : end;
        return false;
    }
    run->start = next;
    return true;
}

/* Takes events while the program fits; sets run->end when it fits up to the end of the one begun last. */
static void run_on(struct run *run) {
    struct mr_program *program = run->program;
    const struct mr_run_step *step = program->steps;
    const uint8_t *body = run->walk->body;
    const uint8_t *q = run->start;
    const uint8_t *p = NULL;
    uint32_t row = run->row;
    const uint8_t *start = run->start;
    const struct stops stops = stops_load();
    for (; q != NULL; step++) {
        if (UNLIKELY(!head_equal(step, q))) {
            q = mend(run, step, p, q);
            if (q == NULL) {
                return;
            }
        }
        p = q + step->gap_len;
        uint8_t kind = step->kind;
        if (kind <= MR_RUN_REST) {
            if (kind == MR_RUN_REST) {
                const struct mr_run_more *more = more_of(run, step);
                if (!rest_equal(run, more, p)) {
                    return;
                }
                p += more->rest_len;
                kind = more->kind;
            }
            if (kind == MR_RUN_WRAP) {
                const uint8_t *next = p - program->start_len;
                if (!next_row(run, row, start, p - program->next_len, next)) {
                    return;
                }
                start = next;
                step = program->steps;
                kind = program->first_kind;
                row++;
            }
        }
        q = run_value(run, &stops, step, kind, row, body, p);
    }
}

/* Columns are where they were as long as block and capacity are the same. */
static void bind(struct mr_program *program, const struct mr_batch *batch) {
    if (program->bound == batch->fps && program->bound_capacity == batch->capacity) {
        return;
    }
    for (uint32_t i = 0; i < program->count; i++) {
        struct mr_run_step *step = &program->steps[i];
        uint8_t kind = step->kind == MR_RUN_REST ? program->mores[i].kind : step->kind;
        bool column = kind >= MR_RUN_TEXT && kind <= MR_RUN_DIGITS && kind != MR_RUN_TEXT_OUTS;
        step->values = column ? batch->column[step->index].values : NULL;
        step->kinds = column ? batch->column[step->index].kinds : NULL;
    }
    program->bound = batch->fps;
    program->bound_capacity = batch->capacity;
}

/* The rows that were taken become the batch's, and the walk is at the event after them. */
static void end_run(struct run *run) {
    struct mr_batch *batch = run->batch;
    if (!run->careful) {
        finish_rows(run);
        run->b->text_mark =
            run->row_text == run->row ? run->b->text_mark : run->walk->unescaped->len;
        if (batch->has_id != NULL) {
            memset(batch->has_id + run->row_first, true, run->row - run->row_first);
        }
        batch->count = run->row;
    }
    MR_ASSERT(batch->count == run->row && run->row < batch->capacity);
    run->walk->row = run->row;
    run->walk->taken += run->row - run->row_first + (run->end != NULL);
}

/* Judges the event from its beginning. */
static const uint8_t *walk_again(struct run *run) {
    struct mr_walk *walk = run->walk;
    struct mr_program *program = run->program;
    if (walk->no_memory) {
        return NULL;
    }
    mr_batch_clear_row(run->batch, run->row);
    walk->unescaped->len = run->b->text_mark;
    mr_walk_begin(walk);
    if (run->row > run->row_first) {
        program->misses = 0;
    } else if (++program->misses == MR_RUN_MISSES_MAX) {
        program->ready = false;
        program->pause = MR_RUN_PAUSE;
    }
    return mr_walk_avx2.event(walk, run->start);
}

const uint8_t *mr_run_events(struct mr_build *b, const uint8_t **p) {
    struct mr_walk *walk = b->walk;
    struct mr_program *program = walk->program;
    struct mr_batch *batch = b->batch;
    uint32_t first = batch->count;
    uint32_t stop = first + (program->careful ? 1 : ROWS_PENDING);
    struct mr_bytes ids[ROWS_PENDING];
    struct run run = {.b = b,
                      .walk = walk,
                      .batch = batch,
                      .program = program,
                      .ids = ids,
                      .fps = batch->fps,
                      .times_ms = batch->times_ms,
                      .spans = batch->spans,
                      .body = walk->body,
                      .start = *p,
                      .row = first,
                      .row_first = first,
                      .row_pending = first,
                      .row_stop = stop < batch->capacity ? stop : batch->capacity,
                      .row_text = first,
                      .event_bytes_max = b->schema->options.event_bytes_max,
                      .careful = program->careful};
    MR_ASSERT(program->ready && **p == '{' && batch->count < batch->capacity);
    bind(program, batch);
    run_on(&run);
    *p = run.start;
    if (run.end != NULL) {
        set_walk(&run, run.row); /* before its id is forgotten */
    }
    end_run(&run);
    if (run.end == NULL) {
        return walk_again(&run);
    }
    program->misses = 0;
    walk->whole = false; /* nothing to learn */
    return run.end;
}
