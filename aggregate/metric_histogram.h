/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Histogram: counts between given bounds b0 < b1 < …: below b0, in [b0, b1), …, from the last bound on.
 *
 * Shape       param_count + 1 counts of u64 in the block.
 * Cost        add: a binary search among the bounds. Ints are compared exactly.
 */
#include "aggregate/metric.h"

void mr_histogram_metric_add(const struct mr_metric *metric, const struct mr_column *column, const uint32_t *events,
                             uint8_t *const *states, uint32_t n);
/* counts: need not be aligned. */
struct mr_number mr_histogram_metric_finish(const struct mr_metric *metric, const uint8_t *counts,
                                            struct mr_arena *scratch);
