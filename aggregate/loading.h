/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Loading, inside: what load.c (slices are read) and load_build.c (windows are built) share. Nobody
 * else includes it.
 *
 * Idea        Slices come in any order, and a group that merge wrote down comes before those the
 *             walk found; but groups have to be added in order of first appearance, for that is the
 *             order they fire in, and it decides the bytes a rule is charged with. So each run's
 *             groups are copied into a piece, pieces are gathered by window, and a window is built
 *             when all slices are there: its groups are put in order and its pieces freed.
 *
 *                 slices ─▶ window 0: piece ▶ piece ▶ piece ─▶ in order ─▶ groups
 *                           window 10: piece …
 *
 * Bounds      One more copy of the groups; while a window is built 16 to 32 B for each of its groups.
 */
#include "aggregate/combine_state.h"
#include "base/limits.h"

/* Groups of one run that belong to this shard, as they were saved. */
struct mr_load_piece {
    struct mr_load_piece *next;
    size_t len;
    uint64_t shard; /* they were on */
    uint8_t groups[];
};

struct mr_load_window {
    int64_t start_ms;
    uint64_t closed_seq;
    size_t count; /* groups; one that was saved twice counts twice */
    struct mr_load_piece *first;
    struct mr_load_piece *last;
};

struct mr_combine_loading {
    uint64_t seq;
    uint32_t shards;
    uint32_t rule_map_len;
    uint32_t *rule_map;
    const int64_t *begins_ms; /* NULL: no window is left out for its beginning */
    struct mr_timeline *windows; /* of struct mr_load_window, by rule */
    struct {
        uint32_t seen; /* slices */
        uint32_t all;  /* 0: the last one has not been seen */
    } saved[MR_SHARDS_MAX];
};

static inline struct mr_load_window *mr_load_window_after(const struct mr_timeline *windows,
                                                          int64_t start_ms) {
    return start_ms == INT64_MAX ? NULL : mr_timeline_ceil(windows, start_ms + 1);
}

void mr_load_free_pieces(struct mr_load_window *window);
enum mr_status mr_loading_no_memory(struct mr_error *error);
