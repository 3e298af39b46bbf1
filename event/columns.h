/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Columns: the memory of a batch while it is filled, inside event/ only.
 *
 * Shape       One block for capacity events; growing makes a new block and copies. Values, kinds and verdicts are zeros
 *             at first; the rest is written when an event ends.
 * Errors      NULL or false when out of memory; nothing changes.
 */
#include "event/batch.h"

/* A batch without events. capacity >= 1. */
struct mr_batch *mr_batch_open(const struct mr_schema *schema, uint32_t capacity);
/* count events of the batch are filled; capacity is greater than before. */
bool mr_batch_grow(struct mr_batch *batch, uint32_t count, uint32_t capacity);
/* Forgets the values of event i, which stays as a rejected one. */
void mr_batch_clear_row(struct mr_batch *batch, uint32_t i);
/* Room for the errors list; false when out of memory. */
bool mr_batch_errors(struct mr_batch *batch);
/* Fills order and shard_start from verdicts and fingerprints. */
void mr_batch_partition(struct mr_batch *batch, uint32_t shards);
