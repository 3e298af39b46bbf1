/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Combine, inside: what combine.c, combine_merge.c, fire.c, scan.c, save.c, load.c and combine_check.c
 * share. Nobody else includes it.
 *
 * Shape       For each rule a timeline of windows; for each window its groups. Two lists run
 *             through windows: those that close in this bundle, and those that are FINAL, in order
 *             of becoming so.
 *
 *             OPEN ──end ≤ watermark──▶ CLOSED ──end + lateness ≤ watermark──▶ FINAL ─confirmed─▶
 * freed
 */
#include "aggregate/combine.h"
#include "aggregate/groups.h"
#include "aggregate/hot.h"
#include "aggregate/saved.h"
#include "aggregate/sessions.h"
#include "aggregate/slices.h"
#include "aggregate/timeline.h"

enum mr_window_state { MR_WINDOW_OPEN, MR_WINDOW_CLOSED, MR_WINDOW_FINAL };

struct mr_combine_window {
    int64_t start_ms;
    struct mr_combine_rule *owner;
    enum mr_window_state state;
    bool unsaid;         /* CLOSED: some groups are MR_GROUP_UNSAID, and it is not among the expired yet */
    uint64_t closed_seq; /* of the bundle that closed it, the least revision of panes; 0: none */
    uint64_t final_seq;
    struct mr_combine_window *next_closing;
    struct mr_combine_window *next_expired;
    struct mr_combine_window *next_final;
    size_t heap; /* of the groups' sketches */
    struct mr_groups groups;
};

/* mr_group.panes: how many a group has fired, but for the one of its window's end; whether it was not there then; and
 * whether it has changed since and that is to be said once its window is final (trigger.late off). */
#define MR_GROUP_BORN_LATE UINT32_C(0x80000000)
#define MR_GROUP_UNSAID    UINT32_C(0x40000000)
#define MR_GROUP_PANES     UINT32_C(0x3fffffff)

/* A group of a CLOSED window that the bundle changed; of an OPEN one where there are early panes. */
struct mr_combine_dirty {
    int64_t start_ms;
    struct mr_combine_window *window;
    uint32_t ref;
};

/* A group fires early, early_ms after this; unless it has fired since. */
struct mr_combine_timer {
    int64_t waiting_ms; /* recorded time */
    int64_t start_ms;
    uint32_t ref;
};

/* In order of waiting_ms, for recorded time does not go back. */
struct mr_combine_timers {
    struct mr_combine_timer *items; /* a ring */
    uint32_t first;
    uint32_t count;
    uint32_t cap; /* 0, or a power of two */
};

enum { MR_COMBINE_RECENT = 8 };

struct mr_combine_rule {
    const struct mr_rule *rule;
    struct mr_sessions *sessions; /* instead of the windows; NULL for rules of other kinds */
    uint64_t sessions_panes;      /* of theirs that stats has counted */
    struct mr_slices *slices;     /* instead of OPEN windows; NULL for rules of other kinds */
    int64_t slices_open_ms;       /* start of the first OPEN window; those before it have closed */
    int64_t slices_next_ms;       /* this bundle: of the first one that has not been put together yet */
    struct mr_sliced_key *slices_key; /* of which the next one is; NULL: the window has not been begun */
    struct mr_timeline windows;
    struct mr_combine_window
        *recent[MR_COMBINE_RECENT]; /* by a hash of the start: spares the search */
    uint64_t window_count;          /* OPEN and CLOSED, as the next two */
    uint64_t groups;
    uint64_t bytes;

    uint8_t other_key[2];
    uint32_t other_hash;

    /* What this bundle fires. */
    struct mr_combine_dirty *dirty;
    uint32_t dirty_count;
    uint32_t dirty_cap;
    uint32_t dirty_at;
    struct mr_combine_window *closing;
    struct mr_combine_window *closing_last;
    uint32_t closing_ref; /* the next group of *closing */
    struct mr_combine_window *expired; /* with groups that are unsaid and have to be: final now, or late is on now */
    struct mr_combine_window *expired_last;
    uint32_t expired_ref;
    struct mr_combine_timers timers;
    int64_t said_final_end_ms;

    struct mr_hot hot; /* no part of the state */
    struct mr_combine_rule_stats stats;
    struct mr_saved_counters saved; /* stats when the save began */
};

/* A run of groups being written; run.count 0: none. Its header is written when it ends. */
struct mr_combine_run {
    size_t at; /* of its header in the buffer */
    struct mr_saved_run run;
};

/* A save under way. The walk goes by rule, window start and reference, all three ascending; windows
 * and groups may be added meanwhile, before and behind it, but none goes. */
struct mr_combine_save {
    bool under_way;
    uint64_t seq;
    uint32_t rule; /* the walk's place: what is before it has been written */
    int64_t start_ms;
    uint32_t ref;
    uint32_t slices;       /* so far */
    struct mr_buf waiting; /* runs of groups as they were before they changed */
    size_t waiting_at;     /* what is before it has been written */
    struct mr_combine_run waiting_run;
};

/* Partials: their index slots are prefetched together, then their groups, then the groups are found, then their states
 * are merged. */
enum { MR_COMBINE_RUN = 16 };

/* States of one rule that are to be merged: into[k] += from[k]. Empty between runs, and when groups are added, for that
 * may move others. */
struct mr_combine_merges {
    const struct mr_rule *rule;
    uint32_t count;
    uint8_t *into[MR_COMBINE_RUN];
    const uint8_t *from[MR_COMBINE_RUN];
};

struct mr_combine_loading;

struct mr_combine {
    struct mr_combine_rule *rules;
    uint32_t rule_count;
    int64_t *watermarks_ms; /* by stream */
    uint32_t stream_count;
    const struct mr_bytes *stream_names;
    uint32_t shard;
    uint64_t seq;         /* of the last advance */
    int64_t recorded_ms;  /* of the last advance */
    uint64_t merging_seq; /* of the parcels merged since */
    bool merging;
    struct mr_combine_merges merges;
    bool advanced; /* seq is set */
    bool firing;
    uint32_t fire_rule;
    struct mr_combine_window *final_first;
    struct mr_combine_window *final_last;
    uint64_t final_count;
    uint32_t scans; /* under way: they hold pointers to groups */
    struct mr_buf scratch; /* of mr_combine_row */
    struct mr_buf dead;
    uint32_t dead_count;
    struct mr_combine_save save;
    struct mr_combine_loading *loading; /* NULL: not between load_begin and load_end */
};

static inline struct mr_bytes mr_combine_other_key(const struct mr_combine_rule *rule) {
    return mr_bytes_of(rule->other_key, sizeof rule->other_key);
}

static inline uint64_t mr_combine_window_bytes(const struct mr_combine_window *window) {
    return sizeof *window + window->groups.bytes + window->heap;
}

static inline int64_t mr_combine_watermark(const struct mr_combine *combine,
                                           const struct mr_combine_rule *rule) {
    return mr_rule_watermark(rule->rule, combine->watermarks_ms);
}

/* Where a group stands: a row without its state, its key without a pane's index. A group not changed since its window
 * closed fired in that bundle. */
struct mr_row mr_combine_place(const struct mr_combine_window *window, struct mr_group *group);
/* What it looks like from outside, as the pane it fires with this timing; valid until the next call. state.ptr NULL: out
 * of memory. */
struct mr_row mr_combine_row(struct mr_combine *combine, const struct mr_combine_window *window,
                             struct mr_group *group, enum mr_timing timing);
/* The index of the pane that it fires with this timing. */
uint32_t mr_combine_pane_index(const struct mr_combine_window *window, const struct mr_group *group,
                               enum mr_timing timing);
static inline uint32_t mr_combine_recent_slot(int64_t start_ms) {
    return (uint32_t)((uint64_t)start_ms * UINT64_C(0x9E3779B97F4A7C15) >> 61);
}

/* The window if it is at hand. */
static inline struct mr_combine_window *mr_combine_recent_window(const struct mr_combine_rule *cr, int64_t start_ms) {
    struct mr_combine_window *window = cr->recent[mr_combine_recent_slot(start_ms)];
    return window != NULL && window->start_ms == start_ms ? window : NULL;
}

/* NULL: no such window is there. */
struct mr_combine_window *mr_combine_find_window(struct mr_combine_rule *cr, int64_t start_ms);

static inline bool mr_combine_fires_early(const struct mr_rule *rule) {
    return rule->trigger.early_ms > 0 || rule->trigger.early_count > 0;
}

/* Bytes of a group between its head and its key: the live state, and how it fires where there are early panes. */
static inline uint32_t mr_combine_group_len(const struct mr_rule *rule) {
    return rule->state_len + (mr_combine_fires_early(rule) ? (uint32_t)sizeof(struct mr_group_firing) : 0);
}

static inline struct mr_group_firing *mr_combine_firing(const struct mr_rule *rule, struct mr_group *group) {
    return (struct mr_group_firing *)(void *)(mr_group_state(group) + rule->state_len);
}

/* What became of a partial in one window, or in all of them. */
struct mr_combine_merged {
    bool applied;
    bool overflow;
};

enum mr_status mr_combine_merge_window(struct mr_combine *combine, struct mr_combine_rule *cr, struct mr_partial *p,
                                       int64_t start_ms, struct mr_combine_merged *ret) MR_MUST_CHECK;
/* A dead letter of what the bounds do not admit to [start, end). */
enum mr_status mr_combine_drop(struct mr_combine *combine, const struct mr_combine_rule *cr,
                               const struct mr_partial *p, int64_t start_ms, int64_t end_ms) MR_MUST_CHECK;
/* combine_slices.c: the same into windows that are CLOSED, and the slice. */
enum mr_status mr_combine_merge_sliced(struct mr_combine *combine, struct mr_combine_rule *cr, struct mr_partial *p,
                                       struct mr_combine_merged *ret) MR_MUST_CHECK;
/* (window, key)s, of OPEN and CLOSED windows; and whether the bounds do not admit so many more. */
uint64_t mr_combine_sliced_groups(const struct mr_combine_rule *cr);
bool mr_combine_sliced_full(const struct mr_combine_rule *cr, uint64_t more, size_t key_len);
/* false: out of memory. */
bool mr_combine_add_timer(struct mr_combine_timers *timers, struct mr_combine_timer timer);
/* A group is about to change outside of merge: it is saved as it is, if need be. */
void mr_combine_touch(struct mr_combine *combine, const struct mr_combine_window *window,
                      struct mr_group *group, uint32_t ref);

/* A window that is not there yet, OPEN or CLOSED by the watermark. NULL: out of memory. */
struct mr_combine_window *mr_combine_open_window(struct mr_combine *combine, struct mr_combine_rule *cr,
                                                 int64_t start_ms);
/* A new group of this key in this window, which is opened if it is NULL; the caller gives it its
 * first value. NULL: out of memory, nothing has changed. */
struct mr_group *mr_combine_add_group(struct mr_combine *combine, struct mr_combine_rule *cr,
                                      struct mr_combine_window **window, int64_t start_ms,
                                      uint32_t hash, struct mr_bytes key, uint32_t *ret_ref);
/* Of one rule, which has no sessions; of all. */
void mr_combine_set_gauge(struct mr_combine_rule *cr);
void mr_combine_set_gauges(struct mr_combine *combine);

/* A group is about to change that has not since the save began: it is written down as it is, if the
 * walk has not been there. Out of memory, it is the save that fails. */
void mr_combine_save_group(struct mr_combine *combine, const struct mr_combine_window *window,
                           const struct mr_group *group, uint32_t ref);

/* The same of a group of any time: written down if a save is under way that it has not changed since. */
static inline void mr_combine_save_first(struct mr_combine *combine, const struct mr_combine_window *window,
                                         const struct mr_group *group, uint32_t ref) {
    if (combine->save.under_way && group->revision <= combine->save.seq) {
        mr_combine_save_group(combine, window, group, ref);
    }
}

/* Its unsaid groups are said in this bundle, or by mr_combine_say_left. */
void mr_combine_expire(struct mr_combine_window *window);
/* It takes nothing any more, and goes when the store has what was said of it. */
void mr_combine_make_final(struct mr_combine *combine, struct mr_combine_window *window);

/* The counters of a rule of session windows become its sessions'. */
void mr_combine_note_sessions(struct mr_combine_rule *cr);

/* Frees an unfinished load. */
void mr_combine_load_stop(struct mr_combine *combine);
