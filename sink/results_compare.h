/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Compare: two results stores, row by row: what a replay under other rules would change.
 *
 * Idea        Both tables are read in the order of their primary key (window start, key) and merged, so that memory
 *             does not grow with them. Values are compared as JSON text, which is how they are shown: numbers that
 *             differ behind the fifteenth digit are equal, for the order of additions differs with the number of
 *             shards.
 *
 *                 before   a  b  d         a: both have it: equal or changed
 *                 after    a  c  d         b: missing     c: added     (open: one of both is not final)
 *
 * Owner       The opener. Two connections, which only read: the stores may be in use.
 * Threads     One.
 * Errors      MR_NOT_FOUND, MR_IO, MR_CORRUPT, MR_MISMATCH (not a results store), with a text.
 */
#include "base/bytes.h"

enum mr_difference_kind { MR_DIFFERENCE_CHANGED, MR_DIFFERENCE_MISSING, MR_DIFFERENCE_ADDED };

struct mr_difference {
    enum mr_difference_kind kind;
    int64_t window_start_ms;
    int64_t window_end_ms[2]; /* before and after; of the store that has the row */
    uint32_t column_count;
    const struct mr_bytes *columns;   /* keys, then metrics, then events */
    const struct mr_bytes *values[2]; /* JSON, before and after; len 0: the store has not this row, or no such column */
};

struct mr_compare_range {
    int64_t start_from_ms; /* windows that start from here on… */
    int64_t end_to_ms;     /* …and end up to here */
    bool all;              /* also rows that are not final */
};

struct mr_compare_counts {
    bool has[2]; /* the store has a table of the rule */
    uint64_t equal;
    uint64_t changed;
    uint64_t missing;
    uint64_t added;
    uint64_t open;
};

struct mr_comparison;

enum mr_status mr_results_compare_open(const char *before, const char *after, struct mr_comparison **ret,
                                       struct mr_error *error) MR_MUST_CHECK;
void mr_results_compare_close(struct mr_comparison *comparison); /* NULL is fine */
/* visit is called for each difference, in order, and borrows until it returns. Columns that only one of the tables has
 * are shown, and are no difference. */
enum mr_status mr_results_compare_rule(struct mr_comparison *comparison, struct mr_bytes rule,
                                       const struct mr_compare_range *range,
                                       void (*visit)(void *ctx, const struct mr_difference *), void *ctx,
                                       struct mr_compare_counts *ret, struct mr_error *error) MR_MUST_CHECK;
