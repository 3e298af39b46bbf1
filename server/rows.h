/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Rows: result rows as a client reads them: JSON, NDJSON, CSV.
 *
 * Idea        A row is its key and its mergeable state, whether it comes from an open window or from the
 *             results store; the numbers are made here, once, when somebody wants to see them.
 *
 *     {"window_start":"2026-11-22T05:54:00.000Z","window_end":"…","key":{"country":"DE","paid":true},
 *      "metrics":{"views":3,"spend":1.5},"events":3,"revision":17,"final":false}
 *
 *     window_start,window_end,country,paid,views,spend,events,revision,final
 *     2026-11-22T05:54:00.000Z,…,DE,true,3,1.5,3,17,false
 *
 *             Where each pane is a row of its own (panes: discarding) it has a number: "pane":0 behind final, a column
 *             pane behind final.
 * Values      Key: a string, a number as it was sent, a boolean, or null (CSV: nothing; the empty string is
 *             ""); "(other)" in every column for the overflow group. Metric: a number or null (CSV:
 *             nothing). Sums that left int64 are doubles, and their names are listed in the row:
 *             "overflow":["spend"] (not in CSV). A double that left its range is null, and listed too.
 *             Times before year 0 or after 9999 are null (CSV: nothing).
 * Owner       Appends to the caller's buffer or JSON writer; a failed append shows in buf->failed.
 * Errors      Rows must fit their rule (asserted): ask mr_rows_fits about those that come from a file.
 */
#include "aggregate/combine.h"
#include "aggregate/merged.h"
#include "base/json.h"
#include "base/key.h"
#include "pipeline/local.h"

/* What is shown of a rule's rows. */
enum mr_rows_shape {
    MR_ROWS_WINDOWS,   /* as above */
    MR_ROWS_STEPS,     /* several windows in one: "windows":n behind final */
    MR_ROWS_TOP,       /* key, metrics, events */
    MR_ROWS_TOP_STEPS, /* window_start, window_end, key, metrics, events */
    MR_ROWS_PANES,     /* as they fired: behind final "timing":"LATE","pane":2; JSON only. Of the overflow group the
                          shard, too, for each has panes of its own; of what is taken back "retraction":true */
};

struct mr_rows_view {
    const struct mr_rule *rule;
    uint64_t metrics; /* bit m: metric m; MR_ROWS_METRICS_ALL */
    enum mr_rows_shape shape;
    uint64_t windows; /* STEPS: of the row to be shown next */
    const struct mr_pane *pane; /* PANES: likewise */
    /* Windows that one of them touches say "approximate":true (not in CSV). */
    const struct mr_local *locals;
    uint32_t local_count;
};

#define MR_ROWS_METRICS_ALL UINT64_MAX

static_assert(MR_RULE_METRICS_MAX <= 64, "a view's metrics are bits of one word");

/* The row that the results store handed over; it borrows the same bytes. */
static inline struct mr_row mr_rows_of_stored(const struct mr_pane *stored) {
    return (struct mr_row){
        .window_start_ms = stored->window_start_ms,
        .window_end_ms = stored->window_end_ms,
        .events = stored->events,
        .revision = stored->revision,
        .final = stored->final,
        .key = stored->key,
        .state = stored->state,
    };
}

/* Whether the state is one of the rule, and the key has as many well-formed values as the rule has columns; behind them
 * the pane's index if each pane is a row of its own, and only then. Of any window. */
bool mr_rows_fits(const struct mr_rule *rule, const struct mr_row *row);

/* The parts of a row's key and numbers, where a value may stand: {"country":"DE"}, 17. mr_rows_json_metric returns
 * whether it has overflowed. */
void mr_rows_json_key(struct mr_json *json, const struct mr_rule *rule, struct mr_bytes key);
bool mr_rows_json_metric(struct mr_json *json, const struct mr_rule *rule, uint32_t metric, struct mr_bytes state,
                         struct mr_arena *scratch);
static inline bool mr_rows_shows(const struct mr_rows_view *view, uint32_t metric) {
    return (view->metrics >> metric & 1) != 0;
}
/* The pane's index at the end of a key; -1: it has none. */
int64_t mr_rows_pane(const struct mr_rule *rule, struct mr_bytes key);

/* One object, where a value may stand. */
void mr_rows_json(struct mr_json *json, const struct mr_rows_view *view, const struct mr_row *row);
/* One object and a newline. */
void mr_rows_ndjson(struct mr_buf *buf, const struct mr_rows_view *view, const struct mr_row *row);
/* RFC 4180: CRLF behind each line, quotes where a field needs them. */
void mr_rows_csv_header(struct mr_buf *buf, const struct mr_rows_view *view);
void mr_rows_csv(struct mr_buf *buf, const struct mr_rows_view *view, const struct mr_row *row);

/*
 * Fold: each shard has an overflow group of its own; a client knows of one. Rows are pushed in window order,
 * where the overflow groups of a window stand side by side, and come out with these merged into one: events
 * added up, the newest revision, final when all are, and the key of the last, so that a cursor made of it
 * goes on behind all of them. Where each pane is a row they stay apart: panes of two shards have nothing in common.
 */
struct mr_rows_fold {
    const struct mr_rule *rule;
    bool (*visit)(void *ctx, const struct mr_row *row); /* false: no more rows, please */
    void *ctx;
    bool has_other; /* `other` waits for more of its window */
    struct mr_row other;
    uint8_t key[2];
    struct mr_merged merged;
    bool failed; /* out of memory: what was given out is not all */
};

enum mr_status mr_rows_fold_init(struct mr_rows_fold *fold, const struct mr_rule *rule,
                                 bool (*visit)(void *ctx, const struct mr_row *row),
                                 void *ctx) MR_MUST_CHECK;
/* false: visit said so, or failed; nothing more is to come. Borrows the row for the call. */
bool mr_rows_fold_push(struct mr_rows_fold *fold, const struct mr_row *row);
/* The end: gives out what waits, unless visit has said false before. */
void mr_rows_fold_end(struct mr_rows_fold *fold);
void mr_rows_fold_finish(struct mr_rows_fold *fold); /* fine after a failed init, and again */
