/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Truth: what the server must have, computed anew from (seed, n) of all slots that were sent; and what it has, as a table
 * of the same form, so that the two can be compared row by row.
 *
 * Shape       A hash table by (window, group); 40 bytes an entry, at most half full.
 * Errors      MR_NO_MEMORY: the table is unchanged.
 */
#include "bench/load/events.h"
#include "bench/load/plan.h"

#define MR_LOAD_WINDOW_MS INT64_C(10000)

struct mr_load_row {
    int64_t window_ms; /* its start */
    uint64_t group;
    uint64_t count; /* 0: no entry */
    int64_t second; /* sum in eighths, or the greatest */
    bool matched;
};

struct mr_load_table {
    struct mr_load_row *rows;
    uint64_t capacity; /* a power of two, or 0 */
    uint64_t used;
    enum mr_load_second kind;
};

struct mr_load_verdicts {
    uint64_t accepted;
    uint64_t duplicate;
    uint64_t late;
};

void mr_load_table_init(struct mr_load_table *table, enum mr_load_second kind);
void mr_load_table_finish(struct mr_load_table *table);
/* Merges into the row of (window, group): counts add up, and so do sums; the greatest stays. count > 0. */
enum mr_status mr_load_table_add(struct mr_load_table *table, int64_t window_ms, uint64_t group,
                                 uint64_t count, int64_t second) MR_MUST_CHECK;
/* NULL: none. Valid until the next add. */
struct mr_load_row *mr_load_table_find(const struct mr_load_table *table, int64_t window_ms,
                                       uint64_t group);

/* The start of the window that holds a time. */
int64_t mr_load_window_of(int64_t time_ms);
/* Slots [0, slots) of the plan, into a table that may hold something already. */
enum mr_status mr_load_truth(const struct mr_load_plan *plan, const struct mr_load_events *events,
                             uint64_t slots, struct mr_load_table *table,
                             struct mr_load_verdicts *ret) MR_MUST_CHECK;
