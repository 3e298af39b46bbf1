/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Node: a data directory on a virtual disk and a pipeline on it, driven by hand on one thread: no threads, no sleeping,
 * a clock that only moves when the stations do.
 *
 * Owner       The caller's struct. disk and results are the node's until node_close; a test may put others in their
 *             place while the node is stopped.
 * Errors      What the node answers is the test's to judge; what cannot be (a bad configuration) fails the test.
 */
#include "pipeline/data.h"
#include "tests/disk/virtual_disk.h"
#include "tests/sink/memory_results.h"

enum { NODE_STEPS_MAX = 4000 }; /* of all stations, until an answer must have come */

struct node_clock {
    struct mr_clock base;
    int64_t wall_ms;
    uint64_t mono_ns;
};

/* Of the last batch sent. */
struct node_answer {
    bool given;
    bool taken;
    enum mr_refusal refusal;
    uint32_t accepted;
    uint32_t duplicate;
    uint32_t late;
    uint32_t rejected;
};

struct node {
    struct node_clock clock;
    struct virtual_disk *disk;
    struct mr_config *config;
    struct mr_plan *plan; /* lends its names to the results store, over restarts */
    struct mr_results_rule *rules;
    struct mr_results *results;
    struct mr_decoder *decoder;
    struct mr_data data;
    struct mr_pipeline *pipeline; /* NULL: stopped */
    bool flusher_stands;          /* work piles up before it */
    struct node_answer answer;
};

/* An empty disk, an empty store. */
void node_open(struct node *node, const char *yaml, int64_t wall_ms);
void node_close(struct node *node);
struct mr_results *node_open_results(const struct node *node);

enum mr_status node_start(struct node *node, struct mr_error *error);
void node_stop(struct node *node); /* fine when stopped */
bool node_failed(const struct node *node);
/* One step of each station but a flusher that stands; the clock goes on by 7 ms. */
void node_step(struct node *node);
bool node_become_live(struct node *node);
/* Starts, and is live; else the test fails. */
void node_must_start(struct node *node);
/* What was not synced is gone, of the store's, too. It is stopped then. */
void node_lose_power(struct node *node);
/* Makes a checkpoint. */
void node_save(struct node *node);

/* Takes the batch over; done and ctx are the node's. Whether the node took it (then see answer). */
bool node_submit(struct node *node, struct mr_batch *batch);
/* NDJSON for stream 0; takes body over, which may have failed. Whether the node took it (then see answer). */
bool node_send(struct node *node, struct mr_buf *body);
/* False: no answer, because the node has failed or cannot write. Then the node is stopped, so that ask may go. */
bool node_ask(struct node *node, struct mr_ask *ask);
