/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Combine, inside: what combine.c (merge), fire.c, scan.c, save.c, load.c and combine_check.c
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
#include "aggregate/saved.h"
#include "aggregate/timeline.h"

enum mr_window_state { MR_WINDOW_OPEN, MR_WINDOW_CLOSED, MR_WINDOW_FINAL };

struct mr_combine_window {
    int64_t start_ms;
    struct mr_combine_rule *owner;
    enum mr_window_state state;
    uint64_t closed_seq; /* of the bundle that closed it, the least revision of panes; 0: none */
    uint64_t final_seq;
    struct mr_combine_window *next_closing;
    struct mr_combine_window *next_final;
    struct mr_groups groups;
};

/* A group of a CLOSED window that the bundle changed. */
struct mr_combine_dirty {
    int64_t start_ms;
    struct mr_combine_window *window;
    uint32_t ref;
};

enum { MR_COMBINE_RECENT = 8 };

struct mr_combine_rule {
    const struct mr_rule *rule;
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
    int64_t said_final_end_ms;

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

struct mr_combine_loading;

struct mr_combine {
    struct mr_combine_rule *rules;
    uint32_t rule_count;
    int64_t *watermarks_ms; /* by stream */
    uint32_t stream_count;
    const struct mr_bytes *stream_names;
    uint32_t shard;
    uint64_t seq;         /* of the last advance */
    uint64_t merging_seq; /* of the parcels merged since */
    bool merging;
    bool advanced; /* seq is set */
    bool firing;
    uint32_t fire_rule;
    struct mr_combine_window *final_first;
    struct mr_combine_window *final_last;
    uint32_t scans; /* under way: they hold pointers to groups */
    struct mr_buf dead;
    uint32_t dead_count;
    struct mr_combine_save save;
    struct mr_combine_loading *loading; /* NULL: not between load_begin and load_end */
};

static inline struct mr_bytes mr_combine_other_key(const struct mr_combine_rule *rule) {
    return mr_bytes_of(rule->other_key, sizeof rule->other_key);
}

static inline uint64_t mr_combine_window_bytes(const struct mr_combine_window *window) {
    return sizeof *window + window->groups.bytes;
}

static inline int64_t mr_combine_watermark(const struct mr_combine *combine,
                                           const struct mr_combine_rule *rule) {
    return mr_rule_watermark(rule->rule, combine->watermarks_ms);
}

/* What a group looks like from outside. A group not changed since its window closed fired in that
 * bundle. */
struct mr_row mr_combine_row(const struct mr_combine_window *window, struct mr_group *group);

/* A new group of this key in this window, which is opened if it is NULL; the caller gives it its
 * first value. NULL: out of memory, nothing has changed. */
struct mr_group *mr_combine_add_group(struct mr_combine *combine, struct mr_combine_rule *cr,
                                      struct mr_combine_window **window, int64_t start_ms,
                                      uint32_t hash, struct mr_bytes key, uint32_t *ret_ref);
void mr_combine_set_gauges(struct mr_combine *combine);

/* A group is about to change that has not since the save began: it is written down as it is, if the
 * walk has not been there. Out of memory, it is the save that fails. */
void mr_combine_save_group(struct mr_combine *combine, const struct mr_combine_window *window,
                           const struct mr_group *group, uint32_t ref);

/* Frees an unfinished load. */
void mr_combine_load_stop(struct mr_combine *combine);
