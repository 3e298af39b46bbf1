/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Layout: which generations there will be after a start, and where each saved one goes.
 *
 * Idea        With the same options a saved generation becomes a generation, and nothing changes.
 *             Otherwise there may be too many: those of several shards, or more short ones than
 *             the new options would make. Then neighbours in time are joined into targets:
 *
 *                 saved by shard 0      | 7      | 8      | 9 |
 *                 saved by shard 1           | 4      | 5   |
 *                 targets               |  12       |  13     |     from the first to the last
 *
 *             A target ends when the last of its generations does, so ids are remembered longer,
 *             never shorter. Equal ends of several shards are one without any loss.
 * Shape       At most MR_LAYOUT_EXACT_MAX targets (generations.h), MR_BLOOMING_SPANS in bloom. One
 *             pass over the generations in order of time; a target takes the next one as long as
 *             it has at most total / j ids then. So two neighbours have more than that together,
 *             there are less than j such pairs, and at most 2 j - 1 targets.
 * Names       Chunks of the journal call generations by name. A target has the lowest name that
 *             went into it; when ids are written anew (several shards, or the journal is on while
 *             loading) the targets have names of their own, above all that were ever used.
 * Owner       mr_dedup, from load_begin to load_end or close.
 * Errors      MR_NO_MEMORY.
 */
#include "dedup/blooming.h"
#include "dedup/saved.h"

enum { MR_LAYOUT_EXACT_MAX = 61 };

#define MR_LAYOUT_NO_FILTER UINT32_MAX

/* A generation of one of the blobs. */
struct mr_load_source {
    struct mr_generation gen; /* ids: as many as it had */
    uint64_t name;
    uint64_t given; /* ids so far */
    uint32_t target;
};

struct mr_load_blob {
    uint64_t end;   /* ordinals up to here were in use */
    uint32_t first; /* of its sources */
    uint32_t count;
};

struct mr_load_target {
    struct mr_generation gen; /* ids: those taken so far */
    uint64_t name;
    uint32_t filter; /* bloom: the one being filled */
};

/* A filter of bloom and what is in it. */
struct mr_load_filter {
    uint32_t target;
    uint32_t filter;
    uint64_t ids;
};

struct mr_loading {
    /* from the blobs */
    struct mr_load_blob *blobs;
    uint32_t blob_count;
    struct mr_load_source *sources; /* blob by blob, oldest first */
    uint32_t source_count;
    uint64_t end; /* the largest of the blobs' */
    uint32_t apart;
    bool same; /* one blob, and the options that matter here are its */
    int64_t recorded_ms;
    int64_t horizon_ms; /* as in mr_generations, from now on */
    int64_t next_horizon_ms;
    uint64_t next_at;
    uint64_t evicted_ids;
    uint64_t expired_ids;
    /* once laid out */
    bool laid_out;
    bool renamed;     /* targets have names of their own */
    bool regrouped;   /* targets are not the sources */
    uint64_t ordinal; /* of target 0 */
    struct mr_load_target targets[MR_GENERATIONS_LIVE_MAX];
    uint32_t target_count;
    uint32_t target_first; /* those before it are evicted */
    uint64_t ids;          /* of those from there on */
    uint64_t dropped;      /* ids evicted while loading */
    struct mr_load_filter filters[MR_BLOOMING_FILTERS_MAX];
    uint32_t filter_count;
};

/* Fills in what follows `once laid out`. bloom: the mode. */
enum mr_status mr_layout(struct mr_loading *loading, bool bloom, bool journalled) MR_MUST_CHECK;
/* NULL is fine. */
void mr_loading_free(struct mr_loading *loading);
