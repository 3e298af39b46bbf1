/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Percentiles: a histogram as HdrHistogram's percentile text (.hgrm), which its plotter and others read. Values in ms.
 *
 * Shape       Five lines for each halving of what is left to 100 %: 0, 10, 20, 30, 40, 50, 55 … 75, 77.5 … until the
 *             greatest value.
 */
#include "base/bytes.h"
#include "base/histogram.h"

void mr_load_percentiles(const struct mr_histogram *h, struct mr_buf *ret);
