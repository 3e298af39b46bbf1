/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Results rig: what the tests of the results store share: three rules, random panes, a directory of
 * their own, and reads written down as bytes, so that two stores are compared with one memcmp.
 */
#include "sink/results.h"

enum { RIG_RULES = 3, RIG_METRICS_MAX = 3, RIG_WINDOWS = 6, RIG_KEYS = 12 };

/* ad_views (two keys, three metrics), panes (a name that is taken, as are its columns'), total (no key). */
extern const struct mr_results_rule rig_rules[RIG_RULES];

uint64_t rig_random(uint64_t *state);
uint64_t rig_below(uint64_t *state, uint64_t bound);

/* A pane with the memory it borrows. */
struct rig_pane {
    struct mr_pane pane;
    struct mr_number numbers[RIG_METRICS_MAX];
    struct mr_buf key;
    uint8_t state[24];
};

int64_t rig_window_ms(uint32_t rule, uint64_t window);
/* Key number k < RIG_KEYS of a rule with that many columns: all tags, NUL, empty and long texts. */
void rig_key(struct mr_buf *buf, uint32_t columns, uint64_t k);
/* Any rule, window, key; numbers of all kinds and at their ends; no retraction. */
void rig_pane_random(struct rig_pane *p, uint64_t *random, uint64_t revision);
/* Rule `rule`, window 0, key k, all numbers i = value. */
void rig_pane_simple(struct rig_pane *p, uint32_t rule, uint64_t k, uint64_t revision, int64_t value);
void rig_pane_finish(struct rig_pane *p);

/* A directory that nobody else has; removed, with the store in it, by rig_dir_finish. */
struct rig_dir {
    char dir[128];
    char path[160]; /* of the store */
};
void rig_dir_init(struct rig_dir *dir);
void rig_dir_finish(struct rig_dir *dir);

/* The store's file, closed; writing it removes what SQLite left beside the old one. */
void rig_file_read(const struct rig_dir *dir, struct mr_buf *ret);
void rig_file_write(const struct rig_dir *dir, struct mr_bytes bytes);

/* From now on no file may grow beyond so many bytes: the write that would fails (EFBIG, which SQLite takes for a broken
 * disk), or kills the process. 0: no bound. */
void rig_limit_files(uint64_t bytes, bool kills);
/* Runs it in a process of its own; false when that was killed by a file's bound. A `false` of it fails the test. */
bool rig_survives(bool (*run)(void *ctx), void *ctx);

/* The SQLite store in that directory, with the rig's rules and an outbox of 1000 panes; without syncs. */
struct mr_results_sqlite_options rig_options(const struct rig_dir *dir);
/* A failure fails the test. */
struct mr_results *rig_open(const struct mr_results_sqlite_options *options);

/* Rows packed by mr_pane_append, and how many; stop > 0 ends the visit after so many. */
struct rig_read {
    struct mr_buf rows;
    uint64_t count;
    uint64_t stop;
};
void rig_read_init(struct rig_read *read);
void rig_read_finish(struct rig_read *read);
/* Everything of a rule in window order. */
struct mr_results_query rig_query_all(uint32_t rule, struct rig_read *read);
/* Runs the query (its visit and ctx are set here) with a reader of its own; a failure fails the test. */
void rig_read(struct mr_results *results, struct mr_results_query query, struct rig_read *read);
/* Ids, too, are written down. */
void rig_read_outbox(struct mr_results *results, uint64_t after_id, struct rig_read *read);
/* The rows of all of the rig's rules, and the outbox. */
void rig_read_everything(struct mr_results *results, struct rig_read *read);
void rig_assert_same(const struct rig_read *a, const struct rig_read *b);
/* What sqlite3 -list says. */
void rig_assert_query(const struct rig_dir *dir, const char *sql, const char *want);
/* The i-th row of a read; borrows from it. */
struct mr_pane rig_row(const struct rig_read *read, uint64_t i);
uint64_t rig_count(struct mr_results *results, uint32_t rule);

/* begin, put, commit; a failure fails the test. */
void rig_store(struct mr_results *results, const struct mr_pane *panes, size_t count, uint64_t seq);
