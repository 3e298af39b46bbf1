/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Columns: rows as series over one axis of time, the way uPlot eats them.
 *
 *     "t_unit":"s","t":[1700000040,1700000050],
 *     "series":[{"key":{"country":"DE"},"metric":"views","v":[3,null]},
 *               {"key":{"country":"FR"},"metric":"views","v":[1,2]}]
 *
 * Shape       t: the window starts there are, ascending whatever the order of rows, in seconds since the epoch (with
 *             up to three decimals). A series for each key and metric shown, by key, then in the rule's order; v has
 *             one value for each of t, null where the series has no row. Where each pane is a row of its own, each is
 *             a series of its own, with "pane":n behind key.
 * Owner       init/finish; rows are copied.
 * Errors      A failed buffer, here or json's: mr_columns_failed, and json->buf->failed.
 * Cost        times x series values: writing stops once the answer is over `bytes_max`.
 */
#include "server/rows.h"

struct mr_columns {
    struct mr_buf rows; /* packed */
    uint32_t count;
};

void mr_columns_init(struct mr_columns *ret);
void mr_columns_finish(struct mr_columns *columns); /* and again */
/* No (window_start, key) twice. */
void mr_columns_add(struct mr_columns *columns, const struct mr_row *row);
/* The three members, within an object. false: out of memory, or over bytes_max: what was written is of no use. */
bool mr_columns_write(struct mr_columns *columns, const struct mr_rows_view *view, size_t bytes_max,
                      struct mr_json *json);
