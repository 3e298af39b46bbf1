/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sessions, inside: what the files sessions*.c share. Nobody else includes it.
 *
 * Shape       A session is one piece of heap memory and stands in up to five places at once:
 *
 *                 buckets ──▶ key ──▶ key ──▶ …        linear hashing by the key's hash
 *                              │ root
 *                              ▼
 *                         a treap of the key's OPEN and CLOSED sessions by start, with the greatest end below
 *                 clocks[EVENT]   a binary heap of (due, start, key): end while OPEN, end + lateness while CLOSED
 *                 clocks[EARLY]   the same by recorded time, of those with an early timer
 *                 live            a list of OPEN and CLOSED sessions, the newest first, so that the walk of a save
 *                                 does not come to new ones; or `finals`, or `retracting`: one of the three
 *                 changed         a list of those this bundle changed, in order
 *
 *             | mr_session | live metrics: state_len | DISCARDING: what its rows hold, state_len |
 * Invariants  I1 a session has rows in the store: said_first < index; DISCARDING: these are its rows, [said_first,
 *             index), and `said` is the sum of what they hold.  I2 unfired is 0 after each pane.  I3 an early timer
 *             runs only for an OPEN session with unfired > 0.
 */
#include "aggregate/key_index.h"
#include "aggregate/sessions.h"

enum { MR_SESSION_EVENT, MR_SESSION_EARLY, MR_SESSION_CLOCKS };
enum mr_session_place { MR_SESSION_HOME, MR_SESSION_CHANGED, MR_SESSION_PLACES };
enum mr_session_state { MR_SESSION_OPEN, MR_SESSION_CLOSED, MR_SESSION_FINAL, MR_SESSION_SWALLOWED };

struct mr_session_link {
    struct mr_session *previous;
    struct mr_session *next;
};

struct mr_session {
    struct mr_key_entry *key;
    struct mr_session *left;
    struct mr_session *right;
    uint64_t priority;
    int64_t max_end_ms; /* in the treap: of this one and all below */
    struct mr_session_link links[MR_SESSION_PLACES];
    struct mr_session *chosen; /* by the merge under way: the next one */
    int64_t start_ms;
    int64_t end_ms;
    int64_t said_end_ms;            /* of its last pane */
    int64_t due[MR_SESSION_CLOCKS]; /* EARLY: INT64_MAX: none */
    uint64_t at[MR_SESSION_CLOCKS]; /* place in the heap, from 1; 0: in none */
    uint64_t events;                /* in the live metrics */
    uint64_t unfired;               /* since its last pane */
    uint64_t said_events;           /* DISCARDING: in its rows */
    uint64_t changed_seq;           /* of the last merge */
    uint64_t fired_seq;             /* of the last pane, before a merge too; 0: none */
    uint64_t final_seq;
    uint64_t charged; /* part of mr_sessions.bytes */
    uint32_t index;   /* of the next pane */
    uint32_t said_first;
    uint32_t save_mark; /* equal to mr_sessions_save.number: written, or new */
    enum mr_session_state state;
    bool said_on_time; /* its last pane was that of its end */
    bool changed;      /* in that list */
    bool reextended; /* in this bundle, after it had been fired */
    bool takes_over; /* a row that a swallowed session has left: fires in this bundle whatever the trigger */
    uint64_t blocks[];
};

struct mr_session_list {
    struct mr_session *first;
    struct mr_session *last;
};

struct mr_sessions_saving {
    bool under_way;
    uint64_t seq;
    uint32_t number;        /* of this save, from 1 */
    uint32_t slices;        /* so far */
    struct mr_session *at;  /* the walk's next one; NULL: it is through */
    struct mr_buf waiting;  /* records of sessions as they were before they changed */
    size_t waiting_at;      /* what is before it has been written */
};

struct mr_sessions_loading {
    bool under_way;
    uint32_t shards;
    int64_t begins_ms; /* mr_sessions_load_from */
    struct {
        uint32_t seen; /* slices */
        uint32_t all;  /* 0: the last one has not been seen */
    } saved[MR_SHARDS_MAX];
};

enum mr_sessions_phase { MR_SESSIONS_RETRACT, MR_SESSIONS_CHANGED, MR_SESSIONS_EARLY, MR_SESSIONS_DUE };

struct mr_sessions {
    const struct mr_rule *rule;
    uint32_t shard;
    bool discarding;
    struct mr_key_index by_key; /* some have FINAL sessions only; root: of a treap */
    struct mr_slots clocks[MR_SESSION_CLOCKS];
    struct mr_session_list live;
    struct mr_session_list finals; /* in order of final_seq */
    struct mr_session_list retracting;
    struct mr_session_list changed;
    uint64_t count; /* OPEN and CLOSED, as the next two */
    uint64_t keys;
    uint64_t bytes;
    uint64_t final_count;
    int64_t watermark_ms;
    int64_t recorded_ms;
    uint64_t seq;
    uint64_t merging_seq;
    bool advanced;
    bool merging;
    bool firing;
    enum mr_sessions_phase phase;
    bool again_under_way;
    struct mr_session *again; /* the next one of mr_sessions_fire_again */
    uint32_t scans;
    struct mr_buf encoded; /* scratch: a state */
    struct mr_buf pane_key; /* scratch: a key and an index */
    struct mr_sessions_saving save;
    struct mr_sessions_loading loading;
    struct mr_sessions_stats stats;
};

static inline uint8_t *mr_session_live(struct mr_session *session) {
    return (uint8_t *)session->blocks;
}

static inline uint8_t *mr_session_said(const struct mr_sessions *s, struct mr_session *session) {
    MR_ASSERT(s->discarding);
    return (uint8_t *)session->blocks + s->rule->state_len;
}

static inline struct mr_bytes mr_session_key_bytes(const struct mr_session *session) {
    return mr_bytes_of(session->key->bytes, session->key->len);
}

static inline bool mr_session_has_rows(const struct mr_session *session) {
    return session->said_first < session->index;
}

/* The end of lateness, saturating. */
static inline int64_t mr_session_final_at(const struct mr_rule *rule, int64_t end_ms) {
    int64_t at;
    return __builtin_add_overflow(end_ms, rule->allowed_lateness_ms, &at) ? INT64_MAX : at;
}

static inline bool mr_session_is_final(const struct mr_rule *rule, int64_t end_ms, int64_t watermark_ms) {
    return end_ms <= rule->final_floor_ms || mr_session_final_at(rule, end_ms) <= watermark_ms;
}

/* sessions_index.c: takes no memory. */
void mr_session_tree_insert(struct mr_session *session);
void mr_session_tree_remove(struct mr_session *session);
/* The first session of the key with start >= from that overlaps [start, end). */
struct mr_session *mr_session_tree_overlap(const struct mr_key_entry *key, int64_t from_ms, int64_t start_ms,
                                           int64_t end_ms);
struct mr_session *mr_session_tree_find(const struct mr_key_entry *key, int64_t start_ms);

/* Puts it into the heap, moves it there to where due says, takes it out. set: room has been reserved. */
void mr_session_clock_set(struct mr_sessions *s, struct mr_session *session, uint32_t clock, int64_t due_ms);
void mr_session_clock_clear(struct mr_sessions *s, struct mr_session *session, uint32_t clock);
static inline struct mr_session *mr_session_clock_first(const struct mr_sessions *s, uint32_t clock) {
    return s->clocks[clock].count == 0 ? NULL : *mr_slot(&s->clocks[clock], 0);
}
/* In order of (due, start, key). */
bool mr_session_clock_before(const struct mr_session *a, const struct mr_session *b, uint32_t clock);

void mr_session_list_push(struct mr_session_list *list, struct mr_session *session, enum mr_session_place place);
void mr_session_list_push_front(struct mr_session_list *list, struct mr_session *session,
                                enum mr_session_place place);
void mr_session_list_remove(struct mr_session_list *list, struct mr_session *session, enum mr_session_place place);

/* sessions.c */
/* A session of the key, whose reference it takes; in no list or tree yet. NULL: out of memory. */
struct mr_session *mr_session_new(struct mr_sessions *s, struct mr_key_entry *key);
/* It is in no list, tree or heap. */
void mr_session_free(struct mr_sessions *s, struct mr_session *session);
/* Into tree, clock and live list, by its extent and state; room in the clocks has been reserved. */
void mr_session_enter(struct mr_sessions *s, struct mr_session *session);
/* Out of all of these, and of the changed list. */
void mr_session_leave(struct mr_sessions *s, struct mr_session *session);
/* Sets what it is charged with, and the extent in its live block. */
void mr_session_charge(struct mr_sessions *s, struct mr_session *session);
void mr_session_set_early(struct mr_sessions *s, struct mr_session *session, int64_t due_ms);
/* What a new session of this key would be charged with. */
uint64_t mr_session_cost(const struct mr_sessions *s, uint32_t key_len, bool key_is_new);
/* A live block, encoded: valid until the next call. */
enum mr_status mr_session_encode(struct mr_sessions *s, const uint8_t *live, struct mr_bytes *ret) MR_MUST_CHECK;
/* into (live) += from (live). */
enum mr_status mr_session_add(struct mr_sessions *s, uint8_t *into, const uint8_t *from) MR_MUST_CHECK;
/* The key of its row: DISCARDING with the index. Valid until the next call. */
enum mr_status mr_session_row_key(struct mr_sessions *s, const struct mr_session *session, uint32_t index,
                                  struct mr_bytes *ret) MR_MUST_CHECK;
void mr_sessions_set_gauges(struct mr_sessions *s);

/* sessions_save.c: it is about to change or go: it is written down as it is, if a save wants it and has not got it. */
void mr_session_touch(struct mr_sessions *s, struct mr_session *session);
/* Appends its record. */
void mr_session_put(struct mr_sessions *s, struct mr_session *session, struct mr_buf *buf);

/*
 * The saved form, little-endian:
 *
 *     | slice 48 B | record | record | … |
 *     record:  | head 104 B | state | said | key | padding to 8 |
 */
#define MR_SESSIONS_MAGIC UINT32_C(0x3153726D) /* "mrS1" */

struct mr_sessions_slice {
    uint64_t checksum; /* mr_checksum of the slice behind it */
    uint32_t magic;
    uint32_t index; /* of one save: 0, 1, 2 … */
    uint64_t len;   /* of the slice, this header included */
    uint64_t seq;
    uint32_t shard;
    uint32_t last; /* 0 or 1 */
    uint32_t discarding; /* 0 or 1 */
    uint32_t zero;
};

#define MR_SESSION_RECORD_CLOSED  1u
#define MR_SESSION_RECORD_ON_TIME 2u /* its last pane was that of its end */

struct mr_session_record {
    int64_t start_ms;
    int64_t end_ms;
    int64_t said_end_ms;
    int64_t early_due_ms;
    uint64_t events;
    uint64_t unfired;
    uint64_t said_events;
    uint64_t changed_seq;
    uint64_t fired_seq;
    uint64_t size; /* of the record */
    uint32_t index;
    uint32_t said_first;
    uint32_t closed; /* 0, MR_SESSION_RECORD_CLOSED, or that and MR_SESSION_RECORD_ON_TIME */
    uint32_t key_len;
    uint32_t state_len; /* encoded: a multiple of 8 */
    uint32_t said_len;  /* 0: not DISCARDING */
};

static_assert(sizeof(struct mr_sessions_slice) == 48, "no padding inside");
static_assert(sizeof(struct mr_session_record) == 104, "no padding inside");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs are written as they are");
