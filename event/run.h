/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Run: many events in a row that are alike, straight into the columns, inside event/ only. AVX2 only.
 *
 * Idea        The walk remembers a shape: what stands between the values. A program is made of a shape and of one event
 *             that had it, and knows of each value also whether it is a string. So the quotes of strings belong to what
 *             is compared, and nothing looks at them twice; and the end of an event, the line feed and the beginning of
 *             the next are one comparison:
 *
 *                 {"id":"4f…","ts":1700000000123,"value":12.345}\n{"id":"50…","ts":…
 *                 ^^^^^^^   ^^^^^^^             ^^^^^^^^^      ^^^^^^^^^^        gaps; the last is that of WRAP
 *
 *             A string ends at the first of its bytes that is not plain, a number behind its digits and point; that it
 *             does indeed, the next gap says. Lengths that are always the same (ids, times) are assumed and checked,
 *             instead of found.
 *
 *             Where one value is odd, the walk takes it; where anything else differs, the event is walked again from
 *             its first byte (walk.h): that decides all and tells all. A program only ever takes events that the walk
 *             would take, and makes the same rows.
 * Shape       A step is one cache line, without the gap's bytes over MR_GAP_HEAD.
 * Owner       Programs are the decoder's; a program outlives batches, its columns are bound to one at a time.
 * Errors      None: what a program does not take, the walk judges.
 * Invariants  I1 gaps hold no NUL: where one is equal, its bytes lie in the body.
 *             I2 names in the gaps were checked to differ when the shape was recorded, and between two events stands
 *             what the format allows: white space, and an array's one comma or the line feeds of NDJSON.
 */
#include "event/walk.h"

struct mr_build;

/* Constants that are loaded, for the compiler would build them anew for each value. */
struct mr_run_tables {
    _Alignas(32) uint8_t
        stop_by_nibble[32]; /* the quote and the backslash by their low four bits, else 0xFF */
    uint8_t blanks[32];
    uint8_t zeros[16]; /* '0' */
    uint8_t nines[16];
    int8_t tens[16]; /* weights of digits, pairs and fours */
    int16_t hundreds[8];
    int16_t thousands[8];
    int8_t align[32];    /* -16 … 15: from [n] on the shuffle that puts n bytes at the end */
    int8_t point[32];    /* from [n] on: one less for all but the last n */
    uint8_t nowhere[32]; /* where no gap is */
};

extern const struct mr_run_tables mr_run_tables;

#define MR_RUN_FIXED_MAX  64  /* longest length that is assumed: two vectors */
#define MR_RUN_OUTS_MAX   128 /* columns of values that go to several, or besides */
#define MR_RUN_MISSES_MAX 8   /* events in a row of another shape, and the program is given up… */
#define MR_RUN_PAUSE      64  /* …and a new one made after so many events at the earliest */

/* Of each kind of string: FIXED assumes its length; OUTS goes to several columns. */
enum mr_run_kind {
    MR_RUN_WRAP, /* the event's end and the next one's begin */
    MR_RUN_REST, /* the gap is over MR_GAP_HEAD; the kind is in rests */
    MR_RUN_SKIP_STRING,
    MR_RUN_SKIP_FIXED,
    MR_RUN_SKIP_NUMBER,
    MR_RUN_ID,
    MR_RUN_ID_FIXED,
    MR_RUN_TEXT, /* a string to a column */
    MR_RUN_TEXT_FIXED,
    MR_RUN_TEXT_OUTS,
    MR_RUN_NUMBER, /* to a column */
    MR_RUN_DIGITS, /* a number to a column, as text */
    MR_RUN_NUMBER_OUTS,
    MR_RUN_TIME, /* digits, in a string or not, as many as before */
    MR_RUN_TIME_OUTS,
    MR_RUN_PART, /* of an id of several parts */
    /* By the walk. */
    MR_RUN_ANY, /* skipped, or to its uses */
    MR_RUN_ID_ANY,
    MR_RUN_TIME_ANY,
};

/* Where a value goes. */
struct mr_run_out {
    uint8_t column;
    bool text; /* as text, else as number */
};

struct mr_run_step {
    uint8_t gap[MR_GAP_HEAD]; /* its first bytes, then zeros */
    union mr_value *values;   /* of the column, bound to a batch; NULL: of none, or of several */
    uint8_t *kinds;
    uint32_t ignored; /* a bit for each byte that is not the gap's */
    uint8_t fixed;    /* the length that is assumed, without quotes */
    uint8_t kind;     /* enum mr_run_kind */
    uint8_t gap_len;  /* of the head */
    uint8_t quote;    /* 1: the value is a string, the gaps hold its quotes */
    uint8_t index;    /* column, or part of the id */
};

static_assert(sizeof(struct mr_run_step) == 64, "one cache line");

/* What is seldom asked of a step. */
struct mr_run_more {
    uint16_t rest_off; /* the gap's bytes over MR_GAP_HEAD, in rest_bytes */
    uint16_t rest_len;
    uint16_t child; /* as in struct mr_step */
    uint16_t node;
    uint8_t kind;  /* what REST stands for */
    uint8_t class; /* of the value: learn.c */
    uint8_t out_first;
    uint8_t outs; /* of a value that goes to several columns */
};

struct mr_program {
    bool ready;
    bool
        careful; /* what is missing, and the fingerprint, are found when the event has ended, by build.c */
    bool has_id;        /* one of the steps takes the id, of one part */
    bool has_time;      /* and one the time */
    uint16_t count;     /* values; the step behind them is WRAP */
    uint16_t end_len;   /* of WRAP's gap: what belongs to the event that ends, */
    uint16_t next_len;  /* what is behind that, and */
    uint16_t start_len; /* of this, what belongs to the event that begins */
    uint8_t first_kind; /* of the first value */
    uint16_t out_count;
    uint16_t rest_len;
    int64_t factor;     /* of times: to milliseconds */
    int64_t time_first; /* times from here on, */
    uint64_t time_span; /* so many, are taken: they have no zero in front */
    uint32_t misses;    /* in a row */
    uint32_t pause;     /* events until another may be made */
    uint64_t print;     /* of what is between the values, quotes left out */
    const void *bound;  /* the batch's block, and */
    uint32_t bound_capacity;
    _Alignas(64) struct mr_run_step steps[MR_STEPS_MAX];
    struct mr_run_more mores[MR_STEPS_MAX];
    struct mr_run_out outs[MR_RUN_OUTS_MAX];
    uint8_t rest_bytes[MR_GAP_MORE_MAX];
};

/* Makes the program of the walk's shape from the event [start, stop), which the walk has just gone over as predicted;
 * the next event begins at next. Leaves the program not ready when it cannot be. */
void mr_run_learn(struct mr_walk *walk, const uint8_t *start, const uint8_t *stop,
                  const uint8_t *next);

/* Takes events from *p on into the batch while the program fits, then one more as walk->event does: *p is that event's
 * first byte, its end is returned, or NULL and a fault. There is room for that one. */
const uint8_t *mr_run_events(struct mr_build *b, const uint8_t **p);
