/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Walk: one strict pass over one event, inside event/ only.
 *
 * Idea        walk.c is compiled twice, for any machine and for AVX2; mr_walk_ops is what differs.
 * Both do the same things in the same order, so they give the same batch.
 *
 *             A shape is what the walk remembers of the event before: for every value the bytes
 * before it (the gap) and what was done with it. As long as the gaps of the next event are equal,
 *             its names are, so nothing has to be looked up or checked for being there twice.
 *
 *                 {"id":"4f","ts":17,"user":"u1"}
 *                 ^^^^^^    ^^^^^^  ^^^^^^^^    ^       steps: leaf id, leaf ts, skip, end
 *
 *             Where a gap differs, the general walk goes on from the end of the value before it,
 * and records the rest of the shape anew. Shape       A step is one cache line. The body is
 * followed by MR_PADDING zero bytes: a NUL is an error in every state, so nothing else has to look
 * for the end. Errors      Syntax: the walk returns NULL and fault says why. Meaning (bad_time, …):
 * fault keeps the first one, the walk goes on, because all of an event must be well-formed first.
 * Invariants  I1 gaps begin and end at token boundaries and never hold a NUL.
 *             I2 steps were recorded from one event without syntax errors and duplicate names so
 * far.
 */
#include "base/check.h"
#include "event/batch.h"
#include "event/number.h"
#include "event/tree.h"

#define MR_STEPS_MAX    96
#define MR_MARKS_MAX    192
#define MR_GAP_HEAD     32
#define MR_GAP_MORE_MAX 2048
#define MR_STEP_LONG    0x80

struct mr_step {
    uint8_t gap[MR_GAP_HEAD]; /* its first bytes, then zeros */
    uint64_t mask[2];         /* of the gap's first 16 bytes, for the portable path */
    uint32_t bits;            /* one per byte of gap, for AVX2 */
    uint16_t gap_len;
    uint16_t more_off; /* the bytes over MR_GAP_HEAD */
    uint16_t node;     /* whose member the value is */
    uint16_t child;    /* the member's own node; 0 for SKIP */
    uint16_t marks;    /* names seen so far, this one included */
    uint8_t kind;      /* enum mr_step_kind, with MR_STEP_LONG where the gap is over MR_GAP_HEAD */
    uint8_t index;     /* of the child's first use */
};

static_assert(sizeof(struct mr_step) == 64, "one cache line");

struct mr_shape {
    uint64_t of; /* the schema's number, and which white space is allowed; 0: unused */
    uint16_t count;
    uint16_t mark_count;
    uint16_t more_len;
    bool recording;
    _Alignas(64) struct mr_step steps[MR_STEPS_MAX];
    uint16_t marks[MR_MARKS_MAX]; /* nodes whose names were seen, in order */
    uint8_t more[MR_GAP_MORE_MAX];
};

/* Why an event is refused. */
struct mr_fault {
    enum mr_reject reject;
    bool syntax;
    uint16_t node;     /* the field, 0: none */
    const char *text;  /* what was expected */
    const uint8_t *at; /* the value, or for syntax the byte that should not be there */
    uint32_t len;
};

struct mr_walk {
    /* Constant during a body. */
    const struct mr_schema *schema;
    const uint8_t *body;
    const uint8_t *end;
    uint64_t space; /* bit c: the character c is white space; \n is not in NDJSON */
    bool predict;
    locale_t c_locale;

    /* Where values go. */
    struct mr_column *column;
    uint32_t row;
    struct mr_buf *unescaped;

    /* Of the current event. */
    struct mr_fault fault;
    bool no_memory;
    bool has_time;
    uint8_t ids;        /* bit i: part i is there */
    uint8_t attributes; /* bit i: attribute i is there and good */
    int64_t time_ms;
    struct mr_text id[MR_ID_PARTS_MAX];

    /* Across events. */
    struct mr_shape *shape;
    struct mr_program *program; /* made of the shape; event/run.h */
    uint64_t taken;             /* events that programs took */
    bool whole;                 /* the last event was predicted from its first byte to its last */
    uint32_t generation;
    uint32_t
        seen[MR_NODES_MAX]; /* generation in which a node's name was seen by the general walk */
};

#define MR_SPACE_LINE (UINT64_C(1) << ' ' | UINT64_C(1) << '\t' | UINT64_C(1) << '\r')
#define MR_SPACE_ALL  (MR_SPACE_LINE | UINT64_C(1) << '\n')

struct mr_build;

struct mr_walk_ops {
    /* p at '{'. The byte behind the event, or NULL and fault. */
    const uint8_t *(*event)(struct mr_walk *walk, const uint8_t *p);
    /* Any value, checked and skipped; depth containers are open around it. */
    const uint8_t *(*value)(struct mr_walk *walk, const uint8_t *p, uint32_t depth);
    /* Line feeds. */
    size_t (*lines)(const uint8_t *p, size_t len);
    /* The value of a wanted leaf, to its uses. */
    const uint8_t *(*take)(struct mr_walk *walk, const uint8_t *p, uint32_t node);
    /* Both NULL where there are no programs; event/run.h. */
    const uint8_t *(*run)(struct mr_build *b, const uint8_t **p);
    void (*learn)(struct mr_walk *walk, const uint8_t *start, const uint8_t *stop, const uint8_t *next);
};

extern const struct mr_walk_ops mr_walk_portable;
#ifdef __x86_64__
extern const struct mr_walk_ops mr_walk_avx2;
#endif

/* 32 quotes, 32 backslashes, 32 blanks. */
extern _Alignas(32) const uint8_t mr_scan_stops[3][32];

/* Prepares the walk for the next event. */
static inline void mr_walk_begin(struct mr_walk *walk) {
    walk->fault.reject = MR_REJECT_NONE;
    walk->has_time = false;
    walk->ids = 0;
    walk->attributes = 0;
}

/* The bytes of a text taken by the walk. */
static inline struct mr_bytes mr_walk_text(const struct mr_walk *walk, struct mr_text text) {
    const uint8_t *base = (text.off & MR_TEXT_UNESCAPED) != 0 ? walk->unescaped->ptr : walk->body;
    return mr_bytes_of(base + (text.off & ~MR_TEXT_UNESCAPED), text.len);
}

/* A syntax error: returns NULL, so that it can be returned. */
const uint8_t *mr_walk_refuse(struct mr_walk *walk, enum mr_reject reject, const uint8_t *at,
                              const char *expected);
/* An error of meaning; the first of an event stays. [at, at + len) is the value. */
void mr_walk_object(struct mr_walk *walk, enum mr_reject reject, uint32_t node, const char *text,
                    const uint8_t *at, size_t len);

/* Values of a field used as time; raw is the value as sent. */
void mr_walk_time_text(struct mr_walk *walk, uint32_t node, struct mr_text text,
                       struct mr_bytes raw);
void mr_walk_time_number(struct mr_walk *walk, uint32_t node, const struct mr_decimal *decimal);
/* A string of a CloudEvents attribute. */
void mr_walk_attribute(struct mr_walk *walk, uint32_t node, enum mr_attribute attribute,
                       struct mr_text text, struct mr_bytes raw);
/* Unescapes the content of the string at text into walk->unescaped; false: no memory. */
bool mr_walk_unescape(struct mr_walk *walk, struct mr_text *text);
