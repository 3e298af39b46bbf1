/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Specimen: a small node that has run, saved itself three times and stopped, and all that is known of it: what it
 * answered and how it was after each batch, and what lies in its files. Tests start copies of it.
 *
 *     batches       0  1  2  3  4 | 5  6  7  8 | 9 10 11
 *     segments            1       |      2     |    3
 *     checkpoints         *            *  *
 *                      removed  before  newest
 *
 * Behind batch 6 the process begins anew, so that one checkpoint has parts of two runs. A trimmed specimen has the first
 * segment no more.
 *
 * Events      Each batch has EVENTS for a window of its own, an event of the batch before again, and one for a window
 *             that is closed; some have one for a window that is final and one without an id.
 * Owner       The caller; specimen_close.
 */
#include "tests/pipeline/node.h"

enum {
    SPECIMEN_BATCHES = 12,
    SPECIMEN_CLOSING = 30, /* a batch so late that every window before it is final */
    SPECIMEN_FILES_MAX = 32,
    SPECIMEN_RECORDS_MAX = 64,
};

/* Of a batch: new and in time; too late for its window; without an id. */
uint32_t specimen_accepted(uint32_t batch);
uint32_t specimen_too_late(uint32_t batch);
uint32_t specimen_rejected(uint32_t batch);

enum specimen_room { SPECIMEN_LOG, SPECIMEN_DEAD, SPECIMEN_CHECKPOINT, SPECIMEN_ROOMS };

extern const char *const specimen_rooms[SPECIMEN_ROOMS]; /* directories */

/* How the results store is found. */
enum specimen_store { SPECIMEN_WHOLE, SPECIMEN_BEHIND, SPECIMEN_GONE, SPECIMEN_STORES };

struct snapshot {
    struct node_answer answer; /* to the batch behind it */
    struct mr_stream_stats stats;
    uint64_t hash;
    struct mr_buf rows;
};

/* One record of a segment, and a bundle. */
struct specimen_record {
    uint64_t from; /* in the file */
    uint64_t to;
    bool events;
};

struct specimen_file {
    char path[64];
    const char *name; /* in it */
    enum specimen_room room;
    struct mr_bytes content;
    struct specimen_record records[SPECIMEN_RECORDS_MAX];
    uint32_t record_count;
    uint64_t first_lsn; /* of a segment */
    bool newest;        /* segment of its log */
    bool shared;        /* a part that both checkpoints need */
};

struct specimen {
    bool trimmed;
    struct node node; /* stopped; without disk and results: of copies */
    struct virtual_disk *disk;
    struct mr_results *stores[SPECIMEN_STORES];
    int64_t wall_ms;
    struct snapshot at[SPECIMEN_BATCHES + 1]; /* behind so many batches */
    uint64_t lsn;                             /* of the newest checkpoint */
    uint64_t dead_lsn;
    struct specimen_file files[SPECIMEN_FILES_MAX]; /* by path */
    uint32_t file_count;
    uint32_t batches_gone; /* with the segments that were trimmed */
};

/* Never NULL: the test fails. */
struct specimen *specimen_open(bool trimmed);
void specimen_close(struct specimen *specimen);
struct mr_results *specimen_results(const struct specimen *specimen, enum specimen_store store);

bool specimen_send(struct node *node, uint32_t batch);
bool specimen_flush(struct node *node);
bool specimen_save(struct node *node);
/* One line a row; the caller finishes it. */
struct mr_buf specimen_rows(const struct node *node, bool with_final);
