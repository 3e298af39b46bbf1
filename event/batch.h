/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Batch: the decoded events of one request: the raw body plus projected columns.
 *
 * Idea        Decoding happens once, on the thread that read the request; everything after it reads
 *             columns. Texts are not copied: a value points into the body, unless it had escapes.
 * Shape       n = count events. One block holds all columns:
 *
 *                 fps[n] 16 B | times_ms[n] 8 B | spans[n] 8 B | order[n] 4 B | verdicts[n] 1 B
 *                 and for each column of the schema: values[n] 8 B, kinds[n] 1 B
 *
 *             That is 37 B an event, 1 B more where ids may be missing, and 9 B for each column
 *             (fields, expressions, and the hidden fields that those use: event/schema.h). The
 *             smallest event has two body bytes (a broken line; how many there are is guessed, and
 *             columns grow by doubling, so there may be room for twice as many): a hostile body of b
 *             bytes makes a batch of at most b + b + min(b, events_max) * (38 + 9 * columns) + 24 KiB: with 10 columns 130 B
 *             for each body byte, until events_max is reached; growing holds half as much again. Texts
 *             that expressions make for KEY and ANY add at most MR_MADE_FACTOR * b + MR_MADE_EXTRA.
 *
 *             order lists the events to judge (not the rejected ones), grouped by dedup shard and in
 *             request order within it: shard s owns order[shard_start[s] .. shard_start[s + 1]).
 * Units       times_ms: event time; MR_TIME_ARRIVAL until the sequencer puts the recorded time there.
 * Owner       The creator, until it is pushed; then the sequencer; then it is read by all shards, each
 *             writing only the verdicts of its own events; the shard whose decrement of shards_left
 *             reaches zero owns it again and calls done.
 * Threads     One owner, then readers, then one owner. shards_left is the only shared word: each shard
 *             decrements it with acq_rel; the release publishes its verdict bytes, the acquire of the
 *             last one sees all of them.
 * Invariants  I1 Every event is in order exactly once, or rejected: order_count + rejected == count.
 *             I2 verdicts[i] is MR_VERDICT_REJECTED exactly for rejected events until shards judge.
 *             I3 spans lie inside the body. MR_PADDING bytes behind the body are readable.
 */
#include "base/hash.h"
#include "base/limits.h"

#include <stdatomic.h>

struct mr_schema;

enum mr_verdict {
    MR_VERDICT_NONE = 0, /* not yet judged */
    MR_VERDICT_ACCEPTED = 'A',
    MR_VERDICT_DUPLICATE = 'D',
    MR_VERDICT_LATE = 'L',
    MR_VERDICT_REJECTED = 'R',
};

#define MR_TIME_ARRIVAL INT64_MIN

/* Bound of the texts that expressions make in one batch (equal ones of a batch mostly once): over it an
 * event is rejected as too_long. */
#define MR_MADE_FACTOR 4 /* times the body */
#define MR_MADE_EXTRA (1u << 20)

enum mr_value_kind {
    MR_VALUE_MISSING = 0,
    MR_VALUE_NULL,
    MR_VALUE_FALSE,
    MR_VALUE_TRUE,
    MR_VALUE_INT,    /* use NUMBER: fits int64 exactly and is written without fraction or exponent */
    MR_VALUE_DOUBLE, /* use NUMBER */
    MR_VALUE_STRING, /* use KEY: text */
    MR_VALUE_DIGITS, /* use KEY: a number's JSON text as sent */
    MR_VALUE_OTHER,  /* use ANY: an object, an array, or a number over the range of a double */
};

/* off counts from the body's start; with MR_TEXT_UNESCAPED set, from the start of unescaped. */
#define MR_TEXT_UNESCAPED UINT32_C(0x80000000)

struct mr_text {
    uint32_t off;
    uint32_t len;
};

union mr_value {
    int64_t i;
    double d;
    struct mr_text text;
};

struct mr_column {
    union mr_value *values;
    uint8_t *kinds; /* enum mr_value_kind */
};

struct mr_span {
    uint32_t off;
    uint32_t len;
};

/* Why an event was rejected. The codes of API.md's errors list. */
#define MR_REJECT_TABLE(X)                                                                         \
    X(BAD_JSON, "bad_json")               /* a syntax error */                                     \
    X(NOT_OBJECT, "not_object")           /* JSON, but not an object */                            \
    X(BAD_UTF8, "bad_utf8")                                                                        \
    X(TOO_DEEP, "too_deep")                                                                        \
    X(TOO_LONG, "too_long")               /* event over limits.event */                            \
    X(DUPLICATE_NAME, "duplicate_name")   /* a used field twice */                                 \
    X(MISSING_ID, "missing_id")                                                                    \
    X(BAD_ID, "bad_id")                   /* neither string nor number, empty, or too long */      \
    X(MISSING_TIME, "missing_time")                                                                \
    X(BAD_TIME, "bad_time")                                                                        \
    X(BAD_NUMBER, "bad_number")           /* a metric's field is not a number, or overflows */     \
    X(BAD_KEY, "bad_key")                 /* a group_by field is an object or array, or too long */\
    X(BAD_CLOUDEVENT, "bad_cloudevent")

enum mr_reject {
    MR_REJECT_NONE = 0,
#define X(name, code) MR_REJECT_##name,
    MR_REJECT_TABLE(X)
#undef X
        MR_REJECT_COUNT
};

const char *mr_reject_code(enum mr_reject reject);

/* Why the sequencer gave a batch back before the append: nothing of it is in the log. */
enum mr_refusal {
    MR_REFUSAL_NONE = 0,  /* decided: read the verdicts */
    MR_REFUSAL_IDS_FULL,  /* dedup has no room for more ids */
    MR_REFUSAL_DISK_FULL, /* the log's reserve would be touched */
    MR_REFUSAL_LOG_FAILED,
    MR_REFUSAL_DRAINING,
    MR_REFUSAL_STORE_AWAY, /* the store of claims is away, or may not be believed now */
    MR_REFUSAL_REDRIVEN,   /* this event of the dead letters was redriven before */
    MR_REFUSAL_REDRIVES_FULL, /* too many were, of those that the log still has */
    /* From here on it is in the log, and may count: a retry is safe. */
    MR_REFUSAL_UNDECIDED, /* the store of claims went away before it said whose the ids are */
    MR_REFUSAL_ABANDONED, /* the pipeline stopped with it undecided */
    MR_REFUSAL_COUNT
};

#define MR_DETAIL_MAX 120
#define MR_POINTER_MAX 96

/* One entry of the answer's errors list. Texts are valid UTF-8, NUL-terminated, cut with "…". */
struct mr_event_error {
    uint32_t index; /* of the event in the request, from 0 */
    uint32_t line;  /* of the body, from 1 */
    enum mr_reject reject;
    char pointer[MR_POINTER_MAX]; /* JSON pointer to the field, or "" */
    char detail[MR_DETAIL_MAX];   /* what was found and what was expected */
};

/* Which event of the log is judged again by a redrive (pipeline/redrive.h): it is alone in its batch. */
struct mr_redriven {
    uint64_t lsn; /* 0: the batch is not a redrive */
    uint32_t index;
    bool future;      /* it was further ahead than max_future, and its id has been remembered since… */
    int64_t first_ms; /* …the recorded time of that record */
};

struct mr_batch {
    uint32_t magic;

    /* Constant after decoding. */
    const struct mr_schema *schema;
    uint32_t stream; /* index in the plan; set by the caller of decode */
    uint8_t format;  /* enum mr_format as decoded (never AUTO), as written to the log */
    uint32_t count;
    uint32_t rejected;
    uint32_t order_count;
    uint32_t arrivals; /* events with MR_TIME_ARRIVAL */
    int64_t time_max_ms; /* greatest time of the well-formed events with one; INT64_MIN if none */
    uint32_t columns;
    uint32_t capacity;   /* events the block has room for; at most the schema's events_max */
    size_t block_bytes;
    struct mr_buf body;      /* owned, padded */
    struct mr_buf unescaped; /* owned; behind it the texts that expressions made */
    struct mr_fingerprint *fps;
    int64_t *times_ms;
    struct mr_span *spans;
    uint32_t *order;
    uint32_t *shard_start; /* shards + 1 */
    struct mr_column *column;
    bool *has_id;          /* NULL when every well-formed event has an id; else has_id[i] false: never a
                            * duplicate, and fps[i] only says which shard has it */
    struct mr_event_error *errors;
    uint32_t error_count;  /* listed, at most MR_ERRORS_MAX */
    bool errors_truncated;

    /* Written by the shards, each its own events. */
    uint8_t *verdicts;

    /* Owned by whoever has the batch, see Owner. */
    struct mr_batch *next;
    void (*done)(struct mr_batch *batch, void *ctx);
    void *ctx;
    enum mr_refusal refusal; /* set before done */
    bool pending;            /* done without a refusal, but not decided yet: durable, no verdicts (law L3: hold) */
    uint8_t *taken;          /* ids that a shared store says are another's: a bit an event; owned; NULL: judge them here */
    bool local;              /* taken says nothing: the shared store could not be asked, this node's own table decides */
    uint64_t seq; /* of its bundle, and
                   * lsn of its record: set by the sequencer */
    uint64_t lsn;
    int64_t recorded_ms; /* of its record; streams with a shared store only */
    struct mr_redriven redriven;

    /* Shared. */
    _Alignas(64) _Atomic uint32_t shards_left;
};

void mr_batch_close(struct mr_batch *batch); /* NULL is fine */

/* The bytes of a STRING or DIGITS value. */
static inline struct mr_bytes mr_batch_text(const struct mr_batch *batch, union mr_value value) {
    const uint8_t *base = (value.text.off & MR_TEXT_UNESCAPED) != 0 ? batch->unescaped.ptr
                                                                      : batch->body.ptr;
    return mr_bytes_of(base + (value.text.off & ~MR_TEXT_UNESCAPED), value.text.len);
}

/* Event i as it was sent. */
static inline struct mr_bytes mr_batch_event(const struct mr_batch *batch, uint32_t i) {
    return mr_bytes_of(batch->body.ptr + batch->spans[i].off, batch->spans[i].len);
}

/* Bytes of memory the batch holds, for admission. */
size_t mr_batch_bytes(const struct mr_batch *batch);
void mr_batch_check(const struct mr_batch *batch, uint32_t shards);
